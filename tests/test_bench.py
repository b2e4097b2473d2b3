"""The benchmark: it measures equal work, says what it measured, and its profile adds up."""

import json

import numpy as np
import pytest

from minivit import bench, cli
from minivit.bench import compare, machine, plot, scaling


@pytest.fixture(scope="module")
def result():
    pytest.importorskip("threadpoolctl")
    return bench.bench(["digits"], ["minivit"], threads=1, seconds=0.05, rounds=1)


def test_rates_and_shares_follow_from_the_seconds(result):
    part = result["shapes"]["digits"]
    row = part["contestants"]["minivit"]["train"]
    assert row["images_per_second"] == pytest.approx(64 / row["seconds"])
    assert row["flops_per_second"] == pytest.approx(3 * 4_761_856 * 64 / row["seconds"])
    assert row["share_of_limit"] == row["share_of_own_limit"] > 0
    assert row["quartiles"][0] <= row["seconds"] <= row["quartiles"][1]
    assert row["minivit_is_faster_by"] == 1
    assert 0 < row["share_of_limit"] < 1
    assert 0 < part["not_products"] < 1
    assert part["contestants"]["minivit"]["peak_memory"] > 10 * 2**20


def test_the_table_shows_every_row(result):
    text = bench.table(result)
    assert "digits, batch 64" in text
    assert text.count("minivit ") >= 2
    assert "is not matrix products" in text
    assert json.loads(json.dumps(result)) == result


def test_ratios_and_shares_are_medians_over_rounds_not_of_the_whole():
    times = {("minivit", "train"): [[1.0, 1.0], [10.0], [1.0]], ("torch", "train"): [[2.0], [20.0], [8.0]],
             ("limit-numpy", "train"): [[600.0], [60.0], [600.0]], ("limit-torch", "train"): [[300.0], [30.0], [300.0]]}
    part = compare._summarise(times, {"minivit": 1, "torch": 2}, flops=10, batch=4)
    ours, torch = part["contestants"]["minivit"]["train"], part["contestants"]["torch"]["train"]
    assert torch["minivit_is_faster_by"] == 2
    assert ours["seconds"] == 1
    assert ours["share_of_limit"] == pytest.approx(3 * 10 * 4 / 600)        # a slow round slows the limit too
    assert torch["share_of_own_limit"] == pytest.approx(3 * 10 * 4 / 2 / 300)


def test_torch_does_equal_work():
    pytest.importorskip("torch")
    part = bench.bench(["digits"], ["minivit", "torch"], threads=1, seconds=0.05, rounds=1)["shapes"]["digits"]
    assert not part["failed"]
    assert part["contestants"]["torch"]["train"]["minivit_is_faster_by"] > 0
    assert part["limits"]["torch"] > 0


def test_other_work_is_left_out():
    class Fake:
        def __init__(self, logits):
            self.logits = logits

        def ask(self, verb):
            return self.logits

    compare._agree("same", Fake([[1.0, 2.0]]), Fake([[1.0, 2.0005]]))
    with pytest.raises(RuntimeError, match="computes something else"):
        compare._agree("other", Fake([[1.0, 2.0]]), Fake([[1.0, 2.1]]))


def test_a_process_that_fails_is_named(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(RuntimeError, match="minivit failed"):
        compare._Process("minivit", 1, tmp_path).ask("logits")


def test_the_profile_adds_up_and_leaves_the_ops_as_they_were():
    from minivit.ops import linear
    before = linear.forward, np.matmul
    result = bench.profile("digits", steps=2)
    assert (linear.forward, np.matmul) == before
    assert 0 < sum(row["products"] for row in result["rows"]) < sum(row["seconds"] for row in result["rows"]) < result["step"]
    calls = {(row["op"], row["pass"]): row["calls"] for row in result["rows"]}
    assert calls["linear", "forward"] == calls["linear", "backward"] == 2 * (4 * 4 + 2)
    assert "not matrix products" in bench.profile_table(result)


def test_growth_covers_the_axes_and_expects_what_the_flops_say(monkeypatch):
    small = {"image_size": 8, "channels": 1, "patch_size": 4, "classes": 3, "width": 16, "depth": 1, "heads": 2, "mlp_ratio": 2}
    finer = small | {"patch_size": 2}
    monkeypatch.setattr(scaling, "AXES", {"batch": {2: (small, 2), 4: (small, 4)}, "tokens": {5: (small, 2), 17: (finer, 2)}})
    monkeypatch.setattr(scaling, "SHAPES", dict.fromkeys(["digits", "fashion", "cifar"], (small, 4)))
    result = bench.growth(seconds=0.01, rounds=1, threads=1)
    assert [(row["axis"], row["value"]) for row in result["rows"]] == [("batch", 2), ("batch", 4), ("tokens", 5), ("tokens", 17)]
    assert [row["relative"] for row in result["rows"][::2]] == [1, 1]
    assert [row["expected"] for row in result["rows"][:3]] == [1, 1, 1]
    assert 17 / 5 < result["rows"][3]["expected"] < (17 / 5) ** 2
    assert [row["shape"] for row in result["threads"]] == ["digits", "fashion", "cifar"]
    assert all(row["gain"] > 0 < row["expected"] for row in result["threads"])
    assert "products gain" in bench.growth_table(result)
    assert json.loads(json.dumps(result)) == result


def test_the_plot_shows_every_contestant(tmp_path, monkeypatch):
    monkeypatch.setattr(plot, "WIDTHS", (32,))
    result = bench.sizes(["minivit"], threads=1, seconds=0.01, rounds=1)
    bench.draw(result, tmp_path / "share.png")
    assert (tmp_path / "share.png").stat().st_size > 10_000
    assert 0 < result["sizes"][32]["contestants"]["minivit"]["train"]["share_of_limit"] < 1


def test_a_pinned_blas_is_warned_of(monkeypatch):
    monkeypatch.setenv("OPENBLAS_CORETYPE", "Haswell")
    assert "OPENBLAS_CORETYPE=Haswell" in machine.describe_machine(1)["warnings"][0]
    monkeypatch.delenv("OPENBLAS_CORETYPE")
    monkeypatch.delenv("OPENBLAS_L2_SIZE", raising=False)
    assert not [w for w in machine.describe_machine(1)["warnings"] if "pins" in w]


@pytest.mark.parametrize(("arguments", "words"), [
    (["--shape", "digit"], "unknown shape 'digit': did you mean 'digits'"),
    (["--contestant", "tensorflow"], "unknown contestant 'tensorflow'"),
    (["--rounds", "0"], "number of rounds must be a whole number at least 1"),
    (["--seconds", "-1"], "seconds must be a finite number above 0"),
    (["--profile", "--shape", "x"], "unknown shape 'x'"),
    (["--profile", "--shape", "base-1"], "base-1 is not trained here"),
    (["--growth", "--rounds", "0"], "number of rounds must be a whole number at least 1"),
    (["--plot", "x.png", "--contestant", "keras"], "unknown contestant 'keras'"),
    (["--plot", "x.png", "--threads", "0"], "number of threads must be a whole number at least 1"),
])
def test_bad_input_is_answered_with_one_line(arguments, words, capsys):
    assert cli.main(["bench", *arguments]) == 2
    error = capsys.readouterr().err
    assert error.startswith("minivit: error: ")
    assert words in error
    assert error.count("\n") == 1
