"""The data of a run: whether they fit the model, whether they are still the same, and how to load them again."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..common.checks import suggestion
from ..data import Dataset, is_image_folder, load_data
from ..data.generated import is_generated
from ..data.labels import NO_LABELS
from ..data.load import is_named
from ..models.model import Model
from .config import describe_data
from .folder import RunFolder


def check_fit(model: Model, data: Dataset, labelled: bool = True) -> None:
    """Raise ValueError unless there are test images, the model takes the images, and it has enough classes.

    labelled: False to compare the images alone.
    """
    if labelled and not len(data.test_images):
        raise ValueError(f"{data.name} has no test images")
    expected, found = model.input_shape, data.test_images.shape[1:]
    if found != expected or (labelled and data.classes > model.classes):
        raise ValueError(f"{data.name} does not fit the model: it has {data.classes} classes of images {found}, the "
                         f"model {model.classes} classes of images {expected}")


def check_classes_known(data: Dataset, names: Sequence[str]) -> None:
    """Raise ValueError with the unknown classes of `data`, and the nearest known ones, unless all are among `names`."""
    unknown = [name for name in data.class_names if name not in names]
    if unknown:
        hints = [f"{name} ({hint})" if (hint := suggestion(name, names)) else name for name in unknown]
        raise ValueError(f"{data.name} has classes that the run does not know: {', '.join(hints)}; it knows "
                         f"{', '.join(names)}")


def check_same_data(run: RunFolder, data: Dataset) -> None:
    """Raise ValueError unless `data` is what the run was started with, at whatever path.

    Errors as `RunFolder.config`.
    """
    own, now = run.config()["data"], describe_data(data)
    same, known = _without_path(own) == _without_path(now), run.read_hashes()
    if same and known is not None:                                    # other file names would give another split
        same = np.array_equal(known, data.trained_hashes)
    if not same:
        old = own["source"] and own["source"].get("source")
        moved = old and now["source"] and old != now["source"]["source"]
        what = (f"the data in {old}, and {data.name} has others" if moved
                else f"other data, or {data.name} has changed since")
        raise ValueError(f"{run.path} was started with {what}: resume it with the same images")


def _without_path(described):
    """The description of data without the paths where they and their labels are. The digest covers the labels."""
    source = described["source"] and {name: value for name, value in described["source"].items()
                                      if name not in ("source", "labels")}
    return {name: value for name, value in described.items() if name != "name"} | {"source": source}


def update_sources(run: RunFolder, settings: Mapping[str, Any], data: Dataset) -> None:
    """Store in config.json where the data, the pretrained weights and the teacher are now. Raises OSError."""
    config, before = run.config(), run.config()
    config["training"] |= {name: settings[name] for name in ("start", "teacher")}
    config["data"] |= {"source": data.source, "name": data.name}
    if config != before:
        run.write_config(config)


def preparation(run: RunFolder, source: str | Path) -> dict[str, Any]:
    """Return the arguments of `load_data`, except for the split, that prepare `source` as the run's data."""
    own = run.config()["data"]["source"] or {}
    names: tuple[str, ...] = ("image_size",) if is_generated(source) else ("data_dir",)
    if is_image_folder(source):
        names = ("image_size", "channels", "fit", "labels")
    found = {name: own[name] for name in names if name in own}
    if "labels" in found:
        found["labels"] = labels_of(own, source) or own["labels"]
    return found


def labels_of(own: Mapping[str, Any], source: str | Path) -> str | None:
    """Return the labels of a run's data, if they may be those of another folder of image files, too; else None.

    A pattern of file names may be. A table is that of its own folder; if it is inside this folder, it is also looked
    for at the same place in the other one, which may be the folder at its new path, or a copy.

    Parameters
    ----------
    own : mapping
        The source of the run's data, as config.json has it.
    source : str or Path
        The other folder.
    """
    labels, before = own.get("labels"), own.get("source", "")
    if not labels or "{class}" in labels or labels == NO_LABELS:
        return labels
    if Path(labels).is_relative_to(before):
        moved = Path(source).resolve() / Path(labels).relative_to(before)
        return str(moved) if moved.is_file() else None
    return labels if str(Path(source).resolve()) == before else None


def check_has_source(labels: str | Path | None) -> None:
    """Raise ValueError for labels without data: those of the run's own data are known."""
    if labels is not None:
        raise ValueError(f"labels={labels} belong to data that are not named: name the data, too")


def load_own_data(run: RunFolder, data_dir: str | None = None) -> Dataset:
    """Load the data that the run was trained on.

    Parameters
    ----------
    run : RunFolder
    data_dir : str, optional
        As for `load_data`.

    Raises
    ------
    ValueError
        If the data were arrays in memory, or have changed since. Also as `RunFolder.config` and `load_data` raise.
    FileNotFoundError
        If the data are gone.
    """
    own = run.config()["data"]
    if own["source"] is None:
        raise ValueError(f"{run.path} was trained on arrays in memory, so it has no test images of its own: name the "
                         "data, or files")
    path = own["source"].get("source", "")
    if not is_named(path) and not Path(path).exists():
        raise FileNotFoundError(f"{path}, on which {run.path} was trained, is gone: restore it, or evaluate the run on "
                                "the data at their new path")
    data = load_data(**(own["source"] | ({} if data_dir is None else {"data_dir": data_dir})))
    if data.digest != own["digest"]:
        raise changed_data(run, data)
    return data


def changed_data(run: RunFolder, data: Dataset) -> ValueError:
    """Return the error for data that have changed since the training."""
    return ValueError(f"{data.name} has changed since {run.path} was trained on it, so it is unknown which of its "
                      "images are test images: restore the old content, or name data or image files")
