"""Make tests/parity.npz: what PyTorch computes for three small models, stored for machines without it.

    python tests/make_parity.py

For each model, all tensors of a kind are stored one after the other in one vector; `shapes` has the names and shapes:

    config, training    arguments of the model and of the training, JSON
    shapes              {timm's name: shape}, JSON
    weights             int8, times `unit` (so that they are exact in float32 too)
    images, labels      two batches, (2, B, H, W, C) int8 times `unit`, and (2, B)
    logits, gradient, dimages       of the cross-entropy of batch 0, float64
    losses, norms, trained          of ten steps, alternating the batches; and the final weights; float64
"""

import json
from pathlib import Path

import numpy as np
from torch_parity import arrays, gradients, make_model, random_weights, train

UNIT = 1 / 32
SHAPE = {"image_size": 6, "patch_size": 2, "channels": 3, "classes": 7, "width": 12, "depth": 2, "heads": 3,
         "mlp_ratio": 2}
MODELS = {
    "token": {**SHAPE, "pool": "token", "positions": "learned"},
    "mean": {**SHAPE, "pool": "mean", "positions": "none"},
    "resnet": {"image_size": 9, "channels": 3, "classes": 7, "layers": [1, 1], "width": 4, "block": "bottleneck",
               "reduction": 4, "groups": 2},
}
TRAINING = {"lr": 1e-3, "weight_decay": 0.5, "clip": 2.5, "label_smoothing": 0.1}
BATCH, STEPS = 5, 10


def make(config, seed):
    rng = np.random.default_rng(seed)
    weights = random_weights(config, rng, UNIT)
    side = config["image_size"]
    images = UNIT * np.round(rng.standard_normal((2, BATCH, side, side, config["channels"])) / UNIT).clip(-127, 127)
    labels = rng.integers(config["classes"], size=(2, BATCH)).astype(np.int8)

    def flat(tensors):
        return np.concatenate([tensors[name].ravel() for name in weights])

    model = make_model(config, weights)
    logits, _, gradient, dimages = gradients(model, images[0], labels[0], TRAINING["label_smoothing"])
    losses, norms = train(model, [(images[step % 2], labels[step % 2]) for step in range(STEPS)], **TRAINING)
    if not (norms > TRAINING["clip"]).any() or not (norms < TRAINING["clip"]).any():
        raise SystemExit(f"clipping must act in some steps and not in all: choose another seed than {seed} ({norms})")
    return {
        "config": json.dumps(config), "training": json.dumps(TRAINING), "unit": UNIT,
        "shapes": json.dumps({name: w.shape for name, w in weights.items()}),
        "weights": (flat(weights) / UNIT).astype(np.int8), "images": (images / UNIT).astype(np.int8), "labels": labels,
        "logits": logits, "gradient": flat(gradient), "dimages": dimages,
        "losses": losses, "norms": norms, "trained": flat(arrays(model.named_parameters())),
    }


def main():
    stored = {}
    for seed, (name, config) in enumerate(MODELS.items()):
        result = make(config, seed)
        print(name, "norms", result["norms"].round(3), "losses", result["losses"].round(3))
        stored.update({f"{name}.{key}": value for key, value in result.items()})
    path = Path(__file__).with_name("parity.npz")
    np.savez_compressed(path, **stored)
    print(f"{path}: {path.stat().st_size} bytes")


if __name__ == "__main__":
    main()
