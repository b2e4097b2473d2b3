"""Put the numbers of a tour, the page, its style and its scripts together into one HTML file that needs no other."""

import base64
import html
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from string import Template
from typing import Any

import numpy as np
from PIL import Image

from ...common.files import write_atomic
from .numbers import Numbers

FOLDER = Path(__file__).parent
SCRIPTS = ("numbers.js", "drawing.js", "attention.js", "stages.js", "backward.js", "training.js", "main.js")
LARGEST_PNG = 96        # sides of larger images are photographs, which are smaller as JPEG
LARGEST_SIDE = 448      # pixels of an image on the page


def write_tour(path: str | Path, tour: Mapping[str, Any], numbers: Numbers, image: np.ndarray, *, title: str,
               true: str | None = None, records: Sequence[Mapping[str, Any]] = (), run: str | None = None,
               note: str | None = None) -> None:
    """Write the page of a tour.

    Parameters
    ----------
    path : path
        The file to write.
    tour, numbers
        As `make_tour` returns them.
    image : np.ndarray
        (H, W, C) uint8.
    title : str
        Name of the image.
    true : str, optional
        Its true class, if it is known.
    records : sequence of dict
        The log of the run, one record for each epoch; empty if there is none.
    run : str, optional
        Name of the run; None for a file of weights.
    note : str, optional
        A warning to show, such as that the run is not finished.

    Raises
    ------
    OSError
        If the file cannot be written.
    """
    data = {**tour, "image": {"title": title, "true": true, "url": image_url(image)},
            "training": {"records": list(records), "run": run}, "note": note}
    text = Template((FOLDER / "page.html").read_text(encoding="utf-8")).substitute(
        title=html.escape(f"Tour of {title} through a {tour['model']['family']}"),
        style=(FOLDER / "page.css").read_text(encoding="utf-8"),
        # "<" could end the element or begin another one
        data=json.dumps(data, allow_nan=False).replace("<", "\\u003c"),
        numbers=numbers.text(),
        script="\n".join((FOLDER / name).read_text(encoding="utf-8") for name in SCRIPTS))
    write_atomic(path, text)


def image_url(image: np.ndarray) -> str:
    """Return an image (H, W, C) as a data URL. If C is neither 3 nor 4, only the first channel is shown."""
    pillow = Image.fromarray(np.ascontiguousarray(image if image.shape[-1] in (3, 4) else image[..., 0]))
    file, small = io.BytesIO(), max(pillow.size) <= LARGEST_PNG
    pillow.thumbnail((LARGEST_SIDE, LARGEST_SIDE))
    if small:
        pillow.save(file, format="PNG", optimize=True)
    else:
        pillow.convert("RGB").save(file, format="JPEG", quality=88)
    kind = "png" if small else "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(file.getvalue()).decode('ascii')}"
