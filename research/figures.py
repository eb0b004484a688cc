"""
All pictures of results, drawn from the result files.

    python research/figures.py      # `make figures`

What is compared stands on the same axis. Intervals are over people (95 %), bands and small dots are seeds. Colours are
those of Okabe and Ito, which all kinds of eyes can tell apart; lines have their name at their end.
"""

import json
from collections.abc import Callable
from pathlib import Path
from statistics import mean

import matplotlib
import numpy as np
import pandas as pd
from study import LOSSES, mean_of_tasks
from tasks import untold_tasks


matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402  (after the backend is chosen)

from neuript_hf.explain import figures as explanations  # noqa: E402
from neuript_hf.explain.figures import COLOURS, GREY  # noqa: E402


ROOT = Path(__file__).resolve().parents[1]
RESULTS, BENCHMARKS = ROOT / "research" / "results", ROOT / "benchmarks" / "results"
BLUE, RED, GREEN, PINK, ORANGE, SKY = COLOURS
# The style of explanations, in letters for figures of 10 inches, which pages show at three quarters of their size.
STYLE = explanations.STYLE | {
    "font.size": 10,
    "axes.titlesize": 11,
    "axes.labelsize": 10,
    "xtick.labelsize": 10,
    "ytick.labelsize": 10,
    "figure.constrained_layout.use": True,
    "savefig.dpi": 110,
}
METHODS = {"pre-trained + fit": BLUE, "random + fit": ORANGE, "EEGNet": GREEN, "band power": GREY}
# Logged losses of a training are means over some steps; lines are running means over this many of them.
SMOOTHED = 10


def comparison(results: dict) -> plt.Figure:
    """Accuracies of all methods on each task and their means, a panel for each share of the labels."""
    shares = results["shares"]
    tasks = next(iter(shares.values()))["tasks"]
    counted = len(set(tasks) - set(untold_tasks())) or len(tasks)
    methods = [method for method in METHODS if method in next(iter(tasks.values()))["accuracies"]]
    titles = [f"{name}\n{task['people']} people" for name, task in tasks.items()] + [f"mean of\n{counted} tasks"]
    rows = np.arange(len(titles), dtype=float)
    rows[-1] += 0.4
    figure, axes = plt.subplots(1, len(shares), figsize=(10, 0.6 * len(titles) + 1), sharex=True, sharey=True)
    for axis, (share, found) in zip(axes, shares.items(), strict=True):
        for method, shift in zip(methods, np.linspace(-0.27, 0.27, len(methods)), strict=True):
            colour = METHODS[method]
            scores = [task["accuracies"][method] for task in found["tasks"].values()] + [found["overall"][method]]
            low, high = zip(*(score["interval"] for score in scores), strict=True)
            axis.hlines(rows + shift, low, high, color=colour, alpha=0.45, linewidth=2)
            axis.plot([score["value"] for score in scores], rows + shift, "o", color=colour, ms=5, label=method)
        for row, task in zip(rows, found["tasks"].values(), strict=False):
            axis.vlines(1 / len(task["classes"]), row - 0.42, row + 0.42, color="black", linewidth=0.9)
        windows = [task["windows"]["train"] for task in found["tasks"].values()]
        title = f"{float(share):.0%} of the labels, {min(windows)} to {max(windows)} windows"
        axis.set(title=title, xlabel="balanced accuracy on new people")
        axis.set_yticks(rows, titles)
        axis.tick_params(axis="y", length=0)
        axis.spines["left"].set_visible(False)
        axis.grid(axis="x", color="0.92")
    axes[0].invert_yaxis()
    handles, labels = axes[0].get_legend_handles_labels()
    handles.append(plt.Line2D([], [], color="black", linewidth=0.9, marker="|", linestyle="", ms=12))
    figure.legend(handles, [*labels, "chance"], loc="outside upper left", ncols=len(labels) + 1, frameon=False)
    return figure


def study(results: dict) -> plt.Figure:
    """Where the arms of a study end: losses on people held out, and the accuracy of frozen features."""
    quantities, arms = ends_of(results), results["study"]["arms"]
    runs, fit = results["runs"], results["study"]["fits"][0]
    arms = [arm for arm in arms if any(run["arm"] == arm for run in runs)]
    seconds = {arm: mean(run["seconds"] for run in runs if run["arm"] == arm) for arm in arms}
    shape = (3 + 3.2 * len(quantities), 0.4 * len(arms) + 1.3)
    figure, axes = plt.subplots(1, len(quantities), figsize=shape, sharey=True)
    for axis, (title, of_arms) in zip(axes, quantities.items(), strict=True):
        for row, arm in enumerate(arms):
            if values := of_arms.get(arm):
                axis.plot(values, [row] * len(values), "o", color=BLUE, ms=4, alpha=0.5)
                axis.plot(mean(values), row, "D", color=BLUE, ms=7)
        axis.set_title(title)
        axis.grid(color="0.92")
        axis.tick_params(axis="y", length=0)
    others = {name: [mean_of_tasks(run["accuracies"][fit], name) for run in runs] for name in ("random", "band power")}
    for row, arm in enumerate(arms):
        of_arm = [value for run, value in zip(runs, others["random"], strict=True) if run["arm"] == arm]
        axes[-1].plot(mean(of_arm), row, "D", color=ORANGE, ms=6, mfc="none")
    axes[-1].axvline(mean(others["band power"]), color=GREY, lw=1.2, ls="--")
    handles = [
        plt.Line2D([], [], color=BLUE, marker="D", ls="", ms=7),
        plt.Line2D([], [], color=BLUE, marker="o", ls="", ms=4),
    ]
    handles += [
        plt.Line2D([], [], color=ORANGE, marker="D", ls="", mfc="none"),
        plt.Line2D([], [], color=GREY, ls="--"),
    ]
    names = ["mean of the seeds", "a seed", "the same with random weights", "band power"]
    figure.legend(handles, names, loc="outside upper right", ncols=len(names), frameon=False)
    axes[0].set_yticks(range(len(arms)), [f"{arm}, {seconds[arm]:.0f} s" for arm in arms])
    axes[0].set_ylim(len(arms) - 0.5, -0.5)
    return figure


def sizes(results: dict) -> plt.Figure:
    """Of a study whose arms are called "size, amount of data": where they end against size, a line for each amount."""
    quantities = ends_of(results)
    figure, axes = plt.subplots(1, len(quantities), figsize=(11, 3.4))
    amounts = dict.fromkeys(arm.split(", ")[1] for arm in results["study"]["arms"])
    for axis, (title, of_arms) in zip(axes, quantities.items(), strict=True):
        for number, (amount, colour) in enumerate(zip(amounts, (SKY, BLUE, "black"), strict=True)):
            places = {int(arm.split(", ")[0]): found for arm, found in of_arms.items() if arm.endswith(f", {amount}")}
            shifted = [size * 1.06 ** (number - 1) for size in places]  # else the ranges would cover each other
            low, high = ([edge(found) for found in places.values()] for edge in (min, max))
            axis.vlines(shifted, low, high, color=colour, alpha=0.4)
            axis.plot(shifted, [mean(found) for found in places.values()], "o-", color=colour, ms=5, label=amount)
        axis.set(title=title, xlabel="hidden size", xscale="log")
        axis.set_xticks(list(places), [str(size) for size in places])
        axis.minorticks_off()
        axis.grid(color="0.92")
    handles, labels = axes[0].get_legend_handles_labels()
    labels = [f"{label} of the people" for label in labels]
    figure.legend(handles, labels, loc="outside upper left", ncols=len(labels), frameon=False)
    return figure


def ends_of(results: dict) -> dict[str, dict[str, list[float]]]:
    """Quantity -> arm -> its value at the end of each seed's training."""
    settings = results["study"]
    found = {title: {} for title in (*LOSSES.values(), f"accuracy, mean of {number_of_tasks(settings)} tasks")}
    for run in results["runs"]:
        for loss, title in LOSSES.items():
            if loss in run["curves"][-1]:
                found[title].setdefault(run["arm"], []).append(run["curves"][-1][loss])
        accuracy = mean_of_tasks(run["accuracies"][settings["fits"][0]], "checkpoint")
        list(found.values())[-1].setdefault(run["arm"], []).append(accuracy)
    return {title: arms for title, arms in found.items() if arms}


def number_of_tasks(settings: dict) -> int:
    return len(set(settings["tasks"]) - set(untold_tasks())) or len(settings["tasks"])


def training(curve: pd.DataFrame) -> plt.Figure:
    """What a pre-training learned, on the people it is trained on and on those held out; parts are named."""
    panels = {
        "squared error at selected samples": ("reconstruction", "reconstruction, held out"),
        "error of the spectrum": ("spectrum", "spectrum, held out"),
        "error of the compact embedding": ("compact embedding", "compact embedding, held out"),
        "hidden samples: error over variance": ("hidden samples over their variance, held out",),
        "learning rate": ("learning rate",),
    }
    panels = {title: names for title, names in panels.items() if set(names) & set(curve.columns[curve.notna().any()])}
    columns = 3
    figure, axes = plt.subplots(-(-len(panels) // columns), columns, figsize=(10, 2.7 * -(-len(panels) // columns)))
    steps = curve.index / 1000
    for axis, (title, names) in zip(axes.flat, panels.items(), strict=False):
        for name in names:
            values = curve[name]
            held_out = name.endswith("held out")
            if not held_out and name != "learning rate":
                values = values.groupby(curve["run"]).transform(lambda part: part.rolling(SMOOTHED, 1).mean())
            present = values.notna().to_numpy()
            axis.plot(
                steps[present], values[present], "o-" if held_out else "-", color=BLUE if held_out else ORANGE, ms=3
            )
        axis.set(title=title, xlabel="thousand steps", ylim=(0, None), xlim=(0, None))
        for start in np.flatnonzero(curve["run"] != curve["run"].shift())[1:].tolist():
            axis.axvline(steps[start], color="0.7", lw=0.8)
            about = (steps[start], axis.get_ylim()[1])
            axis.annotate(curve["run"].iloc[start], about, rotation=90, ha="right", va="top", fontsize=8, color="0.4")
    for axis in list(axes.flat)[len(panels) :]:
        axis.axis("off")
    handles = [plt.Line2D([], [], color=ORANGE), plt.Line2D([], [], color=BLUE, marker="o", ms=3)]
    figure.legend(handles, ["people trained on", "people held out"], loc="outside upper left", ncols=2, frameon=False)
    return figure


def cost() -> plt.Figure:
    """What a minute of EEG costs, and what frozen features of it are worth; the peers' weights are not here."""
    patch = pd.read_csv(BENCHMARKS / "patch_models.csv").query("kind == 'embedding'").set_index("model")
    speed = pd.read_csv(BENCHMARKS / "speed.csv").query("kind == 'embedding' and keeps_memory").set_index("size")
    windows = 60 / 4  # in a minute
    figure, axis = plt.subplots(figsize=(7, 3.6))
    seconds = {
        "neuript-tiny": patch.loc["neuript-tiny", "seconds_per_window"] * windows,
        "neuript-small": speed.loc["small", "seconds_per_window"] * windows,
    }
    for name, value in seconds.items():
        overall = json.loads((RESULTS / f"{name}_features.json").read_text())["overall"]["checkpoint"]
        axis.vlines(value, *overall["interval"], color=BLUE, alpha=0.45, lw=2)
        axis.plot(value, overall["value"], "o", color=BLUE, ms=7)
        axis.annotate(name, (value, overall["value"]), (9, 0), textcoords="offset points", va="center", color=BLUE)
    axis.set(xscale="log", xlabel="seconds of two cores for a minute of 20 channels", xlim=(0.002, 20))
    axis.set(ylabel="balanced accuracy, frozen", title="Cost and worth; without weights here, peers have a cost only")
    peers = patch.drop(index="neuript-tiny")["seconds_per_window"].sort_values() * windows
    for height, (name, value) in zip((0.07, 0.25, 0.16, 0.07), peers.items(), strict=True):
        axis.axvline(value, ymax=height, color=GREY, lw=1)
        right = name == peers.index[-1]
        axis.annotate(
            f" {name} " if right else f"{name} ",
            (value, height),
            xycoords=("data", "axes fraction"),
            ha="left" if right else "right",
            va="top",
            color=GREY,
        )
    return figure


def scaling(rows: pd.DataFrame) -> plt.Figure:
    """Cost of one second of one channel along each axis; flat is growth in proportion."""
    axes_of = {"channels": "channels", "seconds": "seconds in a window", "batch": "windows in a batch"}
    figure, panels = plt.subplots(1, len(axes_of), figsize=(10, 3.2), sharey=True)
    for panel, (along, title) in zip(panels, axes_of.items(), strict=True):
        for kind, colour in (("embedding", BLUE), ("fine-tuning", ORANGE)):
            part = rows[(rows["axis"] == along) & (rows["kind"] == kind)]
            panel.plot(part[along], part["milliseconds_per_channel_second"], "o-", color=colour)
            if panel is panels[0]:
                last = part["milliseconds_per_channel_second"].iloc[-1]
                panel.annotate(kind, (part[along].iloc[-1], last * 1.25), ha="right", va="bottom", color=colour)
        ticks = sorted(set(rows.loc[rows["axis"] == along, along]))
        panel.set(xscale="log", yscale="log", xlabel=title)
        panel.set_xticks(ticks, [str(tick) for tick in ticks])
        panel.minorticks_off()
        panel.grid(color="0.92")
    panels[0].set_ylabel("ms for a second of one channel")
    return figure


def pictures() -> dict[Path, Callable[[], plt.Figure]]:
    """What draws each picture."""

    def of_json(draw: Callable, file: Path) -> Callable:
        return lambda: draw(json.loads(file.read_text()))

    found = {RESULTS / "compare_pretraining.png": of_json(comparison, RESULTS / "compare_pretraining.json")}
    for file in sorted(RESULTS.glob("study_*.json")):
        found[file.with_suffix(".png")] = of_json(sizes if file.stem == "study_scaling" else study, file)
    for file in sorted(RESULTS.glob("*_training.csv")):
        found[file.with_suffix(".png")] = lambda file=file: training(pd.read_csv(file, index_col="step"))
    found[ROOT / "docs" / "scaling.png"] = lambda: scaling(pd.read_csv(BENCHMARKS / "scaling.csv"))
    return found | {ROOT / "docs" / "cost.png": cost}


def main():
    with plt.rc_context(STYLE):
        for path, draw in pictures().items():
            figure = draw()
            figure.savefig(path)
            plt.close(figure)
            print(path.relative_to(ROOT))


if __name__ == "__main__":
    main()
