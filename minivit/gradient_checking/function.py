"""`FunctionUnderTest`: the one interface through which everything is checked."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class FunctionUnderTest:
    """Named float64 tensors, a forward that reads them, and a backward that returns their gradients.

    inputs, parameters: the float64 arrays to check, by name; contiguous, and perturbed in place. forward: () -> y.
    backward: dy -> {name: gradient or None}, after a forward of its own. state: () -> {name: array} of everything that
    forward and backward must not change. as_complex: () -> the same with complex tensors; None unless the target is a
    pair of functions. is_layer: whether it is a layer of minivit, whose images must not influence each other.
    """

    inputs: dict[str, np.ndarray]
    parameters: dict[str, np.ndarray]
    forward: Callable[[], Any]
    backward: Callable[[np.ndarray], dict]
    state: Callable[[], dict]
    as_complex: Callable | None = None
    is_layer: bool = False

    @property
    def tensors(self) -> dict:
        """All tensors to check: inputs, then parameters."""
        return self.inputs | self.parameters
