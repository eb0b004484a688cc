"""Band power and connectivity by lobe: against MNE-Connectivity, and what they must not depend on."""

import itertools
import json
import math

import numpy as np
import pytest
import torch
from conftest import ROOT

from neuript_hf import NeurIPTFeatureExtractor
from neuript_hf.connectivity import (
    POWER_FLOOR,
    band_correlation,
    band_power,
    connectivity,
    microvolts_of,
    short_time_spectrum,
)


BANDS = [[4, 8], [8, 13], [13, 30]]
FINER = [[4, 6], [6, 8], [8, 10], [10, 13]]
# four channels in three lobes and a fourth without channels; the second is in two
LOBES = torch.tensor([[[1, 0, 0, 0], [1, 1, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0]]]).bool()


def noise(windows=2, channels=4, samples=256, seed=0):
    """Correlated channels of some 10 microvolts."""
    generator = torch.Generator().manual_seed(seed)
    common = torch.randn(windows, 1, samples, generator=generator)
    return 10 * (torch.randn(windows, channels, samples, generator=generator) + 0.7 * common)


def first_channels(count, of=4):
    return (torch.arange(of) < count).expand(2, -1)


def test_correlations_are_the_real_part_of_mne_connectivitys_coherency():
    expected = json.loads((ROOT / "tests/fixtures/connectivity/coherency.json").read_text())
    bands = [[int(frequency), int(frequency) + 1] for frequency in expected["frequencies"]]
    found = band_correlation(short_time_spectrum(torch.tensor([expected["signal"]])), bands)
    row, column = np.tril_indices(4, -1)
    theirs = np.array(expected["real"])[row, column]
    assert theirs.shape == (6, 29) and theirs.std() > 0.3
    np.testing.assert_allclose(found[0, :, row, column].T, theirs, atol=1e-5)


def test_power_of_a_wave():
    """Square of the amplitude over two, where the band also has the neighbouring frequencies."""
    wave = 6 * torch.sin(2 * math.pi * 10 * torch.arange(256) / 64 + 0.3)
    power = band_power(short_time_spectrum(100 + wave[None, None]), BANDS)
    torch.testing.assert_close(power[0, :, 0], torch.tensor([0.0, 18.0, 0.0]), atol=1e-3, rtol=1e-4)


def test_means_over_the_channels_and_pairs_of_lobes():
    """Spelled out: a channel of two lobes counts in both, none is paired with itself, bad ones do not count."""
    signal, good = noise(), torch.tensor([[True] * 4, [True, True, True, False]])
    found = connectivity(signal, LOBES, BANDS, good, power_bands=FINER)
    spectrum = short_time_spectrum(signal)
    power, correlation = band_power(spectrum, FINER), band_correlation(spectrum, BANDS)
    for window in range(2):
        members = [[c for c in range(4) if LOBES[0, c, lobe] and good[window, c]] for lobe in range(4)]
        for lobe, channels in enumerate(members):
            expected = (power[window][:, channels] + POWER_FLOOR).log().mean(dim=1) if channels else torch.zeros(4)
            torch.testing.assert_close(found.log_power[window, lobe], expected)
            assert found.known_groups[window, lobe] == bool(channels)
        lobe_pairs = itertools.combinations_with_replacement(members, 2)
        for number, (first, second) in enumerate(lobe_pairs):
            pairs = [(i, j) for i in first for j in second if i != j]
            z = [correlation[window, :, i, j].atanh() for i, j in pairs]
            expected = torch.stack(z).mean(dim=0) if z else torch.zeros(3)
            torch.testing.assert_close(found.correlation[window, number], expected)
            assert found.known_pairs[window, number] == bool(pairs)
    numbers = found.numbers
    assert numbers.shape == found.scaled.shape == found.known.shape == (2, 4 * 4 + 10 * 3)
    assert (numbers[~found.known] == 0).all() and (found.scaled[~found.known] == 0).all()


@pytest.mark.parametrize("samples", [1, 40, 64, 70, 100, 256])
def test_padding_and_bad_channels_make_no_difference(samples):
    signal = noise(samples=samples)
    expected = connectivity(signal, LOBES, BANDS)
    padded = torch.nn.functional.pad(signal, (0, 90, 0, 2), value=1e4)
    lobes = torch.nn.functional.pad(LOBES, (0, 0, 0, 2), value=True)
    real = (torch.arange(samples + 90) < samples).expand(2, -1)
    found = connectivity(padded, lobes, BANDS, first_channels(4, of=6), real)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    assert all(tensor.isfinite().all() for tensor in found)


def test_order_sign_and_scale():
    signal = noise()
    plain = connectivity(signal, LOBES, BANDS)
    order = [2, 0, 3, 1]
    torch.testing.assert_close(connectivity(signal[:, order], LOBES[:, order], BANDS), plain)
    torch.testing.assert_close(connectivity(-signal, LOBES, BANDS), plain)
    louder = connectivity(3 * signal, LOBES, BANDS)
    torch.testing.assert_close(louder.correlation, plain.correlation)
    shift = (louder.log_power - plain.log_power)[plain.known_groups]
    torch.testing.assert_close(shift, torch.full_like(shift, 2 * math.log(3)), atol=1e-3, rtol=0)
    flipped = connectivity(signal * torch.tensor([1, 1, 1, -1])[:, None], LOBES, BANDS)
    torch.testing.assert_close(flipped.log_power, plain.log_power)
    # pairs (0, 2), (1, 2) and (2, 2), where the last lobe is the fourth channel alone
    torch.testing.assert_close(flipped.correlation[:, [2, 5, 7]], -plain.correlation[:, [2, 5, 7]])


def test_flat_copied_and_bad_channels_have_finite_numbers_and_gradients():
    signal = noise(channels=6)
    signal[:, 1], signal[:, 2], signal[:, 4] = 0, signal[:, 0], -signal[:, 0]
    signal.requires_grad_()
    found = connectivity(signal, torch.ones(1, 6, 1).bool(), BANDS, first_channels(5, of=6))
    found.scaled.square().sum().backward()
    assert found.numbers.isfinite().all() and signal.grad.isfinite().all()
    assert (signal.grad[:, 5] == 0).all() and (signal.grad[:, 3] != 0).any()
    pair = connectivity(signal[:, :2], torch.ones(1, 2, 1).bool(), BANDS)
    assert (pair.correlation == 0).all() and pair.known_pairs.all(), "flat: there, but without correlation"


def test_mixed_precision_changes_nothing():
    signal = noise()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = connectivity(signal, LOBES, BANDS)
    torch.testing.assert_close(found, connectivity(signal, LOBES, BANDS))


def test_compiled_without_a_graph_break():
    inputs = noise(), LOBES, BANDS, first_channels(3), torch.arange(256).expand(2, -1) < 200
    compiled = torch.compile(connectivity, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(*inputs), connectivity(*inputs))


@pytest.mark.parametrize("settings", [{}, {"companding_a": 3.0}, {"companding": None}])
def test_microvolts_are_those_of_the_feature_extractor(settings):
    extractor = NeurIPTFeatureExtractor(**settings)
    microvolts = torch.tensor([0, 1, -3, 4, -5, 10, 50, -100, 500, 0.01])
    values = torch.as_tensor(extractor.compress(microvolts.numpy()))
    found = microvolts_of(values, extractor.model_companding_a)
    torch.testing.assert_close(found, microvolts, atol=1e-5, rtol=1e-5)
    np.testing.assert_allclose(found, extractor.invert(values.numpy()), rtol=1e-5)
