"""Checkpoints: save the state of a training at intervals, and when the process is asked to stop; restore it.

The first SIGINT (Ctrl-C) or SIGTERM lets the current step finish, saves, and raises `Interrupted`. A second one stops
at once, and the run then resumes from the checkpoint before. A process that is killed loses only the steps since the
last checkpoint, because no file is ever half written (see `common/files.py`).
"""

import signal
import threading
import time
from types import FrameType, TracebackType
from typing import Any

import numpy as np

from ..common.files import remove_temporaries
from ..parallel.ranks.alone import ALONE, Alone, RankError
from ..training.loop import Loop
from ..training.schedule import decay_start
from .folder import RunFolder

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupted(KeyboardInterrupt):
    """Training was asked to stop. The text says how to resume; `signal` is the number of the signal."""

    def __init__(self, text: str, signal: int = signal.SIGINT) -> None:
        super().__init__(text)
        self.signal = int(signal)


class StopRequest:
    """A context in which SIGINT and SIGTERM only set `signal`, the number of the first signal; None before it.

    A second signal raises KeyboardInterrupt at once.

    Parameters
    ----------
    active : bool
        If False, signals act as usual.
    ranks : Alone
    """

    def __init__(self, active: bool = True, ranks: Alone = ALONE) -> None:
        self.active, self.ranks = active, ranks
        self.signal: int | None = None
        self._handlers: dict[signal.Signals, Any] = {}

    def __enter__(self) -> "StopRequest":
        # other threads may not set handlers
        if self.active and threading.current_thread() is threading.main_thread():
            handlers = {number: signal.getsignal(number) for number in SIGNALS}
            # Ignored signals stay ignored (Ctrl-C in a background job). Handlers that are not Python's stay in place.
            self._handlers = {number: handler for number, handler in handlers.items()
                              if handler not in (signal.SIG_IGN, None)}
            for number in self._handlers:
                signal.signal(number, self._ask)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)

    def agree(self) -> int | None:
        """Return `signal`, or that of another rank. All ranks call this at the same point and get the same answer."""
        if self.active:
            asked = max(self.ranks.allgather_number(self.signal or 0)) or None
            self.signal = self.signal or asked
            return asked
        return self.signal

    def _ask(self, number: int, _: FrameType | None) -> None:
        if self.signal is not None:
            raise KeyboardInterrupt
        self.signal = number


class Checkpoints:
    """A context that saves the checkpoints of one training and in which signals ask it to stop.

    Parameters
    ----------
    run : RunFolder or None
        None to save nothing; signals then act as usual.
    loop : Loop
    seconds : float
    steps : int, optional
        A checkpoint is due this many seconds or steps after the last one, whichever comes first.
    ranks : Alone
        Those that train the run. Only rank 0 writes, and if one is asked to stop, all stop after the same step.
    """

    def __init__(self, run: RunFolder | None, loop: Loop, seconds: float, steps: int | None = None,
                 ranks: Alone = ALONE) -> None:
        self.run, self.loop, self.seconds, self.steps, self.ranks = run, loop, seconds, steps, ranks
        self._request = StopRequest(active=run is not None, ranks=ranks)

    def __enter__(self) -> "Checkpoints":
        self._mark()
        self._request.__enter__()
        return self

    def __exit__(self, _: type | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        """Restore the signal handlers, and add to an error how to resume."""
        self._request.__exit__()
        if not self.run or isinstance(error, Interrupted):
            return
        if isinstance(error, KeyboardInterrupt):
            text = f"stopped at once; resume from the last checkpoint with: {self.run.resume_command()}"
            raise Interrupted(text, self._request.signal or signal.SIGINT) from None
        if isinstance(error, FloatingPointError | OSError | RankError) and self.run.checkpoint_file.exists():
            error.add_note(f"the last good state is kept in {self.run.path}; resume with: {self.run.resume_command()}")

    def after_step(self, loop: Loop) -> None:
        """Save if a checkpoint is due. Raises `Interrupted`, after saving, if the process was asked to stop."""
        asked, step = self._request.agree(), loop.trainer.optimiser.t
        if self.run and loop.settings["schedule"] == "wsd" and step == decay_start(loop.settings) and self.ranks.first:
            self.run.write_checkpoint(loop.state(), step, loop.progress, stable=True)
        if self.run and (asked is not None or self._due()):
            self.save()
            self._stop_if(asked)

    def after_epoch(self, loop: Loop) -> None:
        """Write the log and a checkpoint. Raises as `after_step`; a signal after the last step lets the run finish."""
        if self.run:
            # first: `restore` removes what the checkpoint lacks
            if self.ranks.first:
                self.run.write_log(loop.records)
            self.save()
            asked = self._request.agree()
            if loop.trainer.optimiser.t < loop.settings["steps"]:
                self._stop_if(asked)

    def save(self) -> None:
        """Write a checkpoint.

        Raises FloatingPointError if the state is not finite, and keeps the last checkpoint; OSError.
        """
        assert self.run is not None
        state, step = self.loop.state(), self.loop.trainer.optimiser.t
        if not all(np.isfinite(array).all() for array in state.values()):
            raise FloatingPointError(f"step {step - 1}: the update made weights that are not finite; try a lower "
                                     "learning rate")
        if self.ranks.first:
            self.run.write_checkpoint(state, step, self.loop.progress)
        self._mark()

    def _due(self):
        return ((self.steps is not None and self.loop.trainer.optimiser.t - self._step >= self.steps)
                or time.monotonic() - self._time >= self.seconds)

    def _mark(self):
        """Remember when the last checkpoint was."""
        self._step, self._time = self.loop.trainer.optimiser.t, time.monotonic()

    def _stop_if(self, number):
        """Raise `Interrupted` if a signal asked the process to stop; call it after `save`."""
        if number is not None and self.run:
            self.ranks.allgather_number(0)                            # nobody leaves before rank 0 has saved
            name, command = signal.Signals(number).name, self.run.resume_command()
            raise Interrupted(f"stopped by {name} after step {self._step}, which is saved; resume with: {command}",
                              number)


def load_checkpoint(run: RunFolder, loop: Loop) -> None:
    """Put a loop into the state of the checkpoint. Raises FileNotFoundError or ValueError, and then changes nothing."""
    tensors, step, progress = run.read_checkpoint()
    state = loop.state()
    if ({name: (array.shape, array.dtype) for name, array in tensors.items()}
            != {name: (array.shape, array.dtype) for name, array in state.items()}):
        raise ValueError(f"{run.checkpoint_file} is the checkpoint of another model")
    if not 0 <= progress.steps <= step <= loop.settings["steps"]:
        raise ValueError(f"{run.checkpoint_file} is damaged: step {step} is not one of the {loop.settings['steps']} "
                         "steps")
    for name, array in state.items():
        np.copyto(array, tensors[name])
    loop.trainer.optimiser.t, loop.progress = step, progress


def restore(run: RunFolder, loop: Loop, write: bool = True) -> None:
    """Put a loop into the state of the checkpoint, with its records; without a checkpoint it stays at the start.

    Records that are newer than the checkpoint, and temporary files, are removed. So a folder that cannot be written is
    noticed before the first step. Raises ValueError if the run has finished and its checkpoint is gone; errors as
    `load_checkpoint` and `RunFolder.read_log`; OSError. write: False to leave the folder as it is.
    """
    if run.model_file.exists() and not run.checkpoint_file.exists():
        raise ValueError(f"{run.path} is finished, and its checkpoint is gone: there is nothing to resume")
    if run.checkpoint_file.exists():
        load_checkpoint(run, loop)
    # The epoch of the checkpoint may have a record already, but will be finished again.
    loop.records = run.read_log(loop.trainer.optimiser.t - loop.progress.steps)
    if write:
        remove_temporaries(run.path)
        run.write_log(loop.records)
