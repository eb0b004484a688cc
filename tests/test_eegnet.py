"""EEGNet: the published architecture, its bounds, and that it learns what people share."""

import numpy as np
import pytest
import torch
from sklearn.base import clone

from neuript_hf.evaluation.eegnet import EEGNet, EEGNetClassifier


def rhythms(windows=120, seed=0):
    """Two classes: 8 or 20 Hz at two of three channels, in noise, microvolts."""
    rng = np.random.default_rng(seed)
    labels = np.arange(windows) % 2
    time = np.arange(128) / 64
    waves = np.sin(2 * np.pi * (np.where(labels, 8, 20)[:, None, None] * time + rng.random((windows, 1, 1))))
    return 20 * waves * np.array([1, -1, 0])[:, None] + rng.normal(0, 20, (windows, 3, 128)), labels


def test_the_published_sizes():
    """Of EEGNet-8,2 for 64 electrodes and 1 s at 128 Hz, where lengths are those of the paper's table 2."""
    network = EEGNet(num_channels=64, num_classes=4, sampling_rate=128, num_samples=128)
    filters = 8 * 64 + 16 * 64 + 16 * 16 + 16 * 16  # in time, in space, separable
    norms = 2 * (8 + 16 + 16)
    assert sum(parameter.numel() for parameter in network.parameters()) == filters + norms + (16 * 4 + 1) * 4
    assert network(torch.randn(2, 64, 128)).shape == (2, 4)


@pytest.mark.parametrize("rate, samples", [(32, 32), (64, 64), (64, 256), (64, 320), (128, 130), (256, 256)])
def test_lengths_and_rates(rate, samples):
    assert EEGNet(5, 3, rate, samples)(torch.randn(2, 5, samples)).shape == (2, 3)


def test_what_it_cannot_take():
    with pytest.raises(ValueError, match="multiple of 32 Hz, but the sampling rate is 100"):
        EEGNet(3, 2, 100, 400)
    with pytest.raises(ValueError, match="windows of at least 16 samples, but these have 15"):
        EEGNet(3, 2, 64, 15)
    signals, labels = rhythms(8)
    with pytest.raises(ValueError, match=r"two classes or more, but all labels are \[0\]"):
        EEGNetClassifier(64).fit(signals, 0 * labels)
    with pytest.raises(ValueError, match="one class for each window, but the labels are continuous"):
        EEGNetClassifier(64).fit(signals, labels + 0.5 * np.arange(8))
    with pytest.raises(ValueError, match="but the labels are multilabel-indicator"):
        EEGNetClassifier(64).fit(signals, np.eye(8)[:, :2])


def test_it_tells_rhythms_apart_and_is_bounded():
    signals, labels = rhythms()
    classifier = EEGNetClassifier(64, steps=60).fit(signals[:80], labels[:80])
    assert classifier.score(signals[80:], labels[80:]) > 0.9
    network = classifier.network_
    assert network.spatial.weight.flatten(1).norm(dim=1).max() <= 1 + 1e-5
    assert network.classifier.weight.norm(dim=1).max() <= 0.25 + 1e-5


def test_a_scikit_learn_classifier():
    signals, labels = rhythms(40)
    names = np.array(["slow", "quick"])[labels]
    classifier = clone(EEGNetClassifier(64, steps=10, seed=3)).fit(signals, names)
    assert classifier.get_params() == {"sampling_rate": 64, "steps": 10, "seed": 3}
    probabilities = np.exp(classifier.predict_log_proba(signals))
    np.testing.assert_allclose(probabilities.sum(axis=1), 1)
    np.testing.assert_allclose(probabilities, classifier.predict_proba(signals))
    assert (classifier.predict(signals) == classifier.classes_[probabilities.argmax(axis=1)]).all()
    assert list(classifier.classes_) == ["quick", "slow"]


def test_a_seed_decides_everything_and_touches_nothing():
    signals, labels = rhythms(40)
    before = torch.random.get_rng_state()
    first, again, other = (
        EEGNetClassifier(64, steps=5, seed=seed).fit(signals, labels).predict_log_proba(signals) for seed in (0, 0, 1)
    )
    assert torch.equal(torch.random.get_rng_state(), before)
    np.testing.assert_array_equal(first, again)
    assert not np.allclose(first, other)


def test_the_unit_does_not_matter():
    """Volts and microvolts give the same, and one window of artefacts does not drown the others."""
    signals, labels = rhythms(40)
    scores = EEGNetClassifier(64, steps=20).fit(signals, labels).predict_log_proba(signals)
    volts = 1e-6 * signals
    in_volts = EEGNetClassifier(64, steps=20).fit(volts, labels).predict_log_proba(volts)
    np.testing.assert_allclose(scores, in_volts, atol=1e-3)
    spoilt = signals.copy()
    spoilt[0] *= 1e6
    assert EEGNetClassifier(64, steps=1).fit(spoilt, labels).scale_ == pytest.approx(
        EEGNetClassifier(64, steps=1).fit(signals, labels).scale_, rel=0.01
    )


def test_it_sees_where():
    """The same rhythm in both classes, alike at two channels or opposite: only filters in space tell them apart."""
    rng = np.random.default_rng(0)
    labels = np.arange(160) % 2
    waves = np.sin(2 * np.pi * (10 * np.arange(128) / 64 + rng.random((160, 1, 1))))
    signals = waves * np.stack([np.ones(160), np.where(labels, 1, -1), np.zeros(160)], axis=1)[..., None]
    signals = 20 * signals + rng.normal(0, 20, signals.shape)
    assert EEGNetClassifier(64, steps=80).fit(signals[:100], labels[:100]).score(signals[100:], labels[100:]) > 0.9
