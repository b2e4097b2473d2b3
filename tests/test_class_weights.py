"""Class weights: the loss and its gradient against NumPy in float64, and what they do on an unequal data set."""

import numpy as np
import pytest

import minivit
from minivit.data import Dataset, load_data
from minivit.ops import cross_entropy
from minivit.parallel.lanes import supervised
from minivit.training.class_weights import ClassWeights, balanced
from minivit.training.trainer import Trainer

TINY = {"image_size": 8, "patch_size": 4, "channels": 1, "classes": 3, "width": 16, "depth": 1, "heads": 2,
        "mlp_ratio": 2}
RNG = np.random.default_rng(0)
IMAGES, LABELS = RNG.integers(0, 256, (12, 8, 8, 1), np.uint8), np.array([0] * 8 + [1] * 3 + [2])
WEIGHTS = np.array([12 / 3 / 8, 12 / 3 / 3, 12 / 3 / 1])


def test_balanced_weights():
    np.testing.assert_allclose(balanced(LABELS, 3), WEIGHTS)
    assert balanced(LABELS, 3)[LABELS].mean() == pytest.approx(1)
    np.testing.assert_allclose(balanced(np.array([0, 0, 2, 2]), 4), [1, 0, 1, 0])
    np.testing.assert_allclose(balanced(np.arange(30) % 3, 3), 1)


def random_model(dtype=np.float64):
    model = minivit.create_model("vit", dtype=dtype, **TINY)
    model.vector[...] = RNG.standard_normal(model.vector.size) / 4
    return model


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_the_loss_is_the_weighted_mean_and_its_gradient_is_that_of_finite_differences(smoothing):
    model = random_model()
    targets = cross_entropy.targets(LABELS, 3, smoothing, np.float64)
    objective = ClassWeights(WEIGHTS, smoothing)

    def loss():
        z = model.forward(IMAGES)
        z = z - z.max(axis=1, keepdims=True)
        log_p = z - np.log(np.exp(z).sum(axis=1, keepdims=True))
        return float((WEIGHTS[LABELS] * -(targets * log_p).sum(axis=1)).sum() / len(LABELS))

    found, logits = objective(model, IMAGES, targets, len(LABELS))
    assert float(found) == pytest.approx(loss(), rel=1e-12)
    np.testing.assert_array_equal(logits, model.forward(IMAGES))
    objective(model, IMAGES, targets, len(LABELS))
    gradient, v, h = model.gradients.copy(), RNG.standard_normal(model.vector.size), 1e-5
    saved = model.vector.copy()
    slopes = []
    for sign in (1, -1):
        model.vector[...] = saved + sign * h * v
        slopes.append(loss())
    model.vector[...] = saved
    assert gradient @ v == pytest.approx((slopes[0] - slopes[1]) / (2 * h), rel=1e-7)


def test_mixed_targets_have_the_mixture_of_the_weights():
    model, objective = random_model(), ClassWeights(WEIGHTS, 0.2)
    mixed = 0.3 * np.eye(3)[[0]] + 0.7 * np.eye(3)[[2]]
    loss, _ = objective(model, IMAGES[:1], 0.8 * mixed + 0.2 / 3, 1)
    alone, _ = supervised(model, IMAGES[:1], 0.8 * mixed + 0.2 / 3, 1)
    assert float(loss) == pytest.approx((0.3 * WEIGHTS[0] + 0.7 * WEIGHTS[2]) * float(alone))


def test_replayed_steps_have_the_bits_of_written_ones():
    vectors, first = [], random_model(np.float32)
    for replay in (True, False):
        model = first.copy()
        trainer = Trainer(model, objective=ClassWeights(WEIGHTS, 0.1), replay=replay, threads=2)
        for _ in range(4):
            trainer.step(IMAGES, LABELS)
        vectors.append(model.vector.copy())
    np.testing.assert_array_equal(*vectors)


def test_a_small_class_is_found_more_often_with_balanced_weights():
    digits = load_data("digits")
    pair = np.flatnonzero(np.isin(digits.train_labels, [3, 8]))
    few = np.flatnonzero(digits.train_labels == 8)[4:]                # four images of an 8, 140 of a 3
    chosen = np.setdiff1d(pair, few)
    test = np.isin(digits.test_labels, [3, 8])
    data = Dataset("unequal", digits.train_images[chosen], (digits.train_labels[chosen] == 8).astype(int),
                   digits.test_images[test], (digits.test_labels[test] == 8).astype(int), ("3", "8"))
    recalls = {}
    for weights in ("none", "balanced"):
        model = minivit.create_model("vit", seed=0, **(TINY | {"classes": 2}))
        result = minivit.train(model, data, epochs=8, class_weights=weights, progress=False)
        recalls[weights] = result.test.recall[1]
        assert result.test.balanced_accuracy == pytest.approx(result.test.recall.mean())
    assert recalls["balanced"] > recalls["none"] + 0.2, recalls


def test_a_teacher_cannot_be_combined(tmp_path):
    with pytest.raises(ValueError, match="class_weights cannot be combined with a teacher"):
        minivit.train(minivit.create_model("vit", **(TINY | {"classes": 10})), "digits", class_weights="balanced",
                      teacher={"run": "x", "sha256": "y"}, progress=False)
