"""Learning rates: slower in deeper layers, and the paper's cycle, also after a resume."""

import math
import re
from pathlib import Path

import pytest
import torch
from conftest import make_window, small_config
from transformers import Trainer, TrainingArguments

from neuript_hf import (
    DataCollatorForAmplitudeAwareMasking,
    NeurIPTForPreTraining,
    NeurIPTForSequenceClassification,
    NeurIPTTrainer,
)
from neuript_hf.training.optimization import layerwise_parameter_groups, one_cycle_schedule


def rates(model, groups):
    """Name of each trained parameter -> its group."""
    names = {parameter: name for name, parameter in model.named_parameters()}
    return {names[parameter]: group for group in groups for parameter in group["params"]}


@pytest.mark.parametrize("kind", [NeurIPTForSequenceClassification, NeurIPTForPreTraining])
def test_each_layer_learns_slower_than_the_one_above(kind):
    model = kind(small_config())
    groups = layerwise_parameter_groups(model, 1e-3, 0.5, weight_decay=0.1)
    by_name = rates(model, groups)
    assert len(by_name) == sum(len(group["params"]) for group in groups) == len(list(model.parameters()))
    for name, group in by_name.items():
        depth = next((index for index in range(6) if f"neuript.layers.{index}." in name), None)
        steps_below = 7 if "neuript.embeddings." in name else 0 if depth is None else 6 - depth
        assert group["lr"] == pytest.approx(1e-3 * 0.5**steps_below), name
    assert groups[0]["lr"] == 1e-3  # what Trainer logs


def test_weights_decay_as_with_trainer(tmp_path):
    model = NeurIPTForPreTraining(small_config())
    by_name = rates(model, layerwise_parameter_groups(model, 1e-3, 0.5, weight_decay=0.1))
    arguments = TrainingArguments(str(tmp_path), use_cpu=True)
    decayed = Trainer(model=model, args=arguments).get_decay_parameter_names(model)
    assert {name for name, group in by_name.items() if group["weight_decay"]} == set(decayed)
    assert 0 < len(decayed) < len(by_name)


def test_frozen_parameters_are_left_out():
    model = NeurIPTForSequenceClassification(small_config())
    model.neuript.requires_grad_(False)
    assert set(rates(model, layerwise_parameter_groups(model, 1e-3, 0.5))) == {"classifier.weight", "classifier.bias"}
    model.requires_grad_(False)
    with pytest.raises(ValueError, match="all its parameters are frozen"):
        layerwise_parameter_groups(model, 1e-3, 0.5)


@pytest.mark.parametrize("decay", [0.0, 1.1, -0.5])
def test_decay_is_a_share(decay):
    with pytest.raises(ValueError, match=f"at most 1 .* but is {decay}"):
        layerwise_parameter_groups(NeurIPTForSequenceClassification(small_config()), 1e-3, decay)


def trained_at(optimizer, schedule, steps):
    """Rate of each group at each step."""
    seen = []
    for _ in range(steps):
        seen.append([group["lr"] for group in optimizer.param_groups])
        optimizer.step()
        schedule.step()
    return torch.tensor(seen, dtype=torch.float64)


def two_groups():
    return torch.optim.AdamW(
        [{"params": [torch.nn.Parameter(torch.zeros(1))], "lr": rate} for rate in (3e-4, 1e-4)], betas=(0.9, 0.98)
    )


def test_one_cycle_is_the_papers():
    optimizer = two_groups()
    seen = trained_at(optimizer, one_cycle_schedule(optimizer, 200), 200)
    step = torch.arange(200, dtype=torch.float64)
    peak, end = 0.15 * 200 - 1, 199

    def cosine(start, stop, share):
        return stop + (start - stop) / 2 * (1 + torch.cos(math.pi * share))

    expected = torch.where(
        step <= peak, cosine(3e-4 / 25, 3e-4, step / peak), cosine(3e-4, 3e-4 / 25 / 1e4, (step - peak) / (end - peak))
    )
    torch.testing.assert_close(seen[:, 0], expected)
    torch.testing.assert_close(seen[:, 1], expected / 3)
    assert all(group["betas"] == (0.9, 0.98) for group in optimizer.param_groups)  # momentum doesn't cycle


@pytest.mark.parametrize("steps", [1, 2, 6, 7])
def test_one_cycle_of_few_steps(steps):
    optimizer = two_groups()
    seen = trained_at(optimizer, one_cycle_schedule(optimizer, steps), steps)
    assert (seen > 0).all() and (seen[:, 0] <= 3e-4 * (1 + 1e-9)).all()
    assert seen[-1, 0] == pytest.approx(3e-4 / 25 / 1e4)
    with pytest.raises(ValueError, match="positive integer"):
        one_cycle_schedule(optimizer, 0)


def train(folder, resume=False):
    """Ten steps of pre-training, four in each epoch, with the layer-wise groups and the cycle; logged rates."""
    torch.manual_seed(0)
    model = NeurIPTForPreTraining(small_config(hidden_dropout=0.1))
    model.set_experts_implementation("eager")  # bit-equal from run to run
    arguments = TrainingArguments(
        str(folder),
        max_steps=10,
        per_device_train_batch_size=4,
        logging_steps=1,
        save_steps=5,
        use_cpu=True,
        report_to="none",
        disable_tqdm=True,
    )
    optimizer = torch.optim.AdamW(layerwise_parameter_groups(model, 1e-2, 0.5))
    trainer = NeurIPTTrainer(
        model=model,
        args=arguments,
        train_dataset=[make_window(2 + seed % 2, 24, seed) for seed in range(16)],
        data_collator=DataCollatorForAmplitudeAwareMasking(),
        optimizers=(optimizer, one_cycle_schedule(optimizer, 10)),
    )
    trainer.train(resume_from_checkpoint=resume)
    return trainer, [entry["learning_rate"] for entry in trainer.state.log_history if "learning_rate" in entry]


@pytest.mark.slow
def test_killed_and_resumed_equals_uninterrupted(tmp_path):
    """Stopped in the middle of an epoch: the same weights, bit for bit, with the same masks, groups and cycle."""
    whole, expected = train(tmp_path)
    (tmp_path / "checkpoint-10").rename(tmp_path / "done")
    resumed, logged = train(tmp_path, resume=True)
    assert logged == expected and len(expected) == 10
    peaks = [group["max_lr"] for group in resumed.optimizer.param_groups]
    assert peaks[0] == 1e-2 and min(peaks) == pytest.approx(1e-2 * 0.5**7)
    for name, tensor in whole.model.state_dict().items():
        assert torch.equal(resumed.model.state_dict()[name], tensor), name


def test_the_documented_program(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = (Path(__file__).parents[1] / "docs" / "fine-tuning.md").read_text()
    blocks = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    (block,) = (block for block in blocks if "layerwise_parameter_groups" in block)
    names = {}
    exec(compile(block, "fine-tuning.md", "exec"), names)
    groups = names["trainer"].create_optimizer().param_groups
    assert sorted({group["lr"] for group in groups}) == pytest.approx([1e-4 * 0.8**n for n in range(7, -1, -1)])
    assert {group["weight_decay"] for group in groups} == {0.0, 0.005}
