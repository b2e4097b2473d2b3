"""RandAugment: some changes of an image, drawn at random from a list, all of the same strength.

To choose a good mixture of augmentations by hand takes many trainings. RandAugment leaves two numbers to choose: how
many changes each image gets, and how strong they are. For each image it draws, `count` times, one of

    identity
    rotate, shear-rows, shear-columns, shift-rows, shift-columns                            places change
    brightness, contrast, posterize, solarize, autocontrast, equalize                       values change

Two ideas compute all of them.

Places. The pixel at p = (row, column), measured from the centre, takes its value from the old image at p' = A p + t,
as in `affine.py`. With s the strength and a random sign +-, k = +-s,

    rotate       A = rotation by 30 k degrees                       shift-rows       t = (0.45 k H, 0)
    shear-rows   row' = row + 0.3 k column                          shift-columns    t = (0, 0.45 k W)
    shear-columns   column' = column + 0.3 k row

Values. A pixel has one of 256 values, so each change of values is a table with 256 entries. It is computed once for
each image, or channel, and every pixel is looked up. With m the mean of the image, and lo, hi the extremes of a
channel,

    brightness     v (1 + 0.9 k)                       posterize      v without its last round(4 s) bits
    contrast       m + (v - m) (1 + 0.9 k)             solarize       v, or 255 - v for v >= 256 (1 - s)
    autocontrast   255 (v - lo) / (hi - lo)            equalize       255 (F(v) - F(lo)) / (n - F(lo))

with F(v) the number of the n pixels of the channel that are at most v: after `equalize`, all values are about equally
frequent. The paper's list also has two changes that are neither, saturation and sharpness; they are left out here.

Read before: `affine.py`. Source: Cubuk et al., "RandAugment", arXiv:1909.13719; the ranges are those of
Cubuk et al., "AutoAugment", arXiv:1805.09501.
"""

from dataclasses import dataclass

import numpy as np

from ...common.checks import check_number
from ...kernel import kernel
from ...ops.philox import Generator
from .affine import warped
from .transform import Transform, check_fields

MOVES = ("rotate", "shear-rows", "shear-columns", "shift-rows", "shift-columns")
TONES = ("brightness", "contrast", "posterize", "solarize", "autocontrast", "equalize")
CHANGES = (*MOVES, *TONES, "identity")
BRIGHTNESS, CONTRAST, POSTERIZE, SOLARIZE, AUTOCONTRAST, EQUALIZE = range(len(MOVES), len(MOVES) + len(TONES))


@dataclass(frozen=True)
class RandAugment(Transform):
    """Change each image several times at random.

    Parameters
    ----------
    count : int, 1 to 8
        How many changes each image gets.
    strength : float, 0 to 1
        How strong they are. 0.3 is the magnitude 9 of 30 of the paper.
    """

    strong = True
    count: float = 2
    strength: float = 0.3

    def __post_init__(self) -> None:
        check_fields(self, strength=(0, 1))
        count = int(self.count) if float(self.count).is_integer() else self.count      # the text gives a float
        check_number("count of randaugment", count, least=1, most=8, whole=True)

    def apply(self, images: np.ndarray, rng: Generator, stream: int) -> np.ndarray:
        """See `Transform.apply`."""
        count = int(self.count)
        u = rng.uniform(stream, 2 * count).astype(np.float64)
        for choice, sign in zip(u[:, :count].T, u[:, count:].T, strict=True):
            kinds = (choice * len(CHANGES)).astype(np.int64)
            images = changed(images, kinds, np.where(sign < 0.5, -self.strength, self.strength))
        return images


def motions(kinds: np.ndarray, amounts: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Return A and t of the moves `kinds` (n,) with k = `amounts` (n,), as (n, 6): two rows of A, then t."""
    H, W = size
    one, zero = np.ones(len(kinds)), np.zeros(len(kinds))
    angle = np.radians(30) * min(size) / max(size) * amounts
    cos, sin, shear = np.cos(angle), np.sin(angle), 0.3 * amounts
    of_each = np.stack([np.stack(numbers, axis=1) for numbers in (
        (cos, -sin, sin, cos, zero, zero),
        (one, shear, zero, one, zero, zero),
        (one, zero, shear, one, zero, zero),
        (one, zero, zero, one, 0.45 * H * amounts, zero),
        (one, zero, zero, one, zero, 0.45 * W * amounts))])           # (5, n, 6)
    return of_each[kinds, np.arange(len(kinds))]


def reference_tables(images: np.ndarray, kinds: np.ndarray, amounts: np.ndarray) -> np.ndarray:
    """Return the tables (n, C, 256) uint8 of the changes of values `kinds` (n,) for images (n, H, W, C)."""
    v, tables = np.arange(256.0), np.empty((len(images), images.shape[-1], 256), np.uint8)
    for image, kind, k, table in zip(images, kinds, amounts, tables, strict=True):
        for c in range(image.shape[-1]):
            values = image[..., c].astype(int).ravel()
            at_most = np.bincount(values, minlength=256).cumsum()     # F
            lo, hi, m = values.min(), values.max(), image.mean()
            new = {BRIGHTNESS: v * (1 + 0.9 * k), CONTRAST: m + (v - m) * (1 + 0.9 * k),
                   POSTERIZE: v - v % 2 ** round(4 * abs(k)),
                   SOLARIZE: np.where(v >= 256 * (1 - abs(k)), 255 - v, v),
                   AUTOCONTRAST: 255 * (v - lo) / max(1, hi - lo),
                   EQUALIZE: 255 * (at_most - at_most[lo]) / max(1, len(values) - at_most[lo])}[kind]
            table[c] = np.clip(new + 0.5, 0, 255) if lo < hi or kind not in (AUTOCONTRAST, EQUALIZE) else v
    return tables


def reference_change(images: np.ndarray, kinds: np.ndarray, amounts: np.ndarray) -> np.ndarray:
    """Return images (B, H, W, C) uint8 after the changes `kinds` (B,) with k = `amounts` (B,), values in plain NumPy.
    """
    out = images.copy()
    moved, toned = (np.flatnonzero(found) for found in _kinds(kinds))
    out[moved] = warped(images[moved], motions(kinds[moved], amounts[moved], images.shape[1:3]))
    tables = reference_tables(images[toned], kinds[toned], amounts[toned])
    for b, table in zip(toned, tables, strict=True):
        for c in range(images.shape[-1]):
            out[b, ..., c] = table[c][images[b, ..., c]]
    return out


def _kinds(kinds):
    """Return which changes are moves, and which change values."""
    return kinds < len(MOVES), (kinds >= len(MOVES)) & (kinds < len(MOVES) + len(TONES))


# ---- the same, compiled -----------------------------------------------------------------------------------


def changed(images: np.ndarray, kinds: np.ndarray, amounts: np.ndarray) -> np.ndarray:
    """Fast version of `reference_change`."""
    out = images.copy()
    moved, toned = (np.flatnonzero(found) for found in _kinds(kinds))
    out[moved] = warped(images[moved], motions(kinds[moved], amounts[moved], images.shape[1:3]))
    _tone(images, toned, kinds, amounts, out)
    return out


@kernel
def _tone(images, selected, kinds, amounts, out):
    _, H, W, C = images.shape
    table, at_most = np.empty(256, np.uint8), np.empty(256, np.int64)
    for b in selected:
        kind, k, total = kinds[b], amounts[b], 0.0
        for i in range(H):
            for j in range(W):
                for c in range(C):
                    total += images[b, i, j, c]
        m, bits = total / (H * W * C), 2 ** round(4 * abs(k))
        for c in range(C):
            at_most[:] = 0
            for i in range(H):
                for j in range(W):
                    at_most[images[b, i, j, c]] += 1
            lo, hi = 255, 0
            for v in range(256):
                if at_most[v]:
                    lo, hi = min(lo, v), v
            for v in range(1, 256):
                at_most[v] += at_most[v - 1]
            for v in range(256):
                new = float(v)
                if kind == BRIGHTNESS:
                    new = v * (1 + 0.9 * k)
                elif kind == CONTRAST:
                    new = m + (v - m) * (1 + 0.9 * k)
                elif kind == POSTERIZE:
                    new = float(v - v % bits)
                elif kind == SOLARIZE:
                    new = float(255 - v if v >= 256 * (1 - abs(k)) else v)
                elif kind == AUTOCONTRAST and lo < hi:
                    new = 255 * (v - lo) / (hi - lo)
                elif kind == EQUALIZE and lo < hi:
                    new = 255 * (at_most[v] - at_most[lo]) / (H * W - at_most[lo])
                table[v] = np.uint8(min(max(new + 0.5, 0.0), 255.0))
            for i in range(H):
                for j in range(W):
                    out[b, i, j, c] = table[images[b, i, j, c]]
