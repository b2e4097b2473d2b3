"""Where the tokens of a model look.

Attention replaces fixed weights between places by probabilities that it computes from the picture: probs (B, h, N, N),
a row for each token that looks, a column for each that is looked at. Any layer has them whose class has a property
`probabilities`; where a token looks no further than its window, as in Swin, its row is 0 beyond.

The patches of a square picture make a square of side S; tokens beyond these S S have no place in it and come first
(class token). What *reads* the picture is the first of them, or without any, the mean over all tokens.

    readout_maps     where the reader looks, head by head
    mean_distance   how far away it looks: sum over m of probs[n, m] |n - m|, the mean over n, in pixels
    rollout         where it looks through all layers: the product of all A_l = (mean over heads of probs + 1) / 2, the 1 for the residual;
                    where four neighbouring tokens become one, as in Swin, the mean of their rows comes between
    variation       which share of the weights depends on the picture

Sources: Dosovitskiy et al., arXiv:2010.11929, figure 7 and appendix D.7; Abnar and Zuidema, "Quantifying Attention Flow
in Transformers", arXiv:2005.00928.
"""

import math

import numpy as np

from .partial_models import with_all_tokens


def attention_probabilities(layer, x):
    """The probabilities of each layer with attention in `layer`, when it sees x: {path:

    (B, h, N, N)}, from the first to the last.

    Raises ValueError if there is none; errors as the forward.
    """
    replica = with_all_tokens(layer)  # so that the layer's own caches stay as they are
    replica.forward(x)
    found = {path: part.probabilities for path, part in replica.named_layers() if hasattr(type(part), "probabilities")}
    if not found:
        raise ValueError(f"{type(layer).__name__} has no layer with attention (a ViT, a DeiT and a Swin have; a ResNet "
                         "has none)")
    return found


def grid(tokens):
    """(S, first) of so many tokens: the side of the square of patches, and how many tokens come before it."""
    side = math.isqrt(tokens)
    return side, tokens - side * side


def readout_maps(probs):
    """probs (B, h, N, N), or (B, h, M, N) of M that look -> how much the reader looks at each patch: (B, h, S, S)."""
    B, heads, _, N = probs.shape
    side, first = grid(N)
    looks = probs[:, :, 0, first:] if first else probs.mean(axis=2)
    return looks.reshape(B, heads, side, side)


def mean_distance(probs, patch_size=1):
    """probs (B, h, N, N) -> (B, h): from patch to patch, in pixels, the mean over the patches that look;

    class tokens are left out.
    """
    side, first = grid(probs.shape[-1])
    y, x = (patch_size * place.ravel() for place in np.indices((side, side)))
    distances = np.hypot(y[:, None] - y, x[:, None] - x)              # (S S, S S)
    among = probs[:, :, first:, first:]
    return ((among * distances).sum(axis=-1) / among.sum(axis=-1)).mean(axis=-1)


def rollout(layers):
    """probs (B, h, N, N) of the layers, first to last -> (B, M, N):

    how much each token of the last holds of each of the first.

    A layer may have a quarter of the tokens of the one before it, if these are of patches only: then each is four
    neighbours. Raises ValueError for any other numbers of tokens.
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


def variation(weights):
    """Which share of weights (B, ...), one set for each picture, depends on the picture:

    their variance over their mean square.

    0 says that all pictures meet the same weights, as in a convolution; 1 that they have nothing in common.
    """
    return float(weights.var(axis=0, dtype=np.float64).sum() / np.square(weights, dtype=np.float64).mean(axis=0).sum())
