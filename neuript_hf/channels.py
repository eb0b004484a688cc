"""
Which channels of a recording make which channels of a montage, and the report on it.

A recording is a graph: electrodes are its nodes, and a recorded channel joins two of them (or one and the reference).
A wanted pair is the shortest path between its electrodes: recorded, reversed, or derived from others.
"""

import re
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field

import numpy as np

from .channel_names import is_electrode, is_pair, read_channels, resolve_channel


MIN_ELECTRODES_TO_INTERPOLATE = 4
# Channels that may carry an electrode's name, but are no potentials of the scalp: MNE's types, and what they are.
_INSIDE = "an electrode inside the skull, not scalp EEG"
_MEG, _LIGHT = "MEG, not EEG", "light (fNIRS), not EEG"
NOT_SCALP_EEG = {
    "csd": "current source density in V/m², not a potential in microvolts",
    "ecog": _INSIDE,
    "seeg": _INSIDE,
    "dbs": _INSIDE,
    "mag": _MEG,
    "grad": _MEG,
    "ref_meg": _MEG,
    "hbo": _LIGHT,
    "hbr": _LIGHT,
}
# Longest list of names in an error message.
MOST_NAMES = 20
# How reports had it, before they had a field for it, that electrodes were recorded against several references.
_OLD_REFERENCES = re.compile(r"reference: (.*); no pair is derived across them")


def canonical_names(channel_names: Sequence[str], net: str | None = None) -> list[str]:
    """
    Electrodes, sites and pairs of a user's list, as the tables spell them.

    Args:
        channel_names: in any spelling. Unlike a recording's names they are taken literally: F1-F3 is not Fp1-F3, and
            C3 is the electrode on any cap (a cap's label C3 is `"C3@biosemi128"`).
        net: the cap whose labels other names are.

    Raises:
        ValueError: for names that are neither an electrode nor a pair, and for repeated ones.
    """
    channels = [_canonical_name(name, net) for name in channel_names]
    unknown = [
        name
        for name, channel in zip(channel_names, channels, strict=True)
        if not is_electrode(channel) and not is_pair(channel)
    ]
    if unknown or not channels:
        raise ValueError(
            f"Unknown channels {unknown}: expected electrodes of the 10-05 system such as 'C3', or pairs such as "
            "'C3-Cz'; a cap's labels such as 'E22' need the name of its net."
        )
    twice = sorted(channel for channel, count in Counter(channels).items() if count > 1)
    if twice:
        raise ValueError(f"Channels named twice: {', '.join(twice)}.")
    return channels


def _canonical_name(name: str, net: str | None) -> str:
    for channel in (name, resolve_channel(name)):
        if is_electrode(channel) or is_pair(channel):
            return channel
    return resolve_channel(name, net)


@dataclass
class ChannelSource:
    """
    What enters an output channel.

    Args:
        name: the channel, as the recording calls it; an electrode if it was interpolated.
        sign: 1 or -1.
        number: of the channel in the recording; `None` if it was interpolated, and in reports of version 0.1.0.
        interpolated: whether it was.
    """

    name: str
    sign: int
    number: int | None
    interpolated: bool = False

    def __str__(self) -> str:
        return f"{'+' if self.sign > 0 else '-'}{self.name}{' (interpolated)' if self.interpolated else ''}"


@dataclass
class ChannelRow:
    """
    Where one output channel comes from.

    Args:
        name: electrode or pair, as the montage calls it.
        how: `"exact"` (the recording has this name), `"alias"` (it spells it differently), `"recorded pair"`,
            `"derived pair"` (from other channels), `"interpolated"` (wholly or in part).
        sources: what it is the sum of.
        masked: why the channel is masked as bad; empty if it is good.
    """

    name: str
    how: str
    sources: list[ChannelSource]
    masked: str = ""


@dataclass
class ChannelReport:
    """
    What the extractor did to a recording. `print(report)` shows it, `report.to_dict()` is plain data.

    Args:
        channels: one row for each output channel.
        dropped: channels of the recording that enter no output, with the reason.
        faults: what is wrong with the bad ones among them; only known after an inspection.
        missing: channels of the montage that are left out (`on_missing="drop"`), with the reason.
        references: what each electrode was recorded against, as far as the names tell.
        steps: unit, reference, filters, rate and windows, in the order in which they were applied.
        problems: what the extractor would refuse; only after an inspection.
        recorded: channels of the recording.
        sampling_rate: of the recording, in hertz.
        windows: their number.
        window_seconds: their length.
    """

    channels: list[ChannelRow] = field(default_factory=list)
    dropped: dict[str, str] = field(default_factory=dict)
    faults: dict[str, str] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)
    references: dict[str, str] = field(default_factory=dict)
    steps: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    recorded: int = 0
    sampling_rate: float = 0.0
    windows: int = 0
    window_seconds: float = 0.0

    @property
    def summary(self) -> str:
        """What the model sees, in one line."""
        used = {source.number for row in self.channels for source in row.sources if source.number is not None}
        made = len(self.channels)
        channels = (
            f"{made} of {self.recorded} channels"
            if made == len(used)
            else (f"{made} channels made from {len(used)} of {self.recorded}")
        )
        masked = sum(bool(row.masked) for row in self.channels)
        bad = f" ({masked} of them masked as bad)" if masked else ""
        windows = "no window"
        if self.windows:
            windows = f"{self.windows} window{'s' * (self.windows > 1)} of {self.window_seconds:g} s"
        return f"the model sees {channels}{bad}, {windows}; recorded at {self.sampling_rate:g} Hz{self._reference}"

    @property
    def _reference(self) -> str:
        references = set(self.references.values())
        if len(references) > 1:
            return f" against {len(references)} references"
        return "".join(", reference unknown" if name == "reference" else f" against {name}" for name in references)

    @property
    def one_reference(self) -> bool:
        """Whether all electrodes were recorded against the same reference, so that differences between them exist."""
        return len(set(self.references.values())) <= 1

    def to_dict(self) -> dict:
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping) -> "ChannelReport":
        """The report that [`to_dict`] was called on; reads those of version 0.1.0, too, which had fewer fields."""
        rows = [
            ChannelRow(**row | {"sources": [_source_of(source) for source in row["sources"]]})
            for row in values["channels"]
        ]
        report = cls(**{**values, "channels": rows})
        for step in report.steps if "references" not in values else ():
            if old := _OLD_REFERENCES.fullmatch(step):
                groups = (group.rpartition(" against ") for group in old[1].split("; "))
                report.references = {name: kind for names, _, kind in groups for name in names.split(", ")}
        return report

    def __str__(self) -> str:
        width = max([len(row.name) for row in self.channels] + [8])
        lines = [self.summary] if self.recorded else []
        lines.append(f"{'channel':{width}}  {'how':14} from")
        for row in self.channels:
            sources = " ".join(map(str, row.sources))
            if row.how in ("exact", "alias", "recorded pair"):
                sources = sources.removeprefix("+")
            masked = f"   MASKED, {row.masked}" if row.masked else ""
            lines.append(f"{row.name:{width}}  {row.how:14} {sources}{masked}")
        lines += [f"missing {name}: {reason}" for name, reason in self.missing.items()]
        by_reason: dict[str, list[str]] = {}
        for name, reason in self.dropped.items():
            by_reason.setdefault("; ".join(filter(None, [reason, self.faults.get(name)])), []).append(name)
        lines += [f"left out, {reason}: {', '.join(names)}" for reason, names in by_reason.items()]
        return "\n".join(lines + self.steps + [f"problem: {problem}" for problem in self.problems])


def _source_of(source: Mapping | str) -> ChannelSource:
    """Also of a report of version 0.1.0, which had `"-T5"` or `"+Cz (interpolated)"`."""
    if not isinstance(source, str):
        return ChannelSource(**source)
    name = source.lstrip("+-").removesuffix(" (interpolated)")
    return ChannelSource(name, -1 if source.startswith("-") else 1, None, source.endswith(" (interpolated)"))


@dataclass
class ChannelPlan:
    """
    Which channels of a recording make which output: `output = weights @ (recorded, then interpolated)`.

    Args:
        names: all of the recording's channels as the report calls them, each unique.
        channels: the outputs, electrodes or pairs.
        recorded: numbers of the recording's channels to read.
        electrodes: the electrode or pair that each of them is.
        interpolated: electrodes to interpolate from the recorded ones.
        weights: `[outputs, recorded + interpolated]`, entries -1, 0, 1.
        duplicates: pairs of numbers (later, first) of channels that must have the same signal.
    """

    names: list[str]
    channels: list[str]
    recorded: list[int]
    electrodes: list[str]
    interpolated: list[str]
    weights: np.ndarray
    duplicates: list[tuple[int, int]]


def plan_channels(
    names: list[str],
    types: list[str],
    wanted: list[str] | None,
    on_missing: str,
    report: ChannelReport,
    net: str | None = None,
    located: Mapping[str, str] | None = None,
) -> ChannelPlan:
    """
    Finds every channel of a montage among a recording's channels: as it is, reversed, or as a sum of others.

    Args:
        names: the recording's channels, as it spells them.
        types: their types, as MNE calls them; only `"eeg"` is used.
        wanted: the montage's electrodes, sites and pairs; `None` = the recording's own.
        on_missing: `"raise"`, `"drop"` or `"interpolate"`.
        report: gets a row for each output and a line for everything that is not used.
        net: the cap whose labels the recording's names are.
        located: electrodes of channels that are known by position, whatever their names say.

    Raises:
        ValueError: where channels are missing or have unknown names, or the net is unknown.
    """
    spellings = [(located or {}).get(name, name) for name in names]
    names = unique_names(names)
    recording = _read_recording(names, spellings, types, net, report)
    found = recording.found
    if wanted is None:
        _check_some_known(recording, names)
        wanted = list(found)

    edges = _edges(found, report.references)
    paths = {channel: _path_to(channel, found, edges) for channel in wanted}
    missing = {
        channel: [electrode for electrode in channel.split("-") if electrode not in edges] or [channel]
        for channel, path in paths.items()
        if path is None
    }
    interpolated = []
    if missing:
        interpolated = _handle_missing(missing, len(wanted), recording, on_missing, report)
    if interpolated:
        # an interpolated electrode has the recording's reference, like its neighbours
        (reference,) = set(report.references.values())
        all_found = found | {name: len(names) + number for number, name in enumerate(interpolated)}
        edges = _edges(all_found, report.references | dict.fromkeys(interpolated, reference))
        paths |= {channel: _path_to(channel, all_found, edges) for channel in missing}
    rows = {channel: path for channel, path in paths.items() if path is not None}

    outputs = {index for row in rows.values() for index in row if index < len(names)}
    recorded = sorted(outputs | set(found.values()) if interpolated else outputs)
    columns = {index: column for column, index in enumerate(recorded)}
    columns |= {len(names) + number: len(recorded) + number for number in range(len(interpolated))}
    weights = np.zeros((len(rows), len(columns)))
    for number, (channel, row) in enumerate(rows.items()):
        for index, sign in row.items():
            weights[number, columns[index]] = sign
        report.channels.append(_row(channel, row, names, spellings, interpolated))
    for index in found.values():
        if index not in outputs:
            report.dropped[names[index]] = "not in the montage" + ", but interpolated from" * bool(interpolated)
    meanings = {index: name for name, index in found.items()}
    electrodes = [meanings[index] for index in recorded]
    return ChannelPlan(names, list(rows), recorded, electrodes, interpolated, weights, recording.duplicates)


@dataclass
class _Recording:
    """
    What the channels of a recording are.

    Args:
        found: electrodes, sites and pairs, with the numbers of their channels.
        duplicates: pairs of numbers (later, first) of channels with the same meaning.
        foreign: names without a meaning.
        other_types: names of channels that are not EEG by their type, though some may look it.
    """

    found: dict[str, int] = field(default_factory=dict)
    duplicates: list[tuple[int, int]] = field(default_factory=list)
    foreign: list[str] = field(default_factory=list)
    other_types: dict[str, list[str]] = field(default_factory=dict)

    @property
    def hint(self) -> str:
        """For errors, which channels were passed over for their type, and what can be done."""
        if not self.other_types:
            return ""
        types = "; ".join(f"{_list_some(names)} of type {kind}" for kind, names in self.other_types.items())
        wrong = "" if "csd" in types else ", or, where only the type is wrong, correct it (raw.set_channel_types)"
        return (
            f" Passed over: {types}. The model takes potentials of the scalp: pass the recording as it was before it "
            f"was transformed{wrong}."
        )


def describe_type(kind: str) -> str:
    """A channel's type, and why it is not scalp EEG where its name may look so."""
    why = NOT_SCALP_EEG.get(kind) or (_LIGHT if kind.startswith("fnirs") else "")
    return f"{kind} ({why})" if why else kind


def _edges(found: dict[str, int], references: dict[str, str]) -> dict[str, dict[str, tuple[int, int]]]:
    """
    The recording as a graph: electrodes and references are its nodes, a channel joins two of them and is their
    difference. `edges[a][b] = (channel, sign)`: that channel times sign is a minus b. In alphabetical order, so that
    the order of the channels makes no difference.
    """
    edges: dict[str, dict[str, tuple[int, int]]] = {}
    for name in sorted(found):
        first, second = name.split("-") if is_pair(name) else (name, references[name])
        edges.setdefault(first, {}).setdefault(second, (found[name], 1))
        edges.setdefault(second, {}).setdefault(first, (found[name], -1))
    return edges


def unique_names(names: list[str]) -> list[str]:
    """Names for the report, different for each channel: repeated ones get the channel's number, counted from 1."""
    counts = Counter(names)
    return [f"{name} (channel {index})" if counts[name] > 1 else name for index, name in enumerate(names, start=1)]


def _read_recording(
    names: list[str], spellings: list[str], types: list[str], net: str | None, report: ChannelReport
) -> _Recording:
    """What a recording contains; everything that is not used gets its line in the report."""
    recording = _Recording()
    read = read_channels(spellings, types, net)
    report.steps += read.notes
    for index, (meaning, kind) in enumerate(zip(read.meanings, types, strict=True)):
        if kind != "eeg":
            what = describe_type(kind)
            report.dropped[names[index]] = "as you asked" if kind == "dropped" else f"of type {what}"
            if what != kind or is_electrode(channel := resolve_channel(spellings[index])) or is_pair(channel):
                recording.other_types.setdefault(what, []).append(spellings[index])
        elif meaning.startswith("non-eeg:"):
            report.dropped[names[index]] = f"not EEG by its name ({meaning.split(':')[1]})"
        elif meaning == "ambiguous":
            report.dropped[names[index]] = "ambiguous name, means different places on different caps: name the net"
            recording.foreign.append(spellings[index])
        elif meaning == "unknown":
            report.dropped[names[index]] = "unknown name"
            recording.foreign.append(spellings[index])
        elif meaning in recording.found:
            first = recording.found[meaning]
            recording.duplicates.append((index, first))
            report.dropped[names[index]] = f"{meaning} again, like {names[first]}"
        else:
            recording.found[meaning] = index
            if not is_pair(meaning):
                report.references[meaning] = read.references[index]
    if not report.one_reference:
        report.steps.append(f"reference: {_describe(report.references)}; no pair is derived across them")
    return recording


def _describe(references: dict[str, str]) -> str:
    """The electrodes of each reference."""
    groups: dict[str, list[str]] = {}
    for electrode, reference in references.items():
        groups.setdefault("one not named" if reference == "reference" else reference, []).append(electrode)
    return "; ".join(f"{', '.join(electrodes)} against {reference}" for reference, electrodes in groups.items())


def _check_some_known(recording: _Recording, names: list[str]) -> None:
    """Without a montage, at least one name must say where its channel is."""
    if recording.found:
        return
    if recording.foreign:
        raise ValueError(
            f"No channel name is recognised: {_list_some(recording.foreign)}. Expected channel names of the 10-05 "
            "system such as 'C3', or pairs such as 'C3-Cz'. Rename the channels (raw.rename_channels, or "
            "channel_names=...), name the net if they are labels of a cap (net='biosemi64'), add digitised positions "
            f"(raw.set_montage), or give the extractor a montage.{recording.hint}"
        )
    raise ValueError(f"No EEG channel among {_list_some(names)}.{recording.hint}")


def _handle_missing(
    channels: dict[str, list[str]], wanted: int, recording: _Recording, on_missing: str, report: ChannelReport
) -> list[str]:
    """Raises, notes what is left out, or returns the electrodes to interpolate."""
    electrodes = sorted({electrode for missing in channels.values() for electrode in missing})
    has = _list_some(list(recording.found)) or "no EEG channel"
    hints = ""
    if recording.foreign:
        hints += f" Unknown names: {_list_some(recording.foreign)} (if they are a cap's labels, name its net)."
    if not report.one_reference:
        hints += f" Its references differ: {_describe(report.references)}."
    hints += recording.hint
    if on_missing == "raise":
        raise ValueError(
            f"The montage needs channels that the recording does not have: {', '.join(channels)} (no "
            f"{', '.join(electrodes)}). It has {has}.{hints} Choose another montage ('as_recorded' or a list of "
            "channels), rename channels (raw.rename_channels), or set on_missing to 'interpolate' or 'drop'."
        )
    if on_missing == "drop":
        if len(channels) == wanted:
            raise ValueError(
                f"The recording has no channel of the montage; it has {has}.{hints} Choose another montage."
            )
        report.missing |= {name: f"no {', '.join(missing)}" for name, missing in channels.items()}
        return []
    enough = len(report.references) >= MIN_ELECTRODES_TO_INTERPOLATE
    if not enough or not report.one_reference or len(report.references) < len(recording.found):
        raise ValueError(
            f"Can't interpolate {', '.join(electrodes)}: that takes at least {MIN_ELECTRODES_TO_INTERPOLATE} "
            f"electrodes against one reference, but the recording has {has}.{hints} Set on_missing='drop' or choose "
            "another montage."
        )
    return electrodes


def _list_some(names: list[str]) -> str:
    """Names for a message, but not all 256 of a net."""
    more = f" and {len(names) - MOST_NAMES} more" if len(names) > MOST_NAMES else ""
    return ", ".join(names[:MOST_NAMES]) + more


def _path_to(channel: str, found: dict[str, int], edges: dict) -> dict[int, int] | None:
    """
    The recorded channels that make a wanted one, `{channel: sign}`: for a pair the fewest whose signed sum is first
    minus second, while an electrode must be recorded itself. `None` if there are none.
    """
    if channel in found:
        return {found[channel]: 1}
    if not is_pair(channel):
        return None
    first, second = channel.split("-")
    reached: dict[str, dict[int, int]] = {first: {}}
    queue = deque([first])
    while queue:
        electrode = queue.popleft()
        if electrode == second:
            return reached[electrode]
        for neighbour, (index, sign) in edges.get(electrode, {}).items():
            if neighbour not in reached:
                reached[neighbour] = reached[electrode] | {index: sign}
                queue.append(neighbour)
    return None


def _row(
    channel: str, path: dict[int, int], names: list[str], spellings: list[str], interpolated: list[str]
) -> ChannelRow:
    """The report's row of an output channel, from the numbers of its sources: recorded ones, then interpolated."""
    sources = [
        ChannelSource(names[index], sign, index)
        if index < len(names)
        else ChannelSource(interpolated[index - len(names)], sign, None, interpolated=True)
        for index, sign in path.items()
    ]
    if any(source.interpolated for source in sources):
        how = "interpolated"
    elif len(sources) > 1:
        how = "derived pair"
    elif is_pair(channel):
        how = "recorded pair"
    else:
        how = "exact" if spellings[sources[0].number] in (channel, channel.split("@")[0]) else "alias"
    return ChannelRow(channel, how, sources)


__all__ = [
    "ChannelPlan",
    "ChannelReport",
    "ChannelRow",
    "ChannelSource",
    "canonical_names",
    "describe_type",
    "plan_channels",
    "unique_names",
]
