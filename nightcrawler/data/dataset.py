"""Datasets of videos: clips for training, adaptation or testing, from one decode of each video."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from nightcrawler.data.batch_sampler import SampleKey
from nightcrawler.data.lists import VideoItem
from nightcrawler.data.transforms import concatenate_clips
from nightcrawler.data.video.decode import Decoded, VideoReader, read_frames
from nightcrawler.data.view_frames import ViewFrames, Views
from nightcrawler.utils.errors import NO_PERSON, VideoError, unexpected_as_video_error

MAX_REPLACEMENTS = 10
STATUS_OK = "ok"

# Frames uint8 `[T, H, W, 3]` and S generators to clips float32 `[S, 3, T, h, w]`. Of pose files:
# joints float32 `[T, V, C]` to clips `[S, 3, T, V]`, see `data.skeleton`.
Transform = Callable[[Tensor, Sequence[np.random.Generator]], Tensor]
# (views, crops) to the positions of its clips in a sample.
Members = dict[tuple[int, int], list[int]]


@dataclass(frozen=True)
class DeferredClips:
    """Clips whose transform is left to the training process, which may have a GPU.

    Attributes:
        frames: uint8 `[T, H, W, 3]`.
        transform: makes clips of the frames.
        rngs: S generators, one for each clip.
    """

    frames: Tensor
    transform: Transform
    rngs: list[np.random.Generator]

    def pin_memory(self) -> DeferredClips:
        """Return the same with frames in pinned memory.

        Loaders call this method by its name.
        """
        return replace(self, frames=self.frames.pin_memory())

    def compute(self, device: torch.device) -> Tensor:
        """Return the clips, float32 `[S, 3, T, h, w]`, computed on a device."""
        return self.transform(self.frames.to(device, non_blocking=True), self.rngs)


def clips_to_device(clips: Tensor | Sequence[DeferredClips], device: torch.device) -> Tensor:
    """Return the clips of a training batch on a device, float32 `[B, 3, T, h, w]`.

    Args:
        clips: clips to be moved, or deferred clips to be computed there.
        device: target device.
    """
    if isinstance(clips, Tensor):
        return clips.to(device, non_blocking=True)
    return concatenate_clips([deferred.compute(device) for deferred in clips])


class ClipBuilder(Protocol):
    """Chooses frames of a video, and makes clips of them."""

    def frames(self, num_frames: int, rng: np.random.Generator) -> list[np.ndarray]:
        """Return the frame numbers of each temporal view, int64 `[T]`.

        Args:
            num_frames: number of frames of the video.
            rng: generator of the draws.
        """
        ...

    def clips(
        self, views: Views, rng: np.random.Generator
    ) -> tuple[Tensor | DeferredClips, Members]:
        """Make clips float32 `[S, 3, T, h, w]` of the views' frames, uint8 `[T, H, W, 3]` each.

        Returns:
            The clips, and for each (views, crops) pair the positions of its clips among the S.
        """
        ...


@dataclass(frozen=True)
class BadVideo:
    """A video that could not be used.

    Attributes:
        name: its name in the list.
        cause: the reason.
        where: the stage that noticed it, see `VideoError`.
        status: its status in results.
    """

    name: str
    cause: str
    where: str
    status: str

    @property
    def is_fault(self) -> bool:
        """True where something is wrong with the file. That nobody is in it is no fault."""
        return self.status != NO_PERSON


def sample_rng(seed: int, epoch: int, name: str, *again: int) -> np.random.Generator:
    """Return the generator of a video's draws, a pure function of the arguments.

    Args:
        seed: seed of all draws.
        epoch: number of the epoch.
        name: name of the video.
        again: numbers that tell further draws of the video in the epoch from the first: the
            occurrence, then, if it replaces another video, the index of that one and the attempt.
    """
    # The length beside the checksum: two names of one checksum and one length are unlikely.
    checksum = zlib.crc32(name.encode("utf-8", "surrogateescape"))
    return np.random.default_rng([seed, epoch, checksum, len(name), *again])


class ClipDataset(Dataset[dict[str, Any]]):
    """Videos of one list.

    A sample is a dictionary with the keys `index` of the video, `clip` float32 `[S, 3, T, h, w]` or
    `DeferredClips`, `members` (see `ClipBuilder.clips`), `status` (`ok`, or the reason that there
    is no clip), `bad`, a list of `BadVideo` that were tried, and `measured`, of `measure`.

    Args:
        items: the videos.
        reader: reads frames of a file.
        builder: chooses frames and makes clips of them.
        seed: seed of all draws.
        replace_bad: take another video, chosen by a seeded rule, for one that cannot be used
            (training). Otherwise `status` holds the reason (validation and test).
        measure: measures the decoded frames of a video. None measures nothing.
    """

    def __init__(
        self,
        items: Sequence[VideoItem],
        reader: VideoReader,
        builder: ClipBuilder,
        seed: int,
        replace_bad: bool,
        measure: Callable[[Decoded], Any] | None = None,
    ) -> None:
        self.items = list(items)
        self.reader = reader
        self.builder = builder
        self.seed = seed
        self.replace_bad = replace_bad
        self.measure = measure

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, key: SampleKey) -> dict[str, Any]:
        index = key.index
        bad: list[BadVideo] = []
        for attempt in range(MAX_REPLACEMENTS + 1):
            try:
                with unexpected_as_video_error(self.items[index].path, "load"):
                    sample = self._load(index, self._rng(index, key, attempt))
                return {**sample, "bad": bad, "status": STATUS_OK}
            except VideoError as error:
                name = self.items[index].name
                bad.append(BadVideo(name, error.cause, error.where, error.status))
            if not self.replace_bad:
                break
            # A rule of its own, that depends on no worker and on nothing it did before.
            seeds = [self.seed, key.epoch, key.index, attempt]
            if key.occurrence:
                seeds.append(key.occurrence)
            index = int(np.random.default_rng(seeds).integers(len(self.items)))
        return self._without_clip(index, bad)

    def _rng(self, index: int, key: SampleKey, attempt: int) -> np.random.Generator:
        """Return the generator of the video at `index`, in place of the one that was asked for."""
        name = self.items[index].name
        if attempt:
            # It also comes in its own right, which must not be the same clip.
            return sample_rng(self.seed, key.epoch, name, key.occurrence, key.index, attempt)
        again = (key.occurrence,) if key.occurrence else ()
        return sample_rng(self.seed, key.epoch, name, *again)

    def _load(self, index: int, rng: np.random.Generator) -> dict[str, Any]:
        path = self.items[index].path
        views: list[np.ndarray] = []

        def choose(num_frames: int) -> list[int]:
            # A second call, with the true number of frames, takes the place of the first.
            views[:] = self.builder.frames(num_frames, rng)
            return np.unique(np.concatenate(views)).tolist()

        decoded = read_frames(self.reader, path, choose)
        clip, members = self.builder.clips(ViewFrames(str(path), decoded, views), rng)
        measured = self.measure(decoded) if self.measure else None
        return {"index": index, "clip": clip, "members": members, "measured": measured}

    def _without_clip(self, index: int, bad: list[BadVideo]) -> dict[str, Any]:
        empty = {"clip": torch.empty(0), "members": {}}
        return {"index": index, **empty, "status": bad[-1].status, "bad": bad}


class TrainClips:
    """Build augmented copies of one temporal sample (repeated augmentation).

    Args:
        sample_frames: (number of frames, rng) to frame numbers int64 `[T]`.
        enhance: enhances frames uint8 `[T, H, W, 3]`.
        transform: augments enhanced frames to clips.
        num_copies: number of copies of each video.
        defer: leave the transform to the training process, see `DeferredClips`.
    """

    def __init__(
        self,
        sample_frames: Callable[[int, np.random.Generator], np.ndarray],
        enhance: Callable[[np.ndarray], np.ndarray],
        transform: Transform,
        num_copies: int,
        defer: bool = False,
    ) -> None:
        self.sample_frames = sample_frames
        self.enhance = enhance
        self.transform = transform
        self.num_copies = num_copies
        self.defer = defer

    def frames(self, num_frames: int, rng: np.random.Generator) -> list[np.ndarray]:
        """Draw the frame numbers of one view."""
        return [np.asarray(self.sample_frames(num_frames, rng))]

    def clips(
        self, views: Views, rng: np.random.Generator
    ) -> tuple[Tensor | DeferredClips, Members]:
        """Make clips `[num_copies, 3, T, h, w]`, each copy with a generator spawned from `rng`."""
        frames = torch.from_numpy(np.ascontiguousarray(self.enhance(views[0])))
        clips = DeferredClips(frames, self.transform, rng.spawn(self.num_copies))
        if self.defer:
            return clips, {}
        return clips.compute(frames.device), {}


class MultiViewClips:
    """Build every clip that any of the (views, crops) pairs needs.

    Clips that pairs share are built once.

    Args:
        sample_view: (number of frames, view, number of views) to frame numbers int64 `[T]`.
        make_crops: (frames uint8 `[T, H, W, 3]`, number of crops C) to float32 `[L * C, 3, T, h,
            w]`: all crops for the first of L enhancements, then for the next. A clip with L
            enhancements counts L times.
        pairs: (views, crops) pairs.
    """

    # Not a test, whatever pytest makes of names with Test.
    __test__ = False

    def __init__(
        self,
        sample_view: Callable[[int, int, int], np.ndarray],
        make_crops: Callable[[np.ndarray, int], Tensor],
        pairs: Sequence[tuple[int, int]],
    ) -> None:
        self.sample_view = sample_view
        self.make_crops = make_crops
        self.pairs = list(pairs)
        # (number of views, view) to the position of its frames among the distinct views.
        self._views: dict[tuple[int, int], int] = {}

    def frames(self, num_frames: int, rng: np.random.Generator) -> list[np.ndarray]:
        """Return the frame numbers of the distinct views of all pairs."""
        position: dict[bytes, int] = {}
        views: list[np.ndarray] = []
        self._views = {}
        for num_views in sorted({pair[0] for pair in self.pairs}):
            for view in range(num_views):
                indices = np.asarray(self.sample_view(num_frames, view, num_views), np.int64)
                if indices.tobytes() not in position:
                    position[indices.tobytes()] = len(views)
                    views.append(indices)
                self._views[num_views, view] = position[indices.tobytes()]
        return views

    def clips(self, views: Views, rng: np.random.Generator) -> tuple[Tensor, Members]:
        """Make all crops of all distinct views with every enhancement.

        The centre crop of three is the single crop.
        """
        blocks: list[Tensor] = []
        positions: dict[tuple[int, int], list[int]] = {}
        num_clips = 0
        for view, crop_counts in self._crop_counts().items():
            # The crops of a smaller number are among those of the largest, see `crop_positions`.
            most = max(crop_counts)
            crops = self.make_crops(views[view], most)
            for num_crops in crop_counts:
                positions[view, num_crops] = _centre_positions(
                    num_clips, len(crops), most, num_crops
                )
            num_clips += len(crops)
            blocks.append(crops)
        return concatenate_clips(blocks), self._members(positions)

    def _crop_counts(self) -> dict[int, set[int]]:
        """Return the numbers of crops that are needed of each distinct view."""
        counts: dict[int, set[int]] = {}
        for num_views, num_crops in self.pairs:
            for view in range(num_views):
                counts.setdefault(self._views[num_views, view], set()).add(num_crops)
        return counts

    def _members(self, positions: Mapping[tuple[int, int], list[int]]) -> Members:
        """Return the positions of the clips of each pair.

        Args:
            positions: positions of the clips of each (distinct view, number of crops).
        """
        members: Members = {}
        for num_views, num_crops in self.pairs:
            members[num_views, num_crops] = []
            for view in range(num_views):
                members[num_views, num_crops] += positions[self._views[num_views, view], num_crops]
        return members


def _centre_positions(first: int, num_clips: int, most: int, num_crops: int) -> list[int]:
    """Return the positions of the `num_crops` centre crops of a view.

    Args:
        first: position of the view's first clip.
        num_clips: number of its clips, `most` for each enhancement.
        most: number of crops that were made.
        num_crops: number of crops that are taken.
    """
    positions: list[int] = []
    for start in range(first, first + num_clips, most):
        centre = start + (most - num_crops) // 2
        positions += range(centre, centre + num_crops)
    return positions


def keep_samples(samples: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Collate for evaluation: keep a list, as videos may have different numbers of clips."""
    return samples


class TrainCollate:
    """Collate for training: one dictionary of a batch.

    Args:
        labels: int64 `[N]` of the stream's videos.
        probs: float32 `[N, K]` of the stream's videos, or `None` for hard labels.
        num_copies: number of clips of each video.
    """

    def __init__(self, labels: Tensor, probs: Tensor | None, num_copies: int) -> None:
        self.labels = labels
        self.probs = probs
        self.num_copies = num_copies

    def __call__(self, samples: list[dict[str, Any]]) -> dict[str, Any]:
        """Join samples, without those that have no clip.

        Returns:
            `clip` (see `clips_to_device`), `None` where no sample has one, `index` and `label`
            int64 `[B]`, `probs` float32 `[B, K]` or `None`, and the `bad` videos.
        """
        # Videos that were replaced count as bad, too.
        bad = [video for sample in samples for video in sample["bad"]]
        samples = [sample for sample in samples if sample["status"] == STATUS_OK]
        index = torch.tensor([sample["index"] for sample in samples], dtype=torch.int64)
        # Copies of a video lie side by side, as in `clip`.
        index = index.repeat_interleave(self.num_copies)
        return {
            "clip": _batch_of([sample["clip"] for sample in samples]),
            "index": index,
            "label": self.labels[index],
            "probs": None if self.probs is None else self.probs[index],
            "bad": bad,
        }


def _batch_of(clips: list[Any]) -> Tensor | list[DeferredClips] | None:
    if not clips:
        return None
    if isinstance(clips[0], DeferredClips):
        return clips
    return concatenate_clips(clips)
