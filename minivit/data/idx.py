"""The IDX format of MNIST and many later data sets.

    bytes 0, 1    0                                           magic number
    byte 2        the type of the entries: 8 is uint8         (Y. LeCun, C. Cortes, C. Burges: "The MNIST database
    byte 3        the number of axes                           of handwritten digits", 1998)
    then          the length of each axis, 4 bytes each, most significant byte first
    then          the entries; the last axis varies fastest
"""

import math
import re
import struct
from pathlib import Path

import numpy as np

from ..common.files import check_memory
from .binary import Stream, open_binary
from .dataset import Dataset, make_dataset

# Names such as `train-images-idx3-ubyte`, `train-images.idx3-ubyte`, `emnist-letters-test-images-idx3-ubyte.gz`
_FILE = re.compile(r"(?P<prefix>.*?)(?P<part>train|t10k|test|val)-(?P<kind>images|labels)[-.]idx\d-ubyte(\.gz)?")


def find_idx(folder: str | Path) -> dict[str, dict[str, Path]]:
    """Find the IDX files in a folder by name -> {part: {"images": path, "labels": path}}, empty if there are none.

    Raises ValueError if a file lacks its partner, or if there are files of several data sets.
    """
    found: dict[str, dict[str, Path]] = {}
    prefixes = set()
    for path in sorted(Path(folder).iterdir(), reverse=True):         # a plain file replaces its .gz
        if (match := _FILE.fullmatch(path.name)) and path.is_file():  # some archives unpack to a folder of that name
            part = "test" if match["part"] == "t10k" else match["part"]
            found.setdefault(part, {})[match["kind"]] = path
            prefixes.add(match["prefix"])
    if len(prefixes) > 1:
        raise ValueError(f"{folder} holds the IDX files of several data sets, {', '.join(sorted(prefixes))}: put each "
                         "into its own folder")
    for part, pair in found.items():
        for kind, other in (("images", "labels"), ("labels", "images")):
            if kind not in pair:
                raise ValueError(f"{folder} has {pair[other].name}, but no file with the {kind} of the {part} part: "
                                 "IDX files come in pairs")
    return found


def load_idx(folder: str | Path, seed: int, test_fraction: float) -> Dataset:
    """Load the IDX files of a folder as a Dataset. Images are (B, H, W) or (B, H, W, C). Raises ValueError."""
    parts = {}
    for part, pair in find_idx(folder).items():
        with open_binary(pair["images"]) as images, open_binary(pair["labels"]) as labels:
            parts[part] = read_idx_pair(images, labels)
    names = tuple(str(k) for k in range(1 + max(int(labels.max()) for _, labels in parts.values())))
    return make_dataset(Path(folder).resolve().name, parts, names, seed, test_fraction, fit="pad")


def read_idx_pair(images_stream: Stream, labels_stream: Stream) -> tuple[np.ndarray, np.ndarray]:
    """Read two Streams -> (images (B, H, W, C), labels (B,)), uint8.

    Raises ValueError if they do not fit together, or as `read_idx`.
    """
    images, labels = read_idx(images_stream), read_idx(labels_stream)
    if images.ndim not in (3, 4) or 0 in images.shape:
        raise ValueError(f"{images_stream.name} has the shape {images.shape}, but images are (B, H, W) or (B, H, W, "
                         "C), none of them 0")
    if labels.shape != images.shape[:1]:
        raise ValueError(f"{labels_stream.name} has the shape {labels.shape}, but needs one label for each of "
                         f"{len(images)} images")
    return images if images.ndim == 4 else images[..., None], labels


def read_idx(stream: Stream) -> np.ndarray:
    """Read a Stream in IDX format -> uint8 array. Raises ValueError if it has another format or another length."""
    magic = stream.read(4)
    if len(magic) < 4 or magic[:2] != b"\0\0" or not magic[3]:
        begins = magic.hex(" ") or "nothing"
        raise ValueError(f"{stream.name} is not an IDX file: it begins with {begins}, not with 00 00 08 and the number "
                         "of axes")
    if magic[2] != 8:
        raise ValueError(f"{stream.name} has entries of type {magic[2]:#04x}, but must have uint8 (0x08)")
    if magic[3] > 4:
        raise ValueError(f"{stream.name} has {magic[3]} axes by its header, but images have 3 or 4, and labels have 1")
    lengths = stream.read(4 * magic[3])
    if len(lengths) < 4 * magic[3]:
        raise ValueError(f"{stream.name} is truncated: it ends within its header")
    shape = struct.unpack(f">{magic[3]}I", lengths)
    size = math.prod(shape)
    check_memory(f"{stream.name}, by its header {' x '.join(map(str, shape))},", size)
    content = stream.read(size + 1)
    if len(content) != size:
        what = "longer than its header says" if len(content) > size else f"truncated: it has {len(content):,} entries"
        raise ValueError(f"{stream.name} is {what}; the header says {' x '.join(map(str, shape))} = {size:,}")
    return np.frombuffer(content, np.uint8).reshape(shape)
