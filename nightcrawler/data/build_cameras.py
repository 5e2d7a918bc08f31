"""From configuration to the cameras and the compression that darken bright clips."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import av
import numpy as np
from fvcore.common.config import CfgNode

from nightcrawler.data.build_items import build_items
from nightcrawler.data.build_video import (
    build_cache,
    build_checksum_reader,
    build_file_reader,
    build_video_reader,
    cache_folder_of,
    cache_settings_of,
    limits_of,
)
from nightcrawler.data.cache import CachedReader
from nightcrawler.data.fingerprint import content_of
from nightcrawler.data.lists import VideoItem
from nightcrawler.data.lowlight.camera import PRESETS, CameraRanges
from nightcrawler.data.lowlight.camera_file import read_camera_ranges
from nightcrawler.data.lowlight.clip_statistics import ClipStatistics, measure_clip
from nightcrawler.data.lowlight.compression import (
    Compression,
    RecordingFormat,
    recording_format,
)
from nightcrawler.data.lowlight.enhance.denoise import DenoisedReader
from nightcrawler.data.lowlight.fit_camera import (
    TOLERANCE,
    CameraFit,
    fit_cameras,
)
from nightcrawler.data.lowlight.recorder import (
    SEED,
    DarkenedReader,
    RecordedReader,
    Recorder,
)
from nightcrawler.data.splits import get_split
from nightcrawler.data.video.decode import VideoReader, read_frames
from nightcrawler.data.video.integrity.limits import Limits
from nightcrawler.data.video.remote import reader_path
from nightcrawler.utils import distributed
from nightcrawler.utils.errors import UserError, VideoError, unexpected_as_video_error
from nightcrawler.utils.io import atomic_write, open_own
from nightcrawler.utils.locks import take_record_lock
from nightcrawler.utils.logging import get_logger
from nightcrawler.utils.versions import NUMERICS

logger = get_logger(__name__)

# Dark clips that are measured, and frames of each: as many as have so many pixels. Clips differ
# more than their frames do.
MOST_CLIPS = 256
CLIP_PIXELS = 4_000_000
LEAST_FRAMES = 4
MOST_FRAMES = 8
# Bright clips that recordings are simulated from, in the same way.
MOST_PIXELS = 10_000_000
LEAST_BRIGHT = 16
MOST_BRIGHT = 96
# Clips that are simulated at a time, each in some hundreds of MiB.
MOST_THREADS = 4

# Fits by the content of the clips: a process fits once.
_fits: dict[str, CameraFit] = {}


def build_recorder(cfg: CfgNode) -> Recorder:
    """Build the cameras of `DATA.CAMERA`, and their compression.

    Cameras are a preset, those of a file, or fitted to clips of `ADAPT.SPLIT`. Only those that are
    fitted have a compression, which is fitted, too. No label is used.

    Raises:
        UserError: if no clip can be measured, or there is no such file.
        ConfigError: if the file does not hold camera ranges.
    """
    name = cfg.DATA.CAMERA
    if name in PRESETS:
        return Recorder(PRESETS[name])
    if name != "fit":
        return Recorder(read_camera_ranges(Path(cfg.DATA.PATH_PREFIX) / name))
    return build_camera_fit(cfg).recorder


def build_camera_fit(cfg: CfgNode) -> CameraFit:
    """Build the fit of cameras and compression to clips of `ADAPT.SPLIT`.

    It takes one to three minutes and is a function of the content of the clips, so it is kept: by
    the process, and in the folder of the cache for others. The first rank computes it for all.

    Raises:
        UserError: if no dark clip can be measured, or no bright one can be read.
    """
    dark = _choose_clips(build_items(cfg, cfg.ADAPT.SPLIT))
    bright = _choose_clips(build_items(cfg, cfg.DATA.TRAIN_SPLIT))
    key = _fit_key_of(cfg, dark, bright)
    # All ranks ask for the first time together. Later one of them may ask alone, as for `run.json`.
    if key in _fits:
        return _fits[key]
    found: CameraFit | str = ""
    if distributed.is_main():
        try:
            found = _build_kept_fit(cfg, key, dark, bright)
        except UserError as error:
            # All ranks end, and not by waiting for this one.
            found = str(error)
    fit = distributed.gather_objects(found)[0]
    if isinstance(fit, str):
        raise UserError(fit)
    _fits[key] = fit
    return fit


def _choose_clips(items: Sequence[VideoItem]) -> list[str]:
    """Return the paths of some of the videos, the same in every run."""
    order = np.random.default_rng(SEED).permutation(len(items))[:MOST_CLIPS]
    return [str(items[index].path) for index in order.tolist()]


def _build_kept_fit(
    cfg: CfgNode, key: str, dark: Sequence[str], bright: Sequence[str]
) -> CameraFit:
    """Return the fit that the folder of the cache holds under a key, or compute and keep it."""
    folder = cache_folder_of(cfg)
    path = folder / f"camera-{key[:32]}.json"
    with _fit_lock(folder):
        fit = _read_fit(path)
        if fit is None:
            fit = _build_fit(cfg, dark, bright)
            # A folder that cannot be written to: the next process computes it again.
            with contextlib.suppress(OSError, UserError), atomic_write(path, "w") as file:
                json.dump(asdict(fit), file, indent=1)
    _report_fit(cfg.ADAPT.SPLIT, fit)
    return fit


def _fit_key_of(cfg: CfgNode, dark: Sequence[str], bright: Sequence[str]) -> str:
    """Return the hash of everything that a fit depends on."""
    parts: list[object] = [NUMERICS, av.__version__, cfg.DATA.DECODER, cfg.DATA.COLOR]
    for paths in (dark, bright):
        # The loaders that need a missing video report it.
        parts.append([content_of(Path(path)) for path in paths])
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


@contextlib.contextmanager
def _fit_lock(folder: Path) -> Iterator[None]:
    """Keep other processes from the same work, where the folder can be written to and locked."""
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError, UserError):
            folder.mkdir(parents=True, exist_ok=True)
            file = stack.enter_context(open_own(folder / ".camera.lock"))
            take_record_lock(file, wait=True)
        yield


def _read_fit(path: Path) -> CameraFit | None:
    """Return a kept fit, or `None` where there is none, or it is damaged."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        recorder = values["recorder"]
        cameras = recorder["cameras"]
        return CameraFit(
            recorder=Recorder(
                cameras=CameraRanges(
                    mean=_pair(cameras["mean"]),
                    electrons=_pair(cameras["electrons"]),
                    read_noise=_pair(cameras["read_noise"]),
                    cast=float(cameras["cast"]),
                    smoothing=float(cameras["smoothing"]),
                ),
                compression=Compression(**recorder["compression"]),
                short_side=int(recorder["short_side"]),
            ),
            measured=dict(values["measured"]),
            simulated=dict(values["simulated"]),
            limits=list(values["limits"]),
        )
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None


def _pair(values: Sequence[float]) -> tuple[float, float]:
    low, high = values
    return float(low), float(high)


def _build_fit(cfg: CfgNode, dark: Sequence[str], bright: Sequence[str]) -> CameraFit:
    limits = limits_of(cfg)
    formats = _read_formats(dark, limits)
    logger.info("fitting the camera and the codec of %s: one to three minutes", cfg.ADAPT.SPLIT)
    num_pixels = float(np.median([form.width * form.height for form in formats.values()] or [1]))
    num_frames = int(np.clip(CLIP_PIXELS // num_pixels, LEAST_FRAMES, MOST_FRAMES))
    reader = build_file_reader(cfg, 0)
    measured = []
    for path in formats:
        clip = _measure_file(path, num_frames, reader, limits)
        if clip is not None:
            measured.append(clip)
    if not measured:
        raise UserError(
            f"no clip of '{cfg.ADAPT.SPLIT}' that a camera can be fitted to could be read: "
            f"mend the list, or set DATA.CAMERA to {' or '.join(PRESETS)}"
        )
    short_side = int(np.median([min(form.width, form.height) for form in formats.values()]))
    num_bright = int(np.clip(MOST_PIXELS // (num_frames * num_pixels), LEAST_BRIGHT, MOST_BRIGHT))
    clips = _read_bright(bright, num_frames, build_file_reader(cfg, short_side), num_bright)
    if not clips:
        raise UserError(
            f"no clip of '{cfg.DATA.TRAIN_SPLIT}' could be read, and a camera is fitted with "
            f"bright clips: mend the list, or set DATA.CAMERA to {' or '.join(PRESETS)}"
        )
    threads = min(MOST_THREADS, os.cpu_count() or 1)
    compression = _compression_of(list(formats.values()))
    return fit_cameras(measured, clips, compression, short_side, threads)


def _read_formats(paths: Sequence[str], limits: Limits) -> dict[str, RecordingFormat]:
    """Return the format of each video that can be read."""
    formats = {}
    for path in paths:
        # The loaders that need a damaged video report it.
        with contextlib.suppress(VideoError):
            formats[path] = recording_format(path, limits=limits)
    return formats


def _compression_of(formats: Sequence[RecordingFormat]) -> Compression:
    """Return the encoder's settings of most of the recordings, but for the rate factor."""
    codecs = sorted({form.codec for form in formats})
    if codecs != ["h264"]:
        text = "dark clips are %s: their camera is simulated with H.264 at their bits per pixel"
        logger.info(text, ", ".join(codecs))
    compression = Compression(crf=0.0)
    keyints = [form.keyint for form in formats if form.keyint]
    if 2 * len(keyints) > len(formats):
        compression = replace(compression, keyint=int(np.median(keyints)))
    if 2 * sum(form.b_frames for form in formats) < len(formats):
        compression = replace(compression, b_frames=0)
    return compression


def _measure_file(
    path: str, num_frames: int, reader: VideoReader, limits: Limits
) -> ClipStatistics | None:
    try:
        with unexpected_as_video_error(path, "load"):
            decoded = read_frames(reader, path, functools.partial(_first_frames, most=num_frames))
            form = recording_format(path, num_frames, limits)
            return measure_clip(decoded.frames, form.bits_per_pixel)
    except VideoError:
        return None


def _first_frames(num_frames: int, most: int) -> list[int]:
    return list(range(min(num_frames, most)))


def _read_bright(
    paths: Sequence[str], num_frames: int, reader: VideoReader, most: int
) -> list[np.ndarray]:
    """Return the first frames of some of the videos that can be read."""
    clips: list[np.ndarray] = []
    for path in paths:
        if len(clips) == most:
            break
        with contextlib.suppress(VideoError):
            choose = functools.partial(_first_frames, most=num_frames)
            clips.append(read_frames(reader, path, choose).frames)
    return clips


def _report_fit(split: str, fit: CameraFit) -> None:
    """Log a fit, what it is worth, and what it could not reach."""
    logger.info("camera fitted to clips of %s: %s", split, fit.recorder)
    for name, measured in fit.measured.items():
        text = "camera: %s: measured %s, simulated %s (quantiles 0.2, 0.5, 0.8)"
        logger.info(text, name.replace("_", " "), measured, fit.simulated[name])
    for name in fit.limits:
        logger.warning("camera: the %s stopped at the limit of what is searched", name)
    for name, error in fit.errors().items():
        if abs(error) > TOLERANCE:
            logger.warning(
                "camera: the simulated %s is %+.0f %% off the measured one: val_dark is another "
                "night than that of %s",
                name.replace("_", " "),
                100 * error,
                split,
            )


def build_darkened_reader(cfg: CfgNode, items: Sequence[VideoItem], window: int) -> VideoReader:
    """Build the reader of a darkened split.

    Bright videos are read as the cameras of `DATA.CAMERA` would have recorded them.

    Args:
        cfg: the configuration.
        items: the videos.
        window: number of darkened frames that each frame is averaged over (1 for none).
    """
    names = {reader_path(str(item.path)): item.name for item in items}
    recorder = build_recorder(cfg)
    reader: VideoReader
    if recorder.compression is None:
        reader = DarkenedReader(build_video_reader(cfg), recorder.cameras, names)
    else:
        reader = _build_recorded_reader(cfg, recorder, recorder.compression, names)
    if window > 1:
        # A camera records noise, so denoising comes after it.
        reader = DenoisedReader(reader, window)
    return reader


def _build_recorded_reader(
    cfg: CfgNode, recorder: Recorder, compression: Compression, names: Mapping[str, str]
) -> VideoReader:
    """Build the reader of darkened and compressed videos, which the cache keeps as such."""
    reader: VideoReader = RecordedReader(
        build_file_reader(cfg, recorder.short_side),
        recorder.cameras,
        compression,
        names,
        cfg.DATA.DECODE_SHORT_SIDE,
        cfg.DATA.COLOR,
    )
    if cfg.DATA.CACHE != "none":
        settings = {**cache_settings_of(cfg), "recorder": asdict(recorder), "numerics": NUMERICS}
        reader = CachedReader(reader, build_cache(cfg), settings, names)
    return build_checksum_reader(cfg, reader)


def camera_metadata_of(cfg: CfgNode, splits: Sequence[str]) -> dict[str, Any]:
    """Return the origin, the ranges and the fit of the cameras for the metadata of results.

    Args:
        cfg: the configuration.
        splits: names of the splits that are used.

    Returns:
        The key `camera` where one of the splits is darkened, else an empty dictionary.
    """
    darkened = any(get_split(split, cfg.DATA.PATH_PREFIX).darkened for split in splits)
    if not darkened:
        return {}
    recorder = build_recorder(cfg)
    found: dict[str, Any] = {"from": cfg.DATA.CAMERA, **asdict(recorder.cameras)}
    if recorder.compression is not None:
        fit = build_camera_fit(cfg)
        found["compression"] = asdict(recorder.compression)
        found["short_side"] = recorder.short_side
        found["measured"] = fit.measured
        found["simulated"] = fit.simulated
        found["limits"] = fit.limits
    return {"camera": found}
