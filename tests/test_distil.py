"""Distillation: loss and gradient, training with a teacher, and clear errors."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
from helpers import change_weights, interrupt

import minivit
from minivit import cli
from minivit.ops import cross_entropy, softmax
from minivit.training.distillation import Distillation
from minivit.training.trainer import Trainer
from minivit.training_pipeline.defaults.default_model import model_for
from minivit.training_pipeline.folder import RunFolder

pytestmark = pytest.mark.usefixtures("no_pictures")
SIZES = {"image_size": 8, "patch_size": 4, "channels": 1, "classes": 10, "width": 16, "depth": 1, "heads": 2,
         "mlp_ratio": 2}


@pytest.fixture(scope="module")
def teacher(tmp_path_factory, no_pictures):
    """Train a teacher on the digits, with another width and other pixel statistics than the students."""
    folder = tmp_path_factory.mktemp("distil") / "teacher"
    minivit.train(minivit.create_model("vit", mean=0.2, **(SIZES | {"width": 32})), "digits", epochs=2, out=folder,
                  progress=False)
    return folder


@pytest.fixture(scope="module")
def digits():
    return minivit.load_data("digits")


def make(family="deit", seed=0, dtype=np.float64, **options):
    model = minivit.create_model(family, dtype=dtype, **(SIZES | options))
    model.vector[...] = np.random.default_rng(seed).standard_normal(model.vector.size) / 4
    return model


def log_softmax(z):
    return np.log(softmax.reference_forward(z)[0])


@pytest.mark.parametrize("teachers", [1, 3])
@pytest.mark.parametrize("kind", ["hard", "soft"])
@pytest.mark.parametrize("family", ["deit", "vit"])
def test_the_loss_is_the_weighted_sum_of_both_terms(digits, family, kind, teachers):
    student = make(family)
    teachers = [make("vit", seed=1 + k, dtype=np.float32, mean=0.3, width=16 * (1 + k)) for k in range(teachers)]
    images, labels = digits.train_images[:12], digits.train_labels[:12]
    trainer = Trainer(student.copy(), objective=Distillation(teachers, kind, 0.3, 2.0), label_smoothing=0.1)
    loss = trainer.step(images, labels)
    heads, said = student.forward_heads(images), [teacher.forward(images).astype(np.float64) for teacher in teachers]
    t = cross_entropy.targets(labels, 10, 0.1, np.float64)
    of_labels = -(t * log_softmax(heads[:, 0])).sum() / 12
    if kind == "hard":
        most_probable = np.mean([np.exp(log_softmax(z)) for z in said], axis=0).argmax(axis=1)
        of_teachers = -log_softmax(heads[:, -1])[np.arange(12), most_probable].mean()
    else:
        q = np.mean([np.exp(log_softmax(z / 2)) for z in said], axis=0)
        of_teachers = 4 * (q * (np.log(q) - log_softmax(heads[:, -1] / 2))).sum() / 12
    assert loss == pytest.approx(0.7 * of_labels + 0.3 * of_teachers, rel=1e-9)


@pytest.mark.parametrize("kind", ["hard", "soft"])
@pytest.mark.parametrize("family", ["deit", "vit"])
def test_the_gradient_equals_a_finite_difference(digits, family, kind):
    objective = Distillation([make("vit", seed=1), make("vit", seed=4)], kind, 0.3, 2.0)
    model, images = make(family), digits.train_images[:5]
    targets = cross_entropy.targets(digits.train_labels[:5], 10, 0.1, np.float64)

    def loss():
        return objective(model, images, targets, 5)[0]

    loss()
    gradient, direction = model.gradients.copy(), np.random.default_rng(2).standard_normal(model.vector.size)
    at, h = model.vector.copy(), 1e-5
    values = []
    for step in (h, -h):
        model.vector[...] = at + step * direction
        values.append(loss())
    assert (values[0] - values[1]) / (2 * h) == pytest.approx(gradient @ direction, rel=1e-7)


def test_the_two_heads_learn_different_functions(digits):
    objective = Distillation(make("vit", seed=1, dtype=np.float32))
    model = make(dtype=np.float32)
    model.head_dist.weight.data = model.head.weight.data
    trainer = Trainer(model, objective=objective)
    for _ in range(5):
        trainer.step(digits.train_images[:32], digits.train_labels[:32])
    heads = model.forward_heads(digits.train_images[:32])
    assert not np.allclose(heads[:, 0], heads[:, 1], atol=1e-2)
    np.testing.assert_allclose(model.predict(digits.train_images[:32]), heads.mean(axis=1), atol=1e-5)


def test_a_student_learns_from_the_teacher_alone(digits):
    """With weight 1 the labels have no effect: the student learns the predictions of a random teacher."""
    teacher = make("vit", seed=1, dtype=np.float32)
    student = minivit.create_model("vit", seed=3, **SIZES)
    trainer, images = Trainer(student, lr=3e-3, objective=Distillation(teacher, "soft", 1.0,
                                                                       1.0)), digits.train_images[:256]
    def agreement():
        return (student.predict(images).argmax(axis=1) == teacher.predict(images).argmax(axis=1)).mean()

    before = agreement()
    for _ in range(150):
        trainer.step(images, np.zeros(256, int))
    assert agreement() > max(0.8, before + 0.2)


def test_threads_do_not_change_the_bits(digits):
    weights = []
    for threads in (1, 2, 3):
        model = minivit.create_model("deit", **SIZES)
        trainer = Trainer(model, threads=threads, objective=Distillation(make("vit", seed=1, dtype=np.float32), "soft"))
        for _ in range(3):
            trainer.step(digits.train_images[:50], digits.train_labels[:50])
        weights.append(model.vector.tobytes())
    assert len(set(weights)) == 1


def test_the_command_line_trains_and_resumes_to_the_same_bits(teacher, tmp_path, monkeypatch, capsys):
    def call(*arguments):
        return cli.main([str(a) for a in arguments])

    second = shutil.copytree(teacher, tmp_path / "second")
    change_weights(second)
    train = ("train", "digits", "--model", "deit_mini", "--epochs", 1, "--augment", "flip", "--distillation", "soft",
             "--temperature", 2, "--teacher", teacher, "--teacher", second, "--json")
    assert call(*train, "--out", tmp_path / "whole") == 0
    assert json.loads(capsys.readouterr().out)["accuracy"] > 0.3
    config = json.loads((tmp_path / "whole" / "config.json").read_text())
    assert config["model"]["family"] == "deit"
    assert [one["run"] for one in config["training"]["teacher"]] == [str(teacher), str(second)]
    assert config["training"]["temperature"] == 2.0
    with monkeypatch.context() as patch:
        interrupt(patch, Trainer, "step", 20)
        assert call(*train, "--out", tmp_path / "cut", "--checkpoint-steps", 7) == 130
    assert call("train", "digits", "--out", tmp_path / "cut", "--resume") == 0
    weights = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("whole", "cut")]
    assert weights[0] == weights[1]


def test_a_run_of_an_earlier_version_resumes_with_its_only_teacher(teacher, digits, tmp_path, monkeypatch):
    def train(out, **more):
        model = minivit.create_model("deit", **SIZES)
        minivit.train(model, digits, epochs=0.5, out=tmp_path / out, progress=False, **more)
        return model.vector

    expected = train("whole", teacher=teacher)
    with monkeypatch.context() as patch:
        interrupt(patch, Trainer, "step", 5)
        with pytest.raises(KeyboardInterrupt):
            train("cut", teacher=teacher, checkpoint_steps=2)
    run = RunFolder(tmp_path / "cut")
    config = run.config()
    config["training"]["teacher"], = config["training"]["teacher"]
    run.write_config(config)
    np.testing.assert_array_equal(train("cut", resume=True), expected)


def test_a_student_of_no_teacher_learns_from_the_labels(digits, tmp_path):
    options = {"epochs": 0.1, "progress": False}
    alone, none = (minivit.train(minivit.create_model("deit", **SIZES), digits, out=tmp_path / name, **options, **given)
                   for name, given in (("alone", {}), ("none", {"teacher": []})))
    assert alone.loss == none.loss
    minivit.train(minivit.create_model("deit", **SIZES), digits, out=tmp_path / "alone", resume=True, teacher=[],
                  **options)
    with pytest.raises(ValueError, match="distillation needs a teacher"):
        Distillation([])


def test_a_teacher_that_has_changed_is_refused(teacher, digits, tmp_path):
    shutil.copytree(teacher, tmp_path / "teacher")
    options = {"epochs": 0.1, "out": tmp_path / "run", "progress": False}
    minivit.train(minivit.create_model("deit", **SIZES), digits, teacher=[teacher, tmp_path / "teacher"], **options)
    change_weights(tmp_path / "teacher")
    with pytest.raises(ValueError, match="has other weights than when the run was started"):
        minivit.train(minivit.create_model("deit", **SIZES), digits, resume=True, **options)
    changed = tmp_path / "teacher"
    with pytest.raises(ValueError, match=rf"was started with teacher {teacher}, {changed}, not {changed}:"):
        minivit.train(minivit.create_model("deit", **SIZES), digits, resume=True, teacher=changed, **options)


@pytest.mark.parametrize(("student", "change", "message"), [
    ({"image_size": 12}, {}, r"does not fit the model: it has 10 classes of images \(8, 8, 1\), the model 10 classes "
                             r"of \(12, 12, 1\)"),
    ({"channels": 3}, {}, r"images \(8, 8, 1\), the model 10 classes of \(8, 8, 3\)"),
    ({"classes": 11}, {}, "it has 10 classes .* the model 11 classes"),
    ({}, {"distillation": "medium"}, "unknown distillation 'medium'"),
    ({}, {"distillation_weight": 1.5}, "distillation weight must be .* at most 1, not 1.5"),
    ({}, {"distillation": "soft", "temperature": 0}, "temperature must be .* above 0, not 0"),
    ({}, {"temperature": 2}, "temperature applies to soft distillation only"),
])
def test_wrong_arguments_are_named(teacher, digits, student, change, message):
    model = minivit.create_model("deit", **(SIZES | student))
    shape = model.input_shape
    data = replace(digits, train_images=np.zeros((1438, *shape), np.uint8),
                   test_images=np.zeros((359, *shape), np.uint8))
    with pytest.raises(ValueError, match=message):
        minivit.train(model, data, epochs=1, teacher=teacher, progress=False, **change)


def test_every_teacher_is_checked(teacher, digits, tmp_path):
    def refused(second, message):
        with pytest.raises(ValueError, match=message):
            minivit.train(minivit.create_model("deit", **SIZES), digits, epochs=1, teacher=[teacher, second],
                          progress=False)

    options = {"epochs": 0.1, "progress": False}
    minivit.train(minivit.create_model("vit", **SIZES | {"classes": 11}), digits, out=tmp_path / "eleven", **options)
    refused(tmp_path / "eleven", "teacher 2 of 2 does not fit the model: it has 11 classes")
    minivit.train(minivit.create_model("vit", **SIZES), replace(digits, class_names=tuple("abcdefghij")),
                  out=tmp_path / "letters", **options)
    refused(tmp_path / "letters", r"letters has a, b, .*, the data 0, 1, .*; names and order must be the same")
    minivit.train(minivit.create_model("vit", **SIZES), "digits", out=tmp_path / "other_split", seed=1, **options)
    refused(tmp_path / "other_split", "was trained on images that are test images here")


def test_classes_of_other_names_are_refused(teacher, digits):
    data = replace(digits, class_names=tuple("abcdefghij"))
    with pytest.raises(ValueError, match=r"has 0, 1, .*, the data a, b, .*; names and order must be the same"):
        minivit.train(minivit.create_model("deit", **SIZES), data, epochs=1, teacher=teacher, progress=False)


@pytest.mark.parametrize("files", [[], ["config.json"]])
def test_a_teacher_must_be_a_finished_run(teacher, digits, tmp_path, files):
    for name in files:
        shutil.copy(teacher / name, tmp_path)
    with pytest.raises(FileNotFoundError, match="is not finished, so it has no trained weights yet" if files
                       else "is not a run"):
        minivit.train(minivit.create_model("deit", **SIZES), digits, epochs=1, teacher=tmp_path, progress=False)


@pytest.mark.parametrize(("name", "size", "channels", "expected"), [
    ("deit_mini", 8, 1, ("DeiT", 2)), ("deit_mini", 28, 1, ("DeiT", 4)), ("deit_mini", 32, 3, ("DeiT", 4)),
    ("deit_mini", 48, 3, ("DeiT", 6)), ("swin_mini", 8, 1, ("Swin", 1)), ("swin_mini", 28, 1, ("Swin", 2)),
    ("swin_mini", 32, 3, ("Swin", 2)), ("swin_mini", 64, 3, ("Swin", 4)), ("swin_mini", 48, 3, ("Swin", 3)),
    ("vit_mini", 28, 1, ("ViT", 4)),
])
def test_small_models_fit_the_size_of_the_images(digits, name, size, channels, expected):
    images = np.zeros((20, size, size, channels), np.uint8)
    data = replace(digits, train_images=images, train_labels=np.arange(20) % 10, test_images=images[:2],
                   test_labels=np.arange(2))
    model = model_for(data, name)
    assert (type(model).__name__, model.config["patch_size"]) == expected
    assert model.forward(images[:2]).shape == (2, 10)
    loss = minivit.train(model, data, epochs=1, batch_size=10, progress=False).loss
    assert np.isfinite(loss)


@pytest.mark.parametrize("option", ["--teacher", "--fine-tune"])
def test_a_run_that_has_seen_test_images_is_refused(option, tmp_path, capsys):
    assert cli.main(["train", "digits", "--epochs", "0.1", "--out", str(tmp_path / "first"), "--json"]) == 0
    capsys.readouterr()
    arguments = ["train", "digits", "--epochs", "0.1", option, str(tmp_path / "first"), "--json"]
    assert cli.main([*arguments, "--seed", "1", "--out", str(tmp_path / "second")]) == 2
    assert "was trained on images that are test images here" in capsys.readouterr().err
    assert not (tmp_path / "second").exists()
    assert cli.main([*arguments, "--out", str(tmp_path / "third")]) == 0


@pytest.mark.parametrize(("options", "message"), [
    ({"temperature": 2.0}, "temperature can be chosen with a teacher only"),
    ({"distillation": "soft"}, "distillation can be chosen with"),
])
def test_options_of_distillation_need_a_teacher(options, message):
    with pytest.raises(ValueError, match=message):
        minivit.train(minivit.create_model("vit_mini_patch2_8"), "digits", epochs=0.1, progress=False, **options)
