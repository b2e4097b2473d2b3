"""Record and replay: a replayed step has the bits of the step as written. What cannot be recorded runs as written."""

import copy
import gc
import multiprocessing
import pickle
import re
import weakref
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numba
import numpy as np
import pytest

from minivit import Trainer, create_model
from minivit.kernel import active, empty
from minivit.kernel_replay import NotRecordable, Replayed, Tracked
from minivit.kernel_replay.loops import layout
from minivit.kernel_replay.machine import Table, calls_done
from minivit.kernel_replay.machine import run as run_table
from minivit.kernel_replay.memory import Memory
from minivit.kernel_replay.recorder import Recorder
from minivit.layers import Linear
from minivit.matrix_products import find_gemm
from minivit.models.vit import ViT
from minivit.parallel import prediction
from minivit.parallel.batch_split import BatchSplit
from minivit.parallel.lanes import Lanes, supervised
from minivit.training.augment import Augmentation
from minivit.training.distillation import Distillation

pytestmark = pytest.mark.skipif(bool(numba.config.DISABLE_JIT) or find_gemm() is None, reason="needs compiled kernels")

VIT = {"image_size": 8, "patch_size": 4, "channels": 1, "classes": 5, "width": 16, "depth": 2, "heads": 2,
       "mlp_ratio": 2}
MODELS = {
    "token": ("vit", VIT), "mean": ("vit", VIT | {"pool": "mean"}), "sincos": ("vit", VIT | {"positions": "sincos"}),
    "no positions": ("vit", VIT | {"positions": "none", "pool": "mean"}),
    "relative bias": ("vit", VIT | {"relative_bias": True}),
    "rotary": ("vit", VIT | {"positions": "rotary"}),
    "extended": ("vit", VIT | {"positions": "learned+rotary", "registers": 2, "layer_scale": 0.1, "qk_norm": True,
                               "relative_bias": True}),
    "extended, by mean": ("vit", VIT | {"positions": "rotary", "registers": 1, "pool": "mean"}),
    "extended, by mean of normed tokens": ("vit", VIT | {"registers": 1, "pool": "mean", "norm_first": True}),
    "convolutional stem": ("vit", VIT | {"stem": "conv", "pool": "mean"}),
    "stem of full resolution": ("vit", VIT | {"stem": "conv-full", "pool": "mean"}),
    "dropout": ("vit", VIT | {"drop_rate": 0.2, "drop_path_rate": 0.3}),
    "deit": ("deit", VIT),
    "swin": ("swin", {"image_size": 8, "patch_size": 1, "channels": 1, "classes": 5, "width": 8, "depths": [2, 2],
                      "heads": [2, 2], "window": 4, "drop_path_rate": 0.2}),
    "resnet": ("resnet", {"image_size": 8, "channels": 1, "classes": 5, "layers": [1, 1], "width": 8, "block": "basic",
                          "reduction": 1, "groups": 4, "drop_path_rate": 0.2}),
    "bottleneck": ("resnet", {"image_size": 16, "channels": 1, "classes": 5, "layers": [1], "width": 8,
                              "block": "bottleneck", "reduction": 4, "groups": 4, "drop_rate": 0.2}),
}
OPTIONS = {
    "adamw": {}, "muon": {"optimiser": "muon"}, "average": {"ema": 0.9}, "recompute": {"recompute": True},
    "smoothing": {"label_smoothing": 0.2}, "augmentation": {"augment": Augmentation("crop,flip,cutmix:1:0.5")},
    "micro-batches": {"split": BatchSplit(2, 3)}, "one lane": {"split": BatchSplit(1, 99)},
    "two threads": {"threads": 2, "split": BatchSplit(4, 2)},
}


@pytest.fixture(autouse=True)
def replay_is_switched_on(monkeypatch):
    """Replay, also where the environment switches it off for all other tests."""
    monkeypatch.delenv("MINIVIT_REPLAY", raising=False)


def make(name, seed=0, dtype=np.float32):
    """Return a model whose weights are all random."""
    family, options = MODELS[name]
    model = create_model(family, **options)
    model.vector[:] += 0.1 * np.random.default_rng(seed).standard_normal(model.vector.size)
    return model.astype(dtype)


def batches(model, sizes=(12,) * 5):
    """Yield batches of these sizes."""
    rng = np.random.default_rng(3)
    for size in sizes:
        images = rng.integers(0, 256, (size, *model.input_shape)).astype(np.uint8)
        yield images, rng.integers(0, model.classes, size)


def train(model, sizes=(12,) * 5, **options):
    """Train on some batches -> (losses, norms of the gradients, weights), and why steps were not replayed."""
    trainer = Trainer(model, lr=1e-2, **options)
    numbers = [(trainer.step(*batch), trainer.grad_norm) for batch in batches(model, sizes)]
    return (numbers, model.vector.tobytes(), trainer.average.vector.tobytes()), trainer.lanes.replicas.not_replayed


def assert_replay_changes_nothing(make_model, **options):
    """Train with and without replay, and compare every bit."""
    written, _ = train(make_model(), replay=False, **options)
    replayed, reason = train(make_model(), **options)
    assert reason == ""
    assert replayed == written


@pytest.mark.parametrize("name", MODELS)
def test_every_model_replays_with_the_same_bits(name):
    assert_replay_changes_nothing(lambda: make(name))


@pytest.mark.parametrize("name", OPTIONS)
def test_every_training_option_replays_with_the_same_bits(name):
    assert_replay_changes_nothing(lambda: make("dropout"), **OPTIONS[name])


def test_float64_replays_with_the_same_bits():
    assert_replay_changes_nothing(lambda: make("dropout", dtype=np.float64))


@pytest.mark.parametrize("kind", ["hard", "soft"])
def test_distillation_replays_with_the_same_bits(kind):
    teachers = [make("resnet", seed=1), make("token", seed=2)]
    assert_replay_changes_nothing(lambda: make("deit"), objective=Distillation(teachers, kind))


def test_changing_batch_sizes_replay_with_the_same_bits():
    assert_replay_changes_nothing(lambda: make("dropout"), sizes=[12, 7, 12, 7, 12, 7, 3, 12, 7])


def test_steps_are_replayed_from_the_third_on(monkeypatch):
    written = []
    monkeypatch.setattr(ViT, "forward", lambda model, images, forward=ViT.forward: (written.append(len(images)),
                                                                                   forward(model, images))[1])
    model = make("token")
    trainer, numbers = Trainer(model, split=BatchSplit(1, 99)), []
    for batch in batches(model):
        trainer.step(*batch)
        numbers.append(len(written))
    assert numbers == [1, 2, 2, 2, 2]                                 # recorded twice, then replayed


def test_the_environment_switches_replay_off(monkeypatch):
    monkeypatch.setenv("MINIVIT_REPLAY", "0")
    model = make("token")
    trainer = Trainer(model)
    for batch in batches(model):
        trainer.step(*batch)
    assert trainer.lanes.replicas.not_replayed == "replay is switched off"


# ---- layers that a user writes ---------------------------------------------------------------------------------------


class Tanh(Linear):
    """A linear map, then tanh: NumPy's tanh has no kernel here."""

    replayable = True

    def forward(self, x):
        self.y = np.tanh(super().forward(x))
        return self.y

    def backward(self, dy):
        return super().backward(dy * (1 - self.y**2))


class Alternating(Linear):
    """A layer whose result depends on how often it was called."""

    replayable = True

    calls = 0

    def forward(self, x):
        Alternating.calls += 1
        self.factor = 1.0 + Alternating.calls % 2
        return super().forward(x) * self.factor

    def backward(self, dy):
        return super().backward(dy * self.factor)


class Reading(Linear):
    """A layer that reads a number of its input."""

    replayable = True

    def forward(self, x):
        return super().forward(x if x[0, 0] > 0 else -x)


class Failing(Linear):
    """A layer that can be made to fail."""

    replayable, fails = True, False

    def forward(self, x):
        if Failing.fails:
            raise ArithmeticError("made to fail")
        return super().forward(x)


def with_head(layer):
    """Return a model whose head is of another class."""
    model = create_model("vit", **VIT)
    model.head = layer(VIT["width"], VIT["classes"])
    model.pack()
    model.vector[:] += 0.1 * np.random.default_rng(0).standard_normal(model.vector.size)
    return model


@pytest.mark.parametrize(("layer", "reason"), [(Tanh, "np.tanh"), (Reading, "reading a number")])
def test_a_layer_that_cannot_be_recorded_runs_as_written(layer, reason):
    written, _ = train(with_head(layer), replay=False)
    replayed, why = train(with_head(layer))
    assert reason in why
    assert replayed == written


def test_a_record_that_gives_other_numbers_is_dropped():
    model = with_head(Alternating)
    trainer = Trainer(model, split=BatchSplit(1, 99))
    for batch in batches(model):
        trainer.step(*batch)
    assert "other calls" in trainer.lanes.replicas.not_replayed


def test_an_error_while_recording_is_raised_and_ends_the_recording(monkeypatch):
    model = with_head(Failing)
    trainer, steps = Trainer(model, split=BatchSplit(1, 99)), batches(model)
    trainer.step(*next(steps))
    with monkeypatch.context() as failing:
        failing.setattr(Failing, "fails", True)
        with pytest.raises(ArithmeticError, match="made to fail"):
            trainer.step(*next(steps))
    assert active.recorder is None
    assert all(np.isfinite(trainer.step(*batch)) for batch in steps)
    assert trainer.lanes.replicas.not_replayed == "made to fail"


class Own(Linear):
    """A layer that does not say that it may be replayed."""


def test_a_layer_of_the_users_own_is_replayed_only_if_it_says_so():
    model = with_head(Own)
    trainer = Trainer(model)
    for images, labels in batches(model):
        trainer.step(images, labels)
        model.predict(images)
    assert trainer.lanes.replicas.not_replayed == "head is of the class Own, which does not set replayable = True"
    assert prediction.not_replayed(model) == trainer.lanes.replicas.not_replayed


def test_an_objective_of_the_users_own_runs_as_written():
    def objective(model, images, targets, batch):
        return supervised(model, images, targets, batch)

    written, _ = train(make("token"), replay=False)
    replayed, why = train(make("token"), objective=objective)
    assert "objective" in why
    assert replayed == written


def test_a_changed_weight_of_a_distillation_is_seen():
    def losses(replay):
        model = make("deit")
        objective = Distillation(make("resnet", seed=1), "soft")
        trainer, found = Trainer(model, objective=objective, replay=replay), []
        for step, batch in enumerate(batches(model, (12,) * 8)):
            objective.weight = 0.5 if step < 5 else 0.0
            found.append(trainer.step(*batch))
        return found

    assert losses(True) == losses(False)


def test_a_trainer_cannot_be_copied():
    trainer = Trainer(make("token"))
    for copied in (copy.deepcopy, pickle.dumps):
        with pytest.raises(TypeError, match="copy the model and make a new Trainer"):
            copied(trainer)


# ---- prediction ------------------------------------------------------------------------------------------------------


def predict_as_written(model, images):
    """Return the logits of a copy of the model that records nothing. It cuts the images into the same micro-batches."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MINIVIT_REPLAY", "0")
        return model.copy().predict(images, threads=1)


@pytest.mark.parametrize("name", MODELS)
def test_every_model_predicts_with_the_same_bits(name):
    model = make(name)
    replayed = [model.predict(images, threads=1) for images, _ in batches(model)]
    assert prediction.not_replayed(model) == ""
    for logits, (images, _) in zip(replayed, batches(model), strict=True):
        np.testing.assert_array_equal(logits, predict_as_written(model, images))


def test_prediction_sees_what_is_changed():
    model = make("token")
    changes = [lambda: model.vector.__imul__(1.1),                                                   # in place
               lambda: model.pack(values={p.name: 2 * p.data for p in model.parameters()}),         # in other memory
               lambda: setattr(model.blocks[0].norm1, "eps", 0.5), lambda: setattr(model, "mean", model.mean + 0.1)]
    for change in changes:
        change()
        for images, _ in batches(model):
            np.testing.assert_array_equal(model.predict(images, threads=1), predict_as_written(model, images))


def test_a_layer_may_keep_a_tuple_of_arrays():
    model = make("token")
    model.head.tables = (np.ones(3), (np.ones(2), "a"))
    for images, _ in batches(model):
        np.testing.assert_array_equal(model.predict(images, threads=1), predict_as_written(model, images))


def test_many_threads_predict_with_one_model():
    model, pool = make("token"), ThreadPoolExecutor(8)
    images = [batch for batch, _ in batches(model, [1, 2, 5, 12] * 10)]
    right = [model.forward(batch) for batch in images]
    for logits, expected in zip(pool.map(lambda batch: model.predict(batch, threads=1), images), right, strict=True):
        np.testing.assert_allclose(logits, expected, rtol=0, atol=1e-5)


def test_a_model_that_a_layer_refers_to_is_freed():
    model = make("token")
    model.head.owner = lambda: model
    for images, _ in batches(model):
        model.predict(images)
    reference = weakref.ref(model)
    model = None
    gc.collect()
    assert reference() is None


@pytest.mark.parametrize("images", [np.zeros((3, 8, 8, 1), np.float16), np.zeros((3, 8, 8, 1), ">f4"),
                                    np.zeros((8, 8, 1, 3), np.uint8).T.reshape(3, 8, 8, 1),
                                    np.zeros((6, 8, 8, 1), np.uint8)[::-2]])
def test_images_of_any_kind_are_predicted(images):
    model = make("token")
    for _ in range(4):
        np.testing.assert_array_equal(model.predict(images, threads=1), predict_as_written(model, images))


def test_a_model_that_has_predicted_can_be_copied_and_pickled():
    model = make("token")
    for images, _ in batches(model):
        logits = model.predict(images, threads=1)
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        np.testing.assert_array_equal(other.predict(images), logits)


def _predict(model, images, queue):
    queue.put(model.predict(images, threads=1))


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="needs fork")
def test_a_forked_process_replays():
    model, context = make("token"), multiprocessing.get_context("fork")
    for images, _ in batches(model):
        logits = model.predict(images, threads=1)
    queue = context.Queue()
    process = context.Process(target=_predict, args=(model, images, queue))
    process.start()
    np.testing.assert_array_equal(queue.get(timeout=60), logits)
    process.join()


# ---- tracked arrays --------------------------------------------------------------------------------------------------


@pytest.fixture
def recorder():
    active.recorder = Recorder(Memory())
    yield active.recorder
    active.recorder = None


REFUSED = {
    "float": lambda x: float(x[0, :1].reshape(())), "bool": bool, "item": lambda x: x.item(0), "any": lambda x: x.any(),
    "sum": lambda x: x.sum(), "mean": lambda x: x.mean(axis=0), "exp": np.exp, "product": lambda x: x @ x.T,
    "number": lambda x: x[0, 0], "index": lambda x: x[[0, 1]], "mask": lambda x: x[x > 0],
    "comparison": lambda x: x > 0, "quotient": lambda x: x / 3, "argmax": lambda x: x.argmax(),
    "list": lambda x: x.tolist(), "backwards": lambda x: x[::-1] + 1, "where": lambda x: np.where(x, 0, 1),
    "unknown array": lambda x: x + np.ones(4, np.float32), "take": lambda x: np.take(x, [0]),
    "sort": lambda x: x.sort(), "flat": lambda x: x.flat[0], "shift": lambda x: x[:, 1:].__iadd__(x[:, :-1]),
    "shifted copy": lambda x: x.__setitem__((slice(None), slice(1, None)), x[:, :-1]),
    "index of an array": lambda x: x[np.array([0, 1])], "order": lambda x: x.reshape(-1, order="F"),
    "index of a list": lambda x: x.__setitem__([0], 1),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_a_record_could_not_follow_is_refused(recorder, name):
    x = recorder.empty((3, 4), np.float32)
    x[...] = 1
    with pytest.raises(NotRecordable):
        REFUSED[name](x)


FOLLOWED = {
    "sum": lambda x, y: x + y, "difference": lambda x, y: 2 - x, "product": lambda x, y: x * y[:1],
    "in place": lambda x, y: x.__iadd__(y), "copy": lambda x, y: x.copy(), "transposed copy": lambda x, y: x.T.copy(),
    "reshape with a copy": lambda x, y: x.T.reshape(-1), "fill": lambda x, y: (x.fill(3), x)[1],
    "assignment": lambda x, y: (x.__setitem__((slice(None), 0), y[:, 1]), x)[1],
    "stack": lambda x, y: np.stack([x, y], axis=1), "concatenate": lambda x, y: np.concatenate([x, y], axis=-1),
    "zeros_like": lambda x, y: np.zeros_like(x), "broadcast": lambda x, y: x[:, None] + y,
    "column": lambda x, y: x - y[:, :1], "float64": lambda x, y: x.astype(np.float64), "rows": lambda x, y: sum(x),
    "strides": lambda x, y: x[::2, ::3] + y[1:, 1:3],
}


@pytest.mark.parametrize("name", FOLLOWED)
def test_what_numpy_does_with_arrays_is_replayed(name):
    function, rng = FOLLOWED[name], np.random.default_rng(0)

    def run(x, y):
        return [function(x * 1, y * 1)]

    replayed = Replayed(run, run)
    for _ in range(5):
        x, y = rng.standard_normal((2, 3, 4)).astype(np.float32)
        np.testing.assert_array_equal(replayed(x, y)[0], run(x, y)[0])
    assert replayed.reason == ""


def test_outside_of_a_recording_a_tracked_array_is_an_array():
    x = np.arange(6.0).reshape(2, 3).view(Tracked)
    assert [float(x[1, 2]), x.sum(), x.any(), x.argmax()] == [5, 15, True, 5]
    np.testing.assert_array_equal(np.exp(x), np.exp(np.arange(6.0).reshape(2, 3)))
    x += 1
    x[0] = 0
    np.testing.assert_array_equal(x, [[0, 0, 0], [4, 5, 6]])
    np.testing.assert_array_equal(np.stack([x, x]).mean(axis=0), x)


def test_a_result_that_is_not_of_the_step_is_refused():
    replayed = Replayed(lambda x: [np.ones(3)], lambda x: [np.ones(3)])
    for _ in range(3):
        np.testing.assert_array_equal(replayed(np.zeros(3))[0], np.ones(3))
    assert "does not come from" in replayed.reason


# ---- memory ----------------------------------------------------------------------------------------------------------


def test_freed_memory_is_used_again_and_neighbours_are_joined():
    memory = Memory()
    (a, of_a), (b, of_b), (c, _) = (memory.take(1000) for _ in range(3))
    assert len(memory.segments) == 1
    memory.give_back(*of_a)
    again, of_again = memory.take(900)
    assert again.ctypes.data == a.ctypes.data
    memory.give_back(*of_again)
    memory.give_back(*of_b)
    assert memory.take(2000)[0].ctypes.data == a.ctypes.data
    assert all(block.ctypes.data % 64 == 0 for block in (a, b, c))


def test_a_new_recording_gets_the_addresses_of_the_last_one():
    memory = Memory()
    first, place = memory.take(1000)
    memory.reset()
    assert memory.take(1000)[0].ctypes.data == first.ctypes.data
    memory.give_back(*place)                                          # of the last recording, so ignored
    assert memory.take(1000)[0].ctypes.data != first.ctypes.data


def test_a_large_array_gets_a_segment_of_its_own():
    memory = Memory()
    assert memory.take(5 << 20)[0].size == 5 << 20
    assert [segment.size for segment in memory.segments] == [5 << 20]


def test_a_record_needs_no_more_memory_than_its_arrays_at_one_time(recorder):
    for _ in range(100):
        x = empty((512, 512), np.float32)
        y = empty((512, 512), np.float32)
        del x, y
    assert sum(segment.size for segment in recorder.memory.segments) <= 4 * 512 * 512 * 4


def test_layouts_merge_axes():
    x = np.zeros((2, 3, 4, 5, 6, 7), np.float32)
    assert layout([x, x]).T.tolist()[-1] == [x.size, 1, 1]
    assert layout([x, x.transpose(0, 2, 4, 1, 3, 5)]) is None or layout([x, x]).shape == (3, 5)
    assert layout([x.transpose(1, 0, 5, 3, 2, 4), x.transpose(0, 1, 2, 3, 5, 4).reshape(3, 2, 7, 5, 4, 6)]) is None


def test_two_functions_share_no_memory():
    f = Replayed(lambda x: [x + 1], lambda x: [x + 1])
    g = Replayed(partial(lambda n, x: [x + n], 2.0), lambda x: [x + 2.0])
    for _ in range(4):
        (a,), (b,) = f(np.zeros(3)), g(np.zeros(3))
    np.testing.assert_array_equal(a, 1)
    np.testing.assert_array_equal(b, 2)


# ---- a part of the gradient, before the replay ends ------------------------------------------------------------------


@pytest.mark.parametrize("split", [BatchSplit(1, 99), BatchSplit(2, 2)], ids=["one micro-batch", "several"])
@pytest.mark.parametrize("name", MODELS)
def test_a_chunk_that_is_final_during_a_replay_has_the_value_it_has_at_the_end(monkeypatch, name, split):
    model, found, calls = make(name), {}, []
    lanes = Lanes(model, threads=1, split=split)
    chunks = [slice(a, a + 40) for a in range(0, model.vector.size, 40)]

    def value(lane, chunk):
        total = np.empty_like(model.vector[chunk])
        lane.gradient.add_to(total, chunk, True)
        return total.tobytes()

    def one_by_one(table, done):
        calls.append(len(table._table))
        for k in range(calls[-1]):
            run_table(table._table[k:k + 1], np.zeros(1, np.int64))
            done[0] = k + 1
            for lane, chunk in [(lane, chunk) for lane in lanes._lanes for chunk in chunks
                                if (lane, chunk.start) not in found and lane.gradient.is_final(chunk)]:
                found[lane, chunk.start] = k, value(lane, chunk)

    for images, labels in batches(model, (12,) * 2):
        lanes.forward_backward(images, np.eye(model.classes, dtype=np.float32)[labels], 0)
    monkeypatch.setattr(Table, "run", one_by_one)
    lanes.forward_backward(images, np.eye(model.classes, dtype=np.float32)[labels], 1)
    assert len(calls) == (1 if split.lanes == 1 else 6)               # it was replayed
    assert [key for key, (_, early) in found.items() if value(key[0], slice(key[1], key[1] + 40)) != early] == []
    for lane in lanes._lanes:
        first, last = found[lane, 0][0], found[lane, chunks[-1].start][0]
        assert last < min(first, 0.7 * calls[0])                      # the last layers come first in a backward


@pytest.mark.parametrize(("function", "instruction"), [
    (run_table, r"store atomic i64 .* release, align 8"), (calls_done, r"load atomic i64, .* acquire, align 8")],
    ids=["write", "read"])
def test_a_thread_that_reads_the_number_of_calls_also_sees_what_they_wrote(function, instruction):
    """Processors such as ARM would not promise it for ordinary instructions, and a test on x86-64 would not notice."""
    fresh = numba.njit(function.compiled.py_func)                     # the stored machine code has no text
    fresh.compile({run_table: "(int64[:, ::1], int64[::1])", calls_done: "(int64[::1],)"}[function])
    [code] = fresh.inspect_llvm().values()
    assert re.search(instruction, code)
    done = np.array([3])
    run_table(np.empty((0, 3), np.int64), done)
    assert calls_done(done) == 3
