"""AdamW: the kernel equals its reference, chunk by chunk, and each parameter has its own decay."""

import numpy as np
import pytest

from minivit.lanes import _sum_of_squares
from minivit.layers import Block
from minivit.training.adamw import AdamW, reference_update


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
        for start in range(0, decay.size, 37):                        # chunks that cut through parameters
            adamw.update(slice(start, start + 37), gradient, lr=0.01, scale=0.7)
        for fast, reference in ((layer.vector, w), (adamw.m, m), (adamw.v, v)):
            assert np.abs(fast - reference).max() <= tolerance * np.abs(reference).max()


def test_a_steps_length_in_float32_has_no_bias():
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
def test_the_norm_is_summed_in_float64(dtype):
    x = np.random.default_rng(0).standard_normal(100_003).astype(dtype)
    assert _sum_of_squares(x) == pytest.approx(float((x.astype(np.float64) ** 2).sum()), rel=1e-13)


@pytest.mark.parametrize("settings", [{"betas": (1.0, 0.9)}, {"betas": (0.9, -0.1)}, {"eps": 0}], ids=str)
def test_settings_out_of_range_are_refused(settings):
    layer = Block(width=2, heads=1)
    with pytest.raises(ValueError, match=r"beta|eps"):
        AdamW(layer.vector, layer.parameters(), **settings)
