"""What makes it fast: nine findings, each measured here and now, without it and with it.

    python demos/04_what_makes_it_fast.py            two minutes
    python demos/04_what_makes_it_fast.py --quick    half a minute, and rough figures

Prints the table and draws it to what_makes_it_fast.png. In each finding everything else stays as it is: a kernel is
compiled from the source that stands in `minivit/ops`, with one option or one helper changed.
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

# To make a step, and to read an image, each in a process of its own.
WAYS = ("threads in every "
        "product", "fresh memory", "as it is", "an image, threads in every product", "an image, as it is")


def compiled(function, error_model="numpy", **helpers):
    """The Python source of a kernel, compiled anew, with some of the names that it uses replaced."""
    source = getattr(function, "py_func", function)                   # under NUMBA_DISABLE_JIT=1 it is its own source
    changed = FunctionType(source.__code__, source.__globals__ | helpers, source.__name__)
    return numba.njit(nogil=True, error_model=error_model, fastmath=kernel._FAST)(changed)


def batch(shape):
    """A model, and a batch of its images with their targets, of one of the benchmark's shapes."""
    model, images, labels = SHAPES[shape].make()
    return model, images, cross_entropy.targets(labels, model.classes)


# ---- the findings: pairs of functions, without and with ------------------------------------------------------


def division_without_a_check():
    """Numba asks before every division, as Python does, whether the divisor is zero; or divides as the processor does."""
    x = np.random.default_rng(0).standard_normal(500_000).astype(np.float32)
    y, slope = np.empty_like(x), np.empty_like(x)

    def gelu_with(error_model):
        # this is what divides
        erf = numba.njit(error_model=error_model, fastmath=kernel._EXACT_ORDER)(kernel._erf_float32)
        forward = compiled(gelu._forward, error_model, erf=erf)
        return lambda: forward(x, y, slope)

    return gelu_with("python"), gelu_with("numpy")


def exp_as_a_polynomial():
    """A call to the C library for every number; or a polynomial, which the compiler computes for eight numbers at once."""
    scores = np.random.default_rng(0).standard_normal((10_000, 65)).astype(np.float32)
    plain, ours = compiled(softmax._forward, exp=np.exp), compiled(softmax._forward)
    largest = scores.max(axis=1)
    return lambda: plain(scores, largest, 0.125), lambda: ours(scores, largest, 0.125)


def one_array_in_place():
    """The same array passed twice, to read and to write, so that the compiler must expect them to overlap;

    or passed once.
    """
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
    """A last block that gives all tokens, of which the head reads one; or that computes for this one alone."""
    model, images, targets = batch("fashion")

    def step(replica):
        lane = lanes.Lane(replica, seed=0)
        return lambda: lane.run(images[:16], targets[:16], [slice(0, 16)])

    return step(with_all_tokens(model)), step(model)


def nothing_remembered():
    """Inference that keeps every layer's cache, as for a backward;

    or none, so that arrays are used again while they are in the cache.
    """
    model, images, _ = batch("digits")
    replica, reader = model.replica(), model.inference_view()
    return lambda: replica.forward(images[:32]), lambda: reader.forward(images[:32])


def fewer_multiplications():
    """A convolution of 3 x 3 as one product with all that each place sees;

    or by Winograd's algorithm, in 16 products instead of 36.
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
    """The median milliseconds of two functions, asked in turn, and the median of their ratio."""
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
    """A function that makes a training step, given its number, in one of WAYS."""
    if way == "fresh memory":
        threads.keep_freed_memory = lambda: None
    model, images, targets = batch("fashion")
    lane, cut = lanes.Lane(model.copy(), seed=0), lanes.Lanes(model)

    def threaded(step):
        with blas.blas_threads(threads.available_threads()):
            lane.run(images, targets, [slice(0, len(images))])

    return threaded if way == "threads in every product" else lambda step: cut.forward_backward(images, targets, step)


def readings(way):
    """The same, of the inference of one image."""
    model, workers = create_model("deit_tiny_patch16_224"), threads.Workers()
    image = np.zeros((1, *model.input_shape), np.float32)
    shared = way == "an image, as it is"
    reader = model.inference_view(workers if shared else None)

    def read(step):
        with blas.blas_threads(1 if shared else workers.threads):
            reader.forward(image)

    return read


def work_when_asked(way):
    """For every line of input, do the work some times, in one of WAYS;

    print the median milliseconds and page faults of one time.
    """
    import resource

    work = readings(way) if way.startswith("an image") else steps(way)
    for _ in sys.stdin:
        times = []
        for step in range(5):                                         # as in training, one after the other
            faults, start = resource.getrusage(resource.RUSAGE_SELF).ru_minflt, time.perf_counter()
            work(step)
            times.append((1e3 * (time.perf_counter() - start),
                          resource.getrusage(resource.RUSAGE_SELF).ru_minflt - faults))
        print(json.dumps(np.median(times, axis=0).tolist()), flush=True)


def work_of_processes(rounds):
    """The findings about whole steps: one model on the whole batch, with every product on all cores;

    every step's arrays on fresh pages from the system; and as it is, a lane for each core, and arrays on pages that the
    last step has freed. And about one image: every product on all cores, or its tokens shared.

    A process for each: threads that wait for products go on spinning for a while, and would take a core from lanes
    beside them.
    """
    processes = [subprocess.Popen([sys.executable, __file__, "--work", way], stdin=subprocess.PIPE,
                                  stdout=subprocess.PIPE, text=True)
                 for way in WAYS]
    answers = []
    for _ in range(rounds + 2):
        for process in processes:
            time.sleep(0.3)  # until the threads of the last one have come to rest
            process.stdin.write("work\n")
            process.stdin.flush()
            answers.append(json.loads(process.stdout.readline()))
    for process in processes:
        process.communicate()
    times, faults = np.array(answers[2 * len(WAYS):]).reshape(rounds, len(WAYS), 2).transpose(2, 1, 0)
    (threaded, fresh, ours, cut, shared), (_, many, few, *_) = np.median(times, axis=1), np.median(faults, axis=1)
    what = "fashion, forward and backward"
    return [("a lane for each core, not threads in every "
             "product", threaded, ours, np.median(times[0] / times[2]), what),
            ("threads share the tokens of an image, not every "
             "product", cut, shared, np.median(times[3] / times[4]), "DeiT-Ti, one image"),
            ("freed memory is "
             "kept", fresh, ours, np.median(times[1] / times[2]), f"{what}: {many:,.0f} page faults, and {few:,.0f}")]


def findings(rounds):
    """Rows (finding, milliseconds without, with, ratio, remark)."""
    pairs = {
        "division without Python's check": (division_without_a_check, "GELU of 500,000 numbers"),
        "exp as a polynomial": (exp_as_a_polynomial, "softmax of 10,000 rows of 65, but for the maximum"),
        "one array, in place": (one_array_in_place, "exp of 650,000 numbers"),
        "fewer multiplications": (fewer_multiplications, "convolution of 32 images of 14 x 14 x 32, and its backward"),
        "only what is read, in the last block": (only_what_is_read, "fashion, forward and backward of 16 images"),
        "inference remembers nothing": (nothing_remembered, "digits, forward of 32 images"),
    }
    in_processes = work_of_processes(rounds) if sys.platform == "linux" else []
    return in_processes + [(name, *measure(make(), rounds), remark) for name, (make, remark) in pairs.items()]


def draw(rows, path):
    """Bars of the ratios."""
    figure = new_figure(9, 0.5 + 0.5 * len(rows))
    axes = figure.subplots()
    names, ratios = [row[0] for row in rows], [row[3] for row in rows]
    bars = axes.barh(names, ratios, color="#d1495b")
    axes.bar_label(bars, [f"{ratio:.1f}x" for ratio in ratios], padding=4)
    axes.axvline(1, color="k", lw=0.8)
    axes.set(xlabel="times as fast as without it", xlim=(0, 1.15 * max(ratios)))
    axes.invert_yaxis()
    axes.spines[["top", "right"]].set_visible(False)
    save(figure, path)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="few repetitions")
    parser.add_argument("--out", default="what_makes_it_fast.png", help="the picture to write")
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
    print(f"The picture is {options.out}")


if __name__ == "__main__":
    main()
