"""Options that parts of the command line share, and those of the GPU."""

from __future__ import annotations

import argparse
from pathlib import Path

from nightcrawler.utils.command_line import at_least

# Written here too, because --help must not wait for torch.
GPU_MODELS = ("uniformer_b32_k600", "uniformer_b32_ssv2", "mvit_b32_k600", "sf32_k700")


def add_estimator_options(parser: argparse.ArgumentParser) -> None:
    """Add the estimator of poses, its model and its processes."""
    parser.add_argument(
        "--estimator", default="mediapipe", metavar="NAME", help="default mediapipe"
    )
    parser.add_argument(
        "--model",
        metavar="FILE",
        help="model of the estimator (default: the one that it brings, if any)",
    )
    parser.add_argument(
        "--jobs", type=at_least(1), default=2, metavar="N", help="processes (default 2)"
    )


def add_gpu_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of the part `gpu`."""
    parser.add_argument(
        "--only",
        choices=GPU_MODELS,
        action="append",
        help="only this model (repeatable; default: all)",
    )
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda", help="default cuda")
    parser.add_argument("--tiny", action="store_true", help="small models and clips, to rehearse")
    parser.add_argument(
        "--batch", type=at_least(1), default=8, metavar="N", help="clips in a call (default 8)"
    )
    parser.add_argument(
        "--workers",
        type=at_least(0),
        action="append",
        metavar="N",
        help="train with N loader workers, and say how long it waits (repeatable; default 8)",
    )
    parser.add_argument(
        "--hours",
        action="store_true",
        help="measure nothing: compute memory and hours of each model and stage",
    )
    parser.add_argument(
        "--tflops",
        type=at_least(1),
        default=100,
        metavar="N",
        help="rate that the card keeps up, for --hours (default 100 TFLOP/s)",
    )


def add_clip_options(parser: argparse.ArgumentParser, count: int) -> None:
    """Add the videos that are measured.

    Args:
        parser: of the part.
        count: number of videos by default.
    """
    parser.add_argument(
        "--clips",
        type=Path,
        metavar="DIR",
        help="folder of videos (default: synthetic ones, rendered now)",
    )
    parser.add_argument(
        "--videos",
        type=int,
        default=count,
        metavar="N",
        help=f"number of videos, evenly chosen (default {count})",
    )
