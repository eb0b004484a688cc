"""Studies: what an arm changes, runs that go on where they stopped, and what is told of them."""

import json
import shutil
from pathlib import Path

import figures
import pandas as pd
import pytest
import study as study_program
import yaml
from conftest import ROOT, run_python
from study import Run, finished_runs, read_study, runs_of

from neuript_hf import NeurIPTFeatureExtractor
from neuript_hf.data.preparation import RejectionRules, prepare_dataset
from neuript_hf.data.simulation import simulate_dataset


STUDIES = sorted((ROOT / "research" / "settings" / "studies").glob("*.yaml"))


def test_an_arm_changes_what_it_says_and_nothing_else():
    study = {
        "base_settings": {"size": "tiny", "max_steps": 5, "config": {"decoder_size": 32}},
        "settings": {"max_steps": 2, "config": {"hidden_size": 16}},
        "arms": {"as it is": {}, "10 % of, say, it's": {"whole_share": 0.5, "config": {"decoder_size": None}}},
        "seeds": [0, 1],
    }
    runs = list(runs_of(study, Path("runs")))
    assert [(run.arm, run.seed) for run in runs[:3]] == [("as it is", 0), ("10 % of, say, it's", 0), ("as it is", 1)]
    common = {"size": "tiny", "max_steps": 2}
    config = {"hidden_size": 16, "decoder_size": 32}
    assert runs[0].settings == common | {"config": config, "output_dir": "runs/as-it-is_0", "seed": 0}
    changed = {"whole_share": 0.5, "config": config | {"decoder_size": None}, "output_dir": "runs/10-of-say-it-s_1"}
    assert runs[3].settings == common | changed | {"seed": 1}


@pytest.mark.parametrize("file", STUDIES, ids=lambda file: file.stem)
def test_the_studies_at_hand_can_be_read(file, monkeypatch, tmp_path):
    monkeypatch.chdir(ROOT)
    study = read_study(file)
    folders = [run.folder for run in runs_of(study, tmp_path)]
    assert len(set(folders)) == len(folders) == len(study["arms"]) * len(study["seeds"])


def test_a_study_with_another_entry_is_refused(tmp_path):
    file = tmp_path / "study.yaml"
    file.write_text("arms: {}\nsteps: 5\n")
    with pytest.raises(ValueError, match="must have the entries arms, base, .* but has arms, steps"):
        read_study(file)


def test_a_run_with_other_settings_is_not_taken_for_this_one(tmp_path):
    (tmp_path / "settings.yaml").write_text("seed: 1\n")
    with pytest.raises(ValueError, match="a run with other settings"):
        Run("arm", 0, tmp_path, {"seed": 0}).train({})


def test_only_results_of_the_same_study_are_kept(tmp_path):
    file = tmp_path / "trial.json"
    study = {"base": "a.yaml", "base_settings": {"max_steps": 4}, "arms": {"plain": {}}, "seeds": [0]}
    assert finished_runs(file, study) == {}
    run = {"arm": "plain", "seed": 0}
    file.write_text(json.dumps({"study": study, "runs": [run]}))
    assert finished_runs(file, study | {"seeds": [0, 1], "base": "moved.yaml"}) == {("plain", 0): run}
    for change in ({"base_settings": {"max_steps": 5}}, {"arms": {"plain": {"max_steps": 5}}}):
        assert finished_runs(file, study | change) == {}


def test_the_table_has_means_of_the_tasks_that_are_told(monkeypatch):
    monkeypatch.setattr(study_program, "untold_tasks", lambda: {"anxiety"})

    def found(**values):
        return {task: {"checkpoint": {"value": value}} for task, value in values.items()}

    runs = [
        {
            **{"arm": "plain", "hours": 1, "seconds": 2, "curves": [{}]},
            "accuracies": {
                "ridge": found(eyes=0.6 + seed / 10, adhd=0.8, anxiety=0.1),
                "ridge, centred": found(eyes=0.9, anxiety=0.1),
            },
        }
        for seed in (0, 1)
    ]
    content = {"arms": {"plain": {}}, "fits": ["ridge"], "tasks": ["eyes", "adhd", "anxiety"]}
    lines = study_program.table(runs, content).splitlines()
    assert lines[2].endswith("| ridge | 0.650 | 0.800 | 0.100 | 0.725 (0.700 to 0.750) |")
    assert lines[3].endswith("| ridge, centred | 0.900 | - | 0.100 | 0.900 |")


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """Simulated people stand for a task of the manifest, with one class for each recording; two arms."""
    folder = tmp_path_factory.mktemp("study")
    manifest = simulate_dataset(folder / "recordings", n_subjects=10, seed=0, n_trials=4)
    table = pd.read_csv(manifest, dtype=str).drop(columns="events")
    table["set"], table["label"] = "eegmat", ["rest", "arithmetic"] * 5
    table.to_csv(manifest, index=False)
    extractor = NeurIPTFeatureExtractor(montage="as_recorded", window_seconds=3.0)
    rules = RejectionRules(min_recording_seconds=0, trim_seconds=0, max_microvolts=None, min_microvolts=None)
    prepare_dataset(manifest, extractor, folder / "data", rules=rules)
    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_attention_heads": 2, "moe_intermediate_size": 8}
    base = {
        **{"data": [str(folder / "data")], "max_channels": 3, "use_cpu": True, "max_steps": 4, "save_steps": 2},
        **{"per_device_train_batch_size": 4, "eval_strategy": "steps", "eval_steps": 2, "report_to": "none"},
        "config": sizes | {"shared_expert_intermediate_size": 8, "decoder_size": 8},
    }
    (folder / "base.yaml").write_text(yaml.safe_dump(base))
    content = {
        **{"base": str(folder / "base.yaml"), "settings": {}, "seeds": [0], "tasks": ["arithmetic"]},
        **{"arms": {"plain": {}, "spectrum": {"spectral_target": True}}, "fits": ["ridge"], "random_seeds": 1},
        "probe_steps": [2],
    }
    (folder / "trial.yaml").write_text(yaml.safe_dump(content))
    return folder / "trial.yaml", manifest


@pytest.mark.slow
def test_from_a_file_to_results(study, tmp_path):
    file, manifest = study
    folders = ("--data", manifest, "--output", tmp_path / "trial", "--runs", tmp_path / "runs")

    def run(file: Path) -> list[dict]:
        printed = run_python("research/study.py", "--study", file, *folders, "--parallel", 2)
        results = json.loads((tmp_path / "trial.json").read_text())
        assert results["table"] in printed
        return results["runs"]

    def written() -> dict[str, int]:
        return {str(path): path.stat().st_mtime_ns for path in (tmp_path / "runs").rglob("model.safetensors")}

    results = run(file)
    figures.study(json.loads((tmp_path / "trial.json").read_text()))
    assert [result["arm"] for result in results] == ["plain", "spectrum"]
    for result in results:
        assert result["steps"] == 4 and [entry["step"] for entry in result["curves"]] == [2, 4]
        assert ("eval_spectral_loss" in result["curves"][-1]) == (result["arm"] == "spectrum")
        (on_the_way,) = result["accuracies_on_the_way"].values()
        for accuracies in (result["accuracies"], on_the_way):
            methods = {"checkpoint", "random", "band power", "connectivity"}
            assert set(accuracies["ridge"]["arithmetic"]) == methods
            assert accuracies["ridge, centred"] == {}  # each person has one class

    # runs that are done are not done again, where the results are lost
    trained = written()
    (tmp_path / "trial.json").unlink()
    assert run(file) == results and written() == trained

    # nor results, where the runs are lost: another seed comes beside them, without steps on the way
    shutil.rmtree(tmp_path / "runs")
    more = tmp_path / "more.yaml"
    more.write_text(yaml.safe_dump(yaml.safe_load(file.read_text()) | {"seeds": [0, 1]}))
    both = run(more)
    assert both[:2] == results and [(result["arm"], result["seed"]) for result in both[2:]] == [
        ("plain", 1),
        ("spectrum", 1),
    ]
    assert both[2]["accuracies_on_the_way"] == {} and both[2]["curves"] != results[0]["curves"]
    assert {Path(path).relative_to(tmp_path / "runs").parts[1] for path in written()} == {"plain_1", "spectrum_1"}
