"""The course: right solutions pass, wrong ones are named, and whatever a file does gets one clear message."""

import json
import os
import re
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pytest
from course_mistakes import MISTAKES, SOLUTIONS
from helpers import relative_difference

from minivit import cli, plain
from minivit.course import lessons, references
from minivit.course.diagnosis import Fits, diagnose, diagnose_shape
from minivit.course.examination import Learner
from minivit.course.exercise import NAMES, exercise, exercises
from minivit.course.marking import marking
from minivit.course.progress import FILE, Progress
from minivit.course.submission import Submission, Wrong
from minivit.course.training import USED


def solution(name):
    """The text of a right solution."""
    return (SOLUTIONS / f"{name}.py").read_text(encoding="utf-8")


def verdict(name, text):
    """What an examination in this process says about a text: a message, or "" if it passes."""
    submission = Submission(Path(f"{name}.py"), text, exercise(name))
    try:
        submission.check_text()
        with np.errstate(all="ignore"):
            marking(submission.exercise).examiner.examine(Learner(submission, submission.run()))
    except Wrong as wrong:
        return f"{wrong.function}: {wrong.text}"
    return ""


def check(tmp_path, name, text, seconds=10.0):
    """Check a file in a child process; return whether it passed, and the text in one line."""
    path = tmp_path / f"{name}.py"
    path.write_text(textwrap.dedent(text))
    passed, said = lessons.check(path, seconds)
    return passed, " ".join(said.split())


# ---- the exercises ----------------------------------------------------------------------------------------


def test_every_exercise_has_a_title_a_time_functions_hints_and_something_to_read():
    assert len(NAMES) >= 17
    for task in exercises():
        assert task.title
        assert 5 <= task.minutes <= 30
        assert task.functions
        assert len(marking(task).hints) >= 3
        assert f"Exercise {task.number}, {task.name}: " in task.text
        files = re.findall(r"minivit/[\w/]+\.py", marking(task).read)
        assert files
        assert all((Path(plain.__file__).parents[1] / file).is_file() for file in files)
    assert [task.name for task in exercises() if task.is_design] == ["rms_norm", "swiglu", "relative_bias"]


@pytest.mark.parametrize("name", NAMES)
def test_a_right_solution_passes(name):
    assert verdict(name, solution(name)) == ""


@pytest.mark.parametrize("name", NAMES)
def test_the_file_of_an_exercise_has_no_solution(name):
    assert "is not written yet" in verdict(name, exercise(name).text)
    body = exercise(name).text.split('"""', 2)[2]
    assert body.count("raise NotImplementedError") == len(exercise(name).functions)


def test_the_steps_together_compute_what_the_plain_vit_computes():
    sizes = {"image": 8, "patch": 2, "channels": 3, "width": 12, "depth": 2, "heads": 3, "hidden": 20, "classes": 5}
    rng = np.random.default_rng(0)
    p = {name: rng.standard_normal(w.shape) / 2 for name, w in plain.make_parameters(sizes).items()}
    images, dlogits = rng.standard_normal((3, 8, 8, 3)), rng.standard_normal((3, 5))
    logits, cache = references.vit.forward(images, references.from_plain(p), sizes)
    right, plain_cache = plain.forward(p, images, sizes)
    assert relative_difference(logits, right) < 1e-12
    gradients = references.to_plain(references.vit.backward(dlogits, cache))
    wanted = plain.backward(dlogits, plain_cache, sizes)
    assert gradients.keys() == wanted.keys()
    assert max(relative_difference(gradients[name], g) for name, g in wanted.items()) < 1e-12


# ---- wrong solutions --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def verdicts():
    """Pairs of a wrong solution and the message about it."""
    return [(mistake, verdict(mistake.exercise, mistake.source())) for mistake in MISTAKES]


def test_there_are_typical_wrong_solutions_of_every_exercise():
    assert len(MISTAKES) >= 40
    assert len({mistake.source() for mistake in MISTAKES}) == len(MISTAKES)
    assert all(sum(mistake.exercise == name for mistake in MISTAKES) >= 2 for name in NAMES)


def test_no_wrong_solution_passes(verdicts):
    assert [(mistake.exercise, mistake.what) for mistake, said in verdicts if not said] == []


def test_the_message_names_the_mistake(verdicts):
    unnamed = [(mistake.exercise, mistake.what) for mistake, said in verdicts if not re.search(mistake.names, said)]
    assert len(unnamed) <= len(MISTAKES) // 10
    assert set(unnamed) == {("relative_bias", "rows and columns exchanged in divmod"), ("cross_entropy", "p times t"),
                            ("adamw", "m not updated before use")}


def test_a_right_array_has_no_diagnosis_and_a_random_one_is_not_named():
    rng = np.random.default_rng(0)
    right, terms = rng.standard_normal((2, 3, 5)), rng.standard_normal((2, 2, 3, 5))
    fits = Fits({"a": right - terms[0], "b": terms[0]}, {"c": terms[1]}, {"a known mistake": right + terms[1]})
    sizes = {"B": 2, "N": 3, "D": 5}
    assert diagnose("dx", rng.standard_normal((2, 3, 5)), right, fits, sizes) == ""
    for found, words in ((right - terms[0], "dx: the term b is missing"),
                         (right - 2 * terms[0], "dx: the term b has the wrong sign"),
                         (right + 5 * terms[0] - terms[0], "dx: the term b is 5 times too large (D = 5)"),
                         (right - terms[1], "dx: the term c does not belong there (found -1 times)"),
                         (right + terms[1], "a known mistake"),
                         (right / 6, "dx is 6 times too small (B N = 6)"),
                         (right * np.sqrt(5), "dx is sqrt(D) times too large: a factor 1/sqrt(D) is missing"),
                         (right * -3, "dx is 3 times too large (N = 3)"),
                         (right[:, ::-1], "dx has the right numbers in the wrong places"),
                         (right * (np.arange(3) != 1)[:, None], "dx is wrong only at index 1 of axis 1"),
                         (right * 0, "dx is zero everywhere"), (right * np.nan, "dx holds NaN")):
        assert diagnose("dx", found, right, fits, sizes).startswith(words)


def test_the_chapter_to_read_is_a_file_from_here(tmp_path, monkeypatch):
    (tmp_path / "linear.py").write_text(RIGHT.replace("sum", "mean"))
    for folder in (Path(plain.__file__).parents[1], tmp_path):
        monkeypatch.chdir(folder)
        read = lessons.check(tmp_path / "linear.py")[1].partition("read ")[2].split(", ")[0]
        assert Path("".join(read.split())).is_file()


def test_a_wrong_shape_is_explained():
    sizes = {"B": 2, "N": 3, "D": 5}
    x, bias = np.zeros((2, 3, 5)), np.zeros(5)
    assert "the sum over the first 2 axes is missing (the sum over the images and tokens)" in diagnose_shape(
        "dbias", x, bias, {}, sizes)
    assert "it is transposed" in diagnose_shape("dw", np.zeros((5, 3)), np.zeros((3, 5)), {}, sizes)
    assert "It has the shape of dx" in diagnose_shape("dbias", np.zeros(3), bias, {"dx": np.zeros(3)}, sizes)


# ---- what a file may do ------------------------------------------------------------------------------------

RIGHT = solution("linear")


@pytest.mark.parametrize(("text", "words"), [
    ("def forward(x:\n    return\n", r"the file is not Python: line 1: def forward\(x: "),
    ("\x00", r"the file is not Python"),
    (RIGHT.replace("+ bias,", "+ x.sum(axis=-1) + bias,"), "forward raises ValueError.*with keepdims=True it stays"),
    (RIGHT.replace("dx = dy", "import numpy as np; np.tril(np.diag(x)); dx = dy"), "write the operation for the last "
     "axis"),
    (RIGHT.replace("dx = dy", "x.reshape(2, 2); dx = dy"), "a reshape keeps the number of entries"),
    ("import torch\n" + RIGHT, "line 1 imports torch: an exercise uses NumPy alone"),
    ("from minivit.ops.linear import forward, backward\n" + RIGHT, "line 1 imports minivit.ops.linear"),
    ("from minivit.course.earlier import linear\n" + RIGHT, "line 1 imports linear, which is no earlier step"),
    ("def forward(x, weight, bias):\n    return x\n", "the function backward is missing"),
    ("raise RuntimeError('oops')\n" + RIGHT, "the file raises RuntimeError in line 1, .*: oops"),
    ("import sys\nsys.exit(0)\n" + RIGHT, "the file raises SystemExit in line 2"),
    ("import os\nos._exit(0)\n" + RIGHT, "ended early, with exit code 0"),
    ("import os\nos.abort()\n" + RIGHT, "ended by SIGABRT"),
    ("input('name?')\n" + RIGHT, "the file raises EOFError in line 1"),
    (RIGHT.replace("    dx = dy", "    assert dy is None\n    dx = dy"),
     "right forward wrong backward raises AssertionError in line 11, `assert dy is None`"),
    (RIGHT.replace("    return x @ weight + bias", "    x += 0.5\n    return x @ weight + bias"), "forward changes x"),
    (RIGHT.replace("    x, weight = cache", "    x, weight = cache\n    x *= 2"), "backward changes x, which"),
    (RIGHT.replace("    x, weight = cache", "    x, weight = cache\n    dy *= 2"), "backward changes dy"),
    (RIGHT.replace("x @ weight + bias", "(x @ weight + bias)[0]"), r"y has the shape \(5, 11\)"),
    (RIGHT.replace("x @ weight + bias", "(x @ weight + bias).astype('f4')"), "y is float32 for float64 inputs"),
    (RIGHT.replace("x @ weight + bias", "(x @ weight + bias).astype('f8')"), "y is float64 for float32 inputs"),
    (RIGHT.replace("dx = dy @ weight.T", "dx = (dy @ weight.T).astype('f8')"), "dx is float64 for float32 inputs"),
    (RIGHT.replace("return x @ weight + bias, (x, weight)", "return x @ weight + bias"), "forward returns one array"),
    (RIGHT.replace("return x @ weight + bias, (x, weight)", "pass"), "forward returns nothing: end it with"),
    (RIGHT.replace("return dx, dweight, dbias", "return dx, dweight"), "backward returns 2 things, but must return 3"),
    (RIGHT.replace("return dx, dweight, dbias", "pass"), "backward returns nothing"),
    (RIGHT.replace("return dx, dweight, dbias", "return dweight, dx, dbias"),
     "dx has the shape .* look at the order of the results"),
    (RIGHT.replace("x @ weight + bias,", "np.random.rand() * (x @ weight + bias),", 1).replace('"""\n', '"""\nimport '
     "numpy as np\n", 1), "another result at the second call"),
    (RIGHT.replace("def forward(x, weight, bias)", "def forward(x)"), "forward raises TypeError: .*takes 1 positional"),
], ids=range(29))
def test_one_clear_message_for_whatever_the_file_does(tmp_path, text, words):
    passed, said = check(tmp_path, "linear", text)
    assert not passed
    assert re.search(words, said), said
    assert said.count(" wrong ") == 1
    assert "Traceback" not in said


@pytest.mark.parametrize(("text", "place"), [
    ("while True:\n    pass\n" + RIGHT, "line [12], at its top level"),
    ("import time\ntime.sleep(100)\n" + RIGHT, "line 2, at its top level"),
    ("while True:\n    print('again')\n" + RIGHT, "line [12], at its top level"),
    (RIGHT.replace("    x, weight = cache", "    x, weight = cache\n    while x is not None:\n        x = x + 0"),
     "line 1[01], in backward"),
    ("import subprocess\nsubprocess.run(['sleep', '100'])\n" + RIGHT, "line 2, at its top level"),
], ids=["loop", "sleep", "prints", "in backward", "a child"])
def test_a_loop_that_never_ends_is_stopped_and_its_line_named(tmp_path, text, place):
    passed, said = check(tmp_path, "linear", text, seconds=1.0)
    assert not passed
    assert re.search(f"ran for more than 1 s and was stopped in {place}: is there a loop that never ends", said), said


def test_prints_and_warnings_are_notes(tmp_path):
    text = RIGHT.replace("    x, weight = cache", "    x, weight = cache\n    print('shape', x.shape)")
    passed, said = check(tmp_path, "linear", text)
    assert passed
    assert re.search(r"note the file prints \d+ lines while it is checked, the first: 'shape \(3, 5, 7\)'", said)
    text = RIGHT.replace("    x, weight = cache", "    x, weight = cache\n    (x * 0) / (x * 0)")
    passed, said = check(tmp_path, "linear", text)
    assert passed
    assert "note NumPy warns in line 10: invalid value encountered in divide" in said


def test_the_file_runs_once(tmp_path):
    count = tmp_path / "count"
    passed, _ = check(tmp_path, "linear", f"open({str(count)!r}, 'a').write('x')\n" + RIGHT)
    assert passed
    assert count.read_text() == "x"
    path = str(tmp_path / "linear.py")
    assert cli.main(["learn", "check", path, str(tmp_path / "." / "linear.py"), path]) == 0
    assert count.read_text() == "xx"


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs signals")
def test_the_child_ends_with_its_parent(tmp_path):
    path, started = tmp_path / "linear.py", tmp_path / "started"
    path.write_text(f"import os, time\nopen({str(started)!r}, 'w').write(str(os.getpid()))\ntime.sleep(60)\n" + RIGHT)
    parent = subprocess.Popen([sys.executable, "-m", "minivit", "learn", "check", str(path), "--seconds", "50"],
                              cwd=Path(__file__).parents[1])
    wait_for(lambda: started.exists() and started.read_text())
    parent.kill()
    parent.wait()
    wait_for(lambda: not is_running(int(started.read_text())))


def wait_for(condition, seconds=30):
    """Wait until a condition holds; fail if it does not."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def is_running(process):
    """Whether a process runs; one that has ended and that nobody has waited for does not."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    status = Path(f"/proc/{process}/stat")
    return not (status.exists() and status.read_text().rsplit(")", 1)[1].split()[0] == "Z")


def test_other_files_do_not_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("numpy", "softmax"):
        (tmp_path / f"{name}.py").write_text("raise RuntimeError('the learner has a file of this name')")
    passed, said = check(tmp_path, "attention", solution("attention"))
    assert passed, said


# ---- the command line -------------------------------------------------------------------------------------


def learn(capsys, *arguments):
    """Exit code and output of `minivit learn`."""
    code = cli.main(["learn", *map(str, arguments)])
    out, err = capsys.readouterr()
    return code, out, err


def test_the_way_through_an_exercise(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, out, _ = learn(capsys)
    assert code == 0
    assert all(name in out for name in NAMES)
    assert "0 of 19 done. Next: minivit learn start linear" in out
    assert list(tmp_path.iterdir()) == []                             # a list writes nothing

    code, out, _ = learn(capsys, "start", "linear")
    assert code == 0
    assert Path("linear.py").read_text() == exercise("linear").text
    code, out, _ = learn(capsys, "check", "linear.py")
    assert code == 1
    assert "wrong     forward is not written yet" in out
    for i in range(1, len(marking(exercise("linear")).hints) + 2):
        code, out, _ = learn(capsys, "hint", "linear")
        assert code == 0
        assert out.count("hint ") == min(i, len(marking(exercise("linear")).hints))
    assert "That was the last hint" in out
    Path("linear.py").write_text(RIGHT)
    code, out, _ = learn(capsys, "check", "linear.py")
    assert code == 0
    assert "right     forward and backward" in out
    assert "next      minivit learn start gelu" in out
    assert "1 of 19 done. Next: minivit learn start gelu" in learn(capsys)[1]
    Path("linear.py").write_text(RIGHT + "\n")
    assert re.search(r"linear +20 +changed ", learn(capsys)[1])
    assert json.loads(Path(FILE).read_text()).keys() == {"hints", "passed", "trained"}


def test_a_file_is_never_overwritten(tmp_path, capsys):
    path = tmp_path / "new" / "folder" / "gelu.py"
    assert learn(capsys, "start", "gelu", "--to", path.parent)[0] == 0
    path.write_text("mine")
    code, _, err = learn(capsys, "start", "gelu", "--to", path.parent)
    assert code == 2
    assert err.startswith(f"minivit: error: {path} exists, and stays as it is")
    assert path.read_text() == "mine"
    (tmp_path / "softmax.py").symlink_to(tmp_path / "nowhere")
    assert learn(capsys, "start", "softmax", "--to", tmp_path)[0] == 2
    assert not (tmp_path / "nowhere").exists()
    assert learn(capsys, "start", "--to", path.parent)[0] == 0        # the first without a file
    assert (path.parent / "linear.py").is_file()


@pytest.mark.parametrize(("arguments", "words"), [
    (["strat"], "unknown command 'strat': did you mean 'start'?"),
    (["start", "lineer"], "unknown exercise 'lineer': did you mean 'linear'?"),
    (["hint", "gelu", "--in", "nowhere"], "there is no folder nowhere"),
    (["check", "nothing.py"], "nothing.py: No such file or directory"),
    (["check", "."], ".: Is a directory"),
    (["check", "other.py"], "other.py is for no exercise"),
    (["check", "bytes.py"], "bytes.py is not a text file in UTF-8"),
    (["check", "linear.py", "--seconds", "0"], "time limit must be a finite number above 0, not 0.0"),
    (["train", "linear.py"], "linear.py has not passed its check since it was last changed"),
    (["train", "linear.py", "--epochs", "0"], "number of epochs must be a whole number at least 1, not 0"),
    (["train", "linear.py", "again.py"], "linear.py and again.py are both for the exercise linear"),
    (["train"], "the following arguments are required: FILE"),
], ids=lambda value: " ".join(value) if isinstance(value, list) else "")
def test_bad_input_gives_one_line(tmp_path, capsys, monkeypatch, arguments, words):
    monkeypatch.chdir(tmp_path)
    Path("linear.py").write_text(RIGHT)
    Path("again.py").write_text(RIGHT)
    Path("other.py").write_text("x = 1\n")
    Path("bytes.py").write_bytes(b"\xff\xfe\x00")
    if "again.py" in arguments:
        progress = Progress(".")
        progress.passed["linear"] = Submission(Path("linear.py"), RIGHT, exercise("linear")).digest
        progress.write()
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    code, out, err = learn(capsys, *arguments)
    assert code == 2
    assert err.startswith("minivit: error: ")
    assert err.count("\n") == 1
    assert words in err
    assert out == ""
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize("content", ["{", "[]", '{"hints": 3}', '{"passed": {"linear": 1}}'])
def test_damaged_progress_is_named(tmp_path, capsys, content):
    (tmp_path / FILE).write_text(content)
    code, _, err = learn(capsys, "--in", tmp_path)
    assert code == 2
    assert f"{FILE} is damaged" in err
    assert "delete the file to start anew" in err
    assert (tmp_path / FILE).read_text() == content


# ---- training with the learner's functions ------------------------------------------------------------------


def passed_files(folder, names):
    """Write right solutions into a folder as files that have passed their check."""
    progress = Progress(folder)
    paths = []
    for name in names:
        path = folder / f"{name}.py"
        path.write_text(solution(name))
        progress.passed[name] = Submission(path, path.read_text(), exercise(name)).digest
        paths.append(path)
    progress.write()
    return paths


def test_a_training_calls_the_learners_functions(tmp_path, capsys):
    calls = tmp_path / "calls"
    (path,) = passed_files(tmp_path, ["gelu"])
    path.write_text(solution("gelu") + f"\n\nopen({str(calls)!r}, 'a').write('loaded ')\n" + textwrap.dedent(f"""
        own = backward

        def backward(dy, cache):
            if dy.shape == (32, 17, 128):
                open({str(calls)!r}, "a").write("backward ")
            return own(dy, cache)
        """))
    assert learn(capsys, "check", path)[0] == 0
    calls.unlink()
    code, out, err = learn(capsys, "train", path, "--epochs", 1)
    assert (code, err) == (0, "")
    assert "yours: gelu\nours: linear, softmax, " in out
    assert re.search(r"epoch  1/1: loss \d\.\d+, test accuracy (\d+)\.\d%", out)
    assert float(re.search(r"\ntest accuracy ([\d.]+)% on 359 images: 1 steps are yours", out)[1]) > 30
    assert calls.read_text().split() == ["loaded"] + 4 * 44 * ["backward"]         # 4 blocks, 44 batches
    assert "Last training: test accuracy" in learn(capsys, "--in", tmp_path)[1]


def test_an_error_in_training_names_file_and_line(tmp_path, capsys):
    (path,) = passed_files(tmp_path, ["softmax"])
    path.write_text(solution("softmax").replace("    y = cache", "    y = cache\n    assert len(y) < 30"))
    assert learn(capsys, "check", path)[0] == 0
    code, _, err = learn(capsys, "train", path, "--epochs", 1)
    assert code == 2
    assert re.search(r"minivit: error: \S+softmax.py: softmax raises AssertionError in line 14, `assert len", err)


@pytest.mark.parametrize("name", ["rms_norm", "swiglu"])
def test_design_exercises_take_the_place_of_a_step(tmp_path, capsys, name):
    paths = passed_files(tmp_path, [name, "linear", "relative_bias"])
    code, out, _ = learn(capsys, "train", *paths, "--epochs", 1)
    assert code == 0
    assert f"yours: linear, {name}" in out
    assert "not used: relative_bias, which is no part of this model" in out
    assert float(re.search(r"\ntest accuracy ([\d.]+)%", out)[1]) > 30


@pytest.mark.slow
def test_a_vit_of_the_learners_own_operations_reaches_98_percent(tmp_path, capsys):
    paths = passed_files(tmp_path, NAMES)
    code, out, _ = learn(capsys, "train", *paths)
    assert code == 0
    assert f"yours: {', '.join(USED)} ours: nothing " in " ".join(out.split())
    assert "not used: rms_norm, because layer_norm was passed too" in out
    accuracy = re.search(r"\ntest accuracy ([\d.]+)% on 359 images: every operation of this Vision Transformer is "
                         "yours", out)
    assert float(accuracy[1]) >= 98
