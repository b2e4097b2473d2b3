"""An augmentation: steps by name, one after the other.

    "crop,flip:0.5,cutmix:1:0.3"         step,step,...; behind a colon the step's numbers, in their order

A lane asks for its share of the batch, and every step sees the share as the steps before it have left it. A step that mixes pictures
(mixup, cutmix) takes the partners from the whole batch: they are made by the same steps, with the random numbers of their own place in
the batch. So a picture comes out the same to the bit, whichever lane asks for it and however the batch is cut. The price is that
what stands before a mixing step is done again for the partners: give it a probability, or put it first.
"""

import inspect

import numpy as np

from ...common.checks import check_name
from ...ops import philox
from .affine import Affine
from .mix import CutMix, Cutout, Erase, Mixup
from .move import AlternatingFlip, Crop, Flip

STEPS = {"affine": Affine, "crop": Crop, "flip": Flip, "alternating-flip": AlternatingFlip, "cutout": Cutout, "erase": Erase,
         "mixup": Mixup, "cutmix": CutMix}


class Augmentation:
    """The augmentation that `text` describes; "none" has no steps.

    Raises ValueError for an unknown step, too many numbers, or one out of its range.
    """

    def __init__(self, text="none"):
        words = [] if text.strip() in ("", "none") else [word.strip() for word in text.split(",")]
        self.steps = [_step(word) for word in words]
        self.streams = [(philox.stream("augment") + i) % 2**32 for i in range(len(words))]

    def __call__(self, images, targets, rng):
        """Of a whole batch, images (B, H, W, C) uint8 and targets (B, K), the varied share (M, H, W, C), (M, K) of `rng.samples`.

        Raises TypeError for images of another dtype.
        """
        if images.dtype != np.uint8:
            raise TypeError(f"augmentation needs uint8 pixels, not {images.dtype}")
        return self._after(len(self.steps), images, targets, rng)

    @property
    def mirrors(self):
        """Whether some step mirrors pictures: then a mirrored one is of the same class."""
        return any(isinstance(step, Flip | AlternatingFlip) for step in self.steps)

    def _after(self, count, images, targets, rng):
        """The share of `rng` after the first `count` steps."""
        if count == 0:
            return images[rng.samples], targets[rng.samples]

        def others(samples):
            return self._after(count - 1, images, targets, rng.of(samples))

        share = self._after(count - 1, images, targets, rng)
        return self.steps[count - 1](*share, rng, self.streams[count - 1], others)


def _step(word):
    """The step of one word of the text, such as "cutout:0.4:0.5"."""
    name, *numbers = word.split(":")
    step = STEPS[check_name("step of augmentation", name.strip(), [*STEPS])]
    names = list(inspect.signature(step).parameters)
    if len(numbers) > len(names):
        raise ValueError(f"{word!r}: {name} takes {len(names)} numbers at most{': ' if names else ''}{', '.join(names)}")
    try:
        values = [float(number) for number in numbers]
    except ValueError:
        raise ValueError(f"{word!r}: behind a colon {name} takes numbers{': ' if names else ', but none'}{', '.join(names)}") from None
    return step(*values)
