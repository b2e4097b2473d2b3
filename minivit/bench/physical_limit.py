"""The physical limit of a core: a matrix product whose numbers never leave the registers and the first cache.

`minivit/matrix_products/register_tiles.py` explains a tile. Here the same tile is computed over and over, from an A and
a B that stay in the first cache. Nothing waits for memory. We know of no faster product.
"""

from typing import Any

import numpy as np

from ..matrix_products.register_tiles import R, W, repeat_tile

TILES, K = 4_000, 128                                                 # tiles of one call; A and B have at most 23 kB
FLOPS = TILES * 2 * R * K * W


def tiles(threads: int) -> Any:
    """Return a function that multiplies tiles on each of some threads at the same time, FLOPS on each of them."""
    from ..parallel.threads import Workers

    workers = Workers(threads)
    parts = [[np.ones(shape, np.float32) for shape in ((R, K), (K, W), (R + 1, W))] for _ in range(threads)]
    return lambda: workers.map(lambda part: repeat_tile(*part, TILES), parts)
