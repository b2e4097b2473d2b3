"""What every model has: images in, logits out, the constants that normalise its pixels, and the settings that rebuild it."""

from typing import Any

import numpy as np

from ..common.checks import check_number
from ..layers import Layer
from ..ops import patches
from ..parallel import prediction


class Model(Layer):
    """Base of the models: (B, H, W, C) images -> (B, K) logits.

    `config` holds the arguments of the constructor; `mean` and `std` (C,) belong to pixels between 0 and 1. `input_shape` is (H, W, C),
    square; a model of something else than pictures sets another, such as (1, T, 1) for signals of T numbers. `tokens`: how many an
    image becomes; None if it stays a map.
    """

    tokens: Any = None

    def __init__(self, config):
        whole = {"image_size", "patch_size", "channels", "classes", "width", "depth", "depths", "heads", "window"}
        for name in config.keys() & whole:
            many = isinstance(config[name], list | tuple)             # one for each stage
            numbers = [check_number(name, n, least=1, whole=True) for n in (config[name] if many else [config[name]])]
            config[name] = numbers if many else numbers[0]
        self.config = config
        self.image_size, self.channels, self.classes = config["image_size"], config["channels"], config["classes"]
        self.input_shape = (self.image_size, self.image_size, self.channels)
        self.mean, self.std = self._per_channel("mean"), self._per_channel("std")
        config["mean"], config["std"] = self.mean.tolist(), self.std.tolist()
        if not (self.std > 0).all():
            raise ValueError(f"std must be positive in every channel, not {config['std']}")

    def _per_channel(self, name):
        value = np.atleast_1d(np.asarray(self.config[name]))
        if value.shape not in ((1,), (self.channels,)) or value.dtype.kind not in "iuf" or not np.isfinite(value).all():
            raise ValueError(f"{name} must be one number, or one for each of the {self.channels} channels, not {value.tolist()}")
        return np.broadcast_to(value.astype(np.float64), (self.channels,))

    @property
    def matmul_rows(self):
        """The rows that one image adds to a matrix product of a typical block; lanes cut a batch by them. 1 if that is not known."""
        return self.tokens or 1

    @property
    def shares_tokens(self):
        """Whether the threads given to a reader can share the tokens of an image, see `layers/sequence_parallel.py`."""
        return False

    def position_grids(self):
        """The parameters that lie on a grid of places, so that they can be resized to another one:
        {name: (rows, columns, first, last)}, where `first` rows at the beginning of the array, and `last` at its end, belong to no place.
        """
        return {}

    def check(self, images):
        """Raise ValueError if the images are not (B, H, W, C) of this model or a float is not finite, TypeError for another dtype."""
        expected = self.input_shape
        if not isinstance(images, np.ndarray):
            raise TypeError(f"images must be a NumPy array (B, H, W, C), not {type(images).__name__}")
        if images.ndim != 4 or images.shape[1:] != expected:
            hint = "; for one image, pass image[None]" if images.shape == expected else ""
            raise ValueError(f"images must be (B, H, W, C) with (H, W, C) = {expected}, not {images.shape}{hint}")
        if images.dtype != np.uint8 and not np.issubdtype(images.dtype, np.floating):
            raise TypeError(f"images must be uint8 pixels or floats that are normalised already, not {images.dtype}")
        if images.dtype != np.uint8 and not np.isfinite(images).all():
            raise ValueError("images hold NaN or infinity")

    def prepare(self, images):
        """Images as the network takes them: uint8 pixels are normalised; floats, normalised already, get the weights' dtype.

        Errors as `check`.
        """
        self.check(images)
        if images.dtype == np.uint8:
            return patches.normalise(images, self.mean, self.std, self.dtype)
        return images.astype(self.dtype, copy=False)

    def check_gradient(self, dlogits, batch):
        """Raise ValueError unless dlogits have the shape of the logits of so many images."""
        if dlogits.shape != (batch, self.classes):
            raise ValueError(f"dlogits must be {(batch, self.classes)}, as the forward's logits, not {dlogits.shape}")

    def forward_heads(self: Any, images):
        """images (B, H, W, C) -> the logits of each classifier, (B, 1, K): most models have one. See `DeiT`."""
        return self.forward(images)[:, None]

    def backward_heads(self: Any, dheads):
        """dheads (B, 1, K) -> dimages (B, H, W, C)."""
        return self.backward(dheads[:, 0])

    def predict(self, images, threads=None):
        """Logits (B, K) of any number of images (B, H, W, C): `forward` in lanes, on all cores, keeping no cache.

        Errors as `check`.
        """
        self.check(images)
        return prediction.predict(self, images, threads)


def rising(last, count):
    """`count` numbers from 0 to `last`, in equal steps: the drop-path rates of a network's blocks."""
    return [last * l / max(1, count - 1) for l in range(count)]
