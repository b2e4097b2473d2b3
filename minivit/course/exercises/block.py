"""Exercise 11, block: attention and MLP, each added to what it reads. About 20 minutes.

A Vision Transformer repeats one *block*. Its two *branches* read the tokens through a layer norm, and add their result
to the tokens:

    z = x + multi_head(layer_norm(x))             with the weights norm1 and attn
    y = z + mlp(layer_norm(z))                    with the weights norm2 and mlp

The term x in the sum is a *residual connection*. It lets the gradient pass a deep network on a straight path.

Backward. In y = z + f(z) the number z acts in two ways, so two gradients add up: dz = dy + the backward of f. Begin
with the second line.

p has the 12 arrays of a block: norm1.weight, norm1.bias, attn.qkv.weight, attn.qkv.bias, attn.proj.weight,
attn.proj.bias, norm2.weight, norm2.bias, mlp.fc1.weight, mlp.fc1.bias, mlp.fc2.weight, mlp.fc2.bias. Two functions
help:

    part(p, "mlp")           {"fc1.weight": ..., ...}: the arrays whose names begin with "mlp.", without the "mlp."
    prefixed("mlp", g)       the reverse: {"mlp.fc1.weight": ..., ...}

Dictionaries are joined by `|`.
"""

import numpy as np

from minivit.course.earlier import layer_norm, mlp, multi_head, part, prefixed


def forward(x, p, heads):
    """x (B, N, D), p: the 12 arrays of a block -> y (B, N, D), cache."""
    raise NotImplementedError("write forward, and remove this line")


def backward(dy, cache):
    """dy (B, N, D), and the cache -> dx (B, N, D), and a dictionary with the gradient of each parameter."""
    raise NotImplementedError("write backward, and remove this line")
