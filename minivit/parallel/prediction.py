"""Inference on all cores."""

import queue

import numpy as np

from .batch_split import BatchSplit
from .blas import blas_threads
from .threads import Workers

MIN_SHARED_ROWS = 128   # of an image at least, for threads to share it: with fewer they wait for each other more than they compute


def predict(model, images, threads=None):
    """Logits (B, K) of images (B, H, W, C), computed in lanes; no cache is kept.

    Of fewer images than threads, threads share each, if it is large; of a model that cannot share, each product (see above). Then the bits
    may depend on the number of threads.
    """
    workers, logits = Workers(threads), np.empty((len(images), model.classes), model.dtype)
    if not len(images):
        return logits
    split = BatchSplit.for_batch(len(images), model.matmul_rows)
    passes = [part for share in split.shards(len(images)) for part in split.micro_batches(share)]
    if len(images) < workers.threads and (model.matmul_rows >= MIN_SHARED_ROWS or not model.shares_tokens):
        reader = model.inference_view(workers if model.shares_tokens else None)
        with blas_threads(1 if model.shares_tokens else workers.threads):
            for part in passes:
                logits[part] = reader.forward(images[part])
        return logits
    readers: queue.SimpleQueue = queue.SimpleQueue()
    for _ in range(min(workers.threads, len(passes))):
        readers.put(model.inference_view())

    def run(part):
        reader = readers.get()
        try:
            logits[part] = reader.forward(images[part])
        finally:
            readers.put(reader)

    with blas_threads(1):
        workers.map(run, passes)
    return logits
