"""minivit: a Vision Transformer written by hand in NumPy.

The shape alphabet, in every file:

    B  batch                 H W C  image height, width, channels (last)     P  side of a patch
    M  patches   N  tokens, class token included      D  width      h  heads      d = D / h      F  MLP width
    K  classes               L  depth

`x -> y` forward, `dy -> dx` backward: dx is dLoss/dx and has the shape of x. A weight is (in, out), so code reads
`x @ weight + bias`.

Read `ops/` (the mathematics), `layers/` (what remembers), `models/vit.py` (the paper), `parallel/` (the cores), `training/`.
"""

import importlib

__version__ = "0.2.0"

_PUBLIC = {
    "create_model": "models",
    "gradcheck": "testing",
    "Trainer": "training.trainer",
    "train": "runs.training_run",
    "TrainingSettings": "training.settings",
    "load": "runs.trained_model",
    "load_data": "data",
    "explain": "explain",
    "layers": "layers",
    "models": "models",
    "ops": "ops",
}
_EXTRA = {"ViTClassifier": "interop.scikit_learn"}                              # needs what is optional, so `import *` leaves it out
__all__ = list(_PUBLIC)


def __getattr__(name):
    # Public names are imported when they are first used, so that `import minivit` and `minivit --help` answer at once.
    place = (_PUBLIC | _EXTRA).get(name)
    if place is None:
        raise AttributeError(f"module 'minivit' has no attribute {name!r}; it has {', '.join([*_PUBLIC, *_EXTRA])}")
    module = importlib.import_module(f"minivit.{place}")
    value = globals()[name] = module if place == name else getattr(module, name)
    return value


def __dir__():
    return sorted({*globals(), *_PUBLIC, *_EXTRA})
