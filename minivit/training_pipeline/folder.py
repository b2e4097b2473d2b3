"""The folder of a run: its files, and how they are read and written.

    config.json              model, data and training settings
    learned.npy              hashes of the training and validation images
    log.jsonl                one line for each epoch
    curve.png                the learning curve
    reconstruction.png       images, what a masked autoencoder sees of them, and what it predicts, after pre-training
    checkpoint.safetensors   weights, optimiser state and position in the epoch: all that resuming needs
    stable.safetensors       the checkpoint at the beginning of the decay, of a run with the schedule wsd
    model.safetensors        the final weights, in timm's names and layout
    report.html              curves, mistakes, confusion matrix and settings on one page
    features.safetensors     features for a linear probe, until its training ends

Every file is written to a temporary file and renamed, so none is ever half written. `config.py` makes and checks the
content of config.json.
"""

import io
import json
import math
import os
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from ..common.files import remove_temporaries, write_atomic
from ..common.version import __version__
from ..models.create import check_model_memory, declare_model
from ..models.model import Model
from ..training.loop import EpochProgress
from ..training.settings import default_settings
from ..weight_formats.safetensors_io import read_metadata, read_tensors, write_tensors
from ..weight_formats.timm import read_weights, write_weights
from .config import check_config, teacher_records

OLD_STATE_NAMES = {"adamw.m": "gradient_mean", "adamw.v": "squared_gradient_mean"}     # in checkpoints of version 0.1.0


class RunFolder:
    """The folder of a run, which need not exist yet.

    Parameters
    ----------
    path : str or Path
        Path of the folder.
    """

    def __init__(self, path: str | Path) -> None:
        self.path, self.ranks = Path(path), 1                         # ranks: how many train this run now
        self.config_file, self.log_file = self.path / "config.json", self.path / "log.jsonl"
        self.model_file, self.checkpoint_file = self.path / "model.safetensors", self.path / "checkpoint.safetensors"
        self.curve_file, self.report_file = self.path / "curve.png", self.path / "report.html"
        self.stable_file = self.path / "stable.safetensors"
        self.reconstruction_file = self.path / "reconstruction.png"
        self.features_file, self.hashes_file = self.path / "features.safetensors", self.path / "learned.npy"

    def __repr__(self) -> str:
        return f"RunFolder({str(self.path)!r})"

    def is_run(self) -> bool:
        """Return whether the folder holds a run, even a damaged one.

        A config.json alone may belong to something else.
        """
        try:
            return bool(self.config())
        except FileNotFoundError:
            return False
        except (ValueError, OSError):
            return any(map(os.path.exists, (self.log_file, self.checkpoint_file, self.model_file)))

    # ---- config.json -------------------------------------------------------------------------------------

    def create(self, config: Mapping[str, Any], hashes: np.ndarray) -> None:
        """Make the folder, with config.json and the hashes of the images.

        Raises ValueError if it holds a run already; OSError.
        """
        if self.checkpoint_file.exists() or self.model_file.exists():
            raise ValueError(f"{self.path} already holds a run: continue it with resume=True, or pass another folder "
                             "as out=...")
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OSError(error.errno, f"this folder cannot be created: {error.strerror}; pass another one as out=...",
                          str(self.path)) from None
        remove_temporaries(self.path)
        self.features_file.unlink(missing_ok=True)                    # from a start that was interrupted early
        content = io.BytesIO()
        np.save(content, hashes)
        write_atomic(self.hashes_file, content.getvalue())
        self.write_config(config)

    def write_config(self, config: Mapping[str, Any]) -> None:
        """Write config.json. Raises OSError."""
        write_atomic(self.config_file, json.dumps(config, indent=2) + "\n")

    def config(self) -> dict[str, Any]:
        """Return the content of config.json.

        Raises FileNotFoundError if this is not a run, ValueError if the file is damaged.
        """
        if not self.config_file.is_file():
            raise FileNotFoundError(f"{self.path} is not a run: it has no config.json, which train writes to the "
                                    "folder out=...")
        try:
            config = json.loads(self.config_file.read_text(encoding="utf-8"))
            check_config(config)
        except KeyError as error:
            raise ValueError(f"{self.config_file} is damaged: it lacks {error}") from None
        except (ValueError, TypeError) as error:
            raise ValueError(f"{self.config_file} is damaged: {error}") from None
        return config

    @property
    def settings(self) -> dict[str, Any]:
        """The training settings of config.json.

        Settings that an earlier version did not have take their defaults. Errors as `config`.
        """
        settings = dict(default_settings()) | self.config()["training"]
        return settings | {"teacher": teacher_records(settings["teacher"])}

    @property
    def classifies(self) -> bool:
        """Whether the run was trained on labels, and not pre-trained without them. Errors as `config`."""
        return not self.settings["mask_ratio"]

    def check_classifies(self) -> None:
        """Raise ValueError if the run was pre-trained without labels: its classifier is not trained."""
        if not self.classifies:
            raise ValueError(f"{self.path} was pre-trained without labels, so it has no classifier yet: train one from "
                             f"its weights, with start={str(self.path)!r}")

    @property
    def seed(self) -> int:
        """The seed of the run. Errors as `config`."""
        return self.settings["seed"]

    def class_names(self, model: Model) -> list[str]:
        """Return a name for each class of the model; a number where the data had fewer classes. Errors as `config`."""
        names = self.config()["data"]["class_names"]
        return names + [str(k) for k in range(len(names), model.classes)]

    def damaged(self, reason: str) -> ValueError:
        """Return the error for a config.json that does not fit this version.

        It names the version that wrote the file.
        """
        try:
            wrote = self.config()["versions"]["minivit"]
        except (ValueError, KeyError, TypeError, OSError):
            wrote = None
        if wrote != __version__:
            return ValueError(f"{self.config_file} was written by minivit {wrote or 'of another version'}, and this is "
                              f"{__version__}, for which {reason}: use the version that wrote it")
        return ValueError(f"{self.config_file} is damaged: {reason}; or an earlier state of minivit {wrote} wrote it")

    def resume_command(self) -> str:
        """Return the command that resumes this run, or the Python call if none started it. Errors as `config`."""
        config, verb = self.config(), "train" if self.classifies else "pretrain"
        if config.get("command") is None:
            return f"minivit.{verb}(model, data, out={str(self.path)!r}, resume=True)"
        words = ["minivit", verb, config["data"]["source"]["source"], "--out", str(self.path), "--resume"]
        return shlex.join(words if self.ranks == 1 else ["mpiexec", "-n", str(self.ranks), *words, "--mpi"])

    # ---- log.jsonl and learned.npy -----------------------------------------------------------------------

    def write_log(self, records: Sequence[Mapping[str, Any]]) -> None:
        """Write the records of all epochs so far. Raises OSError."""
        write_atomic(self.log_file, "".join(json.dumps(r) + "\n" for r in records))

    def read_log(self, last_step: float = math.inf) -> list[dict[str, Any]]:
        """Return the records of the epochs that ended by `last_step`. Raises ValueError if the log is damaged."""
        if not self.log_file.is_file():
            return []
        try:
            records = [json.loads(line) for line in self.log_file.read_text(encoding="utf-8").splitlines()]
            for record in records:
                of_labels = ("accuracy", "test_accuracy") if self.classifies else ()
                for name in ("epoch", "step", "loss", "seconds", *of_labels):
                    math.isfinite(record[name])                       # raises if it is missing or no number
                numbers = [value.values() if isinstance(value, dict) else [value] for value in record.values()]
                if not all(math.isfinite(value) for values in numbers for value in values):
                    raise ValueError("a number is not finite")
            return [r for r in records if r["step"] <= last_step]
        except (ValueError, KeyError, TypeError, OverflowError) as error:
            raise ValueError(f"{self.log_file} is damaged: {type(error).__name__} {error}") from None

    def read_hashes(self) -> np.ndarray | None:
        """Return the hashes of the training and validation images, sorted; None if there are none.

        Raises ValueError if damaged.
        """
        if not self.hashes_file.is_file():
            return None
        try:
            hashes = np.load(self.hashes_file)
        except OSError:
            raise
        except Exception as error:                                    # NumPy parses the header as Python code
            raise ValueError(f"{self.hashes_file} is damaged: {error}") from None
        if not isinstance(hashes, np.ndarray) or hashes.dtype != np.uint64 or hashes.ndim != 1:
            raise ValueError(f"{self.hashes_file} is damaged: it holds no list of hashes")
        return hashes

    # ---- weights -----------------------------------------------------------------------------------------

    def declare_model(self) -> Model:
        """Return the model of the run without weights. Raises ValueError if config.json is damaged."""
        config = self.config()["model"]
        try:
            model = declare_model(config["family"], **config["options"])
            check_model_memory(model)
        except (ValueError, TypeError, MemoryError) as error:
            raise self.damaged(str(error)) from None
        return model

    def write_model(self, model: Model) -> None:
        """Write the final weights. Raises OSError."""
        write_weights(self.model_file, model)

    def read_model(self) -> Model:
        """Return the trained model.

        Raises FileNotFoundError if the run has not finished, ValueError if a file is damaged.
        """
        model = self.declare_model()
        self.check_finished()
        values = read_weights(self.model_file, model)
        return model.pack(next(iter(values.values())).dtype, values=values)

    def check_finished(self) -> None:
        """Raise FileNotFoundError if the run has no final weights."""
        if not self.model_file.is_file():
            raise FileNotFoundError(f"{self.path} is not finished, so it has no trained weights yet; resume it with: "
                                    f"{self.resume_command()}")

    def write_checkpoint(self, state: Mapping[str, np.ndarray], step: int, progress: EpochProgress,
                         stable: bool = False) -> None:
        """Write a checkpoint: the arrays of `Loop.state`, the number of steps done, and the totals of the epoch.

        stable: whether to keep it as that at the beginning of the decay. Raises OSError.
        """
        position = {"step": step, "progress": asdict(progress)}
        file = self.stable_file if stable else self.checkpoint_file
        write_tensors(file, dict(state), {"minivit": json.dumps(position)})

    def read_checkpoint(self) -> tuple[dict[str, np.ndarray], int, EpochProgress]:
        """Return what `write_checkpoint` wrote. Raises FileNotFoundError, or ValueError if the file is damaged."""
        step, progress = self.read_position()
        tensors, _ = read_tensors(self.checkpoint_file)
        return {OLD_STATE_NAMES.get(name, name): array for name, array in tensors.items()}, step, progress

    def read_position(self) -> tuple[int, EpochProgress]:
        """Return (steps done, totals of the epoch) of the checkpoint. Errors as `read_checkpoint`."""
        metadata = read_metadata(self.checkpoint_file)
        try:
            position = json.loads(metadata["minivit"])
            progress = EpochProgress(**position["progress"])
            if not all(math.isfinite(value) for value in asdict(progress).values()):
                raise ValueError("a number is not finite")
            return int(position["step"]), progress
        except (KeyError, ValueError, TypeError, OverflowError):
            raise ValueError(f"{self.checkpoint_file} is damaged: it does not say at which step it was saved") from None
