"""The trained model of a run, or the model of its last checkpoint while it is not finished."""

from pathlib import Path

from ...models.model import Model
from ..folder import RunFolder


def load(folder: str | Path) -> Model:
    """Load the trained model of a run.

    Parameters
    ----------
    folder : str or Path
        The folder of the run, as given to `minivit.train` as `out`.

    Returns
    -------
    Model
        The model with its final weights.

    Raises
    ------
    FileNotFoundError
        If there is no run, or it has not finished.
    ValueError
        If a file is damaged.
    """
    return RunFolder(folder).read_model()


def latest_model(run: RunFolder, classifies: bool = True) -> Model:
    """Return the trained model; for a run that is not finished, the model of its last checkpoint. Errors as `load`.

    classifies: whether its classifier is needed, which pre-training does not train; then ValueError.
    """
    if classifies:
        run.check_classifies()
    if run.model_file.is_file() or not run.checkpoint_file.is_file():
        return run.read_model()
    if run.settings["probe"] or not run.classifies:
        what = "a probe contains only its head" if run.classifies else "pre-training contains a decoder, too"
        raise FileNotFoundError(f"{run.path} is not finished, and the checkpoint of {what}; resume it with: "
                                f"{run.resume_command()}")
    model, (state, _, _) = run.declare_model(), run.read_checkpoint()
    # what would be kept at the end
    weights = next((state[name] for name in ("best", "ema", "average", "weights") if name in state), None)
    if weights is None or weights.shape != (sum(p.size for p in model.parameters()),):
        raise ValueError(f"{run.checkpoint_file} is the checkpoint of another model")
    model.pack(weights.dtype).vector[...] = weights
    return model


def unfinished(run: RunFolder) -> str | None:
    """Return a note that the run is not finished, with the command that resumes it; None if it is finished.

    Errors as `load`.
    """
    if run.model_file.is_file() or not run.checkpoint_file.is_file():
        return None
    step, _ = run.read_position()
    return (f"{run.path} is not finished: this is its checkpoint after step {step} of {run.settings.get('steps')}; "
            f"resume it with: {run.resume_command()}")
