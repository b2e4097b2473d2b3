"""The folder of a run if none is given: runs/DATA-seedS, or with a model's name runs/DATA-NAME-seedS.

A new run gets a folder that does not exist yet: runs/DATA-seedS-2, runs/DATA-seedS-3, ... If a run is resumed, its
folder is that of the newest run that fits.
"""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from ...common.sizes import compact, pair
from ...data.generated import is_generated
from ..folder import RunFolder

RUNS = Path("runs")


@contextmanager
def folder_of_new_run(source: str | Path, model_name: str | None, settings: Mapping[str, Any]) -> Iterator[Path]:
    """Make the default folder of a new run, with the first number that is free.

    Two processes that start at the same moment get two folders. If the training stops before it writes a file, the
    folder is removed, and its parent if that is empty.

    Parameters
    ----------
    source : str or Path
        Name or path of the data.
    model_name : str, optional
        The model's name, if one was given.
    settings : mapping
        The training settings that were given.
    """
    folder = _make_next(RUNS / f"{_stem(source, model_name)}-seed{settings.get('seed') or 0}")
    try:
        yield folder
    finally:
        with suppress(OSError):                                       # raised unless a folder is empty
            folder.rmdir()
            folder.parent.rmdir()


def _make_next(first: Path) -> Path:
    """Make and return the folder `first`, or the first of first-2, first-3, ... that does not exist yet."""
    folder, number = first, 1
    while True:
        with suppress(FileExistsError):
            first.parent.mkdir()
        try:
            folder.mkdir()
            return folder
        except FileExistsError:
            number += 1
            folder = first.with_name(f"{first.name}-{number}")
        except FileNotFoundError:                                     # another process removed the empty parent: again
            if first.parent.is_symlink():
                raise


def folder_to_resume(source: str | Path, model_name: str | None, settings: Mapping[str, Any],
                     model_options: Mapping[str, Any] | None = None) -> Path:
    """Return the run to resume: of those with a default folder, the newest unfinished one with the given options.

    If all that fit are finished, the newest of them is returned. If none has the given options, the newest run is
    returned, so that the error names what differs. Parameters as for `folder_of_new_run`, and the options of the model
    that were given; without a seed, any fits.

    Raises
    ------
    FileNotFoundError
        If there is no run.
    """
    runs = _runs(source, model_name, settings)
    if not runs:
        pattern = RUNS / f"{_stem(source, model_name)}-seed{settings.get('seed', '*')}"
        raise FileNotFoundError(f"there is no run to resume: {pattern} is not a run, which has a config.json: pass its "
                                "folder as out=..., or leave out resume=True")
    return max(runs, key=lambda run: (_fits(run, settings, model_options), _is_of(run, source),
                                      not run.model_file.is_file(), run.config_file.stat().st_mtime)).path


def unfinished_predecessor(source: str | Path, model_name: str | None, settings: Mapping[str, Any],
                           model_options: Mapping[str, Any] | None = None) -> Path | None:
    """Return the newest run with a default folder that is unfinished and has the options of a new run; else None.

    Parameters as for `folder_to_resume`.
    """
    runs = [run for run in _runs(source, model_name, {"seed": settings.get("seed") or 0})
            if not run.model_file.is_file() and _fits(run, settings, model_options) and _is_of(run, source)]
    return runs[-1].path if runs else None


def _runs(source: str | Path, model_name: str | None, settings: Mapping[str, Any]) -> list[RunFolder]:
    """The runs with a default folder for the data and the model, and for the seed if it is given."""
    seed = settings["seed"] if settings.get("seed") is not None else r"\d+"
    name = re.compile(rf"{re.escape(_stem(source, model_name))}-seed{seed}(-\d+)?")
    folders = sorted(RUNS.iterdir()) if RUNS.is_dir() else []
    return [run for run in map(RunFolder, folders) if name.fullmatch(run.path.name) and run.is_run()]


def _stem(source: str | Path, model_name: str | None) -> str:
    """The name of the folder before the seed: the name of the data, without .npz, and the model's name."""
    name = str(source).replace(":", "-") if is_generated(source) else Path(source).resolve().name.removesuffix(".npz")
    return "-".join([name, *filter(None, [model_name])])


def _fits(run: RunFolder, settings: Mapping[str, Any], model_options: Mapping[str, Any] | None) -> bool:
    """Return whether the run has the options that were given; weights may have moved, so they are not compared."""
    try:
        stored, model = run.settings, run.config()["model"]["options"]
    except (ValueError, OSError):
        return False
    return (all(stored[name] == value for name, value in settings.items()
                if name in stored and name not in ("start", "teacher"))
            and all(model[name] == (compact(pair(value)) if name == "patch_size" else value)
                    for name, value in (model_options or {}).items() if name in model))


def _is_of(run: RunFolder, source: str | Path) -> bool:
    """Return whether the run was trained on the data of this name or path."""
    try:
        stored = run.config()["data"]["source"] or {}
    except (ValueError, OSError):
        return False
    return stored.get("source") in (str(source), str(Path(source).resolve()))
