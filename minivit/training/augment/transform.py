"""The base class of the transforms of an augmentation, and what several of them use."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ...common.checks import check_number
from ...ops.philox import Generator

Samples = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]       # indices in the batch -> images, targets


@dataclass(frozen=True)
class Transform:
    """Base class: a random change of images, and of their targets where the change calls for it.

    A transform that changes each image alone overrides `apply`. A transform that mixes images overrides `__call__`.

    Attributes
    ----------
    strong : bool
        Whether it hides, mixes or distorts images so much that the last epochs may do better without it.
    """

    strong: ClassVar[bool] = False

    def apply(self, images: np.ndarray, rng: Generator, stream: int) -> np.ndarray:
        """Change each image alone.

        Parameters
        ----------
        images : (B, H, W, C) uint8
            The images of the samples of `rng`. They are not modified.
        rng : Generator
            Random numbers of each sample.
        stream : int
            Number of this transform's random stream.

        Returns
        -------
        (B, H, W, C) uint8
            A fresh array.
        """
        raise NotImplementedError

    def __call__(self, images: np.ndarray, targets: np.ndarray, rng: Generator, stream: int,
                 partners: Samples) -> tuple[np.ndarray, np.ndarray]:
        """Change images and targets.

        Parameters
        ----------
        images, rng, stream
            As for `apply`.
        targets : (B, K)
            Class probabilities of each image.
        partners : function
            Maps indices of samples of the whole batch to their images and targets, as they are before this transform.

        Returns
        -------
        (B, H, W, C) uint8, (B, K)
            Fresh images, and the targets.
        """
        return self.apply(images, rng, stream), targets


def check_fields(transform: Transform, **bounds: tuple[float, float]) -> None:
    """Raise ValueError if a field of the transform lies outside its bounds (least, most)."""
    for name, (least, most) in bounds.items():
        kind = f"{name} of {type(transform).__name__.lower()}"
        check_number(kind, getattr(transform, name), least=least, most=most)


def select(probability: float, rng: Generator, stream: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Select samples of `rng` at random.

    Parameters
    ----------
    probability : float
        Probability that a sample is selected.
    rng, stream
        As for `Transform.apply`.
    count : int
        How many random numbers to draw for each sample. The first decides whether the sample is selected.

    Returns
    -------
    u : (n, count) float64
        The random numbers in [0, 1) of the n selected samples.
    selected : (n,) int
        Their positions among the samples of `rng`.
    """
    u = rng.uniform(stream, count).astype(np.float64)
    selected = np.flatnonzero(u[:, 0] < probability)
    return u[selected], selected
