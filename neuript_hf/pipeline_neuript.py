"""From a recording to labels or embeddings, window by window."""

import inspect
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from transformers.pipelines.base import ChunkPipeline
from transformers.utils.logging import tqdm

from .link_safe_saving import LinkSafeSaving
from .recordings import Recording, as_recording


class EEGPipeline(LinkSafeSaving, ChunkPipeline):
    """
    From a recording to one row for each window.

    With task `"eeg-classification"` a row is `{"onset", "duration", "label", "score", "scores"}`, with
    `"eeg-embedding"` `{"onset", "duration", "embedding"}` (the lobe-pooled vector, `pooler_output`). Onset and
    duration are in seconds. `pandas.DataFrame(rows)` makes a table of them.

    Recordings are read in blocks, so memory does not grow with their length. The windows are the same as of the whole
    recording, but channels are judged good or bad block by block; `pipeline.reports` has the channel report of each
    block of the last recording.

    Example:

        >>> pipe = pipeline("eeg-classification", model=folder)
        >>> rows = pipe("recording.edf")
    """

    _load_processor = False
    _load_image_processor = False
    _load_feature_extractor = True
    _load_tokenizer = False

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.reports: list = []

    def _sanitize_parameters(self, **preprocess: Any) -> tuple[dict, dict, dict]:
        inspect.signature(self.preprocess).bind(None, **preprocess)  # a TypeError names an unknown argument
        return {name: value for name, value in preprocess.items() if value is not None}, {}, {}

    def __call__(self, recordings: Any, **kwargs) -> list[dict] | list[list[dict]]:
        """
        Args:
            recordings: path, `Recording`, `mne.io.Raw`, `mne.Epochs` or array `[C, T]`; or a list of them.
            sampling_rate, channel_names, unit: of arrays, or of files that do not state them, as in
                [`NeurIPTFeatureExtractor`].
            window_seconds: length of a window; by default the extractor's.
            stride_seconds: from the start of one window to the next; by default the window's length.
            windows_per_batch: windows that go through the model at once (default 16).
            block_seconds: length of the blocks in which a recording is read (default 300).

        Returns:
            a list of rows; for a list of recordings a list of such lists.
        """
        return super().__call__(recordings, **kwargs)

    def preprocess(
        self,
        recording: Any,
        sampling_rate: float | None = None,
        channel_names: Sequence[str] | None = None,
        unit: str | None = None,
        window_seconds: float | None = None,
        stride_seconds: float | None = None,
        windows_per_batch: int = 16,
        block_seconds: float = 300.0,
    ) -> Iterator[dict]:
        """Batches of windows, read block by block."""
        self.reports = []
        source = as_recording(recording, sampling_rate=sampling_rate, channel_names=channel_names, unit=unit)
        duration = window_seconds or self.feature_extractor.window_seconds
        if source.in_pieces:
            duration = window_seconds or (source.segments[0].stop - source.segments[0].start) / source.sampling_rate
            blocks = iter([self._features(source, window_seconds, stride_seconds=stride_seconds)])
        else:
            blocks = self._blocks(source, duration, stride_seconds, block_seconds)

        pending = None
        for onsets, batch in blocks:
            for start in range(0, len(onsets), windows_per_batch):
                if pending is not None:
                    yield {"is_last": False, **pending}
                rows = slice(start, start + windows_per_batch)
                pending = {name: tensor[rows] for name, tensor in batch.items()}
                pending["onset"] = torch.as_tensor(onsets[rows])
                pending["duration"] = duration
        yield {"is_last": True, **pending}

    def _blocks(
        self, source: Recording, duration: float, stride_seconds: float | None, block_seconds: float
    ) -> Iterator[tuple]:
        """Window starts and features block by block; only one block is in memory."""
        onsets = self.feature_extractor.window_onsets(source, duration, stride_seconds)
        blocks = np.split(onsets, np.searchsorted(onsets, np.arange(block_seconds, onsets[-1] + 1e-9, block_seconds)))
        blocks = [block for block in blocks if len(block)]
        for block in tqdm(blocks, desc="EEG", unit="block", disable=len(blocks) < 2):
            yield self._features(source, duration, onsets=block)

    def _features(self, source: Recording, window_seconds: float | None, **where: Any) -> tuple[np.ndarray, dict]:
        batch = self.feature_extractor(source, window_seconds=window_seconds, return_tensors="pt", **where)
        self.reports.append(batch.report)
        return batch.onsets, batch

    def _forward(self, model_inputs: dict) -> dict:
        window = {name: model_inputs.pop(name) for name in ("is_last", "onset", "duration")}
        if self.task == "eeg-embedding":
            return {**window, "embedding": self.model.base_model(**model_inputs).pooler_output}
        return {**window, "logits": self.model(**model_inputs).logits}

    def postprocess(self, batches: list[dict]) -> list[dict]:
        rows = []
        for batch in batches:
            windows = [{"onset": onset, "duration": batch["duration"]} for onset in batch["onset"].tolist()]
            if self.task == "eeg-embedding":
                for window, embedding in zip(windows, batch["embedding"].float().numpy(), strict=True):
                    rows.append({**window, "embedding": embedding})
                continue
            logits = batch["logits"].float()
            one_vs_all = self.model.config.loss_type == "balanced_bce"
            probabilities = logits.sigmoid() if one_vs_all else logits.softmax(dim=-1)
            for window, scores in zip(windows, probabilities.tolist(), strict=True):
                scores = {self.model.config.id2label[index]: score for index, score in enumerate(scores)}
                label = max(scores, key=scores.get)
                rows.append({**window, "label": label, "score": scores[label], "scores": scores})
        return rows


__all__ = ["EEGPipeline"]
