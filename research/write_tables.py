"""
Writes the tables of README, model card and docs from the result files, each between its two markers:

    <!-- table: NAME -->
    ...
    <!-- end -->

    python research/write_tables.py            # writes them
    python research/write_tables.py --check    # names the tables that differ; status 1 if any does
"""

import csv
import json
import re
import sys
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

from neuript_hf.checkpoints.card import TASKS, count_parameters, read_results
from neuript_hf.checkpoints.training_record import TrainingRecord, read_training_record
from neuript_hf.evaluation.metrics import signed


ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "research" / "results"
BENCHMARKS = ROOT / "benchmarks" / "results"
TEXTS = ("README.md", "model_card.md", "docs/*.md")
MARKED = re.compile(r"(<!-- table: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)
WINDOW_SECONDS = 4


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [f"| {' | '.join(row)} |" for row in (header, *rows)]
    return "\n".join([lines[0], "|---" * len(header) + "|", *lines[1:]])


# Checkpoints


def checkpoints() -> str:
    """One line and one number for each, beside what that number has to be compared with."""
    rows = []
    for folder, record in folders():
        name = f"[`{folder.name}`](hub/{folder.name}/README.md)"
        if record is None:
            rows.append([name, f"{count_parameters(folder):,}", "nothing: no weights yet", "", "", ""])
            continue
        if (folder / "results.json").is_file():
            results = json.loads((folder / "results.json").read_text())
            task = TASKS[folder.name.rsplit("-", 1)[-1]]
            own, band_power = results["model"], results["baseline"]
            scores = [own["balanced_accuracy"], band_power["balanced_accuracy"], own["chance"]]
        else:
            tasks, means = features(folder)["tasks"], features(folder)["overall"]
            task = f"pre-trained; mean of {len(tasks)} tasks, frozen"
            chance = sum(1 / len(found["classes"]) for found in tasks.values()) / len(tasks)
            scores = [means["checkpoint"]["value"], means["band power"]["value"], chance]
        rows.append([name, f"{count_parameters(folder):,}", task, *(f"{score:.3f}" for score in scores)])
    return markdown(["checkpoint", "parameters", "for", "balanced accuracy", "band power", "chance"], rows)


def training() -> str:
    """What each checkpoint has been through, and how long that took."""
    rows = []
    for folder, record in folders():
        kinds = defaultdict(list)
        for stage in record.stages if record else ():
            kinds[stage.kind].append(stage)
        for kind, stages in kinds.items():
            hours = sum(dataset.hours for dataset in stages[-1].datasets)
            totals = [f"{sum(getattr(stage, what) for stage in stages):,}" for what in ("steps", "windows_seen")]
            time = f"{sum(stage.seconds for stage in stages) / 3600:.1f}"
            people = f"{len(stages[-1].subjects)}"
            rows.append([folder.name, kind, people, f"{hours:.1f}", *totals, time, stages[-1].machine])
    header = ["checkpoint", "stage", "people", "hours of EEG", "steps", "windows seen", "hours of training", "machine"]
    return markdown(header, rows)


def seen() -> str:
    """The data sets behind the weights, by licence and source."""
    users = defaultdict(list)
    for folder, record in folders():
        for stage in record.stages if record else ():
            for found in stage.datasets:
                key = (found.name, f"{found.people}", f"{found.hours:.2f}", found.licence, found.source)
                if folder.name not in users[key]:
                    users[key].append(folder.name)
    everybody = [folder.name for folder, record in folders() if record]
    rows = [[*key, "all" if names == everybody else ", ".join(names)] for key, names in sorted(users.items())]
    return markdown(["data set", "people", "hours", "licence", "source", "checkpoints"], rows)


def frozen() -> str:
    """Frozen features on people never seen, all pre-trained checkpoints side by side."""
    found = {folder.name: features(folder) for folder in pretrained()}
    first = next(iter(found.values()))
    header = ["task", "people", *found, *(f"random, as {name}" for name in found), "band power"]
    rows = []
    for task, result in first["tasks"].items():
        values = [results["tasks"][task]["accuracies"]["checkpoint"]["value"] for results in found.values()]
        values += [results["tasks"][task]["accuracies"]["random"]["value"] for results in found.values()]
        values.append(result["accuracies"]["band power"]["value"])
        rows.append([TASKS[task], f"{result['people']}", *(f"{value:.3f}" for value in values)])
    values = [results["overall"]["checkpoint"]["value"] for results in found.values()]
    values += [results["overall"]["random"]["value"] for results in found.values()]
    rows.append(["mean", "", *(f"{value:.3f}" for value in [*values, first["overall"]["band power"]["value"]])])
    return markdown(header, rows)


def frozen_means() -> str:
    """How far frozen features lie above random weights and band power, mean over the tasks."""
    rows = [
        [folder.name, *(signed(features(folder)["overall"][f"minus {other}"]) for other in ("random", "band power"))]
        for folder in pretrained()
    ]
    return markdown(["mean over the tasks", "minus random weights", "minus band power"], rows)


def gaps() -> str:
    """Error at hidden samples, all pre-trained checkpoints beside the fillers."""
    errors = defaultdict(list)
    header = ["method"]
    for masks in ("amplitude", "random"):
        for folder in pretrained():
            results = read_results(RESULTS / f"{folder.name}_reconstruction.json", folder)
            header.append(f"{masks} masks, {folder.name}")
            for method, error in results["reconstruction"][masks]["companded"]["overall"]["error"].items():
                low, high = error["interval"]
                errors[method].append(f"{error['mean']:.3f} ({low:.2f} to {high:.2f})")
    return markdown(header, [[method, *values] for method, values in errors.items()])


def task_weights() -> str:
    """Weights of a task on people never seen."""
    names = {"model": "fine-tuned", "head_start": "frozen features and a fit", "baseline": "band power"}
    rows = []
    for folder, _ in folders():
        if not (folder / "results.json").is_file():
            continue
        results = json.loads((folder / "results.json").read_text())
        for key, name in names.items():
            low, high = results[key]["balanced_accuracy_interval"]
            score = f"{results[key]['balanced_accuracy']:.3f} ({low:.3f} to {high:.3f})"
            people = f"{results['model']['people']}"
            rows.append([folder.name, people, name, score, f"{results[key]['auroc']:.3f}"])
    return markdown(["checkpoint", "people", "method", "balanced accuracy", "AUROC"], rows)


def fine_tuning() -> str:
    """Fine-tuning from weights, from scratch, EEGNet, band power."""
    return json.loads((RESULTS / "compare_pretraining.json").read_text())["table"]


def folders() -> Iterator[tuple[Path, TrainingRecord | None]]:
    """Checkpoints with their records, small ones first; no record where there are no weights."""
    sizes = {path.parent: json.loads(path.read_text())["hidden_size"] for path in ROOT.glob("hub/*/config.json")}
    for folder in sorted(sizes, key=lambda folder: (sizes[folder], folder.name)):
        yield folder, read_training_record(folder)


def pretrained() -> list[Path]:
    return [folder for folder, record in folders() if record and not (folder / "results.json").is_file()]


def features(folder: Path) -> dict:
    return read_results(RESULTS / f"{folder.name}_features.json", folder)


# Benchmarks


def rows_of(name: str) -> list[dict[str, str]]:
    with (BENCHMARKS / f"{name}.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def speeds() -> list[dict[str, str]]:
    return [row for row in rows_of("speed") if row.get("allocator", "keeps memory") == "keeps memory"]


def cost() -> str:
    """Seconds of computing for one minute of 20-channel EEG, beside the patch models."""
    costs = defaultdict(dict)
    for row in speeds():
        costs[f"NeurIPT {row['size']}"][row["kind"]] = float(row["seconds_per_window"])
    for row in rows_of("patch_models"):
        costs[row["model"]][row["kind"]] = float(row["seconds_per_window"])
    minutes = 60 / WINDOW_SECONDS
    rows = [
        [model, *(f"{kinds[kind] * minutes:.2g}" for kind in ("embedding", "fine-tuning"))]
        for model, kinds in costs.items()
    ]
    return markdown(["model", "embedding, s", "fine-tuning, s"], rows)


def speed() -> str:
    """Forward passes and steps of the three sizes."""
    names = ("size", "kind", "seconds_per_window", "windows_per_second")
    rows = [[*(row[name] for name in names), f"{float(row['peak_share']):.0%}"] for row in speeds()]
    return markdown(["size", "what", "s a window", "windows a second", "share of peak"], rows)


def cpu_parts() -> str:
    """What each faster form for CPUs was worth on a whole step: plain time over its own."""
    ratios = defaultdict(dict)
    for row in rows_of("cpu_parts"):
        step = f"{row['size']} {row['kind']}, dropout {row['dropout']}"
        ratios[row["part"]][step] = f"{row['ratio']} ({row['ratio_lowest']} to {row['ratio_highest']})"
    steps = list(next(iter(ratios.values())))
    return markdown(["part", *steps], [[part, *map(found.get, steps)] for part, found in ratios.items()])


def memory() -> str:
    """Peak memory of pre-training steps, with the allocator as it comes and with a threshold."""
    peaks = defaultdict(list)
    for row in rows_of("memory"):
        key = (row["size"], row["batch"], "yes" if row["checkpointing"] == "True" else "no")
        peaks[key].append(row["peak_memory_gib"])
    threshold = "with MALLOC_MMAP_THRESHOLD_=8388608"
    header = ["size", "windows in a batch", "activation checkpointing", "peak, GiB", threshold]
    return markdown(header, [[*key, *values] for key, values in peaks.items()])


def pretraining_step() -> str:
    """A step of a training, beside the model's own part of it."""
    names = ("settings", "windows_in_a_batch", "workers", "seconds_per_step", "forward_and_backward", "ratio")
    header = ["settings", "windows in a batch", "workers", "s a step", "forward and backward, s", "ratio"]
    return markdown(header, [[row[name] for name in names] for row in rows_of("pretraining_step")])


def storage() -> str:
    """The cost of a stored window, in bytes and in noise."""
    rows = [
        [
            row["encoding"],
            f"{float(row['megabytes_per_hour']):.1f}",
            f"{float(row['microvolt_snr_db']):.0f}" if row["microvolt_snr_db"] else "exact",
            f"{float(row['random_windows_per_second']):,.0f}",
        ]
        for row in rows_of("storage")
    ]
    return markdown(["encoding", "MB an hour of 20 channels", "signal to noise, dB", "random windows a second"], rows)


def recordings() -> str:
    """From file to tensors, beside MNE's own filter and resampling."""
    rows = [
        [
            row["rate"],
            row["channels"],
            row["times_real_time"],
            f"{row['time_over_mne']} ({row['time_over_mne_worst']})",
        ]
        for row in rows_of("recordings")
        if row["times_real_time"]
    ]
    return markdown(["rate of the file, Hz", "channels", "times real time", "share of MNE's time (worst pair)"], rows)


CHECKPOINTS = (checkpoints, training, seen, frozen, frozen_means, gaps, task_weights, fine_tuning)
COSTS = (cost, speed, cpu_parts, memory, pretraining_step, storage, recordings)
TABLES = {table.__name__: table for table in (*CHECKPOINTS, *COSTS)}


def filled(path: Path) -> str:
    """The text of a file with all of its tables made anew."""
    up = "](../" if path.parent.name == "docs" else "]("
    return MARKED.sub(lambda found: f"{found[1]}{TABLES[found[2]]().replace('](', up)}\n{found[3]}", path.read_text())


def main(check: bool) -> int:
    differing = []
    for path in sorted(path for pattern in TEXTS for path in ROOT.glob(pattern)):
        text, anew = path.read_text(), filled(path)
        if anew != text:
            pairs = zip(MARKED.finditer(text), MARKED.finditer(anew), strict=True)
            differing += [f"{path.relative_to(ROOT)}: {old[2]}" for old, new in pairs if old[0] != new[0]]
            if not check:
                path.write_text(anew)
    print("\n".join(differing))
    return 1 if check and differing else 0


if __name__ == "__main__":
    sys.exit(main("--check" in sys.argv[1:]))
