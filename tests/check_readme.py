"""Runs the README's Python examples and compares what they print with the output that stands below each.

    python tests/check_readme.py

A ```python block is run; the ``` block that follows it without a language must be its output. Numbers may differ in their last
digits from machine to machine, so they are compared to 2%; everything else to the letter.
"""

import contextlib
import io
import re
import sys
from pathlib import Path

NUMBER = re.compile(r"-?\d+\.?\d*(?:e-?\d+)?")


def examples(text):
    """Pairs (code, output) of the README."""
    return re.findall(r"```python\n(.*?)```\n+```\n(.*?)```", text, re.DOTALL)


def agree(expected, printed):
    """Whether two outputs are the same but for 2% in their numbers (and anything in numbers below 1e-6: round-off)."""
    if NUMBER.sub("#", expected) != NUMBER.sub("#", printed):
        return False
    pairs = zip(map(float, NUMBER.findall(expected)), map(float, NUMBER.findall(printed)), strict=True)
    return all(abs(a - b) <= 0.02 * abs(a) or max(abs(a), abs(b)) < 1e-6 for a, b in pairs)


def main():
    found = examples((Path(__file__).parents[1] / "README.md").read_text())
    if not found:
        sys.exit("README.md has no Python example with output")
    for code, expected in found:
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile(code, "README.md", "exec"), {"__name__": "__main__"})
        if not agree(expected.strip(), printed.getvalue().strip()):
            sys.exit(f"README.md says\n{expected}\nbut its code prints\n{printed.getvalue()}")
    print(f"{len(found)} examples of the README print what it says")


if __name__ == "__main__":
    main()
