"""Simulated recordings of bright clips: darkened by a camera, then compressed as recorders do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from nightcrawler.data.dataset import sample_rng
from nightcrawler.data.lowlight.camera import CameraRanges, darken, darken_video, sample_camera
from nightcrawler.data.lowlight.compression import Compression, compress
from nightcrawler.data.video.convert import EXACT
from nightcrawler.data.video.decode import Decoded, VideoReader
from nightcrawler.data.video.probe import StreamInfo

# A darkened split is the same for every model and run, so its draws have a seed of their own.
SEED = 0


@dataclass(frozen=True)
class Recorder:
    """Cameras, and what becomes of their pictures.

    Attributes:
        cameras: ranges that the camera of a video is drawn from.
        compression: settings of the encoder, or `None` for no compression.
        short_side: short side of the recorded picture in pixels (0 for that of the bright video).
            Smaller videos keep their size.
    """

    cameras: CameraRanges
    compression: Compression | None = None
    short_side: int = 0


@dataclass(frozen=True)
class DarkenedReader:
    """Video reader that darkens the frames of bright videos, without compression.

    Attributes:
        reader: reader of the bright frames.
        cameras: ranges that the camera of a video is drawn from.
        names: path to name; a video's camera and noise are a function of its name alone.
    """

    reader: VideoReader
    cameras: CameraRanges
    names: Mapping[str, str]

    def probe(self, path: str) -> StreamInfo:
        """Probe the bright video."""
        return self.reader.probe(path)

    def decode(self, path: str, indices: Sequence[int], info: StreamInfo) -> Decoded:
        """Decode frames and darken them.

        Args:
            path: video file.
            indices: frames to return, increasing.
            info: result of `probe`.
        """
        decoded = self.reader.decode(path, indices, info)
        rng = sample_rng(SEED, 0, self.names[path])
        camera = sample_camera(rng, self.cameras)
        return replace(decoded, frames=darken(decoded.frames, camera, rng))


@dataclass(frozen=True)
class RecordedReader:
    """Video reader that records bright videos in the dark: all frames, darkened and compressed.

    Attributes:
        reader: reader of the bright frames, of the size that is recorded.
        cameras: ranges that the camera of a video is drawn from.
        compression: settings of the encoder.
        names: path to name; a video's camera and noise are a function of its name alone.
        short_side: scale recorded frames down to this short side in pixels (0 keeps their size).
        color: conversion of the recorded colours, see `data.video.convert.FLAGS`.
    """

    reader: VideoReader
    cameras: CameraRanges
    compression: Compression
    names: Mapping[str, str]
    short_side: int = 0
    color: str = EXACT

    def probe(self, path: str) -> StreamInfo:
        """Probe the bright video."""
        return self.reader.probe(path)

    def decode(self, path: str, indices: Sequence[int], info: StreamInfo) -> Decoded:
        """Record the whole video, as a frame depends on those before it, and take frames of it.

        Args:
            path: video file.
            indices: frames to return, increasing.
            info: result of `probe`.
        """
        decoded = self.reader.decode(path, range(info.num_frames), info)
        rng = sample_rng(SEED, 0, self.names[path])
        camera = sample_camera(rng, self.cameras)
        dark = darken_video(decoded.frames, camera, rng)
        recorded, _ = compress(dark, self.compression, self.short_side, self.color)
        wanted = [index for index in indices if index < len(recorded)]
        return replace(decoded, frames=recorded[wanted], indices=wanted)
