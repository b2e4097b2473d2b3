"""Sizes in two directions: rows and columns, (H, W), of images, patches, windows and grids of tokens.

A user may give one number for a square. Inside the package every size is a pair. A `config.json` keeps a square as one
number, so that the runs of older versions and of this one read alike.
"""

import re
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from .checks import check_number

Size = int | Sequence[int]                            # what a user passes: the side of a square, or (rows, columns)


def pair(size: Size) -> tuple[int, int]:
    """Return a size that is known to be one as (rows, columns)."""
    return (size, size) if isinstance(size, int) else (size[0], size[1])


def check_pair(name: str, value: Any, least: int = 1) -> tuple[int, int]:
    """Return a size as (rows, columns).

    Raises ValueError that begins with `name`, unless it is a whole number of at least `least`, or two of them.
    """
    given = tuple(value) if isinstance(value, list | tuple) else (value, value)
    with suppress(ValueError):
        rows, columns = (check_number(name, number, least=least, whole=True) for number in given)
        return rows, columns
    raise ValueError(f"{name} must be a whole number at least {least}, the side of a square, or two of them, "
                     f"(rows, columns), not {value!r}")


def compact(size: tuple[int, int]) -> int | list[int]:
    """Return a size as a config.json keeps it: a square as one number, another size as [rows, columns]."""
    return size[0] if size[0] == size[1] else list(size)


def size_as_python(size: tuple[int, int]) -> str:
    """Return a size as a user of Python writes it: "28" for a square, or "(16, 32)"."""
    return str(size[0] if size[0] == size[1] else tuple(size))


def size_in_words(size: Sequence[int]) -> str:
    """Return a size in words: "16x32"."""
    return "x".join(map(str, size))


def parse_size(text: str) -> Size:
    """Return the size that a user typed: "28" for a square, or "16x32", rows x columns.

    Raises ValueError for another text. How small a size may be is checked later.
    """
    match = re.fullmatch(r"\s*(-?\d+)(?:\s*[xX,]\s*(-?\d+))?\s*", text)
    if not match:
        raise ValueError(f"a size is one number, such as 32, or rows x columns, such as 16x32, not {text!r}")
    rows, columns = match.groups()
    return int(rows) if columns is None else (int(rows), int(columns))
