"""More to check than slopes: named checks of what else a right backward must fulfil.

The slopes say that the gradients of one step are right. A layer is used in other ways: after other steps, with another
dy, with transposed arrays, in float32. Each of these is a *named check*. `CHECKS` lists them. A check has

- a name, by which it is asked for, or left out with a minus: `gradcheck(layer, x, checks=("batch", "-aliasing"))`;
- a condition: it does not run for a target that it says nothing about;
- a cost, in steps, each a forward and a backward;
- a finding: "ok", "WRONG", "note" or "not run", with one sentence.

Those that cost a few steps and have no opinion run by default. "WRONG" makes the report false. A "note" says what is no
mistake by itself, but may surprise. Whoever names the check does not want it, so there it is a mistake ("all" does not
name one). An error in the user's code during a check is a finding "not run", which the report shows, and never an error
of the check.

Read in this order: `named_check` (what a check is), `subject` (what it may ask of a target), then each check:
`linearity`, `determinism`, `layouts`, `aliasing`, `batch`, `precision`, `forward_mode`, `second_order`, and `parts`
with `recording`. To add a check, write a function of a `Subject` in a file of its own and list it in `CHECKS`.
"""

from collections.abc import Sequence

from ...common.checks import check_name
from .aliasing import aliasing
from .batch import batch
from .determinism import determinism
from .forward_mode import jvp, transposition_error
from .layouts import byte_order, dy_layouts, input_layouts
from .linearity import linearity, zero_dy
from .named_check import Finding, NamedCheck
from .parts import parts
from .precision import float32
from .second_order import second
from .subject import Subject

__all__ = ["CHECKS", "Chosen", "Finding", "NamedCheck", "Subject", "transposition_error"]

CHECKS = {check.name: check for check in (
    NamedCheck("determinism", "does a step depend on the steps before it?", "2 steps", determinism),
    NamedCheck("linearity", "is the backward linear in dy?", "3 steps", linearity),
    NamedCheck("zero_dy", "is the gradient zero for a dy of zeros?", "1 step", zero_dy),
    NamedCheck("dy_layouts", "does the memory layout of dy matter?", "3 steps", dy_layouts),
    NamedCheck("input_layouts", "does the memory layout of the inputs matter?", "3 steps", input_layouts),
    NamedCheck("aliasing", "does a result share memory with something that changes?", "2 to 4 steps", aliasing,
               strict=True),
    NamedCheck("byte_order", "does the byte order of inputs and of dy matter?", "2 steps", byte_order, default=False),
    NamedCheck("jvp", "is the forward-mode derivative right?", "2 forwards for each input", jvp),
    NamedCheck("second", "are second derivatives right?", "as much as the check of the slopes", second),
    NamedCheck("batch", "is an image treated as if it were alone?", "7 steps", batch, default=False,
               strict=True),
    NamedCheck("float32", "does the code keep float32, and stay near float64?", "3 steps", float32, default=False,
               strict=True),
    NamedCheck("parts", "which part of a composite is to blame?", "a check of each part", parts, default=False),
)}


class Chosen:
    """The checks that the user wants. names: of checks, with a minus in front of those to leave out; "all"; "none"."""

    def __init__(self, names: Sequence[str] | str) -> None:
        names = [names] if isinstance(names, str) else list(names)
        for name in names:
            if name not in ("all", "none"):
                check_name("check", str(name).removeprefix("-"), ["all", "none", *CHECKS])
        self.named = [name for name in CHECKS if name in names]
        self.asked = [name for name in CHECKS if name in names or "all" in names]
        defaults = [] if "none" in names else [name for name, check in CHECKS.items() if check.default]
        left_out = {name.removeprefix("-") for name in names if name.startswith("-")}
        self.names = [name for name in CHECKS if name in {*defaults, *self.asked} - left_out]
        self.blames = "none" not in names and "parts" not in left_out

    def findings(self, subject: Subject) -> tuple[Finding, ...]:
        """Run the checks. If a gradient is wrong, the parts of a composite are checked too."""
        names = [*self.names, *(["parts"] if self.blames and not subject.right and "parts" not in self.names else [])]
        found = [CHECKS[name].finding(subject, name in self.asked, name in self.named) for name in names]
        return tuple(finding for finding in found if finding.is_shown)
