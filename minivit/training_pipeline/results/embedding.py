"""What the features of a model say of its data: a picture of the test images, and their nearest training images.

Features are what the classifier reads of an image (`models/features.py`). The picture shows them in the plane of their
two first principal components: the directions, at a right angle, in which they vary most. *Near* means a large cosine
of the angle between two feature vectors. Neighbours of a mistake often tell why it was made.
"""

import html
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...common.html import image_element
from ...common.text import percent, plural
from ...data.dataset import Dataset, stratified_order
from ...training.evaluation import Evaluation

MOST_IMAGES = 1000       # of a part, whose features are computed
MOST_FLOPS = 5e11        # of all of them: some seconds
SHOWN_MISTAKES, SHOWN_NEIGHBOURS = 6, 6
WIDTH, HEIGHT, MARGIN = 640, 420, 14
NAMED_CLASSES = 30       # more names would cover the picture


@dataclass(frozen=True)
class Embedding:
    """Features in the plane, and the neighbours of mistakes.

    Attributes
    ----------
    points : np.ndarray
        (n, 2), test images in the plane of the first two principal components.
    labels : np.ndarray
        (n,), their classes.
    wrong : np.ndarray
        (n,), whether each was classified wrongly.
    share : float
        Share of the variance of the features that the plane has.
    neighbours : list of (Mistake, list of (image, class, cosine))
        The worst mistakes, and the nearest training images of each, the nearest first.
    searched : int
        Of how many training images.
    """

    points: np.ndarray
    labels: np.ndarray
    wrong: np.ndarray
    share: float
    neighbours: list[tuple[Any, list[tuple[np.ndarray, int, float]]]]
    searched: int


def embed(model: Any, data: Dataset, evaluation: Evaluation, class_names: Sequence[str]) -> Embedding | None:
    """Compute the embedding of test images, a part of each class if there are many.

    class_names: of the model's classes, which `data` may have in another order. Returns None if there are fewer than
    three test images, or all have the same features.
    """
    most = min(MOST_IMAGES, int(MOST_FLOPS / model.flops / 2))
    chosen = np.sort(stratified_order(data.test_labels, 0)[:most])
    if len(chosen) < 3:
        return None
    of_model = np.array([class_names.index(name) for name in data.class_names])
    images, labels = data.test_images[chosen], of_model[data.test_labels[chosen]]
    features = model.features(images).astype(np.float64)
    centred = features - features.mean(axis=0)
    _, values, components = np.linalg.svd(centred, full_matrices=False)
    if not values.any():
        return None
    largest = np.take_along_axis(components, np.abs(components).argmax(axis=1)[:, None], axis=1)
    plane = (components * np.sign(largest))[:2]                       # the sign of a component is arbitrary: fix it
    variances = values**2
    searched = np.sort(stratified_order(data.train_labels, 0)[:most]) if len(data.train_labels) else np.arange(0)
    neighbours = _neighbours(model, data, evaluation.mistakes[:SHOWN_MISTAKES], searched, of_model)
    return Embedding(centred @ plane.T, labels, model.predict(images).argmax(axis=1) != labels,
                     float(variances[:2].sum() / variances.sum()), neighbours, len(searched))


def _neighbours(model, data, mistakes, searched, of_model):
    """Return the training images that are nearest to each mistake, among those with the indices `searched`."""
    mistakes = [mistake for mistake in mistakes if mistake.image.shape == data.train_images.shape[1:]]
    if not len(searched) or not mistakes:
        return []
    images, labels = data.train_images[searched], of_model[data.train_labels[searched]]
    ours, theirs = (_unit(model.features(x)) for x in (np.stack([mistake.image for mistake in mistakes]), images))
    cosines = ours @ theirs.T                                         # (mistakes, images)
    nearest = np.argsort(-cosines, axis=1, kind="stable")[:, :SHOWN_NEIGHBOURS]
    return [(mistake, [(images[i], int(labels[i]), float(cosines[m, i])) for i in nearest[m]])
            for m, mistake in enumerate(mistakes)]


def _unit(features):
    """Return feature vectors of length 1, in float64."""
    features = features.astype(np.float64)
    return features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-30)


# ---- HTML -------------------------------------------------------------------------------------------------


def embedding_section(found: Embedding, class_names: Sequence[str]) -> str:
    """Return the section of the report."""
    count = len(found.points)
    text = (f"Each point is one of {count:,} test images: its features, which the classifier reads, in the plane in "
            f"which they vary most. The plane has {percent(found.share)} of their variance. The colour is the true "
            "class, whose name stands at the median of its points. Rings are mistakes.")
    parts = [f'<p class="note">{text}</p>', _picture(found, class_names)]
    if found.neighbours:
        parts += [f'<h3>Nearest training images of the worst mistakes</h3>\n<p class="note">Those of '
                  f"{found.searched:,} {plural(found.searched, 'training image')} whose features have the largest "
                  "cosine with those of the test image, which comes first.</p>"]
        parts += [_row(mistake, near, class_names) for mistake, near in found.neighbours]
    return "\n".join(parts)


def _picture(found, class_names):
    """Return the points as an SVG."""
    low, high = found.points.min(axis=0), found.points.max(axis=0)
    scale = (np.array([WIDTH, HEIGHT]) - 2 * MARGIN) / np.where(high > low, high - low, 1)
    places = MARGIN + (found.points - low) * scale * [1, -1] + [0, HEIGHT - 2 * MARGIN]
    shapes = []
    for (x, y), label, wrong in zip(places, found.labels, found.wrong, strict=True):
        ring = ' class="wrong"' if wrong else ""
        shapes.append(f'<circle{ring} cx="{x:.0f}" cy="{y:.0f}" r="{5 if wrong else 3}" '
                      f'style="--hue: {360 * label / len(class_names):.0f}"/>')
    present = np.unique(found.labels)
    for label in present if len(present) <= NAMED_CLASSES else ():
        x, y = np.median(places[found.labels == label], axis=0)
        shapes.append(f'<text x="{x:.0f}" y="{y:.0f}">{html.escape(class_names[label])}</text>')
    words = f"features of {len(places):,} test images in the plane of two principal components"
    return (f'<svg class="embedding" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{words}">\n'
            + "\n".join(shapes) + "\n</svg>")


def _row(mistake, near, class_names):
    """Return a mistake and its neighbours, side by side."""
    words = f"true {class_names[mistake.true]}, predicted {class_names[mistake.predicted]}"
    figures = [_figure(mistake.image, words, f"{words}, {mistake.name}")]
    for image, label, cosine in near:
        figures.append(_figure(image, f"training image of {class_names[label]}",
                               f"{class_names[label]}, cosine {cosine:.2f}"))
    return f'<div class="images neighbours">\n{chr(10).join(figures)}\n</div>'


def _figure(image, words, caption):
    """Return an image with a caption."""
    return f"<figure>{image_element(image, words)}<figcaption>{html.escape(caption)}</figcaption></figure>"
