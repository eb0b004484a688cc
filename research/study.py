"""
Studies of pre-training: short runs that differ in one setting, each scored by folds over people of `train`.

    python research/study.py --study research/settings/studies/masks.yaml --data manifest.csv
    python research/study.py --study research/settings/studies/scaling.yaml --data manifest.csv --parallel 2

A study is a YAML file with `base` (a settings file of `pretrain.py`), `settings` that all runs change, `arms` (their
names, and what each of them changes), `seeds`, and the `tasks`, `fits` and `random_seeds` of `evaluate_features.py`.
Checkpoints at `probe_steps` are evaluated, too, for the first seed (`settings` must keep them). The recordings of
`val` and `test` are never opened.

Each run is one of `examples/pretrain.py` and is resumed after a kill, so a study can be stopped and started at will.
Results are written to `--output`.json: losses and accuracies of each run, commands, versions. Runs that are already in
this file are skipped if only `seeds` changed in the study and its base, so seeds can be added later, and on other
machines. figures.py draws the results.
"""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from statistics import mean

import yaml
from tasks import untold_tasks
from transformers import HfArgumentParser

from neuript_hf.checkpoints.provenance import provenance
from neuript_hf.checkpoints.training_record import read_training_record
from neuript_hf.data.atomic import atomic_write, write_json
from neuript_hf.training.pretraining import last_checkpoint


PRETRAIN = Path(__file__).resolve().parents[1] / "examples" / "pretrain.py"
EVALUATE = Path(__file__).resolve().with_name("evaluate_features.py")
KEYS = {"base", "settings", "arms", "seeds", "tasks", "fits", "random_seeds", "probe_steps"}
METHODS = ("checkpoint", "random", "band power", "connectivity")
# Losses on people held out from pre-training.
LOSSES = {"eval_reconstruction_loss": "squared error at hidden samples", "eval_spectral_loss": "error of the spectrum"}
CENTRED = ", centred"  # each person's own mean taken off the features, see evaluate_features.py


@dataclass
class StudyArguments:
    """The study, and where its files are."""

    study: str = field(metadata={"help": "The study's file (.yaml)."})
    data: str = field(metadata={"help": "The manifest of the labelled recordings."})
    output: str | None = field(
        default=None, metadata={"help": "Result files, without suffix; default: research/results/study_NAME."}
    )
    runs: str = field(default="runs/studies", metadata={"help": "Folder for the runs."})
    parallel: int = field(default=1, metadata={"help": "Number of runs at the same time; they share the cores."})


@dataclass
class Run:
    """One arm of a study with one seed."""

    arm: str
    seed: int
    folder: Path
    settings: dict

    def train(self, environment: dict[str, str]) -> None:
        """From the start, or from where it was stopped."""
        self.folder.mkdir(parents=True, exist_ok=True)
        file = self.folder / "settings.yaml"
        text = yaml.safe_dump(self.settings, sort_keys=False)
        if file.exists() and file.read_text() != text:
            raise ValueError(
                f"{self.folder} is a run with other settings. Delete it, or choose another folder with --runs."
            )
        file.write_text(text)
        _program(PRETRAIN, file, "--resume_from_checkpoint", "true", environment=environment)

    def weights(self, step: int | None) -> Path:
        """Folder of the final weights, or of those at a step."""
        return self.folder / f"checkpoint-{step}" if step else self.folder

    def evaluate(self, fit: str, step: int | None, study: dict, data: str, environment: dict[str, str]) -> None:
        if not (file := self.evaluation(fit, step)).exists():
            # the program writes its file anew after each task, and completes it with the last
            with atomic_write(file) as partial:
                _program(
                    *(EVALUATE, "--model", self.weights(step), "--data", data, "--folds", "5"),
                    *("--fit", fit, "--random_seeds", study["random_seeds"], "--tasks", *study["tasks"]),
                    *("--output", partial),
                    environment=environment,
                )

    def evaluation(self, fit: str, step: int | None = None) -> Path:
        return self.weights(step) / f"folds_{fit}.json"

    def accuracies(self, fits: list[str], step: int | None = None) -> dict[str, dict[str, dict[str, dict]]]:
        """By fit (as the features come, and centred), task and method; some tasks are not scored centred."""
        found = {}
        for fit, way in product(fits, ("", CENTRED)):
            tasks = json.loads(self.evaluation(fit, step).read_text())["tasks"]
            found[fit + way] = {
                name: {
                    method: task["accuracies"][method + way]
                    for method in METHODS
                    if method + way in task["accuracies"]
                }
                for name, task in tasks.items()
                if "checkpoint" + way in task["accuracies"]
            }
        return found

    def result(self, fits: list[str], probe_steps: list[int]) -> dict:
        """The training, its losses, and accuracies by fit and task, at the end and at `probe_steps`."""
        (stage,) = read_training_record(self.folder).stages
        log = json.loads(Path(last_checkpoint(self.folder), "trainer_state.json").read_text())["log_history"]
        curves = [
            {"step": entry["step"]} | {name: entry[name] for name in LOSSES if name in entry}
            for entry in log
            if "eval_loss" in entry
        ]
        return {
            "arm": self.arm,
            "seed": self.seed,
            "steps": stage.steps,
            "seconds": stage.seconds,
            "threads": stage.threads,
            "commit": stage.commit,
            "people": len(stage.subjects),
            "hours": round(sum(dataset.hours for dataset in stage.datasets), 3),
            "curves": curves,
            "accuracies": self.accuracies(fits),
            "accuracies_on_the_way": {str(step): self.accuracies(fits, step) for step in probe_steps},
        }


def _program(*command: str | Path | int, environment: dict[str, str]) -> None:
    program, *arguments = map(str, command)
    done = subprocess.run(
        [sys.executable, program, *arguments], env=os.environ | environment, capture_output=True, text=True
    )
    if done.returncode:
        raise RuntimeError(f"{program} {' '.join(arguments)} failed:\n{done.stderr[-3000:]}")


def read_study(file: str | Path) -> dict:
    """
    The content of a study's file, and that of its base as `base_settings`.

    Raises:
        ValueError: where an entry is missing or unknown.
    """
    study = yaml.safe_load(Path(file).read_text())
    if set(study) != KEYS:
        raise ValueError(
            f"{file} must have the entries {', '.join(sorted(KEYS))}, but has {', '.join(sorted(study))}."
        )
    return study | {"base_settings": yaml.safe_load(Path(study["base"]).read_text())}


def runs_of(study: dict, folder: Path) -> Iterator[Run]:
    """All runs of a study, all arms of one seed before the next seed."""
    base = study["base_settings"]
    for seed, (arm, changes) in product(study["seeds"], study["arms"].items()):
        place = folder / f"{re.sub('[^A-Za-z0-9]+', '-', arm).strip('-')}_{seed}"
        settings = base | study["settings"] | changes
        config = [part.get("config", {}) for part in (base, study["settings"], changes)]
        settings["config"] = config[0] | config[1] | config[2]
        yield Run(arm, seed, place, settings | {"output_dir": str(place), "seed": seed})


def finished_runs(file: Path, study: dict) -> dict[tuple[str, int], dict]:
    """The result of each arm and seed in a result file of the same study; other seeds do not make it another one."""
    if not file.exists():
        return {}
    content = json.loads(file.read_text())
    ignored = {"seeds": None, "base": None}  # the base counts by its content, not by its path
    if content["study"] | ignored != study | ignored:
        return {}
    return {(run["arm"], run["seed"]): run for run in content["runs"]}


def table(results: list[dict], study: dict) -> str:
    """
    Markdown, a line for each arm and fit, as the features come and centred: the final losses on held-out people, and
    the balanced accuracy of each task, means over the seeds; for the mean over tasks also the lowest and the highest
    seed. Tasks that no method tells leave the mean.
    """
    header = ["arm", "seeds", "hours of EEG", "seconds", "gaps", "spectrum", "fit", *study["tasks"], "mean of tasks"]
    lines = [f"| {' | '.join(header)} |", "|---" * len(header) + "|"]
    for arm in study["arms"]:
        runs = [result for result in results if result["arm"] == arm]
        if not runs:
            continue
        last = [run["curves"][-1] for run in runs]
        start = [arm, str(len(runs)), f"{runs[0]['hours']:g}", f"{mean(run['seconds'] for run in runs):.0f}"]
        for name in LOSSES:
            values = [entry[name] for entry in last if name in entry]
            start.append(f"{mean(values):.3f}" if values else "-")
        for fit, found in runs[0]["accuracies"].items():
            for method in next(iter(found.values()), ()):
                if method in ("band power", "connectivity") and arm != list(study["arms"])[-1]:
                    continue  # the same for all
                cells = accuracies(runs, fit, study["tasks"], method)
                name = arm if method == "checkpoint" else f"{method}, as {arm}" if method == "random" else method
                begin = [name, *start[1:]] if method == "checkpoint" else [name, *[""] * (len(start) - 1)]
                lines.append(f"| {' | '.join([*begin, fit, *cells])} |")
    return "\n".join(lines)


def accuracies(runs: list[dict], fit: str, tasks: list[str], method: str) -> list[str]:
    """The mean over the seeds for each task; then the mean over tasks with its lowest and highest seed."""
    values = [{name: task[method]["value"] for name, task in run["accuracies"][fit].items()} for run in runs]
    cells = [f"{mean(row[name] for row in values):.3f}" if name in values[0] else "-" for name in tasks]
    means = [mean_of_tasks(run["accuracies"][fit], method) for run in runs]
    spread = f" ({min(means):.3f} to {max(means):.3f})" if len(set(means)) > 1 else ""
    return [*cells, f"{mean(means):.3f}{spread}"]


def mean_of_tasks(found: dict[str, dict[str, dict]], method: str = "checkpoint") -> float:
    """Over the tasks that some method tells; over all where there is none of these."""
    told = [name for name in found if name not in untold_tasks()]
    return mean(found[name][method]["value"] for name in told or found)


def main():
    (arguments,) = HfArgumentParser(StudyArguments).parse_args_into_dataclasses()
    study, name = read_study(arguments.study), Path(arguments.study).stem
    origin = provenance()  # before results are written: they change the tree, not the code that runs
    output = Path(arguments.output or f"research/results/study_{name}")
    threads = max(1, (os.cpu_count() or 1) // arguments.parallel)
    environment = {"OMP_NUM_THREADS": str(threads)}
    finished = finished_runs(output.with_suffix(".json"), study)
    runs = list(runs_of(study, Path(arguments.runs) / name))

    def finish(run: Run) -> None:
        steps = study["probe_steps"] if run.seed == study["seeds"][0] else []
        run.train(environment)
        for step, fit in product([*steps, None], study["fits"]):
            run.evaluate(fit, step, study, arguments.data, environment)
        finished[run.arm, run.seed] = result = run.result(study["fits"], steps)
        print(f"{run.arm}, seed {run.seed}: done after {result['seconds']:.0f} s of training", flush=True)

    missing = [run for run in runs if (run.arm, run.seed) not in finished]
    with ThreadPoolExecutor(arguments.parallel) as pool:
        for _ in pool.map(finish, missing):
            results = [finished[run.arm, run.seed] for run in runs if (run.arm, run.seed) in finished]
            content = {"study": study, "runs": results, "table": table(results, study), "provenance": origin}
            write_json(output.with_suffix(".json"), content)
    print(table([finished[run.arm, run.seed] for run in runs], study))


if __name__ == "__main__":
    main()
