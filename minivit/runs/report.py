"""A run as one page of HTML, which needs nothing else: no network, no scripts, no other file. Its frame and style are report.html."""

import base64
import html
import io
import json
import math
from pathlib import Path
from string import Template

import numpy as np
from PIL import Image

from ..common.text import percent, plural
from ..ops.cross_entropy import smoothing_floor

SETTINGS = ("epochs", "steps", "batch_size", "label_smoothing", "ema", "patience")   # of training, without which there is no page
SAMPLES = 8             # pictures shown of a class, and of how many classes
SAMPLE_CLASSES = 20
LARGEST = 128           # side in pixels, so that the page stays small
TABLE_CLASSES = 20      # up to so many the confusion matrix is a table to read


def make_report(config, model, records, data, class_names, evaluation, unfinished=None, leakage_warning=None):
    """The page as text.

    config: of the run, as `describe` gives it; records: of its log. data: the Dataset whose test part was scored with `evaluation`;
    class_names: of the model. unfinished, leakage_warning: what to say if the run has not ended, or has learned from what was scored.
    """
    same = data.digest == config["data"]["digest"]
    kind, where = ("held-out test image", "") if same and not leakage_warning else ("image", f" of {data.name}")
    scored = f"{evaluation.images:,} {plural(evaluation.images, kind)}{where}"
    if same:
        config = config | {"training": _with_epochs(config["training"], records, data)}
    bound = "The standard error" if evaluation.standard_error else "The bound"
    parameters = sum(p.size for p in model.parameters())
    tokens = f"{model.tokens} tokens, " if model.tokens else ""
    sections = [
        ("How it learned", _curves(records, config["training"], model)),
        ("The worst mistakes", _mistakes(evaluation, class_names)),
        ("Which class is taken for which", _confusion(evaluation, class_names)),
        ("Class by class", _classes(evaluation, class_names)),
        (f"Samples of {data.name}", _samples(data)),
        ("To repeat it", _repetition(config)),
        ("Settings", _settings(config)),
    ]
    text = Template((Path(__file__).parent / "report.html").read_text(encoding="utf-8"))
    return text.substitute(
        title=_escape(f"{config['data']['name']}: {config['model']['family']}"),
        subtitle=_escape(f"{parameters:,} parameters, {tokens}{model.flops / 1e6:,.1f} MFLOPs an image; "
                         f"{data.classes} classes of images {'x'.join(map(str, data.test_images.shape[1:]))}"),
        accuracy=f"{evaluation.accuracy:.2%}", uncertainty=evaluation.uncertainty.replace("+-", "±"),
        explanation=_escape(f"of {scored} are classified correctly, by {_kept(config['training'])}. {bound} comes from the number of "
                            "images alone; another seed differs, too."),
        warnings="\n".join(f'<p class="warning">{_escape(words)}</p>' for words in (unfinished, leakage_warning) if words),
        sections="\n".join(f"<section>\n<h2>{_escape(title)}</h2>\n{body}\n</section>" for title, body in sections if body))


def _kept(training):
    """Which weights a run keeps."""
    if training["patience"]:
        return "the weights of the epoch that was best in validation"
    return "the running mean of the weights at the last step" if training["ema"] else "the weights of the last step"


def _escape(text):
    return html.escape(str(text), quote=True)


# ---- curves -----------------------------------------------------------------------------------------------


def _curves(records, training, model):
    """Loss and accuracy over the epochs, as SVG."""
    if not records:
        return ""
    epochs = [r["epoch"] for r in records]
    floor = smoothing_floor(training["label_smoothing"], model.classes)
    loss = _chart("Training loss", epochs, [("right", [r["loss"] for r in records])], "{:g}", least=0)
    lines = {"accuracy": ("right", "training batches, varied"), "test_accuracy": ("second", "test images"),
             "val_accuracy": ("third", "validation images")}
    lines = {name: line for name, line in lines.items() if name in records[-1]}
    accuracy = _chart("Accuracy", epochs, [(kind, [r[name] for r in records]) for name, (kind, _) in lines.items()], "{:.4g}%",
                      factor=100, most=100)
    keys = ",".join(f'<span class="key" style="color: rgb(var(--{kind}))"></span>{words}' for kind, words in lines.values())
    last = records[-1]
    speed = last["step"] * training["batch_size"] / max(last["seconds"], 1e-9)
    lowest = f" (with label smoothing, {floor:.2f} is the lowest there can be)" if floor > 0 else ""
    return f"""<div class="charts">
<figure>{loss}<figcaption>Training loss over the epochs{lowest}.</figcaption></figure>
<figure>{accuracy}<figcaption>Accuracy over the epochs:{keys}.</figcaption></figure>
</div>
<p class="faint">{last["step"]:,} steps of {training["batch_size"]} images in {last["seconds"]:,.1f} s of training ({speed:,.0f}
images/s).</p>"""


def _chart(title, xs, lines, form, factor=1, least=math.inf, most=-math.inf):
    """A line chart. lines: (CSS class, values at xs), times `factor`; their axis holds least and most, too, and is labelled by `form`."""
    width, height, left, right, top, bottom = 420, 240, 48, 12, 12, 34
    values = [factor * value for _, line in lines for value in line]
    ticks = _ticks(min(least, *values), max(most, *values))
    marks = [tick for tick in _ticks(xs[0], xs[-1]) if xs[0] <= tick <= xs[-1] and tick == round(tick)]

    def place(x, y):
        across = (x - xs[0]) / (xs[-1] - xs[0]) if len(xs) > 1 else 0.5
        return left + across * (width - left - right), height - bottom - (y - ticks[0]) / (ticks[-1] - ticks[0]) * (height - top - bottom)

    parts = [f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{_escape(title)}">']
    for tick in ticks:
        y = place(xs[0], tick)[1]
        parts.append(f'<line class="grid" x1="{left}" x2="{width - right}" y1="{y:.1f}" y2="{y:.1f}"/>'
                     f'<text x="{left - 6}" y="{y + 4:.1f}" text-anchor="end">{form.format(tick)}</text>')
    for mark in marks:
        parts.append(f'<text x="{place(mark, ticks[0])[0]:.1f}" y="{height - bottom + 16}" text-anchor="middle">{mark:g}</text>')
    parts.append(f'<text x="{(left + width - right) / 2}" y="{height - 4}" text-anchor="middle">epoch</text>')
    for kind, line in lines:
        points = [place(x, factor * y) for x, y in zip(xs, line, strict=True)]
        parts.append(f'<polyline class="{kind}" points="{" ".join(f"{x:.1f},{y:.1f}" for x, y in points)}"/>')
        parts.append(f'<circle class="{kind}" cx="{points[-1][0]:.1f}" cy="{points[-1][1]:.1f}" r="3"/>')
    return "".join(parts) + "</svg>"


def _ticks(low, high):
    """Round numbers, some five, of which the first is at most `low` and the last at least `high`."""
    raw = max(high - low, 1e-9 * max(abs(high), 1)) / 5
    power = 10 ** math.floor(math.log10(raw))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= raw * (1 - 1e-9))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(step * i, 12) for i in range(first, max(last, first + 1) + 1)]


# ---- pictures ---------------------------------------------------------------------------------------------


def _picture(image, words):
    """A picture (H, W, C), in the page itself. Where there is no picture of so many channels, the first is shown."""
    picture = Image.fromarray(np.ascontiguousarray(image if image.shape[-1] in (3, 4) else image[..., 0]))
    picture.thumbnail((LARGEST, LARGEST))
    return f'<img class="picture" alt="{_escape(words)}" src="{_png(picture)}">'


def _png(picture):
    file = io.BytesIO()
    picture.save(file, format="PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode('ascii')}"


def _mistakes(evaluation, class_names):
    if not evaluation.mistakes:
        return "<p>There are none.</p>"
    figures = []
    for mistake in evaluation.mistakes:
        words = f"{class_names[mistake.true]}, taken for {class_names[mistake.predicted]} ({mistake.probability:.0%})"
        caption = f"{_escape(words)}<br>{_escape(mistake.name)}"
        figures.append(f"<figure>{_picture(mistake.image, words)}<figcaption>{caption}</figcaption></figure>")
    wrong = evaluation.images - int(np.trace(evaluation.confusion))
    return (f'<p class="note">{len(figures)} of {wrong:,} mistakes, first those where the model found the true class least probable.</p>\n'
            f'<div class="pictures">\n{chr(10).join(figures)}\n</div>')


def _samples(data):
    """The first pictures of each class: to train, or of data that were only scored, to test."""
    images, labels = data.parts["train" if len(data.train_images) else "test"]
    rows = []
    for label, name in enumerate(data.class_names[:SAMPLE_CLASSES]):
        pictures = "".join(_picture(images[i], name) for i in np.flatnonzero(labels == label)[:SAMPLES])
        rows.append(f'<tr><th scope="row">{_escape(name)}</th><td>{pictures}</td></tr>')
    rest = f'\n<p class="note">And {data.classes - SAMPLE_CLASSES} classes more.</p>' if data.classes > SAMPLE_CLASSES else ""
    purposes = {"train": "to train", "val": "to choose by", "test": "to test"}
    counts = ", ".join(f"{len(images):,} {purposes[part]}" for part, (images, _) in data.parts.items() if len(images))
    return f'<p class="note">Images: {counts}.</p>\n<div class="scroll"><table class="samples">\n{chr(10).join(rows)}\n</table></div>{rest}'


# ---- tables -----------------------------------------------------------------------------------------------


def _confusion(evaluation, class_names):
    """The matrix as a table, or of many classes as a picture; and which confusions are the most frequent."""
    shares = evaluation.confusion / np.maximum(evaluation.support, 1)[:, None]
    if len(class_names) <= TABLE_CLASSES:
        head = "".join(f'<th scope="col">{_escape(name)}</th>' for name in class_names)
        rows = [f"<tr><th></th>{head}</tr>"]
        for t, name in enumerate(class_names):
            cells = "".join(_cell(evaluation.confusion[t, p], shares[t, p], t == p) for p in range(len(class_names)))
            rows.append(f'<tr><th scope="row">{_escape(name)}</th>{cells}</tr>')
        kind = "matrix upright" if max(map(len, class_names)) > 3 else "matrix"   # long names stand upright above their columns
        matrix = f'<div class="scroll"><table class="{kind}">\n{chr(10).join(rows)}\n</table></div>'
    else:
        ink = np.rint(255 * (1 - np.sqrt(shares))).astype(np.uint8)   # the root shows rare confusions, too
        matrix = f'<img class="heat" alt="confusion matrix" src="{_png(Image.fromarray(ink))}">'
    frequent = [f"{class_names[t]} taken for {class_names[p]} {count} times" for count, t, p in evaluation.most_confused(5) if count > 1]
    often = f'\n<p class="note">Most often: {_escape("; ".join(frequent))}.</p>' if frequent else ""
    return f'<p class="note">True classes in rows, predicted classes in columns.</p>\n{matrix}{often}'


def _cell(count, share, right):
    if not count:
        return "<td></td>"
    colour, strength = ("right", 0.6 * share) if right else ("wrong", 0.15 + 0.6 * math.sqrt(share))
    return f'<td style="background: rgb(var(--{colour}) / {min(strength, 0.75):.2f})">{count}</td>'


def _classes(evaluation, class_names):
    rows = ["<tr>" + "".join(f'<th scope="col">{name}</th>' for name in ("class", "images", "precision", "recall")) + "</tr>"]
    for name, count, *shares in zip(class_names, evaluation.support, evaluation.precision, evaluation.recall, strict=True):
        cells = "".join(f"<td>{percent(share)}</td>" for share in shares)
        rows.append(f'<tr><th scope="row">{_escape(name)}</th><td>{count:,}</td>{cells}</tr>')
    return ('<p class="note">Precision: of the images taken for the class, the share that was right. Recall: of the images of the class, '
            f'the share that was found.</p>\n<div class="scroll"><table class="classes">\n{chr(10).join(rows)}\n</table></div>')


def _with_epochs(training, records, data):
    """The settings of a training on `data`, with how many epochs its steps are, which they lack where its length was given in minutes."""
    if training["epochs"] is not None or not len(data.train_labels):
        return training
    # The log knows how many steps an epoch has, also where a part of the training images was kept for validation.
    per_epoch = records[0]["step"] if len(records) > 1 else len(data.train_labels) // training["batch_size"]
    return training | {"epochs": training["steps"] / per_epoch}


def _settings(config):
    parts = {"training": config["training"], "model": config["model"]["options"], "data": config["data"]["source"] or {},
             "versions": config.get("versions", {})}
    tables = []
    for part, values in parts.items():
        rows = [f'<tr><th scope="row">{_escape(name)}</th><td>{_escape(_value(value))}</td></tr>' for name, value in values.items()]
        tables.append(f'<table class="list"><caption>{part}</caption>\n{chr(10).join(rows)}\n</table>' if rows else "")
    return f'<div class="settings">\n{chr(10).join(tables)}\n</div>'


def _value(value):
    if isinstance(value, float):
        return f"{value:.10g}"
    return value if isinstance(value, str) else "-" if value is None else json.dumps(value)


def _repetition(config):
    """The command that gives the same run again, or the calls, where it was started from Python."""
    training = config["training"]
    if config.get("command"):
        note = "With the same versions, on the same machine, it gives the same bits on any number of threads."
        if "--minutes" in config["command"] and training["epochs"]:
            note += f" It measures the machine first; these {training['steps']} steps are --epochs {training['epochs']:.10g}."
        return f'<pre>{_escape(config["command"])}</pre>\n<p class="note">{_escape(note)}</p>'
    source = config["data"]["source"]
    settings = {name: value for name, value in training.items() if name not in ("steps", "lanes", "micro_batch")}
    lines = ["import minivit", f"data = minivit.load_data(**{source})" if source else "data = ...  # the arrays it was given",
             f"model = minivit.create_model({config['model']['family']!r}, **{config['model']['options']})  # and its seed",
             f"minivit.train(model, data, **{settings})"]
    return f"<pre>{_escape(chr(10).join(lines))}</pre>"
