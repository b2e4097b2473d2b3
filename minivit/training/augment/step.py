"""What a step of an augmentation is."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Step:
    """Base of the steps. One that changes each picture by itself needs `vary` alone; one that mixes them, `__call__`."""

    def vary(self, images, rng, stream):
        """images (M, H, W, C) uint8 of the samples of `rng`, a `philox.Generator` -> fresh ones. stream: of this step's random numbers."""
        raise NotImplementedError

    def __call__(self, images, targets, rng, stream, others):
        """images (M, H, W, C) uint8 and targets (M, K) of the samples of `rng` -> the same, varied.

        others: a function (samples) -> (images, targets) of any samples of the whole batch, as they are before this step.
        """
        return self.vary(images, rng, stream), targets
