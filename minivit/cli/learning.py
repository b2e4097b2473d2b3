"""`minivit learn`: the exercises of the course."""

import argparse

from .parser import Parser


def add_learn(verbs: argparse._SubParsersAction) -> None:
    """Add `minivit learn`."""
    verb = verbs.add_parser(
        "learn", help="exercises that grade themselves",
        description="Write a Vision Transformer yourself, step by step. Without a command, this lists the exercises "
                    "and\nwhat you have done in this folder.",
        epilog="examples:\n  minivit learn\n  minivit learn start linear\n  minivit learn check linear.py\n"
               "  minivit learn hint linear\n  minivit learn train *.py")
    verb.set_defaults(verb=_list)
    _add_folder(verb)
    commands = verb.add_subparsers(title="commands", metavar="COMMAND", parser_class=Parser,
                                   help="What to do. Default: list the exercises.")

    start = commands.add_parser("start", help="write the file of an exercise",
                                description="Write NAME.py: equations, shapes, and the functions to fill in.\nA file "
                                            "that exists is never overwritten.")
    start.set_defaults(verb=_start)
    start.add_argument("name", metavar="NAME", nargs="?", help="An exercise. Default: the first without a file.")
    start.add_argument("--to", "--in", metavar="FOLDER", dest="folder", default=".",
                       help="Where to write it; created if needed. Default: this folder.")

    hint = commands.add_parser("hint", help="show one hint more", description="Show one hint more for an exercise.")
    hint.set_defaults(verb=_hint)
    hint.add_argument("name", metavar="NAME", help="An exercise.")
    _add_folder(hint)

    check = commands.add_parser(
        "check", help="say whether files are right, and if not, what is wrong",
        description="Run each FILE in a process of its own and check it: shapes, forward, and backward "
                    "against\nmeasured slopes. The exit code is 1 if a file is wrong.")
    check.set_defaults(verb=_check)
    _add_files(check)
    check.add_argument("--seconds", type=float, default=10.0, metavar="S",
                       help="Time limit for what a file computes. Default: 10.")

    train = commands.add_parser(
        "train", help="train the digits with your functions",
        description="Train a Vision Transformer on the digits with your functions in place of those of minivit.\nEach "
                    "FILE must have passed its check.")
    train.set_defaults(verb=_train)
    _add_files(train)
    train.add_argument("--epochs", type=int, default=30, metavar="N", help="Passes over the images. Default: 30.")
    train.add_argument("--seed", type=int, default=0, metavar="S", help="Seed of weights and batches. Default: 0.")


def _add_folder(verb: argparse.ArgumentParser) -> None:
    """Add --in, the folder of the exercise files."""
    verb.add_argument("--in", metavar="FOLDER", dest="folder", default=".",
                      help="Folder of your exercise files. Default: this folder.")


def _add_files(verb: argparse.ArgumentParser) -> None:
    """Add the positional arguments FILE."""
    verb.add_argument("files", metavar="FILE", nargs="+", help="A file that `minivit learn start` wrote.")


def _list(options: argparse.Namespace) -> None:
    from ..course.lessons import overview

    print(overview(options.folder))


def _start(options: argparse.Namespace) -> None:
    from ..course.lessons import start

    print(start(options.name, options.folder))


def _hint(options: argparse.Namespace) -> None:
    from ..course.lessons import hint

    print(hint(options.name, options.folder))


def _check(options: argparse.Namespace) -> int:
    from ..course.lessons import advice, check_submission, unique
    from ..course.submission import read_submission

    submissions = [read_submission(path) for path in unique(options.files)]    # before any of them runs
    all_passed = True
    for i, submission in enumerate(submissions):
        passed, text = check_submission(submission, options.seconds)
        print(("\n" if i else "") + f"{text}\n{advice(submission, passed)}", flush=True)
        all_passed &= passed
    return 0 if all_passed else 1


def _train(options: argparse.Namespace) -> None:
    from ..course.lessons import train

    def show(line: str) -> None:
        print(line, flush=True)

    print(train(options.files, options.epochs, options.seed, show))
