"""What NeurIPTTrainer adds to Trainer, with real training runs at the smallest size."""

import json

import numpy as np
import pytest
import torch
from conftest import make_window, small_config
from datasets import ClassLabel, Dataset, List, Value
from transformers import TrainerCallback, TrainingArguments
from transformers.utils import logging

from neuript_hf import (
    DataCollatorForAmplitudeAwareMasking,
    NeurIPTFeatureExtractor,
    NeurIPTForPreTraining,
    NeurIPTForSequenceClassification,
    NeurIPTTrainer,
)
from neuript_hf.evaluation.metrics import compute_metrics


def windows(count=16, labelled=True):
    """Of two montages."""
    rows = []
    for index in range(count):
        row = make_window(3 + index % 2, 24, seed=index, subject=f"sub-{index % 4}")
        rows.append(row | ({"labels": index % 3} if labelled else {}))
    return Dataset.from_list(rows)


def arguments(folder, **kwargs):
    settings = {
        "output_dir": str(folder),
        "use_cpu": True,
        "per_device_train_batch_size": 4,
        "num_train_epochs": 2,
        "logging_steps": 2,
        "save_strategy": "no",
        "disable_tqdm": True,
        "learning_rate": 1e-3,
    }
    return TrainingArguments(**(settings | kwargs))


def test_each_process_reads_its_own_stream(tmp_path):
    """Unless told otherwise; accelerate's own default is to cut the first process's batches into parts."""
    model = NeurIPTForSequenceClassification(small_config())
    stream = windows().to_iterable_dataset()
    for setting, expected in ((None, False), (True, True)):
        training = arguments(tmp_path, max_steps=2, accelerator_config={"dispatch_batches": setting})
        trainer = NeurIPTTrainer(model=model, args=training, train_dataset=stream)
        assert trainer.accelerator.dispatch_batches is expected
    trainer.train()
    assert trainer.state.global_step == 2


def test_a_head_whose_forward_names_no_entries_gets_all_of_them(tmp_path):
    class Head(NeurIPTForSequenceClassification):
        def forward(self, input_values, labels=None, **entries):
            return super().forward(input_values, labels=labels, **entries)

    assert Head.main_input_name == "input_values"
    trainer = NeurIPTTrainer(Head(small_config(num_labels=3)), arguments(tmp_path), train_dataset=windows())
    batch = next(iter(trainer.get_train_dataloader()))
    assert {"electrode_positions", "lobe_mask", "labels"} <= batch.keys()
    assert trainer.train().global_step == 8


def test_windows_whose_labels_have_another_name_are_scored(tmp_path):
    """`Trainer` would evaluate without a score."""
    model = NeurIPTForSequenceClassification(small_config(num_labels=3))
    trainer = NeurIPTTrainer(model, arguments(tmp_path), compute_metrics=compute_metrics)
    expected = trainer.evaluate(windows())
    found = trainer.evaluate(windows().rename_column("labels", "label"))
    assert found["eval_balanced_accuracy"] == expected["eval_balanced_accuracy"]


@pytest.mark.parametrize("where", ["train", "label", "eval", "dictionary", "predict"])
def test_names_of_the_data_set_and_of_the_model_must_agree(tmp_path, where):
    """Else every answer of `left` would be called `right`."""
    data = windows().cast_column("labels", ClassLabel(names=["left", "right", "rest"]))
    names = {0: "right", 1: "left", 2: "rest"}
    model = NeurIPTForSequenceClassification(small_config(id2label=names))
    given = {
        "train": {"train_dataset": data},
        "eval": {"eval_dataset": data},
        "dictionary": {"eval_dataset": {"a": data}},
    }
    with pytest.raises(ValueError, match=r"are \['left', 'right', 'rest'\].*says \['right', 'left', 'rest'\]"):
        trainer = NeurIPTTrainer(model, arguments(tmp_path), **given.get(where, {}))
        trainer.predict(data.rename_column("labels", "label") if where == "label" else data)
    aligned = data.align_labels_with_mapping({name: index for index, name in names.items()}, "labels")
    NeurIPTTrainer(model, arguments(tmp_path), train_dataset=aligned).predict(aligned)  # as the error advises
    for config in (small_config(num_labels=3), small_config(id2label=dict(enumerate(["left", "right", "rest"])))):
        NeurIPTTrainer(NeurIPTForSequenceClassification(config), arguments(tmp_path), train_dataset=data)
    numbered = windows().class_encode_column("labels")
    NeurIPTTrainer(model, arguments(tmp_path), train_dataset=numbered)


@pytest.mark.parametrize("names", [["left", "right", "rest"], ["left", "right"], ["0", "1", "2"]])
def test_a_model_without_names_gets_those_of_the_data_set(names, tmp_path, caplog):
    """If there are as many, and they say more than numbers; a model with names keeps them."""
    caplog.set_level("INFO", "neuript_hf")
    model = NeurIPTForSequenceClassification(small_config(num_labels=3))
    unnamed = dict(model.config.id2label)
    data = windows().filter(lambda row: row["labels"] < len(names)).cast_column("labels", ClassLabel(names=names))
    trainer = NeurIPTTrainer(
        model, arguments(tmp_path), train_dataset=data, processing_class=NeurIPTFeatureExtractor()
    )
    trainer.save_model()
    config = NeurIPTForSequenceClassification.from_pretrained(tmp_path).config
    if names == ["left", "right", "rest"]:
        assert config.id2label == dict(enumerate(names)) and config.label2id == {"left": 0, "right": 1, "rest": 2}
        assert "called as those of the data set: left, right, rest" in caplog.text
        assert trainer.data_collator.label2id == config.label2id
    else:
        assert config.id2label == unnamed and "called as" not in caplog.text


def test_names_of_several_labels_are_taken_as_well(tmp_path):
    names = ["eye", "muscle", "heart"]
    kind = List(Value("bool", id=json.dumps(names)), length=3)
    data = (
        windows()
        .remove_columns("labels")
        .add_column("labels", [[True, False, False]] * 16)
        .cast_column("labels", kind)
    )
    model = NeurIPTForSequenceClassification(small_config(num_labels=3))
    NeurIPTTrainer(model, arguments(tmp_path), train_dataset=data)
    assert model.config.id2label == dict(enumerate(names))


def test_without_a_processing_class_the_trainer_warns(tmp_path, caplog):
    for extractor, warned in ((NeurIPTFeatureExtractor(), False), (None, True)):
        caplog.clear()
        model = NeurIPTForSequenceClassification(small_config())
        NeurIPTTrainer(model, arguments(tmp_path), train_dataset=windows(), processing_class=extractor)
        assert ("saved folder has no feature extractor, so a pipeline cannot load it" in caplog.text) == warned


def test_fine_tunes_mixed_montages_and_logs_the_auxiliary_loss(tmp_path):
    model = NeurIPTForSequenceClassification(small_config())
    trainer = NeurIPTTrainer(
        model=model,
        args=arguments(tmp_path, eval_strategy="epoch"),
        train_dataset=windows(),
        eval_dataset=windows(),
        processing_class=NeurIPTFeatureExtractor(),
        compute_metrics=compute_metrics,
    )
    trainer.train()
    steps = [entry for entry in trainer.state.log_history if "loss" in entry]
    assert len(steps) == 4 and all(0 < 0.8 * entry["aux_loss"] < entry["loss"] for entry in steps)
    evaluations = [entry for entry in trainer.state.log_history if "eval_loss" in entry]
    assert len(evaluations) == 2 and "eval_balanced_accuracy" in evaluations[0] and "aux_loss" not in evaluations[0]
    trainer.save_model(tmp_path / "saved")
    assert (tmp_path / "saved" / "preprocessor_config.json").is_file()


@pytest.mark.slow
def test_accumulated_gradients_equal_the_large_batch(tmp_path):
    """Two batches of 4 and one of 8: the same steps, because the losses are means (`accepts_loss_kwargs = False`)."""
    weights = []
    for batch_size, accumulation in ((8, 1), (4, 2)):
        torch.manual_seed(0)
        model = NeurIPTForSequenceClassification(small_config(router_aux_loss_coef=0.0))
        model.set_experts_implementation("eager")
        NeurIPTTrainer(
            model=model,
            args=arguments(
                tmp_path, per_device_train_batch_size=batch_size, gradient_accumulation_steps=accumulation, optim="sgd"
            ),
            train_dataset=windows(),
        ).train()
        weights.append(model.state_dict())
    for name, tensor in weights[0].items():
        torch.testing.assert_close(weights[1][name], tensor, atol=1e-5, rtol=1e-4)


def pretraining_trainer(folder, **kwargs):
    torch.manual_seed(0)
    model = NeurIPTForPreTraining(small_config(hidden_dropout=0.1))
    model.set_experts_implementation("eager")  # bit-equal from run to run
    collator = DataCollatorForAmplitudeAwareMasking(seed=5)
    return NeurIPTTrainer(
        model=model,
        args=arguments(folder, **kwargs),
        train_dataset=windows(labelled=False),
        eval_dataset=windows(labelled=False),
        data_collator=collator,
    )


@pytest.mark.slow
def test_a_new_epoch_gets_new_masks(tmp_path):
    trainer = pretraining_trainer(tmp_path, num_train_epochs=3)
    seen, set_epoch = [], trainer.data_collator.set_epoch
    trainer.data_collator.set_epoch = lambda epoch: (seen.append(epoch), set_epoch(epoch))
    trainer.train()
    assert seen == [0, 1, 2]
    assert "eval_loss" in trainer.evaluate()


def test_evaluations_have_the_same_masks_in_every_epoch(tmp_path):
    trainer = pretraining_trainer(tmp_path, dataloader_num_workers=1, dataloader_persistent_workers=True)
    reference = trainer.evaluate()["eval_loss"]
    assert trainer.predict(trainer.eval_dataset).metrics["test_loss"] == reference
    trainer.data_collator.set_epoch(1)
    assert trainer.evaluate()["eval_loss"] == reference
    assert trainer.predict(trainer.eval_dataset).metrics["test_loss"] == reference
    assert trainer.data_collator.epoch == 1, "training goes on with its own masks"


def spoiled(trainer, steps):
    """Gradients become NaN in these steps; gives the weights of one layer after every step."""
    weight, kept = trainer.model.neuript.embeddings.token.weight, []

    class Keep(TrainerCallback):
        def on_step_end(self, args, state, control, **kwargs):
            kept.append(weight.detach().clone())

    trainer.add_callback(Keep())
    weight.register_hook(lambda gradient: gradient * (torch.nan if trainer.state.global_step in steps else 1))
    return kept


def test_a_step_without_a_finite_gradient_is_left_out(tmp_path, caplog):
    trainer = pretraining_trainer(tmp_path, max_steps=4)
    weights = spoiled(trainer, {1, 3})
    logging.enable_propagation()
    trainer.train()
    logging.disable_propagation()
    torch.testing.assert_close(weights[1], weights[0], atol=0, rtol=0)
    torch.testing.assert_close(weights[3], weights[2], atol=0, rtol=0)
    assert not torch.equal(weights[2], weights[1]), "the step between them counts"
    assert all(parameter.isfinite().all() for parameter in trainer.model.parameters())
    warned = [record.getMessage() for record in caplog.records if "skipped" in record.getMessage()]
    assert [message.split(" is")[0] for message in warned] == ["Step 2", "Step 4"]


@pytest.mark.slow
@pytest.mark.parametrize("max_grad_norm", [0.0, 1.0])
def test_training_ends_where_no_gradient_is_finite(tmp_path, max_grad_norm):
    trainer = pretraining_trainer(tmp_path, max_steps=20, max_grad_norm=max_grad_norm)
    weights = spoiled(trainer, range(20))
    before = trainer.model.neuript.embeddings.token.weight.detach().clone()
    with pytest.raises(FloatingPointError, match="10 steps in a row, up to step 10"):
        trainer.train()
    assert len(weights) == 9
    torch.testing.assert_close(weights[-1], before, atol=0, rtol=0)


def sines(seed, count=64):
    """4 Hz at three places, phases drawn, a little noise."""
    rng, time = np.random.default_rng(seed), np.arange(64) / 64
    signals = 2 * np.sin(2 * np.pi * (4 * time + rng.random((count, 3, 1)))) + rng.normal(0, 0.1, (count, 3, 64))
    places = {
        "electrode_positions": np.array([[4, 24, 27], [23, 25, 33], [42, 24, 27]], dtype=np.float32),
        "lobe_mask": np.eye(5, dtype=bool)[:3],
    }
    return Dataset.from_list([{"input_values": signal.astype(np.float32), **places} for signal in signals])


@pytest.mark.slow
def test_reconstruction_falls_below_the_mean_filler(tmp_path):
    """Pre-training learns: on new windows hidden samples are rebuilt better than by their channel's visible mean."""
    torch.manual_seed(0)
    trainer = NeurIPTTrainer(
        model=NeurIPTForPreTraining(small_config()),
        args=arguments(tmp_path, num_train_epochs=8, per_device_train_batch_size=8, learning_rate=3e-3),
        train_dataset=sines(0),
        data_collator=DataCollatorForAmplitudeAwareMasking(ratios=0.5),
    )
    trainer.train()
    unseen = sines(1)
    batch = trainer.data_collator([unseen[index] for index in range(len(unseen))])
    truth, hidden = batch["labels"], batch["hidden_positions"]
    with torch.no_grad():
        error = (trainer.model.eval()(**batch).reconstruction - truth)[hidden].square().mean()
    mean = (truth * ~hidden).sum(-1, keepdim=True) / (~hidden).sum(-1, keepdim=True)
    assert error < 0.5 * (mean - truth)[hidden].square().mean()
    assert error < 0.9 * truth[hidden].square().mean()  # and than by zero, the mean of the whole signal


@pytest.mark.parametrize("model_class", [NeurIPTForSequenceClassification, NeurIPTForPreTraining])
def test_models_do_not_accept_loss_arguments(model_class):
    assert model_class.accepts_loss_kwargs is False
