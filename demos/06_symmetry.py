"""Test the symmetries of attention and convolution, and how training breaks one of them.

    python demos/06_symmetry.py            half a minute
    python demos/06_symmetry.py --quick    about ten seconds: too little training for conclusions

Prints the error of each symmetry. Then it permutes the patches of digits and prints how much this changes the tokens of
models with different position encodings, before and after training. Draws symmetry.png.
"""

import argparse

import numpy as np

import minivit
from minivit.explain import FirstBlocks, equivariance_error, permute_patches, permute_tokens
from minivit.explain.tools.plots import draw_symmetry
from minivit.explain.tools.symmetry_theorems import BROKEN, HOLDS, THEOREMS
from minivit.training.loop import batches
from minivit.training_pipeline.defaults.default_model import model_for

KINDS = {
    "learned": {"positions": "learned", "position_std": 0.02},
    "sin-cos": {"positions": "sincos"},
    "relative": {"positions": "none", "relative_bias": True},
    "none": {"positions": "none"},
}
BATCH = 64


def permutation_error(model, images, rng):
    """Return how much a permutation of the patches changes the tokens after the last block.

    The tokens of the permuted image are compared with the permuted tokens. The result is the median over five
    permutations.
    """
    encoder, side = FirstBlocks(model.astype(np.float64), len(model.blocks)), model.patch_embed.patch_size[0]
    orders = [rng.permutation(model.tokens - 1) for _ in range(5)]
    return np.median([equivariance_error(encoder.forward, permute_patches(order, side), images,
                                         permute_tokens(order, first=1))
                      for order in orders])


def train(data, options, steps):
    """Train for steps[-1] steps. Return the `permutation_error` after each of `steps`, and the test accuracy."""
    model, errors, t = model_for(data, drop_path_rate=0.0, **options), [], 0
    trainer = minivit.Trainer(model, lr=1e-3, label_smoothing=0)
    for epoch in range(steps[-1]):
        for batch in batches(len(data.train_images), BATCH, 0, epoch):
            if t in steps:
                errors.append(permutation_error(model, data.test_images[:16], np.random.default_rng(t)))
            if t == steps[-1]:
                return errors, (model.predict(data.test_images).argmax(axis=1) == data.test_labels).mean()
            trainer.step(data.train_images[batch], data.train_labels[batch])
            t += 1


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="20 steps of training, not 200")
    parser.add_argument("--out", default="symmetry.png", help="the image file to write")
    options = parser.parse_args()

    rows = [(theorem.claim, theorem.holds, theorem.worst()) for theorem in THEOREMS]
    for claim, holds, error in rows:
        print(f"{claim:60} {'holds' if holds else 'broken':6} {error:8.1e}")
    print(f"The exact symmetries hold to {max(error for _, holds, error in rows if holds):.0e}; the broken ones are "
          f"off by at least {min(error for _, holds, error in rows if not holds):.0e}.")

    steps = [0, 1, 2, 5, 10, 20] + ([] if options.quick else [50, 100, 200])
    growth, data = {}, minivit.load_data("digits")
    for kind, choices in KINDS.items():
        growth[kind], accuracy = train(data, choices, steps)
        print(f"positions {kind:8}: permuted patches change the tokens by {growth[kind][0]:.1e} before training, by "
              f"{growth[kind][-1]:.1e} after {steps[-1]} steps; accuracy {accuracy:.1%}")
    draw_symmetry(rows, steps, growth, (HOLDS, BROKEN), options.out)
    if options.quick:
        print("With --quick the models train too little for conclusions.")
    else:
        print("Without positions, a model ignores the order of the patches before and after training. With positions, "
              "it depends on their order, and the accuracies show what the order is worth.")
    print(f"Figure: {options.out}")


if __name__ == "__main__":
    main()
