"""Messages of the library in the words of the command line: options instead of keyword arguments.

The library's messages name what a Python user passes: `image_size=32`, `resume=True`, `data_dir`. The command line
shows them as `--image-size 32`, `--resume`, `--data-dir`. This is the only place that knows both.
"""

import argparse
import re
from collections.abc import Mapping, Sequence

# functions that messages name, and the command that prints the same
COMMANDS = {"minivit.models.describe_models()": "`minivit models`",
            "minivit.gradcheck_catalogue.catalogue.families()": "`minivit gradcheck --list`"}
FILES_WITH_ENTRIES = "config.json", "[settings]", "[grid]"             # how messages name these files
# a call, which stays as it is; or a keyword, perhaps with a value, that is not part of a path or a quoted word
_CALL_OR_KEYWORD = re.compile(r"[\w.]+\([^()]*\)|(?<![\w./'\"-])([a-z_]+)"
                              r"(?:=(\.\.\.|\(\d+, \d+\)|[^\s,;:()`]*))?(?!\w|[./'\"-]\w)")


def option_names(parser: argparse.ArgumentParser) -> dict[str, str]:
    """Return {keyword: option} of a parser and its commands, such as {"data_dir": "--data-dir"}."""
    names: dict[str, str] = {}
    for action in parser._actions:
        if isinstance(action.choices, dict):                          # the commands
            for command in action.choices.values():
                names |= option_names(command)
        elif action.option_strings:
            names[action.dest] = next(option for option in action.option_strings if option.startswith("--"))
    return names


def in_options(text: str, options: Mapping[str, str], typed: Sequence[str] = ()) -> str:
    """Return a message of the library with options in place of keyword arguments.

    A keyword is recognised by its equals sign, or by an underscore in its name: other names, such as "start", are also
    ordinary words. In a message about a config.json or the file of a study, names without an equals sign are entries
    of the file and stay.

    Parameters
    ----------
    text : str
        The message.
    options : mapping
        {keyword: option}, see `option_names`.
    typed : sequence of str
        The arguments that the user typed. Words that are part of a name or path among them stay as they are.
    """
    entries = any(file in text for file in FILES_WITH_ENTRIES)
    names = [argument for argument in typed if not argument.startswith("-")]

    def replace(match: re.Match) -> str:
        word, (keyword, value) = match[0], match.groups()
        if keyword not in options or any(word in name for name in names):
            return word
        if value is None and (entries or "_" not in keyword):
            return word
        if value in (None, "", "...", "True"):
            return options[keyword]
        return f"{options[keyword]} {'x'.join(re.findall(r'[0-9]+', value)) if value[0] == '(' else value}"

    for function, command in COMMANDS.items():
        text = text.replace(function, command)
    return _CALL_OR_KEYWORD.sub(replace, text)
