"""How long a training step takes on 1 to 1,024 machines, and from which size of a model more machines pay.

    python demos/19_several_machines.py                    two minutes
    python demos/19_several_machines.py --quick            seconds; too few repetitions for conclusions
    mpiexec -n 2 python demos/19_several_machines.py --check --gbit 0.88 --delay 0.00017
                                                           compares the model with sums that are measured here
    mpiexec -n 2 python demos/19_several_machines.py --overlap
                                                           sums that begin during the backward, and after it
    mpiexec -n 2 python demos/19_several_machines.py --memory
                                                           the memory of ranks that load all images, or their share
    python demos/19_several_machines.py --speed            2 ranks of 1 thread against 1 process of 2 threads

The first prints two tables and draws several_machines.png. One thread of this processor stands for a machine; a batch
has 1,024 images in 1,024 lanes. Times of a lane, of additions and of the update are measured here, as processor time.
The sum begins when the gradients are complete. Times of messages are

    message of n bytes    delay + n / bandwidth
    sum of C chunks       C max(2 n / bandwidth, additions of a chunk)
                          + 2 (machines - 1) (delay + max(n / bandwidth, additions of a chunk))
    other messages        3 log2(machines) delay

because the chunks travel as a pipeline (see `minivit/parallel/ranks/mpi.py`). A machine between two others sends each
chunk twice, to the next one and later, complete, to the one before. With two machines each sends it once.
"""

import argparse
import json
import math
import os
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import minivit
from minivit.common.figures import new_figure, save
from minivit.parallel.batch_split import CHUNK, BatchSplit
from minivit.parallel.lanes import Lanes
from minivit.parallel.ranks.mpi import ranks_of
from minivit.parallel.threads import Workers
from minivit.training.adamw import AdamW

LANES = 1024
MACHINES = [2 ** k for k in range(11)]
NETWORKS = {"1 Gbit/s": (1e9, 1e-4), "10 Gbit/s": (1e10, 3e-5), "100 Gbit/s": (1e11, 5e-6)}    # bits a second, delay
MODELS = {"digits": "vit_mini_patch2_8", "cifar": "vit_mini_patch4_32", "ViT-S/16": "vit_small_patch16_224"}
QUICK = {"digits": MODELS["digits"]}


@dataclass
class Times:
    """What is measured of one model, in seconds: a lane of one image, the update, and adding a lane to one number."""

    weights: int
    lane: float
    update: float
    add: float

    def step(self, machines, bandwidth=math.inf, delay=0.0):
        """Seconds of a step with 1,024 images."""
        lanes = LANES // machines
        return lanes * self.lane + self.update + self.sum(machines, lanes, bandwidth, delay)

    def sum(self, machines, lanes, bandwidth, delay):
        """Seconds of the sum of the gradients; `lanes` of them on each machine."""
        chunk = min(CHUNK, self.weights)
        added = chunk * self.add * lanes
        if machines == 1:
            return self.weights * self.add * lanes
        sent, times_sent = 32 * chunk / bandwidth, 1 if machines == 2 else 2
        chunks, hops = math.ceil(self.weights / CHUNK), 2 * (machines - 1)
        pipeline = chunks * max(times_sent * sent, added) + hops * (delay + max(sent, added))
        return pipeline + 3 * math.log2(machines) * delay


def median_seconds(function, repetitions, clock=time.thread_time):
    """The median duration of a call, after two calls that compile and warm up. By default it is processor time."""
    times = []
    for _ in range(repetitions + 2):
        start = clock()
        function()
        times.append(clock() - start)
    return float(np.median(times[2:]))


def measure(name, repetitions):
    """Measure one model on one thread."""
    model = minivit.create_model(name)
    image = np.random.default_rng(0).integers(0, 256, (1, *model.input_shape), dtype=np.uint8)
    target = np.eye(model.classes, dtype=np.float32)[:1]
    lanes = Lanes(model, threads=1, split=BatchSplit(1, 1))
    lane = median_seconds(lambda: lanes.forward_backward(image, target, 0), repetitions)
    optimiser = AdamW(model.vector, model.parameters())
    optimiser.begin_step()
    gradients, total = model.gradients, np.zeros_like(model.gradients)
    update = median_seconds(lambda: [optimiser.update(piece, gradients, 1e-9) for piece in optimiser.pieces()],
                            repetitions)
    chunks = [slice(a, a + CHUNK) for a in range(0, total.size, CHUNK)]

    def add():
        for chunk in chunks:
            total[chunk] += gradients[chunk]

    return Times(model.vector.size, lane, update, median_seconds(add, repetitions) / total.size)


def table(measured):
    """For each model and network: the time of a step on one machine, and how many times faster several are."""
    heads = "".join(f"{n:>7}" for n in MACHINES[1:])
    rows = [f"{'model':10} {'weights':>12} {'network':>10} {'1 machine':>10}{heads}"]
    for name, times in measured.items():
        for network, (bandwidth, delay) in NETWORKS.items():
            one = times.step(1)
            gains = "".join(f"{one / times.step(n, bandwidth, delay):6.1f}x" for n in MACHINES[1:])
            rows.append(f"{name:10} {times.weights:12,} {network:>10} {one:8.2f} s{gains}")
    return "\n".join(rows)


def smallest_batch(times, bandwidth, delay):
    """The smallest batch of 2, 4, 8, ... images for which two machines are faster than one."""
    for images in MACHINES[1:]:
        one = images * times.lane + times.update + times.weights * times.add * images
        two = images / 2 * times.lane + times.update + times.sum(2, images // 2, bandwidth, delay)
        if two < one:
            return images
    return None


def pays(measured):
    """Say from which batch two machines pay, and how many machines are the fastest for 1,024 images."""
    for name, times in measured.items():
        for network, (bandwidth, delay) in NETWORKS.items():
            batch = smallest_batch(times, bandwidth, delay)
            best = min(MACHINES, key=lambda n, at=(times, bandwidth, delay): at[0].step(n, *at[1:]))
            yield (f"{name}, {network}: two machines pay from batches of {batch} images on; with 1,024 images "
                   f"{best} machines are the fastest")


def draw(measured, path):
    """Draw how many times faster several machines are."""
    figure = new_figure(9, 3.4)
    for axes, (name, times) in zip(figure.subplots(1, len(measured), squeeze=False)[0], measured.items(), strict=True):
        for network, (bandwidth, delay) in NETWORKS.items():
            gains = [times.step(1) / times.step(n, bandwidth, delay) for n in MACHINES]
            axes.plot(MACHINES, gains, "o-", ms=3, label=network)
        axes.plot(MACHINES, MACHINES, ":", color="gray", label="ideal")
        axes.set_xscale("log", base=2)
        axes.set_yscale("log", base=2)
        axes.set_xticks(MACHINES[::2], [str(n) for n in MACHINES[::2]])
        axes.set_yticks(MACHINES[::2], [f"{n}x" for n in MACHINES[::2]])
        axes.set_ylim(0.5, 1100)
        axes.set_title(f"{name}: {times.weights / 1e6:.1f} million weights", fontsize=9)
        axes.set_xlabel("machines", fontsize=9)
        axes.tick_params(labelsize=8)
        axes.spines[["top", "right"]].set_visible(False)
    figure.axes[0].set_ylabel("times faster than one machine", fontsize=9)
    figure.axes[0].legend(frameon=False, fontsize=8)
    save(figure, path)


def check(gigabits, delay, repetitions):
    """Compare sums on the ranks of MPI with the model: vectors of several sizes, one lane on each rank."""
    from mpi4py import MPI

    ranks = ranks_of(MPI.COMM_WORLD)
    with ranks.together():
        lines = [f"{'numbers':>12} {'measured':>10} {'model':>10}"]
        for size in (65_536, 262_144, 1_048_576, 4_194_304):
            own, total = np.ones(size, np.float32), np.empty(size, np.float32)

            def add(chunk, first, own=own, total=total):
                total[chunk] = own[chunk] if first else total[chunk] + own[chunk]

            def one_sum(total=total, add=add):
                ranks.allgather_number(0)                             # all begin at the same time
                ranks.ordered_allreduce(Workers(1), total, compute=lambda: None, is_final=lambda chunk: True,
                                        add_own=add, finish=lambda chunk: 0.0)

            seconds = median_seconds(one_sum, repetitions, time.perf_counter)
            assert (total == ranks.size).all()
            places = [slice(a, a + CHUNK) for a in range(0, size, CHUNK)]
            adding = median_seconds(lambda add=add, places=places: [add(place, False) for place in places],
                                    repetitions) / size
            model = Times(size, 0.0, 0.0, adding).sum(ranks.size, 1, 1e9 * gigabits, delay)
            lines.append(f"{size:12,} {1e3 * seconds:7.2f} ms {1e3 * model:7.2f} ms")
        if ranks.first:
            print("\n".join(lines))


def cifar_trainer(ranks, lanes=None):
    """Return a function that does a training step of `cifar`: 128 images, two threads or as many ranks."""
    model, images = minivit.create_model(MODELS["cifar"]), np.zeros((128, 32, 32, 3), np.uint8)
    labels = np.arange(128) % model.classes
    split = BatchSplit(lanes, BatchSplit.for_batch(128, model.matmul_rows).micro_batch) if lanes else None
    trainer = minivit.Trainer(model, threads=1 if ranks.size > 1 else 2, split=split, ranks=ranks)
    return lambda: trainer.step(images, labels)


def all_ranks():
    """Return the ranks that mpiexec has started, or this process alone."""
    from mpi4py import MPI

    return ranks_of(MPI.COMM_WORLD if MPI.COMM_WORLD.Get_size() > 1 else None)


def sleeping_step(ranks, whole, last):
    """Return a function that adds gradients of the size of `cifar`, with lanes that sleep instead of computing.

    They sleep for `whole` seconds. The gradients become final in the `last` of them, the last layers first.
    """
    size = minivit.create_model(MODELS["cifar"]).vector.size
    own, total = np.ones(size, np.float32), np.empty(size, np.float32)

    def add(chunk, first):
        total[chunk] = own[chunk] if first else total[chunk] + own[chunk]

    def step():
        start = time.perf_counter()
        ranks.ordered_allreduce(
            Workers(1), total, compute=lambda: time.sleep(whole), add_own=add, finish=lambda chunk: 0.0,
            is_final=lambda chunk: time.perf_counter() - start > whole - last * chunk.start / size)
        assert (total == ranks.size).all()

    return step


def overlap(lanes, sleep, repetitions):
    """Print the time of a step whose sum begins during the backward, and of one whose sum begins after it."""
    ranks, early = all_ranks(), [True]
    add_all = ranks.ordered_allreduce
    ranks.ordered_allreduce = lambda *arguments, is_final, **named: add_all(
        *arguments, is_final=lambda chunk: early[0] and is_final(chunk), **named)
    with ranks.together():
        step = sleeping_step(ranks, *sleep) if sleep else cifar_trainer(ranks, lanes)
        times = {"during the backward": [], "after the backward": []}
        for _ in range(repetitions + 3):
            for when, found in times.items():
                early[0] = when == "during the backward"
                ranks.allgather_number(0)                             # all begin at the same time
                start = time.perf_counter(), time.process_time()
                step()
                found.append((time.perf_counter() - start[0], time.process_time() - start[1]))
        for when, found in times.items():
            wall, processor = 1e3 * np.array(found[3:]).T
            low, middle, high = np.quantile(wall, [0.25, 0.5, 0.75])
            processor = sum(ranks.allgather(float(np.median(processor))))
            if ranks.first:
                print(f"the sum begins {when:19}: {middle:7.1f} ms a step, half of them {low:.1f} to {high:.1f} ms; "
                      f"{processor:.1f} ms of processor time")


def one_step(repetitions):
    """Print the seconds that a step takes, and the processor time on all ranks, as JSON."""
    ranks = all_ranks()
    with ranks.together():
        step = cifar_trainer(ranks)
        wall = median_seconds(step, repetitions, time.perf_counter)
        processor = sum(ranks.allgather(median_seconds(step, repetitions, time.process_time)))
    if ranks.first:
        print(json.dumps([wall, processor]))


def speed(rounds, repetitions):
    """Measure steps in one process of two threads and on two ranks of one thread alternately, and compare them."""
    mpiexec = shutil.which("mpiexec", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    starts = {"1 process of 2 threads": [], "2 ranks of 1 thread": [mpiexec, "-n", "2"]}
    found = {name: [] for name in starts}
    for _ in range(rounds):
        for name, start in starts.items():
            command = [*start, sys.executable, __file__, "--step", str(repetitions)]
            found[name].append(json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout))
    medians = {name: np.median(numbers, axis=0) for name, numbers in found.items()}
    for name, (wall, processor) in medians.items():
        print(f"{name:23} {1e3 * wall:8.1f} ms a step, {1e3 * processor:8.1f} ms of processor time")
    ratios = np.array(found["1 process of 2 threads"]) / np.array(found["2 ranks of 1 thread"])     # round by round
    wall, processor = np.median(ratios, axis=0)
    print(f"speed of the ranks against the process: {wall:.3f} of it by the clock, {processor:.3f} by processor time "
          f"(medians of {rounds} rounds)")


def memory_of_this_process():
    """Return megabytes of this process (Linux): its own memory, and files that it maps."""
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return [int(status[name].split()[0]) / 1024 for name in ("RssAnon", "RssFile")]


def memory(images):
    """Print the memory of each rank after an epoch, if each loads all images and if each reads its share."""
    ranks = all_ranks()
    with ranks.together(), tempfile.TemporaryDirectory() as folder:
        path = ranks.broadcast(f"{folder}/images.npz")
        if ranks.first:
            rng = np.random.default_rng(0)
            np.savez(path, images=rng.integers(0, 256, (images, 32, 32, 3), np.uint8), labels=np.arange(images) % 10)
        ranks.allgather(None)
        table = [("before", ranks.allgather(memory_of_this_process()))]
        for how, load in (("its share", lambda: path), ("all images", lambda: minivit.load_data(path))):
            model = minivit.create_model("vit", image_size=32, patch_size=16, classes=10, width=8, depth=1, heads=1)
            data = load()
            minivit.train(model, data, epochs=0.5, batch_size=512, lanes=8, threads=1, progress=False, mpi=ranks,
                          on_start=lambda how=how: table.append((how, ranks.allgather(memory_of_this_process()))))
            table.append((f"{how}, after the training", ranks.allgather(memory_of_this_process())))
            del data
        if ranks.first:
            print(f"{images:,} images of 32x32x3 pixels: {images * 3072 / 2**20:,.0f} MB; memory of each rank in MB, "
                  "its own and mapped files")
            for what, of_ranks in table:
                print(f"{what:32}", *(f"{own:7.0f} + {mapped:5.0f}" for own, mapped in of_ranks))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--check", action="store_true", help="compare the model with sums on the ranks of mpiexec")
    parser.add_argument("--gbit", type=float, default=1.0, help="bandwidth of the network between them, for --check")
    parser.add_argument("--delay", type=float, default=1e-4, help="seconds of delay of a message, for --check")
    parser.add_argument("--out", default="several_machines.png", help="file of the figure")
    parser.add_argument("--overlap", action="store_true", help="compare sums that begin during and after the backward")
    parser.add_argument("--lanes", type=int, help="number of lanes, for --overlap")
    parser.add_argument("--sleep", type=float, nargs=2, metavar=("WHOLE", "LAST"),
                        help="for --overlap, lanes that sleep; gradients become final in the LAST of WHOLE seconds")
    parser.add_argument("--memory", action="store_true", help="print the memory of each rank")
    parser.add_argument("--images", type=int, default=200_000, help="number of images, for --memory")
    parser.add_argument("--speed", action="store_true", help="compare two ranks with one process")
    parser.add_argument("--step", type=int, metavar="N", help="one measurement of --speed, with N repetitions")
    options = parser.parse_args()
    if options.step:
        one_step(options.step)
    elif options.speed:
        speed(2 if options.quick else 10, 3 if options.quick else 15)
    elif options.overlap:
        overlap(options.lanes, options.sleep, 3 if options.quick else 30)
    elif options.memory:
        memory(options.images)
    elif options.check:
        check(options.gbit, options.delay, 3 if options.quick else 15)
    else:
        several_machines(options)


def several_machines(options):
    """Print the tables, and draw the figure."""
    models = QUICK if options.quick else MODELS
    measured = {name: measure(model, 2 if options.quick else 15) for name, model in models.items()}
    print(table(measured))
    if options.quick:
        print("\nToo few repetitions for conclusions.")
    else:
        print("", *pays(measured), sep="\n")
    draw(measured, options.out)
    print(f"\nfigure: {options.out}")


if __name__ == "__main__":
    main()
