"""Answers of a set that is not finished: appended one by one, and taken up by the same command."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from nightcrawler.data.lists import VideoItem
from nightcrawler.data.video.remote import video_state
from nightcrawler.predict.video_result import DAMAGE, VideoResult, from_plain, to_plain
from nightcrawler.utils.errors import NO_PERSON, UserError
from nightcrawler.utils.io import atomic_write, open_own
from nightcrawler.utils.logging import OwnJsonLines

# Each line begins so, also one that a killed process left incomplete.
START = b'{"video": '


def refuse_other_rows(path: Path) -> None:
    """Refuse a file in the place of the answers so far that holds anything else.

    Args:
        path: the file, which need not exist.

    Raises:
        UserError: if it is a link or no regular file, or a line is no answer of a prediction.
    """
    if not os.path.lexists(path):
        return
    advice = "move it, or give the outputs another name"
    if path.is_symlink() or not path.is_file():
        raise UserError(
            f"{path}: is a link or no regular file, and the answers so far are kept there: {advice}"
        )
    for number, line in enumerate(_lines(path), start=1):
        if line.strip() and _row(line) is None and not _is_cut(line):
            raise UserError(
                f"{path}: line {number} is no answer of a prediction, and the answers so far are "
                f"kept there: {advice}"
            )


def _lines(path: Path) -> Iterator[bytes]:
    """Yield the lines of a file. JSON lines end with LF alone: others may be part of a name."""
    with open(path, "rb") as file:
        yield from file


def _content(line: bytes) -> Any:
    """Return the value of a line, None for a line that is no JSON."""
    try:
        return json.loads(line.decode("utf-8", "backslashreplace"))
    except (ValueError, RecursionError):
        return None


def _row(line: bytes) -> dict[str, Any] | None:
    """Return the content of an answer's line, None for any other line."""
    content = _content(line)
    if isinstance(content, dict) and content.keys() >= {"run", "row"}:
        return content
    return None


def _is_cut(line: bytes) -> bool:
    """Return whether a line is an answer that a killed process left incomplete."""
    begins = line.startswith(START) or START.startswith(line)
    return begins and _content(line) is None


class RowsSoFar:
    """File of the answers until the outputs are written, one JSON object per line.

    Each line holds the run that it is of, so that other models or settings do not take it up.

    Args:
        path: the file, None to keep nothing.
        run: hash of models and settings.
        class_names: names of the K classes.

    Attributes:
        run: see above.

    Raises:
        UserError: if the file holds anything else, see `refuse_other_rows`.
    """

    def __init__(self, path: Path | None, run: str, class_names: Sequence[str]) -> None:
        if path is not None:
            refuse_other_rows(path)
        self.path = path
        self.run = run
        self._class_names = tuple(class_names)
        self._lines = OwnJsonLines(path)

    def read(self, items: Sequence[VideoItem]) -> dict[str, VideoResult]:
        """Return the answers of an earlier run about these videos, by name.

        Errors are due again, as are videos that changed since. A last line that a killed process
        left incomplete is ended, to keep it apart from the next one.
        """
        if self.path is None or not self.path.is_file():
            return {}
        if not self.path.read_bytes().endswith(b"\n"):
            with open_own(self.path) as file:
                file.write("\n")
        due = {item.name: item for item in items}
        found: dict[str, VideoResult] = {}
        for line in _lines(self.path):
            row = _row(line)
            if row is None or row["run"] != self.run:
                continue
            result = self._result(row)
            if result is None or result.name not in due:
                continue
            state = video_state(due[result.name].path)
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

    def add(
        self, result: VideoResult, record: dict[str, Any], state: tuple[int, int] | None
    ) -> None:
        """Append an answer.

        Args:
            result: the answer.
            record: the answer for people, see `video_result.to_record`.
            state: `video_state` of the video before it was read.
        """
        self._lines.write(**record, file=state, run=self.run, row=to_plain(result))

    def finish(self) -> None:
        """Remove the answers of this run, and the file unless it holds anything else."""
        if self.path is None or not self.path.is_file():
            return
        others = [line for line in _lines(self.path) if self._is_other(line)]
        if not others:
            self.path.unlink()
            return
        with atomic_write(self.path) as file:
            file.writelines(others)

    def _is_other(self, line: bytes) -> bool:
        """Return whether a line is to be kept: neither empty nor of this run nor incomplete."""
        row = _row(line)
        if row is None:
            return bool(line.strip()) and not _is_cut(line)
        return bool(row["run"] != self.run)
