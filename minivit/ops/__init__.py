"""One chapter per operation: equation, derivation, plain NumPy, and the same mathematics made fast.

Every chapter has the same four functions:

    reference_forward(x, ...)      -> y, cache       plain NumPy, for reading and for tests
    reference_backward(dy, cache)  -> dx, ...        gradients in the order of the inputs
    forward(x, ...)                -> y, cache       the fast version, which the layers call
    backward(dy, cache)            -> dx, ...

A *cache* is what a forward keeps for its backward. (Not to be confused with the processor's cache, the fast memory of
a core.) The letters are those of `minivit/__init__.py`: B images, N tokens, and so on. dx always means dLoss/dx. A
chapter imports no layer, data or training.
Operations never modify their inputs, unless their name or `out` says so. They keep the dtype of the input: float32 to
train, float64 to verify.

Read the chapters in this order. A Vision Transformer consists of the first nine:

    linear                    every row of numbers is multiplied by a matrix
    patches                   an image becomes a sequence of rows of numbers
    tokens                    the class token joins, and positions are added
    layer_norm                each token is brought to mean 0 and variance 1
    softmax                   scores become probabilities
    attention                 every token takes a weighted mean of all tokens
    gelu                      the nonlinear step between two linear maps
    pooling                   the tokens become one vector per image
    cross_entropy             the loss: how surprised the model is by the right answer

What training and input need besides:

    pixels                    bytes become numbers with mean 0 and standard deviation 1
    sincos                    fixed positions instead of learned ones
    dropout, philox           random masks, and the random numbers for them
    distillation              learning from another model's probabilities
    hiding, picking, filling  masked autoencoders: pixels that are hidden, tokens that are left out, and put back
    reconstruction            the loss of masked autoencoders: the error of the hidden pixels

What other models need:

    attention_variants        attention with a bias on the scores, or with fewer queries
    interleaved_attention     the same attention, with several heads side by side: faster for few tokens
    relative_bias             a learned bias that depends on the offset of two tokens
    rotary                    queries and keys that turn by the place of their token
    layer_scale               a learned factor for each number of a branch
    windows, merging          Swin: attention within squares, and four tokens that become one
    convolution, winograd     one filter at every place of an image, and the same with fewer multiplications
    relu, group_norm          the nonlinear step and the norm of convolutional networks
    weight_standardisation    filters with mean 0 and variance 1
    max_pooling               the largest number of each square
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
        filling,
        gelu,
        group_norm,
        hiding,
        interleaved_attention,
        layer_norm,
        layer_scale,
        linear,
        max_pooling,
        merging,
        patches,
        philox,
        picking,
        pixels,
        pooling,
        reconstruction,
        relative_bias,
        relu,
        rotary,
        sincos,
        softmax,
        tokens,
        weight_standardisation,
        windows,
        winograd,
    )

__all__ = ["attention", "attention_variants", "convolution", "cross_entropy", "distillation", "dropout", "filling",
           "gelu", "group_norm", "hiding", "interleaved_attention", "layer_norm", "layer_scale", "linear",
           "max_pooling", "merging", "patches", "philox", "picking", "pixels", "pooling", "reconstruction",
           "relative_bias", "relu", "rotary", "sincos", "softmax", "tokens", "weight_standardisation", "windows",
           "winograd"]


if not TYPE_CHECKING:                                                 # so static tools report a misspelt name

    def __getattr__(name: str) -> Any:
        """Import a chapter when it is first used, so that `minivit.ops.softmax` works after `import minivit`."""
        if name not in __all__:
            raise AttributeError(f"module 'minivit.ops' has no attribute {name!r}; it has {', '.join(__all__)}")
        return importlib.import_module(f"{__name__}.{name}")
