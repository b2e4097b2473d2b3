"""Measure how far a layer sees, by its gradient. Convolutions see two pixels more per layer, attention sees everything.

    python demos/07_receptive_fields.py            a minute or two
    python demos/07_receptive_fields.py --quick    about ten seconds: too little training for conclusions

Prints the receptive fields of a stack of convolutions and of a ViT. Then it trains a ViT on the digits with one token
per pixel, and prints the mean attention distance of its heads before and after. Draws receptive_fields.png.
"""

import argparse

import numpy as np

import minivit
from minivit.explain import (
    FirstBlocks,
    Sequential,
    attention_probabilities,
    extent,
    mean_distance,
    receptive_field,
    spread,
)
from minivit.explain.tools.plots import draw_fields
from minivit.layers import GELU, Convolution
from minivit.training_pipeline.defaults.default_model import model_for

SIDE, PATCH, DEPTHS = 32, 4, (1, 2, 4, 8)
MIDDLE = SIDE // 2


def convolutions(depth):
    """Return a stack of `depth` 3x3 convolutions with random weights, each followed by GELU."""
    layers = [Convolution(3 if l == 0 else 16, 16, size=3, padding=1) for l in range(depth)]
    for l, layer in enumerate(layers):
        layer.pack(seed=l)
    return Sequential([part for layer in layers for part in (layer, GELU())])


def fields():
    """Return {kind: {depth: receptive field of the output in the middle}} for networks with random weights."""
    x = np.random.default_rng(0).standard_normal((64, SIDE, SIDE, 3), np.float32)
    model = minivit.create_model("vit", image_size=SIDE, patch_size=PATCH, width=48, depth=max(DEPTHS), heads=3,
                                 pool="mean")
    token = SIDE // PATCH // 2 * (SIDE // PATCH + 1)                  # the one in the middle
    return {"convolutions": {depth: receptive_field(convolutions(depth), x, (MIDDLE, MIDDLE)) for depth in DEPTHS},
            "ViT": {depth: receptive_field(FirstBlocks(model, depth), x, (token,)) for depth in DEPTHS}}


def distances(model, images):
    """Return the mean attention distance of each head in pixels, averaged over the images: (L, h)."""
    probs = attention_probabilities(model, images).values()
    return np.stack([mean_distance(p, model.patch_embed.patch_size).mean(axis=0) for p in probs])


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="little training")
    parser.add_argument("--out", default="receptive_fields.png", help="the image file to write")
    options = parser.parse_args()

    seen = fields()
    for kind, by_depth in seen.items():
        print(f"{kind}: " + "; ".join(f"depth {depth} sees {max(extent(field))} of {SIDE} pixels a side, spread "
                                      f"{spread(field):.1f}"
                                      for depth, field in by_depth.items()))
    data = minivit.load_data("digits")
    model = model_for(data, patch_size=1)
    images = data.test_images[:128]
    looks = {"untrained": distances(model, images)}
    result = minivit.train(model, data, epochs=0.5 if options.quick else 15, progress=not options.quick)
    looks["trained"] = distances(model, images)
    uniform = float(mean_distance(np.full((1, 1, model.tokens, model.tokens), 1.0))[0, 0])
    before, after = looks["untrained"], looks["trained"]
    print("Each convolution adds 2 pixels per side. The ViT sees all pixels from its first layer.")
    if options.quick:
        print("With --quick the ViT trains too little for conclusions about its heads.")
    else:
        print(f"Mean attention distance of the heads: {before.min():.1f} to {before.max():.1f} pixels before training, "
              f"{after.min():.1f} to {after.max():.1f} after it (test accuracy {result.accuracy:.1%}). Uniform "
              f"attention has {uniform:.1f}. With so few images the heads stay nearly global. Local heads, as in "
              "figure 7 of the ViT paper, need far more images (Raghu et al., arXiv:2108.08810).")
    draw_fields(seen, looks, uniform, model.image_size[1], options.out)
    print(f"Figure: {options.out}")


if __name__ == "__main__":
    main()
