"""Train the digits with the learner's own functions in place of the references.

The model is that of `plain.py`, and so are its initial weights, the batches and the settings. Every function comes from
the namespaces of `references`. There the learner's functions replace ours, so they are also what the other steps call.
"""

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import threadpoolctl

from .. import plain
from ..data import load_data
from ..ops.cross_entropy import targets
from . import references
from .exercise import exercise
from .submission import Submission, Wrong, raised

# the steps of a training, and the design exercises that may take the place of one
USED = ("linear", "gelu", "softmax", "layer_norm", "cross_entropy", "patches", "embedding", "attention", "multi_head",
        "mlp", "block", "head", "vit", "adamw", "schedule")
REPLACES = {"rms_norm": "layer_norm", "swiglu": "mlp"}


def train(submissions: list[Submission], epochs: int, seed: int, progress: Callable[[str], None],
          still_running: Callable[[], None]) -> dict[str, Any]:
    """Train a Vision Transformer on the digits.

    Parameters
    ----------
    submissions : list of Submission
        The learner's files, at most one for each step. `references` stays changed.
    epochs, seed : int
    progress : callable
        Gets a line after each epoch.
    still_running : callable
        Is called before each step, so that a step that never ends is noticed.

    Returns
    -------
    dict
        "accuracy" on the test images, 0 to 1, and the number of test "images".

    Raises
    ------
    Wrong
        If a learner's function raises, or the loss is not finite.
    """
    still_running()
    try:
        modules = {s.exercise.name: s.run() for s in submissions}
        for name, module in modules.items():
            put_in_place(name, module)
        with threadpoolctl.threadpool_limits(1, "blas"):              # these products are too small for two threads
            return _train(_parameters(seed, "swiglu" in modules), epochs, seed, progress, still_running)
    except (Wrong, KeyboardInterrupt):
        raise
    except (Exception, SystemExit) as error:
        raise _wrong(error, submissions) from error


def put_in_place(name: str, module: Any) -> None:
    """Use the functions of a learner's module wherever this step is called."""
    if name == "rms_norm":
        references.layer_norm.forward = lambda x, weight, bias: module.forward(x, weight)
        references.layer_norm.backward = lambda dy, cache: (*module.backward(dy, cache), np.zeros_like(dy[0, 0]))
        return
    step = getattr(references, REPLACES.get(name, name))
    for function in exercise(name).functions:
        setattr(step, function, getattr(module, function))


def _wrong(error, submissions):
    """Return what an exception in the learner's files means."""
    trace, last = error.__traceback__, None
    by_file = {str(s.path): s for s in submissions}
    while trace is not None:
        last = by_file.get(trace.tb_frame.f_code.co_filename, last)
        trace = trace.tb_next
    if last is None:
        raise error
    return raised(error, last, f"{last.path}: {last.exercise.name}")


def _parameters(seed, gated):
    """Return the initial parameters of `plain.py` under the names of the course; for SwiGLU those of its MLP."""
    p = references.from_plain(plain.make_parameters(seed=seed))
    rng, D, F = np.random.default_rng(seed + 1), plain.SIZES["width"], plain.SIZES["hidden"]
    for name in [name for name in p if gated and ".mlp." in name]:
        del p[name]
        if name.endswith("fc1.weight"):
            for new, shape in (("gate", (D, F)), ("up", (D, F)), ("down", (F, D))):
                bound = np.sqrt(6 / sum(shape))
                weight = rng.uniform(-bound, bound, shape)
                p[name.replace("fc1", new)] = weight.astype(np.float32)
    return p


def _train(p, epochs, seed, progress, still_running):
    """Train the parameters p with the steps that are in place."""
    digits, rng = load_data("digits", seed=seed), np.random.default_rng(seed)
    count, batch_size, sizes = len(digits.train_labels), 32, plain.SIZES
    steps, t = epochs * (count // batch_size), 0
    m = {name: np.zeros_like(w) for name, w in p.items()}
    v = {name: np.zeros_like(w) for name, w in p.items()}
    progress(f"{sum(w.size for w in p.values()):,} parameters, {steps} steps of {batch_size} images")
    start, accuracy = time.perf_counter(), 0.0
    for epoch in range(epochs):
        order, losses = rng.permutation(count), []
        for batch in np.split(order[:count // batch_size * batch_size], count // batch_size):
            still_running()
            loss, gradients = _loss_and_gradients(p, plain.normalise(digits.train_images[batch]),
                                                  digits.train_labels[batch], sizes)
            if not np.isfinite(loss):
                raise Wrong(f"the loss is {loss} at step {t + 1}")
            losses.append(loss)
            lr = 2e-3 * references.schedule.factor(t, steps, steps // 10)
            t += 1
            for name, w in p.items():
                decay = 0.05 if w.ndim == 2 and not name.endswith("pos_embed") else 0.0
                p[name], m[name], v[name] = references.adamw.update(w, gradients[name], m[name], v[name], t, lr, decay)
        still_running()
        logits, _ = references.vit.forward(plain.normalise(digits.test_images), p, sizes)
        accuracy = float((logits.argmax(axis=1) == digits.test_labels).mean())
        progress(f"epoch {epoch + 1:2}/{epochs}: loss {np.mean(losses):.3f}, test accuracy {accuracy:.1%}, "
                 f"{time.perf_counter() - start:.0f} s")
    return {"accuracy": accuracy, "images": len(digits.test_labels)}


def _loss_and_gradients(p, images, labels, sizes):
    """Return the mean loss of a batch with label smoothing 0.1, and the gradients by name."""
    logits, cache = references.vit.forward(images, p, sizes)
    loss, loss_cache = references.cross_entropy.forward(logits, targets(labels, sizes["classes"], 0.1, logits.dtype))
    return float(loss), references.vit.backward(references.cross_entropy.backward(1.0, loss_cache), cache)
