"""Write published_weights.npz: tiny models of timm and transformers, with the files they come with and their logits.

    python tests/make_published_weights.py          needs torch, timm and transformers

For each case of `CASES`: "NAME.config" and "NAME.preprocessor_config", the JSON files; "NAME.weights", all weights one
after the other, and "NAME.shapes", their names and shapes; and "NAME.logits" for "NAME.images", uint8. The weights are
exact in float16, and the logits are computed in float64.
"""

import json
import tempfile
from pathlib import Path

import numpy as np
import timm
import torch
import transformers
from safetensors.numpy import load_file
from timm.models import save_for_hf

TINY = {"embed_dim": 12, "depth": 2, "num_heads": 3, "img_size": 8, "patch_size": 4, "mlp_ratio": 2}
CASES = {                                                             # timm's name and arguments
    "registers, LayerScale": ("vit_base_patch14_reg4_dinov2", {}),
    "LayerScale, positions of patches": ("deit3_base_patch16_224", {}),
    "mean of patches, registers": ("vit_medium_patch16_reg4_gap_256", {}),
    "mean of normed patches, no qkv bias": ("vit_medium_patch16_gap_256", {}),
    "no qkv bias": ("vit_base_patch16_224_miil", {}),
    "normed queries": ("vit_base_patch16_224", {"qk_norm": True}),
    "mean of patches, class token": ("vit_base_patch16_224", {"global_pool": "avg"}),
}


def randomised(model, seed):
    """The model in evaluation mode with other weights, as float64; none is zero or one."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in model.parameters():
            p += 0.2 * torch.randn(p.shape, generator=generator)
            p[...] = p.half().float()
    return model.eval()


def logits_of(model, images, mean, std):
    x = torch.tensor(((images / 255 - mean) / std).transpose(0, 3, 1, 2))
    with torch.no_grad():
        result = model.double()(x)
    return (result if isinstance(result, torch.Tensor) else result.logits).numpy()


def of_timm(name, arguments, images, seed, folder):
    arguments = TINY | arguments
    model = randomised(timm.create_model(name, num_classes=5, **arguments), seed)
    save_for_hf(model, folder, {"label_names": list("abcde")}, arguments, safe_serialization=True)
    config = timm.data.resolve_model_data_config(model)
    return logits_of(model, images, np.array(config["mean"]), np.array(config["std"]))


def of_transformers(images, seed, folder):
    config = transformers.ViTConfig(hidden_size=12, num_hidden_layers=2, num_attention_heads=3, intermediate_size=20,
                                    image_size=8, patch_size=4, id2label=dict(enumerate("abcde")))
    model = randomised(transformers.ViTForImageClassification(config), seed)
    model.save_pretrained(folder)
    transformers.ViTImageProcessor(size={"height": 8, "width": 8}, image_mean=[0.4] * 3).save_pretrained(folder)
    return logits_of(model, images, np.array([0.4] * 3), np.array([0.5] * 3))


def main():
    content, rng = {}, np.random.default_rng(0)
    for seed, case in enumerate([*CASES, "transformers"]):
        images = rng.integers(0, 256, (3, 8, 8, 3)).astype(np.uint8)
        with tempfile.TemporaryDirectory() as folder:
            logits = of_timm(*CASES[case], images, seed, folder) if case in CASES else of_transformers(images, seed,
                                                                                                       folder)
            for file in Path(folder).glob("*config.json"):
                content[f"{case}.{file.stem}"] = json.dumps(json.loads(file.read_text()))
            tensors = load_file(Path(folder) / "model.safetensors")
            content[f"{case}.shapes"] = json.dumps({name: x.shape for name, x in tensors.items()})
            content[f"{case}.weights"] = np.concatenate([x.ravel().astype(np.float16) for x in tensors.values()])
        content |= {f"{case}.images": images, f"{case}.logits": logits}
    np.savez_compressed(Path(__file__).with_name("published_weights.npz"), **content)


if __name__ == "__main__":
    main()
