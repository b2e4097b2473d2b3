"""Inference on all cores.

Usually each thread takes micro-batches of images and runs them through the model alone. If there are fewer images
than threads, some threads would have nothing to do. Then the threads split the work on each image:

- Models whose threads can share the tokens of an image do so if the image has enough tokens (see
  `layers/sequence_parallel.py`).
- For other models, BLAS splits each matrix product among the threads.

In these two cases the last bits of the logits may depend on the number of threads.
"""

import queue
from typing import Any

import numpy as np

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
    views: queue.SimpleQueue = queue.SimpleQueue()                    # one for each thread
    for _ in range(min(workers.threads, len(micro_batches))):
        views.put(model.inference_view())

    def run(part):
        view = views.get()
        try:
            logits[part] = view.forward(images[part])
        finally:
            views.put(view)

    with blas_threads(1):
        workers.map(run, micro_batches)
    return logits
