"""Windows on disk: codes, random access, streams, and batches of windows of different shapes."""

import pickle

import mne
import numpy as np
import pandas as pd
import pytest
import torch
from conftest import small_config, write_recording
from datasets.distributed import split_dataset_by_node
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from torch.utils.data import DataLoader
from transformers import TrainingArguments

from neuript_hf import (
    DataCollatorForAmplitudeAwareMasking,
    DataCollatorForEEG,
    NeurIPTFeatureExtractor,
    NeurIPTForPreTraining,
    NeurIPTTrainer,
)
from neuript_hf.data.preparation import RejectionRules, prepare_dataset
from neuript_hf.data.shards import EEGShardDataset, decode_windows, encode_windows, read_outcomes, stream_windows


CHANNELS = ["Fz", "C3", "Cz", "C4", "Pz"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Six recordings of three, four and five channels, two in each shard, 4 / 1 / 1 by split."""
    folder = tmp_path_factory.mktemp("shards")
    rows = []
    for number, split in enumerate(["train"] * 4 + ["val", "test"]):
        write_recording(folder / f"{number}_raw.fif", number, seconds=20.0, names=CHANNELS[: 3 + number % 3])
        rows.append({"file": f"{number}_raw.fif", "subject": number, "split": split, "dataset": "noise"})
    pd.DataFrame(rows).to_csv(folder / "manifest.csv", index=False)
    extractor = NeurIPTFeatureExtractor(montage="as_recorded", window_seconds=2.0)
    rules = RejectionRules(min_recording_seconds=0, trim_seconds=0, max_microvolts=None)
    prepare_dataset(folder / "manifest.csv", extractor, folder / "out", rules=rules, recordings_per_shard=2)
    return folder / "out"


WINDOWS = arrays(np.float32, (2, 3, 16), elements=st.floats(-8, 8, width=32))


@given(WINDOWS, st.sampled_from(["int8", "int16"]))
@settings(max_examples=60, deadline=None)
def test_codes_are_within_half_a_step(windows, encoding):
    codes, scales = encode_windows(windows, encoding)
    assert codes.dtype == np.dtype(encoding) and codes.shape == windows.shape
    decoded = decode_windows(codes, scales)
    assert decoded.dtype == np.float32
    steps = np.abs(windows).max(axis=(1, 2)) / np.iinfo(encoding).max
    assert (np.abs(decoded - windows) <= 0.51 * steps[:, None, None] + 1e-20).all()
    assert (decoded[windows == 0] == 0).all()
    np.testing.assert_array_equal(encode_windows(-windows, encoding)[0], -codes)


@given(WINDOWS)
@settings(max_examples=20, deadline=None)
def test_float32_loses_nothing(windows):
    np.testing.assert_array_equal(decode_windows(*encode_windows(windows, "float32")), windows)


def test_windows_that_cannot_be_encoded():
    with pytest.raises(ValueError, match="encoding must be one of int16, int8, float32, but is 'int4'"):
        encode_windows(np.zeros((1, 2, 3)), "int4")
    windows = np.zeros((3, 2, 8))
    windows[1, 0, 3] = np.nan
    with pytest.raises(ValueError, match=r"windows \[1\] hold NaN"):
        encode_windows(windows, "int8")


def test_random_access_gives_the_windows_of_the_extractor(folder):
    dataset = EEGShardDataset(folder)
    assert len(dataset) == 60
    extractor = NeurIPTFeatureExtractor(montage="as_recorded", window_seconds=2.0)
    for index in (0, 9, 10, 37, -1):
        window = dataset[index]
        batch = extractor(mne.io.read_raw(folder.parent / window["recording"]))
        expected = {name: values[round(window["onset"] / 2)] for name, values in batch.items()}
        step = np.abs(expected["input_values"]).max() / np.iinfo(np.int16).max
        np.testing.assert_allclose(window["input_values"], expected["input_values"], atol=0.51 * step, rtol=0)
        for name in ("electrode_positions", "lobe_mask", "channel_mask"):
            np.testing.assert_array_equal(window[name], expected[name])
    assert dataset[37]["recording"] == "3_raw.fif" and dataset[37]["onset"] == 14.0
    assert dataset[37]["subject"] == "noise/3"
    with pytest.raises(IndexError, match="There are 60 windows"):
        dataset[60]


def test_the_table_of_recordings_gives_the_place_of_windows(folder):
    dataset = EEGShardDataset(folder)
    for row in dataset.recordings.itertuples():
        window = dataset[row.first + row.windows - 1]
        assert window["recording"] == row.recording and window["subject"] == row.subject
        assert window["input_values"].shape == (row.channels, row.samples)


def test_splits(folder):
    parts = {split: EEGShardDataset(folder, split) for split in ("train", "validation", "test")}
    assert {split: len(part) for split, part in parts.items()} == {"train": 40, "validation": 10, "test": 10}
    assert {window["recording"] for window in parts["test"]} == {"5_raw.fif"}
    with pytest.raises(ValueError, match=r"No recording .* 'dev'; its splits are \['test'"):
        EEGShardDataset(folder, "dev")


def test_channel_reports_are_kept(folder):
    outcomes = list(read_outcomes(folder))
    assert [outcome.recording for outcome in outcomes] == [f"{number}_raw.fif" for number in range(6)]
    assert outcomes[1].channels == CHANNELS[:4]
    assert "rate: 128 Hz to 64 Hz" in outcomes[0].report["steps"]


def test_other_processes_open_it_anew(folder):
    dataset = EEGShardDataset(folder)
    first = dataset[0]["input_values"]  # a shard is open now
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(dataset))[0]["input_values"], first)
    loader = DataLoader(dataset, batch_size=4, num_workers=2, collate_fn=DataCollatorForEEG())
    batches = torch.cat(
        [torch.nn.functional.pad(b["input_values"], (0, 0, 0, 5 - b["input_values"].shape[1])) for b in loader]
    )
    for index, window in enumerate(dataset):
        values = torch.from_numpy(window["input_values"])
        assert torch.equal(batches[index, : len(values)], values)


def key(window):
    return window["recording"], window["onset"]


def test_a_stream_gives_every_window_once(folder):
    everything = [key(window) for window in EEGShardDataset(folder)]
    stream = stream_windows(folder)
    assert [key(window) for window in stream] == everything
    np.testing.assert_array_equal(next(iter(stream))["input_values"], EEGShardDataset(folder)[0]["input_values"])
    parts = [split_dataset_by_node(stream, rank, 3) for rank in range(3)]
    assert all(len(list(part)) == 20 for part in parts)
    assert sorted(key(window) for part in parts for window in part) == sorted(everything)
    loader = DataLoader(stream, batch_size=None, num_workers=2)
    assert sorted(key(window) for window in loader) == sorted(everything)
    shuffled = [key(window) for window in stream.shuffle(seed=1, buffer_size=30)]
    assert shuffled != everything and sorted(shuffled) == sorted(everything)
    assert {window["recording"] for window in stream_windows(folder, "validation")} == {"4_raw.fif"}


def test_a_stream_resumes_where_it_stopped(folder):
    stream = stream_windows(folder)
    reader = iter(stream)
    head = [key(next(reader)) for _ in range(27)]
    again = stream_windows(folder)
    again.load_state_dict(stream.state_dict())
    assert head + [key(window) for window in again] == [key(window) for window in EEGShardDataset(folder)]


@pytest.mark.slow
@pytest.mark.parametrize("source", [EEGShardDataset, stream_windows])
def test_trainer_takes_it(folder, source, tmp_path):
    trainer = NeurIPTTrainer(
        model=NeurIPTForPreTraining(small_config()),
        args=TrainingArguments(tmp_path, max_steps=3, per_device_train_batch_size=4, report_to=[], logging_steps=1),
        train_dataset=source(folder, "train"),
        data_collator=DataCollatorForAmplitudeAwareMasking(),
    )
    assert np.isfinite(trainer.train().training_loss)


def test_folders_without_a_complete_data_set(folder, tmp_path):
    with pytest.raises(FileNotFoundError, match="dataset.json is missing. Make one with prepare_dataset"):
        EEGShardDataset(tmp_path)
    (tmp_path / "dataset.json").write_text((folder / "dataset.json").read_text())
    with pytest.raises(
        ValueError, match="3 of 3 shards are missing, the first: .*00000.safetensors.*resumes where it stopped"
    ):
        stream_windows(tmp_path)
