"""`minivit train` and `minivit pretrain`. Options of training settings are generated from `training/settings.py`."""

import argparse
import json
import shlex
from contextlib import nullcontext
from typing import Any

from ..common.checks import UnknownName
from ..training.settings import ELSEWHERE, GROUPS, KINDS, SETTINGS
from ..training_pipeline.defaults.presets import PHOTOGRAPHS, PRESETS, SHAPES, Preset
from .parser import Parser, add_data_dir, add_json, add_labels, add_quiet, add_threads, given, print_note, size
from .ranks import ranks_of_command
from .wording import in_options

MODEL_OPTIONS = ELSEWHERE["create_model"]
SIZES = ("patch_size", "width", "depth", "heads")
_METAVARS = {int: "N", float: "X"}
PRETRAIN_EXAMPLES = """examples:
  minivit pretrain photos --out runs/photos-pretrained
  minivit train photos --fine-tune runs/photos-pretrained
  minivit pretrain fashion-mnist --minutes 5 --mask-ratio 0.6"""
EXAMPLES = """examples:
  minivit train digits
  minivit train fashion-mnist --minutes 5 --seed 1 --out runs/short
  minivit train photos --model deit_mini --teacher runs/photos-seed0 --augment crop,flip"""


def add_train(verbs: argparse._SubParsersAction) -> None:
    """Add `minivit train`."""
    verb = verbs.add_parser(
        "train", help="train a model", usage="minivit train DATA [options]",
        description="Train a model on DATA and store the run in a folder.\nOptions that you leave out take the value "
                    "of the preset for DATA (table below), else the default.",
        epilog=f"{preset_table()}\n\n{EXAMPLES}")
    verb.set_defaults(verb=_train)
    _add_options(verb, "train")


def add_pretrain(verbs: argparse._SubParsersAction) -> None:
    """Add `minivit pretrain`."""
    verb = verbs.add_parser(
        "pretrain", help="pre-train a model on images without labels", usage="minivit pretrain DATA [options]",
        description="Pre-train a ViT on the training images of DATA without their labels, and store the run in a "
                    "folder.\nMost patches of each image are hidden, and the model learns to predict them (a masked "
                    "autoencoder).\nThen train it on few labelled images: minivit train DATA --fine-tune RUN, or with "
                    "--probe its head alone.",
        epilog=PRETRAIN_EXAMPLES)
    verb.set_defaults(verb=_pretrain)
    _add_options(verb, "pretrain")


def _add_options(verb: Parser, use: str) -> None:
    """Add all options of a verb. use: "train" or "pretrain"."""
    _add_data_options(verb, use)
    _add_model_options(verb)
    names = {setting.group for setting in SETTINGS.values() if use in setting.uses}
    groups = {name: verb.add_argument_group(name) for name in GROUPS if name in names}
    _add_output_options(groups["output"], use)
    add_threads(groups["computation"], "It does not change the result. ")
    groups["computation"].add_argument("--mpi", action="store_true", default=None,
                                       help="Train on all processes that mpiexec has started, on one or more machines: "
                                            f"mpiexec -n 4 minivit {use} DATA --mpi. It does not change the result.")
    add_setting_options(groups, use)


def _add_data_options(verb: Parser, use: str) -> None:
    """Add DATA and how it is loaded."""
    data = verb.add_argument_group("data")
    unlabelled = "a folder of image files without labels; " if use == "pretrain" else ""
    data.add_argument("data", metavar="DATA",
                      help="digits, mnist, fashion-mnist, cifar10 or cifar100; generated images, shapes:TASK or "
                           "shapes:TASK:IMAGES with the task texture, count, same-different, same-cells, symmetry, "
                           "path or position; a folder with one sub-folder of image files for each class; "
                           f"{unlabelled}a folder of IDX or CIFAR binary files; or an .npz file with images and "
                           "labels.")
    add_data_dir(data)
    data.add_argument("--image-size", type=size, metavar="PIXELS",
                      help="Resize image files to squares of this side, or to HxW, such as 32x64. Default: squares of "
                           "their own size, at most 64. Generated images: a multiple of 4 from 16 to 64. Default: "
                           "16.")
    data.add_argument("--fit", metavar="HOW",
                      help="Give image files this shape: crop, pad or stretch. Default: crop.")
    add_labels(data)


def _add_model_options(verb: Parser) -> None:
    """Add the options of the model."""
    model = verb.add_argument_group("model")
    model.add_argument("--model", metavar="NAME",
                       help="A name that `minivit models` lists, or vit_mini, deit_mini, swin_mini or resnet_mini, "
                            "which adapt to the size of the images. Default: a small ViT.")
    model.add_argument("--patch-size", type=size, metavar="PIXELS", help="Side of a patch, or HxW, such as 4x8.")
    model.add_argument("--width", type=int, metavar="D",
                       help="Length of the vector of a token; of a Swin or ResNet in the first stage.")
    model.add_argument("--depth", type=int, metavar="N", help="Number of blocks of a ViT or DeiT.")
    model.add_argument("--heads", type=_heads, metavar="N",
                       help="Number of attention heads, which must divide the width; for a Swin a number for each "
                            "stage, as in 3,6.")
    model.add_argument("--pool", metavar="HOW",
                       help="Input of the head: token (the class token) or mean (the mean of all tokens).")
    model.add_argument("--positions", metavar="KIND", help="Position embeddings: learned, sincos, none, rotary or "
                                                              "learned+rotary.")
    model.add_argument("--relative-bias", action=argparse.BooleanOptionalAction,
                       help="Learn a relative position bias in every block.")
    model.add_argument("--stem", metavar="KIND",
                       help="First layers: patch (one projection), conv (convolutions), or conv-full (convolutions, "
                            "the first ones at full resolution).")
    model.add_argument("--registers", type=int, metavar="R", help="Number of learned tokens that the head does not "
                                                                  "read. Default: 0.")
    model.add_argument("--layer-scale", type=float, metavar="X",
                       help="Multiply each number of a branch by a learned factor, which starts at X. Default: 0, for "
                            "none.")
    model.add_argument("--drop-rate", type=float, metavar="P", help="Probability of dropout.")
    model.add_argument("--drop-path-rate", type=float, metavar="P",
                       help="Probability of stochastic depth in the last block. Default: 0.1.")


def _add_output_options(output: argparse._ArgumentGroup, use: str) -> None:
    """Add where the run is stored and what is printed."""
    kind = "-pretrained" if use == "pretrain" else ""
    output.add_argument("--out", metavar="RUN",
                        help=f"Folder of the run. Default: runs/DATA{kind}-seedS, or runs/DATA-NAME{kind}-seedS with "
                             "--model NAME; a number is added if the folder exists.")
    output.add_argument("--resume", action="store_true",
                        help="Resume an interrupted run with the same DATA. Without --out, the newest run of DATA that "
                             "fits the other options.")
    add_quiet(output)
    add_json(output)


def add_setting_options(groups: dict[str, argparse._ArgumentGroup], use: str) -> None:
    """Add an option for each setting with this use, "train" or "pretrain", to the group that the setting names.

    The `dest` of an option is the name of the setting, and its default is None.
    """
    for name, setting in SETTINGS.items():
        if use not in setting.uses:
            continue
        how: dict[str, Any] = {"metavar": setting.metavar or _METAVARS.get(KINDS[name], "NAME")}
        if KINDS[name] is bool:
            how = {"action": "store_true", "default": None}
        elif setting.repeated:
            how |= {"action": "append", "type": _layer if name == "layers" else str}
        else:
            how |= {"type": KINDS[name] if KINDS[name] in (int, float) else str}
        option = setting.option or f"--{name.replace('_', '-')}"
        groups[setting.group].add_argument(option, *setting.aliases, dest=name, help=_sentence(setting), **how)


def _sentence(setting: Any) -> str:
    """Return the help of an option of a setting as a sentence, with its default."""
    options = {name: other.option or f"--{name.replace('_', '-')}" for name, other in SETTINGS.items()}
    text = in_options(setting.option_help or setting.help, options)
    text = f"{text[0].upper()}{text[1:]}.".replace("%", "%%")
    if setting.default is None or isinstance(setting.default, bool | list):
        return text
    return f"{text} Default: {setting.default}."


def preset_table() -> str:
    """Return the presets as a table of the settings that at least one of them changes."""
    names = [name for name in SETTINGS if any(name in preset.training for preset in PRESETS.values())]
    rows = [["DATA", *names]]
    others = {"shapes:TASK": SHAPES, "other, colour": PHOTOGRAPHS, "other, grey": Preset()}
    for data, preset in (PRESETS | others).items():
        rows.append([data, *(str(preset.training.get(name, SETTINGS[name].default)) for name in names)])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(f"{cell:{width}}" for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join(["presets (each also has its own size of the default ViT):", *(f"  {line}" for line in lines)])


def _heads(text: str) -> int | list[int]:
    """Convert the number of heads, or for a Swin those of each stage, as in 3,6."""
    try:
        first, *others = map(int, text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number, nor several with commas") from None
    return [first, *others] if others else first


def _layer(text: str) -> list[Any]:
    """Convert PATTERN:FACTOR[:DECAY] to [pattern, factor] or [pattern, factor, decay]."""
    pattern, *numbers = text.split(":")
    if not 1 <= len(numbers) <= 2:
        raise argparse.ArgumentTypeError(f"{text!r} is not PATTERN:FACTOR or PATTERN:FACTOR:DECAY")
    try:
        return [pattern, *map(float, numbers)]
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} needs a number after each colon") from None


def _train(options: argparse.Namespace) -> None:
    with ranks_of_command(options) as ranks:
        _train_on(ranks, options)


def _pretrain(options: argparse.Namespace) -> None:
    from ..training_pipeline.folder import RunFolder
    from ..training_pipeline.pretraining import MASK_RATIO

    if not options.resume:
        options.mask_ratio = MASK_RATIO if options.mask_ratio is None else options.mask_ratio
        if options.mask_ratio == 0:
            raise ValueError("mask ratio must be above 0 and below 1 for pre-training, not 0")
    elif options.out and RunFolder(options.out).is_run() and RunFolder(options.out).classifies:
        raise ValueError(f"{options.out} is no pre-training, but was trained on labels: resume it with `minivit train`")
    with ranks_of_command(options) as ranks:
        _train_on(ranks, options, kind="pretrained")


def _train_on(ranks: Any, options: argparse.Namespace, kind: str | None = None) -> None:
    """Train on the ranks of the command. Rank 0 chooses the folder, and prints. kind: a word for its default name."""
    from ..data import shadowing_folder
    from ..data.load import NAMES
    from ..training_pipeline.arguments_from_names import arguments_from_names
    from ..training_pipeline.defaults.default_folder import folder_of_new_run, folder_to_resume, unfinished_predecessor
    from ..training_pipeline.defaults.default_model import explain_model
    from ..training_pipeline.train import train

    def note(*texts):
        for text in texts if ranks.first else ():
            print_note(text, options)

    note(shadowing_folder(options.data))
    settings, model_options = given(options, *SETTINGS), given(options, *MODEL_OPTIONS)
    names = options.data, "-".join(filter(None, [options.model, kind])) or None, settings
    resumed = (options.out or _of_first(ranks, folder_to_resume, *names, model_options)) if options.resume else None
    unfinished = None if options.out or options.resume else unfinished_predecessor(*names, model_options)
    hint = f"{unfinished} is not finished; to resume it, add --resume" if unfinished else None
    try:
        model, data, settings = arguments_from_names(
            options.data, options.model, resumed=resumed, loading=given(options, *ELSEWHERE["load_data"]),
            model_options=model_options, settings=settings, ranks=ranks)
    except UnknownName as error:
        raise _without_other_options(error) from None
    if data.untested and len(data.test_labels):
        note(f"{data.name} has no test images of {', '.join(data.untested)}: their accuracy will be unknown")
    chosen = not (options.model or given(options, *SIZES) or resumed or settings.get("start") or options.quiet
                  or options.data in NAMES)
    choice = in_options(explain_model(model, data), options.option_names) if chosen else None
    out = resumed or options.out
    with nullcontext(out) if out or not ranks.first else folder_of_new_run(*names) as folder:
        folder = out or _of_first(ranks, lambda: folder)
        result = train(model, data, out=folder, resume=options.resume, threads=options.threads,
                       progress=not options.quiet, command=options.command, mpi=ranks,
                       on_start=lambda: note(hint, choice), **settings)
    if ranks.first:
        _print_result(result, str(folder), options.json)


def _of_first(ranks: Any, function: Any, *arguments: Any) -> str:
    """Return a path that rank 0 chooses, on every rank."""
    return ranks.broadcast(str(function(*arguments)) if ranks.first else None)


def _without_other_options(error: UnknownName) -> ValueError:
    """Return an error that, if it lists the model's options, lists only those that this command has."""
    if error.kind != "model option":
        return error
    fitting = [f"{name}=..." for name in MODEL_OPTIONS if name in error.known]
    return ValueError(f"{error.name}=... is not an option of this model: it has {', '.join(fitting)}")


def _print_result(result: Any, out: str, as_json: bool) -> None:
    """Print the result of a training, as JSON or as text with the next command."""
    from ..training.evaluation_text import describe_evaluation, evaluation_text
    from ..training_pipeline.folder import RunFolder

    run = RunFolder(out)
    if not run.classifies:
        _print_pretraining(result, run, as_json)
        return
    class_names = run.class_names(result.model)
    if as_json:
        validation = {"validation_accuracy": result.validation.accuracy} if result.validation else {}
        print(json.dumps({**describe_evaluation(result.test, class_names), "loss": result.loss, "steps": result.steps,
                          "seconds": result.seconds, "images_per_second": result.images_per_second, "run": out}
                         | validation))
        return
    mistakes = ", and its worst mistakes" if result.test.mistakes else ""
    print(f"{result}\n\n{evaluation_text(result.test, class_names)}\n\nrun: {out}  ({run.report_file} shows how it "
          f"learned{mistakes}; next: {shlex.join(['minivit', 'evaluate', out])})")


def _print_pretraining(result: Any, run: Any, as_json: bool) -> None:
    """Print the result of a pre-training, as JSON or as text with the next command."""
    if as_json:
        test = {"test_loss": result.test.loss, "images": result.test.images} if result.test else {}
        print(json.dumps({"loss": result.loss, **test, "steps": result.steps, "seconds": result.seconds,
                          "images_per_second": result.images_per_second, "run": str(run.path)}))
        return
    print(f"{result}\n\nrun: {run.path}  ({run.reconstruction_file} shows what it predicts; next: "
          f"{shlex.join(['minivit', 'train', 'DATA', '--fine-tune', str(run.path)])})")
