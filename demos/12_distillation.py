"""Does a Transformer learn better from a convolutional network than from the labels alone?

    python demos/12_distillation.py            the study; writes demos/distillation.csv and draws distillation.png
    python demos/12_distillation.py --quick    a small study of the digits, without conclusions; keeps only the figure

A *point* is one training: a model, a number of images and a seed. Interrupt the study at any time: the same command
continues with the missing points. --limit 5 measures five points and stops. The figure shows the points measured so
far.

A DeiT has a second token, which learns from a teacher. Touvron et al., arXiv:2012.12877, claim: with a convolutional
teacher, the DeiT inherits its inductive bias and needs fewer images. The study trains the same DeiT in three ways:
alone, with hard distillation (from the teacher's top class) and with soft distillation (from all its probabilities).
Teacher and students learn from the same subset of Fashion-MNIST, for the same number of steps, with the same settings.
These settings were not tuned for any of them. All images are augmented, because a teacher that has memorised an image
would only repeat its label.
"""

import argparse
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import minivit
from minivit.data import subset
from minivit.explain import Study
from minivit.explain.tools.plots import draw_groups
from minivit.explain.tools.trend import decided, mean_and_error, paired
from minivit.training_pipeline.defaults.default_model import model_for
from minivit.training_pipeline.folder import RunFolder

TEACHER, ALONE = "ResNet, the teacher", "DeiT alone"
DISTILLED = {"DeiT, hard distillation": "hard", "DeiT, soft distillation": "soft"}


@dataclass(frozen=True)
class Plan:
    """The plan of a study.

    epochs: on all images; fewer images get as many steps. widths: of the teacher and of the DeiT. depth: of the DeiT.
    """

    data: str
    sizes: tuple
    seeds: tuple
    epochs: float
    batch_size: int
    augment: str
    lr: float = 6e-3
    widths: tuple = (24, 48)
    depth: int = 4

    @property
    def models(self):
        """{role: (a name for `model_for`, its options)}."""
        teacher, student = self.widths
        deit = "deit_mini", {"width": student, "heads": 3, "depth": self.depth, "drop_path_rate": 0.1}
        return {TEACHER: ("resnet_mini", {"width": teacher, "groups": 8, "drop_path_rate": 0.1}),
                ALONE: deit} | dict.fromkeys(DISTILLED, deit)

    @property
    def training(self):
        """The settings of `minivit.train` that all points share."""
        return {"epochs": self.epochs, "batch_size": self.batch_size, "optimiser": "muon", "lr": self.lr,
                "weight_decay": 0.05, "label_smoothing": 0.1, "clip": 1.0, "warmup": 0.1, "ema": 0.0,
                "augment": self.augment}

    @property
    def settings(self):
        """Everything else that the results depend on, besides the point."""
        return {"data": self.data, "models": {role: [*model] for role, model in self.models.items()},
                "training": self.training}

    @property
    def points(self):
        """Return all points, seed by seed."""
        return [{"role": role, "images": size, "seed": seed} for seed in self.seeds for size in self.sizes
                for role in self.models]


FULL = Plan("fashion-mnist", (2000, 20000), (0, 1, 2), epochs=1.2, batch_size=128, augment="crop:0.07,alternating-flip")
QUICK = Plan("digits", (200, 1400), (0, 1), epochs=1, batch_size=32, augment="affine", lr=9e-3, widths=(8, 24), depth=2)


def train(plan, role, images, seed, **settings):
    """Train the model of a role on its subset. Return parameter count, test accuracy and loss of the last epoch."""
    variant, options = plan.models[role]
    data = subset(minivit.load_data(plan.data), images, seed)
    model = model_for(data, variant, seed=seed, **options)
    result = minivit.train(model, data, seed=seed, progress=False, **plan.training, **settings)
    return {"parameters": model.vector.size, "accuracy": result.accuracy, "loss": round(result.loss, 5)}


def train_teacher(plan, folder, images, seed):
    """Train a teacher in its folder, or resume its training. The result is that of `train`."""
    return train(plan, TEACHER, images, seed, out=folder, resume=RunFolder(folder).config_file.exists())


def study(plan, file, teachers, limit):
    """Measure the points. Return the Study and the number of missing points. teachers: folder of the teachers' runs."""
    table = Study(file, plan.settings)

    def measure(role, images, seed):
        folder = teachers / f"teacher-{images}-seed{seed}"
        if role == TEACHER:
            return train_teacher(plan, folder, images, seed)
        if role == ALONE:
            return train(plan, role, images, seed)
        if not RunFolder(folder).model_file.is_file():
            train_teacher(plan, folder, images, seed)
        return train(plan, role, images, seed, teacher=folder, distillation=DISTILLED[role])

    return table, table.run(plan.points, measure, limit)


def report(plan, table, figure):
    """Print the results and draw the figure."""
    groups = {f"{size:,} images": {role: found for role in plan.models
                         if (found := table.by_seed("accuracy", role=role, images=size))}
              for size in plan.sizes}
    for label, found in groups.items():
        print(f"\nTest accuracy with {label}, mean and standard error over the seeds")
        for role, accuracies in found.items():
            mean, error = mean_and_error(accuracies.values())
            count = max(table.by_seed("parameters", role=role).values())
            print(f"{role:24} {count:7,.0f} parameters: {100 * mean:.2f} +- {100 * error:.2f} % over "
                  f"{len(accuracies)} seeds")
        for role in DISTILLED:
            if len(gain := paired(found.get(role, {}), found.get(ALONE, {}))) > 1:    # a single seed shows nothing
                mean, error = mean_and_error(gain.values())
                effect = {1: "it helps", 0: "no significant effect (95% confidence)", -1: "it harms"}[decided(gain)]
                print(f"With {label}, {DISTILLED[role]} distillation changes the accuracy by {100 * mean:+.2f} +- "
                      f"{100 * error:.2f} points" + ("." if plan is QUICK else f": {effect}."))
    draw_groups({label: found for label, found in groups.items() if found}, figure)
    print(f"Figure: {figure}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true",
                        help="small models, few images, two seeds; keeps only the figure")
    parser.add_argument("--limit", type=int, metavar="N", help="measure at most N points")
    parser.add_argument("--csv", type=Path, help="the table (default: distillation.csv beside this file)")
    parser.add_argument("--teachers", type=Path, help="folder of the teachers' runs (default: runs/distillation)")
    parser.add_argument("--out", default="distillation.png", help="the image file to write")
    options = parser.parse_args()
    plan = QUICK if options.quick else FULL
    with tempfile.TemporaryDirectory() as scratch:
        file = options.csv or (Path(scratch) if options.quick else Path(__file__).parent) / "distillation.csv"
        teachers = options.teachers or (Path(scratch) if options.quick else Path("runs") / "distillation")
        table, left = study(plan, file, teachers, options.limit)
        if table.rows:
            report(plan, table, options.out)
        print(f"{file}: {left} points are missing."
              + (" With --quick the models train too little for conclusions." if options.quick else ""))


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit("interrupted: run the same command to continue")
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")
