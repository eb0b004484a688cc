"""Simulated recordings: seeded, with plausible amplitudes, and difficult in the intended way."""

import json
import warnings

import mne
import numpy as np
import pandas as pd
import pytest
from scipy.signal import welch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from neuript_hf.data.simulation import CLASS_NAMES, simulate_dataset, simulate_recording
from neuript_hf.electrodes import TEN_TWENTY


N_TRAIN, N_TEST, N_TRIALS = 6, 6, 30


@pytest.fixture(scope="module")
def people() -> list[mne.io.RawArray]:
    return [simulate_recording(subject, n_trials=N_TRIALS) for subject in range(N_TRAIN + N_TEST)]


def band_powers(raw: mne.io.BaseRaw, *bands: tuple[float, float]) -> tuple[np.ndarray, np.ndarray]:
    """Log power in the bands (hertz) together, `[n_trials, n_channels]`, and the class of each trial."""
    rate = raw.info["sfreq"]
    powers, labels = [], []
    for annotation in raw.annotations:
        start = round(annotation["onset"] * rate)
        trial = raw.get_data(start=start, stop=start + round(annotation["duration"] * rate))
        frequencies, density = welch(trial, rate, nperseg=round(2 * rate))
        inside = np.any([(low <= frequencies) & (frequencies <= high) for low, high in bands], axis=0)
        powers.append(np.log(density[:, inside].sum(axis=1)))
        labels.append(CLASS_NAMES.index(annotation["description"]))
    return np.array(powers), np.array(labels)


def accuracy_on_unseen_people(features: list[tuple[np.ndarray, np.ndarray]]) -> float:
    """Balanced accuracy of logistic regression on the last people, trained on the first."""
    powers, labels = (np.concatenate(part) for part in zip(*features, strict=True))
    train = np.arange(len(labels)) < N_TRAIN * N_TRIALS
    classifier = make_pipeline(StandardScaler(), LogisticRegression()).fit(powers[train], labels[train])
    return balanced_accuracy_score(labels[~train], classifier.predict(powers[~train]))


@pytest.mark.slow
def test_hands_differ_in_space_and_in_the_mu_band_only(people):
    """Band power distinguishes them, but not always; imagining weakens the opposite hemisphere."""
    features = [band_powers(raw, (8, 13)) for raw in people]
    assert 0.75 <= accuracy_on_unseen_people(features) <= 0.9
    sites = [TEN_TWENTY.index(name) for name in ("C3", "C4")]
    assert 0.75 <= accuracy_on_unseen_people([(powers[:, sites], labels) for powers, labels in features]) <= 0.92
    without_space = [(powers.mean(axis=1, keepdims=True), labels) for powers, labels in features]
    assert accuracy_on_unseen_people(without_space) < 0.6
    assert accuracy_on_unseen_people([band_powers(raw, (1, 7), (14, 40)) for raw in people]) < 0.6
    for powers, labels in features:
        left, right = (powers[labels == label][:, sites].mean(axis=0) for label in (0, 1))
        c3, c4 = left - right
        assert c3 > c4


@pytest.mark.slow
def test_amplitudes_are_those_of_eeg(people):
    for raw in people[:4]:
        microvolts = 1e6 * raw.copy().filter(0.1, 30.0, verbose="ERROR").get_data()
        deviations = np.abs(microvolts - np.median(microvolts, axis=1, keepdims=True))
        robust_sd = 1.4826 * np.median(deviations, axis=1)
        assert 5 < np.median(robust_sd) < 50
        assert 3 < robust_sd.min() and robust_sd.max() < 80


@pytest.mark.slow
def test_spectrum_falls_with_frequency(people):
    low, high = (np.mean([band_powers(raw, band)[0].mean() for raw in people]) for band in ((2, 6), (25, 29)))
    assert low > high + 1


@pytest.mark.slow
def test_alpha_rhythm_is_posterior(people):
    posterior = [TEN_TWENTY.index(name) for name in ("O1", "O2")]
    frontal = [TEN_TWENTY.index(name) for name in ("F3", "Fz", "F4")]
    contrasts = []
    for raw in people:
        alpha, beside = (band_powers(raw, *bands)[0].mean(axis=0) for bands in ([(8, 12)], [(4, 6), (15, 17)]))
        peak = alpha - beside
        contrasts.append(peak[posterior].mean() - peak[frontal].mean())
    assert np.mean(contrasts) > 0.5
    assert np.mean(np.array(contrasts) > 0) > 0.8


@pytest.mark.slow
def test_blinks_are_frontal_and_large(people):
    for raw in people:
        microvolts = 1e6 * raw.copy().filter(1.0, 10.0, verbose="ERROR").get_data()
        peaks = dict(zip(raw.ch_names, np.abs(microvolts).max(axis=1), strict=True))
        assert max(peaks, key=peaks.get) in ("Fp1", "Fp2")
        assert max(peaks["Fp1"], peaks["Fp2"]) > 100
        assert max(peaks["O1"], peaks["O2"]) < 0.7 * max(peaks["Fp1"], peaks["Fp2"])


@pytest.mark.slow
def test_neighbours_share_the_background(people):
    for raw in people[:4]:
        correlation = np.corrcoef(raw.copy().filter(15.0, 40.0, verbose="ERROR").get_data())
        p3, p7, f4 = (TEN_TWENTY.index(name) for name in ("P3", "P7", "F4"))
        near, far = correlation[p3, p7], correlation[f4, p7]
        assert 0.1 < near < 0.95
        assert near > far


@pytest.mark.slow
def test_same_seed_same_recording_other_person_other_recording(people):
    again = simulate_recording(1, n_trials=N_TRIALS)
    assert np.array_equal(again.get_data(), people[1].get_data())
    assert again.annotations == people[1].annotations
    others = [people[0], people[1], simulate_recording(1, seed=1, n_trials=N_TRIALS)]
    first = [raw.get_data(stop=2000).reshape(-1) for raw in others]
    assert np.abs(np.corrcoef(first) - np.eye(3)).max() < 0.5


def test_metadata_of_a_recording():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        names = ["C4", "T3", "Oz"]
        raw = simulate_recording(3, n_trials=5, trial_seconds=2.0, sampling_rate=256.0, channel_names=names)
    assert raw.ch_names == names
    assert raw.info["sfreq"] == 256
    assert raw.info["subject_info"]["his_id"] == "sub-03"
    assert np.isfinite(list(raw.get_montage().get_positions()["ch_pos"].values())).all()
    assert sorted(raw.annotations.description) == ["left_hand"] * 3 + ["right_hand"] * 2
    assert (raw.annotations.duration == 2).all()
    rests = raw.annotations.onset[1:] - raw.annotations.onset[:-1] - 2
    assert (rests > 1).all()
    assert raw.annotations.onset[0] > 1 and raw.annotations.onset[-1] + 2 < raw.times[-1] - 1


def test_older_mne_has_another_name_for_the_montage(monkeypatch):
    expected = simulate_recording(0, n_trials=1).get_data()
    make_standard_montage = mne.channels.make_standard_montage
    asked = []

    def make_montage(name):
        asked.append(name)
        return make_standard_montage("colin27_1005")

    monkeypatch.setattr(mne.channels, "get_builtin_montages", lambda: ["standard_1005"])
    monkeypatch.setattr(mne.channels, "make_standard_montage", make_montage)
    assert np.array_equal(simulate_recording(0, n_trials=1).get_data(), expected)
    assert asked == ["standard_1005"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"subject": -1}, "0 or more"),
        ({"subject": 0, "seed": -1}, "0 or more"),
        ({"subject": 0, "n_trials": 0}, "one trial or more"),
        ({"subject": 0, "trial_seconds": 0.5}, "of a second or more"),
        ({"subject": 0, "sampling_rate": 50}, "64 Hz or more"),
        ({"subject": 0, "channel_names": ["C3", "E17"]}, r"got \['E17'\]"),
    ],
)
def test_mistakes_are_named(settings, message):
    with pytest.raises(ValueError, match=message):
        simulate_recording(**settings)


def test_dataset_on_disk(tmp_path):
    manifest = simulate_dataset(tmp_path / "new" / "set", n_subjects=4, seed=5, n_trials=2, trial_seconds=2.0)
    table = pd.read_csv(manifest)
    assert list(table) == ["file", "subject", "split", "events"]
    assert table["split"].tolist() == ["train", "train", "val", "test"]
    assert table["subject"].is_unique
    assert {json.dumps({name: name for name in CLASS_NAMES})} == set(table["events"])
    assert {path.name for path in manifest.parent.iterdir()} == {"manifest.csv", *table["file"]}
    for subject, file in enumerate(table["file"], start=1):
        raw = mne.io.read_raw(manifest.parent / file, verbose="ERROR")
        expected = simulate_recording(subject, seed=5, n_trials=2, trial_seconds=2.0)
        np.testing.assert_allclose(raw.get_data(), expected.get_data(), rtol=1e-6, atol=1e-12)
        assert raw.annotations.description.tolist() == expected.annotations.description.tolist()
        np.testing.assert_allclose(raw.annotations.onset, expected.annotations.onset, atol=1e-6)
        assert raw.info["subject_info"]["his_id"] == table["subject"][subject - 1]


def test_dataset_is_overwritten_only_on_request(tmp_path):
    settings = {"n_subjects": 3, "n_trials": 1, "trial_seconds": 1.0}
    manifest = simulate_dataset(tmp_path, **settings)
    before = manifest.stat().st_mtime_ns
    with pytest.raises(FileExistsError, match="overwrite=True"):
        simulate_dataset(tmp_path, **settings)
    assert manifest.stat().st_mtime_ns == before
    assert simulate_dataset(tmp_path, overwrite=True, **settings) == manifest
    with pytest.raises(ValueError, match="3 or more"):
        simulate_dataset(tmp_path / "other", n_subjects=2)
