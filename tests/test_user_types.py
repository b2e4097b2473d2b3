"""A user's script passes strict type checks, and mistakes in it are found."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

import minivit

ROOT = Path(minivit.__file__).parents[1]
SCRIPT = '''
import numpy as np

import minivit

data = minivit.load_data("digits", seed=0)
model = minivit.create_model("vit_mini", image_size=8)
result = minivit.train(model, data, epochs=1, lr=1e-3, optimiser="adamw", progress=False)
accuracy: float = result.test.accuracy
images: np.ndarray = data.test_images
logits = minivit.load("runs/digits-seed0").predict(images, threads=1)
best = logits.argmax(axis=1)

trainer = minivit.Trainer(model, lr=1e-3)
loss: float = trainer.step(images[:32], data.test_labels[:32])

block = minivit.layers.Block(width=24, heads=3, mlp_ratio=2)
report = minivit.gradcheck(block.astype(np.float64), np.ones((2, 5, 24)))
print(accuracy, best, loss, report.ok, report.worst)
y, cache = minivit.ops.softmax.forward(logits)
'''


def check_types(script, folder):
    """What `mypy --strict` prints for a script."""
    (folder / "script.py").write_text(script)
    run = subprocess.run([sys.executable, "-m", "mypy", "--strict", "--follow-imports=silent", "--cache-dir",
                          str(ROOT / ".mypy_cache"), "script.py"], cwd=folder, capture_output=True, text=True,
                         env={"MYPYPATH": str(ROOT), "PATH": ""})
    return run.stdout


@pytest.fixture(scope="module")
def checked(tmp_path_factory):
    """What mypy prints for a right script and for a wrong one."""
    pytest.importorskip("mypy")
    folder = tmp_path_factory.mktemp("types")
    wrong = SCRIPT.replace("epochs=1,", 'epochs="one",').replace("minivit.load(", "minivit.laod(")
    return check_types(SCRIPT, folder), check_types(wrong, folder)


def test_a_user_script_passes_strict_type_checks(checked):
    assert checked[0].startswith("Success"), checked[0]


def test_type_checks_find_mistakes_of_a_user(checked):
    assert re.search(r'script\.py:8: error: .*"epochs"', checked[1])
    assert re.search(r'script\.py:11: error: .*"laod"', checked[1])
