"""What the rest of the package asks of a model: its size, its grids, a check of a gradient, a line and a table.

`model.py` builds on it. Nothing here is needed to understand a model.
"""

from typing import Any

import numpy as np

from ..layers import Layer, RelativeBias, WindowAttention


class ModelInterface(Layer):
    """The base of `Model`, with a default for everything that some models do differently."""

    tokens: int | None = None
    grid: tuple[int, int]                                             # rows and columns of patches, if there are any
    prefix: int = 0                                                   # tokens before those of the patches
    config: dict[str, Any]
    classes: int

    def check_gradient(self, dlogits: np.ndarray, batch: int) -> None:
        """Raise ValueError unless dlogits have the shape of the logits of a batch."""
        if dlogits.shape != (batch, self.classes):
            raise ValueError(f"dlogits must be {(batch, self.classes)}, as the forward's logits, not {dlogits.shape}")

    @property
    def flops(self) -> int:
        """Floating-point operations of the matrix products for one image, forward: two for each multiply-add."""
        raise NotImplementedError

    @property
    def matmul_rows(self) -> int:
        """Rows that one image adds to a matrix product of a typical block. They decide how a batch is split."""
        return self.tokens or 1

    def forward_heads(self, images: np.ndarray) -> np.ndarray:
        """images (B, H, W, C) -> logits of each classifier (B, n, K). Most models have n = 1; see `DeiT`."""
        return self.forward(images)[:, None]

    def backward_heads(self, dheads: np.ndarray) -> np.ndarray:
        """dheads (B, n, K) -> dimages (B, H, W, C)."""
        return self.backward(dheads[:, 0])

    def position_grids(self) -> dict[str, tuple[int, int, int, int]]:
        """Return the parameters that lie on a grid and can be resized: {name: (rows, columns, first, last)}.

        The `first` rows of such an array, and the `last` ones, do not belong to the grid. These are the learned
        positions, and the tables of relative position biases.
        """
        positions = getattr(self, "pos_embed", None)
        grids = {positions.name: (*self.grid, self.prefix, 0)} if positions else {}
        for _, layer in self.named_layers():
            if isinstance(layer, RelativeBias):
                rows, columns, prefix = layer.grid
                grids[layer.relative_position_bias_table.name] = 2 * rows - 1, 2 * columns - 1, 0, 3 * bool(prefix)
            elif isinstance(layer, WindowAttention):
                rows, columns = layer.window
                grids[layer.relative_position_bias_table.name] = 2 * rows - 1, 2 * columns - 1, 0, 0
        return grids

    def features(self, images: np.ndarray, tokens: bool = False, threads: int | None = None) -> np.ndarray:
        """Return what the classifier reads of each image, computed on all cores.

        Features of similar images are similar. So they serve for search, clustering and other classifiers.

        Parameters
        ----------
        images : np.ndarray
            Images (B, H, W, C), as for `predict`, also of another size.
        tokens : bool
            Whether to return all tokens before the pooling: of a ViT or DeiT those after the last block, with the class
            tokens first and the final norm if it comes before the pooling; of a Swin or ResNet those of the last stage
            after the norm, row by row.
        threads : int, optional
            Number of threads. Default: the cores of this process.

        Returns
        -------
        features : np.ndarray
            (B, D), or with `tokens` (B, N, D). A DeiT has two classifiers; it returns the mean of what they read.

        Raises
        ------
        TypeError, ValueError
            As `check`.
        """
        from .features import features_of
        return features_of(self, images, tokens, threads)

    def summary(self, depth: int = 2) -> Any:
        """Return a table of the layers with output shapes, parameters and FLOPs; see `summary.summarise`."""
        from .summary import summarise
        return summarise(self, depth)

    def __repr__(self) -> str:
        from .summary import one_line
        return one_line(self)

    def _repr_html_(self) -> str:
        return self.summary()._repr_html_()
