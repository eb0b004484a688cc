"""
How well a pre-trained model fills hidden samples of people it has not seen, beside simple fillers.

    python examples/evaluate_reconstruction.py --model runs/tiny --data ../shared/data/manifest.csv --output tiny.json
    python examples/evaluate_reconstruction.py --model runs/tiny --data manifest.csv --output few.json --max_windows 40

Whole recordings of each data set are cut into windows, channels as they were recorded, and samples are hidden as in
pre-training, by amplitude and at random. The model and the fillers get the same: every sample that is not hidden has
its true value (pre-training also replaces a few by others; here they are put back, since a filler can't know of them).
What has to be fitted is fitted to the data set's training people; validation and test people are scored together.
Errors are counted companded, as the loss does, and in microvolt; a filler works in the scale that it is judged in.

The figure is a person's mean squared error at hidden samples, over the variance of the true values at these samples: 1
is what their own mean would reach. A data set's figure is the mean over its people, the overall one the mean over data
sets. Intervals are bootstraps over people, of each data set by itself.
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
from scipy.stats import bootstrap
from task import TaskArguments, load_task, make_extractor, provenance, refuse_seen, weights_of, write_json
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
from neuript_hf.data.collator import real_samples
from neuript_hf.evaluation.imputation import (
    ChannelStatistics,
    channel_statistics,
    fill_channel_mean,
    fill_linear,
    fill_ridge,
    fill_spline,
)
from neuript_hf.training.monitoring import NUM_BANDS, amplitude_bands


MODEL = "model"
# Filler -> its values, from true values, what is visible, places of the channels, and what the training people tell.
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
    data: str = field(metadata={"help": "A manifest whose column set names data sets, with a split by person."})
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
        default=None, metadata={"help": "Score so many windows of a data set, evenly spread; none = all."}
    )
    allow_seen_people: bool = field(
        default=False, metadata={"help": "Score people whom the checkpoint's weights have seen, too."}
    )
    batch_size: int = field(default=16, metadata={"help": "Windows that go through the model at once."})
    seed: int = field(default=0, metadata={"help": "Seed of the masks and of the bootstrap."})


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
    """The windows that have the same channels, by the channels' places."""
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
        ValueError: where the checkpoint's coordinates are not those of one head, a person to be scored has channels
            that no training person has, or as [`load_task`].
    """
    task = task_of(name, arguments)
    extractor = make_extractor(task, arguments.model)
    if extractor.coordinate_frame != "head":
        raise ValueError(
            f"The checkpoint's coordinate_frame is {extractor.coordinate_frame!r}, where electrodes have no fixed "
            "place, so splines can't be drawn through them. Expected 'head'."
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
                f"{len(windows)} windows of {name} have channels that no training person of it has, so no filler can "
                f"be fitted. Leave out {sorted(set(unseen.select(windows)['recording']))}."
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
        batch: from the collator that hides.
        statistics: of the training people, by scale.
        people: whose windows they are, `[B]`.
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
    Mean squared error of each method over the variance of the person's true values, all at hidden samples.

    Args:
        sums: from [`errors_of_set`].
        by_band: errors of each band by itself, over the variance of all bands together.
    """
    people = ["strategy", "scale", "set", "person"]
    whole = sums.groupby(level=people).sum()
    variance = whole["square"] / whole["samples"] - (whole["value"] / whole["samples"]) ** 2
    part = sums if by_band else whole
    return part[METHODS].div(part["samples"], axis=0).div(variance, axis=0)


def mean_over_people(values: pd.Series, seed: int) -> dict:
    """
    Mean over data sets of the mean over people, and its 95 % interval by drawing people within data sets.

    Args:
        values: one number for each person; index with a level `set`.
        seed: of the draws.

    Returns:
        `mean`, and `interval`, `None` where a data set has a single person.
    """
    samples = [part.to_numpy() for _, part in values.groupby(level="set")]

    def mean(*drawn: np.ndarray, axis: int = -1) -> np.ndarray:
        return np.mean([part.mean(axis=axis) for part in drawn], axis=0)

    interval = None
    if min(map(len, samples)) > 1:
        draws = bootstrap(samples, mean, n_resamples=1000, method="percentile", rng=np.random.default_rng(seed))
        interval = [float(bound) for bound in draws.confidence_interval]
    return {"mean": float(mean(*samples)), "interval": interval}


def summarise(sums: pd.DataFrame, seed: int) -> dict:
    """
    Strategy -> scale -> what is told of it: `overall` and each of `sets` with `people` (their number), `error` of each
    method, `gain` (error of a filler less that of the model: above 0, the model is better) and `bands` (error by
    amplitude band, lowest values first), and `by_person`.
    """
    errors, bands = errors_by_person(sums, by_band=False), errors_by_person(sums, by_band=True)
    summary = defaultdict(dict)
    for (strategy, scale), people in errors.groupby(level=["strategy", "scale"]):
        people = people.droplevel(["strategy", "scale"])
        by_band = bands.xs((strategy, scale), level=("strategy", "scale"))

        def told(part: pd.DataFrame, band: pd.DataFrame) -> dict:
            of_sets = band.groupby(level=["set", "band"]).mean().groupby(level="band").mean().reindex(range(NUM_BANDS))
            return {
                "people": len(part),
                "error": {method: mean_over_people(part[method], seed) for method in METHODS},
                "gain": {filler: mean_over_people(part[filler] - part[MODEL], seed) for filler in FILLERS},
                "bands": {
                    method: [None if np.isnan(value) else value for value in of_sets[method]] for method in METHODS
                },
            }

        names = people.index.unique("set")
        summary[strategy][scale] = {
            "overall": told(people, by_band),
            "sets": {name: told(people.loc[[name]], by_band.loc[[name]]) for name in names},
            "by_person": {name: people.loc[name].to_dict("index") for name in names},
        }
    return dict(summary)


def markdown(summary: dict) -> str:
    """The tables of errors, one for each strategy and scale, and those of the bands."""
    parts = []
    for strategy, scales in summary.items():
        for scale, told in scales.items():
            header = f"Masks: {strategy}. Squared error at hidden samples, {scale}, over their variance."
            lines = [header, "", f"| data set | people | {' | '.join(METHODS)} |", "|---|---|" + "---|" * len(METHODS)]
            for name, part in {**told["sets"], "overall": told["overall"]}.items():
                people = told["by_person"].get(name, {})
                cells = [
                    _cell(part["error"][method], [errors[method] for errors in people.values()]) for method in METHODS
                ]
                lines.append(f"| {name} | {part['people']} | {' | '.join(cells)} |")
            gains = [_cell(gain, []) for gain in told["overall"]["gain"].values()]
            lines.append(f"| filler less model, overall | {told['overall']['people']} |  | {' | '.join(gains)} |")
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
    model.to("cuda" if torch.cuda.is_available() else "cpu")
    sums = pd.concat([errors_of_set(name, model, arguments) for name in arguments.sets])
    summary = summarise(sums, arguments.seed)
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
    main()
