"""When does a Vision Transformer beat a convolutional network? Train both on more and more images.

    python demos/11_scale.py --tune           first: choose learning rates by validation; writes scale_tuning.csv
    python demos/11_scale.py                  then: the study; writes demos/scale.csv and draws scale.png
    python demos/11_scale.py --quick          a small study of the digits, without conclusions; keeps only the figure
    python demos/11_scale.py --data digits    a study of the digits (--tune first); writes scale_digits*.csv

A *point* is one training: a model, a number of images and a seed. A study has many points and takes hours. Interrupt it
at any time: the same command continues with the missing points. Each core trains one point at a time, which is faster
for small models than sharing each step. The number of threads does not change the results. --limit 5 measures five
points and stops. The figure shows the points measured so far.

Dosovitskiy et al., arXiv:2010.11929, section 4.3, claim: the inductive bias of a convolution helps with few images, and
with enough images a Transformer is better without it. The study compares three models: a ViT with learned positions, a
ViT with a convolutional stem and relative position biases, and the baseline of the paper, a ResNetV2 with group norm.

- All models have the same number of parameters, within 7% (except with --quick). So the ViT with a stem is narrower.
- Every training takes the same number of steps. The test accuracy is that after the last step.
- For one seed, the smaller subsets of images are parts of the larger ones.
- The learning rate of each model is chosen from the same grid, by validation on a sixth of the training images. This is
  done for a small and for a large number of images. A point uses the learning rate of the nearer number.
- The test images are used for the final accuracy only.
- A seed fixes the subset, the initial weights and the order of the images.
- The last part of the study repeats some points with augmentation, because augmentation may replace inductive bias.
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
from minivit.training_pipeline.defaults.default_model import model_for

CNN, VIT, HYBRID = "CNN", "ViT", "ViT with stem and bias"
TUNING_SEED = 99                                                      # not a seed of the study


@dataclass(frozen=True)
class Plan:
    """The plan of a study.

    tuned: numbers of images for which learning rates are chosen and augmentation is tested. augment: the transforms.
    epochs: on all images; fewer images get as many steps. widths: of the CNN, the ViT, and the ViT with a stem.
    depth: of both ViTs.
    """

    data: str
    sizes: tuple
    tuned: tuple
    seeds: tuple
    learning_rates: tuple
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
                "label_smoothing": 0.1, "clip": 1.0, "warmup": 0.1, "ema": 0.0}

    @property
    def settings(self):
        """Everything else that the results depend on, besides the point and the learning rates."""
        return {"data": self.data, "models": {name: [*model] for name, model in self.models.items()},
                "training": self.training}

    @property
    def tuning_points(self):
        """Return the points of the tuning."""
        return [{"model": model, "images": size, "lr": lr} for size in self.tuned for model in self.models
                for lr in self.learning_rates]

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
                   batch_size=32, augment="affine", widths=(16, 48, 39)),
}
QUICK = Plan("digits", (100, 400, 1400), (400,), (0, 1), (3e-3, 9e-3), epochs=1, batch_size=32, augment="affine",
             widths=(8, 24, 18), depth=2)


def train(plan, data, name, images, seed, **settings):
    """Train a model and return the results of its point: parameter count, test accuracy, loss of the last epoch."""
    variant, options = plan.models[name]
    part = subset(data, images, seed)
    model = model_for(part, variant, seed=seed, **options)
    result = minivit.train(model, part, seed=seed, progress=False, **plan.training, **settings)
    return {"parameters": model.vector.size, "accuracy": result.accuracy, "loss": round(result.loss, 5)}


def measure_tuning_point(plan, threads, model, images, lr):
    """Measure a point of the tuning: the accuracy on a sixth of the training images."""
    data = minivit.load_data(plan.data)
    train_part, validation_part = split(data.train_labels, 1 / 6, TUNING_SEED)
    data = dataclasses.replace(
        data, train_images=data.train_images[train_part], train_labels=data.train_labels[train_part],
        test_images=data.train_images[validation_part], test_labels=data.train_labels[validation_part], source=None)
    try:
        return train(plan, data, model, images, TUNING_SEED, augment="none", lr=lr, threads=threads)
    except FloatingPointError:                                        # the learning rate is too high
        return {"parameters": 0, "accuracy": 0.0, "loss": math.inf}


def measure_point(plan, threads, learning_rates, model, images, augment, seed):
    """Measure a point of the study, with the learning rate chosen for the nearest number of images."""
    nearest = min(plan.tuned, key=lambda size: abs(math.log(size / images)))
    return train(plan, minivit.load_data(plan.data), model, images, seed, augment=augment,
                 lr=learning_rates[model][nearest], threads=threads)


def threads_per_job(jobs):
    """Return the number of threads for each of `jobs` points that are measured at the same time."""
    return max(1, available_threads() // max(jobs, 1))


def tune(plan, file, limit, jobs=1):
    """Measure the points of the tuning, `jobs` at the same time. Return the number of missing points."""
    measure = partial(measure_tuning_point, plan, threads_per_job(jobs))
    return Study(file, plan.settings).run(plan.tuning_points, measure, limit, jobs)


def best_learning_rates(plan, file):
    """Return {model: {images: learning rate with the best validation accuracy}}.

    Raises ValueError if the tuning is not finished.
    """
    study = Study(file, plan.settings)
    found = {tuple(row[name] for name in ("model", "images", "lr")): row["accuracy"] for row in study.rows}
    if missing := [point for point in plan.tuning_points if tuple(point.values()) not in found]:
        count = len(plan.tuning_points)
        raise ValueError(f"the tuning is not finished: found {count - len(missing)} points in {file}, expected "
                         f"{count}, run the same command with --tune first")
    return {model: {size: max(plan.learning_rates, key=lambda lr: found[model, size, lr]) for size in plan.tuned}
            for model in plan.models}


def sweep(plan, file, learning_rates, limit, jobs=1):
    """Measure the points of the study, `jobs` at the same time. Return the Study and the number of missing points."""
    # JSON keys are strings
    rates = {model: {str(size): lr for size, lr in by_size.items()} for model, by_size in learning_rates.items()}
    study = Study(file, plan.settings | {"rates": rates})
    measure = partial(measure_point, plan, threads_per_job(jobs), learning_rates)
    return study, study.run(plan.points, measure, limit, jobs)


def report(plan, study, figure):
    """Print the results and draw the figure."""
    curves = {model: {size: found for size in plan.sizes
                      if (found := study.by_seed("accuracy", model=model, images=size, augment="none"))}
              for model in plan.models}
    print("\nTest accuracy in %, mean and standard error over the seeds")
    print(f"{'images':>10}" + "".join(f"{model:>24}" for model in plan.models))
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
    for name, (growth, error, _) in lines.items():
        print(f"Lead of the {name.replace(' - ', ' over the ')}: with ten times as many images it changes by "
              f"{100 * growth:+.2f} +- {100 * error:.2f} points."
              + ("" if plan is QUICK else f" {verdict(gaps[name], *(f'the {model}' for model in name.split(' - ')))}"))
    groups = {f"{size:,} images": members for size in plan.tuned if (members := _augmented(study, size, plan.augment))}
    for label, members in groups.items():
        for model in (CNN, VIT):
            if gain := paired(members.get(f"{model}, augmented", {}), members.get(model, {})):
                print(f"With {label}, augmentation changes the accuracy of the {model} by "
                      + "{:+.2f} +- {:.2f} points.".format(*(100 * value for value in mean_and_error(gain.values()))))
    draw_scale(curves, gaps, lines, groups, figure)
    print(f"Figure: {figure}")


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
        learning_rates = {} if left else best_learning_rates(plan, tuning)
        for model, by_size in learning_rates.items():
            print(f"Best learning rate of the {model} among {', '.join(f'{lr:g}' for lr in plan.learning_rates)}: "
                  + ", ".join(f"{lr:g} with {size:,} images" for size, lr in by_size.items()) + "."
                  + (" One is at the end of the list: a value outside may be better."
                     if {plan.learning_rates[0], plan.learning_rates[-1]} & {*by_size.values()} else ""))
        print(f"{tuning}: {left} points are missing.")
        if not options.quick:
            return
    study, left = sweep(plan, file, best_learning_rates(plan, tuning), options.limit, options.jobs)
    if study.rows:
        report(plan, study, options.out)
    print(f"{file}: {left} points are missing."
          + (" With --quick the models train too little for conclusions." if options.quick else ""))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true",
                        help="small models, few images, two seeds; keeps only the figure")
    parser.add_argument("--data", choices=PLANS, default="fashion-mnist", help="which study (default: fashion-mnist)")
    parser.add_argument("--tune", action="store_true", help="choose the learning rates")
    parser.add_argument("--limit", type=int, metavar="N", help="measure at most N points")
    parser.add_argument("--jobs", type=int, metavar="N",
                        help="points measured at the same time (default: number of cores; with --quick one)")
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
