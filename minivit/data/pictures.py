"""Pictures from files, made to fit a model."""

from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError


def read_picture(path, size, channels):
    """A picture file of any size and mode -> (size, size, channels) uint8; channels is 1 (grey) or 3 (colour).

    Raises FileNotFoundError, or ValueError if it is no readable picture.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"{path}: no such file")
    try:
        with Image.open(path) as file:
            picture = file.convert({1: "L", 3: "RGB"}[channels])
            if picture.size != (size, size):
                picture = picture.resize((size, size), Image.Resampling.BICUBIC)
            return np.asarray(picture).reshape(size, size, channels)
    except (UnidentifiedImageError, Image.DecompressionBombError, OSError, SyntaxError, ValueError) as error:
        raise ValueError(f"{path} is no readable picture: {error}") from None
