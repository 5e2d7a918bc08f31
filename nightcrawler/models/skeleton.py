"""Graph of a skeleton, and streams of joints: what models of skeletons share.

Clips of skeletons are float32 `[B, 3, T, V]`: x, y and confidence of V joints in T steps.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from nightcrawler.pose.layouts import BODY_JOINTS, BONES
from nightcrawler.utils.errors import ArgumentError

NUM_JOINTS = len(BODY_JOINTS)
STREAMS = ("joint", "bone", "velocity")
# Values of one joint in a stream: x, y and confidence.
CHANNELS = 3

Bones = Sequence[tuple[int, int]]


def parents_of(num_joints: int, bones: Bones) -> list[int]:
    """Return for each joint the near end of the first bone that ends in it, or the joint itself.

    Args:
        num_joints: V.
        bones: pairs of joints, the one nearer to the trunk first.
    """
    parents = list(range(num_joints))
    for near, far in reversed(bones):
        parents[far] = near
    return parents


def spatial_graph(num_joints: int, bones: Bones) -> np.ndarray:
    """Return the three adjacency matrices of ST-GCN++: joint itself, inward and outward bones.

    Args:
        num_joints: V.
        bones: pairs of joints, the one nearer to the trunk first.

    Returns:
        float32 `[3, V, V]`. Entry `[k, v, w]` is the weight of joint v in the sum for joint w.
        Columns that are not empty sum to 1.
    """
    graph = np.zeros((3, num_joints, num_joints), np.float32)
    graph[0] = np.eye(num_joints)
    for near, far in bones:
        graph[1, near, far] = 1
        graph[2, far, near] = 1
    return graph / np.maximum(graph.sum(axis=1, keepdims=True), 1)


def check_streams(streams: Sequence[str]) -> tuple[str, ...]:
    """Return the streams.

    Raises:
        ArgumentError: if there is none, one is unknown, or one is named twice.
    """
    known = set(streams) <= set(STREAMS)
    if not streams or not known or len(set(streams)) < len(streams):
        raise ArgumentError(
            f"streams {list(streams)}: expected one or more of {', '.join(STREAMS)}, each once",
            "streams",
        )
    return tuple(streams)


def bone_stream(clip: Tensor, parents: Sequence[int]) -> Tensor:
    """Return the vectors from each joint's parent to the joint, with the mean of both confidences.

    Args:
        clip: `[B, 3, T, V]`.
        parents: parent of each joint, the joint itself at the root.
    """
    near = clip[..., list(parents)]
    return torch.cat([(clip - near)[:, :2], (clip[:, 2:] + near[:, 2:]) / 2], dim=1)


def velocity_stream(clip: Tensor) -> Tensor:
    """Return the difference to the next step, 0 in the last, with the mean of both confidences.

    Args:
        clip: `[B, 3, T, V]`.
    """
    after = torch.cat([clip[:, :, 1:], clip[:, :, -1:]], dim=2)
    return torch.cat([(after - clip)[:, :2], (clip[:, 2:] + after[:, 2:]) / 2], dim=1)


def join_streams(clip: Tensor, streams: Sequence[str], parents: Sequence[int]) -> Tensor:
    """Return the streams of a clip as channels, `[B, 3 S, T, V]` of `[B, 3, T, V]`.

    Args:
        clip: x, y and confidence.
        streams: names of `STREAMS`.
        parents: parent of each joint.
    """
    parts = []
    for stream in streams:
        if stream == "joint":
            parts.append(clip)
        elif stream == "bone":
            parts.append(bone_stream(clip, parents))
        else:
            parts.append(velocity_stream(clip))
    return torch.cat(parts, dim=1)


def check_width(width: int, least: int) -> None:
    """Refuse a width that leaves a branch without channels.

    Args:
        width: channels of the first block.
        least: number of branches.

    Raises:
        ArgumentError: with both numbers.
    """
    if width < least:
        raise ArgumentError(f"width {width}: expected at least {least} channels", "width")


def check_skeletons(clip: Tensor, num_joints: int) -> None:
    """Refuse clips that are not `[B, 3, T, V]`.

    Raises:
        ArgumentError: with the shape.
    """
    if clip.ndim != 4 or clip.shape[1] != CHANNELS or clip.shape[3] != num_joints:
        raise ArgumentError(
            f"clips have shape {list(clip.shape)}, models of skeletons take "
            f"[B, {CHANNELS}, T, {num_joints}]",
            "clip",
        )


# Graph of the layout `body`, which every layout is mapped to.
BODY_BONES: Bones = BONES
