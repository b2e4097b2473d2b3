"""Measure how much attention weights depend on the image. The weights of a convolution never do.

    python demos/08_dynamic_connectivity.py            Fashion-MNIST, downloaded if necessary: about two minutes
    python demos/08_dynamic_connectivity.py --quick    the embedded digits: about ten seconds

Prints the share of the attention weights that depends on the image. Draws dynamic_connectivity.png: where a trained
model looks, the filters of its first layer, and the similarity of its position embeddings.
`minivit attend RUN IMAGE --out PNG` shows every head of every layer of a run.
"""

import argparse

import numpy as np

import minivit
from minivit.explain import attention_probabilities, position_similarity, principal_filters, receptive_field, variation
from minivit.explain.tools.attention_report import attention_reports
from minivit.explain.tools.plots import draw_connectivity
from minivit.layers import Convolution
from minivit.training_pipeline.defaults.default_model import model_for


def shares(model, images):
    """Return {layer: share of its attention weights that depends on the image}."""
    return {f"layer {l + 1}": variation(probs) for l,
            probs in enumerate(attention_probabilities(model, images).values())}


def share_of_a_convolution(images):
    """Return the same share for a convolution. Its weights around the middle pixel are read from its gradient."""
    layer, middle = Convolution(images.shape[-1], 1, padding=1), images.shape[1] // 2
    x = images.astype(np.float32) / 255
    return variation(np.stack([receptive_field(layer, image[None], (middle, middle)) for image in x]))


def similarity_by_distance(similarity):
    """Return the mean similarity of the positions of neighbouring patches, and of all other pairs."""
    side = len(similarity)
    y, x = (place.ravel() for place in np.indices((side, side)))
    steps, alike = abs(y[:, None] - y) + abs(x[:, None] - x), similarity.reshape(side * side, -1)
    return alike[steps == 1].mean(), alike[steps > 1].mean()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="use the digits, which need no download")
    parser.add_argument("--out", default="dynamic_connectivity.png", help="the image file to write")
    options = parser.parse_args()

    data = minivit.load_data("digits" if options.quick else "fashion-mnist")
    name = "vit_mini_patch2_8" if options.quick else "vit_mini_patch4_28"
    model = model_for(data, name, position_std=0.02, drop_path_rate=0.0)
    images = data.test_images[:256]
    untrained = np.mean(list(shares(model, images).values()))
    settings = {"batch_size": 32} if options.quick else {"batch_size": 128, "augment": "crop:0.07,alternating-flip",
                                                         "ema": 0.998}
    result = minivit.train(model, data, epochs=2, progress=not options.quick, **settings)
    found = shares(model, images) | {"convolution": share_of_a_convolution(images)}
    layers = ", ".join(f"{share:.0%} in {layer}" for layer, share in list(found.items())[:-1])
    print(f"Share of the attention weights that depends on the image: {untrained:.0%} before training. After training "
          f"(accuracy {result.accuracy:.1%}): {layers}. Share of a convolution's weights: {found['convolution']:.0%}.")
    count = min(16, model.patch_embed.proj.weight.shape[0])
    filters, variances = principal_filters(model, count)
    similarity = position_similarity(model.pos_embed.data)
    near, far = similarity_by_distance(similarity)
    half = int(np.searchsorted(variances.cumsum(), 0.5)) + 1
    print(f"The first {half} of {len(model.patch_embed.proj.weight.data)} principal components hold half of the "
          "variance of the first layer's filters.")
    print(f"Mean cosine similarity of positions: {near:.2f} between neighbouring patches, {far:.2f} between others.")
    if options.quick:
        print("With --quick the model trains too little for conclusions.")
    chosen = [int(np.flatnonzero(data.test_labels == k)[0]) for k in (0, 1, 5, 7, 8, 9)]
    reports = attention_reports(model, data.test_images[chosen], class_names=data.class_names)
    draw_connectivity(reports, found, filters, variances, similarity, options.out)
    print(f"Figure: {options.out}")


if __name__ == "__main__":
    main()
