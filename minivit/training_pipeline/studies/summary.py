"""The table and the picture of a study: the mean accuracy of each combination, and its error over the seeds."""

import math
from pathlib import Path
from typing import Any

from ...explain import Study
from ...explain.tools.plots import draw_groups
from ...explain.tools.trend import decided, mean_and_error, paired
from . import ablation
from .study_file import StudyFile, from_text


def measure_of(study: Study) -> str:
    """Return the result that is compared: the accuracy on validation images if there are any, else on test images."""
    return "validation_accuracy" if study.rows and "validation_accuracy" in study.rows[0] else "accuracy"


def images_of(study: Study) -> str:
    """Return which images the results are of: validation or test."""
    return "validation" if measure_of(study) == "validation_accuracy" else "test"


def results(asked: StudyFile, study: Study) -> list[tuple[dict[str, Any], dict[int, float]]]:
    """Return [(combination, {seed: accuracy})], in the order of the grid, for the combinations that have results.

    The accuracy is NaN where the training has diverged.
    """
    found = []
    for combination in asked.combinations:
        by_seed = {int(row["seed"]): float(row[measure_of(study)]) for row in study.rows
                   if all(from_text(row[name]) == from_text(value) for name, value in combination.items())}
        wanted = {seed: by_seed[seed] for seed in asked.seeds if seed in by_seed}
        if wanted:
            found.append((combination, wanted))
    return found


def summary(asked: StudyFile, study: Study) -> str:
    """Return the results as text: a line for each combination, and whether the best one is shown to be better."""
    found = results(asked, study)
    if asked.variants:
        return ablation.summary(found, images_of(study))
    diverged = [len(by_seed) - len(_finite(by_seed)) for _, by_seed in found]
    rows = [[*asked.grid, "seeds", *(["diverged"] if any(diverged) else []), "accuracy", "standard error", "lowest",
             "highest"]]
    for (combination, by_seed), count in zip(found, diverged, strict=True):
        values = _finite(by_seed).values()
        numbers = (*mean_and_error(values), min(values), max(values)) if values else [math.nan] * 4
        rows.append([*map(_text, combination.values()), str(len(by_seed)), *([str(count)] if any(diverged) else []),
                     *map(_percent, numbers)])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(f"{cell:>{width}}" for cell, width in zip(row, widths, strict=True)) for row in rows]
    images = images_of(study)
    note = [f"Accuracy on the {images} images, the mean over the seeds."]
    if any(diverged):
        note.append("Diverged: trainings whose loss became infinite or NaN. They have no accuracy, and their "
                    "combinations are not compared: try a lower learning rate.")
    if images == "test" and len(found) > 1:
        note.append("To choose settings, set validation images apart with val_fraction = 0.1: the accuracy of the best "
                    "of several, on the images that chose it, is too high.")
    return "\n".join([*lines, "", *note, *_verdict(found)])


def _verdict(found):
    """Return a sentence on the two best combinations of which no training has diverged, if there are two."""
    stable = [(combination, by_seed) for combination, by_seed in found if len(_finite(by_seed)) == len(by_seed)]
    ranked = sorted(stable, key=lambda item: -mean_and_error(item[1].values())[0])
    if len(ranked) < 2:
        return []
    (best, ours), (second, theirs) = ranked[:2]
    differences = paired(ours, theirs)
    if len(differences) < 2:
        return [f"Best: {_name(best)}. Whether it is better than {_name(second)} needs at least two seeds of both."]
    mean, error = mean_and_error(differences.values())
    shown = "shown" if decided(differences) > 0 else "not shown"
    return [f"Best: {_name(best)}. It is ahead of {_name(second)} by {mean:.2%} +- {error:.2%} over {len(differences)} "
            f"seeds: {shown} with 95% confidence."]


def draw(asked: StudyFile, study: Study, path: str | Path) -> None:
    """Draw the accuracies: a group for each combination of the first settings, a colour for each value of the last."""
    if asked.variants:
        ablation.draw(results(asked, study), path, images_of(study))
        return
    last = list(asked.grid)[-1] if asked.grid else None
    groups: dict[str, dict[str, dict[int, float]]] = {}
    for combination, by_seed in results(asked, study):
        if not _finite(by_seed):
            continue
        others = {name: value for name, value in combination.items() if name != last}
        group = _name(others) if others else ""
        groups.setdefault(group, {})[_name({last: combination[last]}) if last else asked.data] = _finite(by_seed)
    draw_groups(groups, path, images_of(study))


def _name(combination):
    """A combination in words."""
    return ", ".join(f"{name} {_text(value)}" for name, value in combination.items()) or "the only combination"


def _text(value):
    return f"{value:g}" if isinstance(value, float) else str(value)


def _percent(number):
    return "-" if math.isnan(number) else f"{number:.2%}"


def _finite(by_seed):
    """The accuracies of the trainings that have not diverged."""
    return {seed: accuracy for seed, accuracy in by_seed.items() if math.isfinite(accuracy)}
