"""End of a chain whose pseudo-labels hardly move any more."""

from __future__ import annotations

from dataclasses import dataclass

from nightcrawler.pseudo.churn import churn
from nightcrawler.pseudo.labels import read_labels
from nightcrawler.workflow.jobs import TrainingJobs
from nightcrawler.workflow.recipe import Stage


@dataclass(frozen=True)
class Stop:
    """Reason to end a chain.

    Attributes:
        stage: Stage whose labels are about those of the round before. It is not trained, and no
            stage after it.
        moved: Share of the labels that moved, 0..1.
        below: Share from which on the chain would go on.
    """

    stage: Stage
    moved: float
    below: float

    def __str__(self) -> str:
        return (
            f"the chain stops before {self.stage.name}: {100 * self.moved:.1f} % of its labels "
            f"moved, STOP_BELOW is {100 * self.below:g} %"
        )


def find_stop(jobs: TrainingJobs) -> Stop | None:
    """Return the first stage whose labels moved too little, as far as they exist.

    Args:
        jobs: All trainings. Their options say how many rounds are looked at.

    Raises:
        UserError: If a file of labels is damaged.
    """
    below = jobs.recipe.stop_below
    if not below:
        return None
    labelled = [stage for stage in jobs.recipe.stages if stage.labels]
    for stage in labelled[1 : jobs.options.num_compared]:
        before = jobs.labels_before(stage)
        assert before is not None
        files = (jobs.csv(before), jobs.csv(stage))
        if not all(path.is_file() for path in files):
            return None
        moved = churn(*map(read_labels, files)).moved
        if moved < below:
            return Stop(stage, moved, below)
    return None
