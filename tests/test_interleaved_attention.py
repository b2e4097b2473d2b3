"""Attention with V heads side by side: against the reference, for every number of heads and shape of a tile."""

import numpy as np
import pytest

from minivit import layers
from minivit.ops import attention
from minivit.ops import interleaved_attention as interleaved
from minivit.vectors import V

pytestmark = pytest.mark.skipif(not V, reason="this processor has no vectors that we know")


def inputs(B, N, heads, d, size=1.0):
    """Return qkv (B, N, 3 D) and dy (B, N, D)."""
    rng = np.random.default_rng(B * N * heads * d)
    return [(size * rng.standard_normal((B, N, parts * heads * d))).astype(np.float32) for parts in (3, 1)]


@pytest.mark.parametrize("N", [1, 2, 4, 5, 17, 50])
@pytest.mark.parametrize("heads", [1, 3, 4])
@pytest.mark.parametrize("vectors", [1, 3])
def test_it_is_the_reference(N, heads, vectors):
    for B in (1, V // heads, V, V + 3):                               # less than a group, one, several, a part of one
        qkv, dy = inputs(B, N, heads, vectors * V)
        y, cache = interleaved.forward(qkv, heads)
        expected, expected_cache = attention.reference_forward(qkv.astype(float), heads)
        np.testing.assert_allclose(y, expected, rtol=0, atol=3e-6)
        np.testing.assert_allclose(interleaved.probabilities(cache), expected_cache[1], rtol=0, atol=2e-6)
        np.testing.assert_allclose(interleaved.backward(dy, cache),
                                   attention.reference_backward(dy.astype(float), expected_cache), rtol=0, atol=1e-5)


def test_a_head_does_not_depend_on_the_others():
    qkv, dy = inputs(9, 7, 3, V)
    y, cache = interleaved.forward(qkv, 3)
    dqkv = interleaved.backward(dy, cache)
    for b in range(9):
        part, part_cache = interleaved.forward(qkv[b:b + 1], 3)
        np.testing.assert_array_equal(part[0], y[b])
        np.testing.assert_array_equal(interleaved.backward(dy[b:b + 1], part_cache)[0], dqkv[b])


def test_large_scores_do_not_overflow_and_what_is_not_finite_stays_in_its_row():
    qkv, _ = inputs(V, 5, 1, V, size=100)
    y, _ = interleaved.forward(qkv, 1)
    np.testing.assert_allclose(y, attention.reference_forward(qkv.astype(float), 1)[0], rtol=1e-3, atol=1e-2)
    for value in (np.nan, np.inf):
        qkv[2, 3, 0] = value                                          # a query: its own row of image 2
        y, _ = interleaved.forward(qkv, 1)
        assert np.isnan(y[2, 3]).all()
        assert np.isfinite(np.delete(y.reshape(-1, V), 2 * 5 + 3, axis=0)).all()


def test_the_processor_and_the_shape_decide():
    def fits(B, N, heads, d, dtype=np.float32):
        return interleaved.fits(np.empty((B, N, 3 * heads * d), dtype), heads)

    assert fits(32, 17, 4, V)
    assert fits(8, 50, 4, 16)
    assert not fits(32, 17, 4, V, np.float64)
    assert not fits(32, 17, 4, V + 1)
    assert not fits(1, 17, V // 2, V)                                 # half of the vectors would be empty
    assert not fits(16, 197, 3, 64)
    layer = layers.Attention(2 * V, 2)
    for B, kind in ((V, interleaved.Cache), (1, tuple)):
        x = inputs(B, 6, 2, V)[1]
        layer.forward(x)
        assert type(layer.cache) is kind
        assert layer.probabilities.shape == (B, 2, 6, 6)
        layer.backward(x)


def test_a_gradient_of_another_dtype_or_shape():
    qkv, dy = inputs(V, 6, 2, V)
    _, cache = interleaved.forward(qkv, 2)
    np.testing.assert_array_equal(interleaved.backward(dy.astype(float), cache), interleaved.backward(dy, cache))
    with pytest.raises(ValueError, match="dy must be"):
        interleaved.backward(dy[:, :3], cache)
