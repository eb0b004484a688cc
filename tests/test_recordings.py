"""Files -> recordings: units, rates and gaps by the file's own header, files of numbers, and what can't be read."""

import sys

import mne
import numpy as np
import pandas as pd
import pytest
import scipy.io
from conftest import make_epochs, make_raw, write_edf
from edfio import EdfAnnotation

from neuript_hf import NeurIPTFeatureExtractor, open_recording
from neuript_hf.filtering import Resampler
from neuript_hf.formats.arrays import read_array_file
from neuript_hf.recordings import as_recording
from neuript_hf.signal_quality import SignalSurvey
from neuript_hf.units import microvolts_of


RATE = 128
NAMES = ["C3", "Cz", "C4"]


@pytest.fixture
def microvolts():
    """20 seconds of noise."""
    return np.random.default_rng(0).normal(0, 20, (3, 20 * RATE))


@pytest.fixture
def extractor():
    return NeurIPTFeatureExtractor(montage="as_recorded")


def raw_of(microvolts):
    return make_raw(microvolts * 1e-6, NAMES, RATE)


def edf_of(path, microvolts, unit="uV", factor=1.0, **kwargs):
    """An EDF file in a unit of which a microvolt has `factor`."""
    signals = [(name, RATE, unit, numbers * factor) for name, numbers in zip(NAMES, microvolts, strict=True)]
    return write_edf(path, signals, **kwargs)


# Units


UNITS = {
    1.0: "uV µV μV UV uv microV uVolt uVolts Microvolt \x83\xcaV ÂµV Î¼V muV".split() + [" uV "],
    1e3: ["mV", "mv", "milliVolt"],
    1e6: ["V", "v", "Volt", "volts"],
    1e-3: ["nV", "nv", "nanovolt"],
    None: ["", "BS", "uS", "DegC", "%", "V/s", "uV^2", "counts", "mmHg"],
}


@pytest.mark.parametrize(("unit", "scale"), [(unit, scale) for scale, units in UNITS.items() for unit in units])
def test_units_in_every_spelling(unit, scale):
    assert microvolts_of(unit) == scale


@pytest.mark.parametrize(("factor", "unit"), [(1.0, "uV"), (1e-3, "mV"), (1e-6, "V")])
def test_a_missing_unit_is_found_by_size_and_noted(tmp_path, microvolts, factor, unit):
    path = edf_of(tmp_path / "a.edf", microvolts, "", factor)
    recording = open_recording(path)
    np.testing.assert_allclose(recording.read([0], 0, 100), microvolts[:1, :100], atol=0.01)
    assert f"taken as {unit}" in recording.notes[0]
    given = open_recording(path, unit=unit)
    np.testing.assert_allclose(given.read([0], 0, 100), microvolts[:1, :100], atol=0.01)
    assert not any("taken as" in note for note in given.notes)


def test_a_size_that_fits_no_unit_is_refused(tmp_path, microvolts):
    path = edf_of(tmp_path / "a.edf", microvolts, "", 500)
    with pytest.raises(ValueError, match="no unit in the file.*Give the unit.*unit='uV', 'mV' or 'V'.*a.edf"):
        open_recording(path)


def test_a_channel_that_is_not_a_voltage_is_not_eeg(tmp_path, microvolts, extractor):
    signals = [("C3", RATE, "uV", microvolts[0]), ("Cz", RATE, "BS", microvolts[1]), ("C4", RATE, "uV", microvolts[2])]
    report = extractor.inspect(write_edf(tmp_path / "a.edf", signals))
    assert [row.name for row in report.channels] == ["C3", "C4"]
    assert report.dropped["Cz"] == "of type unit BS, which is not a voltage"


# Rates and gaps


def test_channels_of_other_rates_are_left_out_and_noted(tmp_path, microvolts):
    """MNE would stretch 64 Hz to 512, and the EEG to the rate of the ECG."""
    signals = [(name, RATE, "uV", x) for name, x in zip(NAMES, microvolts, strict=True)]
    signals += [("Pz", 64, "uV", np.arange(20 * 64.0)), ("ECG", 512, "uV", np.arange(20 * 512.0))]
    recording = open_recording(write_edf(tmp_path / "a.edf", signals))
    assert recording.sampling_rate == RATE and recording.names == NAMES
    assert recording.left_out == {
        "Pz": "stored at 64 Hz, the EEG at 128 Hz",
        "ECG": "stored at 512 Hz, the EEG at 128 Hz",
    }
    np.testing.assert_allclose(recording.read([0, 1, 2], 300, 900), microvolts[:, 300:900], atol=0.01)


def edf_with_a_gap(path, microvolts, missing=30.0):
    """EDF+D by hand: 10 records of a second, a gap, 10 records; an annotation by the clock in each part."""
    edf_of(path, microvolts, annotations=[EdfAnnotation(1, 2, "x" * 30)])
    data = bytearray(path.read_bytes())
    header = 256 * (len(NAMES) + 2)
    size = (len(data) - header) // 20
    data[192:197] = b"EDF+D"
    for number in range(10, 20):
        start = header + number * size + 2 * RATE * len(NAMES)
        onset = f"+{number + missing:g}\x14\x14\0".encode()
        if number == 12:
            onset += f"+{number + missing + 0.5:g}\x14late\x14\0".encode()
        data[start : header + (number + 1) * size] = onset.ljust(size - 2 * RATE * len(NAMES), b"\0")
    path.write_bytes(data)
    return path


def test_gaps_by_the_clock_of_the_records(tmp_path, microvolts, extractor):
    recording = open_recording(edf_with_a_gap(tmp_path / "gap.edf", microvolts))
    assert recording.gaps == [(10.0, 40.0)] and recording.stretches == [(0.0, 10.0), (40.0, 50.0)]
    assert [(onset, text) for onset, _, text in recording.events] == [(1.0, "x" * 30), (42.5, "late")]
    batch = extractor(recording, stride_seconds=1.0)
    assert batch.onsets.tolist() == [*np.arange(7.0), *np.arange(40.0, 47.0)]
    assert "gap: 10 to 40 s, no window reaches into it" in str(batch.report)
    second = extractor(raw_of(microvolts[:, 10 * RATE :]), stride_seconds=1.0)["input_values"]
    np.testing.assert_allclose(batch["input_values"][7:], second, atol=2e-3)
    np.testing.assert_allclose(extractor(recording, onsets=[42.0])["input_values"], second[2:3], atol=2e-3)
    raw = mne.io.read_raw_edf(tmp_path / "gap.edf", verbose="ERROR")  # joins the parts without saying so
    assert as_recording(raw).gaps == [(10.0, 40.0)] and as_recording(raw.crop(4.0)).gaps == [(6.0, 36.0)]
    for onset in (8.0, 20.0, 38.0, 47.0):
        assert not recording.holds(onset, 4.0)
        with pytest.raises(ValueError, match=r"reach into a gap; it lasts 50.00 s \(gaps: 10 to 40 s\)"):
            extractor(recording, onsets=[onset])


def test_remote_code_reads_no_file_and_closes_no_gap(tmp_path, microvolts, extractor, monkeypatch):
    """The code beside the weights has no formats/. It takes a plain EDF's Raw, but not one whose gaps it can't see."""
    gapped = edf_with_a_gap(tmp_path / "gap.edf", microvolts)
    plain = edf_of(tmp_path / "plain.edf", microvolts)
    expected = extractor(plain)["input_values"]
    for module in ("files", "edf"):
        monkeypatch.setitem(sys.modules, f"neuript_hf.formats.{module}", None)  # a later import fails
    np.testing.assert_array_equal(extractor(mne.io.read_raw_edf(plain))["input_values"], expected)
    with pytest.raises(ImportError, match=r"pip install neuript_hf, or open .*plain.edf with mne.io.read_raw"):
        extractor(plain)
    raw = mne.io.read_raw_edf(gapped)
    with pytest.raises(ImportError, match=r"gap.edf is discontinuous.*pip install neuript_hf.*mne.io.RawArray"):
        extractor(raw)
    assert as_recording(mne.io.RawArray(raw.get_data(), raw.info)).gaps == []


@pytest.mark.parametrize("description", ["BAD boundary", "EDGE boundary", "boundary", "New Segment/"])
def test_boundaries_are_gaps(microvolts, extractor, description):
    raw = raw_of(microvolts)
    raw.set_annotations(mne.Annotations([9.0, 3.0], [0.0, 1.0], [description, "eyes closed"]))
    batch = extractor(raw)
    assert batch.onsets.tolist() == [0.0, 4.0, 9.0, 13.0]
    np.testing.assert_array_equal(
        batch["input_values"][:2], extractor(raw.copy().crop(0, 9.0 - 1 / RATE))["input_values"]
    )


def test_skipped_stretches_are_gaps(microvolts, extractor):
    raw = raw_of(microvolts)
    raw.set_annotations(mne.Annotations([8.0], [3.0], ["BAD_ACQ_SKIP"]))
    assert as_recording(raw).gaps == [(8.0, 11.0)] and extractor(raw).onsets.tolist() == [0.0, 4.0, 11.0, 15.0]


def test_annotations_count_from_the_first_sample(microvolts):
    raw = raw_of(microvolts).crop(5.0)
    raw.set_meas_date(1_000_000_000)
    raw.set_annotations(mne.Annotations([7.0], [1.0], ["rest"], orig_time=raw.info["meas_date"]))
    assert as_recording(raw).events == [(pytest.approx(2.0), 1.0, "rest")]


def test_blocks_give_the_same_as_the_whole(monkeypatch, extractor):
    """Cuts for reading change nothing: at rates that divide and that do not, with offsets and the high-pass."""
    generator = np.random.default_rng(1)
    for rate in (256, 250, 199.7603):
        signal = np.cumsum(generator.normal(0, 2, (2, round(200 * rate))), axis=-1) * 0.3 + 5000
        signal += generator.normal(0, 10, signal.shape)
        arguments = {"sampling_rate": rate, "channel_names": ["C3", "C4"], "unit": "uV"}
        monkeypatch.setattr("neuript_hf.feature_extraction_neuript.BLOCK_SECONDS", 1000.0)
        whole = extractor(signal, **arguments)
        monkeypatch.setattr("neuript_hf.feature_extraction_neuript.BLOCK_SECONDS", 13.0)
        np.testing.assert_allclose(extractor(signal, **arguments)["input_values"], whole["input_values"], atol=5e-4)
        part = extractor(signal, onsets=[80.0, 100.0], **arguments)["input_values"]
        np.testing.assert_allclose(part, whole["input_values"][[20, 25]], atol=5e-4)


def test_the_filter_is_the_kernel_that_mne_designs():
    """A block in the middle, at a rate that divides: plain convolution and every fourth sample."""
    signal = np.random.default_rng(0).normal(size=(2, 4000))
    resampler = Resampler(256, 64, 30.0)
    kernel = mne.filter.create_filter(None, 256, None, 30.0, h_trans_bandwidth=2.0, verbose="ERROR")
    expected = np.stack([np.convolve(row, kernel, mode="same") for row in signal])[:, 1200:2800:4]
    # the stop band, -53 dB, is cut off at 32 Hz rather than aliased
    np.testing.assert_allclose(resampler(signal, 1200, 2800, 400), expected, atol=5e-3)


def save_bci2000(path, counts, gains):
    text = (
        "[ State Vector Definition ]\r\nRunning 1 0 0 0\r\n[ Parameter Definition ]\r\n"
        f"Source int SamplingRate= 128 // rate\r\n{gains}\r\n"
    )
    first = "HeaderLen= {:05d} SourceCh= 3 StatevectorLen= 1\r\n"
    header = (first.format(len(first.format(0)) + len(text)) + text).encode()
    path.write_bytes(header + b"".join(row.tobytes() + b"\1" for row in counts))
    return path


def test_bci2000_counts_are_scaled_by_the_header(tmp_path, microvolts):
    """MNE returns the amplifier's counts as volts."""
    counts = np.rint(microvolts / 0.25).astype("<i2").T
    gains = "Source floatlist SourceChGain= 3 0.25 0.25muV 0.25 // gain\r\n"
    recording = open_recording(save_bci2000(tmp_path / "a.dat", counts, gains), channel_names=NAMES)
    assert recording.sampling_rate == RATE
    np.testing.assert_allclose(recording.read([0, 1, 2], 0, 500), counts.T[:, :500] * 0.25, atol=1e-9)


def test_bci2000_without_gains_needs_a_unit(tmp_path, microvolts):
    counts = np.rint(microvolts * 100).astype("<i2").T
    path = save_bci2000(tmp_path / "a.dat", counts // 3, gains="")
    with pytest.raises(ValueError, match="no unit in the file.* Give the unit"):
        open_recording(path, channel_names=NAMES)
    recording = open_recording(path, channel_names=NAMES, unit="uV")
    np.testing.assert_allclose(recording.read([0, 1, 2], 0, 500), counts.T[:, :500] // 3, atol=1e-9)


# Files of numbers


def check_same(recording, microvolts, unit, gaps=0):
    assert recording.sampling_rate == RATE and recording.names == NAMES and recording.unit == unit
    assert len(recording.gaps) == gaps
    signal = recording.read([0, 1, 2], 0, microvolts.shape[1])
    np.testing.assert_allclose(signal, microvolts, atol=1e-3)


def table_of(microvolts, times=True):
    table = pd.DataFrame(microvolts.T, columns=NAMES)
    if times:
        table.insert(0, "timestamps", np.round(1000.5 + np.arange(len(table)) / RATE, 3))
    return table


@pytest.mark.parametrize(
    ("suffix", "options"),
    [
        (".csv", {}),
        (".csv", {"sep": ";", "decimal": ","}),
        (".tsv", {"sep": "\t"}),
        (".txt", {"sep": " "}),
        (".txt", {"sep": "\t"}),
    ],
)
def test_tables_with_a_time_column(tmp_path, microvolts, suffix, options):
    path = tmp_path / f"a{suffix}"
    table_of(microvolts).to_csv(path, index=False, **options)
    recording = open_recording(path)
    check_same(recording, microvolts, "uV")
    assert any("Hz by the time stamps in 'timestamps'" in note for note in recording.notes)


def test_other_spellings_of_a_table(tmp_path, microvolts):
    """Milliseconds, dates, comments, units in the names."""
    table = table_of(microvolts, times=False)
    ms = table.assign(**{"time_ms": np.arange(len(table)) * 1000 / RATE})
    ms.to_csv(tmp_path / "ms.csv", index=False)
    check_same(open_recording(tmp_path / "ms.csv"), microvolts, "uV")
    dates = table.assign(
        TimeStamp=pd.Timestamp("2020-01-01") + pd.to_timedelta(np.arange(len(table)) / RATE, unit="s")
    )
    dates.to_csv(tmp_path / "dates.csv", index=False)
    check_same(open_recording(tmp_path / "dates.csv"), microvolts, "uV")
    millivolts = (table / 1e3).rename(columns={"C3": "C3 [mV]", "Cz": "Cz [mV]", "C4": "C4 (mV)"})
    (tmp_path / "a.csv").write_text("# Sampling rate: 128\n" + millivolts.to_csv(index=False))
    check_same(open_recording(tmp_path / "a.csv"), microvolts, "mV")


def test_openbci_without_a_header_row(tmp_path, microvolts):
    """Its older recorder names no columns: a number, the channels, three of the accelerometer, a time."""
    rows = "\n".join(
        f"{k % 256}, {', '.join(f'{value:.4f}' for value in row)}, 0.1, 0.2, 0.3, 12:00:00.{k:03d}"
        for k, row in enumerate(microvolts.T)
    )
    comments = "%OpenBCI Raw EEG Data\n%Number of channels = 3\n%Sample Rate = 128.0 Hz\n%First Column = SampleIndex\n"
    (tmp_path / "a.txt").write_text(comments + rows)
    check_same(open_recording(tmp_path / "a.txt", channel_names=NAMES), microvolts, "uV")
    with pytest.raises(ValueError, match="no channel names for its 3 channels"):
        open_recording(tmp_path / "a.txt")


def test_gaps_in_time_stamps(tmp_path, microvolts):
    table = table_of(microvolts)
    table.loc[10 * RATE :, "timestamps"] += 7.0
    table.to_csv(tmp_path / "a.csv", index=False)
    recording = open_recording(tmp_path / "a.csv")
    check_same(recording, microvolts, "uV", gaps=1)
    assert recording.gaps[0] == pytest.approx((10.0, 17.0), abs=0.01)


def test_arrays_in_files(tmp_path, microvolts):
    np.save(tmp_path / "a.npy", microvolts)
    np.savez(tmp_path / "a.npz", eeg=microvolts.T, fs=RATE, ch_names=NAMES, unit="uV")
    scipy.io.savemat(tmp_path / "a.mat", {"EEG": {"data": microvolts, "srate": RATE, "labels": NAMES}, "unit": "uV"})
    scipy.io.savemat(
        tmp_path / "fieldtrip.mat",
        {"data": {"trial": np.array([microvolts, None], dtype=object)[:1], "fsample": RATE, "label": NAMES}},
    )
    check_same(
        open_recording(tmp_path / "a.npy", sampling_rate=RATE, channel_names=NAMES, unit="uV"), microvolts, "uV"
    )
    for name in ("a.npz", "a.mat", "fieldtrip.mat"):
        check_same(open_recording(tmp_path / name), microvolts, "uV")
    assert isinstance(read_array_file(tmp_path / "a.npy").values, np.memmap)


def test_pieces_in_files(tmp_path, microvolts, extractor):
    pieces = microvolts.reshape(3, 5, 4 * RATE).swapaxes(0, 1)
    np.savez(tmp_path / "a.npz", x=pieces, sfreq=RATE, channels=NAMES, units="uV")
    epochs = make_epochs(pieces * 1e-6, NAMES, RATE)
    epochs.save(tmp_path / "a-epo.fif")
    expected = extractor(epochs)
    for name in ("a.npz", "a-epo.fif"):
        batch = extractor(tmp_path / name)
        np.testing.assert_allclose(batch["input_values"], expected["input_values"], atol=1e-5)
        assert batch.onsets.tolist() == [0.0, 4.0, 8.0, 12.0, 16.0]


@pytest.mark.parametrize(
    ("content", "given", "words"),
    [
        ("C3,Cz\n1,2\n3,4\n", {}, "no sampling rate .* Give it: sampling_rate=250"),
        ("1,2\n3,4\n5,6\n", {"sampling_rate": 250}, "no channel names for its 2 channels. Give them"),
        ("C3,Cz\n1,2\n3,4\n", {"sampling_rate": -1}, "sampling_rate must be a positive number"),
        ("C3,Cz\nx,y\nz,w\n", {"sampling_rate": 250}, "no column of numbers"),
        ("\n\n", {}, "The table is empty"),
        ("C3,Cz\n1,2\n3,4\n", {"sampling_rate": 250, "unit": "counts"}, "unit must be 'uV', 'mV' or 'V'"),
        (
            "C3,Cz\n1,2\n3,4\n",
            {"sampling_rate": 250, "channel_names": ["C3"]},
            "Got 1 channel_names for a recording of 2",
        ),
    ],
)
def test_tables_with_something_missing(tmp_path, content, given, words):
    (tmp_path / "a.csv").write_text(content)
    with pytest.raises(ValueError, match=words):
        open_recording(tmp_path / "a.csv", **given)


def test_given_names_replace_the_files(tmp_path, microvolts, extractor):
    path = write_edf(tmp_path / "a.edf", [(f"ch{k}", RATE, "uV", x) for k, x in enumerate(microvolts)])
    with pytest.raises(ValueError, match="recognised"):
        extractor(path)
    batch = extractor(path, channel_names=NAMES)
    assert [row.name for row in batch.report.channels] == NAMES
    assert "names: as given, in place of ch0, ch1, ch2" in str(batch.report)


# What can't be read


def test_errors_name_broken_files_and_what_is_wrong(tmp_path, microvolts):
    path = edf_of(tmp_path / "a.edf", microvolts)
    data = path.read_bytes()
    broken = {
        "empty.edf": (b"", "The file is empty"),
        "noise.edf": (np.random.default_rng(0).bytes(5000), "header is broken"),
        "shifted.edf": (data[:200] + data[202:], "header is broken.*number of signals"),
        "text.edf": (data.decode("utf-8", errors="replace").encode(), "truncated or corrupt|header is broken"),
        "none.edf": (data[:1024], "has no data"),
        "noise.fif": (data[1:], "neither a signal nor epochs: it may be truncated or corrupt"),
        "noise.gdf": (data[1:], "can't read the file, it may be truncated or corrupt"),
        "noise.xyz": (data[1:], "No reader is known for files that end in .xyz"),
        "noise.mat": (data[1:], "corrupt|Unknown mat file"),
        "noise.npy": (data[1:], "corrupt|pickle"),
    }
    for name, (content, words) in broken.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ValueError, match=words) as caught:
            open_recording(tmp_path / name)
        assert name in str(caught.value)
    with pytest.raises(FileNotFoundError, match="No recording at"):
        open_recording(tmp_path / "nowhere.edf")


def test_a_truncated_recording_is_read_and_noted(tmp_path, microvolts):
    path = edf_of(tmp_path / "a.edf", microvolts)
    path.write_bytes(path.read_bytes()[: -int(3.5 * 2 * 3 * RATE)])
    recording = open_recording(path)
    assert recording.seconds == 16.0
    assert "the header promises 20 records, the file has 16: it is truncated" in recording.notes[0]


# Judging channels


def faults_of(signal, rate=256):
    survey = SignalSurvey(1, len(signal), rate)
    for start in range(0, signal.shape[1], 1000):
        survey.add(signal[None, :, start : start + 1000].copy())
    return survey.faults()[0].tolist()


def test_what_is_wrong_with_a_channel():
    """One fault in each of nine channels; three good ones, one with offset and drift."""
    rate, generator = 256, np.random.default_rng(0)
    time = np.arange(60 * rate) / rate
    spectrum = np.fft.rfft(generator.normal(size=(12, len(time))))
    spectrum[:, 1:] /= np.sqrt(np.arange(1, spectrum.shape[1]))
    signal = np.fft.irfft(spectrum, len(time))
    signal *= 15 / signal.std(-1, keepdims=True)
    signal[1] = 37.5
    signal[2] = generator.normal(0, 0.05, len(time))
    signal[3] = np.clip(signal[3] * 5, -60, 60)
    signal[4] += 400 * np.sin(2 * np.pi * 50 * time)
    signal[5] = generator.normal(0, 200, len(time))
    signal[6] += 150_000.0
    signal[7] = signal[0]
    signal[8, 500:600] = np.nan
    signal[9] *= 20
    signal[10] += 4200 + 300 * time / 60  # an offset and a drift are not faults
    assert faults_of(signal) == [
        "",
        "flat",
        "dead (varies by less than 0.1 microvolt)",
        "clipped",
        "mains (50 or 60 Hz, in this channel alone)",
        "broadband noise",
        "disconnected (offset above 100 mV)",
        "a copy of another channel",
        "NaN or infinite",
        "noise (far above the other channels)",
        "",
        "",
    ]


def test_a_table_of_pandas_is_named(extractor, microvolts):
    with pytest.raises(ValueError, match=r"to_numpy\(\)\.T, with sampling_rate"):
        extractor(pd.DataFrame(microvolts.T, columns=["C3", "Cz", "C4"]))


def test_values_that_all_channels_hold_are_noted(microvolts, extractor):
    """What a receiver fills lost samples up with; a short stretch may be chance."""
    microvolts[:, 100 : 100 + 2 * RATE] = microvolts[:, [99]]
    assert "note: no channel changes for 2 s in all" in str(extractor(raw_of(microvolts)).report)
    microvolts[:, 101:] = np.random.default_rng(1).normal(0, 10, microvolts[:, 101:].shape)
    microvolts[0, :] = 5.0
    assert "no channel changes" not in str(extractor(raw_of(microvolts)).report)


def test_zeros_in_all_channels_are_not_a_rail(microvolts, extractor):
    """Files whose last record was padded."""
    microvolts = microvolts - 1800
    microvolts[:, -2 * RATE :] = 0.0
    assert faults_of(microvolts, RATE) == [""] * 3
    assert "note: every channel is exactly 0 for 2 s" in str(extractor(raw_of(microvolts)).report)
    microvolts[0] = np.minimum(microvolts[0], -1820)
    assert faults_of(microvolts[:, : -2 * RATE], RATE)[0] == "clipped"


def test_mains_that_all_channels_share_is_not_a_fault():
    time = np.arange(60 * 256) / 256
    signal = np.random.default_rng(0).normal(0, 10, (5, len(time))) + 200 * np.sin(2 * np.pi * 60 * time)
    assert faults_of(signal) == [""] * 5


def test_offsets_do_not_ring_into_windows(extractor):
    """Electrode offsets of thousands of microvolts, different in each channel, change nothing."""
    signal = np.random.default_rng(0).normal(0, 10, (3, 30 * 250))
    arguments = {"sampling_rate": 250, "channel_names": NAMES, "unit": "uV"}
    expected = extractor(signal, **arguments)["input_values"]
    shifted = extractor(signal + np.array([[4200.0], [-17_000.0], [84_000.0]]), **arguments)["input_values"]
    np.testing.assert_allclose(shifted, expected, atol=1e-5)
