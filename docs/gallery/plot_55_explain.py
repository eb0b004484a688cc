"""
What an answer rests on
=======================

What a classifier loses without each channel, stretch of time and frequency band, with intervals over people.
"""

# %%
# A classifier
# ------------
#
# Six simulated people. While their eyes are open, what they have from 7 to 13 Hz is half as large, in all channels.
# The head starts from a linear fit; any trained model goes in its place.

import matplotlib.pyplot as plt
import mne
import numpy as np
from transformers import set_seed

from neuript_hf import (
    NeurIPTFeatureExtractor,
    NeurIPTForSequenceClassification,
    load_recordings,
    start_from_fit,
    task_config,
)
from neuript_hf.data.simulation import simulate_recording
from neuript_hf.explain.figures import explanation_figure
from neuript_hf.explain.occlusion import occlusion
from neuript_hf.explain.summary import summarise


set_seed(0)
starts = np.arange(0, 80, 4)
states = np.where(starts // 20 % 2 == 1, "eyes_open", "eyes_closed")
raws = []
for person in range(1, 7):
    raw = simulate_recording(subject=person, n_trials=14).crop(0, 80, include_tmax=False)
    less_alpha = (raw.get_data() + raw.copy().filter(13, 7, verbose="ERROR").get_data()) / 2  # of 7 to 13 Hz
    signal = np.where(raw.times // 20 % 2 == 1, less_alpha, raw.get_data())
    raw = mne.io.RawArray(signal, raw.info, verbose="ERROR")
    raws.append(raw.set_annotations(mne.Annotations(starts, 4.0, states)))

extractor = NeurIPTFeatureExtractor.from_pretrained("hub/neuript-tiny", montage="as_recorded")
windows = load_recordings(
    raws,
    extractor,
    subjects=list("abcdef"),
    events=["eyes_closed", "eyes_open"],
    dataset="simulated",
    split_shares=(0.5, 0.0, 0.5),
)
fields = task_config(windows["train"], extractor)
model = NeurIPTForSequenceClassification.from_pretrained("hub/neuript-tiny", **fields)
start_from_fit(model, windows["train"])

# %%
# What it loses
# -------------
#
# A row for each window of the test people and each part that is taken away: by how much the log-probability of the
# true class falls.

table = occlusion(model, windows["test"], extractor)
table.sample(5, random_state=0)

# %%
# Means over people
# -----------------
#
# The difference was planted from 7 to 13 Hz, and there it is found. It is the same all the time and in all channels,
# so no stretch of time counts much, and hardly a channel: the others say the same.

summary = summarise(table)
explanation_figure(summary, title="Eyes closed or open: three people who were not trained on")
plt.show()

# %%
# An occlusion says what this model uses, not what the brain does, and a part that others can stand in for loses
# little. Integrated gradients, attention maps and the tokens of each expert are in the same package.
