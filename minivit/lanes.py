"""Lanes: data parallelism within one process.

A batch is cut into shares. Each share has a *lane*: a replica of the model (the same weights, its own gradients and caches) that
runs forward and backward from start to end on one thread, with BLAS held to one thread too. Then the lanes'
gradients are added, in the order of the lanes.

    batch ----> share 0 ---> lane 0: forward, loss, backward ---> gradient 0 --+
           |--> share 1 ---> lane 1: forward, loss, backward ---> gradient 1 --+--> sum in order --> clip, AdamW
           |--> share 2 ---> lane 2: ...                     ---> gradient 2 --+
           ...

Why so: one thread per share needs no synchronisation between the layers, keeps its arrays in its core's cache, and
scales even with small matrices, where a threaded BLAS waits more than it computes.

A share that is too large for a core's caches is run in several *passes* of `micro_batch` images, one after the other, whose
gradients are added too (gradient accumulation).

The cut depends on the work alone (images, and what each takes) and never on the machine; the number of threads only decides how many lanes
run at once. So a seed gives the same bits with 1, 2 or 16 threads, on one machine and one set of libraries.

Only in the inference of fewer images than threads there may be no lanes: the threads share the tokens of each image, if it is large (see
`layers/shared.py`), or, of a model that cannot share, BLAS cuts each product among them.
"""

import contextlib
import ctypes
import math
import os
import queue
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from pathlib import Path

import numpy as np
import threadpoolctl

from .arguments import check_number
from .kernel import kernel
from .layers.block import Block
from .layers.dropout import use_generator
from .ops import cross_entropy
from .ops.philox import Generator

PASS_ROWS = 1750    # of one pass at most, in a product of a typical block: enough for BLAS, few enough for a core's caches
MAX_LANES = 16
SHARED_ROWS = 128   # of an image at least, for threads to share it: with fewer they wait for each other more than they compute
CHUNK = 65_536      # weights whose gradients are summed by one task


@dataclass(frozen=True)
class Cut:
    """How a batch is cut: into `lanes` shares, each run in equal passes of at most `micro_batch` images, in order."""

    lanes: int
    micro_batch: int

    @classmethod
    def of(cls, batch, rows):
        """The cut for a batch of images with `rows` rows of a product each (see `Model.rows`).

        2, 4, 8 or 16 lanes, so that they divide evenly among cores; as many as there are images, if there are fewer.
        """
        micro_batch = max(1, PASS_ROWS // rows)
        lanes = 2
        while lanes < MAX_LANES and lanes * micro_batch < batch:
            lanes *= 2
        return cls(min(lanes, batch), micro_batch)

    def shares(self, batch):
        """The lanes' slices of a batch, as equal as can be; none is empty."""
        return _split(slice(0, batch), self.lanes)

    def passes(self, share):
        """The slices of one share that run one after the other."""
        return _split(share, math.ceil((share.stop - share.start) / self.micro_batch))


def _split(whole, parts):
    """Slices of almost equal length that make up the slice `whole`; an empty one is left out."""
    length = whole.stop - whole.start
    edges = [whole.start + length * i // parts for i in range(parts + 1)]
    return [slice(a, b) for a, b in pairwise(edges) if a < b]


def chunks(start, stop):
    """Fixed slices of a vector from `start` to `stop`: tasks over many weights, which the threads share."""
    return [slice(a, min(a + CHUNK, stop)) for a in range(start, stop, CHUNK)]


# ---- threads ----------------------------------------------------------------------------------------------


def available_threads():
    """The cores this process may use: by affinity, and by the quota of its container (Linux)."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        return max(1, min(cores, int(quota) // int(period)))
    except (OSError, ValueError):  # no such file, or "max": no quota
        return cores


@cache
def _libraries():
    """The thread pools of the libraries loaded, looked up once; warns if BLAS cannot be told how many threads to use."""
    controller = threadpoolctl.ThreadpoolController()
    if not controller.select(user_api="blas").lib_controllers:
        warnings.warn("this BLAS cannot be limited to one thread, so results may depend on the number of threads", stacklevel=3)
    return controller


def blas_threads(threads):
    """A context in which BLAS runs each product on so many threads."""
    return _libraries().limit(limits=threads, user_api="blas")


@cache
def _c_library():
    """The C library. Raises OSError or TypeError where it cannot be had."""
    return ctypes.CDLL(None)


@cache
def keep_freed_memory():
    """Let the C library keep freed arrays for the next step instead of returning their pages to the system.

    Every step allocates arrays of the same sizes. By default glibc returns large ones at once, and the
    next step pays for fresh zeroed pages, which takes longer than to compute what is written to them. Threads are kept to one
    arena, because the others give their pages back whatever the thresholds say.
    """
    try:
        mallopt = _c_library().mallopt
    except (AttributeError, OSError, TypeError):  # not glibc: its own policy stays
        return
    trim_threshold, mmap_threshold, arena_max = -1, -3, -8
    mallopt(arena_max, 1)
    mallopt(mmap_threshold, 32 << 20)  # the largest that glibc accepts
    mallopt(trim_threshold, 1 << 30)


@cache
def _pool(threads):
    """The threads themselves: one pool for all that ask for so many, because starting threads takes longer than a small batch."""
    return ThreadPoolExecutor(threads)


_HANDING_OUT = threading.Lock()


def _cores_apart(threads):
    """The cores that this thread may use, and a set of them for each of so many threads that often wait for each other.

    The sets have no core in common, and the first holds the one on which this thread runs: a system likes to wake a thread on the core of
    the one that it has waited for, and then both take turns on one core. With too few cores, each may use all. None where the system does
    not tell.
    """
    try:
        allowed, here = os.sched_getaffinity(0), _c_library().sched_getcpu()
    except (AttributeError, OSError, TypeError):                      # not Linux
        return None, [None] * threads
    others = sorted(allowed - {here})
    if here not in allowed or len(others) < threads - 1:
        return allowed, [allowed] * threads
    return allowed, [{here}, *({*others[k::threads - 1]} for k in range(threads - 1))]


def _stay_on(cores):
    """Let this thread run on these cores only; None for no change."""
    if cores is not None:
        with contextlib.suppress(OSError):                            # forbidden, or a core is gone
            os.sched_setaffinity(0, cores)


@cache
def _helper(number):
    """A pool of one thread, the same for the same number."""
    return ThreadPoolExecutor(1, f"minivit-helper-{number}")


if hasattr(os, "register_at_fork"):                                   # threads do not survive a fork
    os.register_at_fork(after_in_child=_pool.cache_clear)
    os.register_at_fork(after_in_child=_helper.cache_clear)
    os.register_at_fork(before=_HANDING_OUT.acquire, after_in_parent=_HANDING_OUT.release, after_in_child=_HANDING_OUT.release)


class Workers:
    """`threads` threads that run tasks side by side (default: the cores this process may use)."""

    def __init__(self, threads=None):
        self.threads = available_threads() if threads is None else check_number("number of threads", threads, least=1, whole=True)
        keep_freed_memory()

    def map(self, task, items):
        """[task(item) for item in items], side by side; an exception in a task is raised here."""
        return [task(item) for item in items] if self.threads == 1 else list(_pool(self.threads).map(task, items))

    def share(self, task, count, least=1):
        """task(part, meet) for equal slices `part` of range(count), one for each thread, or for fewer threads, if otherwise a part would be
        shorter than `least`; side by side. The first error is raised here.

        In a task, meet() waits until all tasks have come to it: each must come equally often. A task may not share. Unlike in `map`, the
        same thread takes the same part each time, this thread the first: so it finds in its core's cache what the task before has left
        there. Meanwhile each stays on cores of its own.
        """
        parts = _split(slice(0, count), min(self.threads, max(1, count // least)))
        if len(parts) < 2:
            for part in parts:
                task(part, lambda: None)
            return
        meeting, errors = threading.Barrier(len(parts)), []

        def run(cores, part):
            try:
                _stay_on(cores)
                task(part, meeting.wait)
            except threading.BrokenBarrierError:                      # another has failed
                pass
            except BaseException as error:
                errors.append(error)
                meeting.abort()

        allowed, (here, *elsewhere) = _cores_apart(len(parts))
        try:
            with _HANDING_OUT:                                        # or tasks of two calls could wait for each other
                helped = [_helper(k).submit(run, cores, part) for k, (cores, part) in enumerate(zip(elsewhere, parts[1:], strict=True))]
            run(here, parts[0])
            wait(helped)
        except BaseException:                                         # an interrupt: nobody shall wait for what was not handed out
            meeting.abort()
            raise
        finally:
            _stay_on(allowed)
        if errors:
            raise errors[0]


# ---- training ---------------------------------------------------------------------------------------------


def supervised(model, images, targets, batch):
    """Forward, loss and backward of a share of a batch of so many images -> (loss, divided by the batch; logits (B, K))."""
    logits = model.forward(images)
    loss, cache = cross_entropy.forward(logits, targets, batch)
    model.backward(cross_entropy.backward(1.0, cache))
    return float(loss), logits


class Lane:
    """A replica of the model with its random numbers, and the sum of its passes' gradients. objective, recompute: as for `Lanes`."""

    def __init__(self, model, seed, objective=supervised, recompute=False):
        self.replica, self.objective = model.replica(), objective
        blocks = [layer for _, layer in self.replica.named_layers() if isinstance(layer, Block)]
        if recompute and not blocks:
            raise ValueError(f"{type(model).__name__} has no transformer blocks whose activations could be computed again")
        for block in blocks:
            block.recompute = recompute
        self.rng = Generator(seed)
        use_generator(self.replica, self.rng)
        self.gradients = self._of_one_pass = self.replica.gradients
        self._of_all_passes = None

    def run(self, images, targets, passes, augment=None):
        """Forward and backward over this lane's passes of the batch -> (loss, correct predictions); the loss is divided by the batch."""
        loss, correct, self.gradients = 0.0, 0, self._of_one_pass
        for part in passes:
            self.rng.samples = np.arange(part.start, part.stop)
            x, t = augment(images, targets, self.rng) if augment else (images[part], targets[part])
            part_loss, logits = self.objective(self.replica, x, t, len(images))
            loss += part_loss
            correct += int((logits.argmax(axis=1) == t.argmax(axis=1)).sum())
            # A backward overwrites the replica's gradients: those of a single pass stay there; of several, the sum is kept elsewhere.
            if self.gradients is not self._of_one_pass:
                self.gradients += self._of_one_pass
            elif len(passes) > 1:
                if self._of_all_passes is None:
                    self._of_all_passes = np.empty_like(self._of_one_pass)
                self.gradients = self._of_all_passes
                np.copyto(self.gradients, self._of_one_pass)
        return loss, correct


class Lanes:
    """The lanes of one model: `forward_backward` fills `model.gradients` with the gradient of a whole batch.

    cut: of every batch, as a run has noted it (default: `Cut.of` each). augment: an `Augmentation`, or another function
    (images, targets, rng) -> (images, targets) from the whole batch to the varied share of `rng.samples`. objective: what each lane does
    with its share, as `supervised`; lanes call it at the same time. recompute: whether blocks compute their activations anew in the
    backward, see `layers/block.py`.
    """

    def __init__(self, model, seed=0, threads=None, cut=None, augment=None, objective=supervised, recompute=False):
        self.model, self.seed, self.cut, self.augment, self.objective, self.recompute = model, seed, cut, augment, objective, recompute
        self.workers = Workers(threads)
        self.weights, self.gradients = model.vector, model.gradients
        self._lanes = []

    def forward_backward(self, images, targets, step, epoch=0, numbers=None):
        """images (B, H, W, C), targets (B, K) -> (mean loss, correct predictions, norm of the gradient).

        epoch, numbers (B,): which time the data are gone through, and where in them the images stand; augmentation may ask.
        """
        cut = self.cut or Cut.of(len(images), self.model.rows)
        passes = [cut.passes(share) for share in cut.shares(len(images))]
        self._lanes += [Lane(self.model, self.seed, self.objective, self.recompute) for _ in range(len(passes) - len(self._lanes))]
        lanes = self._lanes[:len(passes)]
        for lane in lanes:
            lane.rng.begin(step, epoch, np.arange(len(images)) if numbers is None else numbers)
        with blas_threads(1):
            results = self.workers.map(lambda job: job[0].run(images, targets, job[1], self.augment),
                                       list(zip(lanes, passes, strict=True)))
            squares = self.workers.map(lambda chunk: self._sum(lanes, chunk), chunks(0, self.weights.size))
        losses, correct = zip(*results, strict=True)
        return sum(losses), sum(correct), float(np.sqrt(sum(squares)))

    def _sum(self, lanes, chunk):
        """Add the lanes' gradients in their order; returns the sum of squares, in float64."""
        total = self.gradients[chunk]
        total[...] = lanes[0].gradients[chunk]
        for lane in lanes[1:]:
            total += lane.gradients[chunk]
        return _sum_of_squares(total)


@kernel
def _sum_of_squares(x):
    total = 0.0
    for i in range(x.size):
        total += np.float64(x[i]) * np.float64(x[i])
    return total


# ---- inference --------------------------------------------------------------------------------------------


def predict(model, images, threads=None):
    """Logits (B, K) of images (B, H, W, C), computed in lanes; no cache is kept.

    Of fewer images than threads, threads share each, if it is large; of a model that cannot share, each product (see above). Then the bits
    may depend on the number of threads.
    """
    workers, logits = Workers(threads), np.empty((len(images), model.classes), model.dtype)
    if not len(images):
        return logits
    cut = Cut.of(len(images), model.rows)
    passes = [part for share in cut.shares(len(images)) for part in cut.passes(share)]
    if len(images) < workers.threads and (model.rows >= SHARED_ROWS or not model.shares):
        reader = model.reader(workers if model.shares else None)
        with blas_threads(1 if model.shares else workers.threads):
            for part in passes:
                logits[part] = reader.forward(images[part])
        return logits
    readers: queue.SimpleQueue = queue.SimpleQueue()
    for _ in range(min(workers.threads, len(passes))):
        readers.put(model.reader())

    def run(part):
        reader = readers.get()
        try:
            logits[part] = reader.forward(images[part])
        finally:
            readers.put(reader)

    with blas_threads(1):
        workers.map(run, passes)
    return logits
