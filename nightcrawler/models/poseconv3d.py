"""Heatmaps of joints through a video network: PoseConv3D's way.

Duan et al., "Revisiting Skeleton-based Action Recognition", CVPR 2022, section 3: a clip is the
volume `[V, T, S, S]` of a Gaussian at each joint, cropped to the figure's way. The network is Slow,
as there, with the fewer layers that small data ask for.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from nightcrawler.models.resnet3d import ResNet3D
from nightcrawler.models.skeleton import NUM_JOINTS, check_skeletons, check_streams
from nightcrawler.utils.errors import ArgumentError

# Side of the heatmaps and standard deviation of the joints' Gaussians, in cells, as in the paper.
SIZE = 56
SIGMA = 0.6
# Side of the crop over the longer side of the box around all joints of a clip.
MARGIN = 1.1
# Side of a crop, in heights of a figure, where all joints are in one place.
LEAST_SIDE = 0.1
DEPTH = 18


def crop_of(clip: Tensor) -> tuple[Tensor, Tensor]:
    """Return the square around all joints of a clip that are seen.

    Args:
        clip: `[B, 3, T, V]`.

    Returns:
        Centres `[B, 2]` and sides `[B]`. Where nothing is seen, a square of two heights.
    """
    places = clip[:, :2]
    seen = clip[:, 2:] > 0
    low = torch.where(seen, places, torch.inf).amin(dim=(2, 3))
    high = torch.where(seen, places, -torch.inf).amax(dim=(2, 3))
    low = torch.where(low.isfinite(), low, -1)
    high = torch.where(high.isfinite(), high, 1)
    return (low + high) / 2, MARGIN * (high - low).amax(dim=1).clamp_min(LEAST_SIDE)


def heatmaps(clip: Tensor, size: int = SIZE, sigma: float = SIGMA) -> Tensor:
    """Draw a Gaussian at each joint, as high as its confidence.

    Args:
        clip: `[B, 3, T, V]`.
        size: side of the heatmaps in cells.
        sigma: standard deviation in cells.

    Returns:
        `[B, V, T, size, size]`, rows from top to bottom.
    """
    centre, side = crop_of(clip)
    shares = (clip[:, :2] - centre[..., None, None]) / side[:, None, None, None] + 0.5
    cells = shares * size - 0.5
    grid = torch.arange(size, dtype=clip.dtype, device=clip.device)
    # Separable: [B, 2, T, V, size].
    lines = (-((grid - cells[..., None]) ** 2) / (2 * sigma**2)).exp()
    columns = lines[:, 0, ..., None, :]
    rows = (lines[:, 1] * clip[:, 2, ..., None])[..., None]
    return (rows * columns).transpose(1, 2)


class PoseConv3D(nn.Module):
    """Heatmaps of joints through a Slow network: clips `[B, 3, T, 13]` to logits `[B, K]`.

    Args:
        num_classes: K.
        width: channels of the stem; the paper's network has 32.
        streams: `joint` alone, for heatmaps have no velocity.
        dropout: before the classifier.

    Raises:
        ArgumentError: if `streams` is out of range.

    Example:
        >>> import torch
        >>> PoseConv3D(num_classes=11, width=8)(torch.zeros(1, 3, 4, 13)).shape
        torch.Size([1, 11])
    """

    def __init__(
        self,
        num_classes: int,
        width: int = 64,
        streams: Sequence[str] = ("joint",),
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if check_streams(streams) != ("joint",):
            raise ArgumentError(
                f"streams {list(streams)}: heatmaps are of joints, expected ['joint']", "streams"
            )
        self.network = ResNet3D(
            num_classes,
            arch="slow",
            depth=DEPTH,
            width=width,
            in_channels=NUM_JOINTS,
            dropout=dropout,
        )

    def forward(self, clip: Tensor) -> Tensor:
        """Classify clips `[B, 3, T, 13]`, to logits `[B, K]`."""
        check_skeletons(clip, NUM_JOINTS)
        logits: Tensor = self.network(heatmaps(clip))
        return logits
