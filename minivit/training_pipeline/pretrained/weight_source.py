"""Pretrained weights: a starting point for training, or a teacher.

They are in a finished run, which also knows the model, the classes and the images it was trained on; or in a file, for
which the name of the model is given, or a config.json beside it says it.
"""

import hashlib
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from ...data import Dataset, is_image_folder
from ...models.config_files.description import WEIGHTS
from ...models.model import Model
from ...models.pretrained import are_described, declare_described, described_weights, read_named
from ...weight_formats.timm import read_any
from ..folder import RunFolder
from ..leakage import check_unseen


class WeightSource:
    """Pretrained weights in a run or in a file.

    Parameters
    ----------
    path : str or Path
        The folder of a finished run, a file of weights, or a folder of timm or Hugging Face.
    model : str, optional
        For a file, the named variant that the weights belong to. Default: what the config.json beside it says.

    Raises
    ------
    FileNotFoundError
        If there are no weights.
    ValueError
        If a file comes without a model, or a run with one. Also as `RunFolder.config` raises.
    """

    def __init__(self, path: str | Path, model: str | None = None) -> None:
        if model is None and Path(path).name == WEIGHTS and RunFolder(Path(path).parent).is_run():
            path = Path(path).parent                                  # a run knows what it was trained on
        self.path, self.name, self.run, self.description = Path(path), model, None, None
        if model is None and are_described(path):
            self.file, self.description = described_weights(path)
        elif self.path.is_file():
            if model is None:
                raise ValueError(f"{path} is a file, not a run")
            self.file = self.path
        elif model is not None:
            if self.path.is_dir():
                raise ValueError(f"{path} is a folder: a run has its own model, so leave out model=...")
            raise FileNotFoundError(f"{path}: no such file")
        else:
            self.run = RunFolder(path)
            self.run.config()                                         # raises if this is not a run
            self.run.check_finished()
            self.file = self.run.model_file

    @classmethod
    def from_record(cls, record: Mapping[str, Any], setting: str) -> "WeightSource":
        """Return the source that a `record` in config.json describes.

        setting: "start" or "teacher", for the message. Raises ValueError if the weights are no longer there or have
        changed; errors as `WeightSource`.
        """
        path = record.get("run") or record.get("file", "")
        try:
            source = cls(path, record.get("model"))
        except FileNotFoundError as error:
            raise ValueError(f"the weights that this run needs are not where they were ({error}): put them back, or "
                             f"pass their new path as {setting}=...") from None
        if not same_weights(source.record, record):
            raise ValueError(f"{path} has other weights than when the run was started")
        return source

    @cached_property
    def record(self) -> dict[str, Any]:
        """What config.json stores: {"run": folder} or {"file": path, "model": name}, and "sha256"."""
        path = str(self.path.resolve())
        with open(self.file, "rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        return ({"run": path} if self.run else {"file": path, "model": self.name}) | {"sha256": digest}

    @cached_property
    def _content(self):
        if self.description:
            return declare_described(self.file, self.description), read_any(self.file)
        return (self.run.declare_model(), read_any(self.file)) if self.run else read_named(self.file, self.name or "")

    @property
    def model(self) -> Model:
        """The model that the weights belong to, without weights.

        Errors as `RunFolder.declare_model` and `read_named`.
        """
        return self._content[0]

    @property
    def tensors(self) -> dict[str, np.ndarray]:
        """The weights, {timm's name: array in timm's layout}, mapped from the file. Errors as `read_any`."""
        return self._content[1]

    @property
    def class_names(self) -> list[str] | None:
        """The names of the classes; None for a file, which does not have them, and after a pre-training."""
        if self.description:
            return self.description.class_names
        return self.run.class_names(self.model) if self.run and self.run.classifies else None

    def check_unseen(self, data: Dataset) -> None:
        """Raise ValueError if the run was trained on test images of `data`. For a file this is unknown."""
        if self.run:
            check_unseen(self.run, data)

    def preparation(self, source: str | Path) -> dict[str, Any]:
        """Return the arguments of `load_data` that prepare an image folder as the model takes them.

        Errors as `model`.
        """
        return {"image_size": self.model.image_size, "channels": self.model.channels} if is_image_folder(source) else {}

    def __str__(self) -> str:
        return str(self.path)


def check_is_not_a_file(path: str | Path) -> None:
    """Raise ValueError if a run is expected and `path` is a file of weights that nothing describes."""
    if Path(path).is_file():
        raise ValueError(f"{path} is a file, not a run: pass the model that has these weights as model=...")


def same_weights(record: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Return whether two records describe the same weights of the same model, at whatever path."""
    return all(record.get(key) == other.get(key) for key in ("sha256", "model"))


def with_new_paths(stored: Any, given: Any) -> Any:
    """Return the stored record with the path of the given one, if both describe the same weights; else None.

    Of a list of records, as several teachers have, those that have not moved may be left out of `given`.
    """
    if isinstance(given, dict):
        return given if stored and same_weights(stored, given) else None
    now = [next((new for new in given if same_weights(old, new)), old) for old in stored or ()]
    return now if all(new in now for new in given) else None


def weight_record(source: Any) -> dict[str, Any]:
    """Return the record of a `WeightSource` or of the path of a run; a record is returned as it is."""
    if isinstance(source, dict):
        return source
    return (source if isinstance(source, WeightSource) else WeightSource(source)).record
