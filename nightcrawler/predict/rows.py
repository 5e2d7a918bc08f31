"""What is said of a video, and how it is shown: a table, CSV, JSON, a results file."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from nightcrawler.predict.windows import Segment
from nightcrawler.pseudo.predictions import STATUS_OK, Predictions
from nightcrawler.utils.progress import format_seconds


@dataclass(frozen=True)
class VideoResult:
    """What is said of one video.

    Attributes:
        name: of the video.
        label: its class as a list says, -1 where unknown.
        status: `ok`, or why nothing is said.
        class_id: what it shows, -1 where nothing is said.
        probs: of the K classes.
        logits: of the model, of several the logarithms of `probs`.
        num_clips: clips that were looked at, by all models.
        votes: each model's most probable class.
        segments: the timeline, where windows slid over the video.
    """

    name: str
    label: int
    status: str
    class_id: int = -1
    probs: tuple[float, ...] = ()
    logits: tuple[float, ...] = ()
    num_clips: int = 0
    votes: tuple[int, ...] = ()
    segments: tuple[Segment, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether there is an answer."""
        return self.status == STATUS_OK

    def top(self, count: int) -> list[int]:
        """The `count` most probable classes, the most probable first; the class that was decided on leads."""
        order = np.argsort(-np.asarray(self.probs), kind="stable").tolist()
        return (
            [self.class_id, *(label for label in order if label != self.class_id)][:count]
            if self.ok
            else []
        )


def from_plain(content: dict[str, Any]) -> VideoResult:
    """A row from what `dataclasses.asdict` made of it, through JSON.

    Raises:
        TypeError, KeyError: if it is no such thing.
    """
    lists = {key: tuple(content[key]) for key in ("probs", "logits", "votes")}
    return VideoResult(
        **{**content, **lists, "segments": tuple(Segment(**one) for one in content["segments"])}
    )


def record(
    row: VideoResult, class_names: Sequence[str], count: int, models: Sequence[str] = ()
) -> dict[str, Any]:
    """A row for JSON, classes by name."""
    if not row.ok:
        return {"video": row.name, "status": row.status}
    top = [
        {"class": class_names[label], "probability": row.probs[label]} for label in row.top(count)
    ]
    timeline = [{**asdict(one), "label": class_names[one.label]} for one in row.segments]
    votes = {model: class_names[label] for model, label in zip(models, row.votes, strict=False)}
    return {
        "video": row.name,
        "status": row.status,
        "top": top,
        "models": votes,
        "timeline": timeline,
    }


def csv_rows(
    rows: Iterable[VideoResult], class_names: Sequence[str], count: int
) -> Iterator[list[Any]]:
    """`video,status,class_1,probability_1,...`, a row a video, those of bad videos with their cause alone."""
    places = range(1, count + 1)
    yield [
        "video",
        "status",
        *(name for place in places for name in (f"class_{place}", f"probability_{place}")),
    ]
    for row in rows:
        found = [(class_names[label], f"{row.probs[label]:.9g}") for label in row.top(count)]
        found += [("", "")] * (count - len(found))
        yield [row.name, row.status, *(value for pair in found for value in pair)]


def timeline_rows(rows: Iterable[VideoResult], class_names: Sequence[str]) -> Iterator[list[Any]]:
    """`video,start_sec,end_sec,class,probability`, a row a segment."""
    yield ["video", "start_sec", "end_sec", "class", "probability"]
    for row in rows:
        for one in row.segments:
            times = f"{one.start_sec:.3f}", f"{one.end_sec:.3f}"
            yield [row.name, *times, class_names[one.label], f"{one.prob:.9g}"]


def table_lines(row: VideoResult, class_names: Sequence[str], count: int) -> Iterator[str]:
    """A line for a video, one more for each segment of its timeline."""
    if row.ok:
        shown = "  ".join(
            f"{class_names[label]} {row.probs[label]:.3f}" for label in row.top(count)
        )
        agreeing = sum(vote == row.class_id for vote in row.votes)
        yield f"{row.name}  {shown}" + (
            f"  ({agreeing} of {len(row.votes)} models)" if len(row.votes) > 1 else ""
        )
    else:
        yield f"{row.name}  {row.status}"
    for one in row.segments:
        yield f"  {clock(one.start_sec)} - {clock(one.end_sec)}  {class_names[one.label]} {one.prob:.3f}"


def clock(seconds: float) -> str:
    """`h:mm:ss.t`, cut to tenths."""
    tenths = int(seconds * 10 + 1e-6)
    return f"{format_seconds(tenths // 10)}.{tenths % 10}"


def as_results(rows: Sequence[VideoResult], num_classes: int, meta: dict[str, Any]) -> Predictions:
    """Rows as a results file, NaN where there is no answer."""
    lacking = (float("nan"),) * num_classes
    return Predictions(
        logits=np.array([row.logits or lacking for row in rows], np.float32),
        probs=np.array([row.probs or lacking for row in rows], np.float32),
        labels=np.array([row.label for row in rows], np.int64),
        names=[row.name for row in rows],
        num_clips=np.array([row.num_clips for row in rows], np.int64),
        status=[row.status for row in rows],
        meta=meta,
    )
