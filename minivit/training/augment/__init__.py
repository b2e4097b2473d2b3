"""Data augmentation: each training image is changed a little, differently at every step.

A model that sees the same images in every epoch starts to memorise them. Random changes that keep the class (a small
shift, a flip) make that harder, so the model generalises better. Only training images are augmented, never validation
or test images.

An augmentation is a list of *transforms*, written as a text such as "crop,flip,cutmix:1:0.5". The files:

    pipeline     `Augmentation`: reads the text and applies the transforms
    transform    `Transform`: the base class
    affine       rotate, scale and shift
    crop_flip    crop and flip
    erase        cutout and random erasing: a part of the image is hidden
    mix          mixup and cutmix: two images and their targets are mixed
    randaugment  RandAugment: some changes drawn from a list

There is no backward: no gradient with respect to the pixels is needed.
"""

from .pipeline import TRANSFORMS, Augmentation, without_strong

__all__ = ["TRANSFORMS", "Augmentation", "without_strong"]
