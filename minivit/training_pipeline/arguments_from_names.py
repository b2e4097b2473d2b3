"""From names to a training: the data by name or path, the model by name or from pretrained weights."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..data import Dataset, load_data, loading_without_labels
from ..models.model import Model
from ..models.pretrained import are_described
from ..parallel.ranks.alone import ALONE, Alone
from .defaults.default_model import model_for
from .folder import RunFolder
from .pretrained.fine_tune import fine_tuned_model, starting_weights
from .pretrained.weight_source import WeightSource, check_is_not_a_file
from .run_data import preparation
from .run_settings import check_length
from .shared_data import load_once


def arguments_from_names(source: str | Path | Dataset, model_name: str | None = None, *,
                         resumed: str | Path | None = None, model_options: Mapping[str, Any] | None = None,
                         loading: Mapping[str, Any] | None = None, settings: Mapping[str, Any] | None = None,
                         ranks: Alone = ALONE) -> tuple[Model, Dataset, dict[str, Any]]:
    """Return the arguments of `minivit.train`: a model, data and settings.

    Parameters
    ----------
    source : str, Path or Dataset
        Name or path of the data, or the data.
    model_name : str, optional
        A named variant or a family (default: a small ViT for the data); or the model of the file in the setting
        `start`.
    resumed : str or Path, optional
        The folder of a run to resume. Model, seed and data preparation are then those of the run, unless given.
    model_options : mapping, optional
        Options of the model, such as `pool` or `drop_rate`.
    loading : mapping, optional
        Arguments of `load_data`: `data_dir`, `image_size`, `fit`.
    settings : mapping, optional
        Training settings; `start` is a path.
    ranks : Alone
        Those that will train. One of each machine loads the data; see `load_once`.

    Returns
    -------
    model : Model
    data : Dataset
    settings : dict
        The settings with `seed`, and with `start` as a `WeightSource`.

    Raises
    ------
    ValueError, FileNotFoundError
        If names, data, model or weights do not fit.
    """
    options, given, run = dict(model_options or {}), dict(settings or {}), RunFolder(resumed) if resumed else None
    check_length(given)
    pretrains = bool(given.get("mask_ratio")) or (run is not None and not run.classifies)
    if not isinstance(source, Dataset):
        _refuse_run_as_data(source)
    given.setdefault("seed", run.seed if run else 0)
    start = given["start"] = _given_weights(given["start"], model_name) if given.get("start") else None
    weights = start or (starting_weights(run) if run else None)
    if given.get("probe") and not (weights or run):
        raise ValueError("a probe needs pretrained weights: pass a run, or a file and the name of its model, as "
                         "start=...")
    if isinstance(source, Dataset):
        data = source
    else:
        prepared = preparation(run, source) if run else weights.preparation(source) if weights else {}
        if pretrains:
            prepared = loading_without_labels(source) | prepared
        how = {"seed": given["seed"]} | prepared | dict(loading or {})
        data = load_once(ranks, lambda: load_data(source, **how))
    probe = bool(given.get("probe") or (run and run.settings["probe"]))
    if weights:
        model = fine_tuned_model(weights, data, given["seed"], probe, **options)
    elif run and model_name is None and not options:
        model = run.declare_model().pack(seed=given["seed"])          # the checkpoint has its weights
    else:
        model = model_for(data, model_name, given["seed"], given.get("minutes"), labelled=not pretrains, **options)
    return model, data, given


def _given_weights(path, name):
    """The pretrained weights in a run, or in a file for the model `name`, or for that of the config.json beside it."""
    if not name and not are_described(path):
        check_is_not_a_file(path)
    return WeightSource(path, name)


def _refuse_run_as_data(source):
    """Raise ValueError if the data are the folder of a run."""
    if (run := RunFolder(source)).is_run():
        raise ValueError(f"{source} is a run, not data: {run.resume_command()} resumes it")
