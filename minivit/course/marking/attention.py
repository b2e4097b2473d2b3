"""Exercises 8 and 9: attention with one head, then with many."""

import itertools
import math

import numpy as np

from .. import references
from ..diagnosis import Fits
from ..examination import Case, Pair
from .marking import Marking

# ---- one head ----------------------------------------------------------------------------------------------


def _attention_cases(rng):
    q, k, v = rng.standard_normal((3, 3, 2, 5, 7))
    yield Case({"q": q, "k": k, "v": v}, {"B": 3, "h": 2, "N": 5, "d": 7})
    yield Case({"q": q[:, 0].copy(), "k": k[:, 0].copy(), "v": v[:, 0].copy()}, {"B": 3, "N": 5, "d": 7},
               "arrays of three axes (B, N, d)",
               "use swapaxes(-1, -2) to transpose, which takes the last two axes, however many there are")


def _T(x):
    return x.swapaxes(-1, -2)


def _softmax(x):
    return references.softmax.forward(x)[0]


def _attention_fits(a):
    d, scores = a.q.shape[-1], a.q @ _T(a.k)
    return Fits(mistakes={
        "the scores lack the factor 1/sqrt(d)": _softmax(scores) @ a.v,
        "the scores have the factor 1/d, but must have 1/sqrt(d)": _softmax(scores / d) @ a.v,
        "the scores are multiplied by sqrt(d), but must be divided by it": _softmax(scores * math.sqrt(d)) @ a.v,
        "the scores are divided by sqrt(N): d is the last axis of q": _softmax(scores / math.sqrt(a.q.shape[-2])) @ a.v,
        "q and k are exchanged in the scores: row n belongs to query n, so scores = q k^T": _softmax(
            _T(scores) / math.sqrt(d)) @ a.v,
        "the softmax runs along the wrong axis: each row, the last axis, must have the sum 1": _T(_softmax(
            _T(scores) / math.sqrt(d))) @ a.v,
        "the softmax is missing": scores / math.sqrt(d) @ a.v})


def _attention_backward_fits(a, dy):
    scale = 1 / math.sqrt(a.q.shape[-1])
    probs, cache = references.softmax.forward(a.q @ _T(a.k) * scale)
    dprobs = dy @ _T(a.v)
    dscores = references.softmax.backward(dprobs, cache) * scale
    skipped = "the backward of the softmax is missing: dscores is not dprobs"
    return {
        "dq": Fits(mistakes={"dq has dscores transposed: scores = q k^T gives dq = dscores k": _T(dscores) @ a.k,
                             f"in dq, {skipped}": dprobs * scale @ a.k}),
        "dk": Fits(mistakes={"dk lacks a transpose: scores = q k^T gives dk = dscores^T q": dscores @ a.q,
                             f"in dk, {skipped}": _T(dprobs) * scale @ a.q}),
        "dv": Fits(mistakes={"dv lacks a transpose: y = probs v gives dv = probs^T dy": probs @ dy})}


ATTENTION = Pair(
    references.attention, _attention_cases, "y", (), _attention_fits, _attention_backward_fits,
    {"dq": "scores = q k^T / sqrt(d), so dq = dscores k / sqrt(d)",
     "dk": "scores = q k^T / sqrt(d), so dk = dscores^T q / sqrt(d)",
     "dv": "y = probs v, so dv = probs^T dy"})

# ---- many heads --------------------------------------------------------------------------------------------


def _multi_head_cases(rng):
    D, heads = 6, 3
    p = {"qkv.weight": rng.standard_normal((D, 3 * D)), "qkv.bias": rng.standard_normal(3 * D),
         "proj.weight": rng.standard_normal((D, D)), "proj.bias": rng.standard_normal(D)}
    yield Case({"x": rng.standard_normal((5, 7, D)), "p": p, "heads": heads},
               {"B": 5, "N": 7, "h": 3, "D": 6, "3 D": 18})


def _split(x, heads):
    B, N, D = x.shape
    return x.reshape(B, N, heads, D // heads).transpose(0, 2, 1, 3)


def _merge(x):
    return x.transpose(0, 2, 1, 3).reshape(x.shape[0], x.shape[2], -1)


def _multi_head(a, split=_split, merge=_merge, order=(0, 1, 2), heads=0):
    qkv = a.x @ a.p["qkv.weight"] + a.p["qkv.bias"]
    parts = np.split(qkv, 3, axis=-1)
    y, _ = references.attention.forward(*(split(parts[i], heads or a.heads) for i in order))
    return merge(y)


def _flat_split(x, heads):
    B, N, D = x.shape
    return x.reshape(B, heads, N, D // heads)


def _flat_merge(x):
    return x.reshape(x.shape[0], x.shape[2], -1)


def _interleaved(x, heads):
    B, N, D = x.shape
    return x.reshape(B, N, D // heads, heads).transpose(0, 3, 1, 2)


def _multi_head_fits(a):
    def mixed(y):
        return y @ a.p["proj.weight"] + a.p["proj.bias"]

    y = _multi_head(a)
    orders = {f"the parts of qkv are taken in the order {', '.join('qkv'[order.index(i)] for i in range(3))}: the "
              "order is q, k and v": mixed(_multi_head(a, order=order))
              for order in list(itertools.permutations(range(3)))[1:]}
    return Fits({"(heads side by side) proj.weight": y @ a.p["proj.weight"],
                 "proj.bias": np.broadcast_to(a.p["proj.bias"], y.shape)}, mistakes={
        "the heads are cut by a reshape to (B, h, N, d) alone, which mixes tokens and heads: reshape to (B, N, h, d), "
        "then transpose": mixed(_multi_head(a, _flat_split)),
        "the heads are put side by side by a reshape alone: transpose (B, h, N, d) back to (B, N, h, d) first":
            mixed(_multi_head(a, merge=_flat_merge)),
        "the heads are cut by a reshape alone, and put side by side by one: transpose after the first, and before the "
        "second": mixed(_multi_head(a, _flat_split, _flat_merge)),
        "head 0 takes every third number: it must take the first d numbers": mixed(_multi_head(a, _interleaved)),
        "y is not multiplied by proj.weight: the last linear map is missing": y,
        "there is one head alone: cut q, k and v into h heads": mixed(_multi_head(a, heads=1))} | orders)


def _multi_head_backward_fits(a, dy):
    _, (qkv_cache, cache, proj_cache, heads) = references.multi_head.forward(*vars(a).values())
    dmerged, *_ = references.linear.backward(dy, proj_cache)

    def gradients(split=_split, merge=_merge, order=(0, 1, 2)):
        parts = list(references.attention.backward(split(dmerged, heads), cache))
        parts.append(np.zeros_like(parts[0]))                         # part -1
        dqkv = np.concatenate([merge(parts[i]) for i in order], axis=-1)
        return dict(zip(("dx", "dqkv.weight", "dqkv.bias"), references.linear.backward(dqkv, qkv_cache), strict=True))

    wrong = {
        "the gradient of the heads is cut by a reshape alone: transpose as in the forward": gradients(_flat_split),
        "dq, dk and dv are put side by side by a reshape alone: transpose (B, h, N, d) to (B, N, h, d) first":
            gradients(merge=_flat_merge)}
    for order in list(itertools.permutations(("q", "k", "v")))[1:]:
        wrong[f"in dqkv, the parts are in the order d{', d'.join(order)}: the order is dq, dk, dv"] = gradients(
            order=tuple("qkv".index(letter) for letter in order))
    def without(i):
        return gradients(order=tuple(j if j != i else -1 for j in range(3)))

    wrong |= {f"in dqkv, the part d{'qkv'[i]} is zero: all three of q, k and v act on y": without(i) for i in range(3)}
    return {name: Fits(mistakes={sentence: g[name] for sentence, g in wrong.items()})
            for name in ("dx", "dqkv.weight", "dqkv.bias")}


MULTI_HEAD = Pair(
    references.multi_head, _multi_head_cases, "y", (), _multi_head_fits, _multi_head_backward_fits,
    {"dx": "x acts on q, k and v, which lie side by side in qkv: dqkv has dq, dk and dv side by side"})

MARKINGS = {
    "attention": Marking(ATTENTION, "minivit/ops/attention.py, \"Backward\"", (
        "forward: `scores = q @ k.swapaxes(-1, -2) / math.sqrt(q.shape[-1])`, then `probs, cache = softmax.forward("
        "scores)`, then `probs @ v`.",
        "The last line is a product Z = A B with A = probs and B = v. So dprobs = dy v^T and dv = probs^T dy.",
        "`softmax.backward(dprobs, cache)` is the gradient of the scaled scores. Multiply by 1/sqrt(d) for the "
        "gradient of q k^T.",
        "q k^T is a product with B = k^T. dq = dscores k. The gradient of k^T is q^T dscores, so dk is its transpose, "
        "dscores^T q.")),
    "multi_head": Marking(MULTI_HEAD, "minivit/ops/attention.py, and minivit/plain.py, `attend`", (
        "Write two small functions: split(x, heads) from (B, N, D) to (B, h, N, d), and merge(x), the reverse.",
        "split: `x.reshape(B, N, heads, D // heads).transpose(0, 2, 1, 3)`. merge: the same transpose, then a reshape "
        "to (B, N, D).",
        "`q, k, v = np.split(qkv, 3, axis=-1)` cuts qkv. Then split each, call attention.forward, merge, and call "
        "linear.forward with proj.",
        "backward: linear.backward with the cache of proj; split its dx; attention.backward; merge dq, dk and dv; "
        "np.concatenate them along the last axis; linear.backward with the cache of qkv.")),
}
