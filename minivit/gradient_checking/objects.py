"""The adapter for an object with a forward and a backward: its parameters, their memory, and their gradients.

Which arrays of an object are parameters? The object does not say, so the adapter tries:

1. It copies the object (see `memory`) and calls the forward once. Arrays that the object had before are candidates.
   So are arrays that this forward made and the next one left alone: weights that are made when first used.
2. It writes random values into the candidates and calls the forward again. An array with other values afterwards was
   overwritten: it is a result, such as a cache or a running mean. If the forward fails on random values, perhaps
   because a variance became negative, the parameters that must not be moved stay at their given values, with a note.
3. It calls the backward once. An array that the backward overwrites is a gradient. The others are the parameters. Each
   must have a gradient (`parameters` lists where it may be), and each gradient must belong to a parameter.

A parameter is a piece of memory. If it has several names, it has one row, and its gradient is the sum of what all its
uses contribute. If gradients lie under several of its names, the object may keep contributions in its parts and their
sum in itself. So the gradients nearest to the object itself count; one of them must be right.
"""

import inspect
import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from .differences import PerturbedForward, central, rms
from .function import FunctionUnderTest, Results, as_real
from .inputs import Inputs, matched_names, required_arguments
from .memory import Copier, address_range, cannot_be_copied, cells, groups, overlaps_itself
from .parameters import CONTAINERS, Place, contents, gradient_names, has_methods
from .randomness import SameRandomNumbers
from .trees import is_floating, is_number, item, leaves, parts

METHODS = (("forward", "backward"), ("__call__", "backward"), ("fprop", "bprop"), ("forward_pass", "backward_pass"),
           ("forwardprop", "backprop"), ("feedforward", "backprop"))
_METHODS_FOR_PARAMETERS = ("parameters", "params", "get_parameters", "get_params", "params_and_grads",
                           "parameters_and_gradients", "get_params_and_grads", "trainable")
_METHODS_FOR_GRADIENTS = ("gradients", "grads", "get_gradients", "get_grads", "get_params_grad", "parameters_grad")
CACHE_NAMES = ("cache", "ctx", "context", "saved", "tape", "memory", "state")


def randomised(value: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return random values of the size of `value`; matrices scaled by their fan-in, so that nothing saturates."""
    spread = 1 / math.sqrt(value.shape[0]) if value.ndim > 1 else 0.5
    noise = spread * rng.standard_normal(value.shape)
    return np.asarray(value + (noise + 1j * spread * rng.standard_normal(value.shape) if value.dtype.kind == "c"
                               else noise))


class ObjectAdapter:
    """Makes a `FunctionUnderTest` of an object. The arguments are as for `gradcheck`."""

    def __init__(self, target: Any, methods: tuple[str, str], values: Sequence, options: Any) -> None:
        self.options, self.methods = options, methods
        self.notes: list[str] = []
        self.inventory: dict[str, str] = {}
        self.unique: dict[str, bool] = {}
        self.cache: Any = None
        target = self._copied(target)
        names = [place.path for place in contents(target).arrays]
        self.inputs = Inputs(getattr(target, methods[0]), values, options.constants, names, options)
        with self.inputs.unchanged():
            self._find_parameters(target)
            self._find_gradients()

    # ---- copies and calls ----

    def _copied(self, target):
        """Return a copy in float64 that keeps which arrays share memory."""
        found = contents(target)
        arrays = [place.value for place in found.arrays if isinstance(place, Place)]
        new = Copier(arrays, [x for _, x in found.opaque if cannot_be_copied(x)]).copy(target)
        for layer in contents(new).layers:
            if layer.dtype != np.float64:
                layer.pack(np.float64)
        return new

    def _forward(self, target):
        """Call the forward with the inputs, and return y; a cache that it returns beside y is kept."""
        result = self.inputs.call(getattr(target, self.methods[0]))
        if self._takes_cache(target) and isinstance(result, tuple) and len(result) == 2:
            result, self.cache = result
        return result

    def _takes_cache(self, target):
        """Return whether the backward takes a second argument whose name is that of a cache."""
        names = required_arguments(getattr(target, self.methods[1]))
        return names is not None and len(names) == 2 and names[1].lstrip("_") in CACHE_NAMES

    def _backward(self, target, dy):
        """Call the backward with dy, as the signature asks for it."""
        backward = getattr(target, self.methods[1])
        names = required_arguments(backward)
        if self._takes_cache(target):
            return backward(dy, self.cache)
        if names == [] and _accepts_nothing(backward):
            return backward()
        if names is not None and isinstance(dy, tuple) and len(names) == len(dy) > 1:
            return backward(*dy)
        if isinstance(dy, tuple) and names is None and len(dy) > 1:
            return backward(*dy)
        return backward(dy)

    # ---- parameters ----

    def _find_parameters(self, target):
        """Set `base`, the object with random parameters before any forward, and the names of the `candidates`."""
        given = contents(target)
        before = {place.path for place in (*given.arrays, *given.numbers)}
        used = self._copied(target)
        self._call_first(used)
        made = {place.path: place.value for place in contents(used).arrays if place.path not in before}
        lazy = self._kept_by_a_forward(used, made) if made else set()
        self.base = self._copied(used) if lazy else target
        places = [place for place in contents(self.base).arrays if place.path in before | lazy]
        self.candidates = [place.path for place in places if not place.is_gradient()]
        self.inventory |= {place.path: "gradient" for place in places if place.is_gradient()}
        known = [*self.inputs.leaf_names, *(p.path for p in contents(self.base).arrays),
                 *(p.path for p in contents(self.base).numbers)]
        self.constants = matched_names("constant", self.options.constants, known)
        self.kept = matched_names("parameter to keep", self.options.keep, known)
        self._clear_gradients(self.base)
        self._randomise()
        self._drop_what_the_forward_overwrites()

    def _call_first(self, target):
        """Call the forward for the first time, and say what it was given if it fails."""
        try:
            self._forward(target)
        except Exception as error:
            error.add_note("gradcheck gave the forward float64 copies of its floating inputs and weights")
            raise

    def _kept_by_a_forward(self, target, made):
        """Return the paths of arrays that a second forward leaves alone: no results, but weights."""
        memory = [address_range(x) for x in self.inputs.arrays.values() if x.size]
        self._forward(target)
        after = _arrays(target)
        return {name for name, x in made.items() if after.get(name) is x
                and not any(start < address_range(x)[1] and address_range(x)[0] < end for start, end in memory)}

    def _clear_gradients(self, target):
        """Set the gradients that the object holds to zero, so that a backward may add to them."""
        for place in contents(target).arrays:
            if place.is_gradient() and isinstance(place, Place) and place.value.flags.writeable:
                place.value[...] = 0

    def _randomise(self):
        """Give the candidates random values; where the forward fails on them, leave some at their given values."""
        rng = self.options.rng
        places = {place.path: place for place in contents(self.base).arrays}
        fixed = [places[name].value for name in self.constants | self.kept if name in places]
        moved = {name: (x := places[name].value, x.copy(), randomised(x, rng)) for name in self.candidates
                 if not any(np.shares_memory(places[name].value, other) for other in fixed)}
        _write(moved, moved)
        if not moved or self._works():
            return
        _write(moved, ())
        if not self._works():
            return                                                    # not the fault of the random values
        kept = []
        for name in moved:
            _write(moved, [name])
            kept += [] if self._works() else [name]
        _write(moved, [name for name in moved if name not in kept])
        if not self._works():
            kept = list(moved)
            _write(moved, ())
        names = ", ".join(kept)
        self.notes.append(f"{names}: at the given values, because the forward fails or returns NaN at random ones; "
                          f"keep={kept if len(kept) < 4 else [*kept[:3], '...']} says so beforehand")

    def _works(self):
        """Return whether the forward of a copy returns finite numbers."""
        try:
            with np.errstate(all="ignore"):
                y = self._forward(self._copied(self.base))
            return all(np.isfinite(leaf).all() for _, leaf in leaves(y) if is_floating(leaf) or is_number(leaf))
        except Exception:
            return False

    def _drop_what_the_forward_overwrites(self):
        """Take arrays that the forward overwrites from the candidates: results, caches and running means."""
        target = self._copied(self.base)
        before = {name: x.copy() for name, x in _arrays(target).items()}
        self._forward(target)
        after = _arrays(target)
        for name in list(self.candidates):
            if name not in after or not np.array_equal(before[name], after[name], equal_nan=True):
                self.candidates.remove(name)
                self.inventory[name] = "overwritten by the forward"
        self._find_updated(after)

    def _find_updated(self, after):
        """Set `updated`: the overwritten arrays whose new values depend on the old ones, such as a running mean."""
        target = self._copied(self.base)
        places = {place.path: place for place in contents(target).arrays if self.inventory.get(place.path)
                  == "overwritten by the forward"}
        for place in places.values():
            place.value[...] = place.value + 0.25 * (1 + np.abs(place.value))
        try:
            self._forward(target)
        except Exception:
            self.updated = set()                                      # perhaps a cache of another shape: no weights
            return
        now, none = _arrays(target), np.zeros(0)
        self.updated = {name for name in places if not np.array_equal(after.get(name, none), now.get(name, none),
                                                                      equal_nan=True)}
        self.inventory |= dict.fromkeys(self.updated, "changed by the forward")

    # ---- gradients ----

    def _find_gradients(self):
        """Call the backward once, and set the tensors: pieces of memory with their names and their gradients."""
        self.live = self._copied(self.base)                           # its parameters are perturbed
        forwarded = self._copied(self.base)
        y = self._forward(forwarded)
        target, returned = self._run(self._some_upstream(y))
        self._find_returned(returned)
        found = contents(target)
        claimed = {place.path: self._claims(place, target) for place in (*found.arrays, *found.numbers)}
        changed = [name for name in self.updated if claimed.get(name) and name not in self.constants]
        if changed:
            raise ValueError(f"the forward changes {', '.join(changed)}: found other values after the call, expected "
                             "the same, because it has a gradient and is therefore a parameter, work on a copy, or "
                             f"pass constants=({changed[0]!r},)")
        self._drop_what_the_backward_overwrites(forwarded, target, claimed)
        self.numbers = [place.path for place in contents(self.base).numbers if not place.is_gradient()
                        and place.path not in self.constants
                        and self._is_claimed_number(place, claimed.get(place.path, []), target)]
        self._refuse_orphans(found)
        self._make_tensors(claimed)
        self.inventory |= {place.path: "number without a gradient" for place in contents(self.base).numbers
                           if place.path not in self.numbers}
        self.inventory |= {name: f"not seen: {type(x).__name__}" for name, x in contents(self.base).opaque
                           if not callable(x) and not isinstance(x, np.random.Generator | np.random.RandomState)}
        self.inventory |= dict.fromkeys(self.constants, "constant")

    def _drop_what_the_backward_overwrites(self, before, after, claimed):
        """Take arrays without a gradient that the backward overwrites from the candidates; it may not update weights.

        before, after: the object after a forward, and after the backward too.
        """
        given, old, new = _values(self.base), _values(before), _values(after)
        changed = [name for name, x in given.items() if name in old and name in new and name not in self.constants
                   and (is_number(x) or (name in self.candidates and not claimed.get(name)))
                   and np.array_equal(x, old[name], equal_nan=True)
                   and not np.array_equal(x, new[name], equal_nan=True)]
        updated = [name for name in changed if self._is_read(name)]
        if updated:
            raise ValueError(f"the backward changes {', '.join(updated)}: found other values after the call, expected "
                             "the same, because the forward reads it, let the backward only compute the gradient, and "
                             "update in another method")
        for name in set(changed) & set(self.candidates):
            self.candidates.remove(name)
            self.inventory[name] = "overwritten by the backward"

    def _is_read(self, name):
        """Return whether the forward's result depends on an array or number of the object."""
        changed = self._copied(self.base)
        found = contents(changed)
        place = next(place for place in (*found.arrays, *found.numbers) if place.path == name)
        moved = 1.01 * place.value + 0.01
        if isinstance(place.value, np.ndarray):
            place.value[...] = moved
        else:
            place.value = moved
        try:
            y, other = (self._forward(x) for x in (self._copied(self.base), changed))
            return not np.array_equal(Results(y).real(y), Results(other).real(other))
        except Exception:
            return True

    def _is_claimed_number(self, place, claims, target):
        """Return whether a number is a parameter: the backward made its gradient, and the result depends on it.

        Else it may be a setting: `norm` beside a logged `grad_norm`, or `ecay` beside `decay`.
        """
        before = [g for g in self._claims(place, self.base) if np.shape(g) == ()]
        made = [g for g in claims if _is_gradient_of_a_number(g) and not any(g == other for other in before)]
        if not made or _values(target).get(place.path) != place.value:  # or it is a result, such as the last loss
            return False
        return self._is_read(place.path)

    def _some_upstream(self, y):
        """Return random numbers of the structure of y."""
        results = Results(y)
        return results.structured(np.random.default_rng(0).standard_normal(results.real(y).shape))

    def _run(self, dy):
        """Return a copy of the object after a forward and a backward, and what the backward returned."""
        target = self._copied(self.base)
        self._forward(target)
        return target, self._backward(target, dy)

    def _find_returned(self, returned):
        """Set the numbers among the inputs for which the backward returns a gradient."""
        self.returned_names = [name for name in self.candidates if name not in self.constants]
        gradients = self.inputs.gradients(returned, self.returned_names)
        self.inputs.check_numbers(name for name in self.inputs.numbers if name not in self.constants
                                  and gradients.get(name) is not None)

    def _claims(self, place, target):
        """Return the gradients of a place in an object after its backward."""
        return (self._named_by_the_user(place, target) or self._outermost(place, target) or place.gradients()
                or self._second_of_pair(place) or _by_methods(place, target))

    def _outermost(self, place, target):
        """Return the gradient of a part's parameter in a dict of the target: grads["W"], if only one W exists."""
        if place.depth == 0:
            return []
        short = place.path.rpartition(".")[2]
        keys = [place.path] + ([short] if self._is_unique(short) else [])
        keys += [name for key in keys for name in gradient_names(key)]
        dicts = [d for name in CONTAINERS if isinstance(d := getattr(target, name, None), dict)]
        return [d[key] for d in dicts for key in keys if d.get(key) is not None][:1]

    def _is_unique(self, short):
        """Return whether all candidates whose last name this is are one piece of memory."""
        if short not in self.unique:
            arrays = [p.value for p in contents(self.base).arrays if p.path in self.candidates
                      and p.path.rpartition(".")[2] == short]
            self.unique[short] = all(np.shares_memory(arrays[0], x) for x in arrays[1:])
        return self.unique[short]

    def _second_of_pair(self, place):
        """Return the second of a pair [W, dW] of arrays of one shape, if the backward has changed it."""
        if not isinstance(place, Place) or place.keys[-1:] != (0,) or len(place.keys) < 2:
            return []
        pair = item(getattr(place.owner, place.name), place.keys[:-1])
        if len(pair) != 2 or np.shape(pair[0]) != np.shape(pair[1]):
            return []
        before = _arrays(self.base).get(place.path[:-1] + "1")
        return [] if before is not None and np.array_equal(before, pair[1], equal_nan=True) else [pair[1]]

    def _named_by_the_user(self, place, target):
        """Return the gradient that `gradients=` names: {"weights": "nabla_w"}."""
        for name, other in self.options.gradients.items():
            if place.path == name or place.path.startswith(f"{name}."):
                rest = place.path[len(name) + 1:]
                found = _attribute(target, f"{other}.{rest}" if rest else other)
                return [] if found is None else [found]
        return []

    def _refuse_orphans(self, found):
        """Raise ValueError for gradients in an object, by their names, that belong to no tensor."""
        known = {*self.candidates, *self.numbers, *self.constants, *self.inventory}
        orphans = []
        for prefix, owner in found.owners:
            orphans += [f"{prefix}{name}" for name in _gradients_of_integers(owner)]
            for name in ("grads", "gradients", "_grads"):
                held = getattr(owner, "__dict__", {}).get(name)
                orphans += [f"{prefix}{name}[{key!r}]" for key, g in (held.items() if isinstance(held, dict) else ())
                            if isinstance(key, str) and (is_floating(g) or is_number(g))
                            and not self._is_known(key, known)]
        if orphans:
            raise ValueError(f"gradients of unknown tensors: found {', '.join(orphans)} after the backward, expected a "
                             "parameter of that name in the object, hold it there as a float or an array")

    def _is_known(self, key, names):
        """Return whether a key of a dict of gradients, or what it is the gradient of, is a part of a known name."""
        wanted = {key, *_bases(key)}
        return bool(wanted & {"x", "input", "inputs"}) or any(
            name in wanted or wanted & set(name.split(".")) for name in (*names, *self.inputs.leaf_names))

    def _make_tensors(self, claimed):
        """Set `tensors` {name: array of `live`}, their `aliases`, and `claim_paths`: whose gradients count."""
        places = {place.path: place for place in contents(self.live).arrays}
        arrays = {name: places[name] for name in self.candidates if name in places and name not in self.constants}
        claimed |= {name: claimed.get(name, []) for name in arrays}
        self.tensors: dict[str, np.ndarray] = {}
        self.aliases: dict[str, tuple] = {}
        self.claim_paths: dict[str, list[str]] = {}
        by_id: dict[int, list[str]] = {}
        for name, place in arrays.items():
            by_id.setdefault(id(place.value) if isinstance(place, Place) else id(place.parameter), []).append(name)
        names_of = {id(arrays[names[0]].value): names for names in by_id.values()}
        rows: dict[str, list[str]] = {}
        for group in groups([arrays[names[0]].value for names in by_id.values()]):
            rows |= self._rows_of_group(group, names_of, claimed)
        for name, place in arrays.items():
            if name in rows or not place.value.size:
                self.tensors[name] = place.value
                names = rows.get(name, [name])
                claims = [n for n in names if claimed.get(n)]
                nearest = min((arrays[n].depth for n in claims), default=0)
                self.claim_paths[name] = [n for n in claims if arrays[n].depth == nearest]
                if len(names) > 1:
                    self.aliases[name] = tuple(n for n in names if n != name)
        for name in self.numbers:
            place = next(place for place in contents(self.live).numbers if place.path == name)
            self.tensors[name] = np.array(place.value, dtype=np.result_type(np.float64, type(place.value)))
            self.claim_paths[name] = [name]

    def _rows_of_group(self, group, names_of, claimed):
        """Return {first name: all names} for the tensors of one piece of memory."""
        if len(group) == 1:
            names = names_of[id(group[0])]
            return {names[0]: names}
        start = min(address_range(x)[0] for x in group)
        tensors: dict[bytes, tuple] = {}
        for x in group:
            places = cells(x, start)
            tensors.setdefault(places.tobytes(), (set(places.tolist()), []))[1].extend(names_of[id(x)])
        with_gradient = [(c, names) for c, names in tensors.values() if any(claimed.get(n) for n in names)]
        returned = [(c, names) for c, names in tensors.values() if not any(claimed.get(n) for n in names)]
        covered = set().union(*(c for c, _ in with_gradient)) if with_gradient else set()
        rows = {names[0]: names for c, names in with_gradient}
        for c, names in returned:
            if c <= covered:
                self.inventory |= dict.fromkeys(names, "checked under another name of its memory")
            else:
                rows[names[0]] = names
        for i, (one, names) in enumerate(with_gradient):
            for other, other_names in with_gradient[i + 1:]:
                if one & other and not (one <= other or other <= one):
                    raise TypeError(f"gradients of views that overlap cannot be told apart: found {names[0]} and "
                                    f"{other_names[0]}, which share a part of their memory, expected separate arrays, "
                                    f"store them separately or name one in constants=({names[0]!r},)")
        for x in group:
            if overlaps_itself(x):
                raise TypeError(f"a view that holds an element twice cannot be checked: found {names_of[id(x)][0]}, "
                                "expected an array without such overlap, store a copy")
        return rows

    # ---- the function under test ----

    def function(self) -> FunctionUnderTest:
        """Return the `FunctionUnderTest`."""
        calls = _Calls(self)
        function = FunctionUnderTest(self.inputs.checked, self.tensors, calls.forward, calls.backward, calls.state,
                                     inventory=self.inventory, aliases=self.aliases, claims=lambda: calls.claims,
                                     fixed_dy=None if self._needs_dy() else 1.0)
        if any(len(names) > 1 for names in self.claim_paths.values()):
            calls.preferred = self._preferred(function)
        return replace(function, notes=tuple(self.notes))

    def _preferred(self, function):
        """Return {tensor: name} where gradients lie under several names and differ: the one nearest to the slope."""
        y = function.forward()
        results = Results(y)
        real = as_real(function, results)
        dy = self.options.rng.standard_normal(results.real(y).shape)
        real.backward(dy)
        preferred = {}
        for name, claims in function.claims().items():
            values = list(claims.values())
            if all(g.shape == values[0].shape and np.allclose(g, values[0], 1e-9, 0) for g in values):
                continue
            x = real.tensors[name]
            v = self.options.rng.uniform(0.5, 1.5, x.size)
            slope = central(PerturbedForward(real.forward, x, slice(None), v), 1e-5 * rms(x), dy)
            fits = {n: abs(float(np.sum(np.ravel(g) * v)) - slope) for n, g in claims.items() if g.size == x.size}
            preferred[name] = min(fits, key=fits.__getitem__, default=None)
            self.notes.append(f"the gradients of one array differ: found {' and '.join(claims)}, compared that of "
                              f"{preferred[name]}; use the sum of all contributions")
        return preferred

    def _needs_dy(self):
        """Return whether the backward takes dy."""
        backward = getattr(self.base, self.methods[1])
        return not (required_arguments(backward) == [] and _accepts_nothing(backward))


class _Calls:
    """The calls of an object whose tensors an adapter has found: the forward on perturbed tensors, and the backward.

    claims: {tensor: {name: gradient}} of the last backward, which may leave several. preferred: {tensor: the name whose
    gradient counts}.
    """

    def __init__(self, adapter: ObjectAdapter) -> None:
        self.adapter, self.latest = adapter, adapter.live             # latest: the object after the last backward
        found = contents(adapter.live)
        places = {place.path: place for place in (*found.arrays, *found.numbers)}
        self.bound = [(place, place.value) for name, place in places.items() if name in adapter.candidates]
        self.numbers = [(places[name], adapter.tensors[name]) for name in adapter.numbers]
        self.generators = SameRandomNumbers(found.generators)
        self.claims: dict[str, dict[str, Any]] = {}
        self.preferred: dict[str, str] = {}

    def forward(self) -> Any:
        """Call the forward on the tensors."""
        for place, x in self.bound:                                   # an earlier forward may have assigned a copy
            place.value = x
        for place, x in self.numbers:
            place.value = x[()].item()
        self.generators.reset()
        return self.adapter._forward(self.adapter.live)

    def backward(self, dy: Any) -> dict[str, Any]:
        """Call forward and backward of a new copy, and return {tensor: gradient}."""
        adapter = self.adapter
        self.latest = adapter._copied(adapter.base)
        adapter._forward(self.latest)
        returned = adapter.inputs.gradients(adapter._backward(self.latest, dy), adapter.returned_names)
        found = contents(self.latest)
        places = {place.path: place for place in (*found.arrays, *found.numbers)}
        gradients = {name: returned.get(name) for name in adapter.inputs.checked}
        for name in adapter.tensors:
            claims = self.claims[name] = self._claims_on(name, places, returned)
            gradients[name] = claims.get(self.preferred.get(name, ""), next(iter(claims.values()), None))
        return gradients

    def _claims_on(self, name, places, returned):
        """Return the gradients of a tensor, by the names under which they lie."""
        claims = {n: _carried(claim, places[n].value, places[name].value)
                  for n in (self.adapter.claim_paths[name] or [name]) if n in places
                  for claim in self.adapter._claims(places[n], self.latest)[:1]}
        return claims | ({"the backward's result": returned[name]} if returned.get(name) is not None else {})

    def state(self) -> dict[str, np.ndarray]:
        """Return what must not change: only what is checked, because caches and running means change by themselves."""
        found = _arrays(self.latest)
        return self.adapter.inputs.arrays | {name: found[name] for name in self.adapter.tensors if name in found}


def _arrays(target):
    """Return {path: array} of all arrays in an object."""
    return {place.path: place.value for place in contents(target).arrays}


def _values(target):
    """Return {path: array or number} of all arrays and numbers in an object."""
    found = contents(target)
    return {place.path: place.value for place in (*found.arrays, *found.numbers)}


def _gradients_of_integers(owner):
    """Yield the names of gradients of whole numbers, which cannot be perturbed."""
    held = vars(owner) if hasattr(owner, "__dict__") else {}
    for name, value in held.items():
        if isinstance(value, int) and not isinstance(value, bool):
            yield from (g for g in gradient_names(name) if is_number(held.get(g)) or is_floating(held.get(g)))


def _carried(gradient, view, x):
    """Return a gradient that lies under another view of the memory of x, such as its transpose, in the shape of x."""
    g = np.asarray(gradient)
    if view is x or not isinstance(x, np.ndarray) or not isinstance(view, np.ndarray) or g.shape != view.shape or (
            view.shape == x.shape and view.strides == x.strides) or not np.shares_memory(view, x):
        return g
    start = min(address_range(view)[0], address_range(x)[0])
    order = [np.argsort(cells(a, start, in_order=False), kind="stable") for a in (view, x)]
    carried = np.empty(x.size, g.dtype)
    carried[order[1]] = g.reshape(-1)[order[0]]
    return carried.reshape(x.shape)


def _write(moved, names):
    """Write the random values into the arrays with these names, and the given values into the others."""
    for name, (x, given, random) in moved.items():
        x[...] = random if name in names else given


def _accepts_nothing(function):
    """Return whether a function takes no positional argument at all."""
    try:
        kinds = [p.kind for p in inspect.signature(function).parameters.values()]
    except (TypeError, ValueError):
        return False
    return not any(kind in (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD,
                            inspect.Parameter.VAR_POSITIONAL) for kind in kinds)


def _is_gradient_of_a_number(g):
    """Return whether a gradient is a single number."""
    return np.shape(g) == () and np.asarray(g).dtype.kind in "fciu"


def _bases(name):
    """Yield the names whose gradient may be called `name`."""
    for start in range(len(name)):
        for end in range(start + 1, len(name) + 1):
            if name in gradient_names(name[start:end]):
                yield name[start:end]


def _attribute(target, dotted):
    """Return what a path of attributes and keys leads to; None if there is nothing."""
    for name in dotted.split("."):
        if parts(target) is None:
            target = getattr(target, name, None)
        else:
            target = item(target, (int(name) if name.isdigit() and not isinstance(target, dict) else name,))
    return target


def _by_methods(place, target):
    """Return the gradient that methods such as `parameters()` and `gradients()` of the target give for an array."""
    x = place.value
    if not is_floating(x):
        return []
    for method in _METHODS_FOR_PARAMETERS:
        if has_methods(target, method) and _accepts_nothing(getattr(target, method)):
            found = getattr(target, method)()
            found = list(found.values()) if isinstance(found, dict) else list(found) if found is not None else []
            others = next((getattr(target, name)() for name in _METHODS_FOR_GRADIENTS
                           if has_methods(target, name) and _accepts_nothing(getattr(target, name))), None)
            others = list(others.values()) if isinstance(others, dict) else list(others or [])
            if len(others) == len(found):
                found = list(zip(found, others, strict=True))
            gradients = [p[-1] for p in found if isinstance(p, tuple | list) and len(p) >= 2
                         and isinstance(p[-2], np.ndarray) and _is_same(p[-2], x)]
            if gradients and gradients[0] is not None:
                return gradients[:1]
    return []


def _is_same(a, b):
    """Return whether two arrays are the same memory in the same shape."""
    return a is b or (a.shape == b.shape and a.strides == b.strides and address_range(a) == address_range(b))
