"""Exercises 1 to 5: linear, GELU, softmax, layer norm and cross-entropy."""

import math

import numpy as np

from .. import references
from ..diagnosis import Fits
from ..examination import Case, Pair
from .marking import Marking

# ---- linear ------------------------------------------------------------------------------------------------


def _linear_cases(rng):
    x, weight, bias = rng.standard_normal((3, 5, 7)), rng.standard_normal((7, 11)), rng.standard_normal(11)
    yield Case({"x": x, "weight": weight, "bias": bias}, {"B": 3, "N": 5, "I": 7, "O": 11})
    yield Case({"x": x[:, 0].copy(), "weight": weight, "bias": bias}, {"B": 3, "I": 7, "O": 11},
               "x of two axes (B, I)", "x may have any number of axes before the last one: lay them out as rows with "
               "x.reshape(-1, x.shape[-1])")


LINEAR = Pair(
    references.linear, _linear_cases,
    forward_fits=lambda a: Fits({"x weight": a.x @ a.weight, "bias": np.broadcast_to(a.bias, (*a.x.shape[:-1], 11))}),
    why={"dx": "x[n, i] acts on y[n, o] for every o, so dx[n, i] is a sum over all outputs o",
         "dweight": "weight[i, o] acts on y[n, o] for every row n, so dweight[i, o] is a sum over all rows of all "
                    "images",
         "dbias": "bias[o] acts on y[n, o] for every row n, so dbias[o] is a sum over all rows of all images"})

# ---- GELU --------------------------------------------------------------------------------------------------

_erf = np.vectorize(math.erf, otypes=[float])


def _gelu_fits(a):
    def x_times(cdf):
        return a.x * cdf

    return Fits(mistakes={
        "y is the tanh approximation of GELU: the exercise asks for the exact form, with erf": x_times(
            0.5 * (1 + np.tanh(math.sqrt(2 / math.pi) * (a.x + 0.044715 * a.x**3)))),
        "y is the sigmoid approximation of GELU: the exercise asks for the exact form, with erf": x_times(
            1 / (1 + np.exp(-1.702 * a.x))),
        "the division by sqrt(2) inside erf is missing": x_times((1 + _erf(a.x)) / 2),
        "y is Phi(x), but must be x Phi(x)": (1 + _erf(a.x / math.sqrt(2))) / 2,
        "the 1 is missing in Phi(x) = (1 + erf(x / sqrt(2))) / 2": x_times(_erf(a.x / math.sqrt(2)) / 2),
        "y is ReLU, max(x, 0)": np.maximum(a.x, 0)})


def _gelu_backward_fits(a, dy):
    cdf, gauss = (1 + _erf(a.x / math.sqrt(2))) / 2, np.exp(-a.x**2 / 2) / math.sqrt(2 * math.pi)
    return {"dx": Fits({"dy Phi(x)": dy * cdf, "dy x phi(x)": dy * a.x * gauss}, {"dy phi(x)": dy * gauss}, {
        "phi(x) has exp(-x**2), but must have exp(-x**2 / 2)": dy * (
            cdf + a.x * np.exp(-a.x**2) / math.sqrt(2 * math.pi))})}


GELU = Pair(
    references.gelu, lambda rng: [Case({"x": 2 * rng.standard_normal((3, 7))}, {})],
    forward_fits=_gelu_fits, backward_fits=_gelu_backward_fits,
    why={"dx": "y = x Phi(x) has two factors that depend on x, so the product rule gives two terms"})

# ---- softmax -----------------------------------------------------------------------------------------------


def _softmax_cases(rng):
    x = rng.standard_normal((3, 5, 7))
    yield Case({"x": x}, {"B": 3, "N": 5, "K": 7})
    yield Case({"x": x + 1000}, {"B": 3, "N": 5, "K": 7}, "scores near 1000",
               "exp(1000) is too large for a float: subtract the largest score of each row before exp")
    yield Case({"x": x - 1000}, {"B": 3, "N": 5, "K": 7}, "scores near -1000",
               "exp(-1000) rounds to 0: subtract the largest score of each row before exp")
    yield Case({"x": x - 1000 * np.arange(5)[:, None]}, {"B": 3, "N": 5, "K": 7}, "rows that differ by 1000",
               "the largest score of the whole array is too large for the other rows: subtract from each row its own "
               "largest score")
    yield Case({"x": x + np.linspace(-3000, 3000, 7)}, {"B": 3, "N": 5, "K": 7}, "rows with scores from -3000 to 3000",
               "subtract from each row its largest score, not another number: then exp gets nothing above 0")


def _softmax_fits(a):
    e, shifted = np.exp(a.x - a.x.max()), np.exp(a.x - a.x.max(axis=-1, keepdims=True))
    return Fits(mistakes={
        f"y is divided by a sum along the wrong axis (axis {axis}): a row of scores is the last axis":
            [scores / scores.sum(axis, keepdims=True) for scores in (e, shifted)] for axis in range(a.x.ndim - 1)} | {
        "y is the logarithm of the probabilities": a.x - a.x.max(-1, keepdims=True) - np.log(
            shifted.sum(-1, keepdims=True)),
        "the sum of the whole array y is 1, but each row must have the sum 1": e / e.sum(),
        "y is not divided by the sum of the row": np.exp(a.x - a.x.max(-1, keepdims=True))})


def _softmax_backward_fits(a, dy):
    y, _ = references.softmax.forward(a.x)
    mean = (dy * y).sum(axis=-1, keepdims=True)
    return {"dx": Fits({"y dy": y * dy, "- y sum(dy y)": -y * mean},
                       {"dy": dy, "mean(dy) y": y * dy.mean(axis=-1, keepdims=True)}, {
        "dx is dy y (1 - y), the diagonal of the Jacobian alone: x_j also acts on all other y_i of its row, through "
        "the sum S": dy * y * (1 - y),
        "the factor y before the bracket is missing in dx": dy - mean,
        **{f"the sum of dy y runs over the wrong axis (axis {axis}): each row has its own":
           y * (dy - (dy * y).sum(axis=axis, keepdims=True)) for axis in range(dy.ndim - 1)},
        "the sum of dy y runs over the whole array: each row has its own": y * (dy - (dy * y).sum())})}


SOFTMAX = Pair(
    references.softmax, _softmax_cases, forward_fits=_softmax_fits, backward_fits=_softmax_backward_fits,
    why={"dx": "x_j acts on y_j through exp(x_j), and on every y_i of its row through the sum S: "
               "dx_j has both"})

# ---- layer norm --------------------------------------------------------------------------------------------


def _layer_norm_cases(rng):
    sizes = {"B": 3, "N": 5, "D": 7}
    x, weight, bias = 1 + 2 * rng.standard_normal((3, 5, 7)), rng.standard_normal(7), rng.standard_normal(7)
    yield Case({"x": x, "weight": weight, "bias": bias}, sizes)
    yield Case({"x": x[:, 0].copy(), "weight": weight, "bias": bias}, {"B": 3, "D": 7}, "x of two axes (B, D)",
               "x may have any number of axes before the last")
    yield Case({"x": x[:, 0] * 1e-3, "weight": weight, "bias": bias}, {"B": 3, "D": 7}, "a variance near eps",
               "eps, an argument of forward, is added to the variance, inside the root")


def _layer_norm_fits(a):
    def norm(axis=-1, ddof=0, shift=1.0, eps=1e-6):
        centred = a.x - shift * a.x.mean(axis=axis, keepdims=True)
        return centred / np.sqrt(a.x.var(axis=axis, ddof=ddof, keepdims=True) + eps) * a.weight + a.bias

    right, var = norm(), a.x.var(axis=-1, keepdims=True)
    centred = a.x - a.x.mean(axis=-1, keepdims=True)
    return Fits({"xhat weight": right - a.bias, "bias": np.broadcast_to(a.bias, a.x.shape)}, mistakes={
        "in y, the variance is divided by D - 1 instead of D": norm(ddof=1),
        "y takes mean and variance along the wrong axis (axis 0, the batch): each token has its own": norm(axis=0),
        "y takes mean and variance along the wrong axis (axis 1): each token has its own": norm(axis=a.x.ndim - 2),
        "y takes mean and variance of the whole array: each token has its own": norm(axis=None),
        "in y, the mean is not subtracted": norm(shift=0.0),
        "in y, the bias is added before the multiplication by the weight: y = xhat weight + bias":
            right - a.bias + a.bias * a.weight,
        "in y, x - mean is divided by the variance: the square root is missing": centred / (var + 1e-6) * a.weight
                                                                                  + a.bias,
        "in y, eps is added after the square root: it belongs inside, 1 / sqrt(var + eps)":
            centred / (np.sqrt(var) + 1e-6) * a.weight + a.bias,
        "in y, eps is missing": centred / np.sqrt(var) * a.weight + a.bias,
        "y uses another eps than the argument eps": [norm(eps=eps) for eps in (1e-5, 1e-7, 1e-8, 1e-12)],
        "y is xhat: weight and bias are missing": (right - a.bias) / a.weight,
        "in y, the weight is missing: y = xhat weight + bias": (right - a.bias) / a.weight + a.bias,
        "in y, weight and bias are exchanged: y = xhat weight + bias": (right - a.bias) / a.weight * a.bias + a.weight,
        "in y, the root is taken twice: x - mean is divided by sqrt(var + eps)":
            centred / np.sqrt(np.sqrt(var) + 1e-6) * a.weight + a.bias,
        "in y, x - mean is divided by rstd: multiply by it": centred * np.sqrt(var + 1e-6) * a.weight + a.bias,
        "in y, x - mean is not divided by sqrt(var + eps)": centred * a.weight + a.bias})


def _layer_norm_backward_fits(a, dy):
    _, (xhat, rstd, weight) = references.layer_norm.forward(a.x, a.weight, a.bias)

    def through(g, mean=lambda v: v.mean(axis=-1, keepdims=True)):
        return g - mean(g) - xhat * mean(g * xhat)

    dxhat, axes = dy * weight, tuple(range(dy.ndim - 1))
    terms = {"rstd dxhat": rstd * dxhat, "- rstd mean(dxhat)": -rstd * dxhat.mean(axis=-1, keepdims=True),
             "- rstd xhat mean(dxhat xhat)": -rstd * xhat * (dxhat * xhat).mean(axis=-1, keepdims=True)}
    return {
        "dx": Fits(terms, {"- rstd mean(dxhat xhat)": -rstd * (dxhat * xhat).mean(axis=-1, keepdims=True),
                           "- rstd mean(dy)": -rstd * dy.mean(axis=-1, keepdims=True)}, {
            "in dx, the weight is applied after the means: it belongs inside, dxhat = dy weight": weight * rstd
                                                                                                  * through(dy),
            "in dx, the weight is missing: dxhat = dy weight": rstd * through(dy),
            "in dx, the factor rstd is missing": through(dxhat),
            **{f"in dx, the means run along the wrong axis (axis {axis}): each token has its own":
               rstd * through(dxhat, lambda v, axis=axis: v.mean(axis=axis, keepdims=True))
               for axis in range(dy.ndim - 1)},
            "in dx, x stands in the place of xhat": rstd * (
                dxhat - dxhat.mean(axis=-1, keepdims=True) - a.x * (dxhat * a.x).mean(axis=-1, keepdims=True)),
            "dx is dxhat rstd (1 - 1/D - xhat**2 / D), the diagonal of the Jacobian alone: x_j also acts on all other "
            "numbers of its token, through mean and rstd": rstd * dxhat * (1 - (1 + xhat**2) / a.x.shape[-1]),
            "in dx, the weight is applied twice: dxhat = dy weight has it already": rstd * through(dxhat * weight)}),
        "dweight": Fits(mistakes={
            "dweight is the sum of dy x, but y = xhat weight + bias: it is the sum of dy xhat":
                (dy * a.x).sum(axis=axes),
            "dweight is the sum of dy (x - mean), but y = xhat weight + bias: it is the sum of dy xhat":
                (dy * xhat / rstd).sum(axis=axes),
            "dweight is the sum of dy: it is the sum of dy xhat": dy.sum(axis=axes)})}


LAYER_NORM = Pair(
    references.layer_norm, _layer_norm_cases, forward_fits=_layer_norm_fits, backward_fits=_layer_norm_backward_fits,
    why={"dx": "x acts on xhat in three ways: directly, through the mean, and through rstd. dx has a term for each",
         "dweight": "weight[j] acts on entry j of every token: add dy xhat over all tokens",
         "dbias": "bias[j] acts on entry j of every token: add dy over all tokens"})

# ---- cross-entropy -----------------------------------------------------------------------------------------


def _cross_entropy_cases(rng):
    sizes = {"B": 3, "K": 5}
    logits, t = rng.standard_normal((3, 5)), rng.dirichlet(np.ones(5), 3)
    yield Case({"logits": logits, "t": t}, sizes)
    yield Case({"logits": logits + 1000, "t": t}, sizes, "logits near 1000",
               "exp(1000) is too large for a float: subtract the largest logit of each row first")
    yield Case({"logits": 1000 * logits, "t": t}, sizes, "logits that differ by thousands",
               "a probability that rounds to 0 has the logarithm -infinity: compute log p = z - log(sum of exp(z))")


def _cross_entropy_fits(a):
    p, _ = references.softmax.forward(a.logits)
    return Fits(mistakes={
        "the loss is a sum instead of a mean over the images: the division by B is missing":
            np.asarray(-(a.t * np.log(p)).sum()),
        "the loss has the wrong sign": np.asarray((a.t * np.log(p)).sum() / len(p)),
        "the loss is divided by B K: divide by the number of images alone": np.asarray(-(a.t * np.log(p)).mean()),
        "the loss is computed from the largest t of each row alone: it is a sum over all classes":
            np.asarray(-np.log(p[np.arange(len(p)), a.t.argmax(axis=1)]).mean()),
        "the loss has t and p exchanged: it is the sum of -t log p": np.asarray(-(p * np.log(a.t)).sum() / len(p))})


def _cross_entropy_backward_fits(a, dloss):
    p, _ = references.softmax.forward(a.logits)
    return {"dlogits": Fits({"dloss p / B": dloss * p / len(p), "- dloss t / B": -dloss * a.t / len(p)}, mistakes={
        "dlogits is -t / (p B), the gradient of p: the softmax is between the logits and p":
            -dloss * a.t / p / len(p)})}


CROSS_ENTROPY = Pair(
    references.cross_entropy, _cross_entropy_cases, "loss", ("t",), _cross_entropy_fits, _cross_entropy_backward_fits,
    why={"dlogits": "each row of t has the sum 1, so the sum over the classes becomes simple"})

# ---- hints -------------------------------------------------------------------------------------------------

MARKINGS = {
    "linear": Marking(LINEAR, "minivit/ops/linear.py, \"Backward\"", (
        "forward: `y = x @ weight + bias`. The operator @ multiplies the last axis of x by the first of weight. Return "
        "y and a tuple of what the backward needs: x and weight.",
        "dx: the sum over o of dy[n, o] weight[i, o] is row n of dy times row i of weight, which is `dy @ weight.T`.",
        "dweight: weight[i, o] acts on y[n, o] for every row n, and the derivative is x[n, i]. So dweight[i, o] is the "
        "sum over n of x[n, i] dy[n, o].",
        "All axes before the last one count as rows: `rows = x.reshape(-1, x.shape[-1])`, and dy likewise. Then a sum "
        "over n is a product of matrices. Which of the two must be transposed, so that the shape is (I, O)?",
        "dbias: bias[o] acts on y[n, o] for every n, with the derivative 1. So it is the sum of dy over all rows.")),
    "gelu": Marking(GELU, "minivit/ops/gelu.py, \"Backward\"", (
        "forward: compute cdf = (1 + erf(x / sqrt(2))) / 2 with `math.sqrt`. Then y = x cdf. Keep x and cdf.",
        "The product rule: (u v)' = u' v + u v'. Here u = x and v = Phi(x).",
        "u' = 1 and v' = phi(x). So dy/dx = Phi(x) + x phi(x). Multiply it by dy.")),
    "softmax": Marking(SOFTMAX, "minivit/ops/softmax.py, \"Backward\"", (
        "forward: subtract `x.max(axis=-1, keepdims=True)`, take np.exp, and divide by the sum along the last axis, "
        "also with keepdims=True.",
        "The backward needs y alone: all derivatives in the text are made of y.",
        "dx_j is the sum over i of dy_i times d y_i / d x_j. The term y_i occurs only for i = j, and gives dy_j y_j.",
        "The terms - y_i y_j occur for all i. Their sum is - y_j times the sum over i of dy_i y_i, which is one number "
        "per row.")),
    "layer_norm": Marking(LAYER_NORM, "minivit/ops/layer_norm.py, \"Backward\"", (
        "forward: all means run along the last axis with keepdims=True, so that the shapes fit. Keep xhat, rstd and "
        "weight.",
        "dbias is the sum of dy over all axes but the last. dweight is the same sum of dy xhat.",
        "dxhat = dy weight comes first; everything after it happens to dxhat, not to dy.",
        "Multiply the three parts of the derivative by dxhat_i and add over i: delta_ij leaves dxhat_j. 1/D leaves the "
        "mean of dxhat. xhat_i xhat_j / D leaves xhat_j times a mean. Of what?",
        "The last mean is that of dxhat xhat. All three parts have the factor rstd.")),
    "cross_entropy": Marking(CROSS_ENTROPY, "minivit/ops/cross_entropy.py, \"Backward\"", (
        "forward: z = logits - the largest of each row; log_p = z - log(sum of exp(z)), both with keepdims=True. The "
        "loss is -(t log_p) summed over everything, divided by B = len(logits).",
        "The backward needs p = exp(log_p) and t.",
        "The sum over k of -t_k (delta_kj - p_j) is -t_j + p_j times the sum of all t_k, which is 1.",
        "So dlogits is (p - t), divided by B and multiplied by dloss.")),
}
