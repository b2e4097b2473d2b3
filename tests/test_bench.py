"""The benchmark: it measures equal work, says what it measured, and its profile adds up."""

import collections
import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest

from minivit import bench, cli
from minivit.bench import compare, machine, plot, scaling
from minivit.bench.contestant import CONTESTANTS, Contestant
from minivit.bench.shapes import SHAPES, Shape, select
from minivit.weight_formats.timm import to_timm

SMALL = {  # of each family, with all that its peers must have
    "vit": Shape("vit", 3, options={"image_size": 8, "patch_size": 4, "channels": 1, "classes": 3, "width": 16,
                                    "depth": 2, "heads": 2}),
    "deit": Shape("deit", 3, options={"image_size": 8, "patch_size": 2, "channels": 3, "classes": 3, "width": 16,
                                      "depth": 2, "heads": 2}),
    "swin": Shape("swin", 3, options={"image_size": 16, "patch_size": 2, "classes": 3, "width": 8, "depths": [2, 2],
                                      "heads": [2, 4],
                                      "window": 4, "mlp_ratio": 2}),
    "resnet": Shape("resnet", 3, options={"image_size": 12, "classes": 3, "layers": [1, 2], "width": 8,
                                          "block": "basic", "reduction": 2,
                                          "groups": 4}),
}


@pytest.fixture
def refused(capsys):
    """Call a command that must fail with exit code 2 and one line; return the line."""
    def refused(*arguments):
        assert cli.main(list(arguments)) == 2
        error = capsys.readouterr().err
        assert error.startswith("minivit: error: ")
        assert error.count("\n") == 1, error
        return error
    return refused


@pytest.fixture(scope="module")
def result():
    pytest.importorskip("threadpoolctl")
    return bench.bench(["digits"], ["minivit"], threads=1, seconds=0.05, rounds=1)


def test_rates_and_shares_follow_from_the_seconds(result):
    part = result["shapes"]["digits"]
    row = part["contestants"]["minivit"]["train"]
    assert row["images_per_second"] == pytest.approx(64 / row["seconds"])
    assert row["flops_per_second"] == pytest.approx(3 * 4_761_856 * 64 / row["seconds"])
    assert row["share_of_own_limit"] > 0                              # register tiles may be faster than the library
    assert row["quartiles"][0] <= row["seconds"] <= row["quartiles"][1]
    assert row["minivit_is_faster_by"] == 1
    assert 0 < row["share_of_limit"] < 1
    assert 0 < part["not_products"] < 1
    assert part["contestants"]["minivit"]["peak_memory"] > 10 * 2**20


def test_the_table_shows_every_row(result):
    text = bench.table(result)
    assert "digits, batch 64" in text
    assert text.count("minivit ") >= 2
    assert "is not matrix products" in text
    assert json.loads(json.dumps(result)) == result


def test_ratios_and_shares_are_medians_over_the_rounds():
    times = {("minivit", "train"): [[1.0, 1.0], [10.0], [1.0]], ("torch", "train"): [[2.0], [20.0], [8.0]],
             ("limit-processor", "train"): [[600.0], [60.0], [600.0]],
             ("limit-numpy", "train"): [[500.0], [50.0], [500.0]],
             ("limit-torch", "train"): [[300.0], [30.0], [300.0]]}
    part = compare._summarise(times, {"minivit": 1, "torch": 2}, flops=10, batch=4)
    ours, torch = part["contestants"]["minivit"]["train"], part["contestants"]["torch"]["train"]
    assert torch["minivit_is_faster_by"] == 2
    assert ours["seconds"] == 1
    assert ours["share_of_limit"] == pytest.approx(3 * 10 * 4 / 600)        # a slow round slows the limit too
    assert ours["share_of_own_limit"] == pytest.approx(3 * 10 * 4 / 500)
    assert torch["share_of_own_limit"] == pytest.approx(3 * 10 * 4 / 2 / 300)


def contestants_of(shape):
    """Return our contestant and a function that makes torch's; both have the same random model and batch."""
    model, images, labels = shape.make()
    model.vector[:] += 0.1 * np.random.default_rng(1).standard_normal(model.vector.size)
    given = shape.family, model.config, to_timm(model), images, labels, 1
    from minivit.bench.peers import torch_peer
    return Contestant(*given), lambda variant: torch_peer.Contestant(*given, variant=variant)


COMPILER = pytest.mark.skipif(not any(map(shutil.which, ("g++", "clang++"))),
                              reason="torch.compile needs a compiler of C++")


@pytest.mark.parametrize("variant", ["", "channels_last", pytest.param("compile", marks=[pytest.mark.slow, COMPILER])])
@pytest.mark.parametrize("family", SMALL)
def test_torch_gives_the_same_logits_and_training(family, variant):
    torch = pytest.importorskip("torch")
    threads = torch.get_num_threads()
    ours, make = contestants_of(SMALL[family])
    try:
        theirs = make(variant)
        assert (theirs.forward is theirs.model) == (variant != "compile")
        before = ours.infer()
        np.testing.assert_allclose(theirs.infer(), before, rtol=1e-4, atol=1e-5)
        for contestant in (ours, theirs):
            contestant.train()
        after = ours.infer()
        np.testing.assert_allclose(theirs.infer() - before, after - before, atol=0.02 * np.abs(after - before).max())
        # The first step of Adam hides the length of the gradient, and lr times decay is small: clipping and decay show
        # here only.
        assert ours.trainer.grad_norm > 1.05
        moments = [state["exp_avg"] for state in theirs.optimiser.state.values()]
        norms = math.sqrt(sum(float(m.square().sum())
                              for m in moments)), float(np.linalg.norm(ours.trainer.optimiser.m))
        assert norms == pytest.approx((0.1, 0.1), rel=1e-3)
        decayed, plain = theirs.optimiser.param_groups
        assert (decayed["weight_decay"],
                plain["weight_decay"]) == pytest.approx((ours.trainer.optimiser.decays.max(), 0))
        assert sum(p.numel() for p in decayed["params"]) == sum(p.size for p in ours.model.parameters() if p.decay)
    finally:
        torch.set_num_threads(threads)


def test_every_family_has_shapes_of_its_own_and_the_default_is_the_vit():
    assert select() == ["digits", "fashion", "cifar", "base-1", "base-8"]
    assert select(family="resnet") == ["resnet-28", "resnet-32"]
    assert select(["cifar"], "swin") == ["cifar"]
    assert {shape.family for shape in SHAPES.values()} == set(CONTESTANTS["minivit"].families) == set(SMALL)


@pytest.fixture
def installed(monkeypatch):
    """Pretend that these libraries are installed. None of them is imported."""
    def installed(*libraries):
        monkeypatch.setattr(compare.importlib.util, "find_spec",
                            lambda name: name if name in ("numpy", *libraries) else None)
    return installed


def test_without_names_only_contestants_that_can_take_part_are_compared(installed):
    installed("torch", "jax")
    assert compare._entrants(None, "vit") == ["minivit", "torch", "torch.compile", "jax"]
    assert compare._entrants([], "resnet") == ["minivit", "torch", "torch.channels_last", "torch.compile"]
    assert compare._entrants(["jax"], "vit") == ["minivit", "jax"]
    installed("jax")
    assert compare._entrants(None, "vit") == ["minivit", "jax"]
    assert compare._entrants(None, "resnet") == ["minivit"]


@pytest.mark.parametrize(("arguments", "words"), [
    (["--contestant", "jax", "--contestant", "torch.compile"],
     "contestant torch.compile needs torch, which is not installed: install it, or leave torch.compile out"),
    (["--plot", "x.png", "--contestant", "torch"], "contestant torch needs torch, which is not installed"),
    (["--contestant", "jax", "--family", "swin"], "contestant jax has no swin, only vit: leave it out, or measure what "
                                                  "it has"),
    (["--contestant", "jax", "--shape", "digits", "--shape", "resnet-28"], "contestant jax has no resnet, only vit"),
    (["--contestant", "torch.channels_last"], "contestant torch.channels_last has no vit, only resnet"),
])
def test_a_contestant_that_cannot_take_part_is_named_before_measuring(
    installed, monkeypatch, refused, arguments, words):
    installed("jax")
    monkeypatch.setattr(compare, "_Process", None)
    assert words in refused("bench", *arguments)


def test_torch_does_equal_work():
    pytest.importorskip("torch")
    part = bench.bench(["digits"], ["minivit", "torch"], threads=1, seconds=0.05, rounds=1)["shapes"]["digits"]
    assert not part["failed"]
    assert part["contestants"]["torch"]["train"]["minivit_is_faster_by"] > 0
    assert part["limits"]["torch"] > 0


@COMPILER
@pytest.mark.slow
@pytest.mark.parametrize("family", ["swin", "resnet"])
def test_torch_compile_is_a_contestant_of_every_family(family):
    pytest.importorskip("torch")
    part = compare.compare("small", SMALL[family], ["minivit", "torch.compile"], 1, 0.01, 1, lambda line: None)
    assert not part["failed"]                                         # its logits agree
    assert all(part["contestants"]["torch.compile"][task]["minivit_is_faster_by"] > 0 for task in ("train", "infer"))


def test_a_contestant_with_different_results_is_left_out():
    class Fake:
        def __init__(self, logits):
            self.logits = logits

        def ask(self, verb):
            return self.logits

    compare._agree("same", Fake([[1.0, 2.0]]), Fake([[1.0, 2.0005]]))
    with pytest.raises(RuntimeError, match="computes something else"):
        compare._agree("other", Fake([[1.0, 2.0]]), Fake([[1.0, 2.1]]))


@pytest.fixture
def compared(installed, monkeypatch):
    """Run a comparison of two rounds with fake processes.

    compared(name, verb, call, error): that process raises the error at call number `call` (from 0) of that verb.
    """
    class Fake:
        def __init__(self, name, threads, folder):
            self.name, self.folder, self.calls, self.ended = name, Path(folder), collections.Counter(), False
            compared.started.append(self)

        def ask(self, verb, seconds=0.0):
            self.calls[verb] += 1
            if (self.name, verb, self.calls[verb] - 1) == compared.fails:
                raise compared.error
            return {"logits": [[1.0]], "limit": [1e9], "memory": 10}.get(verb, [0.5])

        def end(self):
            assert self.folder.is_dir()
            self.ended = True

    def compared(name=None, verb=None, call=0, error=None):
        compared.fails, compared.error = (name, verb, call), error or RuntimeError(f"{name} failed: out of memory")
        return compare.compare("digits", SHAPES["digits"], ["torch", "torch.compile"], 1, 1.0, 2, lambda line: None)

    compared.started = []
    installed("torch")
    monkeypatch.setattr(compare, "_Process", Fake)
    return compared


BOTH = ["train", "infer"]
START, FIRST, LAST_TRAIN, LAST_INFER = 0, 1, 3, 6  # of a limit: it is asked for each verb, and in a round that warms up


@pytest.mark.parametrize(("fails", "left_out", "rows"), [
    (("torch", "infer", 1), ["torch"], {"torch": ["train"], "torch.compile": BOTH}),
    (("torch", "train", 0), ["torch"], {"torch.compile": BOTH}),
    (("torch", "logits", 0), ["torch"], {"torch.compile": BOTH}),
    (("limit-torch", "limit", START), ["limit-torch", "torch", "torch.compile"], {}),
    (("limit-torch", "limit", FIRST), ["limit-torch", "torch", "torch.compile"], {}),
    (("limit-torch", "limit", LAST_TRAIN), ["limit-torch", "torch", "torch.compile"], {}),
    (("limit-torch", "memory", 0), ["limit-torch", "torch", "torch.compile"],
     {"torch": ["train"], "torch.compile": ["train"]}),
    (("limit-torch", "limit", LAST_INFER), ["limit-torch", "torch", "torch.compile"],
     {"torch": ["train"], "torch.compile": ["train"]}),
])
def test_a_contestant_that_fails_is_left_out_and_the_others_continue(compared, fails, left_out, rows):
    part = compared(*fails)
    assert list(part["failed"]) == left_out
    assert {name: [verb for verb in BOTH if verb in row] for name,
            row in part["contestants"].items()} == {"minivit": BOTH} | rows
    assert all(process.ended for process in compared.started)


def test_the_table_names_each_that_is_left_out_once(compared):
    part = compared("limit-torch", "limit", FIRST)
    text = bench.table({"machine": machine.describe_machine(1), "shapes": {"digits": part}})
    assert [line for line in text.split("\n") if line.startswith("left out")] == [
        "left out: limit-torch failed: out of memory", "left out: torch has no limit without limit-torch",
        "left out: torch.compile has no limit without limit-torch"]


@pytest.mark.parametrize("name", ["minivit", "limit-numpy", "limit-processor"])
def test_a_comparison_needs_minivit(name):
    field = compare._Field()
    with pytest.raises(RuntimeError, match="no more"), field.leaving_out(name):
        raise RuntimeError("no more")


@pytest.mark.parametrize("fails", [("minivit", "logits"), ("minivit", "infer"), ("limit-numpy", "limit")])
@pytest.mark.parametrize("error", [RuntimeError("no more"), KeyboardInterrupt()], ids=["failure", "interrupt"])
def test_no_process_survives_an_interrupted_comparison(compared, fails, error):
    with pytest.raises(type(error)):
        compared(*fails, error=error)
    assert compared.started
    assert all(process.ended for process in compared.started)


def test_a_process_that_fails_is_named(tmp_path):
    (tmp_path / "shape.json").write_text("{}")
    with pytest.raises(RuntimeError, match="minivit failed"):
        compare._Process("minivit", 1, tmp_path).ask("logits")


def test_the_profile_adds_up_and_leaves_the_ops_as_they_were():
    from minivit.ops import linear
    before = linear.forward, np.matmul
    result = bench.profile("digits", steps=2)
    assert (linear.forward, np.matmul) == before
    assert 0 < sum(row["products"] for row in result["rows"]) < sum(row["seconds"]
                                                                    for row in result["rows"]) < result["step"]
    calls = {(row["op"], row["pass"]): row["calls"] for row in result["rows"]}
    assert calls["linear", "forward"] == calls["linear", "backward"] == 2 * (4 * 4 + 2)
    assert "not matrix products" in bench.profile_table(result)


def test_the_profile_of_a_shape_that_is_not_trained_is_of_inference(monkeypatch):
    monkeypatch.setitem(SHAPES, "small", Shape("swin", 3, trained=False, options=SMALL["swin"].options))
    result = bench.profile("small", steps=2)
    calls = {(row["op"], row["pass"]): row["calls"] for row in result["rows"]}
    assert calls["attention_variants", "forward"] == 2 * 4                     # two lanes, four blocks
    assert calls["attention_variants", "backward"] == 0
    assert "small: inference of one batch" in bench.profile_table(result)


def test_growth_covers_the_axes_and_expects_what_the_flops_say(monkeypatch):
    def small(batch, patch_size=4):
        return Shape("vit", batch, options=SMALL["vit"].options | {"patch_size": patch_size})

    monkeypatch.setattr(scaling, "AXES", {"batch": {2: small(2), 4: small(4)},
                                          "tokens": {5: small(2), 17: small(2, 2)}})
    for name in ("digits", "fashion", "cifar"):
        monkeypatch.setitem(SHAPES, name, small(4))
    result = bench.growth(seconds=0.01, rounds=1, threads=1)
    assert [(row["axis"], row["value"]) for row in result["rows"]] == [("batch", 2), ("batch", 4), ("tokens", 5),
                                                                       ("tokens", 17)]
    assert [row["relative"] for row in result["rows"][::2]] == [1, 1]
    assert [row["expected"] for row in result["rows"][:3]] == [1, 1, 1]
    assert 17 / 5 < result["rows"][3]["expected"] < (17 / 5) ** 2
    assert [row["shape"] for row in result["threads"]] == ["digits", "fashion", "cifar"]
    assert all(row["gain"] > 0 < row["expected"] for row in result["threads"])
    assert "products gain" in bench.growth_table(result)
    assert json.loads(json.dumps(result)) == result


def test_the_plot_shows_every_contestant(tmp_path, monkeypatch):
    monkeypatch.setattr(plot, "WIDTHS", (32,))
    result = bench.sizes(["minivit"], threads=1, seconds=0.01, rounds=1)
    bench.draw(result, tmp_path / "share.png")
    assert (tmp_path / "share.png").stat().st_size > 10_000
    train = result["sizes"][32]["contestants"]["minivit"]["train"]
    assert train["share_of_limit"] > 0
    train |= {"share_of_limit": 0.4, "share_of_own_limit": 0.9}       # both panels show the larger one, too
    figures = []
    monkeypatch.setattr("minivit.common.figures.save", lambda figure, path: figures.append(figure))
    bench.draw(result, tmp_path / "share.png")
    for panel in figures[0].axes:
        assert panel.get_ylim()[0] == 0
        assert panel.get_ylim()[1] > 90


def test_a_blas_pinned_to_one_core_gives_a_warning(monkeypatch):
    monkeypatch.setenv("OPENBLAS_CORETYPE", "Haswell")
    assert "OPENBLAS_CORETYPE=Haswell" in machine.describe_machine(1)["warnings"][0]
    monkeypatch.delenv("OPENBLAS_CORETYPE")
    monkeypatch.delenv("OPENBLAS_L2_SIZE", raising=False)
    assert not [w for w in machine.describe_machine(1)["warnings"] if "pins" in w]


@pytest.mark.parametrize(("arguments", "words"), [
    (["--shape", "digit"], "unknown shape 'digit': did you mean 'digits'"),
    (["--contestant", "tensorflow"], "unknown contestant 'tensorflow'"),
    (["--rounds", "0"], "number of rounds must be a whole number at least 1"),
    (["--seconds", "-1"], "seconds must be a finite number above 0"),
    (["--profile", "--shape", "x"], "unknown shape 'x'"),
    (["--family", "swim"], "unknown family 'swim': did you mean 'swin'"),
    (["--profile", "--family", "cnn"], "unknown family 'cnn'"),
    (["--shape", "cifar", "--family", "swin"], "--family measures all its shapes"),
    (["--growth", "--family", "swin"], "--growth and --plot have shapes of their own"),
    (["--plot", "x.png", "--shape", "cifar"], "--growth and --plot have shapes of their own"),
    (["--growth", "--rounds", "0"], "number of rounds must be a whole number at least 1"),
    (["--plot", "x.png", "--contestant", "keras"], "unknown contestant 'keras'"),
    (["--plot", "x.png", "--threads", "0"], "number of threads must be a whole number at least 1"),
    (["--plot", "x.v2", "--threads", "0"], "unknown ending of an image file 'v2'"),
])
def test_bad_input_is_a_one_line_error(arguments, words, refused):
    assert words in refused("bench", *arguments)
