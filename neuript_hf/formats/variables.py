"""
The signal among the variables of a file (.mat, .npz), and what the others say about it.

Nothing is picked: what may be the signal is one array, or the trials of one recording, or an error lists what there
is.
Which axis is which is told by the channel names and by other variables, never by the size alone.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from ..channel_names import is_electrode, is_pair
from ..electrodes import resolve_channel
from ..units import microvolts_of
from .array_file import ArrayFile
from .clock import Clock, clock_of_stamps, read_stamps


# Names of variables and fields, in lower case and without anything but letters and digits.
_RATE = re.compile(r"sampl(ing|e)(rate|freq\w*)|sfreq|srate|fsample|fs")
_OTHER_RATE = re.compile(
    rf"(orig(inal)?|raw|old|new|target|eeg)?({_RATE.pattern})(orig(inal)?|raw|old|new|target|eeg|hz)?"
)
_NAMES = re.compile(
    r"(eeg)?ch(an|annel)?s?|(eeg)?ch(an|annel)?s?(names?|labels?|list)|labels?|names?|electrodes?|clab|montage"
)
_UNITS = ("units", "unit", "chanunit", "physicaldimension")
_TIMES = ("time", "times", "t", "timestamps", "timestamp", "timevector", "timeaxis")
_OF_TRIALS = re.compile(
    r"y|y?(train|test)?(labels?|targets?|class(es)?|conditions?|trueclass|classlabels?|trialinfo|stim\w*)|y(train|test)"
)
_SAMPLE_COUNTS = ("pnts", "ntimes", "nsamples", "npoints", "npnts")
_TRIAL_COUNTS = ("trials", "ntrials", "nepochs")
_PERSON = re.compile(r"(^|[^a-z])(s|p|sub|subj|subject|person|participant|patient)s?[ _]*$", re.IGNORECASE)


@dataclass
class NotRead:
    """A variable that is not read, with the reason."""

    reason: str


@dataclass
class _Candidate:
    """
    What may be the signal.

    Args:
        name: as a user chooses it.
        arrays: one, or one for each trial.
        around: the structs it is in, the innermost first; the last one is the file.
        layout: `"eeglab"`, `"fieldtrip"` or `""`.
    """

    name: str
    arrays: list[np.ndarray]
    around: list[dict] = field(default_factory=list)
    layout: str = ""

    def __str__(self) -> str:
        shapes = list(dict.fromkeys(str(list(array.shape)) for array in self.arrays))
        kind = "" if self.arrays[0].dtype.kind in "iuf" else f"{self.arrays[0].dtype} "
        several = f"{len(self.arrays)} arrays " if len(self.arrays) > 1 else ""
        return f"{self.name} ({several}{kind}{', '.join(shapes[:4])}{', ...' if len(shapes) > 4 else ''})"


def from_variables(
    variables: dict[str, Any],
    sampling_rate: float | None,
    channel_names: Sequence[str] | None,
    variable: str | None,
    trial: int | None,
    pieces_first: bool,
) -> ArrayFile:
    """
    Args:
        variables: name -> an array, text, list (a cell), dictionary (a struct) or [`NotRead`].
        sampling_rate, channel_names, variable, trial: the user's, as in [`open_recording`].
        pieces_first: whether an array of three dimensions whose second is the channels is `[n, C, T]`, as numpy and
            MNE have it; otherwise other variables have to tell.

    Raises:
        ValueError: where no array, or more than one, may be the signal, or its axes can't be told apart; lists the
            arrays.
    """
    variables = {name: _plain(value) for name, value in variables.items()}
    chosen = _chosen(list(_candidates(variables)), variables, channel_names, variable)
    _refuse_unreadable(chosen)
    found = ArrayFile(np.empty((0, 0)), notes=[f"signal: the variable {chosen}"] * (len(variables) > 1))
    found.sampling_rate = _rate_of(chosen, sampling_rate)
    if channel_names is None and not _name_lists(chosen) and [array.ndim for array in chosen.arrays] == [2]:
        # names are needed and will be asked for, so the axes do not matter yet
        found.values = min(chosen.arrays[0], chosen.arrays[0].T, key=len)
        return found
    names = _names_of(chosen, channel_names)
    found.names = [str(name) for name in names]
    trials = _trials(chosen, len(names), pieces_first, found)
    _set_units(chosen, len(names), found)
    if trial is not None:
        if not isinstance(trial, int | np.integer) or not 0 <= trial < len(trials):
            raise ValueError(
                f"There is no trial {trial} in {chosen}: it has {len(trials)}, from 0 to {len(trials) - 1}."
            )
        found.notes.append(f"trial: number {trial} of {len(trials)}, counted from 0")
        trials = [trials[trial]]
    _join(trials, chosen, found)
    _read_times(chosen, trial, sampling_rate, found)
    if trial is None and len(trials) == 1 and found.values.ndim == 2:
        _read_eeglab_events(chosen, found)
    return found


# What may be the signal


def _plain(value: Any) -> Any:
    """Texts of numpy as texts; structured arrays are not read."""
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, np.ndarray) and value.dtype.kind in "US":
        texts = [text.decode() if isinstance(text, bytes) else str(text) for text in value.ravel()]
        return texts[0] if value.size == 1 and value.ndim == 0 else texts
    if isinstance(value, np.ndarray) and value.dtype.names:
        return NotRead(f"a table with the fields {', '.join(value.dtype.names)}. Save it as an array [C, T]")
    return value


def _is_array(value: Any) -> bool:
    return isinstance(value, np.ndarray) and value.dtype.kind in "iufc" and value.size > 0


def _is_matrix(value: Any) -> bool:
    return _is_array(value) and value.ndim >= 2 and sum(length > 1 for length in value.shape) >= 2


def _candidates(struct: dict, path: str = "", around: tuple = ()) -> Iterator[_Candidate]:
    """Arrays of two dimensions and more, and cells of them; of EEGLAB's and FieldTrip's structs only their signal."""
    around = (struct, *around)
    if {"data", "srate", "chanlocs"} <= set(struct):
        if isinstance(struct["data"], str):
            raise ValueError(f"The signal is not in this file, but in {struct['data']}. Open the .set file beside it.")
        yield _Candidate(f"{path}data", [struct["data"]], list(around), "eeglab")
        return
    if {"trial", "label"} <= set(struct) and isinstance(struct["trial"], list):
        yield _Candidate(f"{path}trial", struct["trial"], list(around), "fieldtrip")
        return
    for name, value in struct.items():
        yield from _candidates_in(value, f"{path}{name}", around)


def _candidates_in(value: Any, path: str, around: tuple) -> Iterator[_Candidate]:
    if isinstance(value, dict):
        yield from _candidates(value, f"{path}.", around)
    elif isinstance(value, list) and value and all(map(_is_matrix, value)):
        yield _Candidate(path, value, list(around))
    elif isinstance(value, list):
        for number, item in enumerate(value):
            yield from _candidates_in(item, f"{path}[{number}]", around)
    elif _is_matrix(value):
        yield _Candidate(path, [value], list(around))


def _chosen(
    single: list[_Candidate], variables: dict, channel_names: Sequence[str] | None, variable: str | None
) -> _Candidate:
    """The one that the user names, or the only one that fits the channel names, once trials are put together."""
    if variable is not None:
        return _by_name(single, variables, variable)
    groups = _with_trials_together(single) or _of_vectors(variables)
    if not groups:
        others = [
            f"{name} ({value.reason})" if isinstance(value, NotRead) else name for name, value in variables.items()
        ]
        raise ValueError(
            f"No array of numbers with channels and samples; the file has {', '.join(others) or 'nothing'}."
        )
    fitting = [group for group in groups if _may_fit(group, channel_names)]
    if len(groups) == 1:
        return groups[0]
    listed = "; ".join(map(str, fitting or groups))
    if not fitting:
        raise ValueError(f"No array fits the channel names: {listed}. Give as many names as an array has channels.")
    if len(fitting) > 1:
        raise ValueError(
            f"Several arrays may be the signal: {listed}. Choose one with variable={fitting[0].name!r}; or, if they "
            "are trials of one recording, several with * in the name."
        )
    return fitting[0]


def _of_vectors(variables: dict) -> list[_Candidate]:
    """Without any matrix: a vector for each channel, if all have names of electrodes; else any may be the signal."""
    vectors = {name: np.ravel(value) for name, value in variables.items() if _is_array(value) and value.size > 1}
    vectors = {name: value for name, value in vectors.items() if not _known(name)}
    channels = {n: v for n, v in vectors.items() if is_electrode(found := resolve_channel(n)) or is_pair(found)}
    if len(channels) > 1 and len(set(map(len, channels.values()))) == 1:
        around = variables | {"channel_names": list(channels)}
        return [_Candidate(f"{', '.join(channels)}", [np.stack(list(channels.values()))], [around])]
    return [_Candidate(name, [vector[None]], [variables]) for name, vector in vectors.items()]


def _known(name: str) -> bool:
    """Whether a vector of this name is about the signal, not the signal."""
    last = _letters(name)
    return bool(last in _TIMES or _OF_TRIALS.fullmatch(last) or _OTHER_RATE.fullmatch(last) or _NAMES.fullmatch(last))


def _by_name(single: list[_Candidate], variables: dict, variable: str) -> _Candidate:
    groups = _with_trials_together(single)
    for candidates in (single, groups):
        exact = [c for c in candidates if c.name == variable] or [
            c for c in candidates if re.split(r"[.\]]", c.name)[-1] == variable
        ]
        if len(exact) == 1:
            return exact[0]
    pattern = ".*".join(map(re.escape, variable.split("*")))
    matching = [c for c in single if "*" in variable and re.fullmatch(pattern, c.name)]
    if matching:
        return _together(variable, matching)
    value = variables.get(variable)
    if isinstance(value, NotRead):
        raise ValueError(f"{variable} is {value.reason}.")
    if _is_array(value):
        return _Candidate(variable, [np.reshape(value, (1, -1))], [variables])
    listed = "; ".join(map(str, groups)) or "none"
    raise ValueError(f"There is no array {variable!r} to choose; there are: {listed}.")


def _together(name: str, candidates: list[_Candidate]) -> _Candidate:
    ordered = sorted(
        candidates, key=lambda c: [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", c.name)]
    )
    around = {id(struct): struct for candidate in ordered for struct in candidate.around}
    return _Candidate(name, [array for c in ordered for array in c.arrays], list(around.values()), ordered[0].layout)


def _with_trials_together(single: list[_Candidate]) -> list[_Candidate]:
    """Arrays whose names differ in one number that counts (x_eeg1, x_eeg2, ...) are trials; not so people (s1, s2)."""
    groups: dict[str, list[_Candidate]] = {}
    for candidate in single:
        groups.setdefault(re.sub(r"\d+", "*", candidate.name), []).append(candidate)
    result = []
    for pattern, members in groups.items():
        numbers = np.array([list(map(int, re.findall(r"\d+", member.name))) for member in members])
        varying = [k for k in range(numbers.shape[1]) if len(set(numbers[:, k])) > 1]
        counted = len(varying) == 1 and (np.diff(np.sort(numbers[:, varying[0]])) == 1).all()
        stem = pattern.split("*")[varying[0]] if counted else ""
        flat = all(array.ndim == 2 for member in members for array in member.arrays)
        same = flat and any(len({array.shape[axis] for m in members for array in m.arrays}) == 1 for axis in (0, 1))
        if len(members) > 1 and counted and same and not _PERSON.search(stem.rstrip("[")):
            parts = re.split(r"\d+", members[0].name)
            fixed = [str(number) for number in numbers[0]]
            fixed[varying[0]] = "*"
            result.append(_together("".join(a + b for a, b in zip(parts, [*fixed, ""], strict=True)), members))
        else:
            result += members
    return result


def _refuse_unreadable(chosen: _Candidate) -> None:
    kinds = {array.dtype for array in chosen.arrays}
    dimensions = {array.ndim for array in chosen.arrays}
    if any(kind.kind == "c" for kind in kinds):
        raise ValueError(f"{chosen} is complex. Save the real signal, in volts or microvolts, and open that.")
    if dimensions - {2, 3} or (len(chosen.arrays) > 1 and dimensions != {2}):
        raise ValueError(
            f"{chosen} has {max(dimensions)} dimensions, which nothing explains. Load it, arrange it as [C, T] or "
            "[n, C, T], and give the array to the extractor."
        )


# Channels and axes


def _letters(name: str) -> str:
    """The last part of a name in lower case, without blanks and underscores."""
    return re.sub(r"[\W_]", "", name.split(".")[-1]).lower()


def _fields(chosen: _Candidate) -> Iterator[tuple[str, Any]]:
    """What may be about the signal: the fields beside it and around it, and those of structs that hold no signal."""

    def inside(struct: dict) -> Iterator[tuple[str, Any]]:
        for name, value in struct.items():
            if not isinstance(value, dict):
                yield name, value
            elif not any(value is outer for outer in chosen.around) and not any(_candidates(value)):
                yield from inside(value)

    for struct in chosen.around[:1] if chosen.layout else chosen.around:
        yield from inside(struct)


def _name_lists(chosen: _Candidate) -> list[list[str]]:
    """Different lists of channel names that the file has for an array."""
    lists = []
    for name, value in _fields(chosen):
        if isinstance(value, list) and value and all(isinstance(item, dict) and "labels" in item for item in value):
            lists.append([str(item["labels"]) for item in value])  # EEGLAB's chanlocs
        elif _NAMES.fullmatch(_letters(name)):
            words = re.split(r"[,;\s]+", value.strip()) if isinstance(value, str) else value
            if isinstance(words, list) and all(isinstance(word, str) for word in words):
                lists.append([word.strip() for word in words])
    # the classes of trials may be called labels, too, but the same class comes again
    return [names for k, names in enumerate(lists) if names not in lists[:k] and len(set(names)) > len(names) / 2]


def _fits(chosen: _Candidate, count: int) -> bool:
    return all(count in array.shape for array in chosen.arrays)


def _may_fit(chosen: _Candidate, channel_names: Sequence[str] | None) -> bool:
    lists = [channel_names] if channel_names is not None else _name_lists(chosen)
    return not lists or any(_fits(chosen, len(names)) for names in lists)


def _names_of(chosen: _Candidate, channel_names: Sequence[str] | None) -> Sequence[str]:
    """
    The file's names for the channels of an array, or the user's where it has none that fit.

    Raises:
        ValueError: where there are none, none fit, or different ones do.
    """
    lists = _name_lists(chosen)
    fitting = [names for names in lists if _fits(chosen, len(names))]
    if channel_names is not None:
        same = [names for names in fitting if len(names) == len(channel_names)]
        return same[0] if len(same) == 1 else channel_names
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        listed = " or ".join(f"{', '.join(names[:3])}, ..." for names in fitting)
        raise ValueError(
            f"The file has different channel names for {chosen}: {listed}. Give them: channel_names=[...]."
        )
    have = (
        f"has {', '.join(str(len(names)) for names in lists)} names, which do not fit"
        if lists
        else "has no channel names for"
    )
    raise ValueError(
        f"The file {have} {chosen}. Give the channel names, as many as channels: channel_names=['C3', ...]."
    )


def _trials(chosen: _Candidate, count: int, pieces_first: bool, found: ArrayFile) -> list[np.ndarray] | np.ndarray:
    """
    The signal as a list of arrays `[C, T]`, or as one `[n, C, T]`.

    Raises:
        ValueError: where the number of channels fits no axis, or the axes can't be told apart.
    """
    arrays = chosen.arrays
    if not _fits(chosen, count):
        hint = (
            ""
            if chosen.layout
            else " Is another array the signal (variable=...), or are names of other channels among them?"
        )
        raise ValueError(f"{count} channel names fit no axis of {chosen}.{hint}")
    if arrays[0].ndim == 3:
        pieces = _pieces(chosen, arrays[0], count, pieces_first)
        if pieces.shape != arrays[0].shape:
            found.notes.append(
                f"signal: read as {len(pieces)} trials of {count} channels and {pieces.shape[2]} samples"
            )
        return pieces
    axes = [axis for axis in (0, 1) if all(array.shape[axis] == count for array in arrays)]
    if chosen.layout:  # channels first, by the format
        axes = axes[:1] if axes[:1] == [0] else []
    if len(axes) != 1:
        raise ValueError(_unclear(chosen, "[C, T]"))
    trials, counted = [array if axes == [0] else array.T for array in arrays], _counted(chosen, _TRIAL_COUNTS)
    if axes == [1]:
        found.notes.append(f"signal: transposed, {count} channels of {trials[0].shape[1]} samples")
    if chosen.layout == "eeglab" and counted and len(trials) == 1 and max(counted) > 1:
        return np.moveaxis(trials[0].reshape(count, max(counted), -1), 1, 0)  # trial after trial
    return trials


def _pieces(chosen: _Candidate, array: np.ndarray, count: int, pieces_first: bool) -> np.ndarray:
    """`[n, C, T]`: the channels by their number, the others by what counts samples or trials."""
    channels = [axis for axis in range(3) if array.shape[axis] == count]
    if chosen.layout == "eeglab":
        return np.transpose(array, (2, 0, 1))
    if len(channels) != 1:
        raise ValueError(_unclear(chosen, "[n, C, T]"))
    others = [axis for axis in range(3) if axis != channels[0]]
    samples = _counted(chosen, _SAMPLE_COUNTS) | {
        np.size(v) for name, v in _fields(chosen) if _letters(name) in _TIMES
    }
    trials = _counted(chosen, _TRIAL_COUNTS) | {
        len(value) if isinstance(value, list) else max(value.shape)
        for name, value in _fields(chosen)
        if _OF_TRIALS.fullmatch(_letters(name))
        and (isinstance(value, list) or _is_array(value) and not _is_matrix(value))
    }
    lengths = [array.shape[axis] for axis in others]
    times = {axis for axis, length in zip(others, lengths, strict=True) if length in samples}
    times |= {other for axis, other in (others, others[::-1]) if array.shape[axis] in trials}
    if not times and pieces_first and channels == [1] or lengths[0] == lengths[1] and pieces_first and channels == [1]:
        times = {2}
    if len(times) != 1:
        raise ValueError(_unclear(chosen, "[n, C, T]"))
    (time,) = times
    (trial,) = set(others) - times
    return np.transpose(array, (trial, channels[0], time))


def _unclear(chosen: _Candidate, layout: str) -> str:
    return (
        f"The axes of {chosen} can't be told apart by what the file says. Load it, arrange it as {layout} (C "
        "channels, T samples, n trials), and give the array to the extractor with sampling_rate, channel_names and "
        "unit."
    )


def _counted(chosen: _Candidate, names: tuple[str, ...]) -> set[int]:
    """Whole numbers that the file has under one of these names."""
    values = [value for name, value in _fields(chosen) if _letters(name) in names and np.size(value) == 1]
    return {int(np.ravel(value)[0]) for value in values if np.asarray(value).dtype.kind in "iuf"}


# What else the file says


def _rate_of(chosen: _Candidate, sampling_rate: float | None) -> float | None:
    """
    Raises:
        ValueError: where the file has several rates, or only one of an earlier state of the signal.
    """
    rates, sure = [], []
    for name, value in _fields(chosen):
        number = re.fullmatch(r"([\d.]+)\s*(hz)?", value.strip(), re.IGNORECASE) if isinstance(value, str) else None
        single = isinstance(value, np.ndarray | int | float) and np.size(value) == 1
        if (number or single) and _OTHER_RATE.fullmatch(_letters(name)):
            rate = float(number[1] if number else np.ravel(value)[0])
            if not chosen.layout or name in ("srate", "fsample"):
                rates.append((name, rate))
                sure += [rate] * bool(_RATE.fullmatch(_letters(name)))
    if not sure and sampling_rate is not None or sampling_rate in [rate for _, rate in rates] or not rates:
        return sampling_rate
    if len({rate for _, rate in rates}) > 1 or not sure:
        listed = ", ".join(dict.fromkeys(f"{name} = {rate:g}" for name, rate in rates))
        raise ValueError(f"The file gives the rate as {listed} Hz. Say which is that of {chosen}: sampling_rate=...")
    return sure[0]


def _set_units(chosen: _Candidate, count: int, found: ArrayFile) -> None:
    for name, value in _fields(chosen):
        units = [value] if isinstance(value, str) else value
        if _letters(name) in _UNITS and isinstance(units, list) and all(isinstance(unit, str) for unit in units):
            if len(units) == count:
                found.unit_of = list(units)
            elif len(set(units)) == 1 and microvolts_of(units[0]):
                found.unit = units[0]


def _join(trials: list[np.ndarray] | np.ndarray, chosen: _Candidate, found: ArrayFile) -> None:
    """
    Trials of equal length as pieces, others one after the other with a gap between any two; arrays with names of their
    own, which may be long, are never pieces.
    """
    if len(trials) == 1 and isinstance(trials, list):
        found.values = trials[0]
        return
    lengths = [trial.shape[-1] for trial in trials]
    if isinstance(trials, np.ndarray):
        lengths = _lengths_without_padding(trials)
    elif len(set(lengths)) == 1 and "*" not in chosen.name:
        trials = np.stack(trials)
    span = f"{min(lengths)} to {max(lengths)}" if len(set(lengths)) > 1 else f"{lengths[0]}"
    found.notes.append(f"trials: {len(lengths)} of {span} samples")
    if isinstance(trials, np.ndarray) and len(set(lengths)) == 1 and lengths[0] == trials.shape[-1]:
        found.values = trials
        return
    found.values = np.concatenate([trial[:, :length] for trial, length in zip(trials, lengths, strict=True)], axis=1)
    found.breaks = list(
        zip(np.cumsum(lengths)[:-1].tolist(), _missing_between(chosen, len(lengths), found), strict=True)
    )
    found.notes.append("trials: no window crosses from one to the next")


def _lengths_without_padding(trials: np.ndarray) -> list[int]:
    """Samples of each piece up to the last that has a number: shorter trials are often filled up with NaN."""
    if trials.dtype.kind != "f" or not np.isnan(trials[:, :, -1]).all(axis=1).any():
        return [trials.shape[-1]] * len(trials)
    filled = ~np.isnan(trials).all(axis=1)
    return [int(np.flatnonzero(row)[-1]) + 1 if row.any() else 0 for row in filled]


def _missing_between(chosen: _Candidate, count: int, found: ArrayFile) -> list[float]:
    """Seconds between trials, by FieldTrip's sampleinfo where it is there; else 0, nobody knows."""
    info = chosen.around[0].get("sampleinfo") if chosen.layout == "fieldtrip" else None
    if not _is_array(info) or info.shape != (count, 2) or not found.sampling_rate:
        return [0.0] * (count - 1)
    return [max(0.0, float(gap / found.sampling_rate)) for gap in info[1:, 0] - info[:-1, 1] - 1]


def _read_times(chosen: _Candidate, trial: int | None, sampling_rate: float | None, found: ArrayFile) -> None:
    """
    Rate and gaps by vectors of times with one number for each sample: of the signal, or of every trial (FieldTrip's
    cell). The user's rate comes before the file's, so that it decides where file and times contradict each other.
    """
    lengths = _lengths(found)
    for name, value in _fields(chosen):
        vectors = value if isinstance(value, list) else [value]
        vectors = vectors if trial is None or len(vectors) == 1 else vectors[trial : trial + 1]
        vectors = vectors * len(lengths) if len(vectors) == 1 and len(set(lengths)) == 1 else vectors
        if _letters(name) not in _TIMES or not all(_is_array(v) and v.dtype.kind != "c" for v in vectors):
            continue
        if [v.size for v in vectors] != lengths:
            continue
        vectors = [np.ravel(vector) for vector in vectors]
        if _letters(name) == "t" and any((np.diff(vector) <= 0).any() for vector in vectors):  # something else
            continue
        clocks = _clocks_of(vectors, "ms" if chosen.layout == "eeglab" else name, name, sampling_rate, found)
        if clocks is not None:
            _set_clocks(clocks, lengths, found)
            return


def _lengths(found: ArrayFile) -> list[int]:
    """Samples of each trial; of the signal where there are none."""
    samples = found.values.shape[-1]
    if found.values.ndim == 3:
        return [samples] * len(found.values)
    return np.diff([0, *(at for at, _ in found.breaks), samples]).tolist()


def _clocks_of(
    vectors: list[np.ndarray], unit: str, name: str, sampling_rate: float | None, found: ArrayFile
) -> list[Clock] | None:
    """A clock for each trial, all of one rate; `None` where these are no times."""
    stated, said_by = sampling_rate or found.sampling_rate, "sampling_rate" if sampling_rate else "the file's rate"
    clocks: list[Clock] = []
    for number, vector in enumerate(vectors):
        if number and np.array_equal(vector, vectors[number - 1]):
            clocks.append(clocks[-1])
            continue
        seconds = read_stamps(pd.Series(vector), unit, stated)
        if seconds is None:
            return None
        clocks.append(clock_of_stamps(seconds, name, stated, said_by))
        stated, said_by = (stated, said_by) if stated else (clocks[0].rate, "those of the first trial")
    return clocks


def _set_clocks(clocks: list[Clock], lengths: list[int], found: ArrayFile) -> None:
    rate = clocks[0].rate
    if found.sampling_rate not in (None, rate):
        found.notes.append(f"rate: {rate:g} Hz as given and by the times, in place of the file's")
    found.sampling_rate = rate
    found.notes += dict.fromkeys(note for clock in clocks for note in clock.notes)
    starts = np.cumsum([0, *lengths[:-1]]).tolist()
    inside = [(start + at, gap) for start, clock in zip(starts, clocks, strict=True) for at, gap in clock.breaks]
    if inside and found.values.ndim == 3:  # no pieces any more, but stretches
        found.values = np.concatenate(list(found.values), axis=1)
        found.breaks = [(start, 0.0) for start in starts[1:]]
    found.breaks = sorted(found.breaks + inside)


def _read_eeglab_events(chosen: _Candidate, found: ArrayFile) -> None:
    """EEGLAB counts samples from 1; a boundary lies between two."""
    events = chosen.around[0].get("event") if chosen.layout == "eeglab" else None
    if isinstance(events, dict):  # of one event; in MATLAB 7.3 a list for each field
        several = [value for value in events.values() if isinstance(value, list)]
        events = [dict(zip(events, values, strict=True)) for values in zip(*several, strict=True)] or [events]
    for event in events or []:
        latency, kind = event.get("latency"), event.get("type", "")
        if found.sampling_rate and _is_array(latency):
            text = kind if isinstance(kind, str) else f"{np.ravel(kind)[0]:g}"
            text = "boundary" if text == "-99" else text  # among events that are numbers
            found.events.append((float((np.ravel(latency)[0] - 1) / found.sampling_rate), 0.0, text))


__all__ = ["NotRead", "from_variables"]
