"""Writing files so that there is never half of one."""

import os
from pathlib import Path


def write_whole(path, content):
    """Write bytes or text to `path` by way of a temporary file beside it, flushed and then renamed: all of it or nothing."""
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
