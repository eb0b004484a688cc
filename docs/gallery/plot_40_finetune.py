"""
Fine-tune with Trainer
======================

The whole model is trained on labelled windows, with the ``Trainer`` of transformers and the recipe of our own task
weights, and scored on people it has not seen.
"""

# %%
# Windows, split by person
# ------------------------
#
# ``load_recordings`` takes Raws, epochs, arrays, a manifest, a folder or a BIDS root. A person is on one side of the
# split only.

import matplotlib.pyplot as plt
import numpy as np
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


set_seed(0)
people = [f"person {number:02}" for number in range(1, 19)]
raws = [simulate_recording(subject=number, n_trials=12) for number in range(1, 19)]
extractor = NeurIPTFeatureExtractor.from_pretrained("hub/neuript-tiny", montage=["C3", "Cz", "C4", "P3", "Pz", "P4"])
windows = load_recordings(
    raws,
    extractor,
    subjects=people,
    events=["left_hand", "right_hand"],
    dataset="simulated",
    splits={person: "train" if number < 12 else "test" for number, person in enumerate(people)},
)
print({name: (len(split), "windows of", len(set(split["subject"]))) for name, split in windows.items()})

# %%
# A model for the task
# --------------------
#
# Left and right hand differ in single channels of one lobe, so the head reads each channel by itself
# (``pooling="none"``). It starts from a linear fit to the frozen features, which spares the weights below it the
# first, wild steps.

fields = task_config(windows["train"], extractor)
fields |= {"pooling": "none", "num_lobes": len(extractor.channel_names), "compact_embedding": False}
model = NeurIPTForSequenceClassification.from_pretrained("hub/neuript-tiny", **fields)
start_from_fit(model, windows["train"])
frozen = evaluate(model, windows["test"])

# %%
# Training
# --------

arguments = FineTuningArguments("runs/hands", num_train_epochs=2, logging_steps=0.05, save_strategy="no", report_to=[])
trainer = NeurIPTTrainer(model, arguments, train_dataset=windows["train"], processing_class=extractor)
trainer.train()

log = [entry for entry in trainer.state.log_history if "task_loss" in entry]
figure, axis = plt.subplots(figsize=(7, 3.5), layout="constrained")
axis.plot([entry["step"] for entry in log], [entry["task_loss"] for entry in log], color="#0072b2", marker=".")
axis.axhline(np.log(2), color="#d55e00", linestyle="--", linewidth=1)
axis.text(log[-1]["step"], np.log(2) + 0.01, "guessing", color="#d55e00", ha="right", va="bottom")
axis.set(xlabel="step", ylabel="cross entropy", title="Loss on the training people", ylim=(0, None))
axis.spines[["top", "right"]].set_visible(False)
plt.show()

# %%
# People it has not seen
# ----------------------
#
# ``evaluate`` refuses people whom the weights have seen, and shows a classical method on the same windows.

tuned = evaluate(model, windows["test"], train=windows["train"], extractor=extractor)
print(tuned)

# %%

scores = {"band power": tuned.baseline, "frozen + linear fit": frozen.model, "fine-tuned": tuned.model}
values = np.array([list(score["by_person"].values()) for score in scores.values()])
figure, axis = plt.subplots(figsize=(7, 4.5), layout="constrained")
axis.plot(values, color="0.75", marker="o", markersize=5, zorder=1)
axis.plot(values.mean(axis=1), "_", color="black", markersize=38, markeredgewidth=3)
for place, mean in enumerate(values.mean(axis=1)):
    axis.text(place + 0.17, mean, f"{mean:.2f}", va="center", weight="bold")
axis.axhline(0.5, color="#d55e00", linestyle="--", linewidth=1)
axis.text(2.45, 0.505, "chance", color="#d55e00", ha="right", va="bottom")
axis.set_xticks(range(3), list(scores))
axis.set(ylabel="balanced accuracy", xlim=(-0.4, 2.5), ylim=(0.3, 1.02), title="Test people, a line each")
axis.spines[["top", "right"]].set_visible(False)
plt.show()

# %%
# ``trainer.save_model()`` writes a whole checkpoint: weights, feature extractor, code, card, and a record of the
# people it was trained on. `Fine-tuning <../../fine-tuning.html>`_ says what to expect on real tasks: on some of
# them the frozen fit is as good.
