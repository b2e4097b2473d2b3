"""The pictures of `explain`: each function takes numbers, and writes a PNG file."""

import io

import numpy as np
from matplotlib import colormaps
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from ..files import write_whole

HEAT = "magma"
INK, FAINT = "#d1495b", "#8d96a3"


def new_figure(width, height):
    """A figure of so many inches that needs no screen."""
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def save(figure, path, dpi=120):
    """Write a figure as a PNG file, whole or not at all."""
    png = io.BytesIO()
    figure.savefig(png, format="png", dpi=dpi)
    write_whole(path, png.getvalue())


def show(axes, picture, title="", **options):
    """Show a picture (H, W) or (H, W, C) without ticks."""
    if picture.ndim == 3:
        picture = picture if picture.shape[-1] in (3, 4) else picture[..., 0]
    axes.imshow(picture, **{"cmap": "gray"} | options)
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(False)
    axes.set_title(title, fontsize=9)


def lit(image, heat):
    """A picture (H, W, C) uint8 under a map (S, S) in colour, from dark (its least) to bright (its most) -> (H, W, 3), 0 to 1."""
    grey = (image[..., :3] if image.shape[-1] > 2 else image[..., :1]).mean(axis=-1) / 255
    heat = (heat - heat.min()) / max(np.ptp(heat), 1e-12)
    smooth = Image.fromarray(heat.astype(np.float32)).resize(image.shape[1::-1], Image.Resampling.BILINEAR)
    return 0.35 * grey[..., None] + 0.65 * colormaps[HEAT](np.asarray(smooth))[..., :3]


# ---- attention ------------------------------------------------------------------------------------------------


def draw_looks(looks, path):
    """For each `Look` the picture, its rollout, and the map of each head (columns) of each layer (rows)."""
    layers, heads = len(looks[0].maps), max(len(maps) for maps in looks[0].maps.values())
    cell, left_width = min(0.95, 12 / heads), 2.1
    figure = new_figure(left_width + cell * heads, max(4.6, (cell + 0.06) * layers + 0.4) * len(looks))
    for part, look in zip(np.atleast_1d(figure.subfigures(len(looks), 1)), looks, strict=True):
        left, right = part.subfigures(1, 2, width_ratios=[left_width, cell * heads])
        picture, through = left.subplots(2, 1)
        truth = "" if look.true in (None, look.said) else f", is {look.true}"
        show(picture, look.image, f"{look.name}\nsays {look.said} ({look.probability:.0%}){truth}")
        show(through, lit(look.image, look.rollout), "rollout, through all layers")
        for l, (row, maps) in enumerate(zip(right.subplots(layers, heads, squeeze=False), look.maps.values(), strict=True)):
            for a, axes in enumerate(row):
                if a < len(maps):
                    show(axes, maps[a], f"head {a + 1}" if l == 0 else "", cmap=HEAT, vmin=0)
                else:
                    axes.set_axis_off()
            row[0].set_ylabel(f"layer {l + 1}", fontsize=9)
    save(figure, path)

