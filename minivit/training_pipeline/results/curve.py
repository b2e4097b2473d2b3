"""The learning curves of a run as an image file."""

from collections.abc import Mapping, Sequence
from os import PathLike

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from ...common.figures import new_figure, save

SERIES = {"accuracy": ("training batches*", "tab:blue"), "test_accuracy": ("test images", "tab:orange"),
          "val_accuracy": ("validation images", "tab:green")}


def plot_curve(records: Sequence[Mapping], path: str | PathLike, floor: float = 0.0, kept: int = -1) -> None:
    """Draw the learning curves to an image file. Parameters as for `curve_figure`."""
    save(curve_figure(records, floor, kept), path)


def curve_figure(records: Sequence[Mapping], floor: float = 0.0, kept: int = -1) -> Figure:
    """Plot loss and accuracy after each epoch.

    Parameters
    ----------
    records : list of dict
        One for each epoch: `epoch`, `loss`, `accuracy` (of the training batches), and `test_accuracy` and
        `val_accuracy` where there are such images.
    floor : float
        The lowest possible loss, which is above 0 with label smoothing.
    kept : int
        Index of the record whose weights are kept.

    Returns
    -------
    matplotlib.figure.Figure
    """
    if "accuracy" not in records[-1]:
        return _curve_of_losses(records)
    epochs = [r["epoch"] for r in records]
    figure = new_figure(8.5, 3.6)
    loss, accuracy = figure.subplots(1, 2)
    loss.plot(epochs, [r["loss"] for r in records], color="tab:blue", linewidth=2)
    loss.set(title="Training loss", ylim=(0, None))
    if floor > 0:
        label = f"lowest possible with\nlabel smoothing: {floor:.2f}"
        loss.axhline(floor, color="tab:gray", linestyle="--", label=label)
        loss.legend(frameon=False, loc="best", fontsize=11)
    for name, (label, colour) in SERIES.items():
        if name in records[-1]:
            accuracy.plot(epochs, [100 * r[name] for r in records], color=colour, linewidth=2, label=label)
    epoch = "last epoch" if kept in (-1, len(records) - 1) else f"epoch {epochs[kept]:g}"
    tested = "test_accuracy" in records[-1]
    title = f"Test accuracy {records[kept]['test_accuracy']:.2%} ({epoch})" if tested else "Accuracy"
    accuracy.set(title=title, ylabel="accuracy in %", ylim=(None, 100.5))
    accuracy.legend(frameon=False, loc="best", fontsize=11)
    for axes in (loss, accuracy):
        _style(axes, len(records))
    figure.supxlabel("* during the epoch, with augmentation and dropout where they are used", fontsize=10,
                     color="dimgray", x=0.995, ha="right")
    return figure


def _curve_of_losses(records):
    """The figure of a pre-training, whose records have no accuracy: the losses alone."""
    figure = new_figure(5.5, 3.6)
    axes, epochs = figure.subplots(), [r["epoch"] for r in records]
    for name, (label, colour) in {"loss": ("training images", "tab:blue"),
                                  "test_loss": ("test images", "tab:orange")}.items():
        if name in records[-1]:
            axes.plot(epochs, [r[name] for r in records], color=colour, linewidth=2, label=label)
    axes.set(title="Error of the hidden pixels, 1 for a guess of the mean", ylim=(0, None))
    axes.legend(frameon=False, loc="best", fontsize=11)
    _style(axes, len(records))
    return figure


def _style(axes, points):
    """Label the axis of the epochs, and draw a grid. points: how many there are."""
    for line in axes.lines:
        line.set_marker("o" if points == 1 else "")                   # a single point draws no line
    axes.set_xlabel("epoch", fontsize=12)
    axes.title.set_fontsize(12.5)
    axes.yaxis.label.set_fontsize(12)
    axes.tick_params(labelsize=11)
    axes.xaxis.set_major_locator(MaxNLocator("auto", integer=True, min_n_ticks=1))
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
