"""`model.summary()`: a table of the layers of a model, with output shapes, parameters and FLOPs.

The output shapes come from one forward of a blank image. The FLOPs (floating-point operations) are those of the matrix
products of that forward, two for each multiply-add, so the totals equal `model.flops` and the number of weights.
"""

import html
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..common.checks import check_number
from ..common.sizes import pair, size_as_python
from ..layers import (
    Attention,
    AttentionVariant,
    Block,
    Convolution,
    Layer,
    Linear,
    Parameter,
    StdConvolution,
    WindowAttention,
)
from ..ops import windows

_SIZES = ("image_size", "patch_size", "width", "depth", "depths", "layers", "heads", "classes")
_HEADER = ("layer", "kind", "output", "parameters", "FLOPs")


@dataclass(frozen=True)
class Row:
    """One layer, or one parameter of the model itself. `shape`: of the output for one image, without the batch axis."""

    path: str
    kind: str
    shape: tuple[int, ...]
    parameters: int
    flops: int


@dataclass(frozen=True)
class Summary:
    """The table of a model: its title, rows and totals. `str(summary)` is the table as text."""

    title: str
    rows: tuple[Row, ...]
    parameters: int
    flops: int

    def __str__(self) -> str:
        cells = [_HEADER, *map(_cells, self.rows), self._total]
        widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
        lines = ["  ".join(cell.ljust(width) if i < 3 else cell.rjust(width)
                           for i, (cell, width) in enumerate(zip(row, widths, strict=True))).rstrip() for row in cells]
        rule = "-" * max(map(len, lines))
        return "\n".join([self.title, "", lines[0], rule, *lines[1:-1], rule, lines[-1]])

    __repr__ = __str__

    @property
    def _total(self) -> tuple[str, ...]:
        return "total", "", "", f"{self.parameters:,}", f"{self.flops:,}"

    def _repr_html_(self) -> str:
        def line(cells: tuple[str, ...], tag: str = "td") -> str:
            return f"<tr>{''.join(f'<{tag}>{html.escape(cell)}</{tag}>' for cell in cells)}</tr>"

        rows = "".join(line(_cells(row)) for row in self.rows)
        return (f"<details><summary><code>{html.escape(self.title)}</code></summary>"
                f"<table>{line(_HEADER, 'th')}{rows}{line(self._total)}</table></details>")


def _cells(row: Row) -> tuple[str, ...]:
    """Return the cells of a row as text."""
    return row.path, row.kind, " x ".join(map(str, row.shape)), f"{row.parameters:,}", f"{row.flops:,}"


def one_line(model: Any) -> str:
    """Return the class, the sizes and the number of parameters of a model, as `repr` shows them.

    >>> import minivit
    >>> minivit.create_model("vit_mini_patch4_28")
    ViT(image_size=28, patch_size=4, width=64, depth=4, heads=4, classes=10), 139,018 parameters
    """
    values = {name: model.config[name] for name in _SIZES if name in model.config}
    sizes = ", ".join(f"{name}={size_as_python(pair(value)) if name.endswith('_size') else value}"
                      for name, value in values.items())
    return f"{type(model).__name__}({sizes}), {sum(p.size for p in model.parameters()):,} parameters"


def summarise(model: Any, depth: int = 2) -> Summary:
    """Return the table of a model.

    Parameters
    ----------
    model : Model
        The model.
    depth : int
        Number of levels to show, at least 1: 1 shows the layers of the model itself, such as `head` and `blocks.0`; 2
        also shows the layers of those. A layer at the last level counts the layers below it. Layers that do nothing in
        inference (dropout) are left out.

    Returns
    -------
    Summary
        The rows of the table, and the totals.

    Raises
    ------
    ValueError
        If the depth is not a whole number of at least 1.
    """
    check_number("depth", depth, least=1, whole=True)
    calls = _calls(model)
    rows = []

    def visit(layer: Layer, path: str, level: int) -> int:
        """Append the rows of a layer's children; return the FLOPs of the layer."""
        flops = calls[path][1] if path in calls else 0
        for name, child in layer.children():
            place = f"{path}.{name}" if path else name
            if isinstance(child, Parameter):
                if level == 0:
                    rows.append(Row(place, "Parameter", child.shape, child.size, 0))
                continue
            index, size = len(rows), sum(p.size for p in child.parameters())
            shows = level < depth and (size or any(True for _ in child.children()))
            if shows:
                rows.append(Row(place, _kind(child), (), size, 0))
            below = visit(child, place, level + 1)
            if shows:
                shape = calls[place][0] if place in calls else ()
                rows[index] = Row(place, _kind(child), shape, size, below)
            flops += below
        return flops

    total = visit(model, "", 0)
    return Summary(one_line(model), tuple(rows), sum(p.size for p in model.parameters()), total)


def _kind(layer: Layer) -> str:
    """Return the name of a layer's class. A private class or an `AttentionVariant` is shown as the class it extends."""
    return next(cls.__name__ for cls in type(layer).__mro__
                if not cls.__name__.startswith("_") and cls is not AttentionVariant)


def observe(model: Any, on_forward: Callable, on_backward: Callable | None = None) -> None:
    """Make every layer of a replica report what it computes.

    Parameters
    ----------
    model : Layer
        A replica or an inference view. Its blocks then compute all tokens, as `flops` counts them.
    on_forward : function
        Called with (path, layer, inputs, y) after each forward.
    on_backward : function, optional
        Called with (path, layer, dy, dx) after each backward.
    """
    def reported(path: str, layer: Any, function: Any, report: Callable) -> Any:
        def run(*inputs: np.ndarray) -> np.ndarray:
            result = function(*inputs)
            report(path, layer, inputs, result)
            return result

        return run

    for path, layer in list(model.named_layers()):
        if isinstance(layer, Block):
            layer.set_output_tokens(None)
        layer.forward = reported(path, layer, layer.forward, on_forward)               # type: ignore[method-assign]
        if on_backward:
            layer.backward = reported(path, layer, layer.backward, on_backward)        # type: ignore[method-assign]


def _calls(model: Any) -> dict[str, tuple[tuple[int, ...], int]]:
    """Run a blank image through the model -> {path of a layer: (output shape without batch axis, its own FLOPs)}."""
    view, calls = model.inference_view(), {}

    def note(path: str, layer: Layer, inputs: tuple[np.ndarray, ...], y: np.ndarray) -> None:
        calls[path] = y.shape[1:], _flops(layer, inputs, y)

    observe(view, note)
    view.forward(np.zeros((1, *model.input_shape), np.uint8))
    return calls


def _flops(layer: Layer, inputs: tuple[np.ndarray, ...], y: np.ndarray) -> int:
    """Return the FLOPs of the matrix products of a layer itself, without the layers below it, for a batch of one."""
    if isinstance(layer, Linear):
        return 2 * y.size * layer.weight.shape[0]
    if isinstance(layer, Convolution | StdConvolution):
        return 2 * (y.size // y.shape[-1]) * layer.weight.size
    if isinstance(layer, Attention | WindowAttention):
        N = attended = y.size // y.shape[-1]
        if isinstance(layer, WindowAttention):
            N, attended = math.prod(windows.padded(layer.grid, layer.window)), math.prod(layer.window)
        return 4 * N * attended * y.shape[-1]                         # q k^T and probs v
    return 0
