"""AdamW: the kernel equals its reference on any chunks, and layer settings apply. EMA: decay and update."""

import numpy as np
import pytest

from minivit.kernel import sum_of_squares
from minivit.layers import Block
from minivit.training.adamw import AdamW, reference_update
from minivit.training.ema import decay_at_step, update_mean
from minivit.training.layer_settings import layer_settings


@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float32, 5e-6), (np.float64, 1e-12)], ids=["float32", "float64"])
def test_fast_equals_reference_over_several_steps(dtype, tolerance):
    layer, rng = Block(width=6, heads=2).astype(dtype), np.random.default_rng(0)
    layer.vector[:] = rng.standard_normal(layer.vector.size)
    adamw = AdamW(layer.vector, layer.parameters(), weight_decay=0.3)
    matrices = {p.name for p in layer.parameters() if p.name.endswith("weight") and "norm" not in p.name}
    decay = np.concatenate([np.full(p.size, 0.3 if p.name in matrices else 0.0) for p in layer.parameters()])
    w, m, v = layer.vector.astype(np.float64), np.zeros(decay.size), np.zeros(decay.size)
    for t in range(1, 6):
        gradient = rng.standard_normal(decay.size).astype(dtype)
        w, m, v = reference_update(w, 0.7 * gradient.astype(np.float64), m, v, t, lr=0.01, decay=decay)
        adamw.t = t
        for start in range(0, decay.size, 37):                        # chunk boundaries within parameters
            adamw.update(slice(start, start + 37), gradient, lr=0.01, scale=0.7)
        for fast, reference in ((layer.vector, w), (adamw.m, m), (adamw.v, v)):
            assert np.abs(fast - reference).max() <= tolerance * np.abs(reference).max()


def test_layer_settings_set_learning_rate_and_decay_by_name():
    layer, rng = Block(width=6, heads=2).astype(np.float64), np.random.default_rng(0)
    layer.vector[:] = rng.standard_normal(layer.vector.size)
    before, gradient = layer.vector.copy(), rng.standard_normal(layer.vector.size)
    layers = [["*", 0.5], ["mlp.*", 3.0, 0.2], ["mlp.fc2.*", 0]]
    adamw = AdamW(layer.vector, layer.parameters(), weight_decay=0.3, layers=layers)
    adamw.t = 1
    adamw.update(slice(0, before.size), gradient, lr=0.01)
    start = 0
    for p in layer.parameters():
        here = slice(start, start := start + p.size)
        factor = 0 if p.name.startswith("mlp.fc2") else 3 if p.name.startswith("mlp") else 0.5
        decay = 0.2 if p.name.startswith("mlp") else 0.3 if p.decay else 0
        expected, _, _ = reference_update(before[here], gradient[here], 0, 0, 1, lr=0.01 * factor, decay=decay)
        np.testing.assert_allclose(p.data.ravel(), expected, rtol=1e-12)


@pytest.mark.parametrize(("layer", "message"), [
    (["blok.*", 1], "no parameter name matches 'blok.*'; the names are norm1.weight"),
    (["mlp.*", -1], r"learning rate factor of mlp\.\* must be .*at least 0, not -1"),
    (["mlp.*", 1, -1], r"weight decay of mlp\.\*"),
])
def test_layer_settings_that_do_not_fit_are_refused(layer, message):
    with pytest.raises(ValueError, match=message):
        layer_settings(Block(width=2, heads=1).parameters(), 0.1, [layer])


def test_the_ema_decay_grows_and_the_mean_follows_the_weights():
    assert [decay_at_step(t, 0.9) for t in (1, 8, 1000)] == [2 / 11, 0.5, 0.9]
    mean, weights = np.zeros(3, np.float32), np.array([1, 2, 4], np.float32)
    update_mean(mean, weights, 0.75)
    np.testing.assert_array_equal(mean, [0.25, 0.5, 1])
    assert mean.dtype == np.float32


def test_the_step_length_in_float32_is_unbiased():
    gradient = np.random.default_rng(0).standard_normal(30)
    moved = {}
    for dtype in (np.float32, np.float64):
        layer = Block(width=2, heads=1, mlp_ratio=1).astype(dtype)
        layer.vector[:] = 0
        adamw = AdamW(layer.vector, layer.parameters(), weight_decay=0.0)
        adamw.t = 1
        adamw.update(slice(0, 30), np.resize(gradient, layer.vector.size).astype(np.float32).astype(dtype), lr=1.0)
        moved[dtype] = layer.vector[:30].astype(np.float64)
    assert np.abs(moved[np.float32] / moved[np.float64] - 1).max() < 1e-6


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_gradient_norm_is_summed_in_float64(dtype):
    x = np.random.default_rng(0).standard_normal(100_003).astype(dtype)
    assert sum_of_squares(x) == pytest.approx(float((x.astype(np.float64) ** 2).sum()), rel=1e-13)


@pytest.mark.parametrize("settings", [{"betas": (1.0, 0.9)}, {"betas": (0.9, -0.1)}, {"eps": 0}], ids=str)
def test_settings_out_of_range_are_refused(settings):
    layer = Block(width=2, heads=1)
    with pytest.raises(ValueError, match=r"beta|eps"):
        AdamW(layer.vector, layer.parameters(), **settings)
