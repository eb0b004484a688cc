"""XDF: streams by their own stamps, markers as events, a choice where several may be the signal."""

import importlib.util
import struct
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from neuript_hf import NeurIPTFeatureExtractor, open_recording


RATE, SECONDS = 128, 10
NAMES = ["Fp1", "C3", "O2"]
SIGNAL = np.random.default_rng(0).normal(0, 20, (3, RATE * SECONDS)).astype(np.float32)
STAMPS = 5000 + np.arange(RATE * SECONDS) / RATE


def stream(name, kind, stamps, values, rate=0.0, channels=(), form="float32"):
    """As pyxdf has it: every text in a list. `channels`: (label, type, unit) of each."""
    described = [{"label": [label], "type": [kind], "unit": [unit]} for label, kind, unit in channels]
    count = len(values[0]) if len(values) else len(channels)
    info = {"name": [name], "type": [kind], "channel_count": [str(count)], "nominal_srate": [str(rate)]}
    info |= {"channel_format": [form], "source_id": [f"id of {name}"]}
    info["desc"] = [{"channels": [{"channel": described}]} if channels else None]
    return {"info": info, "time_stamps": np.asarray(stamps), "time_series": values}


def eeg(name="amp", stamps=STAMPS, rate=RATE, signal=SIGNAL, channels=None, **kwargs):
    channels = [(label, "EEG", "microvolts") for label in NAMES] if channels is None else channels
    return stream(name, "EEG", stamps, signal.T, rate, channels, **kwargs)


def markers(stamps, texts, name="keys"):
    return stream(name, "Markers", stamps, [[text] for text in texts], form="string")


def _xml(value, tag):
    if isinstance(value, list):
        return "".join(_xml(item, tag) for item in value)
    inner = "".join(_xml(item, key) for key, item in value.items()) if isinstance(value, dict) else str(value or "")
    return f"<{tag}>{inner}</{tag}>"


def _chunk(tag, content):
    return b"\4" + struct.pack("<IH", len(content) + 2, tag) + content


def write_xdf(path, streams):
    """The chunks of the format: header of the file; header, samples and footer of each stream."""
    data = b"XDF:" + _chunk(1, b"<info><version>1.0</version></info>")
    for number, one in enumerate(streams, 1):
        identity = struct.pack("<I", number)
        data += _chunk(2, identity + _xml(one["info"], "info").encode())
        samples = b""
        for stamp, row in zip(one["time_stamps"], one["time_series"], strict=True):
            samples += b"\x08" + struct.pack("<d", stamp)
            for value in row:
                is_text = isinstance(value, str)
                samples += b"\1" + bytes([len(value)]) + value.encode() if is_text else struct.pack("<f", value)
        data += _chunk(3, identity + b"\4" + struct.pack("<I", len(one["time_stamps"])) + samples)
        data += _chunk(6, identity + b"<info><clock_offsets/></info>")
    path.write_bytes(data)


@pytest.fixture(params=["its answers", "pyxdf"])
def save(request, tmp_path, monkeypatch):
    """A file that pyxdf reads, or that has its answers given."""

    def to(*streams):
        if request.param == "pyxdf":
            write_xdf(tmp_path / "a.xdf", streams)
        else:
            (tmp_path / "a.xdf").write_bytes(b"XDF:")
            answers = SimpleNamespace(load_xdf=lambda path, dejitter_timestamps: (list(streams), {}))
            monkeypatch.setitem(sys.modules, "pyxdf", answers)
        return tmp_path / "a.xdf"

    if request.param == "pyxdf" and importlib.util.find_spec("pyxdf") is None:
        pytest.skip("needs pyxdf")
    return to


def signal_of(recording):
    return recording.read(range(len(recording.names)), 0, SIGNAL.shape[1])


def test_a_stream_with_markers(save):
    marks = markers([STAMPS[0] + 1.5, STAMPS[0] + 4, STAMPS[0] - 3], ["left", "right", "before"])
    recording = open_recording(save(eeg(), marks))
    assert recording.names == NAMES and recording.sampling_rate == RATE and recording.unit == "uV"
    assert recording.gaps == []
    np.testing.assert_allclose(signal_of(recording), SIGNAL, rtol=1e-6)
    assert recording.events == [(pytest.approx(1.5), 0.0, "left"), (pytest.approx(4.0), 0.0, "right")]
    assert "note: 1 markers lie before or after the signal and are left out" in recording.notes


@pytest.mark.parametrize("rate", [RATE, 0])
@pytest.mark.parametrize("seconds", [0.1, 0.6, 30.0])
def test_dropped_samples_are_a_gap(save, rate, seconds):
    """Whether or not the stream names a rate; markers keep their time."""
    stamps = STAMPS + seconds * (np.arange(len(STAMPS)) >= 640)
    recording = open_recording(save(eeg(stamps=stamps, rate=rate), markers([stamps[700]], ["late"])))
    assert recording.sampling_rate == RATE and recording.gaps == [pytest.approx((5, 5 + seconds), abs=0.01)]
    assert recording.events == [(pytest.approx(700 / RATE + seconds), 0.0, "late")]
    batch = NeurIPTFeatureExtractor(montage="as_recorded", window_seconds=2.0)(recording)
    assert all(recording.holds(onset, 2.0) for onset in batch.onsets)


def test_a_clock_that_is_set_back_is_a_gap(save):
    stamps = STAMPS - 1000.0 * (np.arange(len(STAMPS)) >= 640)
    assert open_recording(save(eeg(stamps=stamps))).gaps == [(5, 5)]


def test_a_nominal_rate_that_the_stamps_contradict(save):
    path = save(eeg(rate=250))
    with pytest.raises(
        ValueError, match="250 Hz by the header of the stream 'amp', but 128 Hz by the time stamps.*pyxdf"
    ):
        open_recording(path)
    assert open_recording(path, sampling_rate=128).sampling_rate == 128
    recording = open_recording(save(eeg(rate=128.6)))
    assert recording.sampling_rate == 128.6 and any("128.6 Hz by the header" in note for note in recording.notes)


def test_a_file_without_streams(save):
    with pytest.raises(ValueError, match="no streams: it is truncated or corrupt"):
        open_recording(save())


def test_several_streams_are_a_choice(save):
    other = eeg("cap", signal=SIGNAL[:2] * 2, channels=[("F3", "EEG", "uV"), ("F4", "EEG", "uV")])
    path = save(eeg(), other, markers([STAMPS[9]], ["x"]))
    words = r"2 streams are of type EEG.*'amp' \(type EEG, 3 channels.*'cap'.*'keys'.*variable="
    with pytest.raises(ValueError, match=words):
        open_recording(path)
    for name in ("cap", "id of cap"):
        recording = open_recording(path, variable=name)
        assert recording.names == ["F3", "F4"]
        np.testing.assert_allclose(signal_of(recording), SIGNAL[:2] * 2, rtol=1e-6)
    with pytest.raises(ValueError, match="0 streams are called 'none'.*'amp'"):
        open_recording(path, variable="none")
    with pytest.raises(ValueError, match="'keys' .*holds texts, not a signal"):
        open_recording(path, variable="keys")
    with pytest.raises(ValueError, match="has no trials: leave trial out"):
        open_recording(path, variable="cap", trial=0)


def test_streams_without_data(save):
    empty = eeg("empty", stamps=[], signal=SIGNAL[:, :0])
    assert open_recording(save(empty, eeg())).names == NAMES
    with pytest.raises(ValueError, match="'empty' .*has no data"):
        open_recording(save(empty))
    with pytest.raises(ValueError, match="0 streams are of type EEG.*'keys'"):
        open_recording(save(markers([1.0], ["a"])))


def test_channels_of_other_types_are_left_out(save):
    channels = [("Fp1", "EEG", "uV"), ("Acc X", "ACC", "g"), ("O2", "EEG", "uV")]
    recording = open_recording(save(eeg(channels=channels)))
    assert recording.names == ["Fp1", "O2"] and recording.left_out == {"Acc X": "of type ACC by the stream"}
    np.testing.assert_allclose(signal_of(recording), SIGNAL[[0, 2]], rtol=1e-6)
    too_few = save(eeg(channels=channels[:2]))
    with pytest.raises(ValueError, match="no channel names for its 3 channels"):
        open_recording(too_few)
    recording = open_recording(too_few, channel_names=NAMES, unit="uV")
    assert any("describes 2 channels but has 3: names not used" in note for note in recording.notes)


def test_without_pyxdf_the_error_names_it(tmp_path, monkeypatch):
    (tmp_path / "a.xdf").write_bytes(b"XDF:")
    monkeypatch.setitem(sys.modules, "pyxdf", None)
    with pytest.raises(ValueError, match="pip install pyxdf"):
        open_recording(tmp_path / "a.xdf")
