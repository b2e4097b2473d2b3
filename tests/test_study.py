"""Studies: tables that survive interruptions and refuse foreign results; the verdicts of trends.

The demos that use them run, too.
"""

import csv
import importlib.util
import math
import os
import re
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest

import minivit
from minivit.data import stratified_order, subset
from minivit.explain import Study
from minivit.explain.tools import trend
from minivit.explain.tools.plots import draw_groups, draw_scale

DEMOS = Path(__file__).parents[1] / "demos"
SETTINGS = {"epochs": 5, "models": {"vit": ["vit_mini", {"width": 8}]}}
POINTS = [{"model": model, "images": images, "seed": seed} for seed in (0, 1) for images in (100, 1000)
          for model in ('a "b", c', "vit")]


def measure(model, images, seed):
    """Stand in for a training: equal points give equal results, with all digits of a float."""
    return {"accuracy": math.log(images) / 10 + seed / 7 + len(model) / 300, "loss": 1 / images}


def without_seconds(file):
    lines = file.read_text().splitlines()
    return [line.rsplit(",", 1)[0] for line in lines]


def demo(name):
    """Import a demo and return its module."""
    spec = importlib.util.spec_from_file_location(name, DEMOS / f"{name}.py")
    module = sys.modules[name] = importlib.util.module_from_spec(spec)     # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


# ---- the table ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stops_at", [0, 3, 7])
def test_an_interrupted_study_resumes_to_the_same_table(tmp_path, stops_at):
    whole, broken, calls = Study(tmp_path / "whole.csv", SETTINGS), tmp_path / "broken.csv", []
    assert whole.run(POINTS, measure) == 0

    def interrupted(**point):
        calls.append(point)
        if len(calls) == stops_at + 1:
            raise KeyboardInterrupt
        return measure(**point)

    with pytest.raises(KeyboardInterrupt):
        Study(broken, SETTINGS).run(POINTS, interrupted)
    assert broken.exists() == (stops_at > 0)
    assert Study(broken, SETTINGS).run(POINTS, interrupted) == 0
    assert calls == [*POINTS[:stops_at + 1], *POINTS[stops_at:]]  # only the one that was not finished is measured twice
    assert without_seconds(broken) == without_seconds(whole.file)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["broken.csv", "whole.csv"]


@pytest.mark.parametrize("jobs", [2, 3])
def test_points_measured_in_parallel_give_the_same_table(tmp_path, jobs):
    alone, together = Study(tmp_path / "alone.csv", SETTINGS), Study(tmp_path / "together.csv", SETTINGS)
    assert alone.run(POINTS, measure) == 0
    assert together.run(POINTS, measure, limit=5, jobs=jobs) == 3
    assert Study(together.file, SETTINGS).run(POINTS, measure, jobs=jobs) == 0
    assert sorted(without_seconds(together.file)) == sorted(without_seconds(alone.file))


def fail(folder, seed):
    """Stand in for a training that fails for seeds 1 and 2. It creates a file when it starts."""
    (Path(folder) / str(seed)).touch()
    if seed == 1:
        raise FloatingPointError("a loss that is not finite")
    if seed == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    while seed >= 3 and not any((Path(folder) / name).exists() for name in "12"):
        time.sleep(0.01)                                              # the failing one may start late
    time.sleep(1 if seed >= 3 else 0)
    return {"accuracy": 0.5}


def test_no_further_point_starts_after_an_error(tmp_path):
    study, measure = Study(tmp_path / "t.csv", {}), partial(fail, tmp_path)
    with pytest.raises(FloatingPointError, match="not finite"):
        study.run([{"seed": s} for s in (0, 1, 3, 4, 5, 6)], measure, jobs=2)
    started = {int(file.name) for file in tmp_path.iterdir() if file.suffix != ".csv"}
    assert {0, 1} <= started <= {0, 1, 3}
    kept = {row["seed"] for row in study.rows}
    assert kept == {row["seed"] for row in Study(tmp_path / "t.csv", {}).rows}
    assert kept == started - {1}                                      # points that have started finish


def test_processes_end_with_the_one_that_started_them(tmp_path):
    (tmp_path / "study.py").write_text(f"""
import os, pathlib, time
from minivit.explain import Study
def measure(seed):
    pathlib.Path({str(tmp_path)!r}, f"{{os.getpid()}}.begun").touch()
    time.sleep(60)
if __name__ == "__main__":
    Study({str(tmp_path / "t.csv")!r}, {{}}).run([{{"seed": 0}}, {{"seed": 1}}], measure, jobs=2)
""")
    with subprocess.Popen([sys.executable, tmp_path / "study.py"]) as parent:
        begun = comes_true(lambda: len([*tmp_path.glob("*.begun")]) == 2)
        parent.kill()
    assert begun
    assert comes_true(lambda: not any(alive(int(mark.stem)) for mark in tmp_path.glob("*.begun")))


def comes_true(condition, seconds=30):
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.05)
    return condition()


def alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return not (stat := Path(f"/proc/{pid}/stat")).exists() or stat.read_text().rsplit(")", 1)[1].split()[0] != "Z"


def test_no_jobs_measure_nothing(tmp_path):
    with pytest.raises(ValueError, match="number of jobs must be a whole number at least 1, not 0"):
        Study(tmp_path / "t.csv", {}).run([{"seed": 0}], measure, jobs=0)


def test_a_killed_process_leaves_a_complete_table(tmp_path):
    code = """
import os, sys
from minivit.explain import Study
def measure(seed):
    if seed == 3:
        os.kill(os.getpid(), 9)
    return {"accuracy": seed / 3}
Study(sys.argv[1], {}).run([{"seed": seed} for seed in range(5)], measure)
"""
    assert subprocess.run([sys.executable, "-c", code, tmp_path / "t.csv"], capture_output=True).returncode == -9
    study = Study(tmp_path / "t.csv", {})
    assert study.by_seed("accuracy") == {0: 0, 1: 1 / 3, 2: 2 / 3}
    measured = []
    study.run([{"seed": seed} for seed in range(5)], lambda seed: measured.append(seed) or {"accuracy": 0.5})
    assert measured == [3, 4]


def test_a_table_reads_back_as_it_was_and_tells_of_its_progress(tmp_path, capsys):
    study = Study(tmp_path / "t.csv", SETTINGS)
    assert study.run(POINTS, measure, limit=3) == 5
    assert study.run(POINTS, measure, limit=0) == 5
    again = Study(tmp_path / "t.csv", SETTINGS)
    assert again.rows == study.rows
    assert [{name: row[name] for name in ("accuracy", "loss")}
            for row in again.rows] == [measure(**point) for point in POINTS[:3]]
    assert again.run(POINTS, measure) == 0
    printed = capsys.readouterr().err
    assert "3 of 8 points already" in printed
    assert "8 of 8: model vit, images 1000, seed 1: accuracy 0.8436, loss 0.001; 0 s; about 0 seconds left" in printed
    assert again.by_seed("accuracy", model="vit", images=100) == {seed: measure("vit", 100, seed)["accuracy"]
                                                                  for seed in (0, 1)}
    assert again.by_seed("accuracy", model="vit", images=101) == {}
    assert again.run([], measure) == 0


def test_the_table_is_plain_csv(tmp_path):
    Study(tmp_path / "t.csv", SETTINGS).run(POINTS, measure)
    first, *lines = (tmp_path / "t.csv").read_text().splitlines()
    assert first == '# {"epochs": 5, "models": {"vit": ["vit_mini", {"width": 8}]}}'
    rows = list(csv.DictReader(lines))
    assert [row["model"] for row in rows] == [point["model"] for point in POINTS]
    assert [int(row["images"]) for row in rows] == [point["images"] for point in POINTS]


def test_more_seeds_join_the_table(tmp_path):
    Study(tmp_path / "t.csv", SETTINGS).run(POINTS[:4], measure)
    study, measured = Study(tmp_path / "t.csv", SETTINGS), []
    assert study.run(POINTS, lambda **point: measured.append(point) or measure(**point)) == 0
    assert measured == POINTS[4:]


@pytest.mark.parametrize("change", [{"epochs": 6}, {"models": {"vit": ["vit_mini", {"width": 9}]}}, {"lr": 1}])
def test_other_settings_are_refused(tmp_path, change):
    file = tmp_path / "t.csv"
    Study(file, SETTINGS).run(POINTS, measure)
    before, name = file.read_bytes(), next(iter(change))
    with pytest.raises(ValueError,
                       match=rf"t\.csv was made with other settings.*: {name} \(.* there, .* here\)\. Move it away"):
        Study(file, SETTINGS | change)
    with pytest.raises(ValueError, match=rf"{next(iter(SETTINGS))} \(5 there, None here\)"):
        Study(file, {"models": SETTINGS["models"]})
    assert file.read_bytes() == before


@pytest.mark.parametrize("value", [True, None, "two\nlines", "two\rlines", [1]])
def test_values_that_the_table_cannot_store_are_refused(tmp_path, value):
    study, measured = Study(tmp_path / "t.csv", SETTINGS), []
    with pytest.raises(ValueError, match="numbers and texts of one line, but model is "):
        study.run([{"model": value, "seed": 0}], measured.append)
    with pytest.raises(ValueError, match="numbers and texts of one line, but accuracy is "):
        study.run([{"model": "vit", "seed": 0}], lambda **_: {"accuracy": value})
    assert not measured
    assert not study.file.exists()


def test_any_text_of_one_line_reads_back(tmp_path):
    points = [{"model": text, "seed": 0} for text in ("Modèle", "a\u2028b", 'a "b", c', "")]
    Study(tmp_path / "t.csv", SETTINGS).run(points, lambda **_: {"accuracy": np.float32(0.5)})
    assert [row["model"] for row in Study(tmp_path / "t.csv", SETTINGS).rows] == [point["model"] for point in points]


def test_points_of_another_kind_are_refused(tmp_path):
    Study(tmp_path / "t.csv", SETTINGS).run(POINTS, measure)
    with pytest.raises(ValueError, match="has the columns model, images, seed, accuracy, loss, seconds, but its points "
                                         "here begin with model, lr, seed"):
        Study(tmp_path / "t.csv", SETTINGS).run([{"model": "vit", "lr": 1.0, "seed": 0}], measure)
    with pytest.raises(ValueError, match="limit of points must be a whole number at least 0, not -1"):
        Study(tmp_path / "t.csv", SETTINGS).run(POINTS, measure, limit=-1)


@pytest.mark.parametrize(("damage", "line"), [
    (lambda text: "", 1),
    (lambda text: text[text.index("\n") + 1:], 1),
    (lambda text: text[:20], 1),
    (lambda text: "# []\n" + text, 2),
    (lambda text: "\0" + text, 1),
    (lambda text: text[:text.index("\n", 70)], 2),
    (lambda text: text[:-12], 10),
    (lambda text: text[:-1], 10),
    (lambda text: text.replace('"vit",100,0', "vit,100,0"), 4),
    (lambda text: text.replace('"vit",100,0', '"vit",100'), 4),
    (lambda text: text.replace('"vit",100,0', '\n"vit",100,0'), 4),
    (lambda text: text + '"vit",5', 11),
], ids=["empty", "no settings", "half the settings", "other settings", "a zero", "no rows", "cut off", "no end of line",
                                "no quotes",
        "a value lost", "an empty line", "half a row"])
def test_a_damaged_table_is_a_clear_error(tmp_path, damage, line):
    file = tmp_path / "t.csv"
    Study(file, SETTINGS).run(POINTS, measure)
    file.write_text(damage(file.read_text()))
    before = file.read_bytes()
    with pytest.raises(
        ValueError,
        match=rf"t\.csv is damaged in line {line} \(.*\): restore an earlier copy, or delete it and start again"):
        Study(file, SETTINGS)
    assert file.read_bytes() == before


def test_bytes_that_are_not_text_are_a_damaged_table(tmp_path):
    (tmp_path / "t.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match=r"t\.csv is damaged"):
        Study(tmp_path / "t.csv", SETTINGS)


def test_a_table_that_cannot_be_written_names_its_file(tmp_path):
    study = Study(tmp_path / "nowhere" / "t.csv", SETTINGS)
    with pytest.raises(OSError, match=r"nowhere/t\.csv"):
        study.run(POINTS, measure)
    assert study.rows == []


def test_rows_with_other_results_are_refused(tmp_path):
    study = Study(tmp_path / "t.csv", {})
    for results in ({"accuracy": 0.5, "loss": 1.0}, {"loss": 1.0}, {"loss": 1.0, "accuracy": 0.5}):
        with pytest.raises(ValueError, match="has the columns seed, accuracy, seconds, but a new row has seed, "):
            study.run([{"seed": 0}, {"seed": 1}], lambda seed, found=results: found if seed else {"accuracy": 0.5})
    assert [row["seed"] for row in Study(study.file, {}).rows] == [0]


def test_a_second_process_neither_measures_nor_overwrites(tmp_path):
    study, other, points = Study(tmp_path / "t.csv", {}), Study(tmp_path / "t.csv", {}), [{"seed": 0}, {"seed": 1}]

    def measure_twice(seed):
        with pytest.raises(OSError, match=r"another process is writing .*t\.csv: wait until it has ended"):
            other.run(points, lambda **_: pytest.fail("it was measured"))
        return {"accuracy": 0.5}

    assert study.run(points, measure_twice) == 0
    assert other.run([*points, {"seed": 2}], lambda seed: {"accuracy": seed / 2}) == 0        # only the new one
    assert Study(tmp_path / "t.csv", {}).by_seed("accuracy") == {0: 0.5, 1: 0.5, 2: 1.0}
    assert [file.name for file in tmp_path.iterdir()] == ["t.csv"]


def test_a_table_that_changes_during_a_study_is_not_overwritten(tmp_path):
    study = Study(tmp_path / "t.csv", {})

    def measure_and_change(seed):
        if seed:
            study.file.write_text(study.file.read_text() + "9,0.25,0\n")
        return {"accuracy": 0.5}

    with pytest.raises(ValueError, match=r"t\.csv was changed by another program, so nothing was added to it"):
        study.run([{"seed": 0}, {"seed": 1}], measure_and_change)
    assert Study(study.file, {}).by_seed("accuracy") == {0: 0.5, 9: 0.25}


# ---- subsets ------------------------------------------------------------------------------------------------------


def test_subsets_are_stratified_and_nested():
    labels = np.random.default_rng(0).permutation(np.repeat(np.arange(4), [400, 300, 200, 100]))
    order = stratified_order(labels, seed=0)
    assert sorted(order) == list(range(1000))
    for count in (10, 57, 500, 999):
        counts = np.bincount(labels[order[:count]], minlength=4)
        assert np.abs(counts - count * np.array([0.4, 0.3, 0.2, 0.1])).max() <= 1
    assert not np.array_equal(order, stratified_order(labels, seed=1))
    assert np.array_equal(order, stratified_order(labels, seed=0))


def test_a_subset_has_the_original_length_and_no_other_images():
    data = minivit.load_data("digits")
    small, large = subset(data, 100, seed=3), subset(data, 400, seed=3)
    image_sets = [{image.tobytes() for image in part.train_images} for part in (small, large)]
    assert len(image_sets[0]) == 100
    assert image_sets[0] < image_sets[1]
    assert len(small.train_labels) == len(data.train_labels)
    assert np.bincount(small.train_labels[:100], minlength=10).tolist() == pytest.approx([10] * 10, abs=1)
    assert small.test_images is data.test_images
    whole = subset(data, len(data.train_labels), seed=3)
    assert whole.digest == data.digest                                    # the same images in another order
    assert whole.source is None
    for count in (0, 2.5, len(data.train_labels) + 1):
        with pytest.raises(ValueError, match="number of training images must be a whole number"):
            subset(data, count, seed=0)


# ---- what a trend says --------------------------------------------------------------------------------------------


def gap(lines, sizes=(100, 1000, 10000)):
    """Return {N: {seed: start + slope log10 N}}, for lines {seed: (start, slope)}."""
    return {size: {seed: start + slope * math.log10(size) for seed, (start, slope) in lines.items()} for size in sizes}


def test_the_slope_is_that_of_the_seeds_lines():
    slope, error, start = trend.slope(gap({0: (0.5, -0.10), 1: (0.4, -0.13), 2: (0.6, -0.07)}))
    assert slope == pytest.approx(-0.10)
    assert error == pytest.approx(0.03 / math.sqrt(3))
    assert start == pytest.approx(0.5)


def test_the_slope_is_by_least_squares_and_takes_the_sizes_that_a_seed_has():
    slope, error, _ = trend.slope({10: {0: 1.0, 1: 5.0}, 100: {0: 1.0}, 1000: {0: 4.0}})      # seed 1 has one size only
    assert slope == pytest.approx(1.5)
    assert math.isnan(error)
    with pytest.raises(ValueError, match="a seed with at least two numbers of images: found none"):
        trend.slope({10: {0: 1.0}, 100: {1: 2.0}})


def test_mean_error_and_pairs():
    assert trend.mean_and_error([1, 2, 3]) == pytest.approx((2, 1 / math.sqrt(3)))
    assert math.isnan(trend.mean_and_error([2])[1])
    with pytest.raises(ValueError, match="at least one value: no values were given"):
        trend.mean_and_error([])
    assert trend.paired({0: 3, 1: 5, 2: 9}, {1: 1, 2: 2, 3: 3}) == {1: 4, 2: 7}
    assert trend.decided({0: 1.0, 1: 1.1}) == 1
    assert trend.decided({0: -1.0, 1: -1.1}) == -1
    assert trend.decided({0: 0.1, 1: -0.05}) == 0
    assert trend.decided({0: 9.0}) == 0                                   # a single seed decides nothing
    assert trend.decided({0: 0.1, 1: 0.2, 2: 0.3}) == 0  # 3.5 standard errors, but of three numbers only


@pytest.mark.parametrize("seeds", [2, 3, 6, 12])
def test_without_a_difference_one_study_in_twenty_is_significant(seeds):
    rng = np.random.default_rng(seeds)
    found = np.mean([trend.decided(dict(enumerate(numbers))) != 0 for numbers in rng.standard_normal((4000, seeds))])
    assert found == pytest.approx(0.05, abs=0.012)


@pytest.mark.parametrize(("differences", "words"), [
    (gap({0: (0.5, -0.10), 1: (0.505, -0.10)}), "do not cross: the CNN is ahead at every size from 100 to 10,000 "
                                                "images"),
    (gap({0: (-0.5, 0.10), 1: (-0.505, 0.10)}), "do not cross: the ViT is ahead at every size"),
    (gap({0: (0.35, -0.10), 1: (0.352, -0.10)}),
     "cross between 1,000 and 10,000 images: the CNN is ahead at 1,000, and the ViT at 10,000[.]"),
    (gap({0: (-0.25, 0.10), 1: (-0.252, 0.10)}), "cross between 100 and 1,000 images: the ViT is ahead at 100, and the "
                                                 "CNN at 1,000[.]"),
    (gap({0: (0.3, -0.10), 1: (0.31, -0.10), 2: (0.29, -0.10)}),              # undecided between
     "cross between 100 and 10,000 images: the CNN is ahead at 100, and the ViT at 10,000; at 1,000 of 3 sizes nothing "
     "is shown"),
    ({10: {0: -0.5, 1: -0.5}, 20: {0: 0.5, 1: 0.5}, 30: {0: 0.1, 1: -0.1}},
     "cross between 10 and 20 images: the ViT is ahead at 10, and the CNN at 20; at 30 of 3 sizes nothing is shown"),
    (gap({0: (0.401, -0.10), 1: (0.399, -0.10)}), "No crossing is shown.*the CNN is ahead; at 10,000 of 3 sizes "
                                                  "nothing is shown"),
    (gap({0: (0.1, 0.0), 1: (-0.1, 0.0)}), "Nowhere from 100 to 10,000 images is a difference between the CNN and the "
                                           "ViT shown"),
    (gap({0: (0.5, -0.10)}), "every number of images needs at least two seeds"),
])
def test_the_verdict_claims_only_what_was_measured(differences, words):
    sentence = trend.verdict(differences, "the CNN", "the ViT")
    assert re.search(words, sentence), sentence
    assert (trend.crossing(differences) is not None) == ("cross between" in sentence)


def test_figures_of_a_study_at_any_stage(tmp_path):
    whole = gap({0: (0.5, 0.10), 1: (0.55, 0.10)})
    one = {100: {0: 0.5}}
    for name, arguments in {"whole": ({"CNN": whole, "ViT": whole}, {"CNN - ViT": whole},
                                      {"CNN - ViT": trend.slope(whole)},
                                      {"100 images": {"CNN": {0: 0.4, 1: 0.6}}, "1,000 images": {"ViT": {0: 0.7}}}),
                            "first": ({"CNN": one, "ViT": {}}, {}, {}, {})}.items():
        draw_scale(*arguments, tmp_path / f"{name}.png")
        draw_groups(arguments[-1], tmp_path / f"{name}-groups.png")
    assert all(file.read_bytes().startswith(b"\x89PNG") for file in tmp_path.iterdir())
    assert len([*tmp_path.iterdir()]) == 4


# ---- the demos ----------------------------------------------------------------------------------------------------


def test_the_study_of_scale_is_fair():
    scale = demo("11_scale")
    for plan in (*scale.PLANS.values(), scale.QUICK):
        assert set(plan.tuned) <= set(plan.sizes)  # augmentation is compared with points of the main part
        assert len({(point["model"], point["images"], point["lr"])
                    for point in plan.tuning_points}) == len(plan.tuning_points)
        for model in plan.models:
            tried = [(point["images"], point["lr"]) for point in plan.tuning_points if point["model"] == model]
            assert tried == [(size, lr) for size in plan.tuned for lr in plan.learning_rates]
        assert len(plan.points) == len(plan.seeds) * (3 * len(plan.sizes) + 2 * len(plan.tuned))
    assert all(len(plan.seeds) >= 3 and len(plan.sizes) >= 6 for plan in scale.PLANS.values())


def test_the_best_learning_rate_is_chosen_for_each_model_and_size(tmp_path):
    scale = demo("11_scale")
    plan = scale.PLANS["fashion-mnist"]
    best = {point: plan.learning_rates[i % 3] for i, point in enumerate((model, size) for model in plan.models
                                                               for size in plan.tuned)}

    def accuracy(model, images, lr):
        return {"accuracy": 1 - abs(math.log(lr / best[model, images]))}

    Study(tmp_path / "tuning.csv", plan.settings).run(plan.tuning_points, accuracy, limit=5)
    with pytest.raises(ValueError, match=r"not finished: found 5 points in .*tuning\.csv, expected 36, run .* --tune"):
        scale.best_learning_rates(plan, tmp_path / "tuning.csv")
    Study(tmp_path / "tuning.csv", plan.settings).run(plan.tuning_points, accuracy)
    rates = scale.best_learning_rates(plan, tmp_path / "tuning.csv")
    assert {(model, size): lr for model, by_size in rates.items() for size, lr in by_size.items()} == best


def test_the_sweep_uses_the_learning_rate_of_the_nearer_size(tmp_path, monkeypatch):
    scale, taken = demo("11_scale"), {}
    plan = scale.PLANS["fashion-mnist"]
    monkeypatch.setattr(minivit, "load_data", lambda name: None)
    monkeypatch.setattr(scale, "train", lambda plan, data, model, images, *_, lr,
                        **__: taken.update({images: lr}) or {"accuracy": 0.5})
    rates = {model: {1500: 1.0, 30000: 2.0} for model in plan.models}
    study, left = scale.sweep(plan, tmp_path / "scale.csv", rates, None)
    assert left == 0
    assert len(study.rows) == 66
    assert taken == {500: 1.0, 1500: 1.0, 5000: 1.0, 15000: 2.0, 30000: 2.0, 60000: 2.0}
    assert scale.sweep(plan, tmp_path / "scale.csv", rates, None)[1] == 0
    with pytest.raises(ValueError, match=r"other settings.*rates"):
        scale.sweep(plan, tmp_path / "scale.csv", rates | {scale.VIT: {1500: 1.5, 30000: 2.0}}, None)


def test_no_test_image_is_used_to_choose_a_learning_rate(tmp_path, monkeypatch):
    scale, seen = demo("11_scale"), []
    monkeypatch.setattr(scale, "train", lambda plan, data, *_,
                        **__: seen.append(data) or {"parameters": 1, "accuracy": 0.5, "loss": 1.0})
    scale.tune(scale.QUICK, tmp_path / "t.csv", 1)
    whole = minivit.load_data("digits")
    parts = [{image.tobytes() for image in images} for images in (seen[0].train_images, seen[0].test_images,
                                                                  whole.test_images)]
    assert len(seen[0].test_images) == pytest.approx(len(whole.train_images) / 6, abs=6)
    assert not parts[0] & parts[1]
    assert not (parts[0] | parts[1]) & parts[2]


def test_few_labels_are_tuned_on_validation_images_and_both_ways_get_the_same_labels():
    few = demo("22_few_labels")
    plan, whole = few.PLANS["digits"], minivit.load_data("digits", seed=20)
    tuned, tested = (few.labelled_part(plan, 20, tuning) for tuning in (True, False))
    for part in (tuned, tested):
        assert len(part.train_labels) == few.BATCH * few.STEPS_PER_EPOCH
        _, first = np.unique(part.train_images, axis=0, return_index=True)
        assert np.bincount(part.train_labels[first]).tolist() == [10] * 10
    assert len(tuned.test_images) == 1
    np.testing.assert_array_equal(tested.test_images, whole.test_images)
    validation = {image.tobytes() for image in tuned.val_images}
    assert len(validation) > 400
    assert not validation & {image.tobytes() for image in [*whole.test_images, *tuned.train_images]}
    assert {(p["lr"], p["steps"]) for p in plan.tuning_points if p["way"] == few.SCRATCH} == {
        (p["lr"], p["steps"]) for p in plan.tuning_points if p["way"] == few.PRETRAINED}
    assert not set(plan.seeds) & set(plan.tuning_seeds)


def test_a_missing_teacher_is_trained(tmp_path):
    distillation = demo("12_distillation")
    plan = distillation.Plan("digits", (100,), (0,), epochs=0.2, batch_size=32, augment="none", widths=(8, 12), depth=1)
    table, left = distillation.study(plan, tmp_path / "t.csv", tmp_path / "teachers", limit=3)
    assert left == 1
    run, other = tmp_path / "teachers" / "teacher-100-seed0", tmp_path / "elsewhere"
    assert minivit.load(run).vector.size == table.rows[0]["parameters"]
    again, left = distillation.study(plan, tmp_path / "t.csv", other, limit=None)
    assert left == 0
    assert (other / run.name / "model.safetensors").read_bytes() == (run / "model.safetensors").read_bytes()
    assert [row["role"] for row in again.rows] == [*plan.models]
    assert len({row["loss"] for row in again.rows}) == 4                  # each is trained on something else


# ---- the study of tasks on generated images -------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tasks():
    sys.path.insert(0, str(DEMOS))                                    # where its Mixer is
    try:
        return demo("21_when_a_vit_wins")
    finally:
        sys.path.remove(str(DEMOS))


def test_the_gradients_of_the_mixer_are_right_and_its_flops_are_those_of_its_matrices(tasks):
    options = {"image_size": 8, "patch_size": 4, "channels": 1, "classes": 3, "width": 6, "depth": 2, "hidden": 5}
    model = tasks.Mixer(**options).pack(np.float64, 0)
    assert minivit.gradcheck(model, np.random.default_rng(0).standard_normal((2, 8, 8, 1))).ok
    assert model.flops == 2 * (4 * 16 * 6 + 2 * (6 * 2 * 4 * 5 + 4 * 2 * 6 * 12) + 6 * 3)


def test_all_models_of_the_study_have_equally_many_parameters(tasks):
    data = minivit.load_data("shapes:texture:50")
    counts = {name: tasks.make_model(name, data, 0).vector.size for name in tasks.MODELS}
    assert max(counts.values()) < 1.11 * min(counts.values()), counts


def with_accuracies(tasks, file, accuracy, seeds=3):
    """A study whose accuracies are a function of (task, model, images, change) and a little of the seed."""
    def measure(task, model, images, change, seed):
        found = accuracy(task, model, images, change)
        return {"accuracy": found + 0.001 * seed, "elsewhere": found - 0.1 + 0.001 * seed}

    study = Study(file, {})
    study.run([point for point in tasks.SHORT.points if point["seed"] < seeds], measure)
    return tasks.Results(tasks.SHORT, study)


def verdicts(tasks, results):
    return [prediction.verdict(results).split(": ")[-1] for prediction in tasks.PREDICTIONS]


def as_predicted(tasks):
    """Return accuracies as the theory has them."""
    def accuracy(task, model, images, change):
        known, grown = np.log2(images) / 100, (images > 2**12) * 0.1
        if change == tasks.PERMUTED:
            few = (model == tasks.CNN) * (images == 2**10) * 0.3
            return 0.5 + known + few - 0.2 * (model in (tasks.CNN, tasks.COARSE, tasks.STEM, tasks.SWIN))
        if task in ("texture", "count", "path"):
            return 0.5 + known + {tasks.CNN: 0.3 - grown, tasks.STEM: 0.25}.get(model, 0)
        if task == "position":
            return 0.1 if model == tasks.BAG else 0.5 + known + (0.3 - grown) * (model == tasks.VIT)
        return 0.5 + (1 if task == "same-cells" else 0.5) * known * (1 + (model == tasks.VIT))
    return accuracy


def test_predictions_are_confirmed_refuted_or_open_as_the_numbers_are(tasks, tmp_path):
    accuracy = as_predicted(tasks)
    found = verdicts(tasks, with_accuracies(tasks, tmp_path / "as.csv", accuracy))
    *first, halves, permuted = found
    assert [*first, permuted] == ["confirmed"] * (len(tasks.PREDICTIONS) - 1)
    assert halves == "open"                                           # all lose 10 points in the other half
    reverse = with_accuracies(tasks, tmp_path / "reverse.csv", lambda *point: 1 - accuracy(*point))
    assert verdicts(tasks, reverse).count("confirmed") <= 2           # "by less than" stays true
    assert "refuted" in verdicts(tasks, reverse)
    one = with_accuracies(tasks, tmp_path / "one.csv", accuracy, seeds=1)
    assert {*verdicts(tasks, one)} == {"open"}                        # a single seed shows nothing
    none = tasks.Results(tasks.SHORT, Study(tmp_path / "none.csv", {}))
    assert {prediction.verdict(none) for prediction in tasks.PREDICTIONS} == {"not measured yet"}


def test_seeds_that_were_added_after_a_look_count_alone(tasks, tmp_path):
    few, again = tasks.SHORT.sizes[0], tasks.SHORT.again
    points = [point for point in tasks.SHORT.points if (point["task"], point["change"]) == ("texture", tasks.PERMUTED)]
    assert {point["seed"] for point in points if point["images"] == few} == {*tasks.SHORT.seeds, *again}
    assert {point["images"] for point in points if point["seed"] in again} == {few}
    study = Study(tmp_path / "look.csv", {})
    study.run(points, lambda task, model, images, change, seed: {
        "accuracy": 0.5 + 0.1 * (model == tasks.CNN) * (seed in tasks.SHORT.seeds)})
    results = tasks.Results(tasks.SHORT, study)
    assert results.lead("texture", tasks.CNN, tasks.VIT, few, tasks.PERMUTED) == dict.fromkeys(again, 0.0)
    most = results.lead("texture", tasks.CNN, tasks.VIT, results.most, tasks.PERMUTED)
    assert most == pytest.approx(dict.fromkeys(tasks.SHORT.seeds, 0.1))


def test_images_needed_are_interpolated_over_their_logarithm(tasks):
    curve = {1000: 0.2, 10_000: 0.4, 100_000: 0.8}
    assert tasks.images_needed(curve, 0.6) == pytest.approx(10_000 * math.sqrt(10))
    assert (tasks.images_needed(curve, 0.1), tasks.images_needed(curve, 0.9)) == (1000, None)


def test_learning_rates_are_those_of_the_best_validation_of_a_finished_tuning(tasks, tmp_path):
    plan, study = tasks.QUICK, Study(tmp_path / "tuning.csv", {})
    points = plan.tuning_points
    study.run(points[:1], lambda task, model, images, lr: {"accuracy": 0.5})
    rates = tasks.best_rates(plan, study)
    assert rates == {"texture": {tasks.COARSE: {2**7: 3e-3}}}
    assert tasks.rate_of(plan, rates, "texture", tasks.COARSE, 2**9) == 3e-3
    assert tasks.rate_of(plan, rates, "texture", tasks.BAG, 2**9) is None    # those of the ViT are not chosen
    table = Study(tmp_path / "table.csv", {})
    table.run(plan.points[:1], lambda **point: {"lr": 1e-3})
    with pytest.raises(ValueError, match=r"the learning rate 0\.001 for CNN of stride 2 on texture, .* 0\.003 now"):
        tasks.check_rates(plan, rates, table)


def test_changed_images_are_those_of_the_change(tasks):
    plain, permuted = (tasks.draw("texture", 20, 3, "test", change) for change in (tasks.NONE, tasks.PERMUTED))
    np.testing.assert_array_equal(plain[1], permuted[1])
    assert (plain[0] != permuted[0]).any()

    def pieces(images):
        return np.sort([hash(piece.tobytes()) for image in images.reshape(-1, 4, 4, 4, 4).swapaxes(2, 3)
                        for piece in image.reshape(16, 16)])

    np.testing.assert_array_equal(pieces(plain[0]), pieces(permuted[0]))
    left, right = (tasks.draw("texture", 20, 3, part, tasks.HALF)[0] for part in ("train", "elsewhere"))
    assert left.shape == right.shape == (20, 16, 16, 1)
    _, _, places = minivit.data.draw_shapes("texture", 144, 3, part="train")
    assert len(left) == len(places[places[:, 1] < tasks.LEFT][:20])
