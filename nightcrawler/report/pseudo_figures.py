"""Figures of pseudo-labels: coverage, precision by class, and changes between rounds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from nightcrawler.pseudo.labels import compare, read_labels
from nightcrawler.pseudo.results_metadata import label_use, read_metadata
from nightcrawler.report import measures
from nightcrawler.report.run_folder import RunFolder
from nightcrawler.report.run_predictions import seeds_of_inputs


def pseudo_figures(run: RunFolder) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return the figures of each round's pseudo-labels, and the changes between rounds.

    Files with labels of other classes are left out and noted.

    Args:
        run: of the chain.

    Raises:
        UserError: if a file is damaged.
    """
    rounds: list[dict[str, Any]] = []
    changes = []
    before: Mapping[str, int] | None = None
    num_classes = len(run.class_names)
    for task in run.tasks("label"):
        if not run.has_outputs(task):
            continue
        path = run.locate(task["outputs"][0])
        labels = read_labels(path)
        lowest = min(labels.values())
        highest = max(labels.values())
        if lowest < 0 or highest >= num_classes:
            run.notes.append(
                f"{path}: left out: its labels are {lowest}..{highest}, "
                f"expected 0..{num_classes - 1}"
            )
            continue
        rounds.append(_round_figures(run, task, labels, read_metadata(path)))
        if before is not None:
            changes.append(
                {
                    "before": rounds[-2]["stage"],
                    "after": task["stage"],
                    **measures.drift(before, labels, run.truth(task["split"])),
                    "use": label_use(rounds[-2:]),
                }
            )
        before = labels
    return rounds, changes


def _round_figures(
    run: RunFolder, task: Mapping[str, Any], labels: dict[str, int], about: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the figures of one round.

    Args:
        run: of the chain.
        task: that wrote the labels.
        labels: name to pseudo-label.
        about: content of the JSON file beside the labels.
    """
    split = task["split"]
    classes = np.array(list(labels.values()), np.int64)
    rows = []
    for row in compare(labels, classes, run.truth(split), run.class_names):
        rows.append(
            {
                "name": row.name,
                "rows": row.rows,
                "precision": measures.share(row.correct, row.known),
                "coverage": measures.share(row.covered, row.true),
            }
        )
    # The last row counts all classes.
    whole = rows.pop()
    num_videos = about.get("videos")
    return {
        "stage": task["stage"],
        "round": task["round"],
        "split": split,
        "labels": about["labels"],
        "method": about.get("method", ""),
        "thresholds": about.get("thresholds", []),
        "seeds": seeds_of_inputs(about.get("inputs", [])),
        "rows": len(labels),
        "videos": num_videos,
        "coverage": 100 * len(labels) / num_videos if num_videos else None,
        "precision": whole["precision"],
        "all": whole,
        "classes": rows,
        "dark_labels": run.split_kind(split) == "dark",
    }
