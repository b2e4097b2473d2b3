"""When does a Vision Transformer beat a convolutional network? Train both on more and more images.

    python demos/11_scale.py --tune           first: choose learning rates by validation; writes scale_tuning.csv
    python demos/11_scale.py                  then: the study; writes demos/scale.csv, and draws scale.png
    python demos/11_scale.py --quick          all of it on the digits, too small for conclusions; keeps only the figure
    python demos/11_scale.py --data digits    on the digits (--tune first); the files are scale_digits*.csv

A study takes hours. Interrupt it at any time: the same command continues with the unfinished points. Each core measures
one point at a time, which is faster for small models than sharing each step. The number of threads does not change the
results. --limit 5 measures five points and stops; the figure shows the points measured so far.

The claim is that of Dosovitskiy et al., arXiv:2010.11929, section 4.3: the inductive bias of a convolution helps while
images are few; with enough images a Transformer learns better without it. The study has three models: a ViT with
learned positions, a ViT with a convolutional stem and relative position biases, and the paper's baseline, a ResNetV2
with group norm.

- All models have the same number of parameters, within 7% (except with --quick), so the ViT with a stem is narrower.
- Every run takes the same number of steps and is scored after the last. Smaller subsets are contained in larger ones.
- The learning rate of each model is chosen from the same grid by validation on a sixth of the training images, at a
  small and at a large number of images. A point takes that of the nearer number. Test images choose nothing.
- Seeds differ in subset, weights and order.
- Images are augmented in the last part only, where augmentation replaces knowledge that an architecture lacks.
"""

import argparse
import dataclasses
import math
import sys
import tempfile
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import minivit
from minivit.data import split, subset
from minivit.explain import Study
from minivit.explain.tools.plots import draw_scale
from minivit.explain.tools.trend import mean_and_error, paired, slope, verdict
from minivit.parallel.threads import available_threads
from minivit.runs.defaults.default_model import model_for

CNN, VIT, HYBRID = "CNN", "ViT", "ViT with stem and bias"
TUNING_SEED = 99                                                      # not a seed of the study


@dataclass(frozen=True)
class Plan:
    """The plan of a study.

    tuned: numbers of images at which learning rates are chosen and augmentation is tried. augment: the transforms.
    epochs: for the full data. widths: of the CNN, the ViT, and the ViT with a stem. depth: of both ViTs.
    """

    data: str
    sizes: tuple
    tuned: tuple
    seeds: tuple
    rates: tuple
    epochs: int
    batch_size: int
    augment: str
    widths: tuple
    depth: int = 4

    @property
    def models(self):
        """{name: (a name for `model_for`, its options)}."""
        cnn, vit, hybrid = self.widths
        vits = {"heads": 3, "depth": self.depth, "drop_path_rate": 0.1}
        return {CNN: ("resnet_mini", {"width": cnn, "groups": 4, "drop_path_rate": 0.1}),
                VIT: ("vit_mini", {"width": vit} | vits),
                HYBRID: ("vit_mini", {"width": hybrid} | vits | {"pool": "mean", "stem": "conv", "relative_bias": True,
                                                                 "position_std": 0.02})}

    @property
    def training(self):
        """The settings of `minivit.train` that all points share."""
        return {"epochs": self.epochs, "batch_size": self.batch_size, "optimiser": "adamw", "weight_decay": 0.05,
                "label_smoothing": 0.1,
                "clip": 1.0, "warmup": 0.1, "ema": 0.0}

    @property
    def settings(self):
        """Everything that results depend on, besides the point and the learning rates."""
        return {"data": self.data, "models": {name: [*model] for name, model in self.models.items()},
                "training": self.training}

    @property
    def tuning_points(self):
        """Return the points of the tuning."""
        return [{"model": model, "images": size, "lr": lr} for size in self.tuned for model in self.models
                for lr in self.rates]

    @property
    def points(self):
        """Return all points, seed by seed, so that an interrupted study has complete seeds."""
        plain = [(model, size, "none") for size in self.sizes for model in self.models]
        augmented = [(model, size, self.augment) for size in self.tuned for model in (CNN, VIT)]
        return [{"model": model, "images": size, "augment": augment, "seed": seed}
                for part in (plain, augmented) for seed in self.seeds for model, size, augment in part]


PLANS = {
    "fashion-mnist": Plan("fashion-mnist", (500, 1500, 5000, 15000, 30000, 60000), (1500, 30000), (0, 1, 2),
                          (3e-4, 1e-3, 3e-3, 9e-3, 2.7e-2, 8.1e-2), epochs=5, batch_size=128,
                          augment="crop:0.07,alternating-flip,cutout:0.4:0.5", widths=(16, 48, 36)),
    "digits": Plan("digits", (100, 200, 400, 700, 1000, 1400), (200, 1000), (0, 1, 2), (1e-3, 3e-3, 9e-3), epochs=30,
                   batch_size=32,
                   augment="affine", widths=(16, 48, 39)),
}
QUICK = Plan("digits", (100, 400, 1400), (400,), (0, 1), (3e-3, 9e-3), epochs=1, batch_size=32, augment="affine",
             widths=(8, 24, 18),
             depth=2)


def train(plan, data, name, images, seed, **settings):
    """Train a model and return the results of its point: parameters, test accuracy, loss of the last epoch."""
    variant, options = plan.models[name]
    part = subset(data, images, seed)
    model = model_for(part, variant, seed=seed, **options)
    result = minivit.train(model, part, seed=seed, progress=False, **plan.training, **settings)
    return {"parameters": model.vector.size, "accuracy": result.accuracy, "loss": round(result.loss, 5)}


def measure_rate(plan, threads, model, images, lr):
    """Measure a point of the tuning: the accuracy on a sixth of the training images."""
    whole = minivit.load_data(plan.data)
    rest, part = split(whole.train_labels, 1 / 6, TUNING_SEED)
    data = dataclasses.replace(whole, train_images=whole.train_images[rest], train_labels=whole.train_labels[rest],
                               test_images=whole.train_images[part], test_labels=whole.train_labels[part], source=None)
    try:
        return train(plan, data, model, images, TUNING_SEED, augment="none", lr=lr, threads=threads)
    except FloatingPointError:                                        # the learning rate is too high
        return {"parameters": 0, "accuracy": 0.0, "loss": math.inf}


def measure_point(plan, threads, rates, model, images, augment, seed):
    """Measure a point of the study, with the learning rate chosen at the nearest number of images."""
    near = min(plan.tuned, key=lambda size: abs(math.log(size / images)))
    return train(plan, minivit.load_data(plan.data), model, images, seed, augment=augment, lr=rates[model][near],
                 threads=threads)


def threads_of(jobs):
    """Return the number of threads for each of `jobs` points that run at once."""
    return max(1, available_threads() // max(jobs, 1))


def tune(plan, file, limit, jobs=1):
    """Measure the points of the tuning, `jobs` at once. Return how many are left."""
    measure = partial(measure_rate, plan, threads_of(jobs))
    return Study(file, plan.settings).run(plan.tuning_points, measure, limit, jobs)


def chosen_rates(plan, file):
    """Return {model: {images: learning rate with the best validation accuracy}}.

    Raises ValueError if the tuning is not finished.
    """
    study = Study(file, plan.settings)
    found = {tuple(row[name] for name in ("model", "images", "lr")): row["accuracy"] for row in study.rows}
    if missing := [point for point in plan.tuning_points if tuple(point.values()) not in found]:
        raise ValueError(f"{file} lacks {len(missing)} of {len(plan.tuning_points)} points: run --tune first, with the "
                         "same options")
    return {model: {size: max(plan.rates, key=lambda lr: found[model, size, lr]) for size in plan.tuned}
            for model in plan.models}


def sweep(plan, file, rates, limit, jobs=1):
    """Measure the points of the study, `jobs` at once. Return the Study and how many are left."""
    # JSON keys are texts
    words = {model: {str(size): lr for size, lr in by_size.items()} for model, by_size in rates.items()}
    study = Study(file, plan.settings | {"rates": words})
    measure = partial(measure_point, plan, threads_of(jobs), rates)
    return study, study.run(plan.points, measure, limit, jobs)


def report(plan, study, picture):
    """Print what the table shows, and draw it."""
    curves = {model: {size: found for size in plan.sizes
                      if (found := study.by_seed("accuracy", model=model, images=size, augment="none"))}
              for model in plan.models}
    print("\naccuracy in %, mean and standard error over the "
          f"seeds\n{'images':>10}" + "".join(f"{model:>24}" for model in plan.models))
    for size in plan.sizes:
        cells = [_percent(mean_and_error(curve[size].values())) if size in curve else "-" for curve in curves.values()]
        print(f"{size:10,}" + "".join(f"{cell:>24}" for cell in cells))
    counts = [max(study.by_seed("parameters", model=model).values(), default=0) for model in plan.models]
    print("parameters" + "".join(f"{count:24,.0f}" for count in counts) + "\n")

    found = {f"{CNN} - {model}": {size: paired(curves[CNN][size], curves[model][size])
                          for size in curves[CNN] if size in curves[model]}
             for model in (VIT, HYBRID)}
    gaps = {name: gap for name, by_size in found.items()
            if (gap := {size: pairs for size, pairs in by_size.items() if pairs})}
    lines = {name: slope(gap) for name, gap in gaps.items() if len(gap) > 1}
    for name, (grows, error, _) in lines.items():
        print(f"{name}: {100 * grows:+.2f} +- {100 * error:.2f} points for ten times as many images. "
              + verdict(gaps[name], *(f"the {model}" for model in name.split(" - "))))
    groups = {f"{size:,} images": members for size in plan.tuned if (members := _augmented(study, size, plan.augment))}
    for label, members in groups.items():
        for model in (CNN, VIT):
            if gain := paired(members.get(f"{model}, augmented", {}), members.get(model, {})):
                print(f"{label}: augmentation changes the {model} by " + "{:+.2f} +- {:.2f} points".format(
                    *(100 * value for value in mean_and_error(gain.values()))))
    draw_scale(curves, gaps, lines, groups, picture)
    print(f"Figure: {picture}")


def _augmented(study, size, augment):
    """Return {name: {seed: accuracy}} with and without augmentation, where both exist."""
    by_model = {f"{model}{how}": study.by_seed("accuracy", model=model, images=size, augment=steps)
                for how, steps in (("", "none"), (", augmented", augment)) for model in (CNN, VIT)}
    return {name: found for name, found in by_model.items() if found}


def _percent(mean_error):
    """Return a mean and its error in percent."""
    return "{:.2f} +- {:.2f}".format(*(100 * value for value in mean_error))


def run(plan, options, tuning, file):
    """Do what the options say, with the tables of the tuning and of the study."""
    if options.tune or options.quick:
        left = tune(plan, tuning, options.limit, options.jobs)
        rates = {} if left else chosen_rates(plan, tuning)
        for model, by_size in rates.items():
            print(f"{model}: the best of the learning rates {', '.join(f'{lr:g}' for lr in plan.rates)} is "
                  + ", ".join(f"{lr:g} at {size:,} images" for size, lr in by_size.items())
                  + ("; one at an end: beyond it may be "
                     "better" if {plan.rates[0], plan.rates[-1]} & {*by_size.values()} else ""))
        print(f"{tuning}: {left} points left")
        if not options.quick:
            return
    study, left = sweep(plan, file, chosen_rates(plan, tuning), options.limit, options.jobs)
    if study.rows:
        report(plan, study, options.out)
    print(f"{file}: {left} points left{'; this was too little training to judge by' if options.quick else ''}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="small models, few images, two seeds; keeps only the "
                                                             "picture")
    parser.add_argument("--data", choices=PLANS, default="fashion-mnist", help="which study (default: fashion-mnist)")
    parser.add_argument("--tune", action="store_true", help="choose the learning rates")
    parser.add_argument("--limit", type=int, metavar="N", help="measure at most N points")
    parser.add_argument("--jobs", type=int, metavar="N", help="points at once (default: as many as there are cores; "
                                                              "with --quick one)")
    parser.add_argument("--csv", type=Path, help="the table (default: scale.csv or scale_digits.csv beside this file)")
    parser.add_argument("--out", default="scale.png", help="the image file to write")
    options = parser.parse_args()
    if options.jobs is None:
        options.jobs = 1 if options.quick else available_threads()
    plan = QUICK if options.quick else PLANS[options.data]
    with tempfile.TemporaryDirectory() as scratch:
        beside = Path(scratch) if options.quick else Path(__file__).parent
        file = options.csv or beside / ("scale_digits.csv" if options.data == "digits" else "scale.csv")
        run(plan, options, file.with_name(f"{file.stem}_tuning.csv"), file)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit("interrupted: run the same command to continue")
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")
