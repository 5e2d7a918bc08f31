"""Files of a run's trainings for its page: links, sizes, speed, and commands that use them."""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nightcrawler.report.best_model import choose_best
from nightcrawler.report.run_folder import RunFolder
from nightcrawler.workflow.task_state import DONE

# Files of a training, and their names on the page.
FILES = {
    "best.pyth": "weights",
    "train.log": "log",
    "metrics.jsonl": "metrics",
    "resolved.yaml": "configuration",
    "tensorboard": "TensorBoard",
}
# A clip of one's own in the commands.
CLIPS = "my_night_clips"


def training_rows(run: RunFolder, page: Path) -> list[dict[str, Any]]:
    """Return size, speed and files of each training.

    Args:
        run: of the chain.
        page: file of the page, to which links are relative.

    Returns:
        Rows of `stage`, `model`, `experiment`, `control`, `num_params`, `bytes` of the weights,
        `clips_per_sec` of training, `clip_sec` of a test clip, and `links`: name to address.
        Figures that are not known are `None`.
    """
    rows = []
    for task in run.tasks("train"):
        folder = run.locate(task["folder"])
        links = {}
        for name, words in FILES.items():
            if (folder / name).exists():
                links[words] = os.path.relpath(folder / name, page.parent)
        weights = folder / "best.pyth"
        rows.append(
            {
                "stage": task["stage"],
                "model": task["model"],
                "experiment": task["experiment"],
                "control": task["control"],
                "num_params": _number(_read_json(folder / "run.json").get("num_params")),
                "bytes": weights.stat().st_size if weights.is_file() else None,
                "clips_per_sec": _training_speed(run.metrics(task)),
                "clip_sec": _test_speed(run, task["experiment"]),
                "links": links,
            }
        )
    return rows


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def _number(value: Any) -> float | None:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if is_number else None


def _training_speed(rows: Sequence[Mapping[str, Any]]) -> float | None:
    """Return the clips per second of the last epoch."""
    for row in reversed(rows):
        if row.get("kind") == "train" and "clips_per_sec" in row:
            return _number(row["clips_per_sec"])
    return None


def _test_speed(run: RunFolder, experiment: str) -> float | None:
    """Return the seconds that a test took for each clip, with start-up and all views."""
    for task in run.tasks("test"):
        if task["experiment"] != experiment or task["status"] != DONE or not task["seconds"]:
            continue
        for one in run.results:
            if (one.stage, one.model) != (task["stage"], task["model"]):
                continue
            if (one.control, one.split) == (task["control"], task["split"]):
                return float(task["seconds"]) / max(len(one.predictions.names), 1)
    return None


@dataclass(frozen=True)
class UseCommand:
    """A command to paste that uses models of a run.

    Attributes:
        purpose: what it is for.
        line: the command.
        note: why it names this model, empty where it names all.
    """

    purpose: str
    line: str
    note: str = ""


def page_commands(run: RunFolder) -> list[UseCommand]:
    """Return commands to paste that use the run's models, empty before there are any.

    Folders of the machine are not named: those of a run elsewhere begin with the run's own folder.

    Args:
        run: of the chain.
    """
    out = Path(run.state["out"])
    place = Path(run.folder.resolve().name) if out.is_absolute() else out

    def show(path: Path) -> Path:
        if path.is_relative_to(run.folder):
            return place / path.relative_to(run.folder)
        return path.relative_to(run.root) if path.is_relative_to(run.root) else Path(path.name)

    return use_commands(run, show, "nightcrawler", CLIPS)


def use_commands(
    run: RunFolder, show: Callable[[Path], Path], program: str, clip: str
) -> list[UseCommand]:
    """Return commands that predict, serve and export, empty without trained models.

    The first two name the models that voted, mixed as they voted: these are what the last figure
    of the report is about. Without a vote they name the models of the last stage. An export is of
    one model: the best of the last stage, as `choose_best` finds it without labels of dark clips.

    Args:
        run: of the chain.
        show: returns a path as the commands name it.
        program: how `nightcrawler` is started.
        clip: file or folder to predict.

    Raises:
        UserError: if a `metrics.jsonl` is damaged.
    """
    last = last_trainings(run)
    if not last:
        return []
    recipe = vote_recipe(run)
    models = []
    if recipe is None:
        for task in last:
            models += ["--experiment", str(show(run.folder / task["experiment"]))]
    else:
        models = ["--ensemble", str(show(recipe)), "--prefix", str(show(run.folder))]
    commands = [
        UseCommand("predict clips of your own", shlex.join([program, "predict", clip, *models])),
        UseCommand("drop clips on a page", shlex.join([program, "serve", *models])),
    ]
    exportable = [task for task in last if not _sees_skeletons(run, task)]
    if exportable:
        best = choose_best(run, exportable)
        words = [program, "export", str(show(run.folder / best.experiment)), "--out", "exported"]
        purpose = "export a model for other programs"
        commands.append(UseCommand(purpose, shlex.join(words), best.note))
    return commands


def _sees_skeletons(run: RunFolder, task: Mapping[str, Any]) -> bool:
    """Return whether a training's model takes poses in place of pictures: it is not exported."""
    return run.configs.get(task["experiment"], {}).get("DATA.INPUT") == "pose"


def vote_recipe(run: RunFolder) -> Path | None:
    """Return the recipe of the run's vote, `None` before the vote or where it is not known.

    Args:
        run: of the chain.
    """
    done = any(task["status"] == DONE for task in run.tasks("vote"))
    # Runs of earlier versions do not name it.
    text = run.state.get("vote_recipe", "")
    path = run.locate(text) if done and isinstance(text, str) and text else None
    return path if path is not None and path.is_file() else None


def last_trainings(run: RunFolder) -> list[dict[str, Any]]:
    """Return the trainings of the last stage of the chain whose weights are all there.

    Args:
        run: of the chain.
    """
    for stage in reversed(run.stages):
        if not stage["in_chain"]:
            continue
        found = []
        for task in run.tasks("train"):
            if task["stage"] == stage["name"] and not task["control"]:
                weights = run.locate(task["folder"]) / "best.pyth"
                found += [task] if weights.is_file() else []
        if found and len(found) == len(stage["models"]):
            return found
    return []
