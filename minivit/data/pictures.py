"""Pictures from files, made to fit a model."""

from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

_MODES = {1: "L", 3: "RGB", 4: "RGBA"}


def read_picture(path, size, channels):
    """A picture file of any size and mode -> (size, size, channels) uint8; channels: 1 (grey), 3 (colour) or 4 (and opacity).

    Raises FileNotFoundError, or ValueError if it is no readable picture.
    """
    if channels not in _MODES:
        raise ValueError(f"pictures have 1, 3 or 4 channels, but the model takes {channels}")
    if not Path(path).is_file():
        raise FileNotFoundError(f"{path}: no such file")
    try:
        with Image.open(path) as file:
            # Pillow clips 16-bit grey instead of scaling it.
            grey16 = file.mode.startswith("I")
            picture = (Image.fromarray((np.asarray(file) >> 8).astype(np.uint8)) if grey16 else file).convert(_MODES[channels])
            if picture.size != (size, size):
                picture = picture.resize((size, size), Image.Resampling.BICUBIC)
            return np.asarray(picture).reshape(size, size, channels)
    except (UnidentifiedImageError, Image.DecompressionBombError, OSError, SyntaxError, ValueError) as error:
        raise ValueError(f"{path} is no readable picture: {error}") from None
