"""Exercise 7, embedding: patches become tokens, the class token joins, and positions are added. About 15 minutes.

A linear map makes a *token*, a row of D numbers, of each patch. One more token comes first: the *class token*. It is
learned and the same for every image. Later it collects what the classifier needs. The next operations do not know the
order of the tokens, so a learned row of numbers is added to each place: the *positions*.

    x    = patches proj.weight + proj.bias                      (B, M, D)
    y[b] = [cls_token; x[b, 0]; ...; x[b, M-1]] + pos_embed     (B, N, D), N = M + 1

Now there are many parameters, so they come in a dictionary p, by name. `backward` returns a dictionary of gradients
with the same names. The linear map is an earlier step: call `linear.forward` and `linear.backward`.

Backward. Stacking and adding pass dy on unchanged. cls_token and pos_embed act on all images of the batch.
"""

import numpy as np

from minivit.course.earlier import linear


def forward(patches, p):
    """patches (B, M, I), p: proj.weight (I, D), proj.bias, cls_token (D,), pos_embed (N, D) -> y (B, N, D), cache."""
    raise NotImplementedError("write forward, and remove this line")


def backward(dy, cache):
    """dy (B, N, D), and the cache -> dpatches (B, M, I), and a dictionary with the gradient of each parameter."""
    raise NotImplementedError("write backward, and remove this line")
