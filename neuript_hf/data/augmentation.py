"""
Windows of prepared data sets for pre-training, each changed a little at random, so that the hours at hand teach more:
other parts of the recording, fewer channels, other references, louder or quieter.

What is drawn for a window follows from the seed, the epoch and the window's place in the epoch alone: not from the
order of reading, the number of workers, or the process.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from scipy.spatial.distance import cdist
from torch.utils.data import ConcatDataset

from ..channel_names import is_pair
from ..electrodes import positions_of
from ..feature_extraction_neuript import NeurIPTFeatureExtractor, a_law_compress
from .shards import EEGShardDataset, RecordingOutcome, read_outcomes, read_settings


# How a window may be referenced, in the order of the codes below.
REFERENCES = ("as_recorded", "average_reference", "bipolar")
AS_RECORDED, AVERAGE, BIPOLAR = range(3)
# An electrode is paired with one of so many others, those next to it.
NEIGHBOURS = 3
# What windows of several data sets must share, so that one model can take them.
COMMON_SETTINGS = ("sampling_rate", "companding", "companding_a", "coordinate_frame", "num_lobes")
# What a window says of each of its channels.
CHANNEL_ENTRIES = ("input_values", "electrode_positions", "lobe_mask", "channel_mask")
# How the channel report ends its line on electrodes that were recorded against different references.
SEVERAL_REFERENCES = "no pair is derived across them"
# Each draws from a generator of its own.
EPOCH, WINDOW, ORDER = 1, 2, 3


@dataclass
class ElectrodePairs:
    """
    Pairs of neighbouring electrodes.

    Args:
        first, second: numbers of the electrodes of each pair, `[P]`.
        of_electrode: numbers of the pairs of each electrode with the ones next to it, `[C, K]`.
        electrode_positions, lobe_mask: `[P, 3]` and `[P, num_lobes]`, of the points halfway between.
    """

    first: np.ndarray
    second: np.ndarray
    of_electrode: np.ndarray
    electrode_positions: np.ndarray
    lobe_mask: np.ndarray


def neighbouring_pairs(channel_names: Sequence[str], extractor: NeurIPTFeatureExtractor) -> ElectrodePairs:
    """
    The pairs of each electrode with the (at most three) ones next to it. As in clinical montages, the electrode in
    front comes first, and where neither is in front, the left one.

    Args:
        channel_names: two electrodes or more, in the tables' spelling.
        extractor: says what models have to know about channels.

    Raises:
        ValueError: where the extractor's montage has lobes for its own channels only.
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
    """The front one first; in one row, which may be bent, the left one."""
    to_the_right, to_the_front = (places[other] - places[one])[:2]
    in_one_row = abs(to_the_front) < abs(to_the_right) / 2
    ordered = to_the_right > 0 if in_one_row else to_the_front < 0
    return (one, other) if ordered else (other, one)


@dataclass
class _Epoch:
    """
    What an epoch consists of.

    Args:
        number: the epoch's.
        windows: which window stands at each place, `[N]`.
        references: how it is referenced, a number in REFERENCES, `[N]`.
        samples: how long it will be, `[N]`.
    """

    number: int
    windows: np.ndarray
    references: np.ndarray
    samples: np.ndarray


class PreTrainingWindows(torch.utils.data.Dataset):
    """
    The windows of one or more prepared data sets, changed at random; by default they are as [`EEGShardDataset`] gives
    them, which also says what a window holds.

    Changes come in this order: a part of the window (`time_shift`, `seconds`), its reference (`montages`), some of its
    channels (`max_channels`), its amplitude (`amplitude_jitter`). The last three work on microvolts.

    Args:
        folders: what [`prepare_dataset`] wrote, one folder or several.
        split: `"train"`, `"validation"` or `"test"`; data sets without such people are left out.
        seed: of everything that is drawn.
        max_channels: a window gets so many channels at most, drawn from its good ones; `None` = it keeps all.
        montages: shares of the windows that are left `"as_recorded"`, that get the `"average_reference"` (the mean of
            the good channels taken off), and that become `"bipolar"` (each good electrode with one of the three next
            to it, first minus second; places and lobes of the points halfway between). Recordings of pairs, and those
            with several references, stay as they are. Default: all as recorded.
        seconds: lengths to draw from, each as likely as the others; a shorter window is whole. Default: whole windows.
        time_shift: windows begin anywhere in the recording, and not only where they were cut: their end then comes
            from the window that follows without a gap. Where none does, the part stays within the window.
        amplitude_jitter: each window is made louder or quieter by a factor of up to this, log-uniform; 1 = not at all.
        balance: an epoch draws from each set (the name in front of the person) in proportion to its number of windows
            to this power: 1 = every window once; 0 = all sets alike, where large ones are thinned out, differently in
            each epoch, and small ones repeated.

    Attributes:
        extractor: the feature extractor of the first data set, which inverts the companding of all.

    Raises:
        FileNotFoundError: where a folder is no data set.
        ValueError: where an argument can't be, no data set has the split, or data sets differ in rate, companding,
            coordinates or number of lobes.
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
        # in shared memory, so that workers that outlive an epoch hear of the next one
        self._epoch = torch.zeros((), dtype=torch.int64).share_memory_()
        self._planned: _Epoch | None = None

    def _describe(self, recordings: list[tuple]) -> None:
        """What has to be known of each window before it is read: set, size, and what may become of its channels."""
        counts = [row.windows for row, _ in recordings]
        self._channels = np.repeat([row.channels for row, _ in recordings], counts)
        self._samples = np.repeat([row.samples for row, _ in recordings], counts)
        self._sets = np.repeat([row.subject.partition("/")[0] for row, _ in recordings], counts)
        # -1 = the reference stays; otherwise the number of the recording's electrodes among those of all
        known: dict[tuple[str, ...], int] = {}
        electrodes = [
            known.setdefault(tuple(outcome.channels), len(known)) if _has_one_reference(outcome) else -1
            for _, outcome in recordings
        ]
        self._electrodes = np.repeat(electrodes, counts)
        self._pairs = [neighbouring_pairs(names, self.extractor) for names in known] if self.shares[BIPOLAR] else []

    @property
    def epoch(self) -> int:
        """The epoch that windows are drawn for."""
        return int(self._epoch)

    def set_epoch(self, epoch: int) -> None:
        """Windows differ from epoch to epoch; [`NeurIPTTrainer`] calls this."""
        self._epoch.fill_(epoch)

    def __len__(self) -> int:
        return len(self.windows)

    @property
    def sizes(self) -> np.ndarray:
        """Channels and samples that each window of the epoch has at most, `[N, 2]`."""
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
        return window | {"input_values": self._compress(window["input_values"] * np.float32(gain))}

    def _plan(self) -> _Epoch:
        """The present epoch, planned when it is first asked for."""
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
        """Numbers of windows, as many as there are; of each set every one as often as every other, or once more."""
        if self.balance == 1:
            return np.arange(len(self))
        _, of_window, counts = np.unique(self._sets, return_inverse=True, return_counts=True)
        weights = counts.astype(float) ** self.balance
        # rounded at the borders between sets, so that they add up
        borders = np.rint(np.cumsum(weights / weights.sum()) * len(self)).astype(int)
        drawn = []
        for number, wanted in enumerate(np.diff(borders, prepend=0)):
            members = np.flatnonzero(of_window == number)
            times, rest = divmod(wanted, len(members))
            drawn += [np.tile(members, times), generator.permutation(members)[:rest]]
        return np.concatenate(drawn)

    def _part(self, number: int, samples: int, generator: np.random.Generator) -> dict:
        """A window, or so many samples of it and of the one behind it."""
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
        """A window with the one that follows it, if one does."""
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

    def _compress(self, microvolts: np.ndarray) -> np.ndarray:
        companded = self.extractor.companding is not None
        return a_law_compress(microvolts, self.extractor.companding_a) if companded else microvolts


def _bipolar(
    window: dict, microvolts: np.ndarray, pairs: ElectrodePairs, generator: np.random.Generator
) -> tuple[dict, np.ndarray]:
    """
    Each electrode with one of those next to it, each pair once, where both are good; the pairs' microvolts. A window
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
    """Whether a recording is of electrodes, two or more, against one reference, so that differences mean something."""
    differ = any(step.endswith(SEVERAL_REFERENCES) for step in outcome.report["steps"])
    return len(outcome.channels) >= 2 and not differ and not any(map(is_pair, outcome.channels))


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
    """The first data set's; the others have to agree in what decides the windows' numbers."""
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
    A random order in which windows of one batch are of similar size, so that little of a batch is padding: within
    large random pools, windows are sorted by size, cut into batches, and the batches are shuffled.

    A batch then holds windows of few data sets. The order follows from the seed and the epoch of the windows alone; on
    several processes all make the same order, and each takes its own batches of it. The epoch is that of the windows:
    accelerate, when it skips batches after a resume on several processes, tells it to the data set but not to the
    sampler.

    Args:
        windows: what to draw from.
        batch_size: of the batches that will be cut from this order.
        seed: of the order.
        pool_batches: batches in a pool.

    Raises:
        ValueError: where a batch or a pool would be empty.
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
            # what fills no batch goes last, so that all other batches are cut where they are made
            whole = len(pool) // self.batch_size * self.batch_size
            batches = pool[:whole].reshape(-1, self.batch_size)
            yield from generator.permutation(batches).ravel().tolist()
            yield from pool[whole:].tolist()


__all__ = ["ElectrodePairs", "PreTrainingWindows", "SimilarWindowsSampler", "neighbouring_pairs"]
