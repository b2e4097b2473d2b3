"""One image, several threads: they share its tokens.

Only attention mixes tokens, and even there each query is answered by itself, once all keys and values are known. So each thread takes
some of the tokens through all blocks, and the threads meet once in each:

    qkv[mine] = ask(x)              norm, and the queries, keys and values of my tokens
    meet                            now all keys and values are there
    x = answer(x, qkv)              attention from my queries to all tokens, projection, norm, MLP

Tokens in windows do not look beyond their own: each thread takes some of the windows through a block, lays their tokens back into the
picture, and the threads meet there, for the next windows lie elsewhere.

What a thread computes stays in its core's cache. If instead each product were cut among the threads for itself, as BLAS would do it, half
of all that a core reads would have been written by the other, and would come from there, far slower than from its own cache.

Source: Li et al., "Sequence Parallelism: Long Sequence Training from System Perspective", arXiv:2105.13120.
"""

import numpy as np


def forward(blocks, x, workers=None):
    """x (B, N, D) or (B, H, W, D) through blocks in a row -> y, as the last gives it. workers: a reader's, see `Layer.reader`."""
    if workers is None or any(block.reads for block in blocks[:-1]):
        for block in blocks:
            x = block.forward(x)
        return x
    return np.stack([_image(blocks, image, workers) for image in x])


def by_rows(function, x, width, workers=None):
    """function(x), (..., I) -> (..., width), for a function that treats every row by itself."""
    if workers is None:
        return function(x)
    rows, y = x.reshape(-1, x.shape[-1]), np.empty((*x.shape[:-1], width), x.dtype)

    def run(part, meet):
        y.reshape(-1, width)[part] = function(rows[part])

    workers.share(run, len(rows))
    return y


def _image(blocks, x, workers):
    """x (N, D) or (H, W, D) of one image -> y."""
    tokens, windows = x.reshape(-1, x.shape[-1]), [block.attn.windows for block in blocks]
    y = _by_windows(blocks, windows, tokens, workers) if len(windows[0]) > 1 else _by_tokens(blocks, tokens, workers)
    return y.reshape(-1, *x.shape[1:])


def _by_tokens(blocks, tokens, workers):
    N, D = tokens.shape
    y, qkvs = np.empty_like(tokens[:blocks[-1].reads]), np.empty((2, 1, N, 3 * D), tokens.dtype)

    def run(part, meet):
        x = tokens[None, part]
        for l, block in enumerate(blocks):
            qkv, bias = qkvs[l % 2], block.attn.bias()                # another thread may still read the one before
            qkv[:, part] = block.ask(x)
            meet()
            part = slice(part.start, min(part.stop, block.reads or N))
            if part.start >= part.stop:                               # nobody reads my tokens of the last block
                return
            x = block.answer(x[:, :part.stop - part.start], qkv, bias if bias is None else bias[..., part, :], part)
        y[part] = x[0]

    workers.share(run, N)
    return y


def _by_windows(blocks, windows, tokens, workers):
    pictures = np.stack([tokens, tokens])                             # one to read, one to write

    def run(part, meet):
        for l, block in enumerate(blocks):
            mine = windows[l][part]
            x = pictures[l % 2][mine]                                 # (my windows, n, D)
            pictures[(l + 1) % 2][mine] = block.answer(x, block.ask(x), block.attn.bias(part))
            meet()

    workers.share(run, len(windows[0]))
    return pictures[len(blocks) % 2]
