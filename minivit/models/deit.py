"""DeiT, the data-efficient image transformer: a Vision Transformer that learns from labels and from a teacher.

Read `vit.py` before. A second learned token, the *distillation token*, comes after the class token. A second classifier
reads it:

    z_0    = [x_class; x_distil; x_1 E; ...; x_M E] + E_pos                      Eq. 1 of the ViT, one token longer
    z_L    = the blocks of the ViT
    logits = 1/2 (head(LN(z_L[class])) + head_dist(LN(z_L[distil])))             to infer: the mean of both classifiers

In training with a teacher, the first head learns the labels, and the second head learns the teacher's predictions (see
`training/distillation.py`). So the two tokens gather different information. Without a teacher the mean of both learns
the labels.

Source: Touvron et al., "Training data-efficient image transformers & distillation through attention", arXiv:2012.12877,
section 4.
"""

from functools import partial

import numpy as np

from ..common.sizes import Size
from ..kernel import zeros
from ..layers import Linear, Parameter, initializers
from ..ops import pooling
from .model import Statistic
from .vit import ViT


class DeiT(ViT):
    """A Vision Transformer with a distillation token and a second head: images (B, H, W, C) -> the mean logits (B, K).

    Parameters
    ----------
    image_size, patch_size, channels, classes, width, depth, heads, mlp_ratio, positions, position_std
        As for `ViT`.
    stem, drop_rate, drop_path_rate, mean, std
        As for `ViT`. There is no `pool` and no `relative_bias`.
    """

    def __init__(self, *, image_size: Size, patch_size: Size, channels: int = 3, classes: int = 1000, width: int,
                 depth: int, heads: int, mlp_ratio: float = 4, positions: str = "learned", position_std: float = 0.02,
                 stem: str = "patch", drop_rate: float = 0.0, drop_path_rate: float = 0.0, mean: Statistic = 0.5,
                 std: Statistic = 0.5) -> None:
        super().__init__(image_size=image_size, patch_size=patch_size, channels=channels, classes=classes, width=width,
                         depth=depth, heads=heads, mlp_ratio=mlp_ratio, positions=positions, position_std=position_std,
                         stem=stem, drop_rate=drop_rate, drop_path_rate=drop_path_rate, mean=mean, std=std)
        del self.config["pool"], self.config["relative_bias"]
        self.dist_token = Parameter((width,), partial(initializers.normal, std=1e-6))
        self.head_dist = Linear(width, classes, initializers.zeros)
        self._set_positions(prefix=2)
        self.blocks[-1].set_output_tokens(2)

    @property
    def prefix_tokens(self) -> list[Parameter]:
        """The class token and the distillation token, (D,) each."""
        return [*super().prefix_tokens, self.dist_token]

    def forward(self, images: np.ndarray) -> np.ndarray:
        """images (B, H, W, C) -> logits (B, K)."""
        return pooling.forward(self.forward_heads(images), "mean")[0]

    def backward(self, dlogits: np.ndarray) -> np.ndarray:
        """dlogits (B, K) -> dimages (B, H, W, C)."""
        half = dlogits * dlogits.dtype.type(0.5)
        return self.backward_heads(np.stack([half, half], axis=1))

    def forward_heads(self, images: np.ndarray) -> np.ndarray:
        """images (B, H, W, C) -> the logits of both heads (B, 2, K): of the class token, of the distillation token."""
        x, embedded = self._encode(images)
        self.cache = embedded, x.shape
        y = self._final_norm.forward(x[:, :2].copy())                 # (B, 2, D)
        return np.stack([self.head.forward(y[:, 0]), self.head_dist.forward(y[:, 1])], axis=1)

    def backward_heads(self, dheads: np.ndarray) -> np.ndarray:
        """dheads (B, 2, K) -> dimages (B, H, W, C)."""
        embedded, shape = self.pop_cache()
        self.check_gradient(dheads[:, 0], shape[0])
        dy = np.stack([self.head.backward(dheads[:, 0]), self.head_dist.backward(dheads[:, 1])], axis=1)
        dx = zeros(shape, dy.dtype)
        dx[:, :2] = self._final_norm.backward(dy)                     # no other token is read
        return self._encode_backward(dx, embedded)

    @property
    def flops(self) -> int:
        """See `Model.flops`."""
        return super().flops + 2 * self.width * self.classes
