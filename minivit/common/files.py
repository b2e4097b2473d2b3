"""Files: none is ever half written, and a damaged or hostile one is answered in one line."""

import os
import zipfile
from contextlib import contextmanager
from pathlib import Path

import numpy as np


def write_atomic(path, content):
    """Write bytes or text to `path`: all of it or nothing. Errors as `atomic_file`."""
    with atomic_file(path) as file:
        file.write(content.encode() if isinstance(content, str) else content)


@contextmanager
def atomic_file(path):
    """A file for bytes: at the end of the `with` block all that was written to it is in `path`, and before it nothing is.

    They go to a temporary file beside it, which is flushed and then renamed. Raises OSError that names the path, whatever went wrong; then
    it holds what it held before.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:                                          # a failed write or fsync does not know its file
        if error.errno is None or error.filename not in (None, str(temporary)):
            raise                                                     # it is of another file
        raise OSError(error.errno, error.strerror, str(path)) from None
    finally:
        temporary.unlink(missing_ok=True)


def remove_temporaries(folder):
    """Remove what a process that was killed in `atomic_file` left in `folder`."""
    for temporary in Path(folder).glob(".*.[0-9]*.tmp"):
        temporary.unlink(missing_ok=True)


def read_npz(path):
    """All arrays of an .npz file, by name. Raises FileNotFoundError, or ValueError if it is damaged or holds pickled objects."""
    if not Path(path).is_file():
        raise FileNotFoundError(f"{path}: no such file")
    # NumPy takes what is no zip file for a pickle.
    if not zipfile.is_zipfile(path):
        raise ValueError(f"{path} is no readable .npz file (truncated, or of another format)")
    try:
        with zipfile.ZipFile(path) as archive:
            check_memory("it", sum(member.file_size for member in archive.infolist()))
        with np.load(path, allow_pickle=False) as archive:
            arrays = {key: archive[key] for key in archive.files}
    except Exception as error:                        # whatever zipfile, zlib and NumPy's header parser stumble over in a damaged file
        if "allow_pickle" in str(error):
            raise ValueError(f"{path} holds pickled Python objects, which are never loaded: save plain arrays") from None
        raise ValueError(f"{path} is no readable .npz file: {' '.join(str(error).split()) or type(error).__name__}") from None
    for key, array in arrays.items():
        if not isinstance(array, np.ndarray):
            raise ValueError(f"{path} is no readable .npz file: {key} is no array")
    return arrays


def check_memory(what, size):
    """Raise ValueError if `size` bytes are more than this machine's memory (16 GiB where it does not tell)."""
    try:
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        memory = 2**34
    if size > memory:
        raise ValueError(f"{what} would take {size >> 30:,} GiB, but this machine has {memory >> 30:,} GiB of memory")
