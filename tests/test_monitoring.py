"""What is watched in pre-training: numbers on cases worked out by hand, and a monitor that changes nothing."""

import json
import logging
import math
import sys
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from conftest import make_batch, pad, small_config
from transformers import TrainingArguments
from transformers.integrations import TrackioCallback

from neuript_hf import (
    DataCollatorForAmplitudeAwareMasking,
    NeurIPTFeatureExtractor,
    NeurIPTForPreTraining,
    NeurIPTForSequenceClassification,
    NeurIPTTrainer,
)
from neuript_hf.training import monitoring
from neuript_hf.training.monitoring import (
    PreTrainingMonitor,
    amplitude_bands,
    draw_look,
    expert_use,
    reconstruction_errors,
)


EXTRACTOR = NeurIPTFeatureExtractor(montage="as_recorded")
# Two layers, the second with two experts in both of its halves.
SIZES = {"num_hidden_layers": 2, "merge_sizes": [1, 2], "num_experts": [0, 2]}


def windows(count=8, seed=0):
    batch = make_batch(windows=count, channels=3, samples=24, seed=seed)
    return [{name: tensor[index].numpy() for name, tensor in batch.items()} for index in range(count)]


def held_out():
    return DataCollatorForAmplitudeAwareMasking(ratios=0.5)(windows(count=3, seed=1))


def make_trainer(folder, config=None, **kwargs):
    """A small model, and a still one: it does not learn unless it is told to."""
    torch.manual_seed(0)
    model = NeurIPTForPreTraining(small_config(**(SIZES | (config or {}))))
    settings = {
        "output_dir": str(folder),
        "use_cpu": True,
        "per_device_train_batch_size": 4,
        "max_steps": 4,
        "logging_steps": 1,
        "learning_rate": 0.0,
        "save_strategy": "no",
        "disable_tqdm": True,
    }
    return NeurIPTTrainer(
        model=model,
        args=TrainingArguments(**(settings | kwargs)),
        train_dataset=windows(),
        eval_dataset=windows(),
        data_collator=DataCollatorForAmplitudeAwareMasking(),
    )


def watch(trainer, batch=None, **kwargs):
    """Trains; the records of the monitor's looks."""
    settings = {"look_steps": 1, "picture_steps": 1000}
    batch = held_out() if batch is None else batch
    trainer.add_callback(PreTrainingMonitor(trainer, batch, EXTRACTOR, **(settings | kwargs)))
    trainer.train()
    return [entry for entry in trainer.state.log_history if "monitor/masked_mse" in entry]


def predicts(model, values):
    """Each decoder layer predicts a constant."""
    for layer, value in zip(model.decoder, values, strict=True):
        torch.nn.init.zeros_(layer.prediction.weight)
        torch.nn.init.constant_(layer.prediction.bias, value)


CONSTANTS = [0.5, -1.25, 1.0]  # of each decoder layer


# Numbers


def test_bands_are_fifths_of_the_ranks_of_each_channel():
    generator = torch.Generator().manual_seed(0)
    ranks = torch.stack([torch.randperm(20, generator=generator) for _ in range(6)]).view(2, 3, 20)
    valid = torch.ones(2, 3, 20, dtype=torch.bool)
    assert torch.equal(amplitude_bands(ranks.float().exp(), valid), ranks // 4)
    # padding has no rank, and what stands there moves nobody else's
    padded = torch.cat([ranks.float(), torch.full((2, 3, 7), -5.0)], dim=-1)
    bands = amplitude_bands(padded, torch.arange(27) < torch.full((2, 3, 1), 20))
    assert torch.equal(bands[..., :20], ranks // 4) and (bands[..., 20:] == -1).all()
    nobody = amplitude_bands(padded, torch.zeros_like(padded, dtype=torch.bool))
    assert (nobody == -1).all()


def test_errors_by_hand():
    """One channel with values 0 to 9 and two scales that together predict 3 everywhere."""
    labels = torch.arange(10.0).view(1, 1, 10)
    labels = torch.cat([labels, torch.full((1, 1, 2), 1e6)], dim=-1)  # two padded samples
    valid = (torch.arange(12) < 10).view(1, 1, 12)
    selected = torch.isin(torch.arange(12), torch.tensor([0, 1, 5, 9, 11])).view(1, 1, 12)
    hidden = torch.isin(torch.arange(12), torch.tensor([0, 5, 10])).view(1, 1, 12)
    predictions = torch.stack([torch.full_like(labels, 1.0), torch.full_like(labels, 2.0)])
    expected = {
        "masked_mse": (9 + 4 + 4 + 36) / 4,
        "masked_mse_band_1": (9 + 4) / 2,
        "masked_mse_band_3": 4,  # nothing is selected in the second and the fourth
        "masked_mse_band_5": 36,
        "scale_0": (1 + 0 + 16 + 64) / 4,
        "scale_1": (9 + 4 + 4 + 36) / 4,
        "hidden_error": (9 + 4) / 2 / 2.5**2,
    }
    assert reconstruction_errors(predictions, labels, selected, hidden, valid) == pytest.approx(expected)


def test_the_mean_has_a_hidden_error_of_one():
    labels = torch.randn(2, 3, 40) + 5
    everywhere, hidden = torch.ones_like(labels, dtype=torch.bool), labels > 4
    predictions = labels[hidden].mean().expand(1, *labels.shape)
    errors = reconstruction_errors(predictions, labels, everywhere, hidden, everywhere)
    assert errors["hidden_error"] == pytest.approx(1.0)


def test_use_of_experts_by_hand():
    share = torch.tensor([[0.5, 0.25, 0.25], [0.7, 0.2, 0.1], [0.1, 0.1, 0.8]])
    experts = torch.tensor([[0, 1], [0, 1], [2, 0]])
    use = expert_use(share.log(), experts, None)
    assert use.load == pytest.approx([3 / 6, 2 / 6, 1 / 6]) and use.dead == 0
    mean = share.mean(0)
    assert use.entropy == pytest.approx(-(mean * mean.log()).sum().item() / math.log(3))
    without_last = expert_use(share.log(), experts, torch.tensor([True, True, False]))
    assert without_last.load == pytest.approx([0.5, 0.5, 0]) and without_last.dead == 1
    assert without_last.relative_load == pytest.approx([1.5, 1.5, 0])
    assert expert_use(torch.zeros(4, 3), torch.zeros(4, 1, dtype=torch.int64), None).entropy == pytest.approx(1)
    assert expert_use(torch.zeros(4, 1), torch.zeros(4, 1, dtype=torch.int64), None) == ([1.0], 1.0)


# In training


def test_known_predictions_are_told_by_scale(tmp_path):
    trainer = make_trainer(tmp_path)
    predicts(trainer.model, CONSTANTS)
    batch = held_out()
    looks = watch(trainer, batch, look_steps=2, picture_steps=2000)
    assert [entry["step"] for entry in looks] == [2, 4]
    truth, selected = batch["labels"], batch["masked_positions"]
    for scale, value in enumerate(np.cumsum(CONSTANTS)):
        expected = (truth[selected] - value).square().mean().item()
        assert looks[0][f"monitor/scale_{scale}"] == pytest.approx(expected, abs=1e-5)
    assert looks[0]["monitor/masked_mse"] == looks[0]["monitor/scale_2"]
    # amplitude-aware masks reach all bands; weighted by their samples they make the whole
    bands = amplitude_bands(truth, torch.ones_like(selected))[selected]
    parts = sum((bands == band).sum().item() * looks[0][f"monitor/masked_mse_band_{band + 1}"] for band in range(5))
    assert parts / selected.sum().item() == pytest.approx(looks[0]["monitor/masked_mse"], abs=1e-5)


@pytest.mark.slow
def test_padding_does_not_count(tmp_path):
    """Neither padded channels nor padded samples, for errors and for experts."""
    batch = held_out()
    larger = pad(batch, channels=2, samples=16, garbage=1.0)
    for name in ("labels", "masked_positions", "hidden_positions"):
        larger[name] = torch.nn.functional.pad(batch[name], (0, 16, 0, 2), value=1)
    config = {"num_hidden_layers": 3, "merge_sizes": [1, 4, 3], "num_experts": [2, 3, 4]}
    small, large = (watch(make_trainer(tmp_path, config, max_steps=1), part)[0] for part in (batch, larger))
    assert sum(name.startswith("monitor/load/") for name in small) == 2 * (2 + 3 + 4)
    assert {name: value for name, value in large.items() if "monitor" in name} == pytest.approx(
        {name: value for name, value in small.items() if "monitor" in name}, abs=1e-4
    )


def test_a_collapse_raises_the_alarm_once(tmp_path, caplog):
    trainer = make_trainer(tmp_path)
    layer = trainer.model.neuript.layers[1].two_stage_attention
    torch.nn.init.zeros_(layer.time_stage.feed_forward.router.weight)
    with torch.no_grad():
        layer.time_stage.feed_forward.router.bias.copy_(torch.tensor([-10.0, 10.0]))
        # the other half of the layer shares its tokens by their first dimension
        layer.channel_stage.feed_forward.router.weight.zero_()[1, 0] = 1.0
    with caplog.at_level(logging.WARNING):
        looks = watch(trainer, patience=3)
    block = "layers.1.time_stage"
    assert [entry["monitor/collapsed_layers"] for entry in looks] == [0, 0, 1, 1]
    assert looks[0][f"monitor/load/{block}/expert_0"] == 0 and looks[0][f"monitor/load/{block}/expert_1"] == 1
    assert looks[0][f"monitor/dead_experts/{block}"] == 1 and looks[0][f"monitor/entropy/{block}"] < 0.01
    other = "layers.1.channel_stage"
    assert looks[0][f"monitor/dead_experts/{other}"] == 0 and looks[0][f"monitor/entropy/{other}"] > 0.8
    alarms = [record.getMessage() for record in caplog.records if "collapsed" in record.getMessage()]
    assert len(alarms) == 1 and block in alarms[0] and alarms[0].startswith("Step 3:")


def test_low_entropy_alone_raises_the_alarm(tmp_path):
    """Two experts of which both are kept: the load says nothing."""
    trainer = make_trainer(tmp_path, {"expert_top_k_ratio": 1.0})
    for stage in ("time_stage", "channel_stage"):
        router = getattr(trainer.model.neuript.layers[1].two_stage_attention, stage).feed_forward.router
        torch.nn.init.zeros_(router.weight)
        router.bias.data = torch.tensor([5.0, 0.0])
    looks = watch(trainer, patience=2)
    assert [entry["monitor/collapsed_layers"] for entry in looks] == [0, 2, 2, 2]
    assert all(value == 0 for name, value in looks[-1].items() if "dead_experts" in name)


@pytest.mark.slow
def test_training_is_the_same_bit_for_bit_with_and_without(tmp_path):
    weights, losses = [], []
    for watched in (False, True):
        config = {"hidden_dropout": 0.1, "attention_dropout": 0.1, "router_noise": 0.1}
        trainer = make_trainer(tmp_path, config, learning_rate=1e-2, eval_strategy="steps", eval_steps=2)
        if watched:
            assert len(watch(trainer, picture_steps=2)) == 4
        else:
            trainer.train()
        weights.append(trainer.model.state_dict())
        losses.append([(e.get("loss"), e.get("grad_norm"), e.get("eval_loss")) for e in trainer.state.log_history])
    for name, tensor in weights[0].items():
        assert torch.equal(weights[1][name], tensor), name
    # nothing is lost from the log: each step's own record is there beside the monitor's
    own = [record for record in losses[1] if any(value is not None for value in record)]
    assert own == [record for record in losses[0] if any(value is not None for value in record)] and len(own) == 6
    json.dumps(trainer.state.log_history, allow_nan=False)


@pytest.mark.slow
def test_a_look_is_one_forward_pass_and_leaves_the_model_as_it_was(tmp_path):
    trainer = make_trainer(tmp_path)
    modes = []
    trainer.model.register_forward_pre_hook(lambda module, inputs: modes.append(module.training))
    hooks = [len(module._forward_hooks) for module in trainer.model.modules()]
    watch(trainer, look_steps=2, picture_steps=2)
    assert modes == [True, True, False, True, True, False] and trainer.model.training
    assert hooks == [len(module._forward_hooks) for module in trainer.model.modules()]


def test_windows_per_second_are_those_of_training(tmp_path, monkeypatch):
    """Two seconds for each batch of four, a hundred for each look and each batch of an evaluation."""
    clock = [0.0]
    monkeypatch.setattr(monitoring, "perf_counter", lambda: clock[0])
    trainer = make_trainer(
        tmp_path, gradient_accumulation_steps=2, logging_steps=2, max_steps=6, eval_strategy="steps", eval_steps=3
    )

    def pass_time(module, inputs):
        clock[0] += 2 if module.training else 100

    trainer.model.register_forward_pre_hook(pass_time)
    watch(trainer, look_steps=3, picture_steps=3000)
    speeds = {e["step"]: e["windows_per_second"] for e in trainer.state.log_history if "windows_per_second" in e}
    assert speeds == {2: 2.0, 4: 2.0, 6: 2.0}


def test_looks_into_compiled_layers(tmp_path):
    """Compiled code knows nothing of hooks, so a look goes around it, and it need not be compiled again afterwards."""
    trainer, batch, graphs = make_trainer(tmp_path), held_out(), []
    plain = monitoring._look(trainer.model, batch)

    def backend(graph, inputs):
        graphs.append(graph)
        return graph.forward

    experts = trainer.model.neuript.layers[1].two_stage_attention.time_stage.feed_forward
    for module in (trainer.model.decoder[0], experts):
        module.compile(backend=backend)
    trainer.model(**batch)
    compiled = len(graphs)
    look = monitoring._look(trainer.model, batch)
    trainer.model(**batch)
    assert len(graphs) == compiled > 0
    assert torch.equal(look.predictions, plain.predictions) and look.experts == plain.experts


# Pictures


@pytest.mark.slow
def test_pictures_in_microvolts(tmp_path, monkeypatch):
    trainer = make_trainer(tmp_path)
    predicts(trainer.model, CONSTANTS)
    figures, trackio = [], Mock(Image=lambda path: path)
    monkeypatch.setattr(monitoring, "draw_look", lambda *look: figures.append(draw_look(*look)) or figures[-1])
    monkeypatch.setitem(sys.modules, "trackio", trackio)
    trainer.add_callback(TrackioInMemory(trackio))
    batch = held_out()
    watch(trainer, batch, look_steps=1, picture_steps=2)
    files = sorted((tmp_path / "pictures").iterdir())
    assert [file.name for file in files] == ["step-000002.png", "step-000004.png"]
    assert all(file.read_bytes().startswith(b"\x89PNG") for file in files)

    records = [call.args[0] for call in trackio.log.mock_calls]
    pictures = [record for record in records if "monitor/reconstruction" in record]
    assert [picture["monitor/reconstruction"] for picture in pictures] == files
    assert [picture["train/global_step"] for picture in pictures] == [2, 4]
    axes = figures[0].axes
    assert len(axes) == 3 + 1  # channels, and the experts
    lines = {line.get_label(): line.get_ydata() for line in axes[0].lines}
    hidden = batch["hidden_positions"][0, 0].numpy()
    for name, where, values in (
        ("visible", ~hidden, batch["input_values"][0, 0].numpy()),
        ("hidden", hidden, batch["labels"][0, 0].numpy()),
        ("predicted", hidden, np.full(24, sum(CONSTANTS), dtype=np.float32)),
    ):
        expected = np.where(where, EXTRACTOR.invert(values), np.nan)
        np.testing.assert_allclose(lines[name], expected, rtol=1e-5)
    assert axes[0].lines[0].get_xdata()[-1] == 23 / 64
    assert sum(bar.get_height() for bar in axes[-1].patches) == pytest.approx(2 + 2)  # two blocks of two experts

    names = set().union(*records)
    assert {"train/monitor/hidden_error", "train/monitor/masked_mse_band_3", "train/loss", "train/grad_norm"} <= names
    assert "train/windows_per_second" in names


class TrackioInMemory(TrackioCallback):
    """transformers' own callback, which would not start where trackio is not installed."""

    def __init__(self, package):
        self._trackio, self._initialized = package, True
        self._space_id = self._static_space_id = None


@pytest.mark.slow
def test_tensorboard_takes_numbers_and_pictures(tmp_path):
    pytest.importorskip("tensorboard", reason="needs tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    watch(make_trainer(tmp_path, report_to="tensorboard"), picture_steps=2)
    (folder,) = {file.parent for file in tmp_path.rglob("events.out.tfevents.*")}
    events = EventAccumulator(str(folder)).Reload()
    assert [event.step for event in events.Images("monitor/reconstruction")] == [2, 4]
    assert [event.step for event in events.Scalars("train/monitor/hidden_error")] == [1, 2, 3, 4]
    assert "train/windows_per_second" in events.Tags()["scalars"]


def test_without_matplotlib_there_are_numbers_only(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(monitoring, "is_matplotlib_available", lambda: False)
    with caplog.at_level(logging.WARNING):
        assert len(watch(make_trainer(tmp_path), picture_steps=1)) == 4
    assert "neuript_hf[plots]" in caplog.text and not (tmp_path / "pictures").exists()


def test_a_model_without_experts_has_no_bars():
    signals = {name: np.zeros((2, 16)) for name in ("visible", "hidden", "predicted")}
    assert len(draw_look(signals, [1], 64, {}, "").axes) == 1


# Errors


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        (lambda batch: batch.pop("hidden_positions"), {}, "has no hidden_positions"),
        (lambda batch: batch["hidden_positions"].zero_(), {}, "No sample .* hidden"),
        (lambda batch: batch["labels"].zero_(), {}, "hidden samples .* same value"),
        (lambda batch: None, {"look_steps": 3, "picture_steps": 4}, "multiple of look_steps.* 4 and 3"),
        (lambda batch: None, {"look_steps": 0}, "at least 1"),
    ],
)
def test_what_does_not_fit_is_said_at_once(tmp_path, change, options, message):
    batch = held_out()
    change(batch)
    with pytest.raises(ValueError, match=message):
        PreTrainingMonitor(make_trainer(tmp_path), batch, EXTRACTOR, **options)


def test_watches_pre_training_only(tmp_path):
    arguments = TrainingArguments(str(tmp_path), use_cpu=True)
    trainer = NeurIPTTrainer(model=NeurIPTForSequenceClassification(small_config()), args=arguments)
    with pytest.raises(ValueError, match="has a NeurIPTForSequenceClassification"):
        PreTrainingMonitor(trainer, held_out(), EXTRACTOR)
