"""The losses: of the experts' balance, of pre-training and of classification (spec sections 6 and 8)."""

import torch
from torch import Tensor
from torch.nn import functional as F


def expert_balance_loss(
    logits: Tensor, experts: Tensor, valid: Tensor | None, importance_coef: float, balance_loss: str
) -> Tensor:
    """
    Auxiliary loss of one expert block (spec section 6): an importance term, the squared coefficient of variation of
    the experts' summed probabilities, and a balance term.

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
    total = probabilities.sum(dim=0)
    # One expert alone has no variance (and n - 1 = 0).
    variance = total.var() if num_experts > 1 else torch.zeros_like(total[0])
    importance = importance_coef * variance / (total.mean() ** 2 + 1e-8)
    if balance_loss == "fraction":
        balance = num_experts * (kept.sum(dim=0) / (count * experts.shape[-1]) * total / count).sum()
    else:
        mass = (probabilities * kept).sum(dim=0)
        balance = num_experts * (mass / count * mass).sum() / count**2
    return importance + balance


def reconstruction_loss(
    reconstruction: Tensor, labels: Tensor, selected: Tensor, exponent: float = 2.0, root: bool = False
) -> Tensor:
    """
    Mean of `|error|^exponent` over the selected samples, all three `[B, C, T]`, companded; with `root` its root, as
    paper eq. 7 prints it.
    """
    error = (reconstruction - labels.to(reconstruction.dtype)).abs() ** exponent
    loss = (error * selected).sum() / selected.sum().clamp(min=1)
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


__all__ = ["balanced_bce_loss", "expert_balance_loss", "reconstruction_loss"]
