"""What is timed: a model of the package and its plain counterpart on the same windows, a forward pass or a step."""

from collections.abc import Callable

import numpy as np
import torch
from reference import PlainClassifier, PlainPreTraining
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


def models(kind: str, config: NeurIPTConfig) -> tuple[nn.Module, nn.Module]:
    """The package's model and the plain one, with the same weights, in the mode of the kind."""
    torch.manual_seed(0)
    if kind == "pre-training":
        model = NeurIPTForPreTraining(config)
        plain = PlainPreTraining(config).load_from(model)
    else:
        model = NeurIPTForSequenceClassification(config)
        plain = PlainClassifier(config).load_from(model)
    return model.train(kind != "embedding"), plain.train(kind != "embedding")


def work(kind: str, model: nn.Module, batch: dict[str, Tensor]) -> Callable[[], Tensor]:
    """One forward pass, or one step without the optimizer's (which is the same for everybody)."""

    def forward() -> Tensor:
        with torch.no_grad():
            outputs = model(**batch)
        return outputs if isinstance(outputs, Tensor) else outputs.logits

    def step() -> Tensor:
        model.zero_grad()
        outputs = model(**batch)
        loss = outputs if isinstance(outputs, Tensor) else outputs.loss
        loss.backward()
        return loss.detach()

    return forward if kind == "embedding" else step
