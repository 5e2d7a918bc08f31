"""Motions for skeleton models: cut out of recordings by a table, or of figures that are drawn."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from nightcrawler.pose.files import SUFFIX, WORLD, Pose, write_pose
from nightcrawler.pose.recordings.amc import read_amc
from nightcrawler.pose.recordings.bvh import read_bvh
from nightcrawler.pose.recordings.kinect import read_kinect
from nightcrawler.utils.errors import UserError, describe_error
from nightcrawler.utils.io import read_csv_rows, safe_join, write_csv_rows

TABLE_HEADER = ("recording", "first", "last", "class")
MAX_RECORDING_BYTES = 1 << 28
# Fewer frames show no movement.
MIN_FRAMES = 5
# Frames per second that are kept; recordings have up to 240.
KEPT_FPS = 30.0
_UTKINECT_RECORDING = re.compile(r"s\d+_e\d+")
_UTKINECT_SPAN = re.compile(r"(\w+):\s*(\d+)\s+(\d+)")


@dataclass(frozen=True)
class Span:
    """A part of a recording that shows one action.

    Attributes:
        row: Line of the table.
        recording: Path of the recording below its folder.
        action: Name of the class, as the table spells it.
        first: Number of the first frame, `None` for the recording's first.
        last: Number of the last frame, `None` for the recording's last.
    """

    row: int
    recording: str
    action: str
    first: int | None = None
    last: int | None = None

    @property
    def name(self) -> str:
        """File name of the motion below its folder."""
        span = "" if self.first is None and self.last is None else f"_{self.first}-{self.last}"
        return f"{self.recording}{span}{SUFFIX}"


@dataclass(frozen=True)
class _Recording:
    """Joints of layout `body` in the world, `[T, 13, 3]`, and the number of each frame, `[T]`."""

    points: np.ndarray
    numbers: np.ndarray
    fps: float


def read_table(path: str | Path) -> list[Span]:
    """Read a table of spans.

    Args:
        path: CSV of `recording,first,last,class` (frame numbers, or empty for the whole recording),
            or the labels file of UTKinect-Action3D.

    Raises:
        UserError: If a row is wrong, with its number.
    """
    rows = read_csv_rows(path, TABLE_HEADER)
    if rows and _UTKINECT_RECORDING.fullmatch(",".join(rows[0][1])):
        return _read_utkinect(path, rows)
    spans = []
    for row, fields in rows:
        if len(fields) != len(TABLE_HEADER):
            raise UserError(
                f"{path}: row {row}: {len(fields)} fields, expected {','.join(TABLE_HEADER)}"
            )
        recording, first, last, action = fields
        spans.append(
            Span(row, recording, action, _frame(path, row, first), _frame(path, row, last))
        )
    if not spans:
        raise UserError(f"{path}: no row, expected {','.join(TABLE_HEADER)}")
    return spans


def _frame(path: str | Path, row: int, text: str) -> int | None:
    if not text:
        return None
    if not text.isdigit() or len(text) > 9:
        raise UserError(f"{path}: row {row}: frame '{text}', expected a number or nothing")
    return int(text)


def _read_utkinect(path: str | Path, rows: list[tuple[int, list[str]]]) -> list[Span]:
    spans = []
    recording = ""
    for row, fields in rows:
        text = ",".join(fields)
        if _UTKINECT_RECORDING.fullmatch(text):
            recording = f"joints_{text}.txt"
            continue
        found = _UTKINECT_SPAN.fullmatch(text)
        if found:
            spans.append(Span(row, recording, found[1], int(found[2]), int(found[3])))
        elif "NaN" not in text:
            # Actions that were not recorded are marked NaN.
            raise UserError(f"{path}: row {row}: '{text}', expected 'action: first last'")
    return spans


def rename_actions(spans: Sequence[Span], names: dict[str, str]) -> list[Span]:
    """Return spans with other names of classes.

    Args:
        spans: As read.
        names: Name in the table to name of the class. Where it is not empty, spans of other names
            are left out.
    """
    if not names:
        return list(spans)
    return [replace(span, action=names[span.action]) for span in spans if span.action in names]


def refuse_repeats(path: str | Path, spans: Sequence[Span]) -> None:
    """Refuse spans of the same frames: they would be one motion of two classes.

    Args:
        path: The table, for the error.
        spans: Those that are written.

    Raises:
        UserError: With the rows.
    """
    rows_of: dict[str, int] = {}
    for span in spans:
        if rows_of.setdefault(span.name, span.row) != span.row:
            raise UserError(f"{path}: rows {rows_of[span.name]} and {span.row} are the same frames")


def read_recording(path: Path) -> _Recording:
    """Read a recording by its suffix: `.bvh`, `.amc` (with its `.asf` beside it), `.txt` of Kinect.

    Raises:
        UserError: If it cannot be read, with the path.
    """
    try:
        if path.suffix == ".bvh":
            return _numbered(*read_bvh(_text_of(path)))
        if path.suffix == ".amc":
            return _numbered(*read_amc(_text_of(_skeleton_of(path)), _text_of(path)))
        if path.suffix == ".txt":
            return _Recording(*read_kinect(_text_of(path)))
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    except (ValueError, LookupError, ArithmeticError) as error:
        # Of words in places that no recording has.
        raise UserError(f"{path}: is damaged ({describe_error(error)})") from None
    raise UserError(f"{path}: suffix '{path.suffix}', expected .bvh, .amc or .txt")


def _numbered(points: np.ndarray, fps: float) -> _Recording:
    return _Recording(points, np.arange(1, len(points) + 1), fps)


def _text_of(path: Path) -> str:
    try:
        if not path.is_file():
            raise UserError("no such file")
        if path.stat().st_size > MAX_RECORDING_BYTES:
            raise UserError(f"is larger than {MAX_RECORDING_BYTES} bytes")
        return path.read_text("utf-8-sig", errors="replace")
    except OSError as error:
        raise UserError(f"cannot be read ({error.strerror or error})") from None


def _skeleton_of(motion: Path) -> Path:
    """Return the skeleton of a motion: 02.asf for 02_01.amc, or the only one of the folder."""
    named = motion.with_name(f"{motion.stem.split('_')[0]}.asf")
    if named.is_file():
        return named
    found = sorted(motion.parent.glob("*.asf"))
    if len(found) != 1:
        raise UserError(f"has no skeleton: neither {named.name} nor a single .asf is beside it")
    return found[0]


def cut(recording: _Recording, span: Span) -> Pose:
    """Return the motion of a span, with at most `KEPT_FPS` frames per second.

    Raises:
        UserError: If the span has too few frames.
    """
    numbers = recording.numbers
    first = numbers[0] if span.first is None else span.first
    last = numbers[-1] if span.last is None else span.last
    points = recording.points[(numbers >= first) & (numbers <= last)]
    step = max(int(recording.fps / KEPT_FPS + 0.5), 1)
    points = points[::step]
    if len(points) < MIN_FRAMES:
        raise UserError(
            f"row {span.row}: frames {first} to {last} of {span.recording} "
            f"({numbers[0]} to {numbers[-1]}) leave {len(points)}, expected {MIN_FRAMES} or more"
        )
    return Pose(
        points[None].astype(np.float32), recording.fps / step, "body", WORLD, source=span.recording
    )


def write_motions(
    spans: Sequence[Span], folder: Path, out: Path, classes: Sequence[str]
) -> Iterator[tuple[Span, str]]:
    """Write the motion of each span, and yield the span with the reason that it has none.

    Args:
        spans: What to cut.
        folder: Folder of the recordings.
        out: Folder of the motions.
        classes: Names that spans may have.
    """
    # Spans of one recording follow one another, and one recording fits into memory.
    read_once = functools.lru_cache(maxsize=1)(_try_recording)
    for span in spans:
        try:
            if span.action not in classes:
                raise UserError(f"row {span.row}: class '{span.action}' is unknown")
            recording = read_once(safe_join(folder, span.recording))
            if isinstance(recording, UserError):
                raise recording
            target = safe_join(out, span.name)
            target.parent.mkdir(parents=True, exist_ok=True)
            write_pose(target, cut(recording, span))
        except UserError as error:
            yield span, str(error)
        else:
            yield span, ""


def _try_recording(path: Path) -> _Recording | UserError:
    """Return a recording, or why it cannot be read: one that fails is not read for each span."""
    try:
        return read_recording(path)
    except UserError as error:
        return error


def write_list(path: Path, rows: Sequence[tuple[str, int]]) -> None:
    """Write a list of motions, `path,label`, beside their folder.

    Args:
        path: The list.
        rows: Name of each motion below the folder of the list, and its class index.
    """
    write_csv_rows(path, [("path", "label"), *rows])
