"""A Vision Transformer as a scikit-learn estimator, with `fit`, `predict`, `score`, and grid search.

scikit-learn works on rows of numbers; the model takes uint8 images. `ImageFormat` converts between them:

    shape    a row of H W C numbers becomes (H, W, C) again
    size     zeros are added at the bottom and at the right, until patches divide the image
    pixels   the smallest number of the training set becomes 0, the largest 255; numbers beyond are clipped

Training is the same as in `minivit.train`, with the same settings, but without a folder.
"""

import inspect
import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Unpack

import numpy as np

from ..common.checks import check_number
from ..common.sizes import Size, check_pair
from ..data import Dataset
from ..models.small import fit
from ..ops import softmax
from ..training.settings import SETTINGS, TrainingSettings, default_settings
from ..training_pipeline.build_loop import build_loop, images_of
from ..training_pipeline.defaults.default_model import model_for
from ..training_pipeline.progress import Progress
from ..training_pipeline.run_settings import new_settings, read_arguments, training_data

try:
    from sklearn.base import BaseEstimator, ClassifierMixin
    from sklearn.utils import check_random_state
    from sklearn.utils.multiclass import check_classification_targets
    from sklearn.utils.validation import check_is_fitted, validate_data
except ImportError as error:
    text = f"ViTClassifier needs scikit-learn 1.6 or later: pip install 'minivit[sklearn]' ({error})"
    raise ImportError(text) from None

MODEL_OPTIONS = ("patch_size", "width", "depth", "heads", "mlp_ratio", "pool", "positions", "drop_rate",
                 "drop_path_rate")
SETTING_NAMES = tuple(name for name, setting in SETTINGS.items()        # random_state is the seed
                      if setting.stored and setting.group in ("optimisation", "augmentation") and name != "seed")


@dataclass(frozen=True)
class ImageFormat:
    """How arrays of numbers become uint8 images.

    Attributes
    ----------
    shape : (H, W, C)
        Shape of one image in the arrays.
    size : (int, int)
        Rows and columns of the images, in pixels.
    low, high : float
        The numbers that become 0 and 255.
    """

    shape: tuple[int, int, int]
    size: tuple[int, int]
    low: float
    high: float

    @classmethod
    def of(cls, X: np.ndarray, shape: Sequence[int] | None = None, patch_size: Size | None = None) -> "ImageFormat":
        """Return the format for a training set.

        Parameters
        ----------
        X : (B, H, W), (B, H, W, C) or (B, H W C)
        shape : (H, W) or (H, W, C), optional
            Shape of an image that is a row of X. Without it, a row is a grey image if its length is a square number, a
            colour image if a third of it is, and else the next larger square grey image, filled row by row.
        patch_size : int or (int, int), optional

        Raises
        ------
        ValueError
            If the shape does not fit.
        """
        if X.ndim > 4:
            raise ValueError(f"X must be (B, H, W), (B, H, W, C) or (B, H * W * C), not {X.shape}")
        given = None if shape is None else _checked_shape(shape)
        if X.ndim > 2:
            found = (*X.shape[1:], 1)[:3]
            if given is not None and given != found and not (len(shape or ()) == 2 and given[:2] == found[:2]):
                raise ValueError(f"image_shape is {tuple(shape or ())}, but X has images of shape {X.shape[1:]}")
            _warn_if_channels_first(X)
        elif given is None:
            found = _shape_of_row(X.shape[1])
        elif X.shape[1] != math.prod(given):
            raise ValueError(f"image_shape {given} does not fit the {X.shape[1]} features of X")
        else:
            found = given
        low, high = (0, 255) if X.dtype == np.uint8 else (X.min(), X.max())
        return cls(found, _padded(found[:2], patch_size), float(low), float(high))

    def convert(self, X: np.ndarray) -> np.ndarray:
        """Return X as images (B, *size, C) uint8.

        Raises ValueError if X has not the shape of the training set.
        """
        (H, W, C), size = self.shape, math.prod(self.shape)
        rows = X.reshape(len(X), -1)
        if rows.shape[1] > size or (X.ndim > 2 and (*X.shape[1:], 1)[:3] != self.shape):
            raise ValueError(f"X has images of shape {X.shape[1:]}, but those of fit had {self.shape}")
        images = np.zeros((len(X), *self.size, C), np.uint8)
        # in pieces, because float64 takes eight times as much memory
        for a in range(0, len(X), 1024):
            pixels = np.zeros((len(rows[a:a + 1024]), size))
            pixels[:, :rows.shape[1]] = self._scaled(rows[a:a + 1024].astype(np.float64))
            images[a:a + 1024, :H, :W] = np.rint(pixels).reshape(-1, H, W, C)
        return images

    def warn_of_another_range(self, X: np.ndarray) -> None:
        """Warn if the numbers of X have another scale than those of `fit`, such as 0..255 instead of 0..1."""
        low, high, span = X.min(initial=self.low), X.max(initial=self.high), self.high - self.low
        if span > 0 and (high > self.high + 4 * span or low < self.low - 4 * span):
            warnings.warn(f"X has numbers from {low:.4g} to {high:.4g}, but the X of fit had {self.low:.4g} to "
                          f"{self.high:.4g}; numbers beyond are clipped: scale X in the same way", stacklevel=3)
        elif X.size and span > 0 and X.max() - X.min() < span / 50:
            warnings.warn(f"X has numbers from {X.min():.4g} to {X.max():.4g}, but the X of fit had {self.low:.4g} to "
                          f"{self.high:.4g}: scale X in the same way", stacklevel=3)

    def _scaled(self, x):
        """Numbers scaled to 0..255. The differences are halved, because that of the largest numbers is infinite."""
        span = self.high / 2 - self.low / 2
        return np.clip(255 * ((x / 2 - self.low / 2) / span), 0, 255) if span > 0 else np.zeros_like(x)


def _checked_shape(shape):
    """(H, W) or (H, W, C) -> (H, W, C)."""
    shape = shape.tolist() if isinstance(shape, np.ndarray) else shape
    if isinstance(shape, str) or not isinstance(shape, Sequence) or len(shape) not in (2, 3):
        raise ValueError(f"image_shape must be (H, W) or (H, W, C), such as (28, 28), not {shape!r}")
    H, W, C = (check_number("image_shape", size, least=1, whole=True) for size in (*shape, 1)[:3])
    return H, W, C


def _warn_if_channels_first(X):
    """Warn if X (B, H, W, C) looks like (B, C, H, W)."""
    if X.ndim == 4 and X.shape[1] in (1, 3, 4) and X.shape[2] == X.shape[3] and X.shape[3] not in (1, 3, 4):
        warnings.warn(f"X has the shape {X.shape}, which looks like channels first (B, C, H, W), but is read as "
                      "channels last (B, H, W, C): pass X.transpose(0, 2, 3, 1)", stacklevel=5)


def _shape_of_row(length):
    """(H, W, C) of the image that is a row of `length` numbers."""
    side = math.isqrt(length)
    third = math.isqrt(length // 3)
    if side * side < length == 3 * third * third:
        return third, third, 3
    side += side * side < length
    return side, side, 1


def _padded(size, patch_size):
    """The smallest size, at least `size`, that patches divide: those given, or any that a small model can have.

    A square stays a square, and an image of one row has one row.
    """
    H, W = size
    if patch_size is not None:
        P, Q = check_pair("patch_size", patch_size)
        return -(-H // P) * P, -(-W // Q) * Q
    more = [(k, k) for k in range(64)] if H == W else [(m, n) for m in range(16 if H > 1 else 1)
                                                       for n in range(64 if W > 1 else 1)]
    sizes = [(H + m, W + n) for m, n in more]
    return next(one for one in sorted(sizes, key=lambda one: (math.prod(one), sum(one))) if _has_patches(one))


def _has_patches(size):
    """Whether a small model can have images of this size."""
    try:
        return bool(fit("vit", size))
    except ValueError:
        return False


class ViTClassifier(ClassifierMixin, BaseEstimator):
    """A Vision Transformer for arrays of images and labels of any type.

    Parameters
    ----------
    model : str, default=None
        A name of `minivit models`, or None for a small ViT that fits the size of the images.
    image_shape : tuple, default=None
        (H, W) or (H, W, C) of the images that are the rows of X, if they are not square.
    patch_size, width, depth, heads, mlp_ratio, pool, positions, drop_rate, drop_path_rate : default=None
        Options of the model, where not None: see `minivit.models.ViT`.
    random_state : int, RandomState or None, default=None
        Seed of the weights and of training: the same integer gives the same bits.
    threads : int, default=None
        Number of threads (default: the cores of this process). It does not change the result of training.
    verbose : bool, default=False
        Whether to show progress.
    epochs, batch_size, lr, weight_decay, label_smoothing, clip, warmup, augment, ema, layers, optimiser : default=None
        Training settings, where not None: see `minivit.TrainingSettings`. For rows that are not images, use
        augment="none".
    val_fraction, patience : default=None
        The same, for early stopping on a part of the training set.

    Attributes
    ----------
    classes_ : ndarray (K,)
        The labels, sorted.
    model_ : minivit.models.Model
        The trained model.
    image_format_ : ImageFormat
        How rows become the model's images.
    loss_curve_ : list of float
        The mean training loss of each epoch.
    n_features_in_ : int
        Numbers in a row of X; H for images that are not flattened.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn.model_selection import cross_val_score
    >>> X, y = load_digits(return_X_y=True)                   # (1797, 64), 8x8 pixels of 0 to 16
    >>> scores = cross_val_score(ViTClassifier(epochs=10, width=32, depth=2, random_state=0), X, y, cv=2)
    >>> bool(scores.mean() > 0.8)
    True
    """

    def __init__(self, model: str | None = None, *, image_shape: Sequence[int] | None = None,
                 patch_size: Size | None = None, width: int | None = None, depth: int | None = None,
                 heads: int | None = None, mlp_ratio: float | None = None, pool: str | None = None,
                 positions: str | None = None, drop_rate: float | None = None, drop_path_rate: float | None = None,
                 random_state: Any = None, threads: int | None = None, verbose: bool = False,
                 **settings: Unpack[TrainingSettings]) -> None:
        self.model = model
        self.image_shape = image_shape
        self.patch_size = patch_size
        self.width = width
        self.depth = depth
        self.heads = heads
        self.mlp_ratio = mlp_ratio
        self.pool = pool
        self.positions = positions
        self.drop_rate = drop_rate
        self.drop_path_rate = drop_path_rate
        self.random_state = random_state
        self.threads = threads
        self.verbose = verbose
        if unknown := [name for name in settings if name not in SETTING_NAMES]:
            raise TypeError(f"ViTClassifier has no parameter {', '.join(unknown)}; its training settings are "
                            f"{', '.join(SETTING_NAMES)}")
        for name in SETTING_NAMES:
            setattr(self, name, settings.get(name))

    def fit(self, X: Any, y: Any) -> "ViTClassifier":
        """Train on arrays.

        Parameters
        ----------
        X : (B, H, W), (B, H, W, C) or (B, H * W * C)
            Finite numbers.
        y : (B,)
            Labels of any type.

        Returns
        -------
        ViTClassifier
            Itself.

        Raises
        ------
        ValueError
            For arrays, labels or parameters that do not fit.
        FloatingPointError
            If the loss is not finite any more.
        """
        X, y = validate_data(self, X, y, allow_nd=True)
        check_classification_targets(y)
        self.classes_, labels = np.unique(y, return_inverse=True)
        self.image_format_ = ImageFormat.of(X, self.image_shape, self.patch_size)
        images = self.image_format_.convert(X)
        seed = int(check_random_state(self.random_state).randint(2**31))
        data = Dataset("X", images, labels, images[:0], labels[:0], tuple(map(str, self.classes_)))
        self.model_ = model_for(data, self.model, seed, **self._given(MODEL_OPTIONS))
        # as other estimators, it has one default length for any number of images
        length = {"epochs": default_settings()["epochs"]}
        given, _ = read_arguments(length | self._given(SETTING_NAMES) | {"seed": seed})
        self.loss_curve_ = self._train(data, new_settings(self.model_, data, given))
        return self

    def _given(self, names):
        """The parameters that are not None."""
        return {name: getattr(self, name) for name in names if getattr(self, name) is not None}

    def _train(self, data, settings):
        """Train `model_` -> the mean loss of each epoch."""
        data = training_data(data, settings)
        loop, inputs = build_loop(self.model_, data, settings, self.threads), images_of(data)
        with Progress(bool(self.verbose), loop, data) as display:
            loop.after_step, loop.after_epoch = [display.after_step], [display.after_epoch]
            loop.run(inputs)
        loop.finish(inputs)
        return [record["loss"] for record in loop.records]

    def predict_proba(self, X: Any) -> np.ndarray:
        """Return the probability of each class.

        Parameters
        ----------
        X : array
            Of the shape it had in `fit`.

        Returns
        -------
        (B, K) float64
            Columns in the order of `classes_`.
        """
        check_is_fitted(self)
        X = validate_data(self, X, reset=False, allow_nd=True)
        self.image_format_.warn_of_another_range(X)
        logits = self.model_.predict(self.image_format_.convert(X), self.threads)
        return softmax.forward(logits.astype(np.float64))[0]

    def predict(self, X: Any) -> np.ndarray:
        """Return the most probable label of each image.

        Parameters
        ----------
        X : array
            Of the shape it had in `fit`.

        Returns
        -------
        (B,)
            Labels of the type of `classes_`.
        """
        best = self.predict_proba(X).argmax(axis=1)
        return self.classes_[best]

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = True
        return tags


def _signature():
    """The signature of `ViTClassifier.__init__` with a parameter for each setting, which scikit-learn reads."""
    *named, _ = inspect.signature(ViTClassifier.__init__).parameters.values()
    settings = [inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None) for name in SETTING_NAMES]
    return inspect.Signature([*named, *settings])


ViTClassifier.__init__.__signature__ = _signature()  # type: ignore[attr-defined]
