"""The teachers of a distillation: finished runs, loaded and checked against the student and its data."""

from collections.abc import Mapping, Sequence

from ...models.model import Model
from ...training.distillation import Distillation
from .weight_source import WeightSource


def distillation_for(settings: Mapping, student: Model,
                     class_names: Sequence[str] | None = None) -> Distillation | None:
    """Return the distillation that training settings ask for, or None if they name no teacher.

    Parameters
    ----------
    settings : mapping
        The training settings.
    student : Model
    class_names : list of str, optional
        The classes of the data. If given, they must be those of the teachers.

    Raises
    ------
    ValueError
        If the images or classes of a teacher and the student differ. Also as `WeightSource.from_record` and
        `RunFolder.read_model` raise.
    """
    if not settings["teacher"]:
        return None
    runs = [_run_of(source) for source in teacher_sources(settings)]
    made = Distillation([run.read_model() for run in runs], settings["distillation"], settings["distillation_weight"],
                        settings["temperature"])
    made.check(student)
    for run, teacher in zip(runs, made.teachers, strict=True):
        names = run.class_names(teacher)
        if class_names is not None and list(class_names) != names[:len(class_names)]:
            raise ValueError(f"the teacher's classes are not those of the data: the teacher in {run.path} has "
                             f"{', '.join(names)}, the data {', '.join(class_names)}; names and order must be the same")
    return made


def teacher_sources(settings: Mapping) -> list[WeightSource]:
    """Return the sources of the teachers in the training settings. Errors as `WeightSource.from_record`."""
    return [WeightSource.from_record(record, "teacher") for record in settings["teacher"] or ()]


def _run_of(source):
    """The run of one teacher."""
    if source.run is None:
        raise ValueError("a teacher must be the folder of a finished run, not a file of weights: only a run knows its "
                         "classes")
    source.run.check_classifies()
    return source.run
