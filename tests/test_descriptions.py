"""The descriptions of data sets are complete, agree with the paper's tables, and set what they say they set."""

from importlib import resources

import pandas as pd
import pytest
from prepare_dataset import WindowArguments

from neuript_hf.data.descriptions import list_descriptions, read_description


ALL = {name: read_description(name) for name in list_descriptions()}
# Tables 1 and 17 of the paper.
DOWNSTREAM_WINDOWS = {
    "mental_arithmetic": 1_707,
    "mumtaz2016": 6_963,
    "physionet_p300": 21_179,
    "sleep_edfx": 457_652,
    "seed_v": 115_001,
    "bcic_iv_2a": 5_184,
    "tuab": 409_455,
    "tuev": 112_491,
}
PRETRAINING_HOURS = {
    "emobrain": 4.94,
    "grasp_and_lift": 11.72,
    "inria_bci_challenge": 29.98,
    "eegmmidb": 47.30,
    "raw_eeg_data": 34.35,
    "resting_state_trujillo": 3.04,
    "seed_series": 166.75,
    "siena": 30.47,
    "spis": 0.83,
    "target_non_target": 16.00,
    "tuar": 92.22,
    "tuep": 591.22,
    "tusz": 1_138.53,
    "tusl": 20.59,
}


def test_all_sets_of_the_paper_are_there():
    by_use = {use: {n: r for n, r in ALL.items() if r.use == use} for use in ("downstream", "pre-training")}
    assert {
        name: description.windows.count for name, description in by_use["downstream"].items()
    } == DOWNSTREAM_WINDOWS
    assert {name: description.hours for name, description in by_use["pre-training"].items()} == PRETRAINING_HOURS


@pytest.mark.parametrize("name", ALL)
def test_a_description_lists_what_is_unknown(name):
    """An unknown address or licence is also in the list of what is unknown."""
    description = ALL[name]
    for field in ("address", "licence"):
        if getattr(description.source, field) == "unknown":
            assert any(field in line.lower() for line in description.unknown)
    assert description.protocol.paper.endswith(".") and len(description.source.reference) > 20


def test_extractors():
    extractor = ALL["physionet_p300"].extractor()
    assert (extractor.montage, extractor.window_seconds, extractor.notch_freq) == ("double_banana", 2.0, 60.0)
    assert ALL["tusz"].extractor(on_missing="drop").on_missing == "drop"


def test_the_program_takes_descriptions():
    """The command line overrides the description."""
    arguments = WindowArguments(description="tuab", montage="C3,C4-Cz", window_seconds=5.0)
    extractor = arguments.extractor()
    assert (extractor.channel_names, extractor.window_seconds) == (["C3", "C4-Cz"], 5.0)
    assert extractor.notch_freq == 60.0


def test_arguments_for_load_recordings():
    arguments = ALL["sleep_edfx"].loading_arguments()
    assert arguments["events"]["Sleep stage 4"] == "N3" and arguments["stride_seconds"] == 30.0
    assert ALL["physionet_p300"].loading_arguments()["event_offset_seconds"] == -0.7
    assert ALL["bcic_2020_3"].loading_arguments()["within_subject"] is True
    assert ALL["mental_arithmetic"].loading_arguments()["events"] is None


def test_people_get_their_split():
    people = pd.DataFrame({"file": "x.edf", "subject": [f"{number:02d}" for number in range(36)]})
    sides = ALL["mental_arithmetic"].assign_splits(people)["split"].value_counts().to_dict()
    assert sides == {"train": 28, "val": 4, "test": 4}
    with pytest.raises(ValueError, match=r"BCIC-IV-2A assigns no split to these people: \['00', '10'"):
        ALL["bcic_iv_2a"].assign_splits(people)
    with pytest.raises(ValueError, match="TUAB names no people: its split is 'given files'"):
        ALL["tuab"].assign_splits(people)


GOOD = (resources.files("neuript_hf.data.descriptions") / "bcic_iv_2a.toml").read_text()


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('use = "downstream"', 'use = "demo"', "expected one of .*'downstream'"),
        ("seconds = 4.0", 'seconds = "four"', "expected float"),
        ("seconds = 4.0", "seconds = 4.0\nmargin = 1.0", "unexpected keyword argument 'margin'"),
        ('access = "open"', "", "missing 1 required positional argument: 'access'"),
        ('montage = "bcic_iv_2a"', 'montage = "bcic"', "Unknown montage 'bcic'"),
        ('"769" = "left"', '"769" = "hand"', r"names classes that are missing in classes.names: \['hand'\]"),
        ('"06", "07"', '"05", "07"', r"people on two sides of the split: \['05'\]"),
        ('rule = "given people"', 'rule = "random by person"', "must name people if split.rule is 'given people'"),
        ('use = "downstream"', 'use = "pre-training"', "description for pre-training must have no classes"),
        ("[source]", "[source", "Expected"),
    ],
)
def test_a_wrong_description_is_refused(tmp_path, old, new, words):
    assert old in GOOD
    (tmp_path / "wrong.toml").write_text(GOOD.replace(old, new, 1))
    with pytest.raises(ValueError, match=f"(?s)wrong.toml: .*{words}"):
        read_description(tmp_path / "wrong.toml")


def test_no_description(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"No description .*none.toml. Give .* one of bcic_2020_3, "):
        read_description(tmp_path / "none.toml")
