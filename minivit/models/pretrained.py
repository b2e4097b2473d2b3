"""Files of weights that others have trained, and the named models that they belong to."""

import json
from collections import Counter
from pathlib import Path

from ..common.checks import check_name
from ..weights.match import GOOD, HEADS, Match
from ..weights.safetensors_io import formats
from ..weights.timm import classes_in, from_timm, match_timm, read_any
from .create import CROPS, VARIANTS, declare_model


def read_named(path, name, **options):
    """(model, tensors) of a file of weights: the named variant, declared with as many classes as the file's head has, if it has one, and
    with other `options`; and all that the file holds, {timm's name: array in timm's layout}.

    Raises FileNotFoundError, or ValueError for an unknown name, for options that do not fit, or for a file that is
    damaged.
    """
    check_name("model", name, VARIANTS)
    if Path(path).is_dir():
        raise ValueError(f"{path} is a folder, but with a model's name goes a file of weights; a run has its own model")
    if Path(path).suffix == ".npz" and VARIANTS[name][0] != "vit":
        raise ValueError(f"an .npz is read for a ViT only: the weights of {name} are expected in safetensors, under timm's names")
    tensors = read_any(path)
    classes = classes_in(tensors)
    return declare_model(name, **(({"classes": classes} if classes else {}) | options)), tensors


def load_weights(path, name):
    """(model, share): the named variant with the weights in a file, such as one of timm's, and as many classes as its head has; and the
    share of a picture's shorter side that this model is meant to see, for `read_image_files`.

    The model is for inference: the matrices of its linear maps stay in the file, mapped into memory, until they are
    asked for as one vector. Errors as `read_named`, and ValueError for a file of another model, or without a head.
    """
    model, tensors = read_named(path, name)
    if not classes_in(tensors):
        raise ValueError(f"{path} has no classifier, so it cannot name classes: take weights with a head")
    try:
        return model.memory_map(from_timm(tensors, model)), CROPS.get(name, 1.0)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def inspect_weights(path, name, image_size=None, classes=None):
    """What of a file goes where in the named variant -> (Match, {"parameters": of the model, "numbers": in the file, "formats": {name of a
    number format: how many of the file's tensors have it}}).

    image_size: of the model (default: the variant's). classes: of a new head, in whose place the file's is left out
    (default: the file's own). Errors as `read_named`.
    """
    given = {"image_size": image_size, "classes": classes}
    model, tensors = read_named(path, name, **{option: value for option, value in given.items() if value is not None})
    facts = {"parameters": sum(p.size for p in model.parameters()), "numbers": sum(tensor.size for tensor in tensors.values()),
             "formats": dict(Counter(formats(path) if Path(path).suffix != ".npz" else (x.dtype.name for x in tensors.values())))}
    return match_timm(tensors, model, new_head=classes is not None), facts


def describe_match(found: Match, facts):
    """What `inspect_weights` gives, for JSON: {ok, rows: [{name, file, model, verdict}], parameters, numbers, formats}."""
    rows = [{"name": row.name, "file": row.found, "model": row.expected, "verdict": row.verdict} for row in found.rows]
    return json.loads(json.dumps({"ok": found.ok, "rows": rows} | facts))


def match_text(found: Match, facts):
    """The same as text."""
    kinds = ", ".join(f"{count} of {name}" for name, count in facts["formats"].items())
    lacking = [row for row in found.rows if row.verdict not in GOOD]
    headless = all(row.verdict == "missing" and row.name.startswith(HEADS) for row in lacking)
    verdict = ("these weights are of this model" if found.ok else "these weights are of this model, without its classifier: with --classes "
               "a new one is made" if headless else "these weights are of another model")
    return (f"{found}\nfile: {facts['numbers']:,} numbers, {kinds}; model: {facts['parameters']:,} parameters\n{verdict}")
