"""`FunctionUnderTest`: the one interface through which everything is checked.

An adapter makes it of what the user passes (see `adapters`). Its forward may return any tree of arrays, and its tensors
may be complex. `as_real` makes the same function of real arrays of it: one array of results, and tensors of float64.
Then the loss is always L = sum(y * dy), the slope of a tensor's entry is dL/dx, and no later step knows of trees or of
complex numbers.

A complex tensor z = a + ib is the real tensor of its pairs (a, b), with one more axis of length 2. So the gradient of a
complex tensor is dL/da + i dL/db, and the upstream gradient of a complex result is dL/dRe y + i dL/dIm y. PyTorch has
the same convention. JAX returns the complex conjugate.

A `Trial` is the target itself, to be called in other ways: several times, or with inputs in another memory layout.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from .trees import is_floating, is_number, leaves, mapped, path


@dataclass(frozen=True)
class FunctionUnderTest:
    """Named float64 or complex128 tensors, a forward that reads them, and a backward that returns their gradients.

    inputs, parameters: the arrays to check, by name; perturbed in place. forward: () -> y, a tree. backward: dy, a tree
    of the same structure -> {name: gradient or None}, after a forward of its own. state: () -> {name: array} of
    everything that forward and backward must not change. as_complex: () -> the same with complex tensors; None unless
    the target is a pair of functions. is_layer: whether it is a layer of minivit, whose images must not influence each
    other. fixed_dy: the upstream gradient, if the code allows only one, such as 1 for a gradient of a scalar function.
    inventory: {name: words} of what was found besides the tensors to check, such as "constant". aliases: {tensor: other
    names of its memory}. claims: () -> {tensor: gradients}, where the last backward left several. is_single: whether it
    computes in float32, so that the tolerance must follow from its noise. notes: findings of the adapter. pairs: names
    of complex tensors that `as_real` made pairs. trial: single -> a new `Trial`, in float32 if `single`; None if there
    can be none.
    """

    inputs: dict[str, np.ndarray]
    parameters: dict[str, np.ndarray]
    forward: Callable[[], Any]
    backward: Callable[[Any], dict]
    state: Callable[[], dict]
    as_complex: Callable | None = None
    is_layer: bool = False
    fixed_dy: Any = None
    inventory: dict[str, str] = field(default_factory=dict)
    aliases: dict[str, tuple[str, ...]] = field(default_factory=dict)
    claims: Callable[[], dict] = dict
    is_single: bool = False
    notes: tuple[str, ...] = ()
    pairs: frozenset[str] = frozenset()
    trial: "Callable[[bool], Trial] | None" = None

    @property
    def tensors(self) -> dict:
        """All tensors to check: inputs, then parameters."""
        return self.inputs | self.parameters


class Trial:
    """One copy of the target, whose forward and backward may be called as often as one likes, in any way.

    target: the object that is called; None for functions. inputs: the `Inputs` that it is called with. forward: () ->
    y, as the target returned it. backward: dy, a tree -> {tensor: gradient}, of the last forward. others: {name:
    function} for what `method` returns, where there is no object.
    """

    def __init__(self, target: Any, inputs: Any, forward: Callable[[], Any], backward: Callable[[Any], dict],
                 others: Mapping[str, Callable] | None = None) -> None:
        self.target, self.inputs, self._forward, self._backward = target, inputs, forward, backward
        self.others = others or {}
        self.change: Any = None

    def forward(self, change: Any = None) -> Any:
        """Call the forward with change(name, x) in place of every array x among the inputs."""
        self.change = change
        with self.inputs.passing(change):
            return self._forward()

    def backward(self, dy: Any) -> dict:
        """Call the backward of the last forward. Some take the inputs too: those that the forward had."""
        with self.inputs.passing(self.change):
            return self._backward(dy)

    def method(self, name: str) -> Any:
        """Return another method of the target, such as "jvp"; None if there is none."""
        found = getattr(self.target, name, self.others.get(name))
        return found if callable(found) else None


class Results:
    """The structure of a forward's result: a tree of arrays. One real array stands for all of them."""

    def __init__(self, y: Any) -> None:
        self.tree = y
        self.arrays = {keys: np.asarray(leaf) for keys, leaf in leaves(y) if is_floating(leaf) or is_number(leaf)}
        self.is_single = list(self.arrays) == [()]
        if not self.arrays:
            what = "add the return statement" if y is None else "return an array"
            raise TypeError(f"wrong type of the forward's result: found {type(y).__name__}, expected a floating array "
                            f"or several in a tuple, list or dict, {what}")
        if not any(x.size for x in self.arrays.values()):
            shapes = ", ".join(str(x.shape) for x in self.arrays.values())
            raise ValueError(f"nothing to check: found an empty result of the forward of shape {shapes}, expected at "
                             "least one number, pass larger inputs")

    @property
    def names(self) -> dict:
        """Return {keys: the name of an array of the result}."""
        return {keys: path("result", keys) for keys in self.arrays}

    def real(self, y: Any) -> np.ndarray:
        """Return one real array for a result: of its shape, if it is a single array, else one vector."""
        found = dict(leaves(y))
        if not self.arrays.keys() <= found.keys():
            raise ValueError("the structure of the forward's result changes: found another one in the second call, "
                             "expected the same, return the same arrays each time")
        if self.is_single:
            return np.array(as_pairs(np.asarray(found[()])), dtype=np.float64)   # a copy: y may be an input
        return np.concatenate([as_pairs(np.asarray(found[keys])).reshape(-1) for keys in self.arrays])

    def structured(self, dy: np.ndarray) -> Any:
        """Return the tree of upstream gradients for one real array; None in place of what is no floating array."""
        pieces, start = {}, 0
        for keys, y in self.arrays.items():
            size = y.size * (2 if y.dtype.kind == "c" else 1)
            piece = np.array(dy.reshape(-1)[start:start + size])
            pieces[keys] = (piece.view(np.complex128) if y.dtype.kind == "c" else piece).reshape(y.shape)
            start += size
        return mapped(lambda keys, _: pieces.get(keys), self.tree)


def as_pairs(x: np.ndarray) -> np.ndarray:
    """Return a real view of an array: for a complex one, with a last axis of real and imaginary parts."""
    if x.dtype.kind != "c":
        return x
    return np.lib.stride_tricks.as_strided(x.real, (*x.shape, 2), (*x.strides, x.itemsize // 2))


def as_complex(pairs: np.ndarray, like: np.ndarray) -> np.ndarray:
    """Return the array whose real view `as_pairs` returned; `like` says whether it was complex."""
    return np.ascontiguousarray(pairs).view(np.complex128).reshape(like.shape) if like.dtype.kind == "c" else pairs


def as_real(function: FunctionUnderTest, results: Results) -> FunctionUnderTest:
    """Return the same function with real tensors, one real array as result, and one real dy."""
    def backward(dy):
        return {name: g if g is None else as_pairs(np.asarray(g, function.tensors[name].dtype))
                for name, g in function.backward(results.structured(dy)).items() if name in function.tensors}

    return replace(function, inputs={name: as_pairs(x) for name, x in function.inputs.items()},
                   parameters={name: as_pairs(x) for name, x in function.parameters.items()},
                   pairs=frozenset(name for name, x in function.tensors.items() if x.dtype.kind == "c"),
                   forward=lambda: results.real(function.forward()), backward=backward)
