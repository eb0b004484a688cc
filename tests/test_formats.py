"""One recording in every format, unit and derivation gives the same tensors."""

import importlib.util

import mne
import numpy as np
import pytest
from conftest import make_raw, write_edf

from neuript_hf import NeurIPTFeatureExtractor
from neuript_hf.electrodes import MONTAGES, TEN_TWENTY


SECONDS, RATE = 12, 256
# Tolerance for 16 bits over a range of 2 x 400 microvolts.
STORED = 0.05


def potentials():
    """19 electrodes, sines of 0.5 to 28 Hz, microvolts."""
    generator = np.random.default_rng(0)
    frequencies, phases = generator.uniform(0.5, 28, 60), generator.uniform(0, 2 * np.pi, (19, 60))
    amplitudes = 20 / np.sqrt(frequencies)
    time = np.arange(SECONDS * RATE) / RATE
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
    return windows(potentials(), sampling_rate=RATE, channel_names=TEN_TWENTY, unit="uV")


def windows(recording, **described):
    """Windows in microvolts."""
    batch = NeurIPTFeatureExtractor(companding=None)(recording, **described)
    assert batch["channel_mask"].all()
    return batch["input_values"]


def write(path, signal, names=TEN_TWENTY, unit="uV", per_unit=1.0):
    """A file of the type that the ending names, in a unit of `per_unit` microvolts."""
    package = {".vhdr": "pybv", ".set": "eeglabio"}.get(path.suffix)
    if path.suffix in (".edf", ".bdf"):
        signals = [(name, RATE, unit, data / per_unit) for name, data in zip(names, signal, strict=True)]
        write_edf(path, signals, physical_range=(-400.0 / per_unit, 400.0 / per_unit))
    elif package is None:
        make_raw(signal * 1e-6, names, RATE).save(path)
    elif importlib.util.find_spec(package):
        mne.export.export_raw(path, make_raw(signal * 1e-6, names, RATE))
    else:
        pytest.skip(f"{package} writes {path.suffix}: pip install {package}")
    return path


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("suffix", [".edf", ".bdf", "_raw.fif", ".vhdr", ".set"])
def test_electrodes_and_recorded_pairs_in_every_format(tmp_path, expected, suffix):
    electrodes = write(tmp_path / f"electrodes{suffix}", potentials())
    np.testing.assert_allclose(windows(electrodes), expected, atol=STORED)
    names, signal = pairs_of(potentials())
    pairs = write(tmp_path / f"pairs{suffix}", signal, names)
    np.testing.assert_allclose(windows(pairs), expected, atol=STORED)


@pytest.mark.parametrize(
    ("unit", "per_unit"), [("uV", 1.0), ("UV", 1.0), ("mV", 1e3), ("mv", 1e3), ("V", 1e6), ("Volt", 1e6), ("nV", 1e-3)]
)
def test_units(tmp_path, expected, unit, per_unit):
    """By the header; MNE takes most of these for volts."""
    path = write(tmp_path / "a.edf", potentials(), unit=unit, per_unit=per_unit)
    np.testing.assert_allclose(windows(path), expected, atol=STORED)
