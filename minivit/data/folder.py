"""A folder of pictures: one sub-folder for each class, perhaps within train, val and test.

    pictures/cat/1.jpg            or      pictures/train/cat/1.jpg
    pictures/cat/old/2.png                pictures/test/cat/3.jpg
    pictures/dog/a.png                    ...
"""

from pathlib import Path

import numpy as np

from ..arguments import check_number
from .dataset import make_dataset
from .pictures import SUFFIXES, inspect_pictures, read_pictures

PARTS = {"train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}
LARGEST = 64                                          # default side: 64 patches of 8x8, which a CPU trains in minutes


def load_folder(folder, seed, test_fraction, image_size=None, channels=None, fit="crop"):
    """The pictures below `folder` -> Dataset.

    image_size: side in pixels, 4 at least (default: LARGEST, or less where all pictures are smaller, a multiple of 4). channels: 1 grey,
    3 colour, 4 colour and opacity (default: grey if all pictures are, else colour). fit: "crop", "pad" or "stretch". Raises ValueError.
    """
    parts = find_pictures(folder)
    files = [file for classes in parts.values() for name in classes for file in classes[name]]
    if image_size is None or channels is None:
        sides, grey = inspect_pictures(files)
        image_size = image_size or max(4, min(LARGEST, max(sides)) // 4 * 4)
        channels = channels or (1 if all(grey) else 3)
    images = read_pictures(files, check_number("image size", image_size, least=4, whole=True), channels, fit)
    class_names = tuple(sorted({name for classes in parts.values() for name in classes}))
    labels = [class_names.index(name) for classes in parts.values() for name in classes for _ in classes[name]]
    ends = np.cumsum([sum(map(len, classes.values())) for classes in parts.values()])[:-1]
    pairs = zip(np.split(images, ends), np.split(np.array(labels), ends), strict=True)
    return make_dataset(Path(folder).resolve().name, dict(zip(parts, pairs, strict=True)), class_names, seed, test_fraction, fit,
                        {"image_size": image_size, "channels": channels, "fit": fit})


def find_pictures(folder):
    """{part: {class name: files}} of a folder, sorted; part is "train" where there are no parts. Raises ValueError."""
    below = _subfolders(folder)
    parts = {sub: PARTS[sub.name.lower()] for sub in below if sub.name.lower() in PARTS and _subfolders(sub) and not _pictures(sub, "*")}
    if not parts:
        return {"train": _classes(Path(folder))}
    if others := [sub.name for sub in below if sub not in parts and _pictures(sub)]:
        raise ValueError(f"{folder} has {', '.join(others)} beside {', '.join(sub.name for sub in parts)}: either classes or parts")
    if len(set(parts.values())) < len(parts):
        raise ValueError(f"{folder} has one part twice: {', '.join(sub.name for sub in parts)}")
    return {part: _classes(sub) for sub, part in parts.items()}


def _classes(folder):
    """{class name: files} of the sub-folders."""
    classes = {sub.name: _pictures(sub) for sub in _subfolders(folder)}
    if not any(classes.values()):
        found = "pictures, but not in sub-folders" if _pictures(folder, "*") else "no pictures in sub-folders"
        raise ValueError(f"{folder} holds {found}: put the pictures of each class into a sub-folder with the name of the class")
    if empty := [name for name, files in classes.items() if not files]:
        raise ValueError(f"{folder} has no pictures of {', '.join(empty)}: add some (PNG, JPEG), or remove the empty folder")
    [first, *more] = classes
    if not more and not _pictures(folder / first, "*"):
        inner = [sub.name for sub in _subfolders(folder / first)]
        raise ValueError(f"{folder} has one class only, {first}: if {', '.join(inner)} are the classes, give {folder / first} as DATA")
    return classes


def _subfolders(folder):
    return sorted(sub for sub in Path(folder).iterdir() if sub.is_dir() and not sub.name.startswith((".", "__")))


def _pictures(folder, pattern="**/*"):
    return sorted(file for file in Path(folder).glob(pattern)
                  if file.suffix.lower() in SUFFIXES and not file.name.startswith(".") and file.is_file())
