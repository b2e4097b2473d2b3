"""Training with a teacher: a model that has learned already looks at the same pictures, and the student learns from labels and from it.

    loss = (1 - weight) cross_entropy(first head, labels) + weight distillation(last head, teacher)

A DeiT has two heads, one for each; a model with one head hears both on it. The teacher sees just what the student sees, after
augmentation: what a crop does not show, it cannot tell. It only infers, in each lane for the lane's own share, and learns nothing.

Source: Touvron et al., arXiv:2012.12877, section 4; weight 0.5 for hard distillation, 0.1 and temperature 3 for soft, are theirs.
"""

import numpy as np

from ..common.checks import check_name, check_number
from ..ops import cross_entropy, distillation
from ..runs.weight_source import Source


class Distillation:
    """What a lane does with its share when a teacher looks on; see `lanes.supervised`.

    teacher: a model for the same images and classes. kind: "hard", its first class counts, or "soft", all that it says, softened by the
    `temperature`. weight: of its part in the loss, 0 to 1. Raises ValueError for a value out of range.
    """

    def __init__(self, teacher, kind="hard", weight=0.5, temperature=3.0):
        self.teacher = teacher.inference_view()                               # it remembers nothing, so all lanes may ask it at once
        self.soft = check_name("distillation", kind, ["hard", "soft"]) == "soft"
        self.weight = check_number("weight of the teacher", weight, least=0, most=1)
        self.temperature = check_number("temperature", temperature, above=0)

    def check(self, student):
        """Raise ValueError unless teacher and student take the same images and have the same number of classes."""
        ours, theirs = ((m.image_size, m.image_size, m.channels) for m in (student, self.teacher))
        if ours != theirs or student.classes != self.teacher.classes:
            raise ValueError(f"the teacher has {self.teacher.classes} classes of images {theirs}, "
                             f"but the model {student.classes} classes of {ours}")

    def __call__(self, model, images, targets, batch):
        """As `lanes.supervised`; logits are the mean of the heads."""
        said = self.teacher.forward(images).astype(model.dtype, copy=False)
        heads = model.forward_heads(images)                           # (B, 1 or 2, K)
        q = distillation.targets(said, self.temperature if self.soft else None)
        label_loss, of_labels = cross_entropy.forward(heads[:, 0], targets, batch)
        teacher_loss, of_teacher = distillation.forward(heads[:, -1], q, self.temperature if self.soft else 1.0, batch)
        dheads = np.zeros_like(heads)
        dheads[:, 0] += cross_entropy.backward(1 - self.weight, of_labels)
        dheads[:, -1] += distillation.backward(self.weight, of_teacher)
        model.backward_heads(dheads)
        return (1 - self.weight) * float(label_loss) + self.weight * float(teacher_loss), heads.mean(axis=1)


def distillation_for(settings, student, class_names=None):
    """The Distillation that the settings of a training ask for; None if they name no teacher.

    class_names: of the data, if they are known. Raises ValueError if images or classes do not fit; errors as `Source.again` and
    `Run.load_model`.
    """
    if settings["teacher"] is None:
        return None
    run = Source.again(settings["teacher"], "--teacher").run
    teacher = run.load_model()
    made = Distillation(teacher, settings["distillation"], settings["distillation_weight"], settings["temperature"])
    made.check(student)
    if class_names is not None and list(class_names) != run.class_names(teacher)[:len(class_names)]:
        raise ValueError(f"the teacher in {run.folder} has the classes {', '.join(run.class_names(teacher))}, but the data "
                         f"{', '.join(class_names)}: they must be the same, in the same order")
    return made
