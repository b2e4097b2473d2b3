"""Features for a linear probe: what the model without its head computes for each image, computed once and kept in the
run.

An epoch of a probe takes moments, but computing the features takes a forward pass for every image, which may take
hours. So they are saved at intervals, and an interrupted run computes only the features that are missing.
"""

import json
import signal
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from hashlib import sha256

import numpy as np

from .. import __version__
from ..models.create import family_of
from ..models.linear_probe import Backbone
from ..models.model import Model
from ..parallel.batch_split import MICRO_BATCH_ROWS
from ..parallel.prediction import predict
from ..parallel.threads import Workers
from ..weights.match import HEADS
from ..weights.safetensors_io import read_metadata, read_tensors, write_tensors
from .checkpoints import Interrupted, StopRequest
from .folder import RunFolder
from .progress import progress_bar

BLOCK_ROWS = 8 * MICRO_BATCH_ROWS      # matrix rows of the images that are computed between two looks at the clock


def features(model: Model, parts: Mapping[str, np.ndarray], run: RunFolder | None = None, threads: int | None = None,
             seconds: float = 60.0, progress: bool = True) -> dict[str, np.ndarray]:
    """Return the features of images, the input of the model's head.

    Parameters
    ----------
    model : Model
        With h heads, which is 1 except for DeiT.
    parts : {name: (B, H, W, C)}
        The images of each part of the data.
    run : RunFolder, optional
        Where the features are saved, and read as far as they are there already.
    threads : int, optional
    seconds : float
        Interval between two saves.
    progress : bool
        Whether to show a bar on stderr, or without a terminal a line at each save.

    Returns
    -------
    {name: (B, 1, h, D)}

    Raises
    ------
    Interrupted
        At SIGINT or SIGTERM, after saving, if there is a run.
    OSError
    """
    backbone, saved = Backbone(model), time.monotonic()
    shape = (1, backbone.heads, backbone.classes // backbone.heads)
    # blocks are always split at the same places, for the same bits
    step = max(1, BLOCK_ROWS // backbone.matmul_rows)
    key = _key(model, parts) if run else None
    threads = Workers(threads).threads
    found = _kept(run, key, parts, step) if run else {}
    done = {part: [found.get(part, np.empty((0, *shape), backbone.dtype))] for part in parts}

    def save():
        """Write the features so far, and return them."""
        so_far = {part: np.concatenate(blocks) for part, blocks in done.items()}
        if run:
            write_tensors(run.features_file, so_far, {"minivit": json.dumps({"key": key})})
        if lines:
            bar.write(f"features: {sum(map(len, so_far.values()))} of {bar.total} images", file=sys.stderr)
        return so_far

    bar = progress_bar(progress, total=sum(map(len, parts.values())),
                       initial=sum(len(blocks[0]) for blocks in done.values()),
                       desc="features", unit=" images", dynamic_ncols=True)
    lines = progress and bool(bar.disable)                            # read now: closing the bar disables it too
    with bar, StopRequest(active=run is not None) as request:
        try:
            for part, images in parts.items():
                for a in range(len(done[part][0]), len(images), step):
                    # always in lanes, so that threads do not change the bits
                    block = images[a:a + step]
                    done[part].append(predict(backbone, block, min(threads, len(block))).reshape(-1, *shape))
                    bar.update(len(done[part][-1]))
                    if time.monotonic() - saved >= seconds:
                        save()
                        saved = time.monotonic()
                    if request.signal is not None:
                        raise KeyboardInterrupt
        except KeyboardInterrupt:
            if not run:
                raise
            count = sum(map(len, save().values()))
            raise Interrupted(f"stopped after the features of {count} of {bar.total:.0f} images, which are saved; "
                              f"resume with: {run.resume_command()}", request.signal or signal.SIGINT) from None
    return save()


def backbone_digest(model: Model, version: str = __version__) -> str:
    """Return a hash of what the features depend on beside the images: the model and all its weights but those of the
    head.

    version: of the package that computes, or computed, the features.
    """
    key = sha256(json.dumps([family_of(model), model.config, model.dtype.name, version]).encode())
    for p in model.parameters():
        if not p.name.startswith(HEADS):
            key.update(np.ascontiguousarray(p.data.T).reshape(-1).data)    # the layout of a memory-mapped matrix
    return key.hexdigest()


def _key(model, parts):
    """A hash of the model and the images."""
    key = sha256(json.dumps([backbone_digest(model), {part: images.shape for part, images in parts.items()}]).encode())
    for images in parts.values():
        key.update(np.ascontiguousarray(images).reshape(-1).data)
    return key.hexdigest()


def _kept(run, key, parts, step):
    """The saved features; none if they are of other images or weights, or their file is damaged."""
    with suppress(OSError, ValueError, KeyError, TypeError):
        if json.loads(read_metadata(run.features_file)["minivit"])["key"] == key:
            found = {part: np.array(kept) for part, kept in read_tensors(run.features_file)[0].items()}
            return {part: x if len(x) == len(parts[part]) else x[:len(x) // step * step] for part, x in found.items()}
    return {}
