"""Vision Transformers beyond the paper's: registers, rotary positions, normalised queries and keys, and more.

Read `vit.py` before. Models of the library timm are built so, among them DINOv2 and DeiT III:

    registers      R learned tokens after the class token, which no head reads: room for what the blocks compute about
                   the whole image (Darcet et al., "Vision Transformers Need Registers", arXiv:2309.16588)
    positions      "rotary" turns the queries and keys of every block, see `ops/rotary.py`
    qk_norm        queries and keys are normalised in each head, see `layers/normed_attention.py`
    layer_scale    a learned factor for each number of a branch, see `ops/layer_scale.py`
    pool="mean"    with or without a class token; the mean of the patches alone, normed before it or after it

Weights of a pretrained model with LayerScale also fit a model without it: reading them multiplies the factors into the
weights before, see `weight_formats/fold.py`.
"""

from functools import partial
from typing import Any

import numpy as np

from ..common.checks import check_name, check_number
from ..common.sizes import Size
from ..kernel import zeros
from ..layers import (
    AttentionVariant,
    Block,
    LayerNorm,
    NormedAttention,
    NormedRotaryAttention,
    Parameter,
    RotaryAttention,
    ScaledBlock,
)
from ..layers.initializers import normal
from ..ops import pooling
from .model import Statistic, rising
from .vit import ViT

PLAIN = ("learned", "sincos", "none")                                 # positions that a `ViT` has
# Positions with rotary ones, and what is added to the tokens
ROTARY = {"rotary": "none", "learned+rotary": "learned"}


class ExtendedViT(ViT):
    """A Vision Transformer beyond the paper's: images (B, H, W, C) -> logits (B, K).

    Parameters
    ----------
    image_size, patch_size, channels, classes, width, depth, heads, mlp_ratio
        As for `ViT`.
    registers : int
        R, the number of registers.
    class_token : bool
        Whether there is a class token.
    pool : {"token", "mean"}
        "token" reads the class token; "mean" reads the mean of the patches.
    norm_first : bool
        With pool="mean", whether the last norm comes before the mean.
    qk_norm : bool
        Whether queries and keys are normalised.
    layer_scale : float
        Value at which the factors of LayerScale start, such as 0.1; 0 for none.
    positions : {"learned", "sincos", "none", "rotary", "learned+rotary"}
        As for `ViT`, or "rotary", which turns queries and keys in all blocks. "learned+rotary" does both.
    eps : float
        Added to the variance in all norms, see `LayerNorm`.
    position_std, relative_bias, stem, drop_rate, drop_path_rate, mean, std
        As for `ViT`.

    Raises
    ------
    ValueError
        As `ViT`; if the pooling needs a class token that is not there; or if the width of a head does not suit rotary
        positions.
    """

    def __init__(self, *, image_size: Size, patch_size: Size, channels: int = 3, classes: int = 1000, width: int,
                 depth: int, heads: int, mlp_ratio: float = 4, registers: int = 0, class_token: bool = True,
                 pool: str = "token", norm_first: bool = False, qk_norm: bool = False, layer_scale: float = 0.0,
                 eps: float = 1e-6, positions: str = "learned", position_std: float = 0.02,
                 relative_bias: bool = False, stem: str = "patch", drop_rate: float = 0.0, drop_path_rate: float = 0.0,
                 mean: Statistic = 0.5, std: Statistic = 0.5) -> None:
        check_name("positions", positions, [*PLAIN, *ROTARY])
        super().__init__(image_size=image_size, patch_size=patch_size, channels=channels, classes=classes, width=width,
                         depth=depth, heads=heads, mlp_ratio=mlp_ratio, pool=pool,
                         positions=ROTARY.get(positions, positions), position_std=position_std,
                         relative_bias=relative_bias, stem=stem, drop_rate=drop_rate, drop_path_rate=drop_path_rate,
                         mean=mean, std=std)
        if pool == "token" and not class_token:
            raise ValueError("pool='token' reads the class token: use pool='mean' without one")
        self.config |= {"registers": check_number("number of registers", registers, least=0, whole=True),
                        "class_token": bool(class_token), "norm_first": bool(norm_first), "qk_norm": bool(qk_norm),
                        "layer_scale": check_number("start of the layer scale", layer_scale, least=0),
                        "eps": check_number("eps", eps, above=0)}
        start = partial(normal, std=1e-6)
        self.cls_token = Parameter((width,), start) if class_token else None
        self.reg_token = Parameter((registers, width), start) if registers else None
        self._set_positions(prefix=int(class_token) + registers)
        self.config["positions"] = positions
        self.blocks = self._make_blocks()
        if pool == "mean" and norm_first:
            self.norm, self.fc_norm = LayerNorm(width), None
        for _, layer in self.named_layers():
            if isinstance(layer, LayerNorm):
                layer.eps = self.config["eps"]

    def _make_blocks(self) -> list[Block]:
        """Return the blocks with the attention that the options ask for."""
        options = self.config
        width, heads, drop_rate, scale = (options[name] for name in ("width", "heads", "drop_rate", "layer_scale"))
        grid = (*self.grid, self.prefix) if options["relative_bias"] else None
        places = {"places": (*self.grid, self.prefix)} if options["positions"] in ROTARY else {}
        kind: Any = {(False, False): AttentionVariant, (True, False): NormedAttention, (False, True): RotaryAttention,
                     (True, True): NormedRotaryAttention}[options["qk_norm"], bool(places)]
        block = partial(ScaledBlock, start=scale) if scale else Block
        blocks = [block(width, heads, options["mlp_ratio"], drop_rate, rate,
                        attn=kind(width, heads, drop_rate, grid, **places))
                  for rate in rising(options["drop_path_rate"], options["depth"])]
        if self.pool == "token":
            blocks[-1].set_output_tokens(1)                           # the head reads the class token only
        return blocks

    @property
    def prefix_tokens(self) -> list[Any]:
        """The class token and the registers, (D,) each."""
        registers = [_Row(self.reg_token, i) for i in range(len(self.reg_token.data))] if self.reg_token else []
        return [*super().prefix_tokens, *registers]

    def forward(self, images: np.ndarray) -> np.ndarray:
        """images (B, H, W, C) -> logits (B, K)."""
        if self.pool == "token":
            return super().forward(images)
        x, embedded = self._encode(images)                            # (B, N, D)
        if self.norm:
            x = self.norm.forward(x)
        y, pooled = pooling.forward(x[:, self.prefix:].copy(), "mean")
        self.cache = embedded, pooled, x.shape
        return self.head.forward(self.fc_norm.forward(y) if self.fc_norm else y)

    def backward(self, dlogits: np.ndarray) -> np.ndarray:
        """dlogits (B, K) -> dimages (B, H, W, C), the gradient of the normalised images."""
        if self.pool == "token":
            return super().backward(dlogits)
        embedded, pooled, shape = self.pop_cache()
        self.check_gradient(dlogits, shape[0])
        dy = self.head.backward(dlogits)
        dy = self.fc_norm.backward(dy) if self.fc_norm else dy
        dx = zeros(shape, dy.dtype)                                   # no prefix token is read
        dx[:, self.prefix:] = pooling.backward(dy, pooled)
        return self._encode_backward(self.norm.backward(dx) if self.norm else dx, embedded)


class _Row:
    """A row of a parameter that looks like a parameter of its own: one of the registers."""

    def __init__(self, parameter: Parameter, row: int) -> None:
        self.parameter, self.row = parameter, row

    @property
    def data(self) -> np.ndarray:
        """The row, (D,)."""
        return self.parameter.data[self.row]

    @property
    def grad(self) -> Any:
        """The gradient of the row. Assigning writes it into that of the parameter."""
        return self.parameter.grad[self.row]

    @grad.setter
    def grad(self, value: np.ndarray) -> None:
        gradient = self.parameter.grad_buffer()
        gradient[self.row] = value
        self.parameter.grad = gradient


def simplest_family(options: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """Return the family of an `ExtendedViT` with these options, and its options: a `ViT` if that is enough."""
    pool = options.get("pool", "token")
    options = options | ({"norm_first": False} if pool == "token" else {})
    plain = {"registers": 0, "class_token": pool == "token", "norm_first": False, "qk_norm": False, "layer_scale": 0,
             "eps": 1e-6}
    is_plain = all({"class_token": True, **options}.get(name, value) == value for name, value in plain.items())
    if is_plain and options.get("positions", "learned") in PLAIN:
        return "vit", {name: value for name, value in options.items() if name not in plain}
    return "extended_vit", options
