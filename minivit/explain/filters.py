"""What the first layer and the positions have learned:

figure 7, left and middle, of Dosovitskiy et al., arXiv:2010.11929.

The D filters of the patch embedding are points in the space of a patch's P P C numbers. Their principal components are
the directions in which they differ most: what the model looks for in a patch. Positions are vectors without names;
which of them are alike tells whether the model has learned how the patches lie.
"""

import numpy as np

from ..common.checks import check_number
from ..layers import PatchEmbed
from .attention import grid


def principal_filters(model, count):
    """The first `count` principal components of the filters of a linear patch embedding:

    (count, P, P, C), and each one's share of the variance (count,).

    Raises ValueError if the patches are not embedded linearly, or have fewer numbers.
    """
    embed = getattr(model, "patch_embed", None)
    if not isinstance(embed, PatchEmbed):
        raise ValueError("principal filters are of a linear patch embedding, which this model has not")
    filters = embed.proj.weight.data.T.astype(np.float64)             # (D, P P C)
    check_number("number of filters", count, least=1, most=min(filters.shape), whole=True)
    _, values, components = np.linalg.svd(filters - filters.mean(axis=0), full_matrices=False)
    shares = values**2 / (values**2).sum()
    return components[:count].reshape(count, embed.patch_size, embed.patch_size, -1), shares[:count]


def position_similarity(positions):
    """Positions (N, D) -> the cosine of the angle between those of any two patches:

    (S, S, S, S), class tokens left out.

    similarity[y, x] is the map, over all patches, of how much their positions are like that of the patch in row y and
    column x.
    """
    side, first = grid(len(positions))
    unit = positions[first:].astype(np.float64)
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    return (unit @ unit.T).reshape(side, side, side, side)
