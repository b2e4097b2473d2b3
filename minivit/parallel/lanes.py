"""Lanes: data parallelism within one process.

A batch is split into shards. Each share has a *lane*: a replica of the model (the same weights, its own gradients and caches) that
runs forward and backward from start to end on one thread, with BLAS held to one thread too. Then the lanes'
gradients are added, in the order of the lanes.

    batch ----> share 0 ---> lane 0: forward, loss, backward ---> gradient 0 --+
           |--> share 1 ---> lane 1: forward, loss, backward ---> gradient 1 --+--> sum in order --> clip, AdamW
           |--> share 2 ---> lane 2: ...                     ---> gradient 2 --+
           ...

Why so: one thread per share needs no synchronisation between the layers, keeps its arrays in its core's cache, and
scales even with small matrices, where a threaded BLAS waits more than it computes.

A share that is too large for a core's caches is run in several *passes* of `micro_batch` images, one after the other, whose
gradients are added too (gradient accumulation).

The split depends on the work alone (images, and what each takes) and never on the machine; the number of threads only decides how many lanes
run at once. So a seed gives the same bits with 1, 2 or 16 threads, on one machine and one set of libraries.

Only in the inference of fewer images than threads there may be no lanes: the threads share the tokens of each image, if it is large (see
`layers/sequence_parallel.py`), or, of a model that cannot share, BLAS cuts each product among them.
"""

import numpy as np

from ..kernel import kernel
from ..layers.block import Block
from ..layers.dropout import use_generator
from ..ops import cross_entropy
from ..ops.philox import Generator
from .batch_split import BatchSplit, chunks
from .blas import blas_threads
from .threads import Workers


def supervised(model, images, targets, batch):
    """Forward, loss and backward of a share of a batch of so many images -> (loss, divided by the batch; logits (B, K))."""
    logits = model.forward(images)
    loss, cache = cross_entropy.forward(logits, targets, batch)
    model.backward(cross_entropy.backward(1.0, cache))
    return float(loss), logits


class Lane:
    """A replica of the model with its random numbers, and the sum of its passes' gradients. objective, recompute: as for `Lanes`."""

    def __init__(self, model, seed, objective=supervised, recompute=False):
        self.replica, self.objective = model.replica(), objective
        blocks = [layer for _, layer in self.replica.named_layers() if isinstance(layer, Block)]
        if recompute and not blocks:
            raise ValueError(f"{type(model).__name__} has no transformer blocks whose activations could be computed again")
        for block in blocks:
            block.recompute = recompute
        self.rng = Generator(seed)
        use_generator(self.replica, self.rng)
        self.gradients = self._of_one_pass = self.replica.gradients
        self._of_all_passes = None

    def run(self, images, targets, passes, augment=None):
        """Forward and backward over this lane's passes of the batch -> (loss, correct predictions); the loss is divided by the batch."""
        loss, correct, self.gradients = 0.0, 0, self._of_one_pass
        for part in passes:
            self.rng.samples = np.arange(part.start, part.stop)
            x, t = augment(images, targets, self.rng) if augment else (images[part], targets[part])
            part_loss, logits = self.objective(self.replica, x, t, len(images))
            loss += part_loss
            correct += int((logits.argmax(axis=1) == t.argmax(axis=1)).sum())
            # A backward overwrites the replica's gradients: those of a single pass stay there; of several, the sum is kept elsewhere.
            if self.gradients is not self._of_one_pass:
                self.gradients += self._of_one_pass
            elif len(passes) > 1:
                if self._of_all_passes is None:
                    self._of_all_passes = np.empty_like(self._of_one_pass)
                self.gradients = self._of_all_passes
                np.copyto(self.gradients, self._of_one_pass)
        return loss, correct


class Lanes:
    """The lanes of one model: `forward_backward` fills `model.gradients` with the gradient of a whole batch.

    split: of every batch, as a run has noted it (default: `BatchSplit.for_batch` each). augment: an `Augmentation`, or another function
    (images, targets, rng) -> (images, targets) from the whole batch to the varied share of `rng.samples`. objective: what each lane does
    with its share, as `supervised`; lanes call it at the same time. recompute: whether blocks compute their activations anew in the
    backward, see `layers/block.py`.
    """

    def __init__(self, model, seed=0, threads=None, split=None, augment=None, objective=supervised, recompute=False):
        self.model, self.seed, self.split, self.augment, self.objective, self.recompute = model, seed, split, augment, objective, recompute
        self.workers = Workers(threads)
        self.weights, self.gradients = model.vector, model.gradients
        self._lanes = []

    def forward_backward(self, images, targets, step, epoch=0, dataset_indices=None):
        """images (B, H, W, C), targets (B, K) -> (mean loss, correct predictions, norm of the gradient).

        epoch, numbers (B,): which time the data are gone through, and where in them the images stand; augmentation may ask.
        """
        split = self.split or BatchSplit.for_batch(len(images), self.model.matmul_rows)
        passes = [split.micro_batches(share) for share in split.shards(len(images))]
        self._lanes += [Lane(self.model, self.seed, self.objective, self.recompute) for _ in range(len(passes) - len(self._lanes))]
        lanes = self._lanes[:len(passes)]
        for lane in lanes:
            lane.rng.start_batch(step, epoch, np.arange(len(images)) if dataset_indices is None else dataset_indices)
        with blas_threads(1):
            results = self.workers.map(lambda job: job[0].run(images, targets, job[1], self.augment),
                                       list(zip(lanes, passes, strict=True)))
            squares = self.workers.map(lambda chunk: self._sum(lanes, chunk), chunks(0, self.weights.size))
        losses, correct = zip(*results, strict=True)
        return sum(losses), sum(correct), float(np.sqrt(sum(squares)))

    def _sum(self, lanes, chunk):
        """Add the lanes' gradients in their order; returns the sum of squares, in float64."""
        total = self.gradients[chunk]
        total[...] = lanes[0].gradients[chunk]
        for lane in lanes[1:]:
            total += lane.gradients[chunk]
        return _sum_of_squares(total)


@kernel
def _sum_of_squares(x):
    total = 0.0
    for i in range(x.size):
        total += np.float64(x[i]) * np.float64(x[i])
    return total
