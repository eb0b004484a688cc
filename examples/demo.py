"""
NeurIPT from recordings to a report in a few minutes, on two cores and without network access.

    python examples/demo.py                  simulated people who imagine moving their left or right hand
    python examples/demo.py --data folder    your recordings: a manifest.csv, or one folder for each class
    python examples/demo.py --data eegbci    imagined fists from PhysioNet, downloaded by MNE

Takes the pre-trained tiny model, fills gaps in the EEG of people it has never seen, fine-tunes it on labelled windows
with `Trainer`, and scores it on other people, beside the same training from random weights, a classical method and
chance. The report is `demo/report.png`.
"""

import copy
import time
from dataclasses import dataclass, field
from pathlib import Path

import matplotlib
import mne
import numpy as np
import pandas as pd
import torch
from datasets import Dataset, DatasetDict, concatenate_datasets
from transformers import AutoFeatureExtractor, HfArgumentParser, TrainingArguments, pipeline, set_seed

from neuript_hf import (
    DataCollatorForAmplitudeAwareMasking,
    NeurIPTFeatureExtractor,
    NeurIPTForPreTraining,
    NeurIPTForSequenceClassification,
    NeurIPTTrainer,
    load_recordings,
    open_recording,
    save_checkpoint,
    verify,
)
from neuript_hf.checkpoints.tested_people import TestedPeople
from neuript_hf.checkpoints.training_record import fingerprints_in_training, refuse_seen, seen_in_training
from neuript_hf.data.collator import real_samples
from neuript_hf.data.simulation import simulate_dataset
from neuript_hf.data.tasks import TaskArguments
from neuript_hf.data.windows import channel_reports
from neuript_hf.evaluation.baselines import baseline_scores
from neuript_hf.evaluation.imputation import fill_channel_mean, fill_linear
from neuript_hf.evaluation.metrics import compute_metrics, print_scores, scores_of
from neuript_hf.evaluation.target_fits import start_from_fit
from neuript_hf.explain.occlusion import occlusion
from neuript_hf.explain.summary import summarise
from neuript_hf.training.cpu import keep_memory
from neuript_hf.training.finetuning import task_config


matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402  (after the backend is chosen)

from neuript_hf.explain.figures import draw_channels  # noqa: E402


# Imagined movements show over the sensorimotor cortex; few channels keep the demo short.
MOTOR_CHANNELS = ["F3", "F4", "C3", "Cz", "C4", "P3", "Pz", "P4"]
# The weights have seen the first person of the set.
EEGBCI_PEOPLE, EEGBCI_RUNS = range(2, 12), (4, 8, 12)
WEIGHTS = Path(__file__).resolve().parents[1] / "hub" / "neuript-tiny"
# Windows of new people in which gaps are filled.
FILLED_WINDOWS = 24
PRE_TRAINED, FROM_SCRATCH = "fine-tuned", "from scratch"
COLOURS = {"frozen + fit": "tab:cyan", PRE_TRAINED: "tab:blue", FROM_SCRATCH: "tab:orange", "band power": "0.6"}


@dataclass
class DemoArguments:
    """What to show."""

    data: str | None = field(default=None, metadata={"help": "A folder or manifest of recordings, or eegbci."})
    output_dir: str = field(default="demo", metadata={"help": "Folder for recordings, checkpoint and report.png."})
    model: str = field(default=str(WEIGHTS), metadata={"help": "Pre-trained checkpoint to start from."})
    montage: str = field(
        default="as_recorded",
        metadata={"help": "Montage of your recordings, or channel names and pairs separated by commas."},
    )
    people: int = field(default=20, metadata={"help": "Simulated people."})
    epochs: int = field(default=2, metadata={"help": "Epochs of fine-tuning."})
    learning_rate: float = field(default=5e-5, metadata={"help": "Highest learning rate of fine-tuning."})
    max_train_windows: int = field(default=320, metadata={"help": "Labelled windows to train on."})
    max_unseen_windows: int = field(default=320, metadata={"help": "Windows of new people to score."})
    seed: int = field(default=0, metadata={"help": "Seed of simulated people, random weights and masks."})


def recordings_of(demo: DemoArguments) -> tuple[Path, NeurIPTFeatureExtractor, dict]:
    """The path of the recordings, the checkpoint's extractor, and settings of how the head groups channels."""
    if demo.data is not None and demo.data != "eegbci":
        montage = demo.montage.split(",")
        extractor = AutoFeatureExtractor.from_pretrained(
            demo.model, montage=montage if len(montage) > 1 else montage[0]
        )
        return Path(demo.data), extractor, {"num_lobes": extractor.num_lobes}
    if demo.data == "eegbci":
        manifest = eegbci_manifest(Path(demo.output_dir))
    else:
        manifest = simulate_dataset(
            Path(demo.output_dir) / "recordings", n_subjects=demo.people, seed=demo.seed, overwrite=True
        )
    # The task is left against right, and the parietal lobe has both sides: each channel is a group of its own, which
    # the compact embedding, numbers by lobe, knows nothing about.
    pooling = {"pooling": "none", "num_lobes": len(MOTOR_CHANNELS), "compact_embedding": False}
    return manifest, AutoFeatureExtractor.from_pretrained(demo.model, montage=MOTOR_CHANNELS), pooling


def eegbci_manifest(folder: Path) -> Path:
    """Downloads ten people of PhysioNet's EEG Motor Movement/Imagery set through MNE; returns a manifest."""
    rows = [
        {
            "file": Path(path).resolve(),
            "dataset": "eegmmidb",
            "subject": f"eegmmidb-{person:03d}",
            "events": '{"T1": "left_fist", "T2": "right_fist"}',
        }
        for person in EEGBCI_PEOPLE
        for path in mne.datasets.eegbci.load_data(person, list(EEGBCI_RUNS))
    ]
    folder.mkdir(parents=True, exist_ok=True)
    pd.DataFrame(rows).to_csv(folder / "eegbci.csv", index=False)
    return folder / "eegbci.csv"


@torch.no_grad()
def fill_gaps(demo: DemoArguments, model: NeurIPTForPreTraining, windows: Dataset) -> dict:
    """Hides half of the samples and fills them by the model and two simple methods; errors over all windows."""
    collator = DataCollatorForAmplitudeAwareMasking(ratios=0.5, seed=demo.seed)
    batch = collator([windows[index] for index in range(len(windows))])
    outputs = []
    for start in range(0, len(windows), 8):
        part = {name: tensor[start : start + 8] for name, tensor in batch.items()}
        outputs.append(model(**part).reconstruction)
    truth, hidden = batch["labels"], batch["hidden_positions"]
    visible = real_samples(batch) & ~hidden
    filled = {
        "this model": torch.cat(outputs),
        "straight line\nin time": fill_linear(truth, visible),
        "channel's mean": fill_channel_mean(truth, visible),
    }
    return {
        "truth": truth,
        "hidden": hidden,
        "reconstruction": filled["this model"],
        "errors": {name: ((values - truth)[hidden] ** 2).mean().item() for name, values in filled.items()},
    }


def finetune(
    demo: DemoArguments,
    model: NeurIPTForSequenceClassification,
    extractor: NeurIPTFeatureExtractor,
    train: Dataset,
    validation: Dataset,
    unseen: Dataset,
    seen: dict,
) -> tuple[NeurIPTTrainer, dict, dict]:
    """
    Starts the head from a logistic regression on frozen features, then trains the whole model. Returns the trainer,
    and the scores on unseen people before and after training.
    """
    start_from_fit(model, train, demo.seed)
    trainer = NeurIPTTrainer(
        model=model,
        args=TrainingArguments(
            output_dir=str(Path(demo.output_dir) / "training"),
            seed=demo.seed,
            per_device_train_batch_size=8,
            learning_rate=demo.learning_rate,
            num_train_epochs=demo.epochs,
            lr_scheduler_type="cosine",
            warmup_steps=0.15,
            weight_decay=5e-3,
            max_grad_norm=1.0,
            dataloader_pin_memory=torch.cuda.is_available(),
            logging_steps=4,
            eval_strategy="epoch",
            save_strategy="no",
        ),
        processing_class=extractor,
        train_dataset=train,
        eval_dataset=validation,
        compute_metrics=compute_metrics,
    )
    start = scores_of(trainer.predict(unseen).predictions, unseen)
    trainer.recorder.describe(
        kind=f"fine-tuning to distinguish {', '.join(model.config.id2label.values())}",
        recipe={"epochs": demo.epochs, "learning_rate": demo.learning_rate},
        **seen,
    )
    trainer.train()
    return trainer, start, scores_of(trainer.predict(unseen).predictions, unseen)


def draw_report(
    path: Path,
    extractor: NeurIPTFeatureExtractor,
    filled: dict,
    trainers: dict[str, NeurIPTTrainer],
    scores: dict[str, dict],
    recording: Path,
    class_names: list[str],
    importance: pd.DataFrame,
    channel_names: list[str],
):
    """One figure: filled gaps, both trainings, scores, probabilities over time, the importance of each electrode."""
    figure, axes = plt.subplot_mosaic(
        [["signal", "signal", "errors"], ["probability", "probability", "finetuning"], ["scores", "people", "map"]],
        figsize=(15, 12),
        layout="constrained",
    )
    rate = extractor.sampling_rate

    # the channel with the median error, so that the figure does not flatter
    error = ((filled["reconstruction"] - filled["truth"]) ** 2 * filled["hidden"]).sum(-1) / filled["hidden"].sum(-1)
    window, channel = np.unravel_index(int(error.flatten().argsort()[error.numel() // 2]), error.shape)
    truth = extractor.invert(filled["truth"][window, channel].numpy())
    rebuilt = extractor.invert(filled["reconstruction"][window, channel].numpy())
    hidden = filled["hidden"][window, channel].numpy()
    seconds = np.arange(len(truth)) / rate
    axis = axes["signal"]
    axis.plot(seconds, truth, color="0.6", label="true signal")
    axis.plot(seconds, np.where(hidden, np.nan, truth), color="black", label="visible to the model")
    axis.plot(
        seconds, np.where(hidden, rebuilt, np.nan), color="tab:red", marker=".", label="hidden, filled by the model"
    )
    axis.set(xlabel="seconds", ylabel="microvolt", title=f"Test person, {channel_names[channel]}: gaps filled")
    axis.legend(loc="upper right", fontsize=8)

    axis = axes["errors"]
    bars = axis.bar(list(filled["errors"]), list(filled["errors"].values()), color=["tab:red", "0.6", "0.6"])
    axis.bar_label(bars, fmt="%.2f")
    axis.set(ylabel="squared error (companded)", title="Gaps of all test people")

    axis = axes["finetuning"]
    for start, trainer in trainers.items():
        axis.plot(*task_loss(trainer), color=COLOURS[start], alpha=0.5, linewidth=1)
        log = [(entry["step"], entry["eval_loss"]) for entry in trainer.state.log_history if "eval_loss" in entry]
        axis.plot(*zip(*log, strict=True), color=COLOURS[start], marker="o", label=f"{start}: validation people")
    axis.axhline(np.log(len(class_names)), color="black", linestyle=":", label="guessing")
    axis.set(xlabel="step", ylabel="cross entropy", title="Fine-tuning (thin: training people)")
    axis.legend(fontsize=8)

    axis = axes["probability"]
    raw = open_recording(recording).source
    raw.crop(0, min(120.0, raw.times[-1]))
    pipe = pipeline("eeg-classification", model=trainers[PRE_TRAINED].model, feature_extractor=extractor, device="cpu")
    rows = pipe(raw, stride_seconds=1.0)
    middle = [row["onset"] + row["duration"] / 2 for row in rows]
    axis.plot(middle, [row["scores"][class_names[-1]] for row in rows], color="tab:blue")
    for annotation in raw.annotations:
        if annotation["description"] in class_names:
            colour = f"C{class_names.index(annotation['description']) + 1}"
            axis.axvspan(
                annotation["onset"], annotation["onset"] + annotation["duration"], color=colour, alpha=0.25, lw=0
            )
    for index, name in enumerate(class_names):
        axis.axvspan(np.nan, np.nan, color=f"C{index + 1}", alpha=0.25, label=name)
    axis.set(
        xlabel="seconds",
        ylabel=f"probability of {class_names[-1]}",
        ylim=(0, 1),
        title=f"Over time: {recording.name}, test person",
    )
    axis.legend(loc="lower right", fontsize=8, ncols=2)

    axis = axes["scores"]
    values = [score["balanced_accuracy"] for score in scores.values()]
    intervals = np.array([score["balanced_accuracy_interval"] for score in scores.values()]).T
    axis.bar(list(scores), values, color=[COLOURS[name] for name in scores])
    axis.errorbar(range(len(values)), values, yerr=np.abs(intervals - values), fmt="none", color="black", capsize=4)
    axis.axhline(next(iter(scores.values()))["chance"], color="black", linestyle=":", label="chance")
    axis.set(ylabel="balanced accuracy", ylim=(0, 1), title="Test people (95 % over people)")
    axis.tick_params(axis="x", labelrotation=12)
    axis.legend(fontsize=8)

    axis = axes["people"]
    by_person = scores[PRE_TRAINED]["by_person"]
    axis.bar(list(by_person), list(by_person.values()), color="tab:blue")
    axis.axhline(scores[PRE_TRAINED]["chance"], color="black", linestyle=":")
    axis.set(ylim=(0, 1), ylabel="balanced accuracy", title="Each of them, fine-tuned model")
    axis.tick_params(axis="x", labelrotation=30)

    draw_channels(importance, axes["map"])
    axes["map"].set_title("What the answers rest on: log-probability\nof the true class lost without a channel")
    figure.savefig(path, dpi=110)


def task_loss(trainer: NeurIPTTrainer) -> tuple[list, list]:
    """Steps and training losses, without the experts' auxiliary loss, which evaluations do not have."""
    weight = trainer.model.config.router_aux_loss_coef
    log = [entry for entry in trainer.state.log_history if "loss" in entry]
    return [entry["step"] for entry in log], [entry["loss"] - weight * entry["aux_loss"] for entry in log]


def main():
    (demo,) = HfArgumentParser(DemoArguments).parse_args_into_dataclasses()
    started = time.perf_counter()
    set_seed(demo.seed)
    folder = Path(demo.output_dir)

    source, extractor, pooling = recordings_of(demo)
    task = TaskArguments(data=str(source))
    refuse_seen(task, demo.model)
    splits = load_recordings(source, extractor)
    if set(splits) != {"train", "validation", "test"}:
        raise ValueError(f"The demo needs people in train, validation and test, but has {list(splits)}.")
    train = draw(splits["train"], demo.max_train_windows, demo.seed)
    validation = draw(splits["validation"], demo.max_unseen_windows // 2, demo.seed)
    unseen = draw(concatenate_datasets([splits["validation"], splits["test"]]), demo.max_unseen_windows, demo.seed)
    recording, names = recording_and_channels(source, splits, extractor)
    class_names = train.features["labels"].names

    # Eager experts give the same numbers in every run. Dropout would change the features under a head that starts from
    # a regression, and trainings this short do not overfit.
    settings = {"hidden_dropout": 0.0, "attention_dropout": 0.0, "experts_implementation": "eager"}
    filler = NeurIPTForPreTraining.from_pretrained(demo.model, **settings).eval()
    filler.refuse_untrained()
    filled = fill_gaps(demo, filler, draw(splits["test"].remove_columns("labels"), FILLED_WINDOWS, demo.seed))
    errors = ", ".join(f"{error:.3f} ({' '.join(name.split())})" for name, error in filled["errors"].items())
    print(f"\nGaps of test people: error {errors}.")

    settings |= task_config(train, extractor) | pooling
    model = NeurIPTForSequenceClassification.from_pretrained(demo.model, **settings)
    set_seed(demo.seed)
    scratch = NeurIPTForSequenceClassification(copy.deepcopy(model.config))
    trainers, scores = {}, {}
    seen = {"seen": seen_in_training(task, train, extractor), "fingerprints": fingerprints_in_training(task, train)}
    trainers[PRE_TRAINED], scores["frozen + fit"], scores[PRE_TRAINED] = finetune(
        demo, model, extractor, train, validation, unseen, seen
    )
    trainers[FROM_SCRATCH], _, scores[FROM_SCRATCH] = finetune(
        demo, scratch, extractor, train, validation, unseen, seen
    )
    scores["band power"] = baseline_scores("band_power", train, unseen, extractor)
    save_checkpoint(model, extractor, folder / "checkpoint")
    verify(folder / "checkpoint")
    some = unseen.select(range(0, len(unseen), max(1, len(unseen) // 64)))
    reports = channel_reports(concatenate_datasets([splits["validation"], splits["test"]]))
    importance = summarise(occlusion(model, some, extractor, kinds=["channel"], reports=reports))
    draw_report(folder / "report.png", extractor, filled, trainers, scores, recording, class_names, importance, names)
    first = scores[PRE_TRAINED]
    tested = TestedPeople.of(task, demo.model, unseen, train)
    print_scores(f"{tested}, {first['windows']} windows, chance {first['chance']:.3f}", scores)
    print(
        f"\n{folder / 'report.png'} after {time.perf_counter() - started:.0f} s; the checkpoint is "
        f"{folder / 'checkpoint'}."
    )


def draw(windows: Dataset, count: int, seed: int) -> Dataset:
    """At most `count` windows, drawn by seed."""
    return windows.shuffle(seed=seed).select(range(min(count, len(windows))))


def recording_and_channels(
    source: Path, splits: DatasetDict, extractor: NeurIPTFeatureExtractor
) -> tuple[Path, list[str]]:
    """A recording of a test person and the names of its output channels; prints its channel report."""
    channels = {
        tuple(row["name"] for row in report["channels"])
        for split in splits.values()
        for report in channel_reports(split).values()
    }
    if len(channels) > 1:
        raise ValueError(
            f"The recordings have different channels: {sorted(map(len, channels))} of them. The demo's classical "
            "method and its map need the same ones: choose a montage that all recordings have (--montage)."
        )
    path = (source if source.is_dir() else source.parent) / splits["test"][0]["recording"]
    print(extractor(path).report)
    return path, list(*channels)


if __name__ == "__main__":
    keep_memory()
    main()
