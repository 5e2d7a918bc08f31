"""Compare exports with PyTorch: differences of probabilities, and speed."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from nightcrawler.data.batch_sampler import SampleKey
from nightcrawler.data.dataset import ClipDataset
from nightcrawler.data.lists import VideoItem
from nightcrawler.data.video.decode import VideoReader
from nightcrawler.engine.evaluator import Evaluator, as_predictions
from nightcrawler.export.trained import Trained
from nightcrawler.predict.graph_input import ONE_CLIP
from nightcrawler.predict.onnx_file import LogProbs, Run
from nightcrawler.predict.predictor import Predictor
from nightcrawler.pseudo.predictions import STATUS_OK, Predictions
from nightcrawler.utils.errors import UserError
from nightcrawler.utils.progress import progress
from nightcrawler.utils.timing import race

# Largest accepted difference of a probability between the graph in PyTorch and a file or the test.
TOLERANCE = 1e-4
# The same from the test where the graph scales frames down and not FFmpeg, which does so before
# colours are rounded. Twice what was measured with exact colours (docs/use.md).
SCALED_TOLERANCE = 0.2
PYTORCH = "PyTorch"
TESTED = "as tested"
UNSCALED = "unscaled"
INT8 = "int8"
# Brightest level of the noise that speeds are measured with: dark clips have few bright pixels.
NOISE_LEVELS = 64


def predict_all(
    trained: Trained,
    runs: Mapping[str, Run],
    items: Sequence[VideoItem],
    reader: VideoReader | None = None,
) -> dict[str, Predictions]:
    """Predict one clip of every video with each run. Each video is decoded once.

    Args:
        trained: makes the clips.
        runs: name to run.
        items: videos. A video that cannot be read has the reason in `status`.
        reader: reads their frames. None takes them as the camera recorded them.

    Returns:
        Name of a run to its predictions.
    """
    dataset = ClipDataset(
        items, reader or trained.reader, trained.builder, seed=0, replace_bad=False
    )
    evaluator = Evaluator(1, torch.device("cpu"))
    models = {name: LogProbs(run) for name, run in runs.items()}
    num_classes = len(trained.class_names)
    rows: dict[str, dict[int, Any]] = {name: {} for name in runs}
    samples = (dataset[SampleKey(index, 0)] for index in range(len(items)))
    for sample in progress(samples, len(items), "measure", every=20, enabled=len(items) > 1):
        for name, model in models.items():
            rows[name].update(evaluator.rows(model, [[sample]], [ONE_CLIP], num_classes))
    predictions = {}
    for name, found in rows.items():
        predictions[name] = as_predictions(found, items, ONE_CLIP, num_classes)
    return predictions


def joined(parts: Sequence[Predictions]) -> Predictions:
    """Return predictions of different videos as one table, without metadata."""
    return Predictions(
        logits=np.concatenate([part.logits for part in parts]),
        probs=np.concatenate([part.probs for part in parts]),
        labels=np.concatenate([part.labels for part in parts]),
        names=list(itertools.chain.from_iterable(part.names for part in parts)),
        num_clips=np.concatenate([part.num_clips for part in parts]),
        status=list(itertools.chain.from_iterable(part.status for part in parts)),
    )


@dataclass(frozen=True)
class Parity:
    """Difference of two predictions of the same videos.

    Attributes:
        worst: largest difference of a probability.
        worst_video: name of its video.
        num_same: number of videos with the same most probable class.
        num_videos: number of all videos.
    """

    worst: float
    worst_video: str
    num_same: int
    num_videos: int


@dataclass(frozen=True)
class Comparison:
    """Difference of one run, and the largest that is accepted.

    Attributes:
        name: name of the run.
        parity: its difference.
        limit: largest accepted difference of a probability, None for any.
    """

    name: str
    parity: Parity
    limit: float | None

    @property
    def is_within(self) -> bool:
        """True where the difference is accepted; one that is not a number never is."""
        return self.limit is None or self.parity.worst <= self.limit


def parity(found: Predictions, reference: Predictions) -> Parity:
    """Compare predictions of the same videos.

    Args:
        found: predictions of a run.
        reference: predictions that it is compared with.

    Raises:
        UserError: if a video has no prediction.
    """
    for name, *status in zip(found.names, found.status, reference.status, strict=True):
        for text in status:
            if text != STATUS_OK:
                raise UserError(f"{name}: {text}: cannot be compared on it")
    # In float64, so that the difference of two float32 values is not rounded again.
    differences = np.abs(found.probs.astype(np.float64) - reference.probs).max(axis=1)
    at = int(differences.argmax())
    same = found.probs.argmax(axis=1) == reference.probs.argmax(axis=1)
    return Parity(float(differences[at]), found.names[at], int(same.sum()), len(same))


def as_exported(predictor: Predictor) -> Predictor:
    """Return a predictor on the CPU with the arithmetic of a graph, float32.

    Half precision would hide a difference of the frames.
    """
    return replace(predictor, evaluator=Evaluator(1, torch.device("cpu")))


def compare(
    trained: Trained, runs: Mapping[str, Run], tester: Predictor, items: Sequence[VideoItem]
) -> list[Comparison]:
    """Compare the graph in PyTorch with each file, and with the test, on videos.

    Args:
        trained: makes the clips.
        runs: name to run, the graph in PyTorch among them.
        tester: nightcrawler's own prediction, see `as_exported`.
        items: videos.

    Raises:
        UserError: if a video cannot be read, or the graph does not take its frames.
    """
    found = predict_all(trained, runs, items)
    reference = found.pop(PYTORCH)
    rows = []
    for name, predictions in found.items():
        limit = None if name == INT8 else TOLERANCE
        rows.append(Comparison(name, parity(predictions, reference), limit))
    tested = joined(list(tester.video_predictions(items)))
    if not trained.facts["short_side"]:
        rows.append(Comparison(TESTED, parity(reference, tested), TOLERANCE))
        return rows
    if None in trained.frame_shape:
        # Frames that FFmpeg scaled are left as they are, so that figures are the test's.
        run = {PYTORCH: runs[PYTORCH]}
        scaled = predict_all(trained, run, items, trained.test_reader)[PYTORCH]
        rows.append(Comparison(TESTED, parity(scaled, tested), TOLERANCE))
    rows.append(Comparison(UNSCALED, parity(reference, tested), SCALED_TOLERANCE))
    return rows


def speeds(
    runs: Mapping[str, Run], frame_shape: Sequence[int], num_clips: int, repeats: int
) -> dict[str, float]:
    """Measure the fastest call of each run with a batch of noise, in turns.

    Args:
        runs: name to run.
        frame_shape: T, H, W, 3 of a clip.
        num_clips: clips of a call.
        repeats: number of measured calls of each run.

    Returns:
        Name of a run to seconds.
    """
    shape = (num_clips, *frame_shape)
    frames = np.random.default_rng(0).integers(0, NOISE_LEVELS, shape, np.uint8)
    calls = {name: lambda run=run: run(frames) for name, run in runs.items()}
    # First calls allocate memory and choose algorithms: they are not measured.
    race(calls, 1)
    return race(calls, repeats)
