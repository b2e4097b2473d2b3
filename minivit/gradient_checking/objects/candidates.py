"""The arrays of an object that may be parameters: those that it had, or kept, and that no forward overwrites."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from ..function import Results
from ..inputs import matched_names
from ..memory import address_range
from ..parameters import Place, contents
from ..trees import is_floating, is_number, leaves
from .calls import Calls, arrays_of, values_of


def randomised(value: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return random values of the size of `value`; matrices scaled by their fan-in, so that nothing saturates."""
    spread = 1 / math.sqrt(max(value.shape[0], 1)) if value.ndim > 1 else 0.5
    noise = spread * rng.standard_normal(value.shape)
    return np.asarray(value + (noise + 1j * spread * rng.standard_normal(value.shape) if value.dtype.kind == "c"
                               else noise))


class Candidates:
    """The candidates of an object, by trying.

    base: the object with random parameters, before any forward. names: the paths of the candidates in it. constants:
    names of inputs and parameters that the user says to be constants. updated: arrays that the forward overwrites with
    values that depend on the old ones. inventory: {name: why it is no candidate}. notes: for the report.
    """

    def __init__(self, calls: Calls, options: Any) -> None:
        self.calls, self.options = calls, options
        self.notes: list[str] = []
        self.inventory: dict[str, str] = {}
        self.updated: set[str] = set()
        self._find()
        self._clear_gradients()
        self._randomise()
        self._drop_what_the_forward_overwrites()
        self._find_updated()

    def _find(self):
        """Set `base`, the `names` of all that the object had or kept, the constants and what keeps its values."""
        calls, target = self.calls, self.calls.target
        before = set(values_of(target))
        used = calls.copied(target)
        calls.first_forward(used)
        made = {name: x for name, x in arrays_of(used).items() if name not in before}
        lazy = self._kept_by_a_forward(used, made) if made else set()
        self.base = calls.copied(used) if lazy else target
        places = [place for place in contents(self.base).arrays if place.path in before | lazy]
        self.names = [place.path for place in places if not place.is_gradient()]
        self.inventory |= {place.path: "gradient" for place in places if place.is_gradient()}
        known = [*calls.inputs.leaf_names, *values_of(self.base)]
        self.constants = matched_names("constant", self.options.constants, known)
        self.kept = matched_names("parameter to keep", self.options.keep, known)

    def _kept_by_a_forward(self, target, made):
        """Return the paths of arrays that a second forward leaves alone: no results, but weights."""
        memory = [address_range(x) for x in self.calls.inputs.arrays.values() if x.size]
        self.calls.forward(target)
        after = arrays_of(target)
        return {name for name, x in made.items() if name in after and after[name] is x
                and not any(start < address_range(x)[1] and address_range(x)[0] < end for start, end in memory)}

    def _clear_gradients(self):
        """Set the gradients that the object holds to zero, so that a backward may add to them."""
        for place in contents(self.base).arrays:
            if place.is_gradient() and isinstance(place, Place) and place.value.flags.writeable:
                place.value[...] = 0

    # ---- random values ----

    def _randomise(self):
        """Give the candidates random values; where the forward fails on them, leave some at their given values."""
        rng = self.options.rng
        places = {place.path: place for place in contents(self.base).arrays}
        fixed = [places[name].value for name in self.constants | self.kept if name in places]
        moved = {name: (x := places[name].value, x.copy(), randomised(x, rng)) for name in self.names
                 if not any(np.shares_memory(places[name].value, other) for other in fixed)}
        if kept := settled(moved, self._works):
            self.notes.append(kept_note(kept))

    def _works(self):
        """Return whether the forward of a copy returns finite numbers."""
        try:
            with np.errstate(all="ignore"):
                y = self.calls.forward(self.calls.copied(self.base))
            return all(np.isfinite(leaf).all() for _, leaf in leaves(y) if is_floating(leaf) or is_number(leaf))
        except Exception:
            return False

    # ---- what the forward overwrites, and what it reads ----

    def _drop_what_the_forward_overwrites(self):
        """Take arrays that the forward overwrites from the candidates: results, caches and running means."""
        target = self.calls.copied(self.base)
        before = {name: x.copy() for name, x in arrays_of(target).items()}
        self.calls.forward(target)
        self.after = arrays_of(target)
        for name in list(self.names):
            if name not in self.after or not np.array_equal(before[name], self.after[name], equal_nan=True):
                self.drop(name, "overwritten by the forward")

    def _find_updated(self):
        """Set `updated`: the overwritten arrays whose new values depend on the old ones, such as a running mean."""
        target = self.calls.copied(self.base)
        places = {place.path: place for place in contents(target).arrays if self.inventory.get(place.path)
                  == "overwritten by the forward"}
        for place in places.values():
            place.value[...] = place.value + 0.25 * (1 + np.abs(place.value))
        try:
            self.calls.forward(target)
        except Exception:
            return                                                    # perhaps a cache of another shape: no weights
        now, none = arrays_of(target), np.zeros(0)
        self.updated = {name for name in places if not np.array_equal(self.after.get(name, none), now.get(name, none),
                                                                      equal_nan=True)}
        self.inventory |= dict.fromkeys(self.updated, "changed by the forward")

    def drop(self, name: str, why: str) -> None:
        """Take a name from the candidates."""
        self.names.remove(name)
        self.inventory[name] = why

    def is_read(self, name: str) -> bool:
        """Return whether the forward's result depends on an array or number of the object."""
        changed = self.calls.copied(self.base)
        found = contents(changed)
        place = next(place for place in (*found.arrays, *found.numbers) if place.path == name)
        moved = 1.01 * place.value + 0.01
        if isinstance(place.value, np.ndarray):
            place.value[...] = moved
        else:
            place.value = moved
        try:
            y, other = (self.calls.forward(x) for x in (self.calls.copied(self.base), changed))
            return not np.array_equal(Results(y).real(y), Results(other).real(other))
        except Exception:
            return True


def settled(moved: dict[str, tuple], works: Callable[[], bool]) -> list[str]:
    """Give parameters random values, and return the names of those that stay at their given ones.

    moved: {name: (array, given values, random values)}. works: whether the forward works at the values of the arrays.
    """
    def write(names):
        for name, (x, given, random) in moved.items():
            x[...] = random if name in names else given

    write(moved)
    if not moved or works():
        return []
    write(())
    if not works():
        return []                                                     # not the fault of the random values
    kept = []
    for name in moved:
        write([name])
        kept += [] if works() else [name]
    write([name for name in moved if name not in kept])
    if not works():
        kept = list(moved)
        write(())
    return kept


def kept_note(kept: list[str]) -> str:
    """Return the note on parameters that stay at their given values."""
    return (f"{', '.join(kept)}: at the given values, because the forward fails or returns NaN at random ones; "
            f"keep={kept if len(kept) < 4 else [*kept[:3], '...']} says so beforehand")
