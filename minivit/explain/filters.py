"""What the first layer and the positions have learned (figure 7, left and middle, of arXiv:2010.11929).

The D filters of the patch embedding are points in the space of a patch's P P C numbers. Their principal components are
the directions in which they differ most: what the model looks for in a patch. Positions are learned vectors. If those
of neighbouring patches are similar, the model has learned the layout of the patches.
"""

from typing import Any

import numpy as np

from ..common.checks import check_number
from ..layers import PatchEmbed
from .attention import grid


def principal_filters(model: Any, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the principal components of the filters of a linear patch embedding.

    Parameters
    ----------
    model : Model
        A model with a linear patch embedding.
    count : int
        Number of components, first to last.

    Returns
    -------
    components : (count, P, P, C)
    shares : (count,)
        Share of the variance of each component.

    Raises
    ------
    ValueError
        If the embedding is not linear, or has fewer components.
    """
    embed = getattr(model, "patch_embed", None)
    if not isinstance(embed, PatchEmbed):
        raise ValueError("principal filters need a linear patch embedding, and this model has none: take a model with "
                         "stem='patch'")
    filters = embed.proj.weight.data.T.astype(np.float64)             # (D, P P C)
    check_number("number of filters", count, least=1, most=min(filters.shape), whole=True)
    _, values, components = np.linalg.svd(filters - filters.mean(axis=0), full_matrices=False)
    shares = values**2 / (values**2).sum()
    return components[:count].reshape(count, embed.patch_size, embed.patch_size, -1), shares[:count]


def position_similarity(positions: np.ndarray) -> np.ndarray:
    """Return the cosine similarity of the positions (N, D) of any two patches, (S, S, S, S).

    similarity[y, x] is a map over all patches: how similar their positions are to that of the patch in row y, column x.
    Class tokens are left out.
    """
    side, first = grid(len(positions))
    unit = positions[first:].astype(np.float64)
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    return (unit @ unit.T).reshape(side, side, side, side)
