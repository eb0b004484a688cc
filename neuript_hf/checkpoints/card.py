"""
Writes the card of a checkpoint, its `README.md`, from the files of its folder and from results of its evaluations.

    python -m neuript_hf.checkpoints.card --folder runs/eegmat-0
    python -m neuript_hf.checkpoints.card --folder hub/neuript-tiny \
        --features research/results/neuript-tiny_features.json \
        --reconstruction research/results/neuript-tiny_reconstruction.json
"""

import json
import re
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from statistics import fmean
from types import SimpleNamespace

import torch
from huggingface_hub import EvalResult, ModelCardData
from jinja2 import Template
from transformers import AutoConfig, HfArgumentParser

from ..data.targets import MAIN_SCORES, SCORE_TITLES
from ..link_safe_saving import CARD, signed
from .benchmarks import overlapping_benchmarks
from .golden import model_class_of
from .links import code_files
from .training_record import TrainingRecord, TrainingStage, read_training_record, weights_of


TEMPLATE = Path(__file__).with_name("card_template.md")
EVALUATION = "evaluation.md"
METHODS = {"model": "fine-tuned", "head_start": "frozen features + fit", "baseline": "classical baseline"}
# As the Hub calls them, where it has a name.
METRICS = {
    "weighted_f1": "f1",
    "auroc": "roc_auc",
    "macro_auroc": "roc_auc",
    "macro_f1": "f1",
    "micro_f1": "f1",
    "pearson_r": "pearsonr",
}
# Of the table of frozen features, what the card shows.
FEATURE_COLUMNS = {
    "task": "task",
    "people, windows": "people, windows",
    "chance": "chance",
    "checkpoint": "frozen features",
    "band power": "band power",
    "minus band power": "difference",
}
FEATURES_INTRODUCTION = (
    "Balanced accuracy of a fit on frozen features. For comparison: the same windows through the same architecture "
    "with random weights (mean of {} draws); and, without a network, band power of every channel, connectivity (power "
    'and correlations of channels by lobe), and "its numbers", those of a compact embedding from the samples '
    "themselves. Where the checkpoint is level with these, training has added nothing to them. Intervals are over "
    "people (bootstrap, 95 %), differences are paired."
)
GAPS_INTRODUCTION = "All methods fill the same gaps from the same samples. Intervals are over people."


@dataclass
class CardArguments:
    folder: str = field(
        metadata={"help": "Checkpoint folder: config.json, weights and, if any, training.json and results.json."}
    )
    features: str | None = field(default=None, metadata={"help": "Result file of research/evaluate_features.py."})
    reconstruction: str | None = field(
        default=None, metadata={"help": "Result file of research/evaluate_reconstruction.py."}
    )


# What the tasks of the evaluations are.
TASKS = {
    "arithmetic": "mental arithmetic against rest",
    "eyes": "eyes open against eyes closed",
    "epilepsy": "people with epilepsy against controls",
    "ssvep": "which of three flicker frequencies a person looks at",
    "listening": "listening to a situation against imagining it",
    "anxiety": "situations rated anxious against calm",
    "pictures": "first against second picture of a pair",
    "alcoholism": "alcohol use disorder against controls",
    "fists": "imagined left against right fist",
    "feet": "imagined fists against feet",
    "eyes_fsu": "eyes open against eyes closed, another device",
    "schizophrenia": "adolescents with symptoms of schizophrenia against controls",
    "adhd": "children with ADHD against controls",
}


def write_model_card(
    folder: str | Path,
    features: str | None = None,
    reconstruction: str | None = None,
    weights_elsewhere: bool = False,
    repository: str | None = None,
) -> Path:
    """
    Writes `README.md` into a checkpoint folder, from its configuration, feature extractor, weights, training record
    and results; and beside it `evaluation.md`, the whole tables of the results that are given.

    Args:
        folder: the checkpoint.
        features: result file of `research/evaluate_features.py`.
        reconstruction: result file of `research/evaluate_reconstruction.py`.
        weights_elsewhere: whether there are weights although they are not in the folder.
        repository: its name on the Hub; by default the card has that of the folder.

    Raises:
        FileNotFoundError: if the folder has no configuration.
        ValueError: if the results are those of other weights.
    """
    folder = Path(folder)
    config = json.loads((folder / "config.json").read_text())
    extractor_file, results_file = folder / "preprocessor_config.json", folder / "results.json"
    extractor = json.loads(extractor_file.read_text()) if extractor_file.is_file() else None
    results = json.loads(results_file.read_text()) if results_file.is_file() else None
    features = features and read_results(features, folder)
    reconstruction = reconstruction and read_results(reconstruction, folder)
    architecture = config["architectures"][0]
    # cards of the first task checkpoints are from before the other problem types
    problem_type = config.get("problem_type") or "single_label_classification"
    record = read_training_record(folder)
    known, record = record is not None, record or TrainingRecord()
    has_weights = weights_elsewhere or any(folder.glob("model*.safetensors"))
    vectors = {"pooled": "`pooler_output`", "mean": "the mean over all channels"}
    name = repository or folder.resolve().name
    title = name.rpartition("/")[2]
    card = template().render(
        card_data=card_data(title, problem_type, record, results, features).to_yaml(),
        name=name,
        title=title,
        architecture=architecture,
        config=SimpleNamespace(**({"id2label": {}} | config)),
        problem_type=problem_type,
        extractor=extractor,
        parameters=f"{count_parameters(folder):,}",
        has_weights=has_weights,
        task="eeg-classification" if architecture.endswith("Classification") else "eeg-embedding",
        warnings=warnings_of(config, record, known) if has_weights else [],
        known=known,
        gaps=record.gaps,
        stages=record.stages,
        subjects=record.subjects,
        hours=f"{hours_seen(record):.1f}",
        not_for=not_for(record, problem_type, results, features, has_weights),
        data_table=data_table(record),
        training_table=training_table(record),
        commands=dict.fromkeys(f"{stage.command}  # at {stage.commit}" for stage in record.stages),
        results=results,
        results_table=results and results_table(results, problem_type),
        choice=results and choice_in_words(results, problem_type),
        features=features,
        vector=features and vectors.get(features["arguments"]["features"], "the embedding, standardised"),
        features_table=features and features_table(features),
        reconstruction=reconstruction,
        gap_people=reconstruction and overall_errors(reconstruction)["amplitude"]["people"],
        gaps_table=reconstruction and gaps_table(reconstruction),
        evaluation=EVALUATION,
    )
    write_evaluation(folder, features, reconstruction)
    text = re.sub(r"\n{3,}", "\n\n", card).rstrip("\n") + "\n"
    (folder / CARD).write_text(text, encoding="utf-8")
    return folder / CARD


@cache
def template() -> Template:
    return Template(TEMPLATE.read_text(encoding="utf-8"))


def card_data(
    name: str, problem_type: str, record: TrainingRecord, results: dict | None, features: dict | None
) -> ModelCardData:
    """What the Hub reads: licence, data sets, the checkpoint it was tuned from, and scores on people never seen."""
    scores = [*task_scores(problem_type, record, results), *feature_scores(features)]
    bases = [stage.recipe["model"] for stage in record.stages if stage.recipe.get("model")]
    return ModelCardData(
        license="apache-2.0",
        library_name="neuript_hf",
        pipeline_tag="other",
        tags=["eeg", "foundation-model", "neuript", "time-series"],
        datasets=record.dataset_names or None,
        base_model=Path(bases[-1]).name if bases else None,
        metrics=sorted({score.metric_type for score in scores}) or None,
        model_name=name if scores else None,
        eval_results=scores or None,
    )


def task_scores(problem_type: str, record: TrainingRecord, results: dict | None) -> list[EvalResult]:
    """The scores of a task's weights, if everybody who was tested is known to be new to them."""
    if results is None or not record.stages or not record.complete or results.get("seen_people"):
        return []
    tested = ", ".join(dataset.name for dataset in record.stages[-1].datasets) or "unknown"
    scores = results["model"]
    return [
        EvalResult(
            task_type="other",
            task_name=kind_of(record.stages[-1]).removeprefix("fine-tuning to "),
            dataset_type=tested,
            dataset_name=f"{tested}, {scores['people']} people never seen, {scores['windows']} windows",
            metric_type=METRICS.get(metric, metric),
            metric_name=title,
            metric_value=round(scores[metric], 4),
        )
        for metric, title in SCORE_TITLES[problem_type].items()
    ]


def feature_scores(features: dict | None) -> list[EvalResult]:
    """The scores of frozen features, if everybody who was tested is known to be new to them."""
    if not features or features["weights"].get("history") == "unknown":
        return []
    return [
        EvalResult(
            task_type="other",
            task_name=f"{TASKS.get(name, name)}, from frozen features",
            dataset_type=(tested := found["task"]["rows"][0].removeprefix("set=")),
            dataset_name=f"{tested}, {found['people']} people never seen, {found['windows']['scored']} windows",
            dataset_config=name,
            metric_type="balanced_accuracy",
            metric_name="balanced accuracy",
            metric_value=round(found["accuracies"]["checkpoint"]["value"], 4),
        )
        for name, found in features["tasks"].items()
    ]


def warnings_of(config: dict, record: TrainingRecord, known: bool) -> list[tuple[str, str]]:
    """What is not trained or not known, which comes before all else."""
    found = [("Not known", f": {gap} So no score can be called one of unseen people.") for gap in record.gaps]
    if not known:
        text = " There is no `training.json`, so no score can be called one of unseen people."
        found.insert(0, ("It is not known whom these weights have seen.", text))
    if untrained := config.get("untrained_weights"):
        text = f": {', '.join(untrained)} are random. Train them before you use them; the pipelines refuse to."
        found.insert(0, ("Not trained", text))
    return found


def not_for(
    record: TrainingRecord, problem_type: str, results: dict | None, features: dict | None, has_weights: bool
) -> list[str]:
    """What nobody should take the checkpoint for, with the numbers that say so."""
    found = ["Diagnosis, monitoring of patients, or judging people: this is research software, not a medical device."]
    overall = features["overall"] if features else {}
    if power := overall.get("minus band power"):
        found.append(
            "Tasks where band power and a linear fit are enough. In the mean of the tasks below, its frozen features "
            f"differ from them by {difference(power)}."
        )
    if numbers := overall.get("minus its numbers"):
        found.append(
            "What the numbers that it estimates do as well, computed from the samples without a network. In the same "
            f"mean, its embedding differs from them by {difference(numbers)}."
        )
    if results and results.get("baseline"):
        main = MAIN_SCORES[problem_type]
        own, classical = results["model"][main], results["baseline"][main]
        found.append(
            f"Tasks where a classical method is enough. On the people below its {SCORE_TITLES[problem_type][main]} is "
            f"{classical:.3f}, that of these weights {own:.3f}."
        )
    if shared := overlapping_benchmarks(record.dataset_names):
        names = ", ".join(f"{overlap.benchmark} ({overlap.relation})" for overlap in shared)
        found.append(f"Scores on public benchmarks that share data with its training: {names}.")
    if has_weights and not results and not features:
        found.append("Answers that somebody relies on: it has not been tested on people whom it has not seen.")
    return found


def difference(paired: dict) -> str:
    return "{:+.3f} (95 % interval {:+.3f} to {:+.3f})".format(paired["value"], *paired["interval"])


# Tables


def markdown_table(header: Sequence[str], rows: Iterable[Iterable[str]]) -> str:
    lines = [f"| {' | '.join(row)} |" for row in (header, *rows)]
    return "\n".join([lines[0], "|---" * len(header) + "|", *lines[1:]])


def features_table(features: dict) -> str:
    """Of the long table's first part some columns, with the tasks in words."""
    lines = features["table"].partition("\n\n")[0].splitlines()
    header, _, *rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    kept = [header.index(name) for name in FEATURE_COLUMNS]

    def in_words(task: str) -> str:
        name, bracket, note = task.partition(" (")
        return TASKS.get(name, name) + bracket + note

    rows = ([in_words(row[kept[0]]), *(row[index] for index in kept[1:])] for row in rows)
    return markdown_table(list(FEATURE_COLUMNS.values()), rows)


def results_table(results: dict, problem_type: str) -> str:
    """The methods on the same people."""
    main, columns = MAIN_SCORES[problem_type], SCORE_TITLES[problem_type]
    others = [name for name in columns if name != main]
    rows = [["chance", f"{results['model']['chance']:.3f}", *[""] * (1 + len(others))]]
    kept_fit = results.get("kept") == METHODS["head_start"]  # then it is what the weights are
    for key, title in METHODS.items():
        if (scores := results.get(key)) and not (kept_fit and key == "model"):
            low, high = scores[f"{main}_interval"]
            numbers = [f"{scores[name]:.3f}" for name in others]
            rows.append([title, f"{scores[main]:.3f}", f"{low:.3f} to {high:.3f}", *numbers])
    return markdown_table(["method", columns[main], "interval", *(columns[name] for name in others)], rows)


def choice_in_words(results: dict, problem_type: str) -> str:
    """What fine-tuning was good for, beside a fit on frozen features."""
    main = MAIN_SCORES[problem_type]
    if folds := results.get("folds"):
        frozen, tuned = fmean(folds["frozen"]), fmean(folds["fine_tuned"])
        return (
            f"By {len(folds['frozen'])} folds over training people, frozen features and a fit had {frozen:.3f}, "
            f"fine-tuning {tuned:.3f}. Kept: {results['kept']}."
        )
    if (fit := results.get("head_start")) and results["model"][main] <= fit[main]:
        return "Fine-tuning did not help: a fit on frozen features is as good or better."
    return ""


def data_table(record: TrainingRecord) -> str:
    """Every data set once for each kind of training that saw it."""
    rows = dict.fromkeys(
        (found.name, f"{found.people}", f"{found.windows}", f"{found.hours:.2f}", found.licence, kind_of(stage))
        for stage in record.stages
        for found in stage.datasets
    )
    return markdown_table(["data set", "people", "windows", "hours", "licence", "for"], rows)


def hours_seen(record: TrainingRecord) -> float:
    """Hours of different recordings; of a data set that several trainings have seen, the longest part."""
    longest = {}
    for found in [found for stage in record.stages for found in stage.datasets]:
        longest[found.name] = max(found.hours, longest.get(found.name, 0.0))
    return sum(longest.values())


def training_table(record: TrainingRecord) -> str:
    """The trainings one after the other."""
    rows = [
        [
            kind_of(stage),
            f"{stage.steps:,}",
            f"{stage.windows_seen:,}",
            f"{stage.seconds / 3600:.1f}",
            f"{stage.machine}, processor threads: {stage.threads}",
            ", ".join(map(str, stage.seeds)),
            f"{stage.commit}",
        ]
        for stage in record.stages
    ]
    return markdown_table(["training", "steps", "windows seen", "hours", "machine", "seed", "commit"], rows)


def kind_of(stage: TrainingStage) -> str:
    return stage.kind.replace("to tell ", "to distinguish ")  # the records of the first edition


def gaps_table(reconstruction: dict) -> str:
    """The errors of all methods over all data sets, by how the samples were hidden."""
    errors = {masks: overall["error"] for masks, overall in overall_errors(reconstruction).items()}
    rows = [
        [method, *(f"{error[method]['mean']:.3f} ({interval(error[method])})" for error in errors.values())]
        for method in next(iter(errors.values()))
    ]
    return markdown_table(["method", *(f"{masks} masks" for masks in errors)], rows)


def overall_errors(reconstruction: dict) -> dict[str, dict]:
    return {masks: found["companded"]["overall"] for masks, found in reconstruction["reconstruction"].items()}


def interval(error: dict) -> str:
    return "{:.2f} to {:.2f}".format(*error["interval"])


def write_evaluation(folder: Path, features: dict | None, reconstruction: dict | None) -> None:
    """The long tables, which the card only sums up. Without results there must be none: others would be wrong."""
    parts = []
    if features:
        tasks = "; ".join(f"{name}: {TASKS[name]}" for name in features["tasks"] if name in TASKS)
        introduction = FEATURES_INTRODUCTION.format(features["arguments"]["random_seeds"])
        parts.append(f"## Frozen features\n\n{introduction}\n\n{features['table']}\n\nTasks: {tasks}.")
    if reconstruction:
        parts.append(f"## Filling gaps\n\n{GAPS_INTRODUCTION}\n\n{reconstruction['table']}")
    if not parts:
        (folder / EVALUATION).unlink(missing_ok=True)
        return
    text = "\n\n".join([f"# Evaluation of {folder.resolve().name}", f"Part of [its card]({CARD}).", *parts])
    (folder / EVALUATION).write_text(f"{text.rstrip()}\n", encoding="utf-8")


def count_parameters(folder: str | Path) -> int:
    """Parameters of a checkpoint's model, counted on shapes alone: the folder needs no weights."""
    config = AutoConfig.from_pretrained(folder)
    with torch.device("meta"):
        return model_class_of(config.architectures[0])(config).num_parameters()


def write_code_and_card(folder: Path, weights_elsewhere: bool = False, repository: str | None = None) -> None:
    """
    What makes a checkpoint folder whole beside what has just been saved there: the code files that travel and, once
    there are weights, the card, signed so that one which is edited later is known.
    """
    for source in code_files():
        if not (folder / source.name).exists() or not (folder / source.name).samefile(source):
            shutil.copyfile(source, folder / source.name)
    if (folder / "config.json").is_file() and (weights_elsewhere or any(folder.glob("*.safetensors"))):
        card = write_model_card(folder, weights_elsewhere=weights_elsewhere, repository=repository)
        card.write_text(signed(card.read_text(encoding="utf-8")), encoding="utf-8")


def read_results(file: str | Path, folder: str | Path) -> dict:
    """
    A result file, checked to be of the weights in `folder`.

    Raises:
        ValueError: if it is of other weights.
    """
    results = json.loads(Path(file).read_text())
    if results["weights"]["sha256"] != weights_of(str(folder))["sha256"]:
        raise ValueError(f"{file} has results of other weights than those of {folder}. Evaluate these.")
    return results


__all__ = ["count_parameters", "read_results", "write_code_and_card", "write_model_card"]


if __name__ == "__main__":
    (command,) = HfArgumentParser(CardArguments).parse_args_into_dataclasses()
    print(write_model_card(**vars(command)))
