"""`assert_gradients`: a gradient check that raises AssertionError, for any test framework."""

from collections.abc import Callable
from typing import Any

from ..common.checks import check_number
from ..gradient_checking import Report, gradcheck
from ..gradient_checking.named_checks import transposition_error


class GradientError(AssertionError):
    """A gradient is wrong, or a named check failed. The message is the table; `report` is the `Report`."""

    def __init__(self, report: Report, where: str = "") -> None:
        what = "wrong gradient" if any(not row.ok for row in report.rows) else "failed check of a gradient"
        super().__init__(f"{what}{where}\n{report}")
        self.report, self.where = report, where

    def __reduce__(self) -> tuple:
        """Pickle the error by its arguments, as test runners in several processes do."""
        return type(self), (self.report, self.where)


def assert_gradients(target: Any, *inputs: Any, seeds: int = 1, seed: int = 0, **options: Any) -> Report:
    """Check every gradient of `target`, and raise AssertionError with the table if one is wrong.

    Parameters
    ----------
    target, *inputs
        As for `minivit.gradcheck`.
    seeds : int
        Number of checks, each with other random weights and another dy.
    seed : int
        Seed of the first check; the others have the next ones.
    **options
        Other options of `minivit.gradcheck`, such as `constants`, `tolerance` and `checks`.

    Returns
    -------
    Report
        Of the last check.

    Raises
    ------
    GradientError
        An AssertionError, if a gradient is wrong or a named check failed.
    ValueError
        If `seeds` is no whole number of at least 1.
    TypeError, ValueError
        As `minivit.gradcheck`: if the target cannot be checked.

    Examples
    --------
    >>> import numpy as np
    >>> x = np.random.default_rng(0).standard_normal((3, 5))
    >>> assert_gradients((lambda x: (x**3, x), lambda dy, x: 3 * x**2 * dy), x, seeds=2).ok
    True
    """
    __tracebackhide__ = True                                          # pytest shows the line of the test instead
    seeds = check_number("number of seeds", seeds, least=1, whole=True)
    seed = check_number("seed", seed, least=0, whole=True)
    for s in range(seed, seed + seeds):
        report = gradcheck(target, *inputs, seed=s, **options)
        if not report.ok:
            raise GradientError(report, f" with seed={s}" if s else "")
    return report


def assert_transposes(forward_mode: Callable, reverse_mode: Callable, x: Any, y: Any, tolerance: float = 1e-9,
                      trials: int = 3, seed: int = 0) -> float:
    """Check by the dot-product test that one linear function is the transpose of another.

    For a linear J and its transpose J^T, <v, J u> = <J^T v, u> for any u and v: a forward-mode and a reverse-mode
    derivative at one input, or a linear operator and its transpose, such as padding and cropping. The test compares
    both sides for random u and v. It has no step size, and it is exact but for round-off.

    Parameters
    ----------
    forward_mode : callable
        u -> J u, where u has the shape of x.
    reverse_mode : callable
        v -> J^T v, where v has the shape of y.
    x, y : array or tree of arrays
        Of the shapes of u and v; the values do not matter. A complex number counts as a pair of real ones.
    tolerance : float
        Largest difference, relative to |v| |J u| + |J^T v| |u|.
    trials : int
        Number of pairs of u and v.
    seed : int
        Seed of u and v.

    Returns
    -------
    float
        The largest relative difference.

    Raises
    ------
    AssertionError
        If it exceeds the tolerance.
    ValueError
        If a function returns something of another structure or shape, or for a wrong tolerance or number of trials.

    Examples
    --------
    >>> import numpy as np
    >>> x, y = np.zeros(50), np.zeros(49)
    >>> assert_transposes(np.diff, lambda v: -np.diff(v, prepend=0, append=0), x, y) < 1e-12
    True
    """
    __tracebackhide__ = True
    check_number("tolerance", tolerance, above=0)
    check_number("number of trials", trials, least=1, whole=True)
    check_number("seed", seed, least=0, whole=True)
    error = transposition_error(forward_mode, reverse_mode, x, y, trials, seed)
    if not error <= tolerance:
        raise AssertionError(f"not transposes of each other: <v, J u> and <J^T v, u> differ by {error:.1e} of "
                             f"|v| |J u| + |J^T v| |u|, tolerance {tolerance:.0e}")
    return error
