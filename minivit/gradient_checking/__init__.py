"""The gradient checker: is the gradient that a backward returns the slope of its forward?

For a tensor x that the forward depends on, let L = sum(y * dy) with a fixed random dy. The checker changes x a little
and measures the slope of L: a finite difference. Four things make such a check reliable:

- float64, because differences lose digits;
- random weights, never the initial ones: a wrong layer norm passes while its weight is 1;
- a random upstream gradient, never ones: the input gradients of softmax and layer norm vanish under ones;
- every tensor, inputs included, and an error that names the tensor, the entry and, if possible, the mistake.

Six ideas carry it. Read them in this order:

1. *What is measured*: `check` (the public function and its pass rule), `differences` (the numerical methods).
2. *How sure a measured slope is*: `noise` (round-off, measured) and `comparison` (one numeric slope, with its
   uncertainty, against the analytic one).
3. *The verdict*: `tensor_check` (by entries and along directions), `hints` (the likely mistake), `report` and its
   `figure` (with `laid_flat`, how a tensor becomes a map).
4. *What is perturbed*: `function` (all that the checker needs of a target: real arrays, a forward, a backward), `trees`
   (nested containers of arrays) and `memory` (copies that keep which arrays are the same memory).
5. *Whose code it is*: `adapters` (one for each kind of target; the place to add a framework), `inputs`, `objects` and
   `parameters` (what an object holds, and where its gradients are), `randomness`, and `contract` (what a forward and
   a backward must fulfil).
6. *What else can be wrong*: `named_checks` (other steps, other layouts, forward mode, which part is to blame).
"""

from .check import gradcheck
from .report import Report, Row

__all__ = ["Report", "Row", "gradcheck"]
