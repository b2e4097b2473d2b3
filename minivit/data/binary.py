"""Binary files of data sets: plain, gzipped, or in a tar archive. They are read once, from front to end."""

import gzip
import io
import os
import tarfile
import zlib
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path, PurePosixPath
from typing import Any

from ..common.files import check_memory

_PIECE = 2**24


class Stream:
    """An open file with a name for messages. It computes the SHA-256 of everything that was read."""

    def __init__(self, name: Any, file: Any) -> None:
        self.name, self._file, self._hash = name, file, sha256()

    def read(self, most: int) -> bytes:
        """Read up to `most` bytes; fewer only at the end of the file. Raises ValueError if the file is damaged.

        It reads in pieces, so a wrong size in a header allocates no memory.
        """
        pieces, left = [], most
        try:
            while left and (piece := self._file.read(min(left, _PIECE))):
                pieces.append(piece)
                left -= len(piece)
        except Exception as error:                    # OSError, EOFError, zlib.error or tarfile.TarError
            raise ValueError(f"{self.name} is damaged: {error}") from None
        content = b"".join(pieces)
        self._hash.update(content)
        return content

    @property
    def sha256(self) -> str:
        """The SHA-256 of the bytes read so far, in hexadecimal."""
        return self._hash.hexdigest()


def find_binary(folder: str | os.PathLike, name: str) -> Path | None:
    """Return the path of the file `name` or `name.gz` in a folder, or None."""
    return next((path for path in (Path(folder, name), Path(folder, f"{name}.gz")) if path.is_file()), None)


@contextmanager
def open_binary(path: str | os.PathLike) -> Iterator[Stream]:
    """Open a file as a `Stream`; a gzipped file is unzipped on the way. Raises OSError."""
    with open(path, "rb") as file:
        zipped = file.read(2) == b"\x1f\x8b"
        file.seek(0)
        yield Stream(path, gzip.GzipFile(fileobj=file) if zipped else file)


def read_archive(path: str | os.PathLike, names: Collection[str]) -> dict[str, Stream]:
    """Read the files with these names from a .tar.gz in one pass -> {name: Stream}. Their folders do not matter.

    Raises ValueError if the archive is damaged or lacks one of the files.
    """
    contents = {}
    try:
        with tarfile.open(path, "r:gz") as tar:
            for member in tar:
                name = PurePosixPath(member.name).name
                if name in names and (file := tar.extractfile(member)):
                    check_memory(f"{path}: {name}", member.size)
                    contents[name] = file.read()
    except (tarfile.TarError, OSError, EOFError, zlib.error) as error:
        raise ValueError(f"{path} is damaged: {error}") from None
    if missing := [name for name in names if name not in contents]:
        raise ValueError(f"{path} is damaged: it lacks {', '.join(missing)}")
    return {name: Stream(f"{path}: {name}", io.BytesIO(content)) for name, content in contents.items()}
