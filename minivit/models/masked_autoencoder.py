"""A masked autoencoder: a Vision Transformer that learns from images without labels, by guessing hidden patches.

Read `vit.py`, `ops/hiding.py`, `ops/picking.py`, `ops/filling.py` and `ops/reconstruction.py` before. Most patches of
an image are hidden. The *encoder*, a ViT without its classifier, sees the others. A light *decoder* then predicts the
pixels of the hidden patches. To guess them, the encoder must know what such images show. After this *pre-training* the
decoder is thrown away, and the encoder is fine-tuned on few labels. With V visible patches:

    x = stem(hide(image)) + E_pos                      (B, M, D)       hidden pixels are 0
    z = blocks(pick([x_class; x]))                     (B, 1 + V, D)   no token of a hidden patch
    u = fill(LN(z) E_dec, mask token) + E_pos'         (B, 1 + M, D')  fixed sin-cos positions
    p = LN(blocks'(u)) E_pixels                        (B, M, P Q C)   the pixels of each patch

Two choices differ from the paper. The pixels are hidden before the stem, because a convolutional stem looks across the
borders of patches; for a linear patch embedding this changes nothing. And the encoder may have a relative position
bias: each image takes the entries of its visible tokens.

A replica of a lane draws new patches for each image in each step. The model itself always hides the same ones in the
image at the same place of a batch, so its forward is deterministic.

Source: He et al., "Masked Autoencoders Are Scalable Vision Learners", arXiv:2111.06377.
"""

import numpy as np

from ..common.checks import check_number
from ..kernel import constant
from ..layers import Block, Dropout, LayerNorm, Linear, Parameter
from ..layers.initializers import normal
from ..layers.relative_bias import RelativeBias
from ..ops import filling, hiding, patches, philox, picking, sincos, tokens
from .linear_probe import Identity
from .model import Model
from .vit import ViT

HEAD_WIDTH = 16         # least width of a head of the decoder


class HiddenPatches(Dropout):
    """Chooses the patches that are hidden: images (B, ...) -> hidden (B, M), 1 for a hidden patch, else 0.

    Parameters
    ----------
    patches, hidden : int
        M, and how many of them are hidden in each image.
    """

    def __init__(self, patches: int, hidden: int) -> None:
        super().__init__(0.0)
        self.patches, self.hidden = patches, hidden

    def forward(self, x: np.ndarray) -> np.ndarray:
        """images (B, ...) -> hidden (B, M) of their dtype."""
        rng = self.rng or philox.Generator(0, samples=np.arange(len(x)))      # a model by itself is deterministic
        return hiding.choose(rng.uniform(self.stream, self.patches), self.hidden, x.dtype)


class MaskedAutoencoder(Model):
    """A masked autoencoder: images (B, H, W, C) -> predicted pixels of their patches (B, M, P Q C).

    Parameters
    ----------
    model : ViT
        The model to pre-train. The encoder starts with a copy of its weights; see `give_weights`.
    mask_ratio : float
        Fraction of the patches that are hidden, above 0 and below 1.
    decoder_width, decoder_depth : int
        Width D' (default: about half of the encoder's) and number of blocks of the decoder.
    normalise : bool
        Whether the pixels to predict are normalised within each patch.
    seed : int
        Seed of the decoder's weights.

    Raises
    ------
    ValueError
        If the model is not a ViT, or an option is out of range.
    """

    def __init__(self, model: ViT, mask_ratio: float = 0.75, decoder_width: int | None = None, decoder_depth: int = 1,
                 normalise: bool = True, seed: int = 0) -> None:
        if type(model) is not ViT:
            raise ValueError(f"pre-training needs a model of the family vit, not {type(model).__name__}: pass another "
                             "one, such as vit_mini")
        check_number("mask ratio", mask_ratio, above=0, below=1)
        super().__init__({name: model.config[name] for name in ("image_size", "channels", "classes", "mean", "std")})
        self.patch_size, self.tokens = model.patch_embed.patch_size, model.tokens
        self.prefix, self.normalise = model.prefix, bool(normalise)
        M = model.tokens - model.prefix
        hidden = min(max(1, round(mask_ratio * M)), M - 1)
        self.visible, self.choice = M - hidden, HiddenPatches(M, hidden)

        self.encoder = ViT(**(model.config | {"drop_rate": 0.0, "drop_path_rate": 0.0}))
        self.encoder.blocks[-1].set_output_tokens(None)               # the decoder reads all tokens
        self.encoder.head = Identity()  # type: ignore[assignment]

        width = decoder_width or 4 * HEAD_WIDTH * max(1, round(model.width / (8 * HEAD_WIDTH)))
        heads = max(1, width // (2 * HEAD_WIDTH))
        self.decoder_embed = Linear(model.width, width)
        self.mask_token = Parameter((width,), normal)
        self.decoder_positions = sincos.sincos_2d(*model.grid, width, model.prefix)
        self.decoder_blocks = [Block(width, heads, 2) for _ in range(decoder_depth)]
        self.decoder_norm = LayerNorm(width)
        self.decoder_pred = Linear(width, self.patch_size[0] * self.patch_size[1] * model.channels)
        own = {p.name for p in self.encoder.parameters()}
        self.pack(model.dtype, seed,
                  {f"encoder.{p.name}": p.data for p in model.parameters() if p.name in own})

    def give_weights(self, model: ViT) -> None:
        """Copy the weights of the encoder to the model that is pre-trained. Its classifier stays as it was."""
        targets = {f"encoder.{p.name}": p for p in model.parameters()}
        for p in self.encoder.parameters():
            targets[p.name].data = p.data

    def reconstruct(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Predict the patches of images of which most are hidden.

        Parameters
        ----------
        images : np.ndarray
            Images (B, H, W, C), as for `forward`.

        Returns
        -------
        prediction, pixels : np.ndarray
            (B, M, P Q C): what the model predicts, and the normalised pixels of the images.
        hidden : np.ndarray
            (B, M), 1 for a hidden patch and 0 for a visible one.
        """
        x = self.prepare(images)
        pixels = patches.patchify(x, self.patch_size)                 # (B, M, P Q C)
        hidden = self.choice.forward(x)                               # (B, M)
        x, hid = hiding.forward(x, hidden, self.patch_size)
        x, encoded = self._encode(x, hidden)                          # (B, T + V, D)
        x = self.decoder_embed.forward(x)
        x, filled = filling.forward(x, self.mask_token.data, hidden, self.visible)
        x = x + constant(self.decoder_positions.astype(self.dtype))   # (B, T + M, D')
        for block in self.decoder_blocks:
            x = block.forward(x)
        prediction = self.decoder_pred.forward(self.decoder_norm.forward(x))
        self.cache = hid, encoded, filled
        return prediction[:, self.prefix:].copy(), pixels, hidden

    def forward(self, images: np.ndarray) -> np.ndarray:
        """images (B, H, W, C) -> predicted pixels (B, M, P Q C)."""
        return self.reconstruct(images)[0]

    def backward(self, dprediction: np.ndarray) -> np.ndarray:
        """dprediction (B, M, P Q C) -> dimages (B, H, W, C), which is 0 for hidden pixels."""
        hid, encoded, filled = self.pop_cache()
        before = [np.zeros_like(dprediction[:, :1])] * self.prefix    # nothing is predicted from a class token
        dx = np.concatenate([*before, dprediction], axis=1) if before else dprediction
        dx = self.decoder_norm.backward(self.decoder_pred.backward(dx))
        for block in reversed(self.decoder_blocks):
            dx = block.backward(dx)
        dx, self.mask_token.grad = filling.backward(dx, filled)
        dx = self._encode_backward(self.decoder_embed.backward(dx), encoded)
        return hiding.backward(dx, hid)

    def _encode(self, x: np.ndarray, hidden: np.ndarray) -> tuple[np.ndarray, tuple]:
        """images (B, H, W, C) without their hidden pixels, hidden (B, M) -> tokens (B, T + V, D), and the caches."""
        encoder = self.encoder
        x = encoder.patch_embed.forward(x)                            # (B, M, D)
        prefix = np.stack([token.data for token in encoder.prefix_tokens]) if self.prefix else None
        x, embedded = tokens.forward(x, prefix, encoder._positions())
        x, picked = picking.forward(x, hidden, self.visible)          # (B, T + V, D)
        self._tell_biases((hidden, self.visible))
        for block in encoder.blocks:
            x = block.forward(x)
        return encoder._final_norm.forward(x), (embedded, picked)

    def _encode_backward(self, dx: np.ndarray, cache: tuple) -> np.ndarray:
        """dtokens (B, T + V, D), the caches of `_encode` -> dimages (B, H, W, C)."""
        encoder, (embedded, picked) = self.encoder, cache
        dx = encoder._final_norm.backward(dx)
        for block in reversed(encoder.blocks):
            dx = block.backward(dx)
        self._tell_biases(())                                         # a record must not keep the array any longer
        dx, dprefix, dpositions = tokens.backward(picking.backward(dx, picked), embedded)
        for token, dtoken in zip(encoder.prefix_tokens, dprefix if self.prefix else (), strict=True):
            token.grad = dtoken
        if encoder.pos_embed:
            encoder.pos_embed.grad = dpositions
        return encoder.patch_embed.backward(dx)

    def _tell_biases(self, hidden):
        """Tell the relative biases of the encoder which tokens are left out."""
        for _, layer in self.encoder.named_layers():
            if isinstance(layer, RelativeBias):
                layer.hidden = hidden

