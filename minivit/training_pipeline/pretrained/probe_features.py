"""Features for a linear probe: the input of the head for each image, computed once and kept in the run.

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

from ...common.version import __version__
from ...models.create import family_of
from ...models.linear_probe import Backbone
from ...models.model import Model
from ...parallel.batch_split import MICRO_BATCH_ROWS
from ...parallel.prediction import predict
from ...parallel.ranks.alone import ALONE, Alone
from ...parallel.threads import Workers
from ...weight_formats.match import HEADS
from ...weight_formats.safetensors_io import read_metadata, read_tensors, write_tensors
from ..checkpoints import Interrupted, StopRequest
from ..folder import RunFolder
from ..progress import progress_bar

BLOCK_ROWS = 8 * MICRO_BATCH_ROWS      # matrix rows of the images that are computed between two looks at the clock


def features(model: Model, parts: Mapping[str, np.ndarray], run: RunFolder | None = None, threads: int | None = None,
             seconds: float = 60.0, progress: bool = True, ranks: Alone = ALONE) -> dict[str, np.ndarray]:
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
    ranks : Alone
        Those that share the work. Only rank 0 saves.

    Returns
    -------
    {name: (B, 1, h, D)}

    Raises
    ------
    Interrupted
        At SIGINT or SIGTERM, after saving, if there is a run.
    OSError
    """
    backbone, threads = Backbone(model), Workers(threads).threads
    store = _Store(run, backbone, model, parts, progress, ranks)
    with store.bar, StopRequest(active=run is not None, ranks=ranks) as request:
        try:
            _compute(backbone, parts, store, threads, seconds, request)
        except KeyboardInterrupt:
            if not run:
                raise
            count = sum(map(len, store.save().values()))
            raise Interrupted(f"stopped after the features of {count} of {store.bar.total:.0f} images, which are "
                              f"saved; resume with: {run.resume_command()}", request.signal or signal.SIGINT) from None
    return store.save()


def _compute(backbone, parts, store, threads, seconds, request):
    """Compute the features that are missing. Raises KeyboardInterrupt if the process was asked to stop."""
    saved = time.monotonic()
    for part, images in parts.items():
        for a in range(len(store.done[part][0]), len(images), store.step):
            block = images[a:a + store.step]
            # always in lanes, so that threads do not change the bits
            store.add(part, predict(backbone, block, min(threads, len(block)), store.ranks))
            if time.monotonic() - saved >= seconds:
                store.save()
                saved = time.monotonic()
            if request.agree() is not None:
                raise KeyboardInterrupt


class _Store:
    """The features computed so far, in the folder of a run if there is one, and a bar that shows their number."""

    def __init__(self, run, backbone, model, parts, progress, ranks):
        self.ranks, self.run, self.shape = ranks, run, (1, backbone.heads, backbone.classes // backbone.heads)
        # blocks are always split at the same places, for the same bits
        self.step = max(1, BLOCK_ROWS // backbone.matmul_rows)
        self.key = ranks.broadcast(_key(model, parts) if run and ranks.first else None)
        found = _kept(run, self.key, parts, self.step) if run else {}
        if len({str(counts) for counts in ranks.allgather({part: len(x) for part, x in found.items()})}) > 1:
            found = {}                                                # a machine sees an older file: all begin again
        self.done = {part: [found.get(part, np.empty((0, *self.shape), backbone.dtype))] for part in parts}
        self.bar = progress_bar(progress, total=sum(map(len, parts.values())), desc="features", unit=" images",
                                initial=sum(len(blocks[0]) for blocks in self.done.values()), dynamic_ncols=True)
        self.lines = progress and bool(self.bar.disable)              # read now: closing the bar disables it too

    def add(self, part, rows):
        """Add the features (B, h D) of a block of images."""
        self.done[part].append(rows.reshape(-1, *self.shape))
        self.bar.update(len(rows))

    def save(self):
        """Write the features so far, and return them."""
        so_far = {part: np.concatenate(blocks) for part, blocks in self.done.items()}
        if self.run and self.ranks.first:
            write_tensors(self.run.features_file, so_far, {"minivit": json.dumps({"key": self.key})})
        if self.lines:
            self.bar.write(f"features: {sum(map(len, so_far.values()))} of {self.bar.total} images", file=sys.stderr)
        return so_far


def backbone_digest(model: Model, version: str = __version__) -> str:
    """Return a hash of the model and all its weights but those of the head, on which the features depend.

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
        for a in range(0, len(images), 1024):
            key.update(np.ascontiguousarray(images[a:a + 1024]).reshape(-1).data)
    return key.hexdigest()


def _kept(run, key, parts, step):
    """The saved features; none if they are of other images or weights, or their file is damaged."""
    with suppress(OSError, ValueError, KeyError, TypeError):
        if json.loads(read_metadata(run.features_file)["minivit"])["key"] == key:
            found = {part: np.array(kept) for part, kept in read_tensors(run.features_file)[0].items()}
            return {part: x if len(x) == len(parts[part]) else x[:len(x) // step * step] for part, x in found.items()}
    return {}
