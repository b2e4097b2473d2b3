"""Strategies for hypothesis: arrays of shapes that fit together, in several memory layouts.

    from hypothesis import given
    from minivit.testing import assert_gradients
    from minivit.testing.strategies import arrays

    @given(arrays("B N, N K, K"))
    def test_linear(inputs):
        assert_gradients((forward, backward), *inputs)

Install hypothesis by `pip install 'minivit[hypothesis]'`.
"""

import re
from typing import Any

import numpy as np

try:
    import hypothesis.strategies as st
except ImportError as error:
    raise ImportError("minivit.testing.strategies needs hypothesis: pip install 'minivit[hypothesis]'") from error

from ..common.checks import check_number

LAYOUTS = ("C", "Fortran", "strided", "reversed")


def dtypes() -> st.SearchStrategy[np.dtype]:
    """Return a strategy for floating dtypes, in both byte orders. gradcheck computes in float64 in any case."""
    return st.sampled_from([np.dtype(name) for name in ("<f8", ">f8", "<f4", ">f4")])


def shapes(pattern: str, smallest: int = 1, largest: int = 5) -> st.SearchStrategy[tuple[tuple[int, ...], ...]]:
    """Return a strategy for shapes that fit together.

    Parameters
    ----------
    pattern : str
        Shapes, separated by commas; each is letters or words for sizes, or numbers. The same letter has the same size
        in all shapes: "B N, N K, K".
    smallest, largest : int
        Limits of the sizes.

    Returns
    -------
    strategy for a tuple of shapes

    Raises
    ------
    ValueError
        For a pattern that is empty or has other signs, or for wrong limits.

    Examples
    --------
    >>> strategy = shapes("B N, N K, K", smallest=2)                  # (2, 2), (2, 2), (2,) is the simplest example
    """
    check_number("smallest size", smallest, least=0, whole=True)
    check_number("largest size", largest, least=smallest, whole=True)
    wanted = [shape.split() for shape in pattern.split(",")]
    wrong = [word for shape in wanted for word in shape if not re.fullmatch(r"[A-Za-z_]\w*|\d+", word)]
    if wrong or not pattern.strip():
        raise ValueError(f"wrong pattern of shapes: found {(wrong or [pattern])[0]!r}, expected names or numbers of "
                         "sizes with commas between shapes, such as 'B N, N K, K'")
    names = sorted({word for shape in wanted for word in shape if not word.isdigit()})
    sizes = st.fixed_dictionaries({name: st.integers(smallest, largest) for name in names})
    return sizes.map(lambda size: tuple(tuple(int(word) if word.isdigit() else size[word] for word in shape)
                                        for shape in wanted))


def arrays(pattern: str, smallest: int = 1, largest: int = 5, scales: tuple[float, float] = (0.1, 10.0),
           dtype: Any = None, layouts: tuple[str, ...] = LAYOUTS) -> st.SearchStrategy[tuple[np.ndarray, ...]]:
    """Return a strategy for a tuple of random arrays whose shapes fit together.

    The numbers are normal, not adversarial: at the exact zeros that hypothesis likes best, a ReLU has no slope. Shapes,
    scale, seed, dtype and memory layout vary and shrink. gradcheck keeps the layout, but computes in float64.

    Parameters
    ----------
    pattern, smallest, largest
        As for `shapes`.
    scales : tuple of two floats
        Limits of the standard deviation.
    dtype : dtype, optional
        Of all arrays. Default: one of `dtypes` for each.
    layouts : tuple of str
        Memory layouts to choose from: "C", "Fortran", "strided", "reversed".

    Returns
    -------
    strategy for a tuple of arrays

    Raises
    ------
    ValueError
        For a wrong pattern, or wrong limits.
    """
    if not 0 < scales[0] <= scales[1]:
        raise ValueError(f"wrong scales: found {scales}, expected two positive numbers, the smaller one first")

    @st.composite
    def strategy(draw):
        rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1), label="seed"))
        scale = 10 ** draw(st.floats(*map(np.log10, scales)), label="log10 of the scale")
        made = []
        for shape in draw(shapes(pattern, smallest, largest), label="shapes"):
            kind = draw(dtypes()) if dtype is None else np.dtype(dtype)
            made.append(_laid_out((scale * rng.standard_normal(shape)).astype(kind), draw(st.sampled_from(layouts))))
        return tuple(made)

    return strategy()


def _laid_out(x: np.ndarray, layout: str) -> np.ndarray:
    """Return an equal array with another memory layout."""
    if layout == "Fortran":
        return np.asfortranarray(x)
    if layout == "strided" and x.ndim:
        return np.repeat(x, 2, axis=-1)[..., ::2]
    if layout == "reversed" and x.ndim:
        return np.ascontiguousarray(x[::-1])[::-1]
    return x
