"""What exports say and cost, beside PyTorch."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields

import numpy as np
import torch

from nightcrawler.data.batch_sampler import SampleKey
from nightcrawler.data.dataset import ClipDataset
from nightcrawler.data.lists import VideoItem
from nightcrawler.engine.evaluator import Evaluator, as_predictions
from nightcrawler.export.frames import ONE_CLIP
from nightcrawler.export.runtimes import LogProbs, Run
from nightcrawler.export.trained import Trained
from nightcrawler.pseudo.predictions import STATUS_OK, Predictions
from nightcrawler.utils.errors import UserError
from nightcrawler.utils.progress import progress
from nightcrawler.utils.timing import race

# Most that probabilities may differ from PyTorch's.
TOLERANCE = 1e-4
PYTORCH = "PyTorch"


def predict_all(
    trained: Trained, runs: Mapping[str, Run], items: Sequence[VideoItem]
) -> dict[str, Predictions]:
    """Predictions of each run, of one clip of every video, all from one decode.

    Args:
        trained: makes the clips.
        runs: by name.
        items: the videos; one that cannot be read has its cause in `status`.
    """
    dataset = ClipDataset(items, trained.reader, trained.builder, seed=0, replace_bad=False)
    evaluator, models = (
        Evaluator(1, torch.device("cpu")),
        {name: LogProbs(run) for name, run in runs.items()},
    )
    num_classes, rows = len(trained.class_names), {name: {} for name in runs}
    samples = (dataset[SampleKey(index, 0)] for index in range(len(items)))
    for sample in progress(samples, len(items), "measure", every=20, enabled=len(items) > 1):
        for name, model in models.items():
            rows[name].update(evaluator.rows(model, [[sample]], [ONE_CLIP], num_classes))
    return {
        name: as_predictions(found, items, ONE_CLIP, num_classes) for name, found in rows.items()
    }


def joined(parts: Sequence[Predictions]) -> Predictions:
    """Predictions of different videos as one."""
    columns = {
        field.name: [getattr(part, field.name) for part in parts] for field in fields(Predictions)
    }
    lists = {name: list(itertools.chain(*columns[name])) for name in ("names", "status")}
    arrays = {
        name: np.concatenate(columns[name]) for name in ("logits", "probs", "labels", "num_clips")
    }
    return Predictions(**lists, **arrays)


@dataclass(frozen=True)
class Parity:
    """How far one run is from PyTorch on the same videos.

    Attributes:
        worst: largest difference of a probability.
        worst_video: the video it is of.
        num_same: videos with the same most probable class.
        num_videos: all of them.
    """

    worst: float
    worst_video: str
    num_same: int
    num_videos: int


def parity(found: Predictions, reference: Predictions) -> Parity:
    """Compare predictions of the same videos.

    Raises:
        UserError: if a video has no prediction.
    """
    for name, *status in zip(found.names, found.status, reference.status, strict=True):
        if status != [STATUS_OK] * 2:
            raise UserError(
                f"{name}: {next(text for text in status if text != STATUS_OK)}: cannot be compared on it"
            )
    differences = np.abs(found.probs.astype(np.float64) - reference.probs).max(axis=1)
    at = int(differences.argmax())
    same = found.probs.argmax(axis=1) == reference.probs.argmax(axis=1)
    return Parity(float(differences[at]), found.names[at], int(same.sum()), len(same))


def speeds(
    runs: Mapping[str, Run], frame_shape: Sequence[int], num_clips: int, repeats: int
) -> dict[str, float]:
    """Seconds of the fastest call of each run with a batch of noise, taken in turns."""
    frames = np.random.default_rng(0).integers(0, 64, (num_clips, *frame_shape), np.uint8)
    calls = {name: lambda run=run: run(frames) for name, run in runs.items()}
    race(calls, 1)  # warms up
    return race(calls, repeats)
