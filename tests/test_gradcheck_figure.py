"""The figure of a gradient check shows the error of every tensor, and where a wrong tensor is wrong."""

import numpy as np
import pytest

import minivit
from minivit.gradient_checking.figure import entry_errors
from minivit.gradient_checking.laid_flat import FlatMap, fold

RNG = np.random.default_rng(0)


def check(backward, *inputs, forward=lambda x: (x**3, x)):
    return minivit.gradcheck((forward, backward), *inputs)


def wrong_where(mask):
    """Check the gradient of x**3 with the entries under a mask 1% too large."""
    return check(lambda dy, x: 3 * x**2 * dy * np.where(mask, 1.01, 1.0), RNG.uniform(1, 2, mask.shape))


def errors_of(report, flat=None):
    """The errors of all entries of the first tensor."""
    comparer, name = report._comparer, report.rows[0].tensor
    flat = flat or FlatMap(comparer.gradients[name].shape)
    with np.errstate(all="ignore"):
        return entry_errors(comparer, name, flat.indices)


# ---- a tensor laid flat ---------------------------------------------------------------------------------


@pytest.mark.parametrize(("shape", "down", "right"), [
    ((), (), ()), ((7,), (), (0,)), ((3, 4), (0,), (1,)),
    ((2, 5, 8), (0, 1), (2,)), ((2, 8, 5), (1,), (0, 2)),             # blocks below each other, or side by side
    ((2, 3, 5, 4), (0, 2), (1, 3)), ((2, 3, 5, 5), (0, 2), (1, 3)),
    ((2, 6, 6, 3), (0, 1), (3, 2)), ((3, 3, 2, 4), (2, 0), (3, 1)),   # images and kernels with their channels last
    ((2, 2, 3, 4), (0, 2), (1, 3)),                                   # two by two is no image
    ((2, 3, 2, 5, 4), (0, 2, 3), (1, 4))])
def test_two_axes_make_a_block_and_the_others_a_grid_of_blocks(shape, down, right):
    assert fold(shape) == (down, right)
    values = np.arange(np.prod(shape)).reshape(shape)
    laid = FlatMap(shape).laid(values)
    assert sorted(laid.ravel()) == list(range(values.size))
    if shape:
        assert laid.shape == (np.prod([shape[i] for i in down]), np.prod([shape[i] for i in right]))
        assert laid[0, 1] == values[tuple(int(axis == right[-1]) for axis in range(values.ndim))]


@pytest.mark.parametrize("shape", [(5,), (4, 6), (2, 3, 4), (2, 6, 6, 3), (100, 90), (3, 40, 50), (5000,)])
def test_the_worst_entry_and_both_ends_are_shown(shape):
    for worst in (tuple(n - 1 for n in shape), tuple(n // 3 for n in shape), tuple(min(n - 1, 1) for n in shape)):
        flat = FlatMap(shape, worst)
        assert np.prod([len(found) for found in flat.indices]) <= 400
        for found, n, i in zip(flat.indices, shape, worst, strict=True):
            assert {0, n - 1, i} <= set(found.tolist())
            assert (np.diff(found) > 0).all()
        shown = np.arange(np.prod(shape)).reshape(shape)[np.ix_(*flat.indices)]
        assert flat.laid(shown)[flat.place] == np.ravel_multi_index(worst, shape)


def labels(shape, are_pairs=False):
    from minivit.common.figures import new_figure

    axes = new_figure(4, 4).subplots()
    FlatMap(shape, are_pairs=are_pairs).label(axes)
    return [(axis.get_label_text(), [text.get_text() for text in axis.get_ticklabels()])
            for axis in (axes.yaxis, axes.xaxis)]


def test_labels_say_how_the_tensor_lies():
    assert labels((2, 3)) == [("axis 0", ["0", "1"]), ("axis 1", ["0", "1", "2"])]
    assert labels((2, 5, 8)) == [("blocks: axis 0\nin a block: axis 1", ["0", "1"]),
                                 ("axis 2", ["0", "2", "4", "6"])]
    assert labels((2, 6, 6, 3)) == [("blocks: axis 0\nin a block: axis 1", ["0", "1"]),
                                    ("blocks: axis 3\nin a block: axis 2", ["0", "1", "2"])]
    (down, _), (right, ticks) = labels((100, 100))
    assert (down, right) == ("axis 0 (20 of 100)", "axis 1 (20 of 100)")
    assert ticks == ["0", "21", "42", "63", "83"]               # every fourth of those that are shown
    assert labels(()) == [("", [""]), ("", [""])]
    assert labels((3, 2), are_pairs=True)[1] == ("axis 1 (real, imaginary)", ["0", "1"])


# ---- the error of each entry ----------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(), (6,), (4, 6), (2, 3, 4)])
def test_wrong_entries_and_no_others_have_an_error(shape):
    mask = np.asarray(RNG.uniform(size=shape) < 0.4) if shape else np.asarray(True)
    report = wrong_where(mask)
    numeric, analytic, errors = errors_of(report)
    np.testing.assert_allclose(errors, np.where(mask, 1 - 1 / 1.01, 0), rtol=1e-6)
    np.testing.assert_allclose(analytic / numeric, np.where(mask, 1.01, 1), rtol=1e-9)


def test_kinks_noise_and_tiny_entries_are_no_errors():
    x = RNG.standard_normal((8, 40))
    x[0, :20] = 10.0 ** RNG.uniform(-9, -1, 20)                       # near the kink
    x[1, :3] = 0                                                      # at the kink
    report = check(lambda dy, x: (x > 0) * dy, x, forward=lambda x: (np.maximum(x, 0), x))
    assert not errors_of(report)[2].any()
    report = check(lambda dy, x: 2 * x * dy + 1e-14, np.r_[1e-9, 1.0, 2.0], forward=lambda x: (x * x, x))
    assert not errors_of(report)[2].any()


def test_what_is_not_finite_has_an_infinite_error():
    mask = np.arange(12).reshape(3, 4) == 5
    report = check(lambda dy, x: np.where(mask, np.nan, 3 * x**2 * dy), RNG.uniform(1, 2, (3, 4)))
    np.testing.assert_array_equal(errors_of(report)[2], np.where(mask, np.inf, 0))
    report.plot()


def test_only_the_indices_that_are_asked_for_are_measured():
    mask = np.zeros((50, 60), bool)
    mask[17:] = True
    flat = FlatMap(mask.shape, (20, 31))
    errors = errors_of(wrong_where(mask), flat)[2]
    np.testing.assert_array_equal(errors > 0, mask[np.ix_(*flat.indices)])


# ---- the figure -----------------------------------------------------------------------------------------


def titles(figure):
    return [axes.get_title() + axes.get_title("left") for axes in figure.axes if axes.get_label() != "<colorbar>"]


def test_every_tensor_has_a_panel_and_wrong_ones_three_maps_first():
    maps = ["measured slope", "gradient of the backward", "relative error (white: none found)"]
    x, w = RNG.standard_normal((3, 4)), RNG.standard_normal((4, 5))
    report = check(lambda dy, c: (dy @ c[1].T, 2 * c[0].T @ dy), x, w, forward=lambda x, w: (x @ w, (x, w)))
    assert titles(report.plot()) == ["w: wrong", "x", *maps]
    assert titles(report.plot(tensors=1)) == ["w: wrong", *maps]
    report = minivit.gradcheck(minivit.layers.Attention(6, 2), RNG.standard_normal((2, 3, 6)), samples=2)
    assert sorted(titles(report.plot())) == sorted(row.tensor for row in report.rows)


def test_maps_of_a_large_model_have_fewer_entries():
    mask = np.zeros((120, 100), bool)
    mask[:, 7] = True
    words = [axes.get_xlabel() for axes in wrong_where(mask).plot().axes]
    assert words.count("axis 1 (10 of 100)") == 3


def test_complex_tensors_are_pairs_of_real_and_imaginary_parts():
    z = RNG.standard_normal((3, 4)) + 1j * RNG.standard_normal((3, 4))
    report = check(lambda dy, z: 2 * dy * z.conj(), z, forward=lambda z: (np.abs(z)**2, z))
    words = [axes.get_xlabel() for axes in report.plot().axes]
    assert words.count("blocks: axis 0\nin a block: axis 2 (real, imaginary)") == 3
    np.testing.assert_array_equal(errors_of(report)[2] > 0, np.broadcast_to([False, True], (3, 4, 2)))


def test_at_most_three_wrong_tensors_have_maps_and_the_figure_says_what_it_leaves_out():
    inputs = [RNG.standard_normal((2, 2)) for _ in range(7)]
    report = check(lambda dy, xs: tuple(3 * dy for _ in xs), *inputs, forward=lambda *xs: (sum(xs), xs))
    figure = report.plot(tensors=6)
    assert titles(figure).count("measured slope") == 3
    assert sum(title.endswith(": wrong") for title in titles(figure)) == 6
    assert any("1 more tensors are not drawn" in part.get_supxlabel() for part in figure.subfigs)


def test_a_figure_leaves_the_global_random_numbers_alone():
    report = check(lambda dy, c: 2 * c * dy, RNG.standard_normal((3, 4)),
                   forward=lambda x: ((mask := np.random.random(x.shape)) * x, mask))   # noqa: NPY002
    np.random.seed(3)                                                 # noqa: NPY002
    expected = np.random.random(3)                                    # noqa: NPY002
    np.random.seed(3)                                                 # noqa: NPY002
    report.plot()
    np.testing.assert_array_equal(np.random.random(3), expected)      # noqa: NPY002


def test_the_number_of_tensors_must_be_positive():
    report = wrong_where(np.ones((2, 2), bool))
    with pytest.raises(ValueError, match="number of tensors must be a whole number at least 1, not 0"):
        report.plot(tensors=0)
