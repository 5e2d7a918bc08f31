"""Results of predicted videos, and their forms: table, CSV, JSON, results file."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np

from nightcrawler.predict.sliding_windows import Segment
from nightcrawler.predict.trust import NOTHING_KNOWN, SURE, rank
from nightcrawler.pseudo.predictions import STATUS_OK
from nightcrawler.utils.errors import NO_PERSON
from nightcrawler.utils.progress import format_seconds

# In the place of a class, of a model that saw nobody.
NO_VOTE = -1
# Begins the status of a video of which a part was predicted. What is lost follows.
STATUS_DAMAGED = "damaged"
# Columns of a timeline.
TIMELINE_HEADER = ("video", "start_sec", "end_sec", "class", "probability", "status")
# Fields of a result that part files store as JSON lists.
_TUPLE_FIELDS = ("probs", "logits", "votes")


@dataclass(frozen=True)
class TimelineEntry:
    """A stretch of time with one most probable class.

    Attributes:
        start_sec: start, in seconds from the first frame.
        end_sec: end, in seconds from the first frame.
        class_name: most probable class, or `nothing known`.
        probability: mean probability of that class over the stretch. None where nothing is known.
        status: how far it is to be believed, one of `predict.trust.TRUST`.
    """

    start_sec: float
    end_sec: float
    class_name: str
    probability: float | None
    status: str = STATUS_OK


@dataclass(frozen=True)
class VideoResult:
    """Prediction of one video.

    Attributes:
        name: name of the video, as its source gives it.
        label: class that a list gives the video, -1 where unknown.
        status: how far the prediction is to be believed (one of `predict.trust.TRUST`), or
            `damaged: ` and the loss, where a part was predicted, or the reason why there is no
            prediction.
        class_names: names of the K classes, in class order.
        class_id: predicted class, -1 without a prediction. Of windows, the one that lasts longest.
        probs: probabilities of the K classes, in class order and at full precision. Empty without a
            prediction.
        logits: logits of a single model, or logarithms of `probs` for several models or windows.
        num_clips: number of clips that all models together were run on.
        votes: most probable class of each model, `NO_VOTE` of one that saw nobody.
        segments: timeline by class number, where windows were predicted.

    Example:
        >>> result = VideoResult("a.mp4", -1, "sure", ("Run", "Walk"), 1, (0.25, 0.75))
        >>> result.classes
        ['Walk', 'Run']
        >>> result.probabilities
        array([0.25, 0.75], dtype=float32)
    """

    name: str
    label: int
    status: str
    class_names: tuple[str, ...] = ()
    class_id: int = -1
    probs: tuple[float, ...] = ()
    logits: tuple[float, ...] = ()
    num_clips: int = 0
    votes: tuple[int, ...] = ()
    segments: tuple[Segment, ...] = ()

    @property
    def ok(self) -> bool:
        """True where there is a prediction."""
        return bool(self.probs)

    @property
    def is_damaged(self) -> bool:
        """True where the prediction is of a part of the video."""
        return self.ok and self.status.startswith(f"{STATUS_DAMAGED}: ")

    @property
    def failed(self) -> bool:
        """True where the video, or a part of it, could not be read. Nobody in it is no failure."""
        return self.is_damaged or (not self.ok and self.status != NO_PERSON)

    @property
    def trust(self) -> float:
        """Number that sorts answers by trust (see `trust.rank`), 0 without a prediction."""
        return rank(self.status, self.probs[self.class_id]) if self.ok else 0.0

    @property
    def classes(self) -> list[str]:
        """Class names by falling probability, the predicted class first, or an empty list."""
        ranking = self.top(len(self.class_names))
        return [self.class_names[label] for label in ranking]

    @property
    def probabilities(self) -> np.ndarray:
        """Probabilities float32 `[K]` in the order of `class_names`, NaN without a prediction."""
        if self.ok:
            return np.array(self.probs, np.float32)
        # Of the same shape as every other result, so that results of many videos can be stacked.
        return np.full(len(self.class_names), np.nan, np.float32)

    @property
    def timeline(self) -> list[TimelineEntry]:
        """Stretches of time by class name. Empty unless windows were predicted."""
        entries = []
        for one in self.segments:
            name = self.class_names[one.label]
            entries.append(TimelineEntry(one.start_sec, one.end_sec, name, one.prob, one.status))
        return entries

    def answers(self, count: int, reject: bool = False) -> list[tuple[str, float | None]]:
        """Return the `count` most probable classes with their probabilities.

        Args:
            count: number of classes.
            reject: return `nothing known` without a probability where the prediction is not sure.
        """
        if reject and self.ok and self.status != SURE:
            return [(NOTHING_KNOWN, None)]
        return [(self.class_names[label], self.probs[label]) for label in self.top(count)]

    def stretches(self, reject: bool = False) -> list[TimelineEntry]:
        """Return the timeline.

        Args:
            reject: make one entry of each stretch without a sure one: `nothing known`.
        """
        if not reject:
            return self.timeline
        entries: list[TimelineEntry] = []
        for entry in self.timeline:
            if entry.status == SURE:
                entries.append(entry)
                continue
            start_sec = entry.start_sec
            # The status is that of the first of them.
            status = entry.status
            last = entries[-1] if entries else None
            if last and last.class_name == NOTHING_KNOWN and last.end_sec == entry.start_sec:
                start_sec, status = last.start_sec, last.status
                entries.pop()
            entries.append(TimelineEntry(start_sec, entry.end_sec, NOTHING_KNOWN, None, status))
        return entries

    def top(self, count: int) -> list[int]:
        """Return the `count` most probable class numbers, the predicted class first.

        Label switches of a vote recipe may predict a class that is not the most probable one.
        """
        if not self.ok:
            return []
        # Python's own sorting is stable, and quicker than numpy's for a row.
        ranking = sorted(range(len(self.probs)), key=self.probs.__getitem__, reverse=True)
        ranking.remove(self.class_id)
        return [self.class_id, *ranking][:count]


def to_plain(result: VideoResult) -> dict[str, Any]:
    """Return a result as plain values for a part file, without the class names."""
    # Not asdict of the whole, which copies every number.
    content = {field.name: getattr(result, field.name) for field in fields(result)}
    # run.json of the output folder holds them once for all parts.
    del content["class_names"]
    content["segments"] = [asdict(segment) for segment in result.segments]
    for segment in content["segments"]:
        # Of a part of an earlier version, which had none.
        if segment["status"] == STATUS_OK:
            del segment["status"]
    return content


# Errors of `from_plain`, and of reading its row, where a row is damaged.
DAMAGE = (ValueError, KeyError, TypeError, IndexError, AttributeError, RecursionError)


def from_plain(content: dict[str, Any], class_names: Sequence[str]) -> VideoResult:
    """Return the result that `to_plain` wrote, after a round trip through JSON.

    Args:
        content: plain values of one result.
        class_names: names of the K classes.

    Raises:
        TypeError: if a field is unknown or of another type.
        KeyError: if a field is missing.
    """
    fields = dict(content)
    if not isinstance(fields["name"], str):
        raise TypeError(f"name is {fields['name']!r}, expected text")
    for name in _TUPLE_FIELDS:
        fields[name] = tuple(content[name])
    fields["segments"] = tuple(Segment(**segment) for segment in content["segments"])
    return VideoResult(**fields, class_names=tuple(class_names))


def to_record(
    result: VideoResult, count: int, models: Sequence[str] = (), reject: bool = False
) -> dict[str, Any]:
    """Return a result as a JSON object with class names.

    Args:
        result: result of one video.
        count: number of classes to list.
        models: names of the models that voted.
        reject: name no class of an answer that is not sure, see `VideoResult.answers`.
    """
    if not result.ok:
        return {"video": result.name, "status": result.status}
    names = result.class_names
    top = []
    for class_name, probability in result.answers(count, reject):
        top.append({"class": class_name, "probability": probability})
    votes = {}
    # Results of windows hold no votes.
    for model, vote in zip(models, result.votes, strict=False):
        votes[model] = NO_PERSON if vote == NO_VOTE else names[vote]
    return {
        "video": result.name,
        "status": result.status,
        "top": top,
        "models": votes,
        "timeline": segment_records(result, reject),
    }


def segment_records(result: VideoResult, reject: bool = False) -> list[dict[str, Any]]:
    """Return the timeline: `start_sec`, `end_sec`, `class`, `probability`, `status`."""
    records = []
    for entry in result.stretches(reject):
        records.append(
            {
                "start_sec": entry.start_sec,
                "end_sec": entry.end_sec,
                "class": entry.class_name,
                "probability": entry.probability,
                "status": entry.status,
            }
        )
    return records


def csv_header(count: int) -> list[str]:
    """Return the names of the columns of `csv_rows`: those of fewer classes are the first."""
    header = ["video", "status"]
    for place in range(1, count + 1):
        header += [f"class_{place}", f"probability_{place}"]
    return header


def csv_rows(
    results: Iterable[VideoResult], count: int, reject: bool = False
) -> Iterator[list[Any]]:
    """Yield a header and one row per video: `video,status,class_1,probability_1,...`.

    Class columns of a video without a prediction are empty.

    Args:
        results: results, one per video.
        count: number of classes per row.
        reject: name no class of an answer that is not sure, see `VideoResult.answers`.
    """
    header = csv_header(count)
    yield header
    for result in results:
        row = [result.name, result.status]
        for class_name, probability in result.answers(count, reject):
            row += [class_name, _digits(probability)]
        # Also where fewer classes exist than were asked for.
        row += [""] * (len(header) - len(row))
        yield row


def _digits(probability: float | None) -> str:
    return "" if probability is None else f"{probability:.9g}"


def timeline_rows(
    results: Iterable[VideoResult], reject: bool = False, seconds: Sequence[float | None] = ()
) -> Iterator[list[Any]]:
    """Yield `TIMELINE_HEADER` and one row per segment.

    Args:
        results: results, one per video.
        reject: see `VideoResult.stretches`.
        seconds: their lengths. A video that was predicted as a whole is one segment then, whose end
            is empty where its length is unknown.
    """
    yield list(TIMELINE_HEADER)
    for result, length in itertools.zip_longest(results, seconds):
        for entry in result.stretches(reject):
            yield [
                result.name,
                f"{entry.start_sec:.3f}",
                f"{entry.end_sec:.3f}",
                entry.class_name,
                _digits(entry.probability),
                # Of a damaged video each row tells it.
                result.status if result.is_damaged else entry.status,
            ]
        if seconds and result.ok and not result.segments:
            end = "" if length is None else f"{length:.3f}"
            [(name, probability)] = result.answers(1, reject)
            yield [result.name, "0.000", end, name, _digits(probability), result.status]


def table_lines(result: VideoResult, count: int, reject: bool = False) -> Iterator[str]:
    """Yield one line for a video and one for each entry of its timeline.

    Args:
        result: result of one video.
        count: number of classes to list.
        reject: name no class of an answer that is not sure, see `VideoResult.answers`.
    """
    entries = result.stretches(reject)
    if result.ok:
        if entries:
            line = f"{result.name}  {_shares_of_time(result, entries)}"
        else:
            shown = itertools.starmap(_with_probability, result.answers(count, reject))
            line = f"{result.name}  {'  '.join(shown)}"
        # A single model always agrees with itself.
        votes = [vote for vote in result.votes if vote != NO_VOTE]
        if len(result.votes) > 1 and not reject:
            line += f"  ({votes.count(result.class_id)} of {len(votes)} models)"
        yield f"{line}  {result.status}"
    else:
        yield f"{result.name}  {result.status}"
    for entry in entries:
        times = f"{format_clock(entry.start_sec)} - {format_clock(entry.end_sec)}"
        yield f"  {times}  {_with_probability(entry.class_name, entry.probability)}  {entry.status}"


def _with_probability(class_name: str, probability: float | None) -> str:
    return class_name if probability is None else f"{class_name} {probability:.3f}"


def _shares_of_time(result: VideoResult, entries: Sequence[TimelineEntry]) -> str:
    """Return how long each class of a timeline lasts, the predicted class first."""
    seconds: dict[str, float] = {}
    for entry in entries:
        length = entry.end_sec - entry.start_sec
        seconds[entry.class_name] = seconds.get(entry.class_name, 0.0) + length
    first = result.class_names[result.class_id]
    ranking = sorted(seconds, key=lambda name: (name != first, -seconds[name]))
    total = max(sum(seconds.values()), 1e-9)
    shown = [f"{name} {100 * seconds[name] / total:.0f} %" for name in ranking]
    return f"{', '.join(shown)} of {format_clock(total)}"


def format_clock(seconds: float) -> str:
    """Return `h:mm:ss.t`, truncated to tenths of a second."""
    tenths = int(seconds * 10 + 1e-6)
    return f"{format_seconds(tenths // 10)}.{tenths % 10}"
