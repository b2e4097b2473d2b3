"""What a function finds elsewhere than in its arguments: the variables around it, and the object that it belongs to."""

import functools
import inspect
from typing import Any


def held_by(function: Any) -> list[Any]:
    """Return what a function, method or callable object uses besides its arguments, as far as Python shows it.

    That is the attributes of its object, the arguments of a `functools.partial`, and the variables of the enclosing
    functions and of the module that its code names. Functions that it calls are not searched.
    """
    function = inspect.unwrap(function)
    held: list[Any] = []
    if isinstance(function, functools.partial):
        return [*function.args, *function.keywords.values(), *held_by(function.func)]
    owner = function.__self__ if inspect.ismethod(function) else None if inspect.isroutine(function) else function
    if owner is not None:
        held += getattr(owner, "__dict__", {}).values()
        function = type(owner).__call__ if owner is function else function
    try:
        found = inspect.getclosurevars(function)
    except TypeError:                                                 # no function of Python
        return held
    return [*held, *found.nonlocals.values(), *found.globals.values()]
