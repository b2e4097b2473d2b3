"""How fast: our training step and inference, against this machine's own limit and against other frameworks.

One process for each contestant, all alive at once and asked in turn, so that what disturbs the machine disturbs them alike:

    limits        the best rate of float32 matrix products, of each contestant's own library, on all threads
    minivit       this package
    torch         PyTorch eager, and `torch.compile`          where torch is installed
    jax           one jitted function                         where jax is installed

Every contestant has the same architecture, weights, batch, dtype, threads and optimiser (AdamW, with clipping), and must
first give our logits. A step counts 3 x the forward's matrix products: forward, and backward to inputs and to weights.

Reported are medians over all bursts, and shares: of the machine's limit (the best product NumPy can do here) and of each
contestant's own, which says how good its code is whatever BLAS it stands on.
"""

import argparse
import contextlib
import importlib
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from .arguments import check_name, check_number

_MINI = {"patch_size": 4, "classes": 10, "width": 64, "depth": 4, "heads": 4, "mlp_ratio": 2}
SHAPES = {
    "digits": ({"image_size": 8, "channels": 1} | _MINI | {"patch_size": 2}, 64),
    "fashion": ({"image_size": 28, "channels": 1} | _MINI, 128),
    "cifar": ({"image_size": 32, "channels": 3} | _MINI | {"width": 192, "depth": 6, "heads": 3, "mlp_ratio": 4}, 128),
    "base-1": ({"image_size": 224, "channels": 3, "patch_size": 16, "classes": 1000, "width": 768, "depth": 12, "heads": 12,
                "mlp_ratio": 4}, 1),
}
SHAPES["base-8"] = (SHAPES["base-1"][0], 8)
INFERENCE_ONLY = {"base-1", "base-8"}
CONTESTANTS = {"minivit": "numpy", "torch": "torch", "torch.compile": "torch", "jax": "jax"}      # and what their limit is measured with
_AGREE = 1e-3           # largest difference of logits, relative to the largest logit


class Contestant:
    """What is timed of this package: one training step, and inference."""

    def __init__(self, config, weights, images, labels, threads):
        from .interop.timm import from_timm
        from .models import create_model
        from .models.create import declare_model
        from .training.trainer import Trainer

        values = from_timm(weights, declare_model("vit", **config))
        self.model = create_model("vit", **config).pack(values=values)
        self.trainer = Trainer(self.model, lr=1e-4, weight_decay=0.05, threads=threads)
        self.images, self.labels, self.threads = images, labels, threads

    def train(self):
        """Forward, loss, backward, clipping, AdamW."""
        self.trainer.step(self.images, self.labels)

    def infer(self):
        """Logits (B, K)."""
        return self.model.predict(self.images, self.threads)


def product(m, k, n, threads):
    """A function that multiplies (m, k) by (k, n) in float32 with NumPy."""
    from .lanes import blas_threads

    a, b, out = np.ones((m, k), np.float32), np.ones((k, n), np.float32), np.empty((m, n), np.float32)

    def multiply():
        with blas_threads(threads):
            np.matmul(a, b, out=out)

    return multiply


# ---- the process of one contestant ------------------------------------------------------------------------


def _make(name, threads, folder):
    """The contestant of that name on the model and batch in `folder`."""
    config = json.loads((folder / "config.json").read_text())
    config.pop("batch")
    with np.load(folder / "batch.npz") as batch:
        arrays = {key: batch[key] for key in batch.files}
    images, labels = arrays.pop("images"), arrays.pop("labels")
    if name == "minivit":
        return Contestant(config, arrays, images, labels, threads)
    if name == "jax":
        from .peers import jax_vit
        return jax_vit.Contestant(config, arrays, images, labels, threads)
    from .peers import torch_vit
    config |= {"pool": "token", "positions": "learned"}
    return torch_vit.Contestant(config, arrays, images, labels, threads, compiled=name == "torch.compile")


def _products(library, threads, folder):
    """Products of square matrices and of the model's own shapes: pairs (floating-point operations, function)."""
    if library == "numpy":
        make = product
    elif library == "jax":
        from .peers.jax_vit import product as make
    else:
        from .peers.torch_vit import product as make
    config = json.loads((folder / "config.json").read_text())
    D, F = config["width"], config["width"] * config["mlp_ratio"]
    rows = config["batch"] * ((config["image_size"] // config["patch_size"]) ** 2 + 1)
    shapes = [(512, 512, 512), (1024, 1024, 1024), (2048, 2048, 2048), (rows, D, 3 * D), (rows, D, F), (rows, F, D)]
    return [(2 * m * k * n, make(m, k, n, threads)) for m, k, n in shapes]


def _burst(work, seconds):
    """Repeat `work` for about so many seconds, at least twice -> the seconds of each."""
    times: list[float] = []
    end = time.perf_counter() + seconds
    while len(times) < 2 or time.perf_counter() < end:
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return times


def _peak_memory():
    """The most memory this process has held, in bytes; None where the system does not tell."""
    try:
        import resource
    except ImportError:
        return None
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def _serve(name, threads, folder):
    """Answer the driver, one JSON line for each of its lines."""
    limit = name.startswith("limit-")
    subject = _products(name.removeprefix("limit-"), threads, folder) if limit else _make(name, threads, folder)
    for line in sys.stdin:
        verb, seconds = line.split()
        if verb == "logits":
            answer = subject.infer().tolist()
        elif verb == "limit":
            answer = [max(flops / min(_burst(work, float(seconds) / len(subject))) for flops, work in subject)]
        elif verb == "memory":
            answer = _peak_memory()
        else:
            answer = _burst(getattr(subject, verb), float(seconds))
        print(json.dumps(answer), flush=True)


class _Process:
    """A contestant in a process of its own."""

    def __init__(self, name, threads, folder):
        # Frameworks read the number of threads when they start.
        environment = os.environ | {"OMP_NUM_THREADS": str(threads)}
        self.name = name
        command = [sys.executable, "-m", "minivit.bench", name, str(threads), str(folder)]
        self.process: Any = subprocess.Popen(command, text=True, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                             stderr=subprocess.PIPE)

    def ask(self, verb, seconds=0.0):
        """Send one line; returns the answer. Raises RuntimeError with the end of its words if the process has failed."""
        with contextlib.suppress(BrokenPipeError):                    # it has ended: its last words follow
            self.process.stdin.write(f"{verb} {seconds}\n")
            self.process.stdin.flush()
        answer = self.process.stdout.readline()
        if not answer:
            raise RuntimeError(f"{self.name} failed: " + " | ".join(self.process.stderr.read().strip().splitlines()[-2:]))
        return json.loads(answer)

    def end(self):
        """Close its input, upon which it ends."""
        self.process.communicate()


# ---- the comparison ---------------------------------------------------------------------------------------


def bench(shapes=None, contestants=None, threads=None, seconds=1.0, rounds=7, progress=None):
    """Compare; returns {"machine": ..., "shapes": {shape: {"limits": ..., "contestants": {name: ...}, "failed": ...}}}.

    shapes, contestants: names of SHAPES and CONTESTANTS (default: all that are installed). seconds: of each of the `rounds` bursts.
    progress: a function that is given a line of words now and then.
    Raises ValueError for unknown names and numbers out of range, RuntimeError if minivit itself fails.
    """
    from .lanes import available_threads

    shapes = [check_name("shape", s, SHAPES) for s in shapes or SHAPES]
    contestants = [check_name("contestant", c, CONTESTANTS) for c in contestants or CONTESTANTS]
    contestants = [c for c in contestants if c == "minivit" or importlib.util.find_spec(CONTESTANTS[c])]
    threads = available_threads() if threads is None else check_number("number of threads", threads, least=1, whole=True)
    check_number("seconds", seconds, above=0)
    check_number("number of rounds", rounds, least=1, whole=True)
    results = {}
    for shape in shapes:
        results[shape] = _compare(shape, contestants, threads, seconds, rounds, progress or (lambda line: None))
    return {"machine": describe_machine(threads), "shapes": results}


def _compare(shape, contestants, threads, seconds, rounds, progress):
    """All contestants on one shape, in turn."""
    with tempfile.TemporaryDirectory() as folder:
        flops, batch = _prepare(shape, Path(folder))
        ready: dict[str, _Process] = {}
        failed: dict[str, str] = {}
        for name in [*contestants, *(f"limit-{library}" for library in dict.fromkeys(CONTESTANTS[c] for c in contestants))]:
            progress(f"{shape}: starting {name}")
            process = _Process(name, threads, folder)
            try:
                if name.startswith("limit-"):
                    process.ask("limit", 0.1)
                else:
                    _agree(name, process, ready.get("minivit"))
                ready[name] = process
            except RuntimeError as error:
                if name == "minivit":
                    raise
                failed[name] = str(error)
                process.end()
        verbs = ["infer"] if shape in INFERENCE_ONLY else ["train", "infer"]
        times: dict[str, dict[str, list]] = {
            name: {verb: [] for verb in (["limit"] if name.startswith("limit-") else verbs)} for name in ready}
        memory: dict[str, int | None] = {}
        for verb in verbs:                                            # training first: its memory is read before inference adds its own
            for turn in range(rounds + 1):
                progress(f"{shape}: {verb}, round {turn} of {rounds}")
                for name, process in ready.items():
                    asked = "limit" if name.startswith("limit-") else verb
                    answer = process.ask(asked, seconds)
                    if turn:                                          # the first round compiles and warms up
                        times[name][asked] += answer
            memory = memory or {name: process.ask("memory") for name, process in ready.items()}
        for process in ready.values():
            process.end()
    return _summarise(times, memory, failed, flops, batch)


def _prepare(shape, folder):
    """Write the model and a batch for all contestants; returns the forward's FLOPs for an image, and the batch size."""
    from .interop.timm import to_timm
    from .models import create_model

    config, batch = SHAPES[shape]
    model, rng = create_model("vit", **config, position_std=0.5), np.random.default_rng(0)
    model.head.weight.data = rng.standard_normal(model.head.weight.shape) / np.sqrt(model.width)
    side = config["image_size"]
    np.savez(folder / "batch.npz", images=rng.standard_normal((batch, side, side, config["channels"]), np.float32),
             labels=rng.integers(0, config["classes"], batch), **to_timm(model))
    (folder / "config.json").write_text(json.dumps(config | {"batch": batch}))
    return model.flops, batch


def _agree(name, process, ours):
    """Raise RuntimeError unless a contestant gives our logits: only equal work is compared."""
    logits = np.array(process.ask("logits"))
    if ours is not None:
        expected = np.array(ours.ask("logits"))
        difference = np.abs(logits - expected).max() / np.abs(expected).max()
        if not difference < _AGREE:
            raise RuntimeError(f"{name} computes something else: its logits differ by {difference:.1e}")


def _summarise(times, memory, failed, flops, batch):
    """Medians, spreads, shares and ratios of one shape."""
    limits = {name.removeprefix("limit-"): float(np.median(t["limit"])) for name, t in times.items() if "limit" in t}
    machine = limits["numpy"]
    rows = {}
    for name, by_verb in times.items():
        if "limit" in by_verb:
            continue
        rows[name] = {"peak_memory": memory[name]}
        for verb, seconds in by_verb.items():
            low, median, high = np.percentile(seconds, [25, 50, 75])
            rate = (3 if verb == "train" else 1) * flops * batch / median
            rows[name][verb] = {"images_per_second": batch / median, "seconds": median, "quartiles": [low, high], "flops_per_second": rate,
                                "share_of_limit": rate / machine, "share_of_own_limit": rate / limits[CONTESTANTS[name]]}
    for name, row in rows.items():
        for verb in times[name]:
            if "minivit" in rows:
                row[verb]["minivit_is_faster_by"] = row[verb]["seconds"] / rows["minivit"][verb]["seconds"]
    return {"batch": batch, "limits": limits, "contestants": rows, "failed": failed}


def describe_machine(threads):
    """The processor, the BLAS that NumPy uses, and a warning where the environment pins it to an old kernel."""
    import platform

    import threadpoolctl

    info = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    model = next((line.split(":", 1)[1].strip() for line in info.splitlines() if line.startswith("model name")), platform.processor())
    blas = [{key: library.get(key) for key in ("internal_api", "version", "architecture", "num_threads")}
            for library in threadpoolctl.threadpool_info() if library["user_api"] == "blas"]
    pinned = [f"{name}={os.environ[name]}" for name in ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE") if name in os.environ]
    old = "avx512f" in info and any(b["architecture"] in ("Haswell", "Zen", "Sandybridge", "Nehalem", "Prescott") for b in blas)
    warnings = [f"the environment pins OpenBLAS ({', '.join(pinned)}): figures may be worse than this machine can do"] if pinned else []
    warnings += ["this processor has AVX-512, but OpenBLAS runs a kernel without it"] if old else []
    return {"processor": model, "threads": threads, "python": platform.python_version(), "numpy": np.__version__, "blas": blas,
            "warnings": warnings}


def table(result):
    """The result of `bench` as text."""
    machine = result["machine"]
    blas = ", ".join(f"{b['internal_api']} {b['version']} {b['architecture']}" for b in machine["blas"])
    lines = [f"{machine['processor']}, {machine['threads']} threads; NumPy {machine['numpy']}, {blas}"]
    lines += [f"warning: {warning}" for warning in machine["warnings"]]
    for shape, part in result["shapes"].items():
        limits = ", ".join(f"{library} {rate / 1e9:.0f}" for library, rate in part["limits"].items())
        lines += ["", f"{shape}, batch {part['batch']}; matrix products at best, GFLOP/s: {limits}",
                  f"{'':14} {'':9} {'images/s':>9} {'ms, quartiles':>20} {'minivit is':>11} {'of limit':>9} {'of own':>7} {'MiB':>6}"]
        for name, row in part["contestants"].items():
            for verb in ("train", "infer"):
                if verb in row:
                    lines.append(_row(name, verb, row[verb], row["peak_memory"]))
        lines += [f"left out: {reason}" for reason in part["failed"].values()]
    return "\n".join(lines)


def _row(name, verb, r, memory):
    low, median, high = (1e3 * seconds for seconds in (r["quartiles"][0], r["seconds"], r["quartiles"][1]))
    return (f"{name:14} {verb:9} {r['images_per_second']:9,.0f} {median:8.2f} {low:5.1f}-{high:<5.1f} {r['minivit_is_faster_by']:9.2f}x "
            f"{r['share_of_limit']:8.0%} {r['share_of_own_limit']:7.0%} {memory / 2**20 if memory else float('nan'):6.0f}")


# ---- where the time goes ----------------------------------------------------------------------------------


def profile(shape="cifar", steps=10):
    """Seconds a training step spends in each op, forward and backward, and in matrix products, on one thread.

    Returns {"step": seconds, "rows": [{op, pass, calls, seconds, products}]}: seconds are an op's own, without the ops it calls;
    products is the part of them inside `np.matmul`. The ops are wrapped for as long as this runs. Raises ValueError for an unknown shape.
    """
    from unittest import mock

    from . import ops
    from .interop.timm import to_timm
    from .models import create_model

    config, batch = SHAPES[check_name("shape", shape, SHAPES)]
    rng, side = np.random.default_rng(0), config["image_size"]
    images = rng.standard_normal((batch, side, side, config["channels"]), np.float32)
    labels = rng.integers(0, config["classes"], batch)
    subject = Contestant(config, to_timm(create_model("vit", **config)), images, labels, threads=1)
    for _ in range(3):
        subject.train()
    clock = _Clock()
    with mock.patch.object(np, "matmul", clock.product(np.matmul)):
        patches = [mock.patch.object(module, name, clock.op(path.name.removesuffix(".py"), name, getattr(module, name)))
                   for path in sorted(Path(ops.__file__).parent.glob("[a-z]*.py"))
                   for module in [importlib.import_module(f"minivit.ops.{path.stem}")]
                   for name in ("forward", "backward") if hasattr(module, name)]
        for patch in patches:
            patch.start()
        start = time.perf_counter()
        for _ in range(steps):
            subject.train()
        total = (time.perf_counter() - start) / steps
        for patch in patches:
            patch.stop()
    rows = [{"op": op, "pass": name, "calls": calls // steps, "seconds": own / steps, "products": products / steps}
            for (op, name), (calls, own, products) in clock.rows.items()]
    return {"shape": shape, "step": total, "rows": sorted(rows, key=lambda row: -row["seconds"])}


class _Clock:
    """Own time of nested calls: {(op, name): [calls, seconds, seconds in products]}."""

    def __init__(self):
        self.rows, self.stack = {}, []

    def op(self, op, name, function):
        """`function`, timed as a row of its own."""
        row = self.rows.setdefault((op, name), [0, 0.0, 0.0])

        def timed(*arguments, **more):
            self.stack.append([row, 0.0])
            start = time.perf_counter()
            try:
                return function(*arguments, **more)
            finally:
                elapsed, (_, inner) = time.perf_counter() - start, self.stack.pop()
                row[0], row[1] = row[0] + 1, row[1] + elapsed - inner
                if self.stack:
                    self.stack[-1][1] += elapsed

        return timed

    def product(self, matmul):
        """`np.matmul`, whose time is noted in the row of the op that calls it."""
        def timed(*arguments, **more):
            start = time.perf_counter()
            result = matmul(*arguments, **more)
            if self.stack:
                self.stack[-1][0][2] += time.perf_counter() - start
            return result

        return timed


def profile_table(result):
    """The result of `profile` as text."""
    lines = [f"{result['shape']}: one training step on one thread, {1e3 * result['step']:.2f} ms",
             f"{'op':15} {'pass':9} {'calls':>6} {'ms':>9} {'share':>7} {'of it products':>15}"]
    for row in result["rows"]:
        if row["calls"]:
            lines.append(f"{row['op']:15} {row['pass']:9} {row['calls']:6} {1e3 * row['seconds']:9.3f} "
                         f"{row['seconds'] / result['step']:7.1%} {row['products'] / row['seconds']:15.0%}")
    products, within = sum(r["products"] for r in result["rows"]), sum(r["seconds"] for r in result["rows"])
    lines += [f"{'layers, AdamW, sum':32} {1e3 * (result['step'] - within):9.3f} {1 - within / result['step']:7.1%}",
              f"not matrix products: {1 - products / result['step']:.1%}"]
    return "\n".join(lines)


if __name__ == "__main__":
    _arguments = argparse.ArgumentParser(description="One contestant of `minivit bench`; the driver starts it.")
    _arguments.add_argument("name")
    _arguments.add_argument("threads", type=int)
    _arguments.add_argument("folder", type=Path)
    _options = _arguments.parse_args()
    _serve(_options.name, _options.threads, _options.folder)
