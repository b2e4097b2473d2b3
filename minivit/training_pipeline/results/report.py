"""The report of a run: one HTML page without scripts that needs no network and no other file.

`report.html` holds the layout and the style; the functions below fill in the sections.
"""

import html
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from string import Template
from typing import Any

import numpy as np
from PIL import Image

from ...common.files import write_atomic
from ...common.html import image_element, png_url
from ...common.text import percent, plural
from ...data.dataset import Dataset
from ...models.model import Model
from ...training.evaluation import Evaluation, smoothing_floor
from ...training.settings import SETTINGS as TRAINING_SETTINGS
from ..data_notes import data_notes
from ..folder import RunFolder
from ..leakage import leakage_warning
from .embedding import Embedding, embed, embedding_section
from .trained_model import unfinished

SAMPLES = 8             # sample images of each class
SAMPLE_CLASSES = 20     # number of classes with sample images, at most
KINDS = {"train": "training", "val": "validation", "test": "test"}
TABLE_CLASSES = 20      # number of classes, at most, for which the confusion matrix is a table


def write_report(run: RunFolder, model: Model, data: Dataset, evaluation: Evaluation,
                 file: str | Path | None = None, notes: Sequence[str] | None = None) -> None:
    """Write the report on an evaluation to a file (default: report.html of the run).

    notes: on the data (default: those of `data_notes`).

    Errors as `RunFolder.config`; OSError.
    """
    config = run.config() | {"training": run.settings}
    if "steps" not in config["training"]:
        raise run.damaged("it lacks steps")
    records = run.read_log(config["training"]["steps"])
    names = run.class_names(model)
    page = make_report(config, model, records, data, names, evaluation, unfinished(run),
                       leakage_warning(run, evaluation), data_notes(data) if notes is None else notes,
                       embed(model, data, evaluation, names))
    write_atomic(file or run.report_file, page)


def make_report(config: Mapping[str, Any], model: Any, records: Sequence[Mapping[str, Any]], data: Dataset,
                class_names: Sequence[str], evaluation: Evaluation, unfinished_note: str | None = None,
                leakage_note: str | None = None, data_notes: Sequence[str] = (),
                embedding: Embedding | None = None) -> str:
    """Return the report as HTML.

    Parameters
    ----------
    config : mapping
        What `config.json` of the run holds.
    model : Model
        The trained model.
    records : list of dict
        The log of the run, one record for each epoch.
    data : Dataset
        Its test part was evaluated.
    class_names : list of str
        The classes of the model.
    evaluation : Evaluation
        The result on the test part.
    unfinished_note, leakage_note : str, optional
        Warnings to show: the run has not finished; the model was trained on images that were evaluated.
    data_notes : list of str
        What a reader should know of the data.
    embedding : Embedding, optional
        A picture of the features, and neighbours of mistakes.

    Returns
    -------
    str
    """
    same = data.digest == config["data"]["digest"]
    kind, where = ("held-out test image", "") if same and not leakage_note else ("image", f" of {data.name}")
    scored = f"{evaluation.images:,} {plural(evaluation.images, kind)}{where}"
    if same:
        config = {**config, "training": _with_epochs(config["training"], records, data)}
    uncertainty = "The standard error" if evaluation.standard_error else "The bound"
    parameters = sum(p.size for p in model.parameters())
    tokens = f"{model.tokens} tokens, " if model.tokens else ""
    sections = [
        ("Learning curves", _curves(records, config["training"], model)),
        ("Worst mistakes", _mistakes(evaluation, class_names)),
        ("Confusion matrix", _confusion(evaluation, class_names)),
        ("Precision and recall", _classes(evaluation, class_names)),
        ("Features", embedding_section(embedding, class_names) if embedding else ""),
        (f"The images of {data.name}", _data(data, data_notes)),
        ("Reproduce this run", _reproduction(config, model)),
        ("Settings", _settings(config)),
    ]
    text = Template((Path(__file__).parent / "report.html").read_text(encoding="utf-8"))
    return text.substitute(
        title=_escape(f"{config['model']['family']} trained on {config['data']['name']}"),
        subtitle=_escape(f"{parameters:,} parameters, {tokens}{model.flops / 1e6:,.1f} MFLOPs per image. "
                         f"{data.classes} classes, images of {' x '.join(map(str, data.test_images.shape[1:3]))} "
                         f"pixels with {data.test_images.shape[3]} {plural(data.test_images.shape[3], 'channel')}."),
        balanced=f"Balanced accuracy, the mean of the recall of all classes: {evaluation.balanced_accuracy:.2%}.",
        accuracy=f"{evaluation.accuracy:.2%}", uncertainty=evaluation.uncertainty.replace("+-", "±"),
        explanation=_escape(f"Accuracy on {scored}, with {_kept_weights(config['training'])}. {uncertainty} covers the "
                            "choice of the images only. Runs with other seeds differ too."),
        warnings="\n".join(f'<p class="warning">{_escape(words)}</p>'
                           for words in (unfinished_note, leakage_note) if words),
        sections="\n".join(f"<section>\n<h2>{_escape(title)}</h2>\n{body}\n</section>"
                           for title, body in sections if body))


def _kept_weights(training):
    """Return in words which weights the run keeps."""
    if training["patience"]:
        return "the weights of the epoch with the best validation accuracy"
    if training["ema"]:
        return "the moving average (EMA) of the weights after the last step"
    return "the weights after the last step"


def _escape(text):
    """Escape text for HTML, attributes included."""
    return html.escape(str(text), quote=True)


# ---- curves -----------------------------------------------------------------------------------------------


def _curves(records, training, model):
    """Return the charts of loss and accuracy over the epochs."""
    if not records:
        return ""
    epochs = [r["epoch"] for r in records]
    floor = smoothing_floor(training["label_smoothing"], model.classes)
    loss = _chart("Training loss", epochs, [("blue", [r["loss"] for r in records])], "{:g}", least=0)
    lines = {"accuracy": ("blue", "training batches"), "test_accuracy": ("orange", "test images"),
             "val_accuracy": ("green", "validation images")}
    lines = {name: line for name, line in lines.items() if name in records[-1]}
    accuracy = _chart("Accuracy", epochs, [(colour, [r[name] for r in records]) for name, (colour, _) in lines.items()],
                      "{:.4g}%", factor=100, most=100)
    keys = "".join(f'<span class="key" style="color: rgb(var(--{colour}))"></span>{words}'
                   for colour, words in lines.values())
    last = records[-1]
    speed = last["step"] * training["batch_size"] / max(last["seconds"], 1e-9)
    lowest = f" With label smoothing, it cannot fall below {floor:.2f}." if floor > 0 else ""
    return f"""<div class="charts">
<figure>{loss}<figcaption>Training loss after each epoch.{lowest}</figcaption></figure>
<figure>{accuracy}<figcaption>Accuracy after each epoch:{keys}</figcaption></figure>
</div>
<p class="note">Training accuracy is measured on the batches during the epoch, with augmentation and dropout where they
are used. So it can be lower than the test accuracy.</p>
<p class="note">{last["step"]:,} steps of {training["batch_size"]} images took {last["seconds"]:,.1f} s, without
evaluation: {speed:,.0f} images per second.</p>"""


def _chart(title, xs, lines, form, factor=1, least=math.inf, most=-math.inf):
    """Return a line chart as SVG.

    lines: (CSS class, values at xs) each; values are multiplied by `factor`. The y axis covers all values, `least` and
    `most`. form: format of its labels.
    """
    width, height, left, right, top, bottom = 420, 240, 48, 12, 12, 34
    values = [factor * value for _, line in lines for value in line]
    ticks = _ticks(min(least, *values), max(most, *values))
    marks = [tick for tick in _ticks(xs[0], xs[-1]) if xs[0] <= tick <= xs[-1] and tick == round(tick)]

    def place(x, y):
        across = (x - xs[0]) / (xs[-1] - xs[0]) if xs[-1] > xs[0] else 0.5
        up = (y - ticks[0]) / (ticks[-1] - ticks[0])
        return left + across * (width - left - right), height - bottom - up * (height - top - bottom)

    parts = [f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{_escape(title)}">']
    for tick in ticks:
        y = place(xs[0], tick)[1]
        parts.append(f'<line class="grid" x1="{left}" x2="{width - right}" y1="{y:.1f}" y2="{y:.1f}"/>'
                     f'<text x="{left - 6}" y="{y + 4:.1f}" text-anchor="end">{form.format(tick)}</text>')
    for mark in marks:
        x = place(mark, ticks[0])[0]
        parts.append(f'<text x="{x:.1f}" y="{height - bottom + 16}" text-anchor="middle">{mark:g}</text>')
    parts.append(f'<text x="{(left + width - right) / 2}" y="{height - 4}" text-anchor="middle">epoch</text>')
    for kind, line in lines:
        points = [place(x, factor * y) for x, y in zip(xs, line, strict=True)]
        parts.append(f'<polyline class="{kind}" points="{" ".join(f"{x:.1f},{y:.1f}" for x, y in points)}"/>')
        parts.append(f'<circle class="{kind}" cx="{points[-1][0]:.1f}" cy="{points[-1][1]:.1f}" r="3"/>')
    return "".join(parts) + "</svg>"


def _ticks(low, high):
    """Return about five round numbers; the first is at most `low`, the last at least `high`."""
    raw = max(high - low, 1e-9 * max(abs(high), 1)) / 5
    power = 10 ** math.floor(math.log10(raw))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= raw * (1 - 1e-9))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(step * i, 12) for i in range(first, max(last, first + 1) + 1)]


# ---- images -----------------------------------------------------------------------------------------------


def _mistakes(evaluation, class_names):
    """Return the images of the worst mistakes."""
    if not evaluation.mistakes:
        return "<p>All images were classified correctly.</p>"
    figures = []
    for mistake in evaluation.mistakes:
        true, predicted = f"true {class_names[mistake.true]}", f"predicted {class_names[mistake.predicted]}"
        probability = f"({mistake.probability:.0%})"
        caption = "<br>".join(map(_escape, (true, f"{predicted} {probability}", mistake.name)))
        image = image_element(mistake.image, f"{true}, {predicted} {probability}")
        figures.append(f"<figure>{image}<figcaption>{caption}</figcaption></figure>")
    wrong = evaluation.images - int(np.trace(evaluation.confusion))
    return (f'<p class="note">{len(figures)} of {wrong:,} {plural(wrong, "mistake")}. The first are those where the '
            'model gave the true class the lowest probability.</p>\n'
            f'<div class="images">\n{chr(10).join(figures)}\n</div>')


def _data(data, notes):
    """Return how the images were prepared, notes on them, the number of images of each class, and samples."""
    told = [words[0].upper() + words[1:] for words in (*data.preparation, *notes)]
    items = "\n".join(f"<li>{_escape(words)}.</li>" for words in told)
    return (f"<ul>\n{items}\n</ul>\n" if told else "") + _samples(data)


def _samples(data):
    """Return the first training images of each class, or test images if there are none for training."""
    counts = {part: np.bincount(labels, minlength=data.classes) for part, (_, labels) in data.parts.items()}
    images, labels = data.parts["train" if len(data.train_images) else "test"]
    rows = []
    for label, name in enumerate(data.class_names[:SAMPLE_CLASSES]):
        samples = "".join(image_element(images[i], name) for i in np.flatnonzero(labels == label)[:SAMPLES])
        number = " + ".join(f"{counts[part][label]:,}" for part in KINDS if part in counts)
        rows.append(f'<tr><th scope="row">{_escape(name)}</th><td>{number}</td><td>{samples}</td></tr>')
    rest = data.classes - SAMPLE_CLASSES
    more = f'\n<p class="note">Number of classes not shown: {rest}.</p>' if rest > 0 else ""
    total = ", ".join(f"{len(data.parts[part][0]):,} {KINDS[part]}" for part in KINDS if part in counts
                      if len(data.parts[part][0]))
    kinds = " + ".join(KINDS[part] for part in KINDS if part in counts)
    return (f'<p class="note">Number of images: {total}. The table has the number of each class, {kinds}, and the '
            'first images.</p>\n'
            f'<div class="scroll"><table class="samples">\n{chr(10).join(rows)}\n</table></div>{more}')


# ---- tables -----------------------------------------------------------------------------------------------


def _confusion(evaluation, class_names):
    """Return the confusion matrix, as a table or for many classes as an image, and the most frequent confusions."""
    shares = evaluation.confusion / np.maximum(evaluation.support, 1)[:, None]
    if len(class_names) <= TABLE_CLASSES:
        head = "".join(f'<th scope="col">{_escape(name)}</th>' for name in class_names)
        rows = [f"<tr><th></th>{head}</tr>"]
        for t, name in enumerate(class_names):
            cells = "".join(_cell(evaluation.confusion[t, p], shares[t, p], t == p) for p in range(len(class_names)))
            rows.append(f'<tr><th scope="row">{_escape(name)}</th>{cells}</tr>')
        kind = "matrix upright" if max(map(len, class_names)) > 3 else "matrix"    # long names are rotated
        matrix = f'<div class="scroll"><table class="{kind}">\n{chr(10).join(rows)}\n</table></div>'
    else:
        ink = np.rint(255 * (1 - np.sqrt(shares))).astype(np.uint8)   # the root makes rare confusions visible
        matrix = f'<img class="heat" alt="confusion matrix" src="{png_url(Image.fromarray(ink))}">'
    frequent = [f"true {class_names[t]}, predicted {class_names[p]} ({count} times)"
                for count, t, p in evaluation.most_confused(5) if count > 1]
    often = f'\n<p class="note">Most frequent: {_escape("; ".join(frequent))}.</p>' if frequent else ""
    return f'<p class="note">True classes in rows, predicted classes in columns.</p>\n{matrix}{often}'


def _cell(count, share, right):
    """Return a cell of the confusion matrix, coloured by its share of the true class."""
    if not count:
        return "<td></td>"
    colour, strength = ("blue", 0.6 * share) if right else ("red", 0.15 + 0.6 * math.sqrt(share))
    return f'<td style="background: rgb(var(--{colour}) / {min(strength, 0.75):.2f})">{count}</td>'


def _classes(evaluation, class_names):
    """Return the table of precision and recall."""
    head = "".join(f'<th scope="col">{name}</th>' for name in ("class", "images", "precision", "recall"))
    rows = [f"<tr>{head}</tr>"]
    columns = (evaluation.support, evaluation.precision, evaluation.recall)
    for name, count, *fractions in zip(class_names, *columns, strict=True):
        cells = "".join(f"<td>{percent(fraction)}</td>" for fraction in fractions)
        rows.append(f'<tr><th scope="row">{_escape(name)}</th><td>{count:,}</td>{cells}</tr>')
    return ('<p class="note">Precision: the fraction of the predictions of a class that are correct. Recall: the '
            'fraction of the images of a class that are classified correctly.</p>\n'
            f'<div class="scroll"><table class="classes">\n{chr(10).join(rows)}\n</table></div>')


def _with_epochs(training, records, data):
    """Return the training settings with their number of epochs, which a run with `minutes` does not state."""
    if training["epochs"] is not None or not len(data.train_labels):
        return training
    # The log gives the number of steps of an epoch, even if some training images were set aside for validation.
    per_epoch = records[0]["step"] if len(records) > 1 else len(data.train_labels) // training["batch_size"]
    return training | {"epochs": training["steps"] / per_epoch}


def _settings(config):
    """Return the tables of all settings and versions."""
    parts = {"training": config["training"], "model": config["model"]["options"],
             "data": config["data"]["source"] or {}, "versions": config.get("versions", {})}
    tables = []
    for part, values in parts.items():
        rows = [f'<tr><th scope="row">{_escape(name)}</th><td>{_escape(_value(value))}</td></tr>'
                for name, value in values.items()]
        tables.append(f'<table class="list"><caption>{part}</caption>\n{chr(10).join(rows)}\n</table>' if rows else "")
    return f'<div class="settings">\n{chr(10).join(tables)}\n</div>'


def _value(value):
    """Return a setting as text."""
    if isinstance(value, float):
        return f"{value:.10g}"
    return value if isinstance(value, str) else "-" if value is None else json.dumps(value)


def _reproduction(config, model):
    """Return the command that repeats the run, or the Python calls if it was started from Python."""
    training = config["training"]
    if config.get("command"):
        note = ("With the same versions on the same machine, this command gives the same weights, bit for bit, with "
                "any number of threads.")
        if "--minutes" in config["command"] and training["epochs"]:
            note += (f" --minutes first measures how fast the machine is. For exactly these {training['steps']} steps, "
                     f"pass --epochs {training['epochs']:.10g} instead.")
        return f'<pre>{_escape(config["command"])}</pre>\n<p class="note">{_escape(note)}</p>'
    source = config["data"]["source"]
    settings = {name: value for name, value in training.items() if name in TRAINING_SETTINGS}
    load = f"minivit.load_data(**{source})" if source else "...  # the arrays that the run was given"
    dtype = "" if model.dtype == np.float32 else f", dtype={model.dtype.name!r}"
    make = f"minivit.create_model({config['model']['family']!r}, seed=0{dtype}, **{config['model']['options']})"
    lines = ["import minivit", f"data = {load}", f"model = {make}", f"minivit.train(model, data, **{settings})"]
    note = ("A run does not store the initial weights of its model. If yours were not those of seed 0, pass your seed "
            "to create_model, or give the model your weights; then these calls give the same weights as the run.")
    return f'<pre>{_escape(chr(10).join(lines))}</pre>\n<p class="note">{_escape(note)}</p>'
