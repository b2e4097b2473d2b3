"""The one Numba decorator, and the exponential and error function that kernels share.

A *kernel* is a plain serial loop over arrays. `@kernel` compiles it so that it

- releases the GIL, so that lanes (see `minivit/parallel/lanes.py`) run side by side;
- divides as IEEE arithmetic does (`error_model="numpy"`): Python's check for division by zero would
  stop LLVM from vectorising the loop, which costs a factor of about ten;
- may reorder sums, but must still see NaN and infinity: the fast-math set leaves out `nnan` and
  `ninf`, so that a diverging run is noticed;
- is stored on disk. Numba notices an edited kernel by the time stamp of *its own* file only, so the folder
  of the store bears the hash of this file: an edit of `exp` below reaches every kernel that calls it.

A kernel calls helpers of its own file and of this one, nothing else.

One source serves float32 and float64. Constants inside a kernel take the dtype of an array
(`x.dtype.type(0.5)`), because a bare Python literal is a float64 and would promote the whole loop.
`exp` and `erf` have one implementation per dtype: float64 calls the C library; float32 uses the
polynomials below, which LLVM can vectorise (a call into the C library stops it).
"""

import hashlib
import math
from functools import lru_cache
from pathlib import Path
from typing import Any

import numba
import numpy as np
import platformdirs
from numba import types
from numba.extending import overload

_FAST = {"nsz", "arcp", "contract", "afn", "reassoc"}
_EXACT_ORDER = _FAST - {"reassoc"}  # for helpers whose rounding errors cancel only in the written order
_STORE = platformdirs.user_cache_path("minivit") / f"kernels-{hashlib.sha256(Path(__file__).read_bytes()).hexdigest()[:12]}"


def kernel(function):
    """Compile `function`, a serial loop over arrays, as the module docstring says.

    Returns the compiled function (or `function` itself under `NUMBA_DISABLE_JIT=1`). It is compiled at
    its first call for each combination of dtypes, and stored on disk.
    """
    options: Any = {"nogil": True, "error_model": "numpy", "fastmath": _FAST}
    # Numba reads the folder while it decorates. Where it is read-only, Numba takes one of its own, or refuses.
    config: Any = numba.config
    previous = config.CACHE_DIR
    config.CACHE_DIR = str(Path(previous, _STORE.name) if previous else _STORE)
    try:
        return numba.njit(cache=True, **options)(function)
    except RuntimeError:                                              # nowhere to store: compile anew in each process
        return numba.njit(**options)(function)
    finally:
        config.CACHE_DIR = previous


def as_matrix(x):
    """View `x` (..., D) as a contiguous matrix (rows, D); it is copied only if it is not contiguous.

    Raises TypeError unless x is float32 or float64: a kernel would compute in integers.
    """
    if x.dtype.char not in "fd" or not x.dtype.isnative:
        raise TypeError(f"operations take float32 or float64, not {x.dtype}")
    if x.ndim != 2:
        x = x.reshape(math.prod(x.shape[:-1]), x.shape[-1])
    return np.ascontiguousarray(x)


@lru_cache(maxsize=8)
def ones(length, dtype):
    """A vector of ones. It is kept: a step sums as many rows many times, by a product, which is faster."""
    return np.ones(length, dtype)


# ---- exp -------------------------------------------------------------------------------------------

_f = np.float32
_LOG2_E = _f(1.4426950408889634)
_LN2_HIGH, _LN2_LOW = _f(0.693359375), _f(-2.12194440e-4)  # their sum is ln 2; n * _LN2_HIGH is exact
_EXP_LOW, _EXP_HIGH = _f(-87.33654), _f(88.3762589)  # outside: 0 and infinity
_HALF, _ONE, _ZERO, _INFINITY = _f(0.5), _f(1.0), _f(0.0), _f(np.inf)
_E0, _E1, _E2 = _f(1.9875691500e-4), _f(1.3981999507e-3), _f(8.3334519073e-3)
_E3, _E4, _E5 = _f(4.1665795894e-2), _f(1.6666665459e-1), _f(5.0000001201e-1)


def exp(x):
    """e**x for a scalar inside a kernel. float32: relative error below 1e-7; 0 below -87.34, infinity above 88.37.

    Range reduction: x = n ln 2 + r with |r| <= ln 2 / 2. Then e**r is a polynomial (Cephes `expf`), and
    2**n is made by writing n into the exponent bits of a float.
    """
    return np.exp(x)  # in plain Python, with the JIT off


def _exp_float32(x):
    # The clamp keeps the cast to int32 defined; NaN passes through `r` into the result.
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


def erf(z, exp_minus_z2):
    """Error function of a scalar inside a kernel; the caller lends exp(-z**2), which it needs anyway.

    float32: Abramowitz and Stegun 7.1.26, absolute error below 6e-7. float64: the C library.
    """
    return math.erf(z)  # in plain Python, with the JIT off


def _erf_float32(z, exp_minus_z2):
    t = _ONE / (_ONE + _P * abs(z))
    tail = t * (_A1 + t * (_A2 + t * (_A3 + t * (_A4 + t * _A5)))) * exp_minus_z2
    return math.copysign(_ONE - tail, z)


@overload(erf, jit_options={"error_model": "numpy", "fastmath": _EXACT_ORDER})
def _compile_erf(z, exp_minus_z2):
    if z == types.float32:
        return _erf_float32
    return lambda z, exp_minus_z2: math.erf(z)
