"""Cost of the chain's arithmetic on many videos: ensemble, thresholds, pseudo-labels and vote."""

from __future__ import annotations

import functools
import multiprocessing
import resource
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np

from nightcrawler.pseudo.ensemble_recipe import EnsembleSpec
from nightcrawler.pseudo.labels import Selection, choose, write_pseudo_labels
from nightcrawler.pseudo.predictions import Predictions, softmax
from nightcrawler.pseudo.results_metadata import load_joined
from nightcrawler.pseudo.submission import write_submission
from nightcrawler.pseudo.vote import Mode, mode_submission, vote
from nightcrawler.utils.errors import UserError

T = TypeVar("T")
OUTPUTS = ("stage.csv", "arid_pred.csv")
FRACTION = 0.5
# Logits of the true class are higher by this: models are right more often than not, and differ.
SIGNAL = 2


def measure_chain(num_videos: int, num_classes: int, num_models: int) -> Iterator[str]:
    """Yield CPU seconds and memory of the chain, for rows in order and shuffled.

    Args:
        num_videos: rows of each results file.
        num_classes: columns of each results file.
        num_models: results files.

    Raises:
        UserError: if the order of rows changes the outputs.
    """
    with (
        tempfile.TemporaryDirectory() as folder,
        # A process of its own, whose peak memory is the chain's alone.
        multiprocessing.get_context("spawn").Pool(1, None, (), 1) as pool,
    ):
        outs = [Path(folder) / name for name in ("in_order", "shuffled")]
        for seed, out in enumerate(outs):
            out.mkdir()
            paths = write_models(out, num_videos, num_classes, num_models, seed)
            seconds = pool.apply(run_chain, (paths, out))
            # The next set of files may not fit beside these.
            for path in paths:
                path.unlink()
            peak_gib = seconds.pop("peak_gib")
            parts = ", ".join(f"{name} {value:.1f}" for name, value in seconds.items())
            total = sum(seconds.values())
            yield f"{out.name}: {total:.1f} s of CPU ({parts}), peak {peak_gib:.2f} GiB"
        alike = all(same_rows(outs[0] / name, outs[1] / name) for name in OUTPUTS)
    size = f"{num_videos:,} videos x {num_classes} classes x {num_models} models"
    yield f"{size}: " + ("the same rows in any order" if alike else "ROWS DIFFER")
    if not alike:
        raise UserError("the order of rows in results files changes the outputs of the chain")


def write_models(
    folder: Path, num_videos: int, num_classes: int, num_models: int, seed: int
) -> list[Path]:
    """Write results files of models that agree in part.

    Args:
        folder: of the files.
        num_videos: rows of each file.
        num_classes: columns of each file.
        num_models: number of files.
        seed: of the order of rows, which differs between files; 0 for ascending order. The
            predictions do not depend on it.

    Returns:
        The files.
    """
    # Names as in the challenge, which sort differently as text and as numbers.
    names = np.array([f"{number}.mp4" for number in range(num_videos)])
    truth = np.random.default_rng(0).integers(num_classes, size=num_videos)
    paths = []
    for model in range(num_models):
        rng = np.random.default_rng([1, model])
        logits = rng.standard_normal((num_videos, num_classes), np.float32)
        logits[np.arange(num_videos), truth] += SIGNAL
        order = np.arange(num_videos)
        if seed:
            order = np.random.default_rng([seed, model]).permutation(num_videos)
        probs = softmax(logits.astype(np.float64)).astype(np.float32)
        unknown = np.full(num_videos, -1)
        ones = np.ones(num_videos, np.int64)
        rows = Predictions(
            logits[order], probs[order], unknown, names[order].tolist(), ones, ["ok"] * num_videos
        )
        paths.append(folder / f"model{model}.pkl")
        rows.save(paths[-1])
    return paths


def run_chain(paths: Sequence[Path], out: Path) -> dict[str, float]:
    """Run the chain's arithmetic and write `OUTPUTS`.

    Args:
        paths: results files.
        out: folder of the outputs.

    Returns:
        CPU seconds of each part, and `peak_gib` of the process.

    Raises:
        UserError: if a results file is damaged.
    """
    seconds: dict[str, float] = {}

    def timed(name: str, call: Callable[[], T]) -> T:
        """Add the CPU seconds of a call, which other programs do not change, to a part's."""
        start = time.process_time()
        result = call()
        seconds[name] = seconds.get(name, 0.0) + time.process_time() - start
        return result

    folders = dict.fromkeys((path.stem for path in paths), "")
    equal = EnsembleSpec(folders, ("probs",) * len(paths), ((1, 1),) * len(paths))
    # The second voter differs by its weights, as in the challenge's recipe.
    weighted = equal.reweighed([2.0, *[1.0] * (len(paths) - 1)])
    joined, _ = timed("load and join", lambda: load_joined(paths, equal, []))
    modes = []
    for ensemble in (equal, weighted):
        call = functools.partial(mode_submission, joined, Mode(ensemble, []))
        modes.append(timed("ensemble", call))
    mixed = modes[0].probs
    assert mixed is not None
    selection = Selection("top_fraction", fraction=FRACTION)
    labels = timed("thresholds", lambda: choose(joined, mixed, selection))
    timed("pseudo-label CSV", lambda: write_pseudo_labels(out / OUTPUTS[0], joined, labels))
    # Two voters are the fewest that a vote takes.
    winner = timed("vote", lambda: vote(modes, ["mode 0", "mode 1"]))
    timed("submission CSV", lambda: write_submission(out / OUTPUTS[1], winner))
    return {**seconds, "peak_gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20}


def same_rows(one: Path, other: Path) -> bool:
    """Return whether two files have the same rows in any order.

    Args:
        one: pseudo-labels or a submission.
        other: the same of another run.
    """
    return _rows(one) == _rows(other)


def _rows(path: Path) -> list[str]:
    lines = path.read_text(encoding="utf-8").splitlines()
    if not lines:
        raise UserError(f"{path}: empty, expected rows")
    if path.name == OUTPUTS[1]:
        # A submission numbers its rows in the first column.
        lines = [line.split(",", 1)[1] for line in lines]
    return sorted(lines)
