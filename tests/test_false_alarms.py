"""Right code is never called wrong: random shapes, weights, inputs and seeds, by every method."""

import numpy as np
import pytest

from minivit import gradcheck, layers
from minivit.gradcheck_catalogue.catalogue import PAIRS
from minivit.ops import attention, cross_entropy, dropout, gelu, layer_norm, linear, patches, pooling, softmax, tokens

METHODS = ("richardson", "central", "directional", "taylor")


def _relu(rng, n):
    return (lambda x: (np.maximum(x, 0), x > 0), lambda dy, gate: dy * gate), [rng.standard_normal(n[:2])], ()


def _max_pool(rng, n):
    def forward(x):
        return x.max(axis=1), (x.shape, x.argmax(axis=1))

    def backward(dy, cache):
        shape, winner = cache
        dx = np.zeros(shape)
        np.put_along_axis(dx, winner[:, None], dy[:, None], axis=1)
        return dx

    return (forward, backward), [rng.standard_normal(n[:3])], ()


def _of(op, make):
    """A maker of random arguments of an op -> a maker of (pair, arguments, constants), plain or fast."""
    def made(rng, n):
        functions = PAIRS["fast" if rng.random() < 0.5 else "reference"]
        *arguments, constants = make(rng, n)
        return tuple(getattr(op, function) for function in functions), arguments, constants
    return made


def _layer(make):
    """A maker of a random layer and the shape of its input."""
    def made(rng, n):
        layer, shape = make(n)
        return layer, [rng.standard_normal(shape)], ()
    return made


def _normal(rng, *shape):
    return rng.standard_normal(shape)


RANDOM = {  # rng, seven random sizes n -> target, inputs, names of constants
    "linear": _of(linear, lambda r, n: (_normal(r, *n[:3]), _normal(r, n[2], n[3]), _normal(r, n[3]), ())),
    "gelu": _of(gelu, lambda r, n: (3 * _normal(r, *n[:3]), ())),
    "layer_norm": _of(layer_norm, lambda r, n: (_normal(r, n[0], 1 + n[1]), _normal(r, 1 + n[1]), _normal(r, 1 + n[1]),
                                                0.1, ())),
    "softmax": _of(softmax, lambda r, n: (_normal(r, *n[:3]), r.uniform(0.1, 2), ())),
    "attention": _of(attention, lambda r, n: (_normal(r, n[0], n[1], 3 * n[2] * n[3]), n[2], ())),
    "cross_entropy": _of(cross_entropy, lambda r, n: (_normal(r, n[0], 1 + n[1]), cross_entropy.targets(
        r.integers(0, 1 + n[1], n[0]), 1 + n[1], 0.1, np.float64), ("t",))),
    "patches": _of(patches, lambda r, n: (_normal(r, n[0], n[1] * n[4], n[2] * n[4], n[3]), n[4], ())),
    "tokens": _of(tokens, lambda r, n: (_normal(r, *n[:3]), _normal(r, n[2]), _normal(r, 1 + n[1], n[2]), ())),
    "pooling": _of(pooling, lambda r, n: (_normal(r, *n[:3]), str(r.choice(["token", "mean"])), ())),
    "dropout": _of(dropout, lambda r, n: (_normal(r, *n[:3]), dropout.mask(r.random(n[:3]), 0.4), ("mask",))),
    "Linear": _layer(lambda n: (layers.Linear(n[0], n[1]), (n[2], n[3], n[0]))),
    "LayerNorm": _layer(lambda n: (layers.LayerNorm(1 + n[0]), (n[1], n[2], 1 + n[0]))),
    "MLP": _layer(lambda n: (layers.MLP(n[0], n[1]), (n[2], n[3], n[0]))),
    "Attention": _layer(lambda n: (layers.Attention(n[0] * n[1], n[0]), (n[2], n[3], n[0] * n[1]))),
    "Block": _layer(lambda n: (layers.Block(2 * n[0] * n[1], n[0], 2), (n[2], n[3], 2 * n[0] * n[1]))),
    "PatchEmbed": _layer(lambda n: (layers.PatchEmbed(n[0], n[1], n[2]), (n[3], n[0] * n[4], n[0] * n[5], n[1]))),
    "relu": _relu,
    "max_pool": _max_pool,
}


@pytest.mark.parametrize("seed", [*range(36), *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(36, 400))])
def test_right_code_passes(seed):
    rng = np.random.default_rng(seed)
    name = list(RANDOM)[seed % len(RANDOM)]
    target, inputs, constants = RANDOM[name](rng, rng.integers(1, 8, 7).tolist())
    inputs = [10.0 ** rng.uniform(-2, 1) * x if isinstance(x, np.ndarray) and i == 0 else x for i,
              x in enumerate(inputs)]
    for method in METHODS:
        report = gradcheck(target, *inputs, constants=constants, method=method, seed=seed)
        assert report.ok, f"{name}, {method}\n{report}"
