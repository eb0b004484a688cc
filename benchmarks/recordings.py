"""
From file to tensors: speed beside MNE's own filter and resampling, and memory on a recording of hours.

    python benchmarks/recordings.py          # benchmarks/results/recordings.csv

Run it with one thread (OMP_NUM_THREADS=1): the numbers are for each core.
"""

import argparse
import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path

import mne
import numpy as np
import torch
from edfio import Edf, EdfSignal
from measure import alone, paired_times, peak_memory_gib, write_rows

from neuript_hf import EEGPipeline, NeurIPTConfig, NeurIPTFeatureExtractor, NeurIPTModel


NAMES = (
    "Fp1 Fp2 F7 F3 Fz F4 F8 FT9 FC5 FC1 FC2 FC6 FT10 T7 C3 Cz C4 T8 TP9 CP5 CP1 CP2 CP6 TP10 P7 P3 Pz P4 P8 O1 Oz O2"
).split()
RATES = (256, 250, 1000)


def write_recording(path: Path, seconds: int, rate: int) -> None:
    """32 channels of noise that wanders like EEG, the same minute over and over; written without holding all of it."""
    generator = np.random.default_rng(0)
    minute = np.cumsum(generator.normal(0, 4, (len(NAMES), 60 * rate)), axis=-1)
    minute = mne.filter.filter_data(minute, rate, 0.5, 0.45 * rate, verbose="ERROR")
    Edf([EdfSignal(x, rate, label=n, physical_dimension="uV") for n, x in zip(NAMES, minute, strict=True)]).write(path)
    with path.open("r+b") as file:
        header = file.read(256 * (len(NAMES) + 1))
        records = file.read()
        for _ in range(seconds // 60 - 1):
            file.write(records)
        file.seek(0)
        file.write(header[:236] + f"{seconds:<8d}".encode() + header[244:])


def with_mne(path: Path, rate: int) -> np.ndarray:
    """What a user would write: read, band-pass, resample; no windows, no companding, no judgement on channels."""
    raw = mne.io.read_raw_edf(path, preload=True, verbose="ERROR")
    signal = mne.filter.filter_data(raw.get_data(), rate, 0.1, 30.0, verbose="ERROR")
    return mne.filter.resample(signal, up=64, down=rate, verbose="ERROR")


def speed(folder: Path, seconds: int, pairs: int) -> list[dict[str, object]]:
    """Paired times of the extractor and of MNE at several rates."""
    rows, extractor = [], NeurIPTFeatureExtractor(montage="as_recorded")
    for rate in RATES:
        path = folder / f"{rate}.edf"
        write_recording(path, seconds, rate)
        runs = {
            "extractor": lambda path=path: extractor(path),
            "mne": lambda path=path, rate=rate: with_mne(path, rate),
        }
        times = paired_times(runs, pairs, torch.device("cpu"))
        shares = [own / mnes for own, mnes in zip(times["extractor"], times["mne"], strict=True)]
        real_time = seconds / statistics.median(times["extractor"])
        rows.append(
            {
                "what": "file to tensors",
                "channels": len(NAMES),
                "rate": rate,
                "seconds": seconds,
                "runs": pairs,
                "median_seconds": f"{statistics.median(times['extractor']):.3f}",
                "times_real_time": f"{real_time:.0f}",
                "mne_median_seconds": f"{statistics.median(times['mne']):.3f}",
                "time_over_mne": f"{statistics.median(shares):.2f}",
                "time_over_mne_worst": f"{max(shares):.2f}",
                "peak_memory_gib": "",
            }
        )
        print(f"{rate} Hz: {real_time:.0f} times real time, {statistics.median(shares):.2f} times MNE's time")
    return rows


def embed(path: Path) -> None:
    """Every window of a recording through the pipeline and a model that takes no time to speak of."""
    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_attention_heads": 2, "num_experts": [0] * 6}
    model = NeurIPTModel(NeurIPTConfig(**sizes)).eval()
    extractor = NeurIPTFeatureExtractor(montage="as_recorded")
    pipe = EEGPipeline(model, feature_extractor=extractor, task="eeg-embedding")
    rows = pipe(path, stride_seconds=60.0)
    assert len(rows) > 0


def extract(path: Path) -> None:
    """All windows at once."""
    NeurIPTFeatureExtractor(montage="as_recorded")(path)


def nothing(path: Path) -> None:
    """What the imports take."""


def peak_of(work: Callable[[Path], None], path: Path) -> float:
    """Peak memory of a process that does one thing."""
    work(path)
    return peak_memory_gib(torch.device("cpu"))


def memory(folder: Path, hours: list[float]) -> list[dict[str, object]]:
    """Peak memory, each in a process of its own."""
    rows = []
    for length in hours:
        path = folder / f"{length:g}h.edf"
        write_recording(path, round(length * 3600), RATES[0])
        for what, work in (("imports", nothing), ("pipeline", embed), ("extractor, all windows", extract)):
            peak = alone(peak_of, work, path)
            row = {"what": what, "channels": len(NAMES), "rate": RATES[0], "seconds": round(length * 3600), "runs": 1}
            rows.append(row | {"peak_memory_gib": f"{peak:.2f}"})
            print(f"{length:g} h, {what}: {peak:.2f} GiB")
        path.unlink()
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=1800, help="length of the recording that is timed")
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument(
        "--hours", type=float, nargs="+", default=[1.0, 8.0], help="recordings whose memory is measured"
    )
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        rows = memory(Path(folder), arguments.hours)
        rows = speed(Path(folder), arguments.seconds, arguments.pairs) + rows
    write_rows("recordings", rows, torch.device("cpu"))


if __name__ == "__main__":
    main()
