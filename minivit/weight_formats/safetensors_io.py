"""Safetensors files: read through a memory map in any number format, written tensor by tensor. Nothing is unpickled.

A safetensors file is the length of a header (8 bytes), the header, which is JSON with {name: {dtype, shape,
data_offsets}}, and the numbers. The library checks the header: it lies within the file, shapes fit their bytes, and the
bytes neither overlap nor leave gaps. This module also checks that no name occurs twice and that the header is not
longer than a model needs. An array is a view of the file, mapped into memory. Its numbers are copied only when a model
that will be trained takes them.

NumPy has no bfloat16. Its 16 bits are the upper half of a float32, so a shift converts it exactly.
"""

import json
import os
import zipfile
from collections.abc import Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import safetensors

from ..common.files import atomic_file

_BFLOAT16 = "BF16"
_LONGEST_HEADER = 4 << 20  # bytes: about forty thousand tensors
_DTYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", _BFLOAT16: "<u2", "I64": "<i8", "I32": "<i4", "I16": "<i2",
           "I8": "i1",
           "U64": "<u8", "U32": "<u4", "U16": "<u2", "U8": "u1", "BOOL": "?"}
_FORMATS = {np.dtype(dtype): name for name, dtype in _DTYPES.items() if name != _BFLOAT16}


def write_tensors(path: str | os.PathLike, tensors: Mapping[str, np.ndarray], metadata: Mapping[str, str]) -> None:
    """Write {name: array} and metadata {name: text} completely or not at all. Equal tensors give equal bytes.

    The library's writer needs all tensors in memory at once, in file layout. This one writes them one after another and
    copies only the current one, if at all. Raises OSError; ValueError for number formats that safetensors lacks.
    """
    if unknown := [f"{name}, of {array.dtype}" for name, array in tensors.items() if _in_file(array) not in _FORMATS]:
        raise ValueError(f"a safetensors file cannot hold {', '.join(unknown)}")
    # larger numbers first: so each is aligned
    tensors = dict(sorted(tensors.items(), key=lambda item: (-item[1].itemsize, item[0])))
    header: dict[str, Any] = {"__metadata__": metadata}
    end = 0
    for name, array in tensors.items():
        start, end = end, end + array.nbytes
        header[name] = {"dtype": _FORMATS[_in_file(array)], "shape": array.shape, "data_offsets": (start, end)}
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    with atomic_file(path) as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for array in tensors.values():
            file.write(np.ascontiguousarray(array, _in_file(array)))


def _in_file(array):
    """Return the dtype of an array in a file: little-endian."""
    return array.dtype.newbyteorder("<")


def read_tensors(path: str | os.PathLike) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Read all tensors of a safetensors file -> ({name: array}, metadata). The arrays are read-only.

    Raises FileNotFoundError; ValueError if the file is damaged or has an unknown number format.
    """
    metadata = read_metadata(path)                                    # also checks the header
    with _readable(path):
        entries, content = _entries(path)
        return {name: _array(content, **entry) for name, entry in entries.items()}, metadata


def formats(path: str | os.PathLike) -> list[str]:
    """Return the number format of each tensor, such as "F32" or "BF16". Errors as `read_tensors`."""
    read_metadata(path)
    with _readable(path):
        return [entry["dtype"] for entry in _entries(path)[0].values()]


def _entries(path):
    """Return the header {name: {dtype, shape, data_offsets}} and the bytes after it, mapped into memory."""
    content = np.memmap(path, np.uint8, "r").view(np.ndarray)
    start = 8 + int.from_bytes(content[:8].tobytes(), "little")
    header = json.loads(content[8:start].tobytes(), object_pairs_hook=_each_once)
    header.pop("__metadata__", None)
    return header, content[start:]


def _each_once(pairs):
    """Make a dict of pairs. Raises ValueError if a name occurs twice."""
    entries: dict = {}
    for name, value in pairs:
        if name in entries:
            raise ValueError(f"the name {ascii(name)[:80]} stands twice in its header")
        entries[name] = value
    return entries


@contextmanager
def _readable(path):
    """Turn the library's errors into one ValueError that names the file."""
    try:
        yield
    except (ValueError, TypeError, KeyError, OSError) as error:
        raise ValueError(f"{path} is not a readable safetensors file: {type(error).__name__} {error}") from None


def _array(content, dtype, shape, data_offsets):
    """Return one tensor as a view of the mapped bytes; bfloat16 as a float32 copy."""
    if dtype not in _DTYPES:
        raise ValueError(f"its numbers are {dtype}, which are not read (known: {', '.join(_DTYPES)})")
    array = content[slice(*data_offsets)].view(_DTYPES[dtype]).reshape(shape)
    return (array.astype(np.uint32) << 16).view(np.float32) if dtype == _BFLOAT16 else array


def read_metadata(path: str | os.PathLike) -> dict[str, str]:
    """Read the metadata of a safetensors file, {name: text}. Errors as `read_tensors`."""
    with _opened(path) as file:
        return file.metadata() or {}


@contextmanager
def _opened(path):
    """Open a safetensors file with the library, which checks its header."""
    if not Path(path).is_file():
        raise FileNotFoundError(f"{path}: no such file")
    with open(path, "rb") as file:
        length = int.from_bytes(file.read(8), "little")
    if _LONGEST_HEADER < length <= Path(path).stat().st_size:
        raise ValueError(f"{path} is not a readable safetensors file of a model: its header is {length:,} bytes long")
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            yield file
    except (safetensors.SafetensorError, OSError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} is not a readable safetensors file "
                         f"({_what_else(path) or 'truncated, or of another format'}): {error}") from None


def _what_else(path):
    """Return what a file is that is not a safetensors file, if that can be told."""
    with open(path, "rb") as file:
        pickled = file.read(1) == b"\x80"
    if pickled or (zipfile.is_zipfile(path) and any(name.endswith("data.pkl") for name in _names(path))):
        return ("but a pickle of PyTorch, which could run any code and is never loaded: save the weights as "
                "safetensors")
    return None


def _names(path):
    """Return the names in a zip file."""
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.namelist()
    except (zipfile.BadZipFile, OSError, ValueError):
        return []
