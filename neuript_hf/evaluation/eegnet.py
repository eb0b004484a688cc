"""EEGNet, a small convolutional network, as a supervised baseline on the same windows as the model."""

import numpy as np
import torch
from scipy.special import log_softmax
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.class_weight import compute_class_weight
from sklearn.utils.multiclass import type_of_target
from torch import Tensor, nn
from torch.nn import functional as F


# Batch size of predictions.
PREDICTED_AT_ONCE = 256


class EEGNet(nn.Module):
    """
    EEGNet-8,2 (Lawhern et al. 2018, J. Neural Eng. 15:056013, table 2): temporal filters, spatial filters for each of
    them, a separable convolution, and a linear layer. Kernels and pooling have the paper's lengths in seconds: half a
    second for the temporal filters, pooling to 32 Hz, half a second again, pooling to 4 Hz.

    Args:
        num_channels, num_classes: of the windows.
        sampling_rate: in hertz, a multiple of 32.
        num_samples: length of the windows, at least a quarter of a second.
        dropout: the paper has 0.25 across people and 0.5 within a person.

    Raises:
        ValueError: for another rate, or shorter windows.
    """

    TEMPORAL_FILTERS, DEPTH, SEPARABLE_FILTERS = 8, 2, 16
    RATE_AFTER_POOLING = 32
    LAST_POOLING = 8

    def __init__(
        self, num_channels: int, num_classes: int, sampling_rate: int, num_samples: int, dropout: float = 0.25
    ):
        super().__init__()
        pooling, rest = divmod(int(sampling_rate), self.RATE_AFTER_POOLING)
        if rest or sampling_rate % 1 or not pooling:
            raise ValueError(f"EEGNet's pooling needs a multiple of 32 Hz, but the sampling rate is {sampling_rate}.")
        length = num_samples // pooling // self.LAST_POOLING
        if not length:
            raise ValueError(
                f"EEGNet needs windows of at least {pooling * self.LAST_POOLING} samples, but these have "
                f"{num_samples}. Use longer windows."
            )
        filters, spatial, last = self.TEMPORAL_FILTERS, self.TEMPORAL_FILTERS * self.DEPTH, self.SEPARABLE_FILTERS
        kernel, separable_kernel = int(sampling_rate) // 2, self.RATE_AFTER_POOLING // 2
        self.spatial = nn.Conv2d(filters, spatial, (num_channels, 1), groups=filters, bias=False)
        # padding="same" by hand: for even kernels torch would copy the input, with a warning
        self.features = nn.Sequential(
            nn.ZeroPad2d((kernel // 2 - 1, kernel // 2, 0, 0)),
            nn.Conv2d(1, filters, (1, kernel), bias=False),
            nn.BatchNorm2d(filters),
            self.spatial,
            nn.BatchNorm2d(spatial),
            nn.ELU(),
            nn.AvgPool2d((1, pooling)),
            nn.Dropout(dropout),
            nn.ZeroPad2d((separable_kernel // 2 - 1, separable_kernel // 2, 0, 0)),
            nn.Conv2d(spatial, spatial, (1, separable_kernel), groups=spatial, bias=False),
            nn.Conv2d(spatial, last, 1, bias=False),
            nn.BatchNorm2d(last),
            nn.ELU(),
            nn.AvgPool2d((1, self.LAST_POOLING)),
            nn.Dropout(dropout),
        )
        self.classifier = nn.Linear(last * length, num_classes)

    def forward(self, signals: Tensor) -> Tensor:
        """`[B, C, T]` -> logits `[B, num_classes]`."""
        return self.classifier(self.features(signals[:, None]).flatten(1))

    @torch.no_grad()
    def limit_weights(self) -> None:
        """The paper's bounds on the norm of each spatial filter (1) and of each class's weights (0.25)."""
        for weight, bound in ((self.spatial.weight, 1.0), (self.classifier.weight, 0.25)):
            weight.copy_(weight.renorm(2, 0, bound))


class EEGNetClassifier(ClassifierMixin, BaseEstimator):
    """
    [`EEGNet`] as a scikit-learn classifier of signals `[windows, channels, samples]` in microvolt, with fixed
    settings: Adam at 1e-3, batches of 32, balanced class weights, always the same number of steps. On training people
    left out, 1500 steps gained 0.07 to 0.10 over 500 where the classes differ in rhythms (mental arithmetic, flicker),
    and lost 0.02 where they differ in evoked responses. Signals are divided by the standard deviation of the median
    training window and clipped at ten times that, so that a few windows with artefacts do not set the scale.

    Args:
        sampling_rate: of the signals, in hertz, a multiple of 32.
        steps: of the optimizer.
        seed: of weights, order and dropout; the program's other random numbers are unaffected.
    """

    def __init__(self, sampling_rate: float, steps: int = 1500, seed: int = 0):
        self.sampling_rate = sampling_rate
        self.steps = steps
        self.seed = seed

    def fit(self, signals: np.ndarray, labels: np.ndarray) -> "EEGNetClassifier":
        """
        Args:
            signals: `[windows, channels, samples]`, microvolt.
            labels: class of each window.

        Raises:
            ValueError: for labels that are not one class for each window, for a single class, or as [`EEGNet`].
        """
        if (kind := type_of_target(labels)) not in ("binary", "multiclass"):
            raise ValueError(f"EEGNet learns one class for each window, but the labels are {kind}.")
        self.classes_, targets = np.unique(labels, return_inverse=True)
        if len(self.classes_) < 2:
            raise ValueError(f"A classifier needs two classes or more, but all labels are {self.classes_.tolist()}.")
        self.scale_ = float(np.median(signals.std(axis=(1, 2)))) or 1.0
        inputs, targets = self._scaled(signals), torch.as_tensor(targets)
        balance = compute_class_weight("balanced", classes=np.arange(len(self.classes_)), y=targets.numpy())
        with torch.random.fork_rng():
            torch.manual_seed(self.seed)
            self.network_ = EEGNet(signals.shape[1], len(self.classes_), self.sampling_rate, signals.shape[2])
            self._train(inputs, targets, torch.as_tensor(balance, dtype=torch.float32))
        return self

    def _train(self, inputs: Tensor, targets: Tensor, balance: Tensor) -> None:
        optimizer = torch.optim.Adam(self.network_.parameters(), lr=1e-3)
        self.network_.train()
        order = torch.empty(0, dtype=torch.long)
        for _ in range(self.steps):
            while len(order) < 32:
                order = torch.cat([order, torch.randperm(len(inputs))])
            rows, order = order[:32], order[32:]
            loss = F.cross_entropy(self.network_(inputs[rows]), targets[rows], weight=balance)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            self.network_.limit_weights()

    def _scaled(self, signals: np.ndarray) -> Tensor:
        return torch.as_tensor(signals / self.scale_, dtype=torch.float32).clamp(-10, 10)

    @torch.no_grad()
    def predict_log_proba(self, signals: np.ndarray) -> np.ndarray:
        """Log probability of each class, `[windows, classes]`."""
        self.network_.eval()
        parts = self._scaled(signals).split(PREDICTED_AT_ONCE)
        return log_softmax(torch.cat([self.network_(part) for part in parts]).double().numpy(), axis=1)

    def predict_proba(self, signals: np.ndarray) -> np.ndarray:
        """Probability of each class, `[windows, classes]`."""
        return np.exp(self.predict_log_proba(signals))

    def predict(self, signals: np.ndarray) -> np.ndarray:
        """The likeliest class of each window."""
        return self.classes_[self.predict_log_proba(signals).argmax(axis=1)]


__all__ = ["EEGNet", "EEGNetClassifier"]
