"""Estimators for tests: they see figures drawn as bright dots, and fail where a video tells them to."""

from __future__ import annotations

import os
import signal
import time

import numpy as np

from nightcrawler.pose.estimators.base import UNRELATED, EstimatorOptions
from nightcrawler.utils.registries import ESTIMATORS
from tests.pose.people import COCO

# Levels of the left upper corner by which a video tells what happens to it.
CRASH, HANG, BUG, SHAPE, TREE = 60, 100, 140, 180, 225
# Of the size of a dot in the pictures.
DOT_PX = 12


class DotEstimator:
    """See a person around each red and each green dot, the brighter one first."""

    layout = "coco17"

    def __init__(self, source: str) -> None:
        self.source = source
        self.num_resets = 0
        self.largest = 0

    def reset(self) -> None:
        self.num_resets += 1

    def estimate(self, frames: np.ndarray, fps: float) -> np.ndarray:
        self.largest = max(self.largest, frames.nbytes)
        points = np.full((2, len(frames), 17, 3), np.nan, np.float32)
        for number, frame in enumerate(frames.astype(int)):
            red = frame[..., 0] - frame[..., 1] > 90
            green = frame[..., 1] - frame[..., 0] > 90
            dots = sorted((dot for dot in (red, green) if dot.any()), key=lambda dot: -dot.sum())
            for person, dot in enumerate(dots):
                where = np.argwhere(dot).mean(axis=0)
                points[person, number, :, :2] = where[::-1] + 0.5 + COCO * 0.3
                points[person, number, :, 2] = 0.9
        return points


class FailingEstimator(DotEstimator):
    """Do what the left upper corner of a video tells."""

    def estimate(self, frames: np.ndarray, fps: float) -> np.ndarray:
        if fps == UNRELATED:
            # Parts of pictures have other corners.
            return super().estimate(frames, fps)
        corner = float(frames[0, 4:8, 4:8].mean())
        if abs(corner - CRASH) < 15:
            os.kill(os.getpid(), signal.SIGSEGV)
        if abs(corner - HANG) < 15:
            time.sleep(600)
        if abs(corner - BUG) < 15:
            raise ZeroDivisionError("no such\nthing")
        if abs(corner - SHAPE) < 15:
            return np.zeros((1, 3, 17, 3), np.float32)
        if abs(corner - TREE) < 15:
            # Somebody where nobody is: the mirrored picture shows nothing there.
            person = np.concatenate([80 + COCO * 0.3, np.full((17, 1), 0.9)], axis=1)
            return np.tile(person.astype(np.float32), (1, len(frames), 1, 1))
        return super().estimate(frames, fps)


@ESTIMATORS.register("dots")
def build_dots(options: EstimatorOptions) -> FailingEstimator:
    return FailingEstimator("dots 1" + options.model)
