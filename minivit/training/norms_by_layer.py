"""The norms of weights and gradients of each layer, for the log of a run. Optional: see `log_norms` in `settings.py`.

A layer here is a block, a downsampling between stages, or one of the model's other parts, such as `patch_embed` or
`pos_embed`. If the gradient norm of one layer falls to zero or explodes over the epochs, this log says which one.
"""

import re
from collections.abc import Sequence

import numpy as np

from ..layers.parameter import Parameter
from .loop import Loop

_LAYER = re.compile(r"(?:\w+\.\d+\.)?(?:blocks\.\d+|downsample)|[^.]+")    # the first part of the name of a parameter


def log_norms(loop: Loop) -> None:
    """Add the norms to the record of the epoch that has just ended: {"weight_norms": {layer: norm}, "grad_norms": ...}.

    The gradient is that of the last step, before clipping; the weights are those after this step. A function for
    `Loop.after_epoch`.
    """
    trainer = loop.trainer
    parameters = trainer.model.parameters()
    loop.records[-1] |= {"weight_norms": norms_by_layer(parameters, trainer.model.vector),
                         "grad_norms": norms_by_layer(parameters, trainer.lanes.gradients)}


def norms_by_layer(parameters: Sequence[Parameter], vector: np.ndarray) -> dict[str, float]:
    """Return the norm of each layer's part of a vector of all weights or gradients, with six digits."""
    squares: dict[str, float] = {}
    start = 0
    for p in parameters:
        part = vector[start:start + p.size].astype(np.float64)
        match = _LAYER.match(p.name)
        layer = match[0] if match else p.name
        squares[layer] = squares.get(layer, 0.0) + float(part @ part)
        start += p.size
    return {layer: float(f"{square**0.5:.6g}") for layer, square in squares.items()}
