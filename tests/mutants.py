"""Mutants: backwards with one bug each, to measure which bugs the gradient checker finds.

    python tests/mutants.py            prints the mutation score of every method, and of torch.autograd.gradcheck

The score of torch is left out if torch is not installed.

A mutant is a check of the catalogue with one bug in its backward. In an op, it is an edit of the source of
`reference_backward`; in a layer or model, a change of what its backward has computed. It is *caught* if the tensor that
the bug makes wrong fails, and no other.
"""

import inspect
import sys
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import numpy as np

from minivit.gradcheck_catalogue import catalogue
from minivit.gradient_checking.adapters import Options, function_under_test
from minivit.gradient_checking.comparison import Comparer

METHODS = ("richardson", "central", "directional", "taylor")


@dataclass(frozen=True)
class OpMutant:
    """A bug in an op: `right`, a piece of the source of its `reference_backward`, is replaced by `wrong`."""

    name: str
    tensor: str
    bug: str
    right: str
    wrong: str
    kind: str = "reference"

    def plant(self, target):
        """Return the pair with the bug."""
        forward, backward = target
        source = inspect.getsource(backward)
        assert source.count(self.right) == 1, f"{self.name}: its source has no longer one {self.right!r}"
        names = dict(backward.__globals__)
        exec(source.replace(self.right, self.wrong), names)
        return forward, names[backward.__name__]


@dataclass(frozen=True)
class LayerMutant:
    """A bug in a layer or model: `change(layer, dy, dx)` spoils a gradient after backward, or returns a wrong dx."""

    name: str
    tensor: str
    bug: str
    change: Callable
    kind: str = "layer"

    def plant(self, target):
        """Return the layer with the bug."""
        right, change = type(target).backward, self.change

        class Mutant(type(target)):
            def backward(self, dy):
                dx = right(self, dy)
                changed = change(self, dy, dx)
                return dx if changed is None else changed

        target.__class__ = Mutant
        return target


def _gradient(name, change):
    """Return a change of the gradient of one parameter."""
    def spoil(layer, dy, dx):
        (parameter,) = (p for p in layer.parameters() if p.name == name)
        parameter.grad = change(parameter.grad)
    return spoil


def _with(g, where, value):
    """Return a copy of g with one part replaced."""
    g = g.copy()
    g[where] = value
    return g


LN_DX = "rstd * (dxhat - along_shift - xhat * along_xhat)"
MEANS_OF_DY = "(dy - dy.mean(axis=-1, keepdims=True) - xhat * (dy * xhat).mean(axis=-1, keepdims=True))"
PATCH = "dpatches[:, m].reshape(B, P, Q, C)"

IN_OPS = [OpMutant(*mutant) for mutant in (
    ("linear, square", "x", "the weight is not transposed", "dy @ weight.T", "dy @ weight"),
    ("linear, square", "weight", "the weight's gradient is transposed", "as_matrix(x).T @ as_matrix(dy)",
     "as_matrix(dy).T @ as_matrix(x)"),
    ("linear", "x", "0.1% too large", "dy @ weight.T", "1.001 * dy @ weight.T"),
    ("linear", "weight", "only the last image counts", "as_matrix(x).T @ as_matrix(dy)", "x[-1].T @ dy[-1]"),
    ("linear", "weight", "weight decay is in the gradient", "as_matrix(x).T @ as_matrix(dy)",
     "as_matrix(x).T @ as_matrix(dy) + 1e-3 * weight"),
    ("linear of rows", "weight", "a mean that should be a sum", "as_matrix(x).T @ as_matrix(dy)",
     "as_matrix(x).T @ as_matrix(dy) / len(x)"),
    ("linear", "bias", "the sum over the tokens is missing", "as_matrix(dy).sum(axis=0)", "as_matrix(dy)[0]"),
    ("linear", "bias", "a mean that should be a sum", "as_matrix(dy).sum(axis=0)", "as_matrix(dy).mean(axis=0)"),
    ("gelu", "x", "the product rule's second term is missing", "cdf + x * pdf", "cdf"),
    ("gelu", "x", "the product rule's first term is missing", "cdf + x * pdf", "x * pdf"),
    ("gelu", "x", "sqrt(2 pi) is rounded to 2.5", "math.sqrt(2 * math.pi)", "2.5"),
    ("gelu", "x", "the density is of another width", "-0.5 * x * x", "-x * x"),
    ("gelu", "x", "the slope of the approximation by a sigmoid", "(cdf + x * pdf)",
     "((s := 1 / (1 + np.exp(-1.702 * x))) + 1.702 * x * s * (1 - s))"),
    ("layer_norm", "x", "the weight stands outside the means", LN_DX, f"rstd * weight * {MEANS_OF_DY}"),
    ("layer_norm", "x", "the weight is left out", LN_DX, f"rstd * {MEANS_OF_DY}"),
    ("layer_norm", "x", "the mean is not subtracted", LN_DX, "rstd * (dxhat - xhat * along_xhat)"),
    ("layer_norm", "x", "the variance is taken as constant", LN_DX, "rstd * (dxhat - along_shift)"),
    ("layer_norm", "x", "mean and variance are taken as constant", LN_DX, "rstd * dxhat"),
    ("layer_norm", "x", "1 / std is missing", LN_DX, "dxhat - along_shift - xhat * along_xhat"),
    ("layer_norm", "x", "one term is 0.1% too small", "xhat * along_xhat", "0.999 * xhat * along_xhat"),
    ("layer_norm of rows", "x", "the variance is divided by D - 1", "xhat * along_xhat",
     "xhat * along_xhat * xhat.shape[-1] / (xhat.shape[-1] - 1)"),
    ("layer_norm", "x", "the mean runs over the images", "dxhat.mean(axis=-1, keepdims=True)",
     "dxhat.mean(axis=0, keepdims=True)"),
    ("layer_norm", "weight", "the sum over the tokens is missing", "as_matrix(dy * xhat).sum(axis=0)",
     "as_matrix(dy * xhat)[0]"),
    ("layer_norm", "weight", "xhat is forgotten", "as_matrix(dy * xhat)", "as_matrix(dy)"),
    ("layer_norm", "bias", "a mean that should be a sum", "as_matrix(dy).sum(axis=0)", "as_matrix(dy).mean(axis=0)"),
    ("softmax", "x", "only the diagonal of the Jacobian", "(dy - mean_dy)", "dy * (1 - y)"),
    ("softmax", "x", "the probabilities are forgotten", "scale * y * (dy - mean_dy)", "scale * (dy - mean_dy)"),
    ("softmax", "x", "the sign is wrong", "(dy - mean_dy)", "(mean_dy - dy)"),
    ("softmax", "x", "a mean that should be a sum", "(dy * y).sum(", "(dy * y).mean("),
    ("softmax", "x", "the sum runs over the images", "sum(axis=-1, keepdims=True)", "sum(axis=0, keepdims=True)"),
    ("softmax with a scale", "x", "the scale is forgotten", "scale * y", "y"),
    ("softmax of one row", "x", "0.1% too small", "scale * y", "0.999 * scale * y"),
    ("attention", "qkv", "1 / sqrt d is missing", "(probs, scale)", "(probs, 1.0)"),
    ("attention", "qkv", "the softmax is left out", "softmax.reference_backward(dprobs, (probs, scale))",
     "scale * dprobs"),
    ("attention", "qkv", "only the diagonal of the Jacobian of the softmax",
     "softmax.reference_backward(dprobs, (probs, scale))", "scale * dprobs * probs * (1 - probs)"),
    ("attention", "qkv", "the scores are not transposed for the keys", "dscores.swapaxes(-1, -2) @ q", "dscores @ q"),
    ("attention", "qkv", "the probabilities are not transposed", "probs.swapaxes(-1, -2) @ dy", "probs @ dy"),
    ("attention", "qkv", "queries and keys are exchanged", "[dq, dk, dv]", "[dk, dq, dv]"),
    ("attention", "qkv", "the values have no gradient", "[dq, dk, dv]", "[dq, dk, 0 * dv]"),
    ("attention", "qkv", "the heads are laid out in the wrong order", "transpose(1, 3, 0, 2, 4)",
     "transpose(1, 3, 0, 4, 2)"),
    ("attention", "qkv", "the images of the batch are mixed", "dv = probs.swapaxes(-1, -2) @ dy",
     "dv = np.roll(probs.swapaxes(-1, -2) @ dy, 1, axis=0)"),
    ("attention, one head", "qkv", "0.1% too large", "dscores @ k", "1.001 * dscores @ k"),
    ("attention_variants of the first tokens", "qkv", "the last queries get the gradient of the first",
     "dq[:, :, queries] =", "dq[:, :, -2:] ="),
    ("attention_variants of some tokens, with a bias", "qkv", "tokens without a query get no gradient as values",
     "[dq, dk, dv]", "[dq, dk, dv * np.isin(np.arange(4), [1, 2])[:, None]]"),
    ("attention_variants with a bias", "bias", "the scale is in its gradient", ".sum(axis=0) / scale", ".sum(axis=0)"),
    ("attention_variants with a bias", "bias", "the sum over the images is missing",
     "dscores.reshape(-1, *bias_shape).sum(axis=0)", "dscores[0]"),
    ("attention_variants with a bias per window", "bias", "the windows are taken for the images",
     "dscores.reshape(-1, *bias_shape).sum(axis=0)", "dscores.reshape(bias_shape[0], -1, *bias_shape[1:]).sum(axis=1)"),
    ("relative_bias", "table", "pairs at one distance overwrite each other",
     "np.add.at(dtable, places[..., :dbias.shape[-3], :], dbias)", "dtable[places] = dbias"),
    ("relative_bias with a class token", "table", "queries and keys are exchanged", "np.moveaxis(dbias, -3, -1)",
     "dbias.transpose(2, 1, 0)"),
    ("rotary", "qkv", "it turns forward again", "_rotated(dy, heads, cos, -sin)", "_rotated(dy, heads, cos, sin)"),
    ("rotary with a class token", "qkv", "the gradient is not turned", "_rotated(dy, heads, cos, -sin)", "dy + 0"),
    ("layer_scale", "gamma", "the mean over the tokens", ".sum(axis=0)", ".mean(axis=0)"),
    ("layer_scale", "x", "the factor is forgotten", "dy * gamma", "dy * np.sign(gamma)"),
    ("convolution", "x", "overlapping places overwrite each other", "dpadded[place] +=", "dpadded[place] ="),
    ("convolution", "x", "the filter is rotated by 180 degrees", "weight[u, v].T", "weight[-1 - u, -1 - v].T"),
    ("convolution with stride and padding", "x", "the padding is cut off on the wrong side",
     "[:, padding:padding + H, padding:padding + W]", "[:, :H, :W]"),
    ("convolution with stride and padding", "weight", "0.1% too small", "as_matrix(padded[place]).T @ as_matrix(dy)",
     "0.999 * as_matrix(padded[place]).T @ as_matrix(dy)"),
    ("convolution", "bias", "a mean that should be a sum", "as_matrix(dy).sum(axis=0)", "as_matrix(dy).mean(axis=0)"),
    ("convolution of every second place", "x", "the rows are in the wrong order", "dpadded[place] +=",
     "dpadded[place][:, ::-1] +="),
    ("winograd", "x", "overlapping tiles overwrite each other", "] += dtiles[..., r, s]", "] = dtiles[..., r, s]"),
    ("winograd of an odd image", "x", "rows and columns of U are exchanged", '"nijduv,uvcd->nijcuv"',
     '"nijduv,vucd->nijcuv"'),
    ("winograd", "weight", "the entries 1/2 of G are forgotten", "_both_ends(G.T, dU)",
     "_both_ends(np.sign(G.T), dU)"),
    ("winograd of an odd image", "weight", "the last tiles, which are cut off, are forgotten",
     '"nijcuv,nijduv->uvcd", V, dQ', '"nijcuv,nijduv->uvcd", V[:, :-1], dQ[:, :-1]'),
    ("winograd without a bias", "x", "the padding is cut off on the wrong side",
     "[:, padding:padding + H, padding:padding + W]", "[:, :H, :W]"),
    ("weight_standardisation", "weight", "the mean is not subtracted", "dwhat - along_shift - what", "dwhat - what"),
    ("weight_standardisation", "weight", "the variance is taken as constant", " - what * along_what", ""),
    ("weight_standardisation", "weight", "1 / std is missing", "rstd * (dwhat", "(dwhat"),
    ("weight_standardisation", "weight", "the standardisation is left out",
     "return rstd * (dwhat - along_shift - what * along_what)", "return dwhat"),
    ("weight_standardisation of one place", "weight", "one term is 0.1% too small", "what * along_what",
     "0.999 * what * along_what"),
    ("weight_standardisation", "weight", "the mean runs over all filters", "along_shift = dwhat.mean(axis=(0, 1, 2))",
     "along_shift = dwhat.mean()"),
    ("group_norm", "x", "the mean runs over a channel instead of a group", "dxhat.mean(axis=(1, 3), keepdims=True)",
     "dxhat.mean(axis=1, keepdims=True)"),
    ("group_norm", "x", "the images of the batch are mixed", "dxhat.mean(axis=(1, 3), keepdims=True)",
     "dxhat.mean(axis=(0, 1, 3), keepdims=True)"),
    ("group_norm", "x", "the weight is left out", "(dy * weight)", "dy"),
    ("group_norm", "x", "the variance is taken as constant", " - xhat * along_xhat", ""),
    ("group_norm of one group", "x", "the mean is not subtracted", "dxhat - along_shift - xhat", "dxhat - xhat"),
    ("group_norm with a relu", "x", "1 / std is missing", "rstd * (dxhat", "(dxhat"),
    ("group_norm", "weight", "xhat is forgotten", "as_matrix(dy * xhat.reshape(dy.shape))", "as_matrix(dy)"),
    ("group_norm", "bias", "the sum over the places is missing", "as_matrix(dy).sum(axis=0)",
     "dy[:, 0, 0].sum(axis=0)"),
    ("relu", "x", "negative numbers pass too", "dy * (x > 0)", "dy"),
    ("relu", "x", "negative numbers pass instead of positive ones", "x > 0", "x < 0"),
    ("relu", "x", "negative numbers pass with a factor of 0.1%", "dy * (x > 0)", "dy * np.where(x > 0, 1, 0.001)"),
    ("max_pooling", "x", "rows and columns of a window are exchanged", "u, v = divmod", "v, u = divmod"),
    ("max_pooling with stride and padding", "x", "overlapping places overwrite each other", "c] += dy", "c] = dy"),
    ("max_pooling with stride and padding", "x", "the padding is cut off on the wrong side",
     "[:, padding:padding + H, padding:padding + W]", "[:, :H, :W]"),
    ("max_pooling", "x", "the first place of a square takes the whole gradient", "stride * i + u, stride * j + v",
     "stride * i, stride * j"),
    ("cross_entropy", "logits", "the mean over the images is forgotten", " / batch_size", ""),
    ("cross_entropy", "logits", "the mean runs over the classes", "/ batch_size", "/ p.shape[1]"),
    ("cross_entropy", "logits", "the sign is wrong", "(p - t)", "(t - p)"),
    ("cross_entropy", "logits", "the upstream gradient is ignored", "dloss * (p - t)", "(p - t)"),
    ("cross_entropy with smoothing", "logits", "the smoothing is forgotten", "(p - t)", "(p - np.round(t))"),
    ("cross_entropy of a lane", "logits", "divided by the lane, not the batch", "/ batch_size", "/ len(p)"),
    ("distillation", "logits", "the temperature's square is forgotten", "temperature * (p - q)",
     "(p - q) / temperature"),
    ("distillation", "logits", "the temperature is forgotten", "temperature * (p - q)", "(p - q)"),
    ("distillation", "logits", "the teacher's probabilities are replaced by its class", "(p - q)",
     "(p - (q == q.max(axis=1, keepdims=True)))"),
    ("distillation", "logits", "the upstream gradient is ignored", "dloss * temperature", "temperature"),
    ("distillation, hard", "logits", "the sign is wrong", "(p - q)", "(q - p)"),
    ("distillation of a lane", "logits", "divided by the lane, not the batch", "/ batch_size", "/ len(p)"),
    ("hiding", "x", "hidden pixels get a gradient, too", "reference_forward(dy, *cache)[0]", "dy"),
    ("hiding", "x", "hidden and visible are exchanged", "reference_forward(dy, *cache)[0]",
     "reference_forward(dy, 1 - cache[0], cache[1])[0]"),
    ("picking", "x", "the rows return in another order", "dy.reshape(-1, dy.shape[-1])",
     "dy[:, ::-1].reshape(-1, dy.shape[-1])"),
    ("picking after a class token", "x", "rows that were left out get a gradient", "np.zeros(", "np.ones("),
    ("filling", "x", "the rows return in another order", "-1, dy.shape[-1])", "-1, dy.shape[-1])[:, ::-1]"),
    ("filling", "mask_token", "a mean that should be a sum", "dy[~kept].sum(axis=0)", "dy[~kept].mean(axis=0)"),
    ("filling after two other tokens", "mask_token", "visible tokens count, too", "dy[~kept].sum(axis=0)",
     "dy.sum(axis=(0, 1))"),
    ("reconstruction", "prediction", "the square's factor 2 is forgotten", "dloss * 2 ", "dloss "),
    ("reconstruction", "prediction", "the upstream gradient is ignored", "dloss * 2 ", "2 "),
    ("reconstruction", "prediction", "the mean over the hidden patches is forgotten", "/ counts",
     "/ error.shape[-1]"),
    ("reconstruction of plain pixels, of a lane", "prediction", "divided by the lane, not the batch", "/ batch_size",
     "/ len(error)"),
    ("windows", "x", "the windows follow each other column by column",
     "dwindows.reshape(B, rows // w, columns // v, w, v, D)",
     "dwindows.reshape(B, columns // v, rows // w, w, v, D).swapaxes(1, 2)"),
    ("windows", "x", "rows and columns of a window are exchanged", "transpose(0, 1, 3, 2, 4, 5)",
     "transpose(0, 1, 4, 2, 3, 5)"),
    ("windows, shifted", "x", "it is not shifted back", "(s, t), axis", "(0, 0), axis"),
    ("windows, shifted", "x", "it is shifted twice", "W], (s, t)", "W], (-s, -t)"),
    ("merging", "x", "row by row, not column by column", "dx[:, r::2, c::2]", "dx[:, c::2, r::2]"),
    ("windows, padded and shifted", "x", "the padding is taken to come first", "shifted[:, :H, :W]",
     "shifted[:, rows - H:, columns - W:]"),
    ("patches, oblong", "images", "rows and columns of the patch are exchanged",
     "dimages[:, y:y + P, x:x + Q] = " + PATCH,
     "dimages[:, y:y + P, x:x + Q] = dpatches[:, m].reshape(B, Q, P, C).swapaxes(1, 2)"),
    ("merging of odd rows and columns", "x", "the padding is taken to come first", "dx[:, :H, :W]",
     "dx[:, -H:, -W:]"),
    ("merging of one place", "x", "one corner is forgotten", "= quarter", "= quarter * (r + c < 2)"),
    ("patches", "images", "rows and columns of a patch are exchanged", PATCH, f"{PATCH}.swapaxes(1, 2)"),
    ("patches", "images", "the channels are taken to come first", PATCH,
     "dpatches[:, m].reshape(B, C, P, Q).transpose(0, 2, 3, 1)"),
    ("patches", "images", "the last patch is forgotten", PATCH, f"{PATCH} * (m + 1 < len(corners))"),
    ("patches of one row", "images", "the images are in the wrong order", "dpatches[:, m]", "dpatches[::-1, m]"),
    ("tokens", "x", "the tokens are shifted by one", "dy[:, T:]", "dy[:, :-T]"),
    ("tokens", "class_token", "it has the gradient of the first patch", "dy[:, :T]", "dy[:, T:2 * T]"),
    ("tokens without positions", "class_token", "a mean that should be a sum", "dy[:, :T])", "dy[:, :T] / len(dy))"),
    ("tokens", "class_token", "its gradient is zero", 'np.einsum("btd->td", dy[:, :T])', "0 * dy[0, :T]"),
    ("tokens with two of their own", "class_token", "the two tokens are exchanged", "dy[:, :T]", "dy[:, :T][:, ::-1]"),
    ("tokens", "positions", "the sum over the images is missing", 'np.einsum("bnd->nd", dy)', "dy[0]"),
    ("tokens", "positions", "the class token's position has no gradient", 'np.einsum("bnd->nd", dy)',
     'np.einsum("bnd->nd", dy) * (np.arange(dy.shape[1]) > 0)[:, None]'),
    ("pooling by mean", "x", "a sum that should be a mean", "dy[:, None] / shape[1]", "dy[:, None]"),
    ("pooling by mean", "x", "the mean runs over the images", "/ shape[1]", "/ shape[0]"),
    ("pooling by token", "x", "the last token gets the first's gradient", "dx[:, 0] = dy", "dx[:, -1] = dy"),
    ("dropout", "x", "the mask is forgotten", "dy * mask", "dy"),
    ("dropout", "x", "the kept numbers are not scaled", "dy * mask", "dy * (mask > 0)"),
    ("dropout of a path", "x", "the mask is that of another image", "dy * mask", "dy * mask[::-1]"),
)]

IN_LAYERS = [
    *(LayerMutant(*mutant) for mutant in (
        ("Linear", "x", "0.1% too large", lambda layer, dy, dx: 1.001 * dx),
        ("Linear", "bias", "the sum over the tokens is missing",
         lambda layer, dy, dx: setattr(layer.bias, "grad", dy[0, 0])),
        ("LayerNorm", "x", "the shift is not taken out", lambda layer, dy, dx: dx + 0.01),
        ("LayerNorm", "weight", "one entry is wrong", _gradient("weight", lambda g: _with(g, 2, 1.1 * g[2]))),
        ("GELU", "x", "0.1% of dy is added", lambda layer, dy, dx: dx + 0.001 * dy),
        ("MLP", "x", "another image's gradient", lambda layer, dy, dx: dx[::-1].copy()),
        ("MLP", "fc1.bias", "its gradient is zero", _gradient("fc1.bias", np.zeros_like)),
        ("Attention", "x", "the sign is wrong", lambda layer, dy, dx: -dx),
        ("Attention", "qkv.bias", "the queries' gradient for the values",
         _gradient("qkv.bias", lambda g: _with(g, slice(24, 36), g[:12]))),
        ("Attention", "proj.weight", "transposed", _gradient("proj.weight", lambda g: g.T.copy())),
        ("Block", "x", "the residual path is dropped", lambda layer, dy, dx: dx - dy),
        ("Block", "norm2.weight", "its gradient is zero", _gradient("norm2.weight", np.zeros_like)),
        ("Block", "mlp.fc1.weight", "one entry of 1152 is wrong",
         _gradient("mlp.fc1.weight", lambda g: _with(g, (7, 31), 1.5 * g[7, 31]))),
        ("NormedAttention", "q_norm.weight", "it has the gradient of the keys' norm",
         lambda layer, dy, dx: setattr(layer.q_norm.weight, "grad", layer.k_norm.weight.grad)),
        ("NormedAttention", "x", "0.1% too large", lambda layer, dy, dx: 1.001 * dx),
        ("RotaryAttention", "x", "0.1% too large", lambda layer, dy, dx: 1.001 * dx),
        ("NormedRotaryAttention", "q_norm.weight", "it has the gradient of the keys' norm",
         lambda layer, dy, dx: setattr(layer.q_norm.weight, "grad", layer.k_norm.weight.grad)),
        ("LayerScale", "gamma", "its gradient is zero", _gradient("gamma", np.zeros_like)),
        ("ScaledBlock", "ls1.gamma", "it has the gradient of the other branch",
         lambda layer, dy, dx: setattr(layer.ls1.gamma, "grad", layer.ls2.gamma.grad)),
        ("AttentionVariant with a relative bias", "rel_pos.relative_position_bias_table", "0.1% too large",
         _gradient("rel_pos.relative_position_bias_table", lambda g: 1.001 * g)),
        ("RelativeBias", "relative_position_bias_table", "the heads are exchanged",
         _gradient("relative_position_bias_table", lambda g: g[:, ::-1].copy())),
        ("Convolution", "x", "the images are in the wrong order", lambda layer, dy, dx: dx[::-1].copy()),
        ("Convolution", "weight", "rows and columns of the filter are exchanged",
         _gradient("weight", lambda g: g.swapaxes(0, 1).copy())),
        ("StdConvolution", "weight", "its mean is not taken out", _gradient("weight", lambda g: g + 0.01)),
        ("StdConvolution", "x", "0.1% too large", lambda layer, dy, dx: 1.001 * dx),
        ("GroupNormReLU", "weight", "it has the gradient of the bias",
         lambda layer, dy, dx: setattr(layer.weight, "grad", layer.bias.grad)),
        ("GroupNormReLU", "x", "the ReLU is forgotten on the way to x", lambda layer, dy, dx: dx + 0.01 * dy),
        ("Shortcut", "x", "places that the stride skips get a gradient", lambda layer, dy, dx: dx + 0.01),
        ("ResidualBlock", "x", "the residual path is dropped", lambda layer, dy, dx: dx - dy),
        ("ResidualBlock", "norm1.bias", "its gradient is zero", _gradient("norm1.bias", np.zeros_like)),
        ("ResidualBlock that halves", "downsample.conv.weight", "its gradient is zero",
         _gradient("downsample.conv.weight", np.zeros_like)),
        ("Stage", "blocks.0.conv1.weight", "its gradient is zero", _gradient("blocks.0.conv1.weight", np.zeros_like)),
        ("Stage after a merging", "downsample.reduction.weight", "its gradient is zero",
         _gradient("downsample.reduction.weight", np.zeros_like)),
        ("ResidualBlock with a bottleneck", "conv2.weight", "the filter is rotated by 180 degrees",
         _gradient("conv2.weight", lambda g: g[::-1, ::-1].copy())),
        ("ConvStem", "convs.0.bias", "its gradient is zero", _gradient("convs.0.bias", np.zeros_like)),
        ("ConvStem", "norms.1.weight", "its gradient is zero", _gradient("norms.1.weight", np.zeros_like)),
        ("WindowAttention", "x", "the windows are mixed",
         lambda layer, dy, dx: dx + 0.01 * dx.mean(axis=(1, 2), keepdims=True)),
        ("WindowAttention with a shift", "relative_position_bias_table", "only half of the windows count",
         _gradient("relative_position_bias_table", lambda g: 0.5 * g)),
        ("WindowAttention with a shift", "x", "it is not shifted back",
         lambda layer, dy, dx: np.roll(dx, (-1, -1), axis=(1, 2))),
        ("PatchMerging", "x", "the corners are exchanged", lambda layer, dy, dx: dx[:, :, [1, 0, 3, 2, 5, 4]]),
        ("PatchMerging", "reduction.weight", "a quarter of its gradient is zero",
         _gradient("reduction.weight", lambda g: _with(g, slice(15, 20), 0))),
        ("MeanHead", "x", "a sum that should be a mean", lambda layer, dy, dx: 12 * dx),
        ("Heads", "x", "the heads are exchanged", lambda layer, dy, dx: dx[:, :, ::-1].copy()),
        ("Heads", "heads.1.weight", "a sum that should be a mean", _gradient("heads.1.weight", lambda g: 2 * g)),
        ("PatchEmbed", "images", "the images of the batch are mixed",
         lambda layer, dy, dx: dx + 0.01 * dx.mean(axis=0)),
        ("PatchEmbed", "proj.weight", "the pixels are in the wrong order",
         _gradient("proj.weight", lambda g: g[::-1].copy())),
        ("Dropout", "x", "scaled in evaluation", lambda layer, dy, dx: dx / (1 - layer.rate)),
        ("DropPath", "x", "an image is dropped in evaluation", lambda layer, dy, dx: _with(dx, 1, 0)),
    )),
    *(LayerMutant(*mutant, kind="model") for mutant in (
        ("vit", "images", "the images of the batch are mixed", lambda model, dy, dx: dx.mean(axis=0) + 0 * dx),
        ("vit", "cls_token", "its gradient is zero", _gradient("cls_token", np.zeros_like)),
        ("vit", "pos_embed", "the class token's position has no gradient",
         _gradient("pos_embed", lambda g: _with(g, 0, 0))),
        ("vit", "patch_embed.proj.bias", "0.1% too small", _gradient("patch_embed.proj.bias", lambda g: 0.999 * g)),
        ("vit", "blocks.0.attn.qkv.weight", "0.1% too large",
         _gradient("blocks.0.attn.qkv.weight", lambda g: 1.001 * g)),
        ("deit", "dist_token", "it has the gradient of the class token",
         lambda model, dy, dx: setattr(model.dist_token, "grad", model.cls_token.grad)),
        ("deit", "head_dist.bias", "it is not halved", _gradient("head_dist.bias", lambda g: 2 * g)),
        ("swin", "layers.1.downsample.reduction.weight", "the rows are in the wrong order",
         _gradient("layers.1.downsample.reduction.weight", lambda g: g[::-1].copy())),
        ("swin", "layers.0.blocks.1.attn.relative_position_bias_table", "its gradient is zero",
         _gradient("layers.0.blocks.1.attn.relative_position_bias_table", np.zeros_like)),
        ("vit by mean", "fc_norm.weight", "a mean that should be a sum", _gradient("fc_norm.weight", lambda g: g / 3)),
        ("extended_vit with registers", "reg_token", "a register has no gradient",
         _gradient("reg_token", lambda g: _with(g, 1, 0))),
        ("resnet", "images", "the images of the batch are mixed", lambda model, dy, dx: dx + 0.01 * dx.mean(axis=0)),
        ("resnet", "stem.conv.weight", "0.1% too small", _gradient("stem.conv.weight", lambda g: 0.999 * g)),
        ("resnet", "head.fc.weight", "a sum that should be a mean", _gradient("head.fc.weight", lambda g: 9 * g)),
        ("resnet of basic blocks", "stages.1.blocks.1.norm2.weight", "its gradient is zero",
         _gradient("stages.1.blocks.1.norm2.weight", np.zeros_like)),
        ("vit by mean", "head.bias", "one image counts twice",
         lambda model, dy, dx: setattr(model.head.bias, "grad", dy.sum(axis=0) + dy[0])),
    )),
]
MUTANTS = [*IN_OPS, *IN_LAYERS]


def check_of(mutant):
    """Return the check of the catalogue that a mutant is a variant of."""
    (check,) = (c for c in catalogue.CHECKS if (c.name, c.kind) == (mutant.name, mutant.kind))
    return check


class _OneForward:
    """Computes each perturbed result of a check once: a mutant has the forward, weights and inputs of its check.

    `results` are those of one check, {what was perturbed: the result}.
    """

    def __init__(self):
        self.name, self.results = "", {}

    @contextmanager
    def of(self, check):
        """In the block, a check with the forward of `check` gets the results that an earlier block has computed."""
        if self.name != f"{check.name}, {check.kind}":
            self.name, self.results = f"{check.name}, {check.kind}", {}
        perturbed = Comparer.perturbed
        Comparer.perturbed = lambda comparer, name, where, direction=1.0, method="": partial(
            self._result, perturbed(comparer, name, where, direction, method),
            (name, str(where), np.asarray(direction).tobytes(), comparer.y.tobytes(), method))
        try:
            yield
        finally:
            Comparer.perturbed = perturbed

    def _result(self, y_at, perturbation, t):
        key = (perturbation, t)
        if key not in self.results:
            self.results[key] = y_at(t)
            self.results[key].setflags(write=False)
        return self.results[key]


one_forward = _OneForward()


def report_on(check, method, mutant=None):
    """Return the report on a check, or on a mutant of it."""
    with one_forward.of(check):
        return check.report(mutant and mutant.plant(check.make()), method=method)


def caught(mutant, method):
    """Return whether `gradcheck` fails the wrong tensor of a mutant, and no other."""
    report = report_on(check_of(mutant), method, mutant)
    return [row.tensor for row in report.rows if not row.ok] == [mutant.tensor]


def torch_passes(target, check):
    """Return whether torch.autograd.gradcheck, with its defaults, accepts our pair at random weights."""
    import torch

    function = function_under_test(target, check.inputs(), Options(np.random.default_rng(0), constants=check.constants))

    class Ours(torch.autograd.Function):
        @staticmethod
        def forward(ctx, *tensors):
            ctx.tensors = [t.detach().numpy().copy() for t in tensors]
            Ours.fill(ctx.tensors)
            return torch.tensor(np.array(function.forward()))

        @staticmethod
        def backward(ctx, dy):
            Ours.fill(ctx.tensors)
            gradients = function.backward(dy.numpy().copy())
            return tuple(torch.tensor(np.array(gradients[name])) for name in function.tensors)

        @staticmethod
        def fill(values):
            for x, value in zip(function.tensors.values(), values, strict=True):
                x[...] = value

    tensors = [torch.tensor(x, requires_grad=True) for x in function.tensors.values()]
    return torch.autograd.gradcheck(Ours.apply, tensors, raise_exception=False)


def _caught_by_torch(mutant):
    check = check_of(mutant)
    return not torch_passes(mutant.plant(check.make()), check)


def main():
    judges = {method: partial(caught, method=method) for method in METHODS}
    try:
        import torch  # noqa: F401
        judges["torch"] = _caught_by_torch
    except ImportError:
        print("torch is not installed: it is not compared", file=sys.stderr)
    scores = dict.fromkeys(judges, 0)
    for mutant in MUTANTS:
        verdicts = {judge: bool(is_caught(mutant)) for judge, is_caught in judges.items()}
        scores = {judge: scores[judge] + verdicts[judge] for judge in judges}
        missed = [judge for judge in judges if not verdicts[judge]]
        print(f"{mutant.name:29} {mutant.tensor:25} {mutant.bug:45} "
              f"{'missed by ' + ', '.join(missed) if missed else 'caught'}")
    print("\nmutation score: " + ", ".join(f"{judge} {score}/{len(MUTANTS)}" for judge, score in scores.items()))


if __name__ == "__main__":
    main()
