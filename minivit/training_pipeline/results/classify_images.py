"""Classify image files, or test images of a run by their number; and show where its model looks in them."""

import re
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any

import numpy as np

from ...common.checks import check_number
from ...common.sizes import Size, check_pair, size_as_python, size_in_words
from ...data import read_image_files
from ...explain.tools.attention_report import AttentionReport, attention_reports
from ...models.model import Model
from ...models.pretrained import Pretrained
from ...ops import softmax
from ..folder import RunFolder
from ..progress import progress_bar
from ..run_data import check_fit, load_own_data
from .trained_model import latest_model

BATCH = 1024    # images that are read before they are classified, so that any number of files needs little memory


def classify(model: Model, names: Sequence, images: np.ndarray, class_names: Sequence[str] | None = None, top: int = 3,
             unreadable: Collection = (), threads: int | None = None) -> list[dict[str, Any]]:
    """Return the most probable classes of images.

    Parameters
    ----------
    model : Model
    names : list of B
        What each image is called.
    images : (B, H, W, C)
    class_names : list of K str, optional
        Default: the numbers of the classes.
    top : int
        Number of classes to return for each image.
    unreadable : collection
        Names of images to leave out.
    threads : int, optional
        Number of threads (default: the cores of this process).

    Returns
    -------
    list of dict
        {"image": name, "number": None, "true": None, "classes": [{"class": name, "probability": p}, ...]} for each
        image.

    Raises
    ------
    ValueError
        If `top` is not a whole number of at least 1.
    """
    check_number("number of classes to show", top, least=1, whole=True)
    class_names = [str(k) for k in range(model.classes)] if class_names is None else class_names
    probabilities, _ = softmax.forward(model.predict(images, threads))
    return [{"image": str(name), "number": None, "true": None,
             "classes": [{"class": class_names[k], "probability": float(p[k])} for k in np.argsort(-p)[:top]]}
            for name, p in zip(names, probabilities, strict=True) if name not in unreadable]


def classify_with_weights(source: Pretrained, images: Sequence, top: int = 3, unreadable: dict | None = None,
                          threads: int | None = None, image_size: Size | None = None) -> Iterator[dict[str, Any]]:
    """Yield the most probable classes of image files with pretrained weights, as `classify`.

    Images are read and classified a batch at a time. Parameters and errors as for `read_image_files` and `classify`.
    image_size: another size than that of the training.
    """
    model = source.model
    size = model.image_size if image_size is None else image_size

    def classify_batch(batch):
        pixels = read_image_files(batch, size, model.channels, source.fit, source.crop, unreadable)
        return classify(model, batch, pixels, source.names, top, unreadable or (), threads)

    return _in_batches(images, classify_batch)


def classify_images(run: RunFolder, images: Sequence, top: int = 3, unreadable: dict | None = None,
                    threads: int | None = None, image_size: Size | None = None) -> Iterator[dict[str, Any]]:
    """Yield the most probable classes of images with the latest model of a run, as `classify`.

    Images are read and classified a batch at a time. For a test image of the run, the entry has its "number", and
    "true" is its true class. Parameters and errors as for `read_images`, `latest_model` and `classify`. image_size:
    another size for image files than that of the training.
    """
    model = latest_model(run)

    def classify_batch(batch):
        pixels, true = read_images(run, batch, model, unreadable, image_size)
        known = {str(name): {"number": int(name), "true": label} for name, label in zip(batch, true, strict=True)
                 if label is not None}
        rows = classify(model, batch, pixels, run.class_names(model), top, unreadable or (), threads)
        return [row | known.get(row["image"], {}) for row in rows]

    return _in_batches(images, classify_batch)


def _in_batches(images: Sequence, classify_batch: Callable) -> Iterator[dict[str, Any]]:
    """Yield the rows of all images, with a progress bar on a terminal if there is more than one batch."""
    with progress_bar(len(images) > BATCH, total=len(images), desc="classifying", unit=" images") as bar:
        for a in range(0, len(images), BATCH):
            batch = list(images[a:a + BATCH])
            yield from classify_batch(batch)
            bar.update(len(batch))


def attend_with_weights(source: Pretrained, images: Sequence, threads: int | None = None,
                        of_class: str | None = None) -> list[AttentionReport]:
    """Return where a model with pretrained weights looks in each image file.

    Parameters and errors as for `read_image_files` and `attention_reports`.
    """
    model = source.model
    pixels = read_image_files(list(images), model.image_size, model.channels, source.fit, source.crop)
    return attention_reports(model, pixels, images, source.class_names, threads=threads, of_class=of_class)


def attend_images(run: RunFolder, images: Sequence, threads: int | None = None,
                  of_class: str | None = None) -> list[AttentionReport]:
    """Return where the latest model of a run looks in each image, and what raises the logit of a class.

    Parameters and errors as for `read_images`, `latest_model` and `attention_reports`.
    """
    model = latest_model(run)
    pixels, true = read_images(run, images, model)
    numbers = [None if label is None else int(image) for image, label in zip(images, true, strict=True)]
    return attention_reports(model, pixels, images, run.class_names(model), true, numbers, threads, of_class)


def read_images(run: RunFolder, images: Sequence, model: Model,
                unreadable: dict | None = None, image_size: Size | None = None) -> tuple[np.ndarray, list[str | None]]:
    """Return images as the model of a run takes them.

    Parameters
    ----------
    run : RunFolder
    images : list of B
        Image files, which are prepared as the run's own data were; or whole numbers, which count the run's test images
        from 0.
    model : Model
    unreadable : dict, optional
        It receives {image: error} for images that cannot be read. Without it they raise.
    image_size : int or (int, int), optional
        Another size than the model's, for image files only.

    Returns
    -------
    pixels : (B, H, W, C) uint8
    true : list of B str or None
        The true class where it is known.

    Raises
    ------
    ValueError, FileNotFoundError
        As `read_image_files`; for numbers as `load_own_data`, or if a number is out of range.
    """
    numbers = {i: int(str(image)) for i, image in enumerate(images) if re.fullmatch(r"-?\d+", str(image))}
    files = {i: image for i, image in enumerate(images) if i not in numbers}
    size = model.image_size if image_size is None else check_pair("image_size", image_size)
    if numbers and size != model.image_size:
        raise ValueError(f"image_size={size_as_python(size)} is for image files: {images[next(iter(numbers))]} is the "
                         f"number of a test image, which has {size_in_words(model.image_size)} pixels")
    pixels = np.zeros((len(images), *size, model.channels), np.uint8)
    true: list[str | None] = [None] * len(images)
    if files:
        fit = run.config()["data"].get("fit", "stretch")
        pixels[list(files)] = read_image_files(list(files.values()), size, model.channels, fit,
                                               unreadable=unreadable)
    if numbers:
        data = load_own_data(run)
        check_fit(model, data)
        for i, number in numbers.items():
            if 0 <= number < len(data.test_images):
                pixels[i], true[i] = data.test_images[number], data.class_names[data.test_labels[number]]
                continue
            error = ValueError(f"{data.name} has test images 0 to {len(data.test_images) - 1}, not {number}")
            if unreadable is None:
                raise error
            unreadable[images[i]] = error
    return pixels, true
