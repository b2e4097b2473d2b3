"""A folder of image files: one sub-folder for each class, optionally within train, val and test.

    pictures/cat/1.jpg            or      pictures/train/cat/1.jpg
    pictures/cat/old/2.png                pictures/test/cat/3.jpg
    pictures/dog/a.png                    ...
"""

import io
import os
import time
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import PIL
import platformdirs

from ..common.files import read_npz, write_atomic
from ..common.sizes import Size, check_pair, compact
from . import image_files
from .dataset import Dataset, make_dataset
from .image_files import SUFFIXES, inspect_image_files, read_image_files

PARTS = {"train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}
LARGEST = 64                                          # default side: 64 patches of 8x8, which a CPU trains in minutes
SLOW = 2.0                                            # reading for longer than this many seconds fills the cache


def load_folder(folder: str | Path, seed: int, test_fraction: float, image_size: Size | None = None,
                channels: int | None = None, fit: str = "crop") -> Dataset:
    """Load the image files below a folder as a Dataset.

    Parameters
    ----------
    folder : path
        See the module for its layout.
    image_size : int or (int, int), at least 4, optional
        (H, W) in pixels; one number for a square (default: 64, or less if all images are smaller; a multiple of 4).
    channels : int, optional
        1 gray, 3 RGB, 4 RGBA (default: gray if all images are gray, else RGB).
    fit : {"crop", "pad", "stretch"}
        How to give all images this shape; see `image_files`.

    Raises
    ------
    ValueError
        If the layout is unclear or a file is not readable.
    """
    parts = find_image_files(folder)
    files = [file for classes in parts.values() for name in classes for file in classes[name]]
    if image_size is None or channels is None:
        try:
            sides, grey = inspect_image_files(files)
        except ValueError:
            read_image_files(files, 4, 1)                # names those, too, that break only behind the header
            raise
        image_size = max(4, min(LARGEST, max(sides)) // 4 * 4) if image_size is None else image_size
        channels = (1 if all(grey) else 3) if channels is None else channels
    size = check_pair("image size", image_size, least=4)
    images = _read_or_recall(files, size, channels, fit)
    class_names = tuple(sorted({name for classes in parts.values() for name in classes}))
    labels = [class_names.index(name) for classes in parts.values() for name in classes for _ in classes[name]]
    ends = np.cumsum([sum(map(len, classes.values())) for classes in parts.values()])[:-1]
    pairs = zip(np.split(images, ends), np.split(np.array(labels), ends), strict=True)
    names = {part: [str(file.relative_to(folder)) for name in classes for file in classes[name]] for part,
             classes in parts.items()}
    return make_dataset(Path(folder).resolve().name, dict(zip(parts, pairs, strict=True)), class_names, seed,
                        test_fraction, fit,
                        {"image_size": compact(size), "channels": channels, "fit": fit}, names)


def _read_or_recall(files, size, channels, fit):
    """Call `read_image_files`, or take its result from the user's cache while files and code are unchanged.

    Only slow reads are cached. There is one entry for each folder and preparation, so a growing folder does not fill
    the cache. 4,000 JPEG files of 500x375 took 5.5 and 8.4 s the first time, 0.9 and 0.5 s the second, on two shared
    cores: `import minivit, time; t = time.time(); minivit.load_data("photos"); print(time.time() - t)`.
    """
    place = repr((os.path.commonpath([file.absolute() for file in files]), compact(size), channels, fit))
    store = platformdirs.user_cache_path("minivit") / "images" / f"{sha256(place.encode()).hexdigest()[:16]}.npz"
    stats = [(str(file.absolute()), file.stat().st_size, file.stat().st_mtime_ns) for file in files]
    state = sha256(repr((stats, PIL.__version__)).encode() + Path(image_files.__file__).read_bytes()).hexdigest()
    # If the cache lacks the images, read the files.
    with suppress(OSError, ValueError, KeyError):
        arrays = read_npz(store)
        if str(arrays["state"]) == state and arrays["images"].shape == (len(files), *size, channels):
            return arrays["images"]
    start = time.perf_counter()
    images = read_image_files(files, size, channels, fit)
    if time.perf_counter() - start > SLOW:
        content = io.BytesIO()
        np.savez(content, images=images, state=state)
        with suppress(OSError):                       # a cache that cannot be written is none
            store.parent.mkdir(parents=True, exist_ok=True)
            write_atomic(store, content.getvalue())
    return images


def find_image_files(folder: Any) -> dict:
    """Find the files of a folder -> {part: {class name: files}}, sorted; the part is "train" without parts."""
    below = _subfolders(folder)
    parts = {sub: PARTS[sub.name.lower()] for sub in below if sub.name.lower() in PARTS and _subfolders(sub)
             and not _image_files(sub, "*")}
    if not parts:
        return {"train": _classes(Path(folder))}
    names = ", ".join(sub.name for sub in parts)
    if others := [sub.name for sub in below if sub not in parts and _image_files(sub)]:
        raise ValueError(f"{folder} has {', '.join(others)} beside {names}: put all classes into the parts, or remove "
                         "the parts")
    if len(set(parts.values())) < len(parts):
        raise ValueError(f"{folder} has one part twice, as {names}: merge them")
    return {part: _classes(sub) for sub, part in parts.items()}


def _classes(folder):
    """Return {class name: files} of the sub-folders."""
    classes = {sub.name: _image_files(sub) for sub in _subfolders(folder)}
    if not any(classes.values()):
        found = "image files, but not in sub-folders" if _image_files(folder, "*") else "no image files in sub-folders"
        raise ValueError(f"{folder} holds {found}: put the files of each class into a sub-folder with the name of the "
                         "class")
    if empty := [name for name, files in classes.items() if not files]:
        raise ValueError(f"{folder} has no image files of {', '.join(empty)}: add some (PNG, JPEG), or remove the "
                         "empty folder")
    [first, *more] = classes
    if not more and not _image_files(folder / first, "*"):
        inner = [sub.name for sub in _subfolders(folder / first)]
        raise ValueError(f"{folder} has one class only, {first}: if {', '.join(inner)} are the classes, pass "
                         f"{folder / first}")
    return classes


def _subfolders(folder):
    """Return the sub-folders that are not hidden, sorted."""
    return sorted(sub for sub in Path(folder).iterdir() if sub.is_dir() and not sub.name.startswith((".", "__MACOSX")))


def _image_files(folder, pattern="**/*"):
    """Return all image files that are not hidden and not in a hidden folder such as .ipynb_checkpoints."""
    return sorted(file for file in Path(folder).glob(pattern) if file.suffix.lower() in SUFFIXES and file.is_file()
                  and not any(part.startswith(".") for part in file.relative_to(folder).parts))
