"""Muon: a matrix moves by an orthogonal matrix, the one that lies nearest to the running mean of its gradient.

AdamW sees a matrix as so many numbers. Muon sees what it does, which is to map vectors. With G the gradient of W (I, O):

    m <- beta m + (1 - beta) G                       running mean of the gradient
    u  = beta m + (1 - beta) G                       one step ahead of it (Nesterov)
    W <- W - lr decay W
    W <- W - lr 0.2 sqrt(max(I, O)) orthogonal(u)

where orthogonal(u) = U V^T, if u = U S V^T is the singular value decomposition: the same directions, all of them at full length.

Why. A step W <- W - D changes the output for an input x by x D, whose length is at most |D|, the largest singular value, times that of
x. Of all steps with |D| <= 1, which lowers the loss most? To first order the loss falls by <G, D> = tr(G^T D), and with G = U S V^T

    tr(G^T D) = tr(S U^T D V) = sum_i S_ii (U^T D V)_ii <= sum_i S_ii        as no entry of U^T D V exceeds |D|

with equality for D = U V^T. A gradient is dominated by few directions; here the rare ones are learned as fast.

U V^T has min(I, O) singular values of 1, so the root of its mean square entry is 1 / sqrt(max(I, O)). The factor makes that 0.2, which
is about what AdamW's steps have, and so one learning rate does for both.

No decomposition is needed. An odd polynomial of a matrix acts on its singular values alone: with A = X X^T,

    a X + b A X + c A^2 X = U (a S + b S^3 + c S^5) V^T

Starting from X = u / |u|_F, whose singular values are at most 1, five rounds with (a, b, c) = (3.4445, -4.7750, 2.0315) bring all from
0.01 to 1 to between 0.68 and 1.14: the slope a at zero is steep at the price of never quite settling at 1, which does no
harm. These are products of small matrices and nothing else.

The map from pixels and the one to the classes are AdamW's, as are biases, norms and positions. Queries, keys and values are made by
three maps, though they lie in one array, and each is orthogonal by itself (`Parameter.maps`). A kernel (k, k, C, D) is the matrix
(k k C, D) of its convolution.

Source: Jordan et al., "Muon: An optimizer for hidden layers in neural networks", 2024 (the rounds and their coefficients); Liu et al.,
arXiv:2502.16982 (the factor, weight decay); Bernstein and Newhouse, arXiv:2409.20325 (why).
"""

import math

import numpy as np

from ..lanes import CHUNK, chunks
from .adamw import AdamW

COEFFICIENTS, ROUNDS = (3.4445, -4.7750, 2.0315), 5


def orthogonal(u):
    """u (..., I, O) -> about U V^T, for each matrix u = U S V^T; zero stays zero."""
    if u.shape[-2] > u.shape[-1]:
        return orthogonal(u.swapaxes(-1, -2)).swapaxes(-1, -2)        # A = X X^T is the smaller one
    a, b, c = COEFFICIENTS
    tiny = np.finfo(u.dtype).tiny
    x = u / (np.abs(u).max(axis=(-2, -1), keepdims=True) + tiny)      # first, so that no square is too small for its dtype
    x /= np.sqrt((x * x).sum(axis=(-2, -1), keepdims=True)) + tiny
    for _ in range(ROUNDS):
        A = x @ x.swapaxes(-1, -2)
        B = c * (A @ A)
        B += b * A
        y = B @ x
        y += a * x
        x = y
    return x


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


class Muon(AdamW):
    """Muon for the hidden matrices of one vector of weights, AdamW for all else. Arguments as for `AdamW`; momentum: beta above.

    A hidden matrix keeps its running mean in `m`, and its part of `v` stays zero.
    """

    def __init__(self, vector, parameters, weight_decay=0.05, betas=(0.9, 0.999), eps=1e-8, layers=(), momentum=0.95):
        super().__init__(vector, parameters, weight_decay, betas, eps, layers)
        self.momentum = momentum
        ours, start, self._others, self._groups = {id(p) for p in hidden(parameters)}, 0, [], []
        by_shape: dict[tuple, list] = {}
        for p, factor, decay in zip(parameters, self.factors, self.decays, strict=True):
            if id(p) in ours:
                for view in _maps(p, start):
                    matrix = Matrix(view, vector, self.m, factor, decay)
                    by_shape.setdefault(matrix.w.shape, []).append(matrix)
            else:
                self._others += chunks(start, start + p.size)
            start += p.size
        for (inputs, outputs), matrices in by_shape.items():          # a product of many small matrices is one call,
            size = max(1, CHUNK // 4 // (inputs * outputs))           # but of so few that threads can share them
            self._groups += [matrices[i:i + size] for i in range(0, len(matrices), size)]

    def pieces(self):
        """The hidden matrices in groups of one shape, and slices of all else."""
        return self._groups + self._others

    def update(self, piece, gradients, lr, scale=1.0):
        """As `AdamW.update`, for one of `pieces`."""
        if isinstance(piece, slice):
            super().update(piece, gradients, lr, scale)
            return
        beta, ahead = self.momentum, np.empty((len(piece), *piece[0].w.shape), self.vector.dtype)
        for matrix, u in zip(piece, ahead, strict=True):
            g = ((1 - beta) * scale) * matrix.view(gradients)
            matrix.m *= beta
            matrix.m += g
            np.multiply(matrix.m, beta, out=u)
            u += g
        for matrix, step in zip(piece, orthogonal(ahead), strict=True):
            matrix.w *= 1 - lr * matrix.factor * matrix.decay
            matrix.w -= (lr * matrix.factor * matrix.scale) * step


def _maps(p, start):
    """The maps that lie side by side in a parameter at `start`: functions vector -> view (I, O) of it."""
    width = p.shape[-1] // p.maps

    def at(k):
        return lambda vector: vector[start:start + p.size].reshape(-1, p.shape[-1])[:, k * width:(k + 1) * width]

    return [at(k) for k in range(p.maps)]
