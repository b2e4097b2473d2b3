"""Matplotlib figures that need no screen, display themselves in notebooks, and are saved completely or not at all."""

import io
import os
from pathlib import Path
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from .checks import check_name
from .files import write_atomic


class NotebookFigure(Figure):
    """A figure that a notebook displays when it is the value of a cell. It needs no pyplot."""

    def _repr_png_(self):
        content = io.BytesIO()
        self.savefig(content, format="png", dpi=100)
        return content.getvalue()


def new_figure(width: float, height: float) -> Any:
    """Return an empty figure of the given size in inches. Its axes are laid out without overlap."""
    figure = NotebookFigure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def figure_format(path: str | os.PathLike) -> str:
    """Return the format for a file name: its ending, or "png" without one. Raises ValueError for an unknown one."""
    known = set(FigureCanvasAgg.get_supported_filetypes()) - {"pgf"}                      # pgf needs TeX
    return check_name("ending of an image file", Path(path).suffix[1:].lower() or "png", sorted(known))


def save(figure: Figure, path: str | os.PathLike) -> None:
    """Write a figure to a file, completely or not at all.

    The ending of the name chooses the format: .png, .svg, .pdf or another that matplotlib supports; PNG without an
    ending. Raises ValueError for an unknown ending; OSError.
    """
    content = io.BytesIO()
    figure.savefig(content, format=figure_format(path), dpi=120)
    write_atomic(path, content.getvalue())
