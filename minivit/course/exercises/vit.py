"""Exercise 13, vit: the whole Vision Transformer. About 20 minutes.

    images (B, H, W, C)
        -> patches                                (B, M, P P C)      side P = sizes["patch"]
        -> embedding                              (B, N, D)          weights embedding
        -> block 0, block 1, ...                  (B, N, D)          sizes["depth"] blocks, weights blocks.0, ...
        -> head                                   (B, K)             weights head

A block needs the number of heads, sizes["heads"].

Backward. The same chain from the end to the beginning. Nobody needs the gradient of the images, so `backward` returns
the dictionary of gradients alone. `part` and `prefixed` are those of exercise 11: part(p, "blocks.0") has the 12 arrays
of block 0.
"""

import numpy as np

from minivit.course.earlier import block, embedding, head, part, patches, prefixed


def forward(images, p, sizes):
    """images (B, H, W, C), p: all parameters by name, sizes: patch, depth, heads -> logits (B, K), cache."""
    raise NotImplementedError("write forward, and remove this line")


def backward(dlogits, cache):
    """dlogits (B, K), and the cache -> a dictionary with the gradient of each parameter."""
    raise NotImplementedError("write backward, and remove this line")
