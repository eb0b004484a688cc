"""Who is scored, and what may be said of them: unseen, seen before, trained on, chosen on, or nobody knows."""

from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass, field, replace

from datasets import Dataset
from transformers import TrainingArguments

from ..data.tasks import TaskArguments, task_table
from .training_record import choices_on_validation, history_known, people_seen_before, read_training_record


@dataclass
class TestedPeople:
    """
    The people of scored windows, each in one of these lists, under the names of the windows.

    Args:
        unseen: the weights have not seen them, and nothing was fitted or chosen on them.
        unknown: nobody knows whether the weights have seen them: the weights have no complete record.
        trained_on: other windows of theirs were trained on, in a protocol within people.
        chosen_on: something was chosen on them in this training.
        seen: they are in the record of the weights that this training or fit started from.
    """

    __test__ = False  # for pytest, which takes classes called Test... for tests

    unseen: list[str] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)
    trained_on: list[str] = field(default_factory=list)
    chosen_on: list[str] = field(default_factory=list)
    seen: list[str] = field(default_factory=list)

    @classmethod
    def of(
        cls,
        task: TaskArguments,
        checkpoint: str | None,
        scored: Dataset,
        train: Dataset | None = None,
        choices: Sequence[str] = (),
    ) -> "TestedPeople":
        """
        Args:
            task: the task.
            checkpoint: the weights at the start; `None` for random ones, which have seen nobody.
            scored: the windows that are scored.
            train: the windows that are trained on or fitted to.
            choices: what was chosen on the scored windows.
        """
        record = read_training_record(checkpoint) if checkpoint is not None else None
        people, table = set(scored["subject"]), task_table(task)
        seen = people_seen_before(task, record, table[table["subject"].isin(people)])
        trained_on = set(train["subject"]) if train is not None else set()
        return cls.sorted_by(people, seen, trained_on, choices, checkpoint is None or history_known(record))

    @classmethod
    def sorted_by(
        cls,
        people: Collection[str],
        seen: Collection[str],
        trained_on: Collection[str],
        choices: Sequence[str],
        history_known: bool,
    ) -> "TestedPeople":
        """Each of the people in the first list that fits."""
        tested = cls()
        for person in sorted(people):
            if person in trained_on:
                standing = tested.trained_on
            elif person in seen:
                standing = tested.seen
            elif choices:
                standing = tested.chosen_on
            elif history_known:
                standing = tested.unseen
            else:
                standing = tested.unknown
            standing.append(person)
        return tested

    def __str__(self) -> str:
        descriptions = {
            "unseen": "unseen people",
            "unknown": "people of whom nobody knows whether the weights have seen them (weights of unknown history)",
            "trained_on": "people who were trained on in other windows",
            "chosen_on": "people on whom something was chosen, so they are not unseen",
            "seen": "people whom the weights have seen",
        }
        return ", ".join(f"{len(people)} {descriptions[name]}" for name, people in vars(self).items() if people)

    def to_dict(self) -> dict:
        """For a result file: the lists, and the sentence."""
        return {"description": str(self), **asdict(self)}


def without_chosen_on(task: TaskArguments, training: TrainingArguments) -> tuple[TaskArguments, list[str]]:
    """
    The task without the people on whom the training chooses something, and what it chooses; they are scored apart.

    Raises:
        ValueError: where nobody else is left to score. Nothing has been opened yet.
    """
    choices = choices_on_validation(training)
    if not choices:
        return task, []
    others = [name for name in task.evaluate_on if name != "validation"]
    if not set(others) & set(task_table(task)["split"]):
        raise ValueError(
            f"{' and '.join(choices)} chooses on the people of validation, so they are not unseen, and nobody else is "
            f"left to score (evaluate_on: {', '.join(task.evaluate_on)}). Give some people the split test and name it "
            f"in evaluate_on, or train without {' and '.join(choices)}."
        )
    return replace(task, evaluate_on=others), choices


__all__ = ["TestedPeople", "without_chosen_on"]
