"""
EEG as it arrives -> a row a second, from LSL (mne-lsl), a replayed recording, or any iterator of chunks.

Samples go into a buffer of fixed size. Whenever a window is complete, the pipeline gets the buffer as a [`Recording`]
and answers for this window. So channels are found, judged, filtered and companded as in any recording, however the
samples were cut into chunks. Filters look back by a fixed time, and the buffer holds it.

With `filter_phase="minimum"` a row is the same as offline. With `"zero"` it is that of the recording cut off at the
window's end: offline, the filters also see up to 17 s of what came after it (docs/streaming.md).

Where samples are missing, a run ends. Windows, filters and the judgement of channels begin anew after it.
"""

import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any

import mne
import numpy as np

from ..channels import ChannelReport
from ..filtering import Resampler
from ..pipeline_neuript import EEGPipeline
from ..recordings import Recording, Segment, as_recording, check_given, check_positive, recording_from_mne
from ..units import UNIT_NAMES, check_unit, microvolts_of


# The rate by the time stamps may differ by this share from the stated one: 10 Hz then count as 9.9 or 10.1.
LARGEST_DRIFT = 0.01
# It is measured over at least this long.
DRIFT_SECONDS = 30.0
# Time stamps of LSL streams are often those of arrival, and packets wait for each other.
LSL_JITTER_SECONDS = 0.05
# How long to wait before looking for new samples.
POLL_SECONDS = 0.01

Chunk = np.ndarray | tuple[np.ndarray, np.ndarray] | None


def live_rows(
    pipe: EEGPipeline,
    chunks: Iterable[Chunk],
    *,
    like: Any = None,
    sampling_rate: float | None = None,
    channel_names: Sequence[str] | None = None,
    unit: str | None = None,
    window_seconds: float | None = None,
    stride_seconds: float = 1.0,
    jitter_seconds: float | None = None,
    clock: Callable[[], float] | None = None,
) -> Iterator[dict]:
    """
    One row for each window, as soon as it is complete.

    Args:
        pipe: of task `eeg-classification` or `eeg-embedding`.
        chunks: arrays `[C, n]`, or pairs of these and the samples' times `[n]`, in seconds; `None` says that samples
            are missing. A device that counts its samples has times `count / rate`. [`LSLChunks`] and [`Replay`] bring
            what the next arguments say.
        like: what has the channels, rate and unit of the chunks (a path, `Recording` or `mne.io.Raw`); its signal is
            not read.
        sampling_rate, channel_names, unit: instead of `like`, as for an array.
        window_seconds: length of a window; by default the extractor's.
        stride_seconds: from the start of one window to the next.
        jitter_seconds: by how much times may be off. A larger step between two samples is a drop-out; smaller ones
            are noticed when they add up within a window. 0 by default, 0.05 for LSL.
        clock: the present by the clock of the times, for the delay.

    Returns:
        an iterator over rows. To what the pipeline says of a window (see [`EEGPipeline`]) they add

        - `onset`: start of the window by the times of the stream; without times in seconds from its first sample;
        - `delay`: seconds from the end of the window to the row; without a clock from the arrival of its last chunk;
        - `history`: seconds of unbroken signal before the window that its filters have seen, at most what they take;
        - `problems`: masked channels with the reason, times that do not fit the samples, drop-outs.

        A window with a drop-out, or without a good channel, has a row without an answer.

    Raises:
        ValueError: at once where channels, rate or unit do not fit; later for a chunk of another shape, and where the
            rate by the times is off by more than a hundredth.
    """
    extractor = pipe.feature_extractor
    like = getattr(chunks, "like", None) if like is None else like
    if like is None:
        like = np.zeros((len(channel_names or [""]), 1))
    signal = as_recording(like, sampling_rate=sampling_rate, channel_names=channel_names, unit=unit)
    if signal.in_pieces:
        raise ValueError("Expected a continuous recording as like, got pieces: pass the Raw they were made from.")
    window_seconds = extractor.window_seconds if window_seconds is None else window_seconds
    jitter_seconds = getattr(chunks, "jitter_seconds", 0.0) if jitter_seconds is None else jitter_seconds
    check_positive("window_seconds", window_seconds)
    check_positive("stride_seconds", stride_seconds)
    if min(window_seconds, stride_seconds) * extractor.sampling_rate < 1:
        raise ValueError(f"Windows and strides must be at least {1 / extractor.sampling_rate:g} s long.")
    extractor.check_rate(signal.sampling_rate)
    extractor.plan(signal, ChannelReport())
    clock = getattr(chunks, "clock", None) if clock is None else clock
    return _Live(pipe, signal, window_seconds, stride_seconds, jitter_seconds, clock).rows(chunks)


@dataclass
class _Run:
    """
    Samples without a gap, of which a buffer of fixed size keeps the last.

    Args:
        samples, times: the buffer, `[C, capacity]` and `[capacity]`; half of it is kept at least.
        step: the buffer begins at a multiple of this many samples of the run.
        gap: what is missing before the run; empty for the first.
        first: the buffer's first sample, counted from the run's.
        count: samples of the run so far.
        windows: how many there were.
    """

    samples: np.ndarray
    times: np.ndarray
    step: int
    gap: str = ""
    first: int = 0
    count: int = 0
    windows: int = 0
    start: float = field(default=math.nan, init=False)

    def add(self, samples: np.ndarray, times: np.ndarray) -> None:
        """At most half as many samples as the buffer holds."""
        if self.count == 0:
            self.start = float(times[0])
        size, more, capacity = self.count - self.first, len(times), len(self.times)
        if size + more > capacity:
            drop = (size + more - capacity // 2) // self.step * self.step
            for buffer in (self.samples, self.times):
                buffer[..., : size - drop] = buffer[..., drop:size].copy()
            self.first, size = self.first + drop, size - drop
        self.samples[:, size : size + more] = samples
        self.times[size : size + more] = times
        self.count += more

    def time_of(self, sample: int) -> float:
        return float(self.times[sample - self.first])


class _Live:
    """What [`live_rows`] does, chunk by chunk."""

    def __init__(
        self,
        pipe: EEGPipeline,
        signal: Recording,
        window_seconds: float,
        stride_seconds: float,
        jitter_seconds: float,
        clock: Callable[[], float] | None,
    ):
        extractor = pipe.feature_extractor
        self.pipe, self.signal, self.window, self.stride = pipe, signal, window_seconds, stride_seconds
        self.jitter, self.clock = jitter_seconds, clock
        self.rate, self.target = signal.sampling_rate, extractor.sampling_rate
        self.resampler = Resampler(self.rate, self.target, extractor.h_freq, "minimum")
        self.outputs = round(window_seconds * self.target)
        self.history = extractor.history_seconds(self.rate)
        self.keep = math.ceil((self.history + window_seconds) * self.rate) + 2 * self.resampler.step
        self.eeg = [index for index, kind in enumerate(signal.types) if kind == "eeg"]
        self.run: _Run | None = None
        self.due = -math.inf  # end of the next window if there were no gap
        self.is_broken = False  # whether the source says that samples are missing now

    def rows(self, chunks: Iterable[Chunk]) -> Iterator[dict]:
        received, has_times = 0, None
        for chunk in chunks:
            arrival = time.monotonic()
            if chunk is None:
                self.is_broken = True
                continue
            samples, times = self._checked(chunk)
            if has_times not in (None, times is not None):
                raise ValueError("Some chunks have times and some have none: give them to all, or to none.")
            has_times = times is not None
            if not has_times:
                times = (received + np.arange(samples.shape[1])) / self.rate
            received += samples.shape[1]
            # a sample without a number in any EEG channel is a missing one
            there = np.isfinite(samples[self.eeg]).any(axis=0)
            for part, part_times in self._runs(samples[:, there], times[there]):
                yield from self._advance(part, part_times, arrival)

    def _checked(self, chunk: Chunk) -> tuple[np.ndarray, np.ndarray | None]:
        """Samples `[C, n]` and their times, if the chunk has any."""
        samples, times = chunk if isinstance(chunk, tuple) else (chunk, None)
        samples = np.asarray(samples, dtype=np.float64)
        if samples.ndim != 2 or len(samples) != len(self.signal.names):
            raise ValueError(
                f"Expected chunks [{len(self.signal.names)}, n] with the channels {', '.join(self.signal.names)}, got "
                f"{list(samples.shape)}."
            )
        if times is None:
            return samples, None
        times = np.asarray(times, dtype=np.float64)
        if times.shape != samples.shape[1:] or not np.isfinite(times).all():
            raise ValueError(
                f"Expected a time in seconds for each of {samples.shape[1]} samples, got {list(times.shape)} times, "
                f"{(~np.isfinite(times)).sum()} of them not finite."
            )
        return samples, times

    def _runs(self, samples: np.ndarray, times: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """The chunk cut at drop-outs; a new run begins with each part but the first that continues the last one."""
        if not len(times):
            return
        last = None if self.run is None else self.run.time_of(self.run.count - 1)
        steps = np.diff(times, prepend=times[0] if last is None else last)
        broken = np.abs(steps - 1 / self.rate) > self.jitter + 0.5 / self.rate
        broken[0] |= last is None or self.is_broken
        self.is_broken = False
        starts = np.flatnonzero(broken).tolist()
        for start, stop in pairwise(sorted({0, *starts, len(times)})):
            if start in starts:
                missing = steps[start] - 1 / self.rate
                goes_back = missing < -1 / self.rate
                what = f"{missing:.3g} s missing" if missing > 0.5 / self.rate else "samples missing"
                what = f"time goes back by {-missing:.3g} s" if goes_back else what
                gap = "" if self.run is None else f"drop-out: {what} before {times[start]:.3f} s"
                buffers = np.empty((len(samples), 2 * self.keep)), np.empty(2 * self.keep)
                self.run = _Run(*buffers, self.resampler.step, gap)
                # after a clock that went back the time of the next row is another
                self.due = float(times[start]) if goes_back else max(self.due, float(times[start]))
            yield samples[:, start:stop], times[start:stop]

    def _advance(self, samples: np.ndarray, times: np.ndarray, arrival: float) -> Iterator[dict]:
        """Adds samples to the run, up to the end of a window each, and makes its row."""
        run = self.run
        start, position = times[0] if run.count == 0 else run.start, 0
        while True:
            begin = int(np.rint(run.windows * self.stride * self.target))
            needed = self.resampler.inputs(begin + self.outputs)
            has_gap = bool(run.gap) and not run.windows and self.due < start + self.window - 0.5 / self.rate
            if has_gap:
                needed = max(run.count, math.ceil((self.due - start) * self.rate))
            stop = position + min(len(times) - position, needed - run.count, self.keep)
            if position < stop:
                run.add(samples[:, position:stop], times[position:stop])
                position = stop
            if run.count < needed:
                if position == len(times):
                    return
                continue
            if has_gap:
                row = {"onset": self.due - self.window, "duration": self.window, "history": 0.0, "problems": [run.gap]}
                self.due += self.stride
            else:
                row = self._answer(begin)
                self.due = row["onset"] + self.window + self.stride
                run.windows += 1
            end = row["onset"] + self.window
            yield row | {"delay": time.monotonic() - arrival if self.clock is None else self.clock() - end}

    def _answer(self, begin: int) -> dict:
        """The row of the window that begins with sample `begin` of the run at the model's rate, and has just ended."""
        run, up, step = self.run, self.resampler.up, self.resampler.step
        self._check_drift()
        samples = run.samples[:, : run.count - run.first]
        source = self.signal.source
        if hasattr(source, "info"):  # with digitised positions
            samples = mne.io.RawArray(samples, source.info, verbose="ERROR")
        buffer = replace(self.signal, source=samples, segments=[Segment(0, run.count - run.first, 0.0)], events=[])
        onset = (begin - run.first // step * up) / self.target
        rows = self.pipe(buffer, window_seconds=self.window, onsets=[onset], on_error="skip")
        if rows:
            (answer,) = rows
            (report,) = self.pipe.reports
            problems = [f"{channel.name} masked: {channel.masked}" for channel in report.channels if channel.masked]
        else:
            answer, problems = {}, [self.pipe.failures[0]["error"]]

        first, last = math.ceil(begin * step / up), run.count - 1
        by_times, by_count = run.time_of(last) - run.time_of(first), (last - first) / self.rate
        if abs(by_times - by_count) > self.jitter + 0.5 / self.rate + LARGEST_DRIFT * by_count:
            problems.append(f"times: {by_times:.3f} s by the time stamps, {by_count:.3f} s by the number of samples")
        return answer | {
            "onset": run.time_of(first) - (first - begin * step / up) / self.rate,
            "duration": self.window,
            "history": min(begin / self.target, self.history),
            "problems": problems,
        }

    def _check_drift(self) -> None:
        """
        Raises:
            ValueError: where the rate of the run by its times is not the stated one.
        """
        run = self.run
        elapsed = run.time_of(run.count - 1) - run.start
        if elapsed < DRIFT_SECONDS:
            return
        measured = (run.count - 1) / elapsed
        if abs(measured / self.rate - 1) > LARGEST_DRIFT + 2 * self.jitter / elapsed:
            raise ValueError(
                f"By its time stamps the stream has {measured:.2f} samples a second, but it says {self.rate:g}. "
                "Either the rate is wrong, or samples are lost all the time. Correct the rate in the source, or check "
                "the connection to the amplifier."
            )


class Replay:
    """
    A recording as chunks with times by its clock, at its own pace; its gaps and breaks are drop-outs.

    Args:
        recording: path, `Recording`, `mne.io.Raw` or array `[C, T]`.
        sampling_rate, channel_names, unit: as in a call of the feature extractor.
        chunk_seconds: length of a chunk.
        speed: how many times faster than it was recorded; `None` = without waiting.
    """

    def __init__(
        self,
        recording: Any,
        *,
        sampling_rate: float | None = None,
        channel_names: Sequence[str] | None = None,
        unit: str | None = None,
        chunk_seconds: float = 0.05,
        speed: float | None = 1.0,
    ):
        check_positive("chunk_seconds", chunk_seconds)
        if speed is not None:
            check_positive("speed", speed)
        source = as_recording(recording, sampling_rate=sampling_rate, channel_names=channel_names, unit=unit)
        if source.in_pieces:
            raise ValueError("Only a continuous recording can be replayed; these are pieces.")
        self.recording, self.chunk_seconds, self.speed = source, chunk_seconds, speed
        self.like = replace(source, microvolts=np.ones(len(source.names)), unit="uV")

    def __iter__(self) -> Iterator[Chunk]:
        source, began = self.recording, time.monotonic()
        size = max(1, round(self.chunk_seconds * source.sampling_rate))
        for segment in source.segments:
            for start in range(segment.start, segment.stop, size):
                stop = min(start + size, segment.stop)
                times = segment.onset + np.arange(start - segment.start, stop - segment.start) / source.sampling_rate
                if self.speed is not None:
                    ready = began + (times[-1] - source.segments[0].onset) / self.speed
                    time.sleep(max(0.0, ready - time.monotonic()))
                yield source.read(range(len(source.names)), start, stop), times
            yield None


class LSLChunks:
    """
    Chunks of a stream of the lab streaming layer, with mne-lsl. When it goes and comes back, so do the chunks.

    Times are those of the source, moved to this machine's clock. They are not smoothed: smoothing hides drop-outs.

    Args:
        name, stype, source_id: of the stream, as in `mne_lsl.stream.StreamLSL`. Together they must mean one stream.
        unit, channel_names: only where the stream does not state them.
        wait_seconds: how long to look for the stream at first.
        silent_seconds: a stream without a new sample for so long is looked for anew.
        away_seconds: the chunks end when it has been away for so long.
        buffer_seconds: how much signal may wait while answers are computed. More is lost, which is a drop-out.
        jitter_seconds: see [`live_rows`].

    Raises:
        ConnectionError: where none or several streams fit.
        ValueError: where the stream does not state its unit and none is given, and when it comes back as another.
        ImportError: where mne-lsl is not installed.
    """

    def __init__(
        self,
        name: str | None = None,
        *,
        stype: str | None = None,
        source_id: str | None = None,
        unit: str | None = None,
        channel_names: Sequence[str] | None = None,
        wait_seconds: float = 10.0,
        silent_seconds: float = 2.0,
        away_seconds: float = 60.0,
        buffer_seconds: float = 30.0,
        jitter_seconds: float = LSL_JITTER_SECONDS,
    ):
        try:
            from mne_lsl.lsl import local_clock
            from mne_lsl.stream import StreamLSL
        except ImportError as error:
            raise ImportError("LSL streams are read with mne-lsl: pip install neuript_hf[streaming].") from error
        check_unit(unit)
        self._open = lambda: StreamLSL(buffer_seconds, name=name, stype=stype, source_id=source_id)
        self._given = {"unit": unit, "channel_names": channel_names}
        self.silent_seconds, self.away_seconds, self.jitter_seconds = silent_seconds, away_seconds, jitter_seconds
        self.clock: Callable[[], float] = local_clock
        try:
            self._connect(wait_seconds)
        except (RuntimeError, TimeoutError) as error:
            raise ConnectionError(f"No single LSL stream within {wait_seconds:g} s. {error}") from error
        try:
            self.like = _described(self._stream, **self._given)
        except ValueError:
            self.close()
            raise

    def __enter__(self) -> "LSLChunks":
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()

    def close(self) -> None:
        if self._stream.connected:
            self._stream.disconnect()

    def _connect(self, seconds: float) -> None:
        self._stream = self._open().connect(acquisition_delay=None, processing_flags=["clocksync"], timeout=seconds)

    def __iter__(self) -> Iterator[Chunk]:
        last = time.monotonic()
        while True:
            self._stream.acquire()
            count = self._stream.n_new_samples if self._stream.connected else 0
            if count:
                samples, times = self._stream.get_data(exclude=())
                yield samples[:, -count:], times[-count:]
                last = time.monotonic()
            elif not self._stream.connected or time.monotonic() - last > self.silent_seconds:
                if not self._found_again(last + self.away_seconds):
                    return
                yield None
                last = time.monotonic()
            else:
                time.sleep(POLL_SECONDS)

    def _found_again(self, deadline: float) -> bool:
        """Whether the stream came back before the deadline; it is then connected."""
        self.close()
        while (left := deadline - time.monotonic()) > 0:
            try:
                self._connect(min(1.0, left))
            except (RuntimeError, TimeoutError):  # no stream, or not yet the only one
                continue
            found, known = _described(self._stream, **self._given), self.like
            if (found.names, found.sampling_rate, found.unit) != (known.names, known.sampling_rate, known.unit):
                self.close()
                raise ValueError(
                    f"The stream came back as another: {len(found.names)} channels at {found.sampling_rate:g} Hz in "
                    f"{found.unit}, before {len(known.names)} at {known.sampling_rate:g} Hz in {known.unit}."
                )
            return True
        return False


def _described(stream: Any, unit: str | None, channel_names: Sequence[str] | None) -> Recording:
    """A [`Recording`] without samples that has the channels, the rate and the unit of a connected stream."""
    info = stream.info.copy()
    eeg = [kind == "eeg" for kind in info.get_channel_types()]
    stated = [_size_of(text) for text in stream.sinfo.get_channel_units() or [None] * len(eeg)]
    of_eeg = {size for size, is_eeg in zip(stated, eeg, strict=True) if is_eeg}
    if unit is not None:
        if contradicting := of_eeg - {None, microvolts_of(unit)}:
            raise ValueError(
                f"unit is {unit!r}, but the stream {stream.name!r} states channels whose unit is {contradicting} "
                "microvolts. Leave it out, or correct the source where that is wrong."
            )
        stated = [microvolts_of(unit)] * len(eeg)
    elif None in of_eeg:
        raise ValueError(
            f"The LSL stream {stream.name!r} does not state the unit of its EEG channels. Say it: unit='uV', 'mV' or "
            "'V'."
        )
    with info._unlock():
        for channel in info["chs"]:
            channel["unit_mul"] = 0
    sizes = np.array([1.0 if size is None else size for size in stated])
    names = {UNIT_NAMES.get(size, f"{size:g} uV") for size, is_eeg in zip(sizes, eeg, strict=True) if is_eeg}
    raw = mne.io.RawArray(np.zeros((len(eeg), 1)), info, verbose="ERROR")
    recording = recording_from_mne(raw, sizes, " and ".join(sorted(names)))
    check_given(recording, None, channel_names)
    return recording


def _size_of(unit: str | None) -> float | None:
    """A unit as LSL streams state it, in microvolts: its name, or as mne-lsl writes it, the power of ten of volts."""
    try:
        return 10.0 ** (6 + int(unit))
    except (TypeError, ValueError):
        return None if unit is None else microvolts_of(unit)


__all__ = ["LSLChunks", "Replay", "live_rows"]
