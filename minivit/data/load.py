"""Data sets by name or path. A new source is one function (source, seed, test_fraction) -> Dataset, and a line in `_reader`."""

import dataclasses
import difflib
from pathlib import Path

from ..common.checks import check_name
from .cifar import find_cifar, load_cifar
from .downloads import PUBLISHED, load_published
from .idx import find_idx, load_idx
from .image_folder import load_folder
from .npz import load_npz

NAMES = ("digits", *PUBLISHED)


def load_data(source, seed=0, test_fraction=0.2, *, data_dir=None, image_size=None, channels=None, fit=None):
    """The data set of that name, or at that path -> Dataset.

    source: "digits", "mnist", "fashion-mnist", "cifar10", "cifar100"; or an .npz file, a folder with one sub-folder of pictures for each
        class, or a folder that holds IDX or CIFAR binary files.
    seed, test_fraction: what comes without a test part is split by `seed`, with `test_fraction` of every class for the test (1: all,
        none to train).
    data_dir: where the data sets with names are kept, apart from the digits: see `load_published`.
    image_size, channels, fit: how pictures are prepared: see `load_folder`.

    Raises ValueError for an unknown name, FileNotFoundError for a missing file, ValueError or TypeError for one that does not fit,
    ConnectionError for a download that fails.
    """
    preparation = {name: value for name, value in (("image_size", image_size), ("channels", channels), ("fit", fit)) if value is not None}
    if is_image_folder(source):
        data = load_folder(source, seed, test_fraction, **preparation)
    elif preparation and (source in NAMES or Path(source or ".").exists()):    # if not, what follows says so
        raise ValueError(f"{', '.join(preparation)} can be chosen for a folder of pictures only: {source} has images as they are")
    elif source in PUBLISHED:
        data = load_published(source, seed, test_fraction, data_dir)
    else:
        data = _reader(source)(source, seed, test_fraction)
    lasting = source if source in NAMES else str(Path(source).resolve())
    return dataclasses.replace(data, source={"source": lasting, "seed": seed, "test_fraction": test_fraction} | (data.source or {}))


def is_image_folder(source):
    """Whether a source of data is a folder of pictures, and not of binary files."""
    return bool(source) and source not in NAMES and Path(source).is_dir() and not find_idx(source) and not find_cifar(source)


def shadowing_folder(source):
    """In words, that a data set has the name of a folder here, and how to say the folder; None if there is no such folder."""
    hidden = source in NAMES and Path(source).is_dir()
    return f"{source} is the built-in data set; for the folder say ./{source}" if hidden else None


def _reader(source):
    if source == "digits":
        return load_digits
    if source and Path(source).is_dir():
        return load_idx if find_idx(source) else load_cifar
    if str(source).endswith(".npz"):
        return load_npz
    if source and Path(source).exists():
        raise ValueError(f"{source}: a data set is a folder, an .npz file or one of {', '.join(NAMES)}")
    beside = Path(source or ".").absolute().parent
    folders = [path.name for path in beside.iterdir() if path.is_dir()] if beside.is_dir() else []
    near = difflib.get_close_matches(Path(source or "").name, folders, n=1)
    return check_name("data set (and no folder or .npz file)", source, [*near, *NAMES])


def load_digits(source, seed, test_fraction):
    """1,797 handwritten digits of 8x8 pixels, which come with this package.

    The test part of "Optical Recognition of Handwritten Digits" by E. Alpaydin and C. Kaynak, UCI Machine Learning
    Repository, 1998, doi:10.24432/C50P49, licence CC BY 4.0; its 17 grey levels 0..16 are stretched to 0..255.
    """
    return load_npz(Path(__file__).parent / "digits.npz", seed, test_fraction, name=source)
