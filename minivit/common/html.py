"""Images as HTML elements that need no other file, for reports and notebooks."""

import base64
import html
import io

import numpy as np
from PIL import Image

LARGEST = 128           # longest side in pixels, so that pages stay small


def image_element(image: np.ndarray, words: str, width: int | None = None) -> str:
    """Return an image (H, W, C) as an HTML element with `words` as its alternative text.

    If C is neither 3 nor 4, only the first channel is shown. width: on the page, in pixels.
    """
    pillow = Image.fromarray(np.ascontiguousarray(image if image.shape[-1] in (3, 4) else image[..., 0]))
    pillow.thumbnail((LARGEST, LARGEST))
    text = html.escape(words, quote=True)
    size = f' width="{width}" style="image-rendering: pixelated"' if width else ""
    return f'<img class="image" alt="{text}"{size} src="{png_url(pillow)}">'


def png_url(pillow: Image.Image) -> str:
    """Return a Pillow image as a data URL."""
    file = io.BytesIO()
    pillow.save(file, format="PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode('ascii')}"
