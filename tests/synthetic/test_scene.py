from dataclasses import replace

import numpy as np
import pytest

from nightcrawler.pose.layouts import HANDS
from nightcrawler.synthetic.render import Capsule
from nightcrawler.synthetic.scene import render_clip, sample_scene

# In `figure_shapes`, the last of six limbs of each side.
HAND_SHAPES = (5, 11)


def scene_of(mirrored):
    for seed in range(20):
        scene = sample_scene(np.random.default_rng(seed), "Wave", 6, 10, 120, 160)
        if scene.camera.mirrored == mirrored:
            return scene
    raise AssertionError


@pytest.mark.parametrize("mirrored", [False, True])
def test_joints_are_where_they_are_drawn(mirrored):
    scene = scene_of(mirrored)
    joints = scene.joints_in_picture()
    assert joints.shape == (6, 13, 2)
    for side, number in enumerate(HAND_SHAPES):
        drawn = scene.shapes[number]
        assert isinstance(drawn, Capsule)
        alone = [replace(drawn, color=(255, 255, 255), radius=0.06)]
        frames = replace(scene, shapes=alone, background=0 * scene.background).frames()
        seen_as = HANDS[1 - side] if mirrored else HANDS[side]
        for frame, point in zip(frames, joints[:, seen_as], strict=True):
            rows, columns = np.nonzero(frame[..., 0] > 128)
            # The first pixel is from 0 to 1.
            assert np.abs(point - [columns.mean() + 0.5, rows.mean() + 0.5]).max() < 0.5


def test_a_scene_is_drawn_in_the_order_of_its_clip():
    arguments = ("Sit", 3, 10, 48, 64)
    frames = sample_scene(np.random.default_rng(1), *arguments).frames()
    assert np.array_equal(frames, render_clip(np.random.default_rng(1), *arguments))
