"""How the cost of training grows, and what to expect.

    batch       the cost of an image stays the same
    tokens      it grows as the FLOPs of the matrix products: a N + b N**2, where the square belongs to attention
    depth       linearly, apart from the patch embedding and the classifier
    width       as the FLOPs: a D + b D**2
    threads     it falls by as much as two matrix products side by side gain over one after the other;
                memory and clock allow no more

All sizes of an axis are trained in turn, round by round, so that a slow minute of the machine affects all.
"""

from dataclasses import replace
from typing import Any

import numpy as np

from ..common.checks import check_number
from .machine import describe_machine
from .shapes import SHAPES, select
from .worker import burst

_POOLED = {"image_size": 32, "channels": 3, "pool": "mean"}           # no class token: 16, 64, 256 and 1,024 tokens


def _fashion(batch, **options):
    """Return the shape `fashion` with another batch or other options."""
    return replace(SHAPES["fashion"], batch=batch, options=options)


AXES = {                                                              # axis: {value: shape}
    "batch": {batch: _fashion(batch) for batch in (32, 64, 128, 256, 512, 1024)},
    "tokens": {(32 // side) ** 2: _fashion(32, **_POOLED, patch_size=side) for side in (8, 4, 2, 1)},
    "depth": {depth: _fashion(128, depth=depth) for depth in (1, 2, 4, 8, 16)},
    "width": {width: _fashion(64, width=width, heads=width // 16) for width in (32, 64, 128, 256, 512)},
}


def growth(seconds: float = 0.5, rounds: int = 7, threads: Any = None, progress: Any = None) -> dict:
    """Measure how the cost grows.

    Returns
    -------
    dict
        {"machine", "rows": [...], "threads": [...]}. Each row is {axis, value, seconds, relative, expected}: seconds
        per image, and the cost of an image, measured and expected, as multiples of the first value of the axis. Each
        entry of "threads" is {shape, gain, expected}: of two threads over one, for a step and for products side by
        side.

    Raises
    ------
    ValueError
        For numbers out of range.
    """
    from ..parallel.threads import available_threads

    check_number("seconds", seconds, above=0)
    check_number("number of rounds", rounds, least=1, whole=True)
    threads = available_threads() if threads is None else check_number("number of "
                                                                       "threads", threads, least=1, whole=True)
    progress = progress or (lambda line: None)
    rows = [row for axis in AXES for row in _axis(axis, seconds, rounds, threads, progress)]
    shapes = [name for name in select() if SHAPES[name].trained]
    return {"machine": describe_machine(threads), "rows": rows,
            "threads": [_threads(shape, seconds, rounds, progress) for shape in shapes]}


def _axis(axis, seconds, rounds, threads, progress):
    """Return the rows of one axis."""
    steps: dict = {}
    flops, batches, first = {}, {}, min(AXES[axis])
    for value, shape in AXES[axis].items():
        model, steps[value] = _training(shape, threads)
        flops[value], batches[value] = model.flops, shape.batch
    medians = _in_turn(axis, steps, seconds, rounds, progress)
    return [{"axis": axis, "value": value, "seconds": float(np.median(medians[value])) / batches[value],
             "relative": float(np.median(medians[value] / medians[first])) * batches[first] / batches[value],
             "expected": flops[value] / flops[first]} for value in AXES[axis]]


def _threads(name, seconds, rounds, progress):
    """Return the gain of a second thread, for a step and for single-threaded products."""
    from ..parallel.blas import blas_threads
    from ..parallel.threads import Workers

    works: dict = {threads: _training(SHAPES[name], threads)[1] for threads in (1, 2)}
    square = np.ones((2, 768, 768), np.float32)
    out = np.empty_like(square)
    for threads in (1, 2):
        workers = Workers(threads)

        def products(workers=workers):
            with blas_threads(1):
                workers.map(lambda i: [np.matmul(square[i], square[i], out=out[i]) for _ in range(16)], (0, 1))

        works[f"products on {threads}"] = products
    medians = _in_turn(f"threads, {name}", works, seconds, rounds, progress)
    return {"shape": name, "gain": float(np.median(medians[1] / medians[2])),
            "expected": float(np.median(medians["products on 1"] / medians["products on 2"]))}


def _training(shape, threads):
    """Return a model and a function that trains it for one step."""
    from ..training.trainer import Trainer

    model, images, labels = shape.make()
    trainer = Trainer(model, lr=1e-4, threads=threads)
    return model, lambda: trainer.step(images, labels)


def _in_turn(title, works, seconds, rounds, progress):
    """Return {key: median seconds of each round's burst} of functions that are called in turn.

    The first round warms up.
    """
    medians: dict = {key: [] for key in works}
    for turn in range(rounds + 1):
        progress(f"growth: {title}, round {turn} of {rounds}")
        for key, work in works.items():
            median = np.median(burst(work, seconds))
            if turn:
                medians[key].append(median)
    return {key: np.array(values) for key, values in medians.items()}


def growth_table(result: dict) -> str:
    """Return the result of `growth` as text."""
    machine = result["machine"]
    lines = [f"{machine['processor']}, {machine['threads']} threads; a training step of `fashion` but for the axis",
             f"{'axis':8} {'value':>6} {'us an image':>12} {'relative':>9} {'expected':>9} {'ratio':>6}"]
    for row in result["rows"]:
        lines.append(f"{row['axis']:8} {row['value']:6} {1e6 * row['seconds']:12,.0f} {row['relative']:9.2f} "
                     f"{row['expected']:9.2f} {row['relative'] / row['expected']:6.2f}")
    lines += ["", f"{'two threads instead of one':28} {'a step gains':>13} {'products gain':>14} {'ratio':>6}"]
    lines += [f"{row['shape']:28} {row['gain']:12.2f}x {row['expected']:13.2f}x {row['gain'] / row['expected']:6.2f}"
              for row in result["threads"]]
    return "\n".join(lines)
