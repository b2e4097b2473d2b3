"""How a drawing becomes an image like those that a model was trained on: in size, place, thickness and brightness.

People draw small or large, thin or thick, and anywhere. Data sets of handwriting are more alike: in MNIST a digit
fills 20 of 28 pixels, in the 8x8 digits all rows. So these quantities are measured on the training images, and the page
scales the strokes to them. The *ink* of a pixel is its brightness above the background, 0 to 1.

    box          height and width that 9 of 10 images stay within, from the first to the last row and column with ink
    centre       the mean of the centres of these boxes
    thickness    2 area / perimeter: a line of length l and thickness t has the area l t and the perimeter 2 l

The box and its centre are shares of the image's height and width, the thickness is a share of the shorter of them. The
area is the sum of the ink, and the perimeter the sum of its slopes.
"""

from typing import Any

import numpy as np

# for grey images of data that are not at hand: as in MNIST, 20 of 28 pixels in the middle, drawn with a thin pen
UNKNOWN: dict[str, Any] = {"box": [0.714, 0.714], "centre": [0.5, 0.5], "thickness": 0.1, "ink": 255, "paper": 0}
LEAST_INK = 0.25                                                      # of a pixel that counts for the box
LEAST_SIDE = 4                                                        # of images that can show writing, in pixels


def measure(images: np.ndarray) -> dict[str, Any]:
    """Measure grey training images.

    Parameters
    ----------
    images : np.ndarray
        Images (B, H, W, 1), uint8.

    Returns
    -------
    dict
        "box" (height, width), "centre" (row, column), "thickness", and the pixels "ink" and "paper", 0 or 255.
        `UNKNOWN` if no image has ink.
    """
    pixels = images[..., 0] / np.float32(255)
    border = np.concatenate([pixels[:, [0, -1]].ravel(), pixels[:, :, [0, -1]].ravel()])
    dark_on_bright = bool(np.median(border) > 0.5)
    ink = 1 - pixels if dark_on_bright else pixels
    (rows, y), (columns, x) = (_extent(ink.max(axis=axis) > LEAST_INK) for axis in (2, 1))
    padded = np.pad(ink, ((0, 0), (1, 1), (1, 1)))
    perimeter = np.hypot(np.diff(padded, axis=1)[:, :, 1:], np.diff(padded, axis=2)[:, 1:]).sum()
    if not len(rows) or not perimeter:
        return UNKNOWN
    sides = pixels.shape[1:]
    return {"box": [round(float(np.quantile(size, 0.9)) / side, 3)
                    for size, side in zip((rows, columns), sides, strict=True)],
            "centre": [round(float(centre.mean()) / side, 3) for centre, side in zip((y, x), sides, strict=True)],
            "thickness": round(2 * float(ink.sum() / perimeter) / min(sides), 3),
            "ink": 0 if dark_on_bright else 255, "paper": 255 if dark_on_bright else 0}


def _extent(inked):
    """Return the number of entries from the first to the last True of each row (B, n), and their centre."""
    inked = inked[inked.any(axis=1)]
    first, last = inked.argmax(axis=1), inked.shape[1] - inked[:, ::-1].argmax(axis=1)
    return last - first, (first + last) / 2
