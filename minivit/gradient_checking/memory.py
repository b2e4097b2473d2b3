"""Copies in float64 that keep which arrays share memory.

Code often holds one array in several places: a network keeps its weights in a dict and hands them to its parts; an
output layer uses the transpose of the embedding; all weights are slices of one long vector. A change of such an array
must be seen in all places, in the copy as in the original. `copy.deepcopy` keeps arrays that are the same object, but
it makes an array of its own of each view. `Copier` therefore copies memory and not arrays:

1. Find all arrays that the object holds, and the range of addresses of each.
2. Arrays whose ranges overlap form a group. A group gets one block of memory in float64 (complex128 for complex
   arrays), and each array becomes the view of it that it was before: the same offset, shape and strides, in elements.
3. `copy.deepcopy` copies the rest. Its memo tells it which array stands for which.
"""

import copy
import types
from collections.abc import Iterable
from typing import Any

import numpy as np

from .trees import is_floating


def checked_dtype(x: np.ndarray, single: bool = False) -> type:
    """Return the dtype in which an array is checked: complex128 or float64; in `single` precision, half of them."""
    if x.dtype.kind == "c":
        return np.complex64 if single else np.complex128
    return np.float32 if single else np.float64


def address_range(x: np.ndarray) -> tuple[int, int]:
    """Return the first address of an array, and the one after its last byte."""
    start = x.__array_interface__["data"][0]
    reach = [(n - 1) * stride for n, stride in zip(x.shape, x.strides, strict=True)]
    return start + sum(r for r in reach if r < 0), start + sum(r for r in reach if r > 0) + x.itemsize


def groups(arrays: Iterable[np.ndarray]) -> list[list[np.ndarray]]:
    """Return the arrays in groups that overlap in memory."""
    found: list[list[np.ndarray]] = []
    end = -1
    for x in sorted((x for x in arrays if x.size), key=lambda x: address_range(x)[0]):
        first, last = address_range(x)
        if found and first < end:
            found[-1].append(x)
        else:
            found.append([x])
        end = max(end, last) if found[-1][0] is not x else last
    return found


def cells(x: np.ndarray, start: int, in_order: bool = True) -> np.ndarray:
    """Return the numbers of the elements of memory, counted from an address, that an array consists of.

    in_order: whether to sort them; else they stand as the entries of the array do.
    """
    offset = (x.__array_interface__["data"][0] - start) // x.itemsize
    numbers = np.full(x.shape, offset, dtype=np.int64)
    for axis, (n, stride) in enumerate(zip(x.shape, x.strides, strict=True)):
        shape = [1] * x.ndim
        shape[axis] = n
        numbers += (np.arange(n) * (stride // x.itemsize)).reshape(shape)
    return np.sort(numbers.reshape(-1)) if in_order else numbers.reshape(-1)


def overlaps_itself(x: np.ndarray) -> bool:
    """Return whether two entries of an array are one element of memory, as after a broadcast."""
    numbers = cells(x, address_range(x)[0])
    return bool((np.diff(numbers) == 0).any())


def copied_with_layout(x: np.ndarray, dtype: Any) -> np.ndarray:
    """Return a copy in a dtype whose entries lie in memory as those of x: column by column, with gaps, or backwards.

    The copy is contiguous if entries of x share memory, as after a broadcast, or lie far apart.
    """
    first, last = address_range(x)
    if x.flags.c_contiguous or not x.size or any(stride % x.itemsize for stride in x.strides) or (
            last - first > 4 * x.nbytes or overlaps_itself(x)):
        return np.array(x, dtype, order="C")
    block = np.zeros((last - first) // x.itemsize, dtype)
    offset = (x.__array_interface__["data"][0] - first) // x.itemsize
    strides = tuple(stride // x.itemsize * block.itemsize for stride in x.strides)
    copy: np.ndarray = np.ndarray(x.shape, block.dtype, block, offset * block.itemsize, strides)
    copy[...] = x
    return copy


def _copied_group(group, single):
    """Return arrays of the checked dtype that share memory as the given ones do."""
    if len(group) == 1 or all(x.strides == group[0].strides and x.shape == group[0].shape
                              and address_range(x) == address_range(group[0]) for x in group):
        one: np.ndarray = np.array(group[0], dtype=checked_dtype(group[0], single), order="K")
        return [one.view() for _ in group] if len(group) > 1 else [one]
    size = group[0].itemsize
    if any(x.dtype != group[0].dtype or any(stride % size for stride in x.strides) for x in group):
        found = ", ".join(sorted({str(x.dtype) for x in group}))
        raise TypeError(f"arrays of different types share memory: found {found}, expected one dtype, store each in an "
                        "array of its own")
    start, end = min(address_range(x)[0] for x in group), max(address_range(x)[1] for x in group)
    block = np.zeros(-(-(end - start) // size), checked_dtype(group[0], single))
    copies = []
    for x in group:
        offset = (x.__array_interface__["data"][0] - start) // size
        strides = tuple(stride // size * block.itemsize for stride in x.strides)
        copies.append(np.ndarray(x.shape, block.dtype, block, offset * block.itemsize, strides))
        copies[-1][...] = x
    return copies


class Copier:
    """Makes copies of an object; all floating arrays in it become float64, and keep which memory they share.

    single: whether they become float32 instead.
    """

    def __init__(self, arrays: Iterable[np.ndarray], shared: Iterable[Any] = (), single: bool = False) -> None:
        self.single = single
        self.arrays = list({id(x): x for x in arrays if is_floating(x)}.values())
        self.shared = list(shared)                                    # what cannot be copied: a lock, a file

    def copy(self, target: Any) -> Any:
        """Return a deep copy of the target."""
        memo = {id(x): x for x in self.shared}
        for x in self.arrays:
            if not x.size:
                memo[id(x)] = x.astype(checked_dtype(x, self.single))
        for group in groups(self.arrays):
            for x, new in zip(group, _copied_group(group, self.single), strict=True):
                memo[id(x)] = new
        try:
            return copy.deepcopy(target, memo)
        except Exception as error:
            raise TypeError(f"{type(target).__name__} cannot be copied: found {error}, expected an object that "
                            "copy.deepcopy accepts, remove the part or define __deepcopy__") from error


def cannot_be_copied(x: Any) -> bool:
    """Return whether a leaf, such as a lock, an open file or a module, cannot be copied."""
    if x is None or isinstance(x, bool | int | float | complex | str | bytes | np.generic | np.ndarray | type |
                               types.FunctionType | types.BuiltinFunctionType):
        return False
    if isinstance(x, types.ModuleType | types.GeneratorType):
        return True
    try:
        copy.deepcopy(x)
    except Exception:
        return True
    return False
