"""`batch_eval_metrics` of `TrainingArguments` for scores that need the whole evaluation set."""

from collections.abc import Callable

from transformers import EvalPrediction
from transformers.trainer_pt_utils import EvalLoopContainer


class MetricsOfWholeSet:
    """
    A `compute_metrics` for `batch_eval_metrics`: keeps what the model says of each batch, and calls the function once,
    with all of it. So the scores are the same, whatever the function computes.
    """

    def __init__(self, compute_metrics: Callable[[EvalPrediction], dict], main_input_name: str):
        self.compute_metrics = compute_metrics
        self.main_input_name = main_input_name
        self.kept: dict[str, EvalLoopContainer] = {}

    def __call__(self, batch: EvalPrediction, compute_result: bool) -> dict[str, float]:
        parts = {name: getattr(batch, name) for name in ("predictions", "label_ids", "losses", "inputs")}
        if parts["inputs"] is not None:
            parts["inputs"] = parts["inputs"][self.main_input_name]
        for name, part in parts.items():
            if part is not None:
                kept = self.kept.setdefault(name, EvalLoopContainer(do_nested_concat=True, padding_index=-100))
                kept.add(part)
                kept.to_cpu_and_numpy()
        if not compute_result:
            return {}
        kept, self.kept = self.kept, {}
        return self.compute_metrics(EvalPrediction(**{name: part.get_arrays() for name, part in kept.items()}))


__all__ = ["MetricsOfWholeSet"]
