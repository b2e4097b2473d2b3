"""The arguments of a forward: their names, their float64 copies, and the gradients that a backward returns for them."""

import contextlib
import fnmatch
import inspect
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from ..common.checks import check_name
from .memory import checked_dtype, copied_with_layout
from .parameters import gradient_names
from .trees import is_floating, is_number, item, leaves, mapped, parts, path


def matching(pattern: str, names: Iterable[str]) -> list[str]:
    """Return the names that a pattern means: the name itself, all names below it, or those that a glob matches."""
    return [name for name in names if name == pattern or name.startswith(f"{pattern}.")
            or fnmatch.fnmatchcase(name, pattern)]


def matched_names(kind: str, patterns: Iterable[str], names: Collection[str]) -> set[str]:
    """Return the names that any of the patterns means; raise ValueError for a pattern that means none."""
    found = set()
    for pattern in patterns:
        named = matching(pattern, names)
        found.update(named or [check_name(kind, pattern, names)])
    return found


def argument_names(forward: Callable, count: int, taken: Collection[str]) -> list[str]:
    """Return the names of the first arguments of the forward, or "input 0", ... where they are unknown or taken."""
    try:
        kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
        names = [p.name for p in inspect.signature(forward).parameters.values() if p.kind in kinds][:count]
    except (TypeError, ValueError):
        names = []
    if len(names) == count and not set(names) & set(taken):
        return names
    return ["input"] if count == 1 else [f"input {i}" for i in range(count)]


def required_arguments(function: Callable) -> list[str] | None:
    """Return the names of the positional arguments without a default; None if they are not known."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return None
    if any(p.kind is inspect.Parameter.VAR_POSITIONAL for p in parameters):
        return None
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return [p.name for p in parameters if p.kind in kinds and p.default is inspect.Parameter.empty]


def _has_arrays(x):
    """Return whether an array lies in a list."""
    return any(isinstance(leaf, np.ndarray) for _, leaf in leaves(x))


class Inputs:
    """The arguments of a forward, as float64 copies. Each argument is a tree; its leaves have names: `state.0`.

    arrays: {name: array} of all leaves that are arrays. numbers: {name: number} of those that are floating numbers.
    checked: {name: array} of the leaves whose gradient is checked: the floating arrays that are no constants, and the
    numbers for which `check_numbers` was called. constants: names or patterns, of inputs or parameters. taken: names of
    parameters. options: the keyword arguments, and what to call before each call of the forward.
    """

    def __init__(self, forward: Callable, values: Sequence, constants: Collection[str], taken: Collection[str],
                 options: Any, dtype: Any = None) -> None:
        self.dtype, self.options = dtype, options
        self.change: Callable[[str, np.ndarray], Any] | None = None   # see `passing`
        self.keywords = dict(options.keywords)
        self.names = [*argument_names(forward, len(values), taken), *self.keywords]
        self.arrays: dict[str, np.ndarray] = {}
        self.numbers: dict[str, Any] = {}
        self.trees = {name: self._copied(name, value)
                      for name, value in zip(self.names, (*values, *self.keywords.values()), strict=True)}
        self.leaf_names = [path(name, keys) for name, tree in self.trees.items() for keys, _ in leaves(tree)]
        named = {name for pattern in constants for name in matching(pattern, self.leaf_names)}
        self.constants = {name for name in self.leaf_names if name in named}
        self.checked = {name: x for name, x in self.arrays.items() if is_floating(x) and name not in self.constants}
        for name, x in self.checked.items():
            if not np.isfinite(x).all():
                raise ValueError(f"wrong values in {name}: found NaN or infinity, expected finite numbers, choose "
                                 f"other inputs, or name a constant, such as a mask, in constants=({name!r},)")

    def _copied(self, name, value):
        """Return the tree with copies of its arrays; a list of numbers becomes an array."""
        if isinstance(value, list) and not _has_arrays(value):
            try:
                array = np.array(value)
            except ValueError:                                        # lists of unequal lengths are a tree
                array = np.array(None)
            value = array if array.dtype.kind in "fciub" and array.size else value
        return mapped(lambda keys, leaf: self._copied_leaf(path(name, keys), leaf), value)

    def _copied_leaf(self, name, x):
        """Return a copy of an array, in float64 or complex128 if it is floating; other values unchanged."""
        if not isinstance(x, np.ndarray | np.floating | np.complexfloating):
            if is_number(x):
                self.numbers[name] = x
            return x
        x = np.asarray(x)
        if x.dtype.kind not in "fciub":
            raise TypeError(f"wrong dtype of {name}: found {x.dtype}, expected an array of numbers, pass other values "
                            "as single objects")
        x = copied_with_layout(x, (self.dtype or checked_dtype(x)) if is_floating(x) else x.dtype)
        self.arrays[name] = x
        return x

    def check_numbers(self, names: Iterable[str]) -> None:
        """Check the gradient of single numbers too: each becomes an array without axes."""
        for name in names:
            self.checked[name] = np.array(self.numbers[name], checked_dtype(np.asarray(self.numbers[name])))

    def call(self, function: Callable) -> Any:
        """Call a function with the arguments. The containers are new in each call, and the arrays are the same."""
        def leaf(name, x):
            if name in self.numbers and name in self.checked:
                return self.checked[name][()].item()
            return self.change(name, x) if self.change and name in self.arrays else x

        def arguments(name):
            return mapped(lambda keys, x: leaf(path(name, keys), x), self.trees[name])

        values = {name: arguments(name) for name in self.trees}
        keywords = {name: values.pop(name) for name in self.keywords}
        self.options.before_call()
        return function(*values.values(), **keywords)

    def structured(self, named: Mapping[str, Any]) -> list[Any]:
        """Return the arguments that hold checked arrays, as trees with named[name] in place of these arrays."""
        return [mapped(lambda keys, x, name=name: named.get(path(name, keys), x), tree)   # type: ignore[misc]
                for name, tree in self.trees.items()
                if any(path(name, keys) in self.checked for keys, _ in leaves(tree))]

    @contextlib.contextmanager
    def passing(self, change: Callable[[str, np.ndarray], Any] | None) -> Iterator[None]:
        """Pass change(name, x) in place of every array x, in the calls inside this context."""
        before, self.change = self.change, change
        try:
            yield
        finally:
            self.change = before

    @contextlib.contextmanager
    def unchanged(self) -> Iterator[None]:
        """Restore the arrays at the end of a trial call, which may write into them."""
        saved = {name: x.copy() for name, x in self.arrays.items()}
        try:
            yield
        finally:
            for name, x in saved.items():
                self.arrays[name][...] = x

    # ---- gradients that a backward returns ----

    def gradients(self, returned: Any, parameters: Sequence[str] = ()) -> dict:
        """Return {name of a leaf or parameter: gradient} of what a backward returned.

        That is one gradient, or a tuple or list of them in the order of the arguments, or a dict by name. The gradients
        of parameters may follow those of the inputs, one by one or as a dict.
        """
        if isinstance(returned, Mapping):
            return self._by_name(returned, parameters)
        sequence = list(returned) if isinstance(returned, tuple | list) else [returned]
        floating = [name for name in self.names if any(is_floating(x) for _, x in leaves(self.trees[name]))]
        checked = [name for name in self.names if any(path(name, keys) in self.checked
                                                      for keys, _ in leaves(self.trees[name]))]
        if len(checked) == 1 and len(sequence) > 1 and len(parts(self.trees[checked[0]]) or ()) == len(sequence):
            return self._below(checked[0], returned)
        for names in (self.names, floating, checked):
            if len(sequence) == len(names):
                return self._in_order(names, sequence)
            if parameters and len(sequence) == len(names) + 1 and isinstance(sequence[-1], Mapping):
                return self._in_order(names, sequence) | self._of_parameters(sequence[-1], parameters)
            if parameters and len(sequence) == len(names) + len(parameters):
                return self._in_order(names, sequence) | dict(zip(parameters, sequence[len(names):], strict=True))
        if len(sequence) == len(self.checked):
            return dict(zip(self.checked, sequence, strict=True))
        if not self.checked and sequence[0] is None:
            return {}
        raise ValueError(f"wrong number of gradients from the backward: found {len(sequence)}, expected "
                         f"{len(self.checked)} for the floating-point inputs ({', '.join(self.checked)}), return one "
                         "for each or name inputs without a gradient in constants=(...)")

    def _in_order(self, names, sequence):
        """Return the gradients of arguments, which stand in this order."""
        found: dict = {}
        for name, gradient in zip(names, sequence, strict=False):
            found |= self._below(name, gradient)
        return found

    def _below(self, name, gradient):
        """Return the gradients of the leaves of one argument."""
        tree = self.trees[name]
        found = {path(name, keys): _found(gradient, keys) for keys, _ in leaves(tree)}
        known = {path(name, spelled) for keys, _ in leaves(tree) for spelled in _spelled(keys)}
        _refuse_unknown([path(name, keys) for keys, g in leaves(gradient) if parts(gradient) is not None
                         and is_floating(g) and path(name, keys) not in known], self.leaf_names)
        return found

    def _by_name(self, returned, parameters):
        """Return the gradients in a dict, whose keys are names of arguments or parameters, or of their gradients."""
        found: dict[str, Any] = {}
        used = set()
        for name in self.names:
            key = next((key for key in (name, *gradient_names(name)) if key in returned), None)
            if key is not None:
                used.add(key)
                found |= self._below(name, returned[key])
        trees = [name for name in self.names if isinstance(self.trees[name], Mapping)]
        if not used and len(trees) == 1 and not parameters:
            return self._below(trees[0], returned)
        for name in self.checked:
            if name in returned:
                used.add(name)
                found[name] = returned[name]
        rest = {key: g for key, g in returned.items() if key not in used}
        return found | self._of_parameters(rest, parameters)

    def _of_parameters(self, gradients, parameters):
        """Return the gradients of parameters in a dict. A key may leave out the objects that hold the parameter."""
        found, used = {}, set()
        for name in parameters:
            short = name.rpartition(".")[2]
            unique = sum(other.rpartition(".")[2] == short for other in parameters) == 1
            spellings = [name, *gradient_names(name), *([short, *gradient_names(short)] if unique else [])]
            key = next((key for key in spellings if key in gradients), None)
            if key is not None:
                used.add(key)
                found[name] = gradients[key]
        _refuse_unknown([str(key) for key, g in gradients.items() if key not in used and g is not None],
                        [*self.leaf_names, *parameters])
        return found


def _spelled(keys):
    """Return the keys, and the keys whose last one is the name of a gradient."""
    return [keys, *((*keys[:-1], name) for name in (gradient_names(keys[-1]) if keys else ()))]


def _found(gradient, keys):
    """Return the part of a tree of gradients under these keys, also as "dW" for "W"; None if there is none."""
    return next((g for spelled in _spelled(keys) if (g := item(gradient, spelled)) is not None), None)


def _refuse_unknown(names, known):
    """Raise ValueError for gradients that belong to no tensor."""
    if names:
        raise ValueError(f"gradients of unknown tensors: found {', '.join(names)} in the backward's result, expected "
                         f"the names {', '.join(known) or 'of inputs'}, rename them, or pass what they belong to as "
                         "an input")
