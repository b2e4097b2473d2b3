"""Affine: the picture is turned, scaled and shifted a little. A four that leans is still a four.

For each image, from its own random numbers u in [-1, 1):

    angle a = u0 A,  scale s = exp(u1 S),  shift (t_y, t_x) = (u2, u3) T side

and the pixel at p (row, column, from the centre) of the new picture is read from the old one at the place

    p' = R(a) p / s + t                         R(a) = [cos a, -sin a; sin a, cos a]

by bilinear interpolation between the four pixels around p'; outside the picture there is black. Reading backwards from the
new picture leaves no holes.
"""

import math
from dataclasses import dataclass

import numpy as np

from ...common.checks import check_number
from ...kernel import kernel
from .step import Step


@dataclass(frozen=True)
class Affine(Step):
    """Turns by up to `angle` degrees, scales by up to exp(+-`scale`), shifts by up to `shift` of the side, each times `strength`."""

    strength: float = 1.0
    angle: float = 10.0
    scale: float = 0.1
    shift: float = 0.0625

    def __post_init__(self):
        for name, most in (("strength", 4), ("angle", 180), ("scale", 1), ("shift", 1)):
            check_number(f"{name} of affine", getattr(self, name), least=0, most=most)

    def vary(self, images, rng, stream):
        """As `Step.vary`."""
        out = np.empty_like(images)
        _warp(images, self.coefficients(rng.uniform(stream, 4), images.shape[1]), out)
        return out

    def coefficients(self, uniform, side):
        """uniform (B, 4) in [0, 1) -> (B, 4) float64: cos a / s, sin a / s, t_y, t_x."""
        u = self.strength * (2 * uniform.astype(np.float64) - 1)
        angle, per_scale = math.radians(self.angle) * u[:, 0], np.exp(-self.scale * u[:, 1])
        return np.stack([np.cos(angle) * per_scale, np.sin(angle) * per_scale, *(self.shift * side * u[:, 2:]).T], axis=1)


def reference_warp(images, coefficients):
    """images (B, H, W, C) uint8, coefficients (B, 4) -> images of the same shape: the equations above in plain NumPy."""
    B, H, W, _ = images.shape
    padded = np.pad(images.astype(np.float64), ((0, 0), (1, 1), (1, 1), (0, 0)))
    row, column = np.mgrid[:H, :W] - np.array([(H - 1) / 2, (W - 1) / 2])[:, None, None]
    cos, sin, shift_y, shift_x = coefficients.T[:, :, None, None]
    y = cos * row - sin * column + shift_y + (H - 1) / 2
    x = sin * row + cos * column + shift_x + (W - 1) / 2
    # In the padded picture pixel p lies at p + 1; what lies farther out than the padding is black too.
    y, x = np.clip(y + 1, 0, H + 1), np.clip(x + 1, 0, W + 1)
    top, left = np.minimum(y.astype(int), H), np.minimum(x.astype(int), W)
    down, right = (y - top)[..., None], (x - left)[..., None]
    b = np.arange(B)[:, None, None]
    above = (1 - right) * padded[b, top, left] + right * padded[b, top, left + 1]
    below = (1 - right) * padded[b, top + 1, left] + right * padded[b, top + 1, left + 1]
    return ((1 - down) * above + down * below + 0.5).astype(np.uint8)


# ---- the same mathematics, one pass over memory -----------------------------------------------------------


@kernel
def _warp(images, coefficients, out):
    B, H, W, C = images.shape
    for b in range(B):
        cos, sin, shift_y, shift_x = coefficients[b]
        for i in range(H):
            for j in range(W):
                row, column = i - (H - 1) / 2, j - (W - 1) / 2
                y = min(max(cos * row - sin * column + shift_y + (H - 1) / 2, -1.0), float(H))
                x = min(max(sin * row + cos * column + shift_x + (W - 1) / 2, -1.0), float(W))
                top, left = min(math.floor(y), H - 1), min(math.floor(x), W - 1)
                for c in range(C):
                    value = 0.5
                    for k in range(2):
                        for l in range(2):
                            if 0 <= top + k < H and 0 <= left + l < W:
                                weight = abs(top + 1 - k - y) * abs(left + 1 - l - x)
                                value += weight * images[b, top + k, left + l, c]
                    out[b, i, j, c] = np.uint8(value)
