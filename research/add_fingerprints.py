"""
Fingerprints of the corpus into the records of our checkpoints.

    python research/add_fingerprints.py --data DATA

Adds to `training.json` of every folder the fingerprints of the corpus's recordings of everyone whom it names, in place
of those that it has. New trainings write them by themselves; this is for checkpoints that were trained before.
"""

import json
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd
from prepare_corpus import read_rows
from transformers import HfArgumentParser
from transformers.utils.logging import tqdm

from neuript_hf.checkpoints.training_record import read_training_record
from neuript_hf.data.atomic import write_json
from neuript_hf.data.fingerprints import fingerprint, spectral_course
from neuript_hf.data.manifest import open_row
from neuript_hf.history import RECORD_FILE


@dataclass
class FingerprintArguments:
    """The recordings, and the checkpoints."""

    data: str = field(metadata={"help": "Folder with manifest.csv and pretraining/manifest.jsonl."})
    checkpoints: list[str] = field(
        default_factory=lambda: [str(path.parent) for path in sorted(Path("hub").glob("*/training.json"))],
        metadata={"help": "Checkpoint folders with a training.json."},
    )


def corpus_fingerprints(data: Path, people: set[str]) -> dict[str, list[str]]:
    """Person, as `set/subject` -> the fingerprints of their recordings."""
    rows = pd.concat(read_rows(data).values(), ignore_index=True).astype(object)
    rows = rows.where(rows.notna(), "").assign(person=rows["set"] + "/" + rows["subject"])
    found = defaultdict(list)
    for row in tqdm(rows[rows["person"].isin(people)].sort_values("file").to_dict("records"), desc="Recordings"):
        text = fingerprint(spectral_course(open_row(row | {"path": str(data / row["file"])})))
        if text:
            found[row["person"]].append(text)
    return dict(sorted(found.items()))


def main():
    (arguments,) = HfArgumentParser(FingerprintArguments).parse_args_into_dataclasses()
    people = {folder: read_training_record(folder).subjects for folder in arguments.checkpoints}
    fingerprints = corpus_fingerprints(Path(arguments.data), set().union(*people.values()))
    for folder, seen in people.items():
        path = Path(folder) / RECORD_FILE
        own = {person: fingerprints[person] for person in seen if person in fingerprints}
        # the rest stays as it was written, so that earlier versions read it
        write_json(path, json.loads(path.read_text()) | {"fingerprints": own})
        print(
            f"{path}: {len(own)} of {len(seen)} people, {sum(map(len, own.values()))} recordings, "
            f"{path.stat().st_size / 1000:.0f} kB"
        )


if __name__ == "__main__":
    main()
