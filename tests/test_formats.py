"""One recording in every format, unit, rate and derivation gives the same tensors."""

import importlib.util

import mne
import numpy as np
import pytest
from edfio import Bdf, BdfSignal, Edf, EdfSignal

from neuript_hf import NeurIPTFeatureExtractor
from neuript_hf.electrodes import MONTAGES, TEN_TWENTY


SECONDS, RATE = 12, 256
# Tolerances for 16 bits over a range of 2 x 400 microvolts, and for other sampling times, in microvolts.
STORED, RESAMPLED = 0.05, 0.25
# Another rate changes more at the ends of a recording, where its continuation is unknown: for this many seconds.
END_SECONDS, AT_ENDS = 0.5, 10.0


def potentials(rate):
    """The same continuous signal at any rate: 19 electrodes, sines of 0.5 to 28 Hz, microvolts."""
    generator = np.random.default_rng(0)
    frequencies, phases = generator.uniform(0.5, 28, 60), generator.uniform(0, 2 * np.pi, (19, 60))
    amplitudes = 20 / np.sqrt(frequencies)
    time = np.arange(round(SECONDS * rate)) / rate
    return np.einsum("f,cft->ct", amplitudes, np.sin(2 * np.pi * frequencies[:, None] * time + phases[..., None]))


def pairs_of(signal):
    """The double banana, derived before writing, every other pair reversed."""
    pairs, values = [], []
    for number, pair in enumerate(MONTAGES["double_banana"]):
        first, second = pair.split("-")[:: 1 if number % 2 else -1]
        pairs.append(f"{first}-{second}")
        values.append(signal[TEN_TWENTY.index(first)] - signal[TEN_TWENTY.index(second)])
    return pairs, np.array(values)


@pytest.fixture(scope="module")
def expected():
    return windows(potentials(RATE), sampling_rate=RATE, channel_names=TEN_TWENTY, unit="uV")


def windows(recording, **described):
    """Windows in microvolts."""
    batch = NeurIPTFeatureExtractor(companding=None)(recording, **described)
    assert batch["channel_mask"].all()
    return batch["input_values"]


def write_edf(path, signal, names, rate, unit="uV", per_unit=1.0):
    limits = (-400.0 / per_unit, 400.0 / per_unit)
    kinds = (Bdf, BdfSignal) if path.suffix == ".bdf" else (Edf, EdfSignal)
    signals = [
        kinds[1](data / per_unit, rate, label=name, physical_dimension=unit, physical_range=limits)
        for name, data in zip(names, signal, strict=True)
    ]
    kinds[0](signals).write(path)


def write_with_mne(path, signal, names, rate):
    raw = mne.io.RawArray(signal * 1e-6, mne.create_info(list(names), rate, "eeg"), verbose="ERROR")
    if path.suffix == ".fif":
        raw.save(path, verbose="ERROR")
        return
    package = {".vhdr": "pybv", ".set": "eeglabio"}[path.suffix]
    if importlib.util.find_spec(package) is None:
        pytest.skip(f"{package} writes {path.suffix}: pip install {package}")
    mne.export.export_raw(path, raw, verbose="ERROR")


def write(path, signal, names, rate):
    (write_edf if path.suffix in (".edf", ".bdf") else write_with_mne)(path, signal, names, rate)


SUFFIXES = [".edf", ".bdf", "_raw.fif", ".vhdr", ".set"]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_formats(tmp_path, expected, suffix):
    path = tmp_path / f"a{suffix}"
    write(path, potentials(RATE), TEN_TWENTY, RATE)
    np.testing.assert_allclose(windows(path), expected, atol=STORED)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_recorded_pairs(tmp_path, expected, suffix):
    path = tmp_path / f"a{suffix}"
    pairs, signal = pairs_of(potentials(RATE))
    write(path, signal, pairs, RATE)
    np.testing.assert_allclose(windows(path), expected, atol=STORED)


@pytest.mark.parametrize(
    ("unit", "per_unit"), [("uV", 1.0), ("mV", 1e3), ("V", 1e6), ("nV", 1e-3), ("", 1.0), ("", 1e3), ("", 1e6)]
)
def test_units(tmp_path, expected, unit, per_unit):
    write_edf(tmp_path / "a.edf", potentials(RATE), TEN_TWENTY, RATE, unit, per_unit)
    np.testing.assert_allclose(windows(tmp_path / "a.edf"), expected, atol=STORED)


@pytest.mark.parametrize("rate", [128, 160, 200, 250, 500, 512, 1000, 1024, 2048, 2500, 5000])
def test_rates(tmp_path, expected, rate):
    write_edf(tmp_path / "a.edf", potentials(rate), TEN_TWENTY, rate)
    difference = np.abs(windows(tmp_path / "a.edf") - expected)
    ends = round(END_SECONDS * 64)
    assert difference.max() < AT_ENDS
    difference[0, :, :ends] = difference[-1, :, -ends:] = 0.0
    assert difference.max() < RESAMPLED
