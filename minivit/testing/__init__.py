"""Gradient checks in your own tests, with pytest, unittest or hypothesis, and from the command line.

A test of your own layer, in plain pytest or unittest:

    from minivit.testing import assert_gradients

    def test_swish():
        assert_gradients(Swish(4), np.random.default_rng(0).standard_normal((3, 4)))

`assert minivit.gradcheck(...)` works too. If a gradient is wrong, the test fails, and its text has the table of the
check with the hint. pytest loads `pytest_plugin` by itself once minivit is installed. The plugin adds

- the fixture `gradcheck`, which is `assert_gradients`;
- the marker `@pytest.mark.gradcheck(seeds=5, checks="batch")`, which runs a test with that fixture once for each seed,
  with these named checks;
- the table of every wrong check in the failure's text, and the figure of error against step, saved as a file.

`assert_transposes` compares a linear function with its transpose, or forward with reverse mode, without step sizes.
`strategies` makes random shapes and inputs for hypothesis, which is an optional dependency (the extra `hypothesis`).
`files` checks a layer in a file without a test; `minivit gradcheck my_layers.py:Swish --input 3x4` calls it.

Nothing here needs more than NumPy, and matplotlib for a figure. The checker is imported when it is first used.

A function in C
---------------
The checker needs no source, only a forward and a backward. A function of a shared library is called through `ctypes`;
it fills an array that it is given. With `void swish(const double *x, double *y, int n)` and `void swish_backward(const
double *x, const double *dy, double *dx, int n)` in `libswish.so`, this checks its gradient:

    library = ctypes.CDLL("./libswish.so")

    def call(name, *arrays):
        pointers = (a.ctypes.data_as(ctypes.POINTER(ctypes.c_double)) for a in arrays)
        getattr(library, name)(*pointers, arrays[0].size)
        return arrays[-1]

    def forward(x):
        x = np.ascontiguousarray(x)
        return call("swish", x, np.empty_like(x)), x

    def backward(dy, x):
        return call("swish_backward", x, np.ascontiguousarray(dy), np.empty_like(x))

    assert_gradients((forward, backward), x)

A kernel often exists in float32 alone. Then `tolerance=None` takes the smallest tolerance that the measured noise of
the forward allows, and the report states it. cffi reads the types of the arguments from declarations, so a wrong type
is an error and not a crash. With `float` for `double` in `libswish.so`:

    ffi = cffi.FFI()
    ffi.cdef("void swish(const float *x, float *y, int n);"
             "void swish_backward(const float *x, const float *dy, float *dx, int n);")
    library = ffi.dlopen("./libswish.so")

    def call(function, *arrays):
        function(*(ffi.from_buffer("float[]", a) for a in arrays), arrays[0].size)
        return arrays[-1]

    def forward(x):
        x = np.ascontiguousarray(x, np.float32)
        return call(library.swish, x, np.empty_like(x)), x

    def backward(dy, x):
        return call(library.swish_backward, x, np.ascontiguousarray(dy, np.float32), np.empty_like(x))

    assert_gradients((forward, backward), x, tolerance=None)

`tests/test_testing.py` compiles and runs both examples.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .assertion import GradientError, assert_gradients, assert_transposes

__all__ = ["GradientError", "assert_gradients", "assert_transposes"]


if not TYPE_CHECKING:                                                 # so static tools report a misspelt name

    def __getattr__(name: str) -> Any:
        """Import a public name when it is first used: each run of pytest imports this package for the plugin."""
        if name not in __all__:
            raise AttributeError(f"module 'minivit.testing' has no attribute {name!r}; it has {', '.join(__all__)}")
        value = globals()[name] = getattr(importlib.import_module(".assertion", __name__), name)
        return value


def __dir__() -> list[str]:
    """List the public names, and the module's own attributes."""
    return sorted({*globals(), *__all__} - {"Any", "TYPE_CHECKING", "importlib"})
