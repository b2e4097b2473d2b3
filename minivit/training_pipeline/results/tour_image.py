"""Write the tour of one image through a trained model, of a run or of a file of weights."""

import math
import re
from pathlib import Path
from typing import Any

from ...common.checks import check_name
from ...data import read_image_files
from ...explain.tour import check_can_tour, make_tour, write_tour
from ...models.pretrained import load_weights
from ..folder import RunFolder
from .classify_images import read_images
from .trained_model import latest_model, unfinished


def tour_of_run(run: RunFolder, image: str, out: str | Path, of_class: str | None = None,
                threads: int = 1) -> dict[str, Any]:
    """Write the tour of an image through the latest model of a run.

    Parameters
    ----------
    run : RunFolder
        The run.
    image : str
        An image file, or the number of a test image, as for `read_images`.
    out : str or Path
        The HTML file to write.
    of_class : str, optional
        Name of the class whose loss goes backward. Default: the true class if it is known, else the predicted class.
    threads : int
        Number of threads of each matrix product.

    Returns
    -------
    dict
        {"image", "number", "true", "predicted", "probability", "class", "loss", "gradient"}: `class` is that of the
        loss, and `gradient` the norm of its gradient in the normalised pixels.

    Raises
    ------
    ValueError, FileNotFoundError
        As `latest_model`, `read_images` and `make_tour`; or if there is no such class.
    OSError
        If the file cannot be written.
    """
    model = latest_model(run)
    check_can_tour(model)
    names = run.class_names(model)
    if of_class is not None:
        check_name("class", of_class, names)
    [pixels], [true] = read_images(run, [image], model)
    number, records = int(image) if true is not None else None, run.read_log(run.settings.get("steps", math.inf))
    return _write(model, pixels, names, of_class or true, out, image, number, true, threads, records=records,
                  run=str(run.path), note=unfinished(run))


def tour_of_weights(path: str | Path, name: str | None, image: str, out: str | Path,
                    of_class: str | None = None, threads: int = 1,
                    class_names: str | Path | None = None) -> dict[str, Any]:
    """Write the tour of an image file through a model with pretrained weights.

    Parameters, result and errors as for `load_weights` and `tour_of_run`. Without names of the classes, their numbers
    are used.
    """
    source = load_weights(path, name, class_names)
    model, names = source.model, source.names
    check_can_tour(model)
    if of_class is not None and of_class.isdecimal() and int(of_class) < len(names):
        of_class = names[int(of_class)]
    if of_class is not None and of_class not in names:
        raise ValueError(f"unknown class {of_class!r}: the classes of a file of weights are numbers, 0 to "
                         f"{len(names) - 1}, or the names in a file class_names=...")
    if re.fullmatch(r"-?\d+", image) and not Path(image).exists():
        raise ValueError(f"{image} is the number of a test image, which only a run has: with model=... name an image "
                         "file")
    [pixels] = read_image_files([image], model.image_size, model.channels, source.fit, source.crop)
    return _write(model, pixels, names, of_class, out, image, None, None, threads)


def _write(model, pixels, names, of_class, out, image, number, true, threads, **about):
    """Make and write the tour; return its summary."""
    tour, numbers = make_tour(model, pixels, None if of_class is None else names.index(of_class), names, threads)
    title = Path(image).name if number is None else f"test image {number}"
    write_tour(out, tour, numbers, pixels, title=title, true=true, **about)
    return {"image": image, "number": number, "true": true, "predicted": names[tour["predicted"]],
            "probability": tour["probabilities"][tour["predicted"]], "class": names[tour["target"]],
            "loss": tour["loss"], "gradient": tour["gradient"]}
