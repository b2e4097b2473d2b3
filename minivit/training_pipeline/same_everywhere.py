"""Several ranks train one model: whether they have the same code, data, settings, weights and folder.

Ranks that differ would add gradients of different models. What must be equal is compared before the training starts,
and the weights again after every step. What only rounds differently, such as another processor, gives a warning. The
weights of such ranks drift apart, so all take those of rank 0 after each epoch.
"""

import contextlib
import time
import warnings
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any
from uuid import uuid4

import numba
import numpy as np
import threadpoolctl
from llvmlite import binding

from ..common.version import __version__
from ..data import Dataset
from ..models.model import Model
from ..parallel.batch_split import CHUNK
from ..parallel.ranks.alone import Alone
from ..training.loop import Loop
from .config import describe_model
from .folder import RunFolder

PATIENCE = 5.0       # seconds until a network file system shows a new file on all machines


def check_same_everywhere(ranks: Alone, model: Model, data: Dataset, settings: Mapping[str, Any]) -> bool:
    """Compare this rank with the others. Return whether they also round alike; otherwise warn on rank 0.

    Raises ValueError, on every rank, if code, data, model or settings differ.
    """
    if ranks.size == 1:
        return True
    own = {"minivit": __version__, "code": code_digest(), "data": data.ordered_digest,
           "model": [describe_model(model), model.dtype.name, sha256(model.vector.tobytes()).hexdigest()],
           "settings": dict(settings), "host": ranks.host, "rounding": rounding()}
    first, *others = ranks.allgather(own)
    for rank, other in enumerate(others, 1):
        for what in ("minivit", "code", "data", "model", "settings"):
            if first[what] != other[what]:
                raise ValueError(f"rank {rank} on {other['host']} has other {_difference(what, first, other)} than "
                                 f"rank 0 on {first['host']}: {_ADVICE[what]}")
    other = next((other for other in others if other["rounding"] != first["rounding"]), None)
    if other and ranks.first:
        names = [name for name, value in first["rounding"].items() if other["rounding"].get(name) != value]
        warnings.warn(f"{other['host']} has another {' and '.join(names)} than {first['host']}, so they may round "
                      "differently: the bits of the weights may depend on which rank runs where, and all ranks take "
                      "the weights of rank 0 after each epoch", stacklevel=2)
    return other is None


_ADVICE = {"minivit": "install the same version on all machines",
           "code": "install the same version, from the same source, on all machines",
           "data": "give all ranks the same files, or a folder that all machines share",
           "model": "start all ranks with the same command, and the same files of weights",
           "settings": "start all ranks with the same command"}


def _difference(what, first, other):
    """Name what differs, in words that follow "other"."""
    if what == "minivit":
        return f"code (minivit {other[what]}, not {first[what]})"
    if what != "settings":
        return {"code": "code of minivit", "data": "images or labels", "model": "weights, or another model,"}[what]
    name = next(name for name in first[what] | other[what] if first[what].get(name) != other[what].get(name))
    return f"settings ({name} {other[what].get(name)}, not {first[what].get(name)})"


@cache
def code_digest() -> str:
    """Return a hash of all source files of this package."""
    package, digest = Path(__file__).parents[1], sha256()
    for file in sorted(package.rglob("*.py")):
        digest.update(str(file.relative_to(package)).encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()


def rounding() -> dict[str, Any]:
    """Return what decides how this machine rounds, by name: the processor, and the libraries that compute."""
    libraries = [[info.get(key) for key in ("internal_api", "version", "architecture")]
                 for info in threadpoolctl.threadpool_info() if info["user_api"] == "blas"][:1]    # SciPy's comes later
    return {"processor": f"{binding.get_host_cpu_name()} {binding.get_host_cpu_features().flatten()}",
            "NumPy": np.__version__, "Numba": numba.__version__, "BLAS": libraries}


def check_same_checkpoint(ranks: Alone, run: RunFolder, loop: Loop) -> None:
    """Raise ValueError, on every rank, unless all have restored the same checkpoint."""
    if ranks.size == 1:
        return
    digest = sha256()
    for name, array in sorted(loop.state().items()):
        digest.update(name.encode() + np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
    own = [loop.trainer.optimiser.t, asdict(loop.progress), digest.hexdigest()]
    (first, host), *others = ranks.allgather([own, ranks.host])
    for rank, (other, its_host) in enumerate(others, 1):
        if other != first:
            what = f"(of step {other[0]}, not {first[0]})" if other[0] != first[0] else f"(of step {first[0]}, too)"
            raise ValueError(f"rank {rank} on {its_host} has read another checkpoint {what} than rank 0 on {host}: its "
                             f"file system shows old files of {run.path}; wait a minute, and resume again")


class SameWeights:
    """Compares the weights of all ranks, a chunk after each step. A function for `Loop.after_step`.

    All ranks do the same update. If their weights differ, a memory or a processor has made an error.

    Parameters
    ----------
    ranks : Alone
    loop : Loop
    """

    def __init__(self, ranks: Alone, loop: Loop) -> None:
        self.ranks, self.weights = ranks, loop.trainer.optimiser.vector
        self.chunks = -(-self.weights.size // CHUNK)

    def __call__(self, loop: Loop) -> None:
        """Compare the next chunk. Raises FloatingPointError, on every rank, if it differs."""
        step = loop.trainer.optimiser.t
        start = step % self.chunks * CHUNK
        found = self.ranks.allgather_number(zlib.crc32(self.weights[start:start + CHUNK].data))
        if other := [rank for rank, number in enumerate(found) if number != found[0]]:
            raise FloatingPointError(f"after step {step}, the weights of rank {other[0]} differ from those of rank 0, "
                                     "although both did the same: the memory or the processor of one of them has made "
                                     "an error")


class WeightsOfFirst:
    """Copies the state of rank 0 to all ranks. A function for `Loop.after_epoch`, for ranks that round differently.

    Parameters
    ----------
    ranks : Alone
    """

    def __init__(self, ranks: Alone) -> None:
        self.ranks = ranks

    def __call__(self, loop: Loop) -> None:
        """Copy all arrays of the state."""
        for array in loop.state().values():
            column = np.ascontiguousarray(array).reshape(-1, 1)
            self.ranks.allgather_rows(column, [0] + [len(column)] * self.ranks.size)      # rank 0 has computed all rows
            array[...] = column.reshape(array.shape)


@contextlib.contextmanager
def shared_folder(ranks: Alone, run: RunFolder | None) -> Iterator[None]:
    """Check that all ranks see the folder of the run: rank 0 makes a file there, and the others look for it.

    The folder is removed again if the block within fails before it holds a file. Raises ValueError, on every rank, if a
    rank does not see the file; OSError if the folder cannot be made.
    """
    if ranks.size == 1 or run is None:
        yield
        return
    made = _make(run.path) if ranks.first else []
    try:
        _check_seen(ranks, run.path)
        yield
    except BaseException:
        for folder in made:
            with contextlib.suppress(OSError):                        # raised unless it is empty
                folder.rmdir()
        raise


def _make(path):
    """Make a folder, and return those that were missing, the innermost first."""
    missing = [folder for folder in (path, *path.parents) if not folder.exists()]
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OSError(error.errno, f"this folder cannot be created: {error.strerror}; pass another one as out=...",
                      str(path)) from None
    return missing


def _check_seen(ranks, path):
    """Raise ValueError on every rank unless all see a file that rank 0 makes in the folder."""
    token = path / ranks.broadcast(f".{uuid4().hex}.0.tmp")
    try:
        if ranks.first:
            token.touch()
        ranks.allgather(None)                                         # the file is there
        deadline = time.monotonic() + PATIENCE
        while not (seen := token.exists()) and time.monotonic() < deadline:
            time.sleep(0.1)
        found = ranks.allgather([seen, ranks.host])
    finally:
        if ranks.first:
            token.unlink(missing_ok=True)
    for rank, (seen, host) in enumerate(found):
        if not seen:
            raise ValueError(f"rank {rank} on {host} does not see the folder {path} of rank 0 on {found[0][1]}: pass "
                             "a folder that all ranks share as out=..., with its whole path")
