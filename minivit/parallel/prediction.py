"""Inference on all cores.

Usually each thread takes micro-batches of images and runs them through the model alone. If there are fewer images than
threads, BLAS splits each matrix product among the threads instead, and the last bits of the logits may depend on the
number of threads.

Micro-batches are recorded and replayed (see `minivit/kernel_replay/`). The records stay with the model for later calls,
until one of its options changes, or its weights move to other memory.
"""

import contextlib
from typing import Any

import numpy as np

from ..kernel_replay import Memory, Replayed, Tracked, shared_memory
from ..layers import Parameter
from ..matrix_products import products_shared
from .batch_split import BatchSplit
from .blas import blas_threads
from .ranks.alone import ALONE, Alone
from .threads import Workers


def predict(model: Any, images: np.ndarray, threads: int | None = None, ranks: Alone = ALONE) -> np.ndarray:
    """Compute the logits of images, without caches for a backward.

    Parameters
    ----------
    model : Model
    images : (B, H, W, C)
    threads : int, optional
        Number of threads (default: the cores this process may use).
    ranks : Alone
        The processes that share the micro-batches, see `ranks/`. Each gets all logits.

    Returns
    -------
    (B, K)
        The logits, in the model's dtype.
    """
    workers, logits = Workers(threads), np.empty((len(images), model.classes), model.dtype)
    if not len(images):
        return logits
    split = BatchSplit.for_batch(len(images), model.matmul_rows)
    micro_batches = [part for shard in split.shards(len(images)) for part in split.micro_batches(shard)]
    edges = ranks.edges(len(micro_batches))
    alone = len(images) < workers.threads and ranks.size == 1
    kept = vars(model).setdefault("_readers", {})
    current = alone, *_fingerprint(model)
    readers = kept.setdefault(current, [])
    for outdated in [key for key in list(kept) if key[1:] != current[1:]]:
        kept.pop(outdated, None)

    def run(part):
        reader = _take_reader(readers, workers.threads, model)
        try:
            logits[part] = reader(images[part])[0]
        finally:
            reader.memory.lock.release()
        readers.append(reader)

    with blas_threads(workers.threads if alone else 1), products_shared(alone):
        (Workers(1) if alone else workers).map(run, micro_batches[edges[ranks.rank]:edges[ranks.rank + 1]])
    starts = [*(part.start for part in micro_batches), len(images)]
    ranks.allgather_rows(logits, [starts[edge] for edge in edges])
    return logits


class SharedPrediction:
    """Wrap a model so that ranks share the work of `predict`. `evaluate` accepts it as it accepts the model.

    Parameters
    ----------
    model : Model
    ranks : Alone
    """

    def __init__(self, model: Any, ranks: Alone) -> None:
        self.model, self.ranks, self.classes = model, ranks, model.classes

    def predict(self, images: np.ndarray, threads: int | None = None) -> np.ndarray:
        """Return the logits (B, K) of images (B, H, W, C)."""
        self.model.check(images)
        return predict(self.model, images, threads, self.ranks)


def _take_reader(readers, threads, model):
    """Return a reader that nobody uses, with the lock of its memory held."""
    for _ in range(len(readers)):
        with contextlib.suppress(IndexError):                         # another thread took the last one
            reader = readers.pop(0)
            if reader.memory.lock.acquire(blocking=False):
                return reader
            readers.append(reader)
    for memory in (*map(shared_memory, range(threads)), Memory()):
        if memory.lock.acquire(blocking=False):
            break
    return _Reader(model, memory)


def not_replayed(model: Any) -> str:
    """Return why predictions of a model run as written instead of being replayed; empty if they are replayed."""
    kept = vars(model).get("_readers", {})
    return next((reader.reason for readers in kept.values() for reader in readers if reader.reason), "")


def _fingerprint(model):
    """Return what decides the result besides the values of the weights: where they lie, and every layer's options."""
    found: list[Any] = []
    for _, item in model.walk():
        if isinstance(item, Parameter):
            found.append(item.data.__array_interface__["data"][0])
        else:
            found += [_option(value) for name, value in list(vars(item).items()) if name[0] != "_"]
    return tuple(found)


def _option(value):
    """Return a number or a text as it is, a tuple with its items treated alike, and who it is for anything else."""
    if isinstance(value, tuple):
        return tuple(map(_option, value))
    return value if isinstance(value, int | float | str | None) else id(value)


class _Reader(Replayed):
    """A model's forward without caches, which is recorded and replayed: it stays with the model for later calls."""

    def __init__(self, model, memory):
        written, recorded = model.inference_view(), model.inference_view(kind=Tracked)
        super().__init__(lambda images: [recorded.forward(images)], lambda images: [written.forward(images)],
                         memory, model.why_not_replayable())
