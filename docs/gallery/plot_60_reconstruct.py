"""
Rebuild hidden samples
======================

In pre-training the model sees a window with samples missing and fills them in. Here it does so for people it has never
seen, with more and more hidden, beside a straight line through each gap and the channel's mean.
"""

# %%
# Windows and a model with a decoder
# ----------------------------------

import matplotlib.pyplot as plt
import numpy as np
import torch

from neuript_hf import DataCollatorForAmplitudeAwareMasking, NeurIPTFeatureExtractor, NeurIPTForPreTraining
from neuript_hf.data.simulation import simulate_recording
from neuript_hf.evaluation.imputation import fill_channel_mean, fill_linear


extractor = NeurIPTFeatureExtractor.from_pretrained("hub/neuript-tiny", montage="as_recorded")
model = NeurIPTForPreTraining.from_pretrained("hub/neuript-tiny").eval()
raws = [simulate_recording(subject=number, n_trials=3) for number in (1, 2, 3)]
windows = []
for features in map(extractor, raws):
    keys = ("input_values", "electrode_positions", "lobe_mask", "channel_mask")
    windows += [{key: features[key][index] for key in keys} for index in range(len(features["input_values"]))]
print(len(windows), "windows")

# %%
# Hide and rebuild
# ----------------
#
# The collator of the pre-training hides samples: the same share of every channel, those whose amplitudes are
# neighbours in rank. In training some of them get another sample's value or stay as they are; here all of them are
# hidden.


@torch.no_grad()
def rebuild(share):
    """The true values, which are hidden, and three ways to fill them, all `[windows, channels, samples]`."""
    batch = DataCollatorForAmplitudeAwareMasking(ratios=share, seed=0)(windows)
    batch["hidden_positions"] = batch["masked_positions"]
    truth, hidden = batch["labels"], batch["hidden_positions"]
    batch["input_values"] = truth
    reconstruction = model(**batch).reconstruction
    filled = {
        "model": reconstruction,
        "straight line": fill_linear(truth, ~hidden),
        "channel's mean": fill_channel_mean(truth, ~hidden),
    }
    return truth, hidden, filled


colours = {"model": "#d55e00", "straight line": "#0072b2", "channel's mean": "0.5"}
results = {share: rebuild(share) for share in (0.1, 0.2, 0.35, 0.5, 0.7)}

# %%
# One channel
# -----------
#
# The channel and window with the median error, so that the picture does not flatter.

figure, axes = plt.subplots(3, sharex=True, sharey=True, figsize=(7.5, 7), layout="constrained")
truth, hidden, filled = results[0.5]
errors = ((filled["model"] - truth) ** 2 * hidden).sum(-1) / hidden.sum(-1)
window, channel = np.unravel_index(int(errors.flatten().argsort()[errors.numel() // 2]), errors.shape)
seconds = np.arange(truth.shape[-1]) / extractor.sampling_rate
for axis, share in zip(axes, (0.2, 0.35, 0.5), strict=True):
    truth, hidden, filled = (
        {name: extractor.invert(values[window, channel].numpy()) for name, values in part.items()}
        if isinstance(part, dict)
        else part[window, channel].numpy()
        for part in results[share]
    )
    truth = extractor.invert(truth)
    axis.plot(seconds, truth, color="0.75", linewidth=1)
    axis.plot(seconds, np.where(hidden, np.nan, truth), color="black", linewidth=1.5)
    axis.plot(seconds, np.where(hidden, filled["model"], np.nan), ".", color=colours["model"], markersize=5)
    axis.set_title(f"{share:.0%} hidden", loc="left")
    axis.spines[["top", "right"]].set_visible(False)
axes[1].set_ylabel("microvolt")
axes[-1].set_xlabel("seconds")
figure.suptitle("black: seen by the model    grey: hidden    orange: rebuilt", fontsize=11)
plt.show()

# %%
# All channels and windows
# ------------------------
#
# The model has trained with 20, 35 and 50 % hidden.

figure, axis = plt.subplots(figsize=(7, 4.5), layout="constrained")
for name, colour in colours.items():
    errors = [((filled[name] - truth)[hidden] ** 2).mean().item() for truth, hidden, filled in results.values()]
    axis.plot([100 * share for share in results], errors, color=colour, marker="o")
    axis.text(71.5, errors[-1], name, color=colour, va="center")
axis.set(xlabel="% of the samples hidden", ylabel="squared error (companded)", xlim=(5, 88), ylim=(0, None))
axis.set_xticks([10, 20, 35, 50, 70])
axis.spines[["top", "right"]].set_visible(False)
plt.show()

# %%
# `Results <../../results.html>`_ has the same on recordings, by masks of other kinds.
