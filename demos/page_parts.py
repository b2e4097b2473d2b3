"""Parts of pages that a demo makes: numbers and tables in `docs/`, so that no page says what the code does not print.

    <!-- made: pixels -->

    (what the demo made)

    <!-- end -->

A demo with such a page has a function `parts()`, which returns {name: Markdown}. `python demos/NAME.py --write` puts
them into the page. A test compares the page with them.
"""

import re

PART = re.compile(r"<!-- made: (?P<name>[^>]*) -->\n(?P<text>.*?)<!-- end -->", re.DOTALL)


def read_parts(page):
    """Return {name: Markdown} of the parts that a page (a Path) has now."""
    return {part["name"]: part["text"].strip("\n") for part in PART.finditer(page.read_text(encoding="utf-8"))}


def write_parts(page, parts):
    """Put the parts into a page. Raise KeyError if the page has a part that is not among them."""
    text = PART.sub(lambda part: f"<!-- made: {part['name']} -->\n\n{parts[part['name']]}\n\n<!-- end -->",
                    page.read_text(encoding="utf-8"))
    page.write_text(text, encoding="utf-8")


def fenced(*lines):
    """Return lines as a block of text."""
    return "\n".join(["```text", *lines, "```"])


def table(header, rows):
    """Return a Markdown table; the first column is aligned left, the others right."""
    rule = ["---", *["---:"] * (len(header) - 1)]
    return "\n".join("| " + " | ".join(map(str, row)) + " |" for row in [header, rule, *rows])
