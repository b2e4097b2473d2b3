"""ViTClassifier: scikit-learn's checks and tools, arrays and labels of all kinds, the same bits as `minivit.train`."""

import pickle
import re
import warnings

import numpy as np
import pytest

pytest.importorskip("sklearn", minversion="1.6")

from sklearn.base import clone
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils import check_random_state
from sklearn.utils.estimator_checks import parametrize_with_checks

import minivit
from minivit import ViTClassifier
from minivit.scikit_learn.estimator import ImageFormat
from minivit.training_pipeline.defaults.default_model import model_for

SMALL = {"width": 16, "depth": 1, "heads": 2, "threads": 1}


# The arrays of scikit-learn's checks are not images, so they are not augmented. No check is expected to fail.
@parametrize_with_checks([ViTClassifier(**SMALL, epochs=10, augment="none")])
def test_estimator_checks_of_scikit_learn(estimator, check):
    check(estimator)


@pytest.fixture(scope="module")
def digits():
    data = minivit.load_data("digits")
    return data.train_images[:600], data.train_labels[:600], data.test_images, data.test_labels


def small(**parameters):
    return ViTClassifier(**(SMALL | {"epochs": 1, "random_state": 0} | parameters))


# ---- scikit-learn's tools ------------------------------------------------------------------------------------------


def test_cross_validation_of_a_pipeline_learns(digits):
    images, labels, _, _ = digits
    pipeline = make_pipeline(StandardScaler(with_std=False), ViTClassifier(width=32, depth=2, heads=2, epochs=12,
                                                                           lr=4e-3, random_state=0))
    scores = cross_val_score(pipeline, images.reshape(len(images), -1), labels, cv=2)
    assert scores.shape == (2,)
    assert scores.min() > 0.6                    # from 300 digits; chance is 0.1


def test_grid_search_chooses_among_parameters(digits):
    images, labels, _, _ = digits
    search = GridSearchCV(small(epochs=4, lr=4e-3), {"lr": [1e-6, 4e-3]}, cv=2).fit(images[:300], labels[:300])
    assert search.best_params_ == {"lr": 4e-3}


def test_parameters_are_read_set_and_cloned():
    classifier = small(width=24)
    assert classifier.get_params()["width"] == 24
    assert clone(classifier.set_params(depth=3)).get_params() == classifier.get_params()
    with pytest.raises(ValueError, match="wide"):
        classifier.set_params(wide=3)


# ---- training -------------------------------------------------------------------------------------------------------


def test_fit_gives_the_same_bits_as_train(digits):
    images, labels, test_images, test_labels = digits
    seed = int(check_random_state(7).randint(2**31))
    data = minivit.data.Dataset("X", images, labels, test_images, test_labels, tuple("0123456789"))
    model = model_for(data, seed=seed, depth=1)
    result = minivit.train(model, data, epochs=1.5, lr=1e-3, seed=seed, progress=False)
    classifier = ViTClassifier(depth=1, epochs=1.5, lr=1e-3, random_state=7).fit(images, labels)
    np.testing.assert_array_equal(classifier.model_.vector, model.vector)
    assert classifier.score(test_images, test_labels) == result.accuracy
    assert len(classifier.loss_curve_) == 2
    assert classifier.loss_curve_[-1] == pytest.approx(result.loss)


def test_random_state_changes_the_result_and_threads_do_not(digits):
    images, labels, _, _ = digits
    first, same, other = (small(random_state=state, threads=threads).fit(images, labels).model_.vector
                          for state, threads in ((1, 1), (1, 2), (2, 1)))
    np.testing.assert_array_equal(first, same)
    assert not np.array_equal(first, other)


def test_fitted_classifier_can_be_pickled(digits):
    images, labels, test_images, _ = digits
    classifier = small().fit(images, labels)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(classifier)).predict_proba(test_images),
                                  classifier.predict_proba(test_images))


# ---- images -------------------------------------------------------------------------------------------------------


def test_layout_and_dtype_of_the_arrays_do_not_matter(digits):
    images, labels, test_images, _ = digits
    expected = small().fit(images, labels).predict_proba(test_images)
    for arrange in (lambda x: x[..., 0], lambda x: x.reshape(len(x), -1), lambda x: x.astype(np.float64) / 255,
                    lambda x: x * 3.0 - 7,
                    lambda x: x.astype(np.int16) - 100, lambda x: np.asfortranarray(x.reshape(len(x), -1))):
        np.testing.assert_array_equal(small().fit(arrange(images), labels).predict_proba(arrange(test_images)),
                                      expected)
    flat = small(image_shape=(8, 8)).fit(images.reshape(len(images), -1), labels)
    np.testing.assert_array_equal(flat.predict_proba(test_images.reshape(len(test_images), -1)), expected)


@pytest.mark.parametrize(("shape", "given", "found", "size"), [
    ((5, 784), None, (28, 28, 1), (28, 28)),
    ((5, 3072), None, (32, 32, 3), (32, 32)),
    ((5, 3072), (48, 64), (48, 64, 1), (48, 64)),
    ((5, 10), None, (4, 4, 1), (4, 4)),          # padded
    ((5, 2), None, (2, 2, 1), (4, 4)),
    ((5, 17, 12), None, (17, 12, 1), (17, 12)),
    ((5, 1, 100), None, (1, 100, 1), (1, 100)),
    ((5, 1, 257), None, (1, 257, 1), (1, 258)),  # 257 is a prime number
    ((5, 37, 41), None, (37, 41, 1), (38, 42)),
    ((5, 17, 17), None, (17, 17, 1), (18, 18)),
    ((5, 20, 20, 3), (20, 20), (20, 20, 3), (20, 20)),
])
def test_image_shape_is_inferred_from_an_array(shape, given, found, size):
    x = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    image_format = ImageFormat.of(x, given)
    assert (image_format.shape, image_format.size) == (found, size)
    images = image_format.convert(x)
    assert images.shape == (5, *size, found[2])
    inside = images[:, :found[0], :found[1]].reshape(5, -1)
    np.testing.assert_array_equal(inside[:, :x[0].size], x.reshape(5, -1))
    assert images.sum(dtype=np.int64) == x.sum(dtype=np.int64)        # and zeros elsewhere


def test_the_side_is_a_multiple_of_the_patch_size():
    x = np.zeros((2, 28, 28), np.uint8)
    assert ImageFormat.of(x, patch_size=7).size == (28, 28)
    assert ImageFormat.of(x, patch_size=8).size == (32, 32)
    assert ImageFormat.of(x, patch_size=(8, 7)).size == (32, 28)


def test_numbers_are_scaled_by_the_range_of_the_training_set():
    image_format = ImageFormat.of(np.array([[-1.0, 0, 1, 3]]))
    assert image_format.convert(np.array([[-1.0, 0, 1, 3]])).max() == 255
    values = image_format.convert(np.array([[-9.0, 0, 1, 9]]))[0, :2, :2].ravel()
    assert values.tolist() == [0, 64, 128, 255]  # numbers outside are clipped
    largest = np.finfo(np.float64).max
    assert ImageFormat.of(np.array([[-largest, 0, 0, largest]])).convert(np.zeros((1, 4)))[0, 0, 0, 0] == 128
    assert not ImageFormat.of(np.full((3, 4), 7.0)).convert(np.full((3, 4), 7.0)).any()


@pytest.mark.parametrize("labels", [["cat", "dog"], [True, False], [-3, 70], [2.0, 1.0]], ids=str)
def test_labels_of_any_type(digits, labels):
    images, numbers, test_images, _ = digits
    y = np.asarray(labels)[(numbers > 4).astype(int)]
    classifier = small(epochs=4, lr=4e-3).fit(images, y)
    assert classifier.classes_.tolist() == sorted(np.unique(y).tolist())
    predicted = classifier.predict(test_images)
    assert predicted.dtype == y.dtype
    probabilities = classifier.predict_proba(test_images)
    np.testing.assert_array_equal(predicted, classifier.classes_[probabilities.argmax(axis=1)])
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-12)
    assert 0.6 < classifier.score(images, y) <= 1    # half of the images are of the larger class


# ---- bad input ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("parameters", "shape", "named"), [
    ({"image_shape": (7, 8)}, (20, 64), r"\(7, 8, 1\) does not fit the 64 features"),
    ({"image_shape": (8, 9)}, (20, 64), r"\(8, 9, 1\) does not fit the 64 features"),
    ({"image_shape": (7, 8)}, (20, 8, 8), r"image_shape is \(7, 8\), but X has images of shape \(8, 8\)"),
    ({"image_shape": (8,)}, (20, 64), r"image_shape must be \(H, W\) or \(H, W, C\), .* not \(8,\)"),
    ({"image_shape": (8, 0)}, (20, 64), "image_shape must be a whole number"),
    ({}, (20, 2, 8, 8, 1), r"must be \(B, H, W\)"),
    ({"epochs": 0}, (20, 64), "number of epochs"),
    ({"batch_size": 0}, (20, 64), "batch size"),
    ({"lr": -1}, (20, 64), "learning rate"),
    ({"warmup": 2}, (20, 64), "warmup"),
    ({"augment": "turn"}, (20, 64), "turn"),
    ({"model": "vit_mimi"}, (20, 64), "unknown model 'vit_mimi'"),
    ({"pool": "max"}, (20, 64), "unknown pool"),
    ({"heads": 3}, (20, 64), "width"),
], ids=str)
def test_what_does_not_fit_is_refused(parameters, shape, named):
    with pytest.raises(ValueError, match=named):
        small(**parameters).fit(np.zeros(shape), np.arange(20) % 2)


def test_one_class_is_refused():
    with pytest.raises(ValueError, match="one class only, cat"):
        small().fit(np.zeros((20, 64)), ["cat"] * 20)


def test_images_of_another_shape_are_refused(digits):
    images, labels, test_images, _ = digits
    classifier = small().fit(images, labels)
    for other in (test_images[:, :, :4], np.repeat(test_images, 3, axis=-1)):
        with pytest.raises(ValueError, match=re.escape(str(other.shape[1:])) + r", but those of fit had \(8, 8, 1\)"):
            classifier.predict(other)


def test_image_shape_can_name_the_single_channel_of_grey_images(digits):
    images, labels, test_images, _ = digits
    expected = small().fit(images[..., 0], labels).predict_proba(test_images[..., 0])
    for shape in ((8, 8), (8, 8, 1), [8, 8]):
        found = small(image_shape=shape).fit(images[..., 0], labels).predict_proba(test_images[..., 0])
        np.testing.assert_array_equal(found, expected)
    with pytest.raises(ValueError, match=r"image_shape is \(8, 8, 3\), but X has images of shape \(8, 8\)"):
        small(image_shape=(8, 8, 3)).fit(images[..., 0], labels)


@pytest.mark.parametrize("shape", [64, (8,), (8, 8, 1, 1), "88"])
def test_image_shape_that_is_not_a_shape_is_refused(shape):
    with pytest.raises(ValueError, match=r"image_shape must be \(H, W\) or \(H, W, C\), such as \(28, 28\), not "):
        small(image_shape=shape).fit(np.zeros((20, 64)), np.arange(20) % 2)


def test_augmentation_steps_can_be_a_list(digits):
    images, labels, _, _ = digits
    as_list, as_text = (small(augment=steps).fit(images, labels).model_.vector for steps in (["flip"], "flip"))
    np.testing.assert_array_equal(as_list, as_text)


def test_images_that_look_channels_first_are_warned_about():
    rng, labels = np.random.default_rng(0), np.arange(20) % 2
    images = rng.integers(0, 256, (20, 3, 16, 16), np.uint8)
    with pytest.warns(UserWarning, match=r"looks like channels first.*pass X\.transpose\(0, 2, 3, 1\)"):
        small().fit(images, labels)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        small().fit(images.transpose(0, 2, 3, 1), labels)


def test_patience_takes_its_validation_images_from_the_training_set(digits):
    images, labels, _, _ = digits
    classifier = small(epochs=50, patience=1, warmup=0, lr=1e-2).fit(images, labels)
    assert 2 <= len(classifier.loss_curve_) < 50


@pytest.mark.parametrize(("scale", "words"), [
    (255, "X has numbers from 0 to 255, but the X of fit had 0 to 1; numbers beyond are clipped: scale X in the same "
          "way"), (0.01, "X has numbers from 0 to 0.01, but the X of fit had 0 to 1: scale X in the same way"),
    (1, None), (0.5, None),
])
def test_a_warning_names_another_range_than_that_of_fit(scale, words):
    X = np.random.default_rng(0).random((20, 8, 8))
    X[0, 0, :2] = 0, 1
    model = ViTClassifier(epochs=1, width=16, depth=1, heads=2, threads=1, random_state=0).fit(X, np.arange(20) % 2)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        model.predict(scale * X)
    assert [str(one.message) for one in said] == ([words] if words else [])


@pytest.mark.parametrize(("parameters", "message"), [
    ({"augment": [3]}, "augment must be text or a list of text, such as 'crop,flip', not 3"),
    ({"augment": 3}, "augment must be text, not 3"), ({"layers": 3}, "layers must be a list, not 3"),
    ({"layers": [3]}, r"layers must be \(pattern, factor\) .* not 3"),
    ({"image_shape": 64}, r"image_shape must be \(H, W\) or \(H, W, C\), such as \(28, 28\), not 64"),
])
def test_parameters_of_another_type_are_named(parameters, message):
    with pytest.raises(ValueError, match=message):
        ViTClassifier(epochs=1, **parameters).fit(np.zeros((4, 8, 8)), [0, 1, 0, 1])


def test_image_shape_may_be_an_array():
    X = np.random.default_rng(0).random((6, 32))
    shaped = ViTClassifier(epochs=1, image_shape=np.array([4, 8]), random_state=0).fit(X, np.arange(6) % 2)
    assert shaped.image_format_.shape == (4, 8, 1)
