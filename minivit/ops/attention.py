"""Multi-head scaled dot-product self-attention: every token looks at every other and takes a weighted mean.

The input holds, for each token, its query, key and value side by side (one linear map made all three):

    qkv (B, N, 3 D)  ->  q, k, v (B, h, N, d) each          d = D / h, one slice of width d per head

and then, for every image and head,

    scores = q k^T                           (N, N)    how well query n fits key m
    probs  = softmax(scores / sqrt d)        (N, N)    each row sums to one
    y      = probs v                         (N, d)    the mean of the values under that row

after which the heads are laid side by side again: y (B, N, D). A bias (h, N, N), which is the same for all images, may be added to the
scaled scores: probs = softmax(scores / sqrt d + bias), see `relative_bias`. Where the "images" are the M windows of each picture, one
after another (see `windows`), each may have its own: of a bias (M, h, N, N), image b takes bias[b mod M].

Why 1/sqrt(d): if q and k have independent entries of mean 0 and variance 1, then q.k has variance d. Without the scale the softmax
saturates as d grows, and its gradient vanishes.

Backward, from the last line to the first. Two are matrix products Z = A B, whose gradients are dA = dZ B^T, dB = A^T dZ; between them
stands the softmax, whose chapter has its backward:

    y = probs v            dprobs  = dy v^T                       dv = probs^T dy
    probs = softmax(...)   dscores = the softmax backward, with the scale 1/sqrt d
    scores = q k^T         dq      = dscores k                    dk = dscores^T q

The bias is added after the scaling, so its gradient is dscores without the factor 1/sqrt d, summed over the images that share it:

    dbias = sqrt d sum_b dscores[b]                            over all b, or for each window over the b that take its bias

q, k and v never interact outside these lines, so dqkv is the three gradients written side by side.

Where only T outputs are read, those of the tokens `queries` (a slice), only these queries are asked: scores (T, N), y (B, T, D), a bias
(h, T, N). So it is in a block behind which a classifier reads nothing but the class token. All tokens are still looked at; the other
queries act on nothing, so their gradients are zero.

The fast pair makes no copy of q, k, v: they are strided views of qkv, which BLAS reads in place, and
dq, dk, dv are views of dqkv, which it writes in place.

Source: Vaswani et al., "Attention Is All You Need", arXiv:1706.03762, Eq. 1; Dosovitskiy et al., arXiv:2010.11929, appendix A.
"""

import math

import numpy as np

from . import softmax

ALL = slice(None)                                                     # queries: every token


def split_heads(qkv, heads):
    """View qkv (B, N, 3 D) as q, k, v, each (B, h, N, d). No copy: writing to them writes to qkv."""
    B, N, width = qkv.shape
    q_k_v = qkv.reshape(B, N, 3, heads, width // (3 * heads))
    q, k, v = q_k_v.transpose(2, 0, 3, 1, 4)                          # (3, B, h, N, d)
    return q, k, v


def _per_head(y, heads):
    """View y (B, N, D) as (B, h, N, d)."""
    B, N, D = y.shape
    return y.reshape(B, N, heads, D // heads).transpose(0, 2, 1, 3)


def reference_forward(qkv, heads, bias=None, queries=ALL):
    """qkv (B, N, 3 D), bias (h, N, N), (M, h, N, N) or None -> y (B, N, D), cache; with `queries`, T of them: (h, T, N), (B, T, D)."""
    B, _, width = qkv.shape
    q, k, v = split_heads(qkv, heads)
    q = q[:, :, queries]
    scale = 1 / math.sqrt(q.shape[-1])
    scores = q @ k.swapaxes(-1, -2)                                   # (B, h, N, N)
    if bias is not None:
        windows = bias.shape[0] if bias.ndim == 4 else 1
        scores = scores + np.tile(bias.reshape(windows, *bias.shape[-3:]), (B // windows, 1, 1, 1)) / scale
    probs, _ = softmax.reference_forward(scores, scale)
    y = probs @ v                                                     # (B, h, N, d)
    return y.transpose(0, 2, 1, 3).reshape(B, -1, width // 3), (qkv, probs, scale, None if bias is None else bias.shape, queries)


def reference_backward(dy, cache):
    """dy (B, N or T, D) -> dqkv (B, N, 3 D); with a bias, dqkv and dbias of its shape."""
    qkv, probs, scale, bias_shape, queries = cache
    q, k, v = split_heads(qkv, probs.shape[1])
    dy = _per_head(dy, probs.shape[1])                                # (B, h, N, d)
    dprobs = dy @ v.swapaxes(-1, -2)                                  # y = probs v
    dv = probs.swapaxes(-1, -2) @ dy
    dscores = softmax.reference_backward(dprobs, (probs, scale))      # probs = softmax(scores / sqrt d + bias)
    dq = np.zeros_like(q)
    dq[:, :, queries] = dscores @ k                                   # scores = q k^T
    dk = dscores.swapaxes(-1, -2) @ q[:, :, queries]
    dqkv = np.stack([dq, dk, dv]).transpose(1, 3, 0, 2, 4).reshape(qkv.shape)
    return dqkv if bias_shape is None else (dqkv, dscores.reshape(-1, *bias_shape).sum(axis=0) / scale)


# ---- the same mathematics, without copies ------------------------------------------------------------------


def forward(qkv, heads, bias=None, queries=ALL):
    """As `reference_forward`; the cache's second entry is `probs` (B, h, N, N), or (B, h, T, N) with `queries`.

    Raises ValueError if qkv is not (B, N, 3 D) with D divisible by the number of heads, queries is no slice of the tokens, or bias is
    not (h, N, N) or (M, h, N, N) with B divisible by M, with T for the first N.
    """
    if qkv.ndim != 3 or heads < 1 or qkv.shape[-1] % (3 * heads):
        raise ValueError(f"attention: qkv must be (B, N, 3 D) with D divisible by {heads} heads, not {qkv.shape}")
    qkv = np.ascontiguousarray(qkv)
    B, N, width = qkv.shape
    T = len(range(N)[queries]) if isinstance(queries, slice) else 0
    if not T or (queries.start or 0) < 0 or not 0 <= (queries.stop or 0) <= N:
        raise ValueError(f"attention: the queries must be a slice of the {N} tokens, with one at least, not {queries}")
    if bias is not None and (bias.shape[-3:] != (heads, T, N) or bias.ndim > 4 or (bias.ndim == 4 and B % len(bias))):
        raise ValueError(f"attention: {heads} heads over {N} tokens need a bias {(heads, T, N)}, not {bias.shape}, or one for each of "
                         f"so many windows as divide {B} images")
    q, k, v = split_heads(qkv, heads)
    q = q[:, :, queries]
    scale = 1 / math.sqrt(q.shape[-1])
    scores = np.matmul(q, k.swapaxes(-1, -2))                         # (B, h, T, N)
    if bias is not None:
        scores.reshape(-1, *bias.shape)[...] += bias / scale          # image b = i M + m takes bias[m]
    probs, _ = softmax.forward(scores, scale, out=scores)
    y = np.empty((B, T, width // 3), qkv.dtype)
    np.matmul(probs, v, out=_per_head(y, heads))
    return y, (qkv, probs, scale, None if bias is None else bias.shape, queries)


def backward(dy, cache):
    """As `reference_backward`."""
    qkv, probs, scale, bias_shape, queries = cache
    heads = probs.shape[1]
    q, k, v = split_heads(qkv, heads)
    dqkv = np.empty_like(qkv)
    dq, dk, dv = split_heads(dqkv, heads)
    if probs.shape[2] < q.shape[2]:
        dq[...] = 0                                                   # of the queries that were not asked
    dy = _per_head(dy, heads)
    dprobs = np.matmul(dy, v.swapaxes(-1, -2))                        # y = probs v
    np.matmul(probs.swapaxes(-1, -2), dy, out=dv)
    dscores = softmax.backward(dprobs, (probs, scale), out=dprobs)    # probs = softmax(scores / sqrt d + bias)
    np.matmul(dscores, k, out=dq[:, :, queries])                      # scores = q k^T
    np.matmul(dscores.swapaxes(-1, -2), q[:, :, queries], out=dk)
    return dqkv if bias_shape is None else (dqkv, dscores.reshape(-1, *bias_shape).sum(axis=0) / scale)
