"""
The losses: of the experts' balance, of pre-training and of a task (docs/model.md sections 6 and 8).

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
    classes, mean over windows. `logits [B, classes]` are z, `labels` are classes `[B]` or, for several labels at once,
    0 and 1 `[B, classes]`; `class_prior [classes]` are the shares pi in the training set (needed for K > 0),
    `prior_weight` is K.
    """
    if prior_weight > 0:
        logits = logits + prior_weight * torch.logit(class_prior)
    targets = labels if labels.dim() == 2 else F.one_hot(labels, logits.shape[-1])
    return F.binary_cross_entropy_with_logits(logits, targets.to(logits.dtype), reduction="none").sum(dim=-1).mean()


def problem_type_of(config: NeurIPTConfig, labels: Tensor | None = None) -> str:
    """
    What the labels are: `config.problem_type`, else inferred as transformers does it. One label is `"regression"`,
    several are `"single_label_classification"` if `labels` are integers or not given, else
    `"multi_label_classification"`.
    """
    if config.problem_type is not None:
        return config.problem_type
    if config.num_labels == 1:
        return "regression"
    one_class = labels is None or not labels.is_floating_point()
    return "single_label_classification" if one_class else "multi_label_classification"


def classification_loss(logits: Tensor, labels: Tensor, config: NeurIPTConfig) -> Tensor:
    """
    The task's loss, without the experts' auxiliary loss: as transformers chooses it by [`problem_type_of`], or Bal-BCE
    with `config.loss_type`. The squared error of regression is that of standardised numbers if the configuration has
    `target_mean` and `target_scale`.

    Args:
        logits: `[B, num_labels]`.
        labels: classes `[B]`; 0 and 1 `[B, num_labels]` for several labels at once; numbers `[B, num_labels]`, also
            `[B]` if it is one.

    Raises:
        ValueError: for labels that are out of range or of a kind that the problem type cannot take.
    """
    problem_type = problem_type_of(config, labels)
    check_labels(labels, len(logits), problem_type, config.num_labels)
    if problem_type == "regression":
        errors = logits - labels.view_as(logits).float()
        if config.target_scale is not None:
            errors = errors / torch.tensor(config.target_scale, dtype=torch.float32, device=errors.device)
        return errors.square().mean()
    several = problem_type == "multi_label_classification"
    if not several:
        labels = labels.flatten().long()
    if config.loss_type == "balanced_bce":
        prior = config.class_prior
        prior = None if prior is None else torch.tensor(prior, dtype=logits.dtype, device=logits.device)
        return balanced_bce_loss(logits, labels, prior, config.prior_weight)
    if several:
        return F.binary_cross_entropy_with_logits(logits, labels.to(logits.dtype))
    return F.cross_entropy(logits, labels)


def check_labels(labels: Tensor, windows: int, problem_type: str, num_labels: int) -> None:
    """
    Checks the labels of a batch, as [`classification_loss`] takes them. In a compiled model it sees only their shape
    and type.

    Raises:
        ValueError: for labels that are out of range or of a kind that the problem type cannot take.
    """
    one_class = problem_type == "single_label_classification"
    shapes = [[windows], [windows, 1]] if one_class else [[windows, num_labels]]
    if problem_type == "regression" and num_labels == 1:
        shapes.append([windows])
    if list(labels.shape) not in shapes or (one_class and labels.is_floating_point()):
        kinds = {
            "single_label_classification": "integers, the class of each window and not a row or a real number,",
            "multi_label_classification": "zeros and ones, a row for each window,",
            "regression": "numbers, a row for each window,",
        }
        raise ValueError(
            f"{problem_type} with num_labels={num_labels} needs labels that are {kinds[problem_type]} of shape "
            f"{' or '.join(map(str, shapes))}, but they are {labels.dtype} of shape {list(labels.shape)}. Give such "
            "labels, or set problem_type: 'single_label_classification' is for one of num_labels classes, "
            "'multi_label_classification' for several of num_labels labels at once, 'regression' for numbers."
        )
    # Reading values makes a GPU wait; a compiled or exported model cannot do it.
    if torch.compiler.is_compiling() or labels.is_meta:
        return
    if problem_type == "regression":
        good, wanted = labels.isfinite(), "finite numbers. Leave windows without a number out"
    elif one_class:
        good = (labels >= 0) & (labels < num_labels)
        wanted = f"classes from 0 to {num_labels - 1}. Number classes from 0, and set num_labels to how many there are"
    else:
        good = (labels >= 0) & (labels <= 1)
        wanted = "0 or 1 for each label. For numbers to predict set problem_type='regression'"
    if not good.all():
        raise ValueError(f"There are labels {labels[~good].unique()[:5].tolist()}, but they must be {wanted}.")


__all__ = [
    "balanced_bce_loss",
    "check_labels",
    "classification_loss",
    "expert_balance_loss",
    "mean_over_processes",
    "problem_type_of",
    "reconstruction_loss",
]
