"""The spectrum of a channel in a few numbers, and what pre-training makes of it."""

import numpy as np
import pytest
import torch
from conftest import exact, in_double, make_batch, make_window, pad, small_config

from neuript_hf import DataCollatorForAmplitudeAwareMasking, NeurIPTFeatureExtractor, NeurIPTForPreTraining
from neuript_hf.auxiliary_targets import channel_loss
from neuript_hf.training.spectral_target import (
    BAND_EDGES,
    NUM_SPECTRAL_TARGETS,
    has_target,
    spectral_statistics,
    spectral_target,
)


RATE = 64


def noise(exponent: float, seconds: float = 600, seed: int = 0) -> np.ndarray:
    """One channel of noise whose power falls with frequency to the `exponent`, `[1, T]`."""
    samples = round(seconds * RATE)
    spectrum = np.fft.rfft(np.random.default_rng(seed).normal(size=samples))
    frequencies = np.fft.rfftfreq(samples, 1 / RATE)
    spectrum[1:] *= frequencies[1:] ** (-exponent / 2)
    return 10 * np.fft.irfft(spectrum, samples)[None]


@pytest.mark.parametrize("exponent", [0.0, 1.0])
def test_the_slope_is_that_of_the_noise(exponent):
    offset, slope, *bands = spectral_target(noise(exponent), RATE)[0]
    assert slope == pytest.approx(-exponent, abs=0.1)
    assert np.abs(bands).max() < 0.15
    if exponent == 0:
        assert offset == pytest.approx(np.log(100 / 32), abs=0.1)  # variance 100 spread over 32 Hz


def test_a_louder_recording_differs_in_its_offset_alone():
    signal = noise(1.0, seconds=8)
    quiet, loud = spectral_target(signal, RATE), spectral_target(3 * signal, RATE)
    np.testing.assert_allclose((loud - quiet)[0], [2 * np.log(3)] + [0] * 12, atol=5e-3)


def test_an_oscillation_is_above_the_line_in_its_band():
    times = np.arange(4 * RATE) / RATE
    signal = noise(1.0, seconds=4) + 20 * np.sin(2 * np.pi * 11 * times)
    bands = spectral_target(signal, RATE)[0, 2:]
    assert BAND_EDGES[bands.argmax()] == 10.0 and bands.max() > 1


def test_channels_are_independent_and_silence_is_finite():
    signal = np.concatenate([noise(1.0, 4), np.zeros((1, 4 * RATE)), noise(0.0, 4)])
    together = spectral_target(signal, RATE)
    assert together.shape == (3, NUM_SPECTRAL_TARGETS) and np.isfinite(together).all()
    for channel in range(3):
        np.testing.assert_allclose(
            together[channel], spectral_target(signal[[channel]], RATE)[0], rtol=1e-5, atol=1e-5
        )


def test_signals_without_a_target():
    assert has_target(noise(1.0, 3), RATE) and not has_target(noise(1.0, 2.9), RATE)
    assert not has_target(np.zeros((0, 256)), RATE)
    with pytest.raises(ValueError, match="at least 3 s, but the signal has 2.5 s"):
        spectral_target(noise(1.0, 2.5), RATE)
    with pytest.raises(ValueError, match="30 Hz need a sampling rate of twice that, but it is 50 Hz"):
        spectral_target(noise(1.0, 4), 50)


def test_statistics_standardise():
    windows = [np.concatenate([noise(1.0, 4, seed), 5 * noise(0.5, 4, seed + 100)]) for seed in range(20)]
    mean, std = spectral_statistics(windows, RATE)
    targets = np.concatenate([spectral_target(signal, RATE) for signal in windows])
    standardised = (targets - mean) / std
    np.testing.assert_allclose(standardised.mean(axis=0), 0, atol=1e-5)
    np.testing.assert_allclose(standardised.std(axis=0), 1, atol=1e-5)
    short = [signal[:, :RATE] for signal in windows]
    assert spectral_statistics([*windows, *short], RATE) == (mean, std)
    with pytest.raises(ValueError, match="different channels in windows of 3 s or more, but the windows have 0"):
        spectral_statistics([], RATE)
    with pytest.raises(ValueError, match="or equal ones"):
        spectral_statistics([np.zeros((3, 256))], RATE)


def test_the_collator_adds_the_true_spectrum_of_good_channels():
    extractor = NeurIPTFeatureExtractor()
    example = make_window(channels=4, samples=192, channel_mask=np.array([True, False, True, True]))
    collate = DataCollatorForAmplitudeAwareMasking(spectral_extractor=extractor)
    batch = collate([example])
    expected = spectral_target(extractor.invert(example["input_values"]), extractor.sampling_rate)
    good = example["channel_mask"]
    assert (batch["input_values"][0].numpy() != example["input_values"]).any()  # replaced values are not the truth
    np.testing.assert_allclose(batch["spectral_targets"][0, good], expected[good], rtol=1e-5, atol=1e-5)
    assert batch["spectral_targets"][0, ~good].isnan().all()
    short = collate([make_window(channels=4, samples=128), example])
    assert short["spectral_targets"][0].isnan().all() and short["spectral_targets"][1, good].isfinite().all()


def spectral_config(**kwargs):
    return small_config(spectral_mean=[0.5] * 13, spectral_scale=[2.0] * 13, **kwargs)


def test_the_loss_is_that_of_standardised_numbers_over_real_channels():
    model = NeurIPTForPreTraining(spectral_config(spectral_loss_weight=0.25)).eval()
    batch = make_batch(windows=2, channels=5)
    labels = torch.randn(2, 5, 13)
    mask = torch.tensor([[True] * 5, [True, True, True, False, False]])
    output = model(**batch, channel_mask=mask, labels=batch["input_values"], spectral_targets=labels)
    error = (output.spectral_logits - (labels - 0.5) / 2.0).square().mean(dim=-1)
    torch.testing.assert_close(output.spectral_loss, error[mask].mean())
    torch.testing.assert_close(output.loss, output.reconstruction_loss + 0.25 * output.spectral_loss)
    alone = model(**batch, channel_mask=mask, spectral_targets=labels)
    torch.testing.assert_close(alone.loss, 0.25 * output.spectral_loss)


def test_channels_without_a_target_do_not_count():
    """Nor do their gradients: they are zero, and not NaN."""
    predictions, targets = torch.randn(2, 3, 4, requires_grad=True), torch.randn(2, 3, 4)
    targets[1], targets[0, 0, 2] = torch.nan, torch.nan
    loss = channel_loss(predictions, targets, None, training=True)
    torch.testing.assert_close(loss, (predictions[0, 1:] - targets[0, 1:]).square().mean())
    loss.backward()
    assert (predictions.grad[1] == 0).all() and (predictions.grad[0, 1:] != 0).all()
    assert channel_loss(predictions, targets, torch.zeros(2, 3, dtype=torch.bool), training=True) == 0


def test_wrong_spectral_targets_are_refused():
    batch = make_batch()
    with pytest.raises(ValueError, match=r"spectral_targets must be .* = \[3, 5, 13\], but have shape \[3, 5, 2\]"):
        NeurIPTForPreTraining(spectral_config())(**batch, spectral_targets=torch.zeros(3, 5, 2))
    with pytest.raises(ValueError, match=r"spectral_targets must be .* = \[3, 5, 0\]"):
        NeurIPTForPreTraining(small_config())(**batch, spectral_targets=torch.zeros(3, 5, 13))


def test_padding_does_not_change_the_spectral_answer():
    model = exact(NeurIPTForPreTraining(spectral_config(decoder_size=8)).eval())
    plain, wide = (model(**in_double(batch)) for batch in (make_batch(), pad(make_batch(), 2, 9, garbage=7.0)))
    torch.testing.assert_close(wide.spectral_logits[:, :5], plain.spectral_logits, rtol=0, atol=1e-9)
    torch.testing.assert_close(wide.logits[:, :5, :40], plain.logits, rtol=0, atol=1e-9)
