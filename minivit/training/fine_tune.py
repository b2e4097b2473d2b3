"""Fine-tuning: a model for new data starts from what a run has learned, not from random weights.

All weights are taken over but two kinds:

    head         new, unless the classes are the run's, in its order: what it says is about other classes
    positions    resized, where the new pictures are of another size: the grid of learned positions by bicubic interpolation, as in the
                 ViT paper, and the table of a relative bias, which is a grid of offsets, in the same way; a class token's stay

The constants that normalise pixels belong to the weights and are taken over too.
Source: Dosovitskiy et al., arXiv:2010.11929, section 3.2.
"""

import math

import numpy as np
from PIL import Image

from ..data import holds_pictures
from ..models.create import declare_model


def fine_tuned(run, data, seed=0, **options):
    """A model for the images and classes of a Dataset, with the weights of a finished Run.

    options: of the model, such as drop_path_rate, which change no weight. seed: of the new head. Raises ValueError if the channels
    differ or weights do not fit, or as `declare_model` and `Run.load_model`.
    """
    old, config = run.load_model(), run.config()
    height, width, channels = data.train_images.shape[1:]
    if height != width or channels != old.channels:
        raise ValueError(f"{run.folder} was trained on square images of {old.channels} channels, but those of {data.name} are "
                         f"{height}x{width}x{channels}")
    new = declare_model(config["model"]["family"], **(old.config | {"image_size": height, "classes": data.classes} | options))
    values = {p.name: _resized(p.name, p.data, old, new) for p in old.parameters()}
    if list(data.class_names) != run.class_names(old):
        values = {name: value for name, value in values.items() if not name.startswith("head.")}
    shapes = {p.name: p.shape for p in new.parameters()}
    unfit = [name for name, value in values.items() if shapes.get(name) != value.shape]
    if unfit or any(not name.startswith("head.") for name in shapes.keys() - values.keys()):
        raise ValueError(f"the weights of {run.folder} do not fit a model with {options}: fine-tune with the run's own sizes")
    return new.pack(old.dtype, seed, values)


def preparation_like(run, source):
    """The arguments of `load_data` that prepare pictures in a folder as the run's model takes them. Errors as `Run.declare`."""
    if not holds_pictures(source):
        return {}
    model = run.declare()
    return {"image_size": model.image_size, "channels": model.channels}


def _resized(name, value, old, new):
    """The value of the parameter `name`, for the new model's size of image."""
    if name != "pos_embed" and not name.endswith("relative_position_bias_table"):
        return value
    token, side = int(old.pool == "token"), new.image_size // new.patch_embed.patch_size
    if name == "pos_embed":
        return _resized_grid(value, side * side, first=token)
    return _resized_grid(value, (2 * side - 1) ** 2, last=3 * token)


def _resized_grid(rows, count, first=0, last=0):
    """rows (N, D), of which all but the `first` and `last` lie on a square grid -> as many on a grid of `count` places."""
    grid = rows[first:len(rows) - last]
    if len(grid) == count:
        return rows
    old, new = math.isqrt(len(grid)), math.isqrt(count)
    planes = np.asarray(grid, np.float32).reshape(old, old, -1).transpose(2, 0, 1)
    resized = [np.asarray(Image.fromarray(plane).resize((new, new), Image.Resampling.BICUBIC)) for plane in planes]
    grid = np.stack(resized, axis=-1).reshape(count, -1).astype(rows.dtype)
    return np.concatenate([rows[:first], grid, rows[len(rows) - last:]])
