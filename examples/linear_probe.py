"""
Linear probe: a linear fit on frozen embeddings, scored on people who were not trained on.

    python examples/linear_probe.py --data manifest.csv --rows set=eegmat --output_dir runs/probe
    python examples/linear_probe.py --data folder --events rest task --model hub/neuript-tiny --output_dir runs/probe

The penalty is chosen by folds over the training people. A classical method is scored on the same windows.
"""

import sys
from dataclasses import dataclass, field

from transformers import AutoModel, HfArgumentParser, set_seed

from neuript_hf import NeurIPTConfig, NeurIPTModel
from neuript_hf.checkpoints.provenance import write_results
from neuript_hf.checkpoints.tested_people import TestedPeople
from neuript_hf.checkpoints.training_record import refuse_seen
from neuript_hf.data.tasks import TaskArguments, load_task, make_extractor
from neuript_hf.evaluation.baselines import baseline_scores
from neuript_hf.evaluation.linear_probe import class_scores, pooled_features
from neuript_hf.evaluation.metrics import print_scores, scores_of
from neuript_hf.evaluation.target_fits import fit_targets
from neuript_hf.training.arguments import read_json, run_program
from neuript_hf.training.cpu import keep_memory


@dataclass
class ProbeArguments:
    """The model to probe."""

    output_dir: str = field(metadata={"help": "Folder for results.json."})
    model: str | None = field(default=None, metadata={"help": "Checkpoint to probe; default: random weights."})
    size: str = field(default="tiny", metadata={"help": "Size of a model with random weights: tiny, small or base."})
    config: str = field(default="{}", metadata={"help": "Fields of the configuration to set, in JSON."})
    penalty: float | None = field(
        default=None,
        metadata={"help": "Penalty of the fit, such as 1; default: chosen by folds over the training people."},
    )
    seed: int = field(default=0, metadata={"help": "Seed of random weights, folds and drawn windows."})


ARGUMENTS = (TaskArguments, ProbeArguments)


def main():
    task, probe = HfArgumentParser(ARGUMENTS).parse_args_into_dataclasses()
    set_seed(probe.seed)
    seen = refuse_seen(task, probe.model)
    extractor = make_extractor(task, probe.model)
    train, scored, _ = load_task(task, extractor, probe.seed)

    fields = {"num_lobes": extractor.num_lobes} | read_json("config", probe.config)
    if probe.model is None:
        fields = {"companding_a": extractor.model_companding_a} | fields
        model = NeurIPTModel(getattr(NeurIPTConfig, probe.size)(**fields))
    else:
        # a compact embedding of other lobes starts anew, and is refused as untrained
        model = AutoModel.from_pretrained(probe.model, ignore_mismatched_sizes=True, **fields)
    extractor.refuse_other_windows(model.config)
    fit = fit_targets(pooled_features(model, train), train, probe.seed, probe.penalty)

    scores = scores_of(class_scores(fit, pooled_features(model, scored)), scored)
    baseline = baseline_scores(task.baseline, train, scored, extractor, task.baseline_frequencies)
    tested = TestedPeople.of(task, probe.model, scored, train)
    windows = {"train": len(train), "scored": len(scored)}
    results = {"windows": windows, "seen_people": seen, "tested_people": tested.to_dict()}
    results |= {"probe": scores, "baseline": baseline}
    write_results(probe.output_dir, results, task, probe.seed)
    print_scores(
        f"{tested}, {len(scored)} windows, chance {scores['chance']:.3f}",
        {"frozen features + fit": scores, task.baseline.replace("_", " "): baseline},
    )


if __name__ == "__main__":
    keep_memory()
    sys.exit(run_program(main, *ARGUMENTS))
