"""Layers with lists `self.params` and `self.grads`, or attributes `W` and `dW`: `backward(dout=1) -> dx`."""

import numpy as np

from .collection import stranger


class MatMul:
    def __init__(self, W):
        self.params, self.grads, self.x = [W], [np.zeros_like(W)], None

    def forward(self, x):
        W, = self.params
        self.x = x
        return np.dot(x, W)

    def backward(self, dout):
        W, = self.params
        dx = np.dot(dout, W.T)
        dW = np.dot(self.x.T, dout)
        self.grads[0][...] = dW
        return dx


@stranger(("x", "factor", "np.dot(dout, W.T)", "0.5 * np.dot(dout, W.T)"),
          ("params.0", "zero", "self.grads[0][...] = dW", "self.grads[0] *= dW"),
          ("params.0", "factor", "np.dot(self.x.T, dout)", "1.001 * np.dot(self.x.T, dout)"),
          ("params.0", "", "np.dot(self.x.T, dout)", "np.dot(np.sign(self.x).T, dout)"))
def mat_mul(gradcheck, normal):
    return gradcheck(MatMul(normal(4, 3)), normal(5, 4))


class Affine:
    def __init__(self, W, b):
        self.params = [W, b]
        self.grads = [np.zeros_like(W), np.zeros_like(b)]
        self.x = None

    def forward(self, x):
        W, b = self.params
        self.x = x
        return np.dot(x, W) + b

    def backward(self, dout):
        W, b = self.params
        dx = np.dot(dout, W.T)
        self.grads[0][...] = np.dot(self.x.T, dout)
        self.grads[1][...] = np.sum(dout, axis=0)
        return dx


@stranger(("params.1", "mean for sum", "np.sum(dout, axis=0)", "np.mean(dout, axis=0)"),
          ("params.1", "missing sum", "np.sum(dout, axis=0)", "dout[0]"),
          ("params.0", "sign", "np.dot(self.x.T, dout)", "-np.dot(self.x.T, dout)"),
          ("params.0", "transposed", "np.dot(self.x.T, dout)", "np.dot(dout.T, self.x)"),
          ("x", "", "np.dot(dout, W.T)", "np.dot(dout, W)"))
def affine(gradcheck, normal):
    return gradcheck(Affine(normal(4, 4), normal(4)), normal(5, 4))


class Sigmoid:
    def __init__(self):
        self.params, self.grads = [], []
        self.out = None

    def forward(self, x):
        out = 1 / (1 + np.exp(-x))
        self.out = out
        return out

    def backward(self, dout):
        return dout * (1.0 - self.out) * self.out


@stranger(("x", "slope", "(1.0 - self.out) * self.out", "(1.0 - self.out)"),
          ("x", "slope", "(1.0 - self.out) * self.out", "(1.0 - self.out**2)"),
          ("x", "slope", "(1.0 - self.out) * self.out", "self.out"),
          ("x", "sign", "(1.0 - self.out)", "(self.out - 1.0)"))
def sigmoid(gradcheck, normal):
    return gradcheck(Sigmoid(), normal(4, 5))


class SoftmaxWithLoss:
    def __init__(self):
        self.params, self.grads = [], []

    def forward(self, x, t):
        e = np.exp(x - x.max(axis=1, keepdims=True))
        self.y, self.t = e / e.sum(axis=1, keepdims=True), t
        return -np.sum(np.log(self.y[np.arange(len(t)), t])) / len(t)

    def backward(self, dout=1):
        batch_size = self.t.shape[0]
        dx = self.y.copy()
        dx[np.arange(batch_size), self.t] -= 1
        dx *= dout
        dx = dx / batch_size
        return dx


@stranger(("x", "sum for mean", "dx = dx / batch_size", "dx = dx"),
          ("x", "dy ignored", "dx *= dout", "pass"),
          ("x", "sign", "dx *= dout", "dx *= -dout"),
          ("x", "", "self.t] -= 1", "self.t] = 1"))
def softmax_with_loss(gradcheck, normal):
    return gradcheck(SoftmaxWithLoss(), normal(4, 3), np.array([2, 0, 1, 0]))


class Embedding:
    def __init__(self, W):
        self.params, self.grads, self.idx = [W], [np.zeros_like(W)], None

    def forward(self, idx):
        W, = self.params
        self.idx = idx
        return W[idx]

    def backward(self, dout):
        dW, = self.grads
        dW[...] = 0
        np.add.at(dW, self.idx, dout)
        return None


@stranger(("params.0", "part", "np.add.at(dW, self.idx, dout)", "dW[self.idx] = dout"),
          ("params.0", "part", "np.add.at(dW, self.idx, dout)", "dW[self.idx] += dout"),
          ("params.0", "sign", "np.add.at(dW, self.idx, dout)", "np.subtract.at(dW, self.idx, dout)"))
def embedding(gradcheck, normal):
    return gradcheck(Embedding(normal(6, 3)), np.array([1, 4, 1, 0]))


class EmbeddingDot:
    def __init__(self, W):
        self.embed = Embedding(W)
        self.params, self.grads = self.embed.params, self.embed.grads

    def forward(self, h, idx):
        target_W = self.embed.forward(idx)
        self.cache = (h, target_W)
        return np.sum(target_W * h, axis=1)

    def backward(self, dout):
        h, target_W = self.cache
        dout = dout.reshape(len(dout), 1)
        self.embed.backward(dout * h)
        return dout * target_W


@stranger(("h", "", "return dout * target_W", "return dout * h"),
          ("params.0", "", "self.embed.backward(dout * h)", "self.embed.backward(dout * target_W)"),
          ("params.0", "zero", "self.embed.backward(dout * h)", "self.embed.backward(0 * h)"),
          ("h", "wrong places", "return dout * target_W", "return (dout * target_W)[::-1]"))
def embedding_dot(gradcheck, normal):
    return gradcheck(EmbeddingDot(normal(6, 3)), normal(4, 3), np.array([1, 4, 1, 0]))


class RNN:
    def __init__(self, Wx, Wh, b):
        self.params = [Wx, Wh, b]
        self.grads = [np.zeros_like(Wx), np.zeros_like(Wh), np.zeros_like(b)]

    def forward(self, x, h_prev):
        Wx, Wh, b = self.params
        h_next = np.tanh(np.dot(h_prev, Wh) + np.dot(x, Wx) + b)
        self.cache = (x, h_prev, h_next)
        return h_next

    def backward(self, dh_next):
        Wx, Wh, b = self.params
        x, h_prev, h_next = self.cache
        dt = dh_next * (1 - h_next ** 2)
        self.grads[0][...] = np.dot(x.T, dt)
        self.grads[1][...] = np.dot(h_prev.T, dt)
        self.grads[2][...] = np.sum(dt, axis=0)
        return np.dot(dt, Wx.T), np.dot(dt, Wh.T)


@stranger(("params.1", "", "np.dot(h_prev.T, dt)", "np.dot(h_next.T, dt)"),
          ("params.2", "", "np.sum(dt, axis=0)", "np.sum(dh_next, axis=0)"),
          ("h_prev", "", "np.dot(dt, Wh.T)", "np.dot(dt, Wh)"),
          ("x", "sign", "return np.dot(dt, Wx.T)", "return -np.dot(dt, Wx.T)"))
def rnn(gradcheck, normal):
    return gradcheck(RNN(normal(3, 4), normal(4, 4), normal(4)), normal(2, 3), normal(2, 4))


class TimeRNN:
    def __init__(self, Wx, Wh, b):
        self.params = [Wx, Wh, b]
        self.grads = [np.zeros_like(p) for p in self.params]
        self.layers = None

    def forward(self, xs):
        self.layers, hs = [], []
        h = np.zeros((len(xs), len(self.params[1])))
        for t in range(xs.shape[1]):
            layer = RNN(*self.params)
            h = layer.forward(xs[:, t], h)
            hs.append(h)
            self.layers.append(layer)
        return np.stack(hs, axis=1)

    def backward(self, dhs):
        dxs, dh, grads = np.empty((*dhs.shape[:2], len(self.params[0]))), 0, [0, 0, 0]
        for t in reversed(range(dhs.shape[1])):
            layer = self.layers[t]
            dxs[:, t], dh = layer.backward(dhs[:, t] + dh)
            for i, grad in enumerate(layer.grads):
                grads[i] += grad
        for i, grad in enumerate(grads):
            self.grads[i][...] = grad
        return dxs


@stranger(("xs params.0 params.1 params.2", "", "dhs[:, t] + dh", "dhs[:, t]"),
          ("params.0 params.1 params.2", "overwritten", "grads[i] += grad", "grads[i] = grad"),
          ("xs params.0 params.1 params.2", "", "in reversed(range(dhs.shape[1])):", "in range(dhs.shape[1]):"))
def time_rnn(gradcheck, normal):
    return gradcheck(TimeRNN(normal(3, 4), normal(4, 4), normal(4)), normal(2, 3, 3))


class LSTM:
    def __init__(self, Wx, Wh, b):
        self.params = [Wx, Wh, b]
        self.grads = [np.zeros_like(Wx), np.zeros_like(Wh), np.zeros_like(b)]
        self.cache = None

    def forward(self, x, h_prev, c_prev):
        Wx, Wh, b = self.params
        H = h_prev.shape[1]
        A = np.dot(x, Wx) + np.dot(h_prev, Wh) + b
        f, i, o = (1 / (1 + np.exp(-A[:, k * H:(k + 1) * H])) for k in (0, 2, 3))
        g = np.tanh(A[:, H:2 * H])
        c_next = f * c_prev + g * i
        h_next = o * np.tanh(c_next)
        self.cache = (x, h_prev, c_prev, i, f, g, o, c_next)
        return h_next, c_next

    def backward(self, dh_next, dc_next):
        Wx, Wh, b = self.params
        x, h_prev, c_prev, i, f, g, o, c_next = self.cache
        tanh_c_next = np.tanh(c_next)
        ds = dc_next + (dh_next * o) * (1 - tanh_c_next ** 2)
        dc_prev = ds * f
        di, df, do, dg = ds * g, ds * c_prev, dh_next * tanh_c_next, ds * i
        di *= i * (1 - i)
        df *= f * (1 - f)
        do *= o * (1 - o)
        dg *= (1 - g ** 2)
        dA = np.hstack((df, dg, di, do))
        self.grads[0][...] = np.dot(x.T, dA)
        self.grads[1][...] = np.dot(h_prev.T, dA)
        self.grads[2][...] = dA.sum(axis=0)
        return np.dot(dA, Wx.T), np.dot(dA, Wh.T), dc_prev


@stranger(("x h_prev params.0 params.1 params.2", "gates", "((df, dg, di, do))", "((df, di, dg, do))"),
          ("x h_prev params.0 params.1 params.2", "gates", "df *= f * (1 - f)", "df *= i * (1 - i)"),
          ("x h_prev c_prev params.0 params.1 params.2", "", "(1 - tanh_c_next ** 2)", "(1 - c_next ** 2)"),
          ("x h_prev params.0 params.1 params.2", "gates", "dg *= (1 - g ** 2)", "pass"),
          ("params.2", "missing sum", "dA.sum(axis=0)", "dA[0]"))
def lstm(gradcheck, normal):
    return gradcheck(LSTM(normal(3, 16), normal(4, 16), normal(16)), normal(2, 3), normal(2, 4), normal(2, 4))


class TimeAffine:
    def __init__(self, W, b):
        self.params, self.grads = [W, b], [np.zeros_like(W), np.zeros_like(b)]

    def forward(self, x):
        N, T, D = x.shape
        W, b = self.params
        self.x = x
        return (np.dot(x.reshape(N * T, -1), W) + b).reshape(N, T, -1)

    def backward(self, dout):
        x = self.x
        N, T, D = x.shape
        W, b = self.params
        dout, rx = dout.reshape(N * T, -1), x.reshape(N * T, -1)
        self.grads[0][...] = np.dot(rx.T, dout)
        self.grads[1][...] = np.sum(dout, axis=0)
        return np.dot(dout, W.T).reshape(N, T, D)


@stranger(("params.1", "mean for sum", "np.sum(dout, axis=0)", "np.sum(dout, axis=0) / N"),
          ("params.0", "mean for sum", "np.dot(rx.T, dout)", "np.dot(rx.T, dout) / (N * T)"),
          ("x", "wrong places", ".reshape(N, T, D)\n\n", ".reshape(T, N, D).swapaxes(0, 1)\n\n"))
def time_affine(gradcheck, normal):
    return gradcheck(TimeAffine(normal(3, 5), normal(5)), normal(2, 4, 3))


class Convolution:
    def __init__(self, W, b, stride=1, pad=0):
        self.W, self.b, self.stride, self.pad = W, b, stride, pad
        self.x, self.col, self.dW, self.db = None, None, None, None

    def columns(self, x):
        N, C, H, W = x.shape
        size = self.W.shape[2]
        img = np.pad(x, [(0, 0), (0, 0), (self.pad, self.pad), (self.pad, self.pad)])
        windows = np.lib.stride_tricks.sliding_window_view(img, (size, size), axis=(2, 3))
        windows = windows[:, :, ::self.stride, ::self.stride]
        return windows.transpose(0, 2, 3, 1, 4, 5).reshape(-1, C * size * size), windows.shape

    def forward(self, x):
        FN = len(self.W)
        col, (N, _, out_h, out_w, *_) = self.columns(x)
        self.x, self.col = x, col
        return (np.dot(col, self.W.reshape(FN, -1).T) + self.b).reshape(N, out_h, out_w, FN).transpose(0, 3, 1, 2)

    def backward(self, dout):
        FN, C, size, _ = self.W.shape
        N, _, out_h, out_w = dout.shape
        dout = dout.transpose(0, 2, 3, 1).reshape(-1, FN)
        self.db = np.sum(dout, axis=0)
        self.dW = np.dot(self.col.T, dout).T.reshape(FN, C, size, size)
        dcol = np.dot(dout, self.W.reshape(FN, -1)).reshape(N, out_h, out_w, C, size, size)
        dimg = np.zeros((N, C, self.x.shape[2] + 2 * self.pad, self.x.shape[3] + 2 * self.pad))
        for y in range(out_h):
            for x in range(out_w):
                top, left = y * self.stride, x * self.stride
                dimg[:, :, top:top + size, left:left + size] += dcol[:, y, x]
        return dimg[:, :, self.pad:self.pad + self.x.shape[2], self.pad:self.pad + self.x.shape[3]]


@stranger(("W", "wrong places", "np.dot(self.col.T, dout).T.reshape(FN, C, size, size)",
           "np.dot(self.col.T, dout).reshape(FN, C, size, size)"),
          ("W", "flipped", ".T.reshape(FN, C, size, size)\n", ".T.reshape(FN, C, size, size)[..., ::-1, ::-1]\n"),
          ("x", "", "+= dcol[:, y, x]", "+= dcol[:, y, x, :, ::-1, ::-1]"),
          ("b", "mean for sum", "np.sum(dout, axis=0)", "np.sum(dout, axis=0) / N"),
          ("x", "", "left:left + size] += dcol", "left:left + size] = dcol"))
def convolution(gradcheck, normal):
    return gradcheck(Convolution(normal(3, 2, 3, 3), normal(3), pad=1), normal(2, 2, 4, 4))


class WeightSum:
    def __init__(self):
        self.params, self.grads, self.cache = [], [], None

    def forward(self, hs, a):
        self.cache = (hs, a)
        return np.sum(hs * a[:, :, None], axis=1)

    def backward(self, dc):
        hs, a = self.cache
        dt = np.repeat(dc[:, None], hs.shape[1], axis=1)
        dhs = dt * a[:, :, None]
        da = np.sum(dt * hs, axis=2)
        return dhs, da


@stranger(("a", "mean for sum", "np.sum(dt * hs, axis=2)", "np.mean(dt * hs, axis=2)"),
          ("hs", "missing factor", "dhs = dt * a[:, :, None]", "dhs = dt"),
          ("a", "missing sum", "np.sum(dt * hs, axis=2)", "(dt * hs)[:, :, 0]"))
def attention_weight_sum(gradcheck, normal):
    return gradcheck(WeightSum(), normal(2, 4, 3), normal(2, 4))


class TwoLayer:
    """Its parts share the arrays of its own list."""

    def __init__(self, W1, b1, W2, b2):
        self.layers = [Affine(W1, b1), Sigmoid(), Affine(W2, b2)]
        self.params, self.grads = [], []
        for layer in self.layers:
            self.params += layer.params
            self.grads += layer.grads

    def forward(self, x):
        for layer in self.layers:
            x = layer.forward(x)
        return x

    def backward(self, dout):
        for layer in reversed(self.layers):
            dout = layer.backward(dout)
        return dout


@stranger(("x params.0 params.1", "", "in reversed(self.layers):", "in (self.layers[2], self.layers[0]):"),
          ("params.2", "", "dout = layer.backward(dout)\n",
           "dout = layer.backward(dout)\n        self.grads[2] *= 1.002\n"),
          ("x", "factor", "layer.backward(dout)\n        return dout", "layer.backward(dout)\n        return 2 * dout"))
def two_layers_with_shared_lists(gradcheck, normal):
    return gradcheck(TwoLayer(normal(3, 5), normal(5), normal(5, 2), normal(2)), normal(4, 3))
