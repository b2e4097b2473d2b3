"""Compare our training step and inference with this machine's limit and with other frameworks.

Each contestant has its own process. All processes stay alive and are asked in turn, so a disturbance of the machine
affects all alike:

    processor     its physical limit: a product that never leaves the registers (see `physical_limit.py`)
    limits        the best rate of float32 matrix products of each contestant's own library, on all threads
    minivit       this package
    against       another version of this package, in an environment of its own
    torch         PyTorch eager, and `torch.compile`          if torch is installed
                  `torch.channels_last`: eager, with channels last in memory, for convolutions
    jax           one jitted function, of the ViT             if jax is installed

Every contestant has the same architecture, weights, batch, dtype, threads and optimiser (AdamW with clipping), and must
first return our logits. A step counts three times the forward's matrix products: forward, and backward to inputs and
weights. The products of a convolution are those of its definition, and those of a block are for all tokens. Winograd's
algorithm, and a last block that computes only the class token, do fewer, which raises their share of the limit.

The limit of a library is the best rate of several products: square ones, and those with the model's largest matrices.
Shares are of the processor's limit and of the limit of each contestant's own library. Ratios and shares are computed
within a round, in which all are asked once; the median over the rounds is reported.
"""

import contextlib
import importlib.util
import json
import math
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from ..common.checks import check_name, check_number
from .contestant import CONTESTANTS
from .machine import describe_machine
from .profiling import profile
from .shapes import SHAPES, select

_AGREE = 1e-3           # largest difference of logits, relative to the largest logit


class _Process:
    """A contestant in its own process."""

    def __init__(self, name, threads, folder, python=None):
        # Frameworks read the number of threads when they start.
        environment = os.environ | {"OMP_NUM_THREADS": str(threads)}
        self.name = name
        command = [sys.executable, "-m", "minivit.bench.worker", name, str(threads), str(folder)]
        if python:                                                    # another version, which must not import this one
            command = [str(python), str(Path(__file__).with_name("other_version.py")), str(threads), str(folder)]
            environment.pop("PYTHONPATH", None)
        self.process: Any = subprocess.Popen(command, text=True, env=environment, stdin=subprocess.PIPE,
                                             stdout=subprocess.PIPE,
                                             stderr=subprocess.PIPE)

    def ask(self, verb, seconds=0.0):
        """Send one line and return the answer. Raises RuntimeError with the end of stderr if the process has failed."""
        with contextlib.suppress(BrokenPipeError):                    # it has ended: its last words follow
            self.process.stdin.write(f"{verb} {seconds}\n")
            self.process.stdin.flush()
        answer = self.process.stdout.readline()
        if not answer:
            raise RuntimeError(f"{self.name} failed: "
                               + " | ".join(self.process.stderr.read().strip().splitlines()[-2:]))
        return json.loads(answer)

    def end(self):
        """Close its input, so that it ends."""
        self.process.communicate()


# ---- the comparison ---------------------------------------------------------------------------------------


def bench(shapes: list[str] | None = None, contestants: list[str] | None = None, threads: Any = None,
          seconds: float = 1.0, rounds: int = 7, progress: Any = None, family: Any = None,
          against: str | Path | None = None) -> dict:
    """Compare contestants on some shapes.

    Parameters
    ----------
    shapes, family
        As for `select`.
    contestants : list of str, optional
        Names of CONTESTANTS (default: all that are installed and have the family).
    threads : int, optional
        Threads of each contestant (default: all cores).
    seconds : float
        Length of a burst.
    rounds : int
        Number of bursts of each contestant.
    progress : function, optional
        Receives lines of text.
    against : str or Path, optional
        The folder of a virtual environment with another version of minivit, or its Python. It becomes a contestant.

    Returns
    -------
    dict
        {"machine": ..., "shapes": {shape: {"limits": ..., "contestants": {name: ...}, "failed": ...}}}

    Raises
    ------
    ValueError
        For unknown names, contestants that cannot take part, and numbers out of range.
    RuntimeError
        If minivit itself fails.
    """
    from ..parallel.threads import available_threads

    threads = available_threads() if threads is None else check_number("number of "
                                                                       "threads", threads, least=1, whole=True)
    results, python = {}, None if against is None else find_python(against)
    names = select(shapes, family)
    for name in names:
        _entrants(contestants, SHAPES[name].family)                   # all shapes, before the first is measured
    for name in names:
        results[name] = compare(name, SHAPES[name], contestants, threads, seconds, rounds,
                                progress or (lambda line: None), python)
        if SHAPES[name].trained:
            results[name]["not_products"] = profile(name, steps=3)["not_products"]
    return {"machine": describe_machine(threads), "shapes": results}


def compare(title: str, shape: Any, contestants: list[str] | None, threads: Any, seconds: float, rounds: int,
            progress: Any, python: Path | None = None) -> dict:
    """Compare all contestants on one `Shape` -> {"batch", "limits", "contestants", "failed"}. Otherwise as `bench`.

    python: that of another version, see `find_python`.
    """
    contestants = _entrants(contestants, shape.family) + (["against"] if python else [])
    check_number("seconds", seconds, above=0)
    check_number("number of rounds", rounds, least=1, whole=True)
    with tempfile.TemporaryDirectory() as folder, _Field(python) as field:
        flops = _prepare(shape, Path(folder))
        field.start(title, contestants, threads, folder, progress)
        verbs = ["train", "infer"] if shape.trained else ["infer"]
        times: dict[tuple[str, str], list] = {}                       # (name, verb): the answers, round by round
        memory: dict[str, int | None] = {}
        for verb in verbs:  # training first: its memory is read before inference adds its own
            for turn in range(rounds + 1):
                progress(f"{title}: {verb}, round {turn} of {rounds}")
                for name, answer in field.ask(verb, seconds).items():
                    if turn:                                          # the first round compiles and warms up
                        times.setdefault((name, verb), []).append(answer)
            memory = memory or field.ask("memory")
    whole = {key: answers for key, answers in times.items() if len(answers) == rounds}
    whole = {(name, verb): answers for (name, verb), answers in whole.items() if (_limit(name), verb) in whole}
    return _summarise(whole, memory, flops, shape.batch) | {"failed": field.failed}


def find_python(path: str | Path) -> Path:
    """Return the Python of a virtual environment, given by its folder or by that Python.

    Raises ValueError if there is none, or it has no minivit.
    """
    path = Path(path).absolute()
    candidates = [path / "bin" / "python", path / "Scripts" / "python.exe"] if path.is_dir() else [path]
    python = next((candidate for candidate in candidates if candidate.is_file()), None)
    if python is None:
        raise ValueError(f"{path} is no virtual environment: it has no {candidates[0].name}; make one with "
                         f"`python -m venv {path}` and install the other version of minivit into it")
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    found = subprocess.run([python, "-c", "import minivit"], env=environment, cwd=path.anchor, capture_output=True)
    if found.returncode:
        raise ValueError(f"{python} cannot import minivit: install the other version of minivit into its environment")
    return python


def _entrants(names, family):
    """Return "minivit" and the named contestants; without names, all that are installed and have the family.

    Raises ValueError for a name that is unknown, not installed, or lacks the family.
    """
    for name in names or ():
        entrant = CONTESTANTS[check_name("contestant", name, CONTESTANTS)]
        if family not in entrant.families:
            raise ValueError(f"contestant {name} has no {family}, only {', '.join(entrant.families)}: leave it out, or "
                             "measure what it has")
        if not importlib.util.find_spec(entrant.library):
            raise ValueError(f"contestant {name} needs {entrant.library}, which is not installed: install it, or leave "
                             f"{name} out")
    able = [name for name, entrant in CONTESTANTS.items() if family in entrant.families
            and importlib.util.find_spec(entrant.library)]
    return list(dict.fromkeys(["minivit", *(names or able)]))


def _limit(name):
    """Return the name of the limit of a contestant."""
    return name if name.startswith("limit-") else f"limit-{'numpy' if name == 'against' else CONTESTANTS[name].library}"


class _Field:
    """All processes, `ready` by name: the contestants, a limit for each library, and the processor's.

    One that fails is left out, and `failed` says why. All processes end with the `with` block.
    """

    def __init__(self, python=None):
        self.python = python
        self.ready: dict[str, _Process] = {}
        self.failed: dict[str, str] = {}

    def __enter__(self):
        return self

    def __exit__(self, *error):
        for process in self.ready.values():
            process.end()

    def start(self, title, contestants, threads, folder, progress):
        """Start the contestants and their limits; contestants with other logits are left out."""
        for name in dict.fromkeys([*contestants, "limit-processor", *map(_limit, contestants)]):
            progress(f"{title}: starting {name}")
            python = {"python": self.python} if name == "against" else {}
            self.ready[name] = process = _Process(name, threads, folder, **python)
            with self.leaving_out(name):
                if name.startswith("limit-"):
                    process.ask("limit", 0.1)
                else:
                    _agree(name, process, self.ready["minivit"])

    def ask(self, verb, seconds=0.0):
        """Ask each process in turn -> {name: answer}; a limit multiplies. Raises RuntimeError if minivit fails."""
        answers = {}
        for name in list(self.ready):
            if name in self.ready:
                with self.leaving_out(name):
                    answers[name] = self.ready[name].ask("limit" if name.startswith("limit-") and verb != "memory"
                                                         else verb, seconds)
        return answers

    @contextlib.contextmanager
    def leaving_out(self, name):
        """Leave out a contestant that fails in the block, and all contestants of a limit that fails."""
        try:
            yield
        except RuntimeError as error:
            if name in ("minivit", "limit-numpy", "limit-processor"):
                raise
            self.failed[name] = str(error)
            self.failed |= {c: f"{c} has no limit without "
                               f"{name}" for c in self.ready if c != name and _limit(c) == name}
            for other in self.failed.keys() & self.ready.keys():
                self.ready.pop(other).end()


def _prepare(shape, folder):
    """Write model, batch and the products of the limit for all contestants; return the forward's FLOPs per image."""
    from ..weight_formats.timm import to_timm

    model, images, labels = shape.make()
    # Move weights that start at 0 or 1, such as classifier and norms, so that they influence the logits.
    model.vector[:] += 0.02 * np.random.default_rng(1).standard_normal(model.vector.size)
    np.savez(folder / "batch.npz", images=images, labels=labels, **to_timm(model))  # type: ignore[arg-type]
    np.savez(folder / "weights.npz", **{p.name: p.data for p in model.parameters()})  # type: ignore[arg-type]
    matrices = {(math.prod(p.shape[:-1]), p.shape[-1]) for p in model.parameters() if p.decay}
    products = [(side, side, side) for side in (512, 1024, 2048)]
    products += [(shape.batch * model.matmul_rows, k, n) for k, n in sorted(matrices, key=math.prod)[-3:]]
    (folder / "shape.json").write_text(json.dumps({"family": shape.family, "config": model.config,
                                                   "products": products}))
    return model.flops


def _agree(name, process, ours):
    """Raise RuntimeError unless a contestant returns our logits."""
    logits, expected = np.array(process.ask("logits")), np.array(ours.ask("logits"))
    difference = np.abs(logits - expected).max() / np.abs(expected).max()
    if not difference < _AGREE:
        raise RuntimeError(f"{name} computes something else: its logits differ by {difference:.1e}")


def _summarise(times, memory, flops, batch):
    """Return medians, spreads, shares, ratios. times: {(name, verb): rounds of seconds, or FLOP/s of a limit}."""
    limits = {name.removeprefix("limit-"): [r[0] for r in rounds] for (name, _),
              rounds in times.items() if name.startswith("limit-")}
    rows: dict[str, dict] = {}
    for (name, verb), rounds in times.items():
        if name.startswith("limit-"):
            continue
        each = np.array([np.median(seconds) for seconds in rounds])
        rates = (3 if verb == "train" else 1) * flops * batch / each
        low, median, high = np.percentile(np.concatenate(rounds), [25, 50, 75])
        rows.setdefault(name, {"peak_memory": memory.get(name)})[verb] = {
            "images_per_second": batch / median, "seconds": median, "quartiles": [low, high],
            "flops_per_second": float(np.median(rates)),
            "share_of_limit": _share(rates, times["limit-processor", verb]),
            "share_of_own_limit": _share(rates, times[_limit(name), verb]),
            "minivit_is_faster_by": float(np.median(each / [np.median(seconds) for seconds in times["minivit", verb]])),
        }
    return {"batch": batch, "limits": {library: float(np.median(rates)) for library, rates in limits.items()},
            "contestants": rows}


def _share(rates, limits):
    """Return the median over the rounds of a rate's share of the limit."""
    return float(np.median(rates / np.array(limits)[:, 0]))


def table(result: dict) -> str:
    """Return the result of `bench` as text."""
    machine = result["machine"]
    blas = ", ".join(f"{b['internal_api']} {b['version']} {b['architecture']}" for b in machine["blas"])
    lines = [f"{machine['processor']}, {machine['threads']} threads; NumPy {machine['numpy']}, {blas}"]
    lines += [f"warning: {warning}" for warning in machine["warnings"]]
    for shape, part in result["shapes"].items():
        limits = ", ".join(f"{library} {rate / 1e9:.0f}" for library, rate in part["limits"].items())
        lines += ["", f"{shape}, batch {part['batch']}; GFLOP/s at best: {limits}",
                  f"{'':19} {'':5} {'images/s':>9} {'ms, quartiles':>20} {'minivit is':>11} {'of limit':>9} "
                  f"{'of own':>7} {'MiB':>6}"]
        lines += [_row(name, verb, row[verb], row["peak_memory"])
                  for name, row in part["contestants"].items() for verb in ("train", "infer") if verb in row]
        lines += [f"left out: {reason}" for reason in part["failed"].values()]
        if "not_products" in part:
            lines.append(f"of a training step of minivit, {part['not_products']:.0%} is not matrix products (on one "
                         "thread)")
    return "\n".join(lines)


def _row(name, verb, r, memory):
    """Return one line of the table."""
    low, median, high = (1e3 * seconds for seconds in (r["quartiles"][0], r["seconds"], r["quartiles"][1]))
    return (f"{name:19} {verb:5} {r['images_per_second']:9,.0f} {median:8.2f} {low:5.1f}-{high:<5.1f} "
            f"{r['minivit_is_faster_by']:9.2f}x {r['share_of_limit']:8.0%} {r['share_of_own_limit']:7.0%} "
            f"{memory / 2**20 if memory else float('nan'):6.0f}")
