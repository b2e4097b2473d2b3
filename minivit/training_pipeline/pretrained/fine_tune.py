"""Fine-tuning: a model for new data starts from pretrained weights, not from random ones.

All weights are copied, with two exceptions:

    head         new, unless the classes are those of the pretrained run, in the same order
    positions    resized if the images have another size: bicubic interpolation of the grid of learned positions, as in
                 the ViT paper, and of the table of relative position biases; the entry of the class token is copied

The mean and standard deviation that normalise pixels belong to the weights and are copied too.

Then either all weights are trained, or, in a *linear probe*, the head alone. A probe computes the features of each
image once, without augmentation, and trains the head on them, so an epoch takes moments (see `models/linear_probe.py`).

Source: Dosovitskiy et al., arXiv:2010.11929, section 3.2.
"""

from typing import Any

import numpy as np

from ...data import Dataset
from ...models.create import declare_model, family_of
from ...models.model import Model
from ...weight_formats.timm import match_timm
from ..folder import RunFolder
from .weight_source import WeightSource

# Settings for pretrained weights, where they differ from the defaults. Accuracy with four images of each class as in
# demos/13_weights.py, mean of three draws (`learn` with another lr): fine-tuning 89.3% with lr 2e-3, 91.9% with 5e-4,
# 92.0% with 2e-4, 90.4% with 1e-4; a linear probe 78.3% with 2e-3, 80.9% with 5e-3, 80.7% with 2e-2.
PRETRAIN: dict[str, Any] = {"label_smoothing": 0.0}
FINE_TUNE: dict[str, Any] = {"lr": 2e-4}
PROBE: dict[str, Any] = {"augment": "none", "ema": 0.0, "optimiser": "adamw", "epochs": 100, "batch_size": 32,
                         "lr": 5e-3}


def fine_tuned_model(source: WeightSource, data: Dataset, seed: int = 0, probe: bool = False, **options: Any) -> Model:
    """Return a model for the images and classes of `data` with pretrained weights.

    Parameters
    ----------
    source : WeightSource
    data : Dataset
    seed : int
        Seed of the new head.
    probe : bool
        Whether only the head will be trained. The other weights then stay in their file, mapped into memory.
    options
        Options of the model that change no weight, such as `drop_path_rate`.

    Returns
    -------
    Model

    Raises
    ------
    ValueError
        If the channels differ, the weights do not fit, or the run was trained on test images of `data`.
    """
    source.check_unseen(data)
    old = source.model
    height, width, channels = data.train_images.shape[1:]
    if channels != old.channels:
        raise ValueError(f"{source} was trained on images of {old.channels} channels, but those of {data.name} are "
                         f"{height}x{width}x{channels}")
    sizes = {"image_size": (height, width), "classes": data.classes}
    new = declare_model(family_of(old) or "", **(old.config | sizes | options))
    if "heads" in options and new.config["heads"] != old.config["heads"]:     # their number changes no shape
        raise ValueError(f"the weights of {source} are for {old.config['heads']} heads: leave out heads="
                         f"{options['heads']}")
    found = match_timm(source.tensors, new, new_head=list(data.class_names) != source.class_names)
    try:
        found.check()
    except ValueError as error:
        hint = f" a model with {options}: fine-tune with the sizes of the weights" if options else ""
        raise ValueError(f"the weights of {source} do not fit{hint} ({error})") from None
    # half precision becomes float32
    dtype = np.result_type(np.float32, *{value.dtype for value in found.values.values()})
    return new.memory_map(found.values, seed) if probe and dtype == np.float32 else new.pack(dtype, seed, found.values)


def starting_weights(run: RunFolder) -> WeightSource | None:
    """Return the pretrained weights that resuming a run needs: before its first checkpoint, and for a probe. Else None.

    Errors as `WeightSource.from_record` and `RunFolder.config`.
    """
    start = run.settings["start"]
    if not start or (run.checkpoint_file.exists() and not run.settings["probe"]):
        return None
    if not isinstance(start, dict):
        raise run.damaged("it does not say which weights it was started from")
    return WeightSource.from_record(start, "start")
