"""What is exported: the trained model of a run, or of a file of weights, with its class names and how images fit it."""

from dataclasses import dataclass
from pathlib import Path

from ..models.model import Model
from ..models.pretrained import are_described, load_weights
from ..training_pipeline.folder import RunFolder
from ..training_pipeline.pretrained.weight_source import check_is_not_a_file
from ..training_pipeline.results.trained_model import latest_model, unfinished


@dataclass(frozen=True)
class Source:
    """A trained model.

    fit, crop: how an image file gets the shape of the model's images, and the share of its sides that a crop keeps, as
    for `read_image_files`. note: a remark for people, or None.
    """

    model: Model
    class_names: list[str]
    fit: str = "stretch"
    crop: float = 1.0
    run: RunFolder | None = None
    note: str | None = None


def read_source(path: str | Path, name: str | None = None) -> Source:
    """Read a trained model.

    Parameters
    ----------
    path : path
        The folder of a run; or weights, as for `load_weights`.
    name : str, optional
        The named model of a file of weights. Default: that of the config.json beside it.

    Returns
    -------
    Source

    Raises
    ------
    FileNotFoundError, ValueError
        As `load_weights` and `latest_model`.
    """
    if name is not None or are_described(path):
        found = load_weights(path, name)
        return Source(found.model, found.names, found.fit, found.crop)
    check_is_not_a_file(path)
    run = RunFolder(Path(path))
    model = latest_model(run)
    return Source(model, run.class_names(model), run.config()["data"].get("fit", "stretch"), 1.0, run, unfinished(run))
