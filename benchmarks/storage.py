"""
What prepared windows cost on disk, what their codes lose, and how fast training gets them: a csv.

    python benchmarks/storage.py                         # simulated EEG
    python benchmarks/storage.py --source manifest.csv   # your recordings, as_recorded

Windows of 4 s and 20 channels (of --source: its own), drawn at random, decoded and collated to batches of 64; the
signal-to-noise ratio over all windows, of the companded values that the model sees and of microvolts.
"""

import argparse
import shutil
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from measure import RESULTS, provenance, write_rows

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
    folder = Path(tempfile.mkdtemp())
    try:
        source, montage = arguments.source, "as_recorded"
        if source is None:
            source, montage = folder / "recordings", "double_banana"
            simulate_dataset(source, n_subjects=arguments.people, seed=0)
        extractor = NeurIPTFeatureExtractor(montage=montage)
        exact, rows = None, []
        for encoding in ("float32", "int16", "int8"):
            output = folder / encoding
            prepare_dataset(source, extractor, output, rules=RULES, encoding=encoding)
            dataset = EEGShardDataset(output)
            exact = exact or dataset
            rows.append({"encoding": encoding, **measure(dataset, exact, output, extractor, arguments.batches)})
            print(rows[-1])
    finally:
        shutil.rmtree(folder)
    write_rows(RESULTS / "storage.csv", [row | provenance(torch.device("cpu")) for row in rows])


def measure(
    dataset: EEGShardDataset, exact: EEGShardDataset, folder: Path, extractor: NeurIPTFeatureExtractor, batches: int
) -> dict[str, object]:
    """One row of the csv."""
    shape = dataset[0]["input_values"].shape
    hours = len(dataset) * extractor.window_seconds / 3600
    stored = sum(path.stat().st_size for path in folder.glob("*.safetensors"))
    indices = np.random.default_rng(0).integers(len(dataset), size=(batches, BATCH))
    return {
        "windows": len(dataset),
        "channels": shape[0],
        "samples": shape[1],
        "megabytes_per_hour": f"{stored / hours / 1e6:.2f}",
        **signal_to_noise(dataset, exact, extractor),
        "random_windows_per_second": f"{random_windows_per_second(dataset, indices):.0f}",
        "streamed_windows_per_second": f"{streamed_windows_per_second(folder, len(dataset)):.0f}",
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


def random_windows_per_second(dataset: EEGShardDataset, indices: np.ndarray) -> float:
    """Windows drawn at random through decoder and collator, one process; the best of three rounds."""
    collate, best = DataCollatorForEEG(), 0.0
    for _ in range(3):
        start = time.perf_counter()
        for batch in indices:
            collate([dataset[index] for index in batch])
        best = max(best, indices.size / (time.perf_counter() - start))
    return best


def streamed_windows_per_second(folder: Path, count: int) -> float:
    """The same read in order, as a shuffled stream."""
    collate, batch = DataCollatorForEEG(), []
    start = time.perf_counter()
    for window in stream_windows(folder).shuffle(seed=0, buffer_size=1000):
        batch.append(window)
        if len(batch) == BATCH:
            collate(batch)
            batch = []
    return count / (time.perf_counter() - start)


if __name__ == "__main__":
    main()
