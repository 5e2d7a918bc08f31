"""From configuration to readers of videos."""

from __future__ import annotations

from pathlib import Path

from fvcore.common.config import CfgNode

from nightcrawler.data.cache import Cache, CachedReader, DiskCache, shared_ram_cache
from nightcrawler.data.lowlight.enhance.denoise import DenoisedReader
from nightcrawler.data.video.decode import FileReader, VideoReader
from nightcrawler.data.video.integrity.checksums import ChecksumReader, read_checksums
from nightcrawler.data.video.integrity.limits import Limits
from nightcrawler.data.video.torchcodec import TorchcodecReader, import_decoder
from nightcrawler.utils.errors import ConfigError, UserError


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
    reader = build_file_reader(cfg, cfg.DATA.DECODE_SHORT_SIDE)
    if window > 1:
        reader = DenoisedReader(reader, window)
    if cfg.DATA.CACHE != "none":
        settings = {**cache_settings_of(cfg), "denoise": window}
        reader = CachedReader(reader, build_cache(cfg), settings)
    return build_checksum_reader(cfg, reader)


def cache_settings_of(cfg: CfgNode) -> dict[str, object]:
    """Return the settings that change decoded frames, for the keys of a cache.

    Everything that does is part of a key, as runs of other settings share a folder.
    """
    return {
        "decoder": cfg.DATA.DECODER,
        "short_side": cfg.DATA.DECODE_SHORT_SIDE,
        "color": cfg.DATA.COLOR,
    }


def build_checksum_reader(cfg: CfgNode, reader: VideoReader) -> VideoReader:
    """Wrap a reader so that checksums of `DATA.CHECKSUMS` are compared, if there are any.

    Outermost, so that a cached video is compared as well.
    """
    if not cfg.DATA.CHECKSUMS:
        return reader
    folder = Path(cfg.DATA.PATH_PREFIX)
    sums = read_checksums(folder / cfg.DATA.CHECKSUMS, folder)
    return ChecksumReader(reader, sums, limits_of(cfg))


def build_file_reader(cfg: CfgNode, short_side: int) -> VideoReader:
    """Build the reader of `DATA.DECODER`.

    Args:
        cfg: the configuration.
        short_side: scale frames down to this short side in pixels (0 keeps their size).

    Raises:
        ConfigError: if the decoder is not installed.
    """
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
    try:
        return DiskCache(cache_folder_of(cfg), max_bytes, limit_name="DATA.CACHE_GIB")
    except UserError as error:
        raise UserError(f"DATA.CACHE_DIR: {error}") from None


def cache_folder_of(cfg: CfgNode) -> Path:
    """Return the folder of the cache on disk."""
    return Path(cfg.DATA.CACHE_DIR or Path(cfg.DATA.PATH_PREFIX) / "cache")
