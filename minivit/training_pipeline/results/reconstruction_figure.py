"""What a masked autoencoder predicts: images, what it sees of them, and its reconstructions, as an image file."""

from os import PathLike
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from ...common.figures import new_figure, save
from ...models.masked_autoencoder import MaskedAutoencoder
from ...ops import patches, reconstruction

COLUMNS = 10                                                          # images, at most
GREY = 0.5                                                            # the colour of a hidden pixel, 0 to 1


def plot_reconstructions(autoencoder: Any, images: np.ndarray, path: str | PathLike) -> None:
    """Draw the first of some images (B, H, W, C), with hidden patches, and reconstructed, to an image file."""
    save(reconstruction_figure(autoencoder, images[:COLUMNS]), path)


def reconstruct_images(autoencoder: MaskedAutoencoder, images: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return images, what the autoencoder sees of them, and its reconstructions: (B, H, W, C), pixels from 0 to 1.

    A reconstruction has the visible patches as they are. If the autoencoder predicts normalised pixels, the mean and
    the standard deviation of each hidden patch are taken from the image, as in the figures of the paper.
    """
    view = autoencoder.inference_view()
    prediction, pixels, hidden = view.reconstruct(images)
    if autoencoder.normalise:
        mean = pixels.mean(axis=-1, keepdims=True)
        prediction = prediction * np.sqrt(pixels.var(axis=-1, keepdims=True) + reconstruction.EPS) + mean

    def as_images(x):
        whole = patches.unpatchify(x, autoencoder.patch_size, images.shape)
        return (whole * autoencoder.std + autoencoder.mean).clip(0, 1)

    is_hidden = hidden[..., None] > 0
    seen = as_images(np.where(is_hidden, np.nan, pixels))
    return as_images(pixels), np.where(np.isnan(seen), GREY, seen), as_images(np.where(is_hidden, prediction, pixels))


def reconstruction_figure(autoencoder: MaskedAutoencoder, images: np.ndarray) -> Figure:
    """Return the figure: a column for each image, a row for each of the results of `reconstruct_images`."""
    height, width = images.shape[1:3]
    figure = new_figure(1.0 * len(images) + 1.2, 3.2 * max(0.4, min(height / width, 2.5)) + 0.2)
    grid = figure.subplots(3, len(images), squeeze=False)
    names = ("image", "visible", "prediction")
    for row, name, batch in zip(grid, names, reconstruct_images(autoencoder, images), strict=True):
        for axes, image in zip(row, batch, strict=True):
            axes.imshow(image[..., :3] if image.shape[-1] > 1 else image[..., 0], cmap="gray", vmin=0, vmax=1)
            axes.set(xticks=[], yticks=[])
            axes.spines[:].set_visible(False)
        row[0].set_ylabel(name, rotation=0, ha="right", va="center", fontsize=11)
    return figure
