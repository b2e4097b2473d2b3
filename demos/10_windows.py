"""Measure what attention in windows saves: the time per image over the image's area, for a ViT and a Swin.

    python demos/10_windows.py            images of 32x32 to 160x160 pixels
    python demos/10_windows.py --quick    32x32 and 64x64 pixels, too few repetitions for conclusions

Both models have patches of 4x4 pixels, width 48, 4 blocks with 3 heads and the same MLP. The Swin has windows of 8x8
tokens and a single stage, so only the windows differ. Draws windows.png. Prints the time of a forward and backward of
one image, and the ratio of the FLOPs for comparison.
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


def steps(sides):
    """{(model, side): (tokens, FLOPs, a function that runs the forward and backward of one image)}."""
    made = {}
    for name, (family, options) in MODELS.items():
        for side in sides:
            model = minivit.create_model(family, image_size=side, **COMMON, **options)
            image, target = (np.random.default_rng(0).standard_normal((1, side, side, 3), np.float32),
                             np.eye(10, dtype=np.float32)[:1])

            def step(model=model, image=image, target=target):
                _, cache = cross_entropy.forward(model.forward(image), target)
                model.backward(cross_entropy.backward(1.0, cache))

            made[name, side] = model.tokens, model.flops, step
    return made


def measure(made, rounds):
    """Return {(model, side): median seconds}. Each round times all in turn; a first round warms up."""
    seconds = {key: [] for key in made}
    with blas_threads(1):
        for turn in range(rounds + 1):
            for key, (_, _, step) in made.items():
                start = time.perf_counter()
                step()
                if turn:
                    seconds[key].append(time.perf_counter() - start)
    return {key: float(np.median(values)) for key, values in seconds.items()}


def draw(made, seconds, sides, path):
    """Draw the time per image over the number of tokens, for both models."""
    figure = new_figure(6, 4)
    axes = figure.subplots()
    for name, colour in zip(MODELS, SERIES, strict=False):
        axes.loglog([made[name, side][0] for side in sides], [1e3 * seconds[name, side] for side in sides], "o-",
                    color=colour, label=name)
    axes.set(xlabel="tokens (proportional to the image's area)",
             ylabel="forward and backward of one image on one core, ms")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    save(figure, path)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="two small sizes only")
    parser.add_argument("--out", default="windows.png", help="the image file to write")
    options = parser.parse_args()
    sides, rounds = ((32, 64), 3) if options.quick else ((32, 64, 96, 128, 160), 7)
    made = steps(sides)
    seconds = measure(made, rounds)
    print(f"{'':5} {'side':>5} {'tokens':>7} {'ms':>8} {'per token':>11} {'relative':>9} {'FLOPs':>10}")
    for (name, side), (tokens, flops, _) in made.items():
        first = made[name, sides[0]]
        print(f"{name:5} {side:5} {tokens:7} {1e3 * seconds[name, side]:8.2f} "
              f"{1e6 * seconds[name, side] / tokens:8.2f} us {seconds[name, side] / seconds[name, sides[0]]:9.1f} "
              f"{flops / first[1]:10.1f}")
    draw(made, seconds, sides, options.out)
    print(f"Figure: {options.out}")


if __name__ == "__main__":
    main()
