"""Many arrays as one text: each number becomes 16 or 8 bits, and all bits become base64.

    code  = round((x - low) / step), 0 to 65534        step = (high - low) / 65534
    x     = low + step code                            what the page computes; it is wrong by at most step / 2
    65535 = no number                                  NaN

With 8 bits, 255 takes the place of 65535. A page must be small, and four digits are enough to draw. Numbers that people
read as they are, such as the loss, go into the page as text instead. Whole numbers are exact.
"""

import base64
from typing import Any

import numpy as np


class Numbers:
    """A growing list of encoded numbers. `numbers.js` reads it.

    Attributes
    ----------
    count : int
        How many 16-bit numbers there are. Two 8-bit numbers count as one.
    """

    def __init__(self) -> None:
        self.parts: list[np.ndarray] = []
        self.count = 0

    def add(self, x: np.ndarray, bits: int = 16) -> dict[str, Any]:
        """Encode an array of floats -> where it lies: {at, shape, bits, low, step}. NaN and infinities are no number.
        """
        x, largest = np.asarray(x, np.float64), 2**bits - 2
        known = np.isfinite(x)
        low, high = (float(x[known].min()), float(x[known].max())) if known.any() else (0.0, 0.0)
        step = (high - low) / largest or 1.0
        codes = np.where(known, np.rint((np.where(known, x, low) - low) / step), largest + 1)
        return self._append(codes, bits, low, step)

    def add_whole(self, x: np.ndarray, bits: int = 16) -> dict[str, Any]:
        """Encode whole numbers exactly, from 0 to 65534, or 254 with 8 bits."""
        return self._append(np.asarray(x), bits, 0, 1)

    def _append(self, codes, bits, low, step):
        """Append codes and return where they lie."""
        kind = np.dtype("<u2" if bits == 16 else "u1")
        filled = np.zeros(-(-codes.size * kind.itemsize // 2) * 2 // kind.itemsize, kind)    # whole 16-bit numbers
        filled[:codes.size] = codes.ravel()
        at, part = self.count, filled.view("<u2")
        self.count += part.size
        self.parts.append(part)
        return {"at": at, "shape": list(codes.shape), "bits": bits, "low": float(f"{low:.9g}"),
                "step": float(f"{step:.9g}")}

    def text(self) -> str:
        """Return all numbers as base64."""
        return base64.b64encode(np.concatenate([*self.parts, np.empty(0, "<u2")]).tobytes()).decode("ascii")
