"""Pictures in, names of classes out: with the model of a run, or with weights that others have trained."""

from pathlib import Path

import numpy as np

from .arguments import check_name, check_number
from .interop.timm import classes_in, read_any
from .models.create import CROPS, VARIANTS, create_model
from .ops import softmax


def classify(model, pictures, images, class_names=None, top=3):
    """The `top` most probable classes of each picture: a list of {image, classes: [{class, probability}]}.

    pictures: what each is called. images (B, H, W, C): as the model takes them. class_names: K strings (default: the numbers of the
    classes). Raises ValueError if `top` is no whole number from 1.
    """
    check_number("number of classes to show", top, least=1, whole=True)
    names = [str(k) for k in range(model.classes)] if class_names is None else class_names
    probabilities, _ = softmax.forward(model.predict(images))
    return [{"image": str(picture), "classes": [{"class": names[k], "probability": float(p[k])} for k in np.argsort(-p)[:top]]}
            for picture, p in zip(pictures, probabilities, strict=True)]


def load_weights(path, name):
    """(model, share): the named variant with the weights in a file, such as one of timm's, and as many classes as its head has; and the
    share of a picture's shorter side that this model is meant to see, for `read_pictures`.

    Raises FileNotFoundError, or ValueError for an unknown name, or for a file that is damaged or of another model.
    """
    check_name("model", name, VARIANTS)
    if Path(path).is_dir():
        raise ValueError(f"{path} is a folder, but with a model's name goes a file of weights; a run has its own model")
    if Path(path).suffix == ".npz" and VARIANTS[name][0] != "vit":
        raise ValueError(f"an .npz is read for a ViT only: the weights of {name} are expected in safetensors, under timm's names")
    classes = classes_in(read_any(path))
    if not classes:
        raise ValueError(f"{path} has no classifier, so it cannot name classes: take weights with a head")
    return create_model(name, weights=path, **({"classes": classes} if classes else {})), CROPS.get(name, 1.0)
