"""A layer norm written by hand has a wrong gradient and passes a careless check. Here the bug is found.

    python demos/02_find_a_wrong_gradient.py            a second
    python demos/02_find_a_wrong_gradient.py --quick    the same

Prints the tables that expose the bug and confirm the fix, and draws wrong_gradient.png: the error against the step of
the differences.
"""

import argparse

import numpy as np

import minivit
from minivit.common.figures import new_figure, save


class LayerNorm:
    """y = xhat gamma + beta, with xhat = (x - mean) / std over the last axis. Its backward has a common bug."""

    def __init__(self, width):
        self.gamma, self.beta = np.ones(width), np.zeros(width)

    def forward(self, x):
        self.std = np.sqrt(x.var(axis=-1, keepdims=True) + 1e-6)
        self.xhat = (x - x.mean(axis=-1, keepdims=True)) / self.std
        return self.xhat * self.gamma + self.beta

    def backward(self, dy):
        self.dgamma = (dy * self.xhat).sum(axis=(0, 1))
        self.dbeta = dy.sum(axis=(0, 1))
        return self.gamma * self.through_xhat(dy)  # the bug: gamma is multiplied after the means are taken

    def through_xhat(self, dxhat):
        """dx from dxhat: without its mean, and without its part along xhat."""
        along_xhat = self.xhat * (dxhat * self.xhat).mean(axis=-1, keepdims=True)
        return (dxhat - dxhat.mean(axis=-1, keepdims=True) - along_xhat) / self.std


class Fixed(LayerNorm):
    """The same, with gamma inside: y = xhat gamma + beta says dxhat = dy gamma, and the means are of dxhat."""

    def backward(self, dy):
        super().backward(dy)
        return self.through_xhat(dy * self.gamma)


def careless(layer, x):
    """How such bugs slip through: the layer as it is made (gamma = 1), dy = 1 everywhere, one loose tolerance for all."""
    layer.forward(x)
    dx, h = layer.backward(np.ones_like(x)), 1e-5
    moved = np.zeros_like(x)
    moved[0, 0, 0] = h
    numeric = (layer.forward(x + moved).sum() - layer.forward(x - moved).sum()) / (2 * h)
    return abs(numeric - dx[0, 0, 0]) < 1e-5


def draw(wrong, fixed, path):
    """The error of every gradient against the step, before and after."""
    figure = new_figure(10, 4)
    for axes, report, title in zip(figure.subplots(1, 2, sharey=True), (wrong, fixed),
                                   ("gamma outside the means", "fixed"), strict=True):
        report.plot(axes=axes)
        axes.set_title(title)
        axes.label_outer()
    save(figure, path)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="it is quick anyway")
    parser.add_argument("--out", default="wrong_gradient.png", help="the picture to write")
    options = parser.parse_args()

    x = np.random.default_rng(0).standard_normal((3, 5, 8))           # (B, N, D)
    print(f"A careless check, at gamma = 1 and dy = 1, says: {'right' if careless(LayerNorm(8), x) else 'wrong'}.")
    report = minivit.gradcheck(LayerNorm(8), x)
    print(f"\nminivit.gradcheck, at random gamma and dy:\n\n{report}")
    fixed = minivit.gradcheck(Fixed(8), x)
    print(f"\nWith gamma inside the means:\n\n{fixed}")
    draw(report, fixed, options.out)
    print("\nThe right gradient of x traces a V over the step: truncation to the right, round-off to the left. The "
          "wrong one stays at its "
          f"error, whatever the step. Picture: {options.out}")


if __name__ == "__main__":
    main()
