"""Ranks read only the images of their own lanes, and share one copy of them on each machine."""

import json

import numpy as np
import pytest
from mpi_jobs import RANK, SAY_READY, Job, linux, no_job_is_left, run, with_mpi  # noqa: F401

import minivit
from minivit.common.rows import Rows
from minivit.data import Dataset
from minivit.data.dataset import pixel_counts
from minivit.parallel.batch_split import BatchSplit
from minivit.parallel.lanes import Lanes
from minivit.parallel.ranks.alone import Alone
from minivit.training.augment import Augmentation
from minivit.training_pipeline.run_settings import with_validation


def test_rows_are_those_of_the_array_also_of_rows_and_nothing_is_copied():
    array = np.arange(24, dtype=np.uint8).reshape(6, 2, 2, 1)
    rows = Rows(Rows(array, np.array([5, 3, 1, 0])), np.array([3, 1]))
    assert (rows.shape, rows.dtype, rows.ndim, len(rows)) == ((2, 2, 2, 1), np.uint8, 4, 2)
    assert rows[0].ravel().tolist() == [0, 1, 2, 3]
    assert rows[1:].ravel().tolist() == [12, 13, 14, 15]
    assert rows[np.array([1, 0], np.uint64)].ravel()[::4].tolist() == [12, 0]
    assert [image[0, 0, 0] for image in rows] == [0, 12]
    array[0] = 9
    assert rows[0].ravel().tolist() == [9] * 4


def test_pixels_of_rows_are_counted():
    array = np.random.default_rng(0).integers(0, 4, (3000, 2, 2, 3), np.uint8)
    indices = np.arange(0, 3000, 2)
    counts = pixel_counts(Rows(array, indices))
    assert counts.sum(axis=1).tolist() == [1500 * 4] * 3
    assert counts[1, 2] == (array[::2, ..., 1] == 2).sum()


def test_a_validation_part_copies_no_image():
    data = minivit.load_data("digits")
    parts = with_validation(data, {"val_fraction": 0.25, "seed": 3})
    assert parts.train_images.array is data.train_images
    assert parts.val_images.array is data.train_images
    both = np.concatenate([parts.train_images[:], parts.val_images[:]])
    assert sorted(map(bytes, both)) == sorted(map(bytes, data.train_images))
    assert parts.val_labels.tolist() == data.train_labels[parts.val_images.indices].tolist()


class Noting:
    """An array that notes which rows are read."""

    def __init__(self, array):
        self.array, self.read, self.shape, self.dtype, self.ndim = array, set(), array.shape, array.dtype, array.ndim

    def __getitem__(self, key):
        self.read |= set(np.arange(len(self.array))[key].ravel().tolist())
        return self.array[key]


class OneOf(Alone):
    """A rank of some, without the others."""

    def __init__(self, rank, size):
        self.rank, self.size = rank, size

    def own(self, count):
        return slice(*self.edges(count)[self.rank:self.rank + 2])


@pytest.mark.parametrize("augment", [None, Augmentation("affine,crop,flip")], ids=["as they are", "augmented"])
def test_a_rank_reads_only_the_images_of_its_own_lanes(augment):
    data = minivit.load_data("digits")
    model = minivit.create_model("vit_mini", image_size=8)
    order = np.random.default_rng(0).permutation(len(data.train_images))[:61]
    targets = np.eye(10, dtype=np.float32)[data.train_labels[order]]
    for step in range(3):                                             # recorded twice, then replayed
        read = []
        for rank in range(3):
            images = Noting(data.train_images)
            lanes = Lanes(model, threads=1, split=BatchSplit(6, 8), augment=augment, ranks=OneOf(rank, 3))
            lanes.forward_backward(Rows(images, order), targets, step)
            read.append(images.read)
        assert set.union(*read) == set(order.tolist())
        assert sum(map(len, read)) == len(order)                      # none is read twice
        assert max(map(len, read)) <= len(order) / 3 + 2


LOAD = f"""
{RANK}
import json, sys
import numpy as np
import minivit
from minivit.parallel.ranks.mpi import ranks_of
from minivit.training_pipeline.shared_data import load_once
from mpi4py import MPI

loaded = []
def load():
    loaded.append(rank)
    return minivit.load_data("digits", seed=5)

def origin(array):
    while isinstance(array.base, np.ndarray):
        array = array.base
    return type(array.base).__name__

ranks = ranks_of(MPI.COMM_WORLD)
with ranks.together():
    data, alone = load_once(ranks, load), minivit.load_data("digits", seed=5)
    for part in alone.parts:
        for ours, theirs in zip(data.parts[part], alone.parts[part]):
            np.testing.assert_array_equal(ours, theirs, strict=True)
    assert repr(data) == repr(alone) and data.source == alone.source and data.class_names == alone.class_names
    known = {{"ordered_digest", "hashes", "pixel_counts"}} & set(vars(data))
    same = (data.digest == alone.digest, data.ordered_digest == alone.ordered_digest,
            data.pixel_statistics() == alone.pixel_statistics(),
            data.trained_hashes.tolist() == alone.trained_hashes.tolist())
    found = ranks.allgather([loaded, len(known), same, origin(data.train_images), data.train_images.flags.writeable])
if rank == 0:
    print(json.dumps(found))
"""


@with_mpi
@pytest.mark.parametrize(("hosts", "loaders"), [("", [0]), ("12", [0, 1]), ("abb", [0, 1]), ("aba", [0, 1])])
def test_one_rank_of_each_machine_loads_and_all_have_the_same_data(tmp_path, hosts, loaders):
    before = f"import socket\n{RANK}socket.gethostname = lambda: {hosts!r}[rank]\n" if hosts else ""
    code, out, _, err = run(len(hosts) or 3, "-c", before + LOAD, TMPDIR=str(tmp_path))
    assert code == 0, err
    found = json.loads(out)
    assert [rank for loaded, *_ in found for rank in loaded] == loaders
    assert [rest for _, *rest in found] == [[3, [True] * 4, "mmap", False]] * len(found)
    assert [*tmp_path.iterdir()] == []


@with_mpi
@pytest.mark.parametrize(("how", "error"), [
    ("raise OSError(28, 'No space')", "the images for all ranks cannot be written: No space; set TMPDIR to another"),
    ("old(*a); raise MemoryError('no memory')", "MemoryError: no memory")], ids=["full", "after the file is there"])
def test_an_error_while_the_images_are_written_leaves_no_file(tmp_path, how, error):
    before = ("import minivit.training_pipeline.shared_data as s\nold = s.write_tensors\n"
              f"def new(*a):\n    {how}\ns.write_tensors = new\n")
    code, _, _, err = run(2, "-c", before + LOAD, TMPDIR=str(tmp_path))
    assert code != 0
    assert error in err
    assert [*tmp_path.iterdir()] == []


@with_mpi
@linux
def test_the_images_leave_no_file_if_a_rank_is_killed(tmp_path):
    text = ("import os, time\nimport minivit\nfrom minivit.parallel.ranks.mpi import ranks_of\n"
            "from minivit.training_pipeline.shared_data import load_once\nfrom mpi4py import MPI\n"
            "ranks = ranks_of(MPI.COMM_WORLD)\nwith ranks.together():\n"
            f"    data = load_once(ranks, lambda: minivit.load_data('digits'))\n    {SAY_READY}\n"
            "    time.sleep(60)\n")
    (tmp_path / "t").mkdir()
    job = Job(2, "-c", text, TMPDIR=str(tmp_path / "t"))
    assert job.process.stdout.readline() == "ready\n"
    job.kill()
    assert [*(tmp_path / "t").glob("minivit*")] == []                 # Open MPI may leave a folder of its own


def test_the_digest_of_the_order_depends_on_it_and_the_other_one_does_not():
    data = minivit.load_data("digits")
    order = np.random.default_rng(0).permutation(len(data.train_labels))
    shuffled = Dataset(data.name, data.train_images[order], data.train_labels[order], data.test_images,
                       data.test_labels, data.class_names)
    assert shuffled.digest == data.digest
    assert shuffled.ordered_digest != data.ordered_digest
    assert shuffled.trained_hashes.tolist() == data.trained_hashes.tolist()
