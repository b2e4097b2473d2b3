"""The binary version of CIFAR-10 and CIFAR-100: records of fixed length without a header.

    CIFAR-10     1 byte label,                       3072 bytes of pixels: the red plane of 32x32, the green, the blue
    CIFAR-100    1 byte coarse label, 1 fine label,  3072 bytes of pixels

Source: A. Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009;
https://www.cs.toronto.edu/~kriz/cifar.html
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from .binary import Stream, find_binary, open_binary
from .dataset import Dataset, check_labels, make_dataset

_MOST = 2**30                                        # bytes of a file: the published ones have 153,700,000 at most
CLASS_NAMES = {
    "cifar10": ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"),
    "cifar100": (
        "apple", "aquarium_fish", "baby", "bear", "beaver", "bed", "bee", "beetle", "bicycle", "bottle", "bowl",
        "boy", "bridge", "bus", "butterfly", "camel", "can", "castle", "caterpillar", "cattle", "chair",
        "chimpanzee", "clock", "cloud", "cockroach", "couch", "crab", "crocodile", "cup", "dinosaur", "dolphin",
        "elephant", "flatfish", "forest", "fox", "girl", "hamster", "house", "kangaroo", "keyboard", "lamp",
        "lawn_mower", "leopard", "lion", "lizard", "lobster", "man", "maple_tree", "motorcycle", "mountain",
        "mouse", "mushroom", "oak_tree", "orange", "orchid", "otter", "palm_tree", "pear", "pickup_truck",
        "pine_tree", "plain", "plate", "poppy", "porcupine", "possum", "rabbit", "raccoon", "ray", "road", "rocket",
        "rose", "sea", "seal", "shark", "shrew", "skunk", "skyscraper", "snail", "snake", "spider", "squirrel",
        "streetcar", "sunflower", "sweet_pepper", "table", "tank", "telephone", "television", "tiger", "tractor",
        "train", "trout", "tulip", "turtle", "wardrobe", "whale", "willow_tree", "wolf", "woman", "worm"),
}
FORMATS = {
    # name: (files of each part, label bytes, file of the class names)
    "cifar10": ({"train": [f"data_batch_{k}.bin" for k in range(1, 6)], "test": ["test_batch.bin"]}, 1,
                "batches.meta.txt"),
    "cifar100": ({"train": ["train.bin"], "test": ["test.bin"]}, 2, "fine_label_names.txt"),
}


def find_cifar(folder: str | Path) -> tuple[str, dict[str, list[Path]]] | None:
    """Find CIFAR's binary files in a folder -> (format, {part: paths}), or None. Some of the files may be missing."""
    for name, (parts, _, _) in FORMATS.items():
        found = {part: [path for file in files if (path := find_binary(folder, file))] for part, files in parts.items()}
        if any(found.values()):
            return name, {part: paths for part, paths in found.items() if paths}
    return None


def load_cifar(folder: str | Path, seed: int, test_fraction: float) -> Dataset:
    """Load CIFAR's binary files in a folder as a Dataset. Raises ValueError."""
    name, files = find_cifar(folder) or ("", {})
    parts = {}
    for part, paths in files.items():
        batches = []
        for path in paths:
            with open_binary(path) as stream:
                batches.append(read_cifar(stream, name))
        parts[part] = join(batches)
    return make_dataset(Path(folder).resolve().name, parts, _class_names(folder, name), seed, test_fraction, fit="crop")


def read_cifar(stream: Stream, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Read a Stream of records -> (images (B, 32, 32, 3), labels (B,)), uint8.

    The labels of CIFAR-100 are the fine ones. Raises ValueError if the length or a label does not fit.
    """
    label_bytes, classes = FORMATS[name][1], len(CLASS_NAMES[name])
    length, content = label_bytes + 3072, stream.read(_MOST + 1)
    if not content or len(content) % length or len(content) > _MOST:
        raise ValueError(f"{stream.name} is truncated, or no binary file of {name}: {len(content):,} bytes are not "
                         f"records of {length:,}")
    records = np.frombuffer(content, np.uint8).reshape(-1, length)
    images, labels = records[:, label_bytes:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1), records[:, label_bytes - 1]
    check_labels(f"{stream.name}: labels of {name}", labels, images, classes)
    return np.ascontiguousarray(images), labels


def join(batches: Sequence[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    """Concatenate [(images, labels), ...] -> (images, labels)."""
    images, labels = zip(*batches, strict=True)
    return np.concatenate(images), np.concatenate(labels)


def _class_names(folder, name):
    """Read the class names from the file beside the data, or return CIFAR's own. Other data use this format too."""
    path, classes = Path(folder, FORMATS[name][2]), len(CLASS_NAMES[name])
    if not path.is_file():
        return CLASS_NAMES[name]
    names = tuple(line.strip() for line in path.read_text(errors="replace").splitlines() if line.strip())
    if len(names) != classes:
        raise ValueError(f"{path} has {len(names)} class names, but {name} has {classes} classes")
    return names
