"""Weight standardisation: each filter of a convolution is shifted to mean 0 and scaled to variance 1 before use.

One channel d of the output has the filter W[:, :, :, d], m = k k C numbers. Written as a column w,

    mean = (1/m) sum_i w_i
    var  = (1/m) sum_i (w_i - mean)**2
    rstd = 1 / sqrt(var + eps)
    what = (w - mean) rstd

w is learned, and `what` is used by the convolution. The mean and the size of a filter have no effect, as after a batch
norm (which normalises each channel over the images of a batch). Unlike batch norm, it lets no image affect another.
With group norm, it makes convolutional networks train well with batches of any size.

Backward. This is the layer norm of a column instead of a row, without weight and bias, so its backward is the same (see
`layer_norm` for the derivation). Remove from dwhat its mean, and its component along what:

    dw = rstd (dwhat - mean(dwhat) - what mean(dwhat what))

Shapes: weight, what and their gradients (k, k, C, D); rstd (D,). Read before: `layer_norm`, `convolution`.
Source: Qiao et al., "Micro-Batch Training with Batch-Channel Normalization and Weight Standardization", 2019,
arXiv:1903.10520.
"""

import numpy as np

from ..kernel import as_matrix, empty, kernel


def reference_forward(weight: np.ndarray, eps: float = 1e-8) -> tuple[np.ndarray, tuple]:
    """Return the standardised filters.

    Parameters
    ----------
    weight : array (k, k, C, D)
    eps : float

    Returns
    -------
    what : array (k, k, C, D)
    cache : tuple, what `reference_backward` needs
    """
    mean = weight.mean(axis=(0, 1, 2))                                # (D,)
    var = ((weight - mean) ** 2).mean(axis=(0, 1, 2))
    rstd = 1 / np.sqrt(var + eps)
    what = (weight - mean) * rstd
    return what, (what, rstd)


def reference_backward(dwhat: np.ndarray, cache: tuple) -> np.ndarray:
    """Return dweight (k, k, C, D) for dwhat (k, k, C, D)."""
    what, rstd = cache
    along_shift = dwhat.mean(axis=(0, 1, 2))
    along_what = (dwhat * what).mean(axis=(0, 1, 2))
    return rstd * (dwhat - along_shift - what * along_what)


# ---- the same mathematics, row by row, so that memory is read in order -----------------------------------------------


def forward(weight: np.ndarray, eps: float = 1e-8) -> tuple[np.ndarray, tuple]:
    """Fast version of `reference_forward`. Raises ValueError if weight does not have four axes."""
    if weight.ndim != 4:
        raise ValueError(f"weight standardisation: the weight must be (k, k, C, D), not {weight.shape}")
    w = as_matrix(weight)                                             # (k k C, D)
    what, rstd = np.empty_like(w), empty(w.shape[1], w.dtype)
    _forward(w, eps, what, rstd)
    return what.reshape(weight.shape), (what, rstd)


def backward(dwhat: np.ndarray, cache: tuple, out: np.ndarray | None = None) -> np.ndarray:
    """Fast version of `reference_backward`. `out`: a contiguous array that receives dweight; it may be dwhat itself."""
    what, rstd = cache
    out = empty(dwhat.shape, dwhat.dtype) if out is None else out
    _backward(as_matrix(dwhat), what, rstd, out.reshape(what.shape))
    return out


@kernel
def _forward(w, eps, what, rstd):
    m, D = w.shape
    zero, one, eps = w.dtype.type(0), w.dtype.type(1), w.dtype.type(eps)
    per_filter = one / w.dtype.type(m)
    mean = np.full(D, zero)
    rstd[:] = zero
    for i in range(m):
        for d in range(D):
            mean[d] += w[i, d]
    for d in range(D):
        mean[d] *= per_filter
    for i in range(m):
        for d in range(D):
            rstd[d] += (w[i, d] - mean[d]) * (w[i, d] - mean[d])
    for d in range(D):
        rstd[d] = one / np.sqrt(rstd[d] * per_filter + eps)
    for i in range(m):
        for d in range(D):
            what[i, d] = (w[i, d] - mean[d]) * rstd[d]


@kernel
def _backward(dwhat, what, rstd, dw):
    m, D = what.shape
    zero = what.dtype.type(0)
    per_filter = what.dtype.type(1) / what.dtype.type(m)
    along_shift, along_what = np.full(D, zero), np.full(D, zero)
    for i in range(m):
        for d in range(D):
            along_shift[d] += dwhat[i, d]
        for d in range(D):
            along_what[d] += dwhat[i, d] * what[i, d]
    for d in range(D):
        along_shift[d] *= per_filter
        along_what[d] *= per_filter
    for i in range(m):
        for d in range(D):
            dw[i, d] = rstd[d] * (dwhat[i, d] - along_shift[d] - what[i, d] * along_what[d])
