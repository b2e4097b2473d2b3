"""How loops are compiled; exp and erf for use in them; new arrays; loops over the rows of a matrix.

A *kernel* in this project is a plain serial loop over arrays that Numba compiles to machine code. (The weights of a
convolution are called *filters* here.) `@kernel` compiles a loop with these settings:

- It releases Python's global interpreter lock (GIL), so lanes (see `minivit/parallel/lanes.py`) run at the same time.
- It divides as IEEE arithmetic does (`error_model="numpy"`). Python's check for division by zero would stop the
  compiler LLVM from vectorising the loop, which makes it about ten times slower.
- It may reorder sums, but it keeps NaN and infinity: the set of fast-math flags leaves out `nnan` and `ninf`. So a
  training run that diverges is noticed.
- Its compiled code is stored in a folder on disk. Numba compiles a kernel again only if the kernel's own file changed.
  It does not see an edit of `exp` in this file. So the name of the folder contains the hash of this file and of
  `vectors.py`.

A kernel calls only helpers of its own file and of these two.

One source serves float32 and float64. Constants inside a kernel take the dtype of an array (`x.dtype.type(0.5)`). A
bare Python literal is a float64 and would promote the whole loop. `exp` and `erf` have one implementation per dtype:
float64 calls the C library; float32 uses the polynomials below, because LLVM cannot vectorise a call into the C
library.
"""

import functools
import hashlib
import math
import threading
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import Any

import numba
import numpy as np
import platformdirs
from numba import types
from numba.core import ccallback, dispatcher, event
from numba.core.caching import FunctionCache
from numba.extending import overload
from numpy.typing import DTypeLike

_FAST = {"nsz", "arcp", "contract", "afn", "reassoc"}
_EXACT_ORDER = _FAST - {"reassoc"}  # for helpers whose rounding errors cancel only in the written order
_HELPERS = (Path(__file__), Path(__file__).with_name("vectors.py"))
_HASH = hashlib.sha256(b"".join(path.read_bytes() for path in _HELPERS)).hexdigest()[:12]
_STORE = platformdirs.user_cache_path("minivit") / f"kernels-{_HASH}"


_STORING = threading.RLock()                              # held while Numba's setting is changed
_CACHE_USERS = (dispatcher, ccallback)                    # Numba's modules that make a cache for a function


class _Active(threading.local):
    """What is in force in this thread.

    Attributes
    ----------
    recorder : Recorder or None
        See `minivit/kernel_replay/`; None: kernels just run.
    shares_products : bool
        Whether BLAS should split each matrix product among its threads, because this thread works alone.
    """

    recorder: Any = None
    shares_products: bool = False


active = _Active()


class Kernel:
    """A compiled loop. A call runs it; while this thread records, the call is also written to the record."""

    def __init__(self, compiled: Any) -> None:
        self.compiled = compiled
        self._numba_type_ = compiled._numba_type_                     # Numba reads it where a kernel calls this one
        functools.update_wrapper(self, compiled.py_func)

    def __call__(self, *arguments: Any) -> Any:
        """Run the loop."""
        recorder = active.recorder
        return self.compiled(*arguments) if recorder is None else recorder.call(self.compiled, arguments)


def kernel(function: Callable) -> Any:
    """Compile a serial loop over arrays, with the settings of the module docstring.

    Parameters
    ----------
    function : callable
        The loop. It is compiled at its first call with each combination of dtypes, and stored on disk.

    Returns
    -------
    compiled : Kernel
        The compiled function, or `function` itself under `NUMBA_DISABLE_JIT=1`.
    """
    compiled = stored(numba.njit, function, nogil=True, error_model="numpy", fastmath=_FAST)
    return compiled if compiled is function else Kernel(compiled)


def stored(compile: Callable, function: Callable, **options: Any) -> Any:
    """Return compile(**options)(function) of Numba, which stores what it compiles on disk if a folder is writable."""
    # Numba reads the folder when it decorates. If it cannot write there, it uses its own folder or raises an error.
    config: Any = numba.config
    with _STORING:                                        # lanes may compile at the same time
        previous = config.CACHE_DIR
        config.CACHE_DIR = str(Path(previous, _STORE.name) if previous else _STORE)
        for module in _CACHE_USERS:
            module.FunctionCache = _ForgivingCache        # type: ignore[attr-defined]
        try:
            return compile(cache=True, **options)(function)
        except RuntimeError:                              # no folder is writable: each process compiles for itself
            return compile(**options)(function)
        finally:
            config.CACHE_DIR = previous
            for module in _CACHE_USERS:
                module.FunctionCache = FunctionCache      # type: ignore[attr-defined]


class _ForgivingCache(FunctionCache):
    """Numba's cache of one kernel, for which a file that is damaged or may not be read or written counts as absent."""

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """Return the compiled code, or None to compile anew."""
        try:
            return super().load_overload(sig, target_context)
        except Exception:                                 # unpickling raises anything
            with suppress(Exception):
                self.flush()                              # an empty index, so that new code can be stored
            return None

    def save_overload(self, sig: Any, data: Any) -> None:
        """Store compiled code if that is possible."""
        with suppress(Exception):
            super().save_overload(sig, data)


class _FirstCompilation(event.Listener):
    """Calls a function when the first kernel is compiled."""

    def __init__(self, announce: Callable[[], None]) -> None:
        self.announce: Callable[[], None] | None = announce

    def on_start(self, event: event.Event) -> None:
        announce, self.announce = self.announce, None
        if announce:
            announce()

    def on_end(self, event: event.Event) -> None:
        pass


def on_first_compilation(announce: Callable[[], None]) -> AbstractContextManager:
    """Return a context in which `announce` is called once, before the first kernel that is not on disk is compiled."""
    return event.install_listener("numba:compile", _FirstCompilation(announce))


def empty(shape: int | Sequence[int], dtype: DTypeLike) -> np.ndarray:
    """Return an array for results, as `np.empty` does; while this thread records, from the record's memory."""
    recorder = active.recorder
    return np.empty(shape, dtype) if recorder is None else recorder.empty(shape, dtype)


def zeros(shape: int | Sequence[int], dtype: DTypeLike) -> np.ndarray:
    """Return an array of zeros, see `empty`."""
    x = empty(shape, dtype)
    x[...] = 0
    return x


def constant(x: np.ndarray) -> np.ndarray:
    """Return x, marked as read-only: a table that never changes. A record keeps such arrays as they are."""
    x.flags.writeable = False
    return x


def as_matrix(x: np.ndarray) -> np.ndarray:
    """View `x` (..., D) as a contiguous matrix (rows, D). Copy only an array that is not contiguous.

    Parameters
    ----------
    x : array (..., D)

    Returns
    -------
    matrix : array (rows, D)

    Raises
    ------
    TypeError
        If x is not float32 or float64. A kernel would compute in integers.
    """
    if x.dtype.char not in "fd" or not x.dtype.isnative:
        raise TypeError(f"operations take float32 or float64, not {x.dtype}: convert with x.astype(np.float32)")
    if x.ndim != 2:
        x = x.reshape(math.prod(x.shape[:-1]), x.shape[-1])
    return contiguous(x)


def contiguous(x: np.ndarray) -> np.ndarray:
    """Return x, or a copy if it is not contiguous."""
    return x if x.flags.c_contiguous else x.copy(order="C")


# ---- loops over the rows of a matrix, faster than NumPy's -----------------------------------------------------------


def add_row(y: np.ndarray, row: np.ndarray) -> None:
    """Add `row` (D,) to every row of y (..., D), contiguous, in place. NumPy takes twice as long for short rows.

    Parameters
    ----------
    y : array (..., D)
    row : array (D,)
    """
    _add_row(as_matrix(y), row)


def sum_rows(x: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
    """Return the sum over all rows of x.

    Parameters
    ----------
    x : array (..., D)
    out : array (D,), contiguous, optional
        Receives the result.

    Returns
    -------
    total : array (D,)
    """
    matrix = as_matrix(x)
    total = empty(matrix.shape[1], matrix.dtype) if out is None else out
    _sum_rows(matrix[None], total[None])
    return total


def sum_images(x: np.ndarray) -> np.ndarray:
    """Return the sum over the images of x (B, N, D): an array (N, D)."""
    return sum_rows(x.reshape(len(x), -1)).reshape(x.shape[1:])


def mean_rows(x: np.ndarray) -> np.ndarray:
    """Return the mean over the rows of each matrix of x.

    Parameters
    ----------
    x : array (B, N, D)

    Returns
    -------
    mean : array (B, D)
    """
    mean = empty((x.shape[0], x.shape[2]), x.dtype)
    _sum_rows(contiguous(x), mean)
    mean *= x.dtype.type(1 / x.shape[1])
    return mean


def row_max(x: np.ndarray) -> np.ndarray:
    """Return the largest number of each row. A NaN counts as larger or smaller than all numbers, by its sign bit.

    The search runs over integers, because LLVM does not vectorise the maximum of floats that may be NaN. The bits of
    two positive floats, read as integers, have the order of the floats. For negative floats the order is reversed, so
    all their bits except the sign are inverted before the comparison, and inverted back after it.

    Parameters
    ----------
    x : array (..., D)

    Returns
    -------
    largest : array (rows,)
    """
    matrix = as_matrix(x)
    largest = empty(len(matrix), matrix.dtype)
    _row_max(matrix.view(f"i{matrix.itemsize}"), largest.view(f"i{matrix.itemsize}"))
    return largest


@kernel
def sum_of_squares(x):
    """Return the sum of the squares of a vector, added in float64."""
    total = 0.0
    for i in range(x.size):
        total += np.float64(x[i]) * np.float64(x[i])
    return total


@kernel
def _add_row(y, row):
    for n in range(y.shape[0]):
        for j in range(y.shape[1]):
            y[n, j] += row[j]


@kernel
def _sum_rows(matrices, totals):
    zero, last = matrices.dtype.type(0), matrices.shape[1] - matrices.shape[1] % 4
    for b in range(len(matrices)):
        x, total = matrices[b], totals[b]
        for j in range(total.size):
            total[j] = zero
        for n in range(0, last, 4):                                   # each number of `total` is loaded once for 4 rows
            for j in range(total.size):
                total[j] += (x[n, j] + x[n + 1, j]) + (x[n + 2, j] + x[n + 3, j])
        for n in range(last, len(x)):
            for j in range(total.size):
                total[j] += x[n, j]


@kernel
def _row_max(bits, largest):
    integer = bits.dtype.type
    to_sign, all_but_sign = integer(8 * bits.itemsize - 1), integer(np.iinfo(bits.dtype).max)
    for n in range(bits.shape[0]):
        found = integer(np.iinfo(bits.dtype).min)
        for j in range(bits.shape[1]):
            found = max(found, integer(bits[n, j] ^ ((bits[n, j] >> to_sign) & all_but_sign)))
        largest[n] = found ^ ((found >> to_sign) & all_but_sign)


# ---- exp -------------------------------------------------------------------------------------------

_f = np.float32
_LOG2_E = _f(1.4426950408889634)
_LN2_HIGH, _LN2_LOW = _f(0.693359375), _f(-2.12194440e-4)  # their sum is ln 2; n * _LN2_HIGH is exact
_EXP_LOW, _EXP_HIGH = _f(-87.33654), _f(88.3762589)  # outside: 0 and infinity
_HALF, _ONE, _ZERO, _INFINITY = _f(0.5), _f(1.0), _f(0.0), _f(np.inf)
_E0, _E1, _E2 = _f(1.9875691500e-4), _f(1.3981999507e-3), _f(8.3334519073e-3)
_E3, _E4, _E5 = _f(4.1665795894e-2), _f(1.6666665459e-1), _f(5.0000001201e-1)


def exp(x: float) -> float:
    """Return e**x of a scalar inside a kernel.

    float32: relative error below 2e-7; 0 below -87.34, infinity above 88.37. float64: the C library.

    Range reduction: x = n ln 2 + r with |r| <= ln 2 / 2. Then e**r is a polynomial (Cephes `expf`). The factor 2**n is
    made by writing n into the exponent bits of a float.
    """
    return np.exp(x)  # in plain Python, with compilation switched off


def _exp_float32(x):
    # The clamp keeps the cast to int32 defined. A NaN passes through `r` into the result.
    bounded = min(max(x, _EXP_LOW), _EXP_HIGH)
    n = np.floor(bounded * _LOG2_E + _HALF)
    r = (x - n * _LN2_HIGH) - n * _LN2_LOW
    p = _E0
    p = p * r + _E1
    p = p * r + _E2
    p = p * r + _E3
    p = p * r + _E4
    p = p * r + _E5
    p = p * (r * r) + r + _ONE
    power = np.int32((np.int32(n) + np.int32(127)) << np.int32(23)).view(np.float32)
    y = p * power
    y = _ZERO if x < _EXP_LOW else y
    return _INFINITY if x > _EXP_HIGH else y


@overload(exp, jit_options={"error_model": "numpy", "fastmath": _EXACT_ORDER})
def _compile_exp(x):
    if x == types.float32:
        return _exp_float32
    return lambda x: math.exp(x)


# ---- erf -------------------------------------------------------------------------------------------

_P = _f(0.3275911)
_A1, _A2, _A3 = _f(0.254829592), _f(-0.284496736), _f(1.421413741)
_A4, _A5 = _f(-1.453152027), _f(1.061405429)


def erf(z: float, exp_minus_z2: float) -> float:
    """Return the error function of a scalar inside a kernel. The caller passes exp(-z**2), which it needs anyway.

    float32: Abramowitz and Stegun 7.1.26, absolute error below 6e-7. float64: the C library.
    """
    return math.erf(z)  # in plain Python, with compilation switched off


def _erf_float32(z, exp_minus_z2):
    t = _ONE / (_ONE + _P * abs(z))
    tail = t * (_A1 + t * (_A2 + t * (_A3 + t * (_A4 + t * _A5)))) * exp_minus_z2
    return math.copysign(_ONE - tail, z)


@overload(erf, jit_options={"error_model": "numpy", "fastmath": _EXACT_ORDER})
def _compile_erf(z, exp_minus_z2):
    if z == types.float32:
        return _erf_float32
    return lambda z, exp_minus_z2: math.erf(z)
