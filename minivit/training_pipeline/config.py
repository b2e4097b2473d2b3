"""The content of config.json: what was trained, on which data, with which settings and versions; and its checks."""

import os
import platform
from collections.abc import Iterator, Mapping
from typing import Any

import numba
import numpy as np

from ..common.version import __version__
from ..data import Dataset
from ..models.create import FAMILIES, family_of
from ..models.model import Model
from ..training.settings import SETTINGS, check_setting


def describe(model: Model, data: Dataset, settings: Mapping[str, Any], command: str | None = None) -> dict[str, Any]:
    """Return the content of config.json.

    Parameters
    ----------
    model : Model
    data : Dataset
    settings : mapping
        The complete training settings.
    command : str, optional
        The command that started the run.

    Raises
    ------
    TypeError
        If the model belongs to none of the families, so that it could not be loaded again.
    """
    return {
        "model": describe_model(model),
        "data": describe_data(data),
        "training": settings,
        "command": command,
        "versions": {"minivit": __version__, "python": platform.python_version(), "numpy": np.__version__,
                     "numba": numba.__version__},
    }


def describe_model(model: Model) -> dict[str, Any]:
    """Return what config.json says of the model. Raises as `describe`."""
    family = family_of(model)
    if family is None:
        raise TypeError(f"a run can store models of the families {', '.join(FAMILIES)}, not {type(model).__name__}: "
                        "train it without out")
    return {"family": family, "options": model.config}


def describe_data(data: Dataset) -> dict[str, Any]:
    """Return what config.json says of the data."""
    return {"source": data.source, "name": data.name, "digest": data.digest, "class_names": list(data.class_names),
            "fit": data.fit}


def check_config(config: dict[str, Any]) -> None:
    """Raise KeyError, TypeError or ValueError unless config.json has the entries that are used, of their types."""
    model, data, training = config["model"], config["data"], config["training"]
    _check_types([("model", model, dict), ("data", data, dict), ("training", training, dict),
                  ("command", config.get("command"), str | None), ("versions", config.get("versions", {}), dict)])
    teachers = teacher_records(training.get("teacher"))
    _check_types([("family", model["family"], str), ("options", model["options"], dict), ("name", data["name"], str),
                  ("source", data["source"], dict | None), ("class_names", data["class_names"], list),
                  ("digest", data["digest"], str), ("fit", data.get("fit", ""), str),
                  ("start", training.get("start"), dict | None), ("teacher", teachers, list | None)])
    _check_types([("teacher", teacher, dict) for teacher in teachers or ()])
    _check_types([("class_names", name, str) for name in data["class_names"]])
    if data["source"] is not None:
        _check_types([("source", data["source"]["source"], str)])
    for name, value in training.items():
        if name in SETTINGS and not (name == "epochs" and value is None):      # None: the length was given in minutes
            check_setting(name, value)


def teacher_records(teacher: Any) -> Any:
    """Return the teachers as a list if config.json has a single one, as earlier versions stored it."""
    return [teacher] if isinstance(teacher, dict) else teacher


def _check_types(entries):
    """Raise ValueError unless each (name, value, type) has its type."""
    for name, value, kind in entries:
        if not isinstance(value, kind):
            raise ValueError(f"{name} has the wrong type, {type(value).__name__}")


def check_names_are_utf8(config: Mapping[str, Any], data: Dataset, path: object) -> None:
    """Raise ValueError if a name of a file or class is not valid UTF-8, as the report must be.

    Such a name comes from a file system with another encoding. It is better refused before the training than after it.
    """
    for text in [*_texts(config), *(data.test_files or ()), str(path)]:
        try:
            text.encode()
        except UnicodeEncodeError:
            raise ValueError(f"the name {text!a} is not valid UTF-8, so the report of the run could not be written: "
                             + _remedy(text)) from None


def _remedy(text):
    """What to do about a name: it may be UTF-8 in a process whose locale is not."""
    try:
        os.fsencode(text).decode()
    except UnicodeError:
        return "rename the file or folder"
    return "set PYTHONUTF8=1 in the environment, because the locale has another encoding"


def _texts(value: Any) -> Iterator[str]:
    """All strings in nested dictionaries and lists."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _texts(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _texts(item)
