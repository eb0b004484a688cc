"""
The learning curve of a checkpoint, from the logs of its trainings: a table and a figure.

    python research/learning_curve.py --runs runs/tiny --output results/tiny

`.csv` has a line for each logged step: training losses, evaluation losses and the error at hidden samples on held-out
people, and the learning rate. `.png` plots them. Several runs are consecutive parts of one training.
"""

import json
from dataclasses import dataclass, field
from pathlib import Path

import matplotlib
import pandas as pd
from transformers import HfArgumentParser

from neuript_hf.training.pretraining import last_checkpoint


matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402  (after the backend is chosen)


# Entry of the log -> column of the table.
COLUMNS = {
    "reconstruction_loss": "reconstruction",
    "spectral_loss": "spectrum",
    "embedding_loss": "compact embedding",
    "eval_reconstruction_loss": "reconstruction, held out",
    "eval_spectral_loss": "spectrum, held out",
    "eval_embedding_loss": "compact embedding, held out",
    "monitor/hidden_error": "hidden samples over their variance, held out",
    "aux_loss": "balance of experts",
    "learning_rate": "learning rate",
}
PANELS = [
    (("reconstruction", "reconstruction, held out"), "squared error of selected samples, companded"),
    (("spectrum", "spectrum, held out"), "error of the spectral target"),
    (("compact embedding", "compact embedding, held out"), "error of the compact embedding"),
    (("hidden samples over their variance, held out",), "error of hidden samples over their variance"),
    (("learning rate",), "learning rate"),
]
# Logged losses are means over some steps; lines are running means over this many of them.
SMOOTHED = 10


@dataclass
class CurveArguments:
    runs: list[str] = field(metadata={"help": "Output folders of pretrain.py, in order."})
    output: str = field(metadata={"help": "Files to write, without suffix."})


def read_curve(runs: list[str]) -> pd.DataFrame:
    """
    The logs of consecutive parts as one table; steps are counted across the parts.

    Raises:
        ValueError: where a run has no checkpoint; its log is there.
    """
    parts, before = [], 0
    for run in runs:
        if (checkpoint := last_checkpoint(run)) is None:
            raise ValueError(f"{run} has no checkpoint-*/trainer_state.json, which would have its log.")
        state = json.loads(Path(checkpoint, "trainer_state.json").read_text())
        rows = pd.DataFrame(state["log_history"]).groupby("step").first()  # a step has several entries
        part = rows.reindex(columns=list(COLUMNS)).rename(columns=COLUMNS).dropna(how="all")
        part.index += before
        parts.append(part.assign(run=Path(run).name))
        before += state["global_step"]
    return pd.concat(parts)


def draw(curve: pd.DataFrame) -> plt.Figure:
    """A panel for each quantity that was logged; vertical lines separate the parts."""
    panels = [(names, title) for names, title in PANELS if curve[list(names)].notna().any(axis=None)]
    figure, axes = plt.subplots(1, len(panels), figsize=(4 * len(panels), 3.6), layout="constrained")
    for axis, (names, title) in zip(axes, panels, strict=True):
        for name in names:
            values = curve[name].dropna()
            held_out = name.endswith("held out")
            if not held_out and name != "learning rate":
                values = values.groupby(curve["run"]).transform(lambda part: part.rolling(SMOOTHED, 1).mean())
            axis.plot(values, marker="o" if held_out else "", markersize=3, label=name)
        for start in curve.index[curve["run"] != curve["run"].shift()][1:]:
            axis.axvline(start, color="0.7", linewidth=0.8)
        axis.set(title=title, xlabel="step", ylim=(0, None))
        axis.title.set_fontsize(9)
        axis.legend(fontsize=7)
    return figure


def main():
    (arguments,) = HfArgumentParser(CurveArguments).parse_args_into_dataclasses()
    output = Path(arguments.output)
    output.parent.mkdir(parents=True, exist_ok=True)
    curve = read_curve(arguments.runs)
    curve.to_csv(output.with_suffix(".csv"), float_format="%.6g")
    draw(curve).savefig(output.with_suffix(".png"), dpi=90)
    print(curve.groupby("run", sort=False).last().T.to_string())


if __name__ == "__main__":
    main()
