"""Functions as in an interactive textbook: short names, parameters as arguments, gradients as dicts or tuples."""

import numpy as np

from .collection import stranger


def linreg(X, w, b):
    return X @ w + b


def squared_loss(y_hat, y):
    return (y_hat - y.reshape(y_hat.shape))**2 / 2


def linreg_loss(X, y, w, b):
    y_hat = linreg(X, w, b)
    return squared_loss(y_hat, y).mean(), (X, y, y_hat)


def linreg_grads(dy, cache):
    X, y, y_hat = cache
    error = dy * (y_hat - y.reshape(y_hat.shape)) / len(X)
    return {"w": X.T @ error, "b": error.sum(axis=0)}


@stranger(("w b", "sum for mean", " / len(X)", ""),
          ("w b", "factor", "dy * (y_hat", "2 * dy * (y_hat"),
          ("b", "mean for sum", "error.sum(axis=0)", "error.mean(axis=0)"),
          ("w b", "dy ignored", "dy * (y_hat", "(y_hat"))
def linear_regression(gradcheck, normal):
    return gradcheck((linreg_loss, linreg_grads), normal(6, 3), normal(6), normal(3, 1), normal(1),
                     constants=("X", "y"))


def corr2d(X, K):
    h, w = K.shape
    Y = np.zeros((X.shape[0] - h + 1, X.shape[1] - w + 1))
    for i in range(Y.shape[0]):
        for j in range(Y.shape[1]):
            Y[i, j] = (X[i:i + h, j:j + w] * K).sum()
    return Y, (X, K)


def corr2d_grad(dY, cache):
    X, K = cache
    (h, w), (H, W) = K.shape, dY.shape
    dK, _ = corr2d(X, dY)
    padded = np.pad(dY, ((h - 1, h - 1), (w - 1, w - 1)))
    dX, _ = corr2d(padded, K[::-1, ::-1])
    return dX, dK


@stranger(("K", "flipped", "return dX, dK", "return dX, dK[::-1, ::-1]"),
          ("X", "", "K[::-1, ::-1])", "K)"),
          ("K", "mean for sum", "return dX, dK", "return dX, dK / dY.size"),
          ("X", "", "K[::-1, ::-1])", "K[::-1])"))
def cross_correlation(gradcheck, normal):
    return gradcheck((corr2d, corr2d_grad), normal(5, 6), normal(2, 3))


def masked_softmax(X, valid_lens):
    scores = np.where(np.arange(X.shape[1]) < valid_lens[:, None], X, -1e6)
    exp = np.exp(scores - scores.max(axis=1, keepdims=True))
    return exp / exp.sum(axis=1, keepdims=True)


def masked_softmax_forward(X, valid_lens):
    P = masked_softmax(X, valid_lens)
    return P, P


def masked_softmax_backward(dP, P):
    return P * (dP - (dP * P).sum(axis=1, keepdims=True))


@stranger(("X", "missing term", "P * (dP - (dP * P).sum(axis=1, keepdims=True))", "P * dP"),
          ("X", "missing term", "P * (dP - (dP * P).sum(axis=1, keepdims=True))", "P * (1 - P) * dP"),
          ("X", "missing term", "(dP * P).sum(axis=1, keepdims=True)", "dP.sum(axis=1, keepdims=True)"),
          ("X", "missing term", "(dP * P).sum(", "(dP * P).mean("))
def softmax_with_lengths(gradcheck, normal):
    return gradcheck((masked_softmax_forward, masked_softmax_backward), normal(3, 5), np.array([2, 5, 3]))


def additive_attention(queries, keys, values, W_q, W_k, w_v):
    features = np.tanh((queries @ W_q)[:, :, None] + (keys @ W_k)[:, None])         # (B, Q, K, H)
    scores = features @ w_v
    exp = np.exp(scores - scores.max(axis=-1, keepdims=True))
    weights = exp / exp.sum(axis=-1, keepdims=True)
    return weights @ values, (queries, keys, values, W_q, W_k, w_v, features, weights)


def additive_attention_grads(dy, cache):
    queries, keys, values, W_q, W_k, w_v, features, weights = cache
    dweights = dy @ values.swapaxes(1, 2)
    dscores = weights * (dweights - (dweights * weights).sum(axis=-1, keepdims=True))
    dsum = dscores[..., None] * w_v * (1 - features**2)
    dq, dk = dsum.sum(axis=2), dsum.sum(axis=1)
    return {"queries": dq @ W_q.T, "keys": dk @ W_k.T, "values": weights.swapaxes(1, 2) @ dy,
            "W_q": np.einsum("bqd,bqh->dh", queries, dq), "W_k": np.einsum("bkd,bkh->dh", keys, dk),
            "w_v": np.einsum("bqk,bqkh->h", dscores, features)}


@stranger(("values", "", "weights.swapaxes(1, 2) @ dy", "weights @ dy"),
          ("keys W_k", "missing sum", "dsum.sum(axis=1)", "dsum[:, 0]"),
          ("w_v", "", '"bqk,bqkh->h", dscores, features', '"bqk,bqkh->h", weights, features'),
          ("queries keys W_q W_k", "", "w_v * (1 - features**2)", "w_v * features"),
          ("queries", "zero", '"queries": dq @ W_q.T', '"queries": 0 * dq @ W_q.T'))
def additive_attention_layer(gradcheck, normal):
    return gradcheck((additive_attention, additive_attention_grads), normal(2, 3, 4), normal(2, 3, 5), normal(2, 3, 2),
                     normal(4, 6), normal(5, 6), normal(6))


def rnn(inputs, H, params):
    W_xh, W_hh, b_h, W_hq, b_q = params
    states, outputs = [H], []
    for X in inputs:
        H = np.tanh(X @ W_xh + H @ W_hh + b_h)
        states.append(H)
        outputs.append(H @ W_hq + b_q)
    return (outputs, H), (inputs, states, params)


def rnn_grads(dy, cache):
    douts, dH = dy
    inputs, states, (W_xh, W_hh, b_h, W_hq, b_q) = cache
    grads, dinputs = [np.zeros_like(p) for p in (W_xh, W_hh, b_h, W_hq, b_q)], []
    for t in reversed(range(len(inputs))):
        grads[3] += states[t + 1].T @ douts[t]
        grads[4] += douts[t].sum(axis=0)
        dA = (dH + douts[t] @ W_hq.T) * (1 - states[t + 1]**2)
        grads[0] += inputs[t].T @ dA
        grads[1] += states[t].T @ dA
        grads[2] += dA.sum(axis=0)
        dinputs.insert(0, dA @ W_xh.T)
        dH = dA @ W_hh.T
    return dinputs, dH, grads


@stranger(("params.1", "", "grads[1] += states[t].T", "grads[1] += states[t + 1].T"),
          ("params.3", "", "states[t + 1].T @ douts[t]", "states[t].T @ douts[t]"),
          ("params.4", "overwritten", "grads[4] += douts", "grads[4] = douts"),
          ("inputs.0 inputs.2", "exchanged", "dinputs.insert(0, dA @ W_xh.T)", "dinputs.append(dA @ W_xh.T)"),
          ("H inputs.0 inputs.1 inputs.2 params.0 params.1 params.2", "", "(dH + douts[t] @ W_hq.T)",
           "(douts[t] @ W_hq.T)"))
def rnn_with_lists_and_state(gradcheck, normal):
    params = [normal(3, 4), normal(4, 4), normal(4), normal(4, 2), normal(2)]
    return gradcheck((rnn, rnn_grads), [normal(2, 3) for _ in range(3)], normal(2, 4), params)


def trans_conv(X, K):
    h, w = K.shape
    Y = np.zeros((X.shape[0] + h - 1, X.shape[1] + w - 1))
    for i in range(X.shape[0]):
        for j in range(X.shape[1]):
            Y[i:i + h, j:j + w] += X[i, j] * K
    return Y, (X, K)


def trans_conv_grad(dY, cache):
    X, K = cache
    dX, dK = np.zeros_like(X), np.zeros_like(K)
    for i, j in np.ndindex(*X.shape):
        window = dY[i:i + len(K), j:j + K.shape[1]]
        dX[i, j] = (window * K).sum()
        dK += X[i, j] * window
    return dX, dK


@stranger(("X", "", "(window * K).sum()", "(window * K[::-1, ::-1]).sum()"),
          ("K", "overwritten", "dK += X[i, j] * window", "dK = X[i, j] * window"),
          ("X", "mean for sum", "(window * K).sum()", "(window * K).mean()"),
          ("K", "flipped", "return dX, dK", "return dX, dK[::-1, ::-1]"))
def transposed_convolution(gradcheck, normal):
    return gradcheck((trans_conv, trans_conv_grad), normal(3, 4), normal(2, 2))


def positionwise_ffn(X, W1, b1, W2, b2):
    H = np.maximum(X @ W1 + b1, 0)
    return X + H @ W2 + b2, (X, W1, W2, H)


def positionwise_ffn_grads(dY, cache):
    X, W1, W2, H = cache
    flat = lambda Z: Z.reshape(-1, Z.shape[-1])
    dH = (dY @ W2.T) * (H > 0)
    return (dY + dH @ W1.T, flat(X).T @ flat(dH), flat(dH).sum(axis=0), flat(H).T @ flat(dY), flat(dY).sum(axis=0))


@stranger(("X", "missing term", "(dY + dH @ W1.T,", "(dH @ W1.T,"),
          ("X", "", "(dY + dH @ W1.T,", "(dY,"),
          ("W1", "", "flat(X).T @ flat(dH)", "flat(X).T @ flat(dY @ W2.T)"),
          ("b2", "mean for sum", "flat(dY).sum(axis=0)", "flat(dY).mean(axis=0)"),
          ("b1", "missing sum", "flat(dH).sum(axis=0)", "dH[:, 0].sum(axis=0)"))
def feed_forward_with_residual(gradcheck, normal):
    return gradcheck((positionwise_ffn, positionwise_ffn_grads), normal(2, 3, 4), normal(4, 6), normal(6), normal(6, 4),
                     normal(4))
