"""`ObjectAdapter`: all that this room finds out about an object, made one `FunctionUnderTest`."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from ..differences import PerturbedForward, central, rms
from ..function import FunctionUnderTest, Results, Trial, as_real
from ..parameters import contents
from ..randomness import SameRandomNumbers
from ..trees import is_number
from .calls import Calls, arrays_of, values_of
from .candidates import Candidates
from .claims import Claims, refuse_orphans
from .rows import carried, nearest, rows


class ObjectAdapter:
    """Makes a `FunctionUnderTest` of an object. The arguments are as for `gradcheck`."""

    def __init__(self, target: Any, methods: tuple[str, str], values: Sequence, options: Any) -> None:
        self.options = options
        self.calls = Calls(target, methods, values, options)
        self.inputs = self.calls.inputs
        with self.inputs.unchanged():
            self.candidates = Candidates(self.calls, options)
            self.base, self.constants = self.candidates.base, self.candidates.constants
            self.notes, self.inventory = self.candidates.notes, self.candidates.inventory
            self.claims = Claims(self.candidates, options.gradients)
            self._find_gradients()

    # ---- the first backward ----

    def _find_gradients(self):
        """Call the backward once, and set the tensors: pieces of memory with their names and their gradients."""
        self.live = self.calls.copied(self.base)                      # its parameters are perturbed
        forwarded = self.calls.copied(self.base)
        y = self.calls.forward(forwarded)
        target, returned = self._run(self._some_upstream(y))
        self._find_returned(returned)
        found = contents(target)
        claimed = {place.path: self.claims.of(place, target) for place in (*found.arrays, *found.numbers)}
        changed = [name for name in self.candidates.updated if claimed.get(name) and name not in self.constants]
        if changed:
            raise ValueError(f"the forward changes {', '.join(changed)}: found other values after the call, expected "
                             "the same, because it has a gradient and is therefore a parameter, work on a copy, or "
                             f"pass constants=({changed[0]!r},)")
        self._drop_what_the_backward_overwrites(forwarded, target, claimed)
        self.numbers = [place.path for place in contents(self.base).numbers if not place.is_gradient()
                        and place.path not in self.constants
                        and self.claims.makes_a_parameter(place, claimed.get(place.path, []), target)]
        names = {*self.candidates.names, *self.numbers, *self.constants, *self.inventory}
        refuse_orphans(found, names, self.inputs.leaf_names)
        self._make_tensors(claimed)
        self._complete_inventory()

    def _some_upstream(self, y):
        """Return random numbers of the structure of y."""
        results = Results(y)
        return results.structured(np.random.default_rng(0).standard_normal(results.real(y).shape))

    def _run(self, dy):
        """Return a copy of the object after a forward and a backward, and what the backward returned."""
        target = self.calls.copied(self.base)
        self.calls.forward(target)
        return target, self.calls.backward(target, dy)

    def _find_returned(self, returned):
        """Set the numbers among the inputs for which the backward returns a gradient."""
        self.returned_names = [name for name in self.candidates.names if name not in self.constants]
        gradients = self.inputs.gradients(returned, self.returned_names)
        self.inputs.check_numbers(name for name in self.inputs.numbers if name not in self.constants
                                  and gradients.get(name) is not None)

    def _drop_what_the_backward_overwrites(self, before, after, claimed):
        """Take arrays without a gradient that the backward overwrites from the candidates; it may not update weights.

        before, after: the object after a forward, and after the backward too.
        """
        given, old, new = values_of(self.base), values_of(before), values_of(after)
        candidates = self.candidates
        changed = [name for name, x in given.items() if name in old and name in new and name not in self.constants
                   and (is_number(x) or (name in candidates.names and not claimed.get(name)))
                   and np.array_equal(x, old[name], equal_nan=True)
                   and not np.array_equal(x, new[name], equal_nan=True)]
        updated = [name for name in changed if candidates.is_read(name)]
        if updated:
            raise ValueError(f"the backward changes {', '.join(updated)}: found other values after the call, expected "
                             "the same, because the forward reads it, let the backward only compute the gradient, and "
                             "update in another method")
        for name in set(changed) & set(candidates.names):
            candidates.drop(name, "overwritten by the backward")

    def _make_tensors(self, claimed):
        """Set `tensors` {name: array of `live`}, their `aliases`, and `claim_paths`: whose gradients count."""
        found = contents(self.live)
        places = {place.path: place for place in found.arrays}
        arrays = {name: places[name] for name in self.candidates.names if name in places
                  and name not in self.constants}
        names_of, under_others = rows(arrays, claimed)
        self.inventory |= dict.fromkeys(under_others, "checked under another name of its memory")
        self.tensors: dict[str, np.ndarray] = {}
        self.aliases: dict[str, tuple] = {}
        self.claim_paths: dict[str, list[str]] = {}
        for name, place in arrays.items():
            if name in names_of or not place.value.size:
                self.tensors[name] = place.value
                names = names_of.get(name, [name])
                self.claim_paths[name] = nearest((n for n in names if claimed.get(n)), arrays)
                if len(names) > 1:
                    self.aliases[name] = tuple(n for n in names if n != name)
        numbers = {place.path: place.value for place in found.numbers}
        for name in self.numbers:
            self.tensors[name] = np.array(numbers[name], dtype=np.result_type(np.float64, type(numbers[name])))
            self.claim_paths[name] = [name]

    def _complete_inventory(self):
        """Add numbers, objects that cannot be looked into, and constants to the inventory."""
        found = contents(self.base)
        self.inventory |= {place.path: "number without a gradient" for place in found.numbers
                           if place.path not in self.numbers}
        self.inventory |= {name: f"not seen: {type(x).__name__}" for name, x in found.opaque
                           if not callable(x) and not isinstance(x, np.random.Generator | np.random.RandomState)}
        self.inventory |= dict.fromkeys(self.constants, "constant")

    # ---- the function under test ----

    def function(self) -> FunctionUnderTest:
        """Return the `FunctionUnderTest`."""
        calls = _CallsOnTensors(self)
        function = FunctionUnderTest(self.inputs.checked, self.tensors, calls.forward, calls.backward, calls.state,
                                     inventory=self.inventory, aliases=self.aliases, claims=lambda: calls.claims,
                                     fixed_dy=None if self.calls.needs_dy() else 1.0)
        if any(len(names) > 1 for names in self.claim_paths.values()):
            calls.preferred = self._preferred(function)
        return replace(function, notes=tuple(self.notes), trial=calls.trial)

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


class _CallsOnTensors:
    """The calls of an object whose tensors an adapter has found: the forward on perturbed tensors, and the backward.

    claims: {tensor: {name: gradient}} of the last backward, which may leave several. preferred: {tensor: the name whose
    gradient counts}.
    """

    def __init__(self, adapter: ObjectAdapter) -> None:
        self.adapter, self.latest = adapter, adapter.live             # latest: the object after the last backward
        found = contents(adapter.live)
        places = {place.path: place for place in (*found.arrays, *found.numbers)}
        self.bound = [(place, place.value) for name, place in places.items() if name in adapter.candidates.names]
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
        return self.adapter.calls.forward(self.adapter.live)

    def backward(self, dy: Any) -> dict[str, Any]:
        """Call forward and backward of a new copy, and return {tensor: gradient}."""
        trial = self.trial()
        self.latest = trial.target
        trial.forward()
        return trial.backward(dy)

    def trial(self, single: bool = False) -> Trial:
        """Return a `Trial` of a new copy."""
        target = self.adapter.calls.copied(self.adapter.base, single)
        generators = SameRandomNumbers(contents(target).generators)

        def forward():
            generators.reset()
            return self.adapter.calls.forward(target)

        return Trial(target, self.adapter.inputs, forward, lambda dy: self._gradients(target, dy))

    def _gradients(self, target, dy):
        """Call the backward of a copy whose forward was called, and return {tensor: gradient}."""
        adapter = self.adapter
        returned = adapter.inputs.gradients(adapter.calls.backward(target, dy), adapter.returned_names)
        found = contents(target)
        places = {place.path: place for place in (*found.arrays, *found.numbers)}
        gradients = {name: returned.get(name) for name in adapter.inputs.checked}
        for name in adapter.tensors:
            claims = self.claims[name] = self._claims_on(name, target, places, returned)
            gradients[name] = claims.get(self.preferred.get(name, ""), next(iter(claims.values()), None))
        return gradients

    def _claims_on(self, name, target, places, returned):
        """Return the gradients of a tensor, by the names under which they lie."""
        claims = {n: carried(claim, places[n].value, places[name].value)
                  for n in (self.adapter.claim_paths[name] or [name]) if n in places
                  for claim in self.adapter.claims.of(places[n], target)[:1]}
        return claims | ({"the backward's result": returned[name]} if returned.get(name) is not None else {})

    def state(self) -> dict[str, np.ndarray]:
        """Return what must not change: only what is checked, because caches and running means change by themselves."""
        found = arrays_of(self.latest)
        return self.adapter.inputs.arrays | {name: found[name] for name in self.adapter.tensors if name in found}
