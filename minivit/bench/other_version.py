"""The process of another version of minivit, such as an older one. `minivit bench --against ENVIRONMENT` starts it.

    ENVIRONMENT/bin/python other_version.py THREADS FOLDER

It runs in the other version's environment. So it uses nothing of this package, and only what every version has.
"""

import json
import sys
import time
from pathlib import Path

import numpy as np

import minivit


def make(folder, threads):
    """Return functions for a training step and for the logits of the batch in `folder`."""
    shape = json.loads((folder / "shape.json").read_text())
    model = minivit.create_model(shape["family"], **shape["config"])
    with np.load(folder / "weights.npz") as weights, np.load(folder / "batch.npz") as batch:
        images, labels = batch["images"], batch["labels"]
        for parameter in model.parameters():
            parameter.data = weights[parameter.name]
    trainer = minivit.Trainer(model, lr=1e-4, weight_decay=0.05, label_smoothing=0, threads=threads)
    return {"train": lambda: trainer.step(images, labels), "infer": lambda: model.predict(images, threads)}


def burst(work, seconds):
    """Repeat `work` for about this many seconds, at least twice, and return the seconds of each call."""
    times: list[float] = []
    end = time.perf_counter() + seconds
    while len(times) < 2 or time.perf_counter() < end:
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return times


def peak_memory():
    """Return the peak memory of this process in bytes; None if the system does not tell."""
    try:
        import resource
    except ImportError:
        return None
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def serve(threads, folder):
    """Answer the driver: one JSON line for each of its lines."""
    works = make(folder, threads)
    for line in sys.stdin:
        verb, seconds = line.split()
        if verb == "logits":
            answer = works["infer"]().tolist()
        elif verb == "memory":
            answer = peak_memory()
        else:
            answer = burst(works[verb], float(seconds))
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    serve(int(sys.argv[1]), Path(sys.argv[2]))
