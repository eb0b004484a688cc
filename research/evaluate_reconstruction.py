"""
How well a pre-trained model fills gaps in the EEG of people it has not seen, beside simple methods of imputation.

    python research/evaluate_reconstruction.py --model runs/tiny --data manifest.csv --output tiny.json
    python research/evaluate_reconstruction.py --model runs/tiny --data manifest.csv --output few.json --max_windows 40

Whole recordings of each data set are cut into windows with channels as recorded, and samples are hidden as in
pre-training, by amplitude and at random. The model and the other methods get the same samples: the true value of
every sample that is not hidden. (Pre-training also replaces a few samples by others; not here, since the other methods
could not know of it.) Methods that need fitting are fitted to the training people of the data set; validation and test
people are scored together. Errors are computed companded, like the loss, and in microvolt; each method works in the
scale that is scored.

The figure is the mean squared error of a person's hidden samples over the variance of their true values: filling in
their mean gives 1. A data set's figure is the mean over its people, the overall figure the mean over data sets.
Intervals come from a bootstrap over the people of each data set.
"""

from collections import defaultdict
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from datasets import Dataset
from prepare_corpus import TRIAL_SECONDS, TRIALS_SET
from torch import Tensor
from torch.utils.data import DataLoader
from transformers import HfArgumentParser
from transformers.utils.logging import tqdm

from neuript_hf import (
    DataCollatorForAmplitudeAwareMasking,
    DataCollatorForEEG,
    NeurIPTFeatureExtractor,
    NeurIPTForPreTraining,
)
from neuript_hf.checkpoints.provenance import provenance
from neuript_hf.checkpoints.training_record import refuse_seen, weights_of
from neuript_hf.data.atomic import write_json
from neuript_hf.data.collator import real_samples
from neuript_hf.data.tasks import TaskArguments, load_task, make_extractor
from neuript_hf.evaluation.imputation import (
    ChannelStatistics,
    channel_statistics,
    fill_channel_mean,
    fill_linear,
    fill_ridge,
    fill_spline,
)
from neuript_hf.evaluation.metrics import draw_people, percentile_interval
from neuript_hf.training.cpu import keep_memory
from neuript_hf.training.monitoring import NUM_BANDS, amplitude_bands


MODEL = "model"
# Method -> filled values, from true values, the mask of visible samples, positions, and statistics of training people.
FILLERS: dict[str, Callable[[Tensor, Tensor, Tensor, ChannelStatistics], Tensor]] = {
    "channel mean": lambda values, visible, positions, statistics: fill_channel_mean(values, visible),
    "linear in time": lambda values, visible, positions, statistics: fill_linear(values, visible),
    "ridge, same instant": lambda values, visible, positions, statistics: fill_ridge(values, visible, statistics),
    "spherical spline": lambda values, visible, positions, statistics: fill_spline(values, visible, positions),
}
METHODS = [MODEL, *FILLERS]
SCALES = ("companded", "microvolt")
# With fewer people an interval means little: each person is shown.
FEW_PEOPLE = 6


@dataclass
class ReconstructionArguments:
    """The model, the recordings, and what is hidden."""

    model: str = field(metadata={"help": "Checkpoint of a NeurIPTForPreTraining."})
    data: str = field(metadata={"help": "A manifest with the columns set (the data set) and split (by person)."})
    output: str = field(metadata={"help": "Result file, JSON."})
    sets: list[str] = field(
        default_factory=lambda: ["eegmat", "epilepsy_gb", "ssvep_exo", "dasps", TRIALS_SET],
        metadata={"help": "Data sets to score."},
    )
    strategies: list[str] = field(
        default_factory=lambda: list(DataCollatorForAmplitudeAwareMasking.STRATEGIES),
        metadata={"help": "Masks: amplitude, random."},
    )
    max_windows: int | None = field(
        default=None, metadata={"help": "Score this many windows of a data set, evenly spread; default: all."}
    )
    allow_seen_people: bool = field(
        default=False, metadata={"help": "Also score people the checkpoint was trained on."}
    )
    batch_size: int = field(default=16, metadata={"help": "Windows in a batch."})
    seed: int = field(default=0, metadata={"help": "Seed of the masks."})


def task_of(name: str, arguments: ReconstructionArguments) -> TaskArguments:
    """The whole recordings of a data set, without labels."""
    return TaskArguments(
        data=arguments.data,
        rows=[f"set={name}"],
        label_column=None,
        window_seconds=TRIAL_SECONDS if name == TRIALS_SET else None,
        montage="as_recorded",
        allow_seen_people=arguments.allow_seen_people,
    )


def montages_of(dataset: Dataset) -> dict[bytes, list[int]]:
    """Numbers of the windows with the same channels, by the channels' positions."""
    windows = defaultdict(list)
    for window, positions in enumerate(dataset["electrode_positions"]):
        windows[np.asarray(positions).tobytes()].append(window)
    return dict(windows)


def errors_of_set(name: str, model: NeurIPTForPreTraining, arguments: ReconstructionArguments) -> pd.DataFrame:
    """
    Sums over the hidden samples of each person of a data set.

    Returns:
        Index strategy, scale, set, person, band (0 to 4, see [`amplitude_bands`]); columns `samples`, `value` and
        `square` (sums of the true values and of their squares), and for each method its squared error.

    Raises:
        ValueError: where the checkpoint's coordinates are not those of a head, where a person to be scored has
            channels that no training person has, or as [`load_task`].
    """
    task = task_of(name, arguments)
    extractor = make_extractor(task, arguments.model)
    if extractor.coordinate_frame != "head":
        raise ValueError(
            f"The checkpoint's coordinate_frame is {extractor.coordinate_frame!r}, in which electrodes have no fixed "
            "position, so spherical splines cannot be fitted. Expected 'head'."
        )
    train, unseen, _ = load_task(task, extractor, arguments.seed)
    if arguments.max_windows is not None and arguments.max_windows < len(unseen):
        unseen = unseen.select(np.linspace(0, len(unseen) - 1, arguments.max_windows).astype(int))
    collators = {
        strategy: DataCollatorForAmplitudeAwareMasking(strategy=strategy, seed=arguments.seed)
        for strategy in arguments.strategies
    }
    trained = montages_of(train)
    sums = []
    for montage, windows in montages_of(unseen).items():
        if montage not in trained:
            raise ValueError(
                f"{len(windows)} windows of {name} have channels that no training person has, so nothing can be "
                f"fitted to them. Leave out {sorted(set(unseen.select(windows)['recording']))}."
            )
        fitted_to = DataCollatorForEEG()(list(train.select(trained[montage])))
        statistics = {
            scale: channel_statistics(in_scale(fitted_to["input_values"], scale, extractor), real_samples(fitted_to))
            for scale in SCALES
        }
        loader = DataLoader(unseen.select(windows), batch_size=arguments.batch_size, collate_fn=list)
        for examples in tqdm(loader, desc=name):
            people = [example["subject"] for example in examples]
            for strategy, collator in collators.items():
                for scale, table in errors_of_batch(model, collator(examples), statistics, extractor, people).items():
                    sums.append(pd.concat({(strategy, scale, name): table}, names=["strategy", "scale", "set"]))
    return pd.concat(sums).groupby(level=["strategy", "scale", "set", "person", "band"]).sum()


def in_scale(values: Tensor, scale: str, extractor: NeurIPTFeatureExtractor) -> Tensor:
    """Companded values in one of `SCALES`, float64."""
    values = values.double()
    return torch.from_numpy(extractor.invert(values.numpy())) if scale == "microvolt" else values


@torch.no_grad()
def errors_of_batch(
    model: NeurIPTForPreTraining,
    batch: dict[str, Tensor],
    statistics: dict[str, ChannelStatistics],
    extractor: NeurIPTFeatureExtractor,
    people: list[str],
) -> dict[str, pd.DataFrame]:
    """
    The columns of [`errors_of_set`] for each window and band of a batch, by scale.

    Args:
        batch: from the masking collator.
        statistics: of the training people, by scale.
        people: the person of each window, `[B]`.
    """
    labels, hidden, real = batch["labels"], batch["hidden_positions"], real_samples(batch)
    inputs = {
        key: tensor.to(model.device) for key, tensor in batch.items() if key not in ("labels", "masked_positions")
    }
    inputs["input_values"] = labels.masked_fill(hidden, 0).to(model.device)
    reconstruction = model(**inputs).reconstruction.float().cpu()

    window = torch.arange(len(labels))[:, None, None]
    places = (window * NUM_BANDS + amplitude_bands(labels, real))[hidden].numpy()
    index = pd.MultiIndex.from_product([range(len(labels)), range(NUM_BANDS)], names=["window", "band"])

    def total(numbers: np.ndarray) -> np.ndarray:
        return np.bincount(places, numbers, minlength=len(index))

    tables = {}
    for scale in SCALES:
        values = in_scale(labels, scale, extractor)
        filled = {MODEL: in_scale(reconstruction, scale, extractor)}
        for name, fill in FILLERS.items():
            filled[name] = fill(values, real & ~hidden, batch["electrode_positions"], statistics[scale])
        truth = values[hidden].numpy()
        columns = {"samples": total(np.ones_like(truth)), "value": total(truth), "square": total(truth**2)}
        columns |= {method: total((numbers[hidden].numpy() - truth) ** 2) for method, numbers in filled.items()}
        table = pd.DataFrame(columns, index=index).reset_index("window")
        table["person"] = np.array(people)[table.pop("window")]
        tables[scale] = table.set_index("person", append=True)
    return tables


def errors_by_person(sums: pd.DataFrame, by_band: bool) -> pd.DataFrame:
    """
    Mean squared error of each method over the variance of the person's true values, at hidden samples.

    Args:
        sums: from [`errors_of_set`].
        by_band: errors of each band, over the variance of all bands together.
    """
    people = ["strategy", "scale", "set", "person"]
    whole = sums.groupby(level=people).sum()
    variance = whole["square"] / whole["samples"] - (whole["value"] / whole["samples"]) ** 2
    part = sums if by_band else whole
    return part[METHODS].div(part["samples"], axis=0).div(variance, axis=0)


def mean_over_people(values: pd.Series) -> dict:
    """
    Mean over data sets of the mean over people, and its 95 % interval by drawing people within data sets.

    Args:
        values: one number for each person, indexed by `set` and person.

    Returns:
        `mean`, and `interval`, which is `None` where a data set has only one person.
    """
    sets = [part.droplevel("set") for _, part in values.groupby(level="set")]
    interval = None
    if min(map(len, sets)) > 1:
        draws = [draw_people(part.index.astype(str)) @ part.to_numpy() / len(part) for part in sets]
        interval = percentile_interval(np.mean(draws, axis=0))
    return {"mean": float(np.mean([part.mean() for part in sets])), "interval": interval}


def summarise(sums: pd.DataFrame) -> dict:
    """
    Strategy -> scale -> `overall`, `sets` and `by_person`. The first, and each of `sets`, have `people` (how many),
    `error` of each method, `gain` (the error of another method minus the model's: above 0 the model is better) and
    `bands` (error by amplitude band, lowest values first).
    """
    errors, bands = errors_by_person(sums, by_band=False), errors_by_person(sums, by_band=True)
    summary = defaultdict(dict)
    for (strategy, scale), people in errors.groupby(level=["strategy", "scale"]):
        people = people.droplevel(["strategy", "scale"])
        by_band = bands.xs((strategy, scale), level=("strategy", "scale"))

        def described(part: pd.DataFrame, band: pd.DataFrame) -> dict:
            of_sets = band.groupby(level=["set", "band"]).mean().groupby(level="band").mean().reindex(range(NUM_BANDS))
            return {
                "people": len(part),
                "error": {method: mean_over_people(part[method]) for method in METHODS},
                "gain": {filler: mean_over_people(part[filler] - part[MODEL]) for filler in FILLERS},
                "bands": {
                    method: [None if np.isnan(value) else value for value in of_sets[method]] for method in METHODS
                },
            }

        names = people.index.unique("set")
        summary[strategy][scale] = {
            "overall": described(people, by_band),
            "sets": {name: described(people.loc[[name]], by_band.loc[[name]]) for name in names},
            "by_person": {name: people.loc[name].to_dict("index") for name in names},
        }
    return dict(summary)


def markdown(summary: dict) -> str:
    """The tables of errors, one for each strategy and scale, and those of the bands."""
    parts = []
    for strategy, scales in summary.items():
        for scale, result in scales.items():
            header = f"Masks: {strategy}. Squared error at hidden samples, {scale}, over their variance."
            lines = [header, "", f"| data set | people | {' | '.join(METHODS)} |", "|---|---|" + "---|" * len(METHODS)]
            for name, part in {**result["sets"], "overall": result["overall"]}.items():
                people = result["by_person"].get(name, {})
                cells = [
                    _cell(part["error"][method], [errors[method] for errors in people.values()]) for method in METHODS
                ]
                lines.append(f"| {name} | {part['people']} | {' | '.join(cells)} |")
            gains = [_cell(gain, []) for gain in result["overall"]["gain"].values()]
            lines.append(f"| filler less model, overall | {result['overall']['people']} |  | {' | '.join(gains)} |")
            parts.append("\n".join(lines))
        lines = [
            f"Masks: {strategy}. The same, {SCALES[0]}, overall, by rank of the true value in its window and channel.",
            "",
            "| method | lowest fifth | second | third | fourth | highest fifth |",
            "|---|" + "---|" * NUM_BANDS,
        ]
        for method, values in scales[SCALES[0]]["overall"]["bands"].items():
            cells = ["-" if value is None else f"{value:.3f}" for value in values]
            lines.append(f"| {method} | {' | '.join(cells)} |")
        parts.append("\n".join(lines))
    return "\n\n".join(parts)


def _cell(value: dict, people: list[float]) -> str:
    if 0 < len(people) < FEW_PEOPLE:
        return f"{value['mean']:.3f} ({', '.join(f'{error:.2f}' for error in people)})"
    if value["interval"] is None:
        return f"{value['mean']:.3f}"
    low, high = value["interval"]
    return f"{value['mean']:.3f} ({low:.2f} to {high:.2f})"


def main():
    (arguments,) = HfArgumentParser(ReconstructionArguments).parse_args_into_dataclasses()
    for name in arguments.sets:
        refuse_seen(task_of(name, arguments), arguments.model)
    model = NeurIPTForPreTraining.from_pretrained(arguments.model).eval()
    model.refuse_untrained()
    model.to("cuda" if torch.cuda.is_available() else "cpu")
    sums = pd.concat([errors_of_set(name, model, arguments) for name in arguments.sets])
    summary = summarise(sums)
    write_json(
        Path(arguments.output),
        {
            "measure": "mean squared error at hidden samples over the variance of the true values there, by person",
            "weights": weights_of(arguments.model),
            "table": markdown(summary),
            "reconstruction": summary,
            "provenance": provenance() | {"arguments": asdict(arguments)},
        },
    )
    print(markdown(summary))


if __name__ == "__main__":
    keep_memory()
    main()
