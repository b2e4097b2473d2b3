"""The command line: arguments in, one library call, words or JSON out.

Nothing heavy is imported before the arguments are understood, so that `minivit --help` answers at once.
"""

import argparse
import json
import os
import shlex
import signal
import sys
from pathlib import Path

from . import __version__
from .common.checks import check_name
from .training.settings import GROUPS, KINDS, SETTINGS


class _Parser(argparse.ArgumentParser):
    """Its errors are raised, and each verb tells its own: those of options that it does not know, too."""

    def error(self, message):
        raise ValueError(f"{message} (see {self.prog} --help)")

    def parse_known_args(self, args=None, namespace=None):
        namespace, unknown = super().parse_known_args(args, namespace)
        if unknown:
            self.error(f"unrecognized arguments: {' '.join(unknown)}")
        return namespace, unknown

    def _check_value(self, action, value):
        if action.choices is not None:                                # only the verbs are a choice
            check_name("command", value, action.choices)


def main(arguments=None):
    """Run the command line; returns the exit code: 0, 1 for a wrong gradient or weights of another model, 2 after one line on what was
    wrong (in `predict`, on each picture), or 128 + n when stopped by signal n."""
    if hasattr(sys.stdout, "reconfigure"):                            # an ASCII terminal can show any class name, escaped
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        options = _parser().parse_args(arguments)
        options.command = shlex.join(["minivit", *(sys.argv[1:] if arguments is None else arguments)])
        return options.verb(options) or 0
    except BrokenPipeError:  # the reader, such as `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (ValueError, TypeError, OSError, FloatingPointError, RuntimeError) as error:
        if os.environ.get("MINIVIT_TRACEBACK"):
            raise
        _say_error(error)
        return 2
    except KeyboardInterrupt as stop:                                 # training says how to go on, and which signal it was
        print(f"\nminivit: {str(stop) or 'interrupted'}", file=sys.stderr)
        return 128 + getattr(stop, "signal", signal.SIGINT)
    return 0                                                          # after a broken pipe


def _say_error(error):
    """One line on stderr."""
    text = str(error)
    if isinstance(error, OSError) and error.strerror:
        text = f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    line = " ".join("; ".join([text, *getattr(error, "__notes__", ())]).split())
    print(f"minivit: error: {line}", file=sys.stderr)


def _parser():
    parser = _Parser(prog="minivit", description="A Vision Transformer written by hand in NumPy.",
                     epilog="With MINIVIT_TRACEBACK=1 in the environment, an error shows where it came from.")
    parser.add_argument("--version", action="version", version=f"minivit {__version__}")
    verbs = parser.add_subparsers(title="commands", metavar="COMMAND", required=True, parser_class=_Parser)

    for add in (_add_train, _add_evaluate, _add_predict, _add_attend, _add_weights, _add_gradcheck, _add_models, _add_bench):
        add(verbs)
    return parser


def _add_train(verbs):
    verb = verbs.add_parser("train", help="train a model", description="Train a model on DATA and keep the run in a folder. "
                            "What is not given is as the preset for DATA has it.")
    verb.set_defaults(verb=_train)
    verb.add_argument("data", metavar="DATA", help="digits, mnist, fashion-mnist, cifar10 or cifar100; or a folder with a sub-folder of "
                      "pictures for each class, a folder of IDX or CIFAR binary files, or an .npz file with images and labels")
    _add_data_dir(verb)
    verb.add_argument("--image-size", type=int, help="side to which the pictures of a folder are resized (default: theirs, at most 64)")
    verb.add_argument("--fit", help="how they are made square: crop, pad or stretch (default crop)")
    verb.add_argument("--model", help="a name of `minivit models`, or deit_mini or swin_mini (default: a small ViT); these for the "
                      "size of the images")
    verb.add_argument("--out", metavar="RUN", help="folder of the run (default: runs/DATA-seedS; with --model NAME, runs/DATA-NAME-seedS)")
    verb.add_argument("--resume", action="store_true", help="go on with an interrupted run: the same DATA again, and --out, "
                      "or --model and --seed")
    _add_threads(verb)
    add_setting_options(verb)
    verb.add_argument("--drop-rate", type=float, help="of dropout")
    verb.add_argument("--drop-path-rate", type=float, help="of stochastic depth")
    verb.add_argument("--pool", help="token or mean")
    verb.add_argument("--positions", help="learned, sincos or none")
    verb.add_argument("--relative-bias", action=argparse.BooleanOptionalAction, help="whether blocks learn a relative position bias")
    verb.add_argument("--stem", help="patch or conv")
    verb.add_argument("--json", action="store_true", help="print the result as JSON")


def _add_evaluate(verbs):
    verb = verbs.add_parser("evaluate", help="score a trained model",
                            description="Score the model of RUN on its own held-out images, or on DATA.")
    verb.set_defaults(verb=_evaluate)
    verb.add_argument("run", metavar="RUN", help="folder of a run")
    verb.add_argument("data", metavar="DATA", nargs="?", help="other data: its test part, or all of it if it has none")
    _add_data_dir(verb)
    _add_threads(verb)
    verb.add_argument("--report", metavar="FILE", help="write a page of HTML with pictures of the worst mistakes")
    verb.add_argument("--json", action="store_true", help="accuracy, images, standard_error, confusion, class_names, classes, mistakes; "
                      "learned, how many of the images the run learned from or was chosen by; mirrored_accuracy, of each picture and its "
                      "mirror image, if training mirrored them")


def _add_predict(verbs):
    verb = verbs.add_parser("predict", help="classify pictures", description="The most probable classes of each picture. "
                            "Pictures that cannot be read are named on stderr, and make the exit code 2.")
    verb.set_defaults(verb=_predict)
    verb.add_argument("run", metavar="RUN", help="folder of a run; or, with --model, a file of weights that others have trained")
    verb.add_argument("--model", help="the name of `minivit models` that the weights belong to, in timm's safetensors or Google's .npz")
    _add_images(verb)
    verb.add_argument("--top", type=int, default=3, help="how many classes to show (default 3)")
    verb.add_argument("--json", action="store_true", help="print the result as JSON")


def _add_attend(verbs):
    verb = verbs.add_parser("attend", help="show where a model looks", description="Where the class token (or without one, the mean "
                            "token) looks in each picture, head by head, and through all layers (attention rollout). In a Swin, each token "
                            "looks within its window.")
    verb.set_defaults(verb=_attend)
    verb.add_argument("run", metavar="RUN", help="folder of a run")
    _add_images(verb)
    verb.add_argument("--out", metavar="FILE", required=True, help="the picture to write: as its name ends (.png, .svg, .pdf), or else PNG")
    verb.add_argument("--json", action="store_true", help="print maps, rollout and distances as JSON")


def _add_images(verb):
    verb.add_argument("images", metavar="IMAGE", nargs="+", help="a picture file, which is prepared as the run's own were; or a number: "
                      "one of the run's own test images, counted from 0")


def _add_weights(verbs):
    verb = verbs.add_parser("weights", help="say what of a file of weights fits a model", description="What of FILE goes where in a named "
                            "model, name by name, with the shapes in both. The exit code is 1 if the weights are of another model.")
    verb.set_defaults(verb=_weights)
    verb.add_argument("file", metavar="FILE", help="timm's safetensors, or Google's .npz of a ViT")
    verb.add_argument("--model", required=True, help="a name of `minivit models`")
    verb.add_argument("--image-size", type=int, help="side of the pictures the model is to see; positions are resized for it")
    verb.add_argument("--classes", type=int, help="of a new head, in the place of the file's")
    verb.add_argument("--json", action="store_true", help="ok, rows, parameters, numbers, formats")


def _add_gradcheck(verbs):
    verb = verbs.add_parser("gradcheck", help="check every gradient against the slope of its forward",
                            description="Check the gradients of every op (plain and fast), layer and model family, tensor by tensor, "
                            "in float64 at small odd sizes. The exit code is 1 if one is wrong.")
    verb.set_defaults(verb=_gradcheck)
    verb.add_argument("names", metavar="NAME", nargs="*",
                      help="an op (layer_norm), a layer (LayerNorm) or a model family (vit) (default: all)")
    verb.add_argument("--method", default="richardson", help="richardson (default), central, directional or taylor")
    verb.add_argument("--seed", type=int, default=0, help="of inputs, weights, upstream gradient and samples (default 0)")
    verb.add_argument("--json", action="store_true", help="ok, worst, seconds, checks: each with its rows")


def _add_models(verbs):
    verb = verbs.add_parser("models", help="list the named models", description="Tokens, parameters and FLOPs of every named model.")
    verb.set_defaults(verb=_models)
    verb.add_argument("--json", action="store_true", help="print the list as JSON")


def _add_bench(verbs):
    verb = verbs.add_parser("bench", help="measure the speed", description="Our training step and inference against this machine's limit "
                            "and against PyTorch and JAX, where they are installed.")
    verb.set_defaults(verb=_bench)
    verb.add_argument("--family", help="vit (default), deit, swin or resnet: all its shapes")
    verb.add_argument("--shape", action="append", help="one shape, such as fashion, base-1, swin-mini or resnet-28; may be repeated")
    verb.add_argument("--contestant", action="append", help="torch, torch.compile, torch.channels_last (of a resnet) or jax (of a vit); "
                      "may be repeated (default: all installed)")
    verb.add_argument("--threads", type=int, help="default: all cores")
    verb.add_argument("--seconds", type=float, default=1.0, help="of each burst (default 1)")
    verb.add_argument("--rounds", type=int, default=7, help="bursts of each contestant (default 7)")
    instead = verb.add_mutually_exclusive_group()
    instead.add_argument("--profile", action="store_true", help="instead: where a training step's time goes (or inference's), op by op")
    instead.add_argument("--growth", action="store_true", help="instead: the cost of an image against batch, tokens, depth, width, threads")
    instead.add_argument("--plot", metavar="FILE", help="instead: draw the share of the machine's limit over the width of the model, "
                         "as the name of the file ends (.png, .svg, .pdf), or else as PNG")
    verb.add_argument("--json", action="store_true", help="print the result as JSON")


def add_setting_options(verb):
    """Add an option for each of the training settings, in groups. `dest` is the name of the setting, the default None."""
    groups = {name: verb.add_argument_group(name) for name in GROUPS if any(s.group == name for s in SETTINGS.values())}
    length = groups["optimisation"].add_mutually_exclusive_group()
    for name, setting in SETTINGS.items():
        if KINDS[name] is bool:
            how: dict = {"action": "store_true", "default": None}
        elif name == "layers":
            how = {"action": "append", "type": _layer, "metavar": setting.metavar}
        else:
            how = {"type": KINDS[name] if KINDS[name] in (int, float) else str, "metavar": setting.metavar}
        group = length if name in ("epochs", "minutes") else groups[setting.group]
        group.add_argument(setting.option or f"--{name.replace('_', '-')}", *setting.aliases, dest=name, help=setting.help, **how)


def given_settings(options):
    """Return the training settings that were given on the command line, as keyword arguments of `minivit.train`."""
    return _given(options, *SETTINGS)


def _layer(text):
    """PATTERN:FACTOR[:DECAY] -> [pattern, factor] or [pattern, factor, decay]."""
    pattern, *numbers = text.split(":")
    if not 1 <= len(numbers) <= 2:
        raise argparse.ArgumentTypeError(f"{text!r} is not PATTERN:FACTOR or PATTERN:FACTOR:DECAY")
    try:
        return [pattern, *map(float, numbers)]
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} needs a number after each colon") from None


def _add_data_dir(verb):
    verb.add_argument("--data-dir", metavar="DIR", help="where mnist and the others are kept or downloaded to (default: the environment's "
                      "MINIVIT_DATA, or the user's cache)")


def _add_threads(verb):
    verb.add_argument("--threads", type=int, help="lanes at once (default: all cores); changes no result")


def _given(options, *names):
    """The options that were given, as keyword arguments; the others keep the library's defaults."""
    return {name: getattr(options, name) for name in names if getattr(options, name) is not None}


def _train(options):
    from .data import shadowing_folder
    from .runs.folder import RunFolder
    from .runs.prepare_training import prepare_training
    from .runs.training_run import train
    from .training.evaluation_text import describe_evaluation, evaluation_text

    _note(shadowing_folder(options.data))
    named = [Path(options.data).resolve().stem, *filter(None, [options.model]), f"seed{options.seed or 0}"]
    out = options.out or f"runs/{'-'.join(named)}"
    model, data, settings = prepare_training(
        options.data, out, options.model, resume=options.resume, loading=_given(options, "data_dir", "image_size", "fit"),
        model_options=_given(options, "pool", "positions", "relative_bias", "stem", "drop_rate", "drop_path_rate"),
        settings=given_settings(options))
    if data.untested and len(data.test_labels):
        _note(f"{data.name} has no test images of {', '.join(data.untested)}: their accuracy will be unknown")
    result = train(model, data, out=out, resume=options.resume, threads=options.threads, command=options.command, **settings)
    run = RunFolder(out)
    if options.json:
        validation = {"validation_accuracy": result.validation.accuracy} if result.validation else {}
        print(json.dumps({**describe_evaluation(result.test, run.class_names(model)), "loss": result.loss, "steps": result.steps,
                          "seconds": result.seconds, "images_per_second": result.images_per_second, "run": out}
                         | validation))
    else:
        mistakes, again = ", and its worst mistakes" if result.test.mistakes else "", shlex.join(["minivit", "evaluate", out])
        print(f"{result}\n\n{evaluation_text(result.test, run.class_names(model))}\n\n"
              f"run: {out}  ({run.report_file} shows how it learned{mistakes}; next: {again})")


def _evaluate(options):
    from .data import shadowing_folder
    from .runs.evaluate_run import evaluate_run
    from .runs.folder import RunFolder
    from .runs.leakage import leakage_warning
    from .runs.trained_model import unfinished
    from .training.evaluation_text import describe_evaluation, evaluation_text

    run = RunFolder(options.run)
    _note(shadowing_folder(options.data))
    class_names, result = evaluate_run(run, options.data, options.threads, options.data_dir, options.report)
    _note(unfinished(run))
    _note(leakage_warning(run, result))
    if options.json:
        print(json.dumps(describe_evaluation(result, class_names)))
    else:
        print("\n".join(result.lines) + f"\n\n{evaluation_text(result, class_names)}")
        page = options.report or (options.data is None and result.mistakes and run.report_file.is_file() and run.report_file)
        if page:
            print(f"\n{'the worst mistakes as pictures' if result.mistakes else 'report'}: {page}")


def _note(words):
    """One line on stderr, if there is something to say."""
    if words:
        print(f"minivit: note: {words}", file=sys.stderr)


def _predict(options):
    unreadable: dict = {}                                             # one bad file of many, as of news/*, keeps nobody from the others
    if options.model:
        from .data import read_image_files
        from .models.pretrained import load_weights
        from .runs.classify_images import classify

        model, share = load_weights(options.run, options.model)
        images = read_image_files(options.images, model.image_size, model.channels, "crop", share, unreadable)
        rows = classify(model, options.images, images, top=options.top, unreadable=unreadable)
    else:
        from .runs.classify_images import classify_images
        from .runs.folder import RunFolder
        from .runs.trained_model import unfinished
        from .runs.weight_source import check_is_not_a_file

        check_is_not_a_file(options.run)
        run = RunFolder(options.run)
        rows = classify_images(run, options.images, options.top, unreadable)
        _note(unfinished(run))
    if options.json:
        print(json.dumps(rows))
    else:
        for row in rows:
            print(f"{row['image']}: " + ", ".join(f"{c['class']} {c['probability']:.1%}" for c in row["classes"]))
    for error in unreadable.values():
        _say_error(error)
    return 2 if unreadable else 0


def _attend(options):
    from .common.figures import picture_format
    from .explain.tools.attention_report import describe_look, look_text
    from .explain.tools.plots import draw_looks
    from .runs.classify_images import attend_images
    from .runs.folder import RunFolder
    from .runs.trained_model import unfinished

    picture_format(options.out)                                       # a wrong ending is told before the work
    run = RunFolder(options.run)
    looks = attend_images(run, options.images)
    draw_looks(looks, options.out)
    _note(unfinished(run))
    if options.json:
        print(json.dumps([describe_look(look) for look in looks]))
    else:
        print("\n".join(map(look_text, looks)) + f"\npicture: {options.out}")


def _weights(options):
    from .models.pretrained import describe_match, inspect_weights, match_text

    result = inspect_weights(options.file, options.model, options.image_size, options.classes)
    print(json.dumps(describe_match(*result)) if options.json else match_text(*result))
    return 0 if result[0].ok else 1


def _gradcheck(options):
    from .selftest.runner import as_json, table, verify

    result = verify(options.names, options.method, options.seed)
    print(json.dumps(as_json(result)) if options.json else table(result))
    return 0 if result.ok else 1


def _models(options):
    from .models import describe_models

    rows = describe_models()
    if options.json:
        print(json.dumps(rows))
    else:
        print(f"{'name':32} {'tokens':>6} {'parameters':>12} {'GFLOPs an image':>16}")
        for row in rows:
            print(f"{row['name']:32} {row['tokens'] or '-':>6} {row['parameters']:12,} {row['flops'] / 1e9:16.3f}")


def _bench(options):
    from .bench import SHAPES, bench, draw, growth, growth_table, profile, profile_table, select, sizes, table

    def progress(line):
        print(line, file=sys.stderr)

    if options.shape and options.family:
        raise ValueError("--family stands for all its shapes: leave out --shape, or the family")
    if (options.growth or options.plot) and (options.shape or options.family):
        raise ValueError("--growth and --plot have shapes of their own: leave out --shape and --family")
    if options.profile:
        named = select(options.shape, options.family)
        trained = [shape for shape in named if SHAPES[shape].trained]
        result = [profile(shape) for shape in (named if options.shape else trained or named)]
        text = "\n\n".join(map(profile_table, result))
    elif options.growth:
        result = growth(options.seconds, options.rounds, options.threads, progress)
        text = growth_table(result)
    elif options.plot:
        from .common.figures import picture_format

        picture_format(options.plot)
        result = sizes(options.contestant, options.threads, options.seconds, options.rounds, progress)
        draw(result, options.plot)
        text = options.plot
    else:
        result = bench(options.shape, options.contestant, options.threads, options.seconds, options.rounds, progress, options.family)
        text = table(result)
    print(json.dumps(result) if options.json else text)
