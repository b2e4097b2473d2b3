"""Exercises 6 and 7: patches, and the embedding with class token and positions."""

import numpy as np

from .. import references
from ..diagnosis import Fits
from ..examination import Case, Pair
from .marking import Marking

# ---- patches -----------------------------------------------------------------------------------------------

_WRONG_ORDERS = {                                                     # of (B, row, y, column, x, C)
    "the patches follow each other column by column: they must follow row by row": (0, 3, 1, 2, 4, 5),
    "the pixels of a patch follow each other column by column: they must follow row by row": (0, 1, 3, 4, 2, 5),
    "the channels of a patch come first: within a patch, the order is row, column, channel": (0, 1, 3, 5, 2, 4),
    "it is a reshape alone, which keeps the order in memory. It mixes the patches of a row of patches: reshape to six "
    "axes, and exchange two of them": (0, 1, 2, 3, 4, 5),
}


def _grid(images, side):
    B, H, W, C = images.shape
    return images.reshape(B, H // side, side, W // side, side, C)


def _patches_fits(a):
    right, _ = references.patches.forward(a.images, a.side)
    return Fits(mistakes={sentence: _grid(a.images, a.side).transpose(axes).reshape(right.shape)
                          for sentence, axes in _WRONG_ORDERS.items()})


def _patches_backward_fits(a, dy):
    B, H, W, C = a.images.shape
    grid = (B, H // a.side, W // a.side, a.side, a.side, C)
    return {"dimages": Fits(mistakes={
        "dimages is a reshape of dy alone: exchange the same two axes as in the forward": dy.reshape(a.images.shape),
        "dimages has rows and columns of the patches exchanged":
            dy.reshape(grid).transpose(0, 2, 3, 1, 4, 5).reshape(a.images.shape)})}


PATCHES = Pair(
    references.patches, lambda rng: [
        Case({"images": rng.standard_normal((2, 6, 9, 2)), "side": 3}, {"B": 2, "H": 6, "W": 9, "C": 2}),
        Case({"images": rng.standard_normal((2, 4, 4, 1)), "side": 2}, {"B": 2, "H": 4, "C": 1},
             "images with one channel", "")],
    "patches", (), _patches_fits, _patches_backward_fits,
    {"dimages": "every number only moved, so its gradient moves back to where the number came from"})

# ---- embedding ---------------------------------------------------------------------------------------------


def _embedding_cases(rng):
    p = {"proj.weight": rng.standard_normal((5, 11)), "proj.bias": rng.standard_normal(11),
         "cls_token": rng.standard_normal(11), "pos_embed": rng.standard_normal((7, 11))}
    yield Case({"patches": rng.standard_normal((3, 6, 5)), "p": p}, {"B": 3, "M": 6, "N": 7, "I": 5, "D": 11})


def _embedding_fits(a):
    B, p = len(a.patches), a.p
    zero = np.zeros((B, 7, 11))

    def at(places, value):
        y = zero.copy()
        y[:, places] = value
        return y

    x, rest, first = a.patches @ p["proj.weight"], slice(1, None), slice(0, 1)
    tokens = x + p["proj.bias"]
    class_tokens = np.broadcast_to(p["cls_token"], (B, 1, 11))
    return Fits({"patches proj.weight": at(rest, x), "proj.bias": at(rest, p["proj.bias"]),
                 "cls_token": at(first, p["cls_token"]), "pos_embed": zero + p["pos_embed"]}, mistakes={
        "the class token is the last token, but must be the first": np.concatenate([tokens, class_tokens], axis=1)
                                                                     + p["pos_embed"],
        "the class token has no position: pos_embed has a row for it too, the first one":
            np.concatenate([class_tokens, tokens + p["pos_embed"][1:]], axis=1)})


def _embedding_backward_fits(a, dy):
    rows = a.patches.reshape(-1, 5)
    return {
        "dcls_token": Fits(mistakes={
            "dcls_token adds up the gradients of all tokens: the class token is token 0 of each image alone":
                dy.sum(axis=(0, 1)),
            "dcls_token is the gradient of the last token: the class token is token 0, the first":
                dy[:, -1].sum(axis=0),
            "dcls_token is the gradient of a patch: the class token is token 0, the first": dy[:, 1].sum(axis=0)}),
        "dproj.bias": Fits(mistakes={
            "dproj.bias has the gradient of the class token in it: only the patches pass the linear map":
                dy.sum(axis=(0, 1))}),
        "dpatches": Fits(mistakes={
            "dpatches takes the first M tokens: the class token is token 0, so they are tokens 1 to M":
                dy[:, :-1] @ a.p["proj.weight"].T}),
        "dproj.weight": Fits(mistakes={
            "dproj.weight takes the first M tokens: the class token is token 0, so they are tokens 1 to M":
                rows.T @ dy[:, :-1].reshape(-1, 11)})}


EMBEDDING = Pair(
    references.embedding, _embedding_cases, "y", (), _embedding_fits, _embedding_backward_fits,
    {"dcls_token": "the class token is the same for every image, so its gradient is a sum over the batch of dy[:, 0]",
     "dpos_embed": "the positions are the same for every image, so their gradient is a sum over the batch of dy"})

MARKINGS = {
    "patches": Marking(PATCHES, "minivit/ops/patches.py", (
        "With a loop: `images[:, y:y + side, x:x + side]` is the patch with the corner (y, x) of all images. Reshape "
        "it to (B, -1). np.stack with axis=1 puts the patches together.",
        "Without a loop: reshape to (B, H // side, side, W // side, side, C). These axes are: row of patches, row in "
        "the patch, column of patches, column in the patch.",
        "Exchange the axes 2 and 3 with transpose(0, 1, 3, 2, 4, 5), and reshape to (B, M, P P C).",
        "backward: reshape dy to (B, H // side, W // side, side, side, C). Exchange the axes 2 and 3 again, and "
        "reshape to the shape of the images. Keep that shape and side in the cache.")),
    "embedding": Marking(EMBEDDING, "minivit/ops/tokens.py, and minivit/ops/linear.py", (
        "forward: `x, cache = linear.forward(patches, p[\"proj.weight\"], p[\"proj.bias\"])`.",
        "np.broadcast_to(p[\"cls_token\"], (B, 1, D)) is the class token once for each image. np.concatenate with "
        "axis=1 puts it before x.",
        "backward: the gradient of x is dy[:, 1:]. `linear.backward` makes three gradients of it.",
        "cls_token and pos_embed act on every image, so both gradients are sums over axis 0: of dy[:, 0], and of dy.")),
}
