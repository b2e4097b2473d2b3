"""The classes of image files where sub-folders do not tell them: in a table, or in the names of the files.

A *table* is a CSV file with a header. One column names the files (`file`, `filename`, `image`, `path` or `id`), another
one the classes (`label`, `class`, `category` or `target`), and a third one may name the parts (`split`, `part`, `set`
or `subset`: train, val or test):

    file,label                    or      image;class;split
    a/1.jpg,cat                           1;cat;train
    a/2.jpg,dog                           2;dog;test

Files are relative to the folder of the images. Their endings may be left out.

A *pattern* has `{class}` where the class stands in the name of a file. `{number}` stands for digits, and `*` for any
text. With a slash, the pattern is that of the path:

    {class}.{number}.jpg          cat.17.jpg is of class cat
    {class}_*                     dog_brown.png is of class dog
    scans/*/{class}.png           scans/monday/7.png is of class 7

For pre-training, `none` in place of a table or pattern takes all images as one class, in whatever sub-folders they are.
"""

import csv
import io
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ..common.checks import check_name
from .find_images import PARTS, Finder, text

NO_LABELS = "none"      # in place of a table or pattern: the images have no labels
UNLABELLED = "unlabelled"                                              # the name of their only class
COLUMNS = {"file": ("file", "filename", "file_name", "image", "path", "id"),
           "label": ("label", "labels", "class", "category", "target"), "part": ("split", "part", "set", "subset")}
_WILD = {"{class}": r"(?P<label>.+?)", "{number}": r"\d+", "*": r".*"}

Parts = dict[str, dict[str, list[Path]]]


def labelled_files(finder: Finder, labels: Any) -> Parts:
    """Find the image files of a folder, with their classes from a table or a pattern.

    Parameters
    ----------
    finder : Finder
        Of the folder.
    labels : path or str
        A CSV file, a pattern with `{class}`, or "none".

    Returns
    -------
    dict
        {part: {class name: files}}, sorted; the part is "train" unless the table names parts.

    Raises
    ------
    ValueError, FileNotFoundError
        If there is no such table, a file is missing or has no class; the message names the line or the file.
    """
    if labels == NO_LABELS:
        if not (files := finder.files(finder.folder)):
            raise ValueError(f"{finder.folder} holds no image files")
        return {"train": {UNLABELLED: files}}
    if "{class}" in str(labels):
        return _by_pattern(finder, str(labels))
    if not Path(labels).is_file():
        raise FileNotFoundError(f"{labels}: no such file, and no pattern: labels are a CSV file, or a pattern with "
                                "{class} such as {class}_*")
    return _by_table(finder, Path(labels))


def _by_pattern(finder, pattern):
    """The files whose names fit a pattern."""
    pieces = re.split(r"(\{class\}|\{number\}|\*)", pattern)
    if pieces.count("{class}") > 1:
        raise ValueError(f"the pattern {pattern} has {{class}} more than once")
    expression = re.compile("".join(_WILD.get(piece, re.escape(piece)) for piece in pieces))
    pairs, others = [], []
    for file in finder.files(finder.folder):
        name = text(file.relative_to(finder.folder).as_posix()) if "/" in pattern else text(file.name)
        match = expression.fullmatch(name) or expression.fullmatch(name.removesuffix(file.suffix))
        if match:
            pairs.append((match["label"], file))
        else:
            others.append(name)
    if others:
        raise ValueError(f"{len(others):,} of {len(others) + len(pairs):,} image files of {finder.folder} do not fit "
                         f"the pattern {pattern}, such as {', '.join(others[:3])}: choose another pattern")
    if not pairs:
        raise ValueError(f"{finder.folder} holds no image files")
    return {"train": _grouped(pairs)}


def _by_table(finder, table):
    """The files in a CSV file. Those that it does not list are left out."""
    rows, columns = _read(table)
    known = finder.files(finder.folder)
    by_name: dict[str, list[Path]] = {}
    for file in known:
        place = text(file.relative_to(finder.folder).as_posix())
        for name in {place, place.removesuffix(file.suffix), text(file.name), text(file.stem)}:
            by_name.setdefault(name, []).append(file)
    labels: dict[Path, tuple[str, str]] = {}
    for line, row in rows:
        name, label = row[columns["file"]].strip(), row[columns["label"]].strip()
        part = check_name(f"part in line {line} of {table}", row[columns["part"]].strip().lower(),
                          PARTS) if "part" in columns else "train"
        file = _only(by_name.get(Path(name).as_posix(), []), name, f"{table}, line {line}")
        if not label:
            raise ValueError(f"{table}, line {line}: {name} has no label")
        if labels.setdefault(file, (PARTS[part], label)) != (PARTS[part], label):
            raise ValueError(f"{table}, line {line}: {name} stands twice, with different labels or parts")
    if left := len(known) - len(labels):
        finder.left_out.append(f"left out {left:,} of {len(known):,} image files that are not in {table.name}")
    parts = {part: [(label, file) for file, (of, label) in labels.items() if of == part]
             for part in ("train", "val", "test")}
    return {part: _grouped(pairs) for part, pairs in parts.items() if pairs}


def _read(table):
    """Read a CSV file -> [(line, fields)], {"file": column, "label": column, perhaps "part": column}."""
    try:
        content = table.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{table} is not a text file in UTF-8: {error}") from None
    first = content.split("\n", 1)[0]
    reader = csv.reader(io.StringIO(content), delimiter=max(",;\t", key=first.count), strict=True)
    try:
        lines = [(reader.line_num, row) for row in reader if any(map(str.strip, row))]
    except csv.Error as error:
        raise ValueError(f"{table}, line {reader.line_num}: {error}") from None
    if len(lines) < 2:
        raise ValueError(f"{table} has no rows: it needs a header and a row for each image file")
    (_, header), *rows = lines
    names = [name.strip().lower() for name in header]
    columns = {kind: names.index(found[0]) for kind, words in COLUMNS.items()
               if (found := [word for word in words if word in names])}
    if "file" not in columns or "label" not in columns:
        raise ValueError(f"{table} has the columns {', '.join(header)}, but needs one named file and one named label")
    for line, row in rows:
        if len(row) != len(header):
            raise ValueError(f"{table}, line {line}: {len(row)} fields under {len(header)} columns")
    return rows, columns


def _only(files, name, where):
    """The one file of this name."""
    if not files:
        raise ValueError(f"{where}: there is no image file {name}")
    if len(files) > 1:
        raise ValueError(f"{where}: {name} may be {', '.join(map(str, files[:2]))}: write its folder, too")
    return files[0]


def _grouped(pairs: Iterable[tuple[str, Path]]) -> dict[str, list[Path]]:
    """{class: files}, both sorted, of (class, file) pairs."""
    grouped: dict[str, list[Path]] = {}
    for label, file in sorted(pairs):
        grouped.setdefault(label, []).append(file)
    return grouped
