"""
Private parts of MNE and transformers that we call or override still are what they were. If a test fails after an
update, mend the function of `private_apis.py`, or the method that is named, before anything else.
"""

import inspect

import mne
import numpy as np
import pytest
from conftest import make_raw, write_edf
from transformers import Trainer

from neuript_hf.private_apis import (
    is_raw_edf,
    is_raw_eeglab,
    raw_of_epochs,
    raw_parts,
    samples_per_record,
    signal_numbers,
    unit_factors,
)


@pytest.fixture(params=[".edf", ".bdf"])
def raw(request, tmp_path):
    """Signals 0 to 3 in four units, the second at another rate, records of one second; number 2 is left out."""
    generator = np.random.default_rng(0)
    channels = [("C3", 64, "uV"), ("Cz", 128, "mV"), ("Pz", 64, "V"), ("C4", 64, "Volt")]
    signals = [(name, rate, unit, generator.normal(0, 20, 4 * rate)) for name, rate, unit in channels]
    path = write_edf(tmp_path / f"a{request.param}", signals, data_record_duration=1)
    return mne.io.read_raw(path, exclude=["Pz"])


def test_the_reader_of_a_raw(raw):
    assert is_raw_edf(raw)
    assert not is_raw_edf(make_raw(np.zeros((1, 10)), ["C3"])) and not is_raw_eeglab(raw)
    assert mne.io.read_raw_eeglab.__globals__["RawEEGLAB"].__name__ == "RawEEGLAB"


def test_what_a_raw_keeps_of_the_header(raw):
    assert signal_numbers(raw) == [0, 1, 3]
    assert samples_per_record(raw) == 128
    # MNE does not know "Volt", takes it for volts, and is right by chance; it would do the same with "uVolt"
    np.testing.assert_allclose(unit_factors(raw), [1e-6, 1e-3, 1.0])


def test_what_a_raw_and_epochs_keep_of_their_origin(raw):
    path, rate = raw.filenames[0], raw.info["sfreq"]
    both = mne.concatenate_raws([raw.copy().crop(1.0), raw.copy()], verbose="ERROR")
    assert raw_parts(both) == [(path, rate, 3 * rate), (path, 0, 4 * rate)]
    assert raw_parts(make_raw(np.zeros((1, 10)), ["C3"])) == [(None, 0, 10)]
    epochs = mne.make_fixed_length_epochs(raw, 1.0, verbose="ERROR")
    assert raw_of_epochs(epochs).filenames == raw.filenames
    assert raw_of_epochs(epochs.load_data()) is None


@pytest.mark.parametrize(
    ("method", "parameters"),
    [
        ("_get_grad_norm", ["self", "model", "grad_norm"]),  # NeurIPTTrainer: leaves out steps that are not finite
        ("_get_train_sampler", ["self", "train_dataset"]),  # PreTrainer: batches of windows of similar size
    ],
)
def test_methods_of_the_trainer_that_ours_override(method, parameters):
    """Without an error, an override would no longer be called if transformers renamed what it overrides."""
    assert list(inspect.signature(getattr(Trainer, method)).parameters) == parameters
    assert f"self.{method}" in inspect.getsource(Trainer)
