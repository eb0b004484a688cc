"""
People by the spelling of their names: who is the same under another one.

Nothing here decides what may be done with them. `manifest.py` refuses a person on two sides of a split,
`checkpoints/training_record.py` compares people with those that weights have seen.
"""

import re
import unicodedata

import pandas as pd


# Columns of a manifest with the name of the data set, the first that it has: person 01 of one is not 01 of another.
DATASET_COLUMNS = ("dataset", "set")

# What people are called in general. The short ones count only before nothing but a number: "S01", but not "Smith", nor
# "S155w1", who is not "155w1" in a well-known set.
_WORDS = "subject|subj|sub|participant|patient|proband|person"
_GENERAL = re.compile(rf"(?:{_WORDS})-(?=.)|(?:{_WORDS})(?=[0-9])|(?:pat|pp|vp|id|s|p)-?(?=[0-9]+$)")
_SESSION = re.compile(r"(?:(?<=.)-|(?<=[0-9]))(?:(?:ses|session)-[^-]+|(?:ses|session|run|visit|night|day)-?[0-9]+)$")
_WHOLE_FLOAT = re.compile(r"(?<![.,\d])(\d+)[.,]0+$")
_NO_NAME = ("", "n/a", "nan", "none", "null")


def is_named(name: str) -> bool:
    """Whether a cell of the column `subject` names anybody."""
    return _plain(name) not in _NO_NAME


def person_key(name: str, dataset: str = "") -> str:
    """
    What is left of a person's name without its spelling: two names with the same key are taken for one person.

    Capitals, blanks, hyphens, underscores, leading zeros, `.0` of a number read as a decimal, the form of Unicode
    characters, general words before a number (`sub-`, `subject`, `S`, `P`, ...), the name of the data set in front and
    a session or run behind make no difference. Other letters and all other digits do: `A01` is not `B01`, `1` is not
    `11`, `12_15` is not `1215`.

    Args:
        name: the person, with or without `dataset/` in front.
        dataset: the data set that the person belongs to.
    """
    owner, _, name = str(name).rpartition("/")
    front = _slug(owner or dataset)
    slug = _slug(name)
    while True:
        shorter = _SESSION.sub("", slug)
        if general := _GENERAL.match(shorter):
            shorter = shorter[general.end() :]
        if front and shorter.startswith(f"{front}-"):
            shorter = shorter[len(front) + 1 :]
        if shorter == slug or not shorter:
            break
        slug = shorter
    return _joined(slug) or _plain(name)


def dataset_key(name: str) -> str:
    """As [`person_key`], for the name of a data set: capitals, blanks, hyphens and underscores make no difference."""
    return _joined(_slug(name))


def _plain(text: str) -> str:
    """One form for the characters of a text; no invisible ones."""
    text = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", str(text)).casefold())
    return "".join(character for character in text if unicodedata.category(character) != "Cf").strip()


def _slug(text: str) -> str:
    """Letters, ASCII digits and symbols, with a hyphen for every run of blanks and punctuation."""
    text = _WHOLE_FLOAT.sub(r"\1", _plain(text))
    characters = []
    for character in text:
        kind = unicodedata.category(character)
        if kind == "Nd":
            character = str(unicodedata.decimal(character))
        characters.append("-" if kind[0] in "PZC" else character)
    return re.sub(r"-+", "-", "".join(characters)).strip("-")


def _joined(slug: str) -> str:
    """Without leading zeros, and without hyphens, except between numbers."""
    slug = re.sub(r"[0-9]+", lambda digits: digits[0].lstrip("0") or "0", slug)
    return re.sub(r"(?<![0-9])-|-(?![0-9])", "", slug)


def dataset_of(table: pd.DataFrame) -> pd.Series:
    """The data set of each row, empty where the table does not name it."""
    column = next((name for name in DATASET_COLUMNS if name in table), None)
    return table[column] if column else pd.Series("", index=table.index)


def one_name_each(table: pd.DataFrame, trust: bool = False) -> pd.Series:
    """
    A name for the person of each row: one for each person, the first spelling in the table, with `dataset/` in front
    where people of several data sets share it.

    Args:
        table: with `subject` and perhaps a column of `DATASET_COLUMNS`.
        trust: take every spelling for another person.
    """
    datasets, subjects = dataset_of(table), table["subject"]
    keys = [
        (owner, name) if trust else (dataset_key(name.rpartition("/")[0] or owner), person_key(name, owner))
        for owner, name in zip(datasets, subjects, strict=True)
    ]
    people = pd.Series(keys, index=table.index)
    names = subjects.groupby(people).transform("first")
    shared = people.groupby(names).transform("nunique") > 1
    full = [full_name(owner, name) for owner, name in zip(datasets, names, strict=True)]
    return names.where(~shared, pd.Series(full, index=table.index))


def full_name(dataset: str, subject: str) -> str:
    """`dataset/person`, or the person alone where the data set has no name."""
    return subject if not dataset or subject.startswith(f"{dataset}/") else f"{dataset}/{subject}"


__all__ = ["DATASET_COLUMNS", "dataset_key", "dataset_of", "full_name", "is_named", "one_name_each", "person_key"]
