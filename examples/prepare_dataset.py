"""
Cuts recordings into windows for pre-training and writes them to a folder of shards.

    python examples/prepare_dataset.py --source manifest.csv --output shards --num_proc 8
    python examples/prepare_dataset.py --source bids_root --output shards --montage as_recorded --encoding int8
    python examples/prepare_dataset.py --source tusz.csv --output shards --description tusz
    python examples/prepare_dataset.py --source manifest.csv --output shards --shard_index 3 --num_shards 20

The last command is job 3 of 20 that write to one folder. In an array of SLURM, or started by `torchrun`, a job finds
these numbers itself. After a kill it continues where it stopped. Read the result with `EEGShardDataset` or
`stream_windows`.
"""

import json
import sys
from dataclasses import dataclass, field
from pathlib import Path

from transformers import HfArgumentParser

from neuript_hf import NeurIPTFeatureExtractor
from neuript_hf.data.descriptions import read_description
from neuript_hf.data.jobs import share_of_this_job
from neuript_hf.data.manifest import SUBJECT_PATTERN
from neuript_hf.data.preparation import RejectionRules, prepare_dataset, push_dataset
from neuript_hf.training.arguments import run_program


@dataclass
class SourceArguments:
    """Recordings, and the folder for the windows."""

    source: str = field(metadata={"help": "A manifest (.csv, .tsv, .jsonl), a BIDS root or a folder of recordings."})
    output: str = field(metadata={"help": "Folder to write to."})
    rows: list[str] = field(
        default_factory=list, metadata={"help": "Rows of the manifest to use, as column=value, e.g. set=eegmat."}
    )
    dataset_column: str = field(
        default="dataset", metadata={"help": "Column with the name of the data set, put before the person."}
    )
    split_column: str = field(default="split", metadata={"help": "Column with train, val or test."})
    within_subject: bool = field(default=False, metadata={"help": "Allow the same person in several splits."})
    trust_manifest: bool = field(
        default=False,
        metadata={"help": "Take other names for other people and other rows for other recordings, as they are named."},
    )
    subject_pattern: str = field(
        default=SUBJECT_PATTERN, metadata={"help": "Regular expression of the person in file names, for folders."}
    )
    encoding: str = field(default="int16", metadata={"help": "int16, int8 (half the size) or float32."})
    recordings_per_shard: int = field(default=16, metadata={"help": "Recordings in a shard."})
    num_proc: int = field(default=1, metadata={"help": "Processes that read recordings."})
    shard_index: int | None = field(
        default=None, metadata={"help": "Number of this job, if several share the work, from 0."}
    )
    num_shards: int | None = field(
        default=None, metadata={"help": "Number of jobs that share the work; default from SLURM's array or torchrun."}
    )
    push_to_hub: str | None = field(
        default=None, metadata={"help": "Upload the finished data set to this private repository, user/name."}
    )


@dataclass
class WindowArguments:
    """How recordings become windows; the defaults are those of the description or of the feature extractor."""

    description: str | None = field(
        default=None, metadata={"help": "Description of the data set: a name such as tusz, or a .toml file."}
    )
    montage: str | None = field(
        default=None,
        metadata={"help": "Name of a montage, as_recorded, or channel names and pairs separated by commas."},
    )
    on_missing: str | None = field(default=None, metadata={"help": "Missing electrodes: raise, drop or interpolate."})
    notch_freq: float | None = field(default=None, metadata={"help": "Mains frequency to remove, in hertz."})
    window_seconds: float | None = field(default=None, metadata={"help": "Window length."})
    reject_by_annotation: bool = field(
        default=True, metadata={"help": "Leave out windows in time that annotations mark as BAD."}
    )

    def extractor(self) -> NeurIPTFeatureExtractor:
        settings = {name: value for name, value in vars(self).items() if name != "description" and value is not None}
        if "," in settings.get("montage", ""):
            settings["montage"] = settings["montage"].split(",")
        if self.description is None:
            return NeurIPTFeatureExtractor(**settings)
        return read_description(self.description).extractor(**settings)


@dataclass
class RuleArguments:
    """What is left out; the defaults are the paper's."""

    min_recording_seconds: float = field(
        default=RejectionRules.min_recording_seconds, metadata={"help": "Shorter recordings are left out."}
    )
    trim_seconds: float = field(
        default=RejectionRules.trim_seconds, metadata={"help": "Seconds cut off at both ends."}
    )
    max_microvolts: float | None = field(
        default=RejectionRules.max_microvolts, metadata={"help": "Windows with a larger magnitude are rejected."}
    )
    min_microvolts: float | None = field(
        default=RejectionRules.min_microvolts,
        metadata={"help": "Windows are rejected if a channel never reaches this, or never falls below it."},
    )
    judge_masked: bool = field(
        default=RejectionRules.judge_masked,
        metadata={"help": "Treat channels that the extractor masked as flat; otherwise windows keep their mask."},
    )


ARGUMENTS = (SourceArguments, WindowArguments, RuleArguments)


def main():
    source, window, rule = HfArgumentParser(ARGUMENTS).parse_args_into_dataclasses()
    arguments = vars(source)
    output, repository = arguments["output"], arguments.pop("push_to_hub")
    share = share_of_this_job(source.shard_index, source.num_shards)
    if share.origin:
        print(f"This job has {share}.")
    arguments |= {"shard_index": share.index, "num_shards": share.count}
    summary = prepare_dataset(
        **arguments | {"rows": dict(row.split("=", 1) for row in source.rows) or None},
        dataset_name=Path(window.description).stem if window.description else None,
        extractor=window.extractor(),
        rules=RejectionRules(**vars(rule)),
    )
    if summary is None:
        print(f"This job is done; other jobs still write to {output}.")
        return
    print(json.dumps(summary, indent=2))
    if repository is not None:
        print(push_dataset(output, repository))


if __name__ == "__main__":
    sys.exit(run_program(main, *ARGUMENTS))
