"""Numerical verification of a forward and backward:

is the gradient that the backward returns the slope that the forward has?

For any tensor x that the forward depends on, and L = sum(y * dy) with a fixed random dy, the slope of L is measured by
moving x. What makes such a check worth something: float64; random weights, never the initial ones (a wrong layer norm
passes while its weight is 1); a random upstream gradient, never ones (whose softmax and layer-norm gradients vanish);
every tensor, inputs too; and an error that names the tensor, the entry and, where it can be recognised, the bug.

Read `check` (the function and its pass rule), `differences` (the numerical mathematics), `trial` (the judgement of one
tensor), then `subject` (what can be checked), `contract` (what it must keep to), `hints` and `report`.
"""

from .check import gradcheck
from .report import Report, Row

__all__ = ["Report", "Row", "gradcheck"]
