"""Every command and snippet of README and docs runs, prints what the page says, and every link leads somewhere.

Fenced blocks are run by their language:

    ```sh        the lines run one after the other in an empty folder; `pip install` lines are left to `.ci/run`
    ```console   a line after "$ " runs, in the same folder; the lines below it are its output, at any exit code
    ```python    the code runs; if the next block is ```text, that is its output, but for round-off

A block does not run if an HTML comment that begins with "slow:" or "output of" stands directly above it. The comment
says what the block needs, or when and where its output was produced. A block below "needs NAME" runs where the package
NAME is installed. A block below "file: NAME" becomes that file.
"""

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"(?:^<!-- (?P<note>.*?) -->\n)?^```(?P<language>\w*)\n(?P<body>.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(page):
    """The fenced blocks of a page as (language, text, whether it is run)."""
    return [(m["language"], m["body"], runs(m["note"] or "")) for m in BLOCK.finditer(page.read_text(encoding="utf-8"))]


def runs(note):
    """Whether a block with this comment above it is run."""
    if note.startswith("needs "):
        return importlib.util.find_spec(note.split()[1]) is not None
    return not note.startswith(("slow:", "output of", "file:"))


def session(page):
    """What a reader types and sees, in order: (name of a file, its text), or (command, its output)."""
    for m in BLOCK.finditer(page.read_text(encoding="utf-8")):
        note = m["note"] or ""
        if note.startswith("file: "):
            yield "file", note.removeprefix("file: "), m["body"]
        elif m["language"] == "console" and not note:
            for command in re.split(r"^\$ ", m["body"], flags=re.MULTILINE)[1:]:
                yield "command", *command.split("\n", 1)


def snippets(page):
    """(code, expected output or None) of each Python block that runs."""
    found = blocks(page)
    after = [*found[1:], ("", "", False)]
    return [(code, after[i][1] if after[i][0] == "text" and after[i][2] else None)
            for i, (language, code, runs) in enumerate(found) if language == "python" and runs]


def commands(page):
    """The shell blocks that run, without `pip install` lines."""
    texts = [text for language, text, runs in blocks(page) if language == "sh" and runs]
    return [text for text in ("\n".join(line for line in t.splitlines() if "pip install" not in line) for t in texts)
            if text.strip()]


def environment(tmp_path):
    """The environment for commands: `minivit` is this checkout."""
    command = tmp_path / "bin" / "minivit"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m minivit "$@"\n')
    command.chmod(0o755)
    return os.environ | {"PATH": f"{command.parent}{os.pathsep}{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}


def without_round_off(text):
    """The text with numbers below 1e-8 replaced: they are round-off, which depends on NumPy and the processor."""
    return re.sub(r"\d\.\de-(?:09|[1-9]\d)", "round-off", text)


def ids(path):
    return path.stem


@pytest.mark.parametrize("page", [page for page in PAGES if snippets(page)], ids=ids)
def test_python_snippets_print_what_the_page_shows(page, tmp_path):
    for code, expected in snippets(page):
        run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path,
                             env=os.environ | {"PYTHONPATH": str(ROOT)})
        assert run.returncode == 0, run.stderr
        assert expected is None or without_round_off(run.stdout) == without_round_off(expected)


@pytest.mark.parametrize("page", [page for page in PAGES if commands(page)], ids=ids)
def test_commands_run(page, tmp_path):
    folder, variables = tmp_path / "empty", environment(tmp_path)
    folder.mkdir()
    for text in commands(page):
        run = subprocess.run(["bash", "-euc", text], capture_output=True, text=True, cwd=folder, env=variables)
        assert run.returncode == 0, f"{text}\n{run.stderr}"


@pytest.mark.parametrize("page", [page for page in PAGES if [*session(page)]], ids=ids)
def test_commands_print_what_the_page_shows(page, tmp_path):
    folder, variables = tmp_path / "empty", environment(tmp_path)
    folder.mkdir()
    for name in ("minivit", "demos"):                                 # as in the repository, whose files the pages name
        (folder / name).symlink_to(ROOT / name)
    for kind, name, text in session(page):
        if kind == "file":
            (folder / name).write_text(text, encoding="utf-8")
            continue
        run = subprocess.run(["bash", "-uc", name], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                             cwd=folder, env=variables)
        assert run.stdout.strip() == text.strip(), name


def anchors(page):
    """The anchors of a page's headings, as the hosting site makes them."""
    headings = re.findall(r"^#+ (.*)$", re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL),
                          re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", [*PAGES, ROOT / "CHANGELOG.md"], ids=ids)
def test_links_lead_somewhere(page):
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    broken = []
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        if link.startswith(("http://", "https://")):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            broken.append(link)
    assert broken == []


def test_the_readme_has_the_two_commands_on_lines_of_their_own():
    lines = (ROOT / "README.md").read_text().splitlines()
    assert "pip install . && minivit train digits" in lines
    assert "pip install -e '.[test]' && pytest" in lines
