"""The learning curve as a picture."""

from matplotlib.ticker import MaxNLocator

from ..common.figures import new_figure, save


def plot_curve(records, path, floor=0.0, kept=-1):
    """Draw the learning curve to an image file. Parameters as for `curve_figure`."""
    save(curve_figure(records, floor, kept), path)


def curve_figure(records, floor=0.0, kept=-1):
    """Return a figure of loss and accuracy over the epochs.

    Parameters
    ----------
    records : list of dict
        One for each epoch, with `epoch`, `loss`, `accuracy` (of training batches, with augmentation and dropout), and
        `test_accuracy` and `val_accuracy` where there are such images.
    floor : float
        The lowest possible loss.
    kept : int
        Index of the record whose weights are kept.

    Returns
    -------
    matplotlib.figure.Figure
    """
    epochs = [r["epoch"] for r in records]
    figure = new_figure(9, 3.4)
    loss, accuracy = figure.subplots(1, 2)
    loss.plot(epochs, [r["loss"] for r in records], color="tab:blue")
    loss.set(title="training loss" + (f" (label smoothing: at best {floor:.2f})" if floor > 0 else ""), xlabel="epoch",
             ylim=(0, None))
    accuracy.plot(epochs, [100 * r["accuracy"] for r in records], color="tab:blue", label="training batches, varied")
    for name, color, label in (("test_accuracy", "tab:orange", "test images"),
                               ("val_accuracy", "tab:green", "validation images")):
        if name in records[-1]:
            accuracy.plot(epochs, [100 * r[name] for r in records], color=color, label=label)
    epoch = "last epoch" if kept in (-1, len(records) - 1) else f"epoch {epochs[kept]:g}"
    test = f" (test, {epoch}: {records[kept]['test_accuracy']:.2%})" if "test_accuracy" in records[-1] else ""
    accuracy.set(title=f"accuracy{test}", xlabel="epoch", ylabel="%", ylim=(None, 100.5))
    accuracy.legend(frameon=False, loc="best")
    for axes in (loss, accuracy):
        for line in axes.lines:
            line.set_marker("o" if len(records) == 1 else "")         # a single point makes no line
        axes.xaxis.set_major_locator(MaxNLocator("auto", integer=True, min_n_ticks=1))
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
    return figure
