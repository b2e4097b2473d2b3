"""Train a model on data: settings, folder, loop, checkpoints and report joined together."""

import functools
import inspect
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar, Unpack

from ..data import Dataset, load_data, loading_without_labels
from ..models.masked_autoencoder import MaskedAutoencoder
from ..models.model import Model
from ..parallel.prediction import SharedPrediction
from ..parallel.ranks.alone import Alone
from ..parallel.ranks.mpi import ranks_of
from ..training.flip_average import add_flip_evaluation
from ..training.loop import Loop
from ..training.norms_by_layer import log_norms
from ..training.settings import TrainingSettings, check_names
from .build_loop import build_loop, images_of, steps_in_minutes
from .checkpoints import Checkpoints, restore
from .config import check_names_are_utf8, describe
from .data_notes import data_notes
from .extend import extend
from .folder import RunFolder
from .leakage import TOLERANCE, count_seen
from .pretrained.probe_features import features
from .pretrained.teacher import teacher_sources
from .progress import Progress
from .results.report import write_report
from .results.result import Result, result_of
from .run_data import check_fit, update_sources
from .run_settings import length_note, new_settings, read_arguments, resumed_settings, training_data
from .same_everywhere import SameWeights, WeightsOfFirst, check_same_checkpoint, check_same_everywhere, shared_folder
from .shared_data import load_once
from .tensorboard_log import TensorBoardLog, tensorboard_writer

Function = TypeVar("Function", bound=Callable)


def model_first(function: Function) -> Function:
    """Decorate `train` so that a call without a model and data says so, and which settings are unknown.

    It also decorates `pretrain`.
    """
    @functools.wraps(function)
    def checked(*arguments: Any, **named: Any) -> Any:
        given = dict(zip(("model", "data"), arguments, strict=False)) | named
        if isinstance(given.get("model"), Model) and "data" in given:
            return function(*arguments, **named)
        found = [f"{_shown(given[name])} as the {name}" if name in given else f"no {name}"
                 for name in ("model", "data")]
        error = TypeError(f"{function.__name__} takes the model first, then the data: found {' and '.join(found)}, "
                          "expected both, pass for example minivit.create_model('vit_mini', image_size=8), 'digits'")
        try:
            check_names([name for name in named if name not in inspect.signature(function).parameters])
        except TypeError as unknown:
            error.add_note(str(unknown))
        raise error

    return checked  # type: ignore[return-value]


def _shown(argument):
    """A name or path as it is; of anything else its class."""
    return repr(argument) if isinstance(argument, str | Path) else type(argument).__name__


@model_first
def train(model: Model, data: Dataset | str | Path, *, out: str | Path | None = None, resume: bool = False,
          threads: int | None = None, progress: bool = True, command: str | None = None,
          on_start: Callable[[], None] | None = None, callback: Callable[[dict[str, Any]], None] | None = None,
          mpi: Any = None, **settings: Unpack[TrainingSettings]) -> Result:
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
        that are left out are those of the run. A larger number of epochs extends a run with the schedule "wsd".
    threads : int, optional
        Number of threads (default: the cores of this process). It does not change the result.
    progress : bool
        Whether to show a progress bar on stderr, or without a terminal one line for each epoch.
    command : str, optional
        The command that started the run, for its report.
    on_start : callable, optional
        Called once without arguments, when everything is checked and the training starts.
    callback : callable, optional
        Called after each epoch with its record, a dict as in `log.jsonl`: epoch, step, loss, accuracy, test_accuracy
        and others. The checkpoint is saved before. An exception of the callback ends the training.
    mpi : mpi4py.MPI.Intracomm, optional
        The communicator of the processes that train together, which all make this call. The weights have the same bits
        as those of one process. Only rank 0 writes to `out` and shows progress.
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
        If the model or the data are missing, or for an unknown setting.
    ValueError
        For settings, images or a folder that do not fit.
    FloatingPointError
        If the loss is not finite any more. The last checkpoint is kept.
    OSError
        If the folder cannot be written. The last checkpoint is kept.
    RankError
        If another rank had an error. It is a RuntimeError.
    Interrupted
        At SIGINT or SIGTERM, if there is a folder, after saving a checkpoint. It is a KeyboardInterrupt.

    Examples
    --------
    >>> import minivit
    >>> model = minivit.create_model("vit_mini_patch2_8")
    >>> result = minivit.train(model, "digits", epochs=1, progress=False)
    >>> result.steps
    22
    """
    run = RunFolder(out) if out is not None else None                 # first: `ranks_of` starts what must be closed
    ranks = ranks_of(mpi)
    with ranks.together(), shared_folder(ranks, run):
        training = _Training(model, data, run, resume, threads, settings, ranks, callback)
        if run:
            training.open(run, command)
        if on_start:
            on_start()
        return training.train(progress and ranks.first)


class _Training:
    """One call of `train`: the model, the data, the complete settings, the loop, and the folder of the run if any."""

    def __init__(self, model, data, run, resume, threads, arguments, ranks: Alone, callback):
        given, self.other = read_arguments(arguments)
        if self.other["log"] == "tensorboard":
            tensorboard_writer()                                      # raises if it is not installed
            if run is None:
                raise ValueError("log=tensorboard writes to the folder of the run: pass one as out=...")
        self.callback = callback
        if resume and run is None:
            raise ValueError("there is no run to resume without its folder: pass it as out=...")
        self.model, self.threads, self.run, self.ranks = model, ranks.threads(threads), run, ranks
        self.resumed = run if resume else None
        seed = given.get("seed", self.resumed.seed if self.resumed else 0)
        pretrains = bool(given.get("mask_ratio")) or (self.resumed is not None and not self.resumed.classifies)
        if not isinstance(data, Dataset):
            how = {"seed": seed} | (loading_without_labels(data) if pretrains else {})
            data = load_once(ranks, lambda: load_data(data, **how))
        self.data = data
        check_fit(model, self.data, labelled=not pretrains)
        settings = self._complete_settings(given)
        self.parts = training_data(self.data, settings)
        self.length_note = None if self.resumed else length_note(settings, given, self.parts)
        ranks.check_lanes(settings["lanes"])
        self.round_alike = check_same_everywhere(ranks, model, self.data, settings)
        if self.other["minutes"] is not None:
            settings["steps"] = steps_in_minutes(self.other["minutes"], model, self.parts, settings, self.threads,
                                                 self.other["recompute"], ranks)
        self.loop = build_loop(model, self.parts, settings, self.threads, self.other["recompute"], ranks)

    def _complete_settings(self, given):
        """The complete settings, checked with those that are not stored."""
        arguments = self.model, self.data, given, self.other["minutes"]
        settings = resumed_settings(self.resumed, *arguments) if self.resumed else new_settings(*arguments)
        self.extends = self.resumed is not None and settings["steps"] != self.resumed.settings["steps"]
        for teacher in teacher_sources(settings):
            teacher.check_unseen(self.data)
        if settings["probe"] and self.other["recompute"]:
            raise ValueError("a probe has no blocks to recompute: leave out recompute")
        return settings

    def open(self, run, command):
        """Create the folder of a new run, or put the loop into the state of a run that is resumed."""
        run.ranks = self.ranks.size
        if self.resumed:
            if self.extends:
                if self.ranks.first:
                    extend(run, self.loop.settings, command)
                self.ranks.broadcast(None)                            # the others read what the first has written
            if self.ranks.first:
                update_sources(run, self.loop.settings, self.data)
            restore(run, self.loop, write=self.ranks.first)
            check_same_checkpoint(self.ranks, run, self.loop)
        elif self.ranks.first:
            config = describe(self.model, self.data, self.loop.settings, command)
            check_names_are_utf8(config, self.data, run.path)
            run.create(config, self.data.trained_hashes)
        command = self.ranks.broadcast(run.resume_command() if self.ranks.first else None)
        self.ranks.if_killed(f"the last checkpoint is good; resume with: {command}")

    def train(self, progress: bool) -> Result:
        """Run the loop to its end, write the results to the folder, and return them."""
        loop, run, data, inputs = self.loop, self.run, self.data, self._inputs(progress)
        steps, seconds = loop.trainer.optimiser.t, loop.progress.seconds
        seen = count_seen(run, data.test_images) if run and self.ranks.first else None
        notes = []
        if self.ranks.first and (run or progress) and not loop.settings["mask_ratio"]:
            notes = [*_leakage_note(data, seen), *data_notes(data)]
        checkpoints = Checkpoints(run, loop, self.other["checkpoint_seconds"], self.other["checkpoint_steps"],
                                  self.ranks)
        with checkpoints, self._progress(progress, notes) as display:
            same_weights = [SameWeights(self.ranks, loop)] if self.round_alike and self.ranks.size > 1 else []
            loop.after_step = [display.after_step, *same_weights, checkpoints.after_step]
            loop.after_epoch = [display.after_epoch, checkpoints.after_epoch]
            if not self.round_alike:
                loop.after_epoch.insert(0, WeightsOfFirst(self.ranks))
            if self.other["log_norms"]:
                loop.after_epoch.insert(0, log_norms)                 # before the checkpoint writes the log
            loop.after_epoch += self._loggers()
            loop.run(inputs)
            loop.finish(inputs)
            result = result_of(loop, self.model, self._test(seen), steps, seconds)
            if run and self.ranks.first:
                _write_results(run, result, loop, data, notes)
        return result

    def _test(self, seen):
        """The final scores on the test images. After pre-training, give the model the weights of the encoder first."""
        loop, data = self.loop, self.data
        if isinstance(loop.trainer.model, MaskedAutoencoder):
            loop.trainer.model.give_weights(self.model)
            return loop.scores.get("test")
        test = add_flip_evaluation(loop.scores["test"], SharedPrediction(self.model, self.ranks), loop.settings,
                                   data.test_images, data.test_labels, self.threads)
        return replace(test, seen=seen)

    def _loggers(self):
        """The functions that log an epoch elsewhere."""
        if not self.ranks.first:
            return []
        found = [lambda loop: self.callback(dict(loop.records[-1]))] if self.callback else []
        if self.other["log"] == "tensorboard":
            found.append(TensorBoardLog(self.run.path / "tensorboard", self.loop.records))
        return found

    def _progress(self, show, notes):
        """What shows the progress. notes: on the data."""
        notes = [*notes, self.length_note] if self.length_note else notes
        return Progress(show, self.loop, self.parts, self.run.path if self.run else None, notes)

    def _inputs(self, progress):
        """The images of each part, or for a probe their features; of a loop that has ended, only to evaluate."""
        images = images_of(self.parts)
        if not self.loop.settings["probe"]:
            return images
        needed = {part: images[part] for part in images if part != "train" or not self.loop.ended}
        return features(self.model, needed, self.run, self.threads, self.other["checkpoint_seconds"], progress,
                        self.ranks)


def _leakage_note(data, seen):
    """A note if more test images than expected are also training images; [] otherwise."""
    if (seen or 0) <= TOLERANCE * len(data.test_images):
        return []
    return [f"{seen} of the {len(data.test_images)} test images are also training or validation images: the test "
            "accuracy will be higher than on new images"]


def _write_results(run: RunFolder, result: Result, loop: Loop, data: Dataset, notes: Sequence[str]) -> None:
    """Write the final weights, the curve, and the report, or after pre-training the figure of reconstructions."""
    from .results import curve, reconstruction_figure  # here, because importing matplotlib takes long

    run.write_model(result.model)
    if result.records:
        curve.plot_curve(result.records, run.curve_file, result.loss_floor, result.kept_record)
    if not run.classifies:
        images = data.test_images if len(data.test_images) else data.train_images
        reconstruction_figure.plot_reconstructions(loop.trainer.model, images, run.reconstruction_file)
        return
    run.features_file.unlink(missing_ok=True)
    write_report(run, result.model, data, result.test, notes=notes)
