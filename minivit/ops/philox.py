"""Philox: random numbers that are a function of their name, instead of drawn one after another.

An ordinary generator has a state, so a number depends on how many were drawn before it. So it would depend on the order
of threads, on how the batch was split, and on where a run was resumed. A *counter-based* generator has no state. It is
a function

    (key, counter)  ->  four random words of 32 bits

so each number is identified by its purpose. Here the key is the seed of the run, and the counter is

    (block, sample, step, stream)       block: which four of the numbers of this sample
                                        sample: the image's index in the full batch
                                        step: the training step         stream: which layer asks

The function is Philox4x32-10. In each of ten rounds, it multiplies two of the words by constants, splits the 64-bit
products into high and low halves, and combines them with the other words and the key by exclusive or (^). The key grows
by a constant in each round:

    (c0, c1, c2, c3), (k0, k1)  ->  (hi(M1 c2) ^ c1 ^ k0,  lo(M1 c2),  hi(M0 c0) ^ c3 ^ k1,  lo(M0 c0))
    (k0, k1)                    ->  (k0 + W0, k1 + W1)

Nothing is learned here, so there is no backward. M0, M1, W0 and W1 are the constants of the source; the tests compare
with its published results.

Source: Salmon et al., "Parallel Random Numbers: As Easy as 1, 2, 3", SC 2011.
"""

import zlib

import numpy as np
from numpy.typing import ArrayLike

from ..kernel import empty, kernel

_M0, _M1 = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)
_W0, _W1 = np.uint64(0x9E3779B9), np.uint64(0xBB67AE85)
_LOW, _32 = np.uint64(0xFFFFFFFF), np.uint64(32)


def stream(name: str) -> int:
    """Return the 32-bit number of a stream from its name, such as a layer's path: the CRC-32 of the name."""
    return zlib.crc32(name.encode())


def reference_words(counter: ArrayLike, key: ArrayLike) -> np.ndarray:
    """Return the random words of counters.

    Parameters
    ----------
    counter : array (..., 4) of 32-bit words
    key : array (2,) of 32-bit words

    Returns
    -------
    words : uint32 array (..., 4)
    """
    c0, c1, c2, c3 = np.moveaxis(np.asarray(counter, np.uint64), -1, 0)
    k0, k1 = np.asarray(key, np.uint64)
    for _ in range(10):
        p0, p1 = _M0 * c0, _M1 * c2
        c0, c1, c2, c3 = (p1 >> _32) ^ c1 ^ k0, p1 & _LOW, (p0 >> _32) ^ c3 ^ k1, p0 & _LOW
        k0, k1 = (k0 + _W0) & _LOW, (k1 + _W1) & _LOW
    return np.stack([c0, c1, c2, c3], axis=-1).astype(np.uint32)


def reference_uniform(seed: int, step: int, stream: int, samples: ArrayLike, count: int) -> np.ndarray:
    """Return the same as `uniform`, in plain NumPy."""
    samples, blocks = np.asarray(samples), np.arange(-(-count // 4))
    counter = np.zeros((len(samples), len(blocks), 4), np.uint64)
    counter[..., 0], counter[..., 1] = blocks, samples[:, None]
    counter[..., 2], counter[..., 3] = step, stream
    words = reference_words(counter, (seed & 0xFFFFFFFF, seed >> 32)).reshape(len(samples), -1)[:, :count]
    return (words >> np.uint32(8)).astype(np.float32) / np.float32(2 ** 24)


# ---- the same mathematics, one pass over memory ----------------------------------------------------------------------


def uniform(seed: int, step: ArrayLike, stream: int, samples: ArrayLike, count: int) -> np.ndarray:
    """Return uniform random numbers in [0, 1). The same arguments always give the same numbers.

    Parameters
    ----------
    seed : int, 0 to 2**64 - 1
    step, stream : int, 0 to 2**32 - 1; step may be an array ()
    samples : integers (B,), 0 to 2**32 - 1
    count : int, how many numbers per sample

    Returns
    -------
    numbers : float32 array (B, count), multiples of 2**-24

    Examples
    --------
    >>> uniform(seed=1, step=2, stream=3, samples=[0, 5], count=2).round(3)
    array([[0.047, 0.77 ],
           [0.373, 0.783]], dtype=float32)
    """
    step, samples = np.asanyarray(step, np.uint64), np.asanyarray(samples, np.uint64)
    out = empty((len(samples), count), np.float32)
    _uniform(np.uint64(seed & 0xFFFFFFFF), np.uint64(seed >> 32), step, np.uint64(stream), samples, out)
    return out


class Generator:
    """The random numbers of one shard of a training batch, identified by (seed, step, stream, sample).

    Parameters
    ----------
    seed : int, of the run
    step : int, of training
    samples : integers (B,), the indices of the shard's images in the full batch
    epoch : int, how many epochs are complete
    dataset_indices : integers, the index in the data set of each image of the full batch
    """

    def __init__(self, seed: int, step: int = 0, samples: ArrayLike = (), epoch: int = 0,
                 dataset_indices: ArrayLike = ()) -> None:
        self.seed, self.step, self.samples = seed, step, np.asarray(samples, int)
        self.epoch, self.dataset_indices = epoch, np.asarray(dataset_indices, int)

    def start_batch(self, step: int, epoch: int, dataset_indices: ArrayLike) -> None:
        """Switch to the random numbers of another batch."""
        self.step, self.epoch, self.dataset_indices = step, epoch, np.asarray(dataset_indices, int)

    def for_samples(self, samples: ArrayLike) -> "Generator":
        """Return a generator for other samples of the same batch."""
        return Generator(self.seed, self.step, samples, self.epoch, self.dataset_indices)

    def uniform(self, stream: int, count: int) -> np.ndarray:
        """Return `count` numbers in [0, 1) per sample: float32 (B, count)."""
        return uniform(self.seed, self.step, stream, self.samples, count)

    def uniform_per_image(self, stream: int, count: int) -> np.ndarray:
        """Return numbers as `uniform` does, but by the image's index in the data set: the same at every step."""
        return uniform(self.seed, 0, stream, self.dataset_indices[self.samples], count)


@kernel
def _uniform(seed_low, seed_high, step, stream, samples, out):
    count = out.shape[1]
    for s in range(samples.size):
        for block in range((count + 3) // 4):
            c0, c1, c2, c3 = np.uint64(block), samples[s], step[()], stream
            k0, k1 = seed_low, seed_high
            for _ in range(10):
                p0, p1 = _M0 * c0, _M1 * c2
                c0, c1, c2, c3 = (p1 >> _32) ^ c1 ^ k0, p1 & _LOW, (p0 >> _32) ^ c3 ^ k1, p0 & _LOW
                k0, k1 = (k0 + _W0) & _LOW, (k1 + _W1) & _LOW
            words = (c0, c1, c2, c3)
            for i in range(min(4, count - 4 * block)):
                out[s, 4 * block + i] = np.float32(words[i] >> np.uint64(8)) * np.float32(2.0 ** -24)
