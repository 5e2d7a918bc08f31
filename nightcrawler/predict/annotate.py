"""A copy of a video, lit as its model sees it, with what it shows written into the picture."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from nightcrawler.data.lowlight.enhance.build import Enhance
from nightcrawler.data.video.integrity.limits import Limits
from nightcrawler.data.video.probe import probe
from nightcrawler.predict.rows import VideoResult
from nightcrawler.predict.stream import ASSUMED_FPS, Frame, video_frames
from nightcrawler.predict.windows import SHOWN_CLASSES, Piece, piece_at
from nightcrawler.synthetic.video import write_video

# Frames that are lit together: ways of lighting that look at a whole clip look at so many.
CHUNK = 32
LEAST_SIDE_PX = 320
SHOWN = 3


def whole_video_piece(row: VideoResult) -> Piece:
    """What is said of a whole video, as one stretch of time."""
    return Piece(
        0.0, float("inf"), tuple((label, row.probs[label]) for label in row.top(SHOWN_CLASSES))
    )


def target_path(folder: Path, name: str) -> Path:
    """Where the annotated copy of a video goes: by the video's name, inside the folder whatever the name is."""
    return folder.joinpath(
        *(part for part in Path(f"{name}.annotated.mp4").parts if part not in ("/", ".."))
    )


def annotate(
    source: Path, target: Path, pieces: list[Piece], class_names: Sequence[str], enhance: Enhance
) -> None:
    """Write `target`, an H.264 video; a few frames are held at a time.

    Args:
        source: the video.
        target: `.mp4`, whole or absent; its folder is made.
        pieces: at least one, in order of time.
        class_names: the K classes.
        enhance: lights frames uint8 `[T, H, W, 3]`.

    Raises:
        VideoError: if the source cannot be read.
    """
    limits = Limits()
    found = probe(str(source), limits)
    frames = _lit(video_frames(str(source), found, limits=limits), enhance)
    target.parent.mkdir(parents=True, exist_ok=True)
    drawn = (draw(frame.rgb, piece_at(pieces, frame.time_sec), class_names) for frame in frames)
    write_video(target, drawn, Fraction(found.fps or ASSUMED_FPS).limit_denominator(1001))


def _lit(frames: Iterable[Frame], enhance: Enhance) -> Iterator[Frame]:
    frames = iter(frames)
    while chunk := list(itertools.islice(frames, CHUNK)):
        lit = enhance(np.stack([frame.rgb for frame in chunk]))
        yield from (
            Frame(frame.number, frame.time_sec, rgb) for frame, rgb in zip(chunk, lit, strict=True)
        )


def draw(rgb: np.ndarray, piece: Piece, class_names: Sequence[str]) -> np.ndarray:
    """A frame uint8 `[H, W, 3]`, enlarged where it is small, sides even, with the label and bars of the top classes."""
    height, width = rgb.shape[:2]
    scale = max(LEAST_SIDE_PX // width, 1)
    picture = Image.fromarray(rgb).resize(
        (max(width * scale // 2, 1) * 2, max(height * scale // 2, 1) * 2)
    )
    size = max(picture.height // 20, 9)
    font, pen = ImageFont.load_default(size), ImageDraw.Draw(picture, "RGBA")
    line, left = size + 4, picture.width // 2
    top = picture.height - line * min(SHOWN, len(piece.top)) - 4
    pen.rectangle((0, top - 2, picture.width, picture.height), fill=(0, 0, 0, 150))
    for place, (label, prob) in enumerate(piece.top[:SHOWN]):
        y = top + place * line
        pen.text((6, y), f"{class_names[label]} {prob:.2f}", fill="white", font=font)
        pen.rectangle((left, y + 3, picture.width - 6, y + size), fill=(255, 255, 255, 60))
        end = left + round((picture.width - 6 - left) * min(max(prob, 0.0), 1.0))
        pen.rectangle(
            (left, y + 3, end, y + size),
            fill=(255, 190, 60, 255) if place == 0 else (170, 170, 170, 255),
        )
    return np.asarray(picture)
