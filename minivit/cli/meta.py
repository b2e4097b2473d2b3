"""`minivit help` and `minivit completion`: the command line about itself."""

import argparse

from ..common.checks import check_name

SHELLS = ("bash", "zsh", "tcsh")


def add_help(verbs: argparse._SubParsersAction) -> None:
    """Add `minivit help`."""
    verb = verbs.add_parser("help", help="show the help of a command", description="Show the help of COMMAND.")
    verb.add_argument("topic", metavar="COMMAND", nargs="?", help="A command. Default: all commands.")

    def run(options: argparse.Namespace) -> None:
        from . import build_parser  # here, because cli/__init__.py imports this file

        if options.topic is None:
            build_parser().print_help()
        else:
            verbs.choices[check_name("command", options.topic, verbs.choices)].print_help()

    verb.set_defaults(verb=run)


def add_completion(verbs: argparse._SubParsersAction) -> None:
    """Add `minivit completion`."""
    verb = verbs.add_parser("completion", help="print a completion script for a shell",
                            description="Print a script with which SHELL completes commands and options.",
                            epilog="example:\n  minivit completion bash > "
                                   "~/.local/share/bash-completion/completions/minivit")
    verb.add_argument("shell", metavar="SHELL", help="bash, zsh or tcsh.")
    verb.set_defaults(verb=_completion)


def _completion(options: argparse.Namespace) -> None:
    from . import build_parser  # here, because cli/__init__.py imports this file

    check_name("shell", options.shell, SHELLS)
    try:
        import shtab
    except ImportError:
        raise ImportError("completion needs shtab: pip install 'minivit[completion]'") from None
    print(shtab.complete(build_parser(), options.shell))
