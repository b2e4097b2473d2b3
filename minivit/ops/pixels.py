"""Pixels: bytes 0..255 become numbers with mean 0 and standard deviation 1 in each channel, the input of a model.

    x = (pixel / 255 - mean) / std = pixel / (255 std) - mean / std

The mean and std of each channel are constants of the model, measured once on the training images. Networks train well
when their inputs have this size, because weights are initialised for it. Pixels are data, so there is no backward.

Read before: nothing. Source: LeCun et al., "Efficient BackProp", 1998, section 4.3.
"""

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from ..kernel import constant


def normalise(images: np.ndarray, mean: ArrayLike, std: ArrayLike, dtype: DTypeLike) -> np.ndarray:
    """Return normalised images, a fresh array.

    Parameters
    ----------
    images : uint8 array (..., C)
    mean, std : C numbers or one for all channels, of pixels scaled to 0..1
    dtype : of the result

    Returns
    -------
    x : array (..., C)

    Examples
    --------
    >>> normalise(np.array([[0, 255]], np.uint8), 0.5, 0.5, np.float32)
    array([[-1.,  1.]], dtype=float32)
    """
    means, stds = np.asarray(mean, np.float64), np.asarray(std, np.float64)
    x = images.astype(dtype)
    x *= constant(np.asarray(1 / (255 * stds), dtype))
    x -= constant(np.asarray(means / stds, dtype))
    return x
