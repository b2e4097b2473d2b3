"""Why is a ViT built this way? Change one thing at a time, train, and compare the test accuracies.

    python demos/15_why_this_way.py            continues the study, prints its tables and draws why_this_way.png
    python demos/15_why_this_way.py --write    the same; also puts the tables into docs/why-this-way.md
    python demos/15_why_this_way.py --quick    a few short runs without conclusions; keeps only the figure

The study has about 480 short runs and took 75 minutes on two busy cores. Interrupt it at any time: the same command
continues with the missing runs. With the table `why_this_way.csv` of this repository nothing is missing, so it only
prints and draws. The page docs/why-this-way.md explains the results.

- Digits: 600 images to train, the other 1,197 to test. Fashion-MNIST: 5,000 to train, the 10,000 test images to test.
- Every variant differs from the base in what its name says. A seed fixes the split, the weights and the order of the
  images; the seeds of two variants are compared in pairs.
- Each variant is trained with two or more learning rates. The tables show all of them.
- There is no augmentation, dropout or label smoothing, unless a variant adds it.

Variants that the package lacks are written below as layers and an optimiser of a user: post-norm, no residual stream,
batch norm, ReLU, no MLP, one map for queries and keys or for all three, Adam with L2 regularisation.
"""

import argparse
import math
import re
import tempfile
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
from page_parts import table, write_parts

import minivit
from minivit.common.figures import new_figure, save
from minivit.data import stratified_order
from minivit.explain import Study
from minivit.explain.layer_trace import places
from minivit.explain.tools.trend import decided, mean_and_error, paired
from minivit.layers import Block, Layer, LayerNorm, Linear, Parameter
from minivit.layers.initializers import ones, zeros
from minivit.models.create import declare_model
from minivit.ops import attention, relu
from minivit.parallel.batch_split import BatchSplit
from minivit.parallel.threads import available_threads
from minivit.training.adamw import AdamW
from minivit.training.augment import Augmentation
from minivit.training.loop import batches
from minivit.training.schedule import warmup_cosine

TABLE = Path(__file__).with_name("why_this_way.csv")
PAGE = Path(__file__).parents[1] / "docs" / "why-this-way.md"

# ---- what the package lacks: layers and an optimiser of a user -------------------------------------------------------


class PostNormBlock(Block):
    """A block as in the first Transformer: each norm comes after the sum, in the residual stream itself."""

    replayable = True

    def forward(self, x):
        """x (B, N, D) -> y (B, N, D)."""
        x = self.norm1.forward(x + self.attn.forward(x))
        return self.norm2.forward(x + self.mlp.forward(x))

    def backward(self, dy):
        """dy (B, N, D) -> dx (B, N, D)."""
        dx = self.norm2.backward(dy)
        dx = self.norm1.backward(dx + self.mlp.backward(dx))
        return dx + self.attn.backward(dx)


class NoResidualBlock(Block):
    """A block without the residual stream: each branch replaces its input."""

    replayable = True

    def forward(self, x):
        """x (B, N, D) -> y (B, N, D)."""
        x = self.attn.forward(self.norm1.forward(x))
        return self.mlp.forward(self.norm2.forward(x))

    def backward(self, dy):
        """dy (B, N, D) -> dx (B, N, D)."""
        dy = self.norm2.backward(self.mlp.backward(dy))
        return self.norm1.backward(self.attn.backward(dy))


class AttentionBlock(Block):
    """A block of attention alone, without an MLP."""

    replayable = True

    def __init__(self, width, heads, mlp_ratio):
        super().__init__(width, heads, mlp_ratio)
        del self.norm2, self.mlp

    def forward(self, x):
        """x (B, N, D) -> y (B, N, D)."""
        return x + self.attn.forward(self.norm1.forward(x))

    def backward(self, dy):
        """dy (B, N, D) -> dx (B, N, D)."""
        return dy + self.norm1.backward(self.attn.backward(dy))


class BatchNorm(Layer):
    """Batch norm: each of the D numbers gets mean 0 and variance 1 over all tokens of the batch, not of one token.

    One image at a time has no batch. So after the training `keep_statistics` stores the mean and variance over all
    training images, and `forward` then uses these.
    """

    def __init__(self, width, eps=1e-6):
        self.weight, self.bias = Parameter((width,), ones), Parameter((width,), zeros)
        self.eps, self.kept, self.seen = eps, None, None

    def forward(self, x):
        """x (..., D) -> y (..., D)."""
        rows = x.reshape(-1, x.shape[-1])
        if self.kept is None:
            self.seen = np.stack([rows.mean(axis=0), rows.var(axis=0)])
        mean, variance = self.seen if self.kept is None else self.kept
        rstd = 1 / np.sqrt(variance + self.eps)
        xhat = (x - mean) * rstd
        self.cache = xhat, rstd
        return xhat * self.weight.data + self.bias.data

    def backward(self, dy):
        """dy (..., D) -> dx (..., D), for the statistics of the batch."""
        (xhat, rstd), over = self.pop_cache(), tuple(range(dy.ndim - 1))
        self.weight.grad, self.bias.grad = (dy * xhat).sum(axis=over), dy.sum(axis=over)
        dxhat = dy * self.weight.data
        return rstd * (dxhat - dxhat.mean(axis=over) - xhat * (dxhat * xhat).mean(axis=over))


class ReLU(Layer):
    """ReLU of every number, in the place of GELU."""

    replayable = True

    def forward(self, x):
        """x (...) -> y (...)."""
        y, self.cache = relu.forward(x)
        return y

    def backward(self, dy):
        """dy (...) -> dx (...)."""
        return relu.backward(dy, self.pop_cache())


class SharedAttention(Layer):
    """Attention with fewer than three maps. uses: which map makes queries, keys and values, such as (0, 0, 1)."""

    replayable = True

    def __init__(self, width, heads, uses):
        self.maps, self.proj, self.heads = Linear(width, (max(uses) + 1) * width), Linear(width, width), heads
        self.uses = uses

    def forward(self, x):
        """x (B, N, D) -> y (B, N, D)."""
        made, D = self.maps.forward(x), x.shape[-1]
        qkv = np.concatenate([made[..., i * D:(i + 1) * D] for i in self.uses], axis=-1)
        y, self.cache = attention.forward(qkv, self.heads)
        return self.proj.forward(y)

    def backward(self, dy):
        """dy (B, N, D) -> dx (B, N, D)."""
        dqkv = np.split(attention.backward(self.proj.backward(dy), self.pop_cache()), 3, axis=-1)
        return self.maps.backward(np.concatenate([
            sum(d for d, used in zip(dqkv, self.uses, strict=True) if used == i) for i in range(max(self.uses) + 1)],
            axis=-1))


class AdamL2(AdamW):
    """Adam with L2 regularisation: the decay is added to the gradient, so it is divided by sqrt(v), too."""

    def update(self, piece, gradients, lr, scale=1.0):
        """Do step `t` for one piece of the vector."""
        if not hasattr(self, "decay_of_each"):
            sizes = np.diff(self.ends, prepend=0)
            self.decay_of_each, self.decays = np.repeat(self.decays, sizes), np.zeros_like(self.decays)
        super().update(piece, scale * gradients + self.decay_of_each * self.vector, lr)


def replace_norms(model):
    """Put a batch norm in the place of each layer norm."""
    for _, layer in list(model.named_layers()):
        for name, child in list(layer.children()):
            if isinstance(child, LayerNorm):
                setattr(layer, name, BatchNorm(child.weight.shape[0]))


def keep_statistics(model, images):
    """Give each batch norm the statistics of all these images."""
    norms = [layer for _, layer in model.named_layers() if isinstance(layer, BatchNorm)]
    if norms:
        model.forward(images)
    for norm in norms:
        norm.kept = norm.seen


BLOCKS = {"post-norm": PostNormBlock, "no residual stream": NoResidualBlock, "no MLP": AttentionBlock}
MAPS = {"one map for q and k": (0, 0, 1), "one map for all": (0, 0, 0)}


def change(model, kind):
    """Change a model that is not packed yet: the parts named by `kind`."""
    width, heads, ratio = (model.config[name] for name in ("width", "heads", "mlp_ratio"))
    if kind in BLOCKS:
        model.blocks = [BLOCKS[kind](width, heads, ratio) for _ in model.blocks]
    if kind == "batch norm":
        replace_norms(model)
    for block in model.blocks:
        if kind == "ReLU":
            block.mlp.act = ReLU()
        if kind in MAPS:
            block.set_output_tokens(None)
            block.attn = SharedAttention(width, heads, MAPS[kind])


# ---- one run -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Variant:
    """What differs from the base: options of the ViT, a `change` of its layers, and settings of the training.

    schedule: "warm-up and cosine", "warm-up", "cosine" or "constant". l2: whether the weight decay is L2.
    """

    options: dict = field(default_factory=dict)
    change: str = ""
    epochs: float = 1.0                                               # times those of the base
    batch_size: int = 32
    schedule: str = "warm-up and cosine"
    decay: float = 0.05
    l2: bool = False
    augment: str = "none"


BASE = {"width": 64, "depth": 4, "heads": 4, "mlp_ratio": 2, "position_std": 0.5}
PATCH, EPOCHS = {"digits": 2, "fashion-mnist": 7}, {"digits": 15, "fashion-mnist": 4}
VARIANTS = {
    "base": Variant(),
    "post-norm": Variant(change="post-norm"),
    "no residual stream": Variant(change="no residual stream"),
    "12 blocks": Variant({"depth": 12}),
    "post-norm, 12 blocks": Variant({"depth": 12}, "post-norm"),
    "batch norm": Variant(change="batch norm"),
    "batch norm, batches of 8": Variant(change="batch norm", batch_size=8),
    "ReLU": Variant(change="ReLU"),
    "1 head": Variant({"heads": 1}),
    "2 heads": Variant({"heads": 2}),
    "16 heads": Variant({"heads": 16}),
    "one map for q and k": Variant(change="one map for q and k"),
    "one map for all": Variant(change="one map for all"),
    "no MLP": Variant(change="no MLP"),
    "no MLP, 8 blocks": Variant({"depth": 8}, "no MLP"),
    "mean pooling": Variant({"pool": "mean"}),
    "learned from small values": Variant({"position_std": 0.02}),
    "sin-cos": Variant({"positions": "sincos"}),
    "relative bias": Variant({"positions": "none", "relative_bias": True}),
    "none": Variant({"positions": "none"}),
    "constant": Variant(schedule="constant"),
    "warm-up": Variant(schedule="warm-up"),
    "cosine": Variant(schedule="cosine"),
    **{f"decay {decay:g}": Variant(decay=decay) for decay in (0, 0.5, 5)},
    **{f"L2 {decay:g}": Variant(decay=decay, l2=True) for decay in (0.0001, 0.001, 0.01, 0.1)},
    **{f"width {width}": Variant({"width": width}) for width in (16, 32, 128)},
    **{f"depth {depth}": Variant({"depth": depth}) for depth in (1, 2, 8)},
    **{f"patch {patch}": Variant({"patch_size": patch}) for patch in (1, 4, 14)},
    **{f"epochs x {times:g}": Variant(epochs=times) for times in (1 / 3, 3)},
    **{f"augmented, epochs x {times:g}": Variant(epochs=times, augment="affine") for times in (1 / 3, 1, 3)},
    **{f"batch {size}": Variant(batch_size=size) for size in (8, 128)},
}


def load(data, seed):
    """Return the images and labels of a seed: (to train), (to test)."""
    loaded = minivit.load_data(data)
    if data == "digits":                                              # a larger test part: a smaller error
        images = np.concatenate([loaded.train_images, loaded.test_images])
        labels = np.concatenate([loaded.train_labels, loaded.test_labels])
        order = stratified_order(labels, seed)
        return (images[order[:600]], labels[order[:600]]), (images[order[600:]], labels[order[600:]])
    chosen = stratified_order(loaded.train_labels, seed)[:5000]
    return (loaded.train_images[chosen], loaded.train_labels[chosen]), (loaded.test_images, loaded.test_labels)


def make(data, variant, images, seed):
    """Return the model of a variant; it normalises pixels with the statistics of the training images."""
    options = BASE | {"patch_size": PATCH[data]} | variant.options
    model = minivit.create_model("vit", image_size=images.shape[1], channels=1, classes=10,
                                 mean=float(images.mean() / 255), std=float(images.std() / 255), **options)
    change(model, variant.change)
    return model.pack(seed=seed)


def factor(schedule, step, steps):
    """Return the learning rate of a step, relative to its peak."""
    warmup = steps // 10 if "warm-up" in schedule else 0
    return warmup_cosine(step, steps if "cosine" in schedule else 10**12, warmup)


def measure(data, variant, lr, seed, epochs=None):
    """Train once. Return the test accuracy, the mean loss of the last epoch, and the number of parameters.

    Raises nothing if the training diverges: the accuracy is then 0.
    """
    chosen = VARIANTS[variant]
    (images, labels), (test_images, test_labels) = load(data, seed)
    model = make(data, chosen, images, seed)
    # One lane, so that a batch norm sees the whole batch.
    trainer = minivit.Trainer(model, weight_decay=chosen.decay, label_smoothing=0, seed=seed, threads=1,
                              split=BatchSplit(1, chosen.batch_size),
                              augment=None if chosen.augment == "none" else Augmentation(chosen.augment))
    if chosen.l2:
        trainer.optimiser = AdamL2(model.vector, model.parameters(), chosen.decay)
    epochs = epochs or round(EPOCHS[data] * chosen.epochs)
    steps, losses = epochs * (len(images) // chosen.batch_size), []
    try:
        for epoch in range(epochs):
            for batch in batches(len(images), chosen.batch_size, seed, epoch):
                rate = lr * factor(chosen.schedule, len(losses), steps)
                losses.append(trainer.step(images[batch], labels[batch], rate, epoch, batch))
    except FloatingPointError:
        return {"accuracy": 0.0, "loss": math.inf, "parameters": model.vector.size}
    keep_statistics(model, images)
    accuracy = float(np.mean(model.predict(test_images, threads=1).argmax(axis=1) == test_labels))
    return {"accuracy": round(accuracy, 5), "loss": round(float(np.mean(losses[-(steps // epochs):])), 5),
            "parameters": model.vector.size}


# ---- the study -----------------------------------------------------------------------------------------------------

LOW, MIDDLE, HIGH = 0.001, 0.003, 0.01


@dataclass(frozen=True)
class Question:
    """One table: rows {name in the table: variant}, the first of which the others are compared with."""

    name: str
    rows: dict
    rates: tuple = (LOW, MIDDLE, HIGH)
    data: str = "digits"
    seeds: tuple = (0, 1, 2, 3, 4)


def _sizes(data, smaller, name):
    """Return the question how to choose the sizes for a data set; `smaller`: its patch sizes besides the base's."""
    names = [f"width {width}" for width in (16, 32, 128)] + [f"depth {depth}" for depth in (1, 2, 8)]
    names += [f"patch {patch}" for patch in smaller]
    return Question(name, {"base": "base"} | {one: one for one in names}, (LOW, MIDDLE), data, (0, 1, 2))


QUESTIONS = [
    Question("pre-norm", {"pre-norm": "base", "post-norm": "post-norm", "no residual stream": "no residual stream"}),
    Question("norm, 12 blocks", {"pre-norm": "12 blocks", "post-norm": "post-norm, 12 blocks"},
             (0.0003, LOW, MIDDLE), seeds=(0, 1, 2)),
    Question("layer norm", {"layer norm": "base", "batch norm": "batch norm"}),
    Question("norm, batches of 8", {"layer norm": "batch 8", "batch norm": "batch norm, batches of 8"},
             (LOW, MIDDLE), seeds=(0, 1, 2)),
    Question("GELU", {"GELU": "base", "ReLU": "ReLU"}),
    Question("heads", {"4 heads of 16": "base", "1 head of 64": "1 head", "2 heads of 32": "2 heads",
                       "16 heads of 4": "16 heads"}),
    Question("three maps", {"three maps": "base", "one map for q and k": "one map for q and k",
                            "one map for all three": "one map for all"}),
    Question("MLP", {"attention and MLP": "base", "no MLP": "no MLP", "no MLP, but 8 blocks": "no MLP, 8 blocks"}),
    Question("MLP, Fashion-MNIST", {"attention and MLP": "base", "no MLP": "no MLP",
                                    "no MLP, but 8 blocks": "no MLP, 8 blocks"}, (LOW, MIDDLE), "fashion-mnist",
             (0, 1, 2)),
    Question("pooling", {"class token": "base", "mean of the patches": "mean pooling"}),
    Question("positions", {"learned positions": "base", "small ones at first": "learned from small values",
                           "sin-cos": "sin-cos", "only a relative bias": "relative bias", "no positions": "none"}),
    Question("schedule", {"warm-up and cosine": "base", "cosine": "cosine", "warm-up": "warm-up",
                          "constant": "constant"}),
    Question("weight decay", {"decoupled 0.05": "base", "no decay": "decay 0", "decoupled 0.5": "decay 0.5",
                              "decoupled 5": "decay 5", "L2 0.0001": "L2 0.0001", "L2 0.001": "L2 0.001",
                              "L2 0.01": "L2 0.01", "L2 0.1": "L2 0.1"}, (MIDDLE,)),
    _sizes("digits", (1, 4), "sizes, digits"),
    Question("learning rate, digits", {"base": "base"}, (0.0003, LOW, MIDDLE, HIGH, 0.03), seeds=(0, 1, 2)),
    Question("epochs", {"15 epochs": "base", "5 epochs": "epochs x 0.333333", "45 epochs": "epochs x 3",
                        "augmented, 5 epochs": "augmented, epochs x 0.333333",
                        "augmented, 15 epochs": "augmented, epochs x 1",
                        "augmented, 45 epochs": "augmented, epochs x 3"}, (LOW, MIDDLE), seeds=(0, 1, 2)),
    Question("batch", {"32 images": "base", "8 images": "batch 8", "128 images": "batch 128"}, seeds=(0, 1, 2)),
    _sizes("fashion-mnist", (4, 14), "sizes, Fashion-MNIST"),
    Question("learning rate, Fashion-MNIST", {"base": "base"}, (0.0003, LOW, MIDDLE, HIGH), "fashion-mnist", (0, 1, 2)),
    Question("epochs, Fashion-MNIST", {"4 epochs": "base", "12 epochs": "epochs x 3"}, (LOW, MIDDLE), "fashion-mnist",
             (0, 1, 2)),
]
COMPARED = 13     # the first questions compare parts of the model and of the training; the others choose sizes
SETTINGS = {"base": BASE, "patch": PATCH, "epochs": EPOCHS, "batch_size": 32,
            "training_images": {"digits": 600, "fashion-mnist": 5000}}


def points(questions):
    """Return the points of some questions, each once."""
    found = {(q.data, variant, lr, seed): None for q in questions for seed in q.seeds for variant in q.rows.values()
             for lr in q.rates}
    return [dict(zip(("data", "variant", "lr", "seed"), point, strict=True)) for point in found]


# ---- tables and figure -----------------------------------------------------------------------------------------------


def results(study, question, variant):
    """Return {learning rate: {seed: accuracy}} of a variant, for the rates that are complete."""
    found = {lr: {seed: accuracy for seed, accuracy in study.by_seed("accuracy", data=question.data, variant=variant,
                                                                     lr=lr).items() if seed in question.seeds}
             for lr in question.rates}
    return {lr: by_seed for lr, by_seed in found.items() if len(by_seed) == len(question.seeds)}


def best(by_rate):
    """Return {seed: accuracy} at the learning rate with the highest mean."""
    return max(by_rate.values(), key=lambda by_seed: mean_and_error(by_seed.values())[0])


def percent(values, sign=""):
    """Return mean and standard error of accuracies, in percent."""
    mean, error = mean_and_error(values)
    return f"{100 * mean:{sign}.1f} +- {100 * error:.1f}"


def table_of(study, question):
    """Return the table of a question: accuracies in percent, and differences at the best learning rates.

    A star marks a difference from the first row that is significant with 95% confidence (paired by seed).
    """
    found = {row: by_rate for row, variant in question.rows.items() if (by_rate := results(study, question, variant))}
    if not found:
        return "(not measured yet)"
    first, rows = best(next(iter(found.values()))), []
    for i, (row, by_rate) in enumerate(found.items()):
        cells = [percent(by_rate[lr].values()) if lr in by_rate else "-" for lr in question.rates]
        difference = paired(best(by_rate), first)
        rows.append([row, *cells, percent(difference.values(), "+") + " *" * bool(decided(difference)) if i else ""])
    header = ["", *(f"learning rate {lr:g}" for lr in question.rates), "difference"]
    if len(rows) == 1:
        return table(header[:-1], [row[:-1] for row in rows])
    return table(header, rows)


def parts(study=None):
    """Return {name of a question: its table}, for the page."""
    study = study or Study(TABLE, SETTINGS)
    return {question.name: table_of(study, question) for question in QUESTIONS} | {"parameters": parameter_table()}


def parameter_table():
    """Return the table of where the parameters of three models are."""
    groups = {"patch embedding": "patch_embed", "positions, class token": "pos_embed|cls_token",
              "queries, keys, values": "qkv", "projection of attention": "proj", "MLP": "mlp",
              "layer norms": "norm", "classifier": "head"}
    models = {"ViT-B/16": "vit_base_patch16_224", "ViT-Ti/16": "vit_tiny_patch16_224", "vit_mini, digits": "vit_mini"}
    rows = [[group] for group in groups] + [["all"]]
    for name in models.values():
        counts = places(declare_model(name))
        total = sum(counts.values())
        for row, pattern in zip(rows, groups.values(), strict=False):
            count = sum(n for place, n in counts.items() if re.match(rf"(blocks\.\*\.)?(attn\.)?({pattern})", place))
            row.append(f"{count:,} ({count / total:.1%})")
        rows[-1].append(f"{total:,}")
    return table(["", *models], rows)


def draw(study, questions, path):
    """Draw the difference of each row from the first row of its question, at the best learning rates."""
    lines, least = [], -8                                             # (what instead of what, {seed: difference})
    for question in questions:
        found = {row: best(by_rate) for row, variant in question.rows.items()
                 if (by_rate := results(study, question, variant))}
        (first, base), *others = found.items()
        setting = question.name.partition(", ")[2]
        lines += [(f"{row} instead of {first}" + (f" ({setting})" if setting else ""), paired(by_seed, base))
                  for row, by_seed in others]
    figure = new_figure(8, 0.9 + 0.21 * len(lines))
    axes = figure.subplots()
    for y, (name, difference) in enumerate(lines):
        mean, error = (100 * value for value in mean_and_error(difference.values()))
        shown = decided(difference)
        colour = "#d1495b" if shown < 0 else "#00798c" if shown > 0 else "#8d96a3"
        if mean < least:
            axes.annotate(f"{mean:.0f}", (least, y), (least + 0.9, y), arrowprops={"arrowstyle": "->", "color": colour},
                          color=colour, fontsize=8, va="center")
        else:
            axes.errorbar(mean, y, xerr=error, fmt="o", color=colour, ms=5, capsize=2)
        axes.text(-0.01, y, name, transform=axes.get_yaxis_transform(), ha="right", va="center", fontsize=8)
    axes.axvline(0, color="k", lw=0.7)
    axes.set(ylim=(len(lines) - 0.4, -0.6), xlim=(least, 3), yticks=[])
    axes.set_xlabel("points of test accuracy; each at its best learning rate", fontsize=9)
    axes.set_title("red: worse, green: better, grey: within noise", fontsize=10)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(labelsize=8)
    save(figure, path)


# What --quick measures: one epoch, so that everything runs, and nothing is learned.
QUICK = [Question("pre-norm", {"pre-norm": "base", "post-norm": "post-norm"}, (MIDDLE,), seeds=(0, 1)),
         Question("layer norm", {"layer norm": "base", "batch norm": "batch norm"}, (MIDDLE,), seeds=(0, 1)),
         Question("weight decay", {"decoupled, 0.05": "base", "L2, 0.1": "L2 0.1"}, (MIDDLE,), seeds=(0, 1))]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a few runs of one epoch, without conclusions")
    parser.add_argument("--limit", type=int, metavar="N", help="measure at most N runs now")
    parser.add_argument("--jobs", type=int, default=available_threads(), metavar="N",
                        help="runs at the same time, one thread each (default: all cores)")
    parser.add_argument("--write", action="store_true", help="put the tables into the page, too")
    parser.add_argument("--out", default="why_this_way.png", help="the image file to write")
    options = parser.parse_args()
    if options.quick:
        with tempfile.TemporaryDirectory() as folder:
            study = Study(Path(folder, "quick.csv"), SETTINGS | {"quick": True})
            left = study.run(points(QUICK), partial(measure, epochs=1))
        draw(study, QUICK, options.out)
        print(f"{len(study.rows)} runs, {left} are missing. With --quick the models train too little for conclusions.")
    else:
        study = Study(TABLE, SETTINGS)
        left = study.run(points(QUESTIONS), measure, options.limit, options.jobs)
        draw(study, QUESTIONS[:COMPARED], options.out)
        found = parts(study)
        for name, text in found.items():
            print(f"{name}\n\n{text}\n")
        if options.write:
            write_parts(PAGE, found)
        print(f"{TABLE.name}: {left} runs are missing.")
    print(f"Figure: {options.out}")


if __name__ == "__main__":
    main()
