"""Pre-training without labels: `minivit.train` with the objective of a masked autoencoder."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Unpack

from ..data import Dataset
from ..models.model import Model
from ..training.settings import TrainingSettings
from .folder import RunFolder
from .results.result import Result
from .train import model_first, train

MASK_RATIO = 0.75


@model_first
def pretrain(model: Model, data: Dataset | str | Path, *, out: str | Path | None = None, resume: bool = False,
             threads: int | None = None, progress: bool = True, command: str | None = None,
             on_start: Callable[[], None] | None = None, callback: Callable[[dict[str, Any]], None] | None = None,
             mpi: Any = None, **settings: Unpack[TrainingSettings]) -> Result:
    """Pre-train a ViT on images without using labels, in place.

    Most patches of each image are hidden, and the model learns to predict their pixels (a masked autoencoder, see
    `models/masked_autoencoder.py`). Then fine-tune it on few labelled images with `train(..., start=out)`, or train its
    classifier alone with `probe=True`.

    Parameters
    ----------
    model : Model
        The model to pre-train, of the family "vit". Its weights change, except for those of its classifier.
    data : Dataset, str or Path
        A data set, or the argument of `load_data`. Its training images are used, and their labels are not. In a folder
        of image files without sub-folders, all but a twentieth are training images.
    out : str or Path, optional
        Folder of the run, as for `train`. It also gets reconstruction.png: images, what the model sees of them, and
        what it predicts.
    resume, threads, progress, command, on_start, callback, mpi
        As for `train`.
    **settings
        Training settings as for `train`, without those for labels; `mask_ratio`, the fraction of the patches that are
        hidden, is 0.75 by default.

    Returns
    -------
    Result
        The pre-trained model, the reconstruction loss on the test images, and the log.

    Raises
    ------
    ValueError
        If the model is not a ViT; and as `train`.
    TypeError, FloatingPointError, OSError, RankError, Interrupted
        As `train`.

    Examples
    --------
    >>> import minivit
    >>> model = minivit.create_model("vit_mini_patch2_8")
    >>> result = minivit.pretrain(model, "digits", epochs=1, progress=False)
    >>> result.steps
    22
    """
    if resume and out is not None and (run := RunFolder(out)).is_run() and run.classifies:
        raise ValueError(f"{out} is no pre-training, but was trained on labels: resume it with `minivit train`")
    if not resume:
        settings.setdefault("mask_ratio", MASK_RATIO)
    return train(model, data, out=out, resume=resume, threads=threads, progress=progress, command=command,
                 on_start=on_start, callback=callback, mpi=mpi, **settings)
