"""Show what each augmentation does to an image, and measure its cost.

    python demos/03_augmentation.py            Fashion-MNIST, downloaded if necessary
    python demos/03_augmentation.py --quick    the embedded digits, without download

Draws augmentation.png. Prints the cost of each transform: microseconds per image on one core, and the share of the time
of a training step.
"""

import argparse
import time

import numpy as np

import minivit
from minivit.common.figures import new_figure, save
from minivit.ops import cross_entropy
from minivit.ops.philox import Generator
from minivit.training.augment import Augmentation
from minivit.training_pipeline.defaults.default_model import model_for
from minivit.training_pipeline.defaults.presets import preset_for

# The transform of each row, as in `minivit train --augment`. Most probabilities are 1, so every image shows the effect.
ROWS = ["none", "affine", "crop", "flip:0.5", "alternating-flip", "cutout:0.5:1", "erase:0.33:1", "mixup:1",
        "cutmix:1:1", "randaugment"]
COLUMNS = 9
SHARE = 16      # images that a lane augments at once


def vary(augment, images, targets, step, share=None):
    """Augment the first `share` images of a batch (default: all) at a training step. Here each epoch has one step."""
    everywhere = np.arange(len(images))
    return augment(images, targets, Generator(4, step, everywhere[:share], epoch=step, dataset_indices=everywhere))


def choose(data):
    """Return three images of different classes, followed by images to mix them with, and the targets of all."""
    first = [int(np.flatnonzero(data.train_labels == k)[0]) for k in (9, 1, 5)]
    batch = np.concatenate([first, np.arange(253)])
    return data.train_images[batch], cross_entropy.targets(data.train_labels[batch], data.classes)


def draw(data, path):
    """Draw a row for each transform. Its columns are three images, each in three epochs."""
    images, targets = choose(data)
    figure = new_figure(9.6, 1.08 * len(ROWS))
    for text, row in zip(ROWS, figure.subplots(len(ROWS), COLUMNS), strict=True):
        epochs = [vary(Augmentation(text), images, targets, step) for step in range(3)]
        shown = [(epoch[0][k], epoch[1][k]) for k in range(3) for epoch in epochs]
        for axes, (image, target) in zip(row, shown, strict=True):
            axes.imshow(image if image.shape[-1] == 3 else image[..., 0],
                        cmap="gray_r" if image.shape[-1] == 1 else None, vmin=0, vmax=255)
            axes.set(xticks=[], yticks=[])
            axes.spines[:].set_color("0.8")
            if text.startswith(("mixup", "cutmix")):
                parts = [f"{target[k]:.0%} {data.class_names[k]}" for k in np.argsort(-target)[:2] if target[k] > 0]
                axes.set_xlabel("\n".join(parts), fontsize=6, labelpad=2)
        row[0].set_ylabel(text, rotation=0, ha="right", va="center", fontsize=10)
    save(figure, path)


def microseconds(task, images, repetitions):
    """Return the median time of `task(step)` per image. Two runs before it compile and warm up."""
    seconds = []
    for step in range(repetitions + 2):
        start = time.perf_counter()
        task(step)
        seconds.append(time.perf_counter() - start)
    return 1e6 * np.median(seconds[2:]) / images


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="use the digits, which need no download")
    parser.add_argument("--out", default="augmentation.png", help="the image file to write")
    options = parser.parse_args()

    data = minivit.load_data("digits" if options.quick else "fashion-mnist")
    images, targets = choose(data)
    trainer = minivit.Trainer(model_for(data), threads=1)
    training = microseconds(lambda _: trainer.step(images[:64], targets[:64].argmax(axis=1)), 64, 3)
    print(f"A training step takes {training:,.0f} us per image on one core. Augmentation takes, per image:")
    for text in (*ROWS[1:], preset_for(data).training.get("augment", "affine")):
        augment = Augmentation(text)
        cost = microseconds(lambda step, augment=augment: vary(augment, images, targets, step, SHARE), SHARE, 50)
        print(f"    {text:45} {cost:6.1f} us, {cost / training:6.2%}")
    draw(data, options.out)
    print(f"Each row shows one transform on three images, each in three epochs. Figure: {options.out}")


if __name__ == "__main__":
    main()
