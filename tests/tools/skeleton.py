"""A copy of the project's skeleton, made-up results in it, and its scripts as they are run."""

from __future__ import annotations

import csv
import importlib
import shutil
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from nightcrawler.pseudo.predictions import Predictions
from nightcrawler.utils import command_line
from nightcrawler.utils.project import use_project
from tests.paths import ROOT
from tests.pseudo.made import made

VOTE = "test_ensemble_vote.py"
MODELS = ("uniformer_b32_ssv2", "uniformer_b32_k600", "mvit_b32_k600", "sf32_k700")
NAMES = [*(f"{i}.mp4" for i in range(30)), *(f"Run/Run_1_{i}.mp4" for i in range(30))]
TRUTH = [label % 5 for label in range(60)]
CLASSES = ["Up", "Down", "In", "Out", "Round"]


def copy_project(folder: Path) -> Path:
    """The scripts and recipes in a folder of their own; its experiments and data are the test's."""
    for name in ("tools", "gen_pseudo_tools", "configs/pseudo", "configs/vote"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / VOTE, folder / VOTE)
    return folder


# Scripts outside tools/ to the command that they start, and its first arguments.
SCRIPTS = {
    VOTE: ("vote", []),
    "gen_pseudo_tools/generate_pseudo_label_arid_emu.py": ("emulate", []),
    **{
        f"gen_pseudo_tools/generate_pseudo_label_stage{k}.py": ("label", [str(k)])
        for k in range(1, 5)
    },
}


def script(name: str) -> ModuleType:
    """The module that a script of the project starts."""
    return importlib.import_module(f"nightcrawler.cli.{SCRIPTS[name][0]}")


def run(project: Path, name: str, *argv: Any) -> int:
    """A script's exit code, errors being lines as in a process."""
    first = SCRIPTS[name][1]
    with use_project(project), command_line.invoked_as(f"python {name}"):
        return command_line.run(script(name).main, [*first, *map(str, argv)])


def results(path: Path, seed: int, **options: Any) -> Predictions:
    """Results of a model that is right on most of 60 videos of 5 classes; written and returned."""
    one = made(60, 5, seed, names=NAMES, class_names=CLASSES, **options)
    ok = one.ok
    one.logits[ok] += 2 * np.eye(5, dtype=np.float32)[TRUTH][ok]
    shifted = np.exp(one.logits[ok].astype(np.float64))
    one.probs[ok] = shifted / shifted.sum(axis=1, keepdims=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    one.save(path)
    return one


def rows_of(path: Path) -> list[list[str]]:
    with open(path, newline="") as file:
        return list(csv.reader(file))
