"""From configuration to loaders."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from fvcore.common.config import CfgNode
from torch import Tensor
from torch.utils.data import DataLoader

from nightcrawler.data import frame_sampling
from nightcrawler.data.augment.mixup import MixUp
from nightcrawler.data.augment.pipeline import TrainTransform
from nightcrawler.data.batch_sampler import ChunkSampler, MicroBatchSampler
from nightcrawler.data.build_video import (
    build_cameras,
    build_darkened_reader,
    build_items,
    build_video_reader,
)
from nightcrawler.data.dataset import (
    ClipBuilder,
    ClipDataset,
    MultiViewClips,
    TrainClips,
    TrainCollate,
    keep_samples,
)
from nightcrawler.data.lists import VideoItem, read_pseudo
from nightcrawler.data.lowlight.camera import CameraRanges, darken, sample_camera
from nightcrawler.data.lowlight.enhance.build import (
    Enhance,
    build_phase_enhancement,
    build_phase_enhancements,
    denoise_window_of,
    warn_of_mismatch,
)
from nightcrawler.data.splits import Split, get_split
from nightcrawler.data.transforms import eval_crops, join_clips
from nightcrawler.utils import distributed
from nightcrawler.utils.errors import ConfigError, UserError
from nightcrawler.utils.logging import get_logger

logger = get_logger(__name__)


@dataclass
class TrainStream:
    """One source of training batches.

    Attributes:
        name: `labelled` or `pseudo`.
        items: its videos.
        sampler, loader: micro-batches of an epoch (see `TrainCollate`).
    """

    name: str
    items: list[VideoItem]
    sampler: MicroBatchSampler
    loader: DataLoader[Any]


@dataclass
class EvalSet:
    """A split ready for evaluation: its videos in list order, and this rank's loader over them."""

    split: Split
    items: list[VideoItem]
    loader: DataLoader[Any]
    pairs: list[tuple[int, int]]


def _name_of(item: VideoItem) -> str:
    return item.name


def _file_of(item: VideoItem) -> str:
    return os.path.realpath(item.path)


def build_train_items(cfg: CfgNode) -> list[VideoItem]:
    """The labelled stream's videos, without those of the split that picks the checkpoint (DATA.EXCLUDE_VAL).

    Raises:
        UserError: if a row has no label, or nothing is left.
    """
    items = build_items(cfg, cfg.DATA.TRAIN_SPLIT)
    unlabelled = [item for item in items if item.label < 0]
    if unlabelled:
        raise UserError(
            f"split '{cfg.DATA.TRAIN_SPLIT}' is to be trained on, but row {unlabelled[0].row} "
            f"('{unlabelled[0].name}') has label {unlabelled[0].label}: expected 0..{cfg.MODEL.NUM_CLASSES - 1}"
        )
    if cfg.DATA.EXCLUDE_VAL and cfg.TRAIN.BEST_SPLIT != cfg.DATA.TRAIN_SPLIT:
        train, best = (
            get_split(name, cfg.DATA.PATH_PREFIX)
            for name in (cfg.DATA.TRAIN_SPLIT, cfg.TRAIN.BEST_SPLIT)
        )
        # Names are of the same videos where folders are shared (a copy in another of them is left out, too).
        by = _name_of if {*train.folders} & {*best.folders} else _file_of
        validated = set(map(by, build_items(cfg, cfg.TRAIN.BEST_SPLIT)))
        kept = [item for item in items if by(item) not in validated]
        if len(kept) < len(items):
            logger.info("left %d validation videos out of training", len(items) - len(kept))
        items = kept
    if not items:
        raise UserError(
            f"split '{cfg.DATA.TRAIN_SPLIT}' has no video left to train on; see DATA.EXCLUDE_VAL"
        )
    return items


def build_pseudo_items(cfg: CfgNode) -> list[VideoItem]:
    """The pseudo-labelled stream's videos, those of low confidence left out (TRAIN.THRESHOLD)."""
    split = get_split(cfg.ADAPT.SPLIT, cfg.DATA.PATH_PREFIX)
    path = Path(cfg.DATA.PATH_PREFIX) / cfg.DATA.PSEUDO_CSV
    items = read_pseudo(path, split.folders, cfg.MODEL.NUM_CLASSES)
    if cfg.TRAIN.THRESHOLD == -1:
        return items
    confidences = np.array([max(item.probs or (1.0,)) for item in items])
    least = confidence_threshold(confidences, cfg.TRAIN.THRESHOLD)
    kept = [
        item for item, confidence in zip(items, confidences, strict=True) if confidence >= least
    ]
    logger.info(
        "%s: %d of %d rows have confidence %.4f or more", path, len(kept), len(items), least
    )
    if not kept:
        raise UserError(
            f"{path}: TRAIN.THRESHOLD {cfg.TRAIN.THRESHOLD} leaves no row (least confidence {least:.4f})"
        )
    return kept


def confidence_threshold(confidences: np.ndarray, num_std: float) -> float:
    """Mean minus `num_std` standard deviations (of the sample) of confidences `[N]`; -1 where `num_std` is -1."""
    if num_std == -1 or len(confidences) < 2:
        return -1.0
    return float(confidences.mean() - num_std * confidences.std(ddof=1))


def build_mixup(cfg: CfgNode) -> MixUp:
    """Mixing and label smoothing of `MIXUP`; only smoothing where mixing is off."""
    mixup = cfg.MIXUP
    return MixUp(
        mixup_alpha=mixup.ALPHA if mixup.ENABLE else 0.0,
        cutmix_alpha=mixup.CUTMIX_ALPHA if mixup.ENABLE else 0.0,
        prob=mixup.PROB,
        switch_prob=mixup.SWITCH_PROB,
        label_smoothing=mixup.LABEL_SMOOTH_VALUE,
        num_classes=cfg.MODEL.NUM_CLASSES,
    )


def build_micro_batch(cfg: CfgNode) -> int:
    """Videos of a micro-batch: `TRAIN.MICRO_BATCH`, or a rank's whole share of the batch.

    Raises:
        ConfigError: if ranks and micro-batches do not divide the batch.
    """
    world, batch = distributed.world_size(), cfg.TRAIN.BATCH_SIZE
    if batch % world:
        raise ConfigError(f"TRAIN.BATCH_SIZE {batch} is not a multiple of the {world} processes")
    micro = cfg.TRAIN.MICRO_BATCH or batch // world
    if (batch // world) % micro:
        raise ConfigError(
            f"TRAIN.MICRO_BATCH {micro} does not divide the {batch // world} videos a process has of "
            f"TRAIN.BATCH_SIZE {batch}: set one that does, or 0"
        )
    return micro


def build_frame_sampler(cfg: CfgNode) -> Callable[[int, np.random.Generator], np.ndarray]:
    """Training's choice of frames: (number of frames, rng) to int64 `[T]`."""
    data = cfg.DATA
    if data.SAMPLING == "segment":
        return functools.partial(frame_sampling.random_segment_indices, num_frames=data.NUM_FRAMES)
    return functools.partial(
        frame_sampling.random_dense_indices,
        num_frames=data.NUM_FRAMES,
        sampling_rate=data.SAMPLING_RATE,
    )


def build_view_sampler(cfg: CfgNode) -> Callable[[int, int, int], np.ndarray]:
    """Testing's choice of frames: (number of frames, view, number of views) to int64 `[T]`."""
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


def _lit_crops(
    frames: np.ndarray, num_crops: int, *, enhances: Sequence[Enhance], **settings: Any
) -> Tensor:
    return join_clips(
        [
            eval_crops(frames, num_crops=num_crops, enhance=enhance, **settings)
            for enhance in enhances
        ]
    )


def build_test_clips(
    cfg: CfgNode, enhances: Sequence[Enhance], pairs: Sequence[tuple[int, int]]
) -> MultiViewClips:
    """The clips of the (views, crops) pairs, each lit in every one of the ways, transformed as in testing."""
    make_crops = functools.partial(
        _lit_crops,
        size=cfg.DATA.TEST_CROP_SIZE,
        enhances=enhances,
        mean=cfg.DATA.MEAN,
        std=cfg.DATA.STD,
    )
    return MultiViewClips(build_view_sampler(cfg), make_crops, pairs)


def _night(
    frames: np.ndarray, rng: np.random.Generator, *, cameras: CameraRanges, enhance: Enhance
) -> np.ndarray:
    """As a night camera would have recorded them, and lit as dark training clips are."""
    return enhance(darken(frames, sample_camera(rng, cameras), rng))


def _build_night(cfg: CfgNode) -> Callable[[np.ndarray, np.random.Generator], np.ndarray]:
    return functools.partial(
        _night, cameras=build_cameras(cfg), enhance=build_phase_enhancement(cfg, "TRAIN", True)
    )


def _build_transform(cfg: CfgNode, darken_prob: float) -> TrainTransform:
    """Build the augmentation of `AUG`."""
    aug = cfg.AUG
    try:
        return TrainTransform(
            size=cfg.DATA.TRAIN_CROP_SIZE,
            scale=tuple(aug.SCALE),
            aspect=tuple(aug.ASPECT),
            rand_augment=aug.AA_TYPE,
            flip_prob=aug.FLIP_PROB,
            erase_prob=aug.RE_PROB,
            erase_mode=aug.RE_MODE,
            erase_count=aug.RE_COUNT,
            mean=cfg.DATA.MEAN,
            std=cfg.DATA.STD,
            darken=_build_night(cfg) if darken_prob > 0 else None,
            darken_prob=darken_prob,
        )
    except ConfigError as error:
        raise ConfigError(f"AUG.AA_TYPE: {error}") from None


def build_train_clips(
    cfg: CfgNode, enhance: Enhance, num_copies: int, darken_prob: float = 0.0
) -> TrainClips:
    """Augmented clips of `AUG`."""
    aug = cfg.AUG
    transform = _build_transform(cfg, darken_prob)
    later = aug.DEVICE == "gpu"
    if later and not torch.cuda.is_available() and distributed.is_main():
        logger.warning(
            "AUG.DEVICE is gpu and there is none: the training process augments clips on the CPU, one by one"
        )
    return TrainClips(build_frame_sampler(cfg), enhance, transform, num_copies, later=later)


def _start_worker(_: int) -> None:
    torch.set_num_threads(1)
    os.setpgid(
        0, 0
    )  # a stop signal to the run's process group is for the run, which still needs its workers


def build_loader(
    cfg: CfgNode, dataset: ClipDataset, sampler: Any, collate: Any, persistent: bool
) -> DataLoader[Any]:
    """A loader that leaves all randomness to the dataset."""
    loader = cfg.DATA_LOADER
    workers = loader.NUM_WORKERS
    return DataLoader(
        dataset,
        batch_sampler=sampler,
        collate_fn=collate,
        num_workers=workers,
        prefetch_factor=loader.PREFETCH_FACTOR if workers else None,
        persistent_workers=(persistent or cfg.DATA.CACHE == "ram") and workers > 0,
        pin_memory=loader.PIN_MEMORY and torch.cuda.is_available(),
        timeout=loader.TIMEOUT_SEC if workers else 0,
        worker_init_fn=_start_worker,
        generator=torch.Generator().manual_seed(cfg.RNG_SEED),
    )


def _build_num_steps(cfg: CfgNode, num_labelled: int, num_pseudo: int) -> int:
    """Steps of an epoch by `TRAIN.EPOCH_LENGTH`: a stream counts its full batches, at least one."""
    batch = cfg.TRAIN.BATCH_SIZE
    labelled, pseudo = max(num_labelled // batch, 1), max(num_pseudo // batch, 1)
    if num_pseudo == 0 or cfg.TRAIN.EPOCH_LENGTH == "labelled":
        return labelled
    return pseudo if cfg.TRAIN.EPOCH_LENGTH == "pseudo" else max(labelled, pseudo)


def build_train_streams(cfg: CfgNode) -> list[TrainStream]:
    """The labelled stream and, where there is a `DATA.PSEUDO_CSV`, the pseudo-labelled one."""
    labelled = build_train_items(cfg)
    pseudo = build_pseudo_items(cfg) if cfg.DATA.PSEUDO_CSV else []
    num_steps = _build_num_steps(cfg, len(labelled), len(pseudo))
    streams = [_build_stream(cfg, "labelled", labelled, num_steps, 0, cfg.AUG.DARKEN)]
    if pseudo:
        streams.append(_build_stream(cfg, "pseudo", pseudo, num_steps, 1, 0.0))
    return streams


def _build_stream(
    cfg: CfgNode,
    name: str,
    items: list[VideoItem],
    num_steps: int,
    number: int,
    darken_prob: float,
) -> TrainStream:
    dark = name == "pseudo"
    labels = torch.tensor([item.label for item in items], dtype=torch.int64)
    builder = build_train_clips(
        cfg, build_phase_enhancement(cfg, "TRAIN", dark), cfg.AUG.NUM_SAMPLE, darken_prob
    )
    sampler = MicroBatchSampler(
        len(items),
        num_steps,
        cfg.TRAIN.BATCH_SIZE,
        build_micro_batch(cfg),
        distributed.rank(),
        distributed.world_size(),
        cfg.RNG_SEED,
        number,
        labels.numpy() if dark and cfg.TRAIN.BALANCE_PSEUDO else None,
    )
    soft = [item.probs for item in items if item.probs is not None]
    if 0 < len(soft) < len(items):
        row = next(item.row for item in items if item.probs is None)
        raise UserError(
            f"{cfg.DATA.PSEUDO_CSV}: row {row} has no probabilities, other rows have: give all or none"
        )
    probs = torch.tensor(soft, dtype=torch.float32) if len(soft) == len(items) else None
    collate = TrainCollate(labels, probs, cfg.AUG.NUM_SAMPLE)
    reader = build_video_reader(cfg, denoise_window_of(cfg, "TRAIN", dark))
    dataset = ClipDataset(items, reader, builder, cfg.RNG_SEED, replace_bad=True)
    return TrainStream(
        name, items, sampler, build_loader(cfg, dataset, sampler, collate, persistent=True)
    )


def _build_mismatch_warning(cfg: CfgNode) -> None:
    if cfg.ADAPT.NAME != "none" and distributed.is_main():
        warn_of_mismatch(cfg.ENHANCE.ADAPT, cfg.ENHANCE.TEST)


def build_adapt_loader(cfg: CfgNode) -> tuple[ChunkSampler, DataLoader[Any], list[VideoItem]]:
    """Unlabelled clips of `ADAPT.SPLIT`, one clip a video: its sampler, loader and videos."""
    split = get_split(cfg.ADAPT.SPLIT, cfg.DATA.PATH_PREFIX)
    items = build_items(cfg, cfg.ADAPT.SPLIT)
    _build_mismatch_warning(cfg)
    enhance = build_phase_enhancement(cfg, "ADAPT", split.dark)
    builder: ClipBuilder
    if cfg.ADAPT.TRANSFORM == "eval":
        builder = build_test_clips(cfg, [enhance], [(1, 1)])
    else:
        builder = build_train_clips(cfg, enhance, num_copies=1)
    sampler = ChunkSampler(
        len(items),
        build_micro_batch(cfg),
        distributed.rank(),
        distributed.world_size(),
        limit=cfg.BN.NUM_BATCHES_PRECISE * cfg.TRAIN.BATCH_SIZE or None,
        seed=cfg.RNG_SEED,
    )
    reader = build_video_reader(cfg, denoise_window_of(cfg, "ADAPT", split.dark))
    dataset = ClipDataset(items, reader, builder, cfg.RNG_SEED, replace_bad=True)
    collate = TrainCollate(torch.full((len(items),), -1), None, 1)
    return sampler, build_loader(cfg, dataset, sampler, collate, persistent=False), items


def build_eval_set(
    cfg: CfgNode, split_name: str, phase: str, pairs: Sequence[tuple[int, int]]
) -> EvalSet:
    """A split for evaluation.

    Args:
        cfg: the configuration.
        split_name: the split.
        phase: `VAL` or `TEST`, which `ENHANCE` key lights dark clips.
        pairs: (views, crops) pairs.
    """
    split = get_split(split_name, cfg.DATA.PATH_PREFIX)
    items = build_items(cfg, split_name)
    if phase == "TEST" and split.dark:
        _build_mismatch_warning(cfg)
    enhances = build_phase_enhancements(cfg, phase, split.dark)
    builder = build_test_clips(cfg, enhances, pairs)
    clips_per_video = max(views * crops for views, crops in pairs) * len(enhances)
    chunk = max(cfg.TEST.BATCH_SIZE // clips_per_video, 1)
    sampler = ChunkSampler(len(items), chunk, distributed.rank(), distributed.world_size())
    window = denoise_window_of(cfg, phase, split.dark)
    if split.darkened:
        reader = build_darkened_reader(cfg, items, window)
    else:
        reader = build_video_reader(cfg, window)
    dataset = ClipDataset(items, reader, builder, cfg.RNG_SEED, replace_bad=False)
    loader = build_loader(cfg, dataset, sampler, keep_samples, persistent=False)
    return EvalSet(split, items, loader, list(pairs))


def build_pairs(cfg: CfgNode) -> list[tuple[int, int]]:
    """The (views, crops) pairs of `TEST`; a single number pairs with every entry of the other list."""
    views, crops = list(cfg.TEST.NUM_ENSEMBLE_VIEWS), list(cfg.TEST.NUM_SPATIAL_CROPS)
    longest = max(len(views), len(crops))
    views = views * longest if len(views) == 1 else views
    crops = crops * longest if len(crops) == 1 else crops
    if len(views) != len(crops):
        raise ConfigError(
            f"TEST.NUM_ENSEMBLE_VIEWS {views} and TEST.NUM_SPATIAL_CROPS {crops} do not pair: give lists of one length"
        )
    return list(zip(views, crops, strict=True))
