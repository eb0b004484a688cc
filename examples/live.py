"""
EEG as it arrives: one answer a second, from a stream of the lab streaming layer or from a recording played as one.

    python examples/live.py --stream my_amplifier --model hub/neuript-tiny-eyes
    python examples/live.py --replay recording.edf --model hub/neuript-tiny-eyes --output rows.parquet

Every line has the end of a window, in seconds since the first, its label, by how much the line is late, and what was
wrong. Ctrl-C ends the program; it then says what it did. A stream that goes is waited for. Which filters fit a live
signal, and what they cost, is in docs/streaming.md.
"""

import sys
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from transformers import (
    AutoFeatureExtractor,
    AutoModel,
    AutoModelForSequenceClassification,
    HfArgumentParser,
    pipeline,
)

import neuript_hf  # noqa: F401  (registers the model and the pipeline)
from neuript_hf.integrations.streaming import LSLChunks, Replay, live_rows
from neuript_hf.training.cpu import keep_memory


@dataclass
class LiveArguments:
    stream: str | None = field(default=None, metadata={"help": "Name of an LSL stream."})
    replay: str | None = field(default=None, metadata={"help": "Instead: a recording."})
    speed: float = field(default=1.0, metadata={"help": "How many times faster than recorded it is played."})
    model: str = field(default="hub/neuript-tiny-eyes", metadata={"help": "Folder or Hub name of a checkpoint."})
    embed: bool = field(default=False, metadata={"help": "Embeddings in place of labels."})
    filter_phase: str | None = field(
        default=None, metadata={"help": "zero or minimum; default: as the checkpoint was trained."}
    )
    stride_seconds: float = field(default=1.0, metadata={"help": "From one row to the next."})
    unit: str | None = field(default=None, metadata={"help": "uV, mV or V, where the source does not state it."})
    output: str | None = field(default=None, metadata={"help": "Table of all rows to write at the end (.parquet)."})


def main():
    (arguments,) = HfArgumentParser(LiveArguments).parse_args_into_dataclasses()
    if (arguments.stream is None) == (arguments.replay is None):
        raise ValueError("Give --stream NAME or --replay FILE.")
    settings = {} if arguments.filter_phase is None else {"filter_phase": arguments.filter_phase}
    auto_class = AutoModel if arguments.embed else AutoModelForSequenceClassification
    pipe = pipeline(
        "eeg-embedding" if arguments.embed else "eeg-classification",
        model=auto_class.from_pretrained(arguments.model),
        feature_extractor=AutoFeatureExtractor.from_pretrained(arguments.model, **settings),
    )
    if arguments.replay is not None:
        chunks = Replay(arguments.replay, unit=arguments.unit, speed=arguments.speed)
    else:
        chunks = LSLChunks(arguments.stream, unit=arguments.unit)
    rows = []
    try:
        for row in live_rows(pipe, chunks, stride_seconds=arguments.stride_seconds):
            if not rows:
                print(pipe.reports[0] if pipe.reports else row["problems"][0])
            rows.append(row)
            print(line(row, row["onset"] + row["duration"] - rows[0]["onset"]), flush=True)
    except KeyboardInterrupt:
        print("stopped")
    finally:
        if arguments.stream is not None:
            chunks.close()
    print(summary(rows, pipe.feature_extractor.filter_phase))
    if arguments.output is not None and rows:
        pd.DataFrame(rows).to_parquet(arguments.output)
        print(f"Wrote {len(rows)} rows to {arguments.output}.")


def line(row: dict, end: float) -> str:
    answer = "left out"
    if "label" in row:
        answer = f"{row['label']} {row['score']:.2f}"
    elif "embedding" in row:
        answer = f"embedding of {len(row['embedding'])} numbers, length {np.linalg.norm(row['embedding']):.3g}"
    elif "scores" in row or "values" in row:
        answer = ", ".join(f"{name} {value:.2f}" for name, value in row.get("scores", row.get("values")).items())
    return f"{end:8.2f} s  {answer:24} {row['delay']:6.2f} s late  {'; '.join(row['problems'])}"


def summary(rows: list[dict], phase: str) -> str:
    if not rows:
        return "no window was complete"
    delays = [row["delay"] for row in rows]
    left_out = sum(row.keys() <= {"onset", "duration", "delay", "history", "problems"} for row in rows)
    end = "cut off at the end of each window" if phase == "zero" else "the same live and offline"
    return (
        f"{len(rows)} windows, {left_out} of them left out; late by {np.median(delays):.2f} s (median), "
        f"{max(delays):.2f} s at most; filters: {phase} phase, {end}"
    )


if __name__ == "__main__":
    keep_memory()
    try:
        main()
    except (ValueError, OSError, ImportError) as error:
        sys.exit(str(error))
