"""Draw the figures of the page "From pixels to prediction": what each part of a trained ViT does with a digit.

    python demos/17_from_pixels.py            some minutes; the last figure trains ten small models
    python demos/17_from_pixels.py --quick    half a minute: too little training for conclusions

Trains a ViT on the digits, prints one line for each figure, and draws ten figures, from_pixels_*.png, one for each
section of docs/from-pixels-to-prediction.md.
"""

import argparse
from pathlib import Path

import numpy as np

import minivit
from minivit.common.figures import new_figure, save
from minivit.explain import (
    FirstBlocks,
    attention_probabilities,
    position_similarity,
    readout_maps,
    trace,
)
from minivit.explain.tools.plots import HEAT, SERIES
from minivit.explain.tools.trend import mean_and_error, paired
from minivit.ops import gelu, patches, softmax
from minivit.training.loop import batches
from minivit.training.schedule import warmup_cosine
from minivit.training_pipeline.defaults.default_model import model_for

DIGIT, UNSURE = 5, 0.75                     # the test image that is shown; less probable predictions are unsure
SMALL, TITLE = 8, 10                        # sizes of fonts
RED, BLUE, YELLOW, GREEN = SERIES


def plain_axes(*axes):
    """Remove ticks and frames of pictures."""
    for one in axes:
        one.set(xticks=[], yticks=[])
        one.spines[:].set_visible(False)


def open_axes(*axes):
    """Remove the upper and right frame of curves."""
    for one in axes:
        one.spines[["top", "right"]].set_visible(False)
        one.tick_params(labelsize=SMALL)


# ---- one function for each figure: it draws into an empty figure and returns the finding -----------------------------


def draw_pixels(figure, model, data):
    """The image as a picture and as numbers."""
    picture, numbers = figure.subplots(1, 2)
    image = data.test_images[DIGIT, ..., 0]
    picture.imshow(image, cmap="gray")
    picture.set_title("what we see", fontsize=TITLE)
    numbers.imshow(np.full((8, 8), 255), cmap="gray", vmin=0, vmax=255)
    for (y, x), value in np.ndenumerate(image):
        numbers.text(x, y, value, ha="center", va="center", fontsize=9, color="k" if value else "0.7")
    numbers.set_title("what the model gets: an array (8, 8)", fontsize=TITLE)
    plain_axes(picture, numbers)
    return f"An image is an array of {image.size} numbers from 0 to 255."


def draw_patches(figure, model, data):
    """The image, cut, and its patches as rows."""
    image, side = data.test_images[DIGIT], model.patch_embed.patch_size
    rows, _ = patches.reference_forward(image[None], side)
    picture, cut, table = figure.subplots(1, 3, width_ratios=[1, 1, 0.8])
    picture.imshow(image[..., 0], cmap="gray")
    picture.set_title("an image", fontsize=TITLE)
    sheet = np.full((11, 11), np.nan)
    for n, row in enumerate(rows[0]):
        y, x = divmod(n, 4)
        sheet[3 * y:3 * y + 2, 3 * x:3 * x + 2] = row.reshape(2, 2)
    cut.set_facecolor("#dfe7ef")
    cut.imshow(sheet, cmap="gray", vmin=0, vmax=255)
    for n in range(16):
        cut.text(3 * (n % 4) - 0.45, 3 * (n // 4) - 0.2, n + 1, fontsize=7, color=RED, va="center")
    cut.set_title("cut into 16 patches", fontsize=TITLE)
    table.imshow(rows[0], cmap="gray", aspect="auto")
    table.set_yticks(range(16), range(1, 17), fontsize=7)
    table.set_title("a row of 4 numbers each", fontsize=TITLE)
    plain_axes(picture, cut)
    table.set_xticks([])
    return f"{len(rows[0])} patches of 2x2 pixels become {len(rows[0])} rows of {rows.shape[2]} numbers."


def draw_tokens(figure, model, data):
    """The tokens, and which learned positions are alike."""
    left, right = figure.subfigures(1, 2, width_ratios=[1.25, 1])
    tokens, picture = FirstBlocks(model, 0).forward(data.test_images[DIGIT:DIGIT + 1])[0], left.subplots()
    largest = np.abs(tokens).max()
    picture.imshow(tokens, cmap="RdBu_r", vmin=-largest, vmax=largest, aspect="auto")
    picture.set_yticks([0, 1, 16], ["class token", "patch 1", "patch 16"], fontsize=SMALL)
    picture.set_xticks([])
    picture.set_title(f"the tokens, an array {tokens.shape}", fontsize=TITLE)
    similarity = position_similarity(model.pos_embed.data)
    for axes, (y, x) in zip(right.subplots(2, 2).flat, [(0, 0), (0, 3), (2, 1), (3, 2)], strict=True):
        axes.imshow(similarity[y, x], cmap="RdBu_r", vmin=-1, vmax=1)
        axes.text(x, y, "o", ha="center", va="center", color="w")
        plain_axes(axes)
    right.suptitle("how much the position of each patch is like\nthat of patch o (red: alike, blue: opposite)",
                   fontsize=SMALL + 1)
    y, x = (place.ravel() for place in np.indices((4, 4)))
    steps, alike = np.hypot(y[:, None] - y, x[:, None] - x), similarity.reshape(16, 16)
    near, far = alike[steps == 1].mean(), alike[steps > 1].mean()
    return f"Similarity of the learned positions: {near:.2f} between neighbours, {far:.2f} between other patches."


def draw_attention(figure, model, data):
    """The attention of one head of each block among all tokens, and where the class token looks."""
    image = data.test_images[DIGIT:DIGIT + 1]
    probs = [p[0] for p in attention_probabilities(model, image).values()]              # (h, N, N) of each block
    left, right = figure.subfigures(1, 2, width_ratios=[1, 1.9])
    axes = left.subplots()
    axes.imshow(probs[-1][0], cmap=HEAT, vmin=0)
    axes.set_title("block 4, head 1: a row for each token,\nwhich sums to 1", fontsize=SMALL + 1)
    axes.set_yticks([0, 1, 16], ["class", "patch 1", "patch 16"], fontsize=SMALL)
    axes.set_xticks([])
    grid = right.subplots(2, len(probs[0]))
    for row, block in zip(grid, (0, len(probs) - 1), strict=True):
        maps = readout_maps(probs[block][None])[0]
        for h, (one, heat) in enumerate(zip(row, maps, strict=True)):
            one.imshow(np.kron(heat, np.ones((2, 2))), cmap=HEAT, vmin=0)
            one.contour(image[0, ..., 0], levels=[100], colors="w", linewidths=0.8)
            one.set_title(f"block {block + 1}, head {h + 1}", fontsize=SMALL)
            plain_axes(one)
    right.suptitle("where the class token looks (bright; white: the digit)", fontsize=TITLE)
    rows = np.stack([p[:, 0] / np.linalg.norm(p[:, 0], axis=1, keepdims=True) for p in probs])
    alike = np.mean([[a @ b for i, a in enumerate(block) for b in block[i + 1:]] for block in rows])
    return f"Mean cosine similarity of two heads' attention of the class token in the same block: {alike:.2f}."


def draw_stream(figure, model, data):
    """The size of the residual stream and of the branches."""
    found = {row.layer: row.rms for row in trace(model, data.test_images[:256], data.test_labels[:256], 2).layers}
    start = np.sqrt(np.mean(FirstBlocks(model, 0).forward(data.test_images[:256])**2))
    depth = len(model.blocks)
    axes = figure.subplots()
    axes.plot(range(depth + 1), [start, *(found[f"blocks.{i}"] for i in range(depth))], "o-", color=RED,
              label="residual stream")
    axes.plot(np.arange(depth) + 0.25, [found[f"blocks.{i}.attn"] for i in range(depth)], "s", color=BLUE,
              label="what attention adds")
    axes.plot(np.arange(depth) + 0.6, [found[f"blocks.{i}.mlp"] for i in range(depth)], "^", color=YELLOW,
              label="what the MLP adds")
    axes.set(xlabel="blocks passed", ylabel="root mean square", ylim=(0, None), xticks=range(depth + 1))
    axes.set_title("The stream grows, because every branch adds to it", fontsize=TITLE)
    axes.legend(frameon=False, fontsize=SMALL)
    open_axes(axes)
    return (f"Root mean square of the tokens: {start:.2f} before the first block, "
            f"{found[f'blocks.{depth - 1}']:.2f} after the last.")


def draw_mlp(figure, model, data):
    """GELU and ReLU, and the numbers that GELU gets."""
    curves, counts = figure.subplots(1, 2)
    x = np.linspace(-4, 4, 201)
    curves.plot(x, np.maximum(x, 0), color=BLUE, lw=1.5, ls="--", label="ReLU")
    curves.plot(x, gelu.reference_forward(x)[0], color=RED, lw=2, label="GELU")
    curves.set(xlabel="x", ylabel="result")
    curves.legend(frameon=False, fontsize=SMALL)
    curves.set_title("GELU is a smooth ReLU", fontsize=TITLE)
    seen, view = [], model.replica()
    mlp = view.blocks[0].mlp.act
    forward = mlp.forward
    mlp.forward = lambda hidden: seen.append(hidden) or forward(hidden)
    view.forward(data.test_images[:256])
    share = float((seen[0] < 0).mean())
    counts.hist(seen[0].ravel(), np.linspace(-6, 4, 81), color=RED, weights=np.full(seen[0].size, 100 / seen[0].size))
    counts.axvline(0, color="k", lw=0.7, ls=":")
    counts.set(xlabel="x: a hidden number, before GELU", ylabel="% of all")
    counts.set_title(f"{share:.0%} are below 0, where GELU is almost off", fontsize=TITLE)
    open_axes(curves, counts)
    return f"{share:.0%} of the hidden numbers of block 1 are negative."


def draw_prediction(figure, model, data):
    """Logits and probabilities of a sure and of an unsure prediction."""
    logits = model.predict(data.test_images)
    probabilities, _ = softmax.forward(logits)
    unsure = int(np.flatnonzero(probabilities.max(axis=1) < UNSURE)[0])
    for row, i in zip(figure.subplots(2, 3, width_ratios=[0.6, 1, 1]), (DIGIT, unsure), strict=True):
        picture, scores, bars = row
        picture.imshow(data.test_images[i, ..., 0], cmap="gray")
        picture.set_title(f"a {data.test_labels[i]}", fontsize=TITLE)
        plain_axes(picture)
        best = probabilities[i].argmax()
        colours = [RED if k == best else "#8d96a3" for k in range(10)]
        scores.bar(range(10), logits[i], color=colours)
        scores.axhline(0, color="k", lw=0.7)
        scores.set(xticks=range(10), ylabel="logit")
        bars.bar(range(10), 100 * probabilities[i], color=colours)
        loss = -np.log(probabilities[i, data.test_labels[i]])
        bars.set(xticks=range(10), ylabel="%", ylim=(0, 100))
        bars.set_title(f"{probabilities[i, best]:.0%} for {best}; loss {loss:.2f}", fontsize=TITLE)
        open_axes(scores, bars)
    count = int((probabilities.max(axis=1) < UNSURE).sum())
    return f"Of {len(logits)} test digits, {count} have a highest probability below {UNSURE:.0%}."


def draw_backward(figure, model, data):
    """The gradient by layer, and the gradient of the pixels."""
    left, right = figure.subplots(1, 2, width_ratios=[1.5, 1])
    images, labels = data.test_images[:256], data.test_labels[:256]
    fresh = model_for(data)
    fresh.head.weight.data[...] = 0.02 * np.random.default_rng(0).standard_normal(fresh.head.weight.shape)
    ratios = {}
    for name, one, colour in (("before training", fresh, BLUE), ("after training", model, RED)):
        rows = {row.layer: row.dx for row in trace(one, images, labels).layers}
        norms = [rows[f"blocks.{i}"] for i in range(len(model.blocks))]
        left.plot(range(1, len(norms) + 1), norms, "o-", color=colour, label=name)
        ratios[name] = norms[0] / norms[-1]
    left.set(xlabel="block", ylabel="norm of the gradient of its input", yscale="log", xticks=range(1, len(norms) + 1))
    left.set_title("The gradient reaches the first block", fontsize=TITLE)
    left.legend(frameon=False, fontsize=SMALL)
    open_axes(left)
    probabilities, _ = softmax.forward(model.predict(images))
    unsure = int(probabilities.max(axis=1).argmin())
    target = np.eye(10, dtype=np.float32)[labels[unsure:unsure + 1]]
    twin = model.copy()
    twin.forward(images[unsure:unsure + 1])
    gradient = twin.backward(probabilities[unsure:unsure + 1] - target)[0, ..., 0]
    largest = np.abs(gradient).max()
    right.imshow(gradient, cmap="RdBu_r", vmin=-largest, vmax=largest)
    right.contour(images[unsure, ..., 0], levels=[100], colors="k", linewidths=0.8)
    right.set_title(f"an unsure {labels[unsure]}: where brighter pixels\nwould raise (red) or lower (blue) the loss",
                    fontsize=SMALL + 1)
    plain_axes(right)
    return ("Norm of the gradient at the first block, relative to the last: "
            + ", ".join(f"{ratio:.1f} {name}" for name, ratio in ratios.items()) + ".")


def draw_training(figure, model, data, quick):
    """The learning rate, the loss and the accuracy over the steps of a training with AdamW."""
    fresh, epochs, size, peak = model_for(data), 2 if quick else 20, 32, 2e-3
    trainer, rates, losses, accuracies = minivit.Trainer(fresh, label_smoothing=0), [], [], []
    count = len(data.train_images) // size
    for epoch in range(epochs):
        for batch in batches(len(data.train_images), size, 0, epoch):
            rates.append(peak * warmup_cosine(len(rates), epochs * count, epochs * count // 10))
            losses.append(trainer.step(data.train_images[batch], data.train_labels[batch], rates[-1]))
        accuracies.append((fresh.predict(data.test_images).argmax(axis=1) == data.test_labels).mean())
    rate, loss, accuracy = figure.subplots(1, 3)
    rate.plot(rates, color=YELLOW, lw=2)
    rate.set_title("learning rate: warm-up, cosine", fontsize=TITLE)
    rate.set(xlabel="step")
    loss.plot(losses, color=RED, lw=0.8)
    loss.set(xlabel="step", ylim=(0, None))
    loss.set_title("loss of each batch", fontsize=TITLE)
    accuracy.plot(range(1, epochs + 1), 100 * np.array(accuracies), "o-", ms=3, color=BLUE)
    accuracy.set(xlabel="epoch", ylim=(0, 101))
    accuracy.set_title(f"% of the test digits right: {accuracies[-1]:.1%}", fontsize=TITLE)
    open_axes(rate, loss, accuracy)
    return (f"The loss falls from {losses[0]:.2f} to {np.mean(losses[-count:]):.3f} in {len(losses)} steps; "
            f"{accuracies[-1]:.1%} of the test digits are then right.")


def shifted(images, columns):
    """Return images (B, H, W, C) moved to the right by a number of columns, or to the left; black comes in."""
    wide = np.pad(images, [(0, 0), (0, 0), (2, 2), (0, 0)])
    return wide[:, :, 2 - columns:][:, :, :images.shape[2]]


def draw_bias(figure, model, data, quick):
    """A ViT and a CNN, trained on digits in the middle, on test digits that are shifted."""
    names, moves = {"vit_mini": "ViT", "resnet_mini": "CNN (ResNet)"}, (-2, -1, 0, 1, 2)
    seeds, epochs = range(2 if quick else 5), 1 if quick else 10
    right = {(name, move): {} for name in names for move in moves}    # {seed: share}
    for seed in seeds:
        for name in names:
            options = {"width": 16} if name == "resnet_mini" else {}
            one = model_for(data, name, seed, drop_path_rate=0.0, **options)
            minivit.train(one, data, seed=seed, lr=3e-3, epochs=epochs, batch_size=32, augment="none",
                          optimiser="adamw", ema=0.0, progress=False)
            for move in moves:
                predicted = one.predict(shifted(data.test_images, move)).argmax(axis=1)
                right[name, move][seed] = float((predicted == data.test_labels).mean())
    *pictures, curves = figure.subplots(1, 4, width_ratios=[0.7, 0.7, 0.7, 2])
    for axes, move in zip(pictures, (-1, 0, 1), strict=True):
        axes.imshow(shifted(data.test_images[DIGIT:DIGIT + 1], move)[0, ..., 0], cmap="gray")
        axes.set_title("as trained" if move == 0 else f"shifted by {move:+d}", fontsize=TITLE)
    plain_axes(*pictures)
    for (name, label), colour in zip(names.items(), (BLUE, RED), strict=True):
        found = [mean_and_error(right[name, move].values()) for move in moves]
        curves.errorbar(moves, [100 * mean for mean, _ in found], [100 * error for _, error in found], fmt="o-",
                        color=colour, capsize=3, label=label)
    curves.set(xticks=moves, ylim=(0, 102))
    curves.set_xlabel("columns by which the test digits are shifted", fontsize=9)
    curves.set_ylabel("% right", fontsize=9)
    curves.legend(frameon=False, fontsize=SMALL)
    open_axes(curves)
    leads = {move: paired(right["resnet_mini", move], right["vit_mini", move]) for move in moves}
    none = mean_and_error(leads[0].values())
    by_one = mean_and_error([(leads[1][seed] + leads[-1][seed]) / 2 for seed in seeds])
    curves.set_title(f"shifted by one, the CNN leads by {100 * by_one[0]:.0f} +- {100 * by_one[1]:.0f} points",
                     fontsize=TITLE)
    shares = ", ".join(f"{label} {100 * mean_and_error(right[name, move].values())[0]:.1f}% at {move}"
                       for name, label in names.items() for move in moves)
    return (f"Right, by the shift: {shares}. Lead of the CNN in points: {100 * none[0]:.1f} +- {100 * none[1]:.1f} "
            f"unshifted, {100 * by_one[0]:.1f} +- {100 * by_one[1]:.1f} shifted by one column.")


FIGURES = {"pixels": (draw_pixels, 2.9), "patches": (draw_patches, 2.9), "tokens": (draw_tokens, 3.0),
           "attention": (draw_attention, 3.2), "stream": (draw_stream, 2.9), "mlp": (draw_mlp, 2.7),
           "prediction": (draw_prediction, 3.4), "backward": (draw_backward, 2.9), "training": (draw_training, 2.5),
           "bias": (draw_bias, 2.7)}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="little training")
    parser.add_argument("--only", choices=FIGURES, help="draw only this figure")
    parser.add_argument("--out", default="from_pixels.png", help="the image files to write are NAME_FIGURE.png")
    options = parser.parse_args()

    data = minivit.load_data("digits")
    model = model_for(data)
    result = minivit.train(model, data, epochs=2 if options.quick else 30, progress=False)
    print(f"The model: {result.accuracy:.1%} of the test digits are right.")
    for name, (draw, height) in FIGURES.items():
        if options.only in (None, name):
            figure, path = new_figure(8, height), Path(options.out)
            more = {"quick": options.quick} if draw in (draw_training, draw_bias) else {}
            print(f"{name}: {draw(figure, model, data, **more)}", flush=True)
            save(figure, path.with_name(f"{path.stem}_{name}{path.suffix}"))
    if options.quick:
        print("With --quick the models train too little for conclusions.")
    print(f"Figures: {options.out}")


if __name__ == "__main__":
    main()
