"""
What is wrong with a channel, judged on the signal as recorded: a filter hides a rail, makes a dead channel look quiet
and spreads a NaN.

The limits were set on real recordings: they let pass what a band-pass to 30 Hz repairs (drift, offsets, mains that all
channels share). In 548 recordings of eight public data sets they mask three channels, each above 100 microvolt among
others of 10.
"""

import zlib

import numpy as np


# Beyond a million volts, in microvolt, a number is as broken as an infinite one, and its square overflows.
ABSURD = 1e12
# What a typical channel's standard deviation within a second may be, in microvolt; a wrong unit is off by a thousand.
PLAUSIBLE_AMPLITUDE = (0.2, 2000.0)
# A channel whose largest and smallest value are closer than this, in microvolt, is flat.
FLAT_RANGE = 0.01
# A channel that typically varies by less than this within a second, in microvolt, measures the amplifier's own noise.
DEAD_AMPLITUDE = 0.1
# An input that floats drifts to the amplifier's rail; electrodes on skin stay well below, in microvolt.
DISCONNECTED_OFFSET = 100_000.0
# Share of the samples that lie on the largest or the smallest value where the amplifier or the file clips.
CLIPPED_SHARE = 0.02
CLIPPED_SAMPLES = 20
# Mains in one channel alone: this much of its power, this many times the others', and this many microvolt.
MAINS_SHARE, MAINS_RATIO, MAINS_AMPLITUDE = 0.8, 10.0, 100.0
# A channel that varies so many times more than the median channel, and by so many microvolt, is noise.
NOISE_RATIO, NOISE_AMPLITUDE = 7.0, 100.0
# Ratio of the power density at 30 to 45 Hz to that at 2 to 15 Hz above which noise is called broadband; EEG falls off.
BROADBAND_RATIO = 0.3
MAINS_FREQUENCIES = (50.0, 60.0)
# Spectra and spreads are taken from this many seconds of each block at most.
SECONDS_OF_BLOCK = 20


class SignalSurvey:
    """
    Collects what a judgement on channels needs while a recording is read block by block.

    Args:
        pieces: 1 for a continuous recording; epochs are judged one by one.
        channels: how many.
        rate: in hertz.
    """

    def __init__(self, pieces: int, channels: int, rate: float):
        shape = (pieces, channels)
        self.rate = rate
        self.samples = 0
        self.filled = 0
        self.finite = np.ones(shape, dtype=bool)
        self.total = np.zeros(shape)
        self.extremes = np.full((2, *shape), -np.inf)  # of the signal, and of the signal turned around
        self.at_extremes = np.zeros((2, *shape), dtype=int)
        self.checksums = np.zeros(shape, dtype=np.int64)
        self.spreads: list[np.ndarray] = []  # each [pieces, channels, seconds]
        self.powers: list[np.ndarray] = []  # each [3, pieces, channels, seconds]

    def add(self, block: np.ndarray) -> None:
        """The next samples, `[pieces, channels, T]` in microvolt; what is not finite is set to zero in it."""
        finite = np.abs(block) < ABSURD  # false for NaN too
        if not finite.all():
            self.finite &= finite.all(-1)
            block[~finite] = 0.0
        self.samples += block.shape[-1]
        # zeros in all channels at once are where a file was filled up, no signal and no rail
        filled = (block == 0).all(1, keepdims=True) & (block.shape[1] > 1)
        self.filled += filled.sum()
        self.total += block.sum(-1)
        for side, values in enumerate((block.max(-1), -block.min(-1))):
            # one after the other: a sine also returns to its largest value, but leaves it at once
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
        """Median of the robust standard deviation within a second, `[pieces, channels]` in microvolt."""
        return np.median(np.concatenate(self.spreads, axis=-1), axis=-1)

    @property
    def flat(self) -> np.ndarray:
        """Channels that do not vary, bool `[pieces, channels]`."""
        return self.extremes.sum(0) < FLAT_RANGE

    @property
    def silent(self) -> np.ndarray:
        """Channels that are one number throughout, or not finite, bool `[pieces, channels]`."""
        return ~self.finite | (self.extremes.sum(0) == 0)

    def typical_amplitude(self) -> float:
        """Spread of the median channel within a second, in microvolt; 0 where there is no good one."""
        good = self.spread[~self.silent]
        return float(np.median(good)) if good.size else 0.0

    def faults(self, compared: int | None = None) -> np.ndarray:
        """
        Why each channel is bad, text `[pieces, channels]`, empty where it is good; the plainest reason counts.

        Args:
            compared: so many channels, the first, are also compared with each other; default all.
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
        # a median of two tells nothing about either, and less than a second nothing about noise
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
        """Channels whose samples are those of one before them."""
        copies = np.zeros(self.checksums.shape, dtype=bool)
        for piece, sums in enumerate(self.checksums):
            seen: set[int] = set()
            for channel, checksum in enumerate(sums.tolist()):
                copies[piece, channel] = checksum in seen and not self.flat[piece, channel]
                seen.add(checksum)
        return copies


def _median_of(values: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """Median over the chosen channels of each piece, `[pieces, 1]`; infinite where there is none."""
    rows = [np.median(row[keep]) if keep.any() else np.inf for row, keep in zip(values, chosen, strict=True)]
    return np.array(rows)[:, None]


def check_amplitude(typical: float, unit: str, microvolts: dict[str, float]) -> None:
    """
    A wrong unit is off by a factor of a thousand or a million, which the typical spread of a second (robust against
    artefacts, blind to drift and offset) can't hide.

    Args:
        typical: spread of the median channel within a second, in microvolt if `unit` is right.
        unit: what the recording is taken for.
        microvolts: the units that a user may name, in microvolt.

    Raises:
        ValueError: where it can't be EEG; names the unit with which it would be.
    """
    least, most = PLAUSIBLE_AMPLITUDE
    if least <= typical <= most:
        return
    scale = microvolts.get(unit)
    fitting = [u for u, size in microvolts.items() if scale and least <= typical * size / scale <= most]
    advice = f"If they are in another unit, say so: unit={' or '.join(map(repr, fitting))}." if fitting else ""
    raise ValueError(
        f"Taken as {unit}, a typical channel varies by {typical:.2g} microvolt within a second; EEG varies by "
        f"{least:g} to {most:g}. {advice or 'Check how the file was scaled.'}"
    )


__all__ = ["SignalSurvey", "check_amplitude"]
