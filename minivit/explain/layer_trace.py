"""One batch through a model and back: the shape, the parameters, the work and the gradient of every layer.

Read `models/summary.py` before, which counts parameters and FLOPs. A trace adds what flows: the size of the numbers on
the way forward, and the gradients on the way back.

    forward     y = layer(x)           root mean square of y, over the batch
    backward    dx = dLoss/dx          norm |dx| over the batch, with the mean loss of the batch
                dw = dLoss/dw          norm |dw| over all weights of the layer

FLOPs (floating-point operations) are those of the matrix products of one image. A product y = x w has two in its
backward, dx = dy w^T and dw = x^T dy, and each costs as much as the product itself. In q k^T and probs v both factors
are inputs, with the same result. So the backward of a layer costs twice its forward.

What to look for: a |dx| that shrinks or grows from block to block by a constant factor vanishes or explodes in a deeper
model. A |dw| of 0 is a layer that does not learn.
"""

import dataclasses
import re
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..models.summary import observe, one_line, summarise
from ..ops import cross_entropy

FORWARD = ("layer", "kind", "output y", "parameters", "FLOPs", "rms of y")
BACKWARD = ("layer", "gradient dx", "FLOPs", "|dx|", "|dw|", "|dw| / |w|")
PLACES = ("parameters", "number", "share")


@dataclass(frozen=True)
class TracedLayer:
    """One layer, or one parameter of the model itself.

    Attributes
    ----------
    layer, kind : str
        Its path, such as "blocks.0", and its class.
    output : tuple of int
        Shape of the output for one image, without the batch axis.
    parameters, forward_flops, backward_flops : int
        Number of its parameters, and FLOPs for one image.
    rms : float or None
        Root mean square of the output. None for a parameter, and for a layer that the model does not call by itself.
    dx : float or None
        Norm of dLoss/dx, the gradient that it passes on.
    input : tuple of int
        Shape of dx for one image.
    dw, w : float or None
        Norms of the gradient of its parameters, and of the parameters. None without parameters.
    """

    layer: str
    kind: str
    output: tuple[int, ...]
    parameters: int
    forward_flops: int
    backward_flops: int
    rms: float | None
    dx: float | None
    input: tuple[int, ...]
    dw: float | None
    w: float | None


@dataclass(frozen=True)
class Trace:
    """A batch through a model and back. `str(trace)` is its tables as text, at most 100 columns wide.

    Attributes
    ----------
    model : str
        The class and the sizes of the model.
    images : int
        Number of images in the batch.
    loss, dlogits : float
        Mean loss of the batch, and the norm of its gradient with respect to the logits, where the backward begins.
    layers : tuple of TracedLayer
        In the order of the model.
    places : dict of str to int
        Number of parameters in each place of the model. A star stands for the number of a block: "blocks.*.mlp.fc1".
    parameters, forward_flops, backward_flops : int
        Totals; FLOPs for one image.
    """

    model: str
    images: int
    loss: float
    dlogits: float
    layers: tuple[TracedLayer, ...]
    places: dict[str, int]
    parameters: int
    forward_flops: int
    backward_flops: int

    def __str__(self) -> str:
        forward = [(_path(row.layer), row.kind, _shape(row.output), f"{row.parameters:,}", f"{row.forward_flops:,}",
                    _number(row.rms)) for row in self.layers]
        total = "total", "", "", f"{self.parameters:,}", f"{self.forward_flops:,}", ""
        backward = [(_path(row.layer), _shape(row.input), f"{row.backward_flops:,}", _number(row.dx), _number(row.dw),
                     _number(row.dw / row.w if row.w and row.dw is not None else None))
                    for row in reversed(self.layers)]
        start = "loss", _shape((self.layers[-1].output or ())[-1:]), "", _number(self.dlogits), "", ""
        places = [(place, f"{count:,}", f"{count / self.parameters:.1%}") for place, count in self.places.items()]
        return "\n\n".join([
            self.model, "forward, from the image down\n" + _table(FORWARD, forward, total, left=3),
            f"backward, from the loss {self.loss:.4f} up\n"
            + _table(BACKWARD, [start, *backward], ("total", "", f"{self.backward_flops:,}", "", "", ""), left=2),
            "where the parameters are\n" + _table(PLACES, places, ("total", f"{self.parameters:,}", "100.0%"), left=1)])

    def as_json(self) -> dict[str, Any]:
        """Return the trace as dicts and lists, with the names of the attributes."""
        return dataclasses.asdict(self)


def trace(model: Any, images: np.ndarray, labels: np.ndarray, depth: int = 1) -> Trace:
    """Run a batch forward and backward, and return what every layer computed. The model is not changed.

    Parameters
    ----------
    model : Model
        The model.
    images, labels : (B, H, W, C), (B,) int
        The batch.
    depth : int
        Number of levels to show, as for `Model.summary`.

    Returns
    -------
    Trace

    Raises
    ------
    ValueError
        If images, labels or the depth do not fit.
    """
    table, replica = summarise(model, depth), model.replica()
    rms, gradients = {}, {}

    def on_forward(path: str, layer: Any, inputs: Any, y: np.ndarray) -> None:
        rms[path] = float(np.sqrt(np.mean(np.square(y, dtype=np.float64))))

    def on_backward(path: str, layer: Any, dy: Any, dx: np.ndarray) -> None:
        gradients[path] = _norm([dx]), dx.shape[1:]

    observe(replica, on_forward, on_backward)
    logits = replica.forward(images)
    targets = cross_entropy.targets(labels, model.classes, 0.0, model.dtype)           # (B, K)
    loss, cache = cross_entropy.forward(logits, targets)
    dlogits = cross_entropy.backward(1.0, cache)
    replica.backward(dlogits)

    found: dict[str, Any] = dict(replica.walk())
    layers = []
    for row in table.rows:
        item = found[row.path]
        weights = [item] if row.kind == "Parameter" else item.parameters()
        dx, entered = gradients.get(row.path, (None, ()))
        layers.append(TracedLayer(
            row.path, row.kind, row.shape, row.parameters, row.flops, 2 * row.flops, rms.get(row.path), dx, entered,
            *((_norm([p.grad for p in weights]), _norm([p.data for p in weights])) if weights else (None, None))))
    return Trace(one_line(model), len(images), float(loss), _norm([dlogits]), tuple(layers), places(model),
                 table.parameters, table.flops, 2 * table.flops)


def places(model: Any) -> dict[str, int]:
    """Return the number of parameters in each place of a model, with a star for the number of a block.

    >>> import minivit
    >>> places(minivit.create_model("vit_mini"))["blocks.*.attn.qkv"]
    49920
    """
    counts: dict[str, int] = {}
    for p in model.parameters():
        place = re.sub(r"\.\d+(?=\.|$)", ".*", p.name.rpartition(".")[0] or p.name)
        counts[place] = counts.get(place, 0) + p.size
    return counts


def _norm(arrays: list) -> float:
    """Return the Euclidean norm of all numbers of some arrays."""
    return float(np.sqrt(sum(np.sum(np.square(array, dtype=np.float64)) for array in arrays)))


def _path(path: str, longest: int = 28) -> str:
    """Return a path as text; of a longer one the end, so that a table has at most 100 columns."""
    return path if len(path) <= longest else "..." + path[3 - longest:]


def _shape(shape: tuple[int, ...]) -> str:
    """Return a shape as text."""
    return " x ".join(map(str, shape))


def _number(value: float | None) -> str:
    """Return a number with three digits; nothing for None."""
    return "" if value is None else "0" if value == 0 else f"{value:.3g}" if 1e-3 <= value < 1e4 else f"{value:.1e}"


def _table(header: tuple, rows: list[tuple], total: tuple, left: int) -> str:
    """Return a table as text; the first `left` columns are aligned left, the others right."""
    cells = [header, *rows, total]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = ["  ".join(cell.ljust(width) if i < left else cell.rjust(width)
                       for i, (cell, width) in enumerate(zip(row, widths, strict=True))).rstrip() for row in cells]
    rule = "-" * max(map(len, lines))
    return "\n".join([lines[0], rule, *lines[1:-1], rule, lines[-1]])
