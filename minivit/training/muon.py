"""Muon: a matrix moves by an orthogonal matrix, the one that lies nearest to the running mean of its gradient.

AdamW sees a matrix as so many numbers. Muon sees what it does, which is to map vectors. With G the gradient of W (I, O):

    m <- beta m + (1 - beta) G                       running mean of the gradient
    u  = beta m + (1 - beta) G                       one step ahead of it (Nesterov)
    W <- W - lr decay W
    W <- W - lr 0.2 sqrt(max(I, O)) orthogonal(u)

where orthogonal(u) = U V^T, if u = U S V^T is the singular value decomposition: the same directions, all of them at full length.

Why. A step D changes the output for an input x by x D, whose length is at most |D|, the largest singular value, times that of x. Of
all steps with |D| <= 1, which lowers the loss most? To first order the loss falls by <G, D> = tr(G^T D), and with G = U S V^T

    tr(G^T D) = tr(S U^T D V) = sum_i S_ii (U^T D V)_ii <= sum_i S_ii        as no entry of U^T D V exceeds |D|

with equality for D = U V^T. A gradient is dominated by few directions; here the rare ones are learned as fast.

U V^T has min(I, O) singular values of 1, so the root of its mean square entry is 1 / sqrt(max(I, O)). The factor makes that 0.2, which
is about what AdamW's steps have, and so one learning rate does for both.

No decomposition is needed. An odd polynomial of a matrix acts on its singular values alone: with A = X X^T,

    a X + b A X + c A^2 X = U (a S + b S^3 + c S^5) V^T

Starting from X = u / |u|_F, whose singular values are at most 1, five rounds with (a, b, c) = (3.4445, -4.7750, 2.0315) bring all that are
not below a hundredth or so to between 0.6 and 1.2: the slope a at zero is made steep at the price of never quite settling at 1, which
does no harm. These are products of small matrices and nothing else.

The map from pixels and the one to the classes are AdamW's, as are biases, norms and positions. Queries, keys and values are made by
three maps, though they lie in one array, and each is orthogonal by itself (`Parameter.maps`).

Source: Jordan et al., "Muon: An optimizer for hidden layers in neural networks", 2024 (the rounds and their coefficients); Liu et al.,
arXiv:2502.16982 (the factor, weight decay); Bernstein and Newhouse, arXiv:2409.20325 (why).
"""

import math
from itertools import pairwise

import numpy as np

from ..lanes import chunks
from .adamw import AdamW

COEFFICIENTS, ROUNDS = (3.4445, -4.7750, 2.0315), 5


def orthogonal(u):
    """u (..., I, O) -> about U V^T, for each matrix u = U S V^T; zero stays zero."""
    if u.shape[-2] > u.shape[-1]:
        return orthogonal(u.swapaxes(-1, -2)).swapaxes(-1, -2)        # A = X X^T is the smaller one
    a, b, c = COEFFICIENTS
    x = u / (np.sqrt((u * u).sum(axis=(-2, -1), keepdims=True)) + np.finfo(u.dtype).tiny)
    for _ in range(ROUNDS):
        A = x @ x.swapaxes(-1, -2)
        x = a * x + (b * A + c * (A @ A)) @ x
    return x


def hidden(parameters):
    """Those of the parameters that are matrices between the first, which reads pixels, and the last, which names classes."""
    matrices = [p for p in parameters if p.decay]
    return [p for p in matrices[1:] if not p.name.startswith("head")]


class Muon(AdamW):
    """Muon for the hidden matrices of one vector of weights, AdamW for all else. Arguments as for `AdamW`; momentum: beta above.

    A hidden matrix keeps its running mean in `m`, and its part of `v` stays zero.
    """

    def __init__(self, vector, parameters, weight_decay=0.05, betas=(0.9, 0.999), eps=1e-8, layers=(), momentum=0.95):
        super().__init__(vector, parameters, weight_decay, betas, eps, layers)
        self.momentum, self.matrices = momentum, {}
        matrices, start = {id(p) for p in hidden(parameters)}, 0
        for p, factor, decay in zip(parameters, self.factors, self.decays, strict=True):
            if id(p) in matrices:
                self.matrices[start] = (p, float(factor), float(decay))
            start += p.size

    def pieces(self):
        """The hidden matrices, each by itself, and what lies between them."""
        edges = sorted({0, self.vector.size, *self.matrices, *(start + p.size for start, (p, _, _) in self.matrices.items())})
        stretches = [slice(a, b) for a, b in pairwise(edges)]
        return [piece for s in stretches for piece in ([s] if s.start in self.matrices else chunks(s.start, s.stop))]

    def update(self, piece, gradients, lr, scale=1.0):
        """As `AdamW.update`, for one of `pieces`."""
        if piece.start not in self.matrices:
            super().update(piece, gradients, lr, scale)
            return
        p, factor, decay = self.matrices[piece.start]
        beta, w, m, g = self.momentum, self.vector[piece], self.m[piece], gradients[piece]
        m *= beta
        m += (1 - beta) * scale * g
        u = (beta * m + (1 - beta) * scale * g).reshape(-1, p.maps, p.shape[-1] // p.maps).swapaxes(0, 1)      # (maps, I, O)
        step = 0.2 * math.sqrt(max(u.shape[1:])) * orthogonal(u)
        w *= 1 - lr * factor * decay
        w -= (lr * factor * step.swapaxes(0, 1)).reshape(-1)
