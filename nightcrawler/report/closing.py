"""Last lines of a report in a terminal: accuracy step by step, and commands that use the models."""

from __future__ import annotations

import shlex
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from nightcrawler.report.run_folder import TASKS
from nightcrawler.workflow.task_state import DONE

Figures = Mapping[str, Any]
# A clip that comes with a checkout, and what stands for a clip of the user elsewhere.
EXAMPLE_CLIP = "docs/night.mp4"
YOUR_CLIP = "night.mp4"


def closing_lines(figures: Figures, state: Mapping[str, Any], root: Path) -> Iterator[str]:
    """Yield how accuracy went, and three commands that use the models of the last round.

    Args:
        figures: of the run.
        state: content of its `pipeline.json`.
        root: folder that paths in it are relative to.
    """
    story = figures["story"]
    if story:
        yield (
            f"top-1 in % on {story['stamp']['clips']} clips of {story['split']}, chance "
            f"{figures['chance']:.1f}:"
        )
        steps = []
        for step in story["steps"]:
            percent = step["accuracy"]["percent"]
            steps.append(f"{step['name']} {'?' if percent is None else f'{percent:.1f}'}")
        yield f"  {' -> '.join(steps)}"
    models = [_shown(root / folder) for folder in last_models(state)]
    if models:
        yield "use the models of this run:"
        for command in commands(models):
            yield f"  {command}"


def last_models(state: Mapping[str, Any]) -> list[str]:
    """Return the folders of the trained models of the last round.

    Args:
        state: content of `pipeline.json`.
    """
    trained = []
    for task in state[TASKS]:
        if task["kind"] == "train" and task["status"] == DONE and not task.get("control"):
            trained.append(task)
    last = max((task["round"] for task in trained), default=0)
    return [str(task["folder"]) for task in trained if task["round"] == last]


def commands(models: Sequence[str]) -> list[str]:
    """Return three command lines to paste: predict, serve, export.

    Args:
        models: folders of trained models, relative to the current one.
    """
    program = _program()
    clip = EXAMPLE_CLIP if Path(EXAMPLE_CLIP).is_file() else YOUR_CLIP
    every = [word for model in models for word in ("--experiment", model)]
    return [
        shlex.join([program, "predict", clip, *every]),
        shlex.join([program, "serve", *every]),
        shlex.join([program, "export", models[-1], "--out", "exported"]),
    ]


def _program() -> str:
    """Return how the command is started: by its name if that is found, else by its path."""
    here = Path(sys.executable).with_name("nightcrawler")
    if shutil.which("nightcrawler") or not here.exists():
        return "nightcrawler"
    return _shown(here)


def _shown(path: Path) -> str:
    """Return a path relative to the current folder if it is inside."""
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)
