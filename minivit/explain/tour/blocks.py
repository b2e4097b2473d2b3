"""What the page shows of each block: norms of all tokens, vectors of some, and the scores of every head.

Read `layers/block.py` and `ops/windows.py` before. Tokens are numbered row by row on their grid, after the class token
if there is one. A query sees n keys: all N tokens or, in a Swin, those of its window.

Many models have more scores than a page can hold: ViT-B/16 has 5.6 million. `Plan` decides what is kept.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...layers import Block, Stage, WindowAttention
from ...ops import relative_bias, windows
from .numbers import Numbers
from .recording import Recording

MOST_NUMBERS = 950_000      # of a page, 2 bytes each: with base64 2.5 MB, which leaves 0.5 MB for image, text and code
FEW_PIXELS = 64 * 64 * 4    # an image with at most so many numbers is in the page exactly
SHARE_OF_SCORES = 0.6       # of the numbers, if a model does not fit
FEWEST_KEYS = 4             # of a row; for fewer, the norms of q, k and v are left out


@dataclass(frozen=True)
class Place:
    """Where a block stands: its path, the path of the layer whose output it reads, the layer, and if tokens merged."""

    path: str
    before: str
    block: Any
    merged: bool


def places(model: Any) -> Iterator[Place]:
    """Yield the place of each block of a ViT, DeiT or Swin, from the first to the last."""
    before = "pos_drop"
    for path, layer in model.named_layers():
        if isinstance(layer, Stage) and layer.downsample:
            before = f"{path}.downsample"
        elif isinstance(layer, Block):
            yield Place(path, before, layer, before.endswith("downsample"))
            before = path


@dataclass(frozen=True)
class Size:
    """The sizes of a block: N tokens, n keys of a query, h, D and F."""

    tokens: int
    keys: int
    heads: int
    width: int
    hidden: int

    @property
    def numbers_of_a_token(self) -> int:
        """Numbers in the vectors of one token that a page shows."""
        return 8 * self.width + self.hidden


def size_of(model: Any, block: Any) -> Size:
    """Return the sizes of a block of the model."""
    attn, (width, hidden) = block.attn, block.mlp.fc1.weight.shape
    if isinstance(attn, WindowAttention):
        return Size(math.prod(attn.grid), math.prod(attn.window), attn.heads, width, hidden)
    return Size(model.tokens, model.tokens, attn.heads, width, hidden)


@dataclass(frozen=True)
class Plan:
    """What a page keeps of a model.

    Attributes
    ----------
    keys : int or None
        How many keys of a row of scores are kept, those with the highest scores; None for all. The rows of class tokens
        are always complete.
    tokens : int or None
        Of how many tokens of a block the vectors are kept; None for all.
    norms : bool
        Whether the norms of q, k and v are kept, of each token in each head.
    numbers : int
        How many numbers that makes.
    """

    keys: int | None
    tokens: int | None
    norms: bool
    numbers: int


def plan(model: Any, most: int = MOST_NUMBERS) -> Plan:
    """Return what fits into `most` numbers. The model needs no weights."""
    sizes = [size_of(model, place.block) for place in places(model)]
    prefix, rows = model.tokens - math.prod(model.grid), sum(s.heads * s.tokens for s in sizes)
    pixels, inputs = math.prod(model.input_shape[:2]), math.prod(model.input_shape)
    always = pixels + (inputs if inputs <= FEW_PIXELS else 0) + 2 * model.tokens + sum(
        10 * s.tokens + s.heads * (s.tokens + (prefix * s.tokens) + 4 * s.keys) for s in sizes)
    scores, norms = sum(s.heads * s.tokens * s.keys for s in sizes), 3 * rows
    if (used := always + scores + norms + _of_vectors(model, sizes, model.tokens)) <= most:
        return Plan(None, None, True, used)
    keys, tokens = _most_keys(scores, rows, most - always - norms), 0
    if keys is not None and keys < FEWEST_KEYS:
        keys, norms = _most_keys(scores, rows, most - always), 0
    used = always + norms + (scores if keys is None else rows * keys)
    while tokens < model.tokens and used + _of_vectors(model, sizes, tokens + 1) <= most:
        tokens += 1
    return Plan(keys, tokens, norms > 0, used + _of_vectors(model, sizes, tokens))


def _most_keys(scores: int, rows: int, numbers: int) -> int | None:
    """Return how many keys of each row fit into a share of so many numbers; None if all scores do.

    A score and the number of its key take 8 bits each.
    """
    part = int(SHARE_OF_SCORES * numbers)
    return None if scores <= part else part // rows


def _of_vectors(model: Any, sizes: list[Size], tokens: int) -> int:
    """Return how many numbers the vectors of so many tokens take: in the blocks, the embedding and the positions."""
    return (sum(min(tokens, s.tokens) * s.numbers_of_a_token for s in sizes)
            + min(tokens, model.tokens) * (2 * model.width + model.tokens))


# ---- attention --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Heads:
    """The attention of one block for one image, with N tokens in G windows of n tokens.

    Attributes
    ----------
    windows : np.ndarray
        (G, n), the tokens of each window, N for the padding; G = 1 without windows.
    q, k, v : np.ndarray
        (h, N, d), of each token.
    scores : np.ndarray
        (h, N, n), q.k / sqrt d + bias of each token and each token of its window; NaN where the mask forbids it.
    table : np.ndarray or None
        (rows, h), the relative position bias.
    """

    windows: np.ndarray
    q: np.ndarray
    k: np.ndarray
    v: np.ndarray
    scores: np.ndarray
    table: np.ndarray | None

    @property
    def log_sums(self) -> np.ndarray:
        """Logarithm of the sum of exp(scores) over the keys, (h, N): probability = exp(score - log_sum)."""
        most = np.nanmax(self.scores, axis=-1)
        return most + np.log(np.nansum(np.exp(self.scores - most[..., None]), axis=-1))


def heads_of(layer: Any) -> Heads:
    """Return the attention that a layer computed in its last forward of one image, before its backward."""
    if isinstance(layer, WindowAttention):
        tokens = math.prod(layer.grid)
        _, _, (qkv, *_) = layer.cache
        table = layer.relative_position_bias_table.data
        bias, _ = relative_bias.forward(table, *layer.window)
        if any(layer.shift):
            mask = windows.mask(layer.grid, layer.window, layer.shift, bias.dtype)
            bias = np.where(mask[:, None] < 0, np.nan, bias)          # (G, h, n, n)
        order, _ = windows.permutation(layer.grid, layer.window, layer.shift)
        order = np.where(order < 0, tokens, order).reshape(-1, math.prod(layer.window))
    else:
        qkv, bias, table = layer.cache[0], None, None
        tokens = qkv.shape[1]
        order = np.arange(tokens)[None]
        if getattr(layer, "rel_pos", None):
            bias, table = layer.bias(), layer.rel_pos.relative_position_bias_table.data
    G, n, width = qkv.shape
    parts = qkv.reshape(G, n, 3, layer.heads, width // (3 * layer.heads)).transpose(2, 0, 3, 1, 4)
    q, k, v = parts                                                   # (G, h, n, d)
    scores = q @ k.swapaxes(-1, -2) / math.sqrt(q.shape[-1])
    scores = scores if bias is None else scores + bias
    q, k, v, scores = (_by_token(part, order, tokens) for part in (q, k, v, scores))
    return Heads(order, q, k, v, scores, table)


def _by_token(x: np.ndarray, order: np.ndarray, tokens: int) -> np.ndarray:
    """Return numbers of the tokens of windows (G, h, n, m) in the order of the tokens, (h, N, m)."""
    G, h, n, m = x.shape
    return x.transpose(1, 0, 2, 3).reshape(h, G * n, m)[:, np.argsort(order.ravel(), kind="stable")[:tokens]]


def encode_scores(heads: Heads, prefix: int, keys: int | None, numbers: Numbers) -> dict[str, Any]:
    """Return the scores as entries of `numbers`: complete rows, or the highest scores and the number of their key."""
    entry = {"log_sums": numbers.add(heads.log_sums)}
    n = heads.scores.shape[-1]
    if keys is None or 2 * keys >= n:                                 # a complete row takes n numbers of 16 bits
        return entry | {"scores": numbers.add(heads.scores)}
    if prefix:
        entry["prefix_scores"] = numbers.add(heads.scores[:, :prefix])
    if not keys:
        return entry
    ranked = np.where(np.isnan(heads.scores), -np.inf, heads.scores)
    highest = np.argpartition(-ranked, keys - 1, axis=-1)[..., :keys]
    return entry | {"keys": numbers.add_whole(highest, 8 if n <= 255 else 16),
                    "scores": numbers.add(np.take_along_axis(heads.scores, highest, axis=-1), 8)}


# ---- one block --------------------------------------------------------------------------------------------


def tokens_of(x: np.ndarray) -> np.ndarray:
    """Return the tokens of the only image of x (1, ..., D), as (N, D)."""
    return x.reshape(-1, x.shape[-1])


def length(x: np.ndarray) -> float:
    """Return the norm of all numbers of x, with six digits."""
    return float(f"{np.linalg.norm(x.astype(np.float64)):.6g}")


def encode_block(recording: Recording, place: Place, grid: tuple[int, int], heads: Heads, chosen: np.ndarray,
                 kept: Plan, numbers: Numbers) -> dict[str, Any]:
    """Return what the page shows of a block.

    Parameters
    ----------
    recording : Recording
        After forward and backward.
    place : Place
        The block.
    grid : (int, int)
        Rows and columns of its patches.
    heads : Heads
        Its attention.
    chosen : np.ndarray
        The tokens whose vectors are kept.
    kept : Plan
        What the page keeps.
    numbers : Numbers
        Receives the numbers.

    Returns
    -------
    dict
        For JSON.
    """
    path, attn, outputs = place.path, place.block.attn, recording.outputs
    x = tokens_of(outputs[place.before])
    size = size_of(recording.model, place.block)
    prefix = size.tokens - math.prod(grid)
    branches = [tokens_of(outputs[f"{path}.drop_path{i}"]) for i in (1, 2)]
    streams = {"x": x, "branch1": branches[0], "mid": x + branches[0], "branch2": branches[1],
               "out": tokens_of(outputs[path])}
    gradients = {"x": recording.doutputs[place.before], "normed1": recording.doutputs[f"{path}.norm1"],
                 "qkv": recording.doutputs[f"{path}.attn.qkv"], "mid": recording.doutputs[f"{path}.drop_path1"],
                 "normed2": recording.doutputs[f"{path}.norm2"], "hidden": recording.doutputs[f"{path}.mlp.act"],
                 "out": recording.doutputs[path]}
    vectors = {"x": x, "normed1": tokens_of(outputs[f"{path}.norm1"]), "branch1": branches[0],
               "normed2": tokens_of(outputs[f"{path}.norm2"]), "hidden": tokens_of(outputs[f"{path}.mlp.act"]),
               "branch2": branches[1]}
    each = {name: np.linalg.norm(value, axis=-1) for name, value in streams.items()}
    each |= {f"d{name}": np.linalg.norm(tokens_of(gradients[name]), axis=-1) for name in ("x", "mid", "out")}
    return {
        "path": path, "grid": list(grid), "prefix": prefix, "width": size.width, "heads": size.heads,
        "hidden": size.hidden, "merged": place.merged, "window": getattr(attn, "window", None),
        "shift": getattr(attn, "shift", (0, 0)),
        "windows": numbers.add_whole(heads.windows) if len(heads.windows) > 1 else None,
        "bias": None if heads.table is None else numbers.add(heads.table),
        "norms": {name: numbers.add(value) for name, value in each.items()},
        "head_norms": {name: numbers.add(np.linalg.norm(getattr(heads, name), axis=-1))
                       for name in "qkv" if kept.norms},
        "gradients": {name: length(value) for name, value in gradients.items()},
        "attention": encode_scores(heads, prefix, kept.keys, numbers),
        "vectors": {"tokens": chosen.tolist()} | {name: numbers.add(value[chosen]) for name, value in vectors.items()}
        | {name: numbers.add(getattr(heads, name)[:, chosen]) for name in "qkv"},
        "active": float(np.mean(vectors["hidden"] > 0)),
    }
