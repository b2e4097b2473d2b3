"""`minivit gradcheck`: the catalogue in one table, exit code 1 for a wrong gradient, one line for unknown names."""

import contextlib
import json

import numpy as np
import pytest

from minivit import cli
from minivit.gradcheck_catalogue import catalogue
from minivit.gradcheck_catalogue import runner as verification
from minivit.layers import LayerNorm


def test_everything_passes_in_a_table(capsys):
    assert cli.main(["gradcheck", "--method", "directional"]) == 0
    printed = capsys.readouterr().out
    assert all(check.name in printed for check in catalogue.CHECKS)
    assert printed.count("all pass") == 3
    assert "WRONG" not in printed


@pytest.mark.parametrize("method", verification.METHODS)
def test_json_has_the_same_results(capsys, method):
    assert cli.main(["gradcheck", "softmax", "LayerNorm", "--json", "--method", method, "--seed", "3"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["ok"]
    assert result["worst"] <= 1e-6
    assert {check["name"].split()[0] for check in result["checks"]} == {"softmax", "LayerNorm"}
    assert {check["kind"] for check in result["checks"]} == {"reference", "fast", "layer"}
    (layer,) = (check for check in result["checks"] if check["kind"] == "layer")
    assert [row["tensor"] for row in layer["rows"]] == ["x", "weight", "bias"]
    assert all(row["method"] == method and row["ok"] for row in layer["rows"])


def test_a_wrong_gradient_is_exit_code_1_and_is_named(capsys, monkeypatch):
    right = LayerNorm.backward
    monkeypatch.setattr(LayerNorm, "backward", lambda self, dy: 1.001 * right(self, dy))
    assert cli.main(["gradcheck", "LayerNorm", "gelu"]) == 1
    printed = capsys.readouterr().out
    assert "WRONG at" in printed
    assert "hint: the gradient is 1.001 times what it should be" in printed
    assert "1 FAIL" in printed
    assert cli.main(["gradcheck", "LayerNorm", "gelu", "--json"]) == 1
    result = json.loads(capsys.readouterr().out)
    assert not result["ok"]
    assert [row["tensor"] for check in result["checks"] for row in check["rows"] if not row["ok"]] == ["x"]


def test_an_exception_is_a_failure_and_the_other_checks_continue(capsys, monkeypatch):
    monkeypatch.setattr(LayerNorm, "backward", lambda self, dy: dy[0])
    assert cli.main(["gradcheck", "LayerNorm", "Linear"]) == 1
    printed = capsys.readouterr().out
    assert "LayerNorm: ValueError: wrong shape of the gradient of x: found (3, 6), expected (2, 3, 6)" in printed
    assert "3 layers" in printed
    assert cli.main(["gradcheck", "LayerNorm", "--json"]) == 1
    result = json.loads(capsys.readouterr().out, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    assert result["worst"] is None
    assert "ValueError" in result["checks"][0]["error"]


@pytest.mark.parametrize(("arguments", "message"), [
    (["layernorm"], "unknown op, layer or model 'layernorm': did you mean 'LayerNorm'?"),
    (["Atention"], "did you mean 'Attention'?"), (["gelo"], "did you mean 'gelu'?"), (["GELO"], "did you mean 'GELU'?"),
    (["nonsense"], f"known: {len(catalogue.families()['ops'])} ops such as linear, "
                   f"{len(catalogue.families()['layers'])} layers such as Linear, 5 models such as vit, "
                   "see `minivit gradcheck --list`\n"),
    (["gelu", "--threads", "0"], "number of threads must be a whole number at least 1, not 0"),
    (["--method", "forward"], "known: richardson, central, directional, taylor"),
    (["--seed", "-1"], "seed must be a whole number at least 0, not -1"),
])
def test_an_unknown_name_is_a_one_line_error(capsys, arguments, message):
    assert cli.main(["gradcheck", *arguments]) == 2
    captured = capsys.readouterr()
    assert not captured.out
    assert captured.err.startswith("minivit: error: ")
    assert message in captured.err
    assert captured.err.count("\n") == 1


def test_the_list_has_every_family_once(capsys):
    assert cli.main(["gradcheck", "--list", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert {name for names in listed.values() for name in names} == {check.family for check in catalogue.CHECKS}
    assert sum(map(len, listed.values())) == len({check.family for check in catalogue.CHECKS})
    assert listed["models"] == ["vit", "extended_vit", "deit", "swin", "resnet"]
    assert cli.main(["gradcheck", "--list"]) == 0
    text = capsys.readouterr().out
    assert text.startswith("ops: linear, gelu, layer_norm,")
    assert "models: vit, extended_vit, deit, swin, resnet\n" in text


def test_the_matrix_products_use_the_given_number_of_threads(capsys, monkeypatch):
    asked = []
    monkeypatch.setattr(verification, "blas_threads", lambda threads: asked.append(threads) or contextlib.nullcontext())
    assert cli.main(["gradcheck", "gelu"]) == cli.main(["gradcheck", "gelu", "--threads", "2"]) == 0
    assert asked == [1, 2]


def test_another_seed_is_another_check():
    worst = {verification.verify(["softmax"], seed=seed).worst for seed in (0, 0, 1)}
    assert len(worst) == 2


def test_every_check_draws_its_own_inputs_by_name():
    first, second = catalogue.select(["gelu"])[:2]
    np.testing.assert_array_equal(first.inputs(5)[0], second.inputs(5)[0])  # the plain and the fast pair see the same
    assert not np.array_equal(first.inputs(5)[0], first.inputs(6)[0])
