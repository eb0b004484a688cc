"""
From a recording's rate to the model's, and the high-pass: linear filters that give the same result block by block as
on the whole signal.

The low-pass and the change of rate are one filter, which computes only samples that are kept. The high-pass, whose
kernel is 33 s long at 0.1 Hz, runs at the low rate. MNE designs both. In MNE's words their phase is `"zero"` (no
delay, but they look as far ahead as back) or `"minimum"` (the same gains and lengths, but they only look back, and
delay).
"""

import math
from fractions import Fraction
from functools import lru_cache

import numpy as np
from scipy import fft
from scipy.interpolate import CubicSpline
from scipy.signal import oaconvolve, upfirdn


try:
    import mne
except ImportError:  # coordinates, lobes and companding work without it, filters do not
    mne = None


PHASES = ("zero", "minimum")
# How filters of zero phase continue a signal beyond its ends: mirrored. MNE's default also flips it at its last
# sample, so that a signal around 0 that ends at 10 microvolts goes on around 20: a step, which a 0.1 Hz high-pass
# spreads over 16 s. The low-pass mirrors at the first and last sample, so that the rate does not move the mirror.
END_PADDING = "symmetric"
END_PADDING_LOW_PASS = "reflect"
# Filters that look back take it that a signal had the value of its first sample before.
PAST_PADDING = "edge"
# A low-pass of minimum phase is designed at this many times half the lower rate, where splines through it are exact.
FINENESS = 64
# Rates that are not a simple ratio are approximated by one with factors up to this.
LARGEST_FACTOR = 10_000
# Where the pass band ends, as a share of half the rate, if the low-pass only prevents aliasing.
OPEN_BORDER = 0.95
# The rest of the kernel's stop band is cut off sharply, which rings; this many seconds away the ringing is negligible.
RINGING_SECONDS = 2.0


class Resampler:
    """
    Low-pass and change of rate of a signal, block by block.

    Args:
        rate: of the input, in hertz.
        target: of the output.
        h_freq: edge of the low-pass; `None` = the highest that the lower of the two rates allows.
        phase: `"zero"` or `"minimum"`.

    Attributes:
        up, step: `up` output samples last as long as `step` input samples; blocks begin at multiples of `step`.
        before, after: input samples before and after a block that its outputs depend on, multiples of `step`.
        border: edge of the low-pass, in hertz; `None` = there is none.
    """

    def __init__(self, rate: float, target: int, h_freq: float | None, phase: str = "zero"):
        self.rate, self.target, self.looks_back = rate, target, phase == "minimum"
        ratio = Fraction(rate / target).limit_denominator(LARGEST_FACTOR)
        self.up, self.step = ratio.denominator, ratio.numerator
        nyquist = min(rate, target) / 2
        self.border, self.before, self.after = None, 0, 0
        if h_freq is not None or self.up != self.step:
            self.border = min(h_freq or nyquist, OPEN_BORDER * nyquist)
            # the stop band begins at half the output's rate, whatever the recording's: nothing can alias
            transition = min(max(0.25 * self.border, 2.0), nyquist - self.border)
            if self.looks_back:
                self.kernel = _kernel_between(rate, self.up, self.border, transition, FINENESS * nyquist)
                self.before = math.ceil(len(self.kernel) / self.up / self.step) * self.step
            else:
                self.kernel = _kernel(rate, None, self.border, transition)
                reach = len(self.kernel) // 2 + RINGING_SECONDS * rate
                self.before = self.after = math.ceil(reach / self.step) * self.step

    def outputs(self, samples: int) -> int:
        """Length of the output of a signal."""
        return max(1, round(samples * self.up / self.step))

    def inputs(self, outputs: int) -> int:
        """Length of the input to read for so many outputs, without what they depend on after it."""
        if self.looks_back:
            return math.ceil(outputs * self.step / self.up)
        return math.ceil(outputs / self.up) * self.step

    def delay(self, frequency: float) -> float:
        """By how many seconds an oscillation of this frequency comes late."""
        return _delay(self.kernel, self.rate * self.up, frequency) if self.border and self.looks_back else 0.0

    def __call__(self, signal: np.ndarray, start: int, stop: int, outputs: int) -> np.ndarray:
        """
        Output samples of a block, from `start` on, `[..., outputs]`.

        Args:
            signal: `[..., T]`, with as much of what the block depends on as there is; beyond its ends it is mirrored,
                or, before its start and with minimum phase, constant.
            start, stop: the block within `signal`; `start` is a multiple of `step`.
            outputs: their number, `outputs(stop - start)` or fewer.
        """
        if self.border is None:
            return signal[..., start : start + outputs]
        if self.looks_back:
            past = signal[..., :1]
            first = start // self.step * self.up
            return upfirdn(self.kernel, signal - past, self.up, self.step)[..., first : first + outputs] + past
        length = signal.shape[-1]
        left = max(0, self.before - start)
        needed = left + max(length, stop + self.after)
        count = fft.next_fast_len(math.ceil(needed / self.step), real=True)
        samples, results = count * self.step, count * self.up
        widths = [(0, 0)] * (signal.ndim - 1) + [(left, samples - left - length)]
        spectrum = fft.rfft(np.pad(signal, widths, mode=END_PADDING_LOW_PASS), axis=-1, overwrite_x=True)
        # if the rate is raised, the missing bins count as zero
        spectrum = spectrum[..., : results // 2 + 1] * self._response(samples)[: results // 2 + 1]
        filtered = fft.irfft(spectrum, results, axis=-1, overwrite_x=True)
        first = (start + left) // self.step * self.up
        return filtered[..., first : first + outputs] * (results / samples)

    def _response(self, samples: int) -> np.ndarray:
        """The gain of the centred kernel at each frequency."""
        centred = np.zeros(samples)
        centred[: len(self.kernel)] = self.kernel
        return fft.rfft(np.roll(centred, -(len(self.kernel) // 2))).real


@lru_cache(maxsize=8)
def _kernel(
    rate: float, l_freq: float | None, h_freq: float | None, transition: float | str = "auto", phase: str = "zero"
) -> np.ndarray:
    """MNE's kernel, an odd number of taps."""
    kernel = mne.filter.create_filter(
        None, rate, l_freq, h_freq, h_trans_bandwidth=transition, phase=phase, fir_design="firwin", verbose="ERROR"
    )
    if phase == "minimum" and h_freq is None:
        # its sum is only nearly zero, which an offset of 100 millivolts would reveal
        kernel = kernel - kernel.mean()
    kernel.setflags(write=False)
    return kernel


@lru_cache(maxsize=4)
def _kernel_between(rate: float, up: int, border: float, transition: float, fine: float) -> np.ndarray:
    """
    A low-pass of minimum phase at `up` times the rate; of these taps an output takes every `up`-th. It is the same
    function of time at every rate, designed at the rate `fine`.
    """
    kernel = _kernel(fine, None, border, transition, "minimum")
    seconds = np.arange(len(kernel)) / fine
    taps = CubicSpline(seconds, kernel)(np.arange(0.0, seconds[-1], 1 / (rate * up)))
    taps = np.pad(taps, (0, -len(taps) % up)).reshape(-1, up)
    # all outputs keep an offset as it is
    taps = (taps / taps.sum(axis=0)).ravel()
    taps.setflags(write=False)
    return taps


def _delay(kernel: np.ndarray, rate: float, frequency: float) -> float:
    """The group delay in seconds."""
    taps = np.arange(len(kernel))
    turned = kernel * np.exp(-2j * np.pi * frequency / rate * taps)
    return float((turned @ taps / turned.sum()).real / rate)


def high_pass(signal: np.ndarray, rate: float, l_freq: float, phase: str = "zero") -> np.ndarray:
    """
    Removes the mean and everything slower than `l_freq`, `[n, T]`; the ends are mirrored. With minimum phase the
    signal is taken to be constant before its start.
    """
    kernel = _kernel(rate, l_freq, None, phase=phase)
    if phase == "minimum":
        return oaconvolve(signal - signal[:, :1], kernel[None], axes=-1)[:, : signal.shape[-1]]
    half = len(kernel) // 2
    # the kernel's sum is only nearly zero, which an offset of 100 millivolts would reveal
    centred = signal - signal.mean(axis=-1, keepdims=True)
    padded = np.pad(centred, [(0, 0), (half, half)], mode=END_PADDING)
    return oaconvolve(padded, kernel[None], mode="valid", axes=-1)


def high_pass_seconds(l_freq: float) -> float:
    """Length of the high-pass: 3.3 divided by the width of its transition band, MNE's default design."""
    return 3.3 / min(max(0.25 * l_freq, 2.0), l_freq)


def high_pass_delay(rate: float, l_freq: float, frequency: float) -> float:
    """By how many seconds an oscillation of this frequency comes late after a high-pass of minimum phase."""
    return _delay(_kernel(rate, l_freq, None, phase="minimum"), rate, frequency)


# Length of the notch: 3.3 divided by the width of a transition band, MNE's default of half a hertz.
NOTCH_SECONDS = 6.6


def notch(signal: np.ndarray, rate: float, frequency: float, phase: str = "zero") -> np.ndarray:
    """Removes a frequency, `[..., T]`."""
    pad = PAST_PADDING if phase == "minimum" else END_PADDING
    return mne.filter.notch_filter(signal, rate, frequency, phase=phase, pad=pad, verbose="ERROR")


__all__ = ["NOTCH_SECONDS", "PHASES", "Resampler", "high_pass", "high_pass_delay", "high_pass_seconds", "notch"]
