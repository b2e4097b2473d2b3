"""When does a Vision Transformer beat a convolutional network? Ask both the same questions, on endless images.

    python demos/21_when_a_vit_wins.py --tune     first: choose learning rates; writes when_a_vit_wins_tuning.csv
    python demos/21_when_a_vit_wins.py            then: the study; writes when_a_vit_wins.csv and its figure
    python demos/21_when_a_vit_wins.py --limit 0  only print and draw what the table holds
    python demos/21_when_a_vit_wins.py --quick    a tiny study without conclusions; keeps only the figure

A *point* is one training: a task, a model, a number of different images, and a seed. Interrupt the study at any time:
the same command continues with the missing points. `--task`, `--model`, `--images`, `--seeds` and `--limit` choose
which points are measured now, and the figure shows these tasks and models; `--jobs 2` measures two at the same time,
each on its own core. `--short` asks the same with an eighth of the steps and up to 131,072 images, and has tables of
its own.

The images are generated (`minivit/data/shapes.py`), so their number can grow from a thousand to a million while the
rest stays equal. All models have 72,000 to 80,500 parameters. Each training shows 1,048,576 images in 8,192 steps;
fewer images are repeated more often. Nothing is augmented. Each model's learning rate is chosen for each task from the
same grid, on images of a seed of their own. The test images are used once, after the last step. For one seed, the
smaller sets of images are parts of the larger ones. The CNN is that of this package for small images, and computes
about twice as much for an image as the ViT; the CNN of stride 2 computes half as much.

The theory (`minivit/explain/symmetry.py`) makes predictions, which are written in `PREDICTIONS`. All but the last were
written before the first of these trainings ran, also before the short ones that chose how hard the tasks are. The
verdict is printed beside each: *confirmed* if all its differences have the predicted sign at 95% (Student's t over the
seeds), *refuted* if one has the other sign at 95%, else *open*.
"""

import argparse
import math
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
from matplotlib.patches import Patch
from mixer import Mixer

import minivit
from minivit.common.figures import new_figure, save
from minivit.data import Dataset, draw_shapes
from minivit.data.shapes import TASKS
from minivit.explain import Study, permute_patches
from minivit.explain.tools.plots import FAINT, INK, SERIES, show
from minivit.explain.tools.trend import decided, mean_and_error, paired, slope, verdict

CNN, COARSE, VIT, STEM = "CNN", "CNN of stride 2", "ViT", "ViT with stem"
SWIN, MIXER, BAG = "Swin", "Mixer", "ViT without positions"
FEW, SOME = 2**12, 2**14                                              # numbers of images that the predictions name
SIDE, PATCH = 16, 4
NONE, PERMUTED, HALF = "none", "patches permuted", "left half"        # changes of the images
LEFT, RIGHT = 6.5, 8.5                                                # columns: where a half ends and the other begins
ALL, SIDES = (CNN, COARSE, VIT, STEM, SWIN, MIXER), (CNN, COARSE, VIT, STEM)
TUNING_SEED = 99                                                      # not a seed of the study

_VIT = {"patch_size": PATCH, "width": 48, "depth": 4, "heads": 3, "mlp_ratio": 2}
MODELS = {                                                            # {name: (family, options)}
    CNN: ("resnet_mini", {"width": 16, "groups": 4, "reduction": 1}),
    COARSE: ("resnet_mini", {"width": 16, "groups": 4, "reduction": 2}),
    VIT: ("vit", _VIT),
    STEM: ("vit", _VIT | {"width": 36, "pool": "mean", "stem": "conv", "relative_bias": True}),
    SWIN: ("swin", {"patch_size": 2, "width": 28, "depths": [2, 2], "heads": [2, 4], "window": 4, "mlp_ratio": 2}),
    MIXER: ("mixer", {"patch_size": PATCH, "width": 64, "depth": 4, "hidden": 64}),
    BAG: ("vit", _VIT | {"positions": "none"}),
}


@dataclass(frozen=True)
class Plan:
    """The plan of a study.

    seen: images in each training, repeated ones counted again. sizes: numbers of different images. models: {task: the
    models that answer it}. changed: number of images with which the models `changing` are trained on changed images;
    of CNN and ViT with permuted patches, all numbers are measured. tuned, tuning_seen: numbers of different and of seen
    images when learning rates are chosen. again: more seeds for the smallest number of images with permuted patches,
    measured after a look at the others. test: number of test images.
    """

    seen: int
    sizes: tuple
    models: dict
    changed: int
    changing: tuple
    tuned: tuple
    tuning_seen: int
    learning_rates: tuple
    seeds: tuple
    again: tuple = ()
    test: int = 10_000
    training: dict = field(default_factory=lambda: {
        "epochs": 1, "batch_size": 128, "optimiser": "muon", "weight_decay": 0.05, "label_smoothing": 0.0, "clip": 1.0,
        "warmup": 0.1, "ema": 0.0, "augment": "none"})

    @property
    def settings(self):
        """Everything that results depend on, besides the point and the learning rates."""
        return {"seen": self.seen, "changed": self.changed, "test": self.test, "training": self.training,
                "models": {name: list(model) for name, model in MODELS.items()}}

    @property
    def tuning_points(self):
        """Return the points of the tuning."""
        return [{"task": task, "model": model, "images": size, "lr": lr} for task, models in self.models.items()
                for size in self.tuned for model in models for lr in self.learning_rates]

    @property
    def points(self):
        """Return all points, seed by seed, so that an interrupted study has complete seeds."""
        plain = [(task, model, size, NONE) for task, models in self.models.items() for size in self.sizes
                 for model in models]
        changed = [("texture", model, self.changed, change) for change in (NONE, PERMUTED, HALF)
                   for model in self.changing]
        changed += [("texture", model, size, PERMUTED) for size in self.sizes for model in (CNN, VIT)
                    if model in self.changing]
        changed += [("position", BAG, self.changed, NONE)] * ("position" in self.models)
        points = dict.fromkeys(plain + changed)                       # each once
        more = [("texture", model, self.sizes[0], PERMUTED) for model in (CNN, VIT)]
        return [{"task": task, "model": model, "images": size, "change": change, "seed": seed}
                for seed in (*self.seeds, *self.again)
                for task, model, size, change in (points if seed in self.seeds else more)]


TASK_MODELS = {"texture": ALL, "same-cells": ALL, "position": ALL, "same-different": SIDES, "symmetry": SIDES,
               "count": SIDES, "path": SIDES}
FULL = Plan(seen=2**20, sizes=(2**10, FEW, SOME, 2**17, 2**20), models=TASK_MODELS, changed=2**17,
            changing=tuple(MODELS), tuned=(FEW, 2**18), tuning_seen=2**18, learning_rates=(1e-3, 3e-3, 1e-2, 3e-2),
            seeds=(0, 1, 2, 3, 4))
SHORT = Plan(seen=2**17, sizes=(2**10, FEW, SOME, 2**17), models=TASK_MODELS, changed=2**17,
             changing=tuple(MODELS), tuned=(2**16,), tuning_seen=2**16, learning_rates=(1e-3, 3e-3, 1e-2, 3e-2),
             seeds=(0, 1, 2, 3, 4), again=tuple(range(5, 20)))
QUICK = Plan(seen=2**9, sizes=(2**7, 2**9), models={"texture": (COARSE, VIT)}, changed=2**9, changing=(VIT, BAG),
             tuned=(2**7,), tuning_seen=2**7, learning_rates=(3e-3,), seeds=(0, 1), test=500)


# ---- measuring ------------------------------------------------------------------------------------------------------


def make_model(name, data, seed):
    """Make a model for data, which normalises pixels with their statistics."""
    (family, options), (mean, std) = MODELS[name], data.pixel_statistics()
    options = options | {"image_size": SIDE, "channels": 1, "classes": data.classes, "mean": mean, "std": std}
    return Mixer(**options).pack(np.float32, seed) if family == "mixer" else minivit.create_model(
        family, seed=seed, **options)


def draw(task, count, seed, part, change):
    """Draw `count` images and labels of a part, changed; of the change "left half", those of which the part is."""
    if change == HALF:
        images, labels, places = draw_shapes(task, 4 * count + 64, seed, SIDE, part)
        inside = places[:, 1] > RIGHT if part == "elsewhere" else places[:, 1] < LEFT
        return images[inside][:count], labels[inside][:count]
    images, labels, _ = draw_shapes(task, count, seed, SIDE, part)
    if change == PERMUTED:
        order = np.random.default_rng(seed).permutation((SIDE // PATCH) ** 2)
        images = permute_patches(order, PATCH)(images)
    return images, labels


def train(plan, task, name, images, change, seed, seen, **settings):
    """Train a model on `images` images, repeated to `seen`. Return the results of its point."""
    x, y = draw(task, images, seed, "train", change)
    repeated = np.resize(np.arange(images), seen)
    data = Dataset(f"shapes:{task}", x[repeated], y[repeated], *draw(task, plan.test, seed, "test", change),
                   TASKS[task].class_names)
    model = make_model(name, data, seed)
    result = minivit.train(model, data, seed=seed, progress=False, threads=1, **plan.training, **settings)
    elsewhere = math.nan
    if change == HALF:
        x, y = draw(task, plan.test, seed, "elsewhere", change)
        elsewhere = float((model.predict(x, 1).argmax(axis=1) == y).mean())
    return {"lr": settings["lr"], "parameters": model.vector.size, "accuracy": result.accuracy, "elsewhere": elsewhere,
            "loss": round(result.loss, 5)}


def measure_tuning_point(plan, task, model, images, lr):
    """Measure a point of the tuning, on images of the tuning's own seed. A loss that does not stay finite is 0%."""
    try:
        found = train(plan, task, model, images, NONE, TUNING_SEED, plan.tuning_seen, lr=lr)
        return {name: found[name] for name in ("accuracy", "loss")}
    except FloatingPointError:
        return {"accuracy": 0.0, "loss": math.inf}


def measure_point(plan, rates, task, model, images, change, seed):
    """Measure a point of the study, with the learning rate chosen for the nearest number of images."""
    lr = rate_of(plan, rates, task, model, images)
    return train(plan, task, model, images, change, seed, plan.seen, lr=lr)


def rate_of(plan, rates, task, model, images):
    """Return the learning rate chosen for the nearest number of images; None if none is chosen yet."""
    by_images = rates[task].get(VIT if model == BAG else model)
    nearest = min(plan.tuned, key=lambda size: abs(math.log(size / images)))
    return by_images[nearest] if by_images else None


def check_rates(plan, rates, study):
    """Raise ValueError if rows of the table were measured with another learning rate than is chosen now."""
    for row in study.rows:
        now = rate_of(plan, rates, row["task"], row["model"], row["images"])
        if now not in (None, row["lr"]):
            raise ValueError(f"{study.file} was measured with the learning rate {row['lr']:g} for {row['model']} on "
                             f"{row['task']}, and the tuning has {now:g} now: remove these rows, or restore the tuning")


def best_rates(plan, tuning):
    """Return {task: {model: {number of images: best learning rate}}} where the tuning is finished."""
    rates = {task: {} for task in plan.models}
    for task, models in plan.models.items():
        for model in models:
            found = {size: {row["lr"]: row["accuracy"] for row in tuning.rows
                            if (row["task"], row["model"], row["images"]) == (task, model, size)}
                     for size in plan.tuned}
            if all({*by_rate} >= {*plan.learning_rates} for by_rate in found.values()):
                rates[task][model] = {size: max(by_rate, key=by_rate.get) for size, by_rate in found.items()}
    return rates


def print_rates(plan, rates):
    """Print the chosen learning rates. A star marks the lowest and the highest of the grid: one outside may be better.
    """
    ends = plan.learning_rates[0], plan.learning_rates[-1]
    for task, by_model in rates.items():
        for model, by_images in by_model.items():
            print(f"{task}, {model}: learning rate " + ", ".join(
                f"{lr:g}{'*' * (lr in ends)} with {size:,} images" for size, lr in by_images.items()))


# ---- results --------------------------------------------------------------------------------------------------------


class Results:
    """The accuracies of a study, and differences between them, always as {seed: number}."""

    def __init__(self, plan, study):
        self.plan, self.study, self.most = plan, study, plan.sizes[-1]

    def of(self, task, model, images, change=NONE, what="accuracy"):
        """Return the accuracies of a point."""
        return self.study.by_seed(what, task=task, model=model, images=images, change=change)

    def curve(self, task, model, change=NONE):
        """Return {number of images: accuracies}, for the numbers that are measured."""
        return {size: found for size in self.plan.sizes if (found := self.of(task, model, size, change))}

    def lead(self, task, one, other, images, change=NONE):
        """Return how far one model is ahead of another.

        Where more seeds were measured after a look, these alone count: the look chose the others.
        """
        leads = paired(self.of(task, one, images, change), self.of(task, other, images, change))
        return {seed: leads[seed] for seed in self.plan.again if seed in leads} or leads

    def leads(self, task, one, other, change=NONE):
        """Return {number of images: lead}, for the numbers that are measured."""
        return {size: lead for size in self.plan.sizes if (lead := self.lead(task, one, other, size, change))}

    def growth(self, task, one, other):
        """Return by how much the lead grows with ten times as many images, for seeds with all numbers of images."""
        leads = self.leads(task, one, other)
        seeds = set.intersection(*map(set, leads.values())) if len(leads) == len(self.plan.sizes) else ()
        return {seed: slope({size: {seed: lead[seed]} for size, lead in leads.items()})[0] for seed in seeds}

    def loss(self, model, change):
        """Return how much accuracy a model loses on textures when the images are changed."""
        if change == HALF:
            inside, elsewhere = (self.of("texture", model, self.plan.changed, HALF, what)
                                 for what in ("accuracy", "elsewhere"))
            return paired(inside, elsewhere)
        return paired(*(self.of("texture", model, self.plan.changed, how) for how in (NONE, change)))


def less(numbers, other):
    """Return {seed: other - number}: positive where the numbers are less."""
    return {seed: other - number for seed, number in numbers.items()}


@dataclass(frozen=True)
class Prediction:
    """What the theory says, why, and the differences {seed: number} that must then be positive."""

    claim: str
    because: str
    differences: Callable[[Results], list]

    def verdict(self, results):
        """Return the words: the differences in points, and whether they are as predicted."""
        found = self.differences(results)
        if not all(found):
            return "not measured yet"
        signs = [decided(by_seed) for by_seed in found]
        points = ", ".join(_points(by_seed) for by_seed in found)
        return f"{points}: " + ("confirmed" if min(signs) > 0 else "refuted" if min(signs) < 0 else "open")


PREDICTIONS = [
    Prediction("texture: with 4,096 images the CNN is ahead of the ViT",
               "a convolution is equivariant under shifts: it learns a direction of stripes once for all places",
               lambda r: [r.lead("texture", CNN, VIT, FEW)]),
    Prediction("texture: the lead of the CNN over the ViT shrinks from 1,024 images to the most",
               "what the CNN knows before, the ViT can learn from many images",
               lambda r: [r.growth("texture", VIT, CNN)]),
    Prediction("texture: the ViT is nowhere ahead of the CNN by more than a point",
               "the bias of the CNN is right for this task, so it costs nothing with many images",
               lambda r: [less(r.lead("texture", VIT, CNN, size), 0.01) for size in r.plan.sizes]),
    Prediction("texture: with 4,096 images a convolutional stem makes up more than half of what the ViT lacks",
               "its first layers are equivariant under shifts",
               lambda r: [{seed: lead - r.lead("texture", CNN, STEM, FEW)[seed] for seed, lead
                           in r.lead("texture", STEM, VIT, FEW).items() if seed in r.of("texture", CNN, FEW)}]),
    Prediction("count: with 4,096 images the CNN is ahead of the ViT",
               "a sum over places is what mean pooling computes from equivariant detectors",
               lambda r: [r.lead("count", CNN, VIT, FEW)]),
    Prediction("same-cells: with the most images the ViT is ahead of the CNN",
               "the scores of attention are products of the contents of two tokens; a convolution has no such products",
               lambda r: [r.lead("same-cells", VIT, CNN, r.most)]),
    Prediction("same-cells: the lead of the ViT over the CNN grows from 1,024 images to the most",
               "with few images both learn them by heart",
               lambda r: [r.growth("same-cells", VIT, CNN)]),
    Prediction("same-cells: with the most images the ViT is ahead of the Mixer",
               "a Mixer mixes tokens by weights that do not depend on the image",
               lambda r: [r.lead("same-cells", VIT, MIXER, r.most)]),
    Prediction("same-different: with the most images the lead of the ViT over the CNN is smaller than on same-cells",
               "a pattern that lies across patches is cut differently at each place, so equal patterns make unequal "
               "tokens",
               lambda r: [paired(r.lead("same-cells", VIT, CNN, r.most), r.lead("same-different", VIT, CNN, r.most))]),
    Prediction("symmetry: with the most images the ViT is ahead of the CNN",
               "the first block of a ViT compares places at any distance; the CNN does so only in its last layers",
               lambda r: [r.lead("symmetry", VIT, CNN, r.most)]),
    Prediction("path: with 16,384 images the CNN is ahead of the ViT",
               "a line is followed from neighbour to neighbour, as convolutions work",
               lambda r: [r.lead("path", CNN, VIT, SOME)]),
    Prediction("position: with 4,096 images the ViT is ahead of the CNN",
               "the ViT adds a position to each token; the CNN knows places only from the zeros around the image",
               lambda r: [r.lead("position", VIT, CNN, FEW)]),
    Prediction("position: the lead of the ViT over the CNN shrinks from 1,024 images to the most",
               "those zeros break the symmetry, so the CNN can learn where something is",
               lambda r: [r.growth("position", CNN, VIT)]),
    Prediction("position: a ViT without positions is below 15% right",
               "it sees a bag of patches, and each field is one patch",
               lambda r: [less(r.of("position", BAG, r.plan.changed), 0.15)]),
    Prediction("texture, patches permuted in training and test: CNN, ViT with stem and Swin lose accuracy",
               "neighbours are no neighbours any more",
               lambda r: [r.loss(model, PERMUTED) for model in (CNN, STEM, SWIN)]),
    Prediction("texture, patches permuted in training and test: ViT, ViT without positions and Mixer change by less "
               "than 2 points",
               "they treat every pair of patches alike before training",
               lambda r: [less(r.loss(model, PERMUTED), 0.02) for model in (VIT, BAG, MIXER)]
                         + [less(less(r.loss(model, PERMUTED), 0), 0.02) for model in (VIT, BAG, MIXER)]),
    Prediction("texture, trained with the stripes in the left half: in the right half the ViT loses more than the CNN",
               "the CNN is equivariant under shifts; the ViT's positions of the right half have learned nothing",
               lambda r: [paired(r.loss(VIT, HALF), r.loss(CNN, HALF))]),
    # written when the accuracies with the most images were known, and no others
    Prediction("texture, patches permuted: with 1,024 images the CNN is ahead, with the most the ViT",
               "a convolution still learns stripes once for all places inside the patches, but across their borders it "
               "reads neighbours that are none",
               lambda r: [r.lead("texture", CNN, VIT, r.plan.sizes[0], PERMUTED),
                          r.lead("texture", VIT, CNN, r.most, PERMUTED)]),
]


# ---- report ---------------------------------------------------------------------------------------------------------


def _points(by_seed):
    """Return the mean and error of differences, in points; of a single seed no error."""
    mean, error = mean_and_error(by_seed.values())
    return f"{100 * mean:+.1f}" + f" +- {100 * error:.1f}" * (len(by_seed) > 1)


def _percent(by_seed):
    """Return the mean and error of accuracies, in percent; "-" without any."""
    return _points(by_seed).removeprefix("+") if by_seed else "-"


def images_needed(curve, level):
    """Return how many images a seed needs to reach an accuracy, from its curve {images: accuracy}; None if never.

    Interpolated linearly over the logarithm of the number. If the smallest number suffices, it is returned.
    """
    sizes = sorted(curve)
    above = [k for k, size in enumerate(sizes) if curve[size] >= level]
    if not above or above[0] == 0:
        return sizes[0] if above else None
    a, b = sizes[above[0] - 1], sizes[above[0]]
    return a * (b / a) ** ((level - curve[a]) / (curve[b] - curve[a]))


def print_task(results, task, models, change=NONE):
    """Print the accuracies of a task, who is ahead, and how many images each model needs."""
    curves = {model: curve for model in models if (curve := results.curve(task, model, change))}
    if not curves:
        return
    title = task if change == NONE else f"{task}, {change}"
    print(f"\n{title}: {TASKS[task].question} Chance is {1 / len(TASKS[task].class_names):.1%}.")
    print(f"{'images':>10}" + "".join(f"{model:>16}" for model in curves))
    for size in results.plan.sizes:
        if any(size in curve for curve in curves.values()):
            print(f"{size:10,}" + "".join(f"{_percent(curve.get(size)):>16}" for curve in curves.values()))
    for one, other in ((CNN, VIT), (COARSE, VIT), (CNN, STEM)):
        leads = results.leads(task, one, other, change)
        if leads and results.plan is not QUICK:
            print(f"{one} and {other}: {verdict(leads, f'the {one}', f'the {other}')}")
    best = max(mean_and_error(found.values())[0] for curve in curves.values() for found in curve.values())
    chance, needed = 1 / len(TASKS[task].class_names), {}
    if best < chance + 0.1:                                           # nobody has learned the task
        return
    level = (chance + best) / 2
    for model, curve in curves.items():
        seeds = set.intersection(*map(set, curve.values()))
        of_seeds = [images_needed({size: found[seed] for size, found in curve.items()}, level) for seed in seeds]
        reached = [math.log(count) for count in of_seeds if count]
        needed[model] = (f"{math.exp(np.mean(reached)):,.0f}" if of_seeds and len(reached) == len(of_seeds) else
                         f"not reached by {len(of_seeds) - len(reached)} of {len(of_seeds)} seeds")
    print(f"Images needed for {level:.1%}: " + ", ".join(f"{model} {text}" for model, text in needed.items()))


def print_changed(results):
    """Print the accuracies of models that were trained on changed textures."""
    columns = {"unchanged": (NONE, "accuracy"), PERMUTED: (PERMUTED, "accuracy"),
               "left, tested left": (HALF, "accuracy"), "left, tested right": (HALF, "elsewhere")}
    rows = {model: [results.of("texture", model, results.plan.changed, *how) for how in columns.values()]
            for model in MODELS}
    if any(any(row[1:]) for row in rows.values()):
        print(f"\ntexture, {results.plan.changed:,} images: the accuracy with changed images")
        print(f"{'':22}" + "".join(f"{name:>20}" for name in columns))
        for model, row in rows.items():
            print(f"{model:22}" + "".join(f"{_percent(found):>20}" for found in row))


def report(plan, study, options):
    """Print the results and the verdicts on the predictions, and draw the tasks and models of the options."""
    results = Results(plan, study)
    for task, models in plan.models.items():
        print_task(results, task, models)
    print_task(results, "texture", (CNN, VIT), PERMUTED)
    print_changed(results)
    if plan is not QUICK:
        print("\nPredictions, and what was measured (points, mean and standard error over the seeds)")
        for number, prediction in enumerate(PREDICTIONS, 1):
            print(f"{number:2}. {prediction.claim}, because {prediction.because}.\n    {prediction.verdict(results)}")
    models = [model for model in MODELS if model in (options.model or MODELS)]
    tasks = [task for task in plan.models if task in (options.task or plan.models)
             and any(results.curve(task, model) for model in models)]
    if tasks:
        draw_study(results, tasks, models, options.out)
        print(f"\nFigure: {options.out}")


def draw_study(results, tasks, models, path):
    """Draw for each task three images and the curves of the models; at the end the changed textures."""
    all_colours = dict(zip(MODELS, (INK, "#f08a5d", *SERIES[1:], "#8367c7", FAINT), strict=True))
    panels = [(task, change) for task in tasks for change in (NONE, PERMUTED)
              if any(len(results.curve(task, model, change)) > (change != NONE) for model in models)]
    changed = "texture" in tasks and any(results.of("texture", model, results.plan.changed, change)
                                         for model in models for change in (PERMUTED, HALF))
    colours = {model: all_colours[model] for model in models
               if changed or any(results.curve(task, model, change) for task, change in panels)}
    rows = math.ceil((len(panels) + changed) / 4)
    columns = math.ceil((len(panels) + changed) / rows)
    figure = new_figure(2.5 * columns, 2.8 * rows)
    parts = np.ravel(figure.subfigures(rows, columns))
    for part, panel in zip(parts, panels, strict=False):
        draw_task(part, results, *panel, colours)
    if changed:
        draw_changed(parts[len(panels)].subplots(), results, colours)
    figure.legend([Patch(color=colour) for colour in colours.values()], colours, loc="outside upper center",
                  ncols=2 * columns, frameon=False, fontsize=8)
    figure.supxlabel("different training images; each training shows equally many", fontsize=8)
    figure.supylabel("% of the test images right", fontsize=8)
    save(figure, path)


def draw_task(part, results, task, change, colours):
    """Draw three images of a task, and a curve for each model: accuracy against the number of training images."""
    examples, axes = part.subplots(2, 1, height_ratios=[1, 2.6])
    images = draw(task, 3, TUNING_SEED, "train", change)[0][..., 0]
    show(examples, np.hstack([np.pad(image, 1, constant_values=255) for image in images]),
         task if change == NONE else f"{task}, {change}")
    for model, colour in colours.items():
        if curve := results.curve(task, model, change):
            middle, spread = zip(*(mean_and_error(found.values()) for found in curve.values()), strict=True)
            axes.errorbar([*curve], 100 * np.array(middle), 100 * np.nan_to_num(spread), fmt="o-", ms=3, lw=1.2,
                          color=colour)
    chance, sizes = 100 / len(TASKS[task].class_names), results.plan.sizes
    axes.axhline(chance, color="k", lw=0.7, ls=":")
    axes.set(xscale="log", xlim=(0.8 * sizes[0], 1.25 * sizes[-1]), ylim=(chance - 5, 102))
    axes.tick_params(labelsize=7)
    axes.spines[["top", "right"]].set_visible(False)


def draw_changed(axes, results, colours):
    """Draw bars: the accuracy on unchanged textures, with permuted patches, and where no stripes were in training."""
    columns = {"unchanged": (NONE, "accuracy"), "permuted": (PERMUTED, "accuracy"), "shifted": (HALF, "elsewhere")}
    width = 1 / (len(colours) + 1)
    for k, (model, colour) in enumerate(colours.items()):
        found = {name: by_seed for name, how in columns.items()
                 if (by_seed := results.of("texture", model, results.plan.changed, *how))}
        axes.bar([list(columns).index(name) + (k - (len(colours) - 1) / 2) * width for name in found],
                 [100 * mean_and_error(by_seed.values())[0] for by_seed in found.values()], width, color=colour)
    axes.set(xlim=(-0.5, 2.5), ylim=(0, 102))
    axes.set_xticks(range(3), columns)
    axes.set_title("texture: patches permuted,\nor tested where no stripes were", fontsize=8)
    axes.tick_params(labelsize=7)
    axes.spines[["top", "right"]].set_visible(False)


def chosen(points, options):
    """Return the points that the options choose."""
    return [point for point in points if (not options.task or point["task"] in options.task)
            and (not options.model or point["model"] in options.model)
            and (not options.seeds or point.get("seed", 0) in options.seeds)
            and (not options.images or point["images"] in options.images)]


def run(plan, options, file):
    """Do what the options say, with the table `file` and that of the tuning beside it."""
    tuning = Study(file.with_name(f"{file.stem}_tuning.csv"), plan.settings | {"tuning_seen": plan.tuning_seen})
    if options.tune or options.quick:
        left = tuning.run(chosen(plan.tuning_points, options), partial(measure_tuning_point, plan), options.limit,
                          options.jobs)
        print_rates(plan, best_rates(plan, tuning))
        print(f"{tuning.file}: {left} points are missing.")
        if not options.quick:
            return
    rates, study, points = best_rates(plan, tuning), Study(file, plan.settings), chosen(plan.points, options)
    check_rates(plan, rates, study)
    tuned = [point for point in points if rate_of(plan, rates, point["task"], point["model"], point["images"])]
    if untuned := len(points) - len(tuned):
        print(f"{untuned} points are left out: their learning rates are not chosen yet (--tune).")
    left = study.run(tuned, partial(measure_point, plan, rates), options.limit, options.jobs) + untuned
    if study.rows:
        report(plan, study, options)
    print(f"{file}: {left} points are missing."
          + (" With --quick the models train too little for conclusions." if options.quick else ""))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a tiny study of one task; keeps only the figure")
    parser.add_argument("--short", action="store_true", help="the study with an eighth of the steps")
    parser.add_argument("--tune", action="store_true", help="choose the learning rates")
    parser.add_argument("--task", action="append", choices=TASKS, help="only this task; may be repeated")
    parser.add_argument("--model", action="append", choices=MODELS, help="only this model; may be repeated")
    parser.add_argument("--seeds", type=int, nargs="+", metavar="S", help="only these seeds")
    parser.add_argument("--images", type=int, nargs="+", metavar="N", help="only these numbers of images")
    parser.add_argument("--limit", type=int, metavar="N", help="measure at most N points")
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="points measured at the same time")
    parser.add_argument("--csv", type=Path, help="the table (default: when_a_vit_wins.csv beside this file)")
    parser.add_argument("--out", default="when_a_vit_wins.png", help="the image file to write")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        beside = Path(scratch) if options.quick else Path(__file__).parent
        plan = QUICK if options.quick else SHORT if options.short else FULL
        run(plan, options, options.csv or beside / f"when_a_vit_wins{'_short' if plan is SHORT else ''}.csv")


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit("interrupted: run the same command to continue")
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")
