"""From a recording's channels to a montage's: laws of the plan, and every channel's line in the report."""

import json
from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neuript_hf.caps import NET_POSITIONS, NETS
from neuript_hf.channels import ChannelReport, ChannelSource, canonical_names, plan_channels
from neuript_hf.electrodes import MONTAGES, TEN_TWENTY, grid_positions, lobe_membership


BANANA = list(MONTAGES["double_banana"])
# Channels that enter no output, whatever the montage.
OTHERS = ["EOG left", "ECG", "Status", "T1", "A3", "X1", "EEG 26-REF"]


def plan(names, wanted=None, on_missing="raise", net=None, types=None):
    report = ChannelReport()
    types = types or ["eeg"] * len(names)
    return plan_channels(names, types, wanted, on_missing, report, net), report


def apply(planned, recording):
    """The outputs of a plan that interpolates nothing; `recording [C]` are the channels' values."""
    assert not planned.interpolated
    return planned.weights @ recording[planned.recorded]


@st.composite
def recordings(draw):
    """Names, and the electrodes whose difference each channel is (`None` = the common reference)."""
    channels = draw(
        st.lists(st.sampled_from(TEN_TWENTY), unique=True, max_size=19).map(lambda e: [(x, None) for x in e])
    )
    pairs = st.tuples(st.sampled_from(TEN_TWENTY), st.sampled_from(TEN_TWENTY)).filter(lambda pair: pair[0] != pair[1])
    channels += draw(st.lists(pairs, unique=True, max_size=15))
    names = [f"EEG {first}-{second or 'REF'}" for first, second in channels]
    others = draw(st.lists(st.sampled_from(OTHERS), unique=True))
    order = draw(st.permutations(range(len(names) + len(others))))
    names, channels = names + others, channels + [None] * len(others)
    return [names[index] for index in order], [channels[index] for index in order]


def values_of(channels, potentials, reference):
    """The value of each channel of a recording."""
    return np.array([np.nan if c is None else potentials[c[0]] - potentials.get(c[1], reference) for c in channels])


@settings(deadline=None)
@given(recordings(), st.integers(0, 2**32 - 1))
def test_every_pair_is_the_difference_of_its_potentials(recording, seed):
    """Whatever is recorded, monopolar or bipolar, reversed or not: an output is first minus second, or missing."""
    names, channels = recording
    generator = np.random.default_rng(seed)
    potentials = dict(zip(TEN_TWENTY, generator.normal(size=len(TEN_TWENTY)), strict=True))
    wanted = [*BANANA, *TEN_TWENTY]
    # a second electrode shared by all changes the meaning of names; other tests have that
    seconds = {channel[1] for channel in channels if channel}
    if None not in seconds and len(seconds) == 1:
        return
    try:
        planned, report = plan(names, wanted, on_missing="drop")
    except ValueError as error:
        assert "no channel of the montage" in str(error)
        return
    outputs = apply(planned, values_of(channels, potentials, reference=7.0))
    expected = [potentials[a] - potentials.get(b, 7.0) for a, _, b in (c.partition("-") for c in planned.channels)]
    np.testing.assert_allclose(outputs, expected, atol=1e-9)
    assert set(planned.channels) | set(report.missing) == set(wanted)
    # only channels whose electrodes are not joined by any chain are missing
    for name in report.missing:
        first, _, second = name.partition("-")
        assert not joined(channels, first, second) if second else (first, None) not in channels


def joined(channels, first, second):
    """Whether a chain of recorded channels leads from one electrode to another."""
    reached, edge = {first}, {first}
    while edge:
        edge = {b for c in channels if c for a, b in (c, c[::-1]) if a in reached} - reached
        reached |= edge
    return second in reached


@settings(deadline=None)
@given(recordings(), st.randoms())
def test_the_order_of_the_channels_makes_no_difference(recording, random):
    names, _ = recording
    shuffled = random.sample(names, len(names))
    results = []
    for order in (names, shuffled):
        try:
            planned, report = plan(order, BANANA, on_missing="drop")
        except ValueError:
            results.append(None)
            continue
        rows = [(row.name, row.how, list(map(str, row.sources))) for row in report.channels]
        results.append((planned.channels, rows, report.missing, report.dropped))
    assert results[0] == results[1]


def test_the_order_of_the_channels_does_not_choose_between_two_paths():
    names = ["T7-Cz", "Cz-P7", "T7-C3", "C3-P7"]
    rows = [plan(list(order), ["T7-P7"])[1].channels[0] for order in permutations(names)]
    sources = {tuple(map(str, row.sources)) for row in rows}
    assert len(sources) == 1


SPELLINGS = ["", "EEG C3-AVG", *"C3 c3 C3-0 C3-Cz Cz-C3 E1 E22 A1 A2 A3 EEG 7 Status".split()]


@settings(deadline=None)
@given(
    recordings().map(lambda recording: recording[0])
    | st.lists(st.sampled_from(SPELLINGS) | st.text(max_size=6), max_size=12),
    st.sampled_from([None, BANANA, ["C3-Cz"], ["Fp1-O2", "C3"], ["C3", "E22@GSNHydroCel128", "Fp1-A1"]]),
    st.sampled_from(["raise", "drop", "interpolate"]),
    st.sampled_from([None, "biosemi64", "biosemi256", "GSN-HydroCel-128"]),
)
def test_any_names_give_a_complete_plan_or_a_clear_error(names, wanted, on_missing, net):
    """
    Also empty, repeated and meaningless ones: a channel is either a source of an output or left out with a reason,
    never both.
    """
    try:
        planned, report = plan(names, wanted, on_missing, net)
    except ValueError as error:
        assert len(str(error)) > 20
        return
    assert planned.weights.shape == (len(planned.channels), len(planned.recorded) + len(planned.interpolated))
    assert set(np.unique(planned.weights)) <= {-1, 0, 1} and (planned.weights != 0).any(axis=1).all()
    assert [row.name for row in report.channels] == planned.channels
    used = {source.number for row in report.channels for source in row.sources}
    for number, name in enumerate(names):
        label = f"{name} (channel {number + 1})" if names.count(name) > 1 else name
        assert (number in used) != bool(report.dropped.get(label))


def test_a_recorded_pair_is_kept_and_a_reversed_one_reversed():
    planned, report = plan(["T7-P7", "F7-T7", "P7-T7", "O1-P7"], ["P7-T7", "T7-F7", "P7-O1"])
    assert [list(map(str, row.sources)) for row in report.channels] == [["+P7-T7"], ["-F7-T7"], ["-O1-P7"]]
    assert apply(planned, np.array([1.0, 2.0, 3.0, 4.0])).tolist() == [3.0, -2.0, -4.0]
    assert report.dropped == {"T7-P7": "not in the montage"}


def test_a_shared_second_electrode_makes_pairs():
    planned, report = plan(["Fp1-Cz", "C3-Cz", "O1-Cz"], ["Fp1-C3", "C3-Cz", "O1"])
    assert apply(planned, np.array([5.0, 3.0, 1.0])).tolist() == [2.0, 3.0, 1.0]
    assert report.steps == ["reference: Cz, the second electrode of every channel"]


def test_no_pair_is_derived_across_two_references():
    names = ["C3-LE", "Cz-LE", "C4-AVG", "O2-AVG"]
    planned, report = plan(names, ["C3-Cz", "C4-O2", "C3-C4"], on_missing="drop")
    assert planned.channels == ["C3-Cz", "C4-O2"] and list(report.missing) == ["C3-C4"]
    assert "C3, Cz against linked ears; C4, O2 against average" in report.steps[0]
    assert report.references == {"C3": "linked ears", "Cz": "linked ears", "C4": "average", "O2": "average"}
    assert not report.one_reference
    with pytest.raises(ValueError, match="references differ: C3, Cz against linked ears"):
        plan(names, ["C3-C4"])
    with pytest.raises(ValueError, match="against one reference"):
        plan(names, ["C3", "P3"], on_missing="interpolate")


def test_interpolation_says_what_it_uses():
    planned, report = plan(["C3", "C4", "Fz", "Pz", "EOG"], ["Cz", "C3-Cz"], on_missing="interpolate")
    assert planned.interpolated == ["Cz"] and planned.recorded == [0, 1, 2, 3]
    assert planned.weights.tolist() == [[0, 0, 0, 0, 1], [1, 0, 0, 0, -1]]
    assert [row.how for row in report.channels] == ["interpolated"] * 2
    assert report.dropped["Fz"] == "not in the montage, but interpolated from"
    with pytest.raises(ValueError, match="at least 4 electrodes"):
        plan(["C3", "C4", "Fz"], ["Cz"], on_missing="interpolate")


def test_a_report_comes_back_from_its_plain_data():
    names = ["Fp1", "C3-LE", "Cz-AVG", "P3", "ECG"]
    report = plan(names, ["Fp1", "Fp1-P3", "C3-Cz"], on_missing="drop")[1]
    assert report.channels[1].sources == [ChannelSource("Fp1", 1, 0), ChannelSource("P3", -1, 3)]
    assert ChannelReport.from_dict(json.loads(json.dumps(report.to_dict()))) == report


def test_a_report_of_version_0_1_0_is_read():
    """It had its sources and references as text only."""
    rows = [
        {"name": "Cz", "how": "interpolated", "sources": ["+Cz (interpolated)"], "masked": ""},
        {"name": "C3", "how": "exact", "sources": ["C3"], "masked": "C3 flat"},
        {"name": "T7-P7", "how": "derived pair", "sources": ["+T3", "-T5"], "masked": ""},
    ]
    steps = ["unit: uV to microvolt", "reference: C3, T3 against linked ears; T5 against one not named; "]
    steps[1] += "no pair is derived across them"
    old = {"channels": rows, "dropped": {"ECG": "of type ecg"}, "missing": {}, "steps": steps, "problems": []}
    report = ChannelReport.from_dict(old)
    assert [[*map(str, row.sources)] for row in report.channels] == [["+Cz (interpolated)"], ["+C3"], ["+T3", "-T5"]]
    assert report.references == {"C3": "linked ears", "T3": "linked ears", "T5": "one not named"}
    assert "C3        exact          C3   MASKED, C3 flat" in str(report)
    assert ChannelReport.from_dict(old | {"steps": steps[:1]}).one_reference


def test_a_cap_with_labels_gives_the_same_pairs_as_with_names():
    labels, electrodes = list(NETS["biosemi64"]), list(NETS["biosemi64"].values())
    by_label, report = plan([*labels, "EXG1"], BANANA, net="biosemi64")
    by_name, _ = plan(electrodes, BANANA)
    np.testing.assert_array_equal(by_label.weights, by_name.weights)
    assert by_label.recorded == by_name.recorded
    assert list(map(str, report.channels[9].sources)) == ["+A13", "-B16"]  # C3 - Cz
    with pytest.raises(ValueError, match=r"Unknown names: A1.*name its net"):
        plan(labels, BANANA)


def test_a_dense_net_keeps_its_sites_or_is_interpolated():
    labels = [f"E{number}" for number in range(1, 130)]
    planned, report = plan(labels, net="GSN-HydroCel-129")
    assert len(planned.channels) == 129 and planned.channels[128] == "Cz"
    assert report.channels[21].name == "E22@GSNHydroCel128" and report.channels[21].how == "exact"
    assert grid_positions(planned.channels).shape == (129, 3)
    assert lobe_membership(planned.channels).sum(axis=1).tolist() == [1] * 129
    planned, _ = plan(labels, BANANA, on_missing="interpolate", net="GSN-HydroCel-129")
    assert planned.channels == BANANA and set(planned.interpolated) == set(TEN_TWENTY) - {"Fz", "Cz", "Pz"}


def test_a_bank_called_c3_is_not_the_electrode():
    planned, _ = plan(["A1", "B1", "C3"], net="biosemi128")
    assert planned.channels == ["A1@biosemi128", "B1@biosemi128", "C3@biosemi128"]
    with pytest.raises(ValueError, match=r"does not have: C3"):
        plan(["A1", "B1", "C3"], ["C3"], net="biosemi128")


def test_as_recorded_takes_names_that_say_where_they_are():
    planned, report = plan(["C3", "E22", "Foo"])
    assert planned.channels == ["C3"] and list(report.dropped) == ["E22", "Foo"]
    with pytest.raises(ValueError, match=r"No channel name is recognised: E22, Foo.*Rename.*name the net"):
        plan(["E22", "Foo"])
    with pytest.raises(ValueError, match="No EEG channel among"):
        plan(["EOG", "ECG", "EMG1", "Resp"])


def test_a_users_own_list_is_taken_literally():
    assert canonical_names(["t3", "F1-F3", "fp1-f7"]) == ["T7", "F1-F3", "Fp1-F7"]
    sites = ["E22@GSNHydroCel128", "E22@GSNHydroCel128-E33@GSNHydroCel128", "Cz"]
    assert canonical_names(["E22", "E22-E33", "Cz"], net="GSN-HydroCel-128") == sites
    sites = ["C3-Cz", "A5@biosemi128", "C3@biosemi128"]
    assert canonical_names(["C3-Cz", "A5", "C3@biosemi128"], net="biosemi128") == sites
    for names, message in (
        (["E22"], "a cap's labels"),
        (["C3-C3"], "Unknown channels"),
        (["C3", "c3"], "named twice: C3"),
        ([], r"Unknown channels \[\]"),
    ):
        with pytest.raises(ValueError, match=message):
            canonical_names(names)


@settings(deadline=None)
@given(st.lists(st.sampled_from([*TEN_TWENTY, *list(NET_POSITIONS)[::50]]), unique=True, min_size=1))
def test_canonical_names_stay(names):
    assert canonical_names(names) == names
    pairs = [f"{a}-{b}" for a, b in zip(names, names[1:], strict=False)]
    assert not pairs or canonical_names(pairs) == pairs
