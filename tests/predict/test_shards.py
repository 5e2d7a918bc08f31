"""Which shard a process predicts, by the variables of its launcher: none is done twice, none is left out."""

from __future__ import annotations

import pytest

from nightcrawler.predict.shards import parse_shard
from nightcrawler.utils.errors import UserError


def array(index: int, first: int, last: int, count: int, **more: str) -> dict[str, str]:
    """The variables of an element of an array."""
    numbers = {"ID": index, "MIN": first, "MAX": last, "COUNT": count}
    return {**{f"SLURM_ARRAY_TASK_{key}": str(value) for key, value in numbers.items()}, **more}


def test_every_element_of_an_array_has_one() -> None:
    found = [parse_shard("env", array(index, 3, 9, 7)) for index in range(3, 10)]
    assert found == [(number, 7) for number in range(7)]


def test_every_task_of_every_element_has_one() -> None:
    found = []
    for index in range(2, 5):
        for task in range(4):
            step = {"SLURM_NTASKS": "4", "SLURM_STEP_NUM_TASKS": "4", "SLURM_PROCID": str(task)}
            found.append(parse_shard("env", array(index, 2, 4, 3, **step)))
    assert found == [(number, 12) for number in range(12)]


@pytest.mark.parametrize(
    ("env", "named"),
    [
        (array(4, 0, 6, 4), "--array must count by one"),
        (array(7, 3, 7, 2), "--array must count by one"),
        (array(9, 0, 6, 7), "--array must count by one"),
        # As in the handed case, where the last element is not named.
        (
            {
                "SLURM_ARRAY_TASK_ID": "4",
                "SLURM_ARRAY_TASK_MIN": "0",
                "SLURM_ARRAY_TASK_COUNT": "4",
            },
            "--array must count by one",
        ),
        (array(0, 0, 3, 4, SLURM_NTASKS="2", SLURM_PROCID="0"), "start it with srun"),
        ({"SLURM_ARRAY_TASK_ID": "1"}, "SLURM_ARRAY_TASK_COUNT is ''"),
        ({"RANK": "abc", "WORLD_SIZE": "2"}, "RANK is 'abc'"),
        ({"RANK": "0", "WORLD_SIZE": "x"}, "WORLD_SIZE is 'x'"),
        ({"RANK": "2", "WORLD_SIZE": "2"}, "process 2 of 2"),
        ({"SLURM_PROCID": "-1", "SLURM_NTASKS": "2"}, "SLURM_PROCID is '-1'"),
        ({"SLURM_PROCID": "3", "SLURM_NTASKS": "2"}, "process 3 of 2"),
        ({"JOB_COMPLETION_INDEX": "1"}, "JOB_COMPLETIONS is ''"),
        ({"AWS_BATCH_JOB_ARRAY_INDEX": "4", "AWS_BATCH_JOB_ARRAY_SIZE": "4"}, "process 4 of 4"),
        (
            {"RANK": "1"},
            "none of RANK, JOB_COMPLETION_INDEX, AWS_BATCH_JOB_ARRAY_INDEX, SLURM_ARRAY",
        ),
        ({}, "none of RANK, JOB_COMPLETION_INDEX, AWS_BATCH_JOB_ARRAY_INDEX, SLURM_ARRAY"),
    ],
)
def test_variables_that_name_no_shard_are_refused(env: dict[str, str], named: str) -> None:
    with pytest.raises(UserError, match=f"shard env: .*{named}"):
        parse_shard("env", env)


def test_indexed_jobs_of_kubernetes_and_batch() -> None:
    assert parse_shard("env", {"JOB_COMPLETION_INDEX": "5", "JOB_COMPLETIONS": "64"}) == (5, 64)
    batch = {"AWS_BATCH_JOB_ARRAY_INDEX": "0", "AWS_BATCH_JOB_ARRAY_SIZE": "3", "RANK": "7"}
    assert parse_shard("env", batch) == (0, 3)
