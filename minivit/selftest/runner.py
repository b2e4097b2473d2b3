"""All gradients of the project in one table: what `minivit gradcheck` runs and prints."""

import dataclasses
import math
import time
from dataclasses import dataclass

from ..common.checks import check_name, check_number
from ..testing import Report
from ..testing.report import table_lines
from .catalogue import Check, select

METHODS = ("richardson", "central", "directional", "taylor")  # those that every op, layer and model can be checked by


@dataclass(frozen=True)
class Outcome:
    """A check of the catalogue with its report, or with the error that kept it from having one."""

    check: Check
    report: Report | None
    error: str = ""

    @property
    def ok(self):
        """Whether there is a report, and it is all right."""
        return self.report is not None and self.report.ok

    @property
    def worst(self):
        """The largest error; infinity without a report."""
        return self.report.worst if self.report is not None else math.inf


@dataclass(frozen=True)
class Verification:
    """The outcomes of all checks, and how long they took."""

    outcomes: tuple[Outcome, ...]
    seconds: float

    @property
    def ok(self):
        """Whether every check passed."""
        return all(outcome.ok for outcome in self.outcomes)

    @property
    def worst(self):
        """The largest error of all."""
        return max(outcome.worst for outcome in self.outcomes)


def verify(names=(), method="richardson", seed=0):
    """Check the gradients of the ops, layers and models of these names (all, if there are none) -> `Verification`.

    What breaks in one check, such as a gradient of the wrong shape, is its outcome, and the others go on. Raises
    ValueError for an unknown name or method.
    """
    checks = select(names)
    check_name("method", method, METHODS)
    check_number("seed", seed, least=0, whole=True)
    start = time.perf_counter()
    outcomes = tuple(_outcome(check, method, seed) for check in checks)
    return Verification(outcomes, time.perf_counter() - start)


def _outcome(check, method, seed):
    try:
        return Outcome(check, check.report(method=method, seed=seed))
    except Exception as error:                                        # whatever a broken op, layer or model does
        return Outcome(check, None, f"{type(error).__name__}: {error}")


def _label(check):
    return f"{check.name} ({check.kind})" if check.kind in ("reference", "fast") else check.name


def table(verification):
    """The table as text: every tensor, and a summary for ops, layers and models."""
    lines = table_lines([(_label(o.check), o.report.rows) for o in verification.outcomes if o.report is not None])
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


def as_json(verification):
    """The same as plain dicts and lists; a number that is not finite is None."""
    def plain(value):
        if isinstance(value, dict):
            return {name: plain(v) for name, v in value.items()}
        if isinstance(value, list | tuple):
            return [plain(v) for v in value]
        return None if isinstance(value, float) and not math.isfinite(value) else value

    return plain({"ok": verification.ok, "worst": verification.worst, "seconds": verification.seconds, "checks": [
        {"name": o.check.name, "kind": o.check.kind, "ok": o.ok, "worst": o.worst, "error": o.error,
         "rows": [dataclasses.asdict(row) for row in o.report.rows] if o.report is not None
         else []} for o in verification.outcomes]})
