"""Draw the figures of the page "Gradient checking": why a check needs its steps, its random numbers and its care.

    python demos/20_gradient_checking.py            ten seconds
    python demos/20_gradient_checking.py --quick    the same

Prints one line for each figure, and draws eight figures, gradient_checking_*.png, one for each claim of the page.
"""

import argparse
import copy
from pathlib import Path

import numpy as np

import minivit
from minivit.common.figures import new_figure, save
from minivit.explain.tools.plots import SERIES
from minivit.gradient_checking.figure import draw_errors

RED, BLUE, YELLOW, GREEN = SERIES
SMALL = 9                                                             # size of fonts
STEPS = 2.0 ** np.arange(-48, 1)
TOLERANCE = 1e-6                                                      # of minivit.gradcheck


def rng(seed=0):
    """Return random numbers."""
    return np.random.default_rng(seed)


def curves(axes, x, y, title, **limits):
    """Name and trim axes of curves with logarithmic scales."""
    axes.set(xscale="log", yscale="log", **limits)
    axes.set_xlabel(x, fontsize=SMALL)
    axes.set_ylabel(y, fontsize=SMALL)
    axes.set_title(title, fontsize=10)
    axes.grid(alpha=0.3, lw=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=SMALL)
    axes.minorticks_off()


# ---- layers with mistakes --------------------------------------------------------------------------------------------


class Swish:
    """The layer of the page: a term of the gradient of x is missing."""

    def __init__(self, width):
        self.beta = np.ones(width)

    def forward(self, x):
        self.x, self.gate = x, 1 / (1 + np.exp(-self.beta * x))
        return x * self.gate

    def backward(self, dy):
        dz = dy * self.x * self.gate * (1 - self.gate)
        self.dbeta = (dz * self.x).sum(axis=0)
        return dy * self.gate


class Norm:
    """A layer norm. mistake: "weight" (outside the means), "variance" (taken as constant), or none."""

    def __init__(self, mistake):
        self.weight, self.mistake = np.ones(6), mistake

    def forward(self, x):
        self.std = x.std(axis=-1, keepdims=True)
        self.xhat = (x - x.mean(axis=-1, keepdims=True)) / self.std
        return self.xhat * self.weight

    def backward(self, dy):
        self.dweight = (dy * self.xhat).sum(axis=0)
        g = dy if self.mistake == "weight" else dy * self.weight
        along = 0 if self.mistake == "variance" else self.xhat * (g * self.xhat).mean(axis=-1, keepdims=True)
        dx = (g - g.mean(axis=-1, keepdims=True) - along) / self.std
        return dx * self.weight if self.mistake == "weight" else dx


class Softmax:
    """A softmax whose backward leaves out the probabilities in front of the parentheses."""

    def forward(self, x):
        e = np.exp(x - x.max(axis=-1, keepdims=True))
        self.y = e / e.sum(axis=-1, keepdims=True)
        return self.y

    def backward(self, dy):
        return dy - (dy * self.y).sum(axis=-1, keepdims=True)


class Heads:
    """Split (N, D) into heads (h, N, d). The backward forgets the transposition."""

    def forward(self, x):
        self.shape = x.shape
        return x.reshape(len(x), 2, -1).transpose(1, 0, 2).copy()

    def backward(self, dy):
        return dy.reshape(self.shape)


class Branch:
    """A residual branch y = x + a tanh(x), where a starts at zero. The slope of tanh is wrong."""

    def __init__(self):
        self.a = np.zeros(6)

    def forward(self, x):
        self.x = x
        return x + self.a * np.tanh(x)

    def backward(self, dy):
        self.da = (dy * np.tanh(self.x)).sum(axis=0)
        return dy * (1 + self.a * (1 - np.tanh(self.x)))


class IgnoresUpstream:
    """Returns the gradient of sum(y) for any dy."""

    def forward(self, x):
        self.x = x
        return x**2

    def backward(self, dy):
        return 2 * self.x


# ---- one function for each figure: it draws into an empty figure and returns the finding -----------------------------


def draw_steps(figure):
    """Draw the error of four differences against the step, and that of a fixed and a relative step against the scale.

    The function is exp, whose derivatives are all equal: the errors are those of the methods.
    """
    x, slope, h = 1.0, np.exp(1.0), STEPS

    def central(h, x=x, f=np.exp):
        return (f(x + h) - f(x - h)) / (2 * h)

    def richardson(h, x=x, f=np.exp):
        return (4 * central(h / 2, x, f) - central(h, x, f)) / 3

    found = {"one-sided": ((np.exp(x + h) - slope) / h, RED, "h"), "central": (central(h), YELLOW, "h$^2$"),
             "Richardson": (richardson(h), BLUE, "h$^4$"), "complex step": (np.exp(x + 1j * h).imag / h, GREEN, "")}
    left, right = figure.subplots(1, 2)
    best = {}
    for name, (numeric, colour, order) in found.items():
        error = np.maximum(np.abs(numeric / slope - 1), 1e-16)
        left.plot(h, error, color=colour, lw=1.6, label=f"{name}, error ~ {order}" if order else name)
        best[name] = error.min()
    curves(left, "step h", "relative error of the slope", "one-sided, central, Richardson, complex",
           xlim=(1e-14, 1), ylim=(3e-17, 10))
    left.legend(frameon=False, fontsize=8, loc="upper center", ncols=1)
    scales = 10.0 ** np.arange(-10, 10.01, 0.25)
    errors = {name: [max(abs(richardson(step(s), s, lambda t, s=s: np.tanh(t / s)) * s * np.cosh(1) ** 2 - 1), 1e-16)
                     for s in scales] for name, step in (("h = 0.0007", lambda s: 7e-4),
                                                         ("h = 0.0007 times the size of x", lambda s: 7e-4 * s))}
    for error, colour in zip(errors.values(), (RED, BLUE), strict=True):
        right.plot(scales, error, color=colour, lw=1.6)
    right.axhline(TOLERANCE, color="0.3", ls=":", lw=1)
    curves(right, "size of x", "", "Richardson with a fixed and a relative step", ylim=(1e-17, 1e2))
    right.text(2e1, 3e-3, "h = 0.0007", color=RED, fontsize=SMALL, ha="left")
    right.text(1, 3e-17, "h = 0.0007 times the size of x", color=BLUE, fontsize=SMALL, ha="center", va="bottom")
    good = scales[np.array(errors["h = 0.0007"]) < TOLERANCE]
    return (", ".join(f"best error of {name} {error:.0e}" for name, error in best.items()) +
            f". A fixed step is right for sizes from {good[0]:.0e} to {good[-1]:.0e}.")


def draw_upstream(figure):
    """Draw which mistakes are seen with ones and with random numbers as dy and as weights."""
    mistakes = {"softmax without its factor y": Softmax(), "heads merged in the wrong order": Heads(),
                "dy is ignored": IgnoresUpstream(), "layer norm, variance taken as constant": Norm("variance"),
                "layer norm, weight outside the means": Norm("weight"),
                "branch that starts at zero, wrong slope": Branch()}
    setups = {"initial weights\ndy = 1": (True, True), "random weights\ndy = 1": (False, True),
              "initial weights\nrandom dy": (True, False), "random weights\nrandom dy": (False, False)}
    x = rng(1).standard_normal((4, 6))
    seen = np.array([[found_with(layer, x, *setup) for setup in setups.values()] for layer in mistakes.values()])
    axes = figure.subplots()
    axes.imshow(np.where(seen, 0.25, 0.85), cmap="RdYlBu_r", vmin=0, vmax=1, aspect="auto")
    for (row, column), caught in np.ndenumerate(seen):
        axes.text(column, row, "found" if caught else "missed", ha="center", va="center", fontsize=SMALL,
                  weight="normal" if caught else "bold")
    axes.set_xticks(range(len(setups)), setups, fontsize=SMALL)
    axes.set_yticks(range(len(mistakes)), mistakes, fontsize=SMALL)
    axes.set_xticks(np.arange(1, len(setups)) - 0.5, minor=True)
    axes.set_yticks(np.arange(1, len(mistakes)) - 0.5, minor=True)
    axes.grid(which="minor", color="w", lw=2)
    axes.tick_params(which="both", length=0)
    axes.xaxis.tick_top()
    axes.spines[:].set_visible(False)
    return "found: " + ", ".join(f"{' '.join(name.split())} {count} of {len(mistakes)}"
                                 for name, count in zip(setups, seen.sum(axis=0), strict=True))


def found_with(layer, x, initial, ones):
    """Return whether a check with initial weights, and with ones as dy, finds the mistake in a layer."""
    dy = np.ones_like(copy.deepcopy(layer).forward(x)) if ones else None
    return not minivit.gradcheck(layer, x, keep="*" if initial else (), dy=dy).ok


def draw_kinks(figure):
    """Draw slopes of ReLU near its kink, and how many entries of a layer have a kink within the step."""
    left, right = figure.subplots(1, 2, width_ratios=[1, 1])
    h, x = 1.0, np.linspace(-2, 2, 401)

    def central(x, h):
        return (np.maximum(x + h, 0) - np.maximum(x - h, 0)) / (2 * h)

    left.axvspan(-h, h, color="0.92")
    left.fill_between([-h, h], 0, 1, color=GREEN, alpha=0.25, lw=0, label="accepted here")
    left.plot(x, central(x, h), color=YELLOW, lw=1.8, label="central difference")
    left.plot(x, (4 * central(x, h / 2) - central(x, h)) / 3, color=BLUE, lw=1.8, label="Richardson")
    left.plot(x, x > 0, color="k", lw=1, ls="--", label="slope of ReLU")
    left.set_xlabel("x / h", fontsize=SMALL)
    left.set_title("ReLU near its kink", fontsize=10)
    left.legend(frameon=False, fontsize=8, loc="upper left")
    left.spines[["top", "right"]].set_visible(False)
    left.tick_params(labelsize=SMALL)
    x = rng().standard_normal(1_000_000)
    h = STEPS[STEPS > 1e-8]
    share = [100 * np.mean(np.abs(x) < step) for step in h]
    right.plot(h, np.maximum(share, 1e-5), color=RED, lw=1.6)
    right.axvline(7e-4, color=BLUE, ls=":", lw=1.2)
    right.text(9e-4, 3e-4, "Richardson's\nstep", color=BLUE, fontsize=8)
    right.axvline(6e-6, color=YELLOW, ls=":", lw=1.2)
    right.text(8e-6, 30, "central step", color="0.3", fontsize=8)
    curves(right, "step h", "% of entries", "normal numbers closer to the kink than h", ylim=(1e-5, 200))
    at = 100 * np.mean(np.abs(x) < 7e-4)
    with_zeros = np.array([[-1.3, 0.0, 0.7, 0.0, 2.1]])
    report = minivit.gradcheck((lambda x: (np.maximum(x, 0), x), lambda dy, x: dy * (x > 0)), with_zeros)
    return f"{at:.2f}% of normal numbers lie within Richardson's step of the kink. At zeros: {report.rows[0].verdict}."


def draw_precision(figure):
    """Draw the error against the step for a forward in float64 and in float32."""
    x, best = rng().standard_normal(8), {}
    axes = figure.subplots()
    for dtype, colour in ((np.float32, RED), (np.float64, BLUE)):
        def loss(t, dtype=dtype):
            z = (x + t).astype(dtype)
            return float(np.sum(np.tanh(z) * z, dtype=dtype))

        right = float(np.sum(np.tanh(x) + x / np.cosh(x) ** 2))
        central = np.array([(loss(h) - loss(-h)) / (2 * h) for h in STEPS])
        for slopes, style, name in ((central[1:], "--", "central"),
                                    ((4 * central[:-1] - central[1:]) / 3, "-", "Richardson")):
            error = np.maximum(np.abs(slopes / right - 1), 1e-16)
            axes.plot(STEPS[1:], error, style, color=colour, lw=1.6, label=f"{dtype.__name__}, {name}")
            best[f"{dtype.__name__}, {name}"] = error[STEPS[1:] < 0.3].min()
    axes.axhline(TOLERANCE, color="0.3", ls=":", lw=1)
    axes.text(1.5e-13, 1.6e-7, "tolerance", color="0.3", fontsize=8)
    curves(axes, "step h", "relative error of the slope", "", xlim=(1e-13, 1), ylim=(1e-15, 3))
    axes.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return ", ".join(f"best error of {name} {error:.0e}" for name, error in best.items())


def draw_directions(figure):
    """Draw how often one wrong entry is found by sampled entries and by one direction, and small errors missed."""
    left, right = figure.subplots(1, 2)
    sizes, trials, numbers = 2 ** np.arange(5, 14), 300, rng()
    by_entries, by_direction = [], []
    for n in sizes:
        entries = directions = 0
        for _ in range(trials):
            x, dy, wrong = numbers.standard_normal(n), numbers.standard_normal(n), numbers.integers(n)
            gradient = 2 * x * dy
            gradient[wrong] *= 1.1
            entries += wrong in numbers.choice(n, 32, replace=False)
            directions += slope_differs(lambda t, x=x, dy=dy: (x + t) ** 2 @ dy, gradient, numbers)
        by_entries.append(100 * entries / trials)
        by_direction.append(100 * directions / trials)
    left.plot(sizes, by_entries, "o-", color=RED, lw=1.6, ms=4, label="32 entries")
    left.plot(sizes, by_direction, "o-", color=BLUE, lw=1.6, ms=4, label="one random direction")
    curves(left, "entries of the tensor", "% found", "one entry is 10% too large", ylim=(0.2, 200))
    left.legend(frameon=False, fontsize=8, loc="lower left")
    errors, missed = 10.0 ** np.arange(-6.5, -2.9, 0.25), []
    for e in errors:
        count = 0
        for _ in range(4 * trials):
            x, dy = numbers.standard_normal(50), numbers.standard_normal(50)
            gradient = 2 * x * dy
            spoilt = gradient + e * np.linalg.norm(gradient) * unit(numbers.standard_normal(50))
            count += not slope_differs(lambda t, x=x, dy=dy: (x + t) ** 2 @ dy, spoilt, numbers)
        missed.append(100 * count / (4 * trials))
    right.plot(errors, np.maximum(missed, 0.01), "o-", color=BLUE, lw=1.6, ms=4, label="measured")
    right.plot(errors, np.minimum(100, 100 * TOLERANCE / errors), color="0.4", ls="--", lw=1.2,
               label="tolerance / error")
    curves(right, "relative error of the gradient", "% missed", "one random direction misses small errors",
           ylim=(0.03, 200))
    right.legend(frameon=False, fontsize=8)
    return (f"of {sizes[-1]:,} entries with one wrong, 32 entries find {by_entries[-1]:.0f}%, a direction "
            f"{by_direction[-1]:.0f}%. An error of {errors[6]:.0e} is missed in {missed[6]:.0f}% of the directions.")


def slope_differs(loss, gradient, numbers):
    """Return whether the slope along a random direction contradicts a gradient."""
    v = numbers.uniform(0.5, 1.5, gradient.size) * numbers.choice([-1.0, 1.0], gradient.size)
    h = 7e-4
    slope = (4 * (loss(h / 2 * v) - loss(-h / 2 * v)) / h - (loss(h * v) - loss(-h * v)) / (2 * h)) / 3
    return abs(slope - gradient @ v) > TOLERANCE * np.linalg.norm(gradient)


def unit(v):
    """Return a vector of length one."""
    return v / np.linalg.norm(v)


def draw_unseen(figure):
    """Draw how often a mistake in a branch is found, against how often the inputs reach the branch."""
    scales, seeds, found = 10.0 ** np.arange(-0.4, 1.01, 0.2), 25, []
    pair = (lambda x: (np.clip(x, -3, 3), x), lambda dy, x: dy)       # the backward forgets the limits
    for scale in scales:
        found.append(sum(not minivit.gradcheck(pair, scale * rng(seed).standard_normal((3, 4)), method="central").ok
                         for seed in range(seeds)) * 100 / seeds)
    axes = figure.subplots()
    axes.plot(scales, found, "o-", color=RED, lw=1.6, ms=4)
    curves(axes, "standard deviation of the 12 inputs", "% of seeds that find it",
           "y = min(max(x, -3), 3), and the backward forgets the limits")
    axes.set(yscale="linear", ylim=(-3, 103), xticks=[0.5, 1, 2, 5, 10])
    axes.set_xticklabels(["0.5", "1", "2", "5", "10"])
    one = found[int(np.argmin(np.abs(scales - 1)))]
    return f"with normal inputs {one:.0f}% of the seeds find it, with inputs ten times as large {found[-1]:.0f}%."


# four wrong gradients, each with its forward and inputs


def convolution():
    """A convolution with padding, whose backward cuts the padding off at the wrong end. x is (B, H, W, C)."""
    def forward(x, w):
        padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
        return sum(padded[:, i:i + 6, j:j + 6] @ w[i, j] for i in range(3) for j in range(3)), w

    def backward(dy, w):
        dpadded = np.zeros((2, 8, 8, 2))
        for i in range(3):
            for j in range(3):
                dpadded[:, i:i + 6, j:j + 6] += dy @ w[i, j].T
        dx = dpadded[:, 1:7, 1:7]
        dx[:, 0] = dx[:, :, -1] = 0                                   # the border is forgotten
        return dx

    w = rng(2).standard_normal((3, 3, 2, 3))
    return (lambda x: forward(x, w)), backward, [rng(3).standard_normal((2, 6, 6, 2))]


def gates():
    """The gates of an LSTM: the third one is tanh, and its slope is taken for that of the sigmoid."""
    def forward(z):
        return np.concatenate([1 / (1 + np.exp(-z[:, :12])), np.tanh(z[:, 12:18]), 1 / (1 + np.exp(-z[:, 18:]))], 1), z

    def backward(dy, z):
        y = forward(z)[0]
        return dy * y * (1 - y)

    return forward, backward, [rng(4).standard_normal((12, 24))]


def embedding():
    """Look up rows of a table: rows that are looked up twice keep one of both gradients."""
    ids = np.array([1, 4, 2, 4, 7, 1, 5])

    def backward(dy, _):
        dtable = np.zeros((9, 12))
        dtable[ids] = dy                                              # np.add.at(dtable, ids, dy) is right
        return dtable

    return (lambda table: (table[ids], None)), backward, [rng(5).standard_normal((9, 12))]


def causal():
    """Scores of attention under a causal mask, which the backward forgets."""
    mask = np.tril(np.ones((8, 8)))
    return (lambda scores: (mask * scores, None)), (lambda dy, _: dy), [rng(6).standard_normal((8, 8))]


def draw_maps(figure):
    """Draw where four wrong gradients are wrong."""
    cases = {"convolution:\na forgotten border": convolution, "LSTM:\nthe slope of one gate": gates,
             "embedding:\nrows used twice": embedding, "attention:\na forgotten mask": causal}
    shares = []
    for axes, (title, make) in zip(figure.subplots(1, 4), cases.items(), strict=True):
        forward, backward, inputs = make()
        report = minivit.gradcheck((forward, backward), *inputs)
        errors = draw_errors(axes, report, report.rows[0])
        axes.set_title(title, fontsize=10)
        shares.append(f"{title.split(':')[0]} {100 * np.mean(errors > 0):.0f}%")
    return "wrong entries: " + ", ".join(shares)


FIGURES = {"steps": (draw_steps, 3.0), "upstream": (draw_upstream, 2.6), "kinks": (draw_kinks, 2.7),
           "precision": (draw_precision, 2.8), "directions": (draw_directions, 2.8), "unseen": (draw_unseen, 2.4),
           "maps": (draw_maps, 2.8)}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="the same: this demo always takes ten seconds")
    parser.add_argument("--only", choices=FIGURES, help="draw only this figure")
    parser.add_argument("--out", default="gradient_checking.png", help="the image files to write are NAME_FIGURE.png")
    options = parser.parse_args()

    path = Path(options.out)
    if options.only is None:
        report = minivit.gradcheck(Swish(4), rng(2).standard_normal((3, 4)))
        report.plot(path.with_name(f"{path.stem}_report{path.suffix}"))
        print(f"report: {report!r}")
    for name, (draw, height) in FIGURES.items():
        if options.only in (None, name):
            figure = new_figure(8, height)
            print(f"{name}: {draw(figure)}", flush=True)
            save(figure, path.with_name(f"{path.stem}_{name}{path.suffix}"))
    print(f"Figures: {options.out}")


if __name__ == "__main__":
    main()
