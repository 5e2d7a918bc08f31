"""BatchNorm statistics of the last minutes of a stream.

Statistics that follow a stream suffer where it shows one class for a while: they become those of
the class, and what tells it from others is normalised away (Gong et al., "NOTE: robust continual
test-time adaptation against temporal correlation", NeurIPS 2022). Here each layer follows the
stream only as far as its mean has moved more than windows differ from one another.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from nightcrawler.adapt.batchnorm import Moments, batchnorm_layers, running_statistics

# Seconds after which a window counts half: short enough for dusk, long enough to hold many actions.
HALF_LIFE_SEC = 120.0
# Seconds of the stream that the model's own statistics are worth: a window alone is one scene.
START_SEC = 20.0
# Variances between windows that a squared shift must exceed where all windows show one class. In
# synthetic clips the means of classes vary 1 to 2.4 times as much as windows of a class do.
DOUBT = 4.0


@dataclass
class _LayerMemory:
    """Averages of a layer over the windows of a stream, float64 `[C]` each.

    Attributes:
        own_mean: running mean of the trained model.
        own_var: running variance of the trained model.
        mean: average of the windows' means.
        second: average of the windows' second moments.
        square: average of the windows' squared means.
    """

    own_mean: Tensor
    own_var: Tensor
    mean: Tensor
    second: Tensor
    square: Tensor

    def learn(self, moments: Moments, share: float) -> None:
        """Let a window take a share, 0 to 1, of the averages."""
        mean = moments.first / moments.count
        self.mean = torch.lerp(self.mean, mean, share)
        self.second = torch.lerp(self.second, moments.second / moments.count, share)
        self.square = torch.lerp(self.square, mean.square(), share)

    def statistics(self, weight: float, num_classes: float, eps: float) -> tuple[Tensor, Tensor]:
        """Return mean and variance between the model's own and those of the stream.

        Args:
            weight: share of the stream, 0 to 1, if its shift is beyond doubt.
            num_classes: effective number of classes that the windows show.
            eps: of the layer.
        """
        scale = self.own_var + eps
        shift = ((self.mean - self.own_mean).square() / scale).mean().item()
        spread = ((self.square - self.mean.square()).clamp_min(0) / scale).mean().item()
        share = weight * trust(shift, spread, num_classes)
        variance = (self.second - self.mean.square()).clamp_min(0)
        return (
            torch.lerp(self.own_mean, self.mean, share),
            torch.lerp(self.own_var, variance, share),
        )


def trust(shift: float, spread: float, num_classes: float) -> float:
    """Return how far a shift of a layer's mean is that of the camera, 0 to 1.

    The part of the squared shift that classes alone may explain is taken off, as James and Stein
    shrink a mean. The mean over n classes varies by an n-th of their variance.

    Example:
        >>> trust(shift=1.0, spread=0.1, num_classes=1.0)
        0.6
        >>> trust(shift=1.0, spread=0.5, num_classes=1.0)
        0.0

    Args:
        shift: squared shift, in variances of the layer's input.
        spread: variance between windows, in the same unit.
        num_classes: effective number of classes that the windows show, 1 or more.
    """
    if shift <= 0:
        return 0.0
    return max(0.0, 1.0 - DOUBT * spread / (num_classes * shift))


class OnlineBatchNorm:
    """BatchNorm statistics that follow a stream, in memory that does not grow.

    A window is answered with the statistics of the windows before it. Its own count from the next
    window on: the answer does not depend on how the clips of a window are batched. Outside of
    `window`, the model has its own statistics.

    Example:
        >>> model = nn.Sequential(nn.BatchNorm3d(3)).eval()
        >>> online = OnlineBatchNorm(model)
        >>> with online.window():
        ...     _ = model(torch.rand(1, 3, 2, 8, 8))
        >>> online.learn(passed_sec=4.0, seen_sec=4.0, class_id=0)
        >>> online.seconds
        4.0

    Args:
        model: classifier of clips, in evaluation mode.
        half_life_sec: seconds of the stream after which a window counts half.

    Attributes:
        seconds: seconds of the stream in the statistics, those long ago counting less.
    """

    def __init__(self, model: nn.Module, half_life_sec: float = HALF_LIFE_SEC) -> None:
        self.half_life_sec = half_life_sec
        self.seconds = 0.0
        self._layers = batchnorm_layers(model)
        self._class_seconds: dict[int, float] = {}
        self._moments: dict[str, Moments] = {}
        self._memories: dict[str, _LayerMemory] = {}
        # Bit for bit, to be put back.
        self._own: dict[str, tuple[Tensor, Tensor]] = {}
        for name, layer in self._layers.items():
            mean, variance = running_statistics(layer)
            self._own[name] = (mean.clone(), variance.clone())
        self.restart()

    @property
    def num_layers(self) -> int:
        """Number of BatchNorm layers."""
        return len(self._layers)

    def restart(self) -> None:
        """Forget the stream: the next window is answered with the model's own statistics."""
        self.seconds = 0.0
        self._class_seconds = {}
        self._moments = {}
        for name, (mean, variance) in self._own.items():
            empty = torch.zeros_like(mean, dtype=torch.float64)
            self._memories[name] = _LayerMemory(
                mean.double(), variance.double(), empty, empty, empty
            )

    @contextlib.contextmanager
    def window(self) -> Iterator[None]:
        """Answer a window during the block: the clips that the model gets are those of the window.

        The model normalises by the statistics of the stream, and the moments of the clips are
        kept for `learn`.
        """
        hooks = []
        self._moments = {}
        for name, layer in self._layers.items():
            self._moments[name] = Moments(layer)
            hooks.append(layer.register_forward_pre_hook(self._moments[name].observe))
            if self.seconds > 0:
                self._place(layer, *self._statistics(name, layer))
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()
            for name, layer in self._layers.items():
                self._place(layer, *self._own[name])

    @torch.no_grad()
    def learn(self, passed_sec: float, seen_sec: float, class_id: int) -> None:
        """Add the last window to the statistics.

        Args:
            passed_sec: seconds since the window before ended, by which older windows fade.
            seen_sec: seconds of new frames in this one, its weight. Less where frames were lost.
            class_id: class that the model says.
        """
        if seen_sec <= 0 or not self._moments:
            return
        fading = 0.5 ** (passed_sec / self.half_life_sec)
        self.seconds = self.seconds * fading + seen_sec
        share = seen_sec / self.seconds
        for name, moments in self._moments.items():
            self._memories[name].learn(moments, share)
        self._moments = {}
        for label in self._class_seconds:
            self._class_seconds[label] *= fading
        self._class_seconds[class_id] = self._class_seconds.get(class_id, 0.0) + seen_sec

    def _statistics(self, name: str, layer: _BatchNorm) -> tuple[Tensor, Tensor]:
        """Return the statistics of a layer for the next window."""
        weight = self.seconds / (self.seconds + START_SEC)
        # Inverse Simpson index: n of n classes that are equally frequent.
        squares = sum(seconds**2 for seconds in self._class_seconds.values())
        num_classes = self.seconds**2 / squares
        return self._memories[name].statistics(weight, num_classes, layer.eps)

    @staticmethod
    def _place(layer: _BatchNorm, mean: Tensor, variance: Tensor) -> None:
        running_mean, running_var = running_statistics(layer)
        running_mean.copy_(mean)
        running_var.copy_(variance)
