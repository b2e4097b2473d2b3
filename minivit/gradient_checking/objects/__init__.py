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

Read in this order: `calls` (how the object is copied and called), `candidates` (steps 1 and 2), `claims` (step 3: which
gradients belong to what), `rows` (pieces of memory with their names), `adapter` (all of it, made a function under
test).
"""

from .adapter import ObjectAdapter
from .calls import CACHE_NAMES, METHODS
from .candidates import kept_note, randomised, settled

__all__ = ["CACHE_NAMES", "METHODS", "ObjectAdapter", "kept_note", "randomised", "settled"]
