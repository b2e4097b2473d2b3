"""What `gradcheck` found, as a table and as a picture."""

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .differences import central, richardson


@dataclass(frozen=True)
class Row:
    """The verdict on one tensor.

    entries: how many were measured one by one (or along how many directions, by a filter), of `size`. kinks: how many
    were skipped. error: the largest. index, numeric, analytic: of the entry that has it in a wrong tensor, of the
    largest in a right one (an empty index: of a direction). unseen: whether entries were left that no direction could
    see, for a kink. hint: what the error looks like, for the first few. order: of the Taylor remainder, for method
    "taylor".
    """

    tensor: str
    entries: int
    size: int
    method: str
    error: float
    index: tuple[int, ...]
    numeric: float
    analytic: float
    ok: bool
    kinks: int = 0
    hint: str = ""
    order: float = math.nan
    unseen: bool = False

    @property
    def verdict(self):
        """In words: ok, or where it is wrong."""
        kinks = (f", {self.kinks} at kinks" if self.kinks else "") + (", the rest not seen" if self.unseen else "")
        if self.ok:
            return f"ok{kinks}" + ("" if math.isnan(self.order) else f", order {self.order:.2f}")
        if 2 * self.kinks > self.entries:
            return f"NOT CHECKED{kinks}: move the inputs"
        return f"WRONG at {self.index}{kinks}" if self.index else f"WRONG along a direction{kinks}" if self.size > 1 else f"WRONG{kinks}"


def table_lines(groups):
    """A table of rows: a list of lines. groups: pairs (label, rows); without labels there is no column for them."""
    label_width = max((len(label) for label, _ in groups), default=0)
    name_width = max(len("tensor"), *(len(row.tensor) for _, rows in groups for row in rows))
    head = f"{'':{label_width}}  " if label_width else ""
    lines = [f"{head}{'tensor':{name_width}}  {'entries':>11}  {'method':11}  {'error':>7}  {'numeric':>12}  "
             f"{'analytic':>12}"]
    for label, rows in groups:
        for i, row in enumerate(rows):
            head = f"{'' if i else label:{label_width}}  " if label_width else ""
            entries = f"{row.entries} direction" if row.method in ("directional",
                                                                   "taylor") else f"{row.entries}/{row.size}"
            lines.append(f"{head}{row.tensor:{name_width}}  {entries:>11}  {row.method:11}  {row.error:7.1e}  "
                         f"{row.numeric:12.5g}  {row.analytic:12.5g}  {row.verdict}")
            if row.hint:
                lines.append(f"{'':{len(head)}}    hint: {row.hint}")
    return lines


@dataclass(frozen=True)
class Report:
    """What `gradcheck` found: `ok`, `worst`, `rows` (one per tensor), `notes`;

    `str(report)` is a table, `report.plot()` a picture.
    """

    rows: tuple[Row, ...]
    tolerance: float
    method: str
    notes: tuple[str, ...] = ()
    _trial: Any = field(default=None, repr=False, compare=False)

    @property
    def ok(self) -> bool:
        """Whether every tensor passed."""
        return all(row.ok for row in self.rows)

    @property
    def worst(self) -> float:
        """The largest error of all tensors."""
        return max(row.error for row in self.rows)

    def __str__(self):
        failed = sum(not row.ok for row in self.rows)
        verdict = "all tensors pass" if self.ok else f"{failed} of {len(self.rows)} tensors FAIL"
        notes = [f"note: {note}" for note in self.notes]
        summary = f"{verdict}: worst error {self.worst:.1e}, tolerance {self.tolerance:.0e}"
        return "\n".join([*table_lines([("", self.rows)]), *notes, summary])

    def errors_by_step(self, row):
        """Steps (S,), relative to the tensor, and the errors (S,) of the central difference and of Richardson
        extrapolation at one entry.

        The entry is the row's, or the largest of the gradient if the row is of a direction. Errors are relative to the
        gradient there.
        """
        trial = self._trial
        gradient = trial.gradients[row.tensor]
        index = row.index if row.index or not gradient.ndim else np.unravel_index(
            int(np.argmax(np.abs(gradient))), gradient.shape)
        line = trial.line(row.tensor, int(np.ravel_multi_index(index, gradient.shape)) if gradient.ndim else 0)
        scale, analytic = trial.scale(row.tensor), float(gradient[index])
        size = max(abs(analytic), abs(row.numeric) if row.index else 0.0) or 1.0
        steps = 10.0 ** np.arange(-13, 0.01, 1 / 3)
        slopes = [[slope(line, h * scale, trial.dy) for h in steps] for slope in (central, richardson)]
        return steps, *(np.maximum(np.abs(np.array(found) - analytic) / size, 1e-17) for found in slopes)

    def plot(self, path=None, axes=None, tensors=4):
        """Draw the error against the step, for the tensors that fail and those with the largest errors -> a matplotlib
        Figure.

        A right gradient gives a V: with a larger step the truncation error rises, as h**2 for the central difference
        and as h**4 for Richardson extrapolation; with a smaller one, round-off. (Where the forward is linear in a
        tensor, only round-off is left.) A wrong one stays at its error. path: where to save the figure, if anywhere: as
        its name ends (.png, .svg, .pdf), or else as PNG. axes: to draw on, instead of a figure of its own. Runs the
        forward some 240 times for each tensor. Raises ValueError for an ending that matplotlib does not know, before
        that; OSError.
        """
        # here, because matplotlib takes its time to import
        from ..common.figures import new_figure, picture_format, save

        if path is not None:
            picture_format(path)
        if axes is None:
            axes = new_figure(7, 4.2).subplots()
        for i, row in enumerate(sorted(self.rows, key=lambda row: (row.ok, -row.error))[:tensors]):
            steps, error_of_central, error_of_richardson = self.errors_by_step(row)
            width, label = (1.5, row.tensor) if row.ok else (2.5, f"{row.tensor}: wrong")
            axes.loglog(steps, error_of_central, color=f"C{i}", lw=width, label=label)
            axes.loglog(steps, error_of_richardson, color=f"C{i}", lw=width, ls="--")
        axes.axhline(self.tolerance, color="0.5", lw=1, ls=":")
        axes.text(steps[0], 0.5 * self.tolerance, "tolerance", color="0.4", fontsize=8, va="top")
        axes.set(xlabel="step h, relative to the tensor (solid: central, dashed: "
                        "Richardson)", ylabel="relative error", ylim=(1e-15, 10))
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False, loc="lower left")
        if path is not None:
            save(axes.figure, path)
        return axes.figure
