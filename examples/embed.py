"""
Embeddings of a recording, or of all recordings in a folder: a table with one row for each window.

    python examples/embed.py --recordings recording.edf --output embeddings.parquet
    python examples/embed.py --recordings folder --model hub/neuript-small --output embeddings.parquet

The columns are `recording`, `onset` and `duration` (seconds) and `embedding`: the compact embedding of a model that
has one, else the lobe-pooled vector. Vectors have the same length for every montage, so recordings with different
channels fit into one table.

For many recordings there is `neuript embed SOURCE DEST`: it goes on where it was killed, and writes a file for each
recording (docs/cluster.md).
"""

from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd
from transformers import AutoFeatureExtractor, AutoModel, HfArgumentParser, pipeline

import neuript_hf  # noqa: F401  (registers the model and the pipeline)
from neuript_hf.data.manifest import find_recordings
from neuript_hf.formats.files import FOLDERS
from neuript_hf.training.cpu import keep_memory


@dataclass
class EmbeddingArguments:
    recordings: str = field(metadata={"help": "A recording, or a folder that is searched for recordings."})
    output: str = field(metadata={"help": "Table to write (.parquet)."})
    model: str = field(default="hub/neuript-tiny", metadata={"help": "Folder or Hub name of a checkpoint."})
    stride_seconds: float | None = field(
        default=None, metadata={"help": "Distance of window starts; default: windows follow each other."}
    )


def main():
    (arguments,) = HfArgumentParser(EmbeddingArguments).parse_args_into_dataclasses()
    source = Path(arguments.recordings)
    is_one = source.is_file() or source.suffix.lower() in FOLDERS
    files = [source] if is_one else find_recordings(source)

    embed = pipeline(
        "eeg-embedding",
        model=AutoModel.from_pretrained(arguments.model),
        feature_extractor=AutoFeatureExtractor.from_pretrained(arguments.model),
    )
    tables = []
    for file in files:
        rows = embed(file, stride_seconds=arguments.stride_seconds)
        tables.append(pd.DataFrame(rows).assign(recording=str(file)))
        print(f"{file}: {len(rows)} windows")
    table = pd.concat(tables, ignore_index=True)
    table[["recording", "onset", "duration", "embedding"]].to_parquet(arguments.output)
    print(f"Wrote {len(table)} vectors of {len(table['embedding'][0]):,} numbers to {arguments.output}.")


if __name__ == "__main__":
    keep_memory()
    main()
