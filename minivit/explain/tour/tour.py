"""The tour of one image: every stage of a ViT, DeiT or Swin, forward and backward, with the numbers of this image.

Read `models/vit.py` before. The loss is the cross-entropy of one class, without label smoothing. Its gradient goes
backward through the same layers. `make_tour` returns what the scripts of the page draw.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ...common.sizes import pair
from ...layers import PatchEmbed
from ...models.deit import DeiT
from ...models.extended_vit import ExtendedViT
from ...models.swin import Swin
from ...models.vit import ViT
from ...ops import cross_entropy, softmax
from ...parallel.blas import blas_threads
from ..attention_maps import attention_grids, readout_maps, rollouts
from ..filters import position_similarity
from .blocks import FEW_PIXELS, MOST_NUMBERS, encode_block, heads_of, length, places, plan, tokens_of
from .numbers import Numbers
from .recording import Recording


def check_can_tour(model: Any) -> None:
    """Raise ValueError unless the model is a ViT, DeiT or Swin that fits into a page."""
    if isinstance(model, ExtendedViT):
        raise ValueError("no tour of an ExtendedViT: pass a ViT, a DeiT or a Swin")
    if not isinstance(model, ViT | Swin):
        raise ValueError(f"no tour of a {type(model).__name__}: it has no attention; pass a ViT, a DeiT or a Swin")
    if plan(model).numbers > MOST_NUMBERS:
        raise ValueError(f"no tour of this {type(model).__name__}: its {model.tokens:,} tokens do not fit into a page; "
                         "take a model for smaller images")


def make_tour(model: Any, image: np.ndarray, target: int | None = None, class_names: Sequence[str] | None = None,
              threads: int = 1) -> tuple[dict[str, Any], Numbers]:
    """Run one image through a model, forward and backward, and return all stages.

    Parameters
    ----------
    model : Model
        A ViT, DeiT or Swin.
    image : np.ndarray
        (H, W, C) uint8.
    target : int, optional
        The class of the loss. Default: the predicted class.
    class_names : sequence of str, optional
        Default: the numbers of the classes.
    threads : int
        Number of threads of each matrix product. More than one seldom helps, as they wait for each other.

    Returns
    -------
    tour : dict
        For JSON. An array in it is an entry of `numbers`.
    numbers : Numbers
        The arrays.

    Raises
    ------
    ValueError
        If the model is of another family, or the image does not fit it.
    """
    check_can_tour(model)
    with blas_threads(threads):
        return _make_tour(model, image, target, list(class_names or map(str, range(model.classes))))


def _make_tour(model, image, target, names):
    """Compute and encode all stages."""
    recording, numbers, kept = Recording(model), Numbers(), plan(model)
    logits = recording.forward(image[None])
    if not np.isfinite(logits).all():
        raise ValueError("the logits of the model are not finite, so there is no gradient: use other weights")
    predicted = int(logits[0].argmax())
    target = predicted if target is None else target
    loss, cache = cross_entropy.forward(logits, cross_entropy.targets([target], model.classes, dtype=model.dtype))
    where = list(places(recording.model))
    heads = [heads_of(place.block.attn) for place in where]           # before the backward clears the caches
    grids = list(attention_grids(recording.model).values())
    through = [readout_maps(one[:, None], grids[0])[0, 0]             # of the head's input, on the first grid
               for one in rollouts((place.block.attn.probabilities for place in where), grids)]
    dlogits = cross_entropy.backward(1.0, cache)
    dimage = recording.backward(dlogits)[0]
    blocks = []
    for place, grid, one, flow in zip(where, grids, heads, through, strict=True):
        chosen = _most_important(one.q.shape[1], grid, through[-1], kept.tokens)
        block = encode_block(recording, place, grid, one, chosen, kept, numbers)
        blocks.append(block | {"rollout": numbers.add(flow)})
    tour = {
        "model": _facts(model), "classes": names, "target": target, "predicted": predicted, "loss": _rounded(loss),
        "logits": _rounded(logits[0]), "heads": _head_logits(recording), "dlogits": _rounded(dlogits[0]),
        "probabilities": _rounded(softmax.forward(logits)[0][0]),
        "pixels": numbers.add_whole(image) if image.size <= FEW_PIXELS else None,
        "dpixels": numbers.add((dimage / model.std).sum(axis=-1)), "gradient": length(dimage),
        "embedding": _embedding(recording, blocks[0]["vectors"]["tokens"], numbers), "blocks": blocks,
        "pooled": _pooled(recording, numbers), "parameters": _parameters(recording.model),
        "kept": {"keys": kept.keys, "tokens": kept.tokens},
    }
    return tour, numbers


def _rounded(x: Any) -> Any:
    """Return a number, or an array as a list, with seven digits."""
    if np.ndim(x):
        return [_rounded(entry) for entry in x]
    return float(f"{float(x):.7g}")


def _facts(model: Any) -> dict[str, Any]:
    """Return the sizes of the model, and which variant of each stage it has."""
    config = model.config
    return {
        "family": type(model).__name__, "text": repr(model), "size": list(model.image_size), "channels": model.channels,
        "patch": list(pair(config["patch_size"])), "grid": list(model.grid), "tokens": model.tokens,
        "width": model.width,
        "prefix": ["class token", "distillation token"][:getattr(model, "prefix", 0)],
        "stem": config.get("stem", "patch"), "positions": config.get("positions", "none"),
        "pool": "token" if getattr(model, "prefix", 0) else "mean",
        "mean": model.mean.tolist(), "std": model.std.tolist(),
    }


def _most_important(tokens: int, grid: tuple[int, int], importance: np.ndarray, count: int | None) -> np.ndarray:
    """Return the tokens whose vectors are kept: class tokens, then patches by rollout, `count` in all.

    grid: rows and columns of the patches. importance: (R, S), rollout on the first grid. A token of a later grid has
    the sum of the tokens that it stands for.
    """
    if count is None or count >= tokens:
        return np.arange(tokens)
    (rows, columns), prefix = grid, tokens - math.prod(grid)
    merged = 1
    while -(-len(importance) // merged) > rows or -(-importance.shape[1] // merged) > columns:
        merged *= 2
    own = np.zeros(grid)
    np.add.at(own, tuple(places // merged for places in np.indices(importance.shape)), importance)
    return np.array([*range(prefix), *(prefix + np.argsort(-own.ravel(), kind="stable"))][:count], int)


def _embedding(recording: Recording, chosen: list[int], numbers: Numbers) -> dict[str, Any]:
    """Return the stages before the blocks: the embedded patches, class tokens and positions."""
    model, outputs, doutputs = recording.model, recording.outputs, recording.doutputs
    embedded, prefix = tokens_of(outputs["patch_embed"]), getattr(model, "prefix", 0)
    patches = [token for token in chosen if token >= prefix]
    entry = {
        "norms": numbers.add(np.linalg.norm(embedded, axis=-1)), "gradient": length(doutputs["patch_embed"]),
        "dnorms": numbers.add(np.linalg.norm(tokens_of(doutputs["patch_embed"]), axis=-1)),
        "vectors": numbers.add(embedded[[token - prefix for token in patches]]), "tokens": patches,
        "linear": isinstance(model.patch_embed, PatchEmbed),
        "stream_gradient": length(doutputs["pos_drop"]),
    }
    positions = None if isinstance(model, Swin) else model._positions()
    if positions is not None:
        similarity = position_similarity(positions, model.grid).reshape(2 * (math.prod(model.grid),))
        entry |= {"positions": numbers.add(positions[chosen]), "position_tokens": chosen,
                  "similarity": numbers.add(similarity[[token - prefix for token in patches]])}
    if prefix:
        entry["prefix"] = numbers.add(np.stack([token.data for token in model.prefix_tokens]))
    return entry


def _pooled(recording: Recording, numbers: Numbers) -> dict[str, Any]:
    """Return what the classifier reads, (n, D), and the norm of its gradient. A Swin's norm comes before the mean."""
    model = recording.model
    name = "fc_norm" if getattr(model, "fc_norm", None) else "norm"
    y, dy = recording.outputs[name], recording.doutputs[name]
    if isinstance(model, Swin):
        y = tokens_of(y).mean(axis=0, dtype=np.float64)
    return {"vectors": numbers.add(y.reshape(-1, y.shape[-1])), "gradient": length(dy)}


def _head_logits(recording: Recording) -> Any:
    """Return the logits of both classifiers of a DeiT; None for other models."""
    if not isinstance(recording.model, DeiT):
        return None
    return [_rounded(recording.outputs[name].ravel()) for name in ("head", "head_dist")]


def _parameters(model: Any) -> list[Mapping[str, Any]]:
    """Return the name, the shape, and the norms of the values and of the gradient of each parameter."""
    return [{"name": p.name, "shape": list(p.shape), "weight": length(p.data), "gradient": length(p.grad)}
            for p in model.parameters()]
