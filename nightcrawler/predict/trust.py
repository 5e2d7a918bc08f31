"""Whether an answer is to be believed: the status of a video that has a prediction."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from nightcrawler.data.footage import Footage
from nightcrawler.pseudo.predictions import STATUS_OK
from nightcrawler.utils.errors import NO_PERSON

SURE = "sure"
UNSURE = "unsure"
DISAGREE = "models disagree"
NOT_DARK = "not dark"
TOO_DARK = "too dark even when lit"
TOO_SHORT = "too short"
# In the place of a class, with `--reject`.
NOTHING_KNOWN = "nothing known"
# From the most to the least trusted. Results of earlier versions are `ok`: they were not judged.
TRUST = (SURE, STATUS_OK, UNSURE, DISAGREE, NOT_DARK, NO_PERSON, TOO_DARK, TOO_SHORT)

# An action takes longer. Estimators of poses also ask for this long, less a frame.
LEAST_SEC = 0.4
LEAST_FRAMES = 8
# Enhancement aims at this mean level (`auto_gamma`): a picture that is brighter is not lit by it.
DARK_BELOW = 64.0
# Fewer levels between the darkest and the brightest part of a picture show nothing when they are
# stretched.
LEAST_CONTRAST = 4.0
# Least lead over the second class where nothing is known of how often a probability is right.
MARGIN = 0.5
# Least share of the models' weight that must vote for the class.
LEAST_SUPPORT = 0.5


@dataclass(frozen=True)
class Judge:
    """Rules that give an answer its status.

    Attributes:
        threshold: least probability of a sure answer. None asks for a lead of `MARGIN`.
        basis: how the threshold was set, for people.
        dark: videos are enhanced as dark ones.

    Example:
        >>> Judge(threshold=0.8).status(np.array([0.85, 0.15]), 0)
        'sure'
        >>> Judge().status(np.array([0.7, 0.3]), 0)
        'unsure'
    """

    threshold: float | None = None
    basis: str = f"a lead of {MARGIN:g} over the second class"
    dark: bool = True

    def status(
        self,
        probs: np.ndarray,
        class_id: int,
        *,
        support: float = 1.0,
        nobody: bool = False,
        short: bool = False,
        incomplete: bool = False,
        footage: Footage | None = None,
    ) -> str:
        """Return the status of an answer, one of `TRUST`.

        Args:
            probs: probabilities `[K]`.
            class_id: predicted class.
            support: share of the models' weight that votes for this class.
            nobody: a model of people saw nobody, or what may be nobody.
            short: a model of people saw a video that is too short to show an action.
            incomplete: a model could not answer, which says nothing about the video.
            footage: length and light of the video, None where it was not measured.
        """
        if (short or (footage is not None and is_short(footage))) and not nobody:
            return TOO_SHORT
        is_bright = footage is not None and footage.brightness >= DARK_BELOW
        if footage is not None and footage.contrast < LEAST_CONTRAST and not is_bright:
            return TOO_DARK
        if nobody:
            return NO_PERSON
        if is_bright and self.dark:
            return NOT_DARK
        if support < LEAST_SUPPORT:
            return DISAGREE
        if incomplete or not self._is_confident(probs, class_id):
            return UNSURE
        return SURE

    def about(self) -> dict[str, Any]:
        """Return the least probability of a sure answer, None for none, and its basis."""
        least = self.threshold
        if least is not None and not math.isfinite(least):
            # JSON has no such number, and the basis says that no answer is sure.
            least = None
        return {"sure_from": least, "basis": self.basis}

    def _is_confident(self, probs: np.ndarray, class_id: int) -> bool:
        confidence = float(probs[class_id])
        if self.threshold is not None:
            return confidence >= self.threshold
        others = np.delete(probs, class_id)
        return confidence - float(others.max(initial=0.0)) >= MARGIN


# Of models of pictures that have seen drawn clips only. All four of the package agree, with a mean
# of 0.82, on a dark scene without anybody (docs/use.md).
NEVER = Judge(math.inf, "never: these models of pictures have seen drawn clips only")


def is_short(footage: Footage) -> bool:
    """Return whether a video is too short to show an action."""
    if footage.num_frames < LEAST_FRAMES:
        return True
    return footage.fps > 0 and footage.num_frames / footage.fps < LEAST_SEC


def rank(status: str, probability: float) -> float:
    """Return a number that sorts answers: by their status, and within it by their probability.

    Args:
        status: status of the answer. One that is not of `TRUST`, as of a damaged video, is the
            least trusted.
        probability: probability of its class.

    Example:
        >>> rank("no person", 0.9) < rank("unsure", 0.2) < rank("unsure", 0.3)
        True
    """
    place = TRUST.index(status) if status in TRUST else len(TRUST)
    return len(TRUST) - place + probability


def without_certainty(status: str) -> str:
    """Return the status of an answer that a sure one does not cover: of another class, or a mean.

    Args:
        status: status of the answer that may be sure.
    """
    return UNSURE if status == SURE else status


def status_of_mean(
    stretches: Iterable[tuple[str, float]], probability: float, least_sure: float
) -> str:
    """Return the status of one class over stretches of time.

    That which holds longest. Only a mean that is as probable as an answer that was sure is sure.

    Args:
        stretches: statuses and how long each holds, at least one.
        probability: mean probability of the class.
        least_sure: least probability of the stretches that are sure, infinite where none is.

    Example:
        >>> stretches = [("sure", 3.0), ("unsure", 2.0)]
        >>> status_of_mean(stretches, 0.7, 0.65), status_of_mean(stretches, 0.5, 0.65)
        ('sure', 'unsure')
    """
    status = longest(stretches)
    return status if probability >= least_sure else without_certainty(status)


def longest(stretches: Iterable[tuple[str, float]]) -> str:
    """Return the status that holds longest, of equals the less trusted one.

    Args:
        stretches: statuses and how long each holds, at least one.
    """
    lengths: dict[str, float] = {}
    for status, length in stretches:
        lengths[status] = lengths.get(status, 0.0) + length
    return max(lengths, key=lambda status: (lengths[status], TRUST.index(status)))
