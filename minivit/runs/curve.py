"""The learning curve as a picture."""

from matplotlib.ticker import MaxNLocator

from ..common.figures import new_figure, save


def plot_curve(records, path, floor=0.0, kept=-1):
    """Draw loss and accuracy over the epochs to a PNG file. floor: the lowest loss there can be. kept: the record whose weights are kept.

    records: dicts with `epoch`, `loss`, `accuracy` (of training batches, augmented and with dropout) and `test_accuracy`, and
        `val_accuracy` where there is a validation part.
    """
    epochs = [r["epoch"] for r in records]
    figure = new_figure(9, 3.4)
    loss, accuracy = figure.subplots(1, 2)
    loss.plot(epochs, [r["loss"] for r in records], color="tab:blue")
    loss.set(title="training loss" + (f" (label smoothing: at best {floor:.2f})" if floor > 0 else ""), xlabel="epoch", ylim=(0, None))
    accuracy.plot(epochs, [100 * r["accuracy"] for r in records], color="tab:blue", label="training batches, varied")
    accuracy.plot(epochs, [100 * r["test_accuracy"] for r in records], color="tab:orange", label="test images")
    if "val_accuracy" in records[-1]:
        accuracy.plot(epochs, [100 * r["val_accuracy"] for r in records], color="tab:green", label="validation images")
    epoch = "last epoch" if kept in (-1, len(records) - 1) else f"epoch {epochs[kept]:g}"
    accuracy.set(title=f"accuracy (test, {epoch}: {records[kept]['test_accuracy']:.2%})", xlabel="epoch", ylabel="%", ylim=(None, 100.5))
    accuracy.legend(frameon=False, loc="best")
    for axes in (loss, accuracy):
        for line in axes.lines:
            line.set_marker("o" if len(records) == 1 else "")         # a single point makes no line
        axes.xaxis.set_major_locator(MaxNLocator("auto", integer=True, min_n_ticks=1))
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
    save(figure, path)
