"""`minivit export`: a trained model for use elsewhere."""

import argparse
import json
from typing import Any

from .parser import add_json, given, print_note


def add_export(verbs: argparse._SubParsersAction) -> None:
    """Add `minivit export`."""
    verb = verbs.add_parser(
        "export", help="write a trained model for use elsewhere",
        description="Write the model of RUN as an ONNX file, whose graph normalises the pixels; with --timm or\n"
                    "--hugging-face, as a folder with config.json and model.safetensors; or with --web, as a page\n"
                    "for the browser.",
        epilog="examples:\n  minivit export runs/digits-seed0 digits.onnx\n  minivit export runs/digits-seed0 folder "
               "--timm\n  minivit export runs/digits-seed0 page --web\n  minivit export w.safetensors vit.onnx --model "
               "vit_tiny_patch16_224")
    verb.set_defaults(verb=_export)
    verb.add_argument("run", metavar="RUN", help="The folder of a run, or weights: see --model.")
    verb.add_argument("out", metavar="OUT", help="The file to write, such as model.onnx, or a new folder.")
    verb.add_argument("--model", metavar="NAME",
                      help="The named model of a file of weights: timm's or Hugging Face's safetensors, or Google's "
                           ".npz. Not needed for weights with a config.json beside them.")
    formats = verb.add_mutually_exclusive_group()
    formats.add_argument("--timm", action="store_true",
                         help="Write a folder for timm.create_model('local-dir:OUT', pretrained=True).")
    formats.add_argument("--hugging-face", action="store_true",
                         help="Write a folder for transformers.ViTForImageClassification.from_pretrained('OUT').")
    formats.add_argument("--web", action="store_true",
                         help="Write a folder with a page that runs the model in a browser: draw, or drop an image.")
    verb.add_argument("--runtime", metavar="DIR",
                      help="For --web: the folder of the npm package onnxruntime-web. Default: download it once.")
    onnx = verb.add_argument_group("ONNX")
    onnx.add_argument("--pixels", metavar="KIND",
                      help="What the file takes: uint8 (pixels 0 to 255) or float (0 to 1). Default: uint8.")
    onnx.add_argument("--attention", action="store_true", default=None,
                      help="Add a second output: the attention rollout to the patches.")
    add_json(verb)


def _export(options: argparse.Namespace) -> None:
    from ..export import export_model
    from ..export.source import read_source

    form = next((name for name in ("timm", "hugging_face", "web") if getattr(options, name)), "onnx")
    choice = given(options, "pixels", "attention", "runtime")
    _check(form, choice)
    source = read_source(options.run, options.model)
    result = getattr(export_model, f"export_{form}")(source, options.out, **choice)
    print_note(source.note, options)
    print(json.dumps(result) if options.json else _onnx_text(result) if form == "onnx" else _folder_text(result))


def _check(form: str, choice: dict[str, Any]) -> None:
    """Raise ValueError for an option that belongs to another format."""
    owners = {"pixels": "ONNX files", "attention": "ONNX files", "runtime": "--web"}
    forms = {"onnx": "ONNX files", "web": "--web"}
    for name in choice:
        if owners[name] != forms.get(form):
            raise ValueError(f"--{name} is an option of {owners[name]}: leave it out here")


def _folder_text(result: dict[str, Any]) -> str:
    """Return the result of an export to a folder as text."""
    if "drawing" in result:
        return f"{result['folder']}: {len(result['files'])} files, {result['bytes']:,} bytes\nopen {result['load']}"
    return f"{result['folder']}: {', '.join(result['files'])}\nload it with {result['load']}"


def _onnx_text(result: dict[str, Any]) -> str:
    """Return the result of `export_onnx` as text."""
    outputs = ", ".join(f"{name} {_shape(shape)}" for name, shape in result["outputs"].items())
    text = (f"{result['file']}: {result['bytes']:,} bytes, ONNX opset {result['opset']}\n"
            f"images {_shape(result['input'])} {result['pixels']} -> {outputs}")
    if result["difference"] is None:
        return f"{text}\nnot compared with this model, which needs onnxruntime"
    return f"{text}\nlargest difference of a logit in onnxruntime: {result['difference']:.0e} of the largest logit"


def _shape(sizes: list) -> str:
    """Return a shape as text."""
    return f"({', '.join(map(str, sizes))})"
