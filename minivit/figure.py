"""Pictures of numbers: a figure of matplotlib's that needs no screen, and its file."""

import io
from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from .files import write_whole


def new_figure(width, height):
    """An empty figure of so many inches, whose parts are laid out so that none covers another."""
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def save(figure, path):
    """Write a figure to a file, whole or not at all: as its name ends (.png, .svg, .pdf), or else as PNG.

    Raises ValueError for an ending that matplotlib does not know; OSError.
    """
    content = io.BytesIO()
    figure.savefig(content, format=Path(path).suffix[1:] or "png", dpi=120)
    write_whole(path, content.getvalue())
