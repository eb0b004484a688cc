"""
The losses: of the experts' balance, of pre-training and of classification (docs/model.md sections 6 and 8).

Where several processes train on parts of one batch, sums and counts are those of the whole batch, so that the mean of
the processes' losses, and of their gradients, is that of one process with all of it.
"""

import torch
from torch import Tensor, distributed
from torch.nn import functional as F

from .configuration_neuript import NeurIPTConfig


def processes() -> int:
    """How many processes train together."""
    return distributed.get_world_size() if distributed.is_available() and distributed.is_initialized() else 1


class _SumOverProcesses(torch.autograd.Function):
    """With a gradient, unlike `distributed.all_reduce`; torch's own is deprecated in favour of one that is private."""

    @staticmethod
    def forward(ctx, tensor: Tensor) -> Tensor:
        total = tensor.clone()
        distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx, gradient: Tensor) -> Tensor:
        return _SumOverProcesses.apply(gradient)


def mean_over_processes(total: Tensor, count: Tensor, training: bool) -> Tensor:
    """
    `total / count`, scalars. In training of several processes the count is that of all of them, times this process's
    share: the mean of the processes' results is then the sum of totals over the sum of counts.
    """
    count = count.to(total.dtype)
    if training and processes() > 1:
        count = _SumOverProcesses.apply(count) / processes()
    return total / count.clamp(min=1 / processes())


def expert_balance_loss(
    logits: Tensor, experts: Tensor, valid: Tensor | None, importance_coef: float, balance_loss: str
) -> Tensor:
    """
    Auxiliary loss of one expert block (docs/model.md section 6): an importance term, the squared coefficient of
    variation of the experts' summed probabilities, and a balance term.

    `logits [n, E]` include the noise, `experts [n, k]` are the kept ones, tokens that are not `valid [n]` do not
    count; `balance_loss` is `"fraction"`, E sum_e f_e P_e, or `"squared_mass"`, the authors' form.
    """
    num_experts = logits.shape[-1]
    probabilities = logits.softmax(dim=-1)
    kept = F.one_hot(experts, num_experts).sum(dim=1).to(probabilities.dtype)  # [n, E], 0 or 1
    count = torch.full_like(probabilities[0, 0], len(logits))
    if valid is not None:
        probabilities, kept = probabilities * valid[:, None], kept * valid[:, None]
        count = valid.sum().clamp(min=1).to(probabilities.dtype)
    total, kept_total = probabilities.sum(dim=0), kept.sum(dim=0)
    mass = (probabilities * kept).sum(dim=0)
    if processes() > 1:
        total, mass, kept_total, count = map(_SumOverProcesses.apply, (total, mass, kept_total, count))
    # One expert alone has no variance (and n - 1 = 0).
    variance = total.var() if num_experts > 1 else torch.zeros_like(total[0])
    importance = importance_coef * variance / (total.mean() ** 2 + 1e-8)
    if balance_loss == "fraction":
        balance = num_experts * (kept_total / (count * experts.shape[-1]) * total / count).sum()
    else:
        balance = num_experts * (mass / count * mass).sum() / count**2
    return importance + balance


def reconstruction_loss(
    reconstruction: Tensor,
    labels: Tensor,
    selected: Tensor,
    exponent: float = 2.0,
    root: bool = False,
    training: bool = False,
) -> Tensor:
    """
    Mean of `|error|^exponent` over the selected samples, all three `[B, C, T]`, companded; with `root` its root, as
    paper eq. 7 prints it (of several processes then each takes the root of its own part). 0 where none is selected.
    """
    error = (reconstruction - labels.to(reconstruction.dtype)).abs() ** exponent
    loss = mean_over_processes((error * selected).sum(), selected.sum(), training)
    return loss ** (1 / exponent) if root else loss


def balanced_bce_loss(logits: Tensor, labels: Tensor, class_prior: Tensor | None, prior_weight: float) -> Tensor:
    """
    Bal-BCE (paper C.4): one-vs-all sigmoid cross entropy on `z_c + K (ln pi_c - ln(1 - pi_c))`, summed over the
    classes, mean over windows. `logits [B, classes]` are z, `class_prior [classes]` the shares pi in the training set
    (needed for K > 0), `prior_weight` is K.
    """
    if prior_weight > 0:
        logits = logits + prior_weight * torch.logit(class_prior)
    targets = F.one_hot(labels, logits.shape[-1]).to(logits.dtype)
    return F.binary_cross_entropy_with_logits(logits, targets, reduction="none").sum(dim=-1).mean()


def classification_loss(logits: Tensor, labels: Tensor, config: NeurIPTConfig) -> Tensor:
    """
    The task's loss, without the experts' auxiliary loss: as transformers chooses it by `config.problem_type`, or
    Bal-BCE with `config.loss_type`. `logits [B, num_labels]`, `labels [B]`, or `[B, num_labels]` for several labels.
    """
    if config.problem_type == "regression":
        return F.mse_loss(logits.squeeze(-1), labels.to(logits.dtype).squeeze(-1))
    if config.problem_type == "multi_label_classification":
        return F.binary_cross_entropy_with_logits(logits, labels.to(logits.dtype))
    if config.loss_type == "balanced_bce":
        prior = config.class_prior
        prior = None if prior is None else torch.tensor(prior, dtype=logits.dtype, device=logits.device)
        return balanced_bce_loss(logits, labels, prior, config.prior_weight)
    return F.cross_entropy(logits, labels)


__all__ = [
    "balanced_bce_loss",
    "classification_loss",
    "expert_balance_loss",
    "mean_over_processes",
    "reconstruction_loss",
]
