"""What a data set is, what its arrays must be, and how one is split into a training and a test part."""

from dataclasses import dataclass, replace
from functools import cached_property
from hashlib import sha256

import numpy as np

from ..common.checks import check_name, check_number

FITS = ("crop", "pad", "stretch")                     # how an oblong picture is made square: see pictures.py


@dataclass(frozen=True)
class Dataset:
    """Pictures and labels:

    to train, to test, and perhaps some more to choose by (val), which `train` scores and never learns from.

    images (B, H, W, C) uint8, labels (B,) integers 0..K-1, class_names K strings. source: the arguments with which
    `load_data` gives it again, or None for arrays in memory. fit: how a picture is to be made square to look like these
    ("crop", "pad" or "stretch"). test_files: the file of each test image, where each has one. Raises TypeError or
    ValueError, naming the array, if they do not fit together.
    """

    name: str
    train_images: np.ndarray
    train_labels: np.ndarray
    test_images: np.ndarray
    test_labels: np.ndarray
    class_names: tuple[str, ...]
    source: dict | None = None
    val_images: np.ndarray | None = None
    val_labels: np.ndarray | None = None
    fit: str = "stretch"
    test_files: tuple[str, ...] | None = None

    def __post_init__(self):
        check_name("fit", self.fit, FITS)
        if len(set(self.class_names)) < self.classes:
            raise ValueError(f"{self.name}: two classes have the same name: {', '.join(self.class_names)}")
        if self.test_files is not None and len(self.test_files) != len(self.test_images):
            raise ValueError(f"{self.name}: {len(self.test_files)} files of {len(self.test_images)} test images")
        for part, (images, labels) in self.parts.items():
            check_images(f"{self.name}: {part} images", images)
            check_labels(f"{self.name}: {part} labels", labels, images, len(self.class_names))
            if images.shape[1:] != self.train_images.shape[1:]:
                raise ValueError(f"{self.name}: training images are {self.train_images.shape[1:]}, {part} images "
                                 f"{images.shape[1:]}")

    @property
    def parts(self):
        """{"train": (images, labels), "test": ..., and "val" where there is one}."""
        parts = {"train": (self.train_images, self.train_labels), "test": (self.test_images, self.test_labels)}
        return parts if self.val_images is None else parts | {"val": (self.val_images, self.val_labels)}

    @cached_property
    def digest(self):
        """What identifies the pictures and labels of all parts together, in whatever order and however they are split."""
        pairs = [sha256(image.tobytes() + int(label).to_bytes(8, "little")).digest()
                 for images, labels in self.parts.values() for image, label in zip(images, labels, strict=True)]
        return sha256(b"".join(sorted(pairs))).hexdigest()

    @property
    def classes(self):
        """K, the number of classes."""
        return len(self.class_names)

    @property
    def untested(self):
        """The names of the classes that have images to train, and none to test."""
        return [self.class_names[k] for k in np.setdiff1d(self.train_labels, self.test_labels)]

    def pixel_statistics(self):
        """Mean and standard deviation of the training pixels, one each a channel, of pixels between 0 and 1.

        Both come from the counts of the 256 values, so they are exact however many pixels there are. Raises ValueError
        without images.
        """
        if not len(self.train_images):
            raise ValueError(f"{self.name} has no training images")
        value, means, deviations = np.arange(256) / 255, [], []
        for channel in range(self.train_images.shape[-1]):
            counts = np.zeros(256)
            # in pieces, because bincount makes a copy eight times as large
            for a in range(0, len(self.train_images), 1024):
                counts += np.bincount(self.train_images[a:a + 1024, ..., channel].ravel(), minlength=256)
            mean = counts @ value / counts.sum()
            means.append(float(mean))
            deviations.append(max(float(np.sqrt(counts @ (value - mean) ** 2 / counts.sum())), 1 / 255))
        return means, deviations


def make_dataset(name, parts, class_names, seed, test_fraction, fit="stretch", options=None, files=None):
    """A Dataset of `parts`: {"train", "val", "test": (images, labels)}, of which any may be missing.

    options: with what else than source, seed and test_fraction `load_data` gives it again. files: {part: the file of
    each of its images}.

    Without a test part, the val part is the test; without either, the training part is split by `seed`, with
    `test_fraction` of every class for the test. Errors as `Dataset` and `split`.
    """
    parts = {part: (images, labels.astype(np.int64)) for part, (images, labels) in parts.items()}
    files = dict(files or {})
    if "test" not in parts and "val" in parts:
        parts["test"], files["test"] = parts.pop("val"), files.pop("val", None)
    if "test" not in parts:
        images, labels = parts["train"]
        try:
            train, test = split(labels, test_fraction, seed, class_names)
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from None
        parts |= {"train": (images[train], labels[train]), "test": (images[test], labels[test])}
        files["test"] = [files["train"][i] for i in test] if "train" in files else None
    if "train" not in parts:
        parts["train"] = tuple(array[:0] for array in parts["test"])
    images, labels = ({part: pair[k] for part, pair in parts.items()} for k in (0, 1))
    return Dataset(name, images["train"], labels["train"], images["test"], labels["test"], class_names, options,
                   val_images=images.get("val"), val_labels=labels.get("val"), fit=fit,
                   test_files=tuple(files["test"]) if files.get("test") else None)


def image_hashes(images):
    """A number for each picture, (B,) uint64, by which it is known again: equal pictures have equal numbers."""
    return np.array([int.from_bytes(sha256(image.tobytes()).digest()[:8], "little") for image in images], np.uint64)


def check_images(what, images):
    """Raise TypeError or ValueError unless `images` is a (B, H, W, C) array of uint8."""
    if images.dtype != np.uint8:
        nan = " and hold NaN" if np.issubdtype(images.dtype, np.floating) and np.isnan(images).any() else ""
        raise TypeError(f"{what} are {images.dtype}{nan}, but must be uint8 pixels 0..255; convert them, e.g. (255 * "
                        "x).astype('uint8')")
    if images.ndim != 4 or 0 in images.shape[1:]:
        raise ValueError(f"{what} must be (B, H, W, C), none of H, W, C 0, not {images.shape}")


def check_labels(what, labels, images, classes):
    """Raise TypeError or ValueError unless `labels` is one integer 0..classes-1 for each of `images`."""
    if not np.issubdtype(labels.dtype, np.integer):
        raise TypeError(f"{what} are {labels.dtype}, but must be integers")
    if labels.shape != (len(images),):
        raise ValueError(f"{what} must be one for each of the {len(images)} images, not of shape {labels.shape}")
    if labels.size and (labels.min() < 0 or labels.max() >= classes):
        raise ValueError(f"{what} must be in 0..{classes - 1} for {classes} classes, but they span "
                         f"{labels.min()}..{labels.max()}")


def split(labels, fraction, seed, class_names=None):
    """Indices (rest, part) of a random split of `labels` (B,) in which `part` holds `fraction` of every class.

    Both are sorted; the split depends on the labels and the seed alone; a fraction of 1 takes all. class_names: for the
    message. Raises ValueError unless 0 < fraction <= 1 and every class has at least two images.
    """
    check_number("test fraction", fraction, above=0, most=1)
    check_number("seed", seed, least=0, whole=True)
    if fraction == 1:
        return np.arange(0), np.arange(len(labels))
    chosen = []
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        if len(members) < 2:
            name = class_names[label] if class_names else label
            raise ValueError(f"class {name} has one image only: it cannot be both in the training and the test part")
        count = min(len(members) - 1, max(1, round(fraction * len(members))))
        chosen.append(np.random.default_rng([seed, int(label)]).permutation(members)[:count])
    part = np.sort(np.concatenate(chosen))
    return np.setdiff1d(np.arange(len(labels)), part), part


def stratified_order(labels, seed):
    """A random order of all images, as indices (B,), of which every beginning holds the classes in about their shares
    of the whole.

    So its beginnings are subsets that lie in each other. It depends on `labels` (B,) and the seed alone.
    """
    check_number("seed", seed, least=0, whole=True)
    place = np.empty(len(labels))
    for label in np.unique(labels):  # the i-th image of n of a class stands at the share (i + 1/2) / n
        members = np.flatnonzero(labels == label)
        place[np.random.default_rng([seed, int(label)]).permutation(members)] = (np.arange(len(members)) + 0.5) / len(
            members)
    return np.argsort(place, kind="stable")


def subset(data, count, seed):
    """A Dataset with only `count` of the training images, the first of `stratified_order`, and all others as they are.

    They are repeated until there are as many as in the whole, so that an epoch is equally long for all counts: with
    equal epochs, models have seen equally many images, in equally many steps, and were scored equally often. Raises
    ValueError for a count out of range.
    """
    whole = len(data.train_labels)
    check_number("number of training images", count, least=1, most=whole, whole=True)
    chosen = np.resize(stratified_order(data.train_labels, seed)[:count], whole)
    return replace(data, train_images=data.train_images[chosen], train_labels=data.train_labels[chosen], source=None)
