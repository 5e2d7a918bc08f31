"""`RESOURCES` of a recipe: what the tasks of each kind get, and faults."""

from __future__ import annotations

from pathlib import Path

import pytest

from nightcrawler.utils.errors import UserError
from nightcrawler.workflow.jobs import PlanOptions
from nightcrawler.workflow.plan import make_plan
from nightcrawler.workflow.recipe import Recipe, read_recipe
from nightcrawler.workflow.slurm import task_parameters
from tests.paths import ROOT

RECIPE = """\
MODELS: {a: {CONFIG: configs/models/uniformer_b32_k600.yaml}}
STAGES: {adapt: {CONFIG: configs/stages/adapt_bn.yaml}}
VOTE: {VIEWS: [[1, 1]], SPLIT: test}
"""
RESOURCES = """\
RESOURCES:
  TRAIN: {CPUS: 16, MEMORY_GB: 62.5, GPUS: 2, MINUTES: 600, PARTITION: gpu}
  VOTE: {GPUS: 0}
"""


def recipe_of(folder: Path, text: str) -> Recipe:
    path = folder / "recipe.yaml"
    path.write_text(RECIPE + text)
    return read_recipe(path, ROOT)


def test_each_task_gets_what_its_kind_is_given(tmp_path: Path) -> None:
    tasks, _ = make_plan(recipe_of(tmp_path, RESOURCES), PlanOptions(ROOT, tmp_path, tmp_path))
    found = {task.kind: task_parameters(task.resources) for task in tasks}
    assert found == {
        "train": {
            "cpus_per_task": 16,
            "mem_gb": 62.5,
            "gpus_per_node": 2,
            "timeout_min": 600,
            "slurm_partition": "gpu",
        },
        "test": {},
        "vote": {"gpus_per_node": 0},
    }


def test_resources_make_no_task_run_again(tmp_path: Path) -> None:
    options = PlanOptions(ROOT, tmp_path, tmp_path)
    with_them, _ = make_plan(recipe_of(tmp_path, RESOURCES), options)
    without, _ = make_plan(recipe_of(tmp_path, ""), options)
    assert [task.signature for task in with_them] == [task.signature for task in without]


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("RESOURCES: {TRAINS: {CPUS: 1}}", "RESOURCES.TRAINS: unknown key, expected DATA, TRAIN"),
        ("RESOURCES: {TRAIN: {CORES: 1}}", "RESOURCES.TRAIN.CORES: unknown key, expected CPUS"),
        ("RESOURCES: {TRAIN: {CPUS: 0}}", "RESOURCES.TRAIN.CPUS: 0: it should be greater"),
        ("RESOURCES: {TRAIN: {GPUS: many}}", "RESOURCES.TRAIN.GPUS: 'many': it should be"),
        ("RESOURCES: {TEST: {MEMORY_GB: 0}}", "RESOURCES.TEST.MEMORY_GB: 0: it should be"),
        ("RESOURCES: {TEST: {MINUTES: 1.5}}", "RESOURCES.TEST.MINUTES: 1.5: it should be"),
        ("RESOURCES: {VOTE: gpu}", "RESOURCES.VOTE: 'gpu': expected KEY: value lines"),
    ],
)
def test_faults_name_file_line_and_key(tmp_path: Path, text: str, fault: str) -> None:
    with pytest.raises(UserError, match=rf"recipe\.yaml:4: {fault}"):
        recipe_of(tmp_path, text + "\n")
