"""Scores of a fine-tuned model, with what makes them honest: who was scored, chance, and a simple method."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset
from transformers.utils import logging

from ..checkpoints.tested_people import TestedPeople
from ..checkpoints.training_record import history_known, names_in_record, record_of
from ..data.people import full_name
from ..data.targets import MAIN_SCORES, Targets
from ..feature_extraction_neuript import NeurIPTFeatureExtractor
from ..modeling_neuript import NeurIPTForSequenceClassification
from .baselines import baseline_scores
from .forward import outputs_of
from .metrics import score_table, scores_of


logger = logging.get_logger(__name__)

# With fewer people an interval over people means little, so each of them is named.
FEW_PEOPLE = 6


@dataclass
class Evaluation:
    """
    The scores of a model. `print` shows them as a table.

    Args:
        people: who was scored, and what may be said of them.
        model: of the model, see [`scores_of`].
        baseline: of a classical method on the same windows; `None` if there are no windows to fit it to.
        method: its name.
    """

    people: TestedPeople
    model: dict[str, Any]
    baseline: dict[str, Any] | None
    method: str

    def __str__(self) -> str:
        scores, methods = self.model, {"model": self.model, self.method.replace("_", " "): self.baseline}
        title = f"{self.people}, {scores['windows']} windows, chance {scores['chance']:.3f}"
        lines = [score_table(title, methods)]
        if scores["people"] < FEW_PEOPLE:
            each = ", ".join(f"{name} {score:.3f}" for name, score in scores["by_person"].items())
            lines.append(f"Few people, so the interval means little. Each of them: {each}.")
        main = MAIN_SCORES[scores["problem_type"]]
        if scores[f"{main}_interval"][0] <= scores["chance"]:
            lines.append("The interval reaches chance, so this may be no more than that.")
        if self.baseline is not None and scores[main] <= self.baseline[main]:
            lines.append(f"The model is not better than {self.method.replace('_', ' ')}.")
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        """For a result file."""
        return asdict(self) | {"people": self.people.to_dict()}


def evaluate(
    model: NeurIPTForSequenceClassification | str | Path,
    windows: Dataset,
    *,
    train: Dataset | None = None,
    extractor: NeurIPTFeatureExtractor | None = None,
    baseline: str = "band_power",
    allow_seen_people: bool = False,
    batch_size: int = 16,
) -> Evaluation:
    """
    Scores a model on windows of people whom it has not seen.

    Args:
        model: the fine-tuned model, or its folder.
        windows: to score, of [`load_recordings`]: `windows["test"]`.
        train: what the model was fine-tuned on; the baseline is fitted to it. Without it there is none.
        extractor: made the windows; needed for the baseline if `model` is no folder.
        baseline: see [`baseline_scores`].
        allow_seen_people: also score people of the model's training record; the result names them.
        batch_size: windows that go through the model together.

    People are looked up in the record by their names alone; `examples/finetune.py` compares their recordings, too.

    Raises:
        ValueError: for people whom the weights have seen, for classes that are not the model's, and where the
            extractor is missing.
    """
    if isinstance(model, str | Path):
        folder, model = model, NeurIPTForSequenceClassification.from_pretrained(model)
        extractor = extractor or NeurIPTFeatureExtractor.from_pretrained(folder)
    if not isinstance(windows, Dataset):
        raise ValueError(f"windows must be one data set, such as windows['test'], but is {type(windows).__name__}.")
    if train is not None and extractor is None:
        raise ValueError("The baseline needs the extractor that made the windows: give extractor, or train=None.")
    targets = Targets.of(windows, model.config.problem_type)
    names = [model.config.id2label[index] for index in range(model.config.num_labels)]
    if targets.names != names:
        raise ValueError(
            f"The model distinguishes {', '.join(names)}, the windows have {', '.join(targets.names)}. Load them with "
            "the labels that the model was trained for."
        )
    if train is not None and (shared := _places(windows) & _places(train)):
        raise ValueError(
            f"{len(shared)} of the windows to score are among those to train on. Score windows of other people, such "
            "as windows['test'], and give windows['train'] as train."
        )
    record = record_of(model.training_record) if model.training_record is not None else None
    seen = _seen_people(record, windows)
    if seen and not allow_seen_people:
        raise ValueError(
            f"Some of these people are people that the weights have seen: {', '.join(sorted(seen))}. A score on them "
            "says nothing about new people. Score others, or these anyway with allow_seen_people=True. If they are "
            "other people of the same name, name their data set: load_recordings(..., dataset='mine')."
        )
    trained_on = set(train["subject"]) if train is not None else set()
    people = TestedPeople.sorted_by(set(windows["subject"]), seen, trained_on, (), history_known(record))
    logits = np.concatenate(
        [outputs.logits.float().cpu().numpy() for outputs in outputs_of(model, windows, batch_size, "scores")]
    )
    return Evaluation(
        people,
        scores_of(logits, windows, targets.problem_type),
        None if train is None else baseline_scores(baseline, train, windows, extractor),
        baseline,
    )


def _places(windows: Dataset) -> set[tuple]:
    """Recording, person and start of each window."""
    return set(zip(windows["recording"], windows["subject"], windows["onset"], strict=True))


def _seen_people(record: Any, windows: Dataset) -> set[str]:
    """The people of the windows who are in the record, as the windows name them."""
    sets = windows["dataset"] if "dataset" in windows.column_names else [""] * len(windows)
    people = {(name, person): full_name(name, person) for name, person in zip(sets, windows["subject"], strict=True)}
    found = names_in_record(record, people.values())
    return {person for (_, person), name in people.items() if name in found}


__all__ = ["Evaluation", "evaluate"]
