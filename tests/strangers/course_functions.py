"""Functions as in a course on vision: `forward(x, ...) -> out, cache`, `backward(dout, cache) -> gradients`.

Some losses return (loss, dx) at once, and nets have `loss(X, y) -> loss, grads` with dicts `params` and `grads`.
"""

import functools

import numpy as np

from .collection import stranger


def affine_forward(x, w, b):
    out = x.reshape(len(x), -1) @ w + b
    return out, (x, w, b)


def affine_backward(dout, cache):
    x, w, b = cache
    dx = (dout @ w.T).reshape(x.shape)
    dw = x.reshape(len(x), -1).T @ dout
    db = dout.sum(axis=0)
    return dx, dw, db


@stranger(("b", "mean for sum", "dout.sum(axis=0)", "dout.mean(axis=0)"),
          ("b", "missing sum", "dout.sum(axis=0)", "dout[0]"),
          ("w", "mean for sum", "@ dout\n", "@ dout / len(x)\n"),
          ("w", "", "x.reshape(len(x), -1).T @ dout", "np.abs(x.reshape(len(x), -1)).T @ dout"),
          ("x", "wrong places", "(dout @ w.T).reshape(x.shape)", "(w @ dout.T).reshape(x.shape)"))
def affine(gradcheck, normal):
    return gradcheck((affine_forward, affine_backward), normal(3, 2, 4), normal(8, 5), normal(5))


def relu_forward(x):
    return np.maximum(0, x), x


def relu_backward(dout, cache):
    return dout * (cache > 0)


@stranger(("x", "slope", "dout * (cache > 0)", "dout"),
          ("x", "zero", "dout * (cache > 0)", "0 * dout"),
          ("x", "slope", "cache > 0", "dout > 0"),
          ("x", "slope", "cache > 0", "cache >= 1"))
def relu(gradcheck, normal):
    return gradcheck((relu_forward, relu_backward), normal(4, 6))


def leaky_forward(x, slope=0.01):
    return np.where(x > 0, x, slope * x), (x, slope)


def leaky_backward(dout, cache):
    x, slope = cache
    dx = dout.copy()
    dx[x < 0] *= slope
    return dx


@stranger(("x", "slope", "dx[x < 0] *= slope", "dx[x < 0] = 0"),
          ("x", "slope", "dx[x < 0] *= slope", "dx[x < 0] *= -slope"),
          ("x", "slope", "dx[x < 0] *= slope", "dx *= slope"),
          ("dy", "in place", "dout.copy()", "dout"))
def leaky_relu(gradcheck, normal):
    return gradcheck((leaky_forward, leaky_backward), normal(4, 6))


def affine_norm_relu_forward(x, w, b, gamma, beta):
    a = x @ w + b
    mu, std = a.mean(axis=0), np.sqrt(a.var(axis=0) + 1e-5)
    z = (a - mu) / std
    n = gamma * z + beta
    return np.maximum(0, n), (x, w, gamma, z, std, n)


def affine_norm_relu_backward(dout, cache):
    x, w, gamma, z, std, n = cache
    dn = dout * (n > 0)
    dgamma = (dn * z).sum(axis=0)
    dbeta = dn.sum(axis=0)
    dz = dn * gamma
    da = (dz - dz.mean(axis=0) - z * (dz * z).mean(axis=0)) / std
    return da @ w.T, x.T @ da, da.sum(axis=0), dgamma, dbeta


@stranger(("gamma", "", "(dn * z).sum(axis=0)", "(dout * z).sum(axis=0)"),
          ("beta", "missing sum", "dbeta = dn.sum(axis=0)", "dbeta = dn[-1]"),
          ("x w", "", " - z * (dz * z).mean(axis=0)", ""),
          ("x w", "factor", "* (dz * z).mean(axis=0)) / std", "* (dz * z).mean(axis=0)) / std * 1.001"))
def affine_norm_relu(gradcheck, normal):
    return gradcheck((affine_norm_relu_forward, affine_norm_relu_backward), normal(5, 4), normal(4, 3), normal(3),
                     1 + 0.1 * normal(3), normal(3))


def batchnorm_forward(x, gamma, beta, bn_param):
    mode, eps, momentum = bn_param["mode"], bn_param.get("eps", 1e-5), bn_param.get("momentum", 0.9)
    running_mean = bn_param.get("running_mean", np.zeros(x.shape[1]))
    if mode == "train":
        mean, var = x.mean(axis=0), x.var(axis=0)
        bn_param["running_mean"] = momentum * running_mean + (1 - momentum) * mean
        istd = 1 / np.sqrt(var + eps)
        xhat = (x - mean) * istd
        return gamma * xhat + beta, (xhat, istd, gamma)
    return gamma * (x - running_mean) + beta, None


def batchnorm_backward(dout, cache):
    xhat, istd, gamma = cache
    m = len(dout)
    dgamma = np.sum(dout * xhat, axis=0)
    dbeta = np.sum(dout, axis=0)
    dxhat = dout * gamma
    dx = istd / m * (m * dxhat - dxhat.sum(axis=0) - xhat * np.sum(dxhat * xhat, axis=0))
    return dx, dgamma, dbeta


@stranger(("x", "missing term", " - dxhat.sum(axis=0)", ""),
          ("x", "missing term", " - xhat * np.sum(dxhat * xhat, axis=0)", ""),
          ("x", "missing factor", "dxhat = dout * gamma", "dxhat = dout"),
          ("x", "", "istd / m * (", "1 / m * ("),
          ("gamma", "missing sum", "np.sum(dout * xhat, axis=0)", "(dout * xhat)[0]"),
          ("beta", "mean for sum", "dbeta = np.sum(dout, axis=0)", "dbeta = np.mean(dout, axis=0)"))
def batchnorm(gradcheck, normal):
    forward = lambda x, gamma, beta: batchnorm_forward(x, gamma, beta, {"mode": "train"})
    return gradcheck((forward, batchnorm_backward), normal(6, 3), normal(3), normal(3))


def layernorm_forward(x, gamma, beta, ln_param):
    eps = ln_param.get("eps", 1e-5)
    mu = np.mean(x, axis=1, keepdims=True)          # step 1
    xmu = x - mu                                    # step 2
    var = np.mean(xmu**2, axis=1, keepdims=True)    # step 3
    sqrtvar = np.sqrt(var + eps)                    # step 4
    ivar = 1 / sqrtvar                              # step 5
    xhat = xmu * ivar                               # step 6
    return gamma * xhat + beta, (xhat, gamma, xmu, ivar, sqrtvar)


def layernorm_backward(dout, cache):
    xhat, gamma, xmu, ivar, sqrtvar = cache
    D = dout.shape[1]
    dbeta, dgamma = dout.sum(axis=0), (dout * xhat).sum(axis=0)
    dxhat = dout * gamma
    dxmu = dxhat * ivar                                                # step 6
    divar = np.sum(dxhat * xmu, axis=1, keepdims=True)
    dsqrtvar = -divar / sqrtvar**2                                     # step 5
    dvar = 0.5 * dsqrtvar / sqrtvar                                    # step 4
    dxmu += 2 / D * xmu * dvar                                         # step 3
    dx = dxmu - np.mean(dxmu, axis=1, keepdims=True)                   # steps 2 and 1
    return dx, dgamma, dbeta


@stranger(("x", "missing term", "dxmu - np.mean(dxmu, axis=1, keepdims=True)", "dxmu"),
          ("x", "missing term", "dxmu += 2 / D * xmu * dvar", "dxmu += 0"),
          ("x", "missing term", "2 / D * xmu", "2 * xmu"),
          ("x", "missing term", "-divar / sqrtvar**2", "divar / sqrtvar**2"),
          ("x", "missing factor", "dxhat = dout * gamma", "dxhat = dout"),
          ("gamma", "missing sum", "(dout * xhat).sum(axis=0)", "(dout * xhat)[0]"))
def layernorm(gradcheck, normal):
    forward = lambda x, gamma, beta: layernorm_forward(x, gamma, beta, {})
    return gradcheck((forward, layernorm_backward), normal(4, 7), normal(7), normal(7))


def conv_forward_naive(x, w, b, conv_param):
    stride, pad = conv_param["stride"], conv_param["pad"]
    (N, _, H, W), (F, _, HH, WW) = x.shape, w.shape
    x_pad = np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
    H_out, W_out = 1 + (H + 2 * pad - HH) // stride, 1 + (W + 2 * pad - WW) // stride
    out = np.zeros((N, F, H_out, W_out))
    for i in range(H_out):
        for j in range(W_out):
            window = x_pad[:, :, i * stride:i * stride + HH, j * stride:j * stride + WW]
            out[:, :, i, j] = np.tensordot(window, w, axes=([1, 2, 3], [1, 2, 3])) + b
    return out, (x, x_pad, w, conv_param)


def conv_backward_naive(dout, cache):
    x, x_pad, w, conv_param = cache
    stride, pad = conv_param["stride"], conv_param["pad"]
    HH, WW = w.shape[2:]
    dx_pad, dw = np.zeros_like(x_pad), np.zeros_like(w)
    for i in range(dout.shape[2]):
        for j in range(dout.shape[3]):
            rows, columns = slice(i * stride, i * stride + HH), slice(j * stride, j * stride + WW)
            dw += np.tensordot(dout[:, :, i, j], x_pad[:, :, rows, columns], axes=(0, 0))
            dx_pad[:, :, rows, columns] += np.tensordot(dout[:, :, i, j], w, axes=(1, 0))
    dx = dx_pad[:, :, pad:pad + x.shape[2], pad:pad + x.shape[3]]
    return dx, dw, dout.sum(axis=(0, 2, 3))


@stranger(("x", "", "dx_pad[:, :, rows, columns] +=", "dx_pad[:, :, rows, columns] ="),
          ("w", "overwritten", "dw += np", "dw = np"),
          ("x", "", "np.tensordot(dout[:, :, i, j], w, axes=(1, 0))",
           "np.tensordot(dout[:, :, i, j], w[:, :, ::-1, ::-1], axes=(1, 0))"),
          ("w", "flipped", "return dx, dw,", "return dx, dw[:, :, ::-1, ::-1],"),
          ("x", "wrong places", "pad:pad + x.shape[2], pad:pad + x.shape[3]", ":x.shape[2], :x.shape[3]"),
          ("b", "missing sum", "dout.sum(axis=(0, 2, 3))", "dout.sum(axis=(2, 3))[0]"))
def conv_naive(gradcheck, normal):
    forward = lambda x, w, b: conv_forward_naive(x, w, b, {"stride": 2, "pad": 1})
    return gradcheck((forward, conv_backward_naive), normal(2, 3, 5, 5), normal(4, 3, 3, 3), normal(4))


def max_pool_forward_naive(x, pool_param):
    size, stride = pool_param["pool"], pool_param["stride"]
    N, C, H, W = x.shape
    out = np.zeros((N, C, (H - size) // stride + 1, (W - size) // stride + 1))
    for i in range(out.shape[2]):
        for j in range(out.shape[3]):
            out[:, :, i, j] = x[:, :, i * stride:i * stride + size, j * stride:j * stride + size].max(axis=(2, 3))
    return out, (x, out, pool_param)


def max_pool_backward_naive(dout, cache):
    x, out, pool_param = cache
    size, stride = pool_param["pool"], pool_param["stride"]
    dx = np.zeros_like(x)
    for i in range(dout.shape[2]):
        for j in range(dout.shape[3]):
            window = (..., slice(i * stride, i * stride + size), slice(j * stride, j * stride + size))
            mask = x[window] == out[:, :, i, j][..., None, None]
            dx[window] += mask * dout[:, :, i, j][..., None, None]
    return dx


@stranger(("x", "", "dx[window] += mask *", "dx[window] = mask *"),
          ("x", "", "mask * dout", "dout"),
          ("x", "mean for sum", "return dx", "return dx / size**2"),
          ("x", "dy ignored", "mask * dout[:, :, i, j][..., None, None]", "mask * 1.0"))
def max_pool(gradcheck, normal):
    forward = lambda x: max_pool_forward_naive(x, {"pool": 2, "stride": 1})
    return gradcheck((forward, max_pool_backward_naive), normal(2, 2, 4, 4))


def dropout_forward(x, dropout_param):
    p = dropout_param["p"]
    if "seed" in dropout_param:
        np.random.seed(dropout_param["seed"])
    mask = (np.random.rand(*x.shape) < p) / p
    return x * mask, (dropout_param, mask)


def dropout_backward(dout, cache):
    dropout_param, mask = cache
    return dout * mask


@stranger(("x", "slope", "dout * mask", "dout"),
          ("x", "factor", "dout * mask", "dout * (mask > 0)"),
          ("x", "slope", "dout * mask", "dout * mask[::-1]"))
def dropout(gradcheck, normal):
    forward = lambda x: dropout_forward(x, {"p": 0.6, "seed": 1})
    return gradcheck((forward, dropout_backward), normal(4, 5))


def softmax_loss(x, y):
    shifted = x - x.max(axis=1, keepdims=True)
    log_probs = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    N = len(x)
    loss = -log_probs[np.arange(N), y].sum() / N
    dx = np.exp(log_probs)
    dx[np.arange(N), y] -= 1
    dx /= N
    return loss, dx


@stranger(("x", "sum for mean", "dx /= N", "dx /= 1"),
          ("x", "part", "dx[np.arange(N), y] -= 1", "dx[0, y[0]] -= 1"),
          ("x", "sign", "dx[np.arange(N), y] -= 1", "dx[np.arange(N), y] -= 1; dx *= -1"),
          ("x", "", "dx[np.arange(N), y] -= 1", "dx[:, y] -= 1"))
def softmax_loss_and_gradient(gradcheck, normal):
    y = np.array([0, 3, 1, 3, 2])
    return gradcheck((lambda x: softmax_loss(x, y)[0], lambda x: softmax_loss(x, y)[1]), normal(5, 4))


def svm_loss(x, y):
    N = len(x)
    margins = np.maximum(0, x - x[np.arange(N), y][:, None] + 1.0)
    margins[np.arange(N), y] = 0
    loss = margins.sum() / N
    dx = (margins > 0).astype(x.dtype)
    dx[np.arange(N), y] -= dx.sum(axis=1)
    return loss, dx / N


@stranger(("x", "sum for mean", "dx / N", "dx"),
          ("x", "", "dx[np.arange(N), y] -= dx.sum(axis=1)", "dx[np.arange(N), y] -= 1"),
          ("x", "", "dx[np.arange(N), y] -= dx.sum(axis=1)", "pass"))
def svm_loss_and_gradient(gradcheck, normal):
    y = np.array([0, 3, 1, 3, 2])
    return gradcheck((lambda x: svm_loss(x, y)[0], lambda x: svm_loss(x, y)[1]), normal(5, 4))


def rnn_step_forward(x, prev_h, Wx, Wh, b):
    next_h = np.tanh(x @ Wx + prev_h @ Wh + b)
    return next_h, (x, prev_h, Wx, Wh, next_h)


def rnn_step_backward(dnext_h, cache):
    x, prev_h, Wx, Wh, next_h = cache
    da = dnext_h * (1 - next_h**2)
    return da @ Wx.T, da @ Wh.T, x.T @ da, prev_h.T @ da, da.sum(axis=0)


@stranger(("x prev_h Wx Wh b", "", "(1 - next_h**2)", "(1 - next_h)"),
          ("Wh", "", "prev_h.T @ da", "next_h.T @ da"),
          ("prev_h", "", "da @ Wh.T", "da @ Wh"),
          ("Wx", "", "x.T @ da,", "x.T @ dnext_h,"))
def rnn_step(gradcheck, normal):
    return gradcheck((rnn_step_forward, rnn_step_backward), normal(3, 4), normal(3, 5), normal(4, 5), normal(5, 5),
                     normal(5))


def rnn_forward(x, h0, Wx, Wh, b):
    h, hidden, caches = h0, [], []
    for t in range(x.shape[1]):
        h, cache = rnn_step_forward(x[:, t], h, Wx, Wh, b)
        hidden.append(h)
        caches.append(cache)
    return np.stack(hidden, axis=1), caches


def rnn_backward(dh, caches):
    dx, dprev = [], 0
    dWx, dWh, db = 0, 0, 0
    for t in reversed(range(dh.shape[1])):
        dx_t, dprev, dWx_t, dWh_t, db_t = rnn_step_backward(dh[:, t] + dprev, caches[t])
        dx.append(dx_t)
        dWx, dWh, db = dWx + dWx_t, dWh + dWh_t, db + db_t
    return np.stack(dx[::-1], axis=1), dprev, dWx, dWh, db


@stranger(("x h0 Wx Wh b", "", "dh[:, t] + dprev", "dh[:, t]"),
          ("x", "wrong places", "np.stack(dx[::-1], axis=1)", "np.stack(dx, axis=1)"),
          ("Wh", "overwritten", "dWh + dWh_t", "dWh_t"),
          ("b", "mean for sum", "dWx, dWh, db\n", "dWx, dWh, db / dh.shape[1]\n"))
def rnn(gradcheck, normal):
    return gradcheck((rnn_forward, rnn_backward), normal(2, 3, 4), normal(2, 5), normal(4, 5), normal(5, 5), normal(5))


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


def lstm_step_forward(x, prev_h, prev_c, Wx, Wh, b):
    H = prev_h.shape[1]
    a = x @ Wx + prev_h @ Wh + b
    i, f, o = sigmoid(a[:, :H]), sigmoid(a[:, H:2 * H]), sigmoid(a[:, 2 * H:3 * H])
    g = np.tanh(a[:, 3 * H:])
    next_c = f * prev_c + i * g
    next_h = o * np.tanh(next_c)
    return next_h, next_c, (x, prev_h, prev_c, Wx, Wh, i, f, o, g, next_c)


def lstm_step_backward(dnext_h, dnext_c, cache):
    x, prev_h, prev_c, Wx, Wh, i, f, o, g, next_c = cache
    do = dnext_h * np.tanh(next_c)
    dc = dnext_c + dnext_h * o * (1 - np.tanh(next_c)**2)
    df, dprev_c = dc * prev_c, dc * f
    di, dg = dc * g, dc * i
    da = np.hstack([di * i * (1 - i), df * f * (1 - f), do * o * (1 - o), dg * (1 - g**2)])
    return da @ Wx.T, da @ Wh.T, dprev_c, x.T @ da, prev_h.T @ da, da.sum(axis=0)


@stranger(("x prev_h Wx Wh b", "gates", "df, dprev_c = dc * prev_c", "df, dprev_c = dc * next_c"),
          ("prev_c", "", "dc * f\n", "dc * i\n"),
          ("x prev_h prev_c Wx Wh b", "", "dnext_c + dnext_h", "dnext_h"),
          ("x prev_h Wx Wh b", "gates", "dg * (1 - g**2)", "dg * g * (1 - g)"),
          ("x prev_h Wx Wh b", "gates", "df * f * (1 - f), do * o * (1 - o)", "do * o * (1 - o), df * f * (1 - f)"),
          ("Wh", "zero", "prev_h.T @ da", "0 * prev_h.T @ da"))
def lstm_step(gradcheck, normal):
    regroup = lambda h, c, cache: ((h, c), cache)
    forward = functools.wraps(lstm_step_forward)(lambda *given: regroup(*lstm_step_forward(*given)))
    return gradcheck((forward, lstm_step_backward), *map(normal, (2, 2, 2, 3, 4), (3, 4, 4, 16, 16)), normal(16))


def word_embedding_forward(x, W):
    return W[x], (x, W.shape)


def word_embedding_backward(dout, cache):
    x, shape = cache
    dW = np.zeros(shape)
    np.add.at(dW, x, dout)
    return dW


@stranger(("W", "part", "np.add.at(dW, x, dout)", "dW[x] = dout"),
          ("W", "part", "np.add.at(dW, x, dout)", "dW[x] += dout"),
          ("W", "", "np.add.at(dW, x, dout)", "np.add.at(dW, x, dout.mean(axis=0))"))
def word_embedding(gradcheck, normal):
    return gradcheck((word_embedding_forward, word_embedding_backward), np.array([[0, 3, 1], [3, 2, 0]]), normal(5, 4))


class TwoLayerNet:
    def __init__(self, input_size, hidden, classes, reg):
        self.reg = reg
        self.params = {"W1": np.random.randn(input_size, hidden), "b1": np.zeros(hidden),
                       "W2": np.random.randn(hidden, classes), "b2": np.zeros(classes)}

    def loss(self, X, y):
        W1, b1, W2, b2 = (self.params[name] for name in ("W1", "b1", "W2", "b2"))
        hidden = np.maximum(0, X @ W1 + b1)
        loss, dscores = softmax_loss(hidden @ W2 + b2, y)
        loss += 0.5 * self.reg * (np.sum(W1 * W1) + np.sum(W2 * W2))
        grads = {"W2": hidden.T @ dscores + self.reg * W2, "b2": dscores.sum(axis=0)}
        dhidden = dscores @ W2.T
        dhidden[hidden <= 0] = 0
        grads["W1"] = X.T @ dhidden + self.reg * W1
        grads["b1"] = dhidden.sum(axis=0)
        return loss, grads


@stranger(("params.W1", "missing term", "X.T @ dhidden + self.reg * W1", "X.T @ dhidden"),
          ("params.W1", "missing term", "self.reg * W1", "2 * self.reg * W1"),
          ("params.W1 params.b1", "", "dhidden[hidden <= 0] = 0", "pass"),
          ("params.b2", "missing sum", "dscores.sum(axis=0)", "dscores[0]"),
          ("params.W2", "", "hidden.T @ dscores +", "np.tanh(hidden).T @ dscores +"))
def two_layer_net(gradcheck, normal):
    net, X, y = TwoLayerNet(4, 5, 3, reg=0.1), normal(6, 4), np.array([0, 1, 2, 2, 1, 0])
    f, grad = (lambda params, i=i: (vars(net).update(params=params), net.loss(X, y)[i])[1] for i in (0, 1))
    return gradcheck((f, grad), {name: normal(*p.shape) for name, p in net.params.items()})


def spatial_groupnorm_forward(x, gamma, beta, G, gn_param):
    N, C, H, W = x.shape
    groups = x.reshape(N, G, -1)
    mean, var = groups.mean(axis=2, keepdims=True), groups.var(axis=2, keepdims=True)
    istd = 1 / np.sqrt(var + gn_param.get("eps", 1e-5))
    xhat = ((groups - mean) * istd).reshape(x.shape)
    return gamma * xhat + beta, (xhat, istd, gamma, G)


def spatial_groupnorm_backward(dout, cache):
    xhat, istd, gamma, G = cache
    N = len(dout)
    dgamma = (dout * xhat).sum(axis=(0, 2, 3), keepdims=True)
    dbeta = dout.sum(axis=(0, 2, 3), keepdims=True)
    d, z = (dout * gamma).reshape(N, G, -1), xhat.reshape(N, G, -1)
    dx = istd * (d - d.mean(axis=2, keepdims=True) - z * (d * z).mean(axis=2, keepdims=True))
    return dx.reshape(dout.shape), dgamma, dbeta


@stranger(("x", "missing term", " - d.mean(axis=2, keepdims=True)", ""),
          ("x", "missing term", " - z * (d * z).mean(axis=2, keepdims=True)", ""),
          ("gamma", "mean for sum", "(dout * xhat).sum(", "(dout * xhat).mean("),
          ("beta", "shape", "dout.sum(axis=(0, 2, 3), keepdims=True)", "dout.sum(axis=(0, 2, 3))"))
def spatial_groupnorm(gradcheck, normal):
    forward = lambda x, gamma, beta: spatial_groupnorm_forward(x, gamma, beta, 2, {})
    return gradcheck((forward, spatial_groupnorm_backward), normal(2, 4, 2, 3), normal(1, 4, 1, 1), normal(1, 4, 1, 1))


def temporal_softmax_loss(x, y, mask):
    N, T, V = x.shape
    flat, y, m = x.reshape(N * T, V), y.reshape(-1), mask.reshape(-1)
    probs = np.exp(flat - flat.max(axis=1, keepdims=True))
    probs /= probs.sum(axis=1, keepdims=True)
    loss = -np.sum(m * np.log(probs[np.arange(N * T), y])) / N
    dflat = probs.copy()
    dflat[np.arange(N * T), y] -= 1
    dflat /= N
    dflat *= m[:, None]
    return loss, dflat.reshape(x.shape)


@stranger(("x", "part", "dflat *= m[:, None]", "pass"),
          ("x", "mean for sum", "dflat /= N", "dflat /= N * T"),
          ("x", "sum for mean", "dflat /= N", "dflat /= 1"))
def temporal_softmax(gradcheck, normal):
    y, mask = np.array([[0, 2, 1], [3, 3, 0]]), np.array([[True, True, False], [True, False, True]])
    f, grad = (lambda x, i=i: temporal_softmax_loss(x, y, mask)[i] for i in (0, 1))
    return gradcheck((f, grad), normal(2, 3, 4))
