"""Figures of the fitted camera: what recordings showed, and what simulated ones show."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from nightcrawler.report.run_folder import SplitResults

# Position of the median among the quantiles that results files hold.
MIDDLE = 1


def camera_figures(
    results: Sequence[SplitResults], splits: Sequence[Mapping[str, Any]]
) -> dict[str, Any] | None:
    """Return the statistics of the camera, and accuracies on darkened beside dark clips.

    Args:
        results: all results of a run.
        splits: of `figures.collect`.

    Returns:
        `statistics`, rows of `name`, `measured` and `simulated` medians, and `stages`, rows of
        `stage`, `darkened` and `dark` accuracies of the ensemble with their `splits`. `None` where
        no result is of a fitted camera.
    """
    for one in results:
        statistics = _statistics(one.predictions.meta.get("camera"))
        if statistics:
            return {"statistics": statistics, "stages": _stages(splits)}
    return None


def _statistics(camera: Any) -> list[dict[str, Any]]:
    """Return rows of a record, which may come from elsewhere and hold anything."""
    rows: list[dict[str, Any]] = []
    if not isinstance(camera, dict):
        return rows
    measured, simulated = (camera.get(name) for name in ("measured", "simulated"))
    if not isinstance(measured, dict) or not isinstance(simulated, dict):
        return rows
    for name, values in measured.items():
        pair = [_median(values), _median(simulated.get(name))]
        if None not in pair:
            rows.append({"name": name.replace("_", " "), "measured": pair[0], "simulated": pair[1]})
    return rows


def _median(values: Any) -> float | None:
    if not isinstance(values, list) or len(values) <= MIDDLE:
        return None
    value = values[MIDDLE]
    return float(value) if isinstance(value, int | float) else None


def _stages(splits: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the accuracy of each stage's ensemble on darkened and on dark clips."""
    rows = []
    for darkened in splits:
        for dark in splits:
            if (darkened["kind"], dark["kind"]) != ("darkened", "dark"):
                continue
            pairs = zip(darkened["stages"], dark["stages"], strict=False)
            for one, other in pairs:
                accuracies = [_percent(one), _percent(other)]
                if one["stage"] == other["stage"] and None not in accuracies:
                    names = [darkened["split"], dark["split"]]
                    rows.append(
                        {
                            "stage": one["stage"],
                            "splits": names,
                            "darkened": accuracies[0],
                            "dark": accuracies[1],
                        }
                    )
    return rows


def _percent(stage: Mapping[str, Any]) -> float | None:
    ensemble = stage["ensemble"]
    return ensemble["percent"] if ensemble else None
