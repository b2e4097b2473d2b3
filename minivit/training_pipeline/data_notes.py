"""Notes on data that make a test accuracy misleading: unequal classes, equal images, near-duplicates."""

from collections.abc import Sequence

import numpy as np

from ..data import Dataset
from ..data.dataset import image_hashes
from ..data.load import is_named
from .leakage import TOLERANCE

IMBALANCE = 3.0             # a note is given if the largest class has this many times the images of the smallest
NAMED_CLASSES = 10          # most classes whose counts are listed one by one
THUMBNAIL = 16              # side of the images that are compared to find near-duplicates, in pixels
CORRELATION, BRIGHTNESS = 0.997, 12     # least correlation and largest difference of the means of near-duplicates
CONTRAST = 4.0              # least standard deviation of a thumbnail that is compared, of 255
LEAST_SIDE = 8              # smallest side of images that are compared, in pixels
MOST_PAIRS = 20_000_000     # of a test and a training image that are compared; that takes about a second


def count_text(data: Dataset) -> str:
    """Return the number of training images of each class: "cat 96, dog 24", or for many classes the range."""
    counts = np.bincount(data.train_labels, minlength=data.classes)
    if counts.min() == counts.max():
        return f"{counts[0]:,} each"
    if data.classes <= NAMED_CLASSES:
        return ", ".join(f"{name} {count:,}" for name, count in zip(data.class_names, counts, strict=True))
    return f"{counts.min():,} to {counts.max():,} each"


def data_notes(data: Dataset) -> list[str]:
    """Return a sentence on each thing in the data that a user should know before the training.

    Named data sets get no notes: their properties are known.
    """
    if not len(data.train_labels) or (data.source and is_named(data.source.get("source"))):
        return []
    return [note for note in (_imbalance(data), _single(data), *_equal_images(data), _near_duplicates(data)) if note]


def _imbalance(data):
    """A note on classes of very different sizes."""
    counts = np.bincount(data.train_labels, minlength=data.classes)
    most, least = int(counts.argmax()), int(np.where(counts, counts, counts.max()).argmin())
    if counts[most] < IMBALANCE * counts[least]:
        return None
    return (f"class {data.class_names[most]} has {counts[most] / counts[least]:.0f} times as many training images as "
            f"class {data.class_names[least]}: read the recall of each class, and try balanced class weights")


def _single(data):
    """A note on classes with a single training image."""
    counts = np.bincount(data.train_labels, minlength=data.classes)
    names = [name for name, count in zip(data.class_names, counts, strict=True) if count == 1]
    if not names:
        return None
    return f"only one training image of {_some(names)}: a class needs several to be learned"


def _equal_images(data):
    """Notes on classes whose images are all equal, and on images of a single colour."""
    images, labels = data.train_images, data.train_labels
    hashes, notes = image_hashes(images), []
    same = [name for k, name in enumerate(data.class_names)
            if (labels == k).sum() > 1 and len(np.unique(hashes[labels == k])) == 1]
    if same:
        notes.append(f"all training images of {_some(same)} are equal")
    flat = images.reshape(len(images), -1, images.shape[-1])
    blank = int((flat.min(axis=1) == flat.max(axis=1)).all(axis=1).sum())
    if blank > TOLERANCE * len(images):
        notes.append(f"{blank:,} of {len(images):,} training images have a single colour")
    brightest = images.max()
    if 0 < brightest < 32:
        notes.append(f"the images are almost black: their brightest pixel is {brightest} of 255")
    return notes


def _near_duplicates(data):
    """A note on test images that are nearly equal to training images; equal ones are counted by `leakage.py`."""
    total, most = len(data.test_labels), max(1, MOST_PAIRS // len(data.train_labels))
    if not total:
        return None
    compared = np.linspace(0, total - 1, min(total, most)).astype(np.intp)
    images = data.test_images[compared]
    near = near_duplicates(images, data.train_images)
    near[near] = ~np.isin(image_hashes(images[near]), image_hashes(data.train_images)) if near.any() else False
    count = int(near.sum())
    if count <= TOLERANCE * len(near):
        return None
    example = f", such as {data.test_files[compared[near.argmax()]]}" if data.test_files else ""
    which = f"{total:,} test images" if len(near) == total else f"{len(near):,} test images that were compared"
    return (f"{count:,} of the {which} {'is' if count == 1 else 'are'} nearly equal to a training image{example}: the "
            "test accuracy will be higher than on new images")


def near_duplicates(images: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Return which of `images` nearly equal one of `others`, such as the same photo in another size or compression.

    Parameters
    ----------
    images, others : (B, H, W, C) and (A, H, W, C) uint8
        Small grey copies of at most 16x16 pixels are compared: their correlation, and their mean brightness.

    Returns
    -------
    (B,) bool
        False for images whose copies have little contrast, such as those of a single colour, and for images of fewer
        than 8 rows or columns, such as signals: different ones are often as alike.
    """
    near = np.zeros(len(images), bool)
    if min(images.shape[1:3]) < LEAST_SIDE:
        return near
    (x, x_mean), (y, y_mean) = _thumbnails(images), _thumbnails(others)
    for a in range(0, len(x), 256):                                   # in pieces, to save memory
        for b in range(0, len(y), 4096):
            rows, columns = np.nonzero(x[a:a + 256] @ y[b:b + 4096].T > CORRELATION)
            near[a + rows[np.abs(x_mean[a + rows] - y_mean[b + columns]) < BRIGHTNESS]] = True
    return near


def _thumbnails(images):
    """Grey copies of at most 16x16 pixels as vectors of mean 0 and norm 1 (0 with little contrast), and their means."""
    down, across = (_averages(min(THUMBNAIL, side), side) for side in images.shape[1:3])
    x = np.empty((len(images), len(down) * len(across)), np.float32)
    for a in range(0, len(images), 1024):
        grey = images[a:a + 1024].mean(axis=3, dtype=np.float32)      # (b, H, W)
        x[a:a + 1024] = (down @ grey @ across.T).reshape(len(grey), -1)
    means = x.mean(axis=1)
    x -= means[:, None]
    norms = np.linalg.norm(x, axis=1, keepdims=True)
    return np.divide(x, norms, out=np.zeros_like(x), where=norms > CONTRAST * np.sqrt(x.shape[1])), means


def _averages(count, side):
    """The matrix (count, side) that averages `side` pixels into `count` parts of equal length."""
    edges, pixels = np.linspace(0, side, count + 1), np.arange(side)
    overlap = np.minimum(edges[1:, None], pixels + 1) - np.maximum(edges[:-1, None], pixels)
    return (overlap.clip(0) * (count / side)).astype(np.float32)


def _some(names: Sequence[str], most: int = 5) -> str:
    """Return the first names, and how many more there are."""
    classes = f"{'class' if len(names) == 1 else 'classes'} {', '.join(names[:most])}"
    return classes + (f" and {len(names) - most:,} more" if len(names) > most else "")
