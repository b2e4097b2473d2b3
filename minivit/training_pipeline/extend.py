"""Train a run for more epochs than it was started with.

With a cosine schedule, the learning rate of every step depends on the number of steps, and it is 0 at the end. With the
schedule "wsd" the learning rate is constant until the final decay, so the steps before the decay do not depend on the
end. A run with this schedule keeps its state at the beginning of the decay, in `stable.safetensors`. It continues from
there, and the result is bit for bit that of a run that was started with the larger number of epochs and a warm-up of as
many steps.
"""

import shutil
from collections.abc import Mapping
from typing import Any

from ..common.files import atomic_file
from ..training.schedule import decay_start, warmup_steps
from .folder import RunFolder


def extended_settings(run: RunFolder, settings: Mapping[str, Any], epochs: float, steps: int) -> dict[str, Any]:
    """Return the settings of a run that is trained for `epochs` instead of its own number, with `steps` steps.

    Raises
    ------
    ValueError
        If the run has another schedule or not fewer steps, or its state before the decay is gone.
    """
    had = f"epochs {settings['epochs']:.10g}" if settings["epochs"] is not None else f"{settings['steps']} steps"
    if steps <= settings["steps"]:
        extended = "it can be extended to more epochs, not to" if settings["schedule"] == "wsd" else "not with"
        raise ValueError(f"{run.path} was started with {had}: {extended} {epochs:.10g}; leave out epochs, or start a "
                         "new run")
    if settings["schedule"] != "wsd":
        raise ValueError(f"{run.path} was started with {had}, not {epochs:.10g}: its cosine schedule takes the "
                         "learning rate to 0 at that end, so it cannot be trained longer; start a run that you may "
                         "extend with schedule=wsd, or train these weights further in a new run with "
                         f"start={str(run.path)!r}")
    if settings["clean_end"] > settings["decay"]:
        raise ValueError(f"{run.path} cannot be extended: clean_end {settings['clean_end']:g} leaves out augmentation "
                         f"steps before the final decay of {settings['decay']:g} begins")
    if _decayed(run, settings) and not run.stable_file.is_file():
        why = (f"{run.stable_file.name}, its state before the learning rate decayed, is gone" if decay_start(settings)
               else "its learning rate decays from the first step on")
        raise ValueError(f"{run.path} cannot be extended: {why}")
    return {**settings, "epochs": epochs, "steps": steps, "warmup": warmup_steps(settings) / steps}


def extend(run: RunFolder, settings: Mapping[str, Any], command: str | None) -> None:
    """Put a run into the state before its decay, and store the new settings. Raises OSError.

    If the process is killed in between, the run is an unfinished one with the old settings, or one with the new ones.
    """
    config = run.config()
    if _decayed(run, run.settings):
        with open(run.stable_file, "rb") as source, atomic_file(run.checkpoint_file) as target:
            shutil.copyfileobj(source, target)
    run.model_file.unlink(missing_ok=True)
    if config.get("command") and command:
        config["command"] = f"{config['command']} && {command}"
    run.write_config(config | {"training": dict(settings)})


def _decayed(run, settings):
    """Whether the checkpoint of a run was saved when the decay began, or later.

    At its very beginning, too, the state before the decay is the one to continue from: if that is the last step, the
    checkpoint was saved after the end of an epoch, which may have been cut short.
    """
    return run.checkpoint_file.is_file() and run.read_position()[0] >= decay_start(settings)
