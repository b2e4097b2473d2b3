"""A folder of image files as a data set. `find_images.py` finds the files, `image_files.py` reads them."""

import io
import json
import os
import time
from contextlib import suppress
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import numpy as np
import PIL
import platformdirs

from ..common.files import read_npz, write_atomic
from ..common.sizes import Size, check_pair, compact
from . import image_files
from .dataset import Dataset, make_dataset
from .find_images import Finder, text
from .image_files import inspect_image_files, read_image_files
from .labels import labelled_files
from .preparation import Preparation

LARGEST = 64                                          # default side: 64 patches of 8x8, which a CPU trains in minutes
SLOW = 2.0                                            # reading for longer than this many seconds fills the cache


def load_folder(folder: str | Path, seed: int, test_fraction: float, image_size: Size | None = None,
                channels: int | None = None, fit: str = "crop", labels: str | Path | None = None) -> Dataset:
    """Load the image files below a folder as a Dataset.

    Parameters
    ----------
    folder : path
        See `find_images.py` for its layout.
    image_size : int or (int, int), at least 4, optional
        (H, W) in pixels; one number for a square (default: 64, or less if all images are smaller; a multiple of 4).
    channels : int, optional
        1 gray, 3 RGB, 4 RGBA (default: gray if all images are gray, else RGB).
    fit : {"crop", "pad", "stretch"}
        How to give all images this shape; see `image_files`.
    labels : path or pattern, optional
        Where the class of each file is written, if not in the name of its sub-folder; see `labels.py`.

    Raises
    ------
    ValueError
        If the layout is unclear or a file is not readable.
    """
    finder = Finder(folder)
    parts = finder.parts() if labels is None else labelled_files(finder, labels)
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
    images, preparation = _read_or_recall(files, size, channels, fit)
    class_names = tuple(sorted({name for classes in parts.values() for name in classes}))
    numbers = [class_names.index(name) for classes in parts.values() for name in classes for _ in classes[name]]
    ends = np.cumsum([sum(map(len, classes.values())) for classes in parts.values()])[:-1]
    pairs = zip(np.split(images, ends), np.split(np.array(numbers), ends), strict=True)
    names = {part: [text(os.path.relpath(file, folder)) for name in classes for file in classes[name]]
             for part, classes in parts.items()}
    options = {"image_size": compact(size), "channels": channels, "fit": fit}
    if labels is not None:
        options["labels"] = str(Path(labels).resolve()) if Path(labels).is_file() else str(labels)
    data = make_dataset(Path(folder).resolve().name, dict(zip(parts, pairs, strict=True)), class_names, seed,
                        test_fraction, fit, options, names)
    return replace(data, preparation=tuple(preparation.sentences(images.shape[1:], fit) + finder.notes()))


def _read_or_recall(files, size, channels, fit):
    """Call `read_image_files` -> images, Preparation; or recall both while files and code are unchanged.

    Only slow reads are cached. There is one entry for each folder and preparation, so a growing folder does not fill
    the cache. 4,000 JPEG files of 500x375 took 5.5 and 8.4 s the first time, 0.9 and 0.5 s the second, on two shared
    cores: `import minivit, time; t = time.time(); minivit.load_data("photos"); print(time.time() - t)`.
    """
    place = repr((os.path.commonpath([file.absolute() for file in files]), compact(size), channels, fit))
    store = platformdirs.user_cache_path("minivit") / "images" / f"{sha256(place.encode()).hexdigest()[:16]}.npz"
    stats = [(str(file.absolute()), *_size_and_time(file)) for file in files]
    state = sha256(repr((stats, PIL.__version__)).encode() + Path(image_files.__file__).read_bytes()).hexdigest()
    # If the cache lacks the images, read the files.
    with suppress(OSError, ValueError, KeyError, TypeError):
        arrays = read_npz(store)
        if str(arrays["state"]) == state and arrays["images"].shape == (len(files), *size, channels):
            return arrays["images"], Preparation.from_dict(json.loads(str(arrays["preparation"])))
    start, preparation = time.perf_counter(), Preparation()
    images = read_image_files(files, size, channels, fit, preparation=preparation)
    if time.perf_counter() - start > SLOW:
        content = io.BytesIO()
        np.savez(content, images=images, state=state, preparation=json.dumps(preparation.as_dict()))
        with suppress(OSError):                       # a cache that cannot be written is none
            store.parent.mkdir(parents=True, exist_ok=True)
            write_atomic(store, content.getvalue())
    return images, preparation


def _size_and_time(file):
    """Size and time of a file; of a link to a file that is gone, those of the link."""
    status = file.stat() if file.exists() else file.lstat()
    return status.st_size, status.st_mtime_ns
