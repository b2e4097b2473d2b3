"""Inference on all cores.

Usually each thread takes micro-batches of images and runs them through the model alone. If there are fewer images
than threads, some threads would have nothing to do. Then the threads split the work on each image:

- Models whose threads can share the tokens of an image do so if the image has enough tokens (see
  `layers/sequence_parallel.py`).
- For other models, BLAS splits each matrix product among the threads.

In these two cases the last bits of the logits may depend on the number of threads.
"""

import contextlib
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

from ..replay import Replayed, Tracked
from .batch_split import BatchSplit
from .blas import blas_threads
from .threads import Workers

MIN_SHARED_ROWS = 128   # tokens of an image that threads share: with fewer, they wait longer than they compute


def predict(model: Any, images: np.ndarray, threads: int | None = None) -> np.ndarray:
    """Compute the logits of images. No cache is kept.

    Parameters
    ----------
    model : Model
    images : (B, H, W, C)
    threads : int, optional
        Number of threads (default: the cores this process may use).

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
    if len(images) < workers.threads and (model.matmul_rows >= MIN_SHARED_ROWS or not model.shares_tokens):
        view = model.inference_view(workers if model.shares_tokens else None)
        with blas_threads(1 if model.shares_tokens else workers.threads):
            for part in micro_batches:
                logits[part] = view.forward(images[part])
        return logits
    readers = _readers.setdefault(model, [])                          # appending and popping are atomic

    def run(part):
        reader = _take_reader(model, readers)
        logits[part] = reader(images[part])[0]
        readers.append(reader)

    with blas_threads(1):
        workers.map(run, micro_batches)
    return logits


def not_replayed(model: Any) -> str:
    """Return why predictions of a model run as written instead of being replayed; empty if they are replayed."""
    return next((reader.reason for reader in _readers.get(model, ()) if reader.reason), "")


_readers: WeakKeyDictionary = WeakKeyDictionary()                     # of each model: what its threads predict with


def _take_reader(model, readers):
    """Return a reader that no other thread uses: a kept one, if the model's weights still lie where they did."""
    places = [p.data.__array_interface__["data"][0] for p in model.parameters()]
    while readers:
        with contextlib.suppress(IndexError):                         # another thread took the last one
            reader = readers.pop()
            if reader.places == places:
                return reader
    return _Reader(model, places)


class _Reader(Replayed):
    """A model's forward without caches, which is recorded and replayed: it stays with the model for later calls."""

    def __init__(self, model, places):
        written, recorded = model.inference_view(), model.inference_view(kind=Tracked)
        super().__init__(lambda images: [recorded.forward(images)], lambda images: [written.forward(images)])
        self.places = places
