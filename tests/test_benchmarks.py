"""The benchmark compares like with like."""

import sys
from pathlib import Path

import pytest
import torch

from neuript_hf import NeurIPTConfig


ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "benchmarks"))

import workload  # noqa: E402


@pytest.mark.parametrize("kind", workload.KINDS)
def test_the_plain_form_computes_the_same(kind):
    """Outputs, losses and gradients of the package and of the benchmark's reference, float64, experts everywhere."""
    config = NeurIPTConfig.tiny(
        hidden_size=24,
        intermediate_size=32,
        num_experts=[0, 2, 0, 3, 0, 4],
        hidden_dropout=0.0,
        attention_dropout=0.0,
        router_noise=0.0,
    )
    model, plain = (part.double() for part in workload.models(kind, config))
    for seconds in (1.0, 0.703125):  # 64 samples, and 45, for which merging has to repeat segments
        batch = workload.windows(kind, 2, channels=5, seconds=seconds)
        batch = {name: tensor.double() if tensor.is_floating_point() else tensor for name, tensor in batch.items()}
        expected = workload.work(kind, plain, batch)()
        torch.testing.assert_close(workload.work(kind, model, batch)(), expected, atol=1e-10, rtol=1e-10)
        if kind == "embedding":
            continue
        gradients = {
            name.replace("encoder.token", "neuript.embeddings.token").replace("encoder.", "neuript."): parameter.grad
            for name, parameter in plain.named_parameters()
            if ".experts." not in name
        }
        compared = 0
        for name, parameter in model.named_parameters():
            if name in gradients:
                torch.testing.assert_close(parameter.grad, gradients[name], atol=1e-10, rtol=1e-8)
                compared += 1
        assert compared == len(gradients)
        for layer, plain_layer in zip(model.neuript.layers, plain.encoder.layers, strict=True):
            block = layer.two_stage_attention.time_stage.feed_forward
            if hasattr(block, "experts"):
                plain_experts = plain_layer.two_stage_attention.time_stage.feed_forward.experts
                for name, layer_name in (("gate_up_proj", "up_proj"), ("down_proj", "down_proj")):
                    expected = torch.stack([getattr(expert, layer_name).weight.grad for expert in plain_experts])
                    torch.testing.assert_close(getattr(block.experts, name).grad, expected, atol=1e-10, rtol=1e-8)
