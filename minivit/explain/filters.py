"""What the patch embedding and the positions have learned.

The D filters of the patch embedding are vectors of P P C weights. Their principal components are the directions in
which the filters differ most. They show which patterns in a patch the model distinguishes.

Position embeddings are vectors without a given order. Their cosine similarities show whether the model has learned
the arrangement of the patches: neighbours are then similar.

Source: Dosovitskiy et al., arXiv:2010.11929, figure 7, left and middle.
"""

from typing import Any

import numpy as np

from ..common.checks import check_number
from ..layers import PatchEmbed
from .attention_maps import Grid, grid_of


def principal_filters(model: Any, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the first principal components of the filters of a linear patch embedding.

    Parameters
    ----------
    model : Model
        A model with a linear patch embedding. D is its width.
    count : int
        Number of components, at most the smaller of D and P Q C.

    Returns
    -------
    components : np.ndarray
        (count, P, Q, C).
    shares : np.ndarray
        (count,), share of the variance of each component.

    Raises
    ------
    ValueError
        If the patch embedding is not linear, or `count` is too large.
    """
    embed = getattr(model, "patch_embed", None)
    if not isinstance(embed, PatchEmbed):
        raise ValueError(f"no principal filters: {type(model).__name__} has no linear patch embedding, pass a ViT "
                         "without a stem")
    filters = embed.proj.weight.data.T.astype(np.float64)             # (D, P Q C)
    check_number("number of filters", count, least=1, most=min(filters.shape), whole=True)
    _, values, components = np.linalg.svd(filters - filters.mean(axis=0), full_matrices=False)
    shares = values**2 / (values**2).sum()
    return components[:count].reshape(count, *embed.patch_size, -1), shares[:count]


def position_similarity(positions: np.ndarray, grid: Grid | None = None) -> np.ndarray:
    """Return the cosine similarity of the positions of any two patches.

    Parameters
    ----------
    positions : np.ndarray
        Position embeddings (N, D). Those of class tokens come first and are left out.
    grid : (int, int), optional
        Rows and columns of the patches, R and S. Default: a square.

    Returns
    -------
    np.ndarray
        (R, S, R, S). similarity[y, x] is the map of similarities to the patch in row y and column x.
    """
    rows, columns, first = grid_of(len(positions), grid)
    unit = positions[first:].astype(np.float64)
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    return (unit @ unit.T).reshape(rows, columns, rows, columns)
