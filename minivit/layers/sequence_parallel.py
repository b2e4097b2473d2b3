"""One image, several threads: they share its tokens.

Only attention mixes tokens, and even there each query is answered by itself, once all keys and values are known. So each thread takes
some of the tokens through all blocks, and the threads wait once in each:

    qkv[mine] = ask(x)              norm, and the queries, keys and values of my tokens
    wait                            now all keys and values are there
    x = answer(x, qkv)              attention from my queries to all tokens, projection, norm, MLP

Tokens in windows do not look beyond their own: each thread takes some of the windows through a block, lays their tokens back into the
picture, and the threads wait there, for the next windows lie elsewhere.

What a thread computes stays in its core's cache. If instead each product were cut among the threads for itself, as BLAS would do it,
much of what a core reads would have been written by another, and would come from there, far slower than from its own cache.

Source: Li et al., "Sequence Parallelism: Long Sequence Training from System Perspective", arXiv:2105.13120.
"""

import numpy as np

LEAST = 24  # rows for a thread: with 25, a product computes at 0.6 of the rate that it has with 197, with 13 at 0.4


def can_share_tokens(blocks):
    """Whether threads can share the tokens of blocks in a row. In a layer of another class, `ask` and `answer` might not be all."""
    ours = all("project_qkv" in vars(type(block)) and "windows" in vars(type(block.attn)) for block in blocks)
    if not ours or any(block.output_tokens for block in blocks[:-1]):
        return False
    windows = [block.attn.windows for block in blocks]
    return len({None if cut is None else len(cut) for cut in windows}) == 1


def forward(blocks, x, workers=None):
    """x (B, N, D) or (B, H, W, D) through blocks in a row -> y, as the last gives it.

    workers: a reader's, see `Layer.reader`: its threads share the tokens of each image, if they can.
    """
    if workers is None or not can_share_tokens(blocks):
        for block in blocks:
            x = block.forward(x)
        return x
    share = _by_tokens if blocks[0].attn.windows is None else _by_windows
    images = [share(blocks, image.reshape(-1, x.shape[-1]), workers) for image in x]
    return np.stack(images).reshape(len(x), -1, *x.shape[2:])


def by_rows(function, x, width, workers=None):
    """function(x), (..., I) -> (..., width), for a function that treats every row by itself."""
    if workers is None:
        return function(x)
    rows, y = x.reshape(-1, x.shape[-1]), np.empty((*x.shape[:-1], width), x.dtype)

    def run(part, wait):
        y.reshape(-1, width)[part] = function(rows[part])

    workers.parallel_for(run, len(rows), LEAST)
    return y


def _by_tokens(blocks, tokens, workers):
    """tokens (N, D) -> (N, D), or as many as the last block gives."""
    N, D = tokens.shape
    y = np.empty_like(tokens[:blocks[-1].output_tokens])
    qkvs = np.empty((2, 1, N, 3 * D), tokens.dtype)                   # in turn: another thread may still read the last block's

    def run(part, wait):
        x = tokens[None, part]
        for l, block in enumerate(blocks):
            qkv = qkvs[l % 2]
            qkv[:, part] = block.project_qkv(x)
            wait()
            part = slice(part.start, min(part.stop, block.output_tokens or N))
            if part.start >= part.stop:                               # nobody reads my tokens of the last block
                return
            bias = block.attn.bias()
            x = block.attend_and_mlp(x[:, :part.stop - part.start], qkv, bias if bias is None else bias[..., part, :], part)
        y[part] = x[0]

    workers.parallel_for(run, N, LEAST)
    return y


def _by_windows(blocks, tokens, workers):
    """tokens (N, D) of a picture, row by row -> (N, D)."""
    pictures = np.stack([tokens, tokens])                             # in turn: one to read, one to write

    def run(part, wait):
        for l, block in enumerate(blocks):
            mine = block.attn.windows[part]
            x = pictures[l % 2][mine]                                 # (my windows, n, D)
            pictures[(l + 1) % 2][mine] = block.attend_and_mlp(x, block.project_qkv(x), block.attn.bias(part))
            wait()

    workers.parallel_for(run, len(blocks[0].attn.windows))
    return pictures[len(blocks) % 2]
