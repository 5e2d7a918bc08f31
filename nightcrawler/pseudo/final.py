"""From models' probabilities to the submission of one mode."""

from __future__ import annotations

import numpy as np

from nightcrawler.pseudo.ensemble import Joined, mix, softmax
from nightcrawler.pseudo.label_switches import apply_switches
from nightcrawler.pseudo.recipe import Mode
from nightcrawler.pseudo.submission import Submission


def final_submission(joined: Joined, mode: Mode, softmax_again: bool = False) -> Submission:
    """Mix, take the most probable class, switch labels, and say how probable the class is.

    Videos without a prediction get class 0, all classes being equally probable.

    Args:
        joined: the models of the mode.
        mode: its weights and switches.
        softmax_again: write softmax(probabilities) as the published files did; it changes no class.
    """
    num_classes = joined.probs[0].shape[1]
    probs = mix(joined.probs, mode.ensemble.mixture(num_classes))
    probs[~joined.ok] = 1 / num_classes
    labels = np.where(joined.ok, apply_switches(probs.argmax(axis=1), probs, mode.switches), 0)
    written = softmax(probs) if softmax_again else probs
    return Submission(
        joined.names, labels, np.take_along_axis(written, labels[:, None], axis=1)[:, 0], written
    )
