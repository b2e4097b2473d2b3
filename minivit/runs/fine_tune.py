"""Fine-tuning: a model for new data starts from weights that have learned already, not from random ones.

All weights are taken over but two kinds:

    head         new, unless the classes are those of the run that the weights come from, in its order: what it says is about other classes
    positions    resized, where the new pictures are of another size: the grid of learned positions by bicubic interpolation, as in the
                 ViT paper, and the table of a relative bias, which is a grid of offsets, in the same way; a class token's stay

The constants that normalise pixels belong to the weights and are taken over too.

Then all weights learn, or in a *probe* the head alone. A probe sees each picture once, as it is: its features, which the rest of the
model makes of it, do not change, so they are kept, and every epoch is a matter of moments (see `models/linear_probe.py`).
Source: Dosovitskiy et al., arXiv:2010.11929, section 3.2.
"""

import numpy as np

from ..models.create import declare_model, family_of
from ..weights.timm import match_timm
from .weight_source import Source

# What suits a start from weights that have learned, where that is not what suits one from nothing. With four pictures of each class as in
# demos/13_weights.py, over three draws of them (`learn` with another lr), 89.3% of the others were right with lr 2e-3, 91.9 with 5e-4,
# 92.0 with 2e-4, 90.4 with 1e-4; of a probe 78.3 with 2e-3, 80.9 with 5e-3, 80.7 with 2e-2.
FINE_TUNE = {"lr": 2e-4}
# There is no augmentation in a probe, which knows each picture by its features.
PROBE = {"augment": "none", "ema": 0.0, "optimiser": "adamw", "epochs": 100, "batch_size": 32, "lr": 5e-3}


def fine_tuned_model(source, data, seed=0, probe=False, **options):
    """A model for the images and classes of a Dataset, with the weights of a `Source`.

    options: of the model, such as drop_path_rate, which change no weight. seed: of the new head. probe: whether the head alone will learn;
    then the other weights stay in their file, mapped into memory. Raises ValueError if the channels differ or weights do not fit, or as
    `Source`, `Run.check_unseen` and `declare_model`.
    """
    source.check_unseen(data)
    old = source.model
    height, width, channels = data.train_images.shape[1:]
    if height != width or channels != old.channels:
        raise ValueError(f"{source} was trained on square images of {old.channels} channels, but those of {data.name} are "
                         f"{height}x{width}x{channels}")
    new = declare_model(family_of(old), **(old.config | {"image_size": height, "classes": data.classes} | options))
    found = match_timm(source.tensors, new, new_head=list(data.class_names) != source.class_names)
    try:
        found.check()
    except ValueError as error:
        hint = f" a model with {options}: fine-tune with the sizes that they have" if options else ""
        raise ValueError(f"the weights of {source} do not fit{hint} ({error})") from None
    # What was kept in half precision is trained in float32.
    dtype = np.result_type(np.float32, *{value.dtype for value in found.values.values()})
    return new.memory_map(found.values, seed) if probe and dtype == np.float32 else new.pack(dtype, seed, found.values)


def starting_weights(run):
    """The Source of a run's weights, if going on with the run needs it: before its first checkpoint, and in a probe. None otherwise.

    Errors as `Source.again` and `Run.config`.
    """
    settings = run.config()["training"]
    start = settings.get("start")
    if not start or (run.checkpoint_file.exists() and not settings.get("probe")):
        return None
    if not isinstance(start, dict):
        raise run.damaged("it does not say which weights it was started from")
    return Source.again(start, "--fine-tune")
