"""Find a bug in the backward of a layer norm that passes a careless gradient check.

    python demos/02_find_a_wrong_gradient.py            a second
    python demos/02_find_a_wrong_gradient.py --quick    the same

Prints the table that shows the bug and the table after the fix. Draws wrong_gradient.png: the error of each gradient
over the step size of the finite differences.
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
        """Return dx, given dxhat: remove the mean and the component along xhat, then divide by std."""
        along_xhat = self.xhat * (dxhat * self.xhat).mean(axis=-1, keepdims=True)
        return (dxhat - dxhat.mean(axis=-1, keepdims=True) - along_xhat) / self.std


class Fixed(LayerNorm):
    """The correct layer. y = xhat gamma + beta gives dxhat = dy gamma, so the means are taken over dxhat."""

    def backward(self, dy):
        super().backward(dy)
        return self.through_xhat(dy * self.gamma)


def careless(layer, x):
    """Check one entry in a way that misses the bug: initial weights (gamma = 1), dy = 1, and a loose tolerance."""
    layer.forward(x)
    dx, h = layer.backward(np.ones_like(x)), 1e-5
    moved = np.zeros_like(x)
    moved[0, 0, 0] = h
    numeric = (layer.forward(x + moved).sum() - layer.forward(x - moved).sum()) / (2 * h)
    return abs(numeric - dx[0, 0, 0]) < 1e-5


def draw(wrong, fixed, path):
    """Draw the error of every gradient over the step size, with the bug and without it."""
    figure = new_figure(10, 4)
    for axes, report, title in zip(figure.subplots(1, 2, sharey=True), (wrong, fixed),
                                   ("Wrong: the error of x stays the same",
                                    "Fixed: the error of x has a V shape"), strict=True):
        report.plot(axes=axes)
        axes.set_title(title)
        axes.label_outer()
    save(figure, path)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="the same: this demo always takes a second")
    parser.add_argument("--out", default="wrong_gradient.png", help="the image file to write")
    options = parser.parse_args()

    x = np.random.default_rng(0).standard_normal((3, 5, 8))           # (B, N, D)
    print(f"A careless check, with gamma = 1 and dy = 1, says: {'right' if careless(LayerNorm(8), x) else 'wrong'}.")
    report = minivit.gradcheck(LayerNorm(8), x)
    print(f"\nminivit.gradcheck, with random gamma and dy:\n\n{report}")
    fixed = minivit.gradcheck(Fixed(8), x)
    print(f"\nAfter the fix, with gamma inside the means:\n\n{fixed}")
    draw(report, fixed, options.out)
    print("\nThe error of the correct gradient of x has the shape of a V over the step size: truncation error on the "
          "right, round-off error on the left. The error of the wrong gradient is the same at every step size.")
    print(f"Figure: {options.out}")


if __name__ == "__main__":
    main()
