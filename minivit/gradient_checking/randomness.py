"""Random numbers in a forward, such as those of dropout: the same ones in every call.

A slope compares two calls of the forward, and the backward belongs to one call. So all calls must draw the same random
numbers. Before each, the states of the generators are set back: of NumPy's and Python's global ones, of those that the
target holds, and of those that the user names. Afterwards the global generators continue as if nothing had happened.
"""

import pickle
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np


def _access(generator: Any) -> tuple[Callable, Callable]:
    """Return the functions that read and set the state of a generator."""
    if isinstance(generator, np.random.Generator):
        bits = generator.bit_generator
        return (lambda: bits.state), (lambda state: setattr(bits, "state", state))
    if hasattr(generator, "get_state"):
        return generator.get_state, generator.set_state
    if hasattr(generator, "getstate"):
        return generator.getstate, generator.setstate
    raise TypeError(f"wrong rng: found {type(generator).__name__}, expected a random generator of NumPy or Python, "
                    "such as np.random.default_rng(0)")


class SameRandomNumbers:
    """Sets generators back to the state that they had at first; as a context, also at its end."""

    def __init__(self, generators: Iterable[Any]) -> None:
        self.accesses = [_access(generator) for generator in generators]
        self.states = [read() for read, _ in self.accesses]

    def reset(self) -> None:
        """Set all generators back."""
        for (_, write), state in zip(self.accesses, self.states, strict=True):
            write(state)

    def moved(self) -> bool:
        """Return whether any generator has drawn a number since."""
        return any(pickle.dumps(read()) != pickle.dumps(state)
                   for (read, _), state in zip(self.accesses, self.states, strict=True))

    def __enter__(self) -> "SameRandomNumbers":
        return self

    def __exit__(self, *_: object) -> None:
        self.reset()
