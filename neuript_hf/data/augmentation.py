"""
Random changes to the windows of prepared data sets, so that pre-training gets more out of the same hours: other parts
of the recording, fewer channels, other references, louder or quieter.

What is drawn for a window depends only on the seed, the epoch and the window's place in it, and not on the order of
reading, the number of workers, or the process.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from scipy.spatial.distance import cdist
from torch.utils.data import ConcatDataset

from ..channel_names import is_pair
from ..channels import ChannelReport
from ..electrodes import positions_of
from ..feature_extraction_neuript import NeurIPTFeatureExtractor
from .shards import EEGShardDataset, RecordingOutcome, read_outcomes, read_settings


# The references that a window may have, in the order of the codes below.
REFERENCES = ("as_recorded", "average_reference", "bipolar")
AS_RECORDED, AVERAGE, BIPOLAR = range(3)
# An electrode is paired with one of this many nearest others.
NEIGHBOURS = 3
# Settings that data sets must share, so that one model can take windows of all.
COMMON_SETTINGS = ("sampling_rate", "companding", "companding_a", "coordinate_frame", "num_lobes")
# The entries of a window with one row for each channel.
CHANNEL_ENTRIES = ("input_values", "electrode_positions", "lobe_mask", "channel_mask")
# Each draws from a generator of its own.
EPOCH, WINDOW, ORDER = 1, 2, 3


@dataclass
class ElectrodePairs:
    """
    Pairs of neighbouring electrodes.

    Args:
        first, second: numbers of the electrodes of each pair, `[P]`.
        of_electrode: numbers of the pairs of each electrode with its neighbours, `[C, K]`.
        electrode_positions, lobe_mask: `[P, 3]` and `[P, num_lobes]`, at the midpoints.
    """

    first: np.ndarray
    second: np.ndarray
    of_electrode: np.ndarray
    electrode_positions: np.ndarray
    lobe_mask: np.ndarray


def neighbouring_pairs(channel_names: Sequence[str], extractor: NeurIPTFeatureExtractor) -> ElectrodePairs:
    """
    The pairs of each electrode with its nearest neighbours, at most three. As in clinical montages, the frontal
    electrode comes first, or, in one row, the left one.

    Args:
        channel_names: two electrodes or more, as the tables spell them.
        extractor: knows the positions and lobes of the pairs.

    Raises:
        ValueError: if the extractor's montage has lobes for its own channels only.
    """
    places = positions_of(channel_names)
    distances = cdist(places, places)
    np.fill_diagonal(distances, np.inf)
    neighbours = distances.argsort(axis=1, kind="stable")[:, : min(NEIGHBOURS, len(places) - 1)]
    numbers: dict[tuple[int, int], int] = {}
    of_electrode = np.empty(neighbours.shape, dtype=int)
    for (electrode, column), neighbour in np.ndenumerate(neighbours):
        pair = _in_order(electrode, int(neighbour), places)
        of_electrode[electrode, column] = numbers.setdefault(pair, len(numbers))
    first, second = np.array(list(numbers)).T
    features = extractor.channel_features([f"{channel_names[a]}-{channel_names[b]}" for a, b in numbers])
    return ElectrodePairs(first, second, of_electrode, **features)


def _in_order(one: int, other: int, places: np.ndarray) -> tuple[int, int]:
    """The frontal one first or, in one row, which may be bent, the left one."""
    to_the_right, to_the_front = (places[other] - places[one])[:2]
    in_one_row = abs(to_the_front) < abs(to_the_right) / 2
    ordered = to_the_right > 0 if in_one_row else to_the_front < 0
    return (one, other) if ordered else (other, one)


@dataclass
class _Epoch:
    """
    The windows of an epoch.

    Args:
        number: the epoch's.
        windows: the number of the window at each place, `[N]`.
        references: its reference, a number in REFERENCES, `[N]`.
        samples: its length, `[N]`.
    """

    number: int
    windows: np.ndarray
    references: np.ndarray
    samples: np.ndarray


class PreTrainingWindows(torch.utils.data.Dataset):
    """
    The windows of one or more prepared data sets, changed at random. By default they are those of
    [`EEGShardDataset`], which describes their entries.

    The order of changes: a part of the window (`time_shift`, `seconds`), its reference (`montages`), some of its
    channels (`max_channels`), its amplitude (`amplitude_jitter`). The last three work on microvolts.

    Args:
        folders: one or more folders that [`prepare_dataset`] wrote.
        split: `"train"`, `"validation"` or `"test"`; data sets without it are left out.
        seed: of everything that is drawn.
        max_channels: most channels of a window, drawn from its good ones; `None` = all channels.
        montages: shares of the windows that stay `"as_recorded"`, that get the `"average_reference"` (the mean of the
            good channels is subtracted), and that become `"bipolar"` (each good electrode with one of its three
            nearest neighbours, first minus second; positions and lobes of the midpoints). Recordings of pairs, and
            those with several references, stay as they are. Default: all as recorded.
        seconds: lengths to draw from with equal probability; shorter windows stay whole. Default: whole windows.
        time_shift: windows begin anywhere in the recording instead of only where they were cut; their end then comes
            from the next window. If none follows without a gap, the part stays within the window.
        amplitude_jitter: each window is scaled by a log-uniform factor between this and its inverse; 1 = unchanged.
        balance: an epoch draws from each set (the name before the person's) in proportion to its number of windows to
            this power. 1 = every window once; 0 = all sets equally, so that large ones are subsampled, differently in
            each epoch, and small ones repeated.

    Attributes:
        extractor: the feature extractor of the first data set, which inverts the companding of all.

    Raises:
        FileNotFoundError: if a folder is not a data set.
        ValueError: for an impossible argument, if no data set has the split, or if data sets differ in rate,
            companding, coordinates or number of lobes.
    """

    def __init__(
        self,
        folders: str | Path | Sequence[str | Path],
        split: str = "train",
        *,
        seed: int = 0,
        max_channels: int | None = None,
        montages: Mapping[str, float] | None = None,
        seconds: Sequence[float] = (),
        time_shift: bool = False,
        amplitude_jitter: float = 1.0,
        balance: float = 1.0,
    ):
        folders = [folders] if isinstance(folders, str | Path) else list(folders)
        self.shares = _shares(montages or {"as_recorded": 1.0})
        _check_arguments(folders, max_channels, seconds, amplitude_jitter)
        self.seed = seed
        self.max_channels = max_channels
        self.seconds = list(seconds)
        self.time_shift = time_shift
        self.amplitude_jitter = amplitude_jitter
        self.balance = balance
        self.extractor = _common_extractor(folders)

        outcomes = {folder: {outcome.recording: outcome for outcome in read_outcomes(folder)} for folder in folders}
        parts = {
            folder: EEGShardDataset(folder, split)
            for folder in folders
            if any(outcome.split == split and outcome.windows_kept for outcome in outcomes[folder].values())
        }
        if not parts:
            raise ValueError(f"No recording of {', '.join(map(str, folders))} is in the split {split!r}.")
        self.windows = ConcatDataset(parts.values())
        recordings = [
            (row, outcomes[folder][row.recording])
            for folder, part in parts.items()
            for row in part.recordings.itertuples()
        ]
        self._describe(recordings)
        # in shared memory, so that workers that outlive an epoch see the next one
        self._epoch = torch.zeros((), dtype=torch.int64).share_memory_()
        self._planned: _Epoch | None = None

    def _describe(self, recordings: list[tuple]) -> None:
        """What must be known of each window before it is read: its set, its size, and its possible references."""
        counts = [row.windows for row, _ in recordings]
        self._channels = np.repeat([row.channels for row, _ in recordings], counts)
        self._samples = np.repeat([row.samples for row, _ in recordings], counts)
        self._sets = np.repeat([row.subject.partition("/")[0] for row, _ in recordings], counts)
        # -1 = the reference stays; otherwise the number of the recording's set of electrodes
        known: dict[tuple[str, ...], int] = {}
        electrodes = [
            known.setdefault(tuple(outcome.channels), len(known)) if _has_one_reference(outcome) else -1
            for _, outcome in recordings
        ]
        self._electrodes = np.repeat(electrodes, counts)
        self._pairs = [neighbouring_pairs(names, self.extractor) for names in known] if self.shares[BIPOLAR] else []

    @property
    def epoch(self) -> int:
        """The epoch for which windows are drawn."""
        return int(self._epoch)

    def set_epoch(self, epoch: int) -> None:
        """Windows differ from epoch to epoch; [`NeurIPTTrainer`] calls this."""
        self._epoch.fill_(epoch)

    def __len__(self) -> int:
        return len(self.windows)

    @property
    def sizes(self) -> np.ndarray:
        """Most channels and samples of each window of the epoch, `[N, 2]`."""
        plan = self._plan()
        channels = self._channels[plan.windows]
        if self.max_channels is not None:
            channels = np.minimum(channels, self.max_channels)
        return np.stack([channels, plan.samples], axis=1)

    def __getitem__(self, index: int) -> dict:
        index = range(len(self))[index]
        plan = self._plan()
        generator = np.random.default_rng([self.seed, plan.number, WINDOW, index])
        number = int(plan.windows[index])
        window = self._part(number, int(plan.samples[index]), generator)
        reference = plan.references[index] if window["channel_mask"].sum() >= 2 else AS_RECORDED
        gain = self.amplitude_jitter ** generator.uniform(-1, 1)
        if reference == AS_RECORDED and gain == 1:
            return self._some_channels(window, generator)

        microvolts = self.extractor.invert(window["input_values"])
        if reference == AVERAGE:
            good = window["channel_mask"]
            microvolts[good] -= microvolts[good].mean(axis=0)
        elif reference == BIPOLAR:
            window, microvolts = _bipolar(window, microvolts, self._pairs[self._electrodes[number]], generator)
        window = self._some_channels(window | {"input_values": microvolts}, generator)
        return window | {"input_values": self.extractor.compress(window["input_values"] * np.float32(gain))}

    def _plan(self) -> _Epoch:
        """The current epoch, planned on first use."""
        if self._planned is None or self._planned.number != self.epoch:
            generator = np.random.default_rng([self.seed, self.epoch, EPOCH])
            windows = self._draw_windows(generator)
            references = generator.choice(len(REFERENCES), len(windows), p=self.shares)
            references[self._electrodes[windows] < 0] = AS_RECORDED
            samples = self._samples[windows]
            if self.seconds:
                lengths = np.rint(np.array(self.seconds) * self.extractor.sampling_rate).astype(int)
                samples = np.minimum(samples, generator.choice(lengths, len(windows)))
            self._planned = _Epoch(self.epoch, windows, references, samples)
        return self._planned

    def _draw_windows(self, generator: np.random.Generator) -> np.ndarray:
        """As many numbers of windows as there are; within a set each occurs equally often, or once more."""
        if self.balance == 1:
            return np.arange(len(self))
        _, of_window, counts = np.unique(self._sets, return_inverse=True, return_counts=True)
        weights = counts.astype(float) ** self.balance
        # rounding the borders between sets keeps the sum
        borders = np.rint(np.cumsum(weights / weights.sum()) * len(self)).astype(int)
        drawn = []
        for number, wanted in enumerate(np.diff(borders, prepend=0)):
            members = np.flatnonzero(of_window == number)
            times, rest = divmod(wanted, len(members))
            drawn += [np.tile(members, times), generator.permutation(members)[:rest]]
        return np.concatenate(drawn)

    def _part(self, number: int, samples: int, generator: np.random.Generator) -> dict:
        """A window, or `samples` consecutive samples of it and of the next one."""
        window = self.windows[number]
        length = window["input_values"].shape[-1]
        if samples == length and not self.time_shift:
            return window
        place = generator.random()
        start = int(place * (length - samples + 1))
        if self.time_shift:
            anywhere = int(place * length)
            if anywhere + samples <= length:
                start = anywhere
            elif (joined := self._joined(window, number)) is not None:
                window, start = joined, anywhere
        return window | {
            "input_values": window["input_values"][:, start : start + samples],
            "onset": window["onset"] + start / self.extractor.sampling_rate,
        }

    def _joined(self, window: dict, number: int) -> dict | None:
        """A window joined with the one that follows it, if one does."""
        after = self.windows[number + 1] if number + 1 < len(self) else {"follows": False}
        if not after["follows"]:
            return None
        return window | {
            "input_values": np.concatenate([window["input_values"], after["input_values"]], axis=1),
            "channel_mask": window["channel_mask"] & after["channel_mask"],
        }

    def _some_channels(self, window: dict, generator: np.random.Generator) -> dict:
        """At most `max_channels` good channels, in their order."""
        if self.max_channels is None:
            return window
        good = np.flatnonzero(window["channel_mask"])
        if len(good) > self.max_channels:
            good = np.sort(generator.choice(good, self.max_channels, replace=False))
        return window | {name: window[name][good] for name in CHANNEL_ENTRIES}


def _bipolar(
    window: dict, microvolts: np.ndarray, pairs: ElectrodePairs, generator: np.random.Generator
) -> tuple[dict, np.ndarray]:
    """
    Each electrode with one of its neighbours, each pair once, if both are good; and the pairs' microvolts. A window
    whose good electrodes all drew bad ones stays as it is.
    """
    good = window["channel_mask"]
    columns = generator.integers(pairs.of_electrode.shape[1], size=len(good))
    chosen = np.unique(pairs.of_electrode[np.arange(len(good)), columns])
    first, second = pairs.first[chosen], pairs.second[chosen]
    both = good[first] & good[second]
    if not both.any():
        return window, microvolts
    chosen, first, second = chosen[both], first[both], second[both]
    window = window | {
        "electrode_positions": pairs.electrode_positions[chosen],
        "lobe_mask": pairs.lobe_mask[chosen],
        "channel_mask": np.ones(len(chosen), dtype=bool),
    }
    return window, microvolts[first] - microvolts[second]


def _has_one_reference(outcome: RecordingOutcome) -> bool:
    """Whether a recording has two or more electrodes, all against one reference, so that differences make sense."""
    electrodes = len(outcome.channels) >= 2 and not any(map(is_pair, outcome.channels))
    return electrodes and ChannelReport.from_dict(outcome.report).one_reference


def _shares(montages: Mapping[str, float]) -> np.ndarray:
    """Probabilities in the order of REFERENCES."""
    unknown = sorted(set(montages) - set(REFERENCES))
    if unknown:
        raise ValueError(f"montages must name {', '.join(REFERENCES)}, but names {', '.join(unknown)}.")
    shares = np.array([montages.get(name, 0.0) for name in REFERENCES], dtype=float)
    if not (shares >= 0).all() or not 0 < shares.sum() < np.inf:
        raise ValueError(f"The shares of montages must be zero or positive, and not all zero, but are {montages}.")
    return shares / shares.sum()


def _check_arguments(
    folders: list, max_channels: int | None, seconds: Sequence[float], amplitude_jitter: float
) -> None:
    if not folders:
        raise ValueError("Expected at least one prepared data set, got no folder.")
    if max_channels is not None and max_channels < 1:
        raise ValueError(f"max_channels must be at least 1, but is {max_channels}.")
    if not all(0 < length < np.inf for length in seconds):
        raise ValueError(f"seconds must be positive, but are {list(seconds)}.")
    if not 1 <= amplitude_jitter < np.inf:
        raise ValueError(f"amplitude_jitter is the largest factor, at least 1, but is {amplitude_jitter}.")


def _common_extractor(folders: list) -> NeurIPTFeatureExtractor:
    """The first data set's; the others must agree in everything that affects the values of windows."""
    extractors = [NeurIPTFeatureExtractor.from_dict(read_settings(folder)["extractor"]) for folder in folders]
    for folder, extractor in zip(folders[1:], extractors[1:], strict=True):
        for name in COMMON_SETTINGS:
            ours, theirs = getattr(extractors[0], name), getattr(extractor, name)
            if ours != theirs:
                raise ValueError(
                    f"The windows of {folders[0]} and {folder} differ in {name}: {ours!r} and {theirs!r}. Prepare "
                    "them with extractors that agree."
                )
    return extractors[0]


class SimilarWindowsSampler(torch.utils.data.Sampler[int]):
    """
    A random order in which the windows of a batch have similar sizes, so that little of a batch is padding: within
    large random pools, windows are sorted by size, cut into batches, and the batches are shuffled.

    A batch then contains windows of few data sets. The order depends only on the seed and the epoch of the windows;
    all processes compute the same order, and each takes its own batches of it. The epoch is that of the windows,
    because accelerate, when it skips batches after a resume on several processes, sets it on the data set but not on
    the sampler.

    Args:
        windows: to draw from.
        batch_size: of the batches that will be cut from this order.
        seed: of the order.
        pool_batches: batches in a pool.

    Raises:
        ValueError: if a batch or a pool would be empty.
    """

    def __init__(self, windows: PreTrainingWindows, batch_size: int, seed: int = 0, pool_batches: int = 50):
        if batch_size < 1 or pool_batches < 1:
            raise ValueError(
                f"batch_size and pool_batches must be at least 1, but are {batch_size} and {pool_batches}."
            )
        self.windows = windows
        self.batch_size = batch_size
        self.seed = seed
        self.pool_batches = pool_batches

    def set_epoch(self, epoch: int) -> None:
        """Sets the epoch of the windows."""
        self.windows.set_epoch(epoch)

    def __len__(self) -> int:
        return len(self.windows)

    def __iter__(self) -> Iterator[int]:
        generator = np.random.default_rng([self.seed, self.windows.epoch, ORDER])
        channels, samples = self.windows.sizes.T
        order = generator.permutation(len(self))
        for start in range(0, len(order), self.pool_batches * self.batch_size):
            pool = order[start : start + self.pool_batches * self.batch_size]
            pool = pool[np.lexsort((channels[pool], samples[pool]))]
            # an incomplete batch goes last, so that the loader cuts all others where they are cut here
            whole = len(pool) // self.batch_size * self.batch_size
            batches = pool[:whole].reshape(-1, self.batch_size)
            yield from generator.permutation(batches).ravel().tolist()
            yield from pool[whole:].tolist()


__all__ = ["ElectrodePairs", "PreTrainingWindows", "SimilarWindowsSampler", "neighbouring_pairs"]
