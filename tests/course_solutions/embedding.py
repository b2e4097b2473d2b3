"""Exercise 7, embedding: solved."""

import numpy as np

from minivit.course.earlier import linear


def forward(patches, p):
    x, cache = linear.forward(patches, p["proj.weight"], p["proj.bias"])
    B, _, D = x.shape
    class_tokens = np.broadcast_to(p["cls_token"], (B, 1, D))
    y = np.concatenate([class_tokens, x], axis=1) + p["pos_embed"]
    return y, cache


def backward(dy, cache):
    dpatches, dweight, dbias = linear.backward(dy[:, 1:], cache)
    g = {"proj.weight": dweight, "proj.bias": dbias, "cls_token": dy[:, 0].sum(axis=0), "pos_embed": dy.sum(axis=0)}
    return dpatches, g
