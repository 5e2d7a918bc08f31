"""Clean pseudo-labels: those that the model that is being trained finds most probable.

A network fits right labels before wrong ones, so after a first epoch a small loss is a sign of a
right label (Han et al. 2018, co-teaching, section 3). The loss of a hard label is the negative
logarithm of its probability, so the order is the same.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nightcrawler.data.batch_sampler import MicroBatchSampler
from nightcrawler.data.build import EvalSet
from nightcrawler.pseudo.predictions import Predictions
from nightcrawler.pseudo.thresholds import selected, top_fraction


@dataclass
class CleanLabels:
    """Choice of the pseudo-labelled clips that a training goes on with.

    Attributes:
        eval_set: the pseudo-labelled clips as they are tested, with their pseudo-labels.
        sampler: of the pseudo-labelled stream.
        share: share of each class to keep, above 0.
    """

    eval_set: EvalSet
    sampler: MicroBatchSampler
    share: float

    def choose(self, predictions: Predictions) -> int:
        """Restrict the stream to the cleanest labels, and return their number.

        Args:
            predictions: of the model, for the clips of `eval_set`.
        """
        kept = cleanest(predictions, self.share)
        self.sampler.keep(kept)
        return len(kept)

    def state(self) -> dict[str, list[int]]:
        """Return the choice for a checkpoint: positions of kept clips, nothing for all."""
        kept = self.sampler.kept
        return {} if kept is None else {"kept": kept.tolist()}

    def load_state(self, state: dict[str, list[int]]) -> None:
        """Restore a choice.

        Args:
            state: return value of `state`.
        """
        self.sampler.keep(np.array(state["kept"], np.int64) if "kept" in state else None)


def cleanest(predictions: Predictions, share: float) -> np.ndarray:
    """Return the rows of each class whose label is the most probable, int64, in ascending order.

    Rows that tie are all kept, so that the order of rows does not matter.

    Args:
        predictions: of N clips with a label each, whose probabilities are `[N, K]`.
        share: of the rows of each class, rounded up.
    """
    labels = predictions.labels
    probs = np.take_along_axis(predictions.probs, labels[:, None], axis=1)[:, 0]
    # Clips that cannot be read come last.
    probs = np.where(predictions.ok, probs, 0.0)
    thresholds = top_fraction(labels, probs, predictions.probs.shape[1], share)
    return np.flatnonzero(selected(labels, probs, thresholds))
