"""From recordings to labels, numbers or embeddings, window by window."""

import inspect
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice, repeat
from typing import Any

import numpy as np
import torch
from torch import nn
from transformers import BatchFeature
from transformers.pipelines.base import ChunkPipeline
from transformers.utils.logging import tqdm

from .channels import ChannelReport
from .electrodes import LOBES
from .link_safe_saving import LinkSafeSaving
from .losses import problem_type_of
from .pooling import channel_groups
from .recordings import Recording, as_recording, check_positive, is_recording


# Arguments of other pipelines that make no sense here, and what to do instead.
REFUSED = {
    "top_k": "Every row has the scores of all labels: sorted(row['scores'], key=row['scores'].get, reverse=True)[:k].",
    "function_to_apply": (
        "What turns outputs into scores follows from what the model was trained for (problem_type of its "
        "configuration). For the outputs themselves call the model: "
        "model(**extractor(recording, return_tensors='pt')).logits."
    ),
}
# From this score on, a label is one of the several that a window has.
PRESENT = 0.5
# Models that have no answer for a window.
HEADLESS = ("NeurIPTModel", "NeurIPTForPreTraining")


class EEGPipeline(LinkSafeSaving, ChunkPipeline):
    """
    From a recording to one row for each window.

    With task `"eeg-classification"` a row is, by what the model was trained for (`problem_type`),

    - `{"onset", "duration", "label", "score", "scores"}` for one class,
    - `{"onset", "duration", "labels", "scores"}` for several labels at once: the names of those whose score is at
      least 0.5, and the scores of all,
    - `{"onset", "duration", "values"}` for regression: the name of each number, and the number;

    with `"eeg-embedding"` it is `{"onset", "duration", "embedding"}`: the compact embedding of a model that has one,
    else the lobe-pooled vector, `pooler_output`. Onset and duration are in seconds. Rows of epochs also have
    `"epoch"`, its number from 0, since their onsets only count the seconds of epochs one after the other.
    `pandas.DataFrame(rows)` makes a table of them.

    Recordings are read in blocks, so memory does not grow with their length. The windows are the same as of the whole
    recording, but channels are judged good or bad block by block. After a call there are

    - `pipeline.reports`: the channel report of each block of the recording; for several recordings a list of such
      lists, in the order of the results;
    - `pipeline.failures`: with `on_error="skip"`, the recordings that failed, as `{"index", "recording", "error"}`.

    Where results are an iterator, both grow with it.

    Example:

        >>> pipe = pipeline("eeg-classification", model=folder)
        >>> rows = pipe("recording.edf")

    Raises:
        ValueError: for a model that is not for the task, whose head or embedding was never trained, or that expects
            other windows than the feature extractor makes.
    """

    _load_processor = False
    _load_image_processor = False
    _load_feature_extractor = True
    _load_tokenizer = False

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.reports: list = []
        self.failures: list[dict] = []
        self.feature_extractor.refuse_other_windows(self._bare_model.config)
        if self.task != "eeg-embedding" and type(self._bare_model).__name__ in HEADLESS:
            raise ValueError(
                f"{type(self._bare_model).__name__} has no head for windows. Take a checkpoint that was trained for a "
                "task (NeurIPTForSequenceClassification), or the eeg-embedding pipeline."
            )

    @property
    def _bare_model(self) -> nn.Module:
        """The model without an adapter around it; the adapter's weights stay in its layers."""
        return self.model.get_base_model() if hasattr(self.model, "get_base_model") else self.model

    def _sanitize_parameters(self, **preprocess: Any) -> tuple[dict, dict, dict]:
        for name in REFUSED.keys() & preprocess.keys():
            raise ValueError(f"EEGPipeline has no {name}. {REFUSED[name]}")
        after = {name: preprocess.pop(name) for name in ("centred", "classifier") if name in preprocess}
        if after.get("centred") not in (None, True, False):
            raise ValueError(f"centred must be true or false, but is {after['centred']!r}.")
        if any(value not in (None, False) for value in after.values()) and self.task != "eeg-embedding":
            raise ValueError(f"{', '.join(after)}: for eeg-embedding only; a classifier has a head of its own.")
        known = inspect.signature(self.preprocess).parameters
        if unknown := [name for name in preprocess if name not in known]:
            known = ", ".join(name for name in [*known, "centred", "classifier"] if name not in ("named", "of_one"))
            raise TypeError(f"EEGPipeline has no {', '.join(unknown)}; it takes {known}.")
        if (on_error := preprocess.get("on_error") or "raise") not in ("raise", "skip"):
            raise ValueError(f"on_error must be 'raise' or 'skip', but is {on_error!r}.")
        given = {name: value for name, value in preprocess.items() if value is not None}
        for name in ("window_seconds", "stride_seconds", "block_seconds", "windows_per_batch"):
            check_positive(name, given.get(name, 1))
        if not isinstance(given.get("windows_per_batch", 1), int | np.integer):
            raise ValueError(f"batch_size must be a whole number of windows, but is {given['windows_per_batch']!r}.")
        if (np.diff(given.get("onsets", ())) < 0).any():
            raise ValueError("onsets must be in increasing order.")
        if not all(isinstance(name, str) for name in given.get("channel_names", ())):
            raise ValueError(
                "channel_names are those of every recording of the call, a list of names. Where recordings differ, "
                "pass a mne.io.RawArray (volts), or an opened Recording, for each."
            )
        if after.get("centred"):
            given["of_one"] = True
        return given, {}, after

    def __call__(
        self, recordings: Any, num_workers: int | None = None, batch_size: int | None = None, **kwargs
    ) -> list[dict] | list[list[dict]] | Iterator[list[dict]]:
        """
        Args:
            recordings: path, `Recording`, `mne.io.Raw`, `mne.Epochs` or array `[C, T]`; or several of them: a list, a
                generator, a `torch.utils.data.Dataset` such as `KeyDataset(dataset, "file")`.
            num_workers: 1 reads recordings in a process of its own, while the model computes (0 by default; more than
                one makes no difference).
            batch_size: windows of a recording that go through the model at once (default 16); another name is
                `windows_per_batch`.
            sampling_rate, channel_names, unit: of arrays, or of files that do not state them, as in
                [`NeurIPTFeatureExtractor`].
            window_seconds: length of a window; by default the extractor's.
            stride_seconds: from the start of one window to the next; by default the window's length.
            onsets: starts of the windows in seconds by the recording's clock, in increasing order, instead of a
                stride. Only the stretches around them are read, and channels are judged on these.
            block_seconds: length of the blocks in which a recording is read (default 300).
            centred: for `eeg-embedding`, take the mean of the recording's windows off each of them. People differ more
                than classes do, so that classifiers of centred embeddings are often better; but a recording must hold
                all classes, about as often each, and none has an answer before its end. Rows say `"centred": True`.
            classifier: for `eeg-embedding`, a classifier of scikit-learn that was fitted to such embeddings, as by
                `evaluation.prototypes.fit_prototypes`: rows have its `"label"`, and its name as `"classifier"`. One
                that says itself whether it was fitted to centred embeddings is refused for the other kind.
            on_error: `"raise"` (default), or `"skip"` to go on where a recording can't be read: it gets no rows, and
                `pipeline.failures` says why.

        Returns:
            a list of rows; for several recordings a list of such lists, whose rows begin with `"recording"`, its path
            if it has one. For a generator or `torch.utils.data.Dataset` it is an iterator over such lists.

        Raises:
            ValueError: where a recording can't be read or does not fit; of several recordings it names the one.
        """
        batch_size = self._batch_size if batch_size is None else batch_size
        if batch_size is not None:
            if kwargs.setdefault("windows_per_batch", batch_size) != batch_size:
                raise ValueError("batch_size and windows_per_batch are two names of one thing: give one of them.")
        alone = _is_one(recordings)
        lazy = not alone and isinstance(recordings, Iterator | torch.utils.data.Dataset)
        if not alone and not lazy and not len(recordings):
            raise ValueError("Expected at least one recording, but got none.")
        settings = self._postprocess_params | kwargs  # of the pipeline, and of this call
        fitted_centred = getattr(settings.get("classifier"), "centred", None)
        if fitted_centred is not None and fitted_centred != bool(settings.get("centred")):
            raise ValueError(
                f"{settings['classifier']} was fitted to embeddings that are {'' if fitted_centred else 'not '}"
                f"centred. Give centred={fitted_centred}."
            )
        named = ((None, item) for item in [recordings]) if alone else _named(recordings)
        embeds = self.task == "eeg-embedding"
        (self._bare_model.base_model if embeds else self._bare_model).refuse_untrained()
        self._groups_read = None if embeds else getattr(self._bare_model, "groups_read", None)
        self.reports, self.failures = reports, failures = [], []
        results = super().__call__(named, num_workers=num_workers, batch_size=1, **kwargs)
        results = _unpack(results, reports, failures)
        if lazy:
            return results
        results = list(results)
        if alone:
            self.reports = reports[0]
            return results[0]
        return results

    def inspect(self, recording: Any, **given: Any) -> ChannelReport:
        """
        The report on a recording without answers: what the model would see of it. Its `problems` are what a call would
        refuse.

        Args:
            recording: as in a call; one recording.
            given: `sampling_rate`, `channel_names`, `unit`, as in a call.

        Raises:
            ValueError: where the recording can't be opened or read.
        """
        report = self.feature_extractor.inspect(recording, **given)
        if self.task == "eeg-embedding" or not report.channels or report.problems:
            return report
        known = self.feature_extractor.channel_features([channel.name for channel in report.channels])
        features = BatchFeature({name: torch.as_tensor(array)[None] for name, array in known.items()})
        features["channel_mask"] = torch.tensor([[not channel.masked for channel in report.channels]])
        features["input_values"] = features["channel_mask"][..., None]
        features.report, self._groups_read = report, getattr(self._bare_model, "groups_read", None)
        try:
            self._bare_model.refuse_untrained()
            self._note_unread(features)
        except ValueError as error:
            report.problems.append(str(error))
        return report

    def preprocess(
        self,
        named: tuple["_Name | None", Any],
        sampling_rate: float | None = None,
        channel_names: Sequence[str] | None = None,
        unit: str | None = None,
        window_seconds: float | None = None,
        stride_seconds: float | None = None,
        onsets: Sequence[float] | None = None,
        windows_per_batch: int = 16,
        block_seconds: float = 300.0,
        on_error: str = "raise",
        of_one: bool = False,
    ) -> Iterator[dict]:
        """
        Batches of windows of a recording, read block by block; a report comes with the first batch of its block. With
        `of_one` epochs of several people are refused.
        """
        name, recording = named
        try:
            if isinstance(recording, Mapping):
                raise ValueError(
                    f"Expected a recording, but got a row with {', '.join(map(str, recording))}. Of a data set pass "
                    "the column with the paths: transformers.pipelines.pt_utils.KeyDataset(dataset, 'file')."
                )
            source = as_recording(recording, sampling_rate=sampling_rate, channel_names=channel_names, unit=unit)
            people = getattr(source.source, "metadata", None) if of_one else None
            if people is not None and "subject" in people and (count := people["subject"].nunique()) > 1:
                raise ValueError(
                    f"These epochs are of {count} people, and centred takes off the mean of one. "
                    "Pass the epochs of each person apart, as a list, or use "
                    "neuript_hf.integrations.estimators.NeurIPTEmbedder(centred=True)."
                )
            pending = None
            where = {"stride_seconds": stride_seconds, "onsets": onsets}
            for batch in self._batches(source, window_seconds, where, windows_per_batch, block_seconds):
                if pending is not None:
                    yield {"is_last": False, "name": name, **pending}
                pending = batch
        except Exception as error:
            if on_error == "raise":
                if name is None:
                    raise
                raise _same_kind(error)(f"{name.for_errors}: {error}") from error
            yield {"is_last": True, "name": name, "failure": f"{type(error).__name__}: {error}"}
            return
        yield {"is_last": True, "name": name, **pending}

    def _batches(
        self,
        source: Recording,
        window_seconds: float | None,
        where: dict[str, Any],
        windows_per_batch: int,
        block_seconds: float,
    ) -> Iterator[dict]:
        if source.in_pieces:
            piece = source.segments[0]
            duration = window_seconds or (piece.stop - piece.start) / source.sampling_rate
            blocks = iter([self._features(source, window_seconds, **where)])
        else:
            duration = window_seconds or self.feature_extractor.window_seconds
            blocks = self._blocks(source, duration, where, block_seconds)
        for features in blocks:
            self._note_unread(features)
            report = features.report
            for start in range(0, len(features.onsets), windows_per_batch):
                rows = slice(start, start + windows_per_batch)
                batch = {name: tensor[rows] for name, tensor in features.items()}
                # plain numbers: some devices have no float64
                where = {"onset": features.onsets[rows].tolist(), "duration": duration}
                if source.in_pieces:
                    where["epoch"] = [source.segment_of(onset, duration) for onset in where["onset"]]
                yield {**batch, **where, "report": report}
                report = None

    def _blocks(
        self, source: Recording, duration: float, where: dict[str, Any], block_seconds: float
    ) -> Iterator[Any]:
        """Features block by block; only one block is in memory."""
        planned = ChannelReport()
        onsets = self.feature_extractor.window_onsets(source, duration, report=planned, **where)
        blocks = np.split(onsets, np.searchsorted(onsets, np.arange(block_seconds, onsets[-1] + 1e-9, block_seconds)))
        blocks = [block for block in blocks if len(block)]
        for block in tqdm(blocks, desc="EEG", unit="block", disable=len(blocks) < 2):
            features = self._features(source, duration, onsets=block)
            # The extractor was asked for the windows of a block, the pipeline for those of the recording.
            steps = [step for step in features.report.steps if not step.startswith(("marked as bad:", "rejected:"))]
            place = next(index for index, step in enumerate(steps) if step.startswith("windows:"))
            steps[place : place + 1] = planned.steps
            if len(blocks) > 1:
                last = block[-1] + duration
                steps.append(f"block: {block[0]:g} to {last:g} s, {len(block)} of these {len(onsets)} windows")
            features.report.steps = steps
            yield features

    def _note_unread(self, features: Any) -> None:
        """
        Says which channels the head does not read, as no training window had a channel in their lobe.

        Raises:
            ValueError: for a window of which the head reads no channel. The answer would not depend on it.
        """
        if self._groups_read is None or self._groups_read.all():
            return
        config, good = self._bare_model.config, features.get("channel_mask")
        positions, count = features["electrode_positions"], features["input_values"].shape[1]
        groups = channel_groups(config, features["lobe_mask"], positions, count, good)
        read = (groups & self._groups_read).any(dim=-1).expand(len(positions), -1)
        names = [channel.name for channel in features.report.channels]
        unread = [name for name, is_read in zip(names, read.any(dim=0).tolist(), strict=True) if not is_read]
        if not (read if good is None else read & good.bool()).any(dim=1).all():
            expected = "channels as in its training"
            if config.pooling == "lobes" and len(self._groups_read) == len(LOBES):
                lobes = (lobe for lobe, is_read in zip(LOBES, self._groups_read, strict=True) if is_read)
                expected = f"channels of the lobes {', '.join(lobes)}"
            raise ValueError(
                f"The model reads none of the good channels, so its answer would not depend on the recording: no "
                f"training window had channels such as {', '.join(unread)}. Expected {expected}. Take a recording "
                "that has them, or train the model on channels like these."
            )
        if unread:
            features.report.steps.append(
                f"not read by the model: {', '.join(unread)} (it was trained without channels of their lobes)"
            )

    def _features(self, source: Recording, window_seconds: float | None, **where: Any) -> Any:
        return self.feature_extractor(source, window_seconds=window_seconds, return_tensors="pt", **where)

    def _forward(self, model_inputs: dict) -> dict:
        if "failure" in model_inputs:
            return model_inputs
        about = ("is_last", "name", "onset", "duration", "epoch", "report")
        window = {name: model_inputs.pop(name) for name in about if name in model_inputs}
        if self.task == "eeg-embedding":
            name, answers = "embedding", self._bare_model.base_model(**model_inputs).features
        else:
            name, answers = "logits", self._logits(self._bare_model(**model_inputs), len(window["onset"]))
        if not answers.isfinite().all():
            raise ValueError(
                f"The model's answers are not finite numbers. Its weights are {self.model.dtype}: if that is half "
                "precision, load it with dtype='float32'; else the weights themselves are damaged."
            )
        return {**window, name: answers}

    def _logits(self, outputs: Any, windows: int) -> torch.Tensor:
        """
        The outputs of a classifier, `[windows, num_labels]`.

        Raises:
            ValueError: if a head of one's own returns something else.
        """
        logits, count = getattr(outputs, "logits", None), self._bare_model.config.num_labels
        if not isinstance(logits, torch.Tensor) or list(logits.shape) != [windows, count]:
            found = f"logits {list(logits.shape)}" if isinstance(logits, torch.Tensor) else type(outputs).__name__
            raise ValueError(
                f"{type(self._bare_model).__name__} returned {found} for {windows} windows. Expected an output with "
                f"logits [{windows}, {count}], as num_labels of its configuration is {count}. Let its forward return "
                "transformers.modeling_outputs.SequenceClassifierOutput(logits=...), and set num_labels to fit."
            )
        return logits

    def postprocess(self, batches: list[dict], centred: bool = False, classifier: Any = None) -> dict:
        """The rows of a recording, its reports, and its failure if it has one."""
        name = batches[0]["name"]
        if "failure" in batches[-1]:
            failure = {"error": batches[-1]["failure"]}
            if name is not None:
                failure = {"index": name.index, "recording": name.for_rows} | failure
            return {"rows": [], "reports": [], "failure": failure}
        rows = []
        embedded = self._embeddings(batches, centred, classifier) if self.task == "eeg-embedding" else None
        for batch in batches:
            answers = self._answers(batch) if embedded is None else islice(embedded, len(batch["onset"]))
            named = {} if name is None else {"recording": name.for_rows}
            for index, (onset, answer) in enumerate(zip(batch["onset"], answers, strict=True)):
                epoch = {"epoch": batch["epoch"][index]} if "epoch" in batch else {}
                rows.append({**named, **epoch, "onset": onset, "duration": batch["duration"], **answer})
        reports = [batch["report"] for batch in batches if batch["report"] is not None]
        return {"rows": rows, "reports": reports, "failure": None}

    def _embeddings(self, batches: list[dict], centred: bool, classifier: Any) -> Iterator[dict]:
        embeddings = np.concatenate([batch["embedding"].float().numpy() for batch in batches])
        about = {}
        if centred:
            if len(embeddings) < 2:
                raise ValueError("A recording of one window has nothing left when it is centred: leave centred out.")
            embeddings, about = embeddings - embeddings.mean(axis=0), {"centred": True}
        labels = repeat(None)
        if classifier is not None:
            labels, about = classifier.predict(embeddings).tolist(), about | {"classifier": str(classifier)}
        for embedding, label in zip(embeddings, labels, strict=False):
            yield {"embedding": embedding} | ({} if classifier is None else {"label": label}) | about

    def _answers(self, batch: dict) -> Iterator[dict]:
        """What a row says beside onset and duration, by the problem type."""
        config, logits = self._bare_model.config, batch["logits"].float()
        problem_type = problem_type_of(config)
        if problem_type == "single_label_classification" and config.loss_type != "balanced_bce":
            logits = logits.softmax(dim=-1)
        elif problem_type != "regression":
            logits = logits.sigmoid()
        for numbers in logits.tolist():
            by_name = {config.id2label[index]: number for index, number in enumerate(numbers)}
            if problem_type == "regression":
                yield {"values": by_name}
            elif problem_type == "multi_label_classification":
                labels = [name for name, score in by_name.items() if score >= PRESENT]
                yield {"labels": labels, "scores": by_name}
            else:
                label = max(by_name, key=by_name.get)
                yield {"label": label, "score": by_name[label], "scores": by_name}


class _Name:
    """What one of several recordings is called: by its path if it has one, else by its place."""

    def __init__(self, index: int, recording: Any):
        self.index = index
        place, path = f"recordings[{index}]", None
        if isinstance(recording, str) or hasattr(recording, "__fspath__"):
            path = os.fspath(recording)
        else:  # a Raw, or the one in a Recording
            source = recording.source if is_recording(recording) else recording
            path = next((str(path) for path in getattr(source, "filenames", ()) if path is not None), None)
        self.for_rows = path or place
        self.for_errors = f"{place} ({path})" if path else place


def _named(recordings: Iterable) -> Iterator[tuple[_Name, Any]]:
    for index, recording in enumerate(recordings):
        yield _Name(index, recording), recording


def _is_one(recordings: Any) -> bool:
    """Whether this is one recording and not several; nested lists of numbers are one array."""
    if isinstance(recordings, str | bytes | os.PathLike | Mapping) or is_recording(recordings):
        return True
    if hasattr(recordings, "info") and hasattr(recordings, "ch_names"):  # of MNE
        return True
    if isinstance(recordings, list | tuple):
        return len(recordings) > 0 and isinstance(recordings[0], list | tuple | int | float)
    if isinstance(recordings, torch.utils.data.Dataset):
        return False
    if isinstance(recordings, np.ndarray):
        return recordings.dtype.kind in "biufc"
    return isinstance(recordings, torch.Tensor) or not isinstance(recordings, Iterable)


def _unpack(results: Iterator[dict], reports: list, failures: list[dict]) -> Iterator[list[dict]]:
    """The rows of each recording; its reports and its failure go into the lists."""
    for result in results:
        reports.append(result["reports"])
        if result["failure"] is not None:
            failures.append(result["failure"])
        yield result["rows"]


def _same_kind(error: Exception) -> type[Exception]:
    """An error of this kind that takes a message alone."""
    kinds = (FileNotFoundError, OSError, ImportError, ValueError)
    return next((kind for kind in kinds if isinstance(error, kind)), RuntimeError)


__all__ = ["EEGPipeline"]
