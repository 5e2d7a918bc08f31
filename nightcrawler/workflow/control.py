"""The control of a round: the same number of optimiser steps without pseudo-labels, BatchNorm re-adapted as there.

`python -m nightcrawler.workflow.control NPROC --cfg ... KEY VALUE ...` takes the arguments of the round's training,
works out the epochs and becomes that training, without its pseudo-labels.
"""

from __future__ import annotations

import argparse
import math
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from nightcrawler.config.load import load_experiment
from nightcrawler.data.build import build_train_streams
from nightcrawler.utils.cli import run
from nightcrawler.workflow.experiment import build_settings_without_pseudo
from nightcrawler.workflow.jobs import net_command


def build_equal_steps(files: Sequence[Path], settings: Sequence[str]) -> list[str]:
    """`KEY VALUE` overrides that make a round its own control.

    The last epoch is finished, so the control may take a few steps more, never fewer.
    """
    cfg = load_experiment(files[0], files[1:], settings)
    without = build_settings_without_pseudo(files, settings)
    streams = build_train_streams(cfg)
    per_epoch = streams[0].sampler.num_steps * (1 if cfg.TRAIN.JOINT_STEP else len(streams))
    (control,) = build_train_streams(load_experiment(files[0], files[1:], [*settings, *without]))
    epochs = math.ceil(per_epoch * cfg.SOLVER.MAX_EPOCH / control.sampler.num_steps)
    scale = epochs / cfg.SOLVER.MAX_EPOCH
    period = max(1, round(cfg.TRAIN.EVAL_PERIOD * scale))
    warmup = min(cfg.SOLVER.WARMUP_EPOCHS * scale, float(epochs))
    keys = {"SOLVER.MAX_EPOCH": epochs, "SOLVER.WARMUP_EPOCHS": warmup, "TRAIN.EVAL_PERIOD": period}
    return [*without, *(text for key, value in keys.items() for text in (key, str(value)))]


def main(argv: Sequence[str]) -> int:
    """Work out the epochs, then become the training."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("nproc", type=int)
    parser.add_argument("--cfg", dest="experiment", type=Path, required=True)
    parser.add_argument("--overlay", type=Path, action="append", default=[])
    parser.add_argument("overrides", nargs="*")
    arguments = parser.parse_intermixed_args(argv)
    equal = build_equal_steps([arguments.experiment, *arguments.overlay], arguments.overrides)
    print(f"control: {' '.join(equal)}", flush=True)
    command = net_command("train", argv[1:], arguments.nproc, sys.executable)
    os.execv(command[0], [*command, *equal])
    return 0


if __name__ == "__main__":
    sys.exit(run(main))
