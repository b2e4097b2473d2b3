"""Parameters are objects with `.data` and `.grad` (or `.value`), and modules have `parameters()`.

As in libraries that students build themselves: gradients add up until `zero_grad`.
"""

import numpy as np

from .collection import stranger


class Tensor:
    def __init__(self, data, requires_grad=False):
        self.data = np.asarray(data, dtype=float)
        self.requires_grad = requires_grad
        self.grad = None


class Parameter(Tensor):
    def __init__(self, data):
        super().__init__(data, requires_grad=True)
        self.grad = np.zeros_like(self.data)


class Module:
    def parameters(self):
        found = []
        for value in vars(self).values():
            if isinstance(value, Parameter):
                found.append(value)
            elif isinstance(value, Module):
                found += value.parameters()
            elif isinstance(value, list):
                found += [p for part in value if isinstance(part, Module) for p in part.parameters()]
        return found

    def zero_grad(self):
        for p in self.parameters():
            p.grad[...] = 0


class Linear(Module):
    def __init__(self, n_in, n_out):
        self.weight = Parameter(np.random.randn(n_out, n_in))
        self.bias = Parameter(np.zeros(n_out))

    def forward(self, x):
        self.x = x
        return x @ self.weight.data.T + self.bias.data

    def backward(self, grad):
        self.weight.grad += grad.T @ self.x
        self.bias.grad += grad.sum(axis=0)
        return grad @ self.weight.data


class Sequential(Module):
    def __init__(self, *layers):
        self.layers = list(layers)

    def forward(self, x):
        for layer in self.layers:
            x = layer.forward(x)
        return x

    def backward(self, grad):
        for layer in reversed(self.layers):
            grad = layer.backward(grad)
        return grad


class Tanh(Module):
    def forward(self, x):
        self.y = np.tanh(x)
        return self.y

    def backward(self, grad):
        return grad * (1 - self.y**2)


@stranger(("bias", "mean for sum", "grad.sum(axis=0)", "grad.mean(axis=0)"),
          ("weight", "sign", "self.weight.grad += grad.T", "self.weight.grad -= grad.T"),
          ("weight", "factor", "grad.T @ self.x", "2 * grad.T @ self.x"),
          ("weight", "forgotten", "self.weight.grad += grad.T @ self.x", "self.weight.grad = None"))
def linear(gradcheck, normal):
    return gradcheck(Linear(4, 3), normal(5, 4))


class MLP(Module):
    def __init__(self, *sizes):
        self.net = Sequential(Linear(sizes[0], sizes[1]), Tanh(), Linear(sizes[1], sizes[2]))
        self.skip = Linear(sizes[0], sizes[2])

    def forward(self, x):
        return self.net.forward(x) + self.skip.forward(x)

    def backward(self, grad):
        dskip = self.skip.backward(grad)
        return self.net.backward(grad) + dskip


@stranger(("x", "", "return self.net.backward(grad) + dskip", "return self.net.backward(grad)"),
          ("skip.weight", "factor", "self.skip.backward(grad)\n",
           "self.skip.backward(grad)\n        self.skip.weight.grad *= 1.01\n"),
          ("x", "", "+ dskip", "- dskip"),
          ("net.layers.0.weight net.layers.0.bias x", "", "self.net.backward(grad)",
           "self.net.layers[0].backward(self.net.layers[2].backward(grad))"))
def mlp_with_skip(gradcheck, normal):
    return gradcheck(MLP(4, 6, 3), normal(5, 4))


class LayerNorm(Module):
    def __init__(self, n):
        self.gain, self.shift = Parameter(np.ones(n)), Parameter(np.zeros(n))

    def forward(self, x):
        centred = x - x.mean(-1, keepdims=True)
        self.rstd = 1 / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-5)
        self.normed = centred * self.rstd
        return self.normed * self.gain.data + self.shift.data

    def backward(self, grad):
        self.shift.grad += grad.sum(0)
        self.gain.grad += (grad * self.normed).sum(0)
        g = grad * self.gain.data
        return self.rstd * (g - g.mean(-1, keepdims=True) - self.normed * (g * self.normed).mean(-1, keepdims=True))


@stranger(("x", "missing term", " - g.mean(-1, keepdims=True)", ""),
          ("x", "weight outside", "g = grad * self.gain.data", "g = grad; self.rstd = self.rstd * self.gain.data"),
          ("gain", "missing sum", "(grad * self.normed).sum(0)", "(grad * self.normed)[-1]"),
          ("x", "", "self.rstd * (g -", "(g -"))
def layer_norm(gradcheck, normal):
    return gradcheck(LayerNorm(6), normal(4, 6))


class Weight:
    """As in libraries that write .value and .grad."""

    def __init__(self, value):
        self.value, self.grad = value, np.zeros_like(value)


class PReLU:
    def __init__(self):
        self.alpha = Weight(np.array(0.25))

    def forward(self, x):
        self.x = x
        return np.where(x > 0, x, self.alpha.value * x)

    def backward(self, dy):
        self.alpha.grad += np.sum(dy * np.minimum(self.x, 0))
        return np.where(self.x > 0, dy, self.alpha.value * dy)


@stranger(("alpha", "", "np.sum(dy * np.minimum(self.x, 0))", "np.sum(dy * self.x)"),
          ("alpha", "mean for sum", "np.sum(dy", "np.mean(dy"),
          ("x", "slope", "self.alpha.value * dy)", "0 * dy)"),
          ("x", "slope", "self.x > 0, dy,", "self.x > 0, 1.0,"))
def prelu(gradcheck, normal):
    return gradcheck(PReLU(), normal(4, 5))


class GRUCell(Module):
    def __init__(self, n_in, n):
        self.w_x, self.w_h = Parameter(np.random.randn(n_in, 3 * n)), Parameter(np.random.randn(n, 3 * n))
        self.b = Parameter(np.zeros(3 * n))

    def forward(self, x, h):
        a, c = x @ self.w_x.data + self.b.data, h @ self.w_h.data
        (a_r, a_z, a_n), (c_r, c_z, c_n) = np.split(a, 3, axis=1), np.split(c, 3, axis=1)
        r, z = 1 / (1 + np.exp(-a_r - c_r)), 1 / (1 + np.exp(-a_z - c_z))
        n = np.tanh(a_n + r * c_n)
        self.kept = (x, h, r, z, n, c_n)
        return (1 - z) * n + z * h

    def backward(self, dy):
        x, h, r, z, n, c_n = self.kept
        dn = dy * (1 - z) * (1 - n**2)
        dz = dy * (h - n) * z * (1 - z)
        dr = dn * c_n * r * (1 - r)
        da, dc = np.hstack([dr, dz, dn]), np.hstack([dr, dz, dn * r])
        self.w_x.grad += x.T @ da
        self.w_h.grad += h.T @ dc
        self.b.grad += da.sum(axis=0)
        return da @ self.w_x.data.T, dc @ self.w_h.data.T + dy * z


@stranger(("h", "", "dc @ self.w_h.data.T + dy * z", "dc @ self.w_h.data.T"),
          ("w_h h", "gates", "np.hstack([dr, dz, dn * r])", "np.hstack([dr, dz, dn])"),
          ("x h w_x w_h b", "", "dy * (h - n)", "dy * (n - h)"),
          ("w_x", "gates", "x.T @ da\n", "x.T @ np.hstack([dz, dr, dn])\n"))
def gru_cell(gradcheck, normal):
    return gradcheck(GRUCell(3, 4), normal(2, 3), normal(2, 4))


class Embedding(Module):
    def __init__(self, words, width, positions):
        self.token, self.position = Parameter(np.zeros((words, width))), Parameter(np.zeros((positions, width)))

    def forward(self, ids):
        self.ids = ids
        return self.token.data[ids] + self.position.data[:ids.shape[1]]

    def backward(self, grad):
        np.add.at(self.token.grad, self.ids, grad)
        self.position.grad[:grad.shape[1]] += grad.sum(axis=0)


@stranger(("position", "missing sum", "grad.sum(axis=0)", "grad[0]"),
          ("position", "zero", "+= grad.sum(axis=0)", "+= 0"),
          ("token", "part", "np.add.at(self.token.grad, self.ids, grad)", "self.token.grad[self.ids] += grad"),
          ("position", "mean for sum", "grad.sum(axis=0)", "grad.mean(axis=0)"))
def token_and_position(gradcheck, normal):
    return gradcheck(Embedding(5, 3, 4), np.array([[1, 4, 1], [0, 1, 2]]))


class RMSNorm:
    """Its optimiser takes pairs: `pairs()` yields (parameter, gradient)."""

    def __init__(self, n):
        self.scale = np.ones(n)
        self.scale_grad = np.zeros(n)

    def pairs(self):
        yield self.scale, self.scale_grad

    def forward(self, x):
        self.x, self.r = x, 1 / np.sqrt((x * x).mean(-1, keepdims=True) + 1e-8)
        return x * self.r * self.scale

    def backward(self, dy):
        self.scale_grad += (dy * self.x * self.r).sum(axis=0)
        g = dy * self.scale
        return self.r * (g - self.x * self.r**2 * (g * self.x).mean(-1, keepdims=True))


@stranger(("x", "missing term", " - self.x * self.r**2 * (g * self.x).mean(-1, keepdims=True)", ""),
          ("x", "", "self.x * self.r**2 *", "self.x * self.r *"),
          ("scale", "missing sum", "(dy * self.x * self.r).sum(axis=0)", "(dy * self.x * self.r)[0]"),
          ("x", "missing term", "(g * self.x).mean(-1", "(g * self.x).sum(-1"))
def rms_norm(gradcheck, normal):
    return gradcheck(RMSNorm(5), normal(4, 5))


class CausalSelfAttention(Module):
    def __init__(self, width, heads):
        self.heads = heads
        self.qkv, self.proj = Linear(width, 3 * width), Linear(width, width)

    def forward(self, x):
        B, T, C = x.shape
        qkv = self.qkv.forward(x.reshape(B * T, C)).reshape(B, T, 3, self.heads, -1)
        q, k, v = qkv.transpose(2, 0, 3, 1, 4)
        scores = np.where(np.tri(T, dtype=bool), q @ k.swapaxes(-1, -2) / np.sqrt(q.shape[-1]), -1e30)
        att = np.exp(scores - scores.max(-1, keepdims=True))
        att /= att.sum(-1, keepdims=True)
        self.kept = (q, k, v, att)
        return self.proj.forward((att @ v).transpose(0, 2, 1, 3).reshape(B * T, C)).reshape(B, T, C)

    def backward(self, dy):
        q, k, v, att = self.kept
        B, T, C = dy.shape
        dz = self.proj.backward(dy.reshape(B * T, C)).reshape(B, T, self.heads, -1).transpose(0, 2, 1, 3)
        datt, dv = dz @ v.swapaxes(-1, -2), att.swapaxes(-1, -2) @ dz
        ds = att * (datt - (datt * att).sum(-1, keepdims=True)) / np.sqrt(q.shape[-1])
        dq, dk = ds @ k, ds.swapaxes(-1, -2) @ q
        dqkv = np.stack([dq, dk, dv]).transpose(1, 3, 0, 2, 4).reshape(B * T, 3 * C)
        return self.qkv.backward(dqkv).reshape(B, T, C)


@stranger(("x qkv.weight qkv.bias", "gates", "np.stack([dq, dk, dv])", "np.stack([dk, dq, dv])"),
          ("x qkv.weight qkv.bias", "gates", "np.stack([dq, dk, dv])", "np.stack([dq, dk, 0 * dv])"),
          ("x qkv.weight qkv.bias", "", "- (datt * att).sum(-1, keepdims=True)) / np.sqrt(q.shape[-1])",
           "- (datt * att).sum(-1, keepdims=True))"),
          ("x qkv.weight qkv.bias", "", "att.swapaxes(-1, -2) @ dz", "att @ dz"))
def causal_self_attention(gradcheck, normal):
    return gradcheck(CausalSelfAttention(4, 2), normal(2, 3, 4))
