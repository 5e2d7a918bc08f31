"""Write an enhanced copy of a video with its predicted classes drawn into the frames."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from nightcrawler.data.lists import VideoItem
from nightcrawler.data.lowlight.enhance.build import Enhance
from nightcrawler.data.video.convert import EXACT
from nightcrawler.data.video.integrity.limits import Limits
from nightcrawler.data.video.remote import local_video
from nightcrawler.data.video.salvage import Damage, probe_damaged
from nightcrawler.data.video.stream import ASSUMED_FPS, Frame, readable_video_frames
from nightcrawler.predict.sliding_windows import SHOWN_CLASSES, ScoredSpan, span_at
from nightcrawler.predict.trust import NOTHING_KNOWN, SURE
from nightcrawler.predict.video_result import VideoResult
from nightcrawler.synthetic.video import write_video
from nightcrawler.utils.errors import UserError
from nightcrawler.utils.fonts import Font, load_font, readable_names
from nightcrawler.utils.io import real_path

# Frames that are enhanced together: some enhancements use statistics of a whole clip.
CHUNK_FRAMES = 32
# Narrower videos are enlarged, for legible text.
MIN_WIDTH_PX = 320
MIN_FONT_PX = 9
MARGIN_PX = 6
BARS = 3
# RGB colours.
BACKGROUND = (16, 16, 16)
EMPTY_BAR = (64, 64, 64)
FIRST_BAR = (255, 190, 60)
OTHER_BAR = (170, 170, 170)


def whole_video_span(result: VideoResult) -> ScoredSpan:
    """Return the top classes of a whole video as one span of time."""
    top = tuple((label, result.probs[label]) for label in result.top(SHOWN_CLASSES))
    return ScoredSpan(0.0, float("inf"), top, result.status)


def without_unsure(spans: Sequence[ScoredSpan]) -> list[ScoredSpan]:
    """Return spans without the classes of those that are not sure."""
    return [span if span.status == SURE else replace(span, top=()) for span in spans]


def target_path(folder: Path, name: str) -> Path:
    """Return the path of an annotated copy inside `folder`, for any name of a video."""
    # Names are paths as lists give them: absolute ones and `..` must not lead out of the folder.
    inside = []
    for part in Path(f"{name}.annotated.mp4").parts:
        if part not in ("/", ".."):
            inside.append(part)
    return folder.joinpath(*inside)


def refuse_copies_among_sources(folder: Path, source: Path, items: Sequence[VideoItem]) -> None:
    """Refuse a folder whose annotated copies would replace sources or each other, or become some.

    Copies become sources where they lie below a folder that is predicted, or beside a recording.

    Args:
        folder: folder of annotated copies.
        source: folder, list or file that is predicted.
        items: its videos.

    Raises:
        UserError: naming the folder, the source or both rows.
    """
    if source.is_dir() and folder.resolve().is_relative_to(source.resolve()):
        raise UserError(
            f"--annotate {folder}: is inside {source}, so that copies would be taken for videos "
            "the next time: give another folder"
        )
    sources = {real_path(item.path) for item in items}
    recordings = set(map(os.path.dirname, sources))
    taken: dict[str, VideoItem] = {}
    for item in items:
        target = target_path(folder, item.name)
        real = real_path(target)
        other = taken.setdefault(real, item)
        if other is not item:
            raise UserError(
                f"--annotate {folder}: the copies of '{other.name}' (row {other.row}) and "
                f"'{item.name}' (row {item.row}) would be one file, {target}: predict them apart"
            )
        if real in sources:
            raise UserError(
                f"--annotate {folder}: the copy of '{item.name}' would replace the source "
                f"{target}: give another folder"
            )
        if os.path.dirname(real) in recordings:
            raise UserError(
                f"--annotate {folder}: the copy of '{item.name}' would lie among the recordings, "
                f"as {target}, and be taken for one the next time: give another folder"
            )


def annotate(
    source: Path,
    target: Path,
    spans: list[ScoredSpan],
    class_names: Sequence[str],
    enhance: Enhance,
    color: str = EXACT,
    limits: Limits | None = None,
) -> None:
    """Write the annotated copy of a video as H.264, with a few frames in memory.

    Args:
        source: video to copy.
        target: `.mp4` file to write. Its folder is made.
        spans: predictions over time, in order, at least one.
        class_names: names of the K classes.
        enhance: enhancement of frames uint8 `[T, H, W, 3]`.
        color: conversion of colours, see `data.video.convert.FLAGS`.
        limits: largest source that is read.

    Raises:
        VideoError: if nothing of the source can be read.
    """
    limits = limits or Limits()
    damage = Damage()
    with local_video(str(source)) as path:
        info = probe_damaged(path, limits, damage)
        # Generators all the way: a long video is never in memory as a whole.
        read = readable_video_frames(path, info, damage, limits=limits, color=color)
        frames = _enhanced(read, enhance)
        target.parent.mkdir(parents=True, exist_ok=True)
        names = readable_names(class_names)
        drawn = (draw(frame.rgb, span_at(spans, frame.time_sec), names) for frame in frames)
        write_video(target, drawn, Fraction(info.fps or ASSUMED_FPS).limit_denominator(1001))


def _enhanced(frames: Iterable[Frame], enhance: Enhance) -> Iterator[Frame]:
    frames = iter(frames)
    while chunk := list(itertools.islice(frames, CHUNK_FRAMES)):
        enhanced = enhance(np.stack([frame.rgb for frame in chunk]))
        for frame, rgb in zip(chunk, enhanced, strict=True):
            yield Frame(frame.number, frame.time_sec, rgb)


def draw(rgb: np.ndarray, span: ScoredSpan, class_names: Sequence[str]) -> np.ndarray:
    """Return a frame with names and bars of the top classes below it.

    The picture is made higher, as people's feet are at its lower edge.

    Args:
        rgb: frame uint8 `[H, W, 3]`. Small frames are enlarged, for legible text.
        span: prediction at the time of the frame. Without classes, nothing is known.
        class_names: names of the K classes, in letters that a font has (`readable_names`).

    Returns:
        uint8 `[H', W', 3]` with even sides, as H.264 requires.
    """
    frame = _enlarged(rgb)
    font_px = max(min(frame.height // 20, frame.width // 24), MIN_FONT_PX)
    line_px = font_px + 4
    # As high for any number of classes: all frames of a video have one size.
    panel_px = (line_px * BARS + MARGIN_PX) // 2 * 2
    picture = Image.new("RGB", (frame.width, frame.height + panel_px), BACKGROUND)
    picture.paste(frame)
    pen = ImageDraw.Draw(picture)
    left = picture.width // 2
    right = picture.width - MARGIN_PX
    rows = [(class_names[label], prob) for label, prob in span.top[:BARS]]
    for place, (name, prob) in enumerate(rows or [(NOTHING_KNOWN, None)]):
        y = frame.height + place * line_px
        text, font = _fitting(name, prob, font_px, left - 2 * MARGIN_PX)
        pen.text((MARGIN_PX, y + 2), text, fill="white", font=font)
        if prob is None:
            continue
        pen.rectangle((left, y + 4, right, y + font_px + 1), fill=EMPTY_BAR)
        # Mean probabilities of many windows may exceed 1 by rounding.
        end = left + round((right - left) * min(max(prob, 0.0), 1.0))
        colour = FIRST_BAR if place == 0 else OTHER_BAR
        pen.rectangle((left, y + 4, end, y + font_px + 1), fill=colour)
    return np.asarray(picture)


def _fitting(name: str, prob: float | None, font_px: int, width_px: int) -> tuple[str, Font]:
    """Return a name with its probability, cut to a width in pixels, and a font that has it."""
    number = "" if prob is None else f" {prob:.2f}"
    text = f"{name}{number}"
    font = load_font(text, font_px)
    for kept in range(len(name) - 1, 0, -1):
        if font.getlength(text) <= width_px:
            break
        text = f"{name[:kept].rstrip()}...{number}"
    return text, font


def _enlarged(rgb: np.ndarray) -> Image.Image:
    """Return a frame scaled up to `MIN_WIDTH_PX` by a whole factor, both sides even."""
    height, width = rgb.shape[:2]
    scale = max(MIN_WIDTH_PX // width, 1)
    even_width = max(width * scale // 2, 1) * 2
    even_height = max(height * scale // 2, 1) * 2
    return Image.fromarray(rgb).resize((even_width, even_height))
