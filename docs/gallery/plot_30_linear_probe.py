"""
A linear probe with scikit-learn
================================

The model stays frozen and a linear classifier reads its embedding. That takes seconds, and with few labels it is often
as good as training the whole model. Scored on people who were left out, beside band power and chance.
"""

# %%
# Windows with labels
# -------------------
#
# Eight simulated people, whose alpha rhythm loses some of its strength when they open their eyes. ``mne.Epochs`` of
# your own go in the same way.

import matplotlib.pyplot as plt
import mne
import numpy as np
from sklearn.linear_model import RidgeClassifierCV
from sklearn.metrics import balanced_accuracy_score
from sklearn.model_selection import LeaveOneGroupOut, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from neuript_hf.data.simulation import simulate_recording
from neuript_hf.integrations.estimators import NeurIPTEmbedder


parts = []
for person in range(1, 9):
    closed = simulate_recording(subject=person, n_trials=12).crop(0, 64)
    less_alpha = closed.copy().filter(13, 7, verbose="ERROR")  # leaves out 7 to 13 Hz
    opened = mne.io.RawArray(0.5 * (closed.get_data() + less_alpha.get_data()), closed.info, verbose="ERROR")
    for state, raw in (("closed", closed.crop(0, 32)), ("open", opened.crop(32, 64))):
        epochs = mne.make_fixed_length_epochs(raw, duration=4, preload=True, verbose="ERROR")
        epochs.event_id, epochs.events[:, 2] = {state: 1 + (state == "open")}, 1 + (state == "open")
        parts.append(epochs)
epochs = mne.concatenate_epochs(parts, verbose="ERROR")
people = np.repeat([f"person {number}" for number in range(1, 9)], len(epochs) // 8)
eyes = epochs.events[:, 2]

# %%
# Features
# --------
#
# Nothing is learned from the windows here, so the features are computed once for all folds. ``band_power=True`` adds
# the band power of each channel, computed without the model.

embedder = NeurIPTEmbedder("hub/neuript-tiny", band_power=True).set_output(transform="pandas")
features = embedder.fit_transform(epochs)
classical = features.columns.str.startswith("band power")
print(f"{len(features)} windows: {(~classical).sum()} numbers of the model, {classical.sum()} of band power")

# %%
# One person left out at a time
# -----------------------------

sets = {
    "band power alone": features.loc[:, classical],
    "embedding alone": features.loc[:, ~classical],
    "side by side": features,
}
classifier = make_pipeline(StandardScaler(), RidgeClassifierCV(np.logspace(0, 4, 9)))
scores = {}
for name, columns in sets.items():
    answers = cross_val_predict(classifier, columns, eyes, groups=people, cv=LeaveOneGroupOut())
    scores[name] = [
        balanced_accuracy_score(eyes[people == person], answers[people == person]) for person in np.unique(people)
    ]

# %%
# Each line is a person, the black mark the mean. These people differ in nothing but alpha, which band power measures
# as well as anything can; on recordings the order is another for every task.

figure, axis = plt.subplots(figsize=(7, 4.5), layout="constrained")
values = np.array(list(scores.values()))
axis.plot(values, color="0.75", marker="o", markersize=5, zorder=1)
axis.plot(values.mean(axis=1), "_", color="black", markersize=38, markeredgewidth=3)
for place, mean in enumerate(values.mean(axis=1)):
    axis.text(place + 0.17, mean, f"{mean:.2f}", va="center", weight="bold")
axis.axhline(0.5, color="#d55e00", linestyle="--", linewidth=1)
axis.text(2.45, 0.505, "chance", color="#d55e00", ha="right", va="bottom")
axis.set_xticks(range(len(sets)), list(sets))
axis.set(ylabel="balanced accuracy", xlim=(-0.4, 2.5), ylim=(0.3, 1.02), title="People who were left out")
axis.spines[["top", "right"]].set_visible(False)
plt.show()

# %%
# ``NeurIPTClassifier`` does the same in one estimator, for ``cross_val_score``, ``GridSearchCV`` and MOABB; see
# `scikit-learn <../../scikit-learn.html>`_.
