"""Parameters as a tree: dataclasses, named tuples, nested dicts; the gradient has the same structure."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from .collection import stranger


@dataclass
class GRUParams:
    Wz: np.ndarray
    Wr: np.ndarray
    Wh: np.ndarray
    b: np.ndarray


def gru(params, x, h):
    both = np.concatenate([x, h], axis=1)
    z, r = (1 / (1 + np.exp(-(both @ W + b))) for W, b in ((params.Wz, params.b[0]), (params.Wr, params.b[1])))
    reset = np.concatenate([x, r * h], axis=1)
    candidate = np.tanh(reset @ params.Wh + params.b[2])
    return z * h + (1 - z) * candidate, (params, x, h, both, z, r, reset, candidate)


def gru_vjp(dy, cache):
    params, x, h, both, z, r, reset, candidate = cache
    n = x.shape[1]
    dcandidate = dy * (1 - z) * (1 - candidate**2)
    dreset = dcandidate @ params.Wh.T
    dr = dreset[:, n:] * h * r * (1 - r)
    dz = dy * (h - candidate) * z * (1 - z)
    dboth = dz @ params.Wz.T + dr @ params.Wr.T
    b = np.stack([dz.sum(axis=0), dr.sum(axis=0), dcandidate.sum(axis=0)])
    grads = GRUParams(both.T @ dz, both.T @ dr, reset.T @ dcandidate, b)
    return grads, dboth[:, :n] + dreset[:, :n], dboth[:, n:] + dreset[:, n:] * r + dy * z


@stranger(("params.Wh", "", "reset.T @ dcandidate", "both.T @ dcandidate"),
          ("h", "", "dreset[:, n:] * r + dy * z", "dreset[:, n:] + dy * z"),
          ("params.b", "wrong places", "([dz.sum(axis=0), dr.sum(axis=0)", "([dr.sum(axis=0), dz.sum(axis=0)"),
          ("x", "", "dboth[:, :n] + dreset[:, :n]", "dboth[:, :n]"))
def gru_with_a_dataclass(gradcheck, normal):
    params = GRUParams(normal(7, 4), normal(7, 4), normal(7, 4), normal(3, 4))
    return gradcheck((gru, gru_vjp), params, normal(2, 3), normal(2, 4))


class Dense(NamedTuple):
    kernel: np.ndarray
    bias: np.ndarray


def mlp(layers, x):
    kept = []
    for layer in layers[:-1]:
        kept.append(x)
        x = np.tanh(x @ layer.kernel + layer.bias)
    kept.append(x)
    return x @ layers[-1].kernel + layers[-1].bias, (layers, kept)


def mlp_vjp(dy, cache):
    layers, kept = cache
    grads = []
    for i in reversed(range(len(layers))):
        grads.append(Dense(kept[i].T @ dy, dy.sum(axis=0)))
        dy = dy @ layers[i].kernel.T
        if i:
            dy = dy * (1 - kept[i]**2)
    return grads[::-1], dy


@stranger(("layers.0.0 layers.0.1 layers.1.0 layers.1.1 x", "", "(1 - kept[i]**2)",
           "(1 - kept[i])"),
          ("layers.0.1 layers.1.1 layers.2.1", "mean for sum", "dy.sum(axis=0)", "dy.mean(axis=0)"),
          ("x", "", "if i:", "if True:"),
          ("layers.0.0 layers.1.0 layers.2.0", "sign", "kept[i].T @ dy", "-kept[i].T @ dy"))
def mlp_with_named_tuples(gradcheck, normal):
    layers = [Dense(normal(n, m), normal(m)) for n, m in ((3, 5), (5, 4), (4, 2))]
    return gradcheck((mlp, mlp_vjp), layers, normal(6, 3))


def layer_norm(x, scale):
    centred = x - x.mean(-1, keepdims=True)
    rstd = 1 / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-6)
    return centred * rstd * scale, (centred * rstd, rstd, scale)


def layer_norm_vjp(dy, cache):
    xhat, rstd, scale = cache
    g = dy * scale
    dx = rstd * (g - g.mean(-1, keepdims=True) - xhat * (g * xhat).mean(-1, keepdims=True))
    return dx, (dy * xhat).sum((0, 1))


def block(params, x):
    attention, ffn = params["attention"], params["ffn"]
    n, ln_cache = layer_norm(x, attention["ln"]["scale"])
    q, k, v = n @ attention["q"], n @ attention["k"], n @ attention["v"]
    s = q @ k.swapaxes(1, 2) / np.sqrt(q.shape[-1])
    p = np.exp(s - s.max(-1, keepdims=True))
    p = p / p.sum(-1, keepdims=True)
    z = p @ v
    x = x + z @ attention["out"]
    m, ln2_cache = layer_norm(x, ffn["ln"]["scale"])
    pre = m @ ffn["up"]
    act = np.tanh(pre)
    y = x + act @ ffn["down"]
    return y, (params, n, ln_cache, q, k, v, p, z, m, ln2_cache, act)


def block_vjp(dy, cache):
    params, n, ln_cache, q, k, v, p, z, m, ln2_cache, act = cache
    attention, ffn = params["attention"], params["ffn"]
    outer = lambda a, d: np.einsum("bti,btj->ij", a, d)
    dact = dy @ ffn["down"].T * (1 - act**2)
    dm, dscale2 = layer_norm_vjp(dact @ ffn["up"].T, ln2_cache)
    dx = dy + dm
    dz = dx @ attention["out"].T
    dp, dv = dz @ v.swapaxes(1, 2), p.swapaxes(1, 2) @ dz
    ds = p * (dp - (dp * p).sum(-1, keepdims=True)) / np.sqrt(q.shape[-1])
    dq, dk = ds @ k, ds.swapaxes(1, 2) @ q
    dn = dq @ attention["q"].T + dk @ attention["k"].T + dv @ attention["v"].T
    dx1, dscale = layer_norm_vjp(dn, ln_cache)
    grads = {"attention": {"ln": {"scale": dscale}, "q": outer(n, dq), "k": outer(n, dk), "v": outer(n, dv),
                           "out": outer(z, dx)},
             "ffn": {"ln": {"scale": dscale2}, "up": outer(m, dact), "down": outer(act, dy)}}
    return grads, dx + dx1


ATTENTION = "x params.attention.ln.scale params.attention.q params.attention.k params.attention.v params.attention.out"


@stranger(("params.attention.q", "exchanged", '"q": outer(n, dq)', '"q": outer(n, dk)'),
          ("params.ffn.up", "", "outer(m, dact)", "outer(act, dact)[:4]"),
          ("x", "", "return grads, dx + dx1", "return grads, dx1"),
          (ATTENTION, "", "dx = dy + dm", "dx = dm"),
          ("params.attention.q params.attention.k params.attention.ln.scale x", "", "ds @ k, ds.swapaxes(1, 2) @ q",
           "ds @ k * 2, ds.swapaxes(1, 2) @ q * 2"),
          ("params.attention.ln.scale", "zero", '{"scale": dscale}', '{"scale": 0 * dscale}'))
def block_with_nested_dicts(gradcheck, normal):
    params = {"attention": {"ln": {"scale": normal(4)}} | {name: normal(4, 4) for name in ("q", "k", "v", "out")},
              "ffn": {"ln": {"scale": normal(4)}, "up": normal(4, 6), "down": normal(6, 4)}}
    return gradcheck((block, block_vjp), params, normal(2, 3, 4))


def encode(params, x):
    mu, log_var = x @ params["mu"], x @ params["log_var"]
    return {"mu": mu, "sigma": np.exp(0.5 * log_var)}, (params, x, log_var)


def encode_vjp(dy, cache):
    params, x, log_var = cache
    dlog_var = 0.5 * dy["sigma"] * np.exp(0.5 * log_var)
    dx = dy["mu"] @ params["mu"].T + dlog_var @ params["log_var"].T
    return {"mu": x.T @ dy["mu"], "log_var": x.T @ dlog_var}, dx


@stranger(("params.log_var x", "", "0.5 * dy", "dy"),
          ("x", "", " + dlog_var @ params", " - dlog_var @ params"),
          ("params.mu", "", 'x.T @ dy["mu"]', 'x.T @ dy["sigma"]'),
          ("params.log_var x", "", "np.exp(0.5 * log_var)\n    dx", "np.exp(log_var)\n    dx"))
def encoder_with_a_dict_of_outputs(gradcheck, normal):
    return gradcheck((encode, encode_vjp), {"mu": normal(4, 2), "log_var": normal(4, 2)}, normal(3, 4))


class MixtureOfExperts:
    """Gradients by name: `backward(dy) -> dx, grads` with the paths of the parameters as keys."""

    def __init__(self, n, m, experts):
        self.gate = np.random.randn(n, experts)
        self.experts = [np.random.randn(n, m) for _ in range(experts)]

    def forward(self, x):
        e = np.exp(x @ self.gate)
        self.x, self.p = x, e / e.sum(axis=1, keepdims=True)
        self.ys = [x @ W for W in self.experts]
        return sum(self.p[:, i:i + 1] * y for i, y in enumerate(self.ys))

    def backward(self, dy):
        x, p = self.x, self.p
        dp = np.stack([(dy * y).sum(axis=1) for y in self.ys], axis=1)
        ds = p * (dp - (dp * p).sum(axis=1, keepdims=True))
        dys = [p[:, i:i + 1] * dy for i in range(p.shape[1])]
        self.grads = {"gate": x.T @ ds, "experts": [x.T @ d for d in dys]}
        return ds @ self.gate.T + sum(d @ W.T for d, W in zip(dys, self.experts, strict=True))


@stranger(("gate x", "", "(dp - (dp * p).sum(axis=1, keepdims=True))", "dp"),
          ("experts.0 experts.1 experts.2", "", "[x.T @ d for d in dys]", "[x.T @ dy for d in dys]"),
          ("x", "", "return ds @ self.gate.T + sum", "return sum"),
          ("gate", "factor", '"gate": x.T @ ds', '"gate": 10 * x.T @ ds'))
def mixture_of_experts(gradcheck, normal):
    return gradcheck(MixtureOfExperts(4, 3, 3), normal(5, 4))
