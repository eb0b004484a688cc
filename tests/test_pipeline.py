"""From a recording to rows."""

import mne
import numpy as np
import pandas as pd
import pytest
import torch
from conftest import make_epochs, make_raw, small_config
from transformers import pipeline

from neuript_hf import (
    EEGPipeline,
    NeurIPTFeatureExtractor,
    NeurIPTForPreTraining,
    NeurIPTForSequenceClassification,
    save_checkpoint,
)


CHANNELS = ["C3", "Cz", "C4", "Pz"]


@pytest.fixture(scope="module")
def signal():
    """95 seconds of noise, in volts."""
    return np.random.default_rng(0).normal(0, 1e-5, (4, 95 * 128))


@pytest.fixture
def raw(signal):
    return make_raw(signal, CHANNELS)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A checkpoint with three classes for any recording."""
    folder = tmp_path_factory.mktemp("checkpoint")
    model = NeurIPTForSequenceClassification(small_config(id2label={0: "rest", 1: "left", 2: "right"}))
    torch.nn.init.normal_(model.classifier.weight, std=0.1)  # answers that differ from window to window
    save_checkpoint(model, NeurIPTFeatureExtractor(montage="as_recorded"), folder)
    return folder


@pytest.fixture(scope="module")
def classify(folder):
    return pipeline("eeg-classification", model=str(folder))


def test_rows_of_a_recording(classify, raw):
    rows = classify(raw)
    assert [row["onset"] for row in rows] == [4.0 * index for index in range(23)]
    for row in rows:
        assert row["duration"] == 4.0 and row["label"] in ("rest", "left", "right")
        assert row["score"] == max(row["scores"].values()) and sum(row["scores"].values()) == pytest.approx(1)
    assert len({row["score"] for row in rows}) == 23
    assert pd.DataFrame(rows).shape == (23, 5)


def test_path_raw_and_array_agree(classify, raw, signal, tmp_path):
    """The pipeline takes the extractor's arguments."""
    raw.save(tmp_path / "sub-1_raw.fif")
    np.save(tmp_path / "a.npy", signal * 1e6)
    described = {"sampling_rate": 128.0, "channel_names": CHANNELS, "unit": "uV"}
    rows = classify(raw)
    for other in (
        classify(str(tmp_path / "sub-1_raw.fif")),
        classify(tmp_path / "a.npy", **described),
        classify(signal * 1e6, **described),
    ):
        assert [row["label"] for row in other] == [row["label"] for row in rows]
        assert [row["score"] for row in other] == pytest.approx([row["score"] for row in rows], abs=1e-4)


def test_rows_are_the_models_outputs(classify, folder, raw):
    extractor = NeurIPTFeatureExtractor.from_pretrained(folder)
    model = NeurIPTForSequenceClassification.from_pretrained(folder).eval()
    with torch.no_grad():
        expected = model(**extractor(raw, return_tensors="pt")).logits.softmax(-1)
    scores = torch.tensor([list(row["scores"].values()) for row in classify(raw)])
    torch.testing.assert_close(scores, expected, atol=1e-5, rtol=0)


def test_blocks_and_batches_change_nothing(folder, raw):
    """
    A recording read in blocks gives the rows of the recording read at once. The signals differ by a ten-thousandth,
    which can still send a token to another expert: embeddings move by a hundredth of what lies between windows.
    """
    embed = pipeline("eeg-embedding", model=str(folder))
    whole = embed(raw, block_seconds=1000, windows_per_batch=64)
    blocks = embed(raw, block_seconds=20, windows_per_batch=3)
    assert len(embed.reports) == 5
    assert [row["onset"] for row in blocks] == [row["onset"] for row in whole]
    vectors, again = (np.stack([row["embedding"] for row in rows]) for rows in (whole, blocks))
    assert np.linalg.norm(again - vectors) < 0.02 * np.linalg.norm(vectors - vectors.mean(axis=0))


def test_no_row_crosses_a_gap(classify, raw):
    raw.set_annotations(mne.Annotations([10.0], [0.0], ["BAD boundary"]))
    onsets = [row["onset"] for row in classify(raw, block_seconds=20)]
    assert onsets == [0.0, 4.0, *(10.0 + 4.0 * index for index in range(21))]


def test_pieces_are_rows(classify, signal):
    pieces = signal[:, : 9 * 256].reshape(4, 9, 256).swapaxes(0, 1)
    rows = classify(make_epochs(pieces, CHANNELS))
    assert [(row["onset"], row["duration"]) for row in rows] == [(2.0 * index, 2.0) for index in range(9)]


def test_overlapping_windows_and_another_length(classify, raw):
    rows = classify(raw, window_seconds=2.0, stride_seconds=0.5)
    assert len(rows) == 187 and rows[3]["onset"] == 1.5 and rows[3]["duration"] == 2.0


def test_several_recordings(classify, raw):
    first, second = classify([raw, raw.copy().crop(0, 40)])
    assert len(first) == 23 and len(second) == 10


@pytest.mark.parametrize("model_class", [NeurIPTForSequenceClassification, NeurIPTForPreTraining])
def test_embeddings(model_class, raw, tmp_path):
    """Any of the models gives embeddings: the lobe-pooled vectors of its encoder."""
    model, extractor = model_class(small_config()).eval(), NeurIPTFeatureExtractor(montage="as_recorded")
    save_checkpoint(model, extractor, tmp_path)
    rows = pipeline("eeg-embedding", model=str(tmp_path))(raw)
    with torch.no_grad():
        expected = model.neuript(**extractor(raw, return_tensors="pt")).pooler_output
    embeddings = torch.tensor(np.stack([row["embedding"] for row in rows]))
    assert embeddings.shape == (23, 7 * 5 * 16) and rows[2]["onset"] == 8.0
    torch.testing.assert_close(embeddings, expected, atol=1e-4, rtol=1e-5)


def test_balanced_bce_scores_are_sigmoids(raw):
    model = NeurIPTForSequenceClassification(small_config(loss_type="balanced_bce")).eval()
    extractor = NeurIPTFeatureExtractor(montage="as_recorded")
    rows = EEGPipeline(model, feature_extractor=extractor, task="eeg-classification")(raw)
    assert sum(rows[0]["scores"].values()) != pytest.approx(1, abs=1e-3)


def test_errors_say_what_to_do(classify, raw, tmp_path):
    with pytest.raises(FileNotFoundError, match="No recording at"):
        classify(tmp_path / "none.edf")
    with pytest.raises(ValueError, match="lasts 2.008 s, less than one window of 4 s"):
        classify(raw.copy().crop(0, 2))
    with pytest.raises(TypeError, match="unexpected keyword argument 'window_second'"):
        classify(raw, window_second=2.0)
