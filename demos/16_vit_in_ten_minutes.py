"""Follow one digit through a ViT with 890 parameters: from the pixels to the loss, and back to every weight.

    python demos/16_vit_in_ten_minutes.py            a few seconds; prints every array on the way, draws the figure
    python demos/16_vit_in_ten_minutes.py --quick    the same
    python demos/16_vit_in_ten_minutes.py --write    also puts the numbers into docs/vit-in-ten-minutes.md

The model is that of `minivit/plain.py`, so small that its arrays fit on a page: 4 patches, tokens of 8 numbers, one
block with two heads. It is trained in float64 for 1,000 steps first.
"""

import argparse
import functools
from pathlib import Path

import numpy as np
from page_parts import fenced, write_parts

import minivit
from minivit import plain
from minivit.common.figures import new_figure, save
from minivit.ops import attention, cross_entropy, gelu, layer_norm, patches, pooling, softmax, tokens
from minivit.training.adamw import reference_update as adamw
from minivit.training.schedule import warmup_cosine

PAGE = Path(__file__).parents[1] / "docs" / "vit-in-ten-minutes.md"
SIZES = {"image": 8, "patch": 4, "channels": 1, "width": 8, "depth": 1, "heads": 2, "hidden": 16, "classes": 10}
DIGIT = 224                                                           # a test image of which the model is not sure
TOKENS = ("class", "top left", "top right", "bottom left", "bottom right")
STEPS, BATCH, LR = 1000, 32, 0.01
ORANGE, GREY = "#d1495b", "#8d96a3"


@functools.cache
def trained():
    """Train the model. Return the parameters by name, the share of test digits that it classifies right, the data."""
    data, rng = minivit.load_data("digits"), np.random.default_rng(0)
    p = {name: array.astype(np.float64) for name, array in plain.make_parameters(SIZES, seed=0).items()}
    m, v = ({name: np.zeros_like(array) for name, array in p.items()} for _ in range(2))
    images = normalise(data.train_images)
    for t in range(STEPS):
        batch = rng.integers(0, len(images), BATCH)
        _, gradients = plain.loss_and_gradients(p, images[batch], data.train_labels[batch], sizes=SIZES)
        lr = LR * warmup_cosine(t, STEPS, STEPS // 10)
        for name, w in p.items():
            p[name], m[name], v[name] = adamw(w, gradients[name], m[name], v[name], t + 1, lr, 0.0)
    logits, _ = plain.forward(p, normalise(data.test_images), SIZES)
    return p, float((logits.argmax(axis=1) == data.test_labels).mean()), data


def normalise(images):
    """Pixels 0..255 -> float64 of about mean 0 and standard deviation 1."""
    return (images / 255 - plain.MEAN) / plain.STD


def walk(p, image, label):
    """Run one image (8, 8, 1) through the model and back, op by op. Return every array on the way, by name.

    The lines are those of `plain.forward` and `plain.backward` for one block; `check` compares the results.
    """
    a = {"pixels": image[..., 0], "normalised": normalise(image)[..., 0]}

    def linear(name, x):
        return x @ p[f"{name}.weight"] + p[f"{name}.bias"]

    def norm(name, x):
        return layer_norm.reference_forward(x, p[f"{name}.weight"], p[f"{name}.bias"])

    def split(qkv):
        return [part[0] for part in attention.split_heads(qkv, SIZES["heads"])]        # (h, N, d) each

    rows, cut = patches.reference_forward(normalise(image)[None], SIZES["patch"])
    a["patches"] = rows[0]                                             # (4, 16)
    a["embedded"] = linear("patch_embed.proj", rows)[0]                # (4, 8)
    x, _ = tokens.reference_forward(a["embedded"][None], p["cls_token"], p["pos_embed"])
    a["tokens"] = x[0]                                                 # (5, 8)

    normed, norm1 = norm("blocks.0.norm1", x)
    qkv = linear("blocks.0.attn.qkv", normed)                          # (1, 5, 24)
    y, attended = attention.reference_forward(qkv, SIZES["heads"])
    branch = linear("blocks.0.attn.proj", y)
    z = x + branch
    a |= {"norm1": normed[0], "qkv": qkv[0], "probs": attended[1][0], "heads": y[0], "attn": branch[0], "z": z[0]}
    a["q"], a["k"], a["v"] = split(qkv)
    a["scores"] = a["q"] @ a["k"].swapaxes(1, 2) / np.sqrt(SIZES["width"] // SIZES["heads"])    # (2, 5, 5)

    normed, norm2 = norm("blocks.0.norm2", z)
    hidden = linear("blocks.0.mlp.fc1", normed)
    active, activated = gelu.reference_forward(hidden)
    branch = linear("blocks.0.mlp.fc2", active)
    z = z + branch
    a |= {"norm2": normed[0], "hidden": hidden[0], "active": active[0], "mlp": branch[0], "out": z[0]}

    normed, last = norm("norm", z)
    y, pooled = pooling.reference_forward(normed, "token")
    logits = linear("head", y)
    loss, entropy = cross_entropy.reference_forward(logits, cross_entropy.targets(np.array([label]), 10, 0.0, float))
    a |= {"y": y[0], "logits": logits[0], "probabilities": softmax.reference_forward(logits)[0][0], "loss": loss}

    # ---- and back: each line answers one above, from the last to the first ----
    dlogits = cross_entropy.reference_backward(1.0, entropy)
    dy = dlogits @ p["head.weight"].T
    dz = layer_norm.reference_backward(pooling.reference_backward(dy, pooled), last)[0]
    a |= {"dlogits": dlogits[0], "dy": dy[0], "dout": dz[0]}
    dhidden = gelu.reference_backward(dz @ p["blocks.0.mlp.fc2.weight"].T, activated)
    dz = dz + layer_norm.reference_backward(dhidden @ p["blocks.0.mlp.fc1.weight"].T, norm2)[0]
    dqkv = attention.reference_backward(dz @ p["blocks.0.attn.proj.weight"].T, attended)
    dx = dz + layer_norm.reference_backward(dqkv @ p["blocks.0.attn.qkv.weight"].T, norm1)[0]
    a |= {"dz": dz[0], "dx": dx[0]}
    a["dq"], a["dk"], a["dv"] = split(dqkv)
    dpatches = tokens.reference_backward(dx, ((SIZES["width"],), True))[0] @ p["patch_embed.proj.weight"].T
    a["dpixels"] = patches.reference_backward(dpatches, cut)[0, ..., 0]
    return a


def check(p, image, label, a):
    """Check the walk against `minivit.plain`; return the gradient of every parameter, from there."""
    logits, _ = plain.forward(p, normalise(image)[None], SIZES)
    np.testing.assert_allclose(a["logits"], logits[0], atol=1e-12)
    loss, gradients = plain.loss_and_gradients(p, normalise(image)[None], np.array([label]), sizes=SIZES)
    np.testing.assert_allclose(a["loss"], loss, atol=1e-12)
    np.testing.assert_allclose(a["dx"], gradients["pos_embed"], atol=1e-12)
    return gradients


# ---- what is printed -------------------------------------------------------------------------------------------------


def grid(array, width=6, digits=2, rows=(), columns=()):
    """Return an array (n,) or (m, n) as lines of text, with names of its rows and columns if there are some."""
    left = max(map(len, rows)) + 2 if rows else 0
    lines = ["".join(f"{value:{width}.{digits}f}" for value in row)
             for row in np.round(np.atleast_2d(array), digits) + 0.0]    # + 0.0 makes -0 a 0
    lines = [f"{name:{left}}{line}" for name, line in zip(rows or [""] * len(lines), lines, strict=True)]
    return ([" " * left + "".join(f"{name:>{width}}" for name in columns)] if columns else []) + lines


def slope(p, name, index, image, label, h=1e-5):
    """Return the slope of the loss for one weight, by moving it a little to both sides."""
    losses = []
    for move in (h, -h):
        moved = p | {name: p[name].copy()}
        moved[name][index] += move
        losses.append(loss_of(moved, image, label))
    return (losses[0] - losses[1]) / (2 * h)


def loss_of(p, image, label):
    """Return the loss of one image."""
    return plain.loss_and_gradients(p, normalise(image)[None], np.array([label]), sizes=SIZES)[0]


def sum_of_products(x, y):
    """Return "0.12 * 3.40 + ..." for two rows of numbers."""
    return " + ".join(f"({a:.2f})({b:.2f})" for a, b in zip(x, y, strict=True))


def forward_parts(p, a, accuracy, count, label):
    """Return the blocks of the way forward, {name: lines}."""
    q, k, far = a["q"][0], a["k"][0], int(a["probs"][0, 0].argmax())
    looks = [f"to {name}" for name in TOKENS]
    return {
        "model": [f"parameters           {sum(w.size for w in p.values())}",
                  f"right answers        {accuracy:.1%} of {count} test digits",
                  f"the digit below      test image {DIGIT}, which is a {label}"],
        "pixels": grid(a["pixels"], 5, 0),
        "normalised": grid(a["normalised"]),
        "patches": grid(a["patches"], 5, 1, TOKENS[1:]),
        "embedded": grid(a["embedded"], rows=TOKENS[1:]),
        "tokens": grid(a["tokens"], rows=TOKENS),
        "norm1": grid(a["norm1"], rows=TOKENS),
        "query and keys": grid(np.vstack([q[:1], k]), rows=["query of class", *(f"key of {n}" for n in TOKENS)]),
        "score": [f"{sum_of_products(q[0], k[far])} = {q[0] @ k[far]:.2f}",
                  f"{q[0] @ k[far]:.2f} / sqrt(4) = {a['scores'][0, 0, far]:.2f}"],
        "scores": grid(a["scores"][0], 17, rows=TOKENS, columns=looks),
        "probs": ["head 1", *grid(a["probs"][0], 17, rows=TOKENS, columns=looks), "",
                  "head 2", *grid(a["probs"][1], 17, rows=TOKENS, columns=looks)],
        "values": grid(np.vstack([a["v"][0], a["heads"][0, :4]]),
                       rows=[*(f"value of {n}" for n in TOKENS), "class: weighted mean"]),
        "residual": grid(np.vstack([a["tokens"][0], a["attn"][0], a["z"][0]]),
                         rows=["class token before", "+ branch", "= class token after"]),
        "mlp": [*grid(a["norm2"][0], rows=["normed"]), *grid(a["hidden"][0], rows=["fc1   "]),
                *grid(a["active"][0], rows=["GELU  "]), *grid(a["mlp"][0], rows=["fc2   "])],
        "out": grid(np.vstack([a["z"][0], a["mlp"][0], a["out"][0]]),
                    rows=["class token before", "+ branch", "= class token after"]),
        "y": grid(a["y"]),
        "logits": grid(np.vstack([a["logits"], a["probabilities"]]), rows=["logits", "probabilities"],
                       columns=list(map(str, range(10)))),
        "loss": [f"-log {a['probabilities'][label]:.4f} = {a['loss']:.4f}"],
    }


def backward_parts(p, a, gradients, image, label):
    """Return the blocks of the way back, {name: lines}."""
    norms = np.stack([np.linalg.norm(a[name], axis=1) for name in ("dout", "dz", "dx")])
    where = [("before the last norm", "after the block"), ("before the MLP", "after the attention"),
             ("before the attention", "where the tokens enter")]
    name, index = "blocks.0.attn.qkv.weight", (2, 5)
    sizes = sorted(gradients.items(), key=lambda item: -np.linalg.norm(item[1]))
    stepped = {key: w - 0.01 * gradients[key] for key, w in p.items()}
    return {
        "dlogits": grid(np.vstack([a["probabilities"], np.eye(10)[label], a["dlogits"]]),
                        rows=["probabilities", "- right answer", "= dlogits"], columns=list(map(str, range(10)))),
        "dy": grid(a["dy"]),
        "stream": grid(norms, 14, rows=[before for before, _ in where], columns=TOKENS),
        "attention": grid(np.stack([np.linalg.norm(a[name][0], axis=1) for name in ("dq", "dk", "dv")]), 14,
                          rows=["queries", "keys", "values"], columns=TOKENS),
        "weights": [f"{key:26}{'x'.join(map(str, g.shape)):>8}{np.linalg.norm(g):9.3f}" for key, g in sizes],
        "dpixels": grid(a["dpixels"]),
        "check": [f"backward: d loss / d {name}[{index[0]}, {index[1]}] = {gradients[name][index]:.6f}",
                  f"slope measured by moving this weight by 0.00001       {slope(p, name, index, image, label):.6f}"],
        "step": [f"loss of this digit before   {a['loss']:.4f}",
                 f"loss of this digit after    {loss_of(stepped, image, label):.4f}"],
    }


def parts():
    """Return {name: block of text} for the page, in its order."""
    p, accuracy, data = trained()
    image, label = data.test_images[DIGIT], int(data.test_labels[DIGIT])
    a = walk(p, image, label)
    gradients = check(p, image, label, a)
    found = forward_parts(p, a, accuracy, len(data.test_labels), label) | backward_parts(p, a, gradients, image, label)
    return {name: fenced(*lines) for name, lines in found.items()}


# ---- the figure ------------------------------------------------------------------------------------------------------


def draw(a, path):
    """Draw the digit, its tokens, where the class token looks, the probabilities, and the gradient of the pixels."""
    figure = new_figure(8, 4.6)
    axes = figure.subplots(2, 3)
    (image, tokens_axes, first), (probabilities, gradient, second) = axes
    image.imshow(a["pixels"], cmap="gray")
    image.axhline(3.5, color=ORANGE)
    image.axvline(3.5, color=ORANGE)
    image.set_title("64 pixels, cut into 4 patches", fontsize=9)
    largest = np.abs(a["tokens"]).max()
    tokens_axes.imshow(a["tokens"], cmap="RdBu_r", vmin=-largest, vmax=largest)
    tokens_axes.set_yticks(range(5), TOKENS, fontsize=8)
    tokens_axes.set_title("5 tokens of 8 numbers", fontsize=9)
    for h, target in enumerate((first, second)):
        shares = a["probs"][h, 0]
        target.imshow(a["pixels"], cmap="gray")
        target.imshow(np.kron(shares[1:].reshape(2, 2), np.ones((4, 4))), cmap="Oranges", vmin=0, vmax=1, alpha=0.75)
        for n, share in enumerate(shares[1:]):
            target.text(1.5 + 4 * (n % 2), 1.5 + 4 * (n // 2), f"{share:.0%}", ha="center", va="center", fontsize=9)
        target.set_title(f"head {h + 1}: where the class token\nlooks ({shares[0]:.0%} at itself)", fontsize=9)
    best = int(a["probabilities"].argmax())
    probabilities.bar(range(10), 100 * a["probabilities"], color=[ORANGE if k == best else GREY for k in range(10)])
    probabilities.set(xticks=range(10), ylim=(0, 100), ylabel="probability in %")
    probabilities.set_title(f"the model says {best}: {a['probabilities'][best]:.0%}", fontsize=9)
    probabilities.spines[["top", "right"]].set_visible(False)
    largest = np.abs(a["dpixels"]).max()
    gradient.imshow(a["dpixels"], cmap="RdBu_r", vmin=-largest, vmax=largest)
    gradient.set_title("gradient of the pixels: brighter\nblue ones lower the loss", fontsize=9)
    for one in (image, first, second, gradient):
        one.set(xticks=[], yticks=[])
    tokens_axes.set_xticks([])
    save(figure, path)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="the same: this demo always takes a few seconds")
    parser.add_argument("--write", action="store_true", help="put the numbers into the page, too")
    parser.add_argument("--out", default="vit_in_ten_minutes.png", help="the image file to write")
    options = parser.parse_args()

    found = parts()
    for name, text in found.items():
        print(f"{name}\n\n{text}\n")
    p, _, data = trained()
    draw(walk(p, data.test_images[DIGIT], int(data.test_labels[DIGIT])), options.out)
    if options.write:
        write_parts(PAGE, found)
    print(f"Figure: {options.out}")


if __name__ == "__main__":
    main()
