"""From recordings to rows."""

import mne
import numpy as np
import pandas as pd
import pytest
import torch
from conftest import COMPACT, ROOT, make_epochs, make_raw, small_config, write_recording
from datasets import Dataset
from peft import LoraConfig, get_peft_model
from transformers import pipeline, set_seed
from transformers.modeling_outputs import SequenceClassifierOutput
from transformers.pipelines.pt_utils import KeyDataset

from neuript_hf import (
    EEGPipeline,
    NeurIPTFeatureExtractor,
    NeurIPTForPreTraining,
    NeurIPTForSequenceClassification,
    NeurIPTModel,
    save_checkpoint,
)
from neuript_hf.evaluation.prototypes import fit_prototypes


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
    set_seed(0)
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


@pytest.mark.filterwarnings("error:NeurIPTFeatureExtractor has no")
def test_what_the_model_is_told_is_no_unknown_setting(folder):
    """transformers tells the feature extractor, too."""
    pipeline("eeg-embedding", model=str(folder), dtype="float32", model_kwargs={"attn_implementation": "eager"})


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


def test_windows_at_given_onsets(classify, raw):
    raw.set_annotations(mne.Annotations([10.0], [1.0], ["BAD"]))
    assert [row["onset"] for row in classify(raw, onsets=[1.5, 8.0, 20.25])] == [1.5, 20.25]
    with pytest.raises(ValueError, match="onsets must be in increasing order"):
        classify(raw, onsets=[8.0, 1.5])


def test_several_recordings(classify, raw):
    first, second = classify([raw, raw.copy().crop(0, 40)])
    assert len(first) == 23 and len(second) == 10
    assert [row["recording"] for row in first[:2] + second[:1]] == ["recordings[0]"] * 2 + ["recordings[1]"]
    assert [{**row, "recording": None} for row in first] == [{"recording": None, **row} for row in classify(raw)]


@pytest.fixture
def mixed(raw):
    """Three recordings: four channels for 40 s, two for 20 s, four for 10 s."""
    return [raw.copy().crop(0, 40), raw.copy().pick(["C3", "C4"]).crop(0, 20), raw.copy().crop(50, 60)]


def channels_of(reports):
    return [[row.name for row in report.channels] for report in reports]


@pytest.mark.parametrize("num_workers", [0, 1])
@pytest.mark.parametrize("batch_size", [None, 1, 3])
def test_batches_and_workers_give_the_same_rows_and_the_right_reports(classify, mixed, num_workers, batch_size):
    """Of recordings with other channels and lengths; the reports come along with the batches of a worker."""
    rows = classify(mixed, num_workers=num_workers, batch_size=batch_size)
    assert [len(found) for found in rows] == [10, 5, 2]
    assert [channels_of(reports) for reports in classify.reports] == [[CHANNELS], [["C3", "C4"]], [CHANNELS]]
    for found, recording in zip(rows, mixed, strict=True):
        alone = classify(recording, num_workers=num_workers, batch_size=batch_size)
        assert channels_of(classify.reports) == [[name for name in CHANNELS if name in recording.ch_names]]
        assert [row["score"] for row in found] == pytest.approx([row["score"] for row in alone], abs=1e-5)


def test_batch_size_is_the_number_of_windows_in_the_model(folder, raw):
    sizes = []
    run = pipeline("eeg-classification", model=str(folder), batch_size=5)
    run.model.register_forward_pre_hook(
        lambda module, args, kwargs: sizes.append(len(kwargs["input_values"])), with_kwargs=True
    )
    run(raw)
    run(raw, batch_size=20)
    run(raw, windows_per_batch=12, batch_size=12)
    assert sizes == [5, 5, 5, 5, 3, 20, 3, 12, 11]
    with pytest.raises(ValueError, match="two names of one thing"):
        run(raw, windows_per_batch=12, batch_size=3)


def test_generators_and_data_sets_are_read_as_they_are_used(classify, mixed, tmp_path):
    expected = classify(mixed)
    read = []

    def one_by_one():
        for recording in mixed:
            read.append(recording)
            yield recording

    results = classify(one_by_one())
    assert len(read) == 1, "transformers looks at the first"
    assert next(results) == expected[0] and len(read) == 1 and len(classify.reports) == 1
    assert list(results) == expected[1:] and len(classify.reports) == 3
    paths = []
    for index, recording in enumerate(mixed):
        paths.append(str(tmp_path / f"sub-{index}_raw.fif"))
        recording.save(paths[-1])
    table = pd.DataFrame({"file": paths})
    rows = Dataset.from_pandas(table)
    for several in (paths, tuple(paths), table["file"], rows["file"], KeyDataset(rows, "file"), np.array(paths)):
        found = list(classify(several))
        assert [[row["recording"] for row in part] for part in found] == [
            [path] * len(part) for path, part in zip(paths, expected, strict=True)
        ]
    with pytest.raises(ValueError, match=r"recordings\[0\]: .*got a row with file.*KeyDataset"):
        classify(rows)
    with pytest.raises(ValueError, match="at least one recording"):
        classify([])


def test_an_unfinished_generator_does_not_mix_its_reports_into_the_next_call(classify, mixed):
    results = classify(iter(mixed))
    next(results)
    reports = classify.reports
    classify(mixed[1])
    list(results)
    assert len(reports) == 3 and channels_of(classify.reports) == [["C3", "C4"]]


@pytest.mark.parametrize("num_workers", [0, 1])
def test_a_bad_recording_is_named_or_skipped(classify, mixed, tmp_path, num_workers):
    """Also where it fails after windows have gone through the model."""
    spoiled = tmp_path / "spoiled_raw.fif"
    write_recording(spoiled, 0, seconds=120.0, change=lambda signal: signal[:, 60 * 128 :].fill(0.0))
    recordings = [mixed[0], tmp_path / "none.edf", spoiled, np.zeros((2, 512)), mixed[1]]
    options = {"num_workers": num_workers, "block_seconds": 20, "windows_per_batch": 2}
    rows = classify(recordings, on_error="skip", **options)
    assert [len(found) for found in rows] == [10, 0, 0, 0, 5]
    assert [len(reports) for reports in classify.reports] == [2, 0, 0, 0, 1]
    failures = pd.DataFrame(classify.failures)
    assert failures["index"].tolist() == [1, 2, 3]
    assert failures["recording"].tolist() == [str(tmp_path / "none.edf"), str(spoiled), "recordings[3]"]
    for error, expected in zip(
        failures["error"], ("FileNotFoundError: No", "ValueError:", "needs sampl"), strict=True
    ):
        assert expected in error
    with pytest.raises(FileNotFoundError, match=r"recordings\[1\] .*none.edf.*No recording at"):
        classify(recordings, **options)
    with pytest.raises(ValueError, match=r"recordings\[0\]: An array needs sampling_rate"):
        classify(recordings[3:], **options)
    assert classify(recordings[1], on_error="skip") == [] and "No recording at" in classify.failures[0]["error"]
    with pytest.raises(ValueError, match="on_error must be 'raise' or 'skip'"):
        classify(recordings, on_error="ignore")


def test_reports_say_what_was_asked_for(classify, raw):
    classify(raw)
    (report,) = classify.reports
    windows = [step for step in report.steps if step.startswith(("windows:", "note: the last", "block:"))]
    assert windows == ["windows: 23 of 4 s", "note: the last 3.00 s do not fill a window"]
    classify(raw, block_seconds=40, stride_seconds=2.0)
    assert len(classify.reports) == 3
    for report, block in zip(classify.reports, ("0 to 42 s, 20", "40 to 82 s, 20", "80 to 94 s, 6"), strict=True):
        assert (
            "windows: 46 of 4 s, one every 2 s" in report.steps
            and f"block: {block} of these 46 windows" in report.steps
        )
        assert not any("onsets given" in step for step in report.steps)


@pytest.mark.parametrize("block_seconds", [20, 300])
def test_rejected_windows_are_reported_once(classify, raw, block_seconds):
    raw.set_annotations(mne.Annotations([9.0], [2.0], ["BAD_blink"]))
    rows = classify(raw, block_seconds=block_seconds)
    assert len(rows) == 22 and 8.0 not in [row["onset"] for row in rows]
    for report in classify.reports:
        (step,) = (step for step in report.steps if step.startswith("marked as bad"))
        assert step.endswith("1 of 23 windows rejected")


@pytest.mark.parametrize(
    "model_class, fields, name, size",
    [
        (NeurIPTForSequenceClassification, {}, "pooler_output", 7 * 5 * 16),
        (NeurIPTForPreTraining, COMPACT, "embedding", (5 + 15) * 2),
    ],
)
def test_embeddings(model_class, fields, name, size, raw, tmp_path):
    """Any of the models gives embeddings: the vectors to use of its encoder."""
    model, extractor = model_class(small_config(**fields)).eval(), NeurIPTFeatureExtractor(montage="as_recorded")
    save_checkpoint(model, extractor, tmp_path)
    rows = pipeline("eeg-embedding", model=str(tmp_path))(raw)
    with torch.no_grad():
        expected = model.neuript(**extractor(raw, return_tensors="pt"))[name]
    embeddings = torch.tensor(np.stack([row["embedding"] for row in rows]))
    assert embeddings.shape == (23, size) and rows[2]["onset"] == 8.0
    torch.testing.assert_close(embeddings, expected, atol=1e-4, rtol=1e-5)


def test_embeddings_centred_and_with_a_classifier(classify, raw):
    model = NeurIPTModel(small_config(**COMPACT))
    embed = EEGPipeline(model, feature_extractor=NeurIPTFeatureExtractor(montage="as_recorded"), task="eeg-embedding")
    vectors = np.stack([row["embedding"] for row in embed(raw)])
    nearest = fit_prototypes(vectors[:4], ["rest", "task", "rest", "task"])
    rows = embed(raw, classifier=nearest, batch_size=5)
    assert [row["label"] for row in rows] == nearest.predict(vectors).tolist()
    assert rows[0]["classifier"] == "PrototypeClassifier()" and "centred" not in rows[0]
    for part in embed([raw, raw], centred=True):
        assert all(row["centred"] for row in part) and "label" not in part[0]
        found = np.stack([row["embedding"] for row in part])
        assert np.allclose(found, vectors - vectors.mean(axis=0), atol=1e-5)
    with pytest.raises(ValueError, match=r"embeddings that are not centred. Give centred=False"):
        embed(raw, classifier=nearest, centred=True)
    nearest = fit_prototypes(vectors[:4] - vectors.mean(axis=0), ["rest", "task", "rest", "task"], centred=True)
    rows = embed(raw, classifier=nearest, centred=True)
    assert [row["label"] for row in rows] == nearest.predict(vectors - vectors.mean(axis=0)).tolist()
    assert rows[0]["classifier"] == "PrototypeClassifier(centred=True)"
    with pytest.raises(ValueError, match=r"embeddings that are centred. Give centred=True"):
        embed(raw, classifier=nearest)
    with pytest.raises(ValueError, match="one window has nothing left"):
        embed(raw, onsets=[4.0], centred=True)
    with pytest.raises(ValueError, match="centred: for eeg-embedding only"):
        classify(raw, centred=True)
    with pytest.raises(TypeError, match="no centered; it takes .*, centred, classifier"):
        embed(raw, centered=True)
    epochs = mne.make_fixed_length_epochs(raw, duration=4.0, preload=True, verbose="ERROR")
    epochs.metadata = pd.DataFrame({"subject": ["ann", "bob"] * (len(epochs) // 2) + ["ann"] * (len(epochs) % 2)})
    with pytest.raises(ValueError, match="These epochs are of 2 people, and centred takes off the mean of one"):
        embed(epochs, centred=True)


def test_rows_of_epochs_say_which_epoch(classify, raw):
    events = mne.make_fixed_length_events(raw, duration=4.0)
    epochs = mne.Epochs(raw, events, tmin=0, tmax=1.5, baseline=None, preload=True, verbose="ERROR")
    rows = classify(epochs)
    assert [row["epoch"] for row in rows] == list(range(len(epochs)))
    assert "note: windows last 1.5 s, the feature extractor's own 4 s" in classify.reports[0].steps
    rows = classify(epochs, window_seconds=0.5)  # three in each
    assert [row["epoch"] for row in rows] == np.repeat(range(len(epochs)), 3).tolist()
    assert "epoch" not in classify(raw)[0]


def test_balanced_bce_scores_are_sigmoids(raw):
    model = NeurIPTForSequenceClassification(small_config(loss_type="balanced_bce")).eval()
    extractor = NeurIPTFeatureExtractor(montage="as_recorded")
    rows = EEGPipeline(model, feature_extractor=extractor, task="eeg-classification")(raw)
    assert sum(rows[0]["scores"].values()) != pytest.approx(1, abs=1e-3)


def make_pipeline(task="eeg-classification", **config):
    set_seed(0)
    model = NeurIPTForSequenceClassification(small_config(**config)).eval()
    torch.nn.init.normal_(model.classifier.weight, std=0.1)
    return EEGPipeline(model, feature_extractor=NeurIPTFeatureExtractor(montage="as_recorded"), task=task)


def outputs_of(run, raw):
    with torch.no_grad():
        return run.model(**run.feature_extractor(raw, return_tensors="pt")).logits


def test_rows_of_several_labels(raw):
    names = ["eyes open", "speaking", "moving"]
    run = make_pipeline(problem_type="multi_label_classification", id2label=dict(enumerate(names)))
    rows, expected = run(raw), outputs_of(run, raw).sigmoid()
    assert len({tuple(row["labels"]) for row in rows}) > 1
    for row, scores in zip(rows, expected, strict=True):
        assert list(row) == ["onset", "duration", "labels", "scores"]
        assert row["scores"] == pytest.approx(dict(zip(names, scores.tolist(), strict=True)), abs=1e-5)
        assert row["labels"] == [name for name in names if row["scores"][name] >= 0.5]


@pytest.mark.parametrize(
    ("names", "problem_type"), [(["age"], None), (["age"], "regression"), (["valence", "arousal"], "regression")]
)
def test_rows_of_regression(raw, names, problem_type):
    run = make_pipeline(problem_type=problem_type, id2label=dict(enumerate(names)), num_labels=len(names))
    rows, expected = run(raw), outputs_of(run, raw)
    for row, numbers in zip(rows, expected, strict=True):
        assert list(row) == ["onset", "duration", "values"]
        assert row["values"] == pytest.approx(dict(zip(names, numbers.tolist(), strict=True)), abs=1e-5)


@pytest.mark.parametrize("task", ["eeg-classification", "eeg-embedding"])
def test_models_with_an_adapter(raw, task):
    """The rows are those of the merged model, and not those without the adapter."""
    run = make_pipeline(task)
    without = run(raw)
    adapted = get_peft_model(run.model, LoraConfig(target_modules=["q_proj"], init_lora_weights=False)).eval()
    run = EEGPipeline(adapted, feature_extractor=run.feature_extractor, task=task)
    rows = run(raw)
    merged = EEGPipeline(adapted.merge_and_unload(), feature_extractor=run.feature_extractor, task=task)(raw)
    key = "embedding" if task == "eeg-embedding" else "score"
    vectors, same, other = (np.array([row[key] for row in found]) for found in (rows, merged, without))
    assert vectors == pytest.approx(same, abs=1e-4)
    assert not np.allclose(vectors, other, atol=1e-3)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision(raw, dtype):
    """Inputs are float32 and the model is not; embeddings of trained weights stay within a few per cent."""
    raw, checkpoint = raw.crop(0, 16), str(ROOT / "hub" / "neuript-tiny")
    vectors, again = (
        np.array([row["embedding"] for row in pipeline("eeg-embedding", model=checkpoint, dtype=kind)(raw)])
        for kind in (torch.float32, dtype)
    )
    assert 0 < np.linalg.norm(again - vectors) < 0.05 * np.linalg.norm(vectors)


@pytest.mark.parametrize("model_class", [NeurIPTModel, NeurIPTForPreTraining])
def test_a_model_without_a_head_does_not_classify(model_class):
    with pytest.raises(ValueError, match=f"{model_class.__name__} has no head for windows"):
        EEGPipeline(
            model_class(small_config()), feature_extractor=NeurIPTFeatureExtractor(), task="eeg-classification"
        )


@pytest.mark.parametrize(
    ("answer", "found"),
    [
        (lambda logits: (logits,), "tuple"),
        (lambda logits: logits, "Tensor"),
        (lambda logits: SequenceClassifierOutput(logits=logits[:, :1]), r"logits \[16, 1\]"),
        (lambda logits: SequenceClassifierOutput(logits=logits[:, None]), r"logits \[16, 1, 2\]"),
        (lambda logits: SequenceClassifierOutput(logits=logits), None),
    ],
)
def test_heads_of_ones_own_return_logits(raw, answer, found):
    class Head(NeurIPTForSequenceClassification):
        def forward(self, input_values, **kwargs):
            return answer(super().forward(input_values, **kwargs).logits)

    run = EEGPipeline(
        Head(small_config(num_labels=2)).eval(),
        feature_extractor=NeurIPTFeatureExtractor(montage="as_recorded"),
        task="eeg-classification",
    )
    if found is None:
        assert len(run(raw)) == 23
        return
    with pytest.raises(ValueError, match=rf"Head returned {found}.*logits \[16, 2\].*SequenceClassifierOutput"):
        run(raw)


@pytest.mark.parametrize("task", ["eeg-classification", "eeg-embedding"])
def test_answers_that_are_no_numbers_are_refused(raw, task):
    """The first class would be named."""
    model = NeurIPTForSequenceClassification(small_config()).eval()
    torch.nn.init.constant_(next(iter(model.parameters())), torch.nan)
    run = EEGPipeline(model, feature_extractor=NeurIPTFeatureExtractor(montage="as_recorded"), task=task)
    with pytest.raises(ValueError, match="answers are not finite.*torch.float32"):
        run(raw)


def test_a_head_that_was_never_trained_does_not_answer(raw, tmp_path):
    save_checkpoint(NeurIPTForPreTraining(small_config()), NeurIPTFeatureExtractor(montage="as_recorded"), tmp_path)
    with pytest.raises(ValueError, match="no trained weights for classifier.*finetune.py"):
        pipeline("eeg-classification", model=str(tmp_path))(raw)
    assert len(pipeline("eeg-embedding", model=str(tmp_path))(raw)) == 23


def test_arguments_of_other_pipelines_are_refused_with_the_reason(classify, raw):
    with pytest.raises(ValueError, match=r"no top_k. Every row has the scores of all labels"):
        classify(raw, top_k=2)
    with pytest.raises(ValueError, match="no function_to_apply.*problem_type"):
        classify(raw, function_to_apply="sigmoid")
    row = classify(raw)[0]
    assert sorted(row["scores"], key=row["scores"].get, reverse=True)[:1] == [row["label"]], "as the error advises"


@pytest.mark.parametrize("name", ["window_seconds", "stride_seconds", "block_seconds", "batch_size"])
@pytest.mark.parametrize("value", [0, -2])
def test_lengths_must_be_positive(classify, raw, name, value):
    with pytest.raises(ValueError, match="must be a positive number"):
        classify(raw, **{name: value})


def test_arguments_are_checked_before_anything_is_read(classify, raw, signal):
    with pytest.raises(ValueError, match="whole number of windows"):
        classify(raw, batch_size=2.5)
    arrays, names = [signal * 1e6, signal[:2] * 1e6], [CHANNELS, CHANNELS[:2]]
    with pytest.raises(ValueError, match="channel_names are those of every recording.*RawArray"):
        classify(arrays, channel_names=names, sampling_rate=128.0, unit="uV")
    raws = [make_raw(array * 1e-6, own) for array, own in zip(arrays, names, strict=True)]
    assert [len(rows) for rows in classify(raws)] == [23, 23]


def test_errors_say_what_to_do(classify, raw, tmp_path):
    with pytest.raises(FileNotFoundError, match="No recording at"):
        classify(tmp_path / "none.edf")
    with pytest.raises(ValueError, match="lasts 2.008 s, less than one window of 4 s"):
        classify(raw.copy().crop(0, 2))
    with pytest.raises(TypeError, match="EEGPipeline has no window_second; it takes .*window_seconds"):
        classify(raw, window_second=2.0)
