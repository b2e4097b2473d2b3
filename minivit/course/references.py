"""The right answers: each step of the course, on the plain NumPy pairs of `ops/` and `training/`.

A step is a namespace with the functions that its exercise asks for. Steps that consist of others call them through
these namespaces. So a function that is put into a namespace, such as the learner's own `linear.forward`, is used
everywhere (see `training`). The Vision Transformer of the last step computes what `plain.py` computes.
"""

from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any

import numpy as np

from .. import ops
from ..training.adamw import reference_update
from ..training.schedule import warmup_cosine

Arrays = Mapping[str, np.ndarray]


def part(p: Arrays, name: str) -> dict[str, np.ndarray]:
    """Return the arrays whose names begin with "name.", without that beginning."""
    return {key[len(name) + 1:]: array for key, array in p.items() if key.startswith(f"{name}.")}


def prefixed(name: str, g: Arrays) -> dict[str, np.ndarray]:
    """Return the same arrays with "name." before their names; the reverse of `part`."""
    return {f"{name}.{key}": array for key, array in g.items()}


def _step(forward: Callable, backward: Callable) -> SimpleNamespace:
    return SimpleNamespace(forward=forward, backward=backward)


def _op(chapter: Any) -> SimpleNamespace:
    return _step(chapter.reference_forward, chapter.reference_backward)


linear, gelu, softmax, layer_norm = map(_op, (ops.linear, ops.gelu, ops.softmax, ops.layer_norm))
cross_entropy, patches, relative_bias = map(_op, (ops.cross_entropy, ops.patches, ops.relative_bias))


# ---- steps that consist of others ---------------------------------------------------------------------------


def _embed(x, p):
    x, linear_cache = linear.forward(x, p["proj.weight"], p["proj.bias"])
    y, cache = ops.tokens.reference_forward(x, p["cls_token"], p["pos_embed"])
    return y, (linear_cache, cache)


def _embed_backward(dy, cache):
    g: dict[str, np.ndarray] = {}
    dx, g["cls_token"], g["pos_embed"] = ops.tokens.reference_backward(dy, cache[1])
    dx, g["proj.weight"], g["proj.bias"] = linear.backward(dx, cache[0])
    return dx, g


def _attend(q, k, v):
    scale = 1 / np.sqrt(q.shape[-1], dtype=q.dtype)
    probs, cache = softmax.forward(q @ k.swapaxes(-1, -2) * scale)    # (..., N, N)
    return probs @ v, (q, k, v, probs, cache, scale)


def _attend_backward(dy, cache):
    q, k, v, probs, softmax_cache, scale = cache
    dscores = softmax.backward(dy @ v.swapaxes(-1, -2), softmax_cache) * scale
    return dscores @ k, dscores.swapaxes(-1, -2) @ q, probs.swapaxes(-1, -2) @ dy


def _multi_head(x, p, heads):
    qkv, qkv_cache = linear.forward(x, p["qkv.weight"], p["qkv.bias"])
    y, cache = attention.forward(*ops.attention.split_heads(qkv, heads))                          # (B, h, N, d)
    y, proj_cache = linear.forward(y.transpose(0, 2, 1, 3).reshape(x.shape), p["proj.weight"], p["proj.bias"])
    return y, (qkv_cache, cache, proj_cache, heads)


def _multi_head_backward(dy, cache):
    qkv_cache, cache, proj_cache, heads = cache
    g: dict[str, np.ndarray] = {}
    dy, g["proj.weight"], g["proj.bias"] = linear.backward(dy, proj_cache)
    dqkv = np.stack(attention.backward(ops.attention.per_head(dy, heads), cache))                 # (3, B, h, N, d)
    dqkv = dqkv.transpose(1, 3, 0, 2, 4).reshape(*dy.shape[:2], -1)
    dx, g["qkv.weight"], g["qkv.bias"] = linear.backward(dqkv, qkv_cache)
    return dx, g


def _mlp(x, p):
    a, cache1 = linear.forward(x, p["fc1.weight"], p["fc1.bias"])
    b, gelu_cache = gelu.forward(a)
    y, cache2 = linear.forward(b, p["fc2.weight"], p["fc2.bias"])
    return y, (cache1, gelu_cache, cache2)


def _mlp_backward(dy, cache):
    g: dict[str, np.ndarray] = {}
    db, g["fc2.weight"], g["fc2.bias"] = linear.backward(dy, cache[2])
    dx, g["fc1.weight"], g["fc1.bias"] = linear.backward(gelu.backward(db, cache[1]), cache[0])
    return dx, g


def _block(x, p, heads):
    n, norm1_cache = layer_norm.forward(x, p["norm1.weight"], p["norm1.bias"])
    n, attn_cache = multi_head.forward(n, part(p, "attn"), heads)
    x = x + n
    n, norm2_cache = layer_norm.forward(x, p["norm2.weight"], p["norm2.bias"])
    n, mlp_cache = mlp.forward(n, part(p, "mlp"))
    return x + n, (norm1_cache, attn_cache, norm2_cache, mlp_cache)


def _block_backward(dy, cache):
    norm1_cache, attn_cache, norm2_cache, mlp_cache = cache
    g: dict[str, np.ndarray] = {}
    dn, dmlp = mlp.backward(dy, mlp_cache)
    dn, g["norm2.weight"], g["norm2.bias"] = layer_norm.backward(dn, norm2_cache)
    dx = dy + dn
    dn, dattn = multi_head.backward(dx, attn_cache)
    dn, g["norm1.weight"], g["norm1.bias"] = layer_norm.backward(dn, norm1_cache)
    return dx + dn, g | prefixed("attn", dattn) | prefixed("mlp", dmlp)


def _head(x, p):
    n, norm_cache = layer_norm.forward(x, p["norm.weight"], p["norm.bias"])
    token, pooling_cache = ops.pooling.reference_forward(n, "token")
    logits, cache = linear.forward(token, p["weight"], p["bias"])
    return logits, (norm_cache, pooling_cache, cache)


def _head_backward(dlogits, cache):
    norm_cache, pooling_cache, cache = cache
    g: dict[str, np.ndarray] = {}
    dtoken, g["weight"], g["bias"] = linear.backward(dlogits, cache)
    dn = ops.pooling.reference_backward(dtoken, pooling_cache)
    dx, g["norm.weight"], g["norm.bias"] = layer_norm.backward(dn, norm_cache)
    return dx, g


def _vit(images, p, sizes):
    x, _ = patches.forward(images, sizes["patch"])
    x, embedding_cache = embedding.forward(x, part(p, "embedding"))
    caches = []
    for i in range(sizes["depth"]):
        x, cache = block.forward(x, part(p, f"blocks.{i}"), sizes["heads"])
        caches.append(cache)
    logits, head_cache = head.forward(x, part(p, "head"))
    return logits, (embedding_cache, caches, head_cache)


def _vit_backward(dlogits, cache):
    embedding_cache, caches, head_cache = cache
    dx, dp = head.backward(dlogits, head_cache)
    g = prefixed("head", dp)
    for i in reversed(range(len(caches))):
        dx, dp = block.backward(dx, caches[i])
        g |= prefixed(f"blocks.{i}", dp)
    return g | prefixed("embedding", embedding.backward(dx, embedding_cache)[1])


def _update(w, g, m, v, t, lr, decay, beta1=0.9, beta2=0.999, eps=1e-8):
    return reference_update(w, g, m, v, t, lr, decay, (beta1, beta2), eps)


# ---- the design exercises, which have no chapter ------------------------------------------------------------


def _rms_norm(x, weight, eps=1e-6):
    r = 1 / np.sqrt((x**2).mean(axis=-1, keepdims=True) + eps)
    return x * r * weight, (x * r, r, weight)


def _rms_norm_backward(dy, cache):
    xhat, r, weight = cache
    dxhat = dy * weight
    dx = r * (dxhat - xhat * (dxhat * xhat).mean(axis=-1, keepdims=True))
    return dx, (dy * xhat).reshape(-1, len(weight)).sum(axis=0)


def _swiglu(x, p):
    a, gate = ops.linear.reference_forward(x, p["gate.weight"])
    b, up = ops.linear.reference_forward(x, p["up.weight"])
    s = 1 / (1 + np.exp(-a))
    y, down = ops.linear.reference_forward(a * s * b, p["down.weight"])
    return y, (gate, up, down, a, b, s)


def _swiglu_backward(dy, cache):
    gate, up, down, a, b, s = cache
    dc, ddown, _ = ops.linear.reference_backward(dy, down)
    dx_gate, dgate, _ = ops.linear.reference_backward(dc * b * (s + a * s * (1 - s)), gate)
    dx_up, dup, _ = ops.linear.reference_backward(dc * a * s, up)
    return dx_gate + dx_up, {"gate.weight": dgate, "up.weight": dup, "down.weight": ddown}


embedding, attention = _step(_embed, _embed_backward), _step(_attend, _attend_backward)
multi_head, mlp = _step(_multi_head, _multi_head_backward), _step(_mlp, _mlp_backward)
block, head = _step(_block, _block_backward), _step(_head, _head_backward)
vit = _step(_vit, _vit_backward)
adamw, schedule = SimpleNamespace(update=_update), SimpleNamespace(factor=warmup_cosine)
rms_norm, swiglu = _step(_rms_norm, _rms_norm_backward), _step(_swiglu, _swiglu_backward)


# ---- names: the course names parameters by its steps, `plain.py` by the names of timm ------------------------

_NAMES = {"patch_embed.proj.": "embedding.proj.", "cls_token": "embedding.cls_token",
          "pos_embed": "embedding.pos_embed", "norm.": "head.norm."}


def from_plain(p: Arrays) -> dict[str, np.ndarray]:
    """Return the parameters of `plain.py` under the names of the course."""
    return {_renamed(name, _NAMES): array for name, array in p.items()}


def to_plain(p: Arrays) -> dict[str, np.ndarray]:
    """Return the parameters of the course under the names of `plain.py`."""
    return {_renamed(name, {new: old for old, new in _NAMES.items()}): array for name, array in p.items()}


def _renamed(name, beginnings):
    """Return the name with its beginning exchanged, if it is one of these beginnings."""
    return next((new + name[len(old):] for old, new in beginnings.items() if name.startswith(old)), name)
