"""Schedule-free AdamW: an average of the weights takes the place of a learning rate that decays.

A decaying learning rate needs to know the last step in advance. An average does the same without knowing it. Let z
move with a constant rate, z_{t+1} = z_t - lr g_t, and take the mean of z_1 .. z_T. Step i is in T - i + 1 of these T
points (those from z_{i+1} on, counting g_1 as the step to z_1), so

    1/T sum_t z_t = z_0 - lr sum_i (T - i + 1)/T g_i

This is where a learning rate that falls linearly from lr to 0 would have led with the same gradients. The mean can be
taken at any T: every step is the end of a schedule. But the gradients must be those of the mean, or near it: z moves
far, and its loss is high. And at the mean itself, gradients change slowly. So they are taken at a point between:

    y  = z + beta1 (x - z)                            where the gradient g is computed: the weights of the model
    v <- beta2 v + (1 - beta2) g**2                   running mean of the squared gradient, as in AdamW
    z <- z - lr (g / (sqrt(v / (1 - beta2**t)) + eps) + decay y)
    c  = lr**2 / (sum of lr**2 of all steps)          1/t, if the rate is constant
    x <- x + c (z - x)                                weighted mean of all z: the weights to evaluate and to keep

x, y and z start at the initial weights. With beta1 = 1 the gradients would be those of the mean, with 0 those of z. No
running mean of the gradient is needed: y moves only (1 - beta1) of a step of z at once, and the rest of it later,
through x, as momentum does. The weight lr**2 in c lets the steps of the warm-up, where lr is small, count less.

Use it with a constant learning rate after the warm-up, schedule="wsd" with decay=0, as `minivit.train` does by default
with this optimiser. The best rate is often larger than that of AdamW. An average (EMA) of its own is not needed.

Read before: `adamw.py`, `ema.py`. Source: Defazio et al., "The Road Less Scheduled", arXiv:2405.15682, Eq. 2 to 5 and
Algorithm 1.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..kernel import kernel
from ..layers.parameter import Parameter
from .adamw import AdamW


def reference_update(y: np.ndarray, g: np.ndarray, x: np.ndarray, z: np.ndarray, v: np.ndarray, t: int, c: float,
                     lr: float, decay: Any, betas: tuple[float, float] = (0.9, 0.999),
                     eps: float = 1e-08) -> tuple[np.ndarray, ...]:
    """Return (y, x, z, v) after one step, in plain NumPy. All arrays have one shape; decay is a number or an array."""
    beta1, beta2 = betas
    v = beta2 * v + (1 - beta2) * g**2
    z = z - lr * (g / (np.sqrt(v / (1 - beta2**t)) + eps) + decay * y)
    x = x + c * (z - x)
    return z + beta1 * (x - z), x, z, v


# ---- the same mathematics, one pass over memory -----------------------------------------------------------


class ScheduleFree(AdamW):
    """The optimiser of one vector of weights, which holds y.

    Parameters
    ----------
    vector, parameters, weight_decay, betas, eps, layers
        As for `AdamW`. betas[0] is the place of y between z and x.

    Attributes
    ----------
    average : (n,)
        x, the weights to evaluate.
    m : (n,)
        z.
    v : (n,)
        The running mean of the squared gradient.
    squares : (1,)
        The sum of lr**2.
    """

    def __init__(self, vector: np.ndarray, parameters: Sequence[Parameter], weight_decay: float = 0.05,
                 betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8, layers: Sequence[Sequence] = ()) -> None:
        super().__init__(vector, parameters, weight_decay, betas, eps, layers)
        self.average, self.squares, self.c = vector.copy(), np.zeros(1), 0.0
        self.m[...] = vector

    def begin_step(self, lr: float = 0.0) -> None:
        """See `AdamW.begin_step`."""
        super().begin_step(lr)
        self.squares += lr**2
        self.c = lr**2 / float(self.squares[0]) if lr else 0.0

    def state(self) -> dict[str, np.ndarray]:
        """Return the arrays that change, beside the weights, by name, for a checkpoint."""
        return {"average": self.average, "fast_weights": self.m, "squared_gradient_mean": self.v,
                "squared_learning_rates": self.squares}

    def update(self, piece: slice, gradients: np.ndarray, lr: float, scale: float = 1.0) -> None:
        """Do step `t` for one piece of the vector; see `AdamW.update`."""
        beta1, beta2 = self.betas
        _update(piece.start, min(piece.stop, self.vector.size), self.vector, gradients, self.average, self.m, self.v,
                self.ends, self.factors, self.decays, scale, lr, self.c, beta1, beta2, 1 / np.sqrt(1 - beta2**self.t),
                self.eps)


@kernel
def _update(start, stop, y, g, x, z, v, ends, factors, decays, scale, lr, c, beta1, beta2, v_scale, eps):
    real = y.dtype.type
    new2 = real(1.0 - beta2)                                          # before rounding: 1 - float32(0.999) is inexact
    scale, c, beta1, beta2, v_scale, eps = real(scale), real(c), real(beta1), real(beta2), real(v_scale), real(eps)
    for p in range(ends.size):                                        # each parameter has one rate and one decay
        rate, decay = real(lr * factors[p]), decays[p]
        for i in range(max(start, ends[p - 1] if p else 0), min(stop, ends[p])):
            gradient = scale * g[i]
            v[i] = beta2 * v[i] + new2 * gradient * gradient
            z[i] -= rate * (gradient / (np.sqrt(v[i]) * v_scale + eps) + decay * y[i])
            x[i] += c * (z[i] - x[i])                                 # in these forms, frozen weights keep their bits
            y[i] = z[i] + beta1 * (x[i] - z[i])
