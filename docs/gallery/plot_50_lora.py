"""
LoRA: train a few per cent of the weights
=========================================

Adapters of PEFT sit on the attention and the experts; the weights below them stay as they are. What is saved is a
checkpoint like any other.
"""

# %%
# Windows
# -------

import tempfile

import matplotlib.pyplot as plt
import numpy as np
from peft import LoraConfig, get_peft_model
from transformers import pipeline, set_seed

from neuript_hf import (
    FineTuningArguments,
    NeurIPTFeatureExtractor,
    NeurIPTForSequenceClassification,
    NeurIPTTrainer,
    evaluate,
    load_recordings,
    save_checkpoint,
    start_from_fit,
    task_config,
    verify,
)
from neuript_hf.data.simulation import simulate_recording


set_seed(0)
people = list("abcdefghij")
raws = [simulate_recording(subject=number, n_trials=12) for number in range(1, 11)]
extractor = NeurIPTFeatureExtractor.from_pretrained("hub/neuript-tiny", montage=["C3", "Cz", "C4", "P3", "Pz", "P4"])
windows = load_recordings(
    raws,
    extractor,
    subjects=people,
    events=["left_hand", "right_hand"],
    dataset="simulated",
    splits={person: "train" if number < 6 else "test" for number, person in enumerate(people)},
)

# %%
# Adapters
# --------
#
# ``target_parameters`` names the experts' stacked weights, ``modules_to_save`` the head, which is trained in full.

fields = task_config(windows["train"], extractor)
fields |= {"pooling": "none", "num_lobes": len(extractor.channel_names), "compact_embedding": False}
model = NeurIPTForSequenceClassification.from_pretrained("hub/neuript-tiny", **fields)
start_from_fit(model, windows["train"])
adapted = get_peft_model(
    model,
    LoraConfig(
        r=4,
        target_modules=["q_proj", "v_proj"],
        target_parameters=["experts.gate_up_proj", "experts.down_proj"],
        modules_to_save=["classifier"],
    ),
)

# %%
# What is trained, and what is not:

counts = {"frozen": 0, "adapters": 0, "head": 0}
for name, weight in adapted.named_parameters():
    part = "frozen" if not weight.requires_grad else "adapters" if "lora_" in name else "head"
    counts[part] += weight.numel()
figure, axis = plt.subplots(figsize=(7.5, 2), layout="constrained")
bars = axis.barh(list(counts), list(counts.values()), color=["0.75", "#0072b2", "#009e73"])
axis.bar_label(bars, [f" {count:,} ({count / sum(counts.values()):.1%})" for count in counts.values()])
axis.set(xticks=[], xlim=(0, 1.35 * max(counts.values())), title="Weights")
axis.invert_yaxis()
axis.spines[["top", "right", "bottom"]].set_visible(False)
plt.show()

# %%
# Training
# --------
#
# Adapters take a higher learning rate than the whole model.

arguments = FineTuningArguments(
    "runs/lora", learning_rate=1e-3, num_train_epochs=4, logging_steps=0.05, save_strategy="no", report_to=[]
)
trainer = NeurIPTTrainer(adapted, arguments, train_dataset=windows["train"], processing_class=extractor)
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
# A checkpoint like any other
# ---------------------------
#
# ``save_checkpoint`` merges the adapters into the weights; ``merge_adapters=False`` keeps them apart. ``verify`` loads
# the folder anew and compares its outputs with those it was saved with.

folder = tempfile.mkdtemp()
save_checkpoint(adapted, extractor, folder)
verify(folder)
pipeline("eeg-classification", model=folder)(raws[0])[0]

# %%
# People who were not trained on, with the checkpoint as it was saved:

print(evaluate(folder, windows["test"], train=windows["train"]))
