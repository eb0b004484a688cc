"""
Which channels of a recording make which channels of a montage, and the report that says so.

A recording is seen as a graph: electrodes are nodes, a recorded channel joins two of them (or one and the reference).
A wanted pair is then the shortest way between its electrodes, whether recorded, turned around, or derived over others.
"""

from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field

import numpy as np

from .electrodes import resolve_channel


# The electrode that stands for a recording's common reference where the names do not tell it.
REFERENCE = "reference"
MIN_ELECTRODES_TO_INTERPOLATE = 4


def canonical_names(channel_names: Sequence[str]) -> list[str]:
    """Electrodes and pairs of a user's list, in the table's spelling."""
    channels = [resolve_channel(name) for name in channel_names]
    unknown = [
        name
        for name, channel in zip(channel_names, channels, strict=True)
        if channel in ("unknown", "ambiguous") or channel.startswith("non-eeg:")
    ]
    if unknown or not channels:
        raise ValueError(
            f"Unknown channels {unknown}: expected electrodes of the 10-05 system such as 'C3', or pairs such as "
            "'C3-Cz'."
        )
    twice = sorted(channel for channel, count in Counter(channels).items() if count > 1)
    if twice:
        raise ValueError(f"Channels named twice: {', '.join(twice)}.")
    return channels


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
        dropped: channels of the recording that are not used, with the reason.
        missing: channels of the montage that are left out (`on_missing="drop"`), with the reason.
        steps: unit, reference, filters, rate and windows, in the order they were applied.
    """

    channels: list[ChannelRow] = field(default_factory=list)
    dropped: dict[str, str] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)
    steps: list[str] = field(default_factory=list)

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
        lines += [f"not used, {reason}: {', '.join(names)}" for reason, names in by_reason.items()]
        return "\n".join(lines + self.steps)


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
    names: list[str], types: list[str], wanted: list[str] | None, on_missing: str, report: ChannelReport
) -> ChannelPlan:
    """
    Finds every channel of a montage among a recording's channels: as it is, with the sign turned, or as the sum and
    difference of others.

    Args:
        names: the recording's channels, in its own spelling.
        types: their types, as MNE calls them; only `"eeg"` is used.
        wanted: the montage's electrodes and pairs; `None` = the recording's own.
        on_missing: `"raise"`, `"drop"` or `"interpolate"`.
        report: gets a row for each output and a line for everything that is not used.

    Raises:
        ValueError: where channels lack or have unknown names.
    """
    found, duplicates, foreign = _recorded_channels(names, types, report)
    reference = REFERENCE
    pairs = [name for name in found if "-" in name]
    seconds = {pair.split("-")[1] for pair in pairs}
    if len(pairs) == len(found) >= 3 and len(seconds) == 1:
        # Where every channel has the same second electrode, that is the reference.
        (reference,) = seconds
        found = {pair.split("-")[0]: index for pair, index in found.items()}
        report.steps.append(f"reference: {reference}, the second electrode of every channel")
    if wanted is None:
        if foreign:
            raise ValueError(
                f"Unknown channel names {foreign}: expected electrodes of the 10-05 system such as 'C3', or pairs "
                "such as 'C3-Cz'. Rename them (raw.rename_channels), mark those that are no EEG "
                "(raw.set_channel_types), or give the extractor a montage."
            )
        if not found:
            raise ValueError(f"No EEG channel among {names}.")
        wanted = list(found)

    edges = _edges(found, reference)
    ways = {channel: _way(edges, channel, reference) for channel in wanted}
    lacking = {
        channel: [electrode for electrode in channel.split("-") if electrode not in edges] or [channel]
        for channel, way in ways.items()
        if way is None
    }
    interpolated = []
    if lacking:
        interpolated = _handle_missing(lacking, len(wanted), found, foreign, on_missing, report)
    if interpolated:
        # An interpolated electrode has the recording's reference, like its neighbours.
        numbers = {name: len(names) + number for number, name in enumerate(interpolated)}
        edges = _edges(found | numbers, reference)
        ways |= {channel: _way(edges, channel, reference) for channel in lacking}
    rows = {channel: way for channel, way in ways.items() if way is not None}

    recorded = sorted({index for row in rows.values() for index in row if index < len(names)})
    if interpolated:
        recorded = sorted(set(recorded) | {index for name, index in found.items() if "-" not in name})
    columns = {index: column for column, index in enumerate(recorded)}
    columns |= {len(names) + number: len(recorded) + number for number in range(len(interpolated))}
    weights = np.zeros((len(rows), len(columns)))
    for number, (channel, row) in enumerate(rows.items()):
        for index, sign in row.items():
            weights[number, columns[index]] = sign
        report.channels.append(_row(channel, row, names, interpolated))
    for index in found.values():
        if index not in recorded:
            report.dropped[names[index]] = "not in the montage"
    meanings = {index: name for name, index in found.items()}
    electrodes = [meanings[index] for index in recorded]
    return ChannelPlan(list(rows), recorded, electrodes, interpolated, weights, duplicates)


def _handle_missing(
    lacking: dict[str, list[str]],
    wanted: int,
    found: dict[str, int],
    foreign: list[str],
    on_missing: str,
    report: ChannelReport,
) -> list[str]:
    """Raises, notes what is left out, or says which electrodes to interpolate."""
    electrodes = sorted({electrode for missing in lacking.values() for electrode in missing})
    about_names = f" Names that say no electrode: {foreign}." if foreign else ""
    if on_missing == "raise":
        raise ValueError(
            f"The montage needs channels that the recording lacks: {', '.join(lacking)} (no "
            f"{', '.join(electrodes)}). It has {', '.join(found) or 'no EEG channel'}.{about_names} Choose "
            "another montage ('as_recorded' or a list of channels), rename channels (raw.rename_channels), or set "
            "on_missing to 'interpolate' or 'drop'."
        )
    if on_missing == "drop":
        if len(lacking) == wanted:
            raise ValueError(
                f"The recording has no channel of the montage; it has {', '.join(found)}."
                f"{about_names} Choose another montage."
            )
        report.missing |= {name: f"no {', '.join(missing)}" for name, missing in lacking.items()}
        return []
    monopolar = [name for name in found if "-" not in name]
    if len(monopolar) < MIN_ELECTRODES_TO_INTERPOLATE or len(monopolar) < len(found):
        raise ValueError(
            f"Can't interpolate {', '.join(electrodes)}: that takes at least {MIN_ELECTRODES_TO_INTERPOLATE} "
            f"electrodes against one reference, but the recording has {', '.join(found)}. Set on_missing='drop' "
            "or choose another montage."
        )
    return electrodes


def _recorded_channels(
    names: list[str], types: list[str], report: ChannelReport
) -> tuple[dict[str, int], list[tuple[int, int]], list[str]]:
    """
    What the recording's channels are: electrodes and pairs by number, duplicates (later, first), and names that say
    nothing. Everything that is not used gets its line in the report.
    """
    found, duplicates, foreign = {}, [], []
    for index, (name, kind) in enumerate(zip(names, types, strict=True)):
        meaning = resolve_channel(name)
        if kind != "eeg":
            report.dropped[name] = f"of type {kind}"
        elif meaning.startswith("non-eeg:"):
            report.dropped[name] = f"no EEG by its name ({meaning.split(':')[1]})"
        elif meaning in ("unknown", "ambiguous"):
            report.dropped[name] = f"{meaning} name"
            foreign.append(name)
        elif meaning in found:
            duplicates.append((index, found[meaning]))
        else:
            found[meaning] = index
    return found, duplicates, foreign


def _edges(found: dict[str, int], reference: str) -> dict[str, dict[str, tuple[int, int]]]:
    """
    The recording as a graph: electrodes are its nodes, a channel joins two of them (or one and the reference) and is
    their difference. `edges[a][b] = (channel, sign)`: that channel times sign is a minus b.
    """
    edges: dict[str, dict[str, tuple[int, int]]] = {}
    for name, index in found.items():
        first, second = (name.split("-") + [reference])[:2]
        edges.setdefault(first, {}).setdefault(second, (index, 1))
        edges.setdefault(second, {}).setdefault(first, (index, -1))
    return edges


def _way(edges: dict, channel: str, reference: str) -> dict[int, int] | None:
    """
    The recorded channels, with signs, that make a wanted one, or `None`. An electrode has to be recorded against the
    reference itself.
    """
    if "-" in channel:
        return _path(edges, *channel.split("-"))
    edge = edges.get(channel, {}).get(reference)
    return None if edge is None else dict([edge])


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
        if "-" in channel:
            how = "recorded pair"
        else:
            how = "exact" if names[index] == channel else "alias"
        sources = [names[index] if sign > 0 else f"-{names[index]}"]
    return ChannelRow(channel, how, sources)


__all__ = ["ChannelPlan", "ChannelReport", "ChannelRow", "canonical_names", "plan_channels"]
