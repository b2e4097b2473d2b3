"""What a data set is, and how one is split into a training and a test part."""

from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256

import numpy as np

from ..arguments import check_number


@dataclass(frozen=True)
class Dataset:
    """Pictures and labels, to train and to test.

    images (B, H, W, C) uint8, labels (B,) integers 0..K-1, class_names K strings. source: the arguments with which `load_data` gives it
    again, or None for arrays in memory. Raises TypeError or ValueError, naming the array, if they do not fit together.
    """

    name: str
    train_images: np.ndarray
    train_labels: np.ndarray
    test_images: np.ndarray
    test_labels: np.ndarray
    class_names: tuple[str, ...]
    source: dict | None = None

    def __post_init__(self):
        for part in ("train", "test"):
            images, labels = getattr(self, f"{part}_images"), getattr(self, f"{part}_labels")
            check_images(f"{self.name}: {part} images", images)
            check_labels(f"{self.name}: {part} labels", labels, images, len(self.class_names))
        if self.train_images.shape[1:] != self.test_images.shape[1:]:
            raise ValueError(f"{self.name}: training images are {self.train_images.shape[1:]}, test images {self.test_images.shape[1:]}")

    @cached_property
    def digest(self):
        """What identifies the pictures and labels of both parts together, in whatever order and however they are split."""
        images, labels = [self.train_images, self.test_images], [self.train_labels, self.test_labels]
        pairs = [sha256(image.tobytes() + int(label).to_bytes(8, "little")).digest()
                 for x, y in zip(images, labels, strict=True) for image, label in zip(x, y, strict=True)]
        return sha256(b"".join(sorted(pairs))).hexdigest()

    @property
    def classes(self):
        """K, the number of classes."""
        return len(self.class_names)

    def pixel_statistics(self):
        """Mean and standard deviation of the training pixels, one each a channel, of pixels between 0 and 1."""
        pixels = self.train_images.reshape(-1, self.train_images.shape[-1]) / 255
        return pixels.mean(axis=0).tolist(), np.maximum(pixels.std(axis=0), 1 / 255).tolist()


def check_images(what, images):
    """Raise TypeError or ValueError unless `images` is a (B, H, W, C) array of uint8."""
    if images.dtype != np.uint8:
        nan = " and hold NaN" if np.issubdtype(images.dtype, np.floating) and np.isnan(images).any() else ""
        raise TypeError(f"{what} are {images.dtype}{nan}, but must be uint8 pixels 0..255; convert them, e.g. (255 * x).astype('uint8')")
    if images.ndim != 4 or 0 in images.shape[1:]:
        raise ValueError(f"{what} must be (B, H, W, C), none of H, W, C 0, not {images.shape}")


def check_labels(what, labels, images, classes):
    """Raise TypeError or ValueError unless `labels` is one integer 0..classes-1 for each of `images`."""
    if not np.issubdtype(labels.dtype, np.integer):
        raise TypeError(f"{what} are {labels.dtype}, but must be integers")
    if labels.shape != (len(images),):
        raise ValueError(f"{what} must be one for each of the {len(images)} images, not of shape {labels.shape}")
    if labels.size and (labels.min() < 0 or labels.max() >= classes):
        raise ValueError(f"{what} must be in 0..{classes - 1} for {classes} classes, but they span {labels.min()}..{labels.max()}")


def split(labels, fraction, seed):
    """Indices (rest, part) of a random split of `labels` (B,) in which `part` holds `fraction` of every class.

    Both are sorted; the split depends on the labels and the seed alone; a fraction of 1 takes all. Raises ValueError unless
    0 < fraction <= 1 and every class has at least two images.
    """
    check_number("test fraction", fraction, above=0, most=1)
    check_number("seed", seed, least=0, whole=True)
    if fraction == 1:
        return np.arange(0), np.arange(len(labels))
    chosen = []
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        if len(members) < 2:
            raise ValueError(f"class {label} has one image only: it cannot be both in the training and the test part")
        count = min(len(members) - 1, max(1, round(fraction * len(members))))
        chosen.append(np.random.default_rng([seed, int(label)]).permutation(members)[:count])
    part = np.sort(np.concatenate(chosen))
    return np.setdiff1d(np.arange(len(labels)), part), part
