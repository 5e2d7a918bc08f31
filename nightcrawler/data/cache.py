"""A cache of decoded videos: any view of any epoch takes its frames from it.

The key of a video is the hash of its content and of every setting that changes frames. A video that
is replaced, even by a file of the same size and time, has another key. One that is moved or listed
twice has the same.

On disk a video is one file, memory-mapped: a header, a checksum of each frame, the frames. A file
gets its name when it is complete, so that a killed writer leaves no more than a temporary file,
which is removed later. A file that is damaged in any other way fails its checksums, and is written
again. Nothing that a cache cannot do stops a run.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import os
import struct
import uuid
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Protocol

import av
import numpy as np

from nightcrawler.data.cache_folder import measure_cache
from nightcrawler.data.video.decode import Decoded, FrameCountError, VideoReader
from nightcrawler.data.video.integrity.checksums import content_sha256
from nightcrawler.data.video.probe import StreamInfo
from nightcrawler.utils.errors import UserError, VideoError
from nightcrawler.utils.io import open_own
from nightcrawler.utils.locks import take_record_lock
from nightcrawler.utils.logging import get_logger
from nightcrawler.utils.lru import LruMapping

logger = get_logger(__name__)

# Part of every key: raise it when the file format changes, or when decoding gives other frames.
VERSION = 1
MAGIC = b"nc-clip1"
# Magic, frames, height, width, promised frames, frame rate; then CRC-32 of all that, the frames'
# CRC-32s and the key.
HEADER = struct.Struct("<8s4qd")
CHECK = struct.Struct("<I")
# A video whose frames take more is decoded every time: all of them must fit in a worker's memory.
MAX_VIDEO_BYTES = 512 << 20
# Digits of the number in the tally of a folder.
TALLY_DIGITS = 20


@dataclass(frozen=True)
class CachedVideo:
    """All frames of a video.

    Attributes:
        frames: uint8 `[T, H, W, 3]`, perhaps memory-mapped.
        promised: number of frames that its container promises. Frames are chosen for it first.
        fps: average frame rate in frames per second, 0 where the file does not state it.
        sums: CRC-32 of each frame, uint32 `[T]`, or `None` in memory, where frames are not damaged.
    """

    frames: np.ndarray
    promised: int
    fps: float
    sums: np.ndarray | None = None

    def take(self, wanted: Sequence[int]) -> np.ndarray | None:
        """Return a copy of the wanted frames, or `None` where one of them is damaged."""
        # Frames are checked after the copy: a mapped file may change at any time.
        indices = np.asarray(wanted, np.int64)
        taken = self.frames[indices]
        if self.sums is not None and (_checksums(taken) != self.sums[indices]).any():
            return None
        return taken


def _checksums(frames: np.ndarray) -> np.ndarray:
    return np.array([zlib.crc32(frame) for frame in frames], np.uint32)


class Cache(Protocol):
    """A store of videos by key, of at most `max_bytes` together."""

    max_bytes: int

    def get(self, key: str) -> CachedVideo | None:
        """Return a video, or `None` where it is absent or damaged."""
        ...

    def put(self, key: str, video: CachedVideo) -> None:
        """Keep a video, where there is room."""
        ...

    def drop(self, key: str) -> None:
        """Forget a video."""
        ...


class RamCache:
    """Videos in the memory of this process.

    The least recently used ones make room for new ones.

    Args:
        max_bytes: largest sum of the sizes of all frames.
    """

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self._videos: LruMapping[str, CachedVideo] = LruMapping(max_bytes)

    def get(self, key: str) -> CachedVideo | None:
        """Return a video, which is then the latest used, or `None` where it is absent."""
        return self._videos.get(key)

    def put(self, key: str, video: CachedVideo) -> None:
        """Keep a video."""
        self._videos.put(key, video, size=video.frames.nbytes)

    def drop(self, key: str) -> None:
        """Forget a video."""
        self._videos.drop(key)


# One for all data sets of a process: its bound is that of the process.
shared_ram_cache = functools.cache(RamCache)


class DiskCache:
    """Videos in a folder that processes share.

    When the folder is full, no more videos are kept, and those that are stay useful. Dropping the
    oldest would drop, in epochs longer than the cache, each video just before it is wanted.

    Args:
        folder: folder of the files, made when absent.
        max_bytes: largest size of all files together.
        limit_name: name of the bound in the warning that the folder is full.

    Raises:
        UserError: if the folder can be neither written to nor read, or its count is a link.
    """

    def __init__(self, folder: str | Path, max_bytes: int, limit_name: str = "max_bytes") -> None:
        self.folder = Path(folder).absolute()
        self.max_bytes = max_bytes
        self.limit_name = limit_name
        self._is_counted = False
        self._has_warned = False
        self._is_read_only = False
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._open_tally().close()
        except OSError as error:
            cause = f"the folder of the cache cannot be written to: {error.strerror}"
            # A folder of another user, or on a read-only disk, may hold what this run needs.
            if not self.folder.is_dir() or not os.access(self.folder, os.R_OK | os.X_OK):
                raise UserError(f"{self.folder}: {cause}") from None
            self._is_read_only = True
            self._warn_once("%s: %s; its videos are read, no more are kept", self.folder, cause)

    def get(self, key: str) -> CachedVideo | None:
        """Return a video after a check of its header. Frames are checked when they are taken."""
        try:
            video = _parse(np.asarray(np.memmap(self._path(key), np.uint8, mode="r")), key)
        except OSError:
            return None
        except ValueError as error:
            logger.warning("%s: the cached video is written again: %s", self._path(key), error)
            self.drop(key)
            return None
        return video

    def put(self, key: str, video: CachedVideo) -> None:
        """Write a video under a temporary name, then rename it."""
        if self._is_read_only:
            return
        parts = _file_parts(key, video)
        try:
            temporary = self._reserve(key, sum(memoryview(part).nbytes for part in parts))
            if temporary is not None:
                self._write(temporary, key, parts)
        except (OSError, UserError) as error:
            cause = getattr(error, "strerror", error)
            self._warn_once("%s: videos are no longer cached (%s)", self.folder, cause)

    def drop(self, key: str) -> None:
        """Remove a video."""
        self._is_counted = False
        with contextlib.suppress(OSError):
            self._path(key).unlink(missing_ok=True)

    def _path(self, key: str) -> Path:
        return self.folder / f"{key}.clip"

    def _warn_once(self, text: str, *values: object) -> None:
        if not self._has_warned:
            logger.warning(text, *values)
        self._has_warned = True

    def _open_tally(self) -> IO[bytes]:
        """Open the file that holds the number of bytes in use."""
        return open_own(self.folder / ".used", "r+b")

    def _reserve(self, key: str, num_bytes: int) -> Path | None:
        """Create a temporary file of a size and count it.

        Returns:
            Its path, or `None` where there is no room for it.
        """
        with self._open_tally() as tally:
            # A record lock: the system releases it however the process ends.
            take_record_lock(tally, wait=True)
            text = tally.read()
            if self._is_counted and len(text) == TALLY_DIGITS and text.isdigit():
                used = int(text)
            else:
                used = measure_cache(self.folder)
            self._is_counted = True
            if used + num_bytes > self.max_bytes:
                warning = (
                    "%s is full (%.2f GiB): videos are decoded every time; empty it or raise %s"
                )
                self._warn_once(warning, self.folder, used / 2**30, self.limit_name)
                return None
            temporary = self._path(key).with_suffix(f".{uuid.uuid4().hex}.tmp")
            # The file gets its full size while the folder is locked: whoever counts, counts it.
            temporary.parent.mkdir(exist_ok=True)
            with open(temporary, "xb") as file:
                file.truncate(num_bytes)
            tally.seek(0)
            tally.write(b"%0*d" % (TALLY_DIGITS, used + num_bytes))
        return temporary

    def _write(self, temporary: Path, key: str, parts: Sequence[Any]) -> None:
        # Not flushed to the disk before it gets its name: after a power cut the checksums fail.
        try:
            with open(temporary, "r+b") as file:
                file.writelines(parts)
            os.replace(temporary, self._path(key))
        except BaseException:
            self._is_counted = False
            temporary.unlink(missing_ok=True)
            raise


def _file_parts(key: str, video: CachedVideo) -> list[Any]:
    sums = _checksums(video.frames)
    header = HEADER.pack(MAGIC, *video.frames.shape[:3], video.promised, video.fps)
    return [
        header,
        CHECK.pack(_header_check(header, sums, key)),
        sums.data,
        np.ascontiguousarray(video.frames).data,
    ]


def _header_check(header: bytes, sums: np.ndarray, key: str) -> int:
    return zlib.crc32(sums.tobytes(), zlib.crc32(header + key.encode()))


def _parse(data: np.ndarray, key: str) -> CachedVideo:
    """Parse the bytes of a file, uint8 `[n]`.

    Raises:
        ValueError: if the header was not written under this key, or the size is another.
    """
    first = HEADER.size + CHECK.size
    if len(data) < first:
        raise ValueError(f"it has only {len(data)} bytes")
    header = data[: HEADER.size].tobytes()
    _magic, length, height, width, promised, fps = HEADER.unpack(header)
    if not 0 < length <= len(data) or len(data) != first + 4 * length + length * height * width * 3:
        raise ValueError(f"its size of {len(data)} bytes is not that of its header")
    sums = data[first : first + 4 * length].copy().view(np.uint32)
    if CHECK.unpack(data[HEADER.size : first].tobytes()) != (_header_check(header, sums, key),):
        raise ValueError("its header is damaged")
    frames = data[first + 4 * length :].reshape(length, height, width, 3)
    return CachedVideo(frames, promised, fps, sums)


def video_key(path: str, settings: Mapping[str, object]) -> str:
    """Return the key of a video.

    It is a hash of the settings, a slash, and the SHA-256 of the file's content.

    Args:
        path: the video file.
        settings: everything but the file that changes frames, as plain values.

    Raises:
        OSError: if the file cannot be read.
    """
    parts: dict[str, object] = {"version": VERSION, "av": av.__version__}
    # Another FFmpeg may decode to other frames.
    for library, numbers in av.library_versions.items():
        parts[library] = list(numbers)
    text = json.dumps({**parts, **settings}, sort_keys=True)
    return f"{hashlib.sha256(text.encode()).hexdigest()[:16]}/{content_sha256(path)}"


@dataclass(frozen=True)
class CachedReader:
    """Take frames from a cache.

    A video that is not there is decoded, and kept.

    The frames, and the number of times that a choice of frames is asked for, are the same as
    without a cache.

    Attributes:
        reader: reads videos that are not cached.
        cache: holds the decoded videos.
        settings: everything that makes `reader` give other frames, part of every key.
        names: path to name, for a reader whose frames depend on the name of a video.
    """

    reader: VideoReader
    cache: Cache
    settings: Mapping[str, object]
    names: Mapping[str, str] = field(default_factory=dict)

    def probe(self, path: str) -> StreamInfo:
        """Return the number of frames that the container promises, without opening a cached video.

        Raises:
            VideoError: as the wrapped reader does.
        """
        key = self._key(path)
        video = None if key is None else self.cache.get(key)
        if video is None:
            return self.reader.probe(path)
        return StreamInfo(video.promised, fps=video.fps)

    def decode(self, path: str, indices: Sequence[int], info: StreamInfo) -> Decoded:
        """Take the frames with the given numbers from the cache, or decode them.

        Raises:
            FrameCountError: if the decoder yields, or once yielded, another number of frames than
                `info.num_frames`.
            VideoError: as the wrapped reader does.
        """
        key = self._key(path)
        if key is None:
            return self.reader.decode(path, indices, info)
        video = self.cache.get(key)
        if video is not None:
            if len(video.frames) != info.num_frames:
                raise FrameCountError(path, len(video.frames))
            frames = video.take(indices)
            if frames is not None:
                return Decoded(frames, list(indices), len(video.frames), video.fps)
            logger.warning("%s: a cached frame is damaged: the video is decoded again", path)
            self.cache.drop(key)
        return self._decode_and_keep(path, indices, info, key)

    def _key(self, path: str) -> str | None:
        """Return the key of a video, or `None` for what is left to the wrapped reader.

        That is everything but a readable regular file that may fit into the cache.
        """
        try:
            fits = os.path.isfile(path) and os.path.getsize(path) <= self.cache.max_bytes
            settings = dict(self.settings)
            if path in self.names:
                settings["name"] = self.names[path]
            return video_key(path, settings) if fits else None
        except (OSError, ValueError):
            return None

    def _decode_and_keep(
        self, path: str, indices: Sequence[int], info: StreamInfo, key: str
    ) -> Decoded:
        """Decode the wanted frames, then cache all frames of the video unless they are too many."""
        # Remembered by the process, so that this does not read the file again.
        promised = self.reader.probe(path)
        # `info` may come from the cache, which holds neither codec nor packet times.
        if promised.num_frames == info.num_frames:
            info = promised
        else:
            info = promised.with_num_frames(info.num_frames)
        decoded = self.reader.decode(path, indices, info)
        size = decoded.num_frames * decoded.frames[:1].nbytes
        if not 0 < size <= min(MAX_VIDEO_BYTES, self.cache.max_bytes):
            return decoded
        try:
            whole = self.reader.decode(path, range(info.num_frames), info)
        except VideoError:
            # Frames that nobody asked for are damaged, or their number is another than a seek
            # suggested.
            return decoded
        if len(whole.frames) == whole.num_frames:
            self.cache.put(key, CachedVideo(whole.frames, promised.num_frames, whole.fps))
        return decoded
