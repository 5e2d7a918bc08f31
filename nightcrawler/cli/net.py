"""Train or test one experiment, or show its resolved configuration."""

from __future__ import annotations

import importlib
import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nightcrawler.cli.audit import default_jobs
from nightcrawler.utils.collector import collector_paused
from nightcrawler.utils.command_line import make_parser
from nightcrawler.utils.project import project_root

EXIT_BAD_VIDEOS = 3
# Configuration that a run leaves in its folder.
RECORD = "resolved.yaml"
# Keys whose values are paths that users type on the command line.
PLACES = ("OUTPUT_DIR", "DATA.PATH_PREFIX", "DATA.CACHE_DIR", "TEST.CHECKPOINT_FILE_PATH")
# EX_TEMPFAIL of sysexits.h: schedulers and the pipeline start such a task again.
EXIT_PREEMPTED = 75
DONE = "0 done, 2 an error that the line names"
UNREADABLE = "3 tested but some videos could not be read"
PREEMPTED = "75 stopped by a signal after saving (start again to go on)"
# Exit codes of each task, for its help.
EXIT_CODES = {
    "train": f"{DONE},\n{PREEMPTED}",
    "test": f"{DONE},\n{UNREADABLE}",
    "show-config": DONE,
    "": f"{DONE},\n{UNREADABLE},\n{PREEMPTED}",
}
EXAMPLES = {
    "train": """\
  {command} --cfg exp_adapt_bn/uniformer_b32_k600/config.yaml
  {command} --cfg exp_adapt_bn/sf32_k700/config.yaml SOLVER.MAX_EPOCH 2 TRAIN.BATCH_SIZE 8""",
    "test": """\
  {command} --cfg exp_adapt_bn/uniformer_b32_k600/config.yaml TEST.DATA_SELECT arid""",
    "show-config": """\
  {command} --cfg exp_experts/uniformer_b32_ssv2/config.yaml --overlay configs/demo.yaml""",
}
# What each task imports in any case. Optimisers import torch._dynamo on their first call.
MODULES = {
    "train": ("nightcrawler.engine.build", "torch._dynamo"),
    "test": ("nightcrawler.engine.tester",),
}
SUMMARIES = {
    "train": "Train one experiment; start it again to go on where it was stopped.",
    "test": "Test one experiment and write one results file per (views, crops) pair.",
    "show-config": "Print the resolved configuration of one experiment.",
}


def parse(argv: Sequence[str], task: str = "") -> Any:
    """Parse the command line of a task. Without one, the first argument names it."""
    if task:
        parser = make_parser(SUMMARIES[task], f"{EXAMPLES[task]}\n\nexit codes: {EXIT_CODES[task]}")
        parser.set_defaults(task=task)
    else:
        every = [EXAMPLES[name].replace("{command}", f"{{command}} {name}") for name in EXAMPLES]
        shown = "\n".join([*every, "", f"exit codes: {EXIT_CODES['']}"])
        parser = make_parser(__doc__ or "", shown)
        parser.add_argument("task", choices=tuple(EXAMPLES))
    parser.add_argument(
        "--cfg", required=True, type=Path, metavar="FILE", help="the experiment's config.yaml"
    )
    parser.add_argument(
        "--overlay",
        action="append",
        default=[],
        type=Path,
        metavar="FILE",
        help="merge FILE on top (repeatable)",
    )
    parser.add_argument(
        "overrides", nargs="*", type=str, metavar="KEY VALUE", help="such as SOLVER.MAX_EPOCH 2"
    )
    return parser.parse_intermixed_args(argv)


def load(arguments: Any) -> Any:
    """Load the frozen configuration, and make the project's root the current folder."""
    from nightcrawler.config.load import load_experiment, recorded_defaults

    # Paths of the command line are relative to the folder of the caller, which changes below.
    experiment = arguments.cfg.resolve()
    overrides = list(arguments.overrides)
    # An experiment writes into its own folder where nothing names another. Relative, so that the
    # hash of a configuration does not depend on the place of the project.
    own_folder = str(_relative(experiment.parent))
    is_record = experiment.name == RECORD
    if is_record and "OUTPUT_DIR" not in overrides[::2]:
        # A run that was moved still names its old folder in the record that lies beside it.
        overrides += ["OUTPUT_DIR", own_folder]
    overlays = [path.resolve() for path in arguments.overlay]
    defaults = {"OUTPUT_DIR": own_folder}
    if is_record:
        defaults |= recorded_defaults()
    cfg = load_experiment(experiment, overlays, overrides, defaults=defaults, is_record=is_record)
    _note_places(overrides)
    os.chdir(project_root())
    return cfg


def _note_places(overrides: Sequence[str]) -> None:
    """Say where relative paths of the command line lead, if not below the caller's folder."""
    from nightcrawler.models.zoo import find_entry

    if Path.cwd() == project_root():
        return
    for key, value in zip(overrides[::2], overrides[1::2], strict=True):
        if key not in PLACES or not value or find_entry(value) is not None:
            continue
        if not Path(value).expanduser().is_absolute():
            where = project_root() / value
            print(f"note: {key} {value} is below the project: {where}", file=sys.stderr)


def _relative(folder: Path) -> Path:
    if folder.is_relative_to(project_root()):
        return folder.relative_to(project_root())
    return folder


def train(cfg: Any) -> int:
    """Train an experiment to the end, or until it is asked to stop."""
    from nightcrawler.config.identity import training_splits_of
    from nightcrawler.config.node import dump
    from nightcrawler.engine.build import build_trainer
    from nightcrawler.engine.metric_logger import write_run_folder
    from nightcrawler.engine.run_lock import run_lock
    from nightcrawler.engine.run_metadata import run_info_of
    from nightcrawler.engine.trainer import Preempted
    from nightcrawler.prepare.missing_poses import build_missing_poses
    from nightcrawler.utils.distributed import is_main, launched_rank
    from nightcrawler.utils.logging import get_logger

    logger = get_logger(__name__)
    # Two trainings in one folder would rotate each other's checkpoints away.
    with run_lock(Path(cfg.OUTPUT_DIR), wanted=launched_rank() == 0):
        check_lists(cfg, [cfg.DATA.TRAIN_SPLIT, *training_splits_of(cfg)])
        build_missing_poses(cfg, training_splits_of(cfg), default_jobs())
        trainer = build_trainer(cfg)
        # All ranks share the folder; only rank 0 writes into it.
        if is_main():
            run_info = run_info_of(cfg, trainer.model, trainer.config.run_metadata)
            write_run_folder(Path(cfg.OUTPUT_DIR), dump(cfg), run_info)
        try:
            best = trainer.fit()
        except Preempted as stop:
            logger.info("%s", stop)
            return EXIT_PREEMPTED
    metadata = trainer.config.run_metadata
    place = (
        f"on {best['split']} (epoch {best['epoch']}, {metadata['labels']}, seed {metadata['seed']})"
    )
    logger.info("done: best top-1 %.2f %% %s", best["top1"], place)
    logger.info("next: %s", next_command(Path(cfg.OUTPUT_DIR), dump(cfg)))
    return 0


def check_lists(cfg: Any, splits: Sequence[str]) -> None:
    """Refuse splits without a list, before weights are fetched and models are built.

    Args:
        cfg: the configuration.
        splits: their names.

    Raises:
        UserError: if a list is not there.
    """
    from nightcrawler.data.build_items import split_of
    from nightcrawler.data.lists import require_list

    for split in splits:
        require_list(split_of(cfg, split).list_file)


def next_command(folder: Path, trained: str) -> str:
    """Return the command that tests the model trained in a folder.

    Args:
        folder: the run's folder.
        trained: the configuration of the training, dumped.
    """
    # A folder made by `nightcrawler init` has a script; other output folders do not.
    script = folder / "test.sh"
    if script.is_file() and _dump_of_script(folder) == trained:
        return f"bash {shlex.quote(str(script))}"
    # The record holds the overlays and keys that the training was given.
    return f"nightcrawler test --cfg {shlex.quote(str(folder / RECORD))}"


def _dump_of_script(folder: Path) -> str:
    """Return the configuration that the scripts of a folder have by themselves, dumped."""
    from nightcrawler.config.load import load_experiment
    from nightcrawler.config.node import dump
    from nightcrawler.utils.errors import ConfigError, UserError

    defaults = {"OUTPUT_DIR": str(_relative(folder.resolve()))}
    try:
        return dump(load_experiment(folder / "config.yaml", defaults=defaults))
    except (ConfigError, UserError, OSError):
        return ""


def test(cfg: Any) -> int:
    """Test an experiment's checkpoint and write a results file per (views, crops) pair."""
    from nightcrawler.engine.tester import build_tester
    from nightcrawler.prepare.missing_poses import build_missing_poses

    check_lists(cfg, [cfg.TEST.DATA_SELECT])
    build_missing_poses(cfg, [cfg.TEST.DATA_SELECT], default_jobs())
    return EXIT_BAD_VIDEOS if build_tester(cfg).run() else 0


def show(cfg: Any) -> int:
    """Print the resolved configuration."""
    from nightcrawler.config.node import dump

    print(dump(cfg), end="")
    return 0


def main(argv: Sequence[str]) -> int:
    """Run the task that the first argument names."""
    return _run(parse(argv))


def main_train(argv: Sequence[str]) -> int:
    """Run `nightcrawler train`."""
    return _run(parse(argv, "train"))


def main_test(argv: Sequence[str]) -> int:
    """Run `nightcrawler test`."""
    return _run(parse(argv, "test"))


def main_config(argv: Sequence[str]) -> int:
    """Run `nightcrawler config`."""
    return _run(parse(argv, "show-config"))


def _run(arguments: Any) -> int:
    # Showing needs neither a log nor ranks, and must not create the output folder.
    if arguments.task == "show-config":
        return show(load(arguments))
    # A fault in a configuration is told before torch is imported.
    cfg = load(arguments)
    with collector_paused():
        from nightcrawler.utils import distributed
        from nightcrawler.utils.logging import setup_logging

        for module in MODULES[arguments.task]:
            importlib.import_module(module)

    distributed.end_with_launcher()
    distributed.check_launcher_variables()
    Path(cfg.OUTPUT_DIR).mkdir(parents=True, exist_ok=True)
    setup_logging(cfg.OUTPUT_DIR, distributed.launched_rank(), f"{arguments.task}.log")
    with distributed.peer_failure_as_error():
        run = train if arguments.task == "train" else test
        code = run(cfg)
        distributed.barrier()  # the launcher ends every rank as soon as one has left
    distributed.shutdown()
    return distributed.exit_code(code)
