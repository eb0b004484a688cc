"""
From a recording's rate to the model's, and the high-pass: linear filters of zero phase that give the same result block
by block as on the whole signal.

The low-pass and the change of rate are one filter, which computes only samples that are kept. The high-pass, whose
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
except ImportError:  # coordinates, lobes and companding work without it, filters do not
    mne = None


# How filters continue a signal beyond its ends: mirrored. MNE's default also flips it at its last sample, so that a
# signal around 0 that ends at 10 microvolts goes on around 20: a step, which a 0.1 Hz high-pass spreads over 16 s. The
# low-pass mirrors at the first and last sample, so that the rate does not move the mirror.
END_PADDING = "symmetric"
END_PADDING_LOW_PASS = "reflect"
# Rates that are not a simple ratio are approximated by one with factors up to this.
LARGEST_FACTOR = 10_000
# Where the pass band ends, as a share of half the rate, if the low-pass only prevents aliasing.
OPEN_BORDER = 0.95
# The rest of the kernel's stop band is cut off sharply, which rings; this many seconds away the ringing is negligible.
RINGING_SECONDS = 2.0


class Resampler:
    """
    Low-pass and change of rate of a signal, block by block, in the frequency domain.

    Args:
        rate: of the input, in hertz.
        target: of the output.
        h_freq: edge of the low-pass; `None` = the highest that the lower of the two rates allows.

    Attributes:
        up, step: `up` output samples last as long as `step` input samples; blocks begin at multiples of `step`.
        margin: input samples on both sides of a block that its outputs depend on, a multiple of `step`.
        border: edge of the low-pass, in hertz; `None` = there is none.
    """

    def __init__(self, rate: float, target: int, h_freq: float | None):
        self.target = target
        ratio = Fraction(rate / target).limit_denominator(LARGEST_FACTOR)
        self.up, self.step = ratio.denominator, ratio.numerator
        nyquist = min(rate, target) / 2
        self.border, self.margin = None, self.step
        if h_freq is not None or self.up != self.step:
            self.border = min(h_freq or nyquist, OPEN_BORDER * nyquist)
            # the stop band begins at half the output's rate, whatever the recording's: nothing can alias
            transition = min(max(0.25 * self.border, 2.0), nyquist - self.border)
            self.kernel = _kernel(rate, None, self.border, transition)
            reach = len(self.kernel) // 2 + RINGING_SECONDS * rate
            self.margin = math.ceil(reach / self.step) * self.step

    def outputs(self, samples: int) -> int:
        """Length of the output of a signal."""
        return max(1, round(samples * self.up / self.step))

    def __call__(self, signal: np.ndarray, start: int, stop: int, outputs: int) -> np.ndarray:
        """
        Output samples of a block, from `start` on, `[..., outputs]`.

        Args:
            signal: `[..., T]`, with as much of the block's margin on both sides as there is; its ends are mirrored.
            start, stop: the block within `signal`; `start` is a multiple of `step`.
            outputs: their number, `outputs(stop - start)` or fewer.
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
def _kernel(rate: float, l_freq: float | None, h_freq: float | None, transition: float | str = "auto") -> np.ndarray:
    """MNE's kernel of zero phase, an odd number of taps."""
    kernel = mne.filter.create_filter(
        None, rate, l_freq, h_freq, h_trans_bandwidth=transition, fir_design="firwin", verbose="ERROR"
    )
    kernel.setflags(write=False)
    return kernel


def high_pass(signal: np.ndarray, rate: float, l_freq: float) -> np.ndarray:
    """Removes the mean and everything slower than `l_freq`, `[n, T]`; the ends are mirrored."""
    kernel = _kernel(rate, l_freq, None)
    half = len(kernel) // 2
    # the kernel's sum is only nearly zero, which an offset of 100 millivolts would reveal
    centred = signal - signal.mean(axis=-1, keepdims=True)
    padded = np.pad(centred, [(0, 0), (half, half)], mode=END_PADDING)
    return oaconvolve(padded, kernel[None], mode="valid", axes=-1)


def high_pass_seconds(l_freq: float) -> float:
    """Length of the high-pass: 3.3 divided by the width of its transition band, MNE's default design."""
    return 3.3 / min(max(0.25 * l_freq, 2.0), l_freq)


def notch(signal: np.ndarray, rate: float, frequency: float) -> np.ndarray:
    """Removes a frequency, `[..., T]`."""
    return mne.filter.notch_filter(signal, rate, frequency, pad=END_PADDING, verbose="ERROR")


__all__ = ["Resampler", "high_pass", "high_pass_seconds", "notch"]
