"""Which part of a composite is to blame?

A network is made of layers, these perhaps of others. If the gradient of the whole is wrong, most tensors of it are
wrong, since each gradient passes through all later layers. One step of the whole is recorded (see `recording`). Then
each part is checked alone, as `gradcheck` would do, on its own activations and its own upstream gradient. This does not
depend on the other parts: a right backward is right for any upstream gradient. A wrong part is to blame unless a part
inside it is wrong too. What lies inside a right part is not to blame, and is checked only if nothing is wrong.

If all parts are right, the whole joins them in a wrong way, as by a forgotten residual. Then the upstream gradients of
the outer parts are checked, from the last part to the first. The gradient that a part must get is the slope of L by its
result: the part's result moves by t v while the whole runs, and the slope of L, by finite differences, must be
<upstream, v>. The first wrong one says between which parts the mistake lies.

This check runs by itself if a gradient is wrong.
"""

import math
from dataclasses import replace
from typing import Any

import numpy as np

from ..differences import richardson, rms
from ..function import Results
from ..inputs import argument_names
from ..trees import is_floating, leaves, mapped
from .named_check import NOTE, OK, WRONG, DoesNotApply
from .recording import Call, methods_of, parts_of, record
from .subject import Subject

_STEP = 1e-3                                                          # relative to the result of a part


def parts(subject: Subject) -> tuple[str, str]:
    """Check each part by itself, with its own activations; if all are right, check what they are handed."""
    trial = subject.trial()
    names = [path for path, _ in parts_of(trial.target)] if trial.target is not None else []
    if not names:
        raise DoesNotApply("there are no parts with a forward and a backward")
    recording = record(trial.target)
    with np.errstate(all="ignore"):
        trial.forward()
        trial.backward(subject.dy)
    if not recording.calls:
        raise DoesNotApply("no part was called")
    wrong, right, unknown = _alone(subject, recording.calls)
    innermost = [path for path in wrong if not any(other != path and _is_inside(other, path) for other in wrong)]
    if innermost:
        verdict = WRONG if subject.right else NOTE                    # it is an explanation if the gradient is wrong
        blamed: dict[str, list[str]] = {}
        for path in innermost:
            blamed.setdefault(wrong[path], []).append(path)
        return verdict, "; ".join(f"{', '.join(paths)} {'is' if len(paths) == 1 else 'are'} to blame: {what}"
                                  for what, paths in blamed.items())
    rest = f" ({len(unknown)} could not be checked alone: {'; '.join(unknown)})" if unknown else ""
    if subject.right:
        return OK, f"{_counted(right)} right with their own activations{rest}"
    return NOTE, f"{_counted(right)} right with their own activations{rest}; {_of_joints(subject, recording)}"


def _counted(paths):
    return "1 part is" if len(paths) == 1 else f"{len(paths)} parts are"


def _is_inside(path, outer):
    return path.startswith((f"{outer}.", f"{outer}["))


def _alone(subject, calls):
    """Check each part by its first call. Return {path: what is wrong}, the right paths, and what could not be done."""
    wrong: dict[str, str] = {}
    right: list[str] = []
    unknown: list[str] = []
    firsts: dict[str, Call] = {}
    for call in calls:
        if call.upstream is not None:
            firsts.setdefault(call.path, call)
    for call in firsts.values():                                      # outer parts come before inner ones
        if not subject.right and any(_is_inside(call.path, outer) for outer in right):
            continue
        part = dict(parts_of(subject.trial().target)).get(call.path)
        try:
            report = _checked(subject, part, call)
        except Exception as error:
            unknown.append(f"{call.path}: {' '.join(str(error).split())}")
            continue
        if report.ok or _is_right_for_another_upstream(subject, part, call):
            right.append(call.path)
        else:
            wrong[call.path] = _summary(report)
    return wrong, right, unknown


def _is_right_for_another_upstream(subject, part, call):
    """Return whether a part is right for an upstream gradient that was changed a little.

    If the entries of an upstream gradient cancel each other, as before a softmax, a gradient may be nothing but
    round-off, and is then not worth a verdict.
    """
    upstream = _upstream_of(call)
    if upstream is None:
        return False
    rng = subject.rng()
    moved = mapped(lambda _, x: x * rng.uniform(0.5, 1.5, np.shape(x)), upstream)
    return _checked(subject, part, replace(call, upstream=(moved, *call.upstream[1:]) if Results(call.y).is_single
                                           else moved)).ok


def _checked(subject, part, call):
    """Check a part alone."""
    forward = getattr(part, (methods_of(part) or ("forward",))[0])
    names = argument_names(forward, len(call.args), ())
    given = [(name, x) for name, x in (*zip(names, call.args, strict=True), *call.keywords.items())
             if any(is_floating(leaf) for _, leaf in leaves(x))]
    constants = [name for name, _ in given[max(call.returned, 1):]]   # without a gradient, such as a mask
    return subject.recheck(part, call, constants, _upstream_of(call))


def _upstream_of(call):
    """Return the upstream gradient that the backward of a call had; None if it is zero or has another structure."""
    results = Results(call.y)
    dy = call.upstream[0] if call.upstream and results.is_single else call.upstream
    given: dict = dict(leaves(dy))
    fits = all(keys in given and np.shape(given[keys]) == y.shape for keys, y in results.arrays.items())
    return dy if fits and any(np.any(given[keys]) for keys in results.arrays) else None


def _summary(report):
    """Say what is wrong in a report, in one line."""
    rows = [row for row in report.rows if not row.ok]
    if not rows:
        return "; ".join(map(str, report.failed_checks))
    named = ", ".join(row.tensor for row in rows)
    return f"the gradient of {named} is wrong" + (f" ({rows[0].hint})" if rows[0].hint else "")


# ---- what joins the parts ----


def _of_joints(subject, recording) -> str:
    """Say which part is the first to get a wrong upstream gradient."""
    name = type(subject.trial().target).__name__
    inside = {call.path for call in recording.calls for other in recording.calls if _is_inside(call.path, other.path)}
    unanswered = [call.path for call in recording.calls if call.upstream is None and call.path not in inside]
    if unanswered:
        return f"the backward of {', '.join(dict.fromkeys(unanswered))} is not called by {name}"
    previous = ""
    for call in recording.answered:
        if call.path in inside:
            continue
        numbers = _slopes_of_result(subject, recording.calls.index(call), call)
        if numbers is not None and abs(numbers[0] - numbers[1]) > 1e-5 * max(map(abs, numbers)):
            place = f"after the backward of {previous}" if previous else "at its end"
            return (f"the upstream gradient that {name} hands to {call.path} is wrong: along a direction it is "
                    f"{numbers[1]:.5g}, but the slope is {numbers[0]:.5g}; look {place}")
        previous = call.path
    return f"they get right upstream gradients, so look at what {name} does after the backward of {previous}"


def _slopes_of_result(subject: Subject, number: int, call: Call) -> tuple[float, float] | None:
    """Return the slope of L along a direction of a part's result, and the one by its upstream gradient."""
    upstream: Any = _upstream_of(call)
    if not is_floating(call.y) or upstream is None:
        return None
    v = subject.rng().uniform(0.5, 1.5, call.y.shape) * subject.rng().choice([-1.0, 1.0], call.y.shape)

    def y_at(t):
        trial = subject.trial()
        record(trial.target, (number, lambda y: y + t * v))
        with np.errstate(all="ignore"):
            return subject.results.real(trial.forward())

    slope = richardson(y_at, _STEP * rms(call.y), subject.comparer.dy)
    return (slope, float(np.sum(upstream * v).real)) if math.isfinite(slope) else None
