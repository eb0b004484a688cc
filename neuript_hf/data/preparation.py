"""
Recordings -> a prepared data set on disk (shards.py), for collections of thousands of hours.

A shard holds a fixed set of recordings, and is written whole or not at all. So the result does not depend on how many
processes or jobs share the work, or on how often they were killed.
"""

import hashlib
import json
import math
import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pandas as pd
from huggingface_hub import HfApi
from transformers import BatchFeature
from transformers.utils.logging import tqdm

from ..feature_extraction_neuript import NeurIPTFeatureExtractor
from .atomic import PARTIAL_SUFFIX, atomic_write, write_json
from .copies import PART_COLUMNS
from .fingerprints import fingerprint, spectral_course
from .jobs import Share, in_processes, reason_of
from .manifest import SUBJECT_PATTERN, assign_splits, open_row, read_table
from .shards import (
    ENCODINGS,
    SETTINGS_FILE,
    RecordingOutcome,
    RecordingWindows,
    encode_windows,
    pack_outcomes,
    pack_windows,
    read_outcomes,
    read_settings,
    shard_paths,
)


SUMMARY_FILE = "summary.json"
SET_ASIDE_FILE = "set_aside.csv"
# What is known of a recording before it is opened. All of it but the path goes into the data set's hash.
COLUMNS = ["file", "path", "subject", "split", "montage", "net", "sampling_rate", "unit", "channel_names", "bytes"]
COLUMNS += ["step", "trial_seconds"]


@dataclass(frozen=True)
class RejectionRules:
    """
    Which recordings and windows are left out of pre-training data; the defaults are the paper's (docs/model.md,
    section 2.1).

    Args:
        min_recording_seconds: shorter recordings are left out.
        trim_seconds: cut off at both ends of a recording.
        max_microvolts: windows with a larger magnitude are rejected (`amplitude`); `None` for no such rule.
        min_microvolts: windows in which a channel never reaches this magnitude (`flat`), or never falls below it
            (`stuck`), are rejected; `None` for no such rule.
        judge_masked: channels that the extractor masked as bad are zero, so their windows are rejected as flat. With
            `False` the rules ignore these channels, and the windows keep their mask.

    Raises:
        ValueError: if a limit is negative.
    """

    min_recording_seconds: float = 300.0
    trim_seconds: float = 60.0
    max_microvolts: float | None = 100.0
    min_microvolts: float | None = 3.0
    judge_masked: bool = True

    def __post_init__(self):
        for name in ("min_recording_seconds", "trim_seconds", "max_microvolts", "min_microvolts"):
            value = getattr(self, name)
            if value is not None and not value >= 0:
                raise ValueError(f"{name} must be zero or positive, but is {value!r}.")

    def window_starts(self, parts: Sequence[tuple[float, float]], window_seconds: float) -> np.ndarray:
        """
        Starts of a recording's windows, in seconds. No window reaches into a gap.

        Args:
            parts: start and end of each part without gaps, in seconds.
            window_seconds: length of a window.

        Raises:
            LeftOut: if the recording is too short.
        """
        if sum(end - start for start, end in parts) < self.min_recording_seconds:
            raise LeftOut(f"shorter than {self.min_recording_seconds:g} s")
        first, last = parts[0][0] + self.trim_seconds, parts[-1][1] - self.trim_seconds
        starts = []
        for start, end in parts:
            start, end = max(start, first), min(end, last)
            count = max(0, math.floor((end - start) / window_seconds + 1e-9))
            starts.append(start + np.arange(count) * window_seconds)
        if not np.concatenate(starts).size:
            raise LeftOut(f"no room for a window of {window_seconds:g} s")
        return np.concatenate(starts)

    def judge(self, microvolts_largest: np.ndarray, microvolts_smallest: np.ndarray, good: np.ndarray) -> np.ndarray:
        """
        The rule that rejects each window, the first of `amplitude`, `flat` and `stuck`; `""` for windows to keep.

        Args:
            microvolts_largest, microvolts_smallest: extremes of the magnitude over time, `[n, C]`.
            good: `channel_mask`, bool `[n, C]`.
        """
        judged = np.ones_like(good) if self.judge_masked else good
        broken = {}
        if self.max_microvolts is not None:
            broken["amplitude"] = microvolts_largest > self.max_microvolts
        if self.min_microvolts is not None:
            broken["flat"] = microvolts_largest < self.min_microvolts
            broken["stuck"] = microvolts_smallest > self.min_microvolts
        verdicts = np.full(len(good), "", dtype="<U9")
        for rule, channels in broken.items():
            verdicts[(verdicts == "") & (channels & judged).any(axis=1)] = rule
        return verdicts


class LeftOut(Exception):
    """A rule leaves out the whole recording; the message says which."""


@dataclass(frozen=True)
class Preparation:
    """Everything, apart from the recordings, that determines the bytes of a data set; sent to the processes."""

    extractor: dict
    rules: RejectionRules
    encoding: str
    recordings_per_shard: int


def prepare_dataset(
    source: str | Path,
    extractor: NeurIPTFeatureExtractor,
    output: str | Path,
    *,
    rows: Mapping[str, str] | None = None,
    dataset_column: str = "dataset",
    dataset_name: str | None = None,
    split_column: str = "split",
    within_subject: bool = False,
    trust_manifest: bool = False,
    subject_pattern: str = SUBJECT_PATTERN,
    rules: RejectionRules | None = None,
    encoding: str = "int16",
    recordings_per_shard: int = 16,
    num_proc: int = 1,
    shard_index: int = 0,
    num_shards: int = 1,
) -> dict | None:
    """
    Cuts recordings into windows and writes them as shards. If it is killed, call it again with the same arguments: it
    resumes, without losing or repeating a window, and the result is the same, byte for byte, as that of a single run.

    The folder also holds `dataset.json` (all settings, and hashes of the recordings and of the split), `summary.json`
    (hours, people, how many windows each rule rejected) and `set_aside.csv` (recordings that could not be read or
    used, with the reason). To try a recording that was set aside again, delete its shard.

    Args:
        source: a manifest (`.csv`, `.tsv`, `.jsonl`) with the columns `file` and `subject`, and optionally `dataset`,
            `split`, `montage`, `net`, and those that describe a file ([`open_row`]); a BIDS root; or a folder of
            recordings.
        extractor: turns recordings into windows of its `window_seconds`.
        output: folder to write to.
        rows: selects the manifest's rows whose columns have these values, e.g. `{"set": "eegmat"}`.
        dataset_column: column with the name of the data set, which becomes part of the person's (`eegmat/01`), so that
            people of two data sets stay apart.
        dataset_name: that name if there is no such column; default the name of the source's folder.
        split_column: column with `train`, `val` or `test`; if there is none, everything is `train`.
        within_subject: allow a person in several splits.
        trust_manifest: take other names for other people and other rows for other recordings, see [`load_recordings`].
        subject_pattern: regular expression whose first group is the person, for folders without a manifest.
        rules: what is left out; default the paper's [`RejectionRules`].
        encoding: `"int16"`, `"int8"` (half the size) or `"float32"`.
        recordings_per_shard: number of recordings in a shard.
        num_proc: number of processes that read recordings.
        shard_index, num_shards: this job's number and the number of jobs, if several jobs (a cluster's array) write
            to one output.

    Returns:
        The content of `summary.json`; `None` while other jobs still have shards to write.

    Raises:
        FileNotFoundError: if `source` or a file of the manifest does not exist.
        ValueError: if an argument is invalid, a column is missing, a person is in two splits, or `output` holds
            something else.
    """
    source, output = Path(source), Path(output)
    _check_arguments(encoding, recordings_per_shard, num_proc)
    share = Share(shard_index, num_shards)
    dataset_name = dataset_name or (source if source.is_dir() else source.parent).resolve().name
    table = _plan(
        source, rows, dataset_column, dataset_name, split_column, within_subject, trust_manifest, subject_pattern
    )
    preparation = Preparation(extractor.to_dict(), rules or RejectionRules(), encoding, recordings_per_shard)
    number = math.ceil(len(table) / recordings_per_shard)
    _write_settings(output, preparation, table, number)

    mine = share.of(range(number))
    _remove_partial_files(output, mine if num_shards > 1 else None)
    todo = [shard for shard in mine if not shard_paths(output, shard)[0].exists()]
    recordings = table.to_dict("records")
    shards = {shard: recordings[shard * recordings_per_shard : (shard + 1) * recordings_per_shard] for shard in todo}
    with tqdm(total=len(mine), initial=len(mine) - len(todo), desc="Preparing", unit="shard") as progress:
        tasks = [(output, *shard, preparation) for shard in shards.items()]
        for _ in in_processes(_make_shard, tasks, num_proc, preload=__name__):
            progress.update()
    if not all(shard_paths(output, shard)[0].exists() for shard in range(number)):
        return None
    return _write_summary(output)


def push_dataset(folder: str | Path, repo_id: str, *, private: bool = True) -> str:
    """
    Uploads a prepared data set to the Hub. EEG can identify people, so the repository is private by default.

    Args:
        folder: a complete data set of [`prepare_dataset`].
        repo_id: name on the Hub, `user/name`.
        private: whether the repository is private.

    Returns:
        The repository's address.

    Raises:
        ValueError: if the data set is not complete.
    """
    if not (Path(folder) / SUMMARY_FILE).is_file():
        raise ValueError(f"{folder} is not complete: {SUMMARY_FILE} is missing. Run prepare_dataset to its end first.")
    api = HfApi()
    address = api.create_repo(repo_id, repo_type="dataset", private=private, exist_ok=True)
    api.upload_large_folder(repo_id, folder, repo_type="dataset", ignore_patterns=[f"*{PARTIAL_SUFFIX}/*"])
    return str(address)


def _check_arguments(encoding: str, recordings_per_shard: int, num_proc: int) -> None:
    if encoding not in ENCODINGS:
        raise ValueError(f"encoding must be one of {', '.join(ENCODINGS)}, but is {encoding!r}.")
    for name, value in {"recordings_per_shard": recordings_per_shard, "num_proc": num_proc}.items():
        if value < 1:
            raise ValueError(f"{name} must be at least 1, but is {value}.")


def _plan(
    source: Path,
    rows: Mapping[str, str] | None,
    dataset_column: str,
    dataset_name: str,
    split_column: str,
    within_subject: bool,
    trust_manifest: bool,
    subject_pattern: str,
) -> pd.DataFrame:
    """
    One row for each recording, with COLUMNS and, where rows choose a part of a file, that part, in a fixed order. The
    subject begins with its data set.
    """
    table = read_table(source, rows, label_column=None, subject_pattern=subject_pattern)
    datasets = table[dataset_column].replace("", dataset_name) if dataset_column in table else dataset_name
    table["subject"] = datasets + "/" + table["subject"]
    if split_column not in table:
        table[split_column] = "train"
    table = assign_splits(table, split_column, within_subject=within_subject, trust_manifest=trust_manifest)
    table["file"] = table["recording"]  # several parts of one file are several recordings
    twice = sorted(table["file"][table["file"].duplicated()])
    if twice:
        raise ValueError(f"{source} has several rows for one recording: {twice[:3]}. Keep one row for each.")
    for column in set(COLUMNS) - set(table):
        table[column] = ""
    table["bytes"] = [Path(path).stat().st_size if Path(path).is_file() else 0 for path in table["path"]]
    parts = [name for name in PART_COLUMNS if name in table]
    return table.sort_values("file", kind="stable")[COLUMNS + parts]


def _hash(lines: list[list]) -> str:
    return hashlib.sha256("\n".join(json.dumps(line) for line in lines).encode()).hexdigest()


def _write_settings(output: Path, preparation: Preparation, table: pd.DataFrame, shards: int) -> None:
    """Writes `dataset.json`, or compares the settings with the one that is there."""
    settings = {
        "neuript_hf": version("neuript_hf"),
        **asdict(preparation),
        "recordings": len(table),
        "shards": shards,
        "recordings_sha256": _hash(table.drop(columns="path").values.tolist()),
        "split_sha256": _hash(sorted(table[["subject", "split"]].drop_duplicates().values.tolist())),
    }
    # this comes before the look at dataset.json, which another job of an array may be writing at this moment
    foreign = output.exists() and not (
        output.is_dir() and all(entry.suffix == PARTIAL_SUFFIX for entry in output.iterdir())
    )
    if (output / SETTINGS_FILE).exists():
        there = read_settings(output)
        now = json.loads(json.dumps(settings))
        changed = sorted(name for name in there | now if there.get(name) != now.get(name))
        if changed:
            raise ValueError(
                f"{output} holds a data set that was made with other settings: {', '.join(changed)}. Choose another "
                "output, or remove what is there."
            )
        return
    if foreign:
        raise ValueError(f"{output} exists and is not a data set of this program. Choose another output.")
    write_json(output / SETTINGS_FILE, settings)


def _make_shard(output: Path, shard: int, recordings: list[dict], preparation: Preparation) -> None:
    """Reads the recordings of a shard and writes its files; the windows come last and mark the shard as complete."""
    outcomes = [RecordingOutcome(row["file"], row["subject"], row["split"]) for row in recordings]
    windows = [_windows(row, preparation, outcome) for row, outcome in zip(recordings, outcomes, strict=True)]
    windows_path, outcomes_path = shard_paths(output, shard)
    _write(outcomes_path, pack_outcomes(outcomes))
    _write(windows_path, pack_windows(outcomes, windows))


def _windows(recording: dict, preparation: Preparation, outcome: RecordingOutcome) -> RecordingWindows | None:
    """The windows of a recording that the rules keep, or `None`; the outcome says what happened."""
    try:
        own = {name: recording[name] for name in ("montage", "net") if recording[name]}
        extractor = NeurIPTFeatureExtractor.from_dict(preparation.extractor | own)
        batch, starts, segments, rejected = _extract(recording, extractor, preparation.rules)
    except LeftOut as rule:
        outcome.status, outcome.reason = "left out", str(rule)
        return None
    except MemoryError:
        raise  # a problem of the machine, not of the recording
    except Exception as error:  # readers may raise anything on broken files
        outcome.status, outcome.reason = "set aside", reason_of(error, recording["path"], recording["file"])
        return None

    outcome.channels = [row.name for row in batch.report.channels]
    outcome.report = batch.report.to_dict()
    sizes = np.abs(batch["input_values"])
    largest, smallest = (extractor.invert(extreme) for extreme in (sizes.max(axis=-1), sizes.min(axis=-1)))
    verdicts = preparation.rules.judge(largest, smallest, batch["channel_mask"])
    kept = verdicts == ""
    outcome.windows_cut, outcome.windows_kept = len(kept) + rejected, int(kept.sum())
    counts = Counter(verdicts[~kept].tolist()) + Counter({"marked as bad": rejected})
    outcome.windows_rejected = dict(sorted(counts.items()))
    if not kept.any():
        outcome.status, outcome.reason = "left out", "no window passes the rules"
        return None
    outcome.fingerprint = fingerprint(spectral_course(open_row(recording)))
    codes, scales = encode_windows(batch["input_values"][kept], preparation.encoding)
    return RecordingWindows(
        codes=codes,
        scales=scales,
        onsets=starts[kept],
        follows=_follows(starts[kept], segments[kept], sizes.shape[-1] / extractor.sampling_rate),
        channel_mask=batch["channel_mask"][kept],
        electrode_positions=batch["electrode_positions"][0],
        lobe_mask=batch["lobe_mask"][0],
    )


def _extract(
    recording: dict, extractor: NeurIPTFeatureExtractor, rules: RejectionRules
) -> tuple[BatchFeature, np.ndarray, np.ndarray, int]:
    """
    All windows of a recording, their starts in seconds, the number of each one's segment, and how many the extractor
    rejected because they are marked as bad.
    """
    source = open_row(recording)
    if source.in_pieces:
        raise ValueError("The file holds epochs, but pre-training data need a continuous signal.")
    starts = rules.window_starts(source.stretches, extractor.window_seconds)
    if source.rejected(starts, extractor.window_seconds, extractor.reject_by_annotation).all():
        raise LeftOut("every window overlaps time marked as bad")
    batch = extractor(source, onsets=starts.tolist())
    kept = starts[batch.kept]
    segments = [source.segment_of(start, extractor.window_seconds) for start in kept]
    return batch, kept, np.array(segments), len(starts) - len(kept)


def _follows(starts: np.ndarray, segments: np.ndarray, seconds: float) -> np.ndarray:
    """Which windows of this length begin where the one before them ends, in the same segment."""
    next_to = np.isclose(np.diff(starts), seconds, rtol=0, atol=1e-6) & (np.diff(segments) == 0)
    return np.concatenate([[False], next_to])


def _write_summary(output: Path) -> dict:
    """Writes `summary.json` and `set_aside.csv` from the outcomes of the recordings."""
    settings = read_settings(output)
    hours = settings["extractor"]["window_seconds"] / 3600
    rejected = Counter()
    rows = []
    for outcome in read_outcomes(output):
        rejected.update(outcome.windows_rejected or {})
        rows.append({name: value for name, value in vars(outcome).items() if name != "report"})
    table = pd.DataFrame(rows)
    set_aside = table.loc[table["status"] == "set aside", ["recording", "subject", "reason"]]
    _write(output / SET_ASIDE_FILE, set_aside.to_csv(index=False).encode())
    used = table[table["windows_kept"] > 0].groupby("split")
    content = {
        "recordings": _counts(table["status"]),
        "recordings_left_out": _counts(table["reason"][table["status"] == "left out"]),
        "windows": {"cut": int(table["windows_cut"].sum()), "kept": int(table["windows_kept"].sum())},
        "windows_rejected": dict(sorted(rejected.items())),
        "hours_by_split": (used["windows_kept"].sum() * hours).round(4).to_dict(),
        "people_by_split": used["subject"].nunique().to_dict(),
        "recordings_sha256": settings["recordings_sha256"],
        "split_sha256": settings["split_sha256"],
    }
    write_json(output / SUMMARY_FILE, content)
    return content


def _counts(values: pd.Series) -> dict[str, int]:
    return values.value_counts().sort_index().to_dict()


def _write(path: Path, content: bytes) -> None:
    with atomic_write(path) as partial:
        partial.write_bytes(content)


def _remove_partial_files(output: Path, shards: range | None) -> None:
    """Removes what killed runs left; while other jobs may be writing, only what belongs to this one's shards."""
    for partial in output.glob(f"*{PARTIAL_SUFFIX}"):
        if shards is None or partial.name.split(".")[0] in {f"{shard:05d}" for shard in shards}:
            shutil.rmtree(partial, ignore_errors=True)


__all__ = ["RejectionRules", "prepare_dataset", "push_dataset"]
