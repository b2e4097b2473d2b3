"""Train each point of a study and keep the results in a table beside its file."""

import math
from collections.abc import Callable
from concurrent.futures import Executor
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

from ...common.figures import figure_format
from ...data import load_data
from ...explain import Study
from ...parallel.threads import available_threads
from ..train import train
from .study_file import StudyFile, arguments, read_study, validates


def run_study(path: str | Path, jobs: int | None = None, threads: int | None = None,
              executor: Executor | Callable[[], Executor] | None = None, limit: int | None = None,
              table: str | Path | None = None, picture: str | Path | None = None) -> tuple[StudyFile, Study]:
    """Run a study, or what is left of it.

    Parameters
    ----------
    path : str or Path
        The file of the study; see `study_file.py`.
    jobs, executor, limit
        As for `Study.run`.
    threads : int, optional
        Number of threads of each training. Default: with an executor 1; else the cores, divided by `jobs`.
    table, picture : str or Path, optional
        The CSV file of the results, and the file of the figure. Default: `path` with the ending .csv, and .png.

    Returns
    -------
    (StudyFile, Study)
        What was asked for, and the results.

    Raises
    ------
    ValueError, TypeError
        If the file, the data or a setting do not fit, before anything is trained.
    OSError
        If the table cannot be written, or if a process was killed.
    """
    from .summary import draw  # here, because it loads matplotlib

    asked, path = read_study(path), Path(path)
    if picture is not None:
        figure_format(picture)                                        # a wrong ending is reported before the trainings
    data = load_data(asked.data, seed=asked.seeds[0])
    asked.check(data)
    study = Study(table or path.with_suffix(".csv"), asked.shared | {"digest": data.digest})
    if threads is None:
        threads = 1 if executor else max(1, available_threads() // (jobs or 1))
    measure = partial(train_point, asked.data, asked.model, asked.settings, threads)
    study.check_points(asked.points)

    def draw_rows():
        if study.rows:
            draw(asked, study, picture or path.with_suffix(".png"))

    try:
        study.run(asked.points, measure, limit, jobs, executor)
    except (KeyboardInterrupt, ChildProcessError):                    # the table has the points that have ended
        draw_rows()
        raise
    draw_rows()
    return asked, study


@lru_cache(maxsize=1)                                             # points are in the order of the seeds
def _load(source, seed):
    return load_data(source, seed=seed)


def train_point(source: str, name: str | None, shared: dict[str, Any], threads: int, seed: float,
                **values: Any) -> dict[str, float]:
    """Train a point and return its accuracy on the test images, its loss, and its accuracy on validation images.

    All are NaN if the loss does not stay finite: that is a result, too.
    """
    model, data, settings = arguments(_load(source, int(seed)), name, shared, values, int(seed))
    try:
        result = train(model, data, threads=threads, progress=False, **settings)
    except FloatingPointError:
        names = ("accuracy", "validation_accuracy") if validates(model, data, settings) else ("accuracy",)
        return dict.fromkeys((*names, "loss"), math.nan)
    validation = {"validation_accuracy": result.validation.accuracy} if result.validation else {}
    return {"accuracy": result.accuracy, **validation, "loss": result.loss}
