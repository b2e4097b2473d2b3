"""Questions about Vision Transformers, answered by running code.

    symmetry    what a layer preserves when its input is permuted or shifted
    receptive   which pixels an output depends on
    attention   where the tokens look: maps, rollout, distances, and how much of it depends on the image
    filters     what the first layer and the positions have learned
    cost        what attention among pixels would cost

These chapters compute numbers. `tools/` has the rest: `study` runs many trainings and keeps a table, `trend` analyses
it, `theorems` measures each symmetry, and `plots` draws figures. Each question has a script in `demos/`.
"""

from .attention import attention_probabilities, mean_distance, readout_maps, rollout, variation
from .filters import position_similarity, principal_filters
from .partial_models import FirstBlocks, Sequential, with_all_tokens
from .receptive import extent, receptive_field, spread
from .symmetry import equivariance_error, permute_patches, permute_tokens, shift, shift_tokens, unchanged
from .tools.study import Study

__all__ = ["FirstBlocks", "Sequential", "Study", "attention_probabilities", "equivariance_error", "extent",
           "mean_distance", "permute_patches",
           "permute_tokens", "position_similarity", "principal_filters", "readout_maps", "receptive_field", "rollout",
           "shift",
           "shift_tokens", "spread", "unchanged", "variation", "with_all_tokens"]
