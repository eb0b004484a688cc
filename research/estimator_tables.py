"""
The tables of docs/scikit-learn.md: features centred by person and side by side, and prototypes from few windows.

    python research/estimator_tables.py --data manifest.csv

Only people of `train` are read. Each file is cut into windows of 4 s; a minute for each set on a CPU.
"""

from dataclasses import dataclass, field
from pathlib import Path

import mne
import numpy as np
import pandas as pd
from sklearn.metrics import balanced_accuracy_score
from transformers import HfArgumentParser

from neuript_hf.evaluation.linear_probe import centred, fit_ridge, people_folds
from neuript_hf.evaluation.prototypes import fit_prototypes
from neuript_hf.integrations.estimators import NeurIPTEmbedder


SETS = {"arithmetic": "eegmat", "eyes": "epilepsy_gb"}
FEW = (1, 3, 5)
DRAWS = 5


@dataclass
class TableArguments:
    data: str = field(metadata={"help": "The manifest."})
    model: str = field(default="hub/neuript-tiny", metadata={"help": "The checkpoint."})


def windows_of(manifest: Path, name: str, model: str) -> tuple[pd.DataFrame, np.ndarray, np.ndarray]:
    """The features with their names, `[windows, features]`, and the class and the person of each window."""
    table = pd.read_csv(manifest)
    table = table[(table["set"] == name) & (table["split"] == "train")]
    embedder = NeurIPTEmbedder(model, band_power=True).set_output(transform="pandas")
    parts = []
    for row in table.itertuples():
        raw = mne.io.read_raw(manifest.parent / row.file, preload=True, verbose="ERROR")
        epochs = mne.make_fixed_length_epochs(raw, duration=4, preload=True, verbose="ERROR")
        parts.append(embedder.fit_transform(epochs).assign(label=row.label, subject=row.subject))
    windows = pd.concat(parts, ignore_index=True)
    return windows.drop(columns=["label", "subject"]), windows["label"].to_numpy(), windows["subject"].to_numpy()


def across_people(features: np.ndarray, labels: np.ndarray, people: np.ndarray) -> float:
    """Balanced accuracy of a ridge regression on people left out, the mean of five folds."""
    scores = []
    for rest, left_out in people_folds(labels, people):
        fit = fit_ridge(features[rest], labels[rest], people[rest], penalty=1.0)
        scores.append(balanced_accuracy_score(labels[left_out], fit.predict(features[left_out])))
    return float(np.mean(scores))


def from_few(features: np.ndarray, labels: np.ndarray, people: np.ndarray, count: int) -> float:
    """Balanced accuracy of prototypes of `count` windows of each class on that person's others, mean of five draws."""
    scores = []
    for person in np.unique(people):
        own, classes = features[people == person], labels[people == person]
        if np.unique(classes, return_counts=True)[1].min() < count + 2 or len(set(classes)) < 2:
            continue
        for seed in range(DRAWS):
            order = np.random.default_rng(seed).permutation(len(own))
            few = np.concatenate([order[classes[order] == name][:count] for name in np.unique(classes)])
            others = np.setdiff1d(order, few)
            predicted = fit_prototypes(own[few], classes[few]).predict(own[others])
            scores.append(balanced_accuracy_score(classes[others], predicted))
    return float(np.mean(scores))


def main():
    (arguments,) = HfArgumentParser(TableArguments).parse_args_into_dataclasses()
    for task, name in SETS.items():
        features, labels, people = windows_of(Path(arguments.data), name, arguments.model)
        power = features.columns.str.startswith("band power")
        print(f"{task}: {len(set(people))} people, {len(labels)} windows")
        for title, columns in (("embedding", ~power), ("band power", power), ("side by side", power | ~power)):
            values = features.loc[:, columns].to_numpy()
            cells = [across_people(values, labels, people), across_people(centred(values, people), labels, people)]
            cells += [from_few(values, labels, people, count) for count in FEW]
            print(f"| {title} | " + " | ".join(f"{cell:.3f}" for cell in cells) + " |")


if __name__ == "__main__":
    main()
