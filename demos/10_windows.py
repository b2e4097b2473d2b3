"""How much time does attention in windows save? Measure a ViT and a Swin on images of growing size.

    python demos/10_windows.py            images of 32x32 to 160x160 pixels
    python demos/10_windows.py --quick    32x32 and 64x64 pixels, too few repetitions for conclusions

Attention over all tokens takes a time that grows with the square of their number. Attention in windows of 8x8 tokens
takes a time that grows in proportion to it. Both models have patches of 4x4 pixels, width 48, 4 blocks with 3 heads and
the same MLP. The Swin has a single stage, so the two models differ only in the windows. The demo prints the processor
time of a forward and backward of one image, and for comparison how the FLOPs grow. It draws windows.png.
"""

import argparse
import time

import numpy as np

import minivit
from minivit.common.figures import new_figure, save
from minivit.explain.tools.plots import SERIES
from minivit.ops import cross_entropy
from minivit.parallel.blas import blas_threads

COMMON = {"patch_size": 4, "channels": 3, "classes": 10, "width": 48, "mlp_ratio": 2}
MODELS = {"ViT": ("vit", {"depth": 4, "heads": 3, "pool": "mean"}),
          "Swin": ("swin", {"depths": [4], "heads": [3], "window": 8})}
LABELS = {"ViT": "ViT: attention over all tokens", "Swin": "Swin: attention in windows of 8x8 tokens"}


def make_models(sides):
    """Return {(model, side): (tokens, FLOPs, a function that runs the forward and backward of one image)}."""
    models = {}
    for name, (family, options) in MODELS.items():
        for side in sides:
            model = minivit.create_model(family, image_size=side, **COMMON, **options)
            image, target = (np.random.default_rng(0).standard_normal((1, side, side, 3), np.float32),
                             np.eye(10, dtype=np.float32)[:1])

            def step(model=model, image=image, target=target):
                _, cache = cross_entropy.forward(model.forward(image), target)
                model.backward(cross_entropy.backward(1.0, cache))

            models[name, side] = model.tokens, model.flops, step
    return models


def measure(models, rounds):
    """Return {(model, side): median seconds of processor time}, on one core.

    Processor time does not count the time that other programs take. Each round times every model once; the first round
    only warms up.
    """
    seconds = {key: [] for key in models}
    with blas_threads(1):
        for i in range(rounds + 1):
            for key, (_, _, step) in models.items():
                start = time.process_time()
                step()
                if i:
                    seconds[key].append(time.process_time() - start)
    return {key: float(np.median(values)) for key, values in seconds.items()}


def draw_windows(axes, shift, tokens=16, window=8):
    """Draw which tokens attend to each other: those of one colour. shift: of the windows, in tokens."""
    parts = (np.arange(tokens) + shift) // window                     # the window of each row, and of each column
    colours = 1 + (2 * parts[:, None] + 3 * parts) % 5                # neighbours differ
    axes.imshow(colours, cmap="Pastel1", vmin=0, vmax=8)
    for edge in range(1, tokens):
        axes.axhline(edge - 0.5, color="w", lw=0.6)
        axes.axvline(edge - 0.5, color="w", lw=0.6)
    for edge in np.flatnonzero(np.diff(parts)) + 0.5:
        axes.axhline(edge, color="k", lw=1.5)
        axes.axvline(edge, color="k", lw=1.5)
    axes.set(xticks=[], yticks=[])


def draw(models, seconds, sides, title, path):
    """Draw the windows of a Swin, and the time of one image against the number of tokens, for both models."""
    figure = new_figure(8, 4)
    left, right = figure.subfigures(1, 2, width_ratios=[1, 2.1])
    plain, shifted = left.subplots(2, 1)
    draw_windows(plain, 0)
    plain.set_title("blocks 1 and 3: windows of\n8x8 tokens; attention within each", fontsize=8)
    draw_windows(shifted, 4)
    shifted.set_title("blocks 2 and 4: shifted by half a\nwindow, so neighbours meet", fontsize=8)
    axes = right.subplots()
    for name, colour in zip(MODELS, SERIES, strict=False):
        tokens = [models[name, side][0] for side in sides]
        axes.loglog(tokens, [1e3 * seconds[name, side] for side in sides], "o-", color=colour, label=LABELS[name])
    axes.set_title(title, fontsize=10)
    axes.set_xlabel("number of tokens, and image size in pixels", fontsize=9)
    axes.set_ylabel("forward and backward of one image (ms)", fontsize=9)
    axes.set_xticks(tokens, [f"{count:,}\n{side}x{side}" for count, side in zip(tokens, sides, strict=True)])
    axes.minorticks_off()
    axes.set_yticks([ms for ms in (1, 2, 5, 10, 20, 50, 100, 200, 500) if axes.get_ylim()[0] < ms < axes.get_ylim()[1]])
    axes.yaxis.set_major_formatter("{x:g}")
    axes.tick_params(labelsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=9)
    save(figure, path)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="two small sizes only")
    parser.add_argument("--out", default="windows.png", help="the image file to write")
    options = parser.parse_args()
    sides, rounds = ((32, 64), 3) if options.quick else ((32, 64, 96, 128, 160), 7)
    models = make_models(sides)
    seconds = measure(models, rounds)
    print(f"Processor time of the forward and backward of one image; growth relative to {sides[0]}x{sides[0]} pixels")
    print(f"{'model':5} {'pixels':>8} {'tokens':>7} {'time':>10} {'per token':>11} {'time grows':>11} "
          f"{'FLOPs grow':>11}")
    for (name, side), (tokens, flops, _) in models.items():
        taken, first = seconds[name, side], seconds[name, sides[0]]
        print(f"{name:5} {f'{side}x{side}':>8} {tokens:7,} {1e3 * taken:7.2f} ms {1e6 * taken / tokens:8.2f} us "
              f"{taken / first:10.1f}x {flops / models[name, sides[0]][1]:10.1f}x")
    draw(models, seconds, sides, "" if options.quick else "With windows, the time grows linearly with the tokens",
         options.out)
    if options.quick:
        print("With --quick there are too few sizes and repetitions for conclusions.")
    print(f"Figure: {options.out}")


if __name__ == "__main__":
    main()
