"""Images, patches, windows and grids of any (H, W): in every family, file and run, and at another size than trained.

What timm computes at other sizes is stored in `timm_sizes.npz`, which `make_timm_sizes.py` makes.
"""

import json

import numpy as np
import pytest
from make_timm_sizes import CASES, PLACE, drawn, images
from PIL import Image
from test_parity import difference

import minivit
from minivit import cli
from minivit.common.sizes import check_pair, compact, parse_size, size_as_python, size_in_words
from minivit.data.image_files import read_image_files
from minivit.explain import attention_grids, attention_probabilities, mean_distance, readout_maps, rollout
from minivit.models.create import declare_model
from minivit.models.small import fit
from minivit.ops.sincos import sincos_2d
from minivit.parallel.prediction import not_replayed
from minivit.training.augment.affine import Affine
from minivit.weight_formats.match import resized_grid
from minivit.weight_formats.timm import from_timm, match_timm, read_weights, to_timm, write_weights

OBLONG = {
    "vit": {"image_size": (8, 12), "patch_size": 2, "width": 12, "depth": 2, "heads": 3},
    "vit with biases": {"image_size": (8, 12), "patch_size": (4, 2), "width": 12, "depth": 2, "heads": 3,
                        "relative_bias": True, "pool": "mean", "positions": "sincos"},
    "vit with rotary positions": {"image_size": (8, 12), "patch_size": (4, 2), "width": 12, "depth": 2, "heads": 3,
                                  "positions": "rotary", "registers": 1},
    "vit with a stem": {"image_size": (4, 16), "patch_size": 4, "width": 12, "depth": 2, "heads": 3, "stem": "conv"},
    "vit of signals": {"image_size": (1, 48), "patch_size": (1, 4), "width": 12, "depth": 2, "heads": 3},
    "deit": {"image_size": (4, 12), "patch_size": 2, "width": 12, "depth": 2, "heads": 3},
    "swin": {"image_size": (10, 14), "patch_size": 2, "width": 8, "depths": (2, 2), "heads": (2, 2), "window": (2, 3)},
    "swin of signals": {"image_size": (1, 22), "patch_size": 1, "width": 8, "depths": (2, 2), "heads": (2, 2),
                        "window": 4},
    "resnet": {"image_size": (9, 20), "layers": [1, 1], "width": 8, "block": "basic", "reduction": 2, "groups": 4},
}


def oblong(name, seed=0, **more):
    """A model of OBLONG with random weights in all layers."""
    model = minivit.create_model(name.split()[0], **({"channels": 1, "classes": 3} | OBLONG[name] | more), seed=seed)
    rng = np.random.default_rng(seed)
    model.vector[:] += 0.2 * rng.standard_normal(model.vector.size, np.float32)
    return model


def pixels(*shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


# ---- sizes -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("value", "pair", "kept", "text", "words"), [
    (28, (28, 28), 28, "28", "28x28"), ((16, 32), (16, 32), [16, 32], "(16, 32)", "16x32"),
    ([5, 5], (5, 5), 5, "5", "5x5"), (np.int64(3), (3, 3), 3, "3", "3x3"),
])
def test_a_size_is_a_pair_and_a_square_is_written_as_one_number(value, pair, kept, text, words):
    assert check_pair("size", value) == pair
    assert (compact(pair), size_as_python(pair), size_in_words(pair)) == (kept, text, words)
    assert json.loads(json.dumps(compact(check_pair("size", value)))) == kept


@pytest.mark.parametrize(("text", "size"), [("32", 32), ("16x32", (16, 32)), (" 16 X 32 ", (16, 32)),
                                            ("16,32", (16, 32))])
def test_sizes_are_read_as_they_are_typed(text, size):
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "x", "16x", "16x32x3", "a", "1.5", "16*32"])
def test_what_is_no_size_is_refused(text):
    with pytest.raises(ValueError, match="a size is one number, such as 32, or rows x columns, such as 16x32, not "):
        parse_size(text)


# ---- models ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", OBLONG)
def test_every_family_takes_oblong_images(name, tmp_path, monkeypatch):
    monkeypatch.delenv("MINIVIT_REPLAY", raising=False)
    model = oblong(name)
    size = OBLONG[name]["image_size"]
    x, labels = pixels(4, *size, 1), np.arange(4) % 3
    assert (model.image_size, model.input_shape) == (size, (*size, 1))
    assert model.config["image_size"] == list(size)
    assert model.summary().flops == model.flops
    assert f"image_size={size}" in repr(model)
    logits = model.forward(x)
    np.testing.assert_allclose(model.predict(x), logits, rtol=1e-4, atol=1e-5)
    assert not not_replayed(model)
    trainer = minivit.Trainer(model.copy(), lr=1e-2)
    losses = [trainer.step(x, labels) for _ in range(30)]
    assert losses[-1] < 0.7 * losses[0]
    write_weights(tmp_path / "w.safetensors", model)
    again = minivit.create_model(name.split()[0], weights=tmp_path / "w.safetensors", **model.config)
    np.testing.assert_array_equal(again.vector, model.vector)


def test_the_rows_and_columns_of_an_image_are_not_exchanged():
    """A model of transposed images with transposed weights gives the same logits."""
    tall = oblong("vit", image_size=(12, 8), patch_size=(3, 2))
    wide = minivit.create_model("vit", **(tall.config | {"image_size": (8, 12), "patch_size": (2, 3)}))
    rows, columns = tall.grid
    for p, q in zip(wide.parameters(), tall.parameters(), strict=True):
        data = q.data
        if q.name == "pos_embed":
            grid = data[1:].reshape(rows, columns, -1).transpose(1, 0, 2)
            data = np.concatenate([data[:1], grid.reshape(rows * columns, -1)])
        elif q.name == "patch_embed.proj.weight":
            data = data.reshape(3, 2, -1).transpose(1, 0, 2).reshape(data.shape)
        p.data = data
    x = pixels(5, 12, 8, 1)
    np.testing.assert_allclose(wide.predict(x.transpose(0, 2, 1, 3)), tall.predict(x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("name", "size", "patch_size", "tokens"), [
    ("vit_mini", (28, 28), 4, 50), ("vit_mini", (16, 32), 4, 33), ("vit_mini", (32, 64), 8, 33),
    ("vit_mini", (1, 128), [1, 2], 65), ("vit_mini", (1, 1000), [1, 20], 51), ("vit_mini", (30, 21), 3, 71),
    ("swin_mini", (24, 40), 2, 240), ("swin_mini", (1, 96), 1, 96), ("swin_mini", (24, 24), 2, 144),
])
def test_small_models_choose_patches_for_any_size(name, size, patch_size, tokens):
    model = declare_model(name, image_size=size)
    assert (model.config["patch_size"], model.tokens) == (patch_size, tokens)


@pytest.mark.parametrize(("size", "message"), [
    ((37, 41), r"no patch size divides images of 37x41 pixels .*image_size=\(36, 40\)"),
    ((1, 257), r"no patch size divides images of 1x257 .*image_size=\(1, 258\)"),
    ((1, 1), r"images of 1x1 .*image_size=4"),
])
def test_a_size_without_patches_is_refused_with_one_that_has_them(size, message):
    with pytest.raises(ValueError, match=message):
        fit("vit_mini", size)


@pytest.mark.parametrize("name", ["vit_mini", "swin_mini"])
def test_patches_that_are_given_need_not_be_chosen(name):
    with pytest.raises(ValueError, match="no patch size divides"):
        declare_model(name, image_size=74)
    assert declare_model(name, image_size=74, patch_size=2).grid == (37, 37)


def test_the_patch_must_divide_both_sides():
    with pytest.raises(ValueError, match=r"the image size \(8, 12\) must be divisible by the patch size \(3, 4\): use "
                                         r"another patch size, or image_size=\(9, 12\)"):
        oblong("vit", patch_size=(3, 4))


def test_an_old_config_with_a_square_is_read_and_written_alike():
    model = minivit.create_model("vit", image_size=(8, 8), patch_size=(2, 2), channels=1, classes=3, width=8, depth=1,
                                 heads=2)
    assert (model.config["image_size"], model.config["patch_size"]) == (8, 2)
    assert minivit.create_model("vit", **model.config).config == model.config


# ---- positions -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("old", "new"), [((2, 8), (4, 4)), ((4, 4), (2, 8)), ((8, 2), (2, 8)), ((3, 5), (7, 4))])
@pytest.mark.parametrize("relative_bias", [False, True])
def test_positions_are_resized_between_any_two_grids(old, new, relative_bias, tmp_path):
    """Also between grids of equally many tokens, which an array alone does not tell apart."""
    sizes = {"patch_size": 1, "channels": 1, "classes": 3, "width": 8, "depth": 1, "heads": 2,
             "relative_bias": relative_bias}
    source = minivit.create_model("vit", image_size=old, seed=1, **sizes)
    write_weights(tmp_path / "w.safetensors", source)
    target = minivit.create_model("vit", image_size=new, weights=tmp_path / "w.safetensors", **sizes)
    expected = resized_grid(source.pos_embed.data, old, new, first=1)
    np.testing.assert_array_equal(target.pos_embed.data, expected)
    assert not np.array_equal(expected[:9], source.pos_embed.data[:9])
    rows = match_timm(to_timm(source), declare_model("vit", image_size=new, **sizes)).rows
    resized = {row.name.rpartition(".")[2] for row in rows if row.verdict == "resized"}
    assert resized == {"pos_embed"} | ({"relative_position_bias_table"} if relative_bias else set())


def test_weights_that_name_no_grid_are_taken_for_a_square():
    sizes = {"patch_size": 1, "channels": 1, "classes": 3, "width": 8, "depth": 1, "heads": 2}
    square, wide = (minivit.create_model("vit", image_size=size, seed=1, **sizes) for size in (4, (2, 8)))
    found = from_timm(dict(to_timm(square)), wide)
    np.testing.assert_array_equal(found["pos_embed"], resized_grid(square.pos_embed.data, (4, 4), (2, 8), first=1))
    other = minivit.create_model("vit", image_size=(3, 4), **sizes)       # 12 is no square: it is the model's own grid
    found = from_timm(dict(to_timm(other)), other)
    np.testing.assert_array_equal(found["pos_embed"], other.pos_embed.data)


def test_a_damaged_note_of_the_grids_is_no_crash(tmp_path):
    from minivit.weight_formats.safetensors_io import write_tensors
    model = oblong("vit")
    for note in ["{", "[]", '{"grids": 3}', '{"grids": {"pos_embed": "x"}}', '{"grids": {"pos_embed": [0, 3]}}']:
        write_tensors(tmp_path / "w.safetensors", to_timm(model), {"minivit": note})
        read_weights(tmp_path / "w.safetensors", model)
    write_tensors(tmp_path / "w.safetensors", to_timm(model), {"minivit": '{"grids": {"pos_embed": [3, 5]}}'})
    with pytest.raises(ValueError, match="1 another grid"):
        read_weights(tmp_path / "w.safetensors", model)


# ---- another size at inference ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def stored():
    with np.load(PLACE) as file:
        return {key: file[key] for key in file.files}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("name", "size"), [(name, size) for name, (_, sizes) in CASES.items() for size in sizes])
def test_other_sizes_give_timms_logits_tokens_and_features(stored, name, size, dtype):
    model = declare_model(name.split()[0], **CASES[name][0])
    tensors = {key: drawn(key, x.shape) for key, x in to_timm(model.copy()).items()}
    model.pack(dtype, values=from_timm(type(to_timm(model))(tensors, {}) if name != "vit by mean" else
                                       _named(tensors, model), model))
    x, key = images(size).astype(dtype), f"{name} {size[0]}x{size[1]}"
    # positions are interpolated in float32, here and there
    limit = 3e-5 if dtype == np.float32 else 1e-10 if size == model.image_size or "swin" in name else 1e-6
    assert difference(model.predict(x), stored[f"{key}.logits"]) <= limit
    assert difference(model.features(x), stored[f"{key}.features"]) <= limit
    assert difference(model.features(x, tokens=True), stored[f"{key}.tokens"]) <= max(limit, 1e-6)


def _named(tensors, model):
    """Tensors that name the grids of a model."""
    named = to_timm(model)
    named.update(tensors)
    return named


@pytest.mark.parametrize(("name", "size"), [("vit", (10, 16)), ("vit with biases", (8, 10)), ("deit", (6, 6)),
                                            ("swin", (18, 10)), ("resnet", (16, 11)), ("vit of signals", (1, 60))])
def test_a_model_at_another_size_has_the_weights_of_now(name, size):
    """Its weights are shared, and positions are interpolated again when they change. Copies do not share the views."""
    model = oblong(name)
    x, own = pixels(3, *size, 1), pixels(3, *model.image_size, 1, seed=1)
    first, at_home = model.predict(x), model.predict(own)
    np.testing.assert_array_equal(model.predict(x), first)
    np.testing.assert_array_equal(model.predict(own), at_home)
    other = model.copy()
    other.vector[:] *= 1.1
    assert np.abs(other.predict(x) - first).max() > 1e-3
    np.testing.assert_array_equal(model.predict(x), first)
    model.vector[:] *= 1.1
    np.testing.assert_array_equal(model.predict(x), other.predict(x))
    assert not any(name.startswith("_views") for name in model.__getstate__())


def test_sincos_positions_are_interpolated_for_another_size():
    model = oblong("vit with biases", relative_bias=False)
    twin = minivit.models.other_sizes.at_size_of(model, pixels(1, 16, 24, 1))
    np.testing.assert_allclose(twin.fixed_positions, resized_grid(sincos_2d(2, 6, 12), (2, 6), (4, 12)), atol=1e-6)


def test_many_sizes_do_not_fill_the_memory():
    model = oblong("vit")
    for columns in range(2, 30, 2):
        model.predict(pixels(1, 4, columns, 1))
    assert len(vars(model)["_views"]) == 4


def test_the_forward_of_a_training_takes_its_own_size_only():
    with pytest.raises(ValueError, match=r"= \(8, 12, 1\), not \(1, 8, 16, 1\); predict takes other sizes"):
        oblong("vit").forward(pixels(1, 8, 16, 1))
    with pytest.raises(ValueError, match=r"H and W divisible by the patch size 2, not \(1, 9, 16, 1\)"):
        oblong("vit").predict(pixels(1, 9, 16, 1))
    with pytest.raises(ValueError, match=r"= \(9, 20, 1\), or with H and W at least 1, not \(2, 0, 4, 1\)"):
        oblong("resnet").predict(np.zeros((2, 0, 4, 1), np.uint8))


# ---- explanations ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [name for name in OBLONG if name != "resnet"])
def test_attention_has_the_grid_of_the_image(name):
    model = oblong(name)
    probs, grids = attention_probabilities(model, pixels(2, *model.image_size, 1)), attention_grids(model)
    assert probs.keys() == grids.keys()
    for path, p in probs.items():
        assert readout_maps(p, grids[path]).shape[2:] == grids[path]
        # padding takes a share of the attention
        assert (p.sum(axis=-1) < 1 + 1e-5).all()
        distances = mean_distance(p, (2.0, 3.0), grids[path])
        assert (distances <= np.hypot(2 * (grids[path][0] - 1), 3 * (grids[path][1] - 1)) + 1e-6).all()
    through = rollout(list(probs.values()), list(grids.values()))
    assert through.shape[2] == model.tokens
    np.testing.assert_allclose(through.sum(axis=-1), 1, rtol=1e-6)


def test_rollout_at_an_odd_edge_by_hand():
    """Three columns become two: the second new token stands for the third column alone."""
    eye = np.eye(3)[None, None], np.eye(2)[None, None]
    np.testing.assert_allclose(rollout(list(eye), [(1, 3), (1, 2)])[0], [[0.5, 0.5, 0], [0, 0, 1]])
    with pytest.raises(ValueError, match=r"numbers of tokens are \[3, 1\]"):
        rollout([eye[0], np.eye(1)[None, None]], [(1, 3), (1, 1)])


def test_affine_keeps_a_signal_and_rotates_a_long_image_less():
    uniform = np.array([[1.0, 0.5, 0.5, 0.5]])

    def angle(size):
        return np.degrees(np.arcsin(Affine().motions(uniform, size)[0, 2]))

    assert angle((32, 32)) == pytest.approx(10)
    assert angle((16, 64)) == angle((64, 16)) == pytest.approx(2.5)
    signal = pixels(1, 1, 100, 1)
    _, _, sin, _, down, _ = Affine().motions(uniform, signal.shape[1:3])[0]
    assert abs(sin) * 50 < 0.1
    assert abs(down) < 0.1


# ---- data and runs ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("size", "box"), [((8, 16), (0, 10, 40, 30)), ((16, 8), (10, 0, 30, 40)),
                                           ((8, 8), (0, 0, 40, 40))])
def test_crop_takes_the_largest_rectangle_of_the_shape(tmp_path, size, box):
    image = Image.fromarray(pixels(40, 40, 3))
    image.save(tmp_path / "x.png")
    expected = np.asarray(image.resize(size[::-1], Image.Resampling.BICUBIC, box, reducing_gap=3.0))
    np.testing.assert_array_equal(read_image_files([tmp_path / "x.png"], size, 3)[0], expected)


def test_pad_and_stretch_fill_the_shape(tmp_path):
    Image.new("L", (20, 10), 200).save(tmp_path / "x.png")
    padded = read_image_files([tmp_path / "x.png"], (8, 8), 1, "pad")[0, ..., 0]
    assert [set(padded[rows].ravel()) for rows in (slice(0, 2), slice(2, 6), slice(6, 8))] == [{0}, {200}, {0}]
    assert set(read_image_files([tmp_path / "x.png"], (4, 8), 1, "pad").ravel()) == {200}
    wide = read_image_files([tmp_path / "x.png"], (2, 8), 1, "pad")[0, ..., 0]
    assert [set(wide[:, columns].ravel()) for columns in (slice(0, 2), slice(2, 6), slice(6, 8))] == [{0}, {200}, {0}]
    assert set(read_image_files([tmp_path / "x.png"], (6, 2), 1, "stretch").ravel()) == {200}


def bars(count, size, seed=0):
    """Images whose left or right half is brighter."""
    rng, labels, half = np.random.default_rng(seed), np.arange(count) % 2, size[1] // 2
    x = rng.integers(0, 120, (count, *size, 1), np.uint8)
    for image, label in zip(x, labels, strict=True):
        image[:, label * half:(label + 1) * half] += 100
    return x, labels


def save_npz(path, size, squeeze=False):
    x, labels = bars(120, size)
    np.savez(path, images=x[..., 0] if squeeze else x, labels=labels)


def save_idx(path, size):
    path.mkdir()
    for part, count in (("train", 100), ("t10k", 20)):
        x, labels = bars(count, size, seed=count)
        (path / f"{part}-images-idx3-ubyte").write_bytes(
            b"\x00\x00\x08\x03" + b"".join(n.to_bytes(4, "big") for n in (count, *size)) + x.tobytes())
        (path / f"{part}-labels-idx1-ubyte").write_bytes(
            b"\x00\x00\x08\x01" + count.to_bytes(4, "big") + labels.astype(np.uint8).tobytes())


def save_folder(path, size):
    x, labels = bars(120, size)
    for i, (image, label) in enumerate(zip(x, labels, strict=True)):
        (path / "ab"[label]).mkdir(parents=True, exist_ok=True)
        Image.fromarray(image[..., 0]).resize((size[1] * 2, size[0] * 2)).save(path / "ab"[label] / f"{i}.png")


@pytest.mark.parametrize(("kind", "options", "shape"), [
    ("npz", [], (8, 16)), ("npz", ["--model", "swin_mini"], (8, 16)), ("npz", ["--model", "resnet_mini"], (8, 16)),
    ("npz of signals", [], (1, 64)), ("idx", [], (8, 16)), ("folder", ["--image-size", "8x16"], (8, 16)),
    ("folder", ["--image-size", "8x16", "--fit", "pad", "--model", "deit_mini"], (8, 16)),
])
def test_oblong_images_are_learned_and_explained(kind, options, shape, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    source = {"npz": "x.npz", "idx": "idx", "fol": "pictures"}[kind[:3]]
    {"npz": save_npz, "idx": save_idx, "fol": save_folder}[kind[:3]](tmp_path / source, shape)
    epochs = [] if "--model" in options else ["--epochs", "12"]
    assert cli.main(["train", source, "--out", "run", "-q", *options, *(epochs or ["--epochs", "2"])]) == 0
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert config["model"]["options"]["image_size"] == list(shape)
    if kind == "folder":
        assert config["data"]["source"]["image_size"] == list(shape)
    model = minivit.load("run")
    assert model.image_size == shape
    capsys.readouterr()
    assert cli.main(["evaluate", "run", "--json"]) == 0
    accuracy = json.loads(capsys.readouterr().out)["accuracy"]
    assert accuracy > 0.9 or not epochs
    Image.fromarray(bars(1, shape)[0][0, ..., 0]).save("one.png")
    assert cli.main(["predict", "run", "0", "one.png"]) == 0
    assert cli.main(["train", source, "--out", "run", "-q", "--resume"]) == 0
    if "resnet_mini" not in options:
        assert cli.main(["attend", "run", "0", "one.png", "--out", "look.png"]) == 0
        assert cli.main(["tour", "run", "0", "--out", "tour.html"]) == 0


def test_a_run_of_squares_keeps_one_number_and_can_be_fine_tuned_on_oblong_images(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    save_npz(tmp_path / "square.npz", (8, 8), squeeze=True)
    save_npz(tmp_path / "wide.npz", (8, 16))
    assert cli.main(["train", "square.npz", "--epochs", "1", "--out", "a", "-q"]) == 0
    assert json.loads((tmp_path / "a/config.json").read_text())["model"]["options"]["image_size"] == 8
    assert cli.main(["train", "wide.npz", "--fine-tune", "a", "--epochs", "1", "--out", "b", "-q"]) == 0
    square, wide = minivit.load("a"), minivit.load("b")
    assert (square.grid, wide.grid) == ((4, 4), (4, 8))
    assert wide.tokens == 33


def test_what_does_not_fit_is_one_line_in_the_words_of_the_command_line(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    save_folder(tmp_path / "pictures", (8, 16))
    for size, message in [("8x", "a size is one number, such as 32, or rows x columns, such as 16x32, not '8x'"),
                          ("37x41", "use images of another size, such as --image-size 36x40"),
                          ("2x16", r"image size must be a whole number at least 4")]:
        assert cli.main(["train", "pictures", "--image-size", size, "--out", "r"]) == 2
        [line] = capsys.readouterr().err.splitlines()
        assert message in line
    assert not (tmp_path / "r").exists()
