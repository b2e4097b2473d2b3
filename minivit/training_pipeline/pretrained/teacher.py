"""The teacher of a distillation: a finished run, loaded and checked against the student and its data."""

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
        The classes of the data. If given, they must be the teacher's.

    Raises
    ------
    ValueError
        If the images or classes of the teacher and the student differ. Also as `WeightSource.from_record` and
        `RunFolder.read_model` raise.
    """
    if settings["teacher"] is None:
        return None
    source = WeightSource.from_record(settings["teacher"], "teacher")
    if source.run is None:
        raise ValueError("a teacher must be the folder of a finished run, not a file of weights: only a run knows its "
                         "classes")
    source.run.check_classifies()
    teacher = source.run.read_model()
    names = source.run.class_names(teacher)
    made = Distillation(teacher, settings["distillation"], settings["distillation_weight"], settings["temperature"])
    made.check(student)
    if class_names is not None and list(class_names) != names[:len(class_names)]:
        raise ValueError(f"the teacher's classes are not those of the data: the teacher in {source} has "
                         f"{', '.join(names)}, the data {', '.join(class_names)}; names and order must be the same")
    return made
