"""Training over many epochs: shuffle, step, evaluate, log, save."""

import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from tqdm import tqdm

from ..arguments import check_number
from ..data import load_data
from ..data.dataset import Dataset, split
from ..lanes import Cut, supervised
from ..models.probe import Probe
from ..ops.cross_entropy import smoothing_floor
from .augment import Augmentation
from .checkpoints import Checkpoints, Progress
from .distil import distillation_for
from .evaluation import Evaluation, evaluate, with_mirrored
from .features import features, trunk_digest
from .fine_tune import FINE_TUNE, PROBE
from .preset import DEFAULTS, preset_for
from .run import Run, check_fit, describe
from .schedule import warmup_cosine
from .source import Source, same_weights
from .trainer import Trainer

TRIAL, LONGEST_TRIAL = 0.03, 5.0  # share of the minutes, and seconds at most, for which the speed is measured before them


@dataclass(frozen=True)
class Result:
    """What `train` gives: the model, its score on the test part after the last step, the mean training loss of the last epoch, and
    how long all its steps took, those before a resumption too.

    images_per_second: how fast the steps of this call were, because others may have been done elsewhere; 0 if none was left to do.
    validation: the score on the validation part, where there is one. test.mirrored: the score of the mean over each picture and its mirror
    image, if training mirrored them. Neither chooses nor changes anything. resumed: whether earlier calls did some of the steps.
    """

    model: object
    test: Evaluation
    loss: float
    steps: int
    seconds: float
    images_per_second: float
    validation: Evaluation | None = None
    resumed: bool = False

    @property
    def accuracy(self):
        """Share of the test images that are classified correctly, 0 to 1."""
        return self.test.accuracy

    def __str__(self):
        first, *mirrored = self.test.lines
        speed = f"{self.images_per_second:,.0f} images/s{' since it was resumed' if self.resumed else ''}"
        took = f"{self.seconds:.1f} s" + (f" ({speed})" if self.images_per_second else "")
        lines = [f"test {first}, after {self.steps} steps in {took}"]
        lines += [f"test, {line}" for line in mirrored]
        return "\n".join(lines + ([f"validation: {self.validation}"] if self.validation else []))


def train(model, data, *, epochs=None, minutes=None, batch_size=None, lr=None, weight_decay=None, label_smoothing=None, clip=None,
          warmup=None, augment=None, ema=None, layers=None, optimiser=None, val_fraction=None, patience=None, start=None,
          probe=None, teacher=None, distillation=None, distillation_weight=None, temperature=None, seed=None, threads=None, out=None,
          resume=False, recompute=False, checkpoint_seconds=60.0, checkpoint_steps=None, command=None, progress=True):
    """Train `model` on `data`, in place; returns a `Result`.

    data: a Dataset, or what `load_data` takes. What is not given is as the data's preset has it, or else the default in brackets.
    epochs: how often each training image is seen (30). minutes: instead, how long to train; the speed is measured first, and
        the number of steps fixed by it.
    batch_size: images a step (32). lr: the peak (2e-3), reached after the share `warmup` (0.1) of all steps. weight_decay (0.05),
        label_smoothing (0.1), clip (1.0), ema (0, none), layers (none), optimiser ("adamw"), seed (0), threads: see
        `Trainer`. With ema, the running mean of the weights is what is scored and kept.
    augment: the steps of an `Augmentation` ("affine"), such as "crop,flip,cutmix:1:0.3", or "none".
    val_fraction: share (0) of every class that is taken from the training part for validation; data may have such a part of their own.
    patience: stop after so many epochs (0: never) without a better accuracy in validation, and keep the weights of the best epoch; without
        a validation part a tenth is taken. The test part has no say, and epochs that end before the warmup does do not count.
    start: for the record, the `Source` that the model's weights come from (see `fine_tuned`); the lr is then 2e-4 by default.
    probe: whether only the classifiers learn (False), from features that the rest of the model makes of each picture once; the defaults
        are then those of `PROBE`.
    teacher: the folder of a finished run on the same images and classes, from which the model learns, too (none); distillation ("hard", or
        "soft"), distillation_weight (0.5), temperature (3.0): how, see `Distillation`.
    out: folder of the run; without it nothing is written.
    resume: go on from the checkpoint in `out`, to the bits of a run that was never interrupted; what is not given is as the run has it.
    recompute: see `Trainer`; like threads it changes no bit, and is not kept.
    checkpoint_seconds (60), checkpoint_steps: how often the state is saved to `out`, beside the end of each epoch.
    command: how the run was started, for its report.
    progress: show a bar on stderr; where that is no terminal, a line for each epoch.

    Raises ValueError for settings, images or a folder that do not fit; FloatingPointError if the loss is not finite any more, and OSError
    if the folder cannot be written, where the last checkpoint stays; `Interrupted`, a KeyboardInterrupt, when SIGINT or SIGTERM asks the
    process to stop and there is a folder, where the state has been saved.
    """
    given = {"epochs": epochs, "batch_size": batch_size, "lr": lr, "weight_decay": weight_decay, "label_smoothing": label_smoothing,
             "clip": clip, "warmup": warmup, "augment": augment, "ema": ema, "layers": layers, "optimiser": optimiser,
             "val_fraction": val_fraction, "patience": patience, "seed": seed,
             "start": _record(start), "probe": probe, "teacher": _record(teacher), "distillation": distillation,
             "distillation_weight": distillation_weight, "temperature": temperature}
    given = {name: value for name, value in given.items() if value is not None}
    if layers is not None:
        given["layers"] = [list(layer) for layer in layers]           # as JSON has them
    run = Run(out) if out is not None else None
    earlier = run if resume else None
    if resume and not run:
        raise ValueError("to resume, name the folder of the run with out")
    if isinstance(data, str | Path):
        data = load_data(data, seed=given.get("seed", earlier.seed if earlier else DEFAULTS["seed"]))
    check_fit(model, data)
    settings = _continue(earlier, model, data, given, minutes) if earlier else _plan(model, data, given, minutes, threads)
    if settings["teacher"]:
        if "run" not in settings["teacher"]:
            raise ValueError("a teacher must be the folder of a finished run, not a file of weights: only a run knows its classes")
        Source.again(settings["teacher"], "--teacher").check_unseen(data)
    if settings["probe"] and recompute:
        raise ValueError("a probe has no blocks to compute again: leave out recompute")
    trained = Probe(model) if settings["probe"] else model
    trainer = make_trainer(trained, settings, threads, Cut(settings["lanes"], settings["micro_batch"]), data.class_names, recompute)
    checkpoints = Checkpoints(run, trainer, checkpoint_seconds, checkpoint_steps)
    records, so_far = [], Progress()
    if run and not resume:
        run.start(describe(model, data, settings, command), data)
    elif run:
        run.keep_places(settings)
        records, so_far = run.take_up(trainer)
    seen = Seen(_with_validation(data, settings))
    if settings["probe"]:
        parts = seen.inputs
        if _has_ended(trainer, so_far, settings, records):            # it is only scored
            parts = {part: images for part, images in parts.items() if part != "train"}
        seen = replace(seen, features=features(model, parts, run, threads, checkpoint_seconds, progress))
    with checkpoints:
        return _run(model, trainer, data, seen, settings, run, checkpoints, records, so_far, progress)


@dataclass(frozen=True)
class Seen:
    """The data, and what is seen of them in training: the pictures, or in a probe their `features`, {part: (B, 1, h, D)}."""

    data: Dataset
    features: dict | None = None

    @property
    def inputs(self):
        """What the model in training takes, {part: array}."""
        return self.features or {part: images for part, (images, _) in self.data.parts.items()}


def _record(source):
    """What is kept of a `Source`; of a path, which must be a run's; a record stays one, and None none."""
    if source is None or isinstance(source, dict):
        return source
    return (source if isinstance(source, Source) else Source(source)).record


def make_trainer(model, settings, threads, cut=None, class_names=None, recompute=False):
    """The Trainer that the settings ask for. class_names: of the data, which a teacher must know. Errors as `distillation_for`."""
    own = ("lr", "weight_decay", "clip", "label_smoothing", "seed", "ema", "layers", "optimiser")
    objective = distillation_for(settings, model, class_names) or supervised
    augment = None if settings["probe"] else Augmentation(settings["augment"])     # features are no pictures
    trainer = Trainer(model, cut=cut, threads=threads, augment=augment, objective=objective, recompute=recompute,
                      **{name: settings[name] for name in own})
    if settings["patience"]:
        trainer.best = trainer.average.vector.copy()
    return trainer


def _check(settings, data):
    """Raise ValueError for a setting that `Trainer` does not check itself; returns (batch size, number of images) of the training."""
    if settings["epochs"] is not None:                                # None: the length was given in minutes
        check_number("number of epochs", settings["epochs"], above=0, most=1e9)
    check_number("warmup, a share of all steps,", settings["warmup"], least=0, most=1)
    check_number("patience, in epochs,", settings["patience"], least=0, whole=True)
    check_number("validation fraction", settings["val_fraction"], least=0, below=1)
    if not len(data.train_images):
        raise ValueError(f"{data.name} has no training images")
    if settings["patience"] and not settings["val_fraction"] and not len(data.val_labels):
        raise ValueError(f"patience needs a validation part, but that of {data.name} is empty")
    images = len(_with_validation(data, settings).train_images)
    return min(check_number("batch size", settings["batch_size"], least=1, whole=True), images), images


def _with_validation(data, settings):
    """The data with a validation part, if the settings ask for one: a share of every class of the training part, chosen by the seed."""
    fraction = settings["val_fraction"]
    if not fraction:
        return data
    if data.val_images is not None:
        raise ValueError(f"{data.name} has a validation part of its own: leave out val_fraction")
    rest, part = split(data.train_labels, fraction, settings["seed"], data.class_names)
    return replace(data, train_images=data.train_images[rest], train_labels=data.train_labels[rest],
                   val_images=data.train_images[part], val_labels=data.train_labels[part])


def _plan(model, data, given, minutes, threads):
    """The settings of a new run, checked, with its number of steps and its cut."""
    instead = PROBE if given.get("probe") else FINE_TUNE if given.get("start") else {}
    settings = DEFAULTS | preset_for(data, minutes).training | instead | given
    chosen = [name for name in ("distillation", "distillation_weight", "temperature") if settings[name] != DEFAULTS[name]]
    if chosen and not settings["teacher"]:
        raise ValueError(f"{', '.join(chosen)} can be chosen with a teacher only")
    if settings["probe"] and (settings["augment"] != "none" or settings["teacher"] or minutes is not None):
        raise ValueError("a probe sees each picture once, as it is, and then only its features: leave out augment, teacher and minutes")
    if "temperature" in chosen and settings["distillation"] == "hard":
        raise ValueError("a temperature is for soft distillation; hard takes the teacher's first class")
    if settings["patience"] and not settings["val_fraction"] and data.val_images is None:
        settings["val_fraction"] = 0.1
    size, images = _check(settings, data)
    cut = Cut.of(size, Probe.rows if settings["probe"] else model.rows)
    settings |= {"batch_size": size, "lanes": cut.lanes, "micro_batch": cut.micro_batch}
    if settings["probe"]:
        settings["trunk"] = trunk_digest(model)
    if minutes is None:
        return settings | {"steps": max(1, round(settings["epochs"] * (images // size)))}
    check_number("number of minutes", minutes, above=0, most=1e9)
    seconds = _seconds_per_step(model, _with_validation(data, settings), settings, threads, min(TRIAL * 60 * minutes, LONGEST_TRIAL))
    return settings | {"epochs": None, "steps": max(1, int(60 * minutes / seconds))}


def _seconds_per_step(model, data, settings, threads, trial_seconds):
    """The mean time of a step, of ten at least and for so many seconds, of a copy of the model; with its share of an epoch's evaluation."""
    size, trial, steps = settings["batch_size"], make_trainer(model.copy(), settings, threads), -2
    start = now = time.perf_counter()
    while steps < 10 or now - start < trial_seconds:
        trial.step(data.train_images[:size], data.train_labels[:size])
        now, steps = time.perf_counter(), steps + 1
        if steps == 0:                                                # two steps have compiled and warmed up
            start = now
    per_step = (now - start) / steps
    _scores(trial.average, Seen(data), threads)
    return per_step + (time.perf_counter() - now) / (len(data.train_images) // size)


def _continue(run, model, data, given, minutes):
    """The settings of the run in its folder. Raises ValueError if something else was asked for, or its file is damaged."""
    if minutes is not None:
        raise ValueError("the number of steps of a run is fixed when it starts: resume without minutes")
    stored = run.config()
    settings = stored["training"]
    missing = [name for name in (*DEFAULTS, "steps", "lanes", "micro_batch") if name not in settings]
    if missing:
        raise run.damaged(f"it lacks {', '.join(missing)}")
    moved = {name: given.pop(name) for name in ("start", "teacher")
             if given.get(name) and settings[name] and same_weights(given[name], settings[name])}
    settings = settings | moved                                       # the same weights, wherever they lie now
    now = describe(model, data, settings)
    other = ["model"] if now["model"] != stored["model"] else []
    other += [f"{name} ({settings[name]})" for name, value in given.items() if value != settings[name]]
    if other:
        raise ValueError(f"{run.folder} was started with another {', '.join(other)}: leave out what differs, or start a new run; to learn "
                         "on, start one with --fine-tune, which takes a finished run's weights")
    if now["data"] != stored["data"]:
        raise ValueError(f"{run.folder} was started with other data, or {data.name} has changed since: only the same images go on to the "
                         "same bits")
    if settings["probe"] and settings.get("trunk") != trunk_digest(model):
        raise ValueError(f"{run.folder} is a probe of another model than this one: begin with the weights that it began with")
    if _check(settings, data)[0] != settings["batch_size"]:
        raise ValueError(f"{run.config_file} is damaged: its batch size is {settings['batch_size']}")
    return settings


def _run(model, trainer, whole, seen, settings, run, checkpoints, records, so_far, progress):
    """Step until the run has all its steps, or patience ends; at the end of every epoch evaluate, log, and save."""
    data, steps, size, threads = seen.data, settings["steps"], settings["batch_size"], trainer.lanes.workers.threads
    done, earlier = trainer.optimiser.t, so_far.seconds
    scores: dict = {}
    loss = records[-1]["loss"] if records else float("nan")
    bar = tqdm(total=steps * size, initial=done * size, unit=" images", unit_scale=True, dynamic_ncols=True,
               disable=None if progress else True)                    # None: it is where there is no terminal
    with bar:
        if progress and _has_ended(trainer, so_far, settings, records):
            bar.write("this run has ended already: nothing is left to do", file=sys.stderr)
        elif progress:
            bar.write(f"{data.name}: {len(data.train_labels)} training and {len(data.test_labels)} test images of {data.classes} classes; "
                      f"{trainer.model.vector.size:,} parameters{' of the head' if settings['probe'] else ''}", file=sys.stderr)
            bar.set_postfix_str("the first step may have to compile its loops, once")
        while not _has_ended(trainer, so_far, settings, records):
            record = _epoch(trainer, seen, settings, so_far, checkpoints, bar, scores.get("test"))
            scores = _scores(trainer.average, seen, threads)
            loss, accuracies = record["loss"], {f"{part}_accuracy": score.accuracy for part, score in scores.items()}
            records.append(record | accuracies | {"seconds": round(so_far.seconds, 3)})
            if progress and bar.disable:
                bar.write(_line(records[-1], steps, len(data.train_labels) // size), file=sys.stderr)
            if trainer.best is not None and _best(records) == len(records) - 1:
                np.copyto(trainer.best, trainer.average.vector)
            so_far = Progress(seconds=so_far.seconds)
            if run:
                run.log(records)                                      # first: a resumed run takes from it what the checkpoint has
                checkpoints.save(so_far)
                if trainer.optimiser.t < steps:
                    checkpoints.stop_if_asked()
    of_labels = 1 - settings["distillation_weight"] if settings["teacher"] else 1
    _finish(model, trainer, run, records, of_labels * smoothing_floor(settings["label_smoothing"], model.classes))
    if trainer.best is not None or not scores:                        # what was scored last is not what is kept
        scores = _scores(trainer.model, seen, threads)
    test = with_mirrored(scores["test"], model, settings, data.test_images, data.test_labels, threads)
    if run:
        test = replace(test, learned=run.count_learned(data.test_images))
        run.write_report(model, whole, test)
    speed = (trainer.optimiser.t - done) * size / max(so_far.seconds - earlier, 1e-9)
    return Result(model, test, loss, trainer.optimiser.t, so_far.seconds, speed, scores.get("val"), resumed=done > 0)


def _line(record, steps, of_epoch):
    """An epoch's record in words. steps: of the run; of_epoch: of an epoch."""
    parts = {"train": "accuracy", "validation": "val_accuracy", "test": "test_accuracy"}
    scores = [f"{part} {record[name]:.1%}" for part, name in parts.items() if name in record]
    remaining = record["seconds"] * (steps - record["step"]) / record["step"]
    return (f"epoch {record['epoch']}/{-(-steps // of_epoch)}: loss {record['loss']:.3f}, {', '.join(scores)}; "
            f"{tqdm.format_interval(record['seconds'])} of training, {tqdm.format_interval(remaining)} remaining")


def _scores(model, seen, threads):
    """{"test": Evaluation, and "val" where there is such a part}."""
    return {part: evaluate(model, seen.inputs[part], labels, threads, images, seen.data.test_files if part == "test" else None)
            for part, (images, labels) in seen.data.parts.items() if part != "train" and len(labels)}


def _best(records):
    """The index of the first record with the best accuracy in validation."""
    return int(np.argmax([r["val_accuracy"] for r in records]))


def _has_ended(trainer, so_far, settings, records):
    """Whether nothing is left to learn: all steps are done, and the last epoch scored, or patience has ended."""
    return (trainer.optimiser.t >= settings["steps"] and not so_far.steps) or _out_of_patience(records, settings)


def _out_of_patience(records, settings):
    """Whether the last epochs, as many as patience allows, were no better than one before them.

    Those that ended before the warmup did are not counted: at a rate that has yet to rise, no progress says little of what is to come.
    """
    if not (records and settings["patience"]):
        return False
    return sum(r["step"] >= _warmup(settings) for r in records[_best(records) + 1:]) >= settings["patience"]


def _epoch(trainer, seen, settings, so_far, checkpoints, bar, test):
    """Do the steps that an epoch still has, adding them to `so_far`; returns its record for the log."""
    steps, size, inputs, labels = settings["steps"], settings["batch_size"], seen.inputs["train"], seen.data.train_labels
    of_epoch = len(labels) // size
    epoch = (trainer.optimiser.t - so_far.steps) // of_epoch
    for batch in batches(len(labels), size, settings["seed"], epoch)[so_far.steps:]:
        if trainer.optimiser.t == steps:
            break
        start, lr = time.perf_counter(), rate(settings, trainer.optimiser.t)
        loss = trainer.step(inputs[batch], labels[batch], lr, epoch, batch)
        so_far.add(trainer, loss, time.perf_counter() - start)
        bar.set_postfix(epoch=f"{epoch + 1}/{-(-steps // of_epoch)}", loss=f"{loss:.3f}",
                        train=f"{so_far.correct / (size * so_far.steps):.1%}", test=f"{test.accuracy:.1%}" if test else "-", refresh=False)
        bar.update(size)
        checkpoints.after_step(so_far)
    return {"epoch": epoch + 1, "step": trainer.optimiser.t, "loss": so_far.loss / so_far.steps,
            "accuracy": so_far.correct / (size * so_far.steps), "lr": rate(settings, trainer.optimiser.t - 1),
            "grad_norm": so_far.grad_norm}


def rate(settings, step):
    """The learning rate of a step, by the settings `lr`, `steps` and `warmup`."""
    return settings["lr"] * warmup_cosine(step, settings["steps"], _warmup(settings))


def _warmup(settings):
    """The number of steps in which the learning rate rises."""
    return round(settings["warmup"] * settings["steps"])


def batches(images, size, seed, epoch):
    """The index arrays of an epoch's batches: a random order that seed and epoch alone decide; the last, partial batch is dropped."""
    order = np.random.default_rng([seed, epoch]).permutation(images)
    return [order[a:a + size] for a in range(0, images - size + 1, size)]


def _finish(model, trainer, run, records, floor):
    """Give the model its final weights, of the best epoch or of the running mean where there are such, and write what a run leaves."""
    trainer.model.vector[:] = trainer.average.vector if trainer.best is None else trainer.best   # a probe's are the model's
    if run:
        from .curve import draw_curve  # here, because matplotlib takes its time to import
        run.save_model(model)
        if records:
            draw_curve(records, run.curve_file, floor, -1 if trainer.best is None else _best(records))
        run.features_file.unlink(missing_ok=True)
