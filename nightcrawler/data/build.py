"""From configuration to loaders for training, adaptation and evaluation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from fvcore.common.config import CfgNode
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from nightcrawler.config.identity import labelled_splits_of
from nightcrawler.data.batch_sampler import (
    ChunkSampler,
    MicroBatchSampler,
    source_groups,
    source_weights,
)
from nightcrawler.data.build_cameras import build_darkened_reader, build_recorder
from nightcrawler.data.build_clips import build_test_clips, build_train_clips
from nightcrawler.data.build_items import (
    build_items,
    build_pseudo_items,
    build_train_items,
    split_of,
)
from nightcrawler.data.build_video import build_video_reader
from nightcrawler.data.dataset import ClipBuilder, ClipDataset, TrainCollate, keep_samples
from nightcrawler.data.lists import VideoItem
from nightcrawler.data.loader_workers import start_worker
from nightcrawler.data.lowlight.enhance.build import (
    build_phase_enhancement,
    build_phase_enhancements,
    denoise_window_of,
    gammas_of,
    warn_of_mismatch,
)
from nightcrawler.data.mixed_dataset import MixedDataset
from nightcrawler.data.skeleton.build import (
    build_pose_reader,
    build_pose_test_clips,
    build_pose_train_clips,
)
from nightcrawler.data.splits import Split
from nightcrawler.data.video.decode import VideoReader
from nightcrawler.utils import distributed
from nightcrawler.utils.env import derived_seed
from nightcrawler.utils.errors import ConfigError, UserError

# Number of each stream, which seeds its order.
LABELLED_STREAM = 0
PSEUDO_STREAM = 1


@dataclass
class TrainStream:
    """One source of training batches.

    Attributes:
        name: `labelled` or `pseudo`.
        items: its videos.
        sampler: order of the micro-batches.
        loader: micro-batches of an epoch, see `TrainCollate`.
    """

    name: str
    items: list[VideoItem]
    sampler: MicroBatchSampler
    loader: DataLoader[Any]


@dataclass
class EvalSet:
    """A split ready for evaluation.

    Attributes:
        split: the split.
        items: its videos in list order.
        loader: this rank's samples.
        pairs: (views, crops) pairs.
    """

    split: Split
    items: list[VideoItem]
    loader: DataLoader[Any]
    pairs: list[tuple[int, int]]


def micro_batch_size_of(cfg: CfgNode) -> int:
    """Return the number of videos of a micro-batch.

    It is `TRAIN.MICRO_BATCH`, or where that is 0 a rank's whole share of the batch.

    Raises:
        ConfigError: if ranks and micro-batches do not divide the batch.
    """
    world = distributed.world_size()
    batch = cfg.TRAIN.BATCH_SIZE
    if batch % world:
        raise ConfigError(f"TRAIN.BATCH_SIZE {batch} is not a multiple of the {world} processes")
    share = batch // world
    micro = cfg.TRAIN.MICRO_BATCH or share
    if share % micro:
        raise ConfigError(
            f"TRAIN.MICRO_BATCH {micro} does not divide the {share} videos a process has of "
            f"TRAIN.BATCH_SIZE {batch}: set one that does, or 0"
        )
    return micro


def build_loader(
    cfg: CfgNode, dataset: Dataset[dict[str, Any]], sampler: Any, collate: Any, persistent: bool
) -> DataLoader[Any]:
    """Build a loader that leaves all randomness to the dataset.

    Args:
        cfg: the configuration.
        dataset: the videos.
        sampler: yields the keys of a batch, see `batch_sampler`.
        collate: joins the samples of a batch.
        persistent: keep workers between epochs. A cache in memory keeps them in any case.
    """
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
        worker_init_fn=start_worker,
        # Loaders draw seeds for workers; without this, from torch's global generator.
        generator=torch.Generator().manual_seed(cfg.RNG_SEED),
    )


def _num_steps_of(cfg: CfgNode, num_labelled: int, num_pseudo: int) -> int:
    """Return the steps of an epoch by `TRAIN.EPOCH_LENGTH`.

    A stream has as many as full batches, at least one.
    """
    labelled = max(num_labelled // cfg.TRAIN.BATCH_SIZE, 1)
    pseudo = max(num_pseudo // cfg.TRAIN.BATCH_SIZE, 1)
    if num_pseudo == 0 or cfg.TRAIN.EPOCH_LENGTH == "labelled":
        return labelled
    if cfg.TRAIN.EPOCH_LENGTH == "pseudo":
        return pseudo
    return max(labelled, pseudo)


def build_train_streams(cfg: CfgNode) -> list[TrainStream]:
    """Build the labelled stream and, where `DATA.PSEUDO_CSV` is set, the pseudo-labelled one.

    The labelled stream mixes `DATA.TRAIN_SPLIT` and `POSE.SOURCES`.
    """
    sources = [build_train_items(cfg, split) for split in labelled_splits_of(cfg)]
    labelled = [item for source in sources for item in source]
    pseudo: list[VideoItem] = []
    if cfg.DATA.PSEUDO_CSV:
        pseudo = build_pseudo_items(cfg)
    num_steps = _num_steps_of(cfg, len(labelled), len(pseudo))
    numbers = np.repeat(np.arange(len(sources)), [len(source) for source in sources])
    streams = [_build_labelled_stream(cfg, labelled, numbers, num_steps)]
    if pseudo:
        streams.append(_build_pseudo_stream(cfg, pseudo, num_steps))
    return streams


def _build_reader(cfg: CfgNode, phase: str, dark: bool) -> VideoReader:
    """Build the reader of videos of a phase, or of their pose files."""
    if cfg.DATA.INPUT == "pose":
        return build_pose_reader(cfg)
    return build_video_reader(cfg, denoise_window_of(cfg, phase, dark))


def _build_augmented(
    cfg: CfgNode, phase: str, dark: bool, num_copies: int, darken_prob: float = 0.0
) -> ClipBuilder:
    """Build the augmented clips of a phase."""
    if cfg.DATA.INPUT == "pose":
        return build_pose_train_clips(cfg, num_copies)
    enhance = build_phase_enhancement(cfg, phase, dark)
    return build_train_clips(cfg, enhance, num_copies, darken_prob)


def _build_plain(
    cfg: CfgNode, phase: str, dark: bool, pairs: Sequence[tuple[int, int]]
) -> ClipBuilder:
    """Build the clips of a phase without augmentation."""
    if cfg.DATA.INPUT == "pose":
        return build_pose_test_clips(cfg, pairs)
    return build_test_clips(cfg, build_phase_enhancements(cfg, phase, dark), pairs)


def _build_labelled_stream(
    cfg: CfgNode, items: list[VideoItem], sources: np.ndarray, num_steps: int
) -> TrainStream:
    balance = None
    weights = None
    if cfg.TRAIN.BALANCE_LABELLED == "draws":
        balance = _labels_of(items).numpy()
        # Of all classes the same, however few clips they have.
        weights = np.ones(len(np.unique(balance)))
    if cfg.POSE.SOURCES:
        labels = _labels_of(items).numpy()
        shares = cfg.POSE.SHARES or [1.0] * (1 + len(cfg.POSE.SOURCES))
        balance = source_groups(sources, labels)
        weights = source_weights(sources, labels, shares)
    sampler = _build_sampler(cfg, len(items), num_steps, LABELLED_STREAM, balance, weights)
    return _build_stream(cfg, "labelled", items, _build_labelled_clips(cfg, items), sampler)


def _build_labelled_clips(cfg: CfgNode, items: list[VideoItem]) -> Dataset[dict[str, Any]]:
    """Build the labelled clips, a share of them darkened by `AUG.DARKEN`."""
    seed = cfg.RNG_SEED
    reader = _build_reader(cfg, "TRAIN", False)
    if cfg.AUG.DARKEN == 0 or build_recorder(cfg).compression is None:
        # Without a codec, the chosen frames of a clip are darkened like any augmentation.
        builder = _build_augmented(cfg, "TRAIN", False, cfg.AUG.NUM_SAMPLE, cfg.AUG.DARKEN)
        return ClipDataset(items, reader, builder, seed, replace_bad=True)
    builder = _build_augmented(cfg, "TRAIN", False, cfg.AUG.NUM_SAMPLE)
    bright = ClipDataset(items, reader, builder, seed, replace_bad=True)
    recorded = build_darkened_reader(cfg, items, denoise_window_of(cfg, "TRAIN", True))
    builder = _build_augmented(cfg, "TRAIN", True, cfg.AUG.NUM_SAMPLE)
    dark = ClipDataset(items, recorded, builder, seed, replace_bad=True)
    return MixedDataset(bright, dark, cfg.AUG.DARKEN)


def _build_pseudo_stream(cfg: CfgNode, items: list[VideoItem], num_steps: int) -> TrainStream:
    builder = _build_augmented(cfg, "TRAIN", True, cfg.AUG.NUM_SAMPLE)
    balance = _labels_of(items).numpy() if cfg.TRAIN.BALANCE_PSEUDO else None
    sampler = _build_sampler(cfg, len(items), num_steps, PSEUDO_STREAM, balance)
    reader = _build_reader(cfg, "TRAIN", True)
    # A seed of its own: a video that is in both lists must not come as the same clip.
    seed = derived_seed(cfg.RNG_SEED, PSEUDO_STREAM)
    dataset = ClipDataset(items, reader, builder, seed, replace_bad=True)
    return _build_stream(cfg, "pseudo", items, dataset, sampler)


def _build_sampler(
    cfg: CfgNode,
    num_items: int,
    num_steps: int,
    stream: int,
    balance: np.ndarray | None,
    weights: np.ndarray | None = None,
) -> MicroBatchSampler:
    return MicroBatchSampler(
        num_items,
        num_steps,
        cfg.TRAIN.BATCH_SIZE,
        micro_batch_size_of(cfg),
        distributed.rank(),
        distributed.world_size(),
        cfg.RNG_SEED,
        stream,
        balance,
        cfg.TRAIN.BALANCE_MAX_REPEATS,
        weights,
    )


def _build_stream(
    cfg: CfgNode,
    name: str,
    items: list[VideoItem],
    dataset: Dataset[dict[str, Any]],
    sampler: MicroBatchSampler,
) -> TrainStream:
    try:
        probs = _probs_of(items)
    except UserError as error:
        raise UserError(f"{cfg.DATA.PSEUDO_CSV}: {error}") from None
    collate = TrainCollate(_labels_of(items), probs, cfg.AUG.NUM_SAMPLE)
    loader = build_loader(cfg, dataset, sampler, collate, persistent=True)
    return TrainStream(name, items, sampler, loader)


def _labels_of(items: Sequence[VideoItem]) -> Tensor:
    """Return the class of each item, int64 `[N]`."""
    return torch.tensor([item.label for item in items], dtype=torch.int64)


def _probs_of(items: Sequence[VideoItem]) -> Tensor | None:
    """Return the probabilities of each item, float32 `[N, K]`, or `None` where no item has them.

    Raises:
        UserError: if some items have them and others do not.
    """
    soft = [item.probs for item in items if item.probs is not None]
    if not soft:
        return None
    if len(soft) < len(items):
        # To take hard labels for all would drop probabilities without a word.
        row = next(item.row for item in items if item.probs is None)
        raise UserError(f"row {row} has no probabilities, other rows have: give all or none")
    return torch.tensor(soft, dtype=torch.float32)


def _build_mismatch_warning(cfg: CfgNode) -> None:
    if cfg.ADAPT.NAME != "none" and distributed.is_main():
        warn_of_mismatch(cfg.ENHANCE.ADAPT, cfg.ENHANCE.TEST)


def build_adapt_loader(cfg: CfgNode) -> tuple[ChunkSampler, DataLoader[Any], list[VideoItem]]:
    """Build the unlabelled clips of `ADAPT.SPLIT`, one of each video.

    Returns:
        The sampler, the loader and the videos.
    """
    split = split_of(cfg, cfg.ADAPT.SPLIT)
    items = build_items(cfg, cfg.ADAPT.SPLIT)
    _build_mismatch_warning(cfg)
    if cfg.ADAPT.TRANSFORM == "eval":
        builder = _build_plain(cfg, "ADAPT", split.dark, [(1, 1)])
    else:
        builder = _build_augmented(cfg, "ADAPT", split.dark, num_copies=1)
    sampler = ChunkSampler(
        len(items),
        micro_batch_size_of(cfg),
        distributed.rank(),
        distributed.world_size(),
        limit=cfg.BN.NUM_BATCHES_PRECISE * cfg.TRAIN.BATCH_SIZE or None,
        seed=cfg.RNG_SEED,
    )
    reader = _build_reader(cfg, "ADAPT", split.dark)
    dataset = ClipDataset(items, reader, builder, cfg.RNG_SEED, replace_bad=True)
    # No label is used, so none is given.
    collate = TrainCollate(torch.full((len(items),), -1), None, 1)
    return sampler, build_loader(cfg, dataset, sampler, collate, persistent=False), items


def build_eval_set(
    cfg: CfgNode,
    split_name: str,
    phase: str,
    pairs: Sequence[tuple[int, int]],
    items: list[VideoItem] | None = None,
) -> EvalSet:
    """Build a split, or some of its videos, for evaluation.

    Args:
        cfg: the configuration.
        split_name: name of the split.
        phase: `VAL` or `TEST`, the key of `ENHANCE` with the enhancement of dark clips.
        pairs: (views, crops) pairs.
        items: videos of the split, all when absent.
    """
    split = split_of(cfg, split_name)
    if items is None:
        items = build_items(cfg, split_name)
    if phase == "TEST" and split.dark:
        _build_mismatch_warning(cfg)
    builder = _build_plain(cfg, phase, split.dark, pairs)
    # Videos of about a batch of clips, so that memory does not grow with views and crops.
    num_enhancements = max(len(gammas_of(cfg, phase, split.dark)), 1)
    clips_per_video = max(views * crops for views, crops in pairs) * num_enhancements
    chunk = max(cfg.TEST.BATCH_SIZE // clips_per_video, 1)
    sampler = ChunkSampler(len(items), chunk, distributed.rank(), distributed.world_size())
    if split.darkened:
        window = denoise_window_of(cfg, phase, split.dark)
        reader = build_darkened_reader(cfg, items, window)
    else:
        reader = _build_reader(cfg, phase, split.dark)
    dataset = ClipDataset(items, reader, builder, cfg.RNG_SEED, replace_bad=False)
    loader = build_loader(cfg, dataset, sampler, keep_samples, persistent=False)
    return EvalSet(split, items, loader, list(pairs))


def view_crop_pairs_of(cfg: CfgNode) -> list[tuple[int, int]]:
    """Return the (views, crops) pairs of `TEST`.

    A single number pairs with every entry of the other list.

    Raises:
        ConfigError: if two longer lists differ in length.
    """
    views = list(cfg.TEST.NUM_ENSEMBLE_VIEWS)
    crops = list(cfg.TEST.NUM_SPATIAL_CROPS)
    longest = max(len(views), len(crops))
    if len(views) == 1:
        views = views * longest
    if len(crops) == 1:
        crops = crops * longest
    if len(views) != len(crops):
        raise ConfigError(
            f"TEST.NUM_ENSEMBLE_VIEWS {views} and TEST.NUM_SPATIAL_CROPS {crops} do not pair: "
            "give lists of one length"
        )
    return list(zip(views, crops, strict=True))
