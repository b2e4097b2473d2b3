"""Attention reports: everything of `attention_maps.py` for single images, as `minivit attend` shows it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...common.checks import check_name
from ...ops import softmax
from ..attention_maps import attention_grids, attention_probabilities, mean_distance, readout_maps, rollout
from ..one_class import explain_class


@dataclass(frozen=True)
class AttentionReport:
    """What a model attends to in one image.

    Attributes
    ----------
    name : str
        Name of the image: its file, or its number.
    number : int or None
        Its number among the test images of the run, from 0; None if it is not one of them.
    image : np.ndarray
        (H, W, C) uint8.
    predicted : str
        The predicted class.
    probability : float
        Its probability.
    true : str or None
        The true class, None if it is unknown.
    maps : dict of str to np.ndarray
        (h, R, S) for each layer with attention, by its path: attention of the pooling to each patch.
    distances : dict of str to np.ndarray
        (h,) for each of these layers: mean attention distance of each head in pixels.
    rollout : np.ndarray
        (R, S), attention of the pooling through all layers, on the grid of the first.
    of_class : str or None
        The class that the next two explain; None without one.
    relevance : np.ndarray or None
        (R, S), see `class_relevance`.
    gradient_times_input : np.ndarray or None
        (H, W), see `gradient_times_input`.
    """

    name: str
    number: int | None
    image: np.ndarray
    predicted: str
    probability: float
    true: str | None
    maps: dict[str, np.ndarray]
    distances: dict[str, np.ndarray]
    rollout: np.ndarray
    of_class: str | None = None
    relevance: np.ndarray | None = None
    gradient_times_input: np.ndarray | None = None

    @property
    def title(self) -> str:
        """The name of the image for people."""
        return self.name if self.number is None else f"test image {self.number}"


def attention_reports(model: Any, images: np.ndarray, names: Sequence[str] | None = None,
                      class_names: Sequence[str] | None = None, true: Sequence[str | None] | None = None,
                      numbers: Sequence[int | None] | None = None,
                      threads: int | None = None, of_class: str | None = None) -> list[AttentionReport]:
    """Return an attention report for each image.

    Parameters
    ----------
    model : Model
        A model with attention.
    images : np.ndarray
        (B, H, W, C) uint8.
    names : sequence of str, optional
        Names of the images; the default is their number.
    class_names : sequence of str, optional
        Names of the model's classes; the default is their number.
    true : sequence of str or None, optional
        True classes of the images.
    numbers : sequence of int or None, optional
        Numbers of those images that are test images of a run.
    threads : int, optional
        Number of threads for `predict`.
    of_class : str, optional
        The name of a class to explain, too.

    Returns
    -------
    list of AttentionReport

    Raises
    ------
    ValueError
        If no layer of the model has attention, or no class has the name `of_class`.
    """
    names = names or [str(i) for i in range(len(images))]
    class_names, true = class_names or [str(k) for k in range(model.classes)], true or [None] * len(images)
    numbers = numbers or [None] * len(images)
    probabilities, _ = softmax.forward(model.predict(images, threads))               # (B, K)
    target = None if of_class is None else class_names.index(check_name("class", of_class, class_names))
    reports, grids = [], attention_grids(model)
    sides = {path: tuple(np.divide(model.image_size, grid)) for path, grid in grids.items()}    # of a token, in pixels
    for i in range(len(images)):                     # one by one, because all pairs of a Swin's tokens take much memory
        probs = attention_probabilities(model, images[i:i + 1])
        maps = {path: readout_maps(p, grids[path])[0] for path, p in probs.items()}
        distances = {path: mean_distance(p, sides[path], grids[path])[0] for path, p in probs.items()}
        through = rollout(list(probs.values()), list(grids.values()))
        through = readout_maps(through[:, None], next(iter(grids.values())))[0, 0]
        explained: Any = (None, None)
        if target is not None:
            explained = [one[0] for one in explain_class(model, images[i:i + 1], target)]
        predicted = class_names[probabilities[i].argmax()]
        reports.append(AttentionReport(str(names[i]), numbers[i], images[i], predicted,
                                       float(probabilities[i].max()), true[i], maps, distances, through, of_class,
                                       *explained))
    return reports


def report_as_json(report: AttentionReport) -> dict[str, Any]:
    """Return a report for JSON: {image, number, true, predicted, probability, rollout, layers}.

    Each layer is {layer, mean_distance, maps}. If a class is explained: also {class, relevance, gradient_times_input}.
    """
    layers = [{"layer": path, "mean_distance": report.distances[path].tolist(), "maps": report.maps[path].tolist()}
              for path in report.maps]
    explained = {}
    if report.relevance is not None and report.gradient_times_input is not None:
        explained = {"class": report.of_class, "relevance": report.relevance.tolist(),
                     "gradient_times_input": report.gradient_times_input.tolist()}
    return {"image": report.name, "number": report.number, "true": report.true, "predicted": report.predicted,
            "probability": report.probability, "rollout": report.rollout.tolist(), "layers": layers} | explained


def report_as_text(report: AttentionReport) -> str:
    """Return a report as text: the predicted class, and the mean attention distance of each head of each layer."""
    truth = "" if report.true is None else f", true class {report.true}"
    lines = [f"{report.title}: predicted {report.predicted} ({report.probability:.1%}){truth}; mean attention distance "
             "of each head in pixels:"]
    lines += [f"    {path:20} " + " ".join(f"{distance:5.1f}" for distance in distances)
              for path, distances in report.distances.items()]
    return "\n".join(lines)
