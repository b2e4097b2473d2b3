"""Evaluate a run on its own test images or on other data."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ...common.sizes import Size, pair, size_as_python
from ...data import Dataset, is_image_folder, load_data
from ...data.generated import is_generated
from ...models.model import Model
from ...training.evaluation import Evaluation, evaluate
from ...training.flip_average import add_flip_evaluation
from ..folder import RunFolder
from ..leakage import count_seen
from ..run_data import changed_data, check_classes_known, check_fit, check_has_source, labels_of, load_own_data
from .report import write_report
from .trained_model import latest_model


def evaluate_run(run: RunFolder, source: str | Path | None = None, threads: int | None = None,
                 data_dir: str | None = None, report: str | Path | None = None,
                 image_size: Size | None = None, labels: str | Path | None = None) -> tuple[list[str], Evaluation]:
    """Evaluate the latest model of a run.

    Parameters
    ----------
    run : RunFolder
        The run.
    source : str or Path, optional
        Other data, whose classes are found by name. If they have no test part, all images are used. Without it the
        run's own test images are used. If `source` is the data that the run was trained on, only their test images are
        used.
    threads : int, optional
        Number of threads (default: the cores of this process).
    data_dir : str, optional
        As for `load_data`.
    report : str or Path, optional
        A file to write the report to.
    image_size : int or (int, int), optional
        Another size for image files than that of the training. See `models/other_sizes.py`.
    labels : str or path, optional
        The classes of the image files in `source`, as for `load_data` (default: those of the run, if they may be those
        of `source`, too: see `labels_of`).

    Returns
    -------
    class_names : list of str
        The names of the model's classes.
    evaluation : Evaluation
        Its `seen` counts the images that the run was trained on.

    Raises
    ------
    ValueError, FileNotFoundError, OSError
        As `latest_model`, `load_data` and `count_seen`, or if the data do not fit the model.
    """
    found = prepare(run, source, data_dir, image_size, labels)
    model, data = found.model, found.data
    evaluation = evaluate(model, data.test_images, found.true, threads, files=data.test_files)
    evaluation = add_flip_evaluation(evaluation, model, run.settings, data.test_images, found.true, threads)
    evaluation = replace(evaluation, seen=found.seen)
    if report is not None:
        write_report(run, model, data, evaluation, report)
    return found.names, evaluation


@dataclass(frozen=True)
class Prepared:
    """What an evaluation of a run needs.

    Attributes
    ----------
    model : Model
    data : Dataset
        Whose test images are used.
    names : list of str
        The names of the model's classes.
    true : (B,) int
        The class of each test image, as the model numbers it.
    seen : int or None
        How many of the test images the run was trained or validated on; None if that is not known.
    """

    model: Model
    data: Dataset
    names: list[str]
    true: np.ndarray
    seen: int | None


def prepare(run: RunFolder, source: str | Path | None, data_dir: str | None, image_size: Size | None,
            labels: str | Path | None) -> Prepared:
    """Load the latest model of a run, and the data to evaluate it on. Arguments and errors as `evaluate_run`."""
    if source is None:
        check_has_source(labels)
    model = latest_model(run)
    data = load_own_data(run, data_dir) if source is None else _load_other(run, source, model, data_dir, labels)
    check_fit(model, data)
    seen = count_seen(run, data.test_images)
    data = data if image_size is None else _at_size(data, image_size)
    names = run.class_names(model)
    check_classes_known(data, names)
    true = np.array([names.index(name) for name in data.class_names])[data.test_labels]
    return Prepared(model, data, names, true, seen)


def _at_size(data: Dataset, image_size: Size) -> Dataset:
    """Return a folder of image files with the same split and another image size. Raises ValueError for other data."""
    if not data.source or "image_size" not in data.source:
        raise ValueError(f"image_size={size_as_python(pair(image_size))}: the images of {data.name} have a fixed size, "
                         "which only image files have not")
    return load_data(**(data.source | {"image_size": image_size}))


def _load_other(run: RunFolder, source: str | Path, model: Model, data_dir: str | None,
                labels: str | Path | None) -> Dataset:
    """Load data for the test; of the run's own data, wherever they are now, only the test part."""
    own = run.config()["data"]
    arguments: dict[str, Any] = {"source": source, "test_fraction": 1, "data_dir": data_dir}
    if is_image_folder(source):
        arguments |= {"image_size": model.image_size, "channels": model.channels, "fit": own.get("fit"),
                      "labels": labels or labels_of(own["source"] or {}, source)}
    elif is_generated(source):
        arguments["image_size"] = model.image_size
    elif labels is not None:
        arguments["labels"] = labels                                  # which only image files take
    data = load_data(**arguments)
    if own["source"] and data.digest == own["digest"]:
        return load_data(**(arguments | {name: own["source"][name] for name in ("seed", "test_fraction")}))
    if not run.hashes_file.is_file():
        if own["source"] and data.source and data.source["source"] == own["source"]["source"]:
            raise changed_data(run, data)
        if data.digest == own["digest"]:
            raise ValueError(f"{run.path} was trained on arrays in memory that {data.name} contains too, and it is "
                             "unknown which of them are test images: name other data")
    return data
