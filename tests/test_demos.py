"""Every demo runs in its quick mode, says what it found, and draws its picture."""

import subprocess
import sys
from pathlib import Path

import pytest

DEMOS = sorted((Path(__file__).parents[1] / "demos").glob("[0-9]*.py"))


@pytest.mark.parametrize("demo", DEMOS, ids=lambda path: path.stem)
def test_the_demo_runs(demo, tmp_path):
    picture = tmp_path / "picture.png"
    run = subprocess.run([sys.executable, str(demo), "--quick", "--out", str(picture)], capture_output=True, text=True, check=True)
    assert str(picture) in run.stdout
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_there_are_demos():
    assert DEMOS
