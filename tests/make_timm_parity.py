"""Make tests/timm_parity.npz: what timm computes for a small model of each family, stored for machines without it.

    python tests/make_timm_parity.py

For each family, all tensors of a kind are stored one after the other in one vector; `shapes` has the names and shapes:

    options             options of `create_model`, JSON
    shapes              {timm's name: shape}, JSON
    weights             int16, times `unit`
    images, labels      (B, H, W, C) int8 times 1/32, and (B,)
    logits, gradient, dimages       of the cross-entropy, float64
"""

import json
from pathlib import Path

import numpy as np
import timm_parity

UNIT = 2.0**-12


def main():
    stored = {"unit": UNIT}
    for family, (_, _, options) in timm_parity.FAMILIES.items():
        rng, model = np.random.default_rng(1), timm_parity.make(family, UNIT)
        side = options["image_size"]
        images = rng.integers(-64, 65, (3, side, side, 3), np.int8)
        labels = rng.integers(options["classes"], size=3)
        weights, (gradient, dimages) = timm_parity.tensors(model), timm_parity.gradients(model, images / 32, labels)
        values = {
            "options": json.dumps(options), "shapes": json.dumps({name: w.shape for name, w in weights.items()}),
            "weights": np.concatenate([w.ravel() / UNIT for w in weights.values()]).astype(np.int16),
            "images": images, "labels": labels, "logits": timm_parity.logits(model, images / 32),
            "gradient": np.concatenate([gradient[name].ravel() for name in weights]), "dimages": dimages,
        }
        stored |= {f"{family}.{key}": value for key, value in values.items()}
    path = Path(__file__).with_name("timm_parity.npz")
    np.savez_compressed(path, **stored)
    print(f"{path}: {path.stat().st_size} bytes")


if __name__ == "__main__":
    main()
