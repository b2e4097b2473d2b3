"""MNIST, Fashion-MNIST, CIFAR-10 and CIFAR-100 by name: found in a folder or downloaded, and verified.

A name stands for exactly the published data. A tar archive must have the SHA-256 below, and so must every other file
after unzipping. Other data in the same formats are loaded by path.
"""

import os
import sys
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from hashlib import file_digest
from pathlib import Path
from typing import Any

import platformdirs

from .binary import find_binary, open_binary, read_archive
from .cifar import CLASS_NAMES, join, read_cifar
from .dataset import Dataset, make_dataset
from .idx import read_idx_pair

SYSTEM = Path("/usr/share/datasets")  # where a system's packages put data sets (Debian: dataset-fashion-mnist)


@dataclass(frozen=True)
class Published:
    """Where to get a data set, and how to verify it.

    read: turns the Streams of one part into (images, labels). files: {part: {file: SHA-256 after unzipping}}. archives:
    {file to download: SHA-256}; it is one file's .gz or a tar archive of all. urls: servers, in the order in which they
    are tried. folder: where torchvision or the archive puts the files, below the data folder. class_names, fit: see
    `Dataset`.
    """

    read: Callable
    class_names: tuple[str, ...]
    fit: str
    files: dict[str, dict[str, str]]
    archives: dict[str, str]
    urls: tuple[str, ...]
    folder: str

    @property
    def sums(self) -> dict[str, str]:
        """{file: SHA-256} of all parts."""
        return {file: sha256 for files in self.files.values() for file, sha256 in files.items()}


def _idx(streams):
    return read_idx_pair(*streams)


def _cifar(name):
    return lambda streams: join([read_cifar(stream, name) for stream in streams])


# The sums of the archives belong to the MD5 sums on the publishers' pages
# (https://github.com/zalandoresearch/fashion-mnist,
# https://www.cs.toronto.edu/~kriz/cifar.html) and in torchvision (MNIST); they are those that TensorFlow Datasets
# checks. The sums of
# the unzipped files: MNIST's and CIFAR's as other projects verify them (CIFAR:
# https://github.com/ankane/torchvision-ruby),
# Fashion-MNIST's computed from Debian's package.
PUBLISHED = {
    "mnist": Published(
        read=_idx,
        class_names=tuple("0123456789"),
        fit="pad",
        files={
            "train": {
                "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
                "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
            },
            "test": {
                "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
                "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
            },
        },
        archives={
            "train-images-idx3-ubyte.gz": "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
            "train-labels-idx1-ubyte.gz": "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
            "t10k-images-idx3-ubyte.gz": "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
            "t10k-labels-idx1-ubyte.gz": "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
        },
        urls=("https://storage.googleapis.com/cvdf-datasets/mnist/", "https://ossci-datasets.s3.amazonaws.com/mnist/"),
        folder="MNIST/raw",
    ),
    "fashion-mnist": Published(
        read=_idx,
        class_names=("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag",
                     "Ankle boot"),
        fit="pad",
        files={
            "train": {
                "train-images-idx3-ubyte": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
                "train-labels-idx1-ubyte": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
            },
            "test": {
                "t10k-images-idx3-ubyte": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
                "t10k-labels-idx1-ubyte": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
            },
        },
        archives={
            "train-images-idx3-ubyte.gz": "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
            "train-labels-idx1-ubyte.gz": "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
            "t10k-images-idx3-ubyte.gz": "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
            "t10k-labels-idx1-ubyte.gz": "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
        },
        urls=("https://github.com/zalandoresearch/fashion-mnist/raw/master/data/fashion/",
              "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/"),
        folder="FashionMNIST/raw",
    ),
    "cifar10": Published(
        read=_cifar("cifar10"),
        class_names=CLASS_NAMES["cifar10"],
        fit="crop",
        files={
            "train": {
                "data_batch_1.bin": "cee916563c9f80d84e3cc88e17fdc0941787f1244f00a67874d45b261883ada5",
                "data_batch_2.bin": "a591ca11fa1708a91ee40f54b3da4784ccd871ecf2137de63f51ada8b3fa57ed",
                "data_batch_3.bin": "bbe8596564c0f86427f876058170b84dac6670ddf06d79402899d93ceea26f67",
                "data_batch_4.bin": "014e562d6e23c72197cc727519169a60359f5eccd8945ad5a09d710285ff4e48",
                "data_batch_5.bin": "755304fc0b379caeae8c14f0dac912fbc7d6cd469eb67a1029a08a39453a9add",
            },
            "test": {
                "test_batch.bin": "8e2eb146ae340b09e24670f29cabc6326dba54da8789dab6768acf480273f65b",
            },
        },
        archives={"cifar-10-binary.tar.gz": "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd"},
        urls=("https://www.cs.toronto.edu/~kriz/",),
        folder="cifar-10-batches-bin",
    ),
    "cifar100": Published(
        read=_cifar("cifar100"),
        class_names=CLASS_NAMES["cifar100"],
        fit="crop",
        files={
            "train": {
                "train.bin": "f31298fc616915fa142368359df1c4ca2ae984d6915ca468b998a5ec6aeebf29",
            },
            "test": {
                "test.bin": "d8b1e6b7b3bee4020055f0699b111f60b1af1e262aeb93a0b659061746f8224a",
            },
        },
        archives={"cifar-100-binary.tar.gz": "58a81ae192c23a4be8b1804d68e518ed807d710a4eb253b1f2a199162a40d8ec"},
        urls=("https://www.cs.toronto.edu/~kriz/",),
        folder="cifar-100-binary",
    ),
}


def load_published(name: str, seed: int, test_fraction: float, data_dir: Any = None) -> Dataset:
    """Load a named data set.

    Parameters
    ----------
    name : str
        A key of PUBLISHED.
    data_dir : path, optional
        The folder of all data sets (default: the environment variable MINIVIT_DATA, or the user's cache). Missing
        files are downloaded to it.

    Raises
    ------
    FileNotFoundError
        If `data_dir` does not exist.
    ConnectionError
        If the download fails. The message says which file to put where.
    ValueError
        If a file is damaged or is not the published one.
    """
    published = PUBLISHED[name]
    where = _find(name, published, _data_dir(data_dir)) or _download(name, published, _data_dir(data_dir) / name)
    parts = (_read_tar if where.is_file() else _read_folder)(name, published, where)
    options = {"data_dir": str(Path(data_dir).resolve())} if data_dir else {}
    return make_dataset(name, parts, published.class_names, seed, test_fraction, published.fit, options)


def _read_tar(name, published, archive):
    with open(archive, "rb") as file:
        _check_sum(name, archive, file_digest(file, "sha256").hexdigest(), published.archives[archive.name])
    return _read_parts(published, read_archive(archive, published.sums))


def _read_folder(name, published, folder):
    with ExitStack() as stack:
        streams = {file: stack.enter_context(open_binary(find_binary(folder, file) or file)) for file in published.sums}
        parts = _read_parts(published, streams)
    for file, sha256 in published.sums.items():
        _check_sum(name, streams[file].name, streams[file].sha256, sha256)
    return parts


def _read_parts(published, streams):
    try:
        return {part: published.read([streams[file] for file in files]) for part, files in published.files.items()}
    except ValueError as error:
        raise ValueError(f"{error}; without the file, it is downloaded again") from None


def _check_sum(name, path, found, expected):
    if found != expected:
        raise ValueError(f"{path} is not the file that was published as {name}, but has the SHA-256 {found}: remove "
                         "it, and the right one is downloaded (to load other data in this format, pass their folder)")


def _data_dir(given):
    """Return the folder of all data sets. Raises FileNotFoundError if it was named and does not exist."""
    folder = given or os.environ.get("MINIVIT_DATA")
    if folder and not Path(folder).is_dir():
        raise FileNotFoundError(f"{folder}, given as {'data_dir' if given else 'MINIVIT_DATA'}, is not a folder")
    return Path(folder) if folder else platformdirs.user_cache_path("minivit") / "data"


def _find(name, published, data_dir):
    """Return the folder that holds all files, or their tar archive; None if there is none."""
    for folder in (data_dir / name, data_dir / published.folder, data_dir, SYSTEM / name):
        if all(find_binary(folder, file) for file in published.sums):
            return folder
        for archive in published.archives:
            if ".tar" in archive and (folder / archive).is_file():
                return folder / archive
    return None


def _download(name, published, folder):
    """Download the archives into `folder`, each from the first server that has it; return what `_find` returns."""
    import pooch  # here, because it brings a whole library for HTTP

    pooch.get_logger().setLevel("WARNING")
    for archive, sha256 in published.archives.items():
        reasons = []
        for url in published.urls:
            try:
                pooch.retrieve(url + archive, f"sha256:{sha256}", archive, folder, progressbar=sys.stderr.isatty())
                break
            except (OSError, ValueError) as error:    # no network, no such page, no place to write; another SHA-256
                reasons.append(_reason(error))
        else:
            raise ConnectionError(f"{name} could not be downloaded ({'; '.join(dict.fromkeys(reasons))}): get "
                                  f"{', '.join(published.archives)} from {published.urls[0]} and put them into "
                                  f"{folder}, or name the folder that has them with data_dir=... or MINIVIT_DATA")
    return folder if len(published.archives) == len(published.sums) else folder / next(iter(published.archives))


def _reason(error):
    """Return the error of a library in a few words."""
    if isinstance(error, ValueError) and "hash" in str(error):
        return "the downloaded file is not the published one: its SHA-256 differs"
    if isinstance(error, PermissionError):
        return str(error.strerror or error)
    return type(error).__name__ if "Max retries" in str(error) else str(error)
