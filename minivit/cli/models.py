"""`minivit models`, `minivit weights` and `minivit trace`: named models, files of weights, the layers of a model."""

import argparse
import json
import textwrap

from .parser import COLUMNS, add_json, add_threads, size, worded


def add_models(verbs: argparse._SubParsersAction) -> None:
    """Add `minivit models`."""
    verb = verbs.add_parser("models", help="list the named models",
                            description="List the tokens, parameters and FLOPs of every named model.")
    verb.set_defaults(verb=_models)
    add_json(verb, "the list")


def _models(options: argparse.Namespace) -> None:
    from ..models import describe_models
    from ..models.small import SMALL

    rows = describe_models()
    if options.json:
        print(json.dumps(rows))
        return
    print(f"{'name':32} {'tokens':>6} {'parameters':>12} {'GFLOPs an image':>16}")
    for row in rows:
        print(f"{row['name']:32} {row['tokens'] or '-':>6} {row['parameters']:12,} {row['flops'] / 1e9:16.3f}")
    print(f"\n{', '.join(SMALL)} adapt to the size of the images.")


def add_weights(verbs: argparse._SubParsersAction) -> None:
    """Add `minivit weights`."""
    verb = verbs.add_parser(
        "weights", help="compare a file of weights with a model",
        description="Compare the weights in FILE with a model, name by name and shape by shape. The exit code is\n1 if "
                    "the weights belong to another model.",
        epilog="example:\n  minivit weights w.safetensors --model vit_tiny_patch16_224")
    verb.set_defaults(verb=_weights)
    verb.add_argument("file", metavar="FILE",
                      help="A safetensors file with the names of timm or Hugging Face, or Google's .npz of a ViT.")
    verb.add_argument("--model", metavar="NAME",
                      help="A name that `minivit models` lists. Default: the model of the config.json beside FILE.")
    verb.add_argument("--image-size", type=size, metavar="PIXELS",
                      help="Size of the images for the model, a side or HxW. Learned positions are resized to it.")
    verb.add_argument("--classes", type=int, metavar="K", help="Classes of a new head, which replaces the file's.")
    add_json(verb)


def _weights(options: argparse.Namespace) -> int:
    from ..models.pretrained import describe_match, inspect_weights, match_text

    result = inspect_weights(options.file, options.model, options.image_size, options.classes)
    print(json.dumps(describe_match(*result)) if options.json else worded(match_text(*result), options))
    return 0 if result[0].ok else 1


def add_trace(verbs: argparse._SubParsersAction) -> None:
    """Add `minivit trace`."""
    verb = verbs.add_parser(
        "trace", help="show shapes, parameters, FLOPs and gradients of every layer",
        description="Run a few images through a model and back, and print for every layer the shape of its output, "
                    "its\nparameters, its FLOPs, the size of its output, and the norms of its gradients.",
        epilog="examples:\n  minivit trace vit_base_patch16_224\n  minivit trace runs/digits-seed0 --depth 2\n  "
               "minivit trace w.safetensors --model vit_tiny_patch16_224")
    verb.set_defaults(verb=_trace)
    verb.add_argument("source", metavar="MODEL",
                      help="A name that `minivit models` lists; the folder of a run; or, with --model, a file of "
                           "weights.")
    verb.add_argument("--model", metavar="NAME", help="The named model of a file of weights.")
    verb.add_argument("--depth", type=int, default=1, metavar="LEVELS",
                      help="Levels of layers: 2 shows the layers of each block, too. Default: 1.")
    verb.add_argument("--images", type=int, default=4, metavar="B",
                      help="Size of the batch: digits if they fit the model, else random images. Default: 4.")
    add_threads(verb)
    add_json(verb, "batch, model, loss, layers, places and totals")


def _trace(options: argparse.Namespace) -> None:
    from ..training_pipeline.results.model_trace import trace_model

    found, batch = trace_model(options.source, options.model, options.depth, options.images, options.threads)
    text = f"{found}\n\n{textwrap.fill(batch, COLUMNS)}"
    print(json.dumps({"batch": batch} | found.as_json()) if options.json else text)
