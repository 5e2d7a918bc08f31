"""ST-GCN++: graph convolutions over joints, multi-branch convolutions over time.

Duan et al., "PYSKL: Towards Good Practices for Skeleton Action Recognition", ACM MM 2022, section
3. Names of parameters are those of its code, so that its checkpoints can be compared.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from nightcrawler.models.skeleton import (
    BODY_BONES,
    CHANNELS,
    NUM_JOINTS,
    Bones,
    check_skeletons,
    check_streams,
    check_width,
    join_streams,
    parents_of,
    spatial_graph,
)

NUM_BLOCKS = 10
# Blocks, from 1, that double the channels and halve the steps.
WIDENING = (5, 8)
DILATIONS = (1, 2, 3, 4)
# Beside the dilated convolutions: a maximum over three steps, and a convolution of one step.
NUM_BRANCHES = len(DILATIONS) + 2


def _pointwise(in_channels: int, out_channels: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(in_channels, out_channels, 1, stride=(stride, 1))


class GraphConvolution(nn.Module):
    """Mix joints along a graph whose weights are learned from the skeleton's on.

    Args:
        in_channels: channels of a joint.
        out_channels: channels of a joint afterwards.
        graph: `[K, V, V]`, where the weights start.
    """

    def __init__(self, in_channels: int, out_channels: int, graph: Tensor) -> None:
        super().__init__()
        self.A = nn.Parameter(graph.clone())
        self.bn = nn.BatchNorm2d(out_channels)
        self.conv = _pointwise(in_channels, out_channels * len(graph))
        self.down: nn.Module = nn.Identity()
        if in_channels != out_channels:
            self.down = nn.Sequential(
                _pointwise(in_channels, out_channels), nn.BatchNorm2d(out_channels)
            )

    def forward(self, joints: Tensor) -> Tensor:
        """Mix joints, `[B, C, T, V]` to `[B, C', T, V]`."""
        parts = self.conv(joints).unflatten(1, (len(self.A), -1))
        mixed = torch.einsum("nkctv,kvw->nctw", parts, self.A)
        return (self.bn(mixed) + self.down(joints)).relu()


class DilatedConvolution(nn.Module):
    """A convolution over three steps that lie `dilation` apart.

    Args:
        channels: channels before and after.
        stride: of the steps.
        dilation: distance of the steps.
    """

    def __init__(self, channels: int, stride: int, dilation: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(
            channels,
            channels,
            (3, 1),
            stride=(stride, 1),
            padding=(dilation, 0),
            dilation=(dilation, 1),
        )

    def forward(self, joints: Tensor) -> Tensor:
        """Mix steps, `[B, C, T, V]` to `[B, C, T', V]`."""
        mixed: Tensor = self.conv(joints)
        return mixed


class Residual(nn.Module):
    """A convolution and its norm, for a residual of another shape.

    Args:
        in_channels: channels before.
        out_channels: channels afterwards.
        stride: of the steps.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.conv = _pointwise(in_channels, out_channels, stride)
        self.bn = nn.BatchNorm2d(out_channels)

    def forward(self, joints: Tensor) -> Tensor:
        """Reshape, `[B, C, T, V]` to `[B, C', T', V]`."""
        reshaped: Tensor = self.bn(self.conv(joints))
        return reshaped


class MultiBranchConvolution(nn.Module):
    """Convolutions over time of several dilations, a maximum and the step itself, joined.

    Args:
        channels: channels before and after.
        stride: of the steps.
    """

    def __init__(self, channels: int, stride: int) -> None:
        super().__init__()
        width = channels // NUM_BRANCHES
        # The first branch takes what a division leaves.
        first = channels - width * (NUM_BRANCHES - 1)
        branches: list[nn.Module] = []
        for dilation in DILATIONS:
            part = width if branches else first
            branches.append(
                self._branch(channels, part, DilatedConvolution(part, stride, dilation))
            )
        pool = nn.MaxPool2d((3, 1), stride=(stride, 1), padding=(1, 0))
        branches.append(self._branch(channels, width, pool))
        branches.append(_pointwise(channels, width, stride))
        self.branches = nn.ModuleList(branches)
        self.transform = nn.Sequential(
            nn.BatchNorm2d(channels), nn.ReLU(), _pointwise(channels, channels)
        )
        self.bn = nn.BatchNorm2d(channels)

    @staticmethod
    def _branch(channels: int, width: int, over_time: nn.Module) -> nn.Sequential:
        return nn.Sequential(
            _pointwise(channels, width), nn.BatchNorm2d(width), nn.ReLU(), over_time
        )

    def forward(self, joints: Tensor) -> Tensor:
        """Mix steps, `[B, C, T, V]` to `[B, C, T', V]`."""
        joined = torch.cat([branch(joints) for branch in self.branches], dim=1)
        mixed: Tensor = self.bn(self.transform(joined))
        return mixed


class Block(nn.Module):
    """Joints, then steps are mixed, with a residual around both.

    Args:
        in_channels: channels before.
        out_channels: channels afterwards.
        graph: see `GraphConvolution`.
        stride: of the steps.
        residual: add the input. The first block does not.
    """

    def __init__(
        self, in_channels: int, out_channels: int, graph: Tensor, stride: int, residual: bool
    ) -> None:
        super().__init__()
        self.gcn = GraphConvolution(in_channels, out_channels, graph)
        self.tcn = MultiBranchConvolution(out_channels, stride)
        self.residual: nn.Module | None = None
        if residual and in_channels == out_channels and stride == 1:
            self.residual = nn.Identity()
        elif residual:
            self.residual = Residual(in_channels, out_channels, stride)

    def forward(self, joints: Tensor) -> Tensor:
        """Mix joints and steps, `[B, C, T, V]` to `[B, C', T', V]`."""
        mixed: Tensor = self.tcn(self.gcn(joints))
        if self.residual is not None:
            mixed = mixed + self.residual(joints)
        return mixed.relu()


class StGcn(nn.Module):
    """ST-GCN++: clips of skeletons `[B, 3, T, V]` to logits `[B, K]`.

    Several streams are channels of one network. The paper trains a network for each and averages
    their answers, which a config for each and an ensemble do.

    Args:
        num_classes: K.
        width: channels of the first block.
        streams: names of `skeleton.STREAMS`.
        dropout: before the classifier.
        num_joints: V.
        bones: pairs of joints, the one nearer to the trunk first.

    Raises:
        ArgumentError: if `streams` or `width` is out of range.

    Example:
        >>> import torch
        >>> StGcn(num_classes=11, width=8)(torch.zeros(2, 3, 16, 13)).shape
        torch.Size([2, 11])
    """

    def __init__(
        self,
        num_classes: int,
        width: int = 64,
        streams: Sequence[str] = ("joint",),
        dropout: float = 0.0,
        num_joints: int = NUM_JOINTS,
        bones: Bones = BODY_BONES,
    ) -> None:
        super().__init__()
        self.streams = check_streams(streams)
        self.num_joints = num_joints
        self.parents = parents_of(num_joints, bones)
        check_width(width, NUM_BRANCHES)
        graph = torch.from_numpy(spatial_graph(num_joints, bones))
        channels = CHANNELS * len(self.streams)
        self.data_bn = nn.BatchNorm1d(channels * num_joints)
        blocks = []
        for number in range(1, NUM_BLOCKS + 1):
            widens = number in WIDENING
            out_channels = width
            if number > 1:
                out_channels = channels * (2 if widens else 1)
            stride = 2 if widens else 1
            blocks.append(Block(channels, out_channels, graph, stride, residual=number > 1))
            channels = out_channels
        self.gcn = nn.ModuleList(blocks)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(channels, num_classes)

    def forward(self, clip: Tensor) -> Tensor:
        """Classify clips `[B, 3, T, V]`, to logits `[B, K]`."""
        check_skeletons(clip, self.num_joints)
        joints = join_streams(clip, self.streams, self.parents)
        # Norms of the input are those of each joint: [B, V C, T].
        batch, channels, steps, num_joints = joints.shape
        joints = joints.permute(0, 3, 1, 2).reshape(batch, num_joints * channels, steps)
        joints = self.data_bn(joints).view(batch, num_joints, channels, steps)
        joints = joints.permute(0, 2, 3, 1)
        for block in self.gcn:
            joints = block(joints)
        logits: Tensor = self.head(self.dropout(joints.mean(dim=(2, 3))))
        return logits
