"""The explanation of one class: which patches and pixels raise its logit.

Attention maps (`attention_maps.py`) are the same for every class. Two maps of a class c, both from one backward that
starts with a gradient of 1 for its logit y_c:

    relevance          R = I before the first layer;  R <- R + A R in each, with A = mean over heads of max(0, P * dP)
    gradient x input   sum over channels of x * dy_c/dx, for each pixel x, normalised

P (B, h, N, N) are the probabilities of attention, dP = dy_c/dP. The product P * dP says how much each weight of the
attention adds to y_c, to first order; negative ones are left out. A R adds what a token has gathered from other tokens
before, and R what it had already: the residual connection. Where a Swin merges tokens, rows of R are averaged.

The map is what the pooling reads of R. The class token reads its own row; the two tokens of a DeiT the mean of theirs.
A mean of all tokens is an attention with P = 1/N, so it reads row n with the weight max(0, z_n . dy_c/dz_n), where z_n
are the tokens that are averaged. The columns of class tokens and other tokens without a place are left out.

To get dP, the gradient of the output of attention is taken back through its last linear map: y = P v W + b, so
dP = (dy W^T) v^T, head by head.

Read before: `attention_maps.py`, `ops/attention.py`. Sources: Chefer et al., "Generic Attention-model Explainability",
arXiv:2103.15679, for class tokens (the extension to means and to merging is ours); Shrikumar et al., arXiv:1605.01713,
for the gradient.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..common.checks import check_number
from ..layers import WindowAttention
from ..models.deit import DeiT
from ..ops import windows
from ..ops.attention import per_head, split_heads
from .attention_maps import attention_grids, attention_probabilities, merged
from .tour.recording import Recording


def class_relevance(model: Any, images: np.ndarray, classes: int | Sequence[int]) -> np.ndarray:
    """Return how much attention to each patch raises the logit of a class: gradient-weighted attention rollout.

    Parameters
    ----------
    model : Model
        A ViT, DeiT or Swin.
    images : np.ndarray
        Images (B, H, W, C), as for `forward`.
    classes : int or sequence of int
        The class, from 0, of all images or of each.

    Returns
    -------
    relevance : np.ndarray
        (B, R, S), at least 0, on the grid of patches.

    Raises
    ------
    ValueError
        If the model has no attention, a class is out of range, or there are not as many classes as images.
    """
    return explain_class(model, images, classes)[0]


def gradient_times_input(model: Any, images: np.ndarray, classes: int | Sequence[int]) -> np.ndarray:
    """Return the product of each pixel and the gradient of a class's logit with respect to it.

    Parameters
    ----------
    model : Model
        Any model.
    images, classes
        As for `class_relevance`.

    Returns
    -------
    product : np.ndarray
        (B, H, W), the sum over channels. The pixels are those normalised, so a pixel of the mean has the product 0.

    Raises
    ------
    ValueError
        If a class is out of range, or there are not as many classes as images.
    """
    if not len(images):
        return gradient_times_input(model, _stand_in(model, images, classes), 0)[:0]
    replica = model.replica()
    x = replica.prepare(images)
    logits = replica.forward(images)
    return (x * replica.backward(_start(logits, classes))).sum(axis=-1)


def explain_class(model: Any, images: np.ndarray, classes: int | Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """Return both maps, `class_relevance` and `gradient_times_input`, from one backward."""
    if not len(images):
        relevance, product = explain_class(model, _stand_in(model, images, classes), 0)
        return relevance[:0], product[:0]
    recording = Recording(model)
    logits = recording.forward(images)
    layers = {path: layer for path, layer in recording.model.named_layers() if hasattr(type(layer), "probabilities")}
    if not layers:
        attention_probabilities(model, images[:1])                    # raises the error for a model without attention
    kept = {path: _kept(layer) for path, layer in layers.items()}     # before the backward clears the caches
    dimages = recording.backward(_start(logits, classes))
    grids, before = attention_grids(recording.model), None
    through: Any = None
    for path, layer in layers.items():
        weights = _weights(recording, path, layer, *kept[path])       # (B, N, N)
        N = weights.shape[-1]
        through = np.eye(N, dtype=weights.dtype)[None] if through is None else merged(through, N, before)
        through, before = through + weights @ through, grids[path]
    read = _read(recording, through)                                  # (B, N)
    rows, columns = next(iter(grids.values()))
    relevance = read[:, read.shape[1] - rows * columns:].reshape(-1, rows, columns)
    return relevance, (recording.model.prepare(images) * dimages).sum(axis=-1)


def _stand_in(model: Any, images: np.ndarray, classes: int | Sequence[int]) -> np.ndarray:
    """Return a black image in place of no images, because some layers need at least one. Raises ValueError."""
    model.check(images)
    _start(np.empty((0, model.classes)), classes)                     # checks the classes
    return np.zeros((1, *model.input_shape), np.uint8)


def _start(logits: np.ndarray, classes: int | Sequence[int]) -> np.ndarray:
    """Return the gradient to start from, (B, K): 1 for the class of each image. Raises ValueError."""
    (B, K), given = logits.shape, np.asarray(classes)
    if given.shape not in ((), (B,)):
        raise ValueError(f"classes must be one class, or a list of one for each of the {B} images, but has the shape "
                         f"{given.shape}")
    chosen = np.broadcast_to(given, B)
    for k in chosen.tolist():
        check_number("class", k, least=0, most=K - 1, whole=True)
    dlogits = np.zeros_like(logits)
    dlogits[np.arange(B), chosen.astype(np.intp)] = 1
    return dlogits


def _kept(layer: Any) -> tuple[np.ndarray, Any]:
    """Return the probabilities of a layer's last forward, and the places of its windows (None without)."""
    if isinstance(layer, WindowAttention):
        places, _, attended = layer.cache
        return np.array(attended[1]), places
    return np.array(layer.probabilities), None


def _weights(recording: Recording, path: str, layer: Any, probs: np.ndarray, places: Any) -> np.ndarray:
    """Return A (B, N, N): the mean over heads of max(0, P * dP)."""
    product = np.maximum(probs * attention_gradient(recording, path, layer), 0)
    if places is not None:
        product = windows.to_full_attention(product, places)
    return product.mean(axis=1)


def attention_gradient(recording: Recording, path: str, layer: Any) -> np.ndarray:
    """Return dP of the layer with attention at this path, (B, h, N, N), or (B G, h, n, n) in windows.

    The recording must have run forward and backward.
    """
    dy = recording.doutputs[f"{path}.proj"] @ layer.proj.weight.data.T              # y = (P v) W + b
    _, _, v = split_heads(recording.outputs[f"{path}.qkv"], layer.heads)
    return per_head(dy, layer.heads) @ v.swapaxes(-1, -2)                           # y = P v


def _read(recording: Recording, through: np.ndarray) -> np.ndarray:
    """Return what the pooling reads of rows (B, n, N): (B, N)."""
    model = recording.model
    if getattr(model, "pool", "mean") == "token":
        return through[:, :2 if isinstance(model, DeiT) else 1].mean(axis=1)
    last = "norm" if model.norm else f"blocks.{len(model.blocks) - 1}"    # what is averaged
    z, dz = (store[last] for store in (recording.outputs, recording.doutputs))
    weights = np.maximum((z * dz).sum(axis=-1), 0).reshape(len(z), 1, -1)
    return (weights @ through)[:, 0]
