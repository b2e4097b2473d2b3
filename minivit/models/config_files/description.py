"""What a config.json beside weights says, in the terms of this package."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...common.sizes import check_pair, compact

WEIGHTS = "model.safetensors"  # the file of weights in a folder of timm or Hugging Face


@dataclass(frozen=True)
class Description:
    """A model, and how images fit it.

    name, options: as for `create_model`. class_names: a name for each class, or None. fit, crop: how an image file is
    made square, and the share of its shorter side that is seen, as for `read_image_files`.
    """

    name: str
    options: dict[str, Any]
    class_names: list[str] | None = None
    fit: str = "crop"
    crop: float = 1.0


def describe_weights(path: str | Path) -> Description | None:
    """Return what the config.json beside a file of weights says; None if there is no such file.

    Raises ValueError if config.json is damaged, or describes a model that is not built here.
    """
    from . import hugging_face, timm

    file = Path(path).parent / "config.json"
    if not file.is_file():
        return None
    config = read_json(file)
    try:
        if "architecture" in config:
            return timm.read_config(config)
        if "model_type" in config or "architectures" in config:
            preprocessor = file.with_name("preprocessor_config.json")
            return hugging_face.read_config(config, read_json(preprocessor) if preprocessor.is_file() else {})
        if isinstance(config.get("model"), Mapping) and "family" in config["model"]:
            return _of_run(config)
    except (KeyError, TypeError, AttributeError, IndexError) as error:
        raise ValueError(f"{file} is damaged: {type(error).__name__} {error}") from None
    except ValueError as error:
        raise ValueError(f"{file}: {error}") from None
    raise ValueError(f"{file} describes no model: it has neither timm's entry architecture, nor Hugging Face's "
                     "model_type; pass the model that has these weights as model=...")


def _of_run(config):
    """Return the description in the config.json of a run."""
    data = config["data"]
    options = config["model"]["options"]
    names = [str(name) for name in data["class_names"]]
    names += [str(k) for k in range(len(names), options["classes"])]
    return Description(config["model"]["family"], dict(options), names, data.get("fit", "stretch"))


def read_json(path: Path) -> dict[str, Any]:
    """Return the content of a JSON file. Raises ValueError if it is damaged or no object."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is damaged: {error}") from None
    if not isinstance(content, dict):
        raise ValueError(f"{path} is damaged: it is not a JSON object")
    return content


def size_of(size: Any) -> int | list[int]:
    """Return a size that is one number or [rows, columns] as `common/sizes.py` keeps it. Raises ValueError."""
    return compact(check_pair("a size", size))


def check_class_names(names: list[str] | None, classes: int) -> list[str] | None:
    """Return the names if there is one for each class; None without names. Raises ValueError for another number."""
    if names is not None and len(names) != classes:
        raise ValueError(f"it names {len(names)} classes, but the model has {classes}")
    return names
