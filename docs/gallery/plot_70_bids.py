"""
Train on your BIDS data set
===========================

A BIDS root goes in as it is: people, events and bad channels are read from its tables.
"""

# %%
# A data set
# ----------
#
# MNE-BIDS writes one of six simulated people, as it would write yours. Their alpha rhythm is weaker while their eyes
# are open; in the recording of person 03 somebody has marked a channel as bad.

import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import mne
import mne_bids
import numpy as np
import pandas as pd
from transformers import set_seed

from neuript_hf import (
    FineTuningArguments,
    NeurIPTFeatureExtractor,
    NeurIPTForSequenceClassification,
    NeurIPTTrainer,
    evaluate,
    load_recordings,
    start_from_fit,
    task_config,
)
from neuript_hf.data.simulation import simulate_recording
from neuript_hf.data.windows import channel_reports


root = Path(tempfile.mkdtemp()) / "eyes"
starts = np.arange(0, 80, 4)
states = np.where(starts // 20 % 2 == 1, "eyes_open", "eyes_closed")
for person in range(1, 7):
    raw = simulate_recording(subject=person, n_trials=14).crop(0, 80, include_tmax=False)
    less_alpha = (raw.get_data() + raw.copy().filter(13, 7, verbose="ERROR").get_data()) / 2  # of 7 to 13 Hz
    signal = np.where(raw.times // 20 % 2 == 1, less_alpha, raw.get_data())
    raw = mne.io.RawArray(signal, raw.info, verbose="ERROR")
    raw.set_annotations(mne.Annotations(starts, 4.0, states))
    raw.info["line_freq"] = 50
    raw.info["bads"] = ["T8"] if person == 3 else []
    path = mne_bids.BIDSPath(subject=f"{person:02}", task="eyes", datatype="eeg", root=root)
    mne_bids.write_raw_bids(raw, path, format="BrainVision", allow_preload=True, verbose="ERROR")
mne_bids.print_dir_tree(root, max_depth=1)

# %%
# Windows
# -------
#
# A window starts at each of these events. People are drawn for training and for the test; ``splits`` or a column
# ``split`` of ``participants.tsv`` fixes who goes where.

set_seed(0)
extractor = NeurIPTFeatureExtractor.from_pretrained("hub/neuript-tiny", montage="as_recorded")
windows = load_recordings(
    root, extractor, events=["eyes_closed", "eyes_open"], dataset="eyes", split_shares=(0.5, 0.0, 0.5)
)
for split in windows.values():
    for recording, report in channel_reports(split).items():
        masked = [f"{row['name']}: {row['masked']}" for row in report["channels"] if row["masked"]]
        print(recording, *masked)

# %%
# What was read: a bar for each window.

colours = {"eyes_closed": "#0072b2", "eyes_open": "#e69f00"}
columns = ["subject", "onset", "labels"]
parts = [split.select_columns(columns).to_pandas().assign(split=name) for name, split in windows.items()]
table = pd.concat(parts).sort_values("subject")
names = windows["train"].features["labels"].names
people = list(table["subject"].unique())
figure, axis = plt.subplots(figsize=(7.5, 3.5), layout="constrained")
for _, row in table.iterrows():
    axis.barh(people.index(row["subject"]), 3.8, left=row["onset"], height=0.6, color=colours[names[row["labels"]]])
for place, (person, split) in enumerate(table.groupby("subject")["split"].first().items()):
    axis.text(table["onset"].max() + 6, place, split, va="center")
    axis.text(-1, place, f"sub-{person}", va="center", ha="right")
axis.set(xlabel="seconds", yticks=[], xlim=(0, table["onset"].max() + 6))
for place, (name, colour) in zip((0.4, 0.6), colours.items(), strict=True):
    axis.text(place, 1.03, name.replace("_", " "), color=colour, weight="bold", ha="center", transform=axis.transAxes)
axis.invert_yaxis()
axis.spines[["top", "left", "right"]].set_visible(False)
plt.show()

# %%
# Training and score
# ------------------
#
# The head starts from a linear fit, and one epoch trains the rest. With three people to learn from, do not expect
# much: the interval says how little is known.

fields = task_config(windows["train"], extractor)
model = NeurIPTForSequenceClassification.from_pretrained("hub/neuript-tiny", **fields)
start_from_fit(model, windows["train"])
arguments = FineTuningArguments("runs/bids", num_train_epochs=1, save_strategy="no", report_to=[])
NeurIPTTrainer(model, arguments, train_dataset=windows["train"], processing_class=extractor).train()
print(evaluate(model, windows["test"], train=windows["train"], extractor=extractor))

# %%
# To embed a whole BIDS root into derivatives there is ``neuript embed bids bids/derivatives/neuript --model
# hub/neuript-tiny``, which goes on where it was killed; see `clusters <../../cluster.html>`_.
