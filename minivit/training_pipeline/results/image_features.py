"""Features of all images of a data set, with the model of a run or a file of pretrained weights."""

import io
from pathlib import Path
from typing import Any

import numpy as np

from ...common.files import check_memory, write_atomic
from ...common.sizes import Size
from ...data import Dataset, is_image_folder, load_data
from ...models.model import Model
from ...models.pretrained import Pretrained
from ..folder import RunFolder
from ..run_data import check_has_source, labels_of, load_own_data, preparation
from .trained_model import latest_model


def features_of_run(run: RunFolder, source: str | Path | None = None, *, tokens: bool = False,
                    image_size: Size | None = None, threads: int | None = None,
                    data_dir: str | None = None, labels: str | Path | None = None) -> dict[str, np.ndarray]:
    """Return the features of all images of a data set, by the latest model of a run.

    Parameters
    ----------
    run : RunFolder
    source : str or Path, optional
        The data, as for `load_data`; image files are prepared as the run's own. Default: the run's own data.
    tokens : bool
        Whether to return all tokens of each image, as `Model.features`.
    image_size : int or (int, int), optional
        Size for image files. Default: that of the training.
    threads : int, optional
        Number of threads (default: the cores of this process).
    data_dir : str, optional
        As for `load_data`.
    labels : str or Path, optional
        The classes of the image files in `source`, as for `load_data`. Default: as for `evaluate_run`.

    Returns
    -------
    dict of str to np.ndarray
        "features" (B, D), or (B, N, D) with `tokens`; "labels" (B,), numbers of "class_names" (K,); "part" (B,),
        "train", "val" or "test", or "all" if the data have no parts; "files" (B,), of the images that have one, else
        "".

    Raises
    ------
    ValueError, FileNotFoundError
        As `latest_model`, `load_own_data` and `load_data`, or if the images do not fit the model.
    """
    model = latest_model(run, classifies=False)
    own = run.config()["data"]
    if source is None:
        check_has_source(labels)
        data = load_own_data(run, data_dir)
        if image_size is not None:
            data = load_data(**((data.source or {}) | {"image_size": image_size}))
        return _features(model, data, tokens, threads)
    arguments = preparation(run, source)
    if is_image_folder(source):
        arguments |= {"image_size": model.image_size, "channels": model.channels, "fit": own.get("fit"),
                      "labels": labels_of(own["source"] or {}, source)}
    return _features(model, _load(source, arguments, image_size, data_dir, labels), tokens, threads)


def features_of_weights(weights: Pretrained, source: str | Path, *, tokens: bool = False,
                        image_size: Size | None = None, threads: int | None = None,
                        data_dir: str | None = None, labels: str | Path | None = None) -> dict[str, np.ndarray]:
    """Return the features of all images of a data set, by a model with pretrained weights.

    Parameters, result and errors as for `features_of_run`. Of a photograph, all that `fit` leaves is seen, not the
    share `crop` of it.
    """
    model, arguments = weights.model, dict[str, Any]()
    if is_image_folder(source):
        arguments = {"image_size": model.image_size, "channels": model.channels, "fit": weights.fit}
    return _features(model, _load(source, arguments, image_size, data_dir, labels), tokens, threads)


def _load(source: str | Path, arguments: dict[str, Any], image_size: Size | None, data_dir: str | None,
          labels: str | Path | None) -> Dataset:
    """Load data, all in the test part unless they come in parts."""
    given = {"image_size": image_size, "data_dir": data_dir, "labels": labels}
    return load_data(source, **({"test_fraction": 1} | arguments | {name: value for name, value in given.items()
                                                                    if value is not None}))


def _features(model: Model, data: Dataset, tokens: bool, threads: int | None) -> dict[str, np.ndarray]:
    """Compute the features of all parts of the data."""
    parts = {part: pair for part, pair in data.parts.items() if len(pair[0])}
    count, numbers = sum(len(labels) for _, labels in parts.values()), model.features(_one(model, data), tokens).size
    check_memory(f"the features of {count} images", count * numbers * model.dtype.itemsize)
    found = [model.features(images, tokens, threads) for images, _ in parts.values()]
    named = ["all"] if list(parts) == ["test"] else list(parts)
    files = [data.test_files if part == "test" and data.test_files else [""] * len(labels)
             for part, (_, labels) in parts.items()]
    return {
        "features": np.concatenate(found), "labels": np.concatenate([labels for _, labels in parts.values()]),
        "part": np.repeat(named, [len(labels) for _, labels in parts.values()]),
        "files": np.concatenate([np.array(part, dtype=str) for part in files]),
        "class_names": np.array(data.class_names),
    }


def _one(model: Model, data: Dataset) -> np.ndarray:
    """Return an image of the data; raise ValueError if its channels are not those of the model."""
    image = next(images for images, _ in data.parts.values() if len(images))[:1]
    if image.shape[3] != model.channels:
        raise ValueError(f"{data.name} has images of {image.shape[3]} channels, but the model takes {model.channels}")
    return image


def write_features(path: str | Path, arrays: dict[str, np.ndarray]) -> None:
    """Write arrays to an .npz file, completely or not at all. Raises OSError."""
    content = io.BytesIO()
    np.savez(content, **arrays)  # type: ignore[arg-type]
    write_atomic(path, content.getvalue())


def check_npz(path: str | Path) -> None:
    """Raise ValueError unless the name of a file ends in .npz, which NumPy's `load` reads."""
    if Path(path).suffix != ".npz":
        raise ValueError(f"features are written as an .npz file, not as {path}: give it the ending .npz")
