"""The compact embedding: what trains it, what it must not see, who reads it, and when it is refused."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import COMPACT, make_batch, make_window, masked_batch, pad, small_config
from datasets import ClassLabel, Dataset
from test_trainer import arguments
from torch import Tensor
from transformers import AutoModel, pipeline

from neuript_hf import (
    DataCollatorForEEG,
    EEGPipeline,
    NeurIPTFeatureExtractor,
    NeurIPTForPreTraining,
    NeurIPTForSequenceClassification,
    NeurIPTModel,
    NeurIPTTrainer,
    save_checkpoint,
    verify,
)
from neuript_hf.compact_embedding import groups_of_numbers, names_of_numbers, time_course, window_numbers
from neuript_hf.connectivity import connectivity, microvolts_of
from neuript_hf.evaluation.baselines import observed_numbers
from neuript_hf.pooling import MIDLINE_HALF_WIDTH, MIDLINE_X
from neuript_hf.token_masks import TokenMasks
from neuript_hf.training.finetuning import ModelArguments, make_classifier
from neuript_hf.training.pretraining import StartArguments, make_model


BINS = 3
NOTHING_MASKED = TokenMasks(None, None, None)
EXTRACTOR = NeurIPTFeatureExtractor(montage="as_recorded", window_seconds=1.0)


SIZES = {"num_hidden_layers": 2, "merge_sizes": [1, 2], "num_experts": [0, 2]}


def model_of(model_class, **fields):
    """With an embedding, in evaluation mode."""
    return model_class(small_config(**(SIZES | COMPACT | fields))).eval()


def without_lobe(batch: dict[str, Tensor], lobe: int) -> dict[str, Tensor]:
    lobes = batch["lobe_mask"].clone()
    lobes[..., lobe] = False
    return batch | {"lobe_mask": lobes}


def test_targets_are_those_of_the_true_samples():
    """Connectivity and the lobes' slow courses, of the labels and not of the input; only what is known counts."""
    model = model_of(NeurIPTForPreTraining, time_course_bins=BINS, embedding_loss_weight=0.5)
    batch = without_lobe(masked_batch(hidden=True), 4)
    labels, good = torch.randn(3, 5, 40), batch["channel_mask"]
    output = model(**batch, labels=labels)
    block = connectivity(
        microvolts_of(labels, 0.25), batch["lobe_mask"], COMPACT["connectivity_bands"], good, batch["attention_mask"]
    )
    courses = time_course(labels, batch["attention_mask"], BINS)
    members = batch["lobe_mask"] & good[..., None]
    right = batch["electrode_positions"][..., 0] - MIDLINE_X  # grid units from the midline
    targets, known = block.scaled.tolist(), block.known.tolist()
    for window in range(3):
        mean_courses, differences = [], []
        for lobe in range(5):
            of_lobe = members[window, :, lobe]
            on_left, on_right = (
                of_lobe & (right[window] < -MIDLINE_HALF_WIDTH),
                of_lobe & (right[window] > MIDLINE_HALF_WIDTH),
            )
            mean_courses.append(courses[window][of_lobe].mean(dim=0))  # NaN for a lobe without channels
            differences.append(courses[window][on_right].mean(dim=0) - courses[window][on_left].mean(dim=0))
        numbers = torch.stack(mean_courses + differences).flatten()
        targets[window] += numbers.nan_to_num().tolist()
        known[window] += numbers.isfinite().tolist()
    targets, known = torch.tensor(targets), torch.tensor(known)
    assert output.embedding.shape == targets.shape == (3, (5 + 15) * 2 + 2 * 5 * BINS)
    assert not known[:, 4 * 2 : 5 * 2].any() and not known[:, -BINS:].any(), "the last lobe has no channel"
    assert known[:, -5 * BINS :].any(), "some lobe has channels on both sides"
    assert (output.embedding[~known] == 0).all()
    error = (output.embedding - targets).square()[known].mean()
    torch.testing.assert_close(output.embedding_loss, error)
    rest = output.reconstruction_loss + output.time_course_loss
    torch.testing.assert_close(output.loss, rest + 0.5 * error)
    assert model(**batch).embedding_loss is None


def test_its_loss_trains_the_encoder():
    model = model_of(NeurIPTForPreTraining)
    batch = make_batch()
    model(**batch, labels=torch.randn(3, 5, 40)).embedding_loss.backward()
    for weight in (model.neuript.compact_embedding.proj.weight, model.neuript.embeddings.token.weight):
        assert weight.grad.isfinite().all() and (weight.grad != 0).any()
    assert all(weight.grad is None for weight in model.decoder.parameters())


@pytest.mark.parametrize("fields", [{}, {"hidden_fill": "line"}, {"embedding_observed": "all"}])
def test_hidden_samples_make_no_difference(fields):
    model = model_of(NeurIPTForPreTraining, time_course_bins=BINS, **fields)
    batch = masked_batch(hidden=True)
    secret = batch | {"input_values": batch["input_values"].masked_fill(batch["hidden_positions"], 9.0)}
    assert torch.equal(model(**batch).embedding, model(**secret).embedding)
    assert torch.equal(model.neuript(**batch).connectivity, model.neuript(**secret).connectivity)
    seen = batch | {"input_values": batch["input_values"].masked_fill(~batch["hidden_positions"], 9.0)}
    assert not torch.equal(model(**batch).embedding, model(**seen).embedding)


@pytest.mark.parametrize("observed, count", [("none", 0), ("connectivity", 40), ("all", 70)])
def test_who_reads_what(observed, count):
    """The embedding is what is observed in the signal plus a readout of pooled vectors; the classifier reads it."""
    model = model_of(NeurIPTForSequenceClassification, embedding_observed=observed, time_course_bins=BINS)
    encoder, batch = model.neuript, without_lobe(make_batch(samples=90), 2)
    estimates = []
    encoder.compact_embedding.proj.register_forward_hook(lambda *call: estimates.append(call[-1].clone()))
    outputs, estimate = encoder(**batch), estimates[0]
    assert outputs.features is outputs.embedding and outputs.embedding.shape == (3, 70)
    assert model.classifier.weight.shape == (3, 70)
    torch.testing.assert_close(model(**batch).logits, model.classifier(outputs.embedding))
    signal = microvolts_of(batch["input_values"], 0.25)
    numbers = connectivity(signal, batch["lobe_mask"], COMPACT["connectivity_bands"])
    torch.testing.assert_close(outputs.connectivity, numbers.numbers)
    observed = window_numbers(
        model.config, batch["input_values"], NOTHING_MASKED, batch["lobe_mask"], batch["electrode_positions"]
    )
    torch.testing.assert_close(observed.values[:, :40], numbers.scaled)
    estimate[:, :count] += observed.values[:, :count]
    torch.testing.assert_close(outputs.embedding, estimate.where(observed.known, 0))
    assert not observed.known[:, 4:6].any(), "a lobe without channels"
    without_lobes = encoder(batch["input_values"], batch["electrode_positions"])
    assert without_lobes.features is None and without_lobes.connectivity is None
    with pytest.raises(ValueError, match="lobe_mask .* is needed"):
        model(batch["input_values"], batch["electrode_positions"])


def test_padding_and_bad_channels_make_no_difference():
    model, batch = model_of(NeurIPTModel, time_course_bins=BINS, embedding_observed="all"), make_batch(samples=90)
    plain, padded = model(**batch), model(**pad(batch, 2, 30, garbage=1e3))  # as companded values beyond any number
    torch.testing.assert_close(padded.connectivity, plain.connectivity, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(padded.embedding, plain.embedding, atol=1e-4, rtol=1e-4)


def test_lobes_that_are_not_read():
    """A window whose channels are all in blank lobes is as good as none; pairs with another lobe are blank, too."""
    model = model_of(NeurIPTForSequenceClassification, time_course_bins=BINS)
    assert model.groups_read.all()
    blank = torch.tensor([False, False, False, True, True])
    model.blank_groups(blank)
    assert model.groups_read.tolist() == [True, True, True, False, False]
    # of 5 lobes and 15 pairs of them in two bands, and of five courses twice, those of three lobes are left
    read = (model.classifier.weight != 0).all(dim=0)
    assert read.sum() == (3 + 6) * 2 + 2 * 3 * BINS and (model.classifier.weight[:, ~read] == 0).all()
    batch = make_batch(windows=1)
    logits = model(**batch | {"lobe_mask": blank.expand(1, 5, 5)}).logits
    torch.testing.assert_close(logits[0], model.classifier.bias)


def test_numbers_and_their_names():
    """In one order: each name says which lobes a number is about, and where it changes."""
    config = model_of(NeurIPTModel, time_course_bins=BINS, power_bands=[[4, 6], [6, 8], [8, 10]]).config
    lobes = ["one", "two", "three", "four", "five"]
    names = names_of_numbers(config, lobes)
    assert len(names) == len(set(names)) == config.embedding_size == 75
    for name, groups in zip(names, groups_of_numbers(config).tolist(), strict=True):
        about = name.split(", ")[1].split(" with ")
        assert {lobe for lobe, is_about in zip(lobes, groups, strict=True) if is_about} == set(about)
    batch = make_batch(windows=1, channels=2, samples=64)
    batch["lobe_mask"][:], batch["lobe_mask"][0, 0, 1], batch["lobe_mask"][0, 1, 4] = False, True, True
    known = window_numbers(config, batch["input_values"], NOTHING_MASKED, batch["lobe_mask"], None).known[0].tolist()
    assert {name.rpartition(", ")[0] for name, is_known in zip(names, known, strict=True) if is_known} == {
        "power, two",
        "power, five",
        "correlation, two with five",
        "course, two",
        "course, five",
    }
    assert names[0] == "power, one, 4-6 Hz" and names[-1] == "course right minus left, five, 250 ms"


def test_saved_and_loaded(tmp_path, capsys):
    model = model_of(NeurIPTForPreTraining, companding_a=0.25)
    save_checkpoint(model, EXTRACTOR, tmp_path)
    assert verify(tmp_path)["passed"]
    encoder, batch = AutoModel.from_pretrained(tmp_path).eval(), make_batch()
    torch.testing.assert_close(encoder(**batch).embedding, model(**batch).embedding)
    assert encoder.untrained_weights == [], "the head of pre-training is left behind, the embedding is not"


def test_an_embedding_that_was_never_trained_is_refused(tmp_path):
    """A checkpoint without one gives its pooled vector; with `compact_embedding` the embedding would be random."""
    save_checkpoint(NeurIPTModel(small_config(**SIZES)), EXTRACTOR, tmp_path)
    encoder = AutoModel.from_pretrained(tmp_path).eval()
    batch = make_batch()
    outputs = encoder(**batch)
    assert outputs.embedding is None and outputs.connectivity is None and outputs.features is outputs.pooler_output
    encoder = AutoModel.from_pretrained(tmp_path, **COMPACT).eval()
    names = ["compact_embedding.proj.bias", "compact_embedding.proj.weight"]
    assert encoder.untrained_weights == names
    torch.testing.assert_close(encoder(**batch).pooler_output, outputs.pooler_output)
    save_checkpoint(encoder, EXTRACTOR, tmp_path / "again")
    embed = pipeline("eeg-embedding", model=str(tmp_path / "again"))
    told = {"channel_names": ["C3", "C4"], "sampling_rate": 64, "unit": "uV"}
    with pytest.raises(
        ValueError, match="no trained weights for compact_embedding.*compact_embedding=False.*pretrain.py"
    ):
        embed(torch.randn(2, 128), **told)
    classifier = NeurIPTForSequenceClassification.from_pretrained(tmp_path, **COMPACT)
    untrained = classifier.untrained_weights
    assert [f"neuript.{name}" for name in names] == [name for name in untrained if "compact" in name]
    classifier.blank_groups(torch.tensor([False, False, False, True, True]))
    classifier.keep_untrained(untrained)  # as at the start of a training, which this is not yet
    assert classifier.untrained_weights == untrained


@pytest.mark.parametrize(
    "settings, words",
    [
        ({"companding_a": 0.5}, "companding_a=0.25 .* makes them with companding_a=0.5"),
        ({"companding": None}, "makes them with companding_a=None"),
        ({"sampling_rate": 128}, "sampling_rate=64 .* makes them with sampling_rate=128"),
    ],
)
def test_windows_of_another_kind_are_refused(settings, words, tmp_path):
    """Wherever model and feature extractor meet; a model without bands takes them."""
    other = NeurIPTFeatureExtractor(montage="as_recorded", **settings)
    model = model_of(NeurIPTForSequenceClassification)
    for meet in (
        lambda model: EEGPipeline(model, feature_extractor=other, task="eeg-embedding"),
        lambda model: NeurIPTTrainer(model, arguments(tmp_path), processing_class=other),
        lambda model: save_checkpoint(model, other, tmp_path / "saved"),
    ):
        with pytest.raises(ValueError, match=words):
            meet(model)
    assert not (tmp_path / "saved").exists()
    EEGPipeline(NeurIPTModel(small_config()), feature_extractor=other, task="eeg-embedding")


def test_a_new_model_expects_the_windows_that_it_gets(tmp_path):
    """A checkpoint keeps what it was trained with; its bands, if they are new, get what its new windows have."""
    other = NeurIPTFeatureExtractor(montage="as_recorded", companding_a=0.5)
    windows = SimpleNamespace(extractor=other)
    sizes = {"hidden_size": 16, "num_attention_heads": 2}
    new = make_model(StartArguments(config=json.dumps(sizes | COMPACT)), False, windows, 0)
    assert new.config.companding_a == 0.5
    save_checkpoint(new, other, tmp_path)
    again = make_model(StartArguments(weights=str(tmp_path)), False, SimpleNamespace(extractor=EXTRACTOR), 0)
    assert again.config.companding_a == 0.5
    labelled = Dataset.from_dict({"labels": [0, 1]}).cast_column("labels", ClassLabel(names=["a", "b"]))
    start = ModelArguments(config=json.dumps(sizes | COMPACT))
    assert make_classifier(start, labelled, other).config.companding_a == 0.5
    with pytest.raises(ValueError, match="companding_a=0.5 .* makes them with companding_a=0.25"):
        make_classifier(ModelArguments(model=str(tmp_path)), labelled, EXTRACTOR)


def test_the_numbers_without_the_model():
    """What an untrained readout adds nothing to is what the samples themselves say."""
    model = model_of(NeurIPTModel, embedding_observed="all", time_course_bins=BINS)
    torch.nn.init.zeros_(model.compact_embedding.proj.weight)
    masks = {"channel_mask": np.array([True] * 4 + [False]), "attention_mask": np.arange(90) < 80}
    windows = [make_window(5, 90, seed=seed, **masks) for seed in range(3)]
    with torch.no_grad():
        embedding = model(**DataCollatorForEEG()(windows)).embedding
    np.testing.assert_allclose(observed_numbers(Dataset.from_list(windows), model.config), embedding, atol=1e-5)
