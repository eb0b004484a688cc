"""What is timed: a model on windows of noise, a forward pass or a step."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from neuript_hf import (
    DataCollatorForAmplitudeAwareMasking,
    DataCollatorForEEG,
    NeurIPTConfig,
    NeurIPTFeatureExtractor,
    NeurIPTForPreTraining,
    NeurIPTForSequenceClassification,
)


SAMPLING_RATE = 64
# "embedding" is the classifier's forward pass without gradients, the other two are forward and backward.
KINDS = ("embedding", "fine-tuning", "pre-training")


def windows(kind: str, count: int, channels: int = 20, seconds: float = 4.0) -> dict[str, Tensor]:
    """A batch of noise on `double_banana`; other numbers of channels repeat its places."""
    extractor = NeurIPTFeatureExtractor(montage="double_banana")
    places = {
        name: np.resize(value, (channels, np.shape(value)[-1])) for name, value in extractor.channel_features().items()
    }
    generator = np.random.default_rng(0)
    shape = (channels, round(seconds * SAMPLING_RATE))
    examples = [{"input_values": generator.normal(size=shape), **places} for _ in range(count)]
    if kind == "pre-training":
        return DataCollatorForAmplitudeAwareMasking()(examples)
    batch = DataCollatorForEEG()(examples)
    return batch if kind == "embedding" else batch | {"labels": torch.arange(count) % 2}


def make_model(kind: str, config: NeurIPTConfig) -> nn.Module:
    """The model of the kind with random weights, in its mode."""
    torch.manual_seed(0)
    model_class = NeurIPTForPreTraining if kind == "pre-training" else NeurIPTForSequenceClassification
    return model_class(config).train(kind != "embedding")


def work(kind: str, model: nn.Module, batch: dict[str, Tensor]) -> Callable[[], Tensor]:
    """One forward pass, or one step without the optimizer's (which is the same for everybody)."""

    def forward() -> Tensor:
        with torch.no_grad():
            return model(**batch).logits

    def step() -> Tensor:
        model.zero_grad()
        loss = model(**batch).loss
        loss.backward()
        return loss.detach()

    return forward if kind == "embedding" else step
