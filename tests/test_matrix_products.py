"""Matrix products: register tiles and BLAS against NumPy, for every way in which matrices can lie in memory."""

import itertools

import numpy as np
import pytest

from minivit import matrix_products
from minivit.matrix_products import blas, matmul, products_shared, register_tiles

needs_tiles = pytest.mark.skipif(not register_tiles.V, reason="this processor has no vectors that we know")
R, V, W, DEPTH = register_tiles.R or 6, register_tiles.V or 8, register_tiles.W or 16, register_tiles.DEPTH


def matrix(shape, transposed, dtype=np.float32):
    """Return random numbers of a shape, whose rows (or columns, if transposed) are contiguous."""
    lengths = shape[:-3:-1] if transposed else shape[-2:]
    numbers = np.random.default_rng(sum(shape)).standard_normal((*shape[:-2], *lengths)).astype(dtype)
    return numbers.swapaxes(-1, -2) if transposed else numbers


def error(product, a, b, bias=0.0):
    """Return the largest error of a product, in units of the rounding error of one sum."""
    a, b = a.astype(np.float64), b.astype(np.float64)
    scale = np.abs(a) @ np.abs(b) + np.abs(bias)
    return (np.abs(product - (a @ b + bias)) / scale).max() / np.finfo(product.dtype).eps


@pytest.fixture
def used(monkeypatch):
    """The names of the files whose kernels were called."""
    names = []
    call = matrix_products._call

    def noted(kernel, *arguments):
        names.append("tiles" if kernel is register_tiles.multiply else "blas")
        call(kernel, *arguments)

    monkeypatch.setattr(matrix_products, "_call", noted)
    return names


@needs_tiles
@pytest.mark.parametrize("M", [1, 2, 3, 5, 8, R - 1, R, R + 1, 2 * R + 13])
@pytest.mark.parametrize("K", [1, V - 1, V, V + 1, DEPTH - 1, DEPTH, DEPTH + 1, 2 * DEPTH + V + 3])
def test_tiles_multiply_any_lengths_and_orders(M, K):
    for N, (a_turned, b_turned), has_bias in itertools.product((1, V, V + 1, W - 1, W, W + 1, 3 * W),
                                                                itertools.product((False, True), repeat=2), (0, 1)):
        a, b, bias = matrix((M, K), a_turned), matrix((K, N), b_turned), matrix((1, N), False)[0]
        out = np.full((M, N + 1), 7, np.float32)
        scratch = np.full(register_tiles.SCRATCH, np.nan, np.float32)
        register_tiles.multiply(*(x.ctypes.data for x in (a, b, out, bias, scratch)), 1, 1, M, K, N, 0, 0,
                                *(step // 4 for step in a.strides), 0, 0, *(step // 4 for step in b.strides), 0, 0,
                                N + 1, has_bias)
        assert error(out[:, :N], a, b, bias * has_bias) < K**0.5 + 2
        assert (out[:, N] == 7).all()                                 # nothing is written after a row


@needs_tiles
def test_a_row_does_not_depend_on_the_other_rows(used):
    a, b = matrix((3 * R + 5, DEPTH + 9), False), matrix((DEPTH + 9, 2 * W), False)
    whole = matmul(a, b)
    for row in range(len(a)):
        np.testing.assert_array_equal(matmul(a[row:row + 1], b)[0], whole[row])
    assert set(used) == {"tiles"}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("N", [10, W, 2 * W])
@pytest.mark.parametrize("lead", [(), (3,), (2, 3)])
def test_matmul_is_numpys(dtype, N, lead):
    for turned in itertools.product((False, True), repeat=2):
        a, b = matrix((*lead, 7, 20), turned[0], dtype), matrix((*lead, 20, N), turned[1], dtype)
        bias = matrix((1, N), False, dtype)[0]
        assert error(matmul(a, b), a, b) < 8
        assert error(matmul(a, b, bias=bias), a, b, bias) < 8
        out = np.empty((*lead, 7, 2 * N), dtype)[..., :N]             # part of a wider array
        assert matmul(a, b, out=out) is out
        assert error(out, a, b) < 8
        assert error(matmul(a, b, out=out, bias=bias), a, b, bias) < 8


def test_slices_of_heads_are_multiplied_where_they_lie():
    qkv = matrix((2, 50, 3 * 2 * W), False).reshape(2, 50, 3, 2, W).transpose(2, 0, 3, 1, 4)
    q, k, v = qkv
    y = np.empty((2, 50, 2, W), np.float32)
    assert error(matmul(q, k.swapaxes(-1, -2)), q, k.swapaxes(-1, -2)) < 8
    probs = matmul(q, k.swapaxes(-1, -2))
    matmul(probs, v, out=y.transpose(0, 2, 1, 3))
    assert error(y.transpose(0, 2, 1, 3), probs, v) < 8


def ones(*shape, dtype=np.float32):
    return np.ones(shape, dtype)


@pytest.mark.parametrize(("a", "b"), [
    (ones(3, 0), ones(0, W)), (ones(0, 4), ones(4, W)), (ones(3, 4), ones(4, 0)), (ones(3, 4)[:, ::-1], ones(4, W)),
    (ones(3, 20), matrix((W, 20), False)[::-1].T), (ones(3, 4), ones(4, 2 * W)[:, ::2]),
    (ones(3, 4, dtype=float), ones(4, W)), (ones(3, 4, dtype=">f4"), ones(4, W, dtype=">f4")),
    (ones(2, 3, 4), ones(4, W)),
], ids=["no columns", "no rows", "no results", "backwards", "transposed and backwards", "every second column",
        "two dtypes", "byte order", "broadcast"])
def test_what_a_compiled_function_cannot_read_is_left_to_numpy(a, b):
    np.testing.assert_array_equal(matmul(a, b), np.matmul(a, b))


@needs_tiles
def test_the_shapes_decide_who_multiplies(used):
    def who(N, K=64, dtype=np.float32):
        used.clear()
        matmul(np.ones((5, K), dtype), np.ones((K, N), dtype))
        return used[-1] if used else "numpy"

    other = "blas" if blas.find_gemm() else "numpy"
    assert [who(W), who(3 * W), who(10 * W - 1)] == ["tiles"] * 3
    assert [who(10), who(W + 1), who(W, dtype=np.float64)] == [other] * 3
    assert [who(W, matrix_products.LARGE // W), who(W, matrix_products.LARGE // W + 1)] == ["tiles", other]
    with products_shared(True):
        assert who(W) == other
    assert who(W) == "tiles"


def test_a_bias_of_another_length_is_refused():
    for N in (10, W):
        with pytest.raises(ValueError, match="needs a bias"):
            matmul(ones(3, 4), ones(4, N), bias=ones(1))
