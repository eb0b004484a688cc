"""
The tables of README and docs from the csv files; `tests/test_benchmarks.py` holds the texts to them.

    python benchmarks/tables.py
"""

from measure import RESULTS, read_rows


WINDOW_SECONDS = 4


def cost_table() -> str:
    """Seconds of computing for one minute of 20-channel EEG, beside the patch models."""
    costs: dict[str, dict[str, float]] = {}
    for row in read_rows(RESULTS / "speed.csv"):
        if row["kind"] in ("embedding", "fine-tuning") and row["allocator"] == "as it comes":
            costs.setdefault(f"NeurIPT {row['size']}", {})[row["kind"]] = float(row["seconds_per_window"])
    for row in read_rows(RESULTS / "patch_models.csv"):
        costs.setdefault(row["model"], {})[row["kind"]] = float(row["seconds_per_window"])
    minutes = 60 / WINDOW_SECONDS
    return table(
        ["model", "embedding, s", "fine-tuning, s"],
        [
            [model, *(f"{kinds[kind] * minutes:.2g}" for kind in ("embedding", "fine-tuning"))]
            for model, kinds in costs.items()
        ],
    )


def speed_table() -> str:
    """The package beside the plain form."""
    rows = [
        [
            row["size"],
            row["kind"],
            row["allocator"],
            f"{float(row['seconds_per_window']):.3f}",
            f"{float(row['plain_seconds_per_window']):.3f}",
            f"{row['ratio']} ({row['ratio_lowest']} to {row['ratio_highest']})",
            f"{float(row['peak_share']):.0%}",
        ]
        for row in read_rows(RESULTS / "speed.csv")
    ]
    times = "times faster (lowest to highest)"
    return table(["size", "what", "allocator", "s a window", "plain, s", times, "share of peak"], rows)


def memory_table() -> str:
    """Peak memory of pre-training steps, with the allocator as it comes and with a threshold."""
    peaks: dict[tuple[str, ...], list[str]] = {}
    for row in read_rows(RESULTS / "memory.csv"):
        key = (row["size"], row["batch"], "yes" if row["checkpointing"] == "True" else "no")
        peaks.setdefault(key, []).append(row["peak_memory_gib"])
    threshold = "with MALLOC_MMAP_THRESHOLD_=8388608"
    return table(
        ["size", "windows in a batch", "activation checkpointing", "peak, GiB", threshold],
        [[*key, *values] for key, values in peaks.items()],
    )


def storage_table() -> str:
    """What a stored window costs, in bytes and in noise."""
    rows = [
        [
            row["encoding"],
            f"{float(row['megabytes_per_hour']):.1f}",
            f"{float(row['microvolt_snr_db']):.0f}" if row["microvolt_snr_db"] else "exact",
            f"{float(row['random_windows_per_second']):,.0f}",
        ]
        for row in read_rows(RESULTS / "storage.csv")
    ]
    return table(["encoding", "MB an hour of 20 channels", "signal to noise, dB", "random windows a second"], rows)


def recordings_table() -> str:
    """From file to tensors, beside MNE's own filter and resampling."""
    rows = [
        [
            row["rate"],
            row["channels"],
            row["times_real_time"],
            f"{row['time_over_mne']} ({row['time_over_mne_worst']})",
        ]
        for row in read_rows(RESULTS / "recordings.csv")
        if row["times_real_time"]
    ]
    return table(["rate of the file, Hz", "channels", "times real time", "share of MNE's time (worst pair)"], rows)


def table(header: list[str], rows: list[list[str]]) -> str:
    """As Markdown."""
    lines = [f"| {' | '.join(row)} |" for row in (header, *rows)]
    return "\n".join([lines[0], "|---" * len(header) + "|", *lines[1:]])


if __name__ == "__main__":
    print(cost_table(), speed_table(), memory_table(), storage_table(), recordings_table(), sep="\n\n")
