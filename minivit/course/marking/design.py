"""Exercises 17 to 19, of design: RMSNorm, SwiGLU and a relative position bias."""

import numpy as np

from .. import references
from ..diagnosis import Fits
from ..examination import Case, Pair
from .marking import Marking

# ---- RMSNorm -----------------------------------------------------------------------------------------------


def _rms_norm_cases(rng):
    x, weight = 1 + 2 * rng.standard_normal((3, 5, 7)), rng.standard_normal(7)
    yield Case({"x": x, "weight": weight}, {"B": 3, "N": 5, "D": 7})
    yield Case({"x": x[:, 0] * 1e-3, "weight": weight}, {"B": 3, "D": 7}, "x of two axes (B, D) near sqrt(eps)",
               "Is eps added to the mean square, inside the root?")


def _rms_norm_fits(a):
    square = (a.x**2).mean(axis=-1, keepdims=True)
    centred = a.x - a.x.mean(axis=-1, keepdims=True)
    return Fits(mistakes={
        "in y, the mean is subtracted, as in layer norm: RMSNorm does not subtract the mean": centred / np.sqrt(
            (centred**2).mean(axis=-1, keepdims=True) + 1e-6) * a.weight,
        "in y, x is divided by the standard deviation: RMSNorm divides by the root of the mean square":
            a.x / np.sqrt(a.x.var(axis=-1, keepdims=True) + 1e-6) * a.weight,
        "in y, the square root is missing: r = 1 / sqrt(mean square + eps)": a.x / (square + 1e-6) * a.weight,
        "in y, eps is added after the square root: it belongs inside": a.x / (np.sqrt(square) + 1e-6) * a.weight,
        "in y, eps is missing": a.x / np.sqrt(square) * a.weight,
        "in y, the sum of squares is not divided by D: it must be a mean":
            a.x / np.sqrt(square * a.x.shape[-1] + 1e-6) * a.weight,
        "in y, the mean runs along the wrong axis (axis 0): each token has its own":
            a.x / np.sqrt((a.x**2).mean(axis=0, keepdims=True) + 1e-6) * a.weight})


def _rms_norm_backward_fits(a, dy):
    _, (xhat, r, weight) = references.rms_norm.forward(a.x, a.weight)
    dxhat, axes = dy * weight, tuple(range(dy.ndim - 1))

    def mean(v):
        return v.mean(axis=-1, keepdims=True)

    return {
        "dx": Fits({"r dxhat": r * dxhat, "- r xhat mean(dxhat xhat)": -r * xhat * mean(dxhat * xhat)},
                   {"- r mean(dxhat)": -r * mean(dxhat)}, {
            "in dx, the weight is applied after the mean: it belongs inside, dxhat = dy weight":
                weight * r * (dy - xhat * mean(dy * xhat)),
            "in dx, the weight is missing: dxhat = dy weight": r * (dy - xhat * mean(dy * xhat)),
            "in dx, the factor r is missing": dxhat - xhat * mean(dxhat * xhat),
            "in dx, the second term has x in place of xhat": r * (dxhat - a.x * mean(dxhat * a.x)),
            "in dx, the second term is wrong by a factor r**2: d r / d x_j = - r**3 x_j / D":
                r * dxhat - a.x * mean(dxhat * a.x) * r}),
        "dweight": Fits(mistakes={
            "dweight is the sum of dy x, but y = xhat weight: it is the sum of dy xhat": (dy * a.x).sum(axis=axes)})}


RMS_NORM = Pair(
    references.rms_norm, _rms_norm_cases, "y", (), _rms_norm_fits, _rms_norm_backward_fits,
    {"dx": "x acts on xhat in two ways, directly and through r, so dx has two terms"})

# ---- SwiGLU ------------------------------------------------------------------------------------------------


def _swiglu_cases(rng):
    p = {"gate.weight": rng.standard_normal((5, 7)), "up.weight": rng.standard_normal((5, 7)),
         "down.weight": rng.standard_normal((7, 5)) / 2}
    yield Case({"x": rng.standard_normal((3, 11, 5)), "p": p}, {"B": 3, "N": 11, "D": 5, "F": 7})


def _sigmoid(a):
    return 1 / (1 + np.exp(-a))


def _swiglu_fits(a):
    gate, up, down = a.x @ a.p["gate.weight"], a.x @ a.p["up.weight"], a.p["down.weight"]
    s = _sigmoid(gate)
    return Fits(mistakes={
        "gate and up are exchanged: SiLU is applied to x gate.weight": up * _sigmoid(up) * gate @ down,
        "the gate is a sigmoid, s b: it must be SiLU, a s b": s * up @ down,
        "up is missing: c = SiLU(a) b": gate * s @ down,
        "the gate is missing: c = SiLU(a) b": up @ down,
        "SiLU is missing: c = SiLU(a) b": gate * up @ down,
        "SiLU is applied to the product a b: it is applied to a alone": gate * up * _sigmoid(gate * up) @ down,
        "the sigmoid has the wrong sign: s = 1 / (1 + exp(-a))": gate * _sigmoid(-gate) * up @ down,
        "SiLU is added to b: c is their product": (gate * s + up) @ down})


def _swiglu_backward_fits(a, dy):
    x, p = a.x, a.p
    gate, up = x @ p["gate.weight"], x @ p["up.weight"]
    s, dc = _sigmoid(gate), dy @ p["down.weight"].T

    def rows(v):
        return v.reshape(-1, v.shape[-1])

    right, db = s + gate * s * (1 - s), dc * gate * s
    slopes = {
        "the slope of SiLU lacks the factor 1 - s in its second term: it is s + a s (1 - s)": s + gate * s,
        "the slope of SiLU(a) is taken as s (1 - s), that of the sigmoid: by the product rule it is s + a s (1 - s)":
            s * (1 - s),
        "the slope of SiLU lacks its second term, a s (1 - s)": s,
        "the slope of SiLU lacks its first term, s: by the product rule it is s + a s (1 - s)": gate * s * (1 - s),
        "the slope of SiLU has a sign that is wrong: it is s + a s (1 - s)": s - gate * s * (1 - s)}

    def da_mistakes(value_of):
        wrong = {sentence: value_of(dc * up * slope) for sentence, slope in slopes.items()}
        wrong["da lacks the factor b: c = SiLU(a) b"] = value_of(dc * right)
        return wrong

    through_up = db @ p["up.weight"].T
    return {
        "dx": Fits({"the path through gate, da gate.weight^T": dc * up * right @ p["gate.weight"].T,
                    "the path through up, db up.weight^T": through_up},
                   mistakes=da_mistakes(lambda da: da @ p["gate.weight"].T + through_up)),
        "dgate.weight": Fits(mistakes=da_mistakes(lambda da: rows(x).T @ rows(da))),
        "dup.weight": Fits(mistakes={
            "dup.weight has the sigmoid s in place of SiLU(a) = a s": rows(x).T @ rows(dc * s),
            "dup.weight lacks the factor SiLU(a): c = SiLU(a) b": rows(x).T @ rows(dc)})}


SWIGLU = Pair(
    references.swiglu, _swiglu_cases, "y", (), _swiglu_fits, _swiglu_backward_fits,
    {"dx": "x acts through gate and through up, so dx has two terms",
     "dgate.weight": "a acts on c through SiLU(a), whose slope is s + a s (1 - s)"})

# ---- relative position bias --------------------------------------------------------------------------------


def _relative_bias_cases(rng):
    yield Case({"table": rng.standard_normal((15, 4)), "rows": 2, "columns": 3}, {"h": 4, "N": 6})
    yield Case({"table": rng.standard_normal((15, 2)), "rows": 3, "columns": 2}, {"h": 2, "N": 6},
               "a grid of more rows than columns", "is each formula made of the right one of R and S?")


def _places(rows, columns):
    """Return the row and column of each token, (N,) each."""
    return np.divmod(np.arange(rows * columns), columns)


def _bias(table, index):
    return table[index].transpose(2, 0, 1)


def _relative_bias_fits(a):
    R, S = a.rows, a.columns
    y, x = _places(R, S)
    dy, dx = y[:, None] - y, x[:, None] - x
    width = 2 * S - 1

    def indexed(vertical, horizontal, width=width):
        index = (vertical + R - 1) * width + horizontal + S - 1
        return _bias(a.table, index % len(a.table))

    return Fits(mistakes={
        "the offset has the wrong sign, or n and m are exchanged: it is y - y' and x - x', from token n minus token m":
            indexed(-dy, -dx),
        "the offset of the rows has the wrong sign: it is y - y'": indexed(-dy, dx),
        "the offset of the columns has the wrong sign: it is x - x'": indexed(dy, -dx),
        "the factor of the row's offset is wrong: it is 2 S - 1, the number of offsets of the columns":
            indexed(dy, dx, 2 * R - 1),
        "the factor of the row's offset is S: it is 2 S - 1, the number of offsets of the columns": indexed(dy, dx, S)})


def _relative_bias_backward_fits(a, dbias):
    y, x = _places(a.rows, a.columns)
    index = (y[:, None] - y + a.rows - 1) * (2 * a.columns - 1) + (x[:, None] - x + a.columns - 1)
    once, total, counts = np.zeros_like(a.table), np.zeros_like(a.table), np.zeros((len(a.table), 1))
    once[index] = dbias.transpose(1, 2, 0)
    np.add.at(total, index, dbias.transpose(1, 2, 0))
    np.add.at(counts, index, 1)
    return {"dtable": Fits(mistakes={
        "each entry of dtable has the gradient of one pair of tokens alone: pairs with the same offset must add up. "
        "a[index] = ... and a[index] += ... overwrite; np.add.at adds": once,
        "dtable is a mean over the pairs with the same offset: it must be their sum": total / np.maximum(counts, 1)})}


RELATIVE_BIAS = Pair(
    references.relative_bias, _relative_bias_cases, "bias", (), _relative_bias_fits, _relative_bias_backward_fits,
    {"dtable": "an entry of the table acts on all pairs of tokens with its offset, so its gradient is a sum over them"})

MARKINGS = {
    "rms_norm": Marking(RMS_NORM, "minivit/ops/layer_norm.py, \"Backward\": leave out what comes from the mean", (
        "forward: r = 1 / np.sqrt((x**2).mean(axis=-1, keepdims=True) + eps). Keep xhat, r and weight.",
        "x acts on xhat = x r directly and through r: d xhat_i / d x_j = r delta_ij + x_i d r / d x_j.",
        "d r / d x_j = - r**3 x_j / D. So d xhat_i / d x_j = r (delta_ij - xhat_i xhat_j / D).",
        "Multiply by dxhat_i and add over i: dx = r (dxhat - xhat times a mean). It is the mean of dxhat xhat.")),
    "swiglu": Marking(SWIGLU, "minivit/ops/linear.py and minivit/ops/gelu.py: the same two rules", (
        "Begin at the end: y = c down.weight is a linear map, so dc = dy down.weight^T, and ddown.weight = c^T dy over "
        "all rows.",
        "c = SiLU(a) b has two factors: db = dc SiLU(a), and da = dc b times the slope of SiLU.",
        "SiLU(a) = a s is a product too. Its slope is s + a s (1 - s).",
        "x acts through a and through b: dx = da gate.weight^T + db up.weight^T.")),
    "relative_bias": Marking(RELATIVE_BIAS, "minivit/ops/relative_bias.py", (
        "y, x = np.divmod(np.arange(rows * columns), columns) are the row and the column of each token.",
        "y[:, None] - y is a matrix (N, N) of y - y'. The index is a formula of two such matrices.",
        "table[index] has the shape (N, N, h). Transpose it to (h, N, N).",
        "backward: dtable = np.zeros(shape, dbias.dtype), then np.add.at(dtable, index, dbias.transpose(1, 2, 0)).")),
}
