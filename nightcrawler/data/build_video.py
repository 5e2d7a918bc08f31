"""From configuration to readers of videos, and to the cameras that darken bright ones."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from fvcore.common.config import CfgNode

from nightcrawler.data.build_items import build_items
from nightcrawler.data.cache import Cache, CachedReader, DiskCache, shared_ram_cache
from nightcrawler.data.lists import VideoItem
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
from nightcrawler.data.video.integrity.limits import Limits
from nightcrawler.data.video.torchcodec import TorchcodecReader, import_decoder
from nightcrawler.utils import distributed
from nightcrawler.utils.errors import ConfigError, UserError, VideoError
from nightcrawler.utils.logging import get_logger

logger = get_logger(__name__)

# Clips that camera ranges are fitted to, and pairs of frames that are measured in each.
MOST_CLIPS = 64
NUM_PAIRS = 3

# Fitted ranges by the clips and settings they were fitted to: a process fits once.
_fitted: dict[tuple[Any, ...], CameraRanges] = {}


def limits_of(cfg: CfgNode) -> Limits:
    """Return the largest video that is accepted."""
    return Limits(pixels=cfg.DATA.MAX_PIXELS)


def build_video_reader(cfg: CfgNode, window: int = 1) -> VideoReader:
    """Build the reader of `DATA`: decode, denoise, cache, compare checksums.

    Args:
        cfg: the configuration.
        window: number of frames that each frame is averaged over (1 for none).

    Raises:
        ConfigError: if the decoder of `DATA.DECODER` is not installed.
        UserError: if the cache cannot be written, or the list of checksums cannot be read.
    """
    short_side = cfg.DATA.DECODE_SHORT_SIDE
    reader = _build_file_reader(cfg)
    if window > 1:
        reader = DenoisedReader(reader, window)
    if cfg.DATA.CACHE != "none":
        # Everything that changes frames is part of the key: runs of other settings share a folder.
        settings = {
            "decoder": cfg.DATA.DECODER,
            "short_side": short_side,
            "denoise": window,
            "color": cfg.DATA.COLOR,
        }
        reader = CachedReader(reader, build_cache(cfg), settings)
    if cfg.DATA.CHECKSUMS:
        # Outermost, so that a cached video is compared as well.
        folder = Path(cfg.DATA.PATH_PREFIX)
        sums = read_checksums(folder / cfg.DATA.CHECKSUMS, folder)
        reader = ChecksumReader(reader, sums, limits_of(cfg))
    return reader


def _build_file_reader(cfg: CfgNode) -> VideoReader:
    short_side = cfg.DATA.DECODE_SHORT_SIDE
    if cfg.DATA.DECODER != "torchcodec":
        return FileReader(short_side, limits_of(cfg), cfg.DATA.COLOR)
    try:
        # Here, so that a run does not end in the middle of its first batch.
        import_decoder()
    except UserError as error:
        raise ConfigError(f"DATA.DECODER {error}, or set DATA.DECODER pyav") from None
    return TorchcodecReader(short_side, limits_of(cfg))


def build_cache(cfg: CfgNode) -> Cache:
    """Build the cache of `DATA.CACHE`, ram or disk.

    Raises:
        UserError: if the folder of `DATA.CACHE_DIR` cannot be written to.
    """
    max_bytes = int(cfg.DATA.CACHE_GIB * 2**30)
    if cfg.DATA.CACHE == "ram":
        return shared_ram_cache(max_bytes)
    folder = cfg.DATA.CACHE_DIR or Path(cfg.DATA.PATH_PREFIX) / "cache"
    try:
        return DiskCache(folder, max_bytes, limit_name="DATA.CACHE_GIB")
    except UserError as error:
        raise UserError(f"DATA.CACHE_DIR: {error}") from None


def build_darkened_reader(cfg: CfgNode, items: Sequence[VideoItem], window: int) -> VideoReader:
    """Build the reader of a darkened split.

    Bright videos are read as the cameras of `DATA.CAMERA` would have recorded them.

    Args:
        cfg: the configuration.
        items: the videos.
        window: number of darkened frames that each frame is averaged over (1 for none).
    """
    names = {str(item.path): item.name for item in items}
    reader: VideoReader = DarkenedReader(build_video_reader(cfg), build_cameras(cfg), names)
    if window > 1:
        # A camera records noise, so denoising comes after it.
        reader = DenoisedReader(reader, window)
    return reader


def build_cameras(cfg: CfgNode) -> CameraRanges:
    """Build the camera ranges of `DATA.CAMERA`.

    They are a preset, those of a file, or fitted to clips of `ADAPT.SPLIT`. A process fits once.
    Each rank measures a share of the clips, and all fit to all of them alike. No label is used.

    Raises:
        UserError: if no clip can be measured, or there is no such file.
        ConfigError: if the file does not hold camera ranges.
    """
    name = cfg.DATA.CAMERA
    if name in PRESETS:
        return PRESETS[name]
    if name != "fit":
        return read_camera_ranges(Path(cfg.DATA.PATH_PREFIX) / name)
    dark = _choose_clips(build_items(cfg, cfg.ADAPT.SPLIT))
    bright = _choose_clips(build_items(cfg, cfg.DATA.TRAIN_SPLIT))
    key = (dark, bright, cfg.DATA.DECODER, cfg.DATA.DECODE_SHORT_SIDE, cfg.DATA.COLOR)
    if key not in _fitted:
        reader = build_video_reader(cfg)
        clips = _measure_clips(dark, reader)
        if not clips:
            raise UserError(
                f"no clip of '{cfg.ADAPT.SPLIT}' that a camera can be fitted to could be read: "
                f"mend the list, or set DATA.CAMERA to {' or '.join(PRESETS)}"
            )
        # Colours of the scenes themselves are no cast of the camera.
        bright_casts = [clip.cast for clip in _measure_clips(bright, reader)]
        _fitted[key] = fit_camera_ranges(clips, cast_std(bright_casts or [(0.0, 0.0, 0.0)]))
        if distributed.is_main():
            text = "cameras fitted to %d clips of %s: %s"
            logger.info(text, len(clips), cfg.ADAPT.SPLIT, _fitted[key])
    return _fitted[key]


def _choose_clips(items: Sequence[VideoItem]) -> tuple[str, ...]:
    """Return the paths of some of the videos, the same in every run."""
    order = np.random.default_rng(SEED).permutation(len(items))[:MOST_CLIPS]
    return tuple(str(items[index].path) for index in order.tolist())


def _measure_clips(paths: Sequence[str], reader: VideoReader) -> list[ClipStatistics]:
    """Measure clips, each on one rank.

    Returns:
        Statistics of the clips that can be measured, in order.
    """
    own: dict[int, ClipStatistics | None] = {}
    for number in range(distributed.rank(), len(paths), distributed.world_size()):
        own[number] = _measure_file(paths[number], reader)
    measured: dict[int, ClipStatistics | None] = {}
    for part in distributed.gather_objects(own):
        measured.update(part)
    return [clip for _, clip in sorted(measured.items()) if clip is not None]


def _measure_file(path: str, reader: VideoReader) -> ClipStatistics | None:
    try:
        choose = functools.partial(choose_pairs, num_pairs=NUM_PAIRS)
        decoded = read_frames(reader, path, choose)
    except VideoError:
        # The loaders that need this video report it.
        return None
    return measure_clip(decoded.frames, decoded.indices)


def camera_metadata_of(cfg: CfgNode, splits: Sequence[str]) -> dict[str, Any]:
    """Return the origin and the ranges of the cameras for the metadata of results.

    Args:
        cfg: the configuration.
        splits: names of the splits that are used.

    Returns:
        The key `camera` where one of the splits is darkened, else an empty dictionary.
    """
    darkened = any(get_split(split, cfg.DATA.PATH_PREFIX).darkened for split in splits)
    if not darkened:
        return {}
    return {"camera": {"from": cfg.DATA.CAMERA, **asdict(build_cameras(cfg))}}
