"""Linear heads in closed reach: what frozen features tell, and a good start for the classifier before fine-tuning."""

import numpy as np
import torch
from datasets import Dataset
from sklearn.linear_model import LogisticRegressionCV
from sklearn.model_selection import StratifiedGroupKFold
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from torch.utils.data import DataLoader
from transformers.utils.logging import tqdm

from .data_collator import DataCollatorForEEG
from .modeling_neuript import NeurIPTForSequenceClassification, NeurIPTPreTrainedModel


@torch.no_grad()
def pooled_features(model: NeurIPTPreTrainedModel, dataset: Dataset, batch_size: int = 16) -> np.ndarray:
    """The lobe-pooled vectors (`pooler_output`) of all windows, `[windows, features]`, from the frozen encoder."""
    encoder, training = model.base_model, model.training
    model.eval()
    loader = DataLoader(dataset.remove_columns("labels"), batch_size=batch_size, collate_fn=DataCollatorForEEG())
    features = []
    for batch in tqdm(loader, desc="frozen features", leave=False):
        batch = {name: tensor.to(encoder.device) for name, tensor in batch.items()}
        features.append(encoder(**batch).pooler_output.float().cpu().numpy())
    model.train(training)
    return np.concatenate(features)


def fit_logistic(features: np.ndarray, labels: np.ndarray, subjects: np.ndarray, seed: int = 0) -> Pipeline:
    """
    Standardised logistic regression with balanced classes; its penalty is chosen by folds over the people given.

    Args:
        features: `[windows, features]`.
        labels: class of each window.
        subjects: person of each window. The folds keep a person's windows together; no other people are looked at.
        seed: of the draw of the folds.

    Raises:
        ValueError: for fewer than two people or classes.
    """
    people, classes = len(set(subjects)), len(set(labels))
    if people < 2 or classes < 2:
        raise ValueError(f"A fit needs at least two people and two classes, but has {people} and {classes}.")
    folds = StratifiedGroupKFold(n_splits=min(5, people), shuffle=True, random_state=seed)
    # A fold without one of the classes can't be scored; with few people there may be such folds.
    splits = [
        (fit, check)
        for fit, check in folds.split(features, labels, subjects)
        if len(set(labels[fit])) == len(set(labels[check])) == classes
    ]
    if not splits:
        raise ValueError(
            "No fold over people holds every class on both sides: each person has only some of the classes."
        )
    regression = LogisticRegressionCV(
        Cs=np.logspace(-5, 0, 6),
        cv=splits,
        scoring="balanced_accuracy",
        class_weight="balanced",
        max_iter=2000,
        use_legacy_attributes=False,
        l1_ratios=(0,),
    )
    return make_pipeline(StandardScaler(), regression).fit(features, labels)


def start_head(model: NeurIPTForSequenceClassification, fit: Pipeline) -> None:
    """
    Puts a fit of [`fit_logistic`] into the model's linear head, the standardisation folded into its weights, so that
    the untrained model gives the fit's probabilities. Two classes share the one decision as the pair (-z/2, z/2).
    """
    scaler, regression = fit[0], fit[-1]
    weight, bias = regression.coef_, np.atleast_1d(regression.intercept_)
    if len(weight) == 1:
        weight, bias = np.concatenate([-weight / 2, weight / 2]), np.concatenate([-bias / 2, bias / 2])
    weight = weight / scaler.scale_
    bias = bias - weight @ scaler.mean_
    with torch.no_grad():
        model.classifier.weight.copy_(torch.as_tensor(weight))
        model.classifier.bias.copy_(torch.as_tensor(bias))


__all__ = ["fit_logistic", "pooled_features", "start_head"]
