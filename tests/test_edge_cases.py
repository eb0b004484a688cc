"""
A zoo of real and made recordings that break front ends: each opens as it should, or is refused with the reason. It is
not part of the repository; its README names the sources of the files and of the answers.
"""

import importlib.util
import json
import re

import mne
import numpy as np
import pytest
from conftest import SHARED_DATA

from neuript_hf import NeurIPTFeatureExtractor, open_recording


ZOO = SHARED_DATA / "edge_cases"
EXPECTED = ZOO / "expected.jsonl"
LINES = [json.loads(line) for line in EXPECTED.read_text(encoding="utf-8").splitlines()] if EXPECTED.exists() else []
# The report's words for those of the zoo.
REASONS = {
    "flat": "flat",
    "clipped": "clipped",
    "50 Hz": "mains",
    "broadband": "broadband noise",
    "copy": "copy",
    "dead": "dead",
    "NaN": "NaN or infinite",
    "inf at": "NaN or infinite",
    "rail": "disconnected|clipped",
    "noise": "noise|clipped",
    "sd ": "noise|clipped",
}
# The net's own reference is zero by definition: a channel without a signal, but not a defect of the file.
FLAT_BY_DEFINITION = {"egi_example_3.mff": {"VREF"}}
# A high-pass repairs these, so they are not faults.
USABLE = "usable after a high-pass"

pytestmark = [pytest.mark.shared_data, pytest.mark.filterwarnings("ignore")]


def lines_that(expect):
    lines = [line for line in LINES if line["expect"] == expect]
    return pytest.mark.parametrize("line", lines, ids=[line["file"] for line in lines])


def expected_microvolts(line):
    """The first second of each channel by name: numbers as the zoo's reader has them, times the zoo's factors."""
    path = ZOO / "files" / line["file"]
    reader = line.get("reader") or ("ant" if path.suffix == ".cnt" else None)
    if reader == "csv":
        table = np.genfromtxt(path, delimiter=",", names=True, max_rows=256, deletechars="")
        return {name.replace("_", " "): table[name] * line["to_uv"] for name in table.dtype.names}
    raw = getattr(mne.io, f"read_raw_{reader}")(path) if reader else mne.io.read_raw(path)
    scale = line.get("mne_scale_to_uv", 1e6)
    data = raw.get_data(stop=min(raw.n_times, round(raw.info["sfreq"])))
    # the zoo has factors for voltages only
    scales = scale if isinstance(scale, dict) else dict.fromkeys(raw.ch_names, scale)
    return {name: row * scales[name] for name, row in zip(raw.ch_names, data, strict=True) if name in scales}


@lines_that("ok")
def test_opens(line):
    path = ZOO / "files" / line["file"]
    if line.get("needs") and importlib.util.find_spec(line["needs"]) is None:
        with pytest.raises(ValueError, match=f"pip install {line['needs']}"):
            open_recording(path)
        return
    recording = open_recording(path)
    assert recording.sampling_rate == pytest.approx(line["rate"], abs=1e-3)
    assert recording.seconds == pytest.approx(line["seconds"], abs=0.02)
    assert recording.gaps == [pytest.approx(tuple(gap)) for gap in line.get("gaps", [])]
    expected = expected_microvolts(line)
    # only channels at the rate of most EEG channels are read
    eeg = [
        (index, name)
        for index, (name, answer) in enumerate(_answers(line, recording))
        if not answer.startswith(("dropped", "unknown")) and recording.types[index] == "eeg"
    ]
    assert eeg
    for index, name in eeg:
        signal = recording.read([index], 0, len(expected[name]))[0]
        np.testing.assert_allclose(signal, expected[name], rtol=1e-6, atol=1e-6)
    assert bad_channels(line, recording) == set(line["bad"]) - {n for n, why in line["bad"].items() if USABLE in why}


def _answers(line, recording):
    """The recording's names with the zoo's answers, matched by order where MNE numbered duplicates."""
    answers = [(name, answer) for name, answer in line["channels"] if name not in recording.left_out]
    if len(answers) == len(recording.names):
        return [(own, answer) for own, (_, answer) in zip(recording.names, answers, strict=True)]
    by_name = dict(answers)
    return [(own, by_name.get(own, "unknown")) for own in recording.names]


def bad_channels(line, recording):
    """Channels that the report calls bad, each for a matching reason."""
    report = NeurIPTFeatureExtractor(montage="as_recorded").inspect(recording)
    reasons = {row.sources[0].name: row.masked for row in report.channels if row.masked} | report.faults
    for name in FLAT_BY_DEFINITION.get(line["file"], set()):
        assert reasons.pop(name) == "flat"
    for name, reason in reasons.items():
        words = line["bad"].get(name, "")
        fitting = [pattern for word, pattern in REASONS.items() if word in words]
        assert any(re.search(pattern, reason) for pattern in fitting), f"{name}: {reason}, expected {words or 'good'}"
    return set(reasons)


@lines_that("error")
def test_is_refused_with_the_reason(line):
    with pytest.raises(ValueError) as caught:
        NeurIPTFeatureExtractor(montage="as_recorded")(ZOO / "files" / line["file"])
    text = str(caught.value).lower()
    assert [word for word in line["error"]["must_mention"] if word.lower() not in text] == []


def test_what_the_caller_can_say():
    """Files in which something is missing work once it is given."""
    extractor = NeurIPTFeatureExtractor(montage="as_recorded")
    files = ZOO / "files"
    electrodes = ["Fp1", "Fp2", "C3", "C4", "P7", "P8", "O1", "O2"]
    batch = extractor(files / "openbci_gui_v6.txt", channel_names=electrodes)
    assert batch["input_values"].shape == (3, 8, 256)
    assert len(extractor(files / "made_no_rate.csv", sampling_rate=250)["input_values"]) > 0
    assert len(extractor(files / "made_no_names.mat", channel_names=electrodes[:6])["input_values"]) == 2
    with_net = NeurIPTFeatureExtractor(montage="as_recorded", net="biosemi16")
    assert len(with_net(files / "biosemi_a1_a16_256hz.bdf")["input_values"]) == 7
    report = extractor(files / "made_positions_only_raw.fif").report
    expected = next(line for line in LINES if line["file"] == "made_positions_only_raw.fif")["channels"]
    assert {row.sources[0].name: row.name for row in report.channels} == {
        name: answer.split(" ")[0] for name, answer in expected
    }
