"""
What prepared windows cost on disk, what their codes lose, and how fast training gets them: a csv.

    python benchmarks/storage.py                         # simulated EEG
    python benchmarks/storage.py --source manifest.csv   # your recordings, as_recorded

Windows of 4 s and 20 channels (of --source: its own), drawn at random, decoded and collated to batches of 64; the
signal-to-noise ratio over all windows, of the companded values that the model sees and of microvolts.
"""

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from measure import write_rows
from torch.utils.data import DataLoader, Dataset

from neuript_hf import DataCollatorForEEG, NeurIPTFeatureExtractor
from neuript_hf.data.preparation import RejectionRules, prepare_dataset
from neuript_hf.data.shards import EEGShardDataset, stream_windows
from neuript_hf.data.simulation import simulate_dataset


BATCH = 64
RULES = RejectionRules(min_recording_seconds=0, trim_seconds=0, max_microvolts=None, min_microvolts=None)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", help="manifest or folder; default simulated EEG")
    parser.add_argument("--people", type=int, default=4, help="simulated people")
    parser.add_argument("--batches", type=int, default=100, help="batches that are timed")
    arguments = parser.parse_args()
    source, montage, rows, exact = arguments.source, "as_recorded", [], None
    with tempfile.TemporaryDirectory() as folder:
        if source is None:
            source, montage = Path(folder) / "recordings", "double_banana"
            simulate_dataset(source, n_subjects=arguments.people, seed=0)
        extractor = NeurIPTFeatureExtractor(montage=montage)
        for encoding in ("float32", "int16", "int8"):
            output = Path(folder) / encoding
            prepare_dataset(source, extractor, output, rules=RULES, encoding=encoding)
            dataset = EEGShardDataset(output)
            exact = exact or dataset
            rows.append({"encoding": encoding, **measure(dataset, exact, output, extractor, arguments.batches)})
            print(rows[-1])
    write_rows("storage", rows, torch.device("cpu"))


def measure(
    dataset: EEGShardDataset, exact: EEGShardDataset, folder: Path, extractor: NeurIPTFeatureExtractor, batches: int
) -> dict[str, object]:
    """One row of the csv."""
    shape = dataset[0]["input_values"].shape
    hours = len(dataset) * extractor.window_seconds / 3600
    stored = sum(path.stat().st_size for path in folder.glob("*.safetensors"))
    indices = np.random.default_rng(0).integers(len(dataset), size=batches * BATCH)
    stream = stream_windows(folder).shuffle(seed=0, buffer_size=1000)
    return {
        "windows": len(dataset),
        "channels": shape[0],
        "samples": shape[1],
        "megabytes_per_hour": f"{stored / hours / 1e6:.2f}",
        **signal_to_noise(dataset, exact, extractor),
        "random_windows_per_second": f"{windows_per_second(dataset, len(indices), sampler=indices):.0f}",
        "streamed_windows_per_second": f"{windows_per_second(stream, len(dataset)):.0f}",
    }


def signal_to_noise(
    dataset: EEGShardDataset, exact: EEGShardDataset, extractor: NeurIPTFeatureExtractor
) -> dict[str, str]:
    """Decibels over all windows, and the largest error below 100 microvolt; empty where nothing is lost."""
    sums, worst = {"companded": [0.0, 0.0], "microvolt": [0.0, 0.0]}, 0.0
    for index in range(len(dataset)):
        coded, true = (np.float64(part[index]["input_values"]) for part in (dataset, exact))
        for name, a, b in (("companded", coded, true), ("microvolt", extractor.invert(coded), extractor.invert(true))):
            sums[name][0] += np.sum(b**2)
            sums[name][1] += np.sum((a - b) ** 2)
        errors = np.abs(extractor.invert(coded) - extractor.invert(true))[np.abs(extractor.invert(true)) < 100]
        worst = max(worst, errors.max(initial=0))
    decibels = {
        f"{name}_snr_db": f"{10 * np.log10(signal / noise):.1f}" if noise else ""
        for name, (signal, noise) in sums.items()
    }
    return decibels | {"largest_error_microvolt": f"{worst:.3f}" if worst else ""}


def windows_per_second(dataset: Dataset, count: int, **order: object) -> float:
    """Through decoder and collator, in one process; the best of three rounds."""
    loader, best = DataLoader(dataset, BATCH, collate_fn=DataCollatorForEEG(), **order), 0.0
    for _ in range(3):
        start = time.perf_counter()
        for _ in loader:
            pass
        best = max(best, count / (time.perf_counter() - start))
    return best


if __name__ == "__main__":
    main()
