"""One recording in every format, unit, rate and derivation gives the same tensors."""

import importlib.util

import mne
import numpy as np
import pytest
from conftest import make_raw, write_edf

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


def write(path, signal, names=TEN_TWENTY, rate=RATE, unit="uV", per_unit=1.0):
    """A file of the type that the ending names, in a unit of `per_unit` microvolts."""
    package = {".vhdr": "pybv", ".set": "eeglabio"}.get(path.suffix)
    if path.suffix in (".edf", ".bdf"):
        signals = [(name, rate, unit, data / per_unit) for name, data in zip(names, signal, strict=True)]
        write_edf(path, signals, physical_range=(-400.0 / per_unit, 400.0 / per_unit))
    elif package is None:
        make_raw(signal * 1e-6, names, rate).save(path)
    elif importlib.util.find_spec(package):
        mne.export.export_raw(path, make_raw(signal * 1e-6, names, rate))
    else:
        pytest.skip(f"{package} writes {path.suffix}: pip install {package}")
    return path


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("suffix", [".edf", ".bdf", "_raw.fif", ".vhdr", ".set"])
def test_electrodes_and_recorded_pairs_in_every_format(tmp_path, expected, suffix):
    electrodes = write(tmp_path / f"electrodes{suffix}", potentials(RATE))
    np.testing.assert_allclose(windows(electrodes), expected, atol=STORED)
    names, signal = pairs_of(potentials(RATE))
    pairs = write(tmp_path / f"pairs{suffix}", signal, names)
    np.testing.assert_allclose(windows(pairs), expected, atol=STORED)


UNITS = {1.0: ["uV", "UV", ""], 1e3: ["mv", ""], 1e6: ["V", "Volt", ""], 1e-3: ["nV"]}


@pytest.mark.parametrize(("unit", "per_unit"), [(unit, size) for size, units in UNITS.items() for unit in units])
def test_units(tmp_path, expected, unit, per_unit):
    """By the header, where MNE takes most of these for volts; without a unit, by the size of the numbers."""
    path = write(tmp_path / "a.edf", potentials(RATE), unit=unit, per_unit=per_unit)
    np.testing.assert_allclose(windows(path), expected, atol=STORED)


@pytest.mark.parametrize("rate", [128, 160, 200, 250, 500, 512, 1000, 1024, 2048, 2500, 5000])
def test_rates(tmp_path, expected, rate):
    difference = np.abs(windows(write(tmp_path / "a.edf", potentials(rate), rate=rate)) - expected)
    ends = round(END_SECONDS * 64)
    assert difference.max() < AT_ENDS
    difference[0, :, :ends] = difference[-1, :, -ends:] = 0.0
    assert difference.max() < RESAMPLED
