"""Tasks of the prediction command: sets, shards, watched folders, live sources, and outputs."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nightcrawler.data.lists import VideoItem
from nightcrawler.data.video.remote import video_state
from nightcrawler.predict.annotate import annotate, target_path, without_unsure
from nightcrawler.predict.ensemble import Ensemble, run_hash
from nightcrawler.predict.events.tell import Events
from nightcrawler.predict.items import Windows, has_readable_part, length_of, predict_items
from nightcrawler.predict.merge import refuse_unlisted
from nightcrawler.predict.parts import open_parts, open_run
from nightcrawler.predict.rows_so_far import RowsSoFar
from nightcrawler.predict.shards import Worker
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
from nightcrawler.utils.outputs import refuse_foreign_lines

logger = get_logger(__name__)

# Behind the name of the first output.
PARTIAL_SUFFIX = ".partial.jsonl"
# Longer tables are for the output files.
MAX_SHOWN_VIDEOS = 200
# Videos without an answer in which a part that can be read is looked for.
MAX_READ_AGAIN = 10

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
        events: where events are told, None for nowhere.

    Attributes:
        num_bad: number of results so far that are of no or not of the whole video, or whose
            annotated copy could not be written.

    Raises:
        UserError: if the file for lines holds something else.
    """

    def __init__(
        self, ensemble: Ensemble, outputs: Outputs, echo: Echo, events: Events | None = None
    ) -> None:
        self.ensemble = ensemble
        self.events = events
        self.outputs = outputs
        self.echo = echo
        self.num_bad = 0
        if outputs.jsonl:
            refuse_foreign_lines(outputs.jsonl)
        self._lines = JsonLines(outputs.jsonl)
        self._num_shown = 0

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
        self._lines.write(**self.record(result), **more)

    def record(self, result: VideoResult) -> dict[str, Any]:
        """Return a result as the JSON object of the outputs."""
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

    def lacks_copy(self, item: VideoItem) -> bool:
        """Return whether an annotated copy is asked for and not there."""
        folder = self.outputs.annotate
        return folder is not None and not target_path(folder, item.name).is_file()

    def tell(self, item: VideoItem, result: VideoResult, spans: Sequence[ScoredSpan]) -> None:
        """Tell the events of a video.

        Args:
            item: the video.
            result: its result.
            spans: its predictions over time.
        """
        if self.events is not None and result.ok:
            self.events.tell_video(result, spans, self.length_of_whole(item, result))

    def length_of_whole(self, item: VideoItem, result: VideoResult) -> float | None:
        """Return the length in seconds of a video that was predicted as a whole, for its times."""
        has_times = self.outputs.timeline or self.events
        if not has_times or not result.ok or result.segments:
            return None
        return length_of(item, self.ensemble.limits)

    def show(self, result: VideoResult, prefix: str = "") -> None:
        """Print the lines of a result.

        Args:
            result: result to print.
            prefix: text before its line.
        """
        first, *others = table_lines(result, self.outputs.top, self.outputs.reject)
        self.echo(prefix + first)
        for line in others:
            self.echo(line)

    def show_row(self, result: VideoResult) -> None:
        """Print a result of a set, unless the table has `MAX_SHOWN_VIDEOS` already."""
        if self._num_shown < MAX_SHOWN_VIDEOS:
            self.show(result)
        self._num_shown += 1

    def end_table(self) -> None:
        """Say how many results were left out of the table."""
        if self._num_shown > MAX_SHOWN_VIDEOS:
            self.echo(f"and {self._num_shown - MAX_SHOWN_VIDEOS} more videos")

    def write(self, results: Sequence[VideoResult], seconds: Sequence[float | None]) -> None:
        """Write the files that hold all results.

        Args:
            results: results, one per video.
            seconds: see `length_of_whole`.
        """
        outputs = self.outputs
        if outputs.csv:
            rows = csv_rows(results, outputs.top, outputs.reject)
            write_spreadsheet_rows(outputs.csv, rows)
        if outputs.timeline:
            rows = timeline_rows(results, outputs.reject, seconds)
            write_spreadsheet_rows(outputs.timeline, rows)
        if outputs.json:
            records = [self.record(result) for result in results]
            with atomic_write(outputs.json, "w") as file:
                json.dump({"about": self.ensemble.about(), "videos": records}, file, indent=1)
                file.write("\n")


def partial_file(outputs: Outputs) -> Path | None:
    """Return the file that holds the answers until all outputs are written, None for no output."""
    for path in (outputs.csv, outputs.json, outputs.timeline, outputs.jsonl):
        if path and (path.is_file() or not path.exists()):
            return path.with_name(f"{path.name}{PARTIAL_SUFFIX}")
    return None


def predict_set(
    ensemble: Ensemble,
    items: Sequence[VideoItem],
    windows: Windows,
    writer: ResultWriter,
) -> None:
    """Predict videos, print them as they come, and write all outputs.

    A run that was stopped is taken up again: its answers are in `partial_file`.

    Args:
        ensemble: models to run.
        items: videos.
        windows: windows of time.
        writer: outputs.
    """
    run = _run_of_set(ensemble, items, windows, writer.outputs.reject)
    rows = RowsSoFar(partial_file(writer.outputs), run, ensemble.class_names)
    results: list[VideoResult] = []
    seconds: list[float | None] = []
    closed: OSError | None = None
    for item, result, spans in _answers(ensemble, items, windows, writer, rows):
        results.append(result)
        seconds.append(writer.length_of_whole(item, result))
        # The spans of an earlier run are not there, and their events were told by it.
        shown = functools.partial(writer.show_row, result)
        told = functools.partial(writer.tell, item, result, spans)
        for step in (shown, told):
            try:
                step()
            except OSError as error:
                # The reader of the table is gone (`| head`). The files are still wanted.
                closed = closed or error
                if rows.path is None:
                    raise
    writer.write(results, seconds)
    rows.finish()
    if closed is not None:
        raise closed
    writer.end_table()
    if windows.every is None:
        failed = [item for item, result in zip(items, results, strict=True) if not result.ok]
        _advise_windows(failed, writer)


def _advise_windows(items: Sequence[VideoItem], writer: ResultWriter) -> None:
    """Say how to get an answer of videos that have none because a part of them is damaged."""
    limits = writer.ensemble.limits
    if any(has_readable_part(item, limits) for item in items[:MAX_READ_AGAIN]):
        writer.echo("of a damaged video, --window-sec S answers by what can be read")


def _answers(
    ensemble: Ensemble,
    items: Sequence[VideoItem],
    windows: Windows,
    writer: ResultWriter,
    rows: RowsSoFar,
) -> Iterator[tuple[VideoItem, VideoResult, list[ScoredSpan]]]:
    """Yield each video with its result and spans, those of an earlier run without spans."""
    done = rows.read(items)
    due = [item for item in items if item.name not in done or writer.lacks_copy(item)]
    due_names = {item.name for item in due}
    num_done = len(items) - len(due)
    if num_done:
        logger.warning("%s: %d of %d videos were predicted before", rows.path, num_done, len(items))
    # Taken before the files are read: one that changes meanwhile is due again.
    states = [video_state(item.path) for item in due]
    fresh = zip(states, predict_items(ensemble, due, windows), strict=True)
    for item in items:
        if item.name not in due_names:
            result = done[item.name]
            writer.num_bad += result.failed
            yield item, result, []
            continue
        state, (result, spans) = next(fresh)
        writer.take(item, result, spans, run=rows.run)
        rows.add(result, writer.record(result), state)
        yield item, result, spans
    # Past the last one: progress is shown to its end.
    next(fresh, None)


def _run_of_set(
    ensemble: Ensemble, items: Sequence[VideoItem], windows: Windows, reject: bool
) -> str:
    """Return the hash of models and settings whose answers may be mixed."""
    about = ensemble.about()
    # Annotated copies show what is rejected.
    settings: dict[str, Any] = {"windows": [windows.every, windows.long], "reject": reject}
    if any("adapted_on" in model for model in about["models"]):
        # What the models were adapted to is part of them. Online, each video begins anew.
        settings["adapted_to"] = [[item.name, video_state(item.path)] for item in items]
    return run_hash({**about, **settings})


def predict_shard(
    ensemble: Ensemble,
    items: Sequence[VideoItem],
    out: Path,
    shard: tuple[int, int],
    windows: Windows,
    echo: Echo,
) -> None:
    """Predict the videos that have no row yet, beside other workers, until all have one.

    A video that cannot be read is no failure of the shard, as a launcher would then end the other
    shards. Merging counts these videos.

    Args:
        ensemble: models to run.
        items: every video of the list.
        out: folder of the parts.
        shard: index of this worker, from 0, and the number of workers.
        windows: windows of time, the same for videos of any length.
        echo: prints a line.
    """
    # Windows change every part, so they belong to the identity of a run.
    window_sec = None
    if windows.every is not None:
        window_sec = list(windows.every)
    key = open_run(out, {**ensemble.about(), "window_sec": window_sec})
    parts = open_parts(out, key, ensemble.class_names, len(items))
    refuse_unlisted(parts, items)

    def predict(due: Sequence[VideoItem]) -> Iterator[VideoResult]:
        return (result for result, _ in predict_items(ensemble, due, windows))

    worker = Worker(parts, items, shard, predict, echo)
    name = f"shard {shard[0]}/{shard[1]}"
    echo(f"{name}: {len(items)} videos in {parts.count(items)} parts")
    worker.run()
    echo(f"{name}: done, {worker.num_bad} of {worker.num_made} videos could not be read whole")


def predict_watched(
    ensemble: Ensemble,
    folder: Path,
    windows: Windows,
    writer: ResultWriter,
) -> None:
    """Predict files as they appear in a folder, until Ctrl-C.

    Args:
        ensemble: models to run.
        folder: folder to watch.
        windows: windows of time.
        writer: outputs. Videos of this run in its JSON-lines file are not predicted again.

    Raises:
        UserError: if there is no such folder, or the annotated copies would be written into it.
    """
    target = writer.outputs.annotate
    if target and target.resolve().is_relative_to(folder.resolve()):
        raise UserError(
            f"{target}: the folder of annotated videos is inside the watched folder {folder}, so "
            "copies would be predicted again: give another folder"
        )
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder to watch")
    # Results of an earlier watch, which wrote to the same file.
    run = _run_of_set(ensemble, [], windows, writer.outputs.reject)
    done: dict[str, tuple[int, int] | None] = {}
    if writer.outputs.jsonl:
        done = read_done(writer.outputs.jsonl, run)
    writer.echo(f"watching {folder}, {len(done)} videos are done; Ctrl-C ends it")
    try:
        for item in new_videos(folder.resolve(), done):
            if item is None:
                continue
            size, mtime_ns = file_state(item.path) or (None, None)
            predicted = predict_items(ensemble, [item], windows, show_windows=False)
            for result, spans in predicted:
                writer.take(item, result, spans, size=size, mtime_ns=mtime_ns, run=run)
                writer.show(result)
                writer.tell(item, result, spans)
    except KeyboardInterrupt:
        writer.echo("stopped")
