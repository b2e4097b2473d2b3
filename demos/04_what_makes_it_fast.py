"""Measure nine optimisations of minivit, each without it and with it.

    python demos/04_what_makes_it_fast.py            two minutes
    python demos/04_what_makes_it_fast.py --quick    half a minute: too few repetitions for conclusions

Prints a table and draws what_makes_it_fast.png. Each measurement changes one thing only. For example, a kernel is
compiled from its source in `minivit/ops` with one option or one helper function replaced.
"""

import argparse
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
from minivit.models import create_model
from minivit.ops import convolution, cross_entropy, gelu, softmax, winograd
from minivit.parallel import blas, lanes, threads

# Ways to run a training step or the inference of one image. Each runs in its own process.
WAYS = ("threads in every product", "fresh memory", "as it is",
        "an image, threads in every product", "an image, as it is")


def compiled(function, error_model="numpy", **helpers):
    """Compile the Python source of a kernel again, with some of its helper functions replaced."""
    source = getattr(function, "py_func", function)                   # with NUMBA_DISABLE_JIT=1 it is plain Python
    changed = FunctionType(source.__code__, source.__globals__ | helpers, source.__name__)
    return numba.njit(nogil=True, error_model=error_model, fastmath=kernel._FAST)(changed)


def batch(shape):
    """Return a model, images and targets of one of the benchmark's shapes."""
    model, images, labels = SHAPES[shape].make()
    return model, images, cross_entropy.targets(labels, model.classes)


# ---- the findings: pairs of functions, without and with ------------------------------------------------------


def division_without_a_check():
    """Without: Numba checks each divisor for zero, as Python does. With: the processor divides without a check."""
    x = np.random.default_rng(0).standard_normal(500_000).astype(np.float32)
    y, slope = np.empty_like(x), np.empty_like(x)

    def gelu_with(error_model):
        # this is what divides
        erf = numba.njit(error_model=error_model, fastmath=kernel._EXACT_ORDER)(kernel._erf_float32)
        forward = compiled(gelu._forward, error_model, erf=erf)
        return lambda: forward(x, y, slope)

    return gelu_with("python"), gelu_with("numpy")


def exp_as_a_polynomial():
    """Without: one call of the C library per number. With: a polynomial, computed for several numbers at once."""
    scores = np.random.default_rng(0).standard_normal((10_000, 65)).astype(np.float32)
    plain, ours = compiled(softmax._forward, exp=np.exp), compiled(softmax._forward)
    largest = scores.max(axis=1)
    return lambda: plain(scores, largest, 0.125), lambda: ours(scores, largest, 0.125)


def one_array_in_place():
    """Without: input and output are two arguments, which may overlap. With: one array, changed in place."""
    scores = np.random.default_rng(0).standard_normal(650_000).astype(np.float32)

    def exp_into(x, y):
        for i in range(x.size):
            y[i] = exp(x[i])                                          # noqa: F821 (a helper, given below)

    def exp_in_place(x):
        for i in range(x.size):
            x[i] = exp(x[i])                                          # noqa: F821

    twice, once = compiled(exp_into, exp=kernel.exp), compiled(exp_in_place, exp=kernel.exp)

    def fresh(work):
        def run():
            scores[:] = 0.5
            work()
        return run

    return fresh(lambda: twice(scores, scores)), fresh(lambda: once(scores))


def only_what_is_read():
    """Without: the last block computes all tokens. With: only the class token, which the classifier reads."""
    model, images, targets = batch("fashion")

    def step(replica):
        lane = lanes.Lane(replica, seed=0)
        return lambda: lane.run(images[:16], targets[:16], [slice(0, 16)])

    return step(with_all_tokens(model)), step(model)


def nothing_remembered():
    """Without: inference keeps every layer's cache for a backward. With: it keeps none and reuses its arrays."""
    model, images, _ = batch("digits")
    replica, reader = model.replica(), model.inference_view()
    return lambda: replica.forward(images[:32]), lambda: reader.forward(images[:32])


def fewer_multiplications():
    """Without: a 3x3 convolution as one matrix product over all windows. With: Winograd's algorithm.

    Winograd's algorithm needs 16 multiplications for 2x2 outputs instead of 36.
    """
    rng = np.random.default_rng(0)
    x, weight, bias = (rng.standard_normal(shape).astype(np.float32)
                       for shape in ((32, 14, 14, 32), (3, 3, 32, 32), (32,)))

    def there_and_back(op):
        def run():
            y, cache = op.forward(x, weight, bias, padding=1)
            op.backward(y, cache)
        return run

    return there_and_back(convolution), there_and_back(winograd)


# ---- measuring ----------------------------------------------------------------------------------------------


def measure(pair, rounds):
    """Time two functions in turn. Return the median milliseconds of each and the median of their ratio."""
    times = []
    with blas.blas_threads(1):
        for turn in range(rounds + 2):
            row = []
            for work in pair:
                start = time.perf_counter()
                work()
                row.append(time.perf_counter() - start)
            if turn > 1:                                              # the first two compile and warm up
                times.append(row)
    (before, after), ratio = 1e3 * np.median(times, axis=0), np.median([a / b for a, b in times])
    return float(before), float(after), float(ratio)


def steps(way):
    """Return a function that runs a training step, given its number, in one of WAYS."""
    if way == "fresh memory":
        threads.keep_freed_memory = lambda: None
    model, images, targets = batch("fashion")
    lane, cut = lanes.Lane(model.copy(), seed=0), lanes.Lanes(model)

    def threaded(step):
        with blas.blas_threads(threads.available_threads()):
            lane.run(images, targets, [slice(0, len(images))])

    return threaded if way == "threads in every product" else lambda step: cut.forward_backward(images, targets, step)


def readings(way):
    """Return a function that runs the inference of one image in one of WAYS."""
    model, workers = create_model("deit_tiny_patch16_224"), threads.Workers()
    image = np.zeros((1, *model.input_shape), np.float32)
    shared = way == "an image, as it is"
    reader = model.inference_view(workers if shared else None)

    def read(step):
        with blas.blas_threads(1 if shared else workers.threads):
            reader.forward(image)

    return read


def work_when_asked(way):
    """For every line of input, repeat the work and print the median milliseconds and page faults of one run."""
    import resource

    work = readings(way) if way.startswith("an image") else steps(way)
    for _ in sys.stdin:
        times = []
        for step in range(5):                                         # one after the other, as in training
            faults, start = resource.getrusage(resource.RUSAGE_SELF).ru_minflt, time.perf_counter()
            work(step)
            times.append((1e3 * (time.perf_counter() - start),
                          resource.getrusage(resource.RUSAGE_SELF).ru_minflt - faults))
        print(json.dumps(np.median(times, axis=0).tolist()), flush=True)


def work_of_processes(rounds):
    """Measure the findings about training steps and about one image. Return their rows.

    A training step runs in three ways. First, all cores share every matrix product. Second, each core has a lane but
    every step gets new memory. Third, as in minivit: lanes, and memory that the last step has freed. The inference of
    an image runs in two ways: the cores share every product, or they share the tokens.

    Each way has its own process, because BLAS threads keep spinning after a product and would slow down the lanes.
    """
    processes = [subprocess.Popen([sys.executable, __file__, "--work", way], stdin=subprocess.PIPE,
                                  stdout=subprocess.PIPE, text=True)
                 for way in WAYS]
    answers = []
    for _ in range(rounds + 2):
        for process in processes:
            time.sleep(0.3)  # wait until the threads of the last process are idle
            process.stdin.write("work\n")
            process.stdin.flush()
            answers.append(json.loads(process.stdout.readline()))
    for process in processes:
        process.communicate()
    times, faults = np.array(answers[2 * len(WAYS):]).reshape(rounds, len(WAYS), 2).transpose(2, 1, 0)
    (threaded, fresh, ours, cut, shared), (_, many, few, *_) = np.median(times, axis=1), np.median(faults, axis=1)
    what = "fashion, forward and backward"
    return [("a lane for each core, not threads in every product",
             threaded, ours, np.median(times[0] / times[2]), what),
            ("threads share the tokens of an image, not every product",
             cut, shared, np.median(times[3] / times[4]), "DeiT-Ti, one image"),
            ("freed memory is kept",
             fresh, ours, np.median(times[1] / times[2]), f"{what}: {many:,.0f} page faults, and {few:,.0f}")]


def findings(rounds):
    """Return rows (finding, milliseconds without, with, ratio, remark)."""
    pairs = {
        "division without Python's check": (division_without_a_check, "GELU of 500,000 numbers"),
        "exp as a polynomial": (exp_as_a_polynomial, "softmax of 10,000 rows of 65, without the maximum"),
        "one array, in place": (one_array_in_place, "exp of 650,000 numbers"),
        "fewer multiplications": (fewer_multiplications, "convolution of 32 images of 14 x 14 x 32, and its backward"),
        "only the class token in the last block": (only_what_is_read, "fashion, forward and backward of 16 images"),
        "inference keeps no caches": (nothing_remembered, "digits, forward of 32 images"),
    }
    in_processes = work_of_processes(rounds) if sys.platform == "linux" else []
    return in_processes + [(name, *measure(make(), rounds), remark) for name, (make, remark) in pairs.items()]


def draw(rows, path):
    """Draw the ratios as bars."""
    figure = new_figure(9, 0.5 + 0.5 * len(rows))
    axes = figure.subplots()
    names, ratios = [row[0] for row in rows], [row[3] for row in rows]
    bars = axes.barh(names, ratios, color="#d1495b")
    axes.bar_label(bars, [f"{ratio:.1f}x" for ratio in ratios], padding=4)
    axes.axvline(1, color="k", lw=0.8)
    axes.set(xlabel="speed relative to without", xlim=(0, 1.15 * max(ratios)))
    axes.invert_yaxis()
    axes.spines[["top", "right"]].set_visible(False)
    save(figure, path)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="few repetitions")
    parser.add_argument("--out", default="what_makes_it_fast.png", help="the image file to write")
    parser.add_argument("--work", choices=WAYS, help=argparse.SUPPRESS)
    parser.add_argument("--rounds", type=int, default=20, help="repetitions of each measurement (default 20)")
    options = parser.parse_args()
    rounds = 5 if options.quick else options.rounds
    if options.work is not None:
        work_when_asked(options.work)
        return
    rows = findings(rounds)
    print(f"{'':55} {'without':>10} {'with':>10}")
    for name, before, after, ratio, remark in rows:
        print(f"{name:55} {before:7.2f} ms {after:7.2f} ms {ratio:6.1f}x   {remark}")
    draw(rows, options.out)
    print(f"Figure: {options.out}")


if __name__ == "__main__":
    main()
