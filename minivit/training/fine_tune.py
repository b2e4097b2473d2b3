"""Fine-tuning: a model for new data starts from what a run has learned, not from random weights.

All weights are taken over but two kinds:

    head         new, unless the classes are the run's, in its order: what it says is about other classes
    positions    resized, where the new pictures are of another size: the grid of learned positions by bicubic interpolation, as in the
                 ViT paper, and the table of a relative bias, which is a grid of offsets, in the same way; a class token's stay

The constants that normalise pixels belong to the weights and are taken over too.
Source: Dosovitskiy et al., arXiv:2010.11929, section 3.2.
"""

from ..data import holds_pictures
from ..interop.timm import from_timm, to_timm
from ..models.create import declare_model


def fine_tuned(run, data, seed=0, **options):
    """A model for the images and classes of a Dataset, with the weights of a finished Run.

    options: of the model, such as drop_path_rate, which change no weight. seed: of the new head. Raises ValueError if the channels
    differ or weights do not fit, or as `Run.check_unseen`, `declare_model` and `Run.load_model`.
    """
    old, config = run.load_model(), run.config()
    run.check_unseen(data)
    height, width, channels = data.train_images.shape[1:]
    if height != width or channels != old.channels:
        raise ValueError(f"{run.folder} was trained on square images of {old.channels} channels, but those of {data.name} are "
                         f"{height}x{width}x{channels}")
    new = declare_model(config["model"]["family"], **(old.config | {"image_size": height, "classes": data.classes} | options))
    try:
        values = from_timm(to_timm(old), new, new_head=list(data.class_names) != run.class_names(old))
    except ValueError as error:
        raise ValueError(f"the weights of {run.folder} do not fit a model with {options}: fine-tune with the run's own sizes "
                         f"({error})") from None
    return new.pack(old.dtype, seed, values)


def preparation_like(run, source):
    """The arguments of `load_data` that prepare pictures in a folder as the run's model takes them. Errors as `Run.declare`."""
    if not holds_pictures(source):
        return {}
    model = run.declare()
    return {"image_size": model.image_size, "channels": model.channels}
