"""
What the page shows of a recording: a `Look`.

`look_at` runs in a process of its own, which is forked from one that has imported this file (`visits.py`): the weights
are loaded once, with the import.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from huggingface_hub import ModelCard
from scipy.signal import resample
from transformers import pipeline
from transformers.utils import logging

from neuript_hf import NeurIPTForPreTraining, open_recording
from neuript_hf.channels import ChannelReport
from neuript_hf.evaluation.imputation import fill_channel_mean, fill_linear
from neuript_hf.recordings import Recording
from neuript_hf.training.masking import select_random_spans


torch.set_num_threads(1)
logging.set_verbosity_error()
logging.disable_progress_bar()

HERE = Path(__file__).resolve().parent
# In a clone beside space/, on the Hub inside the Space.
HUB = next(folder / "hub" for folder in (HERE, HERE.parent) if (folder / "hub").is_dir())
# Most windows of a visit, so that an answer takes seconds; fewer where a recording has many channels.
MOST_WINDOWS, MOST_WINDOWS_TIMES_CHANNELS = 75, 1500
LONGEST_EPOCH = 30.0  # seconds

EMBED = pipeline("eeg-embedding", model=str(HUB / "neuript-tiny"), device="cpu")
FILLER = NeurIPTForPreTraining.from_pretrained(HUB / "neuript-tiny").eval()
CLASSIFIERS = {
    name: pipeline("eeg-classification", model=str(HUB / name), device="cpu")
    for name in ("neuript-tiny-eyes", "neuript-tiny-arithmetic")
}
EXTRACTOR = EMBED.feature_extractor
# All windows of a visit are judged together.
ONE_BLOCK = {"block_seconds": 1e9}


@dataclass
class Look:
    """
    A recording as the model sees it.

    Args:
        report: what became of every channel.
        windows: a batch for the models, arrays: `input_values [B, C, T]` and so on.
        onsets: starts of the windows, in seconds.
        window_seconds: their length.
        possible: how many windows the whole recording has.
        seconds: when the recording ends, by its clock.
        as_recorded: for outputs that are masked as bad their signal before any filter, microvolts `[B, T]`.
        embeddings: `[B, D]`.
        answers: for each classifier the probability of each class `[B]` by its name, or why there is none.
    """

    report: ChannelReport
    windows: dict[str, np.ndarray]
    onsets: np.ndarray
    window_seconds: float
    possible: int
    seconds: float
    as_recorded: dict[int, np.ndarray]
    embeddings: np.ndarray
    answers: dict[str, pd.DataFrame | str]

    @property
    def microvolts(self) -> np.ndarray:
        """The signal in the model's band, `[B, C, T]`; masked channels are zero."""
        return EXTRACTOR.invert(self.windows["input_values"])

    @property
    def table(self) -> pd.DataFrame:
        """A row for each window: its time, the probabilities of the classes, the embedding."""
        parts = [pd.DataFrame({"onset": self.onsets, "duration": self.window_seconds})]
        parts += [answer for answer in self.answers.values() if not isinstance(answer, str)]
        return pd.concat([*parts, pd.DataFrame(self.embeddings).add_prefix("embedding_")], axis=1)


@dataclass
class Refilled:
    """
    A window with hidden samples, and what the model puts there.

    Args:
        truth, filled: companded, `[C, T]`.
        hidden: bool `[C, T]`.
        errors: squared error of each method over the variance of the hidden samples.
    """

    truth: np.ndarray
    filled: np.ndarray
    hidden: np.ndarray
    errors: dict[str, float]


def look_at(path: Path, **given) -> Look:
    """
    Args:
        path: a recording.
        given: `sampling_rate` and `unit`, if the file does not state them.

    Raises:
        ValueError: where it can't be read or does not fit; says what to do.
    """
    recording = open_recording(path, **given)
    chosen, possible = choose_windows(recording)
    features = EXTRACTOR(recording, onsets=chosen)
    rows = EMBED(recording, onsets=chosen, **ONE_BLOCK)
    answers = {}
    for name, classify in CLASSIFIERS.items():
        try:
            scores = [row["scores"] for row in classify(recording, onsets=chosen, **ONE_BLOCK)]
            answers[name] = pd.DataFrame(scores)
        except ValueError as error:  # its head reads none of the channels
            answers[name] = str(error)
    seconds = features["input_values"].shape[-1] / EXTRACTOR.sampling_rate
    return Look(
        report=features.report,
        windows=dict(features),
        onsets=features.onsets,
        window_seconds=seconds,
        possible=possible,
        seconds=recording.stretches[-1][1],
        as_recorded=read_masked(recording, features.report, features.onsets, seconds),
        embeddings=np.stack([row["embedding"] for row in rows]),
        answers=answers,
    )


def choose_windows(recording: Recording) -> tuple[np.ndarray | None, int]:
    """
    Onsets of the first windows, `None` for all, and how many there are.

    Raises:
        ValueError: for epochs that are too many or too long.
    """
    channels = len(EXTRACTOR.plan(recording, ChannelReport()).channels)
    most = max(1, min(MOST_WINDOWS, MOST_WINDOWS_TIMES_CHANNELS // channels))
    if recording.in_pieces:
        length = recording.stretches[0][1] - recording.stretches[0][0]
        most = max(1, int(most * EXTRACTOR.window_seconds / max(length, EXTRACTOR.window_seconds)))
        if length > LONGEST_EPOCH or len(recording.segments) > most:
            raise ValueError(
                f"These are {len(recording.segments)} epochs of {length:g} s. Expected at most {most} of them here, "
                f"of {LONGEST_EPOCH:g} s or less: save a part of them, or the continuous recording."
            )
        return None, len(recording.segments)
    onsets = EXTRACTOR.window_onsets(recording)
    return (None if len(onsets) <= most else onsets[:most]), len(onsets)


def read_masked(
    recording: Recording, report: ChannelReport, onsets: np.ndarray, seconds: float
) -> dict[int, np.ndarray]:
    """The windows of masked outputs as they were recorded, at the model's rate, around zero."""
    samples, signals = round(seconds * EXTRACTOR.sampling_rate), {}
    for place, row in enumerate(report.channels):
        if not row.masked or any(source.number is None for source in row.sources):
            continue
        numbers = [source.number for source in row.sources]
        if recording.in_pieces:
            values = recording.read_pieces(numbers)
        else:
            values = np.stack([read_window(recording, numbers, onset, seconds) for onset in onsets])
        signs = np.array([source.sign for source in row.sources])
        values = np.einsum("c,bct->bt", signs, np.nan_to_num(values))
        values = values - values.mean(axis=-1, keepdims=True)
        signals[place] = resample(values, samples, axis=-1)
    return signals


def read_window(recording: Recording, numbers: list[int], onset: float, seconds: float) -> np.ndarray:
    """One window of some channels, microvolts `[channels, samples]`."""
    segment = recording.segments[recording.segment_of(onset, seconds)]
    samples = round(seconds * recording.sampling_rate)
    start = min(segment.start + round((onset - segment.onset) * recording.sampling_rate), segment.stop - samples)
    return recording.read(numbers, max(start, segment.start), max(start, segment.start) + samples)


@torch.no_grad()
def hide_and_refill(look: Look, window: int, share: float) -> Refilled:
    """
    Hides stretches of a quarter of a second in every good channel of a window, and fills them.

    Args:
        window: its number, from 0.
        share: of the samples, 0 to 1.
    """
    batch = {name: torch.as_tensor(array[window : window + 1]) for name, array in look.windows.items()}
    truth, good = batch["input_values"], batch["channel_mask"][0].numpy()
    hidden = select_random_spans(truth[0].numpy(), share, np.random.default_rng(0)) & good[:, None]
    batch["hidden_positions"] = torch.as_tensor(hidden[None])
    visible = ~batch["hidden_positions"] & batch["channel_mask"][..., None]
    filled = {
        "this model": FILLER(**batch).reconstruction,
        "straight line": fill_linear(truth, visible),
        "channel's mean": fill_channel_mean(truth, visible),
    }
    at = batch["hidden_positions"]
    errors = {name: (((values - truth)[at] ** 2).mean() / truth[at].var()).item() for name, values in filled.items()}
    return Refilled(truth[0].numpy(), filled["this model"][0].numpy(), hidden, errors)


def name_of(checkpoint: str) -> str:
    """What a classifier tells, from the names of its classes: `"eyes closed or eyes open"`."""
    return " or ".join(CLASSIFIERS[checkpoint].model.config.id2label.values()).replace("_", " ")


def caution_of(checkpoint: str) -> str:
    """Score and limits, as the checkpoint's card has them."""
    card = ModelCard.load(HUB / checkpoint / "README.md")
    score = card.data.eval_results[0]
    limits = card.text.split("## Limits")[1].strip().split("\n")[0]
    return f"Balanced accuracy {score.metric_value:.2f} on {score.dataset_name}; guessing has 0.50. {limits}"
