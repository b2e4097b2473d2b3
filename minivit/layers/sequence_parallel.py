"""Sequence parallelism: several threads split the tokens of one image.

Read `block.py` before. Training uses only the first lines of `forward`, which run the blocks one after the other. The
rest of this file serves inference, and a learner can skip it. Only attention mixes tokens, and even there the output of
a token needs only its own query, and all keys and values. So each thread takes some of the tokens through all blocks,
and the threads wait for each other once in each block:

    qkv[mine] = project_qkv(x)             norm; queries, keys and values of my tokens
    wait                                   now all keys and values are there
    x = attend_and_mlp(x, qkv)             attention from my queries to all tokens, projection, norm, MLP

With attention in windows, each thread takes some of the windows through a block and writes their tokens back into the
map. Then the threads wait, because the windows of the next block lie elsewhere.

What a thread computes stays in the cache of its core. If instead BLAS split each matrix product among the threads, a
core would read much that another core has written. That is far slower.

Source: Li et al., "Sequence Parallelism: Long Sequence Training from System Perspective", arXiv:2105.13120.
"""

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np

from ..ops import attention_variants
from .attention import Attention
from .attention_variants import AttentionVariant
from .block import Block
from .window import WindowAttention

LEAST = 24  # rows for a thread: matrix products of 25 rows run at 0.6 of the speed of 197 rows, of 13 rows at 0.4


class Workers(Protocol):
    """The threads that split the work: `minivit.parallel.threads.Workers`."""

    def parallel_for(self, task: Callable[[slice, Callable[[], object]], object], count: int, least: int = 1) -> None:
        """Run task(part, wait) for equal parts of range(count), one in each thread."""


def can_share_tokens(blocks: Sequence[Any]) -> bool:
    """Whether threads can split the tokens of blocks in a row. Not those of subclasses, which may compute anything."""
    known = Attention, AttentionVariant, WindowAttention
    if not all(type(block) is Block and type(block.attn) in known for block in blocks):
        return False
    if any(block.output_tokens for block in blocks[:-1]):
        return False
    return len({None if windows is None else len(windows) for windows in map(_windows, blocks)}) == 1


def _windows(block: Block) -> np.ndarray | None:
    """Return the tokens of each window (G, n); None if all tokens attend to each other."""
    return block.attn.windows if isinstance(block.attn, WindowAttention) else None


def forward(blocks: Sequence[Any], x: np.ndarray, workers: Workers | None = None) -> np.ndarray:
    """Run blocks in a row.

    Parameters
    ----------
    blocks : sequence of Layer
        The blocks.
    x : np.ndarray
        Tokens (B, N, D) or (B, H, W, D).
    workers : Workers, optional
        Threads that split the tokens of each image, if the blocks allow it.

    Returns
    -------
    y : np.ndarray
        Output of the last block.
    """
    if workers is None or not can_share_tokens(blocks):
        for block in blocks:
            x = block.forward(x)
        return x
    split = _by_tokens if _windows(blocks[0]) is None else _by_windows
    images = [split(blocks, image.reshape(-1, x.shape[-1]), workers) for image in x]
    return np.stack(images).reshape(len(x), -1, *x.shape[2:])


def by_rows(function: Callable[[np.ndarray], np.ndarray], x: np.ndarray, width: int,
            workers: Workers | None = None) -> np.ndarray:
    """Map each row of x (..., I) by `function`, which treats rows independently -> (..., width). Threads split rows."""
    if workers is None:
        return function(x)
    rows, y = x.reshape(-1, x.shape[-1]), np.empty((*x.shape[:-1], width), x.dtype)

    def run(part: slice, wait: Callable[[], object]) -> None:
        y.reshape(-1, width)[part] = function(rows[part])

    workers.parallel_for(run, len(rows), LEAST)
    return y


def project_qkv(block: Block, x: np.ndarray) -> np.ndarray:
    """Block, tokens x (B, N, D) -> their queries, keys and values (B, N, 3 D)."""
    return block.attn.qkv.forward(block.norm1.forward(x))


def attend_and_mlp(block: Block, x: np.ndarray, qkv: np.ndarray, bias: np.ndarray | None = None,
                   queries: slice = attention_variants.ALL) -> np.ndarray:
    """Block, tokens x (B, T, D), which are the `queries` among those of qkv (B, N, 3 D) -> y (B, T, D)."""
    y, _ = attention_variants.forward(qkv, block.attn.heads, bias, queries)
    x = x + block.attn.proj.forward(y)
    return x + block.mlp.forward(block.norm2.forward(x))


def _by_tokens(blocks: Sequence[Block], tokens: np.ndarray, workers: Workers) -> np.ndarray:
    """tokens (N, D) -> (N, D), or as many as the last block computes."""
    N, D = tokens.shape
    y = np.empty_like(tokens[:blocks[-1].output_tokens])
    qkvs = np.empty((2, 1, N, 3 * D), tokens.dtype)                   # alternate: others may still read the last one

    def run(part: slice, wait: Callable[[], object]) -> None:
        x = tokens[None, part]
        for l, block in enumerate(blocks):
            qkv = qkvs[l % 2]
            qkv[:, part] = project_qkv(block, x)
            wait()
            part = slice(part.start, min(part.stop, block.output_tokens or N))
            if part.start >= part.stop:                               # nobody reads my tokens of the last block
                return
            bias = None if type(block.attn) is Attention else block.attn.bias()
            mine = x[:, :part.stop - part.start]
            x = attend_and_mlp(block, mine, qkv, bias if bias is None else bias[..., part, :], part)
        y[part] = x[0]

    workers.parallel_for(run, N, LEAST)
    return y


def _by_windows(blocks: Sequence[Block], tokens: np.ndarray, workers: Workers) -> np.ndarray:
    """tokens (N, D) of an image, row by row -> (N, D)."""
    windows = [block.attn.windows for block in blocks]                # (G, n) each
    maps = np.stack([tokens, tokens])                                 # alternate: one to read, one to write

    def run(part: slice, wait: Callable[[], object]) -> None:
        for l, block in enumerate(blocks):
            mine = windows[l][part]
            x = maps[l % 2][mine]                                     # (my windows, n, D)
            maps[(l + 1) % 2][mine] = attend_and_mlp(block, x, project_qkv(block, x), block.attn.bias(part))
            wait()

    workers.parallel_for(run, len(windows[0]))
    return maps[len(blocks) % 2]
