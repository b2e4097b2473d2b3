"""What a Vision Transformer computes, and why it is built this way. Each chapter answers one question with code.

    symmetry          what a layer preserves when its input is permuted or shifted
    receptive         which pixels an output depends on, measured with its gradient
    attention_maps    attention maps, rollout, distances, and how much of the weights depends on the image
    one_class         which patches and pixels raise the logit of one class
    filters           what the patch embedding and the positions have learned
    cost              why pixels are too many tokens
    layer_trace       shapes, parameters, FLOPs and gradient norms of every layer (`minivit trace`)
    partial_models    layers in a row, or a model up to one of its blocks, for the chapters above

The folder `tour` makes the page of `minivit tour`: one image through a model, forward and backward. The folder `tools`
holds what uses the chapters: `symmetry_theorems` (each symmetry with its measured error),
`attention_report` (`minivit attend`), `study` (a table of runs), `trend` (statistics of such a table) and `plots`
(figures). Each question has a script in `demos/`.
"""

from .attention_maps import attention_grids, attention_probabilities, mean_distance, readout_maps, rollout, variation
from .filters import position_similarity, principal_filters
from .layer_trace import Trace, trace
from .one_class import class_relevance, gradient_times_input
from .partial_models import FirstBlocks, Sequential, with_all_tokens
from .receptive import extent, receptive_field, spread
from .symmetry import equivariance_error, permute_patches, permute_tokens, shift, shift_tokens, unchanged
from .tools.study import Study

__all__ = ["FirstBlocks", "Sequential", "Study", "Trace", "attention_grids", "attention_probabilities",
           "class_relevance", "equivariance_error", "extent", "gradient_times_input", "mean_distance",
           "permute_patches", "permute_tokens", "position_similarity", "principal_filters", "readout_maps",
           "receptive_field", "rollout", "shift", "shift_tokens", "spread", "trace", "unchanged", "variation",
           "with_all_tokens"]
