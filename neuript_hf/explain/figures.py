"""
Figures of explanations, in the one style of the project; needs matplotlib (the extra `plots`).

Functions that begin with `draw_` draw on axes of a caller's figure, the others make figures. All are made for the size
at which they are shown: 3 inches for a panel, with letters of 8 points.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import mne
import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ..electrodes import HEAD_CENTRE, positions_of


# Okabe and Ito's colours, which people with any colour vision tell apart, in the order of use.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
GREY = "#6E6E6E"
STYLE = {
    "axes.prop_cycle": plt.cycler(color=COLOURS),
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.labelsize": 8,
    "axes.titlesize": 9,
    "axes.titlelocation": "left",
    "axes.linewidth": 0.8,
    "figure.dpi": 110,
    "figure.titlesize": 10,
    "font.size": 8,
    "legend.frameon": False,
    "lines.linewidth": 1.4,
    "savefig.dpi": 160,
    "svg.fonttype": "none",
    "pdf.fonttype": 42,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
}
# Around zero, to both sides; dark ends of equal weight.
DIVERGING, SEQUENTIAL = "RdBu_r", "viridis"
# Fewer channels than this are dots; a surface between them would be made up.
FEWEST_FOR_A_SURFACE = 12
# More letters than this hide the head: then only channels whose interval does not reach zero are named.
MOST_LETTERS = 70
# Metres, of the drawn head, and how far from the top it reaches: all electrodes of the 10-20 system lie inside.
HEAD_RADIUS, HEAD_ANGLE = 0.095, np.deg2rad(112)
LOST = "log-probability lost"
PANEL_INCHES = 3.0


@contextmanager
def style() -> Iterator[None]:
    """The style of all figures of the project: `with style(): plt.subplots(...)`. Outside, nothing changes."""
    with plt.rc_context(STYLE):
        yield


def head_places(channels: Sequence[str]) -> np.ndarray:
    """Channels seen from above, in metres, `[C, 2]`; a pair lies at the midpoint of its electrodes."""
    places = positions_of(channels) - HEAD_CENTRE
    around = np.linalg.norm(places[:, :2], axis=1, keepdims=True)
    from_top = np.arctan2(around[:, 0], places[:, 2])[:, None]
    return places[:, :2] / np.maximum(around, 1e-9) * from_top * (HEAD_RADIUS / HEAD_ANGLE)


def draw_channels(summary: pd.DataFrame, axis: Axes, label: str = LOST, limit: float | None = None) -> None:
    """
    The values of channels on a head from above. Channels whose interval does not reach zero have their names in bold.

    Args:
        summary: of [`summarise`]; its rows of the kind `"channel"` are drawn.
        axis: where to.
        label: of the colour bar.
        limit: of the colours, to both sides of zero; by default the largest value.
    """
    rows = _of_kind(summary, "channel")
    names, values = rows["what"].tolist(), rows["value"].to_numpy()
    places = head_places(names)
    limit = limit or max(np.abs(values).max(), 1e-9)
    colours = {"cmap": DIVERGING, "vlim": (-limit, limit)}
    image, _ = mne.viz.plot_topomap(
        *(values, places), axes=axis, show=False, sphere=HEAD_RADIUS, contours=0, sensors=False, **colours
    )
    size = 18
    if len(names) < FEWEST_FOR_A_SURFACE:
        image.set_visible(False)
        size = 260
    norm = image.norm
    dots = axis.scatter(*places.T, c=values, s=size, cmap=DIVERGING, norm=norm, edgecolors="0.3", linewidths=0.6)
    sure = ((rows["low"] > 0) | (rows["high"] < 0)).to_numpy()
    for place, name, value, is_sure in zip(places, names, values, sure, strict=True):
        if not is_sure and len("".join(names)) > MOST_LETTERS:
            continue
        if len(names) < FEWEST_FOR_A_SURFACE:
            where = {"xytext": (0, 0), "color": "white" if abs(value) > 0.65 * limit else "black"}
        else:
            where = {"xytext": (0, -8), "color": "black"}
        weight = "bold" if is_sure else "normal"
        where |= {"ha": "center", "va": "center", "textcoords": "offset points", "fontsize": 6, "fontweight": weight}
        axis.annotate(name, place, **where)
    axis.set(xlim=(-1.13 * HEAD_RADIUS, 1.13 * HEAD_RADIUS), ylim=(-1.13 * HEAD_RADIUS, 1.13 * HEAD_RADIUS))
    axis.figure.colorbar(dots, ax=axis, orientation="horizontal", shrink=0.7, pad=0.01, aspect=25, label=label)


def draw_times(summary: pd.DataFrame, axis: Axes, label: str = LOST) -> None:
    """The values of stretches of time as a line, with the interval as a band around it."""
    rows = _of_kind(summary, "time")
    edges = np.append(rows["start"], rows["stop"].iloc[-1])
    axis.axhline(0, color=GREY, linewidth=0.8)
    axis.stairs(rows["value"], edges, baseline=None, color=COLOURS[0])
    if rows["low"].notna().all():
        axis.stairs(rows["high"], edges, baseline=rows["low"], color=COLOURS[0], fill=True, alpha=0.2)
    axis.set(xlabel="seconds from the window's start", ylabel=label, xlim=(edges[0], edges[-1]))


def draw_bands(summary: pd.DataFrame, axis: Axes, label: str = LOST) -> None:
    """The values of frequency bands as dots with their intervals, one below the other."""
    rows = _of_kind(summary, "band")
    places = np.arange(len(rows))[::-1]
    axis.axvline(0, color=GREY, linewidth=0.8)
    axis.hlines(places, rows["low"], rows["high"], color=COLOURS[0])
    axis.plot(rows["value"], places, "o", color=COLOURS[0], markersize=4)
    axis.set(yticks=places, yticklabels=rows["what"], xlabel=label, ylim=(-0.6, len(rows) - 0.4))


def draw_attention(table: pd.DataFrame, axis: Axes, limit: float | None = None) -> None:
    """
    One attention map as an image: who looks in rows, at whom in columns.

    Args:
        table: rows of one layer and one axis, of [`attention`] or [`summarise`].
        axis: where to.
        limit: the share that has the brightest colour; by default the largest.
    """
    queries, keys = table["query"].unique(), table["key"].unique()
    shares = table.groupby(["query", "key"], sort=False)["value"].mean().unstack("key").loc[queries, keys]
    along_time = table["axis"].iloc[0] == "time"
    extent = None
    if along_time:
        end = float(keys[-1] + (keys[1] - keys[0] if len(keys) > 1 else 0))
        extent = (0, end, end, 0)
    image = axis.imshow(
        shares, cmap=SEQUENTIAL, vmin=0, vmax=limit, extent=extent, aspect="equal", interpolation="nearest"
    )
    for spine in axis.spines.values():
        spine.set_visible(False)
    if along_time:
        axis.set(xlabel="looked at, s", ylabel="looking, s")
    else:
        axis.set_xticks(range(len(keys)), keys, rotation=90, fontsize=6)
        axis.set_yticks(range(len(queries)), queries, fontsize=6)
        axis.set(xlabel="looked at", ylabel="looking")
    axis.figure.colorbar(image, ax=axis, shrink=0.7, pad=0.02, label="share of attention")


def draw_participation(summary: pd.DataFrame, axis: Axes) -> None:
    """
    The share of tokens that use each expert, a dot with its interval for each target, which is named beside its dots.

    Args:
        summary: rows of one layer and one axis of a summary by target.
        axis: where to.
    """
    targets = summary["target"].unique()
    for number, target in enumerate(targets):
        rows = summary[summary["target"] == target]
        places = rows["expert"] + 0.16 * (number - (len(targets) - 1) / 2)
        colour = COLOURS[number % len(COLOURS)]
        axis.vlines(places, rows["low"], rows["high"], color=colour)
        axis.plot(places, rows["value"], "o", color=colour, markersize=4)
    axis.set(xticks=sorted(summary["expert"].unique()), xlabel="expert", ylim=(0, 1))
    axis.set_xlim(0.5, summary["expert"].max() + 0.5)


def explanation_figure(summary: pd.DataFrame, title: str = "", label: str = LOST) -> Figure:
    """
    What an answer rests on: channels on a head, times as a line, bands as dots; those kinds that the summary has. Of a
    summary by target, a row of panels for each target, on the same scales.

    Args:
        summary: of [`occlusion`] or [`integrated_gradients`], by [`summarise`].
        title: above the panels.
        label: what the values are.
    """
    draw = {"channel": draw_channels, "time": draw_times, "band": draw_bands}
    kinds = [kind for kind in draw if (summary["kind"] == kind).any()]
    by_target = dict(list(summary.groupby("target"))) if "target" in summary else {"": summary}
    largest = summary.loc[summary["kind"] == "channel", "value"].abs().max()
    with style():
        size = (PANEL_INCHES * len(kinds) + 0.4, 3.2 * len(by_target))
        figure, axes = plt.subplots(len(by_target), len(kinds), figsize=size, layout="constrained", squeeze=False)
        for panels, (target, rows) in zip(axes, by_target.items(), strict=True):
            for kind, axis in zip(kinds, panels, strict=True):
                draw[kind](rows, axis, label, **({"limit": largest} if kind == "channel" else {}))
            panels[0].set_title(target)
        for kind, column in zip(kinds, axes.T, strict=True):
            if kind != "channel":
                along = "y" if kind == "time" else "x"
                limits = np.array([getattr(axis, f"get_{along}lim")() for axis in column])
                for axis in column:
                    axis.set(**{f"{along}lim": (limits[:, 0].min(), limits[:, 1].max())})
        if title:
            figure.suptitle(title, x=0.01, ha="left")
    return figure


def attention_figure(table: pd.DataFrame, title: str = "") -> Figure:
    """The maps of all layers: along time above, between channels below."""
    layers = sorted(table["layer"].unique())
    with style():
        size = (2.2 * len(layers), 4.8)
        figure, axes = plt.subplots(2, len(layers), figsize=size, layout="constrained", squeeze=False)
        for row, along in enumerate(("time", "channel")):
            for layer, axis in zip(layers, axes[row], strict=True):
                draw_attention(table[(table["layer"] == layer) & (table["axis"] == along)], axis)
                axis.set_title(f"layer {layer}")
        figure.suptitle(title, x=0.01, ha="left")
    return figure


def participation_figure(summary: pd.DataFrame, title: str = "") -> Figure:
    """The experts of all layers that have any, apart for each target: after attention along time, and to channels."""
    layers = sorted(summary["layer"].unique())
    targets = summary["target"].unique()
    with style():
        size = (2.0 * len(layers) + 0.4, 4.2)
        figure, axes = plt.subplots(2, len(layers), figsize=size, layout="constrained", squeeze=False, sharey=True)
        for row, after in enumerate(("time", "channel")):
            for layer, axis in zip(layers, axes[row], strict=True):
                part = summary[(summary["layer"] == layer) & (summary["axis"] == after)]
                draw_participation(part, axis)
                axis.set_title(f"layer {layer}, {after}")
            axes[row][0].set_ylabel("share of tokens")
        handles = [plt.Line2D([], [], color=COLOURS[n % len(COLOURS)], marker="o", ls="") for n in range(len(targets))]
        figure.legend(handles, list(targets), loc="outside lower left", ncols=len(targets), handletextpad=0.1)
        figure.suptitle(title, x=0.01, ha="left")
    return figure


def _of_kind(summary: pd.DataFrame, kind: str) -> pd.DataFrame:
    rows = summary[summary["kind"] == kind]
    if rows.empty:
        raise ValueError(f"The summary has no rows of the kind {kind!r}; it has {sorted(set(summary['kind']))}.")
    return rows


__all__ = [
    "COLOURS",
    "attention_figure",
    "draw_attention",
    "draw_bands",
    "draw_channels",
    "draw_participation",
    "draw_times",
    "explanation_figure",
    "head_places",
    "participation_figure",
    "style",
]
