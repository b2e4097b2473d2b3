"""An augmentation: transforms by name, applied one after the other.

    "crop,flip:0.5,cutmix:1:0.3"         transform,transform,...; the numbers after a colon are its parameters, in order

A lane asks for the images of its micro-batch (see `parallel/lanes.py`). Each transform receives them as the
transforms before it left them. A transform that mixes images (mixup, cutmix) takes each image's partner from the
whole batch. The partner has gone through the same earlier transforms, with the random numbers of its own index in the
batch. So an augmented image is the same, bit for bit, whichever lane asks for it and however the batch is split. The
price: the transforms before a mixing one run again for the partners. To limit that, give the mixing transform a
probability, or put it first.

Images that are hidden, mixed or distorted teach much, but differ from the images that the model will see. So the last
steps of a training may leave out the strong transforms (cutout, erase, mixup, cutmix, randaugment), and keep the others
(`strong_steps`). Which transforms act depends only on the number of the step, so a resumed run does the same.
Source: Ge et al., "YOLOX", arXiv:2107.08430, section 2.2; He et al., "Data Augmentation Revisited", arXiv:1909.09148.
"""

import inspect
import math

import numpy as np

from ...common.checks import check_name
from ...ops import philox
from .affine import Affine
from .crop_flip import AlternatingFlip, Crop, Flip
from .erase import Cutout, Erase
from .mix import CutMix, Mixup
from .randaugment import RandAugment
from .transform import Transform

TRANSFORMS: dict[str, type[Transform]] = {
    "affine": Affine, "crop": Crop, "flip": Flip, "alternating-flip": AlternatingFlip, "cutout": Cutout, "erase": Erase,
    "mixup": Mixup, "cutmix": CutMix, "randaugment": RandAugment,
}


def without_strong(text: str) -> str:
    """Return the text without the transforms that hide, mix or distort images.

    >>> without_strong("crop:0.1,cutout,flip")
    'crop:0.1,flip'
    """
    return ",".join(word for word in _words(text) if not _parse(word).strong) or "none"


class Augmentation:
    """Apply the transforms that `text` names to training images.

    Parameters
    ----------
    text : str
        Such as "crop,flip,cutmix:1:0.3". "none" stands for no transforms.
    strong_steps : int, optional
        In how many steps, the first ones, the strong transforms act. Default: all.

    Raises
    ------
    ValueError
        For an unknown transform, too many parameters, or one that is out of range.

    Examples
    --------
    >>> Augmentation("crop:0.1,flip").transforms
    [Crop(reach=0.1), Flip(probability=0.5)]
    """

    def __init__(self, text: str = "none", strong_steps: int | None = None) -> None:
        words = _words(text)
        self.transforms = [_parse(word) for word in words]
        self.streams = [(philox.stream("augment") + i) % 2**32 for i in range(len(words))]
        self.strong_steps = math.inf if strong_steps is None else strong_steps

    def __call__(self, images: np.ndarray, targets: np.ndarray, rng: philox.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Augment some images of a batch.

        Parameters
        ----------
        images : (B, H, W, C) uint8
            The whole batch. It is not modified.
        targets : (B, K)
            Class probabilities of each image.
        rng : philox.Generator
            Its `samples` are the indices of the n images to augment.

        Returns
        -------
        (n, H, W, C) uint8, (n, K)
            The augmented images of `rng.samples`, and their targets.

        Raises
        ------
        TypeError
            If the images are not uint8.
        """
        if images.dtype != np.uint8:
            raise TypeError(f"augmentation needs uint8 pixels, not {images.dtype}")
        return self._first(len(self.transforms), images, targets, rng)

    @property
    def flips(self) -> bool:
        """Whether images are flipped left to right. If so, a flipped image is of the same class."""
        return any(isinstance(transform, Flip | AlternatingFlip) for transform in self.transforms)

    def _first(self, count, images, targets, rng):
        """Return the samples of `rng` after the first `count` transforms."""
        if count == 0:
            return images[rng.samples], targets[rng.samples]

        def partners(samples):
            return self._first(count - 1, images, targets, rng.for_samples(samples))

        before = self._first(count - 1, images, targets, rng)
        if self.transforms[count - 1].strong and rng.step >= self.strong_steps:
            return before
        return self.transforms[count - 1](*before, rng, self.streams[count - 1], partners)


def _words(text):
    """The texts of the single transforms."""
    return [] if text.strip() in ("", "none") else [word.strip() for word in text.split(",")]


def _parse(word):
    """Return the transform that one word of the text describes, such as "cutout:0.4:0.5"."""
    name, *numbers = word.split(":")
    transform = TRANSFORMS[check_name("augmentation transform", name.strip(), [*TRANSFORMS])]
    names = list(inspect.signature(transform).parameters)
    usage = ":".join([name, *map(str.upper, names)])
    if len(numbers) > len(names):
        raise ValueError(f"{word!r}: {name} takes at most {len(names)} parameters, not {len(numbers)}; write {usage}")
    try:
        values = [float(number) for number in numbers]
    except ValueError:
        raise ValueError(f"the parameters in {word!r} must be numbers: write {usage}") from None
    return transform(*values)
