"""The logits of an ONNX file in onnxruntime, against those of the model that it was made from."""

import numpy as np

from ...models.model import Model


def largest_difference(content: bytes, model: Model, images: int = 4, seed: int = 0) -> float | None:
    """Run an ONNX model on random images.

    Parameters
    ----------
    content : bytes
        An ONNX file, as `make_onnx` returns it.
    model : Model
        The model that it was made from.
    images : int
        Size of the batch of random pixels.
    seed : int
        Seed of the pixels.

    Returns
    -------
    float or None
        The largest difference of a logit, relative to the largest logit; None without onnxruntime.
    """
    try:
        import onnxruntime
    except ImportError:
        return None
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3                                    # errors only
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    pixels = np.random.default_rng(seed).integers(0, 256, (images, *model.input_shape)).astype(np.uint8)
    takes_bytes = session.get_inputs()[0].type == "tensor(uint8)"
    [logits] = session.run(["logits"], {"images": pixels if takes_bytes else pixels.astype(np.float32) / 255})
    expected = model.predict(pixels)
    return float(np.abs(logits - expected).max() / max(np.abs(expected).max(), np.finfo(np.float32).tiny))
