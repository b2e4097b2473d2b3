"""A Vision Transformer with scikit-learn's habits: `fit`, `predict`, `score`, in `cross_val_score`, `Pipeline` and grid search.

scikit-learn works on rows of numbers; the model wants square pictures of uint8 pixels. In between, by `Pictures`:

    shape    a row of H W C numbers becomes (H, W, C) again
    square   zeros are added at the bottom and at the right, until the picture is square and patches divide it
    pixels   the smallest number of the training set becomes 0, the largest 255; what lies beyond is clipped
"""

import math
from dataclasses import dataclass

import numpy as np
from tqdm import tqdm

from ..common.checks import check_number
from ..data import Dataset
from ..ops import softmax
from ..runs.presets import DEFAULTS, model_for, preset_for
from ..runs.settings import rate
from ..training.loop import batches, make_trainer

try:
    from sklearn.base import BaseEstimator, ClassifierMixin
    from sklearn.utils import check_random_state
    from sklearn.utils.multiclass import check_classification_targets
    from sklearn.utils.validation import check_is_fitted, validate_data
except ImportError as error:
    raise ImportError(f"ViTClassifier needs scikit-learn 1.6 or later: pip install 'minivit[sklearn]' ({error})") from None


@dataclass(frozen=True)
class Pictures:
    """How arrays of any numbers become square uint8 pictures; `shape` (H, W, C) is that of one, and `side` the pictures' side in pixels."""

    shape: tuple[int, int, int]
    side: int
    low: float
    high: float

    @classmethod
    def of(cls, X, shape=None, patch_size=None):
        """What suits the training set X (B, H, W[, C]) or (B, H W C).

        shape: (H, W) or (H, W, C) of a flattened picture. Without it, a row is grey if its length is a square number, and colour if a
        third of it is; any other is a square of grey, filled row by row. Raises ValueError for a shape that does not fit.
        """
        if X.ndim > 4:
            raise ValueError(f"X must be (B, H, W), (B, H, W, C) or (B, H * W * C), not {X.shape}")
        if X.ndim > 2:
            if shape is not None and tuple(shape) not in (X.shape[1:], X.shape[1:3]):
                raise ValueError(f"image_shape is {tuple(shape)}, but X has pictures of shape {X.shape[1:]}")
            shape = X.shape[1:]
        if shape is None:
            shape = _shape_of_row(X.shape[1])
        else:
            shape = tuple(check_number("image_shape", size, least=1, whole=True) for size in (*shape, 1)[:3])
            if len(shape) < 3 or (X.ndim == 2 and X.shape[1] != math.prod(shape)):
                raise ValueError(f"image_shape {shape} does not fit the {X.shape[1]} features of X")
        low, high = (0, 255) if X.dtype == np.uint8 else (X.min(), X.max())
        return cls(shape, _side(max(shape[:2]), patch_size), float(low), float(high))

    def prepare(self, X):
        """X, of the shape of the training set -> (B, side, side, C) uint8. Raises ValueError for another shape."""
        (H, W, C), size = self.shape, math.prod(self.shape)
        rows = X.reshape(len(X), -1)
        if rows.shape[1] > size or (X.ndim > 2 and (*X.shape[1:], 1)[:3] != self.shape):
            raise ValueError(f"X has pictures of shape {X.shape[1:]}, but those of fit had {self.shape}")
        images = np.zeros((len(X), self.side, self.side, C), np.uint8)
        for a in range(0, len(X), 1024):                              # in pieces, because the numbers in between take eight times as much
            pixels = np.zeros((len(rows[a:a + 1024]), size))
            pixels[:, :rows.shape[1]] = self._scaled(rows[a:a + 1024].astype(np.float64))
            images[a:a + 1024, :H, :W] = np.rint(pixels).reshape(-1, H, W, C)
        return images

    def _scaled(self, x):
        """0 to 255; the differences are halved, because that of the largest numbers there are is infinite."""
        span = self.high / 2 - self.low / 2
        return np.clip(255 * ((x / 2 - self.low / 2) / span), 0, 255) if span > 0 else np.zeros_like(x)


def _shape_of_row(length):
    """(H, W, C) of the picture that is a row of so many numbers."""
    side = math.isqrt(length)
    third = math.isqrt(length // 3)
    if side * side < length == 3 * third * third:
        return third, third, 3
    side += side * side < length
    return side, side, 1


def _side(side, patch_size):
    """The least side, not below `side`, that the patches divide: those given, or any of which there are 4x4 to 16x16."""
    def fits(s):
        return s % patch_size == 0 if patch_size else any(s % p == 0 and 4 <= s // p <= 16 for p in range(1, s + 1))

    if patch_size is not None:
        check_number("patch_size", patch_size, least=1, whole=True)
    while not fits(side):
        side += 1
    return side


class ViTClassifier(ClassifierMixin, BaseEstimator):
    """A Vision Transformer that learns from arrays of pictures and labels of any type.

    Parameters
    ----------
    model : str, default=None
        A name of `minivit models`, or None for a small ViT that suits the size of the pictures.
    image_shape : tuple, default=None
        (H, W) or (H, W, C) of the pictures that are the rows of X, where they are not square.
    patch_size, width, depth, heads, mlp_ratio, pool, positions, drop_rate, drop_path_rate : default=None
        Options of the model, where not None: see `minivit.models.ViT`.
    epochs, batch_size, lr, weight_decay, label_smoothing, clip, warmup, augment, ema, optimiser : default=None
        Settings of the training, where not None: see `minivit.train`. For rows that are no pictures, take augment="none".
    random_state : int, RandomState or None, default=None
        Of the weights and of training: the same integer gives the same bits.
    threads : int, default=None
        How many lanes run at once (default: the cores of this process); it changes no bit of training.
    verbose : bool, default=False
        Whether to show a bar.

    Attributes
    ----------
    classes_ : ndarray (K,)
        The labels, sorted.
    model_ : minivit.models.Model
        The trained model.
    pictures_ : Pictures
        How rows become the model's pictures.
    loss_curve_ : list of float
        The mean training loss of each epoch.
    n_features_in_ : int
        Numbers in a row of X; of pictures that are not flattened, H.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn.model_selection import cross_val_score
    >>> X, y = load_digits(return_X_y=True)                   # (1797, 64), 8x8 pixels of 0 to 16
    >>> scores = cross_val_score(ViTClassifier(random_state=0), X, y)
    """

    def __init__(self, model=None, *, image_shape=None, patch_size=None, width=None, depth=None, heads=None, mlp_ratio=None, pool=None,
                 positions=None, drop_rate=None, drop_path_rate=None, epochs=None, batch_size=None, lr=None, weight_decay=None,
                 label_smoothing=None, clip=None, warmup=None, augment=None, ema=None, optimiser=None, random_state=None, threads=None,
                 verbose=False):
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
        self.epochs = epochs
        self.batch_size = batch_size
        self.lr = lr
        self.weight_decay = weight_decay
        self.label_smoothing = label_smoothing
        self.clip = clip
        self.warmup = warmup
        self.augment = augment
        self.ema = ema
        self.optimiser = optimiser
        self.random_state = random_state
        self.threads = threads
        self.verbose = verbose

    def fit(self, X, y):
        """Train on X (B, H, W), (B, H, W, C) or (B, H * W * C), finite numbers, and y (B,), labels of any type -> self.

        Raises ValueError for arrays, labels or parameters that do not fit; FloatingPointError if the loss is not finite any more.
        """
        X, y = validate_data(self, X, y, allow_nd=True)
        check_classification_targets(y)
        self.classes_, labels = np.unique(y, return_inverse=True)
        self.pictures_ = Pictures.of(X, self.image_shape, self.patch_size)
        images = self.pictures_.prepare(X)
        seed = int(check_random_state(self.random_state).randint(2**31))
        data = Dataset("X", images, labels, images[:0], labels[:0], tuple(map(str, self.classes_)))
        options = self._given("patch_size", "width", "depth", "heads", "mlp_ratio", "pool", "positions", "drop_rate", "drop_path_rate")
        self.model_ = model_for(data, self.model, seed, **options)
        given = self._given("epochs", "batch_size", "lr", "weight_decay", "label_smoothing", "clip", "warmup", "augment", "ema",
                            "optimiser")
        self.loss_curve_ = self._train(data, DEFAULTS | preset_for(data).training | given | {"seed": seed})
        return self

    def _given(self, *names):
        """The parameters that are not None."""
        return {name: getattr(self, name) for name in names if getattr(self, name) is not None}

    def _train(self, data, settings):
        """Train `model_` -> the mean loss of each epoch."""
        images, labels = data.train_images, data.train_labels
        size = min(check_number("batch size", settings["batch_size"], least=1, whole=True), len(images))
        epochs = check_number("number of epochs", settings["epochs"], above=0, most=1e9)
        check_number("warmup, a share of all steps,", settings["warmup"], least=0, most=1)
        settings["steps"] = max(1, round(epochs * (len(images) // size)))
        trainer = make_trainer(self.model_, settings, self.threads)
        curve: list[float] = []
        with tqdm(total=settings["steps"] * size, unit=" images", unit_scale=True, disable=not self.verbose) as bar:
            while trainer.optimiser.t < settings["steps"]:
                epoch, losses = len(curve), []
                for batch in batches(len(images), size, settings["seed"], epoch)[:settings["steps"] - trainer.optimiser.t]:
                    lr = rate(settings, trainer.optimiser.t)
                    losses.append(trainer.step(images[batch], labels[batch], lr, epoch, batch))
                    bar.update(size)
                curve.append(float(np.mean(losses)))
        self.model_.vector[:] = trainer.average.vector
        return curve

    def predict_proba(self, X):
        """The probability of each class: X, of the shape it had in `fit` -> (B, K) float64, columns in the order of `classes_`."""
        check_is_fitted(self)
        X = validate_data(self, X, reset=False, allow_nd=True)
        logits = self.model_.predict(self.pictures_.prepare(X), self.threads)
        return softmax.forward(logits.astype(np.float64))[0]

    def predict(self, X):
        """The most probable label of each picture: X, of the shape it had in `fit` -> (B,), of the type of `classes_`."""
        best = self.predict_proba(X).argmax(axis=1)
        return self.classes_[best]

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = True
        return tags
