"""Mixup (Zhang et al. 2018) and cutmix (Yun et al. 2019) of a batch with itself in reverse order."""

from __future__ import annotations

import numpy as np
from torch import Tensor
from torch.nn import functional


def one_hot_smooth(labels: Tensor, num_classes: int, smoothing: float = 0.0) -> Tensor:
    """float32 `[B, K]`: 1 - s + s / K at the label, s / K elsewhere, for labels int64 `[B]`."""
    return (
        functional.one_hot(labels, num_classes).float() * (1 - smoothing) + smoothing / num_classes
    )


def mix_reversed(values: Tensor, lam: float) -> Tensor:
    """Lam x values + (1 - lam) x values in reverse batch order."""
    return values * lam + values.flip(0) * (1 - lam)


def mixup_target(
    labels: Tensor, num_classes: int, lam: float = 1.0, smoothing: float = 0.0
) -> Tensor:
    """Smoothed one-hot targets `[B, K]`, mixed with those of the reversed batch."""
    return mix_reversed(one_hot_smooth(labels, num_classes, smoothing), lam)


def cutmix_box(
    height: int,
    width: int,
    lam: float,
    rng: np.random.Generator | None = None,
    centre: tuple[int, int] | None = None,
) -> tuple[tuple[int, int, int, int], float]:
    """The box that is pasted: sides sqrt(1 - lam) of the frame's, around `centre` (y, x) or a drawn one.

    Returns:
        (y low, y high, x low, x high), cut to the frame, and lam corrected to the area that is left.
    """
    if centre is None:
        if rng is None:
            raise ValueError("cutmix_box needs a generator or a centre")
        centre = int(rng.integers(height)), int(rng.integers(width))
    ratio = np.sqrt(1 - lam)
    half_h, half_w = int(height * ratio) // 2, int(width * ratio) // 2
    y_low, y_high = (
        int(np.clip(edge, 0, height)) for edge in (centre[0] - half_h, centre[0] + half_h)
    )
    x_low, x_high = (
        int(np.clip(edge, 0, width)) for edge in (centre[1] - half_w, centre[1] + half_w)
    )
    area = (y_high - y_low) * (x_high - x_low)
    return (y_low, y_high, x_low, x_high), 1.0 - area / float(height * width)


class MixUp:
    """Mixes a batch's clips and targets, hard or soft alike.

    Args:
        mixup_alpha: Beta(a, a) of mixup, 0 for none.
        cutmix_alpha: Beta(a, a) of cutmix, 0 for none.
        prob: probability that a batch is mixed.
        switch_prob: probability of cutmix where both are on.
        label_smoothing: of hard labels.
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
        self.mixup_alpha, self.cutmix_alpha = mixup_alpha, cutmix_alpha
        self.prob, self.switch_prob = prob, switch_prob
        self.label_smoothing, self.num_classes = label_smoothing, num_classes

    def draw(self, rng: np.random.Generator) -> tuple[str, float]:
        """(`none`, `mixup` or `cutmix`; lam) of one batch."""
        if (self.mixup_alpha == 0 and self.cutmix_alpha == 0) or rng.random() >= self.prob:
            return "none", 1.0
        both = self.mixup_alpha > 0 and self.cutmix_alpha > 0
        cut = rng.random() < self.switch_prob if both else self.cutmix_alpha > 0
        alpha = self.cutmix_alpha if cut else self.mixup_alpha
        return "cutmix" if cut else "mixup", float(rng.beta(alpha, alpha))

    def __call__(
        self, clip: Tensor, target: Tensor, rng: np.random.Generator
    ) -> tuple[Tensor, Tensor]:
        """Mixed clips and targets; the caller's tensors are left as they are.

        Args:
            clip: `[B, 3, T, H, W]`.
            target: labels int64 `[B]`, or probabilities `[B, K]`.
            rng: where the draw comes from.

        Returns:
            clips `[B, 3, T, H, W]` and targets float32 `[B, K]`.
        """
        soft = (
            target
            if target.ndim == 2
            else one_hot_smooth(target, self.num_classes, self.label_smoothing)
        )
        kind, lam = self.draw(rng)
        if kind == "none":
            return clip, soft
        if kind == "mixup":
            return mix_reversed(clip, lam), mix_reversed(soft, lam)
        (y_low, y_high, x_low, x_high), lam = cutmix_box(*clip.shape[-2:], lam, rng)
        mixed = clip.clone()
        mixed[..., y_low:y_high, x_low:x_high] = clip.flip(0)[..., y_low:y_high, x_low:x_high]
        return mixed, mix_reversed(soft, lam)
