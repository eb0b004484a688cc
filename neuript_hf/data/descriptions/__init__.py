"""
Descriptions of data sets: what is known about each, and how NeurIPT's paper used it. One `.toml` file beside this one
describes one data set:

    [source]     where to get it, on which terms
    [windows]    montage, lengths, notch
    [classes]    names, where they come from, annotations that carry them
    [split]      people of each side, who is left out
    [protocol]   what the paper did, and where others differ
    unknown      what could not be found out

What nobody knows is listed as unknown, not guessed.
"""

import tomllib
from collections import Counter
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any, Literal

import pandas as pd
from huggingface_hub.dataclasses import strict
from huggingface_hub.errors import StrictDataclassError

from ...feature_extraction_neuript import NeurIPTFeatureExtractor


@strict
@dataclass
class DatasetSource:
    """
    Where the data are.

    Args:
        address: page to start from, or `"unknown"`.
        access: what it takes to get them.
        licence: terms, or `"unknown"`; look them up again before you publish anything.
        reference: what to cite, or `"unknown"`.
    """

    address: str
    access: Literal["open", "registration", "on request", "unknown"]
    licence: str
    reference: str


@strict
@dataclass
class DatasetWindows:
    """
    How windows are cut.

    Args:
        montage: of the feature extractor.
        seconds: length of a window.
        offset_seconds: start of a window after its annotation (negative: before).
        stride_seconds: distance of windows inside a long annotation.
        notch_hz: mains frequency that the paper removed.
        count: windows that the paper reports.
    """

    montage: str
    seconds: float
    offset_seconds: float = 0.0
    stride_seconds: float | None = None
    notch_hz: float | None = None
    count: int | None = None


@strict
@dataclass
class DatasetClasses:
    """
    The classes of a task.

    Args:
        names: the classes, in the order of their numbers.
        origin: where the class of a window comes from.
        events: annotation -> class, where classes come from annotations.
    """

    names: list[str]
    origin: str
    events: dict[str, str] = field(default_factory=dict)


@strict
@dataclass
class DatasetSplit:
    """
    Who is in training, validation and test.

    Args:
        rule: how people are assigned; with `"given people"` the lists below name them.
        train, validation, test: people, as the data set numbers them.
        exclude: people who are left out.
    """

    rule: Literal["given people", "given files", "random by person", "within person", "none"]
    train: list[str] = field(default_factory=list)
    validation: list[str] = field(default_factory=list)
    test: list[str] = field(default_factory=list)
    exclude: list[str] = field(default_factory=list)


@strict
@dataclass
class DatasetProtocol:
    """
    What the paper and others did with the same data. Scores are comparable only between equal protocols.

    Args:
        paper: NeurIPT's protocol.
        others: name of the other work -> what it did differently.
    """

    paper: str
    others: dict[str, str] = field(default_factory=dict)


@strict
@dataclass
class DatasetDescription:
    """
    One data set; see the module's text for its parts.

    Args:
        name: what the paper, or the field, calls it.
        use: `"downstream"`, `"pre-training"` or `"benchmark"` (a set of OpenEEG-Bench that the paper did not use).
        source, windows, split, protocol: see their classes.
        classes: `None` for pre-training.
        hours: as the paper reports them.
        unknown: what could not be found out.
    """

    name: str
    use: Literal["downstream", "pre-training", "benchmark"]
    source: DatasetSource
    windows: DatasetWindows
    split: DatasetSplit
    protocol: DatasetProtocol
    classes: DatasetClasses | None = None
    hours: float | None = None
    unknown: list[str] = field(default_factory=list)

    def extractor(self, **settings: Any) -> NeurIPTFeatureExtractor:
        """A feature extractor with the description's montage, window length and notch; `settings` override them."""
        own = {
            "montage": self.windows.montage,
            "window_seconds": self.windows.seconds,
            "notch_freq": self.windows.notch_hz,
        }
        return NeurIPTFeatureExtractor(**own | settings)

    def loading_arguments(self) -> dict[str, Any]:
        """What the description fixes of the arguments of [`load_recordings`]."""
        return {
            "events": (self.classes.events or None) if self.classes else None,
            "event_offset_seconds": self.windows.offset_seconds,
            "window_seconds": self.windows.seconds,
            "stride_seconds": self.windows.stride_seconds,
            "within_subject": self.split.rule == "within person",
        }

    def assign_splits(self, table: pd.DataFrame) -> pd.DataFrame:
        """
        A copy of a manifest with the column `split` filled in, without the people whom the description excludes.

        Raises:
            ValueError: if the description names no people, or the manifest has people that it does not name.
        """
        if self.split.rule != "given people":
            raise ValueError(f"The description of {self.name} names no people: its split is {self.split.rule!r}.")
        sides = {"train": self.split.train, "val": self.split.validation, "test": self.split.test}
        side_of = {person: side for side, people in sides.items() for person in people}
        people = table["subject"].astype(str)
        strangers = sorted(set(people) - set(side_of) - set(self.split.exclude))
        if strangers:
            raise ValueError(
                f"The description of {self.name} assigns no split to these people: {strangers[:10]}. Its people are "
                f"called {list(side_of)[:3]} ..."
            )
        kept = people.isin(list(side_of))
        return table[kept].assign(split=people[kept].map(side_of))


FOLDER = resources.files(__name__)
PARTS = {
    "source": DatasetSource,
    "windows": DatasetWindows,
    "classes": DatasetClasses,
    "split": DatasetSplit,
    "protocol": DatasetProtocol,
}


def list_descriptions() -> list[str]:
    """Names of the descriptions that come with the package."""
    return sorted(file.name.removesuffix(".toml") for file in FOLDER.iterdir() if file.name.endswith(".toml"))


def read_description(name_or_path: str | Path) -> DatasetDescription:
    """
    Reads and checks a description.

    Args:
        name_or_path: one of [`list_descriptions`], such as `"tuev"`, or the path of a `.toml` file of your own.

    Raises:
        FileNotFoundError: if there is none.
        ValueError: if it is not valid TOML, or a field is missing, unknown, of the wrong type or contradicts another.
            The message names the file and the field.
    """
    shipped = str(name_or_path) in list_descriptions()
    file = FOLDER / f"{name_or_path}.toml" if shipped else Path(name_or_path)
    if not file.is_file():
        raise FileNotFoundError(
            f"No description {name_or_path}. Give the path of a .toml file or one of {', '.join(list_descriptions())}."
        )
    try:
        content = tomllib.loads(file.read_text(encoding="utf-8"))
        parts = {name: kind(**content.pop(name)) for name, kind in PARTS.items() if name in content}
        description = DatasetDescription(**parts, **content)
        _check(description)
    except (StrictDataclassError, TypeError, ValueError) as error:  # wrong types; missing and unknown fields
        raise ValueError(f"{file.name}: {error}") from error
    return description


def _check(description: DatasetDescription) -> None:
    """Checks that types alone cannot express."""
    if (description.classes is None) != (description.use == "pre-training"):
        number = "no classes" if description.classes else "classes"
        raise ValueError(f"a description for {description.use} must have {number}.")
    if description.classes is not None:
        strangers = sorted(set(description.classes.events.values()) - set(description.classes.names))
        if strangers:
            raise ValueError(f"classes.events names classes that are missing in classes.names: {strangers}.")
    split = description.split
    people = split.train + split.validation + split.test + split.exclude
    twice = sorted(person for person, count in Counter(people).items() if count > 1)
    if twice:
        raise ValueError(f"people on two sides of the split: {twice}.")
    if (split.rule == "given people") != bool(split.train and split.test):
        raise ValueError("split.train and split.test must name people if split.rule is 'given people', and only then.")
    description.extractor()  # refuses an unknown montage or an impossible window length


__all__ = [
    "DatasetClasses",
    "DatasetDescription",
    "DatasetProtocol",
    "DatasetSource",
    "DatasetSplit",
    "DatasetWindows",
    "list_descriptions",
    "read_description",
]
