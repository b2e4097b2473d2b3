"""Where a model looks in single images: everything of `attention.py`, as `minivit attend` shows it."""

from dataclasses import dataclass

import numpy as np

from ...ops import softmax
from ..attention import attention_probabilities, grid, mean_distance, readout_maps, rollout


@dataclass(frozen=True)
class Look:
    """Where a model looks in one image (H, W, C) uint8.

    said, probability: the predicted class. true: the true class, None if unknown. maps: {layer: (h, S, S)}, where the
    readout looks. distances: {layer: (h,)}, how far the patches look, in pixels. rollout (S, S): where the readout
    looks through all layers, on the grid of the first.
    """

    name: str
    image: np.ndarray
    said: str
    probability: float
    true: str | None
    maps: dict
    distances: dict
    rollout: np.ndarray


def look(model, images, names=None, class_names=None, true=None, threads=None):
    """Return a `Look` for each of the images (B, H, W, C) uint8.

    names, true: names and true classes of the images. class_names: of the model (default: numbers). threads: for
    `predict`. Errors as `attention_probabilities`.
    """
    names = names or [str(i) for i in range(len(images))]
    class_names, true = class_names or [str(k) for k in range(model.classes)], true or [None] * len(images)
    said, _ = softmax.forward(model.predict(images, threads))
    looks = []
    for i in range(len(images)):  # one by one: of a Swin's many tokens, all pairs take much memory
        probs = attention_probabilities(model, images[i:i + 1])
        maps = {path: readout_maps(p)[0] for path, p in probs.items()}
        distances = {path: mean_distance(p, model.image_size / grid(p.shape[-1])[0])[0] for path, p in probs.items()}
        through = readout_maps(rollout(list(probs.values()))[:, None])[0, 0]
        looks.append(Look(str(names[i]), images[i], class_names[said[i].argmax()], float(said[i].max()), true[i], maps,
                          distances, through))
    return looks


def describe_look(look):
    """Return a `Look` for JSON: {image, class, probability, true, rollout, layers: [{layer, mean_distance, maps}]}."""
    return {"image": look.name, "class": look.said, "probability": look.probability, "true": look.true,
            "rollout": look.rollout.tolist(),
            "layers": [{"layer": path, "mean_distance": look.distances[path].tolist(), "maps": look.maps[path].tolist()}
                       for path in look.maps]}


def look_text(look):
    """Return a `Look` in words: the prediction, and how far each head of each layer looks."""
    truth = "" if look.true is None else f", is {look.true}"
    lines = [f"{look.name}: says {look.said} ({look.probability:.1%}){truth}; the heads look so many pixels far, on "
             "average"]
    lines += [f"    {path:20} " + " ".join(f"{distance:5.1f}" for distance in distances) for path,
              distances in look.distances.items()]
    return "\n".join(lines)
