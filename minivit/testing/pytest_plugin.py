"""The pytest plugin: the fixture and marker `gradcheck`, and tables and figures of wrong gradients in the output.

It imports NumPy and the checker when a test uses them, so that other test suites start as fast as before.
"""

import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

_SEED = "gradcheck_seed"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options of the plugin."""
    group = parser.getgroup("gradcheck", "gradient checks (minivit)")
    group.addoption("--gradcheck-seeds", type=int, metavar="N",
                    help="Run each test that has the fixture gradcheck with N seeds, unless its marker says otherwise.")
    group.addoption("--gradcheck-checks", metavar="NAMES",
                    help="Named checks for each test that has the fixture gradcheck, with commas between, such as "
                         "batch,float32 or all, unless its marker or the test says otherwise.")
    group.addoption("--gradcheck-plots", metavar="DIR",
                    help="Folder of the figures of wrong gradients. Default: in pytest's cache.")


def pytest_configure(config: pytest.Config) -> None:
    """Declare the marker."""
    config.addinivalue_line("markers", "gradcheck(seeds, checks): run a test with the fixture gradcheck once for each "
                                       "seed (a number or a list), with the named checks")
    _seeds(config.getoption("--gradcheck-seeds"))
    if names := config.getoption("--gradcheck-checks"):
        from ..gradient_checking.named_checks import Chosen

        try:
            Chosen(names.split(","))
        except ValueError as error:
            raise pytest.UsageError(f"--gradcheck-checks: {error}") from None


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run a test that has the fixture once for each seed."""
    if "gradcheck" not in metafunc.fixturenames:
        if any(marker.name == "gradcheck" for marker in metafunc.definition.own_markers):
            raise pytest.UsageError(f"the marker gradcheck of {metafunc.definition.name} has no effect: expected the "
                                    "fixture gradcheck among the arguments of the test")
        return
    marker = metafunc.definition.get_closest_marker("gradcheck")
    seeds = metafunc.config.getoption("--gradcheck-seeds")
    if marker is not None:
        given = _arguments(*marker.args, **marker.kwargs)
        seeds = given.get("seeds", seeds)
    chosen = _seeds(seeds)
    if chosen != [0]:
        metafunc.fixturenames.append(_SEED)
        metafunc.parametrize(_SEED, chosen, ids=[f"seed{seed}" for seed in chosen])


def _arguments(*positional, **named):
    """Return the arguments of the marker by name."""
    given = dict(zip(("seeds", "checks"), positional, strict=False)) | named
    if not given or set(given) - {"seeds", "checks"} or len(given) != len(positional) + len(named):
        raise pytest.UsageError("wrong arguments of the marker gradcheck: expected @pytest.mark.gradcheck(seeds=5) or "
                                "@pytest.mark.gradcheck(seeds=5, checks='batch')")
    return given


def _seeds(seeds):
    """Return the seeds that a number or a list means; None means one."""
    chosen = list(range(seeds)) if isinstance(seeds, int) else [0] if seeds is None else seeds
    if not isinstance(chosen, list | tuple | range) or not chosen or not all(
            isinstance(seed, int) and seed >= 0 for seed in chosen):
        raise pytest.UsageError(f"wrong seeds of gradcheck: found {seeds!r}, expected a number of seeds that is at "
                                "least 1, or a list of seeds such as [4, 9]")
    return list(chosen)


@pytest.fixture
def gradcheck(request: pytest.FixtureRequest) -> Callable:
    """`minivit.testing.assert_gradients`, with the seed of this run of the test, and the checks of its marker."""
    from .assertion import assert_gradients

    callspec = getattr(request.node, "callspec", None)
    seed_of_run = callspec.params.get(_SEED, 0) if callspec else 0
    marker = request.node.get_closest_marker("gradcheck")
    given = _arguments(*marker.args, **marker.kwargs) if marker else {}
    names = request.config.getoption("--gradcheck-checks")
    checks = given.get("checks", names.split(",") if names else ())

    def check(target: Any, *inputs: Any, **options: Any) -> Any:
        __tracebackhide__ = True
        return assert_gradients(target, *inputs, **({"seed": seed_of_run, "checks": checks} | options))

    return check


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo) -> Iterator[None]:
    """Add the tables and figures of wrong checks to the text of a failed test."""
    outcome: Any = yield
    if call.excinfo is None or "minivit.gradient_checking.report" not in sys.modules:
        return
    shown = getattr(call.excinfo.value, "report", None)               # of a GradientError, whose text is the table
    for i, report in enumerate(_wrong_reports(call.excinfo)):
        text = [] if report is shown else [str(report)]
        text.append(_saved_figure(report, item, i))
        outcome.get_result().sections.append(("gradient check", "\n".join(text)))


def _wrong_reports(excinfo: pytest.ExceptionInfo) -> list[Any]:
    """Return the reports of wrong gradients among the error and the variables of the functions that it passed.

    pytest rewrites `assert gradcheck(...)` so that the value that was asserted is a variable too.
    """
    from ..gradient_checking import Report

    values = [getattr(excinfo.value, "report", None)]
    for entry in excinfo.traceback:
        values += entry.frame.f_locals.values()
    found = {id(value): value for value in values if isinstance(value, Report) and not value.ok}
    return list(found.values())


def _saved_figure(report, item, number):
    """Save the figure of a report, and return a line that says where."""
    folder = item.config.getoption("--gradcheck-plots")
    if folder is None and getattr(item.config, "cache", None) is None:
        return "figure: not saved, because pytest's cache is off; pass --gradcheck-plots DIR"
    path = Path(folder) if folder is not None else Path(item.config.cache.mkdir("gradcheck"))
    name = re.sub(r"[^\w.-]+", "-", item.nodeid).strip("-") + (f"-{number}" if number else "")
    try:
        path.mkdir(parents=True, exist_ok=True)
        report.plot(path / f"{name}.png")
    except Exception as error:                                        # the test has failed for another reason
        return f"figure: not saved ({type(error).__name__}: {error})"
    return f"figure: {path / name}.png"
