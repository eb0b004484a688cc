"""
Recording or array -> the batch that NeurIPT's models take, and an account of what happened to every channel.

In the order of the data: channels are found by name, the signal is read and scaled to microvolt, bad channels are
judged before any filter hides them, pairs are derived, then notch, band-pass and resampling on the whole recording,
windows, companding (spec section 2).
"""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
from scipy.fft import next_fast_len
from transformers import BatchFeature, FeatureExtractionMixin

from .channels import ChannelPlan, ChannelReport, canonical_names, plan_channels
from .electrodes import LOBES, MONTAGE_LOBES, MONTAGES, POSITIONS, grid_positions, lobe_membership, resolve_channel


try:
    import mne
except ImportError:  # coordinates, lobes and companding work without it; filters do not
    mne = None


MICROVOLTS = {"uV": 1.0, "µV": 1.0, "μV": 1.0, "mV": 1e3, "V": 1e6}  # both micro signs
# What a typical channel's standard deviation within a second may be, in microvolt; a wrong unit is off by a thousand.
PLAUSIBLE_AMPLITUDE = (0.2, 2000.0)
# A channel whose largest and smallest value are closer than this, in microvolt, is flat.
FLAT_RANGE = 0.01
# How signals are continued beyond their ends for the filters. MNE's default turns the signal around its last sample,
# so that a signal which ends at 10 microvolt goes on around 20: a step, which a 0.1 Hz high-pass spreads over 16 s.
END_PADDING = "symmetric"
RESAMPLING_MARGIN_SECONDS = 8.0


def a_law_compress(microvolts: np.ndarray, a: float = 0.25) -> np.ndarray:
    """
    A-law companding (spec section 2.3): `sign(x) A|x| / k` below `1/A`, else `sign(x) (1 + ln A|x|) / k` with
    `k = e + ln A` (for A < 1 the `1 + ln A` of G.711 would be negative).
    """
    scaled = a * np.abs(microvolts)
    return (
        np.sign(microvolts) * np.where(scaled < 1, scaled, 1 + np.log(np.maximum(scaled, 1))) / (math.e + math.log(a))
    )


def a_law_expand(values: np.ndarray, a: float = 0.25) -> np.ndarray:
    """The inverse of [`a_law_compress`]: microvolts."""
    scaled = np.abs(values) * (math.e + math.log(a))
    return np.sign(values) * np.where(scaled < 1, scaled, np.exp(np.maximum(scaled, 1) - 1)) / a


class NeurIPTFeatureExtractor(FeatureExtractionMixin):
    """
    Turns recordings into windows for NeurIPT.

    Args:
        montage: name of a montage (`"double_banana"`, `"bcic_iv_2a"`, `"bcic_iv_2a_monopolar"`, `"bcic_iv_2b"`,
            `"bcic_iv_2b_monopolar"`, `"seed_v"`, `"sleep_edfx"`), `"as_recorded"` (the recording's own EEG channels),
            or a list of electrodes and pairs `"A-B"` (first minus second).
        sampling_rate: rate of the output, in hertz. The models are made for 64.
        l_freq, h_freq: borders of the band-pass, in hertz; `None` = open on that side.
        notch_freq: mains frequency to remove, in hertz; `None` = no notch. A band that ends at 30 Hz needs none.
        companding: `"a-law"`, or `None` to leave microvolts.
        companding_a: A of the A-law.
        coordinate_frame: `"head"` (an electrode has the same coordinates in every montage) or `"montage"` (the
            authors' rescaling, for converted checkpoints).
        on_missing: what to do where the recording lacks a channel of the montage: `"raise"`, `"drop"` it, or
            `"interpolate"` its electrodes (spherical splines).
        window_seconds: length of a window.

    Raises:
        ValueError: where an argument can't be; names what is possible.
    """

    model_input_names = ["input_values", "electrode_positions", "lobe_mask", "channel_mask", "attention_mask"]

    def __init__(
        self,
        montage: str | Sequence[str] = "double_banana",
        sampling_rate: int = 64,
        l_freq: float | None = 0.1,
        h_freq: float | None = 30.0,
        notch_freq: float | None = None,
        companding: str | None = "a-law",
        companding_a: float = 0.25,
        coordinate_frame: str = "head",
        on_missing: str = "raise",
        window_seconds: float = 4.0,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.montage = montage if isinstance(montage, str) else list(montage)
        self.sampling_rate = sampling_rate
        self.l_freq = l_freq
        self.h_freq = h_freq
        self.notch_freq = notch_freq
        self.companding = companding
        self.companding_a = companding_a
        self.coordinate_frame = coordinate_frame
        self.on_missing = on_missing
        self.window_seconds = window_seconds
        self._validate()

    def _validate(self) -> None:
        for name, choices in (
            ("companding", ("a-law", None)),
            ("coordinate_frame", ("head", "montage")),
            ("on_missing", ("raise", "drop", "interpolate")),
        ):
            if getattr(self, name) not in choices:
                raise ValueError(f"{name} must be one of {choices}, but is {getattr(self, name)!r}.")
        for name in ("sampling_rate", "window_seconds", "companding_a"):
            _check_positive(name, getattr(self, name))
        if math.e + math.log(self.companding_a) <= 0:
            raise ValueError(f"companding_a must be above exp(-e) = 0.066, but is {self.companding_a}.")
        low, high, nyquist = self.l_freq or 0.0, self.h_freq, self.sampling_rate / 2
        if not 0 <= low < (high or nyquist) <= nyquist:
            raise ValueError(
                f"The band must satisfy 0 <= l_freq < h_freq <= {nyquist} Hz (half the sampling rate), but is "
                f"{self.l_freq} to {self.h_freq} Hz."
            )
        if isinstance(self.montage, str):
            if self.montage != "as_recorded" and self.montage not in MONTAGES:
                raise ValueError(
                    f"Unknown montage {self.montage!r}. Known: as_recorded, {', '.join(MONTAGES)}; or a list of "
                    "electrodes and pairs such as ['C3', 'Cz-C4']."
                )
        else:
            canonical_names(self.montage)

    @property
    def channel_names(self) -> list[str] | None:
        """The channels of the montage as electrodes and pairs; `None` for `"as_recorded"`."""
        if isinstance(self.montage, str):
            return None if self.montage == "as_recorded" else list(MONTAGES[self.montage])
        return canonical_names(self.montage)

    @property
    def num_lobes(self) -> int:
        """Columns of `lobe_mask`."""
        return len(MONTAGE_LOBES[self.montage]) if self._montage_name in MONTAGE_LOBES else len(LOBES)

    @property
    def _montage_name(self) -> str | None:
        return self.montage if isinstance(self.montage, str) else None

    def channel_features(self, channel_names: Sequence[str] | None = None) -> dict[str, np.ndarray]:
        """
        What the models have to know about channels, without a recording.

        Args:
            channel_names: electrodes or pairs in any spelling; default the montage's.

        Returns:
            `electrode_positions`, float32 `[C, 3]` in grid units, and `lobe_mask`, bool `[C, num_lobes]`.

        Raises:
            ValueError: for unknown names, or none where the montage is `"as_recorded"`.
        """
        if channel_names is None and self.channel_names is None:
            raise ValueError("The montage is 'as_recorded', so channel_names are needed.")
        channels = self.channel_names if channel_names is None else canonical_names(channel_names)
        montage = self._montage_name
        if self.channel_names is None or not set(channels) <= set(self.channel_names):
            if montage in MONTAGE_LOBES:
                foreign = sorted(set(channels) - set(self.channel_names))
                raise ValueError(f"Montage {montage!r} has lobes for its own channels only, not for {foreign}.")
            positions, lobes = grid_positions(channels, self.coordinate_frame), lobe_membership(channels)
        else:
            # A part of the montage keeps the places and lobes that it has in the whole.
            chosen = [self.channel_names.index(channel) for channel in channels]
            positions = grid_positions(self.channel_names, self.coordinate_frame, montage)[chosen]
            lobes = lobe_membership(self.channel_names, montage)[chosen]
        return {"electrode_positions": positions, "lobe_mask": lobes}

    def invert(self, values: np.ndarray) -> np.ndarray:
        """Companded values -> microvolts."""
        values = np.asarray(values)
        return values if self.companding is None else a_law_expand(values, self.companding_a)

    def __call__(
        self,
        recordings: Any,
        *,
        sampling_rate: float | None = None,
        channel_names: Sequence[str] | Sequence[Sequence[str]] | None = None,
        unit: str | None = None,
        window_seconds: float | None = None,
        stride_seconds: float | None = None,
        onsets: Sequence[float] | Sequence[Sequence[float]] | None = None,
        return_tensors: str | None = None,
    ) -> BatchFeature:
        """
        Args:
            recordings: `mne.io.Raw`, `mne.Epochs`, an array `[C, T]` (one recording) or `[n, C, T]` (n pieces, such as
                epochs), or a list of these.
            sampling_rate: of arrays, in hertz.
            channel_names: of arrays, in order; for a list of arrays also a list of such lists.
            unit: of arrays, `"uV"`, `"mV"` or `"V"`. For MNE objects only where their numbers are not in volts.
            window_seconds: length of a window; default the extractor's, for epochs and `[n, C, T]` the whole piece.
            stride_seconds: distance of window starts; default the window's length.
            onsets: starts of the windows, in seconds from the first sample; in place of a stride. For a list of
                recordings a list of such lists.
            return_tensors: `"pt"` for tensors; default numpy arrays.

        Returns:
            `BatchFeature` with `input_values` float32 `[B, C, T]`, `electrode_positions` float32 `[B, C, 3]`,
            `lobe_mask` bool `[B, C, num_lobes]`, `channel_mask` bool `[B, C]` (false = bad or padding),
            `attention_mask` bool `[B, T]` (false = padding). `.report` is the [`ChannelReport`], for a list of
            recordings a list of them.

        Raises:
            ValueError: where channels, unit, rate, type or length do not allow it; says what to do.
            ImportError: where MNE is not installed.
        """
        if mne is None:
            raise ImportError("The feature extractor filters with MNE: pip install mne.")
        several = _is_list_of_recordings(recordings)
        items = list(recordings) if several else [recordings]
        if not items:
            raise ValueError("Expected at least one recording, got an empty list.")
        names = [channel_names] * len(items)
        if several and channel_names is not None and not isinstance(channel_names[0], str):
            names = list(channel_names)
        starts = list(onsets) if several and onsets is not None else [onsets] * len(items)
        for what, values in (("channel_names", names), ("onsets", starts)):
            if len(values) != len(items):
                raise ValueError(f"Expected {what} for each of {len(items)} recordings, got {len(values)}.")
        for what, value in (("window_seconds", window_seconds), ("stride_seconds", stride_seconds)):
            if value is not None:
                _check_positive(what, value)

        parts, reports = [], []
        for item, item_names, item_starts in zip(items, names, starts, strict=True):
            part, report = self._extract(
                item, sampling_rate, item_names, unit, window_seconds, stride_seconds, item_starts
            )
            parts.append(part)
            reports.append(report)
        batch = BatchFeature(_concatenate(parts), tensor_type=return_tensors)
        batch.report = reports if several else reports[0]
        return batch

    def _extract(
        self,
        recording: Any,
        sampling_rate: float | None,
        channel_names: Sequence[str] | None,
        unit: str | None,
        window_seconds: float | None,
        stride_seconds: float | None,
        onsets: Sequence[float] | None,
    ) -> tuple[dict[str, np.ndarray], ChannelReport]:
        """The windows of one recording, and its report."""
        report = ChannelReport()
        source = _open(recording, sampling_rate, channel_names, unit)
        self._check_rate(source.sampling_rate)
        plan = plan_channels(source.names, source.types, self.channel_names, self.on_missing, report)
        starts, samples = self._window_starts(source, window_seconds, stride_seconds, onsets, report)
        signal, faults = _read(source, plan, report)  # [n, recorded, T] in microvolt
        if plan.interpolated:
            signal = _interpolate(signal, faults > 0, source.sampling_rate, plan)
        signal = np.einsum("oi,nit->not", plan.weights, signal)
        masked = _mask(faults, plan, source, report)
        signal[masked] = 0.0
        signal = self._filter(signal, source.sampling_rate, report)
        windows = np.concatenate([piece[None, :, start : start + samples] for piece in signal for start in starts])
        if self.companding is not None:
            windows = a_law_compress(windows, self.companding_a)
            report.steps.append(f"companding: A-law, A = {self.companding_a}")
        features = self.channel_features(plan.channels)
        count = len(windows)
        return {
            "input_values": windows.astype(np.float32),
            "electrode_positions": np.repeat(features["electrode_positions"][None], count, axis=0),
            "lobe_mask": np.repeat(features["lobe_mask"][None], count, axis=0),
            "channel_mask": np.repeat(~masked, len(starts), axis=0),
            "attention_mask": np.ones((count, windows.shape[-1]), dtype=bool),
        }, report

    def _check_rate(self, rate: float) -> None:
        """A band up to h_freq can't come from fewer samples."""
        needed = 2 * (self.h_freq or self.sampling_rate / 2)
        if rate < needed:
            raise ValueError(
                f"A sampling rate of {rate:g} Hz is too low: the band up to {needed / 2:g} Hz needs at least "
                f"{needed:g} Hz. Check the rate, or lower h_freq."
            )

    def _filter(self, signal: np.ndarray, rate: float, report: ChannelReport) -> np.ndarray:
        """Notch, band-pass and resampling by MNE, on whole pieces `[n, C, T]`."""
        seconds = signal.shape[-1] / rate
        if self.notch_freq is not None:
            if self.notch_freq < rate / 2:
                signal = mne.filter.notch_filter(signal, rate, self.notch_freq, pad=END_PADDING, verbose="ERROR")
                report.steps.append(f"notch: {self.notch_freq:g} Hz")
            else:
                report.steps.append(f"notch: none, {self.notch_freq:g} Hz is not below half the rate of {rate:g} Hz")
        high = self.h_freq if self.h_freq is not None and self.h_freq < rate / 2 else None
        if self.l_freq or high:
            # The stop band begins where the output ends, whatever the recording's rate: nothing is left to fold back.
            transition = min(max(0.25 * (high or 0), 2.0), min(rate, self.sampling_rate) / 2 - (high or 0)) or "auto"
            signal = mne.filter.filter_data(
                signal, rate, self.l_freq, high, h_trans_bandwidth=transition, pad=END_PADDING, verbose="ERROR"
            )
            report.steps.append(f"band-pass: {self.l_freq or 0:g} to {high or rate / 2:g} Hz, zero phase")
            # 3.3 over the transition band is the length of MNE's default window design
            length = 3.3 / min(max(0.25 * self.l_freq, 2.0), self.l_freq) if self.l_freq else 0.0
            if seconds < length:
                report.steps.append(
                    f"note: the high-pass is {length:.0f} s long, but the signal {seconds:.1f} s: its ends are "
                    "mirrored"
                )
        if rate != self.sampling_rate:
            signal = _resample(signal, rate, self.sampling_rate)
            report.steps.append(f"rate: {rate:g} Hz to {self.sampling_rate} Hz")
        else:
            report.steps.append(f"rate: {rate:g} Hz, unchanged")
        return signal

    def _window_starts(
        self,
        source: "_Source",
        window_seconds: float | None,
        stride_seconds: float | None,
        onsets: Sequence[float] | None,
        report: ChannelReport,
    ) -> tuple[np.ndarray, int]:
        """First samples of the windows within a piece, and their length, at the output's rate."""
        rate, length = self.sampling_rate, _output_samples(source.samples, source.sampling_rate, self.sampling_rate)
        if window_seconds is None and not source.in_pieces:
            window_seconds = self.window_seconds
        samples = length if window_seconds is None else round(window_seconds * rate)
        if samples < 1:
            raise ValueError(
                f"A window of {window_seconds} s holds no sample at {rate} Hz. Give a longer window_seconds."
            )
        if samples > length:
            raise ValueError(
                f"The recording lasts {length / rate:.2f} s, less than one window of {window_seconds} s. Give a "
                "shorter window_seconds."
            )
        if onsets is None:
            stride = stride_seconds or samples / rate
            count = int((length - samples) / rate / stride + 1e-9) + 1
            starts = np.rint(np.arange(count) * stride * rate).astype(int)
            rest = (length - starts[-1] - samples) / rate
            report.steps.append(f"windows: {count} of {samples / rate:g} s{' in each piece' * source.in_pieces}")
            if rest > 0:
                report.steps.append(f"note: the last {rest:.2f} s fill no window")
            return starts, samples
        if stride_seconds is not None:
            raise ValueError("Give onsets or stride_seconds, not both.")
        if not len(onsets):
            raise ValueError("onsets is empty: there is no window to cut.")
        starts = np.rint(np.asarray(onsets, dtype=float) * rate).astype(int)
        inside = (starts >= 0) & (starts <= length - samples)
        if not inside.all():
            raise ValueError(
                f"Windows of {samples / rate:g} s at {np.asarray(onsets)[~inside].tolist()} s would leave "
                f"the recording, which lasts {length / rate:.2f} s."
            )
        report.steps.append(f"windows: {len(starts)} of {samples / rate:g} s, at the onsets given")
        return starts, samples


@dataclass
class _Source:
    """A recording before its signal is read."""

    recording: Any
    names: list[str]
    types: list[str]
    marked_bad: set[str]
    sampling_rate: float
    unit: str
    samples: int
    in_pieces: bool  # epochs or [n, C, T]: every piece is a window unless told otherwise

    def read(self, channels: list[int]) -> np.ndarray:
        """`[n, len(channels), T]` in the recording's unit."""
        if isinstance(self.recording, np.ndarray):
            data = self.recording[..., channels, :].astype(np.float64)
        else:
            data = self.recording.get_data(picks=channels)
        return data if self.in_pieces else data[None]


def _is_list_of_recordings(recordings: Any) -> bool:
    """A list of Raw, Epochs or arrays with channels; nested lists of numbers are one array."""
    if not isinstance(recordings, list | tuple):
        return False
    return all(
        isinstance(item, mne.io.BaseRaw | mne.BaseEpochs) or getattr(item, "ndim", 0) >= 2 for item in recordings
    )


def _open(
    recording: Any, sampling_rate: float | None, channel_names: Sequence[str] | None, unit: str | None
) -> _Source:
    """Checks what is known about a recording before anything is read."""
    if unit is not None and unit not in MICROVOLTS:
        raise ValueError(f"unit must be 'uV', 'mV' or 'V', but is {unit!r}.")
    if isinstance(recording, mne.io.BaseRaw | mne.BaseEpochs):
        rate = recording.info["sfreq"]
        if sampling_rate is not None and sampling_rate != rate:
            raise ValueError(f"sampling_rate is {sampling_rate} Hz, but the recording says {rate:g} Hz. Leave it out.")
        if channel_names is not None and list(channel_names) != recording.ch_names:
            raise ValueError("channel_names differ from the recording's. Leave them out, or use raw.rename_channels.")
        if not recording.ch_names:
            raise ValueError("The recording is empty: it has no channels.")
        return _Source(
            recording,
            list(recording.ch_names),
            recording.get_channel_types(),
            set(recording.info["bads"]),
            rate,
            unit or "V",
            len(recording.times),
            isinstance(recording, mne.BaseEpochs),
        )

    if isinstance(recording, str) or hasattr(recording, "__fspath__"):
        raise ValueError(
            f"Expected a recording, got the path {str(recording)!r}. Open it with mne.io.read_raw, or use EEGPipeline."
        )
    try:
        array = np.asarray(recording)
    except ValueError as error:
        raise ValueError(f"Expected an array [C, T] or [n, C, T], got lists of unequal lengths: {error}") from None
    if array.dtype.kind not in "iuf":
        raise ValueError(
            f"Expected mne.io.Raw, mne.Epochs or an array of real numbers, got {type(recording).__name__} with dtype "
            f"{array.dtype}."
        )
    if array.ndim not in (2, 3):
        raise ValueError(f"Expected an array [C, T] or [n, C, T], got {array.ndim} dimensions: {list(array.shape)}.")
    if 0 in array.shape:
        raise ValueError(f"The array is empty: {list(array.shape)}.")
    given = {"sampling_rate": sampling_rate, "channel_names": channel_names, "unit": unit}
    lacking = [name for name, value in given.items() if value is None]
    if lacking:
        raise ValueError(
            f"An array needs {', '.join(lacking)}: nothing is guessed. For example sampling_rate=250, "
            "channel_names=['C3', 'Cz', 'C4'], unit='uV'."
        )
    _check_positive("sampling_rate", sampling_rate)
    names = [str(name) for name in channel_names]
    if len(names) != array.shape[-2]:
        hint = " The array looks transposed." if len(names) == array.shape[-1] else ""
        raise ValueError(
            f"Got {len(names)} channel_names for an array of {array.shape[-2]} channels {list(array.shape)}.{hint}"
        )
    return _Source(
        array, names, ["eeg"] * len(names), set(), float(sampling_rate), unit, array.shape[-1], array.ndim == 3
    )


def _read(source: _Source, plan: ChannelPlan, report: ChannelReport) -> tuple[np.ndarray, np.ndarray]:
    """
    The planned channels in microvolt, `[n, recorded, T]`, bad ones set to zero, and what is wrong with them: numbers
    in FAULTS, `[n, recorded]`. Judged here because a filter hides a flat channel and spreads a NaN.

    Raises:
        ValueError: where there is no sample, two channels of one name differ, no channel is good, or the unit can't be
            right.
    """
    data = source.read(plan.recorded + [later for later, _ in plan.duplicates])
    if not data.size:
        raise ValueError("The recording is empty: it has no samples.")
    data = data * MICROVOLTS[source.unit]
    report.steps.append(f"unit: {source.unit} to microvolt, times {MICROVOLTS[source.unit]:,.0f}")
    signal, copies = np.split(data, [len(plan.recorded)], axis=1)
    for copy, (later, first) in zip(np.moveaxis(copies, 1, 0), plan.duplicates, strict=True):
        original = signal[:, plan.recorded.index(first)] if first in plan.recorded else copy
        if not np.array_equal(copy, original, equal_nan=True):
            raise ValueError(
                f"Channels {source.names[first]!r} and {source.names[later]!r} are both "
                f"{resolve_channel(source.names[later])}, but their signals differ. Drop one of them "
                "(raw.drop_channels)."
            )
        report.dropped[source.names[later]] = f"the same as {source.names[first]}"

    broken = ~np.isfinite(signal).all(-1)
    spread = np.ptp(np.where(broken[..., None], 0.0, signal), axis=-1)
    if (broken | (spread == 0)).all():
        raise ValueError(
            f"Every channel is {'NaN or infinite' if broken.all() else 'flat or NaN'}: there is no signal to work "
            "with. Check the file and its reader."
        )
    _check_amplitude(signal[~broken & (spread > 0)], source)
    marked = np.array([source.names[index] in source.marked_bad for index in plan.recorded])
    faults = np.select([broken, spread < FLAT_RANGE, np.broadcast_to(marked, broken.shape)], [1, 2, 3])
    lost = np.flatnonzero((faults > 0).all(-1))
    if len(lost):
        where = f" in the pieces {lost.tolist()}" if source.in_pieces else ""
        raise ValueError(
            f"Every channel is NaN, flat or marked as bad{where}: there is no signal to work with. "
            f"{'Leave these pieces out.' if where else 'Check the recording and its info[' + repr('bads') + '].'}"
        )
    signal[faults > 0] = 0.0
    return signal, faults


FAULTS = ("", "NaN or infinite", "flat", "marked as bad")


def _check_amplitude(channels: np.ndarray, source: _Source) -> None:
    """
    A wrong unit is off by a factor of a thousand or a million, which the typical spread of a second (robust against
    artefacts, blind to drift and offset) can't hide. `channels [k, T]` in microvolt.
    """
    length = min(channels.shape[-1], max(2, round(source.sampling_rate)))
    count = channels.shape[-1] // length
    starts = np.unique(np.linspace(0, count - 1, min(count, 60)).astype(int)) * length
    seconds = np.stack([channels[:, start : start + length] for start in starts], axis=1)
    low, high = np.percentile(seconds, [25, 75], axis=-1)
    typical = float(np.median((high - low) / 1.349))
    least, most = PLAUSIBLE_AMPLITUDE
    if not least <= typical <= most:
        scale = MICROVOLTS[source.unit]
        fitting = [u for u in ("uV", "mV", "V") if least <= typical * MICROVOLTS[u] / scale <= most]
        advice = f"If they are in another unit, say so: unit={' or '.join(map(repr, fitting))}." if fitting else ""
        raise ValueError(
            f"Taken as {source.unit}, a typical channel varies by {typical:.2g} microvolt within a second; EEG "
            f"varies by {least:g} to {most:g}. {advice or 'Check how the file was scaled.'}"
        )


def _interpolate(signal: np.ndarray, bad: np.ndarray, rate: float, plan: ChannelPlan) -> np.ndarray:
    """Adds the plan's interpolated electrodes behind the recorded ones, by splines over each piece's good ones."""
    names = plan.electrodes + plan.interpolated
    info = mne.create_info(names, rate, "eeg")
    info.set_montage(
        mne.channels.make_dig_montage({name: np.array(POSITIONS[name]) / 1000 for name in names}, coord_frame="head")
    )
    pieces = []
    for piece, is_bad in zip(signal, bad, strict=True):
        empty = np.zeros((len(plan.interpolated), piece.shape[-1]))
        raw = mne.io.RawArray(np.concatenate([piece, empty]), info.copy(), verbose="ERROR")
        broken = [name for name, fault in zip(names, is_bad, strict=False) if fault]
        raw.info["bads"] = broken + plan.interpolated
        raw.interpolate_bads(exclude=broken, verbose="ERROR")
        pieces.append(raw.get_data())
    return np.stack(pieces)


def _resample(signal: np.ndarray, rate: float, target: int) -> np.ndarray:
    """
    Resampling in the frequency domain (MNE), `[n, C, T]`, so that sample k stands at k / target seconds.

    MNE rounds what it pads and what it removes, which moves the signal by up to half an output sample. Padded here by
    whole output samples, nothing is moved. Both ends are mirrored.
    """
    ratio = Fraction(rate / target).limit_denominator(10_000)
    step = ratio.numerator  # so many samples are a whole number of output samples
    samples = signal.shape[-1]
    left = math.ceil(RESAMPLING_MARGIN_SECONDS * rate / step)  # in steps
    steps = next_fast_len(math.ceil(samples / step) + 2 * left)
    widths = [(0, 0), (0, 0), (left * step, (steps - left) * step - samples)]
    padded = np.pad(signal, widths, mode=END_PADDING)
    resampled = mne.filter.resample(padded, up=ratio.denominator, down=ratio.numerator, npad=0, verbose="ERROR")
    start = left * ratio.denominator
    return resampled[..., start : start + _output_samples(samples, rate, target)]


def _output_samples(samples: int, rate: float, target: int) -> int:
    """How many samples a signal has at another rate."""
    return max(1, round(samples * target / rate))


def _mask(faults: np.ndarray, plan: ChannelPlan, source: _Source, report: ChannelReport) -> np.ndarray:
    """Outputs that contain a bad channel, bool `[n, C]`; the reasons go into the report's rows."""
    used = plan.weights[:, : len(plan.recorded)] != 0
    for row, uses in zip(report.channels, used, strict=True):
        reasons = []
        for column in np.flatnonzero(uses):
            for fault, count in sorted(Counter(faults[:, column].tolist()).items()):
                if fault:
                    part = f" in {count} of {len(faults)} pieces" if source.in_pieces else ""
                    reasons.append(f"{source.names[plan.recorded[column]]} {FAULTS[fault]}{part}")
        row.masked = ", ".join(reasons)
    return (used & (faults > 0)[:, None, :]).any(-1)


def _concatenate(parts: list[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """The windows of several recordings; fewer channels or samples are padded on the right, with masks that say so."""
    largest = np.max([part["input_values"].shape[1:] for part in parts], axis=0)
    padded = []
    for part in parts:
        channels, samples = largest - part["input_values"].shape[1:]
        widths = {"input_values": (channels, samples), "attention_mask": (samples,), "channel_mask": (channels,)}
        padded.append(
            {
                name: np.pad(array, [(0, 0), *((0, width) for width in widths.get(name, (channels, 0)))])
                for name, array in part.items()
            }
        )
    return {name: np.concatenate([part[name] for part in padded]) for name in padded[0]}


def _check_positive(name: str, value: float) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float | np.number) or not 0 < value < math.inf:
        raise ValueError(f"{name} must be a positive number, but is {value!r}.")


__all__ = ["NeurIPTFeatureExtractor", "a_law_compress", "a_law_expand"]
