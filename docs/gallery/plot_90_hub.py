"""
From weights to the Hub
=======================

A folder that loads anywhere, also where this package is not installed: weights, code, card, and a record of whom the
weights have seen.
"""

# %%
# A model of your own
# -------------------
#
# Whatever you have trained; here a head that starts from a linear fit to two people.

import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import torch
from transformers import AutoFeatureExtractor, AutoModelForSequenceClassification

from neuript_hf import (
    NeurIPTFeatureExtractor,
    NeurIPTForSequenceClassification,
    load_recordings,
    save_checkpoint,
    start_from_fit,
    task_config,
    verify,
)
from neuript_hf.checkpoints.training_record import read_training_record
from neuript_hf.data.simulation import simulate_recording


raws = [simulate_recording(subject=number, n_trials=8) for number in (1, 2)]
extractor = NeurIPTFeatureExtractor.from_pretrained("hub/neuript-tiny", montage="as_recorded")
windows = load_recordings(
    raws,
    extractor,
    subjects=["ann", "bob"],
    events=["left_hand", "right_hand"],
    dataset="mine",
    split_shares=(1.0, 0.0, 0.0),
)["train"]
model = NeurIPTForSequenceClassification.from_pretrained("hub/neuript-tiny", **task_config(windows, extractor))
start_from_fit(model, windows)

# %%
# A folder that is complete
# -------------------------

folder = Path(tempfile.mkdtemp()) / "my-hands"
save_checkpoint(model, extractor, folder)
verify(folder)

# %%
# What is in it:

parts = {
    "weights": ["model.safetensors"],
    "input and output to compare with": ["golden.safetensors"],
    "code that travels": [path.name for path in folder.glob("*.py")],
    "settings": ["config.json", "preprocessor_config.json"],
    "whom it has seen": ["training.json"],
    "card": ["README.md"],
}
sizes = {what: sum((folder / name).stat().st_size for name in names) / 1e3 for what, names in parts.items()}
figure, axis = plt.subplots(figsize=(7.5, 3), layout="constrained")
bars = axis.barh(list(sizes), list(sizes.values()), color="#56b4e9")
axis.bar_label(bars, [f" {size:,.0f} kB" for size in sizes.values()])
axis.set(xscale="log", xlim=(1, 1e5), xticks=[], title="Files of the folder")
axis.minorticks_off()
axis.invert_yaxis()
axis.spines[["top", "right", "bottom"]].set_visible(False)
plt.show()

# %%
# The record names every person, so that nobody can be scored as unseen by mistake. The weights bring the people of
# their pre-training along.

for stage in read_training_record(folder).stages:
    print(f"{stage.kind}: {len(stage.subjects)} people, such as {stage.subjects[-1]}")

# %%
# As others load it
# -----------------
#
# With the code in the folder, without an import of ``neuript_hf``.

loaded = AutoModelForSequenceClassification.from_pretrained(folder, trust_remote_code=True).eval()
batch = AutoFeatureExtractor.from_pretrained(folder, trust_remote_code=True)(raws[0], return_tensors="pt")
with torch.no_grad():
    print(type(loaded).__module__.split(".")[0], torch.equal(loaded(**batch).logits, model.eval()(**batch).logits))

# %%
# To the Hub
# ----------
#
# After ``hf auth login``, one line sends all of it in one commit::
#
#     neuript push my-hands your-name/my-hands
#
# ``model.push_to_hub("your-name/my-hands")`` does as well. Read the card before: what only you know about the data is
# for you to write. `Checkpoints <../../checkpoints.html>`_ has the details.
