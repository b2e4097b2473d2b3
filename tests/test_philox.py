"""The counter-based random numbers: both versions are the published function, and a number depends only on its name."""

import numpy as np
import pytest

from minivit.ops import philox

FULL = 2**32 - 1
ARGUMENTS = [  # seed, step, stream, samples, count
    (0, 0, 0, [0], 4),
    (1, 2, 3, [0, 1, 2], 9),
    (2**64 - 1, FULL, FULL, [FULL, 0], 7),
    (0x123456789ABCDEF0, 12345, philox.stream("blocks.0.drop"), [5, 3, 5], 1),
]


@pytest.mark.parametrize(("counter", "key", "words"), [
    ([0, 0, 0, 0], [0, 0], [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]),
    ([FULL] * 4, [FULL] * 2, [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD]),
    ([0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344], [0xA4093822, 0x299F31D0],
     [0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1]),
], ids=["zeros", "ones", "pi"])
def test_words_are_the_published_results(counter, key, words):
    """The test vectors of philox4x32-10 in Random123, its authors' library."""
    np.testing.assert_array_equal(philox.reference_words(counter, key), words)


def test_words_of_many_counters_equal_those_of_each_counter():
    counters = np.random.default_rng(0).integers(0, 2**32, (3, 5, 4), np.uint64)
    many = philox.reference_words(counters, (7, 8))
    assert many.shape == (3, 5, 4)
    assert many.dtype == np.uint32
    np.testing.assert_array_equal(many[2, 3], philox.reference_words(counters[2, 3], (7, 8)))


def test_uniform_is_the_upper_24_bits_of_the_words():
    """Counter (block, sample, step, stream), key (low, high half of the seed)."""
    words = philox.reference_words([[0, 5, 6, 7], [1, 5, 6, 7]], (8, 9)).reshape(-1)
    np.testing.assert_array_equal(philox.uniform(8 + (9 << 32), 6, 7, [5], 8)[0], (words >> 8) / 2**24)


@pytest.mark.parametrize("arguments", ARGUMENTS)
def test_fast_equals_reference_bit_for_bit(arguments):
    fast, reference = philox.uniform(*arguments), philox.reference_uniform(*arguments)
    assert fast.dtype == reference.dtype == np.float32
    assert fast.shape == reference.shape == (len(arguments[3]), arguments[4])
    np.testing.assert_array_equal(fast, reference)


def test_zero_samples_and_a_count_of_zero_are_allowed():
    assert philox.uniform(1, 2, 3, np.arange(0), 5).shape == (0, 5)
    assert philox.uniform(1, 2, 3, [4], 0).shape == (1, 0)


def test_numbers_of_a_sample_do_not_depend_on_other_samples():
    everything = philox.uniform(3, 14, 15, np.arange(20), 11)
    np.testing.assert_array_equal(philox.uniform(3, 14, 15, np.array([17, 4, 4]), 11), everything[[17, 4, 4]])
    np.testing.assert_array_equal(philox.uniform(3, 14, 15, np.arange(8, 20), 11), everything[8:])


def test_a_number_does_not_depend_on_the_count():
    np.testing.assert_array_equal(philox.uniform(3, 14, 15, [9], 6), philox.uniform(3, 14, 15, [9], 50)[:, :6])


@pytest.mark.parametrize("other", [(4, 1, 1, [1]), (1 + (1 << 32), 1, 1, [1]), (1, 2, 1, [1]), (1, 1, 2, [1]),
                                   (1, 1, 1, [2])],
                         ids=["seed", "upper seed", "step", "stream", "sample"])
def test_another_name_gives_other_numbers(other):
    assert not (philox.uniform(1, 1, 1, [1], 100) == philox.uniform(*other, 100)).any()


def test_numbers_are_uniform():
    numbers = philox.uniform(0, 0, 0, np.arange(50), 400)
    assert numbers.min() >= 0
    assert numbers.max() < 1
    counts = np.histogram(numbers, bins=100, range=(0, 1))[0]
    chi_squared = ((counts - 200) ** 2 / 200).sum()  # 99 degrees of freedom: mean 99, standard deviation 14
    assert 99 - 4 * 14 < chi_squared < 99 + 4 * 14
    assert numbers.mean() == pytest.approx(1 / 2, abs=4 * np.sqrt(1 / 12 / numbers.size))
    assert numbers.var() == pytest.approx(1 / 12, abs=4 * np.sqrt(1 / 180 / numbers.size))


@pytest.mark.parametrize("neighbour", [(0, 0, 0, 1), (0, 0, 1, 0), (0, 1, 0, 0), (1, 0, 0, 0)],
                         ids=["sample", "stream", "step", "seed"])
def test_neighbours_are_uncorrelated(neighbour):
    seed, step, stream, sample = neighbour
    a = philox.uniform(0, 0, 0, [0], 5000)[0]
    b = philox.uniform(seed, step, stream, [sample], 5000)[0]
    assert abs(np.corrcoef(a, b)[0, 1]) < 4 / np.sqrt(5000)
    assert abs(np.corrcoef(a[1:], a[:-1])[0, 1]) < 4 / np.sqrt(5000)


def test_stream_is_the_crc_32_of_the_name():
    assert philox.stream("123456789") == 0xCBF43926


def test_a_generator_gives_numbers_by_sample_or_by_image():
    rng = philox.Generator(seed=5, step=3, samples=[1, 4], epoch=2, dataset_indices=[7, 70, 700, 7000, 70000])
    np.testing.assert_array_equal(rng.uniform(9, 6), philox.uniform(5, 3, 9, [1, 4], 6))
    np.testing.assert_array_equal(rng.for_samples([0, 4]).uniform(9, 6), philox.uniform(5, 3, 9, [0, 4], 6))
    per_image = rng.uniform_per_image(9, 2)
    np.testing.assert_array_equal(per_image, philox.uniform(5, 0, 9, [70, 70000], 2))
    # the same images elsewhere, at another step
    rng.start_batch(step=8, epoch=3, dataset_indices=[70000, 700, 7, 7000, 70])
    np.testing.assert_array_equal(rng.for_samples([4, 0]).uniform_per_image(9, 2), per_image)
    assert not np.array_equal(rng.uniform(9, 6), philox.uniform(5, 3, 9, [1, 4], 6))
