"""Every demo runs in its quick mode, prints its results, and draws its figure."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

DEMOS = sorted((Path(__file__).parents[1] / "demos").glob("[0-9]*.py"))

# What a demo must print: a pattern, and a condition on the numbers in it.
EXPECTED = {
    "05_why_patches": [
        (r"([\d,]+) times fewer", lambda times: times == 65_536),
        (r"memory as N\^(\d\.\d+)", lambda power: 1.7 < power < 2.1),
        (r"patches are .* and restore the image bit for bit", lambda: True)],
    "06_symmetry": [
        (r"symmetries hold to (\S+); the broken ones are off by at least (\S+)\.\n",
         lambda kept, broken: kept <= 1e-12 and broken >= 1e-3),
        (r"positions none .*by (\S+) before training, by (\S+) after",
         lambda before, after: max(before, after) <= 1e-12),
        (r"positions relative.*by (\S+) before .*, by (\S+) after",
         lambda before, after: before <= 1e-12 < 1e-3 < after)],
    "07_receptive_fields": [
        (r"convolutions: depth 1 sees (\d+) .* depth 8 sees (\d+) ", lambda one, eight: (one, eight) == (3, 17)),
        (r"ViT: depth 1 sees (\d+) ", lambda one: one == 32)],
    "08_dynamic_connectivity": [
        (r"(\d+)% in layer 1.* a convolution's weights: (\d+)%",
         lambda attention, convolution: attention >= 5 and convolution == 0)],
    "09_other_signals": [
        (r"with attention .* ([\d.]+)% of", lambda accuracy: accuracy >= 95),
        (r"without attention .* ([\d.]+)% of", lambda accuracy: accuracy <= 40),
        (r"one token .* ([\d.]+)% of", lambda accuracy: accuracy <= 40)],
    "10_windows": [
        (r"ViT +64x64 +256 .* us +\S+x +([\d.]+)x", lambda flops: flops == 6.9),
        (r"Swin +64x64 +256 .* us +\S+x +([\d.]+)x", lambda flops: flops == 4.0)],
    "11_scale": [
        (r"1,400 +([\d.]+) \+- [\d.]+ +([\d.]+) \+- [\d.]+ +([\d.]+) \+-",
         lambda cnn, *vits: cnn > 50 and min(vits) > 20),
        (r"Lead of the CNN over the ViT: with ten times as many images it changes by \S+ \+- ([\d.]+) points\.\n",
         lambda error: error > 0),
        (r"With 400 images, augmentation changes the accuracy of the ViT by \S+ \+- ([\d.]+) points\.",
         lambda error: error > 0),
        (r"scale\.csv: (\d+) points are missing\.", lambda left: left == 0)],
    "12_distillation": [
        (r"ResNet, the teacher .*: ([\d.]+) \+- \S+ % over (\d) seeds",
         lambda accuracy, seeds: accuracy > 20 and seeds == 2),
        (r"With 1,400 images, hard distillation changes the accuracy by \S+ \+- ([\d.]+) points\.\n",
         lambda error: error > 0),
        (r"distillation\.csv: (\d+) points are missing\.", lambda left: left == 0)],
    "22_few_labels": [
        (r"from scratch +([\d.]+) \+- [\d.]+ % over (\d) seeds",
         lambda accuracy, seeds: accuracy > 50 and seeds == 2),
        (r"pre-trained +([\d.]+) \+- ", lambda accuracy: accuracy > 50),
        (r"Pre-training changes the accuracy by (\S+) \+- \S+ points", lambda change: abs(change) < 40),
        (r"(\d+) points are missing\.", lambda left: left == 0)],
    "15_why_this_way": [
        (r"(\d+) runs, (\d+) are missing\.", lambda runs, left: (runs, left) == (8, 0))],
    "16_vit_in_ten_minutes": [
        (r"right answers +([\d.]+)%", lambda accuracy: accuracy > 90),
        (r"digit before +(\S+)\nloss of this digit after +(\S+)\n", lambda before, after: after < before)],
    "17_from_pixels": [
        (r"patches: (\d+) patches", lambda count: count == 16),
        (r"training: The loss falls from ([\d.]+) to ([\d.]+) in", lambda before, after: after < 0.6 * before)],
    "20_gradient_checking": [
        (r"central (\S+), best error of Richardson (\S+), best error of complex step (\S+)\.\s",
         lambda central, richardson, imaginary: 1e-10 > central > 1e-12 > richardson > 1e-15 > imaginary),
        (r"found: .* (\d) of 6.* (\d) of 6.* (\d) of 6.* (\d) of 6",
         lambda neither, weights, upstream, both: (neither, weights, upstream, both) == (0, 3, 4, 6)),
        (r"32 entries find (\d+)%, a direction (\d+)%", lambda entries, direction: entries < 3 and direction > 98),
        (r"normal inputs (\d+)% .* ten times as large (\d+)%", lambda few, many: few < 30 and many == 100),
        (r"convolution (\d+)%, LSTM (\d+)%, embedding (\d+)%, attention (\d+)%",
         lambda *shares: shares == (31, 25, 22, 44))],                # such as 11 of the 36 pixels
    "21_when_a_vit_wins": [
        (r"ViT without positions +([\d.]+) \+- \S+ +([\d.]+) \+-",           # a bag of patches has no order
         lambda unchanged, permuted: abs(unchanged - permuted) <= 1),
        (r"wins\.csv: (\d+) points are missing\.", lambda left: left == 0)],
    "13_weights": [
        (r"(\d+) tensors: (\d+) taken, (\d+) new", lambda total, taken, new: total == taken + new and new == 2),
        (r"class, linear probe: test accuracy ([\d.]+)% on", lambda accuracy: accuracy >= 50),
        (r"class, fine-tuning +: test accuracy ([\d.]+)% on", lambda accuracy: accuracy >= 60)],
}


# Demos that do the same with --quick, or show the same with other images: what they print holds.
WHOLE = ("02_find_a_wrong_gradient", "03_augmentation", "16_vit_in_ten_minutes",
         "20_gradient_checking")
# Demos that draw several figures, "figure_NAME.png".
SEVERAL = {"17_from_pixels": ["pixels", "patches", "tokens", "attention", "stream", "mlp", "prediction", "backward",
                              "training", "bias"],
           "20_gradient_checking": ["report", "steps", "upstream", "kinks", "precision", "directions", "unseen",
                                    "maps"]}


@pytest.mark.parametrize("demo", DEMOS, ids=lambda path: path.stem)
def test_the_demo_runs(demo, tmp_path):
    figure = tmp_path / "figure.png"
    run = subprocess.run([sys.executable, str(demo), "--quick", "--out", str(figure)], capture_output=True, text=True,
                         check=True)
    assert str(figure) in run.stdout
    names = [f"figure_{name}.png" for name in SEVERAL.get(demo.stem, ())] or ["figure.png"]
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(names)
    assert all((tmp_path / name).read_bytes().startswith(b"\x89PNG") for name in names)
    assert ("for conclusions" in run.stdout) == (demo.stem not in WHOLE)
    for pattern, holds in EXPECTED.get(demo.stem, []):
        found = re.search(pattern, run.stdout)
        assert found, run.stdout
        assert holds(*(float(number.replace(",", "")) for number in found.groups())), found[0]


def test_there_are_demos():
    assert {demo.stem for demo in DEMOS} > set(EXPECTED)
