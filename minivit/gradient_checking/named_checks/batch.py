"""Is an image treated as if it were alone?

A batch is many images in one array, on the first axis. A layer should compute for each what it would compute for a
batch of this one image: the result, and the gradient of the image; and the gradients of its parameters add up over the
images. Code breaks this in two ways: a leak, where an image reads another one; and a batch of one, whose axis vanishes
in `squeeze()` or is taken for another axis in a broadcast.

Batch norm in training mode, and losses that are a mean over the batch, mix images on purpose. So this check runs only
if it is named, and `independent=False` says that images may influence each other.

An input has a batch axis if its first axis is as long as that of the result, and image 0 of it matters to image 0 of
the result alone. That is measured, because a square weight has the same shape as a batch.
"""

import numpy as np

from ..trees import leaves, mapped
from .named_check import NOTE, OK, WRONG, DoesNotApply
from .subject import Subject, largest


def batch(subject: Subject) -> tuple[str, str]:
    """Run images of the batch alone: the first, the last and one more."""
    if subject.independent is False:
        raise DoesNotApply("images may influence each other (independent=False)")
    shapes = [x.shape for name, x in subject.reference.items() if name in subject.results.names.values()]
    count = shapes[0][0] if all(shapes) else 0
    if count < 2 or any(shape[0] != count for shape in shapes):
        raise DoesNotApply("the result has no batch of two or more images on its first axis")
    inputs = {name: x for name, x in subject.trial().inputs.arrays.items() if x.ndim and len(x) == count}
    if shapes[0] == (count,) and all(subject.function.inputs[name].ndim == 1 for name in inputs if name in
                                     subject.function.inputs):
        raise DoesNotApply("the inputs are vectors, not batches of them")
    split = {name for name in inputs if not _depends_on_first(subject, name)[1:].any()}
    if not split & set(subject.function.inputs):
        first = next((name for name in inputs if name in subject.function.inputs), None)
        if first is None:
            raise DoesNotApply(f"no input has {count} images on its first axis, as the result has")
        return NOTE, (f"images influence each other: {first}[0] changes more than the first image of the result; pass "
                       "independent=False if they may, as in batch norm")
    images = sorted({0, count - 1, int(subject.rng().integers(count))})
    for image in images:
        if said := _alone(subject, split, image):
            if subject.is_random():
                raise DoesNotApply("the forward draws random numbers, so an image alone gets others than in its batch")
            return (NOTE if "ends with" in said else WRONG), f"image {image} alone: {said}"
    return OK, f"images {', '.join(map(str, images))} alone give the same results and gradients"


def _depends_on_first(subject, name):
    """Return, for each image of the result, whether it depends on image 0 of an input."""
    def change(other, x):
        if other != name:
            return x
        x = x.copy()
        x[0] = 0.97 * subject.other_inputs(name, x[0]) if name in subject.function.inputs else x[-1]
        return x

    with np.errstate(all="ignore"):
        found = dict(leaves(subject.trial().forward(change)))
    depends = False
    for keys, label in subject.results.names.items():
        x = subject.reference[label]
        moved = np.abs(np.asarray(found[keys]) - x).reshape(len(x), -1).max(axis=1, initial=0.0)
        depends = depends | (moved > 1e-9 * largest(x))
    return depends


def _alone(subject, split, image):
    """Say how a batch of one image differs from this image in the batch; an empty string if it does not."""
    part = slice(image, image + 1)

    def cut(x):
        return x[part]

    def masked(x):
        return np.concatenate([np.zeros_like(x[:image]), x[part], np.zeros_like(x[image + 1:])])

    def in_the_batch(change=None):
        whole = subject.outcome(subject.trial(), change, _mapped(masked, subject.dy))
        return {name: x[part] if name in is_cut else x for name, x in whole.items()}

    is_cut = {*subject.results.names.values(), *(f"the gradient of {name}" for name in split)}
    expected = in_the_batch()
    try:
        found = subject.outcome(subject.trial(), lambda name, x: x[part] if name in split else x,
                                _mapped(cut, subject.dy))
    except Exception as error:
        return f"the step ends with {type(error).__name__}: {' '.join(str(error).split())}"
    return subject.difference(expected, found, in_the_batch)


def _mapped(function, dy):
    return mapped(lambda _, x: function(x) if isinstance(x, np.ndarray) else x, dy)
