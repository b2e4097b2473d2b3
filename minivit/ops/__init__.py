"""One chapter per operation: equation, derivation, plain NumPy, and the same mathematics made fast.

Every chapter has the same four functions,

    reference_forward(x, ...)      -> y, cache       plain NumPy, for reading and for tests
    reference_backward(dy, cache)  -> dx, ...        gradients in the order of the inputs
    forward(x, ...)                -> y, cache       what the layers call
    backward(dy, cache)            -> dx, ...

The letters are those of `minivit/__init__.py`: B images, N tokens, D width, h heads, d = D / h, F width of the MLP, K
classes; delta_ij is 1 if i = j and 0 else. A chapter knows nothing of layers, data or training. Operations never modify
their inputs. They keep the dtype of the input: float32 to train, float64 to verify.

Read them in this order: `linear`, `gelu`, `layer_norm`, `softmax`, `attention`, `cross_entropy`; then `patches`,
`tokens` and `pooling`, which lead from pictures to tokens and back out; `relative_bias`, `convolution` and `winograd`,
which a model may have; then `dropout`, and `philox`, its random numbers.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:                                                     # static tools read these; they are never run
    from . import (
        attention,
        attention_variants,
        convolution,
        cross_entropy,
        distillation,
        dropout,
        gelu,
        group_norm,
        layer_norm,
        linear,
        max_pooling,
        merging,
        patches,
        philox,
        pixels,
        pooling,
        relative_bias,
        relu,
        sincos,
        softmax,
        tokens,
        weight_standardisation,
        windows,
        winograd,
    )

__all__ = ["attention", "attention_variants", "convolution", "cross_entropy", "distillation", "dropout", "gelu",
           "group_norm", "layer_norm", "linear", "max_pooling", "merging", "patches", "philox", "pixels",
           "pooling", "relative_bias", "relu", "sincos", "softmax", "tokens", "weight_standardisation",
           "windows", "winograd"]


if not TYPE_CHECKING:                                                 # so static tools report a misspelt name

    def __getattr__(name: str) -> Any:
        """Import a chapter when it is first used, so that `minivit.ops.softmax` works after `import minivit`."""
        if name not in __all__:
            raise AttributeError(f"module 'minivit.ops' has no attribute {name!r}; it has {', '.join(__all__)}")
        return importlib.import_module(f"{__name__}.{name}")
