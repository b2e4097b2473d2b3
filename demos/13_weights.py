"""What are pretrained weights worth with few images? Compare a linear probe, fine-tuning and training from scratch.

    python demos/13_weights.py            a few minutes
    python demos/13_weights.py --quick    a few seconds: too few images for conclusions

A small ViT is pretrained on the digits 0 to 6, and its weights are written to a file under timm's names. The new data
is a folder of PNG files of the digits 7, 8 and 9, with a few of each for training and the rest for the test. The demo
prints which tensor of the file becomes which parameter. Then it trains on the folder with each of the three methods,
for the same number of epochs. It prints the test accuracies and draws weights.png. With weights of your own, the
commands are

    minivit weights FILE --model NAME --classes 3
    minivit train FOLDER --fine-tune FILE --model NAME --probe
"""

import argparse
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

import minivit
from minivit.common.figures import new_figure, save
from minivit.explain.tools.plots import SERIES
from minivit.models.pretrained import inspect_weights, match_text
from minivit.training_pipeline.pretrained.fine_tune import fine_tuned_model
from minivit.training_pipeline.pretrained.weight_source import WeightSource
from minivit.weight_formats.timm import write_weights

NAME, BASE_CLASSES = "vit_mini_patch2_8", 7  # pretrained on the digits 0 to 6
METHODS = {"from scratch": "o--", "linear probe": "s-", "fine-tuning": "^-"}


def write_file(path, digits, epochs):
    """Train the named model on the digits 0 to 6 and write its weights to a file."""
    train, test = digits.train_labels < BASE_CLASSES, digits.test_labels < BASE_CLASSES
    data = replace(digits, train_images=digits.train_images[train], train_labels=digits.train_labels[train],
                   test_images=digits.test_images[test], test_labels=digits.test_labels[test],
                   class_names=digits.class_names[:BASE_CLASSES], source=None)
    result = minivit.train(minivit.create_model(NAME, classes=BASE_CLASSES), data, epochs=epochs, progress=False)
    write_weights(path, result.model)
    print(f"Pretrained {NAME} on the digits 0 to 6: test accuracy {result.accuracy:.1%} on {result.test.images} "
          f"images. Its weights are in {path.name}.")


def write_folder(folder, digits, count, seed):
    """Write images of 7, 8 and 9 to a folder: `count` random ones of each for training, the others for the test."""
    images = np.concatenate([digits.train_images, digits.test_images])
    labels = np.concatenate([digits.train_labels, digits.test_labels])
    for digit in range(BASE_CLASSES, 10):
        members = np.random.default_rng([seed, digit]).permutation(np.flatnonzero(labels == digit))
        for position, i in enumerate(members):
            file = folder / ("train" if position < count else "test") / str(digit) / f"{i}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(images[i, ..., 0]).save(file)
    return folder


def learn(method, file, data, epochs, seed, **settings):
    """Train on the folder with one of METHODS and these settings of `train`. Return test accuracy and seconds."""
    begin, source = time.perf_counter(), WeightSource(file, NAME)
    if method == "from scratch":
        model, start = minivit.create_model(NAME, classes=data.classes, seed=seed), {}
    elif method == "linear probe":
        model, start = fine_tuned_model(source, data, seed, probe=True), {"probe": True, "start": source}
    else:
        model, start = fine_tuned_model(source, data, seed), {"start": source}
    result = minivit.train(model, data, epochs=epochs, seed=seed, progress=False, **start, **settings)
    return result.accuracy, time.perf_counter() - begin


def draw(counts, accuracies, title, path):
    """Draw the test accuracy against the number of images. accuracies: {method: array (counts, seeds)}."""
    figure = new_figure(8, 4)
    axes = figure.subplots()
    for (method, values), colour in zip(accuracies.items(), SERIES, strict=False):
        mean, spread = 100 * values.mean(axis=1), 100 * values.std(axis=1)
        axes.errorbar(counts, mean, spread, fmt=METHODS[method], color=colour, capsize=3, label=method)
    axes.set(title=title, xscale="log",
             xlabel="training images per class", ylabel="test accuracy (%), mean and std of the draws")
    axes.set_xticks(counts, map(str, counts))
    axes.minorticks_off()
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    save(figure, path)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="one number of images, one random draw")
    parser.add_argument("--out", default="weights.png", help="the image file to write")
    options = parser.parse_args()

    digits, epochs = minivit.load_data("digits"), 30 if options.quick else 100
    counts, seeds = ([4], [0]) if options.quick else ([2, 4, 8, 16, 32], [0, 1, 2])
    accuracies = {method: np.empty((len(counts), len(seeds))) for method in METHODS}
    seconds = {method: np.empty((len(counts), len(seeds))) for method in METHODS}
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "pretrained.safetensors")
        write_file(file, digits, 6 if options.quick else 20)
        report = match_text(*inspect_weights(file, NAME, classes=3)).splitlines()
        print("\n".join([*report[:6], "...", *report[-6:]]), end="\n\n")
        for i, count in enumerate(counts):
            for j, seed in enumerate(seeds):
                data = minivit.load_data(write_folder(Path(folder, f"{count}-{seed}"), digits, count, seed))
                for method in METHODS:
                    accuracies[method][i, j], seconds[method][i, j] = learn(method, file, data, epochs, seed)
            for method in METHODS:
                print(f"{count:2} training images per class, {method:12}: test accuracy "
                      f"{accuracies[method][i].mean():.1%} on {len(data.test_labels)} images, in "
                      f"{np.median(seconds[method][i]):.1f} s", flush=True)
    finding = "" if options.quick else "Digits 7 to 9: weights pretrained on 0 to 6 help with few images"
    draw(counts, accuracies, finding, options.out)
    if options.quick:
        print("With --quick there are too few images for conclusions.")
    print(f"Figure: {options.out}")


if __name__ == "__main__":
    main()
