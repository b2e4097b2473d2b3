"""Export a trained model in one of the formats: what `minivit export` calls."""

import os
import shlex
from pathlib import Path
from typing import Any

from ..common.files import write_atomic
from .source import Source
from .weight_folders import write_hugging_face_folder, write_timm_folder


def export_onnx(source: Source, path: str | os.PathLike, pixels: str = "uint8",
                attention: bool = False) -> dict[str, Any]:
    """Write the ONNX file of a trained model, and run it in onnxruntime before, if that is installed.

    Parameters
    ----------
    source : Source
        The model.
    path, pixels, attention
        See `write_onnx`.

    Returns
    -------
    dict
        {"file", "bytes", "opset", "input", "outputs", "difference"}. Shapes have "B" for the batch. `difference` is
        that of the logits, see `largest_difference`.

    Raises
    ------
    ImportError
        Without the package onnx.
    ValueError, OSError
        As `write_onnx`.
    """
    from .onnx_model.compare import largest_difference
    from .onnx_model.file import check_path, make_onnx
    from .onnx_model.graph import OPSET

    check_path(path)
    model: Any = source.model
    content = make_onnx(model, pixels=pixels, class_names=source.class_names, attention=attention)
    difference = largest_difference(content, model)
    write_atomic(path, content)
    outputs: dict[str, list] = {"logits": ["B", model.classes]}
    if attention:
        outputs["attention"] = ["B", *model.grid]
    return {"file": str(path), "bytes": len(content), "opset": OPSET, "input": ["B", *model.input_shape],
            "pixels": pixels, "outputs": outputs, "difference": difference}


def export_timm(source: Source, path: str | os.PathLike) -> dict[str, Any]:
    """Write the folder of a trained model for timm. Errors as `write_timm_folder`.

    Returns {"folder", "files", "architecture" (timm's name), "load" (the call that loads it)}.
    """
    name = write_timm_folder(source.model, path, class_names=source.class_names, crop=source.crop)
    return _folder(path, name, f"timm.create_model('local-dir:{path}', pretrained=True)")


def export_hugging_face(source: Source, path: str | os.PathLike) -> dict[str, Any]:
    """Write the folder of a trained ViT for `transformers`. Errors as `write_hugging_face_folder`; result as above."""
    name = write_hugging_face_folder(source.model, path, class_names=source.class_names)
    return _folder(path, name, f"transformers.{name}.from_pretrained('{path}')")


def _folder(path, architecture, load):
    """Return the result of an export to a folder."""
    return {"folder": str(path), "files": sorted(file.name for file in Path(path).iterdir()),
            "architecture": architecture, "load": load}


def export_web(source: Source, path: str | os.PathLike, runtime: str | os.PathLike | None = None) -> dict[str, Any]:
    """Write the folder of a page that runs a trained model in the browser. Arguments, errors: `write_web_folder`.

    Returns the result of `write_web_folder`, with "folder", "files", "architecture" and "load" (how to open it).
    """
    from .web.folder import write_web_folder

    result = write_web_folder(source, path, runtime)
    return _folder(path, type(source.model).__name__,
                   f"http://localhost:8000 after python -m http.server -d {shlex.quote(str(path))}") | result
