"""Memory is known before it is allocated: clips at the door, frames of a view before they are copied."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from fvcore.common.config import CfgNode

from nightcrawler.config.load import load_experiment
from nightcrawler.config.node import get_cfg
from nightcrawler.data.batch_sampler import SampleKey
from nightcrawler.data.build import view_crop_pairs_of
from nightcrawler.data.build_clips import build_test_clips, build_train_clips
from nightcrawler.data.dataset import ClipDataset, MultiViewClips
from nightcrawler.data.lists import VideoItem
from nightcrawler.data.transforms import eval_crops
from nightcrawler.data.video.decode import Decoded, MemoryReader
from nightcrawler.data.video.integrity.limits import Limits, check_clips
from nightcrawler.data.view_frames import ViewFrames
from nightcrawler.utils.errors import UserError, VideoError
from tests.paths import ROOT

CONFIGS = sorted(ROOT.glob("exp_*/*/config.yaml"))


def unchanged(frames: np.ndarray) -> np.ndarray:
    return frames


def cfg_of(**keys: int) -> CfgNode:
    cfg = get_cfg()
    for key, value in keys.items():
        cfg.DATA[key] = value
    return cfg


def test_the_bytes_are_those_of_the_clips() -> None:
    """Three crops of two views of 4 frames of 32x32 pixels: float32, three channels."""
    frames = np.zeros((4, 32, 48, 3), np.uint8)
    crops = eval_crops(frames, size=32, num_crops=3, enhance=unchanged, mean=[0] * 3, std=[1] * 3)
    need = 2 * crops.numel() * crops.element_size()
    # Wide pictures are no matter here: only the clips are.
    check_clips(6, 4, 32, Limits(clip_bytes=need, ratio=1.0))
    with pytest.raises(UserError, match=r"^6 clips of 4 frames of 32x32 pixels of each video take"):
        check_clips(6, 4, 32, Limits(clip_bytes=need - 1, ratio=1.0))


def test_the_widest_picture_counts() -> None:
    """Eight frames are resized at a time, to a short side of 32 and a long one of 16 times it."""
    need = 8 * 32 * 32 * 16 * 3 * 4
    check_clips(1, 32, 32, Limits(clip_bytes=need))
    with pytest.raises(UserError, match="take 1 MiB, over the limit of 1: take fewer views"):
        check_clips(1, 32, 32, Limits(clip_bytes=need - 1))


@pytest.mark.parametrize("config", CONFIGS, ids=lambda path: path.parent.name)
def test_every_experiment_is_far_below(config: Path) -> None:
    cfg = load_experiment(config)
    pairs = view_crop_pairs_of(cfg)
    build_test_clips(cfg, [unchanged], pairs)
    build_train_clips(cfg, unchanged, cfg.AUG.NUM_SAMPLE)
    build_test_clips(cfg, [unchanged] * 3, [*pairs, (10, 3)])


def test_too_many_views_are_refused_before_a_video_is_opened() -> None:
    with pytest.raises(UserError, match="3073 clips of 32 frames of 224x224 pixels"):
        build_test_clips(cfg_of(), [unchanged], [(1, 1), (1024, 1), (1024, 3)])
    with pytest.raises(UserError, match="180 clips"):
        build_test_clips(cfg_of(NUM_FRAMES=64), [unchanged] * 2, [(30, 3)])


def test_too_large_crops_and_too_many_copies_are_refused() -> None:
    with pytest.raises(UserError, match="1 clips of 32 frames of 4096x4096 pixels"):
        build_train_clips(cfg_of(TRAIN_CROP_SIZE=4096), unchanged, 1)
    with pytest.raises(UserError, match="300 clips of 32 frames of 224x224 pixels"):
        build_train_clips(cfg_of(), unchanged, 300)


def test_a_view_that_repeats_a_large_frame() -> None:
    """One decoded frame may come thousands of times in a clip."""
    decoded = Decoded(np.zeros((1, 60, 80, 3), np.uint8), [0], 1, 0.0)
    need = 50 * 60 * 80 * 3
    views = [np.zeros(50, np.int64), np.zeros(2, np.int64)]
    found = ViewFrames("a.mp4", decoded, views, Limits(memory_bytes=need))
    assert [view.shape[0] for view in found] == [50, 2]
    with pytest.raises(
        VideoError, match=r"a\.mp4: a clip of 50 frames takes 0 MiB, over the limit"
    ):
        ViewFrames("a.mp4", decoded, views, Limits(memory_bytes=need - 1))


def test_views_are_made_one_at_a_time() -> None:
    """As many as are wanted of a video need no more memory than one: each is made when it is cropped."""
    made: list[int] = []

    def make_crops(frames: np.ndarray, num_crops: int) -> object:
        made.append(len(frames))
        return eval_crops(
            frames, size=8, num_crops=num_crops, enhance=unchanged, mean=[0] * 3, std=[1] * 3
        )

    def sample_view(num_frames: int, view: int, num_views: int) -> np.ndarray:
        return np.arange(4) + view

    video = [np.full((8, 8, 3), number, np.uint8) for number in range(9)]
    builder = MultiViewClips(sample_view, make_crops, [(6, 1)])
    items = [VideoItem("a", -1, Path("a"), 1)]
    sample = ClipDataset(items, MemoryReader(video), builder, 0, False)[SampleKey(0, 0)]
    assert made == [4] * 6
    assert sample["clip"][5, 0, :, 0, 0].mul(255).round().tolist() == [5, 6, 7, 8]
