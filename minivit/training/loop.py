"""Training over many epochs: shuffle, step, evaluate, log, save."""

import time
from dataclasses import dataclass

import numpy as np
from tqdm import tqdm

from ..data import load_data
from ..lanes import cut
from .evaluation import Evaluation, evaluate
from .run import Run, describe, describe_source
from .schedule import warmup_cosine
from .trainer import Trainer


@dataclass(frozen=True)
class Result:
    """What `train` gives: the model, its score on the test part after the last step, and how long the steps took."""

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


def train(model, data, *, epochs=40, minutes=None, batch_size=64, lr=2e-3, weight_decay=0.05, label_smoothing=0.1, clip=1.0,
          warmup=0.1, seed=0, threads=None, out=None, resume=False, source=None, progress=True):
    """Train `model` on `data`, in place; returns a `Result`.

    data: a Dataset, or what `load_data` takes. epochs: how often each training image is seen. minutes: instead, how long to train:
    the speed is measured first, and the number of steps fixed by it. lr: the peak, reached after the share `warmup` of all steps.
    out: folder of the run; without it nothing is written. resume: go on from the checkpoint in `out`, with the bits of a run that was never
    interrupted. source: where `data` came from, as `describe_source` says it, to be noted in the run. progress: show a bar.

    Raises ValueError for settings, images or a folder that do not fit; FloatingPointError if the loss is not finite any more, where the
    last checkpoint stays.
    """
    if not hasattr(data, "train_images"):
        source = describe_source(data, seed)
        data = load_data(**source)
    _check(model, data, epochs, minutes, batch_size, lr, warmup)
    run = Run(out) if out is not None else None
    settings = {"epochs": epochs, "batch_size": min(batch_size, len(data.train_labels)), "lr": lr, "weight_decay": weight_decay,
                "label_smoothing": label_smoothing, "clip": clip, "warmup": warmup, "seed": seed}
    trainer = Trainer(model, lr, weight_decay, clip=clip, label_smoothing=label_smoothing, seed=seed, threads=threads)
    if resume:
        settings = _continued(run, trainer, settings)
    else:
        settings["steps"] = _count_steps(model, data, settings, minutes, threads)
        plan = cut(settings["batch_size"], model.tokens, model.widest)
        settings["lanes"], settings["micro_batch"] = plan.lanes, plan.micro_batch
        if run:
            run.start(describe(model, data, source, settings))
    return _run(trainer, data, settings, run, progress)


def _check(model, data, epochs, minutes, batch_size, lr, warmup):
    expected, found = (model.image_size, model.image_size, model.channels), data.train_images.shape[1:]
    if found != expected or data.classes > model.classes:
        raise ValueError(f"{data.name} has {data.classes} classes of images {found}, but the model {model.classes} classes of {expected}")
    for name, value in (("epochs", epochs), ("batch size", batch_size), ("learning rate", lr), ("minutes", minutes or 1)):
        if not value > 0:
            raise ValueError(f"the {name} must be positive, not {value}")
    if not 0 <= warmup <= 1:
        raise ValueError(f"the warmup is a share of all steps, between 0 and 1, not {warmup}")


def _continued(run, trainer, settings):
    """Put the trainer where the run stopped; returns the run's own settings. Raises ValueError if other ones were asked for."""
    if run is None:
        raise ValueError("to resume, name the folder of the run with out")
    config = run.config()
    stored = config["training"]
    changed = [name for name, value in settings.items() if name != "epochs" and stored.get(name) != value]
    if changed:
        raise ValueError(f"{run.folder} was started with another {', '.join(changed)}: "
                         + ", ".join(f"{name} {stored.get(name)}" for name in changed))
    if config["model"]["options"] != trainer.model.config:
        raise ValueError(f"{run.folder} was started with another model")
    run.load_checkpoint(trainer)
    return stored


def _count_steps(model, data, settings, minutes, threads):
    """The number of steps of the whole run; for `minutes`, from the speed of a few steps of a copy of the model."""
    per_epoch = len(data.train_labels) // settings["batch_size"]
    if minutes is None:
        return max(1, round(settings["epochs"] * per_epoch))
    trial, size = Trainer(model.copy(), threads=threads), settings["batch_size"]
    seconds = []
    for _ in range(12):
        start = time.perf_counter()
        trial.step(data.train_images[:size], data.train_labels[:size])
        seconds.append(time.perf_counter() - start)
    return max(1, int(60 * minutes / np.median(seconds[2:])))         # the first two compile and warm up


def _run(trainer, data, settings, run, progress):
    model, steps, size = trainer.model, settings["steps"], settings["batch_size"]
    per_epoch = len(data.train_labels) // size
    records = run.records(trainer.optimiser.t) if run else []
    bar = tqdm(total=steps * size, initial=trainer.optimiser.t * size, unit=" images", unit_scale=True, disable=not progress,
               dynamic_ncols=True)
    loss, test, seconds, done = float("nan"), None, 0.0, 0
    with bar:
        while trainer.optimiser.t < steps or test is None:
            step, start = trainer.optimiser.t, time.perf_counter()
            epoch, first = divmod(step, per_epoch)
            losses, correct = [], 0
            for batch in _batches(len(data.train_labels), size, settings["seed"], epoch)[first:steps - epoch * per_epoch]:
                rate = trainer.lr * warmup_cosine(trainer.optimiser.t, steps, round(settings["warmup"] * steps))
                losses.append(trainer.step(data.train_images[batch], data.train_labels[batch], lr=rate))
                correct += trainer.correct
                bar.update(size)
                bar.set_postfix(loss=f"{losses[-1]:.3f}", train=f"{correct / (size * len(losses)):.1%}",
                                test=f"{test.accuracy:.1%}" if test else "-", refresh=False)
            seconds, done = seconds + time.perf_counter() - start, done + len(losses)
            test = evaluate(model, data.test_images, data.test_labels, trainer.lanes.workers.threads)
            if losses:
                loss = float(np.mean(losses))
                records.append({"epoch": epoch + 1, "step": trainer.optimiser.t, "loss": loss, "accuracy": correct / (size * len(losses)),
                                "test_accuracy": test.accuracy, "lr": rate, "norm": trainer.norm, "seconds": round(seconds, 3)})
            if run:
                run.log(records)
                run.save_checkpoint(trainer)
    if run:
        from .curve import draw_curve  # here, because matplotlib takes its time to import
        draw_curve(records, run.curve_file)
        run.save_model(model)
    return Result(model, test, loss, trainer.optimiser.t, seconds, done * size / max(seconds, 1e-9))


def _batches(images, size, seed, epoch):
    """The index arrays of an epoch's batches: a random order that seed and epoch alone decide; the last, partial batch is dropped."""
    order = np.random.default_rng([seed, epoch]).permutation(images)
    return [order[a:a + size] for a in range(0, images - size + 1, size)]
