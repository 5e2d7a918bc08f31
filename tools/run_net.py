"""Train or test one experiment, or show its resolved configuration."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nightcrawler.utils.cli import make_parser, run

ROOT = Path(__file__).resolve().parent.parent
EXIT_BAD_VIDEOS = 3
EXIT_PREEMPTED = 75
EXAMPLES = """\
  python tools/run_net.py train --cfg exp_adapt_bn/uniformer_b32_k600/config.yaml
  python tools/run_net.py train --cfg exp_adapt_bn/sf32_k700/config.yaml SOLVER.MAX_EPOCH 2 TRAIN.BATCH_SIZE 8
  python tools/run_net.py test --cfg exp_adapt_bn/uniformer_b32_k600/config.yaml TEST.DATA_SELECT arid
  python tools/run_net.py show-config --cfg exp_experts/uniformer_b32_ssv2/config.yaml --overlay configs/demo.yaml

exit codes: 0 done, 2 an error that the line names, 3 tested but some videos could not be read,
75 stopped by a signal after saving (start again to go on)"""


def parse(argv: Sequence[str]) -> Any:
    """The command line."""
    parser = make_parser(__doc__ or "", EXAMPLES)
    parser.add_argument("task", choices=("train", "test", "show-config"))
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
        "overrides", nargs="*", metavar="KEY VALUE", help="such as SOLVER.MAX_EPOCH 2"
    )
    return parser.parse_intermixed_args(argv)


def load(arguments: Any) -> Any:
    """The frozen configuration; from here on, the current folder is the project's root."""
    from nightcrawler.config.node import load_experiment

    experiment = arguments.cfg.resolve()
    overrides = list(arguments.overrides)
    if "OUTPUT_DIR" not in overrides[::2]:
        overrides += ["OUTPUT_DIR", str(_relative(experiment.parent))]
    cfg = load_experiment(experiment, [path.resolve() for path in arguments.overlay], overrides)
    os.chdir(ROOT)
    return cfg


def _relative(folder: Path) -> Path:
    return folder.relative_to(ROOT) if folder.is_relative_to(ROOT) else folder


def train(cfg: Any) -> int:
    """Train an experiment to the end, or until it is asked to stop."""
    from nightcrawler.config.node import dump
    from nightcrawler.engine.build import build_trainer
    from nightcrawler.engine.lock import run_lock
    from nightcrawler.engine.metric_logger import write_run_folder
    from nightcrawler.engine.run_metadata import run_info_of
    from nightcrawler.engine.trainer import Preempted
    from nightcrawler.utils.distributed import is_main, launched_rank
    from nightcrawler.utils.logging import get_logger

    logger = get_logger(__name__)
    with run_lock(Path(cfg.OUTPUT_DIR), wanted=launched_rank() == 0):
        trainer = build_trainer(cfg)
        if is_main():
            write_run_folder(Path(cfg.OUTPUT_DIR), dump(cfg), run_info_of(cfg, trainer.model))
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
    return 0


def test(cfg: Any) -> int:
    """Test an experiment's checkpoint and write a results file per (views, crops) pair."""
    from nightcrawler.engine.tester import build_tester

    return EXIT_BAD_VIDEOS if build_tester(cfg).run() else 0


def show(cfg: Any) -> int:
    """Print the resolved configuration."""
    from nightcrawler.config.node import dump

    print(dump(cfg), end="")
    return 0


def main(argv: Sequence[str]) -> int:
    """Load the configuration and do the task."""
    arguments = parse(argv)
    cfg = load(arguments)
    if arguments.task == "show-config":
        return show(cfg)
    from nightcrawler.utils import distributed
    from nightcrawler.utils.logging import setup_logging

    Path(cfg.OUTPUT_DIR).mkdir(parents=True, exist_ok=True)
    setup_logging(cfg.OUTPUT_DIR, distributed.launched_rank(), f"{arguments.task}.log")
    with distributed.peer_failure_as_error():
        code = train(cfg) if arguments.task == "train" else test(cfg)
        distributed.barrier()  # the launcher ends every rank as soon as one has left
    distributed.shutdown()
    return distributed.exit_code(code)


if __name__ == "__main__":
    sys.exit(run(main))
