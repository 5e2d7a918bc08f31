"""Tasks of the prediction command: sets, shards, watched folders, live sources, and outputs."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nightcrawler.data.lists import VideoItem
from nightcrawler.predict import shards
from nightcrawler.predict.annotate import annotate, target_path, without_unsure
from nightcrawler.predict.ensemble import Ensemble
from nightcrawler.predict.items import predict_items
from nightcrawler.predict.sliding_windows import ScoredSpan
from nightcrawler.predict.video_result import (
    VideoResult,
    csv_rows,
    table_lines,
    timeline_rows,
    to_record,
)
from nightcrawler.predict.watch_folder import new_videos, read_done
from nightcrawler.utils.errors import UserError, VideoError, unexpected_as_video_error
from nightcrawler.utils.io import atomic_write, file_state, write_spreadsheet_rows
from nightcrawler.utils.logging import JsonLines, get_logger

logger = get_logger(__name__)

# Behind the name of the first file that is written at the end.
PARTIAL_SUFFIX = ".partial.jsonl"
# Longer tables are for the output files.
MAX_SHOWN_VIDEOS = 200

# Prints a line. The command line passes its own, as nothing else may write to standard output.
Echo = Callable[[str], None]


@dataclass(frozen=True)
class Outputs:
    """Files and tables to write, each None where it is not asked for.

    Attributes:
        top: number of classes per video.
        reject: name no class of an answer that is not sure.
        csv: file with one row per video.
        json: file with all results and the models that made them.
        jsonl: file that gets one JSON object per video as soon as it is predicted.
        timeline: CSV file with one row per segment.
        annotate: folder of annotated copies.
    """

    top: int = 5
    reject: bool = False
    csv: Path | None = None
    json: Path | None = None
    jsonl: Path | None = None
    timeline: Path | None = None
    annotate: Path | None = None


class ResultWriter:
    """Writes and prints results as they come.

    Args:
        ensemble: models that make the results.
        outputs: files to write.
        echo: prints a line.

    Attributes:
        num_bad: number of results so far that are of no or not of the whole video, or whose
            annotated copy could not be written.
    """

    def __init__(self, ensemble: Ensemble, outputs: Outputs, echo: Echo) -> None:
        self.ensemble = ensemble
        self.outputs = outputs
        self.echo = echo
        self.num_bad = 0
        self._lines = JsonLines(outputs.jsonl)
        self._partial = partial_file(outputs)
        self._has_partial = self._partial is not None and self._partial.exists()
        self._rows_so_far = JsonLines(self._partial)

    def take(
        self, item: VideoItem, result: VideoResult, spans: list[ScoredSpan], **more: Any
    ) -> None:
        """Write the annotated copy and the JSON line of one result.

        Args:
            item: the video.
            result: its result.
            spans: predictions over time for the annotated copy.
            **more: fields to add to the JSON line.
        """
        is_lacking = False
        if result.ok and self.outputs.annotate:
            is_lacking = not self._annotate(item, spans)
        self.num_bad += result.failed or is_lacking
        # At once, so that a watch that is stopped can resume after this video.
        record = self._record(result)
        self._lines.write(**record, **more)
        self._rows_so_far.write(**record, **more)

    def _record(self, result: VideoResult) -> dict[str, Any]:
        outputs = self.outputs
        return to_record(result, outputs.top, self.ensemble.model_names, outputs.reject)

    def _annotate(self, item: VideoItem, spans: list[ScoredSpan]) -> bool:
        """Write the annotated copy of a video, and return whether it is there.

        A full disk or a folder that cannot be written costs the copy, and not the answer.
        """
        assert self.outputs.annotate is not None
        target = target_path(self.outputs.annotate, item.name)
        # The picture shows the frames as the first model gets them.
        first = self.ensemble.predictors[0]
        names = self.ensemble.class_names
        enhance = self.ensemble.enhance
        if self.outputs.reject:
            spans = without_unsure(spans)
        try:
            with unexpected_as_video_error(item.path, "annotate"):
                annotate(item.path, target, spans, names, enhance, first.color, first.limits)
        except UserError as error:
            reason = error.cause if isinstance(error, VideoError) else error
            logger.warning("%s: predicted, but %s is not written: %s", item.name, target, reason)
            return False
        return True

    def show(self, results: Sequence[VideoResult], prefix: str = "") -> None:
        """Print a table of results.

        Args:
            results: results to print, the first `MAX_SHOWN_VIDEOS` of them.
            prefix: text before each video's line.
        """
        for result in results[:MAX_SHOWN_VIDEOS]:
            first, *others = table_lines(result, self.outputs.top, self.outputs.reject)
            self.echo(prefix + first)
            for line in others:
                self.echo(line)
        if len(results) > MAX_SHOWN_VIDEOS:
            self.echo(f"and {len(results) - MAX_SHOWN_VIDEOS} more videos")

    def write(self, results: Sequence[VideoResult]) -> None:
        """Write the files that hold all results."""
        outputs = self.outputs
        if outputs.csv:
            rows = csv_rows(results, outputs.top, outputs.reject)
            write_spreadsheet_rows(outputs.csv, rows)
        if outputs.timeline:
            write_spreadsheet_rows(outputs.timeline, timeline_rows(results, outputs.reject))
        if outputs.json:
            records = [self._record(result) for result in results]
            with atomic_write(outputs.json, "w") as file:
                json.dump({"about": self.ensemble.about(), "videos": records}, file, indent=1)
                file.write("\n")
        # Rows of an earlier run, which ended before it wrote its files, are left.
        if self._partial is not None and not self._has_partial:
            self._partial.unlink(missing_ok=True)


def partial_file(outputs: Outputs) -> Path | None:
    """Return the file that holds the rows until all outputs are written, None for no such file.

    Files that are written at the end would lose all rows if the process were killed before.
    """
    for path in (outputs.csv, outputs.json, outputs.timeline):
        if path and not outputs.jsonl and (path.is_file() or not path.exists()):
            return path.with_name(f"{path.name}{PARTIAL_SUFFIX}")
    return None


def predict_set(
    ensemble: Ensemble,
    items: Sequence[VideoItem],
    window: tuple[float, float] | None,
    writer: ResultWriter,
    by_length: bool = True,
) -> None:
    """Predict videos, print them and write all outputs.

    Args:
        ensemble: models to run.
        items: videos.
        window: length and stride of sliding windows in seconds, None for whole videos.
        writer: outputs.
        by_length: see `predict_items`.
    """
    results = []
    predicted = predict_items(ensemble, items, window, by_length=by_length)
    for item, (result, spans) in zip(items, predicted, strict=True):
        writer.take(item, result, spans)
        results.append(result)
    # First: printing fails where the reader is gone (`| head`).
    writer.write(results)
    writer.show(results)


def predict_shard(
    ensemble: Ensemble,
    items: Sequence[VideoItem],
    out: Path,
    shard: tuple[int, int],
    window: tuple[float, float] | None,
    echo: Echo,
) -> None:
    """Predict the videos of a shard that have no part yet.

    A video that cannot be read is no failure of the shard, as a launcher would then end the other
    shards. Merging counts these videos.

    Args:
        ensemble: models to run.
        items: videos of all shards.
        out: folder of the parts.
        shard: index of this shard, from 0, and the number of shards.
        window: length and stride of sliding windows in seconds, None for whole videos.
        echo: prints a line.
    """
    index, count = shard
    # Windows change every part, so they belong to the identity of a run.
    window_sec = None
    if window is not None:
        window_sec = list(window)
    key = shards.open_run(out, {**ensemble.about(), "window_sec": window_sec})
    # Every N-th video: long videos next to each other in a list go to different shards.
    mine = items[index::count]
    due = shards.missing(out, key, mine)
    echo(f"shard {index}/{count}: {len(mine)} videos, {len(due)} of them to do")
    num_bad = 0
    # Taken before the files are read: one that changes meanwhile is due again.
    states = [file_state(item.path) for item in due]
    for state, (result, _) in zip(states, predict_items(ensemble, due, window), strict=True):
        shards.write_part(out, key, result, state)
        num_bad += result.failed
    echo(f"shard {index}/{count}: done, {num_bad} of {len(due)} videos could not be read whole")


def predict_watched(
    ensemble: Ensemble,
    folder: Path,
    window: tuple[float, float] | None,
    writer: ResultWriter,
    by_length: bool = True,
) -> None:
    """Predict files as they appear in a folder, until Ctrl-C.

    Args:
        ensemble: models to run.
        folder: folder to watch.
        window: length and stride of sliding windows in seconds, None for whole videos.
        writer: outputs. Videos in its JSON-lines file are not predicted again.
        by_length: see `predict_items`.

    Raises:
        UserError: if the annotated copies would be written into the watched folder.
    """
    target = writer.outputs.annotate
    if target and target.resolve().is_relative_to(folder.resolve()):
        raise UserError(
            f"{target}: the folder of annotated videos is inside the watched folder {folder}, so "
            "copies would be predicted again: give another folder"
        )
    # Results of an earlier watch, which wrote to the same file.
    done: dict[str, tuple[int, int] | None] = {}
    if writer.outputs.jsonl:
        done = read_done(writer.outputs.jsonl)
    writer.echo(f"watching {folder}, {len(done)} videos are done; Ctrl-C ends it")
    try:
        for item in new_videos(folder.resolve(), done):
            if item is None:
                continue
            size, mtime_ns = file_state(item.path) or (None, None)
            predicted = predict_items(
                ensemble, [item], window, show_windows=False, by_length=by_length
            )
            for result, spans in predicted:
                writer.take(item, result, spans, size=size, mtime_ns=mtime_ns)
                writer.show([result])
    except KeyboardInterrupt:
        writer.echo("stopped")
