"""Batches of mixed montages, and masks that depend on the window alone."""

import numpy as np
import pytest
import torch
from conftest import make_window, small_config
from torch.utils.data import DataLoader

from neuript_hf import DataCollatorForAmplitudeAwareMasking, DataCollatorForEEG, NeurIPTForSequenceClassification


def test_the_batch_contract():
    windows = [make_window(seed=0, labels=1), make_window(seed=1, labels=0)]
    batch = DataCollatorForEEG()(windows)
    assert {name: (tensor.dtype, tuple(tensor.shape)) for name, tensor in batch.items()} == {
        "input_values": (torch.float32, (2, 3, 64)),
        "electrode_positions": (torch.float32, (2, 3, 3)),
        "lobe_mask": (torch.bool, (2, 3, 5)),
        "labels": (torch.int64, (2,)),
    }


def test_lists_work_like_arrays_and_other_entries_are_left_out():
    entries = {"subject": "sub-1", "onset": 4.0, "report": "", "channel_mask": None}
    plain = {name: value.tolist() for name, value in make_window().items()} | entries
    batch, expected = DataCollatorForEEG()([plain]), DataCollatorForEEG()([make_window()])
    assert batch.keys() == expected.keys()
    assert all(torch.equal(batch[name], tensor) for name, tensor in expected.items())


def test_padding_of_mixed_montages_and_lengths():
    batch = DataCollatorForEEG()([make_window(3, 64), make_window(5, 40, seed=1, labels=None)])
    assert batch["input_values"].shape == (2, 5, 64)
    assert batch["channel_mask"].tolist() == [[True] * 3 + [False] * 2, [True] * 5]
    assert batch["attention_mask"].sum(dim=1).tolist() == [64, 40]
    assert (batch["input_values"][0, 3:] == 0).all() and (batch["input_values"][1, :, 40:] == 0).all()
    assert not batch["lobe_mask"][0, 3:].any()


def test_a_mask_is_in_the_batch_only_if_it_masks_something():
    bad = make_window(channel_mask=np.array([True, False, True]), attention_mask=np.ones(64, dtype=bool))
    batch = DataCollatorForEEG()([make_window(seed=1), bad])
    assert batch["channel_mask"].tolist() == [[True, True, True], [True, False, True]]
    assert "attention_mask" not in batch


def test_a_padded_batch_gives_each_window_its_own_answer():
    model = NeurIPTForSequenceClassification(small_config()).eval()
    windows = [make_window(3, 64), make_window(5, 40, seed=1), make_window(4, 57, seed=2)]
    collate = DataCollatorForEEG()
    with torch.no_grad():
        together = model(**collate(windows)).logits
        alone = torch.cat([model(**collate([one])).logits for one in windows])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        ([1, np.int16(2), True], torch.tensor([1, 2, 1])),
        ([0.7, 23.9, np.float32(-1.5)], torch.tensor([0.7, 23.9, -1.5])),
        ([1, 0.5, 2], torch.tensor([1.0, 0.5, 2.0])),
        ([[1, 0, 1], [0.0, 0.0, 0.0]], torch.tensor([[1.0, 0.0, 1.0], [0.0, 0.0, 0.0]])),
        ([np.array([True, False]), [False, True]], torch.tensor([[1.0, 0.0], [0.0, 1.0]])),
        ([[23.5, 101.0]], torch.tensor([[23.5, 101.0]])),
        ([[0.5]], torch.tensor([[0.5]])),
        (["left", "right", "left"], torch.tensor([0, 1, 0])),
        ([["right"], [], ["left", "right"]], torch.tensor([[0.0, 1.0], [0.0, 0.0], [1.0, 1.0]])),
    ],
)
def test_labels_of_every_kind(labels, expected):
    """Of windows of different montages: a row of labels is no signal, so it is never padded."""
    windows = [make_window(3 + index, 64, labels=entry) for index, entry in enumerate(labels)]
    batch = DataCollatorForEEG(label2id={"left": 0, "right": 1})(windows)["labels"]
    assert batch.dtype == expected.dtype
    torch.testing.assert_close(batch, expected)


def test_true_values_are_padded():
    windows = [make_window(3, 64, labels=np.ones((3, 64))), make_window(2, 40, labels=np.ones((2, 40)))]
    labels = DataCollatorForEEG()(windows)["labels"]
    assert labels.shape == (2, 3, 64) and labels.sum(dim=(1, 2)).tolist() == [3 * 64, 2 * 40]


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        ([[1.0, 0.0], [1.0, 0.0, 1.0]], "labels of different shapes"),
        ([[1.0, 0.0], 1.0], "labels of different shapes"),
        ([np.ones((3, 5)), np.ones((3, 5))], r"the shape of input_values, \(3, 64\), but have shape \(3, 5\)"),
        (["left", "up"], r"The labels \['up'\] have no number: label2id has \['left'\]"),
        ([["left", "up"], ["left"]], r"The labels \['up'\] have no number"),
        ([{"a": 1}, {"a": 2}], "labels of a window must be numbers or names"),
    ],
)
def test_labels_that_do_not_fit_are_refused(labels, words):
    with pytest.raises(ValueError, match=words):
        DataCollatorForEEG(label2id={"left": 0})([make_window(3, 64, labels=entry) for entry in labels])


@pytest.mark.parametrize("name", ["label", "label_ids"])
def test_other_names_of_labels(name):
    """As in transformers. Texts that have no numbers are an entry like others; `labels` come first."""
    collate = DataCollatorForEEG(label2id={"left": 0, "right": 1})
    assert collate([make_window(**{name: 1}), make_window(**{name: 0})])["labels"].tolist() == [1, 0]
    assert collate([make_window(**{name: [0.5, 2.0]})])["labels"].tolist() == [[0.5, 2.0]]
    assert collate([make_window(**{name: "right"})])["labels"].tolist() == [1]
    assert "labels" not in DataCollatorForEEG()([make_window(**{name: "right"})])
    assert DataCollatorForEEG()([make_window(labels=0, **{name: "right"})])["labels"].tolist() == [0]


@pytest.mark.parametrize("entry", ["input_values", "electrode_positions"])
def test_values_that_are_not_finite_are_refused(entry):
    bad = make_window(seed=1)
    bad[entry] = bad[entry].copy()
    bad[entry][0, 1] = np.nan
    with pytest.raises(ValueError, match=f"{entry} of a window has values that are not finite"):
        DataCollatorForEEG()([make_window(), bad])


def test_names_need_their_numbers():
    with pytest.raises(ValueError, match=r"there is no label2id. Give DataCollatorForEEG\(label2id=...\)"):
        DataCollatorForEEG()([make_window(labels="left")])


@pytest.mark.parametrize("mask", ["channel_mask", "attention_mask"])
@pytest.mark.parametrize("collator", [DataCollatorForEEG(), DataCollatorForAmplitudeAwareMasking()])
def test_a_window_with_nothing_in_it_is_refused(collator, mask):
    window = make_window(3, 64)
    window[mask] = np.zeros(3 if mask == "channel_mask" else 64, dtype=bool)
    with pytest.raises(ValueError, match=f"{mask} of a window is all false"):
        collator([make_window(3, 64), window])


@pytest.mark.parametrize(
    ("windows", "words"),
    [
        ([{"input_values": np.zeros((2, 8))}], "needs 'electrode_positions'.*feature extractor"),
        ([make_window() | {"input_values": np.zeros(8)}], r"must be \[C, T\]"),
        ([make_window() | {"electrode_positions": np.zeros((2, 3))}], "electrode_positions has shape"),
        ([make_window(attention_mask=np.ones(63))], "attention_mask has shape"),
        ([make_window(labels=1), make_window()], r"examples \[1\] of the batch have no 'labels'"),
        ([make_window(), make_window() | {"lobe_mask": np.ones((3, 4))}], "with the same num_lobes"),
    ],
)
def test_windows_that_do_not_fit_are_refused(windows, words):
    with pytest.raises(ValueError, match=words):
        DataCollatorForEEG()(windows)


def test_masked_batches():
    """Of n = 64 samples round(0.8 n) = 51 are hidden, round(0.1 n) = 6 replaced, and the other 7 stay."""
    windows = [make_window(3, 128), make_window(4, 100, seed=1)]
    batch = DataCollatorForAmplitudeAwareMasking(ratios=0.5)(windows)
    selected, hidden = batch["masked_positions"], batch["hidden_positions"]
    assert selected.sum(-1).tolist() == [[64] * 3 + [0], [50] * 4]
    assert hidden.sum(-1).tolist() == [[51] * 3 + [0], [40] * 4]
    assert (hidden <= selected).all()
    np.testing.assert_array_equal(batch["labels"][1, :, :100], windows[1]["input_values"])
    # all other samples are unchanged
    changed = batch["input_values"] != batch["labels"]
    assert changed.sum(-1).tolist() == [[6] * 3 + [0], [5] * 4] and (changed <= selected).all()
    assert not (changed & hidden).any()


def test_bad_channels_and_padding_are_never_selected():
    attention_mask = np.arange(64) < 50
    bad = make_window(channel_mask=np.array([True, False, True]), attention_mask=attention_mask)
    for strategy in ("amplitude", "random"):
        batch = DataCollatorForAmplitudeAwareMasking(strategy, ratios=0.5)([bad])
        assert batch["masked_positions"].sum(-1).tolist() == [[25, 0, 25]]
        assert not batch["masked_positions"][:, :, 50:].any()


@pytest.mark.parametrize("strategy", ["amplitude", "random"])
def test_masks_depend_on_seed_epoch_and_window_alone(strategy):
    windows = [make_window(seed=seed) for seed in range(6)]
    collator = DataCollatorForAmplitudeAwareMasking(strategy, seed=3)
    whole = collator(windows)
    for order in ([5, 0, 3], [1], [4, 2]):
        part = collator([windows[index] for index in order])
        for name in ("masked_positions", "hidden_positions", "input_values"):
            assert torch.equal(part[name], whole[name][order])
    again = DataCollatorForAmplitudeAwareMasking(strategy, seed=3)
    assert torch.equal(again(windows)["hidden_positions"], whole["hidden_positions"])
    again.set_epoch(1)
    assert not torch.equal(again(windows)["hidden_positions"], whole["hidden_positions"])
    other = DataCollatorForAmplitudeAwareMasking(strategy, seed=4)(windows)
    assert not torch.equal(other["hidden_positions"], whole["hidden_positions"])


def masks_in_worker(windows):
    return DataCollatorForAmplitudeAwareMasking(seed=3)(windows)["hidden_positions"]


@pytest.mark.slow
def test_masks_are_the_same_in_another_process():
    windows = [make_window(seed=seed) for seed in range(3)]
    context = torch.multiprocessing.get_context("spawn")
    with context.Pool(1) as pool:
        (elsewhere,) = pool.map(masks_in_worker, [windows])
    assert torch.equal(elsewhere, masks_in_worker(windows))


def test_ratios_are_drawn_for_each_window():
    windows = [make_window(2, 100, seed=seed) for seed in range(120)]
    shares = DataCollatorForAmplitudeAwareMasking()(windows)["masked_positions"].float().mean(dim=(1, 2))
    values, counts = shares.unique(return_counts=True)
    assert values.tolist() == pytest.approx([0.20, 0.35, 0.50]) and counts.min() > 25


def test_whole_windows_have_nothing_selected_and_the_others_their_usual_masks():
    examples = [make_window(4, 192, seed) for seed in range(200)]
    plain = DataCollatorForAmplitudeAwareMasking()
    all_whole = DataCollatorForAmplitudeAwareMasking(whole_share=1.0)(examples)
    assert not all_whole["masked_positions"].any() and not all_whole["hidden_positions"].any()
    assert torch.equal(all_whole["input_values"], all_whole["labels"])
    assert plain(examples)["masked_positions"].flatten(1).any(dim=1).all()
    half = DataCollatorForAmplitudeAwareMasking(whole_share=0.5)(examples)["masked_positions"].flatten(1).any(dim=1)
    assert 0.35 < half.float().mean() < 0.65


def test_a_share_of_the_windows_is_masked_by_spans():
    """Spans are 16 samples in a row; samples of adjacent amplitude are scattered in noise."""
    examples = [make_window(4, 192, seed) for seed in range(200)]

    def share_of_neighbours(**settings):
        selected = DataCollatorForAmplitudeAwareMasking(ratios=0.35, **settings)(examples)["masked_positions"]
        return (selected[..., 1:] & selected[..., :-1]).float().mean(dim=(1, 2)) / 0.35

    amplitude, spans = share_of_neighbours(), share_of_neighbours(strategy="random")
    assert amplitude.max() < 0.6 < 0.7 < spans.min()
    mixed = share_of_neighbours(span_share=0.5) > 0.65
    assert 0.35 < mixed.float().mean() < 0.65
    assert torch.equal(share_of_neighbours(span_share=1.0) > 0.65, spans > 0.65)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"strategy": "largest"}, r"strategy must be one of \['amplitude', 'random'\], but is 'largest'"),
        ({"ratios": 0.0}, r"ratios must lie in \(0, 1\]"),
        ({"ratios": [0.2, 1.5]}, r"ratios must lie in \(0, 1\], but are \[0.2, 1.5\]"),
        ({"ratios": []}, "ratios must lie"),
        ({"whole_share": 1.5}, r"whole_share must lie in \[0, 1\], but is 1.5"),
        ({"span_share": -0.1}, "span_share must lie in"),
    ],
)
def test_wrong_arguments(arguments, words):
    with pytest.raises(ValueError, match=words):
        DataCollatorForAmplitudeAwareMasking(**arguments)


def test_persistent_workers_see_the_next_epoch():
    collate = DataCollatorForAmplitudeAwareMasking()
    workers = {"num_workers": 1, "persistent_workers": True, "multiprocessing_context": "fork"}
    loader = DataLoader([make_window(seed=seed) for seed in range(4)], 4, collate_fn=collate, **workers)
    masks = []
    for epoch in (0, 1, 0):
        collate.set_epoch(epoch)
        (batch,) = loader
        masks.append(batch["hidden_positions"])
    assert torch.equal(masks[0], masks[2]) and not torch.equal(masks[0], masks[1])
