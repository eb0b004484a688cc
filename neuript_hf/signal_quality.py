"""
What is wrong with a channel, judged on the signal as recorded: a filter hides a rail, makes a dead channel look quiet
and spreads a NaN.

The limits were set on real recordings. They tolerate what a band-pass to 30 Hz repairs: drift, offsets, mains that all
channels share. In 548 recordings of eight public data sets they mask three channels, each above 100 microvolts among
others of 10.
"""

import zlib
from collections import Counter

import numpy as np

from .channels import MIN_ELECTRODES_TO_INTERPOLATE, ChannelPlan, ChannelReport
from .recordings import Recording
from .units import MICROVOLTS


# In microvolts. A million volts is as broken as infinity, and its square overflows.
ABSURD = 1e12
# Range of a typical channel's standard deviation within a second, in microvolts; a wrong unit is off by a thousand.
PLAUSIBLE_AMPLITUDE = (0.2, 2000.0)
# A channel whose largest and smallest values are closer than this, in microvolts, is flat.
FLAT_RANGE = 0.01
# A channel that typically varies by less than this within a second, in microvolts, shows only the amplifier's noise.
DEAD_AMPLITUDE = 0.1
# A floating input drifts to the amplifier's rail; electrodes on skin stay well below this, in microvolts.
DISCONNECTED_OFFSET = 100_000.0
# Share and least number of samples at the largest or smallest value if the amplifier or the file clips.
CLIPPED_SHARE = 0.02
CLIPPED_SAMPLES = 20
# All channels at once keep their values for so many seconds only where samples were lost.
HELD_SECONDS = 0.25
# Mains in one channel alone: this share of its power, this many times the others', and this many microvolts.
MAINS_SHARE, MAINS_RATIO, MAINS_AMPLITUDE = 0.8, 10.0, 100.0
# A channel that varies this many times more than the median channel, and by this many microvolts, is noise.
NOISE_RATIO, NOISE_AMPLITUDE = 7.0, 100.0
# Noise is broadband if its power density at 30 to 45 Hz is more than this share of that at 2 to 15 Hz; EEG falls off.
BROADBAND_RATIO = 0.3
MAINS_FREQUENCIES = (50.0, 60.0)
# Spectra and spreads come from at most this many seconds of each block.
SECONDS_OF_BLOCK = 20


class SignalSurvey:
    """
    Collects what it takes to judge channels while a recording is read block by block.

    Args:
        pieces: 1 for a continuous recording; epochs are judged one by one.
        channels: their number.
        rate: in hertz.
    """

    def __init__(self, pieces: int, channels: int, rate: float):
        shape = (pieces, channels)
        self.rate = rate
        self.samples = 0
        self.filled = self.held = 0
        self.finite = np.ones(shape, dtype=bool)
        self.total = np.zeros(shape)
        self.extremes = np.full((2, *shape), -np.inf)  # of the signal, and of the signal turned around
        self.at_extremes = np.zeros((2, *shape), dtype=int)
        self.checksums = np.zeros(shape, dtype=np.int64)
        self.spreads: list[np.ndarray] = []  # each [pieces, channels, seconds]
        self.powers: list[np.ndarray] = []  # each [3, pieces, channels, seconds]

    def add(self, block: np.ndarray, bad: np.ndarray | None = None) -> None:
        """
        The next samples, `[pieces, channels, T]` in microvolts; as in [`SignalSurvey.clean`].

        Args:
            block: the samples.
            bad: bool `[T]`, samples that someone marked as bad: they are not judged.
        """
        if bad is not None and bad.any():
            if not bad.all():
                self.add(block[..., ~bad])
            return
        self.clean(block)
        self.samples += block.shape[-1]
        # zeros in all channels at once are padding of the file, neither signal nor rail
        filled = (block == 0).all(1, keepdims=True) & (block.shape[1] > 1)
        self.filled += filled.sum()
        self.held += self._held(block)
        self.total += block.sum(-1)
        for side, values in enumerate((block.max(-1), -block.min(-1))):
            # only consecutive ones count: a sine returns to its largest value, too, but leaves it at once
            there = (block == (values if side == 0 else -values)[..., None]) & ~filled
            count = (there[..., 1:] & there[..., :-1]).sum(-1)
            known = self.extremes[side]
            self.at_extremes[side] = np.where(
                values > known, count, self.at_extremes[side] + count * (values == known)
            )
            self.extremes[side] = np.maximum(values, known)
        for piece, channel in np.ndindex(self.checksums.shape):
            self.checksums[piece, channel] = zlib.crc32(
                block[piece, channel].tobytes(), self.checksums[piece, channel]
            )
        self._add_seconds(block)

    def clean(self, block: np.ndarray) -> None:
        """Sets samples `[pieces, channels, T]` that are not finite to zero, in place, and notes their channels."""
        finite = np.abs(block) < ABSURD  # false for NaN too
        if not finite.all():
            self.finite &= finite.all(-1)
            block[~finite] = 0.0

    def _held(self, block: np.ndarray) -> int:
        """Samples in which no channel differs from the one before for long, but for zeros: a value that was held."""
        still = (np.diff(block) == 0).all(1) & (block[..., 1:] != 0).any(1) & (block.shape[1] > 1)
        edges = np.diff(still.astype(int), prepend=0, append=0)
        runs = np.nonzero(edges < 0)[1] - np.nonzero(edges > 0)[1]
        return int(runs[runs >= HELD_SECONDS * self.rate].sum())

    def _add_seconds(self, block: np.ndarray) -> None:
        """Spread and spectrum of some seconds."""
        length = min(block.shape[-1], max(2, round(self.rate)))
        count = block.shape[-1] // length
        chosen = np.unique(np.linspace(0, count - 1, min(count, SECONDS_OF_BLOCK)).astype(int))
        seconds = block[..., : count * length].reshape(*block.shape[:2], count, length)[:, :, chosen]
        low, high = np.percentile(seconds, [25, 75], axis=-1)
        self.spreads.append((high - low) / 1.349)
        window = np.hanning(length)
        spectrum = np.abs(np.fft.rfft((seconds - seconds.mean(-1, keepdims=True)) * window)) ** 2
        spectrum *= 2 / (window**2).sum() / length
        frequencies = np.fft.rfftfreq(length, 1 / self.rate)

        def power(low: float, high: float) -> np.ndarray:
            return spectrum[..., (frequencies >= low) & (frequencies <= high)].sum(-1)

        mains = np.max([power(f - 1.01, f + 1.01) for f in MAINS_FREQUENCIES], axis=0)
        density = [power(*band) / (band[1] - band[0]) for band in ((30, min(45, 0.45 * self.rate)), (2, 15))]
        self.powers.append(np.stack([mains, power(1.0, self.rate), density[0] / np.maximum(density[1], 1e-12)]))

    @property
    def spread(self) -> np.ndarray:
        """Median of the robust standard deviation within a second, `[pieces, channels]` in microvolts."""
        return np.median(np.concatenate(self.spreads, axis=-1), axis=-1)

    @property
    def flat(self) -> np.ndarray:
        """Channels that do not vary, bool `[pieces, channels]`."""
        return self.extremes.sum(0) < FLAT_RANGE

    @property
    def silent(self) -> np.ndarray:
        """Channels that are constant or not finite, bool `[pieces, channels]`."""
        return ~self.finite | (self.extremes.sum(0) == 0)

    def typical_amplitude(self) -> float:
        """Spread of the median channel within a second, in microvolts; 0 if there is no good one."""
        good = self.spread[~self.silent]
        return float(np.median(good)) if good.size else 0.0

    def faults(self, compared: int | None = None) -> np.ndarray:
        """
        Why each channel is bad, text `[pieces, channels]`, empty for good ones; the plainest reason counts.

        Args:
            compared: how many channels, from the first, are also compared with each other; all by default.
        """
        spread, offset = self.spread, self.total / max(self.samples, 1)
        mains, power, slope = np.median(np.concatenate(self.powers, axis=-1), axis=-1)
        mains_amplitude = np.sqrt(mains)
        clipped = self.at_extremes.max(0)
        plain = [
            (~self.finite, "NaN or infinite"),
            (self.flat, "flat"),
            (np.abs(offset) > DISCONNECTED_OFFSET, "disconnected (offset above 100 mV)"),
            ((clipped > CLIPPED_SAMPLES) & (clipped > CLIPPED_SHARE * self.samples), "clipped"),
            (spread < DEAD_AMPLITUDE, "dead (varies by less than 0.1 microvolt)"),
        ]
        others_known = np.arange(spread.shape[1]) < (spread.shape[1] if compared is None else compared)
        sound = ~np.any([bad for bad, _ in plain], axis=0) & others_known
        others, other_mains = (_median_of(values, sound) for values in (spread, mains_amplitude))
        # a median of two says nothing about either, and less than a second nothing about noise
        with_others = (sound.sum(-1, keepdims=True) >= 3) & others_known & (self.samples >= round(self.rate))
        noise = with_others & (spread > NOISE_RATIO * others) & (spread > NOISE_AMPLITUDE)
        faults = plain + [
            (
                with_others
                & (mains > MAINS_SHARE * power)
                & (mains_amplitude > MAINS_RATIO * other_mains)
                & (mains_amplitude > MAINS_AMPLITUDE),
                "mains (50 or 60 Hz, in this channel alone)",
            ),
            (noise & (slope > BROADBAND_RATIO), "broadband noise"),
            (noise, "noise (far above the other channels)"),
            (self._copies() & others_known, "a copy of another channel"),
        ]
        return np.select([bad for bad, _ in faults], [reason for _, reason in faults], default="")

    def _copies(self) -> np.ndarray:
        """Channels with the same samples as an earlier one."""
        copies = np.zeros(self.checksums.shape, dtype=bool)
        for piece, sums in enumerate(self.checksums):
            seen: set[int] = set()
            for channel, checksum in enumerate(sums.tolist()):
                copies[piece, channel] = checksum in seen and not self.flat[piece, channel]
                seen.add(checksum)
        return copies


def bridge(signal: np.ndarray, bad: np.ndarray, rate: float, looks_back: bool = False) -> None:
    """
    Puts a straight line where time is marked as bad, in place: filters would spread what happened there.

    Args:
        signal: `[channels, T]`.
        bad: bool `[T]`.
        rate: in hertz; the line joins the means of the second before and of the second after.
        looks_back: the line stays at the mean of the second before; where there is none, at the first good sample.
    """
    edges, second = np.flatnonzero(np.diff(bad, prepend=False, append=False)), max(1, round(rate))
    for start, stop in zip(edges[::2], edges[1::2], strict=True):
        after = slice(stop, stop + second)
        sides = [signal[:, max(0, start - second) : start], signal[:, after][:, ~bad[after]]]
        if looks_back:
            sides = [sides[0] if start else sides[1][:, :1]]
        means = [side.mean(axis=-1, keepdims=True) for side in sides if side.shape[-1]]
        if means:
            signal[:, start:stop] = means[0] + (means[-1] - means[0]) * np.linspace(0, 1, stop - start)


def _median_of(values: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """Median over the chosen channels of each piece, `[pieces, 1]`; infinite if there are none."""
    rows = [np.median(row[keep]) if keep.any() else np.inf for row, keep in zip(values, chosen, strict=True)]
    return np.array(rows)[:, None]


def channel_faults(
    survey: SignalSurvey, channels: list[int], source: Recording, compared: int | None = None
) -> np.ndarray:
    """What is wrong with channels, as in [`SignalSurvey.faults`], and which of them someone marked as bad."""
    faults = survey.faults(compared).astype(object)
    marked = np.array([source.names[index] in source.marked_bad for index in channels])
    faults[(faults == "") & marked] = "marked as bad"
    return faults


def note_filled(survey: SignalSurvey, report: ChannelReport) -> None:
    """Notes padding of the file, which counts as signal."""
    if survey.filled and not survey.silent.all():
        report.steps.append(f"note: every channel is exactly 0 for {survey.filled / survey.rate:.3g} s: filled up?")
    if survey.held and not survey.silent.all():
        report.steps.append(
            f"note: no channel changes for {survey.held / survey.rate:.3g} s in all: lost and filled up?"
        )


def check_copies(survey: SignalSurvey, channels: list[int], plan: ChannelPlan, report: ChannelReport) -> None:
    """
    Two channels whose names mean the same place must be copies; the later one is noted.

    Raises:
        ValueError: where they differ.
    """
    columns = {index: column for column, index in enumerate(channels)}
    for later, first in plan.duplicates:
        names = plan.names[later], plan.names[first]
        if first in columns and (survey.checksums[:, columns[later]] != survey.checksums[:, columns[first]]).any():
            raise ValueError(
                f"Channels {names[1]!r} and {names[0]!r} name the same place, but their signals differ. Drop one of "
                "them (raw.drop_channels)."
            )
        report.dropped[names[0]] = f"the same as {names[1]}"


def mask_outputs(faults: np.ndarray, plan: ChannelPlan, in_pieces: bool, report: ChannelReport) -> np.ndarray:
    """
    Outputs that contain a bad channel, or are interpolated from too few good ones, bool `[pieces or 1, C]`; the
    reasons go into the report's rows.
    """
    used = plan.weights[:, : len(plan.recorded)] != 0
    interpolated = (plan.weights[:, len(plan.recorded) :] != 0).any(-1)
    too_few = (faults == "").sum(-1) < MIN_ELECTRODES_TO_INTERPOLATE

    def reason(fault: str, count: int) -> str:
        return f"{fault} in {count} of {len(faults)} pieces" if in_pieces else fault

    for row, uses, made in zip(report.channels, used, interpolated, strict=True):
        reasons = []
        for column in np.flatnonzero(uses):
            for fault, count in sorted(Counter(faults[:, column].tolist()).items()):
                if fault:
                    reasons.append(reason(f"{plan.names[plan.recorded[column]]} {fault}", count))
        if made and too_few.any():
            few = f"fewer than {MIN_ELECTRODES_TO_INTERPOLATE} good electrodes to interpolate from"
            reasons.append(reason(few, int(too_few.sum())))
        row.masked = ", ".join(reasons)
    return (used & (faults != "")[:, None, :]).any(-1) | (interpolated & too_few[:, None])


def check_some_good(masked: np.ndarray, faults: np.ndarray, in_pieces: bool, pieces: np.ndarray | None = None) -> None:
    """
    Args:
        masked, faults: outputs that are masked, and what is wrong with channels.
        in_pieces: whether the recording consists of pieces.
        pieces: the pieces that have windows; `None` = all.

    Raises:
        ValueError: where every output is masked, in the whole or in a piece.
    """
    lost = np.flatnonzero(masked.all(-1))
    if in_pieces and pieces is not None:
        lost = np.intersect1d(lost, pieces)
    if len(lost):
        where = f" in the pieces {lost.tolist()}" if in_pieces else ""
        raise ValueError(
            f"All channels are bad{where} ({_reasons(faults, ', ')}): there is no signal to work with. "
            f"{'Leave these pieces out.' if where else 'Check the electrodes and info[' + repr('bads') + '].'}"
        )


def check_signal(survey: SignalSurvey, faults: np.ndarray, unit: str) -> None:
    """
    Raises:
        ValueError: where no channel varies, or the unit can't be right.
    """
    if survey.silent.all():
        raise ValueError(
            f"All channels are {_reasons(faults, ' or ')}: there is no signal to work with. Check the file and its "
            "reader."
        )
    check_amplitude(survey.typical_amplitude(), unit)


def _reasons(faults: np.ndarray, between: str) -> str:
    return between.join(sorted(set(faults.ravel()) - {""}))


def check_amplitude(typical: float, unit: str) -> None:
    """
    A wrong unit is off by a factor of a thousand or a million. The typical spread within a second shows it: it is
    robust against artefacts, and drift and offset do not enter it.

    Args:
        typical: spread of the median channel within a second, in microvolts if `unit` is right.
        unit: what the recording is taken for.

    Raises:
        ValueError: where it can't be EEG; names the unit with which it would be.
    """
    least, most = PLAUSIBLE_AMPLITUDE
    if least <= typical <= most:
        return
    scale = MICROVOLTS.get(unit)
    fitting = [u for u, size in MICROVOLTS.items() if scale and least <= typical * size / scale <= most]
    advice = f"If they are in another unit, say so: unit={' or '.join(map(repr, fitting))}." if fitting else ""
    raise ValueError(
        f"Taken as {unit}, a typical channel varies by {typical:.2g} microvolts within a second; EEG by "
        f"{least:g} to {most:g}. {advice or 'Check how the file was scaled.'}"
    )


__all__ = [
    "SignalSurvey",
    "bridge",
    "channel_faults",
    "check_amplitude",
    "check_copies",
    "check_signal",
    "check_some_good",
    "mask_outputs",
    "note_filled",
]
