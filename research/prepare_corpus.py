"""
The corpus of our own checkpoints: small public data sets in one folder -> prepared data sets for pre-training.

    python research/prepare_corpus.py --data DATA --output runs/corpus --num_proc 2

Writes three data sets with `prepare_dataset`, which `pretrain.py` reads together:

    pretraining   unlabelled signals at 64 Hz, already filtered
    tasks         labelled recordings of training people, without their labels
    trials        the same, of a set whose trials of one second follow each other without gaps

and `sets.csv`, with the amount of data and the licence of each set. The corpus has no validation or test people of the
labelled recordings, and no set without a known licence. A few of its own people form the split `validation`, on which
pre-training is evaluated. After a kill it continues where it stopped.
"""

import hashlib
import os
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd
from transformers import HfArgumentParser

from neuript_hf import NeurIPTFeatureExtractor, prepare_dataset
from neuript_hf.data.atomic import atomic_write
from neuript_hf.data.preparation import RejectionRules
from neuript_hf.data.shards import read_outcomes, read_settings


# Recordings of 10 s are common here. Most come from consumer headsets, where slow drifts reach 500 microvolt in good
# signals (the largest value of the median window of epilepsy_gb is 230). Above that are movement and loose contacts:
# 8 to 25 % of the windows of muse_seq, epilepsy_gb and dasps, none of eegmat. No window is flat, and a drifting
# channel may not cross zero for 4 s, so there is no lower limit. Bad channels keep their mask.
RULES = RejectionRules(
    min_recording_seconds=8.0, trim_seconds=0.0, max_microvolts=500.0, min_microvolts=None, judge_masked=False
)
# The longest windows of the labelled sets; training draws shorter parts.
WINDOW_SECONDS = 5.0
# Its trials of one second follow each other without gaps: the signal jumps at every full second.
TRIALS_SET, TRIAL_SECONDS = "uci_alcohol", 1.0
# Sets whose licence is unknown: for evaluation only, never for weights.
EVALUATION_ONLY = {"msu_schizo", "alz_fsu"}
# How the manifests mark a licence that nobody could look up.
UNCONFIRMED = "unconfirmed"
# Sets whose unlabelled arrays contain the labelled recordings, with more channels.
REPEATED = {"eegmmidb_mi"}
# People held out from pre-training: this share of each set with more than `FEW_PEOPLE`.
HELD_OUT_SHARE, FEW_PEOPLE = 0.06, 15
RECORDINGS_PER_SHARD = 64


@dataclass
class CorpusArguments:
    """The recordings, and the folder for the data sets."""

    data: str = field(metadata={"help": "Folder with manifest.csv and pretraining/manifest.jsonl."})
    output: str = field(default="runs/corpus", metadata={"help": "Folder to write to."})
    num_proc: int = field(default=1, metadata={"help": "Processes that read recordings."})
    people_share: float = field(
        default=1.0, metadata={"help": "Share of the training people of each set, for studies of the amount of data."}
    )
    confirmed_licences: bool = field(
        default=False, metadata={"help": "Leave out sets whose licence is only known from memory (unconfirmed)."}
    )


def read_rows(data: Path) -> dict[str, pd.DataFrame]:
    """
    The recordings of each data set, with the columns of [`prepare_dataset`], `licence` and `source`; all in `train`.

    Args:
        data: folder with `manifest.csv` and `pretraining/manifest.jsonl`.

    Raises:
        FileNotFoundError: where one of the two does not exist.
    """
    unlabelled = pd.read_json(data / "pretraining" / "manifest.jsonl", lines=True, dtype=False)
    unlabelled["file"] = "pretraining/" + unlabelled["file"]
    unlabelled["channel_names"] = unlabelled["channels"].map(" ".join)
    unlabelled["sampling_rate"] = unlabelled["rate_hz"]
    unlabelled["unit"], unlabelled["step"] = "uV", unlabelled["microvolt_per_step"]
    unlabelled["split"] = "train"

    labelled = pd.read_csv(data / "manifest.csv", dtype=str, keep_default_na=False)
    # sets with too few people are split within each person: none of their runs is used
    labelled = labelled[(labelled["split"] == "train") & (labelled["within_split"] == "")]
    labelled = labelled[~labelled["set"].isin(EVALUATION_ONLY | REPEATED)]
    columns = ["file", "set", "subject", "split", "licence", "source"]
    in_trials = labelled["set"] == TRIALS_SET
    return {
        "pretraining": unlabelled[columns + ["sampling_rate", "unit", "step", "channel_names"]],
        "tasks": labelled.loc[~in_trials, columns],
        "trials": labelled.loc[in_trials, columns].assign(trial_seconds=TRIAL_SECONDS),
    }


def held_out_people(people: pd.DataFrame) -> set[str]:
    """
    About 6 % of the people of each set with more than 15, those with the smallest hashes, whatever the order of the
    rows.

    Args:
        people: columns `set` and `subject`.
    """
    held_out = set()
    for _, subjects in people.groupby("set")["subject"]:
        subjects = _by_hash(subjects)
        if len(subjects) > FEW_PEOPLE:
            held_out |= set(subjects[: round(HELD_OUT_SHARE * len(subjects))])
    return held_out


def drawn_people(people: pd.DataFrame, share: float) -> set[str]:
    """
    A share of the people of each set, at least one person: those with the largest hashes, so that a smaller draw is
    part of a larger one, and held-out people are drawn last.

    Args:
        people: columns `set` and `subject`.
        share: above 0; 1 = all.

    Raises:
        ValueError: for another share.
    """
    if not 0 < share <= 1:
        raise ValueError(f"people_share must be above 0 and at most 1 (everybody), but is {share}.")
    of_sets = (_by_hash(subjects) for _, subjects in people.groupby("set")["subject"])
    return {name for subjects in of_sets for name in subjects[-max(1, round(share * len(subjects))) :]}


def _by_hash(subjects: pd.Series) -> list[str]:
    """Each person once, in an arbitrary but fixed order."""
    return sorted(subjects.unique(), key=lambda name: hashlib.sha256(name.encode()).hexdigest())


def extractors() -> dict[str, NeurIPTFeatureExtractor]:
    """How the recordings of each data set become windows."""
    return {
        "pretraining": NeurIPTFeatureExtractor(
            montage="as_recorded", l_freq=None, h_freq=None, window_seconds=WINDOW_SECONDS
        ),
        "tasks": NeurIPTFeatureExtractor(montage="as_recorded", window_seconds=WINDOW_SECONDS),
        "trials": NeurIPTFeatureExtractor(montage="as_recorded", window_seconds=TRIAL_SECONDS),
    }


def prepare_corpus(
    data: str | Path,
    output: str | Path,
    num_proc: int = 1,
    people_share: float = 1.0,
    confirmed_licences: bool = False,
) -> pd.DataFrame:
    """
    Writes the data sets and `sets.csv`.

    Args:
        data: folder with `manifest.csv` and `pretraining/manifest.jsonl`.
        output: folder to write to.
        num_proc: processes that read recordings.
        people_share: see [`drawn_people`]; held-out people stay in any case.
        confirmed_licences: leave out sets whose licence is marked as unconfirmed.

    Returns:
        The table of `sets.csv`, see [`describe`].

    Raises:
        FileNotFoundError: where a manifest or a recording is missing.
        ValueError: where `output` holds something else, or for a share that is not one.
    """
    data, output = Path(data).resolve(), Path(output)
    rows = read_rows(data)
    if confirmed_licences:
        rows = {name: table[~table["licence"].str.contains(UNCONFIRMED)] for name, table in rows.items()}
        rows = {name: table for name, table in rows.items() if len(table)}
    everybody = pd.concat(rows.values())
    held_out = held_out_people(everybody)
    used = held_out | drawn_people(everybody, people_share)
    manifests = output / "manifests"
    # recordings are named by their place in the data folder, wherever that is
    with atomic_write(manifests / "data") as partial:
        os.symlink(data, partial, target_is_directory=True)
    tables = []
    for name, recordings in rows.items():
        extractor = extractors()[name]
        table = recordings[recordings["subject"].isin(used)].copy()
        table["file"] = "data/" + table["file"]
        table.loc[table["subject"].isin(held_out), "split"] = "validation"
        with atomic_write(manifests / f"{name}.csv") as partial:
            table.to_csv(partial, index=False)
        prepare_dataset(
            manifests / f"{name}.csv",
            extractor,
            output / name,
            dataset_column="set",
            rules=RULES,
            recordings_per_shard=RECORDINGS_PER_SHARD,
            num_proc=num_proc,
        )
        tables.append(describe(output / name, table))
    sets = pd.concat(tables, ignore_index=True)
    with atomic_write(output / "sets.csv") as partial:
        sets.to_csv(partial, index=False)
    return sets


def describe(folder: Path, rows: pd.DataFrame) -> pd.DataFrame:
    """
    The content of a prepared data set: one row for each set and split, with people, recordings, windows kept, hours,
    the windows that each rule rejected, the recordings that were left out, licence and source.

    Args:
        folder: written by [`prepare_dataset`].
        rows: its manifest.
    """
    seconds = read_settings(folder)["extractor"]["window_seconds"]
    of_file = rows.set_index("file")
    counts: dict[tuple[str, str], Counter] = {}
    people: dict[tuple[str, str], set] = {}
    for outcome in read_outcomes(folder):
        key = (of_file["set"][outcome.recording], outcome.split)
        count = counts.setdefault(key, Counter())
        count["recordings"] += outcome.status == "kept"
        count["recordings lost"] += outcome.status != "kept"
        count["windows"] += outcome.windows_kept
        count.update({f"rejected: {rule}": number for rule, number in (outcome.windows_rejected or {}).items()})
        people.setdefault(key, set()).update({outcome.subject} if outcome.windows_kept else ())
    table = []
    for (name, split), count in sorted(counts.items()):
        origin = rows[rows["set"] == name]
        table.append(
            {"data set": folder.name, "set": name, "split": split, "people": len(people[name, split])}
            | {"hours": round(count["windows"] * seconds / 3600, 3)}
            | count
            | {column: "; ".join(sorted(origin[column].unique())) for column in ("licence", "source")}
        )
    return pd.DataFrame(table)


def main():
    (arguments,) = HfArgumentParser(CorpusArguments).parse_args_into_dataclasses()
    sets = prepare_corpus(**vars(arguments))
    numbers = sets.drop(columns=["licence", "source"]).fillna(0)
    counted = numbers.select_dtypes("number").columns.drop("hours")
    print(numbers.astype(dict.fromkeys(counted, int)).to_string(index=False))
    totals = sets.groupby("split")[["people", "hours", "windows"]].sum()
    print(f"\nAll together (a person of several data sets counts in each):\n{totals.to_string()}")


if __name__ == "__main__":
    main()
