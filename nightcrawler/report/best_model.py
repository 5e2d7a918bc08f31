"""The best model of a stage, by accuracy on clips whose labels a run without labels may use."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nightcrawler.report.run_folder import RunFolder

# Splits that may choose a model: bright clips, darkened by a camera model or as they are. Accuracy
# on dark clips, which the report shows too, is measured with labels that choose nothing.
SPLITS = ("val_dark", "val_dry")


@dataclass(frozen=True)
class BestModel:
    """A model of a stage that stands for the others.

    Attributes:
        experiment: of its training.
        note: why it is named, empty if there is no other.
    """

    experiment: str
    note: str


def choose_best(run: RunFolder, trainings: Sequence[Mapping[str, Any]]) -> BestModel:
    """Return the training whose checkpoint has the highest top-1 accuracy on the first of `SPLITS`.

    Where no such split was validated by all of them, it is the last, and the note says so.

    Args:
        run: of the chain.
        trainings: tasks of a stage, at least one.

    Raises:
        UserError: if a `metrics.jsonl` is damaged.

    Example:
        >>> choose_best(run, trainings).note
        'sf32_k700, best of 2 models: top-1 77.3 % on val_dark; no label of a dark clip chose it'
    """
    last = trainings[-1]
    if len(trainings) == 1:
        return BestModel(last["experiment"], "")
    found = [_checkpoint_accuracies(run, task) for task in trainings]
    for split in SPLITS:
        if not all(split in accuracies for accuracies in found):
            continue
        percents = [accuracies[split] for accuracies in found]
        # The first of equal ones.
        at = percents.index(max(percents))
        best = trainings[at]
        note = (
            f"{best['model']}, best of {len(trainings)} models: top-1 {percents[at]:.1f} % on "
            f"{split}; no label of a dark clip chose it"
        )
        return BestModel(best["experiment"], note)
    note = (
        f"{last['model']}, the last of {len(trainings)} models: which is best is not known without "
        f"labels of dark clips, as not all were validated on {' or '.join(SPLITS)}"
    )
    return BestModel(last["experiment"], note)


def _checkpoint_accuracies(run: RunFolder, task: Mapping[str, Any]) -> dict[str, float]:
    """Return split to top-1 in percent of a training's best checkpoint."""
    rows: dict[tuple[Any, str], dict[str, float]] = {}
    last = -1
    for row in run.metrics(task):
        top1, epoch = row.get("top1"), row.get("epoch")
        if row["kind"] != "val" or not isinstance(epoch, int):
            continue
        if epoch < last:
            # A training that was started anew in its folder, or resumed, appends: later rows count.
            rows = {key: one for key, one in rows.items() if key[0] < epoch}
        last = epoch
        if isinstance(top1, int | float) and math.isfinite(top1) and row.get("num_videos") != 0:
            key = (epoch, row.get("weights", "raw"))
            rows.setdefault(key, {})[row.get("split", "")] = float(top1)
    picked_on = run.configs.get(task["experiment"], {}).get("TRAIN.BEST_SPLIT")
    validated = [one for one in rows.values() if picked_on in one]
    # As the trainer does: a later epoch of the same accuracy is no better one.
    return max(validated, key=lambda one: one[str(picked_on)], default={})
