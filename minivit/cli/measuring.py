"""`minivit gradcheck` and `minivit bench`: check the gradients, and measure the speed."""

import argparse
import contextlib
import json
import sys
import textwrap
import time
from typing import Any

from .parser import COLUMNS, add_json, add_quiet, add_threads, print_error


def add_gradcheck(verbs: argparse._SubParsersAction) -> None:
    """Add `minivit gradcheck`."""
    verb = verbs.add_parser(
        "gradcheck", help="check gradients numerically: all of this project, or a layer of your own",
        description="Compare the gradients of every op (reference and fast version), layer and model family "
                    "with\nnumerical ones, tensor by tensor, in float64 at small odd sizes. Or compare those of a "
                    "layer in\na Python file of your own.\nThe exit code is 1 if a gradient is wrong.",
        epilog="examples:\n  minivit gradcheck layer_norm Block vit\n"
               "  minivit gradcheck my_layers.py:Swish --input 3x4 --watch\n"
               "  minivit gradcheck 'my_layers.py:Linear(4, 5)' --input 3x4")
    verb.set_defaults(verb=_gradcheck)
    verb.add_argument("names", metavar="NAME", nargs="*",
                      help="An op (layer_norm), a layer (LayerNorm) or a model family (vit). Default: all. Or "
                           "FILE.py:NAME, where NAME is a class with forward and backward, the common beginning of a "
                           "pair of functions such as gelu_forward and gelu_backward, or two functions with a comma "
                           "between.")
    verb.add_argument("--method", default="richardson", metavar="METHOD",
                      help="richardson, central, directional or taylor. Default: richardson.")
    verb.add_argument("--seed", type=int, default=0, metavar="S",
                      help="Seed of the inputs, weights, upstream gradients and sampled entries. Default: 0.")
    verb.add_argument("--threads", type=int, default=1, metavar="T",
                      help="Number of threads of each matrix product. The checks run one after the other and their "
                           "arrays are small, so more threads seldom help. Default: 1.")
    verb.add_argument("--list", action="store_true", help="List the names of all ops, layers and model families.")
    own = verb.add_argument_group("a layer of your own")
    own.add_argument("--input", action="append", metavar="SHAPE", dest="inputs",
                     help="An input: a shape such as 3x4, for random numbers; 3x4:10, for integers below 10; or an "
                          ".npy file. Repeat it for each input of the forward.")
    own.add_argument("--constant", action="append", metavar="NAME", dest="constants",
                     help="An input or parameter without a gradient, such as a mask. May be repeated.")
    own.add_argument("--keep", action="append", metavar="NAME",
                     help="A parameter that keeps its value instead of a random one, such as a variance. May be "
                          "repeated.")
    own.add_argument("--tolerance", type=float, metavar="T", help="Largest error that passes. Default: 1e-6.")
    own.add_argument("--checks", metavar="NAMES",
                     help="Named checks besides the default ones, with commas between: batch, float32, byte_order, "
                          "parts, or all; -aliasing leaves one out (write --checks=-aliasing); none leaves out all.")
    own.add_argument("--independent", action=argparse.BooleanOptionalAction,
                     help="Whether images of a batch that influence each other are an error. Default: a note.")
    own.add_argument("--watch", action="store_true",
                     help="Check again whenever a Python file in the folder changes, until Ctrl-C.")
    own.add_argument("--plot", metavar="FILE", help="Draw the error of every tensor against the step size, and "
                                                    "maps of wrong tensors. The format is the file's ending (.png, "
                                                    ".svg, .pdf), else PNG.")
    add_json(verb, "ok, worst, seconds and checks, each with its rows (for a layer of your own: ok, worst, notes, "
                   "rows and checks),")


def _gradcheck(options: argparse.Namespace) -> int:
    from ..gradcheck_catalogue.catalogue import families
    from ..gradcheck_catalogue.runner import as_json, table, verify
    from ..testing.files import is_file_target

    if options.list:
        print(json.dumps(families()) if options.json else "\n\n".join(
            textwrap.fill(f"{group}: {', '.join(names)}", COLUMNS) for group, names in families().items()))
        return 0
    if any(map(is_file_target, options.names)):
        return _gradcheck_file(options)
    if any((options.inputs, options.constants, options.keep, options.watch, options.plot)) or (
            options.tolerance, options.independent, options.checks) != (None, None, None):
        raise ValueError("--input, --constant, --keep, --tolerance, --checks, --independent, --watch and --plot are "
                         "for a layer of your own: name it as FILE.py:NAME")
    result = verify(options.names, options.method, options.seed, options.threads)
    print(json.dumps(as_json(result)) if options.json else table(result))
    return 0 if result.ok else 1


def _gradcheck_file(options: argparse.Namespace) -> int:
    """Check a layer in a file; again and again with --watch."""
    from ..testing.files import watch

    if len(options.names) > 1:
        raise ValueError(f"one layer of a file at a time: found {' '.join(options.names)}")
    if options.threads != 1:
        raise ValueError("--threads is for the ops, layers and models of this project")
    if options.plot:
        from ..common.figures import figure_format

        figure_format(options.plot)                                  # report a wrong ending before the check
    if not options.watch:
        return _checked_file(options)
    code = 0
    try:
        for code in watch(options.names[0], lambda: _watched_file(options)):
            verdict = "right" if code == 0 else "WRONG"
            print(f"{time.strftime('%H:%M:%S')}: {verdict}; waiting for a change (Ctrl-C ends)", file=sys.stderr)
    except KeyboardInterrupt:
        print(file=sys.stderr)
    return code


def _checked_file(options):
    """Check the layer once, print the report and return the exit code. What the file prints goes to stderr."""
    from ..gradcheck_catalogue.runner import plain, rows_as_json
    from ..testing.files import check_file

    tolerance = {} if options.tolerance is None else {"tolerance": options.tolerance}
    with contextlib.redirect_stdout(sys.stderr):
        report = check_file(options.names[0], options.inputs or (), options.seed, method=options.method,
                            constants=options.constants or (), keep=options.keep or (),
                            independent=options.independent, checks=_checks(options), **tolerance)
    found = {"ok": report.ok, "worst": plain(report.worst), "notes": report.notes, "rows": rows_as_json(report),
             "checks": [{"check": f.check, "verdict": f.verdict, "text": f.text} for f in report.checks]}
    print(json.dumps(found) if options.json else report, flush=True)
    if options.plot:
        with contextlib.redirect_stdout(sys.stderr):
            report.plot(options.plot)
    return 0 if report.ok else 1


def _checks(options):
    """Return the names in --checks."""
    return [name.strip() for name in (options.checks or "").split(",") if name.strip()]


def _watched_file(options):
    """Check once. Print an error instead of raising it, so that --watch continues."""
    try:
        return _checked_file(options)
    except (ValueError, TypeError, OSError, ImportError) as error:
        print_error(error, options)
        return 2


def add_bench(verbs: argparse._SubParsersAction) -> None:
    """Add `minivit bench`."""
    verb = verbs.add_parser(
        "bench", help="measure the speed",
        description="Measure training and inference against this processor's limit, and against PyTorch and JAX if "
                    "they\nare installed.",
        epilog="examples:\n  minivit bench --shape fashion\n  minivit bench --profile --shape base-1")
    verb.set_defaults(verb=_bench)
    verb.add_argument("--family", metavar="NAME", help="Measure all shapes of vit, deit, swin or resnet. Default: vit.")
    verb.add_argument("--shape", action="append", metavar="NAME",
                      help="Measure one shape, such as fashion, base-1, swin-mini or resnet-28. May be repeated.")
    verb.add_argument("--contestant", action="append", metavar="NAME",
                      help="Compare with torch, torch.compile, torch.channels_last (for a resnet) or jax (for a vit). "
                           "May be repeated. Default: all that are installed.")
    verb.add_argument("--against", metavar="ENVIRONMENT",
                      help="Compare with another version of minivit, such as an older one: the folder of a virtual "
                           "environment in which it is installed.")
    add_threads(verb)
    verb.add_argument("--seconds", type=float, default=1.0, help="Length of a burst. Default: 1.")
    verb.add_argument("--rounds", type=int, default=7, metavar="N", help="Bursts of each contestant. Default: 7.")
    other = verb.add_argument_group("other measurements").add_mutually_exclusive_group()
    other.add_argument("--profile", action="store_true",
                       help="Measure where the time of a training step (or of inference) goes, op by op.")
    other.add_argument("--growth", action="store_true",
                       help="Measure how the cost of an image grows with batch, tokens, depth, width and threads.")
    other.add_argument("--plot", metavar="FILE",
                       help="Draw the share of the machine's limit against the width of the model. The format is the "
                            "file's ending (.png, .svg, .pdf), else PNG.")
    add_quiet(verb)
    add_json(verb)


def _bench(options: argparse.Namespace) -> None:
    result, text = _measure(options, _ignore if options.quiet else _print_progress)
    print(json.dumps(result) if options.json else text)


def _print_progress(line: str) -> None:
    """Print one line of progress."""
    print(line, file=sys.stderr)


def _ignore(line: str) -> None:
    """Print nothing."""


def _measure(options: argparse.Namespace, progress: Any) -> tuple[Any, str]:
    """Return the result of the measurement that was asked for, and its text."""
    from ..bench import SHAPES, bench, draw, growth, growth_table, profile, profile_table, select, sizes, table

    if options.shape and options.family:
        raise ValueError("--family measures all its shapes: leave out --shape, or --family")
    if (options.growth or options.plot) and (options.shape or options.family):
        raise ValueError("--growth and --plot have shapes of their own: leave out --shape and --family")
    if options.profile:
        named = select(options.shape, options.family)
        trained = [shape for shape in named if SHAPES[shape].trained]
        profiles = [profile(shape) for shape in (named if options.shape else trained or named)]
        return profiles, "\n\n".join(map(profile_table, profiles))
    if options.growth:
        costs = growth(options.seconds, options.rounds, options.threads, progress)
        return costs, growth_table(costs)
    if options.plot:
        from ..common.figures import figure_format

        figure_format(options.plot)                                  # report a wrong ending before the measurement
        shares = sizes(options.contestant, options.threads, options.seconds, options.rounds, progress)
        draw(shares, options.plot)
        return shares, options.plot
    result = bench(options.shape, options.contestant, options.threads, options.seconds, options.rounds, progress,
                   options.family, options.against)
    return result, table(result)
