"""Rows of one part of a large prediction, as arrays of a sealed file.

Text is JSON in bytes: an array of text would give each of a thousand names the room of the longest.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from nightcrawler.predict.sliding_windows import Segment
from nightcrawler.predict.video_result import STATUS_DAMAGED, VideoResult, to_plain
from nightcrawler.pseudo.predictions import STATUS_OK

# In the place of size and time: there was no file on this machine, or an early version did not keep
# them.
NO_FILE = (-1, -1)
NOT_KEPT = (-2, -2)
_TEXTS = ("names", "status", "segments")
_NUMBERS = ("labels", "class_ids", "num_clips", "num_votes")


@dataclass(frozen=True)
class PartRow:
    """One row of a part.

    Attributes:
        result: result of the video.
        state: `video_state` of the video before it was read, `NO_FILE` or `NOT_KEPT`.
    """

    result: VideoResult
    state: tuple[int, int] = NOT_KEPT


@dataclass(frozen=True)
class PartTable:
    """Rows of a part as arrays, in the order of the list.

    Attributes:
        names: names of the n videos.
        status: their status, see `VideoResult`.
        segments: their timelines as plain values.
        labels: int64 `[n]`.
        class_ids: int64 `[n]`.
        num_clips: int64 `[n]`.
        probs: float64 `[n, K]`, NaN rows where a prediction is missing.
        logits: float64 `[n, K]`, likewise.
        votes: int64 `[n, M]`, filled up with zeros.
        num_votes: int64 `[n]`, votes of each row.
        states: int64 `[n, 2]`, see `PartRow`.
    """

    names: list[str]
    status: list[str]
    segments: list[list[dict[str, Any]]]
    labels: np.ndarray
    class_ids: np.ndarray
    num_clips: np.ndarray
    probs: np.ndarray
    logits: np.ndarray
    votes: np.ndarray
    num_votes: np.ndarray
    states: np.ndarray

    def results(self, class_names: tuple[str, ...]) -> Iterator[VideoResult]:
        """Yield the results of the videos.

        Args:
            class_names: names of the K classes.
        """
        columns = (
            self.labels,
            self.class_ids,
            self.num_clips,
            self.num_votes,
            self.votes,
            self.probs,
            self.logits,
        )
        numbers = zip(*(column.tolist() for column in columns), strict=True)
        texts = zip(self.names, self.status, self.segments, strict=True)
        for (name, status, segments), row in zip(texts, numbers, strict=True):
            label, class_id, num_clips, num_votes, votes, probs, logits = row
            yield VideoResult(
                name=name,
                label=label,
                status=status,
                class_names=class_names,
                class_id=class_id,
                probs=_without_nan(probs),
                logits=_without_nan(logits),
                num_clips=num_clips,
                votes=tuple(votes[:num_votes]),
                segments=tuple(Segment(**one) for one in segments),
            )

    @property
    def ok(self) -> np.ndarray:
        """Mask of the videos that have a prediction, bool `[n]`."""
        return ~np.isnan(self.probs[:, 0])

    @property
    def is_damaged(self) -> np.ndarray:
        """Mask of the videos of which a part was predicted, bool `[n]`."""
        starts = [status.startswith(f"{STATUS_DAMAGED}: ") for status in self.status]
        return self.ok & np.array(starts, bool)

    @property
    def plain_status(self) -> list[str]:
        """Status of each video in a results file: `ok` where a whole video has a prediction.

        Whoever mixes these probabilities decides anew how far they are to be believed.
        """
        whole = self.ok & ~self.is_damaged
        pairs = zip(whole.tolist(), self.status, strict=True)
        return [STATUS_OK if is_whole else status for is_whole, status in pairs]

    def rows(self, class_names: tuple[str, ...]) -> Iterator[PartRow]:
        """Yield results and states, see `results`."""
        for result, state in zip(self.results(class_names), self.states.tolist(), strict=True):
            yield PartRow(result, (state[0], state[1]))


def _without_nan(values: list[float]) -> tuple[float, ...]:
    # NaN is the only number that differs from itself. Rows are NaN as a whole.
    return tuple(values) if values and values[0] == values[0] else ()


def table_of(rows: Sequence[PartRow], num_classes: int) -> PartTable:
    """Return rows as arrays.

    Args:
        rows: n rows.
        num_classes: K, for rows without a prediction.
    """
    results = [row.result for row in rows]
    missing = (float("nan"),) * num_classes
    num_votes = np.array([len(result.votes) for result in results], np.int64)
    votes = np.zeros((len(results), num_votes.max(initial=0)), np.int64)
    for place, result in enumerate(results):
        votes[place, : len(result.votes)] = result.votes
    return PartTable(
        names=[result.name for result in results],
        status=[result.status for result in results],
        segments=[to_plain(result)["segments"] if result.segments else [] for result in results],
        labels=np.array([result.label for result in results], np.int64),
        class_ids=np.array([result.class_id for result in results], np.int64),
        num_clips=np.array([result.num_clips for result in results], np.int64),
        probs=_matrix([result.probs or missing for result in results], num_classes),
        logits=_matrix([result.logits or missing for result in results], num_classes),
        votes=votes,
        num_votes=num_votes,
        states=np.array([row.state for row in rows], np.int64).reshape(-1, 2),
    )


def _matrix(rows: Sequence[tuple[float, ...]], width: int) -> np.ndarray:
    return np.array(rows, np.float64).reshape(len(rows), width)


def to_arrays(table: PartTable) -> dict[str, np.ndarray]:
    """Return the arrays of the file of a table: few, as each has a header to be parsed."""
    texts = [getattr(table, name) for name in _TEXTS]
    numbers = np.column_stack([getattr(table, name) for name in _NUMBERS] + [table.states])
    return {
        "text": np.frombuffer(json.dumps(texts).encode(), np.uint8),
        "numbers": numbers,
        "votes": table.votes,
        "probs": table.probs,
        "logits": table.logits,
    }


def from_arrays(arrays: Mapping[str, np.ndarray], num_classes: int) -> PartTable:
    """Return the table of `to_arrays`, after a check of its shapes.

    Args:
        arrays: of a file.
        num_classes: K.

    Raises:
        KeyError: if an array is missing.
        ValueError: if an array has another shape, or text in it is damaged.
    """
    texts = json.loads(arrays["text"].tobytes())
    if not isinstance(texts, list) or [type(text) for text in texts] != [list] * len(_TEXTS):
        raise ValueError("its text is of another form")
    count = len(texts[0])
    numbers, votes = arrays["numbers"], arrays["votes"]
    if any(len(text) != count for text in texts) or votes.ndim != 2 or len(votes) != count:
        raise ValueError("its columns are of different lengths")
    wanted = [(count, len(_NUMBERS) + 2), (count, num_classes), (count, num_classes)]
    if [numbers.shape, arrays["probs"].shape, arrays["logits"].shape] != wanted:
        raise ValueError("its arrays are of another shape")
    columns = dict(zip(_NUMBERS, numbers.T, strict=False))
    return PartTable(
        **dict(zip(_TEXTS, texts, strict=True)),
        **columns,
        probs=arrays["probs"],
        logits=arrays["logits"],
        votes=votes,
        states=numbers[:, len(_NUMBERS) :],
    )
