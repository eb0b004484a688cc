"""
XDF, the files of the Lab Streaming Layer: several streams, each with time stamps of its own.

The stamps are taken as they were written, but for the difference of the computers' clocks: pyxdf would spread them
evenly, and gaps with them.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from .array_file import ArrayFile
from .clock import clock_of_stamps


# What a channel of the signal is called in the description of a stream.
_EEG_TYPES = ("", "eeg", "exg", "eeg-raw", "voltage")


def read_xdf(path: Path, sampling_rate: float | None = None, variable: str | None = None) -> ArrayFile:
    """
    Args:
        path: the file.
        sampling_rate: the user's, in hertz.
        variable: name of the stream.

    Raises:
        ValueError: where pyxdf is not installed, not exactly one stream is EEG or named so, it is empty, or its stamps
            contradict its rate; lists the streams.
    """
    try:
        import pyxdf
    except ImportError as error:
        raise ValueError("Files of type .xdf are read with pyxdf: pip install pyxdf.") from error
    streams, _ = pyxdf.load_xdf(path, dejitter_timestamps=False)
    if not streams:
        raise ValueError("The file has no streams: it is truncated or corrupt, or nothing was recorded.")
    stream = _chosen(streams, variable)
    info, stamps = stream["info"], np.asarray(stream["time_stamps"], dtype=float)
    found = ArrayFile(
        np.asarray(stream["time_series"], dtype=float).T, notes=[f"signal: the stream {_described(stream)}"]
    )
    _read_channels(info, found)
    nominal, rate_of = float(_text(info, "nominal_srate") or 0), f"the stream {_text(info, 'name')!r}"
    stated = sampling_rate or nominal or None
    said_by = "sampling_rate" if sampling_rate else f"the header of {rate_of}"
    otherwise = "load the stream with pyxdf, and give the extractor its numbers as an array"
    clock = clock_of_stamps(stamps, _text(info, "name"), stated, said_by, otherwise)
    found.sampling_rate, found.breaks = clock.rate, clock.breaks
    found.notes += clock.notes
    _read_markers(streams, stamps, found)
    return found


def _text(info: dict, key: str) -> str:
    """pyxdf has every text in a list."""
    value = info.get(key) or [""]
    return str((value[0] if isinstance(value, list) else value) or "")


def _described(stream: dict) -> str:
    info = stream["info"]
    return (
        f"{_text(info, 'name')!r} (type {_text(info, 'type') or '?'}, {_text(info, 'channel_count')} channels of "
        f"{_text(info, 'channel_format')}, {float(_text(info, 'nominal_srate') or 0):g} Hz, "
        f"{len(stream['time_stamps'])} samples)"
    )


def _chosen(streams: list[dict], variable: str | None) -> dict:
    """The stream of this name, or the only one of type EEG that has samples."""
    listed = "; ".join(map(_described, streams))
    if variable is not None:
        chosen = [
            stream
            for stream in streams
            if variable in (_text(stream["info"], key) for key in ("name", "source_id", "uid"))
        ]
    else:
        chosen = [stream for stream in streams if _text(stream["info"], "type").upper() == "EEG"]
        chosen = [stream for stream in chosen if len(stream["time_stamps"])] or chosen
    if len(chosen) != 1:
        what = f"{len(chosen)} streams are {f'called {variable!r}' if variable is not None else 'of type EEG'}"
        advice = "Choose one by its name: variable='...'" + "; where names are the same, by source_id or uid" * (
            len(chosen) > 1
        )
        raise ValueError(f"{what} in this xdf file. Its streams: {listed}. {advice}.")
    if _text(chosen[0]["info"], "channel_format") == "string":
        raise ValueError(
            f"The stream {_described(chosen[0])} holds texts, not a signal. The streams of this xdf file: {listed}."
        )
    if len(chosen[0]["time_stamps"]) < 2:
        raise ValueError(f"The stream {_described(chosen[0])} of this xdf file has no data.")
    return chosen[0]


def _read_channels(info: dict, found: ArrayFile) -> None:
    """Names and units from the description; channels that it says are something else than EEG are left out."""
    description = (info.get("desc") or [None])[0] or {}
    channels = ((description.get("channels") or [None])[0] or {}).get("channel") or []
    if len(channels) != len(found.values):
        if channels:
            found.notes.append(
                f"note: the stream describes {len(channels)} channels but has {len(found.values)}: names not used"
            )
        return
    names = [_text(channel, "label") or _text(channel, "name") for channel in channels]
    kinds = [_text(channel, "type") for channel in channels]
    signal = [k for k, kind in enumerate(kinds) if kind.strip().lower() in _EEG_TYPES]
    signal = signal or list(range(len(kinds)))
    found.left_out = {
        names[k] or f"channel {k + 1}": f"of type {kinds[k]} by the stream"
        for k in range(len(kinds))
        if k not in signal
    }
    found.values = found.values[signal]
    found.names = [names[k] for k in signal] if all(names[k] for k in signal) else None
    found.unit_of = [_text(channels[k], "unit") or None for k in signal]


def _read_markers(streams: Sequence[dict], stamps: np.ndarray, found: ArrayFile) -> None:
    """Streams of texts, and of markers without a rate, as events; they count from the first sample of the signal."""
    outside = 0
    for stream in streams:
        info = stream["info"]
        marks = "marker" in _text(info, "type").lower() or _text(info, "channel_format") == "string"
        if not marks or float(_text(info, "nominal_srate") or 0):
            continue
        for stamp, values in zip(stream["time_stamps"], stream["time_series"], strict=True):
            if stamps[0] <= stamp <= stamps[-1]:
                text = ", ".join(str(value) for value in np.atleast_1d(np.asarray(values, dtype=object)))
                found.events.append((float(stamp - stamps[0]), 0.0, text))
            else:
                outside += 1
    found.events.sort(key=lambda event: event[0])
    if outside:
        found.notes.append(f"note: {outside} markers lie before or after the signal and are left out")


__all__ = ["read_xdf"]
