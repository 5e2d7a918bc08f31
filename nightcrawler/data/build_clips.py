"""From configuration to the choice of frames, the transforms and the mixing of clips."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence

import numpy as np
import torch
from fvcore.common.config import CfgNode
from torch import Tensor

from nightcrawler.data import frame_sampling
from nightcrawler.data.augment.mixup import MixUp
from nightcrawler.data.augment.pipeline import TrainTransform
from nightcrawler.data.build_cameras import build_recorder
from nightcrawler.data.build_video import limits_of
from nightcrawler.data.dataset import MultiViewClips, TrainClips
from nightcrawler.data.lowlight.camera import CameraRanges, darken, sample_camera
from nightcrawler.data.lowlight.enhance.build import Enhance, build_phase_enhancement
from nightcrawler.data.transforms import concatenate_clips, eval_crops
from nightcrawler.data.video.integrity.limits import check_clips
from nightcrawler.pose.layouts import BODY_JOINTS
from nightcrawler.utils import distributed
from nightcrawler.utils.errors import ConfigError
from nightcrawler.utils.logging import get_logger

logger = get_logger(__name__)

# Frames uint8 `[T, H, W, 3]` and a generator to darkened frames of that shape.
Darken = Callable[[np.ndarray, np.random.Generator], np.ndarray]


def clip_shape_of(cfg: CfgNode) -> tuple[int, ...]:
    """Return the shape of a training clip: `(3, T, H, W)`, or `(3, T, V)` of skeletons."""
    if cfg.DATA.INPUT == "pose":
        return 3, cfg.DATA.NUM_FRAMES, len(BODY_JOINTS)
    return 3, cfg.DATA.NUM_FRAMES, cfg.DATA.TRAIN_CROP_SIZE, cfg.DATA.TRAIN_CROP_SIZE


def build_mixup(cfg: CfgNode) -> MixUp:
    """Build mixing and label smoothing of `MIXUP`.

    Where mixing is off, labels are smoothed only.
    """
    mixup = cfg.MIXUP
    mixup_alpha = 0.0
    cutmix_alpha = 0.0
    if mixup.ENABLE:
        mixup_alpha = mixup.ALPHA
        cutmix_alpha = mixup.CUTMIX_ALPHA
    return MixUp(
        mixup_alpha=mixup_alpha,
        cutmix_alpha=cutmix_alpha,
        prob=mixup.PROB,
        switch_prob=mixup.SWITCH_PROB,
        label_smoothing=mixup.LABEL_SMOOTH_VALUE,
        num_classes=cfg.MODEL.NUM_CLASSES,
    )


def build_frame_sampler(cfg: CfgNode) -> Callable[[int, np.random.Generator], np.ndarray]:
    """Build the choice of frames in training.

    Returns:
        A function of (number of frames, rng) to frame numbers int64 `[T]`.
    """
    data = cfg.DATA
    if data.SAMPLING == "segment":
        return functools.partial(frame_sampling.random_segment_indices, num_frames=data.NUM_FRAMES)
    return functools.partial(
        frame_sampling.random_dense_indices,
        num_frames=data.NUM_FRAMES,
        sampling_rate=data.SAMPLING_RATE,
    )


def build_view_sampler(cfg: CfgNode) -> Callable[[int, int, int], np.ndarray]:
    """Build the choice of frames in testing.

    Returns:
        A function of (number of frames, view, number of views) to frame numbers int64 `[T]`.
    """
    data = cfg.DATA
    if data.SAMPLING == "segment":
        return functools.partial(
            _segment_view, num_frames=data.NUM_FRAMES, published=cfg.TEST.VIEWS == "published"
        )
    return functools.partial(
        _dense_view, num_frames=data.NUM_FRAMES, sampling_rate=data.SAMPLING_RATE
    )


def _segment_view(
    num_total: int, view: int, num_views: int, *, num_frames: int, published: bool
) -> np.ndarray:
    return frame_sampling.segment_indices(
        num_total, num_frames, view=view, num_views=num_views, published=published
    )


def _dense_view(
    num_total: int, view: int, num_views: int, *, num_frames: int, sampling_rate: int
) -> np.ndarray:
    return frame_sampling.dense_indices(
        num_total, num_frames, sampling_rate, view=view, num_views=num_views
    )


def build_test_clips(
    cfg: CfgNode, enhances: Sequence[Enhance], pairs: Sequence[tuple[int, int]]
) -> MultiViewClips:
    """Build the clips of testing.

    Args:
        cfg: the configuration.
        enhances: enhancements. Every clip is made once with each.
        pairs: (views, crops) pairs.

    Raises:
        UserError: if the clips of one video take more memory than is allowed.
    """
    most_crops: dict[int, int] = {}
    for num_views, num_crops in pairs:
        most_crops[num_views] = max(num_crops, most_crops.get(num_views, 0))
    num_clips = sum(views * crops for views, crops in most_crops.items()) * len(enhances)
    check_clips(num_clips, cfg.DATA.NUM_FRAMES, cfg.DATA.TEST_CROP_SIZE, limits_of(cfg))
    make_crops = functools.partial(
        _enhanced_crops,
        enhances=enhances,
        size=cfg.DATA.TEST_CROP_SIZE,
        mean=cfg.DATA.MEAN,
        std=cfg.DATA.STD,
        resize=cfg.DATA.TEST_RESIZE,
    )
    return MultiViewClips(build_view_sampler(cfg), make_crops, pairs)


def _enhanced_crops(
    frames: np.ndarray,
    num_crops: int,
    *,
    enhances: Sequence[Enhance],
    size: int,
    mean: Sequence[float],
    std: Sequence[float],
    resize: Sequence[int],
) -> Tensor:
    """Make all crops of a view with every enhancement, float32 `[L * C, 3, T, size, size]`."""
    blocks = []
    for enhance in enhances:
        crops = eval_crops(
            frames,
            size=size,
            num_crops=num_crops,
            enhance=enhance,
            mean=mean,
            std=std,
            resize=resize,
        )
        blocks.append(crops)
    return concatenate_clips(blocks)


def build_train_clips(
    cfg: CfgNode, enhance: Enhance, num_copies: int, darken_prob: float = 0.0
) -> TrainClips:
    """Build the augmented clips of `AUG`.

    Args:
        cfg: the configuration.
        enhance: enhancement of the stream's frames.
        num_copies: number of copies of each video.
        darken_prob: probability that a copy is darkened by the cameras of `DATA.CAMERA`.

    Raises:
        ConfigError: if there is no policy of the name of `AUG.AA_TYPE`.
        UserError: if the copies of one video take more memory than is allowed.
    """
    check_clips(num_copies, cfg.DATA.NUM_FRAMES, cfg.DATA.TRAIN_CROP_SIZE, limits_of(cfg))
    transform = _build_transform(cfg, darken_prob)
    defer = cfg.AUG.DEVICE == "gpu"
    if defer and not torch.cuda.is_available() and distributed.is_main():
        logger.warning(
            "AUG.DEVICE is gpu and there is none: the training process augments clips on the CPU, "
            "one by one"
        )
    return TrainClips(build_frame_sampler(cfg), enhance, transform, num_copies, defer)


def _build_transform(cfg: CfgNode, darken_prob: float) -> TrainTransform:
    aug = cfg.AUG
    # Outside the `try`: its errors have keys of their own.
    darken_clip = None
    if darken_prob > 0:
        darken_clip = _build_darken(cfg)
    try:
        return TrainTransform(
            size=cfg.DATA.TRAIN_CROP_SIZE,
            scale=tuple(aug.SCALE),
            aspect=tuple(aug.ASPECT),
            rand_augment=aug.AA_TYPE,
            interpolation=aug.INTERPOLATION,
            flip_prob=aug.FLIP_PROB,
            erase_prob=aug.RE_PROB,
            erase_mode=aug.RE_MODE,
            erase_count=aug.RE_COUNT,
            mean=cfg.DATA.MEAN,
            std=cfg.DATA.STD,
            darken=darken_clip,
            darken_prob=darken_prob,
        )
    except ConfigError as error:
        raise ConfigError(f"AUG.AA_TYPE: {error}") from None


def _build_darken(cfg: CfgNode) -> Darken:
    """Build the darkening of bright training clips, which are then enhanced as dark ones."""
    enhance = build_phase_enhancement(cfg, "TRAIN", True)
    return functools.partial(
        _darken_and_enhance, cameras=build_recorder(cfg).cameras, enhance=enhance
    )


def _darken_and_enhance(
    frames: np.ndarray, rng: np.random.Generator, *, cameras: CameraRanges, enhance: Enhance
) -> np.ndarray:
    return enhance(darken(frames, sample_camera(rng, cameras), rng))
