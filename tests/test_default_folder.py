"""The folder of a run if none is given: one for each run, also of processes that start at the same moment."""

import re
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from minivit import cli
from minivit.training_pipeline.defaults.default_folder import (
    folder_of_new_run,
    folder_to_resume,
    unfinished_predecessor,
)


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_runs_that_start_at_the_same_moment_get_a_folder_each():
    threads, rounds = 16, 20
    barrier, folders = threading.Barrier(threads, timeout=60), []

    def start(_):
        for seed in range(rounds):
            barrier.wait()
            with folder_of_new_run("digits", None, {"seed": seed}) as folder:
                (folder / "config.json").touch()
                folders.append(folder.name)

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(start, range(threads)))
    ends = ["", *(f"-{number}" for number in range(2, threads + 1))]
    assert sorted(folders) == sorted(f"digits-seed{seed}{end}" for seed in range(rounds) for end in ends)


def test_runs_that_fail_at_the_same_moment_leave_nothing():
    barrier = threading.Barrier(8, timeout=60)

    def fail(_):
        for _ in range(50):
            barrier.wait()
            with pytest.raises(ValueError, match="no"), folder_of_new_run("digits", None, {}):
                raise ValueError("no")

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(fail, range(8)))
    assert not Path("runs").exists()


def test_a_folder_with_files_stays_when_the_training_fails():
    def fail():
        with folder_of_new_run("digits", "vit_mini", {"seed": 3}) as folder:
            (folder / "config.json").touch()
            raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        fail()
    assert [str(path) for path in Path("runs").iterdir()] == ["runs/digits-vit_mini-seed3"]


def test_a_broken_link_in_place_of_the_parent_is_reported():
    Path("runs").symlink_to("nowhere")
    with pytest.raises(FileNotFoundError), folder_of_new_run("digits", None, {}):
        pass


@pytest.mark.parametrize(("source", "name"), [
    ("digits", "digits-seed0"), ("photos.v1", "photos.v1-seed0"), ("data/v.2", "v.2-seed0"), ("a/b.npz", "b-seed0"),
    ("photos.v1.npz", "photos.v1-seed0"), ("a/../c", "c-seed0")])
def test_the_name_is_that_of_the_data(source, name):
    with folder_of_new_run(source, None, {}) as folder:
        assert folder.name == name


def test_data_with_a_dot_in_their_name_resume_their_own_run(digits_of):
    for name in ("v.1", "v.2"):
        digits_of(name)
        assert cli.main(["train", name, "--epochs", "1", "--batch-size", "4", "--quiet"]) == 0
    Path("runs/v.1-seed0/model.safetensors").unlink()
    settings = {"epochs": 1, "batch_size": 4}
    assert folder_to_resume("v.1", None, settings) == Path("runs/v.1-seed0")
    assert unfinished_predecessor("v.1", None, settings) == Path("runs/v.1-seed0")
    assert unfinished_predecessor("v.2", None, settings) is None


def test_a_run_to_resume_has_the_sizes_that_are_given(digits_of):
    digits_of("mine")
    for width in ("16", "24"):
        assert cli.main(["train", "mine", "--epochs", "1", "--batch-size", "4", "--quiet", "--width", width, "--heads",
                         "2", "--patch-size", "4x4"]) == 0
    for path in Path("runs").glob("*/model.safetensors"):
        path.unlink()
    for find in (folder_to_resume, unfinished_predecessor):
        for width, folder in ((16, "mine-seed0"), (24, "mine-seed0-2")):
            assert find("mine", None, {}, {"width": width, "patch_size": (4, 4)}) == Path("runs") / folder
    assert unfinished_predecessor("mine", None, {}, {"width": 32}) is None


def test_the_opening_line_of_progress_names_the_folder(digits_of, capsys):
    digits_of("photos")
    for folder in ("photos-seed0", "photos-seed0-2"):
        assert cli.main(["train", "photos", "--epochs", "1", "--batch-size", "4"]) == 0
        assert re.search(rf"^photos: .* parameters; run: runs/{folder}$", capsys.readouterr().err, re.MULTILINE)


@pytest.fixture
def digits_of(tmp_path, no_pictures):
    """A function that writes a folder of a few images of two classes."""
    from PIL import Image

    def write(name):
        for k, kind in enumerate("ab"):
            for part, count in (("train", 4), ("test", 2)):
                folder = tmp_path / name / part / kind
                folder.mkdir(parents=True)
                for i in range(count):
                    Image.new("L", (8, 8), 100 * k + 20 * i).save(folder / f"{i}.png")

    return write
