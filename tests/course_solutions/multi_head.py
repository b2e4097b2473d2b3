"""Exercise 9, multi_head: solved."""

import numpy as np

from minivit.course.earlier import attention, linear


def split(x, heads):
    B, N, D = x.shape
    return x.reshape(B, N, heads, D // heads).transpose(0, 2, 1, 3)


def merge(x):
    B, h, N, d = x.shape
    return x.transpose(0, 2, 1, 3).reshape(B, N, h * d)


def forward(x, p, heads):
    qkv, qkv_cache = linear.forward(x, p["qkv.weight"], p["qkv.bias"])
    q, k, v = np.split(qkv, 3, axis=-1)
    y, cache = attention.forward(split(q, heads), split(k, heads), split(v, heads))
    y, proj_cache = linear.forward(merge(y), p["proj.weight"], p["proj.bias"])
    return y, (qkv_cache, cache, proj_cache, heads)


def backward(dy, cache):
    qkv_cache, cache, proj_cache, heads = cache
    g = {}
    dy, g["proj.weight"], g["proj.bias"] = linear.backward(dy, proj_cache)
    dq, dk, dv = attention.backward(split(dy, heads), cache)
    dqkv = np.concatenate([merge(dq), merge(dk), merge(dv)], axis=-1)
    dx, g["qkv.weight"], g["qkv.bias"] = linear.backward(dqkv, qkv_cache)
    return dx, g
