"""
Missing time and time marked as bad: no window crosses a hole that can be known, whatever MNE did to the recording, and
what is left out stands in the report.
"""

import re

import mne
import numpy as np
import pandas as pd
import pytest
from conftest import ROOT, make_raw, write_edf, write_recording
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from neuript_hf import NeurIPTFeatureExtractor, load_recordings, open_recording
from neuript_hf.data.preparation import RejectionRules, prepare_dataset
from neuript_hf.data.shards import read_outcomes
from neuript_hf.recordings import as_recording


RATE = 128
NAMES = ["C3", "Cz", "C4"]


def noise(seconds=20.0, names=NAMES, seed=0):
    """White noise of 10 microvolts, in volts."""
    return np.random.default_rng(seed).normal(0, 1e-5, (len(names), round(seconds * RATE)))


def noisy_raw(seconds=20.0, annotations=(), names=NAMES, **kwargs):
    """Noise with annotations (onset, duration, description)."""
    raw = make_raw(noise(seconds, names), names, RATE, **kwargs)
    if annotations:
        raw.set_annotations(mne.Annotations(*zip(*annotations, strict=True)))
    return raw


def recorded(**kwargs):
    return NeurIPTFeatureExtractor(montage="as_recorded", **kwargs)


def step(report, start):
    """The only line of a report that begins like this."""
    (line,) = [line for line in report.steps if line.startswith(start)]
    return line


# Time marked as bad


@pytest.mark.parametrize(
    "name", ["BAD_muscle", "bad_blink", "BAD", "Bad Interval/Bad", "Comment/BAD_x", "EDGE_x", "badge"]
)
def test_time_marked_as_bad_rejects_the_windows_that_overlap_it(name):
    """By MNE's rule: the first letters count, in any case, even those of a badge. EDGE is a gap to its filters."""
    raw = noisy_raw(40.0, [(10.0, 8.0, name), (2.0, 0.0, "left"), (30.0, 0.0, "no bad thing")])
    batch = recorded()(raw)
    expected = [0.0, 4.0, *np.arange(20.0, 40.0, 4.0)] if not name.startswith("EDGE") else [0.0, 4.0, 18.0]
    assert batch.onsets.tolist()[: len(expected)] == expected
    if name.startswith("EDGE"):
        assert "gap: 10 to 18 s, no window reaches into it" in batch.report.steps
        return
    assert batch.kept.tolist() == [0, 1, 5, 6, 7, 8, 9] and len(batch["input_values"]) == batch.report.windows == 7
    assert step(batch.report, "marked as bad") == f"marked as bad: 8 s ({name}); 3 of 10 windows rejected"
    kept = recorded(reject_by_annotation=False)(raw)
    assert len(kept["input_values"]) == 10
    assert step(kept.report, "marked as bad") == f"marked as bad: 8 s ({name}); kept, as reject_by_annotation is off"
    assert step(recorded().inspect(raw), "marked as bad") == step(batch.report, "marked as bad")


@settings(max_examples=40, deadline=None)
@given(
    marks=st.lists(st.tuples(st.integers(0, 20 * RATE - 1), st.integers(0, 300)), max_size=4),
    window=st.sampled_from([0.5, 1.0, 2.0]),
)
def test_the_windows_are_those_that_mne_keeps(marks, window):
    raw = noisy_raw(annotations=[(start / RATE, length / RATE, "BAD_x") for start, length in marks])
    epochs = mne.make_fixed_length_epochs(raw, window, preload=True, verbose="ERROR")
    assume(len(epochs))
    starts = (epochs.events[:, 0] / RATE).tolist()
    assert recorded()(raw, window_seconds=window).onsets.tolist() == starts


def test_onsets_in_time_marked_as_bad_are_left_out_and_counted():
    raw = noisy_raw(40.0, [(10.0, 8.0, "BAD_muscle")])
    batch = recorded()(raw, onsets=[30.0, 12.0, 2.0, 7.0])
    assert batch.kept.tolist() == [0, 2] and batch.onsets.tolist() == [30.0, 2.0]
    assert "2 of 4 windows rejected" in step(batch.report, "marked as bad")
    with pytest.raises(ValueError, match=r"Every window \(1\).*8 s \(BAD_muscle\).*reject_by_annotation=False"):
        recorded()(raw, onsets=[12.0])
    assert len(recorded(reject_by_annotation=False)(raw, onsets=[12.0])["input_values"]) == 1
    assert recorded().window_onsets(as_recording(raw)).tolist() == [0.0, 4.0, 20.0, 24.0, 28.0, 32.0, 36.0]


def test_windows_that_were_planned_can_be_cut_one_by_one():
    """At half the rate, an odd number of samples ends between two of the output."""
    raw = noisy_raw(383 / RATE)
    onsets = recorded().window_onsets(as_recording(raw), 3.0)
    whole = recorded()(raw, window_seconds=3.0)["input_values"]
    np.testing.assert_allclose(recorded()(raw, window_seconds=3.0, onsets=onsets)["input_values"], whole, atol=1e-6)


def test_the_setting_is_saved(tmp_path):
    recorded(reject_by_annotation=False).save_pretrained(tmp_path)
    assert NeurIPTFeatureExtractor.from_pretrained(tmp_path).reject_by_annotation is False
    with pytest.raises(ValueError, match="reject_by_annotation must be one of"):
        recorded(reject_by_annotation="omit")


def test_a_mark_for_single_channels_counts_for_all_and_says_so():
    raw = noisy_raw()
    raw.set_annotations(mne.Annotations([5.0], [1.0], ["BAD_jump"], ch_names=[["C3"]]))
    batch = recorded()(raw)
    assert batch.kept.tolist() == [0, 2, 3, 4]
    assert "note: BAD_jump names only C3; it counts for all channels, as in MNE" in batch.report.steps


@pytest.mark.parametrize("in_pieces", [False, True])
def test_what_happens_in_time_marked_as_bad_reaches_no_window(in_pieces, monkeypatch):
    """Rails and NaN there make no channel bad and do not leak through the filters, also where reading blocks end."""
    monkeypatch.setattr("neuript_hf.feature_extraction_neuript.BLOCK_SECONDS", 14.0)

    def extract(spoil, **kwargs):
        raw = noisy_raw(60.0, [(21.0, 10.0, "BAD_rail"), (50.0, 0.5, "bad"), (50.6, 0.2, "bad")])
        if spoil is not None:
            raw._data[0, 21 * RATE : 31 * RATE] = spoil
            raw._data[:, round(50.1 * RATE) : round(50.3 * RATE)] *= 1e4
        if not in_pieces:
            return recorded(**kwargs)(raw)
        whole = epochs_of(raw, 20.0, reject_by_annotation=False, preload=True)
        return recorded(**kwargs)(whole, window_seconds=4.0)

    clean = extract(None)
    for spoil in (0.5, np.nan):
        batch = extract(spoil)
        assert batch["channel_mask"].all() and not any(row.masked for row in batch.report.channels)
        np.testing.assert_allclose(batch["input_values"], clean["input_values"], atol=1e-5)
        assert extract(spoil, reject_by_annotation=False).report.channels[0].masked


def test_inspection_judges_channels_as_the_extractor_does():
    raw = noisy_raw(40.0, [(9.0, 10.0, "BAD_rail")])
    raw._data[0, 9 * RATE : 19 * RATE] = 0.5
    assert not any(row.masked for row in recorded().inspect(raw).channels)
    assert recorded(reject_by_annotation=False).inspect(raw).channels[0].masked
    raw.set_annotations(mne.Annotations([0.0], [40.0], ["BAD"]))
    assert "Every window (10) overlaps" in " ".join(recorded().inspect(raw).problems)


def test_training_windows_at_events(tmp_path):
    annotations = [(2.0, 0.0, "left"), (10.0, 8.0, "BAD_muscle"), (12.0, 0.0, "left"), (30.0, 0.0, "right")]
    write_recording(tmp_path / "a_raw.fif", 1, seconds=40, annotations=annotations)
    pd.DataFrame([{"file": "a_raw.fif", "subject": "1", "split": "train"}]).to_csv(tmp_path / "manifest.csv")

    def windows(**kwargs):
        data = load_recordings(tmp_path, recorded(**kwargs), events=["left", "right"])["train"]
        return list(zip(data["onset"], data["labels"], strict=True)), data["report"][0]

    kept, report = windows()
    assert kept == [(2.0, 0), (30.0, 1)] and "1 of 3 windows rejected" in report
    assert windows(reject_by_annotation=False)[0] == [(2.0, 0), (12.0, 0), (30.0, 1)]


def test_every_event_is_a_window_or_in_the_report(tmp_path):
    """Of five, one reaches beyond the end, one across a boundary, and one into bad time."""
    onsets = [2.0, 10.5, 17.0, 24.0, 38.0]
    marks = [(12.0, 1.0, "BAD"), (19.0, 0.0, "boundary"), *((onset, 0.0, "left") for onset in onsets)]
    write_recording(tmp_path / "a_raw.fif", 1, seconds=40, annotations=sorted(marks))
    pd.DataFrame([{"file": "a_raw.fif", "subject": "1", "split": "train"}]).to_csv(tmp_path / "manifest.csv")
    data = load_recordings(tmp_path, recorded(), events=["left"])["train"]
    assert list(data["onset"]) == [2.0, 24.0]
    assert "left out 2 windows at annotations that reach beyond the recording or into a gap" in data["report"][0]
    assert "1 of 3 windows rejected" in data["report"][0]


def test_preparation_counts_windows_marked_as_bad(tmp_path):
    write_recording(tmp_path / "in" / "sub-1_raw.fif", 1, seconds=40, annotations=[(10.0, 8.0, "BAD_muscle")])
    write_recording(tmp_path / "in" / "sub-2_raw.fif", 2, seconds=40, annotations=[(0.0, 40.0, "BAD")])
    rules = RejectionRules(min_recording_seconds=20, trim_seconds=4)
    summary = prepare_dataset(tmp_path / "in", recorded(), tmp_path / "out", rules=rules)
    assert summary["windows"] == {"cut": 8, "kept": 5} and summary["windows_rejected"] == {"marked as bad": 3}
    assert summary["recordings_left_out"] == {"every window overlaps time marked as bad": 1}
    first, _ = read_outcomes(tmp_path / "out")
    assert first.windows_rejected == {"marked as bad": 3}


# Holes by annotations


@pytest.mark.parametrize(
    "marks",
    [
        [(0.0, 0.0, "New Segment/")],
        [(1 / RATE, 1 / RATE, "New Segment/")],
        [(8.0, 0.0, "BAD_ACQ_SKIP")],
        [(20.0 - 1 / RATE, 0.0, "boundary")],
    ],
)
def test_what_is_no_hole(marks):
    """The first segment of a BrainVision file begins with a mark; a skip of no length leaves out nothing."""
    recording = as_recording(noisy_raw(annotations=marks))
    assert recording.gaps == [] and recording.seconds == 20.0


def test_a_boundary_between_two_samples_belongs_to_the_later_one():
    """EEGLAB puts boundaries in the middle, which rounds half the time to the earlier one."""
    for sample in (1000, 1001):
        recording = as_recording(noisy_raw(annotations=[((sample - 0.5) / RATE, 30.0, "boundary")]))
        assert [segment.start for segment in recording.segments] == [0, sample]
        assert recording.bad_time == []


@pytest.mark.parametrize("suffix", [".vhdr", ".set", ".edf", "_raw.fif"])
def test_marks_survive_saving_in_every_format(tmp_path, suffix):
    """BrainVision puts "Comment/" before them."""
    marks = [(6.0, 0.0, "EDGE boundary"), (8.0, 1.0, "BAD_ACQ_SKIP"), (12.0, 3.0, "BAD_muscle"), (16.0, 0.0, "left")]
    raw, path = noisy_raw(annotations=marks), tmp_path / f"a{suffix}"
    (raw.save if suffix == "_raw.fif" else raw.export)(path, verbose="ERROR")
    recording = open_recording(path)
    assert recording.gaps == [(6.0, 6.0), (8.0, 9.0)]
    batch = recorded()(recording, window_seconds=1.0)
    assert batch.onsets.tolist() == [*np.arange(8.0), 9.0, 10.0, 11.0, *np.arange(15.0, 20.0)]
    assert "BAD_muscle" in step(batch.report, "marked as bad: 3 s")


def test_skipped_ends_are_in_the_report():
    raw = noisy_raw(annotations=[(0.0, 3.0, "BAD_ACQ_SKIP"), (16.0, 4.0, "bad_acq_skip")])
    batch = recorded()(raw)
    assert batch.onsets.tolist() == [3.0, 7.0, 11.0]
    assert "note: the first 3 s are skipped or hold no numbers" in batch.report.steps
    assert "note: the last 4 s are skipped or hold no numbers" in batch.report.steps
    with pytest.raises(ValueError, match="all of it is marked as skipped"):
        as_recording(noisy_raw(annotations=[(0.0, 20.0, "BAD_ACQ_SKIP")]))


def test_a_skip_filled_with_zeros_does_not_ring():
    raw = noisy_raw(30.0)
    raw._data += 5e-3  # an offset, which would be a step
    whole = recorded()(raw.copy().crop(0, 12.0 - 1 / RATE))
    raw._data[:, 12 * RATE : 18 * RATE] = 0.0
    raw.set_annotations(mne.Annotations([12.0], [6.0], ["BAD_ACQ_SKIP"]))
    batch = recorded()(raw)
    np.testing.assert_allclose(batch["input_values"][:3], whole["input_values"], atol=1e-4)
    assert batch.onsets.tolist() == [0.0, 4.0, 8.0, 18.0, 22.0, 26.0]


@pytest.mark.parametrize("date", [None, 1_000_000_000])
def test_annotations_of_a_raw_that_does_not_begin_at_sample_0(date):
    raw = mne.io.RawArray(noise(), mne.create_info(NAMES, RATE, "eeg"), first_samp=5 * RATE)
    raw.set_meas_date(date)
    raw.set_annotations(mne.Annotations([7.0], [2.0], ["BAD_x"]))  # by the first sample
    assert as_recording(raw).bad_time == [(pytest.approx(7.0), pytest.approx(9.0), "BAD_x")]
    assert as_recording(raw.copy().crop(3.0)).bad_time == [(pytest.approx(4.0), pytest.approx(6.0), "BAD_x")]
    assert as_recording(raw.copy().crop(8.0)).bad_time == [(pytest.approx(0.0), pytest.approx(1.0), "BAD_x")]


# Holes in numbers


def test_time_without_numbers_is_a_gap():
    signal = noise() * 1e6
    signal[:, 500:700] = np.nan
    signal[1, 1500:1600] = np.inf
    described = {"sampling_rate": RATE, "channel_names": NAMES, "unit": "uV"}
    batch = recorded()(signal, **described)
    assert batch.onsets.tolist() == [700 / RATE, 700 / RATE + 4, 700 / RATE + 8]
    assert "gap: 3.90625 to 5.46875 s, no window reaches into it" in batch.report.steps
    assert batch["channel_mask"][0].tolist() == [True, False, True] and np.isfinite(batch["input_values"]).all()
    assert as_recording(make_raw(signal * 1e-6, NAMES, RATE)).gaps == [(500 / RATE, 700 / RATE)]
    with pytest.raises(ValueError, match="All channels are NaN or infinite"):
        recorded()(np.full_like(signal, np.nan), **described)


# Holes of EDF+D and of concatenated recordings, through MNE


def edf_in_parts(path, parts, missing, annotations=(), kind=b"EDF+D", digits=6):
    """
    EDF+D of records of 1 s in parts of so many records, with missing seconds between them; a channel `part` numbers
    the parts. `annotations` are (record, onset by the clock, text).
    """
    number = np.repeat(np.arange(len(parts)), np.array(parts) * RATE).astype(float)
    signals = [(name, RATE, "uV", row * 1e6) for name, row in zip(NAMES, noise(sum(parts)), strict=True)]
    from edfio import EdfAnnotation

    write_edf(path, [*signals, ("part", RATE, "uV", number)], annotations=[EdfAnnotation(0, None, "x" * 60)])
    data = bytearray(path.read_bytes())
    header, records = 256 * (len(signals) + 3), sum(parts)
    size = (len(data) - header) // records
    data[192:197] = kind
    clock = np.arange(records) + np.repeat(np.cumsum([0.0, *missing]), parts)
    for record in range(records):
        start = header + record * size + 2 * RATE * (len(signals) + 1)
        text = f"+{round(clock[record], digits):g}\x14\x14\0".encode()
        for where, onset, name in annotations:
            if where == record:
                text += f"+{onset:g}\x14{name}\x14\0".encode()
        data[start : header + (record + 1) * size] = text.ljust(header + (record + 1) * size - start, b"\0")
    path.write_bytes(data)
    return path


def raw_in_parts(path):
    raw = mne.io.read_raw_edf(path, preload=True, verbose="ERROR")
    return raw.set_channel_types({"part": "misc"}, verbose="ERROR")


def raw_with_marks(kinds):
    """A Raw whose parts of 6 s are separated by annotations."""
    raw = noisy_raw(6.0 * (len(kinds) + 1), names=[*NAMES, "part"], types=["eeg"] * 3 + ["misc"])
    durations = {"BAD_ACQ_SKIP": 2.0, "EDGE_x": 1.0}
    onsets = 6.0 * np.arange(1, len(kinds) + 1)
    lengths = np.array([durations.get(kind, 0.0) for kind in kinds])
    # a hole with samples is a part of its own
    raw._data[3] = sum((raw.times >= onset).astype(float) for onset in [*onsets, *(onsets + lengths)[lengths > 0]])
    return raw.set_annotations(mne.Annotations(onsets, lengths, kinds))


def concatenated(raw, forget):
    last = raw.get_data("part").max() + 1
    other = raw.copy().apply_function(lambda part: part + last, picks=["part"])
    both = mne.concatenate_raws([raw, other.crop(min(1.0, other.times[-1] / 2))], verbose="ERROR")
    return both.set_annotations(None) if forget else both


def saved(raw, folder):
    raw.save(folder / "saved_raw.fif", overwrite=True, verbose="ERROR")
    return mne.io.read_raw_fif(folder / "saved_raw.fif", preload=True, verbose="ERROR")


CHANGES = {
    "filter": lambda raw, share, _: raw.filter(1.0, 30.0, verbose="ERROR"),
    "crop": lambda raw, share, _: raw.crop(share * 0.3 * raw.times[-1], (1 - share * 0.3) * raw.times[-1]),
    "resample": lambda raw, share, _: raw.resample([77.0, 100.0, 150.0][int(share * 2.9)], verbose="ERROR"),
    "pick": lambda raw, share, _: raw.pick(["C4", "C3", "part"]),
    "reference": lambda raw, share, _: raw.set_eeg_reference("average", verbose="ERROR"),
    "copy": lambda raw, share, _: raw.copy(),
    "concatenate": lambda raw, share, _: concatenated(raw, forget=False),
}
# what keeps the holes of files only, and of annotations only
FOR_FILES = CHANGES | {"forget annotations": lambda raw, share, _: concatenated(raw, forget=True)}
FOR_MARKS = CHANGES | {"save": lambda raw, share, folder: saved(raw, folder)}


def chains(changes):
    return st.lists(st.tuples(st.sampled_from(sorted(changes)), st.floats(0, 1)), max_size=4)


def check_no_window_crosses(raw):
    """In every window, all samples belong to one part; next to a hole, resampling may have mixed one sample."""
    try:
        batch = recorded()(raw, window_seconds=1.0, stride_seconds=0.25)
    except ValueError as error:
        assert "too short" in str(error)
        return
    recording, part = as_recording(raw), np.rint(raw.get_data("part")[0])
    for onset in batch.onsets:
        segment = recording.segments[recording.segment_of(onset, 0.98)]
        start = segment.start + round((onset - segment.onset) * recording.sampling_rate)
        mixed = int(recording.sampling_rate != RATE)
        inside = part[start + mixed : start + round(recording.sampling_rate) - mixed]
        start, end = segment.onset, segment.onset + (segment.stop - segment.start) / recording.sampling_rate
        last = segment is recording.segments[-1]
        assert start - 1e-9 <= onset and onset + 1.0 <= end + (0.5 / 64 if last else 0.5 / recording.sampling_rate)
        assert len(set(inside)) == 1, f"the window at {onset} s crosses from {inside[0]} to {inside[-1]}"
    assert len(recording.gaps) == sum(line.startswith("gap:") for line in batch.report.steps)


SLOW = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@SLOW
@given(parts=st.lists(st.integers(1, 9), min_size=2, max_size=4), missing=st.floats(0.1, 40), chain=chains(FOR_FILES))
def test_no_window_crosses_a_gap_of_a_file_whatever_mne_did(tmp_path, parts, missing, chain):
    raw = raw_in_parts(edf_in_parts(tmp_path / "gaps.edf", parts, [missing] * (len(parts) - 1)))
    raw.apply_function(lambda part: np.rint(part * 1e6), picks=["part"])
    for name, share in chain:
        raw = FOR_FILES[name](raw, share, tmp_path)
    check_no_window_crosses(raw)


@SLOW
@given(
    kinds=st.lists(
        st.sampled_from(["BAD boundary", "EDGE boundary", "boundary", "BAD_ACQ_SKIP", "EDGE_x", "New Segment/"]),
        min_size=1,
        max_size=3,
    ),
    chain=chains(FOR_MARKS),
)
def test_no_window_crosses_a_mark_whatever_mne_did(tmp_path, kinds, chain):
    raw = raw_with_marks(kinds)
    for name, share in chain:
        raw = FOR_MARKS[name](raw, share, tmp_path)
    check_no_window_crosses(raw)


def test_annotations_of_a_file_with_gaps_and_of_its_user(tmp_path):
    """The file's count by the clock, and MNE drops the late ones; a user's count in the joined signal."""
    path = edf_in_parts(tmp_path / "gap.edf", [10, 10], [30.0], [(12, 42.5, "late"), (15, 45.0, "BAD_file")])
    raw = mne.io.read_raw_edf(path, verbose="ERROR")
    events = [(onset, text) for onset, _, text in as_recording(raw).events if "x" not in text]
    assert events == [(42.5, "late"), (45.0, "BAD_file")]
    assert as_recording(raw).events == open_recording(path).events
    raw.set_annotations(mne.Annotations([8.0], [3.0], ["BAD_mine"]))
    assert (8.0, 33.0, "BAD_mine") in as_recording(raw).events  # 2 s before the gap, 1 s after it
    onsets = recorded()(raw.pick(NAMES), window_seconds=1.0).onsets.tolist()
    assert onsets == [*np.arange(8.0), 41.0, 42.0, 43.0, 44.0, *np.arange(45.0, 50.0)]


def test_gaps_that_are_marked_survive_saving(tmp_path):
    """By the function in docs/your-recording.md."""
    text = (ROOT / "docs" / "your-recording.md").read_text()
    (block,) = [block for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL) if "def mark_gaps" in block]
    exec(block, names := {})
    marked = names["mark_gaps"](edf_in_parts(tmp_path / "gap.edf", [7, 13], [30.0])).crop(2.0)
    assert [part.start / RATE for part in as_recording(saved(marked, tmp_path)).segments] == [0.0, 5.0]


def test_a_file_that_is_gone_and_a_position_that_is_lost(tmp_path):
    path = edf_in_parts(tmp_path / "gap.edf", [10, 10], [30.0])
    raw = raw_in_parts(path)
    assert any("reset_first_samp=True" in note for note in as_recording(raw.copy().crop(0.0, 12.0)).notes)
    path.unlink()
    assert as_recording(raw).notes == ["note: gap.edf is no longer there, so gaps inside it can't be seen"]


def test_a_record_that_comes_a_sample_late_is_no_gap(tmp_path):
    path = edf_in_parts(tmp_path / "a.edf", [5, 5], [1.0 / RATE])
    assert open_recording(path).gaps == []


def test_a_file_that_denies_its_gaps(tmp_path):
    """EDF+C promises that there are none; a clock of whole tenths takes its steps back and means nothing."""
    recording = open_recording(edf_in_parts(tmp_path / "a.edf", [5, 5], [7.0], kind=b"EDF+C"))
    assert recording.gaps == [(5.0, 12.0)]
    assert recording.notes == ["note: a.edf says that it has no gaps, but the clock of its records has some"]
    path = edf_in_parts(tmp_path / "b.edf", [1] * 10, [0.0, 0.3, -0.3] * 3, kind=b"EDF+C")
    assert open_recording(path).gaps == [] and open_recording(path).notes == []


def test_the_parts_of_a_split_file_are_one(tmp_path):
    raw = make_raw(np.tile(noise(300.0), (7, 1))[:20], [f"E{k}" for k in range(1, 21)], RATE)
    raw.save(tmp_path / "a_raw.fif", split_size="2MB", verbose="ERROR")
    read = mne.io.read_raw_fif(tmp_path / "a_raw.fif", preload=True, verbose="ERROR")
    assert len(read.filenames) > 1 and as_recording(read).gaps == []
    assert as_recording(read.resample(77.0)).gaps == []


# Epochs


def epochs_of(raw, seconds=2.0, **kwargs):
    events = np.array(
        [[raw.first_samp + round(k * seconds * RATE), 0, 1] for k in range(int(raw.times[-1] / seconds))]
    )
    arguments = {"tmin": 0.0, "tmax": seconds - 1 / RATE, "baseline": None} | kwargs
    return mne.Epochs(raw, events, **arguments, verbose="ERROR")


def test_epochs_that_are_not_loaded_are_read_in_a_copy():
    raw = noisy_raw(annotations=[(5.0, 0.5, "BAD_x")])
    epochs = epochs_of(raw)
    batch = recorded()(epochs)
    assert not epochs.preload
    np.testing.assert_array_equal(batch["input_values"], recorded()(epochs_of(raw, preload=True))["input_values"])
    assert batch["input_values"].shape == (8, 3, 128)
    assert step(batch.report, "epochs:") == "epochs: 8 kept, MNE dropped 1 for BAD_x"


def test_epochs_across_holes_and_marks_are_rejected(tmp_path):
    raw = noisy_raw(annotations=[(5.0, 0.5, "BAD_x"), (9.0, 0.0, "boundary")])
    epochs = epochs_of(raw, reject_by_annotation=False, preload=True)
    assert recorded()(epochs).kept.tolist() == [0, 1, 3, 5, 6, 7, 8]
    batch = recorded(reject_by_annotation=False)(epochs)
    assert batch.kept.tolist() == [0, 1, 2, 3, 5, 6, 7, 8]
    assert "rejected: 1 of 9 windows with a break inside" in batch.report.steps
    gapped = mne.io.read_raw_edf(edf_in_parts(tmp_path / "gap.edf", [7, 13], [30.0]), verbose="ERROR").crop(1.0)
    # the first of nine begins before the recording, the fourth reaches across the gap
    assert recorded()(epochs_of(gapped.pick(NAMES), tmin=-0.5, tmax=1.0)).kept.tolist() == [0, 1, 3, 4, 5, 6, 7]


def test_a_piece_without_a_good_channel_counts_only_if_it_has_a_window():
    pieces = noise(10.0).reshape(3, 5, -1).swapaxes(0, 1).copy()
    pieces[2] = 0.0
    events = np.array([[k * 2 * RATE, 0, 1] for k in range(5)])
    epochs = mne.EpochsArray(pieces, mne.create_info(NAMES, RATE, "eeg"), events)
    with pytest.raises(ValueError, match=r"All channels are bad in the pieces \[2\].*Leave these pieces out"):
        recorded()(epochs)
    epochs.set_annotations(mne.Annotations([4.0], [1.0], ["BAD"]))
    assert recorded()(epochs).kept.tolist() == [0, 1, 3, 4]
    assert recorded()(epochs)["channel_mask"].all()


# Channels that are no scalp EEG


@pytest.mark.parametrize(
    ("kind", "why"),
    [
        ("csd", "current source density"),
        ("ecog", "inside the skull"),
        ("seeg", "inside the skull"),
        ("dbs", "inside the skull"),
        ("mag", "MEG"),
        ("grad", "MEG"),
        ("ref_meg", "MEG"),
        ("hbo", "fNIRS"),
        ("misc", "misc"),
    ],
)
def test_types_that_are_no_scalp_eeg_are_named(tmp_path, kind, why):
    raw, some = noisy_raw(types=kind), noisy_raw(types=["eeg", kind, "eeg"])
    epochs = mne.make_fixed_length_epochs(raw, 2.0, preload=True, verbose="ERROR")
    raw.save(tmp_path / "a_raw.fif", verbose="ERROR")
    for montage in ("as_recorded", ["C3", "C4"]):
        for thing in (raw, epochs, tmp_path / "a_raw.fif"):
            with pytest.raises(ValueError, match=rf"C3, Cz, C4 of type {kind}.*") as caught:
                NeurIPTFeatureExtractor(montage=montage)(thing)
            assert why in str(caught.value) and ("set_channel_types" in str(caught.value)) == (kind != "csd")
    report = recorded()(some).report
    assert report.dropped["Cz"].startswith(f"of type {kind}") and why in report.dropped["Cz"]
    with pytest.raises(ValueError, match=f"Cz of type {kind}"):
        NeurIPTFeatureExtractor(montage=["C3", "Cz"])(some)
    if kind != "csd":  # what the error advises
        recorded()(noisy_raw(types=kind).set_channel_types(dict.fromkeys(NAMES, "eeg"), verbose="ERROR"))


def test_results_that_mne_computes_are_no_recordings():
    raw = noisy_raw()
    epochs = epochs_of(raw, preload=True)
    for thing in (epochs.average(), raw.compute_psd(verbose="ERROR"), epochs.compute_psd(verbose="ERROR")):
        with pytest.raises(ValueError, match=f"got mne's {type(thing).__name__}.*Pass the Raw or the Epochs"):
            recorded()(thing, sampling_rate=RATE, channel_names=NAMES, unit="uV")
        with pytest.raises(ValueError, match=f"got mne's {type(thing).__name__}"):
            recorded()([raw, thing])
    raw.info["bads"] = list(NAMES)
    with pytest.raises(ValueError, match=r"All channels are bad \(marked as bad\)"):
        recorded()(raw)


def test_interpolation_from_too_few_good_channels_is_masked():
    names = ["F3", "F4", "P3", "P4", "C3"]
    raw = noisy_raw(names=names)
    extractor = NeurIPTFeatureExtractor(montage=["F3", "F4", "Cz"], on_missing="interpolate")
    assert extractor(raw)["channel_mask"].all()
    raw.info["bads"] = ["P3", "P4"]
    batch = extractor(raw)
    assert batch["channel_mask"].all(axis=0).tolist() == [True, True, False]
    assert batch.report.channels[2].masked == "fewer than 4 good electrodes to interpolate from"
    raw.info["bads"] = list(names)
    with pytest.raises(ValueError, match="All channels are bad"):
        extractor(raw)


# Nothing is left out without a line


def seconds_in(report, pattern):
    return sum(float(found[1]) for line in report.steps if (found := re.search(pattern, line)))


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_every_channel_and_every_second_is_in_the_batch_or_in_the_report(data):
    """Each channel makes an output or has a line, each second is in a window or counted: all add up to the whole."""
    pool = ["C3", "c4", "EEG Cz-REF", "ECG", "Status", "X17", "Pz", "T3", "T7", "EMG1", "O1"]
    names = data.draw(st.lists(st.sampled_from(pool), min_size=3, max_size=8, unique=True))
    types = [data.draw(st.sampled_from(["eeg"] * 6 + ["seeg", "misc", "eog"])) for _ in names]
    seconds = data.draw(st.integers(6, 30))
    raw = make_raw(noise(seconds, names), names, RATE, types)
    raw.info["bads"] = names[:1] if data.draw(st.booleans()) else []
    text = st.sampled_from(["BAD_x", "bad", "BAD_ACQ_SKIP", "boundary", "EDGE boundary", "left", "New Segment/"])
    sample = st.integers(0, seconds * RATE - 1)
    marks = data.draw(st.lists(st.tuples(sample, st.integers(0, 4 * RATE), text), max_size=4))
    if marks:
        onsets, lengths, texts = zip(*marks, strict=True)
        lengths = [min(length, seconds * RATE - onset) for onset, length in zip(onsets, lengths, strict=True)]
        raw.set_annotations(mne.Annotations(np.array(onsets) / RATE, np.array(lengths) / RATE, texts))
    lost = data.draw(st.none() | st.tuples(sample, st.integers(1, 2 * RATE)))
    if lost:
        raw._data[:, lost[0] : lost[0] + lost[1]] = np.nan
    try:
        batch = recorded()(raw, window_seconds=1.0)
    except ValueError as error:
        assert re.search("too short|No EEG channel|No channel name|marked as|name the same place|are bad", str(error))
        return
    report = batch.report
    used = {source.number for row in report.channels for source in row.sources}
    assert {names[k] for k in used}.isdisjoint(report.dropped)
    assert {names[k] for k in used} | set(report.dropped) == set(names)
    assert batch["input_values"].shape[1] == len(report.channels)
    masked = [bool(row.masked) for row in report.channels]
    assert (batch["channel_mask"] == ~np.array(masked)).all()

    rejected = seconds_in(report, r"(\d+) of \d+ windows rejected")
    rest = seconds_in(report, r"([\d.]+) s do not fill a window")
    ends = sum(
        float(f[1]) for line in report.steps if (f := re.search(r"the (?:first|last) (\S+) s are skipped", line))
    )
    gaps = [re.match(r"gap: (\S+) to (\S+) s", line) for line in report.steps]
    between = sum(float(gap[2]) - float(gap[1]) for gap in gaps if gap)
    total = len(batch["input_values"]) + rejected + rest + ends + between
    assert total == pytest.approx(seconds, abs=0.05 * (1 + len(as_recording(raw).segments)))
