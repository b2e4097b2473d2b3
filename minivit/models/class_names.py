"""The names of the classes of pretrained weights: a file of weights has numbers only.

They are read from a file that the user names, or from the `config.json` that timm and Hugging Face put beside the
weights. The 1,000 classes of ImageNet are also known if the package timm is installed.
"""

import importlib.util
import json
import os
from pathlib import Path
from typing import Any

IMAGENET = 1000


def read_class_names(weights: str | os.PathLike, classes: int,
                     file: str | os.PathLike | None = None) -> list[str] | None:
    """Return a name for each class of a file of weights.

    Parameters
    ----------
    weights : path
        The file of weights.
    classes : int
        Number of its classes.
    file : path, optional
        A text file with one name a line; or JSON: a list of names, {number: name}, or a `config.json` as above.

    Returns
    -------
    list of K str, or None
        None if no names are found.

    Raises
    ------
    FileNotFoundError, ValueError
        If `file` is missing or damaged, or has another number of names.
    """
    if file is not None:
        names = _from_json(file) if Path(file).suffix == ".json" else _lines(file)
        if names is None or len(names) != classes:
            raise ValueError(f"{file} has {len(names or []):,} names of classes, but {weights} has {classes:,} classes")
        return names
    beside = Path(weights).with_name("config.json")
    try:
        names = _from_json(beside) if beside.is_file() else None
    except ValueError:                                                # it belongs to something else
        names = None
    names = names or (_imagenet() if classes == IMAGENET else None)
    return names if names is not None and len(names) == classes else None


def _lines(file):
    """The lines of a text file that are not empty."""
    try:
        return [line.strip() for line in Path(file).read_text(encoding="utf-8-sig").splitlines() if line.strip()]
    except UnicodeDecodeError as error:
        raise ValueError(f"{file} is not a text file in UTF-8: {error}") from None


def _from_json(file):
    """The names in a JSON file; None if it has none. Raises ValueError if it is damaged."""
    try:
        content = json.loads(Path(file).read_text(encoding="utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{file} is not a readable JSON file: {error}") from None
    return _names(content)


def _names(content: Any) -> list[str] | None:
    """A list of names in JSON: as it is, as {number: name}, or under the keys of timm and Hugging Face."""
    if isinstance(content, list) and content and all(isinstance(name, str) for name in content):
        return content
    if not isinstance(content, dict):
        return None
    if content and all(key.isdecimal() for key in content) and sorted(map(int, content)) == list(range(len(content))):
        return [str(name) for _, name in sorted(content.items(), key=lambda item: int(item[0]))]
    inner = [content.get(key) for key in ("label_names", "id2label", "class_names", "pretrained_cfg")]
    return next((found for value in inner if (found := _names(value))), None)


def _imagenet() -> list[str] | None:
    """The classes of ImageNet from the files of the package timm, which is not imported; None without it."""
    timm = importlib.util.find_spec("timm")
    for place in (timm.submodule_search_locations or []) if timm else []:
        folder = Path(place, "data", "_info")
        try:
            order = _lines(folder / "imagenet_synsets.txt")
            words = dict(line.split("\t", 1) for line in _lines(folder / "imagenet_synset_to_lemma.txt"))
            return [words[synset].split(",")[0] for synset in order]
        except (OSError, ValueError, KeyError):
            continue
    return None
