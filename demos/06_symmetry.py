"""The symmetries of attention and convolution, executed:

which hold to round-off, what breaks them, and how training breaks one.

    python demos/06_symmetry.py            half a minute
    python demos/06_symmetry.py --quick    some ten seconds

Prints the error of each theorem, and how much models with several kinds of positions notice that the patches of a digit
were permuted, before and after training; draws symmetry.png.
"""

import argparse

import numpy as np

import minivit
from minivit.explain import FirstBlocks, equivariance_error, permute_patches, permute_tokens
from minivit.explain.tools.plots import draw_symmetry
from minivit.explain.tools.theorems import BROKEN, HOLDS, THEOREMS
from minivit.runs.default_model import model_for
from minivit.training.loop import batches

KINDS = {
    "learned": {"positions": "learned", "position_std": 0.02},
    "sin-cos": {"positions": "sincos"},
    "relative": {"positions": "none", "relative_bias": True},
    "none": {"positions": "none"},
}
BATCH = 64


def notice(model, images, rng):
    """How far the tokens behind the last block are from those of permuted patches, permuted back:

    the median of five permutations.
    """
    encoder, side = FirstBlocks(model.astype(np.float64), len(model.blocks)), model.patch_embed.patch_size
    orders = [rng.permutation(model.tokens - 1) for _ in range(5)]
    return np.median([equivariance_error(encoder.forward, permute_patches(order, side), images,
                                         permute_tokens(order, first=1))
                      for order in orders])


def train(data, options, steps):
    """Train a model for steps[-1] steps -> (what `notice` says after each of `steps`, accuracy in the test)."""
    model, errors, t = model_for(data, drop_path_rate=0.0, **options), [], 0
    trainer = minivit.Trainer(model, lr=1e-3)
    for epoch in range(steps[-1]):
        for batch in batches(len(data.train_images), BATCH, 0, epoch):
            if t in steps:
                errors.append(notice(model, data.test_images[:16], np.random.default_rng(t)))
            if t == steps[-1]:
                return errors, (model.predict(data.test_images).argmax(axis=1) == data.test_labels).mean()
            trainer.step(data.train_images[batch], data.train_labels[batch])
            t += 1


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="20 steps of training, not 200")
    parser.add_argument("--out", default="symmetry.png", help="the picture to write")
    options = parser.parse_args()

    rows = [(theorem.claim, theorem.holds, theorem.worst()) for theorem in THEOREMS]
    for claim, holds, error in rows:
        print(f"{claim:60} {'holds' if holds else 'broken':6} {error:8.1e}")
    print(f"What holds does so to {max(error for _, holds, error in rows if holds):.0e}; what is broken is off by "
          f"{min(error for _, holds, error in rows if not holds):.0e} at least.")

    steps = [0, 1, 2, 5, 10, 20] + ([] if options.quick else [50, 100, 200])
    growth, data = {}, minivit.load_data("digits")
    for kind, choices in KINDS.items():
        growth[kind], accuracy = train(data, choices, steps)
        print(f"positions {kind:8}: permuted patches change the tokens by {growth[kind][0]:.1e} before training, by "
              f"{growth[kind][-1]:.1e} "
              f"after {steps[-1]} steps; accuracy {accuracy:.1%}")
    draw_symmetry(rows, steps, growth, (HOLDS, BROKEN), options.out)
    print("Without positions a picture is a bag of patches, before and after training; positions end that, and "
          "training makes use of "
          f"them. Picture: {options.out}")


if __name__ == "__main__":
    main()
