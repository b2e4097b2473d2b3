"""A run is a folder, which holds all that there is to know about a training:

    config.json              what was asked: model, data, settings
    learned.npy              by which numbers the pictures are known again that it learns from, or is chosen by
    log.jsonl                a line for each epoch
    curve.png                the same as a picture
    checkpoint.safetensors   the weights, the optimiser's state and the place in the epoch: all that going on needs
    model.safetensors        the final weights, in timm's names and layout
    report.html              all of it to look at: curves, mistakes, confusion matrix, settings
    features.safetensors     of a probe, until it ends: what its trunk made of each picture
"""

import io
import json
import platform
import re
import shlex
from dataclasses import asdict, replace
from pathlib import Path

import numba
import numpy as np

from .. import __version__
from ..common.checks import check_number, suggestion
from ..common.files import remove_temporaries, write_atomic
from ..data import is_image_folder, load_data, read_image_files
from ..data.dataset import image_hashes
from ..data.load import NAMES
from ..models.create import FAMILIES, declare_model, family_of
from ..training.evaluation import evaluate
from ..training.flip_average import add_flip_evaluation
from ..weights.safetensors_io import read_metadata, read_tensors, write_tensors
from ..weights.timm import read_weights, write_weights
from .checkpoints import Progress
from .prediction import classify

TWICE = 0.01    # of the test images may be known: pictures that a data set has twice are not the fault of its split


class Run:
    """The folder of a run, which need not exist yet."""

    def __init__(self, folder):
        self.folder = Path(folder)
        self.config_file, self.log_file = self.folder / "config.json", self.folder / "log.jsonl"
        self.model_file, self.checkpoint_file = self.folder / "model.safetensors", self.folder / "checkpoint.safetensors"
        self.curve_file, self.report_file = self.folder / "curve.png", self.folder / "report.html"
        self.features_file, self.learned_file = self.folder / "features.safetensors", self.folder / "learned.npy"

    def start(self, config, data):
        """Make the folder, its config.json, and what there is to know of `data`. Raises ValueError if it holds more of a run already."""
        if self.checkpoint_file.exists() or self.model_file.exists():
            raise ValueError(f"{self.folder} holds a run already: continue it with --resume, or choose another folder with --out")
        text, hashes = json.dumps(config, indent=2) + "\n", io.BytesIO()
        np.save(hashes, _learned_hashes(data))
        self.folder.mkdir(parents=True, exist_ok=True)
        remove_temporaries(self.folder)
        self.features_file.unlink(missing_ok=True)                    # of a start that came no further
        write_atomic(self.learned_file, hashes.getvalue())
        write_atomic(self.config_file, text)

    def update_sources(self, settings, data):
        """Note in config.json where the data lie now, and the weights that the run needs, to start from or of its teacher. OSError."""
        config, before = self.config(), self.config()
        config["training"] |= {name: settings[name] for name in ("start", "teacher")}
        config["data"] |= {"source": data.source, "name": data.name}
        if config != before:
            write_atomic(self.config_file, json.dumps(config, indent=2) + "\n")

    def check_same(self, data):
        """Raise ValueError unless a Dataset is what the run was started with, wherever it lies now. Errors as `config`."""
        own, now = self.config()["data"], describe_data(data)
        old = own["source"] and own["source"].get("source")
        same = _without_place(own) == _without_place(now)
        if same and self.learned_file.is_file():                      # files with other names would be split in another way
            same = np.array_equal(self._learned(), _learned_hashes(data))
        if not same:
            moved = old and now["source"] and old != now["source"]["source"]
            what = f"the data in {old}, and {data.name} has others" if moved else f"other data, or {data.name} has changed since"
            raise ValueError(f"{self.folder} was started with {what}: only the same images go on to the same bits")

    def config(self):
        """What config.json says. Raises FileNotFoundError if this is no run, ValueError if the file is damaged."""
        if not self.config_file.is_file():
            raise FileNotFoundError(f"{self.folder} is no run: it has no config.json (a run is the folder that train was given as --out)")
        try:
            config = json.loads(self.config_file.read_text())
            family, options, names = config["model"]["family"], config["model"]["options"], config["data"]["class_names"]
            kinds = [(family, str), (options, dict), (names, list), (config["data"]["source"], dict | None),
                     (config["data"]["digest"], str), (config["training"], dict)]
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{self.config_file} is damaged: {type(error).__name__} {error}") from None
        if not all(isinstance(value, kind) for value, kind in kinds):
            raise ValueError(f"{self.config_file} is damaged: an entry is of the wrong kind")
        return config

    @property
    def seed(self):
        """The run's own seed. Errors as `config`."""
        return self.config()["training"].get("seed", 0)

    def damaged(self, words):
        """A ValueError that says what is wrong with config.json, and if another version of minivit wrote it, that this may be why."""
        try:
            wrote = self.config()["versions"]["minivit"]
        except (ValueError, KeyError, TypeError, OSError):
            wrote = None
        if wrote != __version__:
            return ValueError(f"{self.config_file} was written by minivit {wrote or 'of another version'}, and this is {__version__}, for "
                              f"which {words}: go on with the version that began")
        return ValueError(f"{self.config_file} is damaged: {words}; or an earlier state of minivit {wrote} wrote it")

    def resume_command(self):
        """The command that goes on with this run; a call, if it was trained on arrays in memory. Errors as `config`."""
        source = self.config()["data"]["source"]
        if source is None:
            return f"minivit.train(model, data, out={str(self.folder)!r}, resume=True)"
        return shlex.join(["minivit", "train", source["source"], "--out", str(self.folder), "--resume"])

    def preparation(self, source):
        """How the run prepared its data: the arguments of `load_data` that apply to `source`, too, beside seed and test_fraction.

        Errors as `config`.
        """
        own = self.config()["data"]["source"] or {}
        return {name: own[name] for name in (("image_size", "channels", "fit") if is_image_folder(source) else ("data_dir",)) if name in own}

    def restore(self, trainer):
        """Put `trainer` into the state of the checkpoint -> (records, Progress); without a checkpoint, at the start.

        What the log has beyond that, and files that were only half written, are removed, so a folder that cannot be written is noticed
        before the first step. Raises ValueError if the run has ended and its checkpoint is gone; errors as `load_checkpoint` and `records`;
        OSError.
        """
        if self.model_file.exists() and not self.checkpoint_file.exists():
            raise ValueError(f"{self.folder} has ended, and its checkpoint is gone: there is nothing to go on from")
        progress = self.load_checkpoint(trainer) if self.checkpoint_file.exists() else Progress()
        records = self.records(trainer.optimiser.t - progress.steps)      # its epoch may have been logged, but is to be ended again
        remove_temporaries(self.folder)
        self.log(records)
        return records, progress

    def log(self, records):
        """Write the records of all epochs so far."""
        write_atomic(self.log_file, "".join(json.dumps(r) + "\n" for r in records))

    def records(self, steps):
        """The records of the epochs that ended within the first `steps` steps. Raises ValueError if the log is damaged."""
        if not self.log_file.is_file():
            return []
        try:
            records = [json.loads(line) for line in self.log_file.read_text().splitlines()]
            for record in records:
                record["epoch"], record["loss"], record["accuracy"], record["test_accuracy"], record["seconds"]
            return [r for r in records if r["step"] <= steps]
        except (ValueError, KeyError, TypeError):
            raise ValueError(f"{self.log_file} is damaged") from None

    # ---- what the trained model is for ---------------------------------------------------------------------

    def evaluate(self, source=None, threads=None, data_dir=None, report=None):
        """Score the latest model -> (class names, Evaluation), on the run's own test part or on another source of data.

        Another source is scored on its test part, or on all its images if it comes without one; pictures in a folder are prepared as the
        run's own, and their classes found by name. Of the run's own data, as they were and wherever they lie now, only the test
        part is scored; of others, such as a folder that has changed since or what was trained on as arrays in memory, the Evaluation counts
        the pictures that the run learned from.
        data_dir: as for `load_data`.
        report: a file to write the report to. Errors as `latest_model`, `load_data` and `count_seen`; OSError.
        """
        own, model = self.config()["data"], self.latest_model()
        if source is None:
            data = self.load_own_data(data_dir)
        else:
            arguments = {"source": source, "test_fraction": 1} | ({} if data_dir is None else {"data_dir": data_dir})
            if is_image_folder(source):
                arguments |= {"image_size": model.image_size, "channels": model.channels, "fit": own.get("fit")}
            data = load_data(**arguments)
            if own["source"] and data.digest == own["digest"]:
                data = load_data(**(arguments | {name: own["source"][name] for name in ("seed", "test_fraction")}))
            elif not self.learned_file.is_file() and own["source"] and data.source["source"] == own["source"]["source"]:
                raise self._changed(data)
            elif not self.learned_file.is_file() and data.digest == own["digest"]:
                raise ValueError(f"{self.folder} was trained on arrays in memory that {data.name} has too, and which of them were for the "
                                 "test is not known: name other data")
        check_fit(model, data)
        names = self.class_names(model)
        check_known(data, names)
        labels = np.array([names.index(name) for name in data.class_names])[data.test_labels]
        evaluation = evaluate(model, data.test_images, labels, threads, files=data.test_files)
        evaluation = add_flip_evaluation(evaluation, model, self.config()["training"], data.test_images, labels, threads)
        evaluation = replace(evaluation, seen=self.count_seen(data.test_images))
        if report is not None:
            self.write_report(model, data, evaluation, report)
        return names, evaluation

    def load_own_data(self, data_dir=None):
        """The data that the run was trained on, with its test part. data_dir: as for `load_data`.

        Raises ValueError if they were arrays in memory, or have changed since, FileNotFoundError if they are gone; errors as `config` and
        `load_data`.
        """
        own = self.config()["data"]
        if own["source"] is None:
            raise ValueError(f"{self.folder} was trained on arrays in memory, so it has no test images of its own: name the data, or files")
        place = own["source"].get("source", "")
        if place not in NAMES and not Path(place).exists():
            raise FileNotFoundError(f"{place} is gone, on which {self.folder} was trained: bring it back, or give its new place, as in: "
                                    f"{shlex.join(['minivit', 'evaluate', str(self.folder)])} DATA")
        data = load_data(**(own["source"] | ({} if data_dir is None else {"data_dir": data_dir})))
        if data.digest != own["digest"]:
            raise self._changed(data)
        return data

    def check_unseen(self, data):
        """Raise ValueError if this run was trained on test images of `data`: its weights may not start or teach what is scored on them.

        Told by the pictures, as they are prepared; those of a run on arrays in memory are not asked. Errors as `config`.
        """
        own = self.config()["data"]
        if own["source"] is None or (own["digest"], own["source"]) == (data.digest, data.source):
            return
        count = self.count_seen(data.test_images) or 0
        if count > TWICE * len(data.test_images):
            split = f"take its seed, {own['source']['seed']}, and its test_fraction, {own['source']['test_fraction']}"
            hint = split if own["digest"] == data.digest else "test on others, such as in a folder `test` beside `train`"
            raise ValueError(f"{self.folder} was trained on images that are for the test here, {count} of {len(data.test_images)}: {hint}")

    def count_seen(self, images):
        """How many of images (B, H, W, C), as they are prepared, this run learned from, or was chosen by; None if it does not know.

        Raises ValueError if its file is damaged.
        """
        return int(np.isin(image_hashes(images), self._learned()).sum()) if self.learned_file.is_file() else None

    def _learned(self):
        try:
            return np.load(self.learned_file)
        except (ValueError, EOFError) as error:
            raise ValueError(f"{self.learned_file} is damaged: {error}") from None

    def leakage_warning(self, evaluation):
        """In words, that this run learned from pictures of an Evaluation, if from more than a data set may have twice; None otherwise."""
        if (evaluation.seen or 0) <= TWICE * evaluation.images:
            return None
        return (f"{self.folder} learned from, or was chosen by, {evaluation.seen} of these {evaluation.images} pictures: "
                "this is not its accuracy on new ones")

    def _changed(self, data):
        return ValueError(f"{data.name} has changed since {self.folder} was trained on it, so which of its images were for the test is "
                          "not known: bring back what was there, or name data or pictures")

    def write_report(self, model, data, evaluation, file=None):
        """Write the report on `evaluation`, of the test part of `data`, to a file (default: in the folder). Errors as `config`; OSError."""
        from .report import SETTINGS, make_report  # here, because few commands need it

        config = self.config()
        if missing := [name for name in SETTINGS if name not in config["training"]]:
            raise self.damaged(f"it lacks {', '.join(missing)}")
        records = self.records(config["training"]["steps"])
        write_atomic(file or self.report_file, make_report(config, model, records, data, self.class_names(model), evaluation,
                                                          self.unfinished(), self.leakage_warning(evaluation)))

    def classify(self, pictures, top=3, unreadable=None):
        """The `top` most probable classes of each picture, as `prediction.classify` gives them; not of the `unreadable` ones.

        pictures, unreadable, errors: as `read_images`; errors as `latest_model` and `classify`, too.
        """
        model = self.latest_model()
        images, _ = self.read_images(pictures, model, unreadable)
        return classify(model, pictures, images, self.class_names(model), top, unreadable or ())

    def read_images(self, pictures, model, unreadable=None):
        """Pictures as the run's model takes them -> images (B, H, W, C) uint8, and the name of the true class of each, None if unknown.

        pictures: files, which are prepared as those of the run's data; or whole numbers, which count the run's own test images from 0.
        unreadable: as for `read_image_files`; it gets numbers, too, that are out of range. Errors as `read_image_files` and, for numbers, as
        `load_own_data`; ValueError for a number out of range.
        """
        numbers = {i: int(str(picture)) for i, picture in enumerate(pictures) if re.fullmatch(r"-?\d+", str(picture))}
        files = {i: picture for i, picture in enumerate(pictures) if i not in numbers}
        images, true = np.zeros((len(pictures), model.image_size, model.image_size, model.channels), np.uint8), [None] * len(pictures)
        if files:
            fit = self.config()["data"].get("fit", "stretch")
            images[list(files)] = read_image_files(list(files.values()), model.image_size, model.channels, fit,
                                                unreadable=unreadable)
        if numbers:
            data = self.load_own_data()
            check_fit(model, data)
            for i, number in numbers.items():
                try:
                    check_number(f"number of a test image of {data.name}", number, least=0, most=len(data.test_images) - 1, whole=True)
                except ValueError as error:
                    if unreadable is None:
                        raise
                    unreadable[pictures[i]] = error
                    continue
                images[i], true[i] = data.test_images[number], data.class_names[data.test_labels[number]]
        return images, true

    def class_names(self, model):
        """The names of the model's classes; numbers, where the data had fewer names."""
        names = self.config()["data"]["class_names"]
        return names + [str(k) for k in range(len(names), model.classes)]

    # ---- weights -----------------------------------------------------------------------------------------

    def save_model(self, model):
        """Write the final weights."""
        write_weights(self.model_file, model)

    def load_model(self):
        """The trained model. Raises FileNotFoundError if the run has not ended, ValueError if a file is damaged."""
        model = self.declare()
        if not self.model_file.is_file():
            raise FileNotFoundError(f"{self.folder} is not finished, so it has no trained weights yet: go on with --resume")
        values = read_weights(self.model_file, model)
        return model.pack(next(iter(values.values())).dtype, values=values)

    def latest_model(self):
        """The trained model, or while the run has not ended, the model of its last checkpoint. Errors as `load_model`."""
        if self.model_file.is_file() or not self.checkpoint_file.is_file():
            return self.load_model()
        if self.config()["training"].get("probe"):
            raise FileNotFoundError(f"{self.folder} is not finished, and a probe's checkpoint has its head only: go on with --resume")
        model, tensors = self.declare(), read_tensors(self.checkpoint_file)[0]
        weights = next((tensors[name] for name in ("best", "ema", "weights") if name in tensors), None)   # what would be kept at the end
        if weights is None or weights.shape != (sum(p.size for p in model.parameters()),):
            raise ValueError(f"{self.checkpoint_file} is the checkpoint of another model")
        model.pack(weights.dtype).vector[...] = weights
        return model

    def unfinished(self):
        """In words, what `latest_model` is of a run that has not ended; None of one that has. Errors as `load_model`."""
        if self.model_file.is_file() or not self.checkpoint_file.is_file():
            return None
        return (f"{self.folder} is not finished: this is its checkpoint, after step {self._place()[0]} of "
                f"{self.config()['training'].get('steps')}; go on with: {self.resume_command()}")

    def declare(self):
        """The run's model, without weights. Raises ValueError if the file is damaged."""
        config = self.config()["model"]
        try:
            return declare_model(config["family"], **config["options"])
        except (ValueError, TypeError) as error:
            raise self.damaged(str(error)) from None

    def save_checkpoint(self, trainer, progress):
        """Write the state of training, as it is between two steps."""
        place = {"step": trainer.optimiser.t, "progress": asdict(progress)}
        write_tensors(self.checkpoint_file, trainer.state(), {"minivit": json.dumps(place)})

    def load_checkpoint(self, trainer):
        """Put `trainer` into the state of the checkpoint -> Progress. Raises FileNotFoundError or ValueError, and then changes nothing."""
        step, progress = self._place()
        tensors, into = read_tensors(self.checkpoint_file)[0], trainer.state()
        if tensors.keys() != into.keys() or any(tensors[k].shape != v.shape or tensors[k].dtype != v.dtype for k, v in into.items()):
            raise ValueError(f"{self.checkpoint_file} is the checkpoint of another model")
        for name, array in into.items():
            np.copyto(array, tensors[name])
        trainer.optimiser.t = step
        return progress

    def _place(self):
        """Where training stood at the checkpoint: (steps done, Progress)."""
        metadata = read_metadata(self.checkpoint_file)
        try:
            place = json.loads(metadata["minivit"])
            return int(place["step"]), Progress(**place["progress"])
        except (KeyError, ValueError, TypeError):
            raise ValueError(f"{self.checkpoint_file} does not say at which step it was written") from None


def check_fit(model, data):
    """Raise ValueError unless there are test images of a Dataset, and the model takes them and has a class for each of its."""
    if not len(data.test_images):
        raise ValueError(f"{data.name} has no test images")
    expected, found = (model.image_size, model.image_size, model.channels), data.test_images.shape[1:]
    if found != expected or data.classes > model.classes:
        raise ValueError(f"{data.name} has {data.classes} classes of images {found}, but the model {model.classes} classes of {expected}")


def check_known(data, names):
    """Raise ValueError that names the classes of a Dataset which are not among the `names`, and the nearest of them."""
    unknown = [name for name in data.class_names if name not in names]
    if unknown:
        hints = [f"{name} ({hint})" if (hint := suggestion(name, names)) else name for name in unknown]
        raise ValueError(f"{data.name} has classes that the run does not know: {', '.join(hints)}; it knows {', '.join(names)}")


def _learned_hashes(data):
    """By which numbers the pictures of a Dataset are known again that are not for the test, sorted."""
    return np.unique(np.concatenate([image_hashes(images) for part, (images, _) in data.parts.items() if part != "test"]))


def _without_place(described):
    """Data as `describe_data` has them, but for the place where they lie."""
    source = described["source"] and {name: value for name, value in described["source"].items() if name != "source"}
    return {name: value for name, value in described.items() if name != "name"} | {"source": source}


def describe_data(data):
    """What config.json says of a Dataset."""
    return {"source": data.source, "name": data.name, "digest": data.digest, "class_names": list(data.class_names), "fit": data.fit}


def describe(model, data, training, command=None):
    """The content of config.json; command: as `train` takes it. Raises TypeError for a model that is of none of the families."""
    family = family_of(model)
    if family is None:
        raise TypeError(f"a run can keep the models {', '.join(FAMILIES)}, not {type(model).__name__}: train it without out")
    return {
        "model": {"family": family, "options": model.config},
        "data": describe_data(data),
        "training": training,
        "command": command,
        "versions": {"minivit": __version__, "python": platform.python_version(), "numpy": np.__version__, "numba": numba.__version__},
    }


def load(folder):
    """The trained model of the run in `folder`. Raises FileNotFoundError if there is none, ValueError if a file is damaged."""
    return Run(folder).load_model()
