"""The command line: `minivit VERB ...`. It parses arguments, calls one library function, and prints text or JSON.

    parser.py     the parser, and the options that several verbs share
    ranks.py      --mpi: several processes run one command
    wording.py    messages of the library in the words of the command line
    training.py   train, pretrain
    study.py      study
    trained.py    evaluate, predict, attend, features, tour: what uses a trained model
    models.py     models, weights, trace
    measuring.py  gradcheck, bench
    learning.py   learn
    exporting.py  export
    meta.py       help, completion

A verb is one function `add_VERB(verbs)`, which declares its options, and one function `_VERB(options)`, which runs it.
Heavy modules are imported inside the second one, so that `minivit --help` answers at once.
"""

import os
import shlex
import signal
import sys
from collections.abc import Sequence

from ..common.version import __version__
from .exporting import add_export
from .learning import add_learn
from .measuring import add_bench, add_gradcheck
from .meta import add_completion, add_help
from .models import add_models, add_trace, add_weights
from .parser import Parser, print_error, worded
from .ranks import prints_errors
from .study import add_study
from .trained import add_attend, add_evaluate, add_features, add_predict, add_tour
from .training import add_pretrain, add_train
from .wording import option_names

VERBS = (add_train, add_pretrain, add_study, add_evaluate, add_predict, add_attend, add_features, add_tour, add_models,
         add_weights, add_trace, add_gradcheck, add_bench, add_learn, add_export, add_help, add_completion)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Parameters
    ----------
    arguments : list of str, optional
        The arguments after the program's name. Default: those of the process.

    Returns
    -------
    int
        The exit code: 0 for success; 1 for a wrong gradient, or for weights of another model; 2 after an error, which
        is printed to stderr in one line; 128 + n if signal n stopped the process.
    """
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="backslashreplace")             # an ASCII terminal shows other characters escaped
    typed, options = sys.argv[1:] if arguments is None else arguments, None
    try:
        parser = build_parser()
        options = parser.parse_args(typed)
        options.typed, options.command = typed, shlex.join(["minivit", *typed])
        options.option_names = option_names(parser)
        return options.verb(options) or 0
    except BrokenPipeError:
        # the program that reads the output, such as `head`, has ended
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (ValueError, TypeError, OSError, FloatingPointError, RuntimeError, ImportError) as error:
        if os.environ.get("MINIVIT_TRACEBACK"):
            raise
        if prints_errors(typed):
            print_error(error, options)
        return 2
    except KeyboardInterrupt as stop:
        # the text of an interrupted training says how to resume it
        text = worded(str(stop), options) if options else ""
        print(f"\nminivit: {text or 'interrupted'}", file=sys.stderr)
        return 128 + getattr(stop, "signal", signal.SIGINT)


def build_parser() -> Parser:
    """Return the parser of the whole command line."""
    parser = Parser(
        prog="minivit", description="Train, use and verify Vision Transformers written by hand in NumPy.",
        epilog="examples:\n  minivit train digits\n  minivit evaluate runs/digits-seed0\n  minivit predict "
               "runs/digits-seed0 7\n\n`minivit help COMMAND` lists the options of a command.\nSet MINIVIT_TRACEBACK=1 "
               "in the environment to see the traceback of an error.")
    parser.add_argument("-V", "--version", action="version", version=f"minivit {__version__}")
    parser.set_defaults(verb=lambda options: parser.print_help())
    verbs = parser.add_subparsers(title="commands", metavar="COMMAND", parser_class=Parser)
    for add in VERBS:
        add(verbs)
    return parser
