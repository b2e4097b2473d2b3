"""Train a model on data: settings, folder, loop, checkpoints and report joined together."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Unpack

from ..data import Dataset, load_data
from ..models.model import Model
from ..ops.cross_entropy import smoothing_floor
from ..training.early_stopping import best_record
from ..training.evaluation import Evaluation
from ..training.flip_average import add_flip_evaluation
from ..training.loop import Loop
from ..training.settings import TrainingSettings
from .assemble import make_loop, steps_in_minutes, use_features
from .checkpoints import Checkpoints, restore
from .description import check_names_are_utf8, describe
from .evaluate_run import write_report
from .features import features
from .folder import RunFolder
from .leakage import TOLERANCE, count_seen, training_hashes
from .progress import Progress
from .resolve_settings import new_settings, read_arguments, resumed_settings, with_validation
from .result import Result
from .run_data import check_fit, update_sources
from .weight_source import WeightSource


def train(model: Model, data: Dataset | str | Path, *, out: str | Path | None = None, resume: bool = False,
          threads: int | None = None, progress: bool = True, command: str | None = None,
          **settings: Unpack[TrainingSettings]) -> Result:
    """Train a model on data, in place.

    Parameters
    ----------
    model : Model
        The model to train. Its weights change.
    data : Dataset, str or Path
        A data set, or the argument of `load_data`: "digits", "mnist", a folder, a file.
    out : str or Path, optional
        Folder of the run: config.json, log, checkpoints, final weights and report. Without it nothing is written.
    resume : bool
        Continue from the checkpoint in `out`. The final weights are bit for bit those of an uninterrupted run. Settings
        that are left out are those of the run.
    threads : int, optional
        Number of threads (default: the cores of this process). It does not change the result.
    progress : bool
        Whether to show a progress bar on stderr, or without a terminal one line for each epoch.
    command : str, optional
        The command that started the run, for its report.
    **settings
        Training settings such as `epochs=10, lr=1e-3`; `help(minivit.TrainingSettings)` lists them. Settings that are
        left out take the value of the preset for the data, else the default.

    Returns
    -------
    Result
        The trained model, its test accuracy, and the log.

    Raises
    ------
    TypeError
        For an unknown setting.
    ValueError
        For settings, images or a folder that do not fit.
    FloatingPointError
        If the loss is not finite any more. The last checkpoint is kept.
    OSError
        If the folder cannot be written. The last checkpoint is kept.
    Interrupted
        If SIGINT or SIGTERM asks the process to stop and there is a folder, after saving a checkpoint. It is a
        KeyboardInterrupt.

    Examples
    --------
    >>> import minivit
    >>> model = minivit.create_model("vit_mini_patch2_8")
    >>> result = minivit.train(model, "digits", epochs=1, progress=False)
    >>> result.steps
    22
    """
    given, other = read_arguments(settings)
    run = RunFolder(out) if out is not None else None
    if resume and run is None:
        raise ValueError("resume needs the folder of the run: pass it as out")
    seed = given.get("seed", run.seed if run and resume else 0)
    dataset = data if isinstance(data, Dataset) else load_data(data, seed=seed)
    check_fit(model, dataset)
    resumed = run if resume else None
    loop, parts = _make_loop(model, dataset, resumed, given, other, threads)
    if run:
        _open(run, loop, model, dataset, command, resume)
    if loop.settings["probe"]:
        needed = {part: images for part, (images, _) in parts.parts.items() if part != "train" or not loop.ended}
        use_features(loop, parts, features(model, needed, run, threads, other["checkpoint_seconds"], progress))
    return _run(loop, model, dataset, parts, run, threads, progress, other)


def _make_loop(model: Model, data: Dataset, resumed: RunFolder | None, given: Mapping[str, Any],
               other: Mapping[str, Any], threads: int | None) -> tuple[Loop, Dataset]:
    """The loop for the complete settings, and the data with their validation part. other: the settings not stored."""
    minutes, recompute = other["minutes"], other["recompute"]
    settings = (resumed_settings(resumed, model, data, given, minutes) if resumed
                else new_settings(model, data, given, minutes))
    _check_other(settings, other, data)
    parts = with_validation(data, settings)
    if minutes is not None:
        settings["steps"] = steps_in_minutes(minutes, model, parts, settings, threads, recompute)
    return make_loop(model, parts, settings, threads, recompute), parts


def _check_other(settings: Mapping[str, Any], other: Mapping[str, Any], data: Dataset) -> None:
    """Raise ValueError if the teacher has seen test images, or a probe should recompute."""
    if settings["teacher"]:
        WeightSource.from_record(settings["teacher"], "--teacher").check_unseen(data)
    if settings["probe"] and other["recompute"]:
        raise ValueError("a probe has no blocks to recompute: leave out recompute")


def _open(run, loop, model, data, command, resume):
    """Create the folder of a new run, or put the loop into the state of a run that is resumed."""
    if resume:
        update_sources(run, loop.settings, data)
        restore(run, loop)
    else:
        config = describe(model, data, loop.settings, command)
        check_names_are_utf8(config, data, run.path)
        run.create(config, training_hashes(data))


def _run(loop: Loop, model: Model, data: Dataset, parts: Dataset, run: RunFolder | None, threads: int | None,
         progress: bool, other: Mapping[str, Any]) -> Result:
    """Run the loop to its end, write the results to the folder, and return them."""
    steps, seconds = loop.trainer.optimiser.t, loop.progress.seconds
    seen = count_seen(run, data.test_images) if run else None
    checkpoints = Checkpoints(run, loop, other["checkpoint_seconds"], other["checkpoint_steps"])
    with checkpoints, Progress(progress, loop, parts, _leakage_note(data, seen)) as display:
        loop.after_step = [display.after_step, checkpoints.after_step]
        loop.after_epoch = [display.after_epoch, checkpoints.after_epoch]
        loop.run()
        loop.finish()
        test = add_flip_evaluation(loop.scores["test"], model, loop.settings, data.test_images, data.test_labels,
                                   threads)
        result = _result(loop, model, replace(test, seen=seen), steps, seconds)
        if run:
            _write_results(run, result, data)
    return result


def _result(loop: Loop, model: Model, test: Evaluation, steps_before: int, seconds_before: float) -> Result:
    """The result of a loop that had done some steps before this call."""
    settings, records, steps, seconds = loop.settings, loop.records, loop.trainer.optimiser.t, loop.progress.seconds
    images = (steps - steps_before) * settings["batch_size"]
    weight_of_labels = 1 - settings["distillation_weight"] if settings["teacher"] else 1
    return Result(
        model, test, loss=records[-1]["loss"] if records else float("nan"), steps=steps, seconds=seconds,
        images_per_second=images / max(seconds - seconds_before, 1e-9), validation=loop.scores.get("val"),
        resumed=steps_before > 0, records=records,
        loss_floor=weight_of_labels * smoothing_floor(settings["label_smoothing"], model.classes),
        kept_record=best_record(records) if records and loop.best_weights is not None else -1)


def _leakage_note(data, seen):
    """A note if more test images than expected are also training images; None otherwise."""
    if (seen or 0) <= TOLERANCE * len(data.test_images):
        return None
    return (f"note: {seen} of the {len(data.test_images)} test images are also training or validation images: the test "
            "accuracy will be higher than on new images")


def _write_results(run: RunFolder, result: Result, data: Dataset) -> None:
    """Write the final weights, the curve and the report."""
    from . import curve  # here, because importing matplotlib takes long

    run.write_model(result.model)
    if result.records:
        curve.plot_curve(result.records, run.curve_file, result.loss_floor, result.kept_record)
    run.features_file.unlink(missing_ok=True)
    write_report(run, result.model, data, result.test)
