"""What `train` returns and shows: the result in a console and in a notebook, the learning curve, and the progress."""

import io
import re
import sys
import types

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image
from tqdm import tqdm

import minivit
from minivit.training_pipeline.progress import progress_bar

TINY = {"image_size": 8, "patch_size": 4, "channels": 1, "classes": 10, "width": 16, "depth": 1, "heads": 2,
        "mlp_ratio": 2}


def train(**settings):
    options = {"epochs": 2, "batch_size": 64, "progress": False} | settings
    return minivit.train(minivit.create_model("vit", **TINY), "digits", **options)


@pytest.fixture(scope="module")
def result():
    return train(augment="flip", val_fraction=0.1, label_smoothing=0.1)


def test_repr_is_one_short_line(result):
    text = repr(result)
    assert re.fullmatch(r"Result\(accuracy \d+\.\d\d% \+- \d\.\d\d% on 359 images, 40 steps in \d+\.\d s \([\d,]+ "
                        r"images/s\)\)", text)
    assert len(text) < 120


def test_notebook_shows_a_table_and_the_curve(result):
    page = result._repr_html_()
    assert [f"<th>{name}</th>" in page for name in ("test", "test, with flip", "validation", "training loss",
                                                    "steps")] == [True] * 5
    assert f"{result.accuracy:.2%}" in page
    assert page.count('src="data:image/png;base64,') == 1
    assert len(page) < 100_000


def test_plot_is_a_figure_that_a_notebook_displays(result):
    figure = result.plot()
    assert isinstance(figure, Figure)
    with Image.open(io.BytesIO(figure._repr_png_())) as image:
        assert len(np.unique(np.asarray(image.convert("L")))) > 10
    loss, accuracy = figure.axes
    assert loss.lines[0].get_ydata().tolist() == [record["loss"] for record in result.records]
    names = ("accuracy", "test_accuracy", "val_accuracy")
    drawn = [line.get_ydata().tolist() for line in accuracy.lines]
    assert drawn == [[100 * record[name] for record in result.records] for name in names]


def test_result_has_the_log(result):
    assert [record["step"] for record in result.records] == [20, 40]
    assert result.records[-1]["loss"] == result.loss
    assert 0 < result.loss_floor < result.loss


def test_patience_says_which_epoch_is_kept():
    result = train(epochs=6, patience=1, warmup=0)
    accuracies = [record["val_accuracy"] for record in result.records]
    assert result.kept_record == int(np.argmax(accuracies))
    assert result.validation.accuracy == max(accuracies)


# ---- progress ---------------------------------------------------------------------------------------------------


def test_a_notebook_gets_a_progress_bar_without_a_terminal(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "ipykernel", types.ModuleType("ipykernel"))
    monkeypatch.setitem(sys.modules, "ipywidgets", None)              # not installed: text instead of a widget
    train(progress=True)
    said = capsys.readouterr().err
    assert "images/s" in said
    assert "100%" in said
    assert "epoch 1/2:" not in said                                   # no line for each epoch beside the bar
    train(progress=False)
    assert capsys.readouterr().err == ""


def test_a_notebook_with_widgets_gets_a_widget(monkeypatch):
    made = []
    monkeypatch.setitem(sys.modules, "ipykernel", types.ModuleType("ipykernel"))
    monkeypatch.setitem(sys.modules, "ipywidgets", types.ModuleType("ipywidgets"))
    notebook = types.ModuleType("tqdm.notebook")
    notebook.tqdm = lambda **options: made.append(options) or tqdm(disable=True)
    monkeypatch.setitem(sys.modules, "tqdm.notebook", notebook)
    progress_bar(True, total=5).close()
    assert made == [{"total": 5}]
    progress_bar(False, total=5).close()
    assert len(made) == 1


def test_test_images_that_are_also_training_images_are_noted(tmp_path, capsys):
    digits = minivit.load_data("digits")
    data = minivit.data.Dataset("twice", digits.train_images, digits.train_labels, digits.train_images[:200],
                                digits.train_labels[:200],
                                digits.class_names)
    minivit.train(minivit.create_model("vit", **TINY), data, epochs=0.1, out=tmp_path / "run")
    assert "note: 200 of the 200 test images are also training or validation images" in capsys.readouterr().err
