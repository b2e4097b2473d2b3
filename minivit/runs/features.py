"""What the trunk of a model makes of pictures, for a probe: computed once, and kept in the run until it ends.

An epoch of a probe takes moments, but the features before the first take what a forward of every picture takes, which may be hours. So
they are saved as they come, and an interrupted run computes only what it lacks.
"""

import json
import signal
import sys
import time
from contextlib import suppress
from hashlib import sha256

import numpy as np
from tqdm import tqdm

from .. import __version__
from ..models.create import family_of
from ..models.linear_probe import Backbone
from ..parallel.batch_split import MICRO_BATCH_ROWS
from ..parallel.prediction import predict
from ..parallel.threads import Workers
from ..weights.match import HEADS
from ..weights.safetensors_io import read_metadata, read_tensors, write_tensors
from .checkpoints import Interrupted, StopRequest

BLOCK_ROWS = 8 * MICRO_BATCH_ROWS      # of the pictures that go through the trunk between two looks at the clock


def features(model, parts, run=None, threads=None, seconds=60.0, progress=True):
    """What the classifiers of a model read: {part: images (B, H, W, C)} -> {part: features (B, 1, h, D)}, with h classifiers.

    run: the Run in whose folder they are kept as they come, every so many `seconds`, and from where they are taken as far as they are
    there. progress: show a bar on stderr; where that is no terminal, a line every so many `seconds`. Raises `Interrupted` at SIGINT or
    SIGTERM, after saving, if there is a run; OSError.
    """
    trunk, saved = Backbone(model), time.monotonic()
    shape = (1, trunk.heads, trunk.classes // trunk.heads)
    step = max(1, BLOCK_ROWS // trunk.matmul_rows)                       # always cut in the same places, for the same bits
    key = _key(model, parts) if run else None
    threads = Workers(threads).threads
    found = _kept(run, key, parts, step) if run else {}
    done = {part: [found.get(part, np.empty((0, *shape), trunk.dtype))] for part in parts}

    def keep():
        whole = {part: np.concatenate(blocks) for part, blocks in done.items()}
        if run:
            write_tensors(run.features_file, whole, {"minivit": json.dumps({"key": key})})
        if without_bar:
            bar.write(f"features: {sum(map(len, whole.values()))} of {bar.total} images", file=sys.stderr)
        return whole

    bar = tqdm(total=sum(map(len, parts.values())), initial=sum(len(blocks[0]) for blocks in done.values()), desc="features",
               unit=" images", dynamic_ncols=True, disable=None if progress else True)    # None: it is where there is no terminal
    without_bar = progress and bool(bar.disable)                      # it is disabled when it is closed, too
    with bar, StopRequest(active=run is not None) as request:
        try:
            for part, images in parts.items():
                for a in range(len(done[part][0]), len(images), step):
                    block = images[a:a + step]                        # in lanes, however few: their bits do not depend on threads
                    done[part].append(predict(trunk, block, min(threads, len(block))).reshape(-1, *shape))
                    bar.update(len(done[part][-1]))
                    if time.monotonic() - saved >= seconds:
                        keep()
                        saved = time.monotonic()
                    if request.signal is not None:
                        raise KeyboardInterrupt
        except KeyboardInterrupt:
            if not run:
                raise
            count = sum(map(len, keep().values()))
            raise Interrupted(f"stopped after the features of {count} of {bar.total:.0f} images, which are saved; go on with: "
                              f"{run.resume_command()}", request.signal or signal.SIGINT) from None
    return keep()


def backbone_digest(model):
    """What a model's features depend on beside the pictures: what it is, and all its weights but the classifiers'."""
    key = sha256(json.dumps([family_of(model), model.config, model.dtype.name, __version__]).encode())
    for p in model.parameters():
        if not p.name.startswith(HEADS):
            key.update(np.ascontiguousarray(p.data.T).reshape(-1).data)    # a borrowed matrix lies so
    return key.hexdigest()


def _key(model, parts):
    key = sha256(json.dumps([backbone_digest(model), {part: images.shape for part, images in parts.items()}]).encode())
    for images in parts.values():
        key.update(np.ascontiguousarray(images).reshape(-1).data)
    return key.hexdigest()


def _kept(run, key, parts, step):
    """The features that are there already; none if they are of other pictures or weights, or their file is damaged."""
    with suppress(OSError, ValueError, KeyError, TypeError):
        if json.loads(read_metadata(run.features_file)["minivit"])["key"] == key:
            found = {part: np.array(kept) for part, kept in read_tensors(run.features_file)[0].items()}
            return {part: x if len(x) == len(parts[part]) else x[:len(x) // step * step] for part, x in found.items()}
    return {}
