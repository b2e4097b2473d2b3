"""A Vision Transformer learns to read handwritten digits, in front of your eyes.

    python demos/01_learn_digits.py            half a minute
    python demos/01_learn_digits.py --quick    a few seconds

Prints what it finds and draws learn_digits.png: the digits that it reads with the least confidence, and the attention
of the class token, which shows where in the picture the model looked.
"""

import argparse

import numpy as np

import minivit
from minivit.common.figures import new_figure, save
from minivit.explain import attention_probabilities, readout_maps
from minivit.ops import softmax
from minivit.runs.default_model import model_for


def class_token_attention(model, images):
    """Where the class token looks in the last block: (B, patches, patches), the mean over the heads."""
    *_, probs = attention_probabilities(model, images).values()
    return readout_maps(probs).mean(axis=1)


def draw(data, model, path):
    """Draw the twelve test digits of which the model is least sure, with its attention over them."""
    probabilities, _ = softmax.forward(model.predict(data.test_images))
    least_sure = np.argsort(probabilities.max(axis=1))[:12]
    attention = class_token_attention(model, data.test_images[least_sure])
    figure = new_figure(10, 4)
    figure.suptitle("The digits it is least sure of, and (red) where its class token looks")
    for axes, i, heat in zip(figure.subplots(2, 6).flat, least_sure, attention, strict=True):
        said, true = probabilities[i].argmax(), data.test_labels[i]
        ink = data.test_images[i, ..., 0] / 255
        red = np.kron(heat / heat.max(), np.ones((2, 2)))             # one patch is 2 x 2 pixels
        # White paper that reddens where the class token looks, under grey ink.
        paper = np.stack([np.ones_like(red), 1 - 0.7 * red, 1 - 0.7 * red], axis=-1)
        axes.imshow(paper * (1 - 0.85 * ink[..., None]))
        axes.set_title(f"says {said} ({probabilities[i, said]:.0%}), is "
                       f"{true}", fontsize=9, color="k" if said == true else "tab:red")
        axes.set_axis_off()
    save(figure, path)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a few epochs only")
    parser.add_argument("--out", default="learn_digits.png", help="the picture to write")
    options = parser.parse_args()

    data = minivit.load_data("digits")
    model = model_for(data)
    before = (model.predict(data.test_images).argmax(axis=1) == data.test_labels).mean()
    result = minivit.train(model, data, epochs=3 if options.quick else 30)
    draw(data, model, options.out)
    print(f"Before training it reads {before:.1%} of {result.test.images} digits that it has never seen; "
          f"after {result.seconds:.0f} seconds {result.accuracy:.1%}. Picture: {options.out}")


if __name__ == "__main__":
    main()
