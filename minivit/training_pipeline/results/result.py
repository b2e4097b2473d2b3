"""What `minivit.train` returns."""

import base64
import html
import io
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ...common.text import plural
from ...models.model import Model
from ...training.early_stopping import best_record
from ...training.evaluation import Evaluation, smoothing_floor
from ...training.loop import Loop
from ...training.pretraining import Reconstruction

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True, repr=False)
class Result:
    """The result of a training.

    Attributes
    ----------
    model : Model
        The trained model.
    test : Evaluation, or Reconstruction or None
        Of the final weights on the test images. With `test.with_flip`, if training flipped images. After pre-training
        a `Reconstruction`, None without test images.
    loss : float
        Mean training loss of the last epoch.
    steps : int
        Number of steps of the whole training.
    seconds : float
        Time of all steps, including those before a resume.
    images_per_second : float
        Speed of the steps of this call; 0 if none was left to do.
    validation : Evaluation or None
        On the validation images, if there are any.
    resumed : bool
        Whether earlier calls did some of the steps.
    records : list of dict
        The log: one entry for each epoch.
    loss_floor : float
        The lowest possible training loss, above 0 with label smoothing.
    kept_record : int
        Index of the record whose weights were kept; -1 for the last.
    """

    model: Model
    test: Any
    loss: float
    steps: int
    seconds: float
    images_per_second: float
    validation: Evaluation | None = None
    resumed: bool = False
    records: list[dict[str, Any]] = field(default_factory=list)
    loss_floor: float = 0.0
    kept_record: int = -1

    @property
    def accuracy(self) -> float:
        """Fraction of the test images that are classified correctly, 0 to 1. Pre-training has none."""
        if not isinstance(self.test, Evaluation):
            raise AttributeError("pre-training without labels has no accuracy: see the loss of `test`")
        return self.test.accuracy

    def __str__(self) -> str:
        first, *with_flip = self._of_test()
        lines = [f"{first}, after {self.steps} {plural(self.steps, 'step')} in {self._time()}"]
        lines += [f"test, {line}" for line in with_flip]
        return "\n".join(lines + ([f"validation: {self.validation}"] if self.validation else []))

    def __repr__(self) -> str:
        score = self._of_test()[0].removeprefix("test ")
        return f"Result({score}, {self.steps} {plural(self.steps, 'step')} in {self._time()})"

    def _of_test(self):
        """The scores on the test images as lines of text; without such images the training loss."""
        if self.test is None:
            return [f"training loss {self.loss:.4f}"]
        first, *others = self.test.lines
        return [f"test {first}", *others]

    def _time(self):
        """Duration and speed as text."""
        speed = f"{self.images_per_second:,.0f} images/s{' since it was resumed' if self.resumed else ''}"
        return f"{self.seconds:.1f} s" + (f" ({speed})" if self.images_per_second else "")

    def _repr_html_(self) -> str:
        """A table and the learning curve, for notebooks."""
        rows = {"test": str(self.test)} if self.test else {}
        with_flip = getattr(self.test, "with_flip", None)
        rows |= {"test, with flip": str(with_flip)} if with_flip else {}
        rows |= {"validation": str(self.validation)} if self.validation else {}
        rows |= {"training loss": f"{self.loss:.4f} in the last epoch", "steps": f"{self.steps:,} in {self._time()}"}
        cells = "".join(f"<tr><th>{html.escape(name)}</th><td>{html.escape(text)}</td></tr>"
                        for name, text in rows.items())
        curve = ""
        if self.records:
            content = io.BytesIO()
            self.plot().savefig(content, format="png", dpi=80)
            png = base64.b64encode(content.getvalue()).decode("ascii")
            curve = f'<img alt="learning curve" style="max-width: 100%" src="data:image/png;base64,{png}">'
        return f"<table>{cells}</table>{curve}"

    def plot(self) -> "Figure":
        """Return the learning curve.

        Returns
        -------
        matplotlib.figure.Figure
            A notebook displays it.

        Raises
        ------
        ValueError
            If the log has no epoch.
        """
        if not self.records:
            raise ValueError("there is no learning curve: the log has no epoch")
        from .curve import curve_figure  # here, because importing matplotlib takes long

        return curve_figure(self.records, self.loss_floor, self.kept_record)


def result_of(loop: Loop, model: Model, test: Evaluation | Reconstruction | None, steps_before: int = 0,
              seconds_before: float = 0.0) -> Result:
    """Return the result of a loop that has ended, with the steps and seconds that earlier calls took."""
    settings, records, steps, seconds = loop.settings, loop.records, loop.trainer.optimiser.t, loop.progress.seconds
    images = (steps - steps_before) * settings["batch_size"]
    weight_of_labels = 1 - settings["distillation_weight"] if settings["teacher"] else 1
    return Result(
        model, test, loss=records[-1]["loss"] if records else float("nan"), steps=steps, seconds=seconds,
        images_per_second=images / max(seconds - seconds_before, 1e-9), validation=loop.scores.get("val"),
        resumed=steps_before > 0, records=records,
        loss_floor=weight_of_labels * smoothing_floor(settings["label_smoothing"], model.classes),
        kept_record=best_record(records) if records and loop.best_weights is not None else -1)
