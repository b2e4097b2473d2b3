"""Training over many epochs: shuffle, step, evaluate, log, save."""

import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from tqdm import tqdm

from ..common.text import plural
from ..data import load_data
from ..models.linear_probe import LinearProbe
from ..ops.cross_entropy import smoothing_floor
from ..parallel.batch_split import BatchSplit
from ..parallel.lanes import supervised
from ..runs.checkpoints import Checkpoints, Progress
from ..runs.features import features
from ..runs.presets import DEFAULTS
from ..runs.run import Run, check_fit, describe
from ..runs.settings import plan, rate, resume_settings, warmup_steps, with_validation
from ..runs.teacher import distillation_for
from ..runs.weight_source import Source
from .augment import Augmentation
from .evaluation import Evaluation, evaluate
from .flip_average import add_flip_evaluation
from .trainer import Trainer

TRIAL, LONGEST_TRIAL = 0.03, 5.0  # share of the minutes, and seconds at most, for which the speed is measured before them


@dataclass(frozen=True)
class Result:
    """What `train` gives: the model, its score on the test part after the last step, the mean training loss of the last epoch, and
    how long all its steps took, those before a resumption too.

    images_per_second: how fast the steps of this call were, because others may have been done elsewhere; 0 if none was left to do.
    validation: the score on the validation part, where there is one. test.with_flip: the score of the mean over each picture and its mirror
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
        first, *with_flip = self.test.lines
        speed = f"{self.images_per_second:,.0f} images/s{' since it was resumed' if self.resumed else ''}"
        took = f"{self.seconds:.1f} s" + (f" ({speed})" if self.images_per_second else "")
        lines = [f"test {first}, after {self.steps} {plural(self.steps, 'step')} in {took}"]
        lines += [f"test, {line}" for line in with_flip]
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
    start: for the record, the `Source` that the model's weights come from (see `fine_tuned_model`); the lr is then 2e-4 by default.
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
    given = {name: value for name, value in locals().items() if name in DEFAULTS and value is not None}     # of the parameters alone
    given |= {name: _record(given[name]) for name in ("start", "teacher") if name in given}
    if layers is not None:
        given["layers"] = [list(layer) for layer in layers]           # as JSON has them
    run = Run(out) if out is not None else None
    if resume and not run:
        raise ValueError("to resume, name the folder of the run with out")
    if isinstance(data, str | Path):
        data = load_data(data, seed=given.get("seed", run.seed if run and resume else DEFAULTS["seed"]))
    check_fit(model, data)
    settings = resume_settings(run, model, data, given, minutes) if resume else plan(model, data, given, minutes)
    if settings["teacher"]:
        if "run" not in settings["teacher"]:
            raise ValueError("a teacher must be the folder of a finished run, not a file of weights: only a run knows its classes")
        Source.again(settings["teacher"], "--teacher").check_unseen(data)
    if settings["probe"] and recompute:
        raise ValueError("a probe has no blocks to compute again: leave out recompute")
    whole, data = data, with_validation(data, settings)
    if minutes is not None:
        settings["steps"] = max(1, int(60 * minutes / _seconds_per_step(model, data, settings, threads, minutes, recompute)))
    trained = LinearProbe(model) if settings["probe"] else model
    trainer = make_trainer(trained, settings, threads, BatchSplit(settings["lanes"], settings["micro_batch"]), data.class_names, recompute)
    checkpoints = Checkpoints(run, trainer, checkpoint_seconds, checkpoint_steps)
    loop = Loop(trainer, data, settings, run, checkpoints)
    if run and not resume:
        run.start(describe(model, whole, settings, command), whole)
    elif run:
        run.update_sources(settings, whole)
        loop.records, loop.epoch_progress = run.restore(trainer)
    if settings["probe"]:
        parts = loop.inputs
        if loop.ended:                                                # it is only scored
            parts = {part: images for part, images in parts.items() if part != "train"}
        loop.inputs = features(model, parts, run, threads, checkpoint_seconds, progress)
    with checkpoints:
        done, seconds = trainer.optimiser.t, loop.epoch_progress.seconds
        loop.run_epochs(progress)
        loop.finish(model)
        test = add_flip_evaluation(loop.scores["test"], model, settings, data.test_images, data.test_labels, threads)
        if run:
            test = replace(test, seen=run.count_seen(data.test_images))
            run.write_report(model, whole, test)
    speed = (trainer.optimiser.t - done) * settings["batch_size"] / max(loop.epoch_progress.seconds - seconds, 1e-9)
    loss = loop.records[-1]["loss"] if loop.records else float("nan")
    return Result(model, test, loss, trainer.optimiser.t, loop.epoch_progress.seconds, speed, loop.scores.get("val"), resumed=done > 0)


def _record(source):
    """What is kept of a `Source`; of a path, which must be a run's; a record stays one."""
    if isinstance(source, dict):
        return source
    return (source if isinstance(source, Source) else Source(source)).record


def make_trainer(model, settings, threads, split=None, class_names=None, recompute=False):
    """The Trainer that the settings ask for. class_names: of the data, which a teacher must know. Errors as `distillation_for`."""
    own = ("lr", "weight_decay", "clip", "label_smoothing", "seed", "ema", "layers", "optimiser")
    objective = distillation_for(settings, model, class_names) or supervised
    augment = None if settings["probe"] else Augmentation(settings["augment"])     # features are no pictures
    trainer = Trainer(model, split=split, threads=threads, augment=augment, objective=objective, recompute=recompute,
                      **{name: settings[name] for name in own})
    if settings["patience"]:
        trainer.best = trainer.average.vector.copy()
    return trainer


def _seconds_per_step(model, data, settings, threads, minutes, recompute=False):
    """The mean time of a step of a copy of the model, with its share of an epoch's evaluation.

    It is that of ten steps at least, and of as many as take the share TRIAL of the minutes that the training is to take, or LONGEST_TRIAL.
    """
    size, trial, steps = settings["batch_size"], make_trainer(model.copy(), settings, threads, recompute=recompute), -2
    start = now = time.perf_counter()
    while steps < 10 or now - start < min(TRIAL * 60 * minutes, LONGEST_TRIAL):
        trial.step(data.train_images[:size], data.train_labels[:size])
        now, steps = time.perf_counter(), steps + 1
        if steps == 0:                                                # two steps have compiled and warmed up
            start = now
    per_step = (now - start) / steps
    score(trial.average, data, _pictures(data), threads)
    return per_step + (time.perf_counter() - now) / (len(data.train_images) // size)


def _pictures(data):
    """{part: images}."""
    return {part: images for part, (images, _) in data.parts.items()}


def score(model, data, inputs, threads=None):
    """{"test": Evaluation, and "val" where there is such a part}; inputs: what the model takes of each part."""
    return {part: evaluate(model, inputs[part], labels, threads, images, data.test_files if part == "test" else None)
            for part, (images, labels) in data.parts.items() if part != "train" and len(labels)}


class Loop:
    """The epochs of one training, from where it stands.

    data: with their validation part. `inputs`: what the model in training takes of each part, {part: array}; the pictures, if nobody gives
    the features that a probe takes. `records`, `epoch_progress`: of the epochs that have ended, and of the one in hand. `scores`: of the weights
    at the end of the last epoch of this call, {part: Evaluation}; behind `finish`, of those that are kept.
    """

    def __init__(self, trainer, data, settings, run, checkpoints):
        self.trainer, self.data, self.settings, self.run, self.checkpoints = trainer, data, settings, run, checkpoints
        self.inputs, self.records, self.epoch_progress, self.scores = _pictures(data), [], Progress(), {}
        self.threads = trainer.lanes.workers.threads
        self.of_epoch = len(data.train_labels) // settings["batch_size"]                 # steps
        self.epochs = -(-settings["steps"] // self.of_epoch)

    @property
    def ended(self):
        """Whether nothing is left to learn: all steps are done, and the last epoch scored, or patience has ended."""
        return (self.trainer.optimiser.t >= self.settings["steps"] and not self.epoch_progress.steps) or self._out_of_patience()

    def _out_of_patience(self):
        """Whether the last epochs, as many as patience allows, were no better than one before them.

        Those that ended before the warmup did are not counted: at a rate that has yet to rise, no progress says little of what is to come.
        """
        if not (self.records and self.settings["patience"]):
            return False
        since = self.records[self._best() + 1:]
        return sum(r["step"] >= warmup_steps(self.settings) for r in since) >= self.settings["patience"]

    def _best(self):
        """The index of the first record with the best accuracy in validation."""
        return int(np.argmax([r["val_accuracy"] for r in self.records]))

    def run_epochs(self, progress=True):
        """Step until the training has ended; at the end of every epoch evaluate, log, and save. progress, errors: as `train`."""
        steps, size, trainer = self.settings["steps"], self.settings["batch_size"], self.trainer
        bar = tqdm(total=steps * size, initial=trainer.optimiser.t * size, unit=" images", unit_scale=True, dynamic_ncols=True,
                   disable=None if progress else True)                # None: it is where there is no terminal
        with bar:
            if progress:
                bar.write(self._opening(), file=sys.stderr)
                if not self.ended:
                    bar.set_postfix_str("the first step may have to compile its loops, once")
            while not self.ended:
                record = self._epoch(bar)
                self.scores = score(trainer.average, self.data, self.inputs, self.threads)
                accuracies = {f"{part}_accuracy": scored.accuracy for part, scored in self.scores.items()}
                self.records.append(record | accuracies | {"seconds": round(self.epoch_progress.seconds, 3)})
                if progress and bar.disable:
                    bar.write(self._line(), file=sys.stderr)
                if trainer.best is not None and self._best() == len(self.records) - 1:
                    np.copyto(trainer.best, trainer.average.vector)
                self.epoch_progress = Progress(seconds=self.epoch_progress.seconds)
                if self.run:
                    self.run.log(self.records)                        # first: a resumed run takes from it what the checkpoint has
                    self.checkpoints.save(self.epoch_progress)
                    if trainer.optimiser.t < steps:
                        self.checkpoints.stop_if_asked()

    def _epoch(self, bar):
        """Do the steps that an epoch still has, adding them to `epoch_progress`; returns its record for the log."""
        trainer, settings, epoch_progress = self.trainer, self.settings, self.epoch_progress
        inputs, labels, size = self.inputs["train"], self.data.train_labels, settings["batch_size"]
        epoch = (trainer.optimiser.t - epoch_progress.steps) // self.of_epoch
        test = f"{self.records[-1]['test_accuracy']:.1%}" if self.records else "-"
        for batch in batches(len(labels), size, settings["seed"], epoch)[epoch_progress.steps:]:
            if trainer.optimiser.t == settings["steps"]:
                break
            start = time.perf_counter()
            loss = trainer.step(inputs[batch], labels[batch], rate(settings, trainer.optimiser.t), epoch, batch)
            epoch_progress.add(trainer, loss, time.perf_counter() - start)
            bar.set_postfix(epoch=f"{epoch + 1}/{self.epochs}", loss=f"{loss:.3f}", train=f"{epoch_progress.correct / (size * epoch_progress.steps):.1%}",
                            test=test, refresh=False)
            bar.update(size)
            self.checkpoints.after_step(epoch_progress)
        return {"epoch": epoch + 1, "step": trainer.optimiser.t, "loss": epoch_progress.loss / epoch_progress.steps,
                "accuracy": epoch_progress.correct / (size * epoch_progress.steps), "lr": rate(settings, trainer.optimiser.t - 1),
                "grad_norm": epoch_progress.grad_norm}

    def _opening(self):
        """In words, what is to be learned."""
        if self.ended:
            return "this run has ended already: nothing is left to do"
        data, of_head = self.data, " of the head" if self.settings["probe"] else ""
        return (f"{data.name}: {len(data.train_labels)} training and {len(data.test_labels)} test images of {data.classes} classes; "
                f"{self.trainer.model.vector.size:,} parameters{of_head}")

    def _line(self):
        """The last epoch in words."""
        record = self.records[-1]
        parts = {"train": "accuracy", "validation": "val_accuracy", "test": "test_accuracy"}
        scores = [f"{part} {record[name]:.1%}" for part, name in parts.items() if name in record]
        remaining = record["seconds"] * (self.settings["steps"] - record["step"]) / record["step"]
        return (f"epoch {record['epoch']}/{self.epochs}: loss {record['loss']:.3f}, {', '.join(scores)}; "
                f"{tqdm.format_interval(record['seconds'])} of training, {tqdm.format_interval(remaining)} remaining")

    def finish(self, model):
        """Give the model its final weights, of the best epoch or of the running mean where there are such, score them, and write what a run
        leaves."""
        best, settings, run = self.trainer.best, self.settings, self.run
        self.trainer.model.vector[:] = self.trainer.average.vector if best is None else best         # a probe's are the model's
        if run:
            from ..runs.curve import plot_curve  # here, because matplotlib takes its time to import
            run.save_model(model)
            if self.records:
                of_labels = 1 - settings["distillation_weight"] if settings["teacher"] else 1
                floor = of_labels * smoothing_floor(settings["label_smoothing"], model.classes)
                plot_curve(self.records, run.curve_file, floor, -1 if best is None else self._best())
            run.features_file.unlink(missing_ok=True)
        if best is not None or not self.scores:                       # what was scored last is not what is kept
            self.scores = score(self.trainer.model, self.data, self.inputs, self.threads)


def batches(images, size, seed, epoch):
    """The index arrays of an epoch's batches: a random order that seed and epoch alone decide; the last, partial batch is dropped."""
    order = np.random.default_rng([seed, epoch]).permutation(images)
    return [order[a:a + size] for a in range(0, images - size + 1, size)]
