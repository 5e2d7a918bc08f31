"""Names of stages for people, in place of their folders' names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

# Keys whose value is the name of a stage.
STAGE_KEYS = ("stage", "before", "after")
PREFIX = "exp_"


def stage_titles(stages: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Return stage to title: `adapted`, `round 1`, `experts`, ...

    Args:
        stages: of `pipeline.json`, in order.

    Example:
        >>> stage_titles([{"name": "exp_pseudo_stage1", "round": 1, "in_chain": True}])
        {'exp_pseudo_stage1': 'round 1'}
    """
    titles: dict[str, str] = {}
    numbered = train_same_models(stages)
    for stage in stages:
        name = stage["name"]
        title = name.removeprefix(PREFIX).replace("_", " ")
        if stage["in_chain"] and numbered:
            title = f"round {stage['round']}" if stage["round"] else "adapted"
        # Two stages of one round keep their own names beside it.
        titles[name] = f"{title} ({name})" if title in titles.values() else title
    return titles


def train_same_models(stages: Sequence[Mapping[str, Any]]) -> bool:
    """Return whether all stages of the chain train the same models.

    Stages of different models are steps of different kinds: they keep their names.

    Args:
        stages: of `pipeline.json`.
    """
    return len({tuple(stage["models"]) for stage in stages if stage["in_chain"]}) <= 1


def with_titles(figures: Any, titles: Mapping[str, str]) -> Any:
    """Return a copy of figures in which stages have their titles.

    Args:
        figures: of `figures.collect`, or a part of them.
        titles: of `stage_titles`.
    """
    if isinstance(figures, Mapping):
        found: dict[str, Any] = {}
        for key, value in figures.items():
            if key in STAGE_KEYS and isinstance(value, str):
                found[key] = titles.get(value, value)
            elif key == "calibration":
                found[key] = {titles.get(name, name): one for name, one in value.items()}
            else:
                found[key] = with_titles(value, titles)
        return found
    if isinstance(figures, list):
        return [with_titles(one, titles) for one in figures]
    return figures
