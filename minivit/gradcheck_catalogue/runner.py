"""Check all gradients of the project and print one table: what `minivit gradcheck` runs."""

import dataclasses
import math
import time
from dataclasses import dataclass
from typing import Any

from ..common.checks import check_name, check_number
from ..gradient_checking import Report
from ..gradient_checking.report import table_lines
from ..parallel.blas import blas_threads
from .catalogue import Check, select

METHODS = ("richardson", "central", "directional", "taylor")  # those that every op, layer and model can be checked by


@dataclass(frozen=True)
class Outcome:
    """A check of the catalogue with its report, or with the error that prevented a report."""

    check: Check
    report: Report | None
    error: str = ""

    @property
    def ok(self) -> bool:
        """Whether there is a report and all its gradients are right."""
        return self.report is not None and self.report.ok

    @property
    def worst(self) -> float:
        """The largest error; infinity without a report."""
        return self.report.worst if self.report is not None else math.inf


@dataclass(frozen=True)
class Verification:
    """The outcomes of all checks, and the seconds that they took."""

    outcomes: tuple[Outcome, ...]
    seconds: float

    @property
    def ok(self) -> bool:
        """Whether every check passed."""
        return all(outcome.ok for outcome in self.outcomes)

    @property
    def worst(self) -> float:
        """The largest error of all checks."""
        return max(outcome.worst for outcome in self.outcomes)


def verify(names: Any = (), method: str = "richardson", seed: int = 0, threads: int = 1) -> Verification:
    """Check the gradients of the ops, layers and models with these names.

    An exception in one check is its outcome, and the others continue.

    Parameters
    ----------
    names : sequence of str
        Families or entries of the catalogue; all by default.
    method : str
        "richardson", "central", "directional" or "taylor"; see `gradcheck`.
    seed : int
        Seed of inputs, weights and dy.
    threads : int
        Number of threads of each matrix product. The checks run one after the other.

    Returns
    -------
    Verification

    Raises
    ------
    ValueError
        For an unknown name or method.
    """
    checks = select(names)
    check_name("method", method, METHODS)
    check_number("seed", seed, least=0, whole=True)
    check_number("number of threads", threads, least=1, whole=True)
    start = time.perf_counter()
    with blas_threads(threads):
        outcomes = tuple(_outcome(check, method, seed) for check in checks)
    return Verification(outcomes, time.perf_counter() - start)


def _outcome(check, method, seed):
    """Run one check."""
    try:
        return Outcome(check, check.report(method=method, seed=seed))
    except Exception as error:                                        # whatever a broken op, layer or model does
        return Outcome(check, None, f"{type(error).__name__}: {error}")


def _label(check):
    """Return the name of a check, with the version of an op."""
    return f"{check.name} ({check.kind})" if check.kind in ("reference", "fast") else check.name


def table(verification: Verification) -> str:
    """Return the table as text: every tensor, and a summary of ops, layers and models."""
    lines = table_lines([(_label(o.check), o.report.rows) for o in verification.outcomes if o.report is not None])
    lines += [f"{_label(o.check)}: {finding}" for o in verification.outcomes if o.report is not None
              for finding in o.report.failed_checks]
    lines += [f"{_label(o.check)}: {o.error}" for o in verification.outcomes if o.report is None]
    lines.append("")
    for plural, kinds in (("pairs of ops", ("reference", "fast")), ("layers", ("layer",)), ("models", ("model",))):
        outcomes = [o for o in verification.outcomes if o.check.kind in kinds]
        if outcomes:
            worst = max(outcomes, key=lambda o: o.worst)
            failed = sum(not o.ok for o in outcomes)
            tensors = sum(len(o.report.rows) for o in outcomes if o.report is not None)
            lines.append(f"{len(outcomes):3} {plural:12} {tensors:4} tensors, worst error {worst.worst:.1e} "
                         f"({_label(worst.check)}): "
                         + (f"{failed} FAIL" if failed else "all pass"))
    lines.append(f"in {verification.seconds:.1f} seconds")
    return "\n".join(lines)


def plain(value: Any) -> Any:
    """Return a value for JSON: dicts, lists, and None in place of numbers that are not finite."""
    if isinstance(value, dict):
        return {name: plain(v) for name, v in value.items()}
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def rows_as_json(report: Report) -> list[dict]:
    """Return the rows of a report as plain dicts."""
    return [plain(dataclasses.asdict(row)) for row in report.rows]


def as_json(verification: Verification) -> Any:
    """Return the result as plain dicts and lists; numbers that are not finite become None."""
    return plain({"ok": verification.ok, "worst": verification.worst, "seconds": verification.seconds, "checks": [
        {"name": o.check.name, "kind": o.check.kind, "ok": o.ok, "worst": o.worst, "error": o.error,
         "rows": rows_as_json(o.report) if o.report is not None else []} for o in verification.outcomes]})
