"""Metadata of figures: label use, split, seeds and clips, which a reader needs to judge them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from nightcrawler.pseudo.results_metadata import LABEL_FREE
from nightcrawler.report.measures import TopPredictions
from nightcrawler.report.run_folder import RunFolder
from nightcrawler.report.run_predictions import join_seeds, joint_use

# Sentences about the use of labels, the same in the table and on the page.
HIDDEN = "measured with hidden labels; nothing was chosen by them"
CHOSEN = "labels of dark clips chose checkpoints or thresholds"
PICKED = "it picked the checkpoints"


def figure_metadata(
    run: RunFolder, split: str, predictions: Sequence[TopPredictions], num_clips: int
) -> dict[str, Any]:
    """Return the metadata that every figure carries, under the key `stamp` of `report.json`.

    Args:
        run: of the chain.
        split: on which the figure was measured.
        predictions: behind the figure.
        num_clips: with a known true class.

    Returns:
        Label use, split, seeds, clips, whether the labels are of dark clips (`dark_labels`), and
        whether the split picked the best checkpoints (`picked`).
    """
    return {
        "use": joint_use(predictions),
        "split": split,
        "seeds": list(join_seeds(predictions)),
        "clips": num_clips,
        "dark_labels": run.split_kind(split) == "dark",
        "picked": run.picks_checkpoints(split),
    }


def without_folder(path: str) -> str:
    """Return a path, or its name alone where it names a folder of this machine."""
    return Path(path).name if Path(path).is_absolute() else path


def join_words(values: Sequence[Any]) -> str:
    """Return values as `1, 2`, or `unknown` if there is none."""
    return ", ".join(map(str, values)) or "unknown"


def describe(metadata: Mapping[str, Any]) -> str:
    """Return metadata in words, beginning with the label use.

    Args:
        metadata: of `figure_metadata`.

    Example:
        >>> describe({"use": "label-free", "split": "test", "seeds": [0], "clips": 330, ...})
        'label-free, split test, seed 0, 330 clips, measured with hidden labels; ...'
    """
    return f"{metadata['use']}, {describe_data(metadata)}"


def describe_data(metadata: Mapping[str, Any]) -> str:
    """Return metadata in words without the label use, which the page shows as a badge.

    Args:
        metadata: of `figure_metadata`.
    """
    parts = [
        f"split {metadata['split']}",
        f"seed {join_words(metadata['seeds'])}",
        f"{metadata['clips']} clips",
    ]
    # A reader must see if labels of dark clips chose anything, and that they chose nothing where
    # they were only measured with.
    if metadata["use"] != LABEL_FREE:
        parts.append(CHOSEN)
    elif metadata["dark_labels"] and metadata["clips"]:
        parts.append(HIDDEN)
    if metadata["picked"]:
        parts.append(PICKED)
    return ", ".join(parts)
