"""Exercise 5, cross_entropy: the loss, how surprised the model is by the right answer. About 20 minutes.

A classifier gives each image one score per class, the *logits*. The softmax turns them into probabilities p. The
*target* t says what they should be, for example 1 for the right class and 0 for the others. The sum of each row of t
is 1. The loss is a single number, a mean over the B images:

    p    = softmax(logits)                                        (B, K)
    loss = (1/B) sum over b and k of  -t[b, k] log p[b, k]

A probability may be so small that it rounds to 0, and log 0 is infinite. So compute log p without p:

    log p = z - log(sum over k of exp(z_k))        z = logits - the largest logit of the row

Backward. The loss is one number, so its gradient `dloss` is one number too. From the line above

    d log p_k / d z_j = delta_kj - p_j             delta_kj is 1 if k = j, else 0

Multiply by -t_k / B, add over k, and use that the t_k of a row add up to 1. (The gradient of the logits equals the
gradient of z.) Do not forget the factor dloss.
"""

import numpy as np


def forward(logits, t):
    """logits (B, K), targets t (B, K) -> the loss, one number, and the cache."""
    raise NotImplementedError("write forward, and remove this line")


def backward(dloss, cache):
    """dloss, one number, and the cache -> dlogits (B, K)."""
    raise NotImplementedError("write backward, and remove this line")
