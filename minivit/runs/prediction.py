"""Pictures in, names of classes out."""

import numpy as np

from ..common.checks import check_number
from ..ops import softmax


def classify(model, pictures, images, class_names=None, top=3, unreadable=()):
    """The `top` most probable classes of each picture: a list of {image, classes: [{class, probability}]}.

    pictures: what each is called. images (B, H, W, C): as the model takes them. class_names: K strings (default: the numbers of the
    classes). unreadable: the pictures to leave out. Raises ValueError if `top` is no whole number from 1.
    """
    check_number("number of classes to show", top, least=1, whole=True)
    names = [str(k) for k in range(model.classes)] if class_names is None else class_names
    probabilities, _ = softmax.forward(model.predict(images))
    return [{"image": str(picture), "classes": [{"class": names[k], "probability": float(p[k])} for k in np.argsort(-p)[:top]]}
            for picture, p in zip(pictures, probabilities, strict=True) if picture not in unreadable]
