"""Group norm: the channels of an image form groups, and each group is shifted to mean 0 and scaled to variance 1.

With g groups, a group is C / g neighbouring channels. For one image and one group, over the m = H W C / g numbers x_i
that the group has at all places (every image by itself, independent of the rest of the batch):

    mean = (1/m) sum_i x_i
    var  = (1/m) sum_i (x_i - mean)**2
    rstd = 1 / sqrt(var + eps)
    xhat = (x - mean) rstd
    y    = xhat weight + bias                        (weight and bias: one number per channel)

In a ResNet a ReLU always follows, y = max(xhat weight + bias, 0). It is part of this chapter, because it costs nothing
when it is computed in the same pass.

Backward. The ReLU passes dy where y > 0 (see `relu`). The rest is the layer norm's backward with means over the group
instead of the token (see `layer_norm` for the derivation):

    dbias = sum dy        dweight = sum dy xhat      (over images and places)
    dxhat = dy weight
    dx    = rstd (dxhat - mean(dxhat) - xhat mean(dxhat xhat))          (means over the group)

weight is the same at all places, so both means follow from sums over the places of each channel c. The same sums make
dbias and dweight:

    mean(dxhat)      = (1/m) sum_c weight_c (sum over places of dy_c)
    mean(dxhat xhat) = (1/m) sum_c weight_c (sum over places of dy_c xhat_c)

Shapes: x, y, dx, dy (B, H, W, C); weight, bias (C,); mean, rstd (B, g). g = 1 is a layer norm of the image, g = C is
the instance norm. (A batch norm would take its means over the images of the batch, so images would depend on each
other.)
Read before: `layer_norm`, `relu`. Source: Wu and He, "Group Normalization", arXiv:1803.08494.
"""

import numpy as np

from ..kernel import as_matrix, empty, kernel, zeros
from . import relu as relu_op

PLACES = 64  # this many places are summed by themselves first: one running sum of thousands of numbers loses digits


def reference_forward(x: np.ndarray, weight: np.ndarray, bias: np.ndarray, groups: int, eps: float = 1e-5,
                      relu: bool = False) -> tuple[np.ndarray, tuple]:
    """Return the group norm of each image.

    Parameters
    ----------
    x : array (B, H, W, C)
    weight, bias : arrays (C,)
    groups : int, g
    eps : float
    relu : bool, whether a ReLU follows

    Returns
    -------
    y : array (B, H, W, C)
    cache : tuple, what `reference_backward` needs
    """
    grouped = x.reshape(len(x), -1, groups, x.shape[-1] // groups)    # (B, H W, g, C / g)
    mean = grouped.mean(axis=(1, 3), keepdims=True)                   # (B, 1, g, 1)
    var = ((grouped - mean) ** 2).mean(axis=(1, 3), keepdims=True)
    rstd = 1 / np.sqrt(var + eps)
    xhat = (grouped - mean) * rstd
    y, relu_cache = xhat.reshape(x.shape) * weight + bias, None
    if relu:
        y, relu_cache = relu_op.reference_forward(y)
    return y, (xhat, rstd, weight, relu_cache)


def reference_backward(dy: np.ndarray, cache: tuple) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return dx (B, H, W, C), dweight (C,) and dbias (C,) for dy (B, H, W, C)."""
    xhat, rstd, weight, relu_cache = cache
    if relu_cache is not None:                                        # y = max(.., 0)
        dy = relu_op.reference_backward(dy, relu_cache)
    dbias = as_matrix(dy).sum(axis=0)                                 # y = xhat weight + bias
    dweight = as_matrix(dy * xhat.reshape(dy.shape)).sum(axis=0)
    dxhat = (dy * weight).reshape(xhat.shape)
    along_shift = dxhat.mean(axis=(1, 3), keepdims=True)              # xhat = (x - mean) rstd
    along_xhat = (dxhat * xhat).mean(axis=(1, 3), keepdims=True)
    dx = rstd * (dxhat - along_shift - xhat * along_xhat)
    return dx.reshape(dy.shape), dweight, dbias


# ---- the same mathematics, image by image: an image stays in the processor's cache from the first pass to the last ---


def forward(x: np.ndarray, weight: np.ndarray, bias: np.ndarray, groups: int, eps: float = 1e-5,
            relu: bool = False) -> tuple[np.ndarray, tuple]:
    """Fast version of `reference_forward`. Raises ValueError if weight or bias is not (C,), or g does not divide C."""
    C = x.shape[-1]
    if weight.shape != (C,) or bias.shape != (C,):
        raise ValueError(f"group norm: x {x.shape} needs weight and bias ({C},), not {weight.shape} and {bias.shape}")
    if groups < 1 or C % groups:
        raise ValueError(f"group norm: {C} channels cannot be divided into {groups} groups: choose a divisor of {C}")
    places = as_matrix(x).reshape(len(x), -1, C)                      # (B, H W, C)
    y = np.empty_like(places)
    mean, rstd = empty((len(x), groups), x.dtype), empty((len(x), groups), x.dtype)
    _forward(places, weight, bias, eps, relu, y, mean, rstd)
    return y.reshape(x.shape), (places, mean, rstd, weight, bias, relu)


def backward(dy: np.ndarray, cache: tuple) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Fast version of `reference_backward`."""
    x, mean, rstd, weight, bias, relu = cache
    dx, dweight, dbias = np.empty_like(x), zeros(weight.shape, x.dtype), zeros(weight.shape, x.dtype)
    _backward(as_matrix(dy).reshape(x.shape), x, mean, rstd, weight, bias, relu, dx, dweight, dbias)
    return dx.reshape(dy.shape), dweight, dbias


@kernel
def _forward(x, weight, bias, eps, relu, y, mean, rstd):
    B, N, C = x.shape
    one, zero, eps = x.dtype.type(1), x.dtype.type(0), x.dtype.type(eps)
    floor = zero if relu else -x.dtype.type(np.inf)
    each = C // mean.shape[1]
    per_group = one / x.dtype.type(N * each)
    part, total, shift, scale = np.empty(C, x.dtype), np.empty(C, x.dtype), np.empty(C, x.dtype), np.empty(C, x.dtype)
    for b in range(B):
        total[:] = zero
        for start in range(0, N, PLACES):
            part[:] = zero
            for n in range(start, min(start + PLACES, N)):
                for c in range(C):
                    part[c] += x[b, n, c]
            for c in range(C):
                total[c] += part[c]
        for g in range(mean.shape[1]):
            m = zero
            for c in range(g * each, (g + 1) * each):
                m += total[c]
            mean[b, g] = m * per_group
            shift[g * each:(g + 1) * each] = m * per_group
        total[:] = zero
        for start in range(0, N, PLACES):
            part[:] = zero
            for n in range(start, min(start + PLACES, N)):
                for c in range(C):
                    part[c] += (x[b, n, c] - shift[c]) * (x[b, n, c] - shift[c])
            for c in range(C):
                total[c] += part[c]
        for g in range(mean.shape[1]):
            var = zero
            for c in range(g * each, (g + 1) * each):
                var += total[c]
            rstd[b, g] = one / np.sqrt(var * per_group + eps)
            for c in range(g * each, (g + 1) * each):
                scale[c] = rstd[b, g] * weight[c]
        for n in range(N):
            for c in range(C):
                z = (x[b, n, c] - shift[c]) * scale[c] + bias[c]
                y[b, n, c] = floor if z < floor else z                # a NaN stays a NaN


@kernel
def _backward(dy, x, mean, rstd, weight, bias, relu, dx, dweight, dbias):
    B, N, C = x.shape
    zero = x.dtype.type(0)
    floor = zero if relu else -x.dtype.type(np.inf)
    each = C // mean.shape[1]
    per_group = x.dtype.type(1) / x.dtype.type(N * each)
    shift, scale = np.empty(C, x.dtype), np.empty(C, x.dtype)         # xhat = (x - shift) scale
    slope = np.empty(C, x.dtype)                                      # dy/dx, computed as in the forward
    part_dy, part_dy_xhat = np.empty(C, x.dtype), np.empty(C, x.dtype)
    sum_dy, sum_dy_xhat = np.empty(C, x.dtype), np.empty(C, x.dtype)
    along_shift, along_xhat = np.empty(C, x.dtype), np.empty(C, x.dtype)
    for b in range(B):
        for c in range(C):
            shift[c], scale[c] = mean[b, c // each], rstd[b, c // each]
            slope[c] = scale[c] * weight[c]
        sum_dy[:], sum_dy_xhat[:] = zero, zero
        for start in range(0, N, PLACES):
            part_dy[:], part_dy_xhat[:] = zero, zero
            for n in range(start, min(start + PLACES, N)):
                for c in range(C):
                    centred = x[b, n, c] - shift[c]
                    passed = dy[b, n, c] if centred * slope[c] + bias[c] > floor else zero
                    dx[b, n, c] = passed                              # kept here for the second pass
                    part_dy[c] += passed
                    part_dy_xhat[c] += passed * (centred * scale[c])
            for c in range(C):
                sum_dy[c] += part_dy[c]
                sum_dy_xhat[c] += part_dy_xhat[c]
        for c in range(C):
            dbias[c] += sum_dy[c]
            dweight[c] += sum_dy_xhat[c]
        for g in range(mean.shape[1]):
            of_shift, of_xhat = zero, zero
            for c in range(g * each, (g + 1) * each):
                of_shift += weight[c] * sum_dy[c]
                of_xhat += weight[c] * sum_dy_xhat[c]
            along_shift[g * each:(g + 1) * each] = of_shift * per_group
            along_xhat[g * each:(g + 1) * each] = of_xhat * per_group
        for n in range(N):
            for c in range(C):
                xhat = (x[b, n, c] - shift[c]) * scale[c]
                dx[b, n, c] = scale[c] * (dx[b, n, c] * weight[c] - along_shift[c] - xhat * along_xhat[c])
