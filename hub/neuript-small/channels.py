"""
Which channels of a recording make which channels of a montage, and the report that says so.

A recording is seen as a graph: electrodes are nodes, a recorded channel joins two of them (or one and the reference).
A wanted pair is then the shortest way between its electrodes, whether recorded, turned around, or derived over others.
"""

from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field

import numpy as np

from .channel_names import is_electrode, is_pair, read_channels, resolve_channel


MIN_ELECTRODES_TO_INTERPOLATE = 4
# How many names an error message lists.
MOST_NAMES = 20


def canonical_names(channel_names: Sequence[str], net: str | None = None) -> list[str]:
    """
    Electrodes, sites and pairs of a user's list, in the tables' spelling.

    Args:
        channel_names: in any spelling. Unlike a recording's, they mean what they say: F1-F3 is no Fp1-F3, and C3 is
            the electrode on any cap (its label C3 is `"C3@biosemi128"`).
        net: the cap, where other names are its labels.

    Raises:
        ValueError: for names that are no electrode or pair, and for those given twice.
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
            "'C3-Cz'; labels of a cap such as 'E22' only with the name of its net."
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
class ChannelRow:
    """
    Where one output channel comes from.

    Args:
        name: electrode or pair, as the montage calls it.
        how: `"exact"` (named like this in the recording), `"alias"` (another spelling), `"recorded pair"`, `"derived
            pair"` (from other channels), `"interpolated"` (in whole or part).
        sources: the recording's channels, with the sign they enter by.
        masked: why the channel is masked as bad; empty where it is good.
    """

    name: str
    how: str
    sources: list[str]
    masked: str = ""


@dataclass
class ChannelReport:
    """
    What the extractor did to a recording. `print(report)` shows it, `report.to_dict()` is plain data.

    Args:
        channels: one row for each output channel.
        dropped: channels of the recording that are in no output, with the reason.
        missing: channels of the montage that are left out (`on_missing="drop"`), with the reason.
        steps: unit, reference, filters, rate and windows, in the order they were applied.
        problems: what would stop the extractor; only where it was asked to inspect.
    """

    channels: list[ChannelRow] = field(default_factory=list)
    dropped: dict[str, str] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)
    steps: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def to_dict(self) -> dict:
        return asdict(self)

    def __str__(self) -> str:
        width = max([len(row.name) for row in self.channels] + [8])
        lines = [f"{'channel':{width}}  {'how':14} from"]
        for row in self.channels:
            masked = f"   MASKED, {row.masked}" if row.masked else ""
            lines.append(f"{row.name:{width}}  {row.how:14} {' '.join(row.sources)}{masked}")
        lines += [f"missing {name}: {reason}" for name, reason in self.missing.items()]
        by_reason: dict[str, list[str]] = {}
        for name, reason in self.dropped.items():
            by_reason.setdefault(reason, []).append(name)
        lines += [f"left out, {reason}: {', '.join(names)}" for reason, names in by_reason.items()]
        return "\n".join(lines + self.steps + [f"problem: {problem}" for problem in self.problems])


@dataclass
class ChannelPlan:
    """
    Which channels of a recording make which output: `output = weights @ (recorded, then interpolated)`.

    Args:
        channels: the outputs, electrodes or pairs.
        recorded: numbers of the recording's channels that are read.
        electrodes: what each of them is, an electrode or a pair.
        interpolated: electrodes to be interpolated from the recorded ones.
        weights: `[outputs, recorded + interpolated]`, entries -1, 0, 1.
        duplicates: pairs of numbers (later, first) of channels that must carry the same signal.
    """

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
) -> ChannelPlan:
    """
    Finds every channel of a montage among a recording's channels: as it is, with the sign turned, or as the sum and
    difference of others.

    Args:
        names: the recording's channels, in its own spelling.
        types: their types, as MNE calls them; only `"eeg"` is used.
        wanted: the montage's electrodes, sites and pairs; `None` = the recording's own.
        on_missing: `"raise"`, `"drop"` or `"interpolate"`.
        report: gets a row for each output and a line for everything that is not used.
        net: the cap, where the recording's names are its labels.

    Raises:
        ValueError: where channels lack or have unknown names, or the net is unknown.
    """
    labels = _labels(names)
    recording = _read_recording(names, labels, types, net, report)
    found = recording.found
    if wanted is None:
        _check_some_known(recording, names)
        wanted = list(found)

    edges = recording.edges()
    ways = {channel: _way(found, edges, channel) for channel in wanted}
    lacking = {
        channel: [electrode for electrode in channel.split("-") if electrode not in edges] or [channel]
        for channel, way in ways.items()
        if way is None
    }
    interpolated = []
    if lacking:
        interpolated = _handle_missing(lacking, len(wanted), recording, on_missing, report)
    if interpolated:
        # An interpolated electrode has the recording's reference, like its neighbours.
        (reference,) = set(recording.references.values())
        recording.found = found | {name: len(names) + number for number, name in enumerate(interpolated)}
        recording.references |= dict.fromkeys(interpolated, reference)
        edges = recording.edges()
        ways |= {channel: _way(recording.found, edges, channel) for channel in lacking}
    rows = {channel: way for channel, way in ways.items() if way is not None}

    outputs = {index for row in rows.values() for index in row if index < len(names)}
    recorded = sorted(outputs | set(found.values()) if interpolated else outputs)
    columns = {index: column for column, index in enumerate(recorded)}
    columns |= {len(names) + number: len(recorded) + number for number in range(len(interpolated))}
    weights = np.zeros((len(rows), len(columns)))
    for number, (channel, row) in enumerate(rows.items()):
        for index, sign in row.items():
            weights[number, columns[index]] = sign
        report.channels.append(_row(channel, row, labels, interpolated))
    for index in found.values():
        if index not in outputs:
            report.dropped[labels[index]] = "not in the montage" + ", but interpolated from" * bool(interpolated)
    meanings = {index: name for name, index in found.items()}
    electrodes = [meanings[index] for index in recorded]
    return ChannelPlan(list(rows), recorded, electrodes, interpolated, weights, recording.duplicates)


@dataclass
class _Recording:
    """
    What a recording's channels are.

    Args:
        found: electrodes, sites and pairs, with their channels' numbers.
        references: what each electrode or site was recorded against.
        duplicates: pairs of numbers (later, first) of channels with one meaning.
        foreign: names that say nothing.
    """

    found: dict[str, int] = field(default_factory=dict)
    references: dict[str, str] = field(default_factory=dict)
    duplicates: list[tuple[int, int]] = field(default_factory=list)
    foreign: list[str] = field(default_factory=list)

    def edges(self) -> dict[str, dict[str, tuple[int, int]]]:
        """
        The recording as a graph: electrodes and references are its nodes, a channel joins two of them and is their
        difference. `edges[a][b] = (channel, sign)`: that channel times sign is a minus b. In order of the alphabet, so
        that the order of the channels decides nothing.
        """
        edges: dict[str, dict[str, tuple[int, int]]] = {}
        for name in sorted(self.found):
            first, second = name.split("-") if is_pair(name) else (name, self.references[name])
            edges.setdefault(first, {}).setdefault(second, (self.found[name], 1))
            edges.setdefault(second, {}).setdefault(first, (self.found[name], -1))
        return edges


def _labels(names: list[str]) -> list[str]:
    """Names for the report, each channel its own: repeated ones get the channel's number, from 1."""
    counts = Counter(names)
    return [f"{name} (channel {index})" if counts[name] > 1 else name for index, name in enumerate(names, start=1)]


def _read_recording(
    names: list[str], labels: list[str], types: list[str], net: str | None, report: ChannelReport
) -> _Recording:
    """What is in a recording; everything that is not used gets its line in the report."""
    recording = _Recording()
    read = read_channels(names, types, net)
    report.steps += read.notes
    for index, (meaning, kind) in enumerate(zip(read.meanings, types, strict=True)):
        if kind != "eeg":
            report.dropped[labels[index]] = f"of type {kind}"
        elif meaning.startswith("non-eeg:"):
            report.dropped[labels[index]] = f"no EEG by its name ({meaning.split(':')[1]})"
        elif meaning == "ambiguous":
            report.dropped[labels[index]] = "ambiguous name, means different places on different caps: name the net"
            recording.foreign.append(names[index])
        elif meaning == "unknown":
            report.dropped[labels[index]] = "unknown name"
            recording.foreign.append(names[index])
        elif meaning in recording.found:
            first = recording.found[meaning]
            recording.duplicates.append((index, first))
            report.dropped[labels[index]] = f"{meaning} again, like {labels[first]}"
        else:
            recording.found[meaning] = index
            if not is_pair(meaning):
                recording.references[meaning] = read.references[index]
    if len(set(recording.references.values())) > 1:
        report.steps.append(f"reference: {_describe(recording.references)}; no pair is derived across them")
    return recording


def _describe(references: dict[str, str]) -> str:
    """The electrodes of each reference."""
    groups: dict[str, list[str]] = {}
    for electrode, reference in references.items():
        groups.setdefault("one not named" if reference == "reference" else reference, []).append(electrode)
    return "; ".join(f"{', '.join(electrodes)} against {reference}" for reference, electrodes in groups.items())


def _check_some_known(recording: _Recording, names: list[str]) -> None:
    """Without a montage, some name has to say where it is; those that do not are left out, with a line each."""
    if recording.found:
        return
    if recording.foreign:
        raise ValueError(
            f"No channel is recognised by its name: {_list_some(recording.foreign)}. Expected channel names of the "
            "10-05 system such as 'C3', or pairs such as 'C3-Cz'. Rename them (raw.rename_channels, or "
            "channel_names=...), name the net if they are labels of a cap (net='biosemi64'), add digitised positions "
            "(raw.set_montage), or give the extractor a montage."
        )
    raise ValueError(f"No EEG channel among {names}.")


def _handle_missing(
    lacking: dict[str, list[str]], wanted: int, recording: _Recording, on_missing: str, report: ChannelReport
) -> list[str]:
    """Raises, notes what is left out, or says which electrodes to interpolate."""
    electrodes = sorted({electrode for missing in lacking.values() for electrode in missing})
    has = _list_some(list(recording.found)) or "no EEG channel"
    hints = ""
    if recording.foreign:
        hints += f" Names that say no electrode: {_list_some(recording.foreign)} (of a cap's labels, name its net)."
    one_reference = len(set(recording.references.values())) <= 1
    if not one_reference:
        hints += f" Its references differ: {_describe(recording.references)}."
    if on_missing == "raise":
        raise ValueError(
            f"The montage needs channels that the recording lacks: {', '.join(lacking)} (no "
            f"{', '.join(electrodes)}). It has {has}.{hints} Choose another montage ('as_recorded' or a list of "
            "channels), rename channels (raw.rename_channels), or set on_missing to 'interpolate' or 'drop'."
        )
    if on_missing == "drop":
        if len(lacking) == wanted:
            raise ValueError(
                f"The recording has no channel of the montage; it has {has}.{hints} Choose another montage."
            )
        report.missing |= {name: f"no {', '.join(missing)}" for name, missing in lacking.items()}
        return []
    enough = len(recording.references) >= MIN_ELECTRODES_TO_INTERPOLATE
    if not enough or not one_reference or len(recording.references) < len(recording.found):
        raise ValueError(
            f"Can't interpolate {', '.join(electrodes)}: that takes at least {MIN_ELECTRODES_TO_INTERPOLATE} "
            f"electrodes against one reference, but the recording has {has}.{hints} Set on_missing='drop' or choose "
            "another montage."
        )
    return electrodes


def _list_some(names: list[str]) -> str:
    """Names for a message, not all of a net of 256."""
    more = f" and {len(names) - MOST_NAMES} more" if len(names) > MOST_NAMES else ""
    return ", ".join(names[:MOST_NAMES]) + more


def _way(found: dict[str, int], edges: dict, channel: str) -> dict[int, int] | None:
    """
    The recorded channels, with signs, that make a wanted one, or `None`. An electrode has to be recorded itself.
    """
    if channel in found:
        return {found[channel]: 1}
    return _path(edges, *channel.split("-")) if is_pair(channel) else None


def _path(edges: dict, first: str, second: str) -> dict[int, int] | None:
    """The fewest channels whose signed sum is first minus second, `{channel: sign}`; `None` where there is no way."""
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


def _row(channel: str, weights: dict[int, int], recorded: list[str], interpolated: list[str]) -> ChannelRow:
    """The report's row of an output channel made of `weights` of the recorded, and then the interpolated, channels."""
    names = recorded + interpolated
    sources = [
        f"{'+' if sign > 0 else '-'}{names[index]}{' (interpolated)' if index >= len(recorded) else ''}"
        for index, sign in weights.items()
    ]
    if any(index >= len(recorded) for index in weights):
        how = "interpolated"
    elif len(weights) > 1:
        how = "derived pair"
    else:
        ((index, sign),) = weights.items()
        if is_pair(channel):
            how = "recorded pair"
        else:
            how = "exact" if names[index] in (channel, channel.split("@")[0]) else "alias"
        sources = [names[index] if sign > 0 else f"-{names[index]}"]
    return ChannelRow(channel, how, sources)


__all__ = ["ChannelPlan", "ChannelReport", "ChannelRow", "canonical_names", "plan_channels"]
