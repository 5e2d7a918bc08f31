"""Sources of videos: files, folders, lists and frames in memory."""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from nightcrawler.data.lists import VideoItem
from nightcrawler.data.video.reader import fault_of_url
from nightcrawler.data.video.suffixes import is_csv_list, is_text_list
from nightcrawler.download.addresses import check_address, is_address, path_of_address
from nightcrawler.predict.long_video import VideoModel, predict_long_videos
from nightcrawler.predict.model_input import FrameSpan
from nightcrawler.predict.sliding_windows import ScoredSpan, check_window
from nightcrawler.predict.survive import survive
from nightcrawler.predict.video_result import VideoResult
from nightcrawler.prepare.sources import read_videos
from nightcrawler.pseudo.predictions import first_duplicate
from nightcrawler.utils.errors import UserError
from nightcrawler.utils.io import list_lines, plain_name, real_path, video_name

MAX_LIST_BYTES = 1 << 30

# Typing cannot name shapes: arrays are uint8 [T, H, W, 3].
Clip = str | os.PathLike[str] | np.ndarray
Source = Clip | Sequence[Clip]


@dataclass(frozen=True)
class FrameArray:
    """A video in memory: frames uint8 `[T, H, W, 3]` and a name for its result."""

    name: str
    frames: np.ndarray


def find_videos(source: Path, num_classes: int) -> list[VideoItem]:
    """Return the videos of a file, a folder, or a list.

    A folder stands for all files below it. A list is a `.csv` file with rows `path,label`, or a
    `.txt` file with one path per line, relative to its folder. A file that is not a video is kept:
    its result tells the reason.

    Args:
        source: path of the file, folder or list.
        num_classes: K, to check the labels of a list.

    Raises:
        UserError: if the path does not exist, the folder is empty, or the list is invalid.
    """
    if source.is_dir() or is_csv_list(source):
        return read_videos(source, num_classes)
    if not source.exists():
        raise UserError(f"{source}: no such file or folder")
    if is_text_list(source):
        if not source.is_file():
            # Reading a pipe or a device could wait for ever.
            raise UserError(f"{source}: not a regular file: expected a list")
        return _read_paths(source)
    return [VideoItem(video_name(source.name), -1, source, 1)]


def find_all_videos(sources: Sequence[Path], num_classes: int) -> list[VideoItem]:
    """Return the videos of several files, folders and lists, by names that tell them apart.

    A video that several of them hold is returned once, where it comes first.

    Args:
        sources: paths, see `find_videos`.
        num_classes: K, to check the labels of lists.

    Raises:
        UserError: as `find_videos`, or if a list names one video twice.
    """
    if len(sources) == 1:
        return find_videos(sources[0], num_classes)
    found: list[tuple[Path, VideoItem]] = []
    seen: set[str] = set()
    for source in sources:
        items = find_videos(source, num_classes)
        paths = [real_path(item.path) for item in items]
        if len(set(paths)) < len(paths):
            raise UserError(f"{source}: {first_duplicate(paths)}: it is given twice")
        # As where a folder and a file of it are given, which is predicted once.
        new = zip(items, paths, strict=True)
        found += [(source, item) for item, path in new if path not in seen]
        seen.update(paths)
    # The shortest way of naming that tells all videos apart.
    for name_of in (_name_in_source, _name_with_source, _name_as_path):
        names = [video_name(name_of(source, item)) for source, item in found]
        if len(set(names)) == len(names):
            break
    return [
        replace(item, name=name, row=row)
        for row, (name, (_, item)) in enumerate(zip(names, found, strict=True), start=1)
    ]


def _name_in_source(source: Path, item: VideoItem) -> str:
    return item.name


def _name_with_source(source: Path, item: VideoItem) -> str:
    base = source if source.is_dir() else source.resolve().parent
    return f"{base.resolve().name}/{item.name}"


def _name_as_path(source: Path, item: VideoItem) -> str:
    # Relative to the root: names of videos are never absolute.
    return real_path(item.path).lstrip("/")


def _read_paths(source: Path) -> list[VideoItem]:
    """Return the videos of a `.txt` list. Empty lines are skipped."""
    # A video with the suffix of a list would fill the memory.
    if source.stat().st_size > MAX_LIST_BYTES:
        raise UserError(f"{source}: larger than {MAX_LIST_BYTES >> 30} GiB: not a list")
    try:
        # Editors on Windows put a byte order mark first, which utf-8-sig drops.
        lines = list_lines(source.read_text(encoding="utf-8-sig"))
    except UnicodeDecodeError as error:
        raise UserError(f"{source}: not UTF-8 text (byte {error.start})") from None
    items = []
    for row, line in enumerate(lines, start=1):
        name = line.strip()
        if name:
            path = source.parent / name
            if is_address(name):
                check_address(name)
                path = path_of_address(name)
            items.append(VideoItem(plain_name(name), -1, path, row))
    if not items:
        raise UserError(f"{source}: the list is empty")
    names = [item.name for item in items]
    # Results files are joined by name, so a name may occur once only.
    if len(set(names)) < len(names):
        raise UserError(f"{source}: holds {first_duplicate(names)}")
    return items


def read_source(source: Source, num_classes: int) -> list[VideoItem | FrameArray]:
    """Return the videos of a source that Python code passes.

    Args:
        source: path of a video, folder or list, an array uint8 `[T, H, W, 3]`, or a list of video
            paths and arrays. Results of a list are named by the paths as given, or by `array 0`,
            `array 1`, ...
        num_classes: K, to check the labels of a list file.

    Raises:
        TypeError: if the source is of another type.
        ValueError: if an array has another shape, or a path is empty.
        UserError: if a single path does not exist, or a list file is invalid.
    """
    if isinstance(source, (str, os.PathLike)):
        if not os.fspath(source):
            raise ValueError("source is empty: expected the path of a video, folder or list")
        fault = fault_of_url(os.fspath(source))
        if fault:
            raise UserError(f"{source}: {fault}")
        return list(find_videos(Path(source), num_classes))
    if isinstance(source, np.ndarray):
        return [FrameArray("array", _checked_frames(source, "source"))]
    if not isinstance(source, Sequence):
        raise TypeError(f"source: expected {_EXPECTED}, got {type(source).__name__}")
    videos: list[VideoItem | FrameArray] = []
    for place, clip in enumerate(source):
        videos.append(_read_clip(clip, place))
    return videos


_EXPECTED = "a path, a uint8 array [T, H, W, 3], or a list of these"


def _read_clip(clip: Any, place: int) -> VideoItem | FrameArray:
    """Return one entry of a list, without opening its file."""
    if isinstance(clip, (str, os.PathLike)):
        return VideoItem(_as_given(os.fspath(clip)), -1, Path(clip), place + 1)
    if isinstance(clip, np.ndarray):
        return FrameArray(f"array {place}", _checked_frames(clip, f"source[{place}]"))
    raise TypeError(
        f"source[{place}]: expected a path or a uint8 array [T, H, W, 3], got {type(clip).__name__}"
    )


def _as_given(path: str) -> str:
    """Return a path as given, escaped only where it is no UTF-8."""
    if path.isprintable():
        return path
    return video_name(path)


def _checked_frames(frames: np.ndarray, name: str) -> np.ndarray:
    """Refuse arrays that are not frames, naming the argument."""
    if frames.dtype != np.uint8:
        raise TypeError(f"{name}: expected an array of dtype uint8, got {frames.dtype}")
    if frames.ndim != 4 or frames.shape[3] != 3 or 0 in frames.shape:
        raise ValueError(
            f"{name}: expected an array [T, H, W, 3] with at least one frame, got shape "
            f"{list(frames.shape)}"
        )
    return frames


def predict_source(
    model: VideoModel,
    source: Source,
    window_sec: float | None = None,
    stride_sec: float | None = None,
) -> list[VideoResult]:
    """Predict every video of a source.

    Args:
        model: one model or an ensemble.
        source: see `read_source`.
        window_sec: length of sliding windows in seconds. None predicts each video as a whole.
        stride_sec: time between windows in seconds. None takes half a window.

    Returns:
        one result per video, in order. `status` tells why a video has no prediction.

    Raises:
        TypeError: if the source is of another type.
        ValueError: if an array has another shape, or the window and stride do not fit.
        UserError: if a single path does not exist, or a list file is invalid.
    """
    # Before any video is opened: wrong arguments are found at once.
    window = window_and_stride(window_sec, stride_sec)
    videos = read_source(source, len(model.class_names))
    items = [video for video in videos if isinstance(video, VideoItem)]
    if window is not None:
        if len(items) < len(videos):
            raise ValueError("window_sec: arrays have no frame rate, so it is for files only")
        by_windows = functools.partial(_by_windows, model, window)
        return [result for result, _ in survive(model.class_names, items, by_windows)]
    # Files go through one loader, which decodes the next video while the model runs.
    file_results = survive(model.class_names, items, functools.partial(_whole_videos, model))
    results = []
    for place, video in enumerate(videos):
        if isinstance(video, FrameArray):
            item = VideoItem(video.name, -1, Path(video.name), place + 1)
            predict = functools.partial(_array, model, video.frames)
            results += [result for result, _ in survive(model.class_names, [item], predict)]
        else:
            results.append(next(file_results)[0])
    return results


def _by_windows(
    model: VideoModel, window: tuple[float, float], items: Sequence[VideoItem]
) -> Iterator[tuple[VideoResult, list[ScoredSpan]]]:
    return predict_long_videos(model, items, *window)


def _whole_videos(
    model: VideoModel, items: Sequence[VideoItem]
) -> Iterator[tuple[VideoResult, list[ScoredSpan]]]:
    return ((result, []) for result in model.videos(items))


def _array(
    model: VideoModel, frames: np.ndarray, items: Sequence[VideoItem]
) -> Iterator[tuple[VideoResult, list[ScoredSpan]]]:
    return ((model.frames(item, FrameSpan(list(frames))), []) for item in items)


def window_and_stride(
    window_sec: float | None, stride_sec: float | None
) -> tuple[float, float] | None:
    """Return the checked window and stride in seconds, or None where no windows are asked for.

    Raises:
        ValueError: if there is a stride without a window, or the two do not fit.
    """
    if window_sec is None:
        if stride_sec is not None:
            raise ValueError(f"stride_sec {stride_sec:g}: needs window_sec")
        return None
    if stride_sec is None:
        stride_sec = window_sec / 2
    check_window(window_sec, stride_sec)
    return window_sec, stride_sec
