"""A folder of pictures as they come from phones, cameras and the web: all formats, modes and EXIF orientations.

The two classes differ only in which side is up, so a model learns them only if every picture is turned as its EXIF tag
says. `python tests/test_phone_pictures.py FOLDER` writes 2,000 pictures, for `minivit train FOLDER`.
"""

import itertools
import re
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from minivit import cli
from minivit.data.image_files import suffixes

# How a camera that was held in another way stores the picture, for each EXIF orientation
TURNS = {1: None, 2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180,
         4: Image.Transpose.FLIP_TOP_BOTTOM, 5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_90,
         7: Image.Transpose.TRANSVERSE, 8: Image.Transpose.ROTATE_270}
WITH_EXIF = (".jpg", ".jpeg", ".png", ".webp", ".tif", ".jfif")
MODES = ("RGB", "L", "RGBA", "LA", "P", "CMYK", "I;16", "1")


def picture(up, size, rng):
    """A picture with a bright upper half and coloured noise; upside down unless `up`."""
    width, height = size
    pixels = rng.integers(0, 90, (height, width, 3)).astype(np.uint8)
    pixels[:height // 2] += np.uint8(150)
    return Image.fromarray(pixels if up else pixels[::-1].copy())


def write_pictures(folder, count, seed=0):
    """Write `count` pictures of the classes "up" and "down" -> how many there are of each kind, as a Counter."""
    rng, kinds = np.random.default_rng(seed), Counter()
    endings = [ending for ending, kind in suffixes().items() if kind in Image.SAVE and ending not in (".pfm", ".xbm")]
    for name in ("up", "down"):
        (folder / name).mkdir(parents=True)
    for k in itertools.count():                       # some formats cannot hold some pictures
        if kinds["files"] == count:
            return kinds
        # three of four are what most people have; the others are of any format
        ending = str(rng.choice(WITH_EXIF)) if k % 4 else endings[k // 4 % len(endings)]
        mode, orientation = MODES[k % 3 and rng.integers(len(MODES))], 1
        if mode == "I;16" and ending not in (".png", ".tif", ".tiff", ".apng"):   # Pillow writes white to others
            mode = "RGB"
        image = picture(k % 2, [int(side) for side in rng.integers(40, 400, 2)], rng)
        options = {}
        if ending in WITH_EXIF:
            orientation = int(rng.integers(1, 9))
            options["exif"] = Image.Exif()
            options["exif"][0x0112] = orientation
            image = image if TURNS[orientation] is None else image.transpose(TURNS[orientation])
        file = folder / ("up" if k % 2 else "down") / f"IMG {k}{ending.upper() if k % 5 else ending}"
        plain, image, frames = image, _with_mode(image, mode), 1
        if ending in (".gif", ".webp", ".tif") and k % 7 == 0 and mode == "RGB":
            options |= {"save_all": True, "append_images": [Image.new("RGB", image.size)]}
            frames = 2
        if not _saved(image, file, options):
            mode = "RGB"
            if not _saved(plain, file, options):
                continue
        kinds.update(files=1, turned=orientation > 1, animated=frames > 1)
        kinds["16 bits"] += mode == "I;16"
    raise AssertionError


def _with_mode(image, mode):
    """The picture in a mode, with a transparent corner where the mode has transparency."""
    if mode == "I;16":
        return Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 257)
    image = image.convert(mode)
    if mode in ("RGBA", "LA"):
        image.putpixel((0, 0), (0,) * len(image.getbands()))
    return image


def _saved(image, file, options):
    """Save the picture; return whether its format can hold it."""
    try:
        image.save(file, **options)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, NotImplementedError):
        file.unlink(missing_ok=True)
        return False
    return True


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:IM image format:DeprecationWarning")
def test_a_folder_of_2000_mixed_pictures(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    kinds = write_pictures(tmp_path / "phone", 2000)
    (tmp_path / "phone" / "up" / "@eaDir" / "x").mkdir(parents=True)
    picture(True, (40, 40), np.random.default_rng(0)).save(tmp_path / "phone" / "up" / "@eaDir" / "x" / "thumb.jpg")
    (tmp_path / "phone" / "down" / "VID_1.mp4").write_bytes(b"a film")
    assert cli.main(["train", "phone", "--epochs", "3"]) == 0
    said = capsys.readouterr()
    assert float(re.search(r"test accuracy ([\d.]+)%", said.out)[1]) > 98
    page = Path("runs/phone-seed0/report.html").read_text(encoding="utf-8")
    for words in ("2,000 image files (", f"{kinds['turned']:,} turned upright as the EXIF tag says",
                  f"{kinds['16 bits']:,} with 16 bits, scaled to 8", " with transparent pixels, which became white",
                  " with several frames, of which the first was taken",
                  "left out 1 file that is not in an image format that can be read: .mp4 (1)"):
        assert words in said.err
        assert words[0].upper() + words[1:] in page
    assert kinds["turned"] > 900
    assert kinds["16 bits"] > 20


if __name__ == "__main__":
    print(dict(write_pictures(Path(sys.argv[1]), 2000)))
