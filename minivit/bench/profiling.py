"""Where the time of a training step or of inference goes: every op, forward and backward, and its matrix products."""

import contextlib
import importlib
import os
import time
from pathlib import Path
from unittest import mock

from .. import ops
from ..common.checks import check_name
from ..matrix_products import matmul
from .contestant import Contestant
from .shapes import SHAPES


def profile(name: str = "cifar", steps: int = 10) -> dict:
    """Measure how long each op takes in a training step of a shape, on one thread, in processor time.

    For a shape that is not trained, it is the inference of a batch. A replayed step calls no op (see `replay`). So the
    ops are measured in steps that run as written, wrapped while this runs; the replayed step is measured as a whole.

    Returns
    -------
    dict
        {"shape", "task": "train" or "infer", "step": seconds, "replayed": seconds, "not_replayed": why not, or "",
        "not_products": share, "rows": [...]}. Each row is {op,
        pass, calls, seconds, products}: the seconds of the op without the ops that it calls, and the part within
        `products.matmul`.

    Raises
    ------
    ValueError
        For an unknown shape.
    """
    from ..weight_formats.timm import to_timm

    shape = SHAPES[check_name("shape", name, SHAPES)]
    model, images, labels = shape.make()
    task, replayed = "train" if shape.trained else "infer", []
    for environment in ({"MINIVIT_REPLAY": "1"}, {"MINIVIT_REPLAY": "0"}):
        with mock.patch.dict(os.environ, environment):
            subject = Contestant(shape.family, model.config, to_timm(model), images, labels, threads=1)
            step = getattr(subject, task)
            for _ in range(4):                                        # compile, record, compare, replay
                step()
            replayed.append((_seconds(step, steps), subject.not_replayed(task)))
    clock = _Clock()
    modules = [importlib.import_module(f"minivit.ops.{path.stem}")
               for path in sorted(Path(ops.__file__).parent.glob("[a-z]*.py"))]
    with contextlib.ExitStack() as patches:
        for module in modules:
            for way in ("forward", "backward"):
                if hasattr(module, way):
                    timed = clock.op(module.__name__.rpartition(".")[2], way, getattr(module, way))
                    patches.enter_context(mock.patch.object(module, way, timed))
            if hasattr(module, "matmul"):
                patches.enter_context(mock.patch.object(module, "matmul", clock.product(matmul)))
        total = _seconds(step, steps)
    rows = [{"op": op, "pass": way, "calls": calls // steps, "seconds": own / steps, "products": products / steps}
            for (op, way), (calls, own, products) in clock.rows.items()]
    return {"shape": name, "task": task, "step": total, "replayed": replayed[0][0], "not_replayed": replayed[0][1],
            "not_products": 1 - sum(row["products"] for row in rows) / total,
            "rows": sorted(rows, key=lambda row: -row["seconds"])}


def _seconds(step, steps):
    """Return the processor time of this thread for a step."""
    start = time.thread_time()
    for _ in range(steps):
        step()
    return (time.thread_time() - start) / steps


class _Clock:
    """Time of nested calls without the calls within: {(op, name): [calls, seconds, seconds in products]}."""

    def __init__(self):
        self.rows, self.stack = {}, []

    def op(self, op, name, function):
        """Return `function`, timed as its own row."""
        row = self.rows.setdefault((op, name), [0, 0.0, 0.0])

        def timed(*arguments, **more):
            self.stack.append([row, 0.0])
            start = time.thread_time()
            try:
                return function(*arguments, **more)
            finally:
                elapsed, (_, inner) = time.thread_time() - start, self.stack.pop()
                row[0], row[1] = row[0] + 1, row[1] + elapsed - inner
                if self.stack:
                    self.stack[-1][1] += elapsed

        return timed

    def product(self, matmul):
        """Return `np.matmul`, timed in the row of the op that calls it."""
        def timed(*arguments, **more):
            start = time.thread_time()
            result = matmul(*arguments, **more)
            if self.stack:
                self.stack[-1][0][2] += time.thread_time() - start
            return result

        return timed


def profile_table(result: dict) -> str:
    """Return the result of `profile` as text."""
    what = "one training step" if result["task"] == "train" else "inference of one batch"
    replay = f"not replayed: {result['not_replayed']}" if result["not_replayed"] else "replayed"
    lines = [f"{result['shape']}: {what} on one thread, {1e3 * result['step']:.2f} ms of processor time as written, "
             f"{1e3 * result['replayed']:.2f} ms {replay}",
             f"{'op':22} {'pass':9} {'calls':>6} {'ms':>9} {'share':>7} {'of it products':>15}"]
    for row in result["rows"]:
        if row["calls"]:
            lines.append(f"{row['op']:22} {row['pass']:9} {row['calls']:6} {1e3 * row['seconds']:9.3f} "
                         f"{row['seconds'] / result['step']:7.1%} {row['products'] / row['seconds']:15.0%}")
    within = sum(r["seconds"] for r in result["rows"])
    lines += [f"{'layers, AdamW, sum':39} {1e3 * (result['step'] - within):9.3f} {1 - within / result['step']:7.1%}",
              f"not matrix products: {result['not_products']:.1%}"]
    return "\n".join(lines)
