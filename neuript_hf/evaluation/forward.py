"""Windows of a data set through a model that is not trained by it."""

from collections.abc import Iterator

import torch
from datasets import Dataset
from torch.utils.data import DataLoader
from transformers.utils import ModelOutput
from transformers.utils.logging import tqdm

from ..data.collator import DataCollatorForEEG
from ..modeling_neuript import NeurIPTPreTrainedModel


@torch.no_grad()
def outputs_of(model: NeurIPTPreTrainedModel, dataset: Dataset, batch_size: int, title: str) -> Iterator[ModelOutput]:
    """
    The model's outputs, batch by batch, without dropout. Labels are not read. `title` is that of the progress bar.
    """
    training = model.training
    model.eval()
    dataset = dataset.remove_columns([name for name in dataset.column_names if name == "labels"])
    loader = DataLoader(dataset, batch_size=batch_size, collate_fn=DataCollatorForEEG())
    for batch in tqdm(loader, desc=title, leave=False):
        yield model(**{name: tensor.to(model.device) for name, tensor in batch.items()})
    model.train(training)


__all__ = ["outputs_of"]
