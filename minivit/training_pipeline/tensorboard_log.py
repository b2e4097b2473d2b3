"""The log of a run for TensorBoard: `minivit train DATA --log tensorboard`, then `tensorboard --logdir runs`.

TensorBoard's own writer writes the numbers of each epoch to the folder `tensorboard` of the run. A resumed run writes
them again from the log of the run, so that no epoch stands there twice.
"""

import shutil
from pathlib import Path
from typing import Any

from ..training.loop import Loop

NOT_SHOWN = ("epoch", "step")       # the epoch is the horizontal axis


def tensorboard_writer() -> Any:
    """Return the class of TensorBoard's writer. Raises ImportError, in one line, if TensorBoard is not installed."""
    try:
        from tensorboard.summary import Writer
    except ImportError as error:
        raise ImportError(f"log=tensorboard needs the package tensorboard ({error}): pip install tensorboard") from None
    return Writer


class TensorBoardLog:
    """Writes the records of epochs. A function for `Loop.after_epoch`.

    Parameters
    ----------
    folder : Path
        Folder of the log. An older log in it is replaced.
    records : list of dict
        The epochs so far.
    """

    def __init__(self, folder: Path, records: list[dict[str, Any]]) -> None:
        writer = tensorboard_writer()
        shutil.rmtree(folder, ignore_errors=True)
        self._writer = writer(str(folder))
        for record in records:
            self._write(record)

    def __call__(self, loop: Loop) -> None:
        """Write the record of the epoch that has just ended."""
        self._write(loop.records[-1])

    def _write(self, record: dict[str, Any]) -> None:
        for name, value in record.items():
            if name not in NOT_SHOWN:
                named = {f"{name}/{layer}": number for layer, number in value.items()} if isinstance(
                    value, dict) else {name: value}
                for tag, number in named.items():
                    self._writer.add_scalar(tag, number, record["epoch"])
        self._writer.flush()
