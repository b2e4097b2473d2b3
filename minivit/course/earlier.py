"""The earlier steps, for the exercises that build on them: `from minivit.course.earlier import linear, part`.

A step is called as in its exercise, for example `linear.forward(x, weight, bias)`. While an exercise is checked, all
steps are the references of this project, so that a mistake is found in the file that has it. While a model is trained
(`minivit learn train`), they are the learner's own, for the files that were passed.
"""

from .references import (
    attention,
    block,
    cross_entropy,
    embedding,
    gelu,
    head,
    layer_norm,
    linear,
    mlp,
    multi_head,
    part,
    patches,
    prefixed,
    softmax,
)

__all__ = ["attention", "block", "cross_entropy", "embedding", "gelu", "head", "layer_norm", "linear", "mlp",
           "multi_head", "part", "patches", "prefixed", "softmax"]
