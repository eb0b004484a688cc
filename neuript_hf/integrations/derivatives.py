"""
Results for many recordings: a BIDS derivatives data set with one table and one sidecar for each recording.

    dataset_description.json                         model, hash of its weights, all settings, source
    failures.tsv                                     recordings without a result, with the reason; if there are any
    sub-01/eeg/sub-01_task-rest_embeddings.parquet   one row for each window
    sub-01/eeg/sub-01_task-rest_embeddings.json      channel reports, windows left out, model, settings, versions

A table is written whole, after its sidecar, so a recording is finished where its table is. What is finished is left
alone: a run that was killed goes on where it stopped, and the result does not depend on who shared the work.
"""

import hashlib
import json
import os
import platform
import re
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from importlib.metadata import version
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow
import pyarrow.parquet
import torch
from huggingface_hub import snapshot_download
from transformers import AutoConfig, AutoModel, AutoModelForSequenceClassification, PreTrainedConfig, pipeline
from transformers.utils.logging import tqdm

from ..data.atomic import PARTIAL_SUFFIX
from ..data.jobs import Share, in_processes, reason_of
from ..data.manifest import KIND_AND_ENDING
from ..data.remote import address_of, is_local, local_copy, path_or_url, write_whole
from ..data.sources import list_recordings, name_in, open_listed
from ..evaluation.feature_names import feature_names
from ..feature_extraction_neuript import NeurIPTFeatureExtractor
from ..pipeline_neuript import EEGPipeline


DESCRIPTION_FILE, FAILURES_FILE = "dataset_description.json", "failures.tsv"
BIDS_VERSION = "1.10.0"
WEIGHTS = ("*model*.safetensors", "*model*.bin")
# By task of the pipeline: the ending of a result's name, and what it is.
SUFFIXES = {"eeg-embedding": "embeddings", "eeg-classification": "predictions"}
CONTENTS = {"eeg-embedding": "One embedding for each window", "eeg-classification": "One answer for each window"}
PACKAGES = ("neuript_hf", "torch", "transformers", "mne", "numpy")
# Fields of a checkpoint that decide nothing: where it and its code lie, and who saved it.
INCIDENTAL = ("_name_or_path", "auto_map", "transformers_version")
# Lines of a channel report on windows that are left out, and on what is too short for one.
LEFT_OUT = re.compile("^(marked as bad|rejected):|do not fill a window$")


@dataclass(frozen=True)
class Derivation:
    """
    Everything, apart from the recordings, that determines the results; sent to the processes.

    Args:
        task: of the pipeline, `"eeg-embedding"` or `"eeg-classification"`.
        model: folder or Hub name of a checkpoint.
        extractor: settings of the feature extractor ([`NeurIPTFeatureExtractor.to_dict`]); default the checkpoint's.
        recording: what files do not say themselves: `sampling_rate`, `unit`, `channel_names`, `variable`, `trial`.
        drop: channels to leave out, as the files spell them.
        window_seconds, stride_seconds: of the windows; by default the extractor's, and the windows' length.
    """

    task: str
    model: str
    extractor: dict | None = None
    recording: dict = field(default_factory=dict)
    drop: tuple[str, ...] = ()
    window_seconds: float | None = None
    stride_seconds: float | None = None
    weights_sha256: str = field(init=False)
    configuration: dict = field(init=False)

    def __post_init__(self):
        object.__setattr__(self, "weights_sha256", weights_sha256(self.model))
        object.__setattr__(self, "configuration", _deciding(AutoConfig.from_pretrained(self.model).to_diff_dict()))
        settings = self.extractor or NeurIPTFeatureExtractor.from_pretrained(self.model).to_dict()
        object.__setattr__(self, "extractor", _deciding(settings))

    @property
    def model_name(self) -> str:
        """Of a folder its own name: where it lies is nobody's business."""
        return Path(self.model).resolve().name if Path(self.model).is_dir() else self.model

    def origin(self) -> dict:
        """What all results have in common: model, weights, settings."""
        settings = asdict(self)
        for name in ("model", "weights_sha256", "configuration"):
            del settings[name]
        origin = {"Model": self.model_name, "WeightsSHA256": self.weights_sha256, "Settings": settings}
        return json.loads(json.dumps(origin))  # as it is read again


def _deciding(settings: dict) -> dict:
    return {name: value for name, value in settings.items() if name not in INCIDENTAL}


@dataclass
class DerivativesSummary:
    """
    What a run did.

    Args:
        share: the part of the recordings that was this run's.
        recordings: their number; `skipped` of them had a result before, `finished` have one now.
        windows: rows that were written.
        failures: recording -> why it has no result.
        seconds: that the work took.
    """

    share: Share
    recordings: int
    skipped: int = 0
    finished: int = 0
    windows: int = 0
    failures: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0

    def __str__(self) -> str:
        worked = self.finished + len(self.failures)
        parts = [f"{self.recordings} recordings" + f" of {self.share}" * (self.share.count > 1)]
        parts += [f"{self.skipped} were done before"] * bool(self.skipped)
        parts += [f"{self.finished} done now ({self.windows} windows)", f"{len(self.failures)} failed"]
        rate = f"; {self.seconds:.1f} s, {worked / max(self.seconds, 1e-9):.2f} recordings a second" * (worked > 0)
        return ", ".join(parts) + rate


def load_pipeline(task: str, model: str, extractor: NeurIPTFeatureExtractor) -> EEGPipeline:
    """
    A checkpoint's model with a feature extractor of one's own; of several processes of a machine that `torchrun`
    started, each takes its own GPU.

    Raises:
        ValueError: where there is no such folder, or no weights in it.
    """
    weight_files(model)
    model_class = AutoModel if task == "eeg-embedding" else AutoModelForSequenceClassification
    loaded = model_class.from_pretrained(model)
    own_gpu = int(os.environ["LOCAL_RANK"]) if torch.cuda.is_available() and "LOCAL_RANK" in os.environ else None
    return pipeline(task, model=loaded, feature_extractor=extractor, device=own_gpu)


def weight_files(model: str) -> list[Path]:
    """
    The files with a checkpoint's weights; of one on the Hub those in the cache.

    Raises:
        ValueError: where there is no such folder, or no weights in it.
    """
    folder = Path(model)
    if not folder.exists() and folder.parent != Path() and folder.parent.is_dir():
        there = ", ".join(sorted(str(path) for path in folder.parent.iterdir() if (path / "config.json").is_file()))
        raise ValueError(f"There is no folder {folder}. Checkpoints beside it: {there or 'none'}.")
    if not folder.exists() and folder.parts[:1] == ("hub",):
        raise ValueError(f"There is no folder {folder} in {Path.cwd()}: it lies in the clone of the package.")
    if not folder.is_dir():
        folder = Path(snapshot_download(model, allow_patterns=WEIGHTS))
    files = sorted(path for pattern in WEIGHTS for path in folder.glob(pattern))
    if not files:
        raise ValueError(f"{model} has no weights. Take another checkpoint, or train this one and save it.")
    return files


def weights_sha256(model: str) -> str:
    """The hash of a checkpoint's weights, that of its `model.safetensors`; of several files that of all of them."""
    digest = hashlib.sha256()
    for path in weight_files(model):
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()


def write_derivatives(
    sources: str | Path | Sequence[str | Path],
    destination: str | Path,
    derivation: Derivation,
    *,
    participants: Sequence[str] | None = None,
    num_proc: int = 1,
    share: Share | None = None,
    on_error: str = "skip",
) -> DerivativesSummary:
    """
    Runs a model over many recordings and writes a BIDS derivatives data set. Call it again after a kill, or for new
    recordings: what is finished is left alone, what failed is tried again. A recording whose file changed since is
    not noticed: delete its table.

    Tables have the columns `recording`, `subject` (where something says who it is), `onset` and `duration` in seconds,
    and then a column for each number of a compact embedding, by its name (`power, frontal, 8-10 Hz`); or `embedding`,
    a list of fixed length, for models whose numbers have no names; or those of the answers (`label`, `score`,
    `score_left`, ...).

    Args:
        sources, participants: as in [`list_recordings`].
        destination: folder or URL to write to. What lies at a URL is written whole where the system behind it moves
            files whole.
        derivation: model and settings.
        num_proc: number of processes. They need a destination that all of them reach, unlike `memory://`.
        share: this job's part of the recordings, if several jobs write to one destination; default all of them.
        on_error: `"skip"` goes on with the other recordings and lists the failure; `"raise"` stops.

    Raises:
        FileNotFoundError: if a source does not exist.
        ValueError: if an argument is invalid, the model has no trained answer for the task, two recordings would have
            one name, or `destination` holds something else; with `on_error="raise"` for a recording that fails.
    """
    if num_proc < 1:
        raise ValueError(f"num_proc must be at least 1, but is {num_proc}.")
    if on_error not in ("raise", "skip"):
        raise ValueError(f"on_error must be 'raise' or 'skip', but is {on_error!r}.")
    share = share or Share()
    root, rows = list_recordings(sources, participants)
    destination = path_or_url(destination)
    if absent := [address_of(row["path"]) for row in rows if not row["path"].exists()]:
        raise FileNotFoundError(f"There is no recording at {', '.join(absent[:3])}.")
    rows = sorted(rows, key=lambda row: row["recording"])
    names = _result_names(rows, SUFFIXES[derivation.task])
    model = _pipeline(derivation).model
    (model.base_model if derivation.task == "eeg-embedding" else model).refuse_untrained()
    _write_description(destination, root, derivation)

    mine = share.of(rows)
    whole = share.count == 1 and not participants
    there = _look_at(destination, None if whole else {names[row["recording"]] for row in mine})
    todo = [row for row in mine if f"{names[row['recording']]}.parquet" not in there]
    summary, began = DerivativesSummary(share, len(mine), skipped=len(mine) - len(todo)), time.monotonic()
    tasks = [(derivation, row, root, destination, names[row["recording"]]) for row in todo]
    with tqdm(total=len(mine), initial=summary.skipped, desc=SUFFIXES[derivation.task], unit="recording") as progress:
        for (_, row, *_), (windows, failure) in in_processes(_write_result, tasks, num_proc, preload=__name__):
            if failure is None:
                summary.finished += 1
                summary.windows += windows
            elif on_error == "raise":
                raise ValueError(f"{row['recording']}: {failure}")
            else:
                summary.failures[row["recording"]] = failure
            progress.update()
    summary.failures = dict(sorted(summary.failures.items()))
    _write_failures(destination)
    summary.seconds = time.monotonic() - began
    return summary


def _result_names(rows: Sequence[Mapping[str, Any]], suffix: str) -> dict[str, str]:
    """Recording -> the path of its result without ending: the recording's own entities or name, and the suffix."""
    recordings: dict[str, str] = {}
    for row in rows:
        part = re.sub(r"[^A-Za-z0-9-]+", "-", row["recording"][len(row["file"]) :]).strip("-")
        file = Path(row["file"])
        stem = file.name[: len(KIND_AND_ENDING.sub("", file.name.lower()))]
        name = file.with_name("_".join(filter(None, [stem, part, suffix]))).as_posix()
        if name in recordings:
            raise ValueError(
                f"{recordings[name]} and {row['recording']} would both be written to {name}.parquet. Keep one row for "
                "each recording, rename one of them, or write them to two destinations."
            )
        recordings[name] = row["recording"]
    return {recording: name for name, recording in recordings.items()}


def _write_description(destination: Any, root: Any, derivation: Derivation) -> None:
    """Writes `dataset_description.json`, or compares it with the one that is there."""
    local = is_local(root) and is_local(destination)
    address = Path(os.path.relpath(root, destination)).as_posix() if local else address_of(root)
    source: dict[str, str] = {"URL": address}
    if (root / DESCRIPTION_FILE).is_file():
        about = json.loads((root / DESCRIPTION_FILE).read_text(encoding="utf-8-sig"))
        if doi := about.get("DatasetDOI"):
            source["DOI"] = doi
    content = {
        "Name": f"{CONTENTS[derivation.task]} ({derivation.model_name})",
        "BIDSVersion": BIDS_VERSION,
        "DatasetType": "derivative",
        "GeneratedBy": [
            {
                "Name": "neuript_hf",
                "Version": version("neuript_hf"),
                **derivation.origin(),
                "Configuration": json.loads(json.dumps(derivation.configuration)),
            }
        ],
        "SourceDatasets": [source],
        "DatasetLinks": {"source": address},
    }
    path = destination / DESCRIPTION_FILE
    # this comes before the look at the description, which another job may be writing at this moment
    foreign = destination.exists() and any(not entry.name.endswith(PARTIAL_SUFFIX) for entry in destination.iterdir())
    there = json.loads(path.read_text(encoding="utf-8-sig")) if path.is_file() else {}
    made = (there.get("GeneratedBy") or [{}])[0]
    if not there and not foreign:
        write_whole(path, _json(content))
        return
    if made.get("Name") != "neuript_hf":
        raise ValueError(f"{destination} exists and is no data set of this program. Choose another destination.")
    now = _flat(content["GeneratedBy"][0] | {"source": address})
    before = _flat(made | {"source": there["DatasetLinks"]["source"]})
    # the name of a model's folder decides nothing
    changed = [name for name in sorted(now | before) if now.get(name) != before.get(name) and name != "Model"]
    if changed:
        more = f" and {len(changed) - 5} more" if len(changed) > 5 else ""
        raise ValueError(
            f"{destination} holds results that were made with others of these: {', '.join(changed[:5])}{more}. Choose "
            "another destination, or remove what is there."
        )


def _flat(settings: Mapping[str, Any]) -> dict[str, Any]:
    """One level, with names such as `Settings.extractor.montage`."""
    flat: dict[str, Any] = {}
    for name, value in settings.items():
        inside = _flat(value) if isinstance(value, Mapping) else {}
        flat |= {f"{name}.{inner}": of for inner, of in inside.items()} or {name: value}
    return flat


def _look_at(destination: Any, mine: set[str] | None) -> set[str]:
    """
    The files that are there. Removes what killed runs left: all of it, or, while others may be writing, only what
    belongs to the results `mine`.
    """
    there = set()
    for path in _below(destination):
        name = name_in(path, destination)
        if not name.endswith(PARTIAL_SUFFIX):
            there.add(name)
            continue
        result = re.sub(r"\.(json|parquet)(\.[0-9a-f]{32})?$", "", name.removesuffix(PARTIAL_SUFFIX))
        if mine is None or result in mine:
            shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink()
    return there


def _below(destination: Any) -> Iterator[Any]:
    """All files, and the folders of unfinished ones but not what is in them, which may vanish at any moment."""
    if not is_local(destination):
        yield from list(destination.rglob("*"))
        return
    for folder, folders, files in os.walk(destination):
        partial = {name for name in folders if name.endswith(PARTIAL_SUFFIX)}
        folders[:] = set(folders) - partial
        yield from (Path(folder, name) for name in [*files, *partial])


def _pipeline(derivation: Derivation) -> EEGPipeline:
    return _loaded(derivation.task, derivation.model, json.dumps(derivation.extractor), derivation.weights_sha256)


@lru_cache(maxsize=1)
def _loaded(task: str, model: str, extractor: str, sha256: str) -> EEGPipeline:
    """A process loads its model once; the hash keeps other weights of the same name apart."""
    return load_pipeline(task, model, NeurIPTFeatureExtractor.from_dict(json.loads(extractor)))


def _write_result(
    derivation: Derivation, row: dict[str, Any], root: Any, destination: Any, name: str
) -> tuple[int, str | None]:
    """Writes a recording's files, the table last; the number of windows, or why there is none."""
    sidecar = {"Description": CONTENTS[derivation.task], "Sources": [f"bids:source:{row['file']}"]}
    sidecar |= {"Recording": row["recording"], "Subject": row["subject"] or None}
    versions = {package: version(package) for package in PACKAGES} | {"python": platform.python_version()}
    origin = derivation.origin() | {"SoftwareVersions": versions}
    path = row["path"]
    try:
        with local_copy(path, root) as path:
            table, reports = _run(derivation, row, path)
    except MemoryError:
        raise  # a problem of the machine, not of the recording
    except Exception as error:  # readers may raise anything on broken files
        failure = reason_of(error, path, row["recording"])
        write_whole(destination / f"{name}.json", _json(sidecar | {"Failure": failure} | origin))
        return 0, failure
    sidecar |= {
        "Windows": len(table),
        "WindowsLeftOut": [step for step in reports[0]["steps"] if LEFT_OUT.search(step)],
        "onset": {"Description": "start of the window in the recording", "Units": "s"},
        "duration": {"Description": "length of the window", "Units": "s"},
        "epoch": {"Description": "number of the epoch, from 0; only of files of epochs"},
        "ChannelReports": reports,
    }
    write_whole(destination / f"{name}.json", _json(sidecar | origin))
    write_whole(destination / f"{name}.parquet", _parquet(table))
    return len(table), None


def _run(derivation: Derivation, row: dict[str, Any], path: Path) -> tuple[pyarrow.Table, list[dict]]:
    """The table of a recording, and the report on each of its blocks."""
    run = _pipeline(derivation)
    own = {name: row[name] for name in ("montage", "net") if row.get(name)}
    run.feature_extractor = NeurIPTFeatureExtractor.from_dict(derivation.extractor | own)
    recording = open_listed(row, path, derivation.recording, derivation.drop)
    rows = run(recording, window_seconds=derivation.window_seconds, stride_seconds=derivation.stride_seconds)
    named = {name: row[name] for name in ("recording", "subject") if row[name]}
    return as_table(rows, run.model.config, named), [report.to_dict() for report in run.reports]


def as_table(rows: Sequence[Mapping[str, Any]], config: PreTrainedConfig, named: Mapping[str, str]) -> pyarrow.Table:
    """
    The rows of a pipeline as a table: a column for each number of an embedding where they have names, for each class
    and for each value.

    Args:
        rows: of one recording.
        config: of the model.
        named: columns with one value each, put before the others.
    """
    table = pd.DataFrame(rows)
    numbers = np.stack(table.pop("embedding")) if "embedding" in table else None
    for number, (name, value) in enumerate(named.items()):
        table.insert(number, name, value)
    found = pyarrow.Table.from_pandas(in_columns(table), preserve_index=False).replace_schema_metadata()
    if numbers is None:
        return found
    if not config.compact_embedding:  # thousands of columns would only make files slow
        vectors = pyarrow.FixedSizeListArray.from_arrays(pyarrow.array(numbers.ravel()), numbers.shape[1])
        return found.append_column("embedding", vectors)
    for name, column in zip(feature_names(config), numbers.T, strict=True):
        found = found.append_column(name, pyarrow.array(column))
    return found


def in_columns(table: pd.DataFrame) -> pd.DataFrame:
    """A column for each class or number, in place of a dictionary in each row."""
    for column, prefix in (("scores", "score_"), ("values", "value_")):
        if column in table:
            table = pd.concat([table, pd.DataFrame(table.pop(column).tolist()).add_prefix(prefix)], axis=1)
    return table


def _parquet(table: pyarrow.Table) -> bytes:
    """The same bytes for the same table. Numbers that hardly repeat need neither dictionaries nor statistics."""
    texts = [name for name in table.column_names if pyarrow.types.is_string(table.schema.field(name).type)]
    file = BytesIO()
    pyarrow.parquet.write_table(table, file, use_dictionary=texts, write_statistics=False)
    return file.getvalue()


def _write_failures(destination: Any) -> None:
    """
    Writes `failures.tsv` from the sidecars. Several jobs may come to this at once: each looks again after writing, so
    that the last word is that of one who has seen everything.
    """
    path, before = destination / FAILURES_FILE, None
    while (failures := _failures(destination)) != before:
        if failures:
            write_whole(path, pd.DataFrame(failures).to_csv(sep="\t", index=False).encode())
        else:
            path.unlink(missing_ok=True)
        before = failures


def _failures(destination: Any) -> list[dict[str, str]]:
    """Recordings whose sidecar has a reason in place of windows; where there is a table there is no failure."""
    names = {path for path in _below(destination) if path.suffix in (".json", ".parquet")}
    found = []
    for path in sorted(names, key=str):
        if path.suffix == ".json" and path.name != DESCRIPTION_FILE and path.with_suffix(".parquet") not in names:
            sidecar = json.loads(path.read_text())
            if "Failure" in sidecar:
                reason = " ".join(sidecar["Failure"].split())
                found.append({"recording": sidecar["Recording"], "reason": reason})
    return found


def _json(content: Any) -> bytes:
    return (json.dumps(content, indent=2, ensure_ascii=False) + "\n").encode()


__all__ = [
    "Derivation",
    "DerivativesSummary",
    "as_table",
    "in_columns",
    "load_pipeline",
    "weight_files",
    "weights_sha256",
    "write_derivatives",
]
