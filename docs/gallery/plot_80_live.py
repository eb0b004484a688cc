"""
Follow a live stream
====================

A row a second while the EEG arrives, with what was wrong with it. A recording is played as a stream here;
``LSLChunks("my_amplifier")`` takes an amplifier in its place.
"""

# %%
# A recording to play
# -------------------
#
# A simulated person with closed eyes, who opens them after half a minute: the alpha rhythm goes. Later an electrode
# falls off, and for two seconds the connection is lost.

import matplotlib.pyplot as plt
import mne
import numpy as np
from transformers import pipeline

import neuript_hf  # noqa: F401  (registers the pipelines)
from neuript_hf.data.simulation import simulate_recording
from neuript_hf.integrations.streaming import Replay, live_rows


raw = simulate_recording(subject=2, n_trials=15).crop(0, 90, include_tmax=False)
signal, opened = raw.get_data(), raw.times > 30
signal[:, opened] = mne.filter.filter_data(signal, raw.info["sfreq"], 13, 7, verbose="ERROR")[:, opened]
signal[raw.ch_names.index("T7"), raw.times > 50] = 0
raw = mne.io.RawArray(signal, raw.info, verbose="ERROR")
raw.set_annotations(mne.Annotations([70], [2], ["BAD_ACQ_SKIP"]))

# %%
# Rows as they come
# -----------------
#
# ``speed=None`` plays without waiting; 1 is the pace of the recording. Channels, units and bad channels are treated as
# in a file.

classify = pipeline("eeg-classification", model="hub/neuript-tiny-eyes")
rows = list(live_rows(classify, Replay(raw, speed=None)))
for row in rows[::8]:
    answer = f"{row['label']} {row['score']:.2f}" if "label" in row else "no answer"
    print(f"{row['onset'] + row['duration']:5.0f} s  {answer:18} {'; '.join(row['problems'])}")

# %%
# Over time
# ---------
#
# Each answer stands at the end of its window, when it is there.

closed = next(name for name in classify.model.config.label2id if "closed" in name)
ends = np.array([row["onset"] + row["duration"] for row in rows])
probability = [row["scores"][closed] if "scores" in row else np.nan for row in rows]
figure, axis = plt.subplots(figsize=(7.5, 4), layout="constrained")
axis.axvspan(0, 30, color="0.92", zorder=0)
axis.text(15, 1.02, "eyes closed", ha="center", va="bottom")
axis.text(60, 1.02, "eyes open", ha="center", va="bottom")
axis.plot(ends, probability, color="#0072b2", marker=".")
for height, problem in ((-0.08, "T7 masked"), (-0.2, "drop-out")):
    times = ends[[problem in "; ".join(row["problems"]) for row in rows]]
    axis.plot(times, np.full(len(times), height), "s", color="#d55e00", markersize=4)
    axis.text(times[0] - 1, height, problem, color="#d55e00", ha="right", va="center")
axis.set(xlabel="seconds", ylabel="probability of closed eyes", xlim=(0, 90), ylim=(-0.28, 1))
axis.set_yticks([0, 0.5, 1])
axis.spines[["top", "right"]].set_visible(False)
plt.show()

# %%
# `Live <../../streaming.html>`_ says which filters fit a live signal, what they cost in delay, and what happens when a
# stream goes away. ``examples/live.py`` is a program that does all of this.
