"""Inference at another image size than that of the training.

More pixels give more tokens. Only position embeddings and relative bias tables change: they are interpolated to the new
grid (`weight_formats/match.py`). Rotary positions are computed for places between those of the training. A Swin keeps
its windows, of which there are then more, and pads them where they do not divide the grid. A ResNet has nothing to
interpolate.

Read `model.py` before. Source: Dosovitskiy et al., arXiv:2010.11929, section 3.2.
"""

import inspect
from typing import Any

import numpy as np

from ..common.sizes import pair, size_as_python
from ..layers import Parameter, RotaryAttention
from ..weight_formats.match import resized_grid

MOST_SIZES = 4                                        # of which a model keeps its views, for the next call


def at_size_of(model: Any, images: np.ndarray) -> Any:
    """Return the model for images of this size: the model itself, or a view of it that shares its weights.

    Parameters
    ----------
    model : Model
    images : np.ndarray
        (B, H, W, C). If the number of axes or C does not fit, the model itself is returned, whose check says so.

    Raises
    ------
    ValueError
        If the patches do not divide the images.
    """
    wanted = np.shape(images)[1:]
    if len(wanted) != 3 or wanted[2] != model.channels or wanted == model.input_shape or not _can_be_made(model):
        return model
    views = vars(model).setdefault("_views", {})
    try:
        view = views.pop(wanted, None) or _View(model, wanted[:2])
    except ValueError:
        patch = model.config.get("patch_size")
        others = "at least 1" if patch is None else f"divisible by the patch size {size_as_python(pair(patch))}"
        raise ValueError(f"images must be (B, H, W, C) with (H, W, C) = {model.input_shape}, or with H and W {others}, "
                         f"not {images.shape}") from None
    views[wanted] = view                                              # the latest one is the last one
    for oldest in list(views)[:-MOST_SIZES]:
        views.pop(oldest, None)
    return view.refreshed()


def _can_be_made(model):
    """Whether the options of the model make another one. A class of the user's own may take others."""
    return bool(model.config) and model.config.keys() <= inspect.signature(type(model)).parameters.keys()


def _parameters(model):
    """Return {path: parameter} of a model."""
    return {path: item for path, item in model.walk() if isinstance(item, Parameter)}


class _View:
    """A model at another size. What lies on a grid is computed again when the model's own values have changed."""

    def __init__(self, model: Any, size: tuple[int, int]) -> None:
        twin, own = type(model)(**(model.config | {"image_size": size})), _parameters(model)
        twin.name_parameters()                                        # by their paths
        before = model.position_grids()
        grids = {path: (grid, before[own[path].name]) for path, grid in twin.position_grids().items()}
        self.grids = {path: (new, old) for path, (new, old) in grids.items() if new != old}
        self.model, self.own, self.sources = model, own, dict[str, np.ndarray]()
        self.twin = twin._clone(lambda p: p if p.name in self.grids else own[p.name])
        if getattr(model, "fixed_positions", None) is not None:
            self.twin.fixed_positions = resized_grid(model.fixed_positions, model.grid, twin.grid, first=model.prefix)
        for _, layer in self.twin.named_layers():
            if isinstance(layer, RotaryAttention):
                layer.spacing = model.grid[0] / twin.grid[0], model.grid[1] / twin.grid[1]

    def refreshed(self) -> Any:
        """Return the model at this size."""
        parameters = _parameters(self.twin)
        for path, (new, old) in self.grids.items():
            source = self.own[path].data
            if path not in self.sources or not np.array_equal(self.sources[path], source):
                self.sources[path] = source.copy()
                table = resized_grid(self.sources[path], old[:2], new[:2], *new[2:]).astype(source.dtype)
                parameters[path].memory_map(table)
        self.twin.mean, self.twin.std = self.model.mean, self.model.std
        return self.twin
