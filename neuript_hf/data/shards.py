"""
Windows on disk: a folder of shards that training reads in random order or as a stream.

    dataset.json        settings of the extractor, rules, encoding, hash of the split
    00000.safetensors   windows of a fixed set of recordings, as codes of 16 or 8 bits
    00000.jsonl         the outcome for each of these recordings: counts, reasons, channel report

[`prepare_dataset`](preparation.py) writes such folders. A window is stored as integer codes and one scale;
`codes * scale` gives its companded values. Companding makes the steps small where the EEG is small.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from datasets import IterableDataset
from safetensors import safe_open
from safetensors.numpy import save


ENCODINGS = {"int16": np.int16, "int8": np.int8, "float32": np.float32}
SETTINGS_FILE = "dataset.json"
SILENT = 1e-20


def encode_windows(windows: np.ndarray, encoding: str) -> tuple[np.ndarray, np.ndarray]:
    """
    Windows -> codes and scales: `codes * scale` restores the window. The largest value of a window gets the largest
    code, so nothing is clipped; zero stays zero.

    Args:
        windows: `input_values`, `[n, C, T]`.
        encoding: `"int16"`, `"int8"`, or `"float32"` (the values as they are).

    Returns:
        codes `[n, C, T]`, and scales float32 `[n]`.

    Raises:
        ValueError: for an unknown encoding, or NaN or infinity in a window.
    """
    if encoding not in ENCODINGS:
        raise ValueError(f"encoding must be one of {', '.join(ENCODINGS)}, but is {encoding!r}.")
    windows = np.asarray(windows, dtype=np.float32)
    peaks = np.abs(windows).max(axis=(1, 2))
    if not np.isfinite(peaks).all():
        raise ValueError(f"The windows {np.flatnonzero(~np.isfinite(peaks)).tolist()} hold NaN or infinity.")
    if encoding == "float32":
        return windows, np.ones(len(windows), dtype=np.float32)
    code = ENCODINGS[encoding]
    # windows below this are silent, and their scales would underflow in 32 bits
    scales = (np.where(peaks > SILENT, peaks, 1) / np.iinfo(code).max).astype(np.float32)
    return np.rint(windows / scales[:, None, None]).astype(code), scales


def decode_windows(codes: np.ndarray, scales: np.ndarray) -> np.ndarray:
    """Codes `[..., C, T]` and scales `[...]` -> companded values, float32 `[..., C, T]`."""
    return codes.astype(np.float32) * np.asarray(scales, dtype=np.float32)[..., None, None]


@dataclass
class RecordingOutcome:
    """
    What preparation did with one recording.

    Args:
        recording: its file, as the manifest names it.
        subject: its person, as `dataset/person`.
        split: its split.
        status: `"kept"`, `"left out"` (by a rule), or `"set aside"` (it could not be read or used).
        reason: why it was left out or set aside.
        windows_cut, windows_kept: number of windows before and after the rules.
        windows_rejected: number of windows that each rule rejected.
        channels: the output channels, electrodes and pairs.
        report: the channel report, as a dict.
        fingerprint: of the signal, see [`fingerprint`](fingerprints.py); empty where there is less than 8 s of it.
    """

    recording: str
    subject: str
    split: str
    status: str = "kept"
    reason: str = ""
    windows_cut: int = 0
    windows_kept: int = 0
    windows_rejected: dict[str, int] | None = None
    channels: list[str] | None = None
    report: dict | None = None
    fingerprint: str = ""


@dataclass
class RecordingWindows:
    """
    The kept windows of one recording, as a shard stores them.

    Args:
        codes, scales: `[n, C, T]` and float32 `[n]`, see [`encode_windows`].
        onsets: float64 `[n]`, seconds from the recording's start.
        follows: bool `[n]`, whether the window begins exactly where the one before it ends.
        channel_mask: bool `[n, C]`, false = bad.
        electrode_positions, lobe_mask: float32 `[C, 3]` and bool `[C, num_lobes]`.
    """

    codes: np.ndarray
    scales: np.ndarray
    onsets: np.ndarray
    follows: np.ndarray
    channel_mask: np.ndarray
    electrode_positions: np.ndarray
    lobe_mask: np.ndarray


def shard_paths(folder: Path, number: int) -> tuple[Path, Path]:
    """The two files of a shard: its windows, and the outcomes of its recordings."""
    return folder / f"{number:05d}.safetensors", folder / f"{number:05d}.jsonl"


def pack_windows(outcomes: Sequence[RecordingOutcome], windows: Sequence[RecordingWindows | None]) -> bytes:
    """
    The bytes of a shard's `.safetensors`: tensors `0.codes`, `0.scales`, ... for the recordings that have windows; the
    metadata names the recordings. Equal windows give equal bytes.
    """
    tensors, index = {}, []
    for outcome, part in zip(outcomes, windows, strict=True):
        if part is None:
            continue
        tensors |= {f"{len(index)}.{name}": np.ascontiguousarray(value) for name, value in vars(part).items()}
        index.append({"recording": outcome.recording, "subject": outcome.subject, "split": outcome.split})
    # a single key, since safetensors does not preserve the order of several
    return save(tensors, metadata={"recordings": json.dumps(index)})


def pack_outcomes(outcomes: Sequence[RecordingOutcome]) -> bytes:
    """The bytes of a shard's `.jsonl`."""
    return "".join(json.dumps(asdict(outcome)) + "\n" for outcome in outcomes).encode()


def read_settings(folder: str | Path) -> dict:
    """
    The settings of a prepared data set.

    Raises:
        FileNotFoundError: if the folder holds none.
    """
    path = Path(folder) / SETTINGS_FILE
    if not path.is_file():
        raise FileNotFoundError(f"No data set at {folder}: {SETTINGS_FILE} is missing. Make one with prepare_dataset.")
    return json.loads(path.read_text())


def read_outcomes(folder: str | Path) -> Iterator[RecordingOutcome]:
    """The outcome for each recording of a data set, in its order; `.report` holds the channel report."""
    for number in range(read_settings(folder)["shards"]):
        with shard_paths(Path(folder), number)[1].open() as file:
            for line in file:
                yield RecordingOutcome(**json.loads(line))


class EEGShardDataset(torch.utils.data.Dataset):
    """
    A prepared data set with random access. Files are mapped into memory, and windows decoded on demand.

    A window is a dict with the batch contract's `input_values` float32 `[C, T]` (companded), `electrode_positions`,
    `lobe_mask`, `channel_mask`, and `subject`, `recording`, `onset` (seconds), `follows` (it begins where the window
    before it ends). `Trainer` and the collators take it as it is. Windows are ordered by recording, then by time.

    `dataset.recordings` is a table with one row for each recording: `recording`, `subject`, `split`, `windows`,
    `channels`, `samples`, and where its windows lie (`shard`, `number`, `first`).

    Args:
        folder: what [`prepare_dataset`] wrote.
        split: `"train"`, `"validation"` or `"test"`; default all.

    Raises:
        FileNotFoundError: if the folder is not a data set.
        ValueError: if shards are missing, or no recording is in the split.
    """

    def __init__(self, folder: str | Path, split: str | None = None):
        self.folder = Path(folder)
        self._shards: dict[int, _Shard] = {}
        shards = _finished_shards(self.folder)
        rows = [{"shard": number, **row} for number, path in enumerate(shards) for row in _Shard(path).rows()]
        columns = ["shard", "number", "recording", "subject", "split", "windows", "channels", "samples"]
        self.recordings = pd.DataFrame(rows, columns=columns)
        if split is not None:
            known = sorted(self.recordings["split"].unique())
            self.recordings = self.recordings[self.recordings["split"] == split].reset_index(drop=True)
            if self.recordings.empty:
                raise ValueError(f"No recording of {folder} is in the split {split!r}; its splits are {known}.")
        # plain arrays and lists, since a table is slow to read row by row
        self._ends = self.recordings["windows"].to_numpy(dtype=np.int64).cumsum()
        self.recordings["first"] = self._ends - self.recordings["windows"]
        self._firsts = self.recordings["first"].to_list()
        self._places = list(zip(self.recordings["shard"], self.recordings["number"], strict=True))

    def __len__(self) -> int:
        return int(self._ends[-1]) if len(self._ends) else 0

    def __getitem__(self, index: int) -> dict:
        if index < 0:
            index += len(self)
        if not 0 <= index < len(self):
            raise IndexError(f"There are {len(self)} windows, but number {index} was asked for.")
        row = int(np.searchsorted(self._ends, index, side="right"))
        shard, number = self._places[row]
        if shard not in self._shards:
            self._shards[shard] = _Shard(shard_paths(self.folder, shard)[0])
        return self._shards[shard].window(number, int(index) - self._firsts[row])

    def __getstate__(self) -> dict:
        # memory maps cannot be pickled; other processes open the files anew
        return self.__dict__ | {"_shards": {}}


def stream_windows(folder: str | Path | Sequence[str | Path], split: str | None = None) -> IterableDataset:
    """
    The same windows as [`EEGShardDataset`], read shard by shard, for data on slow or remote disks.

    Each process gets its own shards (`datasets.distributed.split_dataset_by_node`, which `Trainer` calls), and so does
    each worker of a `DataLoader`. `.shuffle(seed, buffer_size)` mixes shards and windows; `state_dict` and
    `load_state_dict` resume a stream. `Trainer` needs `max_steps`, and on several processes
    `accelerator_config={"dispatch_batches": False}`: by default it makes all batches in one process, which cannot
    concatenate those of mixed montages.

    Args:
        folder: what [`prepare_dataset`] wrote. Several folders make one stream; shuffling mixes all their shards.
        split: `"train"`, `"validation"` or `"test"`; default all.

    Raises:
        FileNotFoundError: if a folder is not a data set.
        ValueError: if shards are missing.
    """
    folders = [folder] if isinstance(folder, str | Path) else folder
    paths = [str(path) for folder in folders for path in _finished_shards(Path(folder))]
    return IterableDataset.from_generator(_windows_of_shards, gen_kwargs={"paths": paths, "split": split})


def _windows_of_shards(paths: list[str], split: str | None) -> Iterator[dict]:
    for path in paths:
        shard = _Shard(Path(path))
        for row in shard.rows():
            if split in (None, row["split"]):
                for window in range(row["windows"]):
                    yield shard.window(row["number"], window)


def _finished_shards(folder: Path) -> list[Path]:
    """The files of all shards, in order."""
    paths = [shard_paths(folder, number)[0] for number in range(read_settings(folder)["shards"])]
    missing = [path.name for path in paths if not path.is_file()]
    if missing:
        raise ValueError(
            f"In {folder} {len(missing)} of {len(paths)} shards are missing, the first: {missing[:3]}. Run "
            "prepare_dataset again: it resumes where it stopped."
        )
    return paths


class _Shard:
    """One `.safetensors`, mapped into memory; windows by recording and number."""

    def __init__(self, path: Path):
        self._file = safe_open(path, framework="numpy")
        self._recordings = json.loads(self._file.metadata()["recordings"])
        self._parts: dict[int, RecordingWindows] = {}

    def rows(self) -> Iterator[dict]:
        """The recordings and their sizes, without reading a window."""
        for number, recording in enumerate(self._recordings):
            windows, channels, samples = self._file.get_slice(f"{number}.codes").get_shape()
            yield {"number": number, **recording, "windows": windows, "channels": channels, "samples": samples}

    def window(self, number: int, index: int) -> dict:
        """A window of a recording as an example for the collators."""
        if number not in self._parts:
            # the codes stay on disk, everything small is read at once
            names = [field.name for field in fields(RecordingWindows) if field.name != "codes"]
            small = {name: self._file.get_tensor(f"{number}.{name}") for name in names}
            self._parts[number] = RecordingWindows(self._file.get_slice(f"{number}.codes"), **small)
        part, recording = self._parts[number], self._recordings[number]
        return {
            "input_values": decode_windows(part.codes[index], part.scales[index]),
            "electrode_positions": part.electrode_positions,
            "lobe_mask": part.lobe_mask,
            "channel_mask": part.channel_mask[index],
            "onset": float(part.onsets[index]),
            "follows": bool(part.follows[index]),
            "subject": recording["subject"],
            "recording": recording["recording"],
        }


__all__ = [
    "EEGShardDataset",
    "RecordingOutcome",
    "RecordingWindows",
    "decode_windows",
    "encode_windows",
    "pack_outcomes",
    "pack_windows",
    "read_outcomes",
    "read_settings",
    "shard_paths",
    "stream_windows",
]
