"""The figure of a report: the error against the step for every tensor, and where a wrong tensor is wrong.

*Error against step.* Each tensor has a panel, wrong ones first. A right gradient gives a V. With a larger step h the
truncation error rises: as h**2 for the central difference, as h**4 for Richardson extrapolation. With a smaller step
round-off rises as 1 / h. If the forward is linear in a tensor, only round-off remains. A wrong gradient keeps its error
at every step: a plateau.

*Where it is wrong.* A wrong tensor has three maps: the measured slope of each entry, the gradient of the backward, and
the error. The mistake is often visible in its shape: a border, a block of columns, the entries under a mask, or two
maps that are transposed to each other. `laid_flat` says how a tensor with more than two axes becomes a map.
"""

import math
import random
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.colors import LogNorm, Normalize
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle

from ..common.figures import new_figure
from .comparison import Comparer
from .differences import EPS, SCHEMES, central
from .laid_flat import FlatMap
from .randomness import SameRandomNumbers
from .report import Report, Row

_RIGHT, _WRONG = "#30638e", "#c1272d"
_MAPPED = 3                                                           # wrong tensors with maps
_LARGE = 10_000                                                       # entries of all tensors together
_WRITTEN, _WRITTEN_COLUMNS = 40, 5                                    # up to so many entries have their number written
_FLOOR = EPS / 2                                                      # smaller errors are drawn here


def draw(report: Report, comparer: Comparer, tensors: int, axes: Any = None) -> Any:
    """Draw the figure of a report and return it; with axes, only curves, into these. See `Report.plot`."""
    rows = sorted(report.rows, key=lambda row: (row.ok, -row.error))[:tensors]
    with np.errstate(all="ignore"), SameRandomNumbers((np.random, random)):
        if axes is not None:
            _draw_together(axes, report, comparer, rows)
            return axes.figure.figure                                 # the whole one, if that is a part of it
        return _draw_figure(report, comparer, rows)


def _draw_figure(report, comparer, rows):
    """Draw a panel of curves for each row, and below them the maps of wrong tensors."""
    wrong = [row for row in rows if not row.ok and comparer.gradients[row.tensor].size][:_MAPPED]
    flats = [_flat_map(comparer, row) for row in wrong]
    columns = min(len(rows), 5)
    lines = math.ceil(len(rows) / columns)
    heights = [0.3, 0.5 + lines * (2.4 if columns < 3 else 1.6), *(_height(flat) for flat in flats)]
    figure = new_figure(10 if flats or columns > 2 else 3 + 3.5 * columns, sum(heights))
    figure.get_layout_engine().set(h_pad=0.08)
    legend, curves, *maps = figure.subfigures(len(heights), 1, height_ratios=heights, squeeze=False)[:, 0]
    legend.legend(handles=_keys(), ncols=4, loc="center left", frameon=False, fontsize=8)
    panels = curves.subplots(lines, columns, sharex=True, sharey=True, squeeze=False)
    for panel, row in zip(panels.flat, rows, strict=False):
        _draw_curves(panel, comparer, row, _RIGHT if row.ok else _WRONG)
        _finish(panel, report)
        verdict = "" if row.ok else ": wrong"
        panel.set_title(_short(row.tensor, (26 if columns > 3 else 40) - len(verdict)) + verdict, fontsize=9,
                        loc="left", color="k" if row.ok else _WRONG)
    for panel in panels.flat[len(rows):]:
        panel.remove()
    left = len(report.rows) - len(rows)
    curves.supylabel("relative error", fontsize=9)
    curves.supxlabel("step h, relative to the tensor" + (f"; {left} more tensors are not drawn" if left else ""),
                     fontsize=9)
    for part, row, flat in zip(maps, wrong, flats, strict=True):
        _draw_maps(part, comparer, row, flat)
    return figure


def _short(name, length):
    """Return the end of a long name."""
    return name if len(name) <= length else f"...{name[3 - length:]}"


# ---- error against step ----------------------------------------------------------------------------------------------


def errors_by_step(comparer: Comparer, row: Row) -> tuple[np.ndarray, ...]:
    """Return steps (S,) and the errors (S,) of the central difference and of Richardson extrapolation.

    See `Report.errors_by_step`.
    """
    gradient = comparer.gradients[row.tensor]
    index = row.index if row.index or not gradient.ndim else np.unravel_index(
        int(np.argmax(np.abs(gradient))), gradient.shape)
    y_at = comparer.perturbed(row.tensor, int(np.ravel_multi_index(index, gradient.shape)) if gradient.ndim else 0)
    scale, analytic = comparer.scale(row.tensor), float(gradient[index])
    size = max(abs(analytic), abs(row.numeric) if row.index else 0.0) or 1.0
    steps = 2.0 ** np.arange(-44, 1)                                  # so that the step before is h / 2
    slopes = np.array([central(y_at, h * scale, comparer.dy) for h in steps])
    better = (4 * slopes[:-1] - slopes[1:]) / 3
    return steps[1:], *(np.maximum(np.abs(found - analytic) / size, _FLOOR) for found in (slopes[1:], better))


def _draw_curves(axes, comparer, row, colour, label=None):
    """Draw both curves of a tensor, with a dot at the step that the method takes."""
    steps, *errors = errors_by_step(comparer, row)
    if not np.isfinite(errors).any():
        axes.text(0.5, 0.5, "not finite", color=colour, ha="center", transform=axes.transAxes)
        return
    for found, name, style in zip(errors, ("central", "richardson"), ("--", "-"), strict=True):
        usual = int(np.argmin(np.abs(np.log(steps / SCHEMES[name].step))))
        axes.plot(steps, found, style, color=colour, lw=1.0 if style == "--" else 1.8 if row.ok else 2.5, marker="o",
                    markevery=[usual], ms=5, label=label if style == "-" else None)


def _finish(axes, report):
    """Give axes of curves their limits, grid and tolerance."""
    axes.axhline(report.tolerance, color="0.3", lw=1, ls=":")
    axes.set(xscale="log", yscale="log", xlim=(1e-13, 1.5), ylim=(_FLOOR / 2, 50),
             xticks=[1e-12, 1e-8, 1e-4, 1], yticks=[1e-16, 1e-12, 1e-8, 1e-4, 1])
    axes.minorticks_off()
    axes.grid(alpha=0.3, lw=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=8)


def _keys():
    """Return the entries of the legend."""
    return [Line2D([], [], color="0.3", lw=1.8, label="Richardson"),
            Line2D([], [], color="0.3", lw=1.0, ls="--", label="central difference"),
            Line2D([], [], color="0.3", lw=0, marker="o", ms=5, label="the usual step"),
            Line2D([], [], color="0.3", lw=1, ls=":", label="tolerance")]


def _draw_together(axes, report, comparer, rows):
    """Draw the curves of several tensors into one axes, each in a colour of its own."""
    for i, row in enumerate(rows):
        _draw_curves(axes, comparer, row, f"C{i}", row.tensor if row.ok else f"{row.tensor}: wrong")
    _finish(axes, report)
    axes.text(2e-13, 0.5 * report.tolerance, "tolerance", color="0.4", fontsize=8, va="top")
    axes.set(xlabel="step h, relative to the tensor (solid: Richardson, dashed: central)", ylabel="relative error")
    axes.legend(frameon=False, loc="lower left")


# ---- where a tensor is wrong -----------------------------------------------------------------------------------------


def entry_errors(comparer: Comparer, name: str, indices: list[np.ndarray]) -> tuple[np.ndarray, ...]:
    """Return the numeric slopes, the analytic ones and the errors at all combinations of these indices.

    Each has one axis for each axis of the tensor. The error of a right entry, or one that noise hides, is 0; that of a
    wrong one is relative to the larger slope, as in the table. An entry is wrong if Richardson extrapolation and the
    central difference, which have different steps, both say so, and it is no subgradient at a kink.
    """
    gradient = comparer.gradients[name]
    places = np.arange(gradient.size).reshape(gradient.shape)
    places = places[np.ix_(*indices)] if indices else places
    analytic = gradient.reshape(-1)[places]
    numeric, errors = np.full(places.shape, np.nan), np.full(places.shape, np.inf)
    for scheme in (SCHEMES["richardson"], SCHEMES["central"]):
        step, noise = scheme.step * comparer.scale(name), 4 * comparer.noise_of(name)
        for at in map(tuple, np.argwhere(errors > 0)):
            y_at, a = comparer.perturbed(name, int(places[at])), float(analytic[at])
            found = scheme.slope(y_at, step, comparer.dy)
            error = _error(comparer, name, found, a, noise / (scheme.roundoff_step * comparer.scale(name)))
            if error and scheme is SCHEMES["central"] and _is_at_kink(comparer, y_at, a, step, noise):
                error = 0.0
            if error < errors[at] or math.isnan(numeric[at]):
                numeric[at], errors[at] = found, error
    return numeric, analytic, errors


def _error(comparer, name, numeric, analytic, uncertainty):
    """Return the relative error of an entry; 0 if it is right, infinity if it is not finite."""
    difference, own = abs(numeric - analytic), max(abs(numeric), abs(analytic))
    if not math.isfinite(difference):
        return math.inf
    allowed = comparer.tolerance * max(own, 1e-3 * comparer.largest(name))
    return 0.0 if difference <= max(allowed, uncertainty) else difference / own


def _is_at_kink(comparer, y_at, analytic, step, noise):
    """Return whether a slope lies between the one-sided slopes at a kink."""
    interval = comparer.one_sided(y_at, comparer.y, step, noise)
    return interval is not None and interval[0] - interval[2] <= analytic <= interval[1] + interval[2]


def _flat_map(comparer, row):
    """Return how the tensor of a row lies flat. Of a large model, whose forward is slow, few entries are shown."""
    is_large = sum(x.size for x in comparer.function.tensors.values()) > _LARGE
    return FlatMap(comparer.gradients[row.tensor].shape, row.index, row.tensor in comparer.function.pairs,
                   100 if is_large else 400)


def _height(flat):
    """Return the height of a row of maps in inches."""
    rows, columns = flat.laid(np.zeros([len(found) for found in flat.indices])).shape
    labels = 0.15 * (len(flat.right) > 1)
    return 1.0 + labels + min(3.4, max(0.45, 2.6 * rows / max(columns, 5)))


def _draw_maps(figure, comparer, row, flat):
    """Draw the three maps of a wrong tensor, side by side."""
    numeric, analytic, errors = entry_errors(comparer, row.tensor, flat.indices)
    finite = np.abs(np.concatenate([numeric.ravel(), analytic.ravel()]))
    largest = float(finite[np.isfinite(finite)].max(initial=0.0)) or 1.0
    slopes = {"norm": Normalize(-largest, largest), "cmap": colormaps["RdBu_r"].with_extremes(bad="0.6")}
    figure.suptitle(f"{_short(row.tensor, 60)}: {row.verdict}", x=0.01, ha="left", fontsize=10, color=_WRONG,
                    weight="bold")
    left, middle, right = figure.subplots(1, 3)
    image = _draw_map(left, numeric, flat, "measured slope", slopes)
    _draw_map(middle, analytic, flat, "gradient of the backward", slopes)
    figure.colorbar(image, ax=[left, middle], pad=0.02, aspect=20).ax.tick_params(labelsize=7)
    image = _draw_errors(right, errors, flat, comparer.tolerance)
    figure.colorbar(image, ax=right, pad=0.02, aspect=20).ax.tick_params(labelsize=7)
    for axes in (middle, right):
        axes.set_ylabel("")


def draw_errors(axes: Any, report: Report, row: Row) -> np.ndarray:
    """Draw the map of errors of one tensor of a report into matplotlib axes. Return the errors that were measured."""
    comparer = report.functions()
    flat = _flat_map(comparer, row)
    with np.errstate(all="ignore"), SameRandomNumbers((np.random, random)):
        errors = entry_errors(comparer, row.tensor, flat.indices)[2]
    _draw_errors(axes, errors, flat, report.tolerance)
    return errors


def _draw_errors(axes, errors, flat, tolerance):
    """Draw errors on a logarithmic scale, where right entries are below it, and return the image."""
    drawn = np.where(errors == 0, tolerance / 10, np.where(np.isfinite(errors), errors, np.nan))
    grey = "" if np.isfinite(errors).all() else ", grey: not finite"
    return _draw_map(axes, drawn, flat, f"relative error (white: none found{grey})", {
        "norm": LogNorm(tolerance, 1), "cmap": colormaps["YlOrRd"].with_extremes(under="w", bad="0.6")})


def _draw_map(axes, values, flat, title, colours):
    """Draw a tensor laid flat, with a frame around the worst entry. Return the image."""
    laid = flat.laid(values)
    image = axes.imshow(np.ma.masked_invalid(laid), interpolation="nearest", **colours,
                        aspect="equal" if 1 / 6 < laid.shape[0] / laid.shape[1] < 2 else "auto")
    axes.set_title(title, fontsize=9)
    axes.tick_params(labelsize=7, length=2)
    flat.label(axes)
    if laid.size <= _WRITTEN and laid.shape[1] <= _WRITTEN_COLUMNS:
        for row, column in np.ndindex(laid.shape):
            dark = sum(image.cmap(image.norm(laid[row, column]))[:3]) < 1.2
            text = "" if image.norm.vmin > laid[row, column] else f"{laid[row, column]:.2g}"
            axes.text(column, row, text, ha="center", va="center", fontsize=7, color="w" if dark else "k")
    if flat.place is not None:
        row, column = flat.place
        axes.add_patch(Rectangle((column - 0.5, row - 0.5), 1, 1, fill=False, ec="k", lw=1.3))
    return image
