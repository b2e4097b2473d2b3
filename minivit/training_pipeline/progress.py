"""How a training shows its progress: a bar on a terminal or in a notebook, else one line for each epoch."""

import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from tqdm import tqdm

from ..data import Dataset
from ..data.load import is_named
from ..kernel import on_first_compilation
from ..training.loop import Loop
from .data_notes import count_text


def progress_bar(show: bool, **options: Any) -> tqdm:
    """Return a tqdm bar, which is disabled unless `show` is true and stderr is a terminal or belongs to a notebook.

    options: as for `tqdm`. In a notebook it is a widget if ipywidgets is installed, else text.
    """
    if not (show and "ipykernel" in sys.modules):
        return tqdm(disable=None if show else True, **options)        # None: disabled where there is no terminal
    try:
        import ipywidgets  # noqa: F401
        from tqdm.notebook import tqdm as notebook_tqdm
    except ImportError:
        return tqdm(disable=False, file=sys.stderr, **(options | {"dynamic_ncols": False, "ncols": 100}))
    return notebook_tqdm(**options)


class Progress:
    """A context that shows the progress of a loop.

    Parameters
    ----------
    show : bool
        False to show nothing.
    loop : Loop
    data : Dataset
    out : path, optional
        The folder of the run.
    notes : list of str
        Lines to show first, beside a description of the data, the model and the folder.
    """

    def __init__(self, show: bool, loop: Loop, data: Dataset, out: Path | None = None,
                 notes: Sequence[str] = ()) -> None:
        self.show, self.loop, self.pretrains = show, loop, bool(loop.settings["mask_ratio"])
        size, done = loop.settings["batch_size"], loop.trainer.optimiser.t
        self.bar = progress_bar(show, total=loop.settings["steps"] * size, initial=done * size, unit=" images",
                                unit_scale=True, dynamic_ncols=True)
        self.lines = show and bool(self.bar.disable)
        for line in [*(f"note: {note}" for note in notes), *self._opening(data, out)] if show else []:
            self.bar.write(line, file=sys.stderr)
        self.exits = ExitStack()

    def __enter__(self) -> "Progress":
        self.exits.callback(self.bar.close)
        if self.show:
            self.exits.enter_context(on_first_compilation(self._before_compiling))
        return self

    def __exit__(self, *_: object) -> None:
        self.exits.close()

    def _before_compiling(self):
        """Say why the first step takes long."""
        self.bar.write("compiling kernels for this model: about 10 s, the first time only", file=sys.stderr)

    def _opening(self, data, out):
        """What will be trained, and where it is written, in one line; and how image files were prepared in another."""
        if self.loop.ended:
            return ["this run is finished: nothing is left to do"]
        of_head = " of the head" if self.loop.settings["probe"] else ""
        counts = "" if data.source and is_named(data.source.get("source")) else f" ({count_text(data)})"
        what = f" of {data.classes} classes{counts}"
        if self.pretrains:
            what, of_head = " without labels", " with the decoder"
        lines = [f"{data.name}: {len(data.train_labels)} training and {len(data.test_labels)} test images{what}; "
                 f"{self.loop.trainer.model.vector.size:,} parameters{of_head}" + (f"; run: {out}" if out else "")]
        return lines + ([f"prepared: {'; '.join(data.preparation)}"] if data.preparation else [])

    def after_step(self, loop: Loop) -> None:
        """Update the bar."""
        progress, size = loop.progress, loop.settings["batch_size"]
        shown = {"epoch": f"{loop.epoch + 1}/{loop.epochs}", "loss": f"{progress.loss / progress.steps:.3f}"}
        last, form = loop.records[-1] if loop.records else {}, "{:.3f}" if self.pretrains else "{:.1%}"
        if not self.pretrains:
            shown["train"] = f"{progress.correct / (size * progress.steps):.1%}"
        test = last.get("test_loss" if self.pretrains else "test_accuracy")
        self.bar.set_postfix(shown | {"test": "-" if test is None else form.format(test)}, refresh=False)
        self.bar.update(size)

    def after_epoch(self, loop: Loop) -> None:
        """Without a bar, write a line on the epoch."""
        if not self.lines:
            return
        record, steps = loop.records[-1], loop.settings["steps"]
        parts = {"train": "accuracy", "validation": "val_accuracy", "test": "test_accuracy"}
        scores = [f"loss {record['loss']:.3f}"]
        scores += [f"{part} {record[name]:.1%}" for part, name in parts.items() if name in record]
        scores += [f"test loss {record['test_loss']:.3f}"] if "test_loss" in record else []
        remaining = record["seconds"] * (steps - record["step"]) / record["step"]
        self.bar.write(f"epoch {record['epoch']}/{loop.epochs}: {', '.join(scores)}; "
                       f"{tqdm.format_interval(record['seconds'])} of training, {tqdm.format_interval(remaining)} "
                       "remaining", file=sys.stderr)
