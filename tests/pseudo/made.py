"""Made-up predictions and recipes: what tests of the chain share."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from nightcrawler.pseudo.predictions import Predictions


def made(
    num_videos: int = 12,
    num_classes: int = 4,
    seed: int = 0,
    *,
    names: Sequence[str] | None = None,
    labels: Sequence[int] | None = None,
    bad: Sequence[int] = (),
    sharpness: float = 2.0,
    **meta: Any,
) -> Predictions:
    """Random predictions; rows of `bad` have none. `probs` is not the softmax of `logits`, as with several clips."""
    rng = np.random.default_rng(seed)
    logits = (sharpness * rng.normal(size=(num_videos, num_classes))).astype(np.float32)
    probs = np.exp(1.3 * logits.astype(np.float64))
    probs = (probs / probs.sum(axis=1, keepdims=True)).astype(np.float32)
    status = ["ok"] * num_videos
    for row in bad:
        logits[row] = probs[row] = np.nan
        status[row] = "cannot be decoded"
    return Predictions(
        logits,
        probs,
        np.array([-1] * num_videos if labels is None else labels, np.int64),
        list(names) if names is not None else [f"v{row}.mp4" for row in range(num_videos)],
        np.full(num_videos, 3, np.int64),
        status,
        {"labels": "label-free", "split": "total_unlabel", **meta},
    )


def permuted(predictions: Predictions, order: Sequence[int]) -> Predictions:
    """The same rows in another order."""
    rows = list(order)
    return Predictions(
        predictions.logits[rows],
        predictions.probs[rows],
        predictions.labels[rows],
        [predictions.names[row] for row in rows],
        predictions.num_clips[rows],
        [predictions.status[row] for row in rows],
        dict(predictions.meta),
    )


def yaml_file(folder: Path, text: str, name: str = "recipe.yaml") -> Path:
    """A YAML file of this text."""
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path
