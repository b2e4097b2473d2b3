"""Read image files so that they fit a model: in the same way for training and for prediction.

An image of any size and mode becomes (H, W, channels) in four steps:

    rotate    as its EXIF tag says, so that a photograph taken upright is upright
    colour    to gray, RGB or RGBA; 16-bit gray is scaled to 8 bits; transparent pixels become white, except in RGBA
    shape     crop: the largest rectangle of the shape H x W in the middle; pad: add black at two sides, so that nothing
              is lost; stretch: scale both sides independently
    resize    bicubic, over all pixels that one new pixel covers
"""

import os
import shlex
import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from PIL import ExifTags, Image, ImageOps
from tqdm import tqdm

from ..common.checks import check_name
from ..common.files import check_memory
from ..common.sizes import Size, pair
from .dataset import FITS
from .preparation import Preparation

# Photos in these formats need a newer Pillow or the package pillow-heif. They are not passed over in silence.
_PHOTOS = {".avif": "AVIF", ".heic": "HEIC", ".heif": "HEIC", ".hif": "HEIC"}
# These formats are recognised by the first bytes of a file, whatever its name; all others by the ending of its name.
_FORMATS = ("PNG", "JPEG", "BMP", "GIF", "WEBP", "TIFF", "PPM", "JPEG2000", "AVIF", "HEIF")
# Pillow needs other programs for these, or does not decode them; PCD is mostly the ending of point clouds.
_NOT_READ = {"EPS", "WMF", "BUFR", "GRIB", "HDF5", "MPEG", "PCD"}
_GREY = ("1", "L", "LA", "La", "I", "I;16", "I;16L", "I;16B", "I;16N")
_MODES = {1: "L", 3: "RGB", 4: "RGBA"}
_MOST_PIXELS = 2**27                                 # 134 million; a file of a few kilobytes can claim any number


@cache
def suffixes() -> dict[str, str]:
    """Return {ending: format} of the image files that are looked for in a folder, such as {".jpg": "JPEG", ...}."""
    with suppress(ImportError):                       # a phone's HEIC can be read if this package is installed
        from pillow_heif import register_heif_opener
        register_heif_opener()
    Image.init()
    known = {suffix: "JPEG" if kind == "MPO" else kind for suffix, kind in Image.registered_extensions().items()}
    return _PHOTOS | {suffix: kind for suffix, kind in known.items() if kind in Image.OPEN and kind not in _NOT_READ}


class Unreadable(ValueError):
    """The error for a file that is not a readable image file, with the reason."""

    def __init__(self, path: Any, reason: str) -> None:
        super().__init__(f"{path} is not a readable image file ({reason})")
        self.reason = reason


def read_image_files(files: Sequence, size: Size, channels: int, fit: str = "crop", share: float = 1.0,
                     unreadable: dict | None = None, preparation: Preparation | None = None) -> np.ndarray:
    """Read image files of any size and mode.

    Parameters
    ----------
    files : list of paths
        The image files.
    size : int or (int, int)
        (H, W) of the result, in pixels; one number for a square.
    channels : int
        1 (gray), 3 (RGB) or 4 (RGBA).
    fit : {"crop", "pad", "stretch"}
        How to give an image the shape of the result; see the module.
    share : float
        Fraction of the sides that a crop keeps, such as 0.9 for many ImageNet models.
    unreadable : dict, optional
        Receives {file: error} for each file that is missing or unreadable; its image is black then.
    preparation : Preparation, optional
        Receives what was done with each file.

    Returns
    -------
    (B, H, W, channels) uint8

    Raises
    ------
    FileNotFoundError, ValueError
        Without `unreadable`: for a missing file, or for all files that are not readable.
    """
    if channels not in _MODES:
        raise ValueError(f"image files have 1, 3 or 4 channels, but the model takes {channels}")
    check_name("fit", fit, FITS)
    H, W = pair(size)
    check_memory(f"{len(files)} images of {H}x{W}", len(files) * H * W * channels)
    images, errors = np.zeros((len(files), H, W, channels), np.uint8), {} if unreadable is None else unreadable
    prepared = _of_each(files, lambda file: _prepare(file, (H, W), channels, fit, share), "reading", errors)
    for row, result in zip(images, prepared, strict=True):
        if result is not None:
            row[:], facts = result
            if preparation is not None:
                preparation.add(*facts)
    if unreadable is None:
        _refuse(errors)
    return images


def inspect_image_files(files: Sequence) -> Any:
    """Read only the headers -> (shorter sides in pixels, whether gray), one of each per file.

    Errors as `read_image_files`.
    """
    errors: dict = {}
    found = list(_of_each(files, lambda file: (min(file.size), file.mode in _GREY), "finding", errors))
    _refuse(errors)
    return zip(*found, strict=True)


def _of_each(files, function, doing, errors):
    """Call `function` on each opened file, in order, on all cores.

    On failure yield None and put {file: error} into `errors`.
    """
    def call(path):
        if not Path(path).is_file():
            if Path(path).is_symlink():
                return None, Unreadable(path, f"a link to {os.readlink(path)}, which is not there")
            folder = f", but a folder: its files are {shlex.quote(str(Path(path)))}/*" if Path(path).is_dir() else ""
            return None, FileNotFoundError(f"{path}: no such file{folder}")
        try:
            # From a path, Pillow 13 maps some TIFF files with width and height exchanged if they have to be turned.
            with open(path, "rb") as stream, Image.open(stream, formats=_formats_of(path)) as file:
                if file.width * file.height > _MOST_PIXELS:
                    raise ValueError(f"{file.width}x{file.height} pixels, more than {_MOST_PIXELS:,}; scale it down")
                return function(file), None
        except Exception as error:  # Pillow lets through whatever its parsers stumble over in a damaged file
            return None, Unreadable(path, _reason(error, path))

    pool = ThreadPoolExecutor(os.cpu_count())
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # on sizes, which are checked above, and on damage that does no harm
            bar = tqdm(pool.map(call, files), f"{doing} image files", len(files), leave=False, unit="", unit_scale=True,
                       disable=None)
            for path, (result, error) in zip(files, bar, strict=True):
                if error:
                    errors[path] = error
                yield result
    finally:
        pool.shutdown(cancel_futures=True)            # Ctrl-C does not wait for the rest


def _formats_of(path):
    """Return the formats that a file may have: the common ones, and the one of its ending."""
    kind = suffixes().get(os.path.splitext(path)[1].lower())
    return [one for one in (*_FORMATS, *([kind] if kind not in (*_FORMATS, None) else [])) if one in Image.OPEN]


def _refuse(errors):
    """Raise one error for {file: error}, if there are any. It names five files and each reason once."""
    files_of: dict[str, list[str]] = {}
    for path, error in errors.items():
        if isinstance(error, FileNotFoundError):
            raise error
        if sum(map(len, files_of.values())) < 5:
            files_of.setdefault(error.reason, []).append(str(path))
    if errors:
        named = [str(Unreadable(files[0], reason)) if len(files) == 1
                 else f"{', '.join(files)} are not readable image files ({reason})"
                 for reason, files in files_of.items()]
        rest = [f"and {len(errors) - 5} more"] if len(errors) > 5 else []
        raise ValueError("; ".join(named + rest) + ": repair, convert or remove "
                         + ("it" if len(errors) == 1 else "them"))


def _reason(error, path):
    """Return the error of a library in a few words."""
    if isinstance(error, Image.UnidentifiedImageError):
        photo = _PHOTOS.get(os.path.splitext(path)[1].lower())
        if photo == "HEIC" and "HEIF" not in Image.OPEN:
            return "HEIC is read if you pip install pillow-heif"
        if photo == "AVIF" and "AVIF" not in Image.OPEN:
            return "AVIF needs a newer Pillow: pip install -U pillow"
        return f"not one of {', '.join(_FORMATS[:6])} or another format that Pillow reads"
    return " ".join(str(error).split()) or type(error).__name__


def _prepare(file, size, channels, fit, share):
    """Turn an opened image into (*size, channels) by the four steps above, shrinking as early as possible.

    Return it with the facts that `Preparation.add` counts.
    """
    H, W = size
    shorter, whole = min(size), int(min(size) / share)                # of `whole` pixels, `shorter` are seen
    stored_size = file.size
    turned = file.getexif().get(ExifTags.Base.Orientation, 1) in range(2, 9)        # Pillow forgets it with the pixels
    # a JPEG need not be decoded larger than this, which is several times faster
    file.draft(None, 2 * (2 * int(max(size) / share),))
    image = _as_plain_mode(ImageOps.exif_transpose(file), file.format)
    done = ["turned"] * turned + _done(file) + ["transparent"] * (image.mode == "RGBA" and channels != 4)
    width, height = image.size
    box, new = (0, 0, width, height), (W, H)
    if fit == "crop":
        unit = min(width * H, height * W)                             # of the largest rectangle of this shape
        across, down = (unit / side * shorter / whole for side in (H, W))
        box = ((width - across) / 2, (height - down) / 2, (width + across) / 2, (height + down) / 2)
    elif fit == "pad":
        wide = width * H >= height * W
        new = (W, max(1, round(W * height / width))) if wide else (max(1, round(H * width / height)), H)
    if image.size != new or box != (0, 0, width, height):
        image = image.resize(new, Image.Resampling.BICUBIC, box, reducing_gap=3.0)
    if image.mode == "RGBA" and channels != 4:
        image = Image.alpha_composite(Image.new("RGBA", new, "white"), image)
    canvas = Image.new(_MODES[channels], (W, H))
    canvas.paste(image.convert(canvas.mode), ((W - new[0]) // 2, (H - new[1]) // 2))
    return np.asarray(canvas).reshape(H, W, channels), (stored_size, file.format, done)


def _done(file):
    """Return what its mode and frames make necessary for a loaded image, as keys of `preparation.DONE`."""
    bits = "32 bits" if _has_32_bits(file.mode, file.format) else "16 bits" if file.mode.startswith("I") else ""
    try:
        animated = getattr(file, "is_animated", False)
    except Exception:                                 # a damaged second frame does not matter
        animated = False
    return [key for key in (bits, "animated" if animated else "") if key]


def _has_32_bits(mode, kind):
    """Whether numbers of mode I are 32-bit numbers: PNG and PGM have 16 bits."""
    return mode == "I" and kind not in ("PNG", "PPM")


def _as_plain_mode(image, kind):
    """Convert an image from a file of format `kind` to mode L, RGB, or RGBA if some pixels are transparent."""
    if image.mode == "F":
        raise ValueError("its pixels are floating-point numbers without a known range: save it with 8 bits")
    if image.mode.startswith("I"):                    # Pillow clips 16-bit gray instead of scaling it
        numbers = np.asarray(image)
        if _has_32_bits(image.mode, kind):
            if numbers.min() < 0 or numbers.max() > 255:
                raise ValueError(f"its pixels are 32-bit numbers from {numbers.min()} to {numbers.max()}, of which "
                                 "black and white are not known: save it with 8 or 16 bits")
            return Image.fromarray(numbers.astype(np.uint8))
        return Image.fromarray(np.clip(numbers >> 8, 0, 255).astype(np.uint8))
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        return image.convert("RGBA")
    return image.convert("L" if image.mode in _GREY else "RGB")
