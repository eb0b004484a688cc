"""Recordings and arrays -> batches: laws, golden values, real files, and every mistake with its message."""

import json
import warnings
from pathlib import Path

import mne
import numpy as np
import pandas as pd
import pytest
import torch
from conftest import make_epochs, make_raw, ten_five_template
from transformers import AutoFeatureExtractor

from neuript_hf import NeurIPTFeatureExtractor, open_recording
from neuript_hf.feature_extraction_neuript import a_law_compress, a_law_expand


# The 10-20 system in old names.
OLD_NAMES = "Fp1 Fp2 F3 F4 F7 F8 T3 T4 C3 C4 T5 T6 P3 P4 O1 O2 Fz Cz Pz".split()
NAMES = ["C3", "Cz", "C4", "Pz"]
RATE = 128.0


def noise(names=NAMES, seconds=12.0, rate=RATE, seed=0):
    """White noise of 10 microvolts, in volts."""
    return np.random.default_rng(seed).normal(0, 1e-5, (len(names), round(seconds * rate)))


def noisy_raw(names=NAMES, **kwargs):
    return make_raw(noise(names, **kwargs), names, kwargs.get("rate", RATE))


def noisy_pieces():
    """Three pieces of 3 seconds, in volts `[3, 4, 384]`."""
    return noise(seconds=9.0).reshape(4, 3, -1).swapaxes(0, 1).copy()


def recorded(**kwargs):
    return NeurIPTFeatureExtractor(montage="as_recorded", **kwargs)


def microvolts(batch, extractor):
    """The signal of consecutive windows, joined, `[C, T]`."""
    values = extractor.invert(batch["input_values"])
    return values.transpose(1, 0, 2).reshape(values.shape[1], -1)


# Companding (docs/model.md section 2.3)


def test_golden_a_law():
    values = np.array([0, 1, -3, 4, 5, 10, 50, 100, 500])
    golden = "0 0.1876894536 -0.563068361 0.7507578146 0.9182845795 1.4386702419 2.6469683317 3.1673539942 4.375652084"
    np.testing.assert_allclose(a_law_compress(values), np.array(golden.split(), dtype=float), atol=1e-9)


@pytest.mark.parametrize("a", [0.1, 0.25, 1.0, 87.6])
def test_a_law_inverse(a):
    values = np.concatenate([np.linspace(-1000, 1000, 4001), [1 / a, -1 / a, 1e-9]])
    np.testing.assert_allclose(a_law_expand(a_law_compress(values, a), a), values, rtol=1e-9, atol=1e-6)
    assert (np.diff(a_law_compress(np.sort(values), a)) >= 0).all()


def test_invert_gives_microvolts_back():
    extractor, plain = recorded(), recorded(companding=None)
    raw = noisy_raw()
    expected = plain(raw)["input_values"]
    np.testing.assert_allclose(extractor.invert(extractor(raw)["input_values"]), expected, rtol=1e-5, atol=1e-5)
    assert plain.invert(expected) is expected


# Shapes and types


def test_the_batch_contract():
    batch = NeurIPTFeatureExtractor()(noisy_raw(OLD_NAMES))
    assert {name: (array.dtype, array.shape) for name, array in batch.items()} == {
        "input_values": (np.float32, (3, 20, 256)),
        "electrode_positions": (np.float32, (3, 20, 3)),
        "lobe_mask": (bool, (3, 20, 5)),
        "channel_mask": (bool, (3, 20)),
        "attention_mask": (bool, (3, 256)),
    }
    tensors = NeurIPTFeatureExtractor()(noisy_raw(OLD_NAMES), return_tensors="pt")
    assert tensors["input_values"].dtype == torch.float32 and tensors["lobe_mask"].dtype == torch.bool


def test_arrays_raw_and_epochs_agree():
    data = noise(seconds=4.0)
    extractor = recorded()
    expected = extractor(make_raw(data, NAMES))["input_values"]
    described = {"sampling_rate": RATE, "channel_names": NAMES}
    for batch in (
        extractor(data * 1e6, unit="uV", **described),
        extractor(data * 1e3, unit="mV", **described),
        extractor(data, unit="V", **described),
        extractor((data * 1e6).tolist(), unit="µV", **described),
        extractor(torch.tensor(data * 1e6), unit="uV", **described),
        extractor(data[None] * 1e6, unit="uV", **described),
        extractor(make_epochs(data[None], NAMES)),
        extractor([make_raw(data, NAMES)]),
    ):
        np.testing.assert_allclose(batch["input_values"], expected, atol=1e-5)


def test_epochs_are_one_window_each_whatever_their_length():
    epochs = make_epochs(noisy_pieces(), NAMES)
    assert recorded()(epochs)["input_values"].shape == (3, 4, 192)
    assert recorded()(epochs, window_seconds=1.0)["input_values"].shape == (9, 4, 64)


def test_a_list_of_recordings_is_padded_and_reported_one_by_one():
    short = noisy_raw(["C3", "C4"], seconds=4.0)
    pieces = make_epochs(noise(seconds=2.0)[None], NAMES)
    batch = recorded()([short, pieces])
    assert batch["input_values"].shape == (2, 4, 256)
    assert batch["channel_mask"].tolist() == [[True, True, False, False], [True] * 4]
    assert batch["attention_mask"].sum(axis=1).tolist() == [256, 128]
    assert (batch["input_values"][0, 2:] == 0).all() and (batch["input_values"][1, :, 128:] == 0).all()
    assert [len(report.channels) for report in batch.report] == [2, 4]
    alone = recorded()(short)
    np.testing.assert_array_equal(batch["input_values"][0, :2], alone["input_values"][0])


def test_each_array_of_a_list_may_have_its_own_names():
    arrays = [noise(["C3", "C4"], 4.0) * 1e6, noise(seconds=4.0) * 1e6]
    batch = recorded()(arrays, sampling_rate=RATE, channel_names=[["C3", "C4"], NAMES], unit="uV")
    assert batch["channel_mask"].sum(axis=1).tolist() == [2, 4]


# Windows


def test_windows_are_cut_from_the_whole_filtered_recording():
    extractor = recorded()
    raw = noisy_raw(seconds=13.0)
    whole = extractor(raw, window_seconds=13.0)["input_values"][0]
    batch = extractor(raw)
    assert len(batch["input_values"]) == 3 and "note: the last 1.00 s do not fill a window" in str(batch.report)
    for index, window in enumerate(batch["input_values"]):
        np.testing.assert_array_equal(window, whole[:, 256 * index : 256 * (index + 1)])
    overlapping = extractor(raw, window_seconds=2.0, stride_seconds=0.5)["input_values"]
    assert len(overlapping) == 23
    np.testing.assert_array_equal(overlapping[5], whole[:, 160:288])
    at_onsets = extractor(raw, onsets=[0.25, 9.0])["input_values"]
    np.testing.assert_array_equal(at_onsets, np.stack([whole[:, 16:272], whole[:, 576:832]]))


@pytest.mark.parametrize("rate", [64, 100, 128, 160, 200, 250, 256, 256.01, 500, 1000, 2048, 5000])
def test_resampling_keeps_time_and_amplitude(rate):
    """Sines of 3, 10 and 25 Hz keep their phase; frequencies above the band are gone."""
    time = np.arange(round(40 * rate)) / rate
    frequencies = np.array([3.0, 10.0, 25.0])
    sines = 20 * np.sin(2 * np.pi * frequencies[:, None] * time)
    if rate > 110:
        sines = sines + 20 * np.sin(2 * np.pi * 50 * time)
    extractor = recorded()
    batch = extractor(sines, sampling_rate=rate, channel_names=["C3", "Cz", "C4"], unit="uV")
    result = microvolts(batch, extractor)
    expected = 20 * np.sin(2 * np.pi * frequencies[:, None] * np.arange(result.shape[1]) / 64)
    inner = slice(10 * 64, 30 * 64)
    np.testing.assert_allclose(result[:, inner], expected[:, inner], atol=0.1)


def test_band_and_notch():
    """Offset and 45 Hz are removed by the band, 20 Hz by a notch there."""
    time = np.arange(round(60 * 250)) / 250
    signal = 3000 + 10 * np.sin(2 * np.pi * 45 * time) + 10 * np.sin(2 * np.pi * 20 * time)
    described = {"sampling_rate": 250, "channel_names": ["Cz"], "unit": "uV"}
    extractor = recorded()
    result = microvolts(extractor(signal[None], **described), extractor)[0]
    np.testing.assert_allclose(result[640:3200].std(), 10 / np.sqrt(2), rtol=0.01)
    extractor = recorded(notch_freq=20.0)
    batch = extractor(signal[None], **described)
    assert microvolts(batch, extractor)[0][640:3200].std() < 0.1 and "notch: 20 Hz" in str(batch.report)
    report = recorded(notch_freq=50.0)(noisy_raw(rate=100.0)).report
    assert "notch: none, 50 Hz lies above the band" in str(report)


# Filters of minimum phase


def live(**kwargs):
    return recorded(companding=None, filter_phase="minimum", **kwargs)


@pytest.mark.parametrize("rate", [100, 128, 199.7603, 250])
def test_with_minimum_phase_nothing_later_enters_a_sample(monkeypatch, rate):
    """Noise after 60 s changes no earlier sample; neither do blocks, and onsets read all that enters a window."""
    generator = np.random.default_rng(0)
    signal = np.cumsum(generator.normal(0, 2, (2, round(80 * rate))), axis=1) + 5e4
    described = {"sampling_rate": rate, "channel_names": ["C3", "Cz"], "unit": "uV"}
    extractor = live(notch_freq=20.0)
    whole = extractor(signal, **described)["input_values"]
    monkeypatch.setattr("neuript_hf.feature_extraction_neuript.BLOCK_SECONDS", 13.0)
    np.testing.assert_allclose(extractor(signal, **described)["input_values"], whole, atol=1e-4)
    part = extractor(signal, onsets=[56.0], **described)["input_values"]
    np.testing.assert_allclose(part[0], whole[14], atol=1e-4)
    signal[:, round(60 * rate) :] += generator.normal(0, 100, (2, len(signal[0]) - round(60 * rate)))
    spoilt = extractor(signal, **described)["input_values"]
    np.testing.assert_allclose(spoilt[:15], whole[:15], atol=1e-4)
    assert np.abs(spoilt[15] - whole[15]).max() > 10


def test_minimum_phase_has_the_gains_of_zero_phase_and_the_delay_that_it_states():
    """Bursts: their strength is the same, and their middle is late by as much as the report says."""
    time = np.arange(60 * 250) / 250
    frequencies = np.array([[2.0], [10.0], [25.0]])
    bursts = 50 * np.cos(2 * np.pi * frequencies * (time - 30)) * np.exp(-0.5 * ((time - 30) / 1.0) ** 2)
    described = {"sampling_rate": 250, "channel_names": ["C3", "Cz", "C4"], "unit": "uV", "window_seconds": 60.0}
    zero, minimum = recorded(companding=None), live()
    # a signal without noise would be taken for a dead one
    noise = np.random.default_rng(0).normal(0, 5, bursts.shape)
    before, after = (
        extractor(bursts + noise, **described)["input_values"][0] - extractor(noise, **described)["input_values"][0]
        for extractor in (zero, minimum)
    )
    np.testing.assert_allclose(after.std(axis=1), before.std(axis=1), rtol=0.01)
    middles = [(signal**2 @ np.arange(3840) / (signal**2).sum(axis=1)) / 64 for signal in (before, after)]
    stated = [minimum.filter_delay(250, frequency) for frequency in frequencies[:, 0]]
    np.testing.assert_allclose(middles[1] - middles[0], stated, atol=0.004)
    report = str(minimum(noise, **described).report)
    assert "minimum phase" in report and "delay: 35, 35 and 73 ms at 2, 10 and 25 Hz" in report
    assert zero.filter_delay(250, 10.0) == 0.0


def test_time_marked_as_bad_is_not_bridged_to_what_comes_after_it():
    raw = noisy_raw(seconds=40.0)
    raw.set_annotations(mne.Annotations([0.0, 20.0], [1.0, 2.0], ["BAD", "BAD"]))
    before = live()(raw)
    raw._data[:, round(22 * RATE) :] += 1e-4
    after = live()(raw)
    earlier = before.onsets + 4 <= 20
    np.testing.assert_allclose(after["input_values"][earlier], before["input_values"][earlier], atol=1e-4)
    assert earlier.sum() == 4 and not earlier.all()


@pytest.mark.parametrize("phase", ["zero", "minimum"])
def test_a_nan_that_only_the_filters_reach_masks_its_channel(phase):
    raw = noisy_raw(seconds=100.0)
    extractor = recorded(filter_phase=phase)
    beside = round((50 - extractor.history_seconds(RATE) + 0.5) * RATE)
    raw._data[1, beside] = np.nan
    batch = extractor(raw, onsets=[50.0])
    assert batch["channel_mask"].tolist() == [[True, False, True, True]]
    assert np.isfinite(batch["input_values"]).all()


def test_short_pieces_keep_their_level():
    """
    The 0.1 Hz high-pass is longer than an epoch; mirrored ends keep an epoch close to the same part of the filtered
    recording. MNE's default padding would leave a step of several microvolts.
    """
    rng = np.random.default_rng(0)
    data = np.cumsum(rng.normal(0, 1e-6, (4, round(120 * RATE))), axis=1) * 0.1 + rng.normal(0, 1e-5, (4, 15360))
    extractor = recorded(companding=None)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        batch = extractor(make_raw(data[:, 7680:8192], NAMES))
    whole = extractor(make_raw(data, NAMES), onsets=[60.0])["input_values"]
    level = whole.mean(axis=-1)
    assert np.abs(batch["input_values"].mean(axis=-1) - level).max() < 1.5
    assert "note: the high-pass is 33 s long" in str(batch.report)


# Channels


def test_order_and_common_reference_of_a_recording_change_nothing_in_pairs():
    data, order = noise(OLD_NAMES), np.random.default_rng(1).permutation(len(OLD_NAMES))
    extractor = NeurIPTFeatureExtractor()
    expected = extractor(make_raw(data, OLD_NAMES))["input_values"]
    shuffled = extractor(make_raw(data[order], [OLD_NAMES[index] for index in order]))["input_values"]
    np.testing.assert_allclose(shuffled, expected, atol=1e-6)
    reference = 5e-6 * np.sin(np.arange(data.shape[1]))
    np.testing.assert_allclose(extractor(make_raw(data - reference, OLD_NAMES))["input_values"], expected, atol=1e-5)


@pytest.mark.parametrize(
    ("names", "how", "sources"),
    [
        (["F7", "T3"], "derived pair", ["+F7", "-T3"]),
        (["F7-T7", "C3-Cz"], "recorded pair", ["+F7-T7"]),
        (["T7-F7", "C3-Cz"], "recorded pair", ["-T7-F7"]),
        (["EEG F7-T3", "EEG C3-CZ"], "recorded pair", ["+EEG F7-T3"]),
        (["Fp1-T7", "Fp1-F7", "C3-Cz"], "derived pair", ["-Fp1-F7", "+Fp1-T7"]),
        (["F7-FT9", "FT9-T7", "C3-Cz"], "derived pair", ["+F7-FT9", "+FT9-T7"]),
        (["F7-Cz", "T7-Cz", "C3-Cz"], "derived pair", ["+F7-Cz", "-T7-Cz"]),
    ],
)
def test_a_pair_from_electrodes_and_pairs(names, how, sources):
    """Recorded, with the sign reversed, over a common electrode, along a chain, over a common reference."""
    potentials = {name: signal for name, signal in zip("F7 T7 Fp1 FT9 C3 Cz".split(), noise(range(6)), strict=True)}

    def difference(pair):
        first, _, second = pair.removeprefix("EEG ").replace("T3", "T7").replace("CZ", "Cz").partition("-")
        return potentials[first] - potentials.get(second, 0.0)

    raw = make_raw(np.stack([difference(name) for name in names]), names)
    batch = NeurIPTFeatureExtractor(montage=["f7-t3"])(raw)
    expected = recorded()(make_raw(difference("F7-T7")[None], ["Cz"]))["input_values"]
    np.testing.assert_allclose(batch["input_values"], expected, atol=1e-5)
    (row,) = batch.report.channels
    assert (row.name, row.how, [*map(str, row.sources)]) == ("F7-T7", how, sources)


def test_as_recorded_takes_only_eeg_and_reports_the_rest():
    names = ["C3", "Cz", "EOG left", "STI 014", "Fp2"]
    types = ["eeg", "eeg", "eeg", "stim", "misc"]
    batch = recorded()(make_raw(noise(names), names, types=types))
    assert [row.name for row in batch.report.channels] == ["C3", "Cz"]
    assert batch.report.dropped == {
        "EOG left": "not EEG by its name (EOG)",
        "STI 014": "of type stim",
        "Fp2": "of type misc",
    }


def test_dropped_channels_leave_the_others_unchanged():
    names = [name for name in OLD_NAMES if name != "Fp1"]
    whole = NeurIPTFeatureExtractor().channel_features()
    batch = NeurIPTFeatureExtractor(on_missing="drop")(noisy_raw(names))
    assert batch.report.missing == {"Fp1-F7": "no Fp1", "Fp1-F3": "no Fp1"}
    kept = [index for index in range(20) if index not in (0, 12)]
    np.testing.assert_array_equal(batch["electrode_positions"][0], whole["electrode_positions"][kept])
    np.testing.assert_array_equal(batch["lobe_mask"][0], whole["lobe_mask"][kept])


def test_missing_electrodes_interpolated():
    """In a smooth field the interpolated electrode is close to the true one, and is reported as interpolated."""
    extractor = NeurIPTFeatureExtractor(montage=["Cz", "C3-Cz", "C3"], on_missing="interpolate", companding=None)
    template = ten_five_template()["ch_pos"]
    places = np.array([template[name] for name in OLD_NAMES])
    data = 1e-5 * (1 + 10 * places @ np.array([1.0, 2.0, 0.5]))[:, None] * np.sin(np.arange(1536) / 8)
    true = extractor(make_raw(data, OLD_NAMES))
    without = [index for index, name in enumerate(OLD_NAMES) if name != "Cz"]
    filled = extractor(make_raw(data[without], [OLD_NAMES[index] for index in without]))
    assert np.abs(filled["input_values"] - true["input_values"]).max() < 0.15 * np.abs(true["input_values"]).max()
    assert [row.how for row in filled.report.channels] == ["interpolated", "interpolated", "exact"]
    assert [*map(str, filled.report.channels[1].sources)] == ["+C3", "-Cz (interpolated)"]
    assert filled["channel_mask"].all()


def digitised(names, electrodes, scale=1.0, shift=0.0):
    """A recording whose sensors lie at electrodes of the template, on a head of another size and place."""
    template = ten_five_template()
    places = {name: template["ch_pos"][electrode] for name, electrode in zip(names, electrodes, strict=True)}
    fiducials = {name: template[name] for name in ("nasion", "lpa", "rpa")}
    raw = noisy_raw(names)
    moved = [{name: place * scale + shift for name, place in part.items()} for part in (places, fiducials)]
    raw.set_montage(mne.channels.make_dig_montage(moved[0], **moved[1], coord_frame="unknown"))
    return raw


ELECTRODES = "Fp1 Fp2 F3 F4 C3 C4 P3 P4 O1 O2 Cz Pz".split()


@pytest.mark.parametrize(("scale", "shift"), [(1.0, 0.0), (0.9, 0.03), (1.1, -0.02)])
def test_unknown_names_are_found_by_digitised_position(scale, shift):
    """Whatever the size of the head and the origin of the coordinates, thanks to the fiducials."""
    names = [f"S{number}" for number in range(len(ELECTRODES))]
    raw = digitised(names, ELECTRODES, scale, shift)
    report = recorded()(raw).report
    assert {row.sources[0].name: row.name for row in report.channels} == dict(zip(names, ELECTRODES, strict=True))
    assert "by digitised position: " in str(report)
    pair = NeurIPTFeatureExtractor(montage=["C3-Cz"])(raw).report.channels[0]
    assert [*map(str, pair.sources)] == ["+S4", "-S10"]


def test_names_win_over_positions_unless_asked_otherwise():
    raw = digitised(ELECTRODES, ELECTRODES[::-1])
    assert [row.name for row in recorded()(raw).report.channels] == ELECTRODES
    rows = recorded(positions="digitised")(raw).report.channels
    assert [row.name for row in rows] == ELECTRODES[::-1] and [row.sources[0].name for row in rows] == ELECTRODES
    with pytest.raises(ValueError, match="positions='digitised', but the recording has no digitised positions"):
        recorded(positions="digitised")(noisy_raw())


def test_channels_without_a_usable_position_are_named():
    raw = digitised(ELECTRODES, ELECTRODES)
    raw.info["chs"][4]["loc"][:3] = [0.0, 0.0, 0.3]
    report = recorded(positions="digitised")(raw).report
    assert "C3" in report.dropped and "C3" not in [row.name for row in report.channels]
    with pytest.raises(ValueError, match="Unknown names: C3, not near an electrode"):
        NeurIPTFeatureExtractor(montage=["C3"], positions="digitised")(raw)
    names = ["C3", "S1", "S2", "S3"]
    raw = digitised(names, ELECTRODES[:4])
    for channel in raw.info["chs"]:
        channel["loc"][:3] *= 7.0
    report = recorded()(raw).report
    assert any(line.startswith("note: digitised positions are not used: the dig") for line in report.steps)
    assert set(report.dropped) == {"S1", "S2", "S3"}


def test_a_net_gives_meaning_to_labels():
    rows = recorded(net="biosemi32")(noisy_raw(["A1", "A2", "A3", "A4"])).report.channels
    assert [row.name for row in rows] == ["Fp1", "AF3", "F7", "F3"]


def test_duplicate_channels_must_be_copies():
    names = ["T8-P8-0", "T8-P8-1", "C3-Cz"]
    data = noise(names)
    data[1] = data[0]
    batch = recorded()(make_raw(data, names))
    assert batch.report.dropped == {"T8-P8-1": "the same as T8-P8-0"}
    with pytest.raises(
        ValueError, match="'T8-P8-0' and 'T8-P8-1' name the same place, but their signals differ. Drop one"
    ):
        recorded()(noisy_raw(names))


# Bad channels


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda raw: raw._data.__setitem__((8, slice(5, 9)), np.nan), "C3 NaN or infinite"),
        (lambda raw: raw._data.__setitem__((8, 5), np.inf), "C3 NaN or infinite"),
        (lambda raw: raw._data.__setitem__(8, 0.0), "C3 flat"),
        (lambda raw: raw._data.__setitem__(8, 0.187), "C3 flat"),
        (lambda raw: raw.info.__setitem__("bads", ["C3"]), "C3 marked as bad"),
    ],
)
def test_a_single_bad_channel_is_masked_and_reported(damage, reason):
    """Every pair with C3 is masked and zero; the others are as if nothing had happened."""
    raw = noisy_raw(OLD_NAMES)
    clean = NeurIPTFeatureExtractor()(raw)
    damage(raw)
    batch = NeurIPTFeatureExtractor()(raw)
    with_c3 = [index for index, row in enumerate(batch.report.channels) if "C3" in row.name]
    assert with_c3 == [8, 9, 13, 14]
    expected = np.ones((3, 20), dtype=bool)
    expected[:, with_c3] = False
    np.testing.assert_array_equal(batch["channel_mask"], expected)
    np.testing.assert_array_equal(batch["input_values"][expected], clean["input_values"][expected])
    assert (batch["input_values"][~expected] == 0).all()
    assert all(batch.report.channels[index].masked == reason for index in with_c3)
    assert f"MASKED, {reason}" in str(batch.report)


def test_epochs_are_judged_one_by_one():
    data = noisy_pieces()
    data[1, 2] = 0.0
    batch = recorded()(make_epochs(data, NAMES))
    assert batch["channel_mask"].tolist() == [[True] * 4, [True, True, False, True], [True] * 4]
    assert batch.report.channels[2].masked == "C4 flat in 1 of 3 pieces"


def test_a_bad_channel_does_not_leak_into_interpolated_ones():
    names = [name for name in OLD_NAMES if name != "Cz"]
    extractor = NeurIPTFeatureExtractor(montage=["Cz"], on_missing="interpolate")
    raw = noisy_raw(names)
    raw.info["bads"] = ["C3"]
    before = extractor(raw)["input_values"]
    raw._data[names.index("C3")] *= 100
    np.testing.assert_allclose(extractor(raw)["input_values"], before, atol=1e-6)


# The report


def test_report_is_plain_data_and_readable():
    report = NeurIPTFeatureExtractor()(noisy_raw(OLD_NAMES)).report
    assert json.loads(json.dumps(report.to_dict())) == report.to_dict()
    assert len(report.to_dict()["channels"]) == 20
    text = str(report)
    for words in ("T7-P7", "+T3 -T5", "not in the montage: Fz, Pz", "unit: V", "band-pass: 0.1 to 30 Hz"):
        assert words in text
    for words in ("rate: 128 Hz to 64 Hz", "windows: 3 of 4 s", "A-law, A = 0.25"):
        assert words in text


# Saved and loaded


@pytest.mark.parametrize("montage", ["double_banana", "as_recorded", ["C3", "Cz-C4"]])
def test_saved_and_loaded(tmp_path, montage):
    extractor = NeurIPTFeatureExtractor(
        montage=montage,
        notch_freq=50.0,
        window_seconds=2.5,
        net="biosemi32",
        positions="digitised",
        filter_phase="minimum",
    )
    extractor.save_pretrained(tmp_path)
    for loaded in (NeurIPTFeatureExtractor.from_pretrained(tmp_path), AutoFeatureExtractor.from_pretrained(tmp_path)):
        assert loaded.to_dict() == extractor.to_dict() and loaded.montage == montage
    changed = NeurIPTFeatureExtractor.from_pretrained(tmp_path, window_seconds=1.0)
    assert changed.window_seconds == 1.0 and changed.notch_freq == 50.0


def test_channel_features():
    extractor = NeurIPTFeatureExtractor()
    features = extractor.channel_features()
    assert features["electrode_positions"].shape == (20, 3) and features["lobe_mask"].shape == (20, 5)
    part = extractor.channel_features(["t3-c3", "Fp1-F7"])
    np.testing.assert_array_equal(part["lobe_mask"], features["lobe_mask"][[8, 0]])
    by_names = recorded().channel_features(["C3", "A1"])
    assert by_names["electrode_positions"].shape == (2, 3)
    assert NeurIPTFeatureExtractor(montage="bcic_iv_2a").num_lobes == 4 and recorded().num_lobes == 5
    with pytest.raises(ValueError, match="montage is 'as_recorded', so channel_names are needed"):
        recorded().channel_features()
    with pytest.raises(ValueError, match="has lobes for its own channels only, not for \\['Oz'\\]"):
        extractor.channel_features(["Oz"])


# Mistakes: each a ValueError that says what to do

ARRAY = {"sampling_rate": RATE, "channel_names": NAMES, "unit": "uV"}


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"montage": "banana"}, "Unknown montage 'banana'. Known: as_recorded, double_banana"),
        ({"montage": ["C3", "Foo"]}, r"Unknown channels \['Foo'\]: expected electrodes of the 10-05 system"),
        ({"net": "biosemi31"}, "Unknown net 'biosemi31'"),
        ({"on_missing": "ignore"}, r"on_missing must be one of \('raise', 'drop', 'interpolate'\)"),
        ({"coordinate_frame": "mni"}, "coordinate_frame must be one of"),
        ({"companding": "mu-law"}, "companding must be one of"),
        ({"companding_a": 0.05}, "companding_a must be above"),
        ({"window_seconds": 0}, "window_seconds must be a positive number, but is 0"),
        ({"sampling_rate": "64"}, "sampling_rate must be a positive number, but is '64'"),
        ({"h_freq": 40.0}, "The band must satisfy 0 <= l_freq < h_freq <= 32.0 Hz"),
        ({"l_freq": 31.0}, "The band must satisfy"),
        ({"filter_phase": "linear"}, "filter_phase must be one of .*'zero', 'minimum'"),
    ],
)
def test_wrong_settings(settings, words):
    with pytest.raises(ValueError, match=words):
        NeurIPTFeatureExtractor(**settings)


@pytest.mark.parametrize(
    ("array", "described", "words"),
    [
        (noise() * 1e6, ARRAY | {"unit": None}, "An array needs unit: nothing is guessed. For example"),
        (noise() * 1e6, {}, "An array needs sampling_rate, channel_names, unit"),
        (noise(), ARRAY, r"Taken as uV, a typical channel varies by 1e-05 microvolt.*unit='V'"),
        (noise() * 1e6, ARRAY | {"unit": "V"}, "Taken as V, a typical channel varies by .*unit='uV'"),
        (noise() * 1e6, ARRAY | {"unit": "mV"}, "Taken as mV.*unit='uV'"),
        (noise() * 1e6, ARRAY | {"unit": "counts"}, "unit must be 'uV', 'mV' or 'V', but is 'counts'"),
        (noise() * 1e6, ARRAY | {"sampling_rate": 0}, "sampling_rate must be a positive number, but is 0"),
        (noise() * 1e6, ARRAY | {"sampling_rate": "128"}, "sampling_rate must be a positive number, but is '128'"),
        (noise() * 1e6, ARRAY | {"sampling_rate": 50}, "50 Hz is too low: the band up to 30 Hz needs at least 60 Hz"),
        (noise()[0] * 1e6, ARRAY, r"Expected an array \[C, T\] or \[n, C, T\], got 1 dimensions: \[1536\]"),
        (noise()[None, None] * 1e6, ARRAY, "got 4 dimensions"),
        (noise().astype(str), ARRAY, "array of real numbers, got ndarray with dtype <U"),
        (noise().astype(complex), ARRAY, "array of real numbers, got ndarray with dtype complex128"),
        (noise() > 0, ARRAY, "dtype bool"),
        ([[1.0, 2.0], [1.0]], ARRAY, "lists of unequal lengths"),
        (None, ARRAY, "Expected mne.io.Raw, mne.Epochs or an array"),
        ([], {}, "Expected at least one recording, got an empty list"),
        (np.zeros((4, 0)), ARRAY, r"The array is empty: \[4, 0\]"),
        (np.zeros((0, 4, 256)), ARRAY, r"The array is empty: \[0, 4, 256\]"),
        (noise()[:3] * 1e6, ARRAY, "Got 4 channel_names for an array of 3 channels"),
        (noise(seconds=8.0).T * 1e6, ARRAY, "Got 4 channel_names for an array of 1024 channels.*looks transposed"),
        (
            noise(seconds=2.0) * 1e6,
            ARRAY,
            "too short: the recording lasts 2 s, less than one window of 4 s. Give a shorter window_seconds",
        ),
        (np.full((4, 1536), np.nan), ARRAY, "All channels are NaN or infinite: there is no signal"),
        (np.zeros((4, 1536)), ARRAY, "All channels are flat: there is no signal to work with. Check the file"),
    ],
)
def test_wrong_arrays(array, described, words):
    with pytest.raises(ValueError, match=words):
        recorded()(array, **described)


def test_missing_channels_are_named():
    names = [name for name in OLD_NAMES if name not in ("Fp1", "O2")]
    with pytest.raises(
        ValueError,
        match=r"does not have: Fp1-F7, P8-O2, Fp1-F3, P4-O2 \(no Fp1, O2\). It has .*set on_missing to 'interpolate'",
    ):
        NeurIPTFeatureExtractor()(noisy_raw(names))
    with pytest.raises(ValueError, match=r"Unknown names: Foo"):
        NeurIPTFeatureExtractor()(noisy_raw(["Foo", "C3"]))
    with pytest.raises(ValueError, match="has no channel of the montage; it has C3, Cz, C4, Pz. Choose another"):
        NeurIPTFeatureExtractor(montage="sleep_edfx", on_missing="drop")(noisy_raw())


def test_arguments_that_contradict_an_mne_object():
    raw, in_microvolts = noisy_raw(), make_raw(noise() * 1e6, NAMES)
    with pytest.raises(ValueError, match="sampling_rate is 250 Hz, but the recording says 128 Hz. Leave it out"):
        recorded()(raw, sampling_rate=250)
    with pytest.raises(ValueError, match="channel_names differ from the recording's"):
        recorded()(raw, channel_names=["C3"])
    with pytest.raises(ValueError, match="Taken as V, .*unit='uV'"):
        recorded()(in_microvolts)
    batch = recorded()(in_microvolts, unit="uV")
    np.testing.assert_allclose(batch["input_values"], recorded()(raw)["input_values"], atol=1e-5)


def test_recordings_without_a_good_channel_or_a_sample():
    raw = noisy_raw()
    raw.info["bads"] = NAMES
    with pytest.raises(ValueError, match="All channels are bad \\(marked as bad\\).*info\\['bads'\\]"):
        recorded()(raw)
    raw.info["bads"] = ["Cz"]
    with pytest.raises(ValueError, match="All channels are bad \\(marked as bad\\)"):
        NeurIPTFeatureExtractor(montage=["C3-Cz"])(raw)  # an output needs all of its channels
    data = noisy_pieces()
    data[1] = 0.0
    with pytest.raises(ValueError, match=r"All channels are bad in the pieces \[1\].*Leave these pieces out"):
        recorded()(make_epochs(data, NAMES))
    with pytest.raises(ValueError, match="The recording is empty: it has no samples"):
        recorded()(make_epochs(data, NAMES).drop([0, 1, 2]))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (
            {"onsets": [0.0, 9.0]},
            r"Windows of 4 s at \[9.0\] s would leave the recording or reach into a gap; it lasts 12.00 s",
        ),
        ({"onsets": [-1.0]}, "would leave the recording"),
        ({"onsets": []}, "onsets is empty"),
        ({"onsets": [1.0], "stride_seconds": 1.0}, "onsets or stride_seconds, not both"),
        ({"window_seconds": 0.001}, "is shorter than one sample at 64 Hz"),
        ({"window_seconds": -1.0}, "window_seconds must be a positive number"),
        ({"stride_seconds": 0}, "stride_seconds must be a positive number"),
    ],
)
def test_windows_that_cannot_be_cut(options, words):
    with pytest.raises(ValueError, match=words):
        recorded()(noisy_raw(), **options)


# Real recordings


@pytest.mark.slow
@pytest.mark.shared_data
def test_every_recording_of_the_corpus_works(shared_data):
    """
    Each in the montage that its electrodes allow: levels of EEG, every channel accounted for, and only channels masked
    that are plainly bad. These are four channels above 100 microvolts among others of 10 or 20, one of them mains, two
    clipped ones, and F1 and F2 of one set, which are Fp1 and Fp2 again, sample for sample.
    """
    bad = {"rec-03_situation-3_listen": ["F7"], "rec-03_situation-4_listen": ["F7"], "sub-043_eyes-open": ["T7"]}
    bad |= {"sub-v204": ["F7"], "sub-a13_eyes_open": ["Fp1", "Fp2", "F1", "F2"], "sub-c06_eyes_closed": []}
    of_set = {"alz_fsu": ["F1", "F2"]}
    manifest = pd.read_csv(shared_data / "manifest.csv", dtype=str)
    montages = {"eegmat": "double_banana", "uci_alcohol": "double_banana", "eegmmidb": "double_banana"}
    for name, rows in manifest.groupby("set"):
        extractor = NeurIPTFeatureExtractor(montage=montages.get(name, "as_recorded"))
        for file in rows["file"]:
            recording = open_recording(shared_data / file)
            batch = extractor(recording, window_seconds=1.0)
            masked = [row.name for row in batch.report.channels if row.masked]
            assert masked == bad.get(Path(file).stem, of_set.get(name, [])), file
            assert np.isfinite(batch["input_values"]).all(), file
            assert 1 < np.median(extractor.invert(batch["input_values"]).std(axis=-1)) < 100, file
            used = {source.name for row in batch.report.channels for source in row.sources}
            assert used | set(batch.report.dropped) == set(recording.names) | set(recording.left_out), file


def test_a_misspelt_setting_is_named_and_a_new_one_counts(tmp_path, recwarn):
    """Also for a checkpoint that was saved before there was such a setting, where transformers would ignore it."""
    with pytest.warns(UserWarning, match="no 'montag'.*'montage'"):
        NeurIPTFeatureExtractor(montag=["C3"])
    NeurIPTFeatureExtractor().save_pretrained(tmp_path)
    with pytest.warns(UserWarning, match="no 'on_mising'.*'on_missing'"):
        NeurIPTFeatureExtractor.from_pretrained(tmp_path, on_mising="drop")
    saved = json.loads((tmp_path / "preprocessor_config.json").read_text())
    del saved["reject_by_annotation"]
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(saved))
    recwarn.clear()
    assert NeurIPTFeatureExtractor.from_pretrained(tmp_path).reject_by_annotation is True
    assert NeurIPTFeatureExtractor.from_pretrained(tmp_path, reject_by_annotation=False).reject_by_annotation is False
    AutoFeatureExtractor.from_pretrained(tmp_path, reject_by_annotation=False)
    assert not [str(warning.message) for warning in recwarn if "nothing reads it" in str(warning.message)]
