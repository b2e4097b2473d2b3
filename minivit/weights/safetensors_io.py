"""Tensors in files: read where they lie, whatever number format they have, and never unpickled;

written one after another.

A safetensors file is the length of a header (8 bytes), the header, which is JSON with {name: {dtype, shape,
data_offsets}}, and the numbers. The library checks the header: that it lies within the file, that shapes fit the bytes
they claim, and that these neither overlap nor leave holes. Here is checked besides that no name stands twice, and that
the header is no longer than a model's may be. An array is then a view of the file, mapped into memory: its numbers are
copied when a model that is to be trained takes them, and not before, so none is ever held twice.

NumPy does not know bfloat16. Its 16 bits are the upper half of a float32's, so it is widened by shifting them there,
which is exact.
"""

import json
import zipfile
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import safetensors

from ..common.files import atomic_file

_BFLOAT16 = "BF16"
_LONGEST_HEADER = 4 << 20  # bytes, of some forty thousand tensors; it is parsed as a whole
_DTYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", _BFLOAT16: "<u2", "I64": "<i8", "I32": "<i4", "I16": "<i2",
           "I8": "i1",
           "U64": "<u8", "U32": "<u4", "U16": "<u2", "U8": "u1", "BOOL": "?"}
_FORMATS = {np.dtype(dtype): name for name, dtype in _DTYPES.items() if name != _BFLOAT16}


def write_tensors(path, tensors, metadata):
    """Write {name: array} and metadata {name: text} to a safetensors file, all or nothing;

    equal tensors give equal bytes.

    The library takes all tensors at once, each as it is to lie in the file. Here they are written one after another,
    and only the one in hand is copied, if it lies otherwise in memory, transposed for instance. Raises OSError, or
    ValueError for numbers that the format does not know.
    """
    if unknown := [f"{name}, of {array.dtype}" for name, array in tensors.items() if _in_file(array) not in _FORMATS]:
        raise ValueError(f"a safetensors file cannot hold {', '.join(unknown)}")
    # larger numbers first: so each is aligned
    tensors = dict(sorted(tensors.items(), key=lambda item: (-item[1].itemsize, item[0])))
    header, end = {"__metadata__": metadata}, 0
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
    """The dtype of an array's numbers in a file, where the low byte comes first."""
    return array.dtype.newbyteorder("<")


def read_tensors(path):
    """All tensors of a safetensors file, {name: array}, and its metadata. The arrays are not to be written to.

    Raises FileNotFoundError, or ValueError if the file is damaged or holds numbers of another format.
    """
    metadata = read_metadata(path)                                    # checks the header, too
    with _readable(path):
        entries, content = _entries(path)
        return {name: _array(content, **entry) for name, entry in entries.items()}, metadata


def formats(path):
    """The number format of each tensor of a safetensors file, such as "F32" or "BF16": a list.

    Errors as `read_tensors`.
    """
    read_metadata(path)
    with _readable(path):
        return [entry["dtype"] for entry in _entries(path)[0].values()]


def _entries(path):
    """What the header says of each tensor, {name:

    {dtype, shape, data_offsets}}, and the bytes behind it, mapped into memory.
    """
    content = np.memmap(path, np.uint8, "r").view(np.ndarray)
    start = 8 + int.from_bytes(content[:8].tobytes(), "little")
    header = json.loads(content[8:start].tobytes(), object_pairs_hook=_each_once)
    header.pop("__metadata__", None)
    return header, content[start:]


def _each_once(pairs):
    entries: dict = {}
    for name, value in pairs:
        if name in entries:
            raise ValueError(f"the name {ascii(name)[:80]} stands twice in its header")
        entries[name] = value
    return entries


@contextmanager
def _readable(path):
    try:
        yield
    except (ValueError, TypeError, KeyError, OSError) as error:
        raise ValueError(f"{path} is no readable safetensors file: {type(error).__name__} {error}") from None


def _array(content, dtype, shape, data_offsets):
    if dtype not in _DTYPES:
        raise ValueError(f"its numbers are {dtype}, which are not read (known: {', '.join(_DTYPES)})")
    array = content[slice(*data_offsets)].view(_DTYPES[dtype]).reshape(shape)
    return (array.astype(np.uint32) << 16).view(np.float32) if dtype == _BFLOAT16 else array


def read_metadata(path):
    """The metadata of a safetensors file, {name: text}. Errors as `read_tensors`."""
    with _opened(path) as file:
        return file.metadata() or {}


@contextmanager
def _opened(path):
    if not Path(path).is_file():
        raise FileNotFoundError(f"{path}: no such file")
    with open(path, "rb") as file:
        length = int.from_bytes(file.read(8), "little")
    if _LONGEST_HEADER < length <= Path(path).stat().st_size:
        raise ValueError(f"{path} is no readable safetensors file of a model: its header is {length:,} bytes long")
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            yield file
    except (safetensors.SafetensorError, OSError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} is no readable safetensors file "
                         f"({_what_else(path) or 'truncated, or of another format'}): "
                         f"{error}") from None


def _what_else(path):
    """What a file is that is no safetensors file, where that can be told."""
    with open(path, "rb") as file:
        pickled = file.read(1) == b"\x80"
    if pickled or (zipfile.is_zipfile(path) and any(name.endswith("data.pkl") for name in _names(path))):
        return "but a pickle of PyTorch's, which could run any code and is never loaded: save the weights as safetensors"
    return None


def _names(path):
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.namelist()
    except (zipfile.BadZipFile, OSError, ValueError):
        return []
