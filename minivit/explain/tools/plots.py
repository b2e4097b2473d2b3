"""The figures of `explain`. Each function takes numbers and writes an image file; the ending chooses the format."""

import math
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.patches import Rectangle
from PIL import Image

from ...common.figures import new_figure, save
from ...ops import patches
from .. import cost
from ..receptive import extent, spread

HEAT = "magma"
INK, FAINT = "#d1495b", "#8d96a3"
SERIES = (INK, "#30638e", "#edae49", "#00798c")


def show(axes: Any, image: np.ndarray, title: str = "", **options: Any) -> None:
    """Show an image (H, W) or (H, W, C) without ticks."""
    if image.ndim == 3:
        image = image if image.shape[-1] in (3, 4) else image[..., 0]
    axes.imshow(image, **{"cmap": "gray"} | options)
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(False)
    axes.set_title(title, fontsize=9)


def lit(image: np.ndarray, heat: np.ndarray) -> np.ndarray:
    """Colour an image (H, W, C) uint8 by a map (S, S), from dark (its minimum) to bright -> (H, W, 3), 0 to 1."""
    grey = (image[..., :3] if image.shape[-1] > 2 else image[..., :1]).mean(axis=-1) / 255
    heat = (heat - heat.min()) / max(np.ptp(heat), 1e-12)
    smooth = Image.fromarray(heat.astype(np.float32)).resize(image.shape[1::-1], Image.Resampling.BILINEAR)
    return 0.35 * grey[..., None] + 0.65 * colormaps[HEAT](np.asarray(smooth))[..., :3]


# ---- attention ------------------------------------------------------------------------------------------------


def draw_attention(reports: list, path: Any) -> None:
    """Draw each `AttentionReport`: the image, its rollout, and the map of each head (columns) of each layer (rows).

    If a class is explained, its relevance is drawn beside the image, and below it the gradient x input: red pixels
    raise the logit of the class, blue pixels lower it.
    """
    layers, heads = len(reports[0].maps), max(len(maps) for maps in reports[0].maps.values())
    explained = reports[0].relevance is not None
    cell, left_width = min(0.95, 12 / heads), 4.2 if explained else 2.1
    height, width = reports[0].image.shape[:2]
    ratio = min(max(height / width, 0.25), 2)                         # of a map; a signal is drawn a quarter as high
    figure = new_figure(left_width + cell * heads, max(4.6 * min(1, ratio + 0.3), (cell * ratio + 0.06) * layers + 0.4)
                        * len(reports))
    for part, report in zip(np.atleast_1d(figure.subfigures(len(reports), 1)), reports, strict=True):
        left, right = part.subfigures(1, 2, width_ratios=[left_width, cell * heads])
        [original, *more], [through, *other] = left.subplots(2, 2 if explained else 1, squeeze=False)
        truth = "" if report.true in (None, report.predicted) else f", true {report.true}"
        shape = {"aspect": ratio * width / height}
        verdict = f"predicted {report.predicted} ({report.probability:.0%}){truth}"
        show(original, report.image, f"{report.title}\n{verdict}", **shape)
        show(through, lit(report.image, report.rollout), "rollout, through all layers", **shape)
        if explained:
            show(more[0], lit(report.image, report.relevance), f"relevance for\n{report.of_class}", **shape)
            signed = report.gradient_times_input
            most = np.abs(signed).max() or 1
            show(other[0], signed, "gradient x input", cmap="RdBu_r", vmin=-most, vmax=most, **shape)
        for l, (row, maps) in enumerate(zip(right.subplots(layers, heads, squeeze=False), report.maps.values(),
                                            strict=True)):
            for a, axes in enumerate(row):
                if a < len(maps):
                    show(axes, maps[a], f"head {a + 1}" if l == 0 else "", cmap=HEAT, vmin=0,
                         aspect=ratio * maps.shape[2] / maps.shape[1])
                else:
                    axes.set_axis_off()
            row[0].set_ylabel(f"layer {l + 1}", fontsize=9)
    save(figure, path)


def draw_connectivity(reports: list, shares: dict, filters: np.ndarray, variances: np.ndarray, similarity: np.ndarray,
                      path: Any) -> None:
    """Draw where a model looks (above); how much depends on the image, the first layer, and the positions (below).

    reports: list of `AttentionReport`; the heads of the last layer are shown. shares: {name: `variation`}. filters,
    variances: from `principal_filters`. similarity: from `position_similarity`.
    """
    heads, height = len(list(reports[0].maps.values())[-1]), 0.82 * math.ceil(len(reports) / 2)
    last = list(reports[0].maps)[-1].split(".")[1]
    figure = new_figure(8, height + 3.5)
    above, below = figure.subfigures(2, 1, height_ratios=[height + 0.3, 3.2])
    above.suptitle("Where the class token looks: through all layers (rollout), and in the heads of layer "
                   f"{int(last) + 1}\n(dark: nowhere, bright: most)", fontsize=9)
    for part, pair in zip(above.subfigures(1, 2, wspace=0.03), (reports[0::2], reports[1::2]), strict=True):
        for row, report in zip(part.subplots(len(pair), 2 + heads, squeeze=False), pair, strict=True):
            first = report is pair[0]
            show(row[0], report.image, report.predicted)
            show(row[1], lit(report.image, report.rollout), "rollout" if first else "")
            for a, (axes, heat) in enumerate(zip(row[2:], list(report.maps.values())[-1], strict=True)):
                show(axes, heat, f"head {a + 1}" if first else "", cmap=HEAT, vmin=0)
            for axes in row:
                axes.title.set_fontsize(8)
    left, middle, right = below.subfigures(1, 3, width_ratios=[1.15, 1, 1.15])
    axes = left.subplots()
    bars = axes.barh(list(shares), [100 * share for share in shares.values()], color=INK)
    axes.bar_label(bars, [f"{share:.0%}" for share in shares.values()], padding=3, fontsize=8)
    axes.set(xlim=(0, 115), xticks=[0, 50, 100])
    axes.set_xlabel("%", fontsize=9)
    axes.set_title("Share of the weights\nthat depends on the image", fontsize=9)
    axes.invert_yaxis()
    axes.tick_params(labelsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    side = math.ceil(math.sqrt(len(filters)))
    tiles = middle.subplots(side, side)
    for axes, part, share in zip(tiles.flat, filters, variances, strict=False):
        least, most = part.min(), part.max()
        show(axes, (part - least) / (most - least), f"{share:.0%}")
        axes.title.set_fontsize(7)
    for axes in tiles.flat[len(filters):]:
        axes.set_axis_off()
    middle.suptitle("Principal filters of the first\nlayer; share of the variance", fontsize=9)
    _draw_similarity(right, similarity)
    save(figure, path)


def _draw_similarity(figure: Any, similarity: np.ndarray) -> None:
    """Draw for nine patches, marked by a ring, which positions are like theirs."""
    places = np.linspace(0, len(similarity) - 1, 3).round().astype(int)
    grid = figure.subplots(3, 3)
    for row, y in zip(grid, places, strict=True):
        for axes, x in zip(row, places, strict=True):
            show(axes, similarity[y, x], cmap="RdBu_r", vmin=-1, vmax=1)
            axes.plot(x, y, "o", mfc="none", mec="k", ms=4)
    bar = figure.colorbar(grid[0][0].images[0], ax=grid, ticks=[-1, 0, 1], shrink=0.8)
    bar.ax.tick_params(labelsize=7)
    figure.suptitle("Learned positions: how like\nthat of the ringed patch", fontsize=9)


# ---- cost ---------------------------------------------------------------------------------------------------------


def draw_cost(sizes: Any, costs: dict, fits: dict, marks: dict, image: np.ndarray, side: int, path: Any) -> None:
    """Draw the costs of attention over N with their fits (above); an image, its patches and its tokens (below).

    costs: {axis label: array over `sizes`}. fits: {axis label: coefficients of `cost.quadratic`}. marks: {N: what has
    this number of tokens}. image (H, W, 3). side: P.
    """
    figure = new_figure(8, 5.6)
    above, below = figure.subfigures(2, 1, height_ratios=[1.05, 1])
    above.suptitle("The cost of attention grows with the square of the number of tokens", fontsize=10)
    for axes, (label, values) in zip(above.subplots(1, len(costs)), costs.items(), strict=True):
        line = np.geomspace(min(*sizes, *marks), max(*sizes, *marks), 50)
        axes.loglog(line, cost.predict(fits[label], line), color=FAINT, lw=1.5, label=r"fit, $b N + c N^2$")
        axes.loglog(sizes, values, "o", color=INK, ms=4, label="measured")
        for tokens, name in marks.items():
            axes.axvline(tokens, color="k", lw=0.7, ls=":")
            last = tokens == max(marks)
            axes.annotate(f" {name} \n {tokens:,} tokens ", (tokens, 0.6 if last else 0.97),
                          xycoords=("data", "axes fraction"), fontsize=8,
                          va="top", ha="right" if last else "left")
        axes.set_xlabel("tokens N", fontsize=9)
        axes.set_ylabel(label, fontsize=9)
        axes.tick_params(labelsize=8)
        axes.legend(frameon=False, fontsize=8, loc=(0.55, 0.03))
        axes.spines[["top", "right"]].set_visible(False)
    rows = patches.patchify(image[None], side)[0]                     # (N, P P C)
    S = image.shape[0] // side
    n = S * (S // 2) + S // 2                                         # a patch in the middle
    y, x = divmod(n, S)
    original, one, row, tokens = below.subplots(1, 4, width_ratios=[1.15, 0.85, 0.85, 1.15])
    show(original, image, f"{image.size:,} numbers,\n{len(rows)} patches")
    for edge in range(side, image.shape[0], side):
        original.axhline(edge - 0.5, color="w", lw=0.4, alpha=0.6)
        original.axvline(edge - 0.5, color="w", lw=0.4, alpha=0.6)
    original.add_patch(Rectangle((x * side - 0.5, y * side - 0.5), side, side, fill=False, ec="#ffd23f", lw=2))
    show(one, rows[n].reshape(side, side, 3), "the yellow patch,\nenlarged")
    show(row, np.broadcast_to(rows[n].reshape(-1, 1, 3), (side * side, side * side // 5, 3)),
         f"its row: {rows.shape[1]} numbers,\ndrawn downwards")
    show(tokens, rows.reshape(len(rows), -1, 3).swapaxes(0, 1), f"all {len(rows)} rows,\nside by side", aspect="auto")
    tokens.add_patch(Rectangle((n - 0.5, -0.5), 1, side * side, fill=False, ec="#ffd23f", lw=1.2))
    save(figure, path)


# ---- symmetry -----------------------------------------------------------------------------------------------------


def draw_symmetry(rows: Any, steps: Any, growth: dict, bounds: tuple[float, float], path: Any) -> None:
    """Draw the error of each theorem (left), and how permuted patches change a model during training (right).

    rows: (claim, whether it holds, error). growth: {kind of positions: errors at `steps`}. bounds: the largest error
    where a theorem holds, and the smallest where it does not.
    """
    figure = new_figure(8, 0.9 + 0.24 * len(rows))
    left, right = figure.subplots(1, 2, width_ratios=[1, 1.1])
    least = 1e-17                                                     # where an error of 0 is drawn
    for y, (_, holds, error) in enumerate(rows):
        left.plot(max(error, least), y, "o", color="#00798c" if holds else INK, ms=5, mfc=None if error else "white")
    left.set_yticks(range(len(rows)), [claim for claim, _, _ in rows], fontsize=7)
    left.invert_yaxis()
    for bound, words, side in zip(bounds, ("holds", "broken"), ("right", "left"), strict=True):
        left.axvline(bound, color="k", lw=0.7, ls=":")
        left.text(bound, -1, f" {words} ", fontsize=8, ha=side, va="center")
    left.set(xscale="log", xlim=(least / 3, 30), ylim=(len(rows) - 0.4, -1.6))
    left.set_xlabel("relative error; white: exactly 0", fontsize=8)
    left.set_title("f(T x) = T' f(x)? The input is changed by T;\nT' is the same change of the output, or none",
                   fontsize=8)
    left.grid(axis="y", alpha=0.2)
    for k, (kind, errors) in enumerate(growth.items()):
        right.plot(steps, errors, "o-", ms=3.5, color=SERIES[k % 4], label=kind)
    right.set(xscale="symlog", yscale="log")
    right.set_xlabel("steps of training", fontsize=8)
    right.set_ylabel("change of the tokens, relative to the largest", fontsize=8)
    right.set_title("Patches permuted: do the tokens change?\nOnly without positions they never do", fontsize=8)
    broken = [k for k, error in enumerate(growth.get("relative", [])) if error > bounds[0]]
    if broken and broken[0]:                                          # it held before training
        right.annotate("a relative bias starts at 0: it\nbreaks the symmetry as soon\nas it has learned something",
                       (steps[broken[0]], growth["relative"][broken[0]]), (0.36, 0.3), textcoords="axes fraction",
                       fontsize=8, arrowprops={"arrowstyle": "->", "color": FAINT})
    right.legend(frameon=False, fontsize=8, loc=(0.68, 0.47), title="positions", title_fontsize=8)
    for axes in (left, right):
        axes.tick_params(axis="x", labelsize=8)
        axes.spines[["top", "right"]].set_visible(False)
    right.tick_params(labelsize=8)
    save(figure, path)


# ---- receptive fields ---------------------------------------------------------------------------------------------


def draw_fields(fields: dict, distances: dict, uniform: float, side: int, path: Any) -> None:
    """Draw receptive fields (above); their sizes over the depth, and how far the heads look (below).

    fields: {kind of model: {depth: (H, W)}}. distances: {"untrained", ...: (L, h) in pixels}. uniform: the distance of
    uniform attention in an image of `side` pixels.
    """
    figure = new_figure(8, 1.5 * len(fields) + 3.3)
    above, below = figure.subfigures(2, 1, height_ratios=[1.5 * len(fields) + 0.3, 3])
    columns = max(map(len, fields.values()))
    grid = above.subplots(len(fields), columns, squeeze=False)
    for row, (kind, by_depth) in zip(grid, fields.items(), strict=True):
        for axes, (depth, field) in zip(row, by_depth.items(), strict=False):
            show(axes, np.sqrt(field / field.max()), f"depth {depth}", cmap=HEAT, vmin=0, vmax=1)
        row[0].set_ylabel(kind, fontsize=9)
    above.suptitle("How much the output in the middle depends on each pixel", fontsize=10)
    bar = above.colorbar(grid[0][0].images[0], ax=grid, ticks=[0, 0.5, 1], shrink=0.9)
    bar.ax.set_yticklabels(["not", "a quarter", "most"], fontsize=8)
    sizes, heads = below.subplots(1, 2)
    for (kind, by_depth), colour in zip(fields.items(), (INK, "#30638e"), strict=False):
        depths, seen = list(by_depth), list(by_depth.values())
        sizes.plot(depths, [max(extent(field)) for field in seen], "o-", color=colour, label=f"{kind}: all it sees")
        sizes.plot(depths, [2 * spread(field) for field in seen], "o--", color=colour, mfc="white",
                   label=f"{kind}: twice the spread")
    sizes.set(ylim=(0, 1.55 * max(seen[0].shape)), xticks=depths)
    sizes.set_xlabel("depth", fontsize=9)
    sizes.set_ylabel("pixels a side", fontsize=9)
    sizes.set_title("A ViT sees everything in its first layer", fontsize=10)
    sizes.legend(frameon=False, fontsize=7, loc="upper left", ncols=2)
    for (kind, values), colour, move in zip(distances.items(), (FAINT, INK), (-0.12, 0.12), strict=True):
        layers = np.repeat(np.arange(1, len(values) + 1)[:, None], values.shape[1], axis=1)
        heads.plot((layers + move).ravel(), values.ravel(), "o", color=colour, ms=4, label=kind)
    heads.axhline(uniform, color="k", lw=0.7, ls=":", label=f"if all pixels had the same weight: {uniform:.1f}")
    heads.set(ylim=(0, 1.3 * uniform), xticks=range(1, len(next(iter(distances.values()))) + 1))
    heads.set_xlabel("layer", fontsize=9)
    heads.set_ylabel(f"pixels of {side}", fontsize=9)
    heads.set_title("Mean distance at which each head looks", fontsize=10)
    heads.legend(frameon=False, fontsize=8, loc="lower left")
    for axes in (sizes, heads):
        axes.tick_params(labelsize=8)
        axes.spines[["top", "right"]].set_visible(False)
    save(figure, path)


# ---- other signals ------------------------------------------------------------------------------------------------


def draw_table(curves: dict, guess: float, cells: list, attention: np.ndarray, path: Any) -> None:
    """Draw accuracies over training steps (left); the tokens of some texts and where the first one looks (right).

    curves: {name: (steps, values)}, that with attention first. guess: the accuracy of guessing. cells: the words of
    each text. attention: (texts, N).
    """
    figure = new_figure(10, 3.6)
    learning, texts = figure.subplots(1, 2, width_ratios=[1, 1.25])
    for (name, (steps, accuracies)), colour in zip(curves.items(), (INK, "#30638e", "#edae49"), strict=False):
        learning.plot(steps, 100 * np.array(accuracies), color=colour, label=name)
    learning.axhline(100 * guess, color="k", lw=0.7, ls=":")
    learning.annotate("the digits known, but not their "
                      "letters", (1, 100 * guess - 4), xycoords=("axes fraction", "data"), fontsize=8,
                      va="top", ha="right")
    learning.set(xlabel="steps of 128 new texts", ylabel="% answered rightly", ylim=(0, 105))
    attending, *others = [100 * accuracies[-1] for _, accuracies in curves.values()]
    learning.set_title(f"With attention it answers {attending:.0f}% of new questions,\nwithout at most "
                       f"{max(others):.0f}%", fontsize=10)
    learning.legend(frameon=False, fontsize=8, loc=(0.4, 0.5))
    learning.spines[["top", "right"]].set_visible(False)
    show(texts, attention, cmap=HEAT, vmin=0, vmax=1, aspect="auto")
    for (y, x), share in np.ndenumerate(attention):
        texts.text(x, y, cells[y][x], color="k" if share > 0.6 else "w", ha="center", va="center", family="monospace",
                   fontsize=10)
    texts.set_title("where the question (left) looks: bright, at the row that it asks for", fontsize=10)
    save(figure, path)


# ---- studies ------------------------------------------------------------------------------------------------------


def draw_scale(curves: dict, gaps: dict, lines: dict, groups: dict, path: Any) -> None:
    """Draw accuracy over the number of training images (left), differences with fitted lines (middle), groups (right).

    curves: {model: {N: {seed: accuracy}}}. gaps: {"CNN - ViT", ...: {N: {seed: difference}}}. lines: {the same:
    `trend.slope`}. Bars are the standard deviation over seeds.
    """
    figure = new_figure(8, 6.4)
    above, below = figure.subfigures(2, 1)
    accuracy, difference = above.subplots(1, 2)
    for (name, sizes), colour in zip(curves.items(), SERIES, strict=False):
        _errorbars(accuracy, sizes.keys(), sizes.values(), colour, name, "o-")
    for (name, sizes), colour in zip(gaps.items(), SERIES[1:], strict=False):
        _errorbars(difference, sizes.keys(), sizes.values(), colour, name, "o")
        if name in lines:
            ends = np.array([min(sizes), max(sizes)])
            difference.plot(ends, 100 * (lines[name][2] + lines[name][0] * np.log10(ends)), color=colour, lw=1)
    accuracy.set_ylabel("% of the test images right", fontsize=9)
    difference.set_ylabel("points of difference, with fitted lines", fontsize=9)
    ticks = sorted({size for sizes in curves.values() for size in sizes})
    for axes in (accuracy, difference):
        axes.set_xscale("log")
        axes.set_xlabel("training images (each run takes equally many steps)", fontsize=8)
        axes.set_xticks(ticks, [f"{size:,.0f}" for size in ticks])
        axes.set_xticks([], minor=True)
        axes.tick_params(labelsize=8)
        axes.spines[["top", "right"]].set_visible(False)
        _legend_above(axes)
    difference.axhline(0, color="k", lw=0.7, ls=":")
    _groups(below.subplots(), groups)
    save(figure, path)


def draw_groups(groups: dict, path: Any, images: str = "test") -> None:
    """Draw accuracies in groups {"2,000 images", ...: {name: {seed: accuracy}}}.

    Dots with bars are mean and standard deviation; each ring is a seed. images: which images were classified.
    """
    figure = new_figure(8, 3.6)
    axes = figure.subplots()
    _groups(axes, groups)
    axes.set_ylabel(f"% of the {images} images right", fontsize=9)
    save(figure, path)


def _errorbars(axes, x, series, colour, name, style):
    """Draw {seed: share} at each x in percent: the mean, and the standard deviation if there are several seeds."""
    values = [100 * np.array(list(by_seed.values())) for by_seed in series]
    deviations = [value.std(ddof=1) if len(value) > 1 else 0 for value in values]
    axes.errorbar(list(x), [value.mean() for value in values], deviations, fmt=style, color=colour, ms=4, capsize=3,
                  label=name)


def _groups(axes, groups):
    """Draw `groups` of `draw_groups` into axes. "ViT, augmented" has the colour of "ViT", and squares."""
    names = list(dict.fromkeys(name for members in groups.values() for name in members))
    plain = list(dict.fromkeys(name.removesuffix(", augmented") for name in names))
    for k, name in enumerate(names):
        base = name.removesuffix(", augmented")
        colour = SERIES[plain.index(base) % len(SERIES)]
        found = [(place + 0.7 * ((k + 0.5) / len(names) - 0.5), members[name]) for place,
                 members in enumerate(groups.values())
                 if name in members]
        _errorbars(axes, [x for x, _ in found], [by_seed for _, by_seed in found], colour, name,
                   "o" if name == base else "s")
        for x, by_seed in found:
            axes.plot([x + 0.03] * len(by_seed), [100 * value for value in by_seed.values()], "o", color=colour,
                      mfc="white", ms=4)
    axes.set_xticks(range(len(groups)), list(groups))
    axes.set_xlim(-0.5, max(1, len(groups)) - 0.5)
    axes.set_ylabel("% of the test images right", fontsize=9)
    axes.set_xlabel("filled: mean and standard deviation over the seeds; ring: one seed", fontsize=8)
    axes.tick_params(labelsize=8)
    _legend_above(axes)
    axes.spines[["top", "right"]].set_visible(False)


def _legend_above(axes):
    """Put the legend above the axes."""
    if axes.get_legend_handles_labels()[1]:
        axes.legend(frameon=False, fontsize=8, loc="lower center", bbox_to_anchor=(0.5, 1), ncols=2)
