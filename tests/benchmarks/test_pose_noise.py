"""Errors by hand, and the tables of an estimator that sees nobody and of one that sees a scarecrow."""

from pathlib import Path

import numpy as np
import pytest

from benchmarks.pose_errors import NORMAL_MAD, measure_errors
from benchmarks.pose_noise import (
    COLUMNS,
    LEAST_RECORDINGS,
    LIGHTS,
    describe,
    describe_constant,
    measure_noise,
    record_figures,
)
from nightcrawler.pose.estimators.base import EstimatorOptions
from nightcrawler.pose.layouts import HANDS, MIRRORED
from nightcrawler.prepare.pose_files import PoseRecipe
from nightcrawler.utils.registries import ESTIMATORS
from tests.reading import read_file

NUM_FRAMES = 40
# Head, then left and right shoulder, elbow, hand, hip, knee, ankle of one who faces the camera.
SCARECROW = np.array(
    [
        [0, 0],
        *[[12, 15], [-12, 15]],
        *[[25, 30], [-25, 30]],
        *[[30, 45], [-30, 45]],
        *[[8, 50], [-8, 50]],
        *[[8, 75], [-8, 75]],
        *[[8, 100], [-8, 100]],
    ],
    np.float64,
)


class ScarecrowEstimator:
    """See the same person in the middle of every picture."""

    layout = "body"
    source = "scarecrow"

    def reset(self):
        """Do nothing."""

    def estimate(self, frames, fps):
        points = np.ones((1, len(frames), 13, 3), np.float32)
        points[..., :2] = SCARECROW + [160, 60]
        return points


@ESTIMATORS.register("scarecrow")
def build_scarecrow(options: EstimatorOptions):
    return ScarecrowEstimator()


def figure():
    """Joints of a figure of height 100 that walks to the right, `[40, 13, 2]`."""
    return 40 + SCARECROW + np.arange(NUM_FRAMES)[:, None, None] * [2, 0]


def errors_of(change):
    """Errors of an estimate that is right, but for what `change` does to it in place."""
    points = np.concatenate([figure(), np.ones((NUM_FRAMES, 13, 1))], axis=-1)
    change(points)
    return measure_errors(points, figure())


def row_of(errors):
    """Name of column to cell, where all recordings are alike."""
    return dict(zip(COLUMNS, describe([errors] * LEAST_RECORDINGS), strict=True))


def test_an_offset_is_a_constant_error_and_nothing_else():
    def change(points):
        points[..., :2] += [3, 4]

    found = errors_of(change)
    np.testing.assert_allclose(found.constant, np.full((13, 2), [0.03, 0.04]))
    assert found.jitter == pytest.approx(0, abs=1e-9)
    assert found.slow == pytest.approx(0, abs=1e-9)
    assert describe([found] * LEAST_RECORDINGS) == [
        *["100.0", "0.0", "0.0", "-", "5"],
        *["0.00 (0.00 to 0.00)", "0.00 (0.00 to 0.00)", "0.0", "0.0"],
    ]
    assert describe_constant([found] * LEAST_RECORDINGS) == ["5.0"] * 7


def test_exchanged_sides_are_counted_and_set_right():
    def change(points):
        points[10:20] = points[10:20][:, MIRRORED]

    found = errors_of(change)
    assert np.flatnonzero(found.swapped).tolist() == list(range(10, 20))
    np.testing.assert_allclose(found.joints, 0, atol=1e-12)
    assert row_of(found)["sides swapped"] == "25.0"


def test_frames_without_a_person_are_lost_where_it_comes_again():
    def change(points):
        points[:4] = np.nan
        points[10:12] = np.nan
        # Bridged.
        points[30, :, 2] = 0

    found = errors_of(change)
    assert found.seen.sum() == len(found.joints) == 33
    assert found.lost == [2, 1]
    row = row_of(found)
    assert row["a person in"] == f"{100 * 33 / 40:.1f}"
    # 3 of the 36 frames from the first to the last with a person; 1.5 frames of 15 a second.
    assert (row["lost"], row["s at a time"]) == ("8.3", "0.10")


def test_somebody_else_is_no_error_of_joints():
    def change(points):
        points[5:15, :, 0] += 60

    found = errors_of(change)
    assert found.seen.all()
    assert (~found.on_figure).sum() == 10
    np.testing.assert_allclose(found.joints, 0, atol=1e-12)
    assert row_of(found)["of them not the figure"] == "25.0"


def test_a_joint_is_misplaced_where_it_is_a_tenth_of_the_height_away():
    def change(points):
        points[:, HANDS[0], 0] += 5
        points[8:12, HANDS[0], 1] += 12
        points[20:24, HANDS[1], 1] += 9

    found = errors_of(change)
    assert found.misplaced.sum(axis=0)[list(HANDS)].tolist() == [4, 0]
    assert row_of(found)["joints misplaced"] == f"{100 * 4 / (40 * 13):.1f}"


def test_jitter_is_the_deviation_of_a_normal_one():
    rng = np.random.default_rng(0)

    def change(points):
        points[..., :2] += rng.normal(0, 2.0, points[..., :2].shape)

    assert errors_of(change).jitter == pytest.approx(0.02, rel=0.1)


def test_jitter_and_slow_errors_by_hand():
    def alternate(points):
        points[::2, :, 0] += 1
        points[::2, :, 1] += 1
        points[-1] = np.nan

    # Of 38 differences between frames, 19 are 0.01 up and 19 down.
    assert errors_of(alternate).jitter == pytest.approx(NORMAL_MAD * 0.01 / np.sqrt(2))

    def drift(points):
        points[:20, ..., :2] -= 3
        points[20:, ..., :2] += 3

    found = errors_of(drift)
    assert found.slow == pytest.approx(NORMAL_MAD * 0.03)
    assert found.jitter == pytest.approx(0, abs=1e-9)


def test_few_recordings_that_show_the_figure_have_no_errors():
    def hide(points):
        points[7:] = np.nan

    right = errors_of(lambda points: None)
    found = [right] * (LEAST_RECORDINGS - 1) + [errors_of(hide)]
    assert describe(found) == ["83.5", "0.0", "0.0", "-", "4", *["-"] * 4]
    assert describe_constant(found) == ["-"] * 7
    assert describe_constant([right, *found])[0] == "0.0"


def test_the_same_figures_are_recorded_in_each_light(tmp_path):
    recordings = list(record_figures(tmp_path, 1, 0))
    assert {one.light for one in recordings} == set(LIGHTS)
    means = {}
    for one in recordings:
        frames = read_file(str(one.path), range).frames
        assert frames.shape == (30, 240, 320, 3)
        if one.size == 160:
            means[one.light] = frames.mean()
            np.testing.assert_array_equal(one.joints, recordings[-1].joints)
    assert max(means, key=means.get) == "bright"
    height = np.ptp(recordings[-1].joints[..., 1], axis=1)
    assert 100 < np.median(height) < 180


@pytest.mark.parametrize(("name", "share"), [("blind", "0.0"), ("scarecrow", "100.0")])
def test_tables_have_a_row_for_each_light_and_size(tmp_path: Path, name, share):
    modules = ("benchmarks.pose_speed", __name__)
    recipe = PoseRecipe(name, light="none", imports=modules)
    lines = list(measure_noise(tmp_path, 1, 0, recipe, 1))
    rows = [line.strip("| ").split(" | ") for line in lines]
    shares = [row[2] for row in rows[2:14]]
    assert shares == [share] * 12
    assert [row[:2] for row in rows[2:14]] == [row[:2] for row in rows[17:]]
    assert {len(row) for row in rows[17:]} == {9}
    # Poses that are there are not made again.
    times = [path.stat().st_mtime_ns for path in sorted(tmp_path.glob("*.npz"))]
    assert list(measure_noise(tmp_path, 1, 0, recipe, 1)) == lines
    assert [path.stat().st_mtime_ns for path in sorted(tmp_path.glob("*.npz"))] == times
