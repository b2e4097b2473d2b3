"""A study answers a question that takes many runs. It keeps their results in a CSV table, one row for each run.

    # {"epochs": 5, "lr": 0.002}             settings that all points share
    "model","images","seed","accuracy","seconds"
    "vit",500,0,0.7134,151.2                 a point and its results

The file is written completely after each run. Finished points are not run again, so an interrupted study loses only the
current run. If points run side by side, rows stand in the order in which they ended. Texts are quoted and numbers are
not, so the table reads back exactly; `pandas.read_csv(file, comment="#")` reads it too. `side_by_side.py` runs points
at the same time: in processes of this machine, or on other machines by an executor of MPI or Dask.
"""

import csv
import io
import json
import sys
import time
from collections.abc import Callable
from concurrent.futures import Executor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ...common.checks import check_number
from ...common.files import locked, write_atomic
from ...common.text import plural
from .side_by_side import OneProcessEach, lost, side_by_side


class Study:
    """The table of a study.

    Parameters
    ----------
    file : path
        The CSV file; it need not exist yet.
    settings : dict
        Everything that all points share and that results depend on, as JSON can hold it.

    Attributes
    ----------
    rows : list of dict
        The results so far.

    Raises
    ------
    ValueError
        If the file is damaged, or its results were made with other settings.
    """

    def __init__(self, file: Any, settings: dict) -> None:
        self.file, self.settings = Path(file), json.loads(json.dumps(settings))
        self.text, self.rows = "", list[dict]()
        self._reload()

    def run(self, points: list[dict], measure: Callable, limit: int | None = None, jobs: int | None = None,
            executor: Executor | Callable[[], Executor] | None = None) -> int:
        """Measure the points that the table lacks, in order.

        Parameters
        ----------
        points : list of dict
            Texts and numbers, all with the same names.
        measure : function
            Takes a point's values by name and returns a dict of numbers. `run` adds the seconds that it took.
        limit : int, optional
            Largest number of points to measure now.
        jobs : int, optional
            Number of points to measure at the same time. Default: 1; with an executor, as many as it has workers. With
            more than one, each runs in its own process, so `measure` must be a function of a module, or a partial of
            one.
        executor : concurrent.futures.Executor or function, optional
            What runs the points: for example mpi4py.futures.MPIPoolExecutor() or dask.distributed.Client(...)
            .get_executor(). If it is a function that returns one, such as loky.get_reusable_executor, the function is
            called again after the death of a worker has broken the executor.

        Returns
        -------
        int
            How many points are left.

        Raises
        ------
        ValueError
            If the table has other columns, or a value is neither a number nor a text of one line.
        OSError
            If the table cannot be written (it keeps its old content), or another process is writing it. After all other
            points, if a process was killed: its point is lost, and is measured in the next run.
        """
        if jobs is not None:
            check_number("number of jobs", jobs, least=1, whole=True)
        if limit is not None:
            check_number("limit of points", limit, least=0, whole=True)
        missing = self._missing(points)
        if not missing or limit == 0:
            return len(missing)
        with locked(self.file):
            self._reload()                                              # another process may have added rows
            missing = self._missing(points)
            if self.rows and missing:
                print(f"{self.file} has {len(points) - len(missing)} of {len(points)} points already.", file=sys.stderr)
            self._measure(missing[:limit], len(points), len(missing), partial(_measured, measure, jobs, executor))
        return len(missing[limit:]) if limit is not None else 0

    def check_points(self, points: list[dict]) -> None:
        """Raise ValueError if the table has other columns than these points, or they do not fit into a table."""
        names, columns = [*points[0]] if points else [], [*self.rows[0]] if self.rows else []
        if columns and columns[:len(names)] != names:
            raise ValueError(f"{self.file} has the columns {', '.join(columns)}, but its points here begin with "
                             f"{', '.join(names)}")
        for point in points:
            _checked(point)

    def by_seed(self, result: str, **fields: Any) -> dict[Any, Any]:
        """Return a result of the rows with these fields, such as `by_seed("accuracy", model="vit", images=500)`.

        Parameters
        ----------
        result : str
            Name of the result.
        **fields
            Values that a row must have.

        Returns
        -------
        dict
            {seed: result}, sorted by seed.
        """
        found = {row["seed"]: row[result] for row in self.rows
                 if all(row[name] == value for name, value in fields.items())}
        return dict(sorted(found.items()))

    def _reload(self):
        """Read the table, if there is one. Raises ValueError if it is damaged, or has other settings."""
        if not self.file.exists():
            self.text, self.rows = "", []
            return
        self.text, there, self.rows = _read(self.file)
        names = [*(there | self.settings)]
        if other := [name for name in names if there.get(name) != self.settings.get(name)]:
            differences = "; ".join(f"{name} ({there.get(name)} there, {self.settings.get(name)} here)"
                                    for name in other)
            raise ValueError(f"{self.file} was made with other settings: {differences}. Move it away, or use another "
                             "file")

    def _missing(self, points):
        """Return the points that the table lacks. Errors as `check_points`."""
        self.check_points(points)
        known = [{name: row[name] for name in points[0]} for row in self.rows] if points else []
        return [point for point in points if point not in known]

    def _measure(self, now, total, missing, measured):
        """Measure the points `now`, of the `missing` ones of all, and add their rows. Errors as `run`."""
        done, dead, start = 0, list[dict](), time.monotonic()
        for point, found, seconds in measured(now):
            if found is None:
                dead.append(point)
                print(f"lost: {_words(point)}: its process was killed", file=sys.stderr, flush=True)
                continue
            self._add(point | found | {"seconds": seconds})
            done += 1
            left = (missing - done) * (time.monotonic() - start) / done   # rows of an earlier day may be of a busy day
            print(f"{total - missing + done} of {total}: {_words(point)}: {_words(found)}; {seconds:.0f} s; about "
                  f"{_duration(left)} left", file=sys.stderr, flush=True)
        if dead:
            raise ChildProcessError(f"a process was killed while it measured a point, perhaps because memory ran out: "
                                    f"{len(dead)} {plural(len(dead), 'point')} of {len(now)} lost, the others are in "
                                    f"{self.file}: run again, perhaps with fewer jobs=...")

    def _add(self, row):
        """Add a row to the table and write it. Raises ValueError if it has other columns than those before."""
        if self.rows and [*row] != [*self.rows[0]]:
            raise ValueError(f"{self.file} has the columns {', '.join(self.rows[0])}, but a new row has "
                             f"{', '.join(row)}")
        if self.text != (self.file.read_text(encoding="utf-8") if self.file.exists() else ""):
            raise ValueError(f"{self.file} was changed by another program, so nothing was added to it: run again")
        text = io.StringIO()
        writer = csv.DictWriter(text, [*(self.rows or [row])[0]], quoting=csv.QUOTE_NONNUMERIC, lineterminator="\n")
        if not self.rows:
            text.write(f"# {json.dumps(self.settings)}\n")
            writer.writeheader()
        writer.writerow(row)
        write_atomic(self.file, self.text + text.getvalue())
        self.text += text.getvalue()                                  # earlier rows keep their bytes
        self.rows.append(row)


def _measured(measure, jobs, executor, points):
    """Yield (point, results, seconds) as points end; for a point whose process was killed, (point, None, None)."""
    if executor is None and jobs in (None, 1):
        yield from ((point, *_timed(measure, point)) for point in points)
        return
    make: Callable[[], Executor] = partial(OneProcessEach, jobs) if executor is None else (
        executor if callable(executor) else lambda: executor)
    for point, result in side_by_side(points, partial(_timed, measure), make, jobs, keep=executor is not None):
        yield (point, None, None) if result is lost else (point, *result)


def _timed(measure, point):
    """Measure one point and its time."""
    start = time.perf_counter()
    return _checked(measure(**point)), round(time.perf_counter() - start, 2)


def _read(file):
    """Return the text, the settings and the rows of a table. Raises ValueError that names the damaged line."""
    number, rows, names = 1, [], []
    try:
        text = file.read_text(encoding="utf-8")
        first, *lines = text.removesuffix("\n").split("\n")
        settings = json.loads(first.removeprefix("# "))
        for number, line in enumerate(lines, 2):
            [values] = csv.reader([line], quoting=csv.QUOTE_NONNUMERIC, strict=True)
            if number == 2:
                names = values
            else:
                rows.append(dict(zip(names, values, strict=True)))
        if not isinstance(settings, dict) or not rows or not text.endswith("\n"):
            raise ValueError("it ends too early")
        return text, settings, rows
    except (ValueError, csv.Error) as error:
        raise ValueError(f"{file} is damaged in line {number} ({error}): restore an earlier copy, or delete it and "
                         "start again") from None


def _checked(fields):
    """Return the fields if the table can hold them exactly; raise ValueError otherwise."""
    for name, value in fields.items():
        is_kept = isinstance(value, str | int | float | np.integer | np.floating) and not isinstance(value, bool)
        if not is_kept or {"\n", "\r"} & {*str(value)}:
            raise ValueError(f"a study keeps numbers and texts of one line, but {name} is {value!r}")
    return fields


def _words(fields):
    """Return fields as text."""
    return ", ".join(f"{name} {value:,.4g}" if isinstance(value, float) else f"{name} {value}"
                     for name, value in fields.items())


def _duration(seconds):
    """Return seconds as text."""
    if seconds < 100:
        return f"{seconds:.0f} seconds"
    return f"{seconds / 60:.0f} minutes" if seconds < 6000 else f"{seconds / 3600:.1f} hours"
