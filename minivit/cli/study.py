"""`minivit study`: compare settings over several seeds."""

import argparse
import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .parser import add_json

EXAMPLE = """example of a FILE:
  data = "digits"
  seeds = 3                     # or a list

  [settings]                    # the same in each training
  epochs = 5
  val_fraction = 0.2

  [grid]                        # each combination is trained with each seed
  lr = [0.001, 0.003, 0.01]
  optimiser = ["adamw", "muon"]

instead of [grid], changes of the base that [settings] describe:
  [variants.rotary]
  positions = "rotary"
  [variants."without EMA"]
  ema = 0"""


def add_study(verbs: argparse._SubParsersAction) -> None:
    """Add `minivit study`."""
    verb = verbs.add_parser(
        "study", help="compare settings over several seeds",
        description="Train each combination of the settings in FILE with each seed, or each variant.\nPrint a table of "
                    "the mean accuracies and their errors, and draw a figure. An\ninterrupted study resumes.",
        epilog=EXAMPLE)
    verb.set_defaults(verb=_study)
    verb.add_argument("file", metavar="FILE", help="A TOML file, as in the example below.")
    verb.add_argument("--jobs", type=int, metavar="N",
                      help="Trainings at the same time, each in its own process. Default: 1; with --mpi or --dask, as "
                           "many as there are workers.")
    verb.add_argument("--threads", type=int, metavar="T",
                      help="Threads of each training. They do not change the result. Default: the cores, divided by "
                           "--jobs; with --mpi or --dask, 1.")
    verb.add_argument("--mpi", action="store_true", default=None,
                      help="Train on the processes that mpiexec has started, one training each: mpiexec -n 5 minivit "
                           "study FILE --mpi. One of them only distributes the work.")
    verb.add_argument("--dask", metavar="ADDRESS",
                      help="Train on the workers of the Dask scheduler at this address, such as tcp://host:8786.")
    verb.add_argument("--limit", type=int, metavar="N", help="Run at most N trainings now.")
    verb.add_argument("--table", metavar="CSV", help="File of the results. Default: FILE with the ending .csv.")
    verb.add_argument("--plot", metavar="FILE", help="File of the figure. Default: FILE with the ending .png.")
    add_json(verb, "the combinations and their accuracies")


def _study(options: argparse.Namespace) -> None:
    from ..training_pipeline.studies import ablation
    from ..training_pipeline.studies.run_study import run_study
    from ..training_pipeline.studies.summary import measure_of, results, summary

    if options.dask and options.mpi:
        raise ValueError("a study has one kind of workers: leave out --dask, or --mpi")
    with _executor(options) as (executor, is_worker):
        if is_worker:
            return
        asked, study = run_study(options.file, options.jobs, options.threads, executor, options.limit, options.table,
                                 options.plot)
    if options.json:
        rows = results(asked, study)
        compared = ablation.as_json(rows) if asked.variants else [{}] * len(rows)
        found = [{"combination": combination, "seeds": list(by_seed),
                  measure_of(study): [value if math.isfinite(value) else None for value in by_seed.values()]} | more
                 for (combination, by_seed), more in zip(rows, compared, strict=True)]
        print(json.dumps({"table": str(study.file), "results": found}))
        return
    figure = options.plot or Path(options.file).with_suffix(".png")
    print(f"{summary(asked, study)}\n\nresults: {study.file}  figure: {figure}")


@contextmanager
def _executor(options: argparse.Namespace) -> Iterator[tuple[Any, bool]]:
    """Yield (executor, whether this process was one of its workers); None without --mpi and --dask."""
    if options.mpi:
        from ..parallel.ranks.mpi import check_several, world

        comm = world()
        check_several(comm)
        from mpi4py.futures import MPICommExecutor

        with MPICommExecutor(comm, root=0) as executor:               # the other ranks work within this line
            yield executor, executor is None
    elif options.dask:
        try:
            from dask.distributed import Client
        except ImportError as error:
            raise ImportError(f"--dask needs the package dask with its extra `distributed` ({error}): pip install "
                              "'dask[distributed]'") from None
        try:
            client = Client(options.dask, timeout=10, set_as_default=False)
        except (OSError, ValueError) as error:
            raise OSError(f"no Dask scheduler answers at {options.dask}: {error}") from None
        with client:
            yield client.get_executor(), False
    else:
        yield None, False
