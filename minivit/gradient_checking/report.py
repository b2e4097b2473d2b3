"""The report of a gradient check: a table and a figure."""

import html
import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..common.checks import check_number
from .named_checks.named_check import OK, Finding


@dataclass(frozen=True)
class Row:
    """The result for one tensor.

    entries: how many of its `size` entries were checked; for a filter, along how many directions. kinks: how many
    entries lie at a kink, where only subgradients exist. unmeasured: how many are hidden by round-off. error: the
    largest error. index, numeric, analytic: the worst entry if the tensor is wrong, else the largest entry; the index
    is empty for a direction. unseen: whether kinks or round-off prevented the check of the entries that were not
    sampled. hint: the likely mistake, for the first few wrong tensors. order: of the Taylor remainder, for "taylor".
    problem: what else is wrong than the slope. zero_within: if the gradient is zero as far as can be measured, how far
    that is. aliases: other names of the same memory.
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
    unmeasured: int = 0
    hint: str = ""
    order: float = math.nan
    unseen: bool = False
    problem: str = ""
    zero_within: float = math.nan
    aliases: tuple[str, ...] = ()

    @property
    def verdict(self) -> str:
        """In words: ok, or where it is wrong."""
        kinks = "".join([f", {self.kinks} at kinks" if self.kinks else "",
                         f", {self.unmeasured} not measured" if self.unmeasured else "",
                         ", the rest not checked" if self.unseen else ""])
        if self.ok:
            zero = "" if math.isnan(self.zero_within) else ", zero: the result does not depend on it" if (
                not self.zero_within) else f", zero to within {self.zero_within:.0e}"
            return f"ok{zero}{kinks}" + ("" if math.isnan(self.order) else f", order {self.order:.2f}")
        if self.problem:
            return f"{self.problem}{kinks}" + (": choose other inputs" if self.problem == "NOT CHECKED" else "")
        place = f" at {self.index}" if self.index else " along a direction" if self.size > 1 else ""
        return f"WRONG{place}{kinks}"


def table_lines(groups: Any) -> list[str]:
    """Return a table of rows as lines. groups: pairs (label, rows); without labels there is no label column."""
    label_width = max((len(label) for label, _ in groups), default=0)
    name_width = max(len("tensor"), *(len(row.tensor) for _, rows in groups for row in rows))
    head = f"{'':{label_width}}  " if label_width else ""
    lines = [f"{head}{'tensor':{name_width}}  {'entries':>11}  {'method':11}  {'error':>7}  {'numeric':>12}  "
             f"{'analytic':>12}"]
    for label, rows in groups:
        for i, row in enumerate(rows):
            head = f"{'' if i else label:{label_width}}  " if label_width else ""
            is_filter = row.method in ("directional", "taylor")
            entries = f"{row.entries} direction" if is_filter else f"{row.entries}/{row.size}"
            lines.append(f"{head}{row.tensor:{name_width}}  {entries:>11}  {row.method:11}  {row.error:7.1e}  "
                         f"{row.numeric:12.5g}  {row.analytic:12.5g}  {row.verdict}")
            if row.aliases:
                lines.append(f"{'':{len(head)}}    the same memory: {', '.join(row.aliases)}")
            if row.hint:
                lines.append(f"{'':{len(head)}}    hint: {row.hint}")
    return lines


@dataclass(frozen=True, repr=False)
class Report:
    """The result of `gradcheck`. `str()` is a table, `plot()` a figure; it is true if all gradients are right.

    Attributes
    ----------
    rows : tuple of Row
        One for each tensor.
    tolerance : float
        Largest error that passes.
    method : str
        How slopes were measured.
    notes : tuple of str
        Other findings.
    inventory : dict
        What was found besides the tensors of the rows: {name: why it was not checked}.
    checks : tuple of Finding
        What the named checks found.
    """

    rows: tuple[Row, ...]
    tolerance: float
    method: str
    notes: tuple[str, ...] = ()
    inventory: dict[str, str] = field(default_factory=dict)
    checks: tuple[Finding, ...] = ()
    _comparer: Any = field(default=None, repr=False, compare=False)

    @property
    def ok(self) -> bool:
        """Whether every tensor passed, and every named check."""
        return all(row.ok for row in self.rows) and not self.failed_checks

    @property
    def failed_checks(self) -> tuple[Finding, ...]:
        """The named checks that failed."""
        return tuple(finding for finding in self.checks if not finding.ok)

    @property
    def worst(self) -> float:
        """The largest error of all tensors."""
        return max(row.error for row in self.rows)

    def __bool__(self) -> bool:
        return self.ok

    def __repr__(self) -> str:
        failed = sum(not row.ok for row in self.rows)
        verdict = f"{failed} of {len(self.rows)} tensors FAIL" if failed else f"{len(self.rows)} tensors ok"
        verdict += "".join(f", check {finding.check} FAILS" for finding in self.failed_checks)
        return f"<gradcheck: {verdict}, worst error {self.worst:.1e}>"

    def __getstate__(self) -> dict:
        """Return what pickle stores: all but the functions, so a report that was pickled cannot be drawn."""
        return self.__dict__ | {"_comparer": None}

    def _repr_html_(self) -> str:
        """The table for notebooks; wrong rows are red."""
        head = "".join(f"<th>{name}</th>" for name in ("tensor", "entries", "error", "numeric", "analytic", "verdict"))
        rows = []
        for row in self.rows:
            cells = (row.tensor, f"{row.entries}/{row.size}", f"{row.error:.1e}", f"{row.numeric:.5g}",
                     f"{row.analytic:.5g}", row.verdict + (f"; {row.hint}" if row.hint else ""))
            style = "" if row.ok else ' style="color: #c00; font-weight: bold"'
            rows.append(f"<tr{style}>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in cells) + "</tr>")
        lines = "<br>".join(map(html.escape, [repr(self), *self.check_lines()]))
        return f"<table><tr>{head}</tr>{''.join(rows)}</table><p>{lines}</p>"

    def __str__(self) -> str:
        failed = sum(not row.ok for row in self.rows)
        verdict = f"{failed} of {len(self.rows)} tensors FAIL" if failed else "all tensors pass"
        if self.failed_checks:
            verdict += f" ({', '.join(f'check {finding.check} FAILS' for finding in self.failed_checks)})"
        notes = [f"note: {note}" for note in self.notes] + self._not_checked()
        summary = f"{verdict}: worst error {self.worst:.1e}, tolerance {self.tolerance:.0e}"
        return "\n".join([*table_lines([("", self.rows)]), *self.check_lines(), *notes, summary])

    def check_lines(self) -> list[str]:
        """Return a line for each named check that the user asked for or that found something, and one for the rest."""
        passed = [finding.check for finding in self.checks if finding.verdict == OK and not finding.asked]
        lines = [str(finding) for finding in self.checks if finding.check not in passed]
        return [f"checks ok: {', '.join(passed)}", *lines] if passed else lines

    def _not_checked(self):
        """Return a line that lists what was not checked, if that may surprise."""
        surprising = ("constant", "changed by the forward", "not seen", "no gradient", "requires_grad")
        listed = [f"{name} ({why})" for name, why in self.inventory.items() if why.startswith(surprising)]
        return [f"not checked: {', '.join(listed)}"] if listed else []

    def errors_by_step(self, row: Row) -> tuple[np.ndarray, ...]:
        """Return steps (S,), relative to the tensor's scale, and two arrays (S,) of errors at one entry.

        The errors are those of the central difference and of Richardson extrapolation, relative to the gradient there.
        The entry is the row's, or the largest of the gradient if the row is of a direction.
        """
        # imported here, because importing matplotlib takes long
        from .figure import errors_by_step

        return errors_by_step(self.functions(), row)

    def functions(self) -> Any:
        """Return the `Comparer`, which runs forward and backward again.

        Raises
        ------
        ValueError
            For a report that was pickled.
        """
        if self._comparer is None:
            raise ValueError("this report cannot be drawn: it was pickled or copied, which drops the functions, call "
                             "gradcheck again")
        return self._comparer

    def plot(self, path: Any = None, axes: Any = None, tensors: int = 40) -> Any:
        """Draw the error against the step size for every tensor, and where the wrong tensors are wrong.

        A right gradient gives a V, or only its left half where the forward is linear; a wrong one keeps its error at
        every step. Below, up to three wrong tensors have maps of the measured slopes, of the gradient, and of the error
        of each entry; up to 400 entries of each are measured, of large models 100. Each tensor takes 90 runs of the
        forward, each entry of a map four if it is right, else ten.

        Parameters
        ----------
        path : path, optional
            Where to save the figure; the ending chooses the format (.png, .svg, .pdf), PNG without one.
        axes : matplotlib axes, optional
            Where to draw the curves of all tensors together, without maps, instead of in a new figure.
        tensors : int
            Number of tensors to draw at most: wrong ones first, then those with the largest errors.

        Returns
        -------
        matplotlib.figure.Figure
            A notebook displays it when it is the value of a cell.

        Raises
        ------
        ValueError
            For an ending that matplotlib does not know, or for a report that was pickled.
        """
        # imported here, because importing matplotlib takes long
        from ..common.figures import figure_format, save
        from .figure import draw

        if path is not None:
            figure_format(path)
        figure = draw(self, self.functions(), check_number("number of tensors", tensors, least=1, whole=True), axes)
        if path is not None:
            save(figure, path)
        return figure
