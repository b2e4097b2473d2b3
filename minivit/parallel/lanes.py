"""Lanes: how training uses all cores (data parallelism within one process).

A batch is split into *shards*. Each shard has a *lane*, which runs a *replica* of the model forward and backward. A
replica shares the model's weights and has its own gradients and caches. Each thread runs one lane after another. Then
the lanes' gradients are added: an *all-reduce in a fixed order*, because floating-point sums depend on the order.

    batch ----> shard 0 ---> lane 0: forward, loss, backward ---> gradient 0 --+
           |--> shard 1 ---> lane 1: forward, loss, backward ---> gradient 1 --+--> sum in order --> clip, AdamW
           |--> shard 2 ---> lane 2: ...                     ---> gradient 2 --+
           ...

Why not let BLAS, NumPy's library for matrix products, split each product among the cores? Its threads would wait for
each other in every layer; with small matrices they would wait longer than they compute. A lane runs alone from start to
end, with BLAS on one thread, and finds its arrays in its core's cache. A shard that is too large for the cache runs as
several *micro-batches*, one after the other, whose gradients are added (gradient accumulation).

How a batch is split depends only on the batch size and the model. The number of threads only decides how many lanes
run at the same time. So a seed gives the same weights, bit for bit, with 1, 2 or 16 threads, on one machine with one
set of libraries. The lanes may also be on several machines: see `ranks/`. Read before: `batch_split.py`,
`layers/layer.py`.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..kernel import sum_of_squares
from ..ops import cross_entropy
from ..ops.philox import Generator
from .batch_split import BatchSplit
from .blas import blas_threads
from .lane_gradient import LaneGradient
from .ranks.alone import ALONE, Alone
from .replayed_replica import Replicas
from .threads import Workers

Objective = Callable[[Any, np.ndarray, np.ndarray, int], tuple[np.ndarray, np.ndarray]]


def supervised(model: Any, images: np.ndarray, targets: np.ndarray, batch: int) -> tuple[np.ndarray, np.ndarray]:
    """Run forward, cross-entropy and backward on a part of a batch: images (B, H, W, C), targets (B, K).

    Return (loss, logits (B, K)). The loss is the sum over these images divided by `batch`, the whole batch's size.
    """
    logits = model.forward(images)
    loss, cache = cross_entropy.forward(logits, targets, batch)
    model.backward(cross_entropy.backward(1.0, cache))
    return loss, logits


class Lane:
    """A replica of the model, its random numbers, and the gradient of its shard."""

    def __init__(self, replicas: Replicas, seed: int) -> None:
        self.rng, self.forward_backward = Generator(seed), replicas.make()
        self.gradient = LaneGradient(self.forward_backward)

    def run(self, images: np.ndarray, targets: np.ndarray, micro_batches: Sequence[slice],
            augment: Callable | None = None) -> tuple[float, int]:
        """Run some micro-batches of a whole batch -> (their part of the mean loss, number of correct predictions)."""
        loss, correct, step = 0.0, 0, np.array(self.rng.step, np.uint64)
        with self.forward_backward.memory.lock:                       # other lanes may share the memory
            for part in micro_batches:
                self.rng.samples = np.arange(part.start, part.stop, dtype=np.uint64)
                x, t = augment(images, targets, self.rng) if augment else (images[part], targets[part])
                part_loss, logits = self.forward_backward(x, t, step, self.rng.samples, batch=len(images))
                loss += float(part_loss)
                correct += int((logits.argmax(axis=1) == t.argmax(axis=1)).sum())
                self.gradient.end_micro_batch()
        return loss, correct


class Lanes:
    """The lanes of one model. `forward_backward` computes the gradient of a batch into `model.gradients`.

    Parameters
    ----------
    model, seed, threads, recompute
        As for `Trainer`.
    split : BatchSplit, optional
        How to split every batch (default: `BatchSplit.for_batch`).
    augment : function, optional
        Such as an `Augmentation`: (images, targets, rng) -> those of `rng.samples`, indices in the batch, changed.
    objective : function
        What a lane does with a micro-batch; see `supervised`. Several threads call it at the same time.
    replay : bool
        Whether to record micro-batches and replay them: faster, with the same bits (see `minivit/kernel_replay/`).
    ranks : Alone
        The processes that share the lanes, see `ranks/`. Their models are equal, and so are the batches.
    """

    def __init__(self, model: Any, seed: int = 0, threads: int | None = None, split: BatchSplit | None = None,
                 augment: Callable | None = None, objective: Objective = supervised, recompute: bool = False,
                 replay: bool = True, ranks: Alone = ALONE) -> None:
        self.model, self.seed, self.split, self.augment, self.gradients = model, seed, split, augment, model.gradients
        self.workers, self._lanes, self.ranks = Workers(threads), list[Lane](), ranks
        self.replicas = Replicas(model, seed, objective, recompute, replay, self.workers.threads)

    def forward_backward(self, images: np.ndarray, targets: np.ndarray, step: int, epoch: int = 0,
                         dataset_indices: np.ndarray | None = None) -> tuple[float, int, float]:
        """Images (B, H, W, C), targets (B, K) -> (mean loss, number of correct predictions, norm of the gradient).

        step, epoch, dataset_indices (B,): keys of the random numbers, as for `Trainer.step`.
        """
        split = self.split or BatchSplit.for_batch(len(images), self.model.matmul_rows)
        shards = [split.micro_batches(shard) for shard in split.shards(len(images))]
        own = shards[self.ranks.own(len(shards))]
        self._lanes += [Lane(self.replicas, self.seed) for _ in own[len(self._lanes):]]
        jobs = list(zip(self._lanes, own, strict=False))              # a smaller batch may need fewer lanes
        lanes = [lane for lane, _ in jobs]
        for lane, micro_batches in jobs:
            lane.rng.start_batch(step, epoch, np.arange(len(images)) if dataset_indices is None else dataset_indices)
            lane.gradient.start_batch(len(micro_batches))
        with blas_threads(1):
            results, squares = self.ranks.ordered_allreduce(
                self.workers, self.gradients,
                compute=lambda: self.workers.map(lambda job: job[0].run(images, targets, job[1], self.augment), jobs),
                is_final=lambda chunk: all(lane.gradient.is_final(chunk) for lane in lanes),
                add_own=lambda chunk, first: self._add(lanes, chunk, first),
                finish=lambda chunk: sum_of_squares(self.gradients[chunk]))
        losses, correct = zip(*self.ranks.allgather_lanes(results, len(shards)), strict=True)
        return sum(losses), sum(correct), float(np.sqrt(sum(squares)))

    def _add(self, lanes, chunk, first):
        """Add the lanes' gradients in the order of the lanes, for one chunk; first: the total is still undefined."""
        for lane in lanes:
            lane.gradient.add_to(self.gradients[chunk], chunk, first and lane is lanes[0])
