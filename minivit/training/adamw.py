"""AdamW: each weight moves by its own step, of about the learning rate, against the running mean of its gradient.

With g the gradient at step t = 1, 2, ..., for every weight w by itself:

    m  <- beta1 m + (1 - beta1) g                    running mean of the gradient
    v  <- beta2 v + (1 - beta2) g**2                 running mean of its square
    w  <- w - lr decay w                             weight decay, outside the gradient: the W in AdamW
    w  <- w - lr (m / (1 - beta1**t)) / (sqrt(v / (1 - beta2**t)) + eps)

m and v start at 0; dividing by 1 - beta**t corrects for that start. If the gradient stays the same, the corrected m and v are g and
g**2 from the first step on: every step is lr, whatever the size of g.

A parameter may have a learning rate and a decay of its own: see `layer_settings`.

Source: Kingma and Ba, arXiv:1412.6980; Loshchilov and Hutter, arXiv:1711.05101. The order of operations is PyTorch's.
"""

from fnmatch import fnmatchcase

import numpy as np

from ..common.checks import check_number
from ..kernel import kernel
from ..parallel.batch_split import chunks


def reference_update(w, g, m, v, t, lr, decay, betas=(0.9, 0.999), eps=1e-8):
    """One step of plain NumPy: arrays of one shape -> (w, m, v), fresh. decay: a number, or an array of w's shape."""
    beta1, beta2 = betas
    m = beta1 * m + (1 - beta1) * g
    v = beta2 * v + (1 - beta2) * g**2
    w = w - lr * decay * w
    w = w - lr * (m / (1 - beta1**t)) / (np.sqrt(v / (1 - beta2**t)) + eps)
    return w, m, v


def layer_settings(parameters, weight_decay, layers=()):
    """(factors of the learning rate, weight decays), a number for each of the parameters.

    A parameter has the factor 1, and the weight decay if it is one with `.decay`, else 0. Each of `layers` is (pattern, factor) or
    (pattern, factor, decay): for every parameter whose name the pattern matches, as file names are matched ("blocks.0.*", "*.bias"), the
    factor counts instead, and the decay, if it is given. Of several that match, the last one counts.
    Raises ValueError for a pattern that matches no name, or a number out of its range.
    """
    factors, decays = [1.0] * len(parameters), [weight_decay if p.decay else 0.0 for p in parameters]
    for pattern, factor, *decay in layers:
        matching = [i for i, p in enumerate(parameters) if fnmatchcase(p.name, pattern)]
        if not matching:
            raise ValueError(f"no parameter has a name like {pattern!r}; they are called {', '.join(p.name for p in parameters[:4])}, ...")
        for i in matching:
            factors[i] = check_number(f"learning rate factor of {pattern}", factor, least=0)
            if decay:
                decays[i] = check_number(f"weight decay of {pattern}", decay[0], least=0)
    return factors, decays


# ---- the same mathematics, one pass over memory -----------------------------------------------------------


class AdamW:
    """The optimiser's state for one vector of weights: `m`, `v`, and the number `t` of steps done.

    parameters: they lie one behind the other in the vector. weight_decay, layers: see `layer_settings`.
    """

    def __init__(self, vector, parameters, weight_decay=0.05, betas=(0.9, 0.999), eps=1e-8, layers=()):
        for beta in betas:
            check_number("beta", beta, least=0, below=1)
        check_number("eps", eps, above=0)
        self.vector, self.betas, self.eps = vector, betas, eps
        self.m, self.v, self.t = np.zeros_like(vector), np.zeros_like(vector), 0
        self.ends = np.cumsum([p.size for p in parameters])
        factors, decays = layer_settings(parameters, weight_decay, layers)
        self.factors, self.decays = np.array(factors), np.array(decays, vector.dtype)

    def pieces(self):
        """What can be updated side by side, in any order: slices of the vector."""
        return chunks(0, self.vector.size)

    def update(self, piece, gradients, lr, scale=1.0):
        """Step `t` for one slice of the vector, in place, with gradient `scale * gradients`. The caller counts `t`."""
        beta1, beta2 = self.betas
        _update(piece.start, min(piece.stop, self.vector.size), self.vector, gradients, self.m, self.v, self.ends, self.factors,
                self.decays, scale, lr, lr / (1 - beta1**self.t), beta1, beta2, 1 / np.sqrt(1 - beta2**self.t), self.eps)


@kernel
def _update(start, stop, w, g, m, v, ends, factors, decays, scale, lr, step, beta1, beta2, v_scale, eps):
    real, one = w.dtype.type, w.dtype.type(1)
    new1, new2 = real(1.0 - beta1), real(1.0 - beta2)                 # before rounding: 1 - float32(0.999) is 1.3e-5 off
    scale, beta1, beta2, v_scale, eps = real(scale), real(beta1), real(beta2), real(v_scale), real(eps)
    for p in range(ends.size):                                        # parameter by parameter: each has one rate and one decay
        keep, move = one - real(lr * factors[p]) * decays[p], real(step * factors[p])
        for i in range(max(start, ends[p - 1] if p else 0), min(stop, ends[p])):
            gradient = scale * g[i]
            m[i] = beta1 * m[i] + new1 * gradient
            v[i] = beta2 * v[i] + new2 * gradient * gradient
            w[i] = keep * w[i] - move * m[i] / (np.sqrt(v[i]) * v_scale + eps)
