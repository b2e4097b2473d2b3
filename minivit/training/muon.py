"""Muon: a matrix moves by an orthogonal matrix, the one that lies nearest to the running mean of its gradient.

AdamW sees a matrix as so many numbers. Muon sees what it does, which is to map vectors. With G the gradient of W (I, O):

    m <- beta m + (1 - beta) G                       running mean of the gradient
    u  = beta m + (1 - beta) G                       one step ahead of it (Nesterov)
    W <- W - lr decay W
    W <- W - lr 0.2 sqrt(max(I, O)) orthogonal(u)

where orthogonal(u) = U V^T, if u = U S V^T is the singular value decomposition: the same directions, all of them at full length.

Why. A step W <- W - E changes the output for an input x by x E, whose length is at most |E|, the largest singular value (the spectral
norm), times that of x. Of all steps with |E| <= 1, which lowers the loss most? To first order the loss falls by <G, E> = tr(G^T E), and
with G = U S V^T

    tr(G^T E) = tr(S U^T E V) = sum_i S_ii (U^T E V)_ii <= sum_i S_ii        as no entry of U^T E V exceeds |E|

with equality for E = U V^T. A gradient is dominated by few directions; here the rare ones are learned as fast.

U V^T has min(I, O) singular values of 1, so the root of its mean square entry is 1 / sqrt(max(I, O)). The factor makes that 0.2, which
is about what AdamW's steps have, and so one learning rate does for both.

No decomposition is needed: a Newton-Schulz iteration does. An odd polynomial of a matrix acts on its singular values alone: with A = X X^T,

    P X = (a I + b A + c A^2) X = U (a S + b S^3 + c S^5) V^T

Starting from X = u / |u|_F, whose singular values are at most 1, five rounds with (a, b, c) = (3.4445, -4.7750, 2.0315) bring all from
0.01 to 1 to between 0.68 and 1.14: the slope a at zero is steep at the price of never quite settling at 1, which does no
harm. A round takes X to P X, and so A to P A P. All five need only the small square A, and X comes in once, at the end:

    orthogonal(u) = P_5 P_4 P_3 P_2 P_1 X

so matrices whose smaller sides are equal, whatever their larger ones, go through the rounds together, in one call for each product.

The map from pixels and the one to the classes are AdamW's, as are biases, norms and positions. Queries, keys and values are made by
three maps, though they lie in one array, and each is orthogonal by itself (`Parameter.maps`). A kernel (k, k, C, D) is the matrix
(k k C, D) of its convolution.

Source: Jordan et al., "Muon: An optimizer for hidden layers in neural networks", 2024 (the rounds and their coefficients); Liu et al.,
arXiv:2502.16982 (the factor, weight decay); Bernstein and Newhouse, arXiv:2409.20325 (why).
"""

import math

import numpy as np

from ..parallel.batch_split import CHUNK, chunks
from .adamw import AdamW

COEFFICIENTS, ROUNDS = (3.4445, -4.7750, 2.0315), 5


def orthogonal(matrices):
    """Matrices u (I, O), whose smaller sides are all d -> about U V^T for each u = U S V^T, in a list; zero stays zero."""
    tiny = np.finfo(matrices[0].dtype).tiny
    wide = [u if u.shape[0] <= u.shape[1] else u.T for u in matrices]
    wide = [x / (np.abs(x).max() + tiny) for x in wide]               # first, so that no square is too small for its dtype
    A = np.stack([x @ x.T for x in wide])                             # (n, d, d)
    squares = np.trace(A, axis1=1, axis2=2)[:, None, None] + tiny     # |x|_F^2
    A /= squares
    product = P = _polynomial(A)
    for _ in range(ROUNDS - 1):
        A = P @ A @ P
        P = _polynomial(A)
        product = P @ product
    product /= np.sqrt(squares)
    return [p @ x if u.shape[0] <= u.shape[1] else (p @ x).T for p, x, u in zip(product, wide, matrices, strict=True)]


def _polynomial(A):
    """A (n, d, d) -> a I + b A + c A^2."""
    a, b, c = COEFFICIENTS
    P = A @ A
    P *= c
    P += b * A
    P.reshape(len(P), -1)[:, ::A.shape[-1] + 1] += a                  # the diagonals
    return P


def hidden(parameters):
    """Those of the parameters that are matrices between the first, which reads pixels, and the last, which names classes."""
    matrices = [p for p in parameters if p.decay]
    return [p for p in matrices[1:] if not p.name.startswith("head")]


class Matrix:
    """One map of a hidden matrix, as views (I, O) of the vector of weights and of the running means; and its settings."""

    def __init__(self, view, vector, m, factor, decay):
        self.view, self.factor, self.decay = view, float(factor), float(decay)
        self.w, self.m = view(vector), view(m)
        self.scale = 0.2 * math.sqrt(max(self.w.shape))

    def ahead(self, gradients, scale, beta):
        """Take the gradient into the running mean -> u above (I, O)."""
        g = ((1 - beta) * scale) * self.view(gradients)
        self.m *= beta
        self.m += g
        g += beta * self.m
        return g


class Muon(AdamW):
    """Muon for the hidden matrices of one vector of weights, AdamW for all else. Arguments as for `AdamW`; momentum: beta above.

    A hidden matrix keeps its running mean in `m`, and its part of `v` stays zero.
    """

    def __init__(self, vector, parameters, weight_decay=0.05, betas=(0.9, 0.999), eps=1e-8, layers=(), momentum=0.95):
        super().__init__(vector, parameters, weight_decay, betas, eps, layers)
        self.momentum = momentum
        ours, start, others = {id(p) for p in hidden(parameters)}, 0, []
        by_side: dict[int, list] = {}
        for p, factor, decay in zip(parameters, self.factors, self.decays, strict=True):
            if id(p) in ours:
                for view in _maps(p, start):
                    matrix = Matrix(view, vector, self.m, factor, decay)
                    by_side.setdefault(min(matrix.w.shape), []).append(matrix)
            else:
                others += chunks(start, start + p.size)
            start += p.size
        self._groups = [group for side, matrices in by_side.items() for group in _grouped(matrices, lambda _, side=side: side * side)]
        self._groups += _grouped(others, lambda part: part.stop - part.start)

    def pieces(self):
        """The hidden matrices in groups of one smaller side, and all else in groups of slices."""
        return self._groups

    def update(self, piece, gradients, lr, scale=1.0):
        """As `AdamW.update`, for one of `pieces`."""
        if isinstance(piece[0], slice):
            for part in piece:
                super().update(part, gradients, lr, scale)
            return
        ahead = [matrix.ahead(gradients, scale, self.momentum) for matrix in piece]
        for matrix, step in zip(piece, orthogonal(ahead), strict=True):
            matrix.w *= 1 - lr * matrix.factor * matrix.decay
            matrix.w -= (lr * matrix.factor * matrix.scale) * step


def _grouped(items, size):
    """Neighbours in groups; a small model's are one, because threads would wait for each other's short calls. size: of an item."""
    groups: list[list] = []
    room = 0
    for item in items:
        if room <= 0:
            groups.append([])
            room = 2 * CHUNK
        groups[-1].append(item)
        room -= size(item)
    return groups


def _maps(p, start):
    """The maps that lie side by side in a parameter at `start`: functions vector -> view (I, O) of it."""
    width = p.shape[-1] // p.maps

    def at(k):
        return lambda vector: vector[start:start + p.size].reshape(-1, p.shape[-1])[:, k * width:(k + 1) * width]

    return [at(k) for k in range(p.maps)]
