"""Attention maps: which tokens each token attends to.

Read `ops/attention.py` before. Attention computes its weights from the image: the probabilities probs (B, h, N, N).
Row n holds the weights with which token n (the query) averages all tokens (the keys). Any layer with a property
`probabilities` has them. In a window attention, as in Swin, a row is 0 outside of the window.

The patches of an image form a grid of R rows and S columns. The other N - R S tokens have no place in it and come
first: the class token, for instance. `attention_grids` names the grid of each layer; without it, a square is assumed.
The model pools the tokens for its head: it takes the class token or, if there is none, the mean over all tokens. These
functions call both *pooling*.

    readout_maps     attention of the pooling to each patch, for each head
    mean_distance    sum over m of probs[n, m] |n - m| in pixels, averaged over n
    rollout          attention through all layers: the product of A_l = (mean of probs over heads + I) / 2
    variation        share of the weights that depends on the image

In `rollout`, the identity I stands for the residual connection. If a layer merges four neighbouring tokens into one,
as in Swin, the product also contains the mean of their four rows.

In a window that is padded (see `ops/windows.py`), some attention goes to the padding, which is no part of the image.
The rows of `rollout` still sum to 1: each row is divided by its sum.

Sources: Dosovitskiy et al., arXiv:2010.11929, figure 7 and appendix D.7; Abnar and Zuidema, "Quantifying Attention Flow
in Transformers", arXiv:2005.00928.
"""

import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from .partial_models import with_all_tokens

Grid = tuple[int, int]                               # rows and columns of the patches


def attention_probabilities(layer: Any, x: np.ndarray) -> dict[str, np.ndarray]:
    """Compute the attention probabilities of all layers for an input.

    Parameters
    ----------
    layer : Layer
        A model, or any layer that contains layers with attention. It is not changed.
    x : np.ndarray
        The input of its forward, such as images (B, H, W, C).

    Returns
    -------
    dict of str to np.ndarray
        Path of each layer with attention, from the first to the last, and its probabilities (B, h, N, N).

    Raises
    ------
    ValueError
        If no layer has attention, or as the forward.
    """
    replica = with_all_tokens(layer)                                  # keeps the caches of `layer` unchanged
    replica.forward(x)
    found = {path: part.probabilities for path, part in replica.named_layers() if hasattr(type(part), "probabilities")}
    if not found:
        raise ValueError(f"no attention: {type(layer).__name__} has no layer with attention, pass a ViT, a DeiT or a "
                         "Swin")
    return found


def attention_grids(model: Any) -> dict[str, Grid]:
    """Return the rows and columns of the tokens of each layer with attention.

    Parameters
    ----------
    model : Model
        A ViT, DeiT or Swin.

    Returns
    -------
    dict of str to tuple
        Path of each layer with attention, as in `attention_probabilities`, and (R, S).
    """
    return {path: getattr(layer, "grid", None) or model.grid for path, layer in model.named_layers()
            if hasattr(type(layer), "probabilities")}


def grid_of(tokens: int, grid: Grid | None = None) -> tuple[int, int, int]:
    """Return (R, S, first): the grid of patches, by default the largest square, and the number of tokens before them.

    Raises ValueError if there are fewer tokens than places.
    """
    rows, columns = grid or (math.isqrt(tokens),) * 2
    if tokens < rows * columns:
        raise ValueError(f"a grid of {rows}x{columns} needs {rows * columns} tokens, not {tokens}")
    return rows, columns, tokens - rows * columns


def readout_maps(probs: np.ndarray, grid: Grid | None = None) -> np.ndarray:
    """Return how much the pooling attends to each patch.

    Parameters
    ----------
    probs : np.ndarray
        Probabilities (B, h, N, N), or (B, h, n, N) of n queries.
    grid : (int, int), optional
        Rows and columns of the patches. Default: a square.

    Returns
    -------
    np.ndarray
        Maps (B, h, R, S): the row of the class token or, without one, the mean of all rows.
    """
    B, heads, _, N = probs.shape
    rows, columns, first = grid_of(N, grid)
    maps = probs[:, :, 0, first:] if first else probs.mean(axis=2)
    return maps.reshape(B, heads, rows, columns)


def mean_distance(probs: np.ndarray, patch_size: float | tuple[float, float] = 1,
                  grid: Grid | None = None) -> np.ndarray:
    """Return the mean attention distance of each head.

    Parameters
    ----------
    probs : np.ndarray
        Probabilities (B, h, N, N).
    patch_size : float or (float, float)
        Rows and columns of a patch in pixels; one number for a square.
    grid : (int, int), optional
        Rows and columns of the patches. Default: a square.

    Returns
    -------
    np.ndarray
        Distances (B, h) in pixels, from patch to patch, averaged over the patches. Class tokens are left out.
    """
    rows, columns, first = grid_of(probs.shape[-1], grid)
    sides = np.broadcast_to(patch_size, 2)
    y, x = (side * place.ravel() for side, place in zip(sides, np.indices((rows, columns)), strict=True))
    distances = np.hypot(y[:, None] - y, x[:, None] - x)              # (R S, R S)
    among = probs[:, :, first:, first:]
    return ((among * distances).sum(axis=-1) / among.sum(axis=-1)).mean(axis=-1)


def rollout(layers: Sequence[np.ndarray], grids: Sequence[Grid] | None = None) -> np.ndarray:
    """Return the attention rollout: how much each token of the last layer depends on each token of the first.

    Parameters
    ----------
    layers : sequence of np.ndarray
        Probabilities (B, h, N, N) of the layers, first to last. A layer may have a quarter of the tokens of the layer
        before it, if all of them are patches: each token then stands for four neighbours.
    grids : sequence of (int, int), optional
        Rows and columns of the patches of each layer. Default: squares.

    Returns
    -------
    np.ndarray
        Rollout (B, n, N), with n the tokens of the last layer and N those of the first. Its rows sum to 1.

    Raises
    ------
    ValueError
        For other numbers of tokens.
    """
    *_, last = rollouts(layers, grids)
    return last


def rollouts(layers: Iterable[np.ndarray], grids: Iterable[Grid] | None = None) -> Iterator[np.ndarray]:
    """Yield the rollout (B, n, N) after each layer. Arguments and errors as for `rollout`."""
    through: Any = None
    before: Any = None
    for probs, grid in zip(layers, itertools.repeat(None) if grids is None else grids, strict=grids is not None):
        n = probs.shape[-1]
        through = np.eye(n)[None] if through is None else merged(through, n, before)
        mean = probs.mean(axis=1)
        mean = mean / mean.sum(axis=-1, keepdims=True)
        through, before = (mean + np.eye(n)) / 2 @ through, grid
        yield through


def merged(through: np.ndarray, tokens: int, grid: Grid | None = None) -> np.ndarray:
    """Return the rows of a rollout for a layer with `tokens` tokens, each the mean of the rows that it stands for.

    Parameters
    ----------
    through : np.ndarray
        Rollout (B, n, N), with n tokens on `grid`, (R, S); default: a square.
    tokens : int
        n, or ceil(R / 2) ceil(S / 2).

    Raises
    ------
    ValueError
        For another number of tokens.
    """
    B, n, N = through.shape
    if n == tokens:
        return through
    rows, columns, first = grid_of(n, grid)
    new = -(-rows // 2), -(-columns // 2)
    if first or tokens != math.prod(new):
        raise ValueError(f"layers do not fit together: their numbers of tokens are {[n, tokens]}, expected equal "
                         "numbers, or a quarter after a merging of patches")
    of_new = [np.arange(side) // 2 for side in (rows, columns)]       # the new row or column of each old one
    place = (of_new[0][:, None] * new[1] + of_new[1]).ravel()
    total = np.zeros((B, tokens, N), through.dtype)
    for old, one in enumerate(place):
        total[:, one] += through[:, old]
    return total / np.bincount(place)[:, None]                        # at an odd edge, two tokens or one


def variation(weights: np.ndarray) -> float:
    """Return the share of the weights that depends on the image: their variance over their mean square.

    Parameters
    ----------
    weights : np.ndarray
        Weights (B, ...), one set for each image.

    Returns
    -------
    float
        0 if all images have the same weights, as in a convolution; 1 if the mean of the weights is zero.
    """
    return float(weights.var(axis=0, dtype=np.float64).sum() / np.square(weights, dtype=np.float64).mean(axis=0).sum())
