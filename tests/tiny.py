"""A tiny data folder, a tiny overlay and ways to run experiments on them: what end-to-end tests share."""

from __future__ import annotations

import contextlib
import importlib
import json
import logging
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import av
import numpy as np
import torch
from fvcore.common.config import CfgNode

from nightcrawler.config.load import load_experiment
from nightcrawler.utils import command_line
from nightcrawler.utils.io import atomic_write
from tests.paths import ROOT

NUM_CLASSES = 11
NUM_FRAMES, HEIGHT, WIDTH = 12, 40, 48
NUM_TRAIN, NUM_VAL, NUM_DARK, NUM_ARID, NUM_TEST = 8, 4, 6, 6, 3
EXPERIMENT = "exp_adapt_bn/uniformer_b32_k600"
PSEUDO_EXPERIMENT = "exp_pseudo_stage1/uniformer_b32_k600"
OVERLAY = """\
DEVICE: cpu
NUM_THREADS: 1
LOG_PERIOD: 1
TENSORBOARD: {ENABLE: False}
DATA_LOADER: {NUM_WORKERS: 0}
DATA: {NUM_FRAMES: 4, TRAIN_CROP_SIZE: 32, TEST_CROP_SIZE: 32}
AUG: {NUM_SAMPLE: 1}
UNIFORMER: {EMBED_DIM: [8, 8, 16, 16], DEPTH: [1, 1, 1, 1], HEAD_DIM: 8}
TRAIN: {BATCH_SIZE: 4, MICRO_BATCH: 2, CHECKPOINT_FILE_PATH: ""}
TEST: {BATCH_SIZE: 2}
SOLVER: {MAX_EPOCH: 2, WARMUP_EPOCHS: 1.0, BASE_LR: 1.0e-3}
"""
# Figures of a training row that depend on the clock.
PACE = ("clips_per_sec", "gflop_per_sec", "sec_per_step", "data_wait_percent")


def write_video(path: Path, label: int, seed: int, dark: bool) -> None:
    """A noisy still with a square whose speed and colour tell its class, written by PyAV."""
    rng = np.random.default_rng(seed)
    background = rng.integers(60, 160, (HEIGHT, WIDTH, 3))
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=12)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for number in range(NUM_FRAMES):
            frame = background.copy()
            x = (seed + number * (1 + label % 4)) % (WIDTH - 10)
            frame[15:25, x : x + 10] = (40 + 20 * label, 250 - 20 * label, 200)
            pixels = (frame // (10 if dark else 1)).astype(np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode())


def write_rows(path: Path, rows: Sequence[Sequence[Any]]) -> None:
    """A list file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(",".join(map(str, row)) + "\n" for row in rows))


def _write_videos(
    folder: Path, names: Sequence[str], first_seed: int, dark: bool
) -> list[tuple[str, int]]:
    rows = [(name, (first_seed + number) % NUM_CLASSES) for number, name in enumerate(names)]
    for number, (name, label) in enumerate(rows):
        write_video(folder / name, label, first_seed + number, dark)
    return rows


def build_data(folder: Path) -> Path:
    """A data folder in the layout of DATASET.md; returns it."""
    train = _write_videos(
        folder / "labeled_train/Train",
        [f"b{i}.{'avi' if i % 2 else 'mp4'}" for i in range(NUM_TRAIN)],
        0,
        False,
    )
    val = _write_videos(
        folder / "dry_run/Validation", [f"v{i}.mp4" for i in range(NUM_VAL)], 20, False
    )
    dark = _write_videos(
        folder / "dark_train/Train", [f"{i}.mp4" for i in range(NUM_DARK)], 40, True
    )
    arid = _write_videos(
        folder / "dark_train/Train", [f"Run/Run_1_{i}.mp4" for i in range(NUM_ARID)], 60, True
    )
    test = _write_videos(folder / "Test", [f"{i}.mp4" for i in range(NUM_TEST)], 80, True)
    hidden = {"dark_unlabel": dark, "total_unlabel": dark + arid, "test": test}
    for name, rows in {"train_label+val_dry": train + val, "val_dry": val, "arid": arid}.items():
        write_rows(folder / f"{name}.csv", rows)
    for name, rows in hidden.items():
        write_rows(folder / f"{name}.csv", [(path, -1) for path, _ in rows])
    return folder


def write_pseudo(
    data: Path, count: int, probs: bool = True, name: str = "pseudo/stage1.csv"
) -> None:
    """Pseudo-labels of the first `count` dark clips, with probabilities that no class shares evenly."""
    rng = np.random.default_rng(7)
    paths = [line.split(",")[0] for line in (data / "total_unlabel.csv").read_text().split()][
        :count
    ]
    rows = []
    for path in paths:
        share = rng.dirichlet(np.ones(NUM_CLASSES))
        rows.append((path, int(share.argmax()), *(share.tolist() if probs else ())))
    write_rows(data / name, rows)


def damage(path: Path) -> None:
    """Make a video undecodable."""
    path.write_bytes(b"this is not a video\n" * 50)


def overlay(folder: Path) -> Path:
    """The tiny overlay, as a file in `folder` (whole at any time: several ranks may write it)."""
    path = folder / "tiny.yaml"
    with atomic_write(path, "w") as file:
        file.write(OVERLAY)
    return path


def arguments(data: Path, out: Path, *overrides: Any, experiment: str = EXPERIMENT) -> list[str]:
    """Command-line arguments after the task: a real experiment, shrunk, its output in `out`."""
    start = ["--cfg", str(ROOT / experiment / "config.yaml"), "--overlay", str(overlay(out.parent))]
    return [*start, "DATA.PATH_PREFIX", str(data), "OUTPUT_DIR", str(out), *map(str, overrides)]


def config(data: Path, out: Path, *overrides: Any, experiment: str = EXPERIMENT) -> CfgNode:
    """The same as a frozen configuration."""
    _, cfg, _, file, *rest = arguments(data, out, *overrides, experiment=experiment)
    return load_experiment(cfg, [file], rest)


# Scripts of tools/ to the modules of nightcrawler.cli that they start.
TOOL_MODULES = {
    "run_net": "net",
    "run_pipeline": "pipeline",
    "check_videos": "audit",
    "prepare_data": "prepare",
    "show_clip": "show",
    "model_info": "info",
    "convert_checkpoint": "convert",
    "make_synthetic": "synthetic",
}


def load_tool(name: str) -> ModuleType:
    """The module of `nightcrawler.cli` that a script of `tools/` starts."""
    return importlib.import_module(f"nightcrawler.cli.{TOOL_MODULES.get(name, name)}")


@contextlib.contextmanager
def _restored() -> Iterator[None]:
    """Undo what a command line does to its process: current folder and log handlers."""
    logger, folder = logging.getLogger("nightcrawler"), os.getcwd()
    handlers, level, propagate = list(logger.handlers), logger.level, logger.propagate
    try:
        yield
    finally:
        os.chdir(folder)
        for handler in set(logger.handlers) - set(handlers):
            handler.close()
        logger.handlers, logger.level, logger.propagate = handlers, level, propagate


def run_net(task: str, data: Path, out: Path, *overrides: Any, experiment: str = EXPERIMENT) -> int:
    """`tools/run_net.py` within this process; returns its exit code and lets errors through."""
    return run_net_argv([task, *arguments(data, out, *overrides, experiment=experiment)])


def run_net_argv(argv: Sequence[str]) -> int:
    """The same with a whole command line."""
    with _restored():
        return load_tool("run_net").main(argv)


def run_net_as_process(task: str, data: Path, out: Path, *overrides: Any) -> int:
    """The same with errors as a process shows them: a line on standard error, an exit code."""
    with _restored():
        return command_line.run(
            load_tool("run_net").main, [task, *arguments(data, out, *overrides)]
        )


def run_tool(name: str, *argv: str, **env: str) -> subprocess.CompletedProcess[str]:
    """A tool in a process of its own, on one thread, without a GPU."""
    command = [sys.executable, str(ROOT / "tools" / name), *argv]
    return subprocess.run(
        command, capture_output=True, text=True, env=environment(**env), timeout=120, check=False
    )


def launch(
    task: str, nproc: int, data: Path, out: Path, *overrides: Any
) -> subprocess.CompletedProcess[str]:
    """`tools/launch.sh` with `nproc` processes."""
    shown = arguments(data, out, *overrides)[2:]
    command = ["bash", str(ROOT / "tools/launch.sh"), task, str(ROOT / EXPERIMENT), *shown]
    env = environment(NPROC=str(nproc), PYTHON=sys.executable)
    return subprocess.run(
        command, capture_output=True, text=True, env=env, timeout=120, check=False
    )


def environment(**more: str) -> dict[str, str]:
    """This process's environment without a launcher's variables."""
    kept = {
        k: v
        for k, v in os.environ.items()
        if k not in ("WORLD_SIZE", "RANK", "LOCAL_RANK", "NPROC", "NNODES")
    }
    return {**kept, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", **more}


def metrics(out: Path, kind: str | None = None) -> list[dict[str, Any]]:
    """Rows of metrics.jsonl without figures that depend on the clock."""
    rows = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return [
        {k: v for k, v in row.items() if k not in PACE}
        for row in rows
        if kind in (None, row["kind"])
    ]


def differences(left: Any, right: Any, place: str = "") -> list[str]:
    """Places where two nested structures of tensors and plain values are not equal bit for bit."""
    if isinstance(left, dict) and isinstance(right, dict) and left.keys() == right.keys():
        return [
            fault for key in left for fault in differences(left[key], right[key], f"{place}/{key}")
        ]
    if (
        isinstance(left, (list, tuple))
        and isinstance(right, (list, tuple))
        and len(left) == len(right)
    ):
        pairs = enumerate(zip(left, right, strict=True))
        return [fault for i, (a, b) in pairs for fault in differences(a, b, f"{place}/{i}")]
    if isinstance(left, torch.Tensor) and isinstance(right, torch.Tensor):
        same = left.dtype == right.dtype and torch.equal(left, right)
    else:
        same = type(left) is type(right) and left == right
    return [] if same else [place or "/"]
