"""A folder of pictures: one sub-folder for each class, perhaps within train, val and test.

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

import numpy as np
import PIL
import platformdirs

from ..common.checks import check_number
from ..common.files import read_npz, write_atomic
from . import image_files as pictures
from .dataset import make_dataset
from .image_files import SUFFIXES, inspect_image_files, read_image_files

PARTS = {"train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}
LARGEST = 64                                          # default side: 64 patches of 8x8, which a CPU trains in minutes
SLOW = 2.0                                            # seconds of reading from which the pictures are kept


def load_folder(folder, seed, test_fraction, image_size=None, channels=None, fit="crop"):
    """The pictures below `folder` -> Dataset.

    image_size: side in pixels, 4 at least (default: LARGEST, or less where all pictures are smaller, a multiple of 4).
    channels: 1 grey, 3 colour, 4 colour and opacity (default: grey if all pictures are, else colour). fit: "crop",
    "pad" or "stretch". Raises ValueError.
    """
    parts = find_pictures(folder)
    files = [file for classes in parts.values() for name in classes for file in classes[name]]
    if image_size is None or channels is None:
        try:
            sides, grey = inspect_image_files(files)
        except ValueError:
            read_image_files(files, 4, 1)                # names those, too, that break only behind the header
            raise
        image_size = max(4, min(LARGEST, max(sides)) // 4 * 4) if image_size is None else image_size
        channels = (1 if all(grey) else 3) if channels is None else channels
    images = _read_or_recall(files, check_number("image size", image_size, least=4, whole=True), channels, fit)
    class_names = tuple(sorted({name for classes in parts.values() for name in classes}))
    labels = [class_names.index(name) for classes in parts.values() for name in classes for _ in classes[name]]
    ends = np.cumsum([sum(map(len, classes.values())) for classes in parts.values()])[:-1]
    pairs = zip(np.split(images, ends), np.split(np.array(labels), ends), strict=True)
    names = {part: [str(file.relative_to(folder)) for name in classes for file in classes[name]] for part,
             classes in parts.items()}
    return make_dataset(Path(folder).resolve().name, dict(zip(parts, pairs, strict=True)), class_names, seed,
                        test_fraction, fit,
                        {"image_size": image_size, "channels": channels, "fit": fit}, names)


def _read_or_recall(files, image_size, channels, fit):
    """`read_image_files`, kept in the user's cache if it was slow, and taken from there as long as neither files nor
    code change.

    There is one entry for a folder and a preparation, so that a folder that grows does not fill the cache. 4,000 JPEGs
    of 500x375 took 5.5 and 8.4 s the first time, 0.9 and 0.5 s the second, on two shared cores: `import minivit, time;
    t = time.time(); minivit.load_data("photos"); print(time.time() - t)`.
    """
    place = repr((os.path.commonpath([file.absolute() for file in files]), image_size, channels, fit))
    store = platformdirs.user_cache_path("minivit") / "pictures" / f"{sha256(place.encode()).hexdigest()[:16]}.npz"
    stats = [(str(file.absolute()), file.stat().st_size, file.stat().st_mtime_ns) for file in files]
    state = sha256(repr((stats, PIL.__version__)).encode() + Path(pictures.__file__).read_bytes()).hexdigest()
    # no such file, a damaged one, or another's: then the pictures are read
    with suppress(OSError, ValueError, KeyError):
        arrays = read_npz(store)
        if str(arrays["state"]) == state and arrays["images"].shape == (len(files), image_size, image_size, channels):
            return arrays["images"]
    start = time.perf_counter()
    images = read_image_files(files, image_size, channels, fit)
    if time.perf_counter() - start > SLOW:
        content = io.BytesIO()
        np.savez(content, images=images, state=state)
        with suppress(OSError):                       # a cache that cannot be written is none
            store.parent.mkdir(parents=True, exist_ok=True)
            write_atomic(store, content.getvalue())
    return images


def find_pictures(folder):
    """{part: {class name: files}} of a folder, sorted; part is "train" where there are no parts. Raises ValueError."""
    below = _subfolders(folder)
    parts = {sub: PARTS[sub.name.lower()] for sub in below if sub.name.lower() in PARTS and _subfolders(sub)
             and not _pictures(sub, "*")}
    if not parts:
        return {"train": _classes(Path(folder))}
    names = ", ".join(sub.name for sub in parts)
    if others := [sub.name for sub in below if sub not in parts and _pictures(sub)]:
        raise ValueError(f"{folder} has {', '.join(others)} beside {names}: it may have either classes or parts")
    if len(set(parts.values())) < len(parts):
        raise ValueError(f"{folder} has one part twice: {names}")
    return {part: _classes(sub) for sub, part in parts.items()}


def _classes(folder):
    """{class name: files} of the sub-folders."""
    classes = {sub.name: _pictures(sub) for sub in _subfolders(folder)}
    if not any(classes.values()):
        found = "pictures, but not in sub-folders" if _pictures(folder, "*") else "no pictures in sub-folders"
        raise ValueError(f"{folder} holds {found}: put the pictures of each class into a sub-folder with the name of "
                         "the class")
    if empty := [name for name, files in classes.items() if not files]:
        raise ValueError(f"{folder} has no pictures of {', '.join(empty)}: add some (PNG, JPEG), or remove the empty "
                         "folder")
    [first, *more] = classes
    if not more and not _pictures(folder / first, "*"):
        inner = [sub.name for sub in _subfolders(folder / first)]
        raise ValueError(f"{folder} has one class only, {first}: if {', '.join(inner)} are the classes, give "
                         f"{folder / first} as DATA")
    return classes


def _subfolders(folder):
    return sorted(sub for sub in Path(folder).iterdir() if sub.is_dir() and not sub.name.startswith((".", "__MACOSX")))


def _pictures(folder, pattern="**/*"):
    """All picture files that are not hidden, nor in a hidden folder such as .ipynb_checkpoints."""
    return sorted(file for file in Path(folder).glob(pattern) if file.suffix.lower() in SUFFIXES and file.is_file()
                  and not any(part.startswith(".") for part in file.relative_to(folder).parts))
