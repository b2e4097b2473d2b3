"""Philox: random numbers that are looked up instead of drawn one after another.

An ordinary generator has a state, so a number depends on how many were drawn before it: on the order of threads, on
how the batch was cut, on where a run was resumed. A *counter-based* generator is a pure function

    (key, counter)  ->  four random words of 32 bits

so each number can be named by what it is for. Here the key is the seed, and the counter is

    (block, sample, step, stream)       block: which four of the numbers of this sample
                                        sample: the image's index in the whole batch
                                        step: the training step         stream: which layer asks

The function is Philox4x32-10: ten rounds, each of which multiplies two of the words by constants, keeps the high and
low halves of the 64-bit products, and mixes in the other words and the key; the key itself grows by a
constant each round.

    (c0, c1, c2, c3), (k0, k1)  ->  (hi(M1 c2) ^ c1 ^ k0,  lo(M1 c2),  hi(M0 c0) ^ c3 ^ k1,  lo(M0 c0))
    (k0, k1)                    ->  (k0 + W0, k1 + W1)

There is no backward: nothing is learned here. Source: Salmon et al., "Parallel Random Numbers: As Easy as 1, 2, 3",
SC 2011; its published test vectors are in our tests.
"""

import zlib

import numpy as np

from ..kernel import kernel

_M0, _M1 = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)
_W0, _W1 = np.uint64(0x9E3779B9), np.uint64(0xBB67AE85)
_LOW, _32 = np.uint64(0xFFFFFFFF), np.uint64(32)


def stream(name):
    """The 32-bit number of a stream from its name, such as a layer's path: its CRC-32, the same on every machine."""
    return zlib.crc32(name.encode())


def reference_words(counter, key):
    """counter (..., 4), key (2,), of 32-bit words -> random words (..., 4), uint32."""
    c0, c1, c2, c3 = np.moveaxis(np.asarray(counter, np.uint64), -1, 0)
    k0, k1 = np.asarray(key, np.uint64)
    for _ in range(10):
        p0, p1 = _M0 * c0, _M1 * c2
        c0, c1, c2, c3 = (p1 >> _32) ^ c1 ^ k0, p1 & _LOW, (p0 >> _32) ^ c3 ^ k1, p0 & _LOW
        k0, k1 = (k0 + _W0) & _LOW, (k1 + _W1) & _LOW
    return np.stack([c0, c1, c2, c3], axis=-1).astype(np.uint32)


def reference_uniform(seed, step, stream, samples, count):
    """As `uniform`."""
    blocks = np.arange(-(-count // 4))
    counter = np.zeros((len(samples), len(blocks), 4), np.uint64)
    counter[..., 0], counter[..., 1] = blocks, np.asarray(samples)[:, None]
    counter[..., 2], counter[..., 3] = step, stream
    words = reference_words(counter, (seed & 0xFFFFFFFF, seed >> 32)).reshape(len(samples), -1)[:, :count]
    return (words >> np.uint32(8)).astype(np.float32) / np.float32(2 ** 24)


# ---- the same mathematics, one pass over memory -----------------------------------------------------------


def uniform(seed, step, stream, samples, count):
    """`count` numbers in [0, 1) for each sample -> (len(samples), count), float32, multiples of 2**-24.

    seed: 0 to 2**64 - 1; step, stream and each of samples: 0 to 2**32 - 1. The same arguments always give the same
    numbers.
    """
    out = np.empty((len(samples), count), np.float32)
    _uniform(np.uint64(seed & 0xFFFFFFFF), np.uint64(seed >> 32), np.uint64(step), np.uint64(stream),
             np.asarray(samples, np.uint64), out)
    return out


class Generator:
    """The random numbers of one share of a training batch, named by (seed, step, stream, sample).

    seed: of the run. step: of training. samples: the indices of this share's images in the whole batch. epoch: how
    often the data were gone through before. dataset_indices: the index of each image of the whole batch in its data
    set.
    """

    def __init__(self, seed, step=0, samples=(), epoch=0, dataset_indices=()):
        self.seed, self.step, self.samples = seed, step, np.asarray(samples, int)
        self.epoch, self.dataset_indices = epoch, np.asarray(dataset_indices, int)

    def start_batch(self, step, epoch, dataset_indices):
        """From now on, the random numbers of another batch."""
        self.step, self.epoch, self.dataset_indices = step, epoch, np.asarray(dataset_indices, int)

    def for_samples(self, samples):
        """The random numbers of other samples of the same batch."""
        return Generator(self.seed, self.step, samples, self.epoch, self.dataset_indices)

    def uniform(self, stream, count):
        """`count` numbers in [0, 1) for each sample -> (samples, count), float32."""
        return uniform(self.seed, self.step, stream, self.samples, count)

    def uniform_per_image(self, stream, count):
        """As `uniform`, but the numbers belong to the images: they are the same at every step."""
        return uniform(self.seed, 0, stream, self.dataset_indices[self.samples], count)


@kernel
def _uniform(seed_low, seed_high, step, stream, samples, out):
    count = out.shape[1]
    for s in range(samples.size):
        for block in range((count + 3) // 4):
            c0, c1, c2, c3 = np.uint64(block), samples[s], step, stream
            k0, k1 = seed_low, seed_high
            for _ in range(10):
                p0, p1 = _M0 * c0, _M1 * c2
                c0, c1, c2, c3 = (p1 >> _32) ^ c1 ^ k0, p1 & _LOW, (p0 >> _32) ^ c3 ^ k1, p0 & _LOW
                k0, k1 = (k0 + _W0) & _LOW, (k1 + _W1) & _LOW
            words = (c0, c1, c2, c3)
            for i in range(min(4, count - 4 * block)):
                out[s, 4 * block + i] = np.float32(words[i] >> np.uint64(8)) * np.float32(2.0 ** -24)
