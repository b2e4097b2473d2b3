"""What a data set is, which arrays it takes, and how it is split into a training and a test part."""

from dataclasses import dataclass, replace
from functools import cached_property
from hashlib import sha256
from html import escape
from typing import Any

import numpy as np

from ..common.checks import check_name, check_number

FITS = ("crop", "pad", "stretch")  # how an image gets the shape of the others: see image_files.py


@dataclass(frozen=True, repr=False)
class Dataset:
    """Images and labels: a training part, a test part, and optionally a validation part, which is never trained on.

    Parameters
    ----------
    name : str
        Name for messages and file names.
    train_images, test_images : (B, H, W, C) uint8
        Pixels 0..255. They may be `Rows`.
    train_labels, test_labels : (B,) integers
        Classes 0..K-1.
    class_names : tuple of K str
        One name for each class.
    source : dict, optional
        The arguments with which `load_data` loads it again; None for arrays in memory.
    val_images, val_labels : optional
        The validation part.
    fit : {"stretch", "crop", "pad"}
        How to give another image the shape of these, so that it looks like them.
    test_files : tuple of str, optional
        The file of each test image.
    preparation : tuple of str
        What was done with image files so that they fit a model, and what was left out, one sentence each.

    Raises
    ------
    TypeError, ValueError
        If the arrays do not fit together; the message names the array.
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
    preparation: tuple[str, ...] = ()

    def __post_init__(self) -> None:
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

    def __len__(self) -> int:
        """Return the number of images in all parts."""
        return sum(len(labels) for _, labels in self.parts.values())

    def __bool__(self) -> bool:
        """Return True, also for data without images: whether something is a Dataset is asked more often."""
        return True

    def __repr__(self) -> str:
        counts = {"training": self.train_labels, "validation": self.val_labels, "test": self.test_labels}
        images = ", ".join(f"{len(labels):,} {part}" for part, labels in counts.items() if labels is not None)
        shape = "x".join(map(str, self.train_images.shape[1:]))
        return f"<Dataset {self.name}: {images} images of {shape}, {self.classes} classes>"

    def _repr_html_(self) -> str:
        """A line about the data and up to ten sample images, one of each class, for notebooks."""
        from ..common.html import image_element  # here, because it loads Pillow

        images, labels = self.parts["train" if len(self.train_labels) else "test"]
        first = [(name, np.flatnonzero(labels == k)[:1]) for k, name in enumerate(self.class_names[:10])]
        samples = "".join(image_element(images[i[0]], name, width=48) for name, i in first if len(i))
        return f"<p>{escape(repr(self))}</p><p>{samples}</p>"

    @property
    def parts(self) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """The parts as {"train": (images, labels), "test": ...}, with "val" if there is one."""
        parts = {"train": (self.train_images, self.train_labels), "test": (self.test_images, self.test_labels)}
        if self.val_images is not None and self.val_labels is not None:
            parts["val"] = (self.val_images, self.val_labels)
        return parts

    @cached_property
    def hashes(self) -> np.ndarray:
        """The `pair_hashes` of all images and labels, in the order of the parts: (n, 40) uint8."""
        return np.concatenate([pair_hashes(images, labels) for images, labels in self.parts.values()])

    @cached_property
    def digest(self) -> str:
        """SHA-256 of all images and labels together. It does not depend on their order or on the split."""
        return sha256(b"".join(sorted(map(bytes, self.hashes[:, 8:])))).hexdigest()

    @cached_property
    def ordered_digest(self) -> str:
        """SHA-256 of the arrays as they are: it depends on the order and on the split. Faster than `digest`."""
        result = sha256()
        for part, pair in sorted(self.parts.items()):
            for array in pair:
                result.update(f"{part} {array.shape} {array.dtype.str}".encode())
                result.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
        return result.hexdigest()

    @property
    def trained_hashes(self) -> np.ndarray:
        """The hashes of the training and validation images, as `image_hashes` gives them, sorted, each once."""
        ends = np.cumsum([len(labels) for _, labels in self.parts.values()])
        pieces = dict(zip(self.parts, np.split(self.hashes[:, :8], ends[:-1]), strict=True))
        trained = np.concatenate([piece for part, piece in pieces.items() if part != "test"])
        return np.unique(trained.view("<u8").astype(np.uint64))

    @property
    def classes(self) -> int:
        """K, the number of classes."""
        return len(self.class_names)

    @property
    def untested(self) -> list[str]:
        """The names of classes with training images but no test images."""
        return [self.class_names[k] for k in np.setdiff1d(self.train_labels, self.test_labels)]

    @cached_property
    def pixel_counts(self) -> np.ndarray:
        """How often each pixel value occurs in each channel of the training images, (C, 256)."""
        return pixel_counts(self.train_images)

    def pixel_statistics(self) -> tuple[list[float], list[float]]:
        """Return mean and standard deviation of the training pixels, scaled to 0..1, for each channel.

        Both come from the counts of the 256 pixel values, so they are exact. Raises ValueError without training images.
        """
        if not len(self.train_images):
            raise ValueError(f"{self.name} has no training images")
        value, means, deviations = np.arange(256) / 255, [], []
        for counts in self.pixel_counts.astype(float):
            mean = counts @ value / counts.sum()
            means.append(float(mean))
            deviations.append(max(float(np.sqrt(counts @ (value - mean) ** 2 / counts.sum())), 1 / 255))
        return means, deviations


def make_dataset(name: str, parts: dict, class_names: tuple[str, ...], seed: int, test_fraction: float,
                 fit: str = "stretch", options: dict | None = None, files: dict | None = None) -> Dataset:
    """Make a Dataset of the given parts.

    Without a test part, the validation part becomes the test part. Without either, the training part is split by
    `seed`, with `test_fraction` of every class for the test.

    Parameters
    ----------
    parts : dict
        {"train", "val", "test": (images, labels)}; any may be missing.
    options : dict, optional
        Further arguments with which `load_data` loads the data again.
    files : dict, optional
        {part: the file of each image}.
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


def pair_hashes(images: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return 40 bytes for each image, (B, 40) uint8: 8 of a hash of the image, and the SHA-256 of image and label."""
    found = np.empty((len(images), 40), np.uint8)
    for row, image, label in zip(found, images, labels, strict=True):
        digest = sha256(image.tobytes())
        alone = digest.digest()[:8]
        digest.update(int(label).to_bytes(8, "little"))
        row[:] = np.frombuffer(alone + digest.digest(), np.uint8)
    return found


def pixel_counts(images: np.ndarray) -> np.ndarray:
    """Return how often each pixel value occurs in each channel of images (B, H, W, C) uint8: (C, 256) integers."""
    counts = np.zeros((images.shape[-1], 256), np.int64)
    for a in range(0, len(images), 1024):             # in pieces, because bincount makes a copy eight times as large
        piece = images[a:a + 1024]
        for channel, row in enumerate(counts):
            row += np.bincount(piece[..., channel].ravel(), minlength=256)
    return counts


def image_hashes(images: np.ndarray) -> np.ndarray:
    """Return a hash for each image, (B,) uint64. Equal images have equal hashes."""
    return np.array([int.from_bytes(sha256(image.tobytes()).digest()[:8], "little") for image in images], np.uint64)


def check_images(what: str, images: np.ndarray) -> None:
    """Raise TypeError or ValueError unless `images` is a (B, H, W, C) array of uint8."""
    if images.dtype != np.uint8:
        raise TypeError(f"{what} are {images.dtype}{_pixel_advice(images)}")
    if images.ndim != 4 or 0 in images.shape[1:]:
        raise ValueError(f"{what} must be (B, H, W, C), none of H, W, C 0, not {images.shape}")


def _pixel_advice(images):
    """How to make uint8 pixels of an array of another type, from the numbers in it."""
    expected = ", but must be uint8 pixels 0..255; convert them, e.g."
    if images.dtype.kind not in "iuf" or not images.size:
        return expected.removesuffix("; convert them, e.g.")
    if not np.isfinite(images).all():
        return f" and hold NaN or infinity{expected.removesuffix('; convert them, e.g.')}"
    low, high = images.min(), images.max()
    if low >= 0 and high <= 1 and images.dtype.kind == "f":
        return f"{expected} (255 * x).astype('uint8')"
    if low >= 0 and high <= 255:
        return f" from {low:g} to {high:g}{expected} x.{'round().' if images.dtype.kind == 'f' else ''}astype('uint8')"
    return f" from {low:g} to {high:g}{expected} (255 * (x - x.min()) / (x.max() - x.min())).astype('uint8')"


def check_labels(what: str, labels: np.ndarray, images: np.ndarray, classes: int) -> None:
    """Raise TypeError or ValueError unless `labels` has an integer 0..classes-1 for each image."""
    if not np.issubdtype(labels.dtype, np.integer):
        raise TypeError(f"{what} are {labels.dtype}, but must be integers")
    if labels.shape != (len(images),):
        raise ValueError(f"{what} must be one for each of the {len(images)} images, not of shape {labels.shape}")
    if labels.size and (labels.min() < 0 or labels.max() >= classes):
        raise ValueError(f"{what} must be in 0..{classes - 1} for {classes} classes, but they span "
                         f"{labels.min()}..{labels.max()}")


def split(labels: np.ndarray, fraction: float, seed: int, class_names: Any = None) -> tuple[np.ndarray, np.ndarray]:
    """Split labels at random into two parts, the second with a fraction of every class.

    Parameters
    ----------
    labels : (B,) integers
        The class of each image.
    fraction : float, above 0 and at most 1
        Size of the second part. With 1 it takes all.
    seed : int
        The split depends on the labels and this seed alone.
    class_names : sequence of str, optional
        For the error message.

    Returns
    -------
    (array, array)
        Sorted indices of the first and of the second part.

    Raises
    ------
    ValueError
        If the fraction is out of range or classes have fewer than two images.
    """
    check_number("test fraction", fraction, above=0, most=1)
    check_number("seed", seed, least=0, whole=True)
    if fraction == 1:
        return np.arange(0), np.arange(len(labels))
    chosen = []
    present, counts = np.unique(labels, return_counts=True)
    if single := [str(class_names[label] if class_names else label) for label in present[counts == 1]]:
        words = (f"class {single[0]} has one image only: it" if len(single) == 1 else
                 f"classes {', '.join(single[:10])}{', ...' * (len(single) > 10)} have one image only: they")
        raise ValueError(f"{words} cannot be both in the training and the test part; add images or remove the class")
    for label in present:
        members = np.flatnonzero(labels == label)
        count = min(len(members) - 1, max(1, round(fraction * len(members))))
        chosen.append(np.random.default_rng([seed, int(label)]).permutation(members)[:count])
    part = np.sort(np.concatenate(chosen))
    return np.setdiff1d(np.arange(len(labels)), part), part


def stratified_order(labels: np.ndarray, seed: int) -> np.ndarray:
    """Return a random order of all images in which every beginning has about the class proportions of the whole.

    So the beginnings are nested subsets.

    Parameters
    ----------
    labels : (B,) integers
        The class of each image.
    seed : int
        The order depends on the labels and this seed alone.

    Returns
    -------
    (B,) array
        Indices of the images.
    """
    check_number("seed", seed, least=0, whole=True)
    place = np.empty(len(labels))
    for label in np.unique(labels):  # the i-th image of n of a class stands at the share (i + 1/2) / n
        members = np.flatnonzero(labels == label)
        place[np.random.default_rng([seed, int(label)]).permutation(members)] = (np.arange(len(members)) + 0.5) / len(
            members)
    return np.argsort(place, kind="stable")


def subset(data: Dataset, count: int, seed: int) -> Dataset:
    """Return a Dataset with only `count` training images, the first of `stratified_order`.

    They are repeated up to the original number, so an epoch has the same length for every count: with the same number
    of epochs, models have seen equally many images in equally many steps.

    Parameters
    ----------
    data : Dataset
        The data.
    count : int
        Number of different training images.
    seed : int
        Seed of the order.

    Returns
    -------
    Dataset

    Raises
    ------
    ValueError
        For a count out of range.
    """
    whole = len(data.train_labels)
    check_number("number of training images", count, least=1, most=whole, whole=True)
    chosen = np.resize(stratified_order(data.train_labels, seed)[:count], whole)
    return replace(data, train_images=data.train_images[chosen], train_labels=data.train_labels[chosen], source=None)
