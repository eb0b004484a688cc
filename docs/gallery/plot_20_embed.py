"""
Embed a recording and look at it
================================

A window of four seconds becomes 230 numbers. Each has a name, so the embedding can be read as well as fed to a
classifier.
"""

# %%
# Three people who close and open their eyes
# ------------------------------------------
#
# When the eyes open, the alpha rhythm at the back of the head goes. We simulate that: three people, two minutes each,
# and every other half minute their recording has no alpha.

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from sklearn.decomposition import PCA
from sklearn.preprocessing import StandardScaler
from transformers import pipeline

import neuript_hf  # noqa: F401  (registers the pipelines)
from neuript_hf.compact_embedding import names_of_numbers
from neuript_hf.data.simulation import simulate_recording
from neuript_hf.electrodes import LOBES


def closes_and_opens_eyes(person):
    raw = simulate_recording(subject=person, n_trials=20).crop(0, 120, include_tmax=False)
    without_alpha = raw.copy().filter(13, 7, verbose="ERROR")  # leaves out 7 to 13 Hz
    return raw.apply_function(
        lambda signal, other: np.where(raw.times // 30 % 2 == 1, other, signal),
        channel_wise=False,
        other=without_alpha.get_data(),
    )


people = {f"person {number}": closes_and_opens_eyes(number) for number in (1, 2, 3)}

# %%
# From recordings to a table
# --------------------------
#
# The pipeline takes files, ``mne.io.Raw``, epochs and arrays, one or many.

embed = pipeline("eeg-embedding", model="hub/neuript-tiny")
rows = [row | {"person": name} for name, raw in people.items() for row in embed(raw, stride_seconds=2)]
table = pd.DataFrame(rows)
columns = names_of_numbers(embed.model.config, list(LOBES))
numbers = pd.DataFrame(np.stack(table["embedding"]), columns=columns)
numbers.sample(8, axis=1, random_state=1).head(3).round(2)

# %%
# What the numbers say
# --------------------
#
# The first of them are log powers by lobe and band, as the model estimates them. Those of the occipital lobe follow
# the eyes.

power = numbers[[name for name in columns if name.startswith("power, occipital")]]
bands = [name.rpartition(", ")[2] for name in power]
figure, axes = plt.subplots(3, sharex=True, figsize=(7.5, 6.5), layout="constrained")
for axis, (name, rows) in zip(axes, table.groupby("person"), strict=True):
    shown = power.loc[rows.index] - power.loc[rows.index].mean()
    image = axis.pcolormesh(rows["onset"] + 2, range(len(bands)), shown.T, cmap="RdBu_r", vmin=-1.5, vmax=1.5)
    axis.set_yticks(range(len(bands)), bands, fontsize=8)
    axis.set_ylabel(name, fontsize=11)
for start, state in ((0, "eyes closed"), (30, "open"), (60, "closed"), (90, "open")):
    axes[0].text(start + 15, len(bands) - 0.2, state, ha="center", va="bottom", fontsize=9, color="0.3")
    for axis in axes:
        axis.axvline(start, color="black", linewidth=0.8)
axes[-1].set(xlabel="seconds (middle of the window)", xlim=(2, 118))
figure.colorbar(image, ax=axes, shrink=0.6, label="occipital log power, less the person's mean")
plt.show()

# %%
# A map of all windows
# --------------------
#
# Two principal components of all 230 numbers. People differ more than eyes do, so each person's mean is taken off
# first (``embed(..., centred=True)`` does that in the pipeline).

centred = numbers - numbers.groupby(table["person"]).transform("mean")
places = PCA(2).fit_transform(StandardScaler().fit_transform(centred))
opened = (table["onset"] + 2) // 30 % 2 == 1
mixed = (table["onset"] // 30) != ((table["onset"] + 3.99) // 30)

figure, axis = plt.subplots(figsize=(7, 5.5), layout="constrained")
for (_, rows), marker in zip(table.groupby("person"), "os^", strict=True):
    for state, colour in ((False, "#0072b2"), (True, "#d55e00")):
        chosen = rows.index[(opened[rows.index] == state) & ~mixed[rows.index]]
        axis.scatter(*places[chosen].T, color=colour, marker=marker, s=28, alpha=0.8, linewidth=0)
for state, colour, label in ((False, "#0072b2", "eyes closed"), (True, "#d55e00", "eyes open")):
    height = np.median(places[(opened == state) & ~mixed, 1])
    axis.text(places[:, 0].max(), height, label, color=colour, fontsize=12, ha="right", weight="bold")
axis.set(xlabel="first component", ylabel="second component", title="Windows of three people, a marker each")
axis.spines[["top", "right"]].set_visible(False)
plt.show()
