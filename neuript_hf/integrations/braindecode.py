"""
A checkpoint as a model of braindecode: it takes windows as they were recorded, and does in torch what the feature
extractor does to epochs.

Filters and change of rate are linear and the same for every channel, so together they are a matrix
`[samples, outputs]`; pairs and interpolated electrodes are another, `[outputs, channels]`. The extractor makes both
from its own functions. Gradients pass through all of it.

Letters for shapes: B windows, C channels, T samples, F features.
"""

import math
import warnings
from dataclasses import dataclass, field
from typing import Any

import mne
import numpy as np
import torch
from torch import Tensor, nn
from transformers import AutoConfig

from ..channels import ChannelPlan, ChannelReport, plan_channels
from ..configuration_neuript import NeurIPTConfig
from ..feature_extraction_neuript import NeurIPTFeatureExtractor
from ..modeling_neuript import NeurIPTForSequenceClassification, NeurIPTModel
from ..recordings import recording_from_array
from ..signal_quality import SignalSurvey, channel_faults, check_copies, check_signal, check_some_good, mask_outputs
from ..units import UNIT_NAMES, check_unit, microvolts_of


try:
    from braindecode.models import EEGModuleMixin
except ModuleNotFoundError as error:
    if error.name != "braindecode":
        raise
    raise ImportError("neuript_hf.integrations.braindecode needs braindecode: pip install braindecode.") from error


# Arguments of from_pretrained that are about the download.
_DOWNLOAD = ("revision", "cache_dir", "force_download", "local_files_only", "token")


@dataclass(eq=False)
class _Channels:
    """The channels of a recording: names, what the extractor makes of them, and matrices by pattern of bad ones."""

    names: list[str]
    plan: ChannelPlan
    report: ChannelReport
    electrode_positions: Tensor
    lobe_mask: Tensor
    matrices: dict[bytes, np.ndarray] = field(default_factory=dict)


class NeurIPTBraindecode(EEGModuleMixin, nn.Module, license="apache-2.0", docs_url="https://arxiv.org/abs/2510.16548"):
    """
    NeurIPT with the interface of braindecode's models: windows `[B, C, T]` -> `[B, n_outputs]`.

    Windows are filtered, resampled to 64 Hz, and companded inside, exactly as the feature extractor does it with
    epochs: neither normalise nor filter them before.

    Args:
        n_outputs: number of classes, or of numbers to predict. Without it there is no head, and `forward` returns the
            features.
        n_chans, n_times, input_window_seconds: as in braindecode. A model works for windows of any length.
        chs_info: the channels, as in `mne.Info["chs"]`; their names say where they are. Without it, every call needs
            `ch_names`.
        sfreq: sampling rate of the windows, in hertz.
        unit: unit of the windows: `"V"` in data sets of windows made from MNE's objects, `"uV"` once something has
            multiplied them by 1e6, which `EEGClassifier` does with Epochs by itself. There is no default: with the
            wrong one the answers are worthless.
        configuration: of the model, as `NeurIPTConfig.to_dict` gives it; by default the paper's.
        preprocessing: settings of the feature extractor that are not its defaults, such as `{"montage":
            "double_banana"}`.
        judge: whether `forward` judges the channels of each window as the extractor does: bad ones are masked, and a
            unit that can't be right is an error. A batch of zeros, which libraries pass to learn shapes, is not
            judged. It takes place on the CPU.

    Attributes:
        neuript: the encoder, [`NeurIPTModel`].
        final_layer: the head, linear from F features.
        report: [`ChannelReport`] on `chs_info` and, where channels are judged, on the last batch.

    Raises:
        ValueError: where unit or rate are missing or can't be right, and where the extractor would refuse channels.
    """

    _HUB_NOTES_TEMPLATE = ""  # they say to import the class from braindecode

    def __init__(
        self,
        n_outputs: int | None = None,
        n_chans: int | None = None,
        chs_info: list[dict] | None = None,
        n_times: int | None = None,
        input_window_seconds: float | None = None,
        sfreq: float | None = None,
        *,
        unit: str | None = None,
        configuration: dict[str, Any] | None = None,
        preprocessing: dict[str, Any] | None = None,
        judge: bool = True,
    ):
        super().__init__(
            n_outputs=n_outputs,
            n_chans=n_chans,
            chs_info=chs_info,
            n_times=n_times,
            input_window_seconds=input_window_seconds,
            sfreq=sfreq,
        )
        if unit is None:
            raise ValueError(
                "unit is needed: 'V' for windows as MNE has them, 'uV' if something has multiplied them by 1e6, as "
                "EEGClassifier does with Epochs."
            )
        check_unit(unit)
        self.unit, self.judge = UNIT_NAMES[microvolts_of(unit)], judge
        self.extractor = NeurIPTFeatureExtractor.from_dict(dict(preprocessing or {}))
        if self.extractor.positions == "digitised":
            raise ValueError("positions='digitised' needs a recording. Places follow from names here: use 'table'.")
        config = NeurIPTConfig.from_dict(dict(configuration or {}))
        self.extractor.refuse_other_windows(config)
        self.extractor.check_rate(self.sfreq)
        self._by_names: dict[tuple[str, ...], _Channels] = {}
        self._filters: dict[tuple[int, torch.device], tuple[Tensor, Tensor]] = {}
        self._own = None if chs_info is None else self._channels_of(*_names_and_types(self.chs_info))
        if self._own is not None and (unread := self._own.report.dropped | self._own.report.missing):
            left_out = "; ".join(f"{name} ({reason})" for name, reason in unread.items())
            warnings.warn(f"NeurIPTBraindecode leaves out: {left_out}.", stacklevel=2)
        self.neuript = NeurIPTModel(config)
        self.final_layer = nn.Identity()
        if n_outputs is not None:
            self.reset_head(n_outputs)

    @property
    def report(self) -> ChannelReport | None:
        return None if self._own is None else self._own.report

    def reset_head(self, n_outputs: int) -> None:
        """Replaces `final_layer` by a new one, at random."""
        self._set_n_outputs(n_outputs)
        encoder = self.neuript
        features = encoder.config.num_head_features
        self.final_layer = nn.Linear(features, n_outputs, device=encoder.device, dtype=encoder.dtype)

    def forward(
        self,
        x: Tensor,
        channel_positions: Tensor | None = None,
        ch_names: list[str] | None = None,
        return_features: bool = False,
    ) -> Tensor | dict[str, Tensor | None]:
        """
        Args:
            x: windows `[B, C, T]`, in the model's `unit` and at its `sfreq`.
            channel_positions: not read, as names say where channels are. NeuralBench passes them to every model.
            ch_names: names of the channels, if they are not those of `chs_info`.
            return_features: whether to return `{"features": [B, F], "cls_token": None}`, as braindecode's models do.

        Raises:
            ValueError: for other shapes, for channels that the extractor would refuse, and, where channels are judged,
                for windows without a good channel and a unit that can't be right.
        """
        features = self.neuript(**self.preprocess(x, ch_names)).features
        return {"features": features, "cls_token": None} if return_features else self.final_layer(features)

    def preprocess(self, x: Tensor, ch_names: list[str] | None = None) -> dict[str, Tensor]:
        """What [`NeurIPTFeatureExtractor`] makes of the same windows as epochs, but for `attention_mask`, all true."""
        channels = self._own if ch_names is None else self._channels_of(list(ch_names), ["eeg"] * len(ch_names))
        if channels is None:
            raise ValueError("The channels are unknown: give chs_info to the model, or ch_names to the call.")
        if x.dim() != 3 or x.shape[1] != len(channels.names) or not x.shape[-1]:
            raise ValueError(f"Expected windows [B, {len(channels.names)}, T], but got {list(x.shape)}.")
        bad, masked = self._judge(x.detach(), channels)
        with torch.autocast(x.device.type, enabled=False):  # filters in half precision would be worthless
            signal = x[:, channels.plan.recorded].float() * microvolts_of(self.unit)
            signal = signal.masked_fill(torch.from_numpy(bad).to(x.device)[..., None], 0.0)  # NaN times 0 is NaN
            matrix = torch.from_numpy(self._matrices(channels, bad, masked)).to(signal)
            values = self._compress(matrix @ self._filter(signal))
        count = len(x)
        return {
            "input_values": values,
            "electrode_positions": channels.electrode_positions.to(x.device).expand(count, -1, -1),
            "lobe_mask": channels.lobe_mask.to(x.device).expand(count, -1, -1),
            "channel_mask": torch.from_numpy(~masked).to(x.device),
        }

    def _channels_of(self, names: list[str], types: list[str]) -> _Channels:
        """What the extractor makes of a recording with these channels."""
        if tuple(names) not in self._by_names:
            extractor, report = self.extractor, ChannelReport(recorded=len(names), sampling_rate=self.sfreq)
            plan = plan_channels(names, types, extractor.channel_names, extractor.on_missing, report, extractor.net)
            features = extractor.channel_features(plan.channels)
            places, lobes = (torch.from_numpy(features[name]) for name in ("electrode_positions", "lobe_mask"))
            self._by_names[tuple(names)] = _Channels(names, plan, report, places, lobes)
        return self._by_names[tuple(names)]

    def _judge(self, x: Tensor, channels: _Channels) -> tuple[np.ndarray, np.ndarray]:
        """Recorded channels `[B, recorded]` that are bad, and outputs `[B, C]` that contain one."""
        plan, report = channels.plan, channels.report
        report.windows, report.window_seconds = len(x), x.shape[-1] / self.sfreq
        if not self.judge or not x.any():
            return tuple(np.zeros((len(x), count), dtype=bool) for count in (len(plan.recorded), len(plan.channels)))
        scale = microvolts_of(self.unit)
        source = recording_from_array(x.cpu().numpy(), self.sfreq, channels.names, scale, self.unit)
        read = plan.recorded + [later for later, _ in plan.duplicates]
        survey = SignalSurvey(len(x), len(read), self.sfreq)
        survey.add(source.read_pieces(read))
        check_copies(survey, read, plan, report)
        faults = channel_faults(survey, read, source)[:, : len(plan.recorded)]
        check_signal(survey, faults, self.unit)
        masked = mask_outputs(faults, plan, True, report)
        check_some_good(masked, faults, True)
        return faults != "", masked

    def _matrices(self, channels: _Channels, bad: np.ndarray, masked: np.ndarray) -> np.ndarray:
        """Which sums of recorded channels the outputs are, `[B or 1, C, recorded]`."""
        patterns, first, which = np.unique(bad, axis=0, return_index=True, return_inverse=True)
        known = channels.matrices
        for pattern, index in zip(patterns, first, strict=True):
            if pattern.tobytes() not in known:
                known[pattern.tobytes()] = self.extractor.channel_matrix(channels.plan, pattern, masked[index])
        matrices = np.stack([known[pattern.tobytes()] for pattern in patterns])
        return matrices if len(matrices) == 1 else matrices[which.ravel()]

    def _filter(self, signal: Tensor) -> Tensor:
        """All filters and the change of rate: `[B, C, T]` in microvolts -> `[B, C, outputs]`."""
        samples, device = signal.shape[-1], signal.device
        if (samples, device) not in self._filters:
            matrix = torch.from_numpy(self.extractor.filter_matrix(self.sfreq, samples))
            self._filters[samples, device] = matrix.float().to(device), matrix.sum(dim=0).float().to(device)
        matrix, of_constant = self._filters[samples, device]
        # apart from the rest, since float32 has too few digits for microvolts beside an offset of millivolts
        offset = signal.mean(dim=-1, keepdim=True)
        return (signal - offset) @ matrix + offset * of_constant

    def _compress(self, microvolts: Tensor) -> Tensor:
        """As `NeurIPTFeatureExtractor.compress`."""
        if self.extractor.companding is None:
            return microvolts
        a = self.extractor.companding_a
        scaled = a * microvolts
        logarithm = scaled.sign() * (1 + scaled.abs().clamp(min=1).log())
        return torch.where(scaled.abs() < 1, scaled, logarithm) / (math.e + math.log(a))

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_filters": {}}  # made anew where they are needed

    # braindecode's table runs a model on random numbers, which are EEG in no unit, and needs to know the channels
    __str__ = nn.Module.__repr__

    @classmethod
    def _from_pretrained(cls, *, model_id: str, **kwargs: Any) -> "NeurIPTBraindecode":
        """
        What `from_pretrained(folder or Hub name, ...)` calls: a checkpoint of this package, or what braindecode saved.

        The head of a classifier comes along if `n_outputs` is not given or as many. `preprocessing` changes single
        settings of the checkpoint's extractor.

        Raises:
            ValueError: for a checkpoint of something else, or without trained weights.
        """
        if "configuration" in kwargs:  # of config.json, as braindecode writes it
            return super()._from_pretrained(model_id=model_id, **{"strict": True, **kwargs})
        download = {name: kwargs.pop(name) for name in _DOWNLOAD}
        config = AutoConfig.from_pretrained(model_id, **download)
        if not isinstance(config, NeurIPTConfig):
            raise ValueError(f"{model_id} is a checkpoint of {type(config).__name__}; expected one of NeurIPT.")
        settings = NeurIPTFeatureExtractor.from_pretrained(model_id, **download).to_dict()
        settings |= kwargs.pop("preprocessing", None) or {}
        n_outputs = kwargs.pop("n_outputs", None)
        has_head = NeurIPTForSequenceClassification.__name__ in (config.architectures or ())
        takes_head = has_head and n_outputs in (None, config.num_labels)
        saved = (NeurIPTForSequenceClassification if takes_head else NeurIPTModel).from_pretrained(
            model_id, **download
        )
        saved.refuse_untrained()
        model = cls(
            n_outputs=config.num_labels if takes_head else n_outputs,
            configuration=config.to_dict(),
            preprocessing=settings,
            **kwargs,
        )
        model.neuript = saved.base_model
        if takes_head:
            weight, bias = saved.classifier.weight, saved.classifier.bias
            if config.target_scale is not None:  # of a regression: the head takes over what the model does after it
                mean, scale = torch.tensor([config.target_mean, config.target_scale])
                weight, bias = weight * scale[:, None], bias * scale + mean
            model.final_layer.load_state_dict({"weight": weight.detach(), "bias": bias.detach()})
        return model.eval()


def _names_and_types(chs_info: list[dict]) -> tuple[list[str], list[str]]:
    """Names and MNE's types of channels; EEG where only names are given."""
    types = []
    for number, channel in enumerate(chs_info):
        kind = channel.get("kind", "eeg")
        types.append(kind if isinstance(kind, str) else mne.channel_type({"chs": chs_info}, number))
    return [channel["ch_name"] for channel in chs_info], types


__all__ = ["NeurIPTBraindecode"]
