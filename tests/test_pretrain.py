"""Pre-training without labels: the masked autoencoder, the loop around it, and what is trained from it."""

import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

import minivit
from minivit import cli
from minivit.models.masked_autoencoder import MaskedAutoencoder
from minivit.ops import hiding, patches, philox, reconstruction
from minivit.training.pretraining import evaluate_reconstruction, masked_reconstruction
from minivit.training_pipeline.defaults import default_length
from minivit.training_pipeline.defaults.default_length import default_epochs, explain_length
from minivit.training_pipeline.folder import RunFolder
from minivit.training_pipeline.pretrained.fine_tune import fine_tuned_model
from minivit.training_pipeline.pretrained.weight_source import WeightSource
from minivit.training_pipeline.results.reconstruction_figure import reconstruct_images
from minivit.training_pipeline.run_settings import training_data

SMALL = {"image_size": 6, "patch_size": 3, "channels": 2, "classes": 5, "width": 12, "depth": 2, "heads": 3,
         "mlp_ratio": 2}
KINDS = {
    "class token": {},
    "mean": {"pool": "mean"},
    "relative bias": {"relative_bias": True},
    "stem and bias, oblong": {"pool": "mean", "relative_bias": True, "stem": "conv", "patch_size": 2,
                              "image_size": (4, 6)},
    "sin-cos": {"positions": "sincos", "image_size": (6, 12)},
}
over_kinds = pytest.mark.parametrize("kind", KINDS)


def autoencoder(kind="class token", mask_ratio=0.5, dtype=np.float32, **options):
    """A masked autoencoder whose weights are all random."""
    model = MaskedAutoencoder(minivit.create_model("vit", dtype=dtype, **(SMALL | KINDS[kind])), mask_ratio, **options)
    model.vector[:] = 0.3 * np.random.default_rng(1).standard_normal(model.vector.size)
    return model


def images_for(model, count=3, dtype=np.float64):
    return np.random.default_rng(2).standard_normal((count, *model.input_shape)).astype(dtype)


# ---- the model ------------------------------------------------------------------------------------------------------


@over_kinds
def test_all_gradients_agree_with_finite_differences(kind):
    model = autoencoder(kind, dtype=np.float64)
    report = minivit.gradcheck(model, images_for(model))
    assert report.ok, f"\n{report}"
    assert report.worst < 1e-8
    assert len(report.rows) == 1 + len(model.parameters())


@over_kinds
def test_hidden_pixels_change_no_prediction(kind):
    model = autoencoder(kind, dtype=np.float64)
    images = images_for(model)
    prediction, pixels, hidden = model.reconstruct(images)
    other = np.where(hidden[..., None] > 0, pixels + 5, pixels)
    again = model.forward(patches.unpatchify(other, model.patch_size, images.shape))
    np.testing.assert_array_equal(again, prediction)
    seen = np.where(hidden[..., None] > 0, pixels, pixels + 5)
    again = model.forward(patches.unpatchify(seen, model.patch_size, images.shape))
    assert (again != prediction).any(axis=(1, 2)).all()


@over_kinds
def test_the_blocks_of_the_encoder_see_visible_tokens_only(kind, monkeypatch):
    model, seen = autoencoder(kind, 0.75), []
    block = type(model.encoder.blocks[0])
    forward = block.forward
    monkeypatch.setattr(block, "forward", lambda self, x: seen.append(x.shape[1]) or forward(self, x))
    model.forward(images_for(model, dtype=np.float32))
    count = model.tokens - model.prefix
    visible = count - round(0.75 * count)
    assert seen == [model.prefix + visible] * 2 + [model.prefix + count]      # two blocks, then one of the decoder


def test_without_a_bias_the_encoder_is_the_vit_that_gets_only_the_visible_tokens():
    """The tokens of the encoder equal those of the plain blocks, run over the picked tokens one image at a time."""
    model = autoencoder("mean", dtype=np.float64)
    images = images_for(model)
    hidden = model.choice.forward(images)
    encoded, _ = model._encode(images, hidden)
    for image, row, tokens in zip(images, hidden, encoded, strict=True):
        x = model.encoder.patch_embed.forward(image[None]) + model.encoder.pos_embed.data
        x = x[:, row == 0]
        for block in model.encoder.blocks:
            x = block.forward(x)
        np.testing.assert_allclose(model.encoder.fc_norm.forward(x)[0], tokens, rtol=0, atol=1e-12)


def test_an_impossible_autoencoder_is_refused():
    swin = minivit.create_model("swin_mini", image_size=8)
    with pytest.raises(ValueError, match="family vit, not Swin"):
        MaskedAutoencoder(swin)
    vit = minivit.create_model("vit", **SMALL)
    for ratio in (0, 1):
        with pytest.raises(ValueError, match="mask ratio must be a finite number above 0 and below 1"):
            MaskedAutoencoder(vit, ratio)
    assert [MaskedAutoencoder(vit, ratio).visible for ratio in (0.01, 0.5, 0.99)] == [3, 2, 1]


def test_weights_go_to_the_encoder_and_back():
    vit = minivit.create_model("vit", **SMALL)
    before, model = vit.vector.copy(), MaskedAutoencoder(vit)
    model.vector[:] = np.arange(model.vector.size)
    np.testing.assert_array_equal(vit.vector, before)
    model.give_weights(vit)
    named = {f"encoder.{p.name}": p for p in vit.parameters()}
    for p in model.encoder.parameters():
        np.testing.assert_array_equal(named.pop(p.name).data, p.data)
    assert {*named} == {"encoder.head.weight", "encoder.head.bias"}
    assert not any(p.data.any() for p in named.values())


# ---- hidden patches and loss ----------------------------------------------------------------------------------------


def test_as_many_patches_as_asked_are_hidden_and_all_equally_often():
    uniform = philox.uniform(0, 0, 1, np.arange(4000), 9)
    hidden = hiding.choose(uniform, 3)
    np.testing.assert_array_equal(hidden.sum(axis=1), 3)
    np.testing.assert_allclose(hidden.mean(axis=0), 1 / 3, atol=0.03)        # four standard errors
    np.testing.assert_array_equal(hidden, hiding.reference_choose(uniform, 3))
    ties = np.zeros((1, 5), np.float32)
    np.testing.assert_array_equal(hiding.choose(ties, 2), [[1, 1, 0, 0, 0]])


def test_the_guess_of_the_mean_has_loss_1_and_the_truth_has_loss_0():
    pixels = np.random.default_rng(0).standard_normal((2, 4, 50))
    hidden = np.array([[0, 1, 1, 0], [1, 1, 0, 1.0]])
    truth = reconstruction.targets(pixels)
    assert float(reconstruction.forward(np.zeros_like(pixels), pixels, hidden)[0]) == pytest.approx(1, abs=1e-5)
    assert float(reconstruction.forward(truth, pixels, hidden)[0]) == pytest.approx(0, abs=1e-12)
    assert float(reconstruction.forward(pixels, pixels, hidden, normalise=False)[0]) == 0


@pytest.mark.parametrize("kind", ["class token", "stem and bias, oblong"])
def test_replayed_steps_and_any_number_of_threads_give_the_same_bits(kind):
    found = []
    for replay, threads in ((True, 1), (True, 2), (False, 1)):
        model = autoencoder(kind)
        trainer = minivit.Trainer(model, objective=masked_reconstruction, replay=replay, threads=threads)
        images = np.random.default_rng(3).integers(0, 256, (16, *model.input_shape), np.uint8)
        losses = [trainer.step(images, np.zeros(16, int)) for _ in range(5)]
        assert trainer.lanes.replicas.not_replayed == ("" if replay else "replay is switched off")
        assert losses[-1] < losses[0]
        found.append((losses, model.vector.tobytes()))
    assert found[0] == found[1] == found[2]


def test_each_step_hides_other_patches_of_each_image():
    model, hidden = autoencoder(), []

    def noting(replica, images, targets, batch):
        hidden.append(replica.choice.forward(images))
        return masked_reconstruction(replica, images, targets, batch)

    trainer = minivit.Trainer(model, objective=noting, threads=1, replay=False, lr=1e-9)
    images = np.zeros((8, *model.input_shape), np.uint8)
    for _ in range(3):
        trainer.step(images, np.zeros(8, int))
    steps = np.concatenate(hidden).reshape(3, 8, -1)
    assert len({step.tobytes() for step in steps}) == 3
    assert len({row.tobytes() for row in steps[0]}) > 1
    assert (steps.sum(axis=2) == 2).all()


def test_the_evaluation_does_not_depend_on_threads_and_is_the_mean_over_images():
    model = autoencoder()
    images = np.random.default_rng(3).integers(0, 256, (130, *model.input_shape), np.uint8)
    scores = [evaluate_reconstruction(model, images, threads) for threads in (1, 2)]
    assert scores[0] == scores[1]
    parts = [evaluate_reconstruction(model, images[a:a + 64]) for a in (0, 64, 128)]
    assert scores[0].loss == pytest.approx(sum(p.loss * p.images for p in parts) / 130, rel=1e-6)
    assert str(scores[0]) == f"reconstruction loss {scores[0].loss:.4f} on 130 images"


@pytest.mark.parametrize("normalise", [True, False])
def test_a_reconstruction_keeps_what_was_visible(normalise):
    model = autoencoder(normalise=normalise)
    images = np.random.default_rng(3).integers(0, 256, (3, *model.input_shape), np.uint8)
    original, seen, predicted = reconstruct_images(model, images)
    np.testing.assert_allclose(original, images / 255, atol=1e-6)
    hidden = np.repeat(np.repeat(model.choice.forward(original).reshape(3, 2, 2), 3, axis=1), 3, axis=2)[..., None]
    visible = np.broadcast_to(hidden == 0, images.shape)
    assert (seen[~visible] == 0.5).all()
    for result in (seen, predicted):
        np.testing.assert_array_equal(result[visible], original[visible])
    assert predicted.min() >= 0
    assert predicted.max() <= 1
    assert np.abs(predicted - original)[~visible].max() > 0.1


# ---- the run --------------------------------------------------------------------------------------------------------

DIGIT = {"image_size": 8, "patch_size": 2, "channels": 1, "classes": 10, "width": 16, "depth": 1, "heads": 2,
         "mlp_ratio": 2}
SETTINGS = {"epochs": 2, "batch_size": 128, "progress": False, "ema": 0.9, "threads": 1}


def vit():
    return minivit.create_model("vit", relative_bias=True, pool="mean", **DIGIT)


@pytest.fixture(scope="module")
def digits():
    return minivit.load_data("digits")


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A pre-training on the digits: its folder and its result."""
    folder = tmp_path_factory.mktemp("pretrain") / "run"
    return folder, minivit.pretrain(vit(), "digits", out=folder, **SETTINGS)


def test_a_pretraining_learns_without_labels(finished, digits):
    _folder, result = finished
    assert result.records[-1]["loss"] < result.records[0]["loss"]
    assert "accuracy" not in result.records[0]
    assert result.test.images == 359
    assert result.records[-1]["test_loss"] == result.test.loss
    assert str(result).startswith(f"test reconstruction loss {result.test.loss:.4f} on 359 images, after 22 steps in")
    with pytest.raises(AttributeError, match="no accuracy"):
        _ = result.accuracy
    assert result._repr_html_().count("data:image/png") == 1
    shuffled = replace(digits, train_labels=np.random.default_rng(0).permutation(digits.train_labels))
    again = minivit.pretrain(vit(), shuffled, **SETTINGS)
    np.testing.assert_array_equal(again.model.vector, result.model.vector)
    assert not np.array_equal(minivit.pretrain(vit(), digits, seed=1, **SETTINGS).model.vector, result.model.vector)


def test_the_folder_has_the_encoder_and_a_figure(finished):
    folder, result = finished
    assert {file.name for file in folder.iterdir()} == {
        "checkpoint.safetensors", "config.json", "curve.png", "learned.npy", "log.jsonl", "model.safetensors",
        "reconstruction.png"}
    with Image.open(folder / "reconstruction.png") as figure:
        assert figure.width > 1000
    model = minivit.load(folder)
    np.testing.assert_array_equal(model.vector, result.model.vector)
    assert not model.head.weight.data.any()
    assert json.loads((folder / "config.json").read_text())["training"]["mask_ratio"] == 0.75


def test_an_interrupted_pretraining_resumes_to_the_same_bytes(finished, tmp_path):
    class Stop(Exception):
        pass

    def stop(record):
        raise Stop

    with pytest.raises(Stop):
        minivit.pretrain(vit(), "digits", out=tmp_path / "run", callback=stop, **SETTINGS)
    run = RunFolder(tmp_path / "run")
    assert not run.model_file.exists()
    assert run.resume_command() == f"minivit.pretrain(model, data, out={str(run.path)!r}, resume=True)"
    with pytest.raises(FileNotFoundError, match=r"not finished.*pre-training contains a decoder"):
        minivit.training_pipeline.results.trained_model.latest_model(run, classifies=False)
    result = minivit.pretrain(vit(), "digits", out=run.path, resume=True, progress=False, threads=2)
    assert result.resumed
    for name in ("model.safetensors", "checkpoint.safetensors"):
        theirs, ours = (folder / name for folder in (finished[0], run.path))
        assert name != "model.safetensors" or ours.read_bytes() == theirs.read_bytes()


def test_fine_tuning_and_a_probe_start_from_the_encoder(finished, digits, tmp_path):
    source = WeightSource(finished[0])
    assert source.class_names is None
    model = fine_tuned_model(source, digits)
    np.testing.assert_array_equal(model.vector, finished[1].model.vector)
    probe = fine_tuned_model(source, digits, probe=True)
    before = {p.name: p.data.copy() for p in probe.parameters()}
    result = minivit.train(probe, digits, probe=True, start=source, epochs=20, progress=False, labelled=20)
    assert result.accuracy > 0.3
    for p in result.model.parameters():
        assert p.name.startswith("head.") != np.array_equal(p.data, before[p.name])


def test_a_fine_tuning_must_not_test_on_images_of_the_pretraining(finished):
    with pytest.raises(ValueError, match=r"trained on images that are test images here.*use its seed, 0"):
        fine_tuned_model(WeightSource(finished[0]), minivit.load_data("digits", seed=1))


def test_settings_for_labels_are_refused(digits, tmp_path):
    for name, value in {"labelled": 5, "label_smoothing": 0.1, "probe": True, "patience": 3}.items():
        with pytest.raises(ValueError, match=f"{name}: only for training on labels"):
            minivit.pretrain(vit(), digits, progress=False, out=tmp_path / "run", **{name: value})
    assert not (tmp_path / "run").exists()
    with pytest.raises(TypeError, match="pretrain takes the model first"):
        minivit.pretrain("digits")


def test_minutes_of_pretraining(digits):
    result = minivit.pretrain(vit(), digits, minutes=0.002, batch_size=128, progress=False)
    assert result.steps >= 1


# ---- the command ----------------------------------------------------------------------------------------------------


def run(capsys, *arguments):
    code = cli.main([*map(str, arguments)])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_the_command_pretrains_and_says_what_to_do_next(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, out, err = run(capsys, "pretrain", "digits", "--epochs", "0.1", "--json", "-q")
    assert (code, err) == (0, "")
    found = json.loads(out)
    assert found["run"] == "runs/digits-pretrained-seed0"
    assert found["images"] == 359
    assert 0 < found["test_loss"] < 3
    code, out, err = run(capsys, "pretrain", "digits", "--resume")
    assert "nothing is left to do" in err
    assert "minivit train DATA --fine-tune runs/digits-pretrained-seed0" in out
    code, out, err = run(capsys, "train", "digits", "--fine-tune", found["run"], "--probe", "--labelled", "3",
                         "--epochs", "1")
    assert code == 0
    assert "30 training and 359 test images" in err


@pytest.mark.parametrize("verb", ["evaluate", "predict", "attend", "tour", "export", "train"])
def test_what_needs_a_classifier_refuses_a_pretraining(finished, verb, capsys, tmp_path):
    more = {"predict": ["3"], "attend": ["3", "--out", tmp_path / "a.png"], "tour": ["3", "--out", tmp_path / "a.html"],
            "export": [tmp_path / "a.onnx"], "train": ["--out", tmp_path / "run"], "evaluate": []}[verb]
    arguments = ["digits", "--teacher", finished[0]] if verb == "train" else [finished[0]]
    code, out, err = run(capsys, verb, *arguments, *more)
    assert (code, out) == (2, "")
    assert err.splitlines() == [
        f"minivit: error: {finished[0]} was pre-trained without labels, so it has no classifier yet: train one from "
        f"its weights, with --fine-tune '{finished[0]}'"]
    assert not [*tmp_path.iterdir()]


def test_features_need_no_classifier(finished, capsys, tmp_path):
    code, _out, err = run(capsys, "features", finished[0], "--out", tmp_path / "f.npz")
    assert code == 0, err
    assert np.load(tmp_path / "f.npz")["features"].shape == (1797, 16)


@pytest.mark.parametrize(("arguments", "message"), {
    ("--mask-ratio", "0"): "mask ratio must be above 0 and below 1 for pre-training, not 0",
    ("--mask-ratio", "1"): "mask ratio must be a finite number at least 0 and below 1, not 1.0",
    ("--model", "swin_mini"): "pre-training needs a model of the family vit, not Swin",
    ("--probe",): "unknown option --probe",
    ("--labelled", "3"): "unknown option --labelled",
}.items())
def test_wrong_arguments_give_one_line(arguments, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, out, err = run(capsys, "pretrain", "digits", "--epochs", "1", *arguments)
    assert (code, out) == (2, "")
    assert len(err.splitlines()) == 1
    assert message in err
    assert not [*tmp_path.iterdir()]


def test_a_training_is_not_resumed_as_a_pretraining(capsys, tmp_path):
    minivit.train(vit(), "digits", epochs=0.1, out=tmp_path / "run", progress=False)
    with pytest.raises(ValueError, match="no pre-training"):
        minivit.pretrain(vit(), "digits", out=tmp_path / "run", resume=True)
    code, _, err = run(capsys, "pretrain", "digits", "--out", tmp_path / "run", "--resume")
    assert code == 2
    assert "is no pre-training, but was trained on labels" in err
    code, _, err = run(capsys, "train", "digits", "--mask-ratio", "0.5")
    assert code == 2
    assert "unknown option --mask-ratio" in err


# ---- data -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def pictures(tmp_path):
    """40 image files in one folder, without labels."""
    rng = np.random.default_rng(0)
    for i in range(40):
        Image.fromarray(rng.integers(0, 256, (8, 8, 3), np.uint8)).save(tmp_path / f"{i}.png")
    return tmp_path


def test_a_folder_without_labels(pictures, capsys, monkeypatch, tmp_path_factory):
    monkeypatch.chdir(tmp_path_factory.mktemp("work"))
    code, _, err = run(capsys, "pretrain", pictures, "--epochs", "1", "--out", "run")
    assert code == 0, err
    assert f"{pictures.name}: 38 training and 2 test images without labels" in err
    code, _, err = run(capsys, "pretrain", pictures, "--out", "run", "--resume")
    assert "nothing is left to do" in err
    assert minivit.load("run").input_shape == (8, 8, 3)
    data = minivit.load_data(pictures, labels="none")
    assert data.class_names == ("unlabelled",)
    code, _out, err = run(capsys, "train", pictures)
    assert code == 2
    assert "image files, but not in sub-folders" in err


def test_few_images_get_more_epochs_and_a_reason(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(default_length, "LEAST_STEPS", 31)            # 600 steps would take long
    rng = np.random.default_rng(0)
    for name in ("cat", "dog"):
        (tmp_path / "pets" / name).mkdir(parents=True)
        for i in range(20):
            Image.fromarray(rng.integers(0, 256, (8, 8, 3), np.uint8)).save(tmp_path / "pets" / name / f"{i}.png")
    code, out, err = run(capsys, "train", "pets")
    assert code == 0, err
    assert "default model for 32 training images of 8x8 pixels: a ViT of" in err
    assert "with a convolutional stem, which helps most with few images; choose another one with --model" in err
    assert ("31 epochs instead of 30, because an epoch of 32 images has only 1 step, and a training should have 31"
            "\n") in err
    assert "after 31 steps" in out
    code, out, err = run(capsys, "train", "pets", "--epochs", "2", "--model", "vit_mini")
    assert "instead of" not in err
    assert "default model" not in err
    assert "after 2 steps" in out
    code, out, err = run(capsys, "train", "pets", "--epochs", "2", "--depth", "2")
    assert "default model" not in err


@pytest.mark.parametrize(("usual", "images", "batch_size", "epochs"), [
    (30, 1438, 64, 30), (30, 1000, 32, 30), (30, 100, 32, 200), (30, 40, 32, 600), (15, 60000, 128, 15),
    (1, 9, 3, 200)])
def test_a_training_has_at_least_600_steps(usual, images, batch_size, epochs):
    assert default_epochs(usual, images, batch_size) == epochs
    assert (explain_length(epochs, usual, images, batch_size) is None) == (epochs == usual)


def test_an_empty_folder_has_no_images(tmp_path):
    with pytest.raises(ValueError, match="holds no image files"):
        minivit.load_data(tmp_path, labels="none")


def test_labelled_images_are_the_same_for_a_seed_and_as_many_of_each_class(digits):
    def chosen(seed, **settings):
        return training_data(digits, {"val_fraction": 0.0, "seed": seed, "labelled": 7} | settings)

    first = chosen(0)
    np.testing.assert_array_equal(np.bincount(first.train_labels), [7] * 10)
    np.testing.assert_array_equal(chosen(0).train_images, first.train_images)
    assert not np.array_equal(chosen(1).train_images, first.train_images)
    known = {image.tobytes(): label for image, label in zip(digits.train_images, digits.train_labels, strict=True)}
    assert all(known[image.tobytes()] == label for image, label in zip(first.train_images, first.train_labels,
                                                                       strict=True))
    with_validation = chosen(0, val_fraction=0.5)
    assert len(with_validation.val_labels) > 700                      # it is set apart from all images first
    both = {image.tobytes() for image in with_validation.val_images} & {x.tobytes() for x in
                                                                        with_validation.train_images}
    assert not both
    assert chosen(0, labelled=0) is digits
    with pytest.raises(ValueError, match=r"class \d of digits has \d+ training images, fewer than labelled=200"):
        chosen(0, labelled=200)
