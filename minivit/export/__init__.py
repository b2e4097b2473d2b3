"""Trained models for use elsewhere: ONNX files, folders for timm and Hugging Face, and a page for the browser.

Read `models/model.py` before. Nothing here is needed to train.

    source.py            what is exported: the model of a run, or pretrained weights
    export_model.py      what `minivit export` calls
    onnx_model/          a model as an ONNX file
    weight_folders.py    folders that timm and `transformers` load
    web/                 a static page that runs a model in the browser
"""

from typing import Any

from .weight_folders import write_hugging_face_folder, write_timm_folder

__all__ = ["make_onnx", "write_hugging_face_folder", "write_onnx", "write_timm_folder"]


def __getattr__(name: str) -> Any:
    """Import what needs the package onnx when it is first used."""
    if name not in __all__:
        raise AttributeError(f"module 'minivit.export' has no attribute {name!r}; it has {', '.join(__all__)}")
    from .onnx_model import file
    return getattr(file, name)
