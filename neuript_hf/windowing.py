"""Where the windows of a recording begin: one after the other, or at given onsets, and never across a gap."""

from collections import Counter
from collections.abc import Sequence

import numpy as np

from .channels import ChannelReport
from .filtering import Resampler
from .recordings import Recording


def plan_windows(
    source: Recording,
    resampler: Resampler,
    window_seconds: float | None,
    stride_seconds: float | None,
    onsets: Sequence[float] | None,
    reject_by_annotation: bool,
    report: ChannelReport,
) -> tuple[np.ndarray, int, np.ndarray]:
    """
    Args:
        source: the recording.
        resampler: from its rate to the output's.
        window_seconds: length of a window; `None` = the longest segment.
        stride_seconds: from the start of one window to the next; `None` = the window's length.
        onsets: starts of the windows by the recording's clock, instead of a stride.
        reject_by_annotation: whether windows that overlap time marked as bad are left out.
        report: gets lines on the windows, on what is left over, and on time marked as bad.

    Returns:
        windows, integers `[B, 2]`: the number of a segment, and the sample of it at the output's rate at which the
        window begins; the windows' length in samples; and which of the planned windows these are, integers `[B]`.

    Raises:
        ValueError: where the recording is too short, a length is too short, an onset lies outside, or no window is
            left.
    """
    rate = resampler.target
    lengths = _lengths(source, resampler)
    longest = max(lengths, default=0)
    if not longest or not source.segments[0].stop:
        raise ValueError("The recording is empty: it has no samples.")
    samples = longest if window_seconds is None else round(min(window_seconds * rate, longest + 1))
    if samples < 1:
        raise ValueError(
            f"A window of {window_seconds} s is shorter than one sample at {rate} Hz. Give a longer window_seconds."
        )
    if samples > longest:
        stretch = max(segment.stop - segment.start for segment in source.segments) / source.sampling_rate
        what = "recording" if len(source.segments) == 1 else "longest stretch of the recording"
        raise ValueError(
            f"The recording is too short: the {what} lasts {stretch:.4g} s, less than one window of "
            f"{window_seconds:g} s. Give a shorter window_seconds."
        )
    report.window_seconds = samples / rate
    if onsets is not None:
        if stride_seconds is not None:
            raise ValueError("Give onsets or stride_seconds, not both.")
        windows = _windows_at(source, lengths, onsets, samples, rate, report)
    else:
        windows = _windows_in_order(source, lengths, samples, rate, stride_seconds or samples / rate, report)
    kept = ~source.rejected(onsets_of(source, windows, rate), samples / rate, reject_by_annotation)
    _report_bad_time(source, reject_by_annotation, kept, report)
    if not kept.any():
        raise ValueError(
            f"Every window ({len(kept)}) overlaps time that is marked as bad: {_marks(source)}. Give a shorter "
            "window_seconds or other windows, correct the annotations, or set reject_by_annotation=False to keep them."
        )
    report.windows = int(kept.sum())
    return windows[kept], samples, np.flatnonzero(kept)


def _lengths(source: Recording, resampler: Resampler) -> list[int]:
    """Length of each segment in samples of the output, of which windows are made."""
    sizes = [segment.stop - segment.start for segment in source.segments]
    lengths = [resampler.outputs(size) for size in sizes]
    if not source.in_pieces:
        # at the recording's end a window may be half a sample longer, but not where a gap follows
        change = resampler.target / source.sampling_rate
        lengths[:-1] = [
            min(length, int((size + 0.5) * change)) for length, size in zip(lengths[:-1], sizes, strict=False)
        ]
    return lengths


def _windows_in_order(
    source: Recording, lengths: list[int], samples: int, rate: int, stride: float, report: ChannelReport
) -> np.ndarray:
    """Windows one after the other in each segment."""
    if stride * rate < 1:
        raise ValueError(
            f"stride_seconds is {stride:g} s, less than one sample at {rate} Hz: give at least {1 / rate:g} s."
        )
    windows, rest = [], 0.0
    for number, length in enumerate(lengths):
        count = int((length - samples) / rate / stride + 1e-9) + 1 if length >= samples else 0
        starts = np.rint(np.arange(count) * stride * rate).astype(int)
        windows.append(np.stack([np.full(count, number), starts], axis=1))
        rest += (length - (starts[-1] + samples if count else 0)) / rate
    windows = np.concatenate(windows)
    count = len(windows) // len(lengths) if source.in_pieces else len(windows)
    every = "" if abs(stride * rate - samples) < 0.5 else f", one every {stride:g} s"
    report.steps.append(f"windows: {count} of {samples / rate:g} s{every}{' in each piece' * source.in_pieces}")
    if rest > 0:
        where = "the last " if len(lengths) == 1 else ""
        report.steps.append(
            f"note: {where}{rest / (len(lengths) if source.in_pieces else 1):.2f} s do not fill a window"
        )
    return windows


def _windows_at(
    source: Recording, lengths: list[int], onsets: Sequence[float], samples: int, rate: int, report: ChannelReport
) -> np.ndarray:
    """Windows that begin at given seconds; of epochs, in each of them."""
    if not len(onsets):
        raise ValueError("onsets is empty: there is no window to cut.")
    onsets = np.asarray(onsets, dtype=float)
    numbers = [source.segment_of(onset, (samples - 0.5) / rate) for onset in onsets]
    possible = {0} if source.in_pieces else {number for number, length in enumerate(lengths) if length >= samples}
    numbers = [number if number in possible else None for number in numbers]
    outside = [onset for onset, number in zip(onsets.tolist(), numbers, strict=True) if number is None]
    if outside:
        gaps = f" (gaps: {', '.join(f'{a:g} to {b:g} s' for a, b in source.gaps)})" if source.gaps else ""
        _, end = source.stretches[0 if source.in_pieces else -1]
        raise ValueError(
            f"Windows of {samples / rate:g} s at {outside} s would leave the recording or reach into a gap; it "
            f"lasts {end:.2f} s{gaps}."
        )
    report.steps.append(f"windows: {len(onsets)} of {samples / rate:g} s, at the onsets given")
    windows = []
    for number, onset in zip(numbers, onsets, strict=True):
        start = round((onset - source.segments[number].onset) * rate)
        windows.append((number, min(max(0, start), lengths[number] - samples)))
    if source.in_pieces:
        windows = [(piece, start) for piece in range(len(source.segments)) for _, start in windows]
    return np.array(windows)


def _report_bad_time(source: Recording, reject_by_annotation: bool, kept: np.ndarray, report: ChannelReport) -> None:
    """A line on time that is marked as bad, if there is any."""
    lost = len(kept) - int(kept.sum())
    marked = bool(source.bad_time)
    if reject_by_annotation and marked:
        report.steps.append(f"marked as bad: {_marks(source)}; {lost} of {len(kept)} windows rejected")
    elif marked:
        report.steps.append(f"marked as bad: {_marks(source)}; kept, as reject_by_annotation is off")
    if lost and not (reject_by_annotation and marked):
        report.steps.append(f"rejected: {lost} of {len(kept)} windows with a break inside")


def _marks(source: Recording) -> str:
    """Seconds that are marked as bad, outside of gaps, and by which annotations."""
    names = Counter(description for *_, description in source.bad_time)
    listed = ", ".join(name if count == 1 else f"{count} {name}" for name, count in names.items())
    return f"{source.bad_samples().sum() / source.sampling_rate:g} s ({listed})"


def onsets_of(source: Recording, windows: np.ndarray, rate: float) -> np.ndarray:
    """Starts of planned windows in seconds by the recording's clock; `rate` is the output's."""
    return np.array([source.segments[number].onset + start / rate for number, start in windows])


__all__ = ["onsets_of", "plan_windows"]
