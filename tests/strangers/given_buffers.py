"""C style: `backward(dinp, dweight, ..., dout, inp, ...)` adds to arrays that it is given, and returns nothing.

Also the exercise in which every line of a forward is answered by hand, with a variable `dname` for every `name`.
"""

import numpy as np

from .collection import stranger


def gelu_forward(inp):
    cube = 0.044715 * inp**3
    return 0.5 * inp * (1 + np.tanh(np.sqrt(2 / np.pi) * (inp + cube)))


def gelu_backward(dinp, inp, dout):
    scale = np.sqrt(2 / np.pi)
    tanh_out = np.tanh(scale * (inp + 0.044715 * inp**3))
    sech_out = 1 - tanh_out**2
    local_grad = 0.5 * (1 + tanh_out) + inp * 0.5 * sech_out * scale * (1 + 3 * 0.044715 * inp**2)
    dinp += local_grad * dout


@stranger(("inp", "slope", "(1 + 3 * 0.044715 * inp**2)", "(1 + 0.044715 * inp**2)"),
          ("inp", "slope", "0.5 * (1 + tanh_out) +", "0.5 * tanh_out +"),
          ("inp", "slope", "0.5 * (1 + tanh_out) + inp", "0.5 * (1 + tanh_out) + 0 * inp"),
          ("inp", "zero", "dinp += local_grad * dout", "dinp = dinp + local_grad * dout"))
def gelu(gradcheck, normal):
    backward = lambda dout, inp: (gelu_backward(dinp := np.zeros_like(inp), inp, dout), dinp)[1]
    return gradcheck((lambda inp: (gelu_forward(inp), inp), backward), normal(4, 5))


def layernorm_forward(inp, weight, bias):
    mean = inp.mean(-1, keepdims=True)
    rstd = 1 / np.sqrt(inp.var(-1, keepdims=True) + 1e-5)
    return (inp - mean) * rstd * weight + bias, mean, rstd


def layernorm_backward(dinp, dweight, dbias, dout, inp, weight, mean, rstd):
    B, T, C = dout.shape
    for b in range(B):
        for t in range(T):
            norm = (inp[b, t] - mean[b, t]) * rstd[b, t]
            dnorm = weight * dout[b, t]
            dnorm_mean = dnorm.sum() / C
            dnorm_norm_mean = (dnorm * norm).sum() / C
            dbias += dout[b, t]
            dweight += norm * dout[b, t]
            dinp[b, t] += (dnorm - dnorm_mean - norm * dnorm_norm_mean) * rstd[b, t]


def layernorm_vjp(dout, cache):
    inp, weight, bias, mean, rstd = cache
    grads = [np.zeros_like(a) for a in (inp, weight, bias)]
    layernorm_backward(*grads, dout, inp, weight, mean, rstd)
    return grads


@stranger(("inp", "missing term", "(dnorm * norm).sum() / C", "(dnorm * norm).sum()"),
          ("inp", "missing term", "dnorm - dnorm_mean - norm", "dnorm - norm"),
          ("inp", "missing factor", "dnorm = weight * dout[b, t]", "dnorm = dout[b, t]"),
          ("weight", "overwritten", "dweight += norm", "dweight[:] = norm"),
          ("bias", "overwritten", "dbias += dout", "dbias[:] = dout"))
def layernorm(gradcheck, normal):
    kept = lambda inp, weight, bias: (layernorm_forward(inp, weight, bias), (inp, weight, bias))
    forward = lambda inp, weight, bias: (lambda out, args: (out[0], (*args, *out[1:])))(*kept(inp, weight, bias))
    return gradcheck((forward, layernorm_vjp), normal(2, 3, 5), normal(5), normal(5))


def matmul_forward(out, inp, weight, bias):
    for b in range(inp.shape[0]):
        for t in range(inp.shape[1]):
            for o in range(weight.shape[0]):
                out[b, t, o] = bias[o] + inp[b, t] @ weight[o]


def matmul_backward(dinp, dweight, dbias, dout, inp, weight):
    for b in range(inp.shape[0]):
        for t in range(inp.shape[1]):
            for o in range(weight.shape[0]):
                dinp[b, t] += weight[o] * dout[b, t, o]
                dweight[o] += inp[b, t] * dout[b, t, o]
                dbias[o] += dout[b, t, o]


def matmul(inp, weight, bias):
    out = np.zeros((*inp.shape[:2], len(bias)))
    matmul_forward(out, inp, weight, bias)
    return out, (inp, weight, bias)


def matmul_vjp(dout, cache):
    grads = [np.zeros_like(a) for a in cache]
    matmul_backward(*grads, dout, *cache[:2])
    return grads


@stranger(("inp", "", "dinp[b, t] += weight[o]", "dinp[b, t] = weight[o]"),
          ("bias", "overwritten", "dbias[o] += dout", "dbias[o] = dout"),
          ("weight", "part", "dweight[o] += inp[b, t]", "dweight[0] += inp[b, t]"),
          ("weight", "overwritten", "dweight[o] += inp[b, t]", "dweight[o] = inp[b, t]"))
def matmul_in_loops(gradcheck, normal):
    return gradcheck((matmul, matmul_vjp), normal(2, 3, 4), normal(5, 4), normal(5))


def attention_forward(inp, heads):
    B, T, C3 = inp.shape
    q, k, v = inp.reshape(B, T, 3, heads, -1).transpose(2, 0, 3, 1, 4)
    preatt = q @ k.swapaxes(2, 3) / np.sqrt(q.shape[-1])
    att = np.tril(np.exp(preatt - preatt.max(-1, keepdims=True)))
    att /= att.sum(-1, keepdims=True)
    return (att @ v).transpose(0, 2, 1, 3).reshape(B, T, C3 // 3), (q, k, v, att)


def attention_backward(dinp, dout, cache):
    q, k, v, att = cache
    B, heads, T, hs = q.shape
    dq, dk, dv = dinp.reshape(B, T, 3, heads, hs).transpose(2, 0, 3, 1, 4)
    dout = dout.reshape(B, T, heads, hs).transpose(0, 2, 1, 3)
    datt = dout @ v.swapaxes(2, 3)
    dv += att.swapaxes(2, 3) @ dout
    dpreatt = att * (datt - (att * datt).sum(-1, keepdims=True))
    dq += dpreatt @ k / np.sqrt(hs)
    dk += dpreatt.swapaxes(2, 3) @ q / np.sqrt(hs)


@stranger(("inp", "part", "dv += att.swapaxes(2, 3) @ dout", "dv += att @ dout"),
          ("inp", "part", "@ k / np.sqrt(hs)", "@ k"),
          ("inp", "part", "dk += dpreatt.swapaxes(2, 3) @ q / np.sqrt(hs)", "pass"),
          ("inp", "", "(datt - (att * datt).sum(-1, keepdims=True))", "datt"))
def causal_attention(gradcheck, normal):
    forward = lambda inp: (lambda y, cache: (y, (inp, cache)))(*attention_forward(inp, 2))
    backward = lambda dout, kept: (attention_backward(dinp := np.zeros_like(kept[0]), dout, kept[1]), dinp)[1]
    return gradcheck((forward, backward), normal(2, 4, 12))


def bn_cross_entropy(hprebn, bngain, bnbias, Yb):
    n = len(hprebn)
    bnmeani = 1 / n * hprebn.sum(0, keepdims=True)
    bndiff = hprebn - bnmeani
    bndiff2 = bndiff**2
    bnvar = 1 / (n - 1) * bndiff2.sum(0, keepdims=True)                # Bessel's correction
    bnvar_inv = (bnvar + 1e-5)**-0.5
    bnraw = bndiff * bnvar_inv
    logits = bngain * bnraw + bnbias
    norm_logits = logits - logits.max(1, keepdims=True)
    counts = np.exp(norm_logits)
    probs = counts / counts.sum(1, keepdims=True)
    loss = -np.log(probs[range(n), Yb]).mean()

    dlogits = probs.copy()
    dlogits[range(n), Yb] -= 1
    dlogits /= n
    dbngain = (bnraw * dlogits).sum(0, keepdims=True)
    dbnbias = dlogits.sum(0, keepdims=True)
    dbnraw = bngain * dlogits
    dbndiff = bnvar_inv * dbnraw
    dbnvar_inv = (bndiff * dbnraw).sum(0, keepdims=True)
    dbnvar = -0.5 * (bnvar + 1e-5)**-1.5 * dbnvar_inv
    dbndiff2 = 1 / (n - 1) * np.ones_like(bndiff2) * dbnvar
    dbndiff += 2 * bndiff * dbndiff2
    dhprebn = dbndiff - dbndiff.mean(0, keepdims=True)
    return loss, (dhprebn, dbngain, dbnbias)


@stranger(("hprebn", "", "dbndiff += 2 * bndiff * dbndiff2", "pass"),
          ("hprebn", "", "dbndiff - dbndiff.mean(0, keepdims=True)", "dbndiff"),
          ("hprebn", "", "dbndiff2 = 1 / (n - 1)", "dbndiff2 = 1 / n"),
          ("hprebn bngain bnbias", "sum for mean", "dlogits /= n", "dlogits /= 1"),
          ("bngain", "missing sum", "(bnraw * dlogits).sum(0, keepdims=True)", "(bnraw * dlogits)[:1]"))
def batchnorm_line_by_line(gradcheck, normal):
    Yb = np.array([0, 3, 1, 2, 0, 1])
    f, grad = (lambda hprebn, bngain, bnbias, i=i: bn_cross_entropy(hprebn, bngain, bnbias, Yb)[i] for i in (0, 1))
    return gradcheck((f, grad), normal(6, 4), normal(1, 4), normal(1, 4))


def char_rnn(inputs, targets, hprev, Wxh, Whh, Why, bh, by):
    """Loss and gradients of a character RNN with column vectors, all in one function."""
    xs, hs, ps, loss = {}, {-1: hprev}, {}, 0.0
    for t in range(len(inputs)):
        xs[t] = np.zeros((Wxh.shape[1], 1))
        xs[t][inputs[t]] = 1
        hs[t] = np.tanh(Wxh @ xs[t] + Whh @ hs[t - 1] + bh)
        y = Why @ hs[t] + by
        ps[t] = np.exp(y) / np.sum(np.exp(y))
        loss += -np.log(ps[t][targets[t], 0])
    dWxh, dWhh, dWhy, dbh, dby = (np.zeros_like(p) for p in (Wxh, Whh, Why, bh, by))
    dhnext = np.zeros_like(hprev)
    for t in reversed(range(len(inputs))):
        dy = np.copy(ps[t])
        dy[targets[t]] -= 1
        dWhy += dy @ hs[t].T
        dby += dy
        dh = Why.T @ dy + dhnext
        dhraw = (1 - hs[t] * hs[t]) * dh
        dbh += dhraw
        dWxh += dhraw @ xs[t].T
        dWhh += dhraw @ hs[t - 1].T
        dhnext = Whh.T @ dhraw
    return loss, (dhnext, dWxh, dWhh, dWhy, dbh, dby)


@stranger(("hprev Wxh Whh bh", "", "Why.T @ dy + dhnext", "Why.T @ dy"),
          ("by", "overwritten", "dby += dy", "dby = dy"),
          ("hprev Wxh Whh bh", "", "(1 - hs[t] * hs[t]) * dh", "(1 - hs[t]) * dh"),
          ("Whh", "", "dhraw @ hs[t - 1].T", "dhraw @ hs[t].T"),
          ("hprev Wxh Whh bh Why by", "", "dy[targets[t]] -= 1", "dy[targets[t]] -= 0.9"))
def character_rnn(gradcheck, normal):
    f, grad = (lambda hprev, Wxh, Whh, Why, bh, by, i=i: char_rnn([0, 2, 1], [2, 1, 1], hprev, Wxh, Whh, Why, bh,
                                                                  by)[i] for i in (0, 1))
    return gradcheck((f, grad), normal(4, 1), normal(4, 3), normal(4, 4), normal(3, 4), normal(4, 1), normal(3, 1))
