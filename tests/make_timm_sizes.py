"""Make `timm_sizes.npz`: what models of timm compute for images of other sizes than theirs, and of oblong shape.

    python tests/make_timm_sizes.py          needs torch and timm

The weights are not stored: `drawn` makes them from their names. All is computed in float64.
"""

import zlib
from pathlib import Path

import numpy as np

PLACE = Path(__file__).with_name("timm_sizes.npz")
COMMON = {"patch_size": 4, "classes": 5, "width": 12}
# {name: (options of the model here, sizes of the images)}
CASES = {
    "vit": ({**COMMON, "image_size": 16, "depth": 2, "heads": 3}, [(16, 16), (24, 32), (8, 40)]),
    "vit by mean": ({**COMMON, "image_size": (8, 32), "depth": 2, "heads": 3, "pool": "mean"}, [(8, 32), (16, 16)]),
    "deit": ({**COMMON, "image_size": 16, "depth": 2, "heads": 3}, [(24, 16)]),
    "swin": ({**COMMON, "image_size": (40, 56), "depths": (2, 2), "heads": (2, 3), "window": 4},
             [(40, 56), (52, 68), (48, 40)]),
}


def drawn(name, shape):
    """The values of a parameter, exact in float32."""
    x = np.random.default_rng(zlib.crc32(name.encode())).standard_normal(shape).astype(np.float32)
    scale = 0.25 if len(shape) < 2 else 0.5
    return np.float32(scale) * x + np.float32("norm" in name and name.endswith("weight"))


def images(size):
    """One image of a size, exact in float32."""
    return np.random.default_rng(size).standard_normal((1, *size, 3)).astype(np.float32)


def main():
    """Compute the arrays with timm."""
    import torch
    from timm.models.deit import VisionTransformerDistilled
    from timm.models.swin_transformer import SwinTransformer
    from timm.models.vision_transformer import VisionTransformer

    def make(name, o, size):
        """The model, for oblong grids in timm's own way: its positions are made for the grid of `image_size`."""
        common = {"img_size": o["image_size"], "patch_size": o["patch_size"], "num_classes": o["classes"],
                  "embed_dim": o["width"]}
        if name == "swin":
            return SwinTransformer(**common | {"img_size": size}, depths=o["depths"], num_heads=o["heads"],
                                   window_size=o["window"])
        pool = {"global_pool": "avg", "class_token": False, "fc_norm": True} if "mean" in name else {}
        family = VisionTransformerDistilled if name == "deit" else VisionTransformer
        return family(**common, depth=o["depth"], num_heads=o["heads"], dynamic_img_size=True, **pool)

    found = {}
    for name, (options, sizes) in CASES.items():
        for size in sizes:
            model = make(name, options, size).double().eval()
            with torch.no_grad():
                for path, p in model.named_parameters():
                    p.copy_(torch.from_numpy(drawn(path, tuple(p.shape))))
                x = torch.from_numpy(images(size).transpose(0, 3, 1, 2)).double()
                tokens = model.forward_features(x)
                read, logits = model.forward_head(tokens, pre_logits=True), model(x)
            key = f"{name} {size[0]}x{size[1]}"
            found |= {f"{key}.logits": logits.numpy(), f"{key}.features": read.numpy(),
                      f"{key}.tokens": tokens.reshape(1, -1, tokens.shape[-1]).numpy().astype(np.float32)}
    np.savez_compressed(PLACE, **found)


if __name__ == "__main__":
    main()
