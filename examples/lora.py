"""
LoRA: trains adapters in a frozen NeurIPT and saves a checkpoint like any other, with the adapters merged into the
weights, or beside them (`--keep_adapters`).

    python examples/lora.py --data manifest.csv --rows set=eegmat --output_dir runs/lora --learning_rate 1e-3

Adapters sit on the attention and on the experts; the head is trained in full. Needs `pip install "neuript_hf[peft]"`.
"""

import sys
from dataclasses import dataclass, field

from peft import LoraConfig, get_peft_model
from transformers import HfArgumentParser, TrainingArguments, set_seed

from neuript_hf import NeurIPTForSequenceClassification, NeurIPTTrainer, save_checkpoint, verify
from neuript_hf.checkpoints.tested_people import TestedPeople, without_chosen_on
from neuript_hf.checkpoints.training_record import fingerprints_in_training, refuse_seen, seen_in_training
from neuript_hf.data.targets import Targets
from neuript_hf.data.tasks import TaskArguments, load_task, make_extractor
from neuript_hf.evaluation.metrics import print_scores, scores_of
from neuript_hf.evaluation.target_fits import start_from_fit
from neuript_hf.training.arguments import run_program
from neuript_hf.training.cpu import keep_memory
from neuript_hf.training.finetuning import task_config


@dataclass
class AdapterArguments:
    model: str = field(default="hub/neuript-tiny", metadata={"help": "Checkpoint to adapt."})
    rank: int = field(default=8, metadata={"help": "Rank of the adapters."})
    keep_adapters: bool = field(
        default=False, metadata={"help": "Save the adapters beside the weights instead of merging them."}
    )


ARGUMENTS = (TaskArguments, AdapterArguments, TrainingArguments)


def main():
    parser = HfArgumentParser(ARGUMENTS)
    task, adapter, training = parser.parse_args_into_dataclasses()
    set_seed(training.seed)
    refuse_seen(task, adapter.model)
    extractor = make_extractor(task, adapter.model)
    scored_task, _ = without_chosen_on(task, training)
    train, scored, splits = load_task(scored_task, extractor, training.seed)
    model = NeurIPTForSequenceClassification.from_pretrained(adapter.model, **task_config(train, extractor))
    start_from_fit(model, train, training.seed)
    adapted = get_peft_model(
        model,
        LoraConfig(
            r=adapter.rank,
            target_modules=["q_proj", "v_proj"],
            target_parameters=["experts.gate_up_proj", "experts.down_proj"],  # the stacked weights of the experts
            modules_to_save=["classifier"],
        ),
    )
    adapted.print_trainable_parameters()
    trainer = NeurIPTTrainer(
        model=adapted,
        args=training,
        train_dataset=train,
        eval_dataset=splits.get("validation"),
        processing_class=extractor,
    )
    trainer.recorder.describe(
        kind=f"fine-tuning {Targets.of(train).aim}",
        seen=seen_in_training(task, train, extractor),
        recipe=vars(adapter),
        fingerprints=fingerprints_in_training(task, train),
    )
    trainer.train()
    scores = scores_of(trainer.predict(scored).predictions, scored)

    save_checkpoint(adapted, extractor, training.output_dir, merge_adapters=not adapter.keep_adapters)
    verify(training.output_dir)
    tested = TestedPeople.of(task, adapter.model, scored, train)
    title = f"{tested}, {scores['windows']} windows, chance {scores['chance']:.3f}"
    print_scores(title, {"LoRA": scores})


if __name__ == "__main__":
    keep_memory()
    sys.exit(run_program(main, *ARGUMENTS))
