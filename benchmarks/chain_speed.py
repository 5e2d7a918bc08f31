"""What the chain's arithmetic costs: ensemble, thresholds, pseudo-labels, two modes and their vote, of many videos."""

from __future__ import annotations

import functools
import resource
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np

from nightcrawler.pseudo.ensemble_recipe import EnsembleSpec
from nightcrawler.pseudo.labels import Selection, choose, write_pseudo_labels
from nightcrawler.pseudo.predictions import Predictions, softmax
from nightcrawler.pseudo.results_files import load_joined
from nightcrawler.pseudo.submission import write_submission
from nightcrawler.pseudo.vote import Mode, mode_submission, vote
from nightcrawler.utils.errors import UserError

T = TypeVar("T")
OUTPUTS = ("stage.csv", "arid_pred.csv")
FRACTION = 0.5


def write_models(
    folder: Path, num_videos: int, num_classes: int, num_models: int, seed: int
) -> list[Path]:
    """Results files of models that agree in part; each has the videos in an order of its own, drawn from `seed`.

    What a model says of a video depends on neither: only the order of the rows does.
    """
    names = np.array([f"{number}.mp4" for number in range(num_videos)])
    truth = np.random.default_rng(0).integers(num_classes, size=num_videos)
    paths = []
    for model in range(num_models):
        logits = np.random.default_rng([1, model]).standard_normal(
            (num_videos, num_classes), np.float32
        )
        logits[np.arange(num_videos), truth] += 2
        order = (
            np.random.default_rng([seed, model]).permutation(num_videos)
            if seed
            else np.arange(num_videos)
        )
        probs = softmax(logits.astype(np.float64)).astype(np.float32)
        unknown, ones = np.full(num_videos, -1), np.ones(num_videos, np.int64)
        rows = Predictions(
            logits[order], probs[order], unknown, names[order].tolist(), ones, ["ok"] * num_videos
        )
        paths.append(folder / f"model{model}.pkl")
        rows.save(paths[-1])
    return paths


def run_chain(paths: Sequence[Path], out: Path) -> dict[str, float]:
    """Seconds of each part, and `peak_gib` of the process; leaves `OUTPUTS` in `out`.

    Raises:
        UserError: if a results file is bad.
    """
    seconds: dict[str, float] = {}

    def timed(name: str, call: Callable[[], T]) -> T:
        start = time.perf_counter()
        found = call()
        seconds[name] = seconds.get(name, 0.0) + time.perf_counter() - start
        return found

    folders = {path.stem: "" for path in paths}
    alike = EnsembleSpec(folders, ("probs",) * len(paths), ((1, 1),) * len(paths))
    first = alike.reweighed([2.0, *[1.0] * (len(paths) - 1)])
    joined, _ = timed("load and join", lambda: load_joined(paths, alike, []))
    made = [
        functools.partial(mode_submission, joined, Mode(ensemble, []))
        for ensemble in (alike, first)
    ]
    modes = [timed("ensemble", call) for call in made]
    mixed = modes[0].probs
    assert mixed is not None
    labels = timed(
        "thresholds", lambda: choose(joined, mixed, Selection("top_fraction", fraction=FRACTION))
    )
    timed("pseudo-label CSV", lambda: write_pseudo_labels(out / OUTPUTS[0], joined, labels))
    winner = timed("vote", lambda: vote(modes, ["mode 0", "mode 1"]))
    timed("submission CSV", lambda: write_submission(out / OUTPUTS[1], winner))
    return {**seconds, "peak_gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20}


def same_rows(one: Path, other: Path) -> bool:
    """Whether two runs say the same of every video, whatever their order: files of `path,...` or of a submission."""
    return _rows(one) == _rows(other)


def _rows(path: Path) -> list[str]:
    lines = path.read_text(encoding="utf-8").splitlines()
    if not lines:
        raise UserError(f"{path}: empty")
    # A submission counts its rows in the first column.
    return sorted(line.split(",", 1)[1] if path.name == OUTPUTS[1] else line for line in lines)
