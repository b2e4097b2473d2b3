"""`minivit evaluate`, `predict`, `attend`, `features` and `tour`: what uses a trained model."""

import argparse
import csv
import json
import sys
from collections.abc import Iterable, Iterator
from typing import Any

from .parser import (
    add_class_names,
    add_data_dir,
    add_image_size,
    add_images,
    add_json,
    add_labels,
    add_threads,
    given,
    print_error,
    print_note,
)

# what --json prints about an image
IMAGE_KEYS = "image (its name), number (among the test images, else null), true (its class, else null)"


def add_evaluate(verbs: argparse._SubParsersAction) -> None:
    """Add `minivit evaluate`."""
    verb = verbs.add_parser(
        "evaluate", help="measure the accuracy of a trained model", usage="minivit evaluate RUN [RUN ...] [DATA] "
                                                                          "[options]",
        description="Evaluate the model of RUN on its own test images, or on DATA. Several runs are also evaluated "
                    "as an\nensemble, which predicts the mean of their probabilities.",
        epilog="examples:\n  minivit evaluate runs/digits-seed0\n  minivit evaluate runs/photos-seed0 more-photos "
               "--report mistakes.html\n  minivit evaluate runs/fashion-mnist-seed0 runs/fashion-mnist-seed1")
    verb.set_defaults(verb=_evaluate)
    verb.add_argument("runs", metavar="RUN", nargs="+",
                      help="The folder of a run, or several. The last one may be DATA: other data, as for `train`; "
                           "their test part is used, or all images if they have none.")
    add_data_dir(verb)
    add_image_size(verb)
    add_labels(verb)
    add_threads(verb)
    verb.add_argument("--report", metavar="FILE", help="Write an HTML page with the worst mistakes.")
    verb.add_argument("--json", action="store_true",
                      help="Print JSON: accuracy, balanced_accuracy (the mean recall), images, standard_error, "
                           f"confusion, class_names, classes; mistakes, each with {IMAGE_KEYS}, predicted and "
                           "probability; learned, the number of images that were used in training; and "
                           "mirrored_accuracy, averaged over each image and its mirror image, if training mirrored "
                           "images. Of several runs, these are of the ensemble, and members has run, accuracy and "
                           "mirrored_accuracy of each.")


def _evaluate(options: argparse.Namespace) -> None:
    from ..data import shadowing_folder
    from ..training.evaluation_text import describe_evaluation, evaluation_text
    from ..training_pipeline.folder import RunFolder
    from ..training_pipeline.leakage import leakage_warning
    from ..training_pipeline.results.evaluate_ensemble import split_arguments
    from ..training_pipeline.results.evaluate_run import evaluate_run
    from ..training_pipeline.results.trained_model import unfinished

    runs, options.data = split_arguments(options.runs)
    print_note(shadowing_folder(options.data), options)
    if len(runs) > 1:
        _evaluate_ensemble(list(map(RunFolder, runs)), options)
        return
    run = RunFolder(runs[0])
    class_names, result = evaluate_run(run, options.data, options.threads, options.data_dir, options.report,
                                       options.image_size, options.labels)
    print_note(unfinished(run), options)
    print_note(leakage_warning(run, result), options)
    if options.json:
        print(json.dumps(describe_evaluation(result, class_names)))
        return
    print("\n".join(result.lines) + f"\n\n{evaluation_text(result, class_names)}")
    own_report = run.report_file if options.data is None and result.mistakes and run.report_file.is_file() else None
    if page := options.report or own_report:
        print(f"\n{'the worst mistakes as images' if result.mistakes else 'report'}: {page}")


def _evaluate_ensemble(runs: list[Any], options: argparse.Namespace) -> None:
    """Print the accuracies of several runs, and the evaluation of their ensemble."""
    from ..training.evaluation_text import describe_evaluation, evaluation_text
    from ..training_pipeline.leakage import leakage_warning
    from ..training_pipeline.results.evaluate_ensemble import ensemble_lines, evaluate_ensemble
    from ..training_pipeline.results.trained_model import unfinished

    if options.report:
        raise ValueError("report=... shows one run: name only one")
    result = evaluate_ensemble(runs, options.data, options.threads, options.data_dir, options.image_size,
                               options.labels)
    for run, member in zip(runs, result.members, strict=True):
        print_note(unfinished(run), options)
        print_note(leakage_warning(run, member), options)
    if options.json:
        members = [{"run": str(run.path), "accuracy": member.accuracy}
                   | ({"mirrored_accuracy": member.with_flip.accuracy} if member.with_flip else {})
                   for run, member in zip(runs, result.members, strict=True)]
        print(json.dumps(describe_evaluation(result.together, result.class_names) | {"members": members}))
        return
    print("\n".join(ensemble_lines(runs, result)) + f"\n\n{evaluation_text(result.together, result.class_names)}")


def add_predict(verbs: argparse._SubParsersAction) -> None:
    """Add `minivit predict`."""
    verb = verbs.add_parser(
        "predict", help="classify images",
        description="Print the most probable classes of each image. An image that cannot be read is reported "
                    "on\nstderr, the others are classified, and the exit code is 2.",
        epilog="examples:\n  minivit predict runs/digits-seed0 7\n  minivit predict runs/photos-seed0 cat.jpg "
               "new-photos --csv > classes.csv\n  find . -name '*.jpg' | minivit predict runs/photos-seed0 -\n  "
               "minivit predict w.safetensors cat.jpg --model vit_tiny_patch16_224")
    verb.set_defaults(verb=_predict)
    verb.add_argument("run", metavar="RUN", help="The folder of a run, or weights: see --model.")
    add_images(verb, " A folder stands for all image files in it, and - for standard input: an image file, or names of "
                     "image files, one a line.")
    verb.add_argument("--model", metavar="NAME",
                      help="The named model of a file of weights: timm's or Hugging Face's safetensors, or Google's "
                           ".npz. Not needed for weights with a config.json beside them.")
    add_class_names(verb)
    add_image_size(verb)
    verb.add_argument("--top", type=int, default=3, metavar="K", help="Number of classes to print. Default: 3.")
    add_threads(verb)
    verb.add_argument("--csv", action="store_true",
                      help="Print a CSV table: image, number, true, then class and probability of the K classes.")
    add_json(verb, f"{IMAGE_KEYS}, and classes, the most probable ones,")


def _predict(options: argparse.Namespace) -> int:
    from ..common.checks import check_number
    from ..training_pipeline.results.image_arguments import named_images

    if options.csv and options.json:
        raise ValueError("csv=True and json=True print different things: choose one")
    check_number("number of classes to show", options.top, least=1, whole=True)
    unreadable: dict[Any, Exception] = {}
    choice = {"top": options.top, "unreadable": unreadable} | given(options, "threads", "image_size")
    with named_images(options.images) as (images, names):
        rows = _rows(options, images, choice)
        _print_rows((row | {"image": names.get(row["image"], row["image"])} for row in rows), options)
        for error in unreadable.values():
            text = str(error)
            for file, name in names.items():
                text = text.replace(file, "standard input" if name == "-" else name)
            print_error(ValueError(text), options)
    return 2 if unreadable else 0


def _rows(options: argparse.Namespace, images: list[str], choice: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The predictions for images, with a run or with pretrained weights."""
    from ..models.pretrained import are_described, load_weights

    if options.model or are_described(options.run):
        from ..training_pipeline.results.classify_images import classify_with_weights

        source = load_weights(options.run, options.model, options.class_names)
        if source.class_names is None:
            print_note("the classes are numbers, because a file of weights has no names: pass class_names=..., a file "
                       "with one name a line", options)
        return classify_with_weights(source, images, **choice)
    from ..training_pipeline.folder import RunFolder
    from ..training_pipeline.pretrained.weight_source import check_is_not_a_file
    from ..training_pipeline.results.classify_images import classify_images
    from ..training_pipeline.results.trained_model import unfinished

    check_is_not_a_file(options.run)
    if options.class_names:
        raise ValueError("class_names=... is for a file of weights: a run has its own names")
    run = RunFolder(options.run)
    rows = classify_images(run, images, **choice)
    print_note(unfinished(run), options)
    return rows


def _print_rows(rows: Iterable[dict[str, Any]], options: argparse.Namespace) -> None:
    """Print predictions as JSON, as CSV, or as text."""
    if options.json:
        print(json.dumps(list(rows)))
        return
    if not options.csv:
        for row in rows:
            print(_prediction_text(row))
        return
    table = csv.writer(sys.stdout, lineterminator="\n")
    for k, row in enumerate(rows):
        if not k:
            columns = [f"{what}{n or ''}" for n in (0, *range(2, len(row["classes"]) + 1))
                       for what in ("class", "probability")]
            table.writerow(["image", "number", "true", *columns])
        found = [value for one in row["classes"] for value in (one["class"], f"{one['probability']:.6g}")]
        table.writerow([row["image"], row["number"], row["true"], *found])


def _prediction_text(row: dict[str, Any]) -> str:
    """Return "test image 7: predicted 3 (98.1%), 5 (1.0%); true class 3"."""
    name = row["image"] if row["number"] is None else f"test image {row['number']}"
    classes = ", ".join(f"{c['class']} ({c['probability']:.1%})" for c in row["classes"])
    return f"{name}: predicted {classes}" + (f"; true class {row['true']}" if row["true"] is not None else "")


def add_attend(verbs: argparse._SubParsersAction) -> None:
    """Add `minivit attend`."""
    verb = verbs.add_parser(
        "attend", help="draw the attention maps of a model",
        description="Draw where the class token (or without one, the average token) attends in each image: the map of\n"
                    "every head, and attention rollout through all layers. In a Swin each token attends to its window."
                    "\nWith --class, also draw which patches and pixels raise the logit of that class.",
        epilog="examples:\n  minivit attend runs/digits-seed0 7 --out look.png\n  minivit attend runs/digits-seed0 7 "
               "--class 3 --out three.png\n  minivit attend w.safetensors cat.jpg --model vit_tiny_patch16_224 --out "
               "look.png")
    verb.set_defaults(verb=_attend)
    verb.add_argument("run", metavar="RUN", help="The folder of a run, or weights: see --model.")
    add_images(verb)
    verb.add_argument("--class", dest="of_class", metavar="NAME",
                      help="Explain this class: its relevance (gradient-weighted attention rollout) and gradient x "
                           "input.")
    verb.add_argument("--model", metavar="NAME",
                      help="The named model of a file of weights: timm's or Hugging Face's safetensors, or Google's "
                           ".npz. Not needed for weights with a config.json beside them.")
    add_class_names(verb)
    verb.add_argument("--out", metavar="FILE", required=True,
                      help="The image file to write. The format is its ending (.png, .svg, .pdf), else PNG.")
    add_threads(verb)
    add_json(verb, f"{IMAGE_KEYS}, predicted, probability, rollout, and layers with their maps and mean distances; "
                   "with --class also class, relevance and gradient_times_input,")


def _attend(options: argparse.Namespace) -> None:
    from ..common.figures import figure_format
    from ..explain.tools.attention_report import report_as_json, report_as_text
    from ..explain.tools.plots import draw_attention
    from ..models.pretrained import are_described, load_weights
    from ..training_pipeline.folder import RunFolder
    from ..training_pipeline.pretrained.weight_source import check_is_not_a_file
    from ..training_pipeline.results.classify_images import attend_images, attend_with_weights
    from ..training_pipeline.results.trained_model import unfinished

    figure_format(options.out)                                       # report a wrong ending before the computation
    if options.model or are_described(options.run):
        source = load_weights(options.run, options.model, options.class_names)
        reports = attend_with_weights(source, options.images, options.threads, options.of_class)
        note = None
    else:
        check_is_not_a_file(options.run)
        if options.class_names:
            raise ValueError("class_names=... is for a file of weights: a run has its own names")
        run = RunFolder(options.run)
        reports = attend_images(run, options.images, options.threads, options.of_class)
        note = unfinished(run)
    draw_attention(reports, options.out)
    print_note(note, options)
    if options.json:
        print(json.dumps([report_as_json(report) for report in reports]))
    else:
        print("\n".join(map(report_as_text, reports)) + f"\nfigure: {options.out}")


def add_features(verbs: argparse._SubParsersAction) -> None:
    """Add `minivit features`."""
    verb = verbs.add_parser(
        "features", help="write what the classifier reads of each image",
        description="Write the features of all images of DATA to an .npz file: the vector of each image that the\n"
                    "classifier reads. Features of similar images are similar, so they serve for search, clustering\n"
                    "and other classifiers. The file has the arrays features (B, D), labels, part, files, class_names.",
        epilog="examples:\n  minivit features runs/digits-seed0 --out features.npz\n  minivit features w.safetensors "
               "photos --model vit_tiny_patch16_224 --out features.npz")
    verb.set_defaults(verb=_features)
    verb.add_argument("run", metavar="RUN", help="The folder of a run; or, with --model, a file of weights.")
    verb.add_argument("data", metavar="DATA", nargs="?", help="The data, as for `train`. Default: those of the run.")
    verb.add_argument("--out", metavar="FILE", required=True, help="The .npz file to write.")
    verb.add_argument("--model", metavar="NAME",
                      help="The named model of a file of weights: timm's or Hugging Face's safetensors, or Google's "
                           ".npz. Not needed for weights with a config.json beside them.")
    verb.add_argument("--tokens", action="store_true",
                      help="Write all tokens before the pooling, features (B, N, D).")
    add_data_dir(verb)
    add_image_size(verb)
    add_labels(verb)
    add_threads(verb)
    add_json(verb, "the shape and dtype of each array")


def _features(options: argparse.Namespace) -> None:
    from ..data import shadowing_folder
    from ..models.pretrained import are_described, load_weights
    from ..training_pipeline.folder import RunFolder
    from ..training_pipeline.pretrained.weight_source import check_is_not_a_file
    from ..training_pipeline.results.image_features import (
        check_npz,
        features_of_run,
        features_of_weights,
        write_features,
    )
    from ..training_pipeline.results.trained_model import unfinished

    check_npz(options.out)
    print_note(shadowing_folder(options.data), options)
    choice = given(options, "tokens", "image_size", "threads", "data_dir", "labels")
    if options.model or are_described(options.run):
        if options.data is None:
            raise ValueError("a file of weights has no data of its own: name DATA")
        arrays = features_of_weights(load_weights(options.run, options.model, needs_head=False), options.data, **choice)
    else:
        check_is_not_a_file(options.run)
        run = RunFolder(options.run)
        arrays = features_of_run(run, options.data, **choice)
        print_note(unfinished(run), options)
    write_features(options.out, arrays)
    if options.json:
        print(json.dumps({name: {"shape": list(x.shape), "dtype": x.dtype.name} for name, x in arrays.items()}))
        return
    features = arrays["features"]
    print(f"features {' x '.join(map(str, features.shape))} of {len(features):,} images: {options.out}")


def add_tour(verbs: argparse._SubParsersAction) -> None:
    """Add `minivit tour`."""
    verb = verbs.add_parser(
        "tour", help="follow one image through a model, forward and backward, on one page",
        description="Write an HTML page that follows one image through a ViT, DeiT or Swin: patches, tokens, the\n"
                    "attention of every head, the MLPs, logits and loss, and the gradient back to the pixels.\nThe "
                    "page needs no network.",
        epilog="examples:\n  minivit tour runs/digits-seed0 7 --out tour.html\n  minivit tour w.safetensors cat.jpg "
               "--model vit_base_patch16_224 --out tour.html")
    verb.set_defaults(verb=_tour)
    verb.add_argument("run", metavar="RUN", help="The folder of a run, or weights: see --model.")
    verb.add_argument("image", metavar="IMAGE",
                      help="An image file, which is prepared as the run's own images were; or a number, which counts "
                           "the run's test images from 0.")
    verb.add_argument("--out", metavar="FILE", required=True, help="The HTML file to write.")
    verb.add_argument("--model", metavar="NAME",
                      help="The named model of a file of weights: timm's or Hugging Face's safetensors, or Google's "
                           ".npz. Not needed for weights with a config.json beside them.")
    add_class_names(verb)
    verb.add_argument("--class", dest="of_class", metavar="NAME",
                      help="The class whose loss goes backward. Default: the true class if it is known, else the "
                           "predicted one.")
    verb.add_argument("--threads", type=int, default=1, metavar="T",
                      help="Number of threads of each matrix product. Default: 1.")
    add_json(verb, f"{IMAGE_KEYS}, predicted, probability, class (of the loss), loss, and gradient (its norm)")


def _tour(options: argparse.Namespace) -> None:
    from ..models.pretrained import are_described
    from ..training_pipeline.results.tour_image import tour_of_run, tour_of_weights

    if options.model or are_described(options.run):
        result = tour_of_weights(options.run, options.model, options.image, options.out, options.of_class,
                                 options.threads, options.class_names)
    else:
        from ..training_pipeline.folder import RunFolder
        from ..training_pipeline.pretrained.weight_source import check_is_not_a_file
        from ..training_pipeline.results.trained_model import unfinished

        check_is_not_a_file(options.run)
        run = RunFolder(options.run)
        result = tour_of_run(run, options.image, options.out, options.of_class, options.threads)
        print_note(unfinished(run), options)
    if options.json:
        print(json.dumps(result))
        return
    name = result["image"] if result["number"] is None else f"test image {result['number']}"
    truth = "" if result["true"] is None else f"; true class {result['true']}"
    print(f"{name}: predicted {result['predicted']} ({result['probability']:.1%}){truth}\n"
          f"loss of class {result['class']}: {result['loss']:.3g}, gradient norm in the pixels "
          f"{result['gradient']:.3g}\npage: {options.out}")
