"""Schedule-free AdamW: its updates, its averages, and that it trains, resumes and extends as the others."""

import numpy as np
import pytest

import minivit
from minivit.training.schedule_free import ScheduleFree, reference_update
from minivit.training_pipeline.folder import RunFolder
from minivit.training_pipeline.results.trained_model import latest_model

TINY = {"image_size": 8, "patch_size": 4, "channels": 1, "classes": 10, "width": 16, "depth": 1, "heads": 2,
        "mlp_ratio": 2}
pytestmark = pytest.mark.usefixtures("no_curve")


def model(dtype=np.float64, **options):
    return minivit.create_model("vit", dtype=dtype, **(TINY | options))


def test_the_fast_version_equals_the_reference():
    m, rng = model(), np.random.default_rng(0)
    optimiser = ScheduleFree(m.vector, m.parameters(), 0.1, (0.8, 0.99), 1e-6, [("head.*", 0.5, 0.2)])
    y, x, z, v, total = m.vector.copy(), m.vector.copy(), m.vector.copy(), np.zeros(m.vector.size), 0.0
    factors = np.concatenate([np.full(p.size, 0.5 if p.name.startswith("head") else 1.0) for p in m.parameters()])
    decays = np.concatenate([np.full(p.size, (0.2 if p.name.startswith("head") else 0.1) if p.decay or
                                     p.name.startswith("head") else 0.0) for p in m.parameters()])
    for t, lr in enumerate((0.001, 0.002, 0.002, 0.01), 1):
        g = rng.standard_normal(m.vector.size)
        optimiser.begin_step(lr)
        for piece in optimiser.pieces():
            optimiser.update(piece, g, lr, 0.7)
        total += lr**2
        y, x, z, v = reference_update(y, 0.7 * g, x, z, v, t, lr**2 / total, lr * factors, decays, (0.8, 0.99), 1e-6)
        for ours, expected in ((m.vector, y), (optimiser.average, x), (optimiser.m, z), (optimiser.v, v)):
            np.testing.assert_allclose(ours, expected, rtol=1e-10, atol=1e-12)


def test_by_hand():
    """One weight, gradients 2 and -2, lr 0.1: each step of z is lr g / |g| with beta2 = 0."""
    y = x = z = np.array([1.0])
    v = np.zeros(1)
    y, x, z, v = reference_update(y, np.array([2.0]), x, z, v, 1, 1.0, 0.1, 0.0, (0.5, 0.0), 0.0)
    assert (z[0], x[0], y[0]) == pytest.approx((0.9, 0.9, 0.9))       # the first mean is z itself
    y, x, z, v = reference_update(y, np.array([2.0]), x, z, v, 2, 0.5, 0.1, 0.0, (0.5, 0.0), 0.0)
    assert (z[0], x[0], y[0]) == pytest.approx((0.8, 0.85, 0.825))    # mean of 0.9 and 0.8; halfway between x and z
    y, x, z, v = reference_update(y, np.array([-2.0]), x, z, v, 3, 1 / 3, 0.1, 1.0, (0.5, 0.0), 0.0)
    assert (z[0], x[0]) == pytest.approx((0.8 + 0.1 - 0.0825, (0.9 + 0.8 + 0.8175) / 3))      # weight decay at y


def test_the_average_is_the_end_of_a_linear_decay():
    """The claim of the docstring: the mean of z_1 .. z_T is z_0 - lr sum (T - i + 1) / T g_i."""
    rng, T, lr = np.random.default_rng(0), 20, 0.1
    z = x = start = rng.standard_normal(5)
    gradients = rng.standard_normal((T, 5))
    for t, g in enumerate(gradients, 1):
        z = z - lr * g
        x = x + (z - x) / t
    rates = lr * (T - np.arange(T)) / T
    np.testing.assert_allclose(x, start - rates @ gradients)


def test_frozen_layers_keep_their_bits_and_a_rate_of_zero_changes_nothing():
    m = model(np.float32)
    before = m.vector.copy()
    trainer = minivit.Trainer(m, lr=0.05, optimiser="schedule-free", layers=[("blocks.*", 0)], threads=1)
    data = minivit.load_data("digits")
    trainer.step(data.train_images[:32], data.train_labels[:32], lr=0)
    np.testing.assert_array_equal(m.vector, before)
    for _ in range(5):
        trainer.step(data.train_images[:32], data.train_labels[:32])
    for p, q in zip(m.parameters(), trainer.average.parameters(), strict=True):
        first = before[p.offset:p.offset + p.size].reshape(p.shape)
        frozen = p.name.startswith("blocks.")
        assert np.array_equal(p.data, first) is frozen, p.name
        assert np.array_equal(q.data, first) is frozen, p.name


def step_four_times(threads, interrupted=False):
    """Return the bytes of the average; `interrupted`: a new Trainer restores the state before the last step."""
    data, trainer = minivit.load_data("digits"), None
    for t in range(4):
        if trainer is None or (interrupted and t == 3):
            earlier, trainer = trainer, minivit.Trainer(model(np.float32, drop_rate=0.1), optimiser="schedule-free",
                                                        threads=threads)
            if earlier:
                for name, array in trainer.state().items():
                    array[:] = earlier.state()[name]
                trainer.optimiser.t = t
        trainer.step(data.train_images[64 * t:64 * t + 64], data.train_labels[64 * t:64 * t + 64], lr=0.001 * (t + 1))
    assert not np.array_equal(trainer.average.vector, trainer.model.vector)
    return trainer.average.vector.tobytes()


def test_bits_do_not_depend_on_threads_or_an_interruption():
    assert len({step_four_times(1), step_four_times(2), step_four_times(2, interrupted=True)}) == 1


def train(out=None, **settings):
    return minivit.train(minivit.create_model("vit", seed=1, **TINY), "digits", out=out, progress=False, threads=2,
                         **({"optimiser": "schedule-free"} | settings))


class Stop(Exception):
    pass


def stop(record):
    raise Stop


def test_a_run_evaluates_the_average_resumes_to_the_same_bits_and_extends(tmp_path):
    with pytest.raises(Stop):
        train(tmp_path / "run", epochs=2, callback=stop)
    interrupted = RunFolder(tmp_path / "run")
    assert {name: interrupted.settings[name] for name in ("schedule", "decay", "ema")} == {
        "schedule": "wsd", "decay": 0.0, "ema": 0.0}
    state, _, _ = interrupted.read_checkpoint()
    np.testing.assert_array_equal(latest_model(interrupted).vector, state["average"])
    assert not np.array_equal(state["average"], state["weights"])
    resumed, straight = train(tmp_path / "run", resume=True), train(epochs=2)
    np.testing.assert_array_equal(resumed.model.vector, straight.model.vector)
    assert resumed.accuracy == straight.accuracy == minivit.training.evaluation.evaluate(
        straight.model, *minivit.load_data("digits").parts["test"]).accuracy
    extended = train(tmp_path / "run", resume=True, epochs=3)         # no schedule: every step was the end of one
    longer = train(epochs=3, warmup=0.1 * 2 / 3)
    np.testing.assert_array_equal(extended.model.vector, longer.model.vector)


def test_an_average_of_its_own_is_refused_with_ema_and_settings_may_choose_a_decay():
    with pytest.raises(ValueError, match=r"schedule-free averages the weights itself: leave out ema=0\.9"):
        train(epochs=1, ema=0.9)
    assert train(epochs=0.1, schedule="cosine").steps == 2


@pytest.mark.slow
def test_it_learns_the_digits_as_well_as_adamw_with_a_cosine():
    data, accuracy = minivit.load_data("digits"), {}
    for name, lr in (("adamw", 2e-3), ("schedule-free", 4e-3)):
        runs = [minivit.train(minivit.create_model("vit_mini_patch2_8", seed=s), data, epochs=8, optimiser=name, lr=lr,
                              seed=s, ema=0, batch_size=32, progress=False) for s in range(3)]
        accuracy[name] = np.mean([run.accuracy for run in runs])
    assert accuracy["schedule-free"] > accuracy["adamw"] - 0.02, accuracy
