"""The parser of the command line, the options that several verbs share, and how notes and errors are printed."""

import argparse
import sys
from typing import Any, NoReturn

from ..common.checks import check_name, nearest
from ..common.sizes import Size, parse_size
from .wording import in_options

COLUMNS = 100     # widest help text


class Parser(argparse.ArgumentParser):
    """A parser whose errors are exceptions, which suggests the nearest option, and which knows no abbreviations."""

    def __init__(self, **options: Any) -> None:
        defaults: dict[str, Any] = {"allow_abbrev": False, "formatter_class": _Formatter}
        super().__init__(**(defaults | options))

    def error(self, message: str) -> NoReturn:
        """Raise ValueError with the message."""
        raise ValueError(f"{message} (see {self.prog} --help)")

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> tuple[Any, list[str]]:
        """Parse arguments. Raises ValueError for an unknown one, with the nearest option."""
        namespace, unknown = super().parse_known_args(args, namespace)
        if unknown:
            self.error(self._unknown_text(unknown))
        return namespace, unknown

    def _unknown_text(self, unknown: list[str]) -> str:
        """Return the error for unknown arguments, with the option that is nearest to the first unknown one."""
        options = [word.split("=")[0] for word in unknown if word.startswith("-")]
        if not options:
            return f"unexpected argument{'s' * (len(unknown) > 1)}: {' '.join(unknown)}"
        known = [option for option in self._option_string_actions if option.startswith("--")]
        longer = [option for option in known if option.startswith(options[0]) and len(options[0]) > 2]    # abbreviated
        near = longer[0] if longer else nearest(options[0], known, cutoff=0.7)
        return f"unknown option {options[0]}" + (f": did you mean {near}?" if near else "")

    def _check_value(self, action, value):
        """Check a choice. Only the verbs are choices."""
        if action.choices is not None:
            check_name("command", value, action.choices)


class _Formatter(argparse.RawDescriptionHelpFormatter):
    """Help texts of at most `COLUMNS` columns; the line breaks of descriptions and epilogs are kept."""

    def __init__(self, prog: str, **options: Any) -> None:
        defaults: dict[str, Any] = {"max_help_position": 30}
        super().__init__(prog, **(defaults | options))
        self._width = min(self._width, COLUMNS)


def size(text: str) -> Size:
    """Return an option's image size: 32 for a square, or 32x64 for rows x columns."""
    try:
        return parse_size(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def add_image_size(verb: argparse._ActionsContainer) -> None:
    """Add --image-size, of a model that is trained already."""
    verb.add_argument("--image-size", type=size, metavar="PIXELS",
                      help="Resize image files to squares of this side, or to HxW, such as 96x128, another size than "
                           "in the training. Positions are interpolated.")


def add_threads(verb: argparse._ActionsContainer, note: str = "") -> None:
    """Add --threads. note: a sentence for its help."""
    verb.add_argument("--threads", type=int, metavar="T", help=f"Number of threads. {note}Default: all cores.")


def add_json(verb: argparse._ActionsContainer, what: str = "the result") -> None:
    """Add --json. what: what it prints."""
    verb.add_argument("--json", action="store_true", help=f"Print {what} as JSON.")


def add_quiet(verb: argparse._ActionsContainer) -> None:
    """Add --quiet."""
    verb.add_argument("-q", "--quiet", action="store_true", help="Show no progress, only the result.")


def add_data_dir(verb: argparse._ActionsContainer) -> None:
    """Add --data-dir."""
    verb.add_argument("--data-dir", metavar="DIR",
                      help="Folder of the downloaded data sets, such as mnist. Default: the environment variable "
                           "MINIVIT_DATA, else the user's cache.")


def add_labels(verb: argparse._ActionsContainer) -> None:
    """Add --labels."""
    verb.add_argument("--labels", metavar="HOW",
                      help="Classes of image files that are not in sub-folders: a CSV file with the columns file and "
                           "label, or a pattern of their names such as '{class}_*'.")


def add_images(verb: argparse._ActionsContainer, more: str = "") -> None:
    """Add the positional arguments IMAGE. more: what else they may be, a sentence."""
    verb.add_argument("images", metavar="IMAGE", nargs="+",
                      help="An image file, which is prepared as the run's own images were; or a number, which counts "
                           f"the run's test images from 0.{more}")


def add_class_names(verb: argparse._ActionsContainer) -> None:
    """Add --class-names."""
    verb.add_argument("--class-names", metavar="FILE",
                      help="With --model, the names of the classes: a text file with one a line, or JSON. Default: the "
                           "config.json beside the weights, if it has names.")


def given(options: argparse.Namespace, *names: str) -> dict[str, Any]:
    """Return the options that were given, as keyword arguments. The others keep the library's defaults."""
    return {name: getattr(options, name) for name in names if getattr(options, name, None) is not None}


def worded(text: str, options: argparse.Namespace) -> str:
    """Return a message of the library in the words of the command that the user typed."""
    return in_options(text, options.option_names, options.typed)


def print_note(text: str | None, options: argparse.Namespace) -> None:
    """Print a note of the library on stderr, in one line, if there is one."""
    if text:
        print(f"minivit: note: {worded(text, options)}", file=sys.stderr)


def print_error(error: BaseException, options: argparse.Namespace | None = None) -> None:
    """Print an error on stderr, in one line. options: those of the command, if they could be parsed."""
    text = str(error)
    if isinstance(error, OSError) and error.strerror:
        text = f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    line = " ".join("; ".join([text, *getattr(error, "__notes__", ())]).split())
    print(f"minivit: error: {worded(line, options) if options else line}", file=sys.stderr)
