"""
What the frozen features tell: logistic regression on the lobe-pooled vectors, scored on people never seen.

    python examples/linear_probe.py --data manifest.csv --rows set=eegmat --output_dir runs/probe
    python examples/linear_probe.py --data folder --events rest task --model hub/neuript-tiny --output_dir runs/probe

The penalty is chosen by folds over the training people; a classical method on the same windows stands beside it.
"""

import json
from dataclasses import dataclass, field

import numpy as np
from task import (
    TaskArguments,
    baseline_scores,
    load_task,
    make_extractor,
    new_config,
    print_scores,
    refuse_seen,
    scores_of,
    write_results,
)
from transformers import AutoModel, HfArgumentParser, set_seed

from neuript_hf import NeurIPTModel
from neuript_hf.evaluation.linear_probe import class_scores, fit_logistic, pooled_features


@dataclass
class ProbeArguments:
    """The model to probe."""

    output_dir: str = field(metadata={"help": "Folder for results.json."})
    model: str | None = field(default=None, metadata={"help": "Checkpoint to probe; none = random weights."})
    size: str = field(default="tiny", metadata={"help": "Size of a model from random weights: tiny, small or base."})
    config: str = field(default="{}", metadata={"help": "Fields of the configuration to set, in JSON."})
    seed: int = field(default=0, metadata={"help": "Seed of random weights, folds and drawn windows."})


def main():
    task, probe = HfArgumentParser((TaskArguments, ProbeArguments)).parse_args_into_dataclasses()
    set_seed(probe.seed)
    seen = refuse_seen(task, probe.model)
    extractor = make_extractor(task, probe.model)
    train, unseen, _ = load_task(task, extractor, probe.seed)
    overrides = json.loads(probe.config)
    if probe.model is None:
        model = NeurIPTModel(new_config(probe.size, train, extractor, **overrides))
    else:
        model = AutoModel.from_pretrained(probe.model, num_lobes=extractor.num_lobes, **overrides)

    labels, subjects = np.asarray(train["labels"]), np.asarray(train["subject"])
    fit = fit_logistic(pooled_features(model, train), labels, subjects, probe.seed)
    results = {
        "windows": {"train": len(train), "unseen": len(unseen)},
        "seen_people": seen,
        "probe": scores_of(class_scores(fit, pooled_features(model, unseen)), unseen),
        "baseline": baseline_scores(task, train, unseen, extractor),
    }
    write_results(probe.output_dir, results, task, probe.seed)
    print_scores(
        f"{results['probe']['people']} people never seen, {len(unseen)} windows, chance "
        f"{results['probe']['chance']:.3f}",
        {"frozen features + fit": results["probe"], task.baseline.replace("_", " "): results["baseline"]},
    )


if __name__ == "__main__":
    main()
