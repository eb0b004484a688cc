"""
Fine-tunes NeurIPT on labelled EEG with `Trainer`, and scores it on people who were not trained on.

    python examples/finetune.py --data manifest.csv --rows set=eegmat --output_dir runs/eegmat
    python examples/finetune.py --data folder --events left right --model hub/neuript-tiny --output_dir runs/hands
    python examples/finetune.py --data manifest.csv --label_column artefacts --output_dir runs/artefacts \
        --problem_type multi_label_classification
    python examples/finetune.py --data manifest.csv --label_column age --problem_type regression --output_dir runs/age
    python examples/finetune.py research/settings/tasks/eyes.yaml --data manifest.csv

Recordings -> feature extractor -> windows, split by person -> a head that starts from a linear fit ->
fine-tuning -> scores of windows, recordings and people, beside chance and a classical method on the same windows.
Writes a complete checkpoint with `training.json`, which lists the people the weights have seen, and `results.json`.
Scoring a checkpoint on people it was trained on is refused. People on whom something is chosen, as by
`--load_best_model_at_end`, are scored apart: they are not unseen. By default the training follows the recipe of our
own task weights (`FineTuningArguments`); all of `transformers.TrainingArguments` work, `--help` lists them.
"""

import sys
from functools import partial

import numpy as np
from transformers import HfArgumentParser, set_seed

from neuript_hf import save_checkpoint
from neuript_hf.checkpoints.card import write_model_card
from neuript_hf.checkpoints.provenance import write_results
from neuript_hf.checkpoints.tested_people import TestedPeople, without_chosen_on
from neuript_hf.checkpoints.training_record import fingerprints_in_training, refuse_seen, seen_in_training
from neuript_hf.data.targets import MAIN_SCORES, ONE_CLASS, Targets
from neuript_hf.data.tasks import TaskArguments, load_task, make_extractor
from neuript_hf.evaluation.baselines import baseline_scores
from neuript_hf.evaluation.linear_probe import class_scores, pooled_features
from neuript_hf.evaluation.metrics import calibration_of, compute_metrics, print_scores, scores_of
from neuript_hf.evaluation.target_fits import start_from_fit
from neuript_hf.training.arguments import parse_with_file, run_program
from neuript_hf.training.cpu import keep_memory
from neuript_hf.training.finetuning import (
    FineTuningArguments,
    ModelArguments,
    draw_windows,
    frozen_against_fine_tuned,
    make_classifier,
    make_trainer,
)
from neuript_hf.training.processes import leave, refuse_apart


ARGUMENTS = (TaskArguments, ModelArguments, FineTuningArguments)


def main():
    parser = HfArgumentParser(ARGUMENTS)
    task, start, training = parse_with_file(parser, sys.argv[1:])
    refuse_apart(training)

    seen = refuse_seen(task, start.model)
    scored_task, choices = without_chosen_on(task, training)
    extractor = make_extractor(task, start.model)
    train, scored, splits = load_task(scored_task, extractor, training.seed)
    train = draw_windows(train, max(1, round(start.train_share * len(train))), training.seed)
    targets = Targets.of(train)

    results = {"windows": {"train": len(train), "scored": len(scored)}, "seen_people": seen}
    if start.choose_by_folds:
        results["folds"] = frozen_against_fine_tuned(start, train, extractor, training)
        frozen, tuned = (float(np.mean(results["folds"][name])) for name in ("frozen", "fine_tuned"))
        results["kept"] = "fine-tuned" if tuned > frozen else "frozen features + fit"
        print(f"On training people left out: frozen {frozen:.3f}, fine-tuned {tuned:.3f}. Kept: {results['kept']}.")
        if tuned <= frozen:
            training.num_train_epochs, training.max_steps = 0, -1  # the head keeps the fit

    set_seed(training.seed)
    model = make_classifier(start, train, extractor)
    if start.head_start:
        fit = start_from_fit(model, train, training.seed)
        results["head_start"] = scores_of(class_scores(fit, pooled_features(model, scored)), scored)
    if start.freeze_encoder:
        model.neuript.requires_grad_(False)
    results["trainable_parameters"] = model.num_parameters(only_trainable=True)
    results["parameters"] = model.num_parameters()
    if training.process_index == 0:
        print(f"Training {results['trainable_parameters']:,} of {results['parameters']:,} parameters.")

    trainer = make_trainer(
        model,
        training,
        start.layer_decay,
        train_dataset=train,
        eval_dataset=splits.get("validation"),
        processing_class=extractor,
        compute_metrics=partial(compute_metrics, problem_type=targets.problem_type),
    )
    trainer.recorder.describe(
        kind=f"fine-tuning {targets.aim}",
        seen=seen_in_training(task, train, extractor),
        recipe=vars(start),
        fingerprints=fingerprints_in_training(task, train),
    )
    trainer.train(resume_from_checkpoint=training.resume_from_checkpoint)
    predictions = trainer.predict(scored).predictions  # each process predicts a part
    chosen_on = splits.get("validation") if choices and "validation" in task.evaluate_on else None
    if chosen_on is not None:
        predictions_of_chosen = trainer.predict(chosen_on).predictions
    if not trainer.is_world_process_zero():
        return

    save_checkpoint(model, extractor, training.output_dir)

    tested = TestedPeople.of(task, start.model, scored, train)
    results["tested_people"] = tested.to_dict()
    results["model"] = scores_of(predictions, scored)
    if targets.problem_type == ONE_CLASS:
        results["calibration"] = calibration_of(predictions, scored)
    results["baseline"] = baseline_scores(task.baseline, train, scored, extractor, task.baseline_frequencies)
    results["log"] = trainer.state.log_history
    if chosen_on is not None:
        people = TestedPeople.of(task, start.model, chosen_on, train, choices)
        scores = scores_of(predictions_of_chosen, chosen_on)
        results["chosen_on"] = {"choices": choices, "tested_people": people.to_dict(), **scores}
        print_scores(f"{people} ({', '.join(choices)})", {"fine-tuned": scores})
    write_results(training.output_dir, results, task, training.seed)
    write_model_card(training.output_dir)  # with the results
    print_scores(
        f"{tested}, {len(scored)} windows, chance {results['model']['chance']:.3f}",
        {
            "frozen features + fit": results.get("head_start"),
            "fine-tuned": results["model"],
            task.baseline.replace("_", " "): results["baseline"],
        },
    )
    main_score = MAIN_SCORES[targets.problem_type]
    fitted = results.get("head_start")
    if fitted and training.num_train_epochs and results["model"][main_score] <= fitted[main_score]:
        print("Fine-tuning did not help: the linear fit on frozen features is as good or better.")


if __name__ == "__main__":
    keep_memory()
    if status := run_program(main, *ARGUMENTS):
        sys.exit(status)
    leave()
