"""Tasks that make data lists, train models, and test them."""

from __future__ import annotations

import glob
import json
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from nightcrawler.prepare.lists import Tree
from nightcrawler.workflow.commands import control_command, net_command, program
from nightcrawler.workflow.experiment import BEST
from nightcrawler.workflow.jobs import PlanOptions, TrainingJob
from nightcrawler.workflow.recipe import Recipe
from nightcrawler.workflow.task import Task, digest

# Exit code of a test that left out damaged videos: its results count.
EXIT_BAD_VIDEOS = 3
# Files that a training leaves beside its checkpoint, as patterns of its own names: anything else in
# its folders is the user's.
LEFTOVERS = (
    "DONE",
    "PREEMPTED",
    "checkpoints/checkpoint_*.pyth",
    "checkpoints/checkpoint_*.pyth.sha256",
    "checkpoints/.checkpoint_*.tmp",
    f"{BEST}.sha256",
    f".{BEST}*.tmp",
    "metrics.jsonl",
    "bad.csv",
    "non_finite.jsonl",
    "tensorboard/events.out.tfevents.*",
    "resolved.yaml",
    "run.json",
    "run_id",
    "train.log",
)


class ResultsRequest(NamedTuple):
    """Request for the results of a training on a split, with (views, crops)."""

    job: str
    split: str
    pair: tuple[int, int]


def group_requests(
    requests: Sequence[ResultsRequest],
) -> dict[str, dict[str, list[tuple[int, int]]]]:
    """Map each training to its splits, and each split to its (views, crops) in ascending order.

    One test computes all views of a split, so a video is decoded once.
    """
    grouped: dict[str, dict[str, list[tuple[int, int]]]] = {}
    for job, split, pair in requests:
        pairs = grouped.setdefault(job, {}).setdefault(split, [])
        if pair not in pairs:
            pairs.append(pair)
            # Sorted: the order of requests must not change a test's signature.
            pairs.sort()
    return grouped


def data_task(recipe: Recipe, tree: Tree, options: PlanOptions) -> Task:
    """Return the task that lays out the user's own videos."""
    own = recipe.own_data
    folder = recipe.data_folder
    assert own is not None
    assert folder is not None
    arguments = ["tree", str(own.bright), "--dark", str(own.dark), "--out", str(folder)]
    arguments += ["--val-fraction", str(own.val_fraction), "--seed", str(own.seed)]
    arguments += ["--recordings", own.recordings]
    return Task(
        name="data",
        kind="data",
        command=tuple(program(options.python, "prepare", arguments)),
        signature=digest([str(own.bright), str(own.dark), tree.train, tree.val, tree.dark]),
        inputs={},
        outputs=tuple(folder / name for name in tree.plan.lists),
        folder=folder,
        # The program refuses a folder with other lists.
        overwrite_safe=True,
    )


def train_task(job: TrainingJob, options: PlanOptions) -> Task:
    """Return the task of a training or of a control."""
    experiment = job.experiment
    if job.control:
        command = control_command(experiment.arguments(), options.nproc, options.python)
    else:
        command = net_command("train", experiment.arguments(), options.nproc, options.python)
    return Task(
        name=f"train/{job.name}",
        kind="train",
        command=tuple(command),
        signature=digest([experiment.train_signature, job.control]),
        inputs={**experiment.files_of_training(), **job.reads},
        outputs=(job.folder / BEST,),
        folder=job.folder,
        about=job.about,
        leftovers=LEFTOVERS,
        videos=experiment.videos_of_training(),
        config={} if job.control else experiment.config,
        older_signatures=(digest([experiment.older_signatures[0], job.control]),),
        root=options.state if job.is_beside else options.out,
        # A control chooses its epochs when it starts, so its hash is not known here.
        run_hash="" if job.control else experiment.run_hash,
    )


def test_tasks(
    job: TrainingJob, pairs_of: Mapping[str, Sequence[tuple[int, int]]], options: PlanOptions
) -> list[Task]:
    """Return the tasks that test a training.

    Args:
        job: The training.
        pairs_of: Split to (views, crops) in ascending order.
        options: Options of the command line.
    """
    experiment = job.experiment
    tasks = []
    for split, pairs in pairs_of.items():
        # Both keys are lists of the same length: entry i of each is one (views, crops).
        views = json.dumps([pair[0] for pair in pairs])
        crops = json.dumps([pair[1] for pair in pairs])
        arguments = [*experiment.arguments(), "TEST.DATA_SELECT", split]
        arguments += ["TEST.NUM_ENSEMBLE_VIEWS", views, "TEST.NUM_SPATIAL_CROPS", crops]
        task = Task(
            name=f"test/{job.name}/{split}",
            kind="test",
            command=tuple(net_command("test", arguments, options.nproc, options.python)),
            signature=digest([experiment.test_signature, split, list(pairs)]),
            inputs={"weights": job.folder / BEST, **experiment.files_of(split)},
            outputs=tuple(job.results_file(split, pair) for pair in pairs),
            folder=job.folder,
            about={**job.about, "split": split, "pairs": list(pairs)},
            videos=experiment.videos_of(split),
            stamps=experiment.test_stamps(split),
            older_signatures=(digest([experiment.older_signatures[1], split, list(pairs)]),),
            leftovers=(f"bad_{glob.escape(split)}.csv",),
            # A change of the views or of the clip's size gives results files other names.
            earlier_outputs=(f"{glob.escape(split)}x[0-9]*x[0-9]*x[0-9]*x[0-9]*",),
            root=options.state if job.is_beside else options.out,
            ok_codes=(0, EXIT_BAD_VIDEOS),
            # Several processes meet through the launcher, once for each test.
            group=f"test/{job.name}" if options.nproc == 1 else "",
        )
        tasks.append(task)
    return tasks
