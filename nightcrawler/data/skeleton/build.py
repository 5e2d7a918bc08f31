"""From configuration to the reader of pose files and to clips of skeletons."""

from __future__ import annotations

import functools
from collections.abc import Sequence

from fvcore.common.config import CfgNode

from nightcrawler.data.dataset import MultiViewClips, TrainClips
from nightcrawler.data.skeleton.augment import PoseTransform, keep
from nightcrawler.data.skeleton.clips import eval_clips, fixed_window, random_window
from nightcrawler.data.skeleton.reader import PoseReader
from nightcrawler.data.skeleton.track import RATE


def build_pose_reader(cfg: CfgNode) -> PoseReader:
    """Build the reader of pose files of `POSE`."""
    return PoseReader(cfg.POSE.LEAST_SECONDS, cfg.DATA.PATH_PREFIX, cfg.POSE.FOLDER)


def clip_length_of(cfg: CfgNode) -> int:
    """Return the number of frames of a track that a clip lasts."""
    return max(round(cfg.POSE.SECONDS * RATE), 1)


def build_pose_train_clips(cfg: CfgNode, num_copies: int) -> TrainClips:
    """Build the augmented clips of `POSE`.

    Args:
        cfg: the configuration.
        num_copies: number of copies of each track.
    """
    section = cfg.POSE
    length = clip_length_of(cfg)
    transform = PoseTransform(
        num_steps=cfg.DATA.NUM_FRAMES,
        length=length,
        disturb_prob=section.DISTURB,
        disturb_estimates_prob=section.DISTURB_ESTIMATES,
        warp=section.WARP,
        least_share=section.CROP,
        stretch=section.STRETCH,
        flip_prob=section.FLIP_PROB,
        joint_drop=section.JOINT_DROP,
    )
    # Of a person who is slowed down, a clip shows less time; of one who is faster, more.
    window = functools.partial(random_window, length=round(length * (1 + section.WARP)))
    return TrainClips(window, keep, transform, num_copies)


def build_pose_test_clips(cfg: CfgNode, pairs: Sequence[tuple[int, int]]) -> MultiViewClips:
    """Build the clips of testing.

    Args:
        cfg: the configuration.
        pairs: (views, crops) pairs, of one crop each.
    """
    length = clip_length_of(cfg)
    window = functools.partial(fixed_window, length=length)
    make_clips = functools.partial(eval_clips, num_steps=cfg.DATA.NUM_FRAMES, length=length)
    return MultiViewClips(window, make_clips, pairs)
