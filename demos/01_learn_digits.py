"""Train a Vision Transformer on handwritten digits and show the digits that it is least sure of.

    python demos/01_learn_digits.py            half a minute
    python demos/01_learn_digits.py --quick    a few seconds: too little training for conclusions

Prints the test accuracy before and after training. Draws learn_digits.png: the test digits with the lowest predicted
probability, and the attention of the class token over each of them.
"""

import argparse

import numpy as np

import minivit
from minivit.common.figures import new_figure, save
from minivit.explain import attention_probabilities, readout_maps
from minivit.ops import softmax
from minivit.training_pipeline.defaults.default_model import model_for


def class_token_attention(model, images):
    """Return the attention of the class token in the last block, the mean over heads: (B, rows, columns)."""
    *_, probs = attention_probabilities(model, images).values()
    return readout_maps(probs).mean(axis=1)


def draw(data, model, path):
    """Draw the twelve test digits with the lowest predicted probability, and the attention over them."""
    probabilities, _ = softmax.forward(model.predict(data.test_images))
    least_sure = np.argsort(probabilities.max(axis=1))[:12]
    attention = class_token_attention(model, data.test_images[least_sure])
    figure = new_figure(10, 4)
    figure.suptitle("The digits that the model is least sure of; red: where the class token looks")
    for axes, i, heat in zip(figure.subplots(2, 6).flat, least_sure, attention, strict=True):
        said, true = probabilities[i].argmax(), data.test_labels[i]
        ink = data.test_images[i, ..., 0] / 255
        red = np.kron(heat / heat.max(), np.ones((2, 2)))             # one patch is 2 x 2 pixels
        # The background is redder where the class token looks; the strokes are grey.
        paper = np.stack([np.ones_like(red), 1 - 0.7 * red, 1 - 0.7 * red], axis=-1)
        axes.imshow(paper * (1 - 0.85 * ink[..., None]))
        axes.set_title(f"predicted {said} ({probabilities[i, said]:.0%}), is {true}", fontsize=9,
                       color="k" if said == true else "tab:red")
        axes.set_axis_off()
    save(figure, path)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a few epochs only")
    parser.add_argument("--out", default="learn_digits.png", help="the image file to write")
    options = parser.parse_args()

    data = minivit.load_data("digits")
    model = model_for(data)
    before = (model.predict(data.test_images).argmax(axis=1) == data.test_labels).mean()
    result = minivit.train(model, data, epochs=3 if options.quick else 30)
    draw(data, model, options.out)
    if options.quick:
        print("With --quick the model trains too little for conclusions.")
    else:
        print(f"Accuracy on {result.test.images} test digits: {before:.1%} before training, {result.accuracy:.1%} "
              f"after {result.seconds:.0f} seconds.")
    print(f"Figure: {options.out}")


if __name__ == "__main__":
    main()
