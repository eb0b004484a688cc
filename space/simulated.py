"""Recordings for visitors who have none at hand: simulated, made at start-up, so that nobody's EEG is in the Space."""

from pathlib import Path

import mne
import numpy as np

from neuript_hf.data.simulation import simulate_recording


def write_examples(folder: Path) -> dict[str, Path]:
    """Writes the examples; returns their files by what they show."""
    clean = simulate_recording(subject=1, n_trials=10)
    difficult = make_difficult(simulate_recording(subject=2, n_trials=20, sampling_rate=500.0))
    headband = simulate_recording(
        subject=3, n_trials=10, sampling_rate=256.0, channel_names=["TP9", "AF7", "AF8", "TP10"]
    )
    recordings = {
        "One minute, 19 electrodes": clean,
        "Two minutes with faults": difficult,
        "A headband, 4 electrodes": headband,
    }
    folder.mkdir()
    files = {}
    for number, (about, raw) in enumerate(recordings.items()):
        files[about] = folder / f"example{number}_raw.fif"
        raw.save(files[about], verbose="ERROR")
    return files


def make_difficult(raw: mne.io.RawArray) -> mne.io.RawArray:
    """Names of a clinic, a dead electrode, a loose one, a channel of the heart, and a stretch marked as bad."""
    rng, values = np.random.default_rng(0), raw.get_data()
    samples, names = values.shape[1], raw.ch_names
    values[names.index("T8")] = 0.0
    values[names.index("O2")] += 4e-4 * rng.standard_normal(samples)
    beats = 1e-3 * (np.sin(2 * np.pi * 1.1 * raw.times) > 0.98)
    old = {"T7": "T3", "T8": "T4", "P7": "T5", "P8": "T6"}
    info = mne.create_info(
        [f"EEG {old.get(name, name)}-REF" for name in names] + ["ECG"],
        raw.info["sfreq"],
        ["eeg"] * len(names) + ["ecg"],
    )
    difficult = mne.io.RawArray(np.vstack([values, beats]), info, verbose="ERROR")
    return difficult.set_annotations(mne.Annotations([40.0], [11.0], ["BAD_movement"]))
