"""Graph and streams of skeletons, by hand."""

from __future__ import annotations

import numpy as np
import torch

from nightcrawler.config.schema.value_rules import STREAMS as CONFIG_STREAMS
from nightcrawler.models.skeleton import (
    STREAMS,
    bone_stream,
    join_streams,
    parents_of,
    spatial_graph,
    velocity_stream,
)
from nightcrawler.pose.layouts import BODY_JOINTS, BONES

# Joint 0 is the trunk; 1 hangs on it, 2 and 3 on 1, and 3 on 2 as well.
SMALL = ((0, 1), (1, 2), (1, 3), (2, 3))


def test_the_configuration_knows_the_streams() -> None:
    assert CONFIG_STREAMS == STREAMS


def test_columns_of_the_graph_are_means_of_neighbours() -> None:
    itself, inward, outward = spatial_graph(4, SMALL)
    values = np.array([1.0, 10, 100, 1000])
    np.testing.assert_allclose(values @ itself, values)
    np.testing.assert_allclose(values @ inward, [0, 1, 10, 55])
    np.testing.assert_allclose(values @ outward, [10, 550, 1000, 0], rtol=1e-6)


def test_parents_are_the_near_ends_of_first_bones() -> None:
    assert parents_of(4, SMALL) == [0, 0, 1, 1]
    parents = parents_of(13, BONES)
    named = {BODY_JOINTS[far]: BODY_JOINTS[near] for far, near in enumerate(parents)}
    assert named["left_hand"] == "left_elbow"
    assert named["right_knee"] == "right_hip"
    assert named["head"] == "left_shoulder"
    assert [joint for joint, near in named.items() if joint == near] == ["left_shoulder"]


def test_bones_and_velocities_by_hand() -> None:
    clip = torch.zeros(1, 3, 2, 4)
    clip[0, 0, 0] = torch.tensor([1.0, 3, 7, 20])
    clip[0, 0, 1] = torch.tensor([2.0, 3, 7, 25])
    clip[0, 2] = torch.tensor([[1.0, 0.5, 0, 1], [0, 0.5, 1, 1]])
    bones = bone_stream(clip, parents_of(4, SMALL))
    assert bones[0, 0, 0].tolist() == [0, 2, 4, 17]
    assert bones[0, 2, 0].tolist() == [1, 0.75, 0.25, 0.75]
    velocity = velocity_stream(clip)
    assert velocity[0, 0].tolist() == [[1, 0, 0, 5], [0, 0, 0, 0]]
    assert velocity[0, 2].tolist() == [[0.5, 0.5, 0.5, 1], [0, 0.5, 1, 1]]
    joined = join_streams(clip, ("velocity", "joint"), parents_of(4, SMALL))
    assert torch.equal(joined, torch.cat([velocity, clip], dim=1))
