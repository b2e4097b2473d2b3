"""Where a training has weights from that it does not make itself: to start from, or, of a teacher, to learn from.

They lie in a finished run; or in a file, to which the name of their model is given. A run is such a file, too, and beside it the model, the
classes, and the data that these weights have seen.
"""

import hashlib
from functools import cached_property
from pathlib import Path

from ..data import is_image_folder
from ..models.pretrained import read_named
from ..weights.timm import read_any
from .run import Run


class Source:
    """The weights of a finished run, whose folder is `path`; or those in the file `path`, which belong to the named variant `name`.

    Raises FileNotFoundError if there are none, ValueError if a file comes without a name or a run with one; errors as `Run.config`.
    """

    def __init__(self, path, name=None):
        self.path, self.name, self.run = Path(path), name, None
        if self.path.is_file():
            if name is None:
                raise ValueError(f"{path} is a file, not a run")
            self.file = self.path
        elif name is not None:
            there = self.path.is_dir()
            raise ValueError(f"{path} is a folder: a run has its own model, so leave out --model") if there else FileNotFoundError(
                f"{path}: no such file")
        else:
            self.run = Run(path)
            self.run.config()                                         # says what is wrong if this is no run
            self.file = self.run.model_file
            if not self.file.is_file():
                raise FileNotFoundError(f"{path} is not finished, so it has no trained weights yet: go on with --resume")

    @classmethod
    def again(cls, record, option):
        """The source of a `record`, as it was when that was made. option: that of the command line which names the source.

        Raises ValueError if it is not there any more, or has other weights; errors as `Source`.
        """
        path = record.get("run") or record.get("file", "")
        try:
            source = cls(path, record.get("model"))
        except FileNotFoundError as error:
            raise ValueError(f"the weights that this run needs are not where they were ({error}): put them back, or say with {option} "
                             "where they are now") from None
        if not same_weights(source.record, record):
            raise ValueError(f"{path} has other weights than when the run was started")
        return source

    @cached_property
    def record(self):
        """What config.json keeps: {"run": the folder} or {"file": ..., "model": its name}, and the "sha256" of the weights."""
        where = {"run": str(self.path.resolve())} if self.run else {"file": str(self.path.resolve()), "model": self.name}
        with open(self.file, "rb") as file:
            return where | {"sha256": hashlib.file_digest(file, "sha256").hexdigest()}

    @cached_property
    def _content(self):
        return (self.run.declare(), read_any(self.file)) if self.run else read_named(self.file, self.name)

    @property
    def model(self):
        """The model that the weights belong to, without memory. Errors as `Run.declare` and `read_named`."""
        return self._content[0]

    @property
    def tensors(self):
        """The weights, {timm's name: array in timm's layout}, where they lie in the file. Errors as `read_any`."""
        return self._content[1]

    @property
    def class_names(self):
        """The names of the classes, which a run alone knows; None for a file."""
        return self.run.class_names(self.model) if self.run else None

    def check_unseen(self, data):
        """As `Run.check_unseen`; what the weights in a file have seen is not known."""
        if self.run:
            self.run.check_unseen(data)

    def preparation(self, source):
        """The arguments of `load_data` that prepare pictures in a folder as the model takes them. Errors as `model`."""
        return {"image_size": self.model.image_size, "channels": self.model.channels} if is_image_folder(source) else {}

    def __str__(self):
        return str(self.path)


def same_weights(record, other):
    """Whether two records are of the same weights for the same model, wherever they lie."""
    return all(record.get(key) == other.get(key) for key in ("sha256", "model"))
