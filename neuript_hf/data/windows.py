"""Recordings and their labels -> windows in a `datasets.DatasetDict`, split by person."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pandas as pd
from datasets import Dataset, DatasetDict, Features, List, Value
from transformers.utils import logging

from ..feature_extraction_neuript import NeurIPTFeatureExtractor
from ..recordings import Recording
from .copies import overlapping_windows, recording_sources, shared_windows
from .fingerprints import recording_courses, same_recordings
from .in_memory import is_table_source, table_of_recordings
from .manifest import SPLIT_SHARES, SUBJECT_PATTERN, assign_splits, last_change, open_row, read_table, table_targets
from .people import dataset_of
from .targets import SEVERAL


logger = logging.get_logger(__name__)

# Recordings of a table that are compared by their fingerprints, each with each: half an hour of each takes minutes.
MOST_COMPARED = 300


def load_recordings(
    source: Any,
    extractor: NeurIPTFeatureExtractor,
    *,
    subjects: Any = None,
    labels: Any = None,
    splits: Mapping[str, str] | None = None,
    sampling_rate: float | None = None,
    channel_names: Sequence[str] | None = None,
    unit: str | None = None,
    dataset: str | None = None,
    rows: Mapping[str, str] | None = None,
    label_column: str | Sequence[str] | None = "label",
    events: Mapping[str, Any] | Sequence[str] | None = None,
    problem_type: str | None = None,
    event_offset_seconds: float = 0.0,
    window_seconds: float | None = None,
    stride_seconds: float | None = None,
    split_column: str = "split",
    split_shares: tuple[float, float, float] = SPLIT_SHARES,
    split_seed: int = 0,
    within_subject: bool = False,
    trust_manifest: bool = False,
    subject_pattern: str = SUBJECT_PATTERN,
    num_proc: int | None = None,
) -> DatasetDict:
    """
    Reads recordings, cuts labelled windows and puts each person into one split.

    Labels come from one of four places: annotations inside the recordings (`events`), columns of the manifest
    (`label_column`, for the whole file), in a folder without a manifest the name of the folder that holds the file,
    or, for recordings in memory, `labels` or the events of `mne.Epochs`. `label_column=None` gives windows without
    labels. `problem_type` says what they are, as in the configuration of a model:

    | `problem_type` | a label is | column `labels` of the result |
    |---|---|---|
    | `"single_label_classification"` | a class, any text | `ClassLabel` |
    | `"multi_label_classification"` | labels: `eye;muscle`, or columns of 0 and 1 | a row of true and false |
    | `"regression"` | a number to predict, or columns of numbers | a number, or a row of them |

    Each example holds the batch contract's entries for one window (`input_values [C, T]` ...), `labels`, `dataset`,
    `subject`, `recording` and `onset` (seconds from the start of the recording). The first example of each recording
    also holds the extractor's channel report as JSON, which [`channel_reports`] reads. `datasets` caches the result,
    and makes it anew when a file, the extractor or an argument changes.

    Args:
        source: a manifest (`.csv`, `.tsv`, `.jsonl`) with one row for each recording and the columns `file` (relative
            to the manifest) and `subject`, optionally `dataset`, `label`, `events` (as the argument, in JSON),
            `split`, `montage`, `net`, and, where the files do not say so themselves, `sampling_rate`, `unit`,
            `channel_names` (separated by blanks), `variable`, `trial`, `step` and `trial_seconds` (see [`open_row`]);
            or a folder, which may hold a `manifest.csv`; or recordings: `mne.io.Raw`, `mne.Epochs`, [`Recording`],
            array `[C, T]` or `[n, C, T]`, path, `mne_bids.BIDSPath`, one or a list of them.
        extractor: turns recordings into windows.
        subjects: for recordings in memory, the person of each; of epochs also the person of each epoch, by default
            the column `subject` of their metadata. A `BIDSPath` names its own.
        labels: for recordings in memory, the label of each; of epochs also that of each epoch. By default epochs have
            the names of their events, `event_id`, of which `events` can choose some.
        splits: for recordings in memory, person -> `train`, `val` or `test`; by default people are drawn.
        sampling_rate, channel_names, unit: of arrays, as in [`NeurIPTFeatureExtractor`].
        dataset: name of the data set that the people belong to; by default the manifest's column. Weights know whom
            they have seen by `dataset/person`.
        rows: selects the manifest's rows whose columns have these values, e.g. `{"set": "eegmat"}`.
        label_column: column, or columns, with the labels of a whole recording, or `None`. A recording with none of
            several labels has `;`.
        events: annotation names -> labels (a list: each name is its own class). One window starts at each such
            annotation; with `stride_seconds`, more follow inside a long annotation. Where windows have several labels
            at once, a window has those of all these annotations that it overlaps.
        problem_type: what the labels are. By default texts are classes and columns of 0 and 1 are several labels;
            what could be something else (`eye;muscle`, 23.5) is refused, with the choice.
        event_offset_seconds: start of the first window relative to the annotation's onset.
        window_seconds: length of a window; default the extractor's, and of epochs in memory the whole epoch.
        stride_seconds: time between window starts; for whole recordings the default is the window's length.
        split_column: column with `train`, `val` or `test`; if there is none, people are drawn.
        split_shares: shares of the people to draw for train, validation and test.
        split_seed: seed of that draw.
        within_subject: allow a person in several splits, for protocols that intend this. The windows of two splits
            must still have no time of a recording in common.
        trust_manifest: take other names for other people and other rows for other recordings, however much they look
            like the same. By default, names that differ in their spelling alone (`sub-01`, `S1`, `1`) are one person,
            and one recording in two rows is refused: by path, by bytes, by the samples of its windows, and, of up to
            300 recordings, by fingerprints, which find it cropped, filtered or resampled.
        subject_pattern: regular expression whose first group is the person, for folders without a manifest.
        num_proc: number of processes that read recordings.

    Raises:
        FileNotFoundError: if `source` or a file of the manifest does not exist.
        ValueError: if columns or labels are missing, a person is in two splits, a recording is in two rows, windows of
            two splits have samples in common, a class has no training window, or the extractor refuses a recording
            (the message names its file).
    """
    reading = {"sampling_rate": sampling_rate, "channel_names": channel_names, "unit": unit}
    if is_table_source(source):
        given = reading | {"subjects": subjects, "labels": labels, "splits": splits}
        if unfit := [name for name, value in given.items() if value is not None]:
            raise ValueError(f"A manifest has columns for {', '.join(unfit)}: write them there.")
        table = read_table(Path(source), rows, label_column, events, subject_pattern)
        if dataset is not None:
            table["dataset"] = dataset
    else:
        if rows is not None or within_subject:
            raise ValueError("rows and within_subject are for manifests: write one, or leave them out.")
        labelled = label_column is not None
        table = table_of_recordings(source, subjects, labels, splits, dataset, labelled, events, **reading)
        if splits is None and max(split_shares) < 1 and table["subject"].nunique() == 1:
            raise ValueError(
                f"All of it is of one person, {table['subject'].iloc[0]!r}, who can't be split by person. Name the "
                "person of each recording; of epochs of several people name that of each epoch, such as "
                "subjects=epochs.metadata['subject']."
            )
    table["dataset"] = dataset_of(table)
    table = assign_splits(table, split_column, split_shares, split_seed, within_subject, trust_manifest)
    targets = table_targets(table, label_column, problem_type)

    features = {
        "input_values": List(List(Value("float32"))),
        "electrode_positions": List(List(Value("float32"))),
        "lobe_mask": List(List(Value("bool"))),
        "channel_mask": List(Value("bool")),
        "attention_mask": List(Value("bool")),
        "dataset": Value("string"),
        "subject": Value("string"),
        "recording": Value("string"),
        "onset": Value("float64"),
        "report": Value("string"),
    }
    if targets is not None:
        features["labels"] = targets.feature
        if "piece_labels" in table:
            pieces_of = table["piece_labels"]
            table["piece_labels"] = [pieces and [targets.encode(entry) for entry in pieces] for pieces in pieces_of]
            table.loc[pieces_of.notna(), "label"] = None
        if table["events"].notna().any():
            table["events"] = [{name: targets.encode(entry) for name, entry in row.items()} for row in table["events"]]
        else:
            table["label"] = [None if entry is None else targets.encode(entry) for entry in table["label"]]

    splits = {}
    for split in ("train", "validation", "test"):
        part = table[table["split"] == split]
        if part.empty:
            continue
        recordings = [{**row, "modified": last_change(row)} for row in part.to_dict("records")]
        try:
            splits[split] = Dataset.from_generator(
                _windows_of_recordings,
                features=Features(features),
                gen_kwargs={
                    "recordings": recordings,
                    "extractor_settings": extractor.to_dict(),
                    "event_offset_seconds": event_offset_seconds,
                    "window_seconds": window_seconds,
                    "stride_seconds": stride_seconds,
                    "several_labels": targets is not None and targets.problem_type == SEVERAL,
                },
                split=datasets.NamedSplit(split),
                num_proc=num_proc,
            )
        except datasets.exceptions.DatasetGenerationError as error:
            # the cause names the recording; datasets' own error only says that generating the dataset failed
            if isinstance(error.__cause__, (ValueError, OSError)):
                raise error.__cause__ from None
            raise
        if targets is not None and split == "train":
            if absent := targets.absent(targets.array(splits[split])):
                raise ValueError(
                    f"The train split has no window of the classes or labels {absent}, which cannot be learned then. "
                    "Leave them out, or split the people otherwise. Numbers to predict need problem_type='regression'."
                )
    if not trust_manifest:
        _refuse_shared_samples(splits, table, window_seconds or extractor.window_seconds)
    return DatasetDict(splits)


def _refuse_shared_samples(splits: Mapping[str, Dataset], table: pd.DataFrame, seconds: float) -> None:
    """Refuses windows of two splits that overlap, and recordings of two rows with the same samples."""
    advice = "Give trust_manifest=True if you want this all the same."
    for one, start, split, other, other_start, other_split in overlapping_windows(splits, table, seconds):
        raise ValueError(
            f"Windows of {seconds:g} s share samples across the split: {one} at {start:g} s is in {split}, {other} at "
            f"{other_start:g} s in {other_split}. Leave at least a window between the parts of a recording. {advice}"
        )
    person = dict(zip(table["recording"], table["subject"], strict=True))
    split = dict(zip(table["recording"], table["split"], strict=True))
    for (one, other), (start, other_start) in shared_windows(splits).items():
        raise ValueError(
            f"Two rows hold the same samples: {one} at {start:g} s ({person[one]}, {split[one]}) and {other} at "
            f"{other_start:g} s ({person[other]}, {split[other]}). Keep one row for each recording. {advice}"
        )
    if len(table) > MOST_COMPARED:
        logger.warning(
            f"{len(table)} recordings are compared by path, bytes and windows, but not by their fingerprints, which "
            f"would take long: a recording that was cropped or resampled and named otherwise is not found."
        )
        return
    names, sources = table["recording"].tolist(), recording_sources(table).tolist()
    for one, other, _ in same_recordings(recording_courses(table)):
        if sources[one] != sources[other]:
            one, other = names[one], names[other]
            raise ValueError(
                f"Two rows hold the same signal, cropped, resampled or changed otherwise: {one} ({person[one]}, "
                f"{split[one]}) and {other} ({person[other]}, {split[other]}). Keep one row for each recording. "
                f"{advice}"
            )


def channel_reports(dataset: Dataset) -> dict[str, dict]:
    """What the extractor did to the channels of each recording: `{recording: report}`."""
    columns = zip(dataset["recording"], dataset["report"], strict=True)
    return {recording: json.loads(report) for recording, report in columns if report}


def _windows_of_recordings(
    recordings: list[dict],
    extractor_settings: dict,
    event_offset_seconds: float,
    window_seconds: float | None,
    stride_seconds: float | None,
    several_labels: bool,
) -> Iterator[dict]:
    """The examples of a list of recordings. A plain function with plain arguments, so that `datasets` can hash it."""
    for recording in recordings:
        settings = dict(extractor_settings)
        settings |= {name: recording[name] for name in ("montage", "net") if recording.get(name)}
        extractor = NeurIPTFeatureExtractor.from_dict(settings)
        labels, onsets, outside, seconds = None, None, 0, window_seconds
        pieces = recording.get("piece_labels")
        try:
            source = open_row(recording)
            if seconds is None and not (source.in_pieces and not recording["path"]):
                seconds = extractor.window_seconds
            if recording["events"] is not None:
                onsets, labels, outside = _event_windows(
                    source, recording["events"], event_offset_seconds, seconds, stride_seconds, several_labels
                )
                if not onsets:
                    there = sorted({name for *_, name in source.events})
                    if not set(recording["events"]) & set(there):
                        raise ValueError(
                            f"the recording has no annotation {' or '.join(map(repr, recording['events']))}; it has "
                            f"{', '.join(map(repr, there)) or 'none at all'}."
                        )
                    raise ValueError(
                        f"no window of {seconds} s fits at the annotations {list(recording['events'])}; the "
                        f"recording has {there}."
                    )
                batch = extractor(source, window_seconds=seconds, onsets=onsets)
            else:
                batch = extractor(source, window_seconds=seconds, stride_seconds=stride_seconds)
        except ValueError as error:
            raise ValueError(f"{recording['file']}: {error}") from error
        if outside:
            left_out = f"{outside} windows at annotations that reach beyond the recording or into a gap"
            logger.warning(f"{recording['file']}: left out {left_out}.")
            batch.report.steps.append(f"note: left out {left_out}")
        # the extractor leaves out windows in time marked as bad
        for index, planned in enumerate(batch.kept.tolist()):
            example = {name: values[index] for name, values in batch.items()}
            example |= {
                "dataset": recording["dataset"],
                "subject": recording["subject"],
                "recording": recording["recording"],
                "onset": float(batch.onsets[index]) if onsets is None else onsets[planned],
                "report": json.dumps(batch.report.to_dict()) if index == 0 else "",
            }
            if pieces is not None:
                example["labels"] = pieces[
                    source.segment_of(example["onset"], seconds or source.seconds / len(pieces))
                ]
            elif labels is not None:
                example["labels"] = labels[planned]
            elif "label" in recording:
                example["labels"] = recording["label"]
            yield example


def _event_windows(
    source: Recording,
    events: Mapping[str, Any],
    offset_seconds: float,
    window_seconds: float,
    stride_seconds: float | None,
    several_labels: bool,
) -> tuple[list[float], list[Any], int]:
    """
    Starts (seconds) and labels of the windows at annotations, and how many more do not fit.

    Raises:
        ValueError: where windows that can have only one label begin at the same time with different ones.
    """
    onsets, labels, outside = [], [], 0
    for first, duration, description in source.events:
        if description not in events:
            continue
        count = 1
        if stride_seconds is not None:
            room = duration - offset_seconds - window_seconds
            count = 1 + max(0, int(np.floor(room / stride_seconds + 1e-9)))
        for index in range(count):
            start = first + offset_seconds + index * (stride_seconds or 0.0)
            if not source.holds(start, window_seconds):
                outside += 1
                continue
            onsets.append(float(start))
            labels.append(events[description])
    at_onset: dict[float, Any] = {}
    for onset, label in zip(onsets, labels, strict=True):
        if several_labels:
            rows = [at_onset.get(onset, label), label, *_within(source, events, onset, window_seconds)]
            at_onset[onset] = [any(column) for column in zip(*rows, strict=True)]
        elif at_onset.setdefault(onset, label) != label:
            raise ValueError(
                f"two annotations at {onset:g} s give one window different labels: {at_onset[onset]} and {label}. "
                "Leave one out of `events`, or give problem_type='multi_label_classification' for several at once."
            )
    if several_labels:
        onsets, labels = map(list, (at_onset.keys(), at_onset.values()))
    return onsets, labels, outside


def _within(source: Recording, events: Mapping[str, Any], start: float, seconds: float) -> list[Any]:
    """Labels of the annotations that a window overlaps; one without duration is a point."""
    return [
        events[description]
        for first, duration, description in source.events
        if description in events and first < start + seconds and (first + duration > start or first == start)
    ]


__all__ = ["channel_reports", "load_recordings"]
