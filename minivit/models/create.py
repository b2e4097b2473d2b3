"""Models by name: a family with its sizes, a named variant, or a small model for any image size."""

import inspect
import os
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from ..common.checks import UnknownName, check_name, suggestion
from ..common.files import check_memory
from ..common.sizes import check_pair
from ..weight_formats.timm import read_weights
from .deit import DeiT
from .extended_vit import ExtendedViT, simplest_family
from .model import Model
from .resnet import ResNet
from .small import SMALL, default_image_size, fit
from .swin import Swin
from .timm_variants import not_built, split_tag
from .variants import CROPS, VARIANTS
from .vit import ViT

__all__ = ["CROPS", "FAMILIES", "VARIANTS", "check_model_memory", "check_model_name", "create_model", "declare_model",
           "describe_models", "family_of"]

LIST_OF_MODELS = "minivit.models.describe_models()"                   # as error messages name it
FAMILIES: dict[str, type[Model]] = {"vit": ViT, "deit": DeiT, "swin": Swin, "resnet": ResNet,
                                   "extended_vit": ExtendedViT}


def create_model(name: str, *, weights: str | os.PathLike | None = None, new_head: bool = False, seed: int = 0,
                 dtype: DTypeLike = np.float32, **options: Any) -> Any:
    """Make a model.

    Parameters
    ----------
    name : str
        A named variant, such as "vit_base_patch16_224"; a small model for any `image_size`, such as "vit_mini"
        (default: 8, for "resnet_mini" 28); or a family with its sizes as options: "vit", "deit", "swin", "resnet",
        "extended_vit". A named variant may have timm's tag, as in "vit_base_patch16_224.mae".
    weights : path, optional
        Pretrained weights: a safetensors file with timm's names, or Google's `.npz` of a Vision Transformer. Learned
        positions are resized to the image size. Default: random weights.
    new_head : bool
        Whether the classifier starts anew, for other classes.
    seed : int
        Seed of the random weights.
    dtype : dtype
        float32 to train, float64 to verify gradients.
    **options
        Options of the family, see `ViT`, `DeiT`, `Swin`, `ResNet` and `ExtendedViT`. They override those of a variant.
        A "vit" with options that only an `ExtendedViT` has, such as positions="rotary", is an `ExtendedViT`.

    Returns
    -------
    Model
        A `ViT`, `DeiT`, `Swin`, `ResNet` or `ExtendedViT`.

    Raises
    ------
    ValueError
        If a name is unknown, sizes do not fit each other, or the weights do not fit the model.
    FileNotFoundError
        If there is no file of weights.

    Examples
    --------
    >>> create_model("vit_mini", image_size=28)
    ViT(image_size=28, patch_size=4, width=64, depth=4, heads=4, classes=10), 139,018 parameters
    >>> create_model("vit_tiny_patch16_224").vector.size
    5717416
    """
    model = declare_model(name, **options)
    check_model_memory(model, dtype)
    if weights is None:
        return model.pack(dtype, seed)
    return model.pack(dtype, seed, read_weights(weights, model, new_head))


def declare_model(name: str, **options: Any) -> Any:
    """Return a model without memory for its weights, for example to count them. Arguments as for `create_model`."""
    name, of_tag = split_tag(check_model_name(name))
    options = of_tag | options
    small: dict[str, Any] = {}
    if name in SMALL:
        image_size = options.get("image_size", default_image_size(name))
        name, small = fit(name, check_pair("image_size", image_size), options.get("patch_size"))
        small = {"classes": 10} | small
    family, settings = VARIANTS.get(name, (name, {}))
    widest = "extended_vit" if family == "vit" else family            # a ViT with further options is an ExtendedViT
    arguments = inspect.signature(FAMILIES[widest]).parameters
    for option in options:
        check_name("model option", option, arguments)
    settings = small | settings | options
    missing = [a.name for a in arguments.values() if a.default is a.empty and a.name not in settings]
    if missing:
        raise ValueError(f"model {name!r} needs a value for {', '.join(missing)}")
    if family == "vit":
        family, settings = simplest_family({"class_token": settings.get("pool", "token") == "token"} | settings)
    return FAMILIES[family](**settings)


def check_model_memory(model: Model, dtype: DTypeLike = np.float32) -> None:
    """Raise ValueError if the weights of a model exceed this machine's memory."""
    check_memory("the model", np.dtype(dtype).itemsize * sum(p.size for p in model.parameters()))


def check_model_name(name: str, allow_families: bool = True) -> str:
    """Return `name` if a model has it; otherwise raise ValueError with the nearest name, if possible of the family."""
    known = [*(FAMILIES if allow_families else ()), *SMALL, *VARIANTS]
    plain = split_tag(str(name))[0]
    if name in known or plain in VARIANTS:
        return name
    if what := not_built(plain):
        raise ValueError(f"timm's {plain} needs what is not built here: {what}")
    family = next((family for family in FAMILIES if str(name).lower().startswith(family)), "")
    relatives = [one for one in known if one.startswith(family) and one not in FAMILIES]
    longer = [one for one in relatives if one.startswith(str(name).lower() or "-")]
    hint = f"did you mean {longer[0]!r}?" if longer else suggestion(name, relatives)
    raise UnknownName("model", name, [*known[:len(known) - len(VARIANTS)], f"and the names in {LIST_OF_MODELS}"], hint)


def family_of(model: Any) -> str | None:
    """Return the name of the family of a model; None for another class."""
    return next((name for name, cls in FAMILIES.items() if type(model) is cls), None)


def describe_models() -> list[dict[str, Any]]:
    """Return {name, tokens, parameters, flops} of every named variant, without allocating it.

    `flops` counts the forward of one image. `tokens` is None for a ResNet, which has none.
    """
    models = {name: declare_model(name) for name in VARIANTS}
    return [{"name": name, "tokens": m.tokens, "parameters": sum(p.size for p in m.parameters()), "flops": m.flops}
            for name, m in models.items()]
