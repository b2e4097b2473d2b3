"""The process of one contestant. It makes its model and answers the driver line by line.

    python -m minivit.bench.worker NAME THREADS FOLDER
"""

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from ..matrix_products import register_tiles
from . import physical_limit
from .contestant import Contestant, product


def _make(name, threads, folder):
    """Return the contestant of that name on the model and batch in `folder`."""
    shape = json.loads((folder / "shape.json").read_text())
    with np.load(folder / "batch.npz") as batch:
        arrays = {key: batch[key] for key in batch.files}
    images, labels = arrays.pop("images"), arrays.pop("labels")
    given = shape["family"], shape["config"], arrays, images, labels, threads
    if name == "minivit":
        return Contestant(*given)
    if name == "jax":
        from .peers import jax_vit
        return jax_vit.Contestant(*given)
    from .peers import torch_peer
    return torch_peer.Contestant(*given, variant=name.removeprefix("torch").removeprefix("."))


def _products(library, threads, folder):
    """Return pairs (floating-point operations, function) of the products that set the limit."""
    if library == "processor" and register_tiles.V:
        return [(threads * physical_limit.FLOPS, physical_limit.tiles(threads))]
    if library in ("numpy", "processor"):
        make = product
    elif library == "jax":
        from .peers.jax_vit import product as make
    else:
        from .peers.torch_peer import product as make
    shapes = json.loads((folder / "shape.json").read_text())["products"]
    return [(2 * m * k * n, make(m, k, n, threads)) for m, k, n in shapes]


def burst(work: Callable, seconds: float) -> list[float]:
    """Repeat `work` for about this many seconds, at least twice, and return the seconds of each call."""
    times: list[float] = []
    end = time.perf_counter() + seconds
    while len(times) < 2 or time.perf_counter() < end:
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return times


def _peak_memory():
    """Return the peak memory of this process in bytes; None if the system does not tell."""
    try:
        import resource
    except ImportError:
        return None
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def _serve(name, threads, folder):
    """Answer the driver: one JSON line for each of its lines."""
    limit = name.startswith("limit-")
    subject = _products(name.removeprefix("limit-"), threads, folder) if limit else _make(name, threads, folder)
    for line in sys.stdin:
        verb, seconds = line.split()
        if verb == "logits":
            answer = subject.infer().tolist()
        elif verb == "limit":
            answer = [max(flops / np.median(burst(work, float(seconds) / len(subject))) for flops, work in subject)]
        elif verb == "memory":
            answer = _peak_memory()
        else:
            answer = burst(getattr(subject, verb), float(seconds))
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    _arguments = argparse.ArgumentParser(description="One contestant of `minivit bench`; the driver starts it.")
    _arguments.add_argument("name")
    _arguments.add_argument("threads", type=int)
    _arguments.add_argument("folder", type=Path)
    _options = _arguments.parse_args()
    _serve(_options.name, _options.threads, _options.folder)
