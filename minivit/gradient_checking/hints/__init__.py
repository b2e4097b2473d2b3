"""Recognise common mistakes in a wrong gradient. Each recogniser describes one pattern in a sentence, or returns None.

The evidence is a sample of the wrong tensor, measured again. A pattern counts if it explains all but a hundredth of the
difference between the numeric and the analytic gradient. A hint is no proof.

Read in this order: `evidence` (what a recogniser may ask), `causes` (a gradient that is zero, ignores dy, or sums too
little), `factors`, `places` (the right numbers in the wrong places) and `terms` (a missing mean, or a wrong slope).
"""

from typing import Any

import numpy as np

from . import causes, factors, places, terms
from .evidence import Evidence

_RECOGNISERS = (causes.not_finite, causes.not_measured, causes.one_of_several_contributions, causes.zero,
                causes.ignores_dy, causes.should_be_zero, factors.constant, places.moved, causes.exchanged,
                places.right_numbers, causes.mixed_images, terms.weight_not_transposed, terms.multiple_of_a_tensor,
                factors.tensor, terms.of_a_norm, terms.of_a_softmax, factors.by_group, terms.along_groups,
                terms.weight_after_mean, terms.of_a_sum, places.not_computed, causes.part_of_dy, places.confined,
                places.zero_outside, terms.entry_by_entry, places.scattered)


def hint_for(comparer: Any, name: str, index: int | None, rng: np.random.Generator) -> str:
    """Return a hint on the mistake in a wrong tensor, or an empty string.

    index: flat index of a wrong entry; None for a direction.
    """
    evidence = Evidence(comparer, name, index, rng)
    with np.errstate(all="ignore"):
        return next((found for recognise in _RECOGNISERS if (found := _said_by(recognise, evidence))), "")


def _said_by(recognise, evidence):
    """Return the recogniser's hint; None if the user's code raises."""
    try:
        return recognise(evidence)
    except Exception:                                                 # the report is complete without a hint
        return None
