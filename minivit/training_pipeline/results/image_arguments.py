"""The images that a user names for a prediction: files, numbers of test images, folders, and standard input."""

import os
import re
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from ...data.find_images import Finder

STDIN = "-"
_CONTROL = set(range(32)) - set(b"\t\r\n")


@contextmanager
def named_images(arguments: Sequence[str], stdin: bytes | None = None) -> Iterator[tuple[list[str], dict[str, str]]]:
    """Replace folders by their image files, and "-" by what standard input holds.

    Standard input is an image file, or the names of files, folders or test images: one a line, or separated by zero
    bytes as `find -print0` does.

    Parameters
    ----------
    arguments : list of str
    stdin : bytes, optional
        The content of standard input (default: it is read if "-" is among the arguments).

    Yields
    ------
    images : list of str
        Image files and numbers.
    names : dict
        {file: name to show}: an image from standard input is in a temporary file until the block ends.

    Raises
    ------
    ValueError
        If a folder has no image files, or standard input is empty.
    """
    with tempfile.TemporaryDirectory() as place:
        images, names = list[str](), dict[str, str]()
        for argument in arguments:
            if argument != STDIN:
                images += _files(argument)
                continue
            content = sys.stdin.buffer.read() if stdin is None else stdin
            if listed := _listed(content):
                images += [image for one in listed for image in _files(one)]
            else:
                file = Path(place, "stdin")
                file.write_bytes(content)
                images.append(str(file))
                names[str(file)] = STDIN
        yield images, names


def _files(argument):
    """The image files of a folder; any other argument as it is. A number is a test image, whatever the folder holds."""
    if re.fullmatch(r"-?\d+", argument) or not Path(argument).is_dir():
        return [argument]
    files = Finder(argument).files(argument)
    if not files:
        raise ValueError(f"{argument} holds no image files")
    return [str(file) for file in files]


def _listed(content):
    """The names in the content of standard input; [] if it is an image file."""
    if not content.strip():
        raise ValueError("standard input is empty: give it an image file, or the names of image files")
    separator = b"\0" if content.endswith(b"\0") else b"\n"
    # image files soon have control characters, which names rarely have; formats in text begin with P1 to P6, /* or #
    if set(content[:64]) & _CONTROL - set(separator) or re.match(rb"P[1-6]\b|/\*|#define ", content):
        return []
    return [os.fsdecode(name.rstrip(b"\r")) for name in content.split(separator) if name.strip()]
