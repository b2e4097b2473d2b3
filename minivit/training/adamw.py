"""AdamW: each weight moves against the running mean of its gradient, by a step of about the learning rate.

Let g be the gradient at step t = 1, 2, ... Every weight w is updated independently:

    m  <- beta1 m + (1 - beta1) g                    running mean of the gradient
    v  <- beta2 v + (1 - beta2) g**2                 running mean of its square
    w  <- w - lr decay w                             decoupled weight decay: the W in AdamW
    w  <- w - lr (m / (1 - beta1**t)) / (sqrt(v / (1 - beta2**t)) + eps)

m and v start at 0, so at first they are too small. After t steps of a constant gradient g, m = (1 - beta1**t) g, and
v likewise; dividing by 1 - beta**t corrects for that. Then every step is lr g / |g|, of length lr, whatever the size
of g. The small number eps avoids a division by zero.

Why decoupled: if decay w were added to g instead (L2 regularisation), it too would be divided by sqrt(v). Weights with
large gradients would then decay less than others. AdamW shrinks all weights by the same factor.

Read before: `layers/parameter.py`. See `layer_settings.py` for learning rates and weight decays by parameter name.

Sources: Kingma and Ba, arXiv:1412.6980; Loshchilov and Hutter, arXiv:1711.05101. The order of operations is PyTorch's.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..common.checks import check_number
from ..kernel import kernel
from ..layers.parameter import Parameter
from ..parallel.batch_split import chunks
from .layer_settings import layer_settings


def reference_update(w: np.ndarray, g: np.ndarray, m: np.ndarray, v: np.ndarray, t: int, lr: float, decay: Any,
                     betas: tuple[float, float] = (0.9, 0.999),
                     eps: float = 1e-08) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return (w, m, v) after one step, in plain NumPy. All arrays have one shape; decay is a number or an array."""
    beta1, beta2 = betas
    m = beta1 * m + (1 - beta1) * g
    v = beta2 * v + (1 - beta2) * g**2
    w = w - lr * decay * w
    w = w - lr * (m / (1 - beta1**t)) / (np.sqrt(v / (1 - beta2**t)) + eps)
    return w, m, v


# ---- the same mathematics, one pass over memory -----------------------------------------------------------


class AdamW:
    """The optimiser of one vector of weights.

    Parameters
    ----------
    vector : (n,)
        All weights. They are updated in place.
    parameters : list of Parameter
        The parameters, in the order in which they lie in the vector.
    weight_decay, layers
        See `layer_settings`.
    betas : (float, float), each at least 0 and below 1
        Decay rates of the running means m and v.
    eps : float, above 0

    Attributes
    ----------
    m, v : (n,)
        The running means.
    t : int
        Number of steps begun.
    """

    def __init__(self, vector: np.ndarray, parameters: Sequence[Parameter], weight_decay: float = 0.05,
                 betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8, layers: Sequence[Sequence] = ()) -> None:
        for beta in betas:
            check_number("beta", beta, least=0, below=1)
        check_number("eps", eps, above=0)
        self.vector, self.betas, self.eps = vector, betas, eps
        self.average: Any = None                                      # of the weights; see `schedule_free.py`
        self.m, self.v, self.t = np.zeros_like(vector), np.zeros_like(vector), 0
        self.ends = np.cumsum([p.size for p in parameters])
        factors, decays = layer_settings(parameters, weight_decay, layers)
        self.factors, self.decays = np.array(factors), np.array(decays, vector.dtype)

    def begin_step(self, lr: float = 0.0) -> None:
        """Count a step with a learning rate. Call it once before the `update` of the pieces."""
        self.t += 1

    def state(self) -> dict[str, np.ndarray]:
        """Return the running means by name, for a checkpoint."""
        return {"gradient_mean": self.m, "squared_gradient_mean": self.v}

    def pieces(self) -> list:
        """Return the parts of the vector, as slices, that threads can update independently."""
        return chunks(0, self.vector.size)

    def update(self, piece: slice, gradients: np.ndarray, lr: float, scale: float = 1.0) -> None:
        """Do step `t` for one piece of the vector with gradient `scale * gradients` (n,). See `begin_step`."""
        beta1, beta2 = self.betas
        _update(piece.start, min(piece.stop, self.vector.size), self.vector, gradients, self.m, self.v, self.ends,
                self.factors, self.decays, scale, lr, lr / (1 - beta1**self.t), beta1, beta2,
                1 / np.sqrt(1 - beta2**self.t), self.eps)


@kernel
def _update(start, stop, w, g, m, v, ends, factors, decays, scale, lr, step, beta1, beta2, v_scale, eps):
    real, one = w.dtype.type, w.dtype.type(1)
    new1, new2 = real(1.0 - beta1), real(1.0 - beta2)                 # before rounding: 1 - float32(0.999) is inexact
    scale, beta1, beta2, v_scale, eps = real(scale), real(beta1), real(beta2), real(v_scale), real(eps)
    for p in range(ends.size):                                        # each parameter has one rate and one decay
        keep, move = one - real(lr * factors[p]) * decays[p], real(step * factors[p])
        for i in range(max(start, ends[p - 1] if p else 0), min(stop, ends[p])):
            gradient = scale * g[i]
            m[i] = beta1 * m[i] + new1 * gradient
            v[i] = beta2 * v[i] + new2 * gradient * gradient
            w[i] = keep * w[i] - move * m[i] / (np.sqrt(v[i]) * v_scale + eps)
