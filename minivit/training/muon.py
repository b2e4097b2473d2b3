"""Muon: a weight matrix moves by an orthogonal matrix, the one nearest to the running mean of its gradient.

AdamW treats a matrix as a list of independent numbers. Muon treats it as a linear map. Let G be the gradient of a
weight W (I, O). Each step computes

    m <- beta m + (1 - beta) G                       running mean of the gradient
    u  = beta m + (1 - beta) G                       Nesterov momentum: the running mean, one step ahead
    W <- W - lr decay W                              weight decay, as in AdamW
    W <- W - lr 0.2 sqrt(max(I, O)) orthogonal(u)

where orthogonal(u) = U V^T, if u = U S V^T is the singular value decomposition: the same singular vectors, with all
singular values set to 1.

Why. A step W <- W - E changes the output for an input row x by -x E. The length of this change is at most |E| times the
length of x, where |E| is the spectral norm, the largest singular value. Of all steps with |E| <= 1, which lowers the
loss most? To first order the loss falls by the inner product of G and E, which is tr(G^T E). With G = U S V^T

    tr(G^T E) = tr(V S U^T E)                        as G^T = V S U^T
              = tr(S U^T E V)                        as tr(V B) = tr(B V) for any B
              = sum_i S_ii (U^T E V)_ii              as S is diagonal
              <= sum_i S_ii                          as no entry of U^T E V exceeds |E| <= 1

and E = U V^T reaches the bound, because then U^T E V = I. In a typical gradient a few singular values are much larger
than all others. This step moves as far in the other directions, too.

U V^T has min(I, O) singular values of 1, so the sum of its squared entries is min(I, O). Divided by the I O entries,
that gives a mean square of 1 / max(I, O). The factor 0.2 sqrt(max(I, O)) makes the root mean square of the step 0.2
lr, about that of an AdamW step. So the same learning rate suits both.

Newton-Schulz iteration. No decomposition is needed to compute U V^T approximately. An odd polynomial of a matrix acts
on its singular values alone: with A = X X^T = U S^2 U^T,

    P X = (a I + b A + c A^2) X = U (a S + b S^3 + c S^5) V^T

Start with X = u / |u|_F, where |u|_F is the root of the sum of all squares, so all singular values are at most 1.
Five iterations X <- P X with (a, b, c) = (3.4445, -4.7750, 2.0315) bring all singular values from 0.01 to 1 into the
range 0.68 to 1.14. The slope a at zero is steep, so small singular values grow fast; the price is that they do not
converge to exactly 1, which does no harm. As P is symmetric, an iteration turns A = X X^T into
P X X^T P = P A P. So all five need only the small square A (a tall X is transposed first), and X itself is used once,
at the end:

    orthogonal(u) = P_5 P_4 P_3 P_2 P_1 X

Matrices with equal smaller sides go through the iterations together, in one batched matrix product each time.

AdamW trains everything else: the first matrix, which reads pixels, the last one, which predicts the classes, biases,
norms and positions. The queries, keys and values are three maps that lie in one array; each is made orthogonal
separately (`Parameter.maps`). The filter of a convolution, (k, k, C, D), is treated as a matrix (k k C, D).

Read before: `adamw.py`.

Sources: Jordan et al., "Muon: An optimizer for hidden layers in neural networks", 2024 (the iteration and its
coefficients); Liu et al., arXiv:2502.16982 (the factor and weight decay); Bernstein and Newhouse, arXiv:2409.20325
(why).
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..layers.parameter import Parameter
from ..parallel.batch_split import CHUNK, chunks
from .adamw import AdamW

COEFFICIENTS = (3.4445, -4.7750, 2.0315)
ITERATIONS = 5


def orthogonalise(matrices: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Compute orthogonal(u), about U V^T, for several matrices u = U S V^T.

    Parameters
    ----------
    matrices : list of (I, O)
        I and O may differ from matrix to matrix, but the smaller of the two is d for all.

    Returns
    -------
    list of (I, O)
        A matrix of zeros stays zero.
    """
    tiny = np.finfo(matrices[0].dtype).tiny
    wide = [u if u.shape[0] <= u.shape[1] else u.T for u in matrices]
    wide = [x / (np.abs(x).max() + tiny) for x in wide]               # so that squares do not underflow
    A = np.stack([x @ x.T for x in wide])                             # (n, d, d)
    squares = np.trace(A, axis1=1, axis2=2)[:, None, None] + tiny     # |x|_F^2
    A /= squares
    product = P = _polynomial(A)
    for _ in range(ITERATIONS - 1):
        A = P @ A @ P
        P = _polynomial(A)
        product = P @ product
    product /= np.sqrt(squares)
    return [p @ x if u.shape[0] <= u.shape[1] else (p @ x).T for p, x, u in zip(product, wide, matrices, strict=True)]


def _polynomial(A):
    """Return P = a I + b A + c A^2 for each A (n, d, d)."""
    a, b, c = COEFFICIENTS
    P = A @ A
    P *= c
    P += b * A
    P.reshape(len(P), -1)[:, ::A.shape[-1] + 1] += a                  # the entries of the diagonals
    return P


def hidden_matrices(parameters: Sequence[Parameter]) -> list[Parameter]:
    """Return the parameters that Muon trains: all weight matrices but the first, which reads pixels, and the heads."""
    matrices = [p for p in parameters if p.decay]
    return [p for p in matrices[1:] if not p.name.startswith("head")]


class HiddenMatrix:
    """One linear map, as views (I, O) into the vector of weights and into the running mean, with its settings.

    Parameters
    ----------
    view : function
        Maps a vector (n,) to the view (I, O) of this map.
    vector, m : (n,)
        All weights, and their running means.
    factor, decay : float
        Learning rate factor and weight decay.
    """

    def __init__(self, view: Callable[[np.ndarray], np.ndarray], vector: np.ndarray, m: np.ndarray,
                 factor: float, decay: float) -> None:
        self.view, self.factor, self.decay = view, float(factor), float(decay)
        self.w, self.m = view(vector), view(m)
        self.scale = 0.2 * math.sqrt(max(self.w.shape))

    def nesterov(self, gradients: np.ndarray, scale: float, beta: float) -> np.ndarray:
        """Update the running mean with the gradient `scale * gradients` (n,) and return u (I, O)."""
        g = ((1 - beta) * scale) * self.view(gradients)
        self.m *= beta
        self.m += g
        g += beta * self.m
        return g


class Muon(AdamW):
    """Muon for the hidden matrices of one vector of weights, AdamW for everything else.

    Parameters
    ----------
    vector, parameters, weight_decay, betas, eps, layers
        As for `AdamW`.
    momentum : float, at least 0 and below 1
        beta above.

    Notes
    -----
    The running mean of a hidden matrix lies in `m`; its part of `v` stays zero.
    """

    def __init__(self, vector: np.ndarray, parameters: Sequence[Parameter], weight_decay: float = 0.05,
                 betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8, layers: Sequence[Sequence] = (),
                 momentum: float = 0.95) -> None:
        super().__init__(vector, parameters, weight_decay, betas, eps, layers)
        self.momentum = momentum
        hidden, start, others = {id(p) for p in hidden_matrices(parameters)}, 0, []
        by_side: dict[int, list] = {}                                 # smaller side -> matrices
        for p, factor, decay in zip(parameters, self.factors, self.decays, strict=True):
            if id(p) in hidden:
                for view in _maps(p, start):
                    matrix = HiddenMatrix(view, vector, self.m, factor, decay)
                    by_side.setdefault(min(matrix.w.shape), []).append(matrix)
            else:
                others += chunks(start, start + p.size)
            start += p.size
        self._groups = []
        for side, matrices in by_side.items():
            self._groups += _grouped(matrices, lambda _, side=side: side * side)
        self._groups += _grouped(others, lambda part: part.stop - part.start)

    def pieces(self) -> list:
        """Return groups of hidden matrices with equal smaller sides, and groups of slices of all other weights."""
        return self._groups

    def update(self, piece: Any, gradients: np.ndarray, lr: float, scale: float = 1.0) -> None:
        """Do step `t` for one of the `pieces`; see `AdamW.update`."""
        if isinstance(piece[0], slice):
            for part in piece:
                super().update(part, gradients, lr, scale)
            return
        ahead = [matrix.nesterov(gradients, scale, self.momentum) for matrix in piece]
        for matrix, step in zip(piece, orthogonalise(ahead), strict=True):
            matrix.w *= 1 - lr * matrix.factor * matrix.decay
            matrix.w -= (lr * matrix.factor * matrix.scale) * step


def _grouped(items, size):
    """Group neighbouring items, each of size(item) numbers, so that no task is too short for a thread to pay."""
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
    """Return a function vector -> view (I, O) for each map of a parameter that starts at `start` in the vector."""
    width = p.shape[-1] // p.maps

    def map_view(k):
        return lambda vector: vector[start:start + p.size].reshape(-1, p.shape[-1])[:, k * width:(k + 1) * width]

    return [map_view(k) for k in range(p.maps)]
