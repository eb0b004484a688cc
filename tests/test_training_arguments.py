"""The arguments of transformers' Trainer do what they say with NeurIPT, or are refused by name."""

import copy
import dataclasses
import pickle
import re
from contextlib import nullcontext

import numpy as np
import pytest
import torch
from conftest import ROOT, make_window, small_config
from datasets import Dataset
from torch import nn
from torch.nn import functional as F
from transformers import EvalPrediction, TrainingArguments, set_seed

from neuript_hf import (
    DataCollatorForAmplitudeAwareMasking,
    NeurIPTFeatureExtractor,
    NeurIPTForPreTraining,
    NeurIPTForSequenceClassification,
    NeurIPTTrainer,
)
from neuript_hf.data.tasks import TaskArguments
from neuript_hf.evaluation.metrics import compute_metrics
from neuript_hf.training import finetuning
from neuript_hf.training.arguments import REFUSED, read_json, run_program
from neuript_hf.training.pretraining import PreTrainer


def windows(count=16, labelled=True, sizes=((5, 24), (6, 24))):
    """Of two sizes, channels and samples, in turn. Channels in all lobes, so that all of a head learns."""
    rows = []
    for index in range(count):
        row = make_window(*sizes[index % len(sizes)], seed=index)
        rows.append(row | ({"labels": index % 3} if labelled else {}))
    return Dataset.from_list(rows)


def make_trainer(folder, pretraining=False, config=None, data=None, seed=0, **kwargs):
    """
    Arguments of `TrainingArguments` and of `NeurIPTTrainer`. By default without noise: every window once, in order,
    plain gradient descent, a new log entry for each step.
    """
    fields = {field.name for field in dataclasses.fields(TrainingArguments)}
    settings = {
        "output_dir": str(folder),
        "use_cpu": True,
        "disable_tqdm": True,
        "per_device_train_batch_size": 4,
        "per_device_eval_batch_size": 4,
        "num_train_epochs": 1,
        "logging_steps": 1,
        "save_strategy": "no",
        "optim": "sgd",
        "learning_rate": 0.01,
        "lr_scheduler_type": "constant",
        "max_grad_norm": 0.0,
        "train_sampling_strategy": "sequential",
    }
    settings |= {name: value for name, value in kwargs.items() if name in fields}
    others = {name: value for name, value in kwargs.items() if name not in fields}
    set_seed(seed)
    if pretraining:
        model = NeurIPTForPreTraining(config or small_config())
        others.setdefault("data_collator", DataCollatorForAmplitudeAwareMasking(seed=5))
    else:
        model = NeurIPTForSequenceClassification(config or small_config())
    data = windows(labelled=not pretraining) if data is None else data
    others = {"model": model, "train_dataset": data, "eval_dataset": data} | others
    return NeurIPTTrainer(args=TrainingArguments(**settings), **others)


def steps_of(trainer):
    return [entry for entry in trainer.state.log_history if "loss" in entry]


# The loss


def class_weights(outputs, labels, num_items_in_batch=None):
    """As one gives the rarer class more weight: by the number of windows, if it is known."""
    losses = F.cross_entropy(outputs.logits, labels, weight=torch.tensor([1.0, 3.0, 1.0]), reduction="none")
    return losses.sum() / (len(labels) if num_items_in_batch is None else num_items_in_batch)


OTHER_LOSSES = [
    pytest.param({}, id="the model's"),
    pytest.param({"label_smoothing_factor": 0.1}, id="smoothed labels"),
    pytest.param({"compute_loss_func": class_weights}, id="class weights"),
]


@pytest.mark.parametrize("accumulation", [1, 2])
@pytest.mark.parametrize("loss", OTHER_LOSSES)
def test_the_experts_loss_stays_in_the_trained_loss(tmp_path, loss, accumulation):
    """The gradient is that of the whole loss, spelled out here."""
    trainer = make_trainer(tmp_path, gradient_accumulation_steps=accumulation, max_steps=1, **loss)
    reference = copy.deepcopy(trainer.model).train()
    trainer.train()
    (step,) = steps_of(trainer)
    total, data = 0.0, windows()
    for number in range(accumulation):
        batch = trainer.data_collator([data[index] for index in range(4 * number, 4 * number + 4)])
        labels = batch.pop("labels")
        outputs = reference(**batch)
        if "compute_loss_func" in loss:
            task = class_weights(outputs, labels)
        else:
            task = F.cross_entropy(outputs.logits, labels, label_smoothing=loss.get("label_smoothing_factor", 0.0))
        total = total + (task + reference.config.router_aux_loss_coef * outputs.aux_loss) / accumulation
    total.backward()
    assert step["loss"] == pytest.approx(total.item(), rel=1e-4)
    assert step["loss"] > 0.8 * step["aux_loss"] > 0
    for (name, before), after in zip(reference.named_parameters(), trainer.model.parameters(), strict=True):
        if before.grad is not None:
            torch.testing.assert_close(before - 0.01 * before.grad, after, atol=1e-5, rtol=1e-4, msg=name)


def absolute_error(outputs, labels, num_items_in_batch=None):
    items = labels.numel() if num_items_in_batch is None else num_items_in_batch
    return (outputs.logits - labels).abs().sum() / items


def test_the_experts_loss_stays_in_pretraining(tmp_path):
    trainer = make_trainer(
        tmp_path, pretraining=True, max_steps=1, compute_loss_func=absolute_error, gradient_accumulation_steps=2
    )
    trainer.train()
    (step,) = steps_of(trainer)
    evaluation = make_trainer(tmp_path, pretraining=True, compute_loss_func=absolute_error)
    evaluation.model.config.router_aux_loss_coef = 0.0
    evaluation.args.gradient_accumulation_steps = 2
    evaluation.args.max_steps = 1
    evaluation.train()
    (alone,) = steps_of(evaluation)
    assert step["loss"] - alone["loss"] == pytest.approx(0.8 * step["aux_loss"], rel=1e-3)


def test_further_targets_of_pretraining_are_not_lost(tmp_path):
    config = small_config(time_course_bins=2)
    with pytest.raises(ValueError, match="compute_loss_func replaces the loss, .*course_head.*time_course_bins"):
        make_trainer(tmp_path, pretraining=True, config=config, compute_loss_func=absolute_error)
    make_trainer(tmp_path, pretraining=True, config=small_config(), compute_loss_func=absolute_error)


class TwoDevices(nn.Module):
    """What `nn.DataParallel` gives: logits side by side, and of every number one for each device."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, **batch):
        halves = [{name: part.chunk(2)[half] for name, part in batch.items()} for half in (0, 1)]
        outputs = [self.model(**half) for half in halves]
        joined = {
            name: torch.stack([output[name] for output in outputs])
            for name in ("loss", "aux_loss")
            if name in outputs[0]
        }
        return type(outputs[0])(logits=torch.cat([output.logits for output in outputs]), **joined)


@pytest.mark.parametrize("loss", OTHER_LOSSES)
def test_the_experts_loss_stays_on_two_devices(tmp_path, loss):
    trainer = make_trainer(tmp_path, **loss)
    batch = trainer.data_collator([windows()[index] for index in range(4)])
    model = TwoDevices(trainer.model).train()
    total, outputs = trainer.compute_loss(model, dict(batch), return_outputs=True)
    trainer.model.config.router_aux_loss_coef = 0.0
    alone = trainer.compute_loss(model, dict(batch))
    assert outputs.aux_loss.shape == (2,)
    assert (total.mean() - alone.mean()).item() == pytest.approx(0.8 * outputs.aux_loss.mean().item(), rel=1e-4)


def test_a_head_that_hides_the_experts_loss_is_refused(tmp_path):
    class Hiding(NeurIPTForSequenceClassification):
        def forward(self, input_values, electrode_positions=None, lobe_mask=None, labels=None, **kwargs):
            outputs = super().forward(input_values, electrode_positions, lobe_mask, labels=labels, **kwargs)
            return type(outputs)(loss=outputs.loss, logits=outputs.logits)

    trainer = make_trainer(tmp_path, model=Hiding(small_config()), label_smoothing_factor=0.1)
    with pytest.raises(ValueError, match="has no aux_loss.*aux_loss=outputs.aux_loss"):
        trainer.train()
    config = small_config(num_experts=[0] * 6)
    make_trainer(tmp_path, model=Hiding(config), label_smoothing_factor=0.1, max_steps=1).train()


@pytest.mark.parametrize("pretraining", [False, True])
@pytest.mark.parametrize("loss", OTHER_LOSSES)
def test_uneven_batches_are_the_large_batch(tmp_path, loss, pretraining):
    """Eleven windows in batches of 4, 4 and 3, and in pre-training with different numbers of selected samples."""
    if pretraining and loss:
        pytest.skip("losses for classes")
    weights, losses = [], []
    for batch_size, accumulation in ((11, 1), (4, 3)):
        trainer = make_trainer(
            tmp_path,
            pretraining=pretraining,
            config=small_config(router_aux_loss_coef=0.0),
            data=windows(11, not pretraining, sizes=((3, 24), (4, 40), (2, 16))),
            per_device_train_batch_size=batch_size,
            gradient_accumulation_steps=accumulation,
            **loss,
        )
        trainer.train()
        weights.append(trainer.model.state_dict())
        losses.append([step["loss"] for step in steps_of(trainer)])
    assert losses[0] == pytest.approx(losses[1], rel=1e-4) and len(losses[0]) == 1
    for name, tensor in weights[0].items():
        torch.testing.assert_close(weights[1][name], tensor, atol=1e-5, rtol=1e-4)


def test_a_loss_that_does_not_divide_by_the_windows_is_refused(tmp_path):
    """Trainer adds the losses of accumulated batches up: with a mean, the gradient would be twice as large."""

    def mean(outputs, labels, num_items_in_batch=None):
        return F.cross_entropy(outputs.logits, labels)

    make_trainer(tmp_path, compute_loss_func=mean, max_steps=1).train()
    with pytest.raises(ValueError, match="ignores num_items_in_batch.*sum over the windows divided by"):
        make_trainer(tmp_path, compute_loss_func=mean, gradient_accumulation_steps=2).train()


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"problem_type": "regression"}, "the model is for regression"),
        ({"num_labels": 1}, "the model is for regression"),
        ({"problem_type": "multi_label_classification"}, "the model is for multi_label_classification"),
        ({"loss_type": "balanced_bce"}, "asks for loss_type='balanced_bce'"),
    ],
)
def test_label_smoothing_is_for_one_class(tmp_path, config, message):
    with pytest.raises(ValueError, match=f"label_smoothing_factor .*{message}"):
        make_trainer(tmp_path, config=small_config(**config), label_smoothing_factor=0.1)


def test_label_smoothing_is_not_for_pretraining(tmp_path):
    with pytest.raises(ValueError, match="label_smoothing_factor .*reconstructs signals"):
        make_trainer(tmp_path, pretraining=True, label_smoothing_factor=0.1)


@pytest.mark.parametrize("labels", [[0, 1, -1, 2], [0, 1, 3, 2], [0.0, 1.0, 1.0, 2.0]])
@pytest.mark.parametrize("hidden", [{"label_smoothing_factor": 0.1}, {}])
def test_labels_are_checked_where_the_model_does_not_see_them(tmp_path, labels, hidden):
    """Smoothing would take -1 for class 0."""
    data = windows(4).remove_columns("labels").add_column("labels", labels)
    trainer = make_trainer(tmp_path, data=data, **hidden)
    with pytest.raises(ValueError, match="labels"):
        trainer.train()


# Evaluation


def logits_of(trainer, data):
    return trainer.predict(data).predictions


@pytest.mark.parametrize("metrics", [compute_metrics, lambda prediction: {"sum": float(prediction.predictions.sum())}])
@pytest.mark.parametrize("count", [16, 11])
def test_metrics_batch_by_batch_are_the_same(tmp_path, metrics, count):
    scores = []
    for by_batch in (False, True):
        trainer = make_trainer(tmp_path, data=windows(count), compute_metrics=metrics, batch_eval_metrics=by_batch)
        found = trainer.evaluate() | trainer.predict(windows(7)).metrics
        scores.append({name: value for name, value in found.items() if not re.search("runtime|second|time", name)})
    assert scores[0] == pytest.approx(scores[1], nan_ok=True) and len(scores[0]) >= 4


def test_metrics_batch_by_batch_get_losses_and_inputs(tmp_path):
    seen = []

    def keep(prediction: EvalPrediction):
        seen.append((prediction.losses, prediction.inputs, prediction.label_ids))
        return {}

    for by_batch in (False, True):
        options = {"batch_eval_metrics": by_batch, "include_for_metrics": ["loss", "inputs"]}
        make_trainer(tmp_path, data=windows(11), compute_metrics=keep, **options).evaluate()
    for whole, by_batch in zip(*seen, strict=True):
        np.testing.assert_allclose(by_batch, whole)
    assert seen[0][1].shape == (11, 6, 24)


def test_an_interrupted_evaluation_leaves_nothing_behind(tmp_path):
    trainer = make_trainer(tmp_path, data=windows(11), compute_metrics=compute_metrics, batch_eval_metrics=True)
    expected = trainer.evaluate()["eval_auroc"]
    broken = windows(8).remove_columns("labels").add_column("labels", [0, 1, 2, 0, 9, 9, 9, 9])
    with pytest.raises(ValueError, match="labels"):
        trainer.evaluate(broken)
    assert trainer.evaluate()["eval_auroc"] == expected


def test_a_metric_that_keeps_its_own_state_is_called_by_batch(tmp_path):
    calls = []

    def own(prediction, compute_result):
        calls.append(compute_result)
        return {"batches": len(calls)}

    trainer = make_trainer(tmp_path, data=windows(11), compute_metrics=own, batch_eval_metrics=True)
    assert trainer.evaluate()["eval_batches"] == 3 and calls == [False, False, True]


@pytest.mark.parametrize(
    "options", [{"eval_accumulation_steps": 1}, {"eval_do_concat_batches": False}, {"include_for_metrics": ["loss"]}]
)
def test_ways_to_gather_predictions_give_the_same_scores(tmp_path, options):
    scores = [
        make_trainer(tmp_path, data=windows(11), compute_metrics=compute_metrics, **setting).evaluate()
        for setting in ({}, options)
    ]
    for name in ("eval_loss", "eval_auroc", "eval_balanced_accuracy", "eval_cohen_kappa"):
        assert scores[0][name] == pytest.approx(scores[1][name])


def test_the_evaluation_loss_counts_every_window_once(tmp_path):
    trainer = make_trainer(tmp_path, data=windows(11))
    data, losses = windows(11), []
    with torch.no_grad():
        for index in range(11):
            losses.append(trainer.model.eval()(**trainer.data_collator([data[index]])).loss.item())
    assert trainer.evaluate()["eval_loss"] == pytest.approx(np.mean(losses), rel=1e-4)


@pytest.mark.parametrize("pretraining", [False, True])
def test_a_dictionary_of_evaluation_sets(tmp_path, pretraining):
    """Each has its own loss, scores and parts of the loss, also in the log."""
    sets = {"near": windows(8, not pretraining), "far": windows(5, not pretraining)}
    options = {} if pretraining else {"compute_metrics": compute_metrics}
    trainer = make_trainer(tmp_path, pretraining=pretraining, eval_dataset=sets, **options)
    trainer.predict(windows(3, not pretraining))  # leaves nothing in the next evaluation
    found = trainer.evaluate()
    names = ("loss", "reconstruction_loss") if pretraining else ("loss", "balanced_accuracy")
    for name in names:
        for key, data in sets.items():
            alone = trainer.evaluate(data)[f"eval_{name}"]
            assert found[f"eval_{key}_{name}"] == pytest.approx(alone)
            assert any(f"eval_{key}_{name}" in entry for entry in trainer.state.log_history)
    if pretraining:
        assert found["eval_far_reconstruction_loss"] == pytest.approx(found["eval_far_loss"], abs=1e-5)
        assert not any(name.startswith("eval_reconstruction") for name in found)
        metrics = trainer.predict(sets["far"]).metrics
        assert metrics["test_reconstruction_loss"] == found["eval_far_reconstruction_loss"]


@pytest.mark.parametrize(
    "options",
    [
        {"train_sampling_strategy": "group_by_length"},
        {"train_sampling_strategy": "batch_rebalance"},
        {"dataloader_drop_last": True},
        {"dataloader_num_workers": 2, "dataloader_in_order": False},
    ],
)
def test_evaluations_see_all_windows_in_their_order(tmp_path, options):
    """Scores of recordings and people go by the row of the data set."""
    data = windows(11, sizes=((2, 16), (4, 40), (3, 24)))
    expected = make_trainer(tmp_path, data=data).predict(data)
    found = make_trainer(tmp_path, data=data, **options).predict(data)
    np.testing.assert_allclose(found.predictions, expected.predictions, atol=1e-5)
    assert found.label_ids.tolist() == data["labels"]
    trainer = make_trainer(tmp_path, data=data, compute_metrics=lambda p: {"windows": len(p.label_ids)}, **options)
    assert trainer.evaluate()["eval_windows"] == 11
    assert trainer.args.dataloader_drop_last == options.get("dataloader_drop_last", False)


def test_persistent_workers_evaluate_the_data_set_they_are_given(tmp_path):
    trainer = make_trainer(
        tmp_path,
        dataloader_num_workers=1,
        dataloader_persistent_workers=True,
        compute_metrics=lambda prediction: {"windows": len(prediction.label_ids)},
    )
    assert [trainer.evaluate(windows(count))["eval_windows"] for count in (8, 5)] == [8, 5]
    found = trainer.evaluate({"near": windows(4), "far": windows(7)})
    assert (found["eval_near_windows"], found["eval_far_windows"]) == (4, 7)
    assert trainer.evaluate()["eval_windows"] == 16


def test_hidden_states_leave_the_scores_alone(tmp_path):
    """Those of other montages have other shapes and could not be gathered."""
    scores = []
    for states in (False, True):
        config = small_config(output_hidden_states=states)
        data = windows(11, sizes=((2, 16), (4, 40)))
        trainer = make_trainer(tmp_path, config=config, data=data, compute_metrics=compute_metrics)
        scores.append(trainer.evaluate()["eval_auroc"])
    assert scores[0] == scores[1]


def test_prediction_loss_only(tmp_path):
    trainer = make_trainer(tmp_path, prediction_loss_only=True, compute_metrics=compute_metrics)
    assert "eval_loss" in trainer.evaluate() and trainer.predict(windows()).predictions is None


# Data


@pytest.mark.parametrize("strategy", ["group_by_length", "batch_rebalance"])
@pytest.mark.parametrize("column", [False, True])
def test_windows_are_grouped_by_their_size(tmp_path, strategy, column):
    """Channels times samples, or what a column says; Trainer alone would take the number of channels."""
    data = windows(8, sizes=((4, 16), (4, 160)))
    options, expected = {}, [4 * 16, 4 * 160] * 4
    if column:
        data = data.add_column("size", [1, 1, 9, 9] * 2)
        options, expected = {"length_column_name": "size"}, [1, 1, 9, 9] * 2
    trainer = make_trainer(tmp_path, data=data, train_sampling_strategy=strategy, **options)
    assert list(trainer._get_train_sampler().lengths) == expected
    trainer.train()
    assert trainer.state.global_step == 2


@pytest.mark.parametrize("form", ["torch", "numpy", "stream", "torch data set"])
def test_forms_of_data_sets(tmp_path, form):
    data = windows()
    if form == "stream":
        data = data.to_iterable_dataset()
    elif form == "torch data set":
        data = torch.utils.data.Subset(data, range(16))
    else:
        data = data.with_format(form)
    losses = []
    for given in (windows(), data):
        trainer = make_trainer(tmp_path, data=given, eval_dataset=windows(), max_steps=2)
        losses.append(trainer.train().training_loss)
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


@pytest.mark.slow
def test_spawned_workers(tmp_path):
    """They get data set and collator by pickle."""
    losses = []
    for options in ({}, {"dataloader_num_workers": 1, "dataloader_multiprocessing_context": "spawn"}):
        losses.append(make_trainer(tmp_path, pretraining=True, **options).train().training_loss)
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    batches = []
    for collator in (default := make_trainer(tmp_path).data_collator, pickle.loads(pickle.dumps(default))):
        batches.append(collator([windows()[index] for index in range(4)]))
    for name, tensor in batches[0].items():
        torch.testing.assert_close(batches[1][name], tensor)


def to_window(example):
    extractor = NeurIPTFeatureExtractor(montage="as_recorded", window_seconds=1.0)
    signal = np.array(example["signal"])
    batch = extractor(signal, sampling_rate=128, channel_names=["F3", "F4", "C3", "C4"], unit="uV")
    return {name: batch[name][0] for name in batch}


def test_windows_made_by_several_processes_are_the_same():
    rng = np.random.default_rng(0)
    data = Dataset.from_list([{"signal": rng.normal(0, 10, (4, 256)).tolist(), "labels": k % 2} for k in range(4)])
    one, two = (data.map(to_window, num_proc=count, remove_columns=["signal"]) for count in (None, 2))
    np.testing.assert_allclose(np.array(two["input_values"]), np.array(one["input_values"]))
    assert two["labels"] == one["labels"]


def test_unused_columns_may_stay(tmp_path):
    data = windows().add_column("subject", ["01"] * 16)
    losses = [make_trainer(tmp_path, data=data, remove_unused_columns=keep).train().training_loss for keep in (0, 1)]
    assert losses[0] == pytest.approx(losses[1])


# Ways to compute


@pytest.mark.parametrize(
    "options",
    [
        {"gradient_checkpointing": True},
        {"gradient_checkpointing": True, "gradient_checkpointing_kwargs": {"use_reentrant": True}},
        {"torch_compile": True, "torch_compile_backend": "eager"},
    ],
    ids=["checkpointing", "reentrant", "compiled"],
)
@pytest.mark.parametrize("pretraining", [False, True])
def test_ways_to_compute_give_the_same_weights(tmp_path, options, pretraining):
    if pretraining and "torch_compile" in options:
        pytest.skip("slow, and no other than tests/test_ecosystem.py compiles")
    weights = []
    for setting in ({}, options):
        trainer = make_trainer(tmp_path, pretraining=pretraining, max_steps=2, **setting)
        trainer.train()
        weights.append(trainer.model.state_dict())
    for name, tensor in weights[0].items():
        torch.testing.assert_close(weights[1][name], tensor, atol=1e-5, rtol=1e-4)


def test_a_compiled_model_still_refuses_labels_out_of_range(tmp_path):
    data = windows(4).remove_columns("labels").add_column("labels", [0, 1, 3, 2])
    with pytest.raises(ValueError, match=r"labels \[3\]"):
        make_trainer(tmp_path, data=data, torch_compile=True, torch_compile_backend="eager").train()


def test_bfloat16(tmp_path):
    losses = [make_trainer(tmp_path, bf16=half, max_steps=1).train().training_loss for half in (False, True)]
    assert losses[0] == pytest.approx(losses[1], rel=0.05)


class NoMemory(NeurIPTForSequenceClassification):
    """For batches of more than two windows, at once or after a few."""

    patience = 0

    def forward(self, input_values, electrode_positions=None, lobe_mask=None, labels=None, **kwargs):
        if self.training and len(input_values) > 2:
            if self.patience == 0:
                raise RuntimeError("CUDA out of memory.")
            self.patience -= 1
        return super().forward(input_values, electrode_positions, lobe_mask, labels=labels, **kwargs)


def test_a_batch_size_is_found(tmp_path):
    """3, then 2 windows; the training is then the one with 2."""
    model = NoMemory(small_config())
    start = copy.deepcopy(model.state_dict())
    trainer = make_trainer(
        tmp_path, model=model, auto_find_batch_size=True, data=windows(6), per_device_train_batch_size=3
    )
    trainer.train()
    assert trainer.state.train_batch_size == 2 and trainer.state.global_step == 3
    again = NoMemory(small_config())
    again.load_state_dict(start)
    make_trainer(tmp_path, model=again, data=windows(6), per_device_train_batch_size=2).train()
    for name, tensor in model.state_dict().items():
        torch.testing.assert_close(again.state_dict()[name], tensor, atol=1e-6, rtol=1e-5)


def test_a_search_for_the_batch_size_does_not_start_from_trained_weights(tmp_path):
    model = NoMemory(small_config())
    model.patience = 2
    trainer = make_trainer(
        tmp_path, model=model, auto_find_batch_size=True, data=windows(9), per_device_train_batch_size=3
    )
    with pytest.raises(RuntimeError, match=r"ran out after step 2,.*per_device_train_batch_size=2\."):
        trainer.train()
    make_trainer(tmp_path, model=NoMemory(small_config()), per_device_train_batch_size=2).train()


def test_a_training_without_a_batch_is_refused(tmp_path):
    """Trainer would end without a step, and the weights would look trained."""
    trainer = make_trainer(tmp_path, data=windows(3), dataloader_drop_last=True)
    with pytest.raises(ValueError, match="3 windows do not fill one of 4.*dataloader_drop_last=False"):
        trainer.train()
    make_trainer(tmp_path, data=windows(3)).train()


def test_windows_without_labels_are_predicted(tmp_path):
    trainer = make_trainer(tmp_path, compute_metrics=compute_metrics)
    labelled, bare = trainer.predict(windows(5)), trainer.predict(windows(5, labelled=False))
    np.testing.assert_array_equal(labelled.predictions, bare.predictions)
    assert bare.label_ids is None and "test_loss" not in bare.metrics


# Refused


UNSUITABLE = {
    "use_liger_kernel": True,
    "use_cache": True,
    "neftune_noise_alpha": 5.0,
    "include_num_input_tokens_seen": "non_padding",
    "fp16_full_eval": True,
    "bf16_full_eval": True,
    "parallelism_config": object(),
}


@pytest.mark.parametrize("name", REFUSED)
def test_unsuitable_arguments_are_refused_by_name(tmp_path, name):
    training = TrainingArguments(str(tmp_path), use_cpu=True)
    setattr(training, name, UNSUITABLE[name])
    with pytest.raises(ValueError, match=rf"{name}=.* does not work with NeurIPT: \w+"):
        NeurIPTTrainer(NeurIPTForSequenceClassification(small_config()), training)


def test_finetuning_has_its_own_groups_of_weights(tmp_path):
    model = NeurIPTForSequenceClassification(small_config())
    training = TrainingArguments(str(tmp_path), use_cpu=True, optim_target_modules="all-linear")
    with pytest.raises(ValueError, match="optim_target_modules groups the weights by module"):
        finetuning.make_trainer(model, training, 0.8)


@pytest.mark.parametrize(
    ("options", "one_cycle", "message"),
    [
        ({"lr_scheduler_type": "cosine"}, True, "lr_scheduler_type would have no effect.*schedule to 'trainer'"),
        ({"warmup_steps": 10}, True, "warmup_steps would have no effect"),
        ({"train_sampling_strategy": "group_by_length"}, False, "train_sampling_strategy='group_by_length' would"),
        ({"lr_scheduler_type": "cosine", "warmup_steps": 10}, False, None),
        ({}, True, None),
    ],
)
def test_pretraining_has_its_own_schedule_and_order(tmp_path, options, one_cycle, message):
    """An argument is never taken without effect."""
    model, training = NeurIPTForPreTraining(small_config()), TrainingArguments(str(tmp_path), use_cpu=True, **options)
    with pytest.raises(ValueError, match=message) if message else nullcontext():
        PreTrainer(model=model, args=training, one_cycle=one_cycle)


def test_tokens_are_the_samples_of_all_channels(tmp_path):
    trainer = make_trainer(tmp_path, include_num_input_tokens_seen="all", data=windows(4, sizes=((3, 24),)))
    trainer.train()
    assert trainer.state.num_input_tokens_seen == 4 * 3 * 24


def test_label_names_must_be_entries_of_a_batch(tmp_path):
    with pytest.raises(ValueError, match="label_names has label, but NeurIPTForSequenceClassification takes"):
        make_trainer(tmp_path, label_names=["label"])
    assert "eval_loss" in make_trainer(tmp_path, label_names=["labels"]).evaluate()


def test_arguments_may_come_in_their_order(tmp_path):
    """As `Trainer` takes them; the third is the collator."""
    collator = DataCollatorForAmplitudeAwareMasking()
    model, training = NeurIPTForPreTraining(small_config()), TrainingArguments(str(tmp_path), use_cpu=True)
    assert NeurIPTTrainer(model, training, collator).data_collator is collator


def test_names_are_labels(tmp_path):
    config = small_config(id2label={0: "rest", 1: "left", 2: "right"})
    named = (
        windows().remove_columns("labels").add_column("labels", [["rest", "left", "right"][k % 3] for k in range(16)])
    )
    losses = [make_trainer(tmp_path, config=config, data=data).train().training_loss for data in (windows(), named)]
    assert losses[0] == losses[1]


# The page


def rows_of_the_page():
    page = (ROOT / "docs" / "training-arguments.md").read_text()
    table = page.partition("## `TrainingArguments`")[2].partition("\n## ")[0]
    return [line.strip("|").split("|") for line in table.splitlines() if line.startswith("| `")]


def test_the_page_has_every_argument():
    """docs/training-arguments.md has a row for each field of the installed TrainingArguments, and none for others."""
    rows = [argument for argument, *_ in rows_of_the_page()]
    named = re.findall(r"`(\w+)`", " ".join(rows))
    fields = {field.name for field in dataclasses.fields(TrainingArguments) if field.init}
    assert fields - set(named) == set()
    assert len(named) == len(set(named)), "each once"
    assert set(named) - fields <= SINCE


# Fields of other versions of transformers that the page names: 5.17 is the oldest that works.
SINCE: set[str] = set()


def test_the_page_says_what_is_refused():
    said = " ".join(argument for argument, *notes in rows_of_the_page() if "refused" in " ".join(notes))
    assert set(re.findall(r"`(\w+)`", said)) >= set(REFUSED)


@pytest.mark.parametrize("text", ["{bad", "{'a': 1}", "[1]"])
def test_an_option_that_is_no_json_is_named(text):
    with pytest.raises(ValueError, match="--config should hold an object in JSON"):
        read_json("config", text)
    assert read_json("config", '{"a": 1}') == {"a": 1}


@pytest.mark.parametrize(
    ("advice", "hint"),
    [
        ("Give within_subject=True.", "\n(Here, within_subject=True is --within_subject true, and so on.)"),
        ("Give problem_type='regression' (a).", "\n(Here, problem_type='regression' is --problem_type regression, "),
        ("Give window_seconds=2.5.", "\n(Here, window_seconds=2.5 is --window_seconds 2.5, and so on.)"),
        ("Give rows=[1].", "\n(Here, rows=... is --rows ..., and so on.)"),
        ("Give label2id={'a': 1}.", ""),  # no option
    ],
)
def test_advice_is_given_as_options(advice, hint, capsys):
    def main():
        raise FileNotFoundError(advice)

    assert run_program(main, TaskArguments, TrainingArguments) == 1
    printed = capsys.readouterr().err
    assert printed.startswith(advice + (hint or "\n")) and (hint or printed == f"{advice}\n")
    assert run_program(lambda: None, TaskArguments) == 0
