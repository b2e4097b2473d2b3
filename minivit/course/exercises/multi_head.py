"""Exercise 9, multi_head: several attentions side by side, each on its own part of a token. About 25 minutes.

One softmax expresses one kind of relation between tokens. So a Vision Transformer runs h attentions side by side, the
*heads*. Each reads d = D / h numbers of a token. A linear map makes queries, keys and values, another one mixes the
results of the heads:

    qkv = x qkv.weight + qkv.bias                 (B, N, 3 D): D numbers of the query, then the key, then the value
    q, k, v = the three parts of qkv              (B, N, D) each; cut each one into h heads: (B, h, N, d)
    y   = attention(q, k, v)                      (B, h, N, d); head 0 has the first d of the D numbers, and so on
    y   = the heads side by side again            (B, N, D)
    y   = y proj.weight + proj.bias

(B, N, D) becomes (B, h, N, d) by a reshape to (B, N, h, d) and an exchange of two axes. A reshape to (B, h, N, d) alone
would mix tokens and heads.

Backward. Go through the lines from the last to the first. What cuts and joins arrays has a backward that joins and cuts
them again.
"""

import numpy as np

from minivit.course.earlier import attention, linear


def forward(x, p, heads):
    """x (B, N, D), p: qkv.weight (D, 3 D), qkv.bias, proj.weight (D, D), proj.bias -> y (B, N, D), cache."""
    raise NotImplementedError("write forward, and remove this line")


def backward(dy, cache):
    """dy (B, N, D), and the cache -> dx (B, N, D), and a dictionary with the gradient of each parameter."""
    raise NotImplementedError("write backward, and remove this line")
