"""How good is the gradient checker on other people's code? The numbers of docs/gradient-checkers.md.

    python tests/strangers_study.py              prints a table; a column for each checker that is installed
    python tests/strangers_study.py --missed     also lists what a checker missed, and mistakes without a diagnosis
    python tests/strangers_study.py --time       measures only how long minivit takes for the right layers
    python tests/strangers_study.py --abilities  prints another table: what each checker can do, each cell from a run

It measures on the layers of `tests/strangers`: right ones, their mistakes, and small mistakes planted in every tensor:
a gradient that is 0.1% too large, and one entry that is off by a thousandth of the largest entry. Then on 2,000 random
right functions of `random_functions`, whose inputs and results have scales from 1e-8 to 1e8. Every checker has its
default settings; that of PyTorch also runs with rtol = atol = 1e-6. All see the same arrays, through the adapters of
`strangers/judges.py`. The abilities are in `strangers/abilities.py`. MyGrad has no column: it has no public checker.
"""

import argparse
import importlib.util
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from random_functions import random_function
from strangers.abilities import CHECKS, abilities_of
from strangers.collection import STRANGERS, Mistake, Stranger
from strangers.judges import (
    Verdict,
    as_function,
    autograd_verdict,
    jax_verdict,
    minivit_verdict,
    numdifftools_verdict,
    planted,
    scipy_verdict,
    strict_torch_verdict,
    torch_verdict,
)

RANDOM = 2_000
SMALL = 1e-3                                                          # relative size of the planted mistakes
JUDGES = {"minivit": (minivit_verdict, "numpy"), "torch": (torch_verdict, "torch"),
          "torch, 1e-6": (strict_torch_verdict, "torch"), "jax": (jax_verdict, "jax"),
          "autograd": (autograd_verdict, "autograd"), "scipy": (scipy_verdict, "scipy"),
          "numdifftools": (numdifftools_verdict, "numdifftools")}


def small_mistakes(stranger: Stranger) -> Iterator[tuple[str, str, Any]]:
    """Yield (tensor, what is wrong, function) for every tensor whose gradient is not zero."""
    with np.errstate(all="ignore"):
        function = stranger.run(as_function)
        dy = function.fixed_dy if function.fixed_dy is not None else _random_dy(function)
        sizes = {name: float(np.abs(g).max()) for name, g in function.backward(dy).items()}
    for name, size in sizes.items():
        if size > 1e-12:
            yield name, "0.1% too large", planted(function, name, lambda g: g * (1 + SMALL))
            yield name, "one entry", planted(function, name, _one_entry_off)


def _one_entry_off(g):
    """Return the gradient with one entry, in the middle, off by a thousandth of the largest."""
    g = np.array(g, order="C")                                        # so that reshape makes a view
    g.reshape(-1)[g.size // 2] += SMALL * np.abs(g).max()
    return g


def _random_dy(function):
    from minivit.gradient_checking.function import Results

    results, rng = Results(function.forward()), np.random.default_rng(3)
    return results.structured(rng.standard_normal(results.real(results.tree).shape))


class Study:
    """The scores of one checker; `missed` has a line for each failure."""

    def __init__(self, judge: Callable[..., Verdict], names_tensors: bool) -> None:
        self.judge, self.names_tensors = judge, names_tensors
        self.missed: list[str] = []
        self.scores: dict[str, list[bool]] = {row: [] for row in (
            "right layers accepted", "mistakes caught", "and the tensor named", "mistakes of a pattern diagnosed",
            "planted at 0.001 caught", "planted: the tensor named", "random right functions accepted")}
        self.seconds = 0.0

    def _note(self, row: str, ok: bool, what: str) -> None:
        self.scores[row].append(ok)
        if not ok:
            self.missed.append(f"{row}: not {what}")

    def run(self, random_functions: int = RANDOM) -> "Study":
        """Measure everything."""
        start = time.perf_counter()
        for stranger in STRANGERS:
            verdict = stranger.run(self.judge)
            self._note("right layers accepted", verdict.ok, f"{stranger}: {verdict.said}")
            for mistake in stranger.mistakes:
                self._mistake(stranger, mistake)
            for tensor, what, function in small_mistakes(stranger):
                verdict = self.judge(function)
                self._note("planted at 0.001 caught", not verdict.ok, f"{stranger}: {tensor}: {what}")
                if self.names_tensors:
                    self._note("planted: the tensor named", verdict.names({tensor}), f"{stranger}: {tensor}: {what}")
        for seed in range(random_functions):
            target, inputs = random_function(seed)
            verdict = self.judge(target, *inputs)
            self._note("random right functions accepted", verdict.ok, f"seed {seed}: {verdict.said}")
        self.seconds = time.perf_counter() - start
        return self

    def _mistake(self, stranger: Stranger, mistake: Mistake) -> None:
        verdict, what = stranger.with_mistake(mistake).run(self.judge), f"{stranger}: {mistake}"
        self._note("mistakes caught", not verdict.ok, what)
        if self.names_tensors:
            named = verdict.names(set(mistake.tensors.split()))
            self._note("and the tensor named", named, f"{what}: {verdict.tensors}")
            if mistake.pattern:
                self._note("mistakes of a pattern diagnosed", verdict.diagnoses(mistake), f"{what}: {verdict.said}")


def table(studies: dict[str, Study]) -> str:
    """Return the table in Markdown."""
    lines = [f"| | {' | '.join(studies)} |", "|---" * (1 + len(studies)) + "|"]
    for row in next(iter(studies.values())).scores:
        scores = [study.scores[row] for study in studies.values()]
        cells = [f"{sum(score):,} of {len(score):,}" if score else "-" for score in scores]
        lines.append(f"| {row} | {' | '.join(cells)} |")
    return "\n".join([*lines, f"| seconds | {' | '.join(f'{s.seconds:.0f}' for s in studies.values())} |"])


def abilities_table() -> str:
    """Return what the installed checkers can do, in Markdown."""
    found = {name: abilities_of(name) for name, (_, module) in CHECKS.items()
             if importlib.util.find_spec(module) is not None}
    lines = [f"| | {' | '.join(found)} |", "|---" * (1 + len(found)) + "|"]
    for ability in next(iter(found.values())):
        lines.append(f"| {ability} | {' | '.join('yes' if can[ability] else 'no' for can in found.values())} |")
    return "\n".join(lines)


def seconds_for_right_layers() -> float:
    """Return the processor time in which minivit checks all right layers, one after another."""
    STRANGERS[0].run(minivit_verdict)                                 # imports
    start = time.process_time()
    assert all(stranger.run(minivit_verdict).ok for stranger in STRANGERS)
    return time.process_time() - start


def main() -> None:
    """Measure the checkers that are installed and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--missed", action="store_true", help="List what each checker missed.")
    parser.add_argument("--random", type=int, default=RANDOM, metavar="N", help="Number of random right functions.")
    parser.add_argument("--checker", choices=JUDGES, metavar="NAME", help=f"Measure one of {', '.join(JUDGES)} only.")
    parser.add_argument("--abilities", action="store_true", help="Print what each checker can do, and nothing else.")
    parser.add_argument("--time", action="store_true", help="Measure only the time for the right layers.")
    options = parser.parse_args()
    if options.time:
        print(f"{len(STRANGERS)} right layers in {seconds_for_right_layers():.1f} s")
        return
    if options.abilities:
        print(abilities_table())
        return
    studies = {name: Study(judge, name == "minivit").run(options.random) for name, (judge, module) in JUDGES.items()
               if importlib.util.find_spec(module) is not None and options.checker in (None, name)}
    print(table(studies))
    for name, study in studies.items() if options.missed else ():
        print(f"\n{name} missed {len(study.missed)}:", *study.missed, sep="\n  ")


if __name__ == "__main__":
    main()
