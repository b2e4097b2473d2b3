"""The gradient checker: is the gradient that a backward returns the slope of its forward?

For a tensor x that the forward depends on, let L = sum(y * dy) with a fixed random dy. The checker changes x a little
and measures the slope of L: a finite difference. Four things make such a check reliable:

- float64, because differences lose digits;
- random weights, never the initial ones: a wrong layer norm passes while its weight is 1;
- a random upstream gradient, never ones: the input gradients of softmax and layer norm vanish under ones;
- every tensor, inputs included, and an error that names the tensor, the entry and, if possible, the mistake.

Read in this order: `check` (the public function and its pass rule), `differences` (the numerical methods), `comparison`
(one numeric slope against the analytic one) and `tensor_check` (the check of one tensor). Then `function` (what the
checker needs of a target), `adapters`, `inputs` and `parameters` (how a pair, layer or object provides it), `contract`
(what a forward and backward must fulfil), `hints` and `report`.
"""

from .check import gradcheck
from .report import Report, Row

__all__ = ["Report", "Row", "gradcheck"]
