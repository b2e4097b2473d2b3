"""The evaluation in numbers, and the report: one page that needs no other file and shows what was measured."""

import base64
import dataclasses
import io
import json
import re
import shutil
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

import minivit
from minivit import cli
from minivit.common.html import LARGEST, image_element
from minivit.ops import softmax
from minivit.training.evaluation import KEPT_MISTAKES, Evaluation, evaluate
from minivit.training.evaluation_text import SHOWN_MISTAKES, class_table, describe_evaluation, evaluation_text
from minivit.training_pipeline.folder import RunFolder
from minivit.training_pipeline.results import report
from minivit.training_pipeline.results.embedding import SHOWN_MISTAKES as SHOWN_MISTAKES_NEAR
from minivit.training_pipeline.results.embedding import SHOWN_NEIGHBOURS
from minivit.training_pipeline.results.evaluate_run import evaluate_run

pytestmark = pytest.mark.usefixtures("no_curve")
TINY = {"image_size": 8, "patch_size": 4, "channels": 1, "classes": 10, "width": 16, "depth": 1, "heads": 2,
        "mlp_ratio": 2}
VOID = {"meta", "img", "link", "br", "line", "polyline", "circle"}


class Page(HTMLParser):
    """The content of an HTML page. Asserts that elements are closed in the right order."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.images, self.tables, self.text = [], [], [], [], ""
        self.feed(text)
        self.close()
        assert not self.open, f"not closed: {self.open}"

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.tags.append((tag, attributes))
        if tag not in VOID:
            self.open.append(tag)
        if tag == "img":
            kind, content = attributes["src"].split(",", 1)
            assert kind == "data:image/png;base64"
            self.images.append((attributes["alt"],
                                  np.asarray(Image.open(io.BytesIO(base64.b64decode(content, validate=True))))))
        elif tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.tables[-1][-1].append("")

    def handle_startendtag(self, tag, attributes):
        assert tag in VOID
        self.tags.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "style" in self.open:
            return
        self.text += data
        if self.open and self.open[-1] in ("td", "th"):
            self.tables[-1][-1][-1] += data


def train(folder, data="digits", **settings):
    model = minivit.create_model("vit", **TINY) if data == "digits" else settings.pop("model")
    return minivit.train(model, data, out=folder, progress=False, **({"epochs": 3, "batch_size": 64} | settings))


@pytest.fixture(scope="module")
def trained(tmp_path_factory, no_curve):
    """The folder of a run, its result, and its report."""
    folder = tmp_path_factory.mktemp("report") / "run"
    result = train(folder, command="minivit train digits --epochs 3")
    return folder, result, (folder / "report.html").read_text()


# ---- the evaluation ---------------------------------------------------------------------------------------


def test_precision_and_recall_of_each_class(trained):
    _, result, _ = trained
    digits = minivit.load_data("digits")
    predicted = result.model.predict(digits.test_images).argmax(axis=1)
    rows = describe_evaluation(result.test, digits.class_names)["classes"]
    for k, row in enumerate(rows):
        of_class, predicted_as = digits.test_labels == k, predicted == k
        right = (of_class & predicted_as).sum()
        assert row["class"] == str(k)
        assert row["images"] == of_class.sum()
        assert row["recall"] == right / of_class.sum()
        assert row["precision"] == (right / predicted_as.sum() if predicted_as.any() else None)


def test_worst_mistakes_are_those_where_the_true_class_is_least_probable(trained):
    _, result, _ = trained
    digits = minivit.load_data("digits")
    probabilities, _ = softmax.reference_forward(result.model.predict(digits.test_images).astype(np.float64))
    wrong = np.flatnonzero(probabilities.argmax(axis=1) != digits.test_labels)
    assert len(wrong) > KEPT_MISTAKES                 # the model is tiny
    mistakes = result.test.mistakes
    assert len(mistakes) == KEPT_MISTAKES
    assert {m.index for m in mistakes} <= set(wrong)
    losses = [probabilities[m.index, m.true] for m in mistakes]
    assert losses == sorted(losses)
    assert max(losses) <= min(probabilities[i, digits.test_labels[i]] for i in set(wrong) - {m.index for m in mistakes})
    for m in mistakes:
        assert (m.true, m.predicted) == (digits.test_labels[m.index], probabilities[m.index].argmax())
        assert m.probability == pytest.approx(probabilities[m.index].max(), rel=1e-5)
        np.testing.assert_array_equal(m.image, digits.test_images[m.index])


class Oracle:
    """A model whose logits are pixels of the images."""

    classes = 3

    def predict(self, images, threads=None):
        return images[:, 0, :, 0].astype(np.float64)


def test_recall_or_precision_of_zero_images_is_nan():
    images = np.zeros((4, 3, 3, 1), np.uint8)
    images[:, 0, 0] = 9
    evaluation = evaluate(Oracle(), images, np.array([0, 0, 1, 1]))
    assert evaluation.accuracy == 0.5
    np.testing.assert_array_equal(evaluation.support, [2, 2, 0])
    np.testing.assert_array_equal(evaluation.recall, [1, 0, np.nan])
    np.testing.assert_array_equal(evaluation.precision, [0.5, np.nan, np.nan])
    assert evaluation.most_confused() == [(2, 1, 0)]
    assert [line.split()
            for line in class_table(evaluation, ["a", "b", "c"]).splitlines()[2:]] == [
                ["b", "2", "-", "0.0%"], ["c", "0", "-", "-"]]
    described = json.loads(json.dumps(describe_evaluation(evaluation, ["a", "b", "c"])))
    assert described["classes"][2] == {"class": "c", "images": 0, "precision": None, "recall": None}


@pytest.mark.parametrize(("images", "right", "words"), [
    (24, 24, "accuracy 100.00% (at least 88.26% with 95% confidence) on 24 images"),
    (24, 0, "accuracy 0.00% (at most 11.74% with 95% confidence) on 24 images"),
    (1, 1, "accuracy 100.00% (at least 5.00% with 95% confidence) on 1 image"),
    (100_000, 100_000, "accuracy 100.00% (at least 99.99% with 95% confidence) on 100000 images"),
    (24, 23, "accuracy 95.83% +- 4.08% on 24 images"),
])
def test_accuracies_of_0_and_1_have_a_bound_instead_of_a_standard_error(images, right, words):
    evaluation = Evaluation(right / images, images, np.zeros((2, 2), int), [])
    assert str(evaluation) == words
    assert describe_evaluation(evaluation,
                               "ab")["standard_error"] == pytest.approx(
                                   np.sqrt(right * (images - right) / images) / images)


def test_text_of_many_classes_lists_the_most_frequent_confusions():
    class Many(Oracle):
        classes = 40

    images = np.zeros((30, 3, 40, 1), np.uint8)
    images[:, 0, 5] = 9
    text = evaluation_text(evaluate(Many(), images, np.repeat([5, 7, 8], [18, 9, 3])), [f"c{k}" for k in range(40)])
    assert "most frequent confusions\n     9 true c7, predicted c5\n     3 true c8, predicted c5\n\n" in text
    assert text.endswith("\ntest image 22: true c7, predicted c5 (100%)")
    assert len(text.splitlines()) == 1 + 40 + 2 + 3 + 1 + 1 + SHOWN_MISTAKES


# ---- the page ---------------------------------------------------------------------------------------------


def test_page_is_well_formed_and_needs_no_other_file(trained):
    _, _, text = trained
    page = Page(text)
    assert {tag for tag, _ in page.tags}.isdisjoint({"script", "link", "iframe", "object", "base"})
    assert not re.search(r"https?://|url\(|@import|src=\"(?!data:)|href=", text)
    viewport = [attributes for tag, attributes in page.tags if tag == "meta" and attributes.get("name") == "viewport"]
    assert viewport[0]["content"].startswith("width=device-width")
    for style in ("prefers-color-scheme: dark", "@media print"):
        assert style in text
    assert all(attributes.get("alt") for tag, attributes in page.tags if tag == "img")


def test_page_shows_the_measured_numbers(trained):
    folder, result, text = trained
    page = Page(text)
    words = " ".join(page.text.split())
    assert f"{result.accuracy:.2%} ± {result.test.standard_error:.2%}" in words
    assert "on 359 held-out test images" in words
    assert "minivit train digits --epochs 3" in words
    confusion, classes, *_ = page.tables
    np.testing.assert_array_equal([[int(cell or 0) for cell in row[1:]] for row in confusion[1:]],
                                  result.test.confusion)
    assert [row[1] for row in classes[1:]] == [f"{count}" for count in result.test.support]
    settings = {row[0]: row[1] for table in page.tables[3:] for row in table}
    config = json.loads((folder / "config.json").read_text())
    assert {"batch_size": "64", "steps": "66", "width": "16",
            "python": config["versions"]["python"]}.items() <= settings.items()


def test_images_in_the_page_are_the_mistakes_and_the_samples(trained):
    _, result, text = trained
    shown = Page(text).images
    digits = minivit.load_data("digits")
    near = SHOWN_MISTAKES_NEAR * (1 + SHOWN_NEIGHBOURS)               # see test_embedding.py
    assert len(shown) == KEPT_MISTAKES + near + 10 * report.SAMPLES
    for mistake, (words, image_shown) in zip(result.test.mistakes, shown, strict=False):
        np.testing.assert_array_equal(image_shown, mistake.image[..., 0])
        assert words.startswith(f"true {mistake.true}, predicted {mistake.predicted} (")
    for k in range(10):
        words, image_shown = shown[KEPT_MISTAKES + near + k * report.SAMPLES]
        assert words == str(k)
        np.testing.assert_array_equal(image_shown, digits.train_images[digits.train_labels == k][0, ..., 0])


def test_curves_go_through_the_records(trained):
    folder, _, text = trained
    records = RunFolder(folder).read_log()
    lines = [attributes["points"] for tag, attributes in Page(text).tags if tag == "polyline"]
    loss, accuracy, test_accuracy = ([tuple(map(float, point.split(","))) for point in line.split()] for line in lines)
    for line, name in ((loss, "loss"), (accuracy, "accuracy"), (test_accuracy, "test_accuracy")):
        assert len(line) == len(records)
        heights, values = np.array([y for _, y in line]), np.array([r[name] for r in records])
        assert [x for x, _ in line] == sorted({x for x, _ in line})
        # The y coordinate is linear in the value and decreases.
        slope, intercept = np.polyfit(values, heights, 1)
        assert slope < 0
        np.testing.assert_allclose(slope * values + intercept, heights, atol=0.1)
    assert all(0 <= x <= 420 and 0 <= y <= 240 for line in (loss, accuracy, test_accuracy) for x, y in line)


@pytest.mark.parametrize(("low", "high"), [(0, 2.3), (10, 100), (98.2, 99.4), (5, 5), (0, 0), (0, 1e-5), (-1, 1),
                                           (1, 300), (0.3, 0.9)])
def test_ticks_are_few_round_numbers_that_enclose_the_values(low, high):
    ticks = report._ticks(low, high)
    assert ticks[0] <= low + 1e-9
    assert ticks[-1] >= high - 1e-9
    assert 2 <= len(ticks) <= 8
    steps = np.diff(ticks)
    assert (steps > 0).all()
    np.testing.assert_allclose(steps, steps[0], rtol=1e-6)


def test_names_cannot_break_the_page(tmp_path):
    rng, names = np.random.default_rng(0), ["<script>alert(1)</script>", "a & \"b\" 'c'", "ünï $title ${x}"]
    np.savez(tmp_path / "evil.npz", images=rng.integers(0, 256, (60, 8, 8, 3), np.uint8), labels=np.arange(60) % 3,
             class_names=names)
    train(tmp_path / "run", tmp_path / "evil.npz",
          model=minivit.create_model("vit", **(TINY | {"classes": 3, "channels": 3})), epochs=1,
          command="minivit train '</pre><b>'")
    page = Page((tmp_path / "run" / "report.html").read_text(encoding="utf-8"))
    assert {"script", "b"}.isdisjoint(tag for tag, _ in page.tags)
    assert [row[0] for row in page.tables[1][1:]] == names
    assert "minivit train '</pre><b>'" in page.text
    assert all(image_shown.shape == (8, 8, 3) for _, image_shown in page.images)


@pytest.mark.parametrize(("channels", "classes"), [(2, 2), (4, 2), (1, report.TABLE_CLASSES + 2)])
def test_any_channels_and_many_classes_have_a_page(tmp_path, channels, classes):
    rng = np.random.default_rng(0)
    labels = np.arange(10 * classes) % classes
    np.savez(tmp_path / "data.npz", images=rng.integers(0, 256, (len(labels), 8, 8, channels), np.uint8), labels=labels)
    model = minivit.create_model("vit", **(TINY | {"classes": classes, "channels": channels}))
    train(tmp_path / "run", tmp_path / "data.npz", model=model, epochs=1, batch_size=16)
    page = Page((tmp_path / "run" / "report.html").read_text())
    assert page.images[0][1].shape == ((8, 8, 4) if channels == 4 else (8, 8))
    shapes = [image_shown.shape for words, image_shown in page.images if words == "confusion matrix"]
    assert shapes == ([(classes, classes)] if classes > report.TABLE_CLASSES else [])


def test_large_images_are_shrunk():
    image = np.zeros((300, 200, 3), np.uint8)
    image[:, 100:] = 255
    [(words, image_shown)] = Page(image_element(image, "large")).images
    assert words == "large"
    assert image_shown.shape == (LARGEST, LARGEST * 2 // 3, 3)
    assert image_shown[:, :40].max() == 0
    assert image_shown[:, 45:].min() == 255


def test_a_model_without_mistakes_has_a_page(trained):
    digits, model = minivit.load_data("digits"), minivit.load(trained[0])
    right = model.predict(digits.test_images).argmax(axis=1) == digits.test_labels
    easy = dataclasses.replace(digits, test_images=digits.test_images[right], test_labels=digits.test_labels[right])
    evaluation = evaluate(model, easy.test_images, easy.test_labels)
    assert evaluation.standard_error == 0
    bound = f"(at least {np.floor(1e4 * 0.05 ** (1 / right.sum())) / 1e4:.2%} with 95% confidence)"
    assert str(evaluation) == f"accuracy 100.00% {bound} on {right.sum()} images"
    text = report.make_report(RunFolder(trained[0]).config(), model, [], easy, list(easy.class_names), evaluation)
    assert "All images were classified correctly." in Page(text).text
    assert f"100.00% {bound}" in Page(text).text
    assert "The bound covers the choice of the images only." in " ".join(Page(text).text.split())
    assert "standard error" not in Page(text).text
    assert "Learning curves" not in text         # no records


# ---- the commands -----------------------------------------------------------------------------------------


def test_evaluate_writes_the_same_page_as_training(trained, tmp_path, capsys):
    folder, _, text = trained
    assert cli.main(["evaluate", str(folder), "--report", str(tmp_path / "page.html")]) == 0
    assert (tmp_path / "page.html").read_text() == text
    assert f"the worst mistakes as images: {tmp_path / 'page.html'}\n" in capsys.readouterr().out


def test_evaluate_prints_each_class_and_the_mistakes(trained, capsys):
    folder, result, _ = trained
    assert cli.main(["evaluate", str(folder)]) == 0
    out = capsys.readouterr().out
    assert evaluation_text(result.test, list("0123456789")) in out
    assert str(folder / "report.html") in out
    assert cli.main(["evaluate", str(folder), "--json"]) == 0
    described = describe_evaluation(result.test, list("0123456789"))
    assert described["learned"] == 0
    assert json.loads(capsys.readouterr().out) == json.loads(json.dumps(described))


def test_evaluate_offers_no_images_of_mistakes_if_there_are_none(trained, tmp_path, capsys):
    digits, model = minivit.load_data("digits"), minivit.load(trained[0])
    right = model.predict(digits.test_images).argmax(axis=1) == digits.test_labels
    np.savez(tmp_path / "easy.npz", images=digits.test_images[right], labels=digits.test_labels[right])
    assert cli.main(["evaluate", str(trained[0]), str(tmp_path / "easy.npz"), "--report",
                     str(tmp_path / "page.html")]) == 0
    said = capsys.readouterr().out
    assert "mistakes" not in said
    assert said.endswith(f"\nreport: {tmp_path / 'page.html'}\n")


def test_page_on_other_data_states_their_name(trained, tmp_path, capsys):
    folder, _, _ = trained
    digits = minivit.load_data("digits")
    np.savez(tmp_path / "other.npz", images=digits.test_images[:50], labels=digits.test_labels[:50])
    assert cli.main(["evaluate", str(folder), str(tmp_path / "other.npz"), "--report",
                     str(tmp_path / "page.html")]) == 0
    assert "on 50 images of other.npz" in " ".join(Page((tmp_path / "page.html").read_text()).text.split())


def test_page_warns_if_images_were_used_for_training(trained, tmp_path):
    digits = minivit.load_data("digits")
    np.savez(tmp_path / "other.npz", images=digits.train_images, labels=digits.train_labels)
    evaluate_run(RunFolder(trained[0]), tmp_path / "other.npz", report=tmp_path / "page.html")
    text = Page((tmp_path / "page.html").read_text()).text
    assert f"{trained[0]} was trained or validated on 1438 of these 1438 images" in text
    assert "trained or validated on" not in Page(trained[2]).text


def test_page_of_an_unfinished_run_says_so(trained, tmp_path):
    folder = shutil.copytree(trained[0], tmp_path / "run")
    (folder / "model.safetensors").unlink()
    evaluate_run(RunFolder(folder), report=tmp_path / "page.html")
    assert "is not finished: this is its checkpoint after step 66 of 66" in Page(
        (tmp_path / "page.html").read_text()).text


def test_page_of_a_run_with_minutes_states_the_epochs(tmp_path):
    train(tmp_path / "run", epochs=None, minutes=0.002, command="minivit train digits --minutes 0.002")
    text = Page((tmp_path / "run" / "report.html").read_text()).text
    steps, epochs = re.search(r"these (\d+) steps, pass --epochs ([\d.]+) instead\.", text).groups()
    assert round(float(epochs) * (1438 // 64)) == int(steps)
    settings = {row[0]: row[1] for table in Page((tmp_path / "run" / "report.html").read_text()).tables
                for row in table if len(row) == 2}
    assert settings["epochs"] == epochs


@pytest.mark.parametrize(("settings", "kept"), [
    ({"ema": 0.9}, "the moving average (EMA) of the weights after the last step"),
    ({"patience": 1}, "the weights of the epoch with the best validation accuracy"),
], ids=str)
def test_page_says_which_weights_were_kept(tmp_path, settings, kept):
    train(tmp_path / "run", **settings)
    page = Page((tmp_path / "run" / "report.html").read_text())
    assert kept in " ".join(page.text.split())
    validated = "patience" in settings
    assert len([tag for tag, _ in page.tags if tag == "polyline"]) == 3 + validated
    assert ("validation images" in page.text) == validated


def test_page_of_one_epoch_has_a_point_and_its_number(tmp_path):
    train(tmp_path / "run", epochs=0.2)
    page = Page((tmp_path / "run" / "report.html").read_text())
    points = [(float(a["cx"]), float(a["cy"])) for tag, a in page.tags if tag == "circle" and "style" not in a]
    assert len(points) == 3
    assert all(48 <= x <= 408 and 12 <= y <= 206 for x, y in points)
    assert re.search(r">1</text><text [^>]*>epoch<", (tmp_path / "run" / "report.html").read_text())


def test_the_page_of_an_older_run_takes_the_defaults_of_settings_that_it_lacks(trained, tmp_path):
    folder = shutil.copytree(trained[0], tmp_path / "run")
    config = json.loads((folder / "config.json").read_text())
    for name in ("patience", "label_smoothing", "ema"):
        del config["training"][name]
    (folder / "config.json").write_text(json.dumps(config))
    assert cli.main(["evaluate", str(folder), "--report", str(tmp_path / "page.html")]) == 0
    assert "with the weights after the last step" in Page((tmp_path / "page.html").read_text()).text


def test_a_config_without_the_number_of_steps_is_refused(trained, tmp_path, capsys):
    folder = shutil.copytree(trained[0], tmp_path / "run")
    config = json.loads((folder / "config.json").read_text())
    del config["training"]["steps"]
    (folder / "config.json").write_text(json.dumps(config))
    assert cli.main(["evaluate", str(folder), "--report", str(tmp_path / "page.html")]) == 2
    assert "config.json is damaged: it lacks steps" in capsys.readouterr().err


@pytest.mark.parametrize("length", [{"epochs": 0.2}, {"epochs": None, "minutes": 0.001}], ids=str)
def test_page_of_a_run_from_python_shows_the_calls(tmp_path, length):
    steps = train(tmp_path / "run", **length).steps
    text = Page((tmp_path / "run" / "report.html").read_text()).text
    code = text[text.index("import minivit"):].split("\n\n")[0].splitlines()[:4]
    names = {}
    exec("\n".join(code).replace("minivit.train(", "result = minivit.train("), names)   # the shown calls repeat the run
    assert names["result"].steps == steps
    np.testing.assert_array_equal(names["model"].vector, minivit.load(tmp_path / "run").vector)


def test_the_calls_of_the_page_repeat_the_run_once_they_have_its_seed(tmp_path):
    model = minivit.create_model("vit_mini_patch2_8", seed=5, dtype=np.float64)
    minivit.train(model, "digits", out=tmp_path / "run", epochs=0.1, progress=False)
    text = Page((tmp_path / "run" / "report.html").read_text()).text
    assert "If yours were not those of seed 0, pass your seed to create_model" in text
    code, names = "\n".join(text[text.index("import minivit"):].splitlines()[:4]), {}
    exec(code.replace("seed=0", "seed=5", 1), names)
    assert names["model"].dtype == model.dtype
    np.testing.assert_array_equal(names["model"].vector, model.vector)


def test_a_page_that_cannot_be_written_is_reported(trained, tmp_path, capsys):
    assert cli.main(["evaluate", str(trained[0]), "--report", str(tmp_path / "nowhere" / "page.html")]) == 2
    assert re.fullmatch(r"minivit: error: .*page\.html: No such file or directory\n", capsys.readouterr().err)
