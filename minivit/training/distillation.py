"""Distillation: a student learns from the labels and from a teacher, a model that is trained already.

    loss = (1 - weight) cross_entropy(first head, labels) + weight distillation(last head, teacher)

A DeiT has two heads: one learns from the labels, the other from the teacher. For a model with a single head both
terms act on that head. The teacher receives the same augmented images as the student: it cannot describe what a crop
has removed. It only predicts and is never trained. Each lane runs the teacher on the images of its own micro-batch.
Several teachers are an ensemble: the mean of their probabilities counts.

Read before: `ops/distillation.py` (the loss) and `parallel/lanes.py` (what an objective is).

Source: Touvron et al., arXiv:2012.12877, section 4. They use weight 0.5 for hard distillation, 0.1 and temperature 3
for soft.
"""

from collections.abc import Sequence

import numpy as np

from ..common.checks import check_name, check_number
from ..kernel_replay import Tracked
from ..models.model import Model
from ..ops import cross_entropy, distillation, pooling


class Distillation:
    """An objective for a `Trainer` that adds a teacher's predictions to the labels.

    Parameters
    ----------
    teachers : Model or list of Model
        Trained models for the same images and classes. From several the student learns the mean of their probabilities.
    kind : "hard" or "soft"
        Whether the student learns the teachers' most probable class, or their distribution over the classes.
    weight : float, 0 to 1
        Weight of the teachers' term in the loss.
    temperature : float, above 0
        Softens both distributions; used for "soft" only.

    Raises
    ------
    ValueError
        For an unknown kind, a number out of range, or no teacher.
    """

    def __init__(self, teachers: Model | Sequence[Model], kind: str = "hard", weight: float = 0.5,
                 temperature: float = 3.0) -> None:
        teachers = [teachers] if isinstance(teachers, Model) else teachers
        if not teachers:
            raise ValueError("distillation needs a teacher: pass a model or a list of models")
        # A view keeps no cache, so all lanes may call it at once. A recorded step reads the weights as tracked arrays.
        self.teachers = [teacher.inference_view() for teacher in teachers]
        self._views = {np.ndarray: self.teachers,
                       Tracked: [teacher.inference_view(kind=Tracked) for teacher in teachers]}
        self.soft = check_name("distillation", kind, ["hard", "soft"]) == "soft"
        self.weight = check_number("distillation weight", weight, least=0, most=1)
        self.temperature = check_number("temperature", temperature, above=0)

    def numbers(self) -> dict[str, float]:
        """Return the numbers on which the loss depends, besides the arrays: a recorded step keeps them."""
        return {"weight": self.weight, "temperature": self.temperature, "soft": self.soft}

    def check(self, student: Model) -> None:
        """Raise ValueError unless teachers and student take the same images and have the same number of classes."""
        for number, teacher in enumerate(self.teachers, 1):
            ours, theirs = (m.input_shape for m in (student, teacher))
            which = f"teacher {number} of {len(self.teachers)}" if len(self.teachers) > 1 else "the teacher"
            if ours != theirs or student.classes != teacher.classes:
                raise ValueError(f"{which} does not fit the model: it has {teacher.classes} classes of images "
                                 f"{theirs}, the model {student.classes} classes of {ours}; they must be equal")

    def __call__(self, model: Model, images: np.ndarray, targets: np.ndarray,
                 batch: int) -> tuple[np.ndarray, np.ndarray]:
        """Run forward, loss and backward; see `lanes.supervised`. The logits are the mean of the heads."""
        teachers = self._views[Tracked if isinstance(images, Tracked) else np.ndarray]
        of_teachers = [teacher.forward(images).astype(model.dtype, copy=False) for teacher in teachers]
        heads = model.forward_heads(images)                           # (B, 1 or 2, K)
        q = distillation.targets(of_teachers, self.temperature if self.soft else None)
        label_loss, label_cache = cross_entropy.forward(heads[:, 0], targets, batch)
        temperature = self.temperature if self.soft else 1.0
        teacher_loss, teacher_cache = distillation.forward(heads[:, -1], q, temperature, batch)
        dheads = np.zeros_like(heads)
        dheads[:, 0] += cross_entropy.backward(1 - self.weight, label_cache)
        dheads[:, -1] += distillation.backward(self.weight, teacher_cache)
        model.backward_heads(dheads)
        loss = label_loss * (1 - self.weight) + teacher_loss * self.weight
        return loss, pooling.forward(heads, "mean")[0]
