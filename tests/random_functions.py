"""Random right functions: compositions of array operations, each with a backward written by hand.

The inputs have scales from 1e-8 to 1e8, and so has the result. Inside, the numbers are of the order of one.
"""

from collections.abc import Callable
from typing import Any

import numpy as np


def _sigmoid(x):
    return 1 / (1 + np.exp(-x))


def _softmax(x):
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def _norm(x):
    return (x - x.mean(axis=-1, keepdims=True)) / np.sqrt(x.var(axis=-1, keepdims=True) + 0.1)


def _norm_vjp(d, y, x):
    rstd = 1 / np.sqrt(x.var(axis=-1, keepdims=True) + 0.1)
    return rstd * (d - d.mean(axis=-1, keepdims=True) - y * (d * y).mean(axis=-1, keepdims=True))


def _where_largest(x, axis):
    place = np.zeros(x.shape)
    np.put_along_axis(place, np.expand_dims(x.argmax(axis=axis), axis), 1.0, axis=axis)
    return place


UNARY = {  # y = f(x), and dx = vjp(dy, y, x), on matrices
    "tanh": (np.tanh, lambda d, y, x: d * (1 - y**2)),
    "sin": (np.sin, lambda d, y, x: d * np.cos(x)),
    "exp": (lambda x: np.exp(0.3 * x), lambda d, y, x: 0.3 * d * y),
    "sigmoid": (_sigmoid, lambda d, y, x: d * y * (1 - y)),
    "softplus": (lambda x: np.logaddexp(0, x), lambda d, y, x: d * _sigmoid(x)),
    "square": (np.square, lambda d, y, x: 2 * d * x),
    "log": (lambda x: np.log1p(x * x), lambda d, y, x: 2 * d * x / (1 + x * x)),
    "root": (lambda x: np.sqrt(1 + x * x), lambda d, y, x: d * x / y),
    "arctan": (np.arctan, lambda d, y, x: d / (1 + x * x)),
    "relu": (lambda x: np.maximum(x, 0), lambda d, y, x: d * (x > 0)),
    "abs": (np.abs, lambda d, y, x: d * np.sign(x)),
    "softmax": (_softmax, lambda d, y, x: y * (d - (d * y).sum(axis=-1, keepdims=True))),
    "norm": (_norm, _norm_vjp),
    "batch norm": (lambda x: _norm(x.T).T, lambda d, y, x: _norm_vjp(d.T, y.T, x.T).T),
    "cumulative sum": (lambda x: x.cumsum(axis=0), lambda d, y, x: d[::-1].cumsum(axis=0)[::-1]),
    "flip": (lambda x: x[::-1, ::-1], lambda d, y, x: d[::-1, ::-1]),
    "row sums": (lambda x: x.sum(axis=1, keepdims=True) + 0 * x,
                 lambda d, y, x: d.sum(axis=1, keepdims=True) + np.zeros(x.shape)),
    "largest": (lambda x: x - x.max(axis=0, keepdims=True),
                lambda d, y, x: d - d.sum(axis=0, keepdims=True) * _where_largest(x, 0)),
}
BINARY = {  # of two matrices of one shape; da, db = vjp(dy, a, b)
    "add": (np.add, lambda d, a, b: (d, d)),
    "multiply": (np.multiply, lambda d, a, b: (d * b, d * a)),
    "divide": (lambda a, b: a / (1 + b * b), lambda d, a, b: (d / (1 + b * b), -2 * d * a * b / (1 + b * b)**2)),
    "maximum": (np.maximum, lambda d, a, b: (d * (a > b), d * (a <= b))),
    "mixing rows": (lambda a, b: a @ b.T @ a / 4,
                    lambda d, a, b: ((d @ a.T @ b + b @ a.T @ d) / 4, a @ d.T @ a / 4)),
}


def random_function(seed: int) -> tuple[tuple[Callable, Callable], list[np.ndarray]]:
    """Return a pair (forward, backward) and its inputs."""
    rng = np.random.default_rng([seed, 77])
    n, m = (int(k) for k in rng.integers(1, 6, 2))
    count = int(rng.integers(1, 4))
    shapes = [[(n, m), (m,), (n, 1), ()][int(rng.integers(4)) if i else 0] for i in range(count)]
    scales, of_result = 10.0 ** rng.uniform(-8, 8, count), 10.0 ** rng.uniform(-8, 8)
    steps: list[Any] = [(str(rng.choice(list(UNARY))), int(rng.integers(100))) if rng.random() < 0.6 else
                        (str(rng.choice(list(BINARY))), int(rng.integers(100)), int(rng.integers(100)))
                        for _ in range(rng.integers(1, 6))]
    is_loss = rng.random() < 0.2

    def forward(*inputs):
        values = [np.broadcast_to(x / s, (n, m)) for x, s in zip(inputs, scales, strict=True)]
        used = []
        for name, *places in steps:
            parents = [place % len(values) for place in places]
            parents[0] = len(values) - 1                              # a chain, so that much depends on much
            function = (UNARY.get(name) or BINARY[name])[0]
            values.append(function(*(values[p] for p in parents)))
            used.append(parents)
        y = of_result * sum(values)
        return (y.sum() if is_loss else y), (values, used, [np.shape(x) for x in inputs])

    def backward(dy, cache):
        values, used, input_shapes = cache
        d = [np.zeros((n, m)) for _ in values]
        for i in range(len(values)):
            d[i] = d[i] + of_result * dy
        for i in reversed(range(len(steps))):
            name, parents, y = steps[i][0], used[i], values[count + i]
            if name in UNARY:
                d[parents[0]] = d[parents[0]] + UNARY[name][1](d[count + i], y, values[parents[0]])
            else:
                parts = BINARY[name][1](d[count + i], *(values[p] for p in parents))
                for parent, part in zip(parents, parts, strict=True):
                    d[parent] = d[parent] + part
        return tuple(_summed(d[i], shape) / s for i, (shape, s) in enumerate(zip(input_shapes, scales, strict=True)))

    return (forward, backward), [s * rng.standard_normal(shape) for s, shape in zip(scales, shapes, strict=True)]


def _summed(d, shape):
    """Return the gradient of an array that was broadcast."""
    axes = tuple(range(d.ndim - len(shape))) + tuple(
        d.ndim - len(shape) + i for i, size in enumerate(shape) if size == 1 and d.shape[d.ndim - len(shape) + i] > 1)
    return d.sum(axis=axes).reshape(shape) if axes else d.reshape(shape)
