"""Early stopping: training ends if the validation accuracy stops improving, and the weights of the best epoch are kept.

With patience p, training ends after p epochs in a row that were not better than the best epoch before them. Epochs that
end within the warm-up (see `schedule.py`) are not counted: at a small learning rate, a lack of progress says little.

Source: Prechelt, "Early Stopping - But When?", in Neural Networks: Tricks of the Trade, Springer 1998.
"""

from collections.abc import Sequence


def best_record(records: Sequence[dict]) -> int:
    """Return the index of the first record with the best validation accuracy."""
    accuracies = [record["val_accuracy"] for record in records]
    return accuracies.index(max(accuracies))


def out_of_patience(records: Sequence[dict], patience: int, warmup: int) -> bool:
    """Return whether training should end.

    Parameters
    ----------
    records : list of dict
        One for each finished epoch, with `step` and `val_accuracy`.
    patience : int
        0 for no early stopping.
    warmup : int
        Number of steps of the warm-up.
    """
    if not (patience and records):
        return False
    since = records[best_record(records) + 1:]
    return sum(record["step"] >= warmup for record in since) >= patience
