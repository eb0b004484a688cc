"""The corpus of our own checkpoints: whose recordings are in it, and what they become."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest
from prepare_corpus import drawn_people, held_out_people, prepare_corpus, read_rows

from neuript_hf import EEGShardDataset, NeurIPTFeatureExtractor
from neuript_hf.data.shards import read_outcomes


@pytest.mark.shared_data
def test_nobody_whom_weights_are_tested_on(shared_data):
    manifest = pd.read_csv(shared_data / "manifest.csv", dtype=str, keep_default_na=False)
    unseen = set(manifest["subject"][manifest["split"].isin(["val", "test"])])
    rows = read_rows(shared_data)
    people = {name: set(table["subject"]) for name, table in rows.items()}
    assert len(unseen) > 100 and not unseen & set.union(*people.values())
    sets = set(pd.concat(rows.values())["set"])
    assert "adhd_children" in sets and not sets & {"msu_schizo", "alz_fsu"}  # no licence is known
    # all that may be used is used: labelled recordings of people without a tested run, unless an array repeats them
    usable = manifest[(manifest["split"] == "train") & (manifest["within_split"] == "")]
    usable = usable[~usable["set"].isin(["msu_schizo", "alz_fsu", "eegmmidb_mi"])]
    assert set(rows["tasks"]["file"]) | set(rows["trials"]["file"]) == set(usable["file"])
    assert len(rows["pretraining"]) == len((shared_data / "pretraining/manifest.jsonl").read_text().splitlines())
    assert set(rows["trials"]["set"]) == {"uci_alcohol"} and "uci_alcohol" not in set(rows["tasks"]["set"])


@pytest.mark.shared_data
def test_a_few_people_of_large_sets_are_held_out(shared_data):
    rows = pd.concat(read_rows(shared_data).values())
    held_out = held_out_people(rows)
    assert held_out == held_out_people(rows.iloc[::-1])
    for name, people in rows.groupby("set")["subject"].unique().items():
        share = len(held_out & set(people)) / len(people)
        assert (0.04 < share < 0.08) if len(people) > 15 else share == 0, name


def test_a_smaller_draw_of_people_is_part_of_a_larger_one():
    people = pd.DataFrame({"set": "a", "subject": [f"a-{number}" for number in range(40)]})
    people = pd.concat([people, pd.DataFrame({"set": "b", "subject": ["b-0", "b-1"]})])
    few, more, all_of_them = (drawn_people(people, share) for share in (0.1, 0.3, 1.0))
    assert few < more < all_of_them and (len(few), len(more), len(all_of_them)) == (5, 13, 42)
    assert {"b-0", "b-1"} & few and not more & held_out_people(people)
    with pytest.raises(ValueError, match="people_share must be above 0 and at most 1 .* but is 0"):
        drawn_people(people, 0)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A folder of the same make: 17 people with unlabelled arrays, two labelled sets, one of them in trials."""
    data = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)
    origin = {"licence": "CC0", "source": "made up"}
    (data / "pretraining").mkdir()
    rows = []
    for number in range(17):
        signal = np.clip(rng.normal(0, 200, (4, 64 * 12)), -1500, 1500).astype(np.int16)
        if number == 0:
            signal[1, 70] = 6000  # 600 microvolt
        np.save(data / "pretraining" / f"{number}.npy", signal)
        row = {"file": f"{number}.npy", "set": "band", "subject": f"band-{number}", "rate_hz": 64}
        channels = ["TP9", "AF7", "AF8", "TP10"]
        rows.append(row | {"channels": channels, "microvolt_per_step": 0.1} | origin)
    (data / "pretraining" / "manifest.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    rows = []
    for name in ("cap", "uci_alcohol"):
        for number, split in enumerate(["train", "val", "test", "train"]):
            signal = pd.DataFrame(rng.normal(0, 20, (128 * 10, 3)), columns=["C3 (uV)", "Cz (uV)", "C4 (uV)"])
            signal.insert(0, "time", np.arange(1280) / 128)
            signal.to_csv(data / f"{name}_{number}.csv", index=False)
            row = {"file": f"{name}_{number}.csv", "set": name, "subject": f"{name}-{number}", "split": split}
            rows.append(row | origin | {"within_split": "train" if number == 3 else ""})
    pd.DataFrame(rows).to_csv(data / "manifest.csv", index=False)
    return data


def test_the_data_sets(data, tmp_path):
    sets = prepare_corpus(data, tmp_path / "corpus")
    assert sets.fillna(0).to_dict("list") == pd.read_csv(tmp_path / "corpus" / "sets.csv").fillna(0).to_dict("list")
    table = sets.set_index(["data set", "set", "split"])
    assert list(table.index) == [
        ("pretraining", "band", "train"),
        ("pretraining", "band", "validation"),
        ("tasks", "cap", "train"),
        ("trials", "uci_alcohol", "train"),
    ]
    assert table["people"].tolist() == [16, 1, 1, 1] and table["recordings lost"].tolist() == [0, 0, 0, 0]
    assert table["windows"].sum() == 17 * 2 - 1 + 2 + 10 and table["rejected: amplitude"].sum() == 1
    assert table["hours"]["tasks", "cap", "train"] == pytest.approx(10 / 3600, abs=1e-3)
    assert set(table["licence"]) == {"CC0"}

    # already filtered: the array's own numbers, in tenths of a microvolt
    window = EEGShardDataset(tmp_path / "corpus" / "pretraining")[4]
    signal = np.load(data / window["recording"].removeprefix("data/"))
    start = round(window["onset"] * 64)
    recovered = NeurIPTFeatureExtractor().invert(window["input_values"])
    np.testing.assert_allclose(recovered, signal[:, start : start + 320] * 0.1, rtol=2e-3, atol=2e-3)
    assert {window["input_values"].shape for window in EEGShardDataset(tmp_path / "corpus" / "trials")} == {(3, 64)}
    # no trace of where the data lie
    for name in ("pretraining", "tasks", "trials"):
        assert str(data) not in "".join(path.read_text() for path in (tmp_path / "corpus" / name).glob("*.json*"))
        assert all(outcome.status == "kept" for outcome in read_outcomes(tmp_path / "corpus" / name))


def test_run_again_with_the_data_elsewhere(data, tmp_path):
    """Nothing is made anew, and nothing depends on where the recordings lie."""
    before = prepare_corpus(data, tmp_path / "corpus")
    shutil.copytree(data, tmp_path / "elsewhere")
    (tmp_path / "corpus" / "tasks" / "00000.safetensors").unlink()
    times = {path: path.stat().st_mtime_ns for path in (tmp_path / "corpus" / "pretraining").glob("0*")}
    after = prepare_corpus(tmp_path / "elsewhere", tmp_path / "corpus")
    pd.testing.assert_frame_equal(before, after)
    assert times == {path: path.stat().st_mtime_ns for path in times}
    with pytest.raises(FileNotFoundError):
        prepare_corpus(tmp_path / "nowhere", tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_sets_with_an_unconfirmed_licence_can_be_left_out(data, tmp_path):
    shutil.copytree(data, tmp_path / "data")
    manifest = pd.read_csv(tmp_path / "data" / "manifest.csv", keep_default_na=False)
    manifest.loc[manifest["set"] == "uci_alcohol", "licence"] = "CC-BY-4.0 from memory; unconfirmed"
    manifest.to_csv(tmp_path / "data" / "manifest.csv", index=False)
    sets = prepare_corpus(tmp_path / "data", tmp_path / "corpus", confirmed_licences=True)
    assert set(sets["set"]) == {"band", "cap"} and not (tmp_path / "corpus" / "trials").exists()
