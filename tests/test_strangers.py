"""The gradient checker accepts layers in other people's styles as they are, and names the mistakes in wrong ones."""

import ast
import re
import time
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from random_functions import random_function
from strangers.abilities import ABILITIES, CHECKS, OTHERS, abilities_of
from strangers.collection import PATTERNS, STRANGERS
from strangers.judges import (
    as_function,
    autograd_verdict,
    jax_verdict,
    minivit_verdict,
    numdifftools_verdict,
    planted,
    scipy_verdict,
    torch_verdict,
)
from strangers_study import SMALL, small_mistakes

import minivit

ROOT = Path(minivit.__file__).parents[1]
each_stranger = pytest.mark.parametrize("stranger", STRANGERS, ids=str)
MISTAKES = [(stranger, mistake) for stranger in STRANGERS for mistake in stranger.mistakes]


@cache
def verdict_on(stranger, mistake):
    """The verdict on a layer with a mistake."""
    return stranger.with_mistake(mistake).run(minivit_verdict)


def test_there_are_enough_layers_and_three_mistakes_in_each():
    assert len(STRANGERS) >= 60
    assert len({stranger.style for stranger in STRANGERS}) == 10
    assert min(len(stranger.mistakes) for stranger in STRANGERS) >= 3
    assert {mistake.pattern for _, mistake in MISTAKES} == {*PATTERNS, ""}


@each_stranger
def test_a_layer_needs_at_most_two_lines_of_adapting(stranger):
    check = ast.parse(stranger.source).body[0]
    *adapting, call = check.body
    assert isinstance(call, ast.Return)
    assert sum(line.end_lineno - line.lineno + 1 for line in adapting) <= 2


@each_stranger
def test_the_right_layer_passes(stranger):
    report = stranger.run(minivit.gradcheck)
    assert report.ok, f"\n{report}"
    assert any(row.numeric for row in report.rows)


@pytest.mark.parametrize(("stranger", "mistake"), [
    pytest.param(stranger, mistake, marks=[pytest.mark.slow] * (i > 0), id=f"{stranger}: {mistake.wrong}")
    for stranger in STRANGERS for i, mistake in enumerate(stranger.mistakes)])
def test_a_mistake_is_caught_and_its_tensors_are_named(stranger, mistake):
    verdict = verdict_on(stranger, mistake)
    assert not verdict.ok
    assert verdict.names(set(mistake.tensors.split())), verdict


@pytest.mark.slow
def test_hints_diagnose_most_mistakes_that_follow_a_pattern():
    missed = []
    patterned = [(stranger, mistake) for stranger, mistake in MISTAKES if mistake.pattern]
    for stranger, mistake in patterned:
        verdict = verdict_on(stranger, mistake)
        if not verdict.diagnoses(mistake):
            missed.append(f"{stranger}: {mistake.pattern}: {mistake.wrong}: {verdict.said}")
    assert len(missed) <= 0.1 * len(patterned), "\n".join(missed)


# ---- the table of hints -----------------------------------------------------------------------------------

# Beginnings, endings and parts of hints. They mean nothing by themselves.
PARTS = {"axes ... and ...", "in each row", "along the vector", "the index on axis ... is ...",
         ", and there it is ... times what it should be", "the gradient is flipped along ...: ...",
         "..., with ... and xhat = ... at mean 0 and variance 1: ...", "..., with y = softmax(...): ...",
         "...: is it a sum instead of a mean over ... numbers?",      # after a wrong coefficient
         "...: is it a mean instead of a sum over ... numbers?"}


def hint_table():
    """The first column of the tables on the page: pieces of hints, with ... for what varies."""
    page = (ROOT / "docs" / "gradient-checking-reference.md").read_text().split("## What the hints mean")[1]
    return [row for row in re.findall(r"^\| (.*?) \|", page, re.MULTILINE) if row != "hint"]


def hint_texts():
    """All texts of three words or more in the code of the hints, with ... for what varies; no docstrings."""
    def text(node):
        parts = node.values if isinstance(node, ast.JoinedStr) else [node]
        return "".join(part.value if isinstance(part, ast.Constant) else "..." for part in parts)

    room = ROOT / "minivit" / "gradient_checking"
    for path in (*(room / "hints").glob("*.py"), room / "tensor_check.py"):
        nodes = [*ast.walk(ast.parse(path.read_text()))]
        inside = {id(part) for node in nodes if isinstance(node, ast.JoinedStr) for part in node.values}
        inside |= {id(node.value) for node in nodes if isinstance(node, ast.Expr)}
        if path.name == "tensor_check.py":                            # its other texts are errors
            nodes = [keyword.value for node in nodes if isinstance(node, ast.keyword) and node.arg == "hint"
                     for keyword in [node]]
        yield from (found for node in nodes if id(node) not in inside and (
            isinstance(node, ast.JoinedStr) or (isinstance(node, ast.Constant) and isinstance(node.value, str)))
            if len((found := text(node)).split()) > 2 and re.search("[a-z]{4}", found.replace("...", "")))


def says(pattern, text):
    """Whether a text contains a pattern in which ... stands for anything."""
    return re.search(".*".join(map(re.escape, pattern.split("..."))), text) is not None


def same_hint(row, text):
    """Whether a row is a piece of a text of the code, or the text is a long piece of the row."""
    piece = text.strip(". ,:")
    return says(row, text) or (len(piece.replace("...", "")) > 15 and says(piece, row))


def test_the_table_explains_every_hint_and_no_others():
    rows, texts = hint_table(), set(hint_texts())
    assert len(rows) == len(set(rows)) > 35
    assert texts >= PARTS
    assert {text for text in texts - PARTS if not any(same_hint(row, text) for row in rows)} == set()
    assert [row for row in rows if not any(same_hint(row, text) for text in texts)] == []


@pytest.mark.slow
def test_the_table_explains_the_hints_on_all_mistakes():
    said = {line for stranger, mistake in MISTAKES if (verdict := verdict_on(stranger, mistake)).tensors
            for line in verdict.said.splitlines() if line}
    assert len(said) > 100
    rows = hint_table()
    assert [line for line in said if not any(says(row, line) for row in rows)] == []


@pytest.mark.parametrize("stranger", [pytest.param(stranger, marks=[pytest.mark.slow] * (i % 4 > 0), id=str(stranger))
                                      for i, stranger in enumerate(STRANGERS)])
def test_a_mistake_of_a_thousandth_in_any_tensor_is_caught_and_named(stranger):
    count = 0
    for tensor, what, function in small_mistakes(stranger):
        verdict = minivit_verdict(function)
        assert verdict.names({tensor}), f"{tensor}: {what}: {verdict}"
        count += 1
    assert count >= 2


@pytest.mark.alone
def test_a_hundred_layers_take_less_than_ten_seconds():
    start = time.process_time()
    for stranger in STRANGERS:
        stranger.run(minivit.gradcheck)
    assert (time.process_time() - start) / len(STRANGERS) < 0.1


def test_a_planted_change_is_what_makes_the_difference():
    function = STRANGERS[0].run(as_function)
    assert minivit_verdict(function).ok
    assert minivit_verdict(planted(function, "x", lambda g: g)).ok
    assert not minivit_verdict(planted(function, "x", lambda g: (1 + SMALL) * g)).ok


# ---- random right functions -------------------------------------------------------------------------------


@pytest.mark.parametrize("first", [0, *(pytest.param(i, marks=pytest.mark.slow) for i in range(100, 2_000, 100))])
def test_random_right_functions_pass_at_all_scales(first):
    wrong = []
    for seed in range(first, first + 100):
        target, inputs = random_function(seed)
        verdict = minivit_verdict(target, *inputs)
        wrong += [] if verdict.ok else [f"{seed}: {verdict}"]
    assert wrong == []


def test_random_functions_have_all_scales_and_wrong_versions_of_them_fail():
    scales = []
    for seed in range(20):
        (forward, backward), inputs = random_function(seed)
        scales += [float(np.abs(x).max()) for x in inputs] + [float(np.abs(forward(*inputs)[0]).max())]

        def wrong(dy, cache, backward=backward):
            first, *others = backward(dy, cache)
            return ((1 + SMALL) * first, *others)

        if np.any(backward(1.0, forward(*inputs)[1])[0]):
            assert not minivit_verdict((forward, wrong), *inputs).ok, seed
    assert min(scales) < 1e-6
    assert max(scales) > 1e6


# ---- other checkers ---------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(("module", "judge"), [
    ("torch", torch_verdict), ("jax", jax_verdict), ("autograd", autograd_verdict), ("scipy", scipy_verdict),
    ("numdifftools", numdifftools_verdict)])
def test_other_checkers_see_the_same_functions(module, judge):
    pytest.importorskip(module)
    right, wrong = [], []
    for stranger in STRANGERS[::3]:
        right.append(stranger.run(judge).ok)
        wrong.append(stranger.with_mistake(stranger.mistakes[0]).run(judge).ok)
    assert np.mean(right) > 0.8
    assert np.mean(wrong) < 0.1


@pytest.mark.parametrize("ability", ABILITIES, ids=lambda ability: ability.name)
def test_minivit_has_every_ability(ability):
    assert ability.of(CHECKS["minivit"][0])


@pytest.mark.slow
@pytest.mark.parametrize("checker", CHECKS)
def test_the_page_shows_what_each_checker_can_do(checker):
    pytest.importorskip(CHECKS[checker][1])
    page = (ROOT / "docs" / "gradient-checkers.md").read_text().split("## What each can do")[1]
    rows = [line.strip("| ").split(" | ") for line in page.splitlines() if line.startswith("| ")]
    column = list(CHECKS).index(checker) + 1
    shown = {row[0]: row[column] == "yes" for row in rows[1:]}
    assert shown == abilities_of(checker)
    assert set(OTHERS) <= set(shown)
