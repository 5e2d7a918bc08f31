"""The dataset: a sample depends on (seed, epoch, video, view) alone; bad videos are replaced or named."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader
from torch.utils.data._utils.pin_memory import pin_memory

from nightcrawler.data.augment.pipeline import TrainTransform
from nightcrawler.data.batch_sampler import MicroBatchSampler, SampleKey
from nightcrawler.data.dataset import (
    ClipDataset,
    MultiViewClips,
    TrainClips,
    TrainCollate,
    clips_to_device,
    keep_samples,
    sample_rng,
)
from nightcrawler.data.frame_sampling import random_segment_indices, segment_indices
from nightcrawler.data.lists import VideoItem
from nightcrawler.data.transforms import eval_crops
from nightcrawler.data.video.decode import Decoded, FileReader
from nightcrawler.data.video.probe import StreamInfo
from nightcrawler.utils.errors import UserError
from tests.conftest import MakeClip
from tests.reading import CountingReader, PromisingReader, read_file

MEAN, STD = (0.45,) * 3, (0.225,) * 3
NUM_FRAMES, SIZE = 4, 16
BROKEN = 2


@pytest.fixture(scope="module")
def items(make_clip: MakeClip, tmp_path_factory: pytest.TempPathFactory) -> list[VideoItem]:
    """Five videos of 9 to 33 frames; the one at `BROKEN` is no video."""
    folder = tmp_path_factory.mktemp("dataset")
    paths = [
        make_clip(folder / f"{number}.mp4", 9 + 6 * number, (40, 30), seed=number)
        for number in range(5)
    ]
    paths[BROKEN].write_text("not a video")
    return [VideoItem(path.name, number % 3, path, number + 1) for number, path in enumerate(paths)]


@pytest.fixture
def good(items: list[VideoItem]) -> list[VideoItem]:
    return [item for number, item in enumerate(items) if number != BROKEN]


def train_clips(num_copies: int = 2, defer: bool = False) -> TrainClips:
    transform = TrainTransform(
        size=SIZE,
        scale=(0.3, 1.0),
        aspect=(0.75, 1.3333),
        rand_augment="rand-m7-n4-mstd0.5-inc1",
        flip_prob=0.5,
        erase_prob=0.5,
        erase_mode="pixel",
        erase_count=1,
        mean=MEAN,
        std=STD,
    )
    sample_frames = functools.partial(random_segment_indices, num_frames=NUM_FRAMES)
    return TrainClips(sample_frames, lambda frames: frames, transform, num_copies, defer)


def sample_view(num_frames: int, view: int, num_views: int) -> np.ndarray:
    return segment_indices(num_frames, NUM_FRAMES, view=view, num_views=num_views)


def make_crops(frames: np.ndarray, num_crops: int) -> Tensor:
    return eval_crops(
        frames, size=SIZE, num_crops=num_crops, enhance=lambda x: x, mean=MEAN, std=STD
    )


def eval_clips(*pairs: tuple[int, int]) -> MultiViewClips:
    return MultiViewClips(sample_view, make_crops, pairs)


def train_set(items: Sequence[VideoItem], seed: int = 7, num_copies: int = 2) -> ClipDataset:
    return ClipDataset(items, FileReader(), train_clips(num_copies), seed, replace_bad=True)


def batches(
    items: list[VideoItem], num_workers: int, epoch: int = 3, defer: bool = False
) -> list[dict[str, Any]]:
    sampler = MicroBatchSampler(len(items), 3, 4, 2, seed=1)
    sampler.set_position(epoch)
    collate = TrainCollate(torch.tensor([item.label for item in items]), None, 2)
    dataset = ClipDataset(items, FileReader(), train_clips(2, defer), 7, replace_bad=True)
    return list(
        DataLoader(dataset, batch_sampler=sampler, collate_fn=collate, num_workers=num_workers)
    )


@pytest.mark.parametrize("num_workers", [0, 2])
def test_clips_that_are_made_by_whoever_takes_the_batch_are_the_same(
    items: list[VideoItem], num_workers: int
) -> None:
    device = torch.device("cpu")
    for one, other in zip(batches(items, 0), batches(items, num_workers, defer=True), strict=True):
        assert [raw.frames.dtype for raw in other["clip"]] == [torch.uint8] * 2
        assert torch.equal(
            clips_to_device(one["clip"], device), clips_to_device(other["clip"], device)
        )
        assert torch.equal(one["index"], other["index"])
        assert one["bad"] == other["bad"]


def test_pinned_clips_are_the_same(items: list[VideoItem], monkeypatch: pytest.MonkeyPatch) -> None:
    """As a loader with `pin_memory` does it: through torch's own function; there is nothing to pin without a GPU."""
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda self, *_: self.clone())
    batch, other = batches(items, 0, defer=True)[0], batches(items, 0, defer=True)[0]
    pinned = pin_memory(batch)
    assert pinned["clip"][0].frames.data_ptr() != batch["clip"][0].frames.data_ptr()
    assert torch.equal(
        clips_to_device(pinned["clip"], torch.device("cpu")),
        clips_to_device(other["clip"], torch.device("cpu")),
    )


def test_workers_do_not_change_the_data(items: list[VideoItem]) -> None:
    torch.manual_seed(0)
    alone = batches(items, 0)
    torch.manual_seed(1)
    shared = batches(items, 2)
    assert len(alone) == len(shared) == 6
    for one, other in zip(alone, shared, strict=True):
        assert torch.equal(one["clip"], other["clip"])
        assert torch.equal(one["index"], other["index"])
        assert torch.equal(one["label"], other["label"])
        assert one["bad"] == other["bad"]
    assert any(batch["bad"] for batch in alone)


def test_a_sample_does_not_depend_on_what_came_before(good: list[VideoItem]) -> None:
    fresh = train_set(good)[SampleKey(1, 5)]["clip"]
    used = train_set(good)
    for index in range(len(good)):
        used[SampleKey(index, 4)]
    assert torch.equal(used[SampleKey(1, 5)]["clip"], fresh)
    # The place in the list does not matter either: the name does.
    assert torch.equal(train_set(good[::-1])[SampleKey(len(good) - 2, 5)]["clip"], fresh)


def test_seed_epoch_video_and_copy_change_the_sample(good: list[VideoItem]) -> None:
    clips = [
        train_set(good, seed)[SampleKey(index, epoch)]["clip"]
        for seed, epoch, index in [(7, 0, 0), (8, 0, 0), (7, 1, 0), (7, 0, 1)]
    ]
    assert all(clip.shape == (2, 3, NUM_FRAMES, SIZE, SIZE) for clip in clips)
    assert all(clip.dtype == torch.float32 for clip in clips)
    assert len({copy.numpy().tobytes() for clip in clips for copy in clip}) == 8


def test_generators_differ_by_each_of_their_parts() -> None:
    parts = [(0, 0, "a"), (1, 0, "a"), (0, 1, "a"), (0, 0, "b"), (0, 0, "aa")]
    assert len({sample_rng(*part).integers(2**62) for part in parts}) == len(parts)
    assert sample_rng(3, 4, "x").integers(2**62) == sample_rng(3, 4, "x").integers(2**62)


def test_a_video_that_comes_again_in_an_epoch_is_drawn_anew(good: list[VideoItem]) -> None:
    keys = [SampleKey(1, 5, occurrence) for occurrence in range(4)]
    clips = [train_set(good)[key]["clip"] for key in keys]
    assert len({copy.numpy().tobytes() for clip in clips for copy in clip}) == 8
    # The first one is as it was before occurrences counted: runs without repeats stay the same.
    assert torch.equal(clips[0], train_set(good)[SampleKey(1, 5)]["clip"])


@pytest.mark.parametrize("num_workers", [0, 2])
def test_an_epoch_that_is_longer_than_the_list_repeats_no_clip(
    good: list[VideoItem], num_workers: int
) -> None:
    """The case of the reading: the loader's own batches, 16 draws of a handful of videos."""
    sampler = MicroBatchSampler(len(good), 4, 4, 2, seed=1)
    collate = TrainCollate(torch.tensor([item.label for item in good]), None, 2)
    loader = DataLoader(
        train_set(good), batch_sampler=sampler, collate_fn=collate, num_workers=num_workers
    )
    clips = [clip.numpy().tobytes() for batch in loader for clip in batch["clip"]]
    assert len(clips) == 32
    assert len(set(clips)) == len(clips)


def test_a_replacement_is_no_copy_of_the_video_in_its_own_right(items: list[VideoItem]) -> None:
    """A broken video that comes three times, and the videos that replace it: all differ."""
    dataset = train_set(items)
    samples = [dataset[SampleKey(BROKEN, 0, occurrence)] for occurrence in range(3)]
    samples += [dataset[SampleKey(index, 0)] for index in range(len(items)) if index != BROKEN]
    clips = [clip.numpy().tobytes() for sample in samples for clip in sample["clip"]]
    assert len(set(clips)) == len(clips)


def test_more_copies_leave_the_first_as_they_are(good: list[VideoItem]) -> None:
    two, three = (train_set(good, num_copies=number)[SampleKey(0, 0)]["clip"] for number in (2, 3))
    assert torch.equal(two, three[:2])


@pytest.mark.parametrize("epoch", range(6))
def test_a_bad_training_video_is_replaced_by_the_seeded_rule(
    items: list[VideoItem], epoch: int
) -> None:
    """Attempt a of the video at i takes integers(N) of a generator seeded with (seed, epoch, i, a)."""
    index, attempts = BROKEN, 0
    while index == BROKEN:
        index = int(np.random.default_rng([7, epoch, BROKEN, attempts]).integers(len(items)))
        attempts += 1
    dataset = train_set(items)
    sample = dataset[SampleKey(BROKEN, epoch)]
    assert (sample["index"], sample["status"]) == (index, "ok")
    assert len(sample["bad"]) == attempts
    assert {(bad.name, bad.where) for bad in sample["bad"]} == {("2.mp4", "open")}
    assert "not a video that can be read" in sample["bad"][0].cause


def test_a_replacement_brings_its_own_label_and_is_counted(items: list[VideoItem]) -> None:
    probs = torch.eye(5)
    collate = TrainCollate(torch.tensor([item.label for item in items]), probs, 2)
    dataset = train_set(items)
    samples = [dataset[SampleKey(BROKEN, 0)], dataset[SampleKey(0, 0)]]
    batch = collate(samples)
    replaced = samples[0]["index"]
    assert replaced != BROKEN
    assert batch["index"].tolist() == [replaced, replaced, 0, 0]
    assert batch["label"].tolist() == [items[index].label for index in batch["index"]]
    assert torch.equal(batch["probs"], probs[batch["index"]])
    assert torch.equal(batch["clip"], torch.cat([sample["clip"] for sample in samples]))
    assert batch["bad"] == samples[0]["bad"]


def test_nothing_but_bad_videos_ends_after_eleven_attempts(items: list[VideoItem]) -> None:
    counting = CountingReader()
    dataset = ClipDataset([items[BROKEN]] * 3, counting, train_clips(), 7, replace_bad=True)
    sample = dataset[SampleKey(0, 0)]
    assert sample["status"].startswith("error: not a video")
    assert len(counting.probed) == len(sample["bad"]) == 11
    batch = TrainCollate(torch.tensor([0, 1, 2]), None, 2)([sample])
    assert batch["clip"] is None
    assert len(batch["bad"]) == 11
    assert batch["label"].tolist() == []


def test_a_bad_test_video_is_not_replaced(items: list[VideoItem]) -> None:
    counting = CountingReader()
    dataset = ClipDataset(items, counting, eval_clips((1, 1)), 7, replace_bad=False)
    sample = dataset[SampleKey(BROKEN, 0)]
    assert sample["index"] == BROKEN
    assert sample["status"].startswith("error: not a video that can be read")
    assert sample["status"].endswith("(open)")
    assert [bad.name for bad in sample["bad"]] == ["2.mp4"]
    assert sample["clip"].numel() == 0
    assert counting.probed == [str(items[BROKEN].path)]
    assert keep_samples([sample]) == [sample]


class OddReader(FileReader):
    """Raises an error for the video `1.mp4`, and a `UserError` for every video."""

    error: Exception = RuntimeError()

    def decode(self, path: str, indices: Sequence[int], info: StreamInfo) -> Decoded:
        if Path(path).name == "1.mp4" or isinstance(self.error, UserError):
            raise self.error
        return super().decode(path, indices, info)


@pytest.mark.parametrize("error", [RuntimeError("odd\nmore"), MemoryError(), OSError(5, "gone")])
def test_an_unexpected_error_costs_one_video(
    items: list[VideoItem], monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    monkeypatch.setattr(OddReader, "error", error)
    place = [item.name for item in items].index("1.mp4")
    test = ClipDataset(items, OddReader(), eval_clips((1, 1)), 7, replace_bad=False)
    sample = test[SampleKey(place, 0)]
    assert sample["status"].startswith(f"error: {type(error).__name__}: ")
    assert "\n" not in sample["status"]
    assert test[SampleKey(0, 0)]["status"] == "ok"
    train = ClipDataset(items, OddReader(), train_clips(), 7, replace_bad=True)
    sample = train[SampleKey(place, 0)]
    assert (sample["status"], sample["bad"][0].name) == ("ok", "1.mp4")


def test_an_error_of_the_options_is_no_error_of_a_video(
    items: list[VideoItem], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(OddReader, "error", UserError("torchcodec: it is not installed"))
    dataset = ClipDataset(items, OddReader(), train_clips(), 7, replace_bad=True)
    with pytest.raises(UserError, match="not installed"):
        dataset[SampleKey(0, 0)]


PAIRS = [(1, 1), (1, 3), (3, 1), (3, 3)]


@pytest.mark.parametrize("index", [0, 4])
def test_all_views_and_crops_come_from_one_decode(items: list[VideoItem], index: int) -> None:
    counting = CountingReader()
    dataset = ClipDataset(items, counting, eval_clips(*PAIRS), 7, replace_bad=False)
    sample = dataset[SampleKey(index, 0)]
    assert counting.paths == counting.probed == [str(items[index].path)]
    whole = read_file(items[index].path, lambda num_frames: range(num_frames)).frames
    assert list(sample["members"]) == PAIRS
    for (num_views, num_crops), members in sample["members"].items():
        views = [whole[sample_view(len(whole), view, num_views)] for view in range(num_views)]
        expected = torch.cat([make_crops(frames, num_crops) for frames in views])
        torch.testing.assert_close(sample["clip"][members], expected, rtol=0, atol=1e-6)
    # One middle view and three others; each with three crops, shared by all pairs that need them.
    distinct = {
        sample_view(len(whole), view, num).tobytes() for num in (1, 3) for view in range(num)
    }
    assert len(sample["clip"]) == 3 * len(distinct)


def test_views_that_coincide_are_made_once(make_clip: MakeClip, tmp_path: Path) -> None:
    path = make_clip(tmp_path / "still.mp4", 1, (40, 30))
    made: list[int] = []

    def counted_crops(frames: np.ndarray, num_crops: int) -> Tensor:
        made.append(num_crops)
        return make_crops(frames, num_crops)

    builder = MultiViewClips(sample_view, counted_crops, [(3, 3)])
    sample = ClipDataset([VideoItem("still.mp4", 0, path, 1)], FileReader(), builder, 7, False)[
        SampleKey(0, 0)
    ]
    assert made == [3]
    assert sample["members"] == {(3, 3): [0, 1, 2] * 3}
    assert len(sample["clip"]) == 3


def test_a_pair_of_few_crops_does_not_make_more(items: list[VideoItem]) -> None:
    sample = ClipDataset(items, FileReader(), eval_clips((3, 1)), 7, replace_bad=False)[
        SampleKey(4, 0)
    ]
    assert sample["members"] == {(3, 1): [0, 1, 2]}
    assert sample["clip"].shape == (3, 3, NUM_FRAMES, SIZE, SIZE)


def test_a_choice_that_is_made_again_uses_the_last_one(items: list[VideoItem]) -> None:
    """A container that promises too many frames asks twice; views of the first answer must be forgotten."""
    plain = ClipDataset(items, FileReader(), eval_clips((3, 3)), 7, replace_bad=False)[
        SampleKey(4, 0)
    ]
    again = ClipDataset(items, PromisingReader(500), eval_clips((3, 3)), 7, replace_bad=False)[
        SampleKey(4, 0)
    ]
    assert torch.equal(plain["clip"], again["clip"])
    assert plain["members"] == again["members"]


def test_frames_of_a_view_keep_their_order_and_repeats(items: list[VideoItem]) -> None:
    seen: list[np.ndarray] = []

    def look(frames: np.ndarray) -> np.ndarray:
        seen.append(frames)
        return frames

    transform = train_clips().transform
    builder = TrainClips(lambda num_frames, rng: np.array([5, 2, 2, 7]), look, transform, 1)
    ClipDataset(items, FileReader(), builder, 7, replace_bad=True)[SampleKey(0, 0)]
    whole = read_file(items[0].path, lambda num_frames: range(num_frames)).frames
    np.testing.assert_array_equal(seen[0], whole[[5, 2, 2, 7]])


def test_the_length_is_the_number_of_videos(items: list[VideoItem]) -> None:
    assert len(train_set(items)) == 5
