"""
Inspect a difficult file
========================

A recording as it comes from a ward: names in capitals with a reference, an electrode that fell off, hum, an ECG among
the EEG, a gap, a stretch that somebody marked as bad. Before any model runs, the feature extractor says what it would
make of it.
"""

# %%
# The file
# --------
#
# We simulate a minute of EEG and spoil it. The result is an ordinary EDF file; put the path of yours in its place.

import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import mne
import numpy as np

from neuript_hf import NeurIPTFeatureExtractor
from neuript_hf.data.simulation import simulate_recording


clean = simulate_recording(subject=3, n_trials=9)
rng, seconds = np.random.default_rng(0), clean.times
microvolts = dict(zip(clean.ch_names, 1e6 * clean.get_data(), strict=True))
microvolts["T7"][:] = 0.0  # fell off
microvolts["F8"] += 150 * np.sin(2 * np.pi * 50 * seconds)  # touches nothing but the air
microvolts["O2"] = 10 * np.sign(microvolts["O2"])  # the amplifier is at its limits
microvolts["Fz"][(seconds > 12) & (seconds < 15)] += 150  # somebody moved
names = [f"EEG {name.upper()}-REF" for name in microvolts] + ["EKG1", "DC4"]
heart = 400 * (np.mod(seconds, 0.85) < 0.04) + rng.normal(0, 10, len(seconds))
signal = np.array([*microvolts.values(), heart, rng.normal(0, 1, len(seconds))])

raw = mne.io.RawArray(1e-6 * signal, mne.create_info(names, clean.info["sfreq"], "eeg"), verbose="ERROR")
raw.set_annotations(mne.Annotations([12, 34], [3, 0], ["BAD_movement", "boundary"]) + clean.annotations)
path = Path(tempfile.mkdtemp()) / "difficult.edf"
raw.export(path, verbose="ERROR")

# %%
# What would be used
# ------------------
#
# ``inspect`` needs no weights and makes no windows; on the command line it is ``neuript inspect difficult.edf``. Every
# channel has a line.

extractor = NeurIPTFeatureExtractor(montage="as_recorded")
print(extractor.inspect(path))

# %%
# What the model gets
# -------------------
#
# The extractor then cuts the windows. None crosses the gap or touches the time marked as bad, and bad channels are
# masked: the model does not see them.

features = extractor(path, return_tensors="pt")
print(*features.report.steps, sep="\n")
print(features["input_values"].shape, "windows, channels, samples")

# %%
# The same as a picture
# ---------------------
#
# Black channels enter the model. The coloured ones do not, for the reason beside them. The bars at the bottom are the
# windows.

reasons = {row.sources[0].name: row.masked for row in features.report.channels}
reasons |= features.report.dropped
figure, axis = plt.subplots(figsize=(7.5, 7.5), layout="constrained")
step = 120
for number, (name, trace) in enumerate(zip(raw.ch_names, signal, strict=True)):
    reason = reasons[name]
    centred = np.clip(trace - np.median(trace), -step / 2, step / 2)
    axis.plot(seconds, centred - step * number, color="#d55e00" if reason else "black", linewidth=0.4)
    axis.text(-1, -step * number, name, ha="right", va="center", fontsize=9)
    axis.text(
        seconds[-1] + 1, -step * number, reason.removeprefix(f"{name} "), va="center", fontsize=9, color="#d55e00"
    )

bottom = -step * (len(names) + 0.5)
for onset in features.onsets:
    axis.barh(bottom, 3.8, left=onset + 0.1, height=step / 2, color="#0072b2")
axis.text(-1, bottom, "windows", ha="right", va="center", fontsize=9, color="#0072b2")
axis.axvspan(12, 15, color="0.85", zorder=0)
axis.text(13.5, step, "marked\nas bad", ha="center", fontsize=9)
axis.axvline(34, color="0.5", linestyle="--")
axis.text(34, step, "gap", ha="center", fontsize=9)
axis.set(xlabel="seconds", yticks=[], xlim=(0, seconds[-1]), ylim=(bottom - step, step))
axis.spines[["left", "top", "right"]].set_visible(False)
plt.show()

# %%
# Where a file does not say what is needed, its unit or rate, or says something impossible, an error says what to give.
# `Your recording <../../your-recording.html>`_ has all that can be wrong, and what becomes of it.
