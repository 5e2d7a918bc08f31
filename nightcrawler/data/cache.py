"""A cache of decoded videos: all frames of a video are kept once, any view of any epoch takes its frames from there.

A video goes by the hash of its content and of every setting that changes frames: one that is replaced, even by a file
of the same size and time, is another one, and one that is moved or listed twice is the same. Hashing costs a hundredth
of what is saved: a video is a hundredth of its frames. On disk a video is one file, memory-mapped: a header, a checksum
of each frame, the frames. A file appears under its name when it is complete, so that a killed writer leaves no more
than a temporary file, which is swept away later; whatever else happens to a file, its checksums tell, and it is made
again. Nothing that a cache cannot do stops a run.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import os
import struct
import time
import uuid
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Protocol

import av
import numpy as np
from fvcore.common.config import CfgNode

from nightcrawler.data.video.decode import Decoded, FrameCountError, VideoReader
from nightcrawler.data.video.integrity.checksums import content_sha256
from nightcrawler.data.video.probe import StreamInfo
from nightcrawler.utils.errors import UserError, VideoError
from nightcrawler.utils.locks import take_record_lock
from nightcrawler.utils.logging import get_logger
from nightcrawler.utils.lru import LruMapping

logger = get_logger(__name__)

# Part of every key: raised when the file's form changes, or what decoding makes of a video.
VERSION = 1
MAGIC = b"nc-clip1"
# Magic, frames, height, width, promised frames, frame rate; then CRC-32 of all that, the frames' CRC-32s and the key.
HEADER = struct.Struct("<8s4qd")
CHECK = struct.Struct("<I")
# A video whose frames take more than this is decoded every time: all of them must fit in a worker's memory.
MAX_VIDEO_BYTES = 512 << 20
# A temporary file of this age was left by a writer that was killed.
STALE_SEC = 3600.0


@dataclass(frozen=True)
class CachedVideo:
    """All frames of a video.

    Attributes:
        frames: uint8 `[T, H, W, 3]`, perhaps memory-mapped.
        promised: frames that its container promises; the decoder asks for a choice among them first.
        fps: average frame rate, 0 where the file does not say.
        sums: CRC-32 of each frame, uint32 `[T]`; None where nothing can happen to them.
    """

    frames: np.ndarray
    promised: int
    fps: float
    sums: np.ndarray | None = None

    def take(self, wanted: Sequence[int]) -> np.ndarray | None:
        """A copy of the wanted frames, or None where one of them is damaged."""
        taken = self.frames[np.asarray(wanted, np.int64)]
        if (
            self.sums is not None
            and (_checksums(taken) != self.sums[np.asarray(wanted, np.int64)]).any()
        ):
            return None
        return taken


def _checksums(frames: np.ndarray) -> np.ndarray:
    return np.array([zlib.crc32(frame) for frame in frames], np.uint32)


class Cache(Protocol):
    """Where videos are kept by key."""

    max_bytes: int

    def get(self, key: str) -> CachedVideo | None:
        """The video, where it is there and whole."""
        ...

    def put(self, key: str, video: CachedVideo) -> None:
        """Keep a video, where there is room."""
        ...

    def drop(self, key: str) -> None:
        """Forget a video."""
        ...


class RamCache:
    """Videos in the memory of this process; the least recently used ones make room for new ones.

    Args:
        max_bytes: largest sum of the sizes of all frames.
    """

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self._videos: LruMapping[str, CachedVideo] = LruMapping(max_bytes)

    def get(self, key: str) -> CachedVideo | None:
        """Return a video, which is then the latest used; `None` where it is absent."""
        return self._videos.get(key)

    def put(self, key: str, video: CachedVideo) -> None:
        """Keep a video."""
        self._videos.put(key, video, size=video.frames.nbytes)

    def drop(self, key: str) -> None:
        """Forget a video."""
        self._videos.drop(key)


class DiskCache:
    """Videos in a folder that processes share. When it is full no more are kept: those that are stay useful.

    To throw out the oldest would throw out, in epochs longer than the cache, each video just before it is wanted.

    Args:
        folder: made when absent.
        max_bytes: of all files in it together.

    Raises:
        UserError: if the folder cannot be made or written to.
    """

    def __init__(self, folder: str | Path, max_bytes: int) -> None:
        self.folder, self.max_bytes = Path(folder).absolute(), max_bytes
        self._counted = self._told = False
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._tally().close()
        except OSError as error:
            raise UserError(
                f"DATA.CACHE_DIR: {self.folder} cannot be written to: {error.strerror}"
            ) from None

    def get(self, key: str) -> CachedVideo | None:
        """The video, its header checked; frames are checked when they are taken."""
        try:
            video = _parse(np.asarray(np.memmap(self._path(key), np.uint8, mode="r")), key)
        except OSError:
            return None
        except ValueError as error:
            logger.warning("%s is made again: %s", self._path(key), error)
            self.drop(key)
            return None
        return video

    def put(self, key: str, video: CachedVideo) -> None:
        """Write a video under a temporary name, then give it its own."""
        parts = _file_parts(key, video)
        try:
            temporary = self._reserve(key, sum(memoryview(part).nbytes for part in parts))
            if temporary is not None:
                self._write(temporary, key, parts)
        except OSError as error:
            self._tell("%s: videos are no longer cached (%s)", self.folder, error.strerror)

    def drop(self, key: str) -> None:
        """Remove a video."""
        self._counted = False
        with contextlib.suppress(OSError):
            self._path(key).unlink(missing_ok=True)

    def _path(self, key: str) -> Path:
        return self.folder / f"{key}.clip"

    def _tell(self, text: str, *values: object) -> None:
        if not self._told:
            logger.warning(text, *values)
        self._told = True

    def _tally(self) -> IO[bytes]:
        """The open file that says how many bytes are in use."""
        return os.fdopen(os.open(self.folder / ".used", os.O_RDWR | os.O_CREAT, 0o666), "r+b")

    def _reserve(self, key: str, num_bytes: int) -> Path | None:
        """A temporary file of that size, or None where there is no room for it.

        The tally is locked meanwhile, by a record lock: the system frees it however the process ends.
        """
        with self._tally() as tally:
            take_record_lock(tally, wait=True)
            text = tally.read()
            used = (
                int(text) if self._counted and len(text) == 20 and text.isdigit() else self._count()
            )
            self._counted = True
            if used + num_bytes > self.max_bytes:
                what = "%s is full (%.2f GiB): other videos are decoded every time; empty it or raise DATA.CACHE_GIB"
                self._tell(what, self.folder, used / 2**30)
                return None
            temporary = self._path(key).with_suffix(f".{uuid.uuid4().hex}.tmp")
            temporary.parent.mkdir(exist_ok=True)
            with open(temporary, "xb") as file:
                file.truncate(num_bytes)
            tally.seek(0)
            tally.write(b"%020d" % (used + num_bytes))
        return temporary

    def _write(self, temporary: Path, key: str, parts: Sequence[Any]) -> None:
        # Not flushed to the disk before it gets its name: after a power cut the checksums tell.
        try:
            with open(temporary, "r+b") as file:
                file.writelines(parts)
            os.replace(temporary, self._path(key))
        except BaseException:
            self._counted = False
            temporary.unlink(missing_ok=True)
            raise

    def _count(self) -> int:
        """Bytes in use; what killed writers left is removed."""
        used = 0
        for path in self.folder.rglob("*"):
            with contextlib.suppress(OSError):
                status = path.stat()
                if path.suffix == ".tmp" and status.st_mtime < time.time() - STALE_SEC:
                    path.unlink()
                elif path.suffix in (".tmp", ".clip"):
                    used += status.st_size
        return used


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
    """The video of a file's bytes, uint8 `[n]`.

    Raises:
        ValueError: if its header is not what was written under this key, or its size is another.
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
    """What a video's frames go by: a hash of the settings, a slash, a hash of the file's content.

    Raises:
        OSError: if the file cannot be read.
    """
    versions = {
        "version": VERSION,
        "av": av.__version__,
        **{k: list(v) for k, v in av.library_versions.items()},
    }
    text = json.dumps({**versions, **settings}, sort_keys=True)
    return f"{hashlib.sha256(text.encode()).hexdigest()[:16]}/{content_sha256(path)}"


@dataclass(frozen=True)
class CachedReader:
    """Take frames from a cache; a video that is not there is decoded, and kept.

    The frames, and the number of times that a choice of frames is asked for, are the same as without a cache.

    Attributes:
        reader: reads videos that are not cached.
        cache: holds the decoded videos.
        settings: everything that makes `reader` give other frames; part of every key.
    """

    reader: VideoReader
    cache: Cache
    settings: Mapping[str, object]

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
            FrameCountError: if the decoder yields, or once yielded, another number of frames than `info.num_frames`.
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
        """Return the key of a video; `None` for what is left to the wrapped reader.

        That is everything but a readable regular file that may fit into the cache.
        """
        try:
            fits = os.path.isfile(path) and os.path.getsize(path) <= self.cache.max_bytes
            return video_key(path, self.settings) if fits else None
        except (OSError, ValueError):
            return None

    def _decode_and_keep(
        self, path: str, indices: Sequence[int], info: StreamInfo, key: str
    ) -> Decoded:
        """Decode the wanted frames; then cache all frames of the video, where they are not too many."""
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
            # Frames that nobody asked for are damaged, or their number is not what a seek made it seem.
            return decoded
        if len(whole.frames) == whole.num_frames:
            self.cache.put(key, CachedVideo(whole.frames, promised.num_frames, whole.fps))
        return decoded


# One for all data sets of a process: the bound is the process's.
_ram_cache = functools.cache(RamCache)


def build_cache(cfg: CfgNode) -> Cache:
    """The cache of `DATA.CACHE`, ram or disk."""
    max_bytes = int(cfg.DATA.CACHE_GIB * 2**30)
    if cfg.DATA.CACHE == "ram":
        return _ram_cache(max_bytes)
    return DiskCache(cfg.DATA.CACHE_DIR or Path(cfg.DATA.PATH_PREFIX) / "cache", max_bytes)
