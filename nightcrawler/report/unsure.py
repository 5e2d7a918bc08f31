"""The clips of a night that the final prediction is least sure of."""

from __future__ import annotations

from typing import Any

import numpy as np

from nightcrawler.report.measures import TopPredictions
from nightcrawler.report.metadata import figure_metadata
from nightcrawler.report.run_folder import RunFolder
from nightcrawler.report.run_predictions import RunPredictions

MAX_STILLS = 24


def least_sure(run: RunFolder, predictions: RunPredictions) -> dict[str, Any] | None:
    """Return the least confident final predictions of dark clips.

    They are the vote's, or those of the last stage before there is one.

    Args:
        run: of the chain.
        predictions: of the run.

    Returns:
        `split`, `of` (the step that predicted), `rows` of `name`, `class` and `confidence` in
        percent, least sure first, the number of `clips`, and the metadata `stamp`. `None` if no
        dark clip was predicted.

    Raises:
        UserError: if a submission is damaged.
    """
    split = run.state["vote_split"] or run.state["unlabelled"]
    if not split or run.split_kind(split) != "dark":
        return None
    of, final = _final(run, predictions, split)
    if final is None:
        return None
    chosen = np.flatnonzero(final.classes >= 0)
    order = chosen[np.argsort(final.confidences[chosen], kind="stable")][:MAX_STILLS]
    rows = []
    for row in order.tolist():
        rows.append(
            {
                "name": final.names[row],
                "class": int(final.classes[row]),
                "confidence": 100 * float(final.confidences[row]),
            }
        )
    stamp = figure_metadata(run, split, [final], len(chosen))
    return {"split": split, "of": of, "rows": rows, "clips": len(chosen), "stamp": stamp}


def _final(
    run: RunFolder, predictions: RunPredictions, split: str
) -> tuple[str, TopPredictions | None]:
    """Return the name and the predictions of the last step."""
    votes = list(predictions.submissions().values())
    if votes and run.state["vote_split"] == split:
        return "vote", votes[-1]
    for stage in reversed(run.stages):
        models = predictions.of_stage(split, stage["name"])
        if models and stage["in_chain"] and set(stage["models"]) <= set(models):
            ensemble = predictions.ensemble(split, stage["name"])
            return stage["name"], ensemble or next(iter(models.values()))
    return "", None
