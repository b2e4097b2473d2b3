"""Training over many epochs: shuffle, step, evaluate, log, save."""

import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from ..arguments import check_number
from ..data import load_data
from ..lanes import Cut
from ..ops.cross_entropy import smoothing_floor
from .augment import Affine
from .checkpoints import Checkpoints, Progress
from .evaluation import Evaluation, evaluate
from .run import Run, check_fit, describe
from .schedule import warmup_cosine
from .trainer import Trainer

DEFAULTS = {"epochs": 30, "batch_size": 32, "lr": 2e-3, "weight_decay": 0.05, "label_smoothing": 0.1, "clip": 1.0, "warmup": 0.1,
            "augment": 1.0, "seed": 0}


@dataclass(frozen=True)
class Result:
    """What `train` gives: the model, its score on the test part after the last step, the mean training loss of the last epoch, and
    how long the steps since the start or the resumption took."""

    model: object
    test: Evaluation
    loss: float
    steps: int
    seconds: float
    images_per_second: float

    @property
    def accuracy(self):
        """Share of the test images that are classified correctly, 0 to 1."""
        return self.test.accuracy

    def __str__(self):
        return f"test {self.test}, after {self.steps} steps in {self.seconds:.1f} s ({self.images_per_second:,.0f} images/s)"


def train(model, data, *, epochs=None, minutes=None, batch_size=None, lr=None, weight_decay=None, label_smoothing=None, clip=None,
          warmup=None, augment=None, seed=None, threads=None, out=None, resume=False, checkpoint_seconds=60.0, checkpoint_steps=None,
          command=None, progress=True):
    """Train `model` on `data`, in place; returns a `Result`.

    data: a Dataset, or what `load_data` takes.
    epochs: how often each training image is seen (default 30). minutes: instead, how long to train; the speed is measured first, and
        the number of steps fixed by it.
    batch_size: images a step (32). lr: the peak (2e-3), reached after the share `warmup` (0.1) of all steps. weight_decay (0.05),
        label_smoothing (0.1), clip (1.0), seed (0), threads: see `Trainer`. augment: strength (1.0) of `Affine`, 0 for none.
    out: folder of the run; without it nothing is written.
    resume: go on from the checkpoint in `out`, to the bits of a run that was never interrupted; what is not given is as the run has it.
    checkpoint_seconds (60), checkpoint_steps: how often the state is saved to `out`, beside the end of each epoch.
    command: how the run was started, for its report.
    progress: show a bar.

    Raises ValueError for settings, images or a folder that do not fit; FloatingPointError if the loss is not finite any more, and OSError
    if the folder cannot be written, where the last checkpoint stays; `Interrupted`, a KeyboardInterrupt, when SIGINT or SIGTERM asks the
    process to stop and there is a folder, where the state has been saved.
    """
    given = {"epochs": epochs, "batch_size": batch_size, "lr": lr, "weight_decay": weight_decay, "label_smoothing": label_smoothing,
             "clip": clip, "warmup": warmup, "augment": augment, "seed": seed}
    given = {name: value for name, value in given.items() if value is not None}
    run = Run(out) if out is not None else None
    earlier = run if resume else None
    if resume and not run:
        raise ValueError("to resume, name the folder of the run with out")
    if isinstance(data, str | Path):
        data = load_data(data, seed=given.get("seed", earlier.seed if earlier else DEFAULTS["seed"]))
    check_fit(model, data)
    settings = _continue(earlier, model, data, given, minutes) if earlier else _plan(model, data, DEFAULTS | given, minutes, threads)
    trainer = Trainer(model, settings["lr"], settings["weight_decay"], clip=settings["clip"], label_smoothing=settings["label_smoothing"],
                      seed=settings["seed"], threads=threads, cut=Cut(settings["lanes"], settings["micro_batch"]),
                      augment=Affine(settings["augment"]))
    checkpoints = Checkpoints(run, trainer, checkpoint_seconds, checkpoint_steps)
    records, so_far = [], Progress()
    if run and not resume:
        run.start(describe(model, data, settings, command))
    elif run:
        records, so_far = run.take_up(trainer)
    with checkpoints:
        return _run(trainer, data, settings, run, checkpoints, records, so_far, progress)


def _check(settings, data):
    """Raise ValueError for a setting that `Trainer` does not check itself; returns the batch size that the data allow."""
    if settings["epochs"] is not None:                                # None: the length was given in minutes
        check_number("number of epochs", settings["epochs"], above=0, most=1e9)
    check_number("warmup, a share of all steps,", settings["warmup"], least=0, most=1)
    if not len(data.train_images):
        raise ValueError(f"{data.name} has no training images")
    return min(check_number("batch size", settings["batch_size"], least=1, whole=True), len(data.train_images))


def _plan(model, data, settings, minutes, threads):
    """The settings of a new run, checked, with its number of steps and its cut."""
    size = _check(settings, data)
    cut = Cut.of(size, model.tokens)
    settings |= {"batch_size": size, "lanes": cut.lanes, "micro_batch": cut.micro_batch}
    if minutes is None:
        return settings | {"steps": max(1, round(settings["epochs"] * (len(data.train_images) // size)))}
    check_number("number of minutes", minutes, above=0, most=1e9)
    return settings | {"epochs": None, "steps": max(1, int(60 * minutes / _seconds_per_step(model, data, settings, threads)))}


def _seconds_per_step(model, data, settings, threads):
    """The median time of ten steps of a copy of the model, with each step's share of the evaluation at the end of an epoch."""
    size = settings["batch_size"]
    trial, seconds = Trainer(model.copy(), threads=threads, augment=Affine(settings["augment"])), []
    for _ in range(12):
        start = time.perf_counter()
        trial.step(data.train_images[:size], data.train_labels[:size])
        seconds.append(time.perf_counter() - start)
    start = time.perf_counter()
    evaluate(trial.model, data.test_images, data.test_labels, threads)
    per_epoch = len(data.train_images) // size
    return np.median(seconds[2:]) + (time.perf_counter() - start) / per_epoch   # the first two steps compile and warm up


def _continue(run, model, data, given, minutes):
    """The settings of the run in its folder. Raises ValueError if something else was asked for, or its file is damaged."""
    if minutes is not None:
        raise ValueError("the number of steps of a run is fixed when it starts: resume without minutes")
    stored = run.config()
    settings = stored["training"]
    missing = [name for name in (*DEFAULTS, "steps", "lanes", "micro_batch") if name not in settings]
    if missing:
        raise ValueError(f"{run.config_file} is damaged: it lacks {', '.join(missing)}")
    now = describe(model, data, settings)
    other = [part for part in ("model", "data") if now[part] != stored[part]]
    other += [f"{name} ({settings[name]})" for name, value in given.items() if value != settings[name]]
    if other:
        raise ValueError(f"{run.folder} was started with another {', '.join(other)}: leave out what differs, or start a new run")
    if _check(settings, data) != settings["batch_size"]:
        raise ValueError(f"{run.config_file} is damaged: its batch size is {settings['batch_size']}")
    return settings


def _run(trainer, data, settings, run, checkpoints, records, so_far, progress):
    """Step until the run has all its steps; at the end of every epoch evaluate, log, and save."""
    model, steps, size = trainer.model, settings["steps"], settings["batch_size"]
    done, seconds = trainer.optimiser.t, so_far.seconds
    test, loss = None, records[-1]["loss"] if records else float("nan")
    bar = tqdm(total=steps * size, initial=done * size, unit=" images", unit_scale=True, disable=not progress, dynamic_ncols=True)
    with bar:
        if progress:
            bar.write(f"{data.name}: {len(data.train_labels)} training and {len(data.test_labels)} test images of {data.classes} classes; "
                      f"{model.vector.size:,} parameters", file=sys.stderr)
        while trainer.optimiser.t < steps or test is None:
            record = _epoch(trainer, data, settings, so_far, checkpoints, bar, test)
            test = evaluate(model, data.test_images, data.test_labels, trainer.lanes.workers.threads)
            if record:
                loss = record["loss"]
                records.append(record | {"test_accuracy": test.accuracy, "seconds": round(so_far.seconds, 3)})
            so_far = Progress(seconds=so_far.seconds)
            if run:
                run.log(records)                                      # first: a resumed run takes from it what the checkpoint has
                checkpoints.save(so_far)
                if trainer.optimiser.t < steps:
                    checkpoints.stop_if_asked()
    if run:
        _finish(run, model, data, records, test, smoothing_floor(settings["label_smoothing"], model.classes))
    seconds = so_far.seconds - seconds
    return Result(model, test, loss, trainer.optimiser.t, seconds, (trainer.optimiser.t - done) * size / max(seconds, 1e-9))


def _epoch(trainer, data, settings, so_far, checkpoints, bar, test):
    """Do the steps that an epoch still has, adding them to `so_far`; returns its record for the log, or None if it has no steps."""
    steps, size = settings["steps"], settings["batch_size"]
    epoch = (trainer.optimiser.t - so_far.steps) // (len(data.train_labels) // size)
    for batch in batches(len(data.train_labels), size, settings["seed"], epoch)[so_far.steps:]:
        if trainer.optimiser.t == steps:
            break
        start = time.perf_counter()
        loss = trainer.step(data.train_images[batch], data.train_labels[batch], lr=rate(settings, trainer.optimiser.t))
        so_far.add(trainer, loss, time.perf_counter() - start)
        bar.set_postfix(loss=f"{loss:.3f}", train=f"{so_far.correct / (size * so_far.steps):.1%}",
                        test=f"{test.accuracy:.1%}" if test else "-", refresh=False)
        bar.update(size)
        checkpoints.after_step(so_far)
    if not so_far.steps:
        return None
    return {"epoch": epoch + 1, "step": trainer.optimiser.t, "loss": so_far.loss / so_far.steps,
            "accuracy": so_far.correct / (size * so_far.steps), "lr": rate(settings, trainer.optimiser.t - 1),
            "grad_norm": so_far.grad_norm}


def rate(settings, step):
    """The learning rate of a step, by the settings `lr`, `steps` and `warmup`."""
    return settings["lr"] * warmup_cosine(step, settings["steps"], round(settings["warmup"] * settings["steps"]))


def batches(images, size, seed, epoch):
    """The index arrays of an epoch's batches: a random order that seed and epoch alone decide; the last, partial batch is dropped."""
    order = np.random.default_rng([seed, epoch]).permutation(images)
    return [order[a:a + size] for a in range(0, images - size + 1, size)]


def _finish(run, model, data, records, test, floor):
    from .curve import draw_curve  # here, because matplotlib takes its time to import
    run.save_model(model)
    if records:
        draw_curve(records, run.curve_file, floor)
    run.write_report(model, data, test)
