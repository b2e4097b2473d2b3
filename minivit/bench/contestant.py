"""The shapes that are compared, who is compared, and what is timed of this package."""

import numpy as np

_MINI = {"patch_size": 4, "classes": 10, "width": 64, "depth": 4, "heads": 4, "mlp_ratio": 2}
SHAPES = {
    "digits": ({"image_size": 8, "channels": 1} | _MINI | {"patch_size": 2}, 64),
    "fashion": ({"image_size": 28, "channels": 1} | _MINI, 128),
    "cifar": ({"image_size": 32, "channels": 3} | _MINI | {"width": 192, "depth": 6, "heads": 3, "mlp_ratio": 4}, 128),
    "base-1": ({"image_size": 224, "channels": 3, "patch_size": 16, "classes": 1000, "width": 768, "depth": 12, "heads": 12,
                "mlp_ratio": 4}, 1),
}
SHAPES["base-8"] = (SHAPES["base-1"][0], 8)
INFERENCE_ONLY = {"base-1", "base-8"}
CONTESTANTS = {"minivit": "numpy", "torch": "torch", "torch.compile": "torch", "jax": "jax"}  # and what their limit is measured with


class Contestant:
    """What is timed of this package: one training step, and inference."""

    def __init__(self, config, weights, images, labels, threads):
        from ..interop.timm import from_timm
        from ..models import create_model
        from ..models.create import declare_model
        from ..training.trainer import Trainer

        values = from_timm(weights, declare_model("vit", **config))
        self.model = create_model("vit", **config).pack(values=values)
        self.trainer = Trainer(self.model, lr=1e-4, weight_decay=0.05, threads=threads)
        self.images, self.labels, self.threads = images, labels, threads

    def train(self):
        """Forward, loss, backward, clipping, AdamW."""
        self.trainer.step(self.images, self.labels)

    def infer(self):
        """Logits (B, K)."""
        return self.model.predict(self.images, self.threads)


def product(m, k, n, threads):
    """A function that multiplies (m, k) by (k, n) in float32 with NumPy."""
    from ..lanes import blas_threads

    a, b, out = np.ones((m, k), np.float32), np.ones((k, n), np.float32), np.empty((m, n), np.float32)

    def multiply():
        with blas_threads(threads):
            np.matmul(a, b, out=out)

    return multiply
