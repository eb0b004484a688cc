"""Live streams: rows as offline whatever the chunks, drop-outs, drift, and real LSL streams of mne-lsl."""

import signal as signals
import sys
import threading
import time
import uuid
from itertools import islice

import live as program
import mne
import numpy as np
import pandas as pd
import pytest
import torch
from conftest import make_raw, small_config
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import pipeline

from neuript_hf import NeurIPTFeatureExtractor, NeurIPTForSequenceClassification, NeurIPTModel, save_checkpoint
from neuript_hf.integrations.streaming import LSLChunks, Replay, live_rows


NAMES, RATE = ["C3", "Cz", "C4", "Pz"], 100.0
DESCRIBED = {"sampling_rate": RATE, "channel_names": NAMES, "unit": "uV"}
# A high-pass of 3.3 s, so that the buffer moves on within a short signal.
SETTINGS = {"montage": "as_recorded", "l_freq": 1.0, "window_seconds": 1.0, "filter_phase": "minimum"}


def make_signal(seconds: float = 20.0) -> np.ndarray:
    """Noise on a drift and an offset, in microvolts."""
    rng = np.random.default_rng(0)
    shape = len(NAMES), round(seconds * RATE)
    return rng.normal(0, 10, shape) + np.cumsum(rng.normal(0, 1, shape), axis=1) + 500.0


@pytest.fixture(scope="module")
def signal():
    return make_signal()


@pytest.fixture(scope="module")
def pipe():
    torch.manual_seed(0)
    model = NeurIPTForSequenceClassification(small_config())
    torch.nn.init.normal_(model.classifier.weight, std=0.1)
    return pipeline("eeg-classification", model=model, feature_extractor=NeurIPTFeatureExtractor(**SETTINGS))


@pytest.fixture(scope="module")
def windows(pipe):
    """A pipeline whose embeddings are the windows themselves: the filters are compared without a network."""
    embed = pipeline("eeg-embedding", model=NeurIPTModel(small_config()), feature_extractor=pipe.feature_extractor)
    embed._forward = lambda inputs: {
        **{name: inputs[name] for name in ("is_last", "name", "onset", "duration", "report")},
        "embedding": inputs["input_values"],
    }
    return embed


def in_chunks(signal, sizes, times=None):
    """The signal in chunks of these sizes, again and again."""
    start = 0
    while start < signal.shape[1]:
        for size in sizes:
            part = slice(start, start + size)
            yield signal[:, part] if times is None else (signal[:, part], times[part])
            start += size


def answered(rows):
    return [row for row in rows if "scores" in row or "embedding" in row]


# Rows are those of the recording


@settings(max_examples=5, deadline=None)
@given(st.lists(st.integers(1, 900), min_size=1, max_size=4))
def test_live_windows_are_offline_windows_whatever_the_chunks(windows, sizes):
    signal = make_signal()
    extractor = windows.feature_extractor
    offline = extractor(signal, stride_seconds=0.73, **DESCRIBED)
    rows = list(live_rows(windows, in_chunks(signal, sizes), stride_seconds=0.73, **DESCRIBED))
    np.testing.assert_allclose([row["onset"] for row in rows], offline.onsets, atol=0.51 / 64)
    live = np.stack([row["embedding"] for row in rows])
    np.testing.assert_allclose(live, offline["input_values"], atol=1e-6)
    assert not any(row["problems"] for row in rows) and rows[2]["history"] == pytest.approx(1.46, abs=1 / 64)
    assert rows[-1]["history"] == extractor.history_seconds(RATE)


def test_with_zero_phase_rows_are_those_of_the_recording_cut_off(pipe, signal):
    zero = NeurIPTFeatureExtractor(**SETTINGS | {"filter_phase": "zero"})
    cut = pipeline("eeg-classification", model=pipe.model, feature_extractor=zero)
    rows = list(live_rows(cut, in_chunks(signal, [61]), stride_seconds=6.0, **DESCRIBED))
    assert len(rows) == 4
    for row in rows:
        end = round((row["onset"] + 1) * RATE)
        (expected,) = cut(signal[:, :end], onsets=[row["onset"]], **DESCRIBED)
        assert row["scores"] == pytest.approx(expected["scores"], abs=1e-4)


def test_rows_of_a_replayed_recording_are_those_of_the_pipeline(pipe, signal):
    raw = make_raw(signal[:, :600] * 1e-6, NAMES, RATE)
    raw.set_annotations(mne.Annotations([2.5], [0.0], ["boundary"]))
    offline = pipe(raw)
    live = answered(live_rows(pipe, Replay(raw, speed=None)))
    assert [row["onset"] for row in live] == pytest.approx([row["onset"] for row in offline])
    for row, expected in zip(live, offline, strict=True):
        assert row["label"] == expected["label"] and row["scores"] == pytest.approx(expected["scores"], abs=1e-5)


def test_a_replay_keeps_the_pace(pipe, signal):
    start = time.monotonic()
    rows = list(live_rows(pipe, Replay(signal[:, :240], **DESCRIBED, speed=4.0), stride_seconds=1.0))
    assert len(rows) == 2 and time.monotonic() - start > 0.58


def test_bad_channels_are_masked_while_the_filters_remember_them(pipe, signal):
    spoilt = signal.copy()
    spoilt[1, 300:350] = np.nan
    rows = list(live_rows(pipe, in_chunks(spoilt, [37]), **DESCRIBED))
    masked = [bool(row["problems"]) for row in rows]
    assert rows[3]["problems"] == ["Cz masked: Cz NaN or infinite"] and "label" in rows[3]
    # until the window and what the filters look back on are past it
    clean = int(3.5 + pipe.feature_extractor.history_seconds(RATE)) + 1
    assert masked == [3 <= index < clean for index in range(20)]


# Missing time


@pytest.mark.parametrize("lost", [1, 7, 130])
def test_no_window_bridges_a_drop_out_and_each_second_has_a_row(pipe, signal, lost):
    times = np.arange(signal.shape[1]) / RATE
    kept = np.r_[:520, 520 + lost : 1000]
    rows = list(live_rows(pipe, in_chunks(signal[:, kept], [13], times[kept]), **DESCRIBED))
    again = 5.2 + lost / RATE
    for row in rows:
        assert ("label" in row) == (row["onset"] + 1 <= 5.2 or row["onset"] > again - 1e-6)
        assert ("label" in row) != (row["problems"] == [f"drop-out: {lost / RATE:.3g} s missing before {again:.3f} s"])
    assert np.diff([row["onset"] for row in rows]).max() < 1.0 + max(1.0, lost / RATE)
    after = pipe(signal[:, 520 + lost : 1000], **DESCRIBED)
    resumed = [row for row in answered(rows) if row["onset"] > 5.2]
    assert [row["onset"] for row in resumed] == pytest.approx([row["onset"] + again for row in after])
    assert resumed[0]["scores"] == pytest.approx(after[0]["scores"], abs=1e-5)


def test_samples_without_a_number_are_missing_ones(pipe, signal):
    spoilt = signal[:, :600].copy()
    spoilt[:, 250:260] = np.nan
    rows = list(live_rows(pipe, in_chunks(spoilt, [50]), **DESCRIBED))
    assert [row["onset"] for row in answered(rows)] == pytest.approx([0, 1, 2.6, 3.6, 4.6])
    assert [row["problems"] for row in rows if "label" not in row] == [["drop-out: 0.1 s missing before 2.600 s"]]


def test_small_losses_are_noticed_when_they_add_up(pipe, signal):
    """Two samples of ten are lost, again and again; each step is within the jitter."""
    kept = np.flatnonzero(np.arange(600) % 10 < 8)
    rows = list(live_rows(pipe, in_chunks(signal[:, kept], [8], kept / RATE), **DESCRIBED, jitter_seconds=0.05))
    assert len(rows) == 4 and all("times: 1.23" in row["problems"][0] for row in rows)


def test_jitter_is_no_drop_out(pipe, signal):
    """Packets of 25 samples that come up to 40 ms late."""
    late = np.repeat(np.random.default_rng(1).uniform(0, 0.04, 24), 25)
    times = np.arange(600) / RATE + late
    rows = list(live_rows(pipe, in_chunks(signal[:, :600], [25], times), **DESCRIBED, jitter_seconds=0.05))
    assert len(rows) == 6 and not any(row["problems"] for row in rows)


def test_a_clock_that_is_off_by_little_moves_onsets_and_by_much_is_refused(pipe):
    signal = make_signal(35.0)

    def rows(share):
        times = 100.0 + np.arange(signal.shape[1]) / (RATE * share)
        return list(live_rows(pipe, in_chunks(signal, [500], times), stride_seconds=8.0, **DESCRIBED))

    drifting = rows(1.005)
    assert [row["onset"] for row in drifting] == pytest.approx([100 + 8 * k / 1.005 for k in range(5)])
    assert not any(row["problems"] for row in drifting)
    with pytest.raises(ValueError, match="has 103.00 samples a second, but it says 100"):
        rows(1.03)


def test_a_clock_that_goes_back_begins_a_new_run(pipe, signal):
    times = np.arange(600) / RATE
    times[300:] -= 3.0
    rows = list(live_rows(pipe, in_chunks(signal[:, :600], [30], times), **DESCRIBED))
    assert [row["onset"] for row in answered(rows)] == pytest.approx([0, 1, 2, 0, 1, 2])
    assert rows[3]["problems"] == ["drop-out: time goes back by 3 s before 0.000 s"]


# What is refused


def test_what_does_not_fit_is_refused_before_the_first_sample(pipe):
    for given_, words in (
        ({}, "An array needs sampling_rate, channel_names, unit"),
        (DESCRIBED | {"sampling_rate": 50.0}, "50 Hz is too low"),
        (DESCRIBED | {"channel_names": ["A", "B", "C", "D"]}, "No channel name is recognised"),
        (DESCRIBED | {"stride_seconds": 0.0}, "stride_seconds must be a positive number"),
        (DESCRIBED | {"stride_seconds": 0.01}, "at least 0.015625 s"),
    ):
        with pytest.raises(ValueError, match=words):
            live_rows(pipe, None, **given_)


def test_chunks_that_do_not_fit(pipe, signal):
    times = np.arange(100) / RATE
    for chunks, words in (
        ([signal[:3]], r"Expected chunks \[4, n\] with the channels C3, Cz, C4, Pz, got \[3, 2000\]"),
        ([(signal[:, :100], times[:50])], "got \\[50\\] times"),
        ([(signal[:, :100], times * np.nan)], "100 of them not finite"),
        ([(signal[:, :100], times), signal[:, 100:200]], "Some chunks have times and some have none"),
    ):
        with pytest.raises(ValueError, match=words):
            list(live_rows(pipe, chunks, **DESCRIBED))


# The lab streaming layer


@pytest.fixture
def player(signal):
    """Starts players of the signal, in volts or in a unit, all under one name, and stops them at the end."""
    pytest.importorskip("mne_lsl")
    from mne_lsl.player import PlayerLSL

    name, started = uuid.uuid4().hex, []

    def start(unit=None):
        raw = make_raw(signal * (1.0 if unit else 1e-6), NAMES, RATE)
        player = PlayerLSL(raw, chunk_size=10, name=name, source_id=uuid.uuid4().hex)
        if unit:
            player.set_channel_units(dict.fromkeys(NAMES, unit))
        started.append(player.start())
        return player

    start.name = name
    yield start
    for one in started:
        if one.running:
            one.stop()


def test_an_lsl_stream_that_goes_and_comes_back(pipe, player):
    first = player()
    with LSLChunks(player.name, silent_seconds=0.2, away_seconds=10.0) as chunks:
        assert (chunks.like.names, chunks.like.sampling_rate, chunks.like.unit) == (NAMES, RATE, "V")
        live = live_rows(pipe, chunks, window_seconds=0.5, stride_seconds=0.25)
        rows = list(islice(live, 2))
        assert all("label" in row and not row["problems"] and -0.5 < row["delay"] < 5 for row in rows)
        first.stop()
        second = player()
        away = next(row for row in live if row["problems"])
        assert "label" not in away and "s missing before" in away["problems"][0]
        back = next(row for row in live if "label" in row)
        assert back["onset"] > rows[-1]["onset"] and back["history"] == 0.0
        second.stop()
        player(unit="uv")
        with pytest.raises(ValueError, match="came back as another: .* in uV, before .* in V"):
            list(live)


def test_an_lsl_stream_of_packets(pipe, signal):
    """Of a device that says little, with a lost packet; the rows are those of the recording."""
    lsl = pytest.importorskip("mne_lsl.lsl")
    name = uuid.uuid4().hex
    info = lsl.StreamInfo(name, "EEG", len(NAMES), RATE, "float32", name)
    outlet = lsl.StreamOutlet(info)
    with pytest.raises(ValueError, match="does not state the unit of its EEG channels. Say it: unit='uV'"):
        LSLChunks(name)
    start = lsl.local_clock()
    with LSLChunks(name, unit="uV", channel_names=NAMES, silent_seconds=0.2, away_seconds=0.4) as chunks:
        outlet.wait_for_consumers(5)
        for packet in range(0, 600, 20):
            if packet != 300:
                samples = np.ascontiguousarray(signal[:, packet : packet + 20].T, dtype=np.float32)
                outlet.push_chunk(samples, start + (packet + 19) / RATE)
        live = live_rows(pipe, chunks)
        rows = list(islice(live, 6))
        del outlet, info
        assert list(live) == []
    times = np.array([row["onset"] for row in rows]) - start
    assert times == pytest.approx([0, 1, 2, 3, 3.2, 4.2], abs=0.01)
    expected = pipe(signal[:, :300], **DESCRIBED) + pipe(signal[:, 320:600], **DESCRIBED)
    for row, offline in zip(answered(rows), expected, strict=True):
        assert row["scores"] == pytest.approx(offline["scores"], abs=1e-3)


def test_no_lsl_stream():
    pytest.importorskip("mne_lsl")
    with pytest.raises(ConnectionError, match="No single LSL stream within 0.1 s.*0 were found"):
        LSLChunks(uuid.uuid4().hex, wait_seconds=0.1)


# The program


@pytest.mark.parametrize("is_interrupted", [False, True])
def test_the_program_replays_a_recording_and_ends_cleanly(pipe, tmp_path, monkeypatch, capsys, signal, is_interrupted):
    save_checkpoint(pipe.model, pipe.feature_extractor, tmp_path / "checkpoint")
    make_raw(signal[:, :350] * 1e-6, NAMES, RATE).save(tmp_path / "recording_raw.fif")
    options = {"--replay": tmp_path / "recording_raw.fif", "--model": tmp_path / "checkpoint", "--speed": 0.1}
    if is_interrupted:
        ctrl_c = threading.Timer(0.2, signals.raise_signal, [signals.SIGINT])
        monkeypatch.setattr(program, "live_rows", lambda *args, **kwargs: ctrl_c.start() or live_rows(*args, **kwargs))
    else:
        options |= {"--speed": 100, "--output": tmp_path / "rows.parquet"}
    monkeypatch.setattr(sys, "argv", ["live.py", *(str(part) for pair in options.items() for part in pair)])
    handler = signals.signal(signals.SIGINT, signals.default_int_handler)  # pytest-xdist ignores the signal
    program.main()
    signals.signal(signals.SIGINT, handler)
    printed = capsys.readouterr().out
    if is_interrupted:
        assert printed == "stopped\nno window was complete\n"
    else:
        assert "minimum phase" in printed and printed.count(" s late") == 3
        assert "3 windows, 0 of them left out" in printed and "the same live and offline" in printed
        assert pd.read_parquet(tmp_path / "rows.parquet")["onset"].tolist() == pytest.approx([0, 1, 2])
