"""PoseConv: a small convolution over time of what a figure does."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from nightcrawler.models.skeleton import (
    BODY_BONES,
    NUM_JOINTS,
    bone_stream,
    check_skeletons,
    check_streams,
    parents_of,
)
from nightcrawler.pose.layouts import HIPS

KERNEL = 5
# Output channels in widths, and stride of the steps, of each layer.
LAYERS = ((1, 1), (1, 2), (2, 2), (2, 2))
LAYER_DROPOUT = 0.1
# In figure heights: farther away is a fault of an estimator.
MOST = 4.0
# Speeds in heights a step are as large as places at about this number of steps a second.
SPEED_SCALE = 4.0


def posture(clip: Tensor) -> Tensor:
    """Return joints about the hips, the place of the hips, and height and width of the figure.

    Args:
        clip: `[B, 3, T, 13]`.

    Returns:
        `[B, 30, T]`.
    """
    places = clip[:, :2]
    hips = places[..., list(HIPS)].mean(dim=-1)
    about = (places - hips[..., None]).transpose(2, 3).flatten(1, 2)
    size = places.amax(dim=-1) - places.amin(dim=-1)
    return torch.cat([about, hips, size], dim=1)


def speed(values: Tensor) -> Tensor:
    """Return the half difference of the steps after and before, of `[B, C, T]` over time."""
    padded = nn.functional.pad(values, (1, 1), mode="replicate")
    return (padded[..., 2:] - padded[..., :-2]) / 2


class PoseConv(nn.Module):
    """A small convolution over time: clips of skeletons `[B, 3, T, 13]` to logits `[B, K]`.

    The stream `joint` is the posture, the place and size of the figure, and confidences,
    `velocity` the speed of posture, place and size, `bone` the vectors of bones.

    Args:
        num_classes: K.
        width: channels of the first layer.
        streams: names of `skeleton.STREAMS`.
        dropout: before the classifier.

    Raises:
        ArgumentError: if `streams` is out of range.

    Example:
        >>> import torch
        >>> PoseConv(num_classes=11, streams=["joint", "velocity"])(torch.zeros(2, 3, 32, 13)).shape
        torch.Size([2, 11])
    """

    def __init__(
        self,
        num_classes: int,
        width: int = 64,
        streams: Sequence[str] = ("joint",),
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.streams = check_streams(streams)
        self.parents = parents_of(NUM_JOINTS, BODY_BONES)
        channels = self.features(torch.zeros(1, 3, 2, NUM_JOINTS)).shape[1]
        self.norm = nn.BatchNorm1d(channels)
        layers: list[nn.Module] = []
        for widths, stride in LAYERS:
            out_channels = widths * width
            layers += [
                nn.Conv1d(channels, out_channels, KERNEL, stride, KERNEL // 2),
                nn.BatchNorm1d(out_channels),
                nn.ReLU(),
                nn.Dropout(LAYER_DROPOUT),
            ]
            channels = out_channels
        self.layers = nn.Sequential(*layers)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(channels, num_classes)

    def features(self, clip: Tensor) -> Tensor:
        """Return features of the streams at each step, `[B, C, T]` of `[B, 3, T, 13]`."""
        found = posture(clip)
        parts = []
        if "joint" in self.streams:
            parts += [found, clip[:, 2].transpose(1, 2)]
        if "bone" in self.streams:
            bones = bone_stream(clip, self.parents)[:, :2]
            parts.append(bones.transpose(2, 3).flatten(1, 2))
        if "velocity" in self.streams:
            parts.append(SPEED_SCALE * speed(found))
        return torch.cat(parts, dim=1).clamp(-MOST, MOST)

    def forward(self, clip: Tensor) -> Tensor:
        """Classify clips `[B, 3, T, 13]`, to logits `[B, K]`."""
        check_skeletons(clip, NUM_JOINTS)
        steps = self.layers(self.norm(self.features(clip)))
        logits: Tensor = self.head(self.dropout(steps.mean(dim=-1)))
        return logits
