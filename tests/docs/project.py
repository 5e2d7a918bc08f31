"""A copy of the project in a temporary folder, with tiny data, in which a document's blocks are done in order."""

from __future__ import annotations

import functools
import itertools
import os
import pickle
import re
import shutil
import signal
import subprocess
import sys
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from tests import tiny
from tests.docs.commands import IN_EXPERIMENT
from tests.docs.pages import Block, commands
from tests.paths import ROOT

COPIED = (
    "configs",
    "nightcrawler",
    "tools",
    "gen_pseudo_tools",
    "test_ensemble_vote.py",
    "Makefile",
    "pyproject.toml",
    "docs/night.mp4",
)
ACCEPTED = (0, 3)
TIMEOUT_SEC = 120


@dataclass(frozen=True)
class Made:
    """What blocks are given: a tiny data folder, and a trained and tested experiment."""

    data: Path
    trained: Path


def make(folder: Path) -> Made:
    """Render tiny clips, train a tiny model, test it on ARID."""
    made = Made(tiny.build_data(folder / "data"), folder / "trained")
    epochs = ("SOLVER.MAX_EPOCH", 1, "SOLVER.WARMUP_EPOCHS", 0.5)
    assert tiny.run_net("train", made.data, made.trained, *epochs) == 0
    assert tiny.run_net("test", made.data, made.trained, "TEST.DATA_SELECT", "arid") == 0
    return made


class Project:
    """The copy.

    Args:
        folder: where it is made.
        made: what blocks are given.
    """

    def __init__(self, folder: Path, made: Made) -> None:
        self.folder, self.made = folder, made
        folder.mkdir()
        for name in COPIED:
            source = ROOT / name
            if source.is_dir():
                shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                (folder / name).parent.mkdir(exist_ok=True)
                shutil.copy(source, folder / name)
        for path in itertools.chain.from_iterable(
            ROOT.glob(f"exp_*/*/{name}") for name in IN_EXPERIMENT
        ):
            target = folder / path.relative_to(ROOT)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, target)
        shutil.copytree(made.data, folder / "data")
        tiny.overlay(folder)
        python = folder / "bin/python"
        python.parent.mkdir()
        python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
        python.chmod(0o755)
        command = folder / "bin/nightcrawler"
        command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m nightcrawler "$@"\n')
        command.chmod(0o755)

    def do(self, block: Block) -> None:
        """Write, apply or run a block, as its marks say.

        Raises:
            AssertionError: if it does not work.
        """
        for path in itertools.chain.from_iterable(
            map(expand, block.marks.get("given", "").split())
        ):
            self._give(path)
        if "file" in block.marks:
            self._write(block.marks["file"], block.text)
        elif "edit" in block.marks:
            path = self.folder / block.marks["edit"]
            path.write_text(edited(path.read_text(), block.lines))
        elif "needs" in block.marks:
            return
        elif block.language == "python":
            self._write("snippet.py", block.text)
            self.run("python snippet.py")
        elif block.language == "bash":
            more = block.marks.get("run with", "")
            for command in commands(block.text):
                self.run(f"{command} {more}")

    def run(self, command: str) -> str:
        """Run a command line in the copy; returns what it printed.

        Raises:
            AssertionError: if it fails.
        """
        env = tiny.environment(PYTHONPATH=str(self.folder), PYTHON=sys.executable)
        env["PATH"] = f"{self.folder / 'bin'}:{env['PATH']}"
        line = ["bash", "-euo", "pipefail", "-c", command]
        with subprocess.Popen(
            line,
            cwd=self.folder,
            env=env,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            process_group=0,
        ) as process:
            try:
                shown, _ = process.communicate(timeout=TIMEOUT_SEC)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                raise AssertionError(f"{command}: not done after {TIMEOUT_SEC} seconds") from None
        assert process.returncode in ACCEPTED, f"{command}: exit code {process.returncode}\n{shown}"
        return shown

    def _write(self, name: str, text: str) -> None:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def _give(self, name: str) -> None:
        """Put a file there, made after its ending; below `published/` in the published code's form."""
        path, published = self.folder / name, name.startswith("published/")
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".pkl" and published:
            path.write_bytes(self._old_results(zlib.crc32(name.encode())))
        elif path.suffix == ".npz":
            shutil.copy(next(self.made.trained.glob("arid*.npz")), path)
        elif path.suffix == ".pyth" and not published:
            shutil.copy(self.made.trained / "best.pyth", path)
        elif path.suffix == ".pyth":
            state = torch.load(self.made.trained / "best.pyth", weights_only=True)["model_state"]
            torch.save({"epoch": 3, "model_state": state, "cfg": "TRAIN: {}"}, path)
        else:
            dark = "night" in name
            tiny.write_video(
                path.with_suffix(".mp4"),
                zlib.crc32(name.encode()) % 11,
                zlib.crc32(name.encode()),
                dark,
            )
            path.with_suffix(".mp4").rename(path)

    def _old_results(self, seed: int) -> bytes:
        rng = np.random.default_rng(seed)
        num_videos = len((self.made.data / "total_unlabel.csv").read_text().split())
        scores = rng.normal(size=(num_videos, tiny.NUM_CLASSES)).astype(np.float32) * 4
        return pickle.dumps({"video_preds": scores, "video_labels": np.full(num_videos, -1)})


def expand(word: str) -> Iterator[str]:
    """`a/{b,c}` as `a/b` and `a/c`."""
    found = re.search(r"\{([^{}]*)\}", word)
    if not found:
        yield word
        return
    for choice in found[1].split(","):
        yield from expand(word[: found.start()] + choice + word[found.end() :])


def edited(text: str, lines: list[str]) -> str:
    """A text with the hunks of a diff applied; what a hunk takes away and keeps must be there once, line by line.

    Raises:
        ValueError: naming the lines that are not there, or more than once.
    """
    hunks = [
        list(group)
        for at, group in itertools.groupby(lines, lambda line: line.startswith("@@"))
        if not at
    ]
    return functools.reduce(_apply, hunks, text)


def _apply(text: str, hunk: list[str]) -> str:
    old, new = ("".join(f"{line[1:]}\n" for line in hunk if line[:1] != sign) for sign in "+-")
    if f"\n{text}".count(f"\n{old}") != 1:
        raise ValueError(f"expected once, found {text.count(old)} times:\n{old}")
    return f"\n{text}".replace(f"\n{old}", f"\n{new}")[1:]
