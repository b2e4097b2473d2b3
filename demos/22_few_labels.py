"""What is pre-training without labels worth if only a few images have labels?

    python demos/22_few_labels.py                         digits: 10 labelled images of each class
    python demos/22_few_labels.py --data fashion-mnist    20 labelled images of each class
    python demos/22_few_labels.py --quick                 a small study of the digits, without conclusions

Two ways are compared. *From scratch*: a ViT with random weights is trained on the labelled images. *Pre-trained*: the
same ViT is first pre-trained on all training images without labels (a masked autoencoder), and then trained on the same
labelled images. Each seed has its own labelled images, initial weights, pre-training, and for the digits its own split.

First both ways are tuned, over the same learning rates and numbers of steps, on validation images and with seeds that
are not used again: few_labels_DATA_tuning.csv. Then the best settings of each way are measured on the test images after
the last step: few_labels_DATA.csv. Interrupt the study at any time: the same command continues with the missing points,
and a pre-training resumes at its last checkpoint. --limit 5 measures five points and stops.
"""

import argparse
import sys
import tempfile
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import product
from pathlib import Path

import numpy as np

import minivit
from minivit.common.text import plural
from minivit.explain import Study
from minivit.explain.tools.plots import draw_groups
from minivit.explain.tools.trend import decided, mean_and_error, paired
from minivit.training_pipeline.defaults.default_model import model_for
from minivit.training_pipeline.folder import RunFolder
from minivit.training_pipeline.pretrained.fine_tune import fine_tuned_model
from minivit.training_pipeline.pretrained.weight_source import WeightSource
from minivit.training_pipeline.run_settings import training_data

SCRATCH, PRETRAINED = WAYS = ("from scratch", "pre-trained")
BATCH, STEPS_PER_EPOCH = 50, 100


@dataclass(frozen=True)
class Plan:
    """The plan of a study.

    labelled: images of each class. model: options of the ViT that differ from the default. pretraining, training:
    settings of `minivit.pretrain` and `minivit.train`. tried: {setting: values} that the tuning tries. val_images: how
    many validation images the tuning uses.
    """

    data: str
    labelled: int
    model: dict
    pretraining: dict
    tried: dict
    seeds: tuple
    tuning_seeds: tuple
    val_fraction: float = 0.3
    val_images: int = 2000
    training: dict = field(default_factory=dict)

    @property
    def shared(self):
        """Everything that both tables depend on."""
        return {"data": self.data, "labelled": self.labelled, "model": self.model, "pretraining": self.pretraining,
                "training": self.training, "batch": BATCH, "val_fraction": self.val_fraction,
                "val_images": self.val_images}

    @property
    def combinations(self):
        """All combinations of the settings that the tuning tries."""
        return [dict(zip(self.tried, values, strict=True)) for values in product(*self.tried.values())]

    @property
    def tuning_points(self):
        """Each way with each combination of settings, seed by seed."""
        return [{"way": way, **settings, "seed": seed} for seed in self.tuning_seeds
                for way, settings in product(WAYS, self.combinations)]

    @property
    def points(self):
        """Each way, seed by seed."""
        return [{"way": way, "seed": seed} for seed in self.seeds for way in WAYS]


PLANS = {
    "digits": Plan("digits", 10, {}, {"epochs": 400}, {"lr": (3e-4, 1e-3, 3e-3), "steps": (600, 1800)},
                   tuple(range(10)), (20, 21, 22)),
    "fashion-mnist": Plan("fashion-mnist", 20, {"stem": "patch", "depth": 4}, {"epochs": 20, "ema": 0.998},
                          {"lr": (1e-3, 3e-3, 1e-2), "steps": (600, 1800), "augment": ("affine,mixup:1:1",)},
                          tuple(range(4)), (20, 21), val_fraction=0.1, training={"ema": 0.998}),
}
QUICK = Plan("digits", 10, {}, {"epochs": 2}, {"lr": (3e-3,), "steps": (100,)}, (0, 1), (20,))


def pretrained(plan, folder, seed, threads):
    """Pre-train the model of a seed in its folder, or resume; return the source of its weights."""
    run = RunFolder(folder / f"{plan.data}-seed{seed}")
    data = minivit.load_data(plan.data, seed=seed)
    started = run.checkpoint_file.is_file()
    if not run.model_file.is_file():
        settings = {} if started else plan.pretraining | {"seed": seed}
        minivit.pretrain(model_for(data, seed=seed, **plan.model), data, out=run.path, resume=started,
                         threads=threads, progress=False, **settings)
    return WeightSource(run.path)


def labelled_part(plan, seed, tuning):
    """The data with the labelled images alone, repeated so that an epoch has STEPS_PER_EPOCH steps.

    tuning: whether to set validation images apart; of the test images then only one is left, which nobody looks at.
    """
    data = minivit.load_data(plan.data, seed=seed)
    part = training_data(data, {"seed": seed, "labelled": plan.labelled, "val_fraction": plan.val_fraction * tuning})
    rows = np.resize(np.arange(len(part.train_labels)), BATCH * STEPS_PER_EPOCH)
    part = replace(part, train_images=part.train_images[rows], train_labels=part.train_labels[rows], source=None)
    if tuning:
        chosen = np.random.default_rng(seed).permutation(len(part.val_labels))[:plan.val_images]
        part = replace(part, val_images=part.val_images[chosen], val_labels=part.val_labels[chosen],
                       test_images=part.test_images[:1], test_labels=part.test_labels[:1])
    return part


def train(plan, folder, threads, way, steps, seed, tuning, **settings):
    """Train one way on the labelled images of a seed. Return the result of `minivit.train`."""
    data, start = labelled_part(plan, seed, tuning), {}
    whole = minivit.load_data(plan.data, seed=seed)                   # the pixel statistics of all images
    model = model_for(whole, seed=seed, **plan.model)
    if way == PRETRAINED:
        start = {"start": pretrained(plan, folder, seed, threads)}
        model = fine_tuned_model(start["start"], data, seed)
    return minivit.train(model, data, seed=seed, epochs=steps / STEPS_PER_EPOCH, batch_size=BATCH, threads=threads,
                         progress=False, **plan.training, **settings, **start)


def tune(plan, table, folder, threads, limit):
    """Measure the points of the tuning on validation images; return how many are missing."""
    def measure(way, steps, seed, **settings):
        result = train(plan, folder, threads, way, int(steps), int(seed), tuning=True, **settings)
        return {"accuracy": result.validation.accuracy}

    return table.run(plan.tuning_points, measure, limit)


def best(plan, table):
    """{way: settings} with the best mean validation accuracy."""
    def mean(way, settings):
        return mean_and_error(table.by_seed("accuracy", way=way, **settings).values())[0]

    return {way: max(plan.combinations, key=partial(mean, way)) for way in WAYS}


def test(plan, settings, table, folder, threads, limit):
    """Measure the best settings of both ways on the test images; return how many points are missing."""
    def measure(way, seed):
        return {"accuracy": train(plan, folder, threads, way, seed=int(seed), tuning=False, **settings[way]).accuracy}

    return table.run(plan.points, measure, limit)


def report(plan, table, settings, figure):
    """Print the test accuracies and their difference, and draw them."""
    found = {way: table.by_seed("accuracy", way=way) for way in WAYS}
    print(f"\n{plan.data}, {plan.labelled} labelled images of each class: test accuracy after the last step")
    for way, accuracies in found.items():
        if accuracies:
            mean, error = mean_and_error(accuracies.values())
            print(f"{way:13} {100 * mean:.2f} +- {100 * error:.2f} % over {len(accuracies)} "
                  f"{plural(len(accuracies), 'seed')} "
                  f"({', '.join(f'{name} {value}' for name, value in settings[way].items())})")
    gain = paired(found[PRETRAINED], found[SCRATCH])
    if len(gain) > 1:
        mean, error = mean_and_error(gain.values())
        shown = {1: "it helps, with 95% confidence", 0: "no significant effect (95% confidence)",
                 -1: "it harms, with 95% confidence"}[decided(gain)]
        print(f"Pre-training changes the accuracy by {100 * mean:+.2f} +- {100 * error:.2f} points: {shown}.")
    draw_groups({f"{plan.labelled} labelled images of each class": {way: x for way, x in found.items() if x}}, figure)
    print(f"Figure: {figure}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", choices=[*PLANS], default="digits")
    parser.add_argument("--quick", action="store_true", help="short trainings, two seeds; keeps only the figure")
    parser.add_argument("--limit", type=int, metavar="N", help="measure at most N points")
    parser.add_argument("--threads", type=int, metavar="T", help="threads of each training (default: all cores)")
    parser.add_argument("--tables", type=Path, metavar="DIR", help="folder of the tables (default: that of this file)")
    parser.add_argument("--runs", type=Path, metavar="DIR", help="folder of pre-trainings (default: runs/few_labels)")
    parser.add_argument("--out", default="few_labels.png", help="the image file to write")
    options = parser.parse_args()
    plan = QUICK if options.quick else PLANS[options.data]
    with tempfile.TemporaryDirectory() as scratch:
        tables = options.tables or (Path(scratch) if options.quick else Path(__file__).parent)
        folder = options.runs or (Path(scratch) if options.quick else Path("runs")) / "few_labels"
        tuning = Study(tables / f"few_labels_{plan.data}_tuning.csv", plan.shared)
        before = len(tuning.rows)
        left = tune(plan, tuning, folder, options.threads, options.limit)
        if not left:
            settings = best(plan, tuning)
            table = Study(tables / f"few_labels_{plan.data}.csv", plan.shared | {"best": settings})
            limit = None if options.limit is None else options.limit - (len(tuning.rows) - before)
            left = test(plan, settings, table, folder, options.threads, limit)
            if table.rows:
                report(plan, table, settings, options.out)
        print(f"{left} points are missing."
              + (" With --quick the models train too little for conclusions." if options.quick else ""))


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit("interrupted: run the same command to continue")
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")
