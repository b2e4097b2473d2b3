"""Generated images as a data set: "shapes:TASK" or "shapes:TASK:IMAGES", with the tasks of `shapes.py`.

    shapes:texture              20,000 training images
    shapes:texture:1000000      a million; the 20,000 above are the first of them

The seed of `load_data` is that of the images. The images are drawn when the data are loaded and then lie in memory: a
million of 16 x 16 pixels take 256 MB. Use `shapes.draw_shapes` for images piece by piece, without end.
"""

from typing import Any

from ..common.checks import UnknownName, suggestion
from ..common.files import check_memory
from ..common.sizes import Size, check_pair
from .dataset import Dataset
from .shapes import TASKS, check_side, draw_shapes

PREFIX = "shapes:"
TRAINING_IMAGES, TEST_IMAGES = 20_000, 10_000
GENERATED = tuple(f"{PREFIX}{task}" for task in TASKS)


def is_generated(source: Any) -> bool:
    """Return whether a source of data names generated images."""
    return isinstance(source, str) and source.startswith(PREFIX)


def load_generated(source: str, seed: int, image_size: Size | None = None) -> Dataset:
    """Draw the images of a name.

    Parameters
    ----------
    source : str
        "shapes:TASK" or "shapes:TASK:IMAGES".
    seed : int
        Seed of the images.
    image_size : int, optional
        Side in pixels, a multiple of 4 from 16 to 64. Default: 16.

    Returns
    -------
    Dataset
        The training images, and 10,000 test images that are independent of them.

    Raises
    ------
    ValueError
        For an unknown task, a number of images that is not an integer, or images that do not fit into memory.
    """
    task, count = read_name(source)
    rows, columns = check_pair("image_size", 16 if image_size is None else image_size)
    if rows != columns:
        raise ValueError(f"generated images are squares: image_size={rows}x{columns} must be one number, such as 32")
    side = check_side(rows)
    check_memory(f"{source} of {side}x{side} pixels", count * side**2)
    train = draw_shapes(task, count, seed, side)
    test = draw_shapes(task, TEST_IMAGES, seed, side, "test")
    return Dataset(f"{PREFIX}{task}", train.images, train.labels, test.images, test.labels, TASKS[task].class_names,
                   {"image_size": side})


def read_name(source: str) -> tuple[str, int]:
    """Return the task and the number of training images in a name. Errors as `load_generated`."""
    task, *counts = source.removeprefix(PREFIX).split(":")
    if task not in TASKS:
        raise UnknownName("generated images", source, GENERATED, suggestion(f"{PREFIX}{task}", GENERATED))
    if not counts:
        return task, TRAINING_IMAGES
    if len(counts) > 1 or not counts[0].isdecimal() or not 2 <= int(counts[0]) <= 2**32:
        raise ValueError(f"{source}: after the task comes the number of training images, 2 to {2**32:,}, without "
                         f"commas: write for example {PREFIX}{task}:{TRAINING_IMAGES}")
    return task, int(counts[0])
