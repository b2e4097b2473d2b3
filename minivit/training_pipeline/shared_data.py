"""One copy of the images on each machine, for all ranks that run there.

Without this, every rank would load all images into its own memory. Instead one rank of each machine loads them and
writes them to a temporary file, and all ranks of the machine map this file into memory:

    rank 0, loads  --> file <-- maps, rank 0          the system reads a page of the file when a rank first uses it, and
                            <-- maps, rank 1          keeps one copy of it for all ranks; if memory runs short, it drops
                            <-- maps, rank 2          pages, and reads them again later

During the training, a rank uses the images of its own lanes only (see `common/rows.py`). Hashes and pixel statistics
need all images: each rank computes those of its share, and they are put together.

The file loses its name as soon as all ranks have opened it. So the system removes it when they end, also if they are
killed. A rank that is killed before that leaves its folder, `minivit-images-...`. Only the user who started the ranks
can read it. It lies in the folder for temporary files, which the environment variable TMPDIR chooses.
"""

import json
import tempfile
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np

from ..data import Dataset
from ..data.dataset import pair_hashes, pixel_counts
from ..parallel.ranks.alone import Alone
from ..weight_formats.safetensors_io import read_tensors, write_tensors

_PARTS = [f"{part}_{what}" for part in ("train", "test", "val") for what in ("images", "labels")]


def load_once(ranks: Alone, load: Callable[[], Dataset]) -> Dataset:
    """Return the data set that `load` loads. It is called by one rank of each machine, and all map its images.

    Parameters
    ----------
    ranks : Alone
        All of them call this. A single one keeps the images in its own memory.
    load : function
        Its errors end all ranks.

    Raises
    ------
    OSError
        If the images cannot be written, for example because the folder for temporary files is full.
    ValueError
        If two machines have the same name, or ranks of one machine do not see the same folder for temporary files.
    """
    if ranks.size == 1:
        return load()
    loader = ranks.allgather(ranks.host).index(ranks.host)
    loaded = load() if loader == ranks.rank else None
    with _temporary_folder() if loaded else nullcontext() as folder:
        own = _write(loaded, folder) if loaded else None
        path, digest = ranks.allgather(own)[loader]
        if not Path(path).exists():
            raise ValueError(f"{ranks} does not see {path} of rank {loader}, although both are on a machine named "
                             f"{ranks.host}: give each machine its own name, or set TMPDIR to a folder that all ranks "
                             "of the machine see")
        del loaded
        data = _read(path)
        ranks.allgather(None)                                         # all have opened it
    _compute_in_shares(ranks, data, digest)
    return data


def _temporary_folder():
    return tempfile.TemporaryDirectory(prefix="minivit-images-", ignore_cleanup_errors=True)


def _write(data, folder):
    """Write a data set to a file -> its path, and the digest of the data."""
    rest = {field.name: getattr(data, field.name) for field in fields(data) if field.name not in _PARTS}
    arrays = {name: array for name in _PARTS if (array := getattr(data, name)) is not None}
    path, text = Path(folder, "images"), np.frombuffer(json.dumps(rest).encode(), np.uint8)
    try:
        write_tensors(path, arrays | {"rest": text}, {})
    except OSError as error:
        raise OSError(error.errno, f"the images for all ranks cannot be written: {error.strerror}; set TMPDIR to "
                      "another folder", str(path)) from None
    return [str(path), data.ordered_digest]


def _read(path):
    """Return the data set in a file that `_write` has made."""
    arrays = dict(read_tensors(path)[0])
    rest: dict[str, Any] = json.loads(arrays.pop("rest").tobytes())
    lists = {name: tuple(value) for name, value in rest.items() if isinstance(value, list)}      # JSON has no tuples
    labels = {name: np.array(array) for name, array in arrays.items() if name.endswith("labels")}
    return Dataset(**(rest | lists | arrays | labels))


def _compute_in_shares(ranks, data, digest):
    """Give the data set its hashes and pixel counts; each rank reads only its share of the images for them."""
    hashes, counts = [], []
    for part, (images, labels) in data.parts.items():
        edges = ranks.edges(len(images))
        own = slice(*edges[ranks.rank:ranks.rank + 2])
        rows = np.zeros((len(images), 40), np.uint8)
        rows[own] = pair_hashes(images[own], labels[own])
        ranks.allgather_rows(rows, edges)
        hashes.append(rows)
        if part == "train":
            counts = ranks.allgather(pixel_counts(images[own]).tolist())
    known = {"ordered_digest": digest, "hashes": np.concatenate(hashes), "pixel_counts": np.sum(counts, axis=0)}
    vars(data).update(known)                                          # as its cached properties would have them
