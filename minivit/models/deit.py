"""DeiT, the data-efficient image transformer: a Vision Transformer that learns from labels and from a teacher.

Beside the class token stands a second one, the distillation token, and beside the classifier a second one, which reads it:

    z_0    = [x_class; x_distil; x_1 E; ...; x_M E] + E_pos                      the ViT's Eq. 1, one token longer
    z_L    = the blocks of the ViT
    logits = 1/2 (head(LN(z_L[class])) + head_dist(LN(z_L[distil])))             to infer: both agree on an answer

In training with a teacher, the labels speak to the first head and the teacher to the second (see `training/distillation.py`), so the two tokens
gather different things. Trained without one, their mean learns the labels.

Source: Touvron et al., "Training data-efficient image transformers & distillation through attention", arXiv:2012.12877, section 4.
"""

from functools import partial

import numpy as np

from ..layers import Linear, Parameter
from ..layers.parameter import normal, zeros
from .vit import ViT


class DeiT(ViT):
    """A Vision Transformer with a distillation token and a second head: images (B, H, W, C) -> logits (B, K), the mean of both.

    The arguments are those of `ViT`; it always reads its tokens, and has no relative bias. Errors as there.
    """

    SPECIAL = 2                                                       # class token and distillation token

    def __init__(self, *, image_size, patch_size, channels=3, classes=1000, width, depth, heads, mlp_ratio=4, positions="learned",
                 position_std=0.02, stem="patch", drop_rate=0.0, drop_path_rate=0.0, mean=0.5, std=0.5):
        super().__init__(image_size=image_size, patch_size=patch_size, channels=channels, classes=classes, width=width, depth=depth,
                         heads=heads, mlp_ratio=mlp_ratio, positions=positions, position_std=position_std, stem=stem, drop_rate=drop_rate,
                         drop_path_rate=drop_path_rate, mean=mean, std=std)
        del self.config["pool"], self.config["relative_bias"]
        self.dist_token = Parameter((width,), partial(normal, std=1e-6))
        self.head_dist = Linear(width, classes, zeros)

    def forward(self, images):
        """images (B, H, W, C) -> logits (B, K)."""
        return self.forward_heads(images).mean(axis=1)

    def backward(self, dlogits):
        """dlogits (B, K) -> dimages (B, H, W, C). Raises ValueError for another shape."""
        return self.backward_heads(np.stack([dlogits, dlogits], axis=1) / 2)

    def forward_heads(self, images):
        """images (B, H, W, C) -> the logits of both heads (B, 2, K): that of the class token and that of the distillation token."""
        y = self._encode(images)                                      # (B, 2, D)
        return np.stack([self.head.forward(y[:, 0]), self.head_dist.forward(y[:, 1])], axis=1)

    def backward_heads(self, dheads):
        """dheads (B, 2, K) -> dimages (B, H, W, C). Raises ValueError for another shape."""
        embedded, pooled = self.pop_cache()
        self.check_gradient(dheads[:, 0], pooled[0][0])
        dy = [self.head.backward(dheads[:, 0]), self.head_dist.backward(dheads[:, 1])]
        return self._encode_backward(np.stack(dy, axis=1), embedded, pooled)

    def _special_tokens(self):
        return np.stack([self.cls_token.data, self.dist_token.data])

    def _learn_special_tokens(self, dtokens):
        self.cls_token.grad, self.dist_token.grad = dtokens
