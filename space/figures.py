"""The pictures of a `Look`, in one style. Made without pyplot, which several visitors can't share."""

from collections.abc import Sequence

import numpy as np
from analysis import EXTRACTOR, Look, Refilled, name_of
from matplotlib import rcParams
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Ellipse, Polygon

from neuript_hf.electrodes import HEAD_CENTRE, positions_of


# Okabe and Ito's colours, which colour-blind people can tell apart.
BLUE, RED, GREY, SHADES = "#0072B2", "#C44E00", "#6B6B6B", ("#F1F6FA", "#DCE9F2")
rcParams |= {
    "font.size": 10,
    "axes.titlesize": 11,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.8,
    "lines.linewidth": 1.2,
    "figure.facecolor": "white",
}
# Narrow, so that letters are readable on a phone.
WIDTH = 5.2
# Angle from the top of the head, in radians, at which the head is drawn: about that of Fpz, T7, Oz and T8.
WIDEST = 1.75
SHOWN_SECONDS = 16.0
MOST_NAMED = 40
MOST_LANES = 64


def new_figure(height: float, rows: int = 1, **options) -> tuple[Figure, list[Axes]]:
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    axes = figure.subplots(rows, 1, squeeze=False, **options)
    return figure, list(axes[:, 0])


def draw_head(look: Look) -> Figure:
    """The channels from above: seen by the model, or masked as bad."""
    figure, (axis,) = new_figure(4.6)
    rows = look.report.channels
    places = flat_positions([row.name for row in rows])
    axis.add_patch(Ellipse((0, 0), 2, 2, fill=False, color=GREY))
    axis.add_patch(Polygon([(-0.14, 0.99), (0, 1.13), (0.14, 0.99)], closed=False, fill=False, color=GREY))
    bad = np.array([bool(row.masked) for row in rows])
    size = 430 if len(rows) <= 24 else 260 if len(rows) <= MOST_NAMED else 60
    axis.scatter(*places[~bad].T, s=size, color=BLUE, label="seen by the model", zorder=2)
    if bad.any():
        marks = {"marker": "s", "color": "white", "edgecolor": RED, "linewidth": 2}
        axis.scatter(*places[bad].T, s=size, label="masked as bad", zorder=3, **marks)
    for row, (x, y) in zip(rows, places, strict=True):
        if len(rows) <= MOST_NAMED:
            small = 5.5 if "-" in row.name else 8 if size > 300 else 6.5
            axis.text(
                x, y, row.name, ha="center", va="center", size=small, color=RED if row.masked else "white", zorder=4
            )
        elif row.masked:
            axis.text(x, y + 0.06, row.name, ha="center", size=8, color=RED, zorder=4)
    limit = max(1.16, np.abs(places).max() + 0.12)
    axis.set(aspect="equal", xlim=(-limit, limit), ylim=(-limit, limit))
    axis.set_axis_off()
    axis.legend(loc="lower center", bbox_to_anchor=(0.5, -0.06), ncols=2, frameon=False, markerscale=0.6)
    return figure


def flat_positions(channels: Sequence[str]) -> np.ndarray:
    """Electrodes from above, `[C, 2]`: their angle from the top of the head is the distance from the middle."""
    places = positions_of(channels) - HEAD_CENTRE
    angles = np.arccos(places[:, 2] / np.linalg.norm(places, axis=1))
    across = places[:, :2] / np.maximum(np.linalg.norm(places[:, :2], axis=1, keepdims=True), 1e-9)
    return across * (angles / WIDEST)[:, None]


def draw_signal(look: Look, first: int) -> Figure:
    """Some windows from `first` on, one lane for each channel, below a line of the whole recording."""
    rows = look.report.channels[:MOST_LANES]
    lane = 0.26 if len(rows) <= 24 else 0.16
    figure, (overview, axis) = new_figure(1.6 + lane * len(rows), 2, height_ratios=[0.22, 0.4 + lane * len(rows)])
    shown = np.flatnonzero((look.onsets >= look.onsets[first]) & (look.onsets < look.onsets[first] + SHOWN_SECONDS))
    start, end = look.onsets[shown[0]], look.onsets[shown[-1]] + look.window_seconds

    overview.broken_barh([(onset, look.window_seconds) for onset in look.onsets], (0, 1), color=BLUE, linewidth=0)
    overview.add_patch(Polygon([(start, 0), (end, 0), (end, 1), (start, 1)], fill=False, color="black", linewidth=2))
    overview.set(xlim=(0, max(look.seconds, end)), ylim=(-0.1, 1.1), yticks=[], facecolor="#DDDDDD")
    overview.set_title("Whole recording, in seconds: blue is used, grey is not", size=9)
    overview.spines[["left", "bottom"]].set_visible(False)

    signal = look.microvolts
    good = [place for place, row in enumerate(rows) if not row.masked]
    step = float(max(6 * np.median(signal[shown][:, good].std(axis=-1)), 1e-3)) if good else 1.0
    seconds = np.arange(signal.shape[-1]) / EXTRACTOR.sampling_rate
    for number in shown:
        onset = look.onsets[number]
        axis.axvspan(onset, onset + look.window_seconds, color=SHADES[number % 2], linewidth=0, zorder=0)
        for place, row in enumerate(rows):
            values, colour = signal[number, place], "black"
            if row.masked:
                colour = RED
                values = look.as_recorded.get(place, np.zeros_like(signal[:, place]))
                values = values[number] / max(np.abs(values).max(), 1e-9) * 0.45 * step
            axis.plot(onset + seconds, -place * step + values, color=colour, linewidth=0.7)
    axis.set_yticks([-place * step for place in range(len(rows))], [row.name for row in rows], size=8)
    for label, row in zip(axis.get_yticklabels(), rows, strict=True):
        label.set_color(RED if row.masked else "black")
    axis.set(xlim=(start, end), ylim=(-(len(rows) - 0.2) * step, 0.9 * step), xlabel="seconds")
    axis.plot([1.015, 1.015], [0, -step], color=BLUE, linewidth=3, clip_on=False, transform=axis.get_yaxis_transform())
    axis.text(1.03, -step / 2, f"{step:.0f} µV", color=BLUE, va="center", size=9, transform=axis.get_yaxis_transform())
    return figure


def draw_classes(look: Look) -> Figure:
    """The probability of a class over time, one panel for each classifier that has an answer."""
    answers = {name: answer for name, answer in look.answers.items() if not isinstance(answer, str)}
    figure, axes = new_figure(0.5 + 1.9 * len(answers), len(answers), sharex=True)
    middles = look.onsets + look.window_seconds / 2
    for axis, (name, answer) in zip(axes, answers.items(), strict=True):
        low, high = (column.replace("_", " ") for column in answer)
        axis.axhline(0.5, color=GREY, linewidth=1, linestyle=":")
        axis.plot(middles, answer.iloc[:, 1], color=BLUE, marker="o", markersize=3)
        axis.set(ylim=(0, 1), yticks=[0, 0.5, 1], yticklabels=[low, "undecided", high], title=name_of(name))
    axes[-1].set(xlabel="seconds")
    return figure


def draw_map(look: Look) -> Figure:
    """The embeddings of the windows, in the plane in which they differ most."""
    figure, (axis,) = new_figure(4.2)
    centred = look.embeddings - look.embeddings.mean(axis=0)
    _, lengths, directions = np.linalg.svd(centred, full_matrices=False)
    places = centred @ directions[:2].T
    shares = lengths[:2] ** 2 / max((lengths**2).sum(), 1e-12)
    dots = axis.scatter(*places.T, c=look.onsets, cmap="viridis", s=48, edgecolor="white", linewidth=0.5)
    axis.set(xlabel=f"first direction ({shares[0]:.0%} of the variance)", xticks=[], yticks=[])
    axis.set_ylabel(f"second direction ({shares[1]:.0%})")
    bar = figure.colorbar(dots, ax=axis, label="seconds into the recording", shrink=0.8)
    bar.outline.set_visible(False)
    return figure


def draw_refilled(look: Look, refilled: Refilled, window: int) -> Figure:
    """The channels with the smallest, the median and the largest error, so that the picture does not flatter."""
    good = np.flatnonzero(refilled.hidden.any(axis=1))
    errors = [((refilled.filled - refilled.truth)[c][refilled.hidden[c]] ** 2).mean() for c in good]
    order = good[np.argsort(errors)]
    places = list(dict.fromkeys([order[0], order[len(order) // 2], order[-1]]))
    which = ["smallest error", "median error", "largest error"] if len(places) == 3 else [""] * len(places)
    figure, axes = new_figure(0.7 + 1.35 * len(places), len(places), sharex=True)
    seconds = look.onsets[window] + np.arange(refilled.truth.shape[1]) / EXTRACTOR.sampling_rate
    for axis, place, about in zip(axes, places, which, strict=True):
        hidden = refilled.hidden[place]
        truth, filled = (EXTRACTOR.invert(values[place]) for values in (refilled.truth, refilled.filled))
        beside = hidden | np.roll(hidden, 1) | np.roll(hidden, -1)  # lines reach the visible samples beside them
        axis.plot(seconds, np.where(beside, truth, np.nan), color="#9A9A9A", label="hidden")
        axis.plot(seconds, np.where(hidden, np.nan, truth), color="black", label="visible")
        axis.plot(seconds, np.where(hidden, filled, np.nan), color=RED, linewidth=1.6, label="filled by the model")
        axis.set(ylabel="µV", xlim=(seconds[0], seconds[-1]))
        name = look.report.channels[place].name
        axis.set_title(f"{name}: {about}" if about else name, size=9)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=3, frameon=False, fontsize=9)
    axes[-1].set(xlabel="seconds")
    return figure
