"""Variants of attention: with a bias added to the scores, or with fewer queries than tokens.

The bias says in advance which pairs of tokens should look at each other, such as neighbours; see `relative_bias`. It is
added to the scaled scores:

    probs = softmax(q k^T / sqrt d + bias)                         bias (h, N, N), the same for all images

Swin runs attention within windows (see `windows`). There each "image" of the batch is one of the G windows of an image,
and the windows of an image are consecutive. A bias (G, h, N, N) has an entry for each window: row b of the batch takes
bias[b mod G].

`queries` is a slice of T tokens whose outputs are computed: scores (T, N), bias (h, T, N), y (B, T, D). The last block
of a model needs no more if the classifier reads only the class token. All N tokens still serve as keys and values.

Backward. The lines of `attention` stay. The bias is added after the scaling, so its gradient is dscores without the
factor 1/sqrt d, summed over the rows of the batch that share it:

    dbias    = sqrt d sum_b dscores[b]                             over all b
    dbias[g] = sqrt d sum_b dscores[b]                             over the b with b mod G = g

The queries that are left out act on nothing, so their dq is zero.

Read before: `attention`. Shapes: as there. Sources: Liu et al., "Swin Transformer", arXiv:2103.14030, Eq. 4; for the
queries of a class token, Touvron et al., arXiv:2103.17239.
"""

import math
from typing import Any

import numpy as np

from ..kernel import empty, sum_rows
from ..matrix_products import matmul
from . import softmax
from .attention import check, per_head, split_heads

ALL = slice(None)                                                     # queries: every token


def reference_forward(qkv: np.ndarray, heads: int, bias: np.ndarray | None = None,
                      queries: slice = ALL) -> tuple[np.ndarray, tuple]:
    """Return the attention of the queries to all tokens.

    Parameters
    ----------
    qkv : array (B, N, 3 D)
    heads : int, h
    bias : array (h, T, N) or (G, h, T, N) with B divisible by G, optional
    queries : slice of T tokens, by default all N

    Returns
    -------
    y : array (B, T, D)
    cache : tuple, what `reference_backward` needs; cache[1] is probs (B, h, T, N)
    """
    B, _, width = qkv.shape
    q, k, v = split_heads(qkv, heads)
    q = q[:, :, queries]
    scale = 1 / math.sqrt(q.shape[-1])
    scores = q @ k.swapaxes(-1, -2)                                   # (B, h, T, N)
    if bias is not None:
        G = bias.shape[0] if bias.ndim == 4 else 1
        scores = scores + np.tile(bias.reshape(G, *bias.shape[-3:]), (B // G, 1, 1, 1)) / scale
    probs, _ = softmax.reference_forward(scores, scale)
    y = probs @ v                                                     # (B, h, T, d)
    cache = qkv, probs, scale, None if bias is None else bias.shape, queries
    return y.transpose(0, 2, 1, 3).reshape(B, -1, width // 3), cache


def reference_backward(dy: np.ndarray, cache: tuple) -> Any:
    """Return the gradients of the inputs.

    Parameters
    ----------
    dy : array (B, T, D)
    cache : tuple, from `reference_forward`

    Returns
    -------
    dqkv : array (B, N, 3 D)
    dbias : array of the shape of bias; only if there was a bias
    """
    qkv, probs, scale, bias_shape, queries = cache
    q, k, v = split_heads(qkv, probs.shape[1])
    dy = per_head(dy, probs.shape[1])                                 # (B, h, T, d)
    dprobs = dy @ v.swapaxes(-1, -2)                                  # y = probs v
    dv = probs.swapaxes(-1, -2) @ dy
    dscores = softmax.reference_backward(dprobs, (probs, scale))      # probs = softmax(scores / sqrt d + bias)
    dq = np.zeros_like(q)
    dq[:, :, queries] = dscores @ k                                   # scores = q k^T
    dk = dscores.swapaxes(-1, -2) @ q[:, :, queries]
    dqkv = np.stack([dq, dk, dv]).transpose(1, 3, 0, 2, 4).reshape(qkv.shape)
    return dqkv if bias_shape is None else (dqkv, dscores.reshape(-1, *bias_shape).sum(axis=0) / scale)


# ---- the same mathematics, in the fast steps of `attention` ----------------------------------------------------------


def forward(qkv: np.ndarray, heads: int, bias: np.ndarray | None = None,
            queries: slice = ALL) -> tuple[np.ndarray, tuple]:
    """Fast version of `reference_forward`. Raises ValueError if the shapes or the slice do not fit together."""
    qkv = check(qkv, heads)
    _check_variant(qkv, heads, bias, queries)
    q, k, v = split_heads(qkv, heads)
    q = q[:, :, queries]
    scale = 1 / math.sqrt(q.shape[-1])
    scores = matmul(q, k.swapaxes(-1, -2))                         # (B, h, T, N)
    if bias is not None:
        rows = scores.reshape(-1, *bias.shape)
        rows += bias * scores.dtype.type(1 / scale)                   # row b = i G + g takes bias[g]
    probs, _ = softmax.forward(scores, scale, in_place=True)
    y = empty((*probs.shape[::2], qkv.shape[-1] // 3), qkv.dtype)
    matmul(probs, v, out=per_head(y, heads))
    return y, (qkv, probs, scale, None if bias is None else bias.shape, queries)


def backward(dy: np.ndarray, cache: tuple) -> Any:
    """Fast version of `reference_backward`."""
    qkv, probs, scale, bias_shape, queries = cache
    heads, dqkv = probs.shape[1], np.empty_like(qkv)
    (q, k, v), (dq, dk, dv), dy = split_heads(qkv, heads), split_heads(dqkv, heads), per_head(dy, heads)
    if probs.shape[2] < q.shape[2]:
        dq[...] = 0                                                   # of the queries that were left out
    dprobs = matmul(dy, v.swapaxes(-1, -2))
    matmul(probs.swapaxes(-1, -2), dy, out=dv)
    dscores = softmax.backward(dprobs, (probs, scale), in_place=True)
    matmul(dscores, k, out=dq[:, :, queries])
    matmul(dscores.swapaxes(-1, -2), q[:, :, queries], out=dk)
    if bias_shape is None:
        return dqkv
    dbias = sum_rows(dscores.reshape(-1, math.prod(bias_shape))).reshape(bias_shape)
    return dqkv, dbias * dbias.dtype.type(1 / scale)


def _check_variant(qkv, heads, bias, queries):
    """Raise ValueError if the slice or the bias does not fit qkv (B, N, 3 D)."""
    B, N, _ = qkv.shape
    T = len(range(N)[queries]) if isinstance(queries, slice) else 0
    if not T or (queries.start or 0) < 0 or not 0 <= (queries.stop or 0) <= N:
        raise ValueError(f"attention: queries must be a slice of the {N} tokens, with at least one, not {queries}")
    if bias is not None and (bias.shape[-3:] != (heads, T, N) or bias.ndim > 4 or (bias.ndim == 4 and B % len(bias))):
        raise ValueError(f"attention: {heads} heads over {N} tokens need a bias {(heads, T, N)}, not {bias.shape}; a "
                         f"bias per window also needs a number of windows that divides the batch of {B}")
