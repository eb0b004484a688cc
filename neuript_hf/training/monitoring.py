"""
What to watch in pre-training besides the loss, at regular intervals on the same held-out windows.

The loss is a mean over everything that is hidden. These metrics show whether gaps are filled or only levels guessed,
which scale contributes what, and whether the experts share the work.
"""

import math
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.integrations import TensorBoardCallback, TrackioCallback
from transformers.utils import is_matplotlib_available, logging

from ..data.atomic import atomic_write
from ..data.collator import real_samples
from ..feature_extraction_neuript import NeurIPTFeatureExtractor
from ..modeling_neuript import NeurIPTCrossDecoderLayer, NeurIPTLinearDecoderLayer, NeurIPTRouter


if TYPE_CHECKING:
    from matplotlib.figure import Figure

logger = logging.get_logger(__name__)

DECODER_LAYERS = (NeurIPTCrossDecoderLayer, NeurIPTLinearDecoderLayer)
NUM_BANDS = 5
# An expert with less than this share of an equal load counts as dead.
DEAD_SHARE = 0.01
PICTURE_CHANNELS = 3


def amplitude_bands(labels: Tensor, valid: Tensor) -> Tensor:
    """
    The amplitude band of each true value, by rank within its window and channel as in masking (docs/model.md section
    7): 0 for the lowest fifth, 4 for the highest, -1 where there is no real sample.

    Args:
        labels: true values, `[B, C, T]`, in any monotone scale.
        valid: real samples, bool `[B, C, T]`.

    Returns:
        int64 `[B, C, T]`.
    """
    order = labels.masked_fill(~valid, math.inf).argsort(dim=-1, stable=True)
    ranks = order.argsort(dim=-1)
    return torch.where(valid, ranks * NUM_BANDS // valid.sum(dim=-1, keepdim=True).clamp(min=1), -1)


def reconstruction_errors(
    predictions: Tensor, labels: Tensor, selected: Tensor, hidden: Tensor, valid: Tensor
) -> dict[str, float]:
    """
    How well samples are reconstructed, in the companded scale.

    Args:
        predictions: of each decoder layer, `[scales, B, C, T]`; their sum is the reconstruction.
        labels: true values, `[B, C, T]`.
        selected: samples in the loss, bool `[B, C, T]`.
        hidden: those of them that the model did not see, bool `[B, C, T]`.
        valid: real samples of good channels, bool `[B, C, T]`; others never count.

    Returns:
        `masked_mse`, the mean squared error at selected samples; `masked_mse_band_1` to `_5`, the same for each of the
        [`amplitude_bands`] that has selected samples; `scale_0`, ... the same for the sum of the predictions up to
        this scale; `hidden_error`, the mean squared error at hidden samples over the variance of the true values there
        (filling in their mean gives 1).
    """
    selected, hidden = selected & valid, hidden & valid
    errors = (predictions.cumsum(dim=0) - labels).square()
    metrics = {"masked_mse": errors[-1][selected].mean()}
    bands = amplitude_bands(labels, valid)
    for band in range(NUM_BANDS):
        if (chosen := selected & (bands == band)).any():
            metrics[f"masked_mse_band_{band + 1}"] = errors[-1][chosen].mean()
    for scale, error in enumerate(errors):
        metrics[f"scale_{scale}"] = error[selected].mean()
    metrics["hidden_error"] = errors[-1][hidden].mean() / labels[hidden].var(correction=0)
    return {name: value.item() for name, value in metrics.items()}


class ExpertUse(NamedTuple):
    """
    How tokens use the experts of one block.

    Args:
        load: share of the tokens' choices that each expert got; the shares sum to 1.
        entropy: of the tokens' mean probabilities, over its maximum: 1 = all experts alike, 0 = always the same.
    """

    load: list[float]
    entropy: float

    @property
    def relative_load(self) -> list[float]:
        """Loads relative to equal ones."""
        return [share * len(self.load) for share in self.load]

    @property
    def dead(self) -> int:
        """Number of experts with next to no load."""
        return sum(share < DEAD_SHARE for share in self.relative_load)


def expert_use(logits: Tensor, experts: Tensor, valid: Tensor | None) -> ExpertUse:
    """
    From a router's outputs: `logits [n, E]`, kept `experts [n, k]`; tokens that are not `valid [n]` do not count.
    Where experts have a capacity, tokens beyond it count for the expert they chose, so that a collapse shows.
    """
    if valid is not None:
        logits, experts = logits[valid], experts[valid]
    num_experts = logits.shape[-1]
    load = F.one_hot(experts, num_experts).sum(dim=(0, 1)) / experts.numel()
    entropy = torch.special.entr(logits.softmax(dim=-1).mean(dim=0)).sum().item()
    return ExpertUse(load.tolist(), entropy / math.log(num_experts) if num_experts > 1 else 1.0)


class _Look(NamedTuple):
    """Predictions of the decoder layers `[scales, B, C, T]`, and the use of experts by the name of their block."""

    predictions: Tensor
    experts: dict[str, ExpertUse]


def _block_name(router: str) -> str:
    """`neuript.layers.2.two_stage_attention.time_stage.feed_forward.router` -> `layers.2.time_stage`, also wrapped."""
    return ".".join(re.findall(r"\b(?:layers|decoder|\d+|\w+_stage)\b", router))


@contextmanager
def _recording(model: nn.Module) -> Iterator[tuple[list[Tensor], dict[str, ExpertUse]]]:
    """Collects the decoder layers' predictions and the routers' choices while the model runs, through hooks."""
    predictions, experts, hooks = [], {}, []

    def keep_prediction(module: nn.Module, inputs: tuple, output: Tensor | tuple) -> None:
        predictions.append((output if isinstance(output, Tensor) else output[1]).float())

    def keep_use(name: str, module: nn.Module, inputs: tuple, output: tuple) -> None:
        experts[name] = expert_use(output[0], output[2], inputs[1])

    for name, module in model.named_modules():
        if isinstance(module, DECODER_LAYERS):
            hooks.append(module.register_forward_hook(keep_prediction))
        elif isinstance(module, NeurIPTRouter):
            hooks.append(module.register_forward_hook(partial(keep_use, _block_name(name))))
    try:
        yield predictions, experts
    finally:
        for hook in hooks:
            hook.remove()


@torch.no_grad()
def _look(model: nn.Module, batch: Mapping[str, Tensor]) -> _Look:
    """One forward pass in evaluation mode."""
    training = model.training
    model.eval()
    # compiled code would skip the hooks
    with _recording(model) as (predictions, experts), torch.compiler.set_stance("force_eager"):
        reconstruction = model(**batch).reconstruction
    model.train(training)
    predictions = torch.stack(predictions)
    # the line of `hidden_fill` is not a layer's prediction; it counts with the first
    predictions[0] += reconstruction - predictions.sum(dim=0)
    return _Look(predictions, experts)


class PreTrainingMonitor(TrainerCallback):
    """
    Looks at one batch of held-out windows every `look_steps` steps and logs through the trainer, to the console,
    `log_history` and all trackers:

    - `monitor/...`: see [`reconstruction_errors`];
    - `monitor/load/BLOCK/expert_E`, `monitor/entropy/BLOCK`, `monitor/dead_experts/BLOCK` for each block of experts
      ([`ExpertUse`]), and `monitor/collapsed_layers`: the number of blocks that had a dead expert, or an entropy below
      `entropy_limit`, for `patience` looks in a row, with a warning that names the block;
    - `windows_per_second` at every logging step: training since the last one, including waiting for data, but without
      looks, evaluations and checkpoints. All batches count as full, and the first step after a start does not count.

    Every `picture_steps` steps `output_dir/pictures/step-000500.png` shows the visible, hidden and predicted samples
    of a window in microvolts, and the load of the experts. TensorBoard and trackio get it, too. Pictures need
    matplotlib (extra `plots`).

    A look costs one forward pass. It draws no random numbers and does not change the model. All processes look, since
    a sharded model (FSDP) has to run in all of them; only the main process warns and draws.

        trainer.add_callback(PreTrainingMonitor(trainer, collator(held_out_windows), extractor))

    Args:
        trainer: of a [`NeurIPTForPreTraining`].
        batch: held-out windows from [`DataCollatorForAmplitudeAwareMasking`].
        extractor: the windows' feature extractor, to convert to microvolts and seconds.
        look_steps: steps between looks.
        picture_steps: steps between pictures, a multiple of `look_steps`.
        entropy_limit: relative entropy below which a block of experts counts as collapsing.
        patience: looks in a row after which it counts as collapsed.

    Raises:
        ValueError: for a model without NeurIPT's decoder, a batch without masks, without hidden samples or with flat
            signals, or for `picture_steps` that are not a multiple of `look_steps`.
    """

    def __init__(
        self,
        trainer: Trainer,
        batch: Mapping[str, Tensor],
        extractor: NeurIPTFeatureExtractor,
        look_steps: int = 100,
        picture_steps: int = 500,
        entropy_limit: float = 0.5,
        patience: int = 3,
    ):
        if not any(isinstance(module, DECODER_LAYERS) for module in trainer.model.modules()):
            raise ValueError(
                f"The monitor watches a NeurIPTForPreTraining, but the trainer has a {type(trainer.model).__name__}."
            )
        if missing := [name for name in ("labels", "masked_positions", "hidden_positions") if name not in batch]:
            raise ValueError(
                f"The monitor's batch has no {', '.join(missing)}. Make it with DataCollatorForAmplitudeAwareMasking."
            )
        if look_steps < 1 or picture_steps < 1 or picture_steps % look_steps:
            raise ValueError(
                f"picture_steps must be a multiple of look_steps, both at least 1, but are {picture_steps} and "
                f"{look_steps}."
            )
        self.batch = dict(batch)
        self.valid = real_samples(batch)
        hidden = batch["masked_positions"] & batch["hidden_positions"] & self.valid
        if not hidden.any():
            raise ValueError("No sample of the monitor's batch is hidden. Make it with whole_share=0.")
        if not batch["labels"][hidden].var(correction=0) > 0:
            raise ValueError("All hidden samples of the monitor's batch have the same value. Use windows of EEG.")
        self.trainer = trainer
        self.extractor = extractor
        self.look_steps = look_steps
        self.picture_steps = picture_steps
        self.entropy_limit = entropy_limit
        self.patience = patience
        self.can_draw = is_matplotlib_available()
        if not self.can_draw:
            logger.warning("No pictures will be drawn without matplotlib: pip install 'neuript_hf[plots]'.")
        self._forget()

    def _forget(self) -> None:
        self._collapsing: dict[str, int] = defaultdict(int)  # looks in a row
        self._since: float | None = None  # when training last went on
        self._seconds, self._steps = 0.0, 0

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs) -> None:
        self._forget()

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs) -> None:
        metrics = self._speed(args, control)
        if state.global_step % self.look_steps == 0:
            look = _look(kwargs["model"], {name: tensor.to(args.device) for name, tensor in self.batch.items()})
            metrics |= self._metrics(look, state)
            if self.can_draw and state.is_world_process_zero and state.global_step % self.picture_steps == 0:
                self._picture(look, Path(args.output_dir), state.global_step)
        if metrics:
            should_log = control.should_log
            self.trainer.log({name: round(value, 6) for name, value in metrics.items()})
            control.should_log = should_log  # logging clears the flag, and Trainer would skip its own log of this step
        self._since = perf_counter()

    def on_evaluate(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs) -> None:
        self._since = perf_counter()

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs) -> None:
        self._since = perf_counter()

    def _speed(self, args: TrainingArguments, control: TrainerControl) -> dict[str, float]:
        if self._since is not None:
            self._seconds += perf_counter() - self._since
            self._steps += 1
        if not (control.should_log and self._steps):
            return {}
        speed = self._steps * self.trainer.get_total_train_batch_size(args) / self._seconds
        self._seconds, self._steps = 0.0, 0
        return {"windows_per_second": speed}

    def _metrics(self, look: _Look, state: TrainerState) -> dict[str, float]:
        samples = (self.batch[name] for name in ("labels", "masked_positions", "hidden_positions"))
        errors = reconstruction_errors(look.predictions.cpu(), *samples, self.valid)
        metrics = {f"monitor/{name}": value for name, value in errors.items()}
        for name, use in look.experts.items():
            metrics |= {f"monitor/load/{name}/expert_{expert}": share for expert, share in enumerate(use.load)}
            metrics[f"monitor/entropy/{name}"] = use.entropy
            metrics[f"monitor/dead_experts/{name}"] = use.dead
            collapsing = use.dead > 0 or use.entropy < self.entropy_limit
            self._collapsing[name] = self._collapsing[name] + 1 if collapsing else 0
            if self._collapsing[name] == self.patience and state.is_world_process_zero:
                loads = ", ".join(f"{share:.3f}" for share in use.load)
                logger.warning(
                    f"Step {state.global_step}: the experts of {name} have collapsed, for {self.patience} looks in a "
                    f"row. Their shares of the tokens are {loads}; the entropy is {use.entropy:.2f} of the largest. "
                    "Raise router_aux_loss_coef, or start again with a lower learning rate."
                )
        if look.experts:
            collapsed = [name for name in look.experts if self._collapsing[name] >= self.patience]
            metrics["monitor/collapsed_layers"] = len(collapsed)
        return metrics

    def _picture(self, look: _Look, folder: Path, step: int) -> None:
        hidden = (self.batch["hidden_positions"] & self.valid).numpy()
        window = hidden.any(axis=(1, 2)).argmax()
        hidden = hidden[window]
        visible = self.valid[window].numpy() & ~hidden
        signals = {
            "visible": np.where(visible, self._microvolts(self.batch["input_values"][window]), np.nan),
            "hidden": np.where(hidden, self._microvolts(self.batch["labels"][window]), np.nan),
            "predicted": np.where(hidden, self._microvolts(look.predictions.sum(dim=0)[window]), np.nan),
        }
        channels = np.flatnonzero(hidden.any(axis=-1))
        places = np.linspace(0, len(channels) - 1, min(PICTURE_CHANNELS, len(channels))).astype(int)
        figure = draw_look(signals, channels[places], self.extractor.sampling_rate, look.experts, f"Step {step:,}")

        path = folder / "pictures" / f"step-{step:06d}.png"
        with atomic_write(path) as partial_path:
            figure.savefig(partial_path, dpi=100)
        for callback in self.trainer.callback_handler.callbacks:
            if isinstance(callback, TensorBoardCallback) and callback.tb_writer is not None:
                callback.tb_writer.add_figure("monitor/reconstruction", figure, step)
            elif isinstance(callback, TrackioCallback):
                import trackio

                trackio.log({"monitor/reconstruction": trackio.Image(path), "train/global_step": step})

    def _microvolts(self, values: Tensor) -> np.ndarray:
        return self.extractor.invert(values.cpu().numpy())


def draw_look(
    signals: Mapping[str, np.ndarray],
    channels: Sequence[int],
    sampling_rate: float,
    experts: Mapping[str, ExpertUse],
    title: str,
) -> "Figure":
    """
    Draws some channels of a window, and below them the load of the experts in each block.

    Args:
        signals: `visible`, `hidden` and `predicted`, microvolts `[C, T]`, NaN elsewhere.
        channels: the channels to draw.
        sampling_rate: in hertz.
        experts: use of the experts by block; may be empty.
        title: of the figure.
    """
    from matplotlib.figure import Figure

    # without pyplot, which would choose a screen and keep every figure
    figure = Figure(figsize=(11, 2.1 * len(channels) + (2.6 if experts else 0.5)), layout="constrained")
    axes = figure.subplots(len(channels) + bool(experts), squeeze=False)[:, 0]
    styles = {"visible": "0.4", "hidden": "tab:orange", "predicted": "tab:blue"}
    for axis, channel in zip(axes, channels, strict=False):  # one more for the experts
        for name, colour in styles.items():
            seconds = np.arange(signals[name].shape[-1]) / sampling_rate
            axis.plot(seconds, signals[name][channel], ".-", color=colour, label=name, linewidth=1, markersize=3)
        axis.set_ylabel(f"channel {channel}, µV")
        axis.margins(x=0.01)
    axes[0].legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=len(styles), frameon=False)
    axes[len(channels) - 1].set_xlabel("seconds")
    if experts:
        width = 0.8 / max(len(use.load) for use in experts.values())
        for block, use in enumerate(experts.values()):
            places = block + width * (np.arange(len(use.load)) - (len(use.load) - 1) / 2)
            axes[-1].bar(places, use.relative_load, width=0.9 * width, color="tab:green")
        axes[-1].axhline(1, color="0.4", linestyle=":")
        axes[-1].set_xticks(range(len(experts)), list(experts), rotation=20, horizontalalignment="right")
        axes[-1].set_ylabel("load of experts\n(1 = equal)")
    figure.suptitle(title)
    return figure


__all__ = ["ExpertUse", "PreTrainingMonitor", "amplitude_bands", "draw_look", "expert_use", "reconstruction_errors"]
