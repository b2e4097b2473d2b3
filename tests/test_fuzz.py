"""A thousand damaged files: each is read, or refused in one line that names it, without other effects."""

import gzip
import io
import struct

import numpy as np
import pytest
from PIL import Image

from minivit.data import load_data

RNG = np.random.default_rng(7)
IMAGES, LABELS = RNG.integers(0, 256, (12, 9, 9), np.uint8), (np.arange(12) % 3).astype(np.uint8)
CASES = 100                                          # of each of the ten formats


def idx(array):
    return bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


def image_bytes(kind, mode="RGB", **options):
    file = io.BytesIO()
    Image.fromarray(RNG.integers(0, 256, (40, 30, 3), np.uint8)).convert(mode).save(file, kind, **options)
    return file.getvalue()


def turned():
    exif = Image.Exif()
    exif[0x0112] = 6
    return exif


def npz(save, **arrays):
    file = io.BytesIO()
    save(file, **arrays)
    return file.getvalue()


CIFAR = np.hstack([LABELS[:, None], RNG.integers(0, 256, (12, 3072), np.uint8)]).tobytes()
TRAIN = {"train-images-idx3-ubyte": idx(IMAGES), "train-labels-idx1-ubyte": idx(LABELS)}
# format: (all files of a good data set, which of them is damaged, how many bytes of it are header)
FORMATS = {
    "idx images": (TRAIN, "train-images-idx3-ubyte", 16),
    "idx labels": (TRAIN, "train-labels-idx1-ubyte", 8),
    "idx gzipped": ({f"{name}.gz": gzip.compress(c) for name, c in TRAIN.items()}, "train-images-idx3-ubyte.gz", 20),
    "cifar10": ({"data_batch_1.bin": CIFAR, "test_batch.bin": CIFAR}, "test_batch.bin", 1),
    "cifar100": ({"train.bin": bytes(3074) * 3, "test.bin": bytes(3074)}, "train.bin", 2),
    "npz": ({"data.npz": npz(np.savez, images=IMAGES, labels=LABELS)}, "data.npz", 160),
    "npz compressed": ({"data.npz": npz(np.savez_compressed, images=IMAGES, labels=LABELS)}, "data.npz", 160),
    "png": ({f"{k}/{n}.png": image_bytes("PNG") for k in "ab" for n in "012"}, "a/0.png", 40),
    "png palette": ({f"{k}/{n}.png": image_bytes("PNG", "P") for k in "ab" for n in "012"}, "b/1.png", 40),
    "jpeg": ({f"{k}/{n}.jpg": image_bytes("JPEG", exif=turned()) for k in "ab" for n in "012"}, "a/0.jpg", 200),
}


def cut(content, header, rng):
    return content[:rng.integers(len(content))]


def flip_bits(content, header, rng):
    damaged = bytearray(content)
    for _ in range(rng.integers(1, 9)):
        damaged[rng.integers(len(damaged))] ^= 1 << rng.integers(8)
    return bytes(damaged)


def lie_in_the_header(content, header, rng):
    damaged, place = bytearray(content), rng.integers(header)
    value = int(rng.choice([0, 1, 0x7F, 0x80, 0xFF]))
    damaged[place:place + int(rng.integers(1, 9))] = bytes([value]) * int(rng.integers(1, 9))
    return bytes(damaged)


def wrong_magic(content, header, rng):
    return rng.bytes(4) + content[4:]


def insert(content, header, rng):
    place = rng.integers(len(content))
    return content[:place] + rng.bytes(int(rng.integers(1, 50))) + content[place:]


def overwrite(content, header, rng):
    place = rng.integers(len(content))
    return content[:place] + rng.bytes(len(content) - place)


def nonsense(content, header, rng):
    return rng.bytes(int(rng.integers(2000)))


DAMAGES = (cut, flip_bits, lie_in_the_header, wrong_magic, insert, overwrite, nonsense)


@pytest.mark.parametrize("kind", FORMATS)
def test_damaged_files_are_read_or_refused(tmp_path, capfd, recwarn, kind):
    files, name, header = FORMATS[kind]
    folder = tmp_path / "data"
    for file, content in files.items():
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).write_bytes(content)
    source = folder / name if name.endswith(".npz") else folder
    assert len(load_data(source, test_fraction=1).test_images)        # it is good before it is damaged
    refused = 0
    for case in range(CASES):
        damage = DAMAGES[case % len(DAMAGES)]
        (folder / name).write_bytes(damage(files[name], header, np.random.default_rng([case, *kind.encode()])))
        try:
            data = load_data(source, test_fraction=1)
        except (ValueError, TypeError) as error:
            refused += 1
            line = str(error)
            assert "data" in line, (case, line)
            assert "\n" not in line, (case, line)
            assert len(line) < 700, (case, line)
        else:
            assert data.test_images.dtype == np.uint8
            assert data.test_images.ndim == 4
    assert refused > CASES / 4
    assert capfd.readouterr() == ("", "")
    assert not recwarn
