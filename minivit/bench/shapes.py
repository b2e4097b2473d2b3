"""The shapes that are measured: a model, a batch, and whether it is trained or only infers."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..common.checks import check_name


@dataclass(frozen=True)
class Shape:
    """A model by the name and options of `create_model`, a batch size, and whether its training is measured too."""

    model: str
    batch: int
    trained: bool = True
    options: dict = field(default_factory=dict)

    @property
    def family(self) -> str:
        """The family of the model, such as "vit"."""
        from ..models import VARIANTS

        return VARIANTS[self.model][0] if self.model in VARIANTS else self.model

    def make(self) -> Any:
        """Return the model and a random batch with fixed seeds: model, images (B, H, W, C), labels (B,)."""
        from ..models import create_model

        model, rng = create_model(self.model, **self.options), np.random.default_rng(0)
        images = rng.standard_normal((self.batch, *model.input_shape), np.float32)
        return model, images, rng.integers(0, model.classes, self.batch)


SHAPES = {
    "digits": Shape("vit_mini_patch2_8", 64),
    "fashion": Shape("vit_mini_patch4_28", 128),
    "cifar": Shape("vit_mini_patch4_32", 128),
    "base-1": Shape("vit_base_patch16_224", 1, trained=False),
    "base-8": Shape("vit_base_patch16_224", 8, trained=False),
    "deit-tiny-1": Shape("deit_tiny_distilled_patch16_224", 1, trained=False),
    "deit-tiny-8": Shape("deit_tiny_distilled_patch16_224", 8, trained=False),
    "swin-mini": Shape("swin_mini_patch2_window7_28", 128),
    "swin-tiny-1": Shape("swin_tiny_patch4_window7_224", 1, trained=False),
    "swin-tiny-8": Shape("swin_tiny_patch4_window7_224", 8, trained=False),
    "resnet-28": Shape("resnet_mini", 128),
    "resnet-32": Shape("resnet_mini", 128, options={"image_size": 32, "channels": 3}),
}


def select(names: Any = None, family: Any = None) -> list[str]:
    """Return the given names of shapes, or all of a family (default: "vit"). Raises ValueError for unknown names."""
    if names:
        return [check_name("shape", name, SHAPES) for name in names]
    families = {name: shape.family for name, shape in SHAPES.items()}
    check_name("family", family or "vit", dict.fromkeys(families.values()))
    return [name for name in SHAPES if families[name] == (family or "vit")]
