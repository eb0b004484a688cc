"""The feature extractor as two matrices, with which it becomes part of a model of torch."""

import numpy as np
import pytest

from neuript_hf import NeurIPTFeatureExtractor
from neuript_hf.channels import ChannelReport, plan_channels


NAMES = ["Fz", "C3", "Cz", "C4", "Pz", "T3"]


@pytest.mark.parametrize("rate", [64, 250, 160.5])
@pytest.mark.parametrize("phase", ["zero", "minimum"])
def test_filters_and_change_of_rate_are_a_matrix(rate, phase):
    extractor = NeurIPTFeatureExtractor(
        montage="as_recorded", companding=None, l_freq=0.5, notch_freq=20.0, filter_phase=phase
    )
    signal = np.random.default_rng(0).normal(0, 3, (2, len(NAMES), round(2.3 * rate))).cumsum(axis=-1) + 200
    made = extractor(signal, sampling_rate=rate, channel_names=NAMES, unit="uV")["input_values"]
    matrix = extractor.filter_matrix(rate, signal.shape[-1])
    np.testing.assert_allclose(signal @ matrix, made, rtol=1e-5, atol=1e-5)


def test_pairs_and_interpolated_electrodes_are_a_matrix():
    """Without what is bad, also where electrodes are interpolated from the others."""
    extractor = NeurIPTFeatureExtractor(montage=["C3", "Fz-Cz", "POz", "T7-T8"], on_missing="interpolate")
    extractor.companding = extractor.l_freq = None
    signal = np.random.default_rng(0).normal(0, 20, (1, len(NAMES), 256))
    signal[0, 3] = 0.0
    made = extractor(signal, sampling_rate=64, channel_names=NAMES, unit="uV")
    report = ChannelReport()
    plan = plan_channels(NAMES, ["eeg"] * len(NAMES), extractor.channel_names, "interpolate", report)
    bad = np.array([NAMES[index] == "C4" for index in plan.recorded])
    masked = ~made["channel_mask"][0]
    matrix = extractor.channel_matrix(plan, bad, masked)
    assert matrix.shape == (4, len(NAMES)) and (matrix[:, bad] == 0).all() and not masked.all()
    filtered = signal[0, plan.recorded] @ extractor.filter_matrix(64, 256)
    np.testing.assert_allclose(matrix @ filtered, made["input_values"][0], rtol=1e-5, atol=1e-5)


def test_a_rate_that_is_too_low_has_no_matrix():
    with pytest.raises(ValueError, match="too low"):
        NeurIPTFeatureExtractor().filter_matrix(50, 100)
