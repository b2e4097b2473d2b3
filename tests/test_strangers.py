"""The gradient checker accepts layers in other people's styles as they are, and names the mistakes in wrong ones."""

import ast
import re
import time
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from random_functions import random_function
from strangers.collection import PATTERNS, STRANGERS
from strangers.judges import as_function, jax_verdict, minivit_verdict, planted, torch_verdict
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


@pytest.mark.slow
def test_the_page_explains_hints_that_exist():
    page = (ROOT / "docs" / "gradient-checking.md").read_text()
    rows = re.findall(r"^\| (.*?) \|", page.split("### What the hints mean")[1].split("\n## ")[0], re.MULTILINE)
    assert len(rows) > 20
    source = "".join(path.read_text() for path in (ROOT / "minivit" / "gradient_checking" / "hints").glob("*.py"))
    source = re.sub(r"\{[^{}]*\}", "...", re.sub(r'"\n\s*f?"', "", source))   # joined texts, with ... for what varies
    said = "\n".join(verdict_on(stranger, mistake).said for stranger, mistake in MISTAKES if mistake.pattern)
    assert [row for row in rows[1:] if row not in source + said] == []


@pytest.mark.parametrize("stranger", [pytest.param(stranger, marks=[pytest.mark.slow] * (i % 4 > 0), id=str(stranger))
                                      for i, stranger in enumerate(STRANGERS)])
def test_a_mistake_of_a_thousandth_in_any_tensor_is_caught_and_named(stranger):
    count = 0
    for tensor, what, function in small_mistakes(stranger):
        verdict = minivit_verdict(function)
        assert verdict.names({tensor}), f"{tensor}: {what}: {verdict}"
        count += 1
    assert count >= 2


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
@pytest.mark.parametrize(("module", "judge"), [("torch", torch_verdict), ("jax", jax_verdict)])
def test_other_checkers_see_the_same_functions(module, judge):
    pytest.importorskip(module)
    right, wrong = [], []
    for stranger in STRANGERS[::3]:
        right.append(stranger.run(judge).ok)
        wrong.append(stranger.with_mistake(stranger.mistakes[0]).run(judge).ok)
    assert np.mean(right) > 0.9
    assert np.mean(wrong) < 0.1
