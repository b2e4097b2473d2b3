"""Measure nine optimisations of minivit, each without it and with it.

    python demos/04_what_makes_it_fast.py            two minutes
    python demos/04_what_makes_it_fast.py --quick    two repetitions: too few for conclusions

Prints a table and draws what_makes_it_fast.png. Each measurement changes one thing only. For example, the demo compiles
a kernel from its source in `minivit/ops` twice, the second time with one option or one helper function replaced.
"""

import argparse
import contextlib
import json
import subprocess
import sys
import time
from types import FunctionType

import numba
import numpy as np

from minivit import kernel
from minivit.bench.shapes import SHAPES
from minivit.common.figures import new_figure, save
from minivit.explain import with_all_tokens
from minivit.ops import convolution, cross_entropy, gelu, softmax, winograd
from minivit.parallel import blas, lanes, threads
from minivit.parallel.batch_split import BatchSplit

# Variants of a training step. Each runs in its own process.
TRAINING = ("training: threads in every product", "training: new memory in every step",
            "training: Python between the kernels", "training: as in minivit")


def compiled(function, error_model="numpy", **helpers):
    """Compile the Python source of a kernel again, with some of its helper functions replaced."""
    source = getattr(function, "__wrapped__", function)               # with NUMBA_DISABLE_JIT=1 it is plain Python
    changed = FunctionType(source.__code__, source.__globals__ | helpers, source.__name__)
    return numba.njit(nogil=True, error_model=error_model, fastmath=kernel._FAST)(changed)


def batch(shape):
    """Return a model, images and targets of one of the benchmark's shapes."""
    model, images, labels = SHAPES[shape].make()
    return model, images, cross_entropy.targets(labels, model.classes)


# ---- the optimisations: each returns two functions, without it and with it ------------------------------------


def division_without_a_check():
    """Without: Numba checks each divisor for zero, as Python does. With: the processor divides without a check."""
    x = np.random.default_rng(0).standard_normal(500_000).astype(np.float32)
    y, slope = np.empty_like(x), np.empty_like(x)

    def gelu_with(error_model):
        # erf is the helper that divides
        erf = numba.njit(error_model=error_model, fastmath=kernel._EXACT_ORDER)(kernel._erf_float32)
        forward = compiled(gelu._forward, error_model, erf=erf)
        return lambda: forward(x, y, slope)

    return gelu_with("python"), gelu_with("numpy")


def exp_as_a_polynomial():
    """Without: one call of the C library per number. With: a polynomial, computed for several numbers at once."""
    scores = np.random.default_rng(0).standard_normal((10_000, 65)).astype(np.float32)
    with_library, with_polynomial = compiled(softmax._forward, exp=np.exp), compiled(softmax._forward)
    largest = scores.max(axis=1)
    return lambda: with_library(scores, largest, 0.125), lambda: with_polynomial(scores, largest, 0.125)


def one_array_in_place():
    """Without: input and output are two arguments, which may overlap. With: one array, changed in place."""
    scores = np.random.default_rng(0).standard_normal(650_000).astype(np.float32)

    def exp_into(x, y):
        for i in range(x.size):
            y[i] = exp(x[i])                                          # noqa: F821 (`compiled` defines exp)

    def exp_in_place(x):
        for i in range(x.size):
            x[i] = exp(x[i])                                          # noqa: F821

    two_arguments, one_argument = compiled(exp_into, exp=kernel.exp), compiled(exp_in_place, exp=kernel.exp)

    def after_reset(work):
        def run():
            scores[:] = 0.5
            work()
        return run

    return after_reset(lambda: two_arguments(scores, scores)), after_reset(lambda: one_argument(scores))


def class_token_only():
    """Without: the last block computes all tokens. With: only the class token, which the classifier reads."""
    model, images, targets = batch("fashion")

    def step(replica):
        one_lane = lanes.Lanes(replica, split=BatchSplit(1, 16), replay=False)
        return lambda: one_lane.forward_backward(images[:16], targets[:16], step=0)

    return step(with_all_tokens(model)), step(model)


def inference_without_caches():
    """Without: inference keeps every layer's cache for a backward. With: it keeps none and reuses its arrays."""
    model, images, _ = batch("digits")
    replica, view = model.replica(), model.inference_view()
    return lambda: replica.forward(images[:32]), lambda: view.forward(images[:32])


def winograd_convolution():
    """Without: a 3x3 convolution as one matrix product over all windows. With: Winograd's algorithm.

    Winograd's algorithm needs 16 multiplications for 2x2 outputs instead of 36.
    """
    rng = np.random.default_rng(0)
    x, weight, bias = (rng.standard_normal(shape).astype(np.float32)
                       for shape in ((32, 14, 14, 32), (3, 3, 32, 32), (32,)))

    def forward_and_backward(op):
        def run():
            y, cache = op.forward(x, weight, bias, padding=1)
            op.backward(y, cache)
        return run

    return forward_and_backward(convolution), forward_and_backward(winograd)


# ---- measuring ----------------------------------------------------------------------------------------------


def measure(pair, rounds):
    """Time two functions alternately. Return the median milliseconds of each and the median of their ratio."""
    times = []
    with blas.blas_threads(1):
        for i in range(rounds + 2):
            row = []
            for work in pair:
                start = time.perf_counter()
                work()
                row.append(time.perf_counter() - start)
            if i > 1:                                                 # the first two compile and warm up
                times.append(row)
    (before, after), ratio = 1e3 * np.median(times, axis=0), np.median([a / b for a, b in times])
    return float(before), float(after), float(ratio)


def training_step(variant):
    """Return a function that runs a training step, given its number, in one of the TRAINING variants."""
    if variant == TRAINING[1]:
        threads.keep_freed_memory = lambda: None
    model, images, targets = batch("fashion")
    if variant == TRAINING[0]:
        lanes.blas_threads = lambda threads: contextlib.nullcontext()    # each product is split among the cores
        split = BatchSplit(1, len(images))
    else:
        split = None
    all_lanes = lanes.Lanes(model, split=split, replay=variant == TRAINING[3])
    return lambda step: all_lanes.forward_backward(images, targets, step)


def serve(variant):
    """For every line of input, run the variant five times and print the median milliseconds and page faults."""
    import resource

    work = training_step(variant)
    for _ in sys.stdin:
        times = []
        for step in range(5):                                         # one after the other, as in training
            faults, start = resource.getrusage(resource.RUSAGE_SELF).ru_minflt, time.perf_counter()
            work(step)
            times.append((1e3 * (time.perf_counter() - start),
                          resource.getrusage(resource.RUSAGE_SELF).ru_minflt - faults))
        print(json.dumps(np.median(times, axis=0).tolist()), flush=True)


def measure_variants(rounds):
    """Measure the variants of a training step. Return the rows of the table.

    First, all cores split every matrix product. Second, there are lanes, but every step gets new memory. Third, lanes,
    and memory that the last step has freed. Fourth, as in minivit: lanes that replay a recorded step.

    Each variant has its own process, because BLAS threads spin for a while after a product and would slow down lanes.
    """
    processes = [subprocess.Popen([sys.executable, __file__, "--serve", variant], stdin=subprocess.PIPE,
                                  stdout=subprocess.PIPE, text=True)
                 for variant in TRAINING]
    answers = []
    for _ in range(rounds + 2):
        for process in processes:
            time.sleep(0.3)  # wait until the threads of the last process are idle
            process.stdin.write("run\n")
            process.stdin.flush()
            answers.append(json.loads(process.stdout.readline()))
    for process in processes:
        process.communicate()
    answers = np.array(answers[2 * len(TRAINING):])                   # without the first two rounds, which warm up
    times, faults = answers.reshape(rounds, len(TRAINING), 2).transpose(2, 1, 0)
    ms, (_, faults_before, faults_after, *_) = np.median(times, axis=1), np.median(faults, axis=1)

    def row(name, without, with_, remark):
        return name, ms[without], ms[with_], np.median(times[without] / times[with_]), remark

    work = "fashion, forward and backward"
    return [row("lanes, instead of threads in every product", 0, 2, work),
            row("a recorded step is replayed without Python", 2, 3, work),
            row("freed memory is kept for the next step", 1, 2,
                f"{work}: {faults_before:,.0f} page faults without, {faults_after:,.0f} with")]


def measure_all(rounds):
    """Return rows (optimisation, milliseconds without, with, ratio, what was measured)."""
    pairs = {
        "division without a check for zero": (division_without_a_check, "GELU of 500,000 numbers"),
        "exp as a polynomial": (exp_as_a_polynomial, "softmax of 10,000 rows of 65 numbers, after the row maximum"),
        "one array, changed in place": (one_array_in_place, "exp of 650,000 numbers"),
        "Winograd's algorithm for convolutions": (winograd_convolution,
                                                 "forward and backward of 32 images of 14 x 14 x 32"),
        "only the class token in the last block": (class_token_only, "fashion, forward and backward of 16 images"),
        "inference keeps no caches": (inference_without_caches, "digits, forward of 32 images"),
    }
    variants = measure_variants(rounds) if sys.platform == "linux" else []
    return variants + [(name, *measure(make(), rounds), remark) for name, (make, remark) in pairs.items()]


def draw(rows, path):
    """Draw the ratios as bars."""
    figure = new_figure(9, 0.8 + 0.5 * len(rows))
    axes = figure.subplots()
    names, ratios = [row[0] for row in rows], [row[3] for row in rows]
    bars = axes.barh(names, ratios, color="#d1495b")
    axes.bar_label(bars, [f"{ratio:.1f}x" for ratio in ratios], padding=4)
    axes.axvline(1, color="k", lw=0.8)
    axes.set(title="How many times as fast each optimisation makes its part", xlabel="time without / time with",
             xlim=(0, 1.15 * max(ratios)))
    axes.invert_yaxis()
    axes.spines[["top", "right"]].set_visible(False)
    save(figure, path)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="few repetitions")
    parser.add_argument("--out", default="what_makes_it_fast.png", help="the image file to write")
    parser.add_argument("--serve", choices=TRAINING, help=argparse.SUPPRESS)
    parser.add_argument("--rounds", type=int, default=20, help="repetitions of each measurement (default 20)")
    options = parser.parse_args()
    rounds = 2 if options.quick else options.rounds
    if options.serve is not None:
        serve(options.serve)
        return
    rows = measure_all(rounds)
    print(f"{'':57} {'without':>10} {'with':>10}")
    for name, before, after, ratio, remark in rows:
        print(f"{name:57} {before:7.2f} ms {after:7.2f} ms {ratio:6.1f}x   {remark}")
    draw(rows, options.out)
    if options.quick:
        print("With --quick there are too few repetitions for conclusions.")
    print(f"Figure: {options.out}")


if __name__ == "__main__":
    main()
