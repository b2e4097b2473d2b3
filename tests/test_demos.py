"""Every demo runs in its quick mode, prints its results, and draws its figure."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

DEMOS = sorted((Path(__file__).parents[1] / "demos").glob("[0-9]*.py"))

# What a demo must have found: a pattern of its words, and a test of the numbers in it.
FOUND = {
    "05_why_patches": [(r"([\d,]+) times fewer", lambda times: times == 65_536),
                       (r"memory as N\^(\d\.\d+)", lambda power: 1.7 < power < 2.1),
                       (r"patches are .* and restore the image bit for bit", lambda: True)],
    "06_symmetry": [(r"symmetries hold to (\S+); the broken ones are off by at least (\S+)\.\n", lambda good,
                     bad: good <= 1e-12 and bad >= 1e-3),
                    (r"positions none .*by (\S+) before training, by (\S+) after", lambda before,
                     after: max(before, after) <= 1e-12),
                    (r"positions relative.*by (\S+) before .*, by (\S+) after", lambda before,
                     after: before <= 1e-12 < 1e-3 < after)],
    "07_receptive_fields": [(r"convolutions: depth 1 sees (\d+) .* depth 8 sees (\d+) ", lambda one,
                             eight: (one, eight) == (3, 17)),
                            (r"ViT: depth 1 sees (\d+) ", lambda one: one == 32)],
    "08_dynamic_connectivity": [(r"(\d+)% in layer 1.* a convolution's weights: (\d+)%",
                                 lambda attention, fixed: attention >= 5 and fixed == 0)],
    "09_other_signals": [(r"with attention .* ([\d.]+)% of", lambda right: right >= 95),
                         (r"without attention .* ([\d.]+)% of", lambda right: right <= 40),
                         (r"one token .* ([\d.]+)% of", lambda right: right <= 40)],
    "11_scale": [(r"1,400 +([\d.]+) \+- [\d.]+ +([\d.]+) \+- [\d.]+ +([\d.]+) \+-", lambda cnn,
                  *vits: cnn > 50 and min(vits) > 20),
                 (r"CNN - ViT: \S+ \+- ([\d.]+) points for ten times as many images\. "
                  r"(?:The curves|No crossing|Nowhere)",
                  lambda error: error > 0),
                 (r"400 images: augmentation changes the ViT by \S+ \+- ([\d.]+)", lambda error: error > 0),
                 (r"scale\.csv: (\d+) points left", lambda left: left == 0)],
    "12_distillation": [(r"ResNet, the teacher .*: ([\d.]+) \+- \S+ %.* of (\d) seeds", lambda right,
                         seeds: right > 20 and seeds == 2),
                        (r"With 1,400 images, hard distillation .*: \S+ \+- ([\d.]+) points", lambda error: error > 0),
                        (r"distillation\.csv: (\d+) points left", lambda left: left == 0)],
    "13_weights": [(r"(\d+) tensors: (\d+) taken, (\d+) new", lambda all_, taken,
                    new: all_ == taken + new and new == 2),
                   (r"class, probe +: ([\d.]+)% of", lambda right: right >= 50),
                   (r"class, fine-tuned +: ([\d.]+)% of", lambda right: right >= 60)],
}


@pytest.mark.parametrize("demo", DEMOS, ids=lambda path: path.stem)
def test_the_demo_runs(demo, tmp_path):
    picture = tmp_path / "picture.png"
    run = subprocess.run([sys.executable, str(demo), "--quick", "--out", str(picture)], capture_output=True, text=True,
                         check=True)
    assert str(picture) in run.stdout
    assert picture.read_bytes().startswith(b"\x89PNG")
    for pattern, holds in FOUND.get(demo.stem, []):
        found = re.search(pattern, run.stdout)
        assert found, run.stdout
        assert holds(*(float(number.replace(",", "")) for number in found.groups())), found[0]


def test_there_are_demos():
    assert {demo.stem for demo in DEMOS} > set(FOUND)
