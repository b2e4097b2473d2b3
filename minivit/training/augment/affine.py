"""Affine: the image is rotated, scaled and shifted a little. A handwritten four that leans is still a four.

For each image, from its own random numbers u in [-1, 1):

    angle a = u0 A e,  scale s = exp(u1 S),  shift (t_y, t_x) = (u2 H, u3 W) T         e = min(H, W) / max(H, W)

The pixel at p = (row, column), measured from the centre of the new image, takes its value from the old image at

    p' = R(a) p / s + t                         R(a) = [cos a, -sin a; sin a, cos a]

p' rarely falls on a pixel, so the value is interpolated bilinearly from the four pixels around p'. Outside the old
image everything is black. The factor e is 1 for a square. It keeps the ends of a long image inside, and a signal, which
has one row, is not rotated. Computing for each new pixel where it comes from (an inverse warp) leaves no holes in the
new image.
"""

import math
from dataclasses import dataclass

import numpy as np

from ...common.checks import check_number
from ...kernel import kernel
from ...ops.philox import Generator
from .transform import Transform


@dataclass(frozen=True)
class Affine(Transform):
    """Rotate, scale and shift at random.

    Parameters
    ----------
    strength : float, 0 to 4
        Factor of the three limits below.
    angle : float, 0 to 180
        Largest rotation of a square, in degrees, in either direction.
    scale : float, 0 to 1
        The image is scaled by exp(-scale) to exp(scale).
    shift : float, 0 to 1
        Largest shift in each direction, as a fraction of the image's height or width.
    """

    strength: float = 1.0
    angle: float = 10.0
    scale: float = 0.1
    shift: float = 0.0625

    def __post_init__(self) -> None:
        for name, most in (("strength", 4), ("angle", 180), ("scale", 1), ("shift", 1)):
            check_number(f"{name} of affine", getattr(self, name), least=0, most=most)

    def apply(self, images: np.ndarray, rng: Generator, stream: int) -> np.ndarray:
        """See `Transform.apply`."""
        return warped(images, self.motions(rng.uniform(stream, 4), images.shape[1:3]))

    def motions(self, uniform: np.ndarray, size: tuple[int, int]) -> np.ndarray:
        """Turn random numbers (B, 4) in [0, 1) into (B, 6) float64: the two rows of R(a) / s, then t. size: (H, W)."""
        u = self.strength * (2 * uniform.astype(np.float64) - 1)
        largest = math.radians(self.angle) * (min(size) / max(size))
        angle, per_scale = largest * u[:, 0], np.exp(-self.scale * u[:, 1])
        shift_y, shift_x = (self.shift * np.array(size) * u[:, 2:]).T
        cos, sin = np.cos(angle) * per_scale, np.sin(angle) * per_scale
        return np.stack([cos, -sin, sin, cos, shift_y, shift_x], axis=1)


def reference_warp(images: np.ndarray, motions: np.ndarray) -> np.ndarray:
    """Take each pixel p of images (B, H, W, C) uint8 from p' = A p + t, in plain NumPy.

    motions (B, 6): the two rows of A, then t.
    """
    B, H, W, _ = images.shape
    padded = np.pad(images.astype(np.float64), ((0, 0), (1, 1), (1, 1), (0, 0)))
    row, column = np.mgrid[:H, :W] - np.array([(H - 1) / 2, (W - 1) / 2])[:, None, None]
    yy, yx, xy, xx, shift_y, shift_x = motions.T[:, :, None, None]    # A = [yy, yx; xy, xx]
    y = yy * row + yx * column + shift_y + (H - 1) / 2
    x = xy * row + xx * column + shift_x + (W - 1) / 2
    # Pixel p of the image is pixel p + 1 of the padded image. Points beyond the padding are black too.
    y, x = np.clip(y + 1, 0, H + 1), np.clip(x + 1, 0, W + 1)
    top, left = np.minimum(y.astype(int), H), np.minimum(x.astype(int), W)
    down, right = (y - top)[..., None], (x - left)[..., None]
    b = np.arange(B)[:, None, None]
    above = (1 - right) * padded[b, top, left] + right * padded[b, top, left + 1]
    below = (1 - right) * padded[b, top + 1, left] + right * padded[b, top + 1, left + 1]
    return ((1 - down) * above + down * below + 0.5).astype(np.uint8)


# ---- the same mathematics, one pass over memory -----------------------------------------------------------


def warped(images: np.ndarray, motions: np.ndarray) -> np.ndarray:
    """Fast version of `reference_warp`."""
    out = np.empty_like(images)
    _warp(images, motions, out)
    return out


@kernel
def _warp(images, motions, out):
    B, H, W, C = images.shape
    for b in range(B):
        yy, yx, xy, xx, shift_y, shift_x = motions[b]
        for i in range(H):
            for j in range(W):
                row, column = i - (H - 1) / 2, j - (W - 1) / 2
                y = min(max(yy * row + yx * column + shift_y + (H - 1) / 2, -1.0), float(H))
                x = min(max(xy * row + xx * column + shift_x + (W - 1) / 2, -1.0), float(W))
                top, left = min(math.floor(y), H - 1), min(math.floor(x), W - 1)
                for c in range(C):
                    value = 0.5
                    for k in range(2):
                        for l in range(2):
                            if 0 <= top + k < H and 0 <= left + l < W:
                                weight = abs(top + 1 - k - y) * abs(left + 1 - l - x)
                                value += weight * images[b, top + k, left + l, c]
                    out[b, i, j, c] = np.uint8(value)
