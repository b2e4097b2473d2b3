"""When the state of training is saved: by interval, and when the process is asked to stop.

The first SIGINT (Ctrl-C) or SIGTERM lets the step in hand end, saves, and raises `Interrupted`; a second one stops at once, and then the
run goes on from the checkpoint before. A process that is killed outright loses the steps since the last checkpoint and nothing else,
because files are written whole (see `files.py`).
"""

import signal
import threading
import time
from dataclasses import dataclass

import numpy as np

from ..common.checks import check_number

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupted(KeyboardInterrupt):
    """Training was asked to stop. The text says where it stands and how to go on; `signal` is the number of the signal."""

    def __init__(self, text, signal=signal.SIGINT):
        super().__init__(text)
        self.signal = int(signal)


@dataclass
class Progress:
    """What the epoch in hand has come to after `steps` of its steps, and the `seconds` that all steps of the run have taken."""

    steps: int = 0
    loss: float = 0.0           # sum over these steps
    correct: int = 0
    grad_norm: float = 0.0      # of the last of them
    seconds: float = 0.0

    def add(self, trainer, loss, seconds):
        """Count the step that `trainer` has just done."""
        self.steps += 1
        self.loss += loss
        self.correct += trainer.correct
        self.grad_norm = trainer.grad_norm
        self.seconds += seconds


class StopRequest:
    """From `with` to the end of its block SIGINT and SIGTERM only ask to stop: `signal` is the number of the first, None before it.

    A second one raises KeyboardInterrupt at once. active: if not, signals do what they always do.
    """

    def __init__(self, active=True):
        self.active, self.signal = active, None
        self._handlers = {}

    def __enter__(self):
        if self.active and threading.current_thread() is threading.main_thread():    # others may not set handlers
            handlers = {number: signal.getsignal(number) for number in SIGNALS}
            # What is ignored stays so (Ctrl-C, in a job of the background), and so does a handler that is not Python's.
            self._handlers = {number: handler for number, handler in handlers.items() if handler not in (signal.SIG_IGN, None)}
            for number in self._handlers:
                signal.signal(number, self._ask)
        return self

    def __exit__(self, *_):
        for number, handler in self._handlers.items():
            signal.signal(number, handler)

    def _ask(self, number, _):
        if self.signal is not None:
            raise KeyboardInterrupt
        self.signal = number


class Checkpoints:
    """The checkpoints of one run, from `with` to the end of its block, in which signals ask to stop.

    run: the folder, or None to save nothing, where signals do what they always do. A checkpoint is due `seconds` or `steps`, whichever
    comes first, after the last. Raises ValueError for an interval out of range.
    """

    def __init__(self, run, trainer, seconds, steps=None):
        self.run, self.trainer = run, trainer
        self.seconds = check_number("number of seconds between checkpoints", seconds, least=0)
        self.steps = None if steps is None else check_number("number of steps between checkpoints", steps, least=1, whole=True)
        self._request = StopRequest(active=run is not None)

    def __enter__(self):
        self._saved()
        self._request.__enter__()
        return self

    def __exit__(self, _, error, traceback):
        """Let signals do again what they did, and an error say what is left of the run."""
        self._request.__exit__()
        if not self.run or isinstance(error, Interrupted):
            return
        if isinstance(error, KeyboardInterrupt):
            text = f"stopped at once; go on from the last checkpoint with: {self.run.resume_command()}"
            raise Interrupted(text, self.signal or signal.SIGINT) from None
        if isinstance(error, FloatingPointError | OSError) and self.run.checkpoint_file.exists():
            error.add_note(f"the last good state stays in {self.run.folder}; go on with: {self.run.resume_command()}")

    @property
    def signal(self):
        """The number of the signal that asked to stop; None if none has."""
        return self._request.signal

    def after_step(self, progress):
        """Save if a checkpoint is due. Raises `Interrupted`, after saving, if the process was asked to stop."""
        if self.run and (self.signal is not None or self._due()):
            self.save(progress)
            self.stop_if_asked()

    def _due(self):
        return ((self.steps is not None and self.trainer.optimiser.t - self._step >= self.steps)
                or time.monotonic() - self._time >= self.seconds)

    def save(self, progress):
        """Write the checkpoint. Raises FloatingPointError, and keeps the last one, if the state is not finite any more; OSError."""
        optimiser = self.trainer.optimiser
        if not all(np.isfinite(vector).all() for vector in (optimiser.vector, optimiser.m, optimiser.v)):
            raise FloatingPointError(f"step {optimiser.t - 1}: the update made weights that are not finite; try a lower learning rate")
        self.run.save_checkpoint(self.trainer, progress)
        self._saved()

    def stop_if_asked(self):
        """Raise `Interrupted` if the process was asked to stop; call it behind `save`."""
        if self.signal is not None:
            name, command = signal.Signals(self.signal).name, self.run.resume_command()
            raise Interrupted(f"stopped by {name} after step {self._step}, which is saved; go on with: {command}", self.signal)

    def _saved(self):
        self._step, self._time = self.trainer.optimiser.t, time.monotonic()
