"""Random changes to windows for pre-training: what they change and what not, and an order with little padding."""

import pickle
from collections import Counter

import numpy as np
import pandas as pd
import pytest
from accelerate.data_loader import prepare_data_loader, skip_first_batches
from conftest import make_raw
from torch.utils.data import DataLoader

from neuript_hf import NeurIPTFeatureExtractor, open_recording
from neuript_hf.data.augmentation import PreTrainingWindows, SimilarWindowsSampler, neighbouring_pairs
from neuript_hf.data.preparation import RejectionRules, prepare_dataset
from neuript_hf.data.shards import EEGShardDataset
from neuript_hf.electrodes import DOUBLE_BANANA, grid_positions, lobe_membership


EXTRACTOR = NeurIPTFeatureExtractor(montage="as_recorded", window_seconds=2.0)
RULES = RejectionRules(0, 0, max_microvolts=None, min_microvolts=None, judge_masked=False)
EIGHT = ["Fp1", "Fp2", "C3", "Cz", "C4", "Pz", "O1", "O2"]
ENTRIES = ("input_values", "electrode_positions", "lobe_mask", "channel_mask")


def write_recording(path, seed, names, seconds, flat=None):
    """Slow noise, about 10 microvolts, at 128 Hz."""
    signal = np.random.default_rng(seed).normal(size=(len(names), int(seconds * 128) + 16))
    signal = np.apply_along_axis(np.convolve, 1, signal, np.full(17, 2.5e-6), mode="valid")
    if flat is not None:
        signal[flat] = 0
    make_raw(signal, names).save(path)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """
    Of set `caps` eight electrodes (60 s), and seven good ones of eight (20 s); of `bands` three electrodes (16 s); of
    `pairs` three pairs (12 s), and electrodes with two references (8 s). One more person of `caps` for validation.
    """
    folder = tmp_path_factory.mktemp("windows")
    rows = []
    for number, (dataset, names, seconds, flat) in enumerate(
        [
            ("caps", EIGHT, 60, None),
            ("caps", EIGHT, 20, 3),
            ("bands", ["AF7", "AF8", "TP9"], 16, None),
            ("pairs", ["Fp1-F3", "F3-C3", "P3-O1"], 12, None),
            ("pairs", ["C3-REF", "C4-REF", "O1-LE", "O2-LE"], 8, None),
            ("caps", EIGHT, 10, None),
        ]
    ):
        write_recording(folder / f"{number}_raw.fif", number, names, seconds, flat)
        split = "val" if number == 5 else "train"
        rows.append({"file": f"{number}_raw.fif", "subject": number, "split": split, "dataset": dataset})
    pd.DataFrame(rows).to_csv(folder / "manifest.csv", index=False)
    prepare_dataset(folder / "manifest.csv", EXTRACTOR, folder / "out", rules=RULES, recordings_per_shard=3)
    return folder / "out"


@pytest.fixture(scope="module")
def plain(folder):
    """The windows as they are, in the same order."""
    return list(EEGShardDataset(folder, "train"))


def everything(folder, **arguments):
    """All options at once."""
    options = {
        "max_channels": 5,
        "montages": {"as_recorded": 1, "average_reference": 1, "bipolar": 2},
        "seconds": [1.0, 1.5, 2.0],
        "time_shift": True,
        "amplitude_jitter": 1.4,
        "balance": 0.5,
    }
    return PreTrainingWindows(folder, **options | arguments)


def assert_same(window, other):
    assert set(window) == set(other)
    for name, value in window.items():
        np.testing.assert_array_equal(value, other[name])


def same_values(windows, others):
    pairs = zip(windows, others, strict=True)
    return all(np.array_equal(one["input_values"], other["input_values"]) for one, other in pairs)


def microvolts(window):
    return EXTRACTOR.invert(window["input_values"])


def test_by_default_nothing_is_changed(folder, plain):
    windows = PreTrainingWindows(folder)
    assert len(windows) == len(plain) == 58
    for window, expected in zip(windows, plain, strict=True):
        assert_same(window, expected)
    assert windows.sizes.tolist() == [list(window["input_values"].shape) for window in plain]
    assert_same(windows[-1], plain[-1])
    with pytest.raises(IndexError):
        windows[58]


def test_only_the_people_of_the_split(folder):
    assert {window["subject"] for window in everything(folder, split="validation")} == {"caps/5"}
    assert {window["subject"] for window in everything(folder, balance=1)} == {
        *("caps/0", "caps/1", "bands/2", "pairs/3", "pairs/4")
    }
    with pytest.raises(ValueError, match="No recording of .* is in the split 'test'"):
        PreTrainingWindows(folder, "test")


def test_draws_depend_on_seed_epoch_and_place_only(folder):
    windows, another = everything(folder, seed=7), everything(folder, seed=7)
    first = list(windows)
    for index in np.random.default_rng(0).permutation(len(windows)):  # in another order, by another object
        assert_same(another[int(index)], first[index])
    assert_same(pickle.loads(pickle.dumps(windows))[5], first[5])
    assert not same_values(everything(folder, seed=8), first)
    windows.set_epoch(1)
    assert windows.epoch == 1 and not same_values(windows, first)
    windows.set_epoch(0)
    assert same_values(windows, first)


def test_workers_give_the_same_as_one_process(folder):
    """Also workers that outlive an epoch."""
    windows = everything(folder)
    loader = DataLoader(windows, batch_size=None, num_workers=2, persistent_workers=True)
    for epoch in (0, 1):
        windows.set_epoch(epoch)
        assert same_values(loader, windows)


def test_average_reference(folder, plain):
    for window, before in zip(PreTrainingWindows(folder, montages={"average_reference": 1}), plain, strict=True):
        if before["subject"].startswith("pairs"):
            assert_same(window, before)
            continue
        good = before["channel_mask"]
        after, expected = microvolts(window), microvolts(before)
        np.testing.assert_allclose(after[good].mean(axis=0), 0, atol=1e-4)
        np.testing.assert_allclose(after[good] - after[0], expected[good] - expected[0], atol=1e-3)
        assert (after[~good] == 0).all()
        for name in ENTRIES[1:]:
            np.testing.assert_array_equal(window[name], before[name])


def test_bipolar(folder, plain):
    """Each channel is the difference of two good electrodes, and its position is between them."""
    seen = Counter()
    windows = PreTrainingWindows(folder, montages={"bipolar": 3})
    for window, before in zip(windows, plain, strict=True):
        if before["subject"].startswith("pairs"):
            assert_same(window, before)
            continue
        names = EIGHT if before["subject"].startswith("caps") else ["AF7", "AF8", "TP9"]
        expected = {}
        for a in np.flatnonzero(before["channel_mask"]):
            for b in np.flatnonzero(before["channel_mask"]):
                if a != b:
                    expected[f"{names[a]}-{names[b]}"] = microvolts(before)[a] - microvolts(before)[b]
        found = []
        for channel, signal in enumerate(microvolts(window)):
            (name,) = (pair for pair, value in expected.items() if np.allclose(value, signal, atol=1e-3))
            np.testing.assert_array_equal(window["electrode_positions"][channel], grid_positions([name])[0])
            np.testing.assert_array_equal(window["lobe_mask"][channel], lobe_membership([name])[0])
            found.append(name)
        assert len(found) == len(set(found)) <= len(names) and window["channel_mask"].all()
        seen.update(found)
    # neighbours, each pair in one direction; over many windows every electrode occurs
    assert "Fp1-Fp2" in seen and "Fp2-Fp1" not in seen
    assert not {"Fp1-O1", "Fp1-O2", "Fp2-O1", "Fp2-O2"} & set(seen)
    assert {name for pair in seen for name in pair.split("-")} == {*EIGHT, "AF7", "AF8", "TP9"}


def test_pairs_are_directed_as_in_clinical_montages():
    electrodes = sorted({name for pair in DOUBLE_BANANA for name in pair.split("-")})
    pairs = neighbouring_pairs(electrodes, EXTRACTOR)
    names = [f"{electrodes[a]}-{electrodes[b]}" for a, b in zip(pairs.first, pairs.second, strict=True)]
    turned = {"-".join(pair.split("-")[::-1]) for pair in DOUBLE_BANANA}
    assert len(set(names) & set(DOUBLE_BANANA)) >= 15 and not set(names) & turned
    assert (np.sort(np.unique(pairs.of_electrode)) == np.arange(len(names))).all()


def test_some_of_the_good_channels(folder, plain):
    windows = PreTrainingWindows(folder, max_channels=4)
    chosen = Counter()
    for size, window, before in zip(windows.sizes, windows, plain, strict=True):
        places = before["electrode_positions"].tolist()
        rows = [places.index(place) for place in window["electrode_positions"].tolist()]
        assert len(rows) == len(set(rows)) == min(4, before["channel_mask"].sum()) and size[0] >= len(rows)
        assert before["channel_mask"][rows].all()
        for name in ENTRIES:
            np.testing.assert_array_equal(window[name], before[name][rows])
        if len(places) == 8:
            chosen.update(rows)
    assert set(chosen) == set(range(8))


def test_parts_of_windows(folder, plain):
    windows = PreTrainingWindows(folder, seconds=[1.0, 1.5, 5.0])
    lengths = Counter()
    for size, window, before in zip(windows.sizes, windows, plain, strict=True):
        length = window["input_values"].shape[1]
        start = round((window["onset"] - before["onset"]) * 64)
        np.testing.assert_array_equal(window["input_values"], before["input_values"][:, start : start + length])
        assert length == size[1]
        lengths[length] += 1
    assert set(lengths) == {64, 96, 128} and min(lengths.values()) > 8


def test_windows_begin_anywhere(folder, plain):
    """Across the borders of windows the signal is the recording's, and no part leaves it."""
    windows = PreTrainingWindows(folder, time_shift=True)
    starts = []
    for window, before in zip(windows, plain, strict=True):
        onset = window["onset"]
        source = open_recording(folder.parent / window["recording"])
        assert source.holds(onset, 2.0) and 0 <= onset - before["onset"] < 2
        expected = EXTRACTOR(source)  # the whole recording is filtered at once, then cut
        signal = np.concatenate(list(expected["input_values"]), axis=1)
        first = round(onset * 64)
        np.testing.assert_allclose(window["input_values"], signal[:, first : first + 128], atol=2e-4)
        starts.append(first % 128)
    assert np.count_nonzero(starts) > 45 and len(set(starts)) > 30


def test_no_part_reaches_into_another_trial(tmp_path):
    np.save(tmp_path / "trials.npy", np.random.default_rng(0).normal(0, 10, (3, 128 * 12)))
    row = {"file": "trials.npy", "subject": "0", "sampling_rate": 128, "unit": "uV", "channel_names": "C3 Cz C4"}
    pd.DataFrame([row | {"trial_seconds": 2}]).to_csv(tmp_path / "manifest.csv", index=False)
    prepare_dataset(tmp_path / "manifest.csv", EXTRACTOR, tmp_path / "out", rules=RULES)
    for window in PreTrainingWindows(tmp_path / "out", time_shift=True, seconds=[1.0]):
        assert window["onset"] % 2 <= 1


def test_louder_and_quieter(folder, plain):
    gains = []
    for window, before in zip(PreTrainingWindows(folder, amplitude_jitter=1.5), plain, strict=True):
        after, expected = microvolts(window), microvolts(before)
        gain = (after * expected).sum() / (expected**2).sum()
        np.testing.assert_allclose(after, gain * expected, rtol=1e-4, atol=1e-4)
        gains.append(np.log(gain))
    assert np.abs(gains).max() < np.log(1.5) + 1e-6
    assert min(gains) < np.log(0.75) and max(gains) > np.log(1.3) and abs(np.mean(gains)) < 0.15


def drawn(windows):
    """How often an epoch has each window."""
    return Counter((window["recording"], window["onset"]) for window in windows)


def test_sets_count_by_a_power_of_their_size(folder, plain):
    """40, 8 and 10 windows: in equal numbers, and by the square root."""
    for balance, expected in ((0, [19, 19, 20]), (0.5, [30, 13, 15])):
        windows = PreTrainingWindows(folder, balance=balance)
        sets = Counter(window["subject"].split("/")[0] for window in windows)
        assert len(windows) == 58 and np.allclose(sorted(sets.values()), sorted(expected), atol=1)
        first = drawn(windows)
        for dataset in ("caps", "bands", "pairs"):
            counts = [first[w["recording"], w["onset"]] for w in plain if w["subject"].startswith(dataset)]
            assert max(counts) - min(counts) <= 1
        windows.set_epoch(1)
        assert drawn(windows) != first
    assert max(drawn(PreTrainingWindows(folder, balance=1)).values()) == 1


def test_several_data_sets(folder, tmp_path):
    write_recording(tmp_path / "sub-9_raw.fif", 9, ["C3", "C4"], 8)
    prepare_dataset(tmp_path, EXTRACTOR, tmp_path / "more", rules=RULES, dataset_name="more")
    windows = PreTrainingWindows([folder, tmp_path / "more"])
    assert len(windows) == 62 and windows[58]["subject"] == "more/9"
    assert len(PreTrainingWindows([folder, tmp_path / "more"], "validation")) == 5
    others = {"companding_a": NeurIPTFeatureExtractor(montage="as_recorded", companding_a=0.3)}
    others["num_lobes"] = NeurIPTFeatureExtractor(montage="bcic_iv_2b_monopolar", on_missing="drop")
    for name, extractor in others.items():
        prepare_dataset(tmp_path, extractor, tmp_path / name, rules=RULES)
        with pytest.raises(ValueError, match=f"differ in {name}: .* Prepare them with extractors that agree"):
            PreTrainingWindows([folder, tmp_path / name])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"max_channels": 0}, "max_channels must be at least 1, but is 0"),
        ({"montages": {"laplacian": 1}}, "must name as_recorded, average_reference, bipolar, but names laplacian"),
        ({"montages": {"bipolar": -1, "as_recorded": 2}}, "shares of montages must be zero or positive"),
        ({"montages": {"bipolar": 0}}, "not all zero"),
        ({"seconds": [2.0, 0.0]}, r"seconds must be positive, but are \[2.0, 0.0\]"),
        ({"amplitude_jitter": 0.7}, "the largest factor, at least 1, but is 0.7"),
        ({"folders": []}, "at least one prepared data set"),
    ],
)
def test_wrong_arguments(folder, arguments, words):
    with pytest.raises(ValueError, match=words):
        PreTrainingWindows(**{"folders": folder} | arguments)
    with pytest.raises(ValueError, match="batch_size and pool_batches must be at least 1, but are 0 and 50"):
        SimilarWindowsSampler(PreTrainingWindows(folder), 0)


def padded(windows, order, batch_size):
    """Channels times samples of the batches in this order, padding included."""
    sizes = windows.sizes[np.asarray(order)]
    batches = [sizes[start : start + batch_size] for start in range(0, len(sizes), batch_size)]
    return sum(len(batch) * batch.max(axis=0).prod() for batch in batches)


def test_batches_of_similar_windows(folder):
    windows = everything(folder, seconds=[1.0, 2.0])
    sampler = SimilarWindowsSampler(windows, batch_size=4)
    order = list(sampler)
    assert sorted(order) == list(range(58)) and len(sampler) == 58
    least = windows.sizes.prod(axis=1).sum()
    random = np.mean([padded(windows, np.random.default_rng(k).permutation(58), 4) for k in range(10)])
    assert padded(windows, order, 4) - least < 0.3 * (random - least)
    # small pools sort less; every batch but the last is cut where the sampler cut it
    assert padded(windows, order, 4) < padded(windows, list(SimilarWindowsSampler(windows, 4, pool_batches=2)), 4)
    assert order == list(SimilarWindowsSampler(everything(folder, seconds=[1.0, 2.0]), 4))
    assert order != list(SimilarWindowsSampler(windows, 4, seed=1))
    unchanged = PreTrainingWindows(folder)  # whose sizes are the same in each epoch
    sampler = SimilarWindowsSampler(unchanged, 4)
    first = list(sampler)
    sampler.set_epoch(1)
    assert unchanged.epoch == 1 and sorted(sampler) == sorted(first) and list(sampler) != first


class Sizes:
    """Windows of two shapes with the same number of values, and of a third."""

    epoch = 0
    sizes = np.array([[4, 256], [16, 64], [16, 256]] * 20)

    def __len__(self):
        return len(self.sizes)


def test_batches_are_of_one_shape_and_in_random_order():
    order = list(SimilarWindowsSampler(Sizes(), 5))
    batches = Sizes.sizes[order].reshape(12, 5, 2)
    assert (batches == batches[:, :1]).all()
    kinds = batches[:, 0].prod(axis=1) + batches[:, 0, 0]
    assert len(set(kinds)) == 3 and 4 < (np.diff(kinds) != 0).sum()


@pytest.mark.parametrize("processes", [1, 2])
def test_a_resumed_epoch_continues_where_it_stopped(folder, processes):
    """As Trainer does it: batches are skipped, then the epoch is set on the data loader and the windows."""

    def loader(process):
        windows = everything(folder)
        loader = DataLoader(windows, 4, sampler=SimilarWindowsSampler(windows, 4), collate_fn=lambda batch: batch)
        return windows, prepare_data_loader(
            loader, num_processes=processes, process_index=process, put_on_device=False
        )

    whole = []
    for process in range(processes):
        windows, batches = loader(process)
        epochs = []
        for epoch in (0, 1):
            windows.set_epoch(epoch)
            batches.set_epoch(epoch)
            epochs.append(list(batches))
        windows, batches = loader(process)
        windows.set_epoch(1)
        batches = skip_first_batches(batches, 3)
        batches.set_epoch(1)
        resumed = list(batches)
        assert len(resumed) == len(epochs[1]) - 3
        for batch, expected in zip(resumed, epochs[1][3:], strict=True):
            assert same_values(batch, expected)
        assert not same_values(epochs[0][0], epochs[1][0])
        whole += [window for batch in epochs[0] for window in batch]
    # together the processes see a whole epoch; its last batches are padded
    assert set(drawn(whole)) == set(drawn(everything(folder)))
