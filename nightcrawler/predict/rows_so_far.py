"""Answers of a set that is not finished: appended one by one, and taken up by the same command."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from nightcrawler.data.lists import VideoItem
from nightcrawler.predict.video_result import DAMAGE, VideoResult, from_plain, to_plain
from nightcrawler.utils.errors import NO_PERSON
from nightcrawler.utils.io import atomic_write, file_state
from nightcrawler.utils.logging import JsonLines


class RowsSoFar:
    """File of the answers until the outputs are written, one JSON object per line.

    Each line holds the run that it is of, so that other models or settings do not take it up.

    Args:
        path: the file, None to keep nothing.
        run: hash of models and settings.
        class_names: names of the K classes.
    """

    def __init__(self, path: Path | None, run: str, class_names: Sequence[str]) -> None:
        self.path = path
        self._run = run
        self._class_names = tuple(class_names)
        self._lines = JsonLines(path)

    def read(self, items: Sequence[VideoItem]) -> dict[str, VideoResult]:
        """Return the answers of an earlier run about these videos, by name.

        Errors are due again, as are videos that changed since. A last line that a killed process
        left incomplete is ended, to keep it apart from the next one.
        """
        if self.path is None or not self.path.is_file():
            return {}
        if not self.path.read_bytes().endswith(b"\n"):
            with open(self.path, "a", encoding="utf-8") as file:
                file.write("\n")
        due = {item.name: item for item in items}
        found: dict[str, VideoResult] = {}
        for _, row in self._lines_of_run(True):
            result = self._result(row)
            if result is None or result.name not in due:
                continue
            state = file_state(due[result.name].path)
            if state is not None and row.get("file") == list(state):
                found[result.name] = result
        return found

    def _result(self, row: dict[str, Any]) -> VideoResult | None:
        """Return the result of a line, None for an error or a line that is damaged."""
        try:
            result = from_plain(row["row"], self._class_names)
        except DAMAGE:
            return None
        if result.ok or result.status == NO_PERSON:
            return result
        return None

    def _lines_of_run(self, own: bool) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yield the lines of this run, or those of others, as text and content."""
        assert self.path is not None
        text = self.path.read_text(encoding="utf-8", errors="backslashreplace")
        # JSON lines end with \n alone: other separators of lines may be part of a name.
        for line in text.split("\n"):
            try:
                row = json.loads(line)
            except (ValueError, RecursionError):
                continue
            if isinstance(row, dict) and (row.get("run") == self._run) == own:
                yield line, row

    def add(
        self, result: VideoResult, record: dict[str, Any], state: tuple[int, int] | None
    ) -> None:
        """Append an answer.

        Args:
            result: the answer.
            record: the answer for people, see `video_result.to_record`.
            state: `file_state` of the video before it was read.
        """
        self._lines.write(**record, file=state, run=self._run, row=to_plain(result))

    def finish(self) -> None:
        """Remove the answers of this run, and the file unless it holds those of another one."""
        if self.path is None or not self.path.is_file():
            return
        others = [line for line, _ in self._lines_of_run(False)]
        if not others:
            self.path.unlink()
            return
        with atomic_write(self.path, "w") as file:
            file.writelines(f"{line}\n" for line in others)
