"""From configuration to videos: which they are, how they are decoded, by which night cameras bright ones are seen."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from fvcore.common.config import CfgNode

from nightcrawler.data.cache import CachedReader, build_cache
from nightcrawler.data.lists import VideoItem, read_list
from nightcrawler.data.lowlight.camera import PRESETS, CameraRanges
from nightcrawler.data.lowlight.enhance.denoise import DenoisedReader
from nightcrawler.data.lowlight.fit_camera import (
    SEED,
    ClipStatistics,
    DarkenedReader,
    cast_std,
    fit_camera_ranges,
    measure_clip,
    read_camera_ranges,
)
from nightcrawler.data.lowlight.noise import choose_pairs
from nightcrawler.data.splits import get_split
from nightcrawler.data.video.decode import FileReader, VideoReader, read_frames
from nightcrawler.data.video.integrity.checksums import ChecksumReader, read_checksums
from nightcrawler.data.video.torchcodec import TorchcodecReader, import_decoder
from nightcrawler.utils import distributed
from nightcrawler.utils.errors import UserError, VideoError
from nightcrawler.utils.logging import get_logger

logger = get_logger(__name__)

# Clips that cameras are fitted to, and pairs of frames of each.
MOST_CLIPS, NUM_PAIRS = 64, 3


def build_items(cfg: CfgNode, split: str) -> list[VideoItem]:
    """The videos of a split, in list order."""
    found = get_split(split, cfg.DATA.PATH_PREFIX)
    return read_list(found.list_file, found.folders, cfg.MODEL.NUM_CLASSES)


def build_video_reader(cfg: CfgNode, window: int = 1) -> VideoReader:
    """Build the reader of `DATA`: decode, denoise, cache, compare checksums.

    Args:
        cfg: the configuration.
        window: number of frames that each frame is averaged over; 1 for none.

    Raises:
        ConfigError: if `DATA.DECODER` is not installed.
        UserError: if the cache cannot be written, or the list of checksums cannot be read.
    """
    short_side = cfg.DATA.DECODE_SHORT_SIDE
    reader: VideoReader = FileReader(short_side)
    if cfg.DATA.DECODER == "torchcodec":
        import_decoder()
        reader = TorchcodecReader(short_side)
    if window > 1:
        reader = DenoisedReader(reader, window)
    if cfg.DATA.CACHE != "none":
        # Everything that changes frames is part of the key: runs of other settings share the folder.
        settings = {"decoder": cfg.DATA.DECODER, "short_side": short_side, "denoise": window}
        reader = CachedReader(reader, build_cache(cfg), settings)
    if cfg.DATA.CHECKSUMS:
        # Outermost, so that a cached video is compared as well.
        folder = Path(cfg.DATA.PATH_PREFIX)
        reader = ChecksumReader(reader, read_checksums(folder / cfg.DATA.CHECKSUMS, folder))
    return reader


def build_darkened_reader(cfg: CfgNode, items: Sequence[VideoItem], window: int) -> VideoReader:
    """Build the reader of a darkened split: bright videos as the cameras of `DATA.CAMERA` would record them.

    Args:
        cfg: the configuration.
        items: the videos.
        window: number of darkened frames that each frame is averaged over; 1 for none.
    """
    names = {str(item.path): item.name for item in items}
    reader: VideoReader = DarkenedReader(build_video_reader(cfg), build_cameras(cfg), names)
    if window > 1:
        reader = DenoisedReader(reader, window)
    return reader


def build_cameras(cfg: CfgNode) -> CameraRanges:
    """The night cameras of `DATA.CAMERA`: a preset, a file's, or fitted to the clips of `ADAPT.SPLIT`.

    A process fits once; all ranks measure a share of the clips and fit to all of them alike. No label is used.

    Raises:
        UserError: if no clip can be measured, or there is no such file.
        ConfigError: if the file is not as `read_camera_ranges` wants it.
    """
    name = cfg.DATA.CAMERA
    if name in PRESETS:
        return PRESETS[name]
    if name != "fit":
        return read_camera_ranges(Path(cfg.DATA.PATH_PREFIX) / name)
    dark, bright = (
        _choose_clips(build_items(cfg, split)) for split in (cfg.ADAPT.SPLIT, cfg.DATA.TRAIN_SPLIT)
    )
    key = (dark, bright, cfg.DATA.DECODER, cfg.DATA.DECODE_SHORT_SIDE)
    if key not in _fitted:
        lights = _measure(dark, build_video_reader(cfg))
        if not lights:
            raise UserError(
                f"no clip of '{cfg.ADAPT.SPLIT}' that a night camera can be fitted to could be read: mend the list, or "
                f"set DATA.CAMERA to {' or '.join(PRESETS)}"
            )
        scene_cast = cast_std(
            [light.cast for light in _measure(bright, build_video_reader(cfg))] or [(0.0, 0.0, 0.0)]
        )
        _fitted[key] = fit_camera_ranges(lights, scene_cast)
        if distributed.is_main():
            logger.info(
                "night cameras fitted to %d clips of %s: %s",
                len(lights),
                cfg.ADAPT.SPLIT,
                _fitted[key],
            )
    return _fitted[key]


_fitted: dict[tuple[Any, ...], CameraRanges] = {}


def _choose_clips(items: Sequence[VideoItem]) -> tuple[str, ...]:
    """Paths of some of the videos, the same in every run."""
    order = np.random.default_rng(SEED).permutation(len(items))[:MOST_CLIPS]
    return tuple(str(items[index].path) for index in order.tolist())


def _measure(paths: Sequence[str], reader: VideoReader) -> list[ClipStatistics]:
    """The light of the clips that can be read, in their order, each measured by one rank."""
    rank, world = distributed.rank(), distributed.world_size()
    found = distributed.gather_objects(
        {n: _light(paths[n], reader) for n in range(rank, len(paths), world)}
    )
    lights = {number: light for part in found for number, light in part.items()}
    return [light for _, light in sorted(lights.items()) if light is not None]


def _light(path: str, reader: VideoReader) -> ClipStatistics | None:
    try:
        decoded = read_frames(reader, path, functools.partial(choose_pairs, num_pairs=NUM_PAIRS))
    except VideoError:  # the loaders that need it say so
        return None
    return measure_clip(decoded.frames, decoded.indices)


def build_camera_meta(cfg: CfgNode, splits: Sequence[str]) -> dict[str, Any]:
    """`camera`: where the night cameras are from, and their ranges; nothing where none of the splits is darkened."""
    darkened = any(get_split(split, cfg.DATA.PATH_PREFIX).darkened for split in splits)
    return {"camera": {"from": cfg.DATA.CAMERA, **asdict(build_cameras(cfg))}} if darkened else {}
