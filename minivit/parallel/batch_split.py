"""How a batch is split: into shards, one for each lane, and each shard into micro-batches.

    batch of 128 images -> 4 shards of 32 -> 2 micro-batches of 16 in each

A *lane* (see `lanes.py`) trains on one *shard*. It runs the shard's *micro-batches* one after the other, so that the
arrays of one micro-batch fit into a core's cache. How a batch is split depends only on the batch size and the model,
never on the number of cores. The split decides the order in which gradients are added, so it decides how they are
rounded.
"""

import math
from dataclasses import dataclass
from itertools import pairwise

MICRO_BATCH_ROWS = 1750    # rows of a matrix product, at most: enough for BLAS to be fast, few enough for the cache
MAX_LANES = 16
CHUNK = 65_536             # weights that one task handles


@dataclass(frozen=True)
class BatchSplit:
    """A split into at most `lanes` shards, whose micro-batches have at most `micro_batch` images each.

    >>> split = BatchSplit.for_batch(7, rows=1000)
    >>> [split.micro_batches(shard) for shard in split.shards(7)][:2]
    [[slice(0, 1, None)], [slice(1, 2, None)]]
    """

    lanes: int
    micro_batch: int

    @classmethod
    def for_batch(cls, batch: int, rows: int) -> "BatchSplit":
        """Return the split for a batch of images that each add `rows` rows to a matrix product (`Model.matmul_rows`).

        The number of lanes is 2, 4, 8 or 16, so that lanes divide evenly among cores, or the number of images if that
        is smaller.
        """
        micro_batch = max(1, MICRO_BATCH_ROWS // rows)
        lanes = 2
        while lanes < MAX_LANES and lanes * micro_batch < batch:
            lanes *= 2
        return cls(min(lanes, batch), micro_batch)

    def shards(self, batch: int) -> list[slice]:
        """Return the lanes' slices of a batch. Their lengths differ by at most one image, and none is empty."""
        return split_evenly(slice(0, batch), self.lanes)

    def micro_batches(self, shard: slice) -> list[slice]:
        """Return the slices of one shard, in the order in which the lane runs them."""
        return split_evenly(shard, math.ceil((shard.stop - shard.start) / self.micro_batch))


def split_evenly(whole: slice, parts: int) -> list[slice]:
    """Split a slice into parts whose lengths differ by at most one. Empty parts are left out."""
    length = whole.stop - whole.start
    edges = [whole.start + length * i // parts for i in range(parts + 1)]
    return [slice(a, b) for a, b in pairwise(edges) if a < b]


def chunks(start: int, stop: int) -> list[slice]:
    """Split the indices from `start` to `stop` of a vector into slices of at most CHUNK, one for each task."""
    return [slice(a, min(a + CHUNK, stop)) for a in range(start, stop, CHUNK)]
