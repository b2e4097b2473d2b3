"""Layers that keep input and output, and write gradients into an attribute `g` of the arrays; called as functions."""

import numpy as np

from .collection import stranger


class Array(np.ndarray):
    """An array that can have the attribute g, as tensors of other libraries can."""


def array(x):
    return np.array(x).view(Array)


class Module:
    def __call__(self, *args):
        self.args = args
        self.out = array(self.forward(*args))
        return self.out

    def backward(self):
        self.bwd(self.out, *self.args)


class Relu(Module):
    def forward(self, inp):
        return np.clip(inp, 0.0, None) - 0.5

    def bwd(self, out, inp):
        inp.g = (inp > 0) * out.g


@stranger(("inp", "slope", "(inp > 0) * out.g", "(inp > 0.5) * out.g"),
          ("inp", "slope", "(inp > 0) * out.g", "(inp < 0) * out.g"),
          ("inp", "dy ignored", "(inp > 0) * out.g", "(inp > 0) * 1.0"))
def relu(gradcheck, normal):
    forward = lambda inp: (lambda m: (m(array(inp)), m))(Relu())
    backward = lambda dy, m: (setattr(m.out, "g", dy), m.backward(), m.args[0].g)[-1]
    return gradcheck((forward, backward), normal(4, 5))


class Lin(Module):
    def __init__(self, w, b):
        self.w, self.b = array(w), array(b)

    def forward(self, inp):
        return inp @ self.w + self.b

    def bwd(self, out, inp):
        inp.g = out.g @ self.w.T
        self.w.g = inp.T @ out.g
        self.b.g = out.g.sum(0)


@stranger(("b", "mean for sum", "out.g.sum(0)", "out.g.mean(0)"),
          ("w", "sign", "inp.T @ out.g", "-inp.T @ out.g"),
          ("inp", "", "out.g @ self.w.T", "out.g @ self.w.T + 0.1 * inp"),
          ("w", "missing sum", "inp.T @ out.g", "inp[:1].T @ out.g[:1]"))
def lin(gradcheck, normal):
    forward = lambda inp, w, b: (lambda m: (m(array(inp)), m))(Lin(w, b))
    backward = lambda dy, m: (setattr(m.out, "g", dy), m.backward(), (m.args[0].g, m.w.g, m.b.g))[-1]
    return gradcheck((forward, backward), normal(5, 4), normal(4, 3), normal(3))


class Mse(Module):
    def forward(self, inp, targ):
        return ((inp[:, 0] - targ)**2).mean()

    def bwd(self, out, inp, targ):
        inp.g = 2 * (inp[:, 0] - targ)[:, None] / targ.shape[0]


@stranger(("inp", "sum for mean", " / targ.shape[0]", ""),
          ("inp", "factor", "2 * (inp", "(inp"),
          ("inp", "sign", "2 * (inp[:, 0] - targ)", "2 * (targ - inp[:, 0])"),
          ("inp", "", "2 * (inp[:, 0] - targ)", "2 * np.sign(inp[:, 0] - targ)"))
def mse(gradcheck, normal):
    m, targ = Mse(), normal(6)
    f, grad = lambda inp: m(array(inp), targ), lambda inp: (m(x := array(inp), targ), m.backward(), x.g)[-1]
    return gradcheck((f, grad), normal(6, 1))


class Model:
    def __init__(self, w1, b1, w2, b2):
        self.layers = [Lin(w1, b1), Relu(), Lin(w2, b2)]
        self.loss = Mse()

    def __call__(self, x, targ):
        for layer in self.layers:
            x = layer(x)
        return self.loss(x, targ)

    def backward(self):
        self.loss.backward()
        for layer in reversed(self.layers):
            layer.backward()


def model_gradients(x, targ, *weights):
    model = Model(*weights)
    loss = model(x := array(x), targ)
    model.backward()
    first, last = model.layers[0], model.layers[2]
    return loss, (x.g, first.w.g, first.b.g, last.w.g, last.b.g)


@stranger(("w1", "factor", "(x.g, first.w.g, first.b.g,", "(x.g, 3 * first.w.g, first.b.g,"),
          ("x w1 b1", "", "        self.loss.backward()\n", "        self.loss.backward()\n"
           "        self.layers[1].bwd = lambda out, inp: setattr(inp, 'g', out.g)\n"),
          ("b1", "", "first.w.g, first.b.g,", "first.w.g, first.w.g.mean(0),"))
def model_with_loss(gradcheck, normal):
    targ = normal(6)
    f, grad = (lambda x, w1, b1, w2, b2, i=i: model_gradients(x, targ, w1, b1, w2, b2)[i] for i in (0, 1))
    return gradcheck((f, grad), normal(6, 3), normal(3, 4), normal(4), normal(4, 1), normal(1))
