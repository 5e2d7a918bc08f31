"""Rules that give an answer its status, each by footage or probabilities made for it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from nightcrawler.data.footage import Footage
from nightcrawler.predict.trust import TRUST, Judge, longest, rank

DARK = Footage(num_frames=60, fps=30.0, brightness=20.0, contrast=40.0)
CLEAR = np.array([0.05, 0.9, 0.05])
VAGUE = np.array([0.3, 0.4, 0.3])


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({}, "sure"),
        ({"probs": VAGUE}, "unsure"),
        ({"incomplete": True}, "unsure"),
        ({"support": 0.4}, "models disagree"),
        ({"support": 0.5}, "sure"),
        ({"nobody": True}, "no person"),
        ({"footage": replace(DARK, num_frames=1)}, "too short"),
        ({"footage": replace(DARK, num_frames=9)}, "too short"),
        ({"footage": replace(DARK, num_frames=9, fps=0.0)}, "sure"),
        ({"footage": replace(DARK, contrast=1.0)}, "too dark even when lit"),
        ({"footage": replace(DARK, brightness=90.0)}, "not dark"),
        # White throughout: nothing to see, and not for want of light.
        ({"footage": replace(DARK, brightness=250.0, contrast=0.0)}, "not dark"),
        ({"footage": None}, "sure"),
        # The first reason holds.
        ({"footage": replace(DARK, num_frames=1), "support": 0.1}, "too short"),
        ({"footage": replace(DARK, num_frames=1, contrast=1.0)}, "too short"),
        # However short it is: who is not there in any frame does nothing.
        ({"footage": replace(DARK, num_frames=1), "nobody": True}, "no person"),
        ({"footage": replace(DARK, contrast=1.0), "nobody": True}, "too dark even when lit"),
        ({"nobody": True, "support": 0.1}, "no person"),
        ({"support": 0.1, "probs": VAGUE}, "models disagree"),
    ],
)
def test_a_status_for_each_reason(changes: dict[str, Any], status: str) -> None:
    given: dict[str, Any] = {"probs": CLEAR, "footage": DARK, **changes}
    probs = given.pop("probs")
    assert Judge().status(probs, 1, **given) == status
    assert status in TRUST


def test_videos_that_are_not_lit_may_be_bright() -> None:
    bright = replace(DARK, brightness=120.0)
    assert Judge(dark=False).status(CLEAR, 1, footage=bright) == "sure"


def test_a_threshold_takes_the_place_of_the_lead() -> None:
    probs = np.array([0.55, 0.45])
    assert Judge().status(probs, 0) == "unsure"
    assert Judge(threshold=0.55).status(probs, 0) == "sure"
    assert Judge(threshold=0.56).status(probs, 0) == "unsure"
    # A label switch may answer a class that is not the most probable one.
    assert Judge().status(CLEAR, 0) == "unsure"
    assert Judge(threshold=0.5).status(CLEAR, 0) == "unsure"
    assert Judge().status(np.array([1.0]), 0) == "sure"


def test_the_status_that_holds_longest_and_of_equals_the_less_trusted() -> None:
    assert longest([("sure", 1.0), ("unsure", 2.0), ("sure", 1.5)]) == "sure"
    assert longest([("sure", 1.0), ("no person", 1.0), ("unsure", 1.0)]) == "no person"


def test_answers_are_sorted_by_status_and_then_by_probability() -> None:
    sorted_ones = [
        *(("sure", 0.6), ("unsure", 0.9), ("unsure", 0.3), ("models disagree", 0.8)),
        *(("no person", 1.0), ("too short", 1.0), ("damaged: 2 s are lost", 1.0)),
    ]
    ranks = [rank(*one) for one in sorted_ones]
    assert ranks == sorted(ranks, reverse=True)
    assert len(set(ranks)) == len(ranks)
    assert min(ranks) > 0
