"""Write the folder of the page: the page itself, the model with its attention, and the files of onnxruntime-web."""

import json
import os
from html import escape
from importlib.resources import files
from string import Template
from typing import Any

from ...common.files import atomic_folder, check_is_free
from ...models.model import Model
from ...training_pipeline.run_data import load_own_data
from ..onnx_model.file import make_onnx
from ..source import Source
from .drawing import LEAST_SIDE, UNKNOWN, measure
from .runtime import runtime_files

PAGE = ("page.css", "images.js", "main.js")


def write_web_folder(source: Source, path: str | os.PathLike,
                     runtime: str | os.PathLike | None = None) -> dict[str, Any]:
    """Write a folder with a page that classifies drawings and images in the browser.

    Parameters
    ----------
    source : Source
        The model. If it takes grey images of at least 4 rows and 4 columns, the page takes drawings, and prepares
        them like the run's training images.
    path : path
        The folder, which is new or empty.
    runtime : path, optional
        A folder with the files of onnxruntime-web, see `runtime_files`. Default: they are downloaded once.

    Returns
    -------
    dict
        {"drawing": whether the page takes drawings, "attention": whether it shows attention, "bytes" of all files}.

    Raises
    ------
    ValueError, OSError
        As `make_onnx`, `runtime_files` and `atomic_folder`.
    """
    check_is_free(path)
    model, attention = source.model, hasattr(source.model, "tokens") and source.model.tokens is not None
    content = {name: files(__package__).joinpath(name).read_bytes() for name in PAGE}
    content["model.onnx"] = make_onnx(model, class_names=source.class_names, attention=attention)
    content |= runtime_files(runtime)
    drawing = _drawing(source)
    content["index.html"] = _page(source, drawing).encode()
    with atomic_folder(path) as folder:
        for name, data in content.items():
            (folder / name).write_bytes(data)
    return {"drawing": drawing is not None, "attention": attention, "bytes": sum(map(len, content.values()))}


def _drawing(source: Source) -> dict[str, Any] | None:
    """Return how drawings become images, see `drawing.py`; None for images in colour, and for signals."""
    if source.model.channels != 1 or min(source.model.image_size) < LEAST_SIDE:
        return None
    try:
        return measure(load_own_data(source.run).train_images) if source.run else UNKNOWN
    except (OSError, ValueError):                                     # the data are not there any more
        return UNKNOWN


def _page(source, drawing):
    """Return the HTML page."""
    model: Model = source.model
    height, width = model.image_size
    facts = {"class_names": source.class_names, "height": height, "width": width, "channels": model.channels,
             "fit": source.fit, "crop": source.crop, "drawing": drawing}
    name = source.run.config()["data"]["name"] if source.run else ""
    title = f"{name}: classify images" if name else "Classify images"
    weights = sum(p.size for p in model.parameters())
    about = f"A {type(model).__name__} of minivit with {weights:,} weights and {model.classes} classes."
    text = files(__package__).joinpath("page.html").read_text(encoding="utf-8")
    in_script = json.dumps(facts).replace("<", "\\u003c")            # a class name must not end the script
    return Template(text).substitute(title=escape(title), about=escape(about), model=in_script)
