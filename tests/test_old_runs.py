"""Runs of version 0.1.0 still load, evaluate, predict and resume, to the same bits on the machine that made them."""

import hashlib
import shutil
from pathlib import Path

import numba
import numpy as np
import pytest
from safetensors.numpy import load_file

import minivit
from minivit.kernel import kernel
from minivit.training_pipeline.folder import RunFolder
from minivit.training_pipeline.results.classify_images import classify_images
from minivit.training_pipeline.results.evaluate_run import evaluate_run
from minivit.training_pipeline.results.trained_model import latest_model, unfinished

pytestmark = pytest.mark.usefixtures("no_curve")
OLD = Path(__file__).parent / "old_runs"


@pytest.fixture(params=["finished", "interrupted"])
def run(request, tmp_path):
    """A copy of an old run."""
    return RunFolder(shutil.copytree(OLD / request.param, tmp_path / request.param))


def log(run):
    """The log without the durations."""
    return [{name: value for name, value in record.items() if name != "seconds"} for record in run.read_log()]


@kernel
def _exponentials(x, y):
    for i in range(x.size):
        y[i] = np.sqrt(np.abs(x[i])) * x[i] + y[i]


def arithmetic():
    """A hash that differs where BLAS or compiled loops round in another way, or another version compiles them."""
    rng, digest = np.random.default_rng(0), hashlib.sha256(f"{np.__version__} {numba.__version__}".encode())
    for m, k, n in ((160, 16, 48), (160, 16, 32), (160, 32, 16), (5, 8, 5), (16, 160, 48), (32, 10, 16)):
        a, b = rng.standard_normal((m, k), np.float32), rng.standard_normal((k, n), np.float32)
        digest.update((a @ b).tobytes())
        y = np.ones(m * k, np.float32)
        _exponentials(a.ravel(), y)
        digest.update(y.tobytes())
    return digest.hexdigest()


def test_old_run_is_evaluated_as_its_log_says(run):
    names, evaluation = evaluate_run(run)
    assert names == list("0123456789")
    assert evaluation.images == 359
    if run.path.name == "finished":
        # rounding may flip an image
        assert evaluation.accuracy == pytest.approx(log(run)[-1]["test_accuracy"], abs=2 / 359)
        assert unfinished(run) is None
    else:
        assert "after step 30 of 44" in unfinished(run)


def test_old_model_loads_and_predicts():
    stored, model = load_file(OLD / "finished" / "model.safetensors"), minivit.load(OLD / "finished")
    np.testing.assert_array_equal(model.head.weight.data.T, stored["head.weight"])
    [row] = classify_images(RunFolder(OLD / "finished"), [7], top=1)
    image = minivit.load_data("digits").test_images[7:8]
    assert row["classes"][0]["class"] == str(model.forward(image)[0].argmax())


def test_old_run_resumes_to_the_weights_of_the_old_version(run):
    model = run.declare_model().pack()
    result = minivit.train(model, "digits", out=run.path, resume=True, progress=False)
    assert result.steps == 44
    weights, expected = load_file(run.model_file), load_file(OLD / "finished" / "model.safetensors")
    for name, array in expected.items():
        np.testing.assert_allclose(weights[name], array, rtol=0, atol=2e-3)
    if arithmetic() == (OLD / "arithmetic.txt").read_text().strip():
        assert run.model_file.read_bytes() == (OLD / "finished" / "model.safetensors").read_bytes()
        assert log(run) == log(RunFolder(OLD / "finished"))


def test_new_training_with_the_settings_of_the_old_run_gives_its_weights(tmp_path):
    settings = {name: value for name, value in RunFolder(OLD / "finished").settings.items()
                if name not in ("steps", "lanes", "micro_batch")}
    run = RunFolder(tmp_path / "new")
    minivit.train(RunFolder(OLD / "finished").declare_model().pack(), "digits", out=run.path, progress=False,
                  **settings)
    old, new = RunFolder(OLD / "finished"), run
    assert new.settings == old.settings  # settings that version 0.1.0 did not have are at their defaults
    assert {**new.config(), "versions": None, "training": None} == {**old.config(), "versions": None, "training": None}
    if arithmetic() == (OLD / "arithmetic.txt").read_text().strip():
        assert run.model_file.read_bytes() == (OLD / "finished" / "model.safetensors").read_bytes()


def test_old_checkpoint_has_the_averaged_weights(tmp_path):
    np.testing.assert_array_equal(latest_model(RunFolder(OLD / "interrupted")).vector,
                                  load_file(OLD / "interrupted" / "checkpoint.safetensors")["ema"])
