"""Does a step depend on the steps before it?

A network calls its layers again and again. The slopes are measured on new copies of an object, so a cache that is made
in the first step and never again goes unseen there: every later backward uses the inputs of the first step.

One copy runs a step with other inputs and another dy, and then the step whose slopes were checked. This must compute
what a new copy computes. Gradients that are added up may be the sum of both steps. (That one call, repeated, computes
the same is part of the contract of every check.) Functions have no object: what they keep in a global variable is seen
only if the second step depends on the step before it.
"""

from .named_check import OK, WRONG
from .subject import Subject, agree


def determinism(subject: Subject) -> tuple[str, str]:
    """Run a step after another one, on the same object."""
    trial = subject.trial()
    dy = subject.results.structured(2 * subject.comparer.dy) if subject.free else subject.dy
    first = subject.outcome(trial, subject.other_inputs, dy)
    second = subject.outcome(trial)
    expected = subject.reference
    gradients = {f"the gradient of {name}" for name in subject.function.parameters}
    for name in gradients & expected.keys() & first.keys() & second.keys():
        if not agree(expected[name], second[name], subject.tolerance):
            second[name] = second[name] - first[name]                 # perhaps it was added up
    difference = subject.difference(expected, second)
    if difference:
        return WRONG, (f"after a step with other inputs {difference}: is something kept that each forward should make "
                       "anew?")
    return OK, "a step computes the same after another step"
