"""minivit: a Vision Transformer written by hand in NumPy.

Every forward and backward is written by hand, every gradient is checked numerically, and training is fast on a CPU.

    model = minivit.create_model("vit_mini", image_size=28)          a model by name
    result = minivit.train(model, "fashion-mnist", out="runs/a")     train it on data
    model = minivit.load("runs/a")                                   load the trained model
    logits = model.predict(images)                                   classify images
    report = minivit.gradcheck(model, images)                        check its gradients, or those of your own layer

The shape alphabet, in every file:

    B  images in a batch            H W C  image height, width, channels (channels are last)
    P  side of a patch, in pixels   M  patches of an image
    N  tokens of an image, class token included
    D  width of a token             F  width of the MLP
    h  attention heads              d  width of a head, D / h
    L  number of blocks             K  classes

A forward maps x to y, its backward maps dy to dx. dx is dLoss/dx and has the shape of x. The shape of a weight is
(in, out), so code reads `x @ weight + bias`.

To learn how it works, read in this order:

    plain.py             a whole Vision Transformer, its backward and AdamW in plain NumPy
    ops/                 one chapter for each operation: equation, derivation, reference, fast version
    layers/              layers hold the weights, and store in the forward what the backward needs
    models/vit.py        the paper's architecture
    parallel/            how a batch is split into lanes, which train on all cores
    training/            trainer, AdamW, learning rate schedule, loop

`docs/architecture.md` describes the other folders.
"""

import importlib
from typing import TYPE_CHECKING, Any

from .common.version import __version__ as __version__

if TYPE_CHECKING:                                                     # static tools read these; they are never run
    from . import explain, layers, models, ops
    from .data import load_data
    from .gradient_checking import gradcheck
    from .models import create_model
    from .scikit_learn.estimator import ViTClassifier as ViTClassifier
    from .training.settings import TrainingSettings
    from .training.trainer import Trainer
    from .training_pipeline.pretraining import pretrain
    from .training_pipeline.results.trained_model import load
    from .training_pipeline.train import train

# without ViTClassifier, so that `from minivit import *` works without scikit-learn
__all__ = ["Trainer", "TrainingSettings", "create_model", "explain", "gradcheck", "layers", "load", "load_data",
           "models", "ops", "pretrain", "train"]

_MODULES = {
    "Trainer": "training.trainer",
    "TrainingSettings": "training.settings",
    "ViTClassifier": "scikit_learn.estimator",
    "create_model": "models",
    "explain": "explain",
    "gradcheck": "gradient_checking",
    "layers": "layers",
    "load": "training_pipeline.results.trained_model",
    "load_data": "data",
    "models": "models",
    "ops": "ops",
    "pretrain": "training_pipeline.pretraining",
    "train": "training_pipeline.train",
}


if not TYPE_CHECKING:                                                 # so static tools report a misspelt name

    def __getattr__(name: str) -> Any:
        """Import a public name when it is first used, so that `import minivit` and `minivit --help` answer at once."""
        if name not in _MODULES:
            raise AttributeError(f"module 'minivit' has no attribute {name!r}; it has {', '.join(_MODULES)}")
        try:
            module = importlib.import_module(f"minivit.{_MODULES[name]}")
        except ImportError as error:
            if name != "ViTClassifier":
                raise
            return _placeholder(name, error)
        value = globals()[name] = module if _MODULES[name] == name else getattr(module, name)
        return value


def _placeholder(name: str, error: ImportError) -> type:
    """Return a class that stands in for one that cannot be imported. Making an instance raises the error.

    So `help(minivit)`, `hasattr` and `inspect.getmembers` work without the optional dependencies.
    """
    def refuse(*_: object, **__: object) -> None:
        raise ImportError(str(error))

    return type(name, (), {"__new__": refuse, "__doc__": str(error), "__module__": "minivit"})


def __dir__() -> list[str]:
    """List the public names, the submodules that are imported, and the module's own attributes."""
    return sorted({*globals(), *_MODULES} - {"Any", "TYPE_CHECKING", "importlib", "_placeholder", "_MODULES"})
