"""What a Vision Transformer does, and why it is built so: questions that are answered by running code.

    symmetry    what a layer keeps when its input is permuted or shifted; `theorems`, each with its error
    receptive   how far an output sees, by its gradient
    attention   where the tokens look: maps, rollout, distances, and how much of it depends on the picture
    filters     what the first layer and the positions have learned
    cost        what pixels as tokens would cost
    study       questions that take many runs, and a table of their results; `trend`, what such a table shows

These give numbers; `plots` draws them. Each question has a script in `demos/`.
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
