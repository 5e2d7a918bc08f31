"""Presets: the old ones give the clips they gave, and `street` widens what is dark alone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from nightcrawler.cli.synthetic import parse
from nightcrawler.synthetic import street
from nightcrawler.synthetic.actions import ACTIONS, action_time
from nightcrawler.synthetic.dataset import DatasetSpec, clip_frames, make_plan, write_dataset
from nightcrawler.synthetic.presets import PRESETS
from nightcrawler.synthetic.render import SUPERSAMPLING, Capsule, Shape
from nightcrawler.synthetic.scene import NEAR, STREET, SceneRanges, sample_view
from nightcrawler.synthetic.skeleton import joint_positions, sample_body
from nightcrawler.synthetic.video import write_video

# Frames a second, frames, mean and standard deviation of every ninth clip of a small set, written
# down before there was a third preset. The bright ones are in all presets.
BRIGHT = [(30, 68, 142.01, 53.61), (25, 55, 118.08, 48.66), (25, 63, 106.71, 32.6)]
RECORDED = {
    "night": [
        *BRIGHT,
        (30, 84, 19.4, 10.63),
        (25, 57, 22.69, 6.87),
        (15, 38, 10.79, 5.19),
        (30, 83, 21.38, 10.2),
    ],
    "darker": [
        *BRIGHT,
        (30, 84, 10.81, 7.37),
        (25, 57, 12.55, 5.39),
        (15, 38, 5.83, 3.77),
        (30, 83, 11.59, 7.6),
    ],
}


def tiny(preset: str) -> DatasetSpec:
    return DatasetSpec(
        train=1, val=1, unlabel=1, arid=1, test=1, height=48, width=64, preset=preset
    )


@pytest.mark.parametrize("preset", RECORDED)
def test_clips_of_old_presets_are_what_they_were(preset: str) -> None:
    spec = tiny(preset)
    for plan, (fps, length, mean, std) in zip(
        make_plan(spec).clips[::9], RECORDED[preset], strict=True
    ):
        frames, found_fps = clip_frames(plan, spec)
        assert (found_fps, len(frames)) == (fps, length)
        # One more draw would move these by far more than another version of the drawing library.
        np.testing.assert_allclose([frames.mean(), frames.std()], [mean, std], atol=0.2)


def test_bright_clips_do_not_depend_on_the_preset() -> None:
    spec, other = tiny("street"), tiny("night")
    for one, two in zip(make_plan(spec).clips[:22:5], make_plan(other).clips[:22:5], strict=True):
        np.testing.assert_array_equal(clip_frames(one, spec)[0], clip_frames(two, other)[0])


def test_the_command_offers_every_preset() -> None:
    for preset in PRESETS:
        assert parse(["--out", "x", "--preset", preset]).preset == preset
    with pytest.raises(SystemExit):
        parse(["--out", "x", "--preset", "noon"])


def views(ranges: SceneRanges, name: str) -> np.ndarray:
    rng = np.random.default_rng(0)
    joints = joint_positions(sample_body(rng), ACTIONS["Wave"](rng, np.arange(5) / 5).pose, 0.0)
    drawn = [sample_view(np.random.default_rng(n), joints, 96, 128, ranges) for n in range(200)]
    return np.array([getattr(view, name) for view in drawn])


def test_street_is_filmed_from_above() -> None:
    assert np.degrees(views(NEAR, "pitch")).max() <= 16
    assert np.degrees(views(STREET, "pitch")).min() >= 30
    assert np.ptp(views(NEAR, "ground")) == 0
    assert np.ptp(views(STREET, "ground")) > 0.05 * 96
    # Heads stay in the picture: the top of a person is below the first row.
    top = views(STREET, "ground") - views(STREET, "scale") * np.cos(views(STREET, "pitch"))
    assert top.min() > 0


def test_who_runs_towards_the_camera_stays_in_the_picture() -> None:
    for seed in range(40):
        rng = np.random.default_rng(seed)
        pose = ACTIONS["Run"](rng, np.arange(40) / 15).pose
        joints = joint_positions(sample_body(rng), pose, np.radians(85))
        camera = sample_view(rng, joints, 96, 128, STREET)
        rows = camera.project(joints["pelvis"])[0][:, 1] / SUPERSAMPLING
        assert (rows > -0.1 * 96).all(), "above the picture"
        assert (rows < 1.1 * 96).all(), "below the picture"


def test_what_a_street_shows_is_drawn_for_some_clips_only() -> None:
    def drawn(prob: float, draw: Callable[[np.random.Generator], list[Shape]]) -> None:
        found = sum(bool(draw(np.random.default_rng(seed))) for seed in range(300))
        assert abs(found / 300 - prob) < 0.08

    drawn(street.LEGS_HIDDEN_PROB, lambda rng: street.in_front(rng, 4))
    drawn(street.PASSER_BY_PROB, lambda rng: street.passer_by(rng, 4, 10))
    rng = np.random.default_rng(0)
    joints = joint_positions(sample_body(rng), ACTIONS["Wave"](rng, np.arange(4) / 5).pose, 0.0)
    some = 1 - (1 - street.COAT_PROB) * (1 - street.BAG_PROB)
    drawn(some, lambda rng: street.clothes(rng, joints, 1.0))


def test_a_passer_by_is_smaller_and_behind() -> None:
    for seed in range(60):
        for shape in street.passer_by(np.random.default_rng(seed), 6, 10):
            assert isinstance(shape, Capsule)
            assert shape.end[..., 2].max() < 0
            assert shape.end[..., 1].max() < 1.05 * street.PASSER_BY_SIZE[1]


def test_people_in_the_street_wait_and_differ_in_speed() -> None:
    durations = []
    waits = 0
    for seed in range(200):
        time = action_time(np.random.default_rng(seed), 60, 20)
        assert (np.diff(time) >= -1e-12).all()
        durations.append(time[-1])
        waits += time[4] < 0.02
    assert min(durations) < 0.5 * (59 / 20)
    assert max(durations) > 1.3 * (59 / 20)
    assert 40 <= waits <= 120


def test_a_larger_rate_factor_makes_smaller_files(tmp_path: Path) -> None:
    spec = tiny("street")
    frames, fps = clip_frames(make_plan(spec).clips[-1], spec)
    sizes = []
    for crf in (12.0, 18.0):
        write_video(tmp_path / f"{crf}.mp4", frames, fps, crf)
        sizes.append((tmp_path / f"{crf}.mp4").stat().st_size)
    # 6 more about halve the bits.
    assert sizes[1] < 0.7 * sizes[0]


def test_street_is_a_whole_dark_dataset(tmp_path: Path) -> None:
    spec = tiny("street")
    assert write_dataset(tmp_path / "data", spec, jobs=1) == (55, 55)
    dark = [plan for plan in make_plan(spec).clips if plan.dark]
    low, high = PRESETS["street"].cameras.mean
    for plan in dark[::6]:
        frames, fps = clip_frames(plan, spec)
        assert fps in STREET.fps
        assert 0.5 * low < frames.mean() < 1.5 * high
