"""Second looks: who is there is seen in the mirrored picture too, and a tree is not."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest

from nightcrawler.pose.estimators.base import UNRELATED
from nightcrawler.pose.people import follow_people
from nightcrawler.pose.second_look import (
    LOOKED_AT,
    is_confirmed,
    look_again,
    shares_seen_again,
)
from tests.pose.estimators import DotEstimator

FPS = 15.0
HEIGHT, WIDTH = 120, 160


def pictures(columns: list[int | None]) -> np.ndarray:
    """A red dot in each picture at a column, `None` for an empty picture."""
    frames = np.full((len(columns), HEIGHT, WIDTH, 3), 20, np.uint8)
    for frame, column in zip(frames, columns, strict=True):
        if column is not None:
            frame[54:66, column - 6 : column + 6] = (250, 20, 20)
    return frames


class Left(DotEstimator):
    """See a person at the left end of every picture, as in a lit tree."""

    def estimate(self, frames: np.ndarray, fps: float) -> np.ndarray:
        points = super().estimate(pictures([20] * len(frames)), fps)
        return points[:1]


class FarSighted(DotEstimator):
    """See nobody in single pictures."""

    def estimate(self, frames: np.ndarray, fps: float) -> np.ndarray:
        points = super().estimate(frames, fps)
        return points * np.float32(np.nan if fps == UNRELATED else 1)


def looks(estimator: DotEstimator, frames: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    points = estimator.estimate(frames, FPS)
    checks = look_again(estimator.estimate, frames, points, FPS, estimator.layout)
    return points, checks


def test_who_is_there_is_seen_again_in_some_frames() -> None:
    columns = [None, *range(30, 90, 2), None]
    _, checks = looks(DotEstimator("dots"), pictures(columns))
    known = np.flatnonzero(np.isfinite(checks[0]))
    assert len(known) == LOOKED_AT
    assert (known[0], known[-1]) == (1, len(columns) - 2)
    assert (checks[0, known] == 1).all()
    # The second index of the estimator holds nobody.
    assert np.isnan(checks[1]).all()


def test_what_stays_at_its_place_in_the_mirrored_picture_is_nobody() -> None:
    _, checks = looks(Left("tree"), pictures([None] * 20))
    assert checks.shape == (1, 20)
    assert (checks == 0).all()


def test_who_is_missed_in_single_pictures_is_followed_through_all_frames() -> None:
    _, checks = looks(FarSighted("far"), pictures(list(range(30, 70, 2))))
    assert (checks[0] == 1).all()


def test_who_is_missed_is_told_from_others_whose_index_it_shares() -> None:
    """One who is near and one who is far change places in the answer, frame by frame."""

    class Alternating(DotEstimator):
        def estimate(self, frames: np.ndarray, fps: float) -> np.ndarray:
            points = super().estimate(frames, fps)
            if fps == UNRELATED:
                points[:, frames[:, ..., 1].max(axis=(1, 2)) > 200] = np.nan
            points[:, ::2] = points[::-1, ::2].copy()
            return points

    frames = pictures([40] * 20)
    frames[:, 54:60, 120:126] = (20, 250, 20)
    points, checks = looks(Alternating("both"), frames)
    people = follow_people(points, FPS, 2, "coco17")
    assert shares_seen_again(people, points, checks) == [1.0, 1.0]


HIDDEN = {"head": range(5), "left": range(5, 16, 2), "legs and ears": (3, 4, *range(13, 17))}


@pytest.mark.parametrize("hidden", HIDDEN.values(), ids=HIDDEN)
def test_joints_that_were_not_seen_do_not_count(hidden: Sequence[int]) -> None:
    frames = pictures([80] * 9)
    estimator = DotEstimator("dots")
    points = estimator.estimate(frames, FPS)
    points[..., list(hidden), :] = np.nan
    checks = look_again(estimator.estimate, frames, points, FPS, estimator.layout)
    assert np.nanmin(checks) == 1


class Wide(DotEstimator):
    """See people whose left joints are far to the right of the right ones in the picture."""

    def estimate(self, frames: np.ndarray, fps: float) -> np.ndarray:
        points = super().estimate(frames, fps)
        points[..., 1::2, 0] += 40
        points[..., 2::2, 0] -= 40
        return points


class Confused(Wide):
    """Exchange left and right in all looks but the first."""

    num_looks = 0

    def estimate(self, frames: np.ndarray, fps: float) -> np.ndarray:
        points = super().estimate(frames, fps)
        self.num_looks += 1
        if self.num_looks > 1:
            points[..., 1:, :] = points[..., [*range(2, 17, 2), *range(1, 17, 2)], :]
        return points


def test_left_and_right_are_told_apart() -> None:
    assert np.nanmin(looks(Wide("wide"), pictures([80] * 9))[1]) == 1
    assert np.nanmax(looks(Confused("confused"), pictures([80] * 9))[1]) == 0


@pytest.mark.parametrize(
    ("share", "confirmed"),
    [(0.0, False), (0.25, False), (0.26, True), (1.0, True), (math.nan, True)],
)
def test_more_than_a_quarter_of_the_looks_confirm(share: float, confirmed: bool) -> None:
    assert is_confirmed(share) is confirmed


def test_shares_go_with_people_whose_index_changes() -> None:
    frames = pictures([40] * 20)
    # A second person, green.
    frames[:, 54:62, 110:118] = (20, 250, 20)
    points = DotEstimator("dots").estimate(frames, FPS)
    checks = np.full((2, 20), np.nan, np.float32)
    checks[0, 2:6] = 1
    checks[1, 2:6] = 0
    # In the second half the estimator gives them in the other order.
    points[:, 10:] = points[::-1, 10:]
    checks[1, 12:14] = 1
    checks[0, 12:16] = 0
    people = follow_people(points, FPS, 2, "coco17")
    assert shares_seen_again(people, points, checks) == pytest.approx([1.0, 0.0])
    nobody = np.full_like(people, np.nan)
    assert all(map(math.isnan, shares_seen_again(nobody, points, checks)))
