"""The file of a study, in TOML: the data, settings of all runs, and a grid of settings that are compared.

    data = "digits"
    model = "vit_mini"                 optional, as --model of `minivit train`
    seeds = 3                          the seeds 0, 1, 2; or a list

    [settings]                         the same in each run: training settings, and options of the model
    epochs = 5

    [grid]                             each combination of these is a run for each seed
    lr = [1e-3, 3e-3]
    depth = [2, 4]

Instead of a grid, an ablation study has variants of the base, which [settings] describe (see `ablation.py`):

    [variants.rotary]                  each variant is trained with each seed, and compared with the base
    positions = "rotary"
    [variants."without ema"]
    ema = 0
"""

import itertools
import json
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ...common.checks import UnknownName, check_name, check_number, suggestion
from ...data import Dataset, load_data
from ...data.load import is_named
from ...models.model import Model
from ...training.settings import SETTINGS
from ..arguments_from_names import arguments_from_names
from ..run_settings import new_settings, read_arguments, training_data

ENTRIES = ("data", "model", "seeds", "settings", "grid", "variants")
BASE = "base"                                                         # the variant without changes
NOT_IN_STUDIES = {"seed": "seeds=... at the top of the file sets the seeds", "minutes": "epochs sets the length",
                  "checkpoint_seconds": "a study writes no checkpoints",
                  "checkpoint_steps": "a study writes no checkpoints", "log_norms": "a study writes no logs"}
LARGEST_SEED_COUNT = 1000


@dataclass(frozen=True)
class StudyFile:
    """What a file asks for.

    Attributes
    ----------
    data : str
        Name or path of the data.
    model : str, optional
        Name of the model; None for the default.
    seeds : list of int
    settings : dict
        What all runs share: training settings and options of the model.
    grid : dict
        {name of a setting or option, or "model": list of values}.
    variants : dict
        {name: changes of the base, {name of a setting or option, or "model": value}}; empty if there is a grid.
    """

    data: str
    model: str | None
    seeds: list[int]
    settings: dict[str, Any]
    grid: dict[str, list[Any]]
    variants: dict[str, dict[str, Any]] = field(default_factory=dict)

    @property
    def combinations(self) -> list[dict[str, Any]]:
        """Each combination of the grid, {name: value}. The last name changes fastest.

        Of variants, each is {"variant": its name, "changes": JSON}, so that a table knows what a name stood for. The
        base comes first.
        """
        if self.variants:
            variants: dict[str, dict[str, Any]] = {BASE: {}, **self.variants}
            return [{"variant": name, "changes": json.dumps(changes, sort_keys=True)}
                    for name, changes in variants.items()]
        return [dict(zip(self.grid, values, strict=True)) for values in itertools.product(*self.grid.values())]

    @property
    def points(self) -> list[dict[str, Any]]:
        """Each combination with each seed, as a `Study` takes them; all combinations of the first seed come first."""
        return [{name: _as_text(value) for name, value in combination.items()} | {"seed": seed}
                for seed in self.seeds for combination in self.combinations]

    @property
    def shared(self) -> dict[str, Any]:
        """What all points share and their results depend on, for a `Study`; without the data's content."""
        return {"data": self.data, "model": self.model, "settings": self.settings}

    def check(self, data: Dataset) -> None:
        """Raise ValueError or TypeError if a combination cannot be trained on the data.

        Also if only some combinations have validation images. Errors as `minivit.train`.
        """
        with_images, without = list[dict[str, Any]](), list[dict[str, Any]]()
        for combination in self.combinations:
            try:
                model, _, settings = arguments(data, self.model, self.settings, combination, self.seeds[0])
                (with_images if validates(model, data, settings) else without).append(combination)
            except UnknownName as error:
                if error.kind != "model option":
                    raise
                known = [name for name in [*SETTINGS, *error.known] if name not in NOT_IN_STUDIES]
                raise UnknownName("setting or model option", error.name, known, suggestion(error.name, known)) from None
        if with_images and without:
            one, other = (", ".join(f"{name} {_as_text(value)}" for name, value in found[0].items()
                                    if name != "changes") for found in (with_images, without))
            raise ValueError(f"validation images are set apart with {one}, but not with {other}, so these cannot be "
                             "compared: write one val_fraction, such as 0.1, into [settings]")


def read_study(path: str | Path) -> StudyFile:
    """Read the file of a study. Raises ValueError if it is not as it must be; OSError."""
    try:
        content = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise FileNotFoundError(f"{path}: no such file") from None
    except ValueError as error:
        raise ValueError(f"{path} is not a TOML file: {error}") from None
    try:
        return _study(content, Path(path))
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def _study(content, path):
    """The study that the content of a file describes. Raises ValueError."""
    for name in content:
        check_name("entry of a study", name, ENTRIES)
    data, model = content.get("data"), content.get("model")
    if not isinstance(data, str):
        raise ValueError('data is missing: write for example data = "digits"')
    if not isinstance(model, str | None):
        raise ValueError(f"model must be a name, not {model!r}")
    if not is_named(data) and (path.parent / data).exists():           # relative to the file, wherever the command runs
        data = str((path.parent / data).resolve())
    settings, grid, variants = (content.get(kind, {}) for kind in ("settings", "grid", "variants"))
    if not isinstance(variants, dict):
        raise ValueError(f"variants must be tables, such as [variants.rotary], not {variants!r}")
    tables = [("settings", settings), ("grid", grid), *((f"variants.{name}", one) for name, one in variants.items())]
    for kind, table in tables:
        if not isinstance(table, dict):
            raise ValueError(f"{kind} must be a table, [{kind}], not {table!r}")
        for name in table:
            if name in NOT_IN_STUDIES:
                raise ValueError(f"{name} cannot be in [{kind}]: {NOT_IN_STUDIES[name]}")
    for name, values in grid.items():
        _check_values(name, values, settings, model)
    _check_variants(variants, grid, settings)
    return StudyFile(data, model, _seeds(content.get("seeds", 3)), settings, grid, variants)


def _check_values(name, values, settings, model):
    """Raise ValueError unless one entry of the grid is a list of different values that a table can hold."""
    if name in settings or (name == "model" and model is not None):
        raise ValueError(f"{name} stands in [grid] and outside: leave out one of them")
    if not isinstance(values, list) or not values:
        raise ValueError(f"{name} in [grid] must be a list of values, such as [0.001, 0.003], not {values!r}")
    for value in values:
        if not isinstance(value, str | int | float) or "\n" in str(value):
            raise ValueError(f"{name} in [grid] can be numbers, texts of one line, true and false, not {value!r}")
    if len(set(map(repr, values))) < len(values):
        raise ValueError(f"{name} in [grid] has a value twice")


def _check_variants(variants, grid, settings):
    """Raise ValueError unless each variant has a name and changes of its own, beside an empty grid."""
    if variants and grid:
        raise ValueError("a study has a grid or variants: leave out [grid], or the [variants....]")
    if BASE in variants:
        raise ValueError(f"the variant {BASE} is what [settings] describe: give [variants.{BASE}] another name")
    known: dict[str, str] = {}
    for name, changes in variants.items():
        if not changes or changes.items() <= settings.items():
            raise ValueError(f"[variants.{name}] changes nothing: name a setting or an option of the model")
        if "\n" in name:
            raise ValueError(f"the name of a variant must be one line, not {name!r}")
        text = json.dumps(changes, sort_keys=True, default=str)
        if text in known:
            raise ValueError(f"[variants.{name}] and [variants.{known[text]}] are the same")
        known[text] = name


def _seeds(seeds):
    """The list of seeds that a number or a list stands for."""
    if isinstance(seeds, int) and not isinstance(seeds, bool):
        return list(range(check_number("number of seeds", seeds, least=1, most=LARGEST_SEED_COUNT, whole=True)))
    if not isinstance(seeds, list) or not seeds or len(set(map(repr, seeds))) < len(seeds):
        raise ValueError(f"seeds must be a number of seeds, or a list of different seeds, not {seeds!r}")
    return [check_number("seed", seed, least=0, below=2**53, whole=True) for seed in seeds]


def _as_text(value):
    """A value as the table of a study holds it: true and false as texts."""
    return str(value).lower() if isinstance(value, bool) else value


def from_text(value: Any) -> Any:
    """Return the value that an entry of the table stands for."""
    if isinstance(value, float) and value.is_integer():               # the table reads all numbers back as floats
        return int(value)
    return {"true": True, "false": False}.get(value, value) if isinstance(value, str) else value


def arguments(data: Dataset | str, model: str | None, shared: Mapping[str, Any], combination: Mapping[str, Any],
              seed: int) -> tuple:
    """Return (model, data, settings) for `minivit.train` from settings, options of the model, and perhaps its name.

    combination: one of `StudyFile.combinations`, which overrides the shared settings.
    """
    changes = json.loads(combination["changes"]) if "variant" in combination else combination
    named = {name: from_text(value) for name, value in (dict(shared) | dict(changes)).items()}
    model = named.pop("model", model)
    settings = {name: value for name, value in named.items() if name in SETTINGS}
    options = {name: value for name, value in named.items() if name not in SETTINGS}
    source = load_data(data, seed=seed) if isinstance(data, str) else data
    return arguments_from_names(source, model, model_options=options, settings=settings | {"seed": seed})


def validates(model: Model, data: Dataset, settings: Mapping[str, Any]) -> bool:
    """Return whether a training with these arguments has validation images. Errors as `minivit.train`."""
    complete = new_settings(model, data, read_arguments(settings)[0])
    labels = training_data(data, complete).val_labels
    return labels is not None and len(labels) > 0
