"""Show what two threads do during a training step, as written and replayed.

    python demos/14_replay.py            half a minute
    python demos/14_replay.py --quick    too few steps for conclusions

Draws replay.png: the time that each thread spends in compiled code. Between the kernels of a step as written, a thread
runs Python or waits for the thread that does. A replay is one call of compiled code. Prints the time of a step on one
thread and on two, as written and replayed.
"""

import argparse
import threading
import time
from unittest import mock

import numpy as np

from minivit import Trainer, kernel
from minivit.bench.shapes import SHAPES
from minivit.common.figures import new_figure, save
from minivit.kernel_replay.machine import Table
from minivit.matrix_products import blas, register_tiles

COLOURS = {"matrix product": "#30638e", "other kernel": "#d1495b", "replay": "#00798c"}


class Clock:
    """Notes (thread, kind, start, end) of calls, in seconds."""

    def __init__(self):
        self.notes = []

    def timed(self, function, kind):
        """Return `function`, whose calls are noted."""
        def call(*arguments):
            start = time.perf_counter()
            try:
                return function(*arguments)
            finally:
                self.notes.append((threading.get_ident(), kind, start, time.perf_counter()))

        return call


class Timed:
    """Stands for a kernel of `matrix_products`, whose compiled function is called directly."""

    def __init__(self, original, clock):
        self.compiled = clock.timed(original.compiled, "matrix product")


def make_step(threads, replay):
    """Return a function that runs a training step of `digits`, warm."""
    model, images, labels = SHAPES["digits"].make()
    trainer = Trainer(model, threads=threads, replay=replay)
    for _ in range(5):
        trainer.step(images, labels)
    return lambda: trainer.step(images, labels)


def trace(replay, steps):
    """Return the notes of the step of median length, with times from its start, and that length."""
    step, runs = make_step(2, replay), []
    for _ in range(steps):
        clock = Clock()
        with (mock.patch.object(kernel.Kernel, "__call__", timed_kernel(clock)),
              mock.patch.object(register_tiles, "multiply", Timed(register_tiles.multiply, clock)),
              mock.patch.object(blas, "multiply", Timed(blas.multiply, clock)),
              mock.patch.object(Table, "run", clock.timed(Table.run, "replay"))):
            start = time.perf_counter()
            step()
            length = time.perf_counter() - start
        runs.append((length, [(thread, kind, a - start, b - start) for thread, kind, a, b in clock.notes]))
    return sorted(runs, key=lambda run: run[0])[len(runs) // 2]


def timed_kernel(clock):
    """Return a `Kernel.__call__` whose calls are noted."""
    def call(self, *arguments):
        return clock.timed(self.compiled, "other kernel")(*arguments)

    return call


def draw(traces, path):
    """Draw a panel for each trace, with a row for each thread that ran a lane."""
    figure = new_figure(10, 4.2)
    panels = figure.subplots(2, 1, sharex=True)
    for panel, (title, (length, notes)) in zip(panels, traces.items(), strict=True):
        used = {thread: sum(b - a for t, _, a, b in notes if t == thread) for thread, *_ in notes}
        rows = sorted(used, key=used.get)[-2:]
        for thread, kind, a, b in notes:
            if thread in rows:
                panel.broken_barh([(1e3 * a, 1e3 * (b - a))], (rows.index(thread) - 0.35, 0.7), color=COLOURS[kind])
        panel.set(title=f"{title}: {1e3 * length:.1f} ms", yticks=[0, 1], yticklabels=["thread 1", "thread 2"])
        panel.invert_yaxis()
        panel.spines[["top", "right"]].set_visible(False)
    panels[1].set_xlabel("milliseconds from the start of the step")
    handles = [panels[0].barh([0], [0], color=colour) for colour in COLOURS.values()]
    figure.legend(handles, COLOURS, loc="outside lower center", ncols=3, frameon=False)
    save(figure, path)


def measure(steps):
    """Return {(threads, replay): median milliseconds of a step}, measured in turn."""
    variants = {(threads, replay): make_step(threads, replay) for threads in (1, 2) for replay in (False, True)}
    times = {variant: [] for variant in variants}
    for _ in range(steps):
        for variant, step in variants.items():
            start = time.perf_counter()
            step()
            times[variant].append(1e3 * (time.perf_counter() - start))
    return {variant: float(np.median(values)) for variant, values in times.items()}


def main():
    """Measure, print and draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--out", default="replay.png", help="the figure")
    arguments = parser.parse_args()
    steps = 20 if arguments.quick else 200
    ms = measure(steps)
    print("A training step of `digits`, batch 64, in milliseconds:")
    print(f"{'':12} {'1 thread':>9} {'2 threads':>10} {'gain':>6}")
    for replay, name in ((False, "as written"), (True, "replayed")):
        print(f"{name:12} {ms[1, replay]:9.2f} {ms[2, replay]:10.2f} {ms[1, replay] / ms[2, replay]:5.2f}x")
    draw({"as written": trace(False, steps), "replayed": trace(True, steps)}, arguments.out)
    if arguments.quick:
        print("With --quick there are too few steps for conclusions.")
    print(f"Figure: {arguments.out}")


if __name__ == "__main__":
    main()
