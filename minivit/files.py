"""Writing files so that there is never half of one."""

import os
from pathlib import Path


def write_whole(path, content):
    """Write bytes or text to `path` by way of a temporary file beside it, flushed and then renamed: all of it or nothing.

    Raises OSError that names the path, whatever went wrong; then it holds what it held before.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:                                          # a failed write or fsync does not know its file
        raise OSError(error.errno, error.strerror, str(path)) from None
    finally:
        temporary.unlink(missing_ok=True)


def remove_temporaries(folder):
    """Remove what a process that was killed in `write_whole` left in `folder`."""
    for temporary in Path(folder).glob(".*.[0-9]*.tmp"):
        temporary.unlink(missing_ok=True)
