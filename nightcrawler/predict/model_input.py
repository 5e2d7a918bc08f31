"""How a model gets a video: decoding, enhancement and clips, as in testing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from fvcore.common.config import CfgNode

from nightcrawler.data.build_clips import build_test_clips
from nightcrawler.data.build_video import build_video_reader
from nightcrawler.data.dataset import ClipBuilder
from nightcrawler.data.footage import Footage, measure_footage
from nightcrawler.data.lowlight.enhance.build import (
    Enhance,
    build_phase_enhancements,
    denoise_window_of,
    enhancement_name_of,
    gammas_of,
)
from nightcrawler.data.lowlight.enhance.denoise import DenoisedReader
from nightcrawler.data.video.decode import Decoded, MemoryReader, VideoReader


@dataclass(frozen=True)
class FrameSpan:
    """Frames of a video that were decoded for all models.

    Attributes:
        frames: uint8 `[H, W, 3]` each.
        fps: frames per second, 0 where it is unknown.
        path: the file that they are of, `None` for frames of a camera or of memory.
        start_sec: time of the first frame in the file.
        end_sec: time after the last frame in the file.
    """

    frames: Sequence[np.ndarray]
    fps: float = 0.0
    path: Path | None = None
    start_sec: float = 0.0
    end_sec: float = 0.0


@dataclass(frozen=True)
class Sighting:
    """Sighting of the person that a model of people answers about.

    Attributes:
        is_confirmed: the mirrored picture shows this person, too (see `pose.second_look`).
        video_sec: length of the video.
    """

    is_confirmed: bool
    video_sec: float


@dataclass(frozen=True)
class ModelInput:
    """Way from a video to the clips of a model.

    Attributes:
        reader: reads frames of a file, or joints of its people.
        read_span: returns a reader of the same of frames that were decoded already.
        clip_builder: makes clips of what is read.
        enhance: enhancement of frames (the first one, where testing averages several).
        about: plain values that identify it.
        measure: tells length and light of frames that the reader decodes, or of joints, how their
            person was seen.
    """

    reader: VideoReader
    read_span: Callable[[FrameSpan], VideoReader]
    clip_builder: ClipBuilder
    enhance: Enhance
    about: dict[str, Any]
    measure: Callable[[Decoded], Footage | Sighting] | None = None


def build_picture_input(cfg: CfgNode, pair: tuple[int, int], dark: bool) -> ModelInput:
    """Build the input of a model of pictures.

    Args:
        cfg: the configuration of its training.
        pair: temporal views and spatial crops.
        dark: enhance the videos as dark ones.
    """
    denoise = denoise_window_of(cfg, "TEST", dark)
    enhancements = build_phase_enhancements(cfg, "TEST", dark)

    def read_span(span: FrameSpan) -> VideoReader:
        reader: VideoReader = MemoryReader(span.frames)
        return DenoisedReader(reader, denoise) if denoise > 1 else reader

    return ModelInput(
        reader=build_video_reader(cfg, denoise),
        read_span=read_span,
        clip_builder=build_test_clips(cfg, enhancements, [pair]),
        enhance=enhancements[0],
        about={
            "crop_size": cfg.DATA.TEST_CROP_SIZE,
            "color": cfg.DATA.COLOR,
            "enhancement": enhancement_name_of(cfg, "TEST", dark),
            "gammas": gammas_of(cfg, "TEST", dark),
            "denoise_frames": denoise,
        },
        measure=measure_footage,
    )
