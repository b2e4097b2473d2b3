"""Files: written completely or not at all, and read with one clear error if they are damaged."""

import os
import shutil
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

try:
    import fcntl
except ImportError:                                                   # on Windows
    fcntl = None  # type: ignore[assignment]


def write_atomic(path: str | os.PathLike, content: bytes | str) -> None:
    """Write bytes or text to `path` completely or not at all. Errors as `atomic_file`."""
    with atomic_file(path) as file:
        file.write(content.encode() if isinstance(content, str) else content)


@contextmanager
def atomic_file(path: str | os.PathLike) -> Iterator[Any]:
    """Open a binary file for writing that appears under `path` only when the `with` block ends.

    The bytes go to a temporary file in the same folder, which is flushed and then renamed. If anything fails, `path`
    keeps its old content, and OSError names the path.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:                                          # a failed write or fsync does not name its file
        if error.errno is None or error.filename not in (None, str(temporary)):
            raise                                                     # the error concerns another file
        raise OSError(error.errno, error.strerror, str(path)) from None
    finally:
        temporary.unlink(missing_ok=True)


def remove_temporaries(folder: str | os.PathLike) -> None:
    """Remove temporary files that a killed process left in `folder`. See `atomic_file`."""
    for temporary in Path(folder).glob(".*.[0-9]*.tmp"):
        temporary.unlink(missing_ok=True)


def read_npz(path: str | os.PathLike) -> dict[str, np.ndarray]:
    """Read all arrays of an .npz file, by name.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If the file is damaged or holds pickled objects.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"{path}: no such file")
    # NumPy would treat any other file as a pickle.
    if not zipfile.is_zipfile(path):
        raise ValueError(f"{path} is not a readable .npz file: it is truncated or has another format")
    try:
        with zipfile.ZipFile(path) as archive:
            check_memory("its content", sum(member.file_size for member in archive.infolist()))
        with np.load(path, allow_pickle=False) as archive:
            arrays = {key: archive[key] for key in archive.files}
    except Exception as error:  # zipfile, zlib and NumPy raise many kinds for damaged files
        if "allow_pickle" in str(error):
            raise ValueError(f"{path} holds pickled Python objects, which are never loaded: save plain "
                             "arrays") from None
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(f"{path} is not a readable .npz file: {reason}") from None
    for key, array in arrays.items():
        if not isinstance(array, np.ndarray):
            raise ValueError(f"{path} is not a readable .npz file: {key} is not an array")
    return arrays


def check_memory(what: str, size: int) -> None:
    """Raise ValueError if `size` bytes exceed this machine's memory, or 16 GiB if that is unknown."""
    try:
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        memory = 2**34
    if size > memory:
        raise ValueError(f"{what} would take {size >> 30:,} GiB, but this machine has {memory >> 30:,} GiB of memory")


@contextmanager
def locked(path: str | os.PathLike) -> Iterator[None]:
    """Keep other processes that use `locked` away from `path` until the `with` block ends.

    The lock is a file beside `path`. The system releases it if this process is killed. Raises BlockingIOError, an
    OSError, if another process has the lock. Systems without `fcntl`, such as Windows, have no lock.
    """
    if fcntl is None:
        yield
        return
    path = Path(path)
    lock = path.with_name(f".{path.name}.lock")
    try:
        descriptor = os.open(lock, os.O_RDWR | os.O_CREAT)
    except OSError as error:                                          # name the file that the user knows
        raise OSError(error.errno, error.strerror, str(path)) from None
    with open(descriptor, "rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BlockingIOError(f"another process is writing {path}: wait until it has ended, or name another file"
                                  ) from None
        except OSError:
            pass                                                      # a file system without locks
        try:
            yield
        finally:
            lock.unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: str | os.PathLike) -> Iterator[Path]:
    """Make a folder that appears under `path` only when the `with` block ends, with the files written until then.

    The block gets a temporary folder beside it. Raises ValueError if `path` exists and is not an empty folder; OSError,
    which names `path`, if the folder cannot be made.
    """
    path = Path(path)
    check_is_free(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.mkdir()
        yield temporary
        if path.is_dir():
            path.rmdir()                                              # it is empty
        os.replace(temporary, path)
    except OSError as error:                                          # name the folder that the user knows
        if error.errno is None:
            raise
        raise OSError(error.errno, error.strerror, str(path)) from None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def check_is_free(path: str | os.PathLike) -> None:
    """Raise ValueError unless `path` is an empty folder, or nothing, in a folder that exists."""
    path = Path(path)
    if path.exists() and not path.is_dir():
        raise ValueError(f"{path} is a file: name a new folder")
    if path.is_dir() and any(path.iterdir()):
        raise ValueError(f"{path} already holds {len([*path.iterdir()])} files: name a new or empty folder")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"{path.parent}: no such folder, so {path.name} cannot be made there")
