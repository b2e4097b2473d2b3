"""A whole ONNX file: input, normalisation of the pixels, the model, outputs and metadata.

    images (B, H, W, C)  ->  logits (B, K), and on request attention (B, S, S)

B may be any number in each call. The images are uint8 pixels, or float32 pixels from 0 to 1. The graph normalises them.

Metadata: `class_names` is a list of names in JSON, and `minivit` has the version, the family and the options of the
model.
"""

import json
import math
import os
from collections.abc import Sequence
from pathlib import Path

from ...common.checks import check_name
from ...common.files import write_atomic
from ...common.version import __version__
from ...models import Swin
from ...models.create import family_of
from ...models.model import Model

try:
    import onnx
except ImportError:
    raise ImportError("ONNX files need the package onnx: pip install 'minivit[onnx]'") from None

from .attention import write_rollout
from .graph import IR_VERSION, OPSET, Graph
from .models import WRITERS

PIXELS = ("uint8", "float")
LARGEST = 2**31 - 1  # bytes of a file in the format Protocol Buffers, which ONNX uses


def write_onnx(model: Model, path: str | os.PathLike, *, pixels: str = "uint8",
               class_names: Sequence[str] | None = None, attention: bool = False) -> None:
    """Write a model to an ONNX file, completely or not at all.

    Parameters
    ----------
    model : Model
        A `ViT`, `DeiT`, `Swin` or `ResNet`. Its weights are written as float32.
    path : path
        The file.
    pixels, class_names, attention
        See `make_onnx`.

    Raises
    ------
    ValueError
        As `make_onnx`; or if the file's name does not end in .onnx.
    OSError
        If the file cannot be written.
    """
    check_path(path)
    write_atomic(path, make_onnx(model, pixels=pixels, class_names=class_names, attention=attention))


def check_path(path: str | os.PathLike) -> None:
    """Raise ValueError or OSError if an ONNX file cannot be written to this path, as far as one can tell."""
    if Path(path).suffix.lower() != ".onnx":
        raise ValueError(f"the name of an ONNX file ends in .onnx, not {Path(path).name!r}: name a file such as "
                         "model.onnx")
    if Path(path).is_dir():
        raise IsADirectoryError(f"{path} is a folder: name a file such as {Path(path).with_name('model.onnx')}")
    if not Path(path).parent.is_dir():
        raise FileNotFoundError(f"{Path(path).parent}: no such folder, so {Path(path).name} cannot be written there")


def make_onnx(model: Model, *, pixels: str = "uint8", class_names: Sequence[str] | None = None,
              attention: bool = False) -> bytes:
    """Return the content of an ONNX file. Equal models give equal bytes.

    Parameters
    ----------
    model : Model
        A `ViT`, `DeiT`, `Swin` or `ResNet`.
    pixels : {"uint8", "float"}
        What the graph takes: uint8 pixels, or float32 pixels from 0 to 1.
    class_names : sequence of K str, optional
        Names of the classes, for the metadata. Default: their numbers.
    attention : bool
        Whether the graph has a second output, the attention rollout (B, S, S) from the pooling to the S x S patches.

    Returns
    -------
    bytes
        The content, which `onnx.checker` has checked.

    Raises
    ------
    ValueError
        If the model cannot be expressed in ONNX, it is larger than 2 GiB, or an argument does not fit.
    """
    check_name("pixels", pixels, PIXELS)
    names = [str(k) for k in range(model.classes)] if class_names is None else [str(name) for name in class_names]
    if len(names) != model.classes:
        raise ValueError(f"class_names must be {model.classes}, one for each class of the model, not {len(names)}")
    check_size(model)
    view = model.inference_view()
    graph = Graph(WRITERS, {id(layer): path for path, layer in view.named_layers()})
    logits = graph.layer(view, _normalised(graph, view, pixels))
    outputs = [_output(graph, logits, "logits", "scores of the classes", view.classes)]
    if attention:
        outputs.append(_attention_output(graph, view))
    content = _serialised(graph, view, pixels, names, outputs)
    onnx.checker.check_model(content, full_check=True)
    return content


def check_size(model: Model) -> None:
    """Raise ValueError if the weights do not fit into one ONNX file."""
    size = 4 * sum(p.size for p in model.parameters())
    if size > LARGEST:
        raise ValueError(f"an ONNX file holds at most 2 GiB, but the weights of this model take {size / 2**30:.1f} "
                         "GiB: export a smaller model")


def _normalised(graph, model, pixels):
    """Add the normalisation of the images (B, H, W, C), and return the name of the result, (B, C, H, W).

    As in `ops/pixels.py`: x = pixel / (255 std) - mean / std.
    """
    largest = 255 if pixels == "uint8" else 1
    x = graph.node("Cast", "images", to=onnx.TensorProto.FLOAT) if pixels == "uint8" else "images"
    x = graph.node("Mul", x, graph.array(1 / (largest * model.std), "pixel_scale"))
    return graph.transpose(graph.node("Sub", x, graph.array(model.mean / model.std, "pixel_shift")), 0, 3, 1, 2)


def _attention_output(graph, model):
    """Add the attention rollout, and return the description of this output."""
    if not graph.attention:
        raise ValueError(f"a {type(model).__name__} has no attention: leave out attention=True")
    last = math.prod(model.stage_grid(len(model.layers) - 1)) if isinstance(model, Swin) else model.tokens
    prefix = getattr(model, "prefix", 0)
    rollout = write_rollout(graph, last, prefix, model.grid, by_class_token=prefix > 0 and model.pool == "token")
    return _output(graph, rollout, "attention", "attention rollout from the pooling to the patches", *model.grid)


def _output(graph, x, name, text, *shape):
    """Give an output its final name, and return its description."""
    graph.nodes.append(onnx.helper.make_node("Identity", [x], [name], name=name))
    return onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["batch", *shape], text)


def _serialised(graph, model, pixels, class_names, outputs):
    """Return the file's content."""
    kind, words = {"uint8": (onnx.TensorProto.UINT8, "pixels from 0 to 255"),
                   "float": (onnx.TensorProto.FLOAT, "pixels from 0 to 1")}[pixels]
    images = onnx.helper.make_tensor_value_info("images", kind, ["batch", *model.input_shape],
                                                f"{words}; rows from the top, channels last")
    made = onnx.helper.make_graph(graph.nodes, type(model).__name__, [images], outputs, graph.initializers)
    file = onnx.helper.make_model(made, opset_imports=[onnx.helper.make_opsetid("", OPSET)], ir_version=IR_VERSION,
                                  producer_name="minivit", producer_version=__version__)
    about = {"version": __version__, "family": family_of(model), "options": model.config}
    onnx.helper.set_model_props(file, {"class_names": json.dumps(class_names, ensure_ascii=False),
                                       "minivit": json.dumps(about, sort_keys=True)})
    return file.SerializeToString(deterministic=True)
