"""What lanes and training know of ranks. `Alone` has the answers of a process that trains alone.

The answers of the ranks of MPI are in `mpi.py`.

A batch has the same lanes on any number of ranks, and each rank runs some of them. The sum of the lanes' gradients is
computed in the order of the lanes, so its bits do not depend on the number of ranks. All ranks then do the same update.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, TypeVar

import numpy as np

from ..batch_split import chunks
from ..threads import Workers

LaneResult = tuple[float, int]
Result = TypeVar("Result")


class RankError(RuntimeError):
    """The training has ended because of an error in another rank. The text names the rank and the error."""


class Alone:
    """The only rank: it owns all lanes.

    Attributes
    ----------
    rank, size : int
        The number of this rank, from 0, and how many there are.
    first : bool
        Whether this is rank 0, the only one that writes files and shows progress.
    host : str
        The name of this rank's machine.
    """

    rank, size, first, host = 0, 1, True, "this machine"

    def check_lanes(self, count: int) -> None:
        """Raise ValueError if there are more ranks than lanes."""

    def own(self, count: int) -> slice:
        """Return which of `count` lanes belong to this rank: consecutive ones. Called at the start of each step."""
        return slice(0, count)

    def edges(self, count: int) -> list[int]:
        """Return the number of the first one of `count` parts for each rank, and `count`."""
        return [count * rank // self.size for rank in range(self.size + 1)]

    def ordered_allreduce(self, workers: Workers, total: np.ndarray, compute: Callable[[], Result],
                          is_final: Callable[[slice], bool], add_own: Callable[[slice, bool], None],
                          finish: Callable[[slice], float]) -> tuple[Result, list[float]]:
        """Compute vectors (n,), and add those of all ranks in the order of the ranks, into `total` (n,) of each rank.

        Parameters
        ----------
        workers : Workers
            The threads that add. Each takes one chunk of the vector after another.
        total : (n,)
            The sum.
        compute : function
            () -> anything; computes the vectors of this rank. It is called once, in this thread.
        is_final : function
            (chunk) -> whether `compute` will not change a chunk of this rank's vectors any more. It is asked by another
            thread while `compute` runs.
        add_own : function
            (chunk, first) adds the vectors of this rank to a chunk of the total. If `first`, nothing was added before,
            and the chunk has arbitrary values.
        finish : function
            (chunk) -> number, called when the chunk of the total is complete.

        Returns
        -------
        result
            What `compute` returned.
        list of float
            What `finish` returned, for each chunk in order.
        """
        def add(chunk):
            add_own(chunk, True)
            return finish(chunk)

        return compute(), workers.map(add, chunks(0, total.size))

    def allgather_lanes(self, results: Sequence[LaneResult], count: int) -> list[LaneResult]:
        """Return the (loss, number of correct predictions) of all `count` lanes from those of each rank's own lanes."""
        return list(results)

    def allgather_rows(self, rows: np.ndarray, edges: Sequence[int]) -> None:
        """Complete `rows` (n, k) on every rank. Rank r has computed the rows from `edges[r]` to `edges[r + 1]`."""

    def allgather(self, value: Any) -> list[Any]:
        """Return the value of each rank, in order. A value is anything that JSON can hold."""
        return [value]

    def broadcast(self, value: Any) -> Any:
        """Return the value of rank 0 on every rank."""
        return self.allgather(value)[0]

    def allgather_number(self, number: int) -> list[int]:
        """Return the number of each rank, in order: whole and below 2**53."""
        return [number]

    def threads(self, threads: int | None) -> int | None:
        """Return the number of threads of this rank: `threads`, or if it is None a fair share of the cores."""
        return threads

    def together(self) -> AbstractContextManager:
        """Return a context in which an error of one rank ends all: the others raise `RankError`."""
        return nullcontext()

    def if_killed(self, text: str) -> None:
        """Set the line to print if this process or another rank is killed."""

    def __repr__(self) -> str:
        return f"rank {self.rank} of {self.size}"


ALONE = Alone()
