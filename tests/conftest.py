"""Fixtures and hooks that several test files share."""

import pytest
from browser import browser, chromium  # noqa: F401
from several_processes import pytest_cmdline_main, pytest_runtest_protocol  # noqa: F401

from minivit.training_pipeline.results import curve


@pytest.fixture(scope="module")
def no_curve():
    """The curve of a run takes longer to draw than its few steps take."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(curve, "plot_curve", lambda *_: None)
        yield
