"""
The learning curve of a checkpoint, from the logs of its trainings, as a table.

    python research/learning_curve.py --runs runs/tiny --output results/tiny

`.csv` has a line for each logged step: training losses, evaluation losses and the error at hidden samples on held-out
people, and the learning rate. Several runs are consecutive parts of one training. figures.py draws the tables in
`research/results`.
"""

import json
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd
from transformers import HfArgumentParser

from neuript_hf.training.pretraining import last_checkpoint


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


def main():
    (arguments,) = HfArgumentParser(CurveArguments).parse_args_into_dataclasses()
    output = Path(arguments.output)
    output.parent.mkdir(parents=True, exist_ok=True)
    curve = read_curve(arguments.runs)
    curve.to_csv(output.with_suffix(".csv"), float_format="%.6g")
    print(curve.groupby("run", sort=False).last().T.to_string())


if __name__ == "__main__":
    main()
