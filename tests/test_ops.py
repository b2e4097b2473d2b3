"""The ops: the fast pair equals the reference pair, both are correct, and both keep the promises of `minivit.ops`.

Most tests run over the catalogue's table of operations and shapes: a new chapter needs one entry there, in
`minivit/gradcheck_catalogue/catalogue.py`, and a value in KNOWN. Their gradients are in `test_catalogue.py`.
"""

import math
import pkgutil
import re

import numba
import numpy as np
import pytest
from helpers import relative_difference
from numba import types

import minivit.kernel
import minivit.ops
from minivit.gradcheck_catalogue.catalogue import OPS as CASES
from minivit.gradcheck_catalogue.catalogue import PAIRS
from minivit.kernel import Kernel
from minivit.ops import (
    attention,
    attention_variants,
    convolution,
    cross_entropy,
    distillation,
    dropout,
    filling,
    gelu,
    group_norm,
    hiding,
    layer_norm,
    layer_scale,
    linear,
    max_pooling,
    merging,
    patches,
    picking,
    pixels,
    pooling,
    reconstruction,
    relative_bias,
    relu,
    rotary,
    sincos,
    softmax,
    tokens,
    weight_standardisation,
    windows,
    winograd,
)

TOLERANCE = {np.float32: 5e-6, np.float64: 1e-12}


def _strided(x):
    """Return x as every second element of a larger array, with NaN between them."""
    larger = np.full([2 * n for n in x.shape], np.nan, x.dtype)
    view = larger[(slice(None, None, 2),) * x.ndim]
    view[...] = x
    return view


LAYOUTS = {
    "contiguous": np.ascontiguousarray,
    "transposed": np.asfortranarray,
    "strided": _strided,
    "reversed": lambda x: np.flip(np.flip(x).copy()),
}


def pair_of(op, which):
    return tuple(getattr(op, function) for function in PAIRS[which])


def draw(case, dtype, layout="contiguous"):
    """Return random arguments by name, and a random dy of the shape of y, all in one dtype and layout."""
    rng = np.random.default_rng(len(case.shapes) + sum(map(sum, case.shapes.values())))

    def laid_out(x):
        return LAYOUTS[layout](x.astype(dtype)) if isinstance(x, np.ndarray) and x.ndim else x

    arguments = {name: laid_out(rng.standard_normal(shape)) for name, shape in case.shapes.items()}
    arguments |= {name: laid_out(value) for name, value in case.constants.items()}
    y, _ = case.op.reference_forward(**arguments)
    return arguments, laid_out(rng.standard_normal(y.shape)) if y.ndim else dtype(1.7)


def run(pair, arguments, dy):
    """Return [y, the gradients that are not None]."""
    forward, backward = pair
    y, cache = forward(**arguments)
    gradients = backward(dy, cache)
    return [y, *(g for g in (gradients if isinstance(gradients, tuple) else (gradients,)) if g is not None)]


def in_float64(arguments):
    return {name: x.astype(np.float64) if isinstance(x, np.ndarray) else x for name, x in arguments.items()}


over_cases = pytest.mark.parametrize("case", [pytest.param(case, id=name) for name, case in CASES.items()])
over_pairs = pytest.mark.parametrize("which", PAIRS)
over_dtypes = pytest.mark.parametrize("dtype", TOLERANCE, ids=lambda dtype: dtype.__name__)


# ---- what holds for every chapter --------------------------------------------------------------------------


def test_every_chapter_has_a_known_value():
    no_pair = {"philox", "pixels", "sincos", "interleaved_attention"}
    chapters = {module.name for module in pkgutil.iter_modules(minivit.ops.__path__)} - no_pair
    assert {op.__name__.rpartition(".")[2] for op,
            *_ in KNOWN.values()} == chapters, "give KNOWN a value worked out by hand"


@over_dtypes
@pytest.mark.parametrize("layout", LAYOUTS)
@over_cases
def test_fast_pair_equals_reference(case, layout, dtype):
    arguments, dy = draw(case, dtype, layout)
    expected = run(pair_of(case.op, "reference"), in_float64(arguments), dy.astype(np.float64))
    results = run(pair_of(case.op, "fast"), arguments, dy)
    assert len(results) == 1 + len(case.shapes)
    assert [x.shape for x in results[1:]] == list(case.shapes.values())
    for result, right in zip(results, expected, strict=True):
        assert relative_difference(result, right) <= TOLERANCE[dtype]


@over_dtypes
@over_pairs
@over_cases
def test_dtype_is_kept(case, which, dtype):
    arguments, dy = draw(case, dtype)
    assert {x.dtype for x in run(pair_of(case.op, which), arguments, dy)} == {np.dtype(dtype)}


@pytest.mark.parametrize("layout", ["contiguous", "strided"])
@over_pairs
@over_cases
def test_inputs_are_not_modified(case, which, layout):
    arguments, dy = draw(case, np.float32, layout)
    given = [x for x in (*arguments.values(), dy) if isinstance(x, np.ndarray)]
    before = [x.copy() for x in given]
    run(pair_of(case.op, which), arguments, dy)
    for x, was in zip(given, before, strict=True):
        np.testing.assert_array_equal(x, was)


@over_cases
def test_results_of_the_fast_pair_are_fresh(case):
    arguments, dy = draw(case, np.float32)
    given = [x for x in (*arguments.values(), dy) if isinstance(x, np.ndarray)]
    results = run(pair_of(case.op, "fast"), arguments, dy)
    shared = [(i, j) for i, result in enumerate(results) for j, x in enumerate(given) if np.shares_memory(result, x)]
    assert not shared, f"(result, argument) that share memory: {shared}"


@over_pairs
@over_cases
def test_backward_may_run_twice_on_one_cache(case, which):
    forward, backward = pair_of(case.op, which)
    arguments, dy = draw(case, np.float32)
    _, cache = forward(**arguments)
    first = run((lambda: (np.zeros(()), cache), backward), {}, dy)
    kept = [np.copy(x) for x in first]
    second = run((lambda: (np.zeros(()), cache), backward), {}, dy)
    for a, b in zip(kept, second, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("place", [0, -1], ids=["first", "last"])
@over_cases
def test_nan_and_infinity_appear_where_the_reference_has_them(case, place, value):
    arguments, dy = draw(case, np.float32)
    next(iter(arguments.values())).reshape(-1)[place] = value
    with np.errstate(all="ignore"):
        expected = run(pair_of(case.op, "reference"), arguments, dy)
        results = run(pair_of(case.op, "fast"), arguments, dy)
    for result, right in zip(results, expected, strict=True):
        np.testing.assert_array_equal(np.isnan(result), np.isnan(right))


KERNELS = {f"{case.op.__name__}.{name}": (case, value.compiled) for case in CASES.values()
           for name, value in vars(case.op).items()
           if isinstance(value, Kernel) and value.__module__ == case.op.__name__}

KERNELS |= {f"minivit.kernel.{name}": (CASES[case], getattr(minivit.kernel, name).compiled) for name, case in
            (("_add_row", "linear"), ("_sum_rows", "linear"), ("_row_max", "softmax"))
            if isinstance(getattr(minivit.kernel, name), Kernel)}

# These kernels are not called by forward and backward.
BESIDE = {"minivit.ops.dropout._mask": lambda: dropout.mask(np.ones(3, np.float32), 0.5),
          "minivit.ops.distillation._mark_largest": lambda: distillation.targets([np.ones((2, 3), np.float32)]),
          "minivit.ops.hiding._choose": lambda: hiding.choose(np.ones((2, 3), np.float32), 1)}
# These kernels only move and compare numbers.
MOVERS = {"minivit.ops.convolution._gather", "minivit.ops.max_pooling._forward", "minivit.ops.relative_bias._forward",
          "minivit.ops.relative_bias._forward_visible", "minivit.ops.relative_bias._note_visible",
          "minivit.ops.hiding._forward", "minivit.ops.picking._forward", "minivit.ops.picking._backward",
          "minivit.ops.filling._forward", "minivit.ops.windows._reorder", "minivit.kernel._row_max", *BESIDE}


@pytest.mark.parametrize(("case", "kernel"), KERNELS.values(), ids=KERNELS)
def test_float32_kernels_do_not_compute_in_float64(case, kernel):
    """An untyped literal in a kernel would promote its loop to float64, at half the speed."""
    run(pair_of(case.op, "fast"), *draw(case, np.float32))
    BESIDE.get(f"{kernel.py_func.__module__}.{kernel.py_func.__name__}", lambda: None)()
    arrays = [[x for x in signature if isinstance(x, types.Array) and x.dtype in types.real_domain]
              for signature in kernel.signatures]
    signatures = [signature for signature, arrays in zip(kernel.signatures, arrays, strict=True)
                  if all(x.dtype == types.float32 and x.layout == "C" for x in arrays)]
    assert signatures
    again = numba.njit(error_model="numpy")(kernel.py_func)  # code that comes from the store cannot be inspected
    again.compile(signatures[0])
    (code,) = again.inspect_llvm().values()
    arithmetic = re.findall(r"= f(?:add|sub|mul|div)\b.*", code)
    if f"{kernel.py_func.__module__}.{kernel.py_func.__name__}" in MOVERS:
        assert not arithmetic
    else:
        assert any("float" in line for line in arithmetic)
    assert not [line for line in arithmetic if "double" in line]


LN3 = math.log(3)
GELU_1 = 0.8413447460685429  # Phi(1)
# Two tokens (N = 2) of width D = 8, with h = 2 heads of width d = 4. Each row: q, k and v of one token, 8 numbers each.
# Head 0, token 0: q = (2 ln 3, 0, 0, 0), and the keys of the two tokens give the scores 0 and 2 ln 3. After division by
# sqrt d = 2 they are 0 and ln 3, so softmax gives 1/4 and 3/4. The values are (4, 0, 0, 0) and (0, 4, 0, 0), so
# y = (1, 3, 0, 0). Head 0, token 1: q = 0, so both scores are 0, and y is the mean of the values, (2, 2, 0, 0).
# Head 1, both tokens: q = 0, so y is again the mean of the values, (4, 4, 0, 0).
QKV = [[2 * LN3, 0, 0, 0, 0, 0, 0, 0] + [0] * 8 + [4, 0, 0, 0, 8, 0, 0, 0],
       [0] * 8 + [1, 0, 0, 0, 0, 0, 0, 0] + [0, 4, 0, 0, 0, 8, 0, 0]]
FOUR_BY_FOUR = [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11], [12, 13, 14, 15]]

KNOWN = {  # op, inputs, other arguments, y, computed by hand
    "linear": (linear, [[[1, 2]], [[1, 10, 100], [2, 20, 200]], [0.5, 0, -1]], {}, [[5.5, 50, 499]]),
    "gelu": (gelu, [[-1, 0, 1, 9]], {}, [GELU_1 - 1, 0, GELU_1, 9]),
    "linear without a bias": (linear, [[[1, 2]], [[1, 10, 100], [2, 20, 200]]], {}, [[5, 50, 500]]),
    "layer_norm": (layer_norm, [[[1, 3], [-4, 4]], [10, 100], [0, 7]], {"eps": 0.0}, [[-10, 107], [-10, 107]]),
    "layer_norm eps": (layer_norm, [[-1, 1], [1, 1], [0, 0]], {"eps": 3.0}, [-0.5, 0.5]),
    "softmax": (softmax, [[[0, LN3], [5, 5]]], {}, [[0.25, 0.75], [0.5, 0.5]]),
    "softmax scale": (softmax, [[0, LN3]], {"scale": 2.0}, [0.1, 0.9]),
    "attention": (attention, [[QKV]], {"heads": 2}, [[[1, 3, 0, 0, 4, 4, 0, 0], [2, 2, 0, 0, 4, 4, 0, 0]]]),
    "attention_variants bias": (attention_variants, [[[[0, 0, 4], [0, 0, 8]]]],
                                {"heads": 1, "bias": np.array([[[0, LN3], [LN3, 0]]])},
             [[[7], [5]]]),
    "attention_variants bias per window": (attention_variants, [3 * [[[0, 0, 4], [0, 0, 8]]]],
                                  {"heads": 1,
                                   "bias": np.array([[[[0, LN3], [LN3, 0]]], [[[0, 0], [0, 0]]],
                                                     [[[LN3, 0], [0, LN3]]]])},
                                  [[[7], [5]], [[6], [6]], [[5], [7]]]),
    "relative_bias": (relative_bias, [[[1, 10], [2, 20], [3, 30]]], {"rows": 1, "columns": 2},
                      [[[2, 1], [3, 2]], [[20, 10], [30, 20]]]),
    "relative_bias visible": (relative_bias, [[[1, 10], [2, 20], [3, 30], [4, 40], [5, 50]]],
                              {"rows": 1, "columns": 3, "hidden": np.array([[0, 1, 0], [1, 0, 0]]), "visible": 2},
                              [[[[3, 1], [5, 3]], [[30, 10], [50, 30]]], [[[3, 2], [4, 3]], [[30, 20], [40, 30]]]]),
    "relative_bias class token": (relative_bias, [[[1], [2], [3], [4], [5], [6]]],
                                  {"rows": 2, "columns": 1, "prefix": 1},
                                  [[[6, 4, 4], [5, 2, 1], [5, 3, 2]]]),
    # Row 1 turns the plane of numbers 0 and 2 by 1: (1, 0) becomes (cos 1, sin 1), and (0, 1) becomes (-sin 1, cos 1).
    "rotary": (rotary, [[2 * [[1, 0, 0, 0, 0, 0, 1, 0, 7, 8, 9, 10]]]], {"heads": 1, "rows": 2, "columns": 1},
               [[[1, 0, 0, 0, 0, 0, 1, 0, 7, 8, 9, 10],
                 [math.cos(1), 0, math.sin(1), 0, -math.sin(1), 0, math.cos(1), 0, 7, 8, 9, 10]]]),
    # Column 1 turns planes 2 and 3, numbers 2 and 6, 3 and 7, by 1 and 1/10. Token 0 has no place.
    "rotary columns": (rotary, [[3 * [[0, 0, 1, 0, 0, 0, 0, 1] + 16 * [0]]]], {"heads": 1, "rows": 1, "columns": 2},
                       [2 * [[0, 0, 1, 0, 0, 0, 0, 1] + 16 * [0]] +
                        [[0, 0, math.cos(1), -math.sin(0.1), 0, 0, math.sin(1), math.cos(0.1)] + 16 * [0]]]),
    "layer_scale": (layer_scale, [[[1, 2], [3, -4]], [10, 0.5]], {}, [[10, 1], [30, -2]]),
    "convolution": (convolution, [[[[[1], [2], [3]], [[4], [5], [6]]]], [[[[1]], [[10]]], [[[100]], [[1000]]]], [0.5]],
                    {},
                    [[[[5421.5], [6532.5]]]]),
    "convolution padded": (convolution, [[[[[1], [2], [3]]]], np.ones((3, 3, 1, 2)), [0, 7]],
                           {"stride": 2, "padding": 1},
                           [[[[3, 10], [5, 12]]]]),
    "winograd": (winograd, [[[[[1], [2], [3], [4]]]], [3 * [[[0]]], [[[100]], [[10]], [[1]]], 3 * [[[0]]]], [0.5]],
                 {"padding": 1},
                 [[[[12.5], [123.5], [234.5], [340.5]]]]),
    "winograd channels": (winograd, [np.ones((1, 3, 3, 2)), np.ones((3, 3, 2, 1))], {}, [[[[18]]]]),
    "weight_standardisation": (weight_standardisation, [[[[[1, -4], [3, 4]]]]], {"eps": 0.0}, [[[[-1, -1], [1, 1]]]]),
    "weight_standardisation eps": (weight_standardisation, [[[[[-1], [1]]]]], {"eps": 3.0}, [[[[-0.5], [0.5]]]]),
    "group_norm": (group_norm, [[[[[1, -40], [3, 40]]]], [10, 100], [0, 7]], {"groups": 2, "eps": 0.0},
                   [[[[-10, -93], [10, 107]]]]),
    "group_norm one group": (group_norm, [[[[[1, 3], [3, 1]]]], [1, 10], [0, 0]], {"groups": 1, "eps": 3.0},
              [[[[-0.5, 5], [0.5, -5]]]]),
    "group_norm relu": (group_norm, [[[[[1, -40], [3, 40]]]], [10, 100], [0, 7]],
                        {"groups": 2, "eps": 0.0, "relu": True},
                        [[[[0, 0], [10, 107]]]]),
    "relu": (relu, [[-1, 0, 2]], {}, [0, 0, 2]),
    "max_pooling": (max_pooling, [[[[[1], [2], [7]], [[4], [5], [-6]]]]], {"size": 2}, [[[[5], [7]]]]),
    "max_pooling padded": (max_pooling, [[[[[-1, 5], [-2, 6], [-3, 7]]]]], {"size": 3, "stride": 2, "padding": 1},
               [[[[0, 6], [0, 7]]]]),
    "cross_entropy": (cross_entropy, [[[0, LN3], [0, LN3]], [[0, 1], [1, 0]]], {}, (math.log(4 / 3) + math.log(4)) / 2),
    "cross_entropy lane": (cross_entropy, [[[0, LN3]], [[0, 1]]], {"batch_size": 5}, math.log(4 / 3) / 5),
    "distillation": (distillation, [[[0, 2 * LN3], [0, 2 * LN3]], [[0.5, 0.5], [0.25, 0.75]]], {"temperature": 2.0},
                     4 * 0.5 * (math.log(2 / 1) + math.log(2 / 3)) / 2),
    "distillation hard": (distillation, [[[0, LN3]], [[1, 0]]], {"batch_size": 5}, math.log(4) / 5),
    "hiding": (hiding, [np.reshape(FOUR_BY_FOUR, (1, 4, 4, 1)), [[1, 0, 0, 1]]], {"size": 2},
               np.reshape([[0, 0, 2, 3], [0, 0, 6, 7], [8, 9, 0, 0], [12, 13, 0, 0]], (1, 4, 4, 1))),
    "hiding oblong": (hiding, [np.arange(1, 13).reshape(2, 1, 6, 1), [[0, 1], [1, 0]]], {"size": (1, 3)},
                      np.reshape([1, 2, 3, 0, 0, 0, 0, 0, 0, 10, 11, 12], (2, 1, 6, 1))),
    "picking": (picking, [[[[1, 2], [3, 4], [5, 6]], [[7, 8], [9, 10], [11, 12]]], [[1, 0, 1], [0, 1, 1]]],
                {"visible": 1}, [[[3, 4]], [[7, 8]]]),
    "picking class token": (picking, [[[[1, 2], [3, 4], [5, 6], [7, 8]]], [[0, 1, 0]]], {"visible": 2},
                            [[[1, 2], [3, 4], [7, 8]]]),
    "filling": (filling, [[[[1, 2]], [[3, 4]]], [9, 8], [[1, 0, 1], [0, 1, 1]]], {"visible": 1},
                [[[9, 8], [1, 2], [9, 8]], [[3, 4], [9, 8], [9, 8]]]),
    "filling class token": (filling, [[[[1, 2], [3, 4], [5, 6]]], [9, 8], [[0, 1, 0]]], {"visible": 2},
                            [[[1, 2], [3, 4], [9, 8], [5, 6]]]),
    # The second patch is hidden. Its pixels 1 and 3 have mean 2 and variance 1, so the target is (-1, 1) up to EPS.
    "reconstruction": (reconstruction, [[[[7, 7], [0, 0]]], [[[5, 6], [1, 3]]], [[0, 1]]], {}, 1 / (1 + 1e-6)),
    "reconstruction plain": (reconstruction, [[[[7, 7], [2, 5]], [[0, 0], [9, 9]]],
                                              [[[5, 6], [1, 3]], [[3, 5], [0, 0]]], [[0, 1], [1, 0]]],
                             {"normalise": False, "batch_size": 4}, ((1 + 4) / 2 + (9 + 25) / 2) / 4),
    "windows": (windows, [np.reshape(FOUR_BY_FOUR, (1, 4, 4, 1))], {"window": 2},
                np.reshape([[0, 1, 4, 5], [2, 3, 6, 7], [8, 9, 12, 13], [10, 11, 14, 15]], (4, 4, 1))),
    "windows shifted": (windows, [np.reshape(FOUR_BY_FOUR, (1, 4, 4, 1))], {"window": 2, "shift": 1},
                        np.reshape([[5, 6, 9, 10], [7, 4, 11, 8], [13, 14, 1, 2], [15, 12, 3, 0]], (4, 4, 1))),
    "windows oblong": (windows, [np.reshape(FOUR_BY_FOUR, (1, 4, 4, 1))], {"window": (1, 4), "shift": (0, 1)},
                       np.reshape([[1, 2, 3, 0], [5, 6, 7, 4], [9, 10, 11, 8], [13, 14, 15, 12]], (4, 4, 1))),
    "windows padded": (windows, [np.arange(1, 7).reshape(1, 2, 3, 1)], {"window": 2},
                       np.reshape([[1, 2, 4, 5], [3, 0, 6, 0]], (2, 4, 1))),
    "windows shifted, then padded": (windows, [np.arange(1, 7).reshape(1, 2, 3, 1)], {"window": 2, "shift": (0, 1)},
                                     np.reshape([[2, 3, 5, 6], [1, 0, 4, 0]], (2, 4, 1))),
    "merging odd": (merging, [np.arange(1, 4).reshape(1, 1, 3, 1)], {}, [[[[1, 0, 2, 0], [3, 0, 0, 0]]]]),
    "merging": (merging, [np.reshape(FOUR_BY_FOUR, (1, 4, 4, 1))], {},
                [[[[0, 4, 1, 5], [2, 6, 3, 7]], [[8, 12, 9, 13], [10, 14, 11, 15]]]]),
    "patches": (patches, [np.reshape(FOUR_BY_FOUR, (1, 4, 4, 1))], {"size": 2},
                [[[0, 1, 4, 5], [2, 3, 6, 7], [8, 9, 12, 13], [10, 11, 14, 15]]]),
    "patches oblong": (patches, [np.reshape(FOUR_BY_FOUR, (1, 4, 4, 1))], {"size": (4, 1)},
                       [[[0, 4, 8, 12], [1, 5, 9, 13], [2, 6, 10, 14], [3, 7, 11, 15]]]),
    "patches channels": (patches, [np.arange(12).reshape(1, 2, 2, 3)], {"size": 2}, [[list(range(12))]]),
    "tokens": (tokens, [[[[1, 2]]], [5, 6], [[10, 20], [30, 40]]], {}, [[[15, 26], [31, 42]]]),
    "tokens two": (tokens, [[[[1, 2]]], [[5, 6], [7, 8]]], {}, [[[5, 6], [7, 8], [1, 2]]]),
    "pooling token": (pooling, [[[[1, 2], [3, 4]]]], {"pool": "token"}, [[1, 2]]),
    "pooling mean": (pooling, [[[[1, 2], [3, 4]]]], {"pool": "mean"}, [[2, 3]]),
    "dropout": (dropout, [[[1, 2], [3, 4]], [[0, 2], [2, 0]]], {}, [[0, 4], [6, 0]]),
    "drop-path": (dropout, [[[[1, 2]], [[3, 4]]], [[[0]], [[2]]]], {}, [[[0, 0]], [[6, 8]]]),
}


@over_pairs
@pytest.mark.parametrize(("op", "inputs", "constants", "y"), KNOWN.values(), ids=KNOWN)
def test_forward_gives_values_computed_by_hand(op, inputs, constants, y, which):
    result, _ = pair_of(op, which)[0](*(np.array(x, np.float64) for x in inputs), **constants)
    np.testing.assert_allclose(result, y, rtol=0, atol=1e-14)


def _ones(*shape):
    return np.ones(shape, np.float32)


ERRORS = {
    "linear width": (lambda: linear.forward(_ones(2, 3), _ones(4, 5), _ones(5)),
                     r"linear: x \(2, 3\) needs weight \(3, O\).*\(4, 5\)"),
    "linear bias": (lambda: linear.forward(_ones(2, 3), _ones(3, 5), _ones(4)), r"bias \(4,\)"),
    "layer_norm weight": (lambda: layer_norm.forward(_ones(2, 3), _ones(1), _ones(3)),
               r"layer norm: x \(2, 3\).*\(3,\), not \(1,\)"),
    "layer_norm bias": (lambda: layer_norm.forward(_ones(2, 3), _ones(3), _ones(4)), r"not \(3,\) and \(4,\)"),
    "attention heads": (lambda: attention.forward(_ones(2, 5, 12), 3), r"divisible by 3 heads, not \(2, 5, 12\)"),
    "attention axes": (lambda: attention.forward(_ones(5, 12), 2), r"qkv must be \(B, N, 3 D\).*\(5, 12\)"),
    "attention bias": (lambda: attention_variants.forward(_ones(2, 5, 12), 2, _ones(2, 5, 4)),
             r"a bias \(2, 5, 5\), not \(2, 5, 4\)"),
    "attention queries": (lambda: attention_variants.forward(_ones(2, 5, 12), 2, queries=slice(6)),
                r"a slice of the 5 tokens.*slice\(None, 6"),
    "attention number of queries": (lambda: attention_variants.forward(_ones(2, 5, 12), 2, queries=2),
                                    r"a slice of the 5 tokens.*not 2"),
    "attention no queries": (lambda: attention_variants.forward(_ones(2, 5, 12), 2, queries=slice(0)),
                r"of the 5 tokens, with at least one"),
    "attention bias of queries": (lambda: attention_variants.forward(_ones(2, 5, 12), 2, _ones(2, 5, 5), slice(1)),
                                  r"a bias \(2, 1, 5\), not \(2, 5, 5\)"),
    "attention windows": (lambda: attention_variants.forward(_ones(5, 4, 12), 2, _ones(3, 2, 4, 4)),
                r"number of windows that divides the batch of 5"),
    "rotary heads": (lambda: rotary.forward(_ones(1, 6, 18), 1, 2, 3), "a head of 6 numbers must be divisible by 4"),
    "rotary grid": (lambda: rotary.forward(_ones(1, 5, 12), 1, 2, 3), "a grid of 2x3 needs at least 6 tokens, not 5"),
    "rotary width": (lambda: rotary.forward(_ones(1, 6, 13), 1, 2, 3), "D divisible by 1 heads"),
    "layer_scale width": (lambda: layer_scale.forward(_ones(2, 3), _ones(2)), r"gamma must be \(3,\), not \(2,\)"),
    "relative_bias table": (lambda: relative_bias.forward(_ones(9, 2), 2, 2, True),
              r"2x2 with tokens before it needs a table \(12, h\)"),
    "relative_bias hidden": (lambda: relative_bias.forward(_ones(9, 2), 2, 2, 0, _ones(3, 5), 1),
                             r"2x2 needs hidden \(B, 4\), not \(3, 5\)"),
    "relative_bias visible": (lambda: relative_bias.forward(_ones(9, 2), 2, 2, 0, _ones(3, 4), 5),
                              r"1 to 4 visible tokens, not 5"),
    "hiding patches": (lambda: hiding.forward(_ones(2, 4, 6, 3), _ones(2, 5), 2), r"hidden \(2, 6\), not \(2, 5\)"),
    "hiding size": (lambda: hiding.forward(_ones(2, 4, 6, 3), _ones(2, 6), 4), r"of 4x4 patches need hidden"),
    "picking patches": (lambda: picking.forward(_ones(2, 4, 6), _ones(2, 5), 2), r"M up to 4, not \(2, 5\)"),
    "picking visible": (lambda: picking.forward(_ones(2, 4, 6), _ones(2, 4), 5), r"visible patches, not 5"),
    "filling token": (lambda: filling.forward(_ones(2, 2, 6), _ones(5), _ones(2, 4), 2),
                      r"mask token \(6,\) and hidden \(2, M\), not \(5,\)"),
    "filling visible": (lambda: filling.forward(_ones(2, 2, 6), _ones(6), _ones(2, 4), 3), r"3 visible tokens"),
    "reconstruction pixels": (lambda: reconstruction.forward(_ones(2, 3, 4), _ones(2, 3, 5), _ones(2, 3)),
                              r"prediction \(2, 3, 4\) and pixels \(2, 3, 5\)"),
    "reconstruction hidden": (lambda: reconstruction.forward(_ones(2, 3, 4), _ones(2, 3, 4), _ones(2, 4)),
                              r"hidden \(B, M\), not \(2, 4\)"),
    "convolution channels": (lambda: convolution.forward(_ones(2, 5, 5, 3), _ones(3, 3, 2, 4), _ones(4)),
                 r"x is \(2, 5, 5, 3\) and w"),
    "convolution size": (lambda: convolution.forward(_ones(2, 2, 5, 3), _ones(3, 3, 3, 4), _ones(4)),
                         r"3x3 does not fit .* 2x5"),
    "convolution bias": (lambda: convolution.forward(_ones(2, 5, 5, 3), _ones(3, 3, 3, 4), _ones(3)),
             r"needs a bias \(4,\), not \(3,\)"),
    "winograd stride": (lambda: winograd.forward(_ones(2, 5, 5, 3), _ones(3, 3, 3, 4), stride=2),
               r"3x3 and the stride 1, not 3x3 and 2"),
    "winograd filter": (lambda: winograd.forward(_ones(2, 5, 5, 3), _ones(1, 1, 3, 4)),
                        r"3x3 and the stride 1, not 1x1 and 1"),
    "winograd channels": (lambda: winograd.forward(_ones(2, 5, 5, 3), _ones(3, 3, 2, 4), _ones(4)),
                 r"x is \(2, 5, 5, 3\) and w"),
    "weight_standardisation axes": (lambda: weight_standardisation.forward(_ones(3, 4)),
                                    r"weight must be \(k, k, C, D\), not \(3, 4\)"),
    "group_norm weight": (lambda: group_norm.forward(_ones(1, 2, 2, 6), _ones(3), _ones(6), 2),
               r"weight and bias \(6,\), not \(3,\)"),
    "group_norm groups": (lambda: group_norm.forward(_ones(1, 2, 2, 6), _ones(6), _ones(6), 4),
               r"6 channels .* divided into 4 groups"),
    "max_pooling axes": (lambda: max_pooling.forward(_ones(2, 2, 3), 2), r"x must be \(B, H, W, C\), not \(2, 2, 3\)"),
    "max_pooling size": (lambda: max_pooling.forward(_ones(1, 2, 5, 3), 3),
             r"squares of 3x3 do not fit into images of 2x5 with padding 0"),
    "cross_entropy shapes": (lambda: cross_entropy.forward(_ones(2, 3), _ones(2, 4)),
                             r"logits \(2, 3\) and targets \(2, 4\)"),
    "cross_entropy axes": (lambda: cross_entropy.forward(_ones(3), _ones(3)), r"must both be \(B, K\)"),
    "label too large": (lambda: cross_entropy.targets(np.array([0, 5]), 5),
                        r"0\.\.4 for 5 classes, but they span 0\.\.5"),
    "label negative": (lambda: cross_entropy.targets(np.array([-1, 2]), 5), r"span -1\.\.2"),
    "smoothing 1": (lambda: cross_entropy.targets(np.array([0]), 5, 1.0), r"below 1, not 1\.0"),
    "smoothing negative": (lambda: cross_entropy.targets(np.array([0]), 5, -0.1), r"at least 0.*not -0\.1"),
    "distillation shapes": (lambda: distillation.forward(_ones(2, 3), _ones(2, 4)),
               r"logits \(2, 3\) and the teacher's targets \(2, 4\)"),
    "distillation temperature": (lambda: distillation.forward(_ones(2, 3), _ones(2, 3), 0.0), r"above 0, not 0\.0"),
    "windows axes": (lambda: windows.forward(_ones(5, 4, 1), 2), r"need x \(B, H, W, D\).*not \(5, 4, 1\)"),
    "windows shift": (lambda: windows.forward(_ones(1, 4, 4, 1), 2, 2), r"0\.\.1 rows.* a shift of 2x2"),
    "windows shift of columns": (lambda: windows.forward(_ones(1, 4, 4, 1), (3, 2), (2, 2)), r"0\.\.2 rows and 0\.\.1"),
    "merging axes": (lambda: merging.forward(_ones(4, 5, 1)), r"\(B, H, W, D\), not \(4, 5, 1\)"),
    "patches height": (lambda: patches.forward(_ones(1, 5, 4, 1), 2), r"2x2 .*divisible by 2 .*not \(1, 5, 4, 1\)"),
    "patches width": (lambda: patches.forward(_ones(1, 4, 5, 1), 2), r"not \(1, 4, 5, 1\)"),
    "patches axes": (lambda: patches.forward(_ones(4, 4, 1), 2), r"images \(B, H, W, C\).*\(4, 4, 1\)"),
    "tokens positions": (lambda: tokens.forward(_ones(2, 3, 5), _ones(5), _ones(3, 5)),
                         r"4 tokens of width 5 .*\(4, 5\), not \(3, 5\)"),
    "tokens without class": (lambda: tokens.forward(_ones(2, 3, 5), None, _ones(4, 5)), r"3 tokens of width 5"),
    "sincos width": (lambda: sincos.sincos_2d(2, 2, 6), r"divisible by 4, not 6"),
    "pooling": (lambda: pooling.forward(_ones(2, 3, 5), "max"), r"pool must be .*not 'max'"),
    "drop rate 1": (lambda: dropout.mask(_ones(3), 1.0), r"below 1, not 1\.0"),
    "drop rate negative": (lambda: dropout.mask(_ones(3), -0.5), r"at least 0.*not -0\.5"),
}


@pytest.mark.parametrize(("call", "message"), ERRORS.values(), ids=ERRORS)
def test_a_bad_argument_is_an_error_that_says_what_was_found(call, message):
    with pytest.raises(ValueError, match=message):
        call()


# ---- softmax, attention ------------------------------------------------------------------------------------


@over_dtypes
@pytest.mark.parametrize("scale", [1.0, 1 / math.sqrt(3)])
@pytest.mark.parametrize("size", [1e2, 1e8, 1e12, 1e30])
def test_softmax_of_huge_scores_is_finite(size, scale, dtype):
    x = (np.random.default_rng(0).standard_normal((20, 7)) * size).astype(dtype)
    y, cache = softmax.forward(x, scale)
    np.testing.assert_allclose(y.sum(axis=1), 1, rtol=1e-6)
    np.testing.assert_array_equal(y.argmax(axis=1), x.argmax(axis=1))
    assert np.isfinite(softmax.backward(np.ones_like(x), cache)).all()


def test_softmax_of_minus_infinity_is_zero():
    y, _ = softmax.forward(np.array([[1, -np.inf, 1], [-np.inf, -np.inf, -3]], np.float32))
    np.testing.assert_allclose(y, [[0.5, 0, 0.5], [0, 0, 1]], rtol=1e-6)


@over_pairs
def test_softmax_has_no_gradient_along_ones(which):
    forward, backward = pair_of(softmax, which)
    _, cache = forward(np.random.default_rng(0).standard_normal((5, 7)), 0.5)
    assert np.abs(backward(np.ones((5, 7)), cache)).max() < 1e-15


@pytest.mark.parametrize("layout", ["contiguous", "strided"])
def test_softmax_in_place_is_softmax(layout):
    rng = np.random.default_rng(0)
    x, dy = rng.standard_normal((2, 3, 5)), rng.standard_normal((2, 3, 5))
    y, cache = softmax.forward(x, 0.5)
    dx = softmax.backward(dy, cache)
    own_x, own_dy = LAYOUTS[layout](x.copy()), LAYOUTS[layout](dy.copy())
    in_place, cache = softmax.forward(own_x, 0.5, in_place=True)
    np.testing.assert_array_equal(in_place, y)
    dx_in_place = softmax.backward(own_dy, cache, in_place=True)
    np.testing.assert_array_equal(dx_in_place, dx)
    assert np.shares_memory(in_place, own_x) == (layout == "contiguous")
    assert np.shares_memory(dx_in_place, own_dy) == (layout == "contiguous")


@over_dtypes
@pytest.mark.parametrize("size", [1e3, 1e6, 1e15])
def test_attention_of_huge_scores_is_finite(size, dtype):
    qkv = (np.random.default_rng(0).standard_normal((2, 5, 18)) * size).astype(dtype)
    y, cache = attention.forward(qkv, 2)
    np.testing.assert_allclose(cache[1].sum(axis=-1), 1, rtol=1e-6)
    assert np.isfinite(y).all()
    assert np.isfinite(attention.backward(np.ones_like(y), cache)).all()


def test_attention_cache_holds_the_probabilities():
    qkv = np.random.default_rng(0).standard_normal((2, 5, 18))
    _, (_, probs, *_) = attention.forward(qkv, 3)
    _, (_, expected, *_) = attention.reference_forward(qkv, 3)
    assert probs.shape == (2, 3, 5, 5)
    assert relative_difference(probs, expected) < 1e-12


def test_attention_without_a_variant_is_attention_bit_for_bit():
    rng = np.random.default_rng(0)
    qkv, dy = rng.standard_normal((2, 5, 18), np.float32), rng.standard_normal((2, 5, 6), np.float32)
    (y, cache), (other_y, other_cache) = attention.forward(qkv, 3), attention_variants.forward(qkv, 3)
    np.testing.assert_array_equal(y, other_y)
    np.testing.assert_array_equal(attention.backward(dy, cache), attention_variants.backward(dy, other_cache))


def test_attention_follows_a_permutation_of_the_tokens():
    qkv, order = np.random.default_rng(0).standard_normal((2, 5, 18)), [3, 0, 4, 2, 1]
    assert relative_difference(attention.forward(qkv[:, order], 3)[0], attention.forward(qkv, 3)[0][:, order]) < 1e-12


# ---- gelu, layer norm --------------------------------------------------------------------------------------


@over_dtypes
def test_gelu_of_large_numbers_is_the_number_or_zero(dtype):
    x = np.array([1e30, 1e4, 50, -50, -1e4, -1e30], dtype)
    with np.errstate(all="ignore"):
        y, cache = gelu.forward(x)
    np.testing.assert_array_equal(y, np.maximum(x, 0))
    np.testing.assert_array_equal(gelu.backward(np.ones_like(x), cache), x > 0)


def test_layer_norm_is_accurate_with_a_large_mean():
    """The variance in one pass, mean(x**2) - mean(x)**2, would lose all digits here."""
    x = (1e4 + np.random.default_rng(0).standard_normal((5, 37))).astype(np.float32)
    one, zero = np.ones(37, np.float32), np.zeros(37, np.float32)
    expected, _ = layer_norm.reference_forward(x.astype(np.float64), one, zero)
    assert relative_difference(layer_norm.forward(x, one, zero)[0], expected) < 2e-3


@over_pairs
def test_layer_norm_gradient_has_no_part_along_shift_and_scaling(which):
    forward, backward = pair_of(layer_norm, which)
    rng = np.random.default_rng(0)
    x, dy, weight, bias = rng.standard_normal((5, 7)), rng.standard_normal((5, 7)), rng.standard_normal(
        7), rng.standard_normal(7)
    dx, _, _ = backward(dy, forward(x, weight, bias, eps=0.0)[1])
    assert np.abs(dx).max() > 0.1
    assert np.abs(dx.sum(axis=1)).max() < 1e-13
    assert np.abs((dx * (x - x.mean(axis=1, keepdims=True))).sum(axis=1)).max() < 1e-13


# ---- convolution and what goes with it ---------------------------------------------------------------------


def test_convolution_in_parts_equals_convolution_at_once(monkeypatch):
    case = CASES["convolution with stride and padding"]
    arguments, dy = draw(case, np.float64)
    whole = run(pair_of(convolution, "fast"), arguments, dy)
    monkeypatch.setattr(convolution, "MAX_ENTRIES", 1)                    # one image at a time
    monkeypatch.setattr(convolution, "WEIGHT_RATIO", 0)
    for part, right in zip(run(pair_of(convolution, "fast"), arguments, dy), whole, strict=True):
        assert relative_difference(part, right) < 1e-14


@pytest.mark.parametrize("name", [name for name in CASES if name.startswith("winograd")])
@over_dtypes
def test_winograd_equals_convolution(name, dtype):
    arguments, dy = draw(CASES[name], dtype)
    expected = run(pair_of(convolution, "reference"), arguments, dy)
    for result, right in zip(run(pair_of(winograd, "fast"), arguments, dy), expected, strict=True):
        assert relative_difference(result, right) < TOLERANCE[dtype]


def test_winograd_rejects_integers():
    with pytest.raises(TypeError, match="float32 or float64, not int"):       # the entries 1/2 of G would be 0
        winograd.forward(_ones(2, 5, 5, 3), np.ones((3, 3, 3, 4), int))


def test_winograd_in_parts_equals_winograd_at_once(monkeypatch):
    arguments, dy = draw(CASES["winograd of an odd image"], np.float64)
    whole = run(pair_of(winograd, "fast"), arguments, dy)
    monkeypatch.setattr(winograd, "MAX_ENTRIES", 1)                       # one image at a time
    for part, right in zip(run(pair_of(winograd, "fast"), arguments, dy), whole, strict=True):
        assert relative_difference(part, right) < 1e-14


@pytest.mark.parametrize(("op", "size"), [(convolution, 1), (convolution, 3), (winograd, 3)])
def test_a_convolution_of_no_images_has_zero_gradients(op, size):
    y, cache = op.forward(np.ones((0, 4, 5, 2)), np.ones((size, size, 2, 3)))
    dx, dweight = op.backward(y, cache)
    assert (dx.shape, y.shape[0]) == ((0, 4, 5, 2), 0)
    assert not dweight.any()


def test_a_standardised_filter_does_not_depend_on_shift_and_scale():
    rng = np.random.default_rng(0)
    weight, dwhat = rng.standard_normal((3, 3, 2, 5)), rng.standard_normal((3, 3, 2, 5))
    what, cache = weight_standardisation.forward(weight, eps=0.0)
    np.testing.assert_allclose(what.mean(axis=(0, 1, 2)), 0, atol=1e-14)
    np.testing.assert_allclose((what**2).mean(axis=(0, 1, 2)), 1, rtol=1e-13)
    np.testing.assert_allclose(weight_standardisation.forward(7 * weight + 3, eps=0.0)[0], what, atol=1e-13)
    dweight = weight_standardisation.backward(dwhat, cache)
    assert np.abs(dweight).max() > 0.1
    assert np.abs(dweight.sum(axis=(0, 1, 2))).max() < 1e-13
    assert np.abs((dweight * weight).sum(axis=(0, 1, 2))).max() < 1e-13


def test_weight_standardisation_may_write_over_its_dy():
    weight, dwhat = np.random.default_rng(0).standard_normal((2, 3, 3, 4, 5))
    _, cache = weight_standardisation.forward(weight)
    expected = weight_standardisation.backward(dwhat, cache)
    assert weight_standardisation.backward(dwhat, cache, out=dwhat) is dwhat
    np.testing.assert_array_equal(dwhat, expected)


def test_group_norm_includes_layer_norm_and_instance_norm():
    rng = np.random.default_rng(0)
    x, weight, bias = rng.standard_normal((3, 2, 5, 6)), np.ones(6), np.zeros(6)
    image, _ = layer_norm.forward(x.reshape(3, -1), np.ones(60), np.zeros(60), eps=1e-5)
    np.testing.assert_allclose(group_norm.forward(x, weight, bias, 1)[0], image.reshape(x.shape), atol=1e-13)
    instance = (x - x.mean(axis=(1, 2), keepdims=True)) / np.sqrt(x.var(axis=(1, 2), keepdims=True) + 1e-5)
    np.testing.assert_allclose(group_norm.forward(x, weight, bias, 6)[0], instance, atol=1e-13)


def test_group_norm_is_accurate_with_a_large_mean():
    x = (1e4 + np.random.default_rng(0).standard_normal((2, 5, 5, 6))).astype(np.float32)
    one, zero = np.ones(6, np.float32), np.zeros(6, np.float32)
    expected, _ = group_norm.reference_forward(x.astype(np.float64), one, zero, 2)
    assert relative_difference(group_norm.forward(x, one, zero, 2)[0], expected) < 2e-3


@over_pairs
def test_max_pooling_gives_the_gradient_to_the_first_of_equal_numbers(which):
    forward, backward = pair_of(max_pooling, which)
    y, cache = forward(np.full((1, 2, 3, 1), 5.0), 2)
    np.testing.assert_array_equal(backward(np.array([[[[1.0], [10.0]]]]), cache)[0, ..., 0], [[1, 10, 0], [0, 0, 0]])
    y, cache = forward(np.full((1, 2, 2, 1), -5.0), 3, padding=1)
    assert not y.any()
    assert not backward(np.ones_like(y), cache).any()                 # the zeros outside are the largest


# ---- cross-entropy -----------------------------------------------------------------------------------------


@over_dtypes
def test_targets_are_one_at_the_label(dtype):
    t = cross_entropy.targets([2, 0], 3, dtype=dtype)
    assert t.dtype == dtype
    np.testing.assert_array_equal(t, [[0, 0, 1], [1, 0, 0]])


def test_label_smoothing_spreads_a_part_over_all_classes():
    t = cross_entropy.targets(np.array([1, 3], np.uint8), 4, 0.2, np.float64)
    np.testing.assert_allclose(t, [[0.05, 0.85, 0.05, 0.05], [0.05, 0.05, 0.05, 0.85]], rtol=1e-14)


@pytest.mark.parametrize("labels", [np.array([0.0, 1.0]), np.array([[0], [1]]), np.array([True, False])],
                         ids=["float", "2-D", "bool"])
def test_labels_must_be_integers_in_one_axis(labels):
    with pytest.raises(TypeError, match=r"one-dimensional array of integers, not \w+ of shape \(2"):
        cross_entropy.targets(labels, 3)


@over_dtypes
def test_cross_entropy_of_a_wrong_certain_answer_is_large_and_finite(dtype):
    logits, t = np.array([[0, 1e4, -1e4]], dtype), np.array([[1, 0, 0]], dtype)
    loss, cache = cross_entropy.forward(logits, t)
    assert loss == 1e4
    np.testing.assert_array_equal(cross_entropy.backward(1.0, cache), [[-1, 1, 0]])


def test_cross_entropies_of_shards_sum_to_that_of_the_batch():
    rng = np.random.default_rng(0)
    logits, t = rng.standard_normal((7, 5)), cross_entropy.targets(rng.integers(0, 5, 7), 5, 0.1, np.float64)
    loss, cache = cross_entropy.forward(logits, t)
    lanes = [cross_entropy.forward(logits[part], t[part], 7) for part in (slice(0, 3), slice(3, 7))]
    assert sum(loss for loss, _ in lanes) == pytest.approx(loss, rel=1e-14)
    dlogits = np.concatenate([cross_entropy.backward(1.0, cache) for _, cache in lanes])
    assert relative_difference(dlogits, cross_entropy.backward(1.0, cache)) < 1e-14


# ---- patches, tokens, pooling ------------------------------------------------------------------------------


@pytest.mark.parametrize(("shape", "side"), [((3, 4, 6, 3), 2), ((2, 9, 3, 1), 3), ((1, 5, 7, 2), 1),
                                             ((2, 5, 5, 4), 5)])
def test_unpatchify_is_the_exact_inverse_of_patchify(shape, side):
    images = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    cut = patches.patchify(images, side)
    assert cut.shape == (shape[0], shape[1] * shape[2] // side**2, side**2 * shape[3])
    assert cut.dtype == np.uint8
    np.testing.assert_array_equal(patches.unpatchify(cut, side, shape), images)


@over_dtypes
def test_normalise_moves_and_scales_each_channel(dtype):
    images = np.random.default_rng(0).integers(0, 256, (2, 3, 5, 3), np.uint8)
    before, mean, std = images.copy(), [0.5, 0.4, 0.1], [0.2, 0.3, 0.9]
    x = pixels.normalise(images, mean, std, dtype)
    assert x.dtype == dtype
    assert relative_difference(x, (images / 255 - mean) / std) < {np.float32: 1e-6, np.float64: 1e-14}[dtype]
    np.testing.assert_array_equal(images, before)


def test_gradients_of_missing_tokens_are_none():
    x, dy = np.ones((2, 3, 5)), np.ones((2, 3, 5))
    for forward, backward in (pair_of(tokens, which) for which in PAIRS):
        assert backward(dy, forward(x)[1])[1:] == (None, None)
        assert backward(dy, forward(x, None, np.ones((3, 5)))[1])[1] is None
        assert backward(np.ones((2, 4, 5)), forward(x, np.ones(5))[1])[2] is None


def test_sincos_encodes_the_row_in_the_first_half_and_the_column_in_the_second():
    table = sincos.sincos_2d(3, 5, 8).reshape(3, 5, 8)
    assert table.dtype == np.float64
    assert (table[:, :, :4] == table[:, :1, :4]).all()
    assert (table[:, :, 4:] == table[:1, :, 4:]).all()
    angle = 2 * np.array([1, 1 / 100])
    np.testing.assert_allclose(table[2, 3, :4], [*np.sin(angle), *np.cos(angle)], rtol=1e-14)
    np.testing.assert_allclose(table[1, 2, 4:], [*np.sin(angle), *np.cos(angle)], rtol=1e-14)


def test_sincos_positions_differ_and_their_products_depend_only_on_the_offset():
    table = sincos.sincos_2d(3, 5, 16)
    products = (table @ table.T).reshape(3, 5, 3, 5)
    np.testing.assert_allclose(products[0, 0, 1, 2], products[1, 2, 2, 4], rtol=1e-14)
    np.testing.assert_allclose((table**2).sum(axis=1), 8, rtol=1e-14)
    assert len(np.unique(table.round(9), axis=0)) == 15


def test_sincos_class_token_is_zero_and_comes_first():
    table = sincos.sincos_2d(3, 5, 8, class_token=True)
    assert table.shape == (16, 8)
    assert not table[0].any()
    np.testing.assert_array_equal(table[1:], sincos.sincos_2d(3, 5, 8))


# ---- dropout -----------------------------------------------------------------------------------------------


@over_dtypes
@pytest.mark.parametrize("rate", [0.0, 0.1, 0.5, 0.9])
def test_mask_keeps_the_expectation(rate, dtype):
    uniform = ((np.arange(1000) + 0.5) / 1000).astype(dtype).reshape(10, 100)  # every multiple of 1/1000 once
    mask = dropout.mask(uniform, rate)
    assert mask.dtype == dtype
    assert mask.shape == uniform.shape
    assert (mask == 0).sum() == round(1000 * rate)
    assert np.unique(mask[mask > 0]) == dtype(1 / (1 - rate))
    assert mask.mean() == pytest.approx(1, rel=1e-6)


def test_mask_drops_the_small_numbers():
    """A number equal to the rate is kept, so that rate 0 drops nothing."""
    np.testing.assert_array_equal(dropout.mask(np.array([0.0, 0.4, 0.5, 0.9]), 0.5), [0, 0, 2, 2])
    np.testing.assert_array_equal(dropout.mask(np.array([0.0]), 0.0), [1])


# ---- windows, distillation ----------------------------------------------------------------------------------


def test_the_mask_separates_tokens_from_opposite_edges():
    mask = windows.mask((4, 4), (2, 2), (1, 1))
    assert mask.shape == (4, 4, 4)
    assert not mask[0].any()                                          # no token came in from another edge
    # the right column did
    np.testing.assert_array_equal(mask[1], -100 * (np.arange(4)[:, None] % 2 != np.arange(4) % 2))
    # the lower row did
    np.testing.assert_array_equal(mask[2], -100 * (np.arange(4)[:, None] // 2 != np.arange(4) // 2))
    np.testing.assert_array_equal(mask[3], -100 * (1 - np.eye(4)))    # four corners meet


@over_pairs
@pytest.mark.parametrize(("rows", "columns", "side", "shift"),
                         [(8, 8, 4, 2), (6, 9, 3, 1), (14, 14, 7, 3), (4, 4, 4, 0)])
def test_masked_windows_see_only_neighbours(rows, columns, side, shift, which):
    """Tokens that attend to each other are less than a window apart in the image."""
    y, x = np.indices((rows, columns))
    places, _ = pair_of(windows, which)[0](np.stack([y, x], axis=-1)[None].astype(np.float64), side, shift)
    apart = np.abs(places[:, :, None] - places[:, None]).max(axis=-1)
    mask = windows.mask((rows, columns), (side, side), (shift, shift)) if shift else np.zeros_like(apart)
    np.testing.assert_array_equal(mask == 0, apart < side)


@over_pairs
def test_backward_of_windows_is_the_inverse_of_forward(which):
    forward, backward = pair_of(windows, which)
    for shape, window, shift in [((2, 6, 9, 5), 3, 2), ((2, 5, 7, 3), (3, 4), (1, 2)), ((1, 1, 9, 2), (1, 4), (0, 3))]:
        x = np.random.default_rng(0).standard_normal(shape)
        np.testing.assert_array_equal(backward(*forward(x, window, shift)), x)


@over_pairs
def test_a_student_equal_to_its_teacher_has_no_loss(which):
    forward, backward = pair_of(distillation, which)
    teacher = np.random.default_rng(0).standard_normal((5, 7))
    for temperature in (0.5, 1.0, 4.0):
        loss, cache = forward(teacher + 3, distillation.targets([teacher], temperature), temperature)
        assert abs(loss) < 1e-14
        assert np.abs(backward(1.0, cache)).max() < 1e-15


@over_pairs
def test_hard_distillation_is_the_cross_entropy_with_the_teachers_class(which):
    rng = np.random.default_rng(0)
    logits, teacher = rng.standard_normal((5, 7)), rng.standard_normal((5, 7))
    labels = cross_entropy.targets(teacher.argmax(axis=1), 7, 0.0, np.float64)
    expected = run(pair_of(cross_entropy, which), {"logits": logits, "t": labels}, 1.0)
    for ours, theirs in zip(run(pair_of(distillation, which), {"logits": logits, "q": distillation.targets([teacher])},
                                1.0), expected,
                            strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-13)


def test_an_ensemble_has_the_mean_of_the_probabilities_of_its_teachers():
    teachers = [np.log([[0.5, 0.4, 0.1]]), np.log([[0.0001, 0.4, 0.5999]])]
    np.testing.assert_allclose(distillation.targets(teachers, 1.0), [[0.25005, 0.4, 0.34995]], rtol=1e-12)
    np.testing.assert_array_equal(distillation.targets(teachers), [[0, 1, 0]])     # which is no teacher's own class
    softened = np.mean([softmax.reference_forward(z / 3)[0] for z in teachers], axis=0)
    np.testing.assert_allclose(distillation.targets(teachers, 3.0), softened, rtol=1e-12)
    # the logits decide, as the probabilities of float32 are equal
    np.testing.assert_array_equal(distillation.targets([np.array([[-1e-8, 0]], np.float32)]), [[0, 1]])


def test_the_gradient_of_distillation_keeps_its_size_as_the_temperature_grows():
    rng = np.random.default_rng(0)
    logits, teacher, sizes = rng.standard_normal((5, 7)), rng.standard_normal((5, 7)), []
    for temperature in (1e3, 1e4):
        _, cache = distillation.forward(logits, distillation.targets([teacher], temperature), temperature)
        sizes.append(np.abs(distillation.backward(1.0, cache)).max())
    assert sizes[0] == pytest.approx(sizes[1], rel=1e-2)
    assert sizes[0] > 0.01


def test_group_norm_of_a_large_image_is_accurate():
    rng = np.random.default_rng(0)
    x, dy = (np.maximum(rng.standard_normal((1, 112, 112, 8)), 0)
             + 1).astype(np.float32), rng.standard_normal((1, 112, 112, 8), np.float32)
    weight, bias = np.ones(8, np.float32), np.zeros(8, np.float32)
    exact, cache = group_norm.reference_forward(x.astype(np.float64), weight.astype(np.float64),
                                                bias.astype(np.float64), 4)
    y, fast = group_norm.forward(x, weight, bias, 4)
    for value, expected in zip((y, *group_norm.backward(dy, fast)),
                               (exact, *group_norm.reference_backward(dy.astype(np.float64), cache)),
                               strict=True):
        assert np.abs(value - expected).max() <= 5e-6 * np.abs(expected).max()
