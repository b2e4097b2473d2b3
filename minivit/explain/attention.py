"""Where the tokens of a model look.

In attention, each token looks at every token with a probability that depends on the image: probs (B, h, N, N), with a
row for each token that looks and a column for each token that is looked at. A layer has them if its class has the
property `probabilities`. In Swin a token looks only within its window, so the rest of its row is 0.

The patches of a square image lie on a square grid of side S. Other tokens (the class token) come first. The classifier
reads the *readout*: the class token, or without one the mean of all tokens.

    readout_maps    where the readout looks, for each head
    mean_distance   how far tokens look: the mean over n of sum over m of probs[n, m] |n - m|, in pixels
    rollout         where the readout looks through all layers: the product of all A_l, where
                    A_l = (mean over heads of probs + 1) / 2, with the 1 for the residual connection;
                    where four tokens are merged, as in Swin, their rows are averaged
    variation       which share of the weights depends on the image

Sources: Dosovitskiy et al., arXiv:2010.11929, figure 7 and appendix D.7; Abnar and Zuidema, "Quantifying Attention Flow
in Transformers", arXiv:2005.00928.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from .partial_models import with_all_tokens


def attention_probabilities(layer: Any, x: np.ndarray) -> dict[str, np.ndarray]:
    """Run a forward and return the attention probabilities of each layer.

    Parameters
    ----------
    layer : Layer
        A layer or model with attention.
    x : array
        Its input.

    Returns
    -------
    dict
        {path of the layer: (B, h, N, N)}, from the first to the last.

    Raises
    ------
    ValueError
        If there is no attention.
    """
    replica = with_all_tokens(layer)  # the layer keeps its own caches
    replica.forward(x)
    found = {path: part.probabilities for path, part in replica.named_layers() if hasattr(type(part), "probabilities")}
    if not found:
        raise ValueError(f"{type(layer).__name__} has no layer with attention (a ViT, a DeiT and a Swin have; a ResNet "
                         "has none)")
    return found


def grid(tokens: int) -> tuple[int, int]:
    """Return (S, first): the side of the square of patches, and the number of tokens before it."""
    side = math.isqrt(tokens)
    return side, tokens - side * side


def readout_maps(probs: np.ndarray) -> np.ndarray:
    """Return how much the readout looks at each patch, (B, h, S, S), for probs (B, h, N, N) or (B, h, T, N)."""
    B, heads, _, N = probs.shape
    side, first = grid(N)
    looks = probs[:, :, 0, first:] if first else probs.mean(axis=2)
    return looks.reshape(B, heads, side, side)


def mean_distance(probs: np.ndarray, patch_size: float = 1) -> np.ndarray:
    """Return the mean distance of attention (B, h), in pixels, for probs (B, h, N, N).

    It is the mean over the patches that look; class tokens are left out.
    """
    side, first = grid(probs.shape[-1])
    y, x = (patch_size * place.ravel() for place in np.indices((side, side)))
    distances = np.hypot(y[:, None] - y, x[:, None] - x)              # (S S, S S)
    among = probs[:, :, first:, first:]
    return ((among * distances).sum(axis=-1) / among.sum(axis=-1)).mean(axis=-1)


def rollout(layers: Sequence[np.ndarray]) -> np.ndarray:
    """Return the attention rollout (B, M, N): how much of each first token is in each last token.

    Parameters ---------- layers : list of (B, h, N, N) Probabilities of the layers, first to last. A layer of patches
    only may have a quarter of the tokens of the layer before it: each of its tokens is four merged neighbours.

    Raises
    ------
    ValueError
        For any other numbers of tokens.
    """
    tokens = [probs.shape[-1] for probs in layers]
    through = np.eye(tokens[0])[None]
    for probs in layers:
        if probs.shape[-1] != through.shape[1]:
            side, first = grid(through.shape[1])
            if first or 4 * probs.shape[-1] != side * side:
                raise ValueError("rollout needs layers of equal numbers of tokens, or of a quarter where they are "
                                 f"merged, not {tokens}")
            through = through.reshape(-1, side // 2, 2, side // 2, 2,
                                      tokens[0]).mean(axis=(2, 4)).reshape(-1, side * side // 4, tokens[0])
        through = (probs.mean(axis=1) + np.eye(probs.shape[-1])) / 2 @ through
    return through


def variation(weights: np.ndarray) -> float:
    """Return which share of weights (B, ...), one set for each image, depends on the image.

    It is their variance over their mean square: 0 if all images have the same weights, as in a convolution; 1 if they
    have nothing in common.
    """
    return float(weights.var(axis=0, dtype=np.float64).sum() / np.square(weights, dtype=np.float64).mean(axis=0).sum())
