"""Attention maps: which tokens each token attends to.

Read `ops/attention.py` before. Attention computes its weights from the image: the probabilities probs (B, h, N, N).
Row n holds the weights with which token n (the query) averages all tokens (the keys). Any layer with a property
`probabilities` has them. In a window attention, as in Swin, a row is 0 outside of the window.

The patches of a square image form a grid of S x S. The other N - S S tokens have no place in it and come first: the
class token, for instance. The model pools the tokens for its head: it takes the class token or, if there is none, the
mean over all tokens. These functions call both *pooling*.

    readout_maps     attention of the pooling to each patch, for each head
    mean_distance    sum over m of probs[n, m] |n - m| in pixels, averaged over n
    rollout          attention through all layers: the product of A_l = (mean of probs over heads + I) / 2
    variation        share of the weights that depends on the image

In `rollout`, the identity I stands for the residual connection. If a layer merges four neighbouring tokens into one,
as in Swin, the product also contains the mean of their four rows.

Sources: Dosovitskiy et al., arXiv:2010.11929, figure 7 and appendix D.7; Abnar and Zuidema, "Quantifying Attention Flow
in Transformers", arXiv:2005.00928.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from .partial_models import with_all_tokens


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


def grid(tokens: int) -> tuple[int, int]:
    """Return (S, first): the side of the grid of patches, and the number of tokens before them."""
    side = math.isqrt(tokens)
    return side, tokens - side * side


def readout_maps(probs: np.ndarray) -> np.ndarray:
    """Return how much the pooling attends to each patch.

    Parameters
    ----------
    probs : np.ndarray
        Probabilities (B, h, N, N), or (B, h, n, N) of n queries.

    Returns
    -------
    np.ndarray
        Maps (B, h, S, S): the row of the class token or, without one, the mean of all rows.
    """
    B, heads, _, N = probs.shape
    side, first = grid(N)
    maps = probs[:, :, 0, first:] if first else probs.mean(axis=2)
    return maps.reshape(B, heads, side, side)


def mean_distance(probs: np.ndarray, patch_size: float = 1) -> np.ndarray:
    """Return the mean attention distance of each head.

    Parameters
    ----------
    probs : np.ndarray
        Probabilities (B, h, N, N).
    patch_size : float
        Side of a patch in pixels.

    Returns
    -------
    np.ndarray
        Distances (B, h) in pixels, from patch to patch, averaged over the patches. Class tokens are left out.
    """
    side, first = grid(probs.shape[-1])
    y, x = (patch_size * place.ravel() for place in np.indices((side, side)))
    distances = np.hypot(y[:, None] - y, x[:, None] - x)              # (S S, S S)
    among = probs[:, :, first:, first:]
    return ((among * distances).sum(axis=-1) / among.sum(axis=-1)).mean(axis=-1)


def rollout(layers: Sequence[np.ndarray]) -> np.ndarray:
    """Return the attention rollout: how much each token of the last layer depends on each token of the first.

    Parameters
    ----------
    layers : sequence of np.ndarray
        Probabilities (B, h, N, N) of the layers, first to last. A layer may have a quarter of the tokens of the layer
        before it, if all of them are patches: each token then stands for four neighbours.

    Returns
    -------
    np.ndarray
        Rollout (B, n, N), with n the tokens of the last layer and N those of the first. Its rows sum to 1.

    Raises
    ------
    ValueError
        For other numbers of tokens.
    """
    *_, last = rollouts(layers)
    return last


def rollouts(layers: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    """Yield the rollout (B, n, N) after each layer. Arguments and errors as for `rollout`."""
    through: Any = None
    for probs in layers:
        n = probs.shape[-1]
        if through is None:
            through = np.eye(n)[None]
        if n != through.shape[1]:
            side, first = grid(through.shape[1])
            if first or 4 * n != side * side:
                raise ValueError("layers do not fit together: their numbers of tokens are "
                                 f"{[through.shape[1], n]}, expected equal numbers, or a quarter after a merging of "
                                 "patches")
            quarters = through.reshape(-1, side // 2, 2, side // 2, 2, through.shape[-1]).mean(axis=(2, 4))
            through = quarters.reshape(-1, n, through.shape[-1])
        through = (probs.mean(axis=1) + np.eye(n)) / 2 @ through
        yield through


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
