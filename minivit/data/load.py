"""Load a data set by name or path.

A new kind of source needs a function (source, seed, test_fraction) -> Dataset and a branch in `_reader`.
"""

import dataclasses
from pathlib import Path
from typing import Any

from ..common.checks import UnknownName, nearest
from ..common.sizes import Size
from .cifar import find_cifar, load_cifar
from .dataset import Dataset
from .find_images import Finder
from .generated import GENERATED, is_generated, load_generated
from .idx import find_idx, load_idx
from .image_folder import load_folder
from .labels import NO_LABELS
from .npz import load_npz
from .published import PUBLISHED, load_published

NAMES = ("digits", *PUBLISHED)
UNLABELLED_TEST_FRACTION = 0.05     # of images without labels: to see whether the model predicts new ones, too


def load_data(source: Any, seed: int = 0, test_fraction: float = 0.2, *, data_dir: Any = None,
              image_size: Size | None = None, channels: int | None = None, fit: str | None = None,
              labels: Any = None) -> Dataset:
    """Load a data set by name or path.

    Parameters
    ----------
    source : str or path
        "digits", "mnist", "fashion-mnist", "cifar10" or "cifar100"; "shapes:TASK" or "shapes:TASK:IMAGES", see
        `generated.py`; an .npz file; a folder with one sub-folder of image files for each class; or a folder of IDX or
        CIFAR binary files.
    seed : int
        Seed of the split, if the data come without a test part, and of generated images.
    test_fraction : float, above 0 and at most 1
        Fraction of each class to use for the test then. With 1 there is no training part.
    data_dir : path, optional
        Folder of the named data sets, apart from the digits. See `load_published`.
    image_size, channels, fit : optional
        How to prepare image files. See `load_folder`. Generated images take `image_size`, too.
    labels : path or str, optional
        The classes of image files that are not in sub-folders: a CSV file with the columns `file` and `label`, or a
        pattern of their names such as "{class}_*"; "none" for images without labels. See `labels.py`.

    Returns
    -------
    Dataset

    Raises
    ------
    ValueError
        For an unknown name or data that do not fit.
    TypeError
        For arrays of the wrong type.
    FileNotFoundError
        For a missing file.
    ConnectionError
        If a download fails.

    Examples
    --------
    >>> import minivit
    >>> minivit.load_data("digits").train_images.shape
    (1438, 8, 8, 1)
    """
    options = {"image_size": image_size, "channels": channels, "fit": fit, "labels": labels}
    preparation: dict[str, Any] = {name: value for name, value in options.items() if value is not None}
    if is_image_folder(source):
        data = load_folder(source, seed, test_fraction, **preparation)
    elif is_generated(source):
        if unfit := [name for name in preparation if name != "image_size"]:
            raise ValueError(f"{', '.join(unfit)}: only for a folder of image files, and {source} are generated: leave "
                             "the options out")
        data = load_generated(source, seed, image_size)
    elif preparation and (source in NAMES or Path(source or ".").exists()):    # a missing path is named below
        raise ValueError(f"{', '.join(preparation)}: only for a folder of image files; the images of {source} have a "
                         "fixed size: leave the options out")
    elif source in PUBLISHED:
        data = load_published(source, seed, test_fraction, data_dir)
    else:
        data = _reader(source)(source, seed, test_fraction)
    place = source if is_named(source) else str(Path(source).resolve())
    return dataclasses.replace(data, source={
        "source": place, "seed": seed, "test_fraction": test_fraction} | (data.source or {}))


def is_named(source: Any) -> bool:
    """Return whether a source of data is a name, of published or of generated images, and not a path."""
    return source in NAMES or is_generated(source)


def is_image_folder(source: Any) -> bool:
    """Return whether a source of data is a folder of image files (not of binary files)."""
    if not source or is_named(source) or not Path(source).is_dir():
        return False
    return not find_idx(source) and not find_cifar(source)


def loading_without_labels(source: Any) -> dict[str, Any]:
    """Return the arguments of `load_data` for pre-training, which needs no labels.

    Images that lie in a folder itself, not in sub-folders, have none.
    """
    loose = is_image_folder(source) and Finder(source).files(source, below=False)
    return {"labels": NO_LABELS, "test_fraction": UNLABELLED_TEST_FRACTION} if loose else {}


def shadowing_folder(source: Any) -> str | None:
    """Return a note if a folder here has the name of a built-in data set, else None."""
    hidden = source in NAMES and Path(source).is_dir()
    return f"{source} is the built-in data set; for the folder, pass ./{source}" if hidden else None


def _reader(source: Any) -> Any:
    """Return the function that reads this source."""
    if source == "digits":
        return load_digits
    if source and Path(source).is_dir():
        return load_idx if find_idx(source) else load_cifar
    if str(source).endswith(".npz"):
        return load_npz
    if str(source).endswith(".csv"):
        raise ValueError(f"{source}: a CSV file names the labels of image files: pass their folder as the data, and "
                         "the CSV file as labels=...")
    if source and Path(source).exists():
        raise ValueError(f"{source}: a data set is a folder, an .npz file or one of {', '.join(NAMES)}")
    known = [*NAMES, "shapes:TASK"]
    raise UnknownName("data set (and no folder or .npz file)", source, known, _suggestion(Path(source or "")))


def _suggestion(source: Path) -> str:
    """Return "did you mean ...?" with the nearest data set, or folder or .npz file beside the path; "" without one."""
    beside = sorted(source.parent.iterdir()) if source.parent.is_dir() else []
    paths = {path.name: str(path) for path in beside
             if not path.name.startswith(".") and (path.is_dir() or path.suffix == ".npz")}
    places = {name: name for name in (*NAMES, *GENERATED)} | paths
    near = nearest(source.name, places, cutoff=0.6)
    return f"did you mean {places[near]!r}?" if near else ""


def load_digits(source: str, seed: int, test_fraction: float) -> Dataset:
    """Load 1,797 handwritten digits of 8x8 pixels, which are part of this package.

    They are the test part of "Optical Recognition of Handwritten Digits" by E. Alpaydin and C. Kaynak, UCI Machine
    Learning Repository, 1998, doi:10.24432/C50P49, licence CC BY 4.0. The 17 gray levels 0..16 are scaled to 0..255.
    """
    return load_npz(Path(__file__).parent / "digits.npz", seed, test_fraction, name=source)
