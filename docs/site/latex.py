"""A Sphinx extension: equations in LaTeX, as the pages of docs/ have them for code hosts, become MathML.

A fenced block of the language `math` is one equation. The package latex2mathml translates it.
"""

import re
from typing import Any

from docutils import nodes


def mathml(latex: str, display: bool) -> str:
    """Return an equation in LaTeX as MathML."""
    from latex2mathml.converter import convert

    found = convert(latex, display="block" if display else "inline")
    return re.sub(r"<mi>(&#x0203[2-4];)</mi>", r'<mo mathsize="150%">\1</mo>', found)  # primes are small already


def _visit_block(translator, node):
    translator.body.append(f'<div class="latex">{mathml(node.astext(), display=True)}</div>')
    raise nodes.SkipNode


def _visit_inline(translator, node):
    translator.body.append(mathml(node.astext(), display=False))
    raise nodes.SkipNode


def setup(app: Any) -> dict:
    """Register the renderer of equations."""
    app.add_html_math_renderer("mathml", (_visit_inline, None), (_visit_block, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
