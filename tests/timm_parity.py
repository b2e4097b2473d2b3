"""Helpers of the parity tests with timm: small models of each family, with random weights. Needs torch and timm."""

import numpy as np
import timm
import torch
from torch.nn import functional as F

# One small model of each family: timm's constructor with its arguments, then ours.
FAMILIES = {
    "vit": (timm.models.vision_transformer.VisionTransformer,
            {"img_size": 8, "patch_size": 4, "num_classes": 5, "embed_dim": 12, "depth": 2, "num_heads": 3,
             "mlp_ratio": 2},
            {"image_size": 8, "patch_size": 4, "classes": 5, "width": 12, "depth": 2, "heads": 3, "mlp_ratio": 2}),
    "vit by mean": (timm.models.vision_transformer.VisionTransformer,
                    {"img_size": 6, "patch_size": 2, "num_classes": 3, "embed_dim": 10, "depth": 1, "num_heads": 2,
                     "mlp_ratio": 3, "class_token": False, "global_pool": "avg"},
                    {"image_size": 6, "patch_size": 2, "classes": 3, "width": 10, "depth": 1, "heads": 2,
                     "mlp_ratio": 3, "pool": "mean"}),
    "deit": (timm.models.deit.VisionTransformerDistilled,
             {"img_size": 8, "patch_size": 4, "num_classes": 5, "embed_dim": 12, "depth": 2, "num_heads": 2,
              "mlp_ratio": 2},
             {"image_size": 8, "patch_size": 4, "classes": 5, "width": 12, "depth": 2, "heads": 2, "mlp_ratio": 2}),
    "swin": (timm.models.swin_transformer.SwinTransformer,
             {"img_size": 16, "patch_size": 2, "num_classes": 5, "embed_dim": 6, "depths": (2, 2),
              "num_heads": (2, 3), "window_size": 4, "mlp_ratio": 2},
             {"image_size": 16, "patch_size": 2, "classes": 5, "width": 6, "depths": [2, 2], "heads": [2, 3],
              "window": 4, "mlp_ratio": 2}),
}


def make(family, unit=2.0**-12):
    """Return a float64 model of timm. Its random weights are multiples of `unit`, so they are exact in float32, too."""
    constructor, options, _ = FAMILIES[family]
    return randomise(constructor(**options).double().eval(), unit)


def randomise(model, unit=2.0**-12, seed=0):
    """Give every parameter random values, in place; return the model."""
    rng = np.random.default_rng(seed)
    with torch.no_grad():
        for name, p in model.named_parameters():
            matrix = p.ndim > 1 and name.endswith("weight")
            scale = 1 / np.sqrt(np.prod(p.shape[1:])) if matrix else 0.4
            values = scale * rng.standard_normal(tuple(p.shape)) + ("norm" in name and name.endswith("weight"))
            p.copy_(torch.tensor(unit * np.round(values / unit)))
    return model


def tensors(model):
    """Return {name: array} of the weights of a model."""
    return {name: p.detach().numpy().copy() for name, p in model.named_parameters()}


def logits(model, images):
    """Return the logits (B, K) of images (B, H, W, C) in inference."""
    with torch.no_grad():
        return model(torch.tensor(images).permute(0, 3, 1, 2)).numpy()


def gradients(model, images, labels):
    """Return the gradients of the cross-entropy: ({name: gradient}, gradient of the images (B, H, W, C))."""
    x = torch.tensor(images, requires_grad=True)
    model.zero_grad()
    F.cross_entropy(model(x.permute(0, 3, 1, 2)), torch.tensor(labels)).backward()
    return {name: p.grad.numpy().copy() for name, p in model.named_parameters()}, x.grad.numpy()
