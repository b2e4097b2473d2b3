"""What a package index shows: metadata, and a README whose links work outside the repository."""

import importlib.util
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import minivit

ROOT = Path(__file__).parents[1]


def setup_module_of_the_project():
    """The project's setup.py as a module; importing it builds nothing."""
    spec = importlib.util.spec_from_file_location("project_setup", ROOT / "setup.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def links(markdown):
    """The targets of all links and images of a Markdown text."""
    return re.findall(r"\]\(([^)\s]+)\)", markdown)


def test_links_of_the_readme_become_absolute_and_name_files_that_exist():
    pytest.importorskip("setuptools")
    project = setup_module_of_the_project()
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    absolute = project.absolute_links(readme)
    assert len(links(absolute)) == len(links(readme)) > 10
    assert [link for link in links(absolute) if not link.startswith(("https://", "http://", "#"))] == []
    here = [re.fullmatch(rf"{project.REPOSITORY}/(raw|blob)/main/([^#]+)(#.*)?", link) for link in links(absolute)]
    files = [(match[1], match[2]) for match in here if match]
    assert all((ROOT / path).exists() for _, path in files)
    assert {kind for kind, path in files if path.endswith(".png")} == {"raw"}
    assert {kind for kind, path in files if path.endswith(".md")} == {"blob"}


def test_a_linked_image_keeps_both_links():
    pytest.importorskip("setuptools")
    project = setup_module_of_the_project()
    text = "[![badge](https://img.shields.io/x)](LICENSE) and ![a figure](a/b.png) and [a page](#top)"
    assert project.absolute_links(text) == (
        f"[![badge](https://img.shields.io/x)]({project.REPOSITORY}/blob/main/LICENSE) and ![a "
        f"figure]({project.REPOSITORY}/raw/main/a/b.png) and [a page](#top)")


def test_the_metadata_has_version_author_links_and_the_readme(tmp_path):
    pytest.importorskip("setuptools")
    subprocess.run([sys.executable, "setup.py", "-q", "egg_info", "--egg-base", str(tmp_path)], cwd=ROOT, check=True,
                   capture_output=True)
    metadata = (tmp_path / "minivit.egg-info" / "PKG-INFO").read_text(encoding="utf-8")
    assert f"\nVersion: {minivit.__version__}\n" in metadata
    assert "\nAuthor: The minivit developers\n" in metadata
    assert "\nProject-URL: Documentation, https://github.com/minivit/minivit/" in metadata
    assert "Description-Content-Type: text/markdown" in metadata
    assert "/raw/main/demos/pictures/overview.png" in metadata
    sources = (tmp_path / "minivit.egg-info" / "SOURCES.txt").read_text().splitlines()
    assert {"tests/helpers.py", "tests/parity.npz", "demos/01_learn_digits.py", "docs/architecture.md",
            "docs/images/house.svg", "docs/images/vit.svg", "minivit/py.typed",
            "minivit/data/digits.npz", "minivit/explain/tour/page.html", "minivit/explain/tour/main.js",
            "docs/images/tour.png"} <= set(sources)


def test_everything_under_version_control_is_in_the_source_distribution(tmp_path):
    pytest.importorskip("setuptools")
    if not (ROOT / ".git").exists() or not shutil.which("git"):
        pytest.skip("not a clone")
    subprocess.run([sys.executable, "setup.py", "-q", "egg_info", "--egg-base", str(tmp_path)], cwd=ROOT, check=True,
                   capture_output=True)
    sources = set((tmp_path / "minivit.egg-info" / "SOURCES.txt").read_text().splitlines())
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    missing = {name for name in listed.splitlines() if not name.startswith(".")} - sources
    assert missing == set()


def test_the_citation_names_this_version():
    assert f"version: {minivit.__version__}\n" in (ROOT / "CITATION.cff").read_text()
