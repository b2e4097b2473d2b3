"""Fixtures and hooks that several test files share."""

import pytest
from browser import browser, chromium  # noqa: F401
from several_processes import pytest_cmdline_main, pytest_runtest_protocol  # noqa: F401

from minivit.training_pipeline.results import curve, report

# Variables that change how programs print: pytest repeats failures in its summary if CI is set, for example.
TASTE = ("CI", "BUILD_NUMBER", "NO_COLOR", "FORCE_COLOR", "CLICOLOR", "CLICOLOR_FORCE", "PY_COLORS", "PYTEST_ADDOPTS",
         "MYPY_FORCE_COLOR", "PYTHON_COLORS")


@pytest.fixture(scope="session", autouse=True)
def plain_environment():
    """Let tests and the processes that they start print alike, wherever the tests run."""
    with pytest.MonkeyPatch.context() as patch:
        for name in TASTE:
            patch.delenv(name, raising=False)
        for name, value in {"COLUMNS": "80", "LINES": "24", "TERM": "dumb"}.items():
            patch.setenv(name, value)
        yield


@pytest.fixture(scope="module")
def no_curve():
    """The curve of a run takes longer to draw than its few steps take."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(curve, "plot_curve", lambda *_: None)
        yield


@pytest.fixture(scope="module")
def no_pictures(no_curve):
    """Neither the curve nor the map of the features in the report, which takes as long."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(report, "embed", lambda *_: None)
        yield
