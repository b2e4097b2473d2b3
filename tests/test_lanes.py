"""Lanes: how a batch is split, how gradients are added, and that the number of threads does not change any bit."""

import contextlib
import inspect
import os
import time

import numpy as np
import pytest

import minivit
from minivit.ops import cross_entropy
from minivit.parallel import prediction
from minivit.parallel.batch_split import BatchSplit
from minivit.parallel.lanes import Lanes
from minivit.parallel.threads import Workers, available_threads
from minivit.training.schedule import warmup_cosine
from minivit.training.settings import SETTINGS

SIZES = {"image_size": 8, "patch_size": 4, "channels": 1, "classes": 3, "width": 12, "depth": 2, "heads": 2,
         "mlp_ratio": 2}


def batch(size, seed=0):
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (size, 8, 8, 1), dtype=np.uint8), rng.integers(0, 3, size)


def trained(threads, size=21, steps=3, **options):
    model = minivit.create_model("vit", **SIZES, **options)
    trainer = minivit.Trainer(model, lr=1e-2, threads=threads, label_smoothing=0.1)
    losses = [trainer.step(*batch(size, seed)) for seed in range(steps)]
    return losses, model.vector


@pytest.mark.parametrize("options", [{}, {"drop_rate": 0.3, "drop_path_rate": 0.5}], ids=["plain", "dropout"])
def test_any_number_of_threads_gives_the_same_bits(options):
    losses, weights = trained(threads=1, **options)
    for threads in (2, 3):
        other_losses, other_weights = trained(threads, **options)
        assert other_losses == losses
        assert other_weights.tobytes() == weights.tobytes()


@pytest.mark.parametrize("micro_batch", [1, 2, 5, 100])
@pytest.mark.parametrize("lanes", [1, 2, 3, 7])
def test_the_split_changes_the_gradient_by_rounding_only(lanes, micro_batch):
    model = minivit.create_model("vit", **SIZES, dtype=np.float64, drop_rate=0.3, drop_path_rate=0.5)
    model.head.weight.data = np.random.default_rng(0).standard_normal((12, 3))
    images, labels = batch(7)
    targets = cross_entropy.targets(labels, 3, dtype=np.float64)

    def gradient(split):
        loss, correct, norm = Lanes(model, threads=1, split=split).forward_backward(images, targets, step=4)
        return np.concatenate([[loss, correct, norm], model.gradients])

    expected = gradient(BatchSplit(1, 7))
    np.testing.assert_allclose(gradient(BatchSplit(lanes, micro_batch)), expected, rtol=1e-9, atol=1e-12)


def test_lanes_compute_the_gradient_of_the_mean_loss():
    model = minivit.create_model("vit", **SIZES, dtype=np.float64)
    model.head.weight.data = np.random.default_rng(0).standard_normal((12, 3))
    images, labels = batch(9)
    targets = cross_entropy.targets(labels, 3, dtype=np.float64)
    loss, correct, norm = Lanes(model).forward_backward(images, targets, step=0)
    by_hand = model.copy()
    logits = by_hand.forward(images)
    expected, cache = cross_entropy.forward(logits, targets)
    by_hand.backward(cross_entropy.backward(1.0, cache))
    np.testing.assert_allclose(loss, expected, rtol=1e-12)
    np.testing.assert_allclose(model.gradients, by_hand.gradients, rtol=1e-9, atol=1e-13)
    np.testing.assert_allclose(norm, np.linalg.norm(by_hand.gradients), rtol=1e-12)
    assert correct == (logits.argmax(axis=1) == labels).sum()


@pytest.mark.parametrize("size", [1, 2, 3, 64, 128, 1000, 4097])
@pytest.mark.parametrize("rows", [17, 65, 197, 5000])
def test_a_split_covers_every_image_once_in_order(size, rows):
    split = BatchSplit.for_batch(size, rows)
    micro_batches = [part for shard in split.shards(size) for part in split.micro_batches(shard)]
    assert np.array_equal(np.concatenate([np.arange(size)[part] for part in micro_batches]), np.arange(size))
    assert all(part.stop - part.start <= split.micro_batch for part in micro_batches)
    assert min(2, size) <= split.lanes <= min(16, size)
    for slices in [split.shards(size), *map(split.micro_batches, split.shards(size))]:
        lengths = [one.stop - one.start for one in slices]
        assert max(lengths) - min(lengths) <= 1


def test_dropout_is_active_in_lanes_only_and_differs_between_steps():
    model = minivit.create_model("vit", **SIZES, drop_rate=0.5)
    model.head.weight.data = np.random.default_rng(0).standard_normal((12, 3))
    images, labels = batch(6)
    targets = cross_entropy.targets(labels, 3)
    lanes = Lanes(model, threads=1)
    losses = [lanes.forward_backward(images, targets, step)[0] for step in (0, 1, 0)]
    assert losses[0] == losses[2] != losses[1]
    evaluation, _ = cross_entropy.forward(model.forward(images), targets)
    assert evaluation not in losses


def test_a_model_can_memorise_one_batch():
    model = minivit.create_model("vit", **SIZES)
    images, labels = batch(24)
    trainer = minivit.Trainer(model, lr=3e-3, weight_decay=0, label_smoothing=0)
    for _ in range(150):
        loss = trainer.step(images, labels)
    assert loss < 0.05
    assert (model.predict(images).argmax(axis=1) == labels).all()


def test_a_loss_that_is_not_finite_does_not_change_the_weights():
    model = minivit.create_model("vit", **SIZES)
    model.head.bias.data = np.full(3, np.nan)
    before = model.vector.copy()
    trainer = minivit.Trainer(model)
    with pytest.raises(FloatingPointError, match="step 0: the loss is nan"):
        trainer.step(*batch(4))
    np.testing.assert_array_equal(model.vector, before)
    assert trainer.optimiser.t == 0


@pytest.mark.parametrize(("images", "labels", "error", "message"), [
    (4, [0, 1, 2], ValueError, "one label per image: got 4 images, 3 labels"),
    (0, [], ValueError, "one label per image: got 0 images"),
    (2, [0, 3], ValueError, r"labels must be in 0..2 for 3 classes, but they span 0..3"),
    (2, [-1, 0], ValueError, r"span -1..0"),
    (2, [0.0, 1.0], TypeError, "integers, not float64"),
])
def test_labels_that_do_not_fit_are_refused(images, labels, error, message):
    trainer = minivit.Trainer(minivit.create_model("vit", **SIZES))
    with pytest.raises(error, match=message):
        trainer.step(np.zeros((images, 8, 8, 1), np.uint8), np.array(labels))


def test_threads_default_to_the_cores_of_this_process():
    assert Workers().threads == available_threads() >= 1
    with pytest.raises(ValueError, match="number of threads must be a whole number at least 1, not 0"):
        Workers(0)


def test_a_batch_smaller_than_the_number_of_lanes_uses_no_stale_gradient():
    model = minivit.create_model("vit", **SIZES)
    lanes, fresh = Lanes(model, split=BatchSplit(4, 8)), Lanes(model.copy(), split=BatchSplit(2, 8))
    lanes.forward_backward(batch(8)[0], cross_entropy.targets(batch(8)[1], 3), step=0)
    images, targets = batch(2)[0], cross_entropy.targets(batch(2)[1], 3)
    assert lanes.forward_backward(images, targets, step=1) == fresh.forward_backward(images, targets, step=1)


FAMILIES = {
    "vit": SIZES,
    "deit": SIZES,
    "swin": {"image_size": 8, "patch_size": 2, "channels": 1, "classes": 3, "width": 8, "depths": [2, 2],
             "heads": [2, 2], "window": 2},
    "resnet": {"image_size": 8, "channels": 1, "classes": 3, "layers": [1, 1], "width": 8, "groups": 2},
}


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize(("images", "threads"), [(1, 2), (2, 3), (3, 20), (3, 3)])
def test_blas_splits_the_products_if_there_are_fewer_images_than_threads(name, images, threads, monkeypatch):
    limits = []
    monkeypatch.setattr(prediction, "blas_threads", lambda limit: limits.append(limit) or contextlib.nullcontext())
    model = minivit.create_model(name, **FAMILIES[name]).astype(np.float64)
    model.vector[:] += 0.3 * np.random.default_rng(0).standard_normal(model.vector.size)
    x = np.random.default_rng(1).integers(0, 256, (images, *model.input_shape), dtype=np.uint8)
    for _ in range(4):
        np.testing.assert_allclose(model.predict(x, threads), model.forward(x), rtol=1e-10, atol=1e-12)
    assert limits == [threads if images < threads else 1] * 4


def test_an_error_in_predict_reaches_the_caller(monkeypatch):
    def fail(self, images):
        raise MemoryError

    model = minivit.create_model("vit", **SIZES)
    monkeypatch.setattr(type(model), "forward", fail)
    with pytest.raises(MemoryError):
        model.predict(batch(64)[0], threads=2)


@pytest.mark.parametrize("warmup", [0, 1, 3, 10])
def test_the_learning_rate_rises_to_the_peak_and_never_reaches_zero(warmup):
    rates = [warmup_cosine(step, 10, warmup) for step in range(10)]
    assert max(rates) == 1
    assert min(rates) > 0
    assert rates[:warmup] == sorted(rates[:warmup])
    assert rates[warmup:] == sorted(rates[warmup:], reverse=True)


@pytest.mark.parametrize("lr", [float("nan"), -1.0])
def test_a_step_refuses_a_learning_rate_out_of_range(lr):
    model = minivit.create_model("vit", **SIZES)
    before = model.vector.copy()
    with pytest.raises(ValueError, match="learning rate"):
        minivit.Trainer(model).step(*batch(4), lr=lr)
    np.testing.assert_array_equal(model.vector, before)


def test_an_error_in_a_lane_reaches_the_caller():
    with pytest.raises(ZeroDivisionError):
        Workers(2).map(lambda x: 1 / x, [1, 0, 2])


def test_a_trainer_refuses_what_is_not_a_model():
    with pytest.raises(TypeError, match="not Linear"):
        minivit.Trainer(minivit.layers.Linear(3, 4))


@pytest.mark.parametrize(("wrong", "right"), [("learning_rate", "lr"), ("optimizer", "optimiser"), ("beta", "betas"),
                                              ("smoothing", "label_smoothing"), ("thread", "threads")])
def test_a_trainer_refuses_an_unknown_setting_with_a_suggestion(wrong, right):
    with pytest.raises(TypeError, match=f"unknown setting '{wrong}': did you mean '{right}'"):
        minivit.Trainer(minivit.create_model("vit", **SIZES), **{wrong: 1})


@pytest.mark.parametrize("name", ["replay", "recompute"])
def test_a_trainer_refuses_a_switch_that_is_neither_true_nor_false(name):
    with pytest.raises(ValueError, match=f"{name} must be True or False, not 'no'"):
        minivit.Trainer(minivit.create_model("vit", **SIZES), **{name: "no"})


def test_a_trainer_has_the_defaults_of_train():
    signature = inspect.signature(minivit.Trainer).parameters
    shared = signature.keys() & SETTINGS.keys() - {"augment"}          # a function here, text there
    assert shared >= {"lr", "weight_decay", "clip", "label_smoothing", "ema", "layers", "optimiser", "recompute"}
    assert {name: signature[name].default or None for name in shared} == {
        name: SETTINGS[name].default or None for name in shared}


def test_a_trainer_shows_itself_in_one_line():
    trainer = minivit.Trainer(minivit.create_model("vit_mini", image_size=8), optimiser="muon", lr=0.01)
    trainer.step(np.zeros((2, 8, 8, 1), np.uint8), np.array([0, 1]))
    assert repr(trainer) == f"Trainer of {trainer.model}; Muon, lr=0.01, 1 steps"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")
def test_a_forked_process_starts_its_own_threads():
    workers = Workers(2)
    assert workers.map(abs, [-1, -2]) == [1, 2]
    child = os.fork()
    if child == 0:
            os._exit(0 if workers.map(abs, [-3]) == [3] else 1)
    for _ in range(100):
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            break
        time.sleep(0.1)
    else:
        os.kill(child, 9)
    assert (pid, status) == (child, 0)
