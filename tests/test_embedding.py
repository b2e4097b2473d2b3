"""The picture of the features in the report, and the training images that are nearest to mistakes."""

from dataclasses import replace

import numpy as np
import pytest

import minivit
from minivit.data import Dataset
from minivit.training.evaluation import evaluate
from minivit.training_pipeline.results import embedding
from minivit.training_pipeline.results.embedding import embed, embedding_section

SIZES = {"image_size": 8, "patch_size": 4, "channels": 1, "classes": 10, "width": 16, "depth": 1, "heads": 2}


@pytest.fixture(scope="module")
def digits():
    """A model that learned a little, the digits, and its evaluation."""
    data = minivit.load_data("digits")
    model = minivit.create_model("vit", **SIZES)
    minivit.train(model, data, epochs=3, progress=False)
    return model, data, evaluate(model, data.test_images, data.test_labels)


def test_points_are_the_principal_components_of_the_features(digits):
    model, data, evaluation = digits
    found = embed(model, data, evaluation, data.class_names)
    features = model.features(data.test_images).astype(np.float64)
    covariance = np.cov(features.T, bias=True)
    variances = np.linalg.eigvalsh(covariance)[::-1]
    np.testing.assert_allclose(found.points.var(axis=0), variances[:2], rtol=1e-6)
    assert found.share == pytest.approx(variances[:2].sum() / variances.sum())
    assert abs(np.corrcoef(found.points.T)[0, 1]) < 1e-6
    wrong = model.predict(data.test_images).argmax(axis=1) != data.test_labels
    np.testing.assert_array_equal(found.wrong, wrong)
    np.testing.assert_array_equal(found.labels, data.test_labels)
    again = embed(model, data, evaluation, data.class_names)
    np.testing.assert_array_equal(again.points, found.points)


def test_neighbours_have_the_largest_cosines(digits):
    model, data, evaluation = digits
    found = embed(model, data, evaluation, data.class_names)
    assert found.searched == 1000
    assert [mistake.index for mistake, _ in found.neighbours] == [m.index for m in evaluation.mistakes[:6]]
    train = model.features(data.train_images).astype(np.float64)
    train /= np.linalg.norm(train, axis=1, keepdims=True)
    for mistake, near in found.neighbours:
        [own] = model.features(mistake.image[None]).astype(np.float64)
        cosines = train @ own / np.linalg.norm(own)
        shown = [cosine for *_, cosine in near]
        assert shown == sorted(shown, reverse=True)
        assert shown[0] <= cosines.max() + 1e-6
        for image, label, cosine in near:
            here = [i for i in np.flatnonzero(np.abs(cosines - cosine) < 1e-5)
                    if np.array_equal(data.train_images[i], image)]
            assert data.train_labels[here[0]] == label


def test_all_training_images_are_searched_if_they_are_few(digits):
    model, data, evaluation = digits
    few = replace(data, train_images=data.train_images[:50], train_labels=data.train_labels[:50])
    found = embed(model, few, evaluation, data.class_names)
    train = model.features(few.train_images).astype(np.float64)
    train /= np.linalg.norm(train, axis=1, keepdims=True)
    mistake, near = found.neighbours[0]
    [own] = model.features(mistake.image[None]).astype(np.float64)
    nearest = np.argmax(train @ own)
    np.testing.assert_array_equal(near[0][0], few.train_images[nearest])
    assert near[0][1] == few.train_labels[nearest]
    assert found.searched == 50


def test_classes_are_those_of_the_model_when_the_data_have_another_order(digits):
    model, data, _ = digits
    order = np.arange(10)[::-1]
    turned = replace(data, class_names=tuple(data.class_names[k] for k in order), train_labels=order[data.train_labels],
                     test_labels=order[data.test_labels])
    evaluation = evaluate(model, data.test_images, data.test_labels)
    found, right = embed(model, turned, evaluation, data.class_names), embed(model, data, evaluation, data.class_names)
    assert found.wrong.sum() == right.wrong.sum()
    text = embedding_section(found, data.class_names)
    assert text.count("<circle") == len(found.points) == 359
    assert text.count('class="wrong"') == found.wrong.sum()
    assert all(f">{name}</text>" in text for name in data.class_names)


def test_large_models_take_fewer_images(digits, monkeypatch):
    model, data, evaluation = digits
    monkeypatch.setattr(embedding, "MOST_FLOPS", 2 * 40 * model.flops)
    found = embed(model, data, evaluation, data.class_names)
    assert (len(found.points), found.searched) == (40, 40)
    assert set(found.labels) == set(range(10))                        # a part of each class


def test_without_enough_images_or_training_images_there_is_less_to_show(digits):
    model, data, evaluation = digits
    alone = Dataset("test", data.train_images[:0], data.train_labels[:0], data.test_images, data.test_labels,
                    data.class_names)
    found = embed(model, alone, evaluation, data.class_names)
    assert (found.neighbours, found.searched) == ([], 0)
    assert "Nearest" not in embedding_section(found, data.class_names)
    two = replace(alone, test_images=data.test_images[:2], test_labels=data.test_labels[:2])
    assert embed(model, two, evaluation, data.class_names) is None
    same = replace(alone, test_images=np.repeat(data.test_images[:1], 5, axis=0), test_labels=np.zeros(5, int))
    assert embed(model, same, evaluation, data.class_names) is None


def test_class_names_are_escaped(digits):
    model, data, evaluation = digits
    names = tuple(f"<{name}>" for name in data.class_names)
    text = embedding_section(embed(model, replace(data, class_names=names), evaluation, names), names)
    assert "<3>" not in text
    assert ">&lt;3&gt;</text>" in text
