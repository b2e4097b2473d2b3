"""Augmentation: what each transform does to images and targets, and that the split of a batch does not matter."""

import numpy as np
import pytest

import minivit
from minivit.ops import cross_entropy
from minivit.ops.philox import Generator
from minivit.parallel.batch_split import BatchSplit
from minivit.parallel.lanes import Lanes
from minivit.training.augment import TRANSFORMS, Augmentation
from minivit.training.augment.affine import Affine, reference_warp, warped
from minivit.training.augment.crop_flip import _move, reference_move
from minivit.training.augment.erase import _paste, boxes, reference_paste
from minivit.training.augment.mix import _blend, beta, reference_blend
from minivit.training.augment.randaugment import CHANGES, RandAugment, changed, reference_change

ALL = "affine,crop,flip,alternating-flip,cutout,erase,mixup,cutmix,randaugment"
CHANCE = np.random.default_rng(1)


def random_images(shape=(5, 9, 7, 2)):
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


def generator(samples, batch, step=0, epoch=0, dataset_indices=None, seed=3):
    return Generator(seed, step, samples, epoch, np.arange(batch) if dataset_indices is None else dataset_indices)


def augmented(text, images, targets=None, **more):
    """Return the images and targets of a whole batch after an augmentation."""
    targets = np.eye(len(images)) if targets is None else targets
    return Augmentation(text)(images, targets, generator(range(len(images)), len(images), **more))


def moved(images, cos, sin, shift_y, shift_x):
    """All images rotated and shifted alike."""
    motion = np.array([cos, -sin, sin, cos, shift_y, shift_x], float)
    return warped(images, np.broadcast_to(motion, (len(images), 6)).copy())


# ---- fast versions equal references -----------------------------------------------------------------------


@pytest.mark.parametrize("strength", [0.5, 1, 4])
def test_fast_warp_equals_reference(strength):
    images, affine = random_images((40, 9, 9, 2)), Affine(strength, angle=40, scale=0.4, shift=0.4)
    motions = affine.motions(np.random.default_rng(1).random((40, 4), np.float32), (9, 9))
    difference = np.abs(warped(images, motions).astype(int) - reference_warp(images, motions))
    assert difference.max() <= 1  # if the value lies halfway between two grey levels
    assert (difference > 0).mean() < 1e-3


def test_fast_move_equals_reference():
    images = random_images((40, 9, 7, 3))
    shifts, flips = CHANCE.integers(-7, 8, (40, 2)), CHANCE.random(40) < 0.5
    out = np.empty_like(images)
    _move(images, shifts, flips, out)
    np.testing.assert_array_equal(out, reference_move(images, shifts, flips))


@pytest.mark.parametrize("sources", [1, 6])
def test_fast_paste_equals_reference(sources):
    images, source = random_images((9, 8, 7, 3)), 255 - random_images((sources, 8, 7, 3))
    selected = np.array([0, 2, 3, 5, 7, 8])
    rectangles = boxes(CHANCE.random((6, 2)), CHANCE.random((6, 2)), images.shape)
    out = images.copy()
    _paste(out, selected, source, rectangles)
    np.testing.assert_array_equal(out, reference_paste(images, selected, source, rectangles))
    assert not np.array_equal(out, images)


def test_fast_blend_equals_reference():
    images, source, selected = random_images((9, 8, 7, 3)), 255 - random_images((4, 8, 7, 3)), np.array([1, 2, 6, 8])
    keep, out = CHANCE.random(4), images.copy()
    _blend(out, selected, source, keep)
    difference = np.abs(out.astype(int) - reference_blend(images, selected, source, keep))
    assert difference.max() <= 1
    assert (difference > 0).mean() < 1e-2
    assert (out != images).mean() > 0.3


# ---- affine -----------------------------------------------------------------------------------------------


def test_no_motion_changes_nothing():
    images = random_images()
    np.testing.assert_array_equal(moved(images, 1, 0, 0, 0), images)
    np.testing.assert_array_equal(augmented("affine:0", images)[0], images)


def test_whole_shifts_move_pixels_and_fill_with_black():
    images = random_images()
    there = moved(images, 1, 0, 2, -1)
    np.testing.assert_array_equal(there[:, :-2, 1:], images[:, 2:, :-1])
    assert not there[:, -2:].any()
    assert not there[:, :, :1].any()
    assert not moved(images, 1, 0, 20, 0).any()


def test_a_quarter_turn_equals_rot90():
    images = random_images((2, 6, 6, 1))
    np.testing.assert_array_equal(moved(images, 0, 1, 0, 0), np.rot90(images, -1, axes=(1, 2)))


# ---- crop and flip ----------------------------------------------------------------------------------------


def test_crop_shifts_by_each_distance_equally_often():
    image = np.zeros((9000, 5, 5, 1), np.uint8)
    image[:, 2, 2] = 255
    places = np.argwhere(augmented("crop:0.2", image)[0][..., 0])
    assert len(places) == 9000                                        # 0.2 of 5 is 1 pixel: it stays within the image
    counts = np.zeros((5, 5), int)
    np.add.at(counts, (places[:, 1], places[:, 2]), 1)
    assert counts[1:4, 1:4].sum() == 9000
    assert abs(counts[1:4, 1:4] - 1000).max() < 5 * np.sqrt(1000 * 8 / 9)


@pytest.mark.parametrize("probability", [0, 0.3, 1])
def test_flip_mirrors_the_given_fraction_of_images(probability):
    images = random_images((1000, 3, 4, 2))
    flipped = augmented(f"flip:{probability}", images)[0]
    mirrored = (flipped == images[:, :, ::-1]).all(axis=(1, 2, 3))
    np.testing.assert_array_equal(flipped[~mirrored], images[~mirrored])
    assert abs(mirrored.sum() - 1000 * probability) <= 5 * np.sqrt(1000 * probability * (1 - probability))


def test_alternating_flip_mirrors_each_image_every_other_epoch_at_any_index_in_the_batch():
    images, shown = random_images((200, 3, 4, 1)), []
    for epoch in range(4):
        order = np.random.default_rng(epoch).permutation(200)
        flipped = augmented("alternating-flip", images[order], step=epoch * 10, epoch=epoch, dataset_indices=order)[0]
        back = np.empty_like(flipped)
        back[order] = flipped
        shown.append(back)
    np.testing.assert_array_equal(shown[0], shown[2])
    np.testing.assert_array_equal(shown[1], shown[3])
    np.testing.assert_array_equal(shown[0], shown[1][:, :, ::-1])
    assert 60 < (shown[0] == images).all(axis=(1, 2, 3)).sum() < 140


# ---- cutout and erase -------------------------------------------------------------------------------------


def test_cutout_blackens_a_square_of_its_size_at_most_anywhere():
    images = np.full((2000, 8, 8, 3), 255, np.uint8)
    black = (augmented("cutout:0.5:0.75", images)[0] == 0).all(axis=3)
    areas = black.sum(axis=(1, 2))
    assert set(np.unique(black.any(axis=2).sum(axis=1))) <= set(range(5))
    # it is a rectangle
    np.testing.assert_array_equal(areas, black.any(axis=2).sum(axis=1) * black.any(axis=1).sum(axis=1))
    assert abs((areas > 0).mean() - 0.75) < 0.05
    assert areas.max() == 16
    assert black.any(axis=0).all()


def test_erase_puts_noise_into_a_rectangle_inside():
    images = np.zeros((500, 20, 20, 1), np.uint8)
    noisy = augmented("erase:0.3:0.5", images)[0][..., 0]
    rows, columns = noisy.any(axis=2), noisy.any(axis=1)
    areas = rows.sum(axis=1) * columns.sum(axis=1)
    assert abs((areas > 0).mean() - 0.5) < 0.12
    assert areas.max() <= 0.3 * 400 + 20
    assert 100 < noisy[noisy > 0].mean() < 156
    assert len(np.unique(noisy)) > 200


# ---- mixup and cutmix -------------------------------------------------------------------------------------


def test_mixup_mixes_images_and_targets_in_the_same_ratio():
    levels = np.linspace(0, 255, 18).astype(np.uint8)                 # image k has one grey level
    images = np.broadcast_to(levels[:, None, None, None], (18, 4, 4, 1)).copy()
    mixed, targets = augmented("mixup:1", images)
    np.testing.assert_allclose(targets.sum(axis=1), 1)
    assert ((targets > 0).sum(axis=1) == 2).all()                     # itself and one other
    np.testing.assert_allclose(mixed[:, 0, 0, 0], targets @ levels, atol=0.51)


def test_cutmix_mixes_targets_by_the_fraction_of_the_pixels():
    images = np.broadcast_to(np.arange(1, 41, dtype=np.uint8)[:, None, None, None], (40, 10, 10, 1)).copy()
    mixed, targets = augmented("cutmix:1:0.8", images)
    for k in range(40):
        shares = np.bincount(mixed[k].ravel(), minlength=41)[1:] / 100
        np.testing.assert_allclose(targets[k], shares, atol=1e-12)
    rectangles = (mixed[..., 0] != np.arange(1, 41)[:, None, None])
    np.testing.assert_array_equal(rectangles.sum(axis=(1, 2)),
                                  rectangles.any(axis=2).sum(axis=1) * rectangles.any(axis=1).sum(axis=1))
    assert 15 < rectangles.any(axis=(1, 2)).sum() < 40


def test_partners_come_from_the_whole_batch_and_keep_their_own_random_numbers():
    images, targets = random_images((30, 6, 6, 1)), np.eye(30)
    text = "crop,affine,flip"
    before = augmented(text, images)[0]
    after, mixed = augmented(f"{text},cutmix:1:1", images, targets)
    partners = np.where(mixed - np.diag(np.diag(mixed)), np.arange(30), 0).max(axis=1)
    assert len(set(partners)) > 10
    inside = (after == before) | (after == before[partners])
    assert inside.all()


@pytest.mark.parametrize("alpha", [0.2, 0.5, 1.0])
def test_beta_has_the_moments_of_beta(alpha):
    x = beta(np.random.default_rng(0).random((20_000, 48)), alpha)
    assert x.min() >= 0
    assert x.max() <= 1
    assert x.mean() == pytest.approx(0.5, abs=0.015)
    assert x.var() == pytest.approx(1 / (4 * (2 * alpha + 1)), abs=0.005)


def test_a_batch_of_one_is_mixed_with_itself():
    images = random_images((1, 6, 6, 1))
    for name in ("mixup", "cutmix:1:1"):
        mixed, targets = augmented(name, images)
        np.testing.assert_array_equal(mixed, images)
        np.testing.assert_allclose(targets, [[1]])


# ---- randaugment ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("strength", [0.1, 0.5, 1])
@pytest.mark.parametrize("shape", [(48, 9, 7, 1), (48, 8, 8, 3)])
def test_fast_changes_equal_the_reference(shape, strength):
    images = random_images(shape)
    images[::5] = images[::5] // 4 + 30                               # low contrast
    images[::7] = 77                                                  # one value only
    kinds = np.arange(48) % len(CHANGES)
    amounts = np.where(CHANCE.random(48) < 0.5, -strength, strength)
    np.testing.assert_array_equal(changed(images, kinds, amounts), reference_change(images, kinds, amounts))


def one_change(name, image, k):
    """An image (H, W) after one change."""
    out = changed(np.array(image, np.uint8)[None, :, :, None], np.array([CHANGES.index(name)]), np.array([float(k)]))
    return out[0, :, :, 0].tolist()


@pytest.mark.parametrize(("name", "k", "image", "expected"), [
    ("identity", 1, [[0, 100, 255]], [[0, 100, 255]]),
    ("brightness", -1, [[0, 100, 250]], [[0, 10, 25]]), ("brightness", 1, [[0, 100, 250]], [[0, 190, 255]]),
    ("contrast", -1, [[100, 200]], [[145, 155]]), ("contrast", 1, [[100, 200]], [[55, 245]]),
    ("posterize", 1, [[15, 16, 255]], [[0, 16, 240]]), ("posterize", 0.5, [[3, 4, 255]], [[0, 4, 252]]),
    ("solarize", 0.5, [[0, 127, 128, 255]], [[0, 127, 127, 0]]), ("solarize", -1, [[0, 9, 255]], [[255, 246, 0]]),
    ("autocontrast", 0.2, [[10, 60, 110]], [[0, 128, 255]]), ("autocontrast", 0.2, [[9, 9]], [[9, 9]]),
    ("equalize", 0.2, [[5, 6, 6, 7, 9]], [[0, 128, 128, 191, 255]]), ("equalize", 0.2, [[8, 8]], [[8, 8]]),
    ("shift-rows", 1 / 0.9, [[1, 2], [3, 4]], [[3, 4], [0, 0]]),      # by half of the height of 2: one pixel
    ("shift-columns", -1 / 0.9, [[10, 20], [30, 40]], [[0, 10], [0, 30]]),
])
def test_each_change_does_what_its_name_says(name, k, image, expected):
    assert one_change(name, image, k) == expected


def test_a_shear_moves_rows_in_proportion_to_the_column():
    image = np.zeros((7, 7), np.uint8)
    image[3] = 200
    sheared = np.array(one_change("shear-rows", image, 1 / 0.3))       # row' = row + column: the row becomes a diagonal
    assert (np.argmax(sheared, axis=0) == 6 - np.arange(7)).all()
    sheared = np.array(one_change("shear-columns", image.T, -1 / 0.3))
    assert (np.argmax(sheared, axis=1) == np.arange(7)).all()
    turned = np.array(one_change("rotate", image, 3))                  # by 90 degrees
    np.testing.assert_array_equal(turned, image.T)


def test_randaugment_draws_each_change_equally_often():
    u = Generator(0, 0, np.arange(24_000)).uniform(5, 2)
    kinds = (u[:, 0] * len(CHANGES)).astype(int)
    assert abs(np.bincount(kinds) - 2000).max() < 5 * np.sqrt(2000)
    images = random_images((2000, 6, 6, 1))
    same = (augmented("randaugment:1:0.5", images, np.eye(1).repeat(2000, 0))[0] == images).all(axis=(1, 2, 3))
    assert 100 < same.sum() < 400                                      # identity, one of 12, and some autocontrasts
    assert RandAugment(3.0).count == 3


def test_strong_transforms_stop_at_their_step_and_the_others_go_on():
    images = random_images((12, 8, 8, 1))
    for strong in ("cutout:0.5:1", "erase", "mixup", "cutmix:1:1", "randaugment"):
        text = f"crop,{strong},flip"
        for step in (0, 6, 7, 20):
            augment = Augmentation(text, strong_steps=7)
            found, targets = augment(images, np.eye(12), generator(range(12), 12, step=step))
            whole, mixed = augmented(text, images, step=step)
            weak = augmented("crop,crop:0,flip", images, step=step)[0]    # crop:0 does nothing, and keeps the streams
            np.testing.assert_array_equal(found, whole if step < 7 else weak)
            np.testing.assert_array_equal(targets, mixed if step < 7 else np.eye(12))
        assert (augmented(text, images, step=6)[0] != augmented("crop,crop:0,flip", images, step=6)[0]).any()


# ---- every transform, and all together --------------------------------------------------------------------


@pytest.mark.parametrize("text", [*TRANSFORMS, ALL, "cutmix,mixup,crop,cutmix:1:1"])
def test_some_samples_of_a_batch_are_the_same_as_in_the_whole_batch(text):
    images, targets = random_images((12, 8, 8, 2)), np.eye(12)
    augment, before = Augmentation(text), images.copy()
    whole, mixed = augment(images, targets, generator(range(12), 12, step=7))
    for samples in ([2, 3, 4], [11], [5, 1]):
        part, part_targets = augment(images, targets, generator(samples, 12, step=7))
        np.testing.assert_array_equal(part, whole[samples])
        np.testing.assert_array_equal(part_targets, mixed[samples])
    np.testing.assert_array_equal(images, before)
    np.testing.assert_allclose(mixed.sum(axis=1), 1)
    assert not np.shares_memory(whole, images)
    assert whole.dtype == np.uint8
    assert (whole != images).any()


@pytest.mark.parametrize("text", sorted({*TRANSFORMS} - {"alternating-flip"}))
def test_every_step_and_every_seed_give_other_images(text):
    images = random_images((12, 8, 8, 1))
    first = augmented(text, images)[0]
    assert not np.array_equal(augmented(text, images, step=1)[0], first)
    assert not np.array_equal(augmented(text, images, seed=4)[0], first)


def test_the_same_transform_twice_draws_twice():
    images = np.full((200, 8, 8, 1), 255, np.uint8)
    black = [(augmented(text, images)[0] == 0).mean() for text in ("cutout:0.5:1", "cutout:0.5:1,cutout:0.5:1")]
    assert black[1] > 1.3 * black[0]


@pytest.mark.parametrize(("lanes", "micro_batch"), [(2, 3), (3, 2), (7, 1)])
def test_the_split_changes_the_gradient_by_rounding_only(lanes, micro_batch):
    model = minivit.create_model("vit", image_size=8, patch_size=4, channels=1, classes=3, width=12, depth=1, heads=2,
                                 dtype=np.float64)
    model.head.weight.data = np.random.default_rng(0).standard_normal((12, 3))
    images, targets = random_images((7, 8, 8, 1)), cross_entropy.targets(np.arange(7) % 3, 3, 0.1, np.float64)

    def gradient(split):
        lanes = Lanes(model, threads=1, split=split, augment=Augmentation(ALL))
        loss, _, norm = lanes.forward_backward(images, targets, step=4, epoch=1, dataset_indices=np.arange(7) + 10)
        return np.concatenate([[loss, norm], model.gradients])

    np.testing.assert_allclose(gradient(BatchSplit(lanes, micro_batch)), gradient(BatchSplit(1, 7)), rtol=1e-9,
                               atol=1e-12)


def test_any_number_of_threads_gives_the_same_bits_with_every_transform():
    def trained(threads):
        model = minivit.create_model("vit", image_size=8, patch_size=4, channels=1, classes=3, width=12, depth=1,
                                     heads=2)
        trainer = minivit.Trainer(model, lr=1e-2, threads=threads, augment=Augmentation(ALL))
        losses = [trainer.step(random_images((21, 8, 8, 1)), np.arange(21) % 3, None, epoch, np.arange(21))
                  for epoch in range(3)]
        return losses, model.vector.tobytes()

    assert trained(1) == trained(2) == trained(3)


@pytest.mark.parametrize(("text", "message"), [
    ("flop", "unknown augmentation transform 'flop': did you mean 'flip'"),
    ("crop,", "unknown augmentation transform ''"),
    ("affine:-1", "strength of affine must be a finite number at least 0 and at most 4, not -1"),
    ("crop:2", "reach of crop .*at most 1"),
    ("flip:1.5", "probability of flip .*at most 1"),
    ("flip:often", "the parameters in 'flip:often' must be numbers: write flip:PROBABILITY"),
    ("alternating-flip:0.5", "'alternating-flip:0.5': alternating-flip takes at most 0 parameters, not 1; write "
                             "alternating-flip$"),
    ("cutout:nan", "size of cutout"),
    ("erase:0.001", "area of erase .*at least 0.02"),
    ("mixup:0", "alpha of mixup .*at least 0.05"),
    ("cutmix:1:2", "probability of cutmix"),
    ("randaugment:2.5", "count of randaugment must be a whole number"),
    ("randaugment:2:1.5", "strength of randaugment must be a finite number at least 0 and at most 1, not 1.5"),
    ("cutmix:1:0.5:7", "'cutmix:1:0.5:7': cutmix takes at most 2 parameters, not 3; write cutmix:ALPHA:PROBABILITY"),
])
def test_invalid_augmentations_are_refused(text, message):
    with pytest.raises(ValueError, match=message):
        Augmentation(text)


def test_a_step_needs_a_dataset_index_for_each_image():
    model = minivit.create_model("vit", image_size=8, patch_size=4, channels=1, classes=3, width=12, depth=1, heads=2)
    with pytest.raises(ValueError, match="dataset_indices must have 5 entries, not 4"):
        minivit.Trainer(model, augment=Augmentation("flip")).step(random_images((5, 8, 8, 1)), np.zeros(5, int),
                                                                  dataset_indices=np.arange(4))


def test_none_changes_nothing_and_floats_are_refused():
    images = random_images()
    np.testing.assert_array_equal(augmented("none", images)[0], images)
    with pytest.raises(TypeError, match="uint8 pixels, not float64"):
        augmented("flip", images.astype(float))
