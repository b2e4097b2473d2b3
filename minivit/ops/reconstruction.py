"""Reconstruction: the loss of a masked autoencoder, the squared error of the pixels that it could not see.

The model predicts n = P Q C numbers p[b, m] for each patch m of image b. The target t is the pixels x of the patch, by
default normalised within the patch:

    mu     = 1/n sum_i x_i                     var = 1/n sum_i (x_i - mu)^2
    t_i    = (x_i - mu) / sqrt(var + eps)                                        or t_i = x_i
    loss   = 1/B sum_b 1/(H_b n) sum over the hidden patches m of sum_i (p[b, m, i] - t[b, m, i])^2

H_b is the number of hidden patches of image b. Visible patches do not count: to copy them teaches nothing. The
normalised target asks for the structure of a patch, and not for its brightness, which is easily guessed from its
neighbours. A loss of 1 is that of the guess 0 for every pixel, because t has variance 1 (0 where a patch has a single
colour). As in `cross_entropy`, B is the size of the full batch.

Backward. t is constant. In the loss each p occurs in one square, and d (p - t)^2 / dp = 2 (p - t):

    dp[b, m, i] = dloss 2 (p[b, m, i] - t[b, m, i]) / (B H_b n)       if m is hidden, else 0

Shapes: prediction p, pixels x, dp (B, M, n); hidden (B, M), 1 for a hidden patch and 0 for a visible one, with at least
one hidden patch in each row. Read before: `patches`, `hiding`. Source: He et al., arXiv:2111.06377, section 3 and
Table 1d.
"""

import math

import numpy as np

from ..kernel import contiguous, empty, kernel

EPS = 1e-6


def targets(pixels: np.ndarray, normalise: bool = True) -> np.ndarray:
    """Return what the model should predict, (B, M, n), for the pixels (B, M, n) of patches, in plain NumPy."""
    if not normalise:
        return pixels
    centred = pixels - pixels.mean(axis=-1, keepdims=True)
    return centred / np.sqrt((centred**2).mean(axis=-1, keepdims=True) + EPS)


def reference_forward(prediction: np.ndarray, pixels: np.ndarray, hidden: np.ndarray, normalise: bool = True,
                      batch_size: int | None = None) -> tuple[np.floating, tuple]:
    """Return the mean loss of a batch.

    Parameters
    ----------
    prediction, pixels : arrays (B, M, n)
    hidden : array (B, M) of 0 and 1
    normalise : bool
        Whether the target is normalised within each patch.
    batch_size : int, optional
        The size of the full batch, if these B images are a part of it.

    Returns
    -------
    loss : scalar
    cache : tuple, what `reference_backward` needs
    """
    batch_size = len(prediction) if batch_size is None else batch_size
    error = np.where(hidden[..., None] > 0, prediction - targets(pixels, normalise), 0)
    counts = (hidden > 0).sum(axis=1)[:, None, None] * pixels.shape[-1]            # H_b n
    loss = (error**2 / counts).sum() / batch_size
    return prediction.dtype.type(loss), (error, counts, batch_size)


def reference_backward(dloss: float, cache: tuple) -> np.ndarray:
    """Return dprediction (B, M, n) for the scalar dloss."""
    error, counts, batch_size = cache
    return (dloss * 2 / batch_size * error / counts).astype(error.dtype)      # d (p - t)^2 / dp = 2 (p - t)


# ---- the same mathematics, one pass over memory ----------------------------------------------------------------------


def forward(prediction: np.ndarray, pixels: np.ndarray, hidden: np.ndarray, normalise: bool = True,
            batch_size: int | None = None) -> tuple[np.ndarray, tuple]:
    """Fast version of `reference_forward`. Raises ValueError if the shapes do not fit together."""
    if prediction.ndim != 3 or prediction.shape != pixels.shape or hidden.shape != pixels.shape[:2]:
        raise ValueError(f"reconstruction: prediction {prediction.shape} and pixels {pixels.shape} must both be "
                         f"(B, M, n), and hidden (B, M), not {hidden.shape}")
    batch_size = len(prediction) if batch_size is None else batch_size
    # the error of each pixel divided by H_b n, of which the backward is a multiple
    error, loss = empty(prediction.shape, prediction.dtype), empty((), prediction.dtype)
    _forward(contiguous(prediction), contiguous(pixels), contiguous(hidden), normalise, 1 / batch_size, EPS, error,
             loss)
    return loss, (error, batch_size)


def backward(dloss: float, cache: tuple) -> np.ndarray:
    """Fast version of `reference_backward`."""
    error, batch_size = cache
    return error * error.dtype.type(dloss * 2 / batch_size)


@kernel
def _forward(prediction, pixels, hidden, normalise, per_image, eps, error, loss):
    zero, one = pixels.dtype.type(0), pixels.dtype.type(1)
    total, n = zero, pixels.shape[2]
    per_pixel = one / pixels.dtype.type(n)
    for b in range(pixels.shape[0]):
        count = 0
        for m in range(pixels.shape[1]):
            if hidden[b, m] > zero:
                count += 1
        share = per_pixel / pixels.dtype.type(max(count, 1))          # 1 / (H_b n)
        for m in range(pixels.shape[1]):
            if hidden[b, m] == zero:
                for i in range(n):
                    error[b, m, i] = zero
                continue
            mean, scale = zero, one
            if normalise:
                for i in range(n):
                    mean += pixels[b, m, i]
                mean *= per_pixel
                square = zero
                for i in range(n):
                    square += (pixels[b, m, i] - mean) * (pixels[b, m, i] - mean)
                scale = one / pixels.dtype.type(math.sqrt(square * per_pixel + pixels.dtype.type(eps)))
            squares = zero
            for i in range(n):
                difference = prediction[b, m, i] - (pixels[b, m, i] - mean) * scale
                squares += difference * difference
                error[b, m, i] = difference * share
            total += squares * share
    loss[()] = total * pixels.dtype.type(per_image)
