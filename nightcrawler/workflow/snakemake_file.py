"""Snakemake workflow of a pipeline: one rule for each task.

The output of a rule is a marker, an empty file that Snakemake writes when the rule's command
succeeded. Files of the task itself are no outputs: Snakemake removes those before a rule starts and
after it failed, and with them the weights that a stopped training goes on from.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from nightcrawler.utils.errors import UserError
from nightcrawler.utils.io import atomic_write
from nightcrawler.workflow.console import PLAN_DONE
from nightcrawler.workflow.pipeline_file import TaskRow
from nightcrawler.workflow.recipe_file import Resources
from nightcrawler.workflow.task import Task

# Further attempts at a task that was stopped.
RETRIES = 5
FIRST = "# Written by `nightcrawler pipeline RECIPE --snakemake FILE`"
HEAD = (
    FIRST
    + '''\
: write it again after a change of the
# recipe, of videos, or of files that a task has made. Run it with
#   snakemake --snakefile FILE --cores all --rerun-incomplete
# A rule is tried again if its task was stopped and saved itself (exit code 75), or was killed.
# Its second attempt ends at once if the first failed in another way.

workdir: {workdir}

RETRIES = int(config.get("retries", {retries}))
RUN = """
if [ {{resources.attempt}} -gt 1 ] && [ -e {{params.failed:q}} ]; then exit 1; fi
rm -f {{params.failed:q}}
code=0
( cd {{params.root:q}} && {{params.command}} ) >> {{log:q}} 2>&1 || code=$?
if [ $code -ne 0 ] && [ $code -ne 75 ]; then touch {{params.failed:q}}; fi
exit $code
"""


rule all:
    input: [{markers}]
'''
)
RULE = """

rule {name}:
    input: [{inputs}]
    output:
        touch({marker}),
    log:
        {log},
    params:
        root={root},
        command={command},
        failed={failed},
    threads: {threads}
    retries: RETRIES
    resources:
        {resources},
    shell:
        RUN
"""


def marker(task: Task) -> str:
    """Return the name of the marker of a task."""
    return f"{task.slug}.done"


def write_snakefile(
    path: Path,
    rows: Sequence[TaskRow],
    needed: Mapping[str, Sequence[str]],
    command: Callable[[Task], Sequence[str]],
    root: Path,
    workdir: Path,
) -> None:
    """Write a workflow, and mark the tasks that are up to date.

    Args:
        path: The file to write.
        rows: The plan of the tasks that the workflow has.
        needed: Name of a task to the names of the tasks that it needs.
        command: Function of a task that returns the command line that runs it alone.
        root: Folder in which commands run.
        workdir: Folder of markers, logs and Snakemake's own records.

    Raises:
        UserError: If the name of an input has braces, or the file was not written by this command.
    """
    _refuse_foreign(path)
    tasks = {row.task.name: row.task for row in rows}
    text = HEAD.format(
        workdir=repr(str(workdir)),
        retries=RETRIES,
        markers=", ".join(repr(marker(task)) for task in tasks.values()),
    )
    written = {output for task in tasks.values() for output in task.outputs}
    for number, task in enumerate(tasks.values()):
        files = sorted({one for one in task.inputs.values() if one not in written and one.exists()})
        before = [tasks[name] for name in needed[task.name] if name in tasks]
        inputs = [*map(_input, files), *(repr(marker(one)) for one in before)]
        text += RULE.format(
            # Two names may differ in a sign that no name of a rule can have.
            name=f"t{number}_" + re.sub(r"\W", "_", task.name),
            inputs=", ".join(inputs),
            marker=repr(marker(task)),
            log=repr(f"{task.slug}.log"),
            root=_param(root),
            command=_param(shlex.join(command(task))),
            failed=repr(f"{task.slug}.failed"),
            threads=task.resources.cpus or 1,
            resources=",\n        ".join(_resources(task.resources)),
        )
    workdir.mkdir(parents=True, exist_ok=True)
    for row in rows:
        if row.status == PLAN_DONE:
            (workdir / marker(row.task)).touch()
        else:
            (workdir / marker(row.task)).unlink(missing_ok=True)
    with atomic_write(path, "w") as file:
        file.write(text)


def _resources(resources: Resources) -> list[str]:
    """Return the resources of a rule, by the names that Snakemake's executors know."""
    memory_mb = None
    if resources.memory_gb is not None:
        memory_mb = round(1024 * resources.memory_gb)
    values = {
        "mem_mb": memory_mb,
        "gpu": resources.gpus,
        "runtime": resources.minutes,
        "slurm_partition": resources.partition,
    }
    lines = [f"{name}={value!r}" for name, value in values.items() if value is not None]
    return ["attempt=lambda wildcards, attempt: attempt", *lines]


def _input(path: Path) -> str:
    if "{" in str(path) or "}" in str(path):
        raise UserError(f"{path}: Snakemake reads braces in names of files as wildcards: rename it")
    return repr(str(path))


def _param(value: str | Path) -> str:
    # A function: Snakemake reads braces in texts as wildcards.
    return f"lambda wildcards: {str(value)!r}"


def _refuse_foreign(path: Path) -> None:
    """Refuse to replace a file that is no workflow of this command, such as a recipe or a video."""
    if not path.is_file():
        return
    with open(path, "rb") as file:
        if not file.read(len(FIRST)).startswith(FIRST.encode()):
            raise UserError(
                f"--snakemake {path}: is a file that this command did not write, name another one"
            )
