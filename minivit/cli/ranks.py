"""`--mpi`: several processes, the ranks, run one command together, and print its result and errors once."""

import argparse
import atexit
import os
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

# The number of this process among those of its machine, as MPICH, Open MPI and Slurm tell it before MPI is connected
LOCAL_RANK = ("MPI_LOCALRANKID", "OMPI_COMM_WORLD_LOCAL_RANK", "SLURM_LOCALID")


def prints_errors(typed: Sequence[str]) -> bool:
    """Return whether this process prints errors: with --mpi, the first one of each machine, until MPI is connected."""
    return "--mpi" not in typed or next((os.environ[name] for name in LOCAL_RANK if name in os.environ), "0") == "0"


@contextmanager
def ranks_of_command(options: argparse.Namespace) -> Iterator[Any]:
    """Connect the ranks for the time of a command; without --mpi this process is alone.

    An error of one rank ends all with the exit code of an error. Rank 0 raises it, and the others end silently.
    """
    from ..parallel.ranks.alone import ALONE
    from ..parallel.ranks.mpi import end_process, ranks_of, world

    if not options.mpi:
        yield ALONE
        return
    comm = world()
    ranks = ranks_of(comm)
    try:
        with ranks.together():
            yield ranks
    except (Exception, KeyboardInterrupt) as error:
        code = 128 + getattr(error, "signal", signal.SIGINT) if isinstance(error, KeyboardInterrupt) else 2
        atexit.register(end_process, code, comm)                      # after rank 0 has printed the error
        if ranks.first:
            raise
        raise SystemExit(code) from None
