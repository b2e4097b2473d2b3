"""Theorems about the symmetries in `symmetry.py`, each with a function that measures its error.

The error is measured in float64, at random weights and inputs.

Where a theorem holds, the error is round-off. Where one of its conditions is broken, it is not.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ...layers import MLP, Attention, Block, PatchEmbed
from ...models import create_model
from ...ops import convolution
from ..partial_models import FirstBlocks, Sequential
from ..symmetry import (
    circular_convolution,
    equivariance_error,
    permute_patches,
    permute_tokens,
    shift,
    shift_tokens,
    unchanged,
)

HOLDS, BROKEN = 1e-12, 1e-3                                           # an error at most, and at least
WIDTH, HEADS, DEPTH, SIDE, PATCH = 24, 3, 4, 12, 3  # of the models and images; GRID x GRID patches
GRID = SIDE // PATCH


@dataclass(frozen=True)
class Theorem:
    """claim: in words. holds: whether it is true. error: function of a random generator -> the error of one trial."""

    claim: str
    holds: bool
    error: Callable

    def worst(self, trials: int = 5, seed: int = 0) -> float:
        """Return the largest error of some trials if the theorem holds, else the smallest."""
        errors = [self.error(np.random.default_rng([seed, trial])) for trial in range(trials)]
        return max(errors) if self.holds else min(errors)


def _random(layer, rng):
    """Return the layer in float64 with all weights random; initial zeros would hide what they multiply."""
    layer = layer.astype(np.float64)
    layer.vector[:] = 0.5 * rng.standard_normal(layer.vector.size)
    return layer


def _vit(rng, **options):
    """Make a small random ViT."""
    return _random(create_model("vit", image_size=SIDE, patch_size=PATCH, classes=5, width=WIDTH, heads=HEADS,
                                depth=DEPTH, **options), rng)


def _images(rng):
    """Make random images."""
    return rng.standard_normal((2, SIDE, SIDE, 3))


def _tokens_permuted(make):
    """Test that a layer (B, N, D) -> (B, N, D) is equivariant under permutations of the tokens."""
    def error(rng):
        layer = make(rng)
        return equivariance_error(layer.forward, permute_tokens(rng.permutation(GRID * GRID)),
                                  rng.standard_normal((2, GRID * GRID, WIDTH)))
    return error


def _patches_permuted(**options):
    """Test that a ViT's logits are invariant under permutations of the patches."""
    def error(rng):
        model = _vit(rng, **options)
        return equivariance_error(model.forward, permute_patches(rng.permutation(GRID * GRID), PATCH), _images(rng),
                                  unchanged)
    return error


def _image_shifted(pixels):
    """Test that a ViT without positions is equivariant under shifts, from the image to its last tokens."""
    def error(rng):
        encoder = FirstBlocks(_vit(rng, positions="none", pool="mean"), DEPTH)
        return equivariance_error(encoder.forward, shift(pixels, -pixels), _images(rng),
                                  shift_tokens(pixels // PATCH, -pixels // PATCH, (GRID, GRID)))
    return error


def _convolution_shifted(pixels, stride=1, circular=True, inside=False):
    """Test that a 3 x 3 convolution is equivariant under shifts of this many pixels right and down."""
    def error(rng):
        weight, bias = rng.standard_normal((3, 3, 3, 4)), rng.standard_normal(4)

        def f(x):
            if circular:
                return circular_convolution(x, weight, bias, stride)
            return convolution.forward(x, weight, bias, stride, 1)[0]

        # leave out pixels that came in at the other side, and those that depend on the padding
        margin = slice(pixels + 1, -1) if inside else slice(None)
        return equivariance_error(f, shift(pixels, pixels), _images(rng), shift(pixels // stride, pixels // stride),
                                  lambda y: y[:, margin, margin])
    return error


def _patch_embedding_shifted(rng):
    """Test that the patch embedding is equivariant under shifts by whole patches."""
    embed = _random(PatchEmbed(PATCH, 3, WIDTH), rng)
    return equivariance_error(embed.forward, shift(2 * PATCH, PATCH), _images(rng), shift_tokens(2, 1, (GRID, GRID)))


THEOREMS = [
    Theorem("self-attention, tokens permuted", True,
            _tokens_permuted(lambda rng: _random(Attention(WIDTH, HEADS), rng))),
    Theorem("MLP, tokens permuted", True, _tokens_permuted(lambda rng: _random(MLP(WIDTH, 2 * WIDTH), rng))),
    Theorem("block, tokens permuted", True, _tokens_permuted(lambda rng: _random(Block(WIDTH, HEADS), rng))),
    Theorem("encoder, tokens permuted", True,
            _tokens_permuted(lambda rng: Sequential([_random(Block(WIDTH, HEADS), rng) for _ in range(DEPTH)]))),
    Theorem("logits by class token, no positions, patches permuted", True,
            _patches_permuted(positions="none", pool="token")),
    Theorem("logits by mean, no positions, patches permuted", True, _patches_permuted(positions="none", pool="mean")),
    Theorem("the same with learned positions", False, _patches_permuted(positions="learned")),
    Theorem("the same with sin-cos positions", False, _patches_permuted(positions="sincos")),
    Theorem("the same with a relative bias", False, _patches_permuted(positions="none", relative_bias=True)),
    Theorem("convolution, periodic, shifted by 1", True, _convolution_shifted(1)),
    Theorem("convolution, zeros around, inside, shifted by 1", True,
            _convolution_shifted(1, circular=False, inside=True)),
    Theorem("convolution, zeros around, everywhere, shifted by 1", False, _convolution_shifted(1, circular=False)),
    Theorem("convolution of stride 3, periodic, shifted by 3", True, _convolution_shifted(3, stride=3)),
    Theorem("convolution of stride 3, periodic, shifted by 1", False, _convolution_shifted(1, stride=3)),
    Theorem("patch embedding, shifted by whole patches", True, _patch_embedding_shifted),
    Theorem("ViT without positions, shifted by a patch of 3", True, _image_shifted(PATCH)),
    Theorem("ViT without positions, shifted by 1", False, _image_shifted(1)),
]
