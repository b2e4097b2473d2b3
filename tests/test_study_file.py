"""`minivit study`: a grid of settings over seeds, from a file to a table, a verdict and a figure."""

import json

import numpy as np
import pytest
from mpi_jobs import Job, no_job_is_left, with_mpi  # noqa: F401

import minivit
from minivit.cli import main
from minivit.explain import Study
from minivit.training_pipeline.studies import ablation
from minivit.training_pipeline.studies.run_study import run_study, train_point
from minivit.training_pipeline.studies.study_file import StudyFile, arguments, read_study
from minivit.training_pipeline.studies.summary import draw, results, summary

FILE = """
data = "digits"
model = "vit_mini"
seeds = [0, 3]

[settings]
epochs = 0.1
width = 8
depth = 1
heads = 2

[grid]
relative_bias = [true, false]
lr = [0.001, 0.003]
"""


@pytest.fixture
def file(tmp_path):
    (tmp_path / "grid.toml").write_text(FILE)
    return tmp_path / "grid.toml"


def test_the_points_are_each_combination_with_each_seed(file):
    asked = read_study(file)
    assert asked.combinations == [{"relative_bias": True, "lr": 0.001}, {"relative_bias": True, "lr": 0.003},
                                  {"relative_bias": False, "lr": 0.001}, {"relative_bias": False, "lr": 0.003}]
    assert len(asked.points) == 8
    assert asked.points[5] == {"relative_bias": "true", "lr": 0.003, "seed": 3}
    assert [point["seed"] for point in asked.points] == [0] * 4 + [3] * 4


def test_a_study_trains_as_minivit_train_does_and_goes_on_where_it_was(file, capsys):
    assert main(["study", str(file), "--limit", "3"]) == 0
    assert len(Study(file.with_suffix(".csv"), read_study(file).shared | {
        "digest": minivit.load_data("digits").digest}).rows) == 3
    assert main(["study", str(file), "--json"]) == 0
    printed, said = capsys.readouterr()
    assert "has 3 of 8 points already" in said
    found = json.loads(printed.splitlines()[-1])["results"]
    assert [len(row["seeds"]) for row in found] == [2] * 4
    assert file.with_suffix(".png").read_bytes().startswith(b"\x89PNG")
    data = minivit.load_data("digits", seed=3)
    mean, std = data.pixel_statistics()
    model = minivit.create_model("vit_mini", image_size=8, width=8, depth=1, heads=2, relative_bias=False, seed=3,
                                 mean=mean, std=std, drop_path_rate=0.1)
    result = minivit.train(model, data, epochs=0.1, lr=0.003, seed=3, progress=False)
    assert found[3] == {"combination": {"relative_bias": False, "lr": 0.003}, "seeds": [0, 3],
                        "accuracy": [found[3]["accuracy"][0], result.accuracy]}


def test_a_validation_part_decides(file, capsys):
    file.write_text(FILE.replace("[grid]", "val_fraction = 0.2\n[grid]").replace("[true, false]", "[true]"))
    assert main(["study", str(file)]) == 0
    assert "Accuracy on the validation images" in capsys.readouterr().out
    assert set(train_point("digits", None, {"epochs": 0.05, "val_fraction": 0.2}, 1, 0.0)) == {
        "accuracy", "validation_accuracy", "loss"}


def made(tmp_path, accuracies):
    """A study with these accuracies, {lr: {seed: accuracy}}."""
    asked = StudyFile("digits", None, [0, 1, 2, 3], {}, {"lr": [*accuracies]})
    study = Study(tmp_path / "t.csv", asked.shared)
    points = [{"lr": lr, "seed": seed} for lr, by_seed in accuracies.items() for seed in by_seed]
    study.run(points, lambda lr, seed: {"accuracy": accuracies[lr][seed]})
    return asked, study


def test_the_table_has_means_and_standard_errors_and_says_what_is_shown(tmp_path):
    low, high = {0: 0.50, 1: 0.60, 2: 0.55, 3: 0.55}, {0: 0.70, 1: 0.81, 2: 0.75, 3: 0.76}
    asked, study = made(tmp_path, {0.1: low, 0.2: high})
    assert results(asked, study)[1] == ({"lr": 0.2}, high)
    lines = summary(asked, study).splitlines()
    error = np.std([*low.values()], ddof=1) / 2
    assert lines[1].split() == ["0.1", "4", "55.00%", f"{error:.2%}", "50.00%", "60.00%"]
    assert lines[-1] == ("Best: lr 0.2. It is ahead of lr 0.1 by 20.50% +- 0.29% over 4 seeds: shown with 95% "
                         "confidence.")
    (tmp_path / "other").mkdir()
    asked, study = made(tmp_path / "other", {0.1: {0: 0.5, 1: 0.6}, 0.2: {0: 0.7, 1: 0.59}})
    assert summary(asked, study).endswith("+- 10.50% over 2 seeds: not shown with 95% confidence.")


def test_a_training_that_diverges_is_a_result_and_the_others_go_on(file, capsys):
    file.write_text(FILE.replace("[0.001, 0.003]", "[1e30, 0.003]").replace("[true, false]", "[true]"))
    assert main(["study", str(file)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split()[2:5] == ["seeds", "diverged", "accuracy"]
    assert lines[1].split() == ["True", "1e+30", "2", "2", "-", "-", "-", "-"]
    assert lines[2].split()[:4] == ["True", "0.003", "2", "0"]
    assert not any(line.startswith("Best: ") for line in lines)
    assert main(["study", str(file), "--json"]) == 0                  # nothing is trained again
    printed, said = capsys.readouterr()
    assert "left" not in said
    assert json.loads(printed)["results"][0] == {"combination": {"relative_bias": True, "lr": 1e30}, "seeds": [0, 3],
                                                 "accuracy": [None, None]}


def test_a_diverged_training_has_the_columns_of_the_others():
    values = {"epochs": 0.2, "val_fraction": 0.2, "width": 8, "depth": 1, "heads": 2}
    found = [train_point("digits", "vit_mini", values | {"lr": lr}, 1, 0) for lr in (0.001, 1e30)]
    assert [*found[0]] == [*found[1]] == ["accuracy", "validation_accuracy", "loss"]
    assert np.isnan([*found[1].values()]).all()


def test_a_combination_with_a_diverged_training_is_never_the_best(tmp_path):
    asked, study = made(tmp_path, {0.1: {0: 0.5, 1: 0.6}, 0.2: {0: 0.9, 1: float("nan")}, 0.3: {0: 0.4, 1: 0.5}})
    lines = summary(asked, study).splitlines()
    assert lines[2].split() == ["0.2", "2", "1", "90.00%", "-", "90.00%", "90.00%"]
    assert lines[-1].startswith("Best: lr 0.1. It is ahead of lr 0.3 by 10.00%")
    draw(asked, Study(study.file, asked.shared), tmp_path / "t.png")  # read back: NaN stays NaN
    assert (tmp_path / "t.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("grid", ["depth = [1, 2]\nlr = [0.001, 0.003]", "lr = [0.001, 0.003]\ndepth = [1, 2]"])
def test_another_grid_beside_an_existing_table_is_one_line(file, capsys, grid):
    text = FILE.split("[grid]")[0].replace("depth = 1\n", "").replace("epochs = 0.1", "epochs = 0.05")
    file.write_text(text + "[grid]\nlr = [0.001, 0.003]")
    assert main(["study", str(file)]) == 0
    before = {other.name: other.read_bytes() for other in file.parent.iterdir() if other != file}
    capsys.readouterr()
    file.write_text(f"{text}[grid]\n{grid}")
    assert main(["study", str(file)]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "grid.csv has the columns lr, seed, accuracy, loss, seconds, but its points here begin with" in said
    assert {other.name: other.read_bytes() for other in file.parent.iterdir() if other != file} == before


@pytest.mark.parametrize(("text", "line"), [
    ("seeds = 3", 'grid.toml: data is missing: write for example data = "digits"'),
    ("data =", "grid.toml is not a TOML file: "),
    ('data = "digits"\ngird = 1', "grid.toml: unknown entry of a study 'gird': did you mean 'grid'? known: "),
    ('data = "digits"\nseeds = 0', "grid.toml: number of seeds must be a whole number at least 1 and at most 1000"),
    ('data = "digits"\nseeds = [1, 1]', "grid.toml: seeds must be a number of seeds, or a list of different seeds"),
    ('data = "digits"\n[grid]\nlr = 0.1', "grid.toml: lr in [grid] must be a list of values, such as [0.001, 0.003]"),
    ('data = "digits"\n[grid]\nval_fraction = 0.1', "grid.toml: val_fraction in [grid] must be a list of values"),
    ('data = "digits"\n[grid]\nlr = [[1]]', "grid.toml: lr in [grid] can be numbers, texts of one line"),
    ('data = "digits"\n[grid]\nlr = [1, 1]', "grid.toml: lr in [grid] has a value twice"),
    ('data = "digits"\n[settings]\nlr = 1\n[grid]\nlr = [1, 2]', "grid.toml: lr stands in [grid] and outside"),
    ('data = "digits"\n[settings]\nseed = 1', "grid.toml: seed cannot be in [settings]: seeds=... at the top"),
    ('data = "digits"\n[grid]\nlrr = [0.1]', "unknown setting or model option 'lrr': did you mean 'lr'?"),
    ('data = "digits"\n[grid]\nlr = [-0.1]', "learning rate must be a finite number above 0, not -0.1"),
    ('data = "digits"\n[grid]\nval_fraction = [0, 0.2]', "validation images are set apart with val_fraction 0.2, "
     "but not with val_fraction 0, so these cannot be compared: write one val_fraction, such as 0.1, into [settings]"),
    ('data = "digits"\n[grid]\npatience = [3, 0]\nlr = [1e-3, 1e-2]', "set apart with patience 3, lr 0.001, "
     "but not with patience 0, lr 0.001"),
    ('data = "digits"\n[variants.a]\nlrr = 1', "unknown setting or model option 'lrr': did you mean 'lr'?"),
    ('data = "digits"\n[variants.a]\n', "grid.toml: [variants.a] changes nothing: name a setting or an option"),
    ('data = "digits"\n[settings]\nlr = 1\n[variants.a]\nlr = 1', "grid.toml: [variants.a] changes nothing"),
    ('data = "digits"\n[variants.base]\nlr = 1', "grid.toml: the variant base is what [settings] describe"),
    ('data = "digits"\n[variants.a]\nlr = 1\n[variants.b]\nlr = 1', "grid.toml: [variants.b] and [variants.a] are the"),
    ('data = "digits"\n[variants.a]\nseed = 1', "grid.toml: seed cannot be in [variants.a]: seeds=... at the top"),
    ('data = "digits"\n[variants.a]\nlr = 1\n[grid]\nema = [0, 0.9]', "grid.toml: a study has a grid or variants"),
    ('data = "digits"\n[variants]\nlr = 1', "grid.toml: variants.lr must be a table, [variants.lr], not 1"),
    ('data = "digits"\n[variants.a]\nval_fraction = 0.1', "set apart with variant a, but not with variant base"),
    ('data = "nothing"', "unknown data set"),
    ('data = "digits"\n[grid]\nmodel = ["vit_mini", "vit_minni"]', "unknown model 'vit_minni'"),
])
def test_bad_input_is_one_line_and_nothing_is_written(file, capsys, text, line):
    file.write_text(text)
    assert main(["study", str(file)]) == 2
    printed, said = capsys.readouterr()
    assert printed == ""
    assert said.count("\n") == 1
    assert said.split("/")[-1].removeprefix("minivit: error: ").startswith(line) or line in said
    assert [other.name for other in file.parent.iterdir()] == ["grid.toml"]


def test_a_missing_file_and_two_kinds_of_workers_are_one_line(tmp_path, capsys):
    assert main(["study", str(tmp_path / "no.toml")]) == 2
    assert "no.toml: no such file" in capsys.readouterr().err
    assert main(["study", "x.toml", "--mpi", "--dask", "tcp://a:1"]) == 2
    assert "a study has one kind of workers: leave out --dask, or --mpi" in capsys.readouterr().err


@with_mpi
def test_a_study_on_the_ranks_of_mpi_has_the_same_results(file):
    pytest.importorskip("mpi4py")
    _, alone = run_study(file, table=file.with_name("alone.csv"))
    code, out, err = Job(3, "-m", "minivit", "study", file, "--mpi").end(100)
    assert code == 0, err
    assert out.count("Accuracy on the test images") == 1
    lines = [sorted(line.rsplit(",", 1)[0] for line in path.read_text().splitlines())
             for path in (alone.file, file.with_suffix(".csv"))]
    assert lines[0] == lines[1]


def test_a_study_on_the_workers_of_dask_has_the_same_results(file):
    distributed = pytest.importorskip("distributed")
    _, alone = run_study(file, table=file.with_name("alone.csv"))
    with distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster:
        assert main(["study", str(file), "--dask", cluster.scheduler_address]) == 0
    lines = [sorted(line.rsplit(",", 1)[0] for line in path.read_text().splitlines())
             for path in (alone.file, file.with_suffix(".csv"))]
    assert lines[0] == lines[1]


# ---- ablation studies: variants of a base ---------------------------------------------------------------------------

VARIANTS = """
data = "digits"
model = "vit_mini"
seeds = 2

[settings]
epochs = 0.1
width = 8
depth = 1
heads = 2
val_fraction = 0.2

[variants.rotary]
positions = "rotary"

[variants."without bias, wide"]
width = 16
relative_bias = false
"""


def test_a_variant_is_the_base_with_its_changes(file):
    file.write_text(VARIANTS)
    asked = read_study(file)
    assert [(point["variant"], point["changes"], point["seed"]) for point in asked.points][:4] == [
        ("base", "{}", 0), ("rotary", '{"positions": "rotary"}', 0),
        ("without bias, wide", '{"relative_bias": false, "width": 16}', 0), ("base", "{}", 1)]
    models = [arguments("digits", asked.model, asked.settings, one, 3) for one in asked.combinations]
    assert [type(model).__name__ for model, _, _ in models] == ["ViT", "ExtendedViT", "ViT"]
    assert [model.config["width"] for model, _, _ in models] == [8, 8, 16]
    assert models[0][2] == {"epochs": 0.1, "val_fraction": 0.2, "seed": 3, "start": None}


def test_an_ablation_study_resumes_and_keeps_its_rows_if_variants_are_added_or_changed(file, capsys):
    file.write_text(VARIANTS)
    assert main(["study", str(file), "--limit", "5"]) == 0
    capsys.readouterr()
    assert main(["study", str(file)]) == 0
    printed, said = capsys.readouterr()
    assert "has 5 of 6 points already" in said
    lines = printed.splitlines()
    assert lines[0].split() == ["variant", "seeds", "accuracy", "difference", "95%", "interval", "shown", "changes"]
    assert lines[1].split()[:2] == ["base", "2"]
    assert lines[2].endswith('"positions": "rotary"')
    assert "Accuracy on the validation images" in printed
    assert file.with_suffix(".png").read_bytes().startswith(b"\x89PNG")
    before = file.with_suffix(".csv").read_text()
    file.write_text(VARIANTS.replace("width = 16", "width = 24") + '[variants.registers]\nregisters = 1\n')
    assert main(["study", str(file), "--limit", "0", "--json"]) == 0   # the changed variant has no results any more
    found = json.loads(capsys.readouterr().out)["results"]
    assert [row["combination"]["variant"] for row in found] == ["base", "rotary"]
    assert file.with_suffix(".csv").read_text() == before


def ablated(accuracies):
    """What `results` returns for {variant: {seed: accuracy}}."""
    return [({"variant": name, "changes": "{}" if name == "base" else '{"ema": 0}'}, by_seed)
            for name, by_seed in accuracies.items()]


def test_differences_are_paired_by_seed_with_their_interval():
    base = {0: 0.50, 1: 0.60, 2: 0.70}
    found = ablated({"base": base, "better": {0: 0.51, 1: 0.61, 2: 0.72}, "worse": {0: 0.4, 1: 0.5, 2: 0.59},
                     "unknown": {0: 0.6, 2: 0.65}, "diverged": {0: float("nan"), 1: 0.7, 2: float("nan")}})
    lines = ablation.summary(found, "validation").splitlines()
    mean, error = 4 / 300, np.std([0.01, 0.01, 0.02], ddof=1) / 3**0.5
    half = 4.303 * error                                              # Student's t for three numbers
    assert half > mean                                                # so nothing is shown, although all are better
    assert lines[2].split() == ["better", "3", "61.33%", "+1.33", f"{100 * (mean - half):+.2f}", "to",
                                f"{100 * (mean + half):+.2f}", '"ema":', "0"]
    assert lines[3].split()[-3:] == ["worse", '"ema":', "0"]
    assert lines[4].split()[1:4] == ["2", "62.50%", "+2.50"]
    assert lines[5].split()[1:5] == ["1", "70.00%", "+10.00", "-"]
    assert "2 trainings have diverged and are left out" in lines[-1]
    rows = ablation.as_json(found)
    assert rows[1]["difference"] == pytest.approx(mean)
    assert rows[1]["interval"] == pytest.approx([mean - half, mean + half])
    assert rows[4]["interval"] is None
    assert rows[4]["difference"] == pytest.approx(0.1)


def test_the_picture_of_an_ablation_needs_no_complete_results(tmp_path):
    for number, accuracies in enumerate(({"base": {0: 0.5}}, {"rotary": {0: 0.5}},
                                         {"base": {0: 0.5}, "rotary": {0: 0.6}, "wide": {1: 0.7}})):
        ablation.draw(ablated(accuracies), tmp_path / f"{number}.png", "test")
        assert (tmp_path / f"{number}.png").read_bytes().startswith(b"\x89PNG")
