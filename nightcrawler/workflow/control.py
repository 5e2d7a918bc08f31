"""Control of a round: the same number of optimiser steps without pseudo-labels.

BatchNorm is adapted again as in the round. `python -m nightcrawler.workflow.control NPROC --cfg ...
KEY VALUE ...` takes the arguments of the round's training, computes the number of epochs and
becomes that training without its pseudo-labels.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from nightcrawler.config.load import load_experiment
from nightcrawler.data.build import build_train_streams
from nightcrawler.utils.command_line import run
from nightcrawler.workflow.commands import net_command
from nightcrawler.workflow.experiment import build_settings_without_pseudo


def build_equal_steps(files: Sequence[Path], settings: Sequence[str]) -> list[str]:
    """Return overrides that turn a round into its own control.

    The last epoch is completed, so the control may take a few steps more, never fewer. Warm-up, the
    period of validation and the epochs of `SOLVER.LR_FACTORS` are scaled with the number of epochs.
    It does not stop early: a round that does has fewer steps than its control.

    Args:
        files: Configuration files of the round: the experiment's, then overlays.
        settings: `KEY VALUE` overrides of the round, flat.

    Returns:
        `KEY VALUE` overrides, flat, to be appended to `settings`.
    """
    cfg = load_experiment(files[0], files[1:], settings)
    without = build_settings_without_pseudo(files, settings)
    streams = build_train_streams(cfg)
    # A joint step takes a batch of every stream at once; otherwise each stream has its own steps,
    # but for one without weight.
    has_both = len(streams) > 1 and cfg.TRAIN.PSEUDO_WEIGHT > 0 and not cfg.TRAIN.JOINT_STEP
    steps_per_batch = 2 if has_both else 1
    steps = streams[0].sampler.num_steps * steps_per_batch * cfg.SOLVER.MAX_EPOCH
    (control,) = build_train_streams(load_experiment(files[0], files[1:], [*settings, *without]))
    epochs = math.ceil(steps / control.sampler.num_steps)
    scale = epochs / cfg.SOLVER.MAX_EPOCH
    warmup = min(cfg.SOLVER.WARMUP_EPOCHS * scale, float(epochs))
    period = max(1, round(cfg.TRAIN.EVAL_PERIOD * scale))
    factors = [_stretch_factor(text, scale) for text in cfg.SOLVER.LR_FACTORS]
    return [
        *without,
        *("SOLVER.MAX_EPOCH", str(epochs)),
        *("SOLVER.WARMUP_EPOCHS", str(warmup)),
        *("TRAIN.EVAL_PERIOD", str(period)),
        *(("TRAIN.EARLY_STOP", "0") if cfg.TRAIN.EARLY_STOP else ()),
        *(("SOLVER.LR_FACTORS", json.dumps(factors)) if factors else ()),
    ]


def _stretch_factor(text: str, scale: float) -> str:
    """Return a rule of `SOLVER.LR_FACTORS` for epochs of another length."""
    rule, at, epoch = text.rpartition("@")
    return f"{rule}@{float(epoch) * scale:g}" if at else text


def main(argv: Sequence[str]) -> int:
    """Compute the number of epochs, then become the training."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("nproc", type=int)
    parser.add_argument("--cfg", dest="experiment", type=Path, required=True)
    parser.add_argument("--overlay", type=Path, action="append", default=[])
    parser.add_argument("overrides", nargs="*")
    arguments = parser.parse_intermixed_args(argv)
    files = [arguments.experiment, *arguments.overlay]
    equal = build_equal_steps(files, arguments.overrides)
    # Before the log of the training, which opens with its whole configuration.
    sys.stdout.write(f"control: {' '.join(equal)}\n")
    sys.stdout.flush()
    command = net_command("train", argv[1:], arguments.nproc, sys.executable)
    # Replacing this process keeps its id, log and lock, so signals reach the training directly.
    os.execv(command[0], [*command, *equal])  # noqa: S606 - no shell, a list of words
    return 0


if __name__ == "__main__":
    sys.exit(run(main))
