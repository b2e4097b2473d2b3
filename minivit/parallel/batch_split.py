"""How a batch is split: into one shard for each lane, and each shard into micro-batches."""

import math
from dataclasses import dataclass
from itertools import pairwise

MICRO_BATCH_ROWS = 1750    # of one pass at most, in a product of a typical block: enough for BLAS, few enough for a core's caches
MAX_LANES = 16
CHUNK = 65_536      # weights whose gradients are summed by one task


@dataclass(frozen=True)
class BatchSplit:
    """How a batch is cut: into `lanes` shares, each run in equal passes of at most `micro_batch` images, in order."""

    lanes: int
    micro_batch: int

    @classmethod
    def for_batch(cls, batch, rows):
        """The cut for a batch of images with `rows` rows of a product each (see `Model.matmul_rows`).

        2, 4, 8 or 16 lanes, so that they divide evenly among cores; as many as there are images, if there are fewer.
        """
        micro_batch = max(1, MICRO_BATCH_ROWS // rows)
        lanes = 2
        while lanes < MAX_LANES and lanes * micro_batch < batch:
            lanes *= 2
        return cls(min(lanes, batch), micro_batch)

    def shards(self, batch):
        """The lanes' slices of a batch, as equal as can be; none is empty."""
        return split_evenly(slice(0, batch), self.lanes)

    def micro_batches(self, shard):
        """The slices of one shard that run one after the other."""
        return split_evenly(shard, math.ceil((shard.stop - shard.start) / self.micro_batch))


def split_evenly(whole, parts):
    """Slices of almost equal length that make up the slice `whole`; an empty one is left out."""
    length = whole.stop - whole.start
    edges = [whole.start + length * i // parts for i in range(parts + 1)]
    return [slice(a, b) for a, b in pairwise(edges) if a < b]


def chunks(start, stop):
    """Fixed slices of a vector from `start` to `stop`: tasks over many weights, which the threads share."""
    return [slice(a, min(a + CHUNK, stop)) for a in range(start, stop, CHUNK)]
