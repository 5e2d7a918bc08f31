"""Mixup (Zhang et al., ICLR 2018) and CutMix (Yun et al., ICCV 2019) of a batch."""

from __future__ import annotations

import numpy as np
from torch import Tensor
from torch.nn import functional


def one_hot_smooth(labels: Tensor, num_classes: int, smoothing: float = 0.0) -> Tensor:
    """Return smoothed one-hot targets: 1 - s + s / K at the label, s / K elsewhere.

    Args:
        labels: int64 `[B]`.
        num_classes: K.
        smoothing: s, 0 to 1 (Szegedy et al., CVPR 2016).

    Returns:
        float32 `[B, K]`.
    """
    one_hot = functional.one_hot(labels, num_classes).float()
    return one_hot * (1 - smoothing) + smoothing / num_classes


def mix_reversed(values: Tensor, lam: float) -> Tensor:
    """Return lam x values + (1 - lam) x values in reverse batch order."""
    return values * lam + values.flip(0) * (1 - lam)


def mixup_target(
    labels: Tensor, num_classes: int, lam: float = 1.0, smoothing: float = 0.0
) -> Tensor:
    """Return smoothed one-hot targets `[B, K]`, mixed with those of the reversed batch.

    Args:
        labels: int64 `[B]`.
        num_classes: K.
        lam: share of a clip's own target.
        smoothing: label smoothing, 0 to 1.
    """
    return mix_reversed(one_hot_smooth(labels, num_classes, smoothing), lam)


def cutmix_box(
    height: int,
    width: int,
    lam: float,
    rng: np.random.Generator | None = None,
    centre: tuple[int, int] | None = None,
) -> tuple[tuple[int, int, int, int], float]:
    """Return the box that CutMix pastes: sides sqrt(1 - lam) of the frame's (section 3.1).

    Args:
        height: rows of a frame.
        width: columns of a frame.
        lam: share of the frame that is kept, before the box is clipped to the frame.
        rng: generator that the centre is drawn from.
        centre: (y, x) of the box, drawn if not given.

    Returns:
        (first row, row after the last, first column, column after the last), and lam corrected to
        the area that is kept.

    Raises:
        ValueError: if neither `rng` nor `centre` is given.
    """
    if centre is None:
        if rng is None:
            raise ValueError("cutmix_box needs rng or centre")
        centre = (int(rng.integers(height)), int(rng.integers(width)))
    ratio = np.sqrt(1 - lam)
    y_low, y_high = _clipped_edges(centre[0], int(height * ratio) // 2, height)
    x_low, x_high = _clipped_edges(centre[1], int(width * ratio) // 2, width)
    area = (y_high - y_low) * (x_high - x_low)
    return (y_low, y_high, x_low, x_high), 1.0 - area / float(height * width)


def _clipped_edges(centre: int, half: int, size: int) -> tuple[int, int]:
    """Return `centre - half` and `centre + half`, clipped to 0..size."""
    low = min(max(centre - half, 0), size)
    return low, min(max(centre + half, 0), size)


class MixUp:
    """Mixup, CutMix and label smoothing of a batch, for hard and soft targets alike.

    Example:
        >>> import numpy as np, torch
        >>> mix = MixUp(0.8, 1.0, prob=1.0, switch_prob=0.5, label_smoothing=0.1, num_classes=11)
        >>> clip = torch.rand(4, 3, 8, 32, 32)
        >>> mixed, target = mix(clip, torch.tensor([0, 3, 3, 10]), np.random.default_rng(0))
        >>> mixed.shape == clip.shape, list(target.shape)
        (True, [4, 11])

    Args:
        mixup_alpha: parameter of mixup's Beta(a, a), 0 for no mixup.
        cutmix_alpha: parameter of CutMix's Beta(a, a), 0 for no CutMix.
        prob: probability that a batch is mixed.
        switch_prob: probability of CutMix if both are on.
        label_smoothing: smoothing of hard labels, 0 to 1.
        num_classes: K.
    """

    def __init__(
        self,
        mixup_alpha: float,
        cutmix_alpha: float,
        prob: float,
        switch_prob: float,
        label_smoothing: float,
        num_classes: int,
    ) -> None:
        self.mixup_alpha = mixup_alpha
        self.cutmix_alpha = cutmix_alpha
        self.prob = prob
        self.switch_prob = switch_prob
        self.label_smoothing = label_smoothing
        self.num_classes = num_classes

    def draw(self, rng: np.random.Generator) -> tuple[str, float]:
        """Draw the kind of mixing of one batch (`none`, `mixup` or `cutmix`) and lam."""
        is_off = self.mixup_alpha == 0 and self.cutmix_alpha == 0
        # A draw only if mixing is on: the generator's sequence is part of a run's identity.
        if is_off or rng.random() >= self.prob:
            return "none", 1.0
        if self.mixup_alpha > 0 and self.cutmix_alpha > 0:
            use_cutmix = rng.random() < self.switch_prob
        else:
            use_cutmix = self.cutmix_alpha > 0
        if use_cutmix:
            return "cutmix", float(rng.beta(self.cutmix_alpha, self.cutmix_alpha))
        return "mixup", float(rng.beta(self.mixup_alpha, self.mixup_alpha))

    def __call__(
        self, clip: Tensor, target: Tensor, rng: np.random.Generator
    ) -> tuple[Tensor, Tensor]:
        """Mix clips and targets, without changing the tensors passed in.

        Args:
            clip: `[B, 3, T, H, W]`.
            target: labels int64 `[B]`, or probabilities `[B, K]`.
            rng: generator of the draws.

        Returns:
            Clips `[B, 3, T, H, W]` and targets float32 `[B, K]`.
        """
        soft = target
        if target.ndim == 1:
            soft = one_hot_smooth(target, self.num_classes, self.label_smoothing)
        kind, lam = self.draw(rng)
        if kind == "none":
            return clip, soft
        if kind == "mixup":
            return mix_reversed(clip, lam), mix_reversed(soft, lam)
        height, width = clip.shape[-2:]
        (y_low, y_high, x_low, x_high), lam = cutmix_box(height, width, lam, rng)
        mixed = clip.clone()
        mixed[..., y_low:y_high, x_low:x_high] = clip.flip(0)[..., y_low:y_high, x_low:x_high]
        return mixed, mix_reversed(soft, lam)
