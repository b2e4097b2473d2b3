"""Augmentation: each training picture is varied a little, anew at every step, so that the model cannot learn it by heart.

An *augmentation* is a list of named steps, written as a text: "crop,flip,cutmix:1:0.5" (see `pipeline`). `affine` turns, scales and
shifts; `move` crops and flips; `mix` cuts pieces out and mixes pictures and their targets. There is no backward: pixels are not learned.
"""

from .pipeline import STEPS, Augmentation

__all__ = ["STEPS", "Augmentation"]
