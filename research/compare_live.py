"""
What it costs that live filters can't look ahead: labels that change, and accuracy.

    python research/compare_live.py --head hub/neuript-tiny-eyes --model hub/neuript-tiny --data manifest.csv
    python research/compare_live.py --head hub/neuript-tiny-eyes --simulated 6

Three ways to filter:

- offline: zero phase on the whole recording;
- cut off: zero phase on what there is when the window ends, where the filters mirror the signal;
- minimum: minimum phase, which is the same live and offline.

First, of the classifier `--head`, which was trained on windows of the first way, the share of labels that another way
changes. It may have seen these people, so its accuracy is not reported. Second, frozen features of `--model` and a
ridge fit by folds over people: fitted to one way, scored on another. Only people of `train` are looked at.
"""

from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from tasks import manifest_task
from transformers import AutoModel, AutoModelForSequenceClassification, HfArgumentParser

from neuript_hf import NeurIPTFeatureExtractor
from neuript_hf.data.simulation import simulate_recording
from neuript_hf.data.tasks import task_table
from neuript_hf.evaluation.linear_probe import class_scores, fit_ridge, people_folds
from neuript_hf.evaluation.metrics import AccuracyOverPeople, signed
from neuript_hf.recordings import Recording, Segment, as_recording


OFFLINE, CUT_OFF, MINIMUM = WAYS = ("offline", "cut off", "minimum")
# Fitted to the first, scored on the second.
PAIRS = ((OFFLINE, OFFLINE), (OFFLINE, CUT_OFF), (OFFLINE, MINIMUM), (CUT_OFF, CUT_OFF), (MINIMUM, MINIMUM))


@dataclass
class LiveArguments:
    """The checkpoints and the recordings."""

    head: str = field(metadata={"help": "Checkpoint with a head, of which labels are compared."})
    model: str | None = field(default=None, metadata={"help": "Checkpoint that is frozen, for the folds."})
    data: str | None = field(default=None, metadata={"help": "The manifest of the labelled recordings."})
    task: str = field(default="eyes", metadata={"help": "Task of the manifest, one class for each recording."})
    simulated: int = field(default=0, metadata={"help": "Instead: so many simulated people, two minutes each."})
    folds: int = field(default=5, metadata={"help": "Folds over people."})
    penalty: float = field(default=1.0, metadata={"help": "Of the ridge fit, as in evaluate_features.py."})


def windows_of(recording: Recording, folder: str) -> dict[str, dict[str, torch.Tensor]]:
    """The same windows in the three ways."""
    zero, minimum = (NeurIPTFeatureExtractor.from_pretrained(folder, filter_phase=p) for p in ("zero", "minimum"))
    offline, live = zero(recording, return_tensors="pt"), minimum(recording, return_tensors="pt")
    ends = offline.onsets + zero.window_seconds
    parts = [zero(_until(recording, end), onsets=[end - zero.window_seconds], return_tensors="pt") for end in ends]
    cut_off = torch.cat([part["input_values"] for part in parts])
    # channels are judged on the whole recording in all ways
    return {
        OFFLINE: dict(offline),
        CUT_OFF: {**offline, "input_values": cut_off},
        MINIMUM: {**offline, "input_values": live["input_values"]},
    }


def _until(recording: Recording, seconds: float) -> Recording:
    """What there is of a recording without gaps so many seconds after its start."""
    (segment,) = recording.segments
    stop = min(segment.stop, segment.start + round(seconds * recording.sampling_rate))
    return replace(recording, segments=[Segment(segment.start, stop, segment.onset)])


def print_changes(labels: list[dict[str, np.ndarray]]) -> None:
    """Of each recording the labels in the three ways."""
    count = sum(len(part[OFFLINE]) for part in labels)
    print(f"{count} windows of {len(labels)} recordings; share of labels that change:")
    for way in (CUT_OFF, MINIMUM):
        shares = [(part[way] != part[OFFLINE]).mean() for part in labels]
        total = sum((part[way] != part[OFFLINE]).sum() for part in labels)
        print(f"  {way}: {total / count:.3f}; at most {max(shares):.2f} in a recording")


def print_accuracies(
    features: dict[str, np.ndarray], labels: np.ndarray, people: np.ndarray, folds: int, penalty: float
) -> None:
    """Balanced accuracy on people left out, with its interval over people."""
    accuracies = {}
    for fitted, scored in PAIRS:
        scores = np.zeros((len(labels), len(set(labels))))
        for others, left_out in people_folds(labels, people, folds):
            head = fit_ridge(features[fitted][others], labels[others], people[others], penalty=penalty)
            scores[left_out] = class_scores(head, features[scored][left_out])
        accuracies[fitted, scored] = AccuracyOverPeople.of(scores, {"labels": labels, "subject": people})
    print(f"{len(set(people))} people; balanced accuracy of frozen features, {folds} folds over people:")
    for (fitted, scored), accuracy in accuracies.items():
        difference = signed((accuracy - accuracies[OFFLINE, OFFLINE]).to_dict())
        print(f"  fitted {fitted}, scored {scored}: {accuracy.value:.3f}, {difference} against offline")


@torch.no_grad()
def main():
    (arguments,) = HfArgumentParser(LiveArguments).parse_args_into_dataclasses()
    head = AutoModelForSequenceClassification.from_pretrained(arguments.head).eval()
    frozen = None if arguments.model is None else AutoModel.from_pretrained(arguments.model).eval()
    if arguments.simulated:
        rows = [(simulate_recording(person, n_trials=20), person, 0) for person in range(arguments.simulated)]
    else:
        table = task_table(manifest_task(arguments.task, arguments.data)).query("split == 'train'")
        files = [Path(arguments.data).parent / file for file in table["file"]]
        rows = list(zip(files, table["subject"], table["label"], strict=True))
    changes, features, labels, people = [], {way: [] for way in WAYS}, [], []
    for recording, person, label in rows:
        windows = windows_of(as_recording(recording), arguments.head)
        changes.append({way: head(**batch).logits.argmax(-1).numpy() for way, batch in windows.items()})
        if frozen is not None:
            for way, batch in windows.items():
                features[way].append(frozen(**batch).features.numpy())
            labels += [label] * len(features[OFFLINE][-1])
            people += [person] * len(features[OFFLINE][-1])
    print_changes(changes)
    if frozen is not None:
        joined = {way: np.concatenate(parts) for way, parts in features.items()}
        _, classes = np.unique(labels, return_inverse=True)
        print_accuracies(joined, classes, np.asarray(people), arguments.folds, arguments.penalty)


if __name__ == "__main__":
    main()
