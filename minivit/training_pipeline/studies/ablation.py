"""An ablation study: what each change of a base gives, one change at a time.

The same seeds train the base and each variant. A seed decides the order of the images, the validation images and the
random weights, and makes some trainings better than others, whatever the variant. So the differences are taken seed by
seed (*paired*): that part of the spread drops out. With n seeds, differences d and their mean m,

    interval = m +- t s / sqrt(n)             s: standard deviation of d; t: 95% quantile of Student's t for n numbers

holds the true difference in 95 of 100 studies, if the differences are about normally distributed. An interval without 0
shows that the variant differs from the base. Of twenty variants that do nothing, one is expected to be "shown" by
chance.

Read before: `study_file.py`, `explain/tools/trend.py`.
"""

import math
from pathlib import Path
from typing import Any

from ...common.figures import new_figure, save
from ...explain.tools.trend import T95, mean_and_error, paired

WORSE, BETTER, UNDECIDED = "#d1495b", "#00798c", "#8d96a3"
Found = list[tuple[dict[str, Any], dict[int, float]]]                 # (combination, {seed: accuracy}); the base first


def interval(differences: dict[int, float]) -> tuple[float, float]:
    """Return the mean of {seed: difference} and half the width of its 95% interval, NaN for a single seed."""
    mean, error = mean_and_error(differences.values())
    return mean, math.nan if len(differences) < 2 else T95[min(len(differences), len(T95) + 1) - 2] * error


def differences(found: Found) -> list[tuple[str, dict[int, float], dict[int, float]]]:
    """Return [(variant, {seed: accuracy}, {seed: difference to the base})], for seeds with a finite accuracy of both.
    """
    finite = [(combination["variant"], {seed: value for seed, value in by_seed.items() if math.isfinite(value)})
              for combination, by_seed in found]
    base = next((by_seed for name, by_seed in finite if name == "base"), {})
    return [(name, by_seed, paired(by_seed, base)) for name, by_seed in finite]


def summary(found: Found, images: str) -> str:
    """Return the results as text: a line for each variant. images: which images were classified."""
    rows = [["variant", "seeds", "accuracy", "difference", "95% interval", "shown", "changes"]]
    diverged = 0
    for (combination, by_seed), (name, finite, others) in zip(found, differences(found), strict=True):
        diverged += len(by_seed) - len(finite)
        accuracy = f"{mean_and_error(finite.values())[0]:.2%}" if finite else "-"
        rows.append([name, str(len(finite)), accuracy, *(["", "", ""] if name == "base" else _difference(others)),
                     combination["changes"][1:-1]])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join([f"{row[0]:{widths[0]}}", *(f"{cell:>{width}}" for cell, width in
                        zip(row[1:-1], widths[1:-1], strict=True)), row[-1]]).rstrip() for row in rows]
    note = (f"Accuracy on the {images} images, the mean over the seeds. Difference: variant - base, in percentage "
            "points, paired by seed, with its 95% interval.")
    if diverged:
        note += f" {diverged} trainings have diverged and are left out."
    if images == "test":
        note += " To choose a variant, set validation images apart with val_fraction = 0.1 in [settings]."
    return "\n".join([*lines, "", note])


def _difference(others):
    """The cells of a difference: mean, interval, and whether it is shown."""
    if not others:
        return ["-", "-", ""]
    mean, half = interval(others)
    if math.isnan(half):
        return [f"{100 * mean:+.2f}", "-", ""]
    shown = "" if abs(mean) <= half else "better" if mean > 0 else "worse"
    return [f"{100 * mean:+.2f}", f"{100 * (mean - half):+.2f} to {100 * (mean + half):+.2f}", shown]


def as_json(found: Found) -> list[dict[str, Any]]:
    """Return for each variant its difference to the base and the 95% interval, as fractions; None where unknown."""
    rows = []
    for _, _, others in differences(found):
        mean, half = interval(others) if others else (math.nan, math.nan)
        numbers = [mean, mean - half, mean + half]
        rows.append({"difference": None if math.isnan(mean) else mean,
                     "interval": None if math.isnan(half) else numbers[1:]})
    return rows


def draw(found: Found, path: str | Path, images: str) -> None:
    """Draw the difference of each variant to the base, with its 95% interval, the best one at the top."""
    measured = [(name, interval(others)) for name, _, others in differences(found) if others and name != "base"]
    rows = sorted([(name, 100 * mean, 100 * half) for name, (mean, half) in measured], key=lambda row: row[1])
    figure = new_figure(7, 1 + 0.26 * max(1, len(rows)))
    axes = figure.subplots()
    for place, (_, mean, half) in enumerate(rows):
        shown = not math.isnan(half) and abs(mean) > half
        colour = UNDECIDED if not shown else BETTER if mean > 0 else WORSE
        axes.errorbar([mean], [place], xerr=None if math.isnan(half) else [[half], [half]], fmt="o", color=colour, ms=5,
                      capsize=3)
    axes.axvline(0, color=UNDECIDED, lw=1)
    axes.set_yticks(range(len(rows)), [name for name, *_ in rows], fontsize=8)
    axes.set_ylim(-0.7, max(1, len(rows)) - 0.3)
    axes.set_xlabel(f"difference to the base on the {images} images in percentage points, with its 95% interval\n"
                    "(grey: the interval contains 0)", fontsize=8)
    axes.tick_params(labelsize=8)
    axes.spines[["top", "right", "left"]].set_visible(False)
    save(figure, path)
