"""
Writes the tables of README, model card and docs from the result files, each between its two markers:

    <!-- table: NAME -->
    ...
    <!-- end -->

    python research/write_tables.py            # writes them
    python research/write_tables.py --check    # names the tables that differ; status 1 if any does
"""

import json
import re
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from statistics import fmean

import pandas as pd
from tasks import untold_tasks

from neuript_hf.checkpoints.card import METHODS, TASKS, count_parameters, read_results
from neuript_hf.checkpoints.card import markdown_table as markdown
from neuript_hf.checkpoints.training_record import TrainingRecord, read_training_record
from neuript_hf.evaluation.metrics import signed


ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "research" / "results"
BENCHMARKS = ROOT / "benchmarks" / "results"
TEXTS = ("README.md", "model_card.md", "docs/*.md")
MARKED = re.compile(r"(<!-- table: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)
WINDOW_SECONDS = 4


# Checkpoints


def checkpoints() -> str:
    """One line and one number for each, beside what that number has to be compared with."""
    rows = []
    for folder, record in folders():
        name = f"[`{folder.name}`](hub/{folder.name}/README.md)"
        if record is None:
            rows.append([name, f"{count_parameters(folder):,}", "nothing: no weights yet", "", "", ""])
            continue
        if results := task_results(folder):
            task = TASKS[folder.name.rsplit("-", 1)[-1]]
            own, band_power = results["model"], results["baseline"]
            scores = [own["balanced_accuracy"], band_power["balanced_accuracy"], own["chance"]]
        else:
            tasks, means = counted(features(folder)), features(folder)["overall"]
            task = f"pre-trained; mean of {len(tasks)} tasks, frozen"
            chance = fmean(1 / len(found["classes"]) for found in tasks.values())
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
            stage = kind.replace("to tell ", "to distinguish ")  # the records of the first edition
            rows.append([folder.name, stage, people, f"{hours:.1f}", *totals, time, stages[-1].machine])
    header = ["checkpoint", "stage", "people", "hours of EEG", "steps", "windows seen", "hours of training", "machine"]
    return markdown(header, rows)


def seen() -> str:
    """The data sets behind the weights, by licence and source."""
    users, records = defaultdict(dict), {folder.name: record for folder, record in folders() if record}
    for folder, record in records.items():
        for found in [dataset for stage in record.stages for dataset in stage.datasets]:
            key = (found.name, f"{found.people}", f"{found.hours:.2f}", found.licence, found.source)
            users[key][folder] = None  # in their order, each once
    rows = [
        [*key, "all" if names.keys() == records.keys() else ", ".join(names)] for key, names in sorted(users.items())
    ]
    return markdown(["data set", "people", "hours", "licence", "source", "checkpoints"], rows)


def frozen(way: str = "") -> str:
    """
    Frozen features on people never seen, all pre-trained checkpoints side by side; `way` is `", centred"` for features
    with each person's own mean taken off.
    """
    found = evaluated()
    first = next(iter(found.values()))
    others = [name for name in ("band power", "connectivity", "its numbers") if name + way in first["overall"]]
    header = ["task", "people", *found, *(f"random, as {name}" for name in found), *others]

    def scores(accuracies: list[dict]) -> list[str]:
        values = [accuracy[weights + way] for weights in ("checkpoint", "random") for accuracy in accuracies]
        return [f"{value['value']:.3f}" for value in [*values, *(accuracies[0][name + way] for name in others)]]

    rows = [
        [
            TASKS[task] if task in counted(first) else f"{TASKS[task]} (not in the means)",
            f"{about['people']}",
            *scores([other["tasks"][task]["accuracies"] for other in found.values()]),
        ]
        for task, about in first["tasks"].items()
        if "checkpoint" + way in about["accuracies"]
    ]
    for kind in first.get("kinds", ()):
        rows.append([f"mean, {kind}", "", *scores([other["kinds"][kind] for other in found.values()])])
    return markdown(header, [*rows, ["mean", "", *scores([other["overall"] for other in found.values()])]])


def frozen_centred() -> str:
    """The same with each person's own mean taken off the features first."""
    return frozen(", centred")


def frozen_means() -> str:
    """How far frozen features lie above random weights and methods without a network, mean over the tasks."""
    rows = []
    for name, results in evaluated().items():
        means = results["overall"]
        for other in ("random", "band power", "connectivity", "its numbers"):
            ways = [means.get(f"minus {other}{way}") for way in ("", ", centred")]
            if any(ways):
                title = {"random": "random weights"}.get(other, other)
                rows.append([f"{name} minus {title}", *(signed(way) if way else "" for way in ways)])
    return markdown(["mean over the tasks", "as they come", "centred"], rows)


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
        results = task_results(folder)
        kept_fit = bool(results) and results.get("kept") == METHODS["head_start"]  # then it is what the weights are
        for key, name in names.items() if results else ():
            if kept_fit and key == "model":
                continue
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
    return [folder for folder, record in folders() if record and not task_results(folder)]


def task_results(folder: Path) -> dict | None:
    """Results of weights that were fine-tuned for a task."""
    file = folder / "results.json"
    return json.loads(file.read_text()) if file.is_file() else None


def evaluated() -> dict[str, dict]:
    """Results of frozen features, without those of the first edition, which have other tasks and another fit."""
    found = {folder.name: features(folder) for folder in pretrained()}
    return {name: results for name, results in found.items() if "kinds" in results}


def features(folder: Path) -> dict:
    return read_results(RESULTS / f"{folder.name}_features.json", folder)


def counted(results: dict) -> dict[str, dict]:
    """The tasks whose means are taken; in the results of the first edition, which had no kinds of tasks, all."""
    untold = untold_tasks() if "kinds" in results else ()
    return {name: task for name, task in results["tasks"].items() if name not in untold}


# Benchmarks


def benchmark(name: str) -> pd.DataFrame:
    return pd.read_csv(BENCHMARKS / f"{name}.csv", dtype=str, keep_default_na=False)


def selected(rows: pd.DataFrame, titles: Mapping[str, str]) -> str:
    """The columns that have a title, under it."""
    return markdown(list(titles.values()), rows[list(titles)].itertuples(index=False))


def speeds() -> pd.DataFrame:
    """Of processes that keep their memory, as our programs do."""
    rows = benchmark("speed")
    return rows[rows["keeps_memory"] == "True"]


def cost() -> str:
    """Seconds of computing for one minute of 20-channel EEG, beside the patch models."""
    ours = speeds()
    ours["model"] = "NeurIPT " + ours["size"]
    rows = pd.concat([ours, benchmark("patch_models")])
    rows["minute"] = rows["seconds_per_window"].map(lambda seconds: f"{float(seconds) * 60 / WINDOW_SECONDS:.2g}")
    table = rows.pivot(index="model", columns="kind", values="minute").loc[rows["model"].unique()].reset_index()
    return selected(table, {"model": "model", "embedding": "embedding, s", "fine-tuning": "fine-tuning, s"})


def speed() -> str:
    """Forward passes and steps of the three sizes."""
    as_it_comes = benchmark("speed").query("keeps_memory == 'False'").set_index(["size", "kind"])["seconds_per_window"]
    rows = speeds().assign(share=lambda rows: rows["peak_share"].astype(float).map("{:.0%}".format))
    rows["as_it_comes"] = as_it_comes.reindex(pd.MultiIndex.from_frame(rows[["size", "kind"]])).to_numpy()
    titles = {
        "size": "size",
        "kind": "what",
        "seconds_per_window": "s a window",
        "as_it_comes": "with glibc as it comes",
    }
    return selected(rows, titles | {"windows_per_second": "windows a second", "share": "share of peak"})


def cpu_parts() -> str:
    """What each faster form for CPUs was worth on a whole step: plain time over its own."""
    rows = benchmark("cpu_parts")
    rows["step"] = rows["size"] + " " + rows["kind"] + rows["dropout"].map(lambda p: f", dropout {p}" * (p != "0.0"))
    table = rows.pivot(index="part", columns="step", values="ratio").loc[rows["part"].unique(), rows["step"].unique()]
    return markdown(["part", *table.columns], table.reset_index().itertuples(index=False))


def memory() -> str:
    """Peak memory of pre-training steps, with the allocator as it comes and with a threshold."""
    peaks = defaultdict(list)
    for row in benchmark("memory").itertuples():
        peaks[row.size, row.batch, "yes" if row.checkpointing == "True" else "no"].append(row.peak_memory_gib)
    threshold = "with MALLOC_MMAP_THRESHOLD_=8388608"
    header = ["size", "windows in a batch", "activation checkpointing", "peak, GiB", threshold]
    return markdown(header, [[*key, *values] for key, values in peaks.items()])


def pretraining_step() -> str:
    """A step of a training, beside the model's own part of it."""
    titles = {"settings": "settings", "windows_in_a_batch": "windows in a batch", "workers": "workers"}
    titles |= {"seconds_per_step": "s a step", "forward_and_backward": "forward and backward, s", "ratio": "ratio"}
    return selected(benchmark("pretraining_step"), titles)


def storage() -> str:
    """The cost of a stored window, in bytes and in noise."""
    rows = benchmark("storage")
    formats = {"megabytes_per_hour": "{:.1f}", "microvolt_snr_db": "{:.0f}", "random_windows_per_second": "{:,.0f}"}
    for name, text in formats.items():
        rows[name] = [text.format(float(value)) if value else "exact" for value in rows[name]]
    titles = ("MB an hour of 20 channels", "signal to noise, dB", "random windows a second")
    return selected(rows, {"encoding": "encoding"} | dict(zip(formats, titles, strict=True)))


def recordings() -> str:
    """From file to tensors, beside MNE's own filter and resampling."""
    rows = benchmark("recordings").query("times_real_time != ''")
    rows["share"] = rows["time_over_mne"] + " (" + rows["time_over_mne_worst"] + ")"
    titles = {"rate": "rate of the file, Hz", "channels": "channels", "times_real_time": "times real time"}
    return selected(rows, titles | {"share": "share of MNE's time (worst pair)"})


CHECKPOINTS = (checkpoints, training, seen, frozen, frozen_centred, frozen_means, gaps, task_weights, fine_tuning)
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
