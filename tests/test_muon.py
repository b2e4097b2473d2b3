"""Muon: its polynomial against the singular value decomposition, its steps, and which weights it trains."""

import numpy as np
import pytest

import minivit
from minivit.parallel.batch_split import CHUNK
from minivit.training.adamw import AdamW
from minivit.training.muon import Muon, hidden_matrices, orthogonalise

OPTIONS = {"image_size": 8, "patch_size": 4, "channels": 1, "classes": 3, "width": 12, "depth": 2, "heads": 2,
           "mlp_ratio": 2}


def model(dtype=np.float64, **options):
    return minivit.create_model("vit", dtype=dtype, **(OPTIONS | options))


@pytest.mark.parametrize("shapes", [[(6, 6)], [(5, 17)], [(40, 7)], [(7, 9), (40, 7), (7, 7)]])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_orthogonalise_keeps_singular_vectors_and_equalises_singular_values(shapes, dtype):
    rng = np.random.default_rng(0)
    matrices = [rng.standard_normal(shape).astype(dtype) * 1e-3 for shape in shapes]
    for u, after in zip(matrices, orthogonalise(matrices), strict=True):
        before = np.linalg.svd(u, full_matrices=False)
        assert (after.dtype, after.shape) == (dtype, u.shape)
        core = before.U.T @ after @ before.Vh.T                       # diagonal if the singular vectors are the same
        diagonal = np.diagonal(core)
        assert np.abs(core - np.diag(diagonal)).max() < (1e-12 if dtype == np.float64 else 1e-4)
        small = before.S / np.linalg.norm(before.S) < 0.01
        assert ((diagonal > 0.68) & (diagonal < 1.14))[~small].all()


@pytest.mark.parametrize("shape", [(64, 96), (192, 768)])
@pytest.mark.parametrize("span", [1e-2, 1e-4, 1e-6])
def test_float32_is_accurate_to_a_thousandth(shape, span):
    """The iteration squares the singular values. Those that underflow are too small to matter."""
    rng = np.random.default_rng(0)
    U, _, Vh = np.linalg.svd(rng.standard_normal(shape), full_matrices=False)
    u = U * np.geomspace(1, span, shape[0]) @ Vh
    np.testing.assert_allclose(orthogonalise([u.astype(np.float32)])[0], orthogonalise([u])[0], rtol=0, atol=1e-3)


def test_orthogonalise_of_zero_is_zero():
    assert not orthogonalise([np.zeros((3, 4), np.float32)])[0].any()


def test_orthogonalise_of_tiny_numbers_is_finite():
    u = np.random.default_rng(0).standard_normal((8, 8)).astype(np.float32)
    np.testing.assert_allclose(orthogonalise([u * np.float32(1e-30)])[0], orthogonalise([u])[0], rtol=0, atol=1e-4)


@pytest.mark.parametrize("family", ["vit_mini_patch2_8", "deit_mini_patch2_8", "swin_mini_patch1_window4_8"])
def test_queries_keys_and_values_are_three_maps(family):
    parameters = [p for p in minivit.create_model(family).parameters() if p.name.endswith("qkv.weight")]
    assert parameters
    assert {p.maps for p in parameters} == {3}


def test_hidden_matrices_are_neither_the_first_nor_the_last():
    names = [p.name for p in hidden_matrices(model().parameters())]
    matrices = ("attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2")
    assert names == [f"blocks.{l}.{matrix}.weight" for l in range(2) for matrix in matrices]
    assert "patch_embed.convs.1.weight" in [p.name for p in hidden_matrices(model(stem="conv").parameters())]


@pytest.mark.parametrize("stem", ["patch", "conv", "conv-full"])
def test_a_step_moves_every_weight_once(stem):
    m = model(stem=stem, classes=CHUNK // 8)
    for optimiser in (AdamW, Muon):
        optimiser = optimiser(m.vector, m.parameters(), weight_decay=0.0)
        optimiser.t, moved = 1, np.zeros(m.vector.size, int)
        for piece in optimiser.pieces():
            before = m.vector.copy()
            optimiser.update(piece, np.ones_like(before), lr=1.0)
            moved += m.vector != before
        assert (moved == 1).all()


def test_step_by_hand():
    """Three steps: each map of a hidden matrix follows the equations of the docstring, everything else AdamW."""
    m, rng = model(), np.random.default_rng(1)
    m.vector[:] = rng.standard_normal(m.vector.size)
    layers = [["blocks.1.*", 0.5, 0.2]]
    muon, plain = Muon(m.vector, m.parameters(), 0.1, layers=layers), m.copy()
    adamw = AdamW(plain.vector, plain.parameters(), 0.1, layers=layers)
    w = {p.name: p.data.copy() for p in m.parameters()}
    mean = {name: np.zeros_like(value) for name, value in w.items()}
    for t in range(1, 4):
        g = rng.standard_normal(m.vector.size)
        muon.t = adamw.t = t
        for optimiser in (muon, adamw):
            for piece in optimiser.pieces():
                optimiser.update(piece, g, lr=0.1, scale=0.5)
        start = 0
        for p in m.parameters():
            gradient = 0.5 * g[start:start + p.size].reshape(p.shape)
            start += p.size
            mean[p.name] = 0.95 * mean[p.name] + 0.05 * gradient
            u = 0.95 * mean[p.name] + 0.05 * gradient
            if p in hidden_matrices(m.parameters()):
                parts = np.split(u, 3, axis=1) if "qkv" in p.name else [u]
                step = np.concatenate([0.2 * np.sqrt(max(x.shape)) * orthogonalise([x])[0] for x in parts], axis=1)
                factor, decay = (0.5, 0.2) if "blocks.1" in p.name else (1, 0.1)
                w[p.name] = w[p.name] * (1 - 0.1 * factor * decay) - 0.1 * factor * step
                np.testing.assert_allclose(p.data, w[p.name], rtol=0, atol=1e-12)
    others = {p.name for p in m.parameters()} - {p.name for p in hidden_matrices(m.parameters())}
    for p, q in zip(m.parameters(), plain.parameters(), strict=True):
        if p.name in others:
            np.testing.assert_array_equal(p.data, q.data)


def test_steps_are_as_long_as_those_of_adamw():
    m, rng = model(width=48, heads=4), np.random.default_rng(2)
    before, muon = m.vector.copy(), Muon(m.vector, m.parameters(), 0.0)
    muon.t = 1
    g = rng.standard_normal(m.vector.size)
    for piece in muon.pieces():
        muon.update(piece, g, lr=1.0)
    moved = {}
    for p in hidden_matrices(m.parameters()):
        step = p.data - before[p.offset:p.offset + p.size].reshape(p.shape)
        moved[p.name] = np.sqrt((step**2).mean())
    assert all(0.15 < root_mean_square < 0.25 for root_mean_square in moved.values()), moved


def step_three_times(threads, interrupted=False):
    """Return the EMA's bytes after three steps; `interrupted`: a new Trainer restores the state before the last."""
    data, trainer = minivit.load_data("digits"), None
    for t in range(3):
        if trainer is None or (interrupted and t == 2):
            fresh = model(np.float32, classes=10, drop_rate=0.1)
            earlier, trainer = trainer, minivit.Trainer(fresh, optimiser="muon", threads=threads, ema=0.9)
            if earlier:
                for name, array in trainer.state().items():
                    array[:] = earlier.state()[name]
                trainer.optimiser.t = t
        trainer.step(data.train_images[64 * t:64 * t + 64], data.train_labels[64 * t:64 * t + 64])
    return trainer.average.vector.tobytes()


def test_bits_do_not_depend_on_threads_or_an_interruption():
    results = [step_three_times(1), step_three_times(2), step_three_times(3), step_three_times(2, interrupted=True)]
    assert len(set(results)) == 1


def test_an_unknown_optimiser_is_refused():
    with pytest.raises(ValueError, match="optimiser"):
        minivit.Trainer(model(), optimiser="sgd")


@pytest.mark.slow
def test_muon_learns_the_digits_faster_than_adamw():
    data, accuracy = minivit.load_data("digits"), {}
    for name in ("adamw", "muon"):
        runs = [minivit.train(minivit.create_model("vit_mini_patch2_8", seed=s), data, epochs=4, optimiser=name, seed=s,
                              progress=False) for s in range(3)]
        accuracy[name] = np.mean([run.accuracy for run in runs])
    assert accuracy["muon"] > accuracy["adamw"], accuracy
