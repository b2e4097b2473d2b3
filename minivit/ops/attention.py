"""Multi-head scaled dot-product self-attention: every token looks at all tokens and takes a weighted mean of them.

A token is a row of D numbers (see `tokens`). A linear map makes three rows from each token: its *query* (what it looks
for), its *key* (by what others find it) and its *value* (what it passes on). They come in side by side:

    qkv (B, N, 3 D)  ->  q, k, v (B, h, N, d) each          d = D / h

A *head* is one attention on its own slice of d numbers. One softmax expresses one kind of relation; h heads express h
kinds, and their products cost no more than those of one head of width D. For every image and head,

    scores = q k^T                           (N, N)    how well query n fits key m
    probs  = softmax(scores / sqrt d)        (N, N)    each row sums to one
    y      = probs v                         (N, d)    the mean of the values, weighted by the probabilities of that row

Then the heads are laid side by side again: y (B, N, D). (Elsewhere, *score* means q k^T / sqrt d.)

Why 1/sqrt(d): let the entries of q and k be independent, with mean 0 and variance 1. Each product q_i k_i has mean 0
and variance E[q_i**2] E[k_i**2] = 1. The d products are independent, so their variances add: q.k has variance d and
typical size sqrt d. Without the scale and with large d, one probability of a row is almost 1, and all others almost 0.
The softmax's derivatives are p_i (1 - p_i) and -p_i p_j, almost 0 too, so no gradient passes: softmax *saturates*.

Backward, from the last line to the first. Two lines are matrix products Z = A B, whose gradients are dA = dZ B^T and
dB = A^T dZ (see `linear`). Between them stands the softmax (see `softmax`):

    y = probs v            dprobs  = dy v^T                       dv = probs^T dy
    probs = softmax(...)   dscores = the softmax backward, with the scale 1/sqrt d
    scores = q k^T         dq      = dscores k                    dk = dscores^T q

q, k and v act on nothing else, so dqkv is dq, dk and dv side by side.

Read before: `linear`, `softmax`. Read after: `attention_variants`; `interleaved_attention`, faster for few tokens.
Sources: Vaswani et al., "Attention Is All You Need", arXiv:1706.03762, Eq. 1; Dosovitskiy et al., arXiv:2010.11929.
"""

import math

import numpy as np

from ..kernel import contiguous, empty
from ..matrix_products import matmul
from . import softmax


def split_heads(qkv: np.ndarray, heads: int) -> np.ndarray:
    """View qkv (B, N, 3 D) as q, k, v, together (3, B, h, N, d). No copy: writing to them writes to qkv."""
    B, N, width = qkv.shape
    return qkv.reshape(B, N, 3, heads, width // (3 * heads)).transpose(2, 0, 3, 1, 4)


def per_head(y: np.ndarray, heads: int) -> np.ndarray:
    """View y (B, N, D) as (B, h, N, d)."""
    B, N, D = y.shape
    return y.reshape(B, N, heads, D // heads).transpose(0, 2, 1, 3)


def reference_forward(qkv: np.ndarray, heads: int) -> tuple[np.ndarray, tuple]:
    """Return the attention of all tokens to all tokens.

    Parameters
    ----------
    qkv : array (B, N, 3 D), queries, keys and values side by side
    heads : int, h

    Returns
    -------
    y : array (B, N, D)
    cache : tuple, what `reference_backward` needs; cache[1] is probs (B, h, N, N)
    """
    q, k, v = split_heads(qkv, heads)                                 # (B, h, N, d) each
    scale = 1 / math.sqrt(q.shape[-1])
    scores = q @ k.swapaxes(-1, -2)                                   # (B, h, N, N)
    probs, _ = softmax.reference_forward(scores, scale)
    y = probs @ v                                                     # (B, h, N, d)
    return y.transpose(0, 2, 1, 3).reshape(*qkv.shape[:2], -1), (qkv, probs, scale)


def reference_backward(dy: np.ndarray, cache: tuple) -> np.ndarray:
    """Return dqkv (B, N, 3 D) for dy (B, N, D) and the cache of `reference_forward`."""
    qkv, probs, scale = cache
    q, k, v = split_heads(qkv, probs.shape[1])
    dy = per_head(dy, probs.shape[1])                                 # (B, h, N, d)
    dprobs = dy @ v.swapaxes(-1, -2)                                  # y = probs v
    dv = probs.swapaxes(-1, -2) @ dy
    dscores = softmax.reference_backward(dprobs, (probs, scale))      # probs = softmax(scores / sqrt d)
    dq = dscores @ k                                                  # scores = q k^T
    dk = dscores.swapaxes(-1, -2) @ q
    return np.stack([dq, dk, dv]).transpose(1, 3, 0, 2, 4).reshape(qkv.shape)


# ---- the same mathematics, without copies: matrix products read and write slices of qkv, dqkv and y in place ---------


def forward(qkv: np.ndarray, heads: int) -> tuple[np.ndarray, tuple]:
    """Fast version of `reference_forward`. Raises ValueError if qkv is not (B, N, 3 D) with D divisible by h."""
    qkv = check(qkv, heads)
    B, N, width = qkv.shape
    q, k, v = split_heads(qkv, heads)
    scale = 1 / math.sqrt(q.shape[-1])
    scores = matmul(q, k.swapaxes(-1, -2))
    probs, _ = softmax.forward(scores, scale, in_place=True)
    y = empty((B, N, width // 3), qkv.dtype)
    matmul(probs, v, out=per_head(y, heads))
    return y, (qkv, probs, scale)


def backward(dy: np.ndarray, cache: tuple) -> np.ndarray:
    """Fast version of `reference_backward`."""
    qkv, probs, scale = cache
    heads, dqkv = probs.shape[1], np.empty_like(qkv)
    (q, k, v), (dq, dk, dv), dy = split_heads(qkv, heads), split_heads(dqkv, heads), per_head(dy, heads)
    dprobs = matmul(dy, v.swapaxes(-1, -2))                        # y = probs v
    matmul(probs.swapaxes(-1, -2), dy, out=dv)
    dscores = softmax.backward(dprobs, (probs, scale), in_place=True)
    matmul(dscores, k, out=dq)                                     # scores = q k^T
    matmul(dscores.swapaxes(-1, -2), q, out=dk)
    return dqkv


def check(qkv: np.ndarray, heads: int) -> np.ndarray:
    """Return qkv, contiguous. Raises ValueError if it is not (B, N, 3 D) with D divisible by h."""
    if qkv.ndim != 3 or heads < 1 or qkv.shape[-1] % (3 * heads):
        raise ValueError(f"attention: qkv must be (B, N, 3 D) with D divisible by {heads} heads, not {qkv.shape}")
    return contiguous(qkv)
