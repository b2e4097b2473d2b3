"""`assert_gradients`: a gradient check that raises AssertionError, for any test framework."""

from typing import Any

from ..common.checks import check_number
from ..gradient_checking import Report, gradcheck


class GradientError(AssertionError):
    """A gradient is wrong. The message is the table of the check; `report` is its `Report`."""

    def __init__(self, report: Report, where: str = "") -> None:
        super().__init__(f"wrong gradient{where}\n{report}")
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
        Other options of `minivit.gradcheck`, such as `constants` and `tolerance`.

    Returns
    -------
    Report
        Of the last check.

    Raises
    ------
    GradientError
        An AssertionError, if a gradient is wrong.
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
