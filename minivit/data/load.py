"""Data sets by name or path. A new source is one function (source, seed, test_fraction) -> Dataset, and a line in `_reader`."""

import dataclasses
import zipfile
import zlib
from pathlib import Path

import numpy as np

from ..arguments import check_name
from .dataset import Dataset, check_images, check_labels, split


def load_data(source, seed=0, test_fraction=0.2):
    """The data set of that name ("digits"), or of the .npz file at that path.

    What comes without a test part is split by `seed`, with `test_fraction` of every class for the test (1: all, none to train).
    Raises ValueError for an unknown name, FileNotFoundError for a missing file, ValueError or TypeError for one that does not fit.
    """
    data = _reader(source)(source, seed, test_fraction)
    lasting = source if source in NAMED else str(Path(source).resolve())
    return dataclasses.replace(data, source={"source": lasting, "seed": seed, "test_fraction": test_fraction})


def _reader(source):
    if source in NAMED:
        return NAMED[source]
    if str(source).endswith(".npz"):
        return load_npz
    if source and Path(source).exists():
        raise ValueError(f"{source}: a data set is an .npz file or one of {', '.join(NAMED)}")
    return check_name("data set (and no .npz file)", source, NAMED)


def load_digits(source, seed, test_fraction):
    """1,797 handwritten digits of 8x8 pixels, which come with this package.

    The test part of "Optical Recognition of Handwritten Digits" by E. Alpaydin and C. Kaynak, UCI Machine Learning
    Repository, 1998, doi:10.24432/C50P49, licence CC BY 4.0; its 17 grey levels 0..16 are stretched to 0..255.
    """
    return load_npz(Path(__file__).parent / "digits.npz", seed, test_fraction, name=source)


def load_npz(path, seed, test_fraction, name=None):
    """An .npz file with `images` (B, H, W) or (B, H, W, C) uint8 and `labels` (B,) integers; or with `train_images`, `train_labels`,
    `test_images`, `test_labels`; either may have `class_names`. Errors as `load_data`.
    """
    arrays, name = read_npz(path), name or Path(path).name
    parts = ("train_", "test_") if "train_images" in arrays else ("",)
    missing = [part + key for part in parts for key in ("images", "labels") if part + key not in arrays]
    if missing:
        raise ValueError(f"{name} lacks {', '.join(missing)}: an .npz data set holds images and labels, or train_images, "
                         f"train_labels, test_images, test_labels; this one holds {', '.join(arrays) or 'nothing'}")
    images = [_with_channels(arrays[part + "images"]) for part in parts]
    labels = [arrays[part + "labels"] for part in parts]
    for part, x in zip(parts, images, strict=True):
        check_images(f"{name}: {part}images", x)
        if not len(x):
            raise ValueError(f"{name}: {part}images has no image, but the shape {x.shape}")
    class_names = _class_names(name, arrays, labels)
    for part, x, y in zip(parts, images, labels, strict=True):
        check_labels(f"{name}: {part}labels", y, x, len(class_names))
    if len(parts) == 1:
        try:
            train, test = split(labels[0], test_fraction, seed)
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from None
        images, labels = [images[0][train], images[0][test]], [labels[0][train], labels[0][test]]
    labels = [y.astype(np.int64) for y in labels]
    return Dataset(name, images[0], labels[0], images[1], labels[1], class_names)


NAMED = {"digits": load_digits}


def read_npz(path):
    """All arrays of an .npz file, by name. Raises FileNotFoundError, or ValueError if it is damaged or holds pickled objects."""
    if not Path(path).is_file():
        raise FileNotFoundError(f"{path}: no such file")
    # NumPy takes what is no zip file for a pickle.
    if not zipfile.is_zipfile(path):
        raise ValueError(f"{path} is no readable .npz file (truncated, or of another format)")
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {key: archive[key] for key in archive.files}
    except (ValueError, OSError, EOFError, RuntimeError, KeyError, zipfile.BadZipFile, zlib.error) as error:
        if "allow_pickle" in str(error):
            raise ValueError(f"{path} holds pickled Python objects, which are never loaded: save plain arrays") from None
        raise ValueError(f"{path} is no readable .npz file: {error}") from None
    for key, array in arrays.items():
        if not isinstance(array, np.ndarray):
            raise ValueError(f"{path} is no readable .npz file: {key} is no array")
    return arrays


def _with_channels(images):
    return images[..., None] if images.ndim == 3 else images


def _class_names(name, arrays, labels):
    """The file's own class names, or the numbers 0..K-1 up to the largest label."""
    if "class_names" in arrays:
        if arrays["class_names"].ndim != 1:
            raise ValueError(f"{name}: class_names must be a list of names, not of shape {arrays['class_names'].shape}")
        return tuple(str(c) for c in arrays["class_names"])
    for y in labels:
        if not np.issubdtype(y.dtype, np.integer):
            raise TypeError(f"{name}: labels are {y.dtype}, but must be integers")
    largest, images = max(int(y.max(initial=0)) for y in labels), sum(y.size for y in labels)
    if largest > 1000 and largest > images:                           # numbers that are no labels would make a huge model
        raise ValueError(f"{name}: the labels go up to {largest}, with fewer images than that: number the classes 0..K-1")
    return tuple(str(k) for k in range(largest + 1))
