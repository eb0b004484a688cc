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
    lines = ["| model | embedding, s | fine-tuning, s |", "|---|---|---|"]
    for model, kinds in costs.items():
        minute = [f"{kinds[kind] * 60 / WINDOW_SECONDS:.2g}" for kind in ("embedding", "fine-tuning")]
        lines.append(f"| {model} | {minute[0]} | {minute[1]} |")
    return "\n".join(lines)


def speed_table() -> str:
    """The package beside the plain form."""
    lines = [
        "| size | what | allocator | s a window | plain, s | times faster (lowest to highest) | share of peak |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in read_rows(RESULTS / "speed.csv"):
        lines.append(
            f"| {row['size']} | {row['kind']} | {row['allocator']} | {float(row['seconds_per_window']):.3f} | "
            f"{float(row['plain_seconds_per_window']):.3f} | {row['ratio']} ({row['ratio_lowest']} to "
            f"{row['ratio_highest']}) | {float(row['peak_share']):.0%} |"
        )
    return "\n".join(lines)


def memory_table() -> str:
    """Peak memory of pre-training steps, with the allocator as it comes and with a threshold."""
    peaks: dict[tuple[str, ...], list[str]] = {}
    for row in read_rows(RESULTS / "memory.csv"):
        key = (row["size"], row["batch"], "yes" if row["checkpointing"] == "True" else "no")
        peaks.setdefault(key, []).append(row["peak_memory_gib"])
    lines = [
        "| size | windows in a batch | activation checkpointing | peak, GiB | with MALLOC_MMAP_THRESHOLD_=8388608 |",
        "|---|---|---|---|---|",
    ]
    lines += [f"| {' | '.join((*key, *values, 'not measured')[:5])} |" for key, values in peaks.items()]
    return "\n".join(lines)


def storage_table() -> str:
    """What a stored window costs, in bytes and in noise."""
    lines = [
        "| encoding | MB an hour of 20 channels | signal to noise, dB | random windows a second |",
        "|---|---|---|---|",
    ]
    for row in read_rows(RESULTS / "storage.csv"):
        noise = f"{float(row['microvolt_snr_db']):.0f}" if row["microvolt_snr_db"] else "exact"
        speed = f"{float(row['random_windows_per_second']):,.0f}"
        lines.append(f"| {row['encoding']} | {float(row['megabytes_per_hour']):.1f} | {noise} | {speed} |")
    return "\n".join(lines)


def recordings_table() -> str:
    """From file to tensors, beside MNE's own filter and resampling."""
    lines = [
        "| rate of the file, Hz | channels | times real time | share of MNE's time (worst pair) |",
        "|---|---|---|---|",
    ]
    for row in read_rows(RESULTS / "recordings.csv"):
        if row["times_real_time"]:
            lines.append(
                f"| {row['rate']} | {row['channels']} | {row['times_real_time']} | {row['time_over_mne']} "
                f"({row['time_over_mne_worst']}) |"
            )
    return "\n".join(lines)


if __name__ == "__main__":
    print(cost_table(), speed_table(), memory_table(), storage_table(), recordings_table(), sep="\n\n")
