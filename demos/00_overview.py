"""Draw a trained ViT at work: one digit from pixels to prediction, and the training that led there.

    python demos/00_overview.py            ten seconds
    python demos/00_overview.py --quick    a few seconds: too little training for conclusions

Draws overview.png: the test digit, its 16 patches, where the class token looks in each head of the last block, the
predicted probabilities, and the accuracy after each epoch.
"""

import argparse
import json
import tempfile
from pathlib import Path

import numpy as np

import minivit
from minivit.common.figures import new_figure, save
from minivit.explain import attention_probabilities, readout_maps
from minivit.ops import softmax
from minivit.training_pipeline.defaults.default_model import model_for

DIGIT = 5              # index of the test image
BLUE, ORANGE, GRAY = "tab:blue", "tab:orange", "0.75"


def train(data, epochs):
    """Train the default model and return it with the records of its epochs."""
    with tempfile.TemporaryDirectory() as folder:
        result = minivit.train(model_for(data), data, epochs=epochs, out=Path(folder, "run"))
        records = [json.loads(line) for line in Path(folder, "run", "log.jsonl").read_text().splitlines()]
    return result.model, records


def draw_patches(axes, image, patch_size):
    """Show the patches of an image (H, W, C) apart from each other."""
    H, W, _ = image.shape
    gap, step = 1, patch_size + 1
    sheet = np.full((H // patch_size * step - gap, W // patch_size * step - gap), np.nan)
    for i in range(H // patch_size):
        for j in range(W // patch_size):
            patch = image[i * patch_size:(i + 1) * patch_size, j * patch_size:(j + 1) * patch_size, 0]
            sheet[i * step:i * step + patch_size, j * step:j * step + patch_size] = patch
    axes.set_facecolor("lightsteelblue")
    axes.imshow(sheet, cmap="gray", vmin=0, vmax=255)


def draw(data, model, records, path):
    """Draw the figure to an image file."""
    image, true = data.test_images[DIGIT], int(data.test_labels[DIGIT])
    logits = model.predict(image[None])
    probabilities = softmax.forward(logits)[0][0]
    *_, last = attention_probabilities(model, image[None]).values()
    maps = readout_maps(last)[0]                                      # (h, rows, columns)

    figure = new_figure(10, 3.9)
    top, bottom = figure.subfigures(2, 1, height_ratios=[1, 1.05])
    first, second, *heads = top.subplots(1, 2 + len(maps))
    first.imshow(image[..., 0], cmap="gray")
    first.set_title(f"a test digit: {true}", fontsize=11)
    draw_patches(second, image, 2)
    second.set_title("its 16 patches", fontsize=11)
    for h, (axes, heat) in enumerate(zip(heads, maps, strict=True)):
        axes.imshow(np.kron(heat, np.ones((2, 2))), cmap="Blues", vmin=0)
        axes.contour(image[..., 0], levels=[100], colors=ORANGE, linewidths=1.2)
        axes.set_title(f"head {h + 1} looks here", fontsize=11)
    for axes in (first, second, *heads):
        axes.set_xticks([])
        axes.set_yticks([])

    prediction, curve = bottom.subplots(1, 2)
    best = int(probabilities.argmax())
    prediction.bar(range(10), 100 * probabilities, color=[BLUE if k == best else GRAY for k in range(10)])
    prediction.set(xticks=range(10), ylim=(0, 105), ylabel="probability in %")
    prediction.set_title(f"Prediction: {best}, with {probabilities[best]:.0%}", fontsize=11)
    epochs = [record["epoch"] for record in records]
    curve.plot(epochs, [100 * record["test_accuracy"] for record in records], color=BLUE, linewidth=2)
    seconds = records[-1]["seconds"]
    curve.set(xlabel="epoch", ylabel="test accuracy in %", ylim=(0, 103), xlim=(0, None))
    curve.set_title(f"{records[-1]['test_accuracy']:.1%} of the test digits after {seconds:.0f} seconds", fontsize=11)
    for axes in (prediction, curve):
        axes.spines[["top", "right"]].set_visible(False)
    save(figure, path)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="train for three epochs only")
    parser.add_argument("--out", default="overview.png", help="the image file to write")
    options = parser.parse_args()

    data = minivit.load_data("digits")
    model, records = train(data, 3 if options.quick else 30)
    draw(data, model, records, options.out)
    if options.quick:
        print("With --quick the model trains too little for conclusions.")
    print(f"figure: {options.out}")


if __name__ == "__main__":
    main()
