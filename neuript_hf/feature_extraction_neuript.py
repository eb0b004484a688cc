"""
Recording or array -> the batch that NeurIPT's models take, and a report on what happened to every channel.

In the order of the data: channels are found by name, the signal is read block by block in microvolts, bad channels are
judged before any filter hides them, the rate is lowered, pairs are derived; then come the high-pass over the whole
recording, windows, and companding (docs/model.md section 2).
"""

import inspect
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from transformers import BatchFeature, FeatureExtractionMixin, PreTrainedConfig

from .channel_names import net_name, resolve_channels
from .channels import ChannelPlan, ChannelReport, canonical_names, plan_channels, unique_names
from .configuration_neuript import warn_of_unknown
from .connectivity import SAMPLING_RATE
from .digitization import electrodes_by_position
from .electrodes import LOBES, MONTAGE_LOBES, MONTAGES, grid_positions, lobe_membership, positions_of
from .filtering import NOTCH_SECONDS, PHASES, Resampler, high_pass, high_pass_delay, high_pass_seconds, notch
from .link_safe_saving import LinkSafeSaving
from .recordings import Recording, as_recording, check_positive, is_of_mne, is_recording
from .signal_quality import (
    SignalSurvey,
    bridge,
    channel_faults,
    check_amplitude,
    check_copies,
    check_signal,
    check_some_good,
    mask_outputs,
    note_filled,
)
from .windowing import onsets_of, plan_windows


try:
    import mne
except ImportError:  # coordinates, lobes and companding work without it, filters do not
    mne = None


# What transformers keeps in a feature extractor beside its settings.
_KEPT_BESIDE_SETTINGS = ["auto_map", "custom_pipelines", "feature_extractor_type", "processor_class"]
# What transformers hands on that is none: about the download, and what `pipeline(...)` was told about the model.
_HANDED_ON = {"return_unused_kwargs", "force_download", "revision", "code_revision", "_commit_hash"}
_HANDED_ON |= {"trust_remote_code", "dtype", "device_map", "attn_implementation", "experts_implementation"}
HIGHEST_RATE = 100_000  # hertz; a filter's length grows with the rate
# Recordings are read in blocks of this length, so that only their planned channels at 64 Hz are in memory as a whole.
BLOCK_SECONDS = 300.0
# An inspection names the most frequent annotations.
MOST_ANNOTATIONS = 8


def a_law_compress(microvolts: np.ndarray, a: float = 0.25) -> np.ndarray:
    """
    A-law companding (docs/model.md section 2.3): `sign(x) A|x| / k` below `1/A`, else `sign(x) (1 + ln A|x|) / k` with
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


class NeurIPTFeatureExtractor(LinkSafeSaving, FeatureExtractionMixin):
    """
    Turns recordings into windows for NeurIPT.

    Args:
        montage: name of a montage (`"double_banana"`, `"bcic_iv_2a"`, `"bcic_iv_2a_monopolar"`, `"bcic_iv_2b"`,
            `"bcic_iv_2b_monopolar"`, `"seed_v"`, `"sleep_edfx"`), `"as_recorded"` (the recording's own EEG channels),
            or a list of electrodes and pairs `"A-B"` (first minus second).
        sampling_rate: rate of the output, in hertz. The models are trained at 64.
        l_freq, h_freq: edges of the pass band, in hertz; `None` = open on that side.
        notch_freq: mains frequency to remove, in hertz; `None` = no notch. A band that ends at 30 Hz needs none.
        companding: `"a-law"`, or `None` to leave microvolts.
        companding_a: A of the A-law.
        coordinate_frame: `"head"` (an electrode has the same coordinates in every montage) or `"montage"` (the
            authors' rescaling, for converted checkpoints).
        on_missing: what to do if the recording does not have a channel of the montage: `"raise"`, `"drop"` it, or
            `"interpolate"` its electrodes (spherical splines).
        window_seconds: length of a window.
        net: name of the cap (`"biosemi64"`, `"GSN-HydroCel-128"`, ...) if the recording's names are its labels.
        positions: `"table"` (positions by name; channels with unknown names by digitised position, if the recording
            has any) or `"digitised"` (digitised positions only).
        reject_by_annotation: whether to leave out windows that overlap annotations which begin with BAD (in
            any case), as `mne.Epochs` does. No window reaches into a gap, whatever this says.
        filter_phase: `"zero"` (no delay, but the filters also look ahead, the high-pass by 17 s) or `"minimum"` (the
            same gains, and nothing after a sample enters it: for models that are to be used live).

    Raises:
        ValueError: for an impossible argument; names the possible ones.
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
        net: str | None = None,
        positions: str = "table",
        reject_by_annotation: bool = True,
        filter_phase: str = "zero",
        **kwargs,
    ):
        super().__init__(**kwargs)
        warn_of_unknown(type(self).__name__, kwargs, self._settings() + _KEPT_BESIDE_SETTINGS, stacklevel=3)
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
        self.net = net
        self.positions = positions
        self.reject_by_annotation = reject_by_annotation
        self.filter_phase = filter_phase
        self._validate()

    @classmethod
    def _settings(cls) -> list[str]:
        return [name for name in inspect.signature(cls.__init__).parameters if name not in ("self", "kwargs")]

    @classmethod
    def from_dict(cls, feature_extractor_dict: dict[str, Any], **kwargs: Any) -> Any:
        """As in transformers; a setting that is given counts also where the dictionary does not have it."""
        given = {name: kwargs.pop(name) for name in cls._settings() if name in kwargs}
        unknown = kwargs.keys() - _HANDED_ON
        warn_of_unknown(cls.__name__, unknown, cls._settings() + _KEPT_BESIDE_SETTINGS, stacklevel=3)
        return super().from_dict(feature_extractor_dict | given, **kwargs)

    def _validate(self) -> None:
        for name, choices in (
            ("companding", ("a-law", None)),
            ("coordinate_frame", ("head", "montage")),
            ("on_missing", ("raise", "drop", "interpolate")),
            ("positions", ("table", "digitised")),
            ("reject_by_annotation", (True, False)),
            ("filter_phase", PHASES),
        ):
            if getattr(self, name) not in choices:
                raise ValueError(f"{name} must be one of {choices}, but is {getattr(self, name)!r}.")
        for name in ("sampling_rate", "window_seconds", "companding_a"):
            check_positive(name, getattr(self, name))
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
            canonical_names(self.montage, self.net)
        if self.net is not None:
            net_name(self.net)

    @property
    def channel_names(self) -> list[str] | None:
        """The channels of the montage as electrodes and pairs; `None` for `"as_recorded"`."""
        if isinstance(self.montage, str):
            return None if self.montage == "as_recorded" else list(MONTAGES[self.montage])
        return canonical_names(self.montage, self.net)

    @property
    def num_lobes(self) -> int:
        """Columns of `lobe_mask`."""
        return len(MONTAGE_LOBES[self.montage]) if self._montage_name in MONTAGE_LOBES else len(LOBES)

    @property
    def model_companding_a(self) -> float | None:
        """What a model's `companding_a` must be: A of the A-law, or `None` for windows in microvolts."""
        return None if self.companding is None else self.companding_a

    def refuse_other_windows(self, config: PreTrainedConfig | None) -> None:
        """
        A model with `connectivity_bands` turns its input back into microvolts at 64 Hz. From windows with another
        companding or rate it would compute wrong numbers without a word.

        Args:
            config: the model's configuration. Models without bands take windows of any companding and rate.

        Raises:
            ValueError: if companding or sampling rate are not those that the model expects.
        """
        if getattr(config, "connectivity_bands", None) is None:
            return
        for name, made, expected in (
            ("companding_a", self.model_companding_a, config.companding_a),
            ("sampling_rate", self.sampling_rate, SAMPLING_RATE),
        ):
            if made != expected:
                raise ValueError(
                    f"The model (connectivity_bands) expects windows with {name}={expected} (companding_a=None: no "
                    f"companding), but the feature extractor makes them with {name}={made}. Use the feature extractor "
                    "that belongs to the checkpoint; for a new model set companding_a of its configuration to the "
                    "extractor's."
                )

    @property
    def _montage_name(self) -> str | None:
        return self.montage if isinstance(self.montage, str) else None

    def channel_features(self, channel_names: Sequence[str] | None = None) -> dict[str, np.ndarray]:
        """
        What the models need to know about channels, without a recording.

        Args:
            channel_names: electrodes or pairs in any spelling; by default the montage's.

        Returns:
            `electrode_positions`, float32 `[C, 3]` in grid units, and `lobe_mask`, bool `[C, num_lobes]`.

        Raises:
            ValueError: for unknown names, and without names if the montage is `"as_recorded"`.
        """
        if channel_names is None and self.channel_names is None:
            raise ValueError("The montage is 'as_recorded', so channel_names are needed.")
        channels = self.channel_names if channel_names is None else canonical_names(channel_names, self.net)
        montage = self._montage_name
        if self.channel_names is None or not set(channels) <= set(self.channel_names):
            if montage in MONTAGE_LOBES:
                foreign = sorted(set(channels) - set(self.channel_names))
                raise ValueError(f"Montage {montage!r} has lobes for its own channels only, not for {foreign}.")
            positions, lobes = grid_positions(channels, self.coordinate_frame), lobe_membership(channels)
        else:
            # part of a montage keeps the positions and lobes that it has in the whole
            chosen = [self.channel_names.index(channel) for channel in channels]
            positions = grid_positions(self.channel_names, self.coordinate_frame, montage)[chosen]
            lobes = lobe_membership(self.channel_names, montage)[chosen]
        return {"electrode_positions": positions, "lobe_mask": lobes}

    def compress(self, microvolts: np.ndarray) -> np.ndarray:
        """Microvolts -> companded values."""
        return microvolts if self.companding is None else a_law_compress(microvolts, self.companding_a)

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
            recordings: path, `Recording`, `mne.io.Raw`, `mne.Epochs`, an array `[C, T]` (one recording) or
                `[n, C, T]` (n pieces, such as epochs), or a list of these.
            sampling_rate: of arrays, in hertz.
            channel_names: of arrays, in order; for a list of arrays also a list of such lists.
            unit: of arrays, `"uV"`, `"mV"` or `"V"`. For MNE objects only if their numbers are not volts, for files
                only if they do not state it.
            window_seconds: length of a window; by default the extractor's, for epochs and `[n, C, T]` the whole piece.
            stride_seconds: from the start of one window to the next; by default the window's length.
            onsets: starts of the windows, in seconds from the first sample (by the clock if there are gaps), instead
                of a stride; those in time marked as bad are left out (`.kept`). Only the stretch around them is read,
                and channels are judged on it. For a list of recordings a list of such lists.
            return_tensors: `"pt"` for tensors; numpy arrays by default.

        Returns:
            `BatchFeature` with `input_values` float32 `[B, C, T]`, `electrode_positions` float32 `[B, C, 3]`,
            `lobe_mask` bool `[B, C, num_lobes]`, `channel_mask` bool `[B, C]` (false = bad or padding),
            `attention_mask` bool `[B, T]` (false = padding). `.report` is the [`ChannelReport`], `.onsets` float
            `[B]` the starts of the windows, in seconds, `.kept` integers `[B]`: which of the windows (of `onsets`, if
            given) these are, as those in time marked as bad are left out. For a list of recordings all are lists.

        Raises:
            ValueError: where channels, unit, rate, type or length do not allow it; says what to do.
            ImportError: where MNE is not installed, or, for files, the package (remote code).
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
                check_positive(what, value)

        parts, reports, begins, kept = [], [], [], []
        for item, item_names, item_starts in zip(items, names, starts, strict=True):
            source = as_recording(item, sampling_rate=sampling_rate, channel_names=item_names, unit=unit)
            part, report, begin, numbers = self._extract(source, window_seconds, stride_seconds, item_starts)
            parts.append(part)
            reports.append(report)
            begins.append(begin)
            kept.append(numbers)
        batch = BatchFeature(_concatenate(parts), tensor_type=return_tensors)
        for name, values in (("report", reports), ("onsets", begins), ("kept", kept)):
            setattr(batch, name, values if several else values[0])
        return batch

    def inspect(
        self,
        recording: Any,
        *,
        sampling_rate: float | None = None,
        channel_names: Sequence[str] | None = None,
        unit: str | None = None,
    ) -> ChannelReport:
        """
        The report on a recording without its windows: its channels, which of them would be used, which are bad. Its
        `problems` are what the extractor would refuse.

        Args:
            recording, sampling_rate, channel_names, unit: as in a call; one recording.

        Raises:
            ValueError: where the recording can't be opened or read, or channels of a named montage are missing.
        """
        source = as_recording(recording, sampling_rate=sampling_rate, channel_names=channel_names, unit=unit)
        if not source.seconds:
            raise ValueError("The recording is empty: it has no samples.")
        report = _new_report(source)
        length = f"{source.seconds:g} s" + (f" in {len(source.segments)} pieces" if source.in_pieces else "")
        report.steps.append(f"rate: {source.sampling_rate:g} Hz, {len(source.names)} channels, {length}")
        if counts := source.event_counts:
            shown = [f"{count} {name!r}" for name, count in counts.most_common(MOST_ANNOTATIONS)]
            more = f", and {len(counts) - len(shown)} more" * (len(counts) > len(shown))
            report.steps.append(f"annotations: {', '.join(shown)}{more}")
        plan, channels = None, _possible_eeg(source, resolve_channels(source.names, source.types, self.net))
        if self.channel_names is not None:
            plan = self.plan(source, report)
        else:
            with _as_problem(report):
                plan = self.plan(source, report)
        with _as_problem(report):
            self._plan_windows(source, None, None, None, report)
        placed = [] if plan is None else _channels_to_read(plan)
        channels = placed + [index for index in channels if index not in placed]
        if not channels:
            return report
        survey = _survey(source, channels, self._unjudged(source))
        note_filled(survey, report)
        faults = channel_faults(survey, channels, source, len(placed))
        with _as_problem(report):
            self.check_rate(source.sampling_rate)
        with _as_problem(report):
            check_amplitude(survey.typical_amplitude(), source.unit)
        if plan is not None:
            with _as_problem(report):
                check_copies(survey, channels, plan, report)
            recorded = faults[:, : len(plan.recorded)]
            with _as_problem(report):
                check_some_good(mask_outputs(recorded, plan, source.in_pieces, report), recorded, source.in_pieces)
        names = unique_names(source.names)
        for index, reasons in zip(channels, faults.T, strict=True):
            if index not in placed and reasons[0]:
                report.dropped.setdefault(names[index], "not placed")
                report.faults[names[index]] = reasons[0]
        return report

    def window_onsets(
        self,
        recording: Recording,
        window_seconds: float | None = None,
        stride_seconds: float | None = None,
        report: ChannelReport | None = None,
        onsets: Sequence[float] | None = None,
    ) -> np.ndarray:
        """
        Where the windows of a recording begin, in seconds by its clock; none reaches into a gap or into time marked
        as bad.

        Args:
            recording: from [`as_recording`] or [`open_recording`].
            window_seconds, stride_seconds, onsets: as in a call.
            report: gets lines on the windows and on what is left out.

        Raises:
            ValueError: where no stretch of the recording is long enough for a window, or all are marked as bad.
        """
        report = ChannelReport() if report is None else report
        windows, *_ = self._plan_windows(recording, window_seconds, stride_seconds, onsets, report)
        return onsets_of(recording, windows, self.sampling_rate)

    def _plan_windows(
        self,
        source: Recording,
        window_seconds: float | None,
        stride_seconds: float | None,
        onsets: Sequence[float] | None,
        report: ChannelReport,
    ) -> tuple[np.ndarray, int, np.ndarray]:
        """As [`plan_windows`], with this extractor's length and rules."""
        length, resampler = self._window_seconds(source, window_seconds), self._resampler(source.sampling_rate)
        planned = plan_windows(source, resampler, length, stride_seconds, onsets, self.reject_by_annotation, report)
        samples, own = planned[1], self.window_seconds * self.sampling_rate
        if not -0.5 < samples - own < 1.5:  # mne.Epochs end with the sample at tmax
            length = samples / self.sampling_rate
            report.steps.append(
                f"note: windows last {length:g} s, the feature extractor's own {self.window_seconds:g} s"
            )
        return planned

    def _unjudged(self, source: Recording) -> np.ndarray:
        """Samples of which no window is made, bool `[samples]`: they say nothing about channels."""
        bad = source.bad_samples()
        return bad & self.reject_by_annotation & (not bad.all())

    def _extract(
        self,
        source: Recording,
        window_seconds: float | None,
        stride_seconds: float | None,
        onsets: Sequence[float] | None,
    ) -> tuple[dict[str, np.ndarray], ChannelReport, np.ndarray, np.ndarray]:
        """The windows of one recording, its report, where windows begin, and which of the planned ones they are."""
        report = _new_report(source)
        self.check_rate(source.sampling_rate)
        plan = self.plan(source, report)
        windows, samples, kept = self._plan_windows(source, window_seconds, stride_seconds, onsets, report)
        stretches, faults = self._read(source, plan, windows, samples, report)
        masked = mask_outputs(faults, plan, source.in_pieces, report)
        check_some_good(masked, faults, source.in_pieces, np.unique(windows[:, 0]))
        values = np.empty((len(windows), len(plan.channels), samples), dtype=np.float32)
        for first, begin, signal in stretches:
            self._cut(values, signal, windows - (first, begin), faults != "", masked, plan, source.sampling_rate)
        self._report_filters(source, report)
        features = self.channel_features(plan.channels)
        count = len(values)
        return (
            {
                "input_values": values,
                "electrode_positions": np.repeat(features["electrode_positions"][None], count, axis=0),
                "lobe_mask": np.repeat(features["lobe_mask"][None], count, axis=0),
                "channel_mask": ~masked[windows[:, 0] if source.in_pieces else np.zeros(count, dtype=int)],
                "attention_mask": np.ones((count, samples), dtype=bool),
            },
            report,
            onsets_of(source, windows, self.sampling_rate),
            kept,
        )

    def check_rate(self, rate: float) -> None:
        """
        Raises:
            ValueError: for a rate in hertz that is too low for the band up to h_freq, or that no EEG amplifier has.
        """
        if rate > HIGHEST_RATE:
            raise ValueError(
                f"A sampling rate of {rate:g} Hz is not one of EEG: expected at most {HIGHEST_RATE:,} Hz."
            )
        needed = 2 * (self.h_freq or self.sampling_rate / 2)
        if rate < needed:
            raise ValueError(
                f"A sampling rate of {rate:g} Hz is too low: the band up to {needed / 2:g} Hz needs at least "
                f"{needed:g} Hz. Check the rate, or lower h_freq."
            )

    def plan(self, source: Recording, report: ChannelReport) -> ChannelPlan:
        """
        Which channels of a recording make which output, by name or by digitised position; the report gets their rows.

        Raises:
            ValueError: where the montage can't be made from the recording's channels.
        """
        located = self._located(source, report)
        wanted = self.channel_names
        return plan_channels(source.names, source.types, wanted, self.on_missing, report, self.net, located)

    def _located(self, source: Recording, report: ChannelReport) -> dict[str, str]:
        """Electrodes of channels whose digitised position is needed, with a line in the report."""
        meanings = resolve_channels(source.names, source.types, self.net)
        asked = self.positions == "digitised"
        possible = _possible_eeg(source, meanings)
        wanted = {source.names[k] for k in possible if asked or meanings[k] in ("unknown", "ambiguous")}
        if not wanted or not hasattr(source.source, "info"):
            if asked:
                raise ValueError("positions='digitised', but the recording has no digitised positions.")
            return {}
        try:
            found = electrodes_by_position(source.source.info)
        except ValueError as error:
            if asked:
                raise ValueError(f"positions='digitised', but {error}") from error
            if source.source.info["dig"]:
                report.steps.append(f"note: digitised positions are not used: {error}")
            return {}
        taken = {meaning for name, meaning in zip(source.names, meanings, strict=True) if name not in wanted}
        found = {name: place for name, place in found.items() if name in wanted and place[0] not in taken}
        if found:
            places = ", ".join(f"{name} = {site} ({distance:.0f} mm)" for name, (site, distance) in found.items())
            report.steps.append(f"by digitised position: {places}")
        located = {name: site for name, (site, _) in found.items()}
        if asked:
            # their names don't count either
            located |= {name: f"{name}, not near an electrode" for name in wanted - set(found)}
        return located

    def _resampler(self, rate: float) -> Resampler:
        return Resampler(rate, self.sampling_rate, self.h_freq, self.filter_phase)

    def _reach(self, rate: float) -> tuple[int, int]:
        """Samples of the output before and after a window on which the high-pass and the notch let it depend."""
        seconds = high_pass_seconds(self.l_freq) if self.l_freq else 0
        if self.filter_phase == "minimum":
            return math.ceil((seconds + NOTCH_SECONDS * self._notches(rate)) * self.sampling_rate), 0
        return (math.ceil(seconds / 2 * self.sampling_rate),) * 2

    def history_seconds(self, rate: float) -> float:
        """How much of a signal of this rate before a window enters it through the filters, in seconds."""
        return self._reach(rate)[0] / self.sampling_rate + self._resampler(rate).before / rate

    def filter_delay(self, rate: float, frequency: float) -> float:
        """By how many seconds the filters delay an oscillation in a signal of this rate; 0 with zero phase."""
        delay = self._resampler(rate).delay(frequency)
        if self.l_freq and self.filter_phase == "minimum":
            delay += high_pass_delay(self.sampling_rate, self.l_freq, frequency)
        return delay

    def _window_seconds(self, source: Recording, given: float | None) -> float | None:
        """Length of a window; `None` = the whole piece."""
        return self.window_seconds if given is None and not source.in_pieces else given

    def _read(
        self, source: Recording, plan: ChannelPlan, windows: np.ndarray, samples: int, report: ChannelReport
    ) -> tuple[list[tuple[int, int, np.ndarray]], np.ndarray]:
        """
        The planned channels at the output's rate, and what is wrong with them.

        Returns:
            stretches: for each segment with a window its number, the first sample, and the signal `[1, recorded, T]`
                that its windows and the high-pass around them need; pieces are one stretch `[pieces, recorded, T]`.
            faults: text `[pieces or 1, recorded]`, empty for good channels.
        """
        resampler, bad = self._resampler(source.sampling_rate), self._unjudged(source)
        channels = _channels_to_read(plan)
        if source.in_pieces:
            signal = source.read_pieces(channels)
            for piece, unjudged in zip(signal, bad.reshape(len(signal), -1), strict=True):
                if unjudged.any():
                    bridge(piece, unjudged, source.sampling_rate, resampler.looks_back)
            survey = SignalSurvey(len(signal), len(channels), source.sampling_rate)
            survey.add(signal)
            stretches = [(0, 0, resampler(signal, 0, signal.shape[-1], resampler.outputs(signal.shape[-1])))]
        else:
            survey = SignalSurvey(1, len(channels), source.sampling_rate)
            before, after = self._reach(source.sampling_rate)
            stretches = []
            for number in np.unique(windows[:, 0]).tolist():
                starts = windows[windows[:, 0] == number, 1]
                begin = max(0, int(starts.min()) - before) // resampler.up * resampler.up
                end = int(starts.max()) + samples + after
                signal = _read_stretch(source, number, channels, begin, end, resampler, survey, bad)
                stretches.append((number, begin, signal[None]))
        note_filled(survey, report)
        check_copies(survey, channels, plan, report)
        faults = channel_faults(survey, channels, source)[:, : len(plan.recorded)]
        check_signal(survey, faults, source.unit)
        recorded = len(plan.recorded)
        return [(number, begin, signal[:, :recorded]) for number, begin, signal in stretches], faults

    def _cut(
        self,
        values: np.ndarray,
        signal: np.ndarray,
        windows: np.ndarray,
        bad: np.ndarray,
        masked: np.ndarray,
        plan: ChannelPlan,
        rate: float,
    ) -> None:
        """
        Derives and filters the outputs of a stretch, one after the other, and writes its windows.

        Args:
            values: `[B, C, T]`, where they are written.
            signal: the recorded channels, `[n, recorded, samples]` in microvolts.
            windows: number of the piece and first sample of each window, relative to the stretch's own.
            bad, masked: recorded channels `[n, recorded]` and outputs `[n, C]` that count as zero.
            plan: which channels make which output.
            rate: the recording's.
        """
        signal[bad] = 0.0
        if plan.interpolated:
            pieces = zip(signal, bad, strict=True)
            signal = np.stack([_interpolate(*piece, self.sampling_rate, plan) for piece in pieces])
        chosen = np.flatnonzero((windows[:, 0] >= 0) & (windows[:, 0] < len(signal)))
        pieces, samples = windows[chosen, :1], windows[chosen, 1:] + np.arange(values.shape[-1])
        for channel, weights in enumerate(plan.weights):
            used = np.flatnonzero(weights)
            output = weights[used] @ signal[:, used]
            output[masked[:, channel]] = 0.0
            values[chosen, channel] = self.compress(self._filter(output, rate)[pieces, samples])

    def _filter(self, signal: np.ndarray, rate: float) -> np.ndarray:
        """Notch and high-pass of `[n, T]` at the output's rate; `rate` is the recording's."""
        if self._notches(rate):
            signal = notch(signal, self.sampling_rate, self.notch_freq, self.filter_phase)
        return high_pass(signal, self.sampling_rate, self.l_freq, self.filter_phase) if self.l_freq else signal

    def filter_matrix(self, rate: float, samples: int) -> np.ndarray:
        """
        All filters and the change of rate of a piece, such as an epoch, as one matrix: `microvolts @ matrix` is the
        piece at the output's rate, before companding.

        Args:
            rate: of the piece, in hertz.
            samples: its length.

        Returns:
            `[samples, outputs]`, float64.

        Raises:
            ValueError: for a rate that the extractor refuses.
        """
        self.check_rate(rate)
        resampler = self._resampler(rate)
        outputs = resampler.outputs(samples)
        # the impulses of all samples at once would be too many for long windows
        blocks = (np.eye(min(256, samples - first), samples, first) for first in range(0, samples, 256))
        lowered = np.concatenate([resampler(impulses, 0, samples, outputs) for impulses in blocks])
        return lowered @ self._filter(np.eye(outputs), rate)

    def channel_matrix(self, plan: ChannelPlan, bad: np.ndarray, masked: np.ndarray) -> np.ndarray:
        """
        The outputs of a plan as sums of its recorded channels, `[outputs, recorded]`.

        Args:
            plan: which channels make which output.
            bad, masked: recorded channels and outputs that count as zero, bool.
        """
        impulses = np.eye(len(plan.recorded))
        impulses[bad] = 0.0
        if plan.interpolated:
            impulses = _interpolate(impulses, bad, self.sampling_rate, plan)
        return plan.weights @ impulses * ~masked[:, None]

    def _notches(self, rate: float) -> bool:
        """Whether anything is left to remove at `notch_freq`: the low-pass ends below half the output's rate."""
        return self.notch_freq is not None and self.notch_freq < min(rate, self.sampling_rate) / 2

    def _report_filters(self, source: Recording, report: ChannelReport) -> None:
        """Lines on the notch, the band, the rate and companding."""
        rate, resampler = source.sampling_rate, self._resampler(source.sampling_rate)
        if self._notches(rate):
            report.steps.append(f"notch: {self.notch_freq:g} Hz")
        elif self.notch_freq is not None:
            report.steps.append(f"notch: none, {self.notch_freq:g} Hz lies above the band")
        report.steps.append(
            f"band-pass: {self.l_freq or 0:g} to {resampler.border or self.sampling_rate / 2:g} Hz, "
            f"{self.filter_phase} phase"
        )
        if self.filter_phase == "minimum":
            delays = [1000 * self.filter_delay(rate, frequency) for frequency in (2.0, 10.0, 25.0)]
            report.steps.append("delay: {:.0f}, {:.0f} and {:.0f} ms at 2, 10 and 25 Hz".format(*delays))
        shortest = min(segment.stop - segment.start for segment in source.segments) / rate
        if self.l_freq and shortest < high_pass_seconds(self.l_freq):
            report.steps.append(
                f"note: the high-pass is {high_pass_seconds(self.l_freq):.0f} s long, but the signal {shortest:.1f} s:"
                + (" its ends are mirrored" if self.filter_phase == "zero" else " it starts from the first sample")
            )
        change = "unchanged" if rate == self.sampling_rate else f"to {self.sampling_rate} Hz"
        report.steps.append(f"rate: {rate:g} Hz{', ' if rate == self.sampling_rate else ' '}{change}")
        if self.companding is not None:
            report.steps.append(f"companding: A-law, A = {self.companding_a}")


def _is_list_of_recordings(recordings: Any) -> bool:
    """A list of paths, Raw, Epochs or arrays with channels; nested lists of numbers are one array."""
    if not isinstance(recordings, list | tuple):
        return False
    known = (mne.io.BaseRaw, mne.BaseEpochs, str)
    return all(
        isinstance(item, known)
        or is_of_mne(item)
        or is_recording(item)
        or hasattr(item, "__fspath__")
        or getattr(item, "ndim", 0) >= 2
        for item in recordings
    )


@contextmanager
def _as_problem(report: ChannelReport) -> Iterator[None]:
    """Inside, what the extractor would refuse becomes a problem of the report."""
    try:
        yield
    except ValueError as error:
        report.problems.append(str(error))


def _new_report(source: Recording) -> ChannelReport:
    """A report that begins with what is known about the recording."""
    report = ChannelReport(
        dropped=dict(source.left_out),
        steps=list(source.notes),
        recorded=len(source.names) + len(source.left_out),
        sampling_rate=source.sampling_rate,
    )
    report.steps.append(f"unit: {source.unit} to microvolt")
    for start, end in source.gaps:
        report.steps.append(
            f"gap: {start:g} to {end:g} s, no window reaches into it"
            if end > start
            else f"gap: at {start:g} s, of unknown length, no window reaches across it"
        )
    return report


def _channels_to_read(plan: ChannelPlan) -> list[int]:
    """The recorded channels, followed by those that must be copies of others."""
    return plan.recorded + [later for later, _ in plan.duplicates]


def _read_stretch(
    source: Recording,
    number: int,
    channels: list[int],
    begin: int,
    end: int,
    resampler: Resampler,
    survey: SignalSurvey,
    bad: np.ndarray,
) -> np.ndarray:
    """
    Samples `begin` to `end` of a segment at the output's rate, `[len(channels), T]`, read block by block. Those of the
    recording that are `bad` are neither judged nor filtered.
    """
    segment = source.segments[number]
    length = segment.stop - segment.start
    end = min(end, resampler.outputs(length))
    first = begin // resampler.up * resampler.step
    last = min(length, resampler.inputs(end))
    block = math.ceil(BLOCK_SECONDS * source.sampling_rate / resampler.step) * resampler.step
    signal = np.empty((len(channels), end - begin))
    for start in range(first, last, block):
        stop = min(start + block, last)
        low, high = max(0, start - resampler.before), min(length, stop + resampler.after)
        data = source.read(channels, segment.start + low, segment.start + high)
        unjudged = bad[segment.start + low : segment.start + high]
        if unjudged.any():
            bridge(data, unjudged, source.sampling_rate, resampler.looks_back)
        # filters would spread a NaN from around the block
        survey.clean(data[None])
        survey.add(data[None, :, start - low : stop - low], unjudged[start - low : stop - low])
        at = start // resampler.step * resampler.up - begin
        count = (end - begin if stop == last else (stop - first) // resampler.step * resampler.up) - at
        signal[:, at : at + count] = resampler(data, start - low, stop - low, count)
    # once more, as a block may have ended where time is bad
    times = segment.start + np.arange(begin, end) * resampler.step // resampler.up
    unjudged = bad[times] | bad[np.minimum(times + 1, segment.stop - 1)]
    if unjudged.any():
        bridge(signal, unjudged, resampler.target, resampler.looks_back)
    return signal


def _survey(source: Recording, channels: list[int], bad: np.ndarray) -> SignalSurvey:
    """The whole recording as it is, but for samples that are `bad`, block by block."""
    if source.in_pieces:
        signal = source.read_pieces(channels)
        survey = SignalSurvey(len(signal), len(channels), source.sampling_rate)
        survey.add(signal)
        return survey
    survey = SignalSurvey(1, len(channels), source.sampling_rate)
    block = math.ceil(BLOCK_SECONDS * source.sampling_rate)
    for segment in source.segments:
        for start in range(segment.start, segment.stop, block):
            stop = min(start + block, segment.stop)
            survey.add(source.read(channels, start, stop)[None], bad[start:stop])
    return survey


def _possible_eeg(source: Recording, meanings: list[str]) -> list[int]:
    """Channels that may be EEG, whether or not their names say where they are."""
    kinds = zip(source.types, meanings, strict=True)
    return [k for k, (kind, meaning) in enumerate(kinds) if kind == "eeg" and not meaning.startswith("non-eeg")]


def _interpolate(signal: np.ndarray, bad: np.ndarray, rate: float, plan: ChannelPlan) -> np.ndarray:
    """The recorded electrodes followed by the plan's interpolated ones, `[C, T]`: splines through the good ones."""
    names = plan.electrodes + plan.interpolated
    info = mne.create_info(names, rate, "eeg")
    info.set_montage(
        mne.channels.make_dig_montage(dict(zip(names, positions_of(names), strict=True)), coord_frame="head")
    )
    empty = np.zeros((len(plan.interpolated), signal.shape[-1]))
    raw = mne.io.RawArray(np.concatenate([signal, empty]), info, verbose="ERROR")
    broken = [name for name, is_bad in zip(names, bad, strict=False) if is_bad]
    raw.info["bads"] = broken + plan.interpolated
    raw.interpolate_bads(exclude=broken, verbose="ERROR")
    return raw.get_data()


def _concatenate(parts: list[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """The windows of several recordings, padded on the right to the most channels and samples; the masks say where."""
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


__all__ = ["NeurIPTFeatureExtractor", "a_law_compress", "a_law_expand"]
