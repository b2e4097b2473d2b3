"""Train the same blocks with the same trainer on text: the model looks up a number in a table.

    python demos/09_other_signals.py            half a minute
    python demos/09_other_signals.py --quick    about ten seconds, with less training

The text is a question and a table, such as "m? k4 b7 m1 z9 ...", split into tokens of two characters. The answer here
is 1. Every text has new random letters and digits, so the model must compare the question with the table. Prints the
accuracy of the transformer and of two networks without attention. Draws other_signals.png.
"""

import argparse
import string
import time
from functools import partial

import numpy as np

import minivit
from minivit.explain import attention_probabilities
from minivit.explain.tools.plots import draw_table
from minivit.layers import MLP, Block, LayerNorm, Linear, Parameter
from minivit.layers.initializers import normal, zeros
from minivit.models.model import Model
from minivit.ops import pooling, tokens
from minivit.training.schedule import warmup_cosine

ROWS, WIDTH = 8, 64
LETTERS, ALPHABET = 26, string.ascii_lowercase + string.digits + "?"
LENGTH = 2 * ROWS + 2


def tables(rng, count):
    """Return random texts (B, T), as indices into ALPHABET, and their answers (B,)."""
    letters = rng.permuted(np.tile(np.arange(LETTERS), (count, 1)), axis=1)[:, :ROWS]
    digits, asked = rng.integers(0, 10, (count, ROWS)), (np.arange(count), rng.integers(0, ROWS, count))
    texts = np.empty((count, LENGTH), np.int64)
    texts[:, 0], texts[:, 1] = letters[asked], ALPHABET.index("?")
    texts[:, 2::2], texts[:, 3::2] = letters, LETTERS + digits
    return texts, digits[asked]


def one_hot(texts):
    """Return the texts (B, T) as images of one row, with a channel for each character: (B, 1, T, A)."""
    return np.eye(len(ALPHABET), dtype=np.float32)[texts][:, None]


class Reader(Model):
    """A transformer encoder on texts: (B, 1, T, A) -> logits (B, 10).

    The question takes the place of the class token. `patch` is the number of characters per token. Without attention,
    each block has an MLP with as many weights in its place, which processes every token separately; the classifier
    then reads the mean of the tokens.
    """

    def __init__(self, patch=2, attention=True):
        super().__init__({"image_size": (1, LENGTH), "channels": len(ALPHABET), "classes": 10, "mean": 0.0, "std": 1.0})
        self.tokens, self.pool = LENGTH // patch, "token" if attention else "mean"
        self.embed = Linear(patch * len(ALPHABET), WIDTH)
        self.positions = Parameter((self.tokens, WIDTH), partial(normal, std=0.02))
        self.blocks = [Block(WIDTH, heads=4, mlp_ratio=2) for _ in range(2)]
        if not attention:
            for block in self.blocks:
                block.attn = MLP(WIDTH, 2 * WIDTH)
        self.norm = LayerNorm(WIDTH)
        self.head = Linear(WIDTH, 10, zeros)

    def forward(self, texts):
        """texts (B, 1, T, A) -> logits (B, 10)."""
        x = self.embed.forward(self.prepare(texts).reshape(len(texts), self.tokens, -1))
        x, embedded = tokens.forward(x, None, self.positions.data)
        for block in self.blocks:
            x = block.forward(x)
        y, pooled = pooling.forward(x, self.pool)
        self.cache = embedded, pooled
        return self.head.forward(self.norm.forward(y))

    def backward(self, dlogits):
        """dlogits (B, 10) -> dtexts (B, 1, T, A)."""
        embedded, pooled = self.pop_cache()
        dx = pooling.backward(self.norm.backward(self.head.backward(dlogits)), pooled)
        for block in reversed(self.blocks):
            dx = block.backward(dx)
        dx, _, self.positions.grad = tokens.backward(dx, embedded)
        return self.embed.backward(dx).reshape(-1, *self.input_shape)


def accuracy(model, texts, answers):
    """Return the share of correct answers."""
    return np.mean(model.predict(one_hot(texts)).argmax(axis=1) == answers)


def train(model, steps, test, lr=3e-3, batch=128):
    """Train on new texts at every step. Return the evaluated steps and the accuracies on `test`."""
    rng, trainer = np.random.default_rng(1), minivit.Trainer(model, lr, label_smoothing=0)
    at, accuracies = [0], [accuracy(model, *test)]
    for step in range(steps):
        texts, answers = tables(rng, batch)
        trainer.step(one_hot(texts), answers, lr=lr * warmup_cosine(step, steps, steps // 10))
        if (step + 1) % (steps // 20) == 0:
            at.append(step + 1)
            accuracies.append(accuracy(model, *test))
    return at, accuracies


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="less training")
    parser.add_argument("--out", default="other_signals.png", help="the image file to write")
    options = parser.parse_args()

    test, steps = tables(np.random.default_rng(0), 2000), 120 if options.quick else 600
    counts = np.apply_along_axis(np.bincount, 1, test[0][:, 3::2] - LETTERS, minlength=10)
    guess = counts.max(axis=1).mean() / ROWS
    print(f"The most frequent digit of the table is the right answer to {guess:.1%} of the questions.")
    models = {"with attention": Reader(), "without attention": Reader(attention=False),
              "the whole text as one token": Reader(LENGTH)}
    curves = {}
    for name, model in models.items():
        model.pack()
        start = time.perf_counter()
        curves[name] = train(model, steps, test)
        seconds, right = time.perf_counter() - start, curves[name][1][-1]
        print(f"{name:28} {model.vector.size:7,} parameters, {steps} steps in {seconds:2.0f} s: {right:.1%} of "
              f"{len(test[1]):,} new questions are answered correctly", flush=True)

    probs = list(attention_probabilities(models["with attention"], one_hot(test[0])).values())
    asked = (test[0][:, 2::2] == test[0][:, :1]).nonzero()[1] + 1     # the token with the answer
    shares = [p[np.arange(len(asked)), :, 0, asked].mean(axis=0) for p in probs]      # (h,) of each layer
    layer, head = np.unravel_index(np.argmax(shares), np.shape(shares))
    print(f"In head {head + 1} of layer {layer + 1}, the question gives {shares[layer][head]:.0%} of its attention to "
          f"the row of its answer. Uniform attention would give {1 / (ROWS + 1):.0%}.")
    cells = [["".join(ALPHABET[c] for c in pair) for pair in text.reshape(-1, 2)] for text in test[0][:8]]
    draw_table(curves, guess, cells, probs[layer][:8, head, 0], options.out)
    if options.quick:
        print("With --quick the models train too little for conclusions.")
    print(f"Figure: {options.out}")


if __name__ == "__main__":
    main()
