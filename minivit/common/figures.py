"""Pictures of numbers: a figure of matplotlib's that needs no screen, and its file."""

import io
from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from .checks import check_name
from .files import write_atomic


class NotebookFigure(Figure):
    """A figure that a notebook displays when it is the value of a cell, although pyplot does not know it."""

    def _repr_png_(self):
        content = io.BytesIO()
        self.savefig(content, format="png", dpi=100)
        return content.getvalue()


def new_figure(width, height):
    """An empty figure of so many inches, whose parts are laid out so that none covers another."""
    figure = NotebookFigure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def picture_format(path):
    """The format that `save` writes to a file of that name: its ending, or "png" without one. Raises ValueError for an unknown one."""
    known = set(FigureCanvasAgg.get_supported_filetypes()) - {"pgf"}                      # which needs TeX
    return check_name("ending of a picture", Path(path).suffix[1:].lower() or "png", sorted(known))


def save(figure, path):
    """Write a figure to a file, whole or not at all: as its name ends (.png, .svg, .pdf, or another that matplotlib knows), or else as PNG.

    Raises ValueError for an ending that is unknown; OSError.
    """
    content = io.BytesIO()
    figure.savefig(content, format=picture_format(path), dpi=120)
    write_atomic(path, content.getvalue())
