"""The gradient checker: is the gradient that a backward returns the slope of its forward?

For a tensor x that the forward depends on, let L = sum(y * dy) with a fixed random dy. The checker moves x a little
and measures the slope of L: a finite difference. Four things make such a check worth something:

- float64, because differences lose digits;
- random weights, never the initial ones: a wrong layer norm passes while its weight is 1;
- a random upstream gradient, never ones: the input gradients of softmax and layer norm vanish under ones;
- every tensor, inputs included, and an error that names the tensor, the entry and, if possible, the mistake.

Read `check` (the function and its pass rule), `differences` (the numerical methods), `trial` (the check of one tensor),
then `subject` (what can be checked), `contract` (what a forward and backward must fulfil), `hints` and `report`.
"""

from .check import gradcheck
from .report import Report, Row

__all__ = ["Report", "Row", "gradcheck"]
