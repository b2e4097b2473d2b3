"""Where a model looks in single pictures: all of `attention.py` for each of them, as `minivit attend` shows it."""

from dataclasses import dataclass

import numpy as np

from ...ops import softmax
from ..attention import attention_probabilities, grid, mean_distance, readout_maps, rollout


@dataclass(frozen=True)
class Look:
    """Where a model looks in one picture (H, W, C) uint8, of the given name.

    said, probability: the class it finds most probable; true: the class it is of, None if that is unknown. For each
    layer with attention, by its path: maps (h, S, S), where the reader looks, and distances (h,), how far the patches
    look, in pixels. rollout (S, S): where the reader looks through all layers, on the grid of the first.
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
    """Where `model` looks in each of images (B, H, W, C) uint8: a list of `Look`.

    names, true: of the pictures, one each; class_names: of the model's classes (default: numbers); threads: for
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
    """A `Look` as JSON has it: {image, class, probability, true, rollout, layers: [{layer, mean_distance, maps}]}."""
    return {"image": look.name, "class": look.said, "probability": look.probability, "true": look.true,
            "rollout": look.rollout.tolist(),
            "layers": [{"layer": path, "mean_distance": look.distances[path].tolist(), "maps": look.maps[path].tolist()}
                       for path in look.maps]}


def look_text(look):
    """A `Look` in words: what the model says, and how far each head of each layer looks."""
    truth = "" if look.true is None else f", is {look.true}"
    lines = [f"{look.name}: says {look.said} ({look.probability:.1%}){truth}; the heads look so many pixels far, on "
             "average"]
    lines += [f"    {path:20} " + " ".join(f"{distance:5.1f}" for distance in distances) for path,
              distances in look.distances.items()]
    return "\n".join(lines)
