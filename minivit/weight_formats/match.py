"""Match the tensors of a file to the parameters of a model, by name.

Every tensor of the file and every parameter of the model has a row in a `Match`, with both shapes and a verdict:

    taken           it fits
    resized         it lies on a grid and is interpolated to the model's: learned positions, relative position bias
    new             a classifier that starts anew on request
    left out        not needed: an index that the model computes itself, or a classifier that is replaced

Any other verdict means that the weights belong to another model:

    missing, unexpected, another shape, another grid (than the file itself says), no floats, not finite
"""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

GOOD = ("taken", "resized", "new", "left out")
_COMPUTED = ("relative_position_index", "attn_mask")                  # some files store them beside the weights
HEADS = ("head.", "head_dist.")  # first parts of the names of a classifier's parameters


@dataclass(frozen=True)
class Row:
    """One name: its shape in the file and in the model, in timm's layout (None where it is absent), and the verdict."""

    name: str
    found: tuple | None
    expected: tuple | None
    verdict: str

    def __str__(self):
        file, model = ("-" if shape is None else str(shape) for shape in (self.found, self.expected))
        return f"{shown(self.name):55} {file:20} {model:20} {self.verdict}"


@dataclass(frozen=True)
class Match:
    """The rows of all names, and `values`: {name: array in our layout} of all parameters that match."""

    rows: tuple[Row, ...]
    values: dict

    @property
    def ok(self) -> bool:
        """Whether every parameter has a value or starts anew on request, and no tensor is left over."""
        return all(row.verdict in GOOD for row in self.rows)

    @property
    def summary(self) -> str:
        """One line: how many tensors have which verdict."""
        counts = Counter(row.verdict for row in self.rows)
        return f"{len(self.rows)} tensors: " + ", ".join(f"{count} {verdict}" for verdict, count in counts.items())

    def __repr__(self) -> str:
        return f"<Match: {self.summary}>"

    def __str__(self) -> str:
        return "\n".join([f"{'tensor':55} {'in the file':20} {'in the model':20}", *map(str, self.rows), self.summary])

    def check(self) -> None:
        """Raise ValueError unless all match. Its one line names the tensors and shows their shapes."""
        if self.ok:
            return
        bad: dict[str, list] = {}
        for row in self.rows:
            if row.verdict not in GOOD:
                bad.setdefault(row.verdict, []).append(row)
        words = [f"{len(rows)} {verdict} ({', '.join(map(_in_words, rows[:3]))}{', ...' if len(rows) > 3 else ''})"
                 for verdict, rows in bad.items()]
        hint = "; a new head is made with new_head" if all(row.name.startswith(HEADS) for rows in bad.values()
                                                           for row in rows) else ""
        raise ValueError("these weights are of another model: " + "; ".join(words) + hint)


def shown(name: str) -> str:
    """Return a printable form of a name; a file may call its tensors anything."""
    plain = name if name.isprintable() else ascii(name)
    return plain if len(plain) <= 80 else f"{plain[:77]}..."


def _in_words(row):
    """Return the name and shapes of a row."""
    if row.found and row.expected and row.found != row.expected:
        return f"{row.name}: {row.found} in the file, {row.expected} in the model"
    return f"{shown(row.name)} {row.found if row.expected is None else row.expected}"


def match(tensors: Mapping[str, np.ndarray], parameters: Iterable, outward: Callable, inward: Callable, grids: Any = (),
          new_head: bool = False, old_grids: Any = ()) -> Match:
    """Match tensors {name: array in the file's layout} to a model's parameters.

    outward(parameter) -> its shape in the file's layout. inward(name, tensor, shape) -> the tensor in our layout.
    grids: {name: (rows, columns, first, last)} of parameters that lie on a grid, with `first` extra rows at the front
    and `last` at the end. new_head: whether the classifier starts anew. old_grids: the grids of the tensors, alike; one
    that is not named is a square if its number of rows is a square number, and else is taken for the model's own.
    """
    grids, old_grids, rows, values, known = dict(grids), dict(old_grids), [], {}, set()
    for p in parameters:
        known.add(p.name)
        tensor, expected = tensors.get(p.name), tuple(outward(p))
        found = None if tensor is None else tuple(tensor.shape)
        verdict = "missing" if tensor is None else _verdict(tensor, expected)
        if new_head and p.name.startswith(HEADS):
            verdict = "new"
        elif verdict in ("taken", "another shape") and p.name in grids:
            table = _on_grid(tensor, grids[p.name], p.shape, old_grids.get(p.name))
            if table is not None:
                values[p.name], resized = table
                verdict = "resized" if resized else "taken"
            elif verdict == "taken":
                verdict = "another grid"
        elif verdict == "taken":
            values[p.name] = inward(p.name, tensor, p.shape)
        rows.append(Row(p.name, found, expected, verdict))
    for name in tensors.keys() - known:
        needless = name.endswith(_COMPUTED) or (new_head and name.startswith(HEADS))
        rows.append(Row(name, tuple(tensors[name].shape), None, "left out" if needless else "unexpected"))
    return Match(tuple(sorted(rows, key=lambda row: row.verdict in GOOD)), values)


def _verdict(tensor, expected):
    """Return the verdict on a tensor and the expected shape."""
    if tensor.dtype.kind != "f":
        return "no floats"
    if tuple(tensor.shape) != expected:
        return "another shape"
    return "taken" if np.isfinite(tensor).all() else "not finite"


def _on_grid(tensor, grid, shape, old_grid):
    """Return the tensor (..., N, D) on the model's grid, and whether it was resized.

    None if its width differs, or its grid is neither named nor a square nor the model's.
    """
    rows, columns, first, last = grid
    old = tensor.reshape(-1, tensor.shape[-1]) if tensor.ndim > 1 else tensor
    if old.ndim != 2 or old.shape[1] != shape[-1] or not np.isfinite(old).all():
        return None
    places = len(old) - first - last
    if old_grid is None:
        side = math.isqrt(max(0, places))
        old_grid = (side, side) if side * side == places else (rows, columns)
    before = tuple(old_grid[:2])
    if not places or math.prod(before) != places:
        return None
    return resized_grid(old, before, (rows, columns), first, last), before != (rows, columns)


def resized_grid(table: np.ndarray, old: tuple[int, int], new: tuple[int, int], first: int = 0,
                 last: int = 0) -> np.ndarray:
    """Interpolate a table (N, D) from the grid `old` (rows, columns) to the grid `new`.

    The `first` and `last` rows do not lie on the grid and stay. The interpolation is bicubic, with antialiasing, as the
    ViT paper does for larger images (Dosovitskiy et al., arXiv:2010.11929, section 3.2).
    """
    from PIL import Image  # here, because few models need it

    if tuple(old) == tuple(new):
        return table
    planes = np.asarray(table[first:len(table) - last], np.float32).reshape(*old, -1).transpose(2, 0, 1)
    size = new[1], new[0]                                             # Pillow's order: width, height
    resized = [np.asarray(Image.fromarray(plane).resize(size, Image.Resampling.BICUBIC)) for plane in planes]
    grid = np.stack(resized, axis=-1).reshape(-1, table.shape[1]).astype(np.result_type(table, np.float32))
    return np.concatenate([table[:first], grid, table[len(table) - last:]])
