"""Data sets: what they hold, how they are split, and that bad files end in one clear error."""

import os
import pickle
import zipfile

import numpy as np
import pytest

from minivit.data import Dataset, load_data, split

DIGIT_COUNTS = [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]


def some_images(count=40, height=6, width=6, channels=None, classes=4, seed=0):
    """Return (images, labels) with equally many images of each class."""
    shape = (count, height, width) if channels is None else (count, height, width, channels)
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8), np.arange(count) % classes


def save(path, **arrays):
    np.savez(path, **arrays)
    return path


@pytest.fixture
def npz(tmp_path):
    """Return a function that saves arrays and returns the path of the file."""
    return lambda **arrays: save(tmp_path / "some.npz", **arrays)


# ---- the embedded digits ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def digits():
    return load_data("digits")


def test_digits_are_1797_grey_images_of_8x8(digits):
    images = np.concatenate([digits.train_images, digits.test_images])
    assert images.shape == (1797, 8, 8, 1)
    assert images.dtype == np.uint8
    assert digits.classes == 10
    assert digits.class_names == tuple("0123456789")


def test_digits_have_the_published_class_counts(digits):
    labels = np.concatenate([digits.train_labels, digits.test_labels])
    assert np.bincount(labels).tolist() == DIGIT_COUNTS


def test_digits_use_the_full_range_of_a_byte_in_17_steps(digits):
    levels = np.unique(np.concatenate([digits.train_images, digits.test_images]))
    assert (levels[0], levels[-1], len(levels)) == (0, 255, 17)


def test_digits_look_like_digits(digits):
    # A zero is dark in the middle and bright around; a one is bright in the middle.
    mean = [digits.train_images[digits.train_labels == k, ..., 0].mean(axis=0) for k in range(10)]
    assert mean[0][3:5, 3:5].mean() < 60 < 180 < mean[1][3:5, 3:5].mean()


def test_no_digit_is_in_both_parts():
    # No image occurs twice in the data, so one in both parts could only come from the split.
    data = load_data("digits", seed=3)
    train = {image.tobytes() for image in data.train_images}
    assert not any(image.tobytes() in train for image in data.test_images)


def test_pixel_statistics_are_those_of_the_training_part(digits):
    mean, std = digits.pixel_statistics()
    pixels = digits.train_images / 255
    assert mean == pytest.approx([pixels.mean()])
    assert std == pytest.approx([pixels.std()])


def test_pixel_statistics_are_exact_for_many_images_and_channels():
    rng = np.random.default_rng(0)
    images = rng.integers(0, [[[[40, 256, 9]]]], (2500, 6, 5, 3)).astype(np.uint8)
    data = Dataset("mine", images, np.zeros(2500, int), images[:1], np.zeros(1, int), ("a",))
    mean, std = data.pixel_statistics()
    np.testing.assert_allclose(mean, (images / 255).mean(axis=(0, 1, 2)), rtol=1e-12)
    np.testing.assert_allclose(std, (images / 255).std(axis=(0, 1, 2)), rtol=1e-12)


def test_pixel_statistics_need_training_images(npz):
    images, labels = some_images()
    with pytest.raises(ValueError, match=r"some\.npz has no training images"):
        load_data(npz(images=images, labels=labels), test_fraction=1).pixel_statistics()


def test_pixel_statistics_of_blank_images_have_a_positive_deviation(npz):
    _, labels = some_images()
    _, std = load_data(npz(images=np.zeros((40, 6, 6, 3), np.uint8), labels=labels)).pixel_statistics()
    assert len(std) == 3
    assert min(std) > 0


# ---- the split ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fraction", [0.1, 0.2, 0.5, 0.77])
def test_split_takes_the_fraction_of_every_class(fraction):
    labels = np.repeat(np.arange(10), DIGIT_COUNTS)
    _, part = split(labels, fraction, seed=0)
    assert np.abs(np.bincount(labels[part], minlength=10) - fraction * np.array(DIGIT_COUNTS)).max() <= 0.5


def test_split_is_disjoint_and_complete():
    labels = np.random.default_rng(1).integers(0, 5, 203)
    rest, part = split(labels, 0.3, seed=4)
    assert sorted([*rest, *part]) == list(range(203))


def test_split_leaves_each_class_an_image_on_both_sides():
    labels = np.array([0, 0, 1, 1, 1])
    for fraction in (0.01, 0.99):
        rest, part = split(labels, fraction, seed=0)
        assert set(labels[rest]) == set(labels[part]) == {0, 1}


def test_same_seed_gives_the_same_split_and_another_seed_another():
    labels = np.arange(100) % 4
    first, again, other = (split(labels, 0.2, seed)[1].tolist() for seed in (7, 7, 8))
    assert first == again
    assert first != other


def test_split_of_digits_depends_on_the_seed_alone():
    first, again, other = (load_data("digits", seed=seed).test_images for seed in (2, 2, 3))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


@pytest.mark.parametrize("fraction", [0, -0.1, 1.5, float("nan")])
def test_split_refuses_a_fraction_that_leaves_nothing(fraction):
    with pytest.raises(ValueError, match="fraction"):
        split(np.arange(10) % 2, fraction, seed=0)


def test_split_refuses_a_class_of_one_image_and_names_it():
    with pytest.raises(ValueError, match="class 1 has one image only"):
        split(np.array([0, 0, 1]), 0.5, seed=0)
    with pytest.raises(ValueError, match="class dog has one image only"):
        split(np.array([0, 0, 1]), 0.5, seed=0, class_names=("cat", "dog"))


# ---- .npz files -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("channels", [None, 1, 3])
def test_npz_without_test_part_is_split(npz, channels):
    images, labels = some_images(channels=channels)
    data = load_data(npz(images=images, labels=labels), seed=1, test_fraction=0.3)
    assert data.train_images.shape == (28, 6, 6, channels or 1)
    assert data.test_images.shape == (12, 6, 6, channels or 1)
    assert data.source["seed"] == 1
    rest, part = split(labels, 0.3, seed=1)
    np.testing.assert_array_equal(data.train_images, images.reshape(40, 6, 6, -1)[rest])
    np.testing.assert_array_equal(data.test_labels, labels[part])


@pytest.mark.parametrize("channels", [None, 1, 3])
def test_npz_with_test_part_is_taken_as_it_is(npz, channels):
    images, labels = some_images(channels=channels)
    data = load_data(npz(train_images=images[:30], train_labels=labels[:30], test_images=images[30:],
                         test_labels=labels[30:]))
    np.testing.assert_array_equal(data.train_images, images[:30].reshape(30, 6, 6, -1))
    np.testing.assert_array_equal(data.test_images, images[30:].reshape(10, 6, 6, -1))
    np.testing.assert_array_equal(data.test_labels, labels[30:])


def test_npz_gives_class_names(npz):
    images, labels = some_images(classes=3)
    assert load_data(npz(images=images, labels=labels,
                         class_names=np.array(["cat", "dog", "eel"]))).class_names == ("cat", "dog", "eel")
    assert load_data(npz(images=images, labels=labels)).class_names == ("0", "1", "2")


def test_npz_may_name_classes_without_images(npz):
    images, labels = some_images(classes=2)
    assert load_data(npz(images=images, labels=labels, class_names=np.array(["a", "b", "never"]))).classes == 3


def test_npz_classes_are_counted_over_both_parts(npz):
    images, labels = some_images(classes=4)
    assert load_data(npz(train_images=images, train_labels=labels % 2, test_images=images,
                         test_labels=labels)).classes == 4


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.int64, np.uint64])
def test_npz_labels_may_be_any_integers(npz, dtype):
    images, labels = some_images()
    assert load_data(npz(images=images, labels=labels.astype(dtype))).train_labels.dtype == np.int64


def test_npz_may_have_images_for_validation(npz):
    images, labels = some_images()
    data = load_data(npz(train_images=images[:20], train_labels=labels[:20], val_images=images[20:28],
                         val_labels=labels[20:28],
                         test_images=images[28:], test_labels=labels[28:]))
    assert [len(labels) for _, labels in data.parts.values()] == [20, 12, 8]
    np.testing.assert_array_equal(data.val_images[..., 0], images[20:28])
    assert data.val_labels.dtype == np.int64


def test_path_may_be_text_or_a_path(npz):
    images, labels = some_images()
    path = npz(images=images, labels=labels)
    np.testing.assert_array_equal(load_data(str(path)).test_images, load_data(path).test_images)


# ---- arrays that do not fit ------------------------------------------------------------------------------------


def _nan(images):
    images = images / 255
    images[0, 0, 0] = np.nan
    return images


X, Y = some_images()
BAD_ARRAYS = {
    "no labels": ({"images": X}, ValueError, "lacks labels"),
    "no images": ({"labels": Y}, ValueError, "lacks images"),
    "other keys": ({"pictures": X, "y": Y}, ValueError, "lacks images, labels.*holds pictures, y"),
    "no test part": ({"train_images": X, "train_labels": Y}, ValueError, "lacks test_images, test_labels"),
    "float images": ({"images": X / 255, "labels": Y}, TypeError, "float64.*uint8"),
    "NaN images": ({"images": _nan(X), "labels": Y}, TypeError, "float64 and hold NaN"),
    "int64 images": ({"images": X.astype(int), "labels": Y}, TypeError, "int64.*uint8"),
    "flat images": ({"images": X.reshape(40, -1), "labels": Y}, ValueError, r"\(40, 36\)"),
    "five axes": ({"images": X[..., None, None], "labels": Y}, ValueError, r"\(40, 6, 6, 1, 1\)"),
    "no image": ({"images": X[:0], "labels": Y[:0]}, ValueError, r"\(0, 6, 6, 1\)"),
    "no image to test": ({"train_images": X, "train_labels": Y, "test_images": X[:0], "test_labels": Y[:0]}, ValueError,
             "test_images"),
    "two-dimensional labels": ({"images": X, "labels": Y[:, None]}, ValueError, r"\(40, 1\)"),
    "one label": ({"images": X, "labels": np.int64(3)}, ValueError, r"labels.*\(\)"),
    "too few labels": ({"images": X, "labels": Y[:-1]}, ValueError, r"40 images.*\(39,\)"),
    "too many labels": ({"images": X, "labels": np.arange(41) % 4}, ValueError, r"40 images.*\(41,\)"),
    "negative labels": ({"images": X, "labels": Y - 1}, ValueError, r"span -1\.\.2"),
    "float labels": ({"images": X, "labels": Y.astype(float)}, TypeError, "float64.*integers"),
    "text labels": ({"images": X, "labels": Y.astype(str)}, TypeError, "integers"),
    "more labels than names": ({"images": X, "labels": Y, "class_names": np.array(["a", "b"])}, ValueError,
                               r"0\.\.1.*span 0\.\.3"),
    "one name for all": ({"images": X, "labels": Y, "class_names": np.array("a")}, (TypeError, ValueError),
                         "class_names"),
    "two names alike": ({"images": X, "labels": Y, "class_names": np.array(["a", "b", "a", "c"])}, ValueError,
              "same name: a, b, a, c"),
    "no validation labels": (
        {"train_images": X, "train_labels": Y, "test_images": X, "test_labels": Y, "val_images": X}, ValueError,
                             "lacks val_labels"),
    "grey and colour": (
        {"train_images": X, "train_labels": Y, "test_images": np.stack([X] * 3, axis=-1), "test_labels": Y},
               ValueError,
                        r"\(6, 6, 1\).*\(6, 6, 3\)"),
    "two sizes": ({"train_images": X, "train_labels": Y, "test_images": X[:, :4], "test_labels": Y}, ValueError,
                  r"\(6, 6, 1\).*\(4, 6, 1\)"),
}


@pytest.mark.parametrize("case", BAD_ARRAYS)
def test_arrays_that_do_not_fit_are_named(npz, case):
    arrays, kind, message = BAD_ARRAYS[case]
    with pytest.raises(kind, match=message) as error:
        load_data(npz(**arrays))
    assert "some.npz" in str(error.value)
    assert "\n" not in str(error.value)


def test_class_of_one_image_is_named(npz):
    images, labels = some_images()
    with pytest.raises(ValueError, match="class 9 has one image only"):
        load_data(npz(images=images, labels=np.where(np.arange(40) == 0, 9, labels)))


@pytest.mark.parametrize(("change", "kind", "message"), [
    ({"train_images": X.astype(float)[..., None]}, TypeError, "train images are float64"),
    ({"train_images": X}, ValueError, r"train images must be \(B, H, W, C\)"),
    ({"test_labels": Y[:3]}, ValueError, "test labels must be one for each"),
    ({"class_names": ("a",)}, ValueError, "train labels must be in"),
])
def test_dataset_checks_its_arrays(change, kind, message):
    good = {"train_images": X[..., None], "train_labels": Y, "test_images": X[..., None], "test_labels": Y,
            "class_names": tuple("abcd")}
    Dataset("mine", **good)
    with pytest.raises(kind, match=f"mine: {message}"):
        Dataset("mine", **(good | change))


# ---- files that are no data set ---------------------------------------------------------------------------------


class Payload:
    """An object that creates a folder when it is unpickled."""

    def __init__(self, folder):
        self.folder = str(folder)

    def __reduce__(self):
        return os.mkdir, (self.folder,)


def pickled_images(path, payload):
    np.savez(path, images=np.array([payload, None], object), labels=np.zeros(2, int))


def pickled_class_names(path, payload):
    images, labels = some_images()
    np.savez(path, images=images, labels=labels, class_names=np.array([payload] * 4, object))


def pickled_npy(path, payload):
    with open(path, "wb") as file:
        np.save(file, np.array([payload, None], object))


def bare_pickle(path, payload):
    path.write_bytes(pickle.dumps({"images": payload, "labels": [0]}))


@pytest.mark.parametrize("write", [pickled_images, pickled_class_names, pickled_npy, bare_pickle])
def test_nothing_is_ever_unpickled(tmp_path, write):
    folder = tmp_path / "made by a pickle"
    pickle.loads(pickle.dumps(Payload(folder)))
    assert folder.exists()                       # the payload is live
    folder.rmdir()
    path = tmp_path / "evil.npz"
    write(path, Payload(folder))
    with pytest.raises(ValueError, match=r"evil\.npz"):
        load_data(path)
    assert not folder.exists()


def good_bytes(tmp_path, **arrays):
    images, labels = some_images(count=8, height=3, width=3, classes=2)
    return save(tmp_path / "good.npz", images=images, labels=labels, **arrays).read_bytes()


@pytest.mark.parametrize("keep", [0, 1, 4, 30, 0.5, 0.9, -1])
def test_truncated_npz_is_refused(tmp_path, keep):
    content = good_bytes(tmp_path)
    path = tmp_path / "cut.npz"
    path.write_bytes(content[:int(keep * len(content)) if isinstance(keep, float) else keep])
    with pytest.raises(ValueError, match=r"cut\.npz is not a readable \.npz file"):
        load_data(path)


@pytest.mark.parametrize("content", [b"", b"images,labels\n1,2\n", b"\x89PNG\r\n\x1a\n" + bytes(50), bytes(1000)],
                         ids=["empty", "text", "png", "zeros"])
def test_a_file_that_is_not_a_zip_is_unreadable(tmp_path, content):
    path = tmp_path / "wrong.npz"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"wrong\.npz is not a readable \.npz file"):
        load_data(path)


def test_single_array_under_the_name_npz_is_refused(tmp_path):
    path = tmp_path / "single.npz"
    with open(path, "wb") as file:
        np.save(file, X)
    with pytest.raises(ValueError, match=r"single\.npz"):
        load_data(path)


def test_zip_of_other_files_is_refused(tmp_path):
    path = tmp_path / "other.npz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("images", "no array")
        archive.writestr("labels", "nor this")
    with pytest.raises((ValueError, TypeError), match=r"other\.npz"):
        load_data(path)


def test_empty_zip_is_refused(tmp_path):
    path = tmp_path / "nothing.npz"
    zipfile.ZipFile(path, "w").close()
    with pytest.raises(ValueError, match=r"lacks images, labels.*holds nothing"):
        load_data(path)


def test_no_damaged_byte_gives_another_kind_of_error(tmp_path):
    content, path, surprises = good_bytes(tmp_path), tmp_path / "damaged.npz", {}
    for position in range(len(content)):
        path.write_bytes(content[:position] + bytes([content[position] ^ 0xFF]) + content[position + 1:])
        try:
            load_data(path)
        except (ValueError, TypeError):
            pass
        except Exception as error:
            surprises[position] = repr(error)
    assert not surprises


def test_missing_file_is_named():
    with pytest.raises(FileNotFoundError, match=r"nowhere/to/be/found\.npz: no such file"):
        load_data("nowhere/to/be/found.npz")


def test_folder_under_the_name_npz_is_refused(tmp_path):
    (tmp_path / "folder.npz").mkdir()
    with pytest.raises((ValueError, OSError), match=r"folder\.npz"):
        load_data(tmp_path / "folder.npz")


def test_an_empty_name_is_not_a_data_set():
    with pytest.raises(ValueError, match=r"unknown data set .* '': .*known: digits, mnist"):
        load_data("")


@pytest.mark.parametrize("name", ["digit", "Digits", "didgits"])
def test_unknown_name_is_answered_with_the_nearest(name):
    with pytest.raises(ValueError, match=f"'{name}'.*did you mean 'digits'"):
        load_data(name)


def test_unknown_name_far_from_all_is_answered_with_the_list():
    with pytest.raises(ValueError, match=r"'xyzzy'.*known: .*digits"):
        load_data("xyzzy")


def test_file_of_another_kind_is_refused(tmp_path):
    (tmp_path / "data.csv").write_text("1,2,3")
    with pytest.raises(ValueError, match=r"data\.csv: a CSV file names the labels .* as labels="):
        load_data(tmp_path / "data.csv")
    (tmp_path / "data.parquet").write_text("1,2,3")
    with pytest.raises(ValueError, match=r"data\.parquet.*\.npz"):
        load_data(tmp_path / "data.parquet")


def test_negative_seed_is_refused_by_name():
    with pytest.raises(ValueError, match="seed"):
        load_data("digits", seed=-1)


def test_a_dataset_describes_itself_in_a_line_and_with_sample_images():
    digits = load_data("digits")
    assert repr(digits) == "<Dataset digits: 1,438 training, 359 test images of 8x8x1, 10 classes>"
    page = digits._repr_html_()
    assert page.count("<img") == 10
    assert "&lt;Dataset digits" in page
    assert len(page) < 30_000
