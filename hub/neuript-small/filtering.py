"""
From a recording's rate to the model's, and the high-pass: linear filters of zero phase that see a signal in blocks
exactly as they see it whole.

The low-pass and the change of rate are one filter that computes no sample which is thrown away; the high-pass, whose
kernel is 33 s long at 0.1 Hz, runs at the low rate. MNE designs both.
"""

import math
from fractions import Fraction
from functools import lru_cache

import numpy as np
from scipy import fft
from scipy.signal import oaconvolve


try:
    import mne
except ImportError:  # coordinates, lobes and companding work without it; filters do not
    mne = None


# How signals are continued beyond their ends for the filters: mirrored. MNE's default also turns the signal around its
# last sample, so that one which ends at 10 microvolt goes on around 20: a step, which a 0.1 Hz high-pass spreads over
# 16 s. The low-pass mirrors at the first and last sample, so that the rate does not move the mirror.
END_PADDING = "symmetric"
END_PADDING_LOW_PASS = "reflect"
# Rates that are no simple ratio are met to a ten-thousandth of a sample.
LARGEST_FACTOR = 10_000
# A low-pass without a border of its own, that only keeps frequencies from folding back, ends here.
OPEN_BORDER = 0.95
# What is left of the kernel's stop band is cut off sharply, which rings; so far away, in seconds, that is nothing.
RINGING_SECONDS = 2.0


class Resampler:
    """
    Low-pass and change of rate of a signal, block by block, in the frequency domain.

    Args:
        rate: of the input, in hertz.
        target: of the output.
        h_freq: where the low-pass begins; `None` = open, up to what the lower of the two rates can hold.

    Attributes:
        up, step: `up` output samples last as long as `step` input samples; blocks begin at multiples of `step`.
        margin: input samples on both sides of a block that its outputs depend on, a multiple of `step`.
        border: where the low-pass begins, in hertz; `None` = there is none.
    """

    def __init__(self, rate: float, target: int, h_freq: float | None):
        ratio = Fraction(rate / target).limit_denominator(LARGEST_FACTOR)
        self.up, self.step = ratio.denominator, ratio.numerator
        nyquist = min(rate, target) / 2
        self.border, self.margin = None, self.step
        if h_freq is not None or self.up != self.step:
            self.border = min(h_freq or nyquist, OPEN_BORDER * nyquist)
            # The stop band begins where the output ends, whatever the recording's rate: nothing is left to fold back.
            transition = min(max(0.25 * self.border, 2.0), nyquist - self.border)
            self.kernel = _kernel(rate, None, self.border, transition)
            reach = len(self.kernel) // 2 + RINGING_SECONDS * rate
            self.margin = math.ceil(reach / self.step) * self.step

    def outputs(self, samples: int) -> int:
        """How many output samples a signal has."""
        return max(1, round(samples * self.up / self.step))

    def __call__(self, signal: np.ndarray, start: int, stop: int, outputs: int) -> np.ndarray:
        """
        Output samples of a block: those that stand at `start` and after, `[..., outputs]`.

        Args:
            signal: `[..., T]`, with the block's margin on both sides where there is one; its ends are mirrored.
            start, stop: the block within `signal`; `start` is a multiple of `step`.
            outputs: how many, `outputs(stop - start)` or fewer.
        """
        if self.border is None:
            return signal[..., start : start + outputs]
        length = signal.shape[-1]
        left = max(0, self.margin - start)
        needed = left + max(length, stop + self.margin)
        count = fft.next_fast_len(math.ceil(needed / self.step), real=True)
        samples, results = count * self.step, count * self.up
        widths = [(0, 0)] * (signal.ndim - 1) + [(left, samples - left - length)]
        spectrum = fft.rfft(np.pad(signal, widths, mode=END_PADDING_LOW_PASS), axis=-1, overwrite_x=True)
        # where the rate is raised, the bins that lack count as zero
        spectrum = spectrum[..., : results // 2 + 1] * self._response(samples)[: results // 2 + 1]
        filtered = fft.irfft(spectrum, results, axis=-1, overwrite_x=True)
        first = (start + left) // self.step * self.up
        return filtered[..., first : first + outputs] * (results / samples)

    def _response(self, samples: int) -> np.ndarray:
        """What the kernel, centred, does to each frequency."""
        centred = np.zeros(samples)
        centred[: len(self.kernel)] = self.kernel
        return fft.rfft(np.roll(centred, -(len(self.kernel) // 2))).real


@lru_cache(maxsize=8)
def _kernel(rate: float, l_freq: float | None, h_freq: float | None, transition: float | str = "auto") -> np.ndarray:
    """MNE's kernel of zero phase, an odd number of taps."""
    kernel = mne.filter.create_filter(
        None, rate, l_freq, h_freq, h_trans_bandwidth=transition, fir_design="firwin", verbose="ERROR"
    )
    kernel.setflags(write=False)
    return kernel


def high_pass(signal: np.ndarray, rate: float, l_freq: float) -> np.ndarray:
    """Takes away the mean and what is slower than `l_freq`, `[n, T]`; the ends are mirrored."""
    kernel = _kernel(rate, l_freq, None)
    half = len(kernel) // 2
    # the kernel's sum is only nearly zero, which 100 millivolt of offset would show
    centred = signal - signal.mean(axis=-1, keepdims=True)
    padded = np.pad(centred, [(0, 0), (half, half)], mode=END_PADDING)
    return oaconvolve(padded, kernel[None], mode="valid", axes=-1)


def high_pass_seconds(l_freq: float) -> float:
    """Length of the high-pass: 3.3 over the width of its transition band, MNE's default design."""
    return 3.3 / min(max(0.25 * l_freq, 2.0), l_freq)


def notch(signal: np.ndarray, rate: float, frequency: float) -> np.ndarray:
    """Removes a frequency, `[..., T]`."""
    return mne.filter.notch_filter(signal, rate, frequency, pad=END_PADDING, verbose="ERROR")


__all__ = ["Resampler", "high_pass", "high_pass_seconds", "notch"]
