"""
Recipes: what is known about a data set, and how NeurIPT's paper used it, one `.toml` file each in `recipes/`.

    [source]     where to get it, on which terms
    [windows]    montage, lengths, notch
    [classes]    names, where they come from, annotations that carry them
    [split]      people of each side, who is left out
    [protocol]   what the paper did, and where others differ
    unknown      what could not be found out

Facts that nobody knows are said to be unknown, not guessed.
"""

import tomllib
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pandas as pd
from huggingface_hub.dataclasses import strict
from huggingface_hub.errors import StrictDataclassError

from ...feature_extraction_neuript import NeurIPTFeatureExtractor


@strict
@dataclass
class RecipeSource:
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
class RecipeWindows:
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
class RecipeClasses:
    """
    What is to be told apart.

    Args:
        names: the classes, in the order of their numbers.
        origin: where the class of a window is written.
        events: annotation -> class, where classes come from annotations.
    """

    names: list[str]
    origin: str
    events: dict[str, str] = field(default_factory=dict)


@strict
@dataclass
class RecipeSplit:
    """
    Who trains, who is tested.

    Args:
        rule: how sides are chosen; people are named where they are given.
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
class RecipeProtocol:
    """
    What the paper did, and what others did with the same data: figures are comparable only where these agree.

    Args:
        paper: NeurIPT's protocol.
        others: who -> what they did otherwise.
    """

    paper: str
    others: dict[str, str] = field(default_factory=dict)


@strict
@dataclass
class Recipe:
    """
    One data set; see the module's text for its parts.

    Args:
        name: what the paper, or the field, calls it.
        use: `"downstream"`, `"pre-training"` or `"benchmark"` (a set of OpenEEG-Bench that the paper did not use).
        source, windows, split, protocol: see there.
        classes: `None` for pre-training.
        hours: what the paper reports.
        unknown: what could not be found out.
    """

    name: str
    use: Literal["downstream", "pre-training", "benchmark"]
    source: RecipeSource
    windows: RecipeWindows
    split: RecipeSplit
    protocol: RecipeProtocol
    classes: RecipeClasses | None = None
    hours: float | None = None
    unknown: list[str] = field(default_factory=list)

    def extractor(self, **settings: Any) -> NeurIPTFeatureExtractor:
        """The feature extractor with the recipe's montage, window length and notch; `settings` go first."""
        own = {
            "montage": self.windows.montage,
            "window_seconds": self.windows.seconds,
            "notch_freq": self.windows.notch_hz,
        }
        return NeurIPTFeatureExtractor(**own | settings)

    def loading_arguments(self) -> dict[str, Any]:
        """Arguments for [`load_recordings`] that the recipe decides."""
        return {
            "events": (self.classes.events or None) if self.classes else None,
            "event_offset_seconds": self.windows.offset_seconds,
            "window_seconds": self.windows.seconds,
            "stride_seconds": self.windows.stride_seconds,
            "within_subject": self.split.rule == "within person",
        }

    def assign_splits(self, table: pd.DataFrame) -> pd.DataFrame:
        """
        A manifest with the column `split` by the recipe's people, without those who are left out.

        Raises:
            ValueError: where the recipe names no people, or the manifest has people that it does not name.
        """
        if self.split.rule != "given people":
            raise ValueError(f"The recipe {self.name!r} names no people: its split is {self.split.rule!r}.")
        sides = {"train": self.split.train, "val": self.split.validation, "test": self.split.test}
        side_of = {person: side for side, people in sides.items() for person in people}
        people = table["subject"].astype(str)
        strangers = sorted(set(people) - set(side_of) - set(self.split.exclude))
        if strangers:
            raise ValueError(
                f"The recipe {self.name!r} does not say on which side these people are: {strangers[:10]}. Its people "
                f"are called {list(side_of)[:3]} ..."
            )
        kept = people.isin(list(side_of))
        return table[kept].assign(split=people[kept].map(side_of))


PARTS = {
    "source": RecipeSource,
    "windows": RecipeWindows,
    "classes": RecipeClasses,
    "split": RecipeSplit,
    "protocol": RecipeProtocol,
}


def read_recipe(path: str | Path) -> Recipe:
    """
    Reads and checks a recipe.

    Raises:
        FileNotFoundError: where there is none.
        ValueError: where it is no TOML, or fields lack, are unknown, of another type, or contradict each other; names
            the file and the field.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"No recipe at {path}.")
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
        parts = {name: kind(**content.pop(name)) for name, kind in PARTS.items() if name in content}
        recipe = Recipe(**parts, **content)
        _check(recipe)
    except (StrictDataclassError, TypeError, ValueError) as error:  # a field of another type; lacking or unknown
        raise ValueError(f"{path.name}: {error}") from error
    return recipe


def _check(recipe: Recipe) -> None:
    """What the types do not say."""
    if (recipe.classes is None) != (recipe.use == "pre-training"):
        raise ValueError(
            f"a recipe for {recipe.use} must {'have no' * (recipe.classes is not None) or 'have'} classes."
        )
    if recipe.classes is not None:
        strangers = sorted(set(recipe.classes.events.values()) - set(recipe.classes.names))
        if strangers:
            raise ValueError(f"classes.events names classes that classes.names lacks: {strangers}.")
    split = recipe.split
    people = split.train + split.validation + split.test + split.exclude
    twice = sorted(person for person, count in Counter(people).items() if count > 1)
    if twice:
        raise ValueError(f"people on two sides of the split: {twice}.")
    if (split.rule == "given people") != bool(split.train and split.test):
        raise ValueError("split.train and split.test must name people where split.rule is 'given people', only there.")
    recipe.extractor()  # an unknown montage, a window of no length


__all__ = ["Recipe", "RecipeClasses", "RecipeProtocol", "RecipeSource", "RecipeSplit", "RecipeWindows", "read_recipe"]
