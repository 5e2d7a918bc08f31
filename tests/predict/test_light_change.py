"""Detector of changes of the light, on streams whose changes are known."""

from __future__ import annotations

import numpy as np
import pytest

from nightcrawler.predict.light_change import LightChange, measure_light

WINDOW_SEC = 2.0


def changes(levels: list[float]) -> list[int]:
    """Numbers of the windows at which a detector finds another light, by mean levels in stops."""
    detector = LightChange()
    found = []
    for number, level in enumerate(levels):
        state = detector.see(np.array([level, 1.0]), (number + 1) * WINDOW_SEC)
        if state == "changed":
            found.append(number)
    return found


def test_a_lamp_is_a_change_once_each_way() -> None:
    assert changes([3.0] * 5 + [5.0] * 5 + [3.0] * 5) == [6, 11]


def test_headlights_are_not() -> None:
    assert changes([3.0] * 5 + [6.0] + [3.0] * 5) == []


def test_dusk_is_not() -> None:
    # A stop a minute is 30 times as fast as dusk.
    assert changes(list(np.linspace(6.0, 2.0, 120))) == []


def test_a_light_near_the_limit_does_not_switch_to_and_fro() -> None:
    levels = [3.0] * 5 + [4.05, 3.95] * 20
    assert len(changes(levels)) == 1


def test_noise_alone_is_a_change_too() -> None:
    detector = LightChange()
    lights = [np.array([3.0, 1.0])] * 3 + [np.array([3.0, 2.5])] * 3
    states = [detector.see(light, 2.0 * place) for place, light in enumerate(lights)]
    assert states == ["steady", "steady", "steady", "doubtful", "changed", "steady"]


def test_light_of_frames_whose_level_and_noise_are_known() -> None:
    rng = np.random.default_rng(0)
    frames = [np.full((200, 300, 3), 250, np.uint8)]
    for _ in range(8):
        grey = np.clip(rng.normal(31.0, 4.0, (200, 300, 1)), 0, 255).round()
        frames.append(np.repeat(grey, 3, axis=2).astype(np.uint8))
    level, noise = measure_light(frames)
    # The first frame is not among the newest.
    assert level == pytest.approx(5.0, abs=0.02)
    assert noise == pytest.approx(np.log2(4.5), abs=0.1)


def test_one_tiny_frame_has_a_light() -> None:
    assert measure_light([np.zeros((1, 1, 3), np.uint8)]).tolist() == [0.0, -1.0]
