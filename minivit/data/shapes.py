"""Generated images without end: small grey pictures, and a question about each.

A published data set has one size, and nobody knows what its classes depend on. Here both can be chosen. A *task* is a
question of a known kind, and there are 2**32 images of each task for each seed:

    texture              which of eight directions do the stripes have?             local evidence, at any place
    count                how many plus signs are there among the crosses?           local evidence, added up
    same-different       are two of the three patterns equal?                        a relation of two places
    same-cells           the same, with the patterns in cells of 4 x 4 pixels       a relation of two places
    symmetry             is the right side the mirror image of the left side?       a relation of many places
    path                 are the two bright dots the ends of one line?              a relation along a line
    position             in which of 4 x 4 fields is the plus sign?                 absolute position

Image i is a function of (seed, i), by the counter-based random numbers of `ops/philox.py`. So images can be drawn in
any order and in any pieces, and the first n images of a seed are part of its first 2 n. A *painter* draws the images of
one task, all at once: it takes its random numbers from `Draws` and returns the `Drawing`. The label is always the first
draw, and it is uniform over the classes.

Similar tasks in papers: Fleuret et al., "Comparing machines and humans on a visual categorization test", PNAS 2011
(same-different); Linsley et al., arXiv:1805.08315 (path); Islam et al., arXiv:2001.08248 (position).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from ..common.checks import check_name, check_number

PIECE = 4096                                                          # images that are painted at the same time
DARK, GREY, BRIGHT = 60.0, 128.0, 196.0
LINE = 160.0                                                          # darker than the dots at its ends, which are 255
PLUS = np.array([[0, 1, 0], [1, 1, 1], [0, 1, 0]], bool)
CROSS = np.array([[1, 0, 1], [0, 1, 0], [1, 0, 1]], bool)
CELL, PATTERNS = 4, 3                                                 # side of a pattern in pixels; how many there are
LONGEST = 9                                                           # steps of a line from node to node
FIELDS = 4                                                            # rows and columns of fields in an image


class Draws:
    """The random numbers of some images of one stream. Each call draws new ones.

    Parameters
    ----------
    seed : int
    stream : int
        The number of the task and the part, see `philox.stream`.
    indices : integers (B,)
        Which images.
    """

    def __init__(self, seed: int, stream: int, indices: np.ndarray) -> None:
        self.seed, self.stream, self.indices, self.calls = seed, stream, indices, 0

    def numbers(self, count: int) -> np.ndarray:
        """Return numbers in [0, 1), float32 (B, count)."""
        from ..ops import philox  # here, because it loads Numba

        self.calls += 1
        return philox.uniform(self.seed, self.calls - 1, self.stream, self.indices, count)

    def between(self, low: float | np.ndarray, high: float | np.ndarray) -> np.ndarray:
        """Return a number in [low, high) for each image, (B,)."""
        return low + (high - low) * self.numbers(1)[:, 0]

    def whole(self, low: int | np.ndarray, high: int | np.ndarray) -> np.ndarray:
        """Return a whole number from low to high - 1 for each image, (B,)."""
        return np.asarray(low + np.floor((high - np.asarray(low)) * self.numbers(1)[:, 0].astype(np.float64)), np.int64)

    def bits(self, *shape: int) -> np.ndarray:
        """Return fair coins, (B, *shape) bool."""
        return self.numbers(int(np.prod(shape))).reshape(-1, *shape) < 0.5


class Drawing(NamedTuple):
    """Images of one task.

    Attributes
    ----------
    images : (B, S, S, 1) uint8
    labels : (B,) integers
    places : (B, 2) float
        Row and column, in pixels, of the middle of what the question is about; of several objects, of one of them.
    """

    images: np.ndarray
    labels: np.ndarray
    places: np.ndarray


@dataclass(frozen=True)
class Task:
    """A question, its answers, and who paints the images.

    paint: (draws, side, labels) -> (canvas (B, S, S) float32 in 0..255, places (B, 2)). noise: largest amount that is
    added to a pixel or taken from it.
    """

    question: str
    class_names: tuple[str, ...]
    paint: Callable
    noise: float = 40.0


# ---- brushes --------------------------------------------------------------------------------------------------------


def _column(values):
    """Values (B,) as (B, 1, 1), to combine with images (B, S, S)."""
    return np.asarray(values, np.float32)[:, None, None]


def _blank(images, side, level=GREY):
    """A canvas (B, S, S) of one level for all images, or of one for each."""
    canvas = np.empty((images, side, side), np.float32)
    canvas[...] = level if np.isscalar(level) else _column(level)
    return canvas


def _rectangle(canvas, top, left, height, width, level):
    """Fill a rectangle in each image, in place; what is outside the image is cut off."""
    row, column = np.ogrid[:canvas.shape[1], :canvas.shape[2]]
    inside = (np.abs(row - _column(top + (height - 1) / 2)) <= _column(height / 2)) & (
        np.abs(column - _column(left + (width - 1) / 2)) <= _column(width / 2))
    np.copyto(canvas, _column(level), where=inside)


def _stamp(canvas, top, left, pattern, level):
    """Write levels where a pattern (g, g) or (B, g, g) is true, with its corner at (top, left), in place."""
    b, i, j = np.ogrid[:len(canvas), :pattern.shape[-2], :pattern.shape[-1]]
    where = b, top[:, None, None] + i, left[:, None, None] + j
    canvas[where] = np.where(pattern, level, canvas[where])


# ---- painters -------------------------------------------------------------------------------------------------------


def _texture(draws, side, labels):
    """A disc of stripes on a cluttered ground, partly covered."""
    B = len(labels)
    canvas = _blank(B, side, draws.between(90, 166))
    for _ in range(4):                                                # clutter
        _rectangle(canvas, draws.whole(-1, side - 1), draws.whole(-1, side - 1), draws.whole(2, 6), draws.whole(2, 6),
                   draws.between(40, 216))
    y, x = draws.between(3, side - 4), draws.between(3, side - 4)
    row, column = np.ogrid[:side, :side]
    down, right = row - _column(y), column - _column(x)
    angle = labels * (np.pi / 8)
    wave = 2 * np.pi / draws.between(2.8, 4)
    phase = (_column(np.cos(angle) * wave) * right + _column(np.sin(angle) * wave) * down
             + _column(draws.between(0, 2 * np.pi)))
    stripes = _column(draws.between(90, 166)) + _column(draws.between(40, 80)) * np.cos(phase)
    np.copyto(canvas, stripes, where=down**2 + right**2 <= 3.5**2)
    for _ in range(2):                                                # what covers a part
        height, width = draws.whole(2, 5), draws.whole(2, 5)
        top, left = (np.rint(middle + draws.between(-4, 4)) for middle in (y - height / 2, x - width / 2))
        _rectangle(canvas, top, left, height, width, draws.between(40, 216))
    return canvas, np.stack([y, x], axis=1)


def _count(draws, side, labels):
    """One to four plus signs and one to four crosses, each in a cell of its own."""
    cells = side // CELL
    order = draws.numbers(cells * cells).argsort(axis=1)              # (B, cells): the first ones are used
    pluses, crosses = labels + 1, draws.whole(1, 5)
    canvas, places = _blank(len(labels), side), None
    for k in range(8):
        top, left = (CELL * part + draws.whole(0, CELL - 2) for part in divmod(order[:, k], cells))
        pattern = np.where(_column(k < pluses) > 0, PLUS, CROSS) & (_column(k < pluses + crosses) > 0)
        _stamp(canvas, top, left, pattern, BRIGHT)
        places = np.stack([top + 1.0, left + 1.0], axis=1) if k == 0 else places
    return canvas, places


def _equal_patterns(draws, side, labels, pitch):
    """Three random patterns, each somewhere in a block of `pitch` pixels of its own. All differ, or two are equal."""
    blocks, B = side // pitch, len(labels)
    patterns = draws.bits(PATTERNS, CELL, CELL)
    patterns[:, 1] = np.where(_column(labels) > 0, patterns[:, 0], patterns[:, 1])
    for k in range(1, PATTERNS):                                      # by chance like an earlier one: change a pixel
        like_earlier = (patterns[:, :k] == patterns[:, k:k + 1]).all(axis=(2, 3)).any(axis=1)
        patterns[:, k, 0, k] ^= like_earlier & ((k > 1) | (labels == 0))
    order = draws.numbers(blocks * blocks).argsort(axis=1)
    canvas, places, whole = _blank(B, side), None, np.ones((CELL, CELL), bool)
    for k in range(PATTERNS):
        top, left = (pitch * part + draws.whole(0, max(1, pitch - CELL)) for part in divmod(order[:, k], blocks))
        _stamp(canvas, top, left, whole, np.where(patterns[:, k], BRIGHT, DARK))
        places = np.stack([top, left], axis=1) + (CELL - 1) / 2 if k == 0 else places
    return canvas, places


def _same_different(draws, side, labels):
    """Patterns at any places, at least a pixel apart."""
    return _equal_patterns(draws, side, labels, pitch=2 * CELL)


def _same_cells(draws, side, labels):
    """Patterns in cells, as patches of 4 x 4 pixels see them."""
    return _equal_patterns(draws, side, labels, pitch=CELL)


def _symmetry(draws, side, labels):
    """Random squares of 2 x 2 pixels, with columns in the middle that are never symmetric."""
    half = side // 4                                                  # columns of squares on each side
    squares, free = draws.bits(2 * half, 2 * half), max(1, half // 4)
    outer = slice(None, half - free)
    mirrored = squares[:, :, ::-1][:, :, outer].copy()
    squares[:, :, outer] = np.where(_column(labels) > 0, mirrored, squares[:, :, outer])
    canvas = np.where(squares, np.float32(BRIGHT), np.float32(DARK)).repeat(2, axis=1).repeat(2, axis=2)
    return canvas, np.full((len(labels), 2), (side - 1) / 2)


def _path(draws, side, labels):
    """Two lines that do not touch and start side by side. The dots are the ends of one of them, or one end of each.

    So the dots are about as far apart in both cases.
    """
    B, nodes = len(labels), side // 2                                 # a node at every second pixel
    taken = np.ones((B, nodes + 2, nodes + 2), bool)                  # a border that no line enters
    taken[:, 1:-1, 1:-1] = False
    canvas = _blank(B, side, DARK)
    first = _walk(draws, canvas, taken, draws.whole(0, nodes), draws.whole(0, nodes))    # (start, end), each (2, B)
    lines = first, _walk(draws, canvas, taken, *first[0])
    swapped = draws.bits(1)[:, 0]                                     # the first line has more room: either one counts
    one, other = (np.where(swapped, lines[a], lines[b]) for a, b in ((0, 1), (1, 0)))
    dots = one[0], np.where(labels > 0, one[1], other[1])
    for row, column in dots:
        canvas[np.arange(B), 2 * row, 2 * column] = 255
    return canvas, 2.0 * one[0].T


def _walk(draws, canvas, taken, row, column):
    """Draw a line from the free node nearest to (row, column), which moves at random to free neighbours, in place.

    Returns its ends (2, 2, B): the first and the last, each (row, column).
    """
    B, nodes = len(canvas), taken.shape[1] - 2
    b, moves, length = np.arange(B), np.array([(0, 1), (1, 0), (0, -1), (-1, 0)]), draws.whole(3, LONGEST + 1)
    i, j = np.ogrid[:nodes, :nodes]
    distance = np.abs(i - row[:, None, None]) + np.abs(j - column[:, None, None]) + draws.numbers(nodes**2).reshape(
        B, nodes, nodes)                                              # of several nearest ones any
    distance[taken[:, 1:-1, 1:-1]] = np.inf
    row, column = divmod(distance.reshape(B, -1).argmin(axis=1), nodes)
    start = np.stack([row, column])
    for step in range(LONGEST + 1):                                   # not length.max(), which depends on the others
        taken[b, row + 1, column + 1] = True
        canvas[b, 2 * row, 2 * column] = LINE
        open_ = ~taken[b[:, None], row[:, None] + 1 + moves[:, 0], column[:, None] + 1 + moves[:, 1]]    # (B, 4)
        wanted = np.floor(draws.numbers(1) * open_.sum(axis=1, keepdims=True))
        move = moves[(open_ & (open_.cumsum(axis=1) == wanted + 1)).argmax(axis=1)].T    # (2, B)
        move = np.where(open_.any(axis=1) & (step < length), move, 0)
        canvas[b, 2 * row + move[0], 2 * column + move[1]] = LINE     # the pixel between two nodes
        row, column = row + move[0], column + move[1]
    return np.stack([start, np.stack([row, column])])


def _position(draws, side, labels):
    """A plus sign in the field of the label, and three crosses anywhere."""
    canvas = _blank(len(labels), side)
    for _ in range(3):
        _stamp(canvas, draws.whole(0, side - 2), draws.whole(0, side - 2), CROSS, BRIGHT)
    field = side // FIELDS
    row, column = (np.clip(field * part + draws.whole(0, field), 1, side - 2) for part in divmod(labels, FIELDS))
    _stamp(canvas, row - 1, column - 1, np.ones((3, 3), bool), GREY)  # no cross is hidden behind it
    _stamp(canvas, row - 1, column - 1, PLUS, BRIGHT)
    return canvas, np.stack([row, column], axis=1).astype(float)


_DIFFERENT = ("all different", "two equal")
TASKS = {
    "texture": Task("which of eight directions do the stripes have?",
                    tuple(f"{22.5 * k:g} degrees" for k in range(8)), _texture),
    "count": Task("how many plus signs are there among the crosses?", ("one", "two", "three", "four"), _count),
    "same-different": Task("are two of the three patterns equal?", _DIFFERENT, _same_different),
    "same-cells": Task("are two of the three patterns, in cells of 4 x 4 pixels, equal?", _DIFFERENT, _same_cells),
    "symmetry": Task("is the right side the mirror image of the left side?", ("not symmetric", "symmetric"), _symmetry,
                     noise=110),
    "path": Task("are the two bright dots the ends of one line?", ("two lines", "one line"), _path, noise=20),
    "position": Task("in which of 4 x 4 fields is the plus sign?",
                     tuple(f"row {k // FIELDS + 1}, column {k % FIELDS + 1}" for k in range(FIELDS**2)), _position),
}


def draw_shapes(task: str, indices: int | np.ndarray, seed: int = 0, image_size: int = 16,
                part: str = "train") -> Drawing:
    """Draw images of a task.

    Parameters
    ----------
    task : str
        A key of `TASKS`.
    indices : int or integers (B,)
        Which images, from 0 to 2**32 - 1; a number n stands for the first n.
    seed : int
        Seed of all random numbers.
    image_size : int
        S, a multiple of 4 from 16 to 64. Objects keep their size in pixels, but for `symmetry` and the lines of
        `path`, which fill the image.
    part : str
        Images of different parts, such as "train" and "test", are independent.

    Returns
    -------
    Drawing
        The images (B, S, S, 1), their labels and places.

    Raises
    ------
    ValueError
        For an unknown task, or a number out of range.

    Examples
    --------
    >>> images, labels, places = draw_shapes("count", 3)
    >>> images.shape, labels
    ((3, 16, 16, 1), array([2, 1, 0]))
    >>> bool((draw_shapes("count", np.array([2])).images[0] == images[2]).all())
    True
    """
    from ..ops import philox

    chosen = TASKS[check_name("task of generated images", task, TASKS)]
    check_number("seed", seed, least=0, below=2**64, whole=True)
    check_side(image_size)
    if isinstance(indices, int | np.integer):
        indices = np.arange(check_number("number of generated images", indices, least=0, most=2**32, whole=True))
    indices = np.asarray(indices)
    if indices.ndim != 1 or indices.dtype.kind not in "iu" or (
            indices.size and (indices.min() < 0 or indices.max() >= 2**32)):
        raise ValueError(f"indices of images must be whole numbers from 0 to {2**32 - 1}, in one row, not {indices!r}")
    images = np.empty((len(indices), image_size, image_size, 1), np.uint8)
    labels, places = np.empty(len(indices), np.int64), np.empty((len(indices), 2))
    stream = philox.stream(f"shapes/{task}/{part}")
    for a in range(0, len(indices), PIECE):
        draws, now = Draws(int(seed), stream, indices[a:a + PIECE]), slice(a, a + PIECE)
        labels[now] = draws.whole(0, len(chosen.class_names))
        canvas, places[now] = chosen.paint(draws, image_size, labels[now])
        noise = draws.numbers(image_size**2).reshape(canvas.shape)
        canvas += chosen.noise * (2 * noise - 1)
        images[now, ..., 0] = np.clip(np.rint(canvas), 0, 255)
    return Drawing(images, labels, places)


def check_side(image_size: int) -> int:
    """Return the side of generated images. Raises ValueError unless it is a multiple of 4 from 16 to 64."""
    side = check_number("image size of generated images", image_size, least=16, most=64, whole=True)
    if side % 4:
        raise ValueError(f"image size of generated images must be a multiple of 4, such as 16 or 32, not {side}")
    return side
