"""The benchmark: it measures equal work, says what it measured, and its profile adds up."""

import json

import numpy as np
import pytest

from minivit import bench, cli


@pytest.fixture(scope="module")
def result():
    pytest.importorskip("threadpoolctl")
    return bench.bench(["digits"], ["minivit"], threads=1, seconds=0.05, rounds=1)


def test_rates_and_shares_follow_from_the_seconds(result):
    part = result["shapes"]["digits"]
    row = part["contestants"]["minivit"]["train"]
    assert row["images_per_second"] == pytest.approx(64 / row["seconds"])
    assert row["flops_per_second"] == pytest.approx(3 * 4_761_856 * 64 / row["seconds"])
    assert row["share_of_limit"] == pytest.approx(row["flops_per_second"] / part["limits"]["numpy"])
    assert row["quartiles"][0] <= row["seconds"] <= row["quartiles"][1]
    assert row["minivit_is_faster_by"] == 1
    assert 0 < row["share_of_limit"] < 1
    assert part["contestants"]["minivit"]["peak_memory"] > 10 * 2**20


def test_the_table_shows_every_row(result):
    text = bench.table(result)
    assert "digits, batch 64" in text
    assert text.count("minivit ") >= 2
    assert json.loads(json.dumps(result)) == result


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

    bench._agree("same", Fake([[1.0, 2.0]]), Fake([[1.0, 2.0005]]))
    with pytest.raises(RuntimeError, match="computes something else"):
        bench._agree("other", Fake([[1.0, 2.0]]), Fake([[1.0, 2.1]]))


def test_a_process_that_fails_is_named(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(RuntimeError, match="minivit failed"):
        bench._Process("minivit", 1, tmp_path).ask("logits")


def test_the_profile_adds_up_and_leaves_the_ops_as_they_were():
    from minivit.ops import linear
    before = linear.forward, np.matmul
    result = bench.profile("digits", steps=2)
    assert (linear.forward, np.matmul) == before
    assert 0 < sum(row["products"] for row in result["rows"]) < sum(row["seconds"] for row in result["rows"]) < result["step"]
    calls = {(row["op"], row["pass"]): row["calls"] for row in result["rows"]}
    assert calls["linear", "forward"] == calls["linear", "backward"] == 2 * (4 * 4 + 2)
    assert "not matrix products" in bench.profile_table(result)


def test_a_pinned_blas_is_warned_of(monkeypatch):
    monkeypatch.setenv("OPENBLAS_CORETYPE", "Haswell")
    assert "OPENBLAS_CORETYPE=Haswell" in bench.describe_machine(1)["warnings"][0]
    monkeypatch.delenv("OPENBLAS_CORETYPE")
    monkeypatch.delenv("OPENBLAS_L2_SIZE", raising=False)
    assert not [w for w in bench.describe_machine(1)["warnings"] if "pins" in w]


@pytest.mark.parametrize(("arguments", "words"), [
    (["--shape", "digit"], "unknown shape 'digit': did you mean 'digits'"),
    (["--contestant", "tensorflow"], "unknown contestant 'tensorflow'"),
    (["--rounds", "0"], "number of rounds must be a whole number at least 1"),
    (["--seconds", "-1"], "seconds must be a finite number above 0"),
    (["--profile", "--shape", "x"], "unknown shape 'x'"),
])
def test_bad_input_is_answered_with_one_line(arguments, words, capsys):
    assert cli.main(["bench", *arguments]) == 2
    error = capsys.readouterr().err
    assert error.startswith("minivit: error: ")
    assert words in error
    assert error.count("\n") == 1
