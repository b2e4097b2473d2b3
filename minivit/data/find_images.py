"""Find the image files of a folder: one sub-folder for each class, optionally within parts such as train and test.

    pictures/cat/1.jpg            or      pictures/train/cat/1.jpg
    pictures/cat/old/2.png                pictures/test/cat/3.jpg
    pictures/dog/a.png                    ...

Links are followed. Hidden files, by-products of other programs and the runs of minivit are left out, and `Finder` says
what it has left out.
"""

import os
import re
from collections import Counter
from pathlib import Path
from typing import Any

from ..common.text import plural
from .image_files import suffixes

# The words for a part. If a folder has no test part, its validation part is the test part.
PARTS = {"train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val", "dev": "val",
         "eval": "val", "evaluation": "val", "test": "test", "testing": "test"}
UNLABELLED = {"pred", "predict", "prediction", "unlabeled", "unlabelled", "inference"}
# Folders that other programs leave in a folder of pictures, with smaller copies or deleted pictures
BY_PRODUCTS = {"@eadir", "@recycle", "@recently-snapshot", "#recycle", "#snapshot", "$recycle.bin", "__macosx",
               "__pycache__", "lost+found", "system volume information"}
RUN_FILES = {"learned.npy", "log.jsonl", "checkpoint.safetensors", "model.safetensors"}


class Finder:
    """Finds the image files of a folder and remembers what it leaves out.

    Parameters
    ----------
    folder : path
    """

    def __init__(self, folder: Any) -> None:
        self.folder = Path(folder)
        self.runs: list[Path] = []
        self.unlabelled: list[Path] = []
        self.others: Counter[str] = Counter()
        self.left_out: list[str] = []

    def parts(self) -> dict[str, dict[str, list[Path]]]:
        """Return {part: {class name: files}}, sorted; the part is "train" without parts.

        Raises ValueError if the layout is unclear; OSError if a folder cannot be read.
        """
        below = self._subfolders(self.folder)
        parts = {sub: PARTS[sub.name.lower()] for sub in below if sub.name.lower() in PARTS and self._has_classes(sub)}
        parts = parts or self._parts_by_word(below)
        if not parts:
            return {"train": self._classes(self.folder)}
        names = ", ".join(sub.name for sub in parts)
        rest = [sub for sub in below if sub not in parts]
        self.unlabelled = [sub for sub in rest if _words(sub) & (UNLABELLED | PARTS.keys())]
        if others := [sub.name for sub in rest if sub not in self.unlabelled and self.files(sub)]:
            raise ValueError(f"{self.folder} has {', '.join(others)} beside {names}: put all classes into the parts, "
                             f"which are folders named train, val or test, or remove the parts")
        if len(set(parts.values())) < len(parts):
            raise ValueError(f"{self.folder} has one part twice, as {names}: merge them")
        return {part: self._classes(_without_repetition(self, sub)) for sub, part in parts.items()}

    def _parts_by_word(self, below):
        """{folder: part} if the names of all sub-folders contain the word for a part, as seg_train and seg_test do."""
        named = {sub: found.pop() for sub in below if len(found := {PARTS[w] for w in _words(sub) if w in PARTS}) == 1}
        rest = [sub for sub in below if sub not in named and not _words(sub) & UNLABELLED]
        if rest or "train" not in named.values() or len(set(named.values())) < 2:
            return {}
        parts = {sub: part for sub, part in named.items() if self._has_classes(sub)}
        if "train" not in parts.values():
            raise ValueError(f"{self.folder} has the parts {', '.join(sub.name for sub in named)}, but they have no "
                             "sub-folders: put the files of each class into a sub-folder of its part, or pass "
                             "labels=...")
        return parts

    def _has_classes(self, folder):
        """Whether a folder has sub-folders, and no image files beside them."""
        return bool(self._subfolders(folder)) and not self.files(folder, below=False)

    def _classes(self, folder):
        """Return {class name: files} of the sub-folders."""
        classes = {}
        for sub in self._subfolders(folder):
            runs = len(self.runs)
            if (files := self.files(sub)) or len(self.runs) == runs:  # a folder of runs alone is no class
                classes[text(sub.name)] = files
        if not any(classes.values()):
            found = ("image files, but not in sub-folders" if self.files(folder, below=False)
                     else "no image files in sub-folders")
            raise ValueError(f"{folder} holds {found}: put the files of each class into a sub-folder with the name of "
                             "the class, or pass labels=...")
        if empty := [name for name, files in classes.items() if not files]:
            raise ValueError(f"{folder} has no image files of {', '.join(empty)}: add some (PNG, JPEG), or remove the "
                             "empty folder")
        if beside := len(self.files(folder, below=False)):
            self.left_out.append(f"left out {beside:,} image {plural(beside, 'file')} beside the sub-folders")
        [first, *more] = classes
        if not more and not self.files(folder / first, below=False):
            inner = [sub.name for sub in self._subfolders(folder / first)]
            raise ValueError(f"{folder} has one class only, {first}: if {', '.join(inner)} are the classes, pass "
                             f"{folder / first}")
        return classes

    def _subfolders(self, folder):
        """Return the sub-folders that are not hidden, sorted."""
        return sorted(sub for sub in Path(folder).iterdir() if sub.is_dir() and _counts(sub.name))

    def files(self, folder: Any, below: bool = True) -> list[Path]:
        """Return the image files in a folder, sorted, also those in its sub-folders if `below`.

        A folder that links reach again is read once. A link to a file that is gone is returned, so that reading it
        names it. Raises OSError if a folder cannot be read.
        """
        found, seen = [], set()
        for path, folders, names in os.walk(folder, onerror=_raise, followlinks=True):
            status = os.stat(path)
            if (place := (status.st_dev, status.st_ino)) in seen:
                folders.clear()
                continue
            seen.add(place)
            if "config.json" in names and RUN_FILES & set(names) and below:
                self.runs.append(Path(path))
                folders.clear()
                continue
            for name in filter(_counts, names):
                suffix, file = os.path.splitext(name)[1].lower(), Path(path, name)
                if suffix in suffixes() and (file.is_file() or file.is_symlink()):
                    found.append(file)
                elif below:
                    self.others[suffix or name] += 1
            folders[:] = filter(_counts, folders) if below else []
        return sorted(found)

    def notes(self) -> list[str]:
        """Return a sentence on each kind of thing that was left out; none for things that nobody takes for pictures."""
        notes = list(self.left_out)
        for what, paths in (("a run of minivit", self.runs), ("a part without classes", self.unlabelled)):
            names = [text(path.relative_to(self.folder)) for path in dict.fromkeys(paths)]
            if names:
                notes.append(f"left out {_some(names)}: {what}")
        others = [f"{suffix} ({count})" for suffix, count in sorted(self.others.items()) if suffix not in _NO_PICTURES]
        if others:
            count = sum(count for suffix, count in self.others.items() if suffix not in _NO_PICTURES)
            notes.append(f"left out {count:,} {plural(count, 'file')} that {'is' if count == 1 else 'are'} not in an "
                         f"image format that can be read: {_some(others)}")
        return notes


_NO_PICTURES = {".txt", ".md", ".json", ".csv", ".tsv", ".xml", ".yaml", ".yml", ".html", ".py", ".db", ".ini", ".log",
                "readme", "license"}


def _some(names, most=5):
    """The first names, and how many more there are."""
    return ", ".join(names[:most]) + (f" and {len(names) - most:,} more" if len(names) > most else "")


def _without_repetition(finder, folder):
    """The folder below, while a part holds nothing but a folder of its own name, as archives often do."""
    while (inner := finder._subfolders(folder)) and len(inner) == 1 and inner[0].name == folder.name:
        folder = inner[0]
    return folder


def _words(folder):
    """The words in the name of a folder: of seg_train2017, "seg" and "train"."""
    return set(re.findall(r"[a-z]+", folder.name.lower()))


def _counts(name):
    """Whether a file or folder of this name is neither hidden nor a by-product."""
    return not name.startswith(".") and name.lower() not in BY_PRODUCTS


def _raise(error):
    raise error


def text(name: Any) -> str:
    """Return the name of a file as text: UTF-8, even where the locale has another encoding."""
    try:
        return os.fsencode(name).decode()
    except UnicodeDecodeError:
        return str(name)                                              # refused before a training: see `config.py`
