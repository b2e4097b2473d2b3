"""Binary files of data sets, plain, gzipped or in a tar archive, read from front to end and no further than they should go."""

import gzip
import io
import tarfile
import zlib
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path, PurePosixPath

from ..common.files import check_memory

_PIECE = 2**24


class Stream:
    """An open file, of which `name` is known for messages and the SHA-256 of what was read so far for verification."""

    def __init__(self, name, file):
        self.name, self._file, self._hash = name, file, sha256()

    def read(self, most):
        """Up to `most` bytes, fewer only at the end of the file: in pieces, so that a false `most` takes no memory.

        Raises ValueError if the file is damaged.
        """
        pieces, left = [], most
        try:
            while left and (piece := self._file.read(min(left, _PIECE))):
                pieces.append(piece)
                left -= len(piece)
        except Exception as error:                    # OSError, EOFError, zlib.error, tarfile.TarError: whatever is broken
            raise ValueError(f"{self.name} is damaged: {error}") from None
        content = b"".join(pieces)
        self._hash.update(content)
        return content

    @property
    def sha256(self):
        return self._hash.hexdigest()


def find_binary(folder, name):
    """The file `name` in a folder, gzipped (name.gz) or not, or None."""
    return next((path for path in (Path(folder, name), Path(folder, f"{name}.gz")) if path.is_file()), None)


@contextmanager
def open_binary(path):
    """The file at `path` as a Stream, unzipped on the way if it begins as a gzip file does. Raises OSError if it cannot be opened."""
    with open(path, "rb") as file:
        zipped = file.read(2) == b"\x1f\x8b"
        file.seek(0)
        yield Stream(path, gzip.GzipFile(fileobj=file) if zipped else file)


def read_archive(path, names):
    """{name: Stream} of the files with these names, in whatever folder of a .tar.gz, read in one pass.

    Raises ValueError if the archive is damaged or lacks one of them.
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
