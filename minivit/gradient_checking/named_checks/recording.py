"""What the parts of an object compute while the whole runs: their inputs, results and upstream gradients.

A *part* is an object with a forward and a backward that another object holds, directly, in a list, or in a part of its
own. To watch a part, its class is replaced by a subclass whose forward and backward are recorded, and then call the
original. That also works for `__call__` and for objects with slots, where assigning a method to the object would not.
"""

import types
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..objects import METHODS
from ..parameters import attributes, has_methods
from ..trees import leaves, mapped

_NO_OBJECTS = (type, types.FunctionType, types.MethodType, types.BuiltinFunctionType, types.ModuleType, np.ndarray, str,
               int, float)


@dataclass
class Call:
    """One forward of a part, and the backward that answered it.

    path: of the part. args, keywords: of the forward, as copies. upstream: arguments of the backward; None if it was
    not called. returned: number of gradients that the backward returned.
    """

    path: str
    args: tuple
    keywords: dict[str, Any]
    y: Any = None
    upstream: tuple | None = None
    returned: int = 0


@dataclass
class Recording:
    """The calls of all parts, in the order of their forwards. tap: (number of a call, function of its result)."""

    calls: list[Call] = field(default_factory=list)
    answered: list[Call] = field(default_factory=list)                # in the order of their backwards
    tap: tuple[int, Any] | None = None
    active: set[int] = field(default_factory=set)

    def forward(self, part: Any, path: str, original: Any, args: tuple, keywords: dict) -> Any:
        """Call a forward, and record it."""
        if id(part) in self.active:                                   # __call__ calls forward
            return original(part, *args, **keywords)
        call = Call(path, _copied(args), _copied(keywords))
        number = len(self.calls)
        self.calls.append(call)
        self.active.add(id(part))
        try:
            y = original(part, *args, **keywords)
        finally:
            self.active.discard(id(part))
        if self.tap is not None and self.tap[0] == number:
            y = self.tap[1](y)
        call.y = _copied(y)
        return y

    def backward(self, part: Any, path: str, original: Any, args: tuple, keywords: dict) -> Any:
        """Call a backward, and record its arguments with the last forward of the part that has no backward yet."""
        if id(part) in self.active:
            return original(part, *args, **keywords)
        call = next((call for call in reversed(self.calls) if call.path == path and call.upstream is None), None)
        upstream = _copied((*args, *keywords.values()))
        self.active.add(id(part))
        try:
            returned = original(part, *args, **keywords)
        finally:
            self.active.discard(id(part))
        if call is not None:
            call.upstream = upstream
            call.returned = len(returned) if isinstance(returned, tuple | list) else int(returned is not None)
            self.answered.append(call)
        return returned


def parts_of(target: Any) -> Iterator[tuple[str, Any]]:
    """Yield the pairs (path, part) of the parts of an object, outer ones first. A path is an expression of Python."""
    seen = {id(target)}

    def walk(owner, prefix):
        for name, value in list(attributes(owner).items()):
            for keys, leaf in list(leaves(value)):
                has_attributes = hasattr(leaf, "__dict__") or hasattr(type(leaf), "__slots__")
                if id(leaf) in seen or isinstance(leaf, _NO_OBJECTS) or not has_attributes:
                    continue
                seen.add(id(leaf))
                path = prefix + name + "".join(f"[{key!r}]" for key in keys)
                if methods_of(leaf):
                    yield path, leaf
                yield from walk(leaf, f"{path}.")

    yield from walk(target, "")


def methods_of(part: Any) -> tuple[str, str] | None:
    """Return the names of the forward and the backward of a part."""
    return next((names for names in METHODS if has_methods(part, *names)), None)


def record(target: Any, tap: tuple[int, Any] | None = None) -> Recording:
    """Record the parts of an object from now on."""
    recording = Recording(tap=tap)
    for path, part in parts_of(target):
        names = [pair for pair in METHODS if has_methods(part, *pair)]
        _watch(part, path, recording, {pair[0] for pair in names}, {pair[1] for pair in names})
    return recording


def _watch(part, path, recording, forwards, backwards):
    """Replace the class of a part by a subclass that records."""
    cls = type(part)

    def watched(name, record):
        original = getattr(cls, name)

        def method(self, *args, **keywords):
            return record(self, path, original, args, keywords)

        vars(method)["__wrapped__"] = original                        # so inspect sees the original's arguments
        method.__name__ = name
        return method

    methods = {name: watched(name, recording.forward) for name in forwards if hasattr(cls, name)}
    methods |= {name: watched(name, recording.backward) for name in backwards if hasattr(cls, name)}
    try:
        object.__setattr__(part, "__class__", type(cls.__name__, (cls,), {"__slots__": (), **methods}))
    except TypeError:                                                 # a class of C, or one that forbids subclasses
        return


def _copied(tree):
    """Return a tree with copies of its arrays."""
    return mapped(lambda _, x: x.copy() if isinstance(x, np.ndarray) else x, tree)
